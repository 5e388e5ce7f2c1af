/* Two threads with a context each build tables and load data at the same time. test_threads.sh runs
   this under thread checkers. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "stb_tables.h"
#include <pthread.h>

enum { N = 300, ROUNDS = 50 };

/* Loads and splits data/mini; 1 when it went well. */
static int64_t load(r2_ctx *ctx) {
    r2_data data;
    r2_split split;
    int64_t user = -1;
    if (r2_data_load(ctx, &data, "data/mini") != R2_OK) return 0;
    if (r2_split_init(ctx, &split, &data, NULL) == R2_OK) {
        user = r2_data_user(&data, data.user_key[data.n_users - 1]);
        r2_split_free(ctx, &split);
    }
    r2_data_free(ctx, &data);
    return user >= 0;
}

static void *build_tables(void *result) {
    r2_ctx ctx = r2_ctx_default();
    char(*letters)[16] = (char(*)[16])r2_alloc(&ctx, N, sizeof *letters);
    int64_t right = 0;
    for (int round = 0; letters && round < ROUNDS; ++round) {
        tables t;
        memset(&t, 0, sizeof t);
        if (tables_fill(&ctx, &t, letters, N) == R2_OK) right += tables_right(&t, N);
        tables_free(&ctx, &t);
    }
    r2_release(&ctx, letters);
    *(int64_t *)result = right + load(&ctx);
    return NULL;
}

int main(void) {
    pthread_t thread[2];
    int64_t right[2] = {0, 0};
    for (int k = 0; k < 2; ++k)
        if (pthread_create(&thread[k], NULL, build_tables, &right[k])) return 2;
    for (int k = 0; k < 2; ++k) pthread_join(thread[k], NULL);
    return right[0] == N * ROUNDS + 1 && right[1] == N * ROUNDS + 1 ? 0 : 1;
}

/* Two threads, each with a context of its own, at the same time: what a thread checker has to look at.
   tests/test_threads.sh builds and runs it. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "stb_tables.h"
#include <pthread.h>

enum { N = 300, ROUNDS = 50 };

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
    *(int64_t *)result = right;
    return NULL;
}

int main(void) {
    pthread_t thread[2];
    int64_t right[2] = {0, 0};
    for (int k = 0; k < 2; ++k)
        if (pthread_create(&thread[k], NULL, build_tables, &right[k])) return 2;
    for (int k = 0; k < 2; ++k) pthread_join(thread[k], NULL);
    return right[0] == N * ROUNDS && right[1] == N * ROUNDS ? 0 : 1;
}

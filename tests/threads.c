/* Two threads with a context each build tables and load data at the same time; a crew of three does
   its jobs. test_threads.sh runs this under thread checkers, which do not know OpenMP's regions: the
   threads are the system's. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "stb_tables.h"
#include <pthread.h>

enum { N = 300, ROUNDS = 50, CREW = 3, JOBS = 2000 };

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
    ctx.n_threads = 1;
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

#if defined(_OPENMP)
static void *serve(void *crew) {
    r2__serve((r2__crew *)crew);
    return NULL;
}

/* Part t of a job adds to the number t, all of them after what came before. */
static void add(const void *number, int64_t t, int64_t parts) {
    int64_t *x = *(int64_t *const *)number;
    for (int64_t k = t; k < 64; k += parts) x[k] += k;
}

/* 1 when every part of every job was done once. */
static int crew_adds_up(void) {
    pthread_t thread[CREW - 1];
    int64_t x[64] = {0}, *number = x;
    int right = 1;
    r2_ctx ctx = r2_ctx_default();
    r2__crew crew;
    memset(&crew, 0, sizeof crew);
    crew.parts = CREW;
    ctx.crew = &crew;
    for (int k = 0; k < CREW - 1; ++k)
        if (pthread_create(&thread[k], NULL, serve, &crew)) exit(2);
    for (int job = 0; job < JOBS; ++job) r2__share_job(&ctx, CREW, add, &number);
    __atomic_store_n(&crew.over, true, __ATOMIC_RELEASE);
    for (int k = 0; k < CREW - 1; ++k) pthread_join(thread[k], NULL);
    for (int k = 0; k < 64; ++k) right = right && x[k] == (int64_t)JOBS * k;
    return right;
}
#else
static int crew_adds_up(void) { return 1; }
#endif

int main(void) {
    pthread_t thread[2];
    int64_t right[2] = {0, 0};
    for (int k = 0; k < 2; ++k)
        if (pthread_create(&thread[k], NULL, build_tables, &right[k])) return 2;
    for (int k = 0; k < 2; ++k) pthread_join(thread[k], NULL);
    return right[0] == N * ROUNDS + 1 && right[1] == N * ROUNDS + 1 && crew_adds_up() ? 0 : 1;
}

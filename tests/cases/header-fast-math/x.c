#define R2REC_IMPLEMENTATION
#include "r2rec.h"
/* 231 ratings are read, NaN is told from a number, and a model has its log-probabilities */
int main(void) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_model m;
    int32_t token[3] = {0, 1, 2}, begin[2] = {0, 3}, row[3] = {0, 1, 2}, next[3] = {1, 2, 3};
    float logp[3], score[2] = {NAN, 1};
    r2_batch b = {1, begin, token, 3, row, next, NULL};
    if (r2_data_load(&ctx, &data, "tests/cases/data/ratings") || data.n_ratings != 231)
        return printf("%s\n", ctx.message), 1;
    if (r2_rank_of(score, 2).better != 1) return printf("NaN is a number\n"), 1;
    if (r2_model_load_dir(&ctx, &m, "tests/cases/data/model", 0, false) ||
        r2_forward(&ctx, &m, &b, logp, NULL))
        return printf("%s\n", ctx.message), 1;
    printf("logp %.6f %.6f %.6f\n", (double)logp[0], (double)logp[1], (double)logp[2]);
    return 0;
}

/* bench_people.c: what it costs in quality that large data ask some people only ([A4], R2_MOST_PEOPLE).
   On data small enough to ask everybody the bounds are set by hand, and logistic regression on the
   words of the prompts (the quickest honest reader of them) ranks the validation cases.

       make build/tests/bench/bench_people && build/tests/bench/bench_people DIR [GROUPS [SEEDS [STRIDE PEOPLE]]]

   asks every STRIDE-th user and at most PEOPLE of an item, or, without these, five pairs in turn. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "examples/common/baselines.h"

static void check(const r2_ctx *ctx, r2_status status) {
    if (!status) return;
    fprintf(stderr, "bench_people: %s\n", ctx->message);
    exit(1);
}

/* Validation HR@1 of a run whose bounds are set. */
static double quality(r2_ctx *ctx, r2_run *run) {
    static const double choice[3] = {30.0, 1.0, 0.0}; /* L2; chosen out of its group */
    const bl_method *method = &bl_methods[BL_N_METHODS - 1];
    const uint64_t n = (uint64_t)(run->valid.n_cases * run->valid.n_per_case);
    float *score = (float *)r2_alloc(ctx, n, sizeof *score);
    double hr1, unused;
    bl_model model;
    check(ctx, score ? r2_run_prepare(ctx, run) : R2_NO_MEMORY);
    check(ctx, bl_fit(ctx, method, run, choice, &model));
    check(ctx, bl_validate(ctx, method, &model, &run->valid, score, &unused));
    hr1 = model.validation;
    bl_free(ctx, &model);
    r2_release(ctx, score);
    return hr1;
}

int main(int argc, char **argv) {
    int64_t bound[][2] = {{1, INT64_MAX}, {4, INT64_MAX}, {4, 128}, {4, 64}, {4, 32}};
    const size_t n_bounds = argc > 5 ? 1 : sizeof bound / sizeof bound[0];
    const int64_t seeds = argc > 3 ? strtol(argv[3], NULL, 10) : 3;
    r2_ctx ctx = r2_ctx_default();
    r2_run run;
    if (argc < 2)
        return fprintf(stderr, "usage: bench_people DIR [GROUPS [SEEDS [STRIDE PEOPLE]]]\n"), 2;
    if (argc > 5) bound[0][0] = strtol(argv[4], NULL, 10), bound[0][1] = strtol(argv[5], NULL, 10);
    for (int64_t seed = 1; seed <= seeds; ++seed) {
        r2_run_config config = r2_run_config_default();
        config.seed = (uint64_t)seed;
        config.n_groups = argc > 2 ? strtol(argv[2], NULL, 10) : 6144;
        check(&ctx, r2_run_init(&ctx, &run, argv[1], &config));
        for (size_t k = 0; k < n_bounds; ++k) {
            run.index.stride = bound[k][0];
            run.index.most_people = bound[k][1];
            printf("seed %lld, every %lldth user, at most %lld people of an item: %.4f\n",
                   (long long)seed, (long long)bound[k][0], (long long)bound[k][1],
                   quality(&ctx, &run));
            fflush(stdout);
        }
        r2_run_free(&ctx, &run);
    }
    return 0;
}

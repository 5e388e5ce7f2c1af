/* A run as one object: the same seed gives the same bytes, whatever the number of threads. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

/* A short journey: what it learns does not matter here. */
static r2_run_config short_journey(uint64_t seed) {
    r2_run_config config = r2_run_config_default();
    config.seed = seed;
    config.n_groups = 800;
    config.model.d_model = 16;
    config.model.d_ff = 40;
    config.model.n_layer = 1;
    config.sft.n_steps = 8;
    config.grpo.n_steps = 1;
    return config;
}

typedef struct journey {
    r2_ctx ctx;
    r2_run run;
    int64_t n_score;
    float *score;
} journey;

static int journey_make(journey *j, uint64_t seed, int n_threads) {
    r2_run_config config = short_journey(seed);
    r2_score_config reasoned = r2_score_config_default();
    reasoned.mode = R2_REASONED;
    memset(j, 0, sizeof *j);
    j->ctx = r2_ctx_default();
    j->ctx.n_threads = n_threads;
    if (!CHECK_STATUS(&j->ctx, r2_run_init(&j->ctx, &j->run, "data/mini", &config), R2_OK) ||
        !CHECK_STATUS(&j->ctx, r2_run_sft(&j->ctx, &j->run), R2_OK) ||
        !CHECK_STATUS(&j->ctx, r2_run_grpo(&j->ctx, &j->run), R2_OK))
        return 0;
    j->run.test.n_cases = 10; /* enough to compare */
    j->n_score = j->run.test.n_cases * j->run.test.n_per_case;
    j->score = (float *)r2_alloc(&j->ctx, (uint64_t)j->n_score, sizeof *j->score);
    return CHECK(j->score != NULL) &&
           CHECK_STATUS(&j->ctx,
                        r2_run_score(&j->ctx, &j->run, &j->run.test, &reasoned, j->score, NULL),
                        R2_OK);
}

static void journey_free(journey *j) {
    r2_release(&j->ctx, j->score);
    r2_run_free(&j->ctx, &j->run);
}

static int same_bytes(const journey *a, const journey *b) {
    const r2_model *ma = &a->run.model, *mb = &b->run.model;
    return ma->n_params == mb->n_params && a->n_score == b->n_score &&
           !memcmp(ma->param, mb->param, (size_t)ma->n_params * sizeof *ma->param) &&
           !memcmp(a->score, b->score, (size_t)a->n_score * sizeof *a->score);
}

TEST(threads_change_no_byte_and_the_seed_does) {
    journey one, two, three, other;
    REQUIRE(journey_make(&one, 7, 1) && journey_make(&two, 7, 2) && journey_make(&three, 7, 3));
    REQUIRE(journey_make(&other, 8, 1));
    CHECK(same_bytes(&one, &two));
    CHECK(same_bytes(&one, &three));
    CHECK(!same_bytes(&one, &other));
    journey_free(&one);
    journey_free(&two);
    journey_free(&three);
    journey_free(&other);
}

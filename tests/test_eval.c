/* Evaluation: ranks and metrics by hand and against all orders of the tied, intervals and tests
   against exact sums, and the model as a scorer against its own log-probabilities. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#include "ratings.h"
#include "tiny.h"

/* ---- ranks and metrics ---- */

TEST(ranks_by_hand) {
    const float score[6] = {3, 5, 3, 1, 3, 4};
    const float holes[5] = {1, NAN, 2, NAN, 1}, lost[4] = {NAN, 0, NAN, -INFINITY};
    const float lowest[3] = {-INFINITY, NAN, -INFINITY};
    r2_rank rank = r2_rank_of(score, 6);
    CHECK(rank.better == 2 && rank.tied == 2);
    rank = r2_rank_of(score, 1);
    CHECK(rank.better == 0 && rank.tied == 0);
    rank = r2_rank_of(holes, 5); /* NaN is below everything */
    CHECK(rank.better == 1 && rank.tied == 1);
    rank = r2_rank_of(lost, 4); /* below -INFINITY, too; it ties with NaN alone */
    CHECK(rank.better == 2 && rank.tied == 1);
    rank = r2_rank_of(lost + 3, 1);
    CHECK(rank.better == 0 && rank.tied == 0);
    rank = r2_rank_of(lowest, 3);
    CHECK(rank.better == 0 && rank.tied == 1);
}

/* Two above, two tied: the positive is 3rd, 4th or 5th. */
TEST(metrics_by_hand) {
    const r2_rank rank = {2, 2}, first = {0, 0}, second = {1, 0};
    CHECK_NEAR(r2_hit_ratio(rank, 3), 1.0 / 3, 1e-12);
    CHECK_NEAR(r2_hit_ratio(rank, 4), 2.0 / 3, 1e-12);
    CHECK(r2_hit_ratio(rank, 2) == 0.0 && r2_hit_ratio(rank, 5) == 1.0);
    CHECK_NEAR(r2_ndcg(rank, 4), (1 / log2(4) + 1 / log2(5)) / 3, 1e-12);
    CHECK_NEAR(r2_reciprocal_rank(rank), (1.0 / 3 + 1.0 / 4 + 1.0 / 5) / 3, 1e-12);
    CHECK(r2_ndcg(first, 1) == 1.0 && r2_reciprocal_rank(first) == 1.0);
    CHECK_NEAR(r2_ndcg(second, 5), 0.63092975357, 1e-9);
    CHECK(r2_ndcg(second, 1) == 0.0);
    CHECK(r2_hit_ratio(second, 0) == 0.0 && r2_ndcg(first, 0) == 0.0);
    CHECK(r2_hit_ratio(rank, 1000) == 1.0); /* k > n */
}

/* What sorting gives, averaged over all orders in which the candidates may stand. */
typedef struct orders {
    double hit, ndcg, reciprocal, n;
} orders;

static void orders_count(const float *score, int n, int k, int *order, int placed, orders *sum) {
    if (placed < n) {
        for (int i = placed; i < n; ++i) {
            int first = order[placed];
            order[placed] = order[i], order[i] = first;
            orders_count(score, n, k, order, placed + 1, sum);
            order[i] = order[placed], order[placed] = first;
        }
        return;
    }
    double rank = 1.0;
    for (int i = 0, before = 1; i < n; ++i) {
        if (order[i] == 0) before = 0;
        else rank += score[order[i]] > score[0] || (score[order[i]] == score[0] && before);
    }
    sum->hit += rank <= k;
    sum->ndcg += rank <= k ? 1.0 / log2(rank + 1.0) : 0.0;
    sum->reciprocal += 1.0 / rank;
    sum->n += 1.0;
}

TEST(ties_against_all_orders) {
    r2_rng rng = r2_rng_make(5, R2_STREAM_USER, 0);
    for (int trial = 0; trial < 60; ++trial) {
        int n = 1 + (int)r2_rng_below(&rng, 6), k = 1 + (int)r2_rng_below(&rng, 7), order[6];
        float score[6];
        orders sum = {0, 0, 0, 0};
        r2_rank rank;
        for (int i = 0; i < n; ++i) score[i] = (float)r2_rng_below(&rng, 3), order[i] = i;
        orders_count(score, n, k, order, 0, &sum);
        rank = r2_rank_of(score, n);
        CHECK_WITHIN(r2_hit_ratio(rank, k), sum.hit / sum.n, 1e-12);
        CHECK_WITHIN(r2_ndcg(rank, k), sum.ndcg / sum.n, 1e-12);
        CHECK_WITHIN(r2_reciprocal_rank(rank), sum.reciprocal / sum.n, 1e-12);
    }
}

TEST(a_constant_scorer_is_chance) {
    static float score[7 * 20];
    r2_ctx ctx = r2_ctx_default();
    r2_eval_config config = r2_eval_config_default();
    r2_metrics m;
    for (int nan = 0; nan < 2; ++nan) {
        for (int k = 0; k < 7 * 20; ++k) score[k] = nan ? NAN : 0.25f;
        REQUIRE_OK(&ctx, r2_evaluate(&ctx, score, 7, 20, &config, &m, NULL));
        CHECK_NEAR(m.hr1, 0.05, 1e-12);
        CHECK_NEAR(m.hr5, 0.25, 1e-12);
        CHECK_NEAR(m.hr10, 0.5, 1e-12);
        CHECK_NEAR(m.auc, 0.5, 1e-12);
        CHECK(m.tie_rate == 1.0);
    }
}

/* Ranks 1, 3 (no tie) and 1 or 2 (tie) among 4. */
TEST(an_evaluation_by_hand) {
    const float score[12] = {9, 1, 2, 3, 5, 6, 7, 1, 4, 4, 0, 0};
    r2_ctx ctx = r2_ctx_default();
    r2_eval_config config = r2_eval_config_default();
    r2_metrics m;
    double hit[3];
    REQUIRE_OK(&ctx, r2_evaluate(&ctx, score, 3, 4, &config, &m, hit));
    CHECK_EQ_INT(m.n_cases, 3);
    CHECK(hit[0] == 1.0 && hit[1] == 0.0 && hit[2] == 0.5);
    CHECK_NEAR(m.hr1, 0.5, 1e-12);
    CHECK_NEAR(m.hr5, 1.0, 1e-12);
    CHECK_NEAR(m.ndcg5, (1.0 + 0.5 + (1.0 + 1.0 / log2(3)) / 2) / 3, 1e-12);
    CHECK_NEAR(m.ndcg10, m.ndcg5, 1e-12);
    CHECK_NEAR(m.mrr, (1.0 + 1.0 / 3 + 0.75) / 3, 1e-12);
    CHECK_NEAR(m.auc, (1.0 + 1.0 / 3 + (1.0 - 0.5 / 3)) / 3, 1e-12);
    CHECK_NEAR(m.tie_rate, 1.0 / 3, 1e-12);
    CHECK(m.hr1_lo <= m.hr1 && m.hr1 <= m.hr1_hi);
    REQUIRE_OK(&ctx, r2_evaluate(&ctx, score, 12, 1, &config, &m, NULL)); /* nobody to beat */
    CHECK(m.hr1 == 1.0 && m.mrr == 1.0 && m.tie_rate == 0.0);
    CHECK_STATUS(&ctx, r2_evaluate(&ctx, score, 0, 4, &config, &m, NULL), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_evaluate(&ctx, score, 3, 0, &config, &m, NULL), R2_ARGUMENT);
    config.n_bootstrap = 0;
    CHECK_STATUS(&ctx, r2_evaluate(&ctx, score, 3, 4, &config, &m, NULL), R2_ARGUMENT);
}

/* ---- intervals and tests ---- */

TEST(bootstrap_of_tiny_cases) {
    const double one[1] = {0.7}, equal[5] = {2, 2, 2, 2, 2}, two[2] = {0, 1};
    r2_ctx ctx = r2_ctx_default();
    double lo, hi;
    REQUIRE_OK(&ctx, r2_bootstrap_mean(&ctx, one, 1, 100, 1, &lo, &hi));
    CHECK(lo == 0.7 && hi == 0.7);
    REQUIRE_OK(&ctx, r2_bootstrap_mean(&ctx, equal, 5, 100, 1, &lo, &hi));
    CHECK(lo == 2.0 && hi == 2.0);
    REQUIRE_OK(&ctx,
               r2_bootstrap_mean(&ctx, two, 2, 1000, 1, &lo, &hi)); /* 0, 1/2, 1: 1/4, 1/2, 1/4 */
    CHECK(lo == 0.0 && hi == 1.0);
    REQUIRE_OK(&ctx, r2_bootstrap_mean(&ctx, two, 2, 1, 1, &lo, &hi));
    CHECK(lo == hi);
    CHECK_STATUS(&ctx, r2_bootstrap_mean(&ctx, two, 0, 10, 1, &lo, &hi), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_bootstrap_mean(&ctx, two, 2, 0, 1, &lo, &hi), R2_ARGUMENT);
}

/* 300 of 1000: the interval is near mean +- 1.96 sqrt(p (1 - p) / n) = 0.3 +- 0.0284. */
TEST(bootstrap_of_many) {
    static double value[1000];
    r2_ctx ctx = r2_ctx_default();
    double lo[5], hi[5];
    static const int threads[5] = {1, 2, 8, 1, 1};
    for (int k = 0; k < 1000; ++k) value[k] = k % 10 < 3;
    for (int t = 0; t < 5; ++t) {
        ctx.n_threads = threads[t];
        REQUIRE_OK(&ctx, r2_bootstrap_mean(&ctx, value, 1000, 2000, t < 4 ? 6 : 7, &lo[t], &hi[t]));
        CHECK_WITHIN(lo[t], 0.3 - 0.0284, 0.004);
        CHECK_WITHIN(hi[t], 0.3 + 0.0284, 0.004);
        if (t < 4) CHECK(lo[t] == lo[0] && hi[t] == hi[0]);
    }
    CHECK(lo[4] != lo[0] || hi[4] != hi[0]);
}

TEST(mcnemar_against_binomial_sums) {
    CHECK_NEAR(r2_mcnemar(5, 0), 0.0625, 1e-9);        /* 2 / 32              */
    CHECK_NEAR(r2_mcnemar(10, 2), 158.0 / 4096, 1e-9); /* 2 (1 + 12 + 66) / 2^12 */
    CHECK(isnan(r2_mcnemar(-1, 3)) && isnan(r2_mcnemar(3, -1)) && isnan(r2_mcnemar(-2, -1)));
    CHECK(r2_mcnemar(0, 0) == 1.0 && r2_mcnemar(1, 0) == 1.0 && r2_mcnemar(4, 4) == 1.0);
    for (int64_t n = 1; n <= 50; ++n)
        for (int64_t a = 0; a <= n; ++a) {
            double binomial = 1.0, tail = 0.0, k = (double)(a < n - a ? a : n - a);
            for (int64_t i = 0; (double)i <= k; ++i) {
                tail += binomial;
                binomial *= (double)(n - i) / (double)(i + 1);
            }
            CHECK_NEAR(r2_mcnemar(a, n - a), fmin(1.0, 2.0 * tail / pow(2.0, (double)n)), 1e-9);
        }
    /* many: the normal approximation with continuity correction, z = 99 / sqrt(1100) */
    CHECK_NEAR(r2_mcnemar(600, 500), erfc(99.0 / sqrt(1100.0) / sqrt(2.0)), 0.01);
    CHECK(r2_mcnemar(600, 500) == r2_mcnemar(500, 600));
}

/* ---- the model as a scorer ---- */

TEST(scores_of_answers_by_hand) {
    const double p[6] = {0.5, 0.1, 0.1, 0.1, 0.1, 0.1};
    float logp[6], half[6];
    for (int k = 0; k < 6; ++k) logp[k] = (float)log(p[k]), half[k] = (float)log(p[k] / 2);
    CHECK_WITHIN(r2_answer_score(logp, R2_SCORE_LOG_ODDS), 0.0, 1e-6);
    CHECK_NEAR(r2_answer_score(logp, R2_SCORE_RATING), 3.0, 1e-6);
    CHECK_NEAR(r2_answer_score(half, R2_SCORE_RATING), 3.0, 1e-6); /* other words do not count */
    logp[0] = (float)log(0.125);
    for (int k = 1; k < 6; ++k) logp[k] = (float)log(0.175);
    CHECK_NEAR(r2_answer_score(logp, R2_SCORE_LOG_ODDS), log(7.0), 1e-5);
    for (int k = 0; k < 6; ++k) logp[k] = -INFINITY;
    CHECK(r2_answer_score(logp, R2_SCORE_LOG_ODDS) == 0.0f);
    logp[0] = 0.0f; /* sure of either: large, but finite */
    CHECK(r2_answer_score(logp, R2_SCORE_LOG_ODDS) < -20.0f &&
          isfinite(r2_answer_score(logp, R2_SCORE_LOG_ODDS)));
    logp[0] = -INFINITY, logp[5] = 0.0f;
    CHECK(r2_answer_score(logp, R2_SCORE_LOG_ODDS) > 20.0f &&
          isfinite(r2_answer_score(logp, R2_SCORE_LOG_ODDS)));
    CHECK_NEAR(r2_answer_score(logp, R2_SCORE_RATING), 5.0, 1e-6);
}

/* One definition of p(0): what ranks in evaluation is what the list loss trains. Answers of mass
   0.4, a quarter of it on 0: log 3 = 1.10, whatever other tokens have. */
TEST(training_and_evaluation_rank_by_the_same_score) {
    static const double p[6] = {0.1, 0.02, 0.03, 0.05, 0.1, 0.1};
    float logp[12], dlogp[12] = {0};
    int32_t level[2] = {0, 6};
    r2__batcher b;
    memset(&b, 0, sizeof b);
    for (int k = 0; k < 6; ++k) logp[k] = (float)log(p[k]), logp[6 + k] = (float)log(k ? 0.1 : 0.5);
    b.logp = logp, b.dlogp = dlogp;
    CHECK_NEAR(r2_answer_score(logp, R2_SCORE_LOG_ODDS), log(3.0), 1e-6);
    CHECK_WITHIN(r2_answer_score(logp + 6, R2_SCORE_LOG_ODDS), 0.0, 1e-6);
    CHECK_NEAR(r2__list_loss(&b, level, 2, 1.0), log(1.0 + 1.0 / 3.0), 1e-6);
}

/* As p(0) goes to 1 the rating expected of those who interact stays what it is. */
TEST(ratings_stay_within_their_range) {
    float logp[6] = {0.0f, -1.0f, -2.0f, -3.0f, -4.0f, -5.0f};
    const float before = r2_answer_score(logp, R2_SCORE_RATING);
    CHECK(before > 1.0f && before < 2.0f);
    for (int k = 1; k < 6; ++k) logp[k] -= 80.0f;
    CHECK_NEAR(r2_answer_score(logp, R2_SCORE_RATING), before, 1e-5);
    for (int k = 1; k < 6; ++k) logp[k] = -INFINITY;
    CHECK(r2_answer_score(logp, R2_SCORE_RATING) == 3.0f); /* nothing to tell levels apart */
    CHECK(r2_answer_score(logp, R2_SCORE_LOG_ODDS) == -27.0f);
}

/* log p of the six answers after `n` tokens and <answer>, by one plain forward pass. */
static r2_status level_logp(r2_ctx *ctx, tiny *t, const int32_t *token, int32_t n, float *logp) {
    int32_t row[512], seq[2], at[R2_N_ANSWERS];
    r2_batch batch;
    memcpy(row, token, (size_t)n * sizeof *row);
    row[n] = t->codec.markup.answer.id[0];
    seq[0] = 0, seq[1] = n + 1;
    for (int k = 0; k < R2_N_ANSWERS; ++k) at[k] = n;
    memset(&batch, 0, sizeof batch);
    batch.n_seq = 1, batch.seq_begin = seq, batch.token = row;
    batch.n_pred = R2_N_ANSWERS, batch.pred_row = at, batch.pred_token = t->codec.markup.level;
    return r2_forward(ctx, &t->model, &batch, logp, NULL);
}

TEST(direct_scores_are_those_of_a_forward_pass) {
    r2_ctx ctx = r2_ctx_default();
    tiny t;
    float *score, logp[R2_N_ANSWERS];
    REQUIRE(tiny_make(&ctx, &t, 20));
    score = (float *)r2_alloc(&ctx, (uint64_t)t.ex.n, sizeof *score);
    for (int kind = 0; kind < 2; ++kind) {
        r2_score_config how = r2_score_config_default();
        r2_trace_metrics trace;
        how.kind = (r2_score_kind)kind;
        REQUIRE_OK(&ctx, r2_score(&ctx, &t.model, &t.ex, &how, score, &trace));
        CHECK(trace.n == 0 && trace.well_formed == 0.0 && trace.verdict[R2_TRACE_OK] == 0);
        for (int64_t e = 0; e < t.ex.n; ++e) {
            int64_t from = t.ex.prompt_begin[e];
            REQUIRE_OK(&ctx, level_logp(&ctx, &t, t.ex.prompt + from,
                                        (int32_t)(t.ex.prompt_begin[e + 1] - from), logp));
            CHECK_WITHIN(score[e], r2_answer_score(logp, how.kind), 1e-3);
        }
    }
    r2_release(&ctx, score);
    tiny_free(&ctx, &t);
}

static r2_status train_well(r2_ctx *ctx, tiny *t) {
    r2_sft_config sft = r2_sft_config_default();
    sft.n_steps = 160;
    sft.groups = 3;
    sft.lr = 1e-2f;
    sft.reasoned_share = 1.0f;
    sft.trace_weight = 2.0f;
    return r2_sft(ctx, &t->model, &t->ex, &sft);
}

/* After training: the score belongs to the answer after the model's own trace, the counts of
   verdicts are those of the texts it writes, and neither depends on the number of threads. */
TEST(reasoned_scores_belong_to_what_was_written) {
    r2_ctx ctx = r2_ctx_default();
    r2_score_config how = r2_score_config_default();
    r2_trace_metrics trace[2];
    float score[2][3 * TINY_GROUP];
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 3));
    REQUIRE_OK(&ctx, train_well(&ctx, &t));
    how.mode = R2_REASONED;
    for (int k = 0; k < 2; ++k) {
        ctx.n_threads = 1 + k;
        REQUIRE_OK(&ctx, r2_score(&ctx, &t.model, &t.ex, &how, score[k], &trace[k]));
    }
    CHECK(!memcmp(score[0], score[1], sizeof score[0]) &&
          !memcmp(&trace[0], &trace[1], sizeof trace[0]));
    CHECK_EQ_INT(trace[0].n, t.ex.n);
    int64_t verdict[R2_N_VERDICTS] = {0}, well_formed = 0;
    r2_reasoning all[3 * TINY_GROUP];
    REQUIRE_OK(&ctx, r2_think(&ctx, &t.model, &t.ex, 0, t.ex.n, all));
    for (int64_t e = 0; e < t.ex.n; ++e) {
        r2_text prompt = {NULL, 0, 0, false};
        r2_tokens tokens = {NULL, 0, {NULL, false}};
        r2_reasoning one;
        r2_check again;
        float logp[R2_N_ANSWERS];
        int best = 0;
        REQUIRE_OK(&ctx, r2_think(&ctx, &t.model, &t.ex, e, 1, &one));
        CHECK_EQ_STR(one.text.data, all[e].text.data);
        r2_prompt_compact(&ctx, &t.codebook, &t.evidence[e], &prompt);
        again = r2_check_trace(&t.codebook, prompt.data, one.text.data);
        CHECK(one.check.verdict == again.verdict && one.check.answer == again.answer);
        verdict[one.check.verdict]++;
        well_formed += one.check.well_formed;
        REQUIRE_OK(&ctx, r2_vocab_encode(&ctx, &t.vocab, prompt.data, prompt.len, &tokens));
        REQUIRE_OK(&ctx, r2_vocab_encode(&ctx, &t.vocab, one.text.data, one.text.len, &tokens));
        if (one.check.answer >= 0) { /* without <answer> A </answer> */
            char added[32];
            REQUIRE_OK(&ctx, level_logp(&ctx, &t, tokens.id, (int32_t)tokens.n - 3, logp));
            CHECK_WITHIN(score[0][e], r2_answer_score(logp, how.kind), 1e-2);
            for (int k = 1; k < R2_N_ANSWERS; ++k) best = logp[k] > logp[best] ? k : best;
            CHECK_EQ_INT(one.check.answer, best);
            snprintf(added, sizeof added, " %d </answer>", best); /* not of the model's writing */
            CHECK_EQ_STR(one.text.data + one.n_written, added);
            CHECK(!strncmp(one.text.data + one.n_written - 8, "<answer>", 8));
        } else if (one.check.verdict == R2_TRACE_NO_ANSWER) {
            CHECK(one.n_written == one.text.len);
        }
        r2_tokens_free(&ctx, &tokens);
        r2_text_free(&ctx, &prompt);
        r2_reasoning_free(&ctx, &one);
        r2_reasoning_free(&ctx, &all[e]);
    }
    CHECK(!memcmp(verdict, trace[0].verdict, sizeof verdict));
    CHECK_WITHIN(trace[0].well_formed, (double)well_formed / (double)t.ex.n, 1e-12);
    CHECK_WITHIN(trace[0].faithful, (double)verdict[R2_TRACE_OK] / (double)t.ex.n, 1e-12);
    CHECK(trace[0].well_formed > 0.5); /* otherwise the rest showed little */
    tiny_free(&ctx, &t);
}

/* An output cut short: its score is that after </think> <answer>, put behind what it wrote. */
TEST(an_unfinished_output_is_asked_all_the_same) {
    r2_ctx ctx = r2_ctx_default();
    r2_score_config how = r2_score_config_default();
    r2_trace_metrics trace;
    float score[2 * TINY_GROUP];
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 2));
    how.mode = R2_REASONED, how.max_new = 2;
    REQUIRE_OK(&ctx, r2_score(&ctx, &t.model, &t.ex, &how, score, &trace));
    CHECK(trace.well_formed == 0.0);
    for (int64_t e = 0; e < t.ex.n; ++e) {
        const r2_markup *mark = &t.codec.markup;
        r2_generate_config two = r2_generate_config_default();
        r2_generation gen;
        int32_t token[512], n = (int32_t)(t.ex.prompt_begin[e + 1] - t.ex.prompt_begin[e]);
        int64_t begin[2] = {0, n + 1};
        float logp[R2_N_ANSWERS];
        memcpy(token, t.ex.prompt + t.ex.prompt_begin[e], (size_t)n * sizeof *token);
        token[n++] = mark->think.id[0];
        two.max_new = 2, two.temperature = 0.0f;
        REQUIRE_OK(&ctx, r2_generate(&ctx, &t.model, &two, 1, begin, token, &gen));
        for (int k = 0; k < 2; ++k) token[n++] = gen.token[k];
        if (gen.token[0] != mark->think_end.id[0] && gen.token[1] != mark->think_end.id[0])
            token[n++] = mark->think_end.id[0];
        REQUIRE_OK(&ctx, level_logp(&ctx, &t, token, n, logp));
        CHECK_WITHIN(score[e], r2_answer_score(logp, how.kind), 1e-3);
        r2_generation_free(&ctx, &gen);
    }
    tiny_free(&ctx, &t);
}

static int only_score(void *hook_data, const char *what, int64_t done, int64_t total) {
    (void)done, (void)total;
    ++*(int *)hook_data;
    return strcmp(what, "score") != 0;
}

/* The generation within has no lines of its own: they would write over the other's. */
TEST(progress_is_that_of_the_whole) {
    r2_ctx ctx = r2_ctx_default();
    r2_score_config how = r2_score_config_default();
    float score[2 * TINY_GROUP];
    int calls = 0;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 2));
    how.mode = R2_REASONED;
    ctx.progress = only_score;
    ctx.hook_data = &calls;
    REQUIRE_OK(&ctx, r2_score(&ctx, &t.model, &t.ex, &how, score, NULL));
    CHECK(calls > 0);
    tiny_free(&ctx, &t);
}

TEST(an_example_that_is_not_there) {
    r2_ctx ctx = r2_ctx_default();
    r2_reasoning own[2];
    r2_examples silent;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 3));
    CHECK_STATUS(&ctx, r2_think(&ctx, &t.model, &t.ex, t.ex.n - 1, 2, own), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_think(&ctx, &t.model, &t.ex, -1, 1, own), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_think(&ctx, &t.model, &t.ex, 0, 0, own), R2_ARGUMENT);
    silent = t.ex, silent.codec.check = NULL; /* nothing to check by */
    CHECK_STATUS(&ctx, r2_think(&ctx, &t.model, &silent, 0, 1, own), R2_ARGUMENT);
    CHECK(strstr(ctx.message, "check = NULL") != NULL);
    tiny_free(&ctx, &t);
}

TEST(scoring_survives_any_failed_allocation) {
    r2_ctx ctx = r2_ctx_default();
    ratings_memory memory = {0, 0};
    r2_status status = R2_NO_MEMORY;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 2));
    for (int64_t room = 0; status != R2_OK && room < 5000; ++room) {
        r2_score_config how = r2_score_config_default();
        r2_eval_config config = r2_eval_config_default();
        r2_trace_metrics trace;
        r2_metrics m;
        r2_ctx poor = ctx;
        r2_model model;
        float score[2 * TINY_GROUP];
        poor.realloc_fn = ratings_realloc;
        poor.hook_data = &memory;
        poor.n_threads = 1;
        how.mode = R2_REASONED;
        how.max_new = 6;
        memory.left = room;
        config.n_bootstrap = 10;
        status = r2_model_init(&poor, &model, &t.model.config, false);
        if (status == R2_OK) status = r2_score(&poor, &model, &t.ex, &how, score, &trace);
        if (status == R2_OK) status = r2_evaluate(&poor, score, 2, TINY_GROUP, &config, &m, NULL);
        r2_model_free(&poor, &model);
        if (!CHECK(status == R2_OK || status == R2_NO_MEMORY) || !CHECK_EQ_INT(memory.alive, 0))
            break;
    }
    CHECK_EQ_INT(status, R2_OK);
    tiny_free(&ctx, &t);
}

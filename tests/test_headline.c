/* The designs of `make headline`: records against a second computation and without what follows in
   time, fitted weights against the slopes of the plain objective, traces against the weights. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"
#include "../examples/experiments/circles.h"
#include "../examples/experiments/headline.h"

enum { GROUP = 5 };

/* data/mini and what the designs are made from; once. */
typedef struct world {
    r2_ctx ctx;
    r2_run run;
    tc_circles circles;
    tc_table table;
    hl_past past;
} world;

static bool make_world(world *w) {
    r2_run_config config = r2_run_config_default();
    const r2_run *run = &w->run;
    config.n_groups = 300;
    w->ctx = r2_ctx_default();
    w->ctx.n_threads = 2;
    return r2_run_init(&w->ctx, &w->run, "data/mini", &config) == R2_OK &&
           tc_init(&w->ctx, &w->circles, &w->run.index, 1) == R2_OK &&
           tc_learn(&w->ctx, &w->table, &w->circles, run->question, run->n_train, GROUP) == R2_OK &&
           hl_past_init(&w->ctx, &w->past, &w->run.index) == R2_OK &&
           (hl_past_want(&w->past, run->question, run->n_train), true) &&
           hl_past_fill(&w->ctx, &w->past, &w->run.codebook) == R2_OK &&
           hl_past_quantiles(&w->ctx, &w->past, run->question, run->n_train, GROUP) == R2_OK;
}

static world *the_world(void) {
    static world w;
    static int state;
    if (state == 0) state = make_world(&w) ? 1 : -1;
    return state > 0 ? &w : NULL;
}

/* Record r of a question, each interaction asked about alone. */
static double plain_record(world *w, const r2_question *q, int r) {
    const r2_graph *g = &w->run.graph;
    double sum = 0.0, total = 0.0;
    for (int32_t age = 0; age < HL_LOOK_BACK && age < q->n_history; ++age) {
        r2_question then = {q->user, 0, q->n_history - 1 - age, -1, 0, 0, 0, 0};
        r2_evidence evidence;
        int64_t e = w->run.index.by_time[g->user_begin[q->user] + then.n_history];
        then.item = g->user_item[e];
        if (then.item == q->item) continue;
        if (!CHECK_STATUS(&w->ctx,
                          r2_evidence_compute(&w->ctx, &w->run.index, &then, 1,
                                              &w->run.config.chains, &evidence),
                          R2_OK))
            return NAN;
        sum += exp2(-age / 3.0) * r2_codebook_bucket(&w->run.codebook, hl_record_field[r],
                                                     evidence.value[hl_record_field[r]]);
        total += exp2(-age / 3.0);
    }
    return total > 0.0 ? sum / total : 0.0;
}

TEST(records_are_means_over_the_past) {
    world *w = the_world();
    int64_t some = 0;
    REQUIRE(w);
    for (int64_t q = 0; q < w->run.n_train; q += 5 * 37 + 1) {
        double record[HL_RECORDS];
        hl_record(&w->past, &w->run.question[q], record);
        for (int r = 0; r < HL_RECORDS; ++r) {
            CHECK_WITHIN(record[r], plain_record(w, &w->run.question[q], r), 1e-9);
            some += record[r] > 0.0;
        }
    }
    CHECK(some > 0);
}

/* The records of q where its own edge and all that follows in its user's history is gone. */
static void check_leak(world *w, const r2_question *q) {
    const r2_graph *g = &w->run.graph;
    uint8_t *role = (uint8_t *)malloc((size_t)w->run.data.n_ratings);
    double before[HL_RECORDS], after[HL_RECORDS];
    r2_graph graph;
    r2_index index;
    hl_past past;
    memcpy(role, w->run.split.role, (size_t)w->run.data.n_ratings);
    for (int64_t e = g->user_begin[q->user] + q->n_history; e < g->user_begin[q->user + 1]; ++e)
        role[r2_data_find(&w->run.data, q->user, g->user_item[w->run.index.by_time[e]])] =
            R2_UNUSED;
    REQUIRE_OK(&w->ctx, r2_graph_init(&w->ctx, &graph, &w->run.data, role));
    CHECK(graph.n_edges < g->n_edges);
    REQUIRE_OK(&w->ctx, r2_index_init(&w->ctx, &index, &graph, &w->run.data, 4.0f,
                                      w->run.split.config.seed));
    REQUIRE_OK(&w->ctx, hl_past_init(&w->ctx, &past, &index));
    hl_past_want(&past, q, 1);
    REQUIRE_OK(&w->ctx, hl_past_fill(&w->ctx, &past, &w->run.codebook));
    hl_record(&w->past, q, before);
    hl_record(&past, q, after);
    for (int r = 0; r < HL_RECORDS; ++r)
        if (hl_record_field[r] != R2_FIELD_meanr) CHECK_WITHIN(after[r], before[r], 1e-12);
        else CHECK_WITHIN(after[r], before[r], 1.01); /* shrunk to everybody's mean, which moves */
    hl_past_free(&w->ctx, &past);
    r2_index_free(&w->ctx, &index);
    r2_graph_free(&w->ctx, &graph);
    free(role);
}

TEST(records_know_nothing_of_what_follows) {
    world *w = the_world();
    REQUIRE(w);
    for (int64_t q = 0; q < w->run.n_train; q += GROUP * 15) check_leak(w, &w->run.question[q]);
}

static uint8_t *all_slots(world *w, const hl_design *d) {
    hl_source from = {&w->run.codebook, &w->circles, &w->table, &w->past};
    uint8_t *slot = (uint8_t *)malloc((size_t)w->run.n_train * HL_MAX_SLOTS);
    for (int64_t q = 0; q < w->run.n_train; ++q)
        hl_slots(d, &from, &w->run.question[q], &w->run.evidence[q], slot + q * d->n_slots);
    return slot;
}

/* Weight of one thought, from the words alone. */
static double plain_thought(const hl_design *d, const double *w, const uint8_t *slot, int t) {
    double sum = 0.0;
    for (int k = t * d->width; k < (t + 1) * d->width; ++k)
        sum += w[d->family[k] * HL_BUCKETS + slot[k]];
    if (t < d->n_joins) {
        int table = d->family[t * 2] == HL_A ? 0 : 1 + d->family[t * 2] - HL_FIRST_RECORD;
        sum += w[HL_N_FAMILIES * HL_BUCKETS + table * HL_BUCKETS * HL_BUCKETS +
                 slot[2 * t] * HL_BUCKETS + slot[2 * t + 1]];
    }
    return sum;
}

static double plain_score(const hl_design *d, const double *w, const uint8_t *slot) {
    double sum = 0.0;
    for (int t = 0; t < d->n_slots / d->width; ++t) sum += plain_thought(d, w, slot, t);
    return sum;
}

/* The objective of hl_fit, written out. */
static double plain_loss(const hl_design *d, const double *w, const uint8_t *slot, int64_t n) {
    double loss = 0.0;
    for (int k = 0; k < HL_N_WEIGHTS; ++k) loss += w[k] * w[k]; /* ridge 2, halved */
    for (int64_t q = 0; q < n; q += GROUP) {
        double sum = 0.0, first = 0.0;
        for (int e = 0; e < GROUP; ++e) {
            double s = plain_score(d, w, slot + (q + e) * d->n_slots);
            if (e == 0) first = s;
            sum += exp(s);
        }
        loss += log(sum) - first;
    }
    return loss;
}

/* Largest slope of the objective at w over every 7th weight. */
static double steepest(const hl_design *d, double *w, const uint8_t *slot, int64_t n) {
    double most = 0.0, h = 1e-4;
    for (int k = 3; k < HL_N_WEIGHTS; k += 7) {
        double old = w[k], up, down;
        w[k] = old + h;
        up = plain_loss(d, w, slot, n);
        w[k] = old - h;
        down = plain_loss(d, w, slot, n);
        w[k] = old;
        most = fmax(most, fabs(up - down) / (2.0 * h));
    }
    return most;
}

TEST(fitted_weights_have_no_slope_left) {
    world *w = the_world();
    REQUIRE(w);
    for (int kind = HL_SUMS; kind < HL_FACTS; ++kind) {
        hl_design d = hl_design_make((hl_kind)kind);
        uint8_t *slot = all_slots(w, &d);
        static double fitted[HL_N_WEIGHTS], zero[HL_N_WEIGHTS];
        memset(zero, 0, sizeof zero);
        REQUIRE_OK(&w->ctx, hl_fit(&w->ctx, &d, slot, w->run.n_train, GROUP, true, fitted));
        CHECK(steepest(&d, fitted, slot, w->run.n_train) <
              0.01 * steepest(&d, zero, slot, w->run.n_train));
        CHECK_NEAR(hl_logit(&d, fitted, slot, true), plain_score(&d, fitted, slot), 1e-9);
        free(slot);
    }
}

/* Reads a trace back: weights that are those of the thoughts, totals that add up. */
static void check_trace(world *w, const hl_design *d, const double *fitted, const uint8_t *slot,
                        const int32_t *trace, r2_vocab *vocab) {
    int total = 0;
    for (int t = 0; t < hl_thoughts(d); ++t) {
        const int32_t *step = trace + 1 + t * d->width + (d->width - 2);
        int weight = atoi(vocab->word[step[0]]);
        double exact = plain_thought(d, fitted, slot, t) * HL_SCALE;
        if (d->kind != HL_FACTS)
            CHECK(fabs(weight - fmax(-HL_MAX_WEIGHT, fmin(exact, HL_MAX_WEIGHT))) <= 0.5 + 1e-9);
        else
            for (int k = 3 * t; k < 3 * t + 3; ++k)
                CHECK(abs(weight) >= abs(w->run.codebook.weight[d->family[k]][slot[k]]));
        total += weight;
        total = total > HL_MAX_TOTAL ? HL_MAX_TOTAL : total < -HL_MAX_TOTAL ? -HL_MAX_TOTAL : total;
        CHECK_EQ_INT(atoi(vocab->word[step[1]] + 1), total);
    }
}

TEST(traces_say_what_the_weights_say) {
    world *w = the_world();
    REQUIRE(w);
    for (int kind = 0; kind < HL_N_DESIGNS; ++kind) {
        hl_design d = hl_design_make((hl_kind)kind);
        uint8_t *slot = all_slots(w, &d);
        static double fitted[HL_N_WEIGHTS];
        hl_words words;
        r2_examples ex;
        REQUIRE_OK(&w->ctx, hl_fit(&w->ctx, &d, slot, w->run.n_train, GROUP, true, fitted));
        REQUIRE_OK(&w->ctx, hl_words_init(&w->ctx, &words, &d, &w->run.codebook));
        REQUIRE_OK(&w->ctx, hl_examples(&w->ctx, &ex, &d, &w->run.codebook, &words, fitted, slot,
                                        w->run.question, w->run.n_train, GROUP));
        CHECK_EQ_INT(ex.longest, 2 * (1 + d.n_slots) + 1 + 3);
        for (int64_t e = 0; e < ex.n; e += 11) {
            const int32_t *trace = ex.trace + ex.trace_begin[e];
            CHECK_EQ_INT(trace[0], words.codec.markup.think.id[0]);
            CHECK_EQ_INT(trace[d.n_slots + 1], words.codec.markup.think_end.id[0]);
            check_trace(w, &d, fitted, slot + e * d.n_slots, trace, &words.vocab);
        }
        r2_examples_free(&w->ctx, &ex);
        r2_vocab_free(&w->ctx, &words.vocab);
        free(slot);
    }
}

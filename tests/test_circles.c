/* The joined evidence of `make think`: factors and circles against plain definitions, no word of a
   prompt that knows the edge it asks for, traces that say what the table says. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"
#include "../examples/experiments/circles.h"

/* data/mini, its circles and its table; made once. */
typedef struct world {
    r2_ctx ctx;
    r2_run run;
    tc_circles circles;
    tc_table table;
    tc_words words;
} world;

static world *the_world(void) {
    static world w;
    static int state;
    r2_run_config config = r2_run_config_default();
    config.n_groups = 400;
    if (state == 0) {
        w.ctx = r2_ctx_default();
        w.ctx.n_threads = 2;
        state = CHECK_STATUS(&w.ctx, r2_run_init(&w.ctx, &w.run, "data/mini", &config), R2_OK) &&
                        CHECK_STATUS(&w.ctx, tc_init(&w.ctx, &w.circles, &w.run.index, 1), R2_OK) &&
                        CHECK_STATUS(&w.ctx,
                                     tc_learn(&w.ctx, &w.table, &w.circles, w.run.question,
                                              w.run.n_train, 5),
                                     R2_OK) &&
                        CHECK_STATUS(&w.ctx, tc_words_init(&w.ctx, &w.words), R2_OK)
                    ? 1
                    : -1;
    }
    return state > 0 ? &w : NULL;
}

TEST(factors_are_the_leading_ones) {
    world *w = the_world();
    REQUIRE(w);
    const r2_graph *g = &w->run.graph;
    int64_t n_i = g->n_items;
    double *q = (double *)calloc((size_t)n_i, TC_FACTORS * sizeof *q);
    double *p = (double *)calloc((size_t)g->n_users, TC_FACTORS * sizeof *p);
    double *back = (double *)calloc((size_t)n_i, TC_FACTORS * sizeof *back), within = 0.0,
           whole = 0.0;
    tc_factors(&w->ctx, g, 1, q, p);
    for (int f = 0; f < TC_FACTORS; ++f)
        for (int h = 0; h <= f; ++h) {
            double dot = 0.0;
            for (int64_t i = 0; i < n_i; ++i) dot += q[i * TC_FACTORS + f] * q[i * TC_FACTORS + h];
            CHECK_WITHIN(dot, f == h, 1e-9);
        }
    /* A^T A maps the leading subspace into itself: hardly anything of A^T A Q stands out of it */
    tc_forward(&w->ctx, g, q, p);
    tc_back(&w->ctx, g, p, back);
    for (int f = 0; f < 4; ++f) {
        double inside = 0.0;
        for (int64_t i = 0; i < n_i; ++i)
            whole += back[i * TC_FACTORS + f] * back[i * TC_FACTORS + f];
        for (int h = 0; h < TC_FACTORS; ++h) {
            inside = 0.0;
            for (int64_t i = 0; i < n_i; ++i)
                inside += q[i * TC_FACTORS + h] * back[i * TC_FACTORS + f];
            within += inside * inside;
        }
    }
    CHECK(within > 0.99 * whole && within < (1.0 + 1e-9) * whole);
    free(q);
    free(p);
    free(back);
}

TEST(everyone_is_in_one_circle) {
    world *w = the_world();
    REQUIRE(w);
    const r2_graph *g = &w->run.graph;
    int64_t users = 0, edges = 0, used = 0;
    for (int k = 0; k < TC_CIRCLES; ++k)
        users += w->circles.size[k], used += w->circles.size[k] > 0;
    for (int64_t k = 0; k < g->n_items * TC_CIRCLES; ++k) edges += w->circles.count[k];
    CHECK_EQ_INT(users, g->n_users);
    CHECK_EQ_INT(edges, g->n_edges);
    CHECK(used > TC_CIRCLES / 2);
}

TEST(circles_do_not_depend_on_threads) {
    world *w = the_world();
    tc_circles again;
    REQUIRE(w);
    w->ctx.n_threads = 1;
    REQUIRE_OK(&w->ctx, tc_init(&w->ctx, &again, &w->run.index, 1));
    w->ctx.n_threads = 2;
    for (int64_t u = 0; u < w->run.graph.n_users; ++u) CHECK_EQ_INT(again.of[u], w->circles.of[u]);
    tc_free(&w->ctx, &again);
}

/* The formula once more, from the graph alone: every user asked, nothing counted beforehand. */
static double measured_b(const world *w, uint32_t u0, uint32_t item, int32_t circle) {
    const r2_graph *g = &w->run.graph;
    double in = 0.0, all = 0.0, size = 0.0;
    for (uint32_t v = 0; v < (uint32_t)g->n_users; ++v) {
        bool rated = r2_graph_find(g, v, item) >= 0;
        if (v == u0) continue;
        size += w->circles.of[v] == circle;
        all += rated;
        in += rated && w->circles.of[v] == circle;
    }
    return size > 0.0 ? in / size / ((all + 2.0) / ((double)g->n_users - 1.0)) : 0.0;
}

TEST(strengths_leave_the_user_out) {
    world *w = the_world();
    REQUIRE(w);
    for (int64_t q = 0; q < w->run.n_train; q += 97) {
        tc_strength s = tc_measure(&w->circles, &w->run.question[q]);
        for (int k = 0; k < TC_CIRCLES; ++k)
            CHECK_NEAR(s.b[k], measured_b(w, w->run.question[q].user, w->run.question[q].item, k),
                       1e-12);
    }
}

/* A copy of the data without one row, or with another rating there; roles go along. */
static void change(const r2_data *from, int64_t row, bool drop, r2_data *to, uint8_t *role) {
    *to = *from;
    to->user_begin = (int64_t *)malloc(((size_t)from->n_users + 1) * sizeof(int64_t));
    to->item = (uint32_t *)malloc((size_t)from->n_ratings * sizeof(uint32_t));
    to->rating = (float *)malloc((size_t)from->n_ratings * sizeof(float));
    to->time = (int32_t *)malloc((size_t)from->n_ratings * sizeof(int32_t));
    to->n_ratings = 0;
    for (int64_t u = 0; u < from->n_users; ++u) {
        to->user_begin[u] = to->n_ratings;
        for (int64_t k = from->user_begin[u]; k < from->user_begin[u + 1]; ++k) {
            if (k == row && drop) continue;
            to->item[to->n_ratings] = from->item[k];
            to->rating[to->n_ratings] = k == row ? 5.5f - from->rating[k] : from->rating[k];
            to->time[to->n_ratings] = from->time[k];
            role[to->n_ratings++] = role[k];
        }
    }
    to->user_begin[from->n_users] = to->n_ratings;
}

/* Builds the prompt of question q where the edge it asks for is gone, or rated otherwise. */
static void check_leak(world *w, r2_question q, bool drop) {
    r2_data data;
    r2_graph graph;
    r2_index index;
    tc_circles circles = w->circles;
    size_t n = (size_t)w->run.data.n_ratings, n_counts = (size_t)w->run.data.n_items * TC_CIRCLES;
    uint8_t *role = (uint8_t *)malloc(n);
    int32_t before[TC_PROMPT], after[TC_PROMPT];
    int64_t row = r2_data_find(&w->run.data, q.user, q.item);
    REQUIRE(row >= 0);
    memcpy(role, w->run.split.role, n);
    change(&w->run.data, row, drop, &data, role);
    REQUIRE_OK(&w->ctx, r2_graph_init(&w->ctx, &graph, &data, role));
    CHECK_EQ_INT(graph.n_edges, w->run.graph.n_edges - drop);
    REQUIRE_OK(&w->ctx,
               r2_index_init(&w->ctx, &index, &graph, &data, 4.0f, w->run.split.config.seed));
    circles.index = &index;
    circles.count = (int32_t *)malloc(n_counts * sizeof(int32_t));
    tc_count(&circles);
    tc_prompt(&w->circles, &w->table, &w->words, &q, before);
    tc_prompt(&circles, &w->table, &w->words, &q, after);
    for (int t = 0; t < TC_PROMPT; ++t) CHECK_EQ_INT(after[t], before[t]);
    free(circles.count);
    r2_index_free(&w->ctx, &index);
    r2_graph_free(&w->ctx, &graph);
    free(data.user_begin);
    free(data.item);
    free(data.rating);
    free(data.time);
    free(role);
}

TEST(the_edge_asked_for_is_invisible) {
    world *w = the_world();
    REQUIRE(w);
    for (int64_t q = 0; q < w->run.n_train; q += 5 * 40) {
        r2_question asked = w->run.question[q];
        check_leak(w, asked, false);
        check_leak(w, asked, true);
        /* also where the edge lies within the history: without it that is one shorter */
        asked.n_history++;
        check_leak(w, asked, false);
    }
}

TEST(history_is_a_prefix) {
    world *w = the_world();
    REQUIRE(w);
    int64_t changed = 0;
    for (int64_t q = 0; q < w->run.n_train; q += 50) {
        r2_question asked = w->run.question[q];
        tc_strength now = tc_measure(&w->circles, &asked), earlier;
        asked.n_history = 1;
        earlier = tc_measure(&w->circles, &asked);
        CHECK(!memcmp(now.b, earlier.b, sizeof now.b));
        changed += memcmp(now.a, earlier.a, sizeof now.a) != 0;
    }
    CHECK(changed > 0);
}

TEST(what_people_are_shown_is_there) {
    world *w = the_world();
    REQUIRE(w);
    for (int64_t q = 0; q < w->run.n_train; q += 200)
        for (int k = 0; k < TC_CIRCLES; ++k) {
            const r2_question *asked = &w->run.question[q];
            tc_strength s = tc_measure(&w->circles, asked);
            uint32_t link = tc_link(&w->circles, asked, k);
            CHECK_EQ_INT(link == R2_NO_ITEM, !(s.a[k] > 0.0));
            CHECK(link == R2_NO_ITEM || r2_graph_find(&w->run.graph, asked->user, link) >= 0);
        }
    for (int k = 0; k < TC_CIRCLES; ++k)
        if (w->circles.size[k])
            CHECK(w->circles.count[(int64_t)tc_favourite(&w->circles, k) * TC_CIRCLES + k] > 0);
}

TEST(buckets_are_quantiles) {
    double value[14] = {0, 0, 7, 6, 5, 4, 3, 2, 1, 8, 9, 10, 11, 12}, edge[TC_BUCKETS];
    int32_t n[TC_BUCKETS] = {0};
    tc_quantiles(value, 14, edge);
    for (int k = 0; k < 14; ++k) n[tc_bucket(edge, value[k])]++;
    CHECK_EQ_INT(n[0], 2);
    for (int b = 1; b < TC_BUCKETS; ++b) CHECK(n[b] == 1 || n[b] == 2);
    CHECK_EQ_INT(tc_bucket(edge, NAN), 0);
}

TEST(weights_are_counted_log_odds) {
    tc_table table;
    tc_strength s[4];
    memset(s, 0, sizeof s);
    memset(&table, 0, sizeof table);
    for (int k = 0; k < TC_BUCKETS; ++k) table.edge_a[k] = table.edge_b[k] = k;
    /* two groups of one observed and one sampled: the observed ones have a = 3, b = 2 throughout */
    for (int k = 0; k < TC_CIRCLES; ++k) s[0].a[k] = s[2].a[k] = 2.5, s[0].b[k] = s[2].b[k] = 1.5;
    tc_weigh(&table, s, 4, 2);
    CHECK_EQ_INT(table.weight[3][2], 7); /* 2 log 33 = 7.0 */
    CHECK_EQ_INT(table.weight[0][0], -7);
    CHECK_EQ_INT(table.weight[5][5], 0); /* never met */
}

TEST(traces_say_what_the_table_says) {
    world *w = the_world();
    REQUIRE(w);
    r2_examples ex, last;
    REQUIRE_OK(&w->ctx, tc_examples(&w->ctx, &ex, &w->circles, &w->table, &w->words,
                                    w->run.question, w->run.n_train, 5, TC_STEPS));
    REQUIRE_OK(&w->ctx, tc_examples(&w->ctx, &last, &w->circles, &w->table, &w->words,
                                    w->run.question, w->run.n_train, 5, TC_TOTAL));
    for (int64_t e = 0; e < ex.n; e += 31) {
        r2_text prompt = {NULL, 0, 0, false}, trace = {NULL, 0, 0, false};
        const char *at_p, *at_t;
        int total = 0;
        REQUIRE_OK(&w->ctx, r2_vocab_decode(&w->ctx, &w->words.vocab,
                                            ex.prompt + ex.prompt_begin[e], TC_PROMPT, &prompt));
        REQUIRE_OK(&w->ctx, r2_vocab_decode(&w->ctx, &w->words.vocab, ex.trace + ex.trace_begin[e],
                                            TC_STEPS, &trace));
        at_p = prompt.data + strlen("<q>");
        at_t = trace.data + strlen("<think>");
        for (int k = 0; k < TC_CIRCLES; ++k) {
            int a = -1, b = -1, weight = -99, so_far = -99, len = 0;
            CHECK_EQ_INT(sscanf(at_p, " a:%d b:%d%n", &a, &b, &len), 2);
            at_p += len;
            CHECK_EQ_INT(sscanf(at_t, " %d =%d%n", &weight, &so_far, &len), 2);
            at_t += len;
            REQUIRE(a >= 0 && a < TC_BUCKETS && b >= 0 && b < TC_BUCKETS);
            CHECK_EQ_INT(weight, w->table.weight[a][b]);
            total += weight;
            total = total > 24 ? 24 : total < -24 ? -24 : total;
            CHECK_EQ_INT(so_far, total);
        }
        CHECK_EQ_STR(at_p, "");
        CHECK_EQ_STR(at_t, " </think>");
        CHECK_EQ_INT(last.trace[e * TC_TOTAL + 1], w->words.total[total + R2_MAX_TOTAL]);
        r2_text_free(&w->ctx, &prompt);
        r2_text_free(&w->ctx, &trace);
    }
    r2_examples_free(&w->ctx, &ex);
    r2_examples_free(&w->ctx, &last);
}

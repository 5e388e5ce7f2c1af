/* The baselines: EASE and logistic regression against NumPy and SciPy
   (tests/reference/baselines.py), the factor models by what their minimum must satisfy, all of
   them on data that a glance solves. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"
#include "ratings.h"
#include "../examples/common/baselines.h"

static const float want_ease[36] = {
    0.44294294f, 0.61209068f,   0.34264706f,  0.48697068f, 0.060367454f, -0.0059101655f,
    0.35135135f, 0.60957179f,   0.53235294f,  0.27687296f, 0.17060367f,  0.1820331f,
    0.38288288f, 0.53148615f,   0.50147059f,  0.55211726f, 0.20472441f,  -0.086288416f,
    0.11111111f, 0.32241814f,   0.36470588f,  0.54071661f, 0.42257218f,  0.321513f,
    0.27477477f, 0.0075566751f, 0.22205882f,  0.43159609f, 0.66929134f,  0.43617021f,
    0.33483483f, 0.088161209f,  0.063235294f, 0.36644951f, 0.52493438f,  0.51654846f};
static const float want_ease_recency[36] = {
    0.46372001f,  0.59192565f,   0.36541673f,   0.4181685f,  0.060341667f, -0.13821885f,
    0.26892095f,  0.63142608f,   0.43645768f,   0.34045668f, 0.11029541f,  0.12629114f,
    0.033809729f, 0.63250064f,   0.36605821f,   0.41436772f, 0.32121263f,  -0.13570772f,
    0.085664105f, -0.031406845f, 0.54258677f,   0.66486778f, 0.40679737f,  0.47505253f,
    0.33870427f,  -0.11249259f,  0.0028083708f, 0.4761165f,  0.74622263f,  0.42247906f,
    0.48574918f,  -0.061374376f, -0.084512793f, 0.30828055f, 0.67930928f,  0.49415683f};
static const float want_ease_most[36] = {
    0.27196415f, 0.17241379f, 0.22593961f, 0.29318354f, -0.058575929f, -0.0020910281f,
    0.31042569f, 0.44827586f, 0.4552974f,  0.29318354f, 0.31757086f,   0.18139521f,
    0.23076923f, 0.27586207f, 0.37614679f, 0.19047619f, 0.25688073f,   0.10091743f,
    0.027196415f, 0.19506394f, 0.16218045f, 0.0f,       0.26597595f,   0.12974436f,
    0.019230769f, 0.13793103f, 0.1146789f,  0.0f,       0.18807339f,   0.091743119f,
    0.0f,         0.17241379f, 0.018348624f, 0.023809524f, 0.11009174f, 0.1146789f};
static const float want_log_odds[24] = {
    -0.054857575f, -0.23573781f, 0.0095801461f, -0.054857575f, -0.23573781f, 0.0095801461f,
    -0.30227271f,  0.011677323f, -0.40016598f,  -0.71201883f,  -0.3980688f,  -0.64758111f,
    -0.4646037f,   -0.3980688f,  -0.64758111f,  -0.4646037f,   -1.0982127f,  -0.85289473f,
    -0.91733246f,  -1.0982127f,  -0.85289473f,  -1.1647476f,   -0.85079756f, -0.85289473f};

/* A run of which only the data, the graph and the index are there. */
typedef struct world {
    r2_ctx ctx;
    r2_run run;
} world;

static int world_make(world *w, const char *text) {
    memset(w, 0, sizeof *w);
    w->ctx = r2_ctx_default();
    w->ctx.n_threads = 2;
    w->run.config = r2_run_config_default();
    return CHECK_STATUS(&w->ctx, ratings_load(&w->ctx, &w->run.data, text), R2_OK) &&
           CHECK_STATUS(&w->ctx, r2_graph_init(&w->ctx, &w->run.graph, &w->run.data, NULL),
                        R2_OK) &&
           CHECK_STATUS(&w->ctx,
                        r2_index_init(&w->ctx, &w->run.index, &w->run.graph, &w->run.data, 4.0f, 0),
                        R2_OK);
}

static void world_free(world *w) { r2_run_free(&w->ctx, &w->run); }

/* Every user with every item, as a candidate set. */
static void everything(world *w, r2_candidates *c) {
    int64_t n_users = w->run.graph.n_users, n_items = w->run.graph.n_items;
    c->n_cases = n_users;
    c->n_per_case = n_items;
    c->user = (uint32_t *)r2_alloc(&w->ctx, (uint64_t)n_users, sizeof *c->user);
    c->item = (uint32_t *)r2_alloc(&w->ctx, (uint64_t)(n_users * n_items), sizeof *c->item);
    for (int64_t k = 0; k < n_users * n_items; ++k) {
        c->user[k / n_items] = (uint32_t)(k / n_items);
        c->item[k] = (uint32_t)(k % n_items);
    }
}

static const bl_method *method(const char *name) {
    for (int b = 0; b < BL_N_METHODS; ++b)
        if (!strcmp(bl_methods[b].name, name)) return &bl_methods[b];
    return NULL;
}

/* The matrix of the reference script, as ratings: users meet their items from left to right. */
static const char *const small = "user,item,rating,time\n"
                                 "a,p,5,1\na,q,5,2\na,r,5,3\nb,p,5,1\nb,q,5,2\nb,s,5,3\n"
                                 "c,q,5,1\nc,r,5,2\nc,s,5,3\nd,r,5,1\nd,s,5,2\nd,t,5,3\n"
                                 "e,s,5,1\ne,t,5,2\ne,u,5,3\nf,p,5,1\nf,t,5,2\nf,u,5,3\n";

/* Items are numbered in the order of the file: p q r s t u, as in the script. */
static void check_ease(const char *name, r2_status (*fit)(r2_ctx *, bl_model *), double ridge,
                       double half_life, const float *want) {
    bl_method ease = *method(name);
    world w;
    r2_candidates all;
    bl_model m;
    float score[36];
    double p[3] = {ridge, half_life, 0.0};
    REQUIRE(world_make(&w, small));
    everything(&w, &all);
    ease.fit = fit;
    REQUIRE_OK(&w.ctx, bl_fit(&w.ctx, &ease, &w.run, p, &m));
    REQUIRE_OK(&w.ctx, ease.score(&w.ctx, &m, &all, score));
    CHECK_ARRAY_NEAR(score, want, 36, 1e-6);
    bl_free(&w.ctx, &m);
    r2_candidates_free(&w.ctx, &all);
    world_free(&w);
}

TEST(ease_over_items_is_ease) {
    check_ease("ease", bl_ease_fit_items, 2.0, 0.0, want_ease);
    check_ease("ease+recency", bl_ease_fit_items, 0.5, 2.0, want_ease_recency);
}
TEST(ease_in_dual_form_is_ease) { check_ease("ease", bl_ease_fit_users, 2.0, 0.0, want_ease); }
TEST(ease_with_a_query_that_fades) {
    check_ease("ease+recency", bl_ease_fit_users, 0.5, 2.0, want_ease_recency);
}

static r2_status fit_most_3(r2_ctx *ctx, bl_model *m) { return bl_ease_fit_most(ctx, m, 3); }
static r2_status fit_most_6(r2_ctx *ctx, bl_model *m) { return bl_ease_fit_most(ctx, m, 6); }
TEST(ease_of_the_most_popular_items) {
    check_ease("ease+recency", fit_most_3, 2.0, 2.0, want_ease_most);
    check_ease("ease+recency", fit_most_6, 0.5, 2.0, want_ease_recency); /* of all: EASE^R itself */
}

/* Nothing is left out where both sides are large. */
TEST(ease_of_large_data_is_there) {
    r2_text text = {NULL, 0, 0, false};
    r2_ctx ctx = r2_ctx_default();
    bl_method ease = *method("ease");
    bl_model m;
    world w;
    uint32_t user = 0, item[2] = {1, 0};
    r2_candidates c = {1, 2, &user, item};
    float score[2];
    r2_text_addf(&ctx, &text, "user,item,rating,time\nu0,x,5,1\nu1,x,5,1\n");
    for (int k = 0; k <= BL_EASE_MOST + 1; ++k)
        r2_text_addf(&ctx, &text, "u%d,i%d,5,2\n", k, k);
    REQUIRE(!text.failed && world_make(&w, text.data));
    ease.fit = fit_most_3; /* what the size asks for would take seconds */
    CHECK(bl_ease_size(&w.run) > BL_EASE_MOST);
    item[0] = (uint32_t)r2_data_item(&w.run.data, "i1"); /* u1 has x, too */
    item[1] = (uint32_t)r2_data_item(&w.run.data, "i2");
    REQUIRE_OK(&w.ctx, bl_fit(&w.ctx, &ease, &w.run, ease.grid[0], &m));
    REQUIRE_OK(&w.ctx, ease.score(&w.ctx, &m, &c, score));
    CHECK(score[0] > score[1]);
    bl_free(&w.ctx, &m);
    r2_text_free(&w.ctx, &text);
    world_free(&w);
}

/* Five ratings; u0 is asked at time 3 for q against p. p: 0.5^(2/h) + 0.5^(1/h) of times 1 and 2, q:
   0.5^(0/h) of time 3, h = 0.2 x 5 = 1; what comes later does not count, but as the breaker of ties. */
TEST(recent_popularity_by_hand) {
    const double p[3] = {0.2, 0.0, 0.0};
    world w;
    bl_model m;
    uint32_t user = 0, item[2];
    r2_candidates c = {1, 2, &user, item};
    float score[2];
    REQUIRE(world_make(&w, "user,item,rating,time\nu0,q,5,3\na,p,5,1\nb,p,5,2\nb,r,5,4\nc,p,5,5\n"));
    item[0] = (uint32_t)r2_data_item(&w.run.data, "q");
    item[1] = (uint32_t)r2_data_item(&w.run.data, "p");
    REQUIRE_OK(&w.ctx, bl_fit(&w.ctx, method("recent-popularity"), &w.run, p, &m));
    REQUIRE_OK(&w.ctx, bl_recent(&w.ctx, &m, &c, score));
    CHECK_WITHIN(score[0], 1.0 + 1e-4, 1e-6);
    CHECK_WITHIN(score[1], 0.25 + 0.5 + 3e-4, 1e-6);
    bl_free(&w.ctx, &m);
    world_free(&w);
}

/* u0 p q; a p r; b p q r: from u0 to r by p and a (1/3 1/2), by p and b (1/3 1/3), by q and b
   (1/2 1/3), and r has two users. */
TEST(rp3_by_hand) {
    const double p[3] = {1.0, 1.0, 0.0};
    world w;
    bl_model m;
    uint32_t user = 0, item;
    r2_candidates c = {1, 1, &user, &item};
    float score;
    REQUIRE(world_make(&w, "user,item,rating,time\nu0,p,5,1\nu0,q,5,2\na,p,5,1\na,r,5,2\n"
                           "b,p,5,1\nb,q,5,2\nb,r,5,3\n"));
    item = (uint32_t)r2_data_item(&w.run.data, "r");
    REQUIRE_OK(&w.ctx, bl_fit(&w.ctx, method("rp3-beta"), &w.run, p, &m));
    REQUIRE_OK(&w.ctx, bl_rp3(&w.ctx, &m, &c, &score));
    CHECK_WITHIN(score, (1.0 / 6.0 + 1.0 / 9.0 + 1.0 / 6.0) / 2.0, 1e-6);
    bl_free(&w.ctx, &m);
    world_free(&w);
}

/* The specification: EASE^R fitted to a graph in which u0 has no edge, its history put to that. */
static double never_seen(world *w, const r2_question *q, const double *p) {
    world without;
    bl_model m;
    bl_method items = *method("ease");
    double score = 0.0, age = 0.0;
    uint8_t *role = (uint8_t *)r2_alloc(&w->ctx, (uint64_t)w->run.data.n_ratings, 1);
    memset(&without, 0, sizeof without);
    without.run.config = w->run.config;
    for (int64_t k = w->run.data.user_begin[q->user]; k < w->run.data.user_begin[q->user + 1]; ++k)
        role[k] = R2_TEST;
    items.fit = bl_ease_fit_items;
    CHECK_STATUS(&w->ctx, r2_graph_init(&w->ctx, &without.run.graph, &w->run.data, role), R2_OK);
    CHECK_STATUS(&w->ctx, bl_fit(&w->ctx, &items, &without.run, p, &m), R2_OK);
    for (int64_t at = q->n_history - 1; at >= 0; --at) {
        const int64_t place = w->run.graph.user_begin[q->user] + at;
        const uint32_t i = w->run.graph.user_item[w->run.index.by_time[place]];
        if (i == q->item) continue;
        score += (p[1] > 0.0 ? exp2(-age / p[1]) : 1.0) *
                 m.item[m.feature[i] * w->run.graph.n_items + m.feature[q->item]];
        age += 1.0;
    }
    bl_free(&w->ctx, &m);
    r2_graph_free(&w->ctx, &without.run.graph);
    r2_release(&w->ctx, role);
    return score;
}

/* Every user, history and item: the item may lie in the history, later, or nowhere. */
static void check_unseen(r2_status (*fit)(r2_ctx *, bl_model *), double half_life) {
    static const double ridge = 0.7;
    world w;
    bl_method ease = *method("ease+recency");
    bl_model m;
    int n = 0;
    double p[3] = {ridge, half_life, 0.0};
    REQUIRE(world_make(&w, small));
    ease.fit = fit;
    REQUIRE_OK(&w.ctx, bl_fit(&w.ctx, &ease, &w.run, p, &m));
    for (uint32_t u = 0; u < 6; ++u)
        for (int32_t history = 0; history <= 3; ++history) {
            r2_question question[6];
            r2_evidence evidence[6];
            for (uint32_t i = 0; i < 6; ++i, ++n) {
                r2_question q = {u, i, history, -1, 0, 0, 0, 0};
                question[i] = q;
            }
            REQUIRE_OK(&w.ctx, bl_ease_evidence(&w.ctx, &m, &w.run, question, 6, evidence));
            for (int i = 0; i < 6; ++i)
                CHECK_WITHIN(evidence[i].value[R2_FIELD_deep], never_seen(&w, &question[i], p),
                             1e-6);
        }
    CHECK_EQ_INT(n, 144);
    bl_free(&w.ctx, &m);
    world_free(&w);
}

TEST(ease_as_evidence_has_never_seen_its_user) {
    check_unseen(bl_ease_fit_items, 0.0);
    check_unseen(bl_ease_fit_items, 2.0);
    check_unseen(bl_ease_fit_users, 0.0);
    check_unseen(bl_ease_fit_users, 2.0);
}

TEST(ease_as_evidence_refuses_what_takes_too_long) {
    r2_text text = {NULL, 0, 0, false};
    r2_ctx ctx = r2_ctx_default();
    bl_model ease;
    world w;
    memset(&ease, 0, sizeof ease);
    r2_text_addf(&ctx, &text, "user,item,rating,time\n");
    for (int k = 0; k <= BL_EASE_MOST; ++k) r2_text_addf(&ctx, &text, "u%d,i%d,5,1\n", k, k);
    REQUIRE(!text.failed && world_make(&w, text.data));
    CHECK_STATUS(&w.ctx, bl_ease_evidence(&w.ctx, &ease, &w.run, NULL, 0, NULL), R2_ARGUMENT);
    CHECK(strstr(w.ctx.message, "found 4001 and 4001") != NULL);
    CHECK(ease.run == NULL);
    r2_text_free(&ctx, &text);
    world_free(&w);
}

/* ---- neighbours, linear algebra ---- */

TEST(selection_is_what_sorting_finds) {
    r2_rng rng = r2_rng_make(9, R2_STREAM_USER, 0);
    for (int n = 1; n <= 40; ++n)
        for (int k = 0; k < n; ++k) {
            double value[40], found;
            int above = 0, equal = 0;
            for (int i = 0; i < n; ++i) value[i] = (double)r2_rng_below(&rng, (uint64_t)n / 2 + 1);
            found = bl_largest_but(value, n, k);
            for (int i = 0; i < n; ++i) above += value[i] > found, equal += value[i] == found;
            CHECK(above <= k && k < above + equal);
        }
}

TEST(a_symmetric_system_is_solved) {
    /* [4 2; 2 3] x = [2 5], inverse [3 -2; -2 4] / 8, by hand; below the diagonal is not read */
    double a[4] = {4, 2, -99, 3}, b[2] = {2, 5}, c[4] = {4, 2, -99, 3}, x[4] = {7, 7, 7, 7};
    r2_ctx ctx = r2_ctx_default();
    bl_solve(&ctx, a, b, 2);
    CHECK_WITHIN(b[0], -0.5, 1e-12);
    CHECK_WITHIN(b[1], 2.0, 1e-12);
    CHECK_STATUS(&ctx, bl_invert(&ctx, c, x, 2), R2_OK);
    CHECK_WITHIN(x[0], 0.375, 1e-12);
    CHECK_WITHIN(x[1], -0.25, 1e-12);
    CHECK_WITHIN(x[2], -0.25, 1e-12);
    CHECK_WITHIN(x[3], 0.5, 1e-12);
}

TEST(a_large_matrix_is_inverted_by_any_number_of_threads) {
    enum { N = 299 }; /* several blocks and strips, the last of them not full */
    static double full[N * N], a[N * N], x[2][N * N], b[N];
    r2_rng rng = r2_rng_make(3, R2_STREAM_USER, 0);
    r2_ctx ctx = r2_ctx_default();
    for (int i = 0; i < N; ++i)
        for (int j = i; j < N; ++j)
            full[i * N + j] = full[j * N + i] = r2_rng_normal(&rng) + (i == j ? 60.0 : 0.0);
    for (int run = 0; run < 2; ++run) {
        memcpy(a, full, sizeof a);
        ctx.n_threads = 1 + 2 * run;
        CHECK_STATUS(&ctx, bl_invert(&ctx, a, x[run], N), R2_OK);
    }
    CHECK(!memcmp(x[0], x[1], sizeof x[0]));
    for (int i = 0; i < N; ++i)
        for (int j = 0; j < N; ++j) {
            double sum = 0.0;
            for (int k = 0; k < N; ++k) sum += full[i * N + k] * x[0][k * N + j];
            CHECK_WITHIN(sum, i == j, 1e-12);
            CHECK(x[0][i * N + j] == x[0][j * N + i]);
        }
    for (int i = 0; i < N; ++i) b[i] = full[i * N + 7];
    bl_solve_with(a, b, N);
    for (int i = 0; i < N; ++i) CHECK_WITHIN(b[i], i == 7, 1e-12);
}

TEST(logistic_regression_is_scipys) {
    enum { N = 24, PLACES = 3 };
    r2_ctx ctx = r2_ctx_default();
    r2_run run;
    bl_model m;
    int64_t begin[N + 1];
    int32_t prompt[N * PLACES], column[PLACES + 1];
    int8_t answer[N];
    double p[3] = {0.5, 0.0, 0.0};
    memset(&run, 0, sizeof run);
    for (int32_t k = 0; k < N; ++k) {
        begin[k] = k * PLACES;
        prompt[k * PLACES] = k % 3;
        prompt[k * PLACES + 1] = 3 + k * k % 5 % 2;
        prompt[k * PLACES + 2] = 5 + k / 8;
        answer[k] = (int8_t)(4 * ((k * 7 % 11) % 3 == 0));
    }
    begin[N] = N * PLACES;
    run.vocab.n_words = 8;
    run.train.n = N;
    run.train.prompt_begin = begin;
    run.train.prompt = prompt;
    run.train.answer = answer;
    run.train.longest = PLACES;
    run.train.group = 2; /* item by item: groups do not matter */
    REQUIRE_OK(&ctx, bl_fit(&ctx, method("logistic"), &run, p, &m));
    CHECK_EQ_INT(m.dim, 1 + 3 + 2 + 3);
    for (int64_t k = 0; k < N; ++k) {
        int64_t n = bl_columns(&m, &run.train, k, column);
        CHECK_WITHIN(bl_log_odds(m.bias, column, n), want_log_odds[k], 2e-5);
    }
    bl_free(&ctx, &m);
}

/* Choosing the first of each group: the penalised likelihood, written a second time, has no slope. */
TEST(the_choice_of_a_group_ends_in_a_maximum) {
    enum { N = 36, GROUP = 3, PLACES = 3, WORDS = 9 };
    r2_ctx ctx = r2_ctx_default();
    r2_run run;
    bl_model m;
    int64_t begin[N + 1];
    int32_t prompt[N * PLACES];
    int8_t answer[N];
    double p[3] = {0.3, 1.0, 0.0}, steepest = 0.0;
    memset(&run, 0, sizeof run);
    for (int32_t k = 0; k < N; ++k) {
        begin[k] = k * PLACES;
        for (int32_t j = 0; j < PLACES; ++j)
            prompt[k * PLACES + j] = 3 * j + (int32_t)(r2_hash(1, (uint64_t)k, (uint64_t)j) % 3);
        answer[k] = (int8_t)(k % GROUP == 0);
    }
    begin[N] = N * PLACES;
    run.vocab.n_words = WORDS;
    run.train.n = N;
    run.train.group = GROUP;
    run.train.prompt_begin = begin;
    run.train.prompt = prompt;
    run.train.answer = answer;
    run.train.longest = PLACES;
    REQUIRE_OK(&ctx, bl_fit(&ctx, method("logistic"), &run, p, &m));
    CHECK_EQ_INT(m.dim, 1 + WORDS);
    for (int32_t word = 0; word < WORDS; ++word) {
        double weight = m.bias[m.feature[word / 3 * WORDS + word]], slope = -0.3 * weight;
        for (int32_t g = 0; g < N; g += GROUP) {
            double share = 0.0, all = 0.0;
            for (int32_t k = g; k < g + GROUP; ++k) {
                double sum = 0.0;
                for (int32_t j = 0; j < PLACES; ++j)
                    sum += m.bias[m.feature[j * WORDS + prompt[k * PLACES + j]]];
                all += exp(sum);
                share += prompt[k * PLACES + word / 3] == word ? exp(sum) : 0.0;
            }
            slope += (prompt[g * PLACES + word / 3] == word) - share / all;
        }
        CHECK_WITHIN(slope, 0.0, 1e-4);
        steepest = fmax(steepest, fabs(weight));
    }
    CHECK(steepest > 0.1);
    bl_free(&ctx, &m);
}

/* The items' factors came last: the gradient of the objective by each of them must vanish. */
TEST(ials_ends_in_a_minimum) {
    world w;
    bl_model m;
    double p[3] = {4, 0.1, 0.02};
    REQUIRE(world_make(&w, small));
    REQUIRE_OK(&w.ctx, bl_fit(&w.ctx, method("ials"), &w.run, p, &m));
    for (int64_t i = 0; i < w.run.graph.n_items; ++i) {
        const double *x = m.item + i * 4;
        double ridge = 0.02 * ((double)r2_graph_item_degree(&w.run.graph, (uint32_t)i) + 0.1 * 6.0);
        for (int a = 0; a < 4; ++a) {
            double gradient = ridge * x[a];
            for (int64_t u = 0; u < 6; ++u) {
                double s = bl_dot(m.user + u * 4, x, 4), seen = 0.0;
                if (r2_graph_find(&w.run.graph, (uint32_t)u, (uint32_t)i) >= 0) seen = 1.0 - s;
                gradient += (0.1 * s - seen) * m.user[u * 4 + a];
            }
            CHECK_WITHIN(gradient, 0.0, 1e-6);
        }
    }
    bl_free(&w.ctx, &m);
    world_free(&w);
}

/* Two tastes that never meet: 20 users of 10 items each, of which everybody knows 7. */
static void two_tastes(world *w, r2_text *text) {
    r2_rng rng = r2_rng_make(5, R2_STREAM_USER, 0);
    r2_text_addf(&w->ctx, text, "user,item,rating,time\n");
    for (int u = 0; u < 40; ++u)
        for (int k = 0, first = (int)r2_rng_below(&rng, 10); k < 7; ++k)
            r2_text_addf(&w->ctx, text, "u%d,i%d,5,%d\n", u, u % 2 * 10 + (first + k) % 10, k);
}

/* Share of (unknown item of the own taste, item of the other taste) pairs in the right order. */
static double taste_found(world *w, const bl_method *how, const double *p) {
    r2_candidates all;
    bl_model m;
    double right = 0.0, pairs = 0.0;
    float *score;
    everything(w, &all);
    score = (float *)r2_alloc(&w->ctx, 40 * 20, sizeof *score);
    if (!CHECK_STATUS(&w->ctx, bl_fit(&w->ctx, how, &w->run, p, &m), R2_OK) ||
        !CHECK_STATUS(&w->ctx, how->score(&w->ctx, &m, &all, score), R2_OK))
        return 0.0;
    for (int64_t u = 0; u < 40; ++u)
        for (uint32_t i = 0; i < 20; ++i)
            for (uint32_t j = 0; j < 20; ++j) {
                int own = atoi(w->run.data.item_key[i] + 1) / 10 == u % 2;
                int other = atoi(w->run.data.item_key[j] + 1) / 10 != u % 2;
                if (!own || !other || r2_graph_find(&w->run.graph, (uint32_t)u, i) >= 0) continue;
                right += score[u * 20 + i] > score[u * 20 + j];
                pairs += 1.0;
            }
    bl_free(&w->ctx, &m);
    r2_release(&w->ctx, score);
    r2_candidates_free(&w->ctx, &all);
    return right / pairs;
}

TEST(every_method_tells_two_tastes_apart) {
    static const struct {
        const char *name;
        double p[3], at_least;
    } asked[] = {{"user-knn", {10, 1, 0}, 1.0},     {"item-knn", {0.5, 0, 0}, 1.0},
                 {"rp3-beta", {1, 0.5, 0}, 1.0},
                 {"ials", {4, 0.1, 0.01}, 1.0},     {"bpr-mf", {8, 0.01, 60}, 0.98},
                 {"ease", {10, 0, 0}, 1.0},         {"ease+recency", {10, 5, 0}, 1.0},
                 {"lightgcn", {2, 0.01, 60}, 0.98}, {"sasrec", {16, 300, 5e-3}, 0.9}};
    world w;
    r2_text text = {NULL, 0, 0, false};
    w.ctx = r2_ctx_default();
    two_tastes(&w, &text);
    REQUIRE(world_make(&w, text.data));
    for (size_t k = 0; k < sizeof asked / sizeof asked[0]; ++k) {
        double found = taste_found(&w, method(asked[k].name), asked[k].p);
        if (!CHECK(found >= asked[k].at_least)) printf("    %s: %g\n", asked[k].name, found);
    }
    r2_text_free(&w.ctx, &text);
    world_free(&w);
}

/* <a, S b> = <S a, b>: what makes one function serve both directions of LightGCN. */
TEST(smoothing_is_symmetric) {
    enum { N = 12 * 2 };
    world w;
    double in[2][N], out[2][N], scratch[2][N];
    r2_rng rng = r2_rng_make(3, R2_STREAM_USER, 0);
    REQUIRE(world_make(&w, small));
    for (int k = 0; k < 2 * N; ++k) in[k / N][k % N] = r2_rng_normal(&rng);
    for (int k = 0; k < 2; ++k)
        bl_smooth(&w.ctx, &w.run.graph, 2, 3, in[k], out[k], scratch[0], scratch[1]);
    CHECK_NEAR(bl_dot(in[0], out[1], N), bl_dot(out[0], in[1], N), 1e-12);
    /* user a after one step: (p + q + r) / sqrt(3 x 3), each of which three users know */
    bl_propagate(&w.ctx, &w.run.graph, 2, in[0], out[0]);
    CHECK_NEAR(out[0][0], (in[0][12] + in[0][14] + in[0][16]) / 3.0, 1e-12);
    world_free(&w);
}

/* Everybody goes around the same circle of twelve items, whatever the beginning. */
TEST(sasrec_knows_what_comes_next) {
    world w;
    r2_text text = {NULL, 0, 0, false};
    bl_model m;
    r2_candidates all;
    double p[3] = {16, 300, 5e-3};
    float *score;
    int right = 0;
    w.ctx = r2_ctx_default();
    r2_text_addf(&w.ctx, &text, "user,item,rating,time\n");
    for (int u = 0; u < 36; ++u)
        for (int k = 0; k < 4 + u % 5; ++k)
            r2_text_addf(&w.ctx, &text, "u%d,i%d,5,%d\n", u, (u + k) % 12, k);
    REQUIRE(world_make(&w, text.data));
    everything(&w, &all);
    score = (float *)r2_alloc(&w.ctx, 36 * 12, sizeof *score);
    REQUIRE_OK(&w.ctx, bl_fit(&w.ctx, method("sasrec"), &w.run, p, &m));
    REQUIRE_OK(&w.ctx, method("sasrec")->score(&w.ctx, &m, &all, score));
    for (int u = 0; u < 36; ++u) {
        int best = 0;
        for (int i = 1; i < 12; ++i)
            if (score[u * 12 + i] > score[u * 12 + best]) best = i;
        right += atoi(w.run.data.item_key[best] + 1) == (u + 4 + u % 5) % 12;
    }
    CHECK(right >= 30);
    bl_free(&w.ctx, &m);
    r2_candidates_free(&w.ctx, &all);
    r2_release(&w.ctx, score);
    r2_text_free(&w.ctx, &text);
    world_free(&w);
}

/* One validation case, in which only the neighbour that shares most tells right from wrong. */
TEST(tuning_keeps_the_best_grid_point) {
    static const bl_method how = {
        "user-knn", "", bl_fit_nothing, bl_user_knn, {{5, 0}, {1, 1}, {5, 0}}, 3, false, false};
    world w;
    bl_model best;
    uint32_t user[1] = {0}, item[2];
    REQUIRE(world_make(&w, "user,item,rating,time\n"
                           "a,p,5,1\na,q,5,2\nb,p,5,1\nb,q,5,2\nb,right,5,3\n"
                           "c,p,5,1\nc,wrong,5,2\nd,q,5,1\nd,wrong,5,2\n"));
    item[0] = (uint32_t)r2_data_item(&w.run.data, "right");
    item[1] = (uint32_t)r2_data_item(&w.run.data, "wrong");
    w.run.valid.n_cases = 1;
    w.run.valid.n_per_case = 2;
    w.run.valid.user = user;
    w.run.valid.item = item;
    REQUIRE_OK(&w.ctx, bl_tune(&w.ctx, &how, &w.run, &best));
    CHECK_EQ_INT(best.p[0], 1);
    bl_free(&w.ctx, &best);
    memset(&w.run.valid, 0, sizeof w.run.valid);
    world_free(&w);
}

TEST(threads_change_no_byte) {
    static const char *const names[] = {"ials", "ease", "lightgcn"};
    static const double p[][3] = {{8, 0.1, 0.01}, {10, 0, 0}, {2, 0.01, 3}};
    for (int k = 0; k < 3; ++k) {
        float score[2][1200];
        for (int threads = 1; threads <= 2; ++threads) {
            world w;
            r2_candidates all;
            bl_model m;
            memset(&w, 0, sizeof w);
            w.ctx = r2_ctx_default();
            w.run.config = r2_run_config_default();
            REQUIRE_OK(&w.ctx, ratings_random(&w.ctx, &w.run.data, 30, 40, 0.3, 9));
            REQUIRE_OK(&w.ctx, r2_graph_init(&w.ctx, &w.run.graph, &w.run.data, NULL));
            REQUIRE_OK(&w.ctx,
                       r2_index_init(&w.ctx, &w.run.index, &w.run.graph, &w.run.data, 4, 0));
            w.ctx.n_threads = threads;
            everything(&w, &all);
            REQUIRE_OK(&w.ctx, bl_fit(&w.ctx, method(names[k]), &w.run, p[k], &m));
            REQUIRE_OK(&w.ctx, method(names[k])->score(&w.ctx, &m, &all, score[threads - 1]));
            bl_free(&w.ctx, &m);
            r2_candidates_free(&w.ctx, &all);
            world_free(&w);
        }
        CHECK(!memcmp(score[0], score[1], sizeof score[0]));
    }
}

/* ---- nobody has a taste ---- */

/* 900 users take a few of 200 popular items and of 6,000 others at random times: who took what means
   nothing, as when ratings are permuted over users with all margins kept. */
static r2_status tasteless(r2_ctx *ctx, r2_run *run, int64_t min_train) {
    r2_run_config config = r2_run_config_default();
    r2_rng rng = r2_rng_make(21, R2_STREAM_USER, 0);
    r2_text text = {NULL, 0, 0, false};
    char path[64];
    r2_status status;
    snprintf(path, sizeof path, "build/tasteless-%p.csv", (void *)run);
    r2_text_addf(ctx, &text, "userId,movieId,rating,timestamp\n");
    for (int u = 0; u < 900; ++u)
        for (int k = 0; k < 14; ++k) {
            const double draw = r2_rng_double(&rng);
            const int rest = 200 + (int)r2_rng_below(&rng, 6000);
            const int item = r2_rng_below(&rng, 2) ? (int)(200.0 * draw * draw * draw) : rest;
            r2_text_addf(ctx, &text, "%d,%d,5,%d\n", u, item, (int)r2_rng_below(&rng, 1000000));
        }
    status = r2_write_file(ctx, path, text.data, text.len);
    r2_text_free(ctx, &text);
    config.n_groups = 3000;
    config.min_train = min_train;
    config.model.d_model = 16;
    if (status == R2_OK) status = r2_run_init(ctx, run, path, &config);
    remove(path);
    return status;
}

/* HR@1 of the logistic regression minus that of popularity, with its paired interval. */
static double above_popularity(r2_ctx *ctx, const r2_run *run, double *lo, double *hi) {
    static double hit[2][1000], sum;
    const r2_eval_config eval = {1, 1};
    const int64_t n = run->test.n_cases;
    float *score = (float *)calloc((size_t)(n * run->test.n_per_case), sizeof *score);
    for (int m = 0; m < 2 && score && n <= 1000; ++m) {
        const bl_method *of = method(m ? "logistic" : "popularity");
        bl_model fitted;
        r2_metrics metrics;
        CHECK_STATUS(ctx, bl_tune(ctx, of, run, &fitted), R2_OK);
        CHECK_STATUS(ctx, of->score(ctx, &fitted, &run->test, score), R2_OK);
        CHECK_STATUS(ctx, r2_evaluate(ctx, score, n, run->test.n_per_case, &eval, &metrics, hit[m]),
                     R2_OK);
        bl_free(ctx, &fitted);
    }
    free(score);
    sum = 0.0;
    for (int64_t k = 0; k < n; ++k) sum += hit[1][k] -= hit[0][k];
    CHECK_STATUS(ctx, r2_bootstrap_mean(ctx, hit[1], n, 2000, 1, lo, hi), R2_OK);
    return sum / (double)n;
}

/* What tells held-out favourites from sampled items must be taste. Where favourites that nobody else
   has are asked too, it is not: their having nobody gives them away. */
TEST(without_taste_nothing_is_above_popularity) {
    r2_ctx ctx = r2_ctx_default();
    double lo, hi, difference;
    r2_run run;
    REQUIRE_OK(&ctx, tasteless(&ctx, &run, 1));
    CHECK(run.split.n_cold_test > 50);
    difference = above_popularity(&ctx, &run, &lo, &hi);
    if (!CHECK(lo <= 0.0)) printf("  warm: %+.4f [%+.4f, %+.4f]\n", difference, lo, hi);
    r2_run_free(&ctx, &run);
    REQUIRE_OK(&ctx, tasteless(&ctx, &run, 0));
    difference = above_popularity(&ctx, &run, &lo, &hi);
    if (!CHECK(lo > 0.0)) printf("  all items: %+.4f [%+.4f, %+.4f]\n", difference, lo, hi);
    r2_run_free(&ctx, &run);
}

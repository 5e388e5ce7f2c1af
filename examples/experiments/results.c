/* results.c: the tables of README.md, and what is said beside them. All methods, tuned on
   validation, under six protocols: 1 + 19 and 1 + 99 uniform negatives, negatives with 5 training
   ratings or more (c5), popular negatives, 1 + 19 of all items (favourites and negatives that
   nobody else has rated in training are left out of the others), the full catalogue. Then rating
   prediction and counterfactual faithfulness. Of several data sets one table: the best classical
   method, the logistic regression and ours, under 1 + 19 and 1 + 19 of all items.

   Each row is a file (experiment.h): stop it when you like, it goes on where it stood. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "../common/baselines.h"
#include "experiment.h"

/* ---- what is compared ---- */

typedef enum protocol { U19 = 0, U99, C5, POPULAR, ALL, CATALOGUE, N_PROTOCOLS } protocol;
static const char *const protocol_name[N_PROTOCOLS] = {"1+19", "1+99", "c5", "popular",
                                                       "all-1+19", "catalogue"};

/* Our own rows come after the baselines. */
typedef enum stage {
    UNTRAINED = 0,
    SFT_DIRECT,
    SFT_REASONED,
    SFT_SAMPLED, /* the mean score of SAMPLES traces drawn at temperature 1 */
    RL_DIRECT,
    RL_REASONED,
    RL_SAMPLED,
    N_STAGES
} stage;
enum { SAMPLES = 3 };
static const char *const stage_name[N_STAGES] = {"untrained",   "sft-direct",  "sft-reasoned",
                                                 "sft-sampled", "grpo-direct", "grpo-reasoned",
                                                 "grpo-sampled"};
enum { N_METHODS = BL_N_METHODS + N_STAGES };

static const char *method_name(int method) {
    return method < BL_N_METHODS ? bl_methods[method].name : stage_name[method - BL_N_METHODS];
}

static bool is_sampled(stage s) { return s == SFT_SAMPLED || s == RL_SAMPLED; }

static bool is_seeded(int method) { return method >= BL_N_METHODS || bl_methods[method].seeded; }

/* Candidate sets of a row: sampling many traces is slow, the catalogue is but one. */
static int64_t n_seeds(const xp *x, int method, protocol p) {
    bool sampled = method >= BL_N_METHODS && is_sampled((stage)(method - BL_N_METHODS));
    return p == CATALOGUE || sampled ? 1 : x->seeds;
}

/* Why a method has no row under a protocol; NULL: it has one. A quick run leaves out what takes
   minutes, unless it is asked for by name. */
static const char *left_out(const xp *x, int method, protocol p) {
    const bool ours = method >= BL_N_METHODS;
    const stage s = (stage)(method - BL_N_METHODS);
    if (!ours && bl_methods[method].slow && !x->full && !x->only)
        return "takes minutes: --full, or --only and its name";
    if (p == CATALOGUE && ours) return "millions of prompts";
    if (p == CATALOGUE && bl_methods[method].fit == bl_logistic_fit && !x->full)
        return "millions of prompts: --full";
    if (ours && p != U19 && (is_sampled(s) || s == UNTRAINED)) return "1+19 alone";
    if (ours && p == U99 && s != SFT_DIRECT) return "a hundred prompts a user, so direct alone";
    if (x->brief && p != U19 && p != ALL) return "not for several data sets";
    if (x->brief && ours && s != SFT_DIRECT && s != SFT_REASONED && s != RL_REASONED)
        return "not for several data sets";
    return NULL;
}

static bool is_asked(const xp *x, int method, protocol p) {
    if (x->only && strcmp(x->only, method_name(method)) != 0) return false;
    return !left_out(x, method, p);
}

static void row_key(char key[100], int method, protocol p, int64_t model, int64_t seed) {
    snprintf(key, 100, "%s-%s-m%d-c%d", method_name(method), protocol_name[p], (int)model,
             (int)seed);
}

/* ---- the run of one model seed, made when it is first needed ---- */

typedef struct lab {
    xp *x;
    int64_t model;
    r2_run run;
    bool ready;
    stage trained; /* what the run's model is now */
} lab;

static void lab_close(lab *l) {
    if (l->ready) r2_run_free(&l->x->ctx, &l->run);
    l->ready = false;
}

static r2_run *lab_run(lab *l) {
    r2_run_config config = xp_config(l->x, (uint64_t)l->model);
    if (!l->ready) xp_check(l->x, r2_run_init(&l->x->ctx, &l->run, l->x->data, &config));
    if (!l->ready) l->trained = UNTRAINED;
    l->ready = true;
    return &l->run;
}

/* Loads the model of a stage, or makes and saves it. */
static void lab_train(lab *l, stage wanted) {
    r2_run *run = lab_run(l);
    char name[40];
    bool rl = wanted >= RL_DIRECT;
    if (wanted == UNTRAINED || (l->trained != UNTRAINED && (l->trained >= RL_DIRECT) == rl)) return;
    if (rl) lab_train(l, SFT_DIRECT);
    snprintf(name, sizeof name, "model-m%d-%s", (int)l->model, rl ? "grpo" : "sft");
    xp_make(l->x, run, rl, name);
    l->trained = wanted;
}

/* The candidate sets: the same for every method and every model seed. */
static void draw(xp *x, const r2_run *run, protocol p, int64_t seed, r2_candidates *c) {
    const r2_split *split = &run->split;
    const int64_t min_train = p == POPULAR || p == ALL ? 0 : p == C5 ? 5 : run->config.min_train;
    const int64_t n = split->n_test + (p == ALL ? split->n_cold_test : 0);
    r2_negatives negatives = {p == U99 ? 99 : 19, r2_hash((uint64_t)seed, R2_TEST, 0), p == POPULAR,
                              min_train > 0 ? split : NULL, min_train};
    xp_check(x, r2_candidates_init(&x->ctx, c, &run->data, split->test, n, &negatives));
}

/* ---- rows ---- */

/* The tuned parameters are a row as well, so that they are searched once. */
static void fit_baseline(lab *l, int method, bl_model *fitted) {
    char key[100];
    cJSON *row;
    double p[3] = {0, 0, 0};
    snprintf(key, sizeof key, "tuned-%s-m%d", method_name(method), (int)l->model);
    row = xp_load(l->x, key);
    if (row) {
        p[0] = xp_number(row, "p0"), p[1] = xp_number(row, "p1"), p[2] = xp_number(row, "p2");
        cJSON_Delete(row);
        xp_check(l->x, bl_fit(&l->x->ctx, &bl_methods[method], lab_run(l), p, fitted));
        return;
    }
    xp_check(l->x, bl_tune(&l->x->ctx, &bl_methods[method], lab_run(l), fitted));
    row = cJSON_CreateObject();
    cJSON_AddNumberToObject(row, "p0", fitted->p[0]);
    cJSON_AddNumberToObject(row, "p1", fitted->p[1]);
    cJSON_AddNumberToObject(row, "p2", fitted->p[2]);
    cJSON_AddNumberToObject(row, "validation_hr@1", fitted->validation);
    xp_save(l->x, key, row);
    l->x->n_done--;
}

static void score_model(lab *l, stage s, const r2_candidates *c, float *score, cJSON **extra) {
    r2_score_config how = r2_score_config_default();
    r2_trace_metrics trace;
    if (s != UNTRAINED && s != SFT_DIRECT && s != RL_DIRECT) how.mode = R2_REASONED;
    if (is_sampled(s)) how.n_samples = SAMPLES, how.temperature = 1.0f;
    lab_train(l, s);
    xp_check(l->x, r2_run_score(&l->x->ctx, &l->run, c, &how, score, &trace));
    *extra = cJSON_CreateObject();
    cJSON_AddNumberToObject(*extra, "well_formed", trace.well_formed);
    cJSON_AddNumberToObject(*extra, "faithful", trace.faithful);
}

static cJSON *sampled_row(lab *l, int method, const bl_model *fitted, protocol p, int64_t seed) {
    xp *x = l->x;
    r2_candidates c;
    float *score;
    cJSON *row, *extra = NULL;
    draw(x, lab_run(l), p, seed, &c);
    score = (float *)xp_need(
        x, r2_alloc(&x->ctx, (uint64_t)(c.n_cases * c.n_per_case), sizeof *score));
    if (method < BL_N_METHODS) xp_check(x, bl_methods[method].score(&x->ctx, fitted, &c, score));
    else score_model(l, (stage)(method - BL_N_METHODS), &c, score, &extra);
    row = xp_row(score, c.n_cases, c.n_per_case);
    if (extra) cJSON_AddItemToObject(row, "traces", extra);
    r2_release(&x->ctx, score);
    r2_candidates_free(&x->ctx, &c);
    return row;
}

/* Every item that the user has never met, user by user. */
static cJSON *catalogue_row(lab *l, int method, const bl_model *fitted) {
    xp *x = l->x;
    const r2_run *run = lab_run(l);
    uint64_t room = (uint64_t)run->data.n_items + 1;
    uint32_t *item = (uint32_t *)xp_need(x, r2_alloc(&x->ctx, room, sizeof *item));
    float *score = (float *)xp_need(x, r2_alloc(&x->ctx, room, sizeof *score));
    cJSON *row = cJSON_CreateObject();
    for (int64_t s = 0; s < run->split.n_test; ++s) {
        r2_candidates one;
        one.n_cases = 1;
        one.n_per_case = r2_candidates_catalogue(&run->data, run->split.test[s], item);
        one.user = &run->split.test[s].user;
        one.item = item;
        xp_check(x, bl_methods[method].score(&x->ctx, fitted, &one, score));
        xp_add_rank(row, r2_rank_of(score, one.n_per_case));
        xp_check(x, r2_progress(&x->ctx, "catalogue", s + 1, run->split.n_test));
    }
    r2_release(&x->ctx, item);
    r2_release(&x->ctx, score);
    return row;
}

/* All rows of one method and model seed. */
static void method_rows(lab *l, int method) {
    bl_model fitted;
    bool is_fitted = false;
    memset(&fitted, 0, sizeof fitted);
    for (int p = 0; p < N_PROTOCOLS; ++p)
        for (int64_t seed = 1; seed <= n_seeds(l->x, method, (protocol)p); ++seed) {
            char key[100];
            row_key(key, method, (protocol)p, l->model, seed);
            if (!is_asked(l->x, method, (protocol)p) || xp_has(l->x, key)) continue;
            if (method < BL_N_METHODS && !is_fitted) fit_baseline(l, method, &fitted);
            is_fitted = true;
            xp_save(l->x, key,
                    p == CATALOGUE ? catalogue_row(l, method, &fitted)
                                   : sampled_row(l, method, &fitted, (protocol)p, seed));
        }
    bl_free(&l->x->ctx, &fitted);
}

/* ---- who the users are: activity, popularity of the held-out item, coverage by chains ---- */

static double share_with_chain(xp *x, const r2_run *run, const r2_candidates *c, bool positive) {
    int64_t n = 0, found = 0;
    for (int64_t k = 0; k < c->n_cases * c->n_per_case; ++k) {
        r2_question question;
        int64_t count = 0;
        if ((k % c->n_per_case == 0) != positive) continue;
        memset(&question, 0, sizeof question);
        question.user = c->user[k / c->n_per_case];
        question.item = c->item[k];
        question.n_history = (int32_t)r2_graph_user_degree(&run->graph, question.user);
        xp_check(x, r2_chains_count(&x->ctx, &run->index, &question, &count));
        found += count > 0;
        n++;
    }
    return n ? (double)found / (double)n : NAN;
}

static void case_row(lab *l) {
    const r2_run *run;
    cJSON *row, *user, *item;
    if (xp_has(l->x, "cases")) return;
    run = lab_run(l);
    row = cJSON_CreateObject();
    user = cJSON_AddArrayToObject(row, "activity");
    item = cJSON_AddArrayToObject(row, "popularity");
    for (int64_t s = 0; s < run->split.n_test; ++s) {
        r2_target t = run->split.test[s];
        cJSON_AddItemToArray(user,
                             cJSON_CreateNumber((double)r2_graph_user_degree(&run->graph, t.user)));
        cJSON_AddItemToArray(item,
                             cJSON_CreateNumber((double)r2_graph_item_degree(&run->graph, t.item)));
    }
    for (int p = 0; p < CATALOGUE; ++p) {
        r2_candidates c;
        char name[60];
        if (p == U99) continue;
        draw(l->x, run, (protocol)p, 1, &c);
        snprintf(name, sizeof name, "coverage_positive_%s", protocol_name[p]);
        cJSON_AddNumberToObject(row, name, share_with_chain(l->x, run, &c, true));
        snprintf(name, sizeof name, "coverage_negative_%s", protocol_name[p]);
        cJSON_AddNumberToObject(row, name, share_with_chain(l->x, run, &c, false));
        r2_candidates_free(&l->x->ctx, &c);
    }
    xp_save(l->x, "cases", row);
}

/* What data these are. */
static void set_row(lab *l) {
    const r2_data *data;
    int64_t *n, single = 0, rated = 0;
    cJSON *row;
    if (xp_has(l->x, "set")) return;
    data = &lab_run(l)->data;
    n = (int64_t *)xp_need(l->x, r2_alloc(&l->x->ctx, (uint64_t)data->n_items, sizeof *n));
    for (int64_t k = 0; k < data->n_ratings; ++k) n[data->item[k]]++;
    for (int64_t i = 0; i < data->n_items; ++i) single += n[i] == 1, rated += n[i] > 0;
    r2_release(&l->x->ctx, n);
    row = cJSON_CreateObject();
    cJSON_AddNumberToObject(row, "users", (double)data->n_users);
    cJSON_AddNumberToObject(row, "items", (double)rated);
    cJSON_AddNumberToObject(row, "ratings", (double)data->n_ratings);
    cJSON_AddNumberToObject(row, "single", (double)single / (double)rated);
    cJSON_AddNumberToObject(row, "cold_cases", (double)l->run.split.n_cold_test);
    xp_save(l->x, "set", row);
}

/* ---- rating prediction: every rating held out of training, of users that have some in it ----

   From the validation positive on everything of a user is held out, and besides the two positives
   nothing of that is a favourite. So the ratings held out are lower than those trained on, and
   every method guesses too high, which the calibration error shows: the figures compare methods. */

typedef struct rated {
    int64_t n;
    uint32_t *user, *item;
    float *rating, *guess;
} rated;

static void rated_init(xp *x, const r2_run *run, rated *r) {
    uint64_t n = (uint64_t)run->data.n_ratings;
    memset(r, 0, sizeof *r);
    r->user = (uint32_t *)xp_need(x, r2_alloc(&x->ctx, n, sizeof *r->user));
    r->item = (uint32_t *)xp_need(x, r2_alloc(&x->ctx, n, sizeof *r->item));
    r->rating = (float *)xp_need(x, r2_alloc(&x->ctx, n, sizeof *r->rating));
    r->guess = (float *)xp_need(x, r2_alloc(&x->ctx, n, sizeof *r->guess));
    for (int64_t u = 0; u < run->data.n_users; ++u)
        for (int64_t k = run->data.user_begin[u]; k < run->data.user_begin[u + 1]; ++k) {
            if (run->split.role[k] == R2_TRAIN ||
                r2_graph_user_degree(&run->graph, (uint32_t)u) < 1)
                continue;
            r->user[r->n] = (uint32_t)u;
            r->item[r->n] = run->data.item[k];
            r->rating[r->n++] = run->data.rating[k];
        }
}

static void rated_free(xp *x, rated *r) {
    r2_release(&x->ctx, r->user);
    r2_release(&x->ctx, r->item);
    r2_release(&x->ctx, r->rating);
    r2_release(&x->ctx, r->guess);
}

typedef struct guessed {
    float guess, rating;
} guessed;

static int by_guess(const void *a, const void *b) {
    const guessed *x = (const guessed *)a, *y = (const guessed *)b;
    if (x->guess != y->guess) return x->guess < y->guess ? -1 : 1;
    return (x->rating > y->rating) - (x->rating < y->rating);
}

/* Mean absolute and root mean square error; calibration: mean |mean guess - mean rating| of ten
   equal shares of the guesses, from the lowest to the highest. */
static cJSON *rated_row(xp *x, const rated *r) {
    double absolute = 0.0, square = 0.0, off = 0.0;
    guessed *sorted = (guessed *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)r->n, sizeof *sorted));
    cJSON *row = cJSON_CreateObject();
    for (int64_t k = 0; k < r->n; ++k) {
        double error = (double)r->guess[k] - (double)r->rating[k];
        absolute += fabs(error) / (double)r->n;
        square += error * error / (double)r->n;
        sorted[k].guess = r->guess[k];
        sorted[k].rating = r->rating[k];
    }
    qsort(sorted, (size_t)r->n, sizeof *sorted, by_guess);
    for (int b = 0; b < 10; ++b) {
        double sum = 0.0;
        for (int64_t k = r->n * b / 10; k < r->n * (b + 1) / 10; ++k)
            sum += (double)sorted[k].guess - (double)sorted[k].rating;
        off += fabs(sum) / (double)r->n;
    }
    r2_release(&x->ctx, sorted);
    cJSON_AddNumberToObject(row, "n", (double)r->n);
    cJSON_AddNumberToObject(row, "mae", absolute);
    cJSON_AddNumberToObject(row, "rmse", sqrt(square));
    cJSON_AddNumberToObject(row, "calibration", off);
    return row;
}

/* Shrunk to the global mean as by 5 ratings. */
static void guess_item_mean(const r2_run *run, rated *r) {
    const r2_graph *g = &run->graph;
    double mean = run->index.rating_sum / (double)g->n_edges;
    for (int64_t k = 0; k < r->n; ++k) {
        double sum = 5.0 * mean, n = 5.0;
        for (int64_t j = g->item_begin[r->item[k]]; j < g->item_begin[r->item[k] + 1];
             ++j, n += 1.0)
            sum += (double)g->user_rating[g->item_edge[j]];
        r->guess[k] = (float)(sum / n);
    }
}

/* Biased matrix factorisation (Koren 2009) by stochastic gradient descent: 16 factors, rate 0.01,
   regularisation 0.05; the epochs are those that a tenth of the training ratings liked best. */
typedef struct mf {
    int64_t dim;
    double mean, *bias_u, *bias_i, *u, *i;
} mf;

static double mf_guess(const mf *m, uint32_t user, uint32_t item) {
    return m->mean + m->bias_u[user] + m->bias_i[item] +
           bl_dot(m->u + user * m->dim, m->i + item * m->dim, m->dim);
}

static void mf_step(mf *m, uint32_t user, uint32_t item, double rating) {
    double error = rating - mf_guess(m, user, item), *u = m->u + user * m->dim,
           *i = m->i + item * m->dim;
    m->bias_u[user] += 0.01 * (error - 0.05 * m->bias_u[user]);
    m->bias_i[item] += 0.01 * (error - 0.05 * m->bias_i[item]);
    for (int64_t k = 0; k < m->dim; ++k) {
        double uk = u[k];
        u[k] += 0.01 * (error * i[k] - 0.05 * uk);
        i[k] += 0.01 * (error * uk - 0.05 * i[k]);
    }
}

/* Trains on the edges that are not held out (hash mod 10 != 0, or all), at most `epochs`; returns
   the epoch with the least squared error on those held out. */
static int mf_train(mf *m, const r2_graph *g, const uint32_t *owner, uint64_t seed, bool hold_out,
                    int epochs) {
    double least = INFINITY;
    int best = epochs;
    for (int epoch = 1; epoch <= epochs; ++epoch) {
        r2_rng rng = r2_rng_make(seed, R2_STREAM_BATCH, (uint64_t)epoch);
        double square = 0.0;
        for (int64_t k = 0; k < g->n_edges; ++k) {
            uint64_t e = r2_rng_below(&rng, (uint64_t)g->n_edges);
            if (hold_out && r2_hash(seed, e, 10) % 10 == 0) continue;
            mf_step(m, owner[e], g->user_item[e], (double)g->user_rating[e]);
        }
        for (int64_t e = 0; e < g->n_edges && hold_out; ++e) {
            double error = mf_guess(m, owner[e], g->user_item[e]) - (double)g->user_rating[e];
            if (r2_hash(seed, (uint64_t)e, 10) % 10 == 0) square += error * error;
        }
        if (hold_out && square < least) least = square, best = epoch;
    }
    return best;
}

static void guess_mf(xp *x, const r2_run *run, rated *r) {
    const r2_graph *g = &run->graph;
    uint32_t *owner = (uint32_t *)xp_need(x, bl_owners(&x->ctx, g));
    int epochs = 60;
    for (int round = 0; round < 2; ++round) { /* to find the epochs, then to train on everything */
        bl_model memory;
        mf m;
        memset(&memory, 0, sizeof memory);
        memory.run = run;
        xp_check(x, bl_factors_init(&x->ctx, &memory, 16, 0.1));
        m.dim = 16;
        m.mean = run->index.rating_sum / (double)g->n_edges;
        m.u = memory.user;
        m.i = memory.item;
        m.bias_i = memory.bias;
        m.bias_u = (double *)xp_need(x, bl_array(&x->ctx, &memory, g->n_users, 1));
        epochs = mf_train(&m, g, owner, run->config.seed, round == 0, epochs);
        for (int64_t k = 0; k < r->n; ++k) {
            double guess = mf_guess(&m, r->user[k], r->item[k]);
            r->guess[k] = (float)fmax((double)g->rating_min, fmin((double)g->rating_max, guess));
        }
        bl_free(&x->ctx, &memory);
    }
    r2_release(&x->ctx, owner);
}

/* Expected level given that the user interacts, 1 .. 5 on the way from the least to the most
   stars. */
static void guess_model(lab *l, r2_mode mode, rated *r) {
    xp *x = l->x;
    const r2_graph *g = &l->run.graph;
    r2_score_config how = r2_score_config_default();
    r2_evidence *evidence = (r2_evidence *)xp_need(
        x, r2_alloc(&x->ctx, (uint64_t)r->n, sizeof *evidence));
    const r2_candidates asked_for = {r->n, 1, r->user, r->item};
    r2_examples asked;
    how.mode = mode;
    how.kind = R2_SCORE_RATING;
    xp_check(x, r2_run_candidate_prompts(&x->ctx, &l->run, &asked_for, evidence, &asked));
    xp_check(x, r2_score(&x->ctx, &l->run.model, &asked, &how, r->guess, NULL));
    for (int64_t k = 0; k < r->n; ++k)
        r->guess[k] = g->rating_min + (r->guess[k] - 1.0f) / 4.0f * (g->rating_max - g->rating_min);
    r2_examples_free(&x->ctx, &asked);
    r2_release(&x->ctx, evidence);
}

static const char *const rating_method[] = {"item-mean", "biased-mf", "sft-direct", "sft-reasoned"};

static void rating_rows(lab *l) {
    for (int k = 0; k < 4; ++k) {
        rated r;
        char key[100];
        snprintf(key, sizeof key, "rating-%s-m%d", rating_method[k], (int)l->model);
        if (xp_has(l->x, key)) continue;
        rated_init(l->x, lab_run(l), &r);
        if (k == 0) guess_item_mean(&l->run, &r);
        if (k == 1) guess_mf(l->x, &l->run, &r);
        if (k >= 2) {
            lab_train(l, SFT_DIRECT);
            guess_model(l, k == 2 ? R2_DIRECT : R2_REASONED, &r);
        }
        xp_save(l->x, key, rated_row(l->x, &r));
        rated_free(l->x, &r);
    }
}

/* ---- counterfactual faithfulness on the validation positives ---- */

static const stage causal_stage[] = {SFT_REASONED, RL_REASONED};

static void causal_row(lab *l, stage s, r2_change change) {
    xp *x = l->x;
    const r2_candidates *valid;
    uint64_t n;
    r2_evidence *evidence;
    r2_examples asked;
    r2_causal causal;
    cJSON *row;
    uint32_t *item;
    char key[100];
    snprintf(key, sizeof key, "causal-%s-%s-m%d", stage_name[s],
             change == R2_CHANGE_FLIP ? "flip" : "remove", (int)l->model);
    if (xp_has(x, key)) return;
    lab_train(l, s);
    valid = &l->run.valid;
    n = (uint64_t)valid->n_cases;
    evidence = (r2_evidence *)xp_need(x, r2_alloc(&x->ctx, n, sizeof *evidence));
    item = (uint32_t *)xp_need(x, r2_alloc(&x->ctx, n, sizeof *item));
    for (uint64_t k = 0; k < n; ++k) item[k] = valid->item[k * (uint64_t)valid->n_per_case];
    const r2_candidates positives = {valid->n_cases, 1, valid->user, item};
    xp_check(x, r2_run_candidate_prompts(&x->ctx, &l->run, &positives, evidence, &asked));
    xp_check(x, r2_counterfactual(&x->ctx, &l->run.model, &asked, &l->run.codebook,
                                 &l->run.vocab, change, &causal));
    row = cJSON_CreateObject();
    cJSON_AddNumberToObject(row, "n", (double)causal.n);
    cJSON_AddNumberToObject(row, "cited_moved", causal.cited_moved);
    cJSON_AddNumberToObject(row, "uncited_moved", causal.uncited_moved);
    cJSON_AddNumberToObject(row, "cited_shift", causal.cited_shift);
    cJSON_AddNumberToObject(row, "uncited_shift", causal.uncited_shift);
    cJSON_AddNumberToObject(row, "drawn_moved", causal.drawn_moved);
    cJSON_AddNumberToObject(row, "drawn_shift", causal.drawn_shift);
    xp_save(x, key, row);
    r2_examples_free(&x->ctx, &asked);
    r2_release(&x->ctx, item);
    r2_release(&x->ctx, evidence);
}

/* ---- tables ---- */

typedef struct report {
    xp *x;
    r2_text text; /* Markdown, for the terminal as well */
    cJSON *json;
    size_t before, after; /* lengths of the text: before the table that is open, and its head */
} report;

/* Over the rows of one model, or of all (0), and the first `seeds` candidate sets. */
static xp_mean mean_of_model(xp *x, int method, protocol p, int64_t only, int64_t seeds) {
    xp_mean mean = {0, 0, NULL};
    for (int64_t model = only ? only : 1; model <= (only ? only : x->models); ++model)
        for (int64_t seed = 1; seed <= seeds; ++seed) {
            char key[100];
            cJSON *row;
            row_key(key, method, p, model, seed);
            row = xp_load(x, key);
            if (row) xp_mean_add(x, &mean, row);
            cJSON_Delete(row);
        }
    return mean;
}

static xp_mean mean_of(xp *x, int method, protocol p) {
    return mean_of_model(x, method, p, 0, x->seeds);
}

/* The classical method that is best on validation: what the others are compared with. */
static int reference_method(xp *x) {
    int best = 1;
    double best_value = -1.0;
    for (int b = 0; b < BL_N_METHODS; ++b) {
        char key[100];
        cJSON *row;
        snprintf(key, sizeof key, "tuned-%s-m1", bl_methods[b].name);
        row = xp_load(x, key);
        if (row && bl_methods[b].fit != bl_logistic_fit &&
            xp_number(row, "validation_hr@1") > best_value)
            best_value = xp_number(row, "validation_hr@1"), best = b;
        cJSON_Delete(row);
    }
    return best;
}

static double mcnemar_of(const xp_mean *a, const xp_mean *b) {
    int64_t only_a = 0, only_b = 0;
    for (int64_t k = 0; k < a->n; ++k) { /* by majority of the seeds; XP_HR1 comes first */
        bool hit_a = a->value[k] > 0.5, hit_b = b->value[k] > 0.5;
        only_a += hit_a && !hit_b;
        only_b += hit_b && !hit_a;
    }
    return r2_mcnemar(only_a, only_b);
}

/* A table: title, columns; rows are added after it. */
static void open_table(report *r, const char *title, const char *columns) {
    r->before = r->text.len;
    r2_text_addf(&r->x->ctx, &r->text, "\n%s\n\n| %s |\n|", title, columns);
    for (const char *c = columns; c; c = strchr(c, '|'), c = c ? c + 1 : NULL)
        r2_text_addf(&r->x->ctx, &r->text, "---|");
    r2_text_addf(&r->x->ctx, &r->text, "\n");
    r->after = r->text.len;
}

/* One without rows was never there. */
static void close_table(report *r) {
    if (r->text.len != r->after || r->text.failed) return;
    r->text.len = r->before;
    r->text.data[r->text.len] = 0;
}

static void table_row(report *r, int method, protocol p, const xp_mean *mean,
                      const xp_mean *reference) {
    xp *x = r->x;
    double lo, hi, d_lo, d_hi;
    cJSON *json = cJSON_CreateObject();
    xp_interval(x, mean, NULL, XP_HR1, &lo, &hi);
    xp_interval(x, mean, reference, XP_HR1, &d_lo, &d_hi);
    r2_text_addf(&x->ctx, &r->text,
                 "| %s | %.3f [%.3f, %.3f] | %.3f | %.3f | %.3f | %.3f | %+.3f [%+.3f, %+.3f] | "
                 "%.2g | %.3f |\n",
                 method_name(method), xp_average(mean, XP_HR1), lo, hi, xp_average(mean, XP_HR5),
                 xp_average(mean, XP_NDCG5), xp_average(mean, XP_NDCG10), xp_average(mean, XP_MRR),
                 xp_average(mean, XP_HR1) - xp_average(reference, XP_HR1), d_lo, d_hi,
                 mcnemar_of(mean, reference), xp_average(mean, XP_TIE));
    cJSON_AddStringToObject(json, "method", method_name(method));
    cJSON_AddStringToObject(json, "protocol", protocol_name[p]);
    cJSON_AddNumberToObject(json, "n_users", (double)mean->n);
    cJSON_AddNumberToObject(json, "n_rows", (double)mean->n_rows);
    for (int m = 0; m < XP_N; ++m)
        cJSON_AddNumberToObject(json, xp_metric_name[m], xp_average(mean, (xp_metric)m));
    cJSON_AddNumberToObject(json, "hr@1_lo", lo);
    cJSON_AddNumberToObject(json, "hr@1_hi", hi);
    cJSON_AddNumberToObject(json, "difference_lo", d_lo);
    cJSON_AddNumberToObject(json, "difference_hi", d_hi);
    cJSON_AddNumberToObject(json, "mcnemar_p", mcnemar_of(mean, reference));
    cJSON_AddItemToArray(r->json, json);
}

/* Says after a table which methods are not in it, and why. */
static void missing_rows(report *r, protocol p, int64_t n_users) {
    const char *why[N_METHODS];
    xp everything = *r->x;
    everything.only = NULL;
    for (int method = 0; method < N_METHODS; ++method) {
        xp_mean mean = mean_of(r->x, method, p);
        why[method] = left_out(&everything, method, p);
        if (!why[method]) why[method] = mean.n ? "other cases" : "not computed yet";
        if (mean.n == n_users) why[method] = NULL;
        xp_mean_free(r->x, &mean);
    }
    for (int method = 0; method < N_METHODS; ++method) {
        const char *reason = why[method];
        if (!reason) continue;
        r2_text_addf(&r->x->ctx, &r->text, "\nLeft out:");
        for (int other = method; other < N_METHODS; ++other) {
            if (!why[other] || strcmp(why[other], reason) != 0) continue;
            r2_text_addf(&r->x->ctx, &r->text, " %s", method_name(other));
            why[other] = NULL;
        }
        r2_text_addf(&r->x->ctx, &r->text, " (%s)\n", reason);
    }
}

static void protocol_table(report *r, protocol p, int reference) {
    xp *x = r->x;
    xp_mean base = mean_of(x, reference, p);
    char title[100], columns[200];
    snprintf(title, sizeof title, "%s, %lld users", protocol_name[p], (long long)base.n);
    snprintf(columns, sizeof columns,
             "method | HR@1 [95 %%] | HR@5 | NDCG@5 | NDCG@10 | MRR | HR@1 - %s | McNemar p | ties",
             method_name(reference));
    open_table(r, title, columns);
    for (int method = 0; method < N_METHODS && base.n; ++method) {
        xp_mean mean = mean_of(x, method, p);
        if (mean.n == base.n) table_row(r, method, p, &mean, &base);
        xp_mean_free(x, &mean);
    }
    if (base.n) missing_rows(r, p, base.n);
    close_table(r);
    xp_mean_free(x, &base);
}

/* One stage against another under one protocol: the paired difference, and each model seed's own.
   */
static void stage_row(report *r, stage a, stage b, protocol p) {
    xp *x = r->x;
    int method_a = BL_N_METHODS + (int)a, method_b = BL_N_METHODS + (int)b;
    int64_t seeds = is_sampled(a) ? 1 : x->seeds;
    xp_mean of_a = mean_of_model(x, method_a, p, 0, seeds);
    xp_mean of_b = mean_of_model(x, method_b, p, 0, seeds);
    if (of_a.n && of_a.n == of_b.n) {
        double lo, hi;
        xp_interval(x, &of_a, &of_b, XP_HR1, &lo, &hi);
        r2_text_addf(&x->ctx, &r->text, "| %s | %s - %s | %+.4f [%+.4f, %+.4f] |", protocol_name[p],
                     stage_name[a], stage_name[b],
                     xp_average(&of_a, XP_HR1) - xp_average(&of_b, XP_HR1), lo, hi);
        for (int64_t model = 1; model <= x->models; ++model) {
            xp_mean one = mean_of_model(x, method_a, p, model, seeds);
            xp_mean other = mean_of_model(x, method_b, p, model, seeds);
            r2_text_addf(&x->ctx, &r->text, " %.4f - %.4f", xp_average(&one, XP_HR1),
                         xp_average(&other, XP_HR1));
            xp_mean_free(x, &one);
            xp_mean_free(x, &other);
        }
        r2_text_addf(&x->ctx, &r->text, " |\n");
    }
    xp_mean_free(x, &of_a);
    xp_mean_free(x, &of_b);
}

static void stage_table(report *r) {
    static const stage pair[][2] = {{SFT_REASONED, SFT_DIRECT}, {SFT_SAMPLED, SFT_REASONED},
                                    {RL_DIRECT, SFT_DIRECT},    {RL_REASONED, SFT_REASONED},
                                    {RL_REASONED, RL_DIRECT},   {RL_SAMPLED, SFT_SAMPLED}};
    open_table(r, "Our stages against each other, HR@1, paired over users",
               "protocol | stages | difference [95 %] | model by model");
    for (int p = U19; p < CATALOGUE; ++p)
        for (size_t k = 0; k < sizeof pair / sizeof pair[0]; ++k)
            stage_row(r, pair[k][0], pair[k][1], (protocol)p);
    close_table(r);
}

/* Shares of the traces under 1 + 19 that have the right shape, and that the strict checker accepts:
   the mean of all rows, and the lowest and the highest. */
static void trace_table(report *r) {
    xp *x = r->x;
    char title[100];
    snprintf(title, sizeof title, "Traces (1+19; sampled: %d each at temperature 1)", (int)SAMPLES);
    open_table(r, title, "stage | well formed | strictly faithful | lowest, highest");
    for (int s = 0; s < N_STAGES; ++s) {
        double formed = 0.0, faithful = 0.0, least = 1.0, most = 0.0, n = 0.0;
        for (int64_t model = 1; model <= x->models; ++model)
            for (int64_t seed = 1; seed <= x->seeds; ++seed) {
                char key[100];
                cJSON *row;
                const cJSON *traces;
                row_key(key, BL_N_METHODS + s, U19, model, seed);
                row = xp_load(x, key);
                traces = cJSON_GetObjectItemCaseSensitive(row, "traces");
                if (traces && xp_number(traces, "well_formed") > 0.0) {
                    double share = xp_number(traces, "faithful");
                    formed += xp_number(traces, "well_formed"), faithful += share, n += 1.0;
                    least = fmin(least, share), most = fmax(most, share);
                }
                cJSON_Delete(row);
            }
        if (n > 0.0)
            r2_text_addf(&x->ctx, &r->text, "| %s | %.4f | %.4f | %.4f, %.4f |\n", stage_name[s],
                         formed / n, faithful / n, least, most);
    }
    close_table(r);
}

/* HR@1 (1+19) of the thirds of the users by a number that each of them has. */
static void split_table(report *r, const char *what) {
    xp *x = r->x;
    cJSON *cases = xp_load(x, "cases");
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(cases, what);
    int64_t n = list ? cJSON_GetArraySize(list) : 0, k = 0;
    double *value = (double *)xp_need(x, r2_alloc(&x->ctx, 2 * (uint64_t)n, sizeof *value));
    double *ordered = value + n, high = NAN, low = NAN;
    char title[200];
    for (const cJSON *e = list ? list->child : NULL; e; e = e->next, ++k)
        value[k] = ordered[k] = e->valuedouble;
    if (n > 2) {
        high = bl_largest_but(ordered, n, n / 3), low = bl_largest_but(ordered, n, 2 * n / 3);
        snprintf(title, sizeof title, "HR@1 (1+19) by %s: above %g, between, at most %g", what,
                 high, low);
        open_table(r, title, "method | high | middle | low");
    }
    for (int method = 0; method < N_METHODS && n > 2; ++method) {
        xp_mean mean = mean_of(x, method, U19);
        double sum[3] = {0, 0, 0}, count[3] = {0, 0, 0};
        for (k = 0; k < n && mean.n == n; ++k) {
            int third = value[k] > high ? 0 : value[k] > low ? 1 : 2;
            sum[third] += mean.value[k];
            count[third] += 1.0;
        }
        if (mean.n == n)
            r2_text_addf(&x->ctx, &r->text, "| %s | %.3f | %.3f | %.3f |\n", method_name(method),
                         sum[0] / count[0], sum[1] / count[1], sum[2] / count[2]);
        xp_mean_free(x, &mean);
    }
    if (n > 2) close_table(r);
    r2_release(&x->ctx, value);
    cJSON_Delete(cases);
}

/* Numbers of the rows KEY-m1 .. KEY-mN, averaged over model seeds; false when there are none. */
static bool average_row(xp *x, const char *key, const char *const *name, int n, double *value) {
    int64_t n_rows = 0;
    for (int k = 0; k < n; ++k) value[k] = 0.0;
    for (int64_t model = 1; model <= x->models; ++model) {
        char full[120];
        cJSON *row;
        snprintf(full, sizeof full, "%s-m%d", key, (int)model);
        row = xp_load(x, full);
        for (int k = 0; k < n && row; ++k) value[k] += xp_number(row, name[k]);
        n_rows += row != NULL;
        cJSON_Delete(row);
    }
    for (int k = 0; k < n && n_rows; ++k) value[k] /= (double)n_rows;
    return n_rows > 0;
}

static void other_tables(report *r) {
    static const char *const rating[] = {"mae", "rmse", "calibration", "n"};
    static const char *const causal[] = {"cited_moved",
                                         "drawn_moved",
                                         "uncited_moved",
                                         "cited_shift",
                                         "drawn_shift",
                                         "uncited_shift",
                                         "n"};
    static const char *const changes[] = {"flip", "remove"};
    xp *x = r->x;
    double v[7];
    char key[100];
    open_table(r, "Ratings held out (lower by their making than those trained on)",
               "method | MAE | RMSE | calibration error | ratings");
    for (int k = 0; k < 4; ++k) {
        snprintf(key, sizeof key, "rating-%s", rating_method[k]);
        if (average_row(x, key, rating, 4, v))
            r2_text_addf(&x->ctx, &r->text, "| %s | %.3f | %.3f | %.3f | %.0f |\n",
                         rating_method[k], v[0], v[1], v[2], v[3]);
    }
    close_table(r);
    open_table(r,
               "Counterfactual faithfulness (validation positives): shares moved as the weights say, "
               "mean shifts",
               "model | change | cited moved | uncited moved | uncited alike moved | cited shift | "
               "uncited shift | uncited alike shift | traces");
    for (int k = 0; k < 2; ++k)
        for (int c = 0; c < 2; ++c) {
            stage s = causal_stage[k];
            snprintf(key, sizeof key, "causal-%s-%s", stage_name[s], changes[c]);
            if (average_row(x, key, causal, 7, v))
                r2_text_addf(&x->ctx, &r->text,
                             "| %s | %s | %.3f | %.3f | %.3f | %+.3f | %+.3f | %+.3f | %.0f |\n",
                             stage_name[s], changes[c], v[0], v[1], v[2], v[3], v[4], v[5], v[6]);
        }
    close_table(r);
}

static void coverage_table(report *r) {
    cJSON *cases = xp_load(r->x, "cases");
    open_table(r, "Share of candidates with a chain", "protocol | positives | negatives");
    for (int p = 0; p < CATALOGUE && cases; ++p) {
        char positive[60], negative[60];
        if (p == U99) continue;
        snprintf(positive, sizeof positive, "coverage_positive_%s", protocol_name[p]);
        snprintf(negative, sizeof negative, "coverage_negative_%s", protocol_name[p]);
        r2_text_addf(&r->x->ctx, &r->text, "| %s | %.3f | %.3f |\n", protocol_name[p],
                     xp_number(cases, positive), xp_number(cases, negative));
    }
    close_table(r);
    cJSON_Delete(cases);
}

static void write_report(xp *x) {
    report r;
    int reference = reference_method(x);
    cJSON *set = xp_load(x, "set");
    memset(&r, 0, sizeof r);
    r.x = x;
    r.json = cJSON_CreateArray();
    r2_text_addf(&x->ctx, &r.text,
                 "`build/examples/experiments/results --data %s %s --seeds %lld --models %lld`: "
                 "mean of the seeds, intervals over users\n",
                 x->data, x->full ? "--full" : "--quick", (long long)x->seeds,
                 (long long)x->models);
    if (set && xp_number(set, "cold_cases") > 0.0)
        r2_text_addf(&x->ctx, &r.text,
                     "\nThe favourites of %.0f more test users have no training rating by anybody else; "
                     "they are in %s alone.\n", xp_number(set, "cold_cases"), protocol_name[ALL]);
    cJSON_Delete(set);
    for (int p = 0; p < N_PROTOCOLS; ++p) protocol_table(&r, (protocol)p, reference);
    stage_table(&r);
    trace_table(&r);
    split_table(&r, "activity");
    split_table(&r, "popularity");
    coverage_table(&r);
    other_tables(&r);
    xp_report(x, &r.text, r.json);
}

/* ---- the journey ---- */

static int64_t count_rows(const xp *x) {
    int64_t n = 2;
    for (int method = 0; method < N_METHODS; ++method)
        for (int p = 0; p < N_PROTOCOLS; ++p)
            if (is_asked(x, method, (protocol)p))
                n += n_seeds(x, method, (protocol)p) * (is_seeded(method) ? x->models : 1);
    return x->only ? n - 1 : n + x->models * (4 + 4);
}

/* A slow method takes minutes, the others take one in all. */
static double seconds_of_rows(const xp *x) {
    double seconds = 60.0;
    bool ours = !x->only;
    for (int method = 0; method < N_METHODS && x->only; ++method)
        if (!strcmp(x->only, method_name(method))) {
            ours = method >= BL_N_METHODS;
            if (!ours && bl_methods[method].slow) seconds = 600.0 * (double)x->models;
        }
    if (ours) seconds += (double)x->models * xp_training_seconds(x, true);
    return seconds + 4.0 * (double)x->n_rows;
}

static void compute(xp *x) {
    x->ctx.hook_data = x;
    xp_claim(x);
    x->n_rows = count_rows(x);
    xp_plan(x, seconds_of_rows(x));
    for (int64_t model = x->first; model <= x->models; ++model) {
        lab l;
        memset(&l, 0, sizeof l);
        l.x = x;
        l.model = model;
        for (int method = 0; method < N_METHODS; ++method)
            if (model == 1 || is_seeded(method)) method_rows(&l, method);
        set_row(&l);
        if (!x->only && !x->brief) case_row(&l), rating_rows(&l);
        for (int k = 0; k < 2 && !x->only && !x->brief; ++k) {
            causal_row(&l, causal_stage[k], R2_CHANGE_FLIP);
            causal_row(&l, causal_stage[k], R2_CHANGE_REMOVE);
        }
        lab_close(&l);
    }
}

/* ---- several data sets ---- */

/* Adds " | a - b [interval]" of two methods. */
static void add_difference(report *r, const xp_mean *a, const xp_mean *b) {
    double lo, hi;
    if (!a->n || a->n != b->n) {
        r2_text_addf(&r->x->ctx, &r->text, " |");
        return;
    }
    xp_interval(r->x, a, b, XP_HR1, &lo, &hi);
    r2_text_addf(&r->x->ctx, &r->text, " | %+.3f [%+.3f, %+.3f]",
                 xp_average(a, XP_HR1) - xp_average(b, XP_HR1), lo, hi);
}

/* One set under one protocol; returns ours / best classical, NAN without either. */
static double set_line(report *r, protocol p) {
    enum { CLASSICAL, LOGISTIC, DIRECT, REASONED, GRPO, POPULARITY, N };
    xp *x = r->x;
    const int reference = reference_method(x);
    int method[N] = {reference, 0, BL_N_METHODS + SFT_DIRECT, BL_N_METHODS + SFT_REASONED,
                     BL_N_METHODS + RL_REASONED, 0};
    xp_mean mean[N];
    double ratio;
    cJSON *set = xp_load(x, "set"), *json = cJSON_CreateObject();
    while (bl_methods[method[LOGISTIC]].fit != bl_logistic_fit) method[LOGISTIC]++;
    while (bl_methods[method[POPULARITY]].score != bl_popularity) method[POPULARITY]++;
    for (int k = 0; k < N; ++k) mean[k] = mean_of(x, method[k], p);
    ratio = mean[GRPO].n ? xp_average(&mean[GRPO], XP_HR1) / xp_average(&mean[CLASSICAL], XP_HR1)
                         : NAN;
    r2_text_addf(&x->ctx, &r->text, "| %s | %.0f, %.0f, %.0f | %.2f | %s | %lld | %s",
                 strrchr(x->data, '/') ? strrchr(x->data, '/') + 1 : x->data,
                 xp_number(set, "users"), xp_number(set, "items"), xp_number(set, "ratings"),
                 xp_number(set, "single"), protocol_name[p], (long long)mean[CLASSICAL].n,
                 method_name(reference));
    cJSON_AddStringToObject(json, "data", x->data);
    cJSON_AddStringToObject(json, "protocol", protocol_name[p]);
    for (int k = 0; k < N; ++k) {
        double lo = NAN, hi = NAN;
        if (mean[k].n) xp_interval(x, &mean[k], NULL, XP_HR1, &lo, &hi);
        if (mean[k].n && (k != POPULARITY || method[k] != reference))
            cJSON_AddNumberToObject(json, method_name(method[k]), xp_average(&mean[k], XP_HR1));
        if (mean[k].n)
            r2_text_addf(&x->ctx, &r->text, "%s %.3f [%.3f, %.3f]", k == CLASSICAL ? "" : " |",
                         xp_average(&mean[k], XP_HR1), lo, hi);
        else r2_text_addf(&x->ctx, &r->text, " |");
    }
    add_difference(r, &mean[GRPO], &mean[CLASSICAL]);
    add_difference(r, &mean[REASONED], &mean[DIRECT]);
    add_difference(r, &mean[GRPO], &mean[REASONED]);
    r2_text_addf(&x->ctx, &r->text, " |\n");
    for (int k = 0; k < N; ++k) xp_mean_free(x, &mean[k]);
    cJSON_Delete(set);
    cJSON_AddItemToArray(r->json, json);
    return ratio;
}

/* One table of n sets; their rows are in out/NAME. */
static void write_sets(xp *all, xp *set, int n) {
    static const protocol shown[] = {U19, ALL};
    report r;
    memset(&r, 0, sizeof r);
    r.x = all;
    r.json = cJSON_CreateArray();
    r2_text_addf(&all->ctx, &r.text,
                 "`build/examples/experiments/results --data \"%s\" %s --seeds %lld --models %lld`: "
                 "HR@1, mean of the seeds, intervals over users\n\n",
                 all->data, all->full ? "--full" : "--quick", (long long)all->seeds,
                 (long long)all->models);
    r2_text_addf(&all->ctx, &r.text,
                 "| data | users, items, ratings | items with a single rating | protocol | cases | "
                 "best classical, on validation | logistic | SFT, direct | SFT, reasoned | GRPO | "
                 "popularity | GRPO - classical | reasoned - direct | GRPO - SFT |\n"
                 "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n");
    for (int k = 0; k < 2; ++k) {
        double product = 0.0, least = INFINITY, n_ratios = 0.0;
        for (int s = 0; s < n; ++s) {
            r.x = &set[s];
            const double ratio = set_line(&r, shown[k]);
            if (isnan(ratio)) continue;
            product += log(ratio), n_ratios += 1.0, least = fmin(least, ratio);
        }
        if (n_ratios > 0.0)
            r2_text_addf(&all->ctx, &r.text, "| GRPO / classical | | | %s | | geometric mean %.3f, "
                         "lowest %.3f | | | | | | | | |\n", protocol_name[shown[k]],
                         exp(product / n_ratios), least);
    }
    r.x = all;
    r2_text_addf(&all->ctx, &r.text, "\nLeft out: the slow methods (ials, bpr-mf, lightgcn, sasrec)\n");
    xp_report(all, &r.text, r.json);
}

static void several(xp *all) {
    static xp set[XP_MOST_SETS];
    char *names = (char *)xp_need(all, r2_alloc(&all->ctx, strlen(all->data) + 1, 1));
    const int n = xp_open_sets(all, all->name, names, set);
    for (int s = 0; s < n; ++s) {
        set[s].brief = true;
        compute(&set[s]);
    }
    write_sets(all, set, n);
    r2_release(&all->ctx, names);
}

int main(int argc, char **argv) {
    xp x = xp_begin("results", 1, argc, argv);
    x.ctx.hook_data = &x;
    if (xp_unknown(&x, "method", method_name, N_METHODS)) return 2;
    if (strchr(x.data, ' ')) {
        several(&x);
    } else {
        compute(&x);
        write_report(&x);
    }
    return xp_end(&x);
}

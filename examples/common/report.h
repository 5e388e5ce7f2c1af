/* report.h: one page about a run, OUT/report.html. Include after r2rec.h.

       report_init      remembers the command line
       report_watch     keeps the losses and rewards of every training step
       report_scores    how a method ranked the test candidates; report_result its metrics
       report_odds      the same scores are log-odds: are they calibrated?
       report_phase     what took how long
       report_write     asks the model about some test users, draws, writes the page

   All of it is collected as one JSON text and put into the page of report.html, whose script does
   the rest: the page loads nothing. Ids and titles are data and could be anything: they are JSON
   strings without "<", and the script sets them as text. No title reaches gnuplot or
   Graphviz. */
#ifndef R2_REPORT_H
#define R2_REPORT_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

/* The lines of report.html, which make turns into C. */
#if defined(__has_include)
#if __has_include("build/report_page.h")
#include "build/report_page.h"
#define REPORT_HAS_PAGE true
#endif
#endif
#ifndef REPORT_HAS_PAGE
#define REPORT_HAS_PAGE false
static const char *const report_page[] = {NULL};
#endif

enum {
    REPORT_METHODS = 32,
    REPORT_PHASES = 24,
    REPORT_RANKS = 20,   /* HR@1 .. HR@20                                                        */
    REPORT_USERS = 50,   /* of the explorer, ...                                                 */
    REPORT_PAIRS = 1000, /* ... and their candidates at most                                     */
    REPORT_FIRST = 2,    /* of each user: the model's first items, shown in full like the truth   */
    REPORT_HISTORY = 12, /* latest interactions shown                                            */
    REPORT_BINS = 10,    /* of a calibration                                                     */
    REPORT_ROWS = 150,   /* of a learning curve                                                  */
    REPORT_SHAPES = 32   /* layouts of chains                                                    */
};

/* Columns of the learning curves; the first of each is the step. */
#define REPORT_SFT(X) X(answer_loss) X(trace_loss) X(list_loss) X(grad_norm) X(lr) X(valid_loss)
#define REPORT_GRPO(X)                                                                             \
    X(reward_mean)                                                                                 \
    X(reward_std)                                                                                  \
    X(well_formed_outputs)                                                                         \
    X(faithful_outputs)                                                                            \
    X(kl) X(entropy) X(output_length) X(zero_variance_prompts) X(majority_answer) X(clipped_tokens) \
        X(grad_norm)

#define REPORT__X(name) REPORT_SFT_##name,
enum { REPORT_SFT_step, REPORT_SFT(REPORT__X) REPORT_SFT_WIDTH };
#undef REPORT__X
#define REPORT__X(name) REPORT_GRPO_##name,
enum { REPORT_GRPO_step, REPORT_GRPO(REPORT__X) REPORT_GRPO_WIDTH };
#undef REPORT__X

typedef struct report_curve {
    int64_t n, cap;
    int width;
    double *value; /* (n, width) */
} report_curve;

/* Predicted chances of a bin beside what came true. */
typedef struct report_bin {
    int64_t n, hits;
    double chance; /* sum of the predicted ones */
} report_bin;

typedef struct report_method {
    const char *name;
    r2_metrics m;
    bool has_metrics, has_odds;
    int n_scored;             /* calls of report_scores        */
    double hit[REPORT_RANKS]; /* HR@1 .., summed over the calls */
    int32_t *better;          /* (users, n_per_case) of the explorer: how many score higher */
    report_bin bin[REPORT_BINS];
} report_method;

typedef struct report {
    r2_ctx *ctx;
    r2_text command;
    report_curve sft, grpo;
    void (*sft_next)(void *hook_data, const r2_sft_report *step); /* who watched before */
    void (*grpo_next)(void *hook_data, const r2_grpo_report *step);
    void *sft_user, *grpo_user;
    report_method method[REPORT_METHODS];
    int n_methods;
    struct {
        const char *name;
        double seconds;
    } phase[REPORT_PHASES];
    int n_phases;
    bool failed; /* no memory */
    r2_text json;
} report;

/* ---- collecting ---- */

/* A word of the command line as a shell takes it. */
static void report_shell_word(r2_ctx *ctx, r2_text *text, const char *word) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_-./:=+,@%";
    if (*word && strspn(word, plain) == strlen(word)) {
        r2_text_addf(ctx, text, "%s", word);
        return;
    }
    r2_text_addf(ctx, text, "'");
    for (; *word; ++word)
        if (*word == '\'') r2_text_addf(ctx, text, "'\\''");
        else r2_text_add(ctx, text, word, 1);
    r2_text_addf(ctx, text, "'");
}

/* `ctx` must outlive the report. */
static void report_init(report *r, r2_ctx *ctx, int argc, char **argv) {
    memset(r, 0, sizeof *r);
    r->ctx = ctx;
    r->sft.width = REPORT_SFT_WIDTH;
    r->grpo.width = REPORT_GRPO_WIDTH;
    for (int k = 0; k < argc; ++k) {
        if (k > 0) r2_text_addf(ctx, &r->command, " ");
        report_shell_word(ctx, &r->command, argv[k]);
    }
}

static void report_free(report *r) {
    for (int k = 0; k < r->n_methods; ++k) r2_release(r->ctx, r->method[k].better);
    r2_release(r->ctx, r->sft.value);
    r2_release(r->ctx, r->grpo.value);
    r2_text_free(r->ctx, &r->command);
    r2_text_free(r->ctx, &r->json);
    memset(r, 0, sizeof *r);
}

static void report_curve_add(report *r, report_curve *curve, const double *row) {
    if (curve->n == curve->cap) {
        const int64_t cap = curve->cap ? 2 * curve->cap : 256;
        const uint64_t size = (uint64_t)curve->width * sizeof *curve->value;
        double *more = (double *)(curve->value
                                      ? r2_resize(r->ctx, curve->value, (uint64_t)cap, size)
                                      : r2_alloc(r->ctx, (uint64_t)cap, size));
        if (!more) {
            r->failed = true;
            return;
        }
        curve->value = more;
        curve->cap = cap;
    }
    memcpy(curve->value + curve->n++ * curve->width, row, (size_t)curve->width * sizeof *row);
}

static void report_sft_step(void *hook_data, const r2_sft_report *step) {
    report *r = (report *)hook_data;
#define REPORT__X(name) , (double)step->name
    const double row[] = {(double)step->step REPORT_SFT(REPORT__X)};
#undef REPORT__X
    report_curve_add(r, &r->sft, row);
    if (r->sft_next) r->sft_next(r->sft_user, step);
}

static void report_grpo_step(void *hook_data, const r2_grpo_report *step) {
    report *r = (report *)hook_data;
#define REPORT__X(name) , (double)step->name
    const double row[] = {(double)step->step REPORT_GRPO(REPORT__X)};
#undef REPORT__X
    report_curve_add(r, &r->grpo, row);
    if (r->grpo_next) r->grpo_next(r->grpo_user, step);
}

/* Call it before r2_run_init. Who else wants to see the steps sets the hooks before. */
static void report_watch(report *r, r2_run_config *config) {
    r->sft_next = config->sft.on_step;
    r->sft_user = config->sft.on_step_data;
    r->grpo_next = config->grpo.on_step;
    r->grpo_user = config->grpo.on_step_data;
    config->sft.on_step = report_sft_step;
    config->grpo.on_step = report_grpo_step;
    config->sft.on_step_data = config->grpo.on_step_data = r;
}

/* Entry of a name, made if need be; NULL when there are too many. */
static report_method *report_find(report *r, const char *name) {
    for (int k = 0; k < r->n_methods; ++k)
        if (strcmp(r->method[k].name, name) == 0) return &r->method[k];
    if (r->n_methods == REPORT_METHODS) return NULL;
    r->method[r->n_methods].name = name;
    return &r->method[r->n_methods++];
}

/* Users of the explorer lie evenly among the test cases. */
static int64_t report_n_users(const r2_run *run) {
    int64_t n = REPORT_PAIRS / run->test.n_per_case;
    if (n > REPORT_USERS) n = REPORT_USERS;
    if (n < 1) n = 1;
    return n < run->test.n_cases ? n : run->test.n_cases;
}

static int64_t report_case(const r2_run *run, int64_t user) {
    return user * run->test.n_cases / report_n_users(run);
}

/* For each candidate of the explorer's users, how many score higher. */
static int32_t *report_better(report *r, const r2_run *run, const float *score) {
    const int64_t users = report_n_users(run), per_case = run->test.n_per_case;
    int32_t *better = (int32_t *)r2_alloc(r->ctx, (uint64_t)(users * per_case), sizeof *better);
    if (!better) {
        r->failed = true;
        return NULL;
    }
    for (int64_t u = 0; u < users; ++u) {
        const float *row = score + report_case(run, u) * per_case;
        for (int64_t a = 0; a < per_case; ++a)
            for (int64_t b = 0; b < per_case; ++b)
                better[u * per_case + a] += row[b] > row[a] || (isnan(row[a]) && !isnan(row[b]));
    }
    return better;
}

/* score (n_cases, n_per_case) of the test candidates by a method. `name` must outlive the report.
   Called again with the same name, as for several initial weights: HR@K is the mean. */
static void report_scores(report *r, const r2_run *run, const char *name, const float *score) {
    const r2_candidates *test = &run->test;
    report_method *method = report_find(r, name);
    if (!method) return;
    for (int64_t c = 0; c < test->n_cases; ++c) {
        const r2_rank rank = r2_rank_of(score + c * test->n_per_case, test->n_per_case);
        for (int k = 0; k < REPORT_RANKS; ++k)
            method->hit[k] += r2_hit_ratio(rank, k + 1) / (double)test->n_cases;
    }
    if (!method->better) method->better = report_better(r, run, score);
    method->n_scored++;
}

static void report_result(report *r, const char *name, const r2_metrics *m) {
    report_method *method = report_find(r, name);
    if (!method) return;
    method->m = *m;
    method->has_metrics = true;
}

static void report_phase(report *r, const char *name, double seconds) {
    if (r->n_phases == REPORT_PHASES) return;
    r->phase[r->n_phases].name = name;
    r->phase[r->n_phases++].seconds = seconds;
}

/* Bins of the predicted chance end here: most candidates are unlikely ones. */
static const double report_bin_end[REPORT_BINS] = {0.01, 0.02, 0.04, 0.07, 0.12,
                                                   0.2,  0.35, 0.55, 0.8,  1.0};

/* score: log-odds of the test candidates. In training one item in 1 + n_sampled was taken, here one
   in n_per_case: the log-odds are shifted by the difference. */
static void report_odds(report *r, const r2_run *run, const char *name, const float *score) {
    const int64_t per_case = run->test.n_per_case, n = run->test.n_cases * per_case;
    const double shift = log((double)run->config.n_sampled / (double)(per_case - 1));
    report_method *method = report_find(r, name);
    if (!method || per_case < 2) return;
    method->has_odds = true;
    memset(method->bin, 0, sizeof method->bin);
    for (int64_t k = 0; k < n; ++k) {
        const double chance = 1.0 / (1.0 + exp(-((double)score[k] + shift)));
        int b = 0;
        if (isnan(chance)) continue;
        while (b < REPORT_BINS - 1 && chance >= report_bin_end[b]) ++b;
        method->bin[b].n++;
        method->bin[b].hits += k % per_case == 0;
        method->bin[b].chance += chance;
    }
}

/* 95 % interval of a share by Wilson (1927), which stays within [0, 1]. */
static void report_wilson(int64_t hits, int64_t n, double *lo, double *hi) {
    const double z = 1.959964, p = (double)hits / (double)n, m = (double)n;
    const double middle = (p + z * z / (2.0 * m)) / (1.0 + z * z / m);
    const double half = z / (1.0 + z * z / m) * sqrt(p * (1.0 - p) / m + z * z / (4.0 * m * m));
    *lo = middle - half > 0.0 ? middle - half : 0.0;
    *hi = middle + half < 1.0 ? middle + half : 1.0;
}

/* ---- JSON ---- */

#define REPORT_ADD(r, ...) r2_text_addf((r)->ctx, &(r)->json, __VA_ARGS__)

/* A byte of a JSON string that may stand inside a script element: no "<" comes through. */
static void report_byte(report *r, char byte) {
    const unsigned char c = (unsigned char)byte;
    if (c == '"' || c == '\\') REPORT_ADD(r, "\\%c", byte);
    else if (c < 0x20 || c == 0x7F || c == '<') REPORT_ADD(r, "\\u%04x", (unsigned)c);
    else r2_text_add(r->ctx, &r->json, &byte, 1);
}

/* A JSON string of at most `most` bytes of text, cut between characters. */
static void report_string(report *r, const char *text, size_t most) {
    size_t n = strlen(text);
    if (n > most)
        for (n = most; n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80;) --n;
    REPORT_ADD(r, "\"");
    for (size_t k = 0; k < n; ++k) report_byte(r, text[k]);
    REPORT_ADD(r, n < strlen(text) ? "\xE2\x80\xA6\"" : "\"");
}

enum { REPORT_TITLE = 120, REPORT_ANY = 1 << 30 };

static void report_number(report *r, double x, int digits) {
    if (isfinite(x)) REPORT_ADD(r, "%.*g", digits, x);
    else REPORT_ADD(r, "null");
}

/* What comes next in a list: nothing before the first, then commas. */
static void report_comma(report *r, int64_t k) {
    if (k > 0) REPORT_ADD(r, ",");
}

/* "name":value, */
static void report_fact(report *r, const char *name, double value) {
    REPORT_ADD(r, "\"%s\":", name);
    report_number(r, value, 15);
    REPORT_ADD(r, ",");
}

static void report_words(report *r, const char *name, const char *value) {
    REPORT_ADD(r, "\"%s\":", name);
    report_string(r, value, REPORT_ANY);
    REPORT_ADD(r, ",");
}

/* ---- the run as a whole ---- */

static void report_methods(report *r, const r2_run *run) {
    REPORT_ADD(r, "\"methods\":[");
    for (int k = 0; k < r->n_methods; ++k) {
        const report_method *method = &r->method[k];
        const double of[] = {method->m.hr1, method->m.hr1_lo,  method->m.hr1_hi,
                             method->m.hr5, method->m.ndcg5,   method->m.mrr,
                             method->m.auc, method->m.tie_rate};
        report_comma(r, k);
        REPORT_ADD(r, "{");
        report_words(r, "name", method->name);
        REPORT_ADD(r, "\"model\":%s,\"m\":[", method->has_odds ? "true" : "false");
        for (int c = 0; c < 8; ++c) {
            report_comma(r, c);
            report_number(r, method->has_metrics ? of[c] : (double)NAN, 6);
        }
        REPORT_ADD(r, "],\"hit\":[");
        for (int c = 0; c < REPORT_RANKS && c < run->test.n_per_case; ++c) {
            report_comma(r, c);
            report_number(r, method->n_scored ? method->hit[c] / method->n_scored : (double)NAN, 4);
        }
        REPORT_ADD(r, "],\"bins\":[");
        for (int b = 0; b < REPORT_BINS && method->has_odds; ++b) {
            double lo = 0.0, hi = 1.0;
            const report_bin *bin = &method->bin[b];
            if (bin->n > 0) report_wilson(bin->hits, bin->n, &lo, &hi);
            REPORT_ADD(r, "%s[%lld,%lld,%.4g,%.4g,%.4g]", b ? "," : "", (long long)bin->n,
                       (long long)bin->hits, bin->n ? bin->chance / (double)bin->n : 0.0, lo, hi);
        }
        REPORT_ADD(r, "]}");
    }
    REPORT_ADD(r, "],");
}

/* Means over every few steps, so that a curve has REPORT_ROWS rows at most; what was looked at on
   some steps only is the mean over those. Returns how many steps make a row. */
static int64_t report_thin(report_curve *curve) {
    const int64_t every = (curve->n + REPORT_ROWS - 1) / REPORT_ROWS, n = curve->n;
    if (every < 2) return 1;
    curve->n = 0;
    for (int64_t first = 0; first < n; first += every) {
        double *row = curve->value + curve->n++ * curve->width;
        for (int c = 0; c < curve->width; ++c) {
            double sum = 0.0;
            int64_t m = 0;
            for (int64_t k = first; k < first + every && k < n; ++k) {
                const double x = curve->value[k * curve->width + c];
                if (!isnan(x)) sum += x, ++m;
            }
            row[c] = m > 0 ? sum / (double)m : (double)NAN;
        }
    }
    return every;
}

static void report_curve_json(report *r, const char *name, report_curve *curve,
                              const char *const *column) {
    const double steps = curve->n > 0 ? curve->value[(curve->n - 1) * curve->width] : 0.0;
    REPORT_ADD(r, "\"%s\":{\"steps\":%.0f,\"every\":%lld,\"columns\":[", name, steps,
               (long long)report_thin(curve));
    for (int c = 0; c < curve->width; ++c) REPORT_ADD(r, "%s\"%s\"", c ? "," : "", column[c]);
    REPORT_ADD(r, "],\"rows\":[");
    for (int64_t k = 0; k < curve->n; ++k) {
        REPORT_ADD(r, k ? ",[" : "[");
        for (int c = 0; c < curve->width; ++c) {
            report_comma(r, c);
            report_number(r, curve->value[k * curve->width + c], 5);
        }
        REPORT_ADD(r, "]");
    }
    REPORT_ADD(r, "]},");
}

static void report_curves(report *r) {
#define REPORT__X(name) , #name
    static const char *const sft[] = {"step" REPORT_SFT(REPORT__X)};
    static const char *const grpo[] = {"step" REPORT_GRPO(REPORT__X)};
#undef REPORT__X
    report_curve_json(r, "sft", &r->sft, sft);
    report_curve_json(r, "grpo", &r->grpo, grpo);
}

static int report_compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How many interactions stand at each rating, or in ten equal parts of a longer scale. */
static void report_ratings(report *r, const r2_data *data) {
    double value[REPORT_RANKS];
    int64_t count[REPORT_RANKS] = {0};
    const double low = (double)data->rating_min, width = ((double)data->rating_max - low) / 10.0;
    int n = 0;
    bool few = true;
    for (int64_t k = 0; k < data->n_ratings && few; ++k) {
        const double x = (double)data->rating[k];
        int v = 0;
        while (v < n && value[v] != x) ++v;
        if (v == n && n == REPORT_RANKS) few = false;
        else if (v == n) value[n++] = x;
    }
    if (few) qsort(value, (size_t)n, sizeof *value, report_compare);
    else
        for (n = 0; n < 10; ++n) value[n] = low + width * n;
    for (int64_t k = 0; k < data->n_ratings; ++k) {
        int v = n - 1;
        while (v > 0 && (double)data->rating[k] < value[v]) --v;
        count[v]++;
    }
    REPORT_ADD(r, "\"exact\":%s,\"counts\":[", few ? "true" : "false");
    for (int v = 0; v < n; ++v)
        REPORT_ADD(r, "%s[%.4g,%lld]", v ? "," : "", value[v], (long long)count[v]);
    REPORT_ADD(r, "],");
}

/* Median and largest degree of either side, and the share of the interactions that the most popular
   tenth of the items have. */
static void report_degrees(report *r, const r2_data *data) {
    const int64_t most = data->n_users > data->n_items ? data->n_users : data->n_items;
    double *degree = (double *)r2_alloc(r->ctx, (uint64_t)most, sizeof *degree), top = 0.0;
    if (!degree) {
        r->failed = true;
        return;
    }
    for (int64_t u = 0; u < data->n_users; ++u)
        degree[u] = (double)(data->user_begin[u + 1] - data->user_begin[u]);
    qsort(degree, (size_t)data->n_users, sizeof *degree, report_compare);
    report_fact(r, "user_median", data->n_users ? degree[data->n_users / 2] : 0.0);
    report_fact(r, "user_most", data->n_users ? degree[data->n_users - 1] : 0.0);
    memset(degree, 0, (size_t)data->n_items * sizeof *degree);
    for (int64_t k = 0; k < data->n_ratings; ++k) degree[data->item[k]] += 1.0;
    qsort(degree, (size_t)data->n_items, sizeof *degree, report_compare);
    for (int64_t i = data->n_items - (data->n_items + 9) / 10; i < data->n_items; ++i)
        top += degree[i];
    report_fact(r, "item_median", data->n_items ? degree[data->n_items / 2] : 0.0);
    report_fact(r, "item_most", data->n_items ? degree[data->n_items - 1] : 0.0);
    report_fact(r, "top_tenth", data->n_ratings ? top / (double)data->n_ratings : 0.0);
    r2_release(r->ctx, degree);
}

/* The butterflies of the training graph; -1 where counting them takes too long for a report. */
static r2_status report_butterflies(report *r, const r2_graph *g, int64_t *total) {
    const double most = 1e8; /* paths of two edges */
    double by_user = 0.0, by_item = 0.0;
    r2_butterflies b;
    r2_status status;
    *total = -1;
    for (uint32_t u = 0; u < g->n_users; ++u)
        by_user += pow((double)r2_graph_user_degree(g, u), 2.0);
    for (uint32_t i = 0; i < g->n_items; ++i)
        by_item += pow((double)r2_graph_item_degree(g, i), 2.0);
    if (by_user > most && by_item > most) return R2_OK;
    status = r2_butterflies_init(r->ctx, &b, g);
    if (status != R2_OK) return status;
    *total = b.total;
    r2_butterflies_free(r->ctx, &b);
    return R2_OK;
}

static r2_status report_data(report *r, const r2_run *run) {
    const r2_data *data = &run->data;
    int64_t untitled = 0, butterflies, last = 0;
    const r2_status status = report_butterflies(r, &run->graph, &butterflies);
    for (int64_t i = 0; i < data->n_items; ++i) untitled += !data->title[i][0];
    for (int64_t k = 0; k < data->n_ratings; ++k)
        if (data->time[k] > last) last = data->time[k];
    REPORT_ADD(r, "\"data\":{");
    report_ratings(r, data);
    report_degrees(r, data);
    report_fact(r, "users", (double)data->n_users);
    report_fact(r, "items", (double)data->n_items);
    report_fact(r, "ratings", (double)data->n_ratings);
    report_fact(r, "min", (double)data->rating_min);
    report_fact(r, "max", (double)data->rating_max);
    report_fact(r, "first", data->has_time ? (double)data->time_zero : (double)NAN);
    report_fact(r, "last", data->has_time ? (double)(data->time_zero + last) : (double)NAN);
    report_fact(r, "has_rating", data->has_rating);
    report_fact(r, "was_counted", data->was_counted);
    report_fact(r, "duplicates", (double)data->n_duplicates);
    report_fact(r, "untitled", (double)untitled);
    report_fact(r, "edges", (double)run->graph.n_edges);
    report_fact(r, "butterflies", butterflies >= 0 ? (double)butterflies : (double)NAN);
    report_fact(r, "cases", (double)run->test.n_cases);
    report_fact(r, "valid", (double)run->valid.n_cases);
    report_fact(r, "questions", (double)run->n_train);
    report_fact(r, "positive", (double)run->split.config.min_positive);
    REPORT_ADD(r, "\"per_case\":%lld},", (long long)run->test.n_per_case);
    return status;
}

static void report_setting(report *r, const char *name, double value) {
    REPORT_ADD(r, "[\"%s\",", name);
    report_number(r, value, 7);
    REPORT_ADD(r, "],");
}

static void report_settings(report *r, const r2_run *run) {
    const r2_run_config *c = &run->config;
    REPORT_ADD(r, "\"settings\":[");
    report_setting(r, "training groups", (double)c->n_groups);
    report_setting(r, "sampled items per group", c->n_sampled);
    report_setting(r, "chains shown", (double)c->chains.k);
    report_setting(r, "layers", c->model.n_layer);
    report_setting(r, "width", c->model.d_model);
    report_setting(r, "heads", c->model.n_head);
    report_setting(r, "parameters", (double)run->model.n_params);
    report_setting(r, "words", run->vocab.n_words);
    report_setting(r, "SFT steps, at most", (double)c->sft.n_steps);
    report_setting(r, "SFT groups per step", c->sft.groups);
    report_setting(r, "SFT learning rate", (double)c->sft.lr);
    report_setting(r, "GRPO steps", (double)c->grpo.n_steps);
    report_setting(r, "GRPO groups per step", c->grpo.groups);
    report_setting(r, "GRPO outputs per prompt", c->grpo.n_samples);
    report_setting(r, "GRPO learning rate", (double)c->grpo.lr);
    report_setting(r, "reward: format", (double)c->grpo.reward.w_format);
    report_setting(r, "reward: accuracy", (double)c->grpo.reward.w_accuracy);
    report_setting(r, "reward: ranking", (double)c->grpo.reward.w_rank);
    report_setting(r, "reward: faithfulness", (double)c->grpo.reward.w_faith);
    REPORT_ADD(r, "[\"seed\",%llu]],", (unsigned long long)c->seed);
}

/* Fields of the evidence with the codebook: names, what is counted, buckets, weights. */
static void report_fields(report *r, const r2_codebook *codebook) {
    REPORT_ADD(r, "\"fields\":[");
    for (int f = 0; f < R2_N_FIELDS; ++f) {
        const r2_field field = (r2_field)f;
        REPORT_ADD(r, "%s{\"name\":\"%s\",\"step\":%d,\"levels\":%d,\"weight\":[", f ? "," : "",
                   r2_field_name(field), (int)r2_field_step(field), (int)codebook->n_bucket[f] - 1);
        for (int32_t b = 0; b < codebook->n_bucket[f]; ++b)
            REPORT_ADD(r, "%s%d", b ? "," : "", (int)codebook->weight[f][b]);
        REPORT_ADD(r, "],\"formula\":");
        report_string(r, r2_field_formula(field), REPORT_ANY);
        REPORT_ADD(r, "}");
    }
    REPORT_ADD(r, "],\"aggregates\":%d,\"perThought\":%d,\"verdicts\":[", (int)R2_FIRST_CHAIN_FIELD,
               R2_FACTS_PER_THOUGHT);
    for (int v = 0; v < R2_N_VERDICTS; ++v)
        REPORT_ADD(r, "%s\"%s\"", v ? "," : "", r2_verdict_name((r2_verdict)v));
    REPORT_ADD(r, "],");
}

static void report_times(report *r) {
    REPORT_ADD(r, "\"time\":[");
    for (int k = 0; k < r->n_phases; ++k) {
        REPORT_ADD(r, k ? ",[" : "[");
        report_string(r, r->phase[k].name, REPORT_ANY);
        REPORT_ADD(r, ",%.3f]", r->phase[k].seconds);
    }
    REPORT_ADD(r, "],");
}

/* ---- pictures ---- */

/* Runs `tool` on `input` by way of the file `path`, and takes what it prints. False: it is not
   there, or it failed. */
static bool report_tool(report *r, const char *tool, const char *path, const r2_text *input,
                        r2_text *output) {
    r2_text command = {NULL, 0, 0, false};
    char block[4096];
    size_t n;
    bool good = false;
    FILE *pipe = NULL;
    if (r->ctx->team && r->ctx->team->rank > 0) return false; /* only process 0 writes the report */
    r2_text_addf(r->ctx, &command, "%s ", tool);
    report_shell_word(r->ctx, &command, path);
    r2_text_addf(r->ctx, &command, " 2>/dev/null </dev/null");
    if (!command.failed && !input->failed && input->len > 0 &&
        r2_write_file(r->ctx, path, input->data, input->len) == R2_OK)
        pipe = popen(command.data, "r");
    if (pipe) {
        while ((n = fread(block, 1, sizeof block, pipe)) > 0) r2_text_add(r->ctx, output, block, n);
        good = pclose(pipe) == 0 && output->len > 0 && !output->failed;
    }
    remove(path);
    r2_text_free(r->ctx, &command);
    return good;
}

/* Adds the pictures that a tool printed one after another, each from its <svg on, under the names
   in the order asked for. */
static void report_pictures(report *r, const char *const *name, int n, const r2_text *output) {
    const char *at = output->data;
    for (int k = 0; k < n; ++k) {
        const char *end = at ? strstr(at, "</svg>") : NULL;
        at = at ? strstr(at, "<svg") : NULL;
        if (!at || !end) return;
        REPORT_ADD(r, "%s\"%s\":\"", k ? "," : "", name[k]);
        for (end += strlen("</svg>"); at < end; ++at)
            report_byte(r, *at == '\n' || *at == '\t' ? ' ' : *at);
        REPORT_ADD(r, "\"");
    }
}

/* Colours stand for the page's own: #0a0000 ink, #0a00NN the series NN; #0a0009 what is behind. */
static const char report_gnuplot[] =
    "set terminal svg noenhanced size 420,280 dynamic font 'sans-serif,13'\n"
    "set samples 2\nset datafile missing 'NaN'\n"
    "set border 3 lc rgb '#0a0009'\nset grid ytics lt 1 lc rgb '#0a0008'\n"
    "set tics nomirror out scale 0.5 textcolor rgb '#0a0000'\nset xtics autofreq\n"
    "set xlabel textcolor rgb '#0a0000'\nset ylabel textcolor rgb '#0a0000'\n"
    "set key above left Left reverse samplen 2 maxrows 2 textcolor rgb '#0a0000'\n";

/* A data block of the columns that are asked for. */
static void report_block(report *r, r2_text *gp, const char *name, const report_curve *curve) {
    r2_text_addf(r->ctx, gp, "$%s << EOD\n", name);
    for (int64_t k = 0; k < curve->n; ++k)
        for (int c = 0; c < curve->width; ++c) {
            const double x = curve->value[k * curve->width + c];
            if (isfinite(x)) r2_text_addf(r->ctx, gp, "%.5g", x);
            else r2_text_addf(r->ctx, gp, "NaN");
            r2_text_addf(r->ctx, gp, c + 1 < curve->width ? " " : "\n");
        }
    r2_text_addf(r->ctx, gp, "EOD\n");
}

/* One plot: `range` is gnuplot's own for x and y, `what` what follows "plot". */
static void report_plot(report *r, r2_text *gp, const char *x, const char *y, const char *range,
                        const char *what) {
    r2_text_addf(r->ctx, gp, "set output\nset xlabel '%s'\nset ylabel '%s'\n%s\nplot %s\n", x, y,
                 range, what);
}

/* The last method that is a model, or -1; the best of the others. */
static int report_final(const report *r) {
    int k = r->n_methods - 1;
    while (k >= 0 && !r->method[k].has_odds) --k;
    return k;
}

static int report_best_other(const report *r) {
    int best = -1;
    for (int k = 0; k < r->n_methods; ++k)
        if (!r->method[k].has_odds &&
            (best < 0 || r->method[k].hit[0] / r->method[k].n_scored >
                             r->method[best].hit[0] / r->method[best].n_scored))
            best = k;
    return best;
}

/* HR@K: the trained model and the best other in colour, the rest in grey. */
static void report_plot_hits(report *r, r2_text *gp, int64_t ranks) {
    const int final = report_final(r), best = report_best_other(r);
    bool grey = false;
    r2_text_addf(r->ctx, gp, "$hit << EOD\n");
    for (int c = 0; c < ranks; ++c) {
        r2_text_addf(r->ctx, gp, "%d", c + 1);
        for (int k = 0; k < r->n_methods; ++k)
            r2_text_addf(r->ctx, gp, " %.4f",
                         r->method[k].n_scored ? r->method[k].hit[c] / r->method[k].n_scored : 0.0);
        r2_text_addf(r->ctx, gp, "\n");
    }
    r2_text_addf(r->ctx, gp,
                 "EOD\nset output\nset xlabel 'K'\nset ylabel 'HR@K'\n"
                 "set xrange [1:%lld]\nset yrange [0:1]\nplot ",
                 (long long)ranks);
    for (int k = 0; k < r->n_methods; ++k) {
        if (k == final || k == best || !r->method[k].n_scored) continue;
        r2_text_addf(r->ctx, gp, "$hit using 1:%d with lines lw 1 lc rgb '#0a0007' %s, ", k + 2,
                     grey ? "notitle" : "title 'the others'");
        grey = true;
    }
    if (best >= 0)
        r2_text_addf(r->ctx, gp,
                     "$hit using 1:%d with lines lw 2 dt 2 lc rgb '#0a0002' title '%s', ", best + 2,
                     r->method[best].name);
    if (final >= 0)
        r2_text_addf(r->ctx, gp, "$hit using 1:%d with lines lw 3 lc rgb '#0a0001' title '%s'",
                     final + 2, r->method[final].name);
    else r2_text_addf(r->ctx, gp, "NaN notitle");
    r2_text_addf(r->ctx, gp, "\n");
}

static void report_plot_odds(report *r, r2_text *gp) {
    const report_method *method = &r->method[report_final(r)];
    r2_text_addf(r->ctx, gp, "$odds << EOD\n");
    for (int b = 0; b < REPORT_BINS; ++b) {
        const report_bin *bin = &method->bin[b];
        double lo, hi;
        if (bin->n < 1) continue;
        report_wilson(bin->hits, bin->n, &lo, &hi);
        r2_text_addf(r->ctx, gp, "%.5f %.5f %.5f %.5f\n", bin->chance / (double)bin->n,
                     (double)bin->hits / (double)bin->n, lo, hi);
    }
    r2_text_addf(r->ctx, gp, "EOD\n");
    report_plot(
        r, gp, "predicted chance", "share that was taken", "set xrange [0:1]\nset yrange [0:1]",
        "x with lines dt 2 lw 1 lc rgb '#0a0007' title 'perfect', $odds using 1:2:3:4 with "
        "yerrorbars pt 7 ps 0 lw 1.5 lc rgb '#0a0001' title 'model, 95 % interval', $odds using "
        "1:2 with points pt 7 ps 0.6 lc rgb '#0a0001' notitle");
}

#define REPORT_LINE(block, column, series, dash, title)                                            \
    "$" block " using 1:" column " with lines lw 2 dt " dash " lc rgb '#0a000" series              \
    "' title '" title "'"

/* The learning curves. Numbers of columns are those of REPORT_SFT and REPORT_GRPO, the step 1. */
static void report_plot_sft(report *r, r2_text *gp) {
    report_block(r, gp, "sft", &r->sft);
    report_plot(r, gp, "step", "loss, nats", "set xrange [*:*]\nset yrange [0:*]",
                REPORT_LINE("sft", "2", "1", "1", "answer") ", " REPORT_LINE(
                    "sft", "3", "2", "2", "reasoning") ", " REPORT_LINE("sft", "4", "3", "4",
                                                                        "choice in the group"));
    report_plot(
        r, gp, "step", "loss, nats", "set xrange [*:*]\nset yrange [*:*]",
        "$sft using 1:7 with linespoints pt 7 ps 0.6 lw 2 lc rgb '#0a0001' title 'validation'");
}

static void report_plot_grpo(report *r, r2_text *gp) {
    static const char free_range[] = "set xrange [*:*]\nset yrange [*:*]";
    report_block(r, gp, "rl", &r->grpo);
    report_plot(
        r, gp, "step", "reward", free_range,
        "$rl using 1:($2-$3):($2+$3) with filledcurves fs solid 0.18 noborder lc rgb "
        "'#0a0001' title 'one standard deviation', " REPORT_LINE("rl", "2", "1", "1", "mean"));
    report_plot(r, gp, "step", "share of the outputs", "set xrange [*:*]\nset yrange [0:1]",
                REPORT_LINE("rl", "5", "1", "1", "faithful") ", " REPORT_LINE(
                    "rl", "4", "2", "2", "well-formed") ", " REPORT_LINE("rl", "10", "3", "4",
                                                                         "commonest answer"));
    report_plot(r, gp, "step", "KL from the SFT model, nats", "set xrange [*:*]\nset yrange [0:*]",
                REPORT_LINE("rl", "6", "1", "1", "KL"));
    report_plot(r, gp, "step", "entropy, nats", "set xrange [*:*]\nset yrange [0:*]",
                REPORT_LINE("rl", "7", "1", "1", "entropy"));
    report_plot(r, gp, "step", "words of an output", free_range,
                REPORT_LINE("rl", "8", "1", "1", "length"));
}

/* "plots":{name:svg ...}, empty without gnuplot. */
static void report_plots(report *r, const r2_run *run, const char *path) {
    static const char *const grpo[] = {"reward", "shares", "kl", "entropy", "length"};
    const char *name[10];
    const int64_t per_case = run->test.n_per_case;
    int n = 0;
    r2_text gp = {NULL, 0, 0, false}, output = {NULL, 0, 0, false};
    r2_text_addf(r->ctx, &gp, "%s", report_gnuplot);
    if (r->n_methods > 0) {
        report_plot_hits(r, &gp, per_case < REPORT_RANKS ? per_case : REPORT_RANKS);
        name[n++] = "hits";
    }
    if (report_final(r) >= 0) {
        report_plot_odds(r, &gp);
        name[n++] = "odds";
    }
    if (r->sft.n > 1) {
        report_plot_sft(r, &gp);
        name[n++] = "losses";
        name[n++] = "valid";
    }
    if (r->grpo.n > 1) {
        report_plot_grpo(r, &gp);
        for (int k = 0; k < 5; ++k) name[n++] = grpo[k];
    }
    REPORT_ADD(r, "\"plots\":{");
    if (report_tool(r, "gnuplot -d", path, &gp, &output)) report_pictures(r, name, n, &output);
    REPORT_ADD(r, "},");
    r2_text_free(r->ctx, &gp);
    r2_text_free(r->ctx, &output);
}

/* ---- layouts of chains ----

   Chains of a pair differ in what they share: chains over one item i0 have one node for it. Two
   pairs whose chains share alike have the same layout, so Graphviz draws each layout once, with
   nodes of fixed size, and the page writes the titles into them. */

typedef struct report_shape {
    int32_t n, item[R2_MAX_CHAINS], person[R2_MAX_CHAINS]; /* number of each chain's i0 and u1 */
} report_shape;

static report_shape report_shape_of(const r2_evidence *evidence) {
    report_shape s;
    int32_t n_items = 0, n_people = 0;
    memset(&s, 0, sizeof s);
    s.n = evidence->n_chains;
    for (int32_t c = 0; c < s.n; ++c) {
        s.item[c] = s.person[c] = -1;
        for (int32_t b = 0; b < c; ++b) {
            if (evidence->chain[b].chain.i0 == evidence->chain[c].chain.i0) s.item[c] = s.item[b];
            if (evidence->chain[b].chain.u1 == evidence->chain[c].chain.u1)
                s.person[c] = s.person[b];
        }
        if (s.item[c] < 0) s.item[c] = n_items++;
        if (s.person[c] < 0) s.person[c] = n_people++;
    }
    return s;
}

/* Number of the shape in the list, added if need be; -1 when the list is full. */
static int report_shape_number(report_shape *list, int *n, const report_shape *s) {
    for (int k = 0; k < *n; ++k)
        if (memcmp(&list[k], s, sizeof *s) == 0) return k;
    if (*n == REPORT_SHAPES) return -1;
    list[*n] = *s;
    return (*n)++;
}

/* An edge that chain c has and no chain before it. */
static bool report_is_new(const report_shape *s, int32_t c, int edge) {
    for (int32_t b = 0; b < c; ++b)
        if ((edge == 3 || s->item[b] == s->item[c]) && (edge == 1 || s->person[b] == s->person[c]))
            return false;
    return true;
}

/* From left to right for wide pages, from top to bottom for narrow ones. */
static void report_dot(report *r, r2_text *dot, const report_shape *s, bool wide) {
    r2_text_addf(r->ctx, dot,
                 "digraph g { bgcolor=\"transparent\" rankdir=%s nodesep=%s ranksep=%s\n"
                 "node [label=\"x\" fontsize=12 shape=box fixedsize=true width=%s height=%s]\n"
                 "edge [dir=none label=\"xxxxx\" fontsize=11]\n"
                 "u0 [id=\"u0\" shape=ellipse width=1.1 height=0.5]\nt [id=\"t\"]\n",
                 wide ? "LR" : "TB", wide ? "0.3" : "0.12", wide ? "0.35" : "0.3",
                 wide ? "1.9" : "1.35", wide ? "0.62" : "0.82");
    for (int32_t c = 0; c < s->n; ++c) {
        const int i = (int)s->item[c], p = (int)s->person[c];
        r2_text_addf(r->ctx, dot,
                     "i%d [id=\"i%d\"]\np%d [id=\"p%d\" shape=ellipse width=1.1 "
                     "height=0.5]\n",
                     i, i, p, p);
        if (report_is_new(s, c, 1))
            r2_text_addf(r->ctx, dot, "u0 -> i%d [id=\"e1_%d\"]\n", i, (int)c);
        if (report_is_new(s, c, 2))
            r2_text_addf(r->ctx, dot, "i%d -> p%d [id=\"e2_%d\"]\n", i, p, (int)c);
        if (report_is_new(s, c, 3))
            r2_text_addf(r->ctx, dot, "p%d -> t [id=\"e3_%d\"]\n", p, (int)c);
    }
    r2_text_addf(r->ctx, dot, "u0 -> t [id=\"e4\" style=dashed]\n}\n");
}

/* "graphs":{"w0":svg,"n0":svg ...}, empty without Graphviz. */
static void report_graphs(report *r, const report_shape *list, int n, const char *path) {
    char name[2 * REPORT_SHAPES][16];
    const char *names[2 * REPORT_SHAPES];
    r2_text dot = {NULL, 0, 0, false}, output = {NULL, 0, 0, false};
    for (int k = 0; k < 2 * n; ++k) {
        snprintf(name[k], sizeof name[k], "%c%d", k % 2 ? 'n' : 'w', k / 2);
        names[k] = name[k];
        report_dot(r, &dot, &list[k / 2], k % 2 == 0);
    }
    REPORT_ADD(r, "\"graphs\":{");
    if (report_tool(r, "dot -Tsvg", path, &dot, &output)) report_pictures(r, names, 2 * n, &output);
    REPORT_ADD(r, "},");
    r2_text_free(r->ctx, &dot);
    r2_text_free(r->ctx, &output);
}

/* ---- asking the model ---- */

/* Prompts to ask, laid end to end, each ending in <think>. */
typedef struct report_asked {
    int64_t n, cap;
    int64_t *begin; /* (cap + 1) */
    r2_tokens token;
    r2_generation gen;
} report_asked;

static r2_status report_asked_init(report *r, report_asked *a, int64_t cap) {
    memset(a, 0, sizeof *a);
    a->cap = cap;
    a->begin = (int64_t *)r2_alloc(r->ctx, (uint64_t)cap + 1, sizeof *a->begin);
    return a->begin ? R2_OK : r->ctx->status;
}

static void report_asked_free(report *r, report_asked *a) {
    r2_tokens_free(r->ctx, &a->token);
    r2_generation_free(r->ctx, &a->gen);
    r2_release(r->ctx, a->begin);
    memset(a, 0, sizeof *a);
}

/* Adds a prompt, the word `from` in it changed to `to`. */
static void report_ask(report *r, report_asked *a, const r2_examples *examples, int64_t e,
                       int32_t from, int32_t to) {
    for (int64_t k = examples->prompt_begin[e]; k < examples->prompt_begin[e + 1]; ++k)
        r2_tokens_add(r->ctx, &a->token, examples->prompt[k] == from ? to : examples->prompt[k]);
    r2_tokens_add(r->ctx, &a->token, examples->codec.markup.think.id[0]);
    a->begin[++a->n] = a->token.n;
}

/* Greedy reasoning for all, up to <answer>, and the distribution of the answer. */
static r2_status report_generate(report *r, r2_run *run, report_asked *a) {
    r2_generate_config how = r2_generate_config_default();
    how.max_new = r2_score_config_default().max_new;
    how.stop = run->codec.markup.answer.id;
    how.n_stop = run->codec.markup.answer.n;
    how.temperature = 0.0f;
    how.n_watch = R2_N_ANSWERS;
    how.watch = run->codec.markup.level;
    if (a->token.owner.failed) return R2_NO_MEMORY;
    return r2_generate(r->ctx, &run->model, &how, a->n, a->begin, a->token.id, &a->gen);
}

static int report_answer(const float *level) {
    int best = 0;
    for (int k = 1; k < R2_N_ANSWERS; ++k)
        if (level[k] > level[best]) best = k;
    return best;
}

/* The output of prompt k as text, <think> to </answer>. */
static r2_status report_output(report *r, const r2_run *run, const report_asked *a, int64_t k,
                               r2_text *text) {
    const r2_generation *gen = &a->gen;
    const int32_t n = gen->length[k], *token = gen->token + k * gen->max_new;
    r2_tokens all = {NULL, 0, {NULL, false}};
    r2_status status;
    r2_tokens_add(r->ctx, &all, run->codec.markup.think.id[0]);
    for (int32_t j = 0; j < n; ++j) r2_tokens_add(r->ctx, &all, token[j]);
    if (n > 0 && token[n - 1] == run->codec.markup.answer.id[0]) {
        r2_tokens_add(r->ctx, &all,
                      run->codec.markup.level[report_answer(gen->watch_logp + k * gen->n_watch)]);
        r2_tokens_add(r->ctx, &all, run->codec.markup.answer_end.id[0]);
    }
    r2_text_clear(text);
    status = all.owner.failed ? R2_NO_MEMORY
                              : r2_vocab_decode(r->ctx, &run->vocab, all.id, all.n, text);
    r2_tokens_free(r->ctx, &all);
    return status;
}

/* ---- the explorer ---- */

/* What the explorer asks about: pairs (user, item), n_per_case of each user, the truth first. */
typedef struct report_pairs {
    int64_t n, per_case;
    uint32_t *user, *item;
    r2_evidence *evidence;
    r2_examples examples;
    report_asked asked;   /* each pair once                                           */
    report_asked without; /* each fact removed from the prompts that are shown in full */
    int64_t *first;       /* (n + 1) of a pair in `without`                           */
    int8_t *field;        /* (without.cap) the fact removed                           */
    uint8_t *full;        /* (n) shown in full                                        */
    uint8_t *used;        /* (n_items) an item whose title the page needs             */
    report_shape shape[REPORT_SHAPES];
    int n_shapes;
} report_pairs;

static void report_pairs_free(report *r, report_pairs *p) {
    r2_release(r->ctx, p->user);
    r2_release(r->ctx, p->item);
    r2_release(r->ctx, p->evidence);
    r2_release(r->ctx, p->first);
    r2_release(r->ctx, p->field);
    r2_release(r->ctx, p->full);
    r2_release(r->ctx, p->used);
    r2_examples_free(r->ctx, &p->examples);
    report_asked_free(r, &p->asked);
    report_asked_free(r, &p->without);
}

/* Log-odds that the item is taken. */
static double report_log_odds(const report_asked *a, int64_t k) {
    return (double)r2_answer_score(a->gen.watch_logp + k * a->gen.n_watch, R2_SCORE_LOG_ODDS);
}

/* In full: the truth and the model's first items. */
static void report_choose_full(report_pairs *p) {
    for (int64_t k = 0; k < p->n; ++k) {
        const int64_t from = k - k % p->per_case;
        int better = 0;
        for (int64_t j = from; j < from + p->per_case; ++j) {
            const double a = report_log_odds(&p->asked, j), b = report_log_odds(&p->asked, k);
            better += a > b || (a == b && j < k);
        }
        p->full[k] = k == from || better < REPORT_FIRST;
    }
}

/* Prompts of pair k with each of its facts removed. */
static void report_remove(report *r, const r2_run *run, report_pairs *p, int64_t k) {
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD && p->full[k]; ++f) {
        const r2_field field = (r2_field)f;
        const int bucket = (int)r2_codebook_bucket(&run->codebook, field, p->evidence[k].value[f]);
        char word[48];
        snprintf(word, sizeof word, "%s:%d", r2_field_name(field), bucket);
        const int32_t from = r2_vocab_find(&run->vocab, word);
        int32_t to;
        snprintf(word, sizeof word, "%s:-", r2_field_name(field));
        to = r2_vocab_find(&run->vocab, word);
        if (bucket == 0 || from < 0 || to < 0) continue;
        p->field[p->without.n] = (int8_t)f;
        report_ask(r, &p->without, &p->examples, k, from, to);
    }
    p->first[k + 1] = p->without.n;
}

static r2_status report_pairs_init(report *r, r2_run *run, report_pairs *p) {
    const r2_candidates *test = &run->test;
    r2_ctx *ctx = r->ctx;
    int64_t n_full = 0;
    r2_status status = R2_NO_MEMORY;
    p->per_case = test->n_per_case;
    p->n = report_n_users(run) * p->per_case;
    p->user = (uint32_t *)r2_alloc(ctx, (uint64_t)p->n, sizeof *p->user);
    p->item = (uint32_t *)r2_alloc(ctx, (uint64_t)p->n, sizeof *p->item);
    p->evidence = (r2_evidence *)r2_alloc(ctx, (uint64_t)p->n, sizeof *p->evidence);
    p->first = (int64_t *)r2_alloc(ctx, (uint64_t)p->n + 1, sizeof *p->first);
    p->full = (uint8_t *)r2_alloc(ctx, (uint64_t)p->n, 1);
    p->used = (uint8_t *)r2_alloc(ctx, (uint64_t)run->data.n_items, 1);
    if (!p->user || !p->item || !p->evidence || !p->first || !p->full || !p->used) return status;
    for (int64_t k = 0; k < p->n; ++k) {
        const int64_t c = report_case(run, k / p->per_case);
        p->user[k] = test->user[c];
        p->item[k] = test->item[c * p->per_case + k % p->per_case];
    }
    r2_candidates cases = {p->n / p->per_case, p->per_case, NULL, p->item};
    cases.user = (uint32_t *)r2_alloc(ctx, (uint64_t)cases.n_cases, sizeof *cases.user);
    for (int64_t c = 0; c < cases.n_cases && cases.user; ++c) cases.user[c] = p->user[c * p->per_case];
    status = cases.user ? r2_run_candidate_prompts(ctx, run, &cases, p->evidence, &p->examples)
                        : R2_NO_MEMORY;
    r2_release(ctx, cases.user);
    if (status == R2_OK) status = report_asked_init(r, &p->asked, p->n);
    if (status != R2_OK) return status;
    for (int64_t k = 0; k < p->n; ++k) report_ask(r, &p->asked, &p->examples, k, -1, -1);
    status = report_generate(r, run, &p->asked);
    if (status != R2_OK) return status;
    report_choose_full(p);
    for (int64_t k = 0; k < p->n; ++k) n_full += p->full[k];
    status = report_asked_init(r, &p->without, n_full * R2_FIRST_CHAIN_FIELD);
    if (status != R2_OK) return status;
    p->field = (int8_t *)r2_alloc(ctx, (uint64_t)p->without.cap, 1);
    if (!p->field) return ctx->status;
    for (int64_t k = 0; k < p->n; ++k) report_remove(r, run, p, k);
    return p->without.n > 0 ? report_generate(r, run, &p->without) : R2_OK;
}

static void report_chains(report *r, const r2_run *run, report_pairs *p, int64_t k) {
    const r2_evidence *evidence = &p->evidence[k];
    const report_shape shape = report_shape_of(evidence);
    REPORT_ADD(r, "\"g\":%d,\"c\":[", report_shape_number(p->shape, &p->n_shapes, &shape));
    for (int32_t c = 0; c < evidence->n_chains; ++c) {
        const r2_chain *chain = &evidence->chain[c].chain;
        p->used[chain->i0] = 1;
        REPORT_ADD(r, "%s[%u,", c ? "," : "", (unsigned)chain->i0);
        report_string(r, run->data.user_key[chain->u1], REPORT_TITLE);
        REPORT_ADD(r, ",%.4g,%.4g,%.4g,%d,%d]", (double)chain->r1, (double)chain->r2,
                   (double)chain->r3, (int)shape.item[c], (int)shape.person[c]);
    }
    REPORT_ADD(r, "],");
}

/* The four prompts, in English and in the model's own words. */
static r2_status report_steps(report *r, const r2_run *run, const r2_evidence *evidence) {
    r2_prompt_config config = r2_prompt_config_default();
    r2_prompt prompt;
    r2_status status = R2_OK;
    const int first = evidence->n_chains > 0 ? 1 : R2_STEP_ASK; /* nothing is masked without one */
    memset(&prompt, 0, sizeof prompt);
    config.data = &run->data;
    REPORT_ADD(r, "\"m\":[");
    for (int step = first; step <= R2_STEP_ASK && status == R2_OK; ++step) {
        r2_evidence asked = *evidence;
        if (step < R2_STEP_ASK)
            status = r2_evidence_of_step(r->ctx, &run->index, step, 1, &run->config.chains, &asked);
        if (status != R2_OK) break;
        config.words = R2_WORDS_ENGLISH;
        config.codebook = NULL; /* without the evidence, which the compact prompt states */
        status = r2_prompt_build(r->ctx, &config, &asked, &prompt);
        if (status != R2_OK) break;
        REPORT_ADD(r, step > first ? ",[" : "[");
        report_string(r, prompt.user.data, REPORT_ANY);
        config.words = R2_WORDS_COMPACT;
        config.codebook = &run->codebook;
        status = r2_prompt_build(r->ctx, &config, &asked, &prompt);
        if (status != R2_OK) break;
        report_comma(r, 1);
        report_string(r, prompt.user.data, REPORT_ANY);
        REPORT_ADD(r, "]");
    }
    REPORT_ADD(r, "],");
    r2_prompt_free(r->ctx, &prompt);
    return status;
}

/* The facts removed: field, log-odds and answer without it. */
static void report_removed(report *r, const report_pairs *p, int64_t k) {
    const report_asked *a = &p->without;
    REPORT_ADD(r, "\"w\":[");
    for (int64_t j = p->first[k]; j < p->first[k + 1]; ++j)
        REPORT_ADD(r, "%s[%d,%.2f,%d]", j > p->first[k] ? "," : "", p->field[j],
                   report_log_odds(a, j), report_answer(a->gen.watch_logp + j * a->gen.n_watch));
    REPORT_ADD(r, "],");
}

/* A candidate: prompt, reasoning with its verdict, answer, values, chains; in full also the steps
   and what happens without each fact. */
static r2_status report_candidate(report *r, const r2_run *run, report_pairs *p, int64_t k) {
    const r2_examples *ex = &p->examples;
    const float *level = p->asked.gen.watch_logp + k * p->asked.gen.n_watch;
    r2_text prompt = {NULL, 0, 0, false}, output = {NULL, 0, 0, false};
    r2_status status = r2_vocab_decode(r->ctx, &run->vocab, ex->prompt + ex->prompt_begin[k],
                                       ex->prompt_begin[k + 1] - ex->prompt_begin[k], &prompt);
    if (status == R2_OK) status = report_output(r, run, &p->asked, k, &output);
    if (status == R2_OK) {
        p->used[p->item[k]] = 1;
        REPORT_ADD(r, "{\"i\":%u,\"s\":%.3f,\"v\":%d,\"q\":", (unsigned)p->item[k],
                   report_log_odds(&p->asked, k),
                   (int)r2_check_trace(&run->codebook, prompt.data, output.data).verdict);
        report_string(r, prompt.data, REPORT_ANY);
        REPORT_ADD(r, ",\"t\":");
        report_string(r, output.data, REPORT_ANY);
        REPORT_ADD(r, ",");
        report_chains(r, run, p, k);
        if (p->full[k]) {
            status = report_steps(r, run, &p->evidence[k]);
            report_removed(r, p, k);
        }
        REPORT_ADD(r, "\"p\":[");
        for (int a = 0; a < R2_N_ANSWERS; ++a) {
            report_comma(r, a);
            report_number(r, exp((double)level[a]), 3);
        }
        REPORT_ADD(r, "],\"x\":[");
        for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f) {
            report_comma(r, f);
            report_number(r, (double)p->evidence[k].value[f], 3);
        }
        REPORT_ADD(r, "]}");
    }
    r2_text_free(r->ctx, &prompt);
    r2_text_free(r->ctx, &output);
    return status;
}

/* The latest training interactions, the newest first: item, rating, Unix day. */
static void report_history(report *r, const r2_run *run, report_pairs *p, uint32_t user) {
    const r2_graph *g = &run->graph;
    const int64_t begin = g->user_begin[user], end = g->user_begin[user + 1];
    REPORT_ADD(r, "\"n\":%lld,\"history\":[", (long long)(end - begin));
    for (int64_t k = end; k > begin && k > end - REPORT_HISTORY; --k) {
        const int64_t e = run->index.by_time[k - 1];
        p->used[g->user_item[e]] = 1;
        REPORT_ADD(r, "%s[%u,%.4g,%lld]", k < end ? "," : "", (unsigned)g->user_item[e],
                   (double)g->user_rating[e],
                   (long long)((run->data.time_zero + g->user_time[e]) / 86400));
    }
    REPORT_ADD(r, "],");
}

static r2_status report_users(report *r, const r2_run *run, report_pairs *p) {
    r2_status status = R2_OK;
    REPORT_ADD(r, "\"users\":[");
    for (int64_t u = 0; u * p->per_case < p->n && status == R2_OK; ++u) {
        const int64_t first = u * p->per_case;
        const int64_t row = r2_data_find(&run->data, p->user[first], p->item[first]);
        report_comma(r, u);
        REPORT_ADD(r, "{\"key\":");
        report_string(r, run->data.user_key[p->user[first]], REPORT_TITLE);
        REPORT_ADD(r, ",\"truth\":");
        report_number(r, row >= 0 ? (double)run->data.rating[row] : (double)NAN, 4);
        report_comma(r, 1);
        report_history(r, run, p, p->user[first]);
        REPORT_ADD(r, "\"better\":[");
        for (int m = 0; m < r->n_methods; ++m) {
            REPORT_ADD(r, m ? ",[" : "[");
            for (int64_t k = first; k < first + p->per_case && r->method[m].better; ++k)
                REPORT_ADD(r, "%s%d", k > first ? "," : "", (int)r->method[m].better[k]);
            REPORT_ADD(r, "]");
        }
        REPORT_ADD(r, "],\"cases\":[");
        for (int64_t k = first; k < first + p->per_case && status == R2_OK; ++k) {
            report_comma(r, k - first);
            status = report_candidate(r, run, p, k);
        }
        REPORT_ADD(r, "]}");
    }
    REPORT_ADD(r, "],");
    return status;
}

/* Titles, genres and years of the items that the page names. */
static void report_items(report *r, const r2_data *data, const uint8_t *used) {
    int64_t n = 0;
    REPORT_ADD(r, "\"items\":{");
    for (int64_t i = 0; i < data->n_items; ++i) {
        if (!used[i]) continue;
        REPORT_ADD(r, "%s\"%lld\":[", n++ ? "," : "", (long long)i);
        report_string(r, data->title[i][0] ? data->title[i] : data->item_key[i], REPORT_TITLE);
        report_comma(r, 1);
        report_string(r, data->genres[i], REPORT_TITLE);
        REPORT_ADD(r, "]");
    }
    REPORT_ADD(r, "},");
}

static r2_status report_explorer(report *r, r2_run *run, const char *path) {
    report_pairs p;
    r2_status status;
    memset(&p, 0, sizeof p);
    status = report_pairs_init(r, run, &p);
    if (status == R2_OK) status = report_users(r, run, &p);
    if (status == R2_OK) {
        report_items(r, &run->data, p.used);
        report_graphs(r, p.shape, p.n_shapes, path);
    }
    report_pairs_free(r, &p);
    return status;
}

/* ---- writing ---- */

/* MovieLens directories hold films; of other data nobody has said what the items are. */
static const char *report_noun(const char *data) {
    static const char *const file[] = {"movies.csv", "movies.dat", "u.item"};
    char path[1024];
    struct stat found;
    for (int k = 0; k < 3; ++k) {
        const int n = snprintf(path, sizeof path, "%s/%s", data, file[k]);
        if (n > 0 && n < (int)sizeof path && stat(path, &found) == 0) return "film";
    }
    return "item";
}

static void report_facts_of_run(report *r, const r2_run *run, const char *data) {
    const time_t now = time(NULL);
    char date[32] = "";
    const struct tm *local = localtime(&now);
    if (local) strftime(date, sizeof date, "%Y-%m-%d %H:%M", local);
    report_words(r, "version", R2_VERSION);
    report_words(r, "date", date);
    report_words(r, "noun", report_noun(data));
    report_words(r, "path", data);
    report_words(r, "command", r->command.data ? r->command.data : "");
#if defined(__VERSION__)
    report_words(r, "compiler", __VERSION__);
#else
    report_words(r, "compiler", "");
#endif
    report_fact(r, "threads", r->ctx->n_threads);
    report_fact(r, "sampled", run->config.n_sampled);
    report_settings(r, run);
    report_fields(r, &run->codebook);
}

/* Writes the page to DIRECTORY/report.html, and for a moment a file beside it. `data`: the path
   that the ratings came from. Without a page (the program was not built by make) nothing. */
static r2_status report_write(report *r, r2_run *run, const char *data, const char *directory) {
    r2_ctx *ctx = r->ctx;
    r2_text page = {NULL, 0, 0, false}, path = {NULL, 0, 0, false}, work = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    if (!REPORT_HAS_PAGE) return R2_OK;
    r2_text_addf(ctx, &path, "%s/report.html", directory);
    r2_text_addf(ctx, &work, "%s/report.tmp", directory);
    if (path.failed || work.failed) status = R2_NO_MEMORY;
    r2_text_clear(&r->json);
    r2_text_addf(ctx, &r->json, "{");
    report_facts_of_run(r, run, data);
    report_times(r);
    report_methods(r, run);
    report_curves(r);
    if (status == R2_OK) status = report_data(r, run);
    if (status == R2_OK) status = report_explorer(r, run, work.data);
    if (status == R2_OK) {
        report_plots(r, run, work.data);
        r2_text_addf(ctx, &r->json, "\"end\":0}\n");
        for (int k = 0; report_page[k]; ++k)
            if (strcmp(report_page[k], "@DATA@\n") != 0)
                r2_text_addf(ctx, &page, "%s", report_page[k]);
            else r2_text_add(ctx, &page, r->json.data, r->json.len);
        status = r->failed || r->json.failed || page.failed
                     ? r2_fail(ctx, R2_NO_MEMORY, "%s: out of memory", path.data)
                     : r2_write_file(ctx, path.data, page.data, page.len);
    }
    r2_text_free(ctx, &page);
    r2_text_free(ctx, &path);
    r2_text_free(ctx, &work);
    return status;
}

#endif

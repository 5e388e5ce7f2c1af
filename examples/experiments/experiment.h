/* experiment.h: what the long programs share: options, progress, rows on disk, so that a run that
   was stopped goes on where it stood, and averages over seeds with their intervals.

   A row is one JSON file, DIR/KEY.json: for each test user how many candidates were better than
   the held-out item and how many tied with it. All metrics follow from that. Include after
   r2rec.h. */
#ifndef R2_EXPERIMENT_H
#define R2_EXPERIMENT_H

#include <cjson/cJSON.h>

#include "../common/options.h"
#include "../common/output.h"

typedef struct xp {
    const char *name, *data, *out;
    char dir[512]; /* of the rows */
    bool full, resume, verbose, claimed; /* claimed: the directory of the rows is this data set's */
    bool brief;          /* results only: what the table of several data sets needs */
    bool validate;       /* ablation, headline: leave the test positives alone */
    const char *design;  /* headline only: this one alone; NULL: all      */
    int64_t seeds, models, steps; /* steps of SFT; 0: as configured */
    int64_t first;                /* model to begin with: several processes may share the work */
    int64_t layers, seed;         /* think only: of the student; the first model seed */
    const char *only;             /* this method or row; NULL: all  */
    r2_ctx ctx;
    int64_t n_done, n_rows; /* rows so far, rows in all */
    double began, shown;
    r2_format format; /* of the ratings, where their first line does not say it */
    double planned; /* seconds of one processor, not said yet */
} xp;

static void xp_check(xp *x, r2_status status) {
    if (status == R2_OK && !options_stop) return;
    if (options_stop) options_stopped(x->name);
    fprintf(stderr, "%s%s: %s\n", isatty(2) ? "\r\033[K" : "", x->name, x->ctx.message);
    exit(1);
}

static void *xp_need(xp *x, void *memory) {
    if (!memory) xp_check(x, R2_NO_MEMORY);
    return memory;
}

static void xp_say_plan(xp *x) {
    const int threads = r2_threads(&x->ctx, INT64_MAX);
    const double minutes = x->planned / 60.0 / (double)threads;
    if (x->planned > 0.0)
        fprintf(stderr, "%s: %lld rows of %s; about %.0f minute%s on %d processor%s, less where rows "
                        "are there already\n",
                x->name, (long long)x->n_rows, x->data, minutes < 1.0 ? 1.0 : minutes,
                minutes < 1.5 ? "" : "s", threads, threads == 1 ? "" : "s");
    x->planned = 0.0;
}

/* One line that is written over on a terminal; elsewhere a line a minute. */
static int xp_progress(void *hook_data, const char *what, int64_t done, int64_t total) {
    xp *x = (xp *)hook_data;
    double now = r2_seconds();
    xp_say_plan(x);
    if (now - x->shown < (isatty(2) ? 0.2 : 60.0)) return options_stop != 0;
    x->shown = now;
    fprintf(stderr,
            isatty(2) ? "\r\033[K  %lld of %lld rows, %.0f s; %s %lld of %lld"
                      : "  %lld of %lld rows, %.0f s; %s %lld of %lld\n",
            (long long)x->n_done, (long long)x->n_rows, now - x->began, what, (long long)done,
            (long long)total);
    return options_stop != 0;
}

static void xp_say(void *hook_data, const char *line) {
    (void)hook_data;
    fprintf(stderr, "%s%s\n", isatty(2) ? "\r\033[K" : "", line);
}

static const char xp_usage[] =
    "[options]\n"
    "  --data DIR     ratings (default data/ml-latest-small); results: or several, \"DIR DIR ...\"\n"
    OPTIONS_FORMAT_HELP
    "  --out DIR      where results go; what is already there is not computed again (out)\n"
    "  --seeds N      candidate sets of the test users (results, ablation: quick 1, full 3)\n"
    "  --models N     trainings from different seeds (quick 1, think and headline 2; full 3)\n"
    "  --first N      begin with the N-th of them (results, ablation): processes may share the work\n"
    "  --steps N      of supervised fine-tuning (ablation), of the reasoned student (think, headline)\n"
    "  --layers N     of the students (think, headline: 1)\n"
    "  --seed N       the first of the trainings' seeds (think, headline: 1)\n"
    "  --design NAME  headline only: this design alone\n"
    "  --brief        results: as for one of several DIRs, two protocols and no slow methods\n"
    "  --check        ablation, headline: validation, no look at the test positives\n"
    "  --only NAME    this method or row alone, however long it takes\n"
    "  --quick        the quick training (default)\n"
    "  --full         the long training\n"
    "  --continue     goes on with a training that was stopped or killed, to the same results\n"
    "  --threads N    results do not depend on it\n"
    "  --verbose      every grid point that was tried\n"
    "  --help         this text\n";

/* Makes the directory of the rows, in `out`. */
static void xp_open(xp *x) {
    snprintf(x->dir, sizeof x->dir, "%s/%s", x->out, x->name);
    options_directory(x->name, x->dir);
    snprintf(x->dir, sizeof x->dir, "%s/%s/%s", x->out, x->name, x->full ? "full" : "quick");
    options_directory(x->name, x->dir);
}

enum { XP_MOST_SETS = 64 };

/* One xp for each of the directories in all->data, parted by blanks, with the rows of program
   `name` in OUT/SET; returns how many. `names` (strlen(all->data) + 1) keeps their text. */
static inline int xp_open_sets(xp *all, const char *name, char *names, xp set[XP_MOST_SETS]) {
    static char out[XP_MOST_SETS][600];
    int n = 0;
    memcpy(names, all->data, strlen(all->data) + 1);
    for (char *dir = strtok(names, " "); dir; dir = strtok(NULL, " "), ++n) {
        const char *slash = strrchr(dir, '/');
        if (n == XP_MOST_SETS) xp_check(all, r2_fail(&all->ctx, R2_ARGUMENT, "more than 64 sets"));
        set[n] = *all;
        set[n].name = name, set[n].data = dir, set[n].out = out[n];
        snprintf(out[n], sizeof out[n], "%s/%s", all->out, slash ? slash + 1 : dir);
        options_directory(name, out[n]);
        xp_open(&set[n]);
    }
    return n;
}

/* `models`: trainings of a quick run, unless the user says. */
static xp xp_begin(const char *name, int64_t models, int argc, char **argv) {
    xp x;
    int64_t threads = 0;
    const options_entry list[] = {{"--data", OPTIONS_TEXT, &x.data, 0, 0},
                                  OPTIONS_FORMAT(x.format),
                                  {"--out", OPTIONS_TEXT, &x.out, 0, 0},
                                  {"--seeds", OPTIONS_WHOLE, &x.seeds, 1, 1000},
                                  {"--models", OPTIONS_WHOLE, &x.models, 1, 1000},
                                  {"--first", OPTIONS_WHOLE, &x.first, 1, 1000},
                                  {"--steps", OPTIONS_WHOLE, &x.steps, 1, 10000000},
                                  {"--layers", OPTIONS_WHOLE, &x.layers, 1, 100},
                                  {"--seed", OPTIONS_WHOLE, &x.seed, 1, 1000000000},
                                  {"--design", OPTIONS_TEXT, &x.design, 0, 0},
                                  {"--brief", OPTIONS_FLAG, &x.brief, true, 0},
                                  {"--check", OPTIONS_FLAG, &x.validate, true, 0},
                                  {"--only", OPTIONS_TEXT, &x.only, 0, 0},
                                  {"--quick", OPTIONS_FLAG, &x.full, false, 0},
                                  {"--full", OPTIONS_FLAG, &x.full, true, 0},
                                  {"--continue", OPTIONS_FLAG, &x.resume, true, 0},
                                  {"--threads", OPTIONS_WHOLE, &threads, 1, 256},
                                  {"--verbose", OPTIONS_FLAG, &x.verbose, true, 0}};
    memset(&x, 0, sizeof x);
    x.name = name;
    x.layers = x.seed = 1;
    x.data = "data/ml-latest-small";
    x.out = "out";
    x.first = 1;
    x.ctx = r2_ctx_default();
    x.ctx.progress = xp_progress;
    options_read(name, xp_usage, list, sizeof list / sizeof *list, argc, argv, NULL);
    if (threads) x.ctx.n_threads = (int)threads;
    if (x.verbose) x.ctx.log = xp_say;
    if (!x.seeds) x.seeds = x.full ? 3 : 1;
    if (!x.models) x.models = x.full ? 3 : models;
    options_watch_interrupt();
    x.began = r2_seconds();
    options_directory(name, x.out);
    xp_open(&x);
    return x;
}

/* The two trainings, the same as the demo's. */
static r2_run_config xp_config(const xp *x, uint64_t seed) {
    r2_run_config config = x->full ? r2_run_config_full() : r2_run_config_default();
    config.seed = seed;
    config.format = x->format;
    return config;
}

/* ---- rows ---- */

static void xp_path(const xp *x, const char *key, char path[1024]) {
    snprintf(path, 1024, "%s/%s.json", x->dir, key);
}

/* The row, or NULL when there is none yet. Free with cJSON_Delete. */
static cJSON *xp_load(xp *x, const char *key) {
    char path[1024];
    r2_text text = {NULL, 0, 0, false};
    r2_ctx quiet = r2_ctx_default();
    cJSON *row = NULL;
    xp_path(x, key, path);
    if (access(path, R_OK) == 0 && r2_read_file(&quiet, path, &text) == R2_OK && text.data)
        row = cJSON_Parse(text.data);
    r2_text_free(&quiet, &text);
    return row;
}

static void xp_write(xp *x, const char *path, const char *text) {
    xp_check(x, r2_write_file(&x->ctx, path, text, strlen(text)));
}

/* Writes and releases a row. */
static void xp_put(xp *x, const char *key, cJSON *row) {
    char path[1024], *text = (char *)xp_need(x, cJSON_PrintUnformatted(row));
    xp_path(x, key, path);
    xp_write(x, path, text);
    cJSON_free(text);
    cJSON_Delete(row);
}

/* Removes a row. */
static inline void xp_drop(xp *x, const char *key) {
    char path[1024];
    xp_path(x, key, path);
    remove(path);
}

/* OUT/NAME, of the long training OUT/NAME-full: what files about all rows begin with. */
static void xp_base(const xp *x, char base[600]) {
    snprintf(base, 600, "%s/%s%s", x->out, x->name, x->full ? "-full" : "");
}

static void xp_write_base(xp *x, const char *extension, const char *text) {
    char base[600], path[620];
    xp_base(x, base);
    snprintf(path, sizeof path, "%s.%s", base, extension);
    xp_write(x, path, text);
}

/* Says the report and writes it, BASE.md and BASE.json. Releases both. */
static inline void xp_report(xp *x, r2_text *text, cJSON *json) {
    char *printed = (char *)xp_need(x, cJSON_Print(json));
    if (text->failed) xp_check(x, R2_NO_MEMORY);
    printf("%s", text->data);
    xp_write_base(x, "md", text->data);
    xp_write_base(x, "json", printed);
    cJSON_free(printed);
    cJSON_Delete(json);
    r2_text_free(&x->ctx, text);
}

/* The data set and how it is read. */
static cJSON *xp_source(xp *x) {
    const options_entry list[] = {OPTIONS_FORMAT(x->format)};
    cJSON *source = options_json(list, sizeof list / sizeof *list);
    if (x->format.time_unit == 0.0) cJSON_DeleteItemFromObject(source, "time-unit");
    cJSON_AddStringToObject(source, "data", x->data);
    return source;
}

/* Rows are named by method and seed: a directory holds those of one data set alone. Refuses one
   that holds those of another; to be called before any work. */
static inline void xp_claim(xp *x) {
    cJSON *row = xp_load(x, "data"), *source = xp_source(x);
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(row, "data");
    x->claimed = cJSON_IsString(data);
    if (x->claimed && !cJSON_Compare(row, source, true)) {
        const bool same = !strcmp(data->valuestring, x->data);
        fprintf(stderr, "%s: %s holds results of %s, not of %s: choose another --out\n", x->name,
                x->dir, data->valuestring, same ? "it read in this way" : x->data);
        exit(1);
    }
    cJSON_Delete(source);
    cJSON_Delete(row);
}

/* Says in the directory whose results it holds: with the first of them, since before that the data
   may turn out not to be there. */
static void xp_own(xp *x) {
    if (!x->claimed) xp_claim(x); /* another program may have begun at the same time */
    if (x->claimed) return;
    xp_put(x, "data", xp_source(x));
    x->claimed = true;
}

/* Writes and releases a row of the data set, and counts it as done. */
static void xp_save(xp *x, const char *key, cJSON *row) {
    xp_own(x);
    xp_put(x, key, row);
    x->n_done++;
}

/* Whether a row is there, and whole; counts it as done. */
static inline bool xp_has(xp *x, const char *key) {
    cJSON *row = xp_load(x, key);
    const bool has = row != NULL;
    cJSON_Delete(row);
    x->n_done += has;
    return has;
}

static inline double xp_number(const cJSON *row, const char *name) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(row, name);
    return cJSON_IsNumber(value) ? value->valuedouble : NAN;
}

static void xp_add_rank(cJSON *row, r2_rank rank) {
    cJSON *better = cJSON_GetObjectItemCaseSensitive(row, "better");
    cJSON *tied = cJSON_GetObjectItemCaseSensitive(row, "tied");
    if (!better) better = cJSON_AddArrayToObject(row, "better");
    if (!tied) tied = cJSON_AddArrayToObject(row, "tied");
    cJSON_AddItemToArray(better, cJSON_CreateNumber((double)rank.better));
    cJSON_AddItemToArray(tied, cJSON_CreateNumber((double)rank.tied));
}

/* A row of ranks from scores (n_cases, n_per_case). */
static cJSON *xp_row(const float *score, int64_t n_cases, int64_t n_per_case) {
    cJSON *row = cJSON_CreateObject();
    for (int64_t c = 0; c < n_cases; ++c)
        xp_add_rank(row, r2_rank_of(score + c * n_per_case, n_per_case));
    return row;
}

/* The exit status. */
static inline int xp_end(const xp *x) {
    if (isatty(2)) fprintf(stderr, "\r\033[K"); /* the progress line */
    return output_end(x->name, 0);
}

/* Notes how long the rows take, to be said when the data are found: `seconds` of one processor of
   2026 on MovieLens latest-small; training does not grow with the data, the rest does. */
static inline void xp_plan(xp *x, double seconds) { x->planned = seconds; }

/* What the demo's training takes: SFT of x->steps steps, and GRPO where it is wanted. */
static inline double xp_training_seconds(const xp *x, bool rl) {
    const double sft = x->steps ? 0.06 * (double)x->steps : 120.0;
    return x->full ? 2.0 * sft + (rl ? 130.0 : 0.0) : sft + (rl ? 55.0 : 0.0);
}

/* Whether --only names none of the n rows; then says what they are called. */
static inline bool xp_unknown(const xp *x, const char *what, const char *(*name)(int), int n) {
    int known = 0;
    for (int k = 0; k < n; ++k) known += !x->only || !strcmp(x->only, name(k));
    if (known) return false;
    fprintf(stderr, "%s: no %s \"%s\"; the %ss are", x->name, what, x->only, what);
    for (int k = 0; k < n; ++k) fprintf(stderr, " %s", name(k));
    fprintf(stderr, "\n");
    return true;
}

/* Candidate set `seed`, uniform 1 + n, of the test users, or with --check of the validation users:
   the same for every method and model. */
static inline void xp_candidates(xp *x, const r2_run *run, int64_t n, int64_t seed,
                                 r2_candidates *c) {
    const r2_split *s = &run->split;
    const uint64_t drawn = r2_hash((uint64_t)seed, x->validate ? R2_VALID : R2_TEST, 0);
    const int64_t min_train = run->config.min_train;
    const r2_negatives negatives = {n, drawn, false, min_train > 0 ? s : NULL, min_train};
    xp_check(x, r2_candidates_init(&x->ctx, c, &run->data, x->validate ? s->valid : s->test,
                                   x->validate ? s->n_valid : s->n_test, &negatives));
}

/* ---- trained runs, kept beside the rows so that nothing is trained twice ---- */

/* Whether there was one of that name; then the run has its weights. */
static inline bool xp_load_weights(xp *x, const char *name, r2_run *run) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s/model.safetensors", x->dir, name);
    if (access(path, R_OK) != 0) return false;
    xp_check(x, r2_model_load(&x->ctx, &run->model, path));
    return true;
}

static inline void xp_save_run(xp *x, const char *name, const r2_run *run) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", x->dir, name);
    xp_own(x);
    options_directory(x->name, path);
    xp_check(x, r2_run_save(&x->ctx, run, path));
}

/* Where the training of that name keeps its state. Not asked to continue, it begins anew. */
static inline const char *xp_state(xp *x, const char *name, char path[1024]) {
    snprintf(path, 1024, "%s/%s.state", x->dir, name);
    if (!x->resume) remove(path);
    return path;
}

/* Its results are on disk: the state is not needed any more. */
static inline void xp_forget(xp *x, const char *name) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.state", x->dir, name);
    remove(path);
}

static inline void xp_train(xp *x, r2_run *run, bool rl, const char *name) {
    char state[1024];
    const char **path = rl ? &run->config.grpo.state_path : &run->config.sft.state_path;
    *path = xp_state(x, name, state);
    xp_check(x, rl ? r2_run_grpo(&x->ctx, run) : r2_run_sft(&x->ctx, run));
    *path = NULL;
}

/* Gives the run the model of that name: the one that is kept, or a new one, which is kept then. */
static inline void xp_make(xp *x, r2_run *run, bool rl, const char *name) {
    if (xp_load_weights(x, name, run)) return;
    xp_train(x, run, rl, name);
    xp_save_run(x, name, run);
    xp_forget(x, name);
}

/* ---- averages ---- */

typedef enum xp_metric {
    XP_HR1 = 0,
    XP_HR5,
    XP_HR10,
    XP_NDCG5,
    XP_NDCG10,
    XP_MRR,
    XP_TIE,
    XP_N
} xp_metric;
static const char *const xp_metric_name[XP_N] = {"hr@1",    "hr@5", "hr@10",   "ndcg@5",
                                                 "ndcg@10", "mrr",  "tie_rate"};

static double xp_metric_of(r2_rank rank, xp_metric metric) {
    switch (metric) {
    case XP_HR1: return r2_hit_ratio(rank, 1);
    case XP_HR5: return r2_hit_ratio(rank, 5);
    case XP_HR10: return r2_hit_ratio(rank, 10);
    case XP_NDCG5: return r2_ndcg(rank, 5);
    case XP_NDCG10: return r2_ndcg(rank, 10);
    case XP_MRR: return r2_reciprocal_rank(rank);
    default: return rank.tied > 0;
    }
}

/* The mean of several rows, user by user: value (XP_N, n). */
typedef struct xp_mean {
    int64_t n, n_rows;
    double *value;
} xp_mean;

static void xp_mean_add(xp *x, xp_mean *mean, const cJSON *row) {
    const cJSON *better = cJSON_GetObjectItemCaseSensitive(row, "better");
    const cJSON *tied = cJSON_GetObjectItemCaseSensitive(row, "tied");
    int64_t n = better ? cJSON_GetArraySize(better) : 0, k = 0;
    if (n == 0 || !tied || cJSON_GetArraySize(tied) != n || (mean->n && mean->n != n)) return;
    if (!mean->value) mean->value = (double *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)n, XP_N * 8));
    mean->n = n;
    mean->n_rows++;
    better = better->child;
    tied = tied->child;
    for (; better && tied; better = better->next, tied = tied->next, ++k)
        for (int m = 0; m < XP_N; ++m) {
            r2_rank rank = {(int64_t)better->valuedouble, (int64_t)tied->valuedouble};
            double *value = &mean->value[m * n + k];
            *value += (xp_metric_of(rank, (xp_metric)m) - *value) / (double)mean->n_rows;
        }
}

static double xp_average(const xp_mean *mean, xp_metric metric) {
    double sum = 0.0;
    for (int64_t k = 0; k < mean->n; ++k) sum += mean->value[metric * mean->n + k];
    return mean->n ? sum / (double)mean->n : NAN;
}

/* 95 % interval over users of the mean, or of the difference to `other` when that is given. */
static void xp_interval(xp *x, const xp_mean *mean, const xp_mean *other, xp_metric metric,
                        double *lo, double *hi) {
    double *value = (double *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)mean->n, sizeof *value));
    for (int64_t k = 0; k < mean->n; ++k)
        value[k] = mean->value[metric * mean->n + k] -
                   (other ? other->value[metric * mean->n + k] : 0.0);
    xp_check(x, r2_bootstrap_mean(&x->ctx, value, mean->n, 2000, 0, lo, hi));
    r2_release(&x->ctx, value);
}

static void xp_mean_free(xp *x, xp_mean *mean) {
    r2_release(&x->ctx, mean->value);
    memset(mean, 0, sizeof *mean);
}

#endif

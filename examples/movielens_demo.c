/* movielens_demo.c: the main job, end to end.

   Loads ratings, splits, samples chains, writes prompts and traces, trains a small transformer by
   supervised fine-tuning and GRPO, ranks held-out items beside the usual baselines, and recommends
   to three people with its reasons. With --model it takes what an earlier run has trained. `--help`
   lists the options. */
#define _POSIX_C_SOURCE 200809L /* access, isatty, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <cjson/cJSON.h>

#include "common/baselines.h"
#include "common/dump.h"
#include "common/options.h"
#include "common/output.h"
#include "common/reasons.h"
#include "common/report.h"

/* ---- what the command line asks for ---- */

typedef struct demo_options {
    const char *data, *out, *user, *candidates, *model, *settings;
    r2_format format;
    int64_t seed, threads;
    bool full, ease, table, quiet, resume, dump;
    bool borrows; /* --model of other data than --data */
    int64_t sft_steps, grpo_steps; /* -1: as quick or full say */
} demo_options;

static const char usage[] =
    "[options]\n"
    "  --data PATH    a MovieLens or RecBole directory, or any file with an interaction per line\n"
    "                 (default data/mini)\n" OPTIONS_FORMAT_HELP
    "  --candidates FILE  test candidates, as r2_candidates_save writes them\n"
    "  --out DIR      where results go (default out)\n"
    "  --user ID      recommend to this user of the data, not to three test users\n"
    "  --model DIR    do not train: take the model and the settings of an earlier --out; with\n"
    "                 --data of other ratings, its model alone: fast, and ranks less well\n"
    "  --table        with --model: the table of results as well\n"
    "  --settings FILE  options as JSON, as each run leaves them in OUT/settings.json\n"
    "  --seed N       of everything drawn (default 1)\n"
    "  --threads N    default: one a processor; beside other work try two. Results do\n"
    "                 not depend on it\n"
    "  --quick        a few minutes (the default)\n"
    "  --full         the long training: twice the questions, more steps, minutes more\n"
    "  --ease         EASE^R's score among the evidence, in the place of its kin `deep`\n"
    "  --dump         all that another implementation is compared with, into OUT/dump: split,\n"
    "                 candidates with values, prompts, scores, ranks; rankings for trec_eval\n"
    "  --sft-steps N  batches of supervised fine-tuning, instead of what these two say\n"
    "  --grpo-steps N batches of reinforcement learning, likewise\n"
    "  --continue     goes on with a training that was stopped or killed, to the same results\n"
    "  --quiet        no progress\n"
    "  --help         this text\n";

/* Those of the settings that a file keeps come first. */
enum { DEMO_KEPT = 15, DEMO_OPTIONS = 25 };

static void list_options(demo_options *o, options_entry list[DEMO_OPTIONS]) {
    const options_entry all[DEMO_OPTIONS] = {
        {"--data", OPTIONS_TEXT, &o->data, 0, 0},
        OPTIONS_FORMAT(o->format),
        {"--candidates", OPTIONS_TEXT, &o->candidates, 0, 0},
        {"--seed", OPTIONS_WHOLE, &o->seed, 0, INT64_MAX},
        {"--full", OPTIONS_FLAG, &o->full, true, 0},
        {"--ease", OPTIONS_FLAG, &o->ease, true, 0},
        {"--sft-steps", OPTIONS_WHOLE, &o->sft_steps, 0, 10000000},
        {"--grpo-steps", OPTIONS_WHOLE, &o->grpo_steps, 0, 10000000},
        {"--out", OPTIONS_TEXT, &o->out, 0, 0},
        {"--user", OPTIONS_TEXT, &o->user, 0, 0},
        {"--threads", OPTIONS_WHOLE, &o->threads, 1, 256},
        {"--quick", OPTIONS_FLAG, &o->full, false, 0},
        {"--model", OPTIONS_TEXT, &o->model, 0, 0},
        {"--table", OPTIONS_FLAG, &o->table, true, 0},
        {"--settings", OPTIONS_TEXT, &o->settings, 0, 0},
        {"--continue", OPTIONS_FLAG, &o->resume, true, 0},
        {"--dump", OPTIONS_FLAG, &o->dump, true, 0},
        {"--quiet", OPTIONS_FLAG, &o->quiet, true, 0}};
    memcpy(list, all, sizeof all);
}

/* A file of settings first, then what the command line says. A trained model has its settings
   beside it. */
static demo_options parse_options(int argc, char **argv) {
    static demo_options o; /* the entries point here */
    demo_options trained;
    options_entry list[DEMO_OPTIONS];
    o.data = "data/mini", o.out = "out", o.seed = 1;
    o.sft_steps = o.grpo_steps = -1;
    list_options(&o, list);
    options_read("movielens_demo", usage, list, DEMO_OPTIONS, argc, argv, NULL);
    if (!o.model && !o.settings) return o;
    if (o.settings) options_load("movielens_demo", list, DEMO_KEPT, o.settings, "");
    else options_load("movielens_demo", list, DEMO_KEPT, o.model, "/settings.json");
    trained = o;
    o.out = o.settings ? o.out : o.model;
    options_read("movielens_demo", usage, list, DEMO_OPTIONS, argc, argv, NULL);
    if (o.settings || strcmp(o.data, trained.data) == 0) return o;
    memset(&o, 0, sizeof o); /* the settings describe other files */
    o.data = "data/mini", o.out = "out", o.seed = 1, o.ease = trained.ease, o.borrows = true;
    o.sft_steps = o.grpo_steps = -1;
    options_read("movielens_demo", usage, list, DEMO_OPTIONS, argc, argv, NULL);
    return o;
}

/* ---- progress ---- */

/* The parts of a run. What takes no share of the time is left out. */
typedef enum demo_phase {
    PHASE_DATA = 0,
    PHASE_BASELINES,
    PHASE_UNTRAINED,
    PHASE_SFT,
    PHASE_AFTER_SFT,
    PHASE_GRPO,
    PHASE_AFTER_GRPO,
    PHASE_RECOMMEND,
    PHASE_REPORT,
    N_PHASES
} demo_phase;

static const char *const phase_name[N_PHASES] = {"data, chains, prompts",
                                                 "baselines",
                                                 "untrained model",
                                                 "supervised fine-tuning",
                                                 "evaluation after SFT",
                                                 "GRPO",
                                                 "evaluation after GRPO",
                                                 "recommendations, files",
                                                 "report"};

typedef struct demo_progress {
    bool terminal, quiet;
    double share[N_PHASES];
    demo_phase phase;
    double began, shown; /* the run; the last line */
} demo_progress;

/* How many untrained models are asked: one ranks by accident and its HR@1 varies widely, so the row
   is a mean of several, where that takes no more than a second or two. */
static int n_untrained(int64_t n_cases) { return n_cases <= 2048 ? 3 : 1; }

/* Rows of EASE^R's matrix; 0: the rows of EASE^R are left out. */
static int64_t ease_rows(const r2_run *run) {
    const int64_t n = bl_ease_size(run);
    return n > 2 * BL_EASE_MOST ? 0 : n > BL_EASE_MOST ? BL_EASE_FEATURES : n;
}

/* The shares for so many ratings, test cases and rows of EASE^R's matrix, about seconds of two
   cores in 2026. */
static void plan(demo_progress *p, const demo_options *o, const r2_run_config *c, int64_t n_ratings,
                 int64_t n_cases, int64_t n_ease) {
    const double ratings = 1e-6 * (double)n_ratings, cases = 1e-3 * (double)n_cases;
    const double thousands = 1e-3 * (double)n_ease, cube = thousands * thousands * thousands;
    const double share[N_PHASES] = {1.0 + 19.0 * pow(ratings, 0.7),
                                    4.0 + 3.3 * ratings + 0.3 * cube,
                                    0.9 * cases * n_untrained(n_cases),
                                    0.02,
                                    2.2 * cases,
                                    0.065,
                                    3.0 * cases,
                                    1.5 + 1.2 * ratings,
                                    2.0};
    memcpy(p->share, share, sizeof share);
    p->share[PHASE_SFT] *= (double)c->sft.n_steps * c->sft.groups / 16.0;
    p->share[PHASE_GRPO] *= (double)c->grpo.n_steps;
    for (int k = PHASE_BASELINES; k <= PHASE_REPORT && o->model; ++k)
        if (k != PHASE_RECOMMEND && !(o->table && (k == PHASE_BASELINES || k == PHASE_AFTER_SFT)))
            p->share[k] = 0.0;
    if (c->grpo.n_steps == 0) p->share[PHASE_AFTER_GRPO] = 0.0;
}

/* Seconds to the end of the run, when `done` of the phase is done. */
static double seconds_left(const demo_progress *p, double done) {
    double before = p->share[p->phase] * done, after = p->share[p->phase] * (1.0 - done);
    for (int k = 0; k < N_PHASES; ++k) {
        if (k < (int)p->phase) before += p->share[k];
        if (k > (int)p->phase) after += p->share[k];
    }
    return before > 0.0 ? (r2_seconds() - p->began) * after / before : 0.0;
}

/* "[4 of 9] supervised fine-tuning" */
static void phase_label(const demo_progress *p, char label[64]) {
    int number = 0, n = 0;
    for (int k = 0; k < N_PHASES; ++k) {
        n += p->share[k] > 0.0;
        number += k <= (int)p->phase && p->share[k] > 0.0;
    }
    snprintf(label, 64, "[%d of %d] %s", number, n, phase_name[p->phase]);
}

/* A bar with the time left of the whole run on a terminal; now and then a line elsewhere. */
static int show_progress(void *hook_data, const char *what, int64_t done, int64_t total) {
    demo_progress *p = (demo_progress *)hook_data;
    const double now = r2_seconds(), share = total > 0 ? (double)done / (double)total : 0.0;
    const int filled = (int)(16.0 * share);
    char label[64];
    if (options_stop) return 1;
    if (p->quiet || (done != total && now - p->shown < (p->terminal ? 0.1 : 15.0))) return 0;
    if (done == total && !p->terminal) return 0;
    phase_label(p, label);
    if (p->terminal)
        fprintf(stderr, "\r%-37s [%.*s%*s] %3.0f %% ", label, filled, "################",
                16 - filled, "", 100.0 * share);
    else if (total > 0) fprintf(stderr, "%s: %s %.0f %%", label, what, 100.0 * share);
    else fprintf(stderr, "%s: %s, %lld so far", label, what, (long long)done);
    if (p->phase > PHASE_DATA) /* which tells how much there is to do */
        fprintf(stderr, p->terminal ? " %4.0f s left " : ", about %.0f s left of the run",
                seconds_left(p, share));
    if (!p->terminal) fputc('\n', stderr);
    p->shown = now;
    return 0;
}

static void clear_progress(const demo_progress *p) {
    if (p->terminal && !p->quiet) fprintf(stderr, "\r%79s\r", "");
}

/* ---- the state of the demo ---- */

enum { MAX_ROWS = 16 };

typedef struct result_row {
    const char *method;
    r2_metrics m;
    double *hit; /* (n_cases) */
} result_row;

typedef struct demo {
    demo_options options;
    r2_ctx ctx;
    demo_progress progress;
    r2_run run;
    bl_model ease;    /* --ease */
    r2_examples test; /* prompts of the test candidates, case after case */
    float *score;     /* (n_cases, n_per_case) of the test candidates */
    result_row row[MAX_ROWS];
    int n_rows;
    r2_trace_metrics sft_trace, rl_trace; /* of the test candidates */
    double phase_seconds[N_PHASES], phase_began;
    const char *noun; /* "film" or "item" */
    r2_text said;     /* recommendations.txt */
    report report;
    char sft_state[1024], grpo_state[1024]; /* where the trainings stand, for --continue */
} demo;

static void check(demo *d, r2_status status) {
    if (status == R2_OK && !options_stop) return;
    clear_progress(&d->progress); /* a progress bar may stand there */
    if (options_stop) options_stopped("movielens_demo");
    fprintf(stderr, "movielens_demo: %s%s\n", d->ctx.message, options_hint(&d->ctx));
    exit(1);
}

/* The end of a training. One that diverged leaves its best weights: they are saved. */
static void check_training(demo *d, r2_status status) {
    char why[sizeof d->ctx.message];
    if (status != R2_DIVERGED) {
        check(d, status);
        return;
    }
    memcpy(why, d->ctx.message, sizeof why);
    check(d, r2_run_save(&d->ctx, &d->run, d->options.out));
    fprintf(stderr, "movielens_demo: %s; they are saved in %s\n", why, d->options.out);
    exit(1);
}

static void write_table(demo *d);

/* A part of the run is done: its rows are on disk from now on. */
static void phase_ends(demo *d) {
    demo_progress *p = &d->progress;
    const double now = r2_seconds();
    report_phase(&d->report, phase_name[p->phase], now - d->phase_began);
    d->phase_seconds[p->phase] = now - d->phase_began;
    d->phase_began = now;
    if (p->phase >= PHASE_BASELINES && p->phase <= PHASE_AFTER_GRPO && d->n_rows) write_table(d);
    clear_progress(p);
    do ++p->phase;
    while (p->phase < N_PHASES && p->share[p->phase] <= 0.0);
    p->shown = now;
    if (p->phase == N_PHASES || p->quiet) return;
    char label[64];
    phase_label(p, label);
    fprintf(stderr, "%s (about %.0f s left of the run)%s", label, seconds_left(p, 0.0),
            p->terminal ? "" : "\n");
}

static void *need(demo *d, void *memory) {
    if (!memory) check(d, R2_NO_MEMORY);
    return memory;
}

static void write_file(demo *d, const char *name, const r2_text *text) {
    r2_text path = {NULL, 0, 0, false};
    r2_text_addf(&d->ctx, &path, "%s/%s", d->options.out, name);
    if (path.failed || text->failed) check(d, R2_NO_MEMORY);
    check(d, r2_write_file(&d->ctx, path.data, text->data ? text->data : "", text->len));
    r2_text_free(&d->ctx, &path);
}

/* ---- evaluation ---- */

/* Into d->score. trace NULL: not wanted. */
static void score_test(demo *d, r2_model *model, r2_mode mode, r2_trace_metrics *trace) {
    r2_score_config how = r2_score_config_default();
    how.mode = mode;
    check(d, r2_score(&d->ctx, model, &d->test, &how, d->score, trace));
}

/* Evaluates d->score as a new row of the table. */
static result_row *add_row(demo *d, const char *method) {
    const r2_candidates *test = &d->run.test;
    result_row *row = &d->row[d->n_rows++];
    r2_eval_config eval = r2_eval_config_default();
    eval.seed = (uint64_t)d->options.seed;
    row->method = method;
    row->hit = (double *)need(d, r2_alloc(&d->ctx, (uint64_t)test->n_cases, sizeof(double)));
    check(d, r2_evaluate(&d->ctx, d->score, test->n_cases, test->n_per_case, &eval, &row->m,
                         row->hit));
    report_scores(&d->report, &d->run, method, d->score);
    return row;
}

/* The methods that cost seconds; `make results` runs the others too. */
static void evaluate_baselines(demo *d) {
    for (int b = 0; b < BL_N_METHODS; ++b) {
        const bl_method *method = &bl_methods[b];
        bl_model best;
        if (method->slow) continue;
        if (method->fit == bl_ease_fit && ease_rows(&d->run) == 0) continue;
        check(d, bl_tune(&d->ctx, method, &d->run, &best));
        best.asked_of = &d->run.test, best.asked = &d->test;
        check(d, method->score(&d->ctx, &best, &d->run.test, d->score));
        bl_free(&d->ctx, &best);
        add_row(d, method->name);
    }
}

static void evaluate_untrained(demo *d) {
    const int n_init = n_untrained(d->run.test.n_cases);
    result_row *row = NULL;
    r2_eval_config eval = r2_eval_config_default();
    eval.seed = (uint64_t)d->options.seed;
    for (int k = 0; k < n_init; ++k) {
        r2_model fresh;
        r2_model_config config = d->run.model.config;
        r2_metrics m;
        double *hit = (double *)need(d,
                                     r2_alloc(&d->ctx, (uint64_t)d->run.test.n_cases, sizeof *hit));
        config.seed = r2_hash((uint64_t)d->options.seed, (uint64_t)k, R2_STREAM_INIT);
        check(d, r2_model_init(&d->ctx, &fresh, &config, false));
        score_test(d, &fresh, R2_DIRECT, NULL);
        r2_model_free(&d->ctx, &fresh);
        if (k == 0) {
            row = add_row(d, "untrained");
            r2_release(&d->ctx, hit);
            continue;
        }
        check(d, r2_evaluate(&d->ctx, d->score, d->run.test.n_cases, d->run.test.n_per_case, &eval,
                             &m, hit));
        report_scores(&d->report, &d->run, "untrained", d->score);
        for (int64_t c = 0; c < d->run.test.n_cases; ++c) row->hit[c] += hit[c];
        row->m.hr5 += m.hr5, row->m.ndcg5 += m.ndcg5, row->m.mrr += m.mrr;
        r2_release(&d->ctx, hit);
    }
    row->m.hr1 = 0.0;
    for (int64_t c = 0; c < d->run.test.n_cases; ++c) {
        row->hit[c] /= n_init;
        row->m.hr1 += row->hit[c] / (double)d->run.test.n_cases;
    }
    row->m.hr5 /= n_init, row->m.ndcg5 /= n_init, row->m.mrr /= n_init;
    check(d, r2_bootstrap_mean(&d->ctx, row->hit, d->run.test.n_cases, eval.n_bootstrap, eval.seed,
                               &row->m.hr1_lo, &row->m.hr1_hi));
}

static void evaluate_model(demo *d, const char *method, r2_mode mode, r2_trace_metrics *trace) {
    score_test(d, &d->run.model, mode, trace);
    add_row(d, method);
    report_odds(&d->report, &d->run, method, d->score);
}

/* ---- (a) the table ---- */

static void table_text(demo *d, r2_text *text) {
    const r2_run *run = &d->run;
    r2_ctx *ctx = &d->ctx;
    r2_text_addf(ctx, text, "One held-out favourite among %d %ss, %lld users (seed %lld)\n\n",
                 (int)run->test.n_per_case, d->noun, (long long)run->test.n_cases,
                 (long long)d->options.seed);
    if (run->split.n_cold_test > 0)
        r2_text_addf(
            ctx, text,
            "  only %ss that somebody else has rated: the favourites of %lld other users are "
            "left out\n\n",
            d->noun, (long long)run->split.n_cold_test);
    if (run->split.n_test + run->split.n_cold_test == run->config.n_cases)
        r2_text_addf(
            ctx, text,
            "  a sample of all who have a favourite to hold out: more would take longer\n\n");
    if (run->test.n_cases < run->split.n_test)
        r2_text_addf(ctx, text,
                     "  %lld more users have taken nearly everything: too few %ss are left "
                     "to choose from\n\n",
                     (long long)(run->split.n_test - run->test.n_cases), d->noun);
    r2_text_addf(ctx, text, "  %-17s %6s  %-15s %6s  %6s  %6s\n", "method", "HR@1", "95 % interval",
                 "HR@5", "NDCG@5", "MRR");
    for (int k = 0; k < d->n_rows; ++k) {
        const r2_metrics *m = &d->row[k].m;
        r2_text_addf(ctx, text, "  %-17s %6.3f  [%.3f, %.3f]  %6.3f  %6.3f  %6.3f\n",
                     d->row[k].method, m->hr1, m->hr1_lo, m->hr1_hi, m->hr5, m->ndcg5, m->mrr);
    }
}

/* Below the table: what its words mean. */
static void table_notes(demo *d, r2_text *text) {
    r2_ctx *ctx = &d->ctx;
    r2_text_addf(
        ctx, text,
        "\n  HR@1: how often the favourite comes first among it and %d others drawn from the "
        "%ss that its user does not have (1+%d). "
        "direct: the trained model answers at once. sft: after reasoning of its own, taught by "
        "examples (supervised fine-tuning). ",
        (int)d->run.test.n_per_case - 1, d->noun, (int)d->run.test.n_per_case - 1);
    if (d->run.config.grpo.n_steps > 0)
        r2_text_addf(ctx, text, "sft+grpo: the same after rewards for its reasoning. ");
    r2_text_addf(ctx, text,
                 "Reasoning that is true to the last word (every fact in the prompt, every "
                 "weight and total right): %.1f %% %s",
                 100.0 * d->sft_trace.faithful, d->options.model ? "of all" : "after SFT");
    if (d->rl_trace.n)
        r2_text_addf(ctx, text, ", %.1f %% after GRPO", 100.0 * d->rl_trace.faithful);
    r2_text_addf(ctx, text, ".\n");
}

/* results.txt, again whenever a part of the run has added rows. */
static void write_table(demo *d) {
    r2_text text = {NULL, 0, 0, false};
    table_text(d, &text);
    write_file(d, "results.txt", &text);
    r2_text_free(&d->ctx, &text);
}

static void print_table(demo *d) {
    r2_text text = {NULL, 0, 0, false}, lines = {NULL, 0, 0, false};
    table_text(d, &text);
    table_notes(d, &text);
    output_lines(&d->ctx, &lines, "", text.failed ? "" : text.data);
    if (text.failed || lines.failed) check(d, R2_NO_MEMORY);
    printf("\n%s", lines.data);
    write_file(d, "results.txt", &lines);
    r2_text_free(&d->ctx, &text);
    r2_text_free(&d->ctx, &lines);
}

/* ---- (b) recommendations with their reasons ---- */

/* Onto the screen and into recommendations.txt, at most 80 columns wide. */
static void tell(demo *d, const char *indent, r2_text *text) {
    const size_t from = d->said.len;
    output_lines(&d->ctx, &d->said, indent, text->failed || !text->data ? "" : text->data);
    if (text->failed || d->said.failed) check(d, R2_NO_MEMORY);
    if (d->said.data) fputs(d->said.data + from, stdout);
    r2_text_free(&d->ctx, text);
}

static const char *title(const demo *d, uint32_t item) { return reasons_title(&d->run.data, item); }

/* The chains with titles and stars, and what the model thought; NULL: the strongest evidence. */
static void print_reasons(demo *d, const r2_evidence *evidence, const char *output) {
    r2_prompt_config config = r2_prompt_config_default();
    r2_prompt prompt;
    r2_text text = {NULL, 0, 0, false};
    r2_task task = {0, &config, evidence, &prompt, -1};
    config.data = &d->run.data;
    config.codebook = &d->run.codebook;
    memset(&prompt, 0, sizeof prompt);
    check(d, r2_prompt_build(&d->ctx, &config, evidence, &prompt));
    check(d, r2_prompt_explain(&d->ctx, &task, output, &text));
    tell(d, "     ", &text);
    r2_prompt_free(&d->ctx, &prompt);
}

static uint32_t last_item(const demo *d, uint32_t user) {
    const r2_graph *g = &d->run.graph;
    return g->user_item[d->run.index.by_time[g->user_begin[user + 1] - 1]];
}

/* What a test user really took, and where the model puts it among the candidates. */
static void tell_truth(demo *d, uint32_t user) {
    const r2_candidates *test = &d->run.test;
    const r2_score_config how = r2_score_config_default();
    r2_text text = {NULL, 0, 0, false};
    for (int64_t c = 0; c < test->n_cases; ++c) {
        const uint32_t *item = test->item + c * test->n_per_case;
        const r2_candidates own = {1, test->n_per_case, &user, (uint32_t *)(uintptr_t)item};
        if (test->user[c] != user) continue;
        check(d, r2_run_score(&d->ctx, &d->run, &own, &how, d->score, NULL));
        const r2_rank rank = r2_rank_of(d->score, test->n_per_case);
        const int64_t row = r2_data_find(&d->run.data, user, item[0]);
        r2_text_addf(&d->ctx, &text,
                     "In truth this user went on to %s, and gave it %g of %g; it was "
                     "held out, and among 20 candidates the model puts it in place "
                     "%lld.\n",
                     title(d, item[0]), (double)d->run.data.rating[row],
                     (double)d->run.data.rating_max, (long long)rank.better + 1);
        tell(d, "  ", &text);
    }
}

/* The list, with the verdict on the reasoning behind each; returns how many are sound. */
static int tell_list(demo *d, const r2_recommendation *best, int64_t n) {
    r2_text text = {NULL, 0, 0, false};
    int sound = 0;
    for (int64_t k = 0; k < n; ++k) {
        const r2_check *c = &best[k].reasoning.check;
        const bool ok = c->verdict == R2_TRACE_OK;
        sound += ok;
        const char *name = title(d, best[k].item);
        const int width = output_columns(name, strlen(name));
        r2_text_addf(&d->ctx, &text, "%2lld. %s%*s  %s%s\n", (long long)k + 1, name,
                     width < 44 ? 44 - width : 0, "",
                     ok ? "reasoning sound" : "not sound: ", ok ? "" : r2_verdict_name(c->verdict));
    }
    if (sound < n)
        r2_text_addf(&d->ctx, &text,
                     "Not sound: something in the reasoning does not stand in the prompt "
                     "or does not add up. The list is as good as the table says; the "
                     "words are not to be trusted. What helps is more training, "
                     "--sft-steps and --grpo-steps (the default: %lld and %lld).\n",
                     (long long)r2_sft_config_default().n_steps,
                     (long long)r2_grpo_config_default().n_steps);
    tell(d, "  ", &text);
    return sound;
}

/* The first items of a user; why, in plain words and then in detail, for the first whose reasoning
   is sound, else for the first. */
static void recommend_to(demo *d, uint32_t user) {
    enum { N_BEST = 5 };
    r2_recommendation best[N_BEST];
    reasons why;
    r2_text text = {NULL, 0, 0, false};
    int64_t n = 0, k = 0;
    r2_text_addf(&d->ctx, &text, "\nUser %s, who has rated %lld %ss, the latest %s\n",
                 d->run.data.user_key[user], (long long)r2_graph_user_degree(&d->run.graph, user),
                 d->noun, title(d, last_item(d, user)));
    tell(d, "", &text);
    tell_truth(d, user);
    check(d, r2_run_recommend(&d->ctx, &d->run, user, N_BEST, best, &n));
    check(d, reasons_init(&d->ctx, &why, &d->run, user, d->noun));
    const int sound = tell_list(d, best, n);
    while (sound && best[k].reasoning.check.verdict != R2_TRACE_OK) ++k;
    if (n > 0) {
        r2_text_addf(&d->ctx, &text, "Why %s\n", title(d, best[k].item));
        tell(d, "  ", &text);
        reasons_say(&d->ctx, &why, &best[k].evidence, best[k].reasoning.check.answer, &text);
        tell(d, "   - ", &text);
        print_reasons(d, &best[k].evidence, sound ? best[k].reasoning.text.data : NULL);
    }
    r2_recommendations_free(&d->ctx, best, n);
}

/* The user asked for, or three of the test users, drawn by the seed. */
static void recommend(demo *d, int64_t wanted) {
    r2_rng rng = r2_rng_make((uint64_t)d->options.seed, R2_STREAM_USER, 0);
    const int64_t n_cases = d->run.test.n_cases;
    int64_t drawn[3] = {-1, -1, -1};
    r2_text text = {NULL, 0, 0, false};
    r2_text_addf(
        &d->ctx, &text,
        "\nRecommendations\nA chain: e1 what the user gave, e2 and e3 what Person A gave, e4 [?] "
        "what is asked. A thought, column by column: the step of the chain that it is about; its "
        "weight for (+) or against (-) taking the item; the total so far, which stops at %d "
        "either way; the fact's name; its level, 1 the lowest that occurs; what the fact is. "
        "Answer 0: would not be taken; 1 to 5: would, and how it would be rated.\n",
        R2_MAX_TOTAL);
    tell(d, "", &text);
    if (wanted >= 0) recommend_to(d, (uint32_t)wanted);
    for (int k = 0; k < 3 && k < n_cases && wanted < 0; ++k) {
        do drawn[k] = (int64_t)r2_rng_below(&rng, (uint64_t)n_cases);
        while ((k > 0 && drawn[k] == drawn[0]) || (k > 1 && drawn[k] == drawn[1]));
        recommend_to(d, d->run.test.user[drawn[k]]);
    }
}

/* ---- files ---- */

static void write_json(demo *d, const char *name, cJSON *json) {
    char *printed = json ? cJSON_Print(json) : NULL;
    r2_text text = {NULL, 0, 0, false};
    r2_text_addf(&d->ctx, &text, "%s\n", (char *)need(d, printed));
    write_file(d, name, &text);
    r2_text_free(&d->ctx, &text);
    cJSON_free(printed);
    cJSON_Delete(json);
}

static cJSON *json_results(const demo *d) {
    cJSON *results = cJSON_CreateArray();
    char protocol[24];
    snprintf(protocol, sizeof protocol, "1+%d", (int)d->run.test.n_per_case - 1);
    for (int k = 0; k < d->n_rows; ++k) {
        const r2_metrics *m = &d->row[k].m;
        cJSON *row = cJSON_CreateObject();
        cJSON_AddStringToObject(row, "method", d->row[k].method);
        cJSON_AddStringToObject(row, "protocol", protocol);
        cJSON_AddNumberToObject(row, "n_users", (double)m->n_cases);
        cJSON_AddNumberToObject(row, "hr@1", m->hr1);
        cJSON_AddNumberToObject(row, "hr@1_lo", m->hr1_lo);
        cJSON_AddNumberToObject(row, "hr@1_hi", m->hr1_hi);
        cJSON_AddNumberToObject(row, "hr@5", m->hr5);
        cJSON_AddNumberToObject(row, "ndcg@5", m->ndcg5);
        cJSON_AddNumberToObject(row, "mrr", m->mrr);
        cJSON_AddItemToArray(results, row);
    }
    return results;
}

/* What each metric is called in data/vectors/SPEC.md, section 15. */
static cJSON *json_definitions(void) {
    static const char *const definition[][2] = {
        {"hr", "hit_ratio/ties=expected"},
        {"hr@1_lo, hr@1_hi", "bootstrap/percentile=nearest"},
        {"ndcg", "ndcg/ties=expected/log2(rank+1)"},
        {"mrr", "reciprocal_rank/ties=expected"}};
    cJSON *json = cJSON_CreateObject();
    for (size_t k = 0; k < sizeof definition / sizeof *definition; ++k)
        cJSON_AddStringToObject(json, definition[k][0], definition[k][1]);
    return json;
}

static cJSON *json_traces(const r2_trace_metrics *m) {
    cJSON *json = cJSON_CreateObject(), *verdicts = cJSON_AddObjectToObject(json, "verdicts");
    cJSON_AddNumberToObject(json, "n", (double)m->n);
    cJSON_AddNumberToObject(json, "well_formed", m->well_formed);
    cJSON_AddNumberToObject(json, "faithful", m->faithful);
    cJSON_AddNumberToObject(json, "facts_found", m->facts_found);
    cJSON_AddNumberToObject(json, "facts_right", m->facts_right);
    for (int v = 0; v < R2_N_VERDICTS; ++v)
        cJSON_AddNumberToObject(verdicts, r2_verdict_name((r2_verdict)v), (double)m->verdict[v]);
    return json;
}

static void write_metrics(demo *d) {
    const r2_run_config *c = &d->run.config;
    cJSON *json = cJSON_CreateObject(), *facts, *config;
    cJSON_AddItemToObject(json, "results", json_results(d));
    cJSON_AddItemToObject(json, "definitions", json_definitions());
    cJSON_AddNumberToObject(json, "seed", (double)d->options.seed);
    facts = cJSON_AddObjectToObject(json, "data");
    cJSON_AddNumberToObject(facts, "users", (double)d->run.data.n_users);
    cJSON_AddNumberToObject(facts, "items", (double)d->run.data.n_items);
    cJSON_AddNumberToObject(facts, "ratings", (double)d->run.data.n_ratings);
    cJSON_AddNumberToObject(facts, "training_edges", (double)d->run.graph.n_edges);
    config = cJSON_AddObjectToObject(json, "config");
    cJSON_AddStringToObject(config, "run", d->options.full ? "full" : "quick");
    cJSON_AddNumberToObject(config, "groups", (double)(d->run.n_train / (1 + c->n_sampled)));
    cJSON_AddNumberToObject(config, "sampled_per_group", c->n_sampled);
    cJSON_AddNumberToObject(config, "chains", (double)c->chains.k);
    cJSON_AddBoolToObject(config, "ease", d->options.ease);
    cJSON_AddNumberToObject(config, "d_model", c->model.d_model);
    cJSON_AddNumberToObject(config, "layers", c->model.n_layer);
    cJSON_AddNumberToObject(config, "parameters", (double)d->run.model.n_params);
    cJSON_AddNumberToObject(config, "sft_steps", (double)c->sft.n_steps);
    cJSON_AddNumberToObject(config, "grpo_steps", (double)c->grpo.n_steps);
    cJSON_AddItemToObject(json, "traces_sft", json_traces(&d->sft_trace));
    if (d->rl_trace.n) cJSON_AddItemToObject(json, "traces_sft+grpo", json_traces(&d->rl_trace));
    write_json(d, "metrics.json", json);
}

static void write_timings(demo *d) {
    cJSON *json = cJSON_CreateObject();
    for (int k = 0; k < N_PHASES; ++k)
        if (d->progress.share[k] > 0.0)
            cJSON_AddNumberToObject(json, phase_name[k], d->phase_seconds[k]);
    write_json(d, "timings.json", json);
}

/* Adds a field of a CSV file, in double quotes where it needs them (RFC 4180). */
static void add_field(demo *d, r2_text *text, const char *before, const char *field) {
    r2_text_addf(&d->ctx, text, "%s", before);
    if (!strpbrk(field, ",\"\r\n")) {
        r2_text_addf(&d->ctx, text, "%s", field);
        return;
    }
    r2_text_addf(&d->ctx, text, "\"");
    for (; *field; ++field) {
        if (*field == '"') r2_text_add(&d->ctx, text, "\"", 1);
        r2_text_add(&d->ctx, text, field, 1);
    }
    r2_text_addf(&d->ctx, text, "\"");
}

/* candidates.csv: a line per test user, its positive first. */
static void write_candidates(demo *d) {
    const r2_candidates *test = &d->run.test;
    const int64_t n = test->n_per_case;
    r2_text text = {NULL, 0, 0, false};
    r2_text_addf(&d->ctx, &text, "user,positive,negatives...\n");
    for (int64_t c = 0; c < test->n_cases; ++c) {
        add_field(d, &text, "", d->run.data.user_key[test->user[c]]);
        for (int64_t k = 0; k < n; ++k)
            add_field(d, &text, ",", d->run.data.item_key[test->item[c * n + k]]);
        r2_text_addf(&d->ctx, &text, "\n");
    }
    write_file(d, "candidates.csv", &text);
    r2_text_free(&d->ctx, &text);
}

/* One line of traces.jsonl: "output" is what the model wrote, "completed" the same with the
   likeliest answer after <answer>, which is what the verdict is about. */
static void add_trace(demo *d, int64_t c, r2_text *lines) {
    const r2_candidates *test = &d->run.test;
    const int64_t e = c * test->n_per_case, from = d->test.prompt_begin[e];
    r2_reasoning own;
    r2_text prompt = {NULL, 0, 0, false}, written = {NULL, 0, 0, false};
    cJSON *json = cJSON_CreateObject();
    char *printed;
    check(d, r2_vocab_decode(&d->ctx, &d->run.vocab, d->test.prompt + from,
                             d->test.prompt_begin[e + 1] - from, &prompt));
    check(d, r2_think(&d->ctx, &d->run.model, &d->test, e, 1, &own));
    r2_text_add(&d->ctx, &written, own.text.data, own.n_written);
    if (written.failed) check(d, R2_NO_MEMORY);
    cJSON_AddStringToObject(json, "user", d->run.data.user_key[test->user[c]]);
    cJSON_AddStringToObject(json, "item", d->run.data.item_key[test->item[e]]);
    cJSON_AddStringToObject(json, "title", title(d, test->item[e]));
    cJSON_AddStringToObject(json, "prompt", prompt.data);
    cJSON_AddStringToObject(json, "output", written.data);
    cJSON_AddStringToObject(json, "completed", own.text.data);
    cJSON_AddStringToObject(json, "verdict", r2_verdict_name(own.check.verdict));
    printed = cJSON_PrintUnformatted(json);
    r2_text_addf(&d->ctx, lines, "%s\n", (char *)need(d, printed));
    cJSON_free(printed);
    cJSON_Delete(json);
    r2_text_free(&d->ctx, &prompt);
    r2_text_free(&d->ctx, &written);
    r2_reasoning_free(&d->ctx, &own);
}

/* traces.jsonl: the model's reasoning about each test positive. */
static void write_traces(demo *d) {
    const int64_t n = d->run.test.n_cases;
    r2_text lines = {NULL, 0, 0, false};
    for (int64_t c = 0; c < n; ++c) {
        add_trace(d, c, &lines);
        check(d, r2_progress(&d->ctx, "traces", c + 1, n));
    }
    write_file(d, "traces.jsonl", &lines);
    r2_text_free(&d->ctx, &lines);
}

/* OUT/dump, for --dump. */
static void write_dump(demo *d) {
    r2_text path = {NULL, 0, 0, false};
    if (!d->options.dump) return;
    r2_text_addf(&d->ctx, &path, "%s/dump", d->options.out);
    if (path.failed) check(d, R2_NO_MEMORY);
    options_directory("movielens_demo", path.data);
    check(d, dump_write(&d->ctx, &d->run, path.data));
    r2_text_free(&d->ctx, &path);
}

static void write_report(demo *d) {
    for (int k = 0; k < d->n_rows; ++k) report_result(&d->report, d->row[k].method, &d->row[k].m);
    check(d, report_write(&d->report, &d->run, d->options.data, d->options.out));
    phase_ends(d);
}

/* settings.json: `--settings` of it repeats the run. */
static void write_settings(demo *d) {
    options_entry list[DEMO_OPTIONS];
    list_options(&d->options, list);
    write_json(d, "settings.json", options_json(list, DEMO_KEPT));
}

/* ---- the journey ---- */

static void forget_states(demo *d) {
    if (!options_is_first()) return;
    remove(d->sft_state);
    remove(d->grpo_state);
}

static r2_run_config configure(demo *d) {
    const demo_options *o = &d->options;
    r2_run_config config = o->full ? r2_run_config_full() : r2_run_config_default();
    config.seed = (uint64_t)o->seed;
    config.format = o->format;
    if (o->borrows) config.n_groups = 2048; /* enough for buckets */
    if (o->ease) config.evidence_hook = bl_ease_evidence, config.evidence_hook_data = &d->ease;
    if (o->sft_steps >= 0) config.sft.n_steps = o->sft_steps;
    if (o->grpo_steps >= 0) config.grpo.n_steps = o->grpo_steps;
    report_watch(&d->report, &config);
    snprintf(d->sft_state, sizeof d->sft_state, "%s/sft.state", o->out);
    snprintf(d->grpo_state, sizeof d->grpo_state, "%s/grpo.state", o->out);
    config.sft.state_path = d->sft_state, config.grpo.state_path = d->grpo_state;
    if (!o->resume && !o->model) forget_states(d);
    return config;
}

/* The test candidates of a file in place of those drawn. */
static void take_candidates(demo *d) {
    if (!d->options.candidates) return;
    r2_candidates_free(&d->ctx, &d->run.test);
    check(d, r2_candidates_load(&d->ctx, &d->run.test, &d->run.data, d->options.candidates));
}

/* What was loaded, and what the files lack: it explains numbers further down. */
static void print_data(demo *d) {
    const r2_data *data = &d->run.data;
    int64_t untitled = 0;
    r2_text text = {NULL, 0, 0, false}, lines = {NULL, 0, 0, false};
    r2_text_addf(&d->ctx, &text,
                 "%s: %lld users, %lld %ss, %lld ratings; %lld training questions of "
                 "%lld users' past\n",
                 d->options.data, (long long)data->n_users, (long long)data->n_items, d->noun,
                 (long long)data->n_ratings, (long long)d->run.n_train,
                 (long long)d->run.graph.n_users);
    for (int64_t i = 0; i < data->n_items; ++i) untitled += !data->title[i][0];
    if (d->options.borrows)
        r2_text_addf(&d->ctx, &text, "the model in %s was trained on other data\n",
                     d->options.model);
    if (!data->has_rating) r2_text_addf(&d->ctx, &text, "no rating column: every rating is 1\n");
    if (data->unused)
        r2_text_addf(&d->ctx, &text, "columns that are not read: %s\n", data->unused);
    if (data->n_not_rated)
        r2_text_addf(&d->ctx, &text, "not rated, left out: %lld\n", (long long)data->n_not_rated);
    check(d, r2_data_doubts(&d->ctx, data, &text));
    if (data->was_counted)
        r2_text_addf(&d->ctx, &text,
                     "counts, not grades: each user's are graded 1 to 5 by their order\n");
    if (!data->has_time)
        r2_text_addf(&d->ctx, &text, "no time column: what came last is decided by lot\n");
    if (untitled)
        r2_text_addf(&d->ctx, &text, "%lld of %lld %ss have no title and are called by their ids\n",
                     (long long)untitled, (long long)data->n_items, d->noun);
    if (untitled && data->n_unrated)
        r2_text_addf(&d->ctx, &text, "%lld titles belong to no rated %s\n",
                     (long long)data->n_unrated, d->noun);
    r2_text_addf(&d->ctx, &text, "model: %lld parameters, %d words\n",
                 (long long)d->run.model.n_params, (int)d->run.vocab.n_words);
    output_lines(&d->ctx, &lines, "", text.failed ? "" : text.data);
    if (text.failed || lines.failed) check(d, R2_NO_MEMORY);
    fputs(lines.data, stdout);
    fflush(stdout);
    r2_text_free(&d->ctx, &text);
    r2_text_free(&d->ctx, &lines);
}

static int64_t wanted_user(demo *d) {
    int64_t user;
    if (!d->options.user) return -1;
    user = r2_data_user(&d->run.data, d->options.user);
    if (user < 0) {
        fprintf(stderr, "movielens_demo: --user: no user \"%s\" in %s\n", d->options.user,
                d->options.data);
        exit(1);
    }
    if (r2_graph_user_degree(&d->run.graph, (uint32_t)user) < 1) {
        fprintf(stderr, "movielens_demo: --user: user \"%s\" has no training interaction\n",
                d->options.user);
        exit(1);
    }
    return user;
}

/* Everything that is trained, with the rows that show what it is worth. */
static void train(demo *d) {
    evaluate_baselines(d);
    phase_ends(d);
    evaluate_untrained(d);
    phase_ends(d);
    if (d->run.config.sft.n_steps > 0) {
        check_training(d, r2_run_sft(&d->ctx, &d->run));
        phase_ends(d);
    }
    evaluate_model(d, "sft", R2_REASONED, &d->sft_trace);
    if (d->run.config.grpo.n_steps == 0) evaluate_model(d, "direct", R2_DIRECT, NULL);
    phase_ends(d);
    if (d->run.config.grpo.n_steps == 0) return;
    check_training(d, r2_run_grpo(&d->ctx, &d->run));
    phase_ends(d);
    evaluate_model(d, "direct", R2_DIRECT, NULL); /* the same model, asked to answer at once */
    evaluate_model(d, "sft+grpo", R2_REASONED, &d->rl_trace);
    phase_ends(d);
}

/* --model: what was trained before. */
static void take_model(demo *d) {
    check(d, d->options.borrows ? r2_run_borrow_model(&d->ctx, &d->run, d->options.model)
                                : r2_run_load_model(&d->ctx, &d->run, d->options.model));
    if (!d->options.table) return;
    evaluate_baselines(d);
    phase_ends(d);
    evaluate_model(d, "direct", R2_DIRECT, NULL);
    evaluate_model(d, "reasoned", R2_REASONED, &d->sft_trace);
    phase_ends(d);
}

static void print_end(const demo *d) {
    const bool trained = !d->options.model;
    printf("\nWhere the time went\n");
    for (int k = 0; k < N_PHASES; ++k)
        if (d->progress.share[k] > 0.0)
            printf("  %6.1f s  %s\n", d->phase_seconds[k], phase_name[k]);
    printf("\nIn %s\n", d->options.out);
    if (trained) printf("  report.html          all of it to look at, in a browser\n");
    printf("  recommendations.txt  the recommendations above\n");
    if (d->n_rows)
        printf("  results.txt          the table above%s\n",
               trained ? "; metrics.json, timings.json" : "");
    if (trained)
        printf("  traces.jsonl         the reasoning about each test user's favourite\n"
               "  candidates.csv       what was ranked\n"
               "  model.safetensors    the model, with codebook.json, vocab.txt, config.json\n"
               "  settings.json        --settings of it repeats the run\n\n"
               "Next, in the source tree:\n  tools/r2rec recommend --model %s --user ID\n",
               d->options.out);
}

static void demo_free(demo *d) {
    for (int k = 0; k < d->n_rows; ++k) r2_release(&d->ctx, d->row[k].hit);
    r2_release(&d->ctx, d->score);
    r2_examples_free(&d->ctx, &d->test);
    bl_free(&d->ctx, &d->ease);
    report_free(&d->report);
    r2_text_free(&d->ctx, &d->said);
    r2_run_free(&d->ctx, &d->run);
}

/* Loads, splits, writes prompts. */
static void prepare(demo *d) {
    r2_run_config config = configure(d);
    plan(&d->progress, &d->options, &config, 100000, 1000, 600); /* until it is known */
    d->phase_began = d->progress.began = d->progress.shown = r2_seconds();
    check(d, r2_run_init(&d->ctx, &d->run, d->options.data, &config));
    take_candidates(d);
    plan(&d->progress, &d->options, &config, d->run.data.n_ratings, d->run.test.n_cases,
         ease_rows(&d->run));
    d->noun = report_noun(d->options.data);
    d->score = (float *)need(d, r2_alloc(&d->ctx,
                                         (uint64_t)(d->run.test.n_cases * d->run.test.n_per_case),
                                         sizeof *d->score));
}

int main(int argc, char **argv) {
    static demo d;
    int64_t user;
    d.ctx = r2_ctx_default();
    options_join("movielens_demo", argv, &d.ctx, show_progress);
    d.options = parse_options(argc, argv);
    d.ctx.hook_data = &d.progress;
    d.progress.terminal = isatty(2);
    d.progress.quiet = d.options.quiet;
    options_watch_interrupt();
    setvbuf(stdout, NULL, _IOLBF, 0); /* a pipe sees each line when it is written */
    if (d.options.threads) d.ctx.n_threads = (int)d.options.threads;
    options_directory("movielens_demo", d.options.out);
    if (d.options.candidates && access(d.options.candidates, R_OK)) { /* they are read later */
        fprintf(stderr, "movielens_demo: --candidates %s: %s\n", d.options.candidates,
                strerror(errno));
        return 1;
    }
    report_init(&d.report, &d.ctx, argc, argv);
    prepare(&d);
    user = wanted_user(&d);
    output_printable(&d.run.data);
    clear_progress(&d.progress);
    print_data(&d);
    if (!d.options.model || d.options.table) /* once for all models */
        check(&d, r2_run_candidate_prompts(&d.ctx, &d.run, &d.run.test, NULL, &d.test));
    phase_ends(&d);
    if (d.options.model) take_model(&d);
    else train(&d);
    clear_progress(&d.progress);
    if (d.n_rows) print_table(&d);
    recommend(&d, user);
    write_file(&d, "recommendations.txt", &d.said);
    if (!d.options.model) {
        write_settings(&d);
        write_metrics(&d);
        write_candidates(&d);
        write_traces(&d);
        check(&d, r2_run_save(&d.ctx, &d.run, d.options.out));
    }
    write_dump(&d);
    phase_ends(&d);
    if (!d.options.model) {
        write_report(&d);
        write_timings(&d);
        forget_states(&d);
    }
    print_end(&d);
    demo_free(&d);
    return output_end("movielens_demo", 0);
}

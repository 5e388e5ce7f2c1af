/* movielens_demo.c: the main job, end to end.

   Loads ratings, splits, samples chains, writes prompts and traces, trains a small transformer by
   supervised fine-tuning and GRPO, ranks held-out items beside the usual baselines, and recommends
   films to three people with its reasons. `--help` lists the options. */
#define _POSIX_C_SOURCE 200809L /* access, isatty, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <cjson/cJSON.h>

#include "common/baselines.h"
#include "common/options.h"
#include "common/output.h"
#include "common/report.h"

/* ---- what the command line asks for ---- */

typedef struct demo_options {
    const char *data, *out, *user, *candidates;
    r2_format format;
    int64_t seed, threads;
    bool full, ease;
    int64_t sft_steps, grpo_steps; /* -1: as quick or full say */
} demo_options;

static const char usage[] =
    "[options]\n"
    "  --data PATH    a MovieLens or RecBole directory, or any file with an interaction per line\n"
    "                 (default data/mini)\n"
    "  --user-column NAME, --item-column NAME, --rating-column NAME, --time-column NAME\n"
    "                 columns of that file, or their numbers from 1 (default: the usual names);\n"
    "                 \"-\" for a rating or time that it does not have\n"
    "  --separator C  between its columns (default: the one that its first line shows)\n"
    "  --items FILE   titles, genres, years (default: the file beside the ratings)\n"
    "  --candidates FILE  test candidates, as r2_candidates_save writes them\n"
    "  --out DIR      where results go (default out)\n"
    "  --user ID      recommend to this user of the data, not to three test users\n"
    "  --seed N       of everything drawn (default 1)\n"
    "  --threads N    default: all processors; results do not depend on it\n"
    "  --quick        minutes (the default)\n"
    "  --full         the long training: twice the questions, more steps, minutes more\n"
    "  --ease         EASE^R's score among the evidence, in the place of its kin `deep`\n"
    "  --sft-steps N  batches of supervised fine-tuning, instead of what these two say\n"
    "  --grpo-steps N batches of reinforcement learning, likewise\n"
    "  --help         this text\n";

static demo_options parse_options(int argc, char **argv) {
    demo_options o;
    const options_entry list[] = {{"--data", OPTIONS_TEXT, &o.data, 0, 0},
                                  {"--user-column", OPTIONS_TEXT, &o.format.user, 0, 0},
                                  {"--item-column", OPTIONS_TEXT, &o.format.item, 0, 0},
                                  {"--rating-column", OPTIONS_TEXT, &o.format.rating, 0, 0},
                                  {"--time-column", OPTIONS_TEXT, &o.format.time, 0, 0},
                                  {"--separator", OPTIONS_TEXT, &o.format.separator, 0, 0},
                                  {"--items", OPTIONS_TEXT, &o.format.items, 0, 0},
                                  {"--candidates", OPTIONS_TEXT, &o.candidates, 0, 0},
                                  {"--out", OPTIONS_TEXT, &o.out, 0, 0},
                                  {"--user", OPTIONS_TEXT, &o.user, 0, 0},
                                  {"--seed", OPTIONS_WHOLE, &o.seed, 0, INT64_MAX},
                                  {"--threads", OPTIONS_WHOLE, &o.threads, 1, 256},
                                  {"--quick", OPTIONS_FLAG, &o.full, false, 0},
                                  {"--full", OPTIONS_FLAG, &o.full, true, 0},
                                  {"--ease", OPTIONS_FLAG, &o.ease, true, 0},
                                  {"--sft-steps", OPTIONS_WHOLE, &o.sft_steps, 0, 10000000},
                                  {"--grpo-steps", OPTIONS_WHOLE, &o.grpo_steps, 0, 10000000}};
    memset(&o, 0, sizeof o);
    o.data = "data/mini", o.out = "out", o.seed = 1;
    o.sft_steps = o.grpo_steps = -1;
    options_read("movielens_demo", usage, list, sizeof list / sizeof *list, argc, argv, NULL);
    return o;
}

/* ---- progress ---- */

typedef struct demo_progress {
    bool terminal;
    char what[32];
    double began, shown;
} demo_progress;

/* A bar with the time left on a terminal; a line per quarter elsewhere. */
static int show_progress(void *user, const char *what, int64_t done, int64_t total) {
    demo_progress *p = (demo_progress *)user;
    double now = r2_seconds(), left;
    int width = 30, filled = (int)(width * done / (total > 0 ? total : 1));
    if (strncmp(p->what, what, sizeof p->what - 1) != 0 || done <= 1) {
        snprintf(p->what, sizeof p->what, "%s", what);
        p->began = p->shown = now;
    }
    left = done > 0 ? (now - p->began) * (double)(total - done) / (double)done : 0.0;
    if (p->terminal && (done == total || now - p->shown > 0.1)) {
        fprintf(stderr, "\r  %-8s [%.*s%*s] %3d %%  %4.0f s left ", what, filled,
                "##############################", width - filled, "", (int)(100 * done / total),
                left);
        if (done == total) fprintf(stderr, "\r%70s\r", "");
        p->shown = now;
    } else if (!p->terminal && now - p->shown > 15.0 && done < total) {
        fprintf(stderr, "  %s: %lld of %lld, %.0f s left\n", what, (long long)done,
                (long long)total, left);
        p->shown = now;
    }
    return 0;
}

/* ---- the state of the demo ---- */

enum { MAX_ROWS = 16, MAX_PHASES = 16 };

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
    bl_model ease; /* --ease */
    r2_examples test; /* prompts of the test candidates, case after case */
    float *score; /* (n_cases, n_per_case) of the test candidates */
    result_row row[MAX_ROWS];
    int n_rows;
    r2_trace_metrics sft_trace, rl_trace; /* of the test candidates */
    const char *phase[MAX_PHASES];
    double phase_seconds[MAX_PHASES], phase_began;
    int n_phases;
    report report;
} demo;

static void check(demo *d, r2_status status) {
    if (status == R2_OK) return;
    if (d->progress.terminal) fprintf(stderr, "\r%70s\r", ""); /* a progress bar may stand there */
    fprintf(stderr, "movielens_demo: %s\n", d->ctx.message);
    exit(1);
}

static void phase_ends(demo *d, const char *name) {
    double now = r2_seconds();
    d->phase[d->n_phases] = name;
    report_phase(&d->report, name, now - d->phase_began);
    d->phase_seconds[d->n_phases++] = now - d->phase_began;
    d->phase_began = now;
}

static void *need(demo *d, void *memory) {
    if (!memory) check(d, R2_NO_MEMORY);
    return memory;
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
        if (method->fit == bl_ease_fit && bl_ease_size(&d->run) > 2 * BL_EASE_MOST) continue;
        check(d, bl_tune(&d->ctx, method, &d->run, &best));
        best.asked_of = &d->run.test, best.asked = &d->test;
        check(d, method->score(&d->ctx, &best, &d->run.test, d->score));
        bl_free(&d->ctx, &best);
        add_row(d, method->name);
    }
}

/* An untrained model ranks by accident: HR@1 of single ones varies widely, so the row is the mean of
   several initialisations. */
static void evaluate_untrained(demo *d) {
    enum { N_INIT = 3 };
    result_row *row = NULL;
    r2_eval_config eval = r2_eval_config_default();
    eval.seed = (uint64_t)d->options.seed;
    for (int k = 0; k < N_INIT; ++k) {
        r2_model fresh;
        r2_model_config config = d->run.model.config;
        r2_metrics m;
        double *hit = (double *)need(d, r2_alloc(&d->ctx, (uint64_t)d->run.test.n_cases, sizeof *hit));
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
        row->hit[c] /= N_INIT;
        row->m.hr1 += row->hit[c] / (double)d->run.test.n_cases;
    }
    row->m.hr5 /= N_INIT, row->m.ndcg5 /= N_INIT, row->m.mrr /= N_INIT;
    check(d, r2_bootstrap_mean(&d->ctx, row->hit, d->run.test.n_cases, eval.n_bootstrap, eval.seed,
                               &row->m.hr1_lo, &row->m.hr1_hi));
}

static void evaluate_model(demo *d, const char *method, r2_mode mode, r2_trace_metrics *trace) {
    score_test(d, &d->run.model, mode, trace);
    add_row(d, method);
    report_odds(&d->report, &d->run, method, d->score);
}

/* ---- (a) the table ---- */

static void print_table(const demo *d) {
    const r2_run *run = &d->run;
    printf("\nOne held-out favourite among %d films, %lld users (seed %lld)\n\n",
           (int)run->test.n_per_case, (long long)run->test.n_cases,
           (long long)d->options.seed);
    if (run->split.n_cold_test > 0)
        printf("  items that somebody else has rated; the favourites of %lld more users nobody has\n\n",
               (long long)run->split.n_cold_test);
    if (run->split.n_test + run->split.n_cold_test == run->config.n_cases)
        printf("  a sample of all who have a favourite to hold out: more would take longer\n\n");
    if (run->test.n_cases < run->split.n_test)
        printf("  %lld more users have taken nearly everything: too few films are left to choose from\n\n",
               (long long)(run->split.n_test - run->test.n_cases));
    printf("  %-12s %6s  %-15s %6s  %6s  %6s\n", "method", "HR@1", "95 % interval", "HR@5", "NDCG@5",
           "MRR");
    for (int k = 0; k < d->n_rows; ++k) {
        const r2_metrics *m = &d->row[k].m;
        printf("  %-12s %6.3f  [%.3f, %.3f]  %6.3f  %6.3f  %6.3f\n", d->row[k].method, m->hr1,
               m->hr1_lo, m->hr1_hi, m->hr5, m->ndcg5, m->mrr);
    }
    printf("\n  Reasoning of the model: %.1f %% of its traces are faithful to the last word after SFT,"
           "\n  %.1f %% after GRPO (every fact in the prompt, every weight and total right).\n",
           100.0 * d->sft_trace.faithful, 100.0 * d->rl_trace.faithful);
}

/* ---- (b) recommendations with their reasons ---- */

static const char *title(const demo *d, uint32_t item) {
    const r2_data *data = &d->run.data;
    return data->title[item][0] ? data->title[item] : data->item_key[item];
}

/* The chains with titles and stars, the strongest evidence, and what the model thought. */
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
    fputs(text.data, stdout);
    r2_text_free(&d->ctx, &text);
    r2_prompt_free(&d->ctx, &prompt);
}

static uint32_t last_item(const demo *d, uint32_t user) {
    const r2_graph *g = &d->run.graph;
    return g->user_item[d->run.index.by_time[g->user_begin[user + 1] - 1]];
}

/* The best recommendation for a user whose reasoning passes the strict check. */
static void recommend_to(demo *d, uint32_t user) {
    enum { N_BEST = 10 };
    r2_recommendation best[N_BEST];
    int64_t n = 0, k = 0;
    const int64_t *begin = d->run.data.user_begin + user, n_has = begin[1] - begin[0];
    printf("\nUser %s, who has rated %lld films, the latest %s\n", d->run.data.user_key[user],
           (long long)r2_graph_user_degree(&d->run.graph, user), title(d, last_item(d, user)));
    check(d, r2_run_recommend(&d->ctx, &d->run, user, N_BEST, best, &n));
    while (k < n && best[k].reasoning.check.verdict != R2_TRACE_OK) ++k;
    if (k < n) {
        printf("  Watch %s (place %lld of %lld)\n", title(d, best[k].item), (long long)k + 1,
               (long long)(d->run.data.n_items - n_has));
        print_reasons(d, &best[k].evidence, best[k].reasoning.text.data);
    } else {
        printf(
            "  No recommendation among the first %d has reasoning that passes the strict check.\n",
            N_BEST);
    }
    r2_recommendations_free(&d->ctx, best, n);
}

/* The user asked for, or three of the test users, drawn by the seed. */
static void recommend(demo *d, int64_t wanted) {
    r2_rng rng = r2_rng_make((uint64_t)d->options.seed, R2_STREAM_USER, 0);
    const int64_t n_cases = d->run.test.n_cases;
    int64_t drawn[3] = {-1, -1, -1};
    printf("\n%s with the chains it stands on and the model's own thoughts.\n"
           "A thought: its weight for watching, the total so far (it stops at %d either way), the fact and\n"
           "its level, what it says. Answer 0: would not watch; 1 to 5: would, and how it is rated.\n",
           wanted >= 0 ? "A recommendation," : "Recommendations, each", R2_MAX_TOTAL);
    if (wanted >= 0) recommend_to(d, (uint32_t)wanted);
    for (int k = 0; k < 3 && k < n_cases && wanted < 0; ++k) {
        do drawn[k] = (int64_t)r2_rng_below(&rng, (uint64_t)n_cases);
        while ((k > 0 && drawn[k] == drawn[0]) || (k > 1 && drawn[k] == drawn[1]));
        recommend_to(d, d->run.test.user[drawn[k]]);
    }
}

/* ---- files ---- */

static void write_file(demo *d, const char *name, const r2_text *text) {
    r2_text path = {NULL, 0, 0, false};
    r2_text_addf(&d->ctx, &path, "%s/%s", d->options.out, name);
    if (path.failed || text->failed) check(d, R2_NO_MEMORY);
    check(d, r2_write_file(&d->ctx, path.data, text->data ? text->data : "", text->len));
    r2_text_free(&d->ctx, &path);
}

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
    cJSON_AddItemToObject(json, "traces_sft+grpo", json_traces(&d->rl_trace));
    write_json(d, "metrics.json", json);
}

static void write_timings(demo *d) {
    cJSON *json = cJSON_CreateObject();
    for (int k = 0; k < d->n_phases; ++k)
        cJSON_AddNumberToObject(json, d->phase[k], d->phase_seconds[k]);
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

static void write_report(demo *d) {
    for (int k = 0; k < d->n_rows; ++k) report_result(&d->report, d->row[k].method, &d->row[k].m);
    check(d, report_write(&d->report, &d->run, d->options.data, d->options.out));
    phase_ends(d, "report");
}

/* ---- the journey ---- */

static r2_run_config configure(demo *d) {
    const demo_options *o = &d->options;
    r2_run_config config = o->full ? r2_run_config_full() : r2_run_config_default();
    config.seed = (uint64_t)o->seed;
    config.format = o->format;
    if (o->ease) config.evidence_hook = bl_ease_evidence, config.evidence_hook_user = &d->ease;
    if (o->sft_steps >= 0) config.sft.n_steps = o->sft_steps;
    if (o->grpo_steps >= 0) config.grpo.n_steps = o->grpo_steps;
    report_watch(&d->report, &config);
    return config;
}

/* The test candidates of a file in place of those drawn. */
static void take_candidates(demo *d) {
    if (!d->options.candidates) return;
    r2_candidates_free(&d->ctx, &d->run.test);
    check(d, r2_candidates_load(&d->ctx, &d->run.test, &d->run.data, d->options.candidates));
}

/* Says what the files lack: it explains numbers further down. */
static void print_gaps(const r2_data *data) {
    int64_t untitled = 0;
    for (int64_t i = 0; i < data->n_items; ++i) untitled += !data->title[i][0];
    if (!data->has_rating) printf("no rating column: every rating is 1\n");
    if (data->was_counted) printf("counts, not grades: each user's are graded 1 to 5 by their order\n");
    if (!data->has_time) printf("no time column: what came last is decided by lot\n");
    if (!untitled) return;
    printf("%lld of %lld films have no title and are called by their ids", (long long)untitled,
           (long long)data->n_items);
    if (data->n_unrated)
        printf("; %lld titles belong to no rated film", (long long)data->n_unrated);
    printf("\n");
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

int main(int argc, char **argv) {
    static demo d;
    r2_run_config config;
    int64_t user;
    d.options = parse_options(argc, argv);
    d.ctx = r2_ctx_default();
    d.ctx.progress = show_progress;
    d.ctx.user = &d.progress;
    d.progress.terminal = isatty(2);
    setvbuf(stdout, NULL, _IOLBF, 0); /* a pipe sees each line when it is written */
    if (d.options.threads) d.ctx.n_threads = (int)d.options.threads;
    options_directory("movielens_demo", d.options.out);
    report_init(&d.report, &d.ctx, argc, argv);
    d.phase_began = r2_seconds();
    config = configure(&d);
    check(&d, r2_run_init(&d.ctx, &d.run, d.options.data, &config));
    take_candidates(&d);
    user = wanted_user(&d);
    output_printable(&d.run.data);
    printf("%s: %lld users, %lld films, %lld ratings; %lld training questions of %lld users' past\n",
           d.options.data, (long long)d.run.data.n_users, (long long)d.run.data.n_items,
           (long long)d.run.data.n_ratings, (long long)d.run.n_train,
           (long long)d.run.graph.n_users);
    print_gaps(&d.run.data);
    printf("model: %lld parameters, %d words\n", (long long)d.run.model.n_params,
           (int)d.run.vocab.n_words);
    fflush(stdout);
    d.score = (float *)need(&d, r2_alloc(&d.ctx, (uint64_t)(d.run.test.n_cases * d.run.test.n_per_case),
                                         sizeof *d.score));
    /* chains and evidence of the test candidates are computed once for all models */
    check(&d, r2_run_candidate_prompts(&d.ctx, &d.run, &d.run.test, NULL, &d.test));
    phase_ends(&d, "data, chains, prompts");
    evaluate_baselines(&d);
    phase_ends(&d, "baselines");
    evaluate_untrained(&d);
    phase_ends(&d, "untrained model");
    check(&d, r2_run_sft(&d.ctx, &d.run));
    phase_ends(&d, "supervised fine-tuning");
    evaluate_model(&d, "sft", R2_REASONED, &d.sft_trace);
    phase_ends(&d, "evaluation after SFT");
    check(&d, r2_run_grpo(&d.ctx, &d.run));
    phase_ends(&d, "GRPO");
    evaluate_model(&d, "direct", R2_DIRECT, NULL); /* the same model, asked to answer at once */
    evaluate_model(&d, "sft+grpo", R2_REASONED, &d.rl_trace);
    phase_ends(&d, "evaluation after GRPO");
    print_table(&d);
    recommend(&d, user);
    write_metrics(&d);
    write_candidates(&d);
    write_traces(&d);
    check(&d, r2_run_save(&d.ctx, &d.run, d.options.out));
    phase_ends(&d, "recommendations, files");
    write_report(&d);
    write_timings(&d);
    printf("\nWhere the time went\n");
    for (int k = 0; k < d.n_phases; ++k) printf("  %6.1f s  %s\n", d.phase_seconds[k], d.phase[k]);
    printf("\nResults, traces, candidates and the model are in %s\n", d.options.out);
    for (int k = 0; k < d.n_rows; ++k) r2_release(&d.ctx, d.row[k].hit);
    r2_release(&d.ctx, d.score);
    r2_examples_free(&d.ctx, &d.test);
    bl_free(&d.ctx, &d.ease);
    report_free(&d.report);
    r2_run_free(&d.ctx, &d.run);
    return output_end("movielens_demo", 0);
}

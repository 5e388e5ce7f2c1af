/* transfer.c: train once, recommend anywhere? Prompts speak of buckets, not of items, so a model may
   serve ratings it has never seen: each set of --data is asked with the model of every other, whose
   words it takes (r2_run_borrow_model), beside its own and popularity. HR@1 (1+19), direct answers,
   warm items. Models that `make results` of the same --out has trained are used, missing ones made.

   Each row is a file (experiment.h): stop it when you like, it goes on where it stood. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "../common/baselines.h"
#include "experiment.h"

static const char model_name[] = "model-m1-sft"; /* as results.c calls it */

/* The set's run with its own model. */
static void open_run(xp *set, r2_run *run) {
    r2_run_config config = xp_config(set, 1);
    if (set->steps) config.sft.n_steps = set->steps;
    xp_check(set, r2_run_init(&set->ctx, run, set->data, &config));
    xp_make(set, run, false, model_name);
}

/* Ranks of the candidates by the run's model, or by popularity. */
static cJSON *rank_all(xp *set, r2_run *run, bool popularity) {
    const r2_score_config how = r2_score_config_default();
    r2_trace_metrics trace;
    r2_candidates c;
    bl_model none;
    cJSON *row;
    float *score;
    memset(&none, 0, sizeof none);
    none.run = run;
    xp_candidates(set, run, 19, 1, &c);
    score = (float *)xp_need(
        set, r2_alloc(&set->ctx, (uint64_t)(c.n_cases * c.n_per_case), sizeof *score));
    xp_check(set, popularity ? bl_popularity(&set->ctx, &none, &c, score)
                             : r2_run_score(&set->ctx, run, &c, &how, score, &trace));
    row = xp_row(score, c.n_cases, c.n_per_case);
    r2_release(&set->ctx, score);
    r2_candidates_free(&set->ctx, &c);
    return row;
}

/* What the model of `from` is called in the rows of a set; NULL: popularity. */
static void row_key(const xp *set, const xp *from, char key[200]) {
    const char *slash = from ? strrchr(from->data, '/') : NULL;
    snprintf(key, 200, "transfer-%s-%s", set->validate ? "valid" : "test",
             !from ? "popularity" : slash ? slash + 1 : from->data);
}

/* The rows of one set: popularity, its own model, which comes before the others change the run's,
   and the others'. */
static void rows_of(xp *all, xp *set, int own, int n) {
    r2_run run;
    char key[200], path[1024];
    bool missing = false;
    for (int from = -1; from < n; ++from) {
        row_key(&set[own], from < 0 ? NULL : &set[from], key);
        missing = missing || !xp_has(&set[own], key);
    }
    if (!missing) return;
    open_run(&set[own], &run);
    row_key(&set[own], NULL, key);
    xp_save(&set[own], key, rank_all(&set[own], &run, true));
    row_key(&set[own], &set[own], key);
    xp_save(&set[own], key, rank_all(&set[own], &run, false));
    for (int from = 0; from < n; ++from) {
        if (from == own) continue;
        row_key(&set[own], &set[from], key);
        snprintf(path, sizeof path, "%s/%s", set[from].dir, model_name);
        xp_check(all, r2_run_borrow_model(&all->ctx, &run, path));
        xp_save(&set[own], key, rank_all(&set[own], &run, false));
    }
    r2_run_free(&set[own].ctx, &run);
}

/* " | HR@1, share of the set's own", with the interval of the difference. */
static void add_cell(xp *all, xp *set, const xp *from, r2_text *text, cJSON *json) {
    xp_mean own = {0, 0, NULL}, mean = {0, 0, NULL};
    char key[200];
    cJSON *row;
    double lo, hi;
    row_key(set, set, key);
    xp_mean_add(set, &own, row = xp_load(set, key));
    cJSON_Delete(row);
    row_key(set, from, key);
    xp_mean_add(set, &mean, row = xp_load(set, key));
    cJSON_Delete(row);
    xp_interval(set, &mean, &own, XP_HR1, &lo, &hi);
    r2_text_addf(&all->ctx, text, " | %.3f", xp_average(&mean, XP_HR1));
    if (from != set)
        r2_text_addf(&all->ctx, text, ", %.2f [%+.3f, %+.3f]",
                     xp_average(&mean, XP_HR1) / xp_average(&own, XP_HR1), lo, hi);
    cJSON_AddNumberToObject(json, set->data, xp_average(&mean, XP_HR1));
    xp_mean_free(set, &own);
    xp_mean_free(set, &mean);
}

static void write_table(xp *all, xp *set, int n) {
    r2_text text = {NULL, 0, 0, false};
    cJSON *json = cJSON_CreateObject();
    r2_text_addf(&all->ctx, &text,
                 "HR@1 (1+19), %s, direct; share of the set's own model [95 %% of the difference]"
                 "\n\n| trained on",
                 all->validate ? "validation" : "test");
    for (int s = 0; s < n; ++s) r2_text_addf(&all->ctx, &text, " | %s", set[s].data);
    r2_text_addf(&all->ctx, &text, " |\n|---");
    for (int s = 0; s < n; ++s) r2_text_addf(&all->ctx, &text, "|---");
    for (int from = -1; from < n; ++from) {
        const char *name = from < 0 ? "nothing: popularity" : set[from].data;
        cJSON *line = cJSON_AddObjectToObject(json, name);
        r2_text_addf(&all->ctx, &text, " |\n| %s", name);
        for (int s = 0; s < n; ++s)
            add_cell(all, &set[s], from < 0 ? NULL : &set[from], &text, line);
    }
    r2_text_addf(&all->ctx, &text, " |\n");
    xp_report(all, &text, json);
}

int main(int argc, char **argv) {
    static xp set[XP_MOST_SETS];
    xp all = xp_begin("transfer", 1, argc, argv);
    char *names = (char *)xp_need(&all, r2_alloc(&all.ctx, strlen(all.data) + 1, 1));
    int n;
    all.ctx.hook_data = &all;
    n = xp_open_sets(&all, "results", names, set);
    for (int s = 0; s < n; ++s) { /* every model before the first is borrowed */
        char path[1024];
        r2_run run;
        set[s].ctx.hook_data = &set[s];
        set[s].n_rows = n + 1;
        snprintf(path, sizeof path, "%s/%s/model.safetensors", set[s].dir, model_name);
        xp_claim(&set[s]);
        if (access(path, R_OK) == 0) continue;
        open_run(&set[s], &run);
        r2_run_free(&set[s].ctx, &run);
    }
    for (int s = 0; s < n; ++s) rows_of(&all, set, s, n);
    write_table(&all, set, n);
    r2_release(&all.ctx, names);
    return xp_end(&all);
}

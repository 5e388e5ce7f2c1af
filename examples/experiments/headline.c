/* headline.c: does thinking step by step pay where the evidence is complete? The designs of
   headline.h, each measured in the same way: first what its words can give at all, by methods that
   are no language models, then two students of the same shape on the same questions with the same
   computing:

       logit      conditional logit, every slot adds up            } the ceilings; with those of
       pairs      the same with a weight for each pair of a join   } tests/reference/ceilings.py,
       sum        the last total of the traces, as written         } logistic and boosted trees
       direct     Q, A
       reasoned   Q, R, A

   Choices are made with --check, which looks at validation positives only. Rows are files
   (experiment.h), and so are the tokens that ceilings.py reads. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <time.h>

#include "circles.h"
#include "experiment.h"
#include "headline.h"

typedef enum arm { LOGIT = 0, PAIRS, SUM, DIRECT, REASONED, LOGISTIC, TREES, N_ARMS } arm;
static const char *const arm_name[N_ARMS] = {"conditional logit",
                                             "conditional logit, pairs",
                                             "total of the traces, no model",
                                             "direct",
                                             "reasoned",
                                             "logistic regression",
                                             "boosted trees"};
static const char *const arm_key[N_ARMS] = {"logit",    "pairs",    "sum",  "direct",
                                            "reasoned", "logistic", "trees"};
/* in the order of the table; the last two come from ceilings.py */
static const arm table_order[N_ARMS] = {LOGISTIC, LOGIT, PAIRS, TREES, SUM, DIRECT, REASONED};

static int64_t reasoned_steps(const xp *x) { return x->steps ? x->steps : 500; }

/* ---- one seed: data, circles, records; one design: slots and weights ---- */

typedef struct asked {
    const r2_question *question;
    const r2_evidence *evidence;
    int64_t n;
    int32_t group;
    uint8_t *slot; /* (n, n_slots) of the design at hand */
} asked;

typedef struct lab {
    xp *x;
    int64_t seed;
    bool ready;
    r2_run run; /* its own model and examples are not used */
    tc_circles circles;
    tc_table table;
    hl_past past;
    asked train, valid, test;
    hl_design design;
    hl_words words;
    bool designed;
    double additive[HL_N_WEIGHTS], joined[HL_N_WEIGHTS];
} lab;

/* What is asked of candidates, after all of the user's training interactions. */
static void lab_ask(lab *l, const r2_candidates *c, asked *a) {
    r2_ctx *ctx = &l->x->ctx;
    int64_t n = c->n_cases * c->n_per_case;
    r2_question *q = (r2_question *)xp_need(l->x, r2_alloc(ctx, (uint64_t)n, sizeof *q));
    r2_evidence *evidence = (r2_evidence *)xp_need(l->x,
                                                   r2_alloc(ctx, (uint64_t)n, sizeof *evidence));
    for (int64_t k = 0; k < n; ++k) {
        q[k].user = c->user[k / c->n_per_case];
        q[k].item = c->item[k];
        q[k].n_history = (int32_t)r2_graph_user_degree(&l->run.graph, q[k].user);
        q[k].answer = -1;
        q[k].future = r2_index_future(&l->run.index, &l->run.data, q[k].user,
                                      c->item[k - k % c->n_per_case]);
    }
    /* as many chains as in training: their scores are evidence, too */
    xp_check(l->x, r2_evidence_compute(ctx, &l->run.index, q, n, &l->run.config.chains, evidence));
    a->question = q;
    a->evidence = evidence;
    a->n = n;
    a->group = (int32_t)c->n_per_case;
}

static void lab_open(lab *l) {
    xp *x = l->x;
    r2_run *run = &l->run;
    r2_run_config config = xp_config(x, (uint64_t)l->seed);
    int32_t group = 1 + config.n_sampled;
    double began = r2_seconds();
    if (l->ready) return;
    xp_check(x, r2_run_init(&x->ctx, run, x->data, &config));
    l->train.question = run->question;
    l->train.evidence = run->evidence;
    l->train.n = run->n_train;
    l->train.group = group;
    lab_ask(l, &run->valid, &l->valid);
    lab_ask(l, &run->test, &l->test);
    xp_check(x, tc_init(&x->ctx, &l->circles, &run->index, (uint64_t)l->seed));
    xp_check(x, tc_learn(&x->ctx, &l->table, &l->circles, run->question, run->n_train, group));
    xp_check(x, hl_past_init(&x->ctx, &l->past, &run->index));
    hl_past_want(&l->past, run->question, run->n_train);
    hl_past_want(&l->past, l->valid.question, l->valid.n);
    hl_past_want(&l->past, l->test.question, l->test.n);
    xp_check(x, hl_past_fill(&x->ctx, &l->past, &run->codebook));
    xp_check(x, hl_past_quantiles(&x->ctx, &l->past, run->question, run->n_train, group));
    l->ready = true;
    fprintf(stderr, "seed %d: evidence after %.0f s\n", (int)l->seed, r2_seconds() - began);
}

static void lab_slots(lab *l, asked *a) {
    xp *x = l->x;
    const hl_design *d = &l->design;
    hl_source from = {&l->run.codebook, &l->circles, &l->table, &l->past};
    a->slot = (uint8_t *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)a->n, (uint64_t)d->n_slots));
    R2_PARALLEL_FOR(r2_threads(&x->ctx, a->n * 1000), q, a->n) {
        hl_slots(d, &from, &a->question[q], &a->evidence[q], a->slot + q * d->n_slots);
    }
}

static void lab_undesign(lab *l) {
    r2_ctx *ctx = &l->x->ctx;
    if (!l->designed) return;
    r2_release(ctx, l->train.slot);
    r2_release(ctx, l->valid.slot);
    r2_release(ctx, l->test.slot);
    r2_vocab_free(ctx, &l->words.vocab);
    l->designed = false;
}

static void lab_design(lab *l, hl_kind kind) {
    xp *x = l->x;
    lab_open(l);
    if (l->designed && l->design.kind == kind) return;
    lab_undesign(l);
    l->design = hl_design_make(kind);
    lab_slots(l, &l->train);
    lab_slots(l, &l->valid);
    lab_slots(l, &l->test);
    xp_check(x, hl_words_init(&x->ctx, &l->words, &l->design, &l->run.codebook));
    xp_check(x, hl_fit(&x->ctx, &l->design, l->train.slot, l->train.n, l->train.group, false,
                       l->additive));
    xp_check(
        x, hl_fit(&x->ctx, &l->design, l->train.slot, l->train.n, l->train.group, true, l->joined));
    l->designed = true;
}

static void lab_close(lab *l) {
    r2_ctx *ctx = &l->x->ctx;
    lab_undesign(l);
    if (!l->ready) return;
    asked *both[2] = {&l->valid, &l->test};
    for (int k = 0; k < 2; ++k) {
        r2_release(ctx, (void *)(uintptr_t)both[k]->question);
        r2_release(ctx, (void *)(uintptr_t)both[k]->evidence);
    }
    hl_past_free(ctx, &l->past);
    tc_free(ctx, &l->circles);
    r2_run_free(ctx, &l->run);
}

/* ---- one student ---- */

typedef struct student {
    lab *l;
    arm a;
    r2_model model;
    int64_t n_steps;
    double seconds;                   /* of processors, for training alone */
    double words_right, traces_right; /* shares, of its reasoning on validation */
} student;

static void student_train(student *s, const char *key) {
    lab *l = s->l;
    xp *x = l->x;
    const int32_t prompt = 1 + l->design.n_slots, trace = hl_trace_length(&l->design);
    r2_sft_config sft;
    r2_model_config shape;
    r2_examples ex;
    double began;
    char state[1024];
    tc_student(&shape, &sft, l->words.vocab.n_words, (int32_t)x->layers, prompt + trace + 3,
               (uint64_t)l->seed);
    sft.reasoned_share = s->a == REASONED ? 1.0f : 0.0f;
    sft.n_steps = s->n_steps =
        (int64_t)(0.5 + (double)reasoned_steps(x) * tc_cost(&shape, prompt, trace) /
                            tc_cost(&shape, prompt, s->a == REASONED ? trace : 0));
    xp_check(x, r2_model_init(&x->ctx, &s->model, &shape, true));
    xp_check(x, hl_examples(&x->ctx, &ex, &l->design, &l->run.codebook, &l->words,
                            s->a == REASONED ? l->joined : NULL, l->train.slot, l->train.question,
                            l->train.n, l->train.group));
    began = (double)clock() / CLOCKS_PER_SEC;
    sft.state_path = xp_state(x, key, state);
    xp_check(x, r2_sft(&x->ctx, &s->model, &ex, &sft));
    s->seconds = (double)clock() / CLOCKS_PER_SEC - began;
    r2_examples_free(&x->ctx, &ex);
}

static void student_score(student *s, const asked *a, float *score) {
    lab *l = s->l;
    xp *x = l->x;
    const hl_design *d = &l->design;
    r2_score_config how = r2_score_config_default();
    r2_examples ex;
    for (int64_t k = 0; k < a->n && s->a < DIRECT; ++k) {
        const uint8_t *slot = a->slot + k * d->n_slots;
        if (s->a == SUM)
            score[k] = (float)hl_trace(d, &l->run.codebook, &l->words, l->joined, slot, NULL);
        else
            score[k] = (float)hl_logit(d, s->a == PAIRS ? l->joined : l->additive, slot,
                                       s->a == PAIRS);
    }
    if (s->a < DIRECT) return;
    how.mode = s->a == DIRECT ? R2_DIRECT : R2_REASONED;
    how.max_new = hl_trace_length(d);
    xp_check(x, hl_examples(&x->ctx, &ex, d, &l->run.codebook, &l->words, NULL, a->slot,
                            a->question, a->n, 1));
    xp_check(x, r2_score(&x->ctx, &s->model, &ex, &how, score, NULL));
    r2_examples_free(&x->ctx, &ex);
}

/* How much of the reasoning about the validation positives is what the weights say. */
static void student_check(student *s) {
    lab *l = s->l;
    xp *x = l->x;
    const hl_design *d = &l->design;
    int32_t want[HL_MAX_SLOTS + 2], n_words = hl_trace_length(d) - 1; /* but for <think> */
    int64_t n = l->valid.n / l->valid.group, row = d->n_slots + 2, right = 0, whole = 0;
    r2_generate_config how = r2_generate_config_default();
    r2_generation gen;
    int64_t *begin = (int64_t *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)n + 1, sizeof *begin));
    int32_t *token = (int32_t *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)(n * row), sizeof *token));
    for (int64_t k = 0; k < n; ++k) {
        const uint8_t *slot = l->valid.slot + k * l->valid.group * d->n_slots;
        int32_t *t = token + k * row;
        begin[k + 1] = begin[k] + row;
        *t++ = l->words.evidence;
        for (int j = 0; j < d->n_slots; ++j) *t++ = l->words.fact[d->family[j]][slot[j]];
        *t = l->words.codec.markup.think.id[0];
    }
    how.max_new = hl_trace_length(d);
    how.stop = l->words.codec.markup.answer.id, how.n_stop = 1;
    how.temperature = 0.0f;
    xp_check(x, r2_generate(&x->ctx, &s->model, &how, n, begin, token, &gen));
    for (int64_t k = 0; k < n; ++k) {
        int32_t same = 0;
        hl_trace(d, &l->run.codebook, &l->words, l->joined,
                 l->valid.slot + k * l->valid.group * d->n_slots, want);
        for (int32_t t = 0; t < n_words; ++t) same += gen.token[k * gen.max_new + t] == want[t + 1];
        right += same;
        whole += same == n_words;
    }
    s->words_right = (double)right / (double)(n_words * n);
    s->traces_right = (double)whole / (double)n;
    r2_generation_free(&x->ctx, &gen);
    r2_release(&x->ctx, begin);
    r2_release(&x->ctx, token);
}

/* ---- rows ---- */

static void row_key(char key[100], const xp *x, hl_kind kind, arm a, int64_t seed) {
    if (a == DIRECT || a == REASONED)
        snprintf(key, 100, "%s-%s-l%d-s%d", hl_name[kind], arm_key[a], (int)x->layers, (int)seed);
    else snprintf(key, 100, "%s-%s-s%d", hl_name[kind], arm_key[a], (int)seed);
}

static cJSON *row_load(xp *x, hl_kind kind, arm a, int64_t seed, const char *recipe) {
    char key[100];
    const char *found;
    cJSON *row;
    row_key(key, x, kind, a, seed);
    row = xp_load(x, key);
    found = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "recipe"));
    if (row && a > REASONED) return row; /* made elsewhere, from the tokens */
    if (found && !strcmp(found, recipe)) return row;
    cJSON_Delete(row);
    return NULL;
}

/* What a row depends on besides its key. */
static void row_recipe(char recipe[700], const xp *x, arm a) {
    snprintf(recipe, 700, "%s, %d steps%s", x->data,
             a == DIRECT || a == REASONED ? (int)reasoned_steps(x) : 0,
             x->validate ? ", validation only" : "");
}

static cJSON *student_row(student *s, const char *recipe) {
    lab *l = s->l;
    xp *x = l->x;
    float *score = (float *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)l->valid.n, sizeof *score));
    cJSON *row = cJSON_CreateObject(), *valid;
    student_score(s, &l->valid, score);
    valid = xp_row(score, l->valid.n / l->valid.group, l->valid.group);
    r2_release(&x->ctx, score);
    if (!x->validate) { /* the one look at the test positives */
        score = (float *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)l->test.n, sizeof *score));
        student_score(s, &l->test, score);
        cJSON_Delete(row);
        row = xp_row(score, l->test.n / l->test.group, l->test.group);
        r2_release(&x->ctx, score);
    }
    if (s->a == REASONED) student_check(s);
    cJSON_AddItemToObject(row, "valid", valid);
    cJSON_AddStringToObject(row, "recipe", recipe);
    cJSON_AddNumberToObject(row, "steps", (double)s->n_steps);
    cJSON_AddNumberToObject(row, "processor_seconds", s->seconds);
    cJSON_AddNumberToObject(row, "words_right", s->words_right);
    cJSON_AddNumberToObject(row, "traces_right", s->traces_right);
    return row;
}

/* Makes a row unless it is there. */
static void study(lab *l, hl_kind kind, arm a) {
    xp *x = l->x;
    student s;
    char key[100], recipe[700];
    cJSON *row;
    row_recipe(recipe, x, a);
    row = row_load(x, kind, a, l->seed, recipe);
    cJSON_Delete(row);
    if (row) {
        x->n_done++;
        return;
    }
    lab_design(l, kind);
    memset(&s, 0, sizeof s);
    s.l = l;
    s.a = a;
    row_key(key, x, kind, a, l->seed);
    if (a == DIRECT || a == REASONED) student_train(&s, key);
    xp_save(x, key, student_row(&s, recipe));
    xp_forget(x, key);
    r2_model_free(&x->ctx, &s.model);
}

/* ---- tokens for ceilings.py ---- */

static void add_tokens(lab *l, const char *part, const asked *a, r2_text *text) {
    r2_ctx *ctx = &l->x->ctx;
    int32_t n = l->design.n_slots;
    for (int64_t q = 0; q < a->n; ++q) {
        r2_text_addf(ctx, text, "%s,%d", part, (int)(q % a->group == 0));
        for (int32_t k = 0; k < n; ++k) r2_text_addf(ctx, text, ",%d", (int)a->slot[q * n + k]);
        r2_text_addf(ctx, text, "\n");
    }
}

/* DIR/DESIGN-sSEED.csv, unless it is there: part, whether observed, the bucket of each slot. With --check
   the test part is left out. */
static void write_tokens(lab *l, hl_kind kind) {
    xp *x = l->x;
    char path[700];
    r2_text text = {NULL, 0, 0, false};
    snprintf(path, sizeof path, "%s/%s-s%d.csv", x->dir, hl_name[kind], (int)l->seed);
    if (access(path, R_OK) == 0) return;
    lab_design(l, kind);
    add_tokens(l, "train", &l->train, &text);
    add_tokens(l, "valid", &l->valid, &text);
    if (!x->validate) add_tokens(l, "test", &l->test, &text);
    if (text.failed) xp_check(x, R2_NO_MEMORY);
    xp_own(x);
    xp_write(x, path, text.data);
    r2_text_free(&x->ctx, &text);
}

/* ---- the table ---- */

typedef struct report {
    xp *x;
    r2_text text;
    cJSON *json;
} report;

/* "mean [lo, hi]" of a row, or of its difference to another; nothing when it is not there. */
static void add_mean(report *r, const xp_mean *mean, const xp_mean *other, const char *name,
                     cJSON *json) {
    r2_ctx *ctx = &r->x->ctx;
    char key[60];
    double lo, hi, mid = xp_average(mean, XP_HR1) - (other ? xp_average(other, XP_HR1) : 0.0);
    if (!mean->n || (other && other->n != mean->n)) {
        r2_text_addf(ctx, &r->text, " |");
        return;
    }
    xp_interval(r->x, mean, other, XP_HR1, &lo, &hi);
    r2_text_addf(ctx, &r->text, other ? " %+.3f [%+.3f, %+.3f] |" : " %.3f [%.3f, %.3f] |", mid, lo,
                 hi);
    cJSON_AddNumberToObject(json, name, mid);
    snprintf(key, sizeof key, "%s_lo", name);
    cJSON_AddNumberToObject(json, key, lo);
    snprintf(key, sizeof key, "%s_hi", name);
    cJSON_AddNumberToObject(json, key, hi);
}

/* What a row is compared with; itself: nothing. */
static arm base_of(arm a) {
    return a == REASONED ? DIRECT : a == PAIRS ? LOGIT : a == TREES ? LOGISTIC : a;
}

static void table_row(report *r, hl_kind kind, arm a, int64_t seed, const cJSON *row,
                      const xp_mean valid[N_ARMS], const xp_mean test[N_ARMS]) {
    r2_ctx *ctx = &r->x->ctx;
    cJSON *json = cJSON_CreateObject();
    arm base = base_of(a);
    cJSON_AddStringToObject(json, "design", hl_name[kind]);
    cJSON_AddStringToObject(json, "method", arm_name[a]);
    cJSON_AddNumberToObject(json, "seed", (double)seed);
    cJSON_AddNumberToObject(json, "layers", (double)r->x->layers);
    r2_text_addf(ctx, &r->text, "| %s | %d | %s |", hl_name[kind], (int)seed, arm_name[a]);
    add_mean(r, &valid[a], NULL, "validation_hr@1", json);
    add_mean(r, &test[a], NULL, "hr@1", json);
    if (base != a) {
        cJSON_AddStringToObject(json, "base", arm_name[base]);
        add_mean(r, &valid[a], &valid[base], "validation_minus_base", json);
        add_mean(r, &test[a], &test[base], "minus_base", json);
    } else r2_text_addf(ctx, &r->text, " | |");
    if (a == REASONED)
        r2_text_addf(ctx, &r->text, " %.3f | %.3f |", xp_number(row, "words_right"),
                     xp_number(row, "traces_right"));
    else r2_text_addf(ctx, &r->text, " | |");
    if (a == DIRECT || a == REASONED)
        r2_text_addf(ctx, &r->text, " %.0f | %.1f |\n", xp_number(row, "steps"),
                     xp_number(row, "processor_seconds"));
    else r2_text_addf(ctx, &r->text, " | |\n");
    cJSON_AddNumberToObject(json, "words_right", xp_number(row, "words_right"));
    cJSON_AddNumberToObject(json, "traces_right", xp_number(row, "traces_right"));
    cJSON_AddNumberToObject(json, "steps", xp_number(row, "steps"));
    cJSON_AddItemToArray(r->json, json);
}

static void design_rows(report *r, hl_kind kind, int64_t seed) {
    xp *x = r->x;
    cJSON *row[N_ARMS];
    xp_mean valid[N_ARMS], test[N_ARMS];
    char recipe[700];
    memset(valid, 0, sizeof valid);
    memset(test, 0, sizeof test);
    for (int a = 0; a < N_ARMS; ++a) {
        row_recipe(recipe, x, (arm)a);
        row[a] = row_load(x, kind, (arm)a, seed, recipe);
        if (!row[a]) continue;
        xp_mean_add(x, &valid[a], cJSON_GetObjectItemCaseSensitive(row[a], "valid"));
        if (!x->validate) xp_mean_add(x, &test[a], row[a]);
    }
    for (int k = 0; k < N_ARMS; ++k)
        if (row[table_order[k]])
            table_row(r, kind, table_order[k], seed, row[table_order[k]], valid, test);
    for (int a = 0; a < N_ARMS; ++a) {
        cJSON_Delete(row[a]);
        xp_mean_free(x, &valid[a]);
        xp_mean_free(x, &test[a]);
    }
}

static bool chosen(const xp *x, hl_kind kind) {
    return !x->design || !strcmp(x->design, hl_name[kind]);
}

static void write_report(xp *x) {
    report r;
    memset(&r, 0, sizeof r);
    r.x = x;
    r.json = cJSON_CreateArray();
    r2_text_addf(
        &x->ctx, &r.text,
        "`build/examples/experiments/headline --data %s --steps %d --layers %d --seed %d "
        "--models %d%s`: HR@1 (1+19), intervals over users; direct and reasoned cost the same multiply-adds. "
        "Differences: reasoned to direct, pairs to no pairs, boosted trees to logistic regression"
        "\n\n| design | seed | method | validation [95 %%] | test [95 %%] | difference, "
        "validation | test | words right | traces right | steps | processor s |"
        "\n|---|---|---|---|---|---|---|---|---|---|---|\n",
        x->data, (int)reasoned_steps(x), (int)x->layers, (int)x->seed, (int)x->models,
        x->validate ? " --check" : "");
    for (int kind = 0; kind < HL_N_DESIGNS; ++kind)
        for (int64_t seed = x->seed; seed < x->seed + x->models; ++seed)
            if (chosen(x, (hl_kind)kind)) design_rows(&r, (hl_kind)kind, seed);
    xp_report(x, &r.text, r.json);
}

enum { ARM_SECONDS = 10 }; /* of one processor, with its share of the preparation */

int main(int argc, char **argv) {
    xp x = xp_begin("headline", 2, argc, argv);
    bool tokens = x.only && !strcmp(x.only, "tokens");
    int n_asked = 0, n_designs = 0;
    x.ctx.hook_data = &x;
    for (int a = 0; a <= REASONED; ++a) n_asked += !x.only || !strcmp(x.only, arm_key[a]);
    for (int k = 0; k < HL_N_DESIGNS; ++k) n_designs += chosen(&x, (hl_kind)k);
    if ((n_asked == 0 && !tokens) || n_designs == 0) {
        fprintf(stderr, "headline: --only logit, pairs, sum, direct, reasoned or tokens, --design "
                        "facts, sums, circles or records\n");
        return 2;
    }
    xp_claim(&x);
    x.n_rows = x.models * n_asked * n_designs;
    xp_plan(&x, ARM_SECONDS * (double)x.n_rows);
    for (int64_t seed = x.seed; seed < x.seed + x.models; ++seed) {
        lab *l = (lab *)xp_need(&x, r2_alloc(&x.ctx, 1, sizeof *l));
        l->x = &x;
        l->seed = seed;
        for (int k = 0; k < HL_N_DESIGNS; ++k) {
            if (chosen(&x, (hl_kind)k) && (tokens || !x.only)) write_tokens(l, (hl_kind)k);
            for (int a = 0; a <= REASONED; ++a)
                if (chosen(&x, (hl_kind)k) && (!x.only || !strcmp(x.only, arm_key[a])) &&
                    (a != PAIRS || hl_design_make((hl_kind)k).n_joins))
                    study(l, (hl_kind)k, (arm)a);
        }
        lab_close(l);
        r2_release(&x.ctx, l);
    }
    write_report(&x);
    return xp_end(&x);
}

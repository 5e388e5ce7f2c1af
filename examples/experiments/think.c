/* think.c: when does thinking step by step help a small model? Where the evidence must be joined,
   not only added up (circles.h), and every step is written down. Four students of the same shape
   learn from the same questions, each for the same amount of computing:

       direct       Q, A                                            Q: the prompts of circles.h
       reasoned     Q, R, A    R: chain by chain its weight and the running total
       total only   Q, R, A    the control without steps: R is the last total alone
       shuffled     Q, R, A    the control without sense: R belongs to another question

   The first two then go on for as much computing again, in two ways:

       longer       trained the same way for twice the steps
       + GRPO       rewarded for what their own sampled reasoning leads to: no trace says what to
                    write. The direct one has never seen a trace

   Each trained student is a file (experiment.h): stop it when you like, it goes on where it stood.
   All that was chosen (strengths, buckets, learning rates, steps) was chosen on validation. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <time.h>

#include "circles.h"
#include "experiment.h"

/* The first is not trained: it ranks by what the teacher counted, the sum of the weights. */
typedef enum arm {
    COUNTED = 0,
    DIRECT,
    REASONED,
    TOTAL,
    SHUFFLED,
    DIRECT_LONGER,
    REASONED_LONGER,
    DIRECT_GRPO,
    REASONED_GRPO,
    N_ARMS
} arm;
static const char *const arm_name[N_ARMS] = {
    "counted sum, no model", "direct",           "reasoned",      "total only",     "shuffled",
    "direct, longer",        "reasoned, longer", "direct + GRPO", "reasoned + GRPO"};
static const char *const arm_key[N_ARMS] = {"counted",         "direct",      "reasoned",
                                            "total",           "shuffled",    "direct-longer",
                                            "reasoned-longer", "direct-grpo", "reasoned-grpo"};

static bool is_rewarded(arm a) { return a == DIRECT_GRPO || a == REASONED_GRPO; }

/* What an arm begins as, or differs from in its steps alone. */
static arm arm_base(arm a) {
    if (a == DIRECT_LONGER || a == DIRECT_GRPO) return DIRECT;
    return a == REASONED_LONGER || a == REASONED_GRPO ? REASONED : a;
}

enum { MAX_POINTS = 8 }; /* of a learning curve */

/* Of the traces that supervised fine-tuning shows. */
static int32_t trace_length(arm a) {
    return arm_base(a) <= DIRECT ? 0 : a == TOTAL ? TC_TOTAL : TC_STEPS;
}

/* Of what it writes before its answer. */
static int32_t written_length(arm a) { return is_rewarded(a) ? TC_STEPS : trace_length(a); }

/* ---- equal computing ---- */

/* Steps of supervised fine-tuning that cost as much as `steps` of the reasoned student. */
static int64_t arm_steps(const r2_model_config *c, arm a, int64_t steps) {
    if (a == COUNTED) return 0;
    if (a == DIRECT_LONGER || a == REASONED_LONGER) steps *= 2;
    return (int64_t)(0.5 + (double)steps * tc_cost(c, TC_PROMPT, trace_length(REASONED)) /
                               tc_cost(c, TC_PROMPT, trace_length(a)));
}

/* Steps of GRPO that cost as much as `steps` of the reasoned student. It runs a prompt once, its
   outputs branch from it, and every word is met five times: sampled, by the reference, by the
   model, and backwards at twice the cost; in supervised fine-tuning three times. */
static int64_t reward_steps(const r2_model_config *c, const r2_sft_config *sft,
                            const r2_grpo_config *grpo, int64_t steps) {
    const double sequence = tc_cost(c, TC_PROMPT, TC_STEPS), prompt = tc_cost(c, TC_PROMPT, 0);
    const double learned = 3.0 * sft->groups * sequence;
    const double rewarded = 5.0 * grpo->groups * (prompt + grpo->n_samples * (sequence - prompt));
    return (int64_t)(0.5 + (double)steps * learned / rewarded);
}

static int64_t reasoned_steps(const xp *x) { return x->steps ? x->steps : x->full ? 2000 : 500; }

static int64_t curve_points(const xp *x) {
    int64_t points = reasoned_steps(x) / 10;
    return points < 1 ? 1 : points > MAX_POINTS ? MAX_POINTS : points;
}

/* ---- one seed: the data, the circles, the questions ---- */

typedef struct lab {
    xp *x;
    int64_t seed;
    bool ready;
    r2_run run; /* data, graph, questions and candidates; its own model is not used */
    tc_circles circles;
    tc_table table;
    tc_words words;
    r2_examples valid, test;
} lab;

/* Candidate k of a set, after all of the user's training interactions. */
static r2_question lab_question(const lab *l, const r2_candidates *c, int64_t k) {
    r2_question q;
    memset(&q, 0, sizeof q);
    q.user = c->user[k / c->n_per_case];
    q.item = c->item[k];
    q.n_history = (int32_t)r2_graph_user_degree(&l->run.graph, q.user);
    q.answer = -1;
    q.future = r2_index_future(&l->run.index, &l->run.data, q.user, c->item[k - k % c->n_per_case]);
    return q;
}

static void lab_ask(lab *l, const r2_candidates *c, r2_examples *ex) {
    xp *x = l->x;
    int64_t n = c->n_cases * c->n_per_case;
    r2_question *q = (r2_question *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)n, sizeof *q));
    for (int64_t k = 0; k < n; ++k) q[k] = lab_question(l, c, k);
    xp_check(x, tc_examples(&x->ctx, ex, &l->circles, &l->table, &l->words, q, n, 1, 0));
    r2_release(&x->ctx, q);
}

static void lab_open(lab *l) {
    xp *x = l->x;
    r2_run *run = &l->run;
    r2_run_config config = xp_config(x, (uint64_t)l->seed);
    config.n_groups = 8192; /* its own size: the lesson stays as it is when the default run grows */
    if (l->ready) return;
    xp_check(x, r2_run_init(&x->ctx, run, x->data, &config));
    output_printable(&run->data);
    xp_check(x, tc_init(&x->ctx, &l->circles, &run->index, (uint64_t)l->seed));
    xp_check(x, tc_learn(&x->ctx, &l->table, &l->circles, run->question, run->n_train,
                         1 + config.n_sampled));
    xp_check(x, tc_words_init(&x->ctx, &l->words));
    lab_ask(l, &run->valid, &l->valid);
    lab_ask(l, &run->test, &l->test);
    l->ready = true;
}

static void lab_close(lab *l) {
    r2_ctx *ctx = &l->x->ctx;
    if (!l->ready) return;
    r2_examples_free(ctx, &l->valid);
    r2_examples_free(ctx, &l->test);
    r2_vocab_free(ctx, &l->words.vocab);
    tc_free(ctx, &l->circles);
    r2_run_free(ctx, &l->run);
    l->ready = false;
}

/* ---- one student ---- */

typedef struct student {
    lab *l;
    arm a;
    r2_model model;
    int64_t n_steps, n_tokens; /* of training                            */
    double seconds;            /* of processors, for training alone      */
    int64_t n_points;
    double curve[MAX_POINTS];         /* validation HR@1                        */
    char curve_key[110], reward_key[110]; /* where it and GRPO are kept while the student learns */
    float *score;                     /* of the validation candidates           */
    double words_right, traces_right; /* shares, of its reasoning on validation */
} student;

static double processor_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* Sums of the weights that the table gives the chains of each prompt. */
static void counted_score(const lab *l, const r2_examples *ex, float *score) {
    for (int64_t e = 0; e < ex->n; ++e) {
        score[e] = 0.0f;
        for (int k = 0; k < TC_CIRCLES; ++k)
            score[e] += (float)tc_weight(&l->table, &l->words, ex->prompt + e * TC_PROMPT, k);
    }
}

/* score (n_cases, n_per_case) by the answer after the student's own reasoning. */
static void student_score(student *s, const r2_examples *ex, float *score) {
    r2_score_config how = r2_score_config_default();
    if (s->a == COUNTED) {
        counted_score(s->l, ex, score);
        return;
    }
    how.mode = written_length(s->a) ? R2_REASONED : R2_DIRECT;
    how.max_new = written_length(s->a); /* what follows <think>, and <answer> */
    xp_check(s->l->x, r2_score(&s->l->x->ctx, &s->model, ex, &how, score, NULL));
}

/* HR@1 on the validation positives. */
static double student_validate(student *s) {
    const r2_candidates *c = &s->l->run.valid;
    double sum = 0.0;
    student_score(s, &s->l->valid, s->score);
    for (int64_t k = 0; k < c->n_cases; ++k)
        sum += r2_hit_ratio(r2_rank_of(s->score + k * c->n_per_case, c->n_per_case), 1);
    return sum / (double)c->n_cases;
}

/* A point of the curve is measured once: a training that continues tells its steps again, when the
   model is not what it was then. */
static double curve_point(student *s) {
    xp *x = s->l->x;
    cJSON *row = xp_load(x, s->curve_key), *points;
    double value;
    if (!row) row = cJSON_CreateObject();
    points = cJSON_GetObjectItemCaseSensitive(row, "points");
    if (!points) points = cJSON_AddArrayToObject(row, "points");
    if (cJSON_GetArraySize(points) > s->n_points) {
        value = cJSON_GetNumberValue(cJSON_GetArrayItem(points, (int)s->n_points));
        cJSON_Delete(row);
        return value;
    }
    value = student_validate(s);
    cJSON_AddItemToArray(points, cJSON_CreateNumber(value));
    xp_put(x, s->curve_key, row);
    return value;
}

/* A point of the learning curve, of those two that the picture compares. */
static void on_step(void *hook_data, const r2_sft_report *r) {
    student *s = (student *)hook_data;
    int64_t points = curve_points(s->l->x);
    double began = processor_seconds();
    if (r->step * points / r->n_steps == (r->step + 1) * points / r->n_steps ||
        (s->a != DIRECT && s->a != REASONED))
        return;
    s->curve[s->n_points] = curve_point(s);
    s->n_points++;
    s->seconds -= processor_seconds() - began;
}

/* Gives each question the trace of another. */
static void shuffle_traces(r2_examples *ex, uint64_t seed) {
    r2_rng rng = r2_rng_make(seed, R2_STREAM_USER, 2);
    for (int64_t k = ex->n - 1; k > 0; --k) {
        int64_t j = (int64_t)r2_rng_below(&rng, (uint64_t)k + 1);
        for (int t = 0; t < TC_STEPS; ++t) {
            int32_t change = ex->trace[k * TC_STEPS + t];
            ex->trace[k * TC_STEPS + t] = ex->trace[j * TC_STEPS + t];
            ex->trace[j * TC_STEPS + t] = change;
        }
    }
}

static void ask_training(const lab *l, int32_t length, r2_examples *ex) {
    xp_check(l->x, tc_examples(&l->x->ctx, ex, &l->circles, &l->table, &l->words, l->run.question,
                               l->run.n_train, 1 + l->run.config.n_sampled, length));
}

/* What can be checked without the table: the form, and whether the totals are the sums of the
   weights written. The weights stand in no prompt. */
static r2_check check_sums(const void *hook_data, const char *prompt, const char *output) {
    r2_check check = {R2_TRACE_MALFORMED, -1, 0, 0, 0, 0, false};
    const char *p = output + strlen("<think> ");
    int answer = -1, n = 0;
    (void)hook_data, (void)prompt;
    if (strncmp(output, "<think> ", strlen("<think> ")) != 0) return check;
    for (int k = 0; k < TC_CIRCLES; ++k) {
        int weight, total, sum;
        if (sscanf(p, "%d =%d %n", &weight, &total, &n) != 2) return check;
        sum = check.total + weight;
        sum = sum > R2_MAX_TOTAL ? R2_MAX_TOTAL : sum < -R2_MAX_TOTAL ? -R2_MAX_TOTAL : sum;
        check.n_cited++;
        check.n_right += total == sum;
        check.total = total;
        p += n;
    }
    n = 0;
    if (sscanf(p, "</think> <answer> %d </answer>%n", &answer, &n) != 1 || !n || p[n]) return check;
    check.well_formed = true;
    check.answer = answer;
    check.verdict = check.n_right == check.n_cited ? R2_TRACE_OK : R2_TRACE_WRONG_TOTAL;
    return check;
}

/* GRPO by the form and by how surely the answer after the reasoning ranks right, nothing else. */
static void student_reward(student *s, const r2_sft_config *sft, const char *key) {
    lab *l = s->l;
    r2_grpo_config grpo = r2_grpo_config_default();
    r2_examples ex;
    char state[1024];
    ask_training(l, 0, &ex);
    ex.codec.check = check_sums;
    grpo.groups = sft->groups;
    grpo.max_new = TC_STEPS + 2; /* <think> is given; <answer> A </answer> */
    grpo.reward.w_faith = 0.0f;
    grpo.seed = (uint64_t)l->seed;
    grpo.n_steps = reward_steps(&s->model.config, sft, &grpo, reasoned_steps(l->x));
    s->n_steps += grpo.n_steps;
    s->n_tokens += grpo.n_steps * grpo.groups * ex.group *
                   (TC_PROMPT + grpo.n_samples * grpo.max_new);
    snprintf(s->reward_key, sizeof s->reward_key, "%s-rl", key);
    grpo.state_path = xp_state(l->x, s->reward_key, state);
    xp_check(l->x, r2_grpo(&l->x->ctx, &s->model, &ex, &grpo));
    r2_examples_free(&l->x->ctx, &ex);
}

static void student_train(student *s, const char *key) {
    lab *l = s->l;
    xp *x = l->x;
    r2_sft_config sft;
    r2_model_config shape;
    r2_examples ex;
    double began;
    char state[1024];
    tc_student(&shape, &sft, l->words.vocab.n_words, (int32_t)x->layers, TC_PROMPT + TC_STEPS + 3,
               (uint64_t)l->seed);
    sft.n_steps = s->n_steps = arm_steps(&shape, s->a, reasoned_steps(x));
    if (s->a == COUNTED) return;
    sft.reasoned_share = arm_base(s->a) == DIRECT ? 0.0f : 1.0f;
    sft.groups = 8;
    sft.on_step = on_step;
    sft.on_step_data = s;
    xp_check(x, r2_model_init(&x->ctx, &s->model, &shape, true));
    ask_training(l, trace_length(s->a), &ex);
    if (s->a == SHUFFLED) shuffle_traces(&ex, (uint64_t)l->seed);
    s->n_tokens = s->n_steps * sft.groups * ex.group * (ex.longest - (sft.reasoned_share == 0.0f));
    began = processor_seconds();
    snprintf(s->curve_key, sizeof s->curve_key, "%s-curve", key);
    if (!x->resume) xp_drop(x, s->curve_key);
    sft.state_path = xp_state(x, key, state);
    xp_check(x, r2_sft(&x->ctx, &s->model, &ex, &sft));
    if (is_rewarded(s->a)) student_reward(s, &sft, key);
    s->seconds += processor_seconds() - began;
    r2_examples_free(&x->ctx, &ex);
}

/* ---- what it writes ---- */

/* Greedy reasoning on n prompts, the first of every `stride` examples from `first` on. */
static void student_think(student *s, const r2_examples *ex, int64_t first, int64_t stride,
                          int64_t n, r2_generation *gen) {
    xp *x = s->l->x;
    r2_generate_config how = r2_generate_config_default();
    int64_t *begin = (int64_t *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)n + 1, sizeof *begin));
    int32_t *token = (int32_t *)xp_need(
        x, r2_alloc(&x->ctx, (uint64_t)n * (TC_PROMPT + 1), sizeof *token));
    for (int64_t k = 0; k < n; ++k) {
        begin[k + 1] = begin[k] + TC_PROMPT + 1;
        memcpy(token + begin[k], ex->prompt + (first + k * stride) * TC_PROMPT,
               TC_PROMPT * sizeof *token);
        token[begin[k] + TC_PROMPT] = ex->codec.markup.think.id[0];
    }
    how.max_new = written_length(s->a);
    how.stop = ex->codec.markup.answer.id, how.n_stop = 1;
    how.temperature = 0.0f;
    xp_check(x, r2_generate(&x->ctx, &s->model, &how, n, begin, token, gen));
    r2_release(&x->ctx, begin);
    r2_release(&x->ctx, token);
}

/* How much of the reasoning about the validation positives is what the table says. */
static void student_check(student *s) {
    const lab *l = s->l;
    const r2_candidates *c = &l->run.valid;
    int32_t want[TC_STEPS], n_words = written_length(s->a) - 1; /* but for <think> */
    int64_t right = 0, whole = 0;
    r2_generation gen;
    if (n_words < 0) return;
    student_think(s, &l->valid, 0, c->n_per_case, c->n_cases, &gen);
    for (int64_t k = 0; k < c->n_cases; ++k) {
        int32_t n = 0;
        tc_trace(&l->table, &l->words, l->valid.prompt + k * c->n_per_case * TC_PROMPT,
                 written_length(s->a), want);
        for (int32_t t = 0; t < n_words; ++t) n += gen.token[k * gen.max_new + t] == want[t + 1];
        right += n;
        whole += n == n_words;
    }
    s->words_right = (double)right / (double)(n_words * c->n_cases);
    s->traces_right = (double)whole / (double)c->n_cases;
    r2_generation_free(&l->x->ctx, &gen);
}

static const char *item_title(const lab *l, uint32_t item) {
    const r2_data *data = &l->run.data;
    if (item == R2_NO_ITEM) return "nothing";
    return data->title[item][0] ? data->title[item] : data->item_key[item];
}

/* The reasoning about validation positive k, chain by chain, for a person. */
static void describe(student *s, int64_t k, r2_text *text) {
    const lab *l = s->l;
    r2_ctx *ctx = &l->x->ctx;
    const r2_candidates *c = &l->run.valid;
    r2_question q = lab_question(l, c, k * c->n_per_case);
    const int32_t *prompt = l->valid.prompt + k * c->n_per_case * TC_PROMPT + 1;
    char **word = l->words.vocab.word;
    r2_generation gen;
    student_think(s, &l->valid, k * c->n_per_case, 1, 1, &gen);
    r2_text_addf(ctx, text, "user %s, %d items rated; asked for: %s\n",
                 l->run.data.user_key[q.user], (int)q.n_history, item_title(l, q.item));
    for (int32_t j = 0; j < TC_CIRCLES; ++j)
        r2_text_addf(
            ctx, text,
            "  %s %s -> %s, total %3s   circle %2d, %3d users fond of \"%s\"; by way of \"%s\"\n",
            word[prompt[2 * j]], word[prompt[2 * j + 1]], word[gen.token[2 * j]],
            word[gen.token[2 * j + 1]] + 1, (int)j + 1, (int)l->circles.size[j],
            item_title(l, tc_favourite(&l->circles, j)),
            item_title(l, tc_link(&l->circles, &q, j)));
    r2_generation_free(ctx, &gen);
}

/* Chooses an example: the first validation positive that comes out on top after flawless reasoning;
   -1 when there is none. */
static int64_t find_example(student *s) {
    const r2_candidates *c = &s->l->run.valid;
    for (int64_t k = 0; k < c->n_cases; ++k) {
        r2_rank rank = r2_rank_of(s->score + k * c->n_per_case, c->n_per_case);
        int32_t want[TC_STEPS], n = 0;
        r2_generation gen;
        if (rank.better || rank.tied) continue;
        tc_trace(&s->l->table, &s->l->words, s->l->valid.prompt + k * c->n_per_case * TC_PROMPT,
                 TC_STEPS, want);
        student_think(s, &s->l->valid, k * c->n_per_case, 1, 1, &gen);
        while (n < TC_STEPS - 1 && gen.token[n] == want[n + 1]) ++n;
        r2_generation_free(&s->l->x->ctx, &gen);
        if (n == TC_STEPS - 1) return k;
    }
    return -1;
}

/* ---- rows ---- */

static void row_key(char key[100], const xp *x, arm a, int64_t seed) {
    snprintf(key, 100, "%s-l%d-s%d", arm_key[a], (int)x->layers, (int)seed);
}

/* What a row depends on besides its key. */
static void row_recipe(char recipe[700], const xp *x) {
    snprintf(recipe, 700, "%s, %d steps", x->data, (int)reasoned_steps(x));
}

static cJSON *row_load(xp *x, arm a, int64_t seed) {
    char key[100], recipe[700];
    const char *found;
    cJSON *row;
    row_key(key, x, a, seed);
    row_recipe(recipe, x);
    row = xp_load(x, key);
    found = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "recipe"));
    if (found && !strcmp(found, recipe)) return row;
    cJSON_Delete(row);
    return NULL;
}

static cJSON *student_row(student *s) {
    lab *l = s->l;
    xp *x = l->x;
    const r2_candidates *c = &l->run.test;
    char recipe[700];
    float *score = (float *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)l->test.n, sizeof *score));
    cJSON *row;
    double validation = student_validate(s);
    int64_t example = s->a == REASONED ? find_example(s) : -1;
    student_check(s);
    student_score(s, &l->test, score); /* the one look at the test positives */
    row = xp_row(score, c->n_cases, c->n_per_case);
    r2_release(&x->ctx, score);
    row_recipe(recipe, x);
    cJSON_AddStringToObject(row, "recipe", recipe);
    cJSON_AddNumberToObject(row, "steps", (double)s->n_steps);
    cJSON_AddNumberToObject(row, "tokens", (double)s->n_tokens);
    cJSON_AddNumberToObject(row, "processor_seconds", s->seconds);
    cJSON_AddNumberToObject(row, "validation_hr@1", validation);
    cJSON_AddNumberToObject(row, "words_right", s->words_right);
    cJSON_AddNumberToObject(row, "traces_right", s->traces_right);
    cJSON_AddItemToObject(row, "curve", cJSON_CreateDoubleArray(s->curve, (int)s->n_points));
    if (example >= 0) {
        r2_text text = {NULL, 0, 0, false};
        describe(s, example, &text);
        if (text.failed) xp_check(x, R2_NO_MEMORY);
        cJSON_AddStringToObject(row, "example", text.data);
        r2_text_free(&x->ctx, &text);
    }
    return row;
}

/* Makes the row of a student unless it is there. */
static void study(lab *l, arm a) {
    xp *x = l->x;
    student s;
    char key[100];
    cJSON *row = row_load(x, a, l->seed);
    if (row) {
        cJSON_Delete(row);
        x->n_done++;
        return;
    }
    lab_open(l);
    memset(&s, 0, sizeof s);
    s.l = l;
    s.a = a;
    s.score = (float *)xp_need(x, r2_alloc(&x->ctx, (uint64_t)l->valid.n, sizeof *s.score));
    row_key(key, x, a, l->seed);
    student_train(&s, key);
    xp_save(x, key, student_row(&s));
    xp_forget(x, key);
    xp_forget(x, s.reward_key);
    xp_drop(x, s.curve_key);
    r2_release(&x->ctx, s.score);
    r2_model_free(&x->ctx, &s.model);
}

/* ---- tables ---- */

typedef struct report {
    xp *x;
    r2_text text, rewards; /* Markdown: the table of all, that of GRPO */
    r2_text bars, curves;  /* what the picture shows                   */
    cJSON *json;
} report;

/* A difference to another student, user by user. */
static void compare(report *r, r2_text *text, const xp_mean *mean, const xp_mean *other,
                    const char *what, cJSON *json) {
    char name[40];
    double lo, hi, mid = xp_average(mean, XP_HR1) - xp_average(other, XP_HR1);
    xp_interval(r->x, mean, other, XP_HR1, &lo, &hi);
    r2_text_addf(&r->x->ctx, text, "%+.3f [%+.3f, %+.3f] | ", mid, lo, hi);
    snprintf(name, sizeof name, "minus_%s", what);
    cJSON_AddNumberToObject(json, name, mid);
    snprintf(name, sizeof name, "minus_%s_lo", what);
    cJSON_AddNumberToObject(json, name, lo);
    snprintf(name, sizeof name, "minus_%s_hi", what);
    cJSON_AddNumberToObject(json, name, hi);
}

/* GRPO against what it began with, and against the same computing spent on more of the same. */
static void reward_row(report *r, arm a, int64_t seed, const xp_mean mean[N_ARMS], cJSON *json) {
    const xp_mean *longer = &mean[a == DIRECT_GRPO ? DIRECT_LONGER : REASONED_LONGER];
    if (!longer->n) return;
    r2_text_addf(&r->x->ctx, &r->rewards, "| %s | %d | ", arm_name[a], (int)seed);
    compare(r, &r->rewards, &mean[a], &mean[arm_base(a)], "before", json);
    compare(r, &r->rewards, &mean[a], longer, "longer", json);
    r2_text_addf(&r->x->ctx, &r->rewards, "\n");
}

static void table_row(report *r, arm a, int64_t seed, const cJSON *row,
                      const xp_mean mean[N_ARMS]) {
    xp *x = r->x;
    double lo, hi, validation = xp_number(row, "validation_hr@1");
    cJSON *json = cJSON_CreateObject();
    xp_interval(x, &mean[a], NULL, XP_HR1, &lo, &hi);
    r2_text_addf(&x->ctx, &r->text, "| %s | %d | %.0f | %.2f | %.1f | %.3f | %.3f [%.3f, %.3f] | ",
                 arm_name[a], (int)seed, xp_number(row, "steps"), xp_number(row, "tokens") / 1e6,
                 xp_number(row, "processor_seconds"), validation, xp_average(&mean[a], XP_HR1), lo,
                 hi);
    cJSON_AddStringToObject(json, "student", arm_name[a]);
    cJSON_AddNumberToObject(json, "seed", (double)seed);
    cJSON_AddNumberToObject(json, "layers", (double)x->layers);
    cJSON_AddNumberToObject(json, "steps", xp_number(row, "steps"));
    cJSON_AddNumberToObject(json, "tokens", xp_number(row, "tokens"));
    cJSON_AddNumberToObject(json, "validation_hr@1", validation);
    cJSON_AddNumberToObject(json, "n_users", (double)mean[a].n);
    for (int m = 0; m < XP_N; ++m)
        cJSON_AddNumberToObject(json, xp_metric_name[m], xp_average(&mean[a], (xp_metric)m));
    cJSON_AddNumberToObject(json, "hr@1_lo", lo);
    cJSON_AddNumberToObject(json, "hr@1_hi", hi);
    compare(r, &r->text, &mean[a], &mean[DIRECT], "direct", json);
    compare(r, &r->text, &mean[a], &mean[TOTAL], "total_only", json);
    if (is_rewarded(a)) reward_row(r, a, seed, mean, json);
    r2_text_addf(&x->ctx, &r->text, "%.3f | %.3f |\n", xp_number(row, "words_right"),
                 xp_number(row, "traces_right"));
    cJSON_AddNumberToObject(json, "words_right", xp_number(row, "words_right"));
    cJSON_AddNumberToObject(json, "traces_right", xp_number(row, "traces_right"));
    cJSON_AddItemToArray(r->json, json);
    r2_text_addf(&x->ctx, &r->bars, "%g \"%s\" %.4f %.4f %.4f\n",
                 (double)a + 0.16 * (double)(seed - x->seed), arm_name[a],
                 xp_average(&mean[a], XP_HR1), lo, hi);
}

/* A line of the data file for each point: share of the computing, HR@1 of direct, of reasoned. */
static void add_curves(report *r, const cJSON *direct, const cJSON *reasoned) {
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(direct, "curve");
    const cJSON *b = cJSON_GetObjectItemCaseSensitive(reasoned, "curve");
    double points = (double)cJSON_GetArraySize(a), k = 0.0;
    r2_text_addf(&r->x->ctx, &r->curves, "\n\n");
    for (a = a ? a->child : NULL, b = b ? b->child : NULL; a && b; a = a->next, b = b->next)
        r2_text_addf(&r->x->ctx, &r->curves, "%.4f %.4f %.4f\n", ++k / points, a->valuedouble,
                     b->valuedouble);
}

static void seed_rows(report *r, int64_t seed) {
    xp *x = r->x;
    cJSON *row[N_ARMS];
    xp_mean mean[N_ARMS];
    memset(mean, 0, sizeof mean);
    for (int a = 0; a < N_ARMS; ++a) {
        row[a] = row_load(x, (arm)a, seed);
        if (row[a]) xp_mean_add(x, &mean[a], row[a]);
    }
    for (int a = 0; a < N_ARMS; ++a)
        if (mean[a].n && mean[DIRECT].n && mean[TOTAL].n && mean[arm_base((arm)a)].n)
            table_row(r, (arm)a, seed, row[a], mean);
    add_curves(r, row[DIRECT], row[REASONED]);
    for (int a = 0; a < N_ARMS; ++a) {
        cJSON_Delete(row[a]);
        xp_mean_free(x, &mean[a]);
    }
}

static void add_example(report *r) {
    cJSON *row = row_load(r->x, REASONED, r->x->seed);
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, "example"));
    if (text)
        r2_text_addf(&r->x->ctx, &r->text,
                     "\nWhat the reasoned student wrote (seed %d; the held-out favourite came out "
                     "first among 20):\n\n```\n%s```\n",
                     (int)r->x->seed, text);
    cJSON_Delete(row);
}

/* ---- the picture ---- */

static const char picture[] =
    "set terminal svg size 1250,400 font 'sans-serif,13' noenhanced background 'white'\n"
    "set output '%s.svg'\n"
    "set multiplot layout 1,2\nset bmargin 5\n"
    "set style line 1 lc rgb '#888888' pt 7 lw 2\n"
    "set style line 2 lc rgb '#c0392b' pt 7 lw 2\n"
    "set grid ytics lc rgb '#dddddd'\n"
    "set ylabel 'HR@1 (1+19)'\n"
    "set title 'Test users, 95 %% intervals'\n"
    "set xrange [-0.5:8.7]\n"
    "set xlabel '%s' offset 0,-0.8\n"
    "set xtics font ',10' (\"counted\\nsum\" 0, 'direct' 1, 'reasoned' 2, \"total\\nonly\" 3, "
    "'shuffled' 4, \"direct,\\nlonger\" 5, \"reasoned,\\nlonger\" 6, \"direct\\n+ GRPO\" 7, "
    "\"reasoned\\n+ GRPO\" 8)\n"
    "plot '%s.dat' index 0 using 1:3:4:5 with yerrorbars ls 2 notitle\n"
    "set title 'Validation users, while learning'\n"
    "set xtics auto\n"
    "set xlabel 'share of the computing; %s' offset 0,0\n"
    "set xrange [0:1.02]\n"
    "set key bottom right\n"
    "plot for [s=1:%d] '%s.dat' index s using 1:2 with linespoints ls 1 "
    "title (s == 1 ? 'direct' : ''), \\\n"
    "     for [s=1:%d] '%s.dat' index s using 1:3 with linespoints ls 2 "
    "title (s == 1 ? 'reasoned' : '')\n"
    "unset multiplot\n";

/* Writes BASE.dat and BASE.gp, and BASE.svg where gnuplot is installed. */
static void draw(report *r) {
    xp *x = r->x;
    char base[600], command[640], dots[60], lines[30];
    r2_text script = {NULL, 0, 0, false};
    const int first = (int)x->seed, n = (int)x->models;
    snprintf(dots, sizeof dots, "seed %d", first);
    snprintf(lines, sizeof lines, "seed %d", first);
    if (n > 1) {
        snprintf(dots, sizeof dots, "a dot per seed, %d to %d from the left", first, first + n - 1);
        snprintf(lines, sizeof lines, "a line per seed");
    }
    xp_base(x, base);
    r2_text_add(&x->ctx, &r->bars, r->curves.data, r->curves.len);
    r2_text_addf(&x->ctx, &script, picture, base, dots, base, lines, n, base, n, base);
    if (script.failed || r->bars.failed || r->curves.failed) xp_check(x, R2_NO_MEMORY);
    xp_write_base(x, "dat", r->bars.data);
    xp_write_base(x, "gp", script.data);
    snprintf(command, sizeof command, "gnuplot '%s.gp' 2>/dev/null", base);
    if (system(command) == 0) fprintf(stderr, "%s.svg drawn\n", base);
    else
        fprintf(stderr,
                "gnuplot drew nothing (is it installed?): %s.dat holds what `gnuplot %s.gp` would "
                "draw\n",
                base, base);
    r2_text_free(&x->ctx, &script);
}

static void write_report(xp *x) {
    report r;
    memset(&r, 0, sizeof r);
    r.x = x;
    r.json = cJSON_CreateArray();
    r2_text_addf(&x->ctx, &r.text,
                 "`build/examples/experiments/think --data %s%s --steps %d --layers %d --seed %d "
                 "--models %d`: HR@1 (1+19) of the test users, intervals over users; the same "
                 "multiply-adds for "
                 "the first four students, twice as many for the last four\n\n| student | seed | "
                 "steps | million tokens | processor s | "
                 "validation | HR@1 [95 %%] | - direct | - total only | words right | traces right "
                 "|\n|---|---|---|---|---|---|---|---|---|---|---|\n",
                 x->data, x->full ? " --full" : "", (int)reasoned_steps(x), (int)x->layers,
                 (int)x->seed, (int)x->models);
    for (int64_t seed = x->seed; seed < x->seed + x->models; ++seed) seed_rows(&r, seed);
    if (r.rewards.data)
        r2_text_addf(&x->ctx, &r.text,
                     "\n| student | seed | - before GRPO | - longer |\n"
                     "|---|---|---|---|\n%s",
                     r.rewards.data);
    r2_text_free(&x->ctx, &r.rewards);
    add_example(&r);
    xp_report(x, &r.text, r.json);
    draw(&r);
    r2_text_free(&x->ctx, &r.bars);
    r2_text_free(&x->ctx, &r.curves);
}

enum { ARM_SECONDS = 18 }; /* of one processor, with its share of the preparation */

int main(int argc, char **argv) {
    xp x = xp_begin("think", 2, argc, argv);
    int n_asked = 0;
    x.ctx.hook_data = &x;
    for (int a = 0; a < N_ARMS; ++a) n_asked += !x.only || !strcmp(x.only, arm_key[a]);
    if (n_asked == 0) {
        fprintf(stderr, "think: --only one of");
        for (int a = 0; a < N_ARMS; ++a) fprintf(stderr, " %s", arm_key[a]);
        fprintf(stderr, ", not \"%s\"\n", x.only);
        return 2;
    }
    xp_claim(&x);
    x.n_rows = x.models * n_asked;
    xp_plan(&x, ARM_SECONDS * (double)x.n_rows);
    for (int64_t seed = x.seed; seed < x.seed + x.models; ++seed) {
        lab l;
        memset(&l, 0, sizeof l);
        l.x = &x;
        l.seed = seed;
        for (int a = 0; a < N_ARMS; ++a)
            if (!x.only || !strcmp(x.only, arm_key[a])) study(&l, (arm)a);
        lab_close(&l);
    }
    write_report(&x);
    return xp_end(&x);
}

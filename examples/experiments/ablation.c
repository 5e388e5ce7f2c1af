/* ablation.c: what each part of the method is worth. Every row leaves one thing out, or puts
   another in its place, trains from the same seeds and ranks the same sets of candidates (test
   users, 1 + 19), so the differences to the whole method are paired.

   Each row is a file (experiment.h): stop it when you like, it goes on where it stood. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "../common/baselines.h"
#include "experiment.h"

/* ---- the list ---- */

/* What is done to the evidence before prompts are written. */
typedef enum twist {
    AS_IT_IS = 0,
    NO_CHAIN_EVIDENCE, /* what is known of user and item alone; no chains                    */
    CHAINS_ALONE,      /* the chains shown, without what all chains say together             */
    RANDOM_U1,         /* chains alone, over a user of the target who need not share i0      */
    OPEN_CHAINS,       /* chains alone, in training over another item of u1: no closure      */
    NO_DEEP,           /* without the field that follows longer chains, a kin of EASE        */
    EASE_FOR_DEEP,     /* EASE^R's own score in the place of that field                      */
    NO_RATINGS,        /* no rating, nor what follows from one                               */
    SHOWN_ANSWER,      /* in training the chains close: they show the rating that is asked   */
    SOME_PEOPLE,       /* a quarter of the users, 64 of an item's: as in data of 1 M ratings  */
    PERMUTED_RATINGS   /* control: ratings dealt anew among all interactions                 */
} twist;

/* What is done to the traces. */
typedef enum writing { UNGUIDED = 0, GUIDED, SHUFFLED } writing;

typedef struct ablation {
    const char *name, *what;
    twist evidence;
    writing traces;
    bool no_sft, rl;
    void (*change)(r2_run_config *config); /* NULL: nothing */
} ablation;

static void no_chains_shown(r2_run_config *c) { c->chains.k = 0; }
static void one_chain(r2_run_config *c) { c->chains.k = 1; }
static void two_chains(r2_run_config *c) { c->chains.k = 2; }
static void four_chains(r2_run_config *c) { c->chains.k = 4; }
static void eight_chains(r2_run_config *c) { c->chains.k = 8; }
static void uniform_chains(r2_run_config *c) { c->chains.law = R2_CHAINS_UNIFORM; }
static void final_only(r2_run_config *c) { c->schedule = R2_MASK_FINAL_ONLY; }
static void mask_all(r2_run_config *c) { c->schedule = R2_MASK_ALL; }
static void mask_none(r2_run_config *c) { c->schedule = R2_MASK_NONE; }
static void some_steps(r2_run_config *c) { c->step_share = 0.1f; }
static void quarter_steps(r2_run_config *c) { c->step_share = 0.25f; }
static void half_steps(r2_run_config *c) { c->step_share = 0.5f; }
static void any_rating(r2_run_config *c) { c->split.min_positive = 0.5f, c->min_train = 0; }
static void direct_only(r2_run_config *c) { c->sft.reasoned_share = 0.0f; }
static void reasoned_only(r2_run_config *c) { c->sft.reasoned_share = 1.0f; }
static void no_noise(r2_run_config *c) { c->teacher.gumbel = 0.0f; }
static void no_list(r2_run_config *c) { c->sft.list_weight = 0.0f; }
static void no_rank_reward(r2_run_config *c) { c->grpo.reward.w_rank = 0.0f; }
static void no_faith_reward(r2_run_config *c) { c->grpo.reward.w_faith = 0.0f; }
static void no_format_reward(r2_run_config *c) { c->grpo.reward.w_format = 0.0f; }
static void accuracy_reward(r2_run_config *c) {
    c->grpo.reward.w_rank = 0.0f;
    c->grpo.reward.w_accuracy = 1.0f;
}
static void rewards_alone(r2_run_config *c) { c->grpo.sft_weight = c->grpo.list_weight = 0.0f; }
static void no_kl(r2_run_config *c) { c->grpo.beta = 0.0f; }
static void dr_grpo(r2_run_config *c) { c->grpo.variant = R2_DR_GRPO; }
static void dapo(r2_run_config *c) {
    c->grpo.variant = R2_DAPO;
    c->grpo.eps_high = 0.28f; /* 2503.14476 */
}

/* clang-format off: a table reads best as one */
static const ablation list[] = {
    {"whole", "SFT as it is", AS_IT_IS, UNGUIDED, false, false, NULL},
    {"no-chains", "no chains, nothing derived from them", NO_CHAIN_EVIDENCE, UNGUIDED, false, false,
     no_chains_shown},
    {"k-0", "evidence of all chains, none shown", AS_IT_IS, UNGUIDED, false, false,
     no_chains_shown},
    {"k-1", "1 chain shown", AS_IT_IS, UNGUIDED, false, false, one_chain},
    {"k-2", "2 chains shown", AS_IT_IS, UNGUIDED, false, false, two_chains},
    {"k-4", "4 chains shown", AS_IT_IS, UNGUIDED, false, false, four_chains},
    {"k-8", "8 chains shown", AS_IT_IS, UNGUIDED, false, false, eight_chains},
    {"chains-alone", "chains shown, no evidence of all", CHAINS_ALONE, UNGUIDED, false, false,
     NULL},
    {"chains-uniform", "chains alone, drawn uniformly", CHAINS_ALONE, UNGUIDED, false, false,
     uniform_chains},
    {"chains-random-u1", "chains alone, over any user of the item", RANDOM_U1, UNGUIDED, false,
     false, NULL},
    {"chains-open", "chains alone, not closed in training", OPEN_CHAINS, UNGUIDED, false, false,
     NULL},
    {"no-deep", "evidence without `deep`", NO_DEEP, UNGUIDED, false, false, NULL},
    {"ease", "EASE^R's score in place of `deep`", EASE_FOR_DEEP, UNGUIDED, false, false, NULL},
    {"no-ratings", "no ratings, nor what follows from them", NO_RATINGS, UNGUIDED, false, false,
     NULL},
    {"final-only", "masking: the last step alone", AS_IT_IS, UNGUIDED, false, false, final_only},
    {"progressive-10", "masking: 10 % ask an earlier step", AS_IT_IS, UNGUIDED, false, false,
     some_steps},
    {"progressive-25", "masking: 25 % ask an earlier step", AS_IT_IS, UNGUIDED, false, false,
     quarter_steps},
    {"progressive-50", "masking: 50 % ask an earlier step", AS_IT_IS, UNGUIDED, false, false,
     half_steps},
    {"mask-all", "masking: every rating", AS_IT_IS, UNGUIDED, false, false, mask_all},
    {"mask-none", "control: nothing masked in training", SHOWN_ANSWER, UNGUIDED, false, false,
     mask_none},
    {"some-people", "evidence of every 4th user, of 64 of an item", SOME_PEOPLE, UNGUIDED, false,
     false, NULL},
    {"permuted", "control: ratings permuted", PERMUTED_RATINGS, UNGUIDED, false, false, NULL},
    {"any-rating", "held out: the last interaction, whatever its rating", AS_IT_IS, UNGUIDED, false,
     false, any_rating},
    {"direct", "answers without reasoning", AS_IT_IS, UNGUIDED, false, false, direct_only},
    {"reasoned", "reasoning in every example", AS_IT_IS, UNGUIDED, false, false, reasoned_only},
    {"guided", "traces that know the answer", AS_IT_IS, GUIDED, false, false, NULL},
    {"shuffled", "control: traces of other examples", AS_IT_IS, SHUFFLED, false, false, NULL},
    {"no-noise", "a deterministic teacher", AS_IT_IS, UNGUIDED, false, false, no_noise},
    {"no-list", "no listwise term", AS_IT_IS, UNGUIDED, false, false, no_list},
    {"sft+grpo", "SFT, then GRPO", AS_IT_IS, UNGUIDED, false, true, NULL},
    {"rl-only", "GRPO without SFT", AS_IT_IS, UNGUIDED, true, true, NULL},
    {"rl-no-rank", "GRPO without the ranking reward", AS_IT_IS, UNGUIDED, false, true,
     no_rank_reward},
    {"rl-no-faith", "GRPO without the faithfulness reward", AS_IT_IS, UNGUIDED, false, true,
     no_faith_reward},
    {"rl-no-format", "GRPO without the format reward", AS_IT_IS, UNGUIDED, false, true,
     no_format_reward},
    {"rl-accuracy", "GRPO with accuracy in place of ranking", AS_IT_IS, UNGUIDED, false, true,
     accuracy_reward},
    {"rl-rewards", "GRPO by rewards alone", AS_IT_IS, UNGUIDED, false, true, rewards_alone},
    {"rl-no-kl", "GRPO without KL", AS_IT_IS, UNGUIDED, false, true, no_kl},
    {"dr-grpo", "Dr. GRPO", AS_IT_IS, UNGUIDED, false, true, dr_grpo},
    {"dapo", "DAPO", AS_IT_IS, UNGUIDED, false, true, dapo},
};
/* clang-format on */
enum { N_ABLATIONS = sizeof list / sizeof list[0] };

/* ---- twisting the evidence ---- */

/* Whether the field's name is one of the words. */
static bool is_among(int field, const char *words) {
    const char *name = r2_field_name((r2_field)field), *at = strstr(words, name);
    size_t n = strlen(name);
    return at && (at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0);
}

static bool is_of_chains(int field) {
    return !is_among(field, "hist genre era pop meanr fresh trend season");
}

static bool is_of_ratings(int field) { return is_among(field, "meanr pred liked"); }

/* Sum over the shared items of the history of 0.5^(age/10) / sqrt((n_i0 + 1)(n_u1 + 1)). */
static float similarity(const r2_index *index, const r2_evidence *q, uint32_t u1) {
    const r2_graph *g = index->graph;
    double sum = 0.0;
    for (int32_t p = 0; p < q->n_history; ++p) {
        uint32_t i0 = g->user_item[index->by_time[g->user_begin[q->user] + p]];
        if (r2_graph_find(g, u1, i0) < 0) continue;
        sum += exp2(-(double)(q->n_history - 1 - p) / 10.0) /
               sqrt((double)r2_graph_item_degree(g, i0)); /* without u0: n_i0 + 1 */
    }
    return (float)(sum / sqrt((double)r2_graph_user_degree(g, u1) + 1.0));
}

/* Adds the chain u0 -> i0 -> u1 -> i1, with NAN for edges that do not exist. */
static void add_chain(const r2_index *index, r2_evidence *q, uint32_t i0, uint32_t u1,
                      uint32_t i1) {
    const r2_graph *g = index->graph;
    int64_t own = r2_graph_find(g, q->user, i0), theirs = r2_graph_find(g, u1, i0);
    int64_t took = r2_graph_find(g, u1, i1);
    float *value = q->chain[q->n_chains++].value;
    value[0] = (float)(q->n_history - (int64_t)index->position[own]);
    value[1] = g->user_rating[own];
    value[2] = similarity(index, q, u1);
    value[3] = theirs >= 0 ? g->user_rating[theirs] : NAN;
    value[4] = NAN;
    if (theirs >= 0)
        value[4] = (float)((int64_t)index->position[took] - (int64_t)index->position[theirs]);
    value[5] = g->user_rating[took];
}

/* Any i0 of the history; RANDOM_U1: any other user of the target; OPEN_CHAINS: any other user of i0
   and any other item of that user. */
static void loose_chains(const r2_run *run, bool open, r2_evidence *q) {
    const r2_graph *g = &run->graph;
    r2_rng rng = r2_rng_make(run->config.seed, R2_STREAM_CHAINS, r2_hash(q->user, q->item, 0));
    for (int tries = 0; tries < 100 && q->n_chains < run->config.chains.k && q->n_history; ++tries) {
        uint64_t p = r2_rng_below(&rng, (uint64_t)q->n_history);
        uint32_t i0 = g->user_item[run->index.by_time[g->user_begin[q->user] + (int64_t)p]];
        uint32_t over = open ? i0 : q->item, u1, i1 = q->item;
        if (r2_graph_item_degree(g, over) < 1) continue;
        u1 = g->item_user[g->item_begin[over] +
                          (int64_t)r2_rng_below(&rng, (uint64_t)r2_graph_item_degree(g, over))];
        if (u1 == q->user) continue;
        if (open)
            i1 = g->user_item[g->user_begin[u1] +
                              (int64_t)r2_rng_below(&rng, (uint64_t)r2_graph_user_degree(g, u1))];
        if (!open || (i1 != i0 && i1 != q->item)) add_chain(&run->index, q, i0, u1, i1);
    }
}

/* Shows the rating of the question's own edge, where there is one. */
static void close_chains(const r2_graph *g, r2_evidence *q) {
    int64_t edge = r2_graph_find(g, q->user, q->item);
    for (int32_t c = 0; c < q->n_chains && edge >= 0; ++c)
        q->chain[c].chain.r4 = g->user_rating[edge];
}

static void twist_query(const r2_run *run, twist how, bool training, r2_evidence *q) {
    bool alone = how >= CHAINS_ALONE && how <= OPEN_CHAINS;
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
        if (alone || (how == NO_CHAIN_EVIDENCE && is_of_chains(f)) ||
            (how == NO_DEEP && f == R2_FIELD_deep) || (how == NO_RATINGS && is_of_ratings(f)))
            q->value[f] = NAN;
    for (int32_t c = 0; c < q->n_chains && how == NO_RATINGS; ++c)
        for (int k = 1; k < 6; k += 2) q->chain[c].value[k] = NAN; /* own, theirs, took */
    if (how == SHOWN_ANSWER && training) close_chains(&run->graph, q);
    if (how == RANDOM_U1 || (how == OPEN_CHAINS && training)) q->n_chains = 0;
    if (how == RANDOM_U1) loose_chains(run, false, q);
    if (how == OPEN_CHAINS && training) loose_chains(run, true, q);
}

/* What the evidence hook needs. */
typedef struct twister {
    twist how;
    bl_model ease;
    bool refused; /* too many users and items for EASE */
} twister;

/* The hook (r2_evidence_fn). Early stopping is off: only training questions know their answer. */
static r2_status twist_evidence(r2_ctx *ctx, void *hook_data, const r2_run *run,
                                const r2_question *question, int64_t n, r2_evidence *evidence) {
    twister *t = (twister *)hook_data;
    r2_status status = R2_OK;
    if (t->how == EASE_FOR_DEEP) {
        status = bl_ease_evidence(ctx, &t->ease, run, question, n, evidence);
        t->refused = status == R2_ARGUMENT;
        return status;
    }
    for (int64_t q = 0; q < n; ++q)
        twist_query(run, t->how, question[q].answer >= 0, &evidence[q]);
    return R2_OK;
}

/* Deals the ratings of all interactions anew. */
static void permute_ratings(xp *x, r2_run *run) {
    r2_rng rng = r2_rng_make(run->config.seed, R2_STREAM_USER, 0);
    float *rating = run->graph.user_rating;
    for (int64_t k = run->graph.n_edges - 1; k > 0; --k) {
        int64_t j = (int64_t)r2_rng_below(&rng, (uint64_t)k + 1);
        float change = rating[k];
        rating[k] = rating[j];
        rating[j] = change;
    }
    r2_index_free(&x->ctx, &run->index);
    xp_check(x, r2_index_init(&x->ctx, &run->index, &run->graph, &run->data,
                              run->split.config.min_positive, run->split.config.seed));
    xp_check(x, r2_run_prepare(&x->ctx, run));
}

/* ---- twisting the traces ---- */

/* The teacher writes again, knowing the answer: it cites what speaks for it. */
static void guide_traces(xp *x, r2_run *run) {
    r2_prompt_config how = r2_prompt_config_default();
    how.data = &run->data;
    how.codebook = &run->codebook;
    for (int64_t e = 0; e < run->train.n; ++e) {
        r2_text prompt = {NULL, 0, 0, false}, output = {NULL, 0, 0, false};
        r2_tokens token = {NULL, 0, {NULL, false}};
        r2_prompt built;
        r2_task task;
        int64_t begin = run->train.trace_begin[e], n = run->train.trace_begin[e + 1] - begin;
        const char *end;
        memset(&built, 0, sizeof built);
        memset(&task, 0, sizeof task);
        r2_prompt_compact(&x->ctx, &run->codebook, &run->evidence[e], &prompt);
        built.user = prompt;
        task.index = e;
        task.config = &how;
        task.evidence = &run->evidence[e];
        task.prompt = &built;
        task.answer = run->train.answer[e];
        xp_check(x, r2_teacher_rules(&x->ctx, &run->config.teacher, &task, &output));
        end = strstr(output.data, "</think>");
        xp_check(x, r2_vocab_encode(&x->ctx, &run->vocab, output.data,
                                    (size_t)(end - output.data) + strlen("</think>"), &token));
        if (token.n == n) memcpy(run->train.trace + begin, token.id, (size_t)n * sizeof *token.id);
        r2_tokens_free(&x->ctx, &token);
        r2_text_free(&x->ctx, &prompt);
        r2_text_free(&x->ctx, &output);
    }
}

/* Every example gets the trace of another one. */
static void shuffle_traces(r2_run *run) {
    r2_examples *ex = &run->train;
    r2_rng rng = r2_rng_make(run->config.seed, R2_STREAM_USER, 1);
    int64_t n = ex->trace_begin[1] - ex->trace_begin[0];
    for (int64_t e = ex->n - 1; e > 0; --e) {
        int64_t other = (int64_t)r2_rng_below(&rng, (uint64_t)e);
        for (int64_t k = 0; k < n; ++k) {
            int32_t change = ex->trace[e * n + k];
            ex->trace[e * n + k] = ex->trace[other * n + k];
            ex->trace[other * n + k] = change;
        }
    }
}

/* ---- one row ---- */

enum { KEY = 200 };

static const char *const mode_name[] = {"direct", "reasoned"}; /* by r2_mode */

static void row_key(char key[KEY], const xp *x, const ablation *a, int64_t model, int64_t seed,
                    r2_mode mode) {
    snprintf(key, KEY, "%s-s%d-m%d-%s%d-%s", a->name, (int)x->steps, (int)model,
             x->validate ? "v" : "c", (int)seed, mode_name[mode]);
}

/* Under which GRPO keeps its state until the rows are there. */
static void rl_key(char key[KEY], const xp *x, const ablation *a, int64_t model) {
    snprintf(key, KEY, "rl-%s-s%d-m%d", a->name, (int)x->steps, (int)model);
}

/* Trained once for --check, the test and all sets of candidates; rows that differ in RL alone go on
   from one and the same SFT, that of the whole. */
static void fine_tune(xp *x, const ablation *a, int64_t model, r2_run *run) {
    char name[KEY];
    snprintf(name, sizeof name, "model-%s-s%d-m%d", a->rl ? list[0].name : a->name, (int)x->steps,
             (int)model);
    xp_make(x, run, false, name);
}

/* False when this data set cannot have the row. */
static bool make_run(xp *x, const ablation *a, int64_t model, twister *t, r2_run *run) {
    r2_run_config config = xp_config(x, (uint64_t)model);
    char key[KEY];
    if (x->steps) config.sft.n_steps = x->steps;
    config.sft.valid_every = 0; /* every row is trained for as long */
    if (a->change) a->change(&config);
    if (a->evidence) config.evidence_hook = twist_evidence, config.evidence_hook_data = t;
    if (r2_run_init(&x->ctx, run, x->data, &config) != R2_OK) {
        if (!t->refused) xp_check(x, x->ctx.status);
        fprintf(stderr, "no row \"%s\": %s\n", a->name, x->ctx.message);
        return false;
    }
    if (a->evidence == PERMUTED_RATINGS) permute_ratings(x, run);
    if (a->evidence == SOME_PEOPLE) {
        run->index.stride = 4;
        run->index.most_people = 64;
        xp_check(x, r2_run_prepare(&x->ctx, run));
    }
    if (a->traces == GUIDED) guide_traces(x, run);
    if (a->traces == SHUFFLED) shuffle_traces(run);
    if (!a->no_sft) fine_tune(x, a, model, run);
    rl_key(key, x, a, model);
    if (a->rl) xp_train(x, run, true, key);
    return true;
}

/* Ranks of one set of candidates, answered at once and after reasoning. */
static void score_set(xp *x, r2_run *run, const ablation *a, int64_t model, int64_t seed) {
    r2_candidates c;
    r2_examples asked;
    float *score;
    xp_candidates(x, run, run->config.n_negatives, seed, &c);
    score = (float *)xp_need(
        x, r2_alloc(&x->ctx, (uint64_t)(c.n_cases * c.n_per_case), sizeof *score));
    xp_check(x, r2_run_candidate_prompts(&x->ctx, run, &c, NULL, &asked));
    for (int mode = R2_DIRECT; mode <= R2_REASONED; ++mode) {
        r2_score_config how = r2_score_config_default();
        r2_trace_metrics trace;
        cJSON *row;
        char key[KEY];
        how.mode = (r2_mode)mode;
        xp_check(x, r2_score(&x->ctx, &run->model, &asked, &how, score, &trace));
        row = xp_row(score, c.n_cases, c.n_per_case);
        cJSON_AddNumberToObject(row, "well_formed", trace.well_formed);
        cJSON_AddNumberToObject(row, "faithful", trace.faithful);
        row_key(key, x, a, model, seed, how.mode);
        xp_save(x, key, row);
    }
    r2_examples_free(&x->ctx, &asked);
    r2_release(&x->ctx, score);
    r2_candidates_free(&x->ctx, &c);
}

/* Whether a set of candidates has both its rows; then they count as done. */
static bool has_set(xp *x, const ablation *a, int64_t model, int64_t seed) {
    char direct[KEY], reasoned[KEY];
    row_key(direct, x, a, model, seed, R2_DIRECT);
    row_key(reasoned, x, a, model, seed, R2_REASONED);
    return xp_has(x, direct) && xp_has(x, reasoned);
}

/* One row, from one model seed, over all sets of candidates that are not there yet. */
static void ablate(xp *x, const ablation *a, int64_t model) {
    r2_run run;
    twister t;
    bool made = false, can = true;
    char key[KEY];
    memset(&t, 0, sizeof t);
    t.how = a->evidence;
    for (int64_t seed = 1; seed <= x->seeds && can; ++seed) {
        if (has_set(x, a, model, seed)) continue;
        if (!made) can = make_run(x, a, model, &t, &run);
        made = true;
        if (can) score_set(x, &run, a, model, seed);
    }
    bl_free(&x->ctx, &t.ease);
    if (made) r2_run_free(&x->ctx, &run);
    rl_key(key, x, a, model);
    xp_forget(x, key);
}

/* ---- the table ---- */

/* Over models and sets of candidates. */
static xp_mean mean_of(xp *x, const ablation *a, r2_mode mode, double *faithful) {
    xp_mean mean = {0, 0, NULL};
    *faithful = 0.0;
    for (int64_t k = 0; k < x->models * x->seeds; ++k) {
        char key[KEY];
        cJSON *row;
        row_key(key, x, a, 1 + k / x->seeds, 1 + k % x->seeds, mode);
        row = xp_load(x, key);
        if (row) {
            xp_mean_add(x, &mean, row);
            *faithful += xp_number(row, "faithful");
        }
        cJSON_Delete(row);
    }
    if (mean.n_rows) *faithful /= (double)mean.n_rows;
    return mean;
}

/* One mode of one ablation: HR@1, and the paired difference to the whole method's. */
static void add_result(xp *x, const ablation *a, r2_mode mode, r2_text *text, cJSON *all) {
    double faithful, unused, lo, hi, d_lo = NAN, d_hi = NAN;
    xp_mean mean = mean_of(x, a, mode, &faithful), whole = mean_of(x, &list[0], mode, &unused);
    cJSON *json;
    if (mean.n) {
        double difference = NAN;
        xp_interval(x, &mean, NULL, XP_HR1, &lo, &hi);
        r2_text_addf(&x->ctx, text, " %.3f [%.3f, %.3f] |", xp_average(&mean, XP_HR1), lo, hi);
        if (mean.n == whole.n && mean.n_rows == whole.n_rows) {
            difference = xp_average(&mean, XP_HR1) - xp_average(&whole, XP_HR1);
            xp_interval(x, &mean, &whole, XP_HR1, &d_lo, &d_hi);
            r2_text_addf(&x->ctx, text, " %+.3f [%+.3f, %+.3f] |", difference, d_lo, d_hi);
        } else {
            r2_text_addf(&x->ctx, text, " |"); /* the same rows of the whole are not there yet */
        }
        if (mode == R2_REASONED) r2_text_addf(&x->ctx, text, " %.3f |", faithful);
        json = cJSON_CreateObject();
        cJSON_AddStringToObject(json, "name", a->name);
        cJSON_AddStringToObject(json, "what", a->what);
        cJSON_AddStringToObject(json, "mode", mode_name[mode]);
        cJSON_AddNumberToObject(json, "rows", (double)mean.n_rows);
        cJSON_AddNumberToObject(json, "hr@1", xp_average(&mean, XP_HR1));
        cJSON_AddNumberToObject(json, "hr@1_lo", lo);
        cJSON_AddNumberToObject(json, "hr@1_hi", hi);
        cJSON_AddNumberToObject(json, "difference", difference);
        cJSON_AddNumberToObject(json, "difference_lo", d_lo);
        cJSON_AddNumberToObject(json, "difference_hi", d_hi);
        cJSON_AddNumberToObject(json, "faithful", faithful);
        cJSON_AddItemToArray(all, json);
    }
    xp_mean_free(x, &mean);
    xp_mean_free(x, &whole);
}

static void write_report(xp *x) {
    r2_text text = {NULL, 0, 0, false};
    cJSON *all = cJSON_CreateArray();
    r2_text_addf(
        &x->ctx, &text,
        "`build/examples/experiments/ablation --data %s %s --models %lld --seeds %lld "
        "--steps %lld%s` (0: as configured): HR@1 (1+19), mean of the seeds, intervals over "
        "users\n\n"
        "| row | what | direct [95 %%] | - whole | reasoned [95 %%] | - whole | faithful |\n"
        "|---|---|---|---|---|---|---|\n",
        x->data, x->full ? "--full" : "--quick", (long long)x->models, (long long)x->seeds,
        (long long)x->steps, x->validate ? " --check" : "");
    for (int k = 0; k < N_ABLATIONS; ++k) {
        char key[KEY];
        row_key(key, x, &list[k], 1, 1, R2_REASONED);
        if (!xp_has(x, key)) continue;
        r2_text_addf(&x->ctx, &text, "| %s | %s |", list[k].name, list[k].what);
        add_result(x, &list[k], R2_DIRECT, &text, all);
        add_result(x, &list[k], R2_REASONED, &text, all);
        r2_text_addf(&x->ctx, &text, "\n");
    }
    xp_report(x, &text, all);
}

static const char *ablation_name(int k) { return list[k].name; }

/* Of all rows asked for, from one model seed: rows that differ in RL alone share their SFT. */
static double training_seconds(const xp *x) {
    const double sft = xp_training_seconds(x, false), rl = xp_training_seconds(x, true) - sft;
    double seconds = 0.0;
    bool shared = false;
    for (int k = 0; k < N_ABLATIONS; ++k) {
        const bool of_whole = k == 0 || list[k].rl;
        if (x->only && strcmp(x->only, list[k].name) != 0) continue;
        if (!list[k].no_sft && !(of_whole && shared)) seconds += sft;
        shared = shared || (of_whole && !list[k].no_sft);
        if (list[k].rl) seconds += rl;
    }
    return seconds;
}

int main(int argc, char **argv) {
    xp x = xp_begin("ablation", 1, argc, argv);
    int64_t n = 0;
    x.ctx.hook_data = &x;
    for (int k = 0; k < N_ABLATIONS; ++k) n += !x.only || !strcmp(x.only, list[k].name);
    if (xp_unknown(&x, "row", ablation_name, N_ABLATIONS)) return 2;
    xp_claim(&x);
    x.n_rows = 2 * n * x.models * x.seeds;
    xp_plan(&x, (double)(n * x.models) * (12.0 + 7.0 * (double)x.seeds) +
                    (double)x.models * training_seconds(&x));
    for (int64_t model = x.first; model <= x.models; ++model)
        for (int k = 0; k < N_ABLATIONS; ++k)
            if (!x.only || !strcmp(x.only, list[k].name)) ablate(&x, &list[k], model);
    write_report(&x);
    return xp_end(&x);
}

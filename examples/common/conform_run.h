/* conform_run.h: group run of data/vectors/SPEC.md: from a directory of ratings to metrics. Part of
   conform.h. */

static inline int32_t conform_int(conform *c, const cJSON *in, const char *name) {
    return (int32_t)conform_whole(c, in, name);
}

static inline void conform_run_model(conform *c, const cJSON *in, r2_model_config *m) {
    m->n_layer = conform_int(c, in, "n_layer");
    m->n_head = conform_int(c, in, "n_head");
    m->n_kv_head = conform_int(c, in, "n_kv_head");
    m->d_model = conform_int(c, in, "d_model");
    m->d_ff = conform_int(c, in, "d_ff");
}

static inline r2_run_config conform_run_config(conform *c) {
    const cJSON *in = conform_member(c, c->in, "run");
    r2_run_config config = r2_run_config_default();
    config.seed = conform_hex(c, conform_member(c, in, "seed"), "seed");
    config.n_groups = conform_whole(c, in, "n_groups");
    config.n_cases = conform_whole(c, in, "n_cases");
    config.min_history = conform_int(c, in, "min_history");
    config.min_train = conform_whole(c, in, "min_train");
    config.sft.n_steps = conform_whole(c, in, "sft_steps");
    config.sft.groups = conform_int(c, in, "sft_groups");
    config.sft.valid_every = 0;
    config.grpo.n_steps = conform_whole(c, in, "grpo_steps");
    config.grpo.groups = conform_int(c, in, "grpo_groups");
    config.grpo.n_samples = conform_int(c, in, "grpo_samples");
    conform_run_model(c, conform_member(c, in, "model"), &config.model);
    return config;
}

static inline bool conform_run_start(conform *c, r2_run *run) {
    const r2_run_config config = conform_run_config(c);
    const char *path = conform_string(c, conform_member(c, c->in, "run"), "data");
    memset(run, 0, sizeof *run);
    return !c->bad && conform_ok(c, r2_run_init(c->ctx, run, path, &config));
}

/* Adds the hash of a text, which stands for all of a long list. */
static inline void conform_add_hash(conform *c, const char *name, r2_text *text) {
    conform_add(c->out, name, conform_json_hex(r2__fnv(text->data, text->len)));
    r2_text_free(c->ctx, text);
}

/* ---- data ---- */

static inline void conform_run_cases(conform *c, const char *name, const r2_candidates *set) {
    r2_text text = {NULL, 0, 0, false};
    r2_candidates few = *set;
    cJSON *out = c->out, *object = conform_new_object(c, name);
    for (int64_t k = 0; k < set->n_cases; ++k) {
        r2_text_addf(c->ctx, &text, "%u", (unsigned)set->user[k]);
        for (int64_t j = 0; j < set->n_per_case; ++j)
            r2_text_addf(c->ctx, &text, " %u", (unsigned)set->item[k * set->n_per_case + j]);
        r2_text_addf(c->ctx, &text, "\n");
    }
    c->out = object;
    few.n_cases = few.n_cases < 3 ? few.n_cases : 3;
    conform_add_number(c, "n", (double)set->n_cases);
    conform_cases(c, &few);
    conform_add_hash(c, "hash", &text);
    c->out = out;
}

static inline void conform_run_data(conform *c) {
    r2_run run;
    if (!conform_run_start(c, &run)) return;
    conform_add_number(c, "users", (double)run.data.n_users);
    conform_add_number(c, "items", (double)run.data.n_items);
    conform_add_number(c, "rows", (double)run.data.n_ratings);
    conform_add_number(c, "train", (double)run.split.n_train);
    conform_add_number(c, "cold_valid", (double)run.split.n_cold_valid);
    conform_add_number(c, "cold_test", (double)run.split.n_cold_test);
    conform_targets(c, "valid", run.split.valid, run.split.n_valid);
    conform_targets(c, "test", run.split.test, run.split.n_test);
    conform_run_cases(c, "valid_candidates", &run.valid);
    conform_run_cases(c, "test_candidates", &run.test);
    r2_run_free(c->ctx, &run);
}

/* ---- questions, evidence, codebook, prompts ---- */

static inline void conform_run_questions(conform *c) {
    r2_text text = {NULL, 0, 0, false};
    r2_run run;
    if (!conform_run_start(c, &run)) return;
    for (int64_t q = 0; q < run.n_train; ++q)
        r2_text_addf(c->ctx, &text, "%u %u %d %d %lld\n", (unsigned)run.question[q].user,
                     (unsigned)run.question[q].item, (int)run.question[q].n_history,
                     (int)run.question[q].answer, (long long)run.question[q].future);
    conform_add_number(c, "n", (double)run.n_train);
    conform_groups_of(c, run.question, 3, 1 + run.config.n_sampled);
    conform_add_hash(c, "hash", &text);
    r2_run_free(c->ctx, &run);
}

static inline void conform_run_evidence(conform *c) {
    cJSON *out = c->out, *list = conform_new_list(c->out, "questions");
    r2_run run;
    if (!conform_run_start(c, &run)) return;
    for (int64_t q = 0; q < 10; ++q) {
        c->out = cJSON_CreateObject();
        conform_write_evidence(c, &run.evidence[q]);
        cJSON_AddItemToArray(list, c->out);
    }
    c->out = out;
    conform_write_codebook(c, &run.codebook);
    r2_run_free(c->ctx, &run);
}

/* Prompt or trace of an example, as words. */
static inline void conform_run_words(conform *c, const r2_run *run, const int32_t *id, int64_t n,
                                     r2_text *text) {
    conform_ok(c, r2_vocab_decode(c->ctx, &run->vocab, id, n, text));
}

static inline void conform_run_prompts(conform *c) {
    cJSON *prompts = conform_new_list(c->out, "prompts"),
          *traces = conform_new_list(c->out, "traces");
    r2_text all = {NULL, 0, 0, false}, one = {NULL, 0, 0, false};
    const r2_examples *ex;
    r2_run run;
    if (!conform_run_start(c, &run)) return;
    ex = &run.train;
    for (int64_t e = 0; e < ex->n && !c->bad; ++e)
        for (int part = 0; part < 2; ++part) {
            const int64_t *begin = part ? ex->trace_begin : ex->prompt_begin;
            r2_text_clear(&one);
            conform_run_words(c, &run, (part ? ex->trace : ex->prompt) + begin[e],
                              begin[e + 1] - begin[e], &one);
            r2_text_addf(c->ctx, &all, "%s\n", one.data);
            if (e < 7) cJSON_AddItemToArray(part ? traces : prompts, cJSON_CreateString(one.data));
        }
    conform_add_number(c, "words", (double)run.vocab.n_words);
    conform_add_number(c, "longest", (double)ex->longest);
    conform_add_hash(c, "hash", &all);
    r2_text_free(c->ctx, &one);
    r2_run_free(c->ctx, &run);
}

/* ---- training ---- */

typedef struct conform_log {
    conform *c;
    const r2_model *model;
    cJSON *losses, *weights;
} conform_log;

static inline void conform_visit_norm(cJSON *out, const char *name, const float *value, int64_t n) {
    double sum = 0.0;
    for (int64_t k = 0; k < n; ++k) sum += (double)value[k] * (double)value[k];
    conform_add(out, name, conform_json(sqrt(sum)));
}

static inline void conform_log_sft(void *hook_data, const r2_sft_report *report) {
    const conform_log *log = (const conform_log *)hook_data;
    const double loss[] = {(double)report->answer_loss, (double)report->trace_loss,
                           (double)report->list_loss, (double)report->grad_norm};
    const bool last = report->step + 1 == report->n_steps;
    cJSON *norms;
    if (report->step > 0 && report->step != 9 && !last) return;
    cJSON_AddItemToArray(log->losses, conform_list_doubles(loss, 4));
    norms = cJSON_CreateObject();
    conform_tensors(log->model, log->model->param, norms, conform_visit_norm);
    cJSON_AddItemToArray(log->weights, norms);
}

static inline void conform_run_sft(conform *c) {
    conform_log log = {c, NULL, conform_new_list(c->out, "losses"),
                       conform_new_list(c->out, "weights")};
    r2_run run;
    if (!conform_run_start(c, &run)) return;
    log.model = &run.model;
    run.config.sft.on_step = conform_log_sft;
    run.config.sft.on_step_data = &log;
    if (conform_ok(c, r2_run_sft(c->ctx, &run)))
        conform_tensors(&run.model, run.model.param, conform_new_object(c, "first"),
                        conform_visit_first);
    r2_run_free(c->ctx, &run);
}

static inline void conform_log_grpo(void *hook_data, const r2_grpo_report *report) {
    cJSON *steps = ((const conform_log *)hook_data)->losses, *one = cJSON_CreateObject();
    conform_add(one, "reward_mean", conform_json(report->reward_mean));
    conform_add(one, "reward_std", conform_json(report->reward_std));
    conform_add(one, "zero_variance_prompts", conform_json(report->zero_variance_prompts));
    conform_add(one, "kl", conform_json(report->kl));
    conform_add(one, "entropy", conform_json(report->entropy));
    conform_add(one, "clipped", conform_json(report->clipped_tokens));
    conform_add(one, "grad_norm", conform_json(report->grad_norm));
    conform_add(one, "output_length", conform_json(report->output_length));
    conform_add(one, "well_formed", conform_json(report->well_formed_outputs));
    cJSON_AddItemToArray(steps, one);
}

static inline void conform_run_grpo(conform *c) {
    conform_log log = {c, NULL, conform_new_list(c->out, "steps"), NULL};
    const int variant = conform_choice(c, c->in, "variant", conform_variants);
    r2_run run;
    if (!conform_run_start(c, &run)) return;
    run.config.grpo.variant = (r2_rl_variant)variant;
    run.config.grpo.on_step = conform_log_grpo;
    run.config.grpo.on_step_data = &log;
    if (conform_ok(c, r2_run_sft(c->ctx, &run))) conform_ok(c, r2_run_grpo(c->ctx, &run));
    if (!c->bad)
        conform_tensors(&run.model, run.model.param, conform_new_object(c, "weights"),
                        conform_visit_norm);
    r2_run_free(c->ctx, &run);
}

/* ---- scores ---- */

static inline void conform_run_metrics(conform *c, const char *name, const float *score,
                                       const r2_candidates *set) {
    const r2_eval_config config = r2_eval_config_default();
    cJSON *object = conform_new_object(c, name), *rows = conform_new_list(object, "scores");
    r2_metrics m;
    if (!conform_ok(c,
                    r2_evaluate(c->ctx, score, set->n_cases, set->n_per_case, &config, &m, NULL)))
        return;
    for (int64_t k = 0; k < set->n_cases; ++k)
        cJSON_AddItemToArray(rows,
                             conform_list_floats(score + k * set->n_per_case, set->n_per_case));
    conform_add(object, "hr1", conform_json(m.hr1));
    conform_add(object, "hr1_lo", conform_json(m.hr1_lo));
    conform_add(object, "hr1_hi", conform_json(m.hr1_hi));
    conform_add(object, "ndcg10", conform_json(m.ndcg10));
    conform_add(object, "mrr", conform_json(m.mrr));
    conform_add(object, "auc", conform_json(m.auc));
}

static inline void conform_run_scores(conform *c) {
    static const char *const name[] = {"direct", "reasoned"};
    r2_score_config how = r2_score_config_default();
    r2_run run;
    if (!conform_run_start(c, &run)) return;
    if (conform_ok(c, r2_run_sft(c->ctx, &run))) {
        const int64_t n = run.test.n_cases * run.test.n_per_case;
        float *score = (float *)conform_take(c, n, sizeof *score);
        for (int mode = 0; mode < 2 && !c->bad; ++mode) {
            how.mode = (r2_mode)mode;
            conform_ok(c, r2_run_score(c->ctx, &run, &run.test, &how, score, NULL));
            if (!c->bad) conform_run_metrics(c, name[mode], score, &run.test);
        }
    }
    r2_run_free(c->ctx, &run);
}

static const conform_op conform_runs[] = {
    {"run", "data", conform_run_data},         {"run", "questions", conform_run_questions},
    {"run", "evidence", conform_run_evidence}, {"run", "prompts", conform_run_prompts},
    {"run", "sft", conform_run_sft},           {"run", "grpo", conform_run_grpo},
    {"run", "scores", conform_run_scores},     {NULL, NULL, NULL}};

/* conform_learning.h: group loss of data/vectors/SPEC.md. Part of conform.h. */

static inline void conform_score(conform *c) {
    static const char *const kind[] = {"log_odds", "rating", NULL};
    int64_t n;
    const float *logp = conform_floats(c, conform_member(c, c->in, "logp"), "logp", &n);
    const int which = conform_choice(c, c->in, "kind", kind);
    if (n != R2_N_ANSWERS) conform_bad(c, "6 numbers in", "logp");
    if (!c->bad)
        conform_add_number(c, "score", (double)r2_answer_score(logp, (r2_score_kind)which));
}

/* ---- supervised fine-tuning ---- */

/* Lays a sequence of the request into the batch, as r2__sft_sequence does. */
static inline r2__sft_row conform_sft_row(conform *c, const cJSON *in, r2__batcher *b) {
    int64_t n_levels, n_trace;
    const float *level = conform_floats(c, conform_member(c, in, "levels"), "levels", &n_levels);
    const float *trace = conform_floats(c, conform_member(c, in, "trace"), "trace", &n_trace);
    r2__sft_row row;
    if (n_levels != R2_N_ANSWERS) conform_bad(c, "6 numbers in", "levels");
    row.trace_first = b->n_pred;
    for (int64_t k = 0; k < n_trace; ++k) b->logp[b->n_pred++] = trace[k];
    row.trace_end = row.close = row.close_end = b->n_pred;
    b->level_pred[b->n_seq++] = b->n_pred;
    row.answer = b->n_pred + (int32_t)conform_whole(c, in, "answer");
    for (int k = 0; k < R2_N_ANSWERS && !c->bad; ++k) b->logp[b->n_pred + k] = level[k];
    b->n_pred += R2_N_ANSWERS;
    row.close = row.close_end = b->n_pred;
    row.asks = conform_bool(c, in, "asks");
    return row;
}

static inline void conform_sft_write(conform *c, const r2__batcher *b, const r2__sft_row *row) {
    cJSON *levels = conform_new_list(c->out, "dlevels"),
          *traces = conform_new_list(c->out, "dtrace");
    for (int32_t s = 0; s < b->n_seq; ++s) {
        cJSON_AddItemToArray(levels,
                             conform_list_floats(b->dlogp + b->level_pred[s], R2_N_ANSWERS));
        cJSON_AddItemToArray(traces, conform_list_floats(b->dlogp + row[s].trace_first,
                                                         row[s].trace_end - row[s].trace_first));
    }
}

static inline void conform_sft(conform *c) {
    const cJSON *sequences = conform_member(c, c->in, "sequences"), *in;
    const int64_t n = conform_length(c, sequences, "sequences"), most = 1000;
    r2__sft_row *row = (r2__sft_row *)conform_take(c, n, sizeof *row);
    const int64_t group = conform_whole(c, c->in, "group");
    r2_sft_config config = r2_sft_config_default();
    r2_sft_report report;
    r2__batcher b;
    config.trace_weight = (float)conform_number(c, c->in, "trace_weight");
    config.list_weight = (float)conform_number(c, c->in, "list_weight");
    if (group < 1 || n < 1 || n % group) conform_bad(c, "a multiple of `group` of", "sequences");
    if (c->bad || !conform_ok(c, r2__batcher_init(c->ctx, &b, n, 1, n * most))) return;
    cJSON_ArrayForEach(in, sequences) {
        const r2__sft_row one = conform_sft_row(c, in, &b);
        row[b.n_seq - 1] = one;
    }
    memset(&report, 0, sizeof report);
    if (!c->bad) r2__sft_loss(&b, row, (int32_t)group, &config, &report);
    conform_add_number(c, "answer_loss", (double)report.answer_loss);
    conform_add_number(c, "trace_loss", (double)report.trace_loss);
    conform_add_number(c, "list_loss", (double)report.list_loss);
    if (!c->bad) conform_sft_write(c, &b, row);
    r2__batcher_free(c->ctx, &b);
}

/* ---- rewards and advantages ---- */

static const char *const conform_variants[] = {
    "grpo", "dr_grpo", "dapo", "sample_1e-4", "population_1e-4", "leave_one_out", NULL};

/* The advantages of other libraries: from the mean, the sum of squares, the number. */
static inline double conform_foreign_scale(int variant, double square, int64_t n) {
    if (variant == 3) return 1.0 / (sqrt(square / (double)(n - 1)) + 1e-4);
    if (variant == 4) return 1.0 / (sqrt(square / (double)n) + 1e-4);
    return (double)n / (double)(n - 1);
}

static inline void conform_foreign(int variant, const double *reward, int64_t n,
                                   double *advantage) {
    double mean = 0.0, square = 0.0;
    for (int64_t i = 0; i < n; ++i) mean += reward[i] / (double)n;
    for (int64_t i = 0; i < n; ++i) square += (reward[i] - mean) * (reward[i] - mean);
    for (int64_t i = 0; i < n; ++i)
        advantage[i] = n < 2 || sqrt(square / (double)(n - 1)) < 1e-12
                           ? 0.0
                           : (reward[i] - mean) * conform_foreign_scale(variant, square, n);
}

static inline void conform_advantages(conform *c) {
    int64_t n;
    const double *reward = conform_doubles(c, conform_member(c, c->in, "rewards"), "rewards", &n);
    const int variant = conform_choice(c, c->in, "variant", conform_variants);
    double *advantage = (double *)conform_take(c, n, sizeof *advantage);
    if (variant <= R2_DAPO) r2_advantages((r2_rl_variant)variant, reward, (int32_t)n, advantage);
    else conform_foreign(variant, reward, n, advantage);
    conform_add(c->out, "advantages", conform_list_doubles(advantage, n));
}

static inline void conform_policy(conform *c) {
    const r2_policy_term term = r2_policy_loss(
        conform_number(c, c->in, "logp"), conform_number(c, c->in, "logp_old"),
        conform_number(c, c->in, "logp_ref"), conform_number(c, c->in, "advantage"),
        conform_number(c, c->in, "eps_low"), conform_number(c, c->in, "eps_high"),
        conform_number(c, c->in, "beta"));
    conform_add_number(c, "loss", term.loss);
    conform_add_number(c, "dlogp", term.dlogp);
    conform_add_number(c, "ratio", term.ratio);
    conform_add_number(c, "kl", term.kl);
    conform_add_bool(c, "clipped", term.clipped);
}

static inline void conform_reward(conform *c) {
    const cJSON *weights = conform_member(c, c->in, "weights"),
                *in = conform_member(c, c->in, "check");
    const char *verdict = conform_string(c, in, "verdict");
    r2_reward_config config;
    r2_sample sample;
    memset(&sample, 0, sizeof sample);
    config.w_format = (float)conform_number(c, weights, "format");
    config.w_accuracy = (float)conform_number(c, weights, "accuracy");
    config.w_rank = (float)conform_number(c, weights, "rank");
    config.w_faith = (float)conform_number(c, weights, "faith");
    sample.check.verdict = strcmp(verdict, "ok") ? R2_TRACE_MALFORMED : R2_TRACE_OK;
    sample.check.answer = (int32_t)conform_whole(c, in, "answer");
    sample.check.n_cited = (int32_t)conform_whole(c, in, "cited");
    sample.check.n_right = (int32_t)conform_whole(c, in, "right");
    sample.check.well_formed = conform_bool(c, in, "well_formed");
    sample.right_answer = (int32_t)conform_whole(c, c->in, "right_answer");
    sample.rank_share = conform_number(c, c->in, "rank_share");
    conform_add_number(c, "reward", r2_reward(&config, &sample));
}

/* ---- the objective of a step ---- */

/* A training step of `n_prompts` prompts with `n_samples` outputs each, without a model. */
typedef struct conform_step {
    r2__grpo rl;
    r2_grpo_config config;
    r2_examples ex;
} conform_step;

static inline void conform_step_init(conform *c, conform_step *step, int64_t n_prompts,
                                     int64_t n_samples) {
    memset(step, 0, sizeof *step);
    step->config = r2_grpo_config_default();
    step->config.n_samples = (int32_t)n_samples;
    step->config.sft_weight = step->config.list_weight = 0.0f;
    step->ex.group = (int32_t)n_prompts;
    step->rl.ex = &step->ex;
    step->rl.config = &step->config;
    step->rl.prompts.n = n_prompts;
    step->rl.n_sample = n_prompts * n_samples;
    step->rl.sample = (r2__rl_sample *)conform_take(c, step->rl.n_sample, sizeof *step->rl.sample);
    for (int64_t o = 0; o < step->rl.n_sample; ++o) step->rl.sample[o].level_pred = -1;
}

/* Rows of equal length: prompts and their outputs. */
static inline int64_t conform_columns(conform *c, const cJSON *rows, const char *name) {
    const cJSON *row;
    int64_t columns = conform_length(c, cJSON_GetArrayItem(rows, 0), name);
    cJSON_ArrayForEach(row, rows) if (cJSON_GetArraySize(row) != columns)
        conform_bad(c, "rows of one length in", name);
    if (columns < 1 || columns > 64) conform_bad(c, "rows of 1 to 64 in", name);
    return columns;
}

static inline void conform_rank_share(conform *c) {
    const cJSON *rows = conform_member(c, c->in, "scores"), *row, *score;
    const int64_t n = conform_length(c, rows, "scores"),
                  columns = conform_columns(c, rows, "scores");
    cJSON *shares = conform_new_list(c->out, "shares");
    conform_step step;
    int64_t o = 0;
    if (c->bad) return;
    conform_step_init(c, &step, n, columns);
    cJSON_ArrayForEach(row, rows) cJSON_ArrayForEach(score, row) step.rl.sample[o++].score =
        conform_value(c, score, "scores");
    for (o = 0; o < step.rl.n_sample; ++o) {
        if (o % columns == 0) cJSON_AddItemToArray(shares, cJSON_CreateArray());
        cJSON_AddItemToArray(cJSON_GetArrayItem(shares, (int)(o / columns)),
                             conform_json(r2__rank_share(&step.rl, o)));
    }
}

/* Reads one output of a step; `most` tokens have room in all. */
static inline void conform_output(conform *c, conform_step *step, int64_t o, const cJSON *in,
                                  int64_t most) {
    r2__grpo *rl = &step->rl;
    int64_t n, n_old, n_ref;
    const float *logp = conform_floats(c, conform_member(c, in, "logp"), "logp", &n);
    const float *old = conform_floats(c, conform_member(c, in, "logp_old"), "logp_old", &n_old);
    const float *ref = conform_floats(c, conform_member(c, in, "logp_ref"), "logp_ref", &n_ref);
    if (n < 1 || n != n_old || n != n_ref || rl->b.n_pred + n > most) {
        conform_bad(c, "as many numbers as in `logp` in", "logp_old and logp_ref");
        return;
    }
    rl->sample[o].reward = conform_number(c, in, "reward");
    rl->sample[o].first_pred = rl->b.n_pred;
    memcpy(rl->b.logp + rl->b.n_pred, logp, (size_t)n * sizeof *logp);
    memcpy(rl->logp_old + rl->b.n_pred, old, (size_t)n * sizeof *old);
    memcpy(rl->logp_ref + rl->b.n_pred, ref, (size_t)n * sizeof *ref);
    rl->b.n_pred += (int32_t)n;
    rl->sample[o].end_pred = rl->b.n_pred;
}

static inline void conform_grpo_write(conform *c, const conform_step *step) {
    const int32_t columns = step->config.n_samples;
    cJSON *advantages = conform_new_list(c->out, "advantages");
    cJSON *dlogp = conform_new_list(c->out, "dlogp");
    for (int64_t o = 0; o < step->rl.n_sample; ++o) {
        const r2__rl_sample *sample = &step->rl.sample[o];
        const int at = (int)(o / columns);
        if (o % columns == 0) {
            cJSON_AddItemToArray(advantages, cJSON_CreateArray());
            cJSON_AddItemToArray(dlogp, cJSON_CreateArray());
        }
        cJSON_AddItemToArray(cJSON_GetArrayItem(advantages, at), conform_json(sample->advantage));
        cJSON_AddItemToArray(cJSON_GetArrayItem(dlogp, at),
                             conform_list_floats(step->rl.b.dlogp + sample->first_pred,
                                                 sample->end_pred - sample->first_pred));
    }
}

static inline void conform_grpo_config(conform *c, r2_grpo_config *config) {
    config->variant = (r2_rl_variant)conform_choice(c, c->in, "variant", conform_variants);
    config->max_new = (int32_t)conform_whole(c, c->in, "max_new");
    config->eps_low = (float)conform_number(c, c->in, "eps_low");
    config->eps_high = (float)conform_number(c, c->in, "eps_high");
    config->beta = (float)conform_number(c, c->in, "beta");
    if (config->variant > R2_DAPO) conform_bad(c, "grpo, dr_grpo or dapo in", "variant");
}

static inline void conform_grpo(conform *c) {
    const cJSON *rows = conform_member(c, c->in, "prompts"), *row, *output;
    const int64_t n = conform_length(c, rows, "prompts"),
                  columns = conform_columns(c, rows, "prompts");
    const int64_t most = 4096;
    conform_step step;
    r2_grpo_report report;
    int64_t o = 0;
    if (c->bad) return;
    conform_step_init(c, &step, n, columns);
    conform_grpo_config(c, &step.config);
    memset(&report, 0, sizeof report);
    step.rl.b.logp = (float *)conform_take(c, most, sizeof(float));
    step.rl.b.dlogp = (float *)conform_take(c, most, sizeof(float));
    step.rl.logp_old = (float *)conform_take(c, most, sizeof(float));
    step.rl.logp_ref = (float *)conform_take(c, most, sizeof(float));
    step.rl.entropy = (float *)conform_take(c, most, sizeof(float));
    cJSON_ArrayForEach(row, rows) cJSON_ArrayForEach(output, row)
        conform_output(c, &step, o++, output, most);
    if (c->bad) return;
    r2__grpo_advantages(&step.rl, &report);
    r2__grpo_loss(&step.rl, &report);
    conform_grpo_write(c, &step);
    conform_add_number(c, "kl", report.kl);
    conform_add_number(c, "clipped", report.clipped_tokens);
    conform_add_number(c, "zero_variance_prompts", report.zero_variance_prompts);
}

static inline void conform_learning_rate(conform *c) {
    conform_add_number(c, "rate",
                       (double)r2_lr_cosine(conform_whole(c, c->in, "step"),
                                            conform_whole(c, c->in, "total"),
                                            conform_whole(c, c->in, "warmup"),
                                            (float)conform_number(c, c->in, "peak"),
                                            (float)conform_number(c, c->in, "floor")));
}

static const conform_op conform_learning[] = {{"loss", "score", conform_score},
                                              {"loss", "sft", conform_sft},
                                              {"loss", "advantages", conform_advantages},
                                              {"loss", "policy", conform_policy},
                                              {"loss", "reward", conform_reward},
                                              {"loss", "rank_share", conform_rank_share},
                                              {"loss", "grpo", conform_grpo},
                                              {"loss", "learning_rate", conform_learning_rate},
                                              {NULL, NULL, NULL}};

/* conform_model.h: group model of data/vectors/SPEC.md. Part of conform.h. */

static inline r2_model_config conform_model_config(conform *c) {
    const cJSON *in = conform_member(c, c->in, "model");
    r2_model_config m;
    memset(&m, 0, sizeof m);
    m.n_vocab = (int32_t)conform_whole(c, in, "n_vocab");
    m.n_layer = (int32_t)conform_whole(c, in, "n_layer");
    m.n_head = (int32_t)conform_whole(c, in, "n_head");
    m.n_kv_head = (int32_t)conform_whole(c, in, "n_kv_head");
    m.d_model = (int32_t)conform_whole(c, in, "d_model");
    m.d_ff = (int32_t)conform_whole(c, in, "d_ff");
    m.n_ctx = (int32_t)conform_whole(c, in, "n_ctx");
    m.rope_theta = (float)conform_number(c, in, "rope_theta");
    m.norm_eps = (float)conform_number(c, in, "norm_eps");
    m.init_std = (float)conform_number(c, in, "init_std");
    m.qkv_bias = conform_bool(c, in, "qkv_bias");
    m.tied = conform_bool(c, in, "tied");
    m.seed = conform_hex(c, conform_member(c, in, "seed"), "seed");
    return m;
}

static inline bool conform_model_init(conform *c, r2_model *model) {
    const r2_model_config config = conform_model_config(c);
    memset(model, 0, sizeof *model);
    return !c->bad && conform_ok(c, r2_model_init(c->ctx, model, &config, true));
}

/* Tensors by the names of SPEC.md. */
static inline const char *conform_tensor_name(int id, int64_t layer, char name[32]) {
    static const char *const names[] = {"embedding", "g1",  "Wq",    "Wk", "Wv",
                                        "bq",        "bk",  "bv",    "Wo", "g2",
                                        "Wgate",     "Wup", "Wdown", "g",  "head"};
    if (id == R2_EMBED || id == R2_FINAL_NORM || id == R2_HEAD) return names[id];
    snprintf(name, 32, "%d.%s", (int)layer, names[id]);
    return name;
}

/* Calls `visit` for each tensor that the model has. */
typedef void (*conform_visit)(cJSON *out, const char *name, const float *value, int64_t n);

static inline void conform_tensors(const r2_model *model, const float *base, cJSON *out,
                                   conform_visit visit) {
    char name[32];
    for (int id = 0; id < R2_TENSOR_COUNT; ++id)
        for (int64_t layer = 0; layer < r2__tensor_layers(model, id); ++layer)
            visit(out, conform_tensor_name(id, layer, name),
                  base + (r2_weight(model, (r2_tensor_id)id, layer) - model->param),
                  r2__tensor_size(&model->tensor[id]));
}

static inline void conform_visit_all(cJSON *out, const char *name, const float *value, int64_t n) {
    conform_add(out, name, conform_list_floats(value, n));
}

static inline void conform_visit_first(cJSON *out, const char *name, const float *value,
                                       int64_t n) {
    conform_add(out, name, conform_list_floats(value, n < 4 ? n : 4));
}

static inline void conform_visit_sum(cJSON *out, const char *name, const float *value, int64_t n) {
    double sum = 0.0;
    for (int64_t k = 0; k < n; ++k) sum += (double)value[k];
    conform_add(out, name, conform_json(sum));
}

static inline cJSON *conform_new_object(conform *c, const char *name) {
    cJSON *object = cJSON_CreateObject();
    conform_add(c->out, name, object);
    return object;
}

static inline void conform_init(conform *c) {
    r2_model model;
    if (!conform_model_init(c, &model)) return;
    conform_tensors(&model, model.param, conform_new_object(c, "sums"), conform_visit_sum);
    conform_tensors(&model, model.param, conform_new_object(c, "first"), conform_visit_first);
    r2_model_free(c->ctx, &model);
}

/* ---- batches ---- */

typedef struct conform_batch {
    r2_batch batch;
    int32_t *seq_begin, *token, *pred_row, *pred_token;
    float *logp, *entropy;
} conform_batch;

static inline void conform_sequences(conform *c, const cJSON *list, conform_batch *b) {
    const int64_t n_seq = conform_length(c, list, "sequences");
    const cJSON *sequence;
    int64_t n_tokens = 0, n;
    cJSON_ArrayForEach(sequence, list) n_tokens += cJSON_GetArraySize(sequence);
    b->seq_begin = (int32_t *)conform_take(c, n_seq + 1, sizeof *b->seq_begin);
    b->token = (int32_t *)conform_take(c, n_tokens, sizeof *b->token);
    cJSON_ArrayForEach(sequence, list) {
        const int32_t begin = b->seq_begin[b->batch.n_seq];
        const int32_t *token = conform_ids(c, sequence, "sequences", &n);
        memcpy(b->token + begin, token, (size_t)n * sizeof *token);
        b->seq_begin[++b->batch.n_seq] = begin + (int32_t)n;
    }
}

static inline void conform_batch_read(conform *c, conform_batch *b) {
    const cJSON *in = conform_member(c, c->in, "batch"), *one;
    const cJSON *list = conform_member(c, in, "predictions");
    const int64_t n = conform_length(c, list, "predictions");
    memset(b, 0, sizeof *b);
    conform_sequences(c, conform_member(c, in, "sequences"), b);
    b->pred_row = (int32_t *)conform_take(c, n, sizeof *b->pred_row);
    b->pred_token = (int32_t *)conform_take(c, n, sizeof *b->pred_token);
    b->logp = (float *)conform_take(c, n, sizeof *b->logp);
    b->entropy = (float *)conform_take(c, n, sizeof *b->entropy);
    cJSON_ArrayForEach(one, list) {
        int64_t three;
        const int32_t *value = conform_ids(c, one, "predictions", &three);
        if (three != 3 || value[0] < 0 || value[0] >= b->batch.n_seq || value[1] < 0) {
            conform_bad(c, "[sequence, place, token] in", "predictions");
            return;
        }
        b->pred_row[b->batch.n_pred] = b->seq_begin[value[0]] + value[1];
        b->pred_token[b->batch.n_pred++] = value[2];
    }
    b->batch.seq_begin = b->seq_begin;
    b->batch.token = b->token;
    b->batch.pred_row = b->pred_row;
    b->batch.pred_token = b->pred_token;
}

static inline void conform_forward(conform *c) {
    conform_batch b;
    r2_model model;
    conform_batch_read(c, &b);
    if (!conform_model_init(c, &model)) return;
    if (conform_ok(c, r2_forward(c->ctx, &model, &b.batch, b.logp, b.entropy))) {
        conform_add(c->out, "logp", conform_list_floats(b.logp, b.batch.n_pred));
        conform_add(c->out, "entropy", conform_list_floats(b.entropy, b.batch.n_pred));
    }
    r2_model_free(c->ctx, &model);
}

static inline float *conform_dlogp(conform *c, const conform_batch *b) {
    int64_t n;
    float *dlogp = conform_floats(c, conform_member(c, c->in, "dlogp"), "dlogp", &n);
    if (n != b->batch.n_pred) conform_bad(c, "a number for each prediction in", "dlogp");
    return dlogp;
}

static inline void conform_gradient(conform *c) {
    conform_batch b;
    r2_model model;
    float *dlogp;
    conform_batch_read(c, &b);
    dlogp = conform_dlogp(c, &b);
    if (!conform_model_init(c, &model)) return;
    if (conform_ok(c, r2_forward(c->ctx, &model, &b.batch, b.logp, NULL)) &&
        conform_ok(c, r2_backward(c->ctx, &model, &b.batch, dlogp)))
        conform_tensors(&model, model.grad, conform_new_object(c, "gradient"), conform_visit_all);
    r2_model_free(c->ctx, &model);
}

/* ---- training ---- */

static inline r2_adamw_config conform_adamw(conform *c) {
    const cJSON *in = conform_member(c, c->in, "adamw");
    r2_adamw_config config;
    config.beta1 = (float)conform_number(c, in, "beta1");
    config.beta2 = (float)conform_number(c, in, "beta2");
    config.eps = (float)conform_number(c, in, "eps");
    config.weight_decay = (float)conform_number(c, in, "decay");
    config.clip = (float)conform_number(c, in, "clip");
    return config;
}

/* One step: the log-probabilities before it, then the update. */
static inline bool conform_step_train(conform *c, conform_batch *b, r2_model *model, r2_adamw *opt,
                                      const float *dlogp, float lr, cJSON *logp, cJSON *norms) {
    float norm = 0.0f;
    if (!conform_ok(c, r2_forward(c->ctx, model, &b->batch, b->logp, NULL))) return false;
    cJSON_AddItemToArray(logp, conform_list_floats(b->logp, b->batch.n_pred));
    r2_zero_grad(c->ctx, model);
    if (!conform_ok(c, r2_backward(c->ctx, model, &b->batch, dlogp)) ||
        !conform_ok(c, r2_adamw_step(c->ctx, opt, model, lr, &norm)))
        return false;
    cJSON_AddItemToArray(norms, conform_json((double)norm));
    return true;
}

static inline void conform_train(conform *c) {
    const r2_adamw_config config = conform_adamw(c);
    const int64_t steps = conform_whole(c, c->in, "steps");
    const float lr = (float)conform_number(c, c->in, "lr");
    cJSON *logp = conform_new_list(c->out, "logp"), *norms = conform_new_list(c->out, "norms");
    conform_batch b;
    r2_model model;
    r2_adamw opt;
    float *dlogp;
    conform_batch_read(c, &b);
    dlogp = (float *)conform_take(c, b.batch.n_pred, sizeof *dlogp);
    for (int32_t j = 0; j < b.batch.n_pred; ++j) dlogp[j] = -1.0f;
    if (!conform_model_init(c, &model)) return;
    memset(&opt, 0, sizeof opt);
    conform_ok(c, r2_adamw_init(c->ctx, &opt, &model, &config));
    for (int64_t k = 0; k < steps && !c->bad; ++k)
        conform_step_train(c, &b, &model, &opt, dlogp, lr, logp, norms);
    if (!c->bad && conform_ok(c, r2_forward(c->ctx, &model, &b.batch, b.logp, NULL)))
        cJSON_AddItemToArray(logp, conform_list_floats(b.logp, b.batch.n_pred));
    r2_adamw_free(c->ctx, &opt);
    r2_model_free(c->ctx, &model);
}

/* ---- adapters ---- */

/* Which projections `a` names, as bits; all layers must name the same. */
static inline uint32_t conform_lora_targets(conform *c, const cJSON *a) {
    char name[32];
    uint32_t targets = 0;
    for (int id = R2_WQ; id <= R2_WDOWN; ++id)
        if (cJSON_GetObjectItemCaseSensitive(a, conform_tensor_name(id, 0, name)))
            targets |= 1u << id;
    if (!targets) conform_bad(c, "adapters of layer 0 in", "a");
    return targets;
}

/* Reads the factors into the model, or (in NULL) adds their gradients to da and db. */
static inline void conform_lora_factors(conform *c, r2_model *model, const cJSON *in_a,
                                        const cJSON *in_b, cJSON *da, cJSON *db) {
    const r2_lora *lora = model->lora;
    char name[32];
    for (int64_t layer = 0; layer < model->config.n_layer; ++layer)
        for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
            const int64_t n_a = lora->config.rank * model->tensor[id].cols;
            const int64_t n_b = lora->config.rank * model->tensor[id].rows;
            const int64_t at = layer * lora->layer_stride + lora->offset[id];
            int64_t n, m;
            if (lora->offset[id] < 0) continue;
            conform_tensor_name(id, layer, name);
            if (da) {
                conform_add(da, name, conform_list_floats(lora->grad + at, n_a));
                conform_add(db, name, conform_list_floats(lora->grad + at + n_a, n_b));
                continue;
            }
            const float *a = conform_floats(c, conform_member(c, in_a, name), name, &n);
            const float *b = conform_floats(c, conform_member(c, in_b, name), name, &m);
            if (n != n_a || m != n_b) conform_bad(c, "the elements of", name);
            if (c->bad) return;
            memcpy(lora->param + at, a, (size_t)n * sizeof *a);
            memcpy(lora->param + at + n_a, b, (size_t)m * sizeof *b);
        }
}

static inline void conform_lora(conform *c) {
    const cJSON *in_a = conform_member(c, c->in, "a"), *in_b = conform_member(c, c->in, "b");
    r2_lora_config config = r2_lora_config_default();
    conform_batch b;
    r2_model model;
    float *dlogp;
    config.rank = (int32_t)conform_whole(c, c->in, "rank");
    config.alpha = (float)conform_number(c, c->in, "alpha");
    config.targets = conform_lora_targets(c, in_a);
    conform_batch_read(c, &b);
    dlogp = conform_dlogp(c, &b);
    if (!conform_model_init(c, &model)) return;
    if (conform_ok(c, r2_lora_attach(c->ctx, &model, &config)))
        conform_lora_factors(c, &model, in_a, in_b, NULL, NULL);
    if (!c->bad && conform_ok(c, r2_forward(c->ctx, &model, &b.batch, b.logp, NULL)) &&
        conform_ok(c, r2_backward(c->ctx, &model, &b.batch, dlogp))) {
        cJSON *da = conform_new_object(c, "da"), *db = conform_new_object(c, "db");
        conform_add(c->out, "logp", conform_list_floats(b.logp, b.batch.n_pred));
        conform_lora_factors(c, &model, NULL, NULL, da, db);
    }
    r2_model_free(c->ctx, &model);
}

/* ---- generation ---- */

static inline void conform_generate_write(conform *c, const r2_generation *gen) {
    cJSON *tokens = conform_new_list(c->out, "tokens"), *logp = conform_new_list(c->out, "logp");
    cJSON *watch = conform_new_list(c->out, "watch");
    for (int64_t o = 0; o < gen->n_out; ++o) {
        const int64_t at = o * gen->max_new;
        cJSON_AddItemToArray(tokens, conform_list_ids(gen->token + at, gen->length[o]));
        cJSON_AddItemToArray(logp, conform_list_floats(gen->logp + at, gen->length[o]));
        cJSON_AddItemToArray(watch,
                             conform_list_floats(gen->watch_logp + o * gen->n_watch, gen->n_watch));
    }
}

static inline void conform_generate(conform *c) {
    const cJSON *prompts = conform_member(c, c->in, "prompts"), *prompt;
    const int64_t n_prompts = conform_length(c, prompts, "prompts");
    int64_t *begin = (int64_t *)conform_take(c, n_prompts + 1, sizeof *begin);
    int32_t *token = (int32_t *)conform_take(c, 100000, sizeof *token);
    r2_generate_config how = r2_generate_config_default();
    r2_generation gen;
    r2_model model;
    int64_t n, p = 0;
    cJSON_ArrayForEach(prompt, prompts) {
        const int32_t *id = conform_ids(c, prompt, "prompts", &n);
        begin[p + 1] = begin[p] + n;
        if (begin[p + 1] > 100000) conform_bad(c, "fewer tokens in", "prompts");
        else memcpy(token + begin[p++], id, (size_t)n * sizeof *id);
    }
    how.n_samples = (int32_t)conform_whole(c, c->in, "n_samples");
    how.max_new = (int32_t)conform_whole(c, c->in, "max_new");
    how.temperature = (float)conform_number(c, c->in, "temperature");
    how.seed = conform_u64(c, "seed");
    how.stop = conform_ids(c, conform_member(c, c->in, "stop"), "stop", &n);
    how.n_stop = (int32_t)n;
    how.watch = conform_ids(c, conform_member(c, c->in, "watch"), "watch", &n);
    how.n_watch = (int32_t)n;
    if (!conform_model_init(c, &model)) return;
    if (conform_ok(c, r2_generate(c->ctx, &model, &how, n_prompts, begin, token, &gen))) {
        conform_generate_write(c, &gen);
        r2_generation_free(c->ctx, &gen);
    }
    r2_model_free(c->ctx, &model);
}

/* ---- single operations ---- */

static inline void conform_rmsnorm(conform *c) {
    int64_t n, n_gain;
    const float *x = conform_floats(c, conform_member(c, c->in, "x"), "x", &n);
    const float *gain = conform_floats(c, conform_member(c, c->in, "gain"), "gain", &n_gain);
    float *y = (float *)conform_take(c, n, sizeof *y), rstd;
    if (n < 1 || n != n_gain) conform_bad(c, "as many numbers as in `x` in", "gain");
    if (c->bad) return;
    r2_rmsnorm_fwd(c->ctx, y, &rstd, x, gain, 1, n, (float)conform_number(c, c->in, "eps"));
    conform_add(c->out, "y", conform_list_floats(y, n));
}

static inline void conform_rope(conform *c) {
    int64_t n;
    float *x = conform_floats(c, conform_member(c, c->in, "x"), "x", &n);
    const int32_t position = (int32_t)conform_whole(c, c->in, "position");
    r2_model model;
    memset(&model, 0, sizeof model);
    if (n < 2 || n % 2 || position < 0 || position > 9999) conform_bad(c, "an even number of", "x");
    model.config.rope_theta = (float)conform_number(c, c->in, "theta");
    model.config.d_model = (int32_t)n;
    model.config.n_head = 1;
    model.config.n_ctx = position + 1;
    if (c->bad) return;
    model.rope = (float *)conform_take(c, n * (position + 1), sizeof *model.rope);
    r2__fill_rope(&model);
    r2_rope(c->ctx, x, n, &position, model.rope, 1, 1, (int32_t)n, 1);
    conform_add(c->out, "y", conform_list_floats(x, n));
}

static inline void conform_swiglu(conform *c) {
    int64_t n, n_up;
    const float *gate = conform_floats(c, conform_member(c, c->in, "gate"), "gate", &n);
    const float *up = conform_floats(c, conform_member(c, c->in, "up"), "up", &n_up);
    float *both = (float *)conform_take(c, 2 * n, sizeof *both);
    float *y = (float *)conform_take(c, n, sizeof *y);
    if (n < 1 || n != n_up) conform_bad(c, "as many numbers as in `gate` in", "up");
    if (c->bad) return;
    memcpy(both, gate, (size_t)n * sizeof *both);
    memcpy(both + n, up, (size_t)n * sizeof *both);
    r2_swiglu_fwd(c->ctx, y, both, 1, n);
    conform_add(c->out, "y", conform_list_floats(y, n));
}

static const conform_op conform_model[] = {
    {"model", "init", conform_init},         {"model", "forward", conform_forward},
    {"model", "gradient", conform_gradient}, {"model", "train", conform_train},
    {"model", "lora", conform_lora},         {"model", "generate", conform_generate},
    {"model", "rmsnorm", conform_rmsnorm},   {"model", "rope", conform_rope},
    {"model", "swiglu", conform_swiglu},     {NULL, NULL, NULL}};

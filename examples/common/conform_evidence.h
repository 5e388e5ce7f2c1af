/* conform_evidence.h: groups questions, evidence and codebook (fit) of data/vectors/SPEC.md. Part of
   conform.h. */

/* ---- candidates ---- */

static inline r2_target *conform_read_targets(conform *c, const r2_data *data, int64_t *n) {
    const cJSON *list = conform_member(c, c->in, "targets"), *pair;
    r2_target *target;
    int64_t two, k = 0;
    *n = conform_length(c, list, "targets");
    target = (r2_target *)conform_take(c, *n, sizeof *target);
    cJSON_ArrayForEach(pair, list) {
        const double *value = conform_doubles(c, pair, "targets", &two);
        if (two != 2 || !(value[0] >= 0 && value[0] < (double)data->n_users && value[1] >= 0 &&
                          value[1] < (double)data->n_items)) {
            conform_bad(c, "pairs of a user and an item in", "targets");
            break;
        }
        target[k].user = (uint32_t)value[0];
        target[k++].item = (uint32_t)value[1];
    }
    return target;
}

/* The split of `common`, or an empty one. */
static inline void conform_common(conform *c, const r2_data *data, r2_split *split,
                                  r2_negatives *negatives) {
    const cJSON *in = conform_member(c, c->in, "common");
    r2_split_config config = r2_split_config_default();
    memset(split, 0, sizeof *split);
    if (c->bad || cJSON_IsNull(in)) return;
    config.seed = conform_hex(c, conform_member(c, in, "seed"), "seed");
    config.min_positive = (float)conform_number(c, in, "min_positive");
    negatives->min_train = conform_whole(c, in, "min_train");
    if (!c->bad) conform_ok(c, r2_split_init(c->ctx, split, data, &config));
    negatives->warm = split;
}

static inline void conform_cases(conform *c, const r2_candidates *set) {
    cJSON *cases = conform_new_list(c->out, "cases");
    for (int64_t k = 0; k < set->n_cases; ++k) {
        cJSON *one = cJSON_CreateArray();
        cJSON_AddItemToArray(one, conform_json((double)set->user[k]));
        for (int64_t j = 0; j < set->n_per_case; ++j)
            cJSON_AddItemToArray(one, conform_json((double)set->item[k * set->n_per_case + j]));
        cJSON_AddItemToArray(cases, one);
    }
}

static inline void conform_candidates(conform *c) {
    r2_negatives negatives;
    r2_candidates set;
    r2_split split;
    r2_data data;
    r2_target *target = NULL;
    int64_t n = 0;
    memset(&negatives, 0, sizeof negatives);
    memset(&set, 0, sizeof set);
    negatives.n = conform_whole(c, c->in, "n");
    negatives.seed = conform_u64(c, "seed");
    negatives.popular = conform_bool(c, c->in, "popular");
    conform_load(c, &data);
    conform_common(c, &data, &split, &negatives);
    if (!c->bad) target = conform_read_targets(c, &data, &n);
    if (!c->bad) conform_ok(c, r2_candidates_init(c->ctx, &set, &data, target, n, &negatives));
    if (!c->bad) conform_cases(c, &set);
    r2_candidates_free(c->ctx, &set);
    r2_split_free(c->ctx, &split);
    r2_data_free(c->ctx, &data);
}

/* ---- splits of warm targets, moments ---- */

static inline void conform_warm(conform *c) {
    const r2_split_config config = conform_split_config(c);
    const int64_t min_train = conform_whole(c, c->in, "min_train");
    const int64_t n_cases = conform_whole(c, c->in, "n_cases");
    r2_data data;
    r2_split split;
    conform_load(c, &data);
    memset(&split, 0, sizeof split);
    if (!c->bad) conform_ok(c, r2_split_init(c->ctx, &split, &data, &config));
    if (!c->bad && n_cases > 0) r2_split_thin(&split, n_cases);
    if (!c->bad) conform_ok(c, r2_split_warm(c->ctx, &split, &data, min_train));
    conform_targets(c, "valid", split.valid, split.n_valid);
    conform_targets(c, "test", split.test, split.n_test);
    conform_add_number(c, "cold_valid", (double)split.n_cold_valid);
    conform_add_number(c, "cold_test", (double)split.n_cold_test);
    r2_split_free(c->ctx, &split);
    r2_data_free(c->ctx, &data);
}

/* The world of the training rows of a split. */
static inline void conform_future(conform *c) {
    r2_split_config config = r2_split_config_default();
    const cJSON *pairs = conform_member(c, c->in, "pairs"), *pair;
    cJSON *list = conform_new_list(c->out, "future");
    conform_world w;
    r2_split split;
    memset(&w, 0, sizeof w);
    memset(&split, 0, sizeof split);
    config.seed = conform_u64(c, "tie_seed");
    config.min_positive = (float)conform_number(c, c->in, "min_positive");
    conform_load(c, &w.data);
    if (!c->bad) conform_ok(c, r2_split_init(c->ctx, &split, &w.data, &config));
    if (!c->bad) conform_ok(c, r2_graph_init(c->ctx, &w.graph, &w.data, split.role));
    if (!c->bad)
        conform_ok(c, r2_index_init(c->ctx, &w.index, &w.graph, &w.data, split.config.min_positive,
                                    config.seed));
    if (!c->bad) cJSON_ArrayForEach(pair, pairs) {
            const uint32_t user = (uint32_t)conform_value(c, cJSON_GetArrayItem(pair, 0), "pairs");
            const uint32_t item = (uint32_t)conform_value(c, cJSON_GetArrayItem(pair, 1), "pairs");
            if ((int64_t)user >= w.data.n_users) conform_bad(c, "users of the data in", "pairs");
            if (c->bad) break;
            cJSON_AddItemToArray(
                list, conform_json((double)r2_index_future(&w.index, &w.data, user, item)));
        }
    r2_split_free(c->ctx, &split);
    conform_world_free(c, &w);
}

/* ---- training questions ---- */

static inline void conform_groups_of(conform *c, const r2_question *question, int64_t n_groups,
                                     int64_t group) {
    cJSON *groups = conform_new_list(c->out, "groups");
    for (int64_t g = 0; g < n_groups; ++g) {
        const r2_question *q = question + g * group;
        cJSON *one = cJSON_CreateObject(), *items = cJSON_CreateArray();
        conform_add(one, "user", conform_json((double)q->user));
        conform_add(one, "history", conform_json((double)q->n_history));
        conform_add(one, "answer", conform_json((double)q->answer));
        conform_add(one, "future", conform_json((double)q->future));
        for (int64_t k = 0; k < group; ++k)
            cJSON_AddItemToArray(items, conform_json((double)q[k].item));
        conform_add(one, "items", items);
        cJSON_AddItemToArray(groups, one);
    }
}

static inline void conform_draw(conform *c) {
    r2_draw_config config;
    conform_world w;
    r2_question *question;
    int64_t n = 0;
    memset(&config, 0, sizeof config);
    config.n_groups = conform_whole(c, c->in, "n_groups");
    config.n_sampled = (int32_t)conform_whole(c, c->in, "n_sampled");
    config.min_history = (int32_t)conform_whole(c, c->in, "min_history");
    config.min_train = conform_whole(c, c->in, "min_others");
    config.seed = conform_u64(c, "seed");
    if (config.n_groups > 1000 || config.n_sampled > 100) conform_bad(c, "less in", "n_groups");
    conform_world_init(c, &w, conform_u64(c, "tie_seed"));
    question = (r2_question *)conform_take(c, config.n_groups * (1 + config.n_sampled),
                                           sizeof *question);
    if (!c->bad) conform_ok(c, r2_questions_draw(c->ctx, &w.index, &config, question, &n));
    if (!c->bad) conform_groups_of(c, question, n, 1 + config.n_sampled);
    conform_world_free(c, &w);
}

/* ---- evidence ---- */

static inline void conform_write_evidence(conform *c, const r2_evidence *e) {
    cJSON *values = cJSON_AddObjectToObject(c->out, "values");
    cJSON *chains = conform_new_list(c->out, "chains");
    conform_add_number(c, "history", e->n_history);
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
        conform_add(values, r2_field_name((r2_field)f), conform_json((double)e->value[f]));
    for (int32_t k = 0; k < e->n_chains; ++k) {
        cJSON *one = conform_json_chain(&e->chain[k].chain);
        conform_add(one, "values", conform_list_floats(e->chain[k].value, R2_N_CHAIN_FIELDS));
        cJSON_AddItemToArray(chains, one);
    }
}

static inline r2_question conform_full_question(conform *c) {
    const cJSON *in = conform_member(c, c->in, "question");
    r2_question q = conform_question(c, in);
    q.future = conform_whole(c, in, "future");
    if (!cJSON_GetObjectItemCaseSensitive(in, "step")) return q;
    q.step = (int32_t)conform_whole(c, in, "step");
    q.other_user = (uint32_t)conform_whole(c, in, "other_user");
    q.other_item = (uint32_t)conform_whole(c, in, "other_item");
    return q;
}

static inline void conform_evidence_of(conform *c) {
    const r2_question question = conform_full_question(c);
    const r2_chain_config config = conform_chain_config(c);
    r2_evidence *evidence = (r2_evidence *)conform_take(c, 1, sizeof *evidence);
    conform_world w;
    conform_world_init(c, &w, conform_u64(c, "tie_seed"));
    w.index.min_positive = (float)conform_number(c, c->in, "min_positive");
    if (!c->bad)
        conform_ok(c, r2_evidence_compute(c->ctx, &w.index, &question, 1, &config, evidence));
    if (!c->bad) conform_write_evidence(c, evidence);
    conform_world_free(c, &w);
}

static inline void conform_step_of(conform *c) {
    const cJSON *in = conform_member(c, c->in, "chain");
    int64_t n;
    const float *r = conform_floats(c, conform_member(c, in, "r"), "r", &n);
    const int32_t step = (int32_t)conform_whole(c, c->in, "step");
    r2_question q;
    r2_chain chain;
    conform_world w;
    memset(&chain, 0, sizeof chain);
    chain.u0 = (uint32_t)conform_whole(c, in, "u0");
    chain.i0 = (uint32_t)conform_whole(c, in, "i0");
    chain.u1 = (uint32_t)conform_whole(c, in, "u1");
    chain.i1 = (uint32_t)conform_whole(c, in, "i1");
    if (n != 4) conform_bad(c, "4 ratings in", "r");
    else chain.r1 = r[0], chain.r2 = r[1], chain.r3 = r[2], chain.r4 = r[3];
    conform_world_init(c, &w, conform_u64(c, "tie_seed"));
    if (!c->bad) conform_ok(c, r2_question_of_step(c->ctx, &w.index, &chain, step, &q));
    if (!c->bad) {
        conform_add_number(c, "user", (double)q.user);
        conform_add_number(c, "item", (double)q.item);
        conform_add_number(c, "history", (double)q.n_history);
        conform_add_number(c, "future", (double)q.future);
        conform_add_number(c, "answer", (double)q.answer);
        conform_add_number(c, "other_user", (double)q.other_user);
        conform_add_number(c, "other_item", (double)q.other_item);
    }
    conform_world_free(c, &w);
}

/* ---- fitting a codebook ---- */

static inline void conform_fit_question(conform *c, const cJSON *in, r2_evidence *evidence) {
    const cJSON *chain;
    int64_t n;
    const float *value = conform_floats(c, conform_member(c, in, "values"), "values", &n);
    if (n != R2_FIRST_CHAIN_FIELD) conform_bad(c, "21 numbers in", "values");
    if (c->bad) return;
    memcpy(evidence->value, value, (size_t)n * sizeof *value);
    cJSON_ArrayForEach(chain, conform_member(c, in, "chains")) {
        value = conform_floats(c, chain, "chains", &n);
        if (n != R2_N_CHAIN_FIELDS || evidence->n_chains >= R2_MAX_CHAINS) {
            conform_bad(c, "at most 8 chains of 6 numbers in", "chains");
            return;
        }
        memcpy(evidence->chain[evidence->n_chains++].value, value, (size_t)n * sizeof *value);
    }
}

static inline void conform_write_codebook(conform *c, const r2_codebook *book) {
    cJSON *edges = cJSON_AddObjectToObject(c->out, "edges");
    cJSON *weights = cJSON_AddObjectToObject(c->out, "weights");
    for (int f = 0; f < R2_N_FIELDS; ++f) {
        const char *name = r2_field_name((r2_field)f);
        const int32_t n = book->n_bucket[f];
        cJSON *weight = conform_new_list(weights, name);
        conform_add(edges, name, conform_list_floats(book->edge[f] + 1, n > 2 ? n - 2 : 0));
        for (int32_t b = 0; b < n; ++b)
            cJSON_AddItemToArray(weight, conform_json((double)book->weight[f][b]));
    }
}

static inline void conform_fit(conform *c) {
    const cJSON *list = conform_member(c, c->in, "questions"), *in;
    const int64_t n = conform_length(c, list, "questions");
    r2_evidence *evidence = (r2_evidence *)conform_take(c, n, sizeof *evidence);
    uint8_t *observed = (uint8_t *)conform_take(c, n, 1);
    r2_codebook book;
    int64_t k = 0;
    cJSON_ArrayForEach(in, list) {
        conform_fit_question(c, in, &evidence[k]);
        observed[k++] = conform_bool(c, in, "observed");
    }
    if (!c->bad)
        conform_ok(c, r2_codebook_fit(c->ctx, &book, evidence, observed, n,
                                      (int32_t)conform_whole(c, c->in, "n_chains")));
    if (!c->bad) conform_write_codebook(c, &book);
}

static const conform_op conform_evidence[] = {{"questions", "candidates", conform_candidates},
                                              {"questions", "draw", conform_draw},
                                              {"split", "warm", conform_warm},
                                              {"evidence", "future", conform_future},
                                              {"evidence", "evidence", conform_evidence_of},
                                              {"evidence", "step", conform_step_of},
                                              {"codebook", "fit", conform_fit},
                                              {NULL, NULL, NULL}};

/* conform_data.h: groups split, graph and chains of data/vectors/SPEC.md. Part of conform.h. */

/* Data of a request, and the same data as the header reads it. */
typedef struct conform_world {
    r2_data data;
    r2_graph graph; /* of all rows */
    r2_index index;
} conform_world;

static inline void conform_quoted(r2_ctx *ctx, r2_text *text, const char *id) {
    r2_text_add(ctx, text, "\"", 1);
    for (const char *p = id; *p; ++p)
        r2_text_add(ctx, text, *p == '"' ? "\"\"" : p, *p == '"' ? 2 : 1);
    r2_text_add(ctx, text, "\"", 1);
}

/* The rows as a table that r2_data_load reads. */
static inline void conform_table(conform *c, const cJSON *rows, r2_text *text) {
    const cJSON *row;
    r2_text_addf(c->ctx, text, "user,item,rating,time\n");
    cJSON_ArrayForEach(row, rows) {
        const cJSON *user = cJSON_GetArrayItem(row, 0), *item = cJSON_GetArrayItem(row, 1);
        if (!cJSON_IsString(user) || !cJSON_IsString(item) || cJSON_GetArraySize(row) != 4) {
            conform_bad(c, "rows of user, item, rating, time in", "ratings");
            return;
        }
        conform_quoted(c->ctx, text, user->valuestring);
        r2_text_add(c->ctx, text, ",", 1);
        conform_quoted(c->ctx, text, item->valuestring);
        r2_text_addf(c->ctx, text, ",%.9g,%.0f\n",
                     conform_value(c, cJSON_GetArrayItem(row, 2), "ratings"),
                     conform_value(c, cJSON_GetArrayItem(row, 3), "ratings"));
    }
}

/* Titles, genres and years, which stay the request's own strings. */
static inline void conform_items(conform *c, const cJSON *items, r2_data *data) {
    const cJSON *row;
    cJSON_ArrayForEach(row, items) {
        const cJSON *key = cJSON_GetArrayItem(row, 0), *title = cJSON_GetArrayItem(row, 1),
                    *genres = cJSON_GetArrayItem(row, 2);
        const int64_t item = cJSON_IsString(key) ? r2_data_item(data, key->valuestring) : -1;
        if (item < 0 || !cJSON_IsString(title) || !cJSON_IsString(genres)) continue;
        data->title[item] = title->valuestring;
        data->genres[item] = genres->valuestring;
        data->year[item] = (int16_t)conform_value(c, cJSON_GetArrayItem(row, 3), "items");
    }
}

static inline void conform_load(conform *c, r2_data *data) {
    const cJSON *in = conform_member(c, c->in, "data");
    const cJSON *rows = conform_member(c, in, "ratings");
    char path[64];
    const char *paths[1] = {path};
    r2_text text = {NULL, 0, 0, false};
    r2_format format;
    memset(data, 0, sizeof *data);
    memset(&format, 0, sizeof format);
    format.separator = ",";
    format.time_unit = 1.0;
    conform_table(c, rows, &text);
    snprintf(path, sizeof path, "/tmp/r2rec-conform-%p.csv", (void *)c);
    if (!c->bad) conform_ok(c, r2_write_file(c->ctx, path, text.data, text.len));
    if (!c->bad) conform_ok(c, r2_data_load_files(c->ctx, data, paths, 1, &format));
    remove(path);
    if (!c->bad) conform_items(c, cJSON_GetObjectItemCaseSensitive(in, "items"), data);
    r2_text_free(c->ctx, &text);
}

static inline void conform_world_init(conform *c, conform_world *w, uint64_t tie_seed) {
    memset(w, 0, sizeof *w);
    conform_load(c, &w->data);
    if (!c->bad) conform_ok(c, r2_graph_init(c->ctx, &w->graph, &w->data, NULL));
    if (!c->bad)
        conform_ok(c, r2_index_init(c->ctx, &w->index, &w->graph, &w->data,
                                    0.8f * w->data.rating_max, tie_seed));
}

static inline void conform_world_free(conform *c, conform_world *w) {
    r2_index_free(c->ctx, &w->index);
    r2_graph_free(c->ctx, &w->graph);
    r2_data_free(c->ctx, &w->data);
}

/* ---- split ---- */

static inline bool conform_same_pair(const cJSON *a, const cJSON *b) {
    return !strcmp(cJSON_GetArrayItem(a, 0)->valuestring, cJSON_GetArrayItem(b, 0)->valuestring) &&
           !strcmp(cJSON_GetArrayItem(a, 1)->valuestring, cJSON_GetArrayItem(b, 1)->valuestring);
}

/* Whether another row is kept in the place of this one: a later time, or the same further down. */
static inline bool conform_dropped(const cJSON *rows, const cJSON *row) {
    const double time = cJSON_GetArrayItem(row, 3)->valuedouble;
    bool below = false;
    const cJSON *other;
    cJSON_ArrayForEach(other, rows) {
        const double its = cJSON_GetArrayItem(other, 3)->valuedouble;
        if (other == row) below = true;
        else if (conform_same_pair(other, row) && (its > time || (its == time && below)))
            return true;
    }
    return false;
}

static inline void conform_roles(conform *c, const r2_data *data, const r2_split *split) {
    static const char *const name[] = {"train", "valid", "test", "unused"};
    const cJSON *rows = conform_member(c, conform_member(c, c->in, "data"), "ratings"), *row;
    cJSON *roles = conform_new_list(c->out, "role");
    cJSON_ArrayForEach(row, rows) {
        const int64_t user = r2_data_user(data, cJSON_GetArrayItem(row, 0)->valuestring);
        const int64_t item = r2_data_item(data, cJSON_GetArrayItem(row, 1)->valuestring);
        const int64_t at = r2_data_find(data, (uint32_t)user, (uint32_t)item);
        cJSON_AddItemToArray(
            roles,
            cJSON_CreateString(conform_dropped(rows, row) ? "dropped" : name[split->role[at]]));
    }
}

static inline void conform_targets(conform *c, const char *name, const r2_target *target,
                                   int64_t n) {
    cJSON *list = conform_new_list(c->out, name);
    for (int64_t k = 0; k < n; ++k)
        cJSON_AddItemToArray(list, conform_pair((double)target[k].user, (double)target[k].item));
}

static inline r2_split_config conform_split_config(conform *c) {
    r2_split_config config = r2_split_config_default();
    config.seed = conform_u64(c, "seed");
    config.min_positive = (float)conform_number(c, c->in, "min_positive");
    return config;
}

static inline void conform_leave_one_out(conform *c) {
    const r2_split_config config = conform_split_config(c);
    r2_data data;
    r2_split split;
    conform_load(c, &data);
    memset(&split, 0, sizeof split);
    if (!c->bad) conform_ok(c, r2_split_init(c->ctx, &split, &data, &config));
    if (!c->bad) {
        cJSON *order = conform_new_list(c->out, "order");
        conform_roles(c, &data, &split);
        conform_targets(c, "valid", split.valid, split.n_valid);
        conform_targets(c, "test", split.test, split.n_test);
        conform_add_number(c, "ties", (double)split.n_time_ties);
        for (int64_t u = 0; u < data.n_users; ++u) {
            cJSON *items = cJSON_CreateArray();
            for (int64_t k = data.user_begin[u]; k < data.user_begin[u + 1]; ++k)
                cJSON_AddItemToArray(items, conform_json((double)data.item[split.by_time[k]]));
            cJSON_AddItemToArray(order, items);
        }
    }
    r2_split_free(c->ctx, &split);
    r2_data_free(c->ctx, &data);
}

static inline void conform_thin(conform *c) {
    const int64_t n_targets = conform_whole(c, c->in, "n_targets"),
                  n = conform_whole(c, c->in, "n");
    r2_split split;
    cJSON *kept = conform_new_list(c->out, "kept");
    memset(&split, 0, sizeof split);
    split.n_test = n_targets;
    split.test = (r2_target *)conform_take(c, n_targets, sizeof *split.test);
    for (int64_t k = 0; k < n_targets; ++k) split.test[k].row = k;
    r2_split_thin(&split, n);
    for (int64_t k = 0; k < split.n_test; ++k)
        cJSON_AddItemToArray(kept, conform_json((double)split.test[k].row));
}

static inline cJSON *conform_keys(char *const *key, int64_t n) {
    cJSON *list = cJSON_CreateArray();
    for (int64_t k = 0; k < n; ++k) cJSON_AddItemToArray(list, cJSON_CreateString(key[k]));
    return list;
}

static inline void conform_filter(conform *c) {
    r2_data data;
    r2_filter filter;
    filter.min_rating = (float)conform_number(c, c->in, "min_rating");
    filter.time_from = conform_whole(c, c->in, "time_from");
    filter.time_until = conform_whole(c, c->in, "time_until");
    filter.user_core = conform_whole(c, c->in, "user_core");
    filter.item_core = conform_whole(c, c->in, "item_core");
    conform_load(c, &data);
    if (!c->bad) conform_ok(c, r2_data_filter(c->ctx, &data, &filter));
    if (!c->bad) {
        conform_add(c->out, "users", conform_keys(data.user_key, data.n_users));
        conform_add(c->out, "items", conform_keys(data.item_key, data.n_items));
        conform_add_number(c, "rows", (double)data.n_ratings);
    }
    r2_data_free(c->ctx, &data);
}

/* ---- graph ---- */

static inline void conform_butterflies(conform *c) {
    conform_world w;
    r2_butterflies b;
    memset(&b, 0, sizeof b);
    conform_world_init(c, &w, 0);
    if (!c->bad) conform_ok(c, r2_butterflies_init(c->ctx, &b, &w.graph));
    if (!c->bad) {
        cJSON *degree;
        conform_add_number(c, "total", (double)b.total);
        conform_add(c->out, "user", conform_list_counts(b.user, w.graph.n_users));
        conform_add(c->out, "edge", conform_list_counts(b.edge, w.graph.n_edges));
        degree = conform_new_list(c->out, "degree");
        for (int64_t i = 0; i < w.graph.n_items; ++i)
            cJSON_AddItemToArray(degree,
                                 conform_json((double)r2_graph_item_degree(&w.graph, (uint32_t)i)));
    }
    r2_butterflies_free(c->ctx, &b);
    conform_world_free(c, &w);
}

/* ---- chains ---- */

static const char *const conform_laws[] = {"coherent", "uniform", "uniform_users", NULL};

static inline r2_question conform_question(conform *c, const cJSON *in) {
    const int64_t user = conform_whole(c, in, "user"), item = conform_whole(c, in, "item");
    r2_question question;
    memset(&question, 0, sizeof question);
    if (user < 0 || item < 0) conform_bad(c, "a user and an item >= 0 in", "question");
    question.user = (uint32_t)user;
    question.item = (uint32_t)item;
    question.n_history = (int32_t)conform_whole(c, in, "history");
    question.answer = -1;
    return question;
}

static inline r2_chain_config conform_chain_config(conform *c) {
    r2_chain_config config = r2_chain_config_default();
    config.law = (r2_chain_law)conform_choice(c, c->in, "law", conform_laws);
    config.k = conform_whole(c, c->in, "k");
    config.seed = conform_u64(c, "seed");
    return config;
}

static inline cJSON *conform_json_rating(float rating) {
    return isnan(rating) ? cJSON_CreateNull() : conform_json((double)rating);
}

static inline cJSON *conform_json_chain(const r2_chain *chain) {
    cJSON *out = cJSON_CreateObject(), *r = cJSON_CreateArray();
    conform_add(out, "u0", conform_json((double)chain->u0));
    conform_add(out, "i0", conform_json((double)chain->i0));
    conform_add(out, "u1", conform_json((double)chain->u1));
    conform_add(out, "i1", conform_json((double)chain->i1));
    cJSON_AddItemToArray(r, conform_json_rating(chain->r1));
    cJSON_AddItemToArray(r, conform_json_rating(chain->r2));
    cJSON_AddItemToArray(r, conform_json_rating(chain->r3));
    cJSON_AddItemToArray(r, conform_json_rating(chain->r4));
    conform_add(out, "r", r);
    conform_add(out, "score", conform_json((double)chain->score));
    return out;
}

/* Target chains of a question, or closed ones of a user. */
static inline void conform_chains(conform *c, bool closed) {
    const r2_chain_config config = conform_chain_config(c);
    const int64_t room = config.k > 0 && config.k < 1000 ? config.k : 0;
    r2_chain *chain = (r2_chain *)conform_take(c, room, sizeof *chain);
    r2_question question;
    conform_world w;
    int64_t n = 0, count = 0;
    memset(&question, 0, sizeof question);
    conform_world_init(c, &w, conform_u64(c, "tie_seed"));
    if (closed) {
        question.user = (uint32_t)conform_whole(c, c->in, "user");
        question.item = R2_NO_ITEM;
        if (!c->bad && (int64_t)question.user < w.graph.n_users)
            question.n_history = (int32_t)r2_graph_user_degree(&w.graph, question.user);
    } else {
        question = conform_question(c, conform_member(c, c->in, "question"));
    }
    if (!c->bad)
        conform_ok(c, closed ? r2_chains_closed(c->ctx, &w.index, question.user, &config, chain, &n)
                             : r2_chains_target(c->ctx, &w.index, &question, &config, chain, &n));
    if (!c->bad) conform_ok(c, r2_chains_count(c->ctx, &w.index, &question, &count));
    if (!c->bad) {
        cJSON *list = conform_new_list(c->out, "chains");
        for (int64_t k = 0; k < n; ++k) cJSON_AddItemToArray(list, conform_json_chain(&chain[k]));
        conform_add_number(c, "count", (double)count);
    }
    conform_world_free(c, &w);
}

static inline void conform_chains_target(conform *c) { conform_chains(c, false); }
static inline void conform_chains_closed(conform *c) { conform_chains(c, true); }

static const conform_op conform_data[] = {{"split", "leave_one_out", conform_leave_one_out},
                                          {"split", "thin", conform_thin},
                                          {"split", "filter", conform_filter},
                                          {"graph", "butterflies", conform_butterflies},
                                          {"chains", "target", conform_chains_target},
                                          {"chains", "closed", conform_chains_closed},
                                          {NULL, NULL, NULL}};

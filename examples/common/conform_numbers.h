/* conform_numbers.h: groups rng and level of data/vectors/SPEC.md. Part of conform.h. */

static inline r2_rng conform_rng(conform *c) {
    return r2_rng_make(conform_u64(c, "seed"), (r2_stream)conform_whole(c, c->in, "stream"),
                       conform_u64(c, "index"));
}

static inline void conform_philox(conform *c) {
    int64_t n_counter, n_key;
    const double *counter = conform_doubles(c, conform_member(c, c->in, "counter"), "counter",
                                            &n_counter);
    const double *key = conform_doubles(c, conform_member(c, c->in, "key"), "key", &n_key);
    uint32_t from[4], keys[2], word[4];
    cJSON *words = conform_new_list(c->out, "words");
    if (n_counter != 4 || n_key != 2) conform_bad(c, "4 and 2 numbers in", "counter and key");
    for (int k = 0; k < 4 && !c->bad; ++k) from[k] = (uint32_t)counter[k];
    for (int k = 0; k < 2 && !c->bad; ++k) keys[k] = (uint32_t)key[k];
    if (c->bad) return;
    r2_philox(from, keys, word);
    for (int k = 0; k < 4; ++k) cJSON_AddItemToArray(words, conform_json((double)word[k]));
}

/* n draws of one kind. */
static inline void conform_draws(conform *c, cJSON *(*draw)(r2_rng *rng)) {
    r2_rng rng = conform_rng(c);
    const int64_t n = conform_whole(c, c->in, "n");
    cJSON *values = conform_new_list(c->out, "values");
    for (int64_t k = 0; k < n && !c->bad; ++k) cJSON_AddItemToArray(values, draw(&rng));
}

static inline cJSON *conform_draw_u32(r2_rng *rng) { return conform_json((double)r2_rng_u32(rng)); }
static inline cJSON *conform_draw_u64(r2_rng *rng) { return conform_json_hex(r2_rng_u64(rng)); }
static inline cJSON *conform_draw_double(r2_rng *rng) { return conform_json(r2_rng_double(rng)); }
static inline cJSON *conform_draw_normal(r2_rng *rng) { return conform_json(r2_rng_normal(rng)); }
static inline cJSON *conform_draw_gumbel(r2_rng *rng) { return conform_json(r2_rng_gumbel(rng)); }

static inline void conform_u32s(conform *c) { conform_draws(c, conform_draw_u32); }
static inline void conform_u64s(conform *c) { conform_draws(c, conform_draw_u64); }
static inline void conform_doubles_drawn(conform *c) { conform_draws(c, conform_draw_double); }
static inline void conform_normals(conform *c) { conform_draws(c, conform_draw_normal); }
static inline void conform_gumbels(conform *c) { conform_draws(c, conform_draw_gumbel); }

static inline void conform_below(conform *c) {
    r2_rng rng = conform_rng(c);
    const cJSON *bounds = conform_member(c, c->in, "bounds"), *bound;
    cJSON *values = conform_new_list(c->out, "values");
    cJSON_ArrayForEach(bound, bounds) cJSON_AddItemToArray(
        values, conform_json_hex(r2_rng_below(&rng, conform_hex(c, bound, "bounds"))));
}

static inline void conform_shuffle(conform *c) {
    const int64_t n = conform_whole(c, c->in, "n"), epoch = conform_whole(c, c->in, "epoch");
    const uint64_t seed = conform_u64(c, "seed");
    int32_t *order = (int32_t *)conform_take(c, n, sizeof *order);
    if (!c->bad) r2__shuffle(order, n, seed, epoch);
    conform_add(c->out, "order", conform_list_ids(order, n));
}

static inline void conform_distinct(conform *c) {
    r2_rng rng = conform_rng(c);
    const int64_t total = conform_whole(c, c->in, "total"), k = conform_whole(c, c->in, "k");
    int64_t *drawn = (int64_t *)conform_take(c, k, sizeof *drawn);
    cJSON *values = conform_new_list(c->out, "values");
    if (k > total) conform_bad(c, "at most `total` in", "k");
    for (int64_t j = 0; j < k && !c->bad; ++j)
        cJSON_AddItemToArray(values, conform_json((double)r2__draw_new(&rng, total, drawn, j)));
}

static inline void conform_fnv(conform *c) {
    const char *text = conform_string(c, c->in, "text");
    conform_add(c->out, "hash", conform_json_hex(r2__fnv(text, strlen(text))));
}

static inline void conform_hash(conform *c) {
    conform_add(c->out, "hash",
                conform_json_hex(
                    r2_hash(conform_u64(c, "seed"), conform_u64(c, "a"), conform_u64(c, "b"))));
}

static inline void conform_level(conform *c) {
    conform_add_number(c, "level",
                       r2_answer_level((float)conform_number(c, c->in, "rating"),
                                       (float)conform_number(c, c->in, "rating_min"),
                                       (float)conform_number(c, c->in, "rating_max")));
}

static const conform_op conform_numbers[] = {{"rng", "philox", conform_philox},
                                             {"rng", "u32", conform_u32s},
                                             {"rng", "u64", conform_u64s},
                                             {"rng", "double", conform_doubles_drawn},
                                             {"rng", "normal", conform_normals},
                                             {"rng", "gumbel", conform_gumbels},
                                             {"rng", "below", conform_below},
                                             {"rng", "shuffle", conform_shuffle},
                                             {"rng", "distinct", conform_distinct},
                                             {"rng", "fnv", conform_fnv},
                                             {"rng", "hash", conform_hash},
                                             {"level", "level", conform_level},
                                             {NULL, NULL, NULL}};

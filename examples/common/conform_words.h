/* conform_words.h: groups codebook, prompt, trace and token of data/vectors/SPEC.md. Part of
   conform.h. */

static inline int conform_field(conform *c, const char *name) {
    for (int f = 0; f < R2_N_FIELDS; ++f)
        if (!strcmp(name, r2_field_name((r2_field)f))) return f;
    conform_bad(c, "a field, found", name);
    return 0;
}

static inline void conform_codebook_field(conform *c, const cJSON *in, int f, r2_codebook *book) {
    const char *name = r2_field_name((r2_field)f);
    int64_t n_edges, n_weights;
    const float *edge = conform_floats(c, conform_member(c, conform_member(c, in, "edges"), name),
                                       name, &n_edges);
    const float *weight = conform_floats(
        c, conform_member(c, conform_member(c, in, "weights"), name), name, &n_weights);
    if (n_weights < 1 || n_weights > R2_MAX_BUCKETS ||
        n_edges != (n_weights > 2 ? n_weights - 2 : 0)) {
        conform_bad(c, "edges and weights of", name);
        return;
    }
    book->n_bucket[f] = (int32_t)n_weights;
    for (int64_t k = 0; k < n_edges; ++k) book->edge[f][k + 1] = edge[k];
    for (int64_t k = 0; k < n_weights; ++k) book->weight[f][k] = (int8_t)weight[k];
}

static inline void conform_codebook(conform *c, r2_codebook *book) {
    const cJSON *in = conform_member(c, c->in, "codebook");
    memset(book, 0, sizeof *book);
    book->n_chains = (int32_t)conform_whole(c, in, "n_chains");
    if (book->n_chains < 0 || book->n_chains > R2_MAX_CHAINS) conform_bad(c, "0 to 8", "n_chains");
    for (int f = 0; f < R2_N_FIELDS && !c->bad; ++f) conform_codebook_field(c, in, f, book);
}

static inline void conform_bucket(conform *c) {
    r2_codebook book;
    const int field = conform_field(c, conform_string(c, c->in, "field"));
    int64_t n;
    const float *value = conform_floats(c, conform_member(c, c->in, "values"), "values", &n);
    cJSON *buckets = conform_new_list(c->out, "buckets");
    conform_codebook(c, &book);
    for (int64_t k = 0; k < n && !c->bad; ++k)
        cJSON_AddItemToArray(
            buckets, conform_json((double)r2_codebook_bucket(&book, (r2_field)field, value[k])));
}

/* ---- prompts ---- */

static const char *const conform_schedules[] = {"progressive", "final-only", "all", "none", NULL};

static inline void conform_evidence_chain(conform *c, const cJSON *in, r2_evidence *evidence) {
    int64_t n;
    const float *value = conform_floats(c, conform_member(c, in, "values"), "values", &n);
    if (evidence->n_chains >= R2_MAX_CHAINS || n != R2_N_CHAIN_FIELDS) {
        conform_bad(c, "at most 8 chains of 6 numbers in", "chains");
        return;
    }
    memcpy(evidence->chain[evidence->n_chains].value, value, (size_t)n * sizeof *value);
    evidence->chain[evidence->n_chains].chain.r4 = (float)conform_number(c, in, "r4");
    evidence->n_chains++;
}

static inline void conform_read_evidence(conform *c, r2_evidence *evidence) {
    const cJSON *in = conform_member(c, c->in, "evidence"), *chain;
    int64_t n;
    const float *value = conform_floats(c, conform_member(c, in, "values"), "values", &n);
    memset(evidence, 0, sizeof *evidence);
    evidence->step = (int32_t)conform_whole(c, in, "step");
    if (n != R2_FIRST_CHAIN_FIELD) conform_bad(c, "21 numbers in", "values");
    else memcpy(evidence->value, value, (size_t)n * sizeof *value);
    cJSON_ArrayForEach(chain, conform_member(c, in, "chains"))
        conform_evidence_chain(c, chain, evidence);
}

static inline void conform_prompt(conform *c) {
    r2_prompt_config config = r2_prompt_config_default();
    r2_codebook book;
    r2_evidence evidence;
    r2_data data; /* of it a prompt in compact words reads the scale alone */
    r2_prompt prompt;
    memset(&data, 0, sizeof data);
    memset(&prompt, 0, sizeof prompt);
    conform_codebook(c, &book);
    conform_read_evidence(c, &evidence);
    data.rating_min = (float)conform_number(c, c->in, "rating_min");
    data.rating_max = (float)conform_number(c, c->in, "rating_max");
    config.schedule = (r2_schedule)conform_choice(c, c->in, "schedule", conform_schedules);
    config.max_tokens = conform_whole(c, c->in, "max_tokens");
    config.codebook = &book;
    config.data = &data;
    if (!c->bad) conform_ok(c, r2_prompt_build(c->ctx, &config, &evidence, &prompt));
    if (!c->bad) {
        conform_add_string(c, "text", prompt.user.data);
        conform_add_number(c, "shown", prompt.n_shown);
        conform_add_number(c, "left_out", prompt.n_left_out);
    }
    r2_prompt_free(c->ctx, &prompt);
}

static inline void conform_visibility(conform *c) {
    static const char *const name[] = {"hidden", "masked", "shown"};
    const int schedule = conform_choice(c, c->in, "schedule", conform_schedules);
    const int32_t step = (int32_t)conform_whole(c, c->in, "step");
    cJSON *edges = conform_new_list(c->out, "edges");
    for (int32_t edge = 1; edge <= 4 && !c->bad; ++edge)
        cJSON_AddItemToArray(
            edges,
            cJSON_CreateString(name[r2_schedule_visibility((r2_schedule)schedule, step, edge)]));
}

static inline void conform_vocabulary(conform *c) {
    r2_codebook book;
    r2_vocab vocab;
    memset(&vocab, 0, sizeof vocab);
    conform_codebook(c, &book);
    if (!c->bad) conform_ok(c, r2_codebook_words(c->ctx, &book, &vocab));
    if (!c->bad) conform_add(c->out, "words", conform_keys(vocab.word, vocab.n_words));
    r2_vocab_free(c->ctx, &vocab);
}

/* ---- traces ---- */

static inline void conform_teacher(conform *c) {
    const r2_teacher_config teacher = {(float)conform_number(c, c->in, "gumbel"),
                                       conform_u64(c, "seed")};
    r2_codebook book;
    r2_text text = {NULL, 0, 0, false};
    conform_codebook(c, &book);
    if (!c->bad)
        conform_ok(c,
                   r2_teacher_compact(c->ctx, &book, &teacher, conform_string(c, c->in, "prompt"),
                                      conform_u64(c, "index"), &text));
    if (!c->bad) conform_add_string(c, "text", text.data);
    r2_text_free(c->ctx, &text);
}

static inline void conform_check(conform *c) {
    r2_codebook book;
    r2_check check;
    conform_codebook(c, &book);
    check = r2_check_trace(&book, conform_string(c, c->in, "prompt"),
                           conform_string(c, c->in, "output"));
    conform_add_string(c, "verdict", r2_verdict_name(check.verdict));
    conform_add_number(c, "answer", check.answer);
    conform_add_number(c, "cited", check.n_cited);
    conform_add_number(c, "found", check.n_found);
    conform_add_number(c, "right", check.n_right);
    conform_add_number(c, "total", check.total);
    conform_add_bool(c, "well_formed", check.well_formed);
}

/* ---- tokens ---- */

static inline void conform_encode(conform *c) {
    const char *text = conform_string(c, c->in, "text");
    const cJSON *word;
    r2_vocab vocab;
    r2_tokens tokens = {NULL, 0, {NULL, false}};
    memset(&vocab, 0, sizeof vocab);
    cJSON_ArrayForEach(word, conform_member(c, c->in, "words")) conform_ok(
        c, r2_vocab_add(c->ctx, &vocab, cJSON_IsString(word) ? word->valuestring : "", NULL));
    if (!c->bad) {
        const r2_tokenizer tokenizer = r2_tokenizer_vocab(&vocab);
        conform_ok(c, tokenizer.encode(c->ctx, tokenizer.self, text, strlen(text), false, &tokens));
    }
    if (!c->bad) conform_add(c->out, "ids", conform_list_ids(tokens.id, tokens.n));
    r2_tokens_free(c->ctx, &tokens);
    r2_vocab_free(c->ctx, &vocab);
}

static inline void conform_mark(conform *c, const char *name, r2_mark *mark) {
    mark->n = 1;
    mark->id[0] = (int32_t)conform_whole(c, conform_member(c, c->in, "marks"), name);
}

static inline void conform_markup(conform *c, r2_markup *mark) {
    int64_t n;
    const int32_t *level = conform_ids(
        c, conform_member(c, conform_member(c, c->in, "marks"), "level"), "level", &n);
    conform_mark(c, "think", &mark->think);
    conform_mark(c, "think_end", &mark->think_end);
    conform_mark(c, "answer", &mark->answer);
    conform_mark(c, "answer_end", &mark->answer_end);
    if (n == R2_N_ANSWERS) memcpy(mark->level, level, sizeof mark->level);
    else conform_bad(c, "6 numbers in", "level");
}

/* The predictions of one training sequence, each with what it is for. */
static inline cJSON *conform_predictions(const r2__batcher *b) {
    cJSON *list = cJSON_CreateArray();
    for (int32_t j = 0; j < b->n_pred; ++j) {
        const bool level = j >= b->level_pred[0] && j < b->level_pred[0] + R2_N_ANSWERS;
        cJSON *one = conform_pair((double)b->pred_row[j], (double)b->pred_token[j]);
        cJSON_AddItemToArray(one, cJSON_CreateString(level ? "level" : "trace"));
        cJSON_AddItemToArray(list, one);
    }
    return list;
}

static inline void conform_sequence(conform *c) {
    int64_t n_prompt, n_trace;
    int32_t *prompt = conform_ids(c, conform_member(c, c->in, "prompt"), "prompt", &n_prompt);
    int32_t *trace = conform_ids(c, conform_member(c, c->in, "trace"), "trace", &n_trace);
    int64_t prompt_begin[2] = {0, n_prompt}, trace_begin[2] = {0, n_trace};
    int8_t answer = (int8_t)conform_whole(c, c->in, "answer");
    const bool reasoned = conform_bool(c, c->in, "reasoned");
    r2_examples ex;
    r2__batcher b;
    memset(&ex, 0, sizeof ex);
    ex.n = ex.group = 1;
    ex.prompt_begin = prompt_begin;
    ex.trace_begin = trace_begin;
    ex.prompt = prompt;
    ex.trace = trace;
    ex.answer = &answer;
    conform_markup(c, &ex.codec.markup);
    if (answer < 0 || answer >= R2_N_ANSWERS || (reasoned && n_trace < 1))
        conform_bad(c, "0 to 5, and a trace if reasoned, in", "answer");
    if (c->bad || !conform_ok(c, r2__batcher_init(c->ctx, &b, 1, n_prompt + n_trace + 3,
                                                  n_trace + 2 + R2_N_ANSWERS)))
        return;
    r2__sft_sequence(&b, &ex, 0, reasoned);
    conform_add(c->out, "tokens", conform_list_ids(b.token, b.n_row));
    conform_add(c->out, "predictions", conform_predictions(&b));
    r2__batcher_free(c->ctx, &b);
}

static const conform_op conform_words[] = {{"codebook", "bucket", conform_bucket},
                                           {"prompt", "prompt", conform_prompt},
                                           {"prompt", "visibility", conform_visibility},
                                           {"prompt", "vocabulary", conform_vocabulary},
                                           {"trace", "teacher", conform_teacher},
                                           {"trace", "check", conform_check},
                                           {"token", "encode", conform_encode},
                                           {"token", "sequence", conform_sequence},
                                           {NULL, NULL, NULL}};

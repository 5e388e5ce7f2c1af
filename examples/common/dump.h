/* dump.h: everything of a run that a comparer needs, so that another implementation can be checked on
   data of one's own (data/vectors/SPEC.md says what each number means). Include after r2rec.h and cJSON.h.

       dump_write    into a directory that exists:
           split.tsv          user, item, role of every interaction
           valid.tsv test.tsv candidate sets, as r2_candidates_save writes them
           candidates.jsonl   a line per test candidate: the question, its 21 values, chains, prompt,
                              direct and reasoned score, output with verdict, rank of the case
           direct.run reasoned.run test.qrels   for trec_eval and its kin */
#ifndef R2_DUMP_H
#define R2_DUMP_H

typedef struct dump {
    r2_ctx *ctx;
    r2_run *run;
    const char *directory;
    r2_examples examples;  /* of the test candidates, case after case */
    r2_evidence *evidence; /* (n)                                     */
    float *score[2];       /* (n) direct, reasoned                    */
} dump;

static const char *const dump_modes[] = {"direct", "reasoned"};

static r2_status dump_file(dump *d, const char *name, r2_text *text) {
    r2_text path = {NULL, 0, 0, false};
    r2_status status = R2_NO_MEMORY;
    r2_text_addf(d->ctx, &path, "%s/%s", d->directory, name);
    if (!path.failed && !text->failed)
        status = r2_write_file(d->ctx, path.data, text->data ? text->data : "", text->len);
    r2_text_free(d->ctx, &path);
    r2_text_free(d->ctx, text);
    return status;
}

/* ---- split and candidates ---- */

static r2_status dump_split(dump *d) {
    static const char *const role[] = {"train", "valid", "test", "unused"};
    const r2_data *data = &d->run->data;
    r2_text text = {NULL, 0, 0, false};
    r2_text_addf(d->ctx, &text, "user\titem\trole\n");
    for (int64_t u = 0; u < data->n_users; ++u)
        for (int64_t k = data->user_begin[u]; k < data->user_begin[u + 1]; ++k)
            r2_text_addf(d->ctx, &text, "%s\t%s\t%s\n", data->user_key[u],
                         data->item_key[data->item[k]], role[d->run->split.role[k]]);
    return dump_file(d, "split.tsv", &text);
}

static r2_status dump_candidates(dump *d, const char *name, const r2_candidates *set) {
    r2_text path = {NULL, 0, 0, false};
    r2_status status = R2_NO_MEMORY;
    r2_text_addf(d->ctx, &path, "%s/%s", d->directory, name);
    if (!path.failed) status = r2_candidates_save(d->ctx, set, &d->run->data, path.data);
    r2_text_free(d->ctx, &path);
    return status;
}

/* ---- a line per candidate ---- */

static cJSON *dump_values(const float *value, int first, int n) {
    cJSON *out = cJSON_CreateObject();
    for (int f = 0; f < n; ++f)
        cJSON_AddNumberToObject(out, r2_field_name((r2_field)(first + f)), (double)value[f]);
    return out;
}

static cJSON *dump_chain(const dump *d, const r2_evidence *e, int32_t c) {
    const r2_data *data = &d->run->data;
    const r2_chain *chain = &e->chain[c].chain;
    cJSON *out = dump_values(e->chain[c].value, R2_FIRST_CHAIN_FIELD, R2_N_CHAIN_FIELDS);
    cJSON_AddStringToObject(out, "i0", data->item_key[chain->i0]);
    cJSON_AddStringToObject(out, "u1", data->user_key[chain->u1]);
    cJSON_AddNumberToObject(out, "score", (double)chain->score);
    return out;
}

static cJSON *dump_question(const dump *d, int64_t k) {
    const r2_candidates *test = &d->run->test;
    const int64_t of = k / test->n_per_case;
    const r2_evidence *e = &d->evidence[k];
    const uint32_t positive = test->item[of * test->n_per_case];
    cJSON *out = cJSON_CreateObject(), *chains;
    cJSON_AddStringToObject(out, "user", d->run->data.user_key[e->user]);
    cJSON_AddStringToObject(out, "item", d->run->data.item_key[e->item]);
    cJSON_AddBoolToObject(out, "positive", k % test->n_per_case == 0);
    cJSON_AddNumberToObject(out, "history", e->n_history);
    cJSON_AddNumberToObject(
        out, "future",
        (double)r2_index_future(&d->run->index, &d->run->data, test->user[of], positive));
    cJSON_AddItemToObject(out, "values", dump_values(e->value, 0, R2_FIRST_CHAIN_FIELD));
    chains = cJSON_AddArrayToObject(out, "chains");
    for (int32_t c = 0; c < e->n_chains; ++c) cJSON_AddItemToArray(chains, dump_chain(d, e, c));
    return out;
}

/* Adds the scores, and the rank of the positive of the candidate's case by each. */
static void dump_scores(const dump *d, int64_t k, cJSON *out) {
    const int64_t n = d->run->test.n_per_case;
    for (int mode = 0; mode < 2; ++mode) {
        const r2_rank rank = r2_rank_of(d->score[mode] + k / n * n, n);
        cJSON *one = cJSON_AddObjectToObject(out, dump_modes[mode]);
        cJSON_AddNumberToObject(one, "score", (double)d->score[mode][k]);
        cJSON_AddNumberToObject(one, "better", (double)rank.better);
        cJSON_AddNumberToObject(one, "tied", (double)rank.tied);
    }
}

static r2_status dump_line(dump *d, int64_t k, const r2_reasoning *own, r2_text *lines) {
    const int64_t *begin = d->examples.prompt_begin + k;
    r2_text prompt = {NULL, 0, 0, false};
    cJSON *out = dump_question(d, k);
    char *printed = NULL;
    r2_status status = r2_vocab_decode(d->ctx, &d->run->vocab, d->examples.prompt + begin[0],
                                       begin[1] - begin[0], &prompt);
    if (status == R2_OK) {
        cJSON_AddStringToObject(out, "prompt", prompt.data);
        dump_scores(d, k, out);
        cJSON_AddStringToObject(out, "output", own->text.data);
        cJSON_AddStringToObject(out, "verdict", r2_verdict_name(own->check.verdict));
        printed = cJSON_PrintUnformatted(out);
        if (printed) r2_text_addf(d->ctx, lines, "%s\n", printed);
        else status = R2_NO_MEMORY;
    }
    cJSON_free(printed);
    cJSON_Delete(out);
    r2_text_free(d->ctx, &prompt);
    return status;
}

static r2_status dump_lines(dump *d) {
    enum { AT_ONCE = 256 };
    const int64_t n = d->examples.n;
    r2_reasoning own[AT_ONCE];
    r2_text lines = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    for (int64_t first = 0; first < n && status == R2_OK; first += AT_ONCE) {
        const int64_t some = n - first < AT_ONCE ? n - first : (int64_t)AT_ONCE;
        status = r2_think(d->ctx, &d->run->model, &d->examples, first, some, own);
        if (status != R2_OK) break;
        for (int64_t k = 0; k < some; ++k) {
            if (status == R2_OK) status = dump_line(d, first + k, &own[k], &lines);
            r2_reasoning_free(d->ctx, &own[k]);
        }
    }
    if (status == R2_OK) return dump_file(d, "candidates.jsonl", &lines);
    r2_text_free(d->ctx, &lines);
    return status;
}

/* ---- TREC ---- */

/* Candidates in order of score; equal scores by lot, as a hash draws it: the order of ids would decide
   otherwise, and ids often tell what is popular. */
static void dump_order(const dump *d, int mode, int64_t of, int64_t *place) {
    const int64_t n = d->run->test.n_per_case;
    const float *score = d->score[mode] + of * n;
    const uint32_t *item = d->run->test.item + of * n, user = d->run->test.user[of];
    for (int64_t k = 0; k < n; ++k) {
        int64_t at = k;
        for (; at > 0; --at) {
            const int64_t other = place[at - 1];
            const bool wins = score[k] > score[other] ||
                              (score[k] == score[other] &&
                               r2_hash(0, user, item[k]) > r2_hash(0, user, item[other]));
            if (!wins) break;
            place[at] = other;
        }
        place[at] = k;
    }
}

/* An id as one word: blanks separate the columns. */
static void dump_word(dump *d, const char *id, r2_text *text) {
    for (; *id; ++id) r2_text_add(d->ctx, text, (unsigned char)*id > ' ' ? id : "_", 1);
}

/* Ranks as distinct scores: trec_eval reads no ranks, and orders equal scores by id. */
static r2_status dump_trec_run(dump *d, int mode) {
    const r2_candidates *test = &d->run->test;
    const int64_t n = test->n_per_case;
    int64_t *place = (int64_t *)r2_alloc(d->ctx, (uint64_t)n, sizeof *place);
    r2_text text = {NULL, 0, 0, false};
    char name[24];
    if (!place) return R2_NO_MEMORY;
    for (int64_t of = 0; of < test->n_cases; ++of) {
        dump_order(d, mode, of, place);
        for (int64_t r = 0; r < n; ++r) {
            dump_word(d, d->run->data.user_key[test->user[of]], &text);
            r2_text_addf(d->ctx, &text, " Q0 ");
            dump_word(d, d->run->data.item_key[test->item[of * n + place[r]]], &text);
            r2_text_addf(d->ctx, &text, " %lld %lld r2rec-%s\n", (long long)r + 1,
                         (long long)(n - r), dump_modes[mode]);
        }
    }
    r2_release(d->ctx, place);
    snprintf(name, sizeof name, "%s.run", dump_modes[mode]);
    return dump_file(d, name, &text);
}

static r2_status dump_qrels(dump *d) {
    const r2_candidates *test = &d->run->test;
    r2_text text = {NULL, 0, 0, false};
    for (int64_t k = 0; k < test->n_cases * test->n_per_case; ++k) {
        dump_word(d, d->run->data.user_key[test->user[k / test->n_per_case]], &text);
        r2_text_addf(d->ctx, &text, " 0 ");
        dump_word(d, d->run->data.item_key[test->item[k]], &text);
        r2_text_addf(d->ctx, &text, " %d\n", k % test->n_per_case == 0);
    }
    return dump_file(d, "test.qrels", &text);
}

/* ---- all of it ---- */

static r2_status dump_measure(dump *d) {
    const r2_candidates *test = &d->run->test;
    const uint64_t n = (uint64_t)(test->n_cases * test->n_per_case);
    r2_score_config how = r2_score_config_default();
    r2_status status;
    d->evidence = (r2_evidence *)r2_alloc(d->ctx, n, sizeof *d->evidence);
    for (int mode = 0; mode < 2; ++mode)
        d->score[mode] = (float *)r2_alloc(d->ctx, n, sizeof(float));
    if (!d->evidence || !d->score[0] || !d->score[1]) return R2_NO_MEMORY;
    status = r2_run_candidate_prompts(d->ctx, d->run, test, d->evidence, &d->examples);
    for (int mode = 0; mode < 2 && status == R2_OK; ++mode) {
        how.mode = (r2_mode)mode;
        status = r2_score(d->ctx, &d->run->model, &d->examples, &how, d->score[mode], NULL);
    }
    return status;
}

/* Errors: those of scoring, R2_IO, R2_NO_MEMORY. */
static r2_status dump_write(r2_ctx *ctx, r2_run *run, const char *directory) {
    dump d;
    r2_status status;
    memset(&d, 0, sizeof d);
    d.ctx = ctx;
    d.run = run;
    d.directory = directory;
    status = dump_measure(&d);
    if (status == R2_OK) status = dump_split(&d);
    if (status == R2_OK) status = dump_candidates(&d, "valid.tsv", &run->valid);
    if (status == R2_OK) status = dump_candidates(&d, "test.tsv", &run->test);
    if (status == R2_OK) status = dump_lines(&d);
    if (status == R2_OK) status = dump_trec_run(&d, 0);
    if (status == R2_OK) status = dump_trec_run(&d, 1);
    if (status == R2_OK) status = dump_qrels(&d);
    r2_examples_free(ctx, &d.examples);
    r2_release(ctx, d.evidence);
    r2_release(ctx, d.score[0]);
    r2_release(ctx, d.score[1]);
    return status;
}

#endif

/* headline.h: three designs that try to carry the gain of step-by-step thinking (circles.h) to the
   full evidence. A design is a list of slots, each told in one word; `width` neighbours are a
   thought, and a thought is weighed by weights that are fitted jointly, not counted one by one:

       sums     the fields of R2_EVIDENCE_FIELDS, three to a thought; its weight is their sum
       circles  the 16 circles' pairs (a, b), then the fields by twos
       records  for eight fields (record, field): how high what u0 took before stood in that field,
                beside where i* stands; then the other fields by twos
       facts    control: as sums, with the header's own trace, one counted fact a thought

   The weight of a pair is a cell of a table beside the weights of its two words; of neighbours that
   only add up, the sum of theirs. Include after r2rec.h and circles.h. */
#ifndef R2_HEADLINE_H
#define R2_HEADLINE_H

enum {
    HL_BUCKETS = R2_MAX_BUCKETS, /* at most, of any slot */
    HL_RECORDS = 8,    /* fields that have a record      */
    HL_LOOK_BACK = 12, /* interactions that a record reads; the next would weigh 1/16 at most */
    HL_MAX_SLOTS = 52,
    HL_MAX_WEIGHT = 15, /* of a thought, in steps of 1 / HL_SCALE of log-odds */
    HL_MAX_TOTAL = 45,
    HL_SCALE = 3
};

/* What a slot tells: one of the fields, a or b of a circle, a record. */
enum {
    HL_A = R2_FIRST_CHAIN_FIELD,
    HL_B,
    HL_FIRST_RECORD,
    HL_N_FAMILIES = HL_FIRST_RECORD + HL_RECORDS
};

static const r2_field hl_record_field[HL_RECORDS] = {R2_FIELD_genre, R2_FIELD_uknn,  R2_FIELD_deep,
                                                     R2_FIELD_pop,   R2_FIELD_meanr, R2_FIELD_rel,
                                                     R2_FIELD_near1, R2_FIELD_path};

typedef enum hl_kind { HL_SUMS = 0, HL_TRACK, HL_CIRCLES, HL_FACTS, HL_N_DESIGNS } hl_kind;
static const char *const hl_name[HL_N_DESIGNS] = {"sums", "records", "circles", "facts"};

typedef struct hl_design {
    hl_kind kind;
    int32_t width, n_slots, n_joins; /* the first n_joins thoughts are joins */
    int32_t family[HL_MAX_SLOTS];
} hl_design;

static int32_t hl_thoughts(const hl_design *d) { return d->n_slots / d->width; }

static bool hl_has_record(int32_t field) {
    for (int k = 0; k < HL_RECORDS; ++k)
        if ((int32_t)hl_record_field[k] == field) return true;
    return false;
}

/* Where thoughts are pairs, the length of the history is left out, the same for all candidates of a
   user: an even number remains. */
static hl_design hl_design_make(hl_kind kind) {
    hl_design d;
    memset(&d, 0, sizeof d);
    d.kind = kind;
    d.width = kind == HL_FACTS || kind == HL_SUMS ? 3 : 2;
    d.n_joins = kind == HL_CIRCLES ? TC_CIRCLES : kind == HL_TRACK ? HL_RECORDS : 0;
    for (int k = 0; k < d.n_joins; ++k) {
        d.family[d.n_slots++] = kind == HL_CIRCLES ? HL_A : HL_FIRST_RECORD + k;
        d.family[d.n_slots++] = kind == HL_CIRCLES ? HL_B : (int32_t)hl_record_field[k];
    }
    for (int32_t f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
        if (d.width == 3 || (f != R2_FIELD_hist && !(kind == HL_TRACK && hl_has_record(f))))
            d.family[d.n_slots++] = f;
    return d;
}

/* ---- track records ---- */

/* Where each interaction stood in the fields, seen from the history before it. */
typedef struct hl_past {
    const r2_index *index; /* borrowed                                                          */
    uint8_t *wanted;       /* (n_edges) in order of the index's by_time: does a question need it */
    uint8_t *bucket;       /* (n_edges, HL_RECORDS) filled in where wanted                       */
    double edge[HL_RECORDS][TC_BUCKETS]; /* quantiles of the records */
} hl_past;

static void hl_past_free(r2_ctx *ctx, hl_past *past) {
    r2_release(ctx, past->wanted);
    r2_release(ctx, past->bucket);
    memset(past, 0, sizeof *past);
}

static r2_status hl_past_init(r2_ctx *ctx, hl_past *past, const r2_index *index) {
    uint64_t n = (uint64_t)index->graph->n_edges;
    memset(past, 0, sizeof *past);
    past->index = index;
    past->wanted = (uint8_t *)r2_alloc(ctx, n, 1);
    past->bucket = (uint8_t *)r2_alloc(ctx, n, HL_RECORDS);
    return past->wanted && past->bucket ? R2_OK : R2_NO_MEMORY;
}

/* Notes what the records of n questions read. */
static void hl_past_want(hl_past *past, const r2_question *q, int64_t n) {
    for (int64_t k = 0; k < n; ++k) {
        int64_t begin = past->index->graph->user_begin[q[k].user];
        for (int32_t p = q[k].n_history - 1; p >= 0 && p >= q[k].n_history - HL_LOOK_BACK; --p)
            past->wanted[begin + p] = 1;
    }
}

/* Asks about every wanted interaction as if it had not happened yet. Errors: R2_NO_MEMORY. */
static r2_status hl_past_fill(r2_ctx *ctx, hl_past *past, const r2_codebook *book) {
    const r2_chain_config chains = r2_chain_config_default();
    const r2_graph *g = past->index->graph;
    int64_t n = 0, *at = (int64_t *)r2_alloc(ctx, (uint64_t)g->n_edges, sizeof *at);
    r2_question *q = (r2_question *)r2_alloc(ctx, (uint64_t)g->n_edges, sizeof *q);
    r2_evidence *evidence = NULL;
    r2_status status = at && q ? R2_OK : R2_NO_MEMORY;
    for (int64_t u = 0; u < g->n_users && status == R2_OK; ++u)
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) {
            if (!past->wanted[e]) continue;
            q[n].user = (uint32_t)u;
            q[n].item = g->user_item[past->index->by_time[e]];
            q[n].n_history = (int32_t)(e - g->user_begin[u]);
            q[n].answer = -1;
            q[n].future = g->n_edges - past->index->rank[past->index->by_time[e]];
            at[n++] = e;
        }
    if (status == R2_OK) {
        evidence = (r2_evidence *)r2_alloc(ctx, (uint64_t)n, sizeof *evidence);
        status = evidence ? r2_evidence_compute(ctx, past->index, q, n, &chains, evidence)
                          : R2_NO_MEMORY;
    }
    for (int64_t k = 0; k < n && status == R2_OK; ++k)
        for (int r = 0; r < HL_RECORDS; ++r)
            past->bucket[at[k] * HL_RECORDS + r] = (uint8_t)r2_codebook_bucket(
                book, hl_record_field[r], evidence[k].value[hl_record_field[r]]);
    r2_release(ctx, at);
    r2_release(ctx, q);
    r2_release(ctx, evidence);
    return status;
}

/* record[r] = mean of the buckets of u0's latest interactions k < history, weighted
   0.5^((history - 1 - k) / 3), each seen from what came before it. For a question that is asked
   before (u0, i*) happens the edge is neither among them nor in what came before them. */
static void hl_record(const hl_past *past, const r2_question *q, double record[HL_RECORDS]) {
    const r2_graph *g = past->index->graph;
    int64_t begin = g->user_begin[q->user];
    double total = 0.0;
    memset(record, 0, HL_RECORDS * sizeof *record);
    for (int32_t p = q->n_history - 1; p >= 0 && p >= q->n_history - HL_LOOK_BACK; --p) {
        double weight = pow(0.5, (q->n_history - 1 - p) / 3.0);
        if (g->user_item[past->index->by_time[begin + p]] == q->item) continue;
        for (int r = 0; r < HL_RECORDS; ++r)
            record[r] += weight * past->bucket[(begin + p) * HL_RECORDS + r];
        total += weight;
    }
    for (int r = 0; r < HL_RECORDS && total > 0.0; ++r) record[r] /= total;
}

/* Quantiles over the training questions, one of each group. Errors: R2_NO_MEMORY. */
static r2_status hl_past_quantiles(r2_ctx *ctx, hl_past *past, const r2_question *q, int64_t n,
                                   int32_t group) {
    int64_t m = n / group;
    double *value = (double *)r2_alloc(ctx, (uint64_t)m, HL_RECORDS * sizeof *value);
    double record[HL_RECORDS];
    if (!value) return R2_NO_MEMORY;
    for (int64_t k = 0; k < m; ++k) {
        hl_record(past, &q[k * group], record);
        for (int r = 0; r < HL_RECORDS; ++r) value[r * m + k] = record[r];
    }
    for (int r = 0; r < HL_RECORDS; ++r) tc_quantiles(value + r * m, m, past->edge[r]);
    r2_release(ctx, value);
    return R2_OK;
}

/* ---- slots: the bucket of everything that a prompt tells ---- */

/* What slots are made from; circles and past are needed where the design has them. */
typedef struct hl_source {
    const r2_codebook *book;
    const tc_circles *circles;
    const tc_table *table;
    const hl_past *past;
} hl_source;

/* slot (n_slots) of a question whose evidence is `query`. */
static void hl_slots(const hl_design *d, const hl_source *from, const r2_question *q,
                     const r2_evidence *evidence, uint8_t *slot) {
    tc_strength s;
    double record[HL_RECORDS];
    if (d->kind == HL_CIRCLES) s = tc_measure(from->circles, q);
    if (d->kind == HL_TRACK) hl_record(from->past, q, record);
    for (int k = 0; k < d->n_slots; ++k) {
        int32_t f = d->family[k];
        if (f == HL_A) slot[k] = (uint8_t)tc_bucket(from->table->edge_a, s.a[k / 2]);
        else if (f == HL_B) slot[k] = (uint8_t)tc_bucket(from->table->edge_b, s.b[k / 2]);
        else if (f >= HL_FIRST_RECORD)
            slot[k] = (uint8_t)tc_bucket(from->past->edge[f - HL_FIRST_RECORD],
                                         record[f - HL_FIRST_RECORD]);
        else slot[k] = (uint8_t)r2_codebook_bucket(from->book, (r2_field)f, evidence->value[f]);
    }
}

/* ---- weights: a conditional logit over groups, every weight fitted together ---- */

enum {
    HL_SINGLES = HL_N_FAMILIES * HL_BUCKETS,
    HL_CELLS = HL_BUCKETS * HL_BUCKETS,
    HL_N_WEIGHTS = HL_SINGLES +
                   (1 + HL_RECORDS) * HL_CELLS, /* a table of the circles, of each record */
    HL_MAX_FEATURES = HL_MAX_SLOTS * 3 / 2
};

/* Weights that speak in one thought: of its slots and, in a join, of its cell. Returns how many. */
static int32_t hl_features(const hl_design *d, const uint8_t *slot, int32_t thought, bool joined,
                           int32_t *feature) {
    int32_t first = thought * d->width, n = 0;
    for (int32_t k = first; k < first + d->width; ++k)
        feature[n++] = d->family[k] * HL_BUCKETS + slot[k];
    if (joined && thought < d->n_joins) {
        int32_t table = d->kind == HL_CIRCLES ? 0 : 1 + thought;
        feature[n++] = HL_SINGLES + table * HL_CELLS + slot[first] * HL_BUCKETS + slot[first + 1];
    }
    return n;
}

static int32_t hl_all_features(const hl_design *d, const uint8_t *slot, bool joined,
                               int32_t feature[HL_MAX_FEATURES]) {
    int32_t n = 0;
    for (int32_t t = 0; t < hl_thoughts(d); ++t) n += hl_features(d, slot, t, joined, feature + n);
    return n;
}

static double hl_sum(const double *w, const int32_t *feature, int32_t n) {
    double sum = 0.0;
    for (int32_t k = 0; k < n; ++k) sum += w[feature[k]];
    return sum;
}

/* Adds the gradient of -log softmax over a group of its first member; share: scratch (group). */
static void hl_push(const double *w, const int32_t *feature, int32_t n, int32_t group,
                    double *share, double *gradient) {
    double most = -INFINITY, sum = 0.0;
    for (int32_t e = 0; e < group; ++e) {
        share[e] = hl_sum(w, feature + e * n, n);
        most = fmax(most, share[e]);
    }
    for (int32_t e = 0; e < group; ++e) sum += share[e] = exp(share[e] - most);
    for (int32_t e = 0; e < group; ++e)
        for (int32_t k = 0; k < n; ++k) gradient[feature[e * n + k]] += share[e] / sum - (e == 0);
}

/* w (HL_N_WEIGHTS) minimises sum over groups of -log softmax + ridge / 2 |w|^2: Adam on the whole
   sum, its step falling to nothing. slot (n, n_slots), groups of an observed item and sampled ones.
   Errors: R2_NO_MEMORY. */
static r2_status hl_fit(r2_ctx *ctx, const hl_design *d, const uint8_t *slot, int64_t n,
                        int32_t group, bool joined, double *w) {
    const double ridge = 2.0, pi = 3.14159265358979323846;
    const int n_steps = 250;
    r2_arena a = {NULL, 0, 0};
    int32_t *feature = (int32_t *)r2_arena_alloc(ctx, &a, (uint64_t)n,
                                                 HL_MAX_FEATURES * sizeof *feature);
    double *scratch = (double *)r2_arena_alloc(ctx, &a, 3 * HL_N_WEIGHTS + (uint64_t)group, 8);
    double *m = scratch, *v = m ? m + HL_N_WEIGHTS : NULL, *gradient = v ? v + HL_N_WEIGHTS : NULL;
    int32_t each = 0;
    for (int64_t e = 0; e < n && feature; ++e)
        each = hl_all_features(d, slot + e * d->n_slots, joined, feature + e * each);
    memset(w, 0, HL_N_WEIGHTS * sizeof *w);
    for (int step = 0; step < n_steps && feature && scratch; ++step) {
        double rate = 0.05 * (1.0 + cos(pi * step / n_steps));
        for (int k = 0; k < HL_N_WEIGHTS; ++k) gradient[k] = ridge * w[k];
        for (int64_t e = 0; e + group <= n; e += group)
            hl_push(w, feature + e * each, each, group, gradient + HL_N_WEIGHTS, gradient);
        for (int k = 0; k < HL_N_WEIGHTS; ++k) {
            m[k] = 0.9 * m[k] + 0.1 * gradient[k];
            v[k] = 0.99 * v[k] + 0.01 * gradient[k] * gradient[k];
            w[k] -= rate * (m[k] / (1.0 - pow(0.9, step + 1))) /
                    (sqrt(v[k] / (1.0 - pow(0.99, step + 1))) + 1e-8);
        }
    }
    r2_arena_free(ctx, &a);
    return feature && scratch ? R2_OK : R2_NO_MEMORY;
}

/* What ranks without any rounding: the sum of all weights. */
static double hl_logit(const hl_design *d, const double *w, const uint8_t *slot, bool joined) {
    int32_t feature[HL_MAX_FEATURES];
    return hl_sum(w, feature, hl_all_features(d, slot, joined, feature));
}

/* ---- words, prompts, traces ---- */

typedef struct hl_words {
    r2_vocab vocab;
    r2_codec codec;
    int32_t evidence, fact[HL_N_FAMILIES][HL_BUCKETS];
    int32_t weight[2 * HL_MAX_WEIGHT + 1], total[2 * HL_MAX_TOTAL + 1]; /* from the lowest on */
} hl_words;

static r2_status hl_add_facts(r2_ctx *ctx, hl_words *w, const r2_codebook *book, int32_t family) {
    char word[40];
    int32_t n = family < HL_A ? book->n_bucket[family] : TC_BUCKETS;
    r2_status status = R2_OK;
    for (int32_t b = 0; b < n && !status; ++b) {
        if (family < HL_A)
            snprintf(word, sizeof word, "%s:%d", r2_field_name((r2_field)family), (int)b);
        else if (family < HL_FIRST_RECORD)
            snprintf(word, sizeof word, "%s:%d", family == HL_A ? "a" : "b", (int)b);
        else
            snprintf(word, sizeof word, "past-%s:%d",
                     r2_field_name(hl_record_field[family - HL_FIRST_RECORD]), (int)b);
        status = r2_vocab_add(ctx, &w->vocab, word, &w->fact[family][b]);
    }
    return status;
}

static r2_status hl_add_number(r2_ctx *ctx, hl_words *w, const char *format, int number,
                               int32_t *id) {
    char word[16];
    snprintf(word, sizeof word, "%s%+d", format, number);
    return r2_vocab_add(ctx, &w->vocab, word, id);
}

/* The words of a design. Errors: R2_NO_MEMORY. */
static r2_status hl_words_init(r2_ctx *ctx, hl_words *w, const hl_design *d,
                               const r2_codebook *book) {
    static const char *const mark[] = {"<think>", "</think>", "<answer>", "</answer>", "0",
                                       "1",       "2",        "3",        "4",         "5"};
    bool told[HL_N_FAMILIES] = {false};
    r2_status status;
    memset(w, 0, sizeof *w);
    status = r2_vocab_add(ctx, &w->vocab, "<q>", &w->evidence);
    for (int k = 0; k < 10 && !status; ++k) status = r2_vocab_add(ctx, &w->vocab, mark[k], NULL);
    for (int k = 0; k < d->n_slots; ++k) told[d->family[k]] = true;
    for (int32_t f = 0; f < HL_N_FAMILIES && !status; ++f)
        if (told[f]) status = hl_add_facts(ctx, w, book, f);
    for (int k = -HL_MAX_WEIGHT; k <= HL_MAX_WEIGHT && !status; ++k)
        status = hl_add_number(ctx, w, "", k, &w->weight[k + HL_MAX_WEIGHT]);
    for (int k = -HL_MAX_TOTAL; k <= HL_MAX_TOTAL && !status; ++k)
        status = hl_add_number(ctx, w, "=", k, &w->total[k + HL_MAX_TOTAL]);
    if (!status)
        status = r2_codec_init(ctx, &w->codec, r2_tokenizer_vocab(&w->vocab), NULL, NULL);
    return status;
}

static int32_t hl_held(double value, int32_t most) {
    return (int32_t)fmax(-most, fmin(round(value), most));
}

/* Which slot decides a thought, and its weight rounded: fitted, all slots together; in the control
   the one with the largest counted weight, alone. */
static int32_t hl_weigh(const hl_design *d, const r2_codebook *book, const double *w,
                        const uint8_t *slot, int32_t thought, int32_t *decisive) {
    int32_t feature[4], n = hl_features(d, slot, thought, true, feature);
    int32_t first = thought * d->width, counted = 0;
    double most = -1.0;
    for (int32_t k = 0; k < d->width; ++k) {
        int32_t count = d->kind == HL_FACTS ? book->weight[d->family[first + k]][slot[first + k]]
                                            : 0;
        double size = fabs(d->kind == HL_FACTS ? count : w[feature[k]]);
        if (size <= most) continue;
        most = size;
        counted = count;
        *decisive = first + k;
    }
    return d->kind == HL_FACTS ? counted : hl_held(HL_SCALE * hl_sum(w, feature, n), HL_MAX_WEIGHT);
}

/* As many words a step as slots a thought, so that every step looks back equally far. */
static int32_t hl_trace_length(const hl_design *d) { return d->n_slots + 2; }

/* trace (hl_trace_length, or NULL): [the decisive fact,] weight and running total of each thought.
   Returns the last total. */
static int32_t hl_trace(const hl_design *d, const r2_codebook *book, const hl_words *words,
                        const double *w, const uint8_t *slot, int32_t *trace) {
    int32_t total = 0, at = 0;
    for (int32_t t = 0; t < hl_thoughts(d); ++t) {
        int32_t weight = hl_weigh(d, book, w, slot, t, &at);
        total = hl_held(total + weight, HL_MAX_TOTAL);
        if (!trace) continue;
        if (t == 0) *trace++ = words->codec.markup.think.id[0];
        if (d->width == 3) *trace++ = words->fact[d->family[at]][slot[at]];
        *trace++ = words->weight[weight + HL_MAX_WEIGHT];
        *trace++ = words->total[total + HL_MAX_TOTAL];
    }
    if (trace) *trace = words->codec.markup.think_end.id[0];
    return total;
}

/* Prompts of n questions, and their traces when w is given; free with r2_examples_free.
   Errors: R2_NO_MEMORY. */
static r2_status hl_examples(r2_ctx *ctx, r2_examples *ex, const hl_design *d,
                             const r2_codebook *book, const hl_words *words, const double *w,
                             const uint8_t *slot, const r2_question *question, int64_t n,
                             int32_t group) {
    int32_t length = w ? hl_trace_length(d) : 0, prompt = 1 + d->n_slots;
    memset(ex, 0, sizeof *ex);
    ex->n = n;
    ex->group = group;
    ex->codec = words->codec;
    ex->longest = prompt + length + 3; /* <answer> A </answer> */
    ex->prompt_begin = (int64_t *)r2_alloc(ctx, (uint64_t)n + 1, sizeof *ex->prompt_begin);
    ex->trace_begin = (int64_t *)r2_alloc(ctx, (uint64_t)n + 1, sizeof *ex->trace_begin);
    ex->prompt = (int32_t *)r2_alloc(ctx, (uint64_t)n, (uint64_t)prompt * sizeof *ex->prompt);
    ex->trace = (int32_t *)r2_alloc(ctx, (uint64_t)n, (uint64_t)length * sizeof *ex->trace);
    ex->answer = (int8_t *)r2_alloc(ctx, (uint64_t)n, sizeof *ex->answer);
    if (!ex->prompt_begin || !ex->trace_begin || !ex->prompt || !ex->trace || !ex->answer) {
        r2_examples_free(ctx, ex);
        return R2_NO_MEMORY;
    }
    for (int64_t q = 0; q <= n; ++q) {
        const uint8_t *s = slot + q * d->n_slots;
        ex->prompt_begin[q] = q * prompt;
        ex->trace_begin[q] = q * length;
        if (q == n) break;
        ex->answer[q] = (int8_t)question[q].answer;
        ex->prompt[q * prompt] = words->evidence;
        for (int k = 0; k < d->n_slots; ++k)
            ex->prompt[q * prompt + 1 + k] = words->fact[d->family[k]][s[k]];
        if (w) hl_trace(d, book, words, w, s, ex->trace + q * length);
    }
    return R2_OK;
}
#endif

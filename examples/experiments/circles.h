/* circles.h: a question whose evidence is a join. Users are put into circles of similar taste; a
   chain of the question (u0, i*) then runs by way of one circle,

       u0 -(a)-> i0 -> u1 in circle k -(b)-> i* -> u0 (masked: the question)

   and is told in two words: a, how much circle k is at home among u0's items, and b, how much it is
   at home with i*. What the chain says hangs on both words together, w(a, b), and no word of the
   prompt says it: reading one chain is a look-up in a table, and the answer needs their sum,

       Q  <q> a:5 b:0 a:2 b:6 ...        R  <think> -3 =-3 +1 =-2 ... </think>    A  <answer> 4

   Everything is learned from the training graph. Given the circles and the table, the edge (u0, i*)
   is invisible: u0 is left out of his own circle's counts. Include after r2rec.h. */
#ifndef R2_CIRCLES_H
#define R2_CIRCLES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    TC_CIRCLES = 16, /* chains of a prompt                                    */
    TC_FACTORS = 23, /* of the training matrix, in which circles are found    */
    TC_BUCKETS = 8   /* of either strength; bucket 0: nothing to count        */
};

/* ---- circles: the leading factors of the training matrix, then k-means ---- */

typedef struct tc_circles {
    const r2_index *index;    /* borrowed, and its graph                */
    int32_t *of;              /* (n_users) circle of each               */
    int32_t size[TC_CIRCLES]; /* users                                  */
    int32_t *count;           /* (n_items, TC_CIRCLES) ratings by circle */
    r2_arena memory;
} tc_circles;

/* to(n_users, F) = A from, A(n_users, n_items) = 1 where the training graph has an edge. */
static void tc_forward(const r2_ctx *ctx, const r2_graph *g, const double *from, double *to) {
    memset(to, 0, (size_t)g->n_users * TC_FACTORS * sizeof *to);
    R2_PARALLEL_FOR(r2_threads(ctx, g->n_edges * TC_FACTORS), u, g->n_users) {
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e)
            for (int f = 0; f < TC_FACTORS; ++f)
                to[u * TC_FACTORS + f] += from[(int64_t)g->user_item[e] * TC_FACTORS + f];
    }
}

/* to(n_items, F) = A^T from */
static void tc_back(const r2_ctx *ctx, const r2_graph *g, const double *from, double *to) {
    memset(to, 0, (size_t)g->n_items * TC_FACTORS * sizeof *to);
    R2_PARALLEL_FOR(r2_threads(ctx, g->n_edges * TC_FACTORS), i, g->n_items) {
        for (int64_t k = g->item_begin[i]; k < g->item_begin[i + 1]; ++k)
            for (int f = 0; f < TC_FACTORS; ++f)
                to[i * TC_FACTORS + f] += from[(int64_t)g->item_user[k] * TC_FACTORS + f];
    }
}

/* Makes the columns of q(n, F) orthonormal (Gram-Schmidt, modified). A column that depends on those
   before it becomes zero: then the matrix has fewer factors. */
static void tc_orthonormal(double *q, int64_t n) {
    for (int f = 0; f < TC_FACTORS; ++f) {
        double before = 0.0, norm = 0.0, dot;
        for (int64_t k = 0; k < n; ++k) before += q[k * TC_FACTORS + f] * q[k * TC_FACTORS + f];
        for (int h = 0; h < f; ++h) {
            dot = 0.0;
            for (int64_t k = 0; k < n; ++k) dot += q[k * TC_FACTORS + h] * q[k * TC_FACTORS + f];
            for (int64_t k = 0; k < n; ++k) q[k * TC_FACTORS + f] -= dot * q[k * TC_FACTORS + h];
        }
        for (int64_t k = 0; k < n; ++k) norm += q[k * TC_FACTORS + f] * q[k * TC_FACTORS + f];
        norm = norm > 1e-18 * before ? 1.0 / sqrt(norm) : 0.0;
        for (int64_t k = 0; k < n; ++k) q[k * TC_FACTORS + f] *= norm;
    }
}

/* point(n_users, F): the users in the space of the F leading factors, by subspace iteration: Q := the
   orthonormalised A^T A Q turns towards the leading right singular vectors. A Q is U S up to a
   rotation, which leaves all distances as they are: k-means asks for no more. Each user's row is
   then made a unit vector: taste, whatever the activity. */
static void tc_factors(const r2_ctx *ctx, const r2_graph *g, uint64_t seed, double *q,
                       double *point) {
    const int n_rounds = 20;
    r2_rng rng = r2_rng_make(seed, R2_STREAM_USER, 0);
    for (int64_t k = 0; k < g->n_items * TC_FACTORS; ++k) q[k] = r2_rng_normal(&rng);
    for (int round = 0; round < n_rounds; ++round) {
        tc_orthonormal(q, g->n_items);
        tc_forward(ctx, g, q, point);
        tc_back(ctx, g, point, q);
    }
    tc_orthonormal(q, g->n_items);
    tc_forward(ctx, g, q, point);
    for (int64_t u = 0; u < g->n_users; ++u) {
        double norm = 0.0;
        for (int f = 0; f < TC_FACTORS; ++f)
            norm += point[u * TC_FACTORS + f] * point[u * TC_FACTORS + f];
        for (int f = 0; f < TC_FACTORS && norm > 0.0; ++f) point[u * TC_FACTORS + f] /= sqrt(norm);
    }
}

static double tc_distance(const double *a, const double *b) {
    double sum = 0.0;
    for (int f = 0; f < TC_FACTORS; ++f) sum += (a[f] - b[f]) * (a[f] - b[f]);
    return sum;
}

/* First centres by k-means++ (Arthur and Vassilvitskii, SODA 2007): each new one is a point drawn in
   proportion to its squared distance to the nearest so far. */
static void tc_seed_centres(const double *point, int64_t n, uint64_t seed, double *nearest,
                            double *centre) {
    r2_rng rng = r2_rng_make(seed, R2_STREAM_USER, 1);
    int64_t chosen = (int64_t)r2_rng_below(&rng, (uint64_t)n);
    for (int64_t u = 0; u < n; ++u) nearest[u] = INFINITY;
    for (int k = 0; k < TC_CIRCLES; ++k) {
        double sum = 0.0, left;
        memcpy(centre + k * TC_FACTORS, point + chosen * TC_FACTORS, TC_FACTORS * sizeof *centre);
        for (int64_t u = 0; u < n; ++u) {
            nearest[u] = fmin(nearest[u],
                              tc_distance(point + u * TC_FACTORS, centre + k * TC_FACTORS));
            sum += nearest[u];
        }
        left = r2_rng_double(&rng) * sum;
        for (chosen = 0; chosen < n - 1 && left >= nearest[chosen]; ++chosen)
            left -= nearest[chosen];
    }
}

/* One round of Lloyd's algorithm: everyone to the nearest centre, then each centre to the mean of its
   users (one without users stays). Returns how many users changed. */
static int64_t tc_lloyd(const double *point, int64_t n, int32_t *of, int32_t *size,
                        double *centre) {
    int64_t n_changed = 0;
    for (int64_t u = 0; u < n; ++u) {
        int32_t best = 0;
        for (int32_t k = 1; k < TC_CIRCLES; ++k)
            if (tc_distance(point + u * TC_FACTORS, centre + k * TC_FACTORS) <
                tc_distance(point + u * TC_FACTORS, centre + best * TC_FACTORS))
                best = k;
        n_changed += of[u] != best;
        of[u] = best;
    }
    memset(size, 0, TC_CIRCLES * sizeof *size);
    for (int64_t u = 0; u < n; ++u) size[of[u]]++;
    for (int32_t k = 0; k < TC_CIRCLES; ++k)
        if (size[k]) memset(centre + k * TC_FACTORS, 0, TC_FACTORS * sizeof *centre);
    for (int64_t u = 0; u < n; ++u)
        for (int f = 0; f < TC_FACTORS; ++f)
            centre[of[u] * TC_FACTORS + f] += point[u * TC_FACTORS + f] / size[of[u]];
    return n_changed;
}

static void tc_free(r2_ctx *ctx, tc_circles *c) {
    r2_arena_free(ctx, &c->memory);
    memset(c, 0, sizeof *c);
}

/* How often each circle rated each item. */
static void tc_count(tc_circles *c) {
    const r2_graph *g = c->index->graph;
    memset(c->count, 0, (size_t)g->n_items * TC_CIRCLES * sizeof *c->count);
    for (int64_t u = 0; u < g->n_users; ++u)
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e)
            c->count[(int64_t)g->user_item[e] * TC_CIRCLES + c->of[u]]++;
}

/* Finds the circles of the index's graph. Errors: R2_NO_MEMORY. */
static r2_status tc_init(r2_ctx *ctx, tc_circles *c, const r2_index *index, uint64_t seed) {
    const r2_graph *g = index->graph;
    r2_arena scratch = {NULL, 0, 0};
    uint64_t n_users = (uint64_t)g->n_users, n_items = (uint64_t)g->n_items;
    double *q = (double *)r2_arena_alloc(ctx, &scratch, n_items, TC_FACTORS * sizeof *q);
    double *point = (double *)r2_arena_alloc(ctx, &scratch, n_users, TC_FACTORS * sizeof *point);
    double *nearest = (double *)r2_arena_alloc(ctx, &scratch, n_users, sizeof *nearest);
    double centre[TC_CIRCLES * TC_FACTORS];
    memset(c, 0, sizeof *c);
    c->index = index;
    c->of = (int32_t *)r2_arena_alloc(ctx, &c->memory, n_users, sizeof *c->of);
    c->count = (int32_t *)r2_arena_alloc(ctx, &c->memory, n_items, TC_CIRCLES * sizeof *c->count);
    if (q && point && nearest && c->of && c->count) {
        tc_factors(ctx, g, seed, q, point);
        tc_seed_centres(point, g->n_users, seed, nearest, centre);
        for (int round = 0; round < 100; ++round)
            if (tc_lloyd(point, g->n_users, c->of, c->size, centre) == 0) break;
        tc_count(c);
    }
    r2_arena_free(ctx, &scratch);
    if (q && point && nearest && c->of && c->count) return R2_OK;
    tc_free(ctx, c);
    return R2_NO_MEMORY;
}

/* ---- strengths: what the chain by way of a circle says, before it is put into words ---- */

typedef struct tc_strength {
    double a[TC_CIRCLES], b[TC_CIRCLES];
} tc_strength;

/* n[k] = ratings of `item` by circle k; returns those by everyone. u0's own are out: `mine` is his
   circle, `rated` 1 when the graph has his rating of the item. */
static int32_t tc_ratings(const tc_circles *c, uint32_t item, int32_t mine, int32_t rated,
                          int32_t n[TC_CIRCLES]) {
    int32_t sum = 0;
    for (int k = 0; k < TC_CIRCLES; ++k) {
        n[k] = c->count[(int64_t)item * TC_CIRCLES + k] - (k == mine ? rated : 0);
        sum += n[k];
    }
    return sum;
}

/* Weight of an item of u0's history: the latest count most, common ones less. */
static double tc_fade(int32_t age, int32_t n_all) {
    return pow(0.5, age / 10.0) / sqrt(n_all + 10.0);
}

/* How much more than everyone does circle k rate u0's items, the latest above all, and the target?

       a_k = share_k(sum over i0 of n_k(i0) 0.5^(age/10) / sqrt(n(i0) + 10)),    b_k alike for i*,
       share_k(n) = (n_k / users of circle k) / (n / users)

   n without u0, the sum over his first `history` interactions, i* left out. 0: nobody. */
static tc_strength tc_measure(const tc_circles *c, const r2_question *q) {
    const r2_graph *g = c->index->graph;
    const int64_t *edge = c->index->by_time + g->user_begin[q->user];
    int32_t mine = c->of[q->user], n[TC_CIRCLES], n_all;
    int32_t age = 0;
    double others = (double)g->n_users - 1.0, sum = 0.0;
    tc_strength s;
    memset(&s, 0, sizeof s);
    for (int32_t p = q->n_history - 1; p >= 0; --p) {
        if (g->user_item[edge[p]] == q->item) continue;
        n_all = tc_ratings(c, g->user_item[edge[p]], mine, 1, n);
        for (int k = 0; k < TC_CIRCLES; ++k) s.a[k] += n[k] * tc_fade(age, n_all);
        age++;
    }
    n_all = tc_ratings(c, q->item, mine, r2_graph_find(g, q->user, q->item) >= 0, n);
    for (int k = 0; k < TC_CIRCLES; ++k) sum += s.a[k];
    for (int k = 0; k < TC_CIRCLES; ++k) {
        double users = c->size[k] - (k == mine);
        s.a[k] = users > 0.0 && sum > 0.0 ? s.a[k] / users / (sum / others) : 0.0;
        s.b[k] = users > 0.0 ? n[k] / users / ((n_all + 2.0) / others) : 0.0;
    }
    return s;
}

/* For people: the item of u0's history that ties him most to circle k, R2_NO_ITEM when none does. */
static inline uint32_t tc_link(const tc_circles *c, const r2_question *q, int k) {
    const r2_graph *g = c->index->graph;
    const int64_t *edge = c->index->by_time + g->user_begin[q->user];
    uint32_t best = R2_NO_ITEM;
    double most = 0.0, weight;
    int32_t n[TC_CIRCLES], n_all, age = 0;
    for (int32_t p = q->n_history - 1; p >= 0; --p) {
        uint32_t item = g->user_item[edge[p]];
        if (item == q->item) continue;
        n_all = tc_ratings(c, item, c->of[q->user], 1, n);
        weight = n[k] * tc_fade(age++, n_all);
        if (weight > most) most = weight, best = item;
    }
    return best;
}

/* For people: the item that circle k rated most beyond its share of all ratings, in standard
   deviations. */
static inline uint32_t tc_favourite(const tc_circles *c, int k) {
    const r2_graph *g = c->index->graph;
    uint32_t best = 0;
    double most = -INFINITY;
    for (int64_t i = 0; i < g->n_items; ++i) {
        double share = (double)c->size[k] / (double)g->n_users;
        double expected = share * (double)r2_graph_item_degree(g, (uint32_t)i);
        double excess = (c->count[i * TC_CIRCLES + k] - expected) / sqrt(expected + 1.0);
        if (excess > most) most = excess, best = (uint32_t)i;
    }
    return best;
}

/* ---- the table: buckets of the strengths, and the weight of each pair by counting ---- */

typedef struct tc_table {
    double edge_a[TC_BUCKETS],
        edge_b[TC_BUCKETS];                /* bucket b > 0 ends below edge[b]; the last not */
    int8_t weight[TC_BUCKETS][TC_BUCKETS]; /* [a][b]                                        */
} tc_table;

static int32_t tc_bucket(const double *edge, double value) {
    int32_t b = 1;
    if (!(value > 0.0)) return 0;
    while (b < TC_BUCKETS - 1 && value >= edge[b]) ++b;
    return b;
}

static int tc_ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Edges at equal shares of the positive values among value (n), which is sorted. */
static void tc_quantiles(double *value, int64_t n, double *edge) {
    int64_t zeros = 0;
    qsort(value, (size_t)n, sizeof *value, tc_ascending);
    while (zeros < n && !(value[zeros] > 0.0)) ++zeros;
    for (int b = 1; b < TC_BUCKETS - 1; ++b)
        edge[b] = zeros < n ? value[zeros + (n - zeros) * b / (TC_BUCKETS - 1)] : INFINITY;
    edge[0] = 0.0;
    edge[TC_BUCKETS - 1] = INFINITY;
}

/* w(a, b) = log P(a, b | observed) / P(a, b | sampled), counted over chains, in steps of 1/scale. */
static void tc_weigh(tc_table *table, const tc_strength *s, int64_t n, int32_t group) {
    const double scale = 2.0;
    double count[2][TC_BUCKETS][TC_BUCKETS], total[2] = {0.0, 0.0};
    memset(count, 0, sizeof count);
    for (int64_t q = 0; q < n; ++q)
        for (int k = 0; k < TC_CIRCLES; ++k) {
            int32_t a = tc_bucket(table->edge_a, s[q].a[k]),
                    b = tc_bucket(table->edge_b, s[q].b[k]);
            count[q % group == 0][a][b] += 1.0;
            total[q % group == 0] += 1.0;
        }
    for (int a = 0; a < TC_BUCKETS; ++a)
        for (int b = 0; b < TC_BUCKETS; ++b) {
            double observed = (count[1][a][b] + 1.0) / total[1];
            double sampled = (count[0][a][b] + group - 1.0) / total[0];
            double weight = round(scale * log(observed / sampled));
            table->weight[a][b] = (int8_t)fmax(-R2_MAX_WEIGHT, fmin(weight, R2_MAX_WEIGHT));
        }
}

/* Learns the table from training questions in groups of an observed item and sampled ones; the
   quantiles of b are those of a balanced mix. Errors: R2_NO_MEMORY. */
static r2_status tc_learn(r2_ctx *ctx, tc_table *table, const tc_circles *c,
                          const r2_question *question, int64_t n, int32_t group) {
    tc_strength *s = (tc_strength *)r2_alloc(ctx, (uint64_t)n, sizeof *s);
    double *value = (double *)r2_alloc(ctx, (uint64_t)n * TC_CIRCLES, 2 * sizeof *value);
    int64_t n_a = 0, n_b = 0;
    if (s && value) {
        R2_PARALLEL_FOR(r2_threads(ctx, n * 1000), q, n) s[q] = tc_measure(c, &question[q]);
        for (int64_t q = 0; q < n; q += group) /* one history a group */
            for (int k = 0; k < TC_CIRCLES; ++k) value[n_a++] = s[q].a[k];
        tc_quantiles(value, n_a, table->edge_a);
        for (int64_t q = 0; q < n; ++q)
            for (int copy = q % group ? group - 2 : 0; copy < group - 1; ++copy)
                for (int k = 0; k < TC_CIRCLES; ++k) value[n_b++] = s[q].b[k];
        tc_quantiles(value, n_b, table->edge_b);
        tc_weigh(table, s, n, group);
    }
    r2_release(ctx, s);
    r2_release(ctx, value);
    return s && value ? R2_OK : R2_NO_MEMORY;
}

/* ---- words: prompts and traces ---- */

enum {
    TC_PROMPT = 1 + 2 * TC_CIRCLES, /* <q>, then a and b of each chain                  */
    TC_STEPS = 2 + 2 * TC_CIRCLES,  /* <think>, weight and total of each, </think>      */
    TC_TOTAL = 3                    /* <think>, the last total alone, </think>          */
};

typedef struct tc_words {
    r2_vocab vocab;
    r2_codec codec;
    int32_t evidence, a[TC_BUCKETS], b[TC_BUCKETS];
    int32_t weight[2 * R2_MAX_WEIGHT + 1], total[2 * R2_MAX_TOTAL + 1]; /* from the lowest on */
} tc_words;

static r2_status tc_add(r2_ctx *ctx, tc_words *w, int32_t *id, const char *format, int number) {
    char word[16];
    snprintf(word, sizeof word, "%s%d", format, number);
    return r2_vocab_add(ctx, &w->vocab, word, id);
}

/* All words there can be, the same for every kind of trace. Errors: R2_NO_MEMORY. */
static inline r2_status tc_words_init(r2_ctx *ctx, tc_words *w) {
    static const char *const mark[] = {"<think>", "</think>", "<answer>", "</answer>"};
    r2_status status;
    memset(w, 0, sizeof *w);
    status = r2_vocab_add(ctx, &w->vocab, "<q>", &w->evidence);
    for (int k = 0; k < 4 && !status; ++k) status = r2_vocab_add(ctx, &w->vocab, mark[k], NULL);
    for (int k = 0; k < R2_N_ANSWERS && !status; ++k) status = tc_add(ctx, w, NULL, "", k);
    for (int k = 0; k < TC_BUCKETS && !status; ++k) status = tc_add(ctx, w, &w->a[k], "a:", k);
    for (int k = 0; k < TC_BUCKETS && !status; ++k) status = tc_add(ctx, w, &w->b[k], "b:", k);
    for (int k = -R2_MAX_WEIGHT; k <= R2_MAX_WEIGHT && !status; ++k)
        status = tc_add(ctx, w, &w->weight[k + R2_MAX_WEIGHT], k < 0 ? "" : "+", k);
    for (int k = -R2_MAX_TOTAL; k <= R2_MAX_TOTAL && !status; ++k)
        status = tc_add(ctx, w, &w->total[k + R2_MAX_TOTAL], k < 0 ? "=" : "=+", k);
    if (!status)
        status = r2_codec_init(ctx, &w->codec, r2_tokenizer_vocab(&w->vocab), NULL, NULL);
    return status;
}

/* prompt (TC_PROMPT): a pure function of its arguments that never looks at question->answer. */
static void tc_prompt(const tc_circles *c, const tc_table *table, const tc_words *w,
                      const r2_question *question, int32_t *prompt) {
    tc_strength s = tc_measure(c, question);
    *prompt++ = w->evidence;
    for (int k = 0; k < TC_CIRCLES; ++k) {
        *prompt++ = w->a[tc_bucket(table->edge_a, s.a[k])];
        *prompt++ = w->b[tc_bucket(table->edge_b, s.b[k])];
    }
}

/* What the table says of chain k of a prompt. */
static int32_t tc_weight(const tc_table *table, const tc_words *w, const int32_t *prompt, int k) {
    return table->weight[prompt[1 + 2 * k] - w->a[0]][prompt[2 + 2 * k] - w->b[0]];
}

/* trace (`length`, TC_STEPS or TC_TOTAL): chain by chain its weight and the running total, held
   within +-R2_MAX_TOTAL; or the last total alone. A chain and a step have two words each, so every
   step looks back equally far. Reads the prompt only. Returns the last total. */
static int32_t tc_trace(const tc_table *table, const tc_words *w, const int32_t *prompt,
                        int32_t length, int32_t *trace) {
    int32_t total = 0, n = 0;
    trace[n++] = w->codec.markup.think.id[0];
    for (int k = 0; k < TC_CIRCLES; ++k) {
        int32_t weight = tc_weight(table, w, prompt, k);
        total += weight;
        if (total > R2_MAX_TOTAL) total = R2_MAX_TOTAL;
        if (total < -R2_MAX_TOTAL) total = -R2_MAX_TOTAL;
        if (length == TC_STEPS) trace[n++] = w->weight[weight + R2_MAX_WEIGHT];
        if (length == TC_STEPS || k == TC_CIRCLES - 1) trace[n++] = w->total[total + R2_MAX_TOTAL];
    }
    trace[n] = w->codec.markup.think_end.id[0];
    return total;
}

/* Prompts, traces of `length` words (0: none, for scoring) and answers of n questions in groups, as
   r2_sft and r2_score take them; free with r2_examples_free. Errors: R2_NO_MEMORY. */
static inline r2_status tc_examples(r2_ctx *ctx, r2_examples *ex, const tc_circles *c,
                             const tc_table *table, const tc_words *w, const r2_question *question,
                             int64_t n, int32_t group, int32_t length) {
    int32_t trace[TC_STEPS];
    memset(ex, 0, sizeof *ex);
    ex->n = n;
    ex->group = group;
    ex->codec = w->codec;
    ex->longest = TC_PROMPT + length + 3; /* <answer> A </answer> */
    ex->prompt_begin = (int64_t *)r2_alloc(ctx, (uint64_t)n + 1, sizeof *ex->prompt_begin);
    ex->trace_begin = (int64_t *)r2_alloc(ctx, (uint64_t)n + 1, sizeof *ex->trace_begin);
    ex->prompt = (int32_t *)r2_alloc(ctx, (uint64_t)n, TC_PROMPT * sizeof *ex->prompt);
    ex->trace = (int32_t *)r2_alloc(ctx, (uint64_t)n, (uint64_t)length * sizeof *ex->trace);
    ex->answer = (int8_t *)r2_alloc(ctx, (uint64_t)n, sizeof *ex->answer);
    if (!ex->prompt_begin || !ex->trace_begin || !ex->prompt || !ex->trace || !ex->answer) {
        r2_examples_free(ctx, ex);
        return R2_NO_MEMORY;
    }
    R2_PARALLEL_FOR(r2_threads(ctx, n * 1000), q, n) {
        tc_prompt(c, table, w, &question[q], ex->prompt + q * TC_PROMPT);
    }
    for (int64_t q = 0; q <= n; ++q) {
        ex->prompt_begin[q] = q * TC_PROMPT;
        ex->trace_begin[q] = q * length;
        if (q == n) break;
        ex->answer[q] = (int8_t)question[q].answer;
        if (length) tc_trace(table, w, ex->prompt + q * TC_PROMPT, length, trace);
        if (length) memcpy(ex->trace + q * length, trace, (size_t)length * sizeof *trace);
    }
    return R2_OK;
}

/* ---- the student that think.c and headline.c train ---- */

/* Multiply-adds of one sequence in a forward pass: the products with the weights, attention, and the
   head where a word is predicted; trace 0: direct. The backward pass costs twice that, whoever
   learns. */
static inline double tc_cost(const r2_model_config *c, int32_t prompt, int32_t trace) {
    double rows = prompt + trace + (trace ? 3 : 2); /* <answer> A </answer> */
    double heads = trace ? trace + 2 : 1, d = c->d_model;
    double layer = rows * (4.0 * d * d + 3.0 * d * c->d_ff) + rows * (rows + 1.0) * d;
    return c->n_layer * layer + heads * c->n_vocab * d;
}

/* Its shape and how it learns. */
static inline void tc_student(r2_model_config *shape, r2_sft_config *sft, int32_t n_vocab,
                              int32_t n_layer, int32_t n_ctx, uint64_t seed) {
    *shape = r2_model_config_default();
    *sft = r2_sft_config_default();
    shape->n_vocab = n_vocab;
    shape->n_layer = n_layer;
    shape->n_ctx = n_ctx;
    shape->rope_theta = 100.0f; /* no wavelength beyond what a prompt can use */
    shape->init_std = 0.08f;    /* 0.02 suits wider models: here copying would be learned late */
    shape->seed = sft->seed = seed;
    sft->trace_weight = 1.0f;
    sft->warmup = 30;
    /* of 3e-3, 6e-3, 12e-3 the best for the direct student, no worse for the other */
    sft->lr = 6e-3f;
}
#endif

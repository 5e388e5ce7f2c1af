/* variants.h: metrics of one ranked list as other people define them, each under a name (SPEC.md in
   data/vectors, section 15), so that somebody sees why their number differs. Include after r2rec.h. */
#ifndef R2_VARIANTS_H
#define R2_VARIANTS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct variants_item {
    const char *id;
    double score, relevance; /* relevant: > 0 */
    int64_t place;           /* in the list as given */
} variants_item;

/* Which of equal scores comes first. */
typedef enum variants_ties {
    VARIANTS_AS_GIVEN = 0,
    VARIANTS_ID_DESCENDING, /* trec_eval: by the bytes of the id, the larger first */
    VARIANTS_RELEVANT_FIRST,
    VARIANTS_RELEVANT_LAST
} variants_ties;

typedef struct variants_values {
    double ndcg_linear, ndcg_exponential, ndcg_binary, ndcg_log2_rank, ndcg_log2_rank_all;
    double ap_all, ap_min, ap_mean_precision, recall_all, recall_min;
    double precision_k, precision_list, rr, rr_k, hit;
    int64_t n_relevant;
} variants_values;

/* ---- the order ---- */

static inline int variants_compare(const variants_item *a, const variants_item *b,
                                   variants_ties ties) {
    if (a->score != b->score) return a->score > b->score ? -1 : 1;
    if (ties == VARIANTS_ID_DESCENDING) return strcmp(b->id, a->id);
    if (ties == VARIANTS_RELEVANT_FIRST && a->relevance != b->relevance)
        return a->relevance > b->relevance ? -1 : 1;
    if (ties == VARIANTS_RELEVANT_LAST && a->relevance != b->relevance)
        return a->relevance < b->relevance ? -1 : 1;
    return (a->place > b->place) - (a->place < b->place);
}

/* Best first. Lists are short, and qsort has no room for `ties`. */
static inline void variants_sort(variants_item *item, int64_t n, variants_ties ties) {
    for (int64_t k = 1; k < n; ++k) {
        const variants_item moved = item[k];
        int64_t at = k;
        for (; at > 0 && variants_compare(&moved, &item[at - 1], ties) < 0; --at)
            item[at] = item[at - 1];
        item[at] = moved;
    }
}

/* ---- gains ---- */

typedef enum variants_gain { VARIANTS_LINEAR, VARIANTS_EXPONENTIAL, VARIANTS_BINARY } variants_gain;

static inline double variants_gain_of(double relevance, variants_gain gain) {
    if (relevance <= 0.0) return 0.0;
    return gain == VARIANTS_LINEAR   ? relevance
           : gain == VARIANTS_BINARY ? 1.0
                                     : exp2(relevance) - 1.0;
}

/* 1 / log2(rank + 1), or 1 / max(1, log2 rank), which leaves the first two places alike. */
static inline double variants_discount(int64_t rank, bool log2_rank) {
    const double divisor = log2((double)rank + (log2_rank ? 0.0 : 1.0));
    return 1.0 / (divisor < 1.0 ? 1.0 : divisor);
}

static inline double variants_dcg(const variants_item *item, int64_t n, variants_gain gain,
                                  bool log2_rank) {
    double sum = 0.0;
    for (int64_t k = 0; k < n; ++k)
        sum += variants_gain_of(item[k].relevance, gain) * variants_discount(k + 1, log2_rank);
    return sum;
}

/* DCG of the first k over that of the best order's first k, or first `ideal_n`. */
static inline double variants_ndcg(const variants_item *item, const variants_item *best, int64_t k,
                                   int64_t ideal_n, variants_gain gain, bool log2_rank) {
    const double ideal = variants_dcg(best, ideal_n, gain, log2_rank);
    return ideal > 0.0 ? variants_dcg(item, k, gain, log2_rank) / ideal : 0.0;
}

/* ---- hits ---- */

/* Sums over the first k: of precision at each relevant place, and at each place; hits; the first
   relevant rank of all n, 0 if none. */
typedef struct variants_sums {
    double at_relevant, at_all;
    int64_t hits, first;
} variants_sums;

static inline variants_sums variants_count(const variants_item *item, int64_t n, int64_t k) {
    variants_sums s = {0.0, 0.0, 0, 0};
    for (int64_t r = 1; r <= n; ++r) {
        const bool relevant = item[r - 1].relevance > 0.0;
        if (relevant && !s.first) s.first = r;
        if (r > k) continue;
        s.hits += relevant;
        if (relevant) s.at_relevant += (double)s.hits / (double)r;
    }
    for (int64_t r = 1, hits = 0; r <= k; ++r) { /* beyond the list nothing is relevant */
        hits += r <= n && item[r - 1].relevance > 0.0;
        s.at_all += (double)hits / (double)r;
    }
    return s;
}

static inline void variants_hits(variants_values *v, const variants_sums *s, int64_t n, int64_t k) {
    const double hits = (double)s->hits, R = (double)v->n_relevant;
    const double least = v->n_relevant < k ? R : (double)k;
    if (v->n_relevant > 0) {
        v->ap_all = s->at_relevant / R;
        v->ap_min = s->at_relevant / least;
        v->recall_all = hits / R;
        v->recall_min = hits / least;
    }
    v->ap_mean_precision = s->at_all / (double)k;
    v->precision_k = hits / (double)k;
    v->precision_list = n > 0 ? hits / (double)(k < n ? k : n) : 0.0;
    v->rr = s->first ? 1.0 / (double)s->first : 0.0;
    v->rr_k = s->first <= k ? v->rr : 0.0;
    v->hit = s->hits > 0;
}

/* All values at k >= 1 of a list, which it sorts; best (n): scratch. */
static inline variants_values variants_of(variants_item *item, variants_item *best, int64_t n,
                                          int64_t k, variants_ties ties) {
    const int64_t top = k < n ? k : n;
    variants_values v;
    variants_sums sums;
    memset(&v, 0, sizeof v);
    variants_sort(item, n, ties);
    for (int64_t j = 0; j < n; ++j) {
        v.n_relevant += item[j].relevance > 0.0;
        best[j] = item[j];
        best[j].score = item[j].relevance;
    }
    variants_sort(best, n, VARIANTS_AS_GIVEN);
    sums = variants_count(item, n, k);
    variants_hits(&v, &sums, n, k);
    v.ndcg_linear = variants_ndcg(item, best, top, top, VARIANTS_LINEAR, false);
    v.ndcg_exponential = variants_ndcg(item, best, top, top, VARIANTS_EXPONENTIAL, false);
    v.ndcg_binary = variants_ndcg(item, best, top, top, VARIANTS_BINARY, false);
    v.ndcg_log2_rank = variants_ndcg(item, best, top, top, VARIANTS_LINEAR, true);
    v.ndcg_log2_rank_all = variants_ndcg(item, best, top, n, VARIANTS_LINEAR, true);
    return v;
}

/* ---- percentiles ---- */

/* Of ascending values: the element at floor(share (n - 1) + 0.5), as r2_bootstrap_mean takes it, or
   the straight line between two elements, as NumPy's default does. */
static inline double variants_percentile(const double *value, int64_t n, double share, bool line) {
    const double at = share * (double)(n - 1);
    const int64_t low = (int64_t)at;
    if (!line) return value[(int64_t)(at + 0.5)];
    if (low + 1 >= n) return value[n - 1];
    return value[low] + (at - (double)low) * (value[low + 1] - value[low]);
}

#endif

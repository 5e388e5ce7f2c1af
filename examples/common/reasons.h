/* reasons.h: a recommendation in plain sentences, with counts in place of buckets. Include after
   r2rec.h. Everything is counted anew from the training graph; the model has no part in it but the
   answer that it gives. */
#ifndef R2_REASONS_H
#define R2_REASONS_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { REASONS_NEAREST = 50, REASONS_LATEST = 10, REASONS_SOON = 10 };

/* Of one user: who is most alike. */
typedef struct reasons {
    const r2_run *run;
    const char *noun; /* "film", "item" */
    uint32_t user;
    uint32_t near[REASONS_NEAREST];
    double similarity[REASONS_NEAREST]; /* falling */
    int n_near;
    double mean; /* of all training ratings */
} reasons;

/* Title of an item, or its id. */
static inline const char *reasons_title(const r2_data *data, uint32_t item) {
    return data->title[item][0] ? data->title[item] : data->item_key[item];
}

static inline void reasons_insert(reasons *r, uint32_t user, double similarity) {
    int at = r->n_near < REASONS_NEAREST ? r->n_near++ : REASONS_NEAREST;
    while (at > 0 && similarity > r->similarity[at - 1]) {
        if (at < REASONS_NEAREST) {
            r->near[at] = r->near[at - 1];
            r->similarity[at] = r->similarity[at - 1];
        }
        --at;
    }
    if (at == REASONS_NEAREST) return;
    r->near[at] = user;
    r->similarity[at] = similarity;
}

/* The 50 nearest by simrec, the similarity of the chains (r2_chain_law). */
static inline r2_status reasons_init(r2_ctx *ctx, reasons *r, const r2_run *run, uint32_t user,
                                     const char *noun) {
    const r2_graph *g = &run->graph;
    const int64_t begin = g->user_begin[user], end = g->user_begin[user + 1];
    double *sum = (double *)r2_alloc(ctx, (uint64_t)g->n_users, sizeof *sum);
    memset(r, 0, sizeof *r);
    r->run = run, r->user = user, r->noun = noun;
    if (!sum) return ctx->status;
    for (int64_t e = 0; e < g->n_edges; ++e)
        r->mean += (double)g->user_rating[e] / (double)g->n_edges;
    for (int64_t e = begin; e < end; ++e) {
        const uint32_t i = g->user_item[e];
        const int64_t age = end - begin - 1 - (int64_t)run->index.position[e];
        const double worth = pow(0.5, (double)age / 10.0) /
                             sqrt((double)r2_graph_item_degree(g, i));
        for (int64_t k = g->item_begin[i]; k < g->item_begin[i + 1]; ++k)
            sum[g->item_user[k]] += worth;
    }
    for (uint32_t v = 0; v < g->n_users; ++v)
        if (v != user && sum[v] > 0.0)
            reasons_insert(r, v, sum[v] / sqrt((double)r2_graph_user_degree(g, v) + 1.0));
    r2_release(ctx, sum);
    return R2_OK;
}

/* How many of the nearest have the item; of them, how many took it at most ten items after one of
   the user's ten latest, and after which of these most did. */
static inline int reasons_count(const reasons *r, uint32_t item, int *n_soon, uint32_t *after) {
    const r2_graph *g = &r->run->graph;
    const r2_index *index = &r->run->index;
    const int64_t end = g->user_begin[r->user + 1], n = end - g->user_begin[r->user];
    int have = 0;
    *n_soon = 0;
    for (int k = 0; k < r->n_near; ++k) have += r2_graph_find(g, r->near[k], item) >= 0;
    for (int64_t age = 0; age < REASONS_LATEST && age < n; ++age) {
        const uint32_t i0 = g->user_item[index->by_time[end - 1 - age]];
        int soon = 0;
        for (int k = 0; k < r->n_near; ++k) {
            const int64_t from = r2_graph_find(g, r->near[k], i0);
            const int64_t to = r2_graph_find(g, r->near[k], item);
            if (from < 0 || to < 0 || i0 == item) continue;
            const int64_t d = (int64_t)index->position[to] - (int64_t)index->position[from];
            soon += d >= 1 && d <= REASONS_SOON;
        }
        if (soon > *n_soon) *n_soon = soon, *after = i0;
    }
    return have;
}

static inline double reasons_item_mean(const r2_graph *g, uint32_t item) {
    double sum = 0.0;
    for (int64_t k = g->item_begin[item]; k < g->item_begin[item + 1]; ++k)
        sum += (double)g->user_rating[g->item_edge[k]];
    return sum / (double)r2_graph_item_degree(g, item);
}

/* One objection, behind "Against it: " or a semicolon. */
static inline void reasons_object(r2_ctx *ctx, r2_text *text, int *n, const char *objection) {
    r2_text_addf(ctx, text, "%s%s", (*n)++ ? "; " : "Against it: ", objection);
}

/* What speaks against an item: few know it, they liked it less, another time, a low answer. */
static inline void reasons_against(r2_ctx *ctx, const reasons *r, const r2_evidence *evidence,
                                   int answer, int have, int soon, r2_text *text) {
    const r2_data *data = &r->run->data;
    const int64_t people = r2_graph_item_degree(&r->run->graph, evidence->item);
    const double era = (double)evidence->value[R2_FIELD_era];
    const double mean = people ? reasons_item_mean(&r->run->graph, evidence->item) : 0.0;
    char said[200];
    int n = 0;
    if (have * 10 < r->n_near && !soon) {
        snprintf(said, sizeof said, "only %d of the %d people most like this user ha%s it", have,
                 r->n_near, have == 1 ? "s" : "ve");
        reasons_object(ctx, text, &n, said);
    }
    if (data->has_rating && people && mean < r->mean) {
        snprintf(said, sizeof said, "its mean rating of %.1f is below the %.1f of all", mean,
                 r->mean);
        reasons_object(ctx, text, &n, said);
    }
    if (fabs(era) >= 10.0) {
        snprintf(said, sizeof said, "it is %.0f years %s than what this user usually takes",
                 fabs(era), era < 0.0 ? "older" : "newer");
        reasons_object(ctx, text, &n, said);
    }
    if (answer == 0) reasons_object(ctx, text, &n, "having reasoned, the model says no (answer 0)");
    if (answer >= 1 && answer <= 3 && data->has_rating) {
        snprintf(said, sizeof said, "the model expects no more than %d of 5 for it", answer);
        reasons_object(ctx, text, &n, said);
    }
    r2_text_addf(ctx, text, "%s.\n", n ? "" : "Nothing that was counted speaks against it");
}

/* Adds a line per sentence: who has it, how it was liked, what speaks against it. `answer` is that
   of the model, -1: none. */
static inline void reasons_say(r2_ctx *ctx, const reasons *r, const r2_evidence *evidence,
                               int answer, r2_text *text) {
    const r2_data *data = &r->run->data;
    const int64_t people = r2_graph_item_degree(&r->run->graph, evidence->item);
    uint32_t after = 0;
    int soon = 0;
    const int have = reasons_count(r, evidence->item, &soon, &after);
    if (have * 10 >= r->n_near || soon) { /* else it is an objection */
        r2_text_addf(ctx, text, "%d of the %d people most like this user ha%s it", have, r->n_near,
                     have == 1 ? "s" : "ve");
        if (soon)
            r2_text_addf(ctx, text, "; %d of them took it soon after %s", soon,
                         reasons_title(data, after));
        r2_text_addf(ctx, text, ".\n");
    }
    if (people) {
        r2_text_addf(ctx, text, "%lld %s it", (long long)people,
                     people == 1 ? "person of all has" : "people of all have");
        if (data->has_rating)
            r2_text_addf(ctx, text, ", with a mean rating of %.1f of %g",
                         reasons_item_mean(&r->run->graph, evidence->item),
                         (double)data->rating_max);
        r2_text_addf(ctx, text, ".\n");
    } else {
        r2_text_addf(ctx, text, "Nobody in the training data has it.\n");
    }
    reasons_against(ctx, r, evidence, answer, have, soon, text);
}

#endif

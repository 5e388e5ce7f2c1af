/* baselines.h: the classical recommenders that stand beside ours, each in the fewest lines that are
   honest: same training graph, same candidates, tuned on the validation positives.

   A scorer fills score (n_cases, n_per_case) of a candidate set. Include after r2rec.h. */
#ifndef R2_BASELINES_H
#define R2_BASELINES_H

#include <math.h>
#include <stdlib.h>

/* What a method is tuned over; each method says which numbers it reads. */
typedef struct bl_params {
    int neighbours; /* user-kNN: users asked                                        */
    double power;   /* user-kNN: similarity^power; item-kNN: exponent of popularity */
    double shrink;  /* item-kNN: added to the norm                                  */
} bl_params;

typedef struct bl_method {
    const char *name;
    r2_status (*score)(r2_ctx *ctx, const r2_graph *graph, const r2_candidates *c,
                       const bl_params *params, float *score);
    bl_params grid[12];
    int n_grid;
} bl_method;

/* Scores of a fixed but arbitrary order: chance. */
static r2_status bl_random(r2_ctx *ctx, const r2_graph *graph, const r2_candidates *c,
                           const bl_params *params, float *score) {
    (void)ctx, (void)graph, (void)params;
    for (int64_t k = 0; k < c->n_cases * c->n_per_case; ++k) {
        r2_rng rng = r2_rng_make(17, R2_STREAM_USER, (uint64_t)k);
        score[k] = (float)r2_rng_double(&rng);
    }
    return R2_OK;
}

/* Number of training interactions of the item. */
static r2_status bl_popularity(r2_ctx *ctx, const r2_graph *graph, const r2_candidates *c,
                               const bl_params *params, float *score) {
    (void)ctx, (void)params;
    for (int64_t k = 0; k < c->n_cases * c->n_per_case; ++k)
        score[k] = (float)r2_graph_item_degree(graph, c->item[k]);
    return R2_OK;
}

/* shared[v] = number of items that u and v share. */
static void bl_shared_items(const r2_graph *g, uint32_t u, int32_t *shared) {
    memset(shared, 0, (size_t)g->n_users * sizeof *shared);
    for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) {
        uint32_t i = g->user_item[e];
        for (int64_t k = g->item_begin[i]; k < g->item_begin[i + 1]; ++k) shared[g->item_user[k]]++;
    }
    shared[u] = 0;
}

static int bl_compare_float(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Sum of sim(u, v)^power over the nearest `neighbours` users v that have the item; cosine. */
static r2_status bl_user_knn(r2_ctx *ctx, const r2_graph *g, const r2_candidates *c,
                             const bl_params *params, float *score) {
    size_t n_users = (size_t)g->n_users;
    int32_t *shared = (int32_t *)r2_alloc(ctx, n_users, sizeof *shared);
    float *sim = (float *)r2_alloc(ctx, n_users, sizeof *sim);
    float *sorted = (float *)r2_alloc(ctx, n_users, sizeof *sorted);
    r2_status status = shared && sim && sorted ? R2_OK : R2_NO_MEMORY;
    for (int64_t s = 0; s < c->n_cases && status == R2_OK; ++s) {
        uint32_t u = c->user[s];
        double own = (double)r2_graph_user_degree(g, u);
        float least = 0.0f;
        bl_shared_items(g, u, shared);
        for (size_t v = 0; v < n_users; ++v) {
            double other = (double)r2_graph_user_degree(g, (uint32_t)v);
            sorted[v] = sim[v] = shared[v] ? (float)(shared[v] / sqrt(own * other)) : 0.0f;
        }
        qsort(sorted, n_users, sizeof *sorted, bl_compare_float);
        if ((size_t)params->neighbours < n_users) least = sorted[params->neighbours - 1];
        for (int64_t k = 0; k < c->n_per_case; ++k) {
            uint32_t t = c->item[s * c->n_per_case + k];
            double sum = 0.0;
            for (int64_t j = g->item_begin[t]; j < g->item_begin[t + 1]; ++j) {
                float similarity = sim[g->item_user[j]];
                if (similarity > 0.0f && similarity >= least)
                    sum += pow((double)similarity, params->power);
            }
            score[s * c->n_per_case + k] = (float)sum;
        }
    }
    r2_release(ctx, shared);
    r2_release(ctx, sim);
    r2_release(ctx, sorted);
    return status;
}

/* Sum over the user's items i of c(i, t) / (sqrt(n_i) n_t^power + shrink), c: users of both. */
static r2_status bl_item_knn(r2_ctx *ctx, const r2_graph *g, const r2_candidates *c,
                             const bl_params *params, float *score) {
    int64_t *both = (int64_t *)r2_alloc(ctx, (uint64_t)g->n_items, sizeof *both);
    r2_status status = both ? R2_OK : R2_NO_MEMORY;
    for (int64_t k = 0; k < c->n_cases * c->n_per_case && status == R2_OK; ++k) {
        uint32_t u = c->user[k / c->n_per_case], t = c->item[k];
        double n_t = pow((double)r2_graph_item_degree(g, t), params->power), sum = 0.0;
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) both[g->user_item[e]] = 0;
        for (int64_t j = g->item_begin[t]; j < g->item_begin[t + 1]; ++j) {
            uint32_t v = g->item_user[j];
            for (int64_t e = g->user_begin[v]; e < g->user_begin[v + 1]; ++e)
                both[g->user_item[e]]++;
        }
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) {
            uint32_t i = g->user_item[e];
            if (both[i])
                sum += (double)both[i] / (sqrt((double)r2_graph_item_degree(g, i)) * n_t +
                                          params->shrink);
        }
        score[k] = (float)sum;
    }
    r2_release(ctx, both);
    return status;
}

/* The methods in the order of the table, each with the grid it is tuned over. */
static const bl_method bl_methods[] = {
    {"random", bl_random, {{0, 0, 0}}, 1},
    {"popularity", bl_popularity, {{0, 0, 0}}, 1},
    {"user-knn",
     bl_user_knn,
     {{20, 1, 0}, {50, 1, 0}, {100, 1, 0}, {300, 1, 0}, {20, 2, 0}, {50, 2, 0}, {100, 2, 0}, {300, 2, 0}},
     8},
    {"item-knn",
     bl_item_knn,
     {{0, 0.3, 0}, {0, 0.5, 0}, {0, 0.7, 0}, {0, 0.3, 10}, {0, 0.5, 10}, {0, 0.7, 10}, {0, 0.5, 50}},
     7},
};
enum { BL_N_METHODS = sizeof bl_methods / sizeof bl_methods[0] };

/* Picks the grid point with the best validation HR@1 (ties: MRR, then the first). */
static r2_status bl_tune(r2_ctx *ctx, const bl_method *method, const r2_graph *graph,
                         const r2_candidates *valid, bl_params *best) {
    r2_eval_config eval = r2_eval_config_default();
    double best_hr = -1.0;
    float *score;
    r2_status status = R2_OK;
    *best = method->grid[0];
    if (method->n_grid == 1) return R2_OK;
    score = (float *)r2_alloc(ctx, (uint64_t)(valid->n_cases * valid->n_per_case), sizeof *score);
    if (!score) return ctx->status;
    eval.n_bootstrap = 1;
    for (int p = 0; p < method->n_grid && status == R2_OK; ++p) {
        r2_metrics m;
        status = method->score(ctx, graph, valid, &method->grid[p], score);
        if (status == R2_OK)
            status = r2_evaluate(ctx, score, valid->n_cases, valid->n_per_case, &eval, &m, NULL);
        if (status == R2_OK && m.hr1 + 1e-3 * m.mrr > best_hr) {
            best_hr = m.hr1 + 1e-3 * m.mrr;
            *best = method->grid[p];
        }
    }
    r2_release(ctx, score);
    return status;
}

#endif

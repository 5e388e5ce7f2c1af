/* baselines.h: the recommenders that stand beside ours, each in the fewest lines that are honest:
   same training graph, same candidates, tuned on the validation positives.

   A method fits a bl_model to a run, then scores candidate sets. Everything is drawn from the
   run's seed and computed in a fixed order, so that the same run gives the same bytes for any
   number of threads. Include after r2rec.h. */
#ifndef R2_BASELINES_H
#define R2_BASELINES_H

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A fitted method. What p[] means, and which arrays are in use, each method says. */
typedef struct bl_model {
    const r2_run *run;
    double p[3];         /* the grid point                           */
    double validation;   /* its HR@1 there, with bl_tune             */
    int64_t dim;         /* columns of user and item                 */
    double *user, *item; /* (n_users, dim), (n_items, dim)           */
    double *bias;        /* (n_items), or the weights of features    */
    int32_t *feature;    /* see bl_features, bl_rank_items           */
    r2_model *net;       /* SASRec                                   */
    r2_arena memory;     /* of all of these but net                  */
    const r2_candidates *asked_of; /* logistic regression: whoever has the prompts of these */
    const r2_examples *asked;      /* candidates lends them here; NULL: they are made       */
} bl_model;

typedef struct bl_method {
    const char *name;
    const char *param; /* what the numbers of a grid point are */
    r2_status (*fit)(r2_ctx *ctx, bl_model *m);
    /* score (n_cases, n_per_case) */
    r2_status (*score)(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score);
    double grid[12][3];
    int n_grid;
    bool slow, seeded; /* minutes, not seconds; depends on the run's seed */
} bl_method;

static double *bl_array(r2_ctx *ctx, bl_model *m, int64_t rows, int64_t cols) {
    return (double *)r2_arena_alloc(ctx, &m->memory, (uint64_t)rows,
                                    (uint64_t)cols * sizeof(double));
}

static void bl_free(r2_ctx *ctx, bl_model *m) {
    if (m->net) r2_model_free(ctx, m->net);
    r2_release(ctx, m->net);
    r2_arena_free(ctx, &m->memory);
    memset(m, 0, sizeof *m);
}

static r2_status bl_fit_nothing(r2_ctx *ctx, bl_model *m) {
    (void)ctx, (void)m;
    return R2_OK;
}

/* Scores the candidates of one user; scratch: as much as the method asks for. */
typedef void (*bl_case_fn)(const bl_model *m, uint32_t user, const uint32_t *item, int64_t n,
                           double *scratch, float *score);

/* All cases, each of which is one user's: threads share them, each with `scratch` doubles. */
static r2_status bl_each_case(r2_ctx *ctx, const bl_model *m, const r2_candidates *c,
                              bl_case_fn one, int64_t scratch, float *score) {
    const int64_t n = c->n_per_case;
    const int threads = r2_threads(ctx, c->n_cases * scratch);
    double *room = (double *)r2_alloc(ctx, (uint64_t)threads, (uint64_t)scratch * sizeof *room);
    if (!room) return ctx->status;
    R2_PARALLEL_PIECES(threads, s, c->n_cases)
    one(m, c->user[s], c->item + s * n, n, room + r2_thread() * scratch, score + s * n);
    r2_release(ctx, room);
    return R2_OK;
}

/* ---- chance and popularity ---- */

/* Scores of a fixed but arbitrary order. */
static r2_status bl_random(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score) {
    (void)ctx, (void)m;
    for (int64_t k = 0; k < c->n_cases * c->n_per_case; ++k) {
        uint64_t mixed = r2_hash(17, c->user[k / c->n_per_case], c->item[k]);
        score[k] = (float)(mixed >> 40);
    }
    return R2_OK;
}

/* Number of training interactions of the item. */
static r2_status bl_popularity(r2_ctx *ctx, const bl_model *m, const r2_candidates *c,
                               float *score) {
    (void)ctx;
    for (int64_t k = 0; k < c->n_cases * c->n_per_case; ++k)
        score[k] = (float)r2_graph_item_degree(&m->run->graph, c->item[k]);
    return R2_OK;
}

/* When a case is asked: how many training interactions are no later than the one that was held out,
   which stands first (all of them when it is not in the data). */
static int64_t bl_moment(const bl_model *m, uint32_t user, uint32_t item) {
    const int64_t row = r2_data_find(&m->run->data, user, item);
    int64_t low = 0, high = m->run->graph.n_edges;
    while (row >= 0 && low < high) {
        int64_t middle = low + (high - low) / 2;
        if (m->bias[middle] <= (double)m->run->data.time[row]) low = middle + 1;
        else high = middle;
    }
    return row >= 0 ? low : high;
}

/* p: half-life as a share of all training interactions. bias: their times, ascending. */
static r2_status bl_recent_fit(r2_ctx *ctx, bl_model *m) {
    const r2_graph *g = &m->run->graph;
    m->bias = bl_array(ctx, m, g->n_edges, 1);
    if (!m->bias) return ctx->status;
    for (int64_t e = 0; e < g->n_edges; ++e)
        m->bias[m->run->index.rank[e]] = (double)g->user_time[e];
    return R2_OK;
}

/* Popularity of the last days: training interactions of the item before the moment, each weighted
   0.5^(interactions of all since / half-life). All of them, weighted little, break ties. */
static void bl_recent_case(const bl_model *m, uint32_t user, const uint32_t *item, int64_t n,
                           double *scratch, float *score) {
    const r2_graph *g = &m->run->graph;
    const int64_t moment = bl_moment(m, user, item[0]);
    const double half_life = m->p[0] * (double)g->n_edges;
    (void)scratch;
    for (int64_t k = 0; k < n; ++k) {
        double sum = 1e-4 * (double)r2_graph_item_degree(g, item[k]);
        for (int64_t j = g->item_begin[item[k]]; j < g->item_begin[item[k] + 1]; ++j) {
            const int64_t since = moment - 1 - m->run->index.rank[g->item_edge[j]];
            if (since >= 0) sum += exp2(-(double)since / half_life);
        }
        score[k] = (float)sum;
    }
}

static r2_status bl_recent(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score) {
    return bl_each_case(ctx, m, c, bl_recent_case, 1, score);
}

/* ---- neighbours ---- */

/* near[v] = sum of weight[i] over the items i that u and v share (NULL: 1 each); 0 for u itself. */
static void bl_near(const r2_graph *g, uint32_t u, const double *weight, double *near) {
    memset(near, 0, (size_t)g->n_users * sizeof *near);
    for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) {
        uint32_t i = g->user_item[e];
        for (int64_t k = g->item_begin[i]; k < g->item_begin[i + 1]; ++k)
            near[g->item_user[k]] += weight ? weight[i] : 1.0;
    }
    near[u] = 0.0;
}

/* score[k] = sum over the users v of candidate k of near[v]. */
static void bl_sum_users(const r2_graph *g, const double *near, const uint32_t *item, int64_t n,
                         float *score) {
    for (int64_t k = 0; k < n; ++k) {
        double sum = 0.0;
        for (int64_t j = g->item_begin[item[k]]; j < g->item_begin[item[k] + 1]; ++j)
            sum += near[g->item_user[j]];
        score[k] = (float)sum;
    }
}

/* The largest but k of n values, which change places (Hoare's selection). */
static double bl_largest_but(double *value, int64_t n, int64_t k) {
    for (int64_t low = 0, high = n - 1; low < high;) {
        const double pivot = value[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (value[i] > pivot) ++i;
            while (value[j] < pivot) --j;
            if (i > j) break;
            double change = value[i];
            value[i++] = value[j];
            value[j--] = change;
        }
        if (k <= j) high = j;
        else if (k >= i) low = i;
        else break;
    }
    return value[k];
}

/* near[v] = cosine(u, v)^power of the nearest users, 0 of the others. */
static void bl_nearest(const r2_graph *g, uint32_t u, int64_t neighbours, double power,
                       double *near, double *scratch) {
    double own = (double)r2_graph_user_degree(g, u), least = 0.0;
    int64_t n = 0; /* who shares anything */
    for (int64_t v = 0; v < g->n_users; ++v) {
        if (near[v] <= 0.0) continue;
        near[v] /= sqrt(own * (double)r2_graph_user_degree(g, (uint32_t)v));
        scratch[n++] = near[v];
    }
    if (neighbours < n) least = bl_largest_but(scratch, n, neighbours - 1);
    for (int64_t v = 0; v < g->n_users; ++v)
        near[v] = near[v] > 0.0 && near[v] >= least ? pow(near[v], power) : 0.0;
}

static void bl_user_knn_case(const bl_model *m, uint32_t user, const uint32_t *item, int64_t n,
                             double *scratch, float *score) {
    const r2_graph *g = &m->run->graph;
    double *near = scratch;
    bl_near(g, user, NULL, near);
    bl_nearest(g, user, (int64_t)m->p[0], m->p[1], near, scratch + g->n_users);
    bl_sum_users(g, near, item, n, score);
}

static r2_status bl_user_knn(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score) {
    return bl_each_case(ctx, m, c, bl_user_knn_case, 2 * m->run->graph.n_users, score);
}

/* Sum over the user's items i of shared(i, t) / (sqrt(n_i + shrink) (n_t + shrink)^power),
   shared(i, t) = users of both: read as a sum over the users of t, it costs no item-item matrix.
   bias[i] = 1 / sqrt(n_i + shrink). */
static r2_status bl_item_knn_fit(r2_ctx *ctx, bl_model *m) {
    const r2_graph *g = &m->run->graph;
    m->bias = bl_array(ctx, m, g->n_items, 1);
    if (!m->bias) return ctx->status;
    for (int64_t i = 0; i < g->n_items; ++i)
        m->bias[i] = 1.0 / sqrt((double)r2_graph_item_degree(g, (uint32_t)i) + m->p[1] + 1e-9);
    return R2_OK;
}

static void bl_item_knn_case(const bl_model *m, uint32_t user, const uint32_t *item, int64_t n,
                             double *near, float *score) {
    const r2_graph *g = &m->run->graph;
    bl_near(g, user, m->bias, near);
    bl_sum_users(g, near, item, n, score);
    for (int64_t k = 0; k < n; ++k) {
        double n_t = (double)r2_graph_item_degree(g, item[k]) + m->p[1] + 1e-9;
        score[k] /= (float)pow(n_t, m->p[0]);
    }
}

static r2_status bl_item_knn(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score) {
    return bl_each_case(ctx, m, c, bl_item_knn_case, m->run->graph.n_users, score);
}

/* RP3-beta (Paudel et al., ACM TiiS 7(1), 2017): three steps of a random walk from u, each with the
   probability 1 / degree to the power p[0], divided by the item's degree to the power p[1]. Never by
   way of u itself, as in bl_near. bias[i] = n_i^-p[0], user[v] = n_v^-p[0]. */
static r2_status bl_rp3_fit(r2_ctx *ctx, bl_model *m) {
    const r2_graph *g = &m->run->graph;
    m->bias = bl_array(ctx, m, g->n_items, 1);
    m->user = bl_array(ctx, m, g->n_users, 1);
    if (!m->bias || !m->user) return ctx->status;
    for (int64_t i = 0; i < g->n_items; ++i)
        m->bias[i] = pow((double)r2_graph_item_degree(g, (uint32_t)i) + 1e-9, -m->p[0]);
    for (int64_t u = 0; u < g->n_users; ++u)
        m->user[u] = pow((double)r2_graph_user_degree(g, (uint32_t)u), -m->p[0]);
    return R2_OK;
}

static void bl_rp3_case(const bl_model *m, uint32_t user, const uint32_t *item, int64_t n,
                        double *near, float *score) {
    const r2_graph *g = &m->run->graph;
    bl_near(g, user, m->bias, near);
    for (int64_t v = 0; v < g->n_users; ++v)
        if (near[v] > 0.0) near[v] *= m->user[v];
    bl_sum_users(g, near, item, n, score);
    for (int64_t k = 0; k < n; ++k)
        score[k] /= (float)pow((double)r2_graph_item_degree(g, item[k]) + 1e-9, m->p[1]);
}

static r2_status bl_rp3(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score) {
    return bl_each_case(ctx, m, c, bl_rp3_case, m->run->graph.n_users, score);
}

/* ---- linear algebra ---- */

enum { BL_BLOCK = 32, BL_STRIP = 64 };

#if defined(__clang__)
#define BL_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BL_UNROLL _Pragma("GCC unroll 8")
#endif

/* row -= factor[0] other[0] + factor[step] other[1] + ..: n numbers, count rows of `other`. */
static void bl_eliminate(double *row, int64_t n, const double *factor, int64_t step,
                         const double *other, int64_t stride, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
        const double f = factor[k * step], *o = other + k * stride;
        for (int64_t j = 0; j < n; ++j) row[j] -= f * o[j];
    }
}

/* Doubles side by side: compilers keep an array of such in registers, if there are as many. */
#if defined(__AVX__)
typedef double bl_some __attribute__((vector_size(32)));
#else
typedef double bl_some __attribute__((vector_size(16)));
#endif
#if defined(__AVX512F__)
enum { BL_ROWS = 8 };
#else
enum { BL_ROWS = 4 };
#endif
enum { BL_COLUMNS = 2 * sizeof(bl_some) / sizeof(double) }; /* of a tile */

static inline bl_some bl_load(const double *p) {
    bl_some x;
    memcpy(&x, p, sizeof x);
    return x;
}

/* The same for a tile of BL_ROWS rows, ldr apart, whose factors are `across` apart: its sums stay
   in registers while k runs. */
static void bl_eliminate_tile(double *row, int64_t ldr, const double *factor, int64_t across,
                              int64_t step, const double *other, int64_t stride, int64_t count) {
    enum { HALF = BL_COLUMNS / 2 };
    bl_some sum[BL_ROWS][2];
    BL_UNROLL for (int r = 0; r < BL_ROWS; ++r) {
        sum[r][0] = bl_load(row + r * ldr);
        sum[r][1] = bl_load(row + r * ldr + HALF);
    }
    for (int64_t k = 0; k < count; ++k) {
        const bl_some left = bl_load(other + k * stride), right = bl_load(other + k * stride + HALF);
        BL_UNROLL for (int r = 0; r < BL_ROWS; ++r) {
            sum[r][0] -= factor[k * step + r * across] * left;
            sum[r][1] -= factor[k * step + r * across] * right;
        }
    }
    BL_UNROLL for (int r = 0; r < BL_ROWS; ++r) {
        memcpy(row + r * ldr, &sum[r][0], sizeof(bl_some));
        memcpy(row + r * ldr + HALF, &sum[r][1], sizeof(bl_some));
    }
}

/* The same for any number of rows and columns. */
static void bl_eliminate_rows(double *row, int64_t ldr, int64_t rows, int64_t n,
                              const double *factor, int64_t across, int64_t step,
                              const double *other, int64_t stride, int64_t count) {
    int64_t r = 0, j = 0;
    for (; r + BL_ROWS <= rows; r += BL_ROWS) {
        for (j = 0; j + BL_COLUMNS <= n; j += BL_COLUMNS)
            bl_eliminate_tile(row + r * ldr + j, ldr, factor + r * across, across, step, other + j,
                              stride, count);
        for (int64_t i = r; i < r + BL_ROWS && j < n; ++i)
            bl_eliminate(row + i * ldr + j, n - j, factor + i * across, step, other + j, stride,
                         count);
    }
    for (; r < rows; ++r)
        bl_eliminate(row + r * ldr, n, factor + r * across, step, other, stride, count);
}

static void bl_divide(double *row, int64_t n, double divisor) {
    for (int64_t j = 0; j < n; ++j) row[j] /= divisor;
}

/* A (n, n), symmetric and positive definite, becomes U^T U: its upper triangle holds U. By blocks
   of rows, so that threads are started once a block and not once a row. */
static void bl_cholesky(const r2_ctx *ctx, double *a, int64_t n) {
    for (int64_t begin = 0, end; begin < n; begin = end) {
        const double *block = a + begin * n;
        end = begin + BL_BLOCK < n ? begin + BL_BLOCK : n;
        for (int64_t i = begin; i < end; ++i) {
            double *row = a + i * n + i;
            bl_eliminate(row, n - i, block + i, n, block + i, n, i - begin);
            bl_divide(row, n - i, sqrt(*row));
        }
        const int64_t bands = (n - end + BL_ROWS - 1) / BL_ROWS;
        R2_PARALLEL_PIECES(r2_threads(ctx, (n - end) * n * BL_BLOCK / 2), k, bands) {
            const int64_t i = end + BL_ROWS * k;
            bl_eliminate_rows(a + i * n + i, n, i + BL_ROWS < n ? BL_ROWS : n - i, n - i, block + i,
                              1, n, block + i, n, end - begin);
        }
    }
}

/* U^T U X = B for B (n, BL_STRIP), which becomes X from the row `first` on. Rows of B before that are
   0. By blocks of rows, so that what is read stays near. */
static void bl_solve_strip(const double *u, double *b, int64_t n, int64_t first) {
    const int64_t cols = BL_STRIP;
    for (int64_t begin = first, end; begin < n; begin = end) {
        end = begin + BL_BLOCK < n ? begin + BL_BLOCK : n;
        for (int64_t k = first; k < begin; k += BL_BLOCK)
            bl_eliminate_rows(b + begin * cols, cols, end - begin, cols, u + k * n + begin, 1, n,
                              b + k * cols, cols, BL_BLOCK);
        for (int64_t i = begin; i < end; ++i) {
            bl_eliminate(b + i * cols, cols, u + begin * n + i, n, b + begin * cols, cols,
                         i - begin);
            bl_divide(b + i * cols, cols, u[i * n + i]);
        }
    }
    for (int64_t end = n, begin; end > first; end = begin) {
        begin = end - BL_BLOCK > first ? end - BL_BLOCK : first;
        for (int64_t k = end; k < n; k += BL_BLOCK)
            bl_eliminate_rows(b + begin * cols, cols, end - begin, cols, u + begin * n + k, n, 1,
                              b + k * cols, cols, k + BL_BLOCK < n ? BL_BLOCK : n - k);
        for (int64_t i = end - 1; i >= begin; --i) {
            bl_eliminate(b + i * cols, cols, u + i * n + i + 1, 1, b + (i + 1) * cols, cols,
                         end - i - 1);
            bl_divide(b + i * cols, cols, u[i * n + i]);
        }
    }
}

/* U^T U x = b for b (n), which becomes x: every solved number is taken out of all others at once. */
static void bl_solve_with(const double *u, double *b, int64_t n) {
    for (int64_t k = 0; k < n; ++k) {
        b[k] /= u[k * n + k];
        bl_eliminate(b + k + 1, n - k - 1, b + k, 0, u + k * n + k + 1, 0, 1);
    }
    for (int64_t k = n - 1; k >= 0; --k) {
        b[k] /= u[k * n + k];
        for (int64_t i = 0; i < k; ++i) b[i] -= u[i * n + k] * b[k];
    }
}

/* Solves A x = b for a symmetric positive definite A (n, n), which becomes U; b becomes x. */
static void bl_solve(const r2_ctx *ctx, double *a, double *b, int64_t n) {
    bl_cholesky(ctx, a, n);
    bl_solve_with(a, b, n);
}

/* Columns first .. of X, from the diagonal on, and the same as rows, since X is symmetric. */
static void bl_keep_strip(double *x, const double *strip, int64_t n, int64_t first) {
    const int64_t width = first + BL_STRIP < n ? BL_STRIP : n - first;
    for (int64_t begin = first; begin < n; begin += BL_BLOCK) {
        const int64_t end = begin + BL_BLOCK < n ? begin + BL_BLOCK : n;
        for (int64_t j = 0; j < width; ++j)
            for (int64_t i = begin > first + j ? begin : first + j; i < end; ++i) {
                x[(first + j) * n + i] = strip[i * BL_STRIP + j];
                x[i * n + first + j] = strip[i * BL_STRIP + j];
            }
    }
}

/* x (n, n) becomes the inverse of A, which becomes U. Threads share strips of its columns, which are
   solved in a room of their own: rows of x are a page or more apart. */
static r2_status bl_invert(r2_ctx *ctx, double *a, double *x, int64_t n) {
    const int64_t strips = (n + BL_STRIP - 1) / BL_STRIP, size = n * BL_STRIP;
    const int threads = r2_threads(ctx, n * n * n);
    double *room = (double *)r2_alloc(ctx, (uint64_t)threads, (uint64_t)size * sizeof *room);
    if (!room) return ctx->status;
    bl_cholesky(ctx, a, n);
    R2_PARALLEL_PIECES(threads, s, strips) {
        double *strip = room + r2_thread() * size;
        const int64_t first = s * BL_STRIP;
        memset(strip, 0, (size_t)size * sizeof *strip);
        for (int64_t j = 0; j < BL_STRIP && first + j < n; ++j)
            strip[(first + j) * BL_STRIP + j] = 1.0;
        bl_solve_strip(a, strip, n, first);
        bl_keep_strip(x, strip, n, first);
    }
    r2_release(ctx, room);
    return R2_OK;
}

static double bl_dot(const double *a, const double *b, int64_t n) {
    double sum = 0.0;
    for (int64_t j = 0; j < n; ++j) sum += a[j] * b[j];
    return sum;
}

/* ---- EASE^R (arXiv 1905.03375), p: ridge, half-life of the query (0: none) ---- */

typedef struct bl_degree {
    int64_t degree;
    uint32_t item;
} bl_degree;

/* The most popular first, of equals the one with the smaller number. */
static int bl_by_degree(const void *a, const void *b) {
    const bl_degree *x = (const bl_degree *)a, *y = (const bl_degree *)b;
    if (x->degree != y->degree) return x->degree > y->degree ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* feature[i] = rank of item i by popularity, 0 the most popular; of equals the one with the smaller
   number comes first. */
static r2_status bl_rank_items(r2_ctx *ctx, bl_model *m) {
    const r2_graph *g = &m->run->graph;
    bl_degree *all = (bl_degree *)r2_alloc(ctx, (uint64_t)g->n_items, sizeof *all);
    m->feature = (int32_t *)r2_arena_alloc(ctx, &m->memory, (uint64_t)g->n_items, sizeof(int32_t));
    for (int64_t i = 0; i < g->n_items && all && m->feature; ++i) {
        all[i].degree = r2_graph_item_degree(g, (uint32_t)i);
        all[i].item = (uint32_t)i;
    }
    if (all && m->feature) {
        qsort(all, (size_t)g->n_items, sizeof *all, bl_by_degree);
        for (int64_t k = 0; k < g->n_items; ++k) m->feature[all[k].item] = (int32_t)k;
    }
    r2_release(ctx, all);
    return all && m->feature ? R2_OK : R2_NO_MEMORY;
}

/* gram (dim, n_items), all 0: how many users have both. Ranks. */
static void bl_count_pairs(const r2_ctx *ctx, const bl_model *m, double *gram) {
    const r2_graph *g = &m->run->graph;
    R2_PARALLEL_PIECES(r2_threads(ctx, m->dim * g->n_items), i, g->n_items) {
        double *row = gram + m->feature[i] * g->n_items;
        if (m->feature[i] >= m->dim) continue;
        for (int64_t a = g->item_begin[i]; a < g->item_begin[i + 1]; ++a) {
            const uint32_t v = g->item_user[a];
            for (int64_t e = g->user_begin[v]; e < g->user_begin[v + 1]; ++e)
                row[m->feature[g->user_item[e]]] += 1.0;
        }
    }
}

/* item = the weights of the features for all items, from gram and P (dim, dim). */
static void bl_ease_weights(const r2_ctx *ctx, bl_model *m, const double *gram, const double *p) {
    const int64_t n = m->dim, n_items = m->run->graph.n_items, rest = n_items - n;
    for (int64_t j = 0; j < n; ++j) m->bias[j] = p[j * n + j];
    R2_PARALLEL_PIECES(r2_threads(ctx, n * n * n), band, (n + BL_ROWS - 1) / BL_ROWS) {
        const int64_t first = BL_ROWS * band, end = first + BL_ROWS < n ? first + BL_ROWS : n;
        bl_eliminate_rows(m->item + first * n_items + n, n_items, end - first, rest, p + first * n, n,
                          1, gram + n, n_items, n);
        for (int64_t i = first; i < end; ++i) {
            double *row = m->item + i * n_items;
            for (int64_t j = 0; j < n; ++j) row[j] = -p[i * n + j] / m->bias[j];
            row[i] = 0.0;
            for (int64_t j = n; j < n_items; ++j) row[j] = -row[j];
        }
    }
}

/* The `most` most popular items predict, the features: themselves by B = I - P / diag(P),
   P = (X^T X + ridge I)^-1, X of these items alone, and every other item j by ridge regression on
   them, P X^T x_j. With all items that is EASE^R. item (dim, n_items) has the weights by ranks,
   bias (dim) = diag(P), feature: see bl_rank_items. */
static r2_status bl_ease_fit_most(r2_ctx *ctx, bl_model *m, int64_t most) {
    const int64_t n_items = m->run->graph.n_items, n = most < n_items ? most : n_items;
    const uint64_t rows = (uint64_t)n;
    double *gram = (double *)r2_alloc(ctx, rows, (uint64_t)n_items * sizeof *gram);
    double *a = (double *)r2_alloc(ctx, rows, rows * sizeof *a);
    double *p = (double *)r2_alloc(ctx, rows, rows * sizeof *p);
    r2_status status = bl_rank_items(ctx, m);
    m->dim = n;
    m->item = bl_array(ctx, m, n, n_items);
    m->bias = bl_array(ctx, m, n, 1);
    if (!gram || !a || !p || !m->item || !m->bias) status = R2_NO_MEMORY;
    if (status == R2_OK) {
        bl_count_pairs(ctx, m, gram);
        for (int64_t i = 0; i < n; ++i) {
            memcpy(a + i * n, gram + i * n_items, rows * sizeof *a);
            a[i * n + i] += m->p[0];
        }
        status = bl_invert(ctx, a, p, n);
        if (status == R2_OK) bl_ease_weights(ctx, m, gram, p);
    }
    r2_release(ctx, gram);
    r2_release(ctx, a);
    r2_release(ctx, p);
    return status;
}

static r2_status bl_ease_fit_items(r2_ctx *ctx, bl_model *m) {
    return bl_ease_fit_most(ctx, m, m->run->graph.n_items);
}

/* The same by K = (X X^T + ridge I)^-1, users by users: for a query q
       q B = (q X^T K X - q d) / (1 - d),  d_j = x_j^T K x_j,  x_j column j of X (users, items).
   user = K, bias = d. */
static r2_status bl_ease_fit_users(r2_ctx *ctx, bl_model *m) {
    const r2_graph *g = &m->run->graph;
    int64_t n = g->n_users;
    double *gram = (double *)r2_alloc(ctx, (uint64_t)n, (uint64_t)n * sizeof *gram);
    r2_status status = R2_NO_MEMORY;
    m->dim = n;
    m->user = bl_array(ctx, m, n, n);
    m->bias = bl_array(ctx, m, g->n_items, 1);
    if (gram && m->user && m->bias) {
        R2_PARALLEL_FOR(r2_threads(ctx, n * n), u, n) {
            bl_near(g, (uint32_t)u, NULL, gram + u * n);
            gram[u * n + u] = (double)r2_graph_user_degree(g, (uint32_t)u) + m->p[0];
        }
        status = bl_invert(ctx, gram, m->user, n);
    }
    if (status == R2_OK) {
        R2_PARALLEL_FOR(r2_threads(ctx, n * n), j, g->n_items) {
            for (int64_t a = g->item_begin[j]; a < g->item_begin[j + 1]; ++a)
                for (int64_t b = g->item_begin[j]; b < g->item_begin[j + 1]; ++b)
                    m->bias[j] += m->user[(int64_t)g->item_user[a] * n + g->item_user[b]];
        }
    }
    r2_release(ctx, gram);
    return status;
}

/* Rows of the matrix to be inverted, which takes time as their cube. Where users and items are more
   than BL_EASE_MOST, the BL_EASE_FEATURES most popular items predict. */
enum { BL_EASE_MOST = 4000, BL_EASE_FEATURES = 2000 };
static int64_t bl_ease_size(const r2_run *run) {
    const r2_graph *g = &run->graph;
    return g->n_items < g->n_users ? g->n_items : g->n_users;
}

/* By the smaller of the two, or, where that is too large, from the most popular items. */
static r2_status bl_ease_fit(r2_ctx *ctx, bl_model *m) {
    const r2_graph *g = &m->run->graph;
    if (bl_ease_size(m->run) > BL_EASE_MOST) return bl_ease_fit_most(ctx, m, BL_EASE_FEATURES);
    return g->n_items < g->n_users ? bl_ease_fit_items(ctx, m) : bl_ease_fit_users(ctx, m);
}

/* query[i] = 0.5^(age / half_life) of the user's first `history` items but `without`, else 0. */
static void bl_ease_query(const bl_model *m, uint32_t u, int64_t history, uint32_t without,
                          double *evidence) {
    const r2_graph *g = &m->run->graph;
    double age = 0.0;
    memset(evidence, 0, (size_t)g->n_items * sizeof *evidence);
    for (int64_t p = history - 1; p >= 0; --p) {
        uint32_t i = g->user_item[m->run->index.by_time[g->user_begin[u] + p]];
        if (i == without) continue;
        evidence[i] = m->p[1] > 0.0 ? exp2(-age / m->p[1]) : 1.0;
        age += 1.0;
    }
}

/* row[k] = q B at item[k], from B. Who has none of the features gets 0 for every item: popularity,
   weighted next to nothing, breaks the tie. */
static void bl_ease_row_items(const bl_model *m, uint32_t u, const double *evidence,
                              const uint32_t *item, int64_t n, float *row) {
    const r2_graph *g = &m->run->graph;
    for (int64_t k = 0; k < n; ++k) {
        const double *to = m->item + m->feature[item[k]];
        double sum = m->dim < g->n_items ? 1e-9 * (double)r2_graph_item_degree(g, item[k]) : 0.0;
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) {
            const int64_t from = m->feature[g->user_item[e]];
            if (from < m->dim) sum += evidence[g->user_item[e]] * to[from * g->n_items];
        }
        row[k] = (float)sum;
    }
}

/* near = K X q, X without the row of user `without` (-1: all are there). near (n_users). */
static void bl_ease_near(const bl_model *m, const double *evidence, int64_t without, double *near) {
    const r2_graph *g = &m->run->graph;
    memset(near, 0, (size_t)g->n_users * sizeof *near);
    for (int64_t v = 0; v < g->n_users; ++v) {
        double seen = 0.0; /* X q */
        for (int64_t e = g->user_begin[v]; e < g->user_begin[v + 1] && v != without; ++e)
            seen += evidence[g->user_item[e]];
        for (int64_t w = 0; w < g->n_users && seen != 0.0; ++w)
            near[w] += seen * m->user[v * g->n_users + w];
    }
}

/* The same row from K. near: scratch. */
static void bl_ease_row_users(const bl_model *m, const double *evidence, const uint32_t *item,
                              int64_t n, double *near, float *row) {
    bl_ease_near(m, evidence, -1, near);
    bl_sum_users(&m->run->graph, near, item, n, row);
    for (int64_t k = 0; k < n; ++k) {
        double d = m->bias[item[k]];
        row[k] = (float)(((double)row[k] - evidence[item[k]] * d) / (1.0 - d));
    }
}

static void bl_ease_case(const bl_model *m, uint32_t user, const uint32_t *item, int64_t n,
                         double *scratch, float *score) {
    const r2_graph *g = &m->run->graph;
    bl_ease_query(m, user, r2_graph_user_degree(g, user), R2_NO_ITEM, scratch);
    if (m->item) bl_ease_row_items(m, user, scratch, item, n, score);
    else bl_ease_row_users(m, scratch, item, n, scratch + g->n_items, score);
}

static r2_status bl_ease(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score) {
    const r2_graph *g = &m->run->graph;
    return bl_each_case(ctx, m, c, bl_ease_case, 2 * g->n_items + g->n_users, score);
}

/* ---- EASE^R without u0: what it would say had u0 never been there. To take a user out of the
   matrix changes its inverse by a product of two vectors, so nothing is fitted anew ---- */

/* P' = P + z z^T / (1 - x^T z), z = P x, x the row of u0. For a query q that does not hold item i,
   `deep` becomes -(q P')_i / P'_ii. z (n_items) by ranks: scratch. */
static void bl_ease_unseen_items(const bl_model *m, const double *q, const r2_question *question,
                                 int64_t n, double *z, r2_evidence *evidence) {
    const r2_graph *g = &m->run->graph;
    const uint32_t u0 = question->user;
    const int64_t begin = g->user_begin[u0], end = g->user_begin[u0 + 1];
    double left = 1.0, asked = 0.0; /* 1 - x^T z, q z */
    memset(z, 0, (size_t)g->n_items * sizeof *z);
    for (int64_t e = begin; e < end; ++e) {
        const double *b = m->item + m->feature[g->user_item[e]] * g->n_items;
        for (int64_t i = 0; i < g->n_items; ++i) z[i] -= b[i];
        z[m->feature[g->user_item[e]]] += 1.0;
    }
    for (int64_t i = 0; i < g->n_items; ++i) z[i] *= m->bias[i];
    for (int64_t e = begin; e < end; ++e) {
        left -= z[m->feature[g->user_item[e]]];
        asked += z[m->feature[g->user_item[e]]] * q[g->user_item[e]];
    }
    for (int64_t k = 0; k < n; ++k) {
        const uint32_t item = question[k].item;
        const double p = m->bias[m->feature[item]], mine = z[m->feature[item]];
        float seen; /* q B = -q P / diag(P), but on the diagonal */
        bl_ease_row_items(m, u0, q, &item, 1, &seen);
        evidence[k].value[R2_FIELD_deep] = (float)(((double)seen * p - asked * mine / left) /
                                                   (p + mine * mine / left));
    }
}

/* K' = K - k k^T / K_uu, k the column of u0: the inverse of the matrix without its row and column.
   `deep` becomes q X^T K' x_i / (1 - d'_i). near (n_users): scratch. */
static void bl_ease_unseen_users(const bl_model *m, const double *q, const r2_question *question,
                                 int64_t n, double *near, r2_evidence *evidence) {
    const r2_graph *g = &m->run->graph;
    const uint32_t u0 = question->user;
    const double *of_u0 = m->user + (int64_t)u0 * g->n_users;
    double share;
    bl_ease_near(m, q, u0, near);
    share = near[u0] / of_u0[u0];
    for (int64_t v = 0; v < g->n_users; ++v) near[v] -= share * of_u0[v];
    near[u0] = 0.0;
    for (int64_t k = 0; k < n; ++k) {
        const uint32_t item = question[k].item;
        double d = m->bias[item], sum = 0.0, others = 0.0, own = 0.0;
        for (int64_t a = g->item_begin[item]; a < g->item_begin[item + 1]; ++a) {
            sum += near[g->item_user[a]];
            if (g->item_user[a] == u0) own = 1.0;
            else others += of_u0[g->item_user[a]];
        }
        d -= own * (2.0 * others + of_u0[u0]) + others * others / of_u0[u0];
        evidence[k].value[R2_FIELD_deep] = (float)(sum / (1.0 - d));
    }
}

/* Answers n questions of one user and history, none of whose items the query holds. scratch (n_items +
   the larger of n_items and n_users). */
static void bl_ease_unseen(const bl_model *m, const r2_question *question, int64_t n,
                           double *scratch, r2_evidence *evidence) {
    double *q = scratch, *rest = scratch + m->run->graph.n_items;
    bl_ease_query(m, question->user, question->n_history, question->item, q);
    if (m->item) bl_ease_unseen_items(m, q, question, n, rest, evidence);
    else bl_ease_unseen_users(m, q, question, n, rest, evidence);
}

/* ---- factors: score = bias + user . item ---- */

static r2_status bl_factors(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score) {
    R2_PARALLEL_FOR(r2_threads(ctx, c->n_cases * c->n_per_case), k, c->n_cases * c->n_per_case) {
        const double *u = m->user + (int64_t)c->user[k / c->n_per_case] * m->dim;
        const double *i = m->item + (int64_t)c->item[k] * m->dim;
        score[k] = (float)((m->bias ? m->bias[c->item[k]] : 0.0) + bl_dot(u, i, m->dim));
    }
    return R2_OK;
}

/* Factors drawn from N(0, scale), each user's and item's from its own numbers. */
static r2_status bl_factors_init(r2_ctx *ctx, bl_model *m, int64_t dim, double scale) {
    const r2_graph *g = &m->run->graph;
    m->dim = dim;
    m->user = bl_array(ctx, m, g->n_users, dim);
    m->item = bl_array(ctx, m, g->n_items, dim);
    m->bias = bl_array(ctx, m, g->n_items, 1);
    if (!m->user || !m->item || !m->bias) return ctx->status;
    for (int64_t k = 0; k < g->n_users + g->n_items; ++k) {
        r2_rng rng = r2_rng_make(m->run->config.seed, R2_STREAM_INIT, (uint64_t)k);
        double *row = k < g->n_users ? m->user + k * dim : m->item + (k - g->n_users) * dim;
        for (int64_t j = 0; j < dim; ++j) row[j] = scale * r2_rng_normal(&rng);
    }
    return R2_OK;
}

/* ---- iALS (Hu et al., ICDM 2008; regularised as in arXiv 2110.14037), p: factors, weight of the
   unobserved, regularisation ---- */

/* One side's factors, given the other's: row k minimises
       sum over its edges (1 - x . y)^2 + p[1] sum over all (x . y)^2
       + p[2] (edges + p[1] others) x^2. */
static r2_status bl_ials_side(r2_ctx *ctx, const bl_model *m, double *x, const double *y,
                              int64_t n_x, int64_t n_y, const int64_t *begin,
                              const uint32_t *other) {
    int64_t d = m->dim;
    double gram[64 * 64];
    memset(gram, 0, sizeof gram);
    if (d > 64) return r2_fail(ctx, R2_ARGUMENT, "ials: at most 64 factors");
    for (int64_t k = 0; k < n_y; ++k)
        for (int64_t a = 0; a < d; ++a)
            for (int64_t b = 0; b < d; ++b)
                gram[a * d + b] += m->p[1] * y[k * d + a] * y[k * d + b];
    R2_PARALLEL_FOR(r2_threads(ctx, n_x * d * d), k, n_x) {
        r2_ctx own = *ctx;
        double a[64 * 64], *b = x + k * d;
        double ridge = m->p[2] * ((double)(begin[k + 1] - begin[k]) + m->p[1] * (double)n_y);
        own.n_threads = 1;
        memcpy(a, gram, (size_t)(d * d) * sizeof *a);
        memset(b, 0, (size_t)d * sizeof *b);
        for (int64_t e = begin[k]; e < begin[k + 1]; ++e) {
            const double *row = y + (int64_t)other[e] * d;
            for (int64_t i = 0; i < d; ++i) {
                b[i] += row[i];
                for (int64_t j = i; j < d; ++j) a[i * d + j] += row[i] * row[j];
            }
        }
        for (int64_t i = 0; i < d; ++i) a[i * d + i] += ridge + 1e-9;
        bl_solve(&own, a, b, d);
    }
    return R2_OK;
}

static r2_status bl_ials_fit(r2_ctx *ctx, bl_model *m) {
    const r2_graph *g = &m->run->graph;
    r2_status status = bl_factors_init(ctx, m, (int64_t)m->p[0], 0.1 / sqrt(m->p[0]));
    for (int round = 0; round < 12 && status == R2_OK; ++round) {
        status = bl_ials_side(ctx, m, m->user, m->item, g->n_users, g->n_items, g->user_begin,
                              g->user_item);
        if (status == R2_OK)
            status = bl_ials_side(ctx, m, m->item, m->user, g->n_items, g->n_users, g->item_begin,
                                  g->item_user);
    }
    return status;
}

/* ---- BPR (arXiv 1205.2618), p: factors, regularisation, epochs ---- */

typedef struct bl_triple {
    uint32_t user, taken, other;
} bl_triple;

/* A random edge and an item that its user has no edge with. */
static bl_triple bl_draw_triple(const r2_graph *g, const uint32_t *owner, r2_rng *rng) {
    bl_triple t;
    uint64_t e = r2_rng_below(rng, (uint64_t)g->n_edges);
    t.user = owner[e];
    t.taken = t.other = g->user_item[e];
    for (int k = 0; k < 100 && r2_graph_find(g, t.user, t.other) >= 0; ++k)
        t.other = (uint32_t)r2_rng_below(rng, (uint64_t)g->n_items);
    return t;
}

/* owner[e] = user of edge e. */
static uint32_t *bl_owners(r2_ctx *ctx, const r2_graph *g) {
    uint32_t *owner = (uint32_t *)r2_alloc(ctx, (uint64_t)g->n_edges, sizeof *owner);
    for (int64_t u = 0; owner && u < g->n_users; ++u)
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) owner[e] = (uint32_t)u;
    return owner;
}

/* One step of gradient ascent on log sigmoid(s(taken) - s(other)). */
static void bl_bpr_step(bl_model *m, bl_triple t, double lr) {
    double *u = m->user + (int64_t)t.user * m->dim, reg = m->p[1];
    double *i = m->item + (int64_t)t.taken * m->dim, *j = m->item + (int64_t)t.other * m->dim;
    double gap = m->bias[t.taken] - m->bias[t.other], slope;
    for (int64_t k = 0; k < m->dim; ++k) gap += u[k] * (i[k] - j[k]);
    slope = 1.0 / (1.0 + exp(gap));
    m->bias[t.taken] += lr * (slope - reg * m->bias[t.taken]);
    m->bias[t.other] += lr * (-slope - reg * m->bias[t.other]);
    for (int64_t k = 0; k < m->dim; ++k) {
        double uk = u[k];
        u[k] += lr * (slope * (i[k] - j[k]) - reg * uk);
        i[k] += lr * (slope * uk - reg * i[k]);
        j[k] += lr * (-slope * uk - reg * j[k]);
    }
}

static r2_status bl_bpr_fit(r2_ctx *ctx, bl_model *m) {
    const r2_graph *g = &m->run->graph;
    int64_t n_steps = (int64_t)m->p[2] * g->n_edges;
    uint32_t *owner = bl_owners(ctx, g);
    r2_rng rng = r2_rng_make(m->run->config.seed, R2_STREAM_NEGATIVES, 0);
    r2_status status = owner ? bl_factors_init(ctx, m, (int64_t)m->p[0], 0.1) : R2_NO_MEMORY;
    for (int64_t k = 0; k < n_steps && status == R2_OK; ++k)
        bl_bpr_step(m, bl_draw_triple(g, owner, &rng), 0.05 * (1.0 - (double)k / (double)n_steps));
    r2_release(ctx, owner);
    return status;
}

/* ---- LightGCN (arXiv 2002.02126), p: layers, weight decay, epochs ---- */

/* One step over the graph: to_u = sum over its items of from_i / sqrt(n_u n_i), and the same for
   the items. Symmetric, so the gradient travels by the same function. Rows: users, then items. */
static void bl_propagate(const r2_ctx *ctx, const r2_graph *g, int64_t dim, const double *from,
                         double *to) {
    R2_PARALLEL_FOR(r2_threads(ctx, g->n_edges * dim), k, g->n_users + g->n_items) {
        bool is_user = k < g->n_users;
        const int64_t *begin = is_user ? &g->user_begin[k] : &g->item_begin[k - g->n_users];
        double *row = to + k * dim, degree = (double)(begin[1] - begin[0]);
        memset(row, 0, (size_t)dim * sizeof *row);
        for (int64_t e = begin[0]; e < begin[1]; ++e) {
            uint32_t other = is_user ? g->user_item[e] : g->item_user[e];
            const double *add = from + ((int64_t)other + (is_user ? g->n_users : 0)) * dim;
            double n = (double)(is_user ? r2_graph_item_degree(g, other)
                                        : r2_graph_user_degree(g, other));
            double weight = 1.0 / sqrt(degree * n);
            for (int64_t j = 0; j < dim; ++j) row[j] += weight * add[j];
        }
    }
}

/* out = mean over 0 .. layers of the graph's powers times `in`; a and b: scratch of that size. */
static void bl_smooth(const r2_ctx *ctx, const r2_graph *g, int64_t dim, int layers,
                      const double *in, double *out, double *a, double *b) {
    int64_t n = (g->n_users + g->n_items) * dim;
    memcpy(a, in, (size_t)n * sizeof *a);
    memcpy(out, in, (size_t)n * sizeof *out);
    for (int layer = 0; layer < layers; ++layer) {
        double *change = a;
        bl_propagate(ctx, g, dim, a, b);
        for (int64_t j = 0; j < n; ++j) out[j] += b[j];
        a = b;
        b = change;
    }
    for (int64_t j = 0; j < n; ++j) out[j] /= layers + 1;
}

/* grad += d of the batch's mean BPR loss by the smoothed factors. */
static void bl_bpr_gradient(const r2_graph *g, int64_t dim, const double *smooth,
                            const bl_triple *t, int64_t n, double *grad) {
    for (int64_t k = 0; k < n; ++k) {
        int64_t at[3] = {t[k].user * dim, (g->n_users + t[k].taken) * dim,
                         (g->n_users + t[k].other) * dim};
        const double *u = smooth + at[0], *i = smooth + at[1], *o = smooth + at[2];
        double slope = 1.0 / (1.0 + exp(bl_dot(u, i, dim) - bl_dot(u, o, dim))) / (double)n;
        for (int64_t j = 0; j < dim; ++j) {
            grad[at[0] + j] -= slope * (i[j] - o[j]);
            grad[at[1] + j] -= slope * u[j];
            grad[at[2] + j] += slope * u[j];
        }
    }
}

/* Adam with its usual constants, on n numbers at step t = 1, 2, ... */
static void bl_adam(double *x, const double *grad, double *first, double *second, int64_t n,
                    int64_t t, double lr) {
    double fix1 = 1.0 - pow(0.9, (double)t), fix2 = 1.0 - pow(0.999, (double)t);
    for (int64_t j = 0; j < n; ++j) {
        first[j] = 0.9 * first[j] + 0.1 * grad[j];
        second[j] = 0.999 * second[j] + 0.001 * grad[j] * grad[j];
        x[j] -= lr * (first[j] / fix1) / (sqrt(second[j] / fix2) + 1e-8);
    }
}

static r2_status bl_lightgcn_fit(r2_ctx *ctx, bl_model *m) {
    enum { DIM = 32, BATCH = 4096 };
    const r2_graph *g = &m->run->graph;
    int64_t n = (g->n_users + g->n_items) * DIM, layers = (int64_t)m->p[0];
    int64_t n_steps = (int64_t)m->p[2] * (g->n_edges / BATCH + 1);
    double *x = bl_array(ctx, m, n, 1), *smooth = bl_array(ctx, m, n, 1);
    double *grad = bl_array(ctx, m, n, 1), *back = bl_array(ctx, m, n, 1);
    double *first = bl_array(ctx, m, n, 1), *second = bl_array(ctx, m, n, 1);
    double *a = bl_array(ctx, m, n, 1), *b = bl_array(ctx, m, n, 1);
    uint32_t *owner = bl_owners(ctx, g);
    bl_triple *t = (bl_triple *)r2_alloc(ctx, BATCH, sizeof *t);
    r2_rng rng = r2_rng_make(m->run->config.seed, R2_STREAM_NEGATIVES, 0);
    r2_status status = x && smooth && grad && back && first && second && a && b && owner && t
                           ? bl_factors_init(ctx, m, DIM, 0.1)
                           : R2_NO_MEMORY;
    if (status == R2_OK) {
        memcpy(x, m->user, (size_t)(g->n_users * DIM) * sizeof *x);
        memcpy(x + g->n_users * DIM, m->item, (size_t)(g->n_items * DIM) * sizeof *x);
    }
    for (int64_t step = 0; step < n_steps && status == R2_OK; ++step) {
        for (int k = 0; k < BATCH; ++k) t[k] = bl_draw_triple(g, owner, &rng);
        bl_smooth(ctx, g, DIM, (int)layers, x, smooth, a, b);
        memset(grad, 0, (size_t)n * sizeof *grad);
        bl_bpr_gradient(g, DIM, smooth, t, BATCH, grad);
        bl_smooth(ctx, g, DIM, (int)layers, grad, back, a, b);
        for (int64_t j = 0; j < n; ++j) back[j] += m->p[1] * x[j] / BATCH;
        bl_adam(x, back, first, second, n, step + 1, 0.005);
        status = r2_progress(ctx, "lightgcn", step + 1, n_steps);
    }
    if (status == R2_OK) {
        bl_smooth(ctx, g, DIM, (int)layers, x, smooth, a, b);
        m->user = smooth;
        m->item = smooth + g->n_users * DIM;
    }
    r2_release(ctx, owner);
    r2_release(ctx, t);
    return status;
}

/* ---- SASRec (arXiv 1808.09781) on r2_model: a causal transformer over a user's items, with the
   full softmax in place of sampled negatives; p: width, epochs, learning rate ---- */

enum { BL_SAS_LONGEST = 50, BL_SAS_USERS = 16 };

/* The user's interactions [first, end), oldest first, after the start token; returns the tokens. */
static int32_t bl_sas_history(const r2_run *run, uint32_t u, int64_t first, int64_t end,
                              int32_t *token) {
    const r2_graph *g = &run->graph;
    int32_t n = 0;
    token[n++] = (int32_t)g->n_items;
    for (int64_t p = first; p < end; ++p)
        token[n++] = (int32_t)g->user_item[run->index.by_time[g->user_begin[u] + p]];
    return n;
}

/* A window of each of the next users; every item is predicted from those before it. */
static int32_t bl_sas_batch(const r2_run *run, const uint32_t *user, r2_rng *rng, int32_t *begin,
                            int32_t *token, int32_t *row, int32_t *next) {
    int32_t n_pred = 0, last[BL_SAS_LONGEST + 2];
    begin[0] = 0;
    for (int s = 0; s < BL_SAS_USERS; ++s) {
        int64_t degree = r2_graph_user_degree(&run->graph, user[s]), first = 0;
        int32_t n;
        if (degree > BL_SAS_LONGEST)
            first = (int64_t)r2_rng_below(rng, (uint64_t)(degree - BL_SAS_LONGEST) + 1);
        if (degree > first + BL_SAS_LONGEST) degree = first + BL_SAS_LONGEST;
        n = bl_sas_history(run, user[s], first, degree, last);
        begin[s + 1] = begin[s] + n;
        for (int32_t k = 0; k < n; ++k) {
            token[begin[s] + k] = last[k];
            if (k == 0) continue;
            row[n_pred] = begin[s] + k - 1;
            next[n_pred++] = last[k];
        }
    }
    return n_pred;
}

static r2_status bl_sas_train(r2_ctx *ctx, bl_model *m, r2_adamw *opt) {
    enum { ROWS = BL_SAS_USERS * (BL_SAS_LONGEST + 1) };
    const r2_graph *g = &m->run->graph;
    int32_t begin[BL_SAS_USERS + 1], token[ROWS], row[ROWS], next[ROWS];
    float logp[ROWS], dlogp[ROWS];
    uint32_t user[BL_SAS_USERS], *owner = bl_owners(ctx, g);
    r2_rng rng = r2_rng_make(m->run->config.seed, R2_STREAM_BATCH, 0);
    int64_t n_steps = (int64_t)m->p[1] * g->n_edges / ROWS + 1;
    r2_status status = owner ? R2_OK : R2_NO_MEMORY;
    for (int64_t step = 0; step < n_steps && status == R2_OK; ++step) {
        r2_batch batch;
        memset(&batch, 0, sizeof batch);
        for (int s = 0; s < BL_SAS_USERS; ++s) /* in proportion to their interactions */
            user[s] = owner[r2_rng_below(&rng, (uint64_t)g->n_edges)];
        batch.n_pred = bl_sas_batch(m->run, user, &rng, begin, token, row, next);
        batch.n_seq = BL_SAS_USERS;
        batch.seq_begin = begin;
        batch.token = token;
        batch.pred_row = row;
        batch.pred_token = next;
        status = r2_forward(ctx, m->net, &batch, logp, NULL);
        for (int32_t k = 0; k < batch.n_pred; ++k) dlogp[k] = -1.0f / (float)batch.n_pred;
        r2_zero_grad(ctx, m->net);
        if (status == R2_OK) status = r2_backward(ctx, m->net, &batch, dlogp);
        if (status == R2_OK)
            status = r2_adamw_step(ctx, opt, m->net,
                                   r2_lr_cosine(step, n_steps, 20, (float)m->p[2], 0.1f), NULL);
        if (status == R2_OK) status = r2_progress(ctx, "sasrec", step + 1, n_steps);
    }
    r2_release(ctx, owner);
    return status;
}

static r2_status bl_sasrec_fit(r2_ctx *ctx, bl_model *m) {
    r2_model_config config = r2_model_config_default();
    r2_adamw_config adamw = r2_adamw_config_default();
    r2_adamw opt;
    r2_status status;
    config.n_vocab = (int32_t)m->run->graph.n_items + 1;
    config.n_ctx = BL_SAS_LONGEST + 1;
    config.n_layer = 2;
    config.n_head = config.n_kv_head = 2;
    config.d_model = (int32_t)m->p[0];
    config.d_ff = 2 * config.d_model;
    config.tied = true;
    config.seed = m->run->config.seed;
    adamw.weight_decay = 0.1f;
    m->net = (r2_model *)r2_alloc(ctx, 1, sizeof *m->net);
    if (!m->net) return ctx->status;
    status = r2_model_init(ctx, m->net, &config, true);
    if (status == R2_OK) status = r2_adamw_init(ctx, &opt, m->net, &adamw);
    if (status != R2_OK) return status;
    status = bl_sas_train(ctx, m, &opt);
    r2_adamw_free(ctx, &opt);
    return status;
}

/* One sequence a user, every candidate asked for after its last row. */
static r2_status bl_sasrec(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score) {
    int32_t *row = (int32_t *)r2_alloc(ctx, (uint64_t)c->n_per_case, sizeof *row);
    int32_t *next = (int32_t *)r2_alloc(ctx, (uint64_t)c->n_per_case, sizeof *next);
    r2_status status = row && next ? R2_OK : R2_NO_MEMORY;
    for (int64_t s = 0; s < c->n_cases && status == R2_OK; ++s) {
        int64_t n = r2_graph_user_degree(&m->run->graph, c->user[s]);
        int32_t token[BL_SAS_LONGEST + 2], begin[2] = {0, 0};
        r2_batch batch;
        memset(&batch, 0, sizeof batch);
        begin[1] = bl_sas_history(m->run, c->user[s], n > BL_SAS_LONGEST ? n - BL_SAS_LONGEST : 0,
                                  n, token);
        for (int64_t k = 0; k < c->n_per_case; ++k) {
            row[k] = begin[1] - 1;
            next[k] = (int32_t)c->item[s * c->n_per_case + k];
        }
        batch.n_seq = 1;
        batch.seq_begin = begin;
        batch.token = token;
        batch.n_pred = (int32_t)c->n_per_case;
        batch.pred_row = row;
        batch.pred_token = next;
        status = r2_forward(ctx, m->net, &batch, score + s * c->n_per_case, NULL);
    }
    r2_release(ctx, row);
    r2_release(ctx, next);
    return status;
}

/* ---- logistic regression on the words of our own prompts: the control that shows what a linear
   sum of the same evidence is worth; p: L2, and whether an item is judged by itself (0: observed or
   not) or chosen out of its group (1: conditional logit, which is nearer to ranking) ---- */

/* A feature is a word at a place of the prompt. feature (places, words) gives its column or -1;
   dim counts the columns, that of the constant included. Only what the training prompts hold gets
   one, in order of place, so that the columns of an example ascend. */
static r2_status bl_features(r2_ctx *ctx, bl_model *m) {
    const r2_examples *ex = &m->run->train;
    int64_t places = ex->prompt_begin[1] - ex->prompt_begin[0], words = m->run->vocab.n_words;
    m->feature = (int32_t *)r2_arena_alloc(ctx, &m->memory, (uint64_t)(places * words),
                                           sizeof(int32_t));
    if (!m->feature) return ctx->status;
    for (int64_t k = 0; k < places * words; ++k) m->feature[k] = -1;
    for (int64_t e = 0; e < ex->n; ++e)
        for (int64_t k = 0; k < places; ++k)
            m->feature[k * words + ex->prompt[ex->prompt_begin[e] + k]] = 0;
    m->dim = 1;
    for (int64_t k = 0; k < places * words; ++k)
        if (m->feature[k] == 0) m->feature[k] = (int32_t)m->dim++;
    return R2_OK;
}

/* Columns of example e; returns how many. */
static int64_t bl_columns(const bl_model *m, const r2_examples *ex, int64_t e, int32_t *column) {
    int64_t n = 0, places = ex->prompt_begin[e + 1] - ex->prompt_begin[e];
    column[n++] = 0;
    for (int64_t k = 0; k < places; ++k) {
        int32_t word = ex->prompt[ex->prompt_begin[e] + k];
        int32_t at = m->feature[k * m->run->vocab.n_words + word];
        if (at >= 0) column[n++] = at;
    }
    return n;
}

static double bl_log_odds(const double *weight, const int32_t *column, int64_t n) {
    double sum = 0.0;
    for (int64_t k = 0; k < n; ++k) sum += weight[column[k]];
    return sum;
}

/* What a thread sums up: every n_threads-th row of the Hessian and of the gradient, over all examples
   in their order, so that the sums do not depend on the number of threads. */
typedef struct bl_sums {
    int32_t *column, *met; /* (group, places) columns of each item; all columns of the group, once */
    double *mean;          /* (dim) of the group, by the items' probabilities                      */
    double *odds;          /* (group)                                                              */
    double *gradient, *hessian; /* (dim), (dim, dim), of all threads */
    bool *mine;                 /* (dim) whether a row is this thread's */
    bool curved;                /* whether the Hessian is wanted        */
    int n_threads;
} bl_sums;

/* Adds slope x to the gradient and weight x x^T to the upper triangle, for x that is 1 in n columns,
   which ascend. */
static void bl_add_example(const bl_sums *s, int64_t d, const int32_t *column, int64_t n,
                           double slope, double weight) {
    for (int64_t a = 0; a < n; ++a) {
        double *row = s->hessian + column[a] * d;
        if (!s->mine[column[a]]) continue;
        s->gradient[column[a]] += slope;
        for (int64_t b = a; b < n && s->curved; ++b) row[column[b]] += weight;
    }
}

/* Log-likelihood of "observed", item by item. */
static void bl_add_items(const bl_model *m, const r2_examples *ex, int64_t first, bl_sums *s) {
    for (int64_t e = first; e < first + ex->group; ++e) {
        const int64_t n = bl_columns(m, ex, e, s->column);
        const double p = 1.0 / (1.0 + exp(-bl_log_odds(m->bias, s->column, n)));
        bl_add_example(s, m->dim, s->column, n, (double)(ex->answer[e] > 0) - p, p * (1.0 - p));
    }
}

/* Takes mean mean^T, of the n columns met, out of the triangle; mean becomes 0. */
static void bl_take_mean(const bl_sums *s, int64_t d, int64_t n) {
    for (int64_t a = 0; a < n; ++a) {
        double *row = s->hessian + s->met[a] * d;
        const double mine = s->mean[s->met[a]];
        for (int64_t b = a; b < n && s->mine[s->met[a]]; ++b)
            row[s->met[b]] -= mine * s->mean[s->met[b]];
    }
    for (int64_t a = 0; a < n; ++a) s->mean[s->met[a]] = 0.0;
}

/* Log-likelihood of choosing the observed item, the first, out of its group. */
static void bl_add_choice(const bl_model *m, const r2_examples *ex, int64_t first, bl_sums *s) {
    const int64_t places = ex->longest + 1;
    double total = 0.0, *odds = s->odds;
    int64_t n = 0, n_met = 0;
    for (int64_t k = 0; k < ex->group; ++k) {
        n = bl_columns(m, ex, first + k, s->column + k * places);
        odds[k] = exp(bl_log_odds(m->bias, s->column + k * places, n));
        total += odds[k];
    }
    for (int64_t k = 0; k < ex->group; ++k)
        bl_add_example(s, m->dim, s->column + k * places, n, (double)(k == 0) - odds[k] / total,
                       odds[k] / total);
    if (!s->curved) return;
    for (int64_t j = 0; j < n; ++j) /* place by place, so that these ascend, too */
        for (int64_t k = 0; k < ex->group; ++k) {
            const int32_t column = s->column[k * places + j];
            if (s->mean[column] == 0.0) {
                int64_t at = n_met++;
                for (; at > 0 && s->met[at - 1] > column; --at) s->met[at] = s->met[at - 1];
                s->met[at] = column;
            }
            s->mean[column] += odds[k] / total;
        }
    bl_take_mean(s, m->dim, n_met);
}

/* Gradient and, where wanted, Hessian (upper triangle) of the log-likelihood, minus L2. s: one a
   thread. */
static void bl_logistic_sums(const bl_model *m, bl_sums *s, bool curved) {
    const r2_examples *ex = &m->run->train;
    const int64_t d = m->dim;
    if (curved) memset(s->hessian, 0, (size_t)(d * d) * sizeof *s->hessian);
    for (int t = 0; t < s->n_threads; ++t) s[t].curved = curved;
    for (int64_t j = 0; j < d; ++j) {
        const double l2 = j ? m->p[0] : 1e-6;
        if (curved) s->hessian[j * d + j] = l2;
        s->gradient[j] = -l2 * m->bias[j];
    }
    R2_PARALLEL_FOR(s->n_threads, t, s->n_threads) {
        for (int64_t e = 0; e < ex->n; e += ex->group)
            if (m->p[1] > 0.0) bl_add_choice(m, ex, e, &s[t]);
            else bl_add_items(m, ex, e, &s[t]);
    }
}

/* The sums of `threads` threads, or NULL. */
static bl_sums *bl_sums_alloc(r2_ctx *ctx, r2_arena *memory, const bl_model *m, int threads) {
    const uint64_t d = (uint64_t)m->dim, group = (uint64_t)m->run->train.group;
    const uint64_t places = (uint64_t)m->run->train.longest + 1;
    double *gradient = (double *)r2_arena_alloc(ctx, memory, d, sizeof *gradient);
    double *hessian = (double *)r2_arena_alloc(ctx, memory, d * d, sizeof *hessian);
    bl_sums *s = (bl_sums *)r2_arena_alloc(ctx, memory, (uint64_t)threads, sizeof *s);
    if (!gradient || !hessian || !s) return NULL;
    for (int t = 0; t < threads; ++t) {
        s[t].column = (int32_t *)r2_arena_alloc(ctx, memory, group * places, sizeof(int32_t));
        s[t].met = (int32_t *)r2_arena_alloc(ctx, memory, group * places, sizeof(int32_t));
        s[t].mean = (double *)r2_arena_alloc(ctx, memory, d, sizeof(double));
        s[t].odds = (double *)r2_arena_alloc(ctx, memory, group, sizeof(double));
        s[t].mine = (bool *)r2_arena_alloc(ctx, memory, d, sizeof(bool));
        if (!s[t].column || !s[t].met || !s[t].mean || !s[t].odds || !s[t].mine) return NULL;
        s[t].gradient = gradient, s[t].hessian = hessian;
        s[t].n_threads = threads;
        for (uint64_t j = (uint64_t)t; j < d; j += (uint64_t)threads) s[t].mine[j] = true;
    }
    return s;
}

/* Newton's method. Far from the optimum each step has its own Hessian; near it, where that hardly
   changes, the last one serves, and a step costs as much as the gradient. */
static r2_status bl_logistic_fit(r2_ctx *ctx, bl_model *m) {
    r2_status status = bl_features(ctx, m);
    r2_arena memory = {NULL, 0, 0};
    bl_sums *s;
    if (status != R2_OK) return status;
    m->bias = bl_array(ctx, m, m->dim, 1);
    s = bl_sums_alloc(ctx, &memory, m, r2_threads(ctx, m->run->train.n * 1000));
    if (!m->bias || !s) status = R2_NO_MEMORY;
    for (double moved = 1.0; moved > 1e-5 && status == R2_OK;) {
        const bool far = moved > 0.1;
        bl_logistic_sums(m, s, far);
        if (far) bl_cholesky(ctx, s->hessian, m->dim);
        bl_solve_with(s->hessian, s->gradient, m->dim);
        moved = 0.0;
        for (int64_t j = 0; j < m->dim; ++j) {
            m->bias[j] += s->gradient[j];
            moved = fmax(moved, fabs(s->gradient[j]));
        }
    }
    r2_arena_free(ctx, &memory);
    return status;
}

static r2_status bl_logistic(r2_ctx *ctx, const bl_model *m, const r2_candidates *c, float *score) {
    int32_t *column = (int32_t *)r2_alloc(ctx, (uint64_t)m->run->train.longest + 1, sizeof *column);
    const r2_examples *asked = m->asked_of == c ? m->asked : NULL;
    r2_examples made;
    r2_status status = column ? R2_OK : R2_NO_MEMORY;
    memset(&made, 0, sizeof made);
    if (status == R2_OK && !asked) status = r2_run_candidate_prompts(ctx, m->run, c, NULL, &made);
    if (!asked) asked = &made;
    for (int64_t k = 0; k < c->n_cases * c->n_per_case && status == R2_OK; ++k)
        score[k] = (float)bl_log_odds(m->bias, column, bl_columns(m, asked, k, column));
    r2_examples_free(ctx, &made);
    r2_release(ctx, column);
    return status;
}

/* ---- the table ---- */

/* clang-format off: a table reads best as one */
static const bl_method bl_methods[] = {
    {"random", "", bl_fit_nothing, bl_random, {{0}}, 1, false, false},
    {"popularity", "", bl_fit_nothing, bl_popularity, {{0}}, 1, false, false},
    {"recent-popularity", "half-life, share of all", bl_recent_fit, bl_recent,
     {{0.01}, {0.03}, {0.1}, {0.3}, {1}, {10}}, 6, false, false},
    {"user-knn", "neighbours, power", bl_fit_nothing, bl_user_knn,
     {{20, 1}, {50, 1}, {100, 1}, {300, 1}, {20, 2}, {50, 2}, {100, 2}, {300, 2}}, 8, false, false},
    {"item-knn", "power of popularity, shrink", bl_item_knn_fit, bl_item_knn,
     {{0.3, 0}, {0.5, 0}, {0.7, 0}, {0.3, 10}, {0.5, 10}, {0.7, 10}, {0.5, 50}}, 7, false, false},
    {"rp3-beta", "power of degrees, of popularity", bl_rp3_fit, bl_rp3,
     {{0.6, 0.2}, {0.6, 0.4}, {0.6, 0.6}, {0.6, 0.8}, {1, 0.2}, {1, 0.4}, {1, 0.6}, {1, 0.8},
      {1.4, 0.2}, {1.4, 0.4}, {1.4, 0.6}, {1.4, 0.8}}, 12, false, false},
    {"ials", "factors, unobserved weight, regularisation", bl_ials_fit, bl_factors,
     {{8, 0.3, 0.003}, {16, 0.1, 0.003}, {16, 0.3, 0.003}, {16, 1, 0.003}, {16, 1, 0.001},
      {32, 0.3, 0.003}, {32, 1, 0.003}}, 7, true, true},
    {"bpr-mf", "factors, regularisation, epochs", bl_bpr_fit, bl_factors,
     {{32, 0.01, 20}, {32, 0.01, 60}, {32, 0.03, 60}, {32, 0.01, 120}, {32, 0.003, 60},
      {64, 0.01, 120}}, 6, true, true},
    {"ease", "ridge", bl_ease_fit, bl_ease, {{200}, {500}, {1000}, {2000}, {5000}}, 5, false,
     false},
    {"ease+recency", "ridge, half-life", bl_ease_fit, bl_ease,
     {{500, 5}, {500, 10}, {500, 20}, {1000, 10}, {2000, 10}, {5000, 10}}, 6, false, false},
    {"lightgcn", "layers, weight decay, epochs", bl_lightgcn_fit, bl_factors,
     {{2, 0.01, 40}, {3, 0.01, 40}, {2, 0.1, 40}, {2, 0.01, 80}}, 4, true, true},
    {"sasrec", "width, epochs, learning rate", bl_sasrec_fit, bl_sasrec,
     {{32, 15, 2e-3}, {64, 5, 2e-3}, {64, 10, 2e-3}, {64, 20, 2e-3}, {64, 10, 5e-3}}, 5, true, true},
    {"logistic", "L2, choice", bl_logistic_fit, bl_logistic,
     {{3, 0}, {30, 0}, {3, 1}, {30, 1}}, 4, false, true},
};
/* clang-format on */
enum { BL_N_METHODS = sizeof bl_methods / sizeof bl_methods[0] };

/* Fits one grid point. `model` is to be freed whatever comes back. */
static r2_status bl_fit(r2_ctx *ctx, const bl_method *method, const r2_run *run,
                        const double *params, bl_model *model) {
    memset(model, 0, sizeof *model);
    model->run = run;
    memcpy(model->p, params, sizeof model->p);
    return method->fit(ctx, model);
}

/* Validation HR@1 of a fitted model, MRR as the tie-breaker. */
static r2_status bl_validate(r2_ctx *ctx, const bl_method *method, bl_model *model,
                             const r2_candidates *valid, float *score, double *value) {
    r2_eval_config eval = r2_eval_config_default();
    r2_metrics m;
    r2_status status = method->score(ctx, model, valid, score);
    eval.n_bootstrap = 1;
    if (status == R2_OK)
        status = r2_evaluate(ctx, score, valid->n_cases, valid->n_per_case, &eval, &m, NULL);
    if (status != R2_OK) return status;
    model->validation = m.hr1;
    *value = m.hr1 + 1e-3 * m.mrr;
    r2_log(ctx, "  %-12s %g %g %g: validation HR@1 %.4f  MRR %.4f   (%s)", method->name,
           model->p[0], model->p[1], model->p[2], m.hr1, m.mrr, method->param);
    return R2_OK;
}

/* Validation cases to tune on: fewer where each walks over millions of ratings. */
static int64_t bl_tune_cases(const r2_run *run) {
    const int64_t most = run->graph.n_edges > 4000000 ? 512 : 2048;
    return run->valid.n_cases < most ? run->valid.n_cases : most;
}

/* Fits every grid point, keeps the one that is best on the first validation cases (the first of
   equals). What it tried goes to the log hook. Free with bl_free. */
static r2_status bl_tune(r2_ctx *ctx, const bl_method *method, const r2_run *run, bl_model *best) {
    r2_candidates valid = run->valid;
    const int64_t n = bl_tune_cases(run);
    float *score = (float *)r2_alloc(ctx, (uint64_t)(n * valid.n_per_case), sizeof *score);
    double best_value = -1.0;
    r2_status status = score ? R2_OK : R2_NO_MEMORY;
    r2_examples asked;
    valid.n_cases = n;
    memset(best, 0, sizeof *best);
    memset(&asked, 0, sizeof asked);
    if (status == R2_OK && method->fit == bl_logistic_fit)
        status = r2_run_candidate_prompts(ctx, run, &valid, NULL, &asked); /* once for all */
    for (int k = 0; k < method->n_grid && status == R2_OK; ++k) {
        double value = 0.0;
        bl_model model;
        status = bl_fit(ctx, method, run, method->grid[k], &model);
        if (asked.n > 0) model.asked_of = &valid, model.asked = &asked;
        if (status == R2_OK) status = bl_validate(ctx, method, &model, &valid, score, &value);
        if (status == R2_OK && value > best_value) {
            bl_model change = *best;
            *best = model;
            model = change;
            best_value = value;
        }
        bl_free(ctx, &model);
    }
    best->asked_of = NULL;
    best->asked = NULL;
    r2_examples_free(ctx, &asked);
    r2_release(ctx, score);
    if (status != R2_OK) bl_free(ctx, best);
    return status;
}

/* ---- EASE^R as evidence ---- */

/* The best of the EASE rows of the table on validation. */
static r2_status bl_evidence_tune(r2_ctx *ctx, const r2_run *run, bl_model *ease) {
    r2_status status = R2_OK;
    if (bl_ease_size(run) > BL_EASE_MOST)
        return r2_fail(ctx, R2_ARGUMENT,
                       "EASE^R as evidence: expected at most %d users or %d items, found %lld and "
                       "%lld: tuning it would take longer than all the rest",
                       BL_EASE_MOST, BL_EASE_MOST, (long long)run->graph.n_users,
                       (long long)run->graph.n_items);
    for (int b = 0; b < BL_N_METHODS && status == R2_OK; ++b) {
        bl_model tuned;
        if (bl_methods[b].fit != bl_ease_fit) continue;
        status = bl_tune(ctx, &bl_methods[b], run, &tuned);
        if (status == R2_OK && (!ease->run || tuned.validation > ease->validation)) {
            bl_model change = *ease;
            *ease = tuned;
            tuned = change;
        }
        bl_free(ctx, &tuned);
    }
    if (status != R2_OK) bl_free(ctx, ease);
    return status;
}

/* Whether the question's item is among the interactions that its history counts. */
static bool bl_is_past(const r2_run *run, const r2_question *q) {
    int64_t edge = r2_graph_find(&run->graph, q->user, q->item);
    return edge >= 0 && (int64_t)run->index.position[edge] < q->n_history;
}

/* Candidates of one user and moment share a query, unless one of them lies in the history. */
static bool bl_same_query(const r2_run *run, const r2_question *a, const r2_question *b) {
    return a->user == b->user && a->n_history == b->n_history && !bl_is_past(run, a) &&
           !bl_is_past(run, b);
}

/* The hook of a run (r2_evidence_fn), `user` a zeroed bl_model: the score of EASE^R takes the place of
   `deep`, its kin. What EASE^R says to a user whose interactions it was fitted to is not what it says
   to others, and the item of an observed training question is one of these; so each question is put
   to an EASE^R that has never seen its user, with the history that the question knows. Tuned when a
   run gets ready; whoever changes the graph prepares the run anew. Free with bl_free. */
static inline r2_status bl_ease_evidence(r2_ctx *ctx, void *hook_data, const r2_run *run,
                                         const r2_question *question, int64_t n,
                                         r2_evidence *evidence) {
    bl_model *ease = (bl_model *)hook_data;
    const r2_graph *g = &run->graph;
    const int64_t room = g->n_items + (g->n_items > g->n_users ? g->n_items : g->n_users);
    const int64_t threads = r2_threads(ctx, n * room);
    int64_t *begin, n_groups = 0;
    double *scratch;
    if (n == 0) {
        bl_free(ctx, ease);
        return bl_evidence_tune(ctx, run, ease);
    }
    begin = (int64_t *)r2_alloc(ctx, (uint64_t)n + 1, sizeof *begin);
    scratch = (double *)r2_alloc(ctx, (uint64_t)threads, (uint64_t)room * sizeof *scratch);
    for (int64_t q = 0; q < n && begin; ++q)
        if (q == 0 || !bl_same_query(run, &question[q - 1], &question[q])) begin[n_groups++] = q;
    if (begin && scratch) {
        begin[n_groups] = n;
        R2_PARALLEL_FOR((int)threads, t, threads) {
            for (int64_t k = n_groups * t / threads; k < n_groups * (t + 1) / threads; ++k)
                bl_ease_unseen(ease, question + begin[k], begin[k + 1] - begin[k],
                               scratch + t * room, evidence + begin[k]);
        }
    }
    r2_release(ctx, begin);
    r2_release(ctx, scratch);
    return begin && scratch ? R2_OK : R2_NO_MEMORY;
}

#endif

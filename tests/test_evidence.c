/* Evidence: a second implementation of every formula, written from the formulas alone and as slow
   as it likes; leave-one-out to the last byte; the shown chains; the questions drawn for training. */
#define R2REC_IMPLEMENTATION
#define R2_DEEP_EDGES  250 /* some graphs have more, */
#define R2_MOST_PEOPLE 5   /* and items of theirs more users */
#include "r2rec.h"
#include "test.h"

#include "header.h"
#include "ratings.h"

#define SEED     5 /* of the split's tie rule */
#define POSITIVE 4.0f

/* ---- a data set with its graph and index; the closing edge may be left out ---- */

typedef struct world {
    r2_data data;
    uint8_t *role;
    r2_graph graph;
    r2_index index;
} world;

static const char *const genre_of[] = {"A", "A|B", "", "C|B", "D", "A|C|D"};

static int world_index(r2_ctx *ctx, world *w) {
    return CHECK_STATUS(ctx, r2_graph_init(ctx, &w->graph, &w->data, w->role), R2_OK) &&
           CHECK_STATUS(ctx, r2_index_init(ctx, &w->index, &w->graph, &w->data, POSITIVE, SEED),
                        R2_OK);
}

static void world_unindex(r2_ctx *ctx, world *w) {
    r2_index_free(ctx, &w->index);
    r2_graph_free(ctx, &w->graph);
}

static int world_make(r2_ctx *ctx, world *w, int n_users, int n_items, double p, uint64_t seed) {
    memset(w, 0, sizeof *w);
    if (!CHECK_STATUS(ctx, ratings_random(ctx, &w->data, n_users, n_items, p, seed), R2_OK))
        return 0;
    w->role = (uint8_t *)r2_alloc(ctx, (uint64_t)w->data.n_ratings, 1);
    for (int64_t i = 0; i < w->data.n_items; ++i) {
        w->data.genres[i] = (char *)(uintptr_t)genre_of[i % 6];
        w->data.year[i] = (int16_t)(i % 5 == 4 ? 0 : 1980 + 7 * i % 40);
    }
    return w->role && world_index(ctx, w);
}

static void world_free(r2_ctx *ctx, world *w) {
    world_unindex(ctx, w);
    r2_release(ctx, w->role);
    r2_data_free(ctx, &w->data);
}

/* Evidence with k coherent chains. */
static r2_status compute(r2_ctx *ctx, const r2_index *index, const r2_question *question, int64_t n,
                         int64_t k, r2_evidence *evidence) {
    const r2_chain_config chains = {R2_CHAINS_COHERENT, k, 1};
    return r2_evidence_compute(ctx, index, question, n, &chains, evidence);
}

/* ---- the second implementation ---- */

/* An edge as the formulas see it: `rank` among all edges, `pos` in its user's own history. */
typedef struct ref_edge {
    uint32_t user, item;
    double rating;
    int32_t time;
    uint64_t tie;
    int rank, pos;
} ref_edge;

typedef struct ref_world {
    const world *w;
    ref_edge *edge; /* (n) by rank */
    int n;
    uint32_t u0, t;
    int64_t left_out;        /* a person who is in no count, or -1 */
    int *history, n_history; /* edges of u0, the earliest first */
    int clock;               /* edges before the question       */
    double *simrec, *simidf;
} ref_world;

static uint64_t ref_fnv(const char *text) {
    uint64_t hash = 14695981039346656037u;
    for (; *text; ++text) hash = (hash ^ (unsigned char)*text) * 1099511628211u;
    return hash;
}

static int ref_edge_order(const void *left, const void *right) {
    const ref_edge *a = (const ref_edge *)left, *b = (const ref_edge *)right;
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    return (a->tie > b->tie) - (a->tie < b->tie);
}

/* The rank of (user, item), or -1. */
static int ref_find(const ref_world *r, uint32_t user, uint32_t item) {
    for (int e = 0; e < r->n; ++e)
        if (r->edge[e].user == user && r->edge[e].item == item) return e;
    return -1;
}

static int ref_user_degree(const ref_world *r, uint32_t user) {
    int n = 0;
    for (int e = 0; e < r->n; ++e) n += r->edge[e].user == user;
    return n;
}

/* u0 and the person left out take no part. */
static bool ref_other(const ref_world *r, uint32_t user) {
    return user != r->u0 && (int64_t)user != r->left_out;
}

/* Users of an item, those not counted. */
static int ref_item_degree(const ref_world *r, uint32_t item) {
    int n = 0;
    for (int e = 0; e < r->n; ++e) n += r->edge[e].item == item && ref_other(r, r->edge[e].user);
    return n;
}

/* Whether chains to the target may lead over a user: everybody, or about `most` of n by a draw. */
static bool ref_kept(const ref_world *r, uint32_t user) {
    const double most = (double)r->w->index.most_people, n = ref_item_degree(r, r->t);
    if (n <= most) return true;
    return (double)(uint32_t)r2_hash(0, user, 0) <= floor(most / n * (double)UINT32_MAX);
}

/* How often one who is kept counts in a sum over users. */
static double ref_times(const ref_world *r) {
    double n = ref_item_degree(r, r->t), kept = 0.0;
    for (int e = 0; e < r->n; ++e)
        kept += r->edge[e].item == r->t && ref_other(r, r->edge[e].user) &&
                ref_kept(r, r->edge[e].user);
    return kept > 0.0 ? n / kept : 0.0;
}

/* What a question hides, from the picture of a chain: of e1 .. e4 those from e_step on. */
static bool ref_hides(const r2_question *q, uint32_t user, uint32_t item) {
    const bool of_u0 = q->step == 1, about_i0 = q->step <= 2;
    const uint32_t u0 = of_u0 ? q->user : q->other_user, u1 = of_u0 ? q->other_user : q->user;
    const uint32_t i0 = about_i0 ? q->item : q->other_item, i1 = about_i0 ? q->other_item : q->item;
    const uint32_t chain[4][2] = {{u0, i0}, {u1, i0}, {u1, i1}, {u0, i1}};
    if (q->step == 0) return user == q->user && item == q->item;
    for (int k = q->step; k <= 4; ++k)
        if (user == chain[k - 1][0] && item == chain[k - 1][1]) return true;
    return false;
}

/* 0.5^(age / half) of place p of the history. */
static double ref_fade(const ref_world *r, int p, double half) {
    return pow(0.5, (double)(r->n_history - 1 - p) / half);
}

static void ref_free(ref_world *r) {
    free(r->edge), free(r->history), free(r->simrec), free(r->simidf);
}

/* A row of the data. */
static ref_edge ref_row(const world *w, uint32_t user, int64_t row) {
    const r2_data *d = &w->data;
    ref_edge e;
    memset(&e, 0, sizeof e);
    e.user = user;
    e.item = d->item[row];
    e.rating = (double)d->rating[row];
    e.time = d->time[row];
    e.tie = r2_hash(SEED, ref_fnv(d->user_key[user]), ref_fnv(d->item_key[e.item]));
    return e;
}

/* All edges but the hidden ones, in order; u0's history of `question` without them. */
static void ref_make(ref_world *r, const world *w, const r2_question *question) {
    const r2_data *d = &w->data;
    int seen = 0;
    memset(r, 0, sizeof *r);
    r->w = w;
    r->u0 = question->user;
    r->t = question->item;
    r->left_out = question->step ? (int64_t)question->other_user : -1;
    r->edge = (ref_edge *)calloc((size_t)d->n_ratings + 1, sizeof *r->edge);
    r->history = (int *)calloc((size_t)d->n_ratings + 1, sizeof *r->history);
    r->simrec = (double *)calloc((size_t)d->n_users, sizeof *r->simrec);
    r->simidf = (double *)calloc((size_t)d->n_users, sizeof *r->simidf);
    for (int64_t u = 0; u < d->n_users; ++u)
        for (int64_t k = d->user_begin[u]; k < d->user_begin[u + 1]; ++k) {
            if (w->role[k] == R2_TRAIN) r->edge[r->n++] = ref_row(w, (uint32_t)u, k);
        }
    qsort(r->edge, (size_t)r->n, sizeof *r->edge, ref_edge_order);
    for (int e = 0, n = r->n; e < n;
         ++e) { /* history first, since its length counts the hidden edges too */
        bool mine = r->edge[e].user == r->u0;
        bool asked = ref_hides(question, r->edge[e].user, r->edge[e].item);
        if (e == 0) r->n = 0;
        r->clock += !asked && e < n - (int)question->future;
        if (mine && seen++ < question->n_history && !asked) r->history[r->n_history++] = r->n;
        if (!asked) r->edge[r->n++] = r->edge[e];
    }
    for (int e = 0; e < r->n; ++e) {
        r->edge[e].rank = e;
        for (int k = 0; k < e; ++k) r->edge[e].pos += r->edge[k].user == r->edge[e].user;
    }
    for (uint32_t v = 0; v < d->n_users; ++v)
        for (int p = 0; p < r->n_history && ref_other(r, v); ++p) {
            uint32_t i0 = r->edge[r->history[p]].item;
            double w0;
            if (ref_find(r, v, i0) < 0) continue;
            w0 = 1.0 / sqrt(ref_item_degree(r, i0) + 1.0) / sqrt(ref_user_degree(r, v) + 1.0);
            r->simrec[v] += ref_fade(r, p, 10.0) * w0;
            r->simidf[v] += w0;
        }
}

/* sum over chains of 0.5^(age/h) kernel(d, r(u1, i*)) / sqrt(n_i0 (n_i* + 1) + 10) */
static double ref_link(const ref_world *r, double h,
                       double (*kernel)(double d, double n_u1, double r3)) {
    double sum = 0.0, n_t = ref_item_degree(r, r->t);
    for (int p = 0; p < r->n_history; ++p) {
        uint32_t i0 = r->edge[r->history[p]].item;
        for (int e = 0; e < r->n; ++e) {
            const ref_edge *took = &r->edge[e];
            int other = ref_find(r, took->user, i0);
            if (took->item != r->t || !ref_other(r, took->user) || other < 0) continue;
            if (!ref_kept(r, took->user)) continue;
            sum += ref_fade(r, p, h) / sqrt(ref_item_degree(r, i0) * (n_t + 1.0) + 10.0) *
                   kernel(took->pos - r->edge[other].pos, ref_user_degree(r, took->user),
                          took->rating);
        }
    }
    return ref_times(r) * sum;
}

static double kernel_link(double d, double n, double r) {
    return (void)n, (void)r, pow(0.5, fabs(d) / 30.0);
}
static double kernel_rel(double d, double n, double r) {
    return (void)r, pow(0.5, fabs(d) / (0.05 * n));
}
static double kernel_near(double d, double n, double r) { return (void)n, (void)r, 1.0 / fabs(d); }
static double kernel_next(double d, double n, double r) {
    return (void)n, (void)r, d >= 1 && d <= 10 ? 1.0 : 0.0;
}
static double kernel_liked(double d, double n, double r) {
    return (void)d, (void)n, r >= (double)POSITIVE ? 1.0 : 0.0;
}

/* cosine of the 0/1 genres of i* and the fading genre counts of the history */
static double ref_genre(const ref_world *r) {
    const char *all = "ABCD";
    double dot = 0.0, own = 0.0, theirs = 0.0;
    for (; *all; ++all) {
        double taste = 0.0;
        for (int p = 0; p < r->n_history; ++p)
            if (strchr(r->w->data.genres[r->edge[r->history[p]].item], *all))
                taste += ref_fade(r, p, 10);
        own += taste * taste;
        if (!strchr(r->w->data.genres[r->t], *all)) continue;
        dot += taste;
        theirs += 1.0;
    }
    return dot > 0.0 ? dot / sqrt(own * theirs) : 0.0;
}

/* the field holds half a year more than its formula, so that the same year is not "unknown" */
static double ref_era(const ref_world *r) {
    double sum = 0.0, weight = 0.0;
    for (int p = 0; p < r->n_history; ++p) {
        int16_t year = r->w->data.year[r->edge[r->history[p]].item];
        if (year == 0) continue;
        sum += ref_fade(r, p, 10.0) * year;
        weight += ref_fade(r, p, 10.0);
    }
    if (weight == 0.0 || r->w->data.year[r->t] == 0) return 0.0;
    return r->w->data.year[r->t] - sum / weight + 0.5;
}

/* How many items of the history v has. */
static int ref_shared(const ref_world *r, uint32_t v) {
    int n = 0;
    for (int p = 0; p < r->n_history; ++p) n += ref_find(r, v, r->edge[r->history[p]].item) >= 0;
    return n;
}

static double ref_share_of_users(const ref_world *r) {
    double n = 0.0, sharing = 0.0;
    for (int e = 0; e < r->n; ++e) {
        if (r->edge[e].item != r->t || !ref_other(r, r->edge[e].user)) continue;
        if (!ref_kept(r, r->edge[e].user)) continue;
        n += 1.0;
        sharing += ref_shared(r, r->edge[e].user) >= 2;
    }
    return n > 0.0 ? sharing / n : 0.0;
}

/* Whether a user takes part in `deep`. */
static bool ref_walks(const ref_world *r, uint32_t v) {
    return ref_other(r, v) && (int64_t)v % r->w->index.stride == 0;
}

/* share of the 50 nearest; NAN when it cannot be told who they are (equal up to rounding) */
static double ref_uknn(const ref_world *r) {
    double all = 0.0, have = 0.0;
    for (uint32_t v = 0; v < r->w->data.n_users; ++v) {
        int nearer = 0, near = 0;
        if (!ref_other(r, v)) continue;
        for (uint32_t x = 0; x < r->w->data.n_users; ++x) {
            if (!ref_other(r, x)) continue;
            nearer += r->simrec[x] > r->simrec[v];
            near += x != v && fabs(r->simrec[x] - r->simrec[v]) < 1e-6 * r->simrec[v];
        }
        if (near > 0 && nearer - near < 50 && nearer + near >= 50) return NAN;
        if (nearer >= 50) continue;
        all += r->simrec[v] * r->simrec[v];
        if (ref_find(r, v, r->t) >= 0) have += r->simrec[v] * r->simrec[v];
    }
    return all > 0.0 ? have / all : 0.0;
}

/* (1 + sqrt(users / items))^2, an item counting by its share of everybody's choices: items is one
   over the chance that two choices meet. */
static double ref_ridge(const ref_world *r) {
    double meet = 0.0, n = 0.0;
    for (int e = 0; e < r->n; ++e) n += ref_other(r, r->edge[e].user);
    for (uint32_t i = 0; i < r->w->data.n_items && n > 0.0; ++i)
        meet += pow(ref_item_degree(r, i) / n, 2.0);
    double users = (double)(r->w->data.n_users - 1 - (r->left_out >= 0)) /
                   (double)r->w->index.stride;
    return pow(1.0 + sqrt(users * meet), 2.0);
}

/* (K + ridge) in, of those who take part; K(v,w) = items of both / sqrt(n_v n_w). */
static void ref_kin_times(const ref_world *r, const double *in, double *out) {
    const double ridge = ref_ridge(r);
    for (uint32_t v = 0; v < r->w->data.n_users; ++v) {
        out[v] = ridge * in[v];
        for (uint32_t w = 0; w < r->w->data.n_users; ++w) {
            double both = 0.0;
            if (!ref_walks(r, v) || !ref_walks(r, w) || in[w] == 0.0) continue;
            for (int e = 0; e < r->n; ++e)
                both += r->edge[e].user == v && ref_find(r, w, r->edge[e].item) >= 0;
            if (both > 0.0) both /= sqrt((double)ref_user_degree(r, v) * ref_user_degree(r, w));
            out[v] += in[w] * both;
        }
    }
}

/* The steepest ways of (K + ridge) a = c, each at right angles to those before it in that sense:
   a is the best combination of them. Written as Gram-Schmidt, which conjugate gradients shorten. */
static double ref_deep(const ref_world *r) {
    enum { MOST = 72 };
    double a[MOST] = {0}, way[4][MOST], image[4][MOST], sum = 0.0;
    int n = (int)r->w->data.n_users;
    if (n > MOST) return NAN;
    for (int step = 0; step < 4; ++step) {
        double rest[MOST], now[MOST], length = 0.0, norm = 0.0, size = 0.0;
        ref_kin_times(r, a, now);
        for (uint32_t v = 0; v < (uint32_t)n; ++v) {
            double c = !ref_walks(r, v) || ref_shared(r, v) == 0
                           ? 0.0
                           : ref_shared(r, v) / sqrt((double)ref_user_degree(r, v) * r->n_history);
            rest[v] = way[step][v] = c - now[v];
            size += rest[v] * rest[v];
        }
        if (size < 1e-24) break; /* solved */
        for (int k = 0; k < step; ++k) {
            double along = 0.0, square = 0.0;
            for (int v = 0; v < n; ++v) along += rest[v] * image[k][v];
            for (int v = 0; v < n; ++v) square += way[k][v] * image[k][v];
            for (int v = 0; v < n; ++v) way[step][v] -= along / square * way[k][v];
        }
        ref_kin_times(r, way[step], image[step]);
        for (int v = 0; v < n; ++v) length += rest[v] * way[step][v];
        for (int v = 0; v < n; ++v) norm += way[step][v] * image[step][v];
        for (int v = 0; v < n; ++v) a[v] += length / norm * way[step][v];
    }
    for (uint32_t v = 0; v < (uint32_t)n; ++v)
        if (ref_other(r, v) && ref_find(r, v, r->t) >= 0)
            sum += a[v] / sqrt((double)ref_user_degree(r, v));
    return sum;
}

static double ref_mean(const ref_world *r, uint32_t user) {
    double sum = 0.0;
    for (int e = 0; e < r->n; ++e)
        if (r->edge[e].user == user) sum += r->edge[e].rating;
    return sum / ref_user_degree(r, user);
}

static double ref_meanr(const ref_world *r) {
    double all = 0.0, sum = 0.0;
    for (int e = 0; e < r->n; ++e) {
        all += r->edge[e].rating;
        if (r->edge[e].item == r->t && ref_other(r, r->edge[e].user)) sum += r->edge[e].rating;
    }
    return (sum + 5.0 * (r->n ? all / r->n : 0.0)) / (ref_item_degree(r, r->t) + 5.0);
}

static double ref_pred(const ref_world *r) {
    double sum = 0.0, weight = 0.0;
    for (int e = 0; e < r->n; ++e) {
        const ref_edge *took = &r->edge[e];
        if (took->item != r->t || !ref_other(r, took->user) || !ref_kept(r, took->user)) continue;
        sum += r->simidf[took->user] * (took->rating - ref_mean(r, took->user));
        weight += r->simidf[took->user];
    }
    return ref_times(r) * sum / (ref_times(r) * weight + 0.05);
}

static double ref_fresh(const ref_world *r) {
    for (int e = 0; e < r->n; ++e)
        if (r->edge[e].item == r->t && ref_other(r, r->edge[e].user))
            return (double)(r->clock - e) / r->n;
    return 0.0;
}

/* users of i*, each counting half as much for every `share` of all edges since */
static double ref_trend(const ref_world *r, double share) {
    double sum = 0.0;
    for (int e = 0; e < r->clock; ++e)
        if (r->edge[e].item == r->t && ref_other(r, r->edge[e].user))
            sum += pow(0.5, (r->clock - e) / (share * r->n));
    return sum;
}

/* 0.5^(age/10) 0.5^(|d|/10) simrec(u1); 0: not a chain */
static double ref_chain_score(const ref_world *r, int p, uint32_t u1) {
    uint32_t i0 = r->edge[r->history[p]].item;
    int shared = ref_find(r, u1, i0), took = ref_find(r, u1, r->t);
    if (shared < 0 || took < 0 || !ref_other(r, u1) || !ref_kept(r, u1)) return 0.0;
    return ref_fade(r, p, 10.0) * pow(0.5, abs(r->edge[took].pos - r->edge[shared].pos) / 10.0) *
           r->simrec[u1];
}

/* The person whose way from the history's items to i* counts most, each step halved by 5. */
static double ref_path(const ref_world *r) {
    double best = 0.0;
    for (uint32_t v = 0; v < r->w->data.n_users; ++v) {
        double sum = 0.0;
        for (int p = 0; p < r->n_history; ++p) {
            int shared = ref_find(r, v, r->edge[r->history[p]].item), took = ref_find(r, v, r->t);
            if (!ref_other(r, v) || shared < 0 || took < 0 || !ref_kept(r, v)) continue;
            int d = r->edge[took].pos - r->edge[shared].pos;
            if (d > 0) sum += ref_fade(r, p, 5.0) * pow(0.5, d / 5.0);
        }
        best = fmax(best, sum);
    }
    return best;
}

/* Score of the (rank)-th best chain, one for each u1; 0 when there are fewer. */
static double ref_best_chain(const ref_world *r, int rank) {
    double last = INFINITY;
    int used = 0;
    for (int k = 0; k <= rank; ++k) {
        double best = 0.0;
        int times = 0;
        for (uint32_t v = 0; v < r->w->data.n_users; ++v) {
            double here = 0.0;
            for (int p = 0; p < r->n_history; ++p) here = fmax(here, ref_chain_score(r, p, v));
            if (here < last && here > best) best = here, times = 0;
            times += here == best;
        }
        if (best == 0.0) return 0.0;
        last = best;
        used += times;
        if (used > rank) return best;
    }
    return last;
}

/* A field by its name; false when nobody has written it a second time. */
static bool ref_field(const ref_world *r, const char *name, double *value) {
    if (!strcmp(name, "hist")) *value = r->n_history;
    else if (!strcmp(name, "genre")) *value = ref_genre(r);
    else if (!strcmp(name, "era")) *value = ref_era(r);
    else if (!strcmp(name, "shared")) *value = ref_share_of_users(r);
    else if (!strcmp(name, "uknn")) *value = ref_uknn(r);
    else if (!strcmp(name, "deep")) *value = ref_deep(r);
    else if (!strcmp(name, "pop")) *value = ref_item_degree(r, r->t);
    else if (!strcmp(name, "meanr")) *value = ref_meanr(r);
    else if (!strcmp(name, "pred")) *value = ref_pred(r);
    else if (!strcmp(name, "fresh")) *value = ref_fresh(r);
    else if (!strcmp(name, "trend")) *value = ref_trend(r, 0.01);
    else if (!strcmp(name, "season")) *value = ref_trend(r, 0.1);
    else if (!strcmp(name, "path")) *value = ref_path(r);
    else if (!strcmp(name, "link")) *value = ref_link(r, 10.0, kernel_link);
    else if (!strcmp(name, "rel")) *value = ref_link(r, 3.0, kernel_rel);
    else if (!strcmp(name, "near3")) *value = ref_link(r, 3.0, kernel_near);
    else if (!strcmp(name, "near1")) *value = ref_link(r, 1.0, kernel_near);
    else if (!strcmp(name, "next")) *value = ref_link(r, 10.0, kernel_next);
    else if (!strcmp(name, "liked")) *value = ref_link(r, 10.0, kernel_liked);
    else if (name[0] == 'c' && name[1] >= '1' && name[1] <= '8' && !name[2])
        *value = ref_best_chain(r, name[1] - '1');
    else return false;
    return true;
}

/* ---- the library against it ---- */

static void check_fields(const ref_world *r, const r2_evidence *q) {
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f) {
        double want = 0.0, got = (double)q->value[f];
        const char *name = r2_field_name((r2_field)f);
        if (!CHECK(ref_field(r, name, &want)) || isnan(want)) continue;
        /* what may cancel is measured against a hundredth: of a star, of a cosine */
        if (fabs(got - want) <=
            1e-5 * fmax(fabs(want), strcmp(name, "pred") && strcmp(name, "deep") ? 1e-30 : 0.01))
            continue;
        if (!strcmp(name, "era") && fabs(got - want) < 1e-3)
            continue; /* years around 2000 in float */
        printf("field %s of (%u, %u, %d) ", name, q->user, q->item, q->n_history);
        CHECK_NEAR(got, want, 1e-5);
    }
}

/* Shown chains are in the graph, have the best scores in their order, and say what is so. */
static void check_chains(const ref_world *r, const r2_evidence *q, int32_t n_chains) {
    int32_t expected = 0;
    while (expected < n_chains && ref_best_chain(r, expected) > 0.0) ++expected;
    CHECK_EQ_INT(q->n_chains, expected);
    for (int32_t c = 0; c < q->n_chains; ++c) {
        const r2_chain *chain = &q->chain[c].chain;
        const float *value = q->chain[c].value;
        int e1 = ref_find(r, chain->u0, chain->i0), e2 = ref_find(r, chain->u1, chain->i0);
        int e3 = ref_find(r, chain->u1, chain->i1), p = 0;
        if (!CHECK(e1 >= 0 && e2 >= 0 && e3 >= 0)) return;
        CHECK(chain->u0 == r->u0 && chain->i1 == r->t && ref_other(r, chain->u1));
        CHECK(chain->i0 != r->t);
        while (p < r->n_history && r->history[p] != e1) ++p;
        if (!CHECK(p < r->n_history)) return;
        CHECK_NEAR(chain->score, ref_best_chain(r, c), 1e-5);
        CHECK_NEAR(chain->score, ref_chain_score(r, p, chain->u1), 1e-5);
        CHECK(chain->r1 == (float)r->edge[e1].rating && chain->r2 == (float)r->edge[e2].rating);
        CHECK(chain->r3 == (float)r->edge[e3].rating && isnan(chain->r4));
        CHECK_EQ_INT(value[0], r->n_history - p);
        CHECK(value[1] == chain->r1 && value[3] == chain->r2 && value[5] == chain->r3);
        CHECK_NEAR(value[2], r->simrec[chain->u1], 1e-5);
        CHECK_EQ_INT(value[4], r->edge[e3].pos - r->edge[e2].pos);
        for (int32_t k = 0; k < c; ++k) CHECK(q->chain[k].chain.u1 != chain->u1);
    }
}

/* The chains shown are those that r2_chains_target finds, score for score. */
static void check_asked_alone(r2_ctx *ctx, const r2_index *index, const r2_question *question,
                              const r2_evidence *q) {
    const r2_chain_config config = {R2_CHAINS_COHERENT, 4, 1};
    r2_chain chain[4];
    int64_t n = 0;
    CHECK_STATUS(ctx, r2_chains_target(ctx, index, question, &config, chain, &n), R2_OK);
    CHECK_EQ_INT(n, q->n_chains);
    for (int64_t c = 0; c < n && c < q->n_chains; ++c)
        CHECK(chain[c].u1 == q->chain[c].chain.u1 && chain[c].i0 == q->chain[c].chain.i0 &&
              chain[c].score == q->chain[c].chain.score);
}

static r2_question draw_question(const world *w, r2_rng *rng) {
    r2_question q = {0, 0, 0, 3, 0, 0, 0, 0};
    q.user = (uint32_t)r2_rng_below(rng, (uint64_t)w->data.n_users);
    q.item = (uint32_t)r2_rng_below(rng, (uint64_t)w->data.n_items);
    q.n_history = (int32_t)r2_rng_below(rng, (uint64_t)r2_graph_user_degree(&w->graph, q.user) + 1);
    q.future = (int64_t)r2_rng_below(rng, (uint64_t)w->graph.n_edges + 1);
    return q;
}

/* Small graphs, sparse to dense, one of them with more than 50 neighbours; users and items that
   have nothing, histories of every length, targets inside, after and out of the history. */
static const struct {
    int n_users, n_items;
    double p;
} shapes[] = {{6, 5, 0.5}, {12, 9, 0.2}, {9, 14, 0.7}, {70, 12, 0.35}, {3, 40, 0.6}};

/* stride 0: as r2_index_init has it. */
static void check_shapes(int64_t stride) {
    r2_ctx ctx = r2_ctx_default();
    for (int s = 0; s < 5; ++s) {
        world w;
        r2_rng rng = r2_rng_make(11, R2_STREAM_USER, (uint64_t)s);
        REQUIRE(world_make(&ctx, &w, shapes[s].n_users, shapes[s].n_items, shapes[s].p,
                           100 + (uint64_t)s));
        CHECK_EQ_INT(w.index.stride, (w.graph.n_edges + 249) / 250);
        if (stride) w.index.stride = stride;
        for (int k = 0; k < (shapes[s].n_users > 50 ? 12 : 60); ++k) {
            r2_question question = draw_question(&w, &rng);
            r2_evidence evidence;
            ref_world r;
            REQUIRE_OK(&ctx, compute(&ctx, &w.index, &question, 1, 4, &evidence));
            ref_make(&r, &w, &question);
            CHECK_EQ_INT(evidence.n_history, r.n_history);
            check_fields(&r, &evidence);
            check_chains(&r, &evidence, 4);
            check_asked_alone(&ctx, &w.index, &question, &evidence);
            ref_free(&r);
        }
        world_free(&ctx, &w);
    }
}

TEST(every_field_and_chain_against_a_second_implementation) { check_shapes(1); }

/* What a graph of too many edges gets: `deep` of every s-th user, chains over some users of an item. */
TEST(evidence_of_some_users_against_a_second_implementation) {
    check_shapes(0);
    check_shapes(2);
    check_shapes(5);
}

/* u0: A. u1: A, then B. u2: B. All by hand for u0 and B:
   N = 4, n_A = 1, n_B = 2, clock 3, d = 1, simrec(u1) = 1 / sqrt(2 * 3),
   norm = 1 / sqrt(1 * 3 + 10). */
TEST(a_graph_by_hand) {
    r2_ctx ctx = r2_ctx_default();
    world w;
    r2_question question = {0, 1, 1, -1, 0, 0, 0, 1};
    r2_evidence q;
    const float *v = q.value;
    memset(&w, 0, sizeof w);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &w.data,
                                  "user,item,rating,time\nu0,A,4,10\nu1,A,5,20\n"
                                  "u1,B,3,30\nu2,B,5,40\n"));
    w.role = (uint8_t *)r2_alloc(&ctx, 4, 1);
    REQUIRE(w.role && world_index(&ctx, &w));
    REQUIRE_OK(&ctx, compute(&ctx, &w.index, &question, 1, 2, &q));
    CHECK(v[R2_FIELD_hist] == 1.0f && v[R2_FIELD_pop] == 2.0f);
    CHECK(v[R2_FIELD_genre] == 0.0f && v[R2_FIELD_era] == 0.0f && v[R2_FIELD_shared] == 0.0f);
    CHECK_NEAR(v[R2_FIELD_uknn], 1.0, 1e-6);           /* u1 is all the neighbours there are */
    /* (d, s; s, d) a = (s, 0), s^2 = 0.5, d = 1 + ridge; u1 and u2 made 1 + 2 choices among
       3^2 / (1^2 + 2^2) items: ridge = (1 + sqrt(2 / 1.8))^2; a_1 / sqrt(2) + a_2: */
    CHECK_NEAR(v[R2_FIELD_deep], 0.5 * 4.2192962 / (5.2192962 * 5.2192962 - 0.5), 1e-5);
    CHECK_NEAR(v[R2_FIELD_meanr], 29.25 / 7.0, 1e-6);  /* (8 + 5 * 4.25) / 7                  */
    CHECK_NEAR(v[R2_FIELD_pred], -0.8908895, 1e-5);    /* 0.4082483 * (3 - 4) / 0.4582483     */
    CHECK_NEAR(v[R2_FIELD_fresh], 0.25, 1e-6);         /* (3 - 2) / 4                         */
    CHECK_NEAR(v[R2_FIELD_season], 0.1767767, 1e-5);   /* 0.5^(1/0.4): u1's, u2's is to come  */
    CHECK_NEAR(v[R2_FIELD_trend], 2.9802322e-8, 1e-5); /* 0.5^(1/0.04)                        */
    CHECK(v[R2_FIELD_liked] == 0.0f);
    CHECK_NEAR(v[R2_FIELD_link], 0.2710154, 1e-5);       /* 0.2773501 * 0.5^(1/30)              */
    CHECK_NEAR(v[R2_FIELD_rel], 0.2773501 / 1024, 1e-5); /* half of it every 0.05 * 2 steps    */
    CHECK_NEAR(v[R2_FIELD_near3], 0.2773501, 1e-5);
    CHECK_NEAR(v[R2_FIELD_near1], 0.2773501, 1e-5);
    CHECK_NEAR(v[R2_FIELD_next], 0.2773501, 1e-5);
    CHECK_EQ_INT(q.n_chains, 1);
    CHECK_EQ_INT(q.chain[0].chain.u1, 1);
    CHECK_NEAR(q.chain[0].chain.score, 0.3809091, 1e-5); /* 0.5^(1/10) * 0.4082483 */
    CHECK_NEAR(v[R2_FIELD_path], 0.8705506, 1e-5);       /* 0.5^(1/5)               */
    world_free(&ctx, &w);
}

TEST(the_header_calculates_right) {
    r2_ctx ctx = r2_ctx_default();
    world w;
    r2_question question = {0, 2, 2, -1, 0, 0, 0, 0};
    r2_evidence q;
    double part[2][2]; /* of link: by i0, by u1 */
    memset(&w, 0, sizeof w);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &w.data,
                                  "user,item,rating,time\nAnn,Alien,5,1\nAnn,Heat,4,2\n"
                                  "Bob,Alien,5,1\nBob,Heat,3,2\nBob,Tron,4,3\n"
                                  "Cyd,Heat,2,1\nCyd,Tron,5,2\n"));
    w.role = (uint8_t *)r2_alloc(&ctx, 7, 1);
    REQUIRE(w.role && world_index(&ctx, &w));
    REQUIRE_OK(&ctx, compute(&ctx, &w.index, &question, 1, 3, &q));
    part[0][0] = pow(0.5, 1 / 10.0) * pow(0.5, 2 / 30.0) / sqrt(1 * 3 + 10.0);
    part[1][0] = part[1][1] = pow(0.5, 1 / 30.0) / sqrt(2 * 3 + 10.0);
    CHECK_NEAR(q.value[R2_FIELD_link], part[0][0] + 2.0 * part[1][0], 1e-6);
    CHECK(header_holds("pop %g ", (double)q.value[R2_FIELD_pop]));
    CHECK(header_holds("shared %.2f ", (double)q.value[R2_FIELD_shared]));
    CHECK(header_holds("link %.2f ", (double)q.value[R2_FIELD_link]));
    CHECK(header_holds("%.3f over Heat and Bob, %.3f over Alien and Bob, %.3f over Heat and Cyd",
                       part[1][0], part[0][0], part[1][1]));
    CHECK(header_holds("c1 %.2f ", (double)q.value[R2_FIELD_c1]));
    CHECK(header_holds("c2 %.2f ", (double)q.value[R2_FIELD_c2]));
    CHECK_EQ_INT(q.n_chains, 2);
    world_free(&ctx, &w);
}

/* ---- leave-one-out ---- */

static r2_status draw_training(r2_ctx *ctx, const r2_index *index, int64_t n_groups,
                               int32_t n_sampled, int32_t min_history, uint64_t seed,
                               r2_question *q, int64_t *n) {
    const r2_draw_config config = {n_groups, n_sampled, min_history, 1, seed};
    return r2_questions_draw(ctx, index, &config, q, n);
}

/* The same question when the edge asked for does not exist: a history that held it is shorter. */
static r2_question without_edge(const world *w, r2_question q) {
    int64_t edge = r2_graph_find(&w->graph, q.user, q.item);
    if (edge >= 0 && (int64_t)w->index.position[edge] < q.n_history) q.n_history--;
    q.future -= edge >= 0 && w->index.rank[edge] >= w->graph.n_edges - q.future;
    return q;
}

static void check_no_leak(r2_ctx *ctx, world *w, r2_question question) {
    int64_t row = r2_data_find(&w->data, question.user, question.item);
    float rating = w->data.rating[row];
    r2_question after = without_edge(w, question);
    r2_evidence with, flipped, without;
    REQUIRE_OK(ctx, compute(ctx, &w->index, &question, 1, 4, &with));
    world_unindex(ctx, w);
    w->data.rating[row] = 5.5f - rating;
    REQUIRE(world_index(ctx, w));
    REQUIRE_OK(ctx, compute(ctx, &w->index, &question, 1, 4, &flipped));
    world_unindex(ctx, w);
    w->data.rating[row] = rating;
    w->role[row] = R2_UNUSED;
    REQUIRE(world_index(ctx, w));
    REQUIRE_OK(ctx, compute(ctx, &w->index, &after, 1, 4, &without));
    world_unindex(ctx, w);
    w->role[row] = R2_TRAIN;
    REQUIRE(world_index(ctx, w));
    CHECK(!memcmp(&with, &flipped, sizeof with));
    CHECK(!memcmp(&with, &without, sizeof with));
}

TEST(the_edge_asked_for_is_invisible) {
    r2_ctx ctx = r2_ctx_default();
    for (int s = 0; s < 5; ++s) {
        world w;
        r2_rng rng = r2_rng_make(12, R2_STREAM_USER, (uint64_t)s);
        REQUIRE(world_make(&ctx, &w, shapes[s].n_users, shapes[s].n_items, shapes[s].p,
                           200 + (uint64_t)s));
        for (int k = 0; k < 60; ++k) {
            r2_question q = draw_question(&w, &rng);
            if (r2_graph_find(&w.graph, q.user, q.item) >= 0) check_no_leak(&ctx, &w, q);
        }
        world_free(&ctx, &w);
    }
}

/* u0 .. u8 and i0 .. i13, no two at the same time; what u0 takes at or after `moment` is item + `shift`,
   of i10 .. i12. */
static r2_status load_shifted(r2_ctx *ctx, r2_data *data, uint64_t seed, int moment, int shift) {
    r2_rng rng = r2_rng_make(seed, R2_STREAM_USER, 0);
    r2_text text = {NULL, 0, 0, false};
    r2_status status;
    r2_text_addf(ctx, &text, "user,item,rating,time\n");
    for (int i = 0; i < 14; ++i) r2_text_addf(ctx, &text, "u9,i%d,3,%d\n", i, 1000 + i);
    for (int time = 0; time < 100; ++time) {
        const int u = time % 9, stars = 1 + (int)r2_rng_below(&rng, 5);
        const int i = u == 0 ? time / 9 : (5 * (time / 9) + u) % 14; /* none twice */
        const bool later = u == 0 && time >= moment;
        r2_text_addf(ctx, &text, "u%d,i%d,%d,%d\n", u, later ? (i + shift) % 13 : i, stars, time);
    }
    status = text.failed ? ctx->status : ratings_load_bytes(ctx, data, text.data, text.len);
    r2_text_free(ctx, &text);
    return status;
}

/* What the asker does at or after the moment is not seen: with other items in their place, what is
   asked about an item that the asker never has gets the same bytes. */
TEST(what_the_asker_does_later_is_invisible) {
    r2_ctx ctx = r2_ctx_default();
    for (uint64_t seed = 0; seed < 8; ++seed) {
        r2_evidence seen[2];
        for (int shift = 0; shift < 2; ++shift) {
            world w;
            r2_question q = {0, 0, 10, -1, 0, 0, 0, 0};
            memset(&w, 0, sizeof w);
            REQUIRE_OK(&ctx, load_shifted(&ctx, &w.data, seed, 90, shift));
            w.role = (uint8_t *)r2_alloc(&ctx, (uint64_t)w.data.n_ratings, 1);
            REQUIRE(w.role && world_index(&ctx, &w));
            q.user = (uint32_t)r2_data_user(&w.data, "u0");
            q.item = (uint32_t)r2_data_item(&w.data, "i13");
            q.future = w.graph.n_edges - 90;
            CHECK_EQ_INT(r2_graph_user_degree(&w.graph, q.user), 12);
            REQUIRE_OK(&ctx, compute(&ctx, &w.index, &q, 1, 4, &seen[shift]));
            world_free(&ctx, &w);
        }
        CHECK(seen[0].value[R2_FIELD_trend] > 0.0f && seen[0].n_chains > 0);
        CHECK(!memcmp(&seen[0], &seen[1], sizeof seen[0]));
    }
}

/* The moment of a row, held out or not: edges that are not before it, counted one by one. */
TEST(the_future_of_a_row) {
    r2_ctx ctx = r2_ctx_default();
    world w;
    REQUIRE(world_make(&ctx, &w, 12, 20, 0.5, 8));
    world_unindex(&ctx, &w);
    for (int64_t k = 0; k < w.data.n_ratings; k += 3) w.role[k] = R2_TEST;
    REQUIRE(world_index(&ctx, &w));
    for (uint32_t u = 0; u < 12; ++u)
        for (int64_t k = w.data.user_begin[u]; k < w.data.user_begin[u + 1]; ++k) {
            const ref_edge own = ref_row(&w, u, k);
            int64_t n = 0;
            for (uint32_t v = 0; v < 12; ++v)
                for (int64_t j = w.data.user_begin[v]; j < w.data.user_begin[v + 1]; ++j) {
                    const ref_edge other = ref_row(&w, v, j);
                    n += w.role[j] == R2_TRAIN && ref_edge_order(&other, &own) >= 0;
                }
            CHECK_EQ_INT(r2_index_future(&w.index, &w.data, u, w.data.item[k]), n);
        }
    for (uint32_t i = 0; i < 20; ++i)
        if (r2_data_find(&w.data, 1, i) < 0)
            CHECK_EQ_INT(r2_index_future(&w.index, &w.data, 1, i), 0);
    world_free(&ctx, &w);
}

/* 500 training targets of the real data. Flipped in place, with the user's mean made unusable; and
   for some of them the graph is built anew without the edge. */
TEST(the_edge_asked_for_is_invisible_in_real_data) {
    enum { TARGETS = 500, REBUILT = 10 };
    r2_ctx ctx = r2_ctx_default();
    const char *real = ratings_real();
    r2_question *question = (r2_question *)calloc(TARGETS, sizeof *question);
    r2_evidence with, flipped;
    int64_t n = 0;
    world w;
    if (!real) SKIP("no real data here");
    memset(&w, 0, sizeof w);
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &w.data, real));
    w.role = (uint8_t *)r2_alloc(&ctx, (uint64_t)w.data.n_ratings, 1);
    REQUIRE(question && w.role && world_index(&ctx, &w));
    REQUIRE_OK(&ctx, draw_training(&ctx, &w.index, TARGETS, 0, 5, 3, question, &n));
    CHECK_EQ_INT(n, TARGETS);
    for (int64_t k = 0; k < n; ++k) {
        int64_t edge = r2_graph_find(&w.graph, question[k].user, question[k].item);
        float *rating = &w.graph.user_rating[edge], *mean = &w.index.user_mean[question[k].user];
        float old_rating = *rating, old_mean = *mean;
        double old_sum = w.index.rating_sum;
        REQUIRE_OK(&ctx, compute(&ctx, &w.index, &question[k], 1, 4, &with));
        *rating = 5.5f - *rating;
        *mean = NAN;
        w.index.rating_sum += (double)*rating - (double)old_rating;
        REQUIRE_OK(&ctx, compute(&ctx, &w.index, &question[k], 1, 4, &flipped));
        CHECK(!memcmp(&with, &flipped, sizeof with));
        *rating = old_rating, *mean = old_mean, w.index.rating_sum = old_sum;
        if (k % (TARGETS / REBUILT) == 0) check_no_leak(&ctx, &w, question[k]);
    }
    free(question);
    world_free(&ctx, &w);
}

/* ---- the questions of a chain's steps ---- */

/* The question of a step from the picture of a chain. */
static r2_question step_by_hand(const world *w, const r2_chain *c, int step) {
    r2_question q = {c->u0, c->i0, 0, 0, step, c->u1, c->i1, 0};
    const float rating[4] = {c->r1, c->r2, c->r3, c->r4};
    if (step == 2 || step == 3) q.user = c->u1, q.other_user = c->u0;
    if (step >= 3) q.item = c->i1, q.other_item = c->i0;
    q.n_history = (int32_t)w->index.position[r2_graph_find(&w->graph, q.user, q.item)];
    q.answer = r2_answer_level(rating[step - 1], 0.5f, 5.0f);
    q.future = r2_index_future(&w->index, &w->data, q.user, q.item);
    return q;
}

/* Some closed chains of a user. */
static int64_t some_chains(r2_ctx *ctx, const world *w, uint32_t user, r2_chain *chain, int64_t k) {
    const r2_chain_config config = {R2_CHAINS_UNIFORM, k, user};
    int64_t n = 0;
    CHECK_STATUS(ctx, r2_chains_closed(ctx, &w->index, user, &config, chain, &n), R2_OK);
    return n;
}

/* By fields: between them there may be bytes of no meaning. */
static bool same_question(const r2_question *a, const r2_question *b) {
    return a->user == b->user && a->item == b->item && a->n_history == b->n_history &&
           a->answer == b->answer && a->step == b->step && a->other_user == b->other_user &&
           a->other_item == b->other_item && a->future == b->future;
}

TEST(every_step_asks_about_its_edge) {
    r2_ctx ctx = r2_ctx_default();
    for (int s = 0; s < 5; ++s) {
        world w;
        REQUIRE(world_make(&ctx, &w, shapes[s].n_users, shapes[s].n_items, shapes[s].p,
                           300 + (uint64_t)s));
        for (uint32_t user = 0; user < w.data.n_users; user += 1 + (uint32_t)w.data.n_users / 12) {
            r2_chain chain[3];
            const int64_t n = some_chains(&ctx, &w, user, chain, w.data.n_users > 50 ? 1 : 3);
            for (int64_t c = 0; c < n; ++c)
                for (int step = 1; step <= 4; ++step) {
                    const r2_question want = step_by_hand(&w, &chain[c], step);
                    r2_question question;
                    r2_evidence evidence;
                    ref_world r;
                    REQUIRE_OK(&ctx,
                               r2_question_of_step(&ctx, &w.index, &chain[c], step, &question));
                    CHECK(same_question(&question, &want));
                    REQUIRE_OK(&ctx, compute(&ctx, &w.index, &question, 1, 4, &evidence));
                    if (step == 4) question.step = 0; /* the plain question */
                    ref_make(&r, &w, &question);
                    CHECK_EQ_INT(evidence.n_history, r.n_history);
                    check_fields(&r, &evidence);
                    check_chains(&r, &evidence, 4);
                    ref_free(&r);
                }
        }
        world_free(&ctx, &w);
    }
}

/* Evidence of a step with the chain's later edges as they are, with other ratings, and without any
   subset of them: the same bytes. */
static void check_blind_step(r2_ctx *ctx, world *w, const r2_chain *chain, int step) {
    const uint32_t ends[4][2] = {{chain->u0, chain->i0},
                                 {chain->u1, chain->i0},
                                 {chain->u1, chain->i1},
                                 {chain->u0, chain->i1}};
    const r2_chain_config config = {(r2_chain_law)((chain->u1 + (uint32_t)step) % 3), 3, 9};
    r2_question question;
    r2_evidence with, without;
    REQUIRE_OK(ctx, r2_question_of_step(ctx, &w->index, chain, step, &question));
    REQUIRE_OK(ctx, r2_evidence_compute(ctx, &w->index, &question, 1, &config, &with));
    for (int gone = 0; gone < 1 << (5 - step); ++gone) { /* 0: other ratings */
        r2_question after = question;
        float kept[4];
        for (int k = step; k <= 4; ++k) {
            int64_t row = r2_data_find(&w->data, ends[k - 1][0], ends[k - 1][1]);
            int64_t edge = r2_graph_find(&w->graph, ends[k - 1][0], ends[k - 1][1]);
            kept[k - 1] = w->data.rating[row];
            w->data.rating[row] = 5.5f - w->data.rating[row];
            if (!(gone >> (k - step) & 1)) continue;
            w->role[row] = R2_UNUSED;
            after.n_history -= ends[k - 1][0] == question.user &&
                             (int64_t)w->index.position[edge] < question.n_history;
            after.future -= w->index.rank[edge] >= w->graph.n_edges - question.future;
        }
        world_unindex(ctx, w);
        REQUIRE(world_index(ctx, w));
        REQUIRE_OK(ctx, r2_evidence_compute(ctx, &w->index, &after, 1, &config, &without));
        CHECK(!memcmp(&with, &without, sizeof with));
        for (int k = step; k <= 4; ++k) {
            int64_t row = r2_data_find(&w->data, ends[k - 1][0], ends[k - 1][1]);
            w->data.rating[row] = kept[k - 1];
            w->role[row] = R2_TRAIN;
        }
        world_unindex(ctx, w);
        REQUIRE(world_index(ctx, w));
    }
}

TEST(no_step_sees_the_edges_that_follow) {
    r2_ctx ctx = r2_ctx_default();
    for (int s = 0; s < 5; ++s) {
        world w;
        REQUIRE(world_make(&ctx, &w, shapes[s].n_users, shapes[s].n_items, shapes[s].p,
                           400 + (uint64_t)s));
        for (uint32_t user = 0; user < w.data.n_users; user += 1 + (uint32_t)w.data.n_users / 8) {
            r2_chain chain[3];
            const int64_t n = some_chains(&ctx, &w, user, chain, 3);
            for (int64_t c = 0; c < n; ++c)
                for (int step = 1; step <= 4; ++step) check_blind_step(&ctx, &w, &chain[c], step);
        }
        world_free(&ctx, &w);
    }
}

/* A question about e1 that is asked after everything hides both of the user's edges, whichever of
   them is the earlier one. */
TEST(both_edges_of_the_asker_are_hidden) {
    r2_ctx ctx = r2_ctx_default();
    world w;
    r2_chain chain;
    r2_evidence evidence[2];
    int32_t degree;
    REQUIRE(world_make(&ctx, &w, 9, 14, 0.7, 1));
    REQUIRE(some_chains(&ctx, &w, 0, &chain, 1) == 1);
    degree = (int32_t)r2_graph_user_degree(&w.graph, 0);
    for (int k = 0; k < 2; ++k) {
        const r2_question q = {0, k ? chain.i1 : chain.i0, degree, -1, 1, chain.u1,
                               k ? chain.i0 : chain.i1, 0};
        REQUIRE_OK(&ctx, compute(&ctx, &w.index, &q, 1, 4, &evidence[k]));
        CHECK_EQ_INT(evidence[k].n_history, degree - 2);
    }
    CHECK(evidence[0].value[R2_FIELD_hist] == evidence[1].value[R2_FIELD_hist]);
    world_free(&ctx, &w);
}

TEST(steps_that_cannot_be_asked) {
    r2_ctx ctx = r2_ctx_default();
    world w;
    r2_question q;
    r2_chain chain, wrong;
    REQUIRE(world_make(&ctx, &w, 9, 14, 0.7, 1));
    REQUIRE(some_chains(&ctx, &w, 0, &chain, 1) == 1);
    CHECK_STATUS(&ctx, r2_question_of_step(&ctx, &w.index, &chain, 0, &q), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_question_of_step(&ctx, &w.index, &chain, 5, &q), R2_ARGUMENT);
    wrong = chain, wrong.u1 = 9;
    CHECK_STATUS(&ctx, r2_question_of_step(&ctx, &w.index, &wrong, 2, &q), R2_ARGUMENT);
    wrong = chain, wrong.u1 = 0;
    CHECK_STATUS(&ctx, r2_question_of_step(&ctx, &w.index, &wrong, 1, &q), R2_ARGUMENT);
    wrong = chain;
    for (wrong.i0 = 0; r2_graph_find(&w.graph, 0, wrong.i0) >= 0;) wrong.i0++;
    CHECK_STATUS(&ctx, r2_question_of_step(&ctx, &w.index, &wrong, 1, &q), R2_ARGUMENT);
    CHECK(strstr(ctx.message, "no edge"));
    /* a target chain: e4 need not exist, and its question comes after everything */
    wrong = chain, wrong.r4 = NAN;
    for (wrong.i1 = 0; r2_graph_find(&w.graph, 0, wrong.i1) >= 0;) wrong.i1++;
    REQUIRE_OK(&ctx, r2_question_of_step(&ctx, &w.index, &wrong, 4, &q));
    CHECK(q.n_history == r2_graph_user_degree(&w.graph, 0) && q.answer == -1 && q.future == 0);
    world_free(&ctx, &w);
}

/* ---- threads, errors ---- */

TEST(any_number_of_threads_gives_the_same_bytes) {
    enum { N = 3000 };
    r2_ctx ctx = r2_ctx_default();
    r2_rng rng = r2_rng_make(13, R2_STREAM_USER, 0);
    static const int threads[3] = {1, 2, 8};
    r2_question *question = (r2_question *)calloc(N, sizeof *question);
    r2_evidence *evidence = (r2_evidence *)calloc(2 * N, sizeof *evidence);
    world w;
    REQUIRE(question && evidence && world_make(&ctx, &w, 40, 60, 0.3, 9));
    for (int k = 0; k < N; ++k) {
        question[k] = draw_question(&w, &rng);
        if (k % 3)
            question[k].user = question[k - 1].user, question[k].n_history = question[k - 1].n_history;
    }
    for (int law = 2; law >= 0; --law)
        for (int t = 0; t < 3; ++t) {
            const r2_chain_config chains = {(r2_chain_law)law, R2_MAX_CHAINS, 1};
            ctx.n_threads = threads[t];
            memset(evidence + (t > 0) * N, 0xA5, N * sizeof *evidence);
            REQUIRE_OK(&ctx, r2_evidence_compute(&ctx, &w.index, question, N, &chains,
                                                 evidence + (t > 0) * N));
            if (t > 0) CHECK(!memcmp(evidence, evidence + N, N * sizeof *evidence));
        }
    for (int k = 0; k < 500; ++k) { /* nor does it matter who is asked about before */
        REQUIRE_OK(&ctx, compute(&ctx, &w.index, &question[k], 1, R2_MAX_CHAINS,
                                             &evidence[N + k]));
        CHECK(!memcmp(&evidence[k], &evidence[N + k], sizeof *evidence));
    }
    free(question);
    free(evidence);
    world_free(&ctx, &w);
}

TEST(questions_that_cannot_be_asked) {
    r2_ctx ctx = r2_ctx_default();
    world w;
    r2_evidence evidence;
    r2_question q = {0, 0, 1, 0, 0, 0, 0, 0};
    REQUIRE(world_make(&ctx, &w, 6, 5, 0.5, 1));
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 1, R2_MAX_CHAINS + 1, &evidence),
                 R2_ARGUMENT);
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 1, -1, &evidence), R2_ARGUMENT);
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 0, 4, &evidence), R2_OK);
    q.user = 6;
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 1, 4, &evidence), R2_ARGUMENT);
    q.user = 0, q.item = 5;
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 1, 4, &evidence), R2_ARGUMENT);
    q.item = 0, q.n_history = -1;
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 1, 4, &evidence), R2_ARGUMENT);
    q.n_history = (int32_t)r2_graph_user_degree(&w.graph, 0) + 1;
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 1, 4, &evidence), R2_ARGUMENT);
    q.n_history = 0, q.future = -1;
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 1, 4, &evidence), R2_ARGUMENT);
    q.future = w.graph.n_edges + 1;
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 1, 4, &evidence), R2_ARGUMENT);
    q.future = w.graph.n_edges;
    CHECK_STATUS(&ctx, compute(&ctx, &w.index, &q, 1, 4, &evidence), R2_OK);
    world_free(&ctx, &w);
}

/* ---- training questions ---- */

TEST(levels_of_a_scale) {
    static const int want[10] = {1, 1, 2, 2, 3, 3, 4, 4, 5, 5}; /* half stars 0.5 .. 5 */
    for (int k = 0; k < 10; ++k)
        CHECK_EQ_INT(r2_answer_level(0.5f + 0.5f * (float)k, 0.5f, 5.0f), want[k]);
    for (int k = 1; k <= 5; ++k) CHECK_EQ_INT(r2_answer_level((float)k, 1.0f, 5.0f), k);
    CHECK_EQ_INT(r2_answer_level(1.0f, 1.0f, 1.0f),
                 5); /* a scale of one value: all are full marks */
    CHECK_EQ_INT(r2_answer_level(-9.0f, 1.0f, 5.0f), 1);
    CHECK_EQ_INT(r2_answer_level(99.0f, 1.0f, 5.0f), 5);
    CHECK_EQ_INT(r2_answer_level(NAN, 1.0f, 5.0f), 1);
}

/* Users of an item besides one. */
static int64_t n_others(const world *w, uint32_t item, uint32_t user) {
    int64_t n = 0;
    for (int64_t k = 0; k < w->data.n_ratings; ++k) n += w->data.item[k] == item;
    return n - (r2_data_find(&w->data, user, item) >= 0);
}

/* May the interaction of a user at a place be asked for? `half` of what a user has is always enough. */
static bool could_ask(const world *w, const r2_draw_config *c, uint32_t user, int64_t place) {
    const int64_t edge = w->index.by_time[w->graph.user_begin[user] + place];
    const int64_t degree = r2_graph_user_degree(&w->graph, user);
    bool left = false; /* something to sample */
    for (uint32_t i = 0; i < w->graph.n_items; ++i)
        left = left || (r2_data_find(&w->data, user, i) < 0 && n_others(w, i, user) >= c->min_train);
    return left && (place >= c->min_history || 2 * place >= degree) &&
           n_others(w, w->graph.user_item[edge], user) >= c->min_train;
}

/* What must hold of a group. */
static void check_group(const world *w, const r2_draw_config *c, const r2_question *first) {
    const int64_t edge = r2_graph_find(&w->graph, first->user, first->item);
    if (!CHECK(edge >= 0)) return;
    CHECK_EQ_INT(w->index.position[edge], first->n_history);
    CHECK(could_ask(w, c, first->user, first->n_history));
    CHECK_EQ_INT(first->answer, r2_answer_level(w->graph.user_rating[edge], 0.5f, 5.0f));
    for (int32_t j = 0; j <= c->n_sampled; ++j)
        CHECK_EQ_INT(first[j].future,
                     r2_index_future(&w->index, &w->data, first->user, first->item));
    for (int32_t j = 1; j <= c->n_sampled; ++j) {
        CHECK(first[j].user == first->user && first[j].n_history == first->n_history);
        CHECK_EQ_INT(first[j].answer, 0);
        CHECK_EQ_INT(r2_graph_find(&w->graph, first[j].user, first[j].item), -1);
        CHECK(n_others(w, first[j].item, first->user) >= c->min_train);
    }
}

/* What must hold of any draw; returns how many groups there could be. */
static int64_t check_draw(const world *w, const r2_draw_config *c, const r2_question *q, int64_t n) {
    const int32_t group = c->n_sampled + 1;
    int64_t most = 0, fewest = INT64_MAX, in_all = 0;
    for (int64_t k = 0; k < n; ++k) {
        check_group(w, c, &q[k * group]);
        for (int64_t other = 0; other < k; ++other) /* no edge is asked for twice */
            CHECK(q[other * group].user != q[k * group].user ||
                  q[other * group].item != q[k * group].item);
    }
    for (uint32_t u = 0; u < w->graph.n_users; ++u) {
        int64_t mine = 0, could = 0, place = r2_graph_user_degree(&w->graph, u);
        for (int64_t k = 0; k < n; ++k) mine += q[k * group].user == u;
        for (int64_t k = 0, later; --place >= 0;) { /* the latest of each */
            if (!could_ask(w, c, u, place)) continue;
            for (k = 0, later = 0; k < n; ++k)
                later += q[k * group].user == u && q[k * group].n_history == place;
            CHECK_EQ_INT(later, could++ < mine);
        }
        CHECK(mine <= could);
        in_all += could;
        if (mine > most) most = mine;
        if (mine < could && mine < fewest) fewest = mine;
    }
    CHECK(n == in_all || most <= fewest + 1); /* as even as it can be */
    return in_all;
}

TEST(training_questions) {
    enum { ROOM = 1200 };
    static const int64_t wanted[] = {1, 7, 30, 31, 100, 333, ROOM}, others[] = {0, 1, 3, 10};
    r2_ctx ctx = r2_ctx_default();
    r2_question *q = (r2_question *)calloc(2 * 4 * ROOM, sizeof *q), *again = q + 4 * ROOM;
    int64_t n, n_again;
    world w;
    REQUIRE(q && world_make(&ctx, &w, 40, 50, 0.2, 4));
    for (int k = 0; k < 28; ++k) {
        r2_draw_config c = {wanted[k % 7], 3, 5, others[k / 7], 77};
        REQUIRE_OK(&ctx, r2_questions_draw(&ctx, &w.index, &c, q, &n));
        const int64_t in_all = check_draw(&w, &c, q, n);
        CHECK_EQ_INT(n, in_all < c.n_groups ? in_all : c.n_groups);
        REQUIRE_OK(&ctx, r2_questions_draw(&ctx, &w.index, &c, again, &n_again));
        CHECK(n == n_again && !memcmp(q, again, (size_t)n * 4 * sizeof *q));
        c.seed++;
        REQUIRE_OK(&ctx, r2_questions_draw(&ctx, &w.index, &c, again, &n_again));
        CHECK(n == n_again && memcmp(q, again, (size_t)n * 4 * sizeof *q));
    }
    CHECK_STATUS(&ctx, draw_training(&ctx, &w.index, 0, 3, 5, 1, q, &n), R2_ARGUMENT);
    CHECK_STATUS(&ctx, draw_training(&ctx, &w.index, 9, -1, 5, 1, q, &n), R2_ARGUMENT);
    CHECK_STATUS(&ctx, draw_training(&ctx, &w.index, 9, 3, -1, 1, q, &n), R2_ARGUMENT);
    r2_draw_config nobody = {9, 3, 5, 41, 1};
    CHECK_STATUS(&ctx, r2_questions_draw(&ctx, &w.index, &nobody, q, &n), R2_ARGUMENT);
    CHECK(strstr(ctx.message, "41 others"));
    nobody.min_train = -1;
    CHECK_STATUS(&ctx, r2_questions_draw(&ctx, &w.index, &nobody, q, &n), R2_ARGUMENT);
    world_free(&ctx, &w);
    REQUIRE(world_make(&ctx, &w, 4, 6, 1.0, 4)); /* everybody has everything: nothing to sample */
    CHECK_STATUS(&ctx, draw_training(&ctx, &w.index, 9, 3, 2, 1, q, &n), R2_ARGUMENT);
    world_free(&ctx, &w);
    free(q);
}

/* Sampled items are uniform over what the user has not rated: chi-square, 19 degrees of freedom,
   below its 1e-6 quantile. */
TEST(sampled_items_are_uniform) {
    r2_ctx ctx = r2_ctx_default();
    world w;
    double count[20] = {0}, expected[20] = {0}, chi = 0.0;
    static r2_question q[1 + 4000];
    REQUIRE(world_make(&ctx, &w, 30, 20, 0.4, 6));
    for (uint64_t seed = 0; seed < 10; ++seed) {
        int64_t n;
        REQUIRE_OK(&ctx, draw_training(&ctx, &w.index, 1, 4000, 1, seed, q, &n));
        for (uint32_t i = 0; i < 20; ++i)
            if (r2_graph_find(&w.graph, q[0].user, i) < 0)
                expected[i] += 4000.0 / (double)(20 - r2_graph_user_degree(&w.graph, q[0].user));
        for (int k = 1; k <= 4000; ++k) count[q[k].item] += 1.0;
    }
    for (int i = 0; i < 20; ++i)
        if (expected[i] > 0.0)
            chi += (count[i] - expected[i]) * (count[i] - expected[i]) / expected[i];
    CHECK(chi < 65.0);
    world_free(&ctx, &w);
}

/* ---- memory that runs out ---- */

TEST(evidence_survives_any_failed_allocation) {
    r2_ctx ctx = r2_ctx_default();
    ratings_memory memory = {0, 0};
    world w;
    r2_rng rng = r2_rng_make(14, R2_STREAM_USER, 0);
    r2_question question[30], drawn[40];
    r2_evidence evidence[30];
    int64_t n;
    r2_status status = R2_NO_MEMORY;
    REQUIRE(world_make(&ctx, &w, 9, 14, 0.5, 3));
    for (int k = 0; k < 30; ++k) question[k] = draw_question(&w, &rng);
    ctx.realloc_fn = ratings_realloc;
    ctx.hook_data = &memory;
    ctx.n_threads = 1;
    for (int64_t room = 0; status != R2_OK && room < 1000; ++room) {
        r2_index index;
        memory.left = room;
        status = r2_index_init(&ctx, &index, &w.graph, &w.data, POSITIVE, SEED);
        if (status == R2_OK) status = compute(&ctx, &index, question, 30, 4, evidence);
        if (status == R2_OK) status = draw_training(&ctx, &index, 10, 3, 2, 1, drawn, &n);
        r2_index_free(&ctx, &index);
        if (!CHECK(status == R2_OK || status == R2_NO_MEMORY) || !CHECK_EQ_INT(memory.alive, 0))
            break;
    }
    CHECK_EQ_INT(status, R2_OK);
    ctx.realloc_fn = NULL;
    world_free(&ctx, &w);
}

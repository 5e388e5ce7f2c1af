/* [M3] chains: they are what they claim to be, drawn by the law that was asked for, and blind to
   the edge they ask about. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"
#include "ratings.h"

typedef struct world {
    r2_ctx ctx;
    r2_data data;
    r2_graph g;
} world;

static int world_make(world *w, int n_users, int n_items, double probability, uint64_t seed) {
    w->ctx = r2_ctx_default();
    return CHECK_STATUS(&w->ctx,
                        ratings_random(&w->ctx, &w->data, n_users, n_items, probability, seed),
                        R2_OK) &&
           CHECK_STATUS(&w->ctx, r2_graph_init(&w->ctx, &w->g, &w->data, NULL), R2_OK);
}

static void world_free(world *w) {
    r2_graph_free(&w->ctx, &w->g);
    r2_data_free(&w->ctx, &w->data);
}

/* ---- all chains, from the definition ---- */

#define LIST_MAX 20000

typedef struct list {
    int64_t n;
    r2_chain at[LIST_MAX];
    double weight[LIST_MAX]; /* 1 / chains over the same u1 */
} list;

static bool has(const r2_graph *g, uint32_t user, uint32_t item) {
    return r2_graph_find(g, user, item) >= 0;
}

static void list_add(list *all, uint32_t u0, uint32_t i0, uint32_t u1, uint32_t i1) {
    if (!CHECK(all->n < LIST_MAX)) return;
    memset(&all->at[all->n], 0, sizeof *all->at);
    all->at[all->n].u0 = u0;
    all->at[all->n].i0 = i0;
    all->at[all->n].u1 = u1;
    all->at[all->n++].i1 = i1;
}

/* Target chains, or closed ones (item = R2_NO_ITEM, i0 < i1). */
static void list_make(list *all, const r2_graph *g, uint32_t u0, uint32_t item) {
    all->n = 0;
    for (uint32_t u1 = 0; u1 < g->n_users; ++u1) {
        int64_t first = all->n;
        for (uint32_t i0 = 0; i0 < g->n_items && u1 != u0; ++i0) {
            if (i0 == item || !has(g, u0, i0) || !has(g, u1, i0)) continue;
            if (item != R2_NO_ITEM) {
                if (has(g, u1, item)) list_add(all, u0, i0, u1, item);
                continue;
            }
            for (uint32_t i1 = i0 + 1; i1 < g->n_items; ++i1)
                if (has(g, u0, i1) && has(g, u1, i1)) list_add(all, u0, i0, u1, i1);
        }
        for (int64_t k = first; k < all->n; ++k) all->weight[k] = 1.0 / (double)(all->n - first);
    }
}

/* Place of a chain (or its mirror) in the list, or -1. */
static int64_t list_find(const list *all, r2_chain chain, bool closed) {
    uint32_t i0 = chain.i0, i1 = chain.i1;
    if (closed && i0 > i1) i0 = chain.i1, i1 = chain.i0;
    for (int64_t k = 0; k < all->n; ++k)
        if (all->at[k].u1 == chain.u1 && all->at[k].i0 == i0 && all->at[k].i1 == i1) return k;
    return -1;
}

/* Four edges that are there, with their ratings. */
static void check_chain(const r2_graph *g, r2_chain c, bool closed) {
    CHECK(c.u0 != c.u1 && c.i0 != c.i1);
    if (!CHECK(has(g, c.u0, c.i0) && has(g, c.u1, c.i0) && has(g, c.u1, c.i1))) return;
    CHECK(c.r1 == g->user_rating[r2_graph_find(g, c.u0, c.i0)]);
    CHECK(c.r2 == g->user_rating[r2_graph_find(g, c.u1, c.i0)]);
    CHECK(c.r3 == g->user_rating[r2_graph_find(g, c.u1, c.i1)]);
    if (!closed) CHECK(isnan(c.r4));
    else if (CHECK(has(g, c.u0, c.i1))) CHECK(c.r4 == g->user_rating[r2_graph_find(g, c.u0, c.i1)]);
}

/* Is chi-square of `count` against `weight` within 5 standard deviations of its mean? */
static void check_law(const int64_t *count, const double *weight, int64_t n) {
    double total = 0.0, weights = 0.0, chi = 0.0;
    for (int64_t k = 0; k < n; ++k) total += (double)count[k], weights += weight[k];
    for (int64_t k = 0; k < n; ++k) {
        double expected = total * weight[k] / weights;
        chi += ((double)count[k] - expected) * ((double)count[k] - expected) / expected;
    }
    if (!CHECK(chi < (double)(n - 1) + 5.0 * sqrt(2.0 * (double)(n - 1))))
        printf("    chi-square %.1f of %lld chains\n", chi, (long long)n);
}

static r2_status draw(world *w, uint32_t u0, uint32_t item, const r2_chain_config *config,
                      r2_chain *chains, int64_t *n) {
    return item == R2_NO_ITEM ? r2_chains_closed(&w->ctx, &w->g, u0, config, chains, n)
                              : r2_chains_target(&w->ctx, &w->g, u0, item, config, chains, n);
}

/* ---- tests ---- */

TEST(every_chain_is_listed_once) {
    static list all;
    static r2_chain chains[LIST_MAX];
    static uint8_t seen[LIST_MAX];
    for (uint64_t seed = 0; seed < 12; ++seed) {
        r2_chain_config config = r2_chain_config_default();
        world w;
        REQUIRE(world_make(&w, 14, 12, 0.15 + 0.05 * (double)seed, seed));
        config.k = LIST_MAX;
        for (uint32_t u0 = 0; u0 < w.g.n_users; ++u0)
            for (uint32_t i = 0; i <= w.g.n_items; i += 3) {
                uint32_t item = u0 % 2 ? i : R2_NO_ITEM;
                int64_t n, count;
                if (item != R2_NO_ITEM && item >= w.g.n_items) continue;
                list_make(&all, &w.g, u0, item);
                config.law = i % 2 ? R2_CHAINS_UNIFORM : R2_CHAINS_UNIFORM_USERS;
                REQUIRE_OK(&w.ctx, draw(&w, u0, item, &config, chains, &n));
                REQUIRE_OK(&w.ctx, r2_chains_count(&w.ctx, &w.g, u0, item, &count));
                CHECK_EQ_INT(n, all.n);
                CHECK_EQ_INT(count, all.n);
                memset(seen, 0, sizeof seen);
                for (int64_t k = 0; k < n; ++k) {
                    int64_t place = list_find(&all, chains[k], item == R2_NO_ITEM);
                    check_chain(&w.g, chains[k], item == R2_NO_ITEM);
                    if (CHECK(place >= 0)) CHECK(!seen[place]++);
                }
            }
        world_free(&w);
    }
}

/* Each user's closed chains are the butterflies that it lies in. */
TEST(closed_chains_are_butterflies) {
    world w;
    r2_butterflies b;
    REQUIRE(world_make(&w, 30, 25, 0.4, 21));
    REQUIRE_OK(&w.ctx, r2_butterflies_init(&w.ctx, &b, &w.g));
    for (uint32_t u = 0; u < w.g.n_users; ++u) {
        int64_t count;
        REQUIRE_OK(&w.ctx, r2_chains_count(&w.ctx, &w.g, u, R2_NO_ITEM, &count));
        CHECK_EQ_INT(count, b.user[u]);
    }
    r2_butterflies_free(&w.ctx, &b);
    world_free(&w);
}

/* Draws often and compares with the list: one question, one law. `k` chains a draw. */
static void check_draws(world *w, uint32_t u0, uint32_t item, r2_chain_law law, int64_t k,
                        bool replacement, int n_draws) {
    static list all;
    static int64_t count[LIST_MAX];
    static double even[LIST_MAX];
    r2_chain_config config = r2_chain_config_default();
    int64_t ahead = 0, behind = 0;
    list_make(&all, &w->g, u0, item);
    if (!CHECK(all.n > k)) return;
    memset(count, 0, sizeof count);
    for (int64_t j = 0; j < all.n; ++j) even[j] = 1.0;
    config.law = law;
    config.k = k;
    config.replacement = replacement;
    for (int d = 0; d < n_draws; ++d) {
        r2_chain chains[8];
        int64_t n, place[8];
        config.seed = (uint64_t)d;
        if (!CHECK_STATUS(&w->ctx, draw(w, u0, item, &config, chains, &n), R2_OK)) return;
        if (!CHECK_EQ_INT(n, k)) return;
        for (int64_t j = 0; j < n; ++j) {
            place[j] = list_find(&all, chains[j], item == R2_NO_ITEM);
            if (!CHECK(place[j] >= 0)) return;
            count[place[j]]++;
            for (int64_t m = 0; m < j && !replacement; ++m) CHECK(place[m] != place[j]);
            if (chains[j].i0 < chains[j].i1) ++ahead;
            else ++behind;
        }
    }
    check_law(count, law == R2_CHAINS_UNIFORM ? even : all.weight, all.n);
    if (item == R2_NO_ITEM) /* the coin that says which item comes first */
        CHECK(fabs((double)(ahead - behind)) < 5.0 * sqrt((double)(ahead + behind)));
}

TEST(laws_of_small_graphs) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
        world w;
        REQUIRE(world_make(&w, 12, 10, seed % 2 ? 0.35 : 0.7, 100 + seed));
        for (int law = R2_CHAINS_UNIFORM; law <= R2_CHAINS_UNIFORM_USERS; ++law) {
            check_draws(&w, 0, R2_NO_ITEM, (r2_chain_law)law, 1, true, 20000);
            check_draws(&w, 0, R2_NO_ITEM, (r2_chain_law)law, 3, true, 5000);
            check_draws(&w, 1, 2, (r2_chain_law)law, 1, false, 20000);
            check_draws(&w, 1, 2, (r2_chain_law)law, 2, true, 10000);
        }
        /* without replacement every chain is still as likely as any other */
        check_draws(&w, 0, R2_NO_ITEM, R2_CHAINS_UNIFORM, 3, false, 5000);
        check_draws(&w, 1, 2, R2_CHAINS_UNIFORM, 3, false, 5000);
        world_free(&w);
    }
}

/* On a larger graph proposals do the work; both ways must keep the same law. */
TEST(proposals_keep_the_law) {
    world w;
    REQUIRE(world_make(&w, 60, 60, 0.5, 33));
    check_draws(&w, 5, 7, R2_CHAINS_UNIFORM, 1, false, 60000);
    check_draws(&w, 5, 7, R2_CHAINS_UNIFORM, 4, false, 15000);
    check_draws(&w, 5, 7, R2_CHAINS_UNIFORM, 4, true, 15000);
    world_free(&w);
}

/* A user of MovieLens with few ratings, so that the list is short enough. */
TEST(laws_of_movielens) {
    world w;
    static list all;
    uint32_t user = 0, item;
    const char *path = ratings_real();
    if (!path) SKIP("MovieLens latest-small is not there (make data)");
    w.ctx = r2_ctx_default();
    REQUIRE_OK(&w.ctx, r2_data_load(&w.ctx, &w.data, path));
    REQUIRE_OK(&w.ctx, r2_graph_init(&w.ctx, &w.g, &w.data, NULL));
    while (r2_graph_user_degree(&w.g, user) != 20) ++user;
    item = w.g.user_item[w.g.user_begin[user] + 3];
    list_make(&all, &w.g, user, item);
    REQUIRE(all.n > 50);
    check_draws(&w, user, item, R2_CHAINS_UNIFORM, 1, false, 60000);
    check_draws(&w, user, item, R2_CHAINS_UNIFORM_USERS, 1, false, 20000);
    world_free(&w);
}

/* ---- coherent chains ---- */

static double agreement(const r2_graph *g, uint32_t u0, uint32_t u1, uint32_t item) {
    double sum = 0.0, n = 0.0;
    for (uint32_t i = 0; i < g->n_items; ++i) {
        int64_t a = r2_graph_find(g, u0, i), b = r2_graph_find(g, u1, i);
        if (i == item || a < 0 || b < 0) continue;
        sum += 1.0 - 2.0 * fabs((double)g->user_rating[a] - (double)g->user_rating[b]) / 4.5;
        n += 1.0;
    }
    return sum / (n + 5.0);
}

static int32_t when(const r2_graph *g, uint32_t user, uint32_t item) {
    return g->user_time[r2_graph_find(g, user, item)];
}

static bool among(const r2_chain *chains, int64_t n, uint32_t item) {
    for (int64_t k = 0; k < n; ++k)
        if (chains[k].i0 == item || chains[k].i1 == item) return true;
    return false;
}

TEST(coherent_chains_come_in_order) {
    r2_chain_config config = r2_chain_config_default();
    r2_chain chains[12];
    world w;
    REQUIRE(world_make(&w, 25, 25, 0.4, 55));
    config.k = 12;
    for (uint32_t u0 = 0; u0 < w.g.n_users; ++u0)
        for (uint32_t item = 0; item < w.g.n_items; item += 5) {
            int64_t n;
            double best = -2.0;
            REQUIRE_OK(&w.ctx, draw(&w, u0, item, &config, chains, &n));
            CHECK(n > 0);
            for (uint32_t u1 = 0; u1 < w.g.n_users; ++u1)
                if (u1 != u0 && has(&w.g, u1, item) && agreement(&w.g, u0, u1, item) > best)
                    best = agreement(&w.g, u0, u1, item);
            CHECK_WITHIN(chains[0].score, best, 1e-6);
            for (int64_t k = 0; k < n; ++k) {
                check_chain(&w.g, chains[k], false);
                CHECK_WITHIN(chains[k].score, agreement(&w.g, u0, chains[k].u1, item), 1e-6);
                if (k) CHECK(chains[k].score <= chains[k - 1].score);
                for (int64_t m = 0; m < k; ++m)
                    CHECK(chains[m].u1 != chains[k].u1 && chains[m].i0 != chains[k].i0);
                /* i0 is the latest shared item that was still free */
                for (uint32_t i = 0; i < w.g.n_items; ++i)
                    if (i != item && has(&w.g, u0, i) && has(&w.g, chains[k].u1, i) &&
                        !among(chains, k, i))
                        CHECK(when(&w.g, u0, i) <= when(&w.g, u0, chains[k].i0));
            }
        }
    world_free(&w);
}

TEST(coherent_chains_closed_and_repeating) {
    r2_chain_config config = r2_chain_config_default();
    r2_chain chains[40];
    int64_t n, same = 0;
    world w;
    REQUIRE(world_make(&w, 25, 25, 0.4, 56));
    config.k = 40;
    for (uint32_t u0 = 0; u0 < w.g.n_users; ++u0) {
        config.distinct = true;
        REQUIRE_OK(&w.ctx, draw(&w, u0, R2_NO_ITEM, &config, chains, &n));
        CHECK(n > 0);
        for (int64_t k = 0; k < n; ++k) {
            check_chain(&w.g, chains[k], true);
            CHECK(!among(chains, k, chains[k].i0) && !among(chains, k, chains[k].i1));
            CHECK(when(&w.g, u0, chains[k].i0) <= when(&w.g, u0, chains[k].i1));
        }
        config.distinct = false;
        REQUIRE_OK(&w.ctx, draw(&w, u0, 3, &config, chains, &n));
        for (int64_t k = 1; k < n; ++k) {
            same += chains[k].u1 == chains[k - 1].u1;
            CHECK(chains[k].score <= chains[k - 1].score);
            if (chains[k].u1 == chains[k - 1].u1)
                CHECK(when(&w.g, u0, chains[k].i0) <= when(&w.g, u0, chains[k - 1].i0));
        }
        REQUIRE_OK(&w.ctx, draw(&w, u0, R2_NO_ITEM, &config, chains, &n));
        for (int64_t k = 1, first = 0; k < n; ++k) { /* over one u1 no item comes twice */
            if (chains[k].u1 != chains[k - 1].u1) first = k;
            CHECK(!among(chains + first, k - first, chains[k].i0));
            CHECK(!among(chains + first, k - first, chains[k].i1));
        }
    }
    CHECK(same > 100);
    world_free(&w);
}

/* ---- nothing to find, wrong questions ---- */

TEST(no_chain_is_a_result) {
    static const char *const texts[] = {"a x 1 0\n", "a x 1 0\na y 1 0\na z 1 0\n",
                                        "a x 1 0\nb x 1 0\nc x 1 0\n"};
    for (int t = 0; t < 3; ++t)
        for (int law = 0; law < 3; ++law) {
            r2_chain_config config = r2_chain_config_default();
            r2_chain chains[4];
            world w;
            int64_t n = -1;
            w.ctx = r2_ctx_default();
            config.law = (r2_chain_law)law;
            config.replacement = law == 1;
            REQUIRE_OK(&w.ctx, ratings_load(&w.ctx, &w.data, texts[t]));
            REQUIRE_OK(&w.ctx, r2_graph_init(&w.ctx, &w.g, &w.data, NULL));
            CHECK_STATUS(&w.ctx, draw(&w, 0, 0, &config, chains, &n), R2_OK);
            CHECK_EQ_INT(n, 0);
            CHECK_STATUS(&w.ctx, draw(&w, 0, R2_NO_ITEM, &config, chains, &n), R2_OK);
            CHECK_EQ_INT(n, 0);
            world_free(&w);
        }
}

TEST(wrong_questions) {
    r2_chain_config config = r2_chain_config_default();
    r2_chain chains[4];
    r2_target pair = {0, R2_NO_ITEM, 0};
    int64_t n;
    world w;
    REQUIRE(world_make(&w, 5, 5, 0.5, 1));
    CHECK_STATUS(&w.ctx, draw(&w, 5, 0, &config, chains, &n), R2_ARGUMENT);
    CHECK_STATUS(&w.ctx, draw(&w, 0, 5, &config, chains, &n), R2_ARGUMENT);
    CHECK_STATUS(&w.ctx, r2_chains_target(&w.ctx, &w.g, 0, R2_NO_ITEM, &config, chains, &n),
                 R2_ARGUMENT);
    CHECK_STATUS(&w.ctx, r2_chains_target_many(&w.ctx, &w.g, &pair, 1, &config, chains, &n),
                 R2_ARGUMENT);
    config.k = -1;
    CHECK_STATUS(&w.ctx, draw(&w, 0, 0, &config, chains, &n), R2_ARGUMENT);
    world_free(&w);
}

/* ---- blind to the edge that is asked for ---- */

#define LEAK_K 4

typedef struct derived {
    r2_chain chains[3][LEAK_K], many[LEAK_K];
    int64_t n[3], n_many, count;
} derived;

/* Everything that S4 says of a question, by all laws. */
static int derive(r2_ctx *ctx, const r2_graph *g, r2_target target, derived *d) {
    r2_chain_config config = r2_chain_config_default();
    int good = 1;
    memset(d, 0, sizeof *d);
    config.k = LEAK_K;
    for (int law = 0; law < 3 && good; ++law) {
        config.law = (r2_chain_law)law;
        good = !r2_chains_target(ctx, g, target.user, target.item, &config, d->chains[law],
                                 &d->n[law]);
    }
    config.law = R2_CHAINS_UNIFORM;
    return good && !r2_chains_target_many(ctx, g, &target, 1, &config, d->many, &d->n_many) &&
           !r2_chains_count(ctx, g, target.user, target.item, &d->count);
}

/* Asks about (u0, item) with the edge as it is, with another rating and time, and without it. */
static void check_blind(r2_ctx *ctx, const r2_data *data, uint8_t *role, r2_target target) {
    static derived as_it_is, flipped, deleted;
    const uint8_t was = role[target.row];
    r2_graph g;
    role[target.row] = R2_TRAIN;
    if (!CHECK_STATUS(ctx, r2_graph_init(ctx, &g, data, role), R2_OK)) return;
    if (CHECK(derive(ctx, &g, target, &as_it_is))) {
        int64_t e = r2_graph_find(&g, target.user, target.item);
        float *rating = &g.user_rating[e];
        *rating = *rating > 2.5f ? 0.5f : 5.0f;
        g.user_time[e] = INT32_MAX;
        CHECK(derive(ctx, &g, target, &flipped));
        CHECK(memcmp(&as_it_is, &flipped, sizeof as_it_is) == 0);
    }
    r2_graph_free(ctx, &g);
    role[target.row] = R2_UNUSED;
    if (!CHECK_STATUS(ctx, r2_graph_init(ctx, &g, data, role), R2_OK)) return;
    CHECK(derive(ctx, &g, target, &deleted));
    CHECK(memcmp(&as_it_is, &deleted, sizeof as_it_is) == 0);
    r2_graph_free(ctx, &g);
    role[target.row] = was;
}

static void check_blind_data(r2_ctx *ctx, const r2_data *data, int64_t stride) {
    r2_split split;
    int64_t n = 0;
    if (!CHECK_STATUS(ctx, r2_split_init(ctx, &split, data, NULL), R2_OK)) return;
    for (uint32_t u = 0; u < data->n_users; ++u)
        for (int64_t row = data->user_begin[u]; row < data->user_begin[u + 1]; ++row) {
            r2_target target = {u, data->item[row], row};
            if (split.role[row] == R2_TRAIN && n++ % stride == 0)
                check_blind(ctx, data, split.role, target);
        }
    for (int64_t k = 0; k < split.n_test; k += 1 + stride / 100)
        check_blind(ctx, data, split.role, split.test[k]);
    r2_split_free(ctx, &split);
}

TEST(the_closing_edge_is_invisible) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
        world w;
        REQUIRE(world_make(&w, 20, 20, 0.2 + 0.25 * (double)seed, 70 + seed));
        check_blind_data(&w.ctx, &w.data, 1);
        world_free(&w);
    }
    /* few users: here the mean degree of all others feels one edge more or less */
    for (uint64_t seed = 0; seed < 12; ++seed) {
        world w;
        REQUIRE(world_make(&w, 6, 40, 0.5, 170 + seed));
        check_blind_data(&w.ctx, &w.data, 1);
        world_free(&w);
    }
}

TEST(the_closing_edge_is_invisible_in_movielens) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    const char *path = ratings_real();
    if (!path) SKIP("MovieLens latest-small is not there (make data)");
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, path));
    check_blind_data(&ctx, &data, 5003);
    r2_data_free(&ctx, &data);
}

/* ---- threads ---- */

TEST(threads_draw_the_same) {
    static const int threads[3] = {1, 2, 8};
    enum { PAIRS = 400, K = 3 };
    static r2_target pairs[PAIRS];
    static r2_chain chains[3][PAIRS * K], one[K];
    static int64_t n[3][PAIRS];
    world w;
    REQUIRE(world_make(&w, 80, 60, 0.3, 81));
    for (uint32_t k = 0; k < PAIRS; ++k) {
        pairs[k].user = k * 7 % (uint32_t)w.g.n_users;
        pairs[k].item = k * 13 % (uint32_t)w.g.n_items;
    }
    for (int law = 0; law < 3; ++law) {
        r2_chain_config config = r2_chain_config_default();
        config.law = (r2_chain_law)law;
        config.k = K;
        memset(chains, 0, sizeof chains);
        for (int t = 0; t < 3; ++t) {
            w.ctx.n_threads = threads[t];
            REQUIRE_OK(&w.ctx,
                       r2_chains_target_many(&w.ctx, &w.g, pairs, PAIRS, &config, chains[t], n[t]));
            CHECK(memcmp(chains[t], chains[0], sizeof chains[0]) == 0);
            CHECK(memcmp(n[t], n[0], sizeof n[0]) == 0);
        }
        for (int64_t k = 0; k < PAIRS; ++k) {
            int64_t n_one;
            REQUIRE_OK(&w.ctx, draw(&w, pairs[k].user, pairs[k].item, &config, one, &n_one));
            CHECK_EQ_INT(n_one, n[0][k]);
            CHECK(memcmp(one, chains[0] + k * K, (size_t)n_one * sizeof *one) == 0);
        }
    }
    world_free(&w);
}

TEST(every_failed_allocation_is_reported_and_nothing_leaks) {
    ratings_memory memory = {0, 0};
    r2_ctx ctx;
    world w;
    int64_t n_allocations = 0;
    REQUIRE(world_make(&w, 20, 15, 0.5, 3));
    ctx = w.ctx;
    ctx.realloc_fn = ratings_realloc;
    ctx.user = &memory;
    for (bool done = false; !done; ++n_allocations) {
        r2_chain_config config = r2_chain_config_default();
        r2_target pairs[3] = {{0, 1, 0}, {1, 2, 0}, {2, 3, 0}};
        r2_chain chains[12];
        int64_t n[3];
        r2_status status;
        memory.left = n_allocations;
        status = r2_chains_target(&ctx, &w.g, 0, 0, &config, chains, n);
        if (!status) status = r2_chains_closed(&ctx, &w.g, 0, &config, chains, n);
        if (!status) status = r2_chains_target_many(&ctx, &w.g, pairs, 3, &config, chains, n);
        CHECK(status == R2_OK || status == R2_NO_MEMORY);
        CHECK_EQ_INT(memory.alive, 0);
        done = status == R2_OK;
        REQUIRE(n_allocations < 100);
    }
    CHECK(n_allocations > 10);
    world_free(&w);
}

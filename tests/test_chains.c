/* [M3] chains: they are what they claim to be, chosen by the law that was asked for, the same that a
   run shows, and blind to the edge they ask about. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#include "header.h"
#include "ratings.h"

#define SEED 5 /* of the split's tie rule */

typedef struct world {
    r2_ctx ctx;
    r2_data data;
    r2_graph g;
    r2_index index;
} world;

static int world_index(world *w, const uint8_t *role) {
    return CHECK_STATUS(&w->ctx, r2_graph_init(&w->ctx, &w->g, &w->data, role), R2_OK) &&
           CHECK_STATUS(&w->ctx, r2_index_init(&w->ctx, &w->index, &w->g, &w->data, 4.0f, SEED),
                        R2_OK);
}

static void world_unindex(world *w) {
    r2_index_free(&w->ctx, &w->index);
    r2_graph_free(&w->ctx, &w->g);
}

static int world_make(world *w, int n_users, int n_items, double probability, uint64_t seed) {
    memset(w, 0, sizeof *w);
    w->ctx = r2_ctx_default();
    return CHECK_STATUS(&w->ctx,
                        ratings_random(&w->ctx, &w->data, n_users, n_items, probability, seed),
                        R2_OK) &&
           world_index(w, NULL);
}

static int world_text(world *w, const char *text) {
    memset(w, 0, sizeof *w);
    w->ctx = r2_ctx_default();
    return CHECK_STATUS(&w->ctx, ratings_load(&w->ctx, &w->data, text), R2_OK) &&
           world_index(w, NULL);
}

static void world_free(world *w) {
    world_unindex(w);
    r2_data_free(&w->ctx, &w->data);
}

/* After the user's first `history` interactions; -1: after all of them. */
static r2_question ask(const world *w, uint32_t user, uint32_t item, int32_t history) {
    r2_question q = {user, item, history, -1, 0, 0, 0, 0};
    if (history < 0) q.n_history = (int32_t)r2_graph_user_degree(&w->g, user);
    return q;
}

/* Target chains, or closed ones when the question has no item. */
static r2_status draw(world *w, const r2_question *q, const r2_chain_config *config,
                      r2_chain *chains, int64_t *n) {
    return q->item == R2_NO_ITEM ? r2_chains_closed(&w->ctx, &w->index, q->user, config, chains, n)
                                 : r2_chains_target(&w->ctx, &w->index, q, config, chains, n);
}

/* ---- all chains, from the definition ---- */

#define LIST_MAX 20000

typedef struct list {
    int64_t n, n_people;
    r2_chain at[LIST_MAX];
    int64_t far[LIST_MAX], place[LIST_MAX]; /* age + |d|; of i0 in u0's history */
    double weight[LIST_MAX];                /* 1 / chains over the same u1      */
} list;

static bool has(const r2_graph *g, uint32_t user, uint32_t item) {
    return r2_graph_find(g, user, item) >= 0;
}

/* Place of an edge in its user's history; of u0's, as if the edge to the target did not exist. */
static int64_t place_of(const world *w, const r2_question *q, uint32_t user, uint32_t item) {
    int64_t edge = r2_graph_find(&w->g, user, item), place = (int64_t)w->index.position[edge];
    int64_t target = q->item == R2_NO_ITEM ? -1 : r2_graph_find(&w->g, q->user, q->item);
    if (user == q->user && target >= 0) place -= place > (int64_t)w->index.position[target];
    return place;
}

/* How long u0's history is without the edge to the target. */
static int64_t length_of(const world *w, const r2_question *q) {
    int64_t target = q->item == R2_NO_ITEM ? -1 : r2_graph_find(&w->g, q->user, q->item);
    return q->n_history - (target >= 0 && (int64_t)w->index.position[target] < q->n_history);
}

/* Whether item is in u0's history and not the target. */
static bool in_history(const world *w, const r2_question *q, uint32_t item) {
    return item != q->item && has(&w->g, q->user, item) &&
           place_of(w, q, q->user, item) < length_of(w, q);
}

static void list_add(list *all, const world *w, const r2_question *q, uint32_t i0, uint32_t u1,
                     uint32_t i1) {
    r2_chain *c = &all->at[all->n];
    int64_t until = q->item == R2_NO_ITEM ? place_of(w, q, q->user, i1) : length_of(w, q);
    int64_t d = place_of(w, q, u1, i1) - place_of(w, q, u1, i0);
    if (!CHECK(all->n < LIST_MAX - 1)) return;
    memset(c, 0, sizeof *c);
    c->u0 = q->user, c->i0 = i0, c->u1 = u1, c->i1 = i1;
    all->place[all->n] = place_of(w, q, q->user, i0);
    all->far[all->n] = until - 1 - all->place[all->n] + (d < 0 ? -d : d);
    all->n++;
}

static void list_make(list *all, const world *w, const r2_question *q) {
    const r2_graph *g = &w->g;
    all->n = all->n_people = 0;
    for (uint32_t u1 = 0; u1 < g->n_users; ++u1) {
        int64_t first = all->n;
        for (uint32_t i0 = 0; i0 < g->n_items && u1 != q->user; ++i0) {
            if (!in_history(w, q, i0) || !has(g, u1, i0)) continue;
            if (q->item != R2_NO_ITEM) {
                if (has(g, u1, q->item)) list_add(all, w, q, i0, u1, q->item);
                continue;
            }
            for (uint32_t i1 = 0; i1 < g->n_items; ++i1)
                if (in_history(w, q, i1) && has(g, u1, i1) &&
                    place_of(w, q, q->user, i1) > place_of(w, q, q->user, i0))
                    list_add(all, w, q, i0, u1, i1);
        }
        for (int64_t k = first; k < all->n; ++k) all->weight[k] = 1.0 / (double)(all->n - first);
        all->n_people += all->n > first;
    }
}

static int64_t list_find(const list *all, r2_chain chain) {
    for (int64_t k = 0; k < all->n; ++k)
        if (all->at[k].u1 == chain.u1 && all->at[k].i0 == chain.i0 && all->at[k].i1 == chain.i1)
            return k;
    return -1;
}

/* From the definition: over the items that v shares with the history. */
static double simrec(const world *w, const r2_question *q, uint32_t v) {
    double sum = 0.0;
    for (uint32_t i0 = 0; i0 < w->g.n_items; ++i0) {
        double age, n_i0;
        if (!in_history(w, q, i0) || !has(&w->g, v, i0)) continue;
        age = (double)(length_of(w, q) - 1 - place_of(w, q, q->user, i0));
        n_i0 = (double)r2_graph_item_degree(&w->g, i0) - 1.0;
        sum += pow(0.5, age / 10.0) /
               sqrt((n_i0 + 1.0) * ((double)r2_graph_user_degree(&w->g, v) + 1.0));
    }
    return sum;
}

/* Four edges that are there, with their ratings, and the score of the formula. */
static void check_chain(const world *w, const r2_question *q, const list *all, r2_chain c) {
    const r2_graph *g = &w->g;
    int64_t k = list_find(all, c);
    CHECK(c.u0 == q->user && c.u0 != c.u1 && c.i0 != c.i1);
    if (!CHECK(k >= 0)) return;
    CHECK(c.r1 == g->user_rating[r2_graph_find(g, c.u0, c.i0)]);
    CHECK(c.r2 == g->user_rating[r2_graph_find(g, c.u1, c.i0)]);
    CHECK(c.r3 == g->user_rating[r2_graph_find(g, c.u1, c.i1)]);
    if (q->item != R2_NO_ITEM) CHECK(isnan(c.r4));
    else if (CHECK(has(g, c.u0, c.i1))) CHECK(c.r4 == g->user_rating[r2_graph_find(g, c.u0, c.i1)]);
    CHECK_NEAR(c.score, pow(0.5, (double)all->far[k] / 10.0) * simrec(w, q, c.u1), 1e-5);
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

/* ---- the numbers of the header ---- */

TEST(the_header_calculates_right) {
    world w;
    r2_chain_config config = r2_chain_config_default();
    r2_chain chains[4];
    r2_question q;
    int64_t n;
    REQUIRE(world_text(&w, "user,item,rating,time\nAnn,Alien,5,1\nAnn,Heat,4,2\nBob,Alien,5,1\n"
                           "Bob,Heat,3,2\nBob,Tron,4,3\nCyd,Heat,2,1\nCyd,Tron,5,2\n"));
    q = ask(&w, 0, 2, -1);
    config.law = R2_CHAINS_UNIFORM;
    REQUIRE_OK(&w.ctx, draw(&w, &q, &config, chains, &n));
    CHECK_EQ_INT(n, 3);
    for (int64_t k = 0; k < n; ++k) {
        const r2_chain *c = &chains[k];
        int age = 1 - (int)place_of(&w, &q, c->u0, c->i0);
        int d = (int)(place_of(&w, &q, c->u1, c->i1) - place_of(&w, &q, c->u1, c->i0));
        char walk[80];
        snprintf(walk, sizeof walk, "%s - %s - %s - %s - %s", w.data.user_key[c->u0],
                 w.data.item_key[c->i0], w.data.user_key[c->u1], w.data.item_key[c->i1],
                 w.data.user_key[c->u0]);
        CHECK(header_holds("%-33sage %d, |d| %d    0.5^(%d/10) x %.2f = %.2f", walk, age, d, age + d,
                           simrec(&w, &q, c->u1), (double)c->score));
    }
    config.law = R2_CHAINS_COHERENT;
    REQUIRE_OK(&w.ctx, draw(&w, &q, &config, chains, &n));
    CHECK(n == 2 && chains[0].u1 == 1 && chains[0].i0 == 1 && chains[1].u1 == 2);
    world_free(&w);
}

/* ---- uniform laws ---- */

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
                const bool closed = u0 % 2 == 0;
                r2_question q = ask(&w, u0, closed ? R2_NO_ITEM : i, closed || i % 2 ? -1 : 3);
                int64_t n, count;
                if (!closed && i >= w.g.n_items) continue;
                if (q.n_history > r2_graph_user_degree(&w.g, u0)) continue;
                list_make(&all, &w, &q);
                config.law = i % 2 ? R2_CHAINS_UNIFORM : R2_CHAINS_UNIFORM_USERS;
                REQUIRE_OK(&w.ctx, draw(&w, &q, &config, chains, &n));
                REQUIRE_OK(&w.ctx, r2_chains_count(&w.ctx, &w.index, &q, &count));
                CHECK_EQ_INT(count, all.n);
                CHECK_EQ_INT(n, config.law == R2_CHAINS_UNIFORM ? all.n : all.n_people);
                memset(seen, 0, sizeof seen);
                for (int64_t k = 0; k < n; ++k) {
                    int64_t place = list_find(&all, chains[k]);
                    check_chain(&w, &q, &all, chains[k]);
                    if (CHECK(place >= 0)) CHECK(!seen[place]++);
                    for (int64_t m = 0; m < k && config.law != R2_CHAINS_UNIFORM; ++m)
                        CHECK(chains[m].u1 != chains[k].u1);
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
        r2_question q = ask(&w, u, R2_NO_ITEM, -1);
        int64_t count;
        REQUIRE_OK(&w.ctx, r2_chains_count(&w.ctx, &w.index, &q, &count));
        CHECK_EQ_INT(count, b.user[u]);
    }
    r2_butterflies_free(&w.ctx, &b);
    world_free(&w);
}

/* Draws often and compares with the list: one question, one law, `k` chains a draw. */
static void check_draws(world *w, uint32_t u0, uint32_t item, r2_chain_law law, int64_t k,
                        int n_draws) {
    static list all;
    static int64_t count[LIST_MAX];
    static double even[LIST_MAX];
    const r2_question q = ask(w, u0, item, -1);
    r2_chain_config config = r2_chain_config_default();
    list_make(&all, w, &q);
    if (!CHECK((law == R2_CHAINS_UNIFORM ? all.n : all.n_people) >= k)) return;
    memset(count, 0, sizeof count);
    for (int64_t j = 0; j < all.n; ++j) even[j] = 1.0;
    config.law = law;
    config.k = k;
    for (int d = 0; d < n_draws; ++d) {
        r2_chain chains[8];
        int64_t n, place[8];
        config.seed = (uint64_t)d;
        if (!CHECK_STATUS(&w->ctx, draw(w, &q, &config, chains, &n), R2_OK)) return;
        if (!CHECK_EQ_INT(n, k)) return;
        for (int64_t j = 0; j < n; ++j) {
            place[j] = list_find(&all, chains[j]);
            if (!CHECK(place[j] >= 0)) return;
            count[place[j]]++;
            for (int64_t m = 0; m < j; ++m)
                CHECK(law == R2_CHAINS_UNIFORM ? place[m] != place[j]
                                               : chains[m].u1 != chains[j].u1);
        }
    }
    check_law(count, law == R2_CHAINS_UNIFORM ? even : all.weight, all.n);
}

TEST(laws_of_small_graphs) {
    for (uint64_t seed = 0; seed < 4; ++seed) {
        world w;
        REQUIRE(world_make(&w, 12, 10, seed % 2 ? 0.35 : 0.7, 100 + seed));
        for (int law = R2_CHAINS_UNIFORM; law <= R2_CHAINS_UNIFORM_USERS; ++law) {
            check_draws(&w, 0, R2_NO_ITEM, (r2_chain_law)law, 1, 20000);
            check_draws(&w, 0, R2_NO_ITEM, (r2_chain_law)law, 3, 5000);
            check_draws(&w, 1, 2, (r2_chain_law)law, 1, 20000);
            check_draws(&w, 1, 2, (r2_chain_law)law, 2, 10000);
        }
        world_free(&w);
    }
}

/* On a larger graph proposals do the work; both ways must keep the same law. */
TEST(proposals_keep_the_law) {
    world w;
    REQUIRE(world_make(&w, 60, 60, 0.5, 33));
    check_draws(&w, 5, 7, R2_CHAINS_UNIFORM, 1, 60000);
    check_draws(&w, 5, 7, R2_CHAINS_UNIFORM, 4, 15000);
    world_free(&w);
}

/* A user of MovieLens with few ratings, so that the list is short enough. */
TEST(laws_of_movielens) {
    world w;
    static list all;
    r2_question q;
    uint32_t user = 0, item;
    const char *path = ratings_real();
    if (!path) SKIP("MovieLens latest-small is not there (make data)");
    memset(&w, 0, sizeof w);
    w.ctx = r2_ctx_default();
    REQUIRE_OK(&w.ctx, r2_data_load(&w.ctx, &w.data, path));
    REQUIRE(world_index(&w, NULL));
    while (r2_graph_user_degree(&w.g, user) != 20) ++user;
    item = w.g.user_item[w.g.user_begin[user] + 3];
    q = ask(&w, user, item, -1);
    list_make(&all, &w, &q);
    REQUIRE(all.n > 50);
    check_draws(&w, user, item, R2_CHAINS_UNIFORM, 1, 60000);
    check_draws(&w, user, item, R2_CHAINS_UNIFORM_USERS, 1, 20000);
    world_free(&w);
}

/* ---- coherent chains ---- */

/* The best chain of u1 in the list: the smallest age + |d|, then the earlier i0, then the earlier i1;
   -1: none. */
static int64_t best_of(const world *w, const r2_question *q, const list *all, uint32_t u1) {
    int64_t best = -1;
    for (int64_t k = 0; k < all->n; ++k) {
        int64_t order = 0;
        if (all->at[k].u1 != u1) continue;
        if (best >= 0) order = all->far[k] - all->far[best];
        if (best >= 0 && !order) order = all->place[k] - all->place[best];
        if (best >= 0 && !order)
            order = place_of(w, q, q->user, all->at[k].i1) -
                    place_of(w, q, q->user, all->at[best].i1);
        if (best < 0 || order < 0) best = k;
    }
    return best;
}

/* The best chain of each u1, all scores in order, equal ones by u1, and none better left out. */
static void check_coherent(world *w, const r2_question *q, int64_t k) {
    static list all;
    r2_chain_config config = r2_chain_config_default();
    r2_chain chains[64];
    int64_t n;
    list_make(&all, w, q);
    config.k = k;
    REQUIRE_OK(&w->ctx, draw(w, q, &config, chains, &n));
    CHECK_EQ_INT(n, k < all.n_people ? k : all.n_people);
    for (int64_t c = 0; c < n; ++c) {
        check_chain(w, q, &all, chains[c]);
        CHECK_EQ_INT(list_find(&all, chains[c]), best_of(w, q, &all, chains[c].u1));
        if (c == 0) continue;
        CHECK(chains[c].score <= chains[c - 1].score);
        CHECK(chains[c].score < chains[c - 1].score || chains[c].u1 > chains[c - 1].u1);
    }
    for (uint32_t u1 = 0; u1 < w->g.n_users && n == k && n > 0; ++u1) {
        int64_t best = best_of(w, q, &all, u1), c = 0;
        while (c < n && chains[c].u1 != u1) ++c;
        if (best < 0 || c < n) continue;
        CHECK(pow(0.5, (double)all.far[best] / 10.0) * simrec(w, q, u1) <
              (double)chains[n - 1].score * (1.0 + 1e-5));
    }
}

TEST(coherent_chains_are_the_best_of_each_person) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
        world w;
        REQUIRE(world_make(&w, 25, 25, 0.2 + 0.2 * (double)seed, 55 + seed));
        for (uint32_t u0 = 0; u0 < w.g.n_users; ++u0) {
            const int32_t degree = (int32_t)r2_graph_user_degree(&w.g, u0);
            for (uint32_t item = 0; item < w.g.n_items; item += 4)
                for (int32_t history = 0; history <= degree; history += 3) {
                    r2_question q = ask(&w, u0, item, history);
                    check_coherent(&w, &q, item % 3 ? 3 : 40);
                }
            r2_question closed = ask(&w, u0, R2_NO_ITEM, -1);
            check_coherent(&w, &closed, u0 % 2 ? 4 : 40);
        }
        world_free(&w);
    }
}

/* 12 people who are alike but for the order of their histories: every score is that of another, so
   that order follows from whole numbers and ids alone. */
TEST(equal_distances_tie) {
    r2_text text = {NULL, 0, 0, false};
    r2_chain_config config = r2_chain_config_default();
    r2_chain chains[12];
    r2_question q;
    world w;
    int64_t n;
    w.ctx = r2_ctx_default();
    r2_text_addf(&w.ctx, &text, "user,item,rating,time\n");
    for (int i = 0; i < 3; ++i) r2_text_addf(&w.ctx, &text, "me,i%d,4,%d\n", i, i);
    for (int u = 0; u < 12; ++u) /* i0 i1 i2 t, i2 i1 i0 t: age + |d| is 3 three times, or 1 at best */
        for (int i = 0; i < 4; ++i)
            r2_text_addf(&w.ctx, &text, "u%d,%s,4,%d\n", u,
                         i == 3 ? "t" : (u % 3 ? i : 2 - i) == 0 ? "i0"
                                    : (u % 3 ? i : 2 - i) == 1   ? "i1"
                                                                 : "i2", i);
    REQUIRE(!text.failed && world_text(&w, text.data));
    q = ask(&w, 0, (uint32_t)r2_data_item(&w.data, "t"), -1);
    config.k = 12;
    REQUIRE_OK(&w.ctx, draw(&w, &q, &config, chains, &n));
    REQUIRE(n == 12);
    for (int64_t c = 0; c < 12; ++c) {
        /* the 8 people with i2 just before t come first */
        uint32_t u1 = (uint32_t)(c < 8 ? 1 + c + c / 2 : 3 * (c - 8)) + 1;
        CHECK_EQ_INT(chains[c].u1, u1);
        CHECK_EQ_INT(chains[c].i0, r2_data_item(&w.data, c < 8 ? "i2" : "i0"));
        CHECK(chains[c].score == chains[c < 8 ? 0 : 8].score);
    }
    r2_text_free(&w.ctx, &text);
    world_free(&w);
}

/* ---- what a run shows ---- */

/* For every test user of data/mini and all of its candidates, by every law. */
TEST(a_run_shows_these_chains) {
    for (int law = 0; law < 3; ++law) {
        r2_ctx ctx = r2_ctx_default();
        r2_run_config config = r2_run_config_default();
        r2_run run;
        r2_examples asked;
        r2_evidence *evidence;
        int64_t n_asked, n_shown = 0;
        config.n_groups = 32;
        config.chains.law = (r2_chain_law)law;
        REQUIRE_OK(&ctx, r2_run_init(&ctx, &run, "data/mini", &config));
        n_asked = run.test.n_cases * run.test.n_per_case;
        evidence = (r2_evidence *)calloc((size_t)n_asked, sizeof *evidence);
        REQUIRE(evidence);
        REQUIRE_OK(&ctx, r2_run_candidate_prompts(&ctx, &run, &run.test, evidence, &asked));
        for (int64_t k = 0; k < n_asked; ++k) {
            const uint32_t user = run.test.user[k / run.test.n_per_case];
            r2_question q = {user, run.test.item[k], 0, -1, 0, 0, 0, 0};
            r2_chain chains[R2_MAX_CHAINS];
            int64_t n;
            q.n_history = (int32_t)r2_graph_user_degree(&run.graph, user);
            REQUIRE_OK(&ctx, r2_chains_target(&ctx, &run.index, &q, &run.config.chains, chains, &n));
            CHECK_EQ_INT(n, evidence[k].n_chains);
            for (int64_t c = 0; c < n && c < evidence[k].n_chains; ++c)
                CHECK(!memcmp(&chains[c], &evidence[k].chain[c].chain, sizeof chains[c]));
            n_shown += n;
        }
        CHECK(n_shown > 2 * n_asked);
        free(evidence);
        r2_examples_free(&ctx, &asked);
        r2_run_free(&ctx, &run);
    }
}

/* ---- nothing to find, wrong questions ---- */

TEST(no_chain_is_a_result) {
    static const char *const texts[] = {"a x 1 0\n", "a x 1 0\na y 1 0\na z 1 0\n",
                                        "a x 1 0\nb x 1 0\nc x 1 0\n"};
    for (int t = 0; t < 3; ++t)
        for (int law = 0; law < 3; ++law) {
            r2_chain_config config = r2_chain_config_default();
            r2_chain chains[4];
            r2_question q;
            world w;
            int64_t n = -1;
            config.law = (r2_chain_law)law;
            REQUIRE(world_text(&w, texts[t]));
            for (int closed = 0; closed < 2; ++closed) {
                q = ask(&w, 0, closed ? R2_NO_ITEM : 0, -1);
                CHECK_STATUS(&w.ctx, draw(&w, &q, &config, chains, &n), R2_OK);
                CHECK_EQ_INT(n, 0);
            }
            config.k = 0;
            CHECK_STATUS(&w.ctx, draw(&w, &q, &config, NULL, &n), R2_OK);
            world_free(&w);
        }
}

static void refused(world *w, const r2_question *q, const r2_chain_config *config,
                    const char *words) {
    r2_chain chains[4];
    int64_t n = 7;
    CHECK_STATUS(&w->ctx, r2_chains_target(&w->ctx, &w->index, q, config, chains, &n), R2_ARGUMENT);
    CHECK_EQ_INT(n, 0);
    if (!CHECK(strstr(w->ctx.message, words))) printf("    %s\n", w->ctx.message);
}

TEST(wrong_questions) {
    r2_chain_config config = r2_chain_config_default();
    r2_chain chains[4];
    r2_question q, good;
    int64_t n;
    world w;
    REQUIRE(world_make(&w, 5, 5, 0.5, 1));
    good = ask(&w, 0, 0, -1);
    q = good, q.user = 5, refused(&w, &q, &config, "user = 5, expected user < 5");
    q = good, q.item = 5, refused(&w, &q, &config, "item = 5, expected item < 5");
    q = good, q.item = R2_NO_ITEM, refused(&w, &q, &config, "expected a target");
    q = good, q.n_history = -1, refused(&w, &q, &config, "history = -1");
    q = good, q.n_history++, refused(&w, &q, &config, "history = ");
    q = good, q.step = 5, refused(&w, &q, &config, "step = 5, expected 0 to 4");
    q = good, q.step = 1, q.other_item = 1, refused(&w, &q, &config, "other_user = 0");
    q = good, q.step = 1, q.other_user = 1, refused(&w, &q, &config, "other_item = 0");
    CHECK_STATUS(&w.ctx, r2_chains_closed(&w.ctx, &w.index, 5, &config, chains, &n), R2_ARGUMENT);
    config.k = -3, refused(&w, &good, &config, "k = -3, expected k >= 0");
    config.k = 3, config.law = (r2_chain_law)7, refused(&w, &good, &config, "law = 7");
    world_free(&w);
}

/* ---- blind to the edge that is asked for ---- */

#define LEAK_K 4

typedef struct derived {
    r2_chain chains[3][LEAK_K];
    int64_t n[3], count;
} derived;

/* Everything that M3 says of a question, by all laws. */
static int derive(world *w, const r2_question *q, derived *d) {
    r2_chain_config config = r2_chain_config_default();
    int good = 1;
    memset(d, 0, sizeof *d);
    config.k = LEAK_K;
    for (int law = 0; law < 3 && good; ++law) {
        config.law = (r2_chain_law)law;
        good = r2_chains_target(&w->ctx, &w->index, q, &config, d->chains[law], &d->n[law]) == R2_OK;
    }
    return good && r2_chains_count(&w->ctx, &w->index, q, &d->count) == R2_OK;
}

/* Asks about (u0, item) with the edge as it is, with another rating, and without it. */
static void check_blind(world *w, uint8_t *role, r2_target target, int32_t history) {
    static derived as_it_is, flipped, deleted;
    const uint8_t was = role[target.row];
    r2_question q = {target.user, target.item, history, -1, 0, 0, 0, 0};
    role[target.row] = R2_TRAIN;
    if (!world_index(w, role)) return;
    if (history < 0) q.n_history = (int32_t)r2_graph_user_degree(&w->g, target.user);
    if (q.n_history <= r2_graph_user_degree(&w->g, target.user) && CHECK(derive(w, &q, &as_it_is))) {
        int64_t e = r2_graph_find(&w->g, target.user, target.item);
        w->g.user_rating[e] = w->g.user_rating[e] > 2.5f ? 0.5f : 5.0f;
        CHECK(derive(w, &q, &flipped));
        CHECK(memcmp(&as_it_is, &flipped, sizeof as_it_is) == 0);
        if ((int64_t)w->index.position[e] < q.n_history) q.n_history--;
        world_unindex(w);
        role[target.row] = R2_UNUSED;
        if (!world_index(w, role)) return;
        CHECK(derive(w, &q, &deleted));
        CHECK(memcmp(&as_it_is, &deleted, sizeof as_it_is) == 0);
    }
    world_unindex(w);
    role[target.row] = was;
}

static void check_blind_data(world *w, int64_t stride) {
    r2_split split;
    int64_t n = 0;
    world_unindex(w);
    if (!CHECK_STATUS(&w->ctx, r2_split_init(&w->ctx, &split, &w->data, NULL), R2_OK)) return;
    for (uint32_t u = 0; u < w->data.n_users; ++u)
        for (int64_t row = w->data.user_begin[u]; row < w->data.user_begin[u + 1]; ++row) {
            r2_target target = {u, w->data.item[row], row};
            if (split.role[row] == R2_TRAIN && n++ % stride == 0)
                check_blind(w, split.role, target, n % 2 ? -1 : 4);
        }
    for (int64_t k = 0; k < split.n_test; k += 1 + stride / 100)
        check_blind(w, split.role, split.test[k], -1);
    r2_split_free(&w->ctx, &split);
}

TEST(the_closing_edge_is_invisible) {
    for (uint64_t seed = 0; seed < 3; ++seed) {
        world w;
        REQUIRE(world_make(&w, 20, 20, 0.2 + 0.25 * (double)seed, 70 + seed));
        check_blind_data(&w, 1);
        world_free(&w);
    }
    /* few users: here the mean degree of all others feels one edge more or less */
    for (uint64_t seed = 0; seed < 12; ++seed) {
        world w;
        REQUIRE(world_make(&w, 6, 40, 0.5, 170 + seed));
        check_blind_data(&w, 1);
        world_free(&w);
    }
}

TEST(the_closing_edge_is_invisible_in_movielens) {
    world w;
    const char *path = ratings_real();
    if (!path) SKIP("MovieLens latest-small is not there (make data)");
    memset(&w, 0, sizeof w);
    w.ctx = r2_ctx_default();
    REQUIRE_OK(&w.ctx, r2_data_load(&w.ctx, &w.data, path));
    check_blind_data(&w, 5003);
    world_free(&w);
}

/* ---- memory that runs out ---- */

TEST(every_failed_allocation_is_reported_and_nothing_leaks) {
    ratings_memory memory = {0, 0};
    r2_ctx ctx;
    world w;
    int64_t n_allocations = 0;
    REQUIRE(world_make(&w, 20, 15, 0.5, 3));
    ctx = w.ctx;
    ctx.realloc_fn = ratings_realloc;
    ctx.hook_data = &memory;
    for (bool done = false; !done; ++n_allocations) {
        r2_chain_config config = r2_chain_config_default();
        r2_question q = ask(&w, 0, 0, -1);
        r2_chain chains[12];
        int64_t n;
        r2_status status = R2_OK;
        memory.left = n_allocations;
        for (int law = 0; law < 3 && status == R2_OK; ++law) {
            config.law = (r2_chain_law)law;
            status = r2_chains_target(&ctx, &w.index, &q, &config, chains, &n);
            if (status == R2_OK)
                status = r2_chains_closed(&ctx, &w.index, 0, &config, chains, &n);
        }
        if (status == R2_OK) status = r2_chains_count(&ctx, &w.index, &q, &n);
        CHECK(status == R2_OK || status == R2_NO_MEMORY);
        CHECK_EQ_INT(memory.alive, 0);
        done = status == R2_OK;
        REQUIRE(n_allocations < 200);
    }
    CHECK(n_allocations > 10);
    world_free(&w);
}

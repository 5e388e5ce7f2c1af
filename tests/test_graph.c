/* [M2] graph: the two sides agree, and butterflies are what counting by hand finds. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#include "header.h"
#include "ratings.h"

/* Items that u and v share, from the definition. */
static int64_t shared_items(const r2_graph *g, int64_t u, int64_t v) {
    int64_t n = 0;
    for (uint32_t i = 0; i < g->n_items; ++i)
        n += r2_graph_find(g, (uint32_t)u, i) >= 0 && r2_graph_find(g, (uint32_t)v, i) >= 0;
    return n;
}

/* Butterflies by looking at every pair of users and every pair of items. */
static void count_by_hand(const r2_graph *g, int64_t *total, int64_t *user, int64_t *edge) {
    *total = 0;
    for (uint32_t u = 0; u < g->n_users; ++u)
        for (uint32_t v = 0; v < u; ++v)
            for (uint32_t i = 0; i < g->n_items; ++i)
                for (uint32_t j = 0; j < i; ++j) {
                    const int64_t e[4] = {r2_graph_find(g, u, i), r2_graph_find(g, u, j),
                                          r2_graph_find(g, v, i), r2_graph_find(g, v, j)};
                    if (e[0] < 0 || e[1] < 0 || e[2] < 0 || e[3] < 0) continue;
                    ++*total;
                    user[u]++, user[v]++;
                    for (int k = 0; k < 4; ++k) edge[e[k]]++;
                }
}

static void check_sides(const r2_graph *g, const r2_data *data, const uint8_t *role) {
    int64_t n = 0;
    for (int64_t k = 0; k < data->n_ratings; ++k) n += !role || role[k] == R2_TRAIN;
    CHECK_EQ_INT(g->n_edges, n);
    for (uint32_t u = 0; u < g->n_users; ++u)
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) {
            int64_t row = r2_data_find(data, u, g->user_item[e]);
            if (!CHECK(row >= 0 && (!role || role[row] == R2_TRAIN))) return;
            if (!CHECK(g->user_rating[e] == data->rating[row] &&
                       g->user_time[e] == data->time[row]))
                return;
            if (!CHECK(e == g->user_begin[u] || g->user_item[e - 1] < g->user_item[e])) return;
            if (!CHECK(r2_graph_find(g, u, g->user_item[e]) == e)) return;
        }
    n = 0;
    for (uint32_t i = 0; i < g->n_items; ++i)
        for (int64_t k = g->item_begin[i]; k < g->item_begin[i + 1]; ++k, ++n) {
            if (!CHECK(g->user_item[g->item_edge[k]] == i)) return;
            if (!CHECK(r2_graph_find(g, g->item_user[k], i) == g->item_edge[k])) return;
            if (!CHECK(k == g->item_begin[i] || g->item_user[k - 1] < g->item_user[k])) return;
        }
    CHECK_EQ_INT(n, g->n_edges);
}

TEST(both_sides_hold_the_same_edges) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_split split;
    r2_graph graph;
    REQUIRE_OK(&ctx, ratings_random(&ctx, &data, 40, 30, 0.3, 1));
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &split, &data, NULL));
    REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, split.role));
    CHECK(split.n_train < data.n_ratings);
    check_sides(&graph, &data, split.role);
    r2_graph_free(&ctx, &graph);
    REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, NULL));
    check_sides(&graph, &data, NULL);
    CHECK(graph.user_item == data.item); /* not a copy */
    r2_graph_free(&ctx, &graph);
    r2_split_free(&ctx, &split);
    r2_data_free(&ctx, &data);
}

/* One graph: counts of all kinds against those by hand, with 1, 2 and 8 threads. */
static void check_butterflies(r2_ctx *ctx, const r2_graph *g) {
    static const int threads[3] = {1, 2, 8};
    int64_t total;
    int64_t *user = (int64_t *)calloc((size_t)g->n_users + 1, sizeof *user);
    int64_t *edge = (int64_t *)calloc((size_t)g->n_edges + 1, sizeof *edge);
    if (CHECK(user && edge)) {
        count_by_hand(g, &total, user, edge);
        for (int t = 0; t < 3; ++t) {
            r2_butterflies b;
            ctx->n_threads = threads[t];
            if (!CHECK_STATUS(ctx, r2_butterflies_init(ctx, &b, g), R2_OK)) break;
            CHECK_EQ_INT(b.total, total);
            CHECK(memcmp(b.user, user, (size_t)g->n_users * sizeof *user) == 0);
            CHECK(memcmp(b.edge, edge, (size_t)g->n_edges * sizeof *edge) == 0);
            r2_butterflies_free(ctx, &b);
        }
    }
    free(user);
    free(edge);
}

TEST(butterflies_of_small_graphs) {
    static const int sizes[4][2] = {{1, 9}, {9, 1}, {16, 11}, {7, 20}};
    r2_ctx ctx = r2_ctx_default();
    for (uint64_t seed = 0; seed < 24; ++seed) {
        const int *size = sizes[seed % 4];
        r2_data data;
        r2_graph graph;
        REQUIRE_OK(&ctx, ratings_random(&ctx, &data, size[0], size[1],
                                        0.1 + 0.9 * (double)(seed / 4) / 5.0, seed));
        REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, NULL));
        check_butterflies(&ctx, &graph);
        r2_graph_free(&ctx, &graph);
        r2_data_free(&ctx, &data);
    }
}

/* Large enough that several threads do wake up; users and items by turns on the cheaper side. */
TEST(threads_count_the_same) {
    static const int threads[3] = {1, 2, 8};
    for (int turn = 0; turn < 2; ++turn) {
        r2_ctx ctx = r2_ctx_default();
        r2_data data;
        r2_graph graph;
        r2_butterflies first, b;
        REQUIRE_OK(&ctx, ratings_random(&ctx, &data, turn ? 700 : 120, turn ? 120 : 700, 0.35, 5));
        REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, NULL));
        CHECK(graph.n_edges > 20000);
        memset(&first, 0, sizeof first);
        for (int t = 0; t < 3; ++t) {
            ctx.n_threads = threads[t];
            REQUIRE_OK(&ctx, r2_butterflies_init(&ctx, &b, &graph));
            if (t == 0) {
                first = b;
                continue;
            }
            CHECK(memcmp(b.edge, first.edge, (size_t)graph.n_edges * sizeof *b.edge) == 0);
            CHECK(memcmp(b.user, first.user, (size_t)graph.n_users * sizeof *b.user) == 0);
            r2_butterflies_free(&ctx, &b);
        }
        r2_butterflies_free(&ctx, &first);
        r2_graph_free(&ctx, &graph);
        r2_data_free(&ctx, &data);
    }
}

TEST(the_header_calculates_right) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_graph graph;
    r2_butterflies b;
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data,
                                  "user,item,rating,time\nAnn,Alien,5,1\n"
                                  "Ann,Heat,4,2\nBob,Alien,5,1\nBob,Heat,3,2\n"
                                  "Bob,Tron,4,3\nCyd,Heat,2,1\nCyd,Tron,5,2\n"));
    REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, NULL));
    REQUIRE_OK(&ctx, r2_butterflies_init(&ctx, &b, &graph));
    CHECK(header_holds("so do Bob and Cyd: %d butterflies, and Bob is in both", (int)b.total));
    CHECK(header_holds("so Bob starts %d of them", (int)b.user[1]));
    r2_butterflies_free(&ctx, &b);
    r2_graph_free(&ctx, &graph);
    r2_data_free(&ctx, &data);
}

/* A complete graph has C(users, 2) C(items, 2) butterflies, a star none. */
TEST(butterflies_of_known_graphs) {
    static const struct {
        const char *text;
        int64_t butterflies;
    } known[] = {
        {"a x 1 0\n", 0},
        {"a x 1 0\na y 1 0\na z 1 0\n", 0},
        {"a x 1 0\nb x 1 0\nc x 1 0\n", 0},
        {"a x 1 0\na y 1 0\nb x 1 0\nb y 1 0\n", 1},
        {"a x 1 0\na y 1 0\nb y 1 0\nb z 1 0\nc z 1 0\nc x 1 0\n", 0}, /* a cycle of six */
    };
    r2_ctx ctx = r2_ctx_default();
    for (size_t k = 0; k < sizeof known / sizeof *known; ++k) {
        r2_data data;
        r2_graph graph;
        r2_butterflies b;
        REQUIRE_OK(&ctx, ratings_load(&ctx, &data, known[k].text));
        REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, NULL));
        REQUIRE_OK(&ctx, r2_butterflies_init(&ctx, &b, &graph));
        CHECK_EQ_INT(b.total, known[k].butterflies);
        r2_butterflies_free(&ctx, &b);
        r2_graph_free(&ctx, &graph);
        r2_data_free(&ctx, &data);
    }
}

TEST(a_graph_without_edges) {
    r2_ctx ctx = r2_ctx_default();
    uint8_t role[1] = {R2_TEST};
    r2_data data;
    r2_graph graph;
    r2_butterflies b;
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "a x 1 0\n"));
    REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, role));
    CHECK_EQ_INT(graph.n_edges, 0);
    CHECK_EQ_INT(r2_graph_user_degree(&graph, 0), 0);
    CHECK_EQ_INT(r2_graph_find(&graph, 0, 0), -1);
    CHECK_STATUS(&ctx, r2_butterflies_init(&ctx, &b, &graph), R2_OK);
    CHECK_EQ_INT(b.total, 0);
    r2_butterflies_free(&ctx, &b);
    r2_graph_free(&ctx, &graph);
    r2_data_free(&ctx, &data);
}

/* Published count of MovieLens latest-small, and of its ratings from 3 and from 4 stars on; ordered
   closed chains, counted from what pairs of users share, are four times as many. */
TEST(butterflies_of_movielens) {
    static const struct {
        float from;
        int64_t butterflies;
    } known[3] = {{0.0f, 114132206}, {3.0f, 62154383}, {4.0f, 13096023}};
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_graph graph;
    const char *path = ratings_real();
    if (!path) SKIP("MovieLens latest-small is not there (make data)");
    for (int k = 0; k < 3; ++k) {
        r2_filter filter;
        r2_butterflies b;
        int64_t users = 0, edges = 0;
        memset(&filter, 0, sizeof filter);
        filter.min_rating = known[k].from;
        REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, path));
        REQUIRE_OK(&ctx, r2_data_filter(&ctx, &data, &filter));
        REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, NULL));
        REQUIRE_OK(&ctx, r2_butterflies_init(&ctx, &b, &graph));
        CHECK_EQ_INT(b.total, known[k].butterflies);
        for (int64_t u = 0; u < graph.n_users; ++u) users += b.user[u];
        for (int64_t e = 0; e < graph.n_edges; ++e) edges += b.edge[e];
        CHECK_EQ_INT(users, 2 * b.total);
        CHECK_EQ_INT(edges, 4 * b.total);
        r2_butterflies_free(&ctx, &b);
        r2_graph_free(&ctx, &graph);
        r2_data_free(&ctx, &data);
    }
}

TEST(ordered_closed_chains_are_four_times_the_butterflies) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_graph graph;
    r2_butterflies b;
    int64_t ordered = 0;
    REQUIRE_OK(&ctx, ratings_random(&ctx, &data, 40, 25, 0.4, 9));
    REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, NULL));
    for (int64_t u = 0; u < graph.n_users; ++u)
        for (int64_t v = 0; v < graph.n_users; ++v) {
            int64_t c = u == v ? 0 : shared_items(&graph, u, v);
            ordered += c * (c - 1);
        }
    REQUIRE_OK(&ctx, r2_butterflies_init(&ctx, &b, &graph));
    CHECK_EQ_INT(ordered, 4 * b.total);
    r2_butterflies_free(&ctx, &b);
    r2_graph_free(&ctx, &graph);
    r2_data_free(&ctx, &data);
}

TEST(every_failed_allocation_is_reported_and_nothing_leaks) {
    r2_ctx plain = r2_ctx_default(), ctx = plain;
    ratings_memory memory = {0, 0};
    r2_data data;
    r2_split split;
    int64_t n_allocations = 0;
    REQUIRE_OK(&plain, ratings_random(&plain, &data, 20, 15, 0.5, 3));
    REQUIRE_OK(&plain, r2_split_init(&plain, &split, &data, NULL));
    ctx.realloc_fn = ratings_realloc;
    ctx.hook_data = &memory;
    for (bool done = false; !done; ++n_allocations) {
        r2_graph graph;
        r2_butterflies b;
        r2_status status;
        memory.left = n_allocations;
        status = r2_graph_init(&ctx, &graph, &data, split.role);
        if (!status) status = r2_butterflies_init(&ctx, &b, &graph);
        if (!status) r2_butterflies_free(&ctx, &b);
        r2_graph_free(&ctx, &graph);
        CHECK(status == R2_OK || status == R2_NO_MEMORY);
        CHECK_EQ_INT(memory.alive, 0);
        done = status == R2_OK;
        REQUIRE(n_allocations < 100);
    }
    CHECK(n_allocations > 5);
    r2_split_free(&plain, &split);
    r2_data_free(&plain, &data);
}

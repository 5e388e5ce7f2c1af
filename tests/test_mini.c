/* data/mini: is it what its README says, and is what was planted there to be found? */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#define NEGATIVES 19

typedef struct mini {
    r2_ctx ctx;
    r2_data data;
    r2_split split;
    r2_graph graph; /* of the training interactions */
    r2_candidates cases;
} mini;

static int mini_load(mini *m) {
    const r2_negatives negatives = {NEGATIVES, 1, false, NULL, 0};
    memset(m, 0, sizeof *m);
    m->ctx = r2_ctx_default();
    return CHECK_STATUS(&m->ctx, r2_data_load(&m->ctx, &m->data, "data/mini"), R2_OK) &&
           CHECK_STATUS(&m->ctx, r2_split_init(&m->ctx, &m->split, &m->data, NULL), R2_OK) &&
           CHECK_STATUS(&m->ctx, r2_graph_init(&m->ctx, &m->graph, &m->data, m->split.role),
                        R2_OK) &&
           CHECK_STATUS(&m->ctx,
                        r2_candidates_init(&m->ctx, &m->cases, &m->data, m->split.test,
                                           m->split.n_test, &negatives),
                        R2_OK);
}

static void mini_free(mini *m) {
    r2_candidates_free(&m->ctx, &m->cases);
    r2_graph_free(&m->ctx, &m->graph);
    r2_split_free(&m->ctx, &m->split);
    r2_data_free(&m->ctx, &m->data);
}

static double popularity(const r2_graph *g, uint32_t user, uint32_t item) {
    (void)user;
    return (double)r2_graph_item_degree(g, item);
}

/* Sum over the user's items of the cosine to `item`, counted pair by pair. */
static double item_knn(const r2_graph *g, uint32_t user, uint32_t item) {
    double sum = 0.0;
    for (int64_t e = g->user_begin[user]; e < g->user_begin[user + 1]; e++) {
        uint32_t other = g->user_item[e];
        int64_t both = 0;
        for (int64_t k = g->item_begin[item]; k < g->item_begin[item + 1]; k++)
            both += r2_graph_find(g, g->item_user[k], other) >= 0;
        double n = (double)r2_graph_item_degree(g, item) * (double)r2_graph_item_degree(g, other);
        sum += (double)both / sqrt(n + 10.0);
    }
    return sum;
}

/* HR@1 of a scorer; a tie is shared. */
static double hit_ratio(const mini *m,
                        double (*score)(const r2_graph *g, uint32_t user, uint32_t item)) {
    double hits = 0.0;
    for (int64_t c = 0; c < m->cases.n_cases; c++) {
        const uint32_t *item = m->cases.item + c * m->cases.n_per_case;
        double positive = score(&m->graph, m->cases.user[c], item[0]);
        int better = 0, equal = 0;
        for (int64_t j = 1; j < m->cases.n_per_case; j++) {
            double negative = score(&m->graph, m->cases.user[c], item[j]);
            better += negative > positive;
            equal += negative == positive;
        }
        hits += better ? 0.0 : 1.0 / (1 + equal);
    }
    return hits / (double)m->cases.n_cases;
}

TEST(has_the_shape_that_its_readme_states) {
    mini m;
    REQUIRE(mini_load(&m));
    CHECK_EQ_INT(m.data.n_users, 400);
    CHECK_EQ_INT(m.data.n_items, 679);
    CHECK_EQ_INT(m.data.n_ratings, 28421);
    CHECK_EQ_INT(m.data.n_duplicates, 0);
    CHECK_EQ_INT(m.split.n_test, 400);
    CHECK_NEAR(m.data.rating_max, 5.0, 0);
    mini_free(&m);
}

/* Quotes, commas, accents, a missing year: the oddities of real files arrive unharmed. */
TEST(odd_titles_arrive_as_they_are) {
    mini m;
    REQUIRE(mini_load(&m));
    int64_t quoted = r2_data_item(&m.data, "17"), accent = r2_data_item(&m.data, "40");
    int64_t yearless = r2_data_item(&m.data, "1190");
    REQUIRE(quoted >= 0 && accent >= 0 && yearless >= 0);
    CHECK_EQ_STR(m.data.title[quoted], "Noémie \"Dirty\" Bookkeeper (2012)");
    CHECK_EQ_STR(m.data.title[accent], "Protocol of Québec, The (2012)");
    CHECK_EQ_STR(m.data.title[yearless], "Señor Paz of the Terrible Landlord");
    CHECK_EQ_INT(m.data.year[quoted], 2012);
    CHECK_EQ_INT(m.data.year[yearless], 0);
    CHECK_EQ_STR(m.data.genres[yearless], "Comedy");
    mini_free(&m);
}

/* Popularity well above chance (.05), neighbours well above popularity, and room above both. */
TEST(what_was_planted_can_be_found) {
    mini m;
    REQUIRE(mini_load(&m));
    double by_popularity = hit_ratio(&m, popularity), by_neighbours = hit_ratio(&m, item_knn);
    CHECK(by_popularity > 0.12 && by_popularity < 0.30);
    CHECK(by_neighbours > by_popularity + 0.10 && by_neighbours < 0.60);
    mini_free(&m);
}

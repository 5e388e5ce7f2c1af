/* Lesson 1: who rated what is a graph with two kinds of vertices, and its smallest closed pattern,
   the butterfly (two users, two items, all four edges), is what a recommendation can stand on.

       01_graph [FILE]      default examples/lessons/films.csv: four people, four films

   Read with it: rooms [M1] and [M2] of r2rec.h. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <string.h>

/* A row per user, a column per item; a dot where there is no edge. */
static void print_matrix(const r2_data *data, const r2_graph *graph) {
    printf("\nThe ratings as a matrix; a dot is what a recommender is asked about.\n\n%10s", "");
    for (int64_t i = 0; i < graph->n_items; ++i) printf(" %8.8s", data->item_key[i]);
    for (uint32_t u = 0; u < graph->n_users; ++u) {
        printf("\n%10.10s", data->user_key[u]);
        for (uint32_t i = 0; i < graph->n_items; ++i) {
            const int64_t edge = r2_graph_find(graph, u, i);
            if (edge < 0) printf(" %8s", ".");
            else printf(" %8g", (double)graph->user_rating[edge]);
        }
    }
    printf("\n");
}

/* The same edges as they are stored: once by user, once by item. */
static void print_arrays(const r2_data *data, const r2_graph *graph) {
    printf("\nThe same graph as it is stored: compressed sparse rows, both ways.\n\n");
    for (int64_t u = 0; u < graph->n_users; ++u) {
        printf("  %-8s edges %lld to %lld:", data->user_key[u], (long long)graph->user_begin[u],
               (long long)graph->user_begin[u + 1] - 1);
        for (int64_t e = graph->user_begin[u]; e < graph->user_begin[u + 1]; ++e)
            printf(" %s", data->item_key[graph->user_item[e]]);
        printf("\n");
    }
    for (int64_t i = 0; i < graph->n_items; ++i) {
        printf("  %-8s taken by: ", data->item_key[i]);
        for (int64_t k = graph->item_begin[i]; k < graph->item_begin[i + 1]; ++k)
            printf(" %s (edge %u)", data->user_key[graph->item_user[k]], graph->item_edge[k]);
        printf("\n");
    }
}

/* Butterflies, the slow way: every pair of users and every pair of items. */
static int64_t count_by_hand(const r2_graph *graph) {
    int64_t count = 0;
    for (uint32_t u = 0; u < graph->n_users; ++u)
        for (uint32_t v = u + 1; v < graph->n_users; ++v) {
            int64_t shared = 0;
            for (uint32_t i = 0; i < graph->n_items; ++i)
                shared += r2_graph_find(graph, u, i) >= 0 && r2_graph_find(graph, v, i) >= 0;
            count += shared * (shared - 1) / 2; /* two of the items that both have */
        }
    return count;
}

static void print_butterflies(const r2_data *data, const r2_graph *graph, const r2_butterflies *b,
                              bool small) {
    printf("\nbutterflies %lld", (long long)b->total);
    if (small) printf(", counted by hand %lld", (long long)count_by_hand(graph));
    printf("\n");
    for (uint32_t u = 0; u < graph->n_users && small; ++u)
        printf("  %-8s lies in %lld\n", data->user_key[u], (long long)b->user[u]);
}

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    const char *path = argc > 1 ? argv[1] : "examples/lessons/films.csv";
    r2_butterflies butterflies = {0, NULL, NULL};
    r2_data data;
    r2_graph graph;
    r2_status status = r2_data_load(&ctx, &data, path);
    memset(&graph, 0, sizeof graph);
    if (status == R2_OK) status = r2_graph_init(&ctx, &graph, &data, NULL);
    if (status == R2_OK) status = r2_butterflies_init(&ctx, &butterflies, &graph);
    if (status == R2_OK) {
        const bool small = data.n_users <= 20 && data.n_items <= 7;
        printf("%s: %lld users, %lld items, %lld edges: %.1f %% of all that could be\n", path,
               (long long)data.n_users, (long long)data.n_items, (long long)graph.n_edges,
               100.0 * (double)graph.n_edges / ((double)data.n_users * (double)data.n_items));
        if (small) print_matrix(&data, &graph);
        if (small) print_arrays(&data, &graph);
        print_butterflies(&data, &graph, &butterflies, small);
    } else {
        fprintf(stderr, "%s\n", ctx.message);
    }
    r2_butterflies_free(&ctx, &butterflies);
    r2_graph_free(&ctx, &graph);
    r2_data_free(&ctx, &data);
    return status != R2_OK;
}

/* Exercises (tests/test_lessons.sh has the answers)
   1. Which two people and which two films make the one butterfly?
   2. Add the line `Ann,Tron,4,3` to a copy of the file. How many butterflies are there, and why?
   3. Three people who all have the same three films: how many butterflies?
   4. Run it on data/mini. What share of the matrix is filled, and why is counting by hand, as
      above, not the way to do it there? */

/* Lesson 2: a chain u0 - i0 - u1 - i* - u0 is a reason: somebody who shares i0 with you went on to
   i*. Here every chain from Ann to Tron is scored by hand, then by the library.

       02_chains [USER ITEM]      default Ann Tron, of examples/lessons/films.csv

   Read with it: room [M3] of r2rec.h. The score of a chain is 0.5^((age + |d|)/10) simrec(u1). */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* How many interactions ago u0 took edge e, 0 the latest. The edge that is asked about does not
   exist: neither here nor in any other number of this file. */
static int age_of(const r2_index *index, const r2_question *q, int64_t e) {
    const r2_graph *g = index->graph;
    int age = 0;
    for (int64_t f = g->user_begin[q->user]; f < g->user_begin[q->user + 1]; ++f)
        age += g->user_item[f] != q->item && index->position[f] > index->position[e];
    return age;
}

/* How similar u1 is to u0: shared items count by how recently u0 took them, and less when either
   the item or the person is everywhere. Degrees without u0. */
static double similarity(const r2_index *index, const r2_question *q, uint32_t u1) {
    const r2_graph *g = index->graph;
    const int64_t n1 = r2_graph_user_degree(g, u1);
    double sum = 0.0;
    for (int64_t e = g->user_begin[q->user]; e < g->user_begin[q->user + 1]; ++e) {
        const uint32_t i0 = g->user_item[e];
        const int64_t others = r2_graph_item_degree(g, i0) - 1;
        if (i0 == q->item || r2_graph_find(g, u1, i0) < 0) continue;
        sum += pow(0.5, age_of(index, q, e) / 10.0) / sqrt((double)((others + 1) * (n1 + 1)));
    }
    return sum;
}

/* All chains of the question, by two loops: over what u0 has, and over who else has that. */
static void chains_by_hand(const r2_data *data, const r2_index *index, const r2_question *q) {
    const r2_graph *g = index->graph;
    for (int64_t e = g->user_begin[q->user]; e < g->user_begin[q->user + 1]; ++e) {
        const uint32_t i0 = g->user_item[e];
        if (i0 == q->item) continue;
        for (int64_t k = g->item_begin[i0]; k < g->item_begin[i0 + 1]; ++k) {
            const uint32_t u1 = g->item_user[k];
            const int64_t took = r2_graph_find(g, u1, q->item), first = g->item_edge[k];
            const int age = age_of(index, q, e);
            int d;
            double sim;
            if (u1 == q->user || took < 0) continue;
            d = (int)index->position[took] - (int)index->position[first];
            sim = similarity(index, q, u1);
            printf("  %s - %s - %s - %s - %s: age %d, d %+d, similarity %.3f, score %.3f\n",
                   data->user_key[q->user], data->item_key[i0], data->user_key[u1],
                   data->item_key[q->item], data->user_key[q->user], age, d, sim,
                   pow(0.5, (age + abs(d)) / 10.0) * sim);
        }
    }
}

static r2_status chains_by_library(r2_ctx *ctx, const r2_data *data, const r2_index *index,
                                   const r2_question *q) {
    static const char *const law[] = {"coherent", "uniform over chains", "uniform over people"};
    r2_chain_config config = r2_chain_config_default();
    r2_chain chain[3];
    int64_t n = 0, all = 0;
    r2_status status = r2_chains_count(ctx, index, q, &all);
    printf("\nThe library finds %lld. The three laws by which it chooses when there are many:\n",
           (long long)all);
    for (int k = 0; k < 3 && status == R2_OK; ++k) {
        config.law = (r2_chain_law)k;
        status = r2_chains_target(ctx, index, q, &config, chain, &n);
        printf("  %s\n", law[k]);
        for (int64_t c = 0; c < n && status == R2_OK; ++c)
            printf("    %.3f over %s, who rated %s %g (%s: %g) and %s %g\n", (double)chain[c].score,
                   data->user_key[chain[c].u1], data->item_key[chain[c].i0], (double)chain[c].r2,
                   data->user_key[q->user], (double)chain[c].r1, data->item_key[chain[c].i1],
                   (double)chain[c].r3);
    }
    return status;
}

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_graph graph;
    r2_index index;
    r2_question q = {0};
    int64_t user = -1, item = -1;
    r2_status status = r2_data_load(&ctx, &data, "examples/lessons/films.csv");
    memset(&graph, 0, sizeof graph);
    memset(&index, 0, sizeof index);
    if (status == R2_OK) user = r2_data_user(&data, argc > 2 ? argv[1] : "Ann");
    if (status == R2_OK) item = r2_data_item(&data, argc > 2 ? argv[2] : "Tron");
    if (status == R2_OK && (user < 0 || item < 0))
        status = r2_fail(&ctx, R2_ARGUMENT, "expected a user and an item of films.csv");
    if (status == R2_OK) status = r2_graph_init(&ctx, &graph, &data, NULL);
    if (status == R2_OK) status = r2_index_init(&ctx, &index, &graph, &data, 4.0f, 1);
    if (status == R2_OK) {
        q.user = (uint32_t)user, q.item = (uint32_t)item;
        q.n_history = (int32_t)r2_graph_user_degree(&graph, q.user), q.answer = -1;
        printf("Would %s take %s? Every chain, by hand:\n", data.user_key[user],
               data.item_key[item]);
        chains_by_hand(&data, &index, &q);
        status = chains_by_library(&ctx, &data, &index, &q);
    }
    if (status != R2_OK) fprintf(stderr, "%s\n", ctx.message);
    r2_index_free(&ctx, &index);
    r2_graph_free(&ctx, &graph);
    r2_data_free(&ctx, &data);
    return status != R2_OK;
}

/* Exercises (tests/test_lessons.sh has the answers)
   1. Why is the chain over Dan weaker than the one over Bob? Compute both scores on paper.
   2. `02_chains Ann Fargo`: over which two people, and what makes Cat's chain the stronger?
   3. `02_chains Bob Tron`: Bob has rated Tron. How many chains are there; which edge is not read?
   4. What would Cat's chain to Fargo score, had Cat rated nine more films after Heat, before it? */

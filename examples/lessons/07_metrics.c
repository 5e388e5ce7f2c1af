/* Lesson 7: what HR@1 says, and how it misleads. Ranking among 1 + 19 sampled items is not ranking
   in the catalogue: it can even turn the order of two recommenders around.

       07_metrics

   Read with it: room [M10] of r2rec.h; Krichene and Rendle, On Sampled Metrics, KDD 2020. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <math.h>
#include <string.h>

/* Ties: nobody's luck. A positive that ties with two others has a third of the first place. */
static void print_ties(void) {
    const float list[] = {0.9f, 0.9f, 0.4f, 0.9f, NAN};
    const r2_rank rank = r2_rank_of(list, 5);
    printf("The positive has 0.9 and so have two others: %d better, %d tied;\n"
           "HR@1 %.3f, HR@2 %.3f, reciprocal rank %.3f, NDCG@2 %.3f\n", (int)rank.better,
           (int)rank.tied, r2_hit_ratio(rank, 1), r2_hit_ratio(rank, 2), r2_reciprocal_rank(rank),
           r2_ndcg(rank, 2));
}

/* The chance that the item of this rank in a catalogue of n beats m others drawn from it. */
static double first_of_sample(int rank, int n, int m) {
    double chance = 1.0;
    for (int k = 0; k < m; ++k) chance *= (double)(n - rank - k) / (double)(n - 1 - k);
    return chance;
}

/* Two recommenders, four users; where each puts the user's item in a catalogue of 1000. */
static void print_two_recommenders(void) {
    static const int rank[2][4] = {{1, 500, 500, 500}, {20, 20, 20, 20}};
    printf("\nA catalogue of 1000; where two recommenders put the item of each of four users:\n");
    for (int r = 0; r < 2; ++r) {
        double hit = 0.0, mrr = 0.0, sampled[3] = {0.0, 0.0, 0.0};
        for (int u = 0; u < 4; ++u) {
            hit += (rank[r][u] == 1) / 4.0;
            mrr += 0.25 / rank[r][u];
            sampled[0] += first_of_sample(rank[r][u], 1000, 19) / 4.0;
            sampled[1] += first_of_sample(rank[r][u], 1000, 99) / 4.0;
            sampled[2] += first_of_sample(rank[r][u], 1000, 999) / 4.0;
        }
        printf("  %c: %3d %3d %3d %3d  catalogue: HR@1 %.3f, MRR %.3f  sampled HR@1: 1+19 %.3f, "
               "1+99 %.3f, 1+999 %.3f\n", "AB"[r], rank[r][0], rank[r][1], rank[r][2], rank[r][3],
               hit, mrr, sampled[0], sampled[1], sampled[2]);
    }
}

/* HR@1 of popularity among the candidates of a protocol. */
static r2_status popularity(r2_ctx *ctx, const r2_graph *graph, const r2_candidates *c,
                            const char *name) {
    double sum = 0.0;
    float *score = (float *)r2_alloc(ctx, (uint64_t)c->n_per_case, sizeof *score);
    if (!score) return ctx->status;
    for (int64_t k = 0; k < c->n_cases; ++k) {
        for (int64_t j = 0; j < c->n_per_case; ++j)
            score[j] = (float)r2_graph_item_degree(graph, c->item[k * c->n_per_case + j]);
        sum += r2_hit_ratio(r2_rank_of(score, c->n_per_case), 1);
    }
    printf("  %-34s HR@1 %.3f   by chance %.3f\n", name, sum / (double)c->n_cases,
           1.0 / (double)c->n_per_case);
    r2_release(ctx, score);
    return R2_OK;
}

/* The same scores of the same recommender under four protocols. */
static r2_status print_protocols(r2_ctx *ctx, const r2_data *data, const r2_split *split,
                                 const r2_graph *graph) {
    const r2_negatives how[] = {{19, 1, false, NULL, 0}, {99, 1, false, NULL, 0},
                                {19, 1, false, split, 20}, {19, 1, true, NULL, 0}};
    static const char *const name[] = {"1+19, uniform", "1+99, uniform",
                                       "1+19 with 20 ratings or more", "1+19, popular ones"};
    r2_status status = R2_OK;
    printf("\nOne recommender, the popularity of data/mini, under four protocols:\n");
    for (int k = 0; k < 4 && status == R2_OK; ++k) {
        r2_candidates c;
        status = r2_candidates_init(ctx, &c, data, split->test, split->n_test, &how[k]);
        if (status != R2_OK) break;
        status = popularity(ctx, graph, &c, name[k]);
        r2_candidates_free(ctx, &c);
    }
    return status;
}

int main(void) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_split split;
    r2_graph graph;
    r2_status status = r2_data_load(&ctx, &data, "data/mini");
    memset(&split, 0, sizeof split);
    memset(&graph, 0, sizeof graph);
    print_ties();
    print_two_recommenders();
    if (status == R2_OK) status = r2_split_init(&ctx, &split, &data, NULL);
    if (status == R2_OK) status = r2_graph_init(&ctx, &graph, &data, split.role);
    if (status == R2_OK) status = print_protocols(&ctx, &data, &split, &graph);
    if (status != R2_OK) fprintf(stderr, "%s\n", ctx.message);
    r2_graph_free(&ctx, &graph);
    r2_split_free(&ctx, &split);
    r2_data_free(&ctx, &data);
    return status != R2_OK;
}

/* Exercises (tests/test_lessons.sh has the answers)
   1. From which number of sampled items on is A above B?
   2. A constant score: its HR@1 under 1+19, by the tie rule above?
   3. Why does popularity fall so far among popular negatives, and what would a random scorer do? */

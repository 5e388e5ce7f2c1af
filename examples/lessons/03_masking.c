/* Lesson 3: progressive masking leads a reader along a chain, edge by edge. At step k the edges
   before e_k are known with their stars, e_k is asked for, and the rest is hidden, so that nobody
   can reason backwards from the end.

       03_masking       Ann and Tron, of examples/lessons/films.csv

   Read with it: rooms [M4] and [M5] of r2rec.h. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <string.h>

/* Who sees what: a column per edge. */
static void print_table(void) {
    static const char *const mark[] = {"hidden", "asked", "shown"};
    printf("What each step of a schedule shows of e1 (you, i0), e2 (u1, i0), e3 (u1, i*), e4:\n\n");
    for (int s = 0; s < R2_N_SCHEDULES; ++s)
        for (int32_t k = r2_schedule_first_step((r2_schedule)s); k <= R2_STEP_ASK; ++k) {
            printf("  %-12s step %d ", r2_schedule_name((r2_schedule)s), (int)k);
            for (int32_t edge = 1; edge <= 4; ++edge)
                printf(" %-7s", mark[r2_schedule_visibility((r2_schedule)s, k, edge)]);
            printf("\n");
        }
}

/* The step's question: about whom, what, after how many interactions; and its true answer. */
static r2_status print_question(r2_ctx *ctx, const r2_data *data, const r2_index *index,
                                const r2_chain *chain, int32_t step) {
    r2_question q;
    r2_status status = r2_question_of_step(ctx, index, chain, step, &q);
    if (status != R2_OK) return status;
    printf("\n--- step %d asks for e%d: %s about %s, interactions before it %d; ", (int)step,
           (int)step, data->user_key[q.user], data->item_key[q.item], (int)q.n_history);
    if (q.answer < 0) printf("the answer is not in the data ---\n");
    else printf("the answer is %d ---\n", (int)q.answer);
    return R2_OK;
}

static r2_status print_step(r2_ctx *ctx, const r2_data *data, const r2_index *index,
                            const r2_evidence *evidence, int32_t step) {
    const r2_chain_config chains = {R2_CHAINS_COHERENT, 1, 1};
    r2_prompt_config config = r2_prompt_config_default();
    r2_evidence asked = *evidence;
    r2_prompt prompt;
    r2_status status = print_question(ctx, data, index, &evidence->chain[0].chain, step);
    memset(&prompt, 0, sizeof prompt);
    config.words = R2_WORDS_ENGLISH;
    config.data = data;
    if (status == R2_OK && step < R2_STEP_ASK)
        status = r2_evidence_of_step(ctx, index, step, 1, &chains, &asked);
    if (status == R2_OK) status = r2_prompt_build(ctx, &config, &asked, &prompt);
    if (status == R2_OK) printf("%s\n", prompt.user.data);
    r2_prompt_free(ctx, &prompt);
    return status;
}

static r2_status ask(r2_ctx *ctx, const r2_data *data, const r2_index *index) {
    const r2_chain_config chains = {R2_CHAINS_COHERENT, 1, 1};
    r2_question q = {0};
    r2_evidence evidence;
    r2_status status;
    q.user = (uint32_t)r2_data_user(data, "Ann");
    q.item = (uint32_t)r2_data_item(data, "Tron"), q.n_history = 2, q.answer = -1;
    status = r2_evidence_compute(ctx, index, &q, 1, &chains, &evidence);
    for (int32_t step = 1; step <= R2_STEP_ASK && status == R2_OK; ++step)
        status = print_step(ctx, data, index, &evidence, step);
    return status;
}

int main(void) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_graph graph;
    r2_index index;
    r2_status status = r2_data_load(&ctx, &data, "examples/lessons/films.csv");
    memset(&graph, 0, sizeof graph);
    memset(&index, 0, sizeof index);
    if (status == R2_OK) status = r2_graph_init(&ctx, &graph, &data, NULL);
    if (status == R2_OK) status = r2_index_init(&ctx, &index, &graph, &data, 4.0f, 1);
    if (status == R2_OK) print_table();
    if (status == R2_OK) status = ask(&ctx, &data, &index);
    if (status != R2_OK) fprintf(stderr, "%s\n", ctx.message);
    r2_index_free(&ctx, &index);
    r2_graph_free(&ctx, &graph);
    r2_data_free(&ctx, &data);
    return status != R2_OK;
}

/* Exercises (tests/test_lessons.sh has the answers)
   1. Which schedule asks once and shows everything but e4?
   2. At step 2 the question is about Bob and Alien, after 0 interactions. Why 0?
   3. Change Bob's 4 for Tron to 2 in the file. The prompts of which steps change? */

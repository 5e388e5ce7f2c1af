/* Lesson 6: supervised fine-tuning. The same model is taught for 0, 40, 150 and 500
   steps, and each time asked to reason about the same question: first noise, then the right shape,
   then true thoughts.

       06_sft       on data/mini; seconds

   Read with it: room [M8] of r2rec.h. Its loss is the sum of three: answer, trace, list. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <math.h>
#include <string.h>

/* Keeps the first and the last report. */
typedef struct watch {
    r2_sft_report first, last;
} watch;

static void keep(void *hook_data, const r2_sft_report *report) {
    watch *w = (watch *)hook_data;
    if (report->step <= 1) w->first = *report;
    w->last = *report;
}

/* Lets the model reason about the first validation user's held-out item. */
static r2_status print_thoughts(r2_ctx *ctx, r2_run *run, const r2_examples *asked) {
    r2_reasoning own;
    const r2_status status = r2_think(ctx, &run->model, asked, 0, 1, &own);
    if (status != R2_OK) return status;
    printf("    %.*s\n    the strict checker says: %s\n", 150, own.text.data,
           r2_verdict_name(own.check.verdict));
    r2_reasoning_free(ctx, &own);
    return R2_OK;
}

/* HR@1 among 20 candidates, answered at once and after reasoning, and the share of true traces. */
static r2_status print_ranking(r2_ctx *ctx, r2_run *run, const r2_examples *asked) {
    const r2_candidates *test = &run->valid;
    const r2_eval_config eval = r2_eval_config_default();
    r2_score_config how = r2_score_config_default();
    r2_metrics direct, reasoned;
    r2_trace_metrics trace;
    r2_status status;
    const uint64_t n = (uint64_t)(test->n_cases * test->n_per_case);
    float *score = (float *)r2_alloc(ctx, n, sizeof *score);
    if (!score) return ctx->status;
    how.mode = R2_DIRECT;
    status = r2_score(ctx, &run->model, asked, &how, score, NULL);
    if (status == R2_OK)
        status = r2_evaluate(ctx, score, test->n_cases, test->n_per_case, &eval, &direct, NULL);
    how.mode = R2_REASONED;
    if (status == R2_OK) status = r2_score(ctx, &run->model, asked, &how, score, &trace);
    if (status == R2_OK)
        status = r2_evaluate(ctx, score, test->n_cases, test->n_per_case, &eval, &reasoned, NULL);
    if (status == R2_OK)
        printf("    HR@1 of 20: direct %.3f, reasoned %.3f; traces true to the last word %.3f\n",
               direct.hr1, reasoned.hr1, trace.faithful);
    r2_release(ctx, score);
    return status;
}

/* Teaches the model for n_steps, each time from the same first weights. */
static r2_status teach(r2_ctx *ctx, r2_run *run, const r2_model *fresh, const r2_examples *asked,
                       int64_t n_steps) {
    watch w = {{0}, {0}};
    r2_status status = r2_model_copy(ctx, &run->model, fresh);
    run->config.sft.n_steps = n_steps;
    run->config.sft.on_step = keep;
    run->config.sft.on_step_data = &w;
    printf("\n%d steps\n", (int)n_steps);
    if (status == R2_OK && n_steps > 0) status = r2_run_sft(ctx, run);
    if (status == R2_OK && n_steps > 0)
        printf("    loss of the answer %.3f -> %.3f, of the trace %.3f -> %.3f, of the list %.3f"
               " -> %.3f\n", (double)w.first.answer_loss, (double)w.last.answer_loss,
               (double)w.first.trace_loss, (double)w.last.trace_loss, (double)w.first.list_loss,
               (double)w.last.list_loss);
    if (status == R2_OK) status = print_thoughts(ctx, run, asked);
    return status == R2_OK ? print_ranking(ctx, run, asked) : status;
}

int main(void) {
    static const int64_t steps[] = {0, 40, 150, 500};
    static r2_run run;
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = r2_run_config_default();
    r2_examples asked;
    r2_model fresh;
    r2_status status;
    config.n_groups = 1024; /* 1 observed and 4 sampled items each */
    config.n_cases = 60;
    config.model.n_layer = 1;
    config.sft.groups = 8;
    config.sft.warmup = 30;
    config.sft.lr = 5e-3f;
    config.sft.valid_every = 0; /* no early stopping: few steps */
    memset(&asked, 0, sizeof asked), memset(&fresh, 0, sizeof fresh);
    status = r2_run_init(&ctx, &run, "data/mini", &config);
    if (status == R2_OK) status = r2_run_candidate_prompts(&ctx, &run, &run.valid, NULL, &asked);
    if (status == R2_OK) status = r2_model_init(&ctx, &fresh, &run.model.config, false);
    if (status == R2_OK)
        printf("%d questions, a model of %d weights. Knowing nothing, a word costs log %d = %.3f,\n"
               "the choice among the 5 items of a group log 5 = %.3f.\n", (int)run.n_train,
               (int)run.model.n_params, (int)run.vocab.n_words, log(run.vocab.n_words), log(5.0));
    for (int k = 0; k < 4 && status == R2_OK; ++k) status = teach(&ctx, &run, &fresh, &asked, steps[k]);
    if (status != R2_OK) fprintf(stderr, "%s\n", ctx.message);
    r2_model_free(&ctx, &fresh);
    r2_examples_free(&ctx, &asked);
    r2_run_free(&ctx, &run);
    return status != R2_OK;
}

/* Exercises (tests/test_lessons.sh has the answers)
   1. Why is the first loss of the answer near log of the number of words and not near log 6?
   2. Which comes first, true traces or a good ranking?
   3. Of 0, 40, 150, 500 steps, from which on has the output the right shape? */

/* Lesson 9: one flow. Every arrow from the ratings to a recommendation, for one user.

       09_one_flow [N]      the Nth test user of data/mini, from 0 (default 0)

   Read with it: "ONE QUESTION" at the top of r2rec.h, and [M11]. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <stdlib.h>
#include <string.h>

enum { GROUP = 5 };
static void must(const r2_ctx *ctx, r2_status status) {
    if (status != R2_OK) fprintf(stderr, "%s\n", ctx->message), exit(1);
}

/* chain, step -> prompt -> thoughts -> record -> tokens */
static void print_step(r2_ctx *ctx, const r2_run *run, r2_evidence evidence, int32_t k) {
    r2_prompt_config english = r2_prompt_config_default(), compact = english;
    r2_teacher_config rules = r2_teacher_config_default();
    r2_teacher teacher = {r2_teacher_rules, &rules, "rules", true, NULL};
    r2_prompt prompt = {{NULL, 0, 0, false}, {NULL, 0, 0, false}, 0, 0};
    r2_text line = {NULL, 0, 0, false};
    r2_records records;
    r2_tokens ids;
    memset(&records, 0, sizeof records), memset(&ids, 0, sizeof ids);
    english.words = R2_WORDS_ENGLISH, english.data = compact.data = &run->data;
    compact.codebook = &run->codebook;
    if (k < R2_STEP_ASK) /* evidence about the edge that is asked */
        must(ctx, r2_evidence_of_step(ctx, &run->index, k, 1, &run->config.chains, &evidence));
    must(ctx, r2_prompt_build(ctx, &english, &evidence, &prompt));
    printf("\nPROMPT, step %d: %s\n", (int)k, prompt.user.data);
    must(ctx, r2_teach(ctx, &compact, &evidence, 1, k, &teacher, &records));
    if (records.n == 1) { /* it passed the checker */
        const char *output = records.record[0].output;
        r2_record_line(ctx, &records.record[0], &line);
        printf("THOUGHTS: %s\nRECORD: %s\n", output, line.data);
        must(ctx, r2_vocab_encode(ctx, &run->vocab, output, strlen(output), &ids));
        for (int64_t t = 0; t < ids.n; ++t) printf("%s %d", t ? "" : "TOKENS:", (int)ids.id[t]);
        printf("\n");
    }
    r2_tokens_free(ctx, &ids), r2_text_free(ctx, &line);
    r2_records_free(ctx, &records), r2_prompt_free(ctx, &prompt);
}

/* examples -> the losses of a step of supervised fine-tuning */
static void losses(void *hook_data, const r2_sft_report *r) {
    if (r->step > 1 && r->step < r->n_steps) return;
    fprintf((FILE *)hook_data, "\nSFT step %d of %d: loss = answer %.3f + 1.5 trace %.3f + list %.3f\n",
            (int)r->step, (int)r->n_steps, (double)r->answer_loss, (double)r->trace_loss,
            (double)r->list_loss);
}

/* sampled outputs -> rewards -> advantages, of the first prompt of a GRPO step */
static r2_status reward(r2_ctx *ctx, void *hook_data, const r2_sample *s, double *value) {
    static double group[GROUP], advantage[GROUP];
    const r2_grpo_config defaults = r2_grpo_config_default();
    int *n = (int *)hook_data;
    (void)ctx;
    *value = r2_reward(&defaults.reward, s);
    if (*n >= GROUP) return R2_OK; /* the first prompt is enough */
    if (*n == 0) printf("\nGRPO, one group of outputs (right answer %d)\n", (int)s->right_answer);
    printf("  reward %.3f, %s: %.80s ...\n", *value, r2_verdict_name(s->check.verdict), s->output);
    group[(*n)++] = *value;
    if (*n < GROUP) return R2_OK;
    r2_advantages(R2_GRPO, group, GROUP, advantage);
    for (int k = 0; k < GROUP; ++k) printf("%s %+.3f", k ? "" : "ADVANTAGES:", advantage[k]);
    printf("\n");
    return R2_OK;
}

/* scores -> a recommendation with its reasons */
static void recommend(r2_ctx *ctx, r2_run *run, uint32_t user) {
    r2_prompt_config view = r2_prompt_config_default();
    r2_recommendation best;
    r2_prompt prompt = {{NULL, 0, 0, false}, {NULL, 0, 0, false}, 0, 0};
    r2_text text = prompt.user;
    const r2_task task = {0, &view, &best.evidence, &prompt, -1};
    int64_t n = 0;
    view.data = &run->data, view.codebook = &run->codebook;
    must(ctx, r2_run_recommend(ctx, run, user, 1, &best, &n));
    must(ctx, r2_prompt_build(ctx, &view, &best.evidence, &prompt));
    must(ctx, r2_prompt_explain(ctx, &task, best.reasoning.text.data, &text));
    printf("\nRECOMMENDATION, score %.2f\n%s", (double)best.score, text.data);
    r2_text_free(ctx, &text), r2_prompt_free(ctx, &prompt), r2_recommendations_free(ctx, &best, n);
}

int main(int argc, char **argv) {
    static r2_run run;
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = r2_run_config_default();
    r2_question q = {0};
    r2_evidence evidence;
    const r2_chain *c = &evidence.chain[0].chain;
    const r2_target *t;
    int n_seen = 0;
    config.n_groups = 512, config.n_cases = 100, config.model.n_layer = 1;
    config.sft.groups = 8, config.sft.n_steps = 150, config.sft.warmup = 30, config.sft.lr = 5e-3f;
    config.sft.valid_every = 0, config.sft.on_step = losses, config.sft.on_step_data = stdout;
    config.grpo.n_steps = 1, config.grpo.reward_fn = reward, config.grpo.reward_data = &n_seen;
    must(&ctx, r2_run_init(&ctx, &run, "data/mini", &config)); /* ratings -> split, graph, words */
    t = run.split.test + (argc > 1 ? strtoull(argv[1], NULL, 10) % (uint64_t)run.split.n_test : 0);
    q.user = t->user, q.item = t->item;
    q.n_history = (int32_t)r2_graph_user_degree(&run.graph, t->user);
    q.answer = r2_answer_level(run.data.rating[t->row], run.data.rating_min, run.data.rating_max);
    printf("QUESTION: would user %s take %s? (In truth: answer %d.)\n",
           run.data.user_key[q.user], run.data.title[q.item], (int)q.answer);
    must(&ctx, r2_evidence_compute(&ctx, &run.index, &q, 1, &run.config.chains, &evidence));
    if (evidence.n_chains < 1) must(&ctx, r2_fail(&ctx, R2_ARGUMENT, "no chain leads there"));
    printf("CHAIN, score %.3f: user %s gave %s %g; user %s gave it %g and %s %g\n",
           (double)c->score, run.data.user_key[c->u0], run.data.title[c->i0], (double)c->r1,
           run.data.user_key[c->u1], (double)c->r2, run.data.title[c->i1], (double)c->r3);
    for (int32_t k = 1; k <= R2_STEP_ASK; ++k) print_step(&ctx, &run, evidence, k);
    must(&ctx, r2_run_sft(&ctx, &run));
    must(&ctx, r2_run_grpo(&ctx, &run));
    recommend(&ctx, &run, q.user);
    r2_run_free(&ctx, &run);
    return 0;
}

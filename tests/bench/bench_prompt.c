/* Prompts: how many a second are built, per language, on 1 and on all threads.

       bench_prompt [DIRECTORY]     a MovieLens directory; default data/mini */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

static int fail(const r2_ctx *ctx) { return fprintf(stderr, "%s\n", ctx->message), 1; }

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = r2_run_config_default();
    r2_prompt *prompt;
    r2_run run;
    int threads[2] = {1, ctx.n_threads};
    if (r2_run_init(&ctx, &run, argc > 1 ? argv[1] : "data/mini", &config)) return fail(&ctx);
    prompt = (r2_prompt *)r2_alloc(&ctx, (uint64_t)run.n_train, sizeof *prompt);
    if (!prompt) return fail(&ctx);
    for (int language = 0; language < R2_N_WORDS; ++language)
        for (int t = 0; t < 2; ++t) {
            r2_prompt_config view = r2_prompt_config_default();
            double seconds = 1e9, bytes = 0.0;
            int64_t n_failed = 0;
            view.words = (r2_words)language;
            view.data = &run.data;
            view.codebook = &run.codebook;
            ctx.n_threads = threads[t];
            for (int round = 0; round < 4; ++round) { /* the first round also gets the memory */
                double start = r2_seconds();
                R2_PARALLEL_FOR(threads[t], q, run.n_train) {
                    r2_ctx own = ctx;
                    if (r2_prompt_build(&own, &view, &run.evidence[q], &prompt[q]) != R2_OK)
                        prompt[q].n_shown = -1;
                }
                if (r2_seconds() - start < seconds) seconds = r2_seconds() - start;
            }
            for (int64_t q = 0; q < run.n_train; ++q) n_failed += prompt[q].n_shown < 0;
            if (n_failed) return fprintf(stderr, "%lld prompts failed\n", (long long)n_failed), 1;
            for (int64_t q = 0; q < run.n_train; ++q)
                bytes += (double)(prompt[q].system.len + prompt[q].user.len);
            printf("%-8s %d threads: %8.0f prompts/s, %5.0f bytes a prompt\n",
                   r2_words_name(view.words), ctx.n_threads, (double)run.n_train / seconds,
                   bytes / (double)run.n_train);
        }
    for (int64_t q = 0; q < run.n_train; ++q) r2_prompt_free(&ctx, &prompt[q]);
    r2_release(&ctx, prompt);
    r2_run_free(&ctx, &run);
    return 0;
}

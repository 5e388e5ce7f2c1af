/* Prompts: how many a second are built, per template, on 1 and on all threads.

       bench_prompt [DIRECTORY]     a MovieLens directory; default data/mini */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

static int fail(const r2_ctx *ctx) { return fprintf(stderr, "%s\n", ctx->message), 1; }

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = r2_run_config_default();
    r2_template english;
    r2_prompt *prompt;
    r2_run run;
    int threads[2] = {1, ctx.n_threads};
    if (r2_run_init(&ctx, &run, argc > 1 ? argv[1] : "data/mini", &config)) return fail(&ctx);
    if (r2_template_english(&ctx, &english)) return fail(&ctx);
    prompt = (r2_prompt *)r2_alloc(&ctx, (uint64_t)run.n_train, sizeof *prompt);
    if (!prompt) return fail(&ctx);
    for (int words = 0; words < 2; ++words)
        for (int t = 0; t < 2; ++t) {
            r2_prompt_config view = r2_prompt_config_default();
            double seconds = 1e9, bytes = 0.0;
            view.words = words ? &english : NULL;
            ctx.n_threads = threads[t];
            for (int round = 0; round < 4; ++round) { /* the first round also gets the memory */
                double start = r2_seconds();
                if (r2_prompt_build_all(&ctx, &view, &run.data, &run.codebook, run.evidence,
                                        run.n_train, prompt))
                    return fail(&ctx);
                if (r2_seconds() - start < seconds) seconds = r2_seconds() - start;
            }
            for (int64_t q = 0; q < run.n_train; ++q)
                bytes += (double)(prompt[q].system.len + prompt[q].user.len);
            printf("%-8s %d threads: %8.0f prompts/s, %5.0f bytes a prompt\n",
                   words ? "english" : "compact", ctx.n_threads, (double)run.n_train / seconds,
                   bytes / (double)run.n_train);
        }
    for (int64_t q = 0; q < run.n_train; ++q) r2_prompt_free(&ctx, &prompt[q]);
    r2_release(&ctx, prompt);
    r2_template_free(&ctx, &english);
    r2_run_free(&ctx, &run);
    return 0;
}

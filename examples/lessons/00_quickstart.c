/* Train a small transformer on who-rated-what, then recommend: build with `make`, run from here. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

static int show(void *hook_data, const char *what, int64_t done, int64_t total) {
    const char *end = done == total ? "\n" : "";
    fprintf((FILE *)hook_data, "\r%s: %lld of %lld%s", what, (long long)done, (long long)total, end);
    return 0;
}

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = r2_run_config_default();
    r2_run run;
    r2_recommendation best[3];
    int64_t n = 0;
    if (argc > 1) /* --help, or anything else */
        return printf("usage: %s, which trains on data/mini for half a minute\n", argv[0]) < 0;
    ctx.progress = show, ctx.hook_data = stderr;
    config.sft.n_steps = 200;
    if (r2_run_init(&ctx, &run, "data/mini", &config) != R2_OK || /* chains, prompts, traces */
        r2_run_sft(&ctx, &run) != R2_OK ||                        /* supervised fine-tuning */
        r2_run_recommend(&ctx, &run, 0, 3, best, &n) != R2_OK) {  /* for the first user     */
        fprintf(stderr, "%s\n", ctx.message);
        return 1;
    }
    for (int64_t k = 0; k < n; ++k)
        printf("%5.2f  %s\n", (double)best[k].score, run.data.title[best[k].item]);
    r2_recommendations_free(&ctx, best, n);
    r2_run_free(&ctx, &run);
    return 0;
}

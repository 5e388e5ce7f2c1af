/* Templates of prompts: one that is accepted builds a prompt for every step. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    r2_run *run = fuzz_run();
    r2_template words;
    r2_prompt_config config = r2_prompt_config_default();
    r2_prompt prompt;
    if (r2_template_parse(&ctx, &words, "fuzz", text, size) != R2_OK) return;
    memset(&prompt, 0, sizeof prompt);
    config.words = &words;
    for (config.step = 1; config.step <= R2_STEP_REVEAL; ++config.step)
        if (run->evidence[0].n_chains > 0)
            must(r2_prompt_build(&ctx, &config, &run->data, &run->codebook, &run->evidence[0],
                                 &prompt) == R2_OK);
    r2_prompt_free(&ctx, &prompt);
    r2_template_free(&ctx, &words);
}

/* The checker of compact traces, against the prompt of a small run: any bytes get a verdict, and
   only what cites right facts with right weights passes. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    static r2_text prompt;
    r2_run *run = fuzz_run();
    r2_text output = {NULL, 0, 0, false};
    r2_check check;
    if (!prompt.len) r2_prompt_compact(&ctx, &run->codebook, &run->evidence[0], &prompt);
    r2_text_add(&ctx, &output, text, size);
    check = r2_check_trace(&run->codebook, prompt.data, output.data);
    must(check.verdict < R2_N_VERDICTS && check.answer >= -1 && check.answer < R2_N_ANSWERS);
    must(check.n_right <= check.n_found && check.n_found <= check.n_cited);
    if (check.verdict == R2_TRACE_OK) must(check.well_formed && check.n_right == check.n_cited);
    r2_text_free(&ctx, &output);
}

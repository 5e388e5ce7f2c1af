/* The checker of English traces: any bytes get a verdict, against the prompt of one invented chain whose
   titles stand inside one another, and, where the input has a NUL, against what stands before it. */
#include "fuzz.h"

static void check(const r2_task *task, const char *output) {
    r2_check check = r2_check_output(task, output);
    must(check.verdict < R2_N_VERDICTS && check.answer >= -1 && check.answer < R2_N_ANSWERS);
    must(check.n_right <= check.n_found && check.n_found <= check.n_cited);
    if (check.verdict == R2_TRACE_OK) must(check.answer == task->answer);
}

static void fuzz_one(const char *text, size_t size) {
    static char heat[] = "Heat", heat2[] = "Heat \"2\"", m[] = "M", one[] = "1";
    char *title[3] = {heat, heat2, m}, *key[1] = {one};
    const char *cut = size ? (const char *)memchr(text, '\0', size) : NULL;
    size_t before = cut ? (size_t)(cut - text) : 0, from = cut ? before + 1 : 0;
    r2_text output = {NULL, 0, 0, false};
    r2_prompt_config config = r2_prompt_config_default();
    r2_prompt prompt;
    r2_evidence evidence;
    r2_data data;
    r2_task task = {0, &config, &evidence, &prompt, 4};
    memset(&prompt, 0, sizeof prompt);
    memset(&evidence, 0, sizeof evidence);
    memset(&data, 0, sizeof data);
    data.title = title;
    data.user_key = key;
    data.rating_max = 5.0f;
    evidence.item = evidence.chain[0].chain.i1 = 2;
    evidence.n_chains = 1;
    evidence.chain[0].chain.r1 = evidence.chain[0].chain.r2 = evidence.chain[0].chain.r3 = 4.0f;
    evidence.chain[0].chain.r4 = NAN;
    config.words = R2_WORDS_ENGLISH;
    config.data = &data;
    must(r2_prompt_build(&ctx, &config, &evidence, &prompt) == R2_OK);
    r2_text_add(&ctx, &output, text + from, size - from);
    check(&task, output.data);
    if (cut) {
        r2_text_clear(&prompt.user);
        r2_text_add(&ctx, &prompt.user, text, before);
        check(&task, output.data);
    }
    r2_text_free(&ctx, &output);
    r2_prompt_free(&ctx, &prompt);
}

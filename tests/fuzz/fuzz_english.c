/* The checker of English traces, against a prompt of one invented chain whose titles stand inside
   one another: any bytes get a verdict. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    static char heat[] = "Heat", heat2[] = "Heat \"2\"", m[] = "M", one[] = "1";
    char *title[3] = {heat, heat2, m}, *key[1] = {one};
    r2_text output = {NULL, 0, 0, false};
    r2_prompt_config config = r2_prompt_config_default();
    r2_prompt prompt, any;
    r2_evidence evidence;
    r2_data data;
    r2_task task = {0, &config, &evidence, &prompt, 4};
    r2_check check;
    memset(&prompt, 0, sizeof prompt);
    memset(&any, 0, sizeof any);
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
    r2_text_add(&ctx, &output, text, size);
    check = r2_check_output(&task, output.data);
    must(check.verdict < R2_N_VERDICTS && check.answer >= -1 && check.answer < R2_N_ANSWERS);
    if (check.verdict == R2_TRACE_OK) must(check.answer == 4);
    any.user = output; /* any bytes as the prompt, too */
    task.prompt = &any;
    must(r2_check_output(&task, output.data).verdict < R2_N_VERDICTS);
    r2_text_free(&ctx, &output);
    r2_prompt_free(&ctx, &prompt);
}

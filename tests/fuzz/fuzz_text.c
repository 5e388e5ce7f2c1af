/* libFuzzer target for all that reads text: tokenizer, tokenizer.json, vocabularies, records,
   and the two trace checkers. The first byte chooses which.

       clang -g -O1 -fsanitize=fuzzer,address,undefined -I. tests/fuzz/fuzz_text.c -lcjson -lm
       ./a.out -max_total_time=600 */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static r2_ctx ctx;
static r2_bpe bpe;
static char path[64];

static void must(bool good) {
    if (!good) abort();
}

static void prepare(void) {
    const char *text = "the cat the hat a\xCC\x81 \xED\x95\x9C 123 the that";
    r2_bpe_config config = r2_bpe_config_default();
    ctx = r2_ctx_default();
    config.n_tokens = 300;
    config.nfc = true;
    must(r2_bpe_train(&ctx, &bpe, &config, text, strlen(text)) == R2_OK);
    snprintf(path, sizeof path, "/tmp/r2_fuzz.%d", (int)getpid());
}

/* Ids decode to the normal form of the text, whose normal form is itself. */
static void fuzz_encode(const char *text, size_t size) {
    r2_tokens ids = {NULL, 0, {NULL, false}};
    r2_text back = {NULL, 0, 0, false}, normal = {NULL, 0, 0, false}, again = {NULL, 0, 0, false};
    must(!r2_bpe_encode(&ctx, &bpe, text, size, false, &ids));
    must(!r2_bpe_decode(&ctx, &bpe, ids.id, ids.n, true, &back));
    must(!r2__nfc_text(&ctx, bpe.normal, text, size, &normal));
    must(back.len == normal.len && (!back.len || !memcmp(back.data, normal.data, back.len)));
    if (normal.len) must(!r2__nfc_text(&ctx, bpe.normal, normal.data, normal.len, &again));
    must(again.len == normal.len && (!back.len || !memcmp(again.data, normal.data, again.len)));
    must(!r2_bpe_encode(&ctx, &bpe, text, size, true, &ids));
    r2_tokens_free(&ctx, &ids);
    r2_text_free(&ctx, &back);
    r2_text_free(&ctx, &normal);
    r2_text_free(&ctx, &again);
}

static void fuzz_files(const char *text, size_t size) {
    r2_bpe loaded;
    r2_vocab vocab;
    r2_records records;
    r2_text line = {NULL, 0, 0, false};
    memset(&vocab, 0, sizeof vocab);
    memset(&records, 0, sizeof records);
    must(!r2_write_file(&ctx, path, text, size));
    if (!r2_bpe_load(&ctx, &loaded, path)) r2_bpe_free(&ctx, &loaded);
    if (!r2_vocab_load(&ctx, &vocab, path)) r2_vocab_free(&ctx, &vocab);
    if (!r2_records_read(&ctx, &records, path))
        for (int64_t i = 0; i < records.n; ++i) r2_record_line(&ctx, &records.record[i], &line);
    r2_records_free(&ctx, &records);
    r2_text_free(&ctx, &line);
    remove(path);
}

/* An output against a prompt of one invented chain. */
static void fuzz_trace(const char *text, size_t size) {
    char *title[3] = {(char *)"Heat", (char *)"Heat \"2\"", (char *)"M"}, *key[1] = {(char *)"1"};
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
    must(!r2_prompt_build(&ctx, &config, &evidence, &prompt));
    r2_text_add(&ctx, &output, text, size);
    must(r2_check_output(&task, output.data).verdict < R2_N_VERDICTS);
    r2_text_free(&ctx, &output);
    r2_prompt_free(&ctx, &prompt);
}

/* Prompt and output, both any bytes, with a NUL between them. */
static void fuzz_check(const char *text, size_t size) {
    r2_text both = {NULL, 0, 0, false};
    r2_text_add(&ctx, &both, text, size);
    r2_text_add(&ctx, &both, "", 1);
    must(r2__check_english(both.data, both.data + strlen(both.data) + (strlen(both.data) < size))
             .verdict < R2_N_VERDICTS);
    r2_text_free(&ctx, &both);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data + 1;
    if (!bpe.n_tokens) prepare();
    if (size < 1) return 0;
    switch (data[0] % 4) {
    case 0: fuzz_encode(text, size - 1); break;
    case 1: fuzz_files(text, size - 1); break;
    case 2: fuzz_trace(text, size - 1); break;
    default: fuzz_check(text, size - 1);
    }
    return 0;
}

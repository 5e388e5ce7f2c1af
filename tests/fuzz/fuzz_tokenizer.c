/* tokenizer.json. A tokenizer that was accepted encodes as its own file does; what it encodes it
   decodes to the same text, or to text that stays the same from then on. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    static const char sample[] = "ab abc 12 a\xCC\x81 \xED\x95\x9C don't <|im_end|>\n\n \xFF";
    r2_bpe bpe, again;
    r2_tokens ids = {NULL, 0, {NULL, false}}, same = {NULL, 0, {NULL, false}};
    r2_text back = {NULL, 0, 0, false};
    const char *path = fuzz_file("tokenizer.json", text, size);
    if (r2_bpe_load(&ctx, &bpe, path) != R2_OK) return;
    if (r2_bpe_encode(&ctx, &bpe, sample, sizeof sample - 1, true, &ids) == R2_OK) {
        for (int64_t k = 0; k < ids.n; ++k) must(ids.id[k] >= 0 && ids.id[k] < bpe.n_tokens);
        must(r2_bpe_decode(&ctx, &bpe, ids.id, ids.n, true, &back) == R2_OK);
        if (!bpe.nfc) must(back.len == sizeof sample - 1 && !memcmp(back.data, sample, back.len));
        must(r2_bpe_save(&ctx, &bpe, path) == R2_OK);
        must(r2_bpe_load(&ctx, &again, path) == R2_OK);
        must(r2_bpe_encode(&ctx, &again, sample, sizeof sample - 1, true, &same) == R2_OK);
        must(ids.n == same.n && !memcmp(ids.id, same.id, (size_t)ids.n * sizeof *ids.id));
        r2_bpe_free(&ctx, &again);
    }
    r2_tokens_free(&ctx, &ids);
    r2_tokens_free(&ctx, &same);
    r2_text_free(&ctx, &back);
    r2_bpe_free(&ctx, &bpe);
}

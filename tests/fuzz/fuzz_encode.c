/* Text through a tokenizer in normal form C: what comes back stays the same from then on, with the
   same ids; without the normal form the bytes themselves come back. */
#include "fuzz.h"

static r2_text decoded(const r2_bpe *bpe, const char *text, size_t size, bool added) {
    r2_tokens ids = {NULL, 0, {NULL, false}};
    r2_text back = {NULL, 0, 0, false};
    must(r2_bpe_encode(&ctx, bpe, text, size, added, &ids) == R2_OK);
    must(r2_bpe_decode(&ctx, bpe, ids.id, ids.n, true, &back) == R2_OK);
    r2_tokens_free(&ctx, &ids);
    return back;
}

static void fuzz_one(const char *text, size_t size) {
    static const char learn[] = "the cat the hat a\xCC\x81 \xED\x95\x9C 123 the that";
    static r2_bpe normal, plain[3];
    if (!normal.n_tokens) {
        r2_bpe_config config = r2_bpe_config_default();
        config.n_tokens = 300;
        for (int rule = 0; rule < 3; ++rule) {
            config.rule = (r2_bpe_rule)rule;
            must(r2_bpe_train(&ctx, &plain[rule], &config, learn, strlen(learn)) == R2_OK);
        }
        config.nfc = true;
        must(r2_bpe_train(&ctx, &normal, &config, learn, strlen(learn)) == R2_OK);
    }
    for (int added = 0; added < 2; ++added) {
        r2_text first = decoded(&normal, text, size, added), second;
        second = decoded(&normal, first.data ? first.data : "", first.len, added);
        must(fuzz_same(&first, &second));
        r2_text_free(&ctx, &first);
        r2_text_free(&ctx, &second);
        for (int rule = 0; rule < 3; ++rule) {
            first = decoded(&plain[rule], text, size, added);
            must(first.len == size && (!size || !memcmp(first.data, text, size)));
            r2_text_free(&ctx, &first);
        }
    }
}

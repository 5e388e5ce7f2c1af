/* vocab.txt: what is accepted comes back from its own file, with the same ids. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    const char *path = fuzz_file("vocab.txt", text, size);
    r2_vocab vocab, again;
    memset(&vocab, 0, sizeof vocab);
    memset(&again, 0, sizeof again);
    if (r2_vocab_load(&ctx, &vocab, path) == R2_OK) {
        must(r2_vocab_save(&ctx, &vocab, path) == R2_OK);
        must(r2_vocab_load(&ctx, &again, path) == R2_OK && again.n_words == vocab.n_words);
        for (int32_t k = 0; k < vocab.n_words; ++k)
            must(r2_vocab_find(&again, vocab.word[k]) == k);
    }
    r2_vocab_free(&ctx, &vocab);
    r2_vocab_free(&ctx, &again);
}

/* Tokenizer: seconds to learn 4,096 tokens from 10 MB of text, MB/s to encode it, both on one thread
   and in processor time, so that other work on the machine does not count.

       bench_token [FILE...]     the text; without files, made-up words with a natural distribution */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <time.h>

enum { TEXT_BYTES = 10 << 20, N_WORDS = 50000 };

/* Words of 1-5 syllables drawn by Zipf's law, with signs, digits and line ends between. */
static void make_text(r2_ctx *ctx, r2_text *text) {
    static const char *const syllable[] = {"ka",   "re",  "sto", "n",         "li",  "mu",
                                           "ther", "ing", "o",   "b\xC3\xA9", "qua", "fi",
                                           "dor",  "en",  "s",   "ty"};
    static const char *const between[] = {" ",  " ",  " ",  " ",   " ",  " ",   ", ",  ". ",
                                          "\n", " (", ") ", " 19", ": ", " - ", "'s ", "\n\n"};
    r2_rng rng = r2_rng_make(1, R2_STREAM_USER, 0);
    while (text->len < TEXT_BYTES) {
        double rank = pow((double)N_WORDS, r2_rng_double(&rng));
        r2_rng word = r2_rng_make(2, R2_STREAM_USER, (uint64_t)rank);
        for (uint64_t i = 1 + r2_rng_below(&word, 5); i > 0; --i) {
            const char *s = syllable[r2_rng_below(&word, 16)];
            r2_text_add(ctx, text, s, strlen(s));
        }
        const char *b = between[r2_rng_below(&rng, 16)];
        r2_text_add(ctx, text, b, strlen(b));
    }
}

static double seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_bpe_config config = r2_bpe_config_default();
    r2_text text = {NULL, 0, 0, false}, file = {NULL, 0, 0, false}, back = {NULL, 0, 0, false};
    r2_tokens ids = {NULL, 0, {NULL, false}};
    r2_bpe bpe;
    for (int i = 1; i < argc; ++i) {
        if (r2_read_file(&ctx, argv[i], &file)) return fprintf(stderr, "%s\n", ctx.message), 1;
        r2_text_add(&ctx, &text, file.data, file.len);
    }
    if (argc < 2) make_text(&ctx, &text);
    double start = seconds();
    if (r2_bpe_train(&ctx, &bpe, &config, text.data, text.len))
        return fprintf(stderr, "%s\n", ctx.message), 1;
    double trained = seconds();
    printf("%.1f MB of text, %d tokens learned in %.2f s\n", 1e-6 * (double)text.len,
           (int)bpe.n_tokens, trained - start);
    for (int round = 0; round < 3; ++round) {
        r2_tokens_clear(&ids);
        start = seconds();
        if (r2_bpe_encode(&ctx, &bpe, text.data, text.len, false, &ids)) return 1;
        trained = seconds();
        printf("encoded in %.2f s: %.1f MB/s, %.2f bytes a token\n", trained - start,
               1e-6 * (double)text.len / (trained - start), (double)text.len / (double)ids.n);
    }
    start = seconds();
    if (r2_bpe_decode(&ctx, &bpe, ids.id, ids.n, true, &back)) return 1;
    printf("decoded in %.2f s, %s\n", seconds() - start,
           back.len == text.len && !memcmp(back.data, text.data, text.len) ? "the same bytes"
                                                                           : "OTHER BYTES");
    r2_text_free(&ctx, &text);
    r2_text_free(&ctx, &file);
    r2_text_free(&ctx, &back);
    r2_tokens_free(&ctx, &ids);
    r2_bpe_free(&ctx, &bpe);
    return 0;
}

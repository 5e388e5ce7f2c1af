/* Lesson 4: a model reads numbers. Two ways to get them from text: a closed vocabulary (a number
   per word, for the compact prompts of the small model) and byte-level BPE (pieces that occur often
   together, for any text at all).

       04_tokens [TEXT]      TEXT is cut by a BPE that has read the titles of data/mini

   Read with it: [A7] and [E8] of r2rec.h. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <string.h>

/* Cuts a text and shows the pieces, in brackets, with their ids. */
static r2_status print_pieces(r2_ctx *ctx, const r2_bpe *bpe, const char *text) {
    r2_text back = {NULL, 0, 0, false};
    r2_tokens ids;
    r2_status status;
    memset(&ids, 0, sizeof ids);
    status = r2_bpe_encode(ctx, bpe, text, strlen(text), false, &ids);
    printf("%4d tokens: %3d bytes become %2d pieces ", (int)bpe->n_tokens, (int)strlen(text),
           (int)ids.n);
    for (int64_t k = 0; k < ids.n && status == R2_OK; ++k) {
        const int64_t begin = bpe->begin[ids.id[k]], end = bpe->begin[ids.id[k] + 1];
        printf("[%.*s]", (int)(end - begin), bpe->bytes + begin);
    }
    if (status == R2_OK) status = r2_bpe_decode(ctx, bpe, ids.id, ids.n, false, &back);
    if (status == R2_OK)
        printf("%s\n", strcmp(back.data ? back.data : "", text) ? " and do not come back!" : "");
    r2_text_free(ctx, &back);
    r2_tokens_free(ctx, &ids);
    return status;
}

/* The first merges are the pairs that the titles hold most often. */
static void print_merges(const r2_bpe *bpe) {
    printf("the first merges:");
    for (int32_t m = 0; m < 8 && m < bpe->n_merges; ++m) {
        const int32_t joined = bpe->merge[3 * m + 2];
        printf(" [%.*s]", (int)(bpe->begin[joined + 1] - bpe->begin[joined]),
               bpe->bytes + bpe->begin[joined]);
    }
    printf("\n");
}

static r2_status learn(r2_ctx *ctx, const r2_data *data, const char *text) {
    static const int32_t sizes[] = {259, 400, 1000}; /* 256 bytes, 3 control tokens, and merges */
    r2_bpe_config config = r2_bpe_config_default();
    r2_text titles = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    for (int64_t i = 0; i < data->n_items; ++i) r2_text_addf(ctx, &titles, "%s ", data->title[i]);
    if (titles.failed) status = ctx->status;
    printf("Byte-level BPE, learned from %d bytes of titles; \"%s\":\n", (int)titles.len, text);
    for (int k = 0; k < 3 && status == R2_OK; ++k) {
        r2_bpe bpe;
        config.n_tokens = sizes[k];
        status = r2_bpe_train(ctx, &bpe, &config, titles.data, titles.len);
        if (status != R2_OK) break;
        if (k == 1) print_merges(&bpe);
        status = print_pieces(ctx, &bpe, text);
        r2_bpe_free(ctx, &bpe);
    }
    r2_text_free(ctx, &titles);
    return status;
}

/* A compact prompt as ids; a word that the vocabulary does not have is an error, not a guess. */
static r2_status closed(r2_ctx *ctx, const r2_run *run) {
    const int64_t n = run->train.prompt_begin[1];
    r2_text words = {NULL, 0, 0, false};
    r2_tokens ids;
    r2_status status = r2_vocab_decode(ctx, &run->vocab, run->train.prompt, n, &words);
    memset(&ids, 0, sizeof ids);
    printf("\nA closed vocabulary of %d words; a compact prompt is %d of them:\n%.60s ...\n",
           (int)run->vocab.n_words, (int)n, words.data ? words.data : "");
    for (int64_t k = 0; k < 8; ++k) printf("%d ", (int)run->train.prompt[k]);
    printf("...\n");
    if (status == R2_OK && r2_vocab_encode(ctx, &run->vocab, "<q> Casablanca", 14, &ids) != R2_OK)
        printf("and of \"<q> Casablanca\" it says: %s\n", ctx->message);
    r2_tokens_free(ctx, &ids);
    r2_text_free(ctx, &words);
    return status;
}

int main(int argc, char **argv) {
    static r2_run run;
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = r2_run_config_default();
    r2_status status;
    config.n_groups = 200; /* enough to fit the buckets of the words */
    status = r2_run_init(&ctx, &run, "data/mini", &config);
    if (status == R2_OK)
        status = learn(&ctx, &run.data, argc > 1 ? argv[1] : "The Quantum Theatre");
    if (status == R2_OK) status = closed(&ctx, &run);
    if (status != R2_OK) fprintf(stderr, "%s\n", ctx.message);
    r2_run_free(&ctx, &run);
    return status != R2_OK;
}

/* Exercises (tests/test_lessons.sh has the answers)
   1. Without merges, how many pieces has a text of n bytes? How many for "e" with an accent?
   2. Try "Quantum quantum" with 1000 tokens: which piece do both words share, and why not more?
   3. Why can the closed vocabulary do without a token for the unknown? */

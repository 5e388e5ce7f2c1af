/* Writes what token_vectors.mjs and token_gpt2.mjs need into a directory: the strings, and a tokenizer
   for each rule. With a name, compares the ids of DIR/NAME.json with the lines of DIR/NAME.ids.

       make build/tests/reference/token_vectors
       build/tests/reference/token_vectors DIR [NAME] */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "token_strings.h"

static int fail(const r2_ctx *ctx) { return fprintf(stderr, "%s\n", ctx->message), 1; }

static r2_status write_strings(r2_ctx *ctx, const r2_bpe *tables, const char *path) {
    r2_text line = {NULL, 0, 0, false}, lines = {NULL, 0, 0, false};
    r2_status status;
    for (int64_t i = 0; i < N_TOKEN_STRINGS; ++i) {
        token_string(ctx, tables, i, &line);
        r2__text_json(ctx, &lines, r2__slice_of(line.data, line.len));
        r2_text_add(ctx, &lines, "\n", 1);
    }
    status = lines.failed ? ctx->status : r2_write_file(ctx, path, lines.data, lines.len);
    r2_text_free(ctx, &line);
    r2_text_free(ctx, &lines);
    return status;
}

static r2_status write_tokenizers(r2_ctx *ctx, const char *directory) {
    r2_text corpus = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    for (int k = 0; k < N_TOKENIZERS && !status; ++k) {
        char path[4096];
        r2_bpe bpe;
        status = token_train(ctx, &token_kinds[k], &bpe, &corpus);
        snprintf(path, sizeof path, "%s/%s.json", directory, token_kinds[k].name);
        if (!status) status = r2_bpe_save(ctx, &bpe, path);
        if (!status) r2_bpe_free(ctx, &bpe);
    }
    r2_text_free(ctx, &corpus);
    return status;
}

/* How many of the strings get other ids than the file says. */
static r2_status compare(r2_ctx *ctx, const r2_bpe *tables, const r2_bpe *bpe, const char *expected) {
    r2_text line = {NULL, 0, 0, false}, ids = {NULL, 0, 0, false};
    r2_tokens token = {NULL, 0, {NULL, false}};
    r2_status status = R2_OK;
    int64_t n_tokens = 0, n_other = 0;
    for (int64_t i = 0; i < N_TOKEN_STRINGS && !status; ++i) {
        size_t len = strcspn(expected, "\n");
        token_string(ctx, tables, i, &line);
        r2_tokens_clear(&token);
        r2_text_clear(&ids);
        status = r2_bpe_encode(ctx, bpe, line.data, line.len, true, &token);
        for (int64_t k = 0; k < token.n; ++k)
            r2_text_addf(ctx, &ids, k ? " %d" : "%d", (int)token.id[k]);
        n_tokens += token.n;
        n_other += ids.len != len || (len && memcmp(ids.data, expected, len) != 0);
        expected += len + (expected[len] == '\n');
    }
    printf("%d strings, %lld ids: %lld strings differ\n", (int)N_TOKEN_STRINGS, (long long)n_tokens,
           (long long)n_other);
    r2_text_free(ctx, &line);
    r2_text_free(ctx, &ids);
    r2_tokens_free(ctx, &token);
    return status;
}

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_text expected = {NULL, 0, 0, false};
    r2_bpe tables, bpe;
    char path[4096];
    if (argc < 2 || argc > 3) return fprintf(stderr, "usage: token_vectors DIR [NAME]\n"), 2;
    if (r2__bpe_begin(&ctx, &tables, R2_BPE_GPT2, true)) return fail(&ctx);
    if (argc == 2) {
        snprintf(path, sizeof path, "%s/strings.jsonl", argv[1]);
        if (write_strings(&ctx, &tables, path) || write_tokenizers(&ctx, argv[1])) return fail(&ctx);
    } else {
        snprintf(path, sizeof path, "%s/%s.ids", argv[1], argv[2]);
        if (r2_read_file(&ctx, path, &expected)) return fail(&ctx);
        snprintf(path, sizeof path, "%s/%s.json", argv[1], argv[2]);
        if (r2_bpe_load(&ctx, &bpe, path)) return fail(&ctx);
        if (compare(&ctx, &tables, &bpe, expected.data)) return fail(&ctx);
        r2_bpe_free(&ctx, &bpe);
        r2_text_free(&ctx, &expected);
    }
    r2_bpe_free(&ctx, &tables);
    return 0;
}

/* Writes what token_vectors.mjs needs into a directory: the strings, and a tokenizer per rule.

       make build/tests/reference/token_vectors && build/tests/reference/token_vectors DIR */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "token_strings.h"

static int fail(const r2_ctx *ctx) { return fprintf(stderr, "%s\n", ctx->message), 1; }

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_text corpus = {NULL, 0, 0, false}, line = {NULL, 0, 0, false}, lines = {NULL, 0, 0, false};
    r2_bpe tables, bpe;
    char path[4096];
    if (argc != 2) return fprintf(stderr, "usage: token_vectors DIR\n"), 2;
    if (r2__bpe_begin(&ctx, &tables, R2_BPE_GPT2, true)) return fail(&ctx);
    for (int64_t i = 0; i < N_TOKEN_STRINGS; ++i) {
        token_string(&ctx, &tables, i, &line);
        r2__text_json(&ctx, &lines, line.data, line.len);
        r2_text_add(&ctx, &lines, "\n", 1);
    }
    snprintf(path, sizeof path, "%s/strings.jsonl", argv[1]);
    if (r2_write_file(&ctx, path, lines.data, lines.len)) return fail(&ctx);
    for (int k = 0; k < N_TOKENIZERS; ++k) {
        if (token_train(&ctx, &token_kinds[k], &bpe, &corpus)) return fail(&ctx);
        snprintf(path, sizeof path, "%s/%s.json", argv[1], token_kinds[k].name);
        if (r2_bpe_save(&ctx, &bpe, path)) return fail(&ctx);
        r2_bpe_free(&ctx, &bpe);
    }
    r2_text_free(&ctx, &corpus);
    r2_text_free(&ctx, &line);
    r2_text_free(&ctx, &lines);
    r2_bpe_free(&ctx, &tables);
    return 0;
}

/* The strings that the tokenizer is compared on, made alike by test_token.c and token_vectors.c.
   Left out on purpose: U+0085 and U+FEFF, about which JavaScript's \s disagrees with Unicode, and the
   long s, which makes a contraction 's only where case folding goes beyond ASCII. */
#ifndef R2_TOKEN_STRINGS_H
#define R2_TOKEN_STRINGS_H

enum { N_TOKEN_STRINGS = 12000, N_TOKEN_BLOCK = 500, N_TOKENIZERS = 4 };

static const struct token_kind {
    const char *name;
    r2_bpe_rule rule;
    bool nfc, added;
} token_kinds[N_TOKENIZERS] = {{"gpt2", R2_BPE_GPT2, false, true},
                               {"qwen2", R2_BPE_QWEN2, true, true},
                               {"digits", R2_BPE_GPT2_DIGITS, false, true},
                               {"qwen2-data", R2_BPE_QWEN2, true, false}};

static const char *const token_bits[] = {
    "the", "The", "movie", "recommend", "user", "don't", "I'LL", "we've", "it'S", "'tis", "rock'n'roll",
    "Amelie", "Am\xC3\xA9lie", "Ame\xCC\x81lie", "na\xC3\xAFve", "\xC3\x85ngstr\xC3\xB6m",
    "A\xCC\x8Angstro\xCC\x88m", "Stra\xC3\x9F" "e", "\xE2\x84\xAB", "s\xCC\xA3\xCC\x87",
    "s\xCC\x87\xCC\xA3", "\xE4\xB8\x83\xE4\xBE\x8D", "\xE5\x8D\x83\xE3\x81\xA8\xE5\x8D\x83\xE5\xB0\x8B",
    "\xE3\x81\x8B\xE3\x82\x99", "\xEC\x98\xAC\xEB\x93\x9C", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB",
    "\xD0\xA1\xD1\x82\xD0\xB0\xD0\xBB\xD0\xBA\xD0\xB5\xD1\x80", "\xD8\xA7\xD9\x84\xD9\x81\xD9\x8A\xD9\x84\xD9\x85",
    "\xE0\xA4\xB9\xE0\xA4\xBF\xE0\xA4\xA8\xE0\xA5\x8D\xE0\xA4\xA6\xE0\xA5\x80", "\xF0\x9F\x98\x80",
    "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA7", "\xF0\x9F\x91\x8D\xF0\x9F\x8F\xBD",
    "\xF0\x9F\x87\xA8\xF0\x9F\x87\xB3", "\xE2\x9D\xA4\xEF\xB8\x8F", "1995", "3.5", "0", "1,000,000", "2nd",
    "\xC2\xBD", "\xE2\x85\xA7", "\xD9\xA3\xD9\xA4", "x\xC2\xB2", "\xF0\x9D\x9F\x99", "int main(void) {",
    "for (i = 0; i < n; ++i)", "\t", "    ", "  ", "\n", "\r\n", "\n\n", " \n ", "\xC2\xA0", "\xE3\x80\x80",
    "\xE2\x80\x89", "!=", "->", "...", "\xE2\x80\xA6", "\xE2\x80\x94", "\xE2\x80\x9C", "\xC2\xBF", "(", ")", "[1]",
    "{}", "\"", "\\", "/* no */", "#include", "http://a.b/c?d=e&f", "e@mail.org", "snake_case", "CamelCase",
    "<think>", "</answer>", "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|im_", "|>", "<|im_end|>\xCC\xB8",
    "\xEF\xAC\x81", "\xEF\xA4\x80", "\xE1\xBE\xB4", "\xE0\xBD\xB7", "\xCC\x81", "\x01", "\x7F"};

/* A character of a chosen sort: 0, 1: any letter or number; 2: a combining mark; 3: a sign. */
static uint32_t token_char(r2_rng *rng, const r2_bpe *tables) {
    static const uint32_t sign[][2] = {{0x21, 0x2F}, {0x2010, 0x2027}, {0x2190, 0x21FF},
                                       {0x2500, 0x257F}, {0x3001, 0x3004}, {0x1F600, 0x1F64F}};
    uint64_t sort = r2_rng_below(rng, 4);
    if (sort == 3) {
        const uint32_t *s = sign[r2_rng_below(rng, 6)];
        return s[0] + (uint32_t)r2_rng_below(rng, s[1] - s[0] + 1);
    }
    for (;;) {
        uint32_t cp = (uint32_t)r2_rng_below(rng, r2_rng_below(rng, 2) ? 0x3000 : R2__CLASSED);
        int class_ = tables->char_class[cp];
        if (cp == 0x17F) continue;
        if (sort == 2 ? r2__combining(tables->normal, cp) > 0
                      : class_ == R2__LETTER || class_ == R2__NUMBER)
            return cp;
    }
}

/* String number `index`; `tables` is any tokenizer with nfc. */
static void token_string(r2_ctx *ctx, const r2_bpe *tables, int64_t index, r2_text *out) {
    const uint64_t n_bits = sizeof token_bits / sizeof *token_bits;
    r2_rng rng = r2_rng_make(5, R2_STREAM_USER, (uint64_t)index);
    r2_text_clear(out);
    r2_text_add(ctx, out, "", 0);
    for (uint64_t i = r2_rng_below(&rng, 12); i > 0; --i) {
        uint64_t what = r2_rng_below(&rng, 8);
        if (what < 5) {
            const char *bit = token_bits[r2_rng_below(&rng, n_bits)];
            r2_text_add(ctx, out, bit, strlen(bit));
        } else if (what < 7) {
            for (uint64_t k = 1 + r2_rng_below(&rng, 4); k > 0; --k)
                r2__utf8_add(ctx, out, token_char(&rng, tables));
        }
        if (r2_rng_below(&rng, 3)) r2_text_add(ctx, out, " ", 1);
    }
}

/* Learns tokenizer `kind` from the strings themselves, a line each. */
static r2_status token_train(r2_ctx *ctx, const struct token_kind *kind, r2_bpe *bpe,
                             r2_text *corpus) {
    r2_bpe_config config = r2_bpe_config_default();
    r2_text line = {NULL, 0, 0, false};
    r2_bpe tables;
    r2_status status = r2__bpe_begin(ctx, &tables, R2_BPE_GPT2, true);
    r2_text_clear(corpus);
    for (int64_t i = 0; !status && i < N_TOKEN_STRINGS; ++i) {
        token_string(ctx, &tables, i, &line);
        r2_text_addf(ctx, corpus, "%s\n", line.data);
    }
    config.rule = kind->rule;
    config.nfc = kind->nfc;
    config.n_tokens = 1200;
    if (!status) status = r2_bpe_train(ctx, bpe, &config, corpus->data, corpus->len);
    r2_text_free(ctx, &line);
    r2_bpe_free(ctx, &tables);
    return status;
}

/* FNV-1a over 32-bit words. */
static inline uint32_t token_hash(uint32_t h, const int32_t *id, int64_t n) {
    for (int64_t i = 0; i < n; ++i) h = (h ^ (uint32_t)id[i]) * 16777619u;
    return (h ^ 0xFFFFFFFFu) * 16777619u; /* the end of a string counts */
}

#endif

/* language.h: a short English for a language model: the question, its chains, its facts, and the
   thoughts about them. Include after r2rec.h.

       The user has rated 230 items. The target is "20 Dates (1998)".
       Chain 1: the user gave "Groundhog Day (1993)" 4 stars, Person A 5; Person A gave the
       target 4.
       ...
       Facts, each with its level:                <think>
       long history 9                             long history 9: plus 0, total plus 0
       genre fit 4                                longer chains 12: plus 1, total plus 1
       ...                                        ...
       second chain 2                             </think><answer>4</answer>

   A fact or a thought says what a compact word or three of them say ([M5], [M6]); so the compact
   teacher writes the thoughts and the compact checker reads them, both through a translation. Every
   name has two words: a thought then has the same number of tokens whatever it is about, and looks
   back the same distance, which a small model learns faster. */
#ifndef R2_LANGUAGE_H
#define R2_LANGUAGE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- names of facts ---- */

/* The two words for a field; one without is called by its own name. */
static inline const char *lang_name(int field) {
    static const char *const name[][2] = {
        {"hist", "long history"},    {"genre", "genre fit"},        {"era", "newer year"},
        {"shared", "shared taste"},  {"uknn", "near people"},       {"deep", "longer chains"},
        {"pop", "many raters"},      {"meanr", "mean stars"},       {"pred", "expected stars"},
        {"fresh", "item age"},       {"trend", "current trend"},    {"season", "recent trend"},
        {"liked", "liked links"},    {"link", "close links"},       {"rel", "relative links"},
        {"next", "taken next"},      {"near3", "recent neighbours"}, {"near1", "last neighbour"},
        {"path", "best route"},      {"c1", "first chain"},         {"c2", "second chain"}};
    const char *own = r2_field_name((r2_field)field);
    for (size_t k = 0; k < sizeof name / sizeof *name; ++k)
        if (!strcmp(own, name[k][0])) return name[k][1];
    return own;
}

static const char lang_facts[] = "Facts, each with its level:\n";

/* What a conversation begins with. */
static const char lang_system[] =
    "Weigh the levels of the facts, thought by thought, then answer: 0, the user would not take "
    "the target, or 1 to 5, how the user would rate it.";

/* ---- prompts ---- */

static inline void lang_title(r2_ctx *ctx, const r2_data *data, uint32_t item, r2_text *text) {
    const char *p = data->title[item][0] ? data->title[item] : data->item_key[item];
    r2_text_add(ctx, text, "\"", 1);
    for (; *p; ++p) r2_text_add(ctx, text, *p == '"' ? "'" : (unsigned char)*p < ' ' ? " " : p, 1);
    r2_text_add(ctx, text, "\"", 1);
}

/* Adds the question of `evidence`, asked at step 4; n_chains are told at most. */
static inline void lang_prompt(r2_ctx *ctx, const r2_data *data, const r2_codebook *codebook,
                        const r2_evidence *evidence, int32_t n_chains, r2_text *text) {
    r2_text_addf(ctx, text, "The user has rated %d items. The target is ", (int)evidence->n_history);
    lang_title(ctx, data, evidence->item, text);
    r2_text_addf(ctx, text, ".\n");
    for (int32_t c = 0; c < evidence->n_chains && c < n_chains; ++c) {
        const r2_chain *chain = &evidence->chain[c].chain;
        r2_text_addf(ctx, text, "Chain %d: the user gave ", (int)c + 1);
        lang_title(ctx, data, chain->i0, text);
        r2_text_addf(ctx, text, " %g stars, Person %c %g; Person %c gave the target %g.\n",
                     (double)chain->r1, 'A' + c, (double)chain->r2, 'A' + c, (double)chain->r3);
    }
    r2_text_addf(ctx, text, "%s", lang_facts);
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
        r2_text_addf(ctx, text, "%s%s %d", f ? "\n" : "", lang_name(f),
                     (int)r2_codebook_bucket(codebook, (r2_field)f, evidence->value[f]));
}

/* ---- translation to compact words and back ---- */

/* Moves *p past `word` if it stands there. */
static inline bool lang_skip(const char **p, const char *word) {
    const size_t len = strlen(word);
    if (strncmp(*p, word, len) != 0) return false;
    *p += len;
    return true;
}

/* Reads a number of at most two digits, without a zero before it. */
static inline bool lang_number(const char **p, int *number) {
    const char *digit = *p;
    for (*number = 0; *digit >= '0' && *digit <= '9' && digit - *p < 3; ++digit)
        *number = *number * 10 + (*digit - '0');
    if (digit == *p || digit - *p > 2 || (**p == '0' && digit - *p > 1)) return false;
    *p = digit;
    return true;
}

/* Reads "plus 3" or "minus 3"; minus 0 is none. */
static inline bool lang_signed(const char **p, int *number) {
    const bool plus = lang_skip(p, "plus ");
    if ((!plus && !lang_skip(p, "minus ")) || !lang_number(p, number)) return false;
    if (!plus) *number = -*number;
    return plus || *number < 0;
}

/* Reads "genre fit 4" and adds genre:4. */
static inline bool lang_fact(r2_ctx *ctx, const char **p, r2_text *compact) {
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f) {
        const char *at = *p, *name = r2_field_name((r2_field)f);
        int level;
        if (!lang_skip(&at, lang_name(f)) || !lang_skip(&at, " ") || !lang_number(&at, &level))
            continue;
        if (level) r2_text_addf(ctx, compact, "%s:%d ", name, level);
        else r2_text_addf(ctx, compact, "%s:- ", name);
        *p = at;
        return true;
    }
    return false;
}

/* Reads "genre fit 4: plus 1, total plus 1" and its line end, and adds genre:4 +1 =+1. Otherwise
   adds nothing. */
static inline bool lang_thought(r2_ctx *ctx, const char **p, r2_text *compact) {
    const size_t before = compact->len;
    const char *at = *p;
    int weight, total;
    if (lang_fact(ctx, &at, compact) && lang_skip(&at, ": ") && lang_signed(&at, &weight) &&
        lang_skip(&at, ", total ") && lang_signed(&at, &total) && lang_skip(&at, "\n")) {
        r2_text_addf(ctx, compact, "%+d =%+d ", weight, total);
        *p = at;
        return true;
    }
    if (!compact->failed) compact->len = before;
    return false;
}

/* Adds an output in compact words. What is no part of the short English becomes "?", which the
   checker refuses. */
static inline void lang_compact_output(r2_ctx *ctx, const char *output, r2_text *compact) {
    static const char *const tag[] = {"<think>\n", "</think>", "<answer>", "</answer>"};
    static const char *const word[] = {"<think> ", "</think> ", "<answer> ", "</answer> "};
    while (*output && !compact->failed) {
        int k = 0, answer;
        while (k < 4 && !lang_skip(&output, tag[k])) ++k;
        if (k < 4) r2_text_addf(ctx, compact, "%s", word[k]);
        else if (lang_thought(ctx, &output, compact)) continue;
        else if (lang_number(&output, &answer)) r2_text_addf(ctx, compact, "%d ", answer);
        else ++output, r2_text_addf(ctx, compact, "? ");
    }
    if (!compact->failed && compact->len) compact->data[--compact->len] = '\0';
}

/* Adds the facts of a prompt in compact words. */
static inline void lang_compact_facts(r2_ctx *ctx, const char *prompt, r2_text *compact) {
    const char *at = strstr(prompt, lang_facts);
    r2_text_addf(ctx, compact, "<q> ");
    if (!at) return;
    at += strlen(lang_facts);
    while (lang_fact(ctx, &at, compact) && lang_skip(&at, "\n")) continue;
}

/* An r2_check_fn; `user` is the codebook. */
static inline r2_check lang_check(const void *hook_data, const char *prompt, const char *output) {
    r2_check check = {R2_TRACE_MALFORMED, -1, 0, 0, 0, 0, false};
    r2_ctx ctx = r2_ctx_default();
    r2_text facts = {NULL, 0, 0, false}, compact = {NULL, 0, 0, false};
    lang_compact_facts(&ctx, prompt, &facts);
    r2_text_add(&ctx, &compact, "", 0);
    lang_compact_output(&ctx, output, &compact);
    if (!facts.failed && !compact.failed)
        check = r2_check_trace((const r2_codebook *)hook_data, facts.data, compact.data);
    r2_text_free(&ctx, &facts);
    r2_text_free(&ctx, &compact);
    return check;
}

/* ---- the teacher ---- */

/* Adds one thought, three compact words at *p, in English. */
static inline bool lang_say(r2_ctx *ctx, const char **p, r2_text *text) {
    char name[16], level[8];
    int weight, total, len = 0;
    if (sscanf(*p, " %15[a-z0-9]:%7s %d =%d%n", name, level, &weight, &total, &len) != 4)
        return false;
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
        if (!strcmp(name, r2_field_name((r2_field)f)))
            r2_text_addf(ctx, text, "%s %s: %s %d, total %s %d\n", lang_name(f),
                         *level == '-' ? "0" : level, weight < 0 ? "minus" : "plus", abs(weight),
                         total < 0 ? "minus" : "plus", abs(total));
    *p += len;
    return true;
}

/* Adds the thoughts that the rule-based teacher has about the facts of a prompt, from <think> to
   </think>. */
static inline r2_status lang_teach(r2_ctx *ctx, const r2_codebook *codebook,
                            const r2_teacher_config *teacher, const char *prompt, uint64_t index,
                            r2_text *text) {
    r2_text facts = {NULL, 0, 0, false}, trace = {NULL, 0, 0, false};
    r2_status status = R2_NO_MEMORY;
    lang_compact_facts(ctx, prompt, &facts);
    if (!facts.failed)
        status = r2_teacher_compact(ctx, codebook, teacher, facts.data, index, &trace);
    if (status == R2_OK) {
        const char *p = trace.data + strlen("<think>");
        r2_text_addf(ctx, text, "<think>\n");
        while (lang_say(ctx, &p, text)) continue;
        r2_text_addf(ctx, text, "</think>");
    }
    r2_text_free(ctx, &facts);
    r2_text_free(ctx, &trace);
    return status == R2_OK && text->failed ? R2_NO_MEMORY : status;
}

#endif

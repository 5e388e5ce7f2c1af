/* Counterfactual faithfulness: which facts are changed, into what, and what is made of the
   answers. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"
#include "ratings.h"
#include "tiny.h"

/* Every field has the buckets "-" 0, 1 and 2 with the weights 0, -2, +4, except that the field
   `pop` goes further (-6, +6) and `hist` says nothing at all. */
static void book_make(r2_codebook *book) {
    memset(book, 0, sizeof *book);
    for (int f = 0; f < R2_N_FIELDS; ++f) {
        book->n_bucket[f] = 3;
        book->edge[f][1] = 1.0f;
        book->weight[f][1] = (int8_t)(f == R2_FIELD_hist ? 0 : f == R2_FIELD_pop ? -6 : -2);
        book->weight[f][2] = (int8_t)(f == R2_FIELD_hist ? 0 : f == R2_FIELD_pop ? 6 : 4);
    }
}

/* A prompt of no chains: every field in bucket 2, genre and era in bucket 1. */
static void prompt_make(r2_ctx *ctx, const r2_codebook *book, r2_text *prompt) {
    r2_evidence evidence;
    memset(&evidence, 0, sizeof evidence);
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
        evidence.value[f] = f == R2_FIELD_genre || f == R2_FIELD_era ? 0.5f : 2.0f;
    r2_prompt_compact(ctx, book, &evidence, prompt);
}

static const r2__fact_change *swap_of(const r2__fact_change *change, int32_t n, r2_field field) {
    for (int32_t k = 0; k < n; ++k)
        if (change[k].field == (int32_t)field) return &change[k];
    return NULL;
}

TEST(a_flip_goes_to_the_other_end_and_a_removal_to_nothing) {
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    r2_text prompt = {NULL, 0, 0, false};
    r2__fact_change change[R2_FIRST_CHAIN_FIELD];
    const r2__fact_change *found;
    int32_t n;
    book_make(&book);
    prompt_make(&ctx, &book, &prompt);
    n = r2__fact_changes(&book, prompt.data, "<think> pop:2 +6 =+6", R2_CHANGE_FLIP, change);
    CHECK_EQ_INT(n, R2_FIRST_CHAIN_FIELD - 1); /* hist has no other weight to take */
    CHECK(!swap_of(change, n, R2_FIELD_hist));
    found = swap_of(change, n, R2_FIELD_pop);
    REQUIRE(found);
    CHECK(found->cited && found->weight == 6 && found->after == -6 && found->bucket == 1);
    found = swap_of(change, n, R2_FIELD_genre);
    REQUIRE(found);
    CHECK(!found->cited && found->weight == -2 && found->after == 4 && found->bucket == 2);
    n = r2__fact_changes(&book, prompt.data, "<think> pop:2 +6 =+6", R2_CHANGE_REMOVE, change);
    found = swap_of(change, n, R2_FIELD_genre);
    REQUIRE(found);
    CHECK(found->after == 0 && found->bucket == 0);
    r2_text_free(&ctx, &prompt);
}

TEST(the_strongest_cited_fact_meets_its_likest_uncited_one) {
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    r2_text prompt = {NULL, 0, 0, false};
    r2__fact_change change[R2_FIRST_CHAIN_FIELD], chosen[R2__N_CHANGES];
    int drawn[R2_N_FIELDS] = {0}, n_drawn = 0;
    int32_t n;
    book_make(&book);
    prompt_make(&ctx, &book, &prompt);
    n = r2__fact_changes(&book, prompt.data, "genre:1 -2 =-2 pop:2 +6 =+4", R2_CHANGE_FLIP, change);
    REQUIRE(r2__fact_change_choose(change, n, 0, chosen));
    CHECK_EQ_INT(chosen[R2__CITED].field, R2_FIELD_pop);
    /* the others change by 6 of 12 as well: the first */
    CHECK_EQ_INT(chosen[R2__ALIKE].field, R2_FIELD_era);
    n = r2__fact_changes(&book, prompt.data, "genre:1 -2 =-2", R2_CHANGE_FLIP, change);
    REQUIRE(r2__fact_change_choose(change, n, 0, chosen));
    CHECK_EQ_INT(chosen[R2__CITED].field, R2_FIELD_genre);
    CHECK_EQ_INT(chosen[R2__ALIKE].field, R2_FIELD_era);
    for (uint64_t k = 0; k < 2 * R2_FIRST_CHAIN_FIELD; ++k) { /* each uncited fact has its turn */
        REQUIRE(r2__fact_change_choose(change, n, k, chosen));
        CHECK(!chosen[R2__DRAWN].cited);
        drawn[chosen[R2__DRAWN].field]++;
    }
    for (int f = 0; f < R2_N_FIELDS; ++f) n_drawn += drawn[f] > 0;
    CHECK_EQ_INT(n_drawn, n - 1);
    CHECK(!r2__fact_change_choose(change, 0, 0, chosen));
    n = r2__fact_changes(&book, prompt.data, "", R2_CHANGE_FLIP, change);
    CHECK(!r2__fact_change_choose(change, n, 0, chosen)); /* nothing cited */
    r2_text_free(&ctx, &prompt);
}

TEST(a_change_changes_one_word) {
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    r2_vocab vocab;
    r2_codec codec;
    r2_text before = {NULL, 0, 0, false}, after = {NULL, 0, 0, false};
    r2_tokens token = {NULL, 0, {NULL, false}};
    r2__fact_change change = {R2_FIELD_pop, 1, 6, -6, true};
    memset(&vocab, 0, sizeof vocab);
    book_make(&book);
    prompt_make(&ctx, &book, &before);
    REQUIRE_OK(&ctx, r2_codec_compact(&ctx, &codec, &vocab, &book));
    REQUIRE_OK(&ctx, r2_vocab_encode(&ctx, &vocab, before.data, before.len, &token));
    r2__fact_change_apply(&vocab, &change, token.id, token.n);
    REQUIRE_OK(&ctx, r2_vocab_decode(&ctx, &vocab, token.id, token.n, &after));
    memcpy(strstr(before.data, "pop:2"), "pop:1", 5);
    CHECK_EQ_STR(after.data, before.data);
    r2_tokens_free(&ctx, &token);
    r2_text_free(&ctx, &before);
    r2_text_free(&ctx, &after);
    r2_vocab_free(&ctx, &vocab);
}

TEST(shares_and_shifts_by_hand) {
    /* example 0: weight falls, cited score falls by 2, uncited rises by 1; 1 was not chosen;
       example 2: cited weight rises and so does the score, the uncited does not move. The drawn fact
       falls in both, and the score falls by 1, then by 3. */
    static const r2__fact_change chosen[9] = {
        {1, 1, 6, -6, true}, {2, 1, 4, -2, false}, {3, 1, 2, 0, false},
        {0, 0, 0, 0, false}, {0, 0, 0, 0, false},  {0, 0, 0, 0, false},
        {1, 2, -6, 6, true}, {2, 1, 4, -2, false}, {3, 1, 2, 0, false}};
    static const float score[12] = {1.0f, 5.0f, 0.0f, -1.0f, 9.0f, 0.5f,
                                    2.0f, 9.0f, 0.0f, 0.0f,  9.0f, -3.0f};
    r2_causal out;
    memset(&out, 0, sizeof out);
    r2__causal_tally(&out, chosen, score, 3);
    CHECK_EQ_INT(out.n, 2);
    CHECK_NEAR(out.cited_moved, 1.0, 1e-12);
    CHECK_NEAR(out.cited_shift, 1.25, 1e-12);
    CHECK_WITHIN(out.uncited_moved, 0.0, 0.0);
    CHECK_NEAR(out.uncited_shift, -0.5, 1e-12);
    CHECK_NEAR(out.drawn_moved, 1.0, 1e-12);
    CHECK_NEAR(out.drawn_shift, 2.0, 1e-12);
}

TEST(the_rating_expected_of_those_who_watch) {
    /* p = .5 for no, .1 .. .3 for ratings 3, 4, 5: (3 x .1 + 4 x .1 + 5 x .3) / .5 = 4.4 */
    float logp[R2_N_ANSWERS] = {logf(0.5f), -80.0f, -80.0f, logf(0.1f), logf(0.1f), logf(0.3f)};
    CHECK_NEAR(r2_answer_score(logp, R2_SCORE_RATING), 4.4, 1e-6);
}

/* Sanitizers and coverage make training twenty times slower: there the model stays untrained, and what
   it says is not looked at. */
#if defined(__SANITIZE_ADDRESS__) || defined(TEST_COVERAGE)
enum { TRAINED_STEPS = 3 };
#else
enum { TRAINED_STEPS = 400 };
#endif

/* A short training is enough to write well-formed traces on the small data set. */
TEST(a_trained_model_follows_what_it_cites) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = r2_run_config_default();
    r2_run run;
    r2_causal flip[2];
    r2_evidence *evidence;
    r2_examples asked;
    uint32_t user[60], item[60];
    config.n_groups = 1500;
    config.sft.n_steps = TRAINED_STEPS;
    config.sft.warmup = 30; /* so short a training must learn fast */
    config.sft.lr = 3e-3f;
    config.sft.groups = 8;
    config.sft.reasoned_share = 1.0f;
    config.model.d_model = 32;
    config.model.d_ff = 88;
    ctx.n_threads = 2;
    REQUIRE_OK(&ctx, r2_run_init(&ctx, &run, "data/mini", &config));
    REQUIRE_OK(&ctx, r2_run_sft(&ctx, &run));
    evidence = (r2_evidence *)r2_alloc(&ctx, 60, sizeof *evidence);
    for (int64_t k = 0; k < 60; ++k) {
        user[k] = run.test.user[k];
        item[k] = run.test.item[k * run.test.n_per_case];
    }
    REQUIRE_OK(&ctx, r2_run_prompts(&ctx, &run, user, item, 60, evidence, &asked));
    for (int k = 0; k < 2; ++k) {
        ctx.n_threads = 2 - k;
        REQUIRE_OK(&ctx, r2_counterfactual(&ctx, &run.model, &asked, &run.codebook, &run.vocab,
                                           R2_CHANGE_FLIP, &flip[k]));
    }
    CHECK(!memcmp(&flip[0], &flip[1], sizeof flip[0])); /* threads change nothing */
    CHECK(TRAINED_STEPS < 100 || flip[0].n > 0);
    CHECK(TRAINED_STEPS < 100 || flip[0].cited_shift > 0.0);
    r2_examples_free(&ctx, &asked);
    r2_release(&ctx, evidence);
    r2_run_free(&ctx, &run);
}

/* A model that knows a few traces by heart writes them, and each fact of theirs can be changed. */
TEST(traces_known_by_heart_are_all_asked_about) {
    r2_ctx ctx = r2_ctx_default();
    r2_sft_config sft = r2_sft_config_default();
    r2_causal out;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 2));
    sft.n_steps = 120, sft.warmup = 5, sft.groups = 2, sft.lr = 1e-2f, sft.reasoned_share = 1.0f;
    REQUIRE_OK(&ctx, r2_sft(&ctx, &t.model, &t.ex, &sft));
    for (int kind = R2_CHANGE_FLIP; kind <= R2_CHANGE_REMOVE; ++kind) {
        REQUIRE_OK(&ctx, r2_counterfactual(&ctx, &t.model, &t.ex, &t.codebook, &t.vocab,
                                           (r2_change)kind, &out));
        CHECK(out.n > 0 && out.n <= t.ex.n);
        CHECK(out.cited_moved >= 0.0 && out.cited_moved <= 1.0 && isfinite(out.cited_shift));
    }
    tiny_free(&ctx, &t);
}

/* The compact core of prompts and traces: buckets and weights by hand counts, a prompt and its
   trace by hand, and what a strict checker must say of every way to be wrong. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#include "ratings.h"
#include "tiny.h"

static const r2_field filled[3] = {R2_FIELD_pop, R2_FIELD_uknn, R2_FIELD_link};

/* Queries that differ in `pop` alone. */
static void fill(r2_evidence *evidence, const float *pop, int64_t n) {
    memset(evidence, 0, (size_t)n * sizeof *evidence);
    for (int64_t q = 0; q < n; ++q) evidence[q].value[R2_FIELD_pop] = pop[q];
}

/* ---- the codebook ---- */

/* Twenty values 1 .. 20, ten buckets: an edge after every second. */
TEST(bucket_edges_by_hand) {
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    r2_evidence evidence[21];
    uint8_t observed[21];
    float pop[21];
    for (int k = 0; k < 21; ++k) pop[k] = (float)k, observed[k] = k % 2 == 1;
    pop[0] = NAN;
    fill(evidence, pop, 21);
    REQUIRE_OK(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, 21, 0));
    CHECK_EQ_INT(book.n_bucket[R2_FIELD_pop], 11);
    for (int b = 1; b < 10; ++b) CHECK(book.edge[R2_FIELD_pop][b] == (float)(2 * b + 1));
    CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, 0.0f), 0);
    CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, NAN), 0);
    CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, -5.0f), 1);
    CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, 2.99f), 1);
    CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, 3.0f), 2); /* an edge begins a bucket */
    CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, 18.9f), 9);
    CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, 19.0f), 10);
    CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, INFINITY), 10);
    CHECK_EQ_INT(book.n_bucket[R2_FIELD_uknn], 1); /* never anything but zero */
    CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_uknn, 7.0f), 0);
}

/* Twelve items of 100 .. 1200 users; observed, each lacks its asker. No bucket tells that. */
TEST(an_edge_does_not_tell_who_asks) {
    enum { ITEMS = 12, EACH = 10 };
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    static r2_evidence evidence[ITEMS * EACH];
    uint8_t observed[ITEMS * EACH];
    float pop[ITEMS * EACH];
    for (int k = 0; k < ITEMS * EACH; ++k) {
        observed[k] = k / ITEMS % 2 == 0;
        pop[k] = (float)(100 * (1 + k % ITEMS) - observed[k]);
    }
    fill(evidence, pop, ITEMS * EACH);
    REQUIRE_OK(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, ITEMS * EACH, 0));
    CHECK(book.n_bucket[R2_FIELD_pop] >= 10);
    for (int i = 0; i < ITEMS; ++i)
        CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, pop[i]),
                     r2_codebook_bucket(&book, R2_FIELD_pop, pop[i + ITEMS]));
}

/* Edges that coincide are one: three values make three buckets, and none is empty. */
TEST(equal_values_share_a_bucket) {
    static const float value[12] = {1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    r2_evidence evidence[12];
    uint8_t observed[12];
    for (int k = 0; k < 12; ++k) observed[k] = k % 2 == 0;
    fill(evidence, value, 12);
    REQUIRE_OK(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, 12, 0));
    CHECK_EQ_INT(book.n_bucket[R2_FIELD_pop], 4);
    for (int k = 1; k <= 3; ++k) CHECK_EQ_INT(r2_codebook_bucket(&book, R2_FIELD_pop, (float)k), k);
}

/* 10 observed, 40 sampled; bucket 0: 1 and 20, "1": 2 and 20, "2": 7 and 0. Half an observed query
   is added to each share: (1/10 + 1/20) / (20/40 + 1/20) = 3/11 and so on; 1.5 log of it, rounded. */
TEST(weights_by_hand_counts) {
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    r2_evidence evidence[50];
    uint8_t observed[50];
    float pop[50];
    for (int k = 0; k < 50; ++k) {
        observed[k] = k < 10;
        if (k < 10) pop[k] = k < 1 ? 0.0f : k < 3 ? 1.0f : 2.0f;
        else pop[k] = k % 2 ? 0.0f : 1.0f;
    }
    fill(evidence, pop, 50);
    REQUIRE_OK(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, 50, 1));
    CHECK_EQ_INT(book.weight[R2_FIELD_pop][0], -2); /* 1.5 log(3/11)  = -1.949 */
    CHECK_EQ_INT(book.weight[R2_FIELD_pop][1], -1); /* 1.5 log(5/11)  = -1.183 */
    CHECK_EQ_INT(book.weight[R2_FIELD_pop][2], 4);  /* 1.5 log(15)    =  4.062 */
    CHECK_EQ_INT(book.weight[R2_FIELD_uknn][0], 0); /* all have it alike       */
    CHECK_EQ_INT(book.weight[R2_FIELD_age][0], 0);  /* nobody has a chain      */
}

/* A chain that is not there is "-" in the prompt, and so it counts: against the item when it is the
   sampled items that lack chains. */
TEST(a_missing_chain_is_evidence) {
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    r2_evidence evidence[40];
    uint8_t observed[40];
    memset(evidence, 0, sizeof evidence);
    for (int k = 0; k < 40; ++k) {
        observed[k] = k < 8;
        evidence[k].n_chains = k < 8 ? 2 : k < 12;
        evidence[k].chain[0].value[0] = evidence[k].chain[1].value[0] = 3.0f;
    }
    REQUIRE_OK(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, 40, 2));
    CHECK_EQ_INT(book.n_bucket[R2_FIELD_age], 2);
    CHECK(book.weight[R2_FIELD_age][0] < 0 && book.weight[R2_FIELD_age][1] > 0);
}

TEST(weights_are_clipped_and_errors_told) {
    static const float value[2] = {5, 6};
    enum { MANY = 4000 };
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    r2_evidence *evidence = (r2_evidence *)calloc(MANY, sizeof *evidence);
    uint8_t *observed = (uint8_t *)calloc(MANY, 1);
    REQUIRE(evidence && observed);
    for (int k = 0; k < MANY; ++k) {
        observed[k] = k % 2 == 0;
        evidence[k].value[R2_FIELD_pop] = value[k % 2];
    }
    REQUIRE_OK(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, MANY, 0));
    CHECK_EQ_INT(book.weight[R2_FIELD_pop][1], R2_MAX_WEIGHT);
    CHECK_EQ_INT(book.weight[R2_FIELD_pop][2], -R2_MAX_WEIGHT);
    CHECK_STATUS(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, MANY, R2_MAX_CHAINS + 1),
                 R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, MANY, -1), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, 0, 0), R2_ARGUMENT);
    memset(observed, 1, MANY); /* nothing to compare with */
    CHECK_STATUS(&ctx, r2_codebook_fit(&ctx, &book, evidence, observed, MANY, 0), R2_ARGUMENT);
    free(evidence);
    free(observed);
}

/* ---- a prompt and its trace by hand ---- */

/* Every field has buckets "-", 1 (below 1) and 2, with weights 0, -3 and 5; pop weighs 0, -7, 9. */
static void book_by_hand(r2_codebook *book) {
    memset(book, 0, sizeof *book);
    book->n_chains = 2;
    for (int f = 0; f < R2_N_FIELDS; ++f) {
        book->n_bucket[f] = 3;
        book->edge[f][1] = 1.0f;
        book->weight[f][1] = -3;
        book->weight[f][2] = 5;
    }
    book->weight[R2_FIELD_pop][1] = -7;
    book->weight[R2_FIELD_pop][2] = 9;
}

/* A query with one chain, and low pop, high uknn and link; everything else is nothing. */
static void query_by_hand(r2_evidence *q) {
    static const float value[3] = {0.5f, 2.0f, 1.0f};
    memset(q, 0, sizeof *q);
    for (int k = 0; k < 3; ++k) q->value[filled[k]] = value[k];
    q->n_chains = 1;
    q->chain[0].value[0] = 4.0f;  /* age */
    q->chain[0].value[4] = -2.0f; /* gap */
}

TEST(a_prompt_by_hand) {
    r2_ctx ctx = r2_ctx_default();
    r2_text got = {NULL, 0, 0, false}, want = {NULL, 0, 0, false};
    r2_codebook book;
    r2_evidence q;
    book_by_hand(&book);
    query_by_hand(&q);
    r2_text_addf(
        &ctx, &want,
        "<q> c1 age:2 own:- sim:- theirs:- gap:1 took:- c2 age:- own:- sim:- theirs:- gap:- "
        "took:-");
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f) {
        const char *bucket = "-";
        if (f == R2_FIELD_pop) bucket = "1";
        if (f == R2_FIELD_uknn || f == R2_FIELD_link) bucket = "2";
        r2_text_addf(&ctx, &want, " %s:%s", r2_field_name((r2_field)f), bucket);
    }
    for (int answer = -1; answer < R2_N_ANSWERS; ++answer) { /* which changes nothing */
        q.answer = answer;
        r2_text_clear(&got);
        r2_prompt_compact(&ctx, &book, &q, &got);
        CHECK_EQ_STR(got.data, want.data);
    }
    r2_text_free(&ctx, &got);
    r2_text_free(&ctx, &want);
}

/* Without noise the strongest of every three is cited; of equals the first. */
TEST(a_trace_by_hand) {
    r2_ctx ctx = r2_ctx_default();
    r2_text prompt = {NULL, 0, 0, false}, got = {NULL, 0, 0, false}, want = {NULL, 0, 0, false};
    r2_teacher_config teacher = {0.0f, 1};
    r2_codebook book;
    r2_evidence q;
    int total = 0;
    book_by_hand(&book);
    query_by_hand(&q);
    r2_prompt_compact(&ctx, &book, &q, &prompt);
    r2_text_addf(&ctx, &want, "<think>");
    for (int first = 0; first < R2_FIRST_CHAIN_FIELD; first += R2_FACTS_PER_THOUGHT) {
        int cited = first, weight = 0;
        for (int f = first; f < first + R2_FACTS_PER_THOUGHT; ++f) {
            if (f == R2_FIELD_pop) cited = f, weight = -7;
            if (f == R2_FIELD_uknn || f == R2_FIELD_link) cited = f, weight = 5;
        }
        total += weight;
        r2_text_addf(&ctx, &want, " %s:%s %+d =%+d", r2_field_name((r2_field)cited),
                     weight == 0  ? "-"
                     : weight < 0 ? "1"
                                  : "2",
                     weight, total);
    }
    r2_text_addf(&ctx, &want, " </think>");
    REQUIRE_OK(&ctx, r2_teacher_compact(&ctx, &book, &teacher, prompt.data, 0, &got));
    CHECK_EQ_STR(got.data, want.data);
    CHECK_STATUS(&ctx, r2_teacher_compact(&ctx, &book, &teacher, "<q>", 0, &got), R2_FORMAT);
    r2_text_free(&ctx, &prompt);
    r2_text_free(&ctx, &got);
    r2_text_free(&ctx, &want);
}

/* ---- the teacher before the checker ---- */

static void random_query(r2_evidence *q, r2_rng *rng) {
    memset(q, 0, sizeof *q);
    q->n_chains = (int32_t)r2_rng_below(rng, 3);
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
        q->value[f] = r2_rng_below(rng, 5) ? (float)r2_rng_normal(rng) : 0.0f;
    for (int c = 0; c < q->n_chains; ++c)
        for (int k = 0; k < R2_N_CHAIN_FIELDS; ++k)
            q->chain[c].value[k] = (float)r2_rng_normal(rng);
}

static void random_book(r2_ctx *ctx, r2_codebook *book, r2_evidence *evidence, int n, r2_rng *rng) {
    uint8_t *observed = (uint8_t *)calloc((size_t)n, 1);
    for (int k = 0; k < n; ++k) {
        random_query(&evidence[k], rng);
        observed[k] = k % 3 == 0;
        if (observed[k]) evidence[k].value[R2_FIELD_link] += 1.0f;
    }
    CHECK_STATUS(ctx, r2_codebook_fit(ctx, book, evidence, observed, n, 2), R2_OK);
    free(observed);
}

TEST(the_teacher_passes_thousands_of_times) {
    enum { N = 3000 };
    r2_ctx ctx = r2_ctx_default();
    r2_rng rng = r2_rng_make(3, R2_STREAM_USER, 0);
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_evidence *evidence = (r2_evidence *)calloc(N, sizeof *evidence);
    r2_text prompt = {NULL, 0, 0, false}, output = {NULL, 0, 0, false}, again = {NULL, 0, 0, false};
    r2_codebook book;
    int differ = 0;
    REQUIRE(evidence != NULL);
    random_book(&ctx, &book, evidence, N, &rng);
    for (int k = 0; k < N; ++k) {
        r2_check trace;
        int answer = k % R2_N_ANSWERS;
        r2_text_clear(&prompt), r2_text_clear(&output), r2_text_clear(&again);
        r2_prompt_compact(&ctx, &book, &evidence[k], &prompt);
        REQUIRE_OK(&ctx,
                   r2_teacher_compact(&ctx, &book, &teacher, prompt.data, (uint64_t)k, &output));
        REQUIRE_OK(&ctx,
                   r2_teacher_compact(&ctx, &book, &teacher, prompt.data, (uint64_t)k + 1, &again));
        differ += strcmp(output.data, again.data) != 0;
        r2_text_addf(&ctx, &output, " <answer> %d </answer>", answer);
        trace = r2_check_trace(&book, prompt.data, output.data);
        if (!CHECK_EQ_INT(trace.verdict, R2_TRACE_OK)) printf("%s\n%s\n", prompt.data, output.data);
        CHECK(trace.answer == answer && trace.well_formed);
        CHECK(trace.n_cited == R2_N_THOUGHTS && trace.n_right == R2_N_THOUGHTS);
        CHECK(trace.n_found == R2_N_THOUGHTS && abs(trace.total) <= R2_MAX_TOTAL);
    }
    CHECK(differ > N / 2); /* the noise makes traces differ, as RL needs them */
    free(evidence);
    r2_text_free(&ctx, &prompt);
    r2_text_free(&ctx, &output);
    r2_text_free(&ctx, &again);
}

/* ---- every way to be wrong ---- */

typedef struct bench {
    r2_ctx ctx;
    r2_codebook book;
    r2_text prompt, good; /* a prompt and a right output */
    char text[2048];      /* the output after a change   */
} bench;

static void bench_make(bench *b) {
    r2_teacher_config teacher = {0.0f, 1};
    r2_evidence q;
    memset(b, 0, sizeof *b);
    b->ctx = r2_ctx_default();
    book_by_hand(&b->book);
    query_by_hand(&q);
    r2_prompt_compact(&b->ctx, &b->book, &q, &b->prompt);
    CHECK_STATUS(&b->ctx,
                 r2_teacher_compact(&b->ctx, &b->book, &teacher, b->prompt.data, 0, &b->good),
                 R2_OK);
    r2_text_addf(&b->ctx, &b->good, " <answer> 3 </answer>");
}

static void bench_free(bench *b) {
    r2_text_free(&b->ctx, &b->prompt);
    r2_text_free(&b->ctx, &b->good);
}

/* The verdict when the first `what` has become `with`. */
static r2_check changed(bench *b, const char *what, const char *with) {
    const char *at = strstr(b->good.data, what);
    if (CHECK(at != NULL))
        snprintf(b->text, sizeof b->text, "%.*s%s%s", (int)(at - b->good.data), b->good.data, with,
                 at + strlen(what));
    return r2_check_trace(&b->book, b->prompt.data, b->text);
}

TEST(every_change_has_its_verdict) {
    static const struct {
        const char *what, *with;
        r2_verdict want;
    } change[] = {
        {"<think>", "<think>", R2_TRACE_OK},
        {"uknn:2 +5", "uknn:2 +4", R2_TRACE_WRONG_WEIGHT},
        {"uknn:2 +5", "uknn:2 -5", R2_TRACE_WRONG_WEIGHT},
        {"pop:1 -7 =-2", "pop:1 -7 =-3", R2_TRACE_WRONG_TOTAL},
        {"uknn:2", "uknn:1", R2_TRACE_UNKNOWN_FACT},
        {"uknn:2", "shared:2", R2_TRACE_UNKNOWN_FACT},
        {"uknn:2", "c1", R2_TRACE_UNKNOWN_FACT},
        {"uknn:2", "age:2", R2_TRACE_UNKNOWN_FACT}, /* shown, but not to be cited */
        {"uknn:2", "uknn", R2_TRACE_UNKNOWN_FACT},
        {"uknn:2", "uknn:02", R2_TRACE_UNKNOWN_FACT},
        {"uknn:2 +5 =+5 ", "", R2_TRACE_WRONG_TOTAL},
        {"hist:- +0 =+0 ", "", R2_TRACE_MISSING_STEP},
        {"uknn:2 +5 =+5 ", "uknn:2 +5 =+5 uknn:2 +5 =+10 ", R2_TRACE_MISSING_STEP},
        {"<answer> 3 </answer>", "", R2_TRACE_NO_ANSWER},
        {"<answer> 3 </answer>", "<answer>", R2_TRACE_NO_ANSWER},
        {"<answer> 3 </answer>", "<answer> 3", R2_TRACE_MALFORMED},
        {"<answer> 3 </answer>", "<answer> 3 </answer> <answer> 3 </answer>", R2_TRACE_TWO_ANSWERS},
        {"<answer> 3 </answer>", "<answer> 3 <answer> 3 </answer>", R2_TRACE_TWO_ANSWERS},
        {"<answer> 3", "<answer> 6", R2_TRACE_MALFORMED},
        {"<answer> 3", "<answer> -1", R2_TRACE_MALFORMED},
        {"<answer> 3", "<answer> 03", R2_TRACE_MALFORMED},
        {"<answer> 3", "<answer> three", R2_TRACE_MALFORMED},
        {"<answer> 3", "<answer> 3 4", R2_TRACE_MALFORMED},
        {"<answer> 3", "<answer>", R2_TRACE_MALFORMED},
        {"</answer>", "</answer> and so on", R2_TRACE_MALFORMED},
        {"</think> ", "</think> so ", R2_TRACE_MALFORMED},
        {"</think> ", "", R2_TRACE_ANSWER_FIRST},
        {"<think>", "<answer> 3 </answer> <think>", R2_TRACE_ANSWER_FIRST},
        {"<think>", "<think> <answer> 3 </answer>", R2_TRACE_ANSWER_FIRST},
        {"<think>", "", R2_TRACE_MALFORMED},
        {"<think>", "well <think>", R2_TRACE_MALFORMED},
        {"<think>", "<think> <think>", R2_TRACE_MALFORMED},
        {"</think>", "</think> </think>", R2_TRACE_MALFORMED},
        {"uknn:2 +5", "uknn:2 5", R2_TRACE_MALFORMED},
        {"uknn:2 +5", "uknn:2 +05", R2_TRACE_MALFORMED},
        {"uknn:2 +5", "uknn:2 +5.0", R2_TRACE_MALFORMED},
        {"hist:- +0", "hist:- -0", R2_TRACE_MALFORMED},
        {"hist:- +0 =+0", "hist:- +0 +0", R2_TRACE_MALFORMED},
        {"hist:- +0 =+0", "hist:- +0 =+00", R2_TRACE_MALFORMED},
        {"hist:- +0 =+0", "hist:- +0", R2_TRACE_MALFORMED},
        };
    bench b;
    bench_make(&b);
    CHECK_EQ_INT(r2_check_trace(&b.book, b.prompt.data, b.good.data).verdict, R2_TRACE_OK);
    for (size_t k = 0; k < sizeof change / sizeof change[0]; ++k) {
        r2_check trace = changed(&b, change[k].what, change[k].with);
        if (!CHECK_EQ_INT(trace.verdict, change[k].want)) printf("    %s\n", b.text);
        CHECK_EQ_INT(trace.answer, trace.well_formed ? 3 : -1);
        CHECK_EQ_INT(trace.well_formed, trace.verdict == R2_TRACE_OK ||
                                            trace.verdict > R2_TRACE_ANSWER_FIRST);
    }
    bench_free(&b);
}

/* Without a thought there is nothing that the answer could follow from, whatever the prompt. */
TEST(an_empty_trace_is_malformed) {
    bench b;
    bench_make(&b);
    for (int k = 0; k < 2; ++k) {
        const char *prompt = k ? "<q>" : b.prompt.data;
        r2_check check = r2_check_trace(&b.book, prompt, "<think> </think> <answer> 0 </answer>");
        CHECK_EQ_INT(check.verdict, R2_TRACE_MALFORMED);
        CHECK(check.answer == -1 && !check.well_formed);
    }
    bench_free(&b);
}

TEST(two_thoughts_that_change_places) {
    bench b;
    char *first, *second;
    bench_make(&b);
    first = strstr(b.good.data, "uknn:2 +5 =+5");
    second = strstr(b.good.data, "pop:1 -7 =-2");
    REQUIRE(first && second && first < second);
    memcpy(first, "pop:1 -7 =-7 ", 13); /* the words fit, and so do the totals */
    memmove(first + 12, first + 13, (size_t)(second - first - 13));
    memcpy(second - 1, "uknn:2 +5 =-2", 13);
    CHECK_EQ_INT(r2_check_trace(&b.book, b.prompt.data, b.good.data).verdict,
                 R2_TRACE_MISSING_STEP);
    bench_free(&b);
}

/* Cut anywhere, an output is never right and never well formed; nothing is read beyond its end. */
TEST(cut_at_every_byte) {
    bench b;
    bench_make(&b);
    for (size_t len = 0; len < b.good.len; ++len) {
        char *cut = (char *)malloc(len + 1); /* so that a sanitizer sees a step too far */
        r2_check trace;
        if (!CHECK(cut != NULL)) break;
        memcpy(cut, b.good.data, len);
        cut[len] = '\0';
        trace = r2_check_trace(&b.book, b.prompt.data, cut);
        CHECK(trace.verdict != R2_TRACE_OK && !trace.well_formed && trace.answer == -1);
        free(cut);
    }
    bench_free(&b);
}

/* Any bytes, half of them words of real traces, in place of the output and of the prompt. */
TEST(any_bytes_have_a_verdict) {
    static const char *const words[] = {"<think>", "</think>", "<answer>", "</answer>", "3",  "+5",
                                        "=+5",     "uknn:2",   "pop:1",    "c1",        "-7", ":"};
    r2_rng rng = r2_rng_make(4, R2_STREAM_USER, 0);
    bench b;
    bench_make(&b);
    for (int trial = 0; trial < 20000; ++trial) {
        char text[256];
        size_t n = 0, len = r2_rng_below(&rng, 200);
        r2_check trace;
        while (n < len) {
            if (trial % 2) {
                n += (size_t)snprintf(text + n, sizeof text - n, "%s ",
                                      words[r2_rng_below(&rng, 12)]);
            } else {
                text[n++] = (char)(1 + r2_rng_below(&rng, 255));
            }
        }
        text[n] = '\0';
        trace = r2_check_trace(&b.book, trial % 3 ? b.prompt.data : text, text);
        CHECK((int)trace.verdict >= 0 && trace.verdict < R2_N_VERDICTS);
        CHECK(trace.n_right <= trace.n_found && trace.n_found <= trace.n_cited);
        CHECK(trace.answer >= -1 && trace.answer < R2_N_ANSWERS);
        CHECK(trace.verdict != R2_TRACE_OK);
    }
    bench_free(&b);
}

/* ---- a codebook on disk ---- */

/* The file with the first `what` changed into `with` must be refused, and change nothing. */
static void refused_codebook(r2_ctx *ctx, const r2_codebook *book, const r2_text *saved,
                             const char *path, const char *what, const char *with) {
    const char *at = strstr(saved->data, what);
    r2_codebook loaded = *book;
    r2_text text = {NULL, 0, 0, false};
    if (!CHECK(at != NULL)) return;
    r2_text_add(ctx, &text, saved->data, (size_t)(at - saved->data));
    r2_text_addf(ctx, &text, "%s%s", with, at + strlen(what));
    CHECK(!text.failed && ratings_write(path, text.data, text.len));
    if (!CHECK_STATUS(ctx, r2_codebook_load(ctx, &loaded, path), R2_FORMAT))
        printf("    \"%s\" became \"%s\"\n", what, with);
    CHECK(!memcmp(&loaded, book, sizeof loaded));
    r2_text_free(ctx, &text);
}

TEST(a_codebook_comes_back_from_disk) {
    enum { N = 600 };
    r2_ctx ctx = r2_ctx_default();
    r2_rng rng = r2_rng_make(6, R2_STREAM_USER, 0);
    r2_evidence *evidence = (r2_evidence *)calloc(N, sizeof *evidence);
    r2_text saved = {NULL, 0, 0, false};
    r2_codebook book, loaded;
    char path[64];
    REQUIRE(evidence != NULL);
    random_book(&ctx, &book, evidence, N, &rng);
    free(evidence);
    snprintf(path, sizeof path, "build/codebook-%p.json", (void *)&book);
    REQUIRE_OK(&ctx, r2_codebook_save(&ctx, &book, path));
    REQUIRE_OK(&ctx, r2_read_file(&ctx, path, &saved));
    loaded = book;
    memset(loaded.weight, 1, sizeof loaded.weight);
    for (int f = 0; f < R2_N_FIELDS; ++f)
        for (int b = 1; b < book.n_bucket[f] - 1; ++b) loaded.edge[f][b] = 0.0f;
    REQUIRE_OK(&ctx, r2_codebook_load(&ctx, &loaded, path));
    for (int f = 0; f < R2_N_FIELDS; ++f) {
        for (int b = 1; b < book.n_bucket[f] - 1; ++b) CHECK(loaded.edge[f][b] == book.edge[f][b]);
        for (int b = 0; b < book.n_bucket[f]; ++b) CHECK(loaded.weight[f][b] == book.weight[f][b]);
    }
    if (test_comma(1)) { /* the same bytes in every language */
        r2_text again = {NULL, 0, 0, false};
        CHECK_STATUS(&ctx, r2_codebook_save(&ctx, &book, path), R2_OK);
        CHECK_STATUS(&ctx, r2_codebook_load(&ctx, &loaded, path), R2_OK);
        test_comma(0);
        REQUIRE_OK(&ctx, r2_read_file(&ctx, path, &again));
        CHECK_EQ_STR(again.data, saved.data);
        r2_text_free(&ctx, &again);
    }
    refused_codebook(&ctx, &book, &saved, path, "\"n_chains\": 2", "\"n_chains\": 3");
    refused_codebook(&ctx, &book, &saved, path, "\"hist\"", "\"pop\"");
    refused_codebook(&ctx, &book, &saved, path, "\"edges\": [", "\"edges\": [1e9, ");
    refused_codebook(&ctx, &book, &saved, path, "\"weights\": [", "\"weights\": [0, ");
    refused_codebook(&ctx, &book, &saved, path, "\"weights\": [", "\"weights\": [1");
    refused_codebook(&ctx, &book, &saved, path, "\"weights\": [", "\"weights\": [0.5, ");
    refused_codebook(&ctx, &book, &saved, path, "\"weights\"", "\"Weights\"");
    refused_codebook(&ctx, &book, &saved, path, "{\"name\"", "{\"name\": 1}, {\"name\"");
    refused_codebook(&ctx, &book, &saved, path, "\"n_chains\": 2", "\"n_chains\": \"2\"");
    refused_codebook(&ctx, &book, &saved, path, "\"name\": \"hist\"", "\"name\": 7");
    refused_codebook(&ctx, &book, &saved, path, "\"edges\": [", "\"edges\": [\"1\", ");
    refused_codebook(&ctx, &book, &saved, path, "\"edges\": [", "\"edges\": 7, \"other\": [");
    refused_codebook(&ctx, &book, &saved, path, "\"weights\": [", "\"weights\": [10, ");
    refused_codebook(&ctx, &book, &saved, path, "\"weights\": [", "\"weights\": [-10, ");
    refused_codebook(&ctx, &book, &saved, path, "{", "[");
    refused_codebook(&ctx, &book, &saved, path, "\n]}\n", "\n]}\n]}\n");
    CHECK(ratings_write_text(path, ""));
    CHECK_STATUS(&ctx, r2_codebook_load(&ctx, &loaded, path), R2_FORMAT);
    remove(path);
    CHECK_STATUS(&ctx, r2_codebook_load(&ctx, &loaded, path), R2_IO);
    r2_text_free(&ctx, &saved);
}

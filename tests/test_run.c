/* A run as one object: the same seed gives the same bytes, whatever the number of threads; it comes
   back from disk; bad input and missing memory are one clear message and nothing left behind. */
#define _POSIX_C_SOURCE 200809L /* mkdir, rmdir, truncate */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#include "ratings.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* A short journey: what it learns does not matter here. */
static r2_run_config short_journey(uint64_t seed) {
    r2_run_config config = r2_run_config_default();
    config.seed = seed;
    config.n_groups = 800;
    config.model.d_model = 16;
    config.model.d_ff = 40;
    config.model.n_layer = 1;
    config.sft.n_steps = 8;
    config.grpo.n_steps = 1;
    return config;
}

typedef struct journey {
    r2_ctx ctx;
    r2_run run;
    int64_t n_score;
    float *score;
} journey;

static int journey_make(journey *j, uint64_t seed, int n_threads) {
    r2_run_config config = short_journey(seed);
    r2_score_config reasoned = r2_score_config_default();
    reasoned.mode = R2_REASONED;
    memset(j, 0, sizeof *j);
    j->ctx = r2_ctx_default();
    j->ctx.n_threads = n_threads;
    if (!CHECK_STATUS(&j->ctx, r2_run_init(&j->ctx, &j->run, "data/mini", &config), R2_OK) ||
        !CHECK_STATUS(&j->ctx, r2_run_sft(&j->ctx, &j->run), R2_OK) ||
        !CHECK_STATUS(&j->ctx, r2_run_grpo(&j->ctx, &j->run), R2_OK))
        return 0;
    j->run.test.n_cases = 10; /* enough to compare */
    j->n_score = j->run.test.n_cases * j->run.test.n_per_case;
    j->score = (float *)r2_alloc(&j->ctx, (uint64_t)j->n_score, sizeof *j->score);
    return CHECK(j->score != NULL) &&
           CHECK_STATUS(&j->ctx,
                        r2_run_score(&j->ctx, &j->run, &j->run.test, &reasoned, j->score, NULL),
                        R2_OK);
}

static void journey_free(journey *j) {
    r2_release(&j->ctx, j->score);
    r2_run_free(&j->ctx, &j->run);
}

static int same_bytes(const journey *a, const journey *b) {
    const r2_model *ma = &a->run.model, *mb = &b->run.model;
    return ma->n_params == mb->n_params && a->n_score == b->n_score &&
           !memcmp(ma->param, mb->param, (size_t)ma->n_params * sizeof *ma->param) &&
           !memcmp(a->score, b->score, (size_t)a->n_score * sizeof *a->score);
}

TEST(threads_change_no_byte_and_the_seed_does) {
    journey one, two, three, other;
    REQUIRE(journey_make(&one, 7, 1) && journey_make(&two, 7, 2) && journey_make(&three, 7, 3));
    REQUIRE(journey_make(&other, 8, 1));
    CHECK(same_bytes(&one, &two));
    CHECK(same_bytes(&one, &three));
    CHECK(!same_bytes(&one, &other));
    journey_free(&one);
    journey_free(&two);
    journey_free(&three);
    journey_free(&other);
}

/* The opening of [M11]. */
TEST(the_numbers_of_the_room_opening) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = short_journey(1);
    r2_run run;
    config.n_groups = 200;
    REQUIRE_OK(&ctx, r2_run_init(&ctx, &run, "data/mini", &config));
    CHECK_EQ_INT(run.n_train, 1000);
    CHECK_EQ_INT(run.train.prompt_begin[1], 43);
    CHECK_EQ_INT(run.train.trace_begin[1], 23);
    r2_run_free(&ctx, &run);
}

/* ---- a run on very little data ---- */

/* A file of ratings at random, named after the test's own address: two programs may run at once. With a
   tail the later items have few. */
static int small_file(r2_ctx *ctx, char *path, size_t size, bool tail) {
    r2_rng rng = r2_rng_make(3, R2_STREAM_USER, 0);
    r2_text text = {NULL, 0, 0, false};
    int good;
    snprintf(path, size, "build/run-%p.csv", (void *)path);
    r2_text_addf(ctx, &text, "userId,movieId,rating,timestamp\n");
    for (int u = 0; u < 16; ++u)
        for (int i = 0; i < 40; ++i) {
            int stars = 4 + (int)r2_rng_below(&rng, 7), time = (int)r2_rng_below(&rng, 999);
            if (r2_rng_below(&rng, tail && i >= 15 ? 10 : 3)) continue;
            r2_text_addf(ctx, &text, "%d,%d,%g,%d\n", u, i, stars / 2.0, 1000 + time);
        }
    good = !text.failed && ratings_write(path, text.data, text.len);
    r2_text_free(ctx, &text);
    return good;
}

static r2_run_config small_run(void) {
    r2_run_config config = short_journey(5);
    config.n_groups = 20;
    config.n_negatives = 6;
    config.sft.n_steps = 3;
    config.sft.groups = 2;
    config.grpo.groups = 1;
    config.grpo.n_samples = 2;
    return config;
}

static int make_of(r2_ctx *ctx, r2_run *run, const r2_run_config *config, bool tail) {
    char path[64];
    int good = CHECK(small_file(ctx, path, sizeof path, tail)) &&
               CHECK_STATUS(ctx, r2_run_init(ctx, run, path, config), R2_OK);
    remove(path);
    return good;
}

static int small_make(r2_ctx *ctx, r2_run *run, const r2_run_config *config) {
    return make_of(ctx, run, config, false);
}

static void remove_directory(const char *path) {
    static const char *const files[] = {"model.safetensors", "vocab.txt", "codebook.json",
                                        "config.json", "run.json"};
    char file[128];
    for (int k = 0; k < 5; ++k) {
        snprintf(file, sizeof file, "%s/%s", path, files[k]);
        remove(file);
    }
    rmdir(path);
}

/* ---- on disk ---- */

TEST(a_saved_run_scores_the_same) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    r2_score_config how = r2_score_config_default();
    float score[2][16 * 7];
    char path[64];
    r2_run trained, loaded;
    how.mode = R2_REASONED;
    snprintf(path, sizeof path, "build/run-%p", (void *)&trained);
    REQUIRE(small_make(&ctx, &trained, &config) && small_make(&ctx, &loaded, &config));
    REQUIRE_OK(&ctx, r2_run_sft(&ctx, &trained));
    REQUIRE(trained.test.n_cases <= 16 && trained.test.n_per_case == 7);
    REQUIRE_OK(&ctx, r2_run_score(&ctx, &trained, &trained.test, &how, score[0], NULL));
    CHECK(mkdir(path, 0777) == 0);
    REQUIRE_OK(&ctx, r2_run_save(&ctx, &trained, path));
    REQUIRE_OK(&ctx, r2_run_load_model(&ctx, &loaded, path));
    REQUIRE_OK(&ctx, r2_run_score(&ctx, &loaded, &loaded.test, &how, score[1], NULL));
    CHECK(!memcmp(score[0], score[1], (size_t)trained.test.n_cases * 7 * sizeof(float)));
    { /* adapters that are not merged would be lost */
        r2_lora_config lora = r2_lora_config_default();
        REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &loaded.model, &lora));
        CHECK_STATUS(&ctx, r2_run_save(&ctx, &loaded, path), R2_ARGUMENT);
        REQUIRE_OK(&ctx, r2_lora_merge(&ctx, &loaded.model));
        REQUIRE_OK(&ctx, r2_run_save(&ctx, &loaded, path));
        r2_lora_detach(&ctx, &loaded.model);
    }
    CHECK(loaded.train.n == trained.train.n &&
          !memcmp(loaded.train.prompt, trained.train.prompt,
                  (size_t)trained.train.prompt_begin[trained.train.n] * sizeof(int32_t)));
    r2_run_free(&ctx, &trained);
    r2_run_free(&ctx, &loaded);
    remove_directory(path);
}

/* Of the same data a borrowed model is the model. Other data have other buckets: a word's row is
   that of the word at the same place there, and edges stay the run's own. */
TEST(a_model_of_other_data_is_borrowed) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run(), other = small_run();
    r2_score_config how = r2_score_config_default();
    float score[2][16 * 7];
    char path[64], word[2][40];
    r2_run trained, same, few;
    r2_codebook before;
    size_t width;
    snprintf(path, sizeof path, "build/run-%p", (void *)&trained);
    other.n_groups = 2;
    REQUIRE(small_make(&ctx, &trained, &config) && small_make(&ctx, &same, &config));
    REQUIRE(small_make(&ctx, &few, &other));
    REQUIRE_OK(&ctx, r2_run_sft(&ctx, &trained));
    CHECK(mkdir(path, 0777) == 0);
    CHECK_STATUS(&ctx, r2_run_borrow_model(&ctx, &few, path), R2_IO); /* nothing there yet */
    REQUIRE_OK(&ctx, r2_run_save(&ctx, &trained, path));
    REQUIRE_OK(&ctx, r2_run_borrow_model(&ctx, &same, path));
    CHECK(!memcmp(same.model.param, trained.model.param,
                  (size_t)trained.model.n_params * sizeof(float)));
    CHECK(!memcmp(&same.codebook, &trained.codebook, sizeof same.codebook));
    REQUIRE_OK(&ctx, r2_run_score(&ctx, &trained, &trained.test, &how, score[0], NULL));
    REQUIRE_OK(&ctx, r2_run_score(&ctx, &same, &same.test, &how, score[1], NULL));
    CHECK(!memcmp(score[0], score[1], (size_t)trained.test.n_cases * 7 * sizeof(float)));
    before = few.codebook;
    REQUIRE_OK(&ctx, r2_run_borrow_model(&ctx, &few, path));
    CHECK(few.vocab.n_words < trained.vocab.n_words);
    CHECK(!memcmp(before.edge, few.codebook.edge, sizeof before.edge));
    width = (size_t)few.model.config.d_model;
    for (int f = 0; f < R2_N_FIELDS; ++f) { /* lowest, highest and nothing to count mean the same */
        const int32_t n = few.codebook.n_bucket[f], there = trained.codebook.n_bucket[f];
        const int32_t own[3] = {0, 1, n - 1}, theirs[3] = {0, 1, there - 1};
        for (int k = 0; k < 3 && n > 2; ++k) {
            int32_t a, b;
            snprintf(word[0], 40, own[k] ? "%s:%d" : "%s:-", r2_field_name((r2_field)f), own[k]);
            snprintf(word[1], 40, own[k] ? "%s:%d" : "%s:-", r2_field_name((r2_field)f), theirs[k]);
            a = r2_vocab_find(&few.vocab, word[0]), b = r2_vocab_find(&trained.vocab, word[1]);
            REQUIRE(a >= 0 && b >= 0);
            CHECK(!memcmp(r2_weight(&few.model, R2_EMBED, 0) + (size_t)a * width,
                          r2_weight(&trained.model, R2_EMBED, 0) + (size_t)b * width,
                          width * sizeof(float)));
            CHECK(few.codebook.weight[f][own[k]] == trained.codebook.weight[f][theirs[k]]);
        }
    }
    r2_run_free(&ctx, &few);
    other.model.n_layer = config.model.n_layer + 1;
    REQUIRE(small_make(&ctx, &few, &other));
    CHECK_STATUS(&ctx, r2_run_borrow_model(&ctx, &few, path), R2_FORMAT);
    CHECK(strstr(ctx.message, "another shape") != NULL);
    r2_run_free(&ctx, &few);
    r2_run_free(&ctx, &same);
    r2_run_free(&ctx, &trained);
    remove_directory(path);
}

/* The hook ends the process, as it were, at its n-th file operation: nothing happens from there on. */
typedef struct crash {
    int n, at;
    bool removes;
} crash;

static int crash_at(void *hook_data, r2_file_op op, const char *path, size_t *size) {
    crash *c = (crash *)hook_data;
    (void)path, (void)size;
    c->n++;
    c->removes = c->removes || (op == R2_FILE_REMOVE && c->n < c->at);
    return c->n < c->at ? 0 : EIO;
}

/* Wherever a save is cut off, the old run or the new one is loaded, and a next save succeeds. */
TEST(a_save_that_is_cut_off) {
    r2_ctx ctx = r2_ctx_default(), cut;
    r2_run_config config = small_run();
    r2_run run;
    char path[64];
    int n_old = 0, n_new = 0;
    crash c = {0, 1 << 30, false};
    snprintf(path, sizeof path, "build/run-%p", (void *)&run);
    REQUIRE(small_make(&ctx, &run, &config));
    REQUIRE(mkdir(path, 0777) == 0);
    cut = ctx;
    cut.file = crash_at, cut.hook_data = &c;
    for (int n_calls = 1, at = 1; at <= n_calls; ++at) {
        const float own = run.model.param[0];
        c.n = 0, c.at = 1 << 30;
        run.model.param[0] = 1.0f; /* the old run */
        REQUIRE_OK(&cut, r2_run_save(&cut, &run, path));
        n_calls = c.n;
        c.n = 0, c.at = at;
        run.model.param[0] = 2.0f; /* the new one */
        CHECK_STATUS(&cut, r2_run_save(&cut, &run, path), R2_IO);
        run.model.param[0] = 0.0f;
        REQUIRE_OK(&ctx, r2_run_load_model(&ctx, &run, path));
        CHECK(run.model.param[0] == 1.0f || run.model.param[0] == 2.0f);
        n_old += run.model.param[0] == 1.0f, n_new += run.model.param[0] == 2.0f;
        run.model.param[0] = own;
    }
    CHECK(n_old > 10 && n_new >= 4 && !c.removes); /* the renames of four files come last */
    r2_run_free(&ctx, &run);
    remove_directory(path);
}

/* As many heads of another size make tensors of the same shapes, but not the same model. */
TEST(what_does_not_fit_is_refused_and_changes_nothing) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run(), other = small_run();
    r2_run run, fresh;
    char path[64], file[128];
    snprintf(path, sizeof path, "build/unfit-%p", (void *)&run);
    config.model.n_head = 4, config.model.n_kv_head = 2;
    other.model.n_head = 2, other.model.n_kv_head = 1;
    REQUIRE(small_make(&ctx, &run, &config) && small_make(&ctx, &fresh, &other));
    CHECK(mkdir(path, 0777) == 0);
    CHECK_STATUS(&ctx, r2_run_load_model(&ctx, &run, path), R2_IO); /* nothing there yet */
    REQUIRE_OK(&ctx, r2_run_save(&ctx, &run, path));
    CHECK_STATUS(&ctx, r2_run_load_model(&ctx, &fresh, path), R2_FORMAT);
    snprintf(file, sizeof file, "%s/model.safetensors", path);
    CHECK(truncate(file, 1000) == 0);
    memset(run.model.param, 0, (size_t)run.model.n_params * sizeof(float));
    CHECK_STATUS(&ctx, r2_run_load_model(&ctx, &run, path), R2_FORMAT);
    CHECK(strstr(ctx.message, "model.safetensors: not the file that was saved with the others"));
    snprintf(file, sizeof file, "%s/run.json", path); /* without it the files speak for themselves */
    CHECK(remove(file) == 0);
    CHECK_STATUS(&ctx, r2_run_load_model(&ctx, &run, path), R2_FORMAT);
    for (int64_t k = 0; k < run.model.n_params; ++k) CHECK(run.model.param[k] == 0.0f);
    snprintf(file, sizeof file, "%s/vocab.txt", path);
    for (int k = 0; k < 3; ++k) { /* a word missing, another word, a word twice */
        r2_text words = {NULL, 0, 0, false};
        REQUIRE_OK(&ctx, r2_read_file(&ctx, file, &words));
        if (k == 0)
            CHECK(ratings_write(file, words.data,
                                (size_t)(strchr(words.data, '\n') + 1 - words.data)));
        if (k == 1) *words.data = '#', CHECK(ratings_write(file, words.data, words.len));
        if (k == 2) CHECK(ratings_write_text(file, "<q>\n<q>\n"));
        CHECK_STATUS(&ctx, r2_run_load_model(&ctx, &run, path), R2_FORMAT);
        CHECK(strstr(ctx.message, "vocab.txt") != NULL);
        r2_text_free(&ctx, &words);
        REQUIRE_OK(&ctx, r2_vocab_save(&ctx, &run.vocab, file));
    }
    snprintf(file, sizeof file, "%s/codebook.json", path);
    CHECK(ratings_write_text(file, "{\"n_chains\": 3, \"fields\": []}"));
    CHECK_STATUS(&ctx, r2_run_load_model(&ctx, &run, path), R2_FORMAT);
    CHECK(ratings_write_text(file, "{"));
    CHECK_STATUS(&ctx, r2_run_load_model(&ctx, &run, path), R2_FORMAT);
    CHECK_STATUS(&ctx, r2_run_save(&ctx, &run, "build/no/such/directory"), R2_IO);
    r2_run_free(&ctx, &run);
    r2_run_free(&ctx, &fresh);
    remove_directory(path);
}

/* Every allocation counted: what an error leaves behind is 0. */
static void refused(const char *data, const r2_run_config *config, r2_status want,
                    const char *words) {
    ratings_memory memory = {INT64_MAX, 0};
    r2_ctx ctx = r2_ctx_default();
    r2_run run;
    ctx.realloc_fn = ratings_realloc;
    ctx.hook_data = &memory;
    ctx.n_threads = 1;
    CHECK_STATUS(&ctx, r2_run_init(&ctx, &run, data, config), want);
    if (!CHECK(strstr(ctx.message, words) != NULL)) printf("    it said: %s\n", ctx.message);
    CHECK(strchr(ctx.message, '\n') == NULL);
    CHECK_EQ_INT(memory.alive, 0);
}

/* ---- steps of the masking ---- */

/* One vocabulary for all: a model of one share can be asked what one of another learned. */
TEST(a_run_trains_on_the_steps_of_its_schedule) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    r2_run plain, steps;
    int64_t n_early = 0;
    REQUIRE(small_make(&ctx, &plain, &config));
    config.step_share = 0.5f;
    REQUIRE(small_make(&ctx, &steps, &config));
    CHECK_EQ_INT(plain.vocab.n_words, steps.vocab.n_words);
    for (int64_t e = 0; e < steps.train.n; ++e) {
        CHECK_EQ_INT(plain.train.step[e], R2_STEP_ASK);
        n_early += steps.train.step[e] < R2_STEP_ASK;
    }
    CHECK(n_early > steps.train.n / 3 && n_early < steps.train.n * 2 / 3);
    for (int64_t e = 0; e < steps.train.n; ++e) { /* a group asks one step, about its own edge */
        const int32_t step = steps.train.step[e];
        r2_evidence asked = steps.evidence[e];
        r2_text want = {NULL, 0, 0, false}, got = {NULL, 0, 0, false};
        CHECK_EQ_INT(step, steps.train.step[e - e % (1 + config.n_sampled)]);
        if (e % 7 || step == R2_STEP_ASK) continue;
        REQUIRE_OK(&ctx,
                   r2_evidence_of_step(&ctx, &steps.index, step, 1, &steps.config.chains, &asked));
        CHECK(asked.answer >= 1 && asked.answer <= 5);
        CHECK_EQ_INT(steps.train.answer[e], asked.answer);
        r2_prompt_compact(&ctx, &steps.codebook, &asked, &want);
        REQUIRE_OK(&ctx, r2_vocab_decode(
                             &ctx, &steps.vocab, steps.train.prompt + steps.train.prompt_begin[e],
                             steps.train.prompt_begin[e + 1] - steps.train.prompt_begin[e], &got));
        CHECK_EQ_STR(got.data, want.data);
        r2_text_free(&ctx, &want);
        r2_text_free(&ctx, &got);
    }
    REQUIRE_OK(&ctx, r2_run_sft(&ctx, &steps));
    REQUIRE_OK(&ctx, r2_run_grpo(&ctx, &steps));
    r2_run_free(&ctx, &plain);
    r2_run_free(&ctx, &steps);
    config.schedule = R2_MASK_FINAL_ONLY; /* has no earlier steps */
    REQUIRE(small_make(&ctx, &plain, &config));
    for (int64_t e = 0; e < plain.train.n; ++e) CHECK_EQ_INT(plain.train.step[e], R2_STEP_ASK);
    r2_run_free(&ctx, &plain);
    config.step_share = 1.5f;
    refused("data/mini", &config, R2_ARGUMENT, "step_share = 1.5, expected 0 .. 1");
}

/* ---- asking ---- */

/* New: nothing that the data say the user has, in training or held out. */
TEST(recommendations_are_new_and_best_first) {
    enum { ALL = 40 };
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    r2_recommendation best[ALL], three[3];
    int64_t n, n_three, n_held_out = 0;
    r2_run run;
    REQUIRE(small_make(&ctx, &run, &config));
    for (uint32_t u = 0; u < run.data.n_users; u += 3) {
        const int64_t n_has = run.data.user_begin[u + 1] - run.data.user_begin[u];
        REQUIRE_OK(&ctx, r2_run_recommend(&ctx, &run, u, ALL, best, &n));
        CHECK_EQ_INT(n, run.graph.n_items - n_has);
        n_held_out += n_has - r2_graph_user_degree(&run.graph, u);
        for (int64_t k = 0; k < n; ++k) {
            CHECK_EQ_INT(r2_data_find(&run.data, u, best[k].item), -1);
            CHECK(k == 0 || best[k].score <= best[k - 1].score);
            CHECK(best[k].evidence.user == u && best[k].evidence.item == best[k].item);
            CHECK(!strncmp(best[k].reasoning.text.data, "<think>", 7));
        }
        REQUIRE_OK(&ctx, r2_run_recommend(&ctx, &run, u, 3, three, &n_three));
        for (int64_t k = 0; CHECK_EQ_INT(n_three, 3) && k < 3; ++k) {
            CHECK(three[k].item == best[k].item && three[k].score == best[k].score);
            CHECK_EQ_STR(three[k].reasoning.text.data, best[k].reasoning.text.data);
            CHECK_EQ_INT(three[k].reasoning.check.verdict, best[k].reasoning.check.verdict);
        }
        r2_recommendations_free(&ctx, best, n);
        r2_recommendations_free(&ctx, three, n_three);
    }
    CHECK(n_held_out > 0);
    REQUIRE_OK(&ctx, r2_run_recommend(&ctx, &run, 0, 0, best, &n));
    CHECK_EQ_INT(n, 0);
    CHECK_STATUS(&ctx, r2_run_recommend(&ctx, &run, 16, 3, best, &n), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_run_recommend(&ctx, &run, 0, -1, best, &n), R2_ARGUMENT);
    r2_run_free(&ctx, &run);
}

/* Columns with names of their own, held-out interactions in a file of their own. */
TEST(a_run_takes_columns_and_a_split_that_are_given) {
    static const char *const part[] = {"train", "test"};
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    r2_rng rng = r2_rng_make(3, R2_STREAM_USER, 0);
    char path[2][64];
    r2_run run;
    for (int p = 0; p < 2; ++p) {
        r2_text text = {NULL, 0, 0, false};
        snprintf(path[p], sizeof path[p], "build/run-%p.%s", (void *)path, part[p]);
        r2_text_addf(&ctx, &text, "film;when;who;stars\n");
        for (int u = 0; u < 16; ++u)
            for (int i = 0; i < 40; ++i) {
                const int stars = 4 + (int)r2_rng_below(&rng, 7);
                if (i % 8 == u % 8 ? p == 0 || i < 24 : p == 1 || r2_rng_below(&rng, 3)) continue;
                r2_text_addf(&ctx, &text, "f%d;%d;u%d;%g\n", i, 1000 + i, u, p ? 5 : stars / 2.0);
            }
        REQUIRE(ratings_write(path[p], text.data, text.len));
        r2_text_free(&ctx, &text);
    }
    config.format.separator = ";";
    config.format.user = "who", config.format.item = "film";
    config.format.rating = "stars", config.format.time = "when";
    config.test_path = path[1];
    REQUIRE_OK(&ctx, r2_run_init(&ctx, &run, path[0], &config));
    CHECK(run.split.n_valid == 0 && run.valid.n_cases == 0 && run.test.n_cases == 32);
    for (int64_t c = 0; c < run.test.n_cases; ++c) {
        const uint32_t item = run.test.item[c * run.test.n_per_case];
        CHECK(r2_graph_find(&run.graph, run.test.user[c], item) < 0);
        CHECK(atoi(run.data.item_key[item] + 1) % 8 ==
              atoi(run.data.user_key[run.test.user[c]] + 1) % 8);
    }
    REQUIRE_OK(&ctx, r2_run_sft(&ctx, &run)); /* nothing held out to stop early by */
    r2_run_free(&ctx, &run);
    config.test_path = "build/no/such/file";
    refused(path[0], &config, R2_IO, "build/no/such/file");
    config.test_path = path[1], config.format.user = "whom";
    refused(path[0], &config, R2_FORMAT, "whom");
    remove(path[0]), remove(path[1]);
}

/* Asked about what the user has rated already, it answers as if that rating did not exist. */
TEST(asking_about_what_was_rated) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    r2_run run;
    REQUIRE(small_make(&ctx, &run, &config));
    for (uint32_t u = 0; u < run.data.n_users; ++u) {
        uint32_t item = run.graph.user_item[run.graph.user_begin[u]];
        r2_evidence evidence;
        r2_examples asked;
        REQUIRE_OK(&ctx, r2_run_prompts(&ctx, &run, &u, &item, 1, &evidence, &asked));
        CHECK_EQ_INT(evidence.n_history, r2_graph_user_degree(&run.graph, u) - 1);
        CHECK(evidence.answer == -1 && asked.answer[0] == -1);
        for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f) CHECK(isfinite(evidence.value[f]));
        for (int c = 0; c < evidence.n_chains; ++c) CHECK(evidence.chain[c].chain.i0 != item);
        r2_examples_free(&ctx, &asked);
        item = 1000;
        CHECK_STATUS(&ctx, r2_run_prompts(&ctx, &run, &u, &item, 1, &evidence, &asked),
                     R2_ARGUMENT);
        CHECK(asked.prompt == NULL);
    }
    r2_run_free(&ctx, &run);
}

/* ---- evidence from elsewhere ---- */

/* What the hook was asked, and what it does: `pop` becomes a number of its own making. */
typedef struct stranger {
    const r2_run *run;
    int64_t n_ready, n_training, n_asked;
    bool refuses;
} stranger;

static float strange(const r2_question *q) { return (float)(1 + (q->user + 7 * q->item) % 50); }

static r2_status speak(r2_ctx *ctx, void *hook_data, const r2_run *run, const r2_question *question,
                       int64_t n, r2_evidence *evidence) {
    stranger *s = (stranger *)hook_data;
    if (s->refuses) return r2_fail(ctx, R2_CANCELLED, "the stranger is silent");
    CHECK(run == s->run);
    if (n == 0) {
        CHECK(run->index.graph == &run->graph && run->test.n_cases > 0 && !run->evidence);
        CHECK(s->n_training == 0);
        s->n_ready++;
    }
    for (int64_t q = 0; q < n; ++q) {
        CHECK(evidence[q].user == question[q].user && evidence[q].item == question[q].item);
        CHECK(question[q].n_history <= r2_graph_user_degree(&run->graph, question[q].user));
        *(question[q].answer < 0 ? &s->n_asked : &s->n_training) += 1;
        evidence[q].value[R2_FIELD_pop] = strange(&question[q]);
    }
    return R2_OK;
}

/* Whether the prompt of an example is made of the query as the hook left it. */
static bool is_prompt_of(r2_ctx *ctx, const r2_run *run, const r2_examples *ex, int64_t e,
                         const r2_evidence *evidence) {
    r2_text want = {NULL, 0, 0, false}, got = {NULL, 0, 0, false};
    const int64_t from = ex->prompt_begin[e];
    bool same;
    r2_prompt_compact(ctx, &run->codebook, evidence, &want);
    CHECK_STATUS(ctx, r2_vocab_decode(ctx, &run->vocab, ex->prompt + from,
                                      ex->prompt_begin[e + 1] - from, &got), R2_OK);
    same = CHECK(want.data && got.data) && !strcmp(want.data, got.data);
    r2_text_free(ctx, &want);
    r2_text_free(ctx, &got);
    return same;
}

/* Every question of the run passes the hook, and prompts are made of what it left there. */
TEST(evidence_from_elsewhere_is_in_every_prompt) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    stranger s = {NULL, 0, 0, 0, false};
    r2_run run;
    r2_evidence evidence;
    r2_examples asked;
    uint32_t user = 3, item = 5;
    int64_t n;
    s.run = &run;
    config.evidence_hook = speak;
    config.evidence_hook_data = &s;
    REQUIRE(small_make(&ctx, &run, &config));
    CHECK_EQ_INT(s.n_training, run.n_train);
    CHECK_EQ_INT(s.n_ready, 1);
    for (int64_t q = 0; q < run.n_train; ++q) {
        CHECK(run.evidence[q].value[R2_FIELD_pop] == strange(&run.question[q]));
        CHECK(is_prompt_of(&ctx, &run, &run.train, q, &run.evidence[q]));
    }
    REQUIRE_OK(&ctx, r2_run_sft(&ctx, &run)); /* early stopping looks at validation cases */
    n = run.valid.n_cases < R2_N_VALID_CASES ? run.valid.n_cases : R2_N_VALID_CASES;
    CHECK_EQ_INT(s.n_training, run.n_train + n * (1 + config.n_sampled));
    n = s.n_training;
    REQUIRE_OK(&ctx, r2_run_grpo(&ctx, &run)); /* one step of one group */
    CHECK_EQ_INT(s.n_training, n + 1 + config.n_sampled);
    CHECK_EQ_INT(s.n_asked, 0);
    REQUIRE_OK(&ctx, r2_run_prompts(&ctx, &run, &user, &item, 1, &evidence, &asked));
    CHECK_EQ_INT(s.n_asked, 1);
    CHECK(evidence.value[R2_FIELD_pop] == (float)(1 + (3 + 35) % 50));
    CHECK(is_prompt_of(&ctx, &run, &asked, 0, &evidence));
    evidence.value[R2_FIELD_pop] = 0.0f;
    CHECK(!is_prompt_of(&ctx, &run, &asked, 0, &evidence));
    r2_examples_free(&ctx, &asked);
    s.refuses = true;
    CHECK_STATUS(&ctx, r2_run_prompts(&ctx, &run, &user, &item, 1, &evidence, &asked),
                 R2_CANCELLED);
    CHECK(!strcmp(ctx.message, "the stranger is silent") && asked.prompt == NULL);
    /* a run that could not be prepared has nothing to save, and can be prepared again */
    CHECK_STATUS(&ctx, r2_run_prepare(&ctx, &run), R2_CANCELLED);
    CHECK(run.n_train == 0 && !run.evidence && !run.train.prompt && !run.model.param);
    CHECK_STATUS(&ctx, r2_run_save(&ctx, &run, "build"), R2_ARGUMENT);
    CHECK(strstr(ctx.message, "no model to save") != NULL);
    s.refuses = false, s.n_training = 0;
    REQUIRE_OK(&ctx, r2_run_prepare(&ctx, &run));
    CHECK_EQ_INT(s.n_training, run.n_train);
    r2_run_free(&ctx, &run);
    s.refuses = true;
    CHECK_STATUS(&ctx, r2_run_init(&ctx, &run, "data/mini", &config), R2_CANCELLED);
}

/* Nothing changed: nothing changes. Ratings changed: what is drawn from them does. */
TEST(a_run_is_prepared_anew_from_its_graph) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    r2_run run, again;
    int64_t differ = 0;
    REQUIRE(small_make(&ctx, &run, &config) && small_make(&ctx, &again, &config));
    REQUIRE_OK(&ctx, r2_run_sft(&ctx, &again));
    REQUIRE_OK(&ctx, r2_run_prepare(&ctx, &again));
    REQUIRE(run.n_train == again.n_train && run.model.n_params == again.model.n_params);
    CHECK(!memcmp(run.evidence, again.evidence, (size_t)run.n_train * sizeof *run.evidence));
    CHECK(!memcmp(run.model.param, again.model.param, (size_t)run.model.n_params * sizeof(float)));
    for (int64_t e = 0; e < again.graph.n_edges; ++e) again.graph.user_rating[e] = 5.0f;
    REQUIRE_OK(&ctx, r2_run_prepare(&ctx, &again));
    REQUIRE(run.n_train == again.n_train);
    for (int64_t q = 0; q < run.n_train; ++q) {
        CHECK(again.question[q].answer == (q % (1 + config.n_sampled) ? 0 : 5));
        differ += run.question[q].answer != again.question[q].answer;
    }
    CHECK(differ > 0);
    r2_run_free(&ctx, &run);
    r2_run_free(&ctx, &again);
}

/* ---- little data, and much ---- */

/* Of 60 users 57 took five items: they have three interactions of training. */
TEST(short_histories_are_enough) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    r2_rng rng = r2_rng_make(4, R2_STREAM_USER, 0);
    r2_text text = {NULL, 0, 0, false};
    char path[64];
    r2_run run;
    snprintf(path, sizeof path, "build/run-%p.csv", (void *)&run);
    r2_text_addf(&ctx, &text, "userId,movieId,rating,timestamp\n");
    for (int u = 0; u < 60; ++u)
        for (int k = 0; k < (u < 3 ? 12 : 5); ++k) /* three users alone have more */
            r2_text_addf(&ctx, &text, "%d,%d,5,%d\n", u,
                         10 * k + (int)r2_rng_below(&rng, 10), 1000 + k);
    CHECK(ratings_write(path, text.data, text.len));
    config.n_groups = 200;
    config.min_train = 0;
    config.grpo.n_steps = 2;
    REQUIRE_OK(&ctx, r2_run_init(&ctx, &run, path, &config));
    CHECK_EQ_INT(run.test.n_cases, 60);
    /* the later half of three, and what comes after five of ten */
    CHECK_EQ_INT(run.n_train, (3 * 5 + 57) * (1 + config.n_sampled));
    for (int64_t q = 0; q < run.n_train; ++q) CHECK(run.question[q].n_history >= 2);
    REQUIRE_OK(&ctx, r2_run_sft(&ctx, &run));
    REQUIRE_OK(&ctx, r2_run_grpo(&ctx, &run));
    r2_run_free(&ctx, &run);
    config.min_history = 2;
    REQUIRE_OK(&ctx, r2_run_init(&ctx, &run, path, &config));
    CHECK_EQ_INT(run.n_train, (3 * 8 + 57) * (1 + config.n_sampled));
    r2_run_free(&ctx, &run);
    r2_text_free(&ctx, &text);
    remove(path);
}

/* Training ratings of an item by users other than one, counted from the rows. */
static int64_t n_others(const r2_run *run, uint32_t item, uint32_t user) {
    int64_t n = 0;
    for (uint32_t u = 0; u < run->data.n_users; ++u) {
        const int64_t row = r2_data_find(&run->data, u, item);
        n += u != user && row >= 0 && run->split.role[row] == R2_TRAIN;
    }
    return n;
}

/* Favourites and what is sampled beside them, in training too, are items that others have; the other
   favourites stand behind them, and none is lost. */
TEST(warm_items) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    r2_run run, all;
    config.min_train = 0;
    REQUIRE(make_of(&ctx, &all, &config, true));
    CHECK_EQ_INT(all.split.n_cold_test, 0);
    for (int64_t least = 1; least <= 2; ++least) {
        const r2_split *split = &run.split;
        int64_t n_cold = 0;
        config.min_train = least;
        REQUIRE(make_of(&ctx, &run, &config, true));
        CHECK_EQ_INT(split->n_test + split->n_cold_test, all.split.n_test);
        CHECK_EQ_INT(split->n_valid + split->n_cold_valid, all.split.n_valid);
        for (int64_t k = 0; k < split->n_test + split->n_cold_test; ++k)
            CHECK((n_others(&run, split->test[k].item, split->test[k].user) >= least) ==
                  (k < split->n_test));
        for (int64_t k = 1; k < split->n_valid; ++k) /* in their old order */
            CHECK(split->valid[k - 1].user < split->valid[k].user);
        for (int64_t k = 0; k < all.split.n_test; ++k)
            n_cold += n_others(&run, all.split.test[k].item, all.split.test[k].user) < least;
        CHECK(n_cold == split->n_cold_test && (n_cold > 0 || least == 1));
        CHECK_EQ_INT(run.test.n_cases, split->n_test);
        for (int64_t k = 0; k < run.test.n_cases * run.test.n_per_case; ++k)
            CHECK(n_others(&run, run.test.item[k], run.test.user[k / run.test.n_per_case]) >=
                  least);
        for (int64_t q = 0; q < run.n_train; ++q)
            CHECK(n_others(&run, run.question[q].item, run.question[q].user) >= least);
        r2_run_free(&ctx, &run);
    }
    r2_run_free(&ctx, &all);
}

/* Candidates of a case are asked at the moment of the favourite, everything else now. */
TEST(when_a_case_is_asked) {
    r2_ctx ctx = r2_ctx_default();
    const r2_run_config config = small_run();
    r2_evidence *evidence, now;
    r2_examples asked;
    int64_t n, differ = 0;
    r2_run run;
    REQUIRE(small_make(&ctx, &run, &config));
    n = run.test.n_cases * run.test.n_per_case;
    evidence = (r2_evidence *)calloc((size_t)n, sizeof *evidence);
    REQUIRE(evidence);
    REQUIRE_OK(&ctx, r2_run_candidate_prompts(&ctx, &run, &run.test, evidence, &asked));
    r2_examples_free(&ctx, &asked);
    for (int64_t k = 0; k < n; ++k) {
        const int64_t first = k - k % run.test.n_per_case;
        const uint32_t user = run.test.user[k / run.test.n_per_case];
        r2_question q = {user, run.test.item[k], evidence[k].n_history, -1, 0, 0, 0, 0};
        r2_evidence by_hand;
        q.future = r2_index_future(&run.index, &run.data, user, run.test.item[first]);
        REQUIRE_OK(&ctx, r2_evidence_compute(&ctx, &run.index, &q, 1, &run.config.chains, &by_hand));
        CHECK(!memcmp(&by_hand, &evidence[k], sizeof by_hand));
        REQUIRE_OK(&ctx, r2_run_prompts(&ctx, &run, &user, &q.item, 1, &now, &asked));
        r2_examples_free(&ctx, &asked);
        q.future = 0;
        REQUIRE_OK(&ctx, r2_evidence_compute(&ctx, &run.index, &q, 1, &run.config.chains, &by_hand));
        CHECK(!memcmp(&by_hand, &now, sizeof now));
        differ += evidence[k].value[R2_FIELD_season] != now.value[R2_FIELD_season];
    }
    CHECK(differ > 0);
    free(evidence);
    r2_run_free(&ctx, &run);
}

/* Of more users than n_cases that many are asked, with the candidates that they would have had. */
TEST(of_many_users_a_sample_is_asked) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small_run();
    r2_run all, some;
    config.n_cases = 0;
    config.min_train = 0;
    REQUIRE(small_make(&ctx, &all, &config));
    config.n_cases = 10;
    REQUIRE(small_make(&ctx, &some, &config));
    REQUIRE(all.test.n_cases == all.split.n_test && all.split.n_test > 10);
    CHECK_EQ_INT(some.split.n_train, all.split.n_train);
    REQUIRE(some.split.n_test == 10 && some.test.n_cases == 10 && some.valid.n_cases == 10);
    for (int64_t k = 0; k < 10; ++k) {
        const int64_t from = k * all.test.n_cases / 10, n = all.test.n_per_case;
        CHECK_EQ_INT(some.test.user[k], all.test.user[from]);
        CHECK(!memcmp(some.test.item + k * n, all.test.item + from * n,
                      (size_t)n * sizeof(uint32_t)));
    }
    r2_run_free(&ctx, &all);
    r2_run_free(&ctx, &some);
}

/* ---- bad input, no memory ---- */

TEST(bad_input_is_one_clear_message) {
    r2_run_config config = small_run();
    char path[64];
    snprintf(path, sizeof path, "build/run-%p.bad.csv", (void *)path);
    refused("build/no/such/directory", &config, R2_IO, "build/no/such/directory");
    CHECK(ratings_write_text(path, "userId,movieId,rating,timestamp\n1,2,4,10\n1,3,good,11\n"));
    refused(path, &config, R2_FORMAT, ":3: ");
    CHECK(ratings_write_text(path, "userId,movieId,rating,timestamp\n1,2,4,10\n1,3"));
    refused(path, &config, R2_FORMAT, ":3: ");
    CHECK(ratings_write_text(path, "userId,movieId,rating,timestamp\n1,2,4,10\n1,3,5,11\n"));
    refused(path, &config, R2_ARGUMENT, "nothing to test on");
    remove(path);
    config.n_groups = 0;
    refused("data/mini", &config, R2_ARGUMENT, "n_groups");
    config = small_run(), config.min_history = -1;
    refused("data/mini", &config, R2_ARGUMENT, "min_history");
    config = small_run(), config.n_cases = -1;
    refused("data/mini", &config, R2_ARGUMENT, "n_cases");
    config = small_run(), config.min_train = -1;
    refused("data/mini", &config, R2_ARGUMENT, "min_train");
    config = small_run(), config.min_train = 100000;
    refused("data/mini", &config, R2_ARGUMENT, "min_train = 100000");
    config = small_run(), config.chains.k = 99;
    refused("data/mini", &config, R2_ARGUMENT, "k = 99");
    config = small_run(), config.n_negatives = 100000;
    refused("data/mini", &config, R2_ARGUMENT, "100000");
    config = small_run(), config.model.n_head = 0;
    refused("data/mini", &config, R2_ARGUMENT, "");
}

TEST(a_run_survives_any_failed_allocation) {
    ratings_memory memory = {0, 0};
    r2_ctx ctx = r2_ctx_default(), poor = ctx;
    r2_run_config config = small_run();
    r2_status status = R2_NO_MEMORY;
    char path[64];
    REQUIRE(small_file(&ctx, path, sizeof path, false));
    poor.realloc_fn = ratings_realloc;
    poor.hook_data = &memory;
    poor.n_threads = 1;
    config.n_groups = 4;
    for (int64_t room = 0; status != R2_OK && room < 100000; room += 1 + room / 30) {
        r2_recommendation best[2];
        int64_t n;
        r2_run run;
        memory.left = room;
        status = r2_run_init(&poor, &run, path, &config);
        if (status == R2_OK) status = r2_run_sft(&poor, &run);
        if (status == R2_OK) status = r2_run_grpo(&poor, &run);
        if (status == R2_OK) status = r2_run_recommend(&poor, &run, 0, 2, best, &n);
        if (status == R2_OK) r2_recommendations_free(&poor, best, n);
        r2_run_free(&poor, &run);
        if (!CHECK(status == R2_OK || status == R2_NO_MEMORY) || !CHECK_EQ_INT(memory.alive, 0))
            break;
    }
    CHECK_EQ_INT(status, R2_OK);
    remove(path);
}

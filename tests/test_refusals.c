/* What public functions refuse, and the sentence that says why: one wrong field at a time. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"
#include <sys/stat.h>
#include <unistd.h>
#include "ratings.h"
#include "tiny.h"

static r2_ctx ctx;

static void refused(r2_status got, r2_status want, const char *phrase, int line) {
    if (got == want && strstr(ctx.message, phrase)) return;
    test_report(__FILE__, line);
    printf("%s: \"%s\", expected %s: \"%s\"\n", r2_status_name(got), got ? ctx.message : "",
           r2_status_name(want), phrase);
}
#define REFUSED(call, phrase)   refused((call), R2_ARGUMENT, phrase, __LINE__)
#define NOT_READ(call, phrase)  refused((call), R2_FORMAT, phrase, __LINE__)
#define DIVERGES(call, phrase)  refused((call), R2_DIVERGED, phrase, __LINE__)

/* ---- questions and chains ---- */

TEST(questions_and_chains) {
    r2_chain_config chains = r2_chain_config_default();
    r2_chain chain[4];
    r2_question good, q;
    int64_t n = 0;
    tiny t;
    ctx = r2_ctx_default();
    REQUIRE(tiny_make(&ctx, &t, 3));
    memset(&good, 0, sizeof good);
    good.n_history = 1, good.answer = -1, good.step = 1, good.other_user = 1, good.other_item = 1;
    chains.k = 4;
#define ASK(change, phrase)                                                                        \
    q = good, change, REFUSED(r2_chains_target(&ctx, &t.index, &q, &chains, chain, &n), phrase)
    ASK(q.user = 24, "user = 24, expected user < 24");
    ASK(q.item = 30, "item = 30, expected item < 30");
    ASK(q.item = R2_NO_ITEM, "item = R2_NO_ITEM, expected a target");
    ASK(q.n_history = -1, "n_history = -1");
    ASK(q.n_history = 99, "n_history = 99");
    ASK(q.step = -1, "step = -1");
    ASK(q.step = 5, "step = 5, expected 0 to 4");
    ASK(q.future = -1, "future = -1");
    ASK(q.future = 1 << 20, "future = 1048576");
    ASK(q.other_user = 24, "other_user = 24");
    ASK(q.other_user = 0, "other_user = 0");
    ASK(q.other_item = 30, "other_item = 30");
    ASK(q.other_item = 0, "other_item = 0");
    ASK(chains.k = -1, "k = -1");
    ASK((chains.k = 1, chains.law = (r2_chain_law)3), "law = 3, expected 0 to 2");
    ASK(chains.law = (r2_chain_law)-1, "law = -1");
#undef ASK
    q = good, q.user = 24;
    REFUSED(r2_chains_count(&ctx, &t.index, &q, &n), "user = 24");
    CHECK_EQ_STR(r2_field_formula(R2_FIELD_pop), "users of i*");
    REFUSED(r2_evidence_of_step(&ctx, &t.index, 0, t.n, &chains, t.evidence), "step = 0");
    REFUSED(r2_evidence_of_step(&ctx, &t.index, 4, t.n, &chains, t.evidence), "step = 4");
    t.evidence[1].n_chains = 0;
    chains = r2_chain_config_default();
    REFUSED(r2_evidence_of_step(&ctx, &t.index, 2, 2, &chains, t.evidence), "step 2");
    tiny_free(&ctx, &t);
}

TEST(graphs_candidates_and_codebooks) {
    static const uint8_t all[] = {1, 1, 1}, none[] = {0, 0, 0}, first[] = {1, 0, 0};
    const r2_target target = {0, 0, 0};
    r2_negatives how = {2, 1, false, NULL, 0};
    r2_candidates c;
    r2_codebook book;
    r2_data many;
    r2_graph graph;
    tiny t;
    ctx = r2_ctx_default();
    REQUIRE(tiny_make(&ctx, &t, 2));
    memset(&many, 0, sizeof many);
    many.n_ratings = (int64_t)UINT32_MAX + 1;
    REFUSED(r2_graph_init(&ctx, &graph, &many, NULL), "fewer than 2^32 ratings, found 4294967296");
    REFUSED(r2_candidates_init(&ctx, &c, &t.data, &target, -1, &how), "-1");
    how.n = -1;
    REFUSED(r2_candidates_init(&ctx, &c, &t.data, &target, 1, &how), "-1");
    how.n = 31;
    REFUSED(r2_candidates_init(&ctx, &c, &t.data, &target, 1, &how), "31");
    REFUSED(r2_codebook_fit(&ctx, &book, t.evidence, all, 3, 2), "observed");
    REFUSED(r2_codebook_fit(&ctx, &book, t.evidence, none, 3, 2), "observed");
    REFUSED(r2_codebook_fit(&ctx, &book, t.evidence, first, 3, -1), "n_chains = -1");
    REFUSED(r2_codebook_fit(&ctx, &book, t.evidence, first, 3, R2_MAX_CHAINS + 1), "n_chains = 9");
    tiny_free(&ctx, &t);
}

/* ---- prompts ---- */

TEST(prompts_and_examples) {
    r2_teacher_config rules = r2_teacher_config_default();
    r2_example_config how;
    r2_prompt_config good = r2_prompt_config_default(), c;
    r2_evidence evidence;
    r2_examples examples;
    r2_prompt prompt;
    r2_text text = {NULL, 0, 0, false};
    r2_task task = {0, NULL, NULL, NULL, -1};
    tiny t;
    ctx = r2_ctx_default();
    REQUIRE(tiny_make(&ctx, &t, 2));
    memset(&prompt, 0, sizeof prompt);
    good.codebook = &t.codebook, good.data = &t.data;
    evidence = t.evidence[0];
#define BUILD(change, phrase)                                                                      \
    c = good, change, REFUSED(r2_prompt_build(&ctx, &c, &evidence, &prompt), phrase)
    BUILD(c.schedule = R2_N_SCHEDULES, "schedule = 4");
    BUILD(c.words = R2_N_WORDS, "words = 2");
    BUILD(c.codebook = NULL, "codebook is NULL");
    BUILD((c.words = R2_WORDS_ENGLISH, c.data = NULL), "data is NULL");
    BUILD(c.max_tokens = 1, "max_tokens = 1, expected");
    BUILD((c.words = R2_WORDS_ENGLISH, c.max_tokens = 1), "max_tokens = 1, expected");
    evidence.step = 5;
    BUILD((void)0, "step = 5");
    evidence.step = 1;
    BUILD(c.schedule = R2_MASK_FINAL_ONLY, "step = 1, but schedule final-only has steps 4 .. 4");
    evidence.n_chains = 0;
    BUILD((void)0, "step 1 asks about a chain, found none");
#undef BUILD
    /* a scale of ten: numbers in the place of stars */
    t.data.rating_max = 10.0f;
    REQUIRE(t.evidence[0].n_chains > 0);
    REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &good, &t.evidence[0], &prompt));
    task.config = &good, task.evidence = &t.evidence[0], task.prompt = &prompt;
    REQUIRE_OK(&ctx, r2_prompt_explain(&ctx, &task, NULL, &text));
    CHECK(strstr(text.data, "chain 1") && !strstr(text.data, "\xE2\x98\x85"));
    t.data.rating_max = 5.0f;
    r2_text_clear(&text);
    NOT_READ(r2_teacher_compact(&ctx, &t.codebook, &rules, "<q> no facts", 0, &text), "no facts");
    CHECK_EQ_STR(r2_words_name(R2_N_WORDS), "?");
    CHECK_EQ_STR(r2_schedule_name(R2_N_SCHEDULES), "?");
    CHECK_EQ_STR(r2_verdict_name(R2_N_VERDICTS), "?");
    memset(&how, 0, sizeof how);
    how.prompt = good, how.prompt.words = R2_WORDS_ENGLISH, how.group = TINY_GROUP, how.teacher = &rules;
    REFUSED(r2_examples_init(&ctx, &examples, &t.codec, &how, t.evidence, TINY_GROUP),
            "come from records");
    r2_text_free(&ctx, &text);
    r2_prompt_free(&ctx, &prompt);
    tiny_free(&ctx, &t);
}

/* ---- the model ---- */

TEST(batches) {
    static const int32_t begin[] = {0, 3}, late[] = {1, 3}, empty[] = {0, 0}, token[] = {1, 2, 3};
    static const int32_t row[] = {1}, below[] = {-1}, token_below[] = {1, -1, 3};
    int32_t far_row[] = {3}, beyond[] = {9999}, token_beyond[] = {1, 9999, 3};
    r2_batch good, b;
    float logp[1];
    tiny t;
    ctx = r2_ctx_default();
    REQUIRE(tiny_make(&ctx, &t, 2));
    memset(&good, 0, sizeof good);
    good.n_seq = 1, good.seq_begin = begin, good.token = token;
    good.n_pred = 1, good.pred_row = row, good.pred_token = token;
    CHECK_STATUS(&ctx, r2_forward(&ctx, &t.model, &good, logp, NULL), R2_OK);
#define FORWARD(change, phrase)                                                                    \
    b = good, change, REFUSED(r2_forward(&ctx, &t.model, &b, logp, NULL), phrase)
    FORWARD(b.n_seq = 0, "n_seq = 0");
    FORWARD(b.seq_begin = late, "seq_begin[0] = 1");
    FORWARD(b.seq_begin = empty, "0 tokens");
    FORWARD(b.token = token_below, "token[1] = -1");
    FORWARD(b.token = token_beyond, "token[1] = 9999");
    FORWARD(b.pred_row = below, "pred_row[0] = -1");
    FORWARD(b.pred_row = far_row, "pred_row[0] = 3");
    FORWARD(b.pred_token = below, "pred_token[0] = -1");
    FORWARD(b.pred_token = beyond, "pred_token[0] = 9999");
#undef FORWARD
    tiny_free(&ctx, &t);
}

TEST(generating) {
    static const int64_t begin[] = {0, 2}, empty[] = {2, 2};
    static const int32_t token[] = {1, 2}, below[] = {-1, 2}, beyond[] = {1, 9999};
    r2_generate_config good = r2_generate_config_default(), c;
    r2_generation out;
    tiny t;
    ctx = r2_ctx_default();
    REQUIRE(tiny_make(&ctx, &t, 2));
    good.max_new = 2;
#define GENERATE(change, phrase)                                                                   \
    c = good, change, REFUSED(r2_generate(&ctx, &t.model, &c, 1, begin, token, &out), phrase)
    GENERATE(c.n_samples = 0, "n_samples = 0");
    GENERATE(c.max_new = -1, "max_new = -1");
    GENERATE(c.max_new = 9999, "n_ctx");
    GENERATE(c.temperature = -1.0f, "temperature = -1");
    GENERATE(c.temperature = NAN, "temperature");
    GENERATE(c.n_stop = -1, "n_stop = -1");
    GENERATE(c.n_stop = 1, "n_stop = 1, expected as many tokens in stop");
    GENERATE(c.n_watch = -1, "n_watch = -1");
    GENERATE(c.n_watch = 1, "n_watch = 1, expected as many tokens in watch");
    GENERATE((c.n_watch = 1, c.watch = below), "watch[0] = -1");
    GENERATE((c.n_watch = 2, c.watch = beyond), "watch[1] = 9999");
#undef GENERATE
    REFUSED(r2_generate(&ctx, &t.model, &good, 1, empty, token, &out), "prompt 0 has 0 tokens");
    REFUSED(r2_generate(&ctx, &t.model, &good, 1, begin, below, &out), "token[0] = -1");
    REFUSED(r2_generate(&ctx, &t.model, &good, 1, begin, beyond, &out), "token[1] = 9999");
    /* no prompt is no fault */
    CHECK_STATUS(&ctx, r2_generate(&ctx, &t.model, &good, 0, NULL, NULL, &out), R2_OK);
    CHECK_EQ_INT(out.n_out, 0);
    r2_generation_free(&ctx, &out);
    tiny_free(&ctx, &t);
}

TEST(shapes_of_a_model) {
    r2_model_config good, c;
    r2_model model;
    r2_adamw_config adamw = r2_adamw_config_default();
    r2_adamw opt;
    float norm;
    tiny t;
    ctx = r2_ctx_default();
    REQUIRE(tiny_make(&ctx, &t, 2));
    good = tiny_shape(&t);
#define SHAPE(change, phrase) c = good, change, REFUSED(r2_model_init(&ctx, &model, &c, true), phrase)
    SHAPE(c.n_vocab = 0, "n_vocab = 0");
    SHAPE(c.n_layer = 4097, "n_layer = 4097, expected 1 to 4096");
    SHAPE(c.d_model = 15, "d_model = 15");
    SHAPE(c.d_model = 6, "d_model = 6"); /* heads of three: no halves to rotate */
    SHAPE((c.n_head = 4, c.n_kv_head = 3), "multiple of n_kv_head = 3");
    SHAPE(c.rope_theta = 0.0f, "rope_theta = 0");
    SHAPE(c.norm_eps = NAN, "norm_eps");
    SHAPE(c.init_std = -1.0f, "init_std = -1");
#undef SHAPE
    for (int k = 0; k < 3; ++k) { /* one place wider, one row more, no head of its own */
        c = good;
        if (k == 0) c.d_ff += 4;
        if (k == 1) c.n_vocab += 1;
        if (k == 2) c.n_layer += 1;
        REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &c, false));
        REFUSED(r2_model_copy(&ctx, &model, &t.model), "shape");
        r2_model_free(&ctx, &model);
    }
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &good, false));
    REQUIRE_OK(&ctx, r2_adamw_init(&ctx, &opt, &model, &adamw));
    REFUSED(r2_adamw_step(&ctx, &opt, &model, 0.1f, &norm), "gradient");
    CHECK(!r2_gradient(&model, R2_WQ, 0));
    CHECK(!r2_weight(&t.model, R2_HEAD, 0)); /* tied */
    r2_adamw_free(&ctx, &opt);
    r2_model_free(&ctx, &model);
    tiny_free(&ctx, &t);
}

/* ---- learning and asking ---- */

TEST(training_and_rl) {
    r2_sft_config sft = r2_sft_config_default(), s;
    r2_grpo_config grpo = r2_grpo_config_default(), g;
    r2_examples none;
    tiny t;
    ctx = r2_ctx_default();
    REQUIRE(tiny_make(&ctx, &t, 2));
    grpo.max_new = tiny_max_new(&t);
#define SFT(change, phrase) s = sft, change, REFUSED(r2_sft(&ctx, &t.model, &t.ex, &s), phrase)
    SFT(s.n_steps = -1, "n_steps = -1");
    SFT(s.warmup = -1, "warmup = -1");
    SFT(s.reasoned_share = 1.5f, "reasoned_share = 1.5");
    SFT(s.trace_weight = NAN, "trace_weight");
    SFT(s.lr_floor = 2.0f, "lr_floor = 2");
    SFT(s.adamw.beta1 = 1.0f, "beta1 = 1");
    SFT(s.adamw.clip = -1.0f, "clip = -1");
    SFT((s.valid = &t.ex, s.patience = 0), "patience = 0");
    SFT(s.groups = 1 << 28, "fewer than 2^31 tokens in a step");
#undef SFT
#define GRPO(change, phrase) g = grpo, change, REFUSED(r2_grpo(&ctx, &t.model, &t.ex, &g), phrase)
    GRPO(g.groups = 0, "groups = 0");
    GRPO(g.n_samples = 65, "n_samples = 65");
    GRPO(g.eps_low = -1.0f, "eps_low = -1");
    GRPO(g.beta = NAN, "beta");
    GRPO(g.groups = 1 << 24, "fewer than 2^31 tokens in a step");
#undef GRPO
    none = t.ex, none.n = 0;
    REFUSED(r2_sft(&ctx, &t.model, &none, &sft), "no examples");
    none = t.ex, none.codec.check = NULL;
    REFUSED(r2_grpo(&ctx, &t.model, &none, &grpo), "check = NULL");
    tiny_free(&ctx, &t);
}

TEST(adapters_and_files) {
    const char *no_path = NULL;
    r2_lora_config lora = r2_lora_config_default(), c;
    char path[64], file[96];
    r2_model model;
    r2_data data;
    tiny t;
    ctx = r2_ctx_default();
    REQUIRE(tiny_make(&ctx, &t, 2));
    REFUSED(r2_lora_merge(&ctx, &t.model), "no adapters");
    REFUSED(r2_lora_unmerge(&ctx, &t.model), "no adapters");
#define LORA(change, phrase) c = lora, change, REFUSED(r2_lora_attach(&ctx, &t.model, &c), phrase)
    LORA(c.rank = 0, "rank = 0");
    LORA(c.rank = 4097, "rank = 4097");
    LORA(c.targets = 0, "targets");
    LORA(c.targets = 1u << R2_EMBED, "targets");
#undef LORA
    REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &t.model, &lora));
    REQUIRE_OK(&ctx, r2_lora_unmerge(&ctx, &t.model)); /* nothing to do */
    REQUIRE_OK(&ctx, r2_lora_merge(&ctx, &t.model));
    REQUIRE_OK(&ctx, r2_lora_merge(&ctx, &t.model)); /* done before */
    REFUSED(r2_data_load_files(&ctx, &data, &no_path, 0, NULL), "n_paths = 0, expected >= 1");
    snprintf(path, sizeof path, "build/refusals-%p", (void *)&data);
    mkdir(path, 0700);
    snprintf(file, sizeof file, "%s/config.json", path);
    CHECK(ratings_write_text(file, "7"));
    NOT_READ(r2_model_load_dir(&ctx, &model, path, 0, false), "expected a JSON object");
    remove(file);
    rmdir(path);
    tiny_free(&ctx, &t);
}

TEST(tokenizers) {
    static const int32_t beyond[] = {300}, below[] = {-1};
    const r2_message message = {"user", "text"};
    r2_bpe_config config = r2_bpe_config_default();
    r2_text text = {NULL, 0, 0, false};
    r2_tokens out = {NULL, 0, {NULL, false}};
    r2_bpe bpe;
    ctx = r2_ctx_default();
    config.n_control = -1;
    REFUSED(r2_bpe_train(&ctx, &bpe, &config, "a", 1), "-1 controls");
    config.n_control = 3, config.n_tokens = 258;
    REFUSED(r2_bpe_train(&ctx, &bpe, &config, "a", 1), "258 ids do not hold 256 bytes and 3 controls");
    config.n_control = 0, config.n_tokens = 260;
    REQUIRE_OK(&ctx, r2_bpe_train(&ctx, &bpe, &config, "a b", 3));
    REFUSED(r2_bpe_decode(&ctx, &bpe, beyond, 1, true, &text), "id 300 is not below 256");
    REFUSED(r2_bpe_decode(&ctx, &bpe, below, 1, true, &text), "id -1");
    REFUSED(r2_bpe_chat(&ctx, &bpe, &message, 1, true, &out), "no <|im_start|>");
    r2_tokens_free(&ctx, &out);
    r2_text_free(&ctx, &text);
    r2_bpe_free(&ctx, &bpe);
}

TEST(runs) {
    const r2_run_config small = r2_run_config_default(), full = r2_run_config_full();
    const uint32_t nobody[] = {1u << 20}, item[] = {0};
    r2_run_config config = small;
    r2_recommendation out[3];
    char path[64], file[96];
    r2_text words = {NULL, 0, 0, false};
    r2_evidence evidence;
    r2_examples examples;
    int64_t n;
    r2_run run;
    ctx = r2_ctx_default();
    CHECK(full.n_groups > small.n_groups && full.grpo.n_steps > small.grpo.n_steps);
    CHECK(full.model.d_model == small.model.d_model); /* the same model, longer */
    config.n_groups = 8, config.model.d_model = 8, config.model.d_ff = 8, config.model.n_layer = 1;
    config.model.n_head = 2, config.model.n_kv_head = 2, config.n_negatives = 5, config.grpo.n_steps = 0;
    REQUIRE_OK(&ctx, r2_run_init(&ctx, &run, "tests/cases/data/ratings", &config));
    REFUSED(r2_run_prompts(&ctx, &run, nobody, item, 1, &evidence, &examples), "user = 1048576");
    REFUSED(r2_run_recommend(&ctx, &run, nobody[0], 1, out, &n), "1048576");
    REFUSED(r2_run_recommend(&ctx, &run, 0, -1, out, &n), "-1");
    REQUIRE_OK(&ctx, r2_run_grpo(&ctx, &run)); /* no step: nothing to do */
    memset(run.model.param, 0, (size_t)run.model.n_params * sizeof(float));
    REQUIRE_OK(&ctx, r2_run_recommend(&ctx, &run, 0, 3, out, &n)); /* all alike: by number */
    CHECK(n == 3 && out[0].item < out[1].item && out[1].item < out[2].item);
    r2_recommendations_free(&ctx, out, n);
    snprintf(path, sizeof path, "build/refusals-run-%p", (void *)&run);
    mkdir(path, 0700);
    REQUIRE_OK(&ctx, r2_run_save(&ctx, &run, path));
    snprintf(file, sizeof file, "%s/run.json", path);
    remove(file); /* or the digests would be wrong first */
    snprintf(file, sizeof file, "%s/vocab.txt", path);
    REQUIRE_OK(&ctx, r2_read_file(&ctx, file, &words));
    memcpy(words.data, "zz", 2); /* another first word */
    REQUIRE_OK(&ctx, r2_write_file(&ctx, file, words.data, words.len));
    NOT_READ(r2_run_borrow_model(&ctx, &run, path), "the model has no word");
    r2_text_addf(&ctx, &words, "one-more\n");
    REQUIRE_OK(&ctx, r2_write_file(&ctx, file, words.data, words.len));
    NOT_READ(r2_run_borrow_model(&ctx, &run, path), "words, the model has");
    r2_text_free(&ctx, &words);
    for (int k = 0; k < 4; ++k) {
        static const char *const names[] = {"vocab.txt", "codebook.json", "config.json", "model.safetensors"};
        snprintf(file, sizeof file, "%s/%s", path, names[k]);
        remove(file);
    }
    CHECK(rmdir(path) == 0);
    r2_run_free(&ctx, &run);
}

/* Weights that are no numbers: whoever asks such a model hears of it. */
TEST(a_model_of_nan) {
    r2_score_config how = r2_score_config_default();
    r2_sft_config sft = r2_sft_config_default();
    r2_grpo_config grpo = r2_grpo_config_default();
    r2_lora_config lora = r2_lora_config_default();
    float score[TINY_GROUP], *weight;
    r2_reasoning reasoning;
    r2_examples few;
    tiny t;
    ctx = r2_ctx_default();
    REQUIRE(tiny_make(&ctx, &t, 2));
    few = t.ex, few.n = TINY_GROUP;
    sft.n_steps = 2, sft.groups = 1, grpo.n_steps = 1, grpo.groups = 1, grpo.n_samples = 2;
    grpo.max_new = tiny_max_new(&t);
    weight = r2_weight(&t.model, R2_WDOWN, 0);
    weight[3] = NAN;
    DIVERGES(r2_score(&ctx, &t.model, &few, &how, score, NULL), "example 0");
    DIVERGES(r2_sft(&ctx, &t.model, &t.ex, &sft), "step 1 of 2");
    DIVERGES(r2_grpo(&ctx, &t.model, &t.ex, &grpo), "step 1 of 1");
    weight[3] = 0.0f;
    REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &t.model, &lora));
    sft.lr = 1e38f; /* the first update leaves no number */
    DIVERGES(r2_sft(&ctx, &t.model, &t.ex, &sft), "of 2");
    CHECK(isfinite(t.model.lora->param[0])); /* those before it are back */
    REFUSED(r2_think(&ctx, &t.model, &few, -1, 1, &reasoning), "-1");
    REFUSED(r2_think(&ctx, &t.model, &few, 0, 0, &reasoning), "0");
    REFUSED(r2_think(&ctx, &t.model, &few, 2, 2, &reasoning), "2");
    tiny_free(&ctx, &t);
}

/* torture.c: the n-th allocation fails, the n-th file operation fails, for every n, over the whole
   journey of a run and over everything that is read and written.

       torture [stride=N] [sites=1] [threads=N] [only=STAGE] [point=N] [kind=KIND]

   sites=1 takes, of all calls that come by one way from main, the first alone: every place that can
   fail fails once, in minutes. It works with one thread.

       memory   memory-after    this allocation fails; this one and all that follow, cJSON's too
       file     file-after      this file operation fails, with ENOSPC, EIO or EACCES; all from it on
       short    interrupted     this read or write does half of it; EINTR

   A stage is done once as it is, which counts its allocations and file operations and gives the right
   result. Then it is done once for each of them and each kind. Each time
     - it ends in R2_NO_MEMORY (memory) or R2_IO (file) with a sentence, or in R2_OK with the right
       result, bit for bit; always so after a short or interrupted operation;
     - everything allocated has been given back, and no file stays open;
     - every file is the old one or the new one, whole, and nothing else lies beside them; a run that
       was being saved is loaded as the old one or as the new one.
   A crash is told with the stage and the point. The last line is that of tests/run.sh. */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>
#if defined(__GLIBC__) || defined(__APPLE__)
#include <execinfo.h>
#endif

/* --- what fails ------------------------------------------------------------------------------------- */

typedef enum failure { NOTHING, MEMORY, MEMORY_AFTER, FILES, FILES_AFTER, SHORT, INTERRUPTED, N_KINDS } failure;
static const char *const kind_name[N_KINDS + 1] = {"nothing", "memory", "memory-after", "file", "file-after",
                                               "short", "interrupted", "none"};

static struct {
    failure kind;
    long point;           /* which call fails, from 1 */
    long n_memory, n_file; /* calls so far             */
    long failed;          /* how many have failed     */
    long blocks;          /* alive now                */
} now;

/* The ways from main to an allocation or file operation, by the hashes of their return addresses, and
   the call that came by each one first. Elsewhere than here every call is a way of its own. */
enum { MAX_SITES = 1 << 14, MAX_DEPTH = 64 };
static bool by_site;
static struct sites {
    long n;
    uint64_t hash[MAX_SITES];
    long first[MAX_SITES];
} memory_sites, file_sites;

static void note_site(struct sites *sites, long call, uint64_t hash) {
#if defined(__GLIBC__) || defined(__APPLE__)
    void *at[MAX_DEPTH];
    const int depth = backtrace(at, MAX_DEPTH);
    for (int k = 0; k < depth; ++k) hash = (hash ^ (uint64_t)(uintptr_t)at[k]) * 0x100000001B3u;
#else
    hash += (uint64_t)call;
#endif
    for (long k = 0; k < sites->n; ++k)
        if (sites->hash[k] == hash) return;
    if (sites->n == MAX_SITES) return;
    sites->hash[sites->n] = hash;
    sites->first[sites->n++] = call;
}

/* With point=N the stack is shown where it fails, if the sanitizers are there. */
static int show_stack;
void __sanitizer_print_stack_trace(void) __attribute__((weak));
static void show(void) {
    if (show_stack && __sanitizer_print_stack_trace) __sanitizer_print_stack_trace();
}

static int memory_fails(void) {
    long n = __atomic_add_fetch(&now.n_memory, 1, __ATOMIC_RELAXED);
    int fails = (now.kind == MEMORY && n == now.point) || (now.kind == MEMORY_AFTER && n >= now.point);
    if (by_site && now.kind == NOTHING) note_site(&memory_sites, n, 0);
    if (fails) __atomic_add_fetch(&now.failed, 1, __ATOMIC_RELAXED), show();
    return fails;
}

static void *take(void *hook_data, void *p, size_t size) {
    void *q;
    (void)hook_data;
    if (!size) {
        if (p) __atomic_sub_fetch(&now.blocks, 1, __ATOMIC_RELAXED);
        return free(p), NULL;
    }
    if (memory_fails()) return NULL;
    q = realloc(p, size);
    if (q && !p) __atomic_add_fetch(&now.blocks, 1, __ATOMIC_RELAXED);
    return q;
}

static void *json_take(size_t size) { return take(NULL, NULL, size ? size : 1); }
static void json_give(void *p) { take(NULL, p, 0); }

#define R2__ARENA_BLOCK 64u /* an arena asks for memory each time, not once for many small things */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

/* The file hook of the context. */
static int file_fails(void *hook_data, r2_file_op op, const char *path, size_t *size) {
    const bool is_file = now.kind == NOTHING || now.kind >= FILES;
    const bool here = is_file && ++now.n_file == now.point, from_here = is_file && now.n_file >= now.point;
    (void)hook_data, (void)path;
    if (by_site && now.kind == NOTHING) note_site(&file_sites, now.n_file, (uint64_t)op);
    if (here && now.kind == SHORT) *size /= 2;
    if (here && now.kind == INTERRUPTED) return EINTR;
    if (op == R2_FILE_REMOVE) return 0; /* a full disk does not prevent it */
    if (!(here && now.kind == FILES) && !(from_here && now.kind == FILES_AFTER)) return 0;
    ++now.failed, show();
    return op == R2_FILE_OPEN ? EACCES : op == R2_FILE_READ || op == R2_FILE_RENAME ? EIO : ENOSPC;
}

/* --- the stages ------------------------------------------------------------------------------------- */

#define RATINGS "tests/cases/data/ratings"

static r2_ctx ctx;
static r2_run run;          /* prepared and trained, for the stages that begin there */
static float *trained;      /* its weights                                           */
static uint64_t digest;     /* of what a stage came to                               */
static char folder[64];     /* what stages write                                     */
static char inputs[80];     /* what they read and main wrote                         */
static bool old_run;        /* save the run with other weights than usual            */
static bool told;           /* that titles were left out, which is right to go on without */

static void add(const void *bytes, size_t n) {
    for (size_t k = 0; k < n; ++k) digest = (digest ^ ((const unsigned char *)bytes)[k]) * 0x100000001B3u;
}
static void add_text(r2_text *text) {
    if (text->len) add(text->data, text->len);
}
static const char *in(const char *name) {
    static char path[2][400];
    static int at;
    at = !at;
    snprintf(path[at], sizeof path[at], "%s/%s", folder, name);
    return path[at];
}

static const char *input(const char *name) {
    static char path[3][400];
    static int at;
    at = (at + 1) % 3;
    snprintf(path[at], sizeof path[at], "%s/%s", inputs, name);
    return path[at];
}

static r2_run_config small_config(void) {
    r2_run_config c = r2_run_config_default();
    c.seed = 5, c.n_groups = 12, c.n_negatives = 5;
    c.model.d_model = 8, c.model.d_ff = 8, c.model.n_layer = 1, c.model.n_head = 2;
    c.sft.n_steps = 2, c.sft.groups = 2, c.sft.valid_every = 1;
    c.grpo.n_steps = 1, c.grpo.groups = 1, c.grpo.n_samples = 2, c.grpo.max_new = 8;
    return c;
}

/* The report, which must say so when the titles could not be read. */
static r2_status report(const r2_data *data) {
    r2_text text = {NULL, 0, 0, false};
    r2_status s = r2_data_report(&ctx, data, &text);
    if (s == R2_OK) add_text(&text);
    if (s == R2_OK && strstr(text.data, "titles that are missing")) told = true;
    r2_text_free(&ctx, &text);
    return s;
}

static r2_status stage_load(void) {
    const char *path[2] = {RATINGS, "tests/cases/ratings-big-ids/exact.json"};
    r2_data data;
    r2_filter filter;
    r2_status s = r2_data_load_files(&ctx, &data, path, 2, NULL);
    memset(&filter, 0, sizeof filter);
    filter.user_core = 2;
    if (s != R2_OK) return s;
    s = r2_data_filter(&ctx, &data, &filter);
    if (s == R2_OK) s = r2_data_grade(&ctx, &data);
    if (s == R2_OK) s = report(&data);
    if (s == R2_OK) add(data.rating, (size_t)data.n_ratings * sizeof *data.rating);
    r2_data_free(&ctx, &data);
    return s;
}

static r2_status stage_sets(void) {
    r2_split split;
    r2_candidates all, popular, common;
    const r2_negatives any = {5, 1, false, NULL, 0}, often = {5, 1, true, NULL, 0},
                       known = {5, 1, false, &split, 1};
    const r2_data *d = &run.data;
    r2_status s;
    memset(&popular, 0, sizeof popular);
    memset(&common, 0, sizeof common);
    memset(&all, 0, sizeof all);
    s = r2_split_init(&ctx, &split, d, NULL);
    if (s == R2_OK) s = r2_candidates_init(&ctx, &all, d, split.test, split.n_test, &any);
    if (s == R2_OK) s = r2_candidates_init(&ctx, &popular, d, split.test, split.n_test, &often);
    if (s == R2_OK) s = r2_candidates_init(&ctx, &common, d, split.test, split.n_test, &known);
    if (s == R2_OK) s = r2_candidates_save(&ctx, &all, d, in("candidates.tsv"));
    r2_candidates_free(&ctx, &all);
    if (s == R2_OK) s = r2_candidates_load(&ctx, &all, d, in("candidates.tsv"));
    if (s == R2_OK) {
        add(all.item, (size_t)(all.n_cases * all.n_per_case) * sizeof *all.item);
        add(popular.item, (size_t)(popular.n_cases * popular.n_per_case) * sizeof *popular.item);
        add(common.item, (size_t)(common.n_cases * common.n_per_case) * sizeof *common.item);
    }
    r2_candidates_free(&ctx, &all);
    r2_candidates_free(&ctx, &popular);
    r2_candidates_free(&ctx, &common);
    r2_split_free(&ctx, &split);
    return s;
}

static r2_status stage_chains(void) {
    r2_chain chain[8];
    r2_chain_config config = r2_chain_config_default();
    r2_question question = {0, 1, (int32_t)r2_graph_user_degree(&run.graph, 0), -1, 0, 0, 0, 0};
    r2_butterflies b;
    int64_t n = 0, count = 0;
    r2_status s = R2_OK;
    memset(&b, 0, sizeof b);
    for (int law = 0; s == R2_OK && law < 3; ++law) {
        config.law = (r2_chain_law)law;
        s = r2_chains_target(&ctx, &run.index, &question, &config, chain, &n);
        if (s == R2_OK) add(chain, (size_t)n * sizeof *chain);
        if (s == R2_OK) s = r2_chains_closed(&ctx, &run.index, 0, &config, chain, &n);
        if (s == R2_OK) add(chain, (size_t)n * sizeof *chain);
    }
    if (s == R2_OK) s = r2_chains_count(&ctx, &run.index, &question, &count);
    if (s == R2_OK) s = r2_butterflies_init(&ctx, &b, &run.graph);
    if (s == R2_OK) add(&count, sizeof count), add(&b.total, sizeof b.total);
    r2_butterflies_free(&ctx, &b);
    return s;
}

static r2_status stage_init(void) {
    static r2_run fresh;
    r2_run_config c = small_config();
    r2_status s = r2_run_init(&ctx, &fresh, RATINGS, &c);
    if (s == R2_OK) s = report(&fresh.data);
    if (s == R2_OK) add(fresh.model.param, (size_t)fresh.model.n_params * sizeof(float));
    if (s == R2_OK) add(fresh.train.prompt, (size_t)fresh.train.prompt_begin[fresh.train.n] * sizeof(int32_t));
    r2_run_free(&ctx, &fresh);
    return s;
}

static void restore(void) { memcpy(run.model.param, trained, (size_t)run.model.n_params * sizeof(float)); }

static r2_status stage_sft(void) {
    r2_status s = (restore(), r2_run_sft(&ctx, &run));
    if (s == R2_OK) add(run.model.param, (size_t)run.model.n_params * sizeof(float));
    return s;
}

/* The state of a training is written, and a second training finds it. */
static r2_status stage_state(void) {
    char path[400];
    r2_status s = R2_OK;
    snprintf(path, sizeof path, "%s", in("sft.state"));
    remove(path);
    run.config.sft.state_path = path;
    for (int k = 0; k < 2 && s == R2_OK; ++k) s = (restore(), r2_run_sft(&ctx, &run));
    run.config.sft.state_path = NULL;
    if (s == R2_OK) add(run.model.param, (size_t)run.model.n_params * sizeof(float));
    return s;
}

static r2_status stage_grpo(void) {
    r2_status s = (restore(), r2_run_grpo(&ctx, &run));
    if (s == R2_OK) add(run.model.param, (size_t)run.model.n_params * sizeof(float));
    return s;
}

static r2_status stage_score(void) {
    r2_score_config how = r2_score_config_default();
    r2_eval_config eval = r2_eval_config_default();
    r2_trace_metrics traces;
    r2_metrics metrics;
    r2_recommendation best[5];
    int64_t n_best = 0, n = run.test.n_cases * run.test.n_per_case;
    float *score = calloc((size_t)n, sizeof *score);
    r2_status s = (restore(), r2_run_score(&ctx, &run, &run.test, &how, score, NULL));
    if (s == R2_OK) add(score, (size_t)n * sizeof *score);
    how.mode = R2_REASONED, how.n_samples = 2, how.max_new = 8;
    if (s == R2_OK) s = r2_run_score(&ctx, &run, &run.test, &how, score, &traces);
    eval.n_bootstrap = 10;
    if (s == R2_OK) s = r2_evaluate(&ctx, score, run.test.n_cases, run.test.n_per_case, &eval, &metrics, NULL);
    if (s == R2_OK) s = r2_run_recommend(&ctx, &run, 0, 5, best, &n_best);
    if (s == R2_OK) add(&metrics, sizeof metrics);
    for (int64_t k = 0; s == R2_OK && k < n_best; ++k)
        add(&best[k].score, sizeof best[k].score), add_text(&best[k].reasoning.text);
    if (s == R2_OK) r2_recommendations_free(&ctx, best, n_best);
    free(score);
    return s;
}

static r2_status stage_counterfactual(void) {
    r2_evidence *evidence = calloc(4, sizeof *evidence);
    r2_examples examples;
    r2_causal causal;
    r2_reasoning reasoning[2];
    uint32_t user[4] = {0, 1, 2, 3}, item[4] = {1, 2, 3, 4};
    r2_status s = (restore(), r2_run_prompts(&ctx, &run, user, item, 4, evidence, &examples));
    if (s == R2_OK) {
        s = r2_think(&ctx, &run.model, &examples, 0, 2, reasoning);
        for (int k = 0; s == R2_OK && k < 2; ++k) {
            add_text(&reasoning[k].text);
            r2_reasoning_free(&ctx, &reasoning[k]);
        }
        for (int k = R2_CHANGE_FLIP; s == R2_OK && k <= R2_CHANGE_REMOVE; ++k) {
            s = r2_counterfactual(&ctx, &run.model, &examples, &run.codebook, &run.vocab, (r2_change)k, &causal);
            if (s == R2_OK) add(&causal.n, sizeof causal.n);
        }
        r2_examples_free(&ctx, &examples);
    }
    free(evidence);
    return s;
}

static r2_status stage_save(void) {
    r2_status s;
    restore();
    if (old_run) run.model.param[0] += 1.0f;
    s = r2_run_save(&ctx, &run, folder);
    restore();
    return s;
}

static r2_status stage_load_model(void) {
    r2_status s;
    restore();
    run.model.param[0] += 1.0f;
    s = r2_run_load_model(&ctx, &run, folder);
    if (s == R2_OK) add(run.model.param, (size_t)run.model.n_params * sizeof(float));
    restore();
    return s;
}

static r2_status stage_adapters(void) {
    r2_model model;
    r2_lora_config config = r2_lora_config_default();
    r2_status s = r2_model_load_dir(&ctx, &model, "tests/cases/data/model", 0, false);
    if (s != R2_OK) return s;
    s = r2_lora_load(&ctx, &model, "tests/cases/data/adapter");
    if (s == R2_OK) s = r2_lora_save(&ctx, &model, folder);
    if (s == R2_OK) s = r2_lora_merge(&ctx, &model);
    if (s == R2_OK) s = r2_model_save_dir(&ctx, &model, folder);
    if (s == R2_OK) add(model.param, (size_t)model.n_params * sizeof(float));
    r2_lora_detach(&ctx, &model);
    config.rank = 2;
    if (s == R2_OK) s = r2_lora_attach(&ctx, &model, &config);
    r2_model_free(&ctx, &model);
    if (s == R2_OK) s = r2_model_load_dir(&ctx, &model, folder, 0, true);
    if (s == R2_OK) add(model.param, (size_t)model.n_params * sizeof(float));
    if (s == R2_OK) r2_model_free(&ctx, &model);
    return s;
}

static r2_status stage_tokenizer(void) {
    static const char text[] = "the cat the hat a\xCC\x81 123 the that";
    r2_bpe_config config = r2_bpe_config_default();
    r2_message message = {"user", "the cat"};
    r2_tokens ids = {NULL, 0, {NULL, false}};
    r2_text back = {NULL, 0, 0, false};
    r2_bpe bpe;
    r2_status s;
    config.n_tokens = 280, config.nfc = true;
    s = r2_bpe_train(&ctx, &bpe, &config, text, strlen(text));
    if (s != R2_OK) return s;
    s = r2_bpe_save(&ctx, &bpe, in("tokenizer.json"));
    r2_bpe_free(&ctx, &bpe);
    if (s != R2_OK) return s;
    s = r2_bpe_load(&ctx, &bpe, in("tokenizer.json"));
    if (s != R2_OK) return s;
    s = r2_bpe_encode(&ctx, &bpe, text, strlen(text), true, &ids);
    if (s == R2_OK) s = r2_bpe_chat(&ctx, &bpe, &message, 1, true, &ids);
    if (s == R2_OK) s = r2_bpe_decode(&ctx, &bpe, ids.id, ids.n, true, &back);
    if (s == R2_OK) add_text(&back), add(ids.id, (size_t)ids.n * sizeof *ids.id);
    r2_tokens_free(&ctx, &ids);
    r2_text_free(&ctx, &back);
    r2_bpe_free(&ctx, &bpe);
    return s;
}

static r2_status stage_records(void) {
    r2_prompt_config config = r2_prompt_config_default();
    r2_teacher_config rules = r2_teacher_config_default();
    r2_teacher teacher = {r2_teacher_rules, NULL, "rules", false, NULL};
    r2_records records, again;
    r2_text text = {NULL, 0, 0, false};
    r2_status s;
    memset(&records, 0, sizeof records);
    memset(&again, 0, sizeof again);
    teacher.write_data = &rules;
    config.data = &run.data, config.codebook = &run.codebook;
    s = r2_teach(&ctx, &config, run.evidence, 4, 0, &teacher, &records);
    config.words = R2_WORDS_ENGLISH, teacher.guided = true;
    if (s == R2_OK) s = r2_teach(&ctx, &config, run.evidence, 4, 4, &teacher, &records);
    if (s == R2_OK) s = r2_records_write(&ctx, &records, in("records.json"));
    if (s == R2_OK) s = r2_records_read(&ctx, &again, in("records.json"));
    for (int64_t k = 0; s == R2_OK && k < again.n; ++k) r2_record_line(&ctx, &again.record[k], &text);
    if (s == R2_OK && text.failed) s = ctx.status;
    if (s == R2_OK) add_text(&text);
    r2_text_free(&ctx, &text);
    r2_records_free(&ctx, &records);
    r2_records_free(&ctx, &again);
    return s;
}

static r2_status stage_words(void) {
    r2_vocab vocab;
    r2_codebook book = run.codebook;
    r2_status s;
    memset(&vocab, 0, sizeof vocab);
    s = r2_vocab_save(&ctx, &run.vocab, in("vocab.txt"));
    if (s == R2_OK) s = r2_codebook_save(&ctx, &run.codebook, in("codebook.json"));
    if (s == R2_OK) s = r2_vocab_load(&ctx, &vocab, in("vocab.txt"));
    if (s == R2_OK) s = r2_codebook_load(&ctx, &book, in("codebook.json"));
    if (s == R2_OK) add(&book, sizeof book), add(&vocab.n_words, sizeof vocab.n_words);
    r2_vocab_free(&ctx, &vocab);
    return s;
}

/* Held-out interactions in files of their own, the whole catalogue, MovieLens 100K and RecBole. */
static r2_status stage_given(void) {
    uint32_t catalogue[64];
    r2_split split;
    r2_data data;
    r2_status s = r2_split_given(&ctx, &split, &run.data, NULL, input("valid.csv"), input("test.csv"), NULL);
    if (s != R2_OK) return s;
    add(split.role, (size_t)run.data.n_ratings);
    s = r2_split_warm(&ctx, &split, &run.data, 2);
    if (s == R2_OK && split.n_test > 0) {
        const int64_t n = r2_candidates_catalogue(&run.data, split.test[0], catalogue);
        add(catalogue, (size_t)n * sizeof *catalogue);
    }
    r2_split_free(&ctx, &split);
    for (int k = 0; s == R2_OK && k < 2; ++k) {
        s = r2_data_load(&ctx, &data, input(k ? "recbole" : "100k"));
        if (s != R2_OK) return s;
        s = report(&data);
        r2_data_free(&ctx, &data);
    }
    return s;
}

/* Evidence of other chains and of earlier steps. */
static r2_status stage_steps(void) {
    enum { N = 12 };
    static r2_evidence evidence[N];
    r2_chain_config chains = run.config.chains;
    const r2_draw_config draw = {4, 2, 2, 1, 3};
    r2_question question[N];
    int64_t n_drawn;
    r2_status s = r2_questions_draw(&ctx, &run.index, &draw, question, &n_drawn);
    for (int law = 0; s == R2_OK && law < 3; ++law) {
        chains.law = (r2_chain_law)law;
        s = r2_evidence_compute(&ctx, &run.index, question, n_drawn * 3, &chains, evidence);
        for (int64_t q = 0; s == R2_OK && q < n_drawn * 3; ++q)
            add(evidence[q].value, sizeof evidence[q].value);
    }
    for (int32_t step = 1; s == R2_OK && step < R2_STEP_ASK; ++step)
        for (int64_t q = 0; s == R2_OK && q < n_drawn * 3; ++q) {
            r2_evidence earlier = evidence[q];
            if (earlier.n_chains == 0) continue;
            s = r2_evidence_of_step(&ctx, &run.index, step, 1, &run.config.chains, &earlier);
            if (s == R2_OK) add(earlier.value, sizeof earlier.value);
        }
    return s;
}

/* A run whose parts are all taken: files of its own, earlier steps, a hook. */
static r2_status nothing_more(r2_ctx *c, void *hook_data, const r2_run *r, const r2_question *question,
                              int64_t n, r2_evidence *evidence) {
    (void)c, (void)hook_data, (void)r, (void)question, (void)n, (void)evidence;
    return R2_OK;
}

static r2_status stage_init_all(void) {
    static r2_run fresh;
    r2_run_config c = small_config();
    char valid[400], test[400];
    r2_status s;
    snprintf(valid, sizeof valid, "%s", input("valid.csv"));
    snprintf(test, sizeof test, "%s", input("test.csv"));
    c.valid_path = valid, c.test_path = test, c.step_share = 0.5f, c.evidence_hook = nothing_more;
    c.model.qkv_bias = true;
    s = r2_run_init(&ctx, &fresh, RATINGS, &c);
    if (s == R2_OK) s = report(&fresh.data);
    if (s == R2_OK) s = r2_run_sft(&ctx, &fresh);
    if (s == R2_OK) add(fresh.model.param, (size_t)fresh.model.n_params * sizeof(float));
    r2_run_free(&ctx, &fresh);
    return s;
}

/* The model of another run: the words and weights of its buckets. */
static r2_status stage_borrow(void) {
    r2_status s;
    restore();
    s = r2_run_borrow_model(&ctx, &run, input("run"));
    if (s == R2_OK) add(run.model.param, (size_t)run.model.n_params * sizeof(float));
    restore();
    return s;
}

/* Every schedule in both languages, drawn for a person; other people's outputs; the tally. */
static r2_status stage_explain(void) {
    static const char output[] = "<think> Person A gave \"Film \"\"1\"\"\" 4 stars. </think> <answer> 4 </answer>";
    r2_prompt_config config = r2_prompt_config_default();
    r2_teacher_config rules = r2_teacher_config_default();
    r2_tally tally;
    r2_teacher write = {r2_teacher_rules, NULL, "rules", false, &tally},
               again = {r2_teacher_rules, NULL, "again", false, NULL};
    r2_records records, copies;
    r2_prompt prompt;
    r2_task task = {0, &config, &run.evidence[0], &prompt, -1};
    r2_text text = {NULL, 0, 0, false};
    r2_status s = R2_OK;
    memset(&prompt, 0, sizeof prompt);
    memset(&records, 0, sizeof records);
    memset(&copies, 0, sizeof copies);
    memset(&tally, 0, sizeof tally);
    write.write_data = again.write_data = &rules;
    config.data = &run.data, config.codebook = &run.codebook;
    for (int k = 0; s == R2_OK && k < R2_N_WORDS * R2_N_SCHEDULES; ++k) {
        config.words = (r2_words)(k / R2_N_SCHEDULES), config.schedule = (r2_schedule)(k % R2_N_SCHEDULES);
        s = r2_prompt_build(&ctx, &config, task.evidence, &prompt);
        if (s == R2_OK) s = r2_prompt_explain(&ctx, &task, k % 2 ? output : NULL, &text);
    }
    if (s == R2_OK) s = r2_teach(&ctx, &config, run.evidence, 3, 0, &write, &records);
    if (s == R2_OK) s = r2_teach(&ctx, &config, run.evidence, 3, 0, &again, &copies);
    r2_tally_report(&ctx, &tally, &text);
    if (s == R2_OK && text.failed) s = ctx.status;
    if (s == R2_OK) add_text(&text), add(&copies.n, sizeof copies.n);
    r2_text_free(&ctx, &text);
    r2_prompt_free(&ctx, &prompt);
    r2_records_free(&ctx, &records);
    r2_records_free(&ctx, &copies);
    return s;
}

/* A language model learns and scores records in English, through adapters. */
static r2_status stage_language(void) {
    static const char marks[] = "<think> </think> <answer> </answer> <think> </think> <answer> </answer>";
    static const char line[] = "<think> I see. </think> <answer> 4 </answer>";
    r2_record record = {0, 1, 4, 1, 0, 4, "0", "1", "progressive", "english", "hand", "You rank films.",
                        "Would they take it?", line};
    r2_model_config shape = r2_model_config_default();
    r2_lora_config lora = r2_lora_config_default();
    r2_sft_config sft = small_config().sft;
    r2_score_config how = r2_score_config_default();
    r2_records records;
    r2_examples examples;
    r2_codec codec;
    r2_model model;
    r2_bpe bpe;
    float score[2];
    r2_bpe_config config = r2_bpe_config_default();
    r2_status s;
    config.n_tokens = 300;
    s = r2_bpe_train(&ctx, &bpe, &config, marks, strlen(marks));
    if (s != R2_OK) return s;
    memset(&records, 0, sizeof records);
    memset(&examples, 0, sizeof examples);
    memset(&model, 0, sizeof model);
    s = r2_codec_init(&ctx, &codec, r2_tokenizer_bpe(&bpe), r2_check_english, NULL);
    for (int k = 0; s == R2_OK && k < 2; ++k) {
        s = r2_records_add(&ctx, &records, &record);
        record.id = 1, record.answer = 0, record.output = "<think> No. </think> <answer> 0 </answer>";
    }
    if (s == R2_OK) s = r2_examples_from_records(&ctx, &examples, &codec, &records, 2);
    shape.n_vocab = bpe.n_tokens, shape.n_layer = 1, shape.n_head = 2, shape.n_kv_head = 1, shape.d_model = 8;
    shape.d_ff = 8, shape.n_ctx = 2 * examples.longest + 16, shape.qkv_bias = true;
    if (s == R2_OK) s = r2_model_init(&ctx, &model, &shape, false);
    lora.rank = 2, sft.n_steps = 1, sft.groups = 1, sft.valid = &examples;
    if (s == R2_OK) s = r2_lora_attach(&ctx, &model, &lora);
    model.recompute = true;
    if (s == R2_OK) s = r2_sft(&ctx, &model, &examples, &sft);
    how.mode = R2_REASONED, how.max_new = 4;
    if (s == R2_OK) s = r2_score(&ctx, &model, &examples, &how, score, NULL);
    if (s == R2_OK) add(score, sizeof score);
    if (s == R2_OK) s = r2_lora_merge(&ctx, &model);
    if (s == R2_OK) s = r2_lora_unmerge(&ctx, &model);
    r2_model_free(&ctx, &model);
    r2_examples_free(&ctx, &examples);
    r2_records_free(&ctx, &records);
    r2_bpe_free(&ctx, &bpe);
    return s;
}

/* Weights in shards and in a file, copied; outputs of a model. */
static r2_status stage_weights(void) {
    static const int64_t begin[] = {0, 2, 5};
    static const int32_t token[] = {1, 2, 3, 4, 5};
    r2_generate_config how = r2_generate_config_default();
    r2_generation out;
    r2_model model, copy;
    r2_status s = r2_model_load_dir(&ctx, &model, input("shards"), 0, false);
    if (s != R2_OK) return s;
    s = r2_model_init(&ctx, &copy, &model.config, false);
    if (s == R2_OK) s = r2_model_copy(&ctx, &copy, &model);
    if (s == R2_OK) s = r2_model_save(&ctx, &copy, in("weights"));
    if (s == R2_OK) s = r2_model_load(&ctx, &copy, in("weights"));
    how.n_samples = 2, how.max_new = 4, how.n_watch = 2, how.watch = token;
    if (s == R2_OK) s = r2_generate(&ctx, &copy, &how, 2, begin, token, &out);
    if (s == R2_OK) {
        add(out.token, (size_t)(out.n_out * out.max_new) * sizeof *out.token);
        add(out.watch_logp, (size_t)(out.n_out * out.n_watch) * sizeof(float));
        r2_generation_free(&ctx, &out);
    }
    r2_model_free(&ctx, &model);
    r2_model_free(&ctx, &copy);
    return s;
}

static const struct {
    const char *name;
    r2_status (*run)(void);
    bool is_one; /* what it writes is one thing, all old or all new */
} stages[] = {
    {"load", stage_load, false}, {"sets", stage_sets, false}, {"chains", stage_chains, false},
    {"init", stage_init, false}, {"sft", stage_sft, false}, {"grpo", stage_grpo, false}, {"state", stage_state, false},
    {"score", stage_score, false}, {"counterfactual", stage_counterfactual, false},
    {"save", stage_save, true}, {"load-model", stage_load_model, false},
    {"adapters", stage_adapters, false}, {"tokenizer", stage_tokenizer, false},
    {"records", stage_records, false}, {"words", stage_words, false},
    {"given", stage_given, false}, {"steps", stage_steps, false}, {"init-all", stage_init_all, false},
    {"borrow", stage_borrow, false}, {"explain", stage_explain, false},
    {"language", stage_language, false}, {"weights", stage_weights, false}};
enum { N_STAGES = sizeof stages / sizeof *stages };

/* --- files that lie in the folder ------------------------------------------------------------------- */

enum { MAX_FILES = 24 };
typedef struct files {
    int n;
    char name[MAX_FILES][64];
    uint64_t hash[MAX_FILES];
} files;

static uint64_t hash_of(const char *path) {
    FILE *f = fopen(path, "rb");
    uint64_t hash = 0xCBF29CE484222325u;
    for (int c; f && (c = getc(f)) != EOF;) hash = (hash ^ (unsigned)c) * 0x100000001B3u;
    if (f) fclose(f);
    return hash;
}

static files look(void) {
    files all;
    DIR *d = opendir(folder);
    memset(&all, 0, sizeof all);
    for (struct dirent *e; d && (e = readdir(d)) && all.n < MAX_FILES;) {
        if (e->d_name[0] == '.' && (!e->d_name[1] || e->d_name[1] == '.')) continue;
        snprintf(all.name[all.n], sizeof *all.name, "%.60s", e->d_name);
        all.hash[all.n++] = hash_of(in(e->d_name));
    }
    if (d) closedir(d);
    return all;
}

static uint64_t of(const files *all, const char *name) {
    for (int k = 0; k < all->n; ++k)
        if (!strcmp(all->name[k], name)) return all->hash[k];
    return 0;
}

static void empty_folder(void) {
    files all = look();
    for (int k = 0; k < all.n; ++k) unlink(in(all.name[k]));
}

/* --- points ----------------------------------------------------------------------------------------- */

static int at_stage;
static long n_points, n_wrong, n_ok;

/* Called by the sanitizer before it reports, and by a signal. */
void __asan_on_error(void);
void __asan_on_error(void) {
    fprintf(stderr, "CRASH in stage %s, kind %s, point %ld\n", stages[at_stage].name, kind_name[now.kind], now.point);
}
static void on_signal(int sig) {
    (void)sig;
    __asan_on_error();
    _exit(99);
}

static void wrong(const char *what, const char *more) {
    if (++n_wrong <= 200)
        printf("FAILED: stage %s, kind %s, point %ld: %s%s (%s)\n", stages[at_stage].name,
               kind_name[now.kind], now.point, what, more, ctx.message);
}

/* Files of a failed stage: each one old or new, nothing beside them. */
static void check_files(const files *before, const files *after_all, bool is_one) {
    files here = look();
    for (int k = 0; k < here.n; ++k) {
        uint64_t old = of(before, here.name[k]), fresh, hash = here.hash[k];
        char *end = strstr(here.name[k], ".tmp");
        if (end && is_one) *end = '\0'; /* not renamed any more, but whole */
        fresh = of(after_all, here.name[k]);
        if (!old && !fresh) wrong("left behind: ", here.name[k]);
        else if (hash != old && hash != fresh) wrong("a torn file: ", here.name[k]);
    }
}

/* A run whose saving failed is the old one or, if that only lacked renames, the new one. */
static void check_run(void) {
    const failure kind = now.kind;
    float at_first = 0.0f;
    now.kind = N_KINDS;
    memset(run.model.param, 0, (size_t)run.model.n_params * sizeof(float));
    if (r2_run_load_model(&ctx, &run, folder) != R2_OK) wrong("the run cannot be loaded any more", "");
    at_first = run.model.param[0];
    if (at_first != trained[0] && at_first != trained[0] + 1.0f) wrong("weights of no run", "");
    if (memcmp(run.model.param + 1, trained + 1, (size_t)(run.model.n_params - 1) * sizeof(float)))
        wrong("other weights", "");
    restore();
    now.kind = kind;
}

/* The number that the next file would get: higher when one stays open. */
static int lowest_free(void) {
    int number = dup(0);
    close(number);
    return number;
}

static void one_point(failure k, long point, const files *before, const files *after_all, uint64_t right) {
    long blocks = now.blocks;
    const int free_number = lowest_free();
    r2_status s;
    now.kind = k, now.point = point, now.n_memory = now.n_file = now.failed = 0;
    digest = 0xCBF29CE484222325u;
    ctx.message[0] = '\0';
    ctx.status = R2_OK;
    told = false;
    s = stages[at_stage].run();
    ++n_points;
    if (now.blocks != blocks) wrong("memory is not given back", "");
    if (lowest_free() != free_number) wrong("a file stays open", "");
    now.blocks = blocks;
    if (s == R2_OK) {
        ++n_ok;
        if (digest != right && !told) wrong("ok with another result", "");
    } else if (!now.failed) {
        wrong("an error although nothing failed: ", r2_status_name(s));
    } else {
        bool memory = k == MEMORY || k == MEMORY_AFTER;
        if (s != (memory ? R2_NO_MEMORY : R2_IO)) wrong("the wrong status: ", r2_status_name(s));
        if (!ctx.message[0]) wrong("no sentence", "");
    }
    if (stages[at_stage].is_one) check_run();
    check_files(before, after_all, stages[at_stage].is_one);
    now.kind = N_KINDS;
}

static void torture_stage(int stage, int only_kind, long only_point, long stride) {
    files before, after_all;
    uint64_t right;
    long n[N_KINDS] = {0}, began = n_points, wrong_before = n_wrong, ok_before = n_ok;
    at_stage = stage;
    now.kind = N_KINDS;
    if (stages[stage].run != stage_load_model) empty_folder();
    old_run = true;
    if (stages[stage].is_one) stages[stage].run();
    old_run = false;
    before = look();
    now.kind = NOTHING, now.point = 0, now.n_memory = now.n_file = 0;
    memory_sites.n = file_sites.n = 0;
    digest = 0xCBF29CE484222325u;
    if (stages[stage].run() != R2_OK) {
        wrong("fails by itself", "");
        return;
    }
    right = digest;
    n[MEMORY] = n[MEMORY_AFTER] = now.n_memory;
    n[FILES] = n[FILES_AFTER] = n[SHORT] = n[INTERRUPTED] = now.n_file;
    now.kind = N_KINDS;
    after_all = look();
    for (int k = MEMORY; k < N_KINDS; ++k) {
        if (only_kind && k != only_kind) continue;
        const struct sites *sites = k < FILES ? &memory_sites : &file_sites;
        const long last = only_point ? 1 : by_site ? sites->n : n[k];
        for (long j = 0; j < last; j += stride) {
            const long p = only_point ? only_point : by_site ? sites->first[j] : j + 1;
            if (stages[stage].is_one) { /* begin again with the old run */
                old_run = true;
                stages[stage].run();
                old_run = false;
            }
            one_point((failure)k, p, &before, &after_all, right);
        }
    }
    printf("%-15s %6ld allocations %5ld file operations, %6ld points, %5ld ok all the same, %ld wrong\n",
           stages[stage].name, n[MEMORY], n[FILES], n_points - began, n_ok - ok_before, n_wrong - wrong_before);
    fflush(stdout);
}

/* --- what is read ----------------------------------------------------------------------------------- */

static void write_input(const char *name, const char *text, size_t len) {
    FILE *f = fopen(input(name), "wb");
    if (!f || fwrite(text, 1, len, f) != len || fclose(f) != 0) exit(2);
}

static void write_inputs(void) {
    static const char *const directories[] = {"", "100k", "recbole", "run", "shards"};
    static const char *const texts[][2] = {
        {"valid.csv", "userId,movieId,rating,timestamp\n0,35,4,1796\n2,23,4.5,1558\n3,1,5,1777\n"},
        {"test.csv", "userId,movieId,rating,timestamp\n0,9,4,1924\n2,7,5,1776\n3,34,4.5,1947\n"},
        {"100k/u.data", "1\t2\t3\t881250949\n1\t1\t5\t881250950\n2\t1\t4\t881250951\n"},
        {"100k/u.item", "1|Toy Story (1995)|01-Jan-1995||http|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"},
        {"recbole/recbole.inter", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
                                  "a\tx\t1\t5\na\ty\t2\t6\n"},
        {"recbole/recbole.item", "item_id:token\tmovie_title:token_seq\nx\tFilm\n"}};
    r2_text text = {NULL, 0, 0, false};
    char *at;
    snprintf(inputs, sizeof inputs, "%s.in", folder);
    for (size_t k = 0; k < sizeof directories / sizeof *directories; ++k) mkdir(input(directories[k]), 0700);
    for (size_t k = 0; k < sizeof texts / sizeof *texts; ++k)
        write_input(texts[k][0], texts[k][1], strlen(texts[k][1]));
    r2_read_file(&ctx, "tests/cases/data/model/config.json", &text);
    write_input("shards/config.json", text.data, text.len);
    r2_read_file(&ctx, "tests/cases/data/model/model.safetensors", &text);
    write_input("shards/a.safetensors", text.data, text.len);
    r2_read_file(&ctx, "tests/cases/weights-inv-freq/index.json", &text);
    at = text.data ? strstr(text.data, ",\n  \"model.layers.0.self_attn.rotary_emb") : NULL;
    if (!at) exit(2); /* a second shard, which is not wanted here */
    memcpy(at, "}}", 2);
    write_input("shards/model.safetensors.index.json", text.data, (size_t)(at + 2 - text.data));
    r2_text_free(&ctx, &text);
}

static void remove_all(const char *path) {
    char inside[800];
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.' && (!e->d_name[1] || e->d_name[1] == '.')) continue;
        snprintf(inside, sizeof inside, "%s/%s", path, e->d_name);
        remove_all(inside);
    }
    if (d) closedir(d);
    remove(path);
}

int main(int n, char **a) {
    cJSON_Hooks hooks = {json_take, json_give};
    r2_run_config config = small_config();
    long stride = 1, only_point = 0;
    int only_kind = 0;
    const char *only = NULL;
    ctx = r2_ctx_default();
    ctx.n_threads = 1;
    for (int k = 1; k < n; ++k) {
        if (!strncmp(a[k], "stride=", 7)) stride = atol(a[k] + 7);
        else if (!strncmp(a[k], "sites=", 6)) by_site = atoi(a[k] + 6) > 0;
        else if (!strncmp(a[k], "threads=", 8)) ctx.n_threads = atoi(a[k] + 8);
        else if (!strncmp(a[k], "only=", 5)) only = a[k] + 5;
        else if (!strncmp(a[k], "point=", 6)) only_point = atol(a[k] + 6), show_stack = 1;
        else if (!strncmp(a[k], "kind=", 5)) {
            for (int j = 1; j < N_KINDS; ++j)
                if (!strcmp(a[k] + 5, kind_name[j])) only_kind = j;
        } else return fprintf(stderr, "torture: option %s?\n", a[k]), 2;
    }
    if (stride < 1) stride = 1;
    if (by_site) ctx.n_threads = 1; /* so that a call has the same number each time */
    signal(SIGSEGV, on_signal), signal(SIGABRT, on_signal), signal(SIGFPE, on_signal);
    snprintf(folder, sizeof folder, "%s/r2torture.XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(folder)) return 2;
    write_inputs();
    cJSON_InitHooks(&hooks);
    ctx.realloc_fn = take;
    ctx.file = file_fails;
    now.kind = N_KINDS;
    if (r2_run_init(&ctx, &run, RATINGS, &config) != R2_OK || r2_run_sft(&ctx, &run) != R2_OK)
        return fprintf(stderr, "torture: %s\n", ctx.message), 2;
    trained = malloc((size_t)run.model.n_params * sizeof(float));
    memcpy(trained, run.model.param, (size_t)run.model.n_params * sizeof(float));
    if (r2_run_save(&ctx, &run, input("run")) != R2_OK) return 2;
    for (int k = 0; k < N_STAGES; ++k) {
        if (only && strcmp(only, stages[k].name)) continue;
        if (only && stages[k].run == stage_load_model) stage_save();
        torture_stage(k, only_kind, only_point, stride);
    }
    remove_all(folder);
    remove_all(inputs);
    free(trained);
    r2_run_free(&ctx, &run);
    printf("%ld points, %ld of them ok all the same, %ld wrong\n", n_points, n_ok, n_wrong);
    printf("# %ld %ld 0\n", n_points - (n_wrong < n_points ? n_wrong : n_points), n_wrong);
    return n_wrong > 0;
}

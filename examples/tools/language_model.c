/* language_model.c: a language model in the loop. It reads the chains and facts of a question in
   English, and learns to reason and to answer: zero-shot, supervised fine-tuning of low-rank
   adapters (LoRA), GRPO, ranking. Loops, candidates and baselines are those of the demo.

       language_model --model DIR   a Hugging Face directory: Llama or Qwen2, with tokenizer.json
       language_model               makes such a directory first, from nothing

   The prompts are those of language.h, as a conversation where the tokenizer has ChatML. */
#define _POSIX_C_SOURCE 200809L /* access, isatty, mkdir, getrusage */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cjson/cJSON.h>

#include "../common/baselines.h"
#include "../common/options.h"
#include "../common/output.h"
#include "language.h"

/* ---- what the command line asks for ---- */

typedef struct lm_options {
    const char *data, *model, *adapters, *out;
    r2_format format;
    int64_t seed, threads, questions, cases, rank, batch;
    int64_t scratch_steps, sft_steps, grpo_steps;
    double rate; /* 0: the default */
    bool cold, validation, resume;
} lm_options;

static const char usage[] =
    "[options]\n"
    "  --model DIR      a Hugging Face directory: Llama or Qwen2, with its tokenizer.json\n"
    "                   (default: a small Llama is made from nothing, in OUT/base)\n"
    "  --scratch        the default, said aloud\n"
    "  --adapters DIR   LoRA adapters to begin with, as PEFT writes them\n"
    "  --data PATH      ratings, as in movielens_demo (default data/mini)\n"
    OPTIONS_FORMAT_HELP
    "  --out DIR        where model, adapters and results go (default out)\n"
    "  --seed N         of everything drawn (default 1)\n"
    "  --threads N      default: all processors; results do not depend on it\n"
    "  --questions N    groups of training questions (default 4096)\n"
    "  --cases N        users whose items are ranked, at most (default 8192)\n"
    "  --rank N         of the adapters (default 16)\n"
    "  --batch N        groups of questions in a step of fine-tuning (default 8)\n"
    "  --rate X         highest learning rate of fine-tuning (default 0.005 x 64 / width)\n"
    "  --scratch-steps N  batches in which the model learns to read prompts (default 300; with\n"
    "                   --model 0)\n"
    "  --sft-steps N    batches of supervised fine-tuning (default 300)\n"
    "  --grpo-steps N   batches of reinforcement learning (default 20)\n"
    "  --cold           items that nobody else has rated take part, as in version 0.1.0\n"
    "  --continue       goes on with learning that was stopped or killed, to the same results\n"
    "  --validation     ranks the validation items: to choose settings without the test items\n"
    "  --help           this text\n";

static lm_options parse_options(int argc, char **argv) {
    const int64_t most = 1000000;
    bool scratch = false;
    lm_options o;
    const options_entry list[] = {{"--model", OPTIONS_TEXT, &o.model, 0, 0},
                                  {"--scratch", OPTIONS_FLAG, &scratch, true, 0},
                                  {"--adapters", OPTIONS_TEXT, &o.adapters, 0, 0},
                                  {"--data", OPTIONS_TEXT, &o.data, 0, 0},
                                  OPTIONS_FORMAT(o.format),
                                  {"--out", OPTIONS_TEXT, &o.out, 0, 0},
                                  {"--seed", OPTIONS_WHOLE, &o.seed, 0, INT64_MAX},
                                  {"--threads", OPTIONS_WHOLE, &o.threads, 1, 256},
                                  {"--questions", OPTIONS_WHOLE, &o.questions, 1, most},
                                  {"--cases", OPTIONS_WHOLE, &o.cases, 1, most},
                                  {"--rank", OPTIONS_WHOLE, &o.rank, 1, 1024},
                                  {"--batch", OPTIONS_WHOLE, &o.batch, 1, 1024},
                                  {"--rate", OPTIONS_NUMBER, &o.rate, 0, 1},
                                  {"--scratch-steps", OPTIONS_WHOLE, &o.scratch_steps, 0, most},
                                  {"--sft-steps", OPTIONS_WHOLE, &o.sft_steps, 0, most},
                                  {"--grpo-steps", OPTIONS_WHOLE, &o.grpo_steps, 0, most},
                                  {"--cold", OPTIONS_FLAG, &o.cold, true, 0},
                                  {"--continue", OPTIONS_FLAG, &o.resume, true, 0},
                                  {"--validation", OPTIONS_FLAG, &o.validation, true, 0}};
    memset(&o, 0, sizeof o);
    o.data = "data/mini", o.out = "out", o.seed = 1;
    o.questions = 4096, o.cases = 8192, o.rank = 16, o.batch = 8;
    o.scratch_steps = -1, o.sft_steps = 300, o.grpo_steps = 20;
    options_read("language_model", usage, list, sizeof list / sizeof *list, argc, argv, NULL);
    if (scratch && o.model) {
        fprintf(stderr, "language_model: expected --scratch or --model, found both\n");
        exit(2);
    }
    if (o.scratch_steps < 0) o.scratch_steps = o.model ? 0 : 300;
    return o;
}

/* ---- the state of the program ---- */

enum { TOLD_CHAINS = 2, READ_AT_ONCE = 8 };

typedef struct lm {
    lm_options options;
    r2_ctx ctx;
    r2_run run; /* data, split, candidates, questions, evidence, codebook */
    r2_text base; /* the model's directory */
    r2_bpe bpe;
    r2_codec codec;
    r2_model model;
    r2_examples train, asked;    /* asked: of the candidates that are ranked, case after case */
    const r2_candidates *ranked; /* the test candidates, or those of validation               */
    float *score;                /* (n_cases, n_per_case) of these                            */
    int32_t max_new;             /* tokens of an output                                       */
    cJSON *rows;                 /* of language.json                                          */
} lm;

/* ---- progress and errors ---- */

/* The time left, at most every second on a terminal, every 15 elsewhere. */
static int show_progress(void *hook_data, const char *what, int64_t done, int64_t total) {
    static char task[32];
    static double began, shown;
    const double now = r2_seconds(), every = isatty(2) ? 1.0 : 15.0;
    (void)hook_data;
    if (strncmp(task, what, sizeof task - 1) != 0 || done <= 1) {
        snprintf(task, sizeof task, "%s", what);
        began = shown = now;
    }
    if (now - shown >= every && done < total) {
        fprintf(stderr, "%s  %s: %lld of %lld, %.0f s left%s", every < 2.0 ? "\r" : "", what,
                (long long)done, (long long)total,
                (now - began) * (double)(total - done) / (double)done, every < 2.0 ? "   " : "\n");
        shown = now;
    }
    if (every < 2.0 && done == total) fprintf(stderr, "\r%60s\r", "");
    return options_stop != 0;
}

static void check(lm *m, r2_status status);

/* The path of a directory below OUT, made if need be; to be freed. */
static r2_text below(lm *m, const char *name) {
    r2_text path = {NULL, 0, 0, false};
    r2_text_addf(&m->ctx, &path, "%s/%s", m->options.out, name);
    if (path.failed) check(m, R2_NO_MEMORY);
    options_directory("language_model", path.data);
    return path;
}

static void save_adapters(lm *m) {
    r2_text path = below(m, "adapters");
    check(m, r2_lora_save(&m->ctx, &m->model, path.data));
    r2_text_free(&m->ctx, &path);
}

static void save_base(lm *m) {
    r2_text path = {NULL, 0, 0, false};
    check(m, r2_model_save_dir(&m->ctx, &m->model, m->base.data));
    r2_text_addf(&m->ctx, &path, "%s/tokenizer.json", m->base.data);
    if (path.failed) check(m, R2_NO_MEMORY);
    check(m, r2_bpe_save(&m->ctx, &m->bpe, path.data));
    r2_text_free(&m->ctx, &path);
}

static void check(lm *m, r2_status status) {
    if (status == R2_OK) return;
    if (status == R2_CANCELLED) options_stopped("language_model");
    fprintf(stderr, "language_model: %s\n", m->ctx.message);
    exit(1);
}

static void *need(lm *m, void *memory) {
    if (!memory) check(m, R2_NO_MEMORY);
    return memory;
}

/* ---- prompts in English ---- */

typedef r2_status (*lm_each_fn)(lm *m, void *hook_data, const char *prompt, const char *thoughts,
                                int32_t answer);

/* Hands on the prompt, the teacher's thoughts and the answer of each of n questions. */
static r2_status each_question(lm *m, const r2_evidence *evidence, int64_t n, lm_each_fn each,
                               void *hook_data) {
    const r2_codebook *codebook = &m->run.codebook;
    r2_text prompt = {NULL, 0, 0, false}, thoughts = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    for (int64_t q = 0; q < n && status == R2_OK; ++q) {
        r2_text_clear(&prompt);
        r2_text_clear(&thoughts);
        lang_prompt(&m->ctx, &m->run.data, codebook, &evidence[q], TOLD_CHAINS, &prompt);
        if (prompt.failed) status = R2_NO_MEMORY;
        if (status == R2_OK)
            status = lang_teach(&m->ctx, codebook, &m->run.config.teacher, prompt.data,
                                (uint64_t)q, &thoughts);
        if (status == R2_OK) status = each(m, hook_data, prompt.data, thoughts.data, evidence[q].answer);
    }
    r2_text_free(&m->ctx, &prompt);
    r2_text_free(&m->ctx, &thoughts);
    return status;
}

static r2_status add_record(lm *m, void *hook_data, const char *prompt, const char *thoughts,
                            int32_t answer) {
    r2_records *records = (r2_records *)hook_data;
    r2_record record;
    memset(&record, 0, sizeof record);
    record.id = records->n;
    record.step = R2_STEP_ASK;
    record.user = record.item = "";
    record.schedule = r2_schedule_name(m->run.config.schedule);
    record.words = r2_words_name(R2_WORDS_ENGLISH);
    record.source = "rules";
    record.system = lang_system;
    record.prompt = prompt;
    record.output = thoughts;
    record.answer = answer;
    return r2_records_add(&m->ctx, records, &record);
}

static void make_examples(lm *m, const r2_evidence *evidence, int64_t n, int32_t group,
                          r2_examples *examples) {
    r2_records records;
    memset(&records, 0, sizeof records);
    check(m, each_question(m, evidence, n, add_record, &records));
    check(m, r2_examples_from_records(&m->ctx, examples, &m->codec, &records, group));
    r2_records_free(&m->ctx, &records);
}

/* Examples of all candidates that are ranked. The compact ones of the run are for the logistic
   regression. */
static void make_asked(lm *m, r2_examples *compact) {
    const r2_candidates *c = m->ranked;
    const int64_t n = c->n_cases * c->n_per_case;
    r2_evidence *evidence;
    evidence = (r2_evidence *)need(m, r2_alloc(&m->ctx, (uint64_t)n, sizeof *evidence));
    m->score = (float *)need(m, r2_alloc(&m->ctx, (uint64_t)n, sizeof *m->score));
    check(m, r2_run_candidate_prompts(&m->ctx, &m->run, c, evidence, compact));
    make_examples(m, evidence, n, 1, &m->asked);
    r2_release(&m->ctx, evidence);
}

/* ---- a directory from nothing ---- */

static r2_status add_text(lm *m, void *hook_data, const char *prompt, const char *thoughts,
                          int32_t answer) {
    r2_text *text = (r2_text *)hook_data;
    (void)answer;
    r2_text_addf(&m->ctx, text, "system\n%s\nuser\n%s\nassistant\n%s\n", lang_system, prompt,
                 thoughts);
    return text->failed ? R2_NO_MEMORY : R2_OK;
}

/* A tokenizer of the prompts and thoughts of the first training questions. A number is one token,
   and so is each mark. */
static void make_tokenizer(lm *m) {
    static const char *const control[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>",
                                          "</think>",      "<answer>",     "</answer>"};
    const int64_t most = 20000;
    r2_bpe_config config = r2_bpe_config_default();
    r2_text text = {NULL, 0, 0, false};
    config.rule = R2_BPE_GPT2;
    config.n_tokens = 2048;
    config.control = control;
    config.n_control = sizeof control / sizeof *control;
    check(m, each_question(m, m->run.evidence, m->run.n_train < most ? m->run.n_train : most,
                           add_text, &text));
    check(m, r2_bpe_train(&m->ctx, &m->bpe, &config, text.data, text.len));
    r2_text_free(&m->ctx, &text);
}

/* A small Llama, untrained. */
static void make_model(lm *m) {
    r2_model_config config = r2_model_config_default();
    config.n_vocab = m->bpe.n_tokens;
    config.n_layer = 2;
    config.n_head = config.n_kv_head = 2;
    config.d_model = 64;
    config.d_ff = 176;
    config.n_ctx = 1024;
    config.tied = true;
    config.seed = (uint64_t)m->options.seed;
    check(m, r2_model_init(&m->ctx, &m->model, &config, true));
}

/* ---- learning to read: every token but the first of a document is predicted ---- */

typedef struct lm_reading {
    int32_t seq_begin[READ_AT_ONCE + 1], n_row, n_pred;
    int32_t *token, *pred_row, *pred_token;
    float *logp, *dlogp;
    r2_adamw opt;
} lm_reading;

static void reading_add(lm_reading *r, const int32_t *token, int64_t n, bool predicted) {
    for (int64_t k = 0; k < n; ++k) {
        if (predicted || k > 0) {
            r->pred_row[r->n_pred] = r->n_row - 1;
            r->pred_token[r->n_pred++] = token[k];
        }
        r->token[r->n_row++] = token[k];
    }
}

/* Prompts and thoughts of training questions. The answers to them are not read: those that stand
   there, to show the form, are drawn by lot. */
static void reading_draw(const lm *m, lm_reading *r, int64_t step) {
    const r2_examples *ex = &m->train;
    const r2_markup *mark = &m->codec.markup;
    r2_rng rng = r2_rng_make((uint64_t)m->options.seed, R2_STREAM_BATCH, (uint64_t)step);
    r->n_row = r->n_pred = 0;
    for (int32_t s = 0; s < READ_AT_ONCE; ++s) {
        const int64_t e = (int64_t)r2_rng_below(&rng, (uint64_t)ex->n);
        const int64_t q = ex->prompt_begin[e], t = ex->trace_begin[e];
        r->seq_begin[s] = r->n_row;
        reading_add(r, ex->prompt + q, ex->prompt_begin[e + 1] - q, false);
        reading_add(r, ex->trace + t, ex->trace_begin[e + 1] - t, true);
        reading_add(r, mark->answer.id, mark->answer.n, true);
        reading_add(r, &mark->level[r2_rng_below(&rng, R2_N_ANSWERS)], 1, true);
        reading_add(r, mark->answer_end.id, mark->answer_end.n, true);
    }
    r->seq_begin[READ_AT_ONCE] = r->n_row;
}

static r2_status reading_step(lm *m, lm_reading *r, float lr, double *loss) {
    const r2_batch batch = {READ_AT_ONCE, r->seq_begin,  r->token, r->n_pred,
                            r->pred_row,  r->pred_token, NULL};
    r2_status status = r2_forward(&m->ctx, &m->model, &batch, r->logp, NULL);
    *loss = 0.0;
    for (int32_t k = 0; k < r->n_pred && status == R2_OK; ++k) {
        *loss -= (double)r->logp[k] / r->n_pred;
        r->dlogp[k] = -1.0f / (float)r->n_pred;
    }
    r2_zero_grad(&m->ctx, &m->model);
    if (status == R2_OK) status = r2_backward(&m->ctx, &m->model, &batch, r->dlogp);
    if (status == R2_OK) status = r2_adamw_step(&m->ctx, &r->opt, &m->model, lr, NULL);
    return status;
}

static void reading_free(lm *m, lm_reading *r) {
    r2_release(&m->ctx, r->token);
    r2_release(&m->ctx, r->pred_row);
    r2_release(&m->ctx, r->pred_token);
    r2_release(&m->ctx, r->logp);
    r2_release(&m->ctx, r->dlogp);
    r2_adamw_free(&m->ctx, &r->opt);
}

/* Trains all weights of the model, which has gradients, as a language model of the prompts. */
static void learn_to_read(lm *m) {
    const int64_t steps = m->options.scratch_steps;
    const uint64_t rows = READ_AT_ONCE * (uint64_t)m->train.longest;
    const r2_adamw_config config = r2_adamw_config_default();
    r2_status status = R2_OK;
    double loss = 0.0, first = 0.0;
    lm_reading r;
    r.token = (int32_t *)need(m, r2_alloc(&m->ctx, rows, sizeof *r.token));
    r.pred_row = (int32_t *)need(m, r2_alloc(&m->ctx, rows, sizeof *r.pred_row));
    r.pred_token = (int32_t *)need(m, r2_alloc(&m->ctx, rows, sizeof *r.pred_token));
    r.logp = (float *)need(m, r2_alloc(&m->ctx, rows, sizeof *r.logp));
    r.dlogp = (float *)need(m, r2_alloc(&m->ctx, rows, sizeof *r.dlogp));
    check(m, r2_adamw_init(&m->ctx, &r.opt, &m->model, &config));
    for (int64_t step = 0; step < steps && status == R2_OK; ++step) {
        reading_draw(m, &r, step);
        status = reading_step(m, &r, r2_lr_cosine(step, steps, steps / 10, 6e-3f, 0.02f), &loss);
        if (step == 0) first = loss;
        if (status == R2_OK) status = r2_progress(&m->ctx, "reading", step + 1, steps);
    }
    reading_free(m, &r);
    check(m, status);
    printf("reading: loss a token %.2f at first, %.2f at last\n", first, loss);
}

/* ---- the model ---- */

/* Says how large the weights of the directory are, before they are read. */
static void say_weights(const lm *m) {
    DIR *directory = opendir(m->base.data);
    double bytes = 0.0;
    for (struct dirent *e; directory && (e = readdir(directory));) {
        const char *end = strstr(e->d_name, ".safetensors");
        char path[2048];
        struct stat file;
        snprintf(path, sizeof path, "%s/%s", m->base.data, e->d_name);
        if (end && !end[12] && !stat(path, &file)) bytes += (double)file.st_size;
    }
    if (directory) closedir(directory);
    printf("%s: %.2f GB of weights, in memory up to twice as much, with GRPO four times\n",
           m->base.data, bytes / 1e9);
}

/* Reads the tokenizer of --model, or makes one; then the examples of the training questions. */
static void open_tokenizer(lm *m) {
    const lm_options *o = &m->options;
    r2_text path = {NULL, 0, 0, false};
    if (o->model) {
        r2_text_addf(&m->ctx, &m->base, "%s", o->model);
        r2_text_addf(&m->ctx, &path, "%s/tokenizer.json", o->model);
        if (m->base.failed || path.failed) check(m, R2_NO_MEMORY);
        check(m, r2_bpe_load(&m->ctx, &m->bpe, path.data));
        r2_text_free(&m->ctx, &path);
    } else {
        m->base = below(m, "base");
        make_tokenizer(m);
    }
    check(m, r2_codec_init(&m->ctx, &m->codec, r2_tokenizer_bpe(&m->bpe), lang_check,
                           &m->run.codebook));
    make_examples(m, m->run.evidence, m->run.n_train, 1 + m->run.config.n_sampled, &m->train);
    for (int64_t e = 0; e < m->train.n; ++e) {
        const int64_t n = m->train.trace_begin[e + 1] - m->train.trace_begin[e];
        if (n > m->max_new) m->max_new = (int32_t)n;
    }
    m->max_new += m->codec.markup.answer.n + 1 + m->codec.markup.answer_end.n;
}

/* The model of the directory, made first where there is none, with adapters. */
static void open_model(lm *m) {
    const lm_options *o = &m->options;
    const bool reads = !o->model || o->scratch_steps > 0;
    r2_lora_config lora = r2_lora_config_default();
    int32_t n_ctx = m->train.longest > m->asked.longest ? m->train.longest : m->asked.longest;
    n_ctx += m->max_new + R2_MAX_MARK;
    if (o->model) say_weights(m);
    if (!o->model) make_model(m);
    else if (reads) check(m, r2_model_load_dir(&m->ctx, &m->model, o->model, 0, true));
    if (reads) {
        r2_text_free(&m->ctx, &m->base);
        m->base = below(m, "base");
        learn_to_read(m);
        save_base(m);
        r2_model_free(&m->ctx, &m->model);
    }
    check(m, r2_model_load_dir(&m->ctx, &m->model, m->base.data, n_ctx, false));
    lora.rank = (int32_t)o->rank;
    lora.alpha = 2.0f * (float)lora.rank;
    lora.seed = (uint64_t)o->seed;
    check(m, o->adapters ? r2_lora_load(&m->ctx, &m->model, o->adapters)
                         : r2_lora_attach(&m->ctx, &m->model, &lora));
}

/* ---- what it will cost ---- */

/* Bytes of the activations of a step with so many rows, as [M7] lays them out. */
static double step_bytes(const lm *m, double rows) {
    const r2_model_config *c = &m->model.config;
    const double kv = (double)c->d_model / c->n_head * c->n_kv_head;
    const double layer = 5.0 * c->d_model + 2.0 * kv + 3.0 * c->d_ff + c->n_head;
    const double back = 4.0 * c->d_model + 2.0 * kv + 3.0 * c->d_ff;
    const double kept = m->model.recompute ? layer + (double)c->n_layer * c->d_model
                                           : layer * c->n_layer;
    return 4.0 * rows * (kept + back);
}

static r2_grpo_config grpo_config(const lm *m) {
    r2_grpo_config config = r2_grpo_config_default();
    config.n_steps = m->options.grpo_steps;
    config.groups = (int32_t)(m->options.batch + 1) / 2;
    config.max_new = m->max_new;
    config.lr = 2e-4f * 64.0f / (float)m->model.config.d_model;
    config.seed = (uint64_t)m->options.seed;
    return config;
}

/* Memory at most, before the largest part is taken: weights (GRPO keeps a copy), adapters (three
   more floats for each while they learn), the activations of a step. */
static void say_memory(lm *m) {
    const r2_grpo_config grpo = grpo_config(m);
    const double group = m->train.group, longest = m->train.longest;
    const double copies = m->options.grpo_steps > 0 ? 2.0 : 1.0;
    const double sft = (double)m->options.batch * group * longest;
    const double rl = (double)grpo.groups * group *
                      (longest + (double)grpo.n_samples * (double)grpo.max_new);
    const double rows = m->options.grpo_steps > 0 && rl > sft ? rl : sft;
    const double weights = 4.0 * copies * (double)m->model.n_params;
    const double adapters = 4.0 * (3.0 + copies) * (double)m->model.lora->n_params;
    m->model.recompute = step_bytes(m, rows) > 2e9;
    printf("memory: about %.2f GB at most for the model (weights %.2f, adapters %.2f, a step "
           "%.2f%s)\n", (weights + adapters + step_bytes(m, rows)) / 1e9, weights / 1e9,
           adapters / 1e9, step_bytes(m, rows) / 1e9,
           m->model.recompute ? ", a third slower to keep it so small" : "");
}

/* Time, from that of a few prompts: a training step costs three times as much a token, an output a
   token at a time about as much; GRPO measures each output three times. */
static void say_time(lm *m) {
    const r2_grpo_config grpo = grpo_config(m);
    const int64_t probe = m->train.n < m->train.group ? m->train.n : m->train.group;
    const r2_examples *ex = &m->train;
    r2_examples few = *ex;
    r2_score_config how = r2_score_config_default();
    float score[64];
    double seconds, question, output = m->max_new, cost;
    few.n = probe < 64 ? probe : 64;
    seconds = r2_seconds();
    check(m, r2_score(&m->ctx, &m->model, &few, &how, score, NULL));
    seconds = (r2_seconds() - seconds) / (double)few.prompt_begin[few.n]; /* of a token */
    question = (double)ex->prompt_begin[ex->n] / (double)ex->n;
    cost = (double)(m->options.sft_steps * m->options.batch * ex->group) * 3.0 * (question + output / 2.0);
    cost += (double)(m->options.grpo_steps * grpo.groups * ex->group) *
            (6.0 * question + 8.0 * grpo.n_samples * output);
    cost += (double)m->asked.n * (4.0 * question + 2.0 * 3.0 * output);
    printf("time: about %.0f minutes; a prompt has %.0f tokens, %.0f tokens a second are read\n",
           ceil(cost * seconds / 60.0), question, 1.0 / seconds);
}

/* ---- ranking ---- */

/* Evaluates m->score as a row of the table, which is written as it comes. */
static void add_row(lm *m, const char *method, const r2_trace_metrics *trace) {
    const r2_candidates *c = m->ranked;
    r2_eval_config eval = r2_eval_config_default();
    r2_metrics x;
    cJSON *row = (cJSON *)need(m, cJSON_CreateObject());
    eval.seed = (uint64_t)m->options.seed;
    check(m, r2_evaluate(&m->ctx, m->score, c->n_cases, c->n_per_case, &eval, &x, NULL));
    printf("  %-22s %6.3f  [%.3f, %.3f]  %6.3f  %6.3f  %6.3f", method, x.hr1, x.hr1_lo, x.hr1_hi,
           x.hr5, x.ndcg5, x.mrr);
    if (trace) printf("   %5.1f %%", 100.0 * trace->faithful);
    printf("\n");
    cJSON_AddStringToObject(row, "method", method);
    cJSON_AddNumberToObject(row, "hr@1", x.hr1);
    cJSON_AddNumberToObject(row, "hr@1_low", x.hr1_lo);
    cJSON_AddNumberToObject(row, "hr@1_high", x.hr1_hi);
    cJSON_AddNumberToObject(row, "hr@5", x.hr5);
    cJSON_AddNumberToObject(row, "ndcg@5", x.ndcg5);
    cJSON_AddNumberToObject(row, "mrr", x.mrr);
    if (trace) cJSON_AddNumberToObject(row, "faithful", trace->faithful);
    cJSON_AddItemToArray(m->rows, row);
}

static void rank_by_model(lm *m, const char *method, r2_mode mode) {
    r2_score_config how = r2_score_config_default();
    r2_trace_metrics trace;
    how.mode = mode;
    how.max_new = m->max_new;
    check(m, r2_lora_merge(&m->ctx, &m->model)); /* outputs a token at a time are faster so */
    check(m, r2_score(&m->ctx, &m->model, &m->asked, &how, m->score, &trace));
    check(m, r2_lora_unmerge(&m->ctx, &m->model));
    add_row(m, method, mode == R2_REASONED ? &trace : NULL);
}

/* Those that cost seconds; they are tuned on the validation items, so those are not ranked. */
static void rank_by_baselines(lm *m, const r2_examples *compact) {
    for (int b = 0; b < BL_N_METHODS && !m->options.validation; ++b) {
        const bl_method *method = &bl_methods[b];
        bl_model best;
        if (method->slow) continue;
        if (method->fit == bl_ease_fit && bl_ease_size(&m->run) > BL_EASE_MOST) continue;
        check(m, bl_tune(&m->ctx, method, &m->run, &best));
        best.asked_of = m->ranked, best.asked = compact;
        check(m, method->score(&m->ctx, &best, m->ranked, m->score));
        bl_free(&m->ctx, &best);
        add_row(m, method->name, NULL);
    }
}

/* ---- learning ---- */

static void on_sft(void *hook_data, const r2_sft_report *report) {
    (void)hook_data;
    if (report->step == 0 || report->step + 1 == report->n_steps)
        fprintf(stderr, "  sft, step %lld: losses of answers %.3f, thoughts %.3f, lists %.3f\n",
                (long long)report->step + 1, (double)report->answer_loss,
                (double)report->trace_loss, (double)report->list_loss);
}

static void on_grpo(void *hook_data, const r2_grpo_report *report) {
    (void)hook_data;
    if (report->step == 0 || report->step + 1 == report->n_steps)
        fprintf(stderr, "  grpo, step %lld: reward %.3f, faithful %.1f %%, KL %.4f\n",
                (long long)report->step + 1, report->reward_mean,
                100.0 * report->faithful_outputs, report->kl);
}

/* Where a training keeps its state in OUT, to be freed; not asked to continue, it begins anew. */
static r2_text state_of(lm *m, const char *name) {
    r2_text path = {NULL, 0, 0, false};
    r2_text_addf(&m->ctx, &path, "%s/language-%s.state", m->options.out, name);
    if (path.failed) check(m, R2_NO_MEMORY);
    if (!m->options.resume) remove(path.data);
    return path;
}

static void fine_tune(lm *m) {
    r2_sft_config config = r2_sft_config_default();
    r2_text state;
    const double began = r2_seconds();
    if (m->options.sft_steps < 1) return;
    config.n_steps = m->options.sft_steps;
    config.warmup = 50;
    config.groups = (int32_t)m->options.batch;
    config.lr = 5e-3f * 64.0f / (float)m->model.config.d_model;
    if (m->options.rate > 0.0) config.lr = (float)m->options.rate;
    config.seed = (uint64_t)m->options.seed;
    config.on_step = on_sft;
    state = state_of(m, "sft");
    config.state_path = state.data;
    check(m, r2_sft(&m->ctx, &m->model, &m->train, &config));
    r2_text_free(&m->ctx, &state);
    fprintf(stderr, "  sft: %.2f s a step\n", (r2_seconds() - began) / (double)config.n_steps);
    save_adapters(m);
    rank_by_model(m, "SFT, direct", R2_DIRECT);
    rank_by_model(m, "SFT, reasoned", R2_REASONED);
}

/* On questions drawn anew, as r2_run_grpo does. */
static void reinforce(lm *m) {
    r2_grpo_config config = grpo_config(m);
    const r2_run_config *c = &m->run.config;
    const int32_t group = m->train.group;
    const r2_draw_config draw = {config.n_steps * config.groups, c->n_sampled, c->min_history,
                                 c->min_train, r2_hash(config.seed, R2_STREAM_SAMPLE, 0)};
    const uint64_t most = (uint64_t)draw.n_groups * (uint64_t)group;
    const double began = r2_seconds();
    int64_t n = 0;
    r2_question *question;
    r2_evidence *evidence;
    r2_examples fresh;
    r2_text state;
    if (draw.n_groups < 1) return;
    question = (r2_question *)need(m, r2_alloc(&m->ctx, most, sizeof *question));
    evidence = (r2_evidence *)need(m, r2_alloc(&m->ctx, most, sizeof *evidence));
    check(m, r2_questions_draw(&m->ctx, &m->run.index, &draw, question, &n));
    check(m, r2_evidence_compute(&m->ctx, &m->run.index, question, n * group, &c->chains,
                                 evidence));
    make_examples(m, evidence, n * group, group, &fresh);
    config.on_step = on_grpo;
    state = state_of(m, "grpo");
    config.state_path = state.data;
    check(m, r2_grpo(&m->ctx, &m->model, &fresh, &config));
    r2_text_free(&m->ctx, &state);
    fprintf(stderr, "  grpo: %.2f s a step\n", (r2_seconds() - began) / (double)config.n_steps);
    save_adapters(m);
    rank_by_model(m, "SFT + GRPO, reasoned", R2_REASONED);
    r2_examples_free(&m->ctx, &fresh);
    r2_release(&m->ctx, question);
    r2_release(&m->ctx, evidence);
}

/* All is on disk: the states are not needed any more. */
static void forget_states(lm *m) {
    m->options.resume = false;
    for (int rl = 0; rl < 2; ++rl) {
        r2_text path = state_of(m, rl ? "grpo" : "sft");
        r2_text_free(&m->ctx, &path);
    }
}

/* ---- what it says, and where it leaves it ---- */

/* The first favourite that was ranked: the prompt, the model's thoughts, the verdict. */
static void show_reasoning(lm *m) {
    const r2_examples *ex = &m->asked;
    r2_text prompt = {NULL, 0, 0, false};
    r2_reasoning own;
    check(m, ex->codec.tokenizer.decode(&m->ctx, ex->codec.tokenizer.self, ex->prompt,
                                        ex->prompt_begin[1], &prompt));
    check(m, r2_think(&m->ctx, &m->model, ex, 0, 1, &own));
    printf("\nOne prompt, and what the model makes of it (checked: %s)\n\n%s%s\n",
           r2_verdict_name(own.check.verdict), prompt.data, own.text.data);
    r2_text_free(&m->ctx, &prompt);
    r2_reasoning_free(&m->ctx, &own);
}

static void write_results(lm *m) {
    r2_text path = {NULL, 0, 0, false};
    char *printed = (char *)need(m, cJSON_Print(m->rows));
    r2_text_addf(&m->ctx, &path, "%s/language.json", m->options.out);
    if (path.failed) check(m, R2_NO_MEMORY);
    check(m, r2_write_file(&m->ctx, path.data, printed, strlen(printed)));
    cJSON_free(printed);
    r2_text_free(&m->ctx, &path);
}

static double peak_bytes(void) {
    struct rusage used;
    return getrusage(RUSAGE_SELF, &used) ? 0.0 : 1024.0 * (double)used.ru_maxrss;
}

static void prepare(lm *m, r2_examples *compact) {
    r2_run_config config = r2_run_config_default();
    config.seed = (uint64_t)m->options.seed;
    config.n_groups = m->options.questions;
    config.n_cases = m->options.cases;
    if (m->options.cold) config.min_train = 0;
    config.format = m->options.format;
    check(m, r2_run_init(&m->ctx, &m->run, m->options.data, &config));
    output_printable(&m->run.data);
    m->ranked = m->options.validation ? &m->run.valid : &m->run.test;
    if (m->ranked->n_cases < 1)
        check(m, r2_fail(&m->ctx, R2_ARGUMENT, "%s: no item to rank", m->options.data));
    printf("%s: %lld users, %lld items, %lld ratings; %lld training questions\n", m->options.data,
           (long long)m->run.data.n_users, (long long)m->run.data.n_items,
           (long long)m->run.data.n_ratings, (long long)m->run.n_train);
    open_tokenizer(m);
    make_asked(m, compact);
    open_model(m);
    printf("model %s: %lld parameters, %d tokens, %lld more in adapters of rank %d\n",
           m->base.data, (long long)m->model.n_params, (int)m->bpe.n_tokens,
           (long long)m->model.lora->n_params, (int)m->model.lora->config.rank);
    say_memory(m);
    say_time(m);
}

static void begin(lm *m, int argc, char **argv) {
    m->options = parse_options(argc, argv);
    m->ctx = r2_ctx_default();
    m->ctx.progress = show_progress;
    if (m->options.threads) m->ctx.n_threads = (int)m->options.threads;
    m->rows = (cJSON *)need(m, cJSON_CreateArray());
    setvbuf(stdout, NULL, _IOLBF, 0); /* a pipe sees each line when it is written */
    options_watch_interrupt();
    options_directory("language_model", m->options.out);
}

int main(int argc, char **argv) {
    static lm m;
    static r2_examples compact;
    begin(&m, argc, argv);
    prepare(&m, &compact);
    printf("\nOne held-out favourite among %d items, %lld users%s\n\n  %-22s %6s  %-15s %6s  %6s  "
           "%6s   %s\n", (int)m.ranked->n_per_case, (long long)m.ranked->n_cases,
           m.options.validation ? " (validation)" : "", "method", "HR@1", "95 % interval", "HR@5",
           "NDCG@5", "MRR", "faithful");
    rank_by_baselines(&m, &compact);
    rank_by_model(&m, m.options.adapters ? "adapters as loaded" : "zero-shot", R2_DIRECT);
    fine_tune(&m);
    reinforce(&m);
    show_reasoning(&m);
    write_results(&m);
    forget_states(&m);
    printf("\npeak memory %.2f GB; base model %s, adapters (PEFT) %s/adapters, the table as\n"
           "%s/language.json\n", peak_bytes() / 1e9, m.base.data, m.options.out, m.options.out);
    cJSON_Delete(m.rows);
    r2_release(&m.ctx, m.score);
    r2_examples_free(&m.ctx, &compact);
    r2_examples_free(&m.ctx, &m.asked);
    r2_examples_free(&m.ctx, &m.train);
    r2_model_free(&m.ctx, &m.model);
    r2_bpe_free(&m.ctx, &m.bpe);
    r2_text_free(&m.ctx, &m.base);
    r2_run_free(&m.ctx, &m.run);
    return output_end("language_model", 0);
}

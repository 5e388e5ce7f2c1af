/* export.c: prompts, reasoning and candidates for the engines that train and generate elsewhere, and
   back: what they generate goes through the checker and into a table.

       export --data data/mini --out out/export
       vllm run-batch -i out/export/batch.jsonl -o out/export/said.jsonl --model NAME
       export --data data/mini --import out/export/said.jsonl

   Every file holds one JSON object a line, with the same keys and types on each:

       train.json, test.json   prompt, ground_truth and more: GRPO with TRL, verl, OpenRLHF
       sft.json                prompt and completion: SFT with TRL
       alpaca.json, sharegpt.json, dataset_info.json: SFT with LLaMA-Factory
       batch.jsonl             the test candidates as requests of the OpenAI batch format

   r2rec_reward.py scores what they generate as the checker here does. --import writes the verdict and
   the reward of every output into OUT/checked.jsonl. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <cjson/cJSON.h>

#include "../common/options.h"
#include "../common/output.h"

typedef struct options {
    const char *data, *out, *words, *import, *model;
    int64_t seed, n_train, max_tokens;
    r2_format format;
} options;

static const char usage[] =
    "[options]\n"
    "  --data DIR       ratings (default data/mini)\n"
    OPTIONS_FORMAT_HELP
    "  --out DIR        where the files go (default out/export)\n"
    "  --words KIND     english or compact (default english)\n"
    "  --train N        training questions at most (default 0: all)\n"
    "  --tokens N       of an output at most, in batch.jsonl (default 512)\n"
    "  --model NAME     of batch.jsonl (default model)\n"
    "  --seed N         of the questions; the same for --import (default 1)\n"
    "  --import FILE    outputs: lines of a batch's result, or {\"custom_id\", \"completion\"}\n"
    "  --help           this text\n";

static options parse_options(int argc, char **argv) {
    options o = {"data/mini", "out/export", "english", NULL, "model", 1, 0, 512, {0}};
    const options_entry list[] = {{"--data", OPTIONS_TEXT, &o.data, 0, 0},
                                  OPTIONS_FORMAT(o.format),
                                  {"--out", OPTIONS_TEXT, &o.out, 0, 0},
                                  {"--words", OPTIONS_TEXT, &o.words, 0, 0},
                                  {"--train", OPTIONS_WHOLE, &o.n_train, 0, INT32_MAX},
                                  {"--tokens", OPTIONS_WHOLE, &o.max_tokens, 1, 1000000},
                                  {"--model", OPTIONS_TEXT, &o.model, 0, 0},
                                  {"--seed", OPTIONS_WHOLE, &o.seed, 0, INT32_MAX},
                                  {"--import", OPTIONS_TEXT, &o.import, 0, 0}};
    options_read("export", usage, list, sizeof list / sizeof *list, argc, argv, NULL);
    return o;
}

/* ---- questions ---- */

typedef struct exporter {
    r2_ctx ctx;
    options o;
    r2_run run;
    r2_prompt_config how;
    r2_evidence *test; /* (n_test) the candidates of all cases, case after case */
    int64_t n_test;
    r2_text line[8]; /* one growing text a file; the last: cited lines */
} exporter;

static r2_status prepare(exporter *x) {
    r2_run_config config = r2_run_config_default();
    r2_examples unused;
    r2_status status;
    memset(&unused, 0, sizeof unused);
    config.seed = (uint64_t)x->o.seed;
    config.format = x->o.format;
    x->how = r2_prompt_config_default();
    if (strcmp(x->o.words, "english") && strcmp(x->o.words, "compact"))
        return r2_fail(&x->ctx, R2_ARGUMENT, "--words: expected english or compact, found \"%s\"",
                       x->o.words);
    x->how.words = *x->o.words == 'e' ? R2_WORDS_ENGLISH : R2_WORDS_COMPACT;
    status = r2_run_init(&x->ctx, &x->run, x->o.data, &config);
    if (status) return status;
    output_printable(&x->run.data);
    x->how.data = &x->run.data;
    x->how.codebook = &x->run.codebook;
    x->n_test = x->run.test.n_cases * x->run.test.n_per_case;
    x->test = (r2_evidence *)r2_alloc(&x->ctx, (uint64_t)x->n_test, sizeof *x->test);
    if (!x->test) return x->ctx.status;
    status = r2_run_candidate_prompts(&x->ctx, &x->run, &x->run.test, x->test, &unused);
    r2_examples_free(&x->ctx, &unused);
    return status;
}

/* "test-3-7-1029": place, user, item, so that an answer to another question is noticed. */
static void question_id(exporter *x, const char *split, int64_t index, const r2_evidence *q,
                        r2_text *id) {
    r2_text_clear(id);
    r2_text_addf(&x->ctx, id, "%s-%lld-%s-%s", split, (long long)index,
                 x->run.data.user_key[q->user], x->run.data.item_key[q->item]);
}

/* The right answer: of a test candidate its rating as a level, 0 when the user has it not. */
static int32_t right_answer(const exporter *x, const r2_evidence *q) {
    const r2_data *data = &x->run.data;
    const int64_t row = r2_data_find(data, q->user, q->item);
    return row < 0 ? 0 : r2_answer_level(data->rating[row], data->rating_min, data->rating_max);
}

/* ---- lines of JSON: a missing node is found at the end, when nothing can be printed ---- */

static cJSON *add(cJSON *to, const char *name, cJSON *value) {
    if (!to || !value ||
        !(name ? cJSON_AddItemToObject(to, name, value) : cJSON_AddItemToArray(to, value))) {
        cJSON_Delete(value);
        return NULL;
    }
    return value;
}

static void add_text(cJSON *to, const char *name, const char *text) {
    add(to, name, cJSON_CreateString(text ? text : ""));
}

static void add_number(cJSON *to, const char *name, double value) {
    add(to, name, cJSON_CreateNumber(value));
}

static void add_message(cJSON *list, const char *role, const char *content) {
    cJSON *message = add(list, NULL, cJSON_CreateObject());
    add_text(message, "role", role);
    add_text(message, "content", content);
}

/* The prompt as messages; compact prompts have no system text. */
static cJSON *add_messages(cJSON *to, const char *name, const r2_prompt *prompt) {
    cJSON *list = add(to, name, cJSON_CreateArray());
    if (prompt->system.len) add_message(list, "system", prompt->system.data);
    add_message(list, "user", prompt->user.data);
    return list;
}

static r2_status add_line(exporter *x, r2_text *lines, cJSON *json) {
    char *printed = json ? cJSON_PrintUnformatted(json) : NULL;
    if (printed) r2_text_addf(&x->ctx, lines, "%s\n", printed);
    cJSON_free(printed);
    cJSON_Delete(json);
    if (!printed) return r2_fail(&x->ctx, R2_NO_MEMORY, "export: out of memory");
    return lines->failed ? x->ctx.status : R2_OK;
}

/* Writes OUT/NAME. */
static r2_status write_text(exporter *x, const char *name, const r2_text *text) {
    r2_text path = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    r2_text_addf(&x->ctx, &path, "%s/%s", x->o.out, name);
    if (path.failed || text->failed) status = x->ctx.status;
    if (!status)
        status = r2_write_file(&x->ctx, path.data, text->data ? text->data : "", text->len);
    r2_text_free(&x->ctx, &path);
    return status;
}

/* The lines of an English prompt that an output can cite: its chains and its target. */
static void cited_lines(exporter *x, const char *prompt, r2_text *lines) {
    r2_text_clear(lines);
    for (const char *at = prompt, *end; *at; at = end) {
        end = at + strcspn(at, "\n");
        end += *end == '\n';
        if (!strncmp(at, "Chain ", 6) || !strncmp(at, "The target is ", 14))
            r2_text_add(&x->ctx, lines, at, (size_t)(end - at));
    }
}

/* What r2rec_reward.py needs to check an output. */
static char *ground_truth(exporter *x, const r2_prompt *prompt, int32_t answer) {
    const char *text = prompt->user.data;
    cJSON *truth = cJSON_CreateObject();
    char *printed;
    if (x->how.words == R2_WORDS_ENGLISH) {
        cited_lines(x, text, &x->line[7]);
        text = x->line[7].data;
    }
    add_text(truth, "words", x->o.words);
    add_number(truth, "answer", answer);
    add_text(truth, "prompt", text);
    if (x->how.words == R2_WORDS_COMPACT) {
        const r2_codebook *codebook = &x->run.codebook;
        cJSON *weights = add(truth, "weights", cJSON_CreateObject());
        for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
            for (int32_t b = 0; b < codebook->n_bucket[f]; ++b) {
                char word[64];
                if (b) snprintf(word, sizeof word, "%s:%d", r2_field_name((r2_field)f), (int)b);
                else snprintf(word, sizeof word, "%s:-", r2_field_name((r2_field)f));
                add_number(weights, word, codebook->weight[f][b]);
            }
    }
    printed = truth ? cJSON_PrintUnformatted(truth) : NULL;
    cJSON_Delete(truth);
    return printed;
}

/* ---- the shapes ---- */

/* One shape for TRL, verl and OpenRLHF. */
static r2_status write_rl(exporter *x, bool train, int64_t index, const r2_evidence *q,
                          const r2_prompt *prompt) {
    char *truth = ground_truth(x, prompt, train ? q->answer : right_answer(x, q));
    cJSON *json = cJSON_CreateObject(), *part;
    add_text(json, "data_source", "r2rec");
    add_messages(json, "prompt", prompt);
    add_text(json, "ability", "recommendation");
    part = add(json, "reward_model", cJSON_CreateObject());
    add_text(part, "style", "rule");
    add_text(part, "ground_truth", truth);
    part = add(json, "extra_info", cJSON_CreateObject());
    add_text(part, "split", train ? "train" : "test");
    add_number(part, "index", (double)index);
    add_text(part, "user", x->run.data.user_key[q->user]);
    add_text(part, "item", x->run.data.item_key[q->item]);
    add_number(part, "chains", q->n_chains);
    add_text(json, "ground_truth", truth);
    if (!truth) {
        cJSON_Delete(json);
        json = NULL;
    }
    cJSON_free(truth);
    return add_line(x, &x->line[train ? 0 : 1], json);
}

static r2_status write_sft(exporter *x, const r2_prompt *prompt, const char *output) {
    cJSON *trl = cJSON_CreateObject(), *alpaca = cJSON_CreateObject();
    cJSON *sharegpt = cJSON_CreateObject();
    r2_status status;
    add_messages(trl, "prompt", prompt);
    add_message(add(trl, "completion", cJSON_CreateArray()), "assistant", output);
    add_text(alpaca, "instruction", prompt->user.data);
    add_text(alpaca, "input", "");
    add_text(alpaca, "output", output);
    add_text(alpaca, "system", prompt->system.data);
    add(alpaca, "history", cJSON_CreateArray());
    add_message(add_messages(sharegpt, "messages", prompt), "assistant", output);
    status = add_line(x, &x->line[2], trl);
    if (add_line(x, &x->line[3], alpaca)) status = x->ctx.status;
    if (add_line(x, &x->line[4], sharegpt)) status = x->ctx.status;
    return status;
}

static r2_status write_request(exporter *x, const char *id, const r2_prompt *prompt) {
    cJSON *json = cJSON_CreateObject(), *body;
    add_text(json, "custom_id", id);
    add_text(json, "method", "POST");
    add_text(json, "url", "/v1/chat/completions");
    body = add(json, "body", cJSON_CreateObject());
    add_text(body, "model", x->o.model);
    add_messages(body, "messages", prompt);
    add_number(body, "max_completion_tokens", (double)x->o.max_tokens);
    add_number(body, "temperature", 0);
    return add_line(x, &x->line[5], json);
}

static void write_dataset_info(exporter *x, r2_text *text) {
    r2_text_addf(
        &x->ctx, text, "%s",
        "{\n"
        "  \"r2rec_alpaca\": {\"file_name\": \"alpaca.json\", \"columns\": {\"prompt\": "
        "\"instruction\",\n"
        "    \"query\": \"input\", \"response\": \"output\", \"system\": \"system\", \"history\": "
        "\"history\"}},\n"
        "  \"r2rec_sharegpt\": {\"file_name\": \"sharegpt.json\", \"formatting\": \"sharegpt\",\n"
        "    \"columns\": {\"messages\": \"messages\"}, \"tags\": {\"role_tag\": \"role\",\n"
        "    \"content_tag\": \"content\", \"user_tag\": \"user\", \"assistant_tag\": "
        "\"assistant\",\n"
        "    \"system_tag\": \"system\"}}\n"
        "}\n");
}

/* A training question: for RL, and with what the rule-based teacher says of it for SFT. */
static r2_status export_train(exporter *x, int64_t k, r2_prompt *prompt, r2_text *output) {
    const r2_evidence *q = &x->run.evidence[k];
    r2_teacher_config teacher = x->run.config.teacher;
    r2_task task = {k, &x->how, q, prompt, q->answer};
    r2_status status = r2_prompt_build(&x->ctx, &x->how, q, prompt);
    if (!status) status = write_rl(x, true, k, q, prompt);
    r2_text_clear(output);
    if (!status) status = r2_teacher_rules(&x->ctx, &teacher, &task, output);
    if (!status && r2_check_output(&task, output->data).verdict == R2_TRACE_OK)
        status = write_sft(x, prompt, output->data);
    return status;
}

static r2_status export_test(exporter *x, int64_t k, r2_prompt *prompt, r2_text *id) {
    r2_status status = r2_prompt_build(&x->ctx, &x->how, &x->test[k], prompt);
    question_id(x, "test", k, &x->test[k], id);
    if (!status) status = write_rl(x, false, k, &x->test[k], prompt);
    return status ? status : write_request(x, id->data, prompt);
}

static r2_status export_all(exporter *x) {
    static const char *const name[] = {"train.json",       "test.json",     "sft.json",
                                       "alpaca.json",      "sharegpt.json", "batch.jsonl",
                                       "dataset_info.json"};
    const int64_t n = x->o.n_train && x->o.n_train < x->run.n_train ? x->o.n_train : x->run.n_train;
    r2_text text = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_status status = R2_OK;
    memset(&prompt, 0, sizeof prompt);
    for (int64_t k = 0; k < n && !status; ++k) status = export_train(x, k, &prompt, &text);
    for (int64_t k = 0; k < x->n_test && !status; ++k) status = export_test(x, k, &prompt, &text);
    write_dataset_info(x, &x->line[6]);
    for (int k = 0; k < 7 && !status; ++k) status = write_text(x, name[k], &x->line[k]);
    if (!status)
        printf("%lld training questions, %lld test candidates of %lld users: %s\n", (long long)n,
               (long long)x->n_test, (long long)x->run.test.n_cases, x->o.out);
    r2_prompt_free(&x->ctx, &prompt);
    r2_text_free(&x->ctx, &text);
    return status;
}

/* ---- import ---- */

typedef struct import {
    r2_text checked; /* a line an output */
    float *sum, *n;  /* (n_test) of the answers to a candidate, and how many there are */
    r2_tally tally;
    double reward;
    int64_t n_outputs, n_errors;
} import;

/* The output of a line: {"completion"}, or what a batch's result has of it; NULL: an error. */
static const char *line_output(const cJSON *json) {
    const cJSON *body = cJSON_GetObjectItemCaseSensitive(json, "response"), *choice;
    const char *plain = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "completion"));
    if (plain) return plain;
    if (cJSON_GetObjectItemCaseSensitive(body, "body"))
        body = cJSON_GetObjectItemCaseSensitive(body, "body");
    choice = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(body, "choices"), 0);
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(
        cJSON_GetObjectItemCaseSensitive(choice, "message"), "content"));
}

/* The line of an output in checked.jsonl. */
static r2_status add_checked(exporter *x, import *in, const char *id, const r2_check *check,
                             double reward) {
    cJSON *json = cJSON_CreateObject();
    add_text(json, "custom_id", id);
    add_text(json, "verdict", r2_verdict_name(check->verdict));
    add_number(json, "answer", check->answer);
    add_number(json, "cited", check->n_cited);
    add_number(json, "found", check->n_found);
    add_number(json, "right", check->n_right);
    add_number(json, "total", check->total);
    add(json, "well_formed", cJSON_CreateBool(check->well_formed));
    add_number(json, "reward", reward);
    return add_line(x, &in->checked, json);
}

/* One output -> verdict, reward, answer. */
static r2_status take_output(exporter *x, import *in, int64_t k, const char *id,
                             const char *output) {
    const r2_reward_config weights = {0.5f, 1.0f, 0.0f, 2.0f};
    r2_prompt prompt;
    r2_task task = {k, &x->how, &x->test[k], &prompt, -1};
    r2_sample sample;
    r2_status status;
    double reward;
    memset(&prompt, 0, sizeof prompt);
    memset(&sample, 0, sizeof sample);
    status = r2_prompt_build(&x->ctx, &x->how, &x->test[k], &prompt);
    if (!status) {
        sample.check = r2_check_output(&task, output);
        sample.right_answer = right_answer(x, &x->test[k]);
        reward = r2_reward(&weights, &sample);
        status = add_checked(x, in, id, &sample.check, reward);
        r2_tally_add(&in->tally, sample.check.verdict, sample.right_answer);
        in->reward += reward;
        in->sum[k] += (float)sample.check.answer;
        in->n[k]++;
        in->n_outputs++;
    }
    r2_prompt_free(&x->ctx, &prompt);
    return status;
}

static r2_status take_line(exporter *x, import *in, const char *line, int64_t number, r2_text *id) {
    cJSON *json = cJSON_Parse(line);
    const char *own = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(json, "custom_id"));
    const char *output = line_output(json);
    int64_t k = own && !strncmp(own, "test-", 5) ? strtoll(own + 5, NULL, 10) : -1;
    r2_status status = R2_OK;
    if (k >= 0 && k < x->n_test) question_id(x, "test", k, &x->test[k], id);
    if (!json || !own)
        status = r2_fail(&x->ctx, R2_FORMAT, "%s:%lld: expected a JSON object with a custom_id",
                         x->o.import, (long long)number);
    else if (k < 0 || k >= x->n_test || id->failed || strcmp(own, id->data))
        status = r2_fail(&x->ctx, R2_FORMAT,
                         "%s:%lld: expected the custom_id of an export with the same data and "
                         "seed, found \"%.60s\"",
                         x->o.import, (long long)number, own);
    else if (output) status = take_output(x, in, k, own, output);
    else in->n_errors++;
    cJSON_Delete(json);
    return status;
}

static r2_status import_lines(exporter *x, import *in) {
    r2_text text = {NULL, 0, 0, false}, id = {NULL, 0, 0, false};
    r2_status status = r2_read_file(&x->ctx, x->o.import, &text);
    int64_t number = 0;
    for (char *at = text.data, *end; !status && at && *at; at = end) {
        end = at + strcspn(at, "\n");
        if (*end) *end++ = '\0';
        ++number;
        if (*at) status = take_line(x, in, at, number, &id);
    }
    r2_text_free(&x->ctx, &text);
    r2_text_free(&x->ctx, &id);
    return status;
}

/* The table: who has no output of a candidate ranks it last; a malformed one counts as answer -1. */
static r2_status import_report(exporter *x, import *in) {
    const r2_candidates *c = &x->run.test;
    const r2_eval_config eval = r2_eval_config_default();
    r2_text text = {NULL, 0, 0, false};
    int64_t n_missing = 0;
    r2_metrics m;
    r2_status status;
    for (int64_t k = 0; k < x->n_test; ++k) {
        n_missing += in->n[k] == 0.0f;
        in->sum[k] = in->n[k] > 0.0f ? in->sum[k] / in->n[k] : -2.0f;
    }
    status = r2_evaluate(&x->ctx, in->sum, c->n_cases, c->n_per_case, &eval, &m, NULL);
    if (status) return status;
    printf("%lld outputs, %lld errors, %lld of %lld candidates without an output\n\n",
           (long long)in->n_outputs, (long long)in->n_errors, (long long)n_missing,
           (long long)x->n_test);
    r2_tally_report(&x->ctx, &in->tally, &text);
    if (!text.failed) printf("verdicts by the right answer\n%s\n", text.data);
    printf("reward %.4f (format 0.5, accuracy 1, faithfulness 2)\n",
           in->reward / (double)(in->n_outputs ? in->n_outputs : 1));
    printf("HR@1 (1+%lld) %.3f [%.3f, %.3f]  HR@5 %.3f  NDCG@10 %.3f  ties %.3f\n",
           (long long)c->n_per_case - 1, m.hr1, m.hr1_lo, m.hr1_hi, m.hr5, m.ndcg10, m.tie_rate);
    r2_text_free(&x->ctx, &text);
    return R2_OK;
}

static r2_status import_all(exporter *x) {
import in;
    r2_status status;
    memset(&in, 0, sizeof in);
    in.sum = (float *)r2_alloc(&x->ctx, (uint64_t)x->n_test, sizeof *in.sum);
    in.n = (float *)r2_alloc(&x->ctx, (uint64_t)x->n_test, sizeof *in.n);
    status = in.sum && in.n ? import_lines(x, &in) : x->ctx.status;
    if (!status) status = write_text(x, "checked.jsonl", &in.checked);
    if (!status) status = import_report(x, &in);
    r2_text_free(&x->ctx, &in.checked);
    r2_release(&x->ctx, in.sum);
    r2_release(&x->ctx, in.n);
    return status;
}

int main(int argc, char **argv) {
    static exporter x;
    r2_status status;
    x.ctx = r2_ctx_default();
    x.o = parse_options(argc, argv);
    mkdir("out", 0777); /* the default lies in it; what cannot be made is found on the next line */
    options_directory("export", x.o.out);
    status = prepare(&x);
    if (!status) status = x.o.import ? import_all(&x) : export_all(&x);
    if (status) fprintf(stderr, "export: %s\n", x.ctx.message);
    for (int k = 0; k < 8; ++k) r2_text_free(&x.ctx, &x.line[k]);
    r2_release(&x.ctx, x.test);
    r2_run_free(&x.ctx, &x.run);
    return output_end("export", status != R2_OK);
}

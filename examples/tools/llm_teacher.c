/* llm_teacher.c: reasoning traces from any server that speaks the OpenAI chat protocol (vLLM,
   llama.cpp, Ollama, hosted ones).

       export R2_LLM_URL=http://127.0.0.1:8000/v1 R2_LLM_MODEL=qwen2.5 R2_LLM_KEY=...
       llm_teacher --data data/mini --n 100 --out out/traces.jsonl

   The model is led through a chain edge by edge (D5, D6), one conversation per chain:

       we     the facts before e1, its rating masked      it   a thought, and what the rating may be
       we     e1 was 4 stars; now e2, masked              it   a thought ...
       ...
       we     e3 was 5 stars; the question; its answer    it   the thought that leads to the answer

   Only the last step knows its answer (guidance); whether the earlier ones guess right is counted.
   Each reply is checked when it comes; one that fails is asked for once more, then the chain is
   given up. The thoughts, each with the rating that was revealed after it, make the reasoning R of a
   triple (Q, R, A), which must pass the strict filter as a whole. Schedules of one step, --schedule none,
   all or final-only, are one request with everything in it.

   Replies are kept in OUT.raw as they come, so that an interrupted run goes on where it stopped.
   R2_LLM_PRICE_IN and R2_LLM_PRICE_OUT, per million tokens, give the cost.
   Exit status: 0 every prompt was answered, 3 some were not, 1 an error, 2 an error of usage. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "../common/options.h"
#include "../common/output.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <math.h>

enum { STEP_TRIES = 2 }; /* replies to a step before its chain is given up */

typedef struct options {
    const char *data, *out;
    r2_schedule schedule;
    int64_t n, parallel, retries, timeout_ms, backoff_ms;
    r2_format format;
} options;

/* Where the server is and what it costs: from the environment. */
typedef struct server {
    const char *model;
    char url[1024], authorization[1024];
    double price_in, price_out; /* per million tokens */
} server;

/* The way of one question, step by step. */
typedef struct job {
    int64_t id;
    int32_t step, tries;  /* that is asked; replies to it so far            */
    r2_evidence evidence; /* of the step                                    */
    r2_prompt prompt;     /* of the step                                    */
    cJSON *messages;      /* the conversation so far                        */
    r2_text thoughts;     /* "Step 1: ..." lines of the steps before        */
    size_t edge;          /* where e_step begins in the line of the chain   */
    r2_text output;       /* the whole, once the last step is answered      */
    r2_verdict refused;   /* what is wrong with the reply that was the last */
    int attempts;         /* of sending the request                         */
    double not_before;    /* wall clock: backing off until then             */
    bool done, answered;
    CURL *easy; /* NULL: not running */
    struct curl_slist *headers;
    char *body; /* of the request that runs */
    r2_text reply;
    char error[CURL_ERROR_SIZE];
} job;

typedef struct usage {
    int64_t requests, retries, answered, given_up, tokens_in, tokens_out;
    int64_t replies[R2_STEP_ASK + 1], accepted[R2_STEP_ASK + 1],
        right[R2_STEP_ASK + 1]; /* by step */
} usage;

typedef struct teacher {
    r2_ctx ctx;
    options opt;
    server server;
    r2_run run;
    r2_prompt_config prompt;
    r2_records raw, kept; /* replies from before; triples that passed */
    job *job;
    int64_t n;
    usage use;
    FILE *log; /* OUT.raw, open for appending */
} teacher;

/* ---- what is asked for ---- */

static const char usage_text[] =
    "[options]\n"
    "  --data DIR       ratings (default data/mini)\n"
    OPTIONS_FORMAT_HELP
    "  --out FILE       what passed (default traces.jsonl); FILE.raw holds all replies\n"
    "  --n N            questions (default 100)\n"
    "  --schedule NAME  progressive: step by step (default); none, all, final-only: one request\n"
    "  --parallel N     requests at a time (default 4)\n"
    "  --retries N      of a request (default 4)\n"
    "  --timeout MS     of a request, in milliseconds (default 120000)\n"
    "  --backoff MS     before the first retry, then doubled (default 1000)\n"
    "  --help           this text\n"
    "Where the server is: R2_LLM_URL, R2_LLM_MODEL, R2_LLM_KEY in the environment; what it costs "
    "per\n"
    "million tokens: R2_LLM_PRICE_IN, R2_LLM_PRICE_OUT.\n";

/* The schedule of that name, or an exit with a sentence. */
static r2_schedule find_schedule(const char *name) {
    int s = 0;
    while (s < R2_N_SCHEDULES && strcmp(name, r2_schedule_name((r2_schedule)s)) != 0) ++s;
    if (s < R2_N_SCHEDULES) return (r2_schedule)s;
    fprintf(stderr,
            "llm_teacher: --schedule: expected progressive, final-only, all or none, found \"%s\"\n",
            name);
    exit(2);
}

static options parse_options(int argc, char **argv) {
    options o = {"data/mini", "traces.jsonl", R2_MASK_PROGRESSIVE, 100, 4, 4, 120000, 1000, {0}};
    const char *schedule = r2_schedule_name(o.schedule);
    const options_entry list[] = {{"--data", OPTIONS_TEXT, &o.data, 0, 0},
                                  OPTIONS_FORMAT(o.format),
                                  {"--out", OPTIONS_TEXT, &o.out, 0, 0},
                                  {"--schedule", OPTIONS_TEXT, &schedule, 0, 0},
                                  {"--n", OPTIONS_WHOLE, &o.n, 1, 10000000},
                                  {"--parallel", OPTIONS_WHOLE, &o.parallel, 1, 1000},
                                  {"--retries", OPTIONS_WHOLE, &o.retries, 0, 1000},
                                  {"--timeout", OPTIONS_WHOLE, &o.timeout_ms, 1, 86400000},
                                  {"--backoff", OPTIONS_WHOLE, &o.backoff_ms, 1, 86400000}};
    options_read("llm_teacher", usage_text, list, sizeof list / sizeof *list, argc, argv, NULL);
    o.schedule = find_schedule(schedule);
    return o;
}

static double price(const char *name) {
    const char *text = getenv(name);
    return text && *text ? options_number("llm_teacher", name, text, 0, 1000000) : 0.0;
}

static int read_server(server *s) {
    const char *url = getenv("R2_LLM_URL"), *key = getenv("R2_LLM_KEY");
    s->model = getenv("R2_LLM_MODEL");
    if (!url || !s->model) {
        fprintf(stderr, "llm_teacher: set R2_LLM_URL (for example http://127.0.0.1:8000/v1) and "
                        "R2_LLM_MODEL; R2_LLM_KEY if the server wants one\n");
        return 1;
    }
    snprintf(s->url, sizeof s->url, "%s/chat/completions", url);
    snprintf(s->authorization, sizeof s->authorization, "Authorization: Bearer %s",
             key ? key : "none");
    s->price_in = price("R2_LLM_PRICE_IN");
    s->price_out = price("R2_LLM_PRICE_OUT");
    return 0;
}

/* ---- questions ---- */

static bool is_led(const teacher *t) { return t->opt.schedule == R2_MASK_PROGRESSIVE; }

/* A model is led along one chain of each question, the first. */
static r2_status make_questions(teacher *t) {
    r2_run_config config = r2_run_config_default();
    r2_status status;
    t->prompt = r2_prompt_config_default();
    t->prompt.words = R2_WORDS_ENGLISH;
    t->prompt.schedule = t->opt.schedule;
    config.n_groups = 2048 +
                      t->opt.n / (1 + config.n_sampled); /* some more, to count weights from */
    config.format = t->opt.format;
    status = r2_run_init(&t->ctx, &t->run, t->opt.data, &config);
    if (status != R2_OK) return status;
    t->n = t->opt.n < t->run.n_train ? t->opt.n : t->run.n_train;
    t->prompt.data = &t->run.data;
    t->prompt.codebook = &t->run.codebook;
    for (int64_t q = 0; q < t->n && is_led(t); ++q)
        if (t->run.evidence[q].n_chains > 1) t->run.evidence[q].n_chains = 1;
    return R2_OK;
}

static void add_message(cJSON *messages, const char *role, const char *content) {
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", role);
    cJSON_AddStringToObject(message, "content", content);
    cJSON_AddItemToArray(messages, message);
}

/* What a conversation begins with. */
static void add_instruction(teacher *t, job *j) {
    r2_text text = {NULL, 0, 0, false};
    r2_text_addf(
        &t->ctx, &text,
        "You predict ratings by reasoning along a chain of interactions, one step at a time. "
        "The chain walks from the user to an item they rated, to another person who rated it "
        "too, to a further item of that person, and back to the user. Ratings go from %g to "
        "%g stars; [?] is a rating that is masked, and revealed before the next step. At each "
        "step say in a sentence or two what the facts in sight tell about the masked rating. "
        "Answer in exactly this form:\n<think>your thought</think><answer>N</answer>\n"
        "N is a whole number: 0 if the user would not take up the item, else from 1 (worst) "
        "to 5 (best); the thought does not name it. Name only items and persons of the "
        "chain, titles in double quotes, and quote ratings as the chain does: Person A gave "
        "\"Title\" 4 stars.",
        (double)t->run.data.rating_min, (double)t->run.data.rating_max);
    if (!text.failed) add_message(j->messages, "system", text.data);
    r2_text_free(&t->ctx, &text);
}

static const char chain_begins[] = "Chain 1: ";

/* Adds what the step asks; `revealed`: the edge before it with its rating, or "". */
static void add_question(teacher *t, job *j, const char *revealed) {
    r2_text text = {NULL, 0, 0, false};
    if (*revealed) r2_text_addf(&t->ctx, &text, "Revealed: %s.\n\n", revealed);
    r2_text_addf(&t->ctx, &text, "%s", j->prompt.user.data);
    if (j->step == R2_STEP_ASK)
        r2_text_addf(
            &t->ctx, &text,
            "\nThe correct answer is %d. Write the %s to it, as if you did not know it yet.",
            (int)t->run.evidence[j->id].answer,
            is_led(t) ? "thought that leads" : "steps that lead");
    if (!text.failed) add_message(j->messages, "user", text.data);
    r2_text_free(&t->ctx, &text);
}

/* Puts a step before the model. Only its conversation holds guidance; prompts of records are bare. */
static r2_status ask_step(teacher *t, job *j, int32_t step, const char *revealed) {
    r2_status status = R2_OK;
    j->step = step;
    j->tries = j->attempts = 0;
    j->evidence = t->run.evidence[j->id];
    if (step < R2_STEP_ASK)
        status = r2_evidence_of_step(&t->ctx, &t->run.index, step, 1, &t->run.config.chains,
                                     &j->evidence);
    if (status == R2_OK) status = r2_prompt_build(&t->ctx, &t->prompt, &j->evidence, &j->prompt);
    if (status == R2_OK) add_question(t, j, revealed);
    return status;
}

/* A question without a chain has the last step alone. */
static r2_status begin_job(teacher *t, job *j) {
    const bool chain = t->run.evidence[j->id].n_chains > 0;
    r2_prompt *first = &j->prompt;
    r2_status status;
    j->messages = cJSON_CreateArray();
    j->edge = strlen(chain_begins);
    if (is_led(t)) add_instruction(t, j);
    for (int step = 1; step < R2_STEP_ASK && is_led(t) && !chain; ++step)
        r2_text_addf(&t->ctx, &j->thoughts, "Step %d: no chain to follow.\n", step);
    if (is_led(t)) return ask_step(t, j, chain ? 1 : R2_STEP_ASK, "");
    status = r2_prompt_build(&t->ctx, &t->prompt, &t->run.evidence[j->id], first);
    if (status == R2_OK) add_message(j->messages, "system", first->system.data);
    return status == R2_OK ? ask_step(t, j, R2_STEP_ASK, "") : status;
}

/* ---- replies ---- */

/* Adds e_step, which the line of the chain ends with, its mask replaced by its rating. */
static void add_revealed(teacher *t, job *j, r2_text *text) {
    static const char mask[] = "[?] stars.";
    const r2_chain *chain = &j->evidence.chain[0].chain;
    const float rating[] = {chain->r1, chain->r2, chain->r3};
    const char *line = strstr(j->prompt.user.data, chain_begins);
    const size_t length = strcspn(line, "\n") - strlen(mask), begin = j->edge, had = text->len;
    r2_text_add(&t->ctx, text, line + begin, length - begin);
    r2_text_addf(&t->ctx, text, "%.6g stars", (double)rating[j->step - 1]);
    j->edge += text->len - had + strlen("; ");
}

static const char *skip_blank(const char *p) { return p + strspn(p, " \t\r\n"); }

/* Reads <think> thought </think> <answer> k </answer>, white space anywhere between: k, or -1. */
static int32_t read_reply(const char *content, const char **thought, size_t *length) {
    static const char *const mark[] = {"<think>", "</think>", "<answer>", "</answer>"};
    const char *p = skip_blank(content), *end;
    int32_t answer = -1;
    if (strncmp(p, mark[0], strlen(mark[0])) != 0) return -1;
    *thought = skip_blank(p + strlen(mark[0]));
    end = strstr(*thought, mark[1]);
    if (!end) return -1;
    p = skip_blank(end + strlen(mark[1]));
    while (end > *thought && strchr(" \t\r\n", end[-1])) --end;
    *length = (size_t)(end - *thought);
    if (strncmp(p, mark[2], strlen(mark[2])) != 0) return -1;
    p = skip_blank(p + strlen(mark[2]));
    if (*p >= '0' && *p < '0' + R2_N_ANSWERS) answer = *p - '0';
    p = skip_blank(p + 1);
    return answer >= 0 && *length > 0 && !strncmp(p, mark[3], strlen(mark[3])) &&
                   !*skip_blank(p + strlen(mark[3]))
               ? answer
               : -1;
}

/* Adds "Step k: thought." Its lines become one, and a sentence that is open ends. */
static void add_thought(teacher *t, int32_t step, const char *thought, size_t length,
                        r2_text *text) {
    r2_text_addf(&t->ctx, text, "Step %d: ", (int)step);
    for (size_t k = 0; k < length; ++k)
        r2_text_add(&t->ctx, text, strchr("\t\r\n", thought[k]) ? " " : &thought[k], 1);
    if (!strchr(".!?", thought[length - 1])) r2_text_add(&t->ctx, text, ".", 1);
}

/* The output as it would be if reasoning ended with this step. */
static void write_step(teacher *t, job *j, const char *thought, size_t length, int32_t answer) {
    r2_text_clear(&j->output);
    r2_text_addf(&t->ctx, &j->output, "<think>\n%s", j->thoughts.data ? j->thoughts.data : "");
    add_thought(t, j->step, thought, length, &j->output);
    r2_text_addf(&t->ctx, &j->output, " I expect %d.\n</think><answer>%d</answer>", (int)answer,
                 (int)answer);
}

/* What the strict checker says of a reply, with all that came before it. */
static r2_verdict check_step(teacher *t, job *j, const char *content) {
    r2_task task = {j->id, &t->prompt, &j->evidence, &j->prompt, -1};
    const char *thought = "";
    size_t length = 0;
    const int32_t answer = read_reply(content, &thought, &length);
    r2_verdict verdict = R2_TRACE_MALFORMED;
    if (j->step == R2_STEP_ASK) task.answer = j->evidence.answer;
    if (!is_led(t)) {
        r2_text_clear(&j->output);
        r2_text_addf(&t->ctx, &j->output, "%s", content);
    } else if (answer >= 0) {
        write_step(t, j, thought, length, answer);
    }
    if ((answer >= 0 || !is_led(t)) && !j->output.failed)
        verdict = r2_check_output(&task, j->output.data).verdict;
    t->use.replies[j->step]++;
    t->use.accepted[j->step] += verdict == R2_TRACE_OK;
    t->use.right[j->step] += verdict == R2_TRACE_OK && answer == j->evidence.answer;
    return verdict;
}

/* Goes on to the next step after a reply that passed. */
static r2_status next_step(teacher *t, job *j, const char *content) {
    const char *thought = "";
    size_t length = 0;
    r2_text revealed = {NULL, 0, 0, false};
    r2_status status;
    read_reply(content, &thought, &length);
    add_message(j->messages, "assistant", content);
    add_revealed(t, j, &revealed);
    add_thought(t, j->step, thought, length, &j->thoughts);
    r2_text_addf(&t->ctx, &j->thoughts, " In fact %s.\n", revealed.data ? revealed.data : "");
    status = revealed.failed ? t->ctx.status : ask_step(t, j, j->step + 1, revealed.data);
    r2_text_free(&t->ctx, &revealed);
    return status;
}

/* What a reply leads to: the next step, the same once more, or the end. */
static r2_status take_content(teacher *t, job *j, const char *content) {
    const r2_verdict verdict = check_step(t, j, content);
    const bool last = j->step == R2_STEP_ASK;
    j->tries++;
    if (verdict == R2_TRACE_OK && !last) return next_step(t, j, content);
    j->attempts = 0;
    j->refused = verdict;
    j->done = j->answered = verdict == R2_TRACE_OK || !is_led(t) || j->tries >= STEP_TRIES;
    return j->output.failed ? t->ctx.status : R2_OK;
}

/* ---- what is there from an earlier run ---- */

/* Cuts off a line that an interruption left unfinished, then takes the replies as if they came. */
static r2_status read_earlier(teacher *t, const char *path) {
    r2_text text = {NULL, 0, 0, false};
    r2_status status;
    FILE *there = fopen(path, "rb");
    if (!there) return R2_OK;
    fclose(there);
    status = r2_read_file(&t->ctx, path, &text);
    if (!status && text.len > 0 && text.data[text.len - 1] != '\n') {
        while (text.len > 0 && text.data[text.len - 1] != '\n') --text.len;
        status = r2_write_file(&t->ctx, path, text.data, text.len);
    }
    r2_text_free(&t->ctx, &text);
    if (!status) status = r2_records_read(&t->ctx, &t->raw, path);
    for (int64_t i = 0; i < t->raw.n && !status; ++i) {
        const r2_record *record = &t->raw.record[i];
        job *j = record->id >= 0 && record->id < t->n ? &t->job[record->id] : NULL;
        if (!j || j->done || strcmp(record->prompt, j->prompt.user.data) != 0)
            return r2_fail(&t->ctx, R2_FORMAT, "%s:%lld: the reply to another run's prompt", path,
                           (long long)i + 1);
        status = take_content(t, j, record->output);
    }
    return status;
}

/* ---- one request ---- */

static size_t receive(char *bytes, size_t size, size_t count, void *hook_data) {
    job *j = (job *)((void **)hook_data)[1];
    r2_text_add((r2_ctx *)((void **)hook_data)[0], &j->reply, bytes, size * count);
    return j->reply.failed || j->reply.len > 16u << 20 ? 0 : size * count;
}

/* The request for the step that a job stands at: JSON, NULL without memory. */
static char *make_body(const teacher *t, const job *j) {
    cJSON *body = cJSON_CreateObject();
    char *text;
    cJSON_AddStringToObject(body, "model", t->server.model);
    cJSON_AddItemReferenceToObject(body, "messages", j->messages);
    cJSON_AddNumberToObject(body, "temperature", 0.7);
    cJSON_AddNumberToObject(body, "max_completion_tokens", 1024);
    text = cJSON_PrintUnformatted(body);
    cJSON_Delete(body);
    return text;
}

static bool start_job(teacher *t, job *j, CURLM *multi, void **pair) {
    char id[64];
    j->body = make_body(t, j);
    j->easy = j->body ? curl_easy_init() : NULL;
    if (!j->easy) return false;
    snprintf(id, sizeof id, "X-Request-ID: %lld-%d", (long long)j->id, (int)j->step);
    j->headers = curl_slist_append(NULL, "Content-Type: application/json");
    j->headers = curl_slist_append(j->headers, t->server.authorization);
    j->headers = curl_slist_append(j->headers, id); /* for the server's log */
    r2_text_clear(&j->reply);
    j->error[0] = '\0';
    pair[0] = &t->ctx;
    pair[1] = j;
    curl_easy_setopt(j->easy, CURLOPT_URL, t->server.url);
    curl_easy_setopt(j->easy, CURLOPT_HTTPHEADER, j->headers);
    curl_easy_setopt(j->easy, CURLOPT_POSTFIELDS, j->body);
    curl_easy_setopt(j->easy, CURLOPT_WRITEFUNCTION, receive);
    curl_easy_setopt(j->easy, CURLOPT_WRITEDATA, pair);
    curl_easy_setopt(j->easy, CURLOPT_TIMEOUT_MS, (long)t->opt.timeout_ms);
    curl_easy_setopt(j->easy, CURLOPT_ERRORBUFFER, j->error);
    curl_easy_setopt(j->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(j->easy, CURLOPT_PRIVATE, j);
    j->attempts++;
    t->use.requests++;
    t->use.retries += j->attempts > 1;
    return curl_multi_add_handle(multi, j->easy) == CURLM_OK;
}

static int64_t json_count(const cJSON *object, const char *key) {
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    return cJSON_IsNumber(value) ? (int64_t)value->valuedouble : 0;
}

/* A line of the raw file for what the model replied to the step. */
static bool log_content(teacher *t, const job *j, const char *content) {
    const r2_evidence *e = &j->evidence;
    r2_text line = {NULL, 0, 0, false};
    r2_record record = {j->id,
                        e->n_history,
                        j->step,
                        j->prompt.n_shown,
                        j->prompt.n_left_out,
                        -1,
                        t->run.data.user_key[e->user],
                        t->run.data.item_key[e->item],
                        r2_schedule_name(t->opt.schedule),
                        r2_words_name(t->prompt.words),
                        t->server.model,
                        j->prompt.system.data,
                        j->prompt.user.data,
                        content};
    bool good;
    r2_record_line(&t->ctx, &record, &line);
    r2_text_add(&t->ctx, &line, "\n", 1);
    good = !line.failed && fwrite(line.data, 1, line.len, t->log) == line.len && !fflush(t->log);
    r2_text_free(&t->ctx, &line);
    return good;
}

/* Takes the reply; false when it is not what the protocol says. */
static bool take_reply(teacher *t, job *j) {
    cJSON *root = cJSON_ParseWithLength(j->reply.data ? j->reply.data : "", j->reply.len);
    const cJSON *choice = cJSON_GetObjectItemCaseSensitive(root, "choices");
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(choice ? choice->child : NULL,
                                                            "message");
    const char *content = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(message, "content"));
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(root, "usage");
    bool good;
    t->use.tokens_in += json_count(tokens, "prompt_tokens");
    t->use.tokens_out += json_count(tokens, "completion_tokens");
    good = content && log_content(t, j, content) && take_content(t, j, content) == R2_OK;
    cJSON_Delete(root);
    return good;
}

/* What to say of a request that failed, and when to try again: after 2^attempts times the backoff,
   and as long again at random so that parallel requests spread; or when the server says. */
static bool retry_later(teacher *t, job *j, CURLcode code, long http) {
    r2_rng rng = r2_rng_make((uint64_t)j->id, R2_STREAM_USER, (uint64_t)j->attempts);
    double wait = 0.001 * (double)t->opt.backoff_ms * ldexp(1.0, j->attempts - 1);
    curl_off_t asked = 0;
    curl_easy_getinfo(j->easy, CURLINFO_RETRY_AFTER, &asked);
    wait *= 1.0 + r2_rng_double(&rng);
    if (asked > 0) wait = (double)asked;
    if (wait > 120.0) wait = 120.0;
    fprintf(stderr, "question %lld, step %d, attempt %d: ", (long long)j->id, (int)j->step,
            j->attempts);
    if (code != CURLE_OK) fprintf(stderr, "%s", j->error[0] ? j->error : curl_easy_strerror(code));
    else if (http != 200) fprintf(stderr, "HTTP %ld", http);
    else fprintf(stderr, "the reply is not a chat completion");
    if (j->attempts > t->opt.retries || (http >= 400 && http < 500 && http != 408 && http != 429)) {
        fprintf(stderr, "; given up\n");
        return false;
    }
    fprintf(stderr, "; again in %.1f s\n", wait);
    j->not_before = r2_seconds() + wait;
    return true;
}

static void finish_job(teacher *t, job *j, CURLM *multi, CURLcode code) {
    long http = 0;
    curl_easy_getinfo(j->easy, CURLINFO_RESPONSE_CODE, &http);
    if (code == CURLE_OK && http == 200 && take_reply(t, j)) {
        t->use.answered += j->answered;
    } else if (!retry_later(t, j, code, http)) {
        j->done = true;
        t->use.given_up++;
    }
    curl_multi_remove_handle(multi, j->easy);
    curl_easy_cleanup(j->easy);
    curl_slist_free_all(j->headers);
    cJSON_free(j->body);
    j->body = NULL;
    j->easy = NULL;
}

/* ---- all requests ---- */

/* Starts waiting jobs while fewer than `parallel` run; how many are not done. */
static int64_t start_jobs(teacher *t, CURLM *multi, void *(*pair)[2]) {
    int64_t open = 0;
    long running = 0;
    double now = r2_seconds();
    for (int64_t i = 0; i < t->n; ++i) running += t->job[i].easy != NULL;
    for (int64_t i = 0; i < t->n; ++i) {
        job *j = &t->job[i];
        if (j->done) continue;
        ++open;
        if (j->easy || running >= t->opt.parallel || j->not_before > now) continue;
        if (start_job(t, j, multi, pair[i])) ++running;
    }
    return open;
}

static int ask_all(teacher *t) {
    CURLM *multi = curl_multi_init();
    void *(*pair)[2] = (void *(*)[2])calloc((size_t)t->n, sizeof *pair);
    if (!multi || !pair) return 1;
    while (start_jobs(t, multi, pair) > 0) {
        int running = 0, left = 0;
        CURLMsg *message;
        curl_multi_perform(multi, &running);
        curl_multi_poll(multi, NULL, 0, 50, NULL);
        while ((message = curl_multi_info_read(multi, &left)) != NULL) {
            void *owner = NULL;
            if (message->msg != CURLMSG_DONE) continue;
            curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &owner);
            finish_job(t, (job *)owner, multi, message->data.result);
        }
    }
    curl_multi_cleanup(multi);
    free(pair);
    return 0;
}

/* ---- the result ---- */

/* The callback of r2_teach: what came of the conversation. */
static r2_status write_output(r2_ctx *ctx, void *hook_data, const r2_task *task, r2_text *output) {
    const teacher *t = (const teacher *)hook_data;
    r2_text_addf(ctx, output, "%s", t->job[task->index].output.data);
    return R2_OK;
}

/* Adds the triples of what was answered, in the order of the questions. */
static r2_status keep(teacher *t, r2_tally *tally) {
    const r2_teacher model = {write_output, t, t->server.model, false, tally};
    r2_status status = R2_OK;
    for (int64_t i = 0; i < t->n && !status; ++i) {
        const job *j = &t->job[i];
        if (!j->answered) continue;
        if (is_led(t) && j->refused != R2_TRACE_OK)
            r2_tally_add(tally, j->refused, t->run.evidence[i].answer);
        else status = r2_teach(&t->ctx, &t->prompt, &t->run.evidence[i], 1, i, &model, &t->kept);
    }
    return status;
}

static void report_steps(const teacher *t) {
    const usage *u = &t->use;
    for (int step = 1; step <= R2_STEP_ASK && is_led(t); ++step)
        printf("step %d: %lld replies, %lld accepted, %lld with the right answer\n", step,
               (long long)u->replies[step], (long long)u->accepted[step],
               (long long)u->right[step]);
}

/* Filters what was answered, writes the triples, tells what happened. */
static r2_status keep_and_report(teacher *t) {
    const usage *u = &t->use;
    r2_text report = {NULL, 0, 0, false};
    r2_tally tally;
    r2_status status;
    memset(&tally, 0, sizeof tally);
    status = keep(t, &tally);
    if (!status) status = r2_records_write(&t->ctx, &t->kept, t->opt.out);
    r2_tally_report(&t->ctx, &tally, &report);
    if (report.data) printf("%s", report.data);
    report_steps(t);
    printf("%lld requests, %lld of them again; %lld answered, %lld given up; %lld replies from "
           "before\n",
           (long long)u->requests, (long long)u->retries, (long long)u->answered,
           (long long)u->given_up, (long long)t->raw.n);
    printf("%lld tokens in, %lld out, cost %.4f\n", (long long)u->tokens_in,
           (long long)u->tokens_out,
           1e-6 * ((double)u->tokens_in * t->server.price_in +
                   (double)u->tokens_out * t->server.price_out));
    printf("%lld of %lld kept in %s\n", (long long)t->kept.n, (long long)t->n, t->opt.out);
    r2_text_free(&t->ctx, &report);
    return status;
}

static void free_job(teacher *t, job *j) {
    cJSON_Delete(j->messages);
    r2_prompt_free(&t->ctx, &j->prompt);
    r2_text_free(&t->ctx, &j->thoughts);
    r2_text_free(&t->ctx, &j->output);
    r2_text_free(&t->ctx, &j->reply);
}

static void free_teacher(teacher *t) {
    for (int64_t i = 0; t->job && i < t->n; ++i) free_job(t, &t->job[i]);
    free(t->job);
    r2_records_free(&t->ctx, &t->raw);
    r2_records_free(&t->ctx, &t->kept);
    r2_run_free(&t->ctx, &t->run);
    if (t->log) fclose(t->log);
}

/* Opens OUT.raw for appending. */
static r2_status open_log(teacher *t, const char *path) {
    t->log = fopen(path, "ab");
    return t->log ? R2_OK : r2_fail(&t->ctx, R2_IO, "%s: %s", path, strerror(errno));
}

static r2_status teach(teacher *t) {
    char path[4096];
    r2_status status;
    snprintf(path, sizeof path, "%s.raw", t->opt.out);
    status = open_log(t, path); /* tried before any work; what is there may be mended below */
    if (status) return status;
    fclose(t->log);
    t->log = NULL;
    status = make_questions(t);
    if (status) return status;
    t->job = (job *)calloc((size_t)t->n, sizeof *t->job);
    if (!t->job) return r2_fail(&t->ctx, R2_NO_MEMORY, "out of memory");
    for (int64_t i = 0; i < t->n && !status; ++i) {
        t->job[i].id = i;
        status = begin_job(t, &t->job[i]);
    }
    if (!status) status = read_earlier(t, path);
    if (!status) status = open_log(t, path);
    if (status) return status;
    if (ask_all(t)) return r2_fail(&t->ctx, R2_NO_MEMORY, "libcurl cannot start");
    return keep_and_report(t);
}

int main(int argc, char **argv) {
    static teacher t; /* zeroed */
    r2_status status;
    int64_t given_up;
    t.ctx = r2_ctx_default();
    t.opt = parse_options(argc, argv);
    if (read_server(&t.server)) return 1;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    status = teach(&t);
    if (status) fprintf(stderr, "llm_teacher: %s\n", t.ctx.message);
    given_up = t.use.given_up;
    free_teacher(&t);
    curl_global_cleanup();
    return output_end("llm_teacher", status ? 1 : given_up ? 3 : 0);
}

/* llm_teacher.c: reasoning traces from any server that speaks the OpenAI chat protocol (vLLM,
   llama.cpp, Ollama, hosted ones).

       export R2_LLM_URL=http://127.0.0.1:8000/v1 R2_LLM_MODEL=qwen2.5 R2_LLM_KEY=...
       llm_teacher --data data/mini --n 100 --out out/traces.jsonl

   Each prompt goes out with its correct answer as guidance (D6). Replies are kept in OUT.raw as they
   come, so that an interrupted run goes on where it stopped; those that pass the strict filter
   become SFT triples in OUT. R2_LLM_PRICE_IN and R2_LLM_PRICE_OUT, per million tokens, give the
   cost.
   Exit status: 0 every prompt was answered, 3 some were not, 1 an error, 2 an error of usage. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "../common/options.h"
#include "../common/output.h"

#include <cjson/cJSON.h>
#include <curl/curl.h>
#include <math.h>

typedef struct options {
    const char *data, *out;
    int64_t n, parallel, retries, timeout_ms, backoff_ms;
} options;

/* Where the server is and what it costs: from the environment. */
typedef struct server {
    const char *model;
    char url[1024], authorization[1024];
    double price_in, price_out; /* per million tokens */
} server;

/* One prompt on its way. */
typedef struct job {
    int64_t id;
    char *body; /* the request, JSON */
    int attempts;
    double not_before; /* wall clock: backing off until then */
    bool done, answered;
    CURL *easy; /* NULL: not running */
    struct curl_slist *headers;
    r2_text reply;
    char error[CURL_ERROR_SIZE];
} job;

typedef struct usage {
    int64_t requests, retries, answered, given_up, tokens_in, tokens_out;
} usage;

typedef struct teacher {
    r2_ctx ctx;
    options opt;
    server server;
    r2_run run;
    r2_prompt_config prompt;
    r2_records asked, raw, kept; /* prompts; replies as they came; triples that passed */
    job *job;
    int64_t n;
    usage use;
    FILE *log; /* OUT.raw, open for appending */
} teacher;

/* ---- what is asked for ---- */

static const char usage_text[] =
    "[options]\n"
    "  --data DIR       ratings (default data/mini)\n"
    "  --out FILE       what passed (default traces.jsonl); FILE.raw holds all replies\n"
    "  --n N            prompts (default 100)\n"
    "  --parallel N     requests at a time (default 4)\n"
    "  --retries N      of a request (default 4)\n"
    "  --timeout MS     of a request, in milliseconds (default 120000)\n"
    "  --backoff MS     before the first retry, then doubled (default 1000)\n"
    "  --help           this text\n"
    "Where the server is: R2_LLM_URL, R2_LLM_MODEL, R2_LLM_KEY in the environment; what it costs per\n"
    "million tokens: R2_LLM_PRICE_IN, R2_LLM_PRICE_OUT.\n";

static options parse_options(int argc, char **argv) {
    options o = {"data/mini", "traces.jsonl", 100, 4, 4, 120000, 1000};
    const options_entry list[] = {{"--data", OPTIONS_TEXT, &o.data, 0, 0},
                                  {"--out", OPTIONS_TEXT, &o.out, 0, 0},
                                  {"--n", OPTIONS_WHOLE, &o.n, 1, 10000000},
                                  {"--parallel", OPTIONS_WHOLE, &o.parallel, 1, 1000},
                                  {"--retries", OPTIONS_WHOLE, &o.retries, 0, 1000},
                                  {"--timeout", OPTIONS_WHOLE, &o.timeout_ms, 1, 86400000},
                                  {"--backoff", OPTIONS_WHOLE, &o.backoff_ms, 1, 86400000}};
    options_read("llm_teacher", usage_text, list, sizeof list / sizeof *list, argc, argv, NULL);
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

/* ---- prompts ---- */

static r2_status make_prompts(teacher *t) {
    const r2_teacher nobody = {NULL, NULL, "", false, NULL};
    r2_run_config config = r2_run_config_default();
    r2_status status;
    config.n_groups = 2048 +
                      t->opt.n / (1 + config.n_sampled); /* some more, to count weights from */
    status = r2_run_init(&t->ctx, &t->run, t->opt.data, &config);
    if (status != R2_OK) return status;
    t->n = t->opt.n < t->run.n_train ? t->opt.n : t->run.n_train;
    t->prompt = r2_prompt_config_default();
    t->prompt.words = R2_WORDS_ENGLISH;
    t->prompt.data = &t->run.data;
    t->prompt.codebook = &t->run.codebook;
    return r2_teach(&t->ctx, &t->prompt, t->run.evidence, t->n, 0, &nobody, &t->asked);
}

static void add_message(cJSON *messages, const char *role, const char *content) {
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "role", role);
    cJSON_AddStringToObject(message, "content", content);
    cJSON_AddItemToArray(messages, message);
}

/* The request for one prompt. Only the teacher sees the guidance; the record's prompt is bare. */
static char *make_body(const teacher *t, int64_t i) {
    const r2_record *record = &t->asked.record[i];
    int answer = (int)t->run.evidence[i].answer;
    cJSON *body = cJSON_CreateObject(), *messages = cJSON_AddArrayToObject(body, "messages");
    size_t room = strlen(record->prompt) + 200;
    char *user = (char *)malloc(room), *text = NULL;
    if (user) {
        snprintf(user, room,
                 "%s\nThe correct answer is %d. Write the steps that lead to it, as if you "
                 "did not know it yet.",
                 record->prompt, answer);
        cJSON_AddStringToObject(body, "model", t->server.model);
        add_message(messages, "system", record->system);
        add_message(messages, "user", user);
        cJSON_AddNumberToObject(body, "temperature", 0.7);
        cJSON_AddNumberToObject(body, "max_completion_tokens", 1024);
        text = cJSON_PrintUnformatted(body);
    }
    free(user);
    cJSON_Delete(body);
    return text;
}

/* ---- what is there from an earlier run ---- */

/* Cuts off a line that an interruption left unfinished, then reads the rest. */
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
        int64_t id = t->raw.record[i].id;
        if (id < 0 || id >= t->n || strcmp(t->raw.record[i].prompt, t->asked.record[id].prompt))
            return r2_fail(&t->ctx, R2_FORMAT, "%s:%lld: the reply to another run's prompt", path,
                           (long long)i + 1);
        t->job[id].done = t->job[id].answered = true;
    }
    return status;
}

/* ---- one request ---- */

static size_t receive(char *bytes, size_t size, size_t count, void *user) {
    job *j = (job *)((void **)user)[1];
    r2_text_add((r2_ctx *)((void **)user)[0], &j->reply, bytes, size * count);
    return j->reply.failed || j->reply.len > 16u << 20 ? 0 : size * count;
}

static bool start_job(teacher *t, job *j, CURLM *multi, void **pair) {
    j->easy = curl_easy_init();
    if (!j->easy) return false;
    j->headers = curl_slist_append(NULL, "Content-Type: application/json");
    j->headers = curl_slist_append(j->headers, t->server.authorization);
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

/* The reply's text into the raw file; false when the reply is not what the protocol says. */
static bool take_reply(teacher *t, job *j) {
    cJSON *root = cJSON_ParseWithLength(j->reply.data ? j->reply.data : "", j->reply.len);
    const cJSON *choice = cJSON_GetObjectItemCaseSensitive(root, "choices");
    const cJSON *message = cJSON_GetObjectItemCaseSensitive(choice ? choice->child : NULL,
                                                            "message");
    const char *content = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(message, "content"));
    const cJSON *tokens = cJSON_GetObjectItemCaseSensitive(root, "usage");
    r2_text line = {NULL, 0, 0, false};
    bool good = content != NULL;
    t->use.tokens_in += json_count(tokens, "prompt_tokens");
    t->use.tokens_out += json_count(tokens, "completion_tokens");
    if (good) {
        r2_record record = t->asked.record[j->id];
        record.output = content;
        record.source = t->server.model;
        r2_record_line(&t->ctx, &record, &line);
        r2_text_add(&t->ctx, &line, "\n", 1);
        good = !line.failed && fwrite(line.data, 1, line.len, t->log) == line.len &&
               fflush(t->log) == 0 && r2_records_add(&t->ctx, &t->raw, &record) == R2_OK;
    }
    r2_text_free(&t->ctx, &line);
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
    fprintf(stderr, "prompt %lld, attempt %d: ", (long long)j->id, j->attempts);
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
        j->done = j->answered = true;
        t->use.answered++;
    } else if (!retry_later(t, j, code, http)) {
        j->done = true;
        t->use.given_up++;
    }
    curl_multi_remove_handle(multi, j->easy);
    curl_easy_cleanup(j->easy);
    curl_slist_free_all(j->headers);
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

static int by_id(const void *a, const void *b) {
    int64_t x = ((const r2_record *)a)->id, y = ((const r2_record *)b)->id;
    return (x > y) - (x < y);
}

/* Filters what was answered, writes the triples, tells what happened. */
static r2_status keep_and_report(teacher *t) {
    r2_text report = {NULL, 0, 0, false};
    r2_tally tally;
    r2_teacher model = {r2_teacher_records, &t->raw, t->server.model, false, &tally};
    r2_status status = R2_OK;
    memset(&tally, 0, sizeof tally);
    if (t->raw.n) qsort(t->raw.record, (size_t)t->raw.n, sizeof *t->raw.record, by_id);
    for (int64_t i = 0; i < t->n && !status; ++i)
        if (t->job[i].answered)
            status = r2_teach(&t->ctx, &t->prompt, &t->run.evidence[i], 1, i, &model, &t->kept);
    if (!status) status = r2_records_write(&t->ctx, &t->kept, t->opt.out);
    r2_tally_report(&t->ctx, &tally, &report);
    if (report.data) printf("%s", report.data);
    printf("%lld requests, %lld of them again; %lld answered, %lld given up, %lld from before\n",
           (long long)t->use.requests, (long long)t->use.retries, (long long)t->use.answered,
           (long long)t->use.given_up, (long long)(t->raw.n - t->use.answered));
    printf("%lld tokens in, %lld out, cost %.4f\n", (long long)t->use.tokens_in,
           (long long)t->use.tokens_out,
           1e-6 * ((double)t->use.tokens_in * t->server.price_in +
                   (double)t->use.tokens_out * t->server.price_out));
    printf("%lld of %lld kept in %s\n", (long long)t->kept.n, (long long)t->n, t->opt.out);
    r2_text_free(&t->ctx, &report);
    return status;
}

static void free_teacher(teacher *t) {
    for (int64_t i = 0; t->job && i < t->n; ++i) {
        cJSON_free(t->job[i].body);
        r2_text_free(&t->ctx, &t->job[i].reply);
    }
    free(t->job);
    r2_records_free(&t->ctx, &t->asked);
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
    status = make_prompts(t);
    if (status) return status;
    t->job = (job *)calloc((size_t)t->n, sizeof *t->job);
    if (!t->job) return r2_fail(&t->ctx, R2_NO_MEMORY, "out of memory");
    for (int64_t i = 0; i < t->n; ++i) {
        t->job[i].id = i;
        t->job[i].body = make_body(t, i);
        if (!t->job[i].body) return r2_fail(&t->ctx, R2_NO_MEMORY, "out of memory");
    }
    status = read_earlier(t, path);
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

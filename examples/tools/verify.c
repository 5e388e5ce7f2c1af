/* verify.c: does another program compute what R2Rec computes? Runs the vectors of data/vectors against
   any program that reads one JSON request a line and writes one reply a line (SPEC.md, section 0.2), and
   shows the first difference of each group.

       verify -- python3 tests/reference/r2rec_ref.py
       verify --group rng -- node tests/vectors/adapter.mjs
       verify --self                  the header itself
       verify --serve                 answers requests as an implementation, from the header

   Exit status: 0 everything that was not skipped agrees, 1 something does not, 2 the arguments or the
   vectors are wrong. */
#define _POSIX_C_SOURCE 200809L /* fork, poll, scandir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../common/conform.h"
#include "../common/options.h"
#include "../common/output.h"
#include "../common/vectors.h"

#define VERSION 1

typedef struct options {
    const char *vectors, *examples, *group, *report;
    int64_t seconds, threads;
    bool self, serve;
} options;

static const char usage[] =
    "[options] (--self | --serve | -- PROGRAM [ARGUMENTS])\n"
    "  --vectors DIR    the files (default data/vectors/v1)\n"
    "  --group NAME     this group alone (default: all)\n"
    "  --examples FILE  in place of the vectors the examples in a specification\n"
    "  --report FILE    writes every result as JSON\n"
    "  --timeout N      seconds for one reply (default 60)\n"
    "  --threads N      of --self and --serve (default: every processor)\n"
    "  --self           checks r2rec.h\n"
    "  --serve          answers requests on standard input, as an implementation\n"
    "  --help           this text\n";

/* ---- the implementation under test ---- */

typedef struct subject {
    r2_ctx *ctx;
    char **command; /* NULL: r2rec.h itself */
    int64_t seconds;
    pid_t pid; /* 0: not running */
    int to, from;
    r2_text line; /* the last one read; what follows it */
    r2_text rest;
    cJSON *about; /* its implementation object */
    char group[64];
} subject;

static void subject_kill(subject *s) {
    if (!s->pid) return;
    close(s->to);
    close(s->from);
    kill(s->pid, SIGKILL);
    waitpid(s->pid, NULL, 0);
    s->pid = 0;
    r2_text_clear(&s->rest);
}

static bool subject_spawn(subject *s) {
    int to[2], from[2];
    if (pipe(to) != 0) return false;
    if (pipe(from) != 0) return close(to[0]), close(to[1]), false;
    s->pid = fork();
    if (s->pid == 0) {
        dup2(to[0], STDIN_FILENO);
        dup2(from[1], STDOUT_FILENO);
        close(to[0]), close(to[1]), close(from[0]), close(from[1]);
        execvp(s->command[0], s->command);
        fprintf(stderr, "verify: cannot start %s\n", s->command[0]);
        _exit(127);
    }
    close(to[0]);
    close(from[1]);
    s->to = to[1];
    s->from = from[0];
    if (s->pid < 0) s->pid = 0;
    return s->pid > 0;
}

static bool subject_send(subject *s, const cJSON *message) {
    r2_text text = {NULL, 0, 0, false};
    size_t done = 0;
    bool good;
    conform_print(s->ctx, message, &text);
    r2_text_add(s->ctx, &text, "\n", 1);
    good = !text.failed;
    while (good && done < text.len) {
        const ssize_t n = write(s->to, text.data + done, text.len - done);
        good = n > 0;
        if (n > 0) done += (size_t)n;
    }
    r2_text_free(s->ctx, &text);
    return good;
}

typedef enum reply_kind { REPLY, SILENCE, CRASH } reply_kind;

/* Reads one line within the time; into s->line. */
static reply_kind subject_read(subject *s) {
    const double end = r2_seconds() + (double)s->seconds;
    char *newline;
    while (!(newline = s->rest.len ? (char *)memchr(s->rest.data, '\n', s->rest.len) : NULL)) {
        struct pollfd ready = {s->from, POLLIN, 0};
        const double left = end - r2_seconds();
        char bytes[65536];
        ssize_t n;
        if (left <= 0.0 || poll(&ready, 1, (int)(1000.0 * left) + 1) == 0) return SILENCE;
        n = read(s->from, bytes, sizeof bytes);
        if (n <= 0) return CRASH;
        r2_text_add(s->ctx, &s->rest, bytes, (size_t)n);
    }
    r2_text_clear(&s->line);
    r2_text_add(s->ctx, &s->line, s->rest.data, (size_t)(newline - s->rest.data));
    s->rest.len -= (size_t)(newline + 1 - s->rest.data);
    memmove(s->rest.data, newline + 1, s->rest.len);
    return REPLY;
}

/* Sends a message, reads the reply; NULL unless it came and is JSON. */
static cJSON *subject_ask(subject *s, const cJSON *message, reply_kind *kind) {
    cJSON *reply;
    *kind = subject_send(s, message) ? subject_read(s) : CRASH;
    if (*kind != REPLY) {
        subject_kill(s);
        return NULL;
    }
    reply = cJSON_ParseWithLength(s->line.data, s->line.len);
    return reply ? reply : cJSON_CreateObject();
}

static cJSON *command_new(const char *name) {
    cJSON *message = cJSON_CreateObject();
    cJSON_AddStringToObject(message, "cmd", name);
    return message;
}

/* Starts the program and checks its first message. */
static r2_status subject_start(subject *s) {
    cJSON *message = command_new("start"), *reply = NULL;
    reply_kind kind = CRASH;
    r2_status status = R2_OK;
    const cJSON *version;
    cJSON_AddNumberToObject(message, "version", VERSION);
    if (subject_spawn(s)) reply = subject_ask(s, message, &kind);
    version = cJSON_GetObjectItemCaseSensitive(reply, "version");
    if (!reply || !cJSON_IsNumber(version) || version->valuedouble != VERSION)
        status = r2_fail(s->ctx, R2_FORMAT,
                         "%s: expected a reply to start with version %d, found %s", s->command[0],
                         VERSION,
                         kind == CRASH     ? "its end"
                         : kind == SILENCE ? "none in time"
                                           : s->line.data);
    cJSON_Delete(s->about);
    s->about = cJSON_DetachItemFromObjectCaseSensitive(reply, "implementation");
    s->group[0] = '\0';
    cJSON_Delete(message);
    cJSON_Delete(reply);
    return status;
}

/* Announces a group; whether it is implemented. Starts the program when it does not run. */
static bool subject_group(subject *s, const char *name) {
    cJSON *message, *reply;
    reply_kind kind;
    bool good;
    if (!s->command) return conform_find(name, NULL) != NULL;
    if (!s->pid && subject_start(s) != R2_OK) return false;
    if (!strcmp(s->group, name)) return true;
    message = command_new("group");
    cJSON_AddStringToObject(message, "group", name);
    reply = subject_ask(s, message, &kind);
    good = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(reply, "ok"));
    if (good) snprintf(s->group, sizeof s->group, "%s", name);
    cJSON_Delete(message);
    cJSON_Delete(reply);
    return good;
}

static void subject_end(subject *s) {
    if (s->pid) {
        cJSON *message = command_new("stop");
        subject_send(s, message);
        close(s->to);
        close(s->from);
        waitpid(s->pid, NULL, 0);
        cJSON_Delete(message);
    }
    cJSON_Delete(s->about);
    r2_text_free(s->ctx, &s->line);
    r2_text_free(s->ctx, &s->rest);
}

/* ---- running ---- */

typedef enum outcome { PASSED, FAILED, SKIPPED, CRASHED, TIMED_OUT, N_OUTCOMES } outcome;

static const char *const outcome_name[N_OUTCOMES] = {"passed", "failed", "skipped", "crashed",
                                                     "timed out"};

typedef struct tally {
    int64_t n[N_OUTCOMES];
    const cJSON *first; /* test that did not pass */
    vectors_difference difference;
} tally;

static cJSON *request_of(const vectors_group *group, const cJSON *test) {
    cJSON *request = command_new("run");
    cJSON_AddStringToObject(request, "id", vectors_string(test, "id"));
    cJSON_AddStringToObject(request, "group", group->name);
    cJSON_AddStringToObject(request, "op", vectors_string(test, "op"));
    cJSON_AddItemToObject(request, "input",
                          cJSON_Duplicate(cJSON_GetObjectItemCaseSensitive(test, "input"), true));
    vectors_fill_in(request, cJSON_GetObjectItemCaseSensitive(group->file, "shared"));
    return request;
}

/* The reply of r2rec.h, in the form of other programs' replies. */
static cJSON *reply_of_self(r2_ctx *ctx, const cJSON *request) {
    cJSON *reply = cJSON_CreateObject();
    cJSON *output = conform_answer(ctx, vectors_string(request, "group"),
                                   vectors_string(request, "op"),
                                   cJSON_GetObjectItemCaseSensitive(request, "input"));
    cJSON_AddStringToObject(reply, "id", vectors_string(request, "id"));
    if (output) cJSON_AddItemToObject(reply, "output", output);
    else cJSON_AddStringToObject(reply, "error", ctx->message);
    return reply;
}

/* What a reply is worth. A reply that is neither output nor error nor skip has failed. */
static outcome judge(const vectors_group *group, const cJSON *test, const cJSON *reply,
                     vectors_difference *difference) {
    const cJSON *output = cJSON_GetObjectItemCaseSensitive(reply, "output");
    const char *error = vectors_string(reply, "error");
    if (cJSON_GetObjectItemCaseSensitive(reply, "skip")) return SKIPPED;
    memset(difference, 0, sizeof *difference);
    if (strcmp(vectors_string(reply, "id"), vectors_string(test, "id")) != 0)
        vectors_differ(difference, "id", "expected that of the request, found \"%.60s\"",
                       vectors_string(reply, "id"));
    else if (!output && !cJSON_GetObjectItemCaseSensitive(reply, "error"))
        vectors_differ(difference, "reply", "expected output, error or skip, found none of them");
    else *difference = vectors_judge(group, test, output, error);
    return difference->found ? FAILED : PASSED;
}

static outcome run_test(subject *s, const vectors_group *group, const cJSON *test,
                        vectors_difference *difference) {
    cJSON *request = request_of(group, test), *reply;
    reply_kind kind = REPLY;
    outcome out = SKIPPED;
    memset(difference, 0, sizeof *difference);
    if (!s->command) reply = reply_of_self(s->ctx, request);
    else if (!subject_group(s, group->name)) reply = NULL, kind = CRASH;
    else reply = subject_ask(s, request, &kind);
    if (reply) out = judge(group, test, reply, difference);
    else out = kind == SILENCE ? TIMED_OUT : CRASHED;
    if (!reply) vectors_differ(difference, "reply", "none: %s", outcome_name[out]);
    cJSON_Delete(request);
    cJSON_Delete(reply);
    return out;
}

/* A line of the machine-readable report. */
static void report_test(cJSON *report, const vectors_group *group, const cJSON *test, outcome out,
                        const vectors_difference *difference) {
    cJSON *line = cJSON_CreateObject();
    const cJSON *flags = cJSON_GetObjectItemCaseSensitive(test, "flags");
    cJSON_AddStringToObject(line, "id", vectors_string(test, "id"));
    cJSON_AddStringToObject(line, "group", group->name);
    cJSON_AddStringToObject(line, "result", outcome_name[out]);
    if (flags) cJSON_AddItemToObject(line, "flags", cJSON_Duplicate(flags, true));
    if (difference->found) cJSON_AddStringToObject(line, "difference", difference->text);
    cJSON_AddItemToArray(report, line);
}

static tally run_group(subject *s, const vectors_group *group, cJSON *report) {
    const bool implemented = subject_group(s, group->name);
    const cJSON *test;
    tally t;
    memset(&t, 0, sizeof t);
    cJSON_ArrayForEach(test, group->tests) {
        vectors_difference difference;
        outcome out = SKIPPED;
        memset(&difference, 0, sizeof difference);
        if (implemented) out = run_test(s, group, test, &difference);
        t.n[out]++;
        if (difference.found && !t.first) t.first = test, t.difference = difference;
        report_test(report, group, test, out, &difference);
    }
    return t;
}

/* ---- what a person sees ---- */

static void show_line(const char *name, const tally *t) {
    int64_t all = 0;
    for (int k = 0; k < N_OUTCOMES; ++k) all += t->n[k];
    printf("%-10s %6lld", name, (long long)all);
    for (int k = 0; k < N_OUTCOMES; ++k) printf(" %9lld", (long long)t->n[k]);
    printf("\n");
}

/* The first difference of a group, with what its flags say of the likely bug. */
static void show_difference(const vectors_group *group, const tally *t) {
    const cJSON *flags = cJSON_GetObjectItemCaseSensitive(group->file, "flags"), *flag;
    if (!t->first) return;
    printf("    %s %s: %s\n      %s\n", vectors_string(t->first, "id"),
           vectors_string(t->first, "op"), vectors_string(t->first, "about"), t->difference.text);
    cJSON_ArrayForEach(flag, cJSON_GetObjectItemCaseSensitive(t->first, "flags"))
        printf("      %s: %s\n", flag->valuestring, vectors_string(flags, flag->valuestring));
}

static int ends_as_vectors(const struct dirent *entry) {
    const size_t len = strlen(entry->d_name);
    return len > 5 && !strcmp(entry->d_name + len - 5, ".json") &&
           strcmp(entry->d_name, "schema.json") != 0;
}

static r2_status verify_file(subject *s, const options *o, const char *name, cJSON *report,
                             tally *sum) {
    char path[1024];
    vectors_group group;
    r2_status status;
    tally t;
    snprintf(path, sizeof path, "%s/%s", o->vectors, name);
    status = vectors_load(s->ctx, path, &group);
    if (status == R2_OK && o->examples) status = vectors_examples(s->ctx, o->examples, &group);
    if (status == R2_OK && (!o->group || !strcmp(o->group, group.name)) &&
        cJSON_GetArraySize(group.tests) > 0) {
        t = run_group(s, &group, report);
        show_line(group.name, &t);
        show_difference(&group, &t);
        for (int k = 0; k < N_OUTCOMES; ++k) sum->n[k] += t.n[k];
    }
    vectors_free(&group);
    return status;
}

static r2_status write_report(r2_ctx *ctx, const subject *s, const char *path, cJSON *tests) {
    cJSON *report = cJSON_CreateObject();
    r2_status status = R2_NO_MEMORY;
    char *text;
    cJSON_AddNumberToObject(report, "version", VERSION);
    if (s->about) cJSON_AddItemToObject(report, "implementation", cJSON_Duplicate(s->about, true));
    cJSON_AddItemToObject(report, "tests", tests);
    text = cJSON_Print(report);
    if (text) status = r2_write_file(ctx, path, text, strlen(text));
    cJSON_free(text);
    cJSON_Delete(report);
    return status;
}

static int verify(subject *s, const options *o) {
    struct dirent **file = NULL;
    const int n = scandir(o->vectors, &file, ends_as_vectors, alphasort);
    cJSON *report = cJSON_CreateArray();
    r2_status status = R2_OK;
    tally sum;
    memset(&sum, 0, sizeof sum);
    if (n < 1) status = r2_fail(s->ctx, R2_IO, "%s: expected files of vectors", o->vectors);
    if (status == R2_OK && s->command) status = subject_start(s);
    if (status == R2_OK)
        printf("%-10s %6s %9s %9s %9s %9s %9s\n", "group", "tests", "passed", "failed", "skipped",
               "crashed", "timed out");
    for (int k = 0; k < n && status == R2_OK; ++k)
        status = verify_file(s, o, file[k]->d_name, report, &sum);
    for (int k = 0; k < n; ++k) free(file[k]);
    free(file);
    if (status == R2_OK) show_line("all", &sum);
    if (status == R2_OK && o->report) status = write_report(s->ctx, s, o->report, report);
    else cJSON_Delete(report);
    if (status != R2_OK) return fprintf(stderr, "verify: %s\n", s->ctx->message), 2;
    if (sum.n[PASSED] + sum.n[FAILED] + sum.n[CRASHED] + sum.n[TIMED_OUT] == 0)
        return fprintf(stderr, "verify: no test was run\n"), 2;
    return sum.n[FAILED] + sum.n[CRASHED] + sum.n[TIMED_OUT] > 0;
}

/* ---- r2rec.h as an implementation ---- */

static cJSON *serve_reply(r2_ctx *ctx, const cJSON *request) {
    const char *command = vectors_string(request, "cmd");
    cJSON *reply;
    if (!strcmp(command, "run")) return reply_of_self(ctx, request);
    reply = cJSON_CreateObject();
    if (!strcmp(command, "group")) {
        cJSON_AddBoolToObject(reply, "ok",
                              conform_find(vectors_string(request, "group"), NULL) != NULL);
    } else {
        cJSON *about = cJSON_AddObjectToObject(reply, "implementation");
        cJSON_AddNumberToObject(reply, "version", VERSION);
        cJSON_AddStringToObject(about, "name", "r2rec.h");
        cJSON_AddStringToObject(about, "language", "C");
        cJSON_AddStringToObject(about, "version", R2_VERSION);
    }
    return reply;
}

static int serve(r2_ctx *ctx) {
    char *line = NULL;
    size_t room = 0;
    bool stop = false;
    while (!stop && getline(&line, &room, stdin) > 0) {
        cJSON *request = cJSON_Parse(line), *reply;
        stop = !strcmp(vectors_string(request, "cmd"), "stop");
        reply = stop ? NULL : serve_reply(ctx, request);
        if (reply) {
            r2_text text = {NULL, 0, 0, false};
            conform_print(ctx, reply, &text);
            printf("%s\n", text.failed ? "{}" : text.data);
            fflush(stdout);
            r2_text_free(ctx, &text);
        }
        cJSON_Delete(request);
        cJSON_Delete(reply);
    }
    free(line);
    return 0;
}

/* Arguments after -- are the program under test: they are not ours. */
static char **split_arguments(int *argc, char **argv) {
    for (int k = 1; k < *argc; ++k)
        if (!strcmp(argv[k], "--")) {
            char **command = k + 1 < *argc ? argv + k + 1 : NULL;
            *argc = k;
            return command;
        }
    return NULL;
}

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    options o = {"data/vectors/v1", NULL, NULL, NULL, 60, ctx.n_threads, false, false};
    const options_entry list[] = {{"--vectors", OPTIONS_TEXT, &o.vectors, 0, 0},
                                  {"--group", OPTIONS_TEXT, &o.group, 0, 0},
                                  {"--examples", OPTIONS_TEXT, &o.examples, 0, 0},
                                  {"--report", OPTIONS_TEXT, &o.report, 0, 0},
                                  {"--timeout", OPTIONS_WHOLE, &o.seconds, 1, 86400},
                                  {"--threads", OPTIONS_WHOLE, &o.threads, 1, 1024},
                                  {"--self", OPTIONS_FLAG, &o.self, 1, 0},
                                  {"--serve", OPTIONS_FLAG, &o.serve, 1, 0}};
    subject s;
    int status;
    memset(&s, 0, sizeof s);
    s.ctx = &ctx;
    s.command = split_arguments(&argc, argv);
    options_read("verify", usage, list, sizeof list / sizeof *list, argc, argv, NULL);
    s.seconds = o.seconds;
    ctx.n_threads = (int)o.threads;
    if (o.self + o.serve + (s.command != NULL) != 1) {
        fprintf(stderr, "verify: expected one of --self, --serve, -- PROGRAM\n");
        return 2;
    }
    if (o.serve) return serve(&ctx);
    signal(SIGPIPE, SIG_IGN); /* a program that ended is found out by its silence */
    status = verify(&s, &o);
    subject_end(&s);
    return output_end("verify", status);
}

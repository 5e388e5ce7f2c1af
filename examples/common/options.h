/* options.h: a command line, read strictly. A program lists its options once; what it does not
   understand is one sentence (the option, what was expected, what was found) and exit status 2. */
#ifndef R2_OPTIONS_H
#define R2_OPTIONS_H

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<cjson/cJSON.h>)
#include <cjson/cJSON.h>
#else
#include <cJSON.h>
#endif
#endif

#include "output.h"

typedef enum options_kind {
    OPTIONS_TEXT = 0, /* to a const char *; low: may be ""  */
    OPTIONS_WHOLE,    /* to an int64_t in [low, high]       */
    OPTIONS_NUMBER,   /* to a double in [low, high]         */
    OPTIONS_FLAG      /* no value; the bool becomes low     */
} options_kind;

typedef struct options_entry {
    const char *name;
    options_kind kind;
    void *to;
    int64_t low, high;
} options_entry;

/* How a file of ratings is read: entries for an r2_format, and what --help says of them. */
#define OPTIONS_FORMAT(f)                                                                          \
    {"--user-column", OPTIONS_TEXT, &(f).user, 0, 0},                                              \
        {"--item-column", OPTIONS_TEXT, &(f).item, 0, 0},                                          \
        {"--rating-column", OPTIONS_TEXT, &(f).rating, 0, 0},                                      \
        {"--time-column", OPTIONS_TEXT, &(f).time, 0, 0},                                          \
        {"--separator", OPTIONS_TEXT, &(f).separator, 0, 0},                                       \
        {"--items", OPTIONS_TEXT, &(f).items, 0, 0},                                               \
        {"--time-unit", OPTIONS_NUMBER, &(f).time_unit, 0, 1000000000},                            \
        {"--not-rated", OPTIONS_TEXT, &(f).not_rated, true, 0}
#define OPTIONS_FORMAT_HELP                                                                        \
    "  --user-column NAME, --item-column NAME, --rating-column NAME, --time-column NAME\n"         \
    "                 columns of that file, or their numbers from 1 (default: the usual names);\n" \
    "                 \"-\" for a rating or time that it does not have\n"                          \
    "  --separator C  between its columns (default: the one that its first line shows)\n"          \
    "  --items FILE   titles, genres, years (default: the file beside the ratings)\n"              \
    "  --time-unit X  of times that are numbers, in seconds (default: 1, or 0.001 by their size)\n" \
    "  --not-rated X  a rating that means not rated (-1, 0, NA, \"\"): its rows are left out\n"

/* What to do about a table whose columns the library does not know; "" after any other error. */
static inline const char *options_hint(const r2_ctx *ctx) {
    return strstr(ctx->message, "expected names of the user and item columns")
               ? "; --user-column, --item-column and so on say them"
               : "";
}

static inline void options_refuse(const char *program, const char *name, const char *expected,
                                  int64_t low, int64_t high, const char *found) {
    fprintf(stderr, "%s: %s: expected %s from %lld to %lld, found \"%s\"\n", program, name,
            expected, (long long)low, (long long)high, found);
    exit(2);
}

/* A whole number in [low, high], or an exit with a sentence. */
static inline int64_t options_whole(const char *program, const char *name, const char *text,
                                    int64_t low, int64_t high) {
    char *end;
    long long value;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (!(*text >= '0' && *text <= '9' && !*end && !errno && value >= low && value <= high))
        options_refuse(program, name, "a whole number", low, high, text);
    return value;
}

/* A decimal number in [low, high], likewise. */
static inline double options_number(const char *program, const char *name, const char *text,
                                    int64_t low, int64_t high) {
    char *end;
    double value = strtod(text, &end);
    if (!(*text && !*end && strspn(text, "+-.0123456789eE") == strlen(text) &&
          value >= (double)low && value <= (double)high))
        options_refuse(program, name, "a number", low, high, text);
    return value;
}

static inline void options_take(const char *program, const options_entry *o, const char *value) {
    if (o->kind == OPTIONS_FLAG) {
        *(bool *)o->to = o->low != 0;
        return;
    }
    if (!value || (!*value && o->kind == OPTIONS_TEXT && !o->low)) {
        fprintf(stderr, "%s: %s needs a value\n", program, o->name);
        exit(2);
    }
    switch (o->kind) {
    case OPTIONS_WHOLE:
        *(int64_t *)o->to = options_whole(program, o->name, value, o->low, o->high);
        break;
    case OPTIONS_NUMBER:
        *(double *)o->to = options_number(program, o->name, value, o->low, o->high);
        break;
    default: *(const char **)o->to = value;
    }
}

/* Starts the program once more, so that threads that wait sleep instead of spinning: OpenMP reads
   OMP_WAIT_POLICY when a program is loaded, and never again. Beside other programs a thread that spins
   takes from the core the time that another needs to come along. Where it cannot be done, they spin. */
static inline void options_sleep(char **argv) {
#if defined(_OPENMP) && defined(__linux__)
    if (!getenv("OMP_WAIT_POLICY") && !setenv("OMP_WAIT_POLICY", "passive", 1))
        execv("/proc/self/exe", argv);
#else
    (void)argv;
#endif
}

/* ---- several processes: mpirun -n N PROGRAM ---- */

static r2_team *options_team; /* NULL: this process works alone */

#if defined(R2_MPI)
static r2_ctx *options_member;
static const char *options_program;

/* However the program ends, the others hear of it. Theirs may be news to this one. */
static void options_leave(void) {
    const r2_status own = output_ended ? R2_OK
                          : options_member->status == R2_OK ? R2_ARGUMENT : options_member->status;
    if (r2_mpi_leave(options_member, own) == R2_OK || own != R2_OK) return;
    fprintf(stderr, "%s: %s\n", options_program, options_member->message);
    _exit(1);
}
#endif

/* Joins the processes that mpirun started, if the program was built with MPI. Call it first: only
   process 0 is heard and seen, and has the progress hook `progress`. */
static inline void options_join(const char *program, char **argv, r2_ctx *ctx,
                                r2_progress_fn progress) {
    options_sleep(argv);
    ctx->progress = progress;
#if defined(R2_MPI)
    static r2_team team;
    if (r2_mpi_join(ctx, &team) != R2_OK) {
        fprintf(stderr, "%s: %s\n", program, ctx->message);
        exit(1);
    }
    options_team = &team;
    options_member = ctx;
    options_program = program;
    atexit(options_leave);
    if (team.rank == 0) return;
    ctx->progress = NULL;
    if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr)) exit(1);
#else
    (void)program;
#endif
}

/* Whether this process is the one that is seen. */
static inline bool options_is_first(void) { return !options_team || options_team->rank == 0; }

/* ---- the command line ---- */

/* Reads all of argv. `usage` follows the program's name in what --help prints. `argument`: where
   the one word that is no option goes ("-" is such a word), NULL: there is none. */
static inline void options_read(const char *program, const char *usage, const options_entry *entry,
                                size_t n, int argc, char **argv, const char **argument) {
    options_sleep(argv);
    for (int k = 1; k < argc; ++k) {
        const options_entry *found = NULL;
        if (!strcmp(argv[k], "--help")) {
            printf("usage: %s %s", program, usage);
            exit(output_end(program, 0));
        }
        if (argument && !*argument && argv[k][0] && (argv[k][0] != '-' || !argv[k][1])) {
            *argument = argv[k];
            continue;
        }
        for (size_t e = 0; e < n; ++e)
            if (!strcmp(argv[k], entry[e].name)) found = &entry[e];
        if (!found) {
            fprintf(stderr, "%s: unknown option \"%s\"; --help lists them\n", program, argv[k]);
            exit(2);
        }
        options_take(program, found, k + 1 < argc ? argv[k + 1] : NULL);
        k += found->kind != OPTIONS_FLAG;
    }
}

/* Ctrl-C asks the program to stop where it can go on later, a second one ends it at once. */
static volatile sig_atomic_t options_stop;

static void options_on_interrupt(int number) {
    signal(number, SIG_DFL);
    options_stop = 1;
}

static inline void options_watch_interrupt(void) {
    signal(SIGINT, options_is_first() ? options_on_interrupt : SIG_IGN);
}

/* How to go on, and the exit status of a program that Ctrl-C ended. */
static inline void options_stopped(const char *program) {
    fprintf(stderr, "%s: stopped; the same command with --continue goes on from here\n", program);
    exit(130);
}

/* The values of the entries as a JSON object whose keys are the options without dashes; texts that
   are not set are left out. NULL: no memory. */
static inline cJSON *options_json(const options_entry *entry, size_t n) {
    cJSON *json = cJSON_CreateObject();
    for (size_t e = 0; e < n; ++e) {
        const char *name = entry[e].name + 2;
        if (entry[e].kind == OPTIONS_FLAG) cJSON_AddBoolToObject(json, name, *(bool *)entry[e].to);
        else if (entry[e].kind == OPTIONS_WHOLE)
            cJSON_AddNumberToObject(json, name, (double)*(int64_t *)entry[e].to);
        else if (entry[e].kind == OPTIONS_NUMBER)
            cJSON_AddNumberToObject(json, name, *(double *)entry[e].to);
        else if (*(const char **)entry[e].to)
            cJSON_AddStringToObject(json, name, *(const char **)entry[e].to);
    }
    return json;
}

/* One key of a file of settings. A negative whole number: not set. */
static inline void options_set(const char *program, const options_entry *entry, size_t n,
                               const char *path, const cJSON *value) {
    char text[64];
    for (size_t e = 0; e < n; ++e) {
        if (strcmp(entry[e].name + 2, value->string) != 0) continue;
        if (cJSON_IsBool(value) && entry[e].kind == OPTIONS_FLAG) {
            *(bool *)entry[e].to = cJSON_IsTrue(value);
        } else if (cJSON_IsString(value) && entry[e].kind == OPTIONS_TEXT) {
            *(const char **)entry[e].to = value->valuestring;
        } else if (cJSON_IsNumber(value) && entry[e].kind != OPTIONS_FLAG &&
                   entry[e].kind != OPTIONS_TEXT) {
            snprintf(text, sizeof text, "%.17g", value->valuedouble);
            if (value->valuedouble >= 0.0) options_take(program, &entry[e], text);
        } else break;
        return;
    }
    fprintf(stderr, "%s: %s: expected a setting, found \"%s\" with a value that does not fit\n",
            program, path, value->string);
    exit(2);
}

/* Takes settings from a JSON file, PATH followed by `file`. Its texts stay in memory to the end. */
static inline void options_load(const char *program, const options_entry *entry, size_t n,
                                const char *directory, const char *file) {
    static r2_text path, text;
    static cJSON *json;
    r2_ctx ctx = r2_ctx_default();
    ctx.team = options_team;
    r2_text_addf(&ctx, &path, "%s%s", directory, file);
    if (path.failed || r2_read_file(&ctx, path.data, &text) != R2_OK) {
        fprintf(stderr, "%s: %s\n", program, ctx.message);
        exit(1);
    }
    json = cJSON_Parse(text.data ? text.data : "");
    if (!cJSON_IsObject(json)) {
        fprintf(stderr, "%s: %s: expected one JSON object of settings\n", program, path.data);
        exit(2);
    }
    for (const cJSON *value = json->child; value; value = value->next)
        options_set(program, entry, n, path.data, value);
}

/* A directory to write into, made if need be: tried before hours of work, not after. */
static inline void options_directory(const char *program, const char *path) {
    struct stat found;
    int reason = mkdir(path, 0777) ? errno : 0;
    if (!stat(path, &found))
        reason = !S_ISDIR(found.st_mode) ? ENOTDIR : access(path, W_OK | X_OK) ? errno : 0;
    if (!reason) return;
    fprintf(stderr, "%s: --out %s: %s\n", program, path, strerror(reason));
    exit(1);
}

#endif

/* make.h: writing a file of vectors. A group is begun, gets flags, tolerances and tests, and is ended,
   which writes DIR/<group>.json. The output of a test is what r2rec.h answers: that it is right is
   what SPEC.md, its independent implementation and the other tests are for. */
#ifndef R2_VECTORS_MAKE_H
#define R2_VECTORS_MAKE_H

#include <stdarg.h>

typedef struct maker {
    r2_ctx ctx;
    const char *directory;
    cJSON *file, *tests, *flags, *tolerance, *shared, *count;
    char group[32];
    int n_all;
} maker;

static void stop(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    exit(1);
}

/* JSON from a printf-style text in which ' stands for ". */
static cJSON *json_list(const char *format, va_list args) {
    static char text[1 << 18];
    cJSON *value;
    if (vsnprintf(text, sizeof text, format, args) >= (int)sizeof text) stop("a text is too long");
    for (char *p = text; *p; ++p)
        if (*p == '\'') *p = '"';
    value = cJSON_Parse(text);
    if (!value) stop("not JSON: %s", text);
    return value;
}

static cJSON *json(const char *format, ...) {
    va_list args;
    cJSON *value;
    va_start(args, format);
    value = json_list(format, args);
    va_end(args);
    return value;
}

static void group_begin(maker *m, const char *name, const char *about) {
    m->file = cJSON_CreateObject();
    cJSON_AddNumberToObject(m->file, "version", 1);
    cJSON_AddStringToObject(m->file, "group", name);
    cJSON_AddStringToObject(m->file, "about", about);
    m->flags = cJSON_AddObjectToObject(m->file, "flags");
    m->tolerance = cJSON_AddObjectToObject(m->file, "tolerance");
    m->shared = cJSON_AddObjectToObject(m->file, "shared");
    m->tests = cJSON_CreateArray();
    m->count = cJSON_CreateObject();
    snprintf(m->group, sizeof m->group, "%s", name);
}

static void flag(maker *m, const char *name, const char *bug) {
    cJSON_AddStringToObject(m->flags, name, bug);
}

/* `field` of the outputs of `op` may differ by abs + rel |expected|. */
static cJSON *tolerance_of(maker *m, const char *op, const char *field) {
    cJSON *fields = cJSON_GetObjectItemCaseSensitive(m->tolerance, op);
    if (!fields) fields = cJSON_AddObjectToObject(m->tolerance, op);
    return cJSON_AddObjectToObject(fields, field);
}

static void tolerance(maker *m, const char *op, const char *field, double abs, double rel) {
    cJSON *t = tolerance_of(m, op, field);
    if (abs > 0.0) cJSON_AddNumberToObject(t, "abs", abs);
    if (rel > 0.0) cJSON_AddNumberToObject(t, "rel", rel);
}

static void tolerance_tensor(maker *m, const char *op, const char *field, double abs,
                             double tensor) {
    cJSON *t = tolerance_of(m, op, field);
    cJSON_AddNumberToObject(t, "tensor", tensor);
    if (abs > 0.0) cJSON_AddNumberToObject(t, "abs", abs);
}

/* ---- tests ---- */

static void add_flags(maker *m, cJSON *test, const char *flags) {
    cJSON *list = cJSON_AddArrayToObject(test, "flags");
    char copy[256], *name;
    snprintf(copy, sizeof copy, "%s", flags);
    for (name = strtok(copy, " "); name; name = strtok(NULL, " ")) {
        if (!cJSON_GetObjectItemCaseSensitive(m->flags, name)) stop("no flag %s", name);
        cJSON_AddItemToArray(list, cJSON_CreateString(name));
    }
}

/* Ids count within an operation, so that new tests, which are added behind, change none. */
static void add_id(maker *m, cJSON *test, const char *op) {
    cJSON *count = cJSON_GetObjectItemCaseSensitive(m->count, op);
    char id[80];
    if (!count) count = cJSON_AddNumberToObject(m->count, op, 0);
    cJSON_SetNumberValue(count, count->valuedouble + 1);
    snprintf(id, sizeof id, "%s-%s-%03d", m->group, op, (int)count->valuedouble);
    cJSON_AddStringToObject(test, "id", id);
}

/* The answer of r2rec.h to an input in which names of shared members may stand. */
static cJSON *answer(maker *m, const char *op, const cJSON *input) {
    cJSON *whole = cJSON_CreateObject(), *output;
    cJSON_AddItemToObject(whole, "input", cJSON_Duplicate(input, true));
    vectors_fill_in(whole, m->shared);
    output = conform_answer(&m->ctx, m->group, op,
                            cJSON_GetObjectItemCaseSensitive(whole, "input"));
    cJSON_Delete(whole);
    return output;
}

static void add(maker *m, const char *op, const char *result, const char *flags, const char *about,
                cJSON *input) {
    cJSON *test = cJSON_CreateObject(), *output = answer(m, op, input);
    const bool invalid = !strcmp(result, "invalid");
    add_id(m, test, op);
    if (invalid != !output)
        stop("%s %s: %s", vectors_string(test, "id"), about, output ? "no error" : m->ctx.message);
    cJSON_AddStringToObject(test, "op", op);
    cJSON_AddStringToObject(test, "about", about);
    add_flags(m, test, flags);
    cJSON_AddStringToObject(test, "result", result);
    cJSON_AddItemToObject(test, "input", input);
    if (output) cJSON_AddItemToObject(test, "output", output);
    cJSON_AddItemToArray(m->tests, test);
}

static void valid(maker *m, const char *op, const char *flags, const char *about, cJSON *input) {
    add(m, op, "valid", flags, about, input);
}

static void invalid(maker *m, const char *op, const char *flags, const char *about, cJSON *input) {
    add(m, op, "invalid", flags, about, input);
}

static void share(maker *m, const char *name, cJSON *value) {
    cJSON_AddItemToObject(m->shared, name, value);
}

/* Writes the file: one line a test, so that a change of one is a change of one line. */
static void group_end(maker *m) {
    char path[512], *head = cJSON_Print(m->file);
    const int n = cJSON_GetArraySize(m->tests);
    r2_text text = {NULL, 0, 0, false};
    const cJSON *test;
    int k = 0;
    if (n == 0) stop("%s has no tests", m->group);
    r2_text_add(&m->ctx, &text, head, strlen(head) - 2); /* without its "\n}" */
    r2_text_addf(&m->ctx, &text, ",\n\t\"tests\":\t[\n");
    cJSON_ArrayForEach(test, m->tests) {
        conform_print(&m->ctx, test, &text);
        r2_text_addf(&m->ctx, &text, "%s\n", ++k < n ? "," : "");
    }
    r2_text_addf(&m->ctx, &text, "]}\n");
    snprintf(path, sizeof path, "%s/%s.json", m->directory, m->group);
    if (text.failed || r2_write_file(&m->ctx, path, text.data, text.len) != R2_OK)
        stop("%s", m->ctx.message);
    m->n_all += n;
    r2_text_free(&m->ctx, &text);
    cJSON_free(head);
    cJSON_Delete(m->file);
    cJSON_Delete(m->tests);
    cJSON_Delete(m->count);
}

/* ---- inputs at random ---- */

static int below(r2_rng *rng, int n) { return (int)r2_rng_below(rng, (uint64_t)n); }

/* Rows of invented data: each user meets each item with the given chance; the same second is common
   when `span`, the number of seconds, is small. Users and items appear in a mixed order. */
static cJSON *random_data(uint64_t seed, int n_users, int n_items, double chance, int span) {
    r2_rng rng = r2_rng_make(seed, R2_STREAM_USER, 0);
    cJSON *data = cJSON_CreateObject(), *rows = cJSON_AddArrayToObject(data, "ratings");
    for (int k = 0; k < n_users * n_items; ++k) {
        const int u = k % n_users, i = (k / n_users * 7 + 3 * u) % n_items;
        const int half_stars = 1 + below(&rng, 10), time = 1000000000 + below(&rng, span);
        if (r2_rng_double(&rng) < chance)
            cJSON_AddItemToArray(rows, json("['u%d','i%d',%g,%d]", u, i, half_stars / 2.0, time));
    }
    return data;
}

/* n numbers, uniform in [low, high), with few digits. */
static cJSON *random_list(r2_rng *rng, int n, double low, double high) {
    cJSON *list = cJSON_CreateArray();
    for (int k = 0; k < n; ++k) {
        const double x = low + (high - low) * r2_rng_double(rng);
        cJSON_AddItemToArray(list, cJSON_CreateNumber(floor(x * 1024.0) / 1024.0));
    }
    return list;
}

static cJSON *random_ids(r2_rng *rng, int n, int bound) {
    cJSON *list = cJSON_CreateArray();
    for (int k = 0; k < n; ++k) cJSON_AddItemToArray(list, cJSON_CreateNumber(below(rng, bound)));
    return list;
}

/* An object with one member more. */
static cJSON *with(cJSON *object, const char *name, cJSON *value) {
    cJSON_AddItemToObject(object, name, value);
    return object;
}

#endif

/* vectors.h: the files of data/vectors (SPEC.md there, section 0): read, filled in, compared. Include
   after r2rec.h and conform.h. */
#ifndef R2_VECTORS_H
#define R2_VECTORS_H

/* One group: its file, and the tests to run, which may be those of a specification instead. */
typedef struct vectors_group {
    cJSON *file;  /* owns everything */
    cJSON *tests; /* of the file     */
    const char *name;
} vectors_group;

/* What is wrong with a reply, for a person. */
typedef struct vectors_difference {
    bool found;
    char text[600];
} vectors_difference;

static inline const char *vectors_string(const cJSON *object, const char *name) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

/* ---- reading ---- */

static inline r2_status vectors_load(r2_ctx *ctx, const char *path, vectors_group *group) {
    r2_text text = {NULL, 0, 0, false};
    r2_status status = r2_read_file(ctx, path, &text);
    memset(group, 0, sizeof *group);
    if (status == R2_OK) {
        group->file = cJSON_ParseWithLength(text.data, text.len);
        group->tests = cJSON_GetObjectItemCaseSensitive(group->file, "tests");
        group->name = vectors_string(group->file, "group");
        if (!cJSON_IsArray(group->tests) || !*group->name)
            status = r2_fail(ctx, R2_FORMAT, "%s: expected JSON with `group` and `tests`", path);
    }
    r2_text_free(ctx, &text);
    return status;
}

static inline void vectors_free(vectors_group *group) { cJSON_Delete(group->file); }

/* Puts the members of `shared` in the place of the strings that name them. */
static inline void vectors_fill_in(cJSON *value, const cJSON *shared) {
    cJSON *item = value->child;
    while (item) {
        cJSON *next = item->next;
        const char *name = cJSON_IsString(item) ? item->valuestring : "";
        const cJSON *member = *name == '@' ? cJSON_GetObjectItemCaseSensitive(shared, name + 1)
                                           : NULL;
        if (!member) {
            vectors_fill_in(item, shared);
        } else if (cJSON_IsArray(value)) {
            cJSON_ReplaceItemViaPointer(value, item, cJSON_Duplicate(member, true));
        } else {
            char *key = item->string;
            item->string = NULL;
            cJSON_AddItemToObject(value, key, cJSON_Duplicate(member, true));
            cJSON_Delete(cJSON_DetachItemViaPointer(value, item));
            cJSON_free(key);
        }
        item = next;
    }
}

/* ---- examples of a specification ---- */

/* Reads lines up to one that is `end`, exactly, into `text`. Returns what follows it. */
static inline const char *vectors_until(r2_ctx *ctx, const char *from, const char *end,
                                        r2_text *text) {
    r2_text_clear(text);
    while (*from) {
        const size_t len = strcspn(from, "\n");
        const char *next = from + len + (from[len] == '\n');
        if (len == strlen(end) && !memcmp(from, end, len)) return next;
        r2_text_add(ctx, text, from, (size_t)(next - from));
        from = next;
    }
    return from;
}

static inline cJSON *vectors_example(const char *op, int line, const r2_text *in,
                                     const r2_text *out) {
    cJSON *test = cJSON_CreateObject();
    cJSON *output = out->len ? cJSON_ParseWithLength(out->data, out->len) : NULL;
    char id[32];
    snprintf(id, sizeof id, "SPEC.md:%d", line);
    cJSON_AddStringToObject(test, "id", id);
    cJSON_AddStringToObject(test, "op", op);
    cJSON_AddStringToObject(test, "result", output ? "valid" : "invalid");
    cJSON_AddItemToObject(test, "input", cJSON_ParseWithLength(in->data, in->len));
    if (output) cJSON_AddItemToObject(test, "output", output);
    return test;
}

/* Replaces the tests of a group by the blocks of a specification that are about it:
   ```example GROUP OP, the input, a line ".", the output (none: an error), ```. */
static inline r2_status vectors_examples(r2_ctx *ctx, const char *path, vectors_group *group) {
    r2_text text = {NULL, 0, 0, false}, in = {NULL, 0, 0, false}, out = {NULL, 0, 0, false};
    const r2_status status = r2_read_file(ctx, path, &text);
    const char *at = status == R2_OK ? text.data : "";
    cJSON *tests = cJSON_CreateArray();
    for (int line = 1; *at; ++line) {
        const size_t len = strcspn(at, "\n");
        char name[40], op[40];
        if (sscanf(at, "```example %39s %39s", name, op) == 2 && !strcmp(name, group->name)) {
            const char *begin = at;
            at = vectors_until(ctx, at + len + 1, ".", &in);
            at = vectors_until(ctx, at, "```", &out);
            cJSON_AddItemToArray(tests, vectors_example(op, line, &in, &out));
            for (; begin < at - 1; ++begin) line += *begin == '\n';
        } else {
            at += len + (at[len] == '\n');
        }
    }
    cJSON_DeleteItemFromObject(group->file, "tests");
    cJSON_AddItemToObject(group->file, "tests", tests);
    group->tests = tests;
    r2_text_free(ctx, &text);
    r2_text_free(ctx, &in);
    r2_text_free(ctx, &out);
    return status;
}

/* ---- comparing ---- */

typedef struct vectors_tolerance {
    double abs, rel, tensor;
} vectors_tolerance;

static inline vectors_tolerance vectors_tolerance_of(const cJSON *file, const char *op,
                                                     const char *field) {
    const cJSON *all = cJSON_GetObjectItemCaseSensitive(file, "tolerance");
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(all, op),
                                                         field);
    const cJSON *a = cJSON_GetObjectItemCaseSensitive(item, "abs");
    const cJSON *r = cJSON_GetObjectItemCaseSensitive(item, "rel");
    const cJSON *t = cJSON_GetObjectItemCaseSensitive(item, "tensor");
    const vectors_tolerance tolerance = {a ? a->valuedouble : 0.0, r ? r->valuedouble : 0.0,
                                         t ? t->valuedouble : 0.0};
    return tolerance;
}

static inline void vectors_differ(vectors_difference *d, const char *path, const char *format,
                                  ...) {
    char why[400];
    va_list args;
    if (d->found) return;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    d->found = true;
    snprintf(d->text, sizeof d->text, "%s: %s", path, why);
}

/* A value in one short line. */
static inline void vectors_show(const cJSON *value, char *text, size_t size) {
    char *all = value ? cJSON_PrintUnformatted(value) : NULL;
    const size_t len = all ? strlen(all) : 0;
    snprintf(text, size, "%.*s%s", (int)(size - 5), all ? all : "nothing",
             len > size - 5 ? "..." : "");
    cJSON_free(all);
}

static inline void vectors_compare_strings(const char *expected, const char *found,
                                           const char *path, vectors_difference *d) {
    size_t at = 0, from;
    if (!strcmp(expected, found)) return;
    while (expected[at] && expected[at] == found[at]) ++at;
    from = at > 20 ? at - 20 : 0;
    vectors_differ(d, path, "differs from byte %zu on: expected \"%s%.60s\", found \"%s%.60s\"", at,
                   from ? "..." : "", expected + from, from ? "..." : "", found + from);
}

static inline void vectors_compare_numbers(double expected, double found, const char *path,
                                           const vectors_tolerance *t, vectors_difference *d) {
    const double room = t->abs + t->rel * fabs(expected), off = fabs(found - expected);
    if (expected == found || t->tensor > 0.0 || off <= room) return;
    if (room > 0.0)
        vectors_differ(d, path, "expected %.17g, found %.17g: off by %.3g, allowed %.3g", expected,
                       found, off, room);
    else vectors_differ(d, path, "expected %.17g, found %.17g", expected, found);
}

/* The squares of found - expected and of expected, over all numbers. */
static inline void vectors_norms(const cJSON *expected, const cJSON *found, double *off,
                                 double *size) {
    if (cJSON_IsNumber(expected) && cJSON_IsNumber(found)) {
        *off += (found->valuedouble - expected->valuedouble) *
                (found->valuedouble - expected->valuedouble);
        *size += expected->valuedouble * expected->valuedouble;
    }
    for (const cJSON *e = expected->child, *f = found->child; e && f; e = e->next, f = f->next)
        vectors_norms(e, f, off, size);
}

static inline void vectors_compare_tensor(const cJSON *expected, const cJSON *found,
                                          const char *path, const vectors_tolerance *t,
                                          vectors_difference *d) {
    double off = 0.0, size = 0.0;
    vectors_norms(expected, found, &off, &size);
    if (!(sqrt(off) <= t->tensor * sqrt(size) + t->abs))
        vectors_differ(d, path, "off by %.3g of a norm of %.3g, allowed %.3g of it", sqrt(off),
                       sqrt(size), t->tensor);
}

static inline void vectors_compare(const cJSON *expected, const cJSON *found, const char *path,
                                   const vectors_tolerance *t, vectors_difference *d);

static inline void vectors_compare_lists(const cJSON *expected, const cJSON *found,
                                         const char *path, const vectors_tolerance *t,
                                         vectors_difference *d) {
    const cJSON *f = found->child;
    const int n = cJSON_GetArraySize(expected), m = cJSON_GetArraySize(found);
    char inner[200];
    int k = 0;
    for (const cJSON *e = expected->child; e && f; e = e->next, f = f->next) {
        snprintf(inner, sizeof inner, "%.180s[%d]", path, k++);
        vectors_compare(e, f, inner, t, d);
    }
    if (n != m) vectors_differ(d, path, "expected %d entries, found %d", n, m);
    if (t->tensor > 0.0 && cJSON_IsNumber(expected->child))
        vectors_compare_tensor(expected, found, path, t, d);
}

static inline void vectors_compare_objects(const cJSON *expected, const cJSON *found,
                                           const char *path, const vectors_tolerance *t,
                                           vectors_difference *d) {
    char inner[200];
    for (const cJSON *e = expected->child; e; e = e->next) {
        const cJSON *f = cJSON_GetObjectItemCaseSensitive(found, e->string);
        snprintf(inner, sizeof inner, "%.120s.%.60s", path, e->string);
        if (!f) vectors_differ(d, inner, "missing");
        else vectors_compare(e, f, inner, t, d);
    }
}

static inline void vectors_compare(const cJSON *expected, const cJSON *found, const char *path,
                                   const vectors_tolerance *t, vectors_difference *d) {
    char a[120], b[120];
    if (cJSON_IsNumber(expected) && cJSON_IsNumber(found)) {
        vectors_compare_numbers(expected->valuedouble, found->valuedouble, path, t, d);
    } else if (cJSON_IsString(expected) && cJSON_IsString(found)) {
        vectors_compare_strings(expected->valuestring, found->valuestring, path, d);
    } else if (cJSON_IsArray(expected) && cJSON_IsArray(found)) {
        vectors_compare_lists(expected, found, path, t, d);
    } else if (cJSON_IsObject(expected) && cJSON_IsObject(found)) {
        vectors_compare_objects(expected, found, path, t, d);
    } else if ((expected->type & 0xff) != (found->type & 0xff)) {
        vectors_show(expected, a, sizeof a);
        vectors_show(found, b, sizeof b);
        vectors_differ(d, path, "expected %s, found %s", a, b);
    }
}

/* Compares an output (NULL: an error, which `error` tells) with what a test expects. */
static inline vectors_difference vectors_judge(const vectors_group *group, const cJSON *test,
                                               const cJSON *output, const char *error) {
    const cJSON *expected = cJSON_GetObjectItemCaseSensitive(test, "output"), *field;
    const char *result = vectors_string(test, "result"), *op = vectors_string(test, "op");
    vectors_difference d;
    memset(&d, 0, sizeof d);
    if (!strcmp(result, "invalid")) {
        char shown[120];
        vectors_show(output, shown, sizeof shown);
        if (output) vectors_differ(&d, "output", "expected an error, found %s", shown);
        return d;
    }
    if (!output && !strcmp(result, "acceptable")) return d;
    if (!output) vectors_differ(&d, "output", "expected one, found the error \"%.200s\"", error);
    if (!output) return d;
    cJSON_ArrayForEach(field, expected) {
        const cJSON *found = cJSON_GetObjectItemCaseSensitive(output, field->string);
        const vectors_tolerance t = vectors_tolerance_of(group->file, op, field->string);
        if (!found) vectors_differ(&d, field->string, "missing");
        else vectors_compare(field, found, field->string, &t, &d);
    }
    return d;
}

#endif

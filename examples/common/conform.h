/* conform.h: r2rec.h answers the requests of data/vectors/SPEC.md: what `r2rec verify --self` checks and
   what the vectors are made with. Include after the implementation of r2rec.h: some definitions are
   functions that only the header itself has.

   An operation reads members of `in` and adds members to `out`. Nothing is checked while it reads: a
   member that is missing or of another type sets `bad`, and then the answer is an error. */
#ifndef R2_CONFORM_H
#define R2_CONFORM_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct conform {
    r2_ctx *ctx;
    const cJSON *in;
    cJSON *out;
    r2_arena memory; /* of what was read, until the answer is written */
    bool bad;        /* ctx->message says why */
} conform;

typedef void (*conform_fn)(conform *c);

typedef struct conform_op {
    const char *group, *name;
    conform_fn answer;
} conform_op;

/* ---- reading ---- */

static inline void conform_bad(conform *c, const char *what, const char *name) {
    if (!c->bad) r2_fail(c->ctx, R2_ARGUMENT, "request: expected %s \"%s\"", what, name);
    c->bad = true;
}

/* Notes the failure of a call. */
static inline bool conform_ok(conform *c, r2_status status) {
    if (status != R2_OK) c->bad = true;
    return !c->bad;
}

static inline void *conform_take(conform *c, int64_t n, size_t size) {
    void *memory = r2_arena_alloc(c->ctx, &c->memory, (uint64_t)(n < 1 ? 1 : n), size);
    if (memory) return memory;
    fprintf(stderr, "conform: out of memory\n");
    exit(1);
}

static inline const cJSON *conform_member(conform *c, const cJSON *object, const char *name) {
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(object, name);
    if (!member) conform_bad(c, "a member", name);
    return member;
}

/* A number; the strings of numbers that JSON cannot write; null: not known. */
static inline double conform_value(conform *c, const cJSON *item, const char *name) {
    if (cJSON_IsNumber(item)) return item->valuedouble;
    if (cJSON_IsNull(item)) return NAN;
    if (cJSON_IsString(item) && !strcmp(item->valuestring, "NaN")) return NAN;
    if (cJSON_IsString(item) && !strcmp(item->valuestring, "Infinity")) return INFINITY;
    if (cJSON_IsString(item) && !strcmp(item->valuestring, "-Infinity")) return -INFINITY;
    conform_bad(c, "a number", name);
    return 0.0;
}

static inline double conform_number(conform *c, const cJSON *object, const char *name) {
    return conform_value(c, conform_member(c, object, name), name);
}

static inline int64_t conform_whole(conform *c, const cJSON *object, const char *name) {
    const double value = conform_number(c, object, name);
    if (!(value >= -9e15 && value <= 9e15) || value != floor(value))
        conform_bad(c, "a whole number", name);
    return c->bad ? 0 : (int64_t)value;
}

static inline bool conform_bool(conform *c, const cJSON *object, const char *name) {
    return cJSON_IsTrue(conform_member(c, object, name));
}

static inline const char *conform_string(conform *c, const cJSON *object, const char *name) {
    const cJSON *item = conform_member(c, object, name);
    if (!cJSON_IsString(item)) conform_bad(c, "a string", name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static inline uint64_t conform_hex(conform *c, const cJSON *item, const char *name) {
    char *end = NULL;
    const char *text = cJSON_IsString(item) ? item->valuestring : "";
    const uint64_t value = strtoull(text, &end, 16);
    if (strncmp(text, "0x", 2) != 0 || *end) conform_bad(c, "hexadecimal digits", name);
    return value;
}

static inline uint64_t conform_u64(conform *c, const char *name) {
    return conform_hex(c, conform_member(c, c->in, name), name);
}

static inline int64_t conform_length(conform *c, const cJSON *list, const char *name) {
    if (!cJSON_IsArray(list)) conform_bad(c, "a list", name);
    return cJSON_IsArray(list) ? cJSON_GetArraySize(list) : 0;
}

static inline double *conform_doubles(conform *c, const cJSON *list, const char *name, int64_t *n) {
    double *value = (double *)conform_take(c, *n = conform_length(c, list, name), sizeof *value);
    const cJSON *item;
    int64_t k = 0;
    cJSON_ArrayForEach(item, list) if (k < *n) value[k++] = conform_value(c, item, name);
    return value;
}

static inline float *conform_floats(conform *c, const cJSON *list, const char *name, int64_t *n) {
    const double *value = conform_doubles(c, list, name, n);
    float *single = (float *)conform_take(c, *n, sizeof *single);
    for (int64_t k = 0; k < *n; ++k) single[k] = (float)value[k];
    return single;
}

static inline int32_t *conform_ids(conform *c, const cJSON *list, const char *name, int64_t *n) {
    const double *value = conform_doubles(c, list, name, n);
    int32_t *id = (int32_t *)conform_take(c, *n, sizeof *id);
    for (int64_t k = 0; k < *n; ++k) id[k] = (int32_t)value[k];
    return id;
}

/* Place of a word in a list that ends with NULL; bad if it is none of them. */
static inline int conform_choice(conform *c, const cJSON *object, const char *name,
                                 const char *const *list) {
    const char *text = conform_string(c, object, name);
    for (int k = 0; list[k]; ++k)
        if (!strcmp(text, list[k])) return k;
    conform_bad(c, "one of the names of SPEC.md in", name);
    return 0;
}

/* ---- writing ---- */

/* JSON has no infinities. */
static inline cJSON *conform_json(double value) {
    if (isnan(value)) return cJSON_CreateString("NaN");
    if (isinf(value)) return cJSON_CreateString(value > 0 ? "Infinity" : "-Infinity");
    return cJSON_CreateNumber(value);
}

static inline cJSON *conform_json_hex(uint64_t value) {
    char text[24];
    snprintf(text, sizeof text, "0x%llx", (unsigned long long)value);
    return cJSON_CreateString(text);
}

static inline void conform_add(cJSON *object, const char *name, cJSON *item) {
    cJSON_AddItemToObject(object, name, item);
}

static inline void conform_add_number(conform *c, const char *name, double value) {
    conform_add(c->out, name, conform_json(value));
}

static inline void conform_add_string(conform *c, const char *name, const char *text) {
    conform_add(c->out, name, cJSON_CreateString(text));
}

static inline void conform_add_bool(conform *c, const char *name, bool value) {
    conform_add(c->out, name, cJSON_CreateBool(value));
}

static inline cJSON *conform_list_doubles(const double *value, int64_t n) {
    cJSON *list = cJSON_CreateArray();
    for (int64_t k = 0; k < n; ++k) cJSON_AddItemToArray(list, conform_json(value[k]));
    return list;
}

static inline cJSON *conform_list_floats(const float *value, int64_t n) {
    cJSON *list = cJSON_CreateArray();
    for (int64_t k = 0; k < n; ++k) cJSON_AddItemToArray(list, conform_json((double)value[k]));
    return list;
}

static inline cJSON *conform_list_ids(const int32_t *id, int64_t n) {
    cJSON *list = cJSON_CreateArray();
    for (int64_t k = 0; k < n; ++k) cJSON_AddItemToArray(list, conform_json((double)id[k]));
    return list;
}

static inline cJSON *conform_list_counts(const int64_t *count, int64_t n) {
    cJSON *list = cJSON_CreateArray();
    for (int64_t k = 0; k < n; ++k) cJSON_AddItemToArray(list, conform_json((double)count[k]));
    return list;
}

static inline cJSON *conform_pair(double a, double b) {
    const double both[2] = {a, b};
    return conform_list_doubles(both, 2);
}

static inline cJSON *conform_new_list(cJSON *object, const char *name) {
    cJSON *list = cJSON_CreateArray();
    cJSON_AddItemToObject(object, name, list);
    return list;
}

/* ---- printing ---- */

/* The fewest digits that give the same number again; cJSON's own printer may lose the last bit. */
static inline void conform_print_number(r2_ctx *ctx, double value, r2_text *text) {
    char digits[40];
    for (int n = 15; n <= 17; ++n) {
        snprintf(digits, sizeof digits, "%.*g", n, value);
        if (strtod(digits, NULL) == value) break;
    }
    r2_text_add(ctx, text, digits, strlen(digits));
}

/* Adds strings, booleans and null as cJSON writes them. */
static inline void conform_print_plain(r2_ctx *ctx, const cJSON *item, r2_text *text) {
    char *plain = cJSON_PrintUnformatted(item);
    if (plain) r2_text_add(ctx, text, plain, strlen(plain));
    else text->failed = true;
    cJSON_free(plain);
}

static inline void conform_print_key(r2_ctx *ctx, const cJSON *item, r2_text *text) {
    cJSON *key = cJSON_CreateString(item->string);
    conform_print_plain(ctx, key, text);
    r2_text_add(ctx, text, ":", 1);
    cJSON_Delete(key);
}

/* Adds a value in one line, numbers exact. */
static inline void conform_print(r2_ctx *ctx, const cJSON *item, r2_text *text) {
    const bool object = cJSON_IsObject(item);
    if (cJSON_IsNumber(item)) {
        conform_print_number(ctx, item->valuedouble, text);
    } else if (object || cJSON_IsArray(item)) {
        r2_text_add(ctx, text, object ? "{" : "[", 1);
        for (const cJSON *child = item->child; child; child = child->next) {
            if (object) conform_print_key(ctx, child, text);
            conform_print(ctx, child, text);
            if (child->next) r2_text_add(ctx, text, ",", 1);
        }
        r2_text_add(ctx, text, object ? "}" : "]", 1);
    } else {
        conform_print_plain(ctx, item, text);
    }
}

#include "conform_numbers.h"
#include "conform_data.h"
#include "conform_words.h"
#include "conform_evidence.h"
#include "conform_learning.h"
#include "conform_model.h"
#include "conform_metrics.h"
#include "conform_run.h"
#include "conform_variants.h"

/* ---- answering ---- */

static const conform_op *const conform_groups[] = {
    conform_numbers, conform_data,    conform_evidence, conform_words,        conform_learning,
    conform_model,   conform_metrics, conform_runs,     conform_variants_ops, NULL};

static inline const conform_op *conform_find(const char *group, const char *name) {
    for (const conform_op *const *list = conform_groups; *list; ++list)
        for (const conform_op *op = *list; op->group; ++op)
            if (!strcmp(op->group, group) && (!name || !strcmp(op->name, name))) return op;
    return NULL;
}

/* The output of an operation, or NULL: an error, which ctx->message tells. */
static inline cJSON *conform_answer(r2_ctx *ctx, const char *group, const char *name,
                                    const cJSON *in) {
    const conform_op *op = conform_find(group, name);
    conform c;
    if (!op) {
        r2_fail(ctx, R2_ARGUMENT, "request: no operation \"%s\" in group \"%s\"", name, group);
        return NULL;
    }
    memset(&c, 0, sizeof c);
    c.ctx = ctx;
    c.in = in;
    c.out = cJSON_CreateObject();
    op->answer(&c);
    r2_arena_free(ctx, &c.memory);
    if (!c.bad) return c.out;
    cJSON_Delete(c.out);
    return NULL;
}

#endif

/* A struct with a list and two tables of stb_ds, for test_base.c and threads.c. */
#ifndef STB_TABLES_H
#define STB_TABLES_H

typedef struct pair_entry {
    int32_t key[2];
    float value;
} pair_entry;

typedef struct tables {
    int64_t *list;
    const char **text; /* the table of texts is the list of texts */
    pair_entry *pair;
    r2__owner owner;
} tables;

static inline void tables_free(r2_ctx *ctx, tables *t) {
    r2__array_free(ctx, &t->owner, &t->list);
    r2__map_free(ctx, &t->owner, &t->text, sizeof *t->text);
    r2__map_free(ctx, &t->owner, &t->pair, sizeof *t->pair);
    memset(t, 0, sizeof *t);
}

/* n of each kind, every one twice; `letters` holds 16 bytes for each text. */
static inline r2_status tables_fill(r2_ctx *ctx, tables *t, char (*letters)[16], int n) {
    for (int k = 0; k < 2 * n; ++k) {
        const int32_t key[2] = {k % n, -1 - k % n};
        int64_t at;
        snprintf(letters[k % n], sizeof letters[0], "t%d", k % n);
        if (r2__array_reserve(ctx, &t->owner, &t->list, sizeof *t->list, 1) != R2_OK)
            return ctx->status;
        stbds_arrput(t->list, k);
        if (r2__map_put(ctx, &t->owner, &t->text, sizeof *t->text, letters[k % n], 0, &at) != R2_OK)
            return ctx->status;
        if (at != k % n) return r2_fail(ctx, R2_FORMAT, "text %d is entry %lld", k, (long long)at);
        if (r2__map_put(ctx, &t->owner, &t->pair, sizeof *t->pair, key, sizeof key, &at) != R2_OK)
            return ctx->status;
        t->pair[at].value += 1.0f;
    }
    return R2_OK;
}

/* How many of the n entries of each kind are as tables_fill left them. */
static inline int64_t tables_right(const tables *t, int n) {
    int64_t right = 0;
    char text[16];
    for (int k = 0; k < n; ++k) {
        const int32_t key[2] = {k, -1 - k}, other[2] = {k, k};
        snprintf(text, sizeof text, "t%d", k);
        right += t->list[k] == k && t->list[n + k] == n + k &&
                 r2__map_find(t->text, sizeof *t->text, text, 0) == k &&
                 r2__map_find(t->pair, sizeof *t->pair, key, sizeof key) == k &&
                 r2__map_find(t->pair, sizeof *t->pair, other, sizeof other) == -1 &&
                 t->pair[k].value == 2.0f;
    }
    return right;
}

#endif

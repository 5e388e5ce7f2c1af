/* ratings.h: ratings for tests: from text, at random, and the real ones when they are there.
   Include after r2rec.h and test.h. Programs run in the repository's root; files go to build/. */
#ifndef R2_TEST_RATINGS_H
#define R2_TEST_RATINGS_H

#include <stdlib.h>

static inline int ratings_write(const char *path, const char *bytes, size_t len) {
    FILE *file = fopen(path, "wb");
    int good = file && fwrite(bytes, 1, len, file) == len;
    if (file) good = fclose(file) == 0 && good;
    return good;
}

static inline int ratings_write_text(const char *path, const char *text) {
    return ratings_write(path, text, strlen(text));
}

/* Loads what `len` bytes of text say. */
static inline r2_status ratings_load_bytes(r2_ctx *ctx, r2_data *data, const char *bytes,
                                           size_t len) {
    char path[256];
    r2_status status;
    /* the same program may run twice at a time, once under sanitizers: the address tells them
       apart */
    snprintf(path, sizeof path, "build/ratings-%p.tmp", (void *)data);
    if (!ratings_write(path, bytes, len)) return r2_fail(ctx, R2_IO, "%s: cannot write", path);
    status = r2_data_load(ctx, data, path);
    remove(path);
    return status;
}

static inline r2_status ratings_load(r2_ctx *ctx, r2_data *data, const char *text) {
    return ratings_load_bytes(ctx, data, text, strlen(text));
}

/* Every user meets every item with the given probability, with 0.5 .. 5 stars, at random times of
   which some are equal; the first user meets the first item in any case, so nothing is empty. */
static inline r2_status ratings_random(r2_ctx *ctx, r2_data *data, int n_users, int n_items,
                                       double probability, uint64_t seed) {
    r2_rng rng = r2_rng_make(seed, R2_STREAM_USER, 0);
    r2_text text = {NULL, 0, 0, false};
    r2_status status;
    r2_text_addf(ctx, &text, "user,item,rating,time\n");
    for (int u = 0; u < n_users; ++u)
        for (int i = 0; i < n_items; ++i) {
            int stars = 1 + (int)r2_rng_below(&rng, 10), time = (int)r2_rng_below(&rng, 50);
            if (r2_rng_double(&rng) >= probability && (u || i)) continue;
            r2_text_addf(ctx, &text, "u%d,i%d,%g,%d\n", u, i, stars / 2.0, time);
        }
    status = text.failed ? ctx->status : ratings_load_bytes(ctx, data, text.data, text.len);
    r2_text_free(ctx, &text);
    return status;
}

/* Where MovieLens latest-small is, or NULL. */
static inline const char *ratings_real(void) {
    static const char *const places[] = {"data/ml-latest-small", "../shared/data/ml-latest-small"};
    for (int k = 0; k < 2; ++k) {
        char path[256];
        FILE *file;
        snprintf(path, sizeof path, "%s/ratings.csv", places[k]);
        file = fopen(path, "rb");
        if (file) fclose(file);
        if (file) return places[k];
    }
    return NULL;
}

/* Allocator that gives out `left` blocks and then none, and counts the blocks that are alive. */
typedef struct ratings_memory {
    int64_t left, alive;
} ratings_memory;

static inline void *ratings_realloc(void *hook_data, void *ptr, size_t size) {
    ratings_memory *memory = (ratings_memory *)hook_data;
    if (size == 0) {
        memory->alive -= ptr != NULL;
        free(ptr);
        return NULL;
    }
    if (memory->left-- <= 0) return NULL;
    memory->alive += ptr == NULL;
    return realloc(ptr, size);
}

/* Allocator that counts the bytes asked for that are in use, and the most there were. */
typedef struct ratings_bytes {
    int64_t now, peak;
} ratings_bytes;

static inline void *ratings_counted(void *hook_data, void *ptr, size_t size) {
    ratings_bytes *b = (ratings_bytes *)hook_data;
    int64_t *base = ptr ? (int64_t *)ptr - 2 : NULL;
    b->now += (int64_t)size - (base ? base[0] : 0);
    if (b->now > b->peak) b->peak = b->now;
    if (!size) {
        free(base);
        return NULL;
    }
    base = (int64_t *)realloc(base, size + 16);
    if (base) base[0] = (int64_t)size;
    return base ? base + 2 : NULL;
}

#endif

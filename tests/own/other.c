/* A second translation unit of program.c: it includes the header without the implementation. */
#include <r2rec.h>

int64_t count(r2_ctx *ctx, const char *path);

int64_t count(r2_ctx *ctx, const char *path) {
    int64_t n = -1;
    r2_data data;
    if (r2_data_load(ctx, &data, path) != R2_OK) return -1;
    n = data.n_ratings;
    r2_data_free(ctx, &data);
    return n;
}

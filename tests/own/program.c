/* A program outside the tree: thirty lines that have the same meaning in C and C++. */
#define R2REC_IMPLEMENTATION
#include <r2rec.h>

#include <stdio.h>

int64_t count(r2_ctx *ctx, const char *path); /* other.c: the interface alone */

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    const char *path = argc > 1 ? argv[1] : "ratings.csv";
    r2_split split;
    r2_data data;
    if (r2_data_load(&ctx, &data, path) != R2_OK) {
        fprintf(stderr, "%s\n", ctx.message);
        return 1;
    }
    if (r2_split_init(&ctx, &split, &data, NULL) != R2_OK) return 1;
    printf("%lld users, %lld held out, %lld ratings counted elsewhere, %s\n",
           (long long)data.n_users, (long long)split.n_test, (long long)count(&ctx, path),
#ifdef _OPENMP
           "threads"
#else
           "one thread"
#endif
    );
    r2_split_free(&ctx, &split);
    r2_data_free(&ctx, &data);
    return r2_seconds() <= 0.0;
}

/* hf_random.c: loads a directory of hf_random.py, compares every log-probability with PyTorch's
   (DIR/logp.txt), and generates 32 tokens.

       cc -O3 -march=native -fopenmp -I. tests/reference/hf_random.c -o hf_random -lcjson -lm
       hf_random DIR          exit status 1 when a difference is above 1e-3 */
#define _POSIX_C_SOURCE 200809L /* getrusage */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <math.h>
#include <sys/resource.h>

enum { N_TOKENS = 11, N_NEW = 32 };

/* The log-probabilities of every token after each of the eleven; to be released. */
static float *all_logp(r2_ctx *ctx, r2_model *model, const int32_t *token) {
    const int32_t V = model->config.n_vocab, n = N_TOKENS * V, begin[2] = {0, N_TOKENS};
    int32_t *row = (int32_t *)r2_alloc(ctx, (uint64_t)n, 2 * sizeof *row), *next = row + n;
    float *logp = (float *)r2_alloc(ctx, (uint64_t)n, sizeof *logp);
    const r2_batch batch = {1, begin, token, n, row, next, NULL};
    if (!row || !logp) return NULL;
    for (int32_t k = 0; k < n; ++k) row[k] = k / V, next[k] = k % V;
    if (r2_forward(ctx, model, &batch, logp, NULL) != R2_OK) return NULL;
    r2_release(ctx, row);
    return logp;
}

/* The largest difference, -1 when the file cannot be read. */
static double compare(r2_ctx *ctx, r2_model *model, const char *path) {
    FILE *file = fopen(path, "r");
    int32_t token[N_TOKENS];
    float *logp;
    double most = 0.0, expected;
    if (!file) return -1.0;
    for (int k = 0; k < N_TOKENS; ++k)
        if (fscanf(file, "%d", &token[k]) != 1) return -1.0;
    logp = all_logp(ctx, model, token);
    for (int64_t k = 0; k < (int64_t)N_TOKENS * model->config.n_vocab; ++k) {
        if (!logp || fscanf(file, "%lf", &expected) != 1) return -1.0;
        most = fmax(most, fabs((double)logp[k] - expected));
    }
    fclose(file);
    r2_release(ctx, logp);
    return most;
}

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_generate_config how = r2_generate_config_default();
    r2_generation out;
    r2_model model;
    char path[1024];
    const int64_t begin[2] = {0, 3};
    const int32_t prompt[3] = {1, 2, 3};
    double began = r2_seconds(), loaded, most;
    struct rusage used;
    if (argc != 2) return fprintf(stderr, "usage: hf_random DIR\n"), 2;
    snprintf(path, sizeof path, "%s/logp.txt", argv[1]);
    if (r2_model_load_dir(&ctx, &model, argv[1], 64, false) != R2_OK)
        return fprintf(stderr, "hf_random: %s\n", ctx.message), 1;
    loaded = r2_seconds() - began;
    most = compare(&ctx, &model, path);
    if (most < 0.0) return fprintf(stderr, "hf_random: %s: cannot be read\n", path), 1;
    how.max_new = N_NEW;
    began = r2_seconds();
    if (r2_generate(&ctx, &model, &how, 1, begin, prompt, &out) != R2_OK)
        return fprintf(stderr, "hf_random: %s\n", ctx.message), 1;
    getrusage(RUSAGE_SELF, &used);
    printf("%lld parameters: loaded in %.1f s, largest difference of a log-probability %.2g, "
           "%.1f tokens a second, peak memory %.2f GB\n", (long long)model.n_params, loaded, most,
           N_NEW / (r2_seconds() - began), 1024.0 * (double)used.ru_maxrss / 1e9);
    r2_generation_free(&ctx, &out);
    r2_model_free(&ctx, &model);
    return most > 1e-3;
}

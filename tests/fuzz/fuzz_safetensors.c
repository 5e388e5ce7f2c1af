/* Weights, into the smallest model that has each tensor once. A refused file changes no weight; an
   accepted one comes back from its own file. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    static r2_model model;
    const char *path = fuzz_file("model.safetensors", text, size);
    float *before;
    size_t bytes;
    bool all_finite = true;
    if (!model.n_params) {
        r2_model_config c = r2_model_config_default();
        c.n_vocab = 5, c.n_layer = 1, c.n_head = 1, c.n_kv_head = 1, c.d_model = 2, c.d_ff = 3;
        c.n_ctx = 8, c.tied = true, c.qkv_bias = false;
        must(r2_model_init(&ctx, &model, &c, false) == R2_OK);
    }
    bytes = (size_t)model.n_params * sizeof(float);
    before = (float *)malloc(bytes);
    must(before != NULL);
    memcpy(before, model.param, bytes);
    if (r2_model_load(&ctx, &model, path) != R2_OK) {
        must(!memcmp(before, model.param, bytes));
    } else {
        memcpy(before, model.param, bytes);
        must(r2_model_save(&ctx, &model, path) == R2_OK);
        for (int64_t k = 0; k < model.n_params; ++k) all_finite = all_finite && isfinite(model.param[k]);
        if (all_finite) must(r2_model_load(&ctx, &model, path) == R2_OK); /* others may be refused */
        must(!memcmp(before, model.param, bytes));
    }
    free(before);
}

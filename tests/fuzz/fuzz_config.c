/* config.json of a Hugging Face directory, beside the weights of a model of 8 words. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    static r2_text weights;
    int32_t token[2] = {0, 1}, begin[2] = {0, 2}, row[1] = {1}, next[1] = {2};
    r2_batch batch = {1, begin, token, 1, row, next, NULL};
    float logp[1];
    r2_model model;
    if (!weights.len) {
        weights = fuzz_read("tests/cases/data/model/model.safetensors");
        fuzz_file("model.safetensors", weights.data, weights.len);
    }
    fuzz_file("config.json", text, size);
    if (r2_model_load_dir(&ctx, &model, fuzz_folder, 4, false) != R2_OK) {
        must(!model.param && !model.n_params);
        return;
    }
    must(model.config.n_vocab == 8 && model.config.norm_eps > 0 && model.config.rope_theta > 0);
    must(r2_forward(&ctx, &model, &batch, logp, NULL) == R2_OK);
    r2_model_free(&ctx, &model);
}

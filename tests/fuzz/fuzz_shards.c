/* model.safetensors.index.json, beside a configuration and one file of weights, "a". */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    static bool ready;
    r2_model model;
    if (!ready) {
        r2_text weights = fuzz_read("tests/cases/data/model/model.safetensors"),
                config = fuzz_read("tests/cases/data/model/config.json");
        fuzz_file("a", weights.data, weights.len);
        fuzz_file("config.json", config.data, config.len);
        r2_text_free(&ctx, &weights);
        r2_text_free(&ctx, &config);
        ready = true;
    }
    fuzz_file("model.safetensors.index.json", text, size);
    if (r2_model_load_dir(&ctx, &model, fuzz_folder, 4, false) == R2_OK) {
        must(model.n_params > 0);
        r2_model_free(&ctx, &model);
    }
}

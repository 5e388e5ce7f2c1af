/* adapter_config.json, beside weights of adapters of rank 2; up to a NUL, then come the weights. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    static r2_text weights;
    static r2_model model;
    const char *cut = size ? (const char *)memchr(text, '\0', size) : NULL;
    size_t length = cut ? (size_t)(cut - text) : size;
    if (!weights.len) {
        weights = fuzz_read("tests/cases/data/adapter/adapter_model.safetensors");
        must(r2_model_load_dir(&ctx, &model, "tests/cases/data/model", 4, false) == R2_OK);
    }
    fuzz_file("adapter_config.json", text, length);
    if (cut) fuzz_file("adapter_model.safetensors", cut + 1, size - length - 1);
    else fuzz_file("adapter_model.safetensors", weights.data, weights.len);
    if (r2_lora_load(&ctx, &model, fuzz_folder) != R2_OK) {
        must(!model.lora);
        return;
    }
    must(r2_lora_save(&ctx, &model, fuzz_folder) == R2_OK);
    r2_lora_detach(&ctx, &model);
}

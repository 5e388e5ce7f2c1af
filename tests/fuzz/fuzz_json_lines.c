/* JSON Lines of ratings, and of items beside ratings that are fixed. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    const char *path = fuzz_file("records.json", text, size), *ratings = fuzz_few_ratings();
    r2_data data;
    r2_format format;
    if (r2_data_load(&ctx, &data, path) == R2_OK) {
        must(data.n_ratings > 0);
        for (int64_t k = 0; k < data.n_ratings; ++k)
            must(isfinite(data.rating[k]) && data.time[k] >= 0 && data.item[k] < data.n_items);
        r2_data_free(&ctx, &data);
    }
    memset(&format, 0, sizeof format);
    format.items = path;
    if (r2_data_load_files(&ctx, &data, &ratings, 1, &format) == R2_OK) r2_data_free(&ctx, &data);
}

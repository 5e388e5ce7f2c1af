/* Files of titles, genres and years, beside ratings that are fixed: they never change a rating. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    const char *path = fuzz_file("items.csv", text, size), *ratings = fuzz_few_ratings();
    r2_data data;
    r2_format format;
    memset(&format, 0, sizeof format);
    format.items = path;
    if (r2_data_load_files(&ctx, &data, &ratings, 1, &format) != R2_OK) return;
    must(data.n_users == 2 && data.n_items == 3 && data.n_ratings == 3);
    for (int64_t i = 0; i < data.n_items; ++i)
        must(data.title[i] && data.genres[i] && data.year[i] >= 0 && data.year[i] <= 9999);
    r2_data_free(&ctx, &data);
}

/* Tables of ratings: with the columns that the file names or implies, and with given ones. */
#include "fuzz.h"

/* What every table that was accepted must be: users and items are numbered without gaps, rows of a
   user ascend by item, numbers are finite, and the earliest time is 0. */
static void accepted(r2_data *data) {
    r2_text report = {NULL, 0, 0, false};
    int32_t first = INT32_MAX;
    must(data->n_users > 0 && data->n_items > 0 && data->n_ratings > 0);
    must(data->user_begin[0] == 0 && data->user_begin[data->n_users] == data->n_ratings);
    for (int64_t u = 0; u < data->n_users; ++u) {
        must(data->user_key[u][0] != '\0');
        must(data->user_begin[u] < data->user_begin[u + 1]);
        for (int64_t k = data->user_begin[u]; k < data->user_begin[u + 1]; ++k) {
            must(data->item[k] < data->n_items && isfinite(data->rating[k]) && data->time[k] >= 0);
            must(k == data->user_begin[u] || data->item[k - 1] < data->item[k]);
            if (data->time[k] < first) first = data->time[k];
        }
    }
    must(first == 0);
    must(r2_data_report(&ctx, data, &report) == R2_OK);
    r2_text_free(&ctx, &report);
    r2_data_free(&ctx, data);
}

static void fuzz_one(const char *text, size_t size) {
    const char *path = fuzz_file("ratings.csv", text, size);
    r2_data data;
    r2_format format;
    if (r2_data_load(&ctx, &data, path) == R2_OK) accepted(&data);
    memset(&format, 0, sizeof format);
    format.user = "1", format.item = "3";
    if (r2_data_load_files(&ctx, &data, &path, 1, &format) == R2_OK) accepted(&data);
    memset(&format, 0, sizeof format);
    format.separator = ",", format.user = "user", format.item = "item", format.time = "time";
    format.time_unit = 0.001;
    if (r2_data_load_files(&ctx, &data, &path, 1, &format) == R2_OK) accepted(&data);
}

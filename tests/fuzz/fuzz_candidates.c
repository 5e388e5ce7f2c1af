/* Candidate sets: what is accepted comes back from its own file. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    static r2_data data;
    const char *path = fuzz_file("set.tsv", text, size);
    r2_candidates set, again;
    r2_text first, second;
    if (!data.n_users) must(r2_data_load(&ctx, &data, FUZZ_RATINGS) == R2_OK);
    if (r2_candidates_load(&ctx, &set, &data, path) != R2_OK) return;
    for (int64_t k = 0; k < set.n_cases; ++k) must(set.user[k] < data.n_users);
    for (int64_t k = 0; k < set.n_cases * set.n_per_case; ++k) must(set.item[k] < data.n_items);
    must(r2_candidates_save(&ctx, &set, &data, path) == R2_OK);
    first = fuzz_read(path);
    must(r2_candidates_load(&ctx, &again, &data, path) == R2_OK);
    must(r2_candidates_save(&ctx, &again, &data, path) == R2_OK);
    second = fuzz_read(path);
    must(fuzz_same(&first, &second));
    r2_text_free(&ctx, &first);
    r2_text_free(&ctx, &second);
    r2_candidates_free(&ctx, &set);
    r2_candidates_free(&ctx, &again);
}

/* Records: what is accepted comes back from its own file, byte for byte. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    const char *path = fuzz_file("records.json", text, size);
    r2_records records, again;
    r2_text first, second;
    memset(&records, 0, sizeof records);
    memset(&again, 0, sizeof again);
    if (r2_records_read(&ctx, &records, path) == R2_OK) {
        must(r2_records_write(&ctx, &records, path) == R2_OK);
        first = fuzz_read(path);
        must(r2_records_read(&ctx, &again, path) == R2_OK && again.n == records.n);
        must(r2_records_write(&ctx, &again, path) == R2_OK);
        second = fuzz_read(path);
        must(fuzz_same(&first, &second));
        r2_text_free(&ctx, &first);
        r2_text_free(&ctx, &second);
    }
    r2_records_free(&ctx, &records);
    r2_records_free(&ctx, &again);
}

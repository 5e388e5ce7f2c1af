/* codebook.json, into the codebook of a small run. A refused file changes nothing; an accepted one
   comes back from its own file. */
#include "fuzz.h"

static void fuzz_one(const char *text, size_t size) {
    const char *path = fuzz_file("codebook.json", text, size);
    r2_codebook book = fuzz_run()->codebook, again = book;
    r2_text first, second;
    if (r2_codebook_load(&ctx, &book, path) != R2_OK) {
        must(!memcmp(&book, &again, sizeof book));
        return;
    }
    must(r2_codebook_save(&ctx, &book, path) == R2_OK);
    first = fuzz_read(path);
    must(r2_codebook_load(&ctx, &again, path) == R2_OK);
    must(r2_codebook_save(&ctx, &again, path) == R2_OK);
    second = fuzz_read(path);
    must(fuzz_same(&first, &second));
    r2_text_free(&ctx, &first);
    r2_text_free(&ctx, &second);
}

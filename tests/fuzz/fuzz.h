/* fuzz.h: what the fuzz targets share. A target is one C file for one reader, with

       void fuzz_one(const char *text, size_t size);

   Built by clang with -DFUZZING -fsanitize=fuzzer it is a libFuzzer target; by any other compiler it
   is a program that replays files and folders of files: `make test` replays tests/fuzz/corpus.
   Run it from the project's root. Targets use public functions only. */
#ifndef R2_FUZZ_H
#define R2_FUZZ_H

#define _POSIX_C_SOURCE 200809L /* mkdtemp */

#include "r2rec.h"

#include <dirent.h>
#if defined(__linux__)
#include <malloc.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static r2_ctx ctx;
static char fuzz_folder[64];

static void fuzz_one(const char *text, size_t size);

/* What must be true of every input, or the target aborts. */
static inline void must(bool good) {
    if (!good) abort();
}

static inline void fuzz_remove(void) {
    DIR *folder = opendir(fuzz_folder);
    if (!folder) return;
    for (struct dirent *entry; (entry = readdir(folder));)
        unlinkat(dirfd(folder), entry->d_name, 0);
    closedir(folder);
    rmdir(fuzz_folder);
}

/* Readers take megabytes for a file of ten bytes. The last few such blocks are kept, which makes
   fuzzing several times as fast; a read or write past their end is still seen. */
enum { FUZZ_LARGE = 1 << 20, FUZZ_KEPT = 4 };
static void *fuzz_kept[FUZZ_KEPT];
static int fuzz_n_kept;

static inline void *fuzz_realloc(void *hook_data, void *p, size_t size) {
    (void)hook_data;
    if (!p && size == FUZZ_LARGE && fuzz_n_kept) return fuzz_kept[--fuzz_n_kept];
    if (size) return realloc(p, size);
#if defined(__linux__)
    if (p && fuzz_n_kept < FUZZ_KEPT && malloc_usable_size(p) == FUZZ_LARGE) {
        fuzz_kept[fuzz_n_kept++] = p;
        return NULL;
    }
#endif
    free(p);
    return NULL;
}

/* A folder of our own, in memory where the system has such a place. */
static inline void fuzz_begin(void) {
    if (fuzz_folder[0]) return;
    snprintf(fuzz_folder, sizeof fuzz_folder, "%s/r2fuzz.XXXXXX",
             access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    must(mkdtemp(fuzz_folder) != NULL);
    atexit(fuzz_remove);
    ctx = r2_ctx_default();
    ctx.n_threads = 1;
    ctx.realloc_fn = fuzz_realloc;
}

/* Path of file NAME in the folder; valid until the fourth call from here. */
static inline const char *fuzz_path(const char *name) {
    static char path[4][128];
    static int at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[at], "%s/%s", fuzz_folder, name);
    return path[at];
}

/* Writes the input (or another text) as file NAME and returns its path. */
static inline const char *fuzz_file(const char *name, const char *text, size_t size) {
    const char *path = fuzz_path(name);
    FILE *file = fopen(path, "wb");
    must(file && fwrite(text, 1, size, file) == size && !fclose(file));
    return path;
}

static inline r2_text fuzz_read(const char *path) {
    r2_text text = {NULL, 0, 0, false};
    must(r2_read_file(&ctx, path, &text) == R2_OK);
    return text;
}

static inline bool fuzz_same(const r2_text *a, const r2_text *b) {
    return a->len == b->len && (!a->len || !memcmp(a->data, b->data, a->len));
}

/* The ratings that targets need beside their input: 16 users, 40 films. */
#define FUZZ_RATINGS "tests/cases/data/ratings"

/* Three ratings, for targets that load them with every input. */
static inline const char *fuzz_few_ratings(void) {
    static const char text[] = "userId,movieId,rating,timestamp\n1,10,4,100\n1,11,3,200\n2,12,5,300\n";
    return fuzz_file("few.csv", text, sizeof text - 1);
}

/* A run that is ready to train, made once. */
static inline r2_run *fuzz_run(void) {
    static r2_run run;
    r2_run_config config;
    if (run.data.n_users) return &run;
    config = r2_run_config_default();
    config.n_groups = 20, config.n_negatives = 6;
    config.model.d_model = 16, config.model.d_ff = 8, config.model.n_layer = 1;
    must(r2_run_init(&ctx, &run, FUZZ_RATINGS, &config) == R2_OK);
    return &run;
}

#ifdef FUZZING

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    fuzz_begin();
    fuzz_one((const char *)data, size);
    return 0;
}

#else

static inline long replay(const char *path) {
    DIR *folder = opendir(path);
    r2_text text = {NULL, 0, 0, false};
    long n = 0;
    if (!folder) {
        char *copy; /* of just its size, so that a sanitizer sees a read past the end */
        text = fuzz_read(path);
        copy = (char *)malloc(text.len ? text.len : 1);
        must(copy != NULL);
        if (text.len) memcpy(copy, text.data, text.len);
        fuzz_one(copy, text.len);
        free(copy);
        r2_text_free(&ctx, &text);
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.') continue;
        r2_text_clear(&text);
        r2_text_addf(&ctx, &text, "%s/%s", path, entry->d_name);
        must(!text.failed);
        n += replay(text.data);
    }
    closedir(folder);
    r2_text_free(&ctx, &text);
    return n;
}

int main(int n, char **a) {
    long n_files = 0;
    fuzz_begin();
    for (int k = 1; k < n; ++k) n_files += replay(a[k]);
    printf("%ld inputs\n", n_files);
    return n_files == 0;
}

#endif
#endif

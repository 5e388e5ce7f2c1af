/* [E1] base: memory, text, lists and tables of stb_ds. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"
#include "stb_tables.h"

/* An allocator that fails at one call and counts what is alive. */
typedef struct scarce {
    int64_t n_calls, fails_at, n_alive;
    size_t asked[8]; /* sizes of the first calls */
} scarce;

static void *scarce_realloc(void *hook_data, void *ptr, size_t size) {
    scarce *s = (scarce *)hook_data;
    void *block;
    if (!size) {
        s->n_alive -= ptr != NULL;
        free(ptr);
        return NULL;
    }
    if (s->n_calls < 8) s->asked[s->n_calls] = size;
    if (++s->n_calls == s->fails_at) return NULL;
    block = realloc(ptr, size);
    s->n_alive += block && !ptr;
    return block;
}

static r2_ctx scarce_ctx(scarce *s, int64_t fails_at) {
    r2_ctx ctx = r2_ctx_default();
    memset(s, 0, sizeof *s);
    s->fails_at = fails_at;
    ctx.realloc_fn = scarce_realloc;
    ctx.hook_data = s;
    return ctx;
}

enum { N = 500 };

TEST(lists_and_tables_hold_what_was_put) {
    static char letters[N][16];
    scarce memory;
    r2_ctx ctx = scarce_ctx(&memory, 0);
    tables t;
    memset(&t, 0, sizeof t);
    CHECK_EQ_INT(r2__map_find(t.text, sizeof *t.text, "x", 0), -1);
    REQUIRE_OK(&ctx, tables_fill(&ctx, &t, letters, N));
    CHECK_EQ_INT(stbds_arrlen(t.list), 2 * N);
    CHECK_EQ_INT(stbds_hmlen(t.text), N);
    CHECK_EQ_INT(tables_right(&t, N), N);
    CHECK_EQ_STR(t.text[7], "t7"); /* in the order in which they were put */
    tables_free(&ctx, &t);
    CHECK_EQ_INT(memory.n_alive, 0);
    tables_free(&ctx, &t);
}

TEST(lists_and_tables_survive_every_failed_allocation) {
    static char letters[N][16];
    int64_t at = 0;
    r2_status status = R2_NO_MEMORY;
    while (status != R2_OK && ++at < 1000) {
        scarce memory;
        r2_ctx ctx = scarce_ctx(&memory, at);
        tables t;
        memset(&t, 0, sizeof t);
        status = tables_fill(&ctx, &t, letters, N);
        if (status == R2_OK) {
            CHECK_EQ_INT(tables_right(&t, N), N);
            tables_free(&ctx, &t);
            CHECK_EQ_INT(memory.n_alive, 0);
            break;
        }
        CHECK_STATUS(&ctx, status, R2_NO_MEMORY);
        CHECK(strstr(ctx.message, "out of memory") != NULL);
        CHECK_EQ_INT(memory.n_alive, 0);
        /* after a failure nothing more can be put, and the free is allowed */
        CHECK_STATUS(&ctx, tables_fill(&ctx, &t, letters, N), R2_NO_MEMORY);
        tables_free(&ctx, &t);
        CHECK_EQ_INT(memory.n_alive, 0);
    }
    CHECK(status == R2_OK && at > 20); /* so many allocations there are */
}

/* The numbers in the opening of [E1]. */
TEST(the_opening_of_e1) {
    r2_ctx ctx = r2_ctx_default();
    r2_arena arena = {NULL, 0, 0};
    r2_text text = {NULL, 0, 0, false};
    CHECK(r2_arena_alloc(&ctx, &arena, 100, 1) != NULL);
    CHECK_EQ_INT(arena.used, 128);
    for (int k = 0; k < 100; ++k) r2_text_add(&ctx, &text, "x", 1);
    CHECK_EQ_INT(text.cap, 128);
    r2_text_free(&ctx, &text);
    r2_arena_free(&ctx, &arena);
}

/* The numbers in the opening of lists and tables. */
TEST(a_list_doubles) {
    scarce memory;
    r2_ctx ctx = scarce_ctx(&memory, 0);
    r2__owner owner = {NULL, false};
    int64_t *list = NULL;
    for (int64_t k = 0; k < 16; ++k) {
        REQUIRE_OK(&ctx, r2__array_reserve(&ctx, &owner, &list, sizeof *list, 1));
        stbds_arrput(list, k);
    }
    for (int k = 0; k < 3; ++k) { /* beside the two pointers before each block */
        static const size_t want[3] = {64, 96, 160};
        CHECK_EQ_INT(memory.asked[k] - 2 * sizeof(void *), want[k]);
    }
    r2__array_free(&ctx, &owner, &list);
    CHECK_EQ_INT(memory.n_alive, 0);
}

TEST(a_list_too_large_is_refused) {
    scarce memory;
    r2_ctx ctx = scarce_ctx(&memory, 0);
    r2__owner owner = {NULL, false};
    double *list = NULL;
    CHECK_STATUS(&ctx, r2__array_reserve(&ctx, &owner, &list, sizeof *list, INT64_MAX / 4),
                 R2_NO_MEMORY);
    CHECK(!list && memory.n_calls == 0);
}

/* A program may use the stb_ds that this header compiles: its memory is the C library's. */
TEST(sizes_that_no_memory_has) {
    r2_ctx ctx = r2_ctx_default();
    r2_arena arena;
    memset(&arena, 0, sizeof arena);
    CHECK(!r2_alloc(&ctx, (uint64_t)1 << 63, 2)); /* the product wraps to 0 */
    CHECK(ctx.status == R2_NO_MEMORY && strstr(ctx.message, "9223372036854775808 elements"));
    CHECK(!r2_resize(&ctx, NULL, (uint64_t)PTRDIFF_MAX + 1, 1));
    CHECK(!r2_arena_alloc(&ctx, &arena, (uint64_t)1 << 63, 2));
    CHECK(!r2_arena_alloc(&ctx, &arena, UINT64_MAX, 1)); /* rounded up, it wraps */
    CHECK(!r2_arena_alloc(&ctx, &arena, UINT64_MAX - 63, 1)); /* with its header it does */
    CHECK(!arena.blocks);
    r2_release(&ctx, r2_alloc(&ctx, 0, 8)); /* nothing is something */
}

TEST(names_and_numbers) {
    static const char *const name[] = {"ok", "out of memory", "input/output error", "format error",
                                       "invalid argument", "cancelled", "diverged", "unknown status"};
    r2_rng rng = r2_rng_make(1, R2_STREAM_USER, 0);
    uint64_t high = 0;
    for (int k = 0; k < 8; ++k) CHECK_EQ_STR(r2_status_name((r2_status)k), name[k]);
    CHECK_EQ_INT(r2_rng_below(&rng, 0), 0);
    for (int k = 0; k < 200; ++k) { /* more than 32 bits: half of the draws are drawn again */
        const uint64_t x = r2_rng_below(&rng, ((uint64_t)1 << 63) + 1);
        CHECK(x <= (uint64_t)1 << 63);
        high += x >= (uint64_t)1 << 62;
    }
    CHECK(high > 70 && high < 130);
}

static void keep_line(void *hook_data, const char *line) {
    snprintf((char *)hook_data, 500, "%s", line);
}

TEST(a_log_is_one_line) {
    char line[500] = "";
    r2_ctx ctx = r2_ctx_default();
    r2_log(&ctx, "nobody listens");
    ctx.log = keep_line, ctx.hook_data = line;
    r2_log(&ctx, "%d of %d", 3, 4);
    CHECK_EQ_STR(line, "3 of 4");
    ctx.log = NULL;
}

/* A byte that is no UTF-8, in a line of JSON: U+FFFD; control characters by their number. */
TEST(broken_bytes_in_a_line) {
    r2_ctx ctx = r2_ctx_default();
    r2_record record = {1, 2, 4, 0, 0, -1, "u", "i\xFF", "progressive", "english", "", "", "\x01\xC3\xA9", ""};
    r2_text line = {NULL, 0, 0, false};
    r2_record_line(&ctx, &record, &line);
    REQUIRE(!line.failed);
    CHECK(strstr(line.data, "\"i\xEF\xBF\xBD\"") != NULL);
    CHECK(strstr(line.data, "\"\\u0001\xC3\xA9\"") != NULL);
    r2_text_free(&ctx, &line);
}

TEST(paths_too_long_and_files_that_are_no_text) {
    static char path[6000];
    r2_ctx ctx = r2_ctx_default();
    r2_codebook book;
    r2_model model;
    r2_vocab vocab;
    memset(path, 'p', sizeof path - 1);
    memset(&vocab, 0, sizeof vocab);
    memset(&book, 0, sizeof book);
    CHECK_STATUS(&ctx, r2_write_file(&ctx, path, "", 0), R2_ARGUMENT);
    CHECK(strstr(ctx.message, "the path is too long") != NULL);
    CHECK_STATUS(&ctx, r2_model_load_dir(&ctx, &model, path, 0, false), R2_ARGUMENT);
    CHECK(strstr(ctx.message, "the path is too long") != NULL);
    snprintf(path, sizeof path, "build/base-%p.tmp", (void *)&vocab);
    CHECK_STATUS(&ctx, r2_write_file(&ctx, path, "a\0b", 3), R2_OK);
    CHECK_STATUS(&ctx, r2_vocab_load(&ctx, &vocab, path), R2_FORMAT);
    CHECK_STATUS(&ctx, r2_write_file(&ctx, path, "[7]", 3), R2_OK);
    CHECK_STATUS(&ctx, r2_codebook_load(&ctx, &book, path), R2_FORMAT);
    r2_vocab_free(&ctx, &vocab);
    remove(path);
}

TEST(the_program_may_use_stb_ds_too) {
    struct entry {
        int key, value;
    } entry = {3, 4}, *map = NULL;
    stbds_hmputs(map, entry);
    entry.key = 5;
    stbds_hmputs(map, entry);
    CHECK_EQ_INT(stbds_hmlen(map), 2);
    CHECK_EQ_INT(map[1].key, 5);
    stbds_hmfree(map);
}

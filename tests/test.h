/* test.h: the whole test harness. A test program is one C file:

       #define R2REC_IMPLEMENTATION
       #include "r2rec.h"
       #include "test.h"

       TEST(butterflies_of_a_square) {
           CHECK_EQ_INT(count(...), 1);
       }

   There is no list to keep and no main to write: tests run in the order of the file. A failed CHECK
   is printed with file and line and the test goes on; a failed REQUIRE ends the test, for what later
   lines cannot do without. `program WORD` runs only the tests whose name holds WORD. The last line of
   the output, `# passed failed skipped`, is for run.sh. */
#ifndef R2_TEST_H
#define R2_TEST_H

#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct test_case {
    const char *name;
    void (*run)(void);
    struct test_case *next;
} test_case;

static test_case *test_first, **test_last = &test_first;
static const char *test_name = "";
static int test_broken;           /* the running test has a failed check */
static const char *test_skipping; /* why the running test is skipped     */

static inline void test_register(test_case *test) {
    *test_last = test;
    test_last = &test->next;
}

static inline int test_report(const char *file, int line) {
    printf("%s:%d: [%s] ", file, line, test_name);
    test_broken = 1;
    return 0;
}

#define TEST(name)                                                                                 \
    static void test_##name(void);                                                                 \
    __attribute__((constructor)) static void test_register_##name(void) {                          \
        static test_case self = {#name, test_##name, NULL};                                        \
        test_register(&self);                                                                      \
    }                                                                                              \
    static void test_##name(void)

/* --- checks: each is true or false, reports when false, and evaluates its arguments once ---------- */

#define CHECK(condition) test_check((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define CHECK_EQ_INT(got, want)                                                                    \
    test_eq_int((int64_t)(got), (int64_t)(want), #got, __FILE__, __LINE__)
#define CHECK_EQ_STR(got, want) test_eq_str((got), (want), #got, __FILE__, __LINE__)
/* |got - want| <= relative * max(|got|, |want|): a zero matches only a zero. */
#define CHECK_NEAR(got, want, relative)                                                            \
    test_near((double)(got), (double)(want), (double)(relative), 0.0, #got, __FILE__, __LINE__)
/* |got - want| <= absolute. */
#define CHECK_WITHIN(got, want, absolute)                                                          \
    test_near((double)(got), (double)(want), 0.0, (double)(absolute), #got, __FILE__, __LINE__)
/* Two float arrays: max |got - want| <= relative * max |want|, so that one scale rules a tensor. */
#define CHECK_ARRAY_NEAR(got, want, n, relative)                                                   \
    test_array_near((got), (want), (int64_t)(n), (double)(relative), #got, __FILE__, __LINE__)

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!CHECK(condition)) return;                                                             \
    } while (0)

#define SKIP(reason)                                                                               \
    do {                                                                                           \
        test_skipping = (reason);                                                                  \
        return;                                                                                    \
    } while (0)

static inline int test_check(int ok, const char *what, const char *file, int line) {
    if (ok) return 1;
    test_report(file, line);
    printf("not true: %s\n", what);
    return 0;
}

static inline int test_eq_int(int64_t got, int64_t want, const char *what, const char *file,
                              int line) {
    if (got == want) return 1;
    test_report(file, line);
    printf("%s is %lld, not %lld\n", what, (long long)got, (long long)want);
    return 0;
}

static inline int test_eq_str(const char *got, const char *want, const char *what, const char *file,
                              int line) {
    if (got && want && !strcmp(got, want)) return 1;
    test_report(file, line);
    printf("%s is \"%s\", not \"%s\"\n", what, got ? got : "(null)", want ? want : "(null)");
    return 0;
}

/* Written so that a NaN on either side fails. */
static inline int test_near(double got, double want, double relative, double absolute,
                            const char *what, const char *file, int line) {
    double scale = fabs(got) > fabs(want) ? fabs(got) : fabs(want);
    double allowed = relative * scale + absolute;
    if (got == want || fabs(got - want) <= allowed) return 1;
    test_report(file, line);
    printf("%s is %.9g, not %.9g (off by %.3g, allowed %.3g)\n", what, got, want, got - want,
           allowed);
    return 0;
}

static inline int test_array_near(const float *got, const float *want, int64_t n, double relative,
                                  const char *what, const char *file, int line) {
    double worst = -1.0, scale = 0.0;
    int64_t where = 0;
    for (int64_t i = 0; i < n; i++) {
        double off = fabs((double)got[i] - (double)want[i]);
        if (!(off <= worst)) worst = off, where = i;
        if (fabs((double)want[i]) > scale) scale = fabs((double)want[i]);
        if (off != off) break;
    }
    if (n == 0 || worst <= relative * scale) return 1;
    test_report(file, line);
    printf("%s[%lld] is %.9g, not %.9g (off by %.3g of %.3g)\n", what, (long long)where,
           (double)got[where], (double)want[where], worst, scale);
    return 0;
}

/* Numbers with a decimal comma, as a program in another language has them (1; false: no such locale
   here), or as C has them (0). */
static inline int test_comma(int on) {
    static const char *const names[] = {"de_DE.UTF-8", "fr_FR.UTF-8", "ru_RU.UTF-8", "de_DE"};
    for (size_t k = 0; on && k < sizeof names / sizeof *names; ++k)
        if (setlocale(LC_NUMERIC, names[k]) && *localeconv()->decimal_point == ',') return 1;
    setlocale(LC_NUMERIC, "C");
    return !on;
}

/* The library's part, when r2rec.h was included first: a call must come to `want`; when it does not,
   the context's sentence is shown. */
#ifdef R2REC_H
#define CHECK_STATUS(ctx, call, want) test_status((ctx), (call), (want), #call, __FILE__, __LINE__)
#define REQUIRE_OK(ctx, call)                                                                      \
    do {                                                                                           \
        if (!CHECK_STATUS(ctx, call, R2_OK)) return;                                               \
    } while (0)

static inline int test_status(const r2_ctx *ctx, r2_status got, r2_status want, const char *what,
                              const char *file, int line) {
    if (got == want) return 1;
    test_report(file, line);
    printf("%s came to \"%s\", not \"%s\"%s%s\n", what, r2_status_name(got), r2_status_name(want),
           got == R2_OK ? "" : ": ", got == R2_OK ? "" : ctx->message);
    return 0;
}
#endif

int main(int argc, char **argv) {
    int passed = 0, failed = 0, skipped = 0;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    for (test_case *test = test_first; test; test = test->next) {
        if (argc > 1 && !strstr(test->name, argv[1])) continue;
        test_name = test->name;
        test_broken = 0;
        test_skipping = NULL;
        test->run();
        if (test_skipping && !test_broken) printf("skipped [%s]: %s\n", test->name, test_skipping);
        if (test_broken)
            failed++;
        else if (test_skipping)
            skipped++;
        else
            passed++;
    }
    printf("# %d %d %d\n", passed, failed, skipped);
    return failed > 0;
}

#endif

/* What the long programs build on: rows on disk, averages over seeds, paired intervals. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"
#include "../examples/experiments/experiment.h"

static xp begin(const char *name) {
    const char *argv[] = {name, "--out", "build/experiment", "--models", "2", NULL};
    mkdir("build", 0777);
    setenv("OMP_WAIT_POLICY", "passive", 0); /* else xp_begin starts this program anew, as `name` */
    return xp_begin(name, 1, 5, (char **)(uintptr_t)argv);
}

TEST(options_have_defaults) {
    xp x = begin("defaults");
    CHECK_EQ_INT(x.models, 2);
    CHECK_EQ_INT(x.seeds, 1);
    CHECK(!x.full && !x.only);
    CHECK_EQ_INT(xp_config(&x, 3).seed, 3);
    CHECK_EQ_STR(x.dir, "build/experiment/defaults/quick");
}

/* The long training does not write over the tables of the quick one. */
TEST(quick_and_full_have_files_of_their_own) {
    xp x = begin("reports");
    for (int full = 0; full < 2; ++full) {
        static const char *const path[] = {"build/experiment/reports.md",
                                           "build/experiment/reports-full.md"};
        r2_text text = {NULL, 0, 0, false}, said = {NULL, 0, 0, false};
        x.full = full;
        remove(path[full]);
        r2_text_addf(&x.ctx, &text, "# table %d\n", full);
        xp_report(&x, &text, cJSON_CreateArray());
        REQUIRE_OK(&x.ctx, r2_read_file(&x.ctx, path[full], &said));
        CHECK_EQ_STR(said.data, full ? "# table 1\n" : "# table 0\n");
        CHECK(text.data == NULL);
        r2_text_free(&x.ctx, &said);
    }
}

TEST(a_row_comes_back_from_disk) {
    /* the positive stands first: best, second of two equals, worst */
    static const float score[9] = {3, 2, 1, 2, 2, 1, 0, 2, 1};
    xp x = begin("rows");
    xp_mean mean = {0, 0, NULL};
    cJSON *row;
    xp_save(&x, "a", xp_row(score, 3, 3));
    CHECK(xp_has(&x, "a"));
    CHECK(!xp_has(&x, "b"));
    CHECK(!xp_load(&x, "b"));
    row = xp_load(&x, "a");
    REQUIRE(row);
    xp_mean_add(&x, &mean, row);
    CHECK_EQ_INT(mean.n, 3);
    CHECK(isnan(xp_number(row, "missing")));
    CHECK_NEAR(xp_average(&mean, XP_HR1), (1.0 + 0.5 + 0.0) / 3.0, 1e-12);
    CHECK_NEAR(xp_average(&mean, XP_MRR), (1.0 + 0.75 + 1.0 / 3.0) / 3.0, 1e-12);
    CHECK_NEAR(xp_average(&mean, XP_TIE), 1.0 / 3.0, 1e-12);
    cJSON_Delete(row);
    xp_mean_free(&x, &mean);
}

TEST(seeds_are_averaged_user_by_user) {
    static const float first[4] = {1, 0, 0, 1}, second[4] = {1, 0, 1, 0};
    xp x = begin("means");
    xp_mean a = {0, 0, NULL}, b = {0, 0, NULL};
    cJSON *row[2];
    double lo, hi;
    row[0] = xp_row(first, 2, 2);
    row[1] = xp_row(second, 2, 2);
    xp_mean_add(&x, &a, row[0]);
    xp_mean_add(&x, &a, row[1]);
    xp_mean_add(&x, &b, row[0]);
    CHECK_EQ_INT(a.n_rows, 2);
    CHECK_NEAR(a.value[0], 1.0, 1e-12); /* XP_HR1 of user 0, then of user 1 */
    CHECK_NEAR(a.value[1], 0.5, 1e-12);
    xp_interval(&x, &a, &b, XP_HR1, &lo, &hi); /* differences 0 and .5 */
    CHECK_WITHIN(lo, 0.0, 1e-12);
    CHECK_WITHIN(hi, 0.5, 1e-12);
    cJSON_Delete(row[0]);
    cJSON_Delete(row[1]);
    xp_mean_free(&x, &a);
    xp_mean_free(&x, &b);
}

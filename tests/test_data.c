/* [M1] data: every format says the same, everything wrong is refused, splits keep their rules. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"
#include "ratings.h"

/* ---- formats ---- */

static void check_rating(const r2_data *data, const char *user, const char *item, double rating,
                         int64_t time) {
    int64_t u = r2_data_user(data, user), i = r2_data_item(data, item), row;
    if (!CHECK(u >= 0 && i >= 0)) return;
    row = r2_data_find(data, (uint32_t)u, (uint32_t)i);
    if (!CHECK(row >= 0)) return;
    CHECK_NEAR(data->rating[row], rating, 0);
    CHECK_EQ_INT(data->time_zero + data->time[row], time);
}

/* Four interactions, as everybody writes them. */
static const char *const formats[] = {
    "userId,movieId,rating,timestamp\n1,10,4.5,1000000000\n1,20,3,1000000001\n2,10,0.5,1000000002\n"
    "7,30,5,1100000000\n",
    "1\t10\t4.5\t1000000000\n1\t20\t3\t1000000001\n2\t10\t0.5\t1000000002\n7\t30\t5\t1100000000\n",
    "1::10::4.5::1000000000\n1::20::3::1000000001\n2::10::0.5::1000000002\n7::30::5::1100000000",
    "1 10 4.5 1000000000\n1 20 3 1000000001\n2 10 0.5 1000000002\n7 30 5 1100000000\n",
    "\xEF\xBB\xBFtime;Rating;item_id;User-ID\r\n1000000000;4.5;10;1\r\n\r\n1000000001;3;20;1\r\n"
    "1000000002;\"0.5\";10;\"2\"\r\n1100000000;5;30;7",
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t4.5\t1000000000\n"
    "1\t20\t3.0\t1.000000001e9\n2\t10\t.5\t1000000002.0\n7\t30\t5e0\t1100000000\n",
    "{\"overall\": 4.5, \"reviewText\": \"a, \\\"b\\\"\", \"reviewerID\": \"1\", \"asin\": \"10\", "
    "\"unixReviewTime\": 1000000000}\n"
    "{\"reviewerID\": \"1\", \"asin\": \"20\", \"overall\": 3.0, \"unixReviewTime\": 1000000001}\n"
    "{\"reviewerID\": \"2\", \"asin\": \"10\", \"overall\": 0.5, \"unixReviewTime\": 1000000002}\n"
    "{\"reviewerID\": \"7\", \"asin\": \"30\", \"overall\": 5, \"unixReviewTime\": 1100000000}\n",
    "{\"rating\": 4.5, \"asin\": \"B1\", \"parent_asin\": \"10\", \"user_id\": \"1\", "
    "\"timestamp\": 1000000000123}\n"
    "{\"rating\": 3, \"asin\": \"B2\", \"parent_asin\": 20, \"user_id\": 1, "
    "\"timestamp\": 1000000001999}\n"
    "{\"rating\": 0.5, \"asin\": \"B3\", \"parent_asin\": \"10\", \"user_id\": \"2\", "
    "\"timestamp\": 1000000002000}\n"
    "{\"rating\": 5, \"asin\": \"B4\", \"parent_asin\": \"30\", \"user_id\": \"7\", "
    "\"timestamp\": 1100000000000}",
};

static void check_four(const r2_data *data) {
    CHECK_EQ_INT(data->n_users, 3);
    CHECK_EQ_INT(data->n_items, 3);
    CHECK_EQ_INT(data->n_ratings, 4);
    CHECK_EQ_INT(data->time_zero, 1000000000);
    CHECK_NEAR(data->rating_min, 0.5, 0);
    CHECK_NEAR(data->rating_max, 5, 0);
    CHECK(data->has_rating && data->has_time);
    check_rating(data, "1", "10", 4.5, 1000000000);
    check_rating(data, "1", "20", 3, 1000000001);
    check_rating(data, "2", "10", 0.5, 1000000002);
    check_rating(data, "7", "30", 5, 1100000000);
}

TEST(formats_say_the_same) {
    r2_ctx ctx = r2_ctx_default();
    for (size_t k = 0; k < sizeof formats / sizeof *formats; ++k) {
        r2_data data;
        if (!CHECK_STATUS(&ctx, ratings_load(&ctx, &data, formats[k]), R2_OK)) continue;
        check_four(&data);
        r2_data_free(&ctx, &data);
    }
}

TEST(columns_by_name_and_by_number) {
    static const char *const text = "10,1,1000000000000,4.5\n20,1,1000000001000,3\n"
                                    "10,2,1000000002000,0.5\n30,7,1100000000000,5\n";
    static const char *const named = "what,who,when,how\n10,1,1000000000000,4.5\n"
                                     "20,1,1000000001000,3\n10,2,1000000002000,0.5\n"
                                     "30,7,1100000000000,5\n";
    static const char *const path = "build/test_data_columns.tmp";
    for (int turn = 0; turn < 2; ++turn) {
        r2_ctx ctx = r2_ctx_default();
        r2_format format;
        r2_data data;
        memset(&format, 0, sizeof format);
        format.user = turn ? "who" : "2";
        format.item = turn ? "what" : "1";
        format.rating = turn ? "how" : "4";
        format.time = turn ? "when" : "3";
        format.time_unit = 0.001;
        REQUIRE(ratings_write_text(path, turn ? named : text));
        REQUIRE_OK(&ctx, r2_data_load_files(&ctx, &data, &path, 1, &format));
        check_four(&data);
        r2_data_free(&ctx, &data);
        format.user = "nobody";
        CHECK_STATUS(&ctx, r2_data_load_files(&ctx, &data, &path, 1, &format), R2_FORMAT);
        CHECK(strstr(ctx.message, "nobody") != NULL);
    }
    remove(path);
}

TEST(json_keys_by_name) {
    static const char *const text = "{\"who\": 1, \"2\": 10, \"how\": 4.5, \"when\": 1000000000}\n"
                                    "{\"who\": 1, \"2\": 20, \"how\": 3, \"when\": 1000000001}\n"
                                    "{\"who\": 2, \"2\": 10, \"how\": 0.5, \"when\": 1000000002}\n"
                                    "{\"who\": 7, \"2\": 30, \"how\": 5, \"when\": 1100000000}\n";
    static const char *const path = "build/test_data_keys.tmp";
    static const char *const absent[] = {"no such key", "1"}; /* a number is a name, too */
    r2_ctx ctx = r2_ctx_default();
    r2_format format;
    r2_data data;
    memset(&format, 0, sizeof format);
    format.user = "who", format.item = "2", format.rating = "how", format.time = "when";
    REQUIRE(ratings_write_text(path, text));
    REQUIRE_OK(&ctx, r2_data_load_files(&ctx, &data, &path, 1, &format));
    check_four(&data);
    r2_data_free(&ctx, &data);
    for (int k = 0; k < 8; ++k) {
        const char **wish[4] = {&format.user, &format.item, &format.rating, &format.time};
        const char *present = *wish[k % 4];
        *wish[k % 4] = absent[k / 4];
        CHECK_STATUS(&ctx, r2_data_load_files(&ctx, &data, &path, 1, &format), R2_FORMAT);
        CHECK(strstr(ctx.message, k < 4 ? ":1: expected the key \"no such key\", "
                                        : ":1: expected the key \"1\", ") != NULL);
        *wish[k % 4] = present;
    }
    remove(path);
}

TEST(separators_of_ones_own) {
    static const struct {
        const char *separator, *text;
        r2_status status;
        const char *message;
    } cases[] = {
        {"#", "1#10#4.5#1000000000\n1#20#3#1000000001\n2#10#0.5#1000000002\n7#30#5#1100000000\n",
         R2_OK, ""},
        {",;", "1,;\"10\",;4.5,;1000000000\n1,;20,;\"3\",;1000000001\n2,;10,;0.5,;1000000002\n"
               "\"7\",;30,;5,;1100000000\n", R2_OK, ""},
        {"", "1 2 3 4\n", R2_ARGUMENT, "one or two bytes, found \"\""},
        {"<->", "1<->2<->3<->4\n", R2_ARGUMENT, "one or two bytes, found \"<->\""},
        {",;", "\"1\",2,;3,;4\n", R2_FORMAT, ":1: expected closed quotes"},
        {",;", "1,;2,;\"3\",", R2_FORMAT, ":1: expected closed quotes"},
    };
    static const char *const path = "build/test_data_separators.tmp";
    r2_ctx ctx = r2_ctx_default();
    r2_format format;
    memset(&format, 0, sizeof format);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
        r2_data data;
        format.separator = cases[k].separator;
        REQUIRE(ratings_write_text(path, cases[k].text));
        if (!CHECK_STATUS(&ctx, r2_data_load_files(&ctx, &data, &path, 1, &format),
                          cases[k].status))
            continue;
        if (cases[k].status) CHECK(strstr(ctx.message, cases[k].message) != NULL);
        else check_four(&data);
        r2_data_free(&ctx, &data);
    }
    remove(path);
}

TEST(standard_input_reads_like_a_file) {
    static const char *const path = "build/test_data_stdin.tmp";
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    REQUIRE(ratings_write_text(path, formats[0]));
    REQUIRE(freopen(path, "rb", stdin) != NULL);
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, "-"));
    check_four(&data);
    r2_data_free(&ctx, &data);
    remove(path);
}

TEST(columns_that_are_missing_are_said_to_be) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "user,item\na,x\na,y\nb,x\n"));
    CHECK(!data.has_rating && !data.has_time);
    check_rating(&data, "a", "y", 1, 0);
    r2_data_free(&ctx, &data);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "user\titem\ttimestamp\na\tx\t5\nb\ty\t6\n"));
    CHECK(!data.has_rating && data.has_time);
    check_rating(&data, "b", "y", 1, 6);
    r2_data_free(&ctx, &data);
}

/* 100K: tabs without names, latin-1 titles, flags for genres. */
TEST(movielens_100k_layout) {
    static const char *const path = "build/test_data_100k";
    char items[1024], data_path[64], item_path[64], command[128];
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    int64_t i;
    snprintf(command, sizeof command, "mkdir -p %s", path);
    REQUIRE(system(command) == 0);
    snprintf(data_path, sizeof data_path, "%s/u.data", path);
    snprintf(item_path, sizeof item_path, "%s/u.item", path);
    snprintf(
        items, sizeof items,
        "1|Toy Story (1995)|01-Jan-1995||http://x/|0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        "2|Mis\xE9rables, Les (1995)|01-Jan-1995||http://x/|0|0|0|0|0|0|0|0|1|0|0|0|0|0|0|0|0|0"
        "|0\n3|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n");
    REQUIRE(ratings_write_text(item_path, items));
    REQUIRE(ratings_write_text(data_path, "196\t2\t3\t881250949\n186\t1\t4\t891717742\n"));
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, path));
    CHECK_EQ_INT(data.n_items, 2);
    i = r2_data_item(&data, "2");
    REQUIRE(i == 0);
    CHECK_EQ_STR(data.title[0], "Mis\xC3\xA9rables, Les (1995)");
    CHECK_EQ_STR(data.genres[0], "Drama");
    CHECK_EQ_INT(data.year[0], 1995);
    CHECK_EQ_STR(data.title[1], "Toy Story (1995)");
    CHECK_EQ_STR(data.genres[1], "Animation|Children|Comedy");
    r2_data_free(&ctx, &data);
    remove(data_path);
    remove(item_path);
    remove(path);
}

/* 1M and 10M: double colons, single ones inside titles; 1M in latin-1. */
TEST(movielens_1m_layout) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    REQUIRE(system("mkdir -p build/test_data_1m") == 0);
    REQUIRE(ratings_write_text("build/test_data_1m/ratings.dat",
                               "1::648::5::978300760\n1::73::3.5::978302109\n"));
    REQUIRE(ratings_write_text("build/test_data_1m/movies.dat",
                               "73::Mis\xE9rables, Les (1995)::Drama|Musical\n"
                               "648::Mission: Impossible (1996)::Action|Adventure|Mystery\n"));
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, "build/test_data_1m"));
    check_rating(&data, "1", "73", 3.5, 978302109);
    CHECK_EQ_STR(data.title[0], "Mission: Impossible (1996)");
    CHECK_EQ_STR(data.genres[0], "Action|Adventure|Mystery");
    CHECK_EQ_STR(data.title[1], "Mis\xC3\xA9rables, Les (1995)");
    CHECK_EQ_INT(data.year[1], 1995);
    r2_data_free(&ctx, &data);
    remove("build/test_data_1m/ratings.dat");
    remove("build/test_data_1m/movies.dat");
    remove("build/test_data_1m");
}

TEST(items_of_a_table_and_of_json) {
    static const char *const ratings = "build/test_data_titles.tmp",
                             *items = "build/test_items.tmp";
    static const char *const tables[] = {
        "movieId,title,genres\n10,\"City of \"\"Lost\"\" Children, The (1995)\",Drama|Sci-Fi\n"
        "99,Nobody saw it (1999),Drama\n20,Heat,(no genres listed)\n",
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "10\tCity of \"Lost\" Children, The (1995)\t1995\tDrama|Sci-Fi\n20\tHeat\t\t\n",
        "{\"parent_asin\": \"10\", \"title\": \"City of \\\"Lost\\\" Children, The (1995)\", "
        "\"categories\": [\"Drama\", \"Sci-Fi\"]}\n{\"parent_asin\": \"20\", \"title\": \"Heat\", "
        "\"categories\": []}\n"};
    for (int k = 0; k < 3; ++k) {
        r2_ctx ctx = r2_ctx_default();
        r2_format format;
        r2_data data;
        memset(&format, 0, sizeof format);
        format.items = items;
        REQUIRE(ratings_write_text(ratings, formats[0]));
        REQUIRE(ratings_write_text(items, tables[k]));
        REQUIRE_OK(&ctx, r2_data_load_files(&ctx, &data, &ratings, 1, &format));
        CHECK_EQ_STR(data.title[0], "City of \"Lost\" Children, The (1995)");
        CHECK_EQ_STR(data.genres[0], "Drama|Sci-Fi");
        CHECK_EQ_INT(data.year[0], 1995);
        CHECK_EQ_STR(data.title[1], "Heat");
        CHECK_EQ_STR(data.genres[1], "");
        CHECK_EQ_INT(data.year[1], 0);
        CHECK_EQ_STR(data.title[2], "");
        r2_data_free(&ctx, &data);
    }
    remove(ratings);
    remove(items);
}

TEST(recbole_directory) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    REQUIRE(system("mkdir -p build/tiny-set") == 0);
    REQUIRE(ratings_write_text("build/tiny-set/tiny-set.inter", formats[5]));
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, "build/tiny-set/"));
    check_four(&data);
    r2_data_free(&ctx, &data);
    remove("build/tiny-set/tiny-set.inter");
    remove("build/tiny-set");
}

TEST(the_latest_duplicate_is_kept_and_counted) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data,
                                  "a x 1 30\na x 2 50\na x 3 40\na y 1 5\n"
                                  "b x 1 7\nb x 2 7\n"));
    CHECK_EQ_INT(data.n_ratings, 3);
    CHECK_EQ_INT(data.n_duplicates, 3);
    check_rating(&data, "a", "x", 2, 50);
    check_rating(&data, "b", "x", 2, 7); /* equal times: the last of the file */
    r2_data_free(&ctx, &data);
}

/* ---- what is refused ---- */

TEST(wrong_input_is_an_error_with_its_line) {
    static const struct {
        const char *text, *message;
    } wrong[] = {
        {"", "found nothing"},
        {"\n\n\r\n", "found nothing"},
        {"user,item,rating,time\n", "found none"},
        {"a\n", ":1: expected at least two columns"},
        {"a,b,c,d\n1,2,3,4\n", ":1: expected names of the user and item columns"},
        {"1 2 3 4\n1 2 3\n", ":2: expected 4 fields as before, not 3"},
        {"1 2 3 4\n1 2 3 4 5\n", ":2: expected 4 fields as before, not 5"},
        {"1 2 3 4\n5 6 good 4\n", ":2: expected a rating from -1e6 to 1e6, found \"good\""},
        {"1,2,3,4\n5,6,,4\n", ":2: expected a rating from -1e6 to 1e6, found \"\""},
        {"1,2,3,4\n5,6,nan,4\n", ":2: expected a rating from -1e6 to 1e6, found \"nan\""},
        {"1,2,3,4\n5,6,1e999,4\n", ":2: expected a rating"},
        {"1,2,3,4\n5,6,3,4x\n", ":2: expected a Unix time or a date, found \"4x\""},
        {"1,2,3,4\n,6,3,4\n", ":2: expected a user"},
        {"1,2,3,4\n5,,3,4\n", ":2: expected an item"},
        {"1,2,3,4\n5,\"6,3,4\n", ":2: expected closed quotes"},
        {"1,2,3,4\n5,\"6\"7,3,4\n", ":2: expected closed quotes"},
        /* the line as the file has it */
        {"1,2,3,4\n\"a \"\"b\"\"\",\"6,3,4\n",
         "<= 64 fields, found \"\"a \"\"b\"\"\",\"6,3,4\""},
        {"1,2,3,4\n\"\"\"b\"\"\",6,3\n", "as before, not 3, found \"\"\"\"b\"\"\",6,3\""},
        {"1,2,3,4\n5,6,\x1B[31m\xC2\x9B\tx\x7F,4\n", "to 1e6, found \"?[31m??\tx?\""},
        {"1,2,3,4\n ,6,3,4\n", ":2: expected a user"},
        {"John Smith 2 3 4\n", ":1: expected user item rating time, for ids with blanks"},
        {"1 2 3 0\n1 3 3 4000000000\n", ":2: expected a time within 68 years"},
        {"1 2 3 0\n1 3 3 2000000000\n1 4 3 -2000000000\n", "expected times within 68 years"},
        {"{\"user_id\": \"1\", \"asin\": \"2\"}\n{\"user_id\": \"1\"}\n",
         ":2: expected the key \"asin\""},
        {"{\"user_id\": \"1\", \"asin\": \"2\"}\n[1]\n", ":2: expected a JSON object"},
        {"{\"user_id\": \"1\", \"asin\": \"2\"}\n{\"user_id\"\n", ":2: expected a JSON object"},
        {"{\"user_id\": \"1\", \"asin\": \"2\"}{\"user_id\": \"1\", \"asin\": \"3\"}\n",
         ":1: expected a JSON object"},
        {"{\"user_id\": \"1\", \"asin\": \"2\"}\n{\"user_id\": \"1\", \"asin\": \"3\"} x\n",
         ":2: expected a JSON object"},
        {"{\"user_id\": 9007199254740993, \"asin\": \"2\"}\n", ":1: expected an id as text"},
        {"{\"user_id\": \"1\", \"user_id\": \"2\", \"asin\": \"2\"}\n",
         ":1: expected each key once"},
        {"{\"who\": \"1\", \"asin\": \"2\"}\n", ":1: expected keys that name user and item"},
        {"{\"user_id\": \"1\", \"asin\": \"2\\u00003\"}\n", ":1: expected text without NUL"},
        {"{\"user_id\": [1], \"asin\": \"2\"}\n", ":1: expected text or a number"},
        {"uid,sid\n0,12\n", ":1: expected names of the user and item columns"},
        {"one,two\nann,tea\n", ":1: expected names of the user and item columns"},
        {"userId,thing,rating\n1,2,3\n", ":1: expected names of the user and item columns"},
        {"userId,movieId,thumbs\n1,2,3\n", ":1: expected a column named rating"},
        {"user,item,rating,Rating\n1,2,3,4\n", ":1: expected every column name once"},
        {"1,2,3,4,5\n", ":1: expected names of the user and item columns"},
        {"1,2,2011-03-04\n", ":1: expected names of the user and item columns"},
        {"1,2,3,2011-02-30\n", ":1: expected names of the user and item columns"},
        {"1,2,3,4\n1,3,3,2011-02-30\n", ":2: expected a Unix time or a date, found \"2011-02-30\""},
        {"1,2,3,4\n1,3,3,2011-02-03T24:00\n", ":2: expected a Unix time or a date"},
        {"1,2,3,4\n1,3,3,2011-02-03T10:00+0x\n", ":2: expected a Unix time or a date"},
        {"1 2 3 4\n1\t3\t3\t4\n", ":2: expected the separator of the first line, a blank, not a tab"},
        {"\x1F\x8B\b", ": expected lines of UTF-8 text, found gzip"},
        {"PK\3\4", ": expected lines of UTF-8 text, found a zip archive"},
        {"[{\"user_id\": 1}]", ": expected lines of UTF-8 text, found one JSON array"},
        {"[\n{\"user_id\": 1}]", ": expected lines of UTF-8 text, found one JSON array"},
        {"user,item,rating\ra,x,3\rb,x,4\r", ": expected lines of UTF-8 text, found lines that end"},
        {"{\"user_id\": 1, \"asin\": 2}\n{\"user_id\": 1, \"asin\": 2, \"stars\": 4}\n",
         ":1: expected the key \"stars\" as in line 2"},
        {"{\"user_id\": 1, \"asin\": 2, \"x\": }\n", ":1: expected a JSON object"},
        {"{\"user_id\": 1, \"asin\": 2, \"x\": [}\n", ":1: expected a JSON object"},
        {"{\"user_id\": 1, \"asin\": 2, \"rating\": NaN}\n",
         ":1: expected JSON at the key \"rating\", found \"NaN\""},
    };
    r2_ctx ctx = r2_ctx_default();
    for (size_t k = 0; k < sizeof wrong / sizeof *wrong; ++k) {
        r2_data data;
        if (!CHECK_STATUS(&ctx, ratings_load(&ctx, &data, wrong[k].text), R2_FORMAT)) continue;
        if (!CHECK(strstr(ctx.message, wrong[k].message) != NULL)) printf("    %s\n", ctx.message);
        CHECK(data.n_users == 0 && data.item == NULL); /* nothing half-built */
    }
}

/* Seconds by hand: 15 January 2009 is day 14259, and 14259 x 86400 + 8.5 x 3600 = 1232008200. */
TEST(dates_are_times) {
    static const struct {
        const char *text;
        int64_t time;
    } dates[] = {{"2009-01-15 08:30:00", 1232008200},
                 {"2009-01-15T10:30+02:00", 1232008200},
                 {" 2009-01-15T00:30:00-0800 ", 1232008200},
                 {"2009-01-15 08:30:00.999 UTC", 1232008200},
                 {"2009-01-15T08:30:00Z", 1232008200},
                 {"2009-01-15", 1231977600},
                 {"1970-01-01", 0},
                 {"2000-02-29", 951782400},
                 {"1969-12-31T23:59:59", -1}};
    for (size_t k = 0; k < sizeof dates / sizeof *dates; ++k) {
        r2_ctx ctx = r2_ctx_default();
        r2_data data;
        char line[64];
        snprintf(line, sizeof line, "u,i,1,%s\n", dates[k].text);
        if (!CHECK_STATUS(&ctx, ratings_load(&ctx, &data, line), R2_OK)) continue;
        check_rating(&data, "u", "i", 1, dates[k].time);
        r2_data_free(&ctx, &data);
    }
}

/* What is nearly a date is none, and the load says so with its line. */
TEST(dates_that_cannot_be) {
    static const char *const times[] = {
        "2009-13-15", "2009-00-15", "2009-01-32", "2009-02-29", "2009-1-15", "2009-01-5", "2009/01/15", "2009-01",
        "2009-01-15T", "2009-01-15T8:30", "2009-01-15T24:00", "2009-01-15T08", "2009-01-15T08:60",
        "2009-01-15T08-30", "2009-01-15T08:30:60", "2009-01-15T08:30:", "2009-01-15T08:30:00+", "2009-01-15T08:30:00+2",
        "2009-01-15T08:30:00+25:00", "2009-01-15T08:30:00+02:60", "2009-01-15T08:30:00X",
        "2009-01-15 08:30:00 CET", "2009-01-15T08:30:00.x", "2009-01-15x", "1e", "1e+", "0x10", "1..2", "."};
    for (size_t k = 0; k < sizeof times / sizeof *times; ++k) {
        r2_ctx ctx = r2_ctx_default();
        r2_data data;
        char line[96];
        snprintf(line, sizeof line, "user,item,rating,time\nu,i,1,5\nu,j,1,%s\n", times[k]);
        if (!CHECK_STATUS(&ctx, ratings_load(&ctx, &data, line), R2_FORMAT)) printf("  %s\n", times[k]);
        CHECK(strstr(ctx.message, ":3: ") != NULL);
        r2_data_free(&ctx, &data);
    }
}

/* A line of more columns than any table of ratings has. */
TEST(a_thousand_columns) {
    r2_ctx ctx = r2_ctx_default();
    char line[2100];
    r2_data data;
    for (int k = 0; k < 1000; ++k) memcpy(line + 2 * k, "1,", 2);
    memcpy(line + 2000, "1\n", 3);
    CHECK_STATUS(&ctx, ratings_load(&ctx, &data, line), R2_FORMAT);
    CHECK(strstr(ctx.message, ":1: ") != NULL);
}

/* Two bytes a letter, either end first, with and without a mark. */
TEST(utf16_is_named) {
    static const char *const text[] = {"u\0,\0i\0\n\0", "\0u\0,\0i\0\n", "\xFF\xFEu\0,\0i\0", "\xFE\xFF\0u\0,\0i"};
    for (size_t k = 0; k < sizeof text / sizeof *text; ++k) {
        r2_ctx ctx = r2_ctx_default();
        r2_data data;
        CHECK_STATUS(&ctx, ratings_load_bytes(&ctx, &data, text[k], 8), R2_FORMAT);
        CHECK(strstr(ctx.message, "UTF-16") != NULL);
    }
}

/* The caller's words for columns: nothing is guessed beside them. */
TEST(columns_that_are_given) {
    static const struct {
        const char *text, *user, *item, *rating, *time, *message; /* NULL: read */
        double rated;
    } cases[] = {
        {"u,view,i\n", "1", "3", "-", "-", NULL, 1},
        {"u,view,i\n", "1", "3", NULL, NULL, "the column of the rating", 0},
        {"i,u,4,9\n", "2", "1", NULL, NULL, NULL, 4},
        {"u,i,4,x,7\n", "1", "2", "3", NULL, "the column of the time", 0},
        {"u,i,4,x,7\n", "1", "2", "5", "-", NULL, 7},
        {"u,i,4\n", "1", "1", "3", "-", "different columns for user and item, not 1", 0},
        {"userId,movieId,rating\nu,i,4\n", NULL, NULL, "-", NULL, NULL, 1},
        {"userId,movieId,thumbs\nu,i,4\n", NULL, NULL, "3", NULL, NULL, 4},
        {"user,item,rating\nu,i,4\n", "1", "2", NULL, NULL, NULL, 4},
        {"one,two,3\n1,2,3\n", "1", "2", NULL, NULL, ":1: expected ids as in line 2", 0},
        {"{\"user_id\":\"u\",\"asin\":\"i\",\"rating\":4}\n", NULL, NULL, "-", NULL, NULL, 1}};
    static const char *const path = "build/test_data_given.tmp";
    for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
        r2_ctx ctx = r2_ctx_default();
        r2_format format;
        r2_data data;
        memset(&format, 0, sizeof format);
        format.user = cases[k].user;
        format.item = cases[k].item;
        format.rating = cases[k].rating;
        format.time = cases[k].time;
        REQUIRE(ratings_write_text(path, cases[k].text));
        if (!CHECK_STATUS(&ctx, r2_data_load_files(&ctx, &data, &path, 1, &format),
                          cases[k].message ? R2_FORMAT : R2_OK))
            continue;
        if (cases[k].message) {
            if (!CHECK(strstr(ctx.message, cases[k].message))) printf("    %s\n", ctx.message);
            continue;
        }
        CHECK_EQ_STR(data.user_key[0], "u");
        CHECK_EQ_STR(data.item_key[0], "i");
        CHECK_NEAR(data.rating[0], cases[k].rated, 0);
        r2_data_free(&ctx, &data);
    }
    remove(path);
}

/* Blanks in a row, quotes after a backslash, values that JSON does not allow, keys with escapes. */
TEST(lines_as_others_write_them) {
    static const struct {
        const char *text, *user, *item;
    } cases[] = {{"  ann  tea   5 \n\n   \n", "ann", "tea"},
                 {"user;item\n\"ann\";\"say \\\"tea\\\" twice\"\n", "ann", "say \"tea\" twice"},
                 {"user,item\nann,\"C:\\\"\n", "ann", "C:\\"}, /* a field that ends in one */
                 {"{\"user_\\u0069d\": \"ann\", \"x\": {\"y\": [NaN, \"}\\\"\\u0000\\ud800\"]}, "
                  "\"asin\": \"tea\", \"rating\": 5}\n",
                  "ann", "tea"}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
        r2_ctx ctx = r2_ctx_default();
        r2_data data;
        if (!CHECK_STATUS(&ctx, ratings_load(&ctx, &data, cases[k].text), R2_OK)) continue;
        CHECK_EQ_INT(data.n_ratings, 1);
        CHECK_EQ_STR(data.user_key[0], cases[k].user);
        CHECK_EQ_STR(data.item_key[0], cases[k].item);
        r2_data_free(&ctx, &data);
    }
}

/* What a file of items may be like: genres as lists, a year before another bracket, keys that the
   first record lacks, the ratings' own name of the id. */
TEST(items_as_others_write_them) {
    static const char *const ratings = "build/test_data_kinds.tmp",
                             *items = "build/test_kinds.tmp";
    static const struct {
        const char *text, *genres;
        int year;
    } cases[] = {
        {"isbn,book_id,title,genre\n2,1,A (1995) (cut),\" Drama, Sci-Fi,\"\n1,2,B,War\n",
         "Drama|Sci-Fi", 1995},
        {"book_id\ttitle\tgenre:token_seq\n1\tA (7) (1995-96)\tDrama Sci-Fi\n", "Drama|Sci-Fi", 1995},
        {"book_id\ttitle\tgenre:token_seq\n1\tA (19956)\tFilm Noir|War\n", "Film Noir|War", 0},
        {"{\"book_id\": 2}\n{\"book_id\": 1, \"genres\": [\"Slice, of Life\"], \"year\": 1990}\n",
         "Slice, of Life", 1990}};
    REQUIRE(ratings_write_text(ratings, "user_id,book_id,rating\nann,1,5\n"));
    for (size_t k = 0; k < sizeof cases / sizeof *cases; ++k) {
        r2_ctx ctx = r2_ctx_default();
        r2_format format;
        r2_data data;
        memset(&format, 0, sizeof format);
        format.items = items;
        REQUIRE(ratings_write_text(items, cases[k].text));
        if (!CHECK_STATUS(&ctx, r2_data_load_files(&ctx, &data, &ratings, 1, &format), R2_OK))
            continue;
        CHECK_EQ_STR(data.genres[0], cases[k].genres);
        CHECK_EQ_INT(data.year[0], cases[k].year);
        r2_data_free(&ctx, &data);
    }
    remove(ratings);
    remove(items);
}

/* Ids that a line could not hold as they are, and cases that are none. */
TEST(candidate_files_quote_and_check) {
    static const char *const path = "build/test_data_sets_quoted.tmp";
    static const char *const wrong[][2] = {{"ann\t\"t\tea\"\t\"t\tea\"\n", "every item once in a case"},
                                           {"ann\t\"t\tea\"\tmilk\n", "a negative, which the user"},
                                           {"ann\t\"t\tea\n", "closed quotes"},
                                           {"ann\tmilk\nann\tmilk\t\"\"\"rum\"\"\"\n", "as many items as before"}};
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_candidates cases, again;
    r2_target target = {0, 0, 0};
    r2_negatives negatives;
    memset(&negatives, 0, sizeof negatives);
    negatives.n = 1;
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "user,item,rating\nann,\"t\tea\",5\nann,milk,4\nbob,\"\"\"rum\"\"\",3\n"));
    REQUIRE_OK(&ctx, r2_candidates_init(&ctx, &cases, &data, &target, 1, &negatives));
    REQUIRE_OK(&ctx, r2_candidates_save(&ctx, &cases, &data, path));
    REQUIRE_OK(&ctx, r2_candidates_load(&ctx, &again, &data, path));
    CHECK(again.n_per_case == 2 && again.item[0] == 0 && again.item[1] == 2);
    r2_candidates_free(&ctx, &cases);
    r2_candidates_free(&ctx, &again);
    for (int k = 0; k < 4; ++k) {
        REQUIRE(ratings_write_text(path, wrong[k][0]));
        CHECK_STATUS(&ctx, r2_candidates_load(&ctx, &again, &data, path), R2_FORMAT);
        CHECK(strstr(ctx.message, wrong[k][1]) != NULL);
    }
    r2_data_free(&ctx, &data);
    remove(path);
}

TEST(a_path_that_is_not_there) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    CHECK_STATUS(&ctx, r2_data_load(&ctx, &data, "build/no/such/file"), R2_IO);
    CHECK_STATUS(&ctx, r2_data_load(&ctx, &data, "tests"), R2_IO); /* a directory of other things */
    CHECK(strstr(ctx.message, "ratings.csv") != NULL);
}

TEST(nul_bytes_and_endless_lines) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    const size_t size = 100u << 20;
    char *line;
    CHECK_STATUS(&ctx, ratings_load_bytes(&ctx, &data, "1 2 3 4\n1 \0 3 4\n", 16), R2_FORMAT);
    CHECK(strstr(ctx.message, ":2: expected text, found \"a NUL byte\"") != NULL);
    line = (char *)malloc(size);
    REQUIRE(line != NULL);
    memset(line, 'x', size);
    memcpy(line, "1 2 3 4\n", 8);
    CHECK_STATUS(&ctx, ratings_load_bytes(&ctx, &data, line, size), R2_FORMAT);
    CHECK(strstr(ctx.message, ":2: expected a line, found more than") != NULL);
    free(line);
}

/* Bytes changed, taken out, put in at random: an error or data that hang together, never a
   crash. */
TEST(damaged_files_are_refused_or_read) {
    static const char junk[] = "\n\r,;|\t:\"{}[]\\-.e09 \xFF\xC3";
    r2_ctx ctx = r2_ctx_default();
    for (int round = 0; round < 1500; ++round) {
        r2_rng rng = r2_rng_make(2, R2_STREAM_USER, (uint64_t)round);
        char text[1024];
        size_t len = strlen(formats[round % 8]);
        r2_data data;
        r2_status status;
        memcpy(text, formats[round % 8], len);
        for (int n = 1 + (int)r2_rng_below(&rng, 4); n > 0; --n) {
            size_t at = r2_rng_below(&rng, len);
            char byte = junk[r2_rng_below(&rng, sizeof junk)];
            switch (r2_rng_below(&rng, 3)) {
            case 0: text[at] = byte; break;
            case 1: memmove(text + at, text + at + 1, --len - at); break;
            default: memmove(text + at + 1, text + at, len++ - at); text[at] = byte;
            }
        }
        status = ratings_load_bytes(&ctx, &data, text, len);
        if (!CHECK(status == R2_OK || status == R2_FORMAT)) break;
        if (status) continue;
        CHECK_EQ_INT(data.user_begin[data.n_users], data.n_ratings);
        for (int64_t k = 0; k < data.n_ratings; ++k) CHECK(data.item[k] < data.n_items);
        r2_data_free(&ctx, &data);
    }
}

TEST(text_is_utf8_or_latin1) {
    static const char *const texts[][2] = {
        {"caf\xC3\xA9", "caf\xC3\xA9"},               /* UTF-8 stays                    */
        {"caf\xE9", "caf\xC3\xA9"},                   /* latin-1                        */
        {"\xF0\x9F\x8E\xAC", "\xF0\x9F\x8E\xAC"},     /* four bytes                     */
        {"\xC0\xAF", "\xC3\x80\xC2\xAF"},             /* overlong, so not UTF-8         */
        {"\xED\xA0\x80", "\xC3\xAD\xC2\xA0\xC2\x80"}, /* a surrogate             */
        {"a\xC3", "a\xC3\x83"},                       /* cut off                        */
    };
    r2_ctx ctx = r2_ctx_default();
    for (size_t k = 0; k < sizeof texts / sizeof *texts; ++k) {
        char line[64];
        r2_data data;
        snprintf(line, sizeof line, "%s,x,1,0\n", texts[k][0]);
        REQUIRE_OK(&ctx, ratings_load(&ctx, &data, line));
        CHECK_EQ_STR(data.user_key[0], texts[k][1]);
        r2_data_free(&ctx, &data);
    }
}

/* An id may be longer than any room that is kept for short ones: in ratings, titles, candidates. */
TEST(long_ids_are_ids) {
    static const char *const path = "build/test_long_ids.tmp";
    char a[201], b[201], text[2000];
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_candidates cases;
    memset(a, 'a', 200), memset(b, 'a', 200);
    a[200] = b[200] = '\0', b[199] = 'b'; /* differ in the last byte alone */
    snprintf(text, sizeof text, "user,item,rating\n%s,%s,4\n%s,%s,3\n", a, a, b, b);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, text));
    CHECK_EQ_INT(data.n_users, 2);
    CHECK_EQ_INT(data.n_items, 2);
    check_rating(&data, b, b, 3, 0);
    snprintf(text, sizeof text, "%s\t%s\t%s\n", a, a, b);
    REQUIRE(ratings_write_text(path, text));
    REQUIRE_OK(&ctx, r2_candidates_load(&ctx, &cases, &data, path));
    CHECK_EQ_INT(cases.item[1], r2_data_item(&data, b));
    r2_candidates_free(&ctx, &cases);
    remove(path);
    r2_data_free(&ctx, &data);
}

/* NAME.inter alone, outside a folder of its name, has its titles in NAME.item. */
TEST(titles_beside_an_inter_file) {
    static const char *const ratings = "build/test_beside.inter", *const items = "build/test_beside.item";
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    REQUIRE(ratings_write_text(ratings, "user_id:token\titem_id:token\trating:float\n1\tx\t4\n"));
    REQUIRE(ratings_write_text(items, "item_id:token\ttitle:token_seq\nx\tTin Lamp\n"));
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, ratings));
    CHECK_EQ_STR(data.title[0], "Tin Lamp");
    r2_data_free(&ctx, &data);
    REQUIRE(ratings_write_text(items, "useless\n"));
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, ratings)); /* titles do not cost the ratings */
    CHECK(data.items_error && !strncmp(data.items_error, items, strlen(items)));
    r2_data_free(&ctx, &data);
    remove(ratings);
    remove(items);
}

/* An id is one user or item, however a file spells it: as latin-1, as UTF-8, in JSON. */
TEST(latin1_ids_are_one_name) {
    static const char *const ratings = "build/test_data_latin1.tmp",
                             *items = "build/test_data_latin1_items.tmp",
                             *test = "build/test_data_latin1_test.tmp";
    r2_ctx ctx = r2_ctx_default();
    r2_format format;
    r2_data data;
    r2_split split;
    r2_candidates cases;
    memset(&format, 0, sizeof format);
    format.items = items;
    REQUIRE(ratings_write_text(ratings, "user,item,rating,time\nRen\xE9,caf\xE9,5,1\nBo,tea,4,2\n"
                                        "Ren\xE9,tea,3,3\nRen\xC3\xA9,milk,2,4\n"
                                        "Bo,caf\xC3\xA9,1,5\nBo,caf\xE9,4,6\n"));
    REQUIRE(ratings_write_text(items, "id,title\ncaf\xE9,Caf\xE9 noir\ntea,The\xC3\xA9\n"));
    REQUIRE_OK(&ctx, r2_data_load_files(&ctx, &data, &ratings, 1, &format));
    CHECK_EQ_INT(data.n_users, 2);
    CHECK_EQ_INT(data.n_items, 3);
    CHECK_EQ_INT(data.n_duplicates, 1);
    CHECK_EQ_INT(data.n_unrated, 0);
    check_rating(&data, "Ren\xC3\xA9", "caf\xC3\xA9", 5, 1);
    check_rating(&data, "Ren\xC3\xA9", "milk", 2, 4);
    check_rating(&data, "Bo", "caf\xC3\xA9", 4, 6);
    CHECK_EQ_STR(data.title[0], "Caf\xC3\xA9 noir");
    CHECK_EQ_STR(data.title[1], "The\xC3\xA9");
    REQUIRE(ratings_write_text(test, "user,item\nRen\xE9,caf\xE9\n"));
    REQUIRE_OK(&ctx, r2_split_given(&ctx, &split, &data, NULL, NULL, test, NULL));
    CHECK_EQ_INT(split.n_test, 1);
    r2_split_free(&ctx, &split);
    REQUIRE(ratings_write_text(test, "Ren\xE9\tcaf\xE9\n"));
    REQUIRE_OK(&ctx, r2_candidates_load(&ctx, &cases, &data, test));
    CHECK_EQ_INT(cases.item[0], 0);
    r2_candidates_free(&ctx, &cases);
    r2_data_free(&ctx, &data);
    remove(ratings);
    remove(items);
    remove(test);
}

TEST(extreme_ids_and_times) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data,
                                  "9223372036854775807 -9223372036854775808 3 -5\n"
                                  "9223372036854775806 18446744073709551616 4 -86400\n"
                                  "9223372036854775807 9223372036854775807 5 7\n"));
    CHECK_EQ_INT(data.n_users, 2);
    CHECK_EQ_INT(data.n_items, 3);
    check_rating(&data, "9223372036854775807", "-9223372036854775808", 3, -5);
    check_rating(&data, "9223372036854775806", "18446744073709551616", 4, -86400);
    r2_data_free(&ctx, &data);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "only one 5 1"));
    CHECK_EQ_INT(data.n_users, 1);
    CHECK_EQ_INT(data.n_items, 1);
    CHECK_EQ_INT(data.user_begin[1], 1);
    r2_data_free(&ctx, &data);
}

TEST(numbers_are_what_strtod_reads) {
    r2_rng rng = r2_rng_make(1, R2_STREAM_USER, 0);
    for (int k = 0; k < 20000; ++k) {
        char text[64];
        double got = -1.0, want;
        int digits = 1 + (int)r2_rng_below(&rng, 15);
        double number = (r2_rng_double(&rng) - 0.5) * pow(10.0, (double)r2_rng_below(&rng, 12));
        snprintf(text, sizeof text, k % 2 ? "%.*g" : "%.*e", digits - 1, number);
        want = strtod(text, NULL);
        if (!CHECK(r2__number(r2__slice_of(text, strlen(text)), &got))) return;
        if (!CHECK_NEAR(got, want, 4e-16)) return;
    }
}

TEST(printed_numbers_have_a_point) {
    static const char *const texts[][2] = {
        {"3,5", "3.5"},   {"-1,25e-07", "-1.25e-07"}, {"3\xD9\xAB" "5", "3.5"},
        {"3.5", "3.5"},   {"1e+20", "1e+20"},         {"-inf", "-inf"},
        {"12", "12"}};
    r2_ctx ctx = r2_ctx_default();
    r2_rng rng = r2_rng_make(3, R2_STREAM_USER, 0);
    r2_text text = {NULL, 0, 0, false};
    for (size_t k = 0; k < sizeof texts / sizeof *texts; ++k) {
        char number[32];
        snprintf(number, sizeof number, "%s", texts[k][0]);
        CHECK_EQ_INT(r2__with_point(number), strlen(texts[k][1]));
        CHECK_EQ_STR(number, texts[k][1]);
    }
    for (int k = 0; k < 20000; ++k) { /* in the C locale nothing but what printf writes */
        const int digits = 1 + k % 17;
        const double x = (r2_rng_double(&rng) - 0.5) * pow(10.0, (double)(k % 600 - 300));
        char number[64];
        snprintf(number, sizeof number, "%.*g", digits, x);
        r2_text_clear(&text);
        r2__text_number(&ctx, &text, x, digits);
        if (!CHECK_EQ_STR(text.data, number)) break;
    }
    r2_text_free(&ctx, &text);
}

TEST(formats_say_the_same_under_a_decimal_comma) {
    r2_ctx ctx = r2_ctx_default();
    if (!test_comma(1)) SKIP("no locale with a decimal comma is installed");
    for (size_t k = 0; k < sizeof formats / sizeof *formats; ++k) {
        r2_data data;
        if (!CHECK_STATUS(&ctx, ratings_load(&ctx, &data, formats[k]), R2_OK)) continue;
        check_four(&data);
        r2_data_free(&ctx, &data);
    }
    test_comma(0);
}

TEST(every_failed_allocation_is_reported_and_nothing_leaks) {
    r2_ctx ctx = r2_ctx_default();
    ratings_memory memory = {0, 0};
    const char *path = "build/test_data_memory.tmp", *sets = "build/test_data_sets.tmp",
               *items = "build/test_data_memory_items.tmp";
    r2_text text = {NULL, 0, 0, false};
    int64_t n_allocations = 0;
    r2_format format;
    memset(&format, 0, sizeof format);
    format.items = items;
    REQUIRE(ratings_write_text(items, "movieId,title,genres\n10,Caf\xE9,\"Drama, War\"\n"));
    r2_text_addf(&ctx, &text, "%s\xE9,10,1,1000000003\n", formats[0]); /* latin-1 */
    REQUIRE(!text.failed && ratings_write_text(path, text.data));
    r2_text_free(&ctx, &text);
    ctx.realloc_fn = ratings_realloc;
    ctx.hook_data = &memory;
    for (bool done = false; !done; ++n_allocations) {
        r2_data data;
        r2_split split;
        r2_candidates cases;
        r2_negatives common;
        r2_filter filter;
        r2_status status;
        memset(&filter, 0, sizeof filter);
        memset(&split, 0, sizeof split);
        memset(&cases, 0, sizeof cases);
        memset(&common, 0, sizeof common);
        common.n = 1;
        common.warm = &split;
        memory.left = n_allocations;
        status = r2_data_load_files(&ctx, &data, &path, 1, &format);
        if (!status) status = r2_data_filter(&ctx, &data, &filter);
        if (!status) status = r2_data_grade(&ctx, &data);
        if (!status) status = r2_split_init(&ctx, &split, &data, NULL);
        if (!status)
            status = r2_candidates_init(&ctx, &cases, &data, split.test, split.n_test, &common);
        if (!status) status = r2_candidates_save(&ctx, &cases, &data, sets);
        r2_candidates_free(&ctx, &cases);
        if (!status) status = r2_candidates_load(&ctx, &cases, &data, sets);
        r2_candidates_free(&ctx, &cases);
        r2_split_free(&ctx, &split);
        if (!status) status = r2_split_given(&ctx, &split, &data, NULL, NULL, path, NULL);
        if (!status) r2_split_free(&ctx, &split);
        r2_data_free(&ctx, &data);
        CHECK(status == R2_OK || status == R2_NO_MEMORY);
        CHECK_EQ_INT(memory.alive, 0);
        done = status == R2_OK;
        REQUIRE(n_allocations < 200);
    }
    CHECK(n_allocations > 20);
    remove(path);
    remove(items);
    remove(sets);
}

/* Not counting the 1 MB of line buffer that the library has at the peak. */
TEST(memory_of_an_interaction) {
    static const char *const path = "build/test_data_bytes.tmp";
    FILE *file = fopen(path, "wb");
    r2_ctx ctx = r2_ctx_default();
    ratings_bytes b = {0, 0};
    r2_data data;
    r2_graph graph;
    double n;
    ctx.realloc_fn = ratings_counted;
    ctx.hook_data = &b;
    REQUIRE(file != NULL);
    for (int u = 0; u < 700; ++u)
        for (int i = 0; i < 500; ++i) fprintf(file, "%d %d %d %d\n", u, i * 7, i % 5 + 1, i * u);
    fclose(file);
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, path));
    remove(path);
    n = (double)data.n_ratings;
    CHECK_EQ_INT(data.n_ratings, 350000);
    CHECK_EQ_INT(sizeof(r2__row), 16); /* the opening of [E2] */
    CHECK(((double)b.peak - (1 << 20)) / n <= 40.0);
    REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, NULL));
    CHECK((double)b.now / n <= 24.0);
    r2_graph_free(&ctx, &graph);
    r2_data_free(&ctx, &data);
    CHECK_EQ_INT(b.now, 0);
}

/* ---- filters and report ---- */

TEST(the_core_is_the_largest_that_satisfies_itself) {
    r2_ctx ctx = r2_ctx_default();
    for (uint64_t seed = 0; seed < 10; ++seed) {
        r2_data all, core;
        r2_filter filter;
        uint8_t in[60 * 40];
        int64_t n_in = 0;
        bool again = true;
        REQUIRE_OK(&ctx, ratings_random(&ctx, &all, 60, 40, 0.12, seed));
        REQUIRE_OK(&ctx, ratings_random(&ctx, &core, 60, 40, 0.12, seed));
        memset(&filter, 0, sizeof filter);
        filter.user_core = 5;
        filter.item_core = 4;
        REQUIRE_OK(&ctx, r2_data_filter(&ctx, &core, &filter));
        /* from the definition: take away whole users and items until nothing changes */
        memset(in, 1, sizeof in);
        while (again) {
            int users[60] = {0}, items[40] = {0};
            again = false;
            for (int64_t u = 0; u < all.n_users; ++u)
                for (int64_t k = all.user_begin[u]; k < all.user_begin[u + 1]; ++k)
                    users[u] += in[k], items[all.item[k]] += in[k];
            for (int64_t u = 0; u < all.n_users; ++u)
                for (int64_t k = all.user_begin[u]; k < all.user_begin[u + 1]; ++k)
                    if (in[k] && (users[u] < 5 || items[all.item[k]] < 4)) in[k] = 0, again = true;
        }
        for (int64_t u = 0; u < all.n_users; ++u)
            for (int64_t k = all.user_begin[u]; k < all.user_begin[u + 1]; ++k) {
                if (!in[k]) continue;
                ++n_in;
                check_rating(&core, all.user_key[u], all.item_key[all.item[k]], all.rating[k],
                             all.time_zero + all.time[k]);
            }
        CHECK_EQ_INT(core.n_ratings, n_in);
        CHECK_EQ_INT(core.n_dropped_core, all.n_ratings - n_in);
        for (int64_t u = 0; u < core.n_users; ++u)
            CHECK(core.user_begin[u + 1] - core.user_begin[u] >= 5);
        r2_data_free(&ctx, &all);
        r2_data_free(&ctx, &core);
    }
}

TEST(filters_by_rating_and_time_and_the_report) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_filter filter;
    r2_text text = {NULL, 0, 0, false};
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data,
                                  "a x 1 951782400\nb x 2 951868799\nb y 5 951868800\n"
                                  "c y 4 951868801\nc z 3 1000000000\nc z 3.5 1\n"));
    memset(&filter, 0, sizeof filter);
    filter.min_rating = 2;
    filter.time_until = 1000000000;
    REQUIRE_OK(&ctx, r2_data_filter(&ctx, &data, &filter));
    CHECK_EQ_INT(data.n_ratings, 3);
    CHECK_EQ_INT(data.n_users, 2);
    CHECK_EQ_INT(data.n_items, 2);
    check_rating(&data, "b", "x", 2, 951868799);
    REQUIRE_OK(&ctx, r2_data_report(&ctx, &data, &text));
    CHECK(strstr(text.data, "users 2\nitems 2\ninteractions 3\ndensity 75 %\n") != NULL);
    CHECK(strstr(text.data, "rating 5             1  33.3 %") != NULL);
    CHECK(strstr(text.data, "from 2000-02-29 to 2000-03-01\n") != NULL);
    CHECK(strstr(text.data, "duplicates 1, low ratings 1, outside the time window 1, not in") !=
          NULL);
    r2_text_free(&ctx, &text);
    r2_data_free(&ctx, &data);
}

/* Somebody who sees that a column is not read gives its name. */
TEST(columns_that_are_not_read_are_named) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_text text = {NULL, 0, 0, false};
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "user,mood,item,rating,weather\na,good,x,4,rain\n"
                                               "b,bad,y,5,sun\n"));
    CHECK(data.unused && strcmp(data.unused, "mood, weather") == 0);
    REQUIRE_OK(&ctx, r2_data_report(&ctx, &data, &text));
    CHECK(strstr(text.data, "\ncolumns that are not read: mood, weather\n") != NULL);
    r2_text_free(&ctx, &text);
    r2_data_free(&ctx, &data);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "user,item,rating\na,x,4\nb,y,5\n"));
    CHECK(data.unused == NULL);
    r2_data_free(&ctx, &data);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "a x 1 951782400\na y 4 1104537600\n"));
    CHECK(data.unused == NULL);
    r2_data_free(&ctx, &data);
}

/* time_zero is the earliest time of what is left, whatever the filter took away. */
TEST(a_filter_moves_the_beginning_of_time) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_filter filter;
    r2_text text = {NULL, 0, 0, false};
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "a x 1 951782400\na y 4 1104537600\n"
                                               "b x 5 1262304000\n"));
    memset(&filter, 0, sizeof filter);
    filter.min_rating = 2;
    REQUIRE_OK(&ctx, r2_data_filter(&ctx, &data, &filter));
    CHECK_EQ_INT(data.time_zero, 1104537600);
    check_rating(&data, "a", "y", 4, 1104537600);
    check_rating(&data, "b", "x", 5, 1262304000);
    REQUIRE_OK(&ctx, r2_data_report(&ctx, &data, &text));
    CHECK(strstr(text.data, "from 2005-01-01 to 2010-01-01\n") != NULL);
    filter.min_rating = 9;
    REQUIRE_OK(&ctx, r2_data_filter(&ctx, &data, &filter));
    CHECK_EQ_INT(data.n_ratings, 0);
    r2_text_free(&ctx, &text);
    r2_data_free(&ctx, &data);
}

/* 5 x the share of the user's values that are no larger, rounded up. */
static int grade_of(const r2_data *raw, uint32_t user, float value) {
    int64_t n = raw->user_begin[user + 1] - raw->user_begin[user], low = 0;
    for (int64_t k = 0; k < n; ++k) low += raw->rating[raw->user_begin[user] + k] <= value;
    return (int)ceil(5.0 * (double)low / (double)n - 1e-9);
}

TEST(counts_become_grades_and_grades_stay) {
    enum { USERS = 12, EACH = 25 };
    r2_ctx ctx = r2_ctx_default(), poor = ctx;
    ratings_memory memory = {0, 0};
    r2_text text = {NULL, 0, 0, false}, report = {NULL, 0, 0, false};
    r2_data raw, data;
    r2_split split;
    r2_filter filter;
    int64_t n_favourites = 0;
    for (int u = 0; u < USERS; ++u)
        for (int i = 0; i < EACH; ++i) /* from 1 to 11 (many ties), one user to 937,500 */
            r2_text_addf(&ctx, &text, "u%d i%d %d %d\n", u, i,
                         u == 3 ? (i + 1) * (i + 1) * (i + 1) * 60 : 1 + (i * 7 + u) % 11,
                         100 * i + u);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &raw, text.data));
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, text.data));
    memory.left = 0;
    poor.realloc_fn = ratings_realloc;
    poor.hook_data = &memory;
    CHECK_STATUS(&poor, r2_data_grade(&poor, &data), R2_NO_MEMORY);
    CHECK(memcmp(raw.rating, data.rating, sizeof(float) * (size_t)raw.n_ratings) == 0);
    REQUIRE_OK(&ctx, r2_data_grade(&ctx, &data));
    CHECK(data.was_counted);
    CHECK_WITHIN(data.rating_min, 1, 0);
    CHECK_WITHIN(data.rating_max, 5, 0);
    for (uint32_t u = 0; u < USERS; ++u)
        for (int64_t k = raw.user_begin[u]; k < raw.user_begin[u + 1]; ++k) {
            CHECK_WITHIN(data.rating[k], grade_of(&raw, u, raw.rating[k]), 0);
            n_favourites += data.rating[k] >= 4.0f;
        }
    CHECK(n_favourites >= USERS * EACH * 2 / 5 && n_favourites < USERS * EACH * 3 / 5);
    REQUIRE_OK(&ctx, r2_data_report(&ctx, &data, &report));
    CHECK(strstr(report.data, "counts, not grades") != NULL);
    /* with the counts as they are only the one user has favourites */
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &split, &raw, NULL));
    CHECK_EQ_INT(split.n_test, 1);
    r2_split_free(&ctx, &split);
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &split, &data, NULL));
    CHECK_EQ_INT(split.n_test, USERS);
    r2_split_free(&ctx, &split);
    /* graded once, they are grades */
    memcpy(raw.rating, data.rating, sizeof(float) * (size_t)raw.n_ratings);
    REQUIRE_OK(&ctx, r2_data_grade(&ctx, &data));
    CHECK(memcmp(raw.rating, data.rating, sizeof(float) * (size_t)raw.n_ratings) == 0);
    r2_data_free(&ctx, &raw);
    r2_data_free(&ctx, &data);
    r2_text_free(&ctx, &report);
    /* one in a hundred at the top of the scale is enough for grades */
    text.len = 0;
    for (int k = 0; k < 200; ++k)
        r2_text_addf(&ctx, &text, "u%d i%d %s\n", k % 4, k / 4, k < 2 ? "10" : "1");
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, text.data));
    REQUIRE_OK(&ctx, r2_data_grade(&ctx, &data));
    CHECK(!data.was_counted);
    CHECK_WITHIN(data.rating_max, 10, 0);
    r2_data_free(&ctx, &data);
    /* so are negative values, and what is left of grades without a slip of the pen */
    text.len = 0;
    for (int k = 0; k < 200; ++k)
        r2_text_addf(&ctx, &text, "u%d i%d %d\n", k % 4, k / 4, -1 - k % 5);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, text.data));
    REQUIRE_OK(&ctx, r2_data_grade(&ctx, &data));
    CHECK(!data.was_counted);
    r2_data_free(&ctx, &data);
    memset(&filter, 0, sizeof filter);
    filter.user_core = 2;
    text.len = 0;
    for (int k = 0; k < 200; ++k) r2_text_addf(&ctx, &text, "u%d i%d 5\n", k % 4, k / 4);
    r2_text_addf(&ctx, &text, "slip i0 50\n");
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, text.data));
    REQUIRE_OK(&ctx, r2_data_filter(&ctx, &data, &filter));
    CHECK_WITHIN(data.rating_max, 50, 0);
    REQUIRE_OK(&ctx, r2_data_grade(&ctx, &data));
    CHECK(!data.was_counted);
    r2_data_free(&ctx, &data);
    r2_text_free(&ctx, &text);
}

/* The examples in the opening of [E3]. */
TEST(the_opening_of_e3) {
    static const float grade[4] = {2, 4, 4, 5};
    r2_ctx ctx = r2_ctx_default();
    r2_text text = {NULL, 0, 0, false};
    r2_filter filter;
    r2_data data;
    r2_text_addf(&ctx, &text, "u,p,1\nu,q,3\nu,r,3\nu,s,100\n");
    for (int k = 0; k < 200; ++k) r2_text_addf(&ctx, &text, "v%d,p,1\n", k); /* few reach 100 */
    REQUIRE(!text.failed);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, text.data));
    REQUIRE_OK(&ctx, r2_data_grade(&ctx, &data));
    for (int k = 0; k < 4; ++k) CHECK_NEAR(data.rating[k], grade[k], 0);
    r2_data_free(&ctx, &data);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "a x 1 1\na y 1 1\nb x 1 1\nb y 1 1\nb z 1 1\n"));
    memset(&filter, 0, sizeof filter);
    filter.user_core = filter.item_core = 2;
    REQUIRE_OK(&ctx, r2_data_filter(&ctx, &data, &filter));
    CHECK_EQ_INT(data.n_ratings, 4);
    CHECK_EQ_INT(data.n_dropped_core, 1);
    CHECK_EQ_INT(r2_data_item(&data, "z"), -1);
    CHECK_EQ_INT(r2_data_item(&data, "y"), 1);
    r2_data_free(&ctx, &data);
    r2_text_free(&ctx, &text);
}

TEST(a_filter_by_time_leaves_negative_ratings) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_filter filter;
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "a x -9.5 1\nb x 0 2\nb y 9.5 3\n"));
    memset(&filter, 0, sizeof filter);
    filter.time_until = 3;
    REQUIRE_OK(&ctx, r2_data_filter(&ctx, &data, &filter));
    CHECK_EQ_INT(data.n_ratings, 2);
    check_rating(&data, "a", "x", -9.5, 1);
    r2_data_free(&ctx, &data);
}

/* Titles for a directory by way of its path, and the report on those that belong to nothing. */
TEST(titles_of_ones_own_for_a_directory) {
    static const char *const items = "build/test_own_titles.tmp", *const mini = "data/mini";
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_format format;
    r2_text text = {NULL, 0, 0, false};
    memset(&format, 0, sizeof format);
    format.items = "build/no such file";
    CHECK_STATUS(&ctx, r2_data_load_files(&ctx, &data, &mini, 1, &format), R2_IO);
    CHECK(!strncmp(ctx.message, "build/no such file: ", 20));
    format.items = items;
    REQUIRE(ratings_write_text(items, "id,title\nnobody's,One\nneither,Two\n 1029 ,Mine\n"));
    REQUIRE_OK(&ctx, r2_data_load_files(&ctx, &data, &mini, 1, &format));
    remove(items);
    CHECK_EQ_INT(data.n_unrated, 2);
    CHECK_EQ_STR(data.title[r2_data_item(&data, "1029")], "Mine");
    REQUIRE_OK(&ctx, r2_data_report(&ctx, &data, &text));
    CHECK(strstr(text.data, "titles 1, and 2 of items that nobody rated\n") != NULL);
    r2_text_free(&ctx, &text);
    r2_data_free(&ctx, &data);
}

/* The files of a split may have rows that the data left out. */
TEST(rows_that_are_not_rated_are_left_out) {
    static const char *const path = "build/test_not_rated.tmp";
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_split split;
    r2_format format;
    memset(&format, 0, sizeof format);
    format.not_rated = "0";
    REQUIRE(ratings_write_text(path, "user,item,rating\na,x,0\na,y,5\na,z,4\nb,y,0.0\nb,x,3\n"));
    REQUIRE_OK(&ctx, r2_data_load_files(&ctx, &data, &path, 1, &format));
    CHECK_EQ_INT(data.n_ratings, 3);
    CHECK_EQ_INT(data.n_not_rated, 2);
    CHECK_NEAR(data.rating_min, 3, 0);
    REQUIRE(ratings_write_text(path, "user,item,rating\na,x,0\na,z,4\n"));
    REQUIRE_OK(&ctx, r2_split_given(&ctx, &split, &data, NULL, NULL, path, &format));
    CHECK_EQ_INT(split.n_test, 1);
    r2_split_free(&ctx, &split);
    format.not_rated = NULL;
    CHECK_STATUS(&ctx, r2_split_given(&ctx, &split, &data, NULL, NULL, path, &format), R2_FORMAT);
    remove(path);
    r2_data_free(&ctx, &data);
}

TEST(blanks_around_ids_do_not_belong_to_them) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, "user, item, rating\n1, 7, 4\n 2 ,7 ,5\n"));
    CHECK_EQ_INT(data.n_items, 1);
    check_rating(&data, "2", "7", 5, 0);
    r2_data_free(&ctx, &data);
}

/* ---- splits ---- */

TEST(leave_one_out_by_hand) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_split split;
    /* a: train 1, valid 2, (3 between is unused), test 4, after it unused; b: one positive only;
       c: two positives, nothing before them */
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data,
                                  "a i1 5 1\na i2 4 2\na i3 3 3\na i4 5 4\na i5 1 5\n"
                                  "b i1 5 1\nb i2 1 2\nc i1 4 1\nc i2 4 2\n"));
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &split, &data, NULL));
    CHECK_NEAR(split.config.min_positive, 4, 1e-6);
    REQUIRE(split.n_test == 1 && split.n_valid == 1);
    CHECK_EQ_STR(data.item_key[split.test[0].item], "i4");
    CHECK_EQ_STR(data.item_key[split.valid[0].item], "i2");
    CHECK_EQ_INT(split.n_train, 1 + 2 + 2);
    CHECK_EQ_INT(split.role[r2_data_find(&data, 0, 2)], R2_UNUSED);
    CHECK_EQ_INT(split.role[r2_data_find(&data, 0, 4)], R2_UNUSED);
    CHECK_EQ_INT(split.role[split.test[0].row], R2_TEST);
    CHECK_EQ_INT(split.role[split.valid[0].row], R2_VALID);
    CHECK_EQ_INT(split.n_time_ties, 0);
    CHECK_EQ_INT(split.n_train, 5);
    r2_split_free(&ctx, &split);
    r2_data_free(&ctx, &data);
}

/* The example in the opening of [M1]. */
TEST(the_opening_of_m1) {
    static const uint32_t seen[6] = {0, 2, 3, 5, 8, 9};
    static const uint8_t role[6] = {R2_TRAIN, R2_TRAIN, R2_VALID, R2_UNUSED, R2_TEST, R2_UNUSED};
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_split split;
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data,
                                  "ann heat 5 1\nann jaws 2 2\nann alien 4 3\nann big 3 4\n"
                                  "ann tron 5 5\nann cube 1 6\n"));
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &split, &data, NULL));
    CHECK_NEAR(split.config.min_positive, 4, 1e-6);
    CHECK(memcmp(split.role, role, sizeof role) == 0); /* items are numbered as they appear */
    CHECK_EQ_STR(data.item_key[split.test[0].item], "tron");
    CHECK_EQ_STR(data.item_key[split.valid[0].item], "alien");
    CHECK_EQ_INT(r2__unseen_item(seen, 6, 0), 1);
    CHECK_EQ_INT(r2__unseen_item(seen, 6, 1), 4);
    CHECK_EQ_INT(r2__unseen_item(seen, 6, 2), 6);
    CHECK_EQ_INT(r2__unseen_item(seen, 6, 3), 7);
    r2_split_free(&ctx, &split);
    r2_data_free(&ctx, &data);
}

/* The tie rule knows neither the order of the rows nor the numbers, only ids and the seed. */
TEST(ties_do_not_depend_on_the_order_of_rows) {
    r2_ctx ctx = r2_ctx_default();
    r2_text forward = {NULL, 0, 0, false}, backward = {NULL, 0, 0, false};
    r2_data a, b;
    r2_split sa, sb, other;
    r2_split_config config = r2_split_config_default();
    int64_t differ = 0;
    for (int k = 0; k < 400; ++k) {
        int back = 399 - k;
        r2_text_addf(&ctx, &forward, "u%d m%d 5 %d\n", k % 20, k / 20, k / 20 < 10 ? 1 : 2);
        r2_text_addf(&ctx, &backward, "u%d m%d 5 %d\n", back % 20, back / 20,
                     back / 20 < 10 ? 1 : 2);
    }
    REQUIRE_OK(&ctx, ratings_load(&ctx, &a, forward.data));
    REQUIRE_OK(&ctx, ratings_load(&ctx, &b, backward.data));
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &sa, &a, &config));
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &sb, &b, &config));
    config.seed = 2;
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &other, &a, &config));
    CHECK_EQ_INT(sa.n_time_ties, 20);
    REQUIRE(sa.n_test == 20 && sb.n_test == 20 && other.n_test == 20);
    for (int k = 0; k < 20; ++k) {
        const char *user = a.user_key[sa.test[k].user];
        int64_t in_b = r2_data_user(&b, user);
        for (int j = 0; j < 20; ++j)
            if (sb.test[j].user == in_b)
                CHECK_EQ_STR(b.item_key[sb.test[j].item], a.item_key[sa.test[k].item]);
        differ += sa.test[k].item != other.test[k].item;
        CHECK(sa.test[k].item >= 10 && sa.valid[k].item >= 10); /* time comes first */
    }
    CHECK(differ > 10); /* another seed, another order: 1 of 10 stays by chance */
    r2_split_free(&ctx, &sa);
    r2_split_free(&ctx, &sb);
    r2_split_free(&ctx, &other);
    r2_data_free(&ctx, &a);
    r2_data_free(&ctx, &b);
    r2_text_free(&ctx, &forward);
    r2_text_free(&ctx, &backward);
}

/* Test and validation items by tests/reference/split.py, which shares no code with the library. */
TEST(ties_as_a_second_implementation_breaks_them) {
    static const int expected[20][2] = {
        {16, 14}, {11, 15}, {11, 19}, {13, 10}, {10, 11},
        {17, 15}, {10, 15}, {19, 13}, {15, 16}, {18, 19},
        {15, 14}, {16, 13}, {11, 10}, {15, 18}, {12, 11},
        {18, 14}, {10, 15}, {14, 12}, {15, 18}, {10, 18},
    };
    r2_ctx ctx = r2_ctx_default();
    r2_text text = {NULL, 0, 0, false};
    r2_data data;
    r2_split split;
    for (int k = 0; k < 400; ++k)
        r2_text_addf(&ctx, &text, "u%d m%d 5 %d\n", k % 20, k / 20, k / 20 < 10 ? 1 : 2);
    REQUIRE_OK(&ctx, ratings_load(&ctx, &data, text.data));
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &split, &data, NULL));
    REQUIRE(split.n_test == 20 && split.config.seed == 1);
    for (int u = 0; u < 20; ++u) { /* users and items are numbered as they are named */
        CHECK_EQ_INT(split.test[u].item, expected[u][0]);
        CHECK_EQ_INT(split.valid[u].item, expected[u][1]);
    }
    r2_split_free(&ctx, &split);
    r2_data_free(&ctx, &data);
    r2_text_free(&ctx, &text);
}

TEST(movielens_split_keeps_its_rules) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_split split;
    const char *path = ratings_real();
    if (!path) SKIP("MovieLens latest-small is not there (make data)");
    REQUIRE_OK(&ctx, r2_data_load(&ctx, &data, path));
    CHECK_EQ_INT(data.n_users, 610);
    CHECK_EQ_INT(data.n_items, 9724);
    CHECK_EQ_INT(data.n_ratings, 100836);
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &split, &data, NULL));
    CHECK_EQ_INT(split.n_test, 608);
    for (int64_t k = 0; k < split.n_test; ++k) {
        uint32_t user = split.test[k].user;
        int32_t valid = data.time[split.valid[k].row], test = data.time[split.test[k].row];
        CHECK(split.valid[k].user == user && valid <= test);
        for (int64_t row = data.user_begin[user]; row < data.user_begin[user + 1]; ++row) {
            if (split.role[row] == R2_TRAIN) CHECK(data.time[row] <= valid);
            else if (data.rating[row] >= 4.0f) CHECK(data.time[row] <= test);
        }
    }
    r2_split_free(&ctx, &split);
    r2_data_free(&ctx, &data);
}

TEST(splits_from_files) {
    static const char *const train = "build/split_train.tmp", *valid = "build/split_valid.tmp",
                             *test = "build/split_test.tmp";
    const char *paths[3] = {train, valid, test};
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_split split;
    REQUIRE(ratings_write_text(train, "user,item,rating,time\na,x,5,1\nb,x,5,1\nb,y,2,2\n"));
    REQUIRE(ratings_write_text(valid, "user,item,rating,time\na,y,5,3\nb,z,1,4\n"));
    REQUIRE(ratings_write_text(test, "user,item,rating,time\na,z,4,5\nc,x,5,6\n"));
    REQUIRE_OK(&ctx, r2_data_load_files(&ctx, &data, paths, 3, NULL));
    REQUIRE_OK(&ctx, r2_split_given(&ctx, &split, &data, NULL, valid, test, NULL));
    CHECK_EQ_INT(split.n_train, 3);
    REQUIRE(split.n_valid == 1 && split.n_test == 1); /* b disliked z; c is not in training */
    CHECK_EQ_STR(data.item_key[split.valid[0].item], "y");
    CHECK_EQ_STR(data.item_key[split.test[0].item], "z");
    r2_split_free(&ctx, &split);
    REQUIRE(ratings_write_text(test, "user, item\na , z\n"));
    REQUIRE_OK(&ctx, r2_split_given(&ctx, &split, &data, NULL, valid, test, NULL));
    CHECK_EQ_INT(split.n_test, 1);
    r2_split_free(&ctx, &split);
    REQUIRE(ratings_write_text(test, "user,item,rating,time\na,unknown,4,5\n"));
    CHECK_STATUS(&ctx, r2_split_given(&ctx, &split, &data, NULL, valid, test, NULL), R2_FORMAT);
    r2_data_free(&ctx, &data);
    for (int k = 0; k < 3; ++k) remove(paths[k]);
}

/* ---- candidates ---- */

static r2_negatives uniform(int64_t n, uint64_t seed) {
    r2_negatives negatives;
    memset(&negatives, 0, sizeof negatives);
    negatives.n = n;
    negatives.seed = seed;
    return negatives;
}

static void check_candidates(const r2_candidates *c, const r2_data *data, const r2_split *split) {
    for (int64_t k = 0; k < c->n_cases; ++k) {
        const uint32_t *row = c->item + k * c->n_per_case;
        CHECK_EQ_INT(c->user[k], split->test[k].user);
        CHECK_EQ_INT(row[0], split->test[k].item);
        for (int64_t j = 1; j < c->n_per_case; ++j) {
            CHECK(row[j] < data->n_items && r2_data_find(data, c->user[k], row[j]) < 0);
            for (int64_t m = 1; m < j; ++m) CHECK(row[m] != row[j]);
        }
    }
}

TEST(candidates_are_distinct_unseen_and_reproducible) {
    static const char *const path = "build/test_candidates.tmp";
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_split split;
    r2_candidates a, b, popular;
    r2_negatives n19 = uniform(19, 7), n9 = uniform(9, 7), n60 = uniform(60, 7),
                 n42 = uniform(42, 7);
    r2_negatives popular9 = n9;
    double mean[2] = {0, 0};
    int64_t n_able = 0;
    REQUIRE_OK(&ctx, ratings_random(&ctx, &data, 50, 60, 0.3, 6));
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &split, &data, NULL));
    REQUIRE(split.n_test > 30);
    REQUIRE_OK(&ctx, r2_candidates_init(&ctx, &a, &data, split.test, split.n_test, &n19));
    check_candidates(&a, &data, &split);
    /* the draw of a case does not depend on the others */
    REQUIRE_OK(&ctx, r2_candidates_init(&ctx, &b, &data, split.test + 5, 1, &n19));
    CHECK(memcmp(b.item, a.item + 5 * 20, 20 * sizeof *b.item) == 0);
    r2_candidates_free(&ctx, &b);
    /* a saved set comes back */
    REQUIRE_OK(&ctx, r2_candidates_save(&ctx, &a, &data, path));
    REQUIRE_OK(&ctx, r2_candidates_load(&ctx, &b, &data, path));
    CHECK_EQ_INT(b.n_cases, a.n_cases);
    CHECK_EQ_INT(b.n_per_case, a.n_per_case);
    CHECK(memcmp(b.item, a.item, (size_t)(a.n_cases * 20) * sizeof *b.item) == 0);
    CHECK(memcmp(b.user, a.user, (size_t)a.n_cases * sizeof *b.user) == 0);
    r2_candidates_free(&ctx, &b);
    REQUIRE(ratings_write_text(path, "u1\ti1\ti2\nu2\ti1\n"));
    CHECK_STATUS(&ctx, r2_candidates_load(&ctx, &b, &data, path), R2_FORMAT);
    REQUIRE(ratings_write_text(path, "u1\ti1\ti2\nu2\ti1\ti2\ti3\n"));
    CHECK_STATUS(&ctx, r2_candidates_load(&ctx, &b, &data, path), R2_FORMAT);
    REQUIRE(ratings_write_text(path, "u1\nu2\n"));
    CHECK_STATUS(&ctx, r2_candidates_load(&ctx, &b, &data, path), R2_FORMAT);
    CHECK(strstr(ctx.message, ".tmp:1: expected a user and items between tabs") != NULL);
    remove(path);
    /* popular negatives are more popular */
    popular9.popular = true;
    REQUIRE_OK(&ctx,
               r2_candidates_init(&ctx, &popular, &data, split.test, split.n_test, &popular9));
    check_candidates(&popular, &data, &split);
    r2_candidates_free(&ctx, &a);
    REQUIRE_OK(&ctx, r2_candidates_init(&ctx, &a, &data, split.test, split.n_test, &n9));
    for (int64_t k = 0; k < a.n_cases; ++k)
        for (int64_t j = 1; j < 10; ++j)
            for (int64_t row = 0; row < data.n_ratings; ++row) {
                mean[0] += data.item[row] == a.item[k * 10 + j];
                mean[1] += data.item[row] == popular.item[k * 10 + j];
            }
    CHECK(mean[1] > mean[0]);
    r2_candidates_free(&ctx, &a);
    r2_candidates_free(&ctx, &popular);
    CHECK_STATUS(&ctx, r2_candidates_init(&ctx, &a, &data, split.test, split.n_test, &n60),
                 R2_ARGUMENT);
    /* a user who has seen too much gets no case; the others do */
    REQUIRE_OK(&ctx, r2_candidates_init(&ctx, &a, &data, split.test, split.n_test, &n42));
    for (int64_t k = 0; k < split.n_test; ++k) {
        const int64_t u = (int64_t)split.test[k].user;
        n_able += data.n_items - (data.user_begin[u + 1] - data.user_begin[u]) >= 42;
    }
    CHECK_EQ_INT(a.n_cases, n_able);
    CHECK(n_able > 0 && n_able < split.n_test);
    for (int64_t k = 0, t = 0; k < a.n_cases; ++k, ++t) {
        while (split.test[t].user != a.user[k]) REQUIRE(++t < split.n_test);
        CHECK_EQ_INT(a.item[k * 43], split.test[t].item);
        for (int64_t j = 1; j < 43; ++j) CHECK(r2_data_find(&data, a.user[k], a.item[k * 43 + j]) < 0);
    }
    r2_candidates_free(&ctx, &a);
    r2_split_free(&ctx, &split);
    r2_data_free(&ctx, &data);
}

TEST(common_negatives_are_common) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_split split;
    r2_candidates c;
    r2_negatives common = uniform(9, 7);
    REQUIRE_OK(&ctx, ratings_random(&ctx, &data, 50, 60, 0.3, 6));
    REQUIRE_OK(&ctx, r2_split_init(&ctx, &split, &data, NULL));
    common.warm = &split;
    common.min_train = 8;
    REQUIRE_OK(&ctx, r2_candidates_init(&ctx, &c, &data, split.test, split.n_test, &common));
    check_candidates(&c, &data, &split);
    for (int64_t k = 0; k < c.n_cases; ++k)
        for (int64_t j = 1; j < 10; ++j) {
            int64_t n = 0;
            for (int64_t row = 0; row < data.n_ratings; ++row)
                n += data.item[row] == c.item[k * 10 + j] && split.role[row] == R2_TRAIN;
            CHECK(n >= 8);
        }
    r2_candidates_free(&ctx, &c);
    common.min_train = 999;
    CHECK_STATUS(&ctx, r2_candidates_init(&ctx, &c, &data, split.test, split.n_test, &common),
                 R2_ARGUMENT);
    common.popular = true;
    CHECK_STATUS(&ctx, r2_candidates_init(&ctx, &c, &data, split.test, split.n_test, &common),
                 R2_ARGUMENT);
    CHECK(strstr(ctx.message, "found both") != NULL);
    r2_split_free(&ctx, &split);
    r2_data_free(&ctx, &data);
}

/* Chi-square of 40,000 draws over the unseen items of one user. */
TEST(uniform_candidates_are_uniform) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_target target;
    int64_t count[41] = {0}, n_unseen = 0;
    double chi = 0.0, expected;
    uint32_t list[41];
    REQUIRE_OK(&ctx, ratings_random(&ctx, &data, 8, 40, 0.3, 8));
    target.user = 3;
    target.row = data.user_begin[3];
    target.item = data.item[target.row];
    for (uint64_t seed = 0; seed < 8000; ++seed) {
        r2_negatives negatives = uniform(5, seed);
        r2_candidates c;
        REQUIRE_OK(&ctx, r2_candidates_init(&ctx, &c, &data, &target, 1, &negatives));
        for (int j = 1; j < 6; ++j) count[c.item[j]]++;
        r2_candidates_free(&ctx, &c);
    }
    n_unseen = r2_candidates_catalogue(&data, target, list) - 1;
    expected = 40000.0 / (double)n_unseen;
    CHECK_EQ_INT(list[0], target.item);
    for (int64_t k = 1; k <= n_unseen; ++k) {
        CHECK(r2_data_find(&data, 3, list[k]) < 0);
        chi += pow((double)count[list[k]] - expected, 2.0) / expected;
        count[list[k]] = 0;
    }
    for (int k = 0; k < 41; ++k) CHECK_EQ_INT(count[k], 0);
    CHECK(n_unseen > 15 && chi < (double)n_unseen + 4.0 * sqrt(2.0 * (double)n_unseen));
    r2_data_free(&ctx, &data);
}

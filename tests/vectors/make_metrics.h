/* make_metrics.h: group metrics. Part of make.c. */

static void metrics_flags(maker *m) {
    flag(m, "TiesForPositive", "the positive is ranked before those it ties with");
    flag(m, "TiesAgainstPositive", "the positive is ranked behind those it ties with");
    flag(m, "NanWins", "NaN scores above something, or ties with a number");
    flag(m, "LogOfRank", "NDCG's discount is log2(rank), or natural");
    flag(m, "BeyondTheEnd", "k larger than the list is an error, or counts less than 1");
    flag(m, "AucLosesTies", "ties count whole, or not at all, in AUC");
    flag(m, "PercentileIndex", "another element of the sorted means, or an interpolation");
    flag(m, "ResampleByModulo",
         "resamples are not drawn by below(n), or not by the order of draws");
    flag(m, "OneSided", "McNemar's test is one-sided, or not exact");
}

static void make_ranks(maker *m) {
    static const char *const scores[][2] = {
        {"[3,5,3,1,3,4]", "TiesForPositive TiesAgainstPositive"},
        {"[1]", ""},
        {"[2,2,2,2]", "TiesForPositive TiesAgainstPositive"},
        {"['NaN',1,2]", "NanWins"},
        {"['NaN','NaN',2]", "NanWins"},
        {"[1,'NaN',2]", "NanWins"},
        {"['-Infinity','NaN','-Infinity',0]", "NanWins"},
        {"['Infinity','Infinity',3]", "TiesForPositive"},
        {"[0,-0.0,0]", "TiesForPositive"},
        {"[0.1,0.10000000149011612]", "TiesForPositive"},
        {"[0.1,0.1000001]", ""},
        {"[16777216,16777217]", "TiesForPositive"}};
    for (size_t k = 0; k < sizeof scores / sizeof *scores; ++k)
        valid(m, "rank", scores[k][1], "better and tied candidates",
              json("{'scores':%s}", scores[k][0]));
    invalid(m, "rank", "", "no scores", json("{'scores':[]}"));
}

static cJSON *random_scores(r2_rng *rng, int cases, int n, int levels) {
    cJSON *rows = cJSON_CreateArray();
    for (int c = 0; c < cases; ++c) {
        cJSON *row = cJSON_CreateArray();
        for (int k = 0; k < n; ++k)
            cJSON_AddItemToArray(row, cJSON_CreateNumber(below(rng, levels) / 4.0));
        cJSON_AddItemToArray(rows, row);
    }
    return rows;
}

static void make_metric(maker *m) {
    static const int shape[][3] = {{5, 20, 1000}, {5, 20, 6}, {7, 6, 4},
                                   {3, 2, 2},     {1, 20, 1}, {4, 1, 9}};
    static const int at[] = {1, 5, 10, 100};
    r2_rng rng = r2_rng_make(31, R2_STREAM_USER, 0);
    for (size_t s = 0; s < sizeof shape / sizeof *shape; ++s)
        for (size_t k = 0; k < sizeof at / sizeof *at; ++k)
            valid(m, "metrics",
                  at[k] > shape[s][1]
                      ? "BeyondTheEnd"
                      : "TiesForPositive TiesAgainstPositive LogOfRank AucLosesTies",
                  "means over cases",
                  with(json("{'k':%d}", at[k]), "scores",
                       random_scores(&rng, shape[s][0], shape[s][1], shape[s][2])));
    valid(m, "metrics", "TiesForPositive", "the opening of the header's room: ranks 3, 4 or 5",
          json("{'k':4,'scores':[[3,5,3,1,3,4]]}"));
    invalid(m, "metrics", "", "no case", json("{'k':1,'scores':[]}"));
    invalid(m, "metrics", "", "rows of different lengths", json("{'k':1,'scores':[[1,2],[1]]}"));
}

static void make_statistics(maker *m) {
    static const int pairs[][2] = {{0, 0}, {1, 0},   {5, 0},   {3, 9},
                                   {9, 3}, {10, 10}, {40, 61}, {0, 30}};
    r2_rng rng = r2_rng_make(32, R2_STREAM_USER, 0);
    for (int k = 0; k < 12; ++k) {
        cJSON *in = json("{'n_bootstrap':%d,'seed':'0x%x'}", k < 4 ? 1 + 10 * k : 200, k);
        valid(m, "bootstrap", k < 1 ? "" : "PercentileIndex ResampleByModulo",
              "an interval of a mean", with(in, "values", random_list(&rng, 1 + 3 * k, 0.0, 1.0)));
    }
    invalid(m, "bootstrap", "", "no values", json("{'n_bootstrap':10,'seed':'0x1','values':[]}"));
    invalid(m, "bootstrap", "", "no resamples",
            json("{'n_bootstrap':0,'seed':'0x1','values':[1]}"));
    for (size_t k = 0; k < sizeof pairs / sizeof *pairs; ++k)
        valid(m, "mcnemar", "OneSided", "the exact test",
              json("{'only_a':%d,'only_b':%d}", pairs[k][0], pairs[k][1]));
    invalid(m, "mcnemar", "", "a negative count", json("{'only_a':-1,'only_b':3}"));
}

static void make_metrics(maker *m) {
    static const char *const field[][2] = {
        {"metrics", "hr"},       {"metrics", "ndcg"}, {"metrics", "mrr"},  {"metrics", "auc"},
        {"metrics", "tie_rate"}, {"metrics", "hits"}, {"bootstrap", "lo"}, {"bootstrap", "hi"}};
    group_begin(m, "metrics", "Ranks, metrics, intervals, tests.");
    metrics_flags(m);
    for (size_t k = 0; k < sizeof field / sizeof *field; ++k)
        tolerance(m, field[k][0], field[k][1], 1e-12, 1e-12);
    tolerance(m, "mcnemar", "p", 1e-12, 1e-9);
    make_ranks(m);
    make_metric(m);
    make_statistics(m);
    group_end(m);
}

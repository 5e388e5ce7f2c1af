/* make_variants.h: group variants. Part of make.c. */

static void variants_flags(maker *m) {
    flag(m, "IdAscending", "equal scores are ordered by ascending id, or by place");
    flag(m, "GainOfRelevance", "linear and exponential gain are taken for each other");
    flag(m, "DiscountOfRank", "log2(rank + 1) and log2(rank) are taken for each other");
    flag(m, "IdealUncut", "the ideal order is not cut at k, or is where it should not be");
    flag(m, "DividedByAll",
         "AP and recall divide by all relevant items where min(k, all) is meant, or the other way "
         "round");
    flag(m, "MeanOfPrecisions",
         "AP is the mean of precision at every place, not at the relevant ones");
    flag(m, "ShortList",
         "precision of a list shorter than k divides by its length where k is meant, or the other "
         "way round");
    flag(m, "EmptyUsers", "users with nothing to find are left out, or count as zero");
    flag(m, "PercentileRule", "the percentile is interpolated, or is not");
}

static void list_test(maker *m, const char *flags, const char *about, const char *items,
                      const char *ties, int k) {
    valid(m, "list", flags, about, json("{'items':%s,'ties':'%s','k':%d}", items, ties, k));
}

static void make_lists(maker *m) {
    static const char *const ties[] = {"as_given", "id_descending", "relevant_first",
                                       "relevant_last"};
    static const char one_first[] = "[['a',9,1],['b',8,0],['c',7,0],['d',6,0],['e',5,0],['f',4,0]]";
    static const char graded[] =
        "[['a',9,1],['b',8,0],['c',7,3],['d',6,0],['e',5,2],['f',4,5],['g',3,0],['h',2,1]]";
    static const char tied[] =
        "[['d10',2,0],['d2',2,1],['d1',2,0],['e',1,1],['E',1,0],['x',3,0],['y',0,0]]";
    list_test(m, "MeanOfPrecisions", "one item to find, ranked first: AP@5 is 1, or 0.4567",
              one_first, "as_given", 5);
    for (int k = 1; k <= 8; ++k)
        list_test(
            m, k < 4 ? "IdealUncut DividedByAll GainOfRelevance" : "GainOfRelevance DiscountOfRank",
            "graded", graded, "as_given", k);
    for (int t = 0; t < 4; ++t)
        for (int k = 2; k <= 6; k += 2)
            list_test(m, t == 1 ? "IdAscending" : "", "equal scores", tied, ties[t], k);
    list_test(m, "ShortList", "k is larger than the list", "[['a',2,0],['b',1,1]]", "as_given", 10);
    list_test(m, "ShortList", "nothing recommended", "[]", "as_given", 5);
    list_test(m, "", "nothing to find", "[['a',2,0],['b',1,0]]", "as_given", 5);
    invalid(m, "list", "", "k = 0", json("{'items':[],'ties':'as_given','k':0}"));
}

static void make_variants(maker *m) {
    static const char *const value[] = {"ndcg_linear",
                                        "ndcg_exponential",
                                        "ndcg_binary",
                                        "ndcg_log2_rank",
                                        "ndcg_log2_rank_all",
                                        "ap_all",
                                        "ap_min",
                                        "ap_mean_precision",
                                        "recall_all",
                                        "recall_min",
                                        "precision_k",
                                        "precision_list",
                                        "rr",
                                        "rr_k"};
    static const char *const empty[] = {"skip", "zero"}, *const rule[] = {"nearest", "line"};
    static const double share[] = {0.025, 0.5, 0.975, 0.0, 1.0};
    group_begin(m, "variants", "Metrics of one list as other libraries define them, by name.");
    variants_flags(m);
    for (size_t k = 0; k < sizeof value / sizeof *value; ++k)
        tolerance(m, "list", value[k], 1e-12, 1e-12);
    tolerance(m, "mean", "mean", 1e-12, 1e-12);
    tolerance(m, "percentile", "value", 1e-12, 1e-12);
    make_lists(m);
    for (int k = 0; k < 2; ++k)
        valid(m, "mean", "EmptyUsers", "two of five users have nothing to find",
              json("{'values':[1,null,0.5,0,null],'empty':'%s'}", empty[k]));
    for (int r = 0; r < 2; ++r)
        for (size_t k = 0; k < sizeof share / sizeof *share; ++k)
            valid(
                m, "percentile", k < 3 ? "PercentileRule" : "", "of ten values",
                json("{'values':[3,1,4,1,5,9,2,6,5,8],'share':%g,'rule':'%s'}", share[k], rule[r]));
    group_end(m);
}

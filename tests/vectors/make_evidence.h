/* make_evidence.h: groups questions and evidence, and the fitting of codebooks. Part of make.c. */

/* ---- questions ---- */

static void questions_flags(maker *m) {
    flag(m, "PositiveAmongNegatives",
         "negatives may be items that the user has in all data, the positive too");
    flag(m, "NegativeTwice", "a negative may stand twice");
    flag(m, "OtherTargetsMatter", "one generator serves all targets");
    flag(m, "ColdNegatives", "items without training interactions are sampled, too");
    flag(m, "PopularByItem", "popular negatives are uniform over items");
    flag(m, "EarliestAsked", "the earliest, not the latest interactions are asked for");
    flag(m, "ExtraToTheFirst", "the first users get the groups that are left over");
    flag(m, "OwnerCounts",
         "the user itself counts among those who must have the item that is asked for");
    flag(m, "SampledOwnItem", "a sampled item may be one that the user has");
}

static cJSON *candidates_input(const char *data, const char *targets, int n, int seed, bool popular,
                               const char *common) {
    return json("{'data':'@%s','targets':%s,'n':%d,'seed':'0x%x','popular':%s,'common':%s}", data,
                targets, n, seed, popular ? "true" : "false", common);
}

static void make_candidates(maker *m) {
    static const char targets[] = "[[0,1],[1,0],[2,3],[3,2],[4,5]]";
    for (int seed = 1; seed <= 4; ++seed) {
        valid(m, "candidates", "PositiveAmongNegatives NegativeTwice OtherTargetsMatter", "uniform",
              candidates_input("sparse", targets, 5, seed, false, "null"));
        valid(m, "candidates", "PopularByItem NegativeTwice", "popular",
              candidates_input("sparse", targets, 5, seed, true, "null"));
        valid(m, "candidates", "ColdNegatives", "items with training interactions",
              candidates_input("sparse", targets, 3, seed, false,
                               "{'seed':'0x1','min_positive':3,'min_train':2}"));
    }
    valid(m, "candidates", "", "users with too few items get no case",
          candidates_input("full", "[[0,1],[1,0],[2,3],[3,2]]", 2, 1, false, "null"));
    invalid(m, "candidates", "", "no user has enough items",
            candidates_input("full", "[[0,1]]", 8, 1, false, "null"));
    invalid(m, "candidates", "", "popular and common",
            candidates_input("sparse", targets, 2, 1, true,
                             "{'seed':'0x1','min_positive':0,'min_train':1}"));
}

static void draw_test(maker *m, const char *flags, const char *about, const char *data,
                      int n_groups, int n_sampled, int min_history, int min_others, int seed) {
    valid(m, "draw", flags, about,
          json("{'data':'@%s','tie_seed':'0x1','n_groups':%d,'n_sampled':%d,'min_history':%d,"
               "'min_others':%d,'seed':'0x%x'}",
               data, n_groups, n_sampled, min_history, min_others, seed));
}

static void make_questions(maker *m) {
    group_begin(m, "questions", "Candidate sets and training questions: who is asked about what.");
    questions_flags(m);
    share(m, "sparse", random_data(80, 6, 16, 0.3, 100000));
    share(m, "full", random_data(81, 6, 8, 0.8, 100000));
    make_candidates(m);
    for (int seed = 1; seed <= 3; ++seed) {
        draw_test(m, "EarliestAsked SampledOwnItem", "fewer groups than there are", "sparse", 6, 3,
                  1, 0, seed);
        draw_test(m, "ExtraToTheFirst", "some users get one more", "sparse", 8, 2, 1, 0, seed);
        draw_test(m, "OwnerCounts EarliestAsked", "items that others have", "sparse", 9, 2, 2, 1,
                  seed);
        draw_test(m, "OwnerCounts", "more groups than there are", "sparse", 100, 2, 5, 2, seed);
        draw_test(m, "SampledOwnItem", "repeated where there are too few items", "full", 12, 4, 3,
                  1, seed);
    }
    invalid(m, "draw", "", "nobody has such items",
            json("{'data':'@sparse','tie_seed':'0x1','n_groups':5,'n_sampled':2,'min_history':1,"
                 "'min_others':50,'seed':'0x1'}"));
    invalid(m, "draw", "", "no groups",
            json("{'data':'@sparse','tie_seed':'0x1','n_groups':0,'n_sampled':2,'min_history':1,"
                 "'min_others':0,'seed':'0x1'}"));
    group_end(m);
}

/* Tests of group split that belong here, since they need its flags. */
static void make_warm(maker *m) {
    flag(m, "ColdTargets", "targets whose item has no training interaction are asked for");
    for (int k = 0; k < 5; ++k)
        valid(m, "warm", "ColdTargets", "targets with training interactions",
              with(json("{'seed':'0x1','min_positive':3,'min_train':%d,'n_cases':%d}", k,
                        k == 4 ? 4 : 0),
                   "data", random_data((uint64_t)(85 + k), 7, 15, 0.5, 10000)));
}

/* ---- evidence ---- */

static void evidence_flags(maker *m) {
    flag(m, "HiddenTargetSeen",
         "evidence counts the interaction that is asked for, or a hidden edge of a step");
    flag(m, "HiddenInRanks", "ranks and the clock count hidden edges");
    flag(m, "FutureIgnored", "the moment of the question does not reach trend, season and fresh");
    flag(m, "PersonLeftOutSeen", "the other person of a step's chain is counted");
    flag(m, "YoungestWeighsLess", "the age counts from the beginning of the history");
    flag(m, "DistanceUnsigned", "next and path take items that u1 had before i0, too");
    flag(m, "MeanUnshrunk", "meanr or pred is not shrunk");
    flag(m, "RidgeIsConstant", "deep has another ridge");
    flag(m, "SolvedExactly", "deep is solved to the end, not by four steps");
    flag(m, "EraZeroIsUnknown", "half a year is not added, so the same year is nothing to count");
    flag(m, "MomentOfTheEdge",
         "a question has the moment after, not before, the interaction it asks for");
}

static cJSON *items_of(cJSON *data, int n_items) {
    static const char *const genres[] = {"Drama",  "Drama|Comedy", "", "Horror|Drama|Comedy",
                                         "Sci-Fi", "Comedy|Comedy"};
    cJSON *items = cJSON_AddArrayToObject(data, "items");
    for (int i = 0; i < n_items; ++i)
        cJSON_AddItemToArray(items, json("['i%d','Film %d','%s',%d]", i, i, genres[i * 5 % 6],
                                         i % 4 == 3 ? 0 : 1970 + 7 * i % 40));
    return data;
}

static cJSON *evidence_input(const char *data, int user, int item, int history, int future, int k) {
    return json(
        "{'data':'@%s','tie_seed':'0x1','min_positive':4,'law':'coherent','k':%d,'seed':'0x1',"
        "'question':{'user':%d,'item':%d,'history':%d,'future':%d}}",
        data, k, user, item, history, future);
}

static void make_evidences(maker *m) {
    static const char *const data[] = {"small", "wide", "ties"};
    for (int k = 0; k < 36; ++k) {
        const int user = k % 5, item = (k * 7 + 2) % 8, history = k % 3 == 1 ? k % 6 : k % 4 % 3;
        valid(m, "evidence",
              "HiddenTargetSeen HiddenInRanks YoungestWeighsLess DistanceUnsigned MeanUnshrunk "
              "RidgeIsConstant SolvedExactly EraZeroIsUnknown FutureIgnored",
              "21 values and chains",
              evidence_input(data[k % 3], user, item, history, k % 2 ? 3 * k % 11 : 0, k % 5));
    }
    invalid(m, "evidence", "", "more chains than a prompt has",
            evidence_input("small", 0, 1, 1, 0, 9));
    invalid(m, "evidence", "", "a future longer than time",
            evidence_input("small", 0, 1, 1, 1000, 3));
    invalid(m, "evidence", "", "a negative future", evidence_input("small", 0, 1, 1, -1, 3));
}

/* Each step of a chain: the question it asks, and the evidence. */
static void make_steps(maker *m) {
    for (int k = 0; k < 10; ++k) {
        cJSON *in = json(
                  "{'data':'@wide','tie_seed':'0x1','question':{'user':%d,'item':%d,'history':%d},"
                  "'law':'coherent','k':1,'seed':'0x1'}",
                  k, (k * 3 + 1) % 8, 3),
              *whole, *out, *chain;
        const char *const old = "chains";
        snprintf(m->group, sizeof m->group, "%s", old);
        out = answer(m, "target", in);
        snprintf(m->group, sizeof m->group, "evidence");
        cJSON_Delete(in);
        chain = out ? cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(out, "chains"), 0) : NULL;
        for (int step = 1; chain && step <= 4; ++step) {
            whole = json("{'data':'@wide','tie_seed':'0x1','step':%d}", step);
            with(whole, "chain", cJSON_Duplicate(chain, true));
            valid(m, "step", "MomentOfTheEdge", "what an edge asks", cJSON_Duplicate(whole, true));
            in = with(
                json("{'data':'@wide','tie_seed':'0x1','min_positive':4,'law':'coherent','k':2,"
                     "'seed':'0x1'}"),
                "question", answer(m, "step", whole));
            with(cJSON_GetObjectItemCaseSensitive(in, "question"), "step",
                 cJSON_CreateNumber(step));
            cJSON_DeleteItemFromObject(cJSON_GetObjectItemCaseSensitive(in, "question"), "answer");
            valid(m, "evidence", step < 4 ? "PersonLeftOutSeen HiddenTargetSeen" : "", "of a step",
                  in);
            cJSON_Delete(whole);
        }
        cJSON_Delete(out);
    }
}

static void make_evidence(maker *m) {
    static const char *const field[] = {"values", "chains"};
    group_begin(
        m, "evidence",
        "The 21 numbers about a question, its chains, and the questions of a chain's steps.");
    evidence_flags(m);
    for (int k = 0; k < 2; ++k) tolerance(m, "evidence", field[k], 2e-6, 2e-5);
    share(m, "small", items_of(random_data(90, 6, 8, 0.6, 100000), 8));
    share(m, "wide", items_of(random_data(91, 60, 12, 0.6, 100000), 12));
    share(m, "ties", items_of(random_data(92, 7, 9, 0.7, 4), 9));
    make_evidences(m);
    make_steps(m);
    for (int k = 0; k < 3; ++k)
        valid(m, "future", "MomentOfTheEdge", "edges not before an interaction",
              json("{'data':'@%s','tie_seed':'0x1','min_positive':3,'pairs':[[0,0],[0,1],[1,2],[2,"
                   "3],[3,4],[4,5],"
                   "[5,6],[0,7]]}",
                   k == 0   ? "small"
                   : k == 1 ? "wide"
                            : "ties"));
    group_end(m);
}

/* ---- codebooks ---- */

static cJSON *fit_input(int seed, int n_groups, int n_chains, int levels) {
    r2_rng rng = r2_rng_make((uint64_t)seed, R2_STREAM_USER, 1);
    cJSON *in = json("{'n_chains':%d}", n_chains), *list = cJSON_AddArrayToObject(in, "questions");
    for (int q = 0; q < 5 * n_groups; ++q) {
        cJSON *one = json("{'observed':%s}", q % 5 ? "false" : "true"), *values, *chains;
        values = cJSON_AddArrayToObject(one, "values");
        for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
            cJSON_AddItemToArray(
                values,
                cJSON_CreateNumber(f == 3 ? 0 : (below(&rng, levels) + (q % 5 ? 0 : f % 3)) / 8.0));
        chains = cJSON_AddArrayToObject(one, "chains");
        for (int c = 0; c < below(&rng, n_chains + 2); ++c)
            cJSON_AddItemToArray(chains, random_list(&rng, 6, -1.0, 2.0));
        cJSON_AddItemToArray(list, one);
    }
    return in;
}

static void make_fits(maker *m) {
    flag(m, "EdgesFromAll",
         "quantiles are those of all questions, not as many sampled as observed");
    flag(m, "EdgesUnwidened",
         "edges are not moved to the middle of the gap between sampled values");
    flag(m, "WeightsUnsmoothed", "half an observed question is not added to both shares");
    flag(m, "AbsentChainsUncounted", "chains that a question does not have are not in bucket 0");
    for (int k = 0; k < 4; ++k)
        valid(m, "fit", "EdgesFromAll EdgesUnwidened WeightsUnsmoothed AbsentChainsUncounted",
              "edges and weights", fit_input(k + 1, 12 + 4 * k, k, k == 1 ? 4 : 300));
    invalid(m, "fit", "", "sampled questions alone",
            json("{'n_chains':0,'questions':[{'observed':false,'chains':[],'values':[1,1,1,1,1,1,1,"
                 "1,1,1,1,1,1,1,"
                 "1,1,1,1,1,1,1]}]}"));
}

/* make_data.h: groups split, graph and chains. Part of make.c. */

static void make_warm(maker *m);

/* ---- split ---- */

static void split_flags(maker *m) {
    flag(m, "TiesByFileOrder",
         "interactions at the same second stand in the order of the file, or of numbers");
    flag(m, "OwnSeed", "the seed does not reach the tie rule");
    flag(m, "TargetAtFirst", "the very first interaction of a user may be the validation target");
    flag(m, "LastIsTest", "the last interaction is the test target, whatever its rating");
    flag(m, "TrainOnTheFuture", "interactions after the validation target are trained on");
    flag(m, "FirstDuplicate", "of a pair that stands twice the first row counts, not the latest");
    flag(m, "ThinFromTheFront", "the first targets are kept, not evenly spaced ones");
    flag(m, "CoreOnce", "users and items below the core are dropped once, not until none is left");
}

static void make_leave_one_out(maker *m) {
    for (int k = 0; k < 10; ++k)
        valid(m, "leave_one_out",
              k % 2 ? "TiesByFileOrder OwnSeed TrainOnTheFuture" : "LastIsTest TrainOnTheFuture",
              k % 2 ? "ties in time" : "hardly any ties",
              with(json("{'seed':'0x%x','min_positive':0}", k + 1), "data",
                   random_data((uint64_t)k, 5, 9, 0.7, k % 2 ? 4 : 100000)));
    for (int k = 0; k < 4; ++k)
        valid(m, "leave_one_out", "TargetAtFirst LastIsTest",
              "few interactions, a threshold of its own",
              with(json("{'seed':'0x7','min_positive':%g}", 1.0 + k), "data",
                   random_data((uint64_t)(20 + k), 8, 4, 0.7, 50)));
    valid(m, "leave_one_out", "TargetAtFirst", "a user with two favourites and nothing before them",
          json("{'seed':'0x1','min_positive':0,'data':{'ratings':[['a','x',5,10],['a','y',5,20],"
               "['b','x',1,10],['b','y',5,20],['b','z',4,30],['b','w',1,40]]}}"));
    valid(m, "leave_one_out", "FirstDuplicate", "pairs that stand twice",
          json("{'seed':'0x1','min_positive':4,'data':{'ratings':[['a','x',5,10],['a','y',5,20],"
               "['a','x',1,30],['a','z',4,40],['a','w',5,50],['a','w',2,50],['b','x',4,9],"
               "['b','z',4,8],['b','x',4,7],['b','y',5,20]]}}"));
    valid(m, "leave_one_out", "TiesByFileOrder", "everything at the same second",
          with(json("{'seed':'0x123456789','min_positive':3}"), "data",
               random_data(31, 6, 10, 0.8, 1)));
}

static void filter_test(maker *m, const char *flags, const char *about, const char *fields, int k) {
    valid(m, "filter", flags, about,
          with(json("{%s}", fields), "data", random_data((uint64_t)(40 + k), 9, 9, 0.35, 100)));
}

static void make_split(maker *m) {
    static const int thin[][2] = {{10, 3}, {10, 10}, {10, 12}, {7, 1}, {100, 7}, {5, 0}};
    group_begin(m, "split", "The order in time, held-out interactions, filters.");
    split_flags(m);
    make_leave_one_out(m);
    for (size_t k = 0; k < sizeof thin / sizeof *thin; ++k)
        valid(m, "thin", thin[k][0] > thin[k][1] ? "ThinFromTheFront" : "", "evenly spaced targets",
              json("{'n_targets':%d,'n':%d}", thin[k][0], thin[k][1]));
    for (int k = 0; k < 4; ++k)
        filter_test(m, "CoreOnce", "a core",
                    "'min_rating':0,'time_from':0,'time_until':0,'user_core':3,'item_core':3", k);
    filter_test(m, "", "ratings and times",
                "'min_rating':2.5,'time_from':1000000010,'time_until':1000000080,'user_core':0,"
                "'item_core':0",
                4);
    filter_test(m, "CoreOnce", "ratings, then a core",
                "'min_rating':2,'time_from':0,'time_until':0,'user_core':2,'item_core':3", 5);
    make_warm(m);
    group_end(m);
}

/* ---- graph ---- */

static void make_graph(maker *m) {
    group_begin(m, "graph", "Degrees and butterflies.");
    flag(m, "ButterflyTwice", "a butterfly is counted once from each of its users");
    valid(
        m, "butterflies", "ButterflyTwice", "one square",
        json("{'data':{'ratings':[['a','x',5,10],['a','y',4,20],['b','x',3,10],['b','y',2,20]]}}"));
    valid(
        m, "butterflies", "", "a path: none",
        json("{'data':{'ratings':[['a','x',5,10],['b','x',4,20],['b','y',3,10],['c','y',2,20]]}}"));
    for (int k = 0; k < 10; ++k)
        valid(m, "butterflies", "ButterflyTwice", "invented ratings",
              with(cJSON_CreateObject(), "data",
                   random_data((uint64_t)(60 + k), 4 + k, 12 - k, 0.5, 100)));
    group_end(m);
}

/* ---- chains ---- */

static void chains_flags(maker *m) {
    flag(m, "TargetLeaks",
         "the edge that is asked for is seen: in the history, in counts or as a chain");
    flag(m, "SameItemTwice", "i0 and i1 may be the same item");
    flag(m, "SharedCountedTwice", "an item that two users share counts twice in simrec");
    flag(m, "OwnDegree", "degrees of items count u0");
    flag(m, "AgeFromOne", "the latest interaction has age 1, not 0");
    flag(m, "LargerUserFirst", "of chains with equal scores the larger u1 comes first");
    flag(m, "LaterItemFirst", "of one person's chains with equal age + |d| the later i0 is taken");
    flag(m, "ManyOfOnePerson", "several chains of one person are shown in the coherent law");
    flag(m, "NoProposals", "the uniform law lists at once, without proposals first");
    flag(m, "UniformOverPeople",
         "the uniform law draws people first: chains of people with many are too rare");
    flag(m, "WithReplacement", "a chain may be drawn twice");
}

static cJSON *chain_input(const char *data, const char *who, const char *law, int k, int seed) {
    return json("{'data':'@%s','tie_seed':'0x1',%s,'law':'%s','k':%d,'seed':'0x%x'}", data, who,
                law, k, seed);
}

static void target_tests(maker *m, const char *law, const char *flags, const char *about) {
    static const char *const data[] = {"small", "ties", "dense"};
    for (int k = 0; k < 12; ++k) {
        char who[80];
        snprintf(who, sizeof who, "'question':{'user':%d,'item':%d,'history':%d}", k % 5, 3 * k % 8,
                 k % 4 + (k >= 6 ? 1 : 0));
        valid(m, "target", flags, about, chain_input(data[k % 3], who, law, 1 + k % 4, k + 1));
    }
}

static void closed_tests(maker *m, const char *law, const char *flags, const char *about) {
    static const char *const data[] = {"small", "ties", "dense"};
    for (int k = 0; k < 7; ++k) {
        char who[40];
        snprintf(who, sizeof who, "'user':%d", k % 5);
        valid(m, "closed", flags, about, chain_input(data[k % 3], who, law, 1 + k % 5, k + 9));
    }
}

static void make_chains_bad(maker *m) {
    invalid(m, "target", "", "a user who does not exist",
            chain_input("small", "'question':{'user':99,'item':1,'history':0}", "coherent", 3, 1));
    invalid(m, "target", "", "an item that does not exist",
            chain_input("small", "'question':{'user':0,'item':99,'history':0}", "coherent", 3, 1));
    invalid(m, "target", "", "a history longer than the user's",
            chain_input("small", "'question':{'user':0,'item':1,'history':99}", "coherent", 3, 1));
    invalid(m, "target", "", "a negative history",
            chain_input("small", "'question':{'user':0,'item':1,'history':-1}", "coherent", 3, 1));
    invalid(m, "target", "", "a negative number of chains",
            chain_input("small", "'question':{'user':0,'item':1,'history':1}", "coherent", -1, 1));
    invalid(m, "closed", "", "a user who does not exist",
            chain_input("small", "'user':7", "coherent", 3, 1));
    valid(m, "target", "", "no chain wanted",
          chain_input("small", "'question':{'user':0,'item':1,'history':1}", "coherent", 0, 1));
}

/* The seven ratings of the header's opening, in which two chains of Bob's and one of Cyd's compete. */
static const char make_opening[] =
    "{'ratings':[['Ann','Alien',5,1000],['Ann','Heat',4,2000],['Bob','Alien',5,1000],"
    "['Bob','Heat',3,2000],['Bob','Tron',4,3000],['Cyd','Heat',2,1000],['Cyd','Tron',5,2000]]}";

/* Two people who are alike, so their scores are equal to the last bit, and whose items are all at an age + |d|
   of 3 from the target. */
static const char make_twins[] =
    "{'ratings':[['a','p',4,10],['a','q',4,20],['a','r',4,30],['b','t',4,10],['b','p',4,20],"
    "['b','q',4,30],['b','r',4,40],['c','t',2,10],['c','p',2,20],['c','q',2,30],['c','r',2,40]]}";

static void make_chains(maker *m) {
    group_begin(m, "chains",
                "Chains u0 - i0 - u1 - i1 - u0: which there are, their scores, the laws.");
    chains_flags(m);
    tolerance(m, "target", "chains", 0.0, 1e-6);
    tolerance(m, "closed", "chains", 0.0, 1e-6);
    share(m, "small", random_data(70, 5, 8, 0.6, 100000));
    share(m, "ties", random_data(71, 6, 8, 0.7, 3));
    share(m, "dense", random_data(72, 40, 12, 0.75, 100000));
    share(m, "opening", json("%s", make_opening));
    share(m, "twins", json("%s", make_twins));
    for (int k = 1; k <= 3; ++k)
        valid(
            m, "target", "ManyOfOnePerson OwnDegree AgeFromOne", "the header's own example",
            chain_input("opening", "'question':{'user':0,'item':2,'history':2}", "coherent", k, 1));
    for (int k = 1; k <= 2; ++k)
        valid(m, "target", "LargerUserFirst LaterItemFirst", "equal scores",
              chain_input("twins", "'question':{'user':0,'item':3,'history':3}", "coherent", k, 1));
    valid(m, "closed", "LargerUserFirst", "equal scores",
          chain_input("twins", "'user':0", "coherent", 3, 1));
    target_tests(m, "coherent", "TargetLeaks SharedCountedTwice OwnDegree AgeFromOne",
                 "the best chains");
    target_tests(m, "uniform", "NoProposals UniformOverPeople WithReplacement TargetLeaks",
                 "any chains");
    target_tests(m, "uniform_users", "TargetLeaks", "any people");
    closed_tests(m, "coherent", "SameItemTwice SharedCountedTwice AgeFromOne",
                 "the best closed chains");
    closed_tests(m, "uniform", "SameItemTwice UniformOverPeople WithReplacement",
                 "any closed chains");
    closed_tests(m, "uniform_users", "SameItemTwice", "any people");
    make_chains_bad(m);
    group_end(m);
}

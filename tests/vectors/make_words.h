/* make_words.h: groups codebook, prompt, trace and token. Part of make.c. */

/* Edges and weights of an invented codebook: every field as many buckets as it wants, but for a few. */
static cJSON *invented_codebook(int n_chains) {
    r2_rng rng = r2_rng_make(5, R2_STREAM_USER, (uint64_t)n_chains);
    cJSON *book = cJSON_CreateObject(), *edges, *weights;
    cJSON_AddNumberToObject(book, "n_chains", n_chains);
    edges = cJSON_AddObjectToObject(book, "edges");
    weights = cJSON_AddObjectToObject(book, "weights");
    for (int f = 0; f < R2_N_FIELDS; ++f) {
        const char *name = r2_field_name((r2_field)f);
        const int n = f == R2_FIELD_era     ? 1
                      : f == R2_FIELD_fresh ? 2
                                            : r2_field_buckets((r2_field)f) + 1;
        cJSON *edge = cJSON_AddArrayToObject(edges, name);
        cJSON *weight = cJSON_AddArrayToObject(weights, name);
        for (int b = 0; b < n - 2; ++b) cJSON_AddItemToArray(edge, cJSON_CreateNumber(b + 0.5));
        for (int b = 0; b < n; ++b)
            cJSON_AddItemToArray(weight, cJSON_CreateNumber(below(&rng, 19) - 9));
    }
    return book;
}

static void make_codebook(maker *m) {
    static const char *const field[] = {"pop", "deep", "era", "fresh", "gap", "own"};
    group_begin(m, "codebook", "Buckets of values, and how they are fitted.");
    flag(m, "EdgeBelongsBelow", "a value at an edge is in the bucket below it");
    flag(m, "ZeroIsAValue", "0 has a bucket of its own, not \"nothing to count\"");
    share(m, "book", invented_codebook(3));
    for (size_t k = 0; k < sizeof field / sizeof *field; ++k)
        valid(m, "bucket", "EdgeBelongsBelow ZeroIsAValue", field[k],
              json("{'codebook':'@book','field':'%s','values':[0,'NaN',-3,0.25,0.5,0.5000001,1,1.5,"
                   "2.4999,"
                   "2.5,4,8.5,100,'Infinity','-Infinity',-0.0]}",
                   field[k]));
    invalid(m, "bucket", "", "no such field",
            json("{'codebook':'@book','field':'nosuch','values':[1]}"));
    make_fits(m);
    group_end(m);
}

/* ---- prompts ---- */

static cJSON *invented_evidence(int step, int n_chains, bool closed, int seed) {
    r2_rng rng = r2_rng_make((uint64_t)seed, R2_STREAM_USER, 9);
    cJSON *evidence = json("{'step':%d}", step), *values, *chains;
    values = cJSON_AddArrayToObject(evidence, "values");
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
        cJSON_AddItemToArray(values,
                             cJSON_CreateNumber(below(&rng, 4) ? below(&rng, 24) / 2.0 : 0.0));
    chains = cJSON_AddArrayToObject(evidence, "chains");
    for (int c = 0; c < n_chains; ++c) {
        cJSON *chain = with(cJSON_CreateObject(), "values", random_list(&rng, 6, -1.0, 8.0));
        cJSON_AddItemToObject(
            chain, "r4", closed ? cJSON_CreateNumber(1.0 + below(&rng, 5)) : cJSON_CreateNull());
        cJSON_AddItemToArray(chains, chain);
    }
    return evidence;
}

static cJSON *prompt_input(const char *book, const char *schedule, int max_tokens,
                           cJSON *evidence) {
    cJSON *in = json(
        "{'codebook':'@%s','schedule':'%s','max_tokens':%d,'rating_min':0.5,'rating_max':5}", book,
        schedule, max_tokens);
    return with(in, "evidence", evidence);
}

static void make_limits(maker *m) {
    for (int limit = 23; limit <= 47; limit += 6)
        valid(m, "prompt", "LimitWords", "a limit that leaves chains out",
              prompt_input("three", "progressive", limit, invented_evidence(4, 3, false, limit)));
    valid(m, "prompt", "LimitWords", "the limit is met exactly",
          prompt_input("three", "progressive", 43, invented_evidence(4, 3, false, 2)));
    valid(m, "prompt", "LimitWords", "a step before 4 keeps one chain",
          prompt_input("three", "progressive", 28, invented_evidence(2, 3, false, 2)));
    invalid(m, "prompt", "", "a limit that cannot be met",
            prompt_input("three", "progressive", 21, invented_evidence(4, 3, false, 2)));
    invalid(m, "prompt", "", "a step that the schedule does not have",
            prompt_input("three", "final-only", 0, invented_evidence(2, 3, false, 2)));
    invalid(m, "prompt", "", "a step of a chain, and no chain",
            prompt_input("three", "progressive", 0, invented_evidence(1, 0, false, 2)));
}

static void make_prompts(maker *m) {
    static const char *const schedule[] = {"progressive", "final-only", "all", "none"};
    for (int chains = 0; chains <= 4; ++chains)
        for (int closed = 0; closed < 2; ++closed)
            for (int s = 0; s < 4; ++s)
                valid(m, "prompt", chains < 3 ? "AbsentChainsOmitted" : "MaskedRatingShown",
                      "the question itself, every schedule",
                      prompt_input("three", schedule[s], 0,
                                   invented_evidence(4, chains, closed, 10 * chains + closed)));
    for (int step = 1; step <= 4; ++step)
        for (int chains = 1; chains <= 3; ++chains)
            valid(m, "prompt", step < 4 ? "MaskedRatingShown LaterEdgeShown" : "",
                  "the steps of the progressive schedule",
                  prompt_input(chains == 2 ? "one" : "three", "progressive", 0,
                               invented_evidence(step, chains, chains == 3, 7 * step + chains)));
    valid(m, "prompt", "AbsentChainsOmitted", "a codebook without chains",
          prompt_input("none", "progressive", 0, invented_evidence(4, 2, false, 3)));
}

static void make_prompt(maker *m) {
    static const char *const schedule[] = {"progressive", "final-only", "all", "none"};
    group_begin(m, "prompt", "Compact prompts, byte by byte, and their vocabulary.");
    flag(m, "AbsentChainsOmitted", "places of chains that do not exist are left out");
    flag(m, "MaskedRatingShown", "a masked edge still tells a rating");
    flag(m, "LaterEdgeShown", "facts of edges after the step's own are shown");
    flag(m, "LimitWords",
         "the limit counts something else, or keeps the places of chains left out");
    flag(m, "WordOrder", "the vocabulary has its words in another order");
    share(m, "three", invented_codebook(3));
    share(m, "one", invented_codebook(1));
    share(m, "none", invented_codebook(0));
    make_prompts(m);
    make_limits(m);
    for (int s = 0; s < 4; ++s)
        for (int step = s ? 4 : 1; step <= 4; ++step)
            valid(m, "visibility", "LaterEdgeShown", "what a schedule shows",
                  json("{'schedule':'%s','step':%d}", schedule[s], step));
    valid(m, "vocabulary", "WordOrder", "three chains", json("{'codebook':'@three'}"));
    valid(m, "vocabulary", "WordOrder", "no chains", json("{'codebook':'@none'}"));
    group_end(m);
}

/* ---- traces ---- */

static void trace_flags(maker *m) {
    flag(m, "SignedStrength", "the largest weight is cited, not the largest absolute one");
    flag(m, "TotalUnclipped", "the running total is not clipped to -24 .. 24");
    flag(m, "NoiseNotDrawn", "facts of one-fact thoughts, or noise 0, draw nothing");
    flag(m, "ChainFactsCited", "facts of single chains can be cited");
    flag(m, "MaskedFactCited", "a masked fact can be cited");
    flag(m, "SubstringAnswer", "an answer is found anywhere in the text");
    flag(m, "LooseNumbers", "+07, -0, 12 or a bare 3 pass as a weight, a total or an answer");
    flag(m, "LooseSpaces", "double spaces, tabs or line ends are allowed");
    flag(m, "OrderOfFaults", "another fault is reported first");
    flag(m, "TotalFromWeights",
         "a wrong total goes on from the sum of weights, not from what was written");
    flag(m, "StepsUncounted", "a missing or repeated thought is not noticed");
}

/* A prompt with the facts that the checker's tests speak of. */
static const char make_facts[] =
    "<q> c1 age:2 own:3 sim:- theirs:? gap:4 took:2 hist:4 genre:9 era:- "
    "shared:3 uknn:8 deep:- pop:2 meanr:? pred:1";

static cJSON *check_input(const char *output) {
    cJSON *in = json("{'codebook':'@book'}");
    cJSON_AddStringToObject(in, "prompt", make_facts);
    cJSON_AddStringToObject(in, "output", output);
    return in;
}

/* The teacher's trace of these facts, and its weights, which the tests change. */
static void make_right_trace(maker *m, char *text, size_t size) {
    cJSON *in = json("{'codebook':'@book','gumbel':0,'seed':'0x0','index':'0x0'}"), *out;
    cJSON_AddStringToObject(in, "prompt", make_facts);
    out = answer(m, "teacher", in);
    snprintf(text, size, "%s", vectors_string(out, "text"));
    cJSON_Delete(in);
    cJSON_Delete(out);
}

/* Tests of the outer shape, around the thoughts `right`, which have no fault. */
static void check_shapes(maker *m, const char *right) {
    static const char *const shape[][3] = {
        {"%s <answer> 4 </answer>", "", "right"},
        {"%s <answer> 0 </answer>", "", "right, the answer 0"},
        {"%s <answer> 6 </answer>", "LooseNumbers", "no such answer"},
        {"%s <answer> 12 </answer>", "LooseNumbers", "two digits"},
        {"%s <answer> +3 </answer>", "LooseNumbers", "a sign"},
        {"%s <answer> 3 4 </answer>", "SubstringAnswer", "two words"},
        {"%s <answer>3</answer>", "LooseSpaces SubstringAnswer", "tags that touch"},
        {"%s  <answer> 3 </answer>", "LooseSpaces", "two spaces"},
        {"%s <answer> 3 </answer> ", "LooseSpaces", "a space at the end"},
        {" %s <answer> 3 </answer>", "LooseSpaces", "a space at the beginning"},
        {"%s\n<answer> 3 </answer>", "LooseSpaces", "a line end"},
        {"%s <answer> 3", "SubstringAnswer", "cut off"},
        {"%s <answer>", "", "cut off before the answer"},
        {"%s", "", "no answer"},
        {"%s <answer> 3 </answer> <answer> 4 </answer>", "SubstringAnswer", "two answers"},
        {"%s <answer> 3 </answer> and more", "SubstringAnswer", "words behind"},
        {"so %s <answer> 3 </answer>", "SubstringAnswer", "a word in front"},
        {"%s so <answer> 3 </answer>", "SubstringAnswer", "a word between"},
        {"<answer> 3 </answer> %s", "OrderOfFaults", "the answer first"},
        {"%s <answer> 3 </answer> </think>", "OrderOfFaults", "a tag behind"},
        {"%s <answer> </answer>", "SubstringAnswer", "no word in the answer"},
        {"%s <answer> <answer> 3 </answer>", "OrderOfFaults", "the mark of the answer twice"},
        {"<think> %s <answer> 3 </answer>", "OrderOfFaults", "a tag twice"},
        {"%s <Answer> 3 </Answer>", "SubstringAnswer", "other letters"},
        {"%s The answer is 3.", "SubstringAnswer", "an answer in words"},
    };
    for (size_t k = 0; k < sizeof shape / sizeof *shape; ++k) {
        char text[800];
        const char *at = strstr(shape[k][0], "%s");
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - shape[k][0]), shape[k][0], right,
                 at + 2);
        valid(m, "check", shape[k][1], shape[k][2], check_input(text));
    }
}

/* Tests of the thoughts: the right ones with one place changed. */
static void check_thoughts(maker *m, const char *right) {
    static const char *const change[][4] = {
        {"genre:9", "genre:8", "", "a fact that the prompt does not have"},
        {"genre:9", "genre:99", "LooseNumbers", "a bucket that the codebook does not have"},
        {"genre:9", "age:2", "ChainFactsCited", "a fact of a chain"},
        {"pop:2", "meanr:?", "MaskedFactCited", "a masked fact"},
        {"pop:2", "c1", "ChainFactsCited", "the number of a chain"},
        {" =", " =+0", "LooseNumbers", "a total with a leading zero"},
        {" =", " ", "LooseNumbers", "a total without its sign of equality"},
        {"genre:9 ", "genre:9 +1 =+1 genre:9 ", "StepsUncounted OrderOfFaults", "a thought twice"},
        {"<think>", "<think> hist:4 +0 =+0", "StepsUncounted OrderOfFaults",
         "a fact more in the first thought"},
        {" </think>", " pop:2 </think>", "", "half a thought"},
        {" </think>", "", "", "no end of the thoughts"},
        {"</think>", "</THINK>", "", "other letters"},
        {"genre:9", "genre", "", "a fact without a bucket"},
    };
    for (size_t k = 0; k < sizeof change / sizeof *change; ++k) {
        char text[800];
        const char *at = strstr(right, change[k][0]);
        if (!at) stop("the right trace has no %s: %s", change[k][0], right);
        snprintf(text, sizeof text, "%.*s%s%s <answer> 4 </answer>", (int)(at - right), right,
                 change[k][1], at + strlen(change[k][0]));
        valid(m, "check", change[k][2], change[k][3], check_input(text));
    }
}

static void check_weights(maker *m) {
    static const char *const text[][3] = {
        {"<think> genre:9 +9 =+9 uknn:8 +9 =+18 pop:2 +9 =+24 </think> <answer> 1 </answer>",
         "TotalUnclipped OrderOfFaults", "weights of its own, totals that are clipped"},
        {"<think> genre:9 +9 =+9 uknn:8 +9 =+18 pop:2 +9 =+27 </think> <answer> 1 </answer>",
         "TotalUnclipped", "a total that is not clipped"},
        {"<think> genre:9 -1 =+5 uknn:8 +1 =+6 pop:2 +1 =+7 </think> <answer> 1 </answer>",
         "TotalFromWeights OrderOfFaults", "a wrong total, then right steps from it"},
        {"<think> genre:9 1 =+1 </think> <answer> 1 </answer>", "LooseNumbers",
         "a weight without sign"},
        {"<think> genre:9 -0 =+0 </think> <answer> 1 </answer>", "LooseNumbers", "minus zero"},
        {"<think> genre:9 +01 =+1 </think> <answer> 1 </answer>", "LooseNumbers", "a leading zero"},
        {"<think> genre:9 +1234 =+1 </think> <answer> 1 </answer>", "LooseNumbers", "four digits"},
        {"<think> uknn:8 +1 =+1 genre:9 +1 =+2 pop:2 +1 =+3 </think> <answer> 1 </answer>",
         "OrderOfFaults StepsUncounted", "thoughts in another order"},
        {"<think> genre:9 +1 =+1 pop:2 +1 =+2 </think> <answer> 1 </answer>", "StepsUncounted",
         "a thought is missing"},
        {"<think> </think> <answer> 1 </answer>", "", "no thoughts"},
        {"<answer> 1 </answer>", "OrderOfFaults", "an answer alone"},
        {"", "", "nothing"},
        {"Alien is great, 5 stars", "SubstringAnswer", "prose"},
        {"<think> nosuch:1 +1 =+2 genre:9 +9 =+9 </think> <answer> 3 <answer>", "OrderOfFaults",
         "many faults"},
        {"<think> genre:9 +4 =+4 pop:2 +9 =+13 </think> <answer> 1 </answer>", "StepsUncounted",
         "all weights right, a thought is missing"},
        {"<think> shared:3 +8 =+8 genre:9 +4 =+12 pop:2 +9 =+21 </think> <answer> 1 </answer>",
         "StepsUncounted", "all weights right, two thoughts in the other order"},
    };
    for (size_t k = 0; k < sizeof text / sizeof *text; ++k)
        valid(m, "check", text[k][1], text[k][2], check_input(text[k][0]));
}

static void make_teacher(maker *m) {
    static const char *const prompt[] = {make_facts, "<q> hist:4",
                                         "<q> c1 age:2 hist:- pop:10 pop:3 genre:1 c2:9",
                                         "hist:1 genre:1 era:- shared:1 uknn:1 deep:1 pop:1 "
                                         "meanr:1 pred:1 fresh:- trend:1 season:1 liked:1 link:1 "
                                         "rel:1 next:1 near3:1 near1:1 path:1 c1:1 c2:1",
                                         "hist:9 genre:9 shared:9 uknn:9 deep:9 pop:9 meanr:9 "
                                         "pred:9 trend:9 season:9 liked:9 link:9 rel:9 next:9 "
                                         "near3:9 near1:9 path:9 c1:9 c2:9"};
    for (size_t k = 0; k < sizeof prompt / sizeof *prompt; ++k)
        for (int j = 0; j < 5; ++j) {
            cJSON *in = json("{'codebook':'@%s','gumbel':%g,'seed':'0x%x','index':'0x%x'}",
                             j == 4 ? "loud" : "book", j % 4 * 0.7, j, 5 * j);
            cJSON_AddStringToObject(in, "prompt", prompt[k]);
            valid(m, "teacher",
                  j == 0   ? "SignedStrength ChainFactsCited"
                  : j == 4 ? "TotalUnclipped"
                           : "NoiseNotDrawn",
                  "the trace of a prompt", in);
        }
    invalid(m, "teacher", "", "nothing to cite",
            json("{'codebook':'@book','gumbel':0,'seed':'0x0','index':'0x0',"
                 "'prompt':'<q> c1 age:2 own:? pop:? hist:99 era:1'}"));
}

static cJSON *loud_codebook(void) {
    cJSON *book = invented_codebook(3), *field, *weight;
    cJSON_ArrayForEach(field, cJSON_GetObjectItemCaseSensitive(book, "weights"))
        cJSON_ArrayForEach(weight, field) cJSON_SetNumberValue(weight, 9);
    return book;
}

static void make_trace(maker *m) {
    char right[600];
    group_begin(m, "trace", "The rule-based teacher, and the strict checker.");
    trace_flags(m);
    share(m, "book", invented_codebook(3));
    share(m, "loud", loud_codebook());
    make_teacher(m);
    make_right_trace(m, right, sizeof right);
    check_shapes(m, right);
    check_thoughts(m, right);
    check_weights(m);
    group_end(m);
}

/* ---- tokens ---- */

static cJSON *sequence_input(r2_rng *rng, int n_prompt, int n_trace, int answer, bool reasoned) {
    cJSON *in = json("{'answer':%d,'reasoned':%s,'marks':{'think':1,'think_end':2,'answer':3,"
                     "'answer_end':4,'level':[5,6,7,8,9,10]}}",
                     answer, reasoned ? "true" : "false");
    cJSON *trace = cJSON_CreateArray();
    if (n_trace > 0) {
        cJSON_AddItemToArray(trace, cJSON_CreateNumber(1));
        for (int k = 0; k < n_trace; ++k)
            cJSON_AddItemToArray(trace, cJSON_CreateNumber(11 + below(rng, 20)));
        cJSON_AddItemToArray(trace, cJSON_CreateNumber(2));
    }
    return with(with(in, "prompt", random_ids(rng, n_prompt, 30)), "trace", trace);
}

static void make_token(maker *m) {
    static const char *const text[] = {"a b c",   "c", "", "  a b ", "ž \xf0\x9f\x98\x80 a",
                                       "3 33 a 3"};
    static const char *const bad[] = {"a  b", "d", "A", "a\tb", "ab", "é"};
    r2_rng rng = r2_rng_make(3, R2_STREAM_USER, 0);
    group_begin(m, "token", "Ids of words, and the tokens that training predicts.");
    flag(m, "EndOutsideLoss", "</answer> is not trained on");
    flag(m, "ThinkInsideLoss", "<think> is trained on");
    flag(m, "DirectMarkInsideLoss", "<answer> of a direct sequence is trained on");
    flag(m, "SplitOnAnyBlank", "several blanks separate as one, or other bytes separate");
    for (size_t k = 0; k < sizeof text / sizeof *text; ++k)
        valid(m, "encode", "", "words",
              json("{'words':['a','b','c','ž','\xf0\x9f\x98\x80','3','33'],'text':'%s'}", text[k]));
    for (size_t k = 0; k < sizeof bad / sizeof *bad; ++k) {
        cJSON *in = json("{'words':['a','b','c']}");
        cJSON_AddStringToObject(in, "text", bad[k]);
        invalid(m, "encode", "SplitOnAnyBlank", "a word that is not there", in);
    }
    for (int k = 0; k < 12; ++k)
        valid(m, "sequence", k % 2 ? "EndOutsideLoss ThinkInsideLoss" : "DirectMarkInsideLoss",
              k % 2 ? "a reasoned sequence" : "a direct sequence",
              sequence_input(&rng, 1 + k, k / 2 + 1, k % 6, k % 2 == 1));
    invalid(m, "sequence", "", "reasoned without a trace", sequence_input(&rng, 3, 0, 2, true));
    group_end(m);
}

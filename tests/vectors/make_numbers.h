/* make_numbers.h: groups rng and level. Part of make.c. */

static void rng_flags(maker *m) {
    flag(m, "KnownAnswer", "not Philox4x32-10: these are the known answers of Random123");
    flag(m, "KeyRaisedEarly", "the key is raised before the first round, not after each");
    flag(m, "LowWordFirst", "a 64-bit draw takes the low half first");
    flag(m, "StreamInKey", "the stream is not the second word of the counter");
    flag(m, "IndexTruncated", "only 32 bits of the index reach the counter");
    flag(m, "ModuloBias", "below(n) is a remainder, or rejects by another rule");
    flag(m, "OneIsADraw", "below(0) and below(1) consume a word");
    flag(m, "WideBelow", "below(n) for n of 2^32 and more draws one word, or does not reject");
    flag(m, "SineForCosine", "Box-Muller takes the other of its two values");
    flag(m, "ShuffleUpward", "the shuffle walks upward");
    flag(m, "HashIsAGenerator", "hash uses the key of the generators, without its mark");
    flag(m, "HashOfBytes", "FNV-1 in place of FNV-1a, or not of the UTF-8 bytes");
}

static cJSON *stream_input(uint64_t seed, int stream, uint64_t index) {
    return json("{'seed':'0x%llx','stream':%d,'index':'0x%llx'}", (unsigned long long)seed, stream,
                (unsigned long long)index);
}

static void make_philox(maker *m) {
    r2_rng rng = r2_rng_make(1, R2_STREAM_USER, 0);
    valid(m, "philox", "KnownAnswer", "zeros", json("{'counter':[0,0,0,0],'key':[0,0]}"));
    valid(m, "philox", "KnownAnswer KeyRaisedEarly", "ones",
          json("{'counter':[4294967295,4294967295,4294967295,4294967295],"
               "'key':[4294967295,4294967295]}"));
    valid(m, "philox", "KnownAnswer KeyRaisedEarly", "digits of pi",
          json("{'counter':[608135816,2242054355,320440878,57701188],"
               "'key':[2752067618,698298832]}"));
    for (int k = 0; k < 7; ++k) {
        uint32_t w[6];
        for (int j = 0; j < 6; ++j) w[j] = r2_rng_u32(&rng);
        valid(m, "philox", "KeyRaisedEarly", "any",
              json("{'counter':[%u,%u,%u,%u],'key':[%u,%u]}", w[0], w[1], w[2], w[3], w[4], w[5]));
    }
}

static void make_draws(maker *m) {
    static const char *const op[] = {"u32", "u64", "double", "normal", "gumbel"};
    static const char *const flags[] = {"StreamInKey IndexTruncated", "LowWordFirst",
                                        "LowWordFirst", "SineForCosine", "LowWordFirst"};
    for (int k = 0; k < 5; ++k)
        for (int j = 0; j < 5; ++j)
            valid(m, op[k], flags[k], "eleven draws of one generator",
                  with(stream_input((uint64_t)j * 0x100000001u +
                                        (uint64_t)(j == 4) * 0xfedcba9800000000u,
                                    2 * j % 10, (uint64_t)j << 33 | (uint64_t)j),
                       "n", cJSON_CreateNumber(11)));
}

static void below_test(maker *m, const char *flags, const char *about, uint64_t seed,
                       const char *bounds) {
    cJSON *in = stream_input(seed, R2_STREAM_NEGATIVES, seed);
    valid(m, "below", flags, about, with(in, "bounds", json("%s", bounds)));
}

static void make_below(maker *m) {
    for (uint64_t seed = 1; seed <= 4; ++seed) {
        below_test(m, "OneIsADraw", "zero and one draw nothing", seed,
                   "['0x0','0x1','0xa','0x1','0xa','0x0','0x64']");
        below_test(m, "ModuloBias", "small bounds", seed,
                   "['0x2','0x3','0x5','0x6','0x7','0xa','0x13','0x64','0x3e8','0x270f']");
        below_test(m, "ModuloBias", "bounds for which every second word or more is drawn again",
                   seed,
                   "['0xffffffff','0x80000001','0x80000001','0xc0000001','0x80000001','0xaaaaaaab',"
                   "'0x80000001','0x80000001','0x80000001']");
        below_test(m, "WideBelow", "bounds of 2^32 and more", seed,
                   "['0x100000000','0x100000001','0x8000000000000001','0x8000000000000001',"
                   "'0xffffffffffffffff','0x8000000000000001','0x2540be400']");
    }
}

static void make_orders(maker *m) {
    for (int n = 1; n <= 12; n += n < 5 ? 1 : 7)
        for (int epoch = 0; epoch < 2; ++epoch)
            valid(m, "shuffle", n > 2 ? "ShuffleUpward" : "", "the order of groups in an epoch",
                  json("{'n':%d,'seed':'0x%x','epoch':%d}", n, n + 3, epoch));
    for (int k = 1; k <= 8; ++k)
        valid(m, "distinct", "", "different numbers below a total",
              with(with(stream_input((uint64_t)k, R2_STREAM_CHAINS, 7), "total",
                        cJSON_CreateNumber(k < 5 ? k : 3 * k)),
                   "k", cJSON_CreateNumber(k < 5 ? k : k / 2)));
    invalid(m, "distinct", "", "more than there are",
            json("{'seed':'0x1','stream':3,'index':'0x0','total':3,'k':4}"));
}

static void make_hashes(maker *m) {
    static const char *const text[] = {"",   "a",      "foobar",           "Ann",
                                       "42", "Košice", "\xf0\x9f\x98\x80", "a b"};
    for (size_t k = 0; k < sizeof text / sizeof *text; ++k)
        valid(m, "fnv", "HashOfBytes", "64-bit FNV-1a", json("{'text':'%s'}", text[k]));
    for (unsigned k = 0; k < 8; ++k)
        valid(m, "hash", "HashIsAGenerator", "hash of a seed and two numbers",
              json("{'seed':'0x%llx','a':'0x%llx','b':'0x%llx'}",
                   (unsigned long long)(k & 4 ? 0x123456789abcdefu : k),
                   (unsigned long long)(k & 2 ? 0xfedcba9876543210u : k),
                   (unsigned long long)(k & 1 ? 0xffffffffffffffffu : k)));
}

static void make_rng(maker *m) {
    group_begin(m, "rng", "Random numbers: Philox4x32-10, draws, hashes.");
    rng_flags(m);
    tolerance(m, "normal", "values", 1e-15, 1e-14);
    tolerance(m, "gumbel", "values", 1e-15, 1e-14);
    make_philox(m);
    make_draws(m);
    make_below(m);
    make_orders(m);
    make_hashes(m);
    group_end(m);
}

static void make_level(maker *m) {
    static const char *const scale[] = {"0.5,'rating_max':5", "1,'rating_max':5",
                                        "0,'rating_max':100", "3,'rating_max':3"};
    group_begin(m, "level", "Answers 1 to 5 from ratings on any scale.");
    flag(m, "StarsAreLevels", "the rating itself is rounded, whatever its scale");
    flag(m, "HalfToEven", "halves are rounded to the even number");
    for (size_t k = 0; k < sizeof scale / sizeof *scale; ++k)
        for (int r = 0; r < 10; ++r) {
            const double rating = k == 2 ? r * 12.5 : (r + (k == 1)) * 0.5;
            valid(m, "level", k == 2 ? "StarsAreLevels HalfToEven" : "HalfToEven",
                  "a rating on a scale", json("{'rating':%g,'rating_min':%s}", rating, scale[k]));
        }
    valid(m, "level", "", "not a number", json("{'rating':'NaN','rating_min':1,'rating_max':5}"));
    group_end(m);
}

/* make_learning.h: groups loss and model. Part of make.c. */

static void loss_flags(maker *m) {
    flag(m, "PopulationStd",
         "the advantage divides by the population, not the sample standard deviation");
    flag(m, "StdEpsilon", "another number than 1e-6 is added to the standard deviation");
    flag(m, "RoundingIsSpread", "rewards that differ by rounding alone get advantages");
    flag(m, "RatioAlwaysOne", "the ratio is 1: old log-probabilities are ignored");
    flag(m, "ClipBothSides", "the clip acts whatever the sign of the advantage");
    flag(m, "RatioOverflows", "the log-ratio is not clamped");
    flag(m, "KlOtherEstimator",
         "KL is estimated by the log-ratio (k1) or its square (k2), not by k3");
    flag(m, "KlWithoutGradient", "KL counts in the loss and not in the gradient");
    flag(m, "MeanOfMeans", "the trace loss is a mean over sequences, not over tokens");
    flag(m, "StepsInLists", "groups that ask an earlier step have a list loss");
    flag(m, "ProbabilityOfZeroAlone", "the score is log-odds over the whole vocabulary");
    flag(m, "UnclippedOdds", "log-odds are not clipped to -27 .. 27");
    flag(m, "UnknownIsWrong", "an unknown answer is compared as if it were -1");
    flag(m, "FaithfulnessHalf", "a trace with a fault gets the whole share of its right facts");
    flag(m, "ConstantLength", "Dr. GRPO divides by the output's length");
    flag(m, "EqualRewardsKept", "DAPO keeps prompts whose outputs have equal rewards");
    flag(m, "DapoKl", "DAPO has a KL term");
    flag(m, "MissingScoreSkipped", "an output without a score is left out of the mean");
    flag(m, "WarmupFromZero", "the first step has learning rate 0");
}

static void make_scores(maker *m) {
    static const char *const logp[] = {
        "[-1,-2,-3,-2.5,-1.5,-4]",
        "[-0.001,-9,-9,-9,-9,-9]",
        "[-40,-1,-1,-2,-3,-4]",
        "['-Infinity',-1,-2,-3,-4,-5]",
        "[-1,'-Infinity','-Infinity','-Infinity','-Infinity','-Infinity']",
        "['-Infinity','-Infinity','-Infinity','-Infinity','-Infinity','-Infinity']",
        "[-3,-3,-3,-3,-3,-3]",
        "[-100,-101,-102,-103,-104,-105]",
        "[-5,-0.5,-30,-30,-30,-30]",
        "[-2,-30,-30,-30,-30,-0.5]"};
    for (size_t k = 0; k < sizeof logp / sizeof *logp; ++k)
        for (int kind = 0; kind < 2; ++kind)
            valid(m, "score", kind ? "" : "ProbabilityOfZeroAlone UnclippedOdds", "six answers",
                  json("{'kind':'%s','logp':%s}", kind ? "rating" : "log_odds", logp[k]));
    invalid(m, "score", "", "five answers", json("{'kind':'rating','logp':[-1,-1,-1,-1,-1]}"));
}

static void make_advantages(maker *m) {
    static const char *const rewards[] = {"[1,1,1,0,0,0,0,0]",
                                          "[0,1]",
                                          "[3]",
                                          "[2,2,2,2]",
                                          "[0.1,0.2,0.30000000000000004,0.1]",
                                          "[1.5,-2,0.25,8,8]",
                                          "[0.3,0.1,0.2]",
                                          "[1,1.0000000000000002,1]",
                                          "[1e-9,0,0]"};
    static const char *const variant[] = {"grpo",        "dr_grpo",         "dapo",
                                          "sample_1e-4", "population_1e-4", "leave_one_out"};
    for (size_t v = 0; v < sizeof variant / sizeof *variant; ++v)
        for (size_t k = 0; k < sizeof rewards / sizeof *rewards; ++k)
            valid(m, "advantages",
                  v        ? ""
                  : k == 7 ? "RoundingIsSpread"
                           : "PopulationStd StdEpsilon",
                  variant[v], json("{'variant':'%s','rewards':%s}", variant[v], rewards[k]));
}

static void policy_test(maker *m, const char *flags, const char *about, double logp, double old,
                        double ref, double advantage, double beta) {
    valid(m, "policy", flags, about,
          json("{'logp':%.17g,'logp_old':%.17g,'logp_ref':%.17g,'advantage':%.17g,'eps_low':0.2,"
               "'eps_high':0.28,'beta':%.17g}",
               logp, old, ref, advantage, beta));
}

static void make_policy(maker *m) {
    for (int k = -4; k <= 4; ++k)
        for (int sign = -1; sign <= 1; sign += 2)
            policy_test(m,
                        k ? "RatioAlwaysOne ClipBothSides" : "KlOtherEstimator KlWithoutGradient",
                        "ratios around the clip", -2.0 + 0.1 * k, -2.0, -2.2, sign * 1.25, 0.04);
    policy_test(m, "RatioOverflows", "a ratio that would overflow", -1.0, -2000.0, -1.0, -1.0, 0.0);
    policy_test(m, "RatioOverflows", "a ratio that would vanish", -2000.0, -1.0, -1.0, 1.0, 0.04);
    policy_test(m, "KlOtherEstimator KlWithoutGradient", "KL alone", -1.0, -1.0, -3.0, 0.0, 0.1);
    policy_test(m, "", "no advantage, no KL", -1.0, -1.5, -3.0, 0.0, 0.0);
}

static void make_rewards(maker *m) {
    static const char *const check[] = {
        "'verdict':'ok','answer':4,'cited':7,'right':7,'well_formed':true",
        "'verdict':'wrong weight','answer':2,'cited':7,'right':5,'well_formed':true",
        "'verdict':'malformed','answer':-1,'cited':0,'right':0,'well_formed':false",
        "'verdict':'unknown fact','answer':0,'cited':3,'right':0,'well_formed':true"};
    for (size_t k = 0; k < sizeof check / sizeof *check; ++k)
        for (int right = -1; right <= 5; right += 3)
            valid(m, "reward",
                  k == 1      ? "FaithfulnessHalf"
                  : right < 0 ? "UnknownIsWrong"
                              : "",
                  "a checked output",
                  json("{'weights':{'format':0.5,'accuracy':0.25,'rank':1,'faith':2},'check':{%s},"
                       "'right_answer':%d,'rank_share':0.625}",
                       check[k], right));
    valid(m, "rank_share", "MissingScoreSkipped", "two items, an output without an answer",
          json("{'scores':[[1,2,null],[0.5,-1,3]]}"));
    valid(m, "rank_share", "MissingScoreSkipped", "no output of the observed item has an answer",
          json("{'scores':[[null,null],[1,2],[-1,null]]}"));
    valid(m, "rank_share", "", "the observed item alone", json("{'scores':[[1,-2]]}"));
    valid(m, "rank_share", "", "five items, one output",
          json("{'scores':[[2.5],[1],[2.5],[-27],[27]]}"));
}

/* ---- supervised ---- */

static cJSON *sft_input(r2_rng *rng, int n, int group, const char *trace_lengths, bool steps) {
    cJSON *in = json("{'group':%d,'trace_weight':1.5,'list_weight':1}", group);
    cJSON *list = cJSON_AddArrayToObject(in, "sequences");
    for (int s = 0; s < n; ++s) {
        cJSON *one = json("{'answer':%d,'asks':%s}", s % group ? 0 : 1 + below(rng, 5),
                          steps && s / group == 0 ? "false" : "true");
        with(one, "levels", random_list(rng, 6, -6.0, -0.5));
        with(one, "trace",
             random_list(rng, trace_lengths[s % (int)strlen(trace_lengths)] - '0', -4.0, 0.0));
        cJSON_AddItemToArray(list, one);
    }
    return in;
}

static void make_sft(maker *m) {
    static const char *const lengths[] = {"0", "25", "9103", "1"};
    r2_rng rng = r2_rng_make(11, R2_STREAM_USER, 0);
    for (int k = 0; k < 4; ++k)
        for (int steps = 0; steps < 2; ++steps)
            valid(m, "sft",
                  k == 0  ? ""
                  : steps ? "StepsInLists MeanOfMeans"
                          : "MeanOfMeans",
                  "the three losses and their derivatives",
                  sft_input(&rng, 8, k == 3 ? 2 : 4, lengths[k], steps));
    valid(m, "sft", "", "groups of one", sft_input(&rng, 3, 1, "3", false));
    invalid(m, "sft", "", "not whole groups", sft_input(&rng, 5, 2, "3", false));
}

/* ---- GRPO ---- */

static cJSON *grpo_output(r2_rng *rng, double reward, int length) {
    cJSON *one = json("{'reward':%g}", reward), *logp = random_list(rng, length, -3.0, -0.1);
    cJSON *old = cJSON_CreateArray(), *ref = cJSON_CreateArray(), *value;
    cJSON_ArrayForEach(value, logp) {
        cJSON_AddItemToArray(old,
                             cJSON_CreateNumber(value->valuedouble + below(rng, 9) / 8.0 - 0.5));
        cJSON_AddItemToArray(ref,
                             cJSON_CreateNumber(value->valuedouble + below(rng, 9) / 16.0 - 0.25));
    }
    return with(with(with(one, "logp", logp), "logp_old", old), "logp_ref", ref);
}

static cJSON *grpo_input(r2_rng *rng, const char *variant, int n_prompts, int n_samples,
                         bool equal) {
    cJSON *in = json("{'variant':'%s','max_new':9,'eps_low':0.2,'eps_high':0.28,'beta':0.02}",
                     variant);
    cJSON *prompts = cJSON_AddArrayToObject(in, "prompts");
    for (int p = 0; p < n_prompts; ++p) {
        cJSON *row = cJSON_CreateArray();
        for (int s = 0; s < n_samples; ++s) {
            const int length = 1 + below(rng, 6);
            const double reward = equal && p == 0 ? 1.5 : below(rng, 7) / 2.0;
            cJSON_AddItemToArray(row, grpo_output(rng, reward, length));
        }
        cJSON_AddItemToArray(prompts, row);
    }
    return in;
}

static void make_grpo(maker *m) {
    static const char *const variant[] = {"grpo", "dr_grpo", "dapo"};
    static const char *const flags[] = {"RatioAlwaysOne PopulationStd KlWithoutGradient",
                                        "ConstantLength", "EqualRewardsKept DapoKl"};
    r2_rng rng = r2_rng_make(12, R2_STREAM_USER, 0);
    for (int v = 0; v < 3; ++v)
        for (int k = 0; k < 5; ++k)
            valid(m, "grpo", flags[v], "the derivatives of a step's objective",
                  grpo_input(&rng, variant[v], 1 + k % 3, k == 4 ? 1 : 2 + k, k >= 1));
    invalid(m, "grpo", "", "no such objective", grpo_input(&rng, "leave_one_out", 2, 2, false));
}

static void make_rates(maker *m) {
    static const int at[][3] = {{0, 100, 10},  {4, 100, 10},  {9, 100, 10},   {10, 100, 10},
                                {55, 100, 10}, {99, 100, 10}, {100, 100, 10}, {0, 100, 0},
                                {2, 5, 5},     {5, 5, 5},     {3, 2, 3}};
    for (size_t k = 0; k < sizeof at / sizeof *at; ++k)
        valid(m, "learning_rate", at[k][0] < at[k][2] ? "WarmupFromZero" : "", "of a step",
              json("{'step':%d,'total':%d,'warmup':%d,'peak':0.002,'floor':0.02}", at[k][0],
                   at[k][1], at[k][2]));
}

static void make_loss(maker *m) {
    static const char *const exact[][2] = {{"policy", "loss"},          {"policy", "dlogp"},
                                           {"policy", "ratio"},         {"policy", "kl"},
                                           {"reward", "reward"},        {"rank_share", "shares"},
                                           {"advantages", "advantages"}};
    group_begin(m, "loss", "Losses, advantages, rewards, objectives and their derivatives.");
    loss_flags(m);
    for (size_t k = 0; k < sizeof exact / sizeof *exact; ++k)
        tolerance(m, exact[k][0], exact[k][1], 1e-12, 1e-12);
    tolerance(m, "score", "score", 1e-6, 1e-6);
    tolerance(m, "sft", "answer_loss", 1e-7, 1e-6);
    tolerance(m, "sft", "trace_loss", 1e-7, 1e-6);
    tolerance(m, "sft", "list_loss", 1e-7, 1e-6);
    tolerance(m, "sft", "dlevels", 1e-7, 1e-6);
    tolerance(m, "sft", "dtrace", 1e-7, 1e-6);
    tolerance(m, "grpo", "advantages", 1e-12, 1e-12);
    tolerance(m, "grpo", "dlogp", 1e-9, 1e-6);
    tolerance(m, "grpo", "kl", 1e-9, 1e-6);
    tolerance(m, "grpo", "clipped", 1e-12, 0.0);
    tolerance(m, "grpo", "zero_variance_prompts", 1e-12, 0.0);
    tolerance(m, "learning_rate", "rate", 0.0, 1e-6);
    make_scores(m);
    make_advantages(m);
    make_policy(m);
    make_rewards(m);
    make_sft(m);
    make_grpo(m);
    make_rates(m);
    group_end(m);
}

/* ---- the model ---- */

static void model_flags(maker *m) {
    flag(m, "RopeInterleaved", "rotary positions turn neighbours, not halves");
    flag(m, "EpsilonOutsideRoot", "the epsilon of the norm is added outside the root");
    flag(m, "HeadsInterleaved", "query head h uses key head h mod G, not floor(h / (H / G))");
    flag(m, "SiluForgotten", "the gate is a sigmoid, without the factor");
    flag(m, "ScaleForgotten", "attention scores are not divided by sqrt(D)");
    flag(m, "UntiedInit", "weights added to the residual stream start as large as the others");
    flag(m, "NoBiasCorrection", "AdamW's moments are not corrected for starting at 0");
    flag(m, "DecayEverywhere", "weight decay acts on norms and biases");
    flag(m, "ClipEachTensor", "the gradient's norm is clipped tensor by tensor, or not at all");
    flag(m, "LoraScale", "the adapters are not scaled by alpha / rank");
    flag(m, "OneGenerator", "all samples share one generator");
    flag(m, "StopExcluded", "the stop tokens are not part of the output");
    flag(m, "TieToLast", "of equal logits the last id is taken");
}

/* Shapes: one head; grouped heads, biases, two layers; own head of one key head, a large epsilon. */
static const char *const make_shapes[] = {
    "{'n_vocab':11,'n_layer':1,'n_head':1,'n_kv_head':1,'d_model':8,'d_ff':12,'n_ctx':16,"
    "'rope_theta':10000,'norm_eps':1e-5,'init_std':0.4,'qkv_bias':false,'tied':true,'seed':'0x1'}",
    "{'n_vocab':13,'n_layer':2,'n_head':4,'n_kv_head':2,'d_model':16,'d_ff':12,'n_ctx':16,"
    "'rope_theta':100,'norm_eps':1e-5,'init_std':0.35,'qkv_bias':true,'tied':true,'seed':'0x2'}",
    "{'n_vocab':9,'n_layer':2,'n_head':2,'n_kv_head':1,'d_model':8,'d_ff':10,'n_ctx':16,"
    "'rope_theta':10000,'norm_eps':0.25,'init_std':0.5,'qkv_bias':false,'tied':false,'seed':'0x3'"
    "}"};
static const char *const make_names[] = {"@one_head", "@grouped", "@untied"};
static const int make_vocab[] = {11, 13, 9};

static cJSON *random_batch(r2_rng *rng, int shape) {
    cJSON *batch = cJSON_CreateObject(), *sequences = cJSON_AddArrayToObject(batch, "sequences");
    cJSON *predictions = cJSON_AddArrayToObject(batch, "predictions");
    for (int s = 0; s < 3; ++s) {
        const int length = 1 + below(rng, 8);
        cJSON_AddItemToArray(sequences, random_ids(rng, length, make_vocab[shape]));
        for (int k = 0; k < length; k += 1 + below(rng, 2))
            for (int j = 0; j <= below(rng, 3); ++j)
                cJSON_AddItemToArray(predictions,
                                     json("[%d,%d,%d]", s, k, below(rng, make_vocab[shape])));
    }
    return batch;
}

static cJSON *model_input(r2_rng *rng, int shape, bool with_dlogp) {
    cJSON *in = json("{'model':'%s'}", make_names[shape]), *batch = random_batch(rng, shape);
    const int n = cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(batch, "predictions"));
    with(in, "batch", batch);
    return with_dlogp ? with(in, "dlogp", random_list(rng, n, -1.0, 1.0)) : in;
}

static void make_passes(maker *m) {
    static const char *const flags[] = {"RopeInterleaved SiluForgotten ScaleForgotten",
                                        "RopeInterleaved HeadsInterleaved", "EpsilonOutsideRoot"};
    r2_rng rng = r2_rng_make(21, R2_STREAM_USER, 0);
    for (int shape = 0; shape < 3; ++shape) {
        valid(m, "init", "UntiedInit", "initial weights",
              json("{'model':'%s'}", make_names[shape]));
        for (int k = 0; k < 4; ++k)
            valid(m, "forward", flags[shape], "log-probabilities and entropies",
                  model_input(&rng, shape, false));
        for (int k = 0; k < 2; ++k)
            valid(m, "gradient", flags[shape], "the gradient of every tensor",
                  model_input(&rng, shape, true));
    }
    invalid(m, "forward", "", "a word that the model does not have",
            json("{'model':'@one_head','batch':{'sequences':[[1,11]],'predictions':[[0,0,1]]}}"));
    invalid(m, "forward", "", "more tokens than positions",
            json("{'model':'@one_head','batch':{'sequences':[[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]],"
                 "'predictions':[[0,0,1]]}}"));
    invalid(m, "forward", "", "a sequence without tokens",
            json("{'model':'@one_head','batch':{'sequences':[[]],'predictions':[]}}"));
}

static void make_training(maker *m) {
    r2_rng rng = r2_rng_make(22, R2_STREAM_USER, 0);
    for (int k = 0; k < 6; ++k) {
        cJSON *in = model_input(&rng, k % 3, false);
        with(in, "steps", cJSON_CreateNumber(k < 3 ? 1 : 10));
        with(in, "lr", cJSON_CreateNumber(0.01));
        with(in, "adamw",
             json("{'beta1':0.9,'beta2':0.95,'eps':1e-8,'decay':%g,'clip':%g}", k % 2 ? 0.5 : 0.0,
                  k == 1 ? 0.0 : 1.0));
        valid(m, "train",
              k % 2 ? "DecayEverywhere NoBiasCorrection" : "ClipEachTensor NoBiasCorrection",
              "steps of AdamW", in);
    }
}

/* Adapters of rank 2 on queries and the last projection. */
static cJSON *lora_factors(r2_rng *rng, int layers, int n_q, int n_down) {
    cJSON *all = cJSON_CreateObject();
    char name[32];
    for (int layer = 0; layer < layers; ++layer) {
        snprintf(name, sizeof name, "%d.Wq", layer);
        with(all, name, random_list(rng, n_q, -0.5, 0.5));
        snprintf(name, sizeof name, "%d.Wdown", layer);
        with(all, name, random_list(rng, n_down, -0.5, 0.5));
    }
    return all;
}

static void make_lora(maker *m) {
    r2_rng rng = r2_rng_make(23, R2_STREAM_USER, 0);
    for (int k = 0; k < 3; ++k) {
        cJSON *in = model_input(&rng, 1, true);
        with(in, "rank", cJSON_CreateNumber(2));
        with(in, "alpha", cJSON_CreateNumber(3 + k));
        with(in, "a", lora_factors(&rng, 2, 2 * 16, 2 * 12));
        with(in, "b", lora_factors(&rng, 2, 2 * 16, 2 * 16));
        valid(m, "lora", "LoraScale", "adapters and their gradients", in);
    }
}

static void make_generation(maker *m) {
    r2_rng rng = r2_rng_make(24, R2_STREAM_USER, 0);
    for (int k = 0; k < 10; ++k) {
        const int shape = k % 3;
        cJSON *in = json("{'model':'%s','n_samples':%d,'max_new':%d,'stop':%s,'temperature':%g,"
                         "'seed':'0x%x','watch':[1,2,0]}",
                         make_names[shape], k % 2 ? 3 : 1, k == 9 ? 0 : 7,
                         k % 4 == 3   ? "[3,3]"
                         : k % 4 == 2 ? "[5]"
                                      : "[]",
                         k % 2 ? 0.5 + 0.25 * k : 0.0, k + 1);
        cJSON *prompts = cJSON_AddArrayToObject(in, "prompts");
        for (int p = 0; p < 3; ++p)
            cJSON_AddItemToArray(prompts, random_ids(&rng, 1 + p, make_vocab[shape]));
        valid(m, "generate",
              k % 4 > 1 ? "StopExcluded"
              : k % 2   ? "OneGenerator"
                        : "",
              "continuations", in);
    }
    valid(
        m, "generate", "TieToLast", "equal logits: the lowest id",
        json(
            "{'model':'@zeros','prompts':[[1]],'n_samples':1,'max_new':3,'stop':[],'temperature':0,"
            "'seed':'0x1','watch':[0,1]}"));
    valid(m, "generate", "StopExcluded", "outputs that end with the stop token",
          json("{'model':'@one_head','prompts':[[1,2]],'n_samples':2,'max_new':3,'stop':[3],"
               "'temperature':1,'seed':'0x1','watch':[0]}"));
}

static void make_operations(maker *m) {
    r2_rng rng = r2_rng_make(25, R2_STREAM_USER, 0);
    valid(m, "rmsnorm", "EpsilonOutsideRoot", "by hand: 3 and 4",
          json("{'x':[3,4],'gain':[1,1],'eps':0}"));
    for (int k = 1; k <= 3; ++k) {
        cJSON *in = with(json("{'eps':%g}", k == 1 ? 1e-5 : 0.5), "x",
                         random_list(&rng, 3 * k, -2, 2));
        valid(m, "rmsnorm", "EpsilonOutsideRoot", "a row",
              with(in, "gain", random_list(&rng, 3 * k, 0, 2)));
        in = json("{'position':%d,'theta':%d}", 3 * k, k == 2 ? 10000 : 10);
        valid(m, "rope", k > 1 ? "RopeInterleaved" : "", "one head",
              with(in, "x", random_list(&rng, 2 * k, -2, 2)));
        in = with(cJSON_CreateObject(), "gate", random_list(&rng, 4, -4, 4));
        valid(m, "swiglu", "SiluForgotten", "four places",
              with(in, "up", random_list(&rng, 4, -4, 4)));
    }
}

static void make_model(maker *m) {
    static const char *const singles[][2] = {
        {"forward", "logp"},  {"forward", "entropy"}, {"init", "first"},
        {"generate", "logp"}, {"generate", "watch"},  {"rmsnorm", "y"},
        {"rope", "y"},        {"swiglu", "y"},        {"lora", "logp"}};
    group_begin(m, "model",
                "The decoder: initial weights, passes, gradients, AdamW, adapters, sampling.");
    model_flags(m);
    for (size_t k = 0; k < sizeof singles / sizeof *singles; ++k)
        tolerance(m, singles[k][0], singles[k][1], 5e-6, 5e-6);
    tolerance(m, "init", "sums", 1e-4, 1e-6);
    tolerance_tensor(m, "gradient", "gradient", 1e-6, 1e-5);
    tolerance_tensor(m, "lora", "da", 1e-6, 1e-5);
    tolerance_tensor(m, "lora", "db", 1e-6, 1e-5);
    tolerance(m, "train", "logp", 1e-4, 1e-4);
    tolerance(m, "train", "norms", 1e-5, 1e-4);
    for (int shape = 0; shape < 3; ++shape)
        share(m, make_names[shape] + 1, json("%s", make_shapes[shape]));
    share(m, "zeros", json("%s", make_shapes[0]));
    cJSON_SetNumberValue(cJSON_GetObjectItemCaseSensitive(
                             cJSON_GetObjectItemCaseSensitive(m->shared, "zeros"), "init_std"),
                         0.0);
    make_passes(m);
    make_training(m);
    make_lora(m);
    make_generation(m);
    make_operations(m);
    group_end(m);
}

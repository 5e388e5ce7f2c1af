/* make_run.h: group run: data/mini from ratings to metrics. Part of make.c. */

static void run_test(maker *m, const char *op, const char *variant, const char *about) {
    cJSON *in = json("{'run':'@mini'}");
    if (variant) cJSON_AddStringToObject(in, "variant", variant);
    valid(m, op, "", about, in);
}

static void make_run(maker *m) {
    static const char *const variant[] = {"grpo", "dr_grpo", "dapo"};
    static const char *const field[][2] = {
        {"sft", "losses"}, {"sft", "weights"},   {"sft", "first"},      {"grpo", "weights"},
        {"grpo", "steps"}, {"scores", "direct"}, {"scores", "reasoned"}};
    group_begin(m, "run", "data/mini from ratings to metrics.");
    tolerance(m, "evidence", "questions", 2e-6, 2e-5);
    tolerance(m, "evidence", "edges", 2e-6, 2e-5);
    for (size_t k = 0; k < sizeof field / sizeof *field; ++k)
        tolerance(m, field[k][0], field[k][1], 1e-4, 1e-3);
    share(m, "mini",
          json("{'data':'data/"
               "mini','seed':'0x1','n_groups':60,'n_cases':8,'min_history':5,'min_train':1,"
               "'sft_steps':20,'sft_groups':4,'grpo_steps':2,'grpo_groups':2,'grpo_samples':3,"
               "'model':{'n_layer':1,'n_head':2,'n_kv_head':1,'d_model':16,'d_ff':24}}"));
    run_test(m, "data", NULL, "split and candidates");
    run_test(m, "questions", NULL, "training questions");
    run_test(m, "evidence", NULL, "their evidence, the codebook");
    run_test(m, "prompts", NULL, "their prompts and traces");
    run_test(m, "sft", NULL, "weights after 1, 10 and all steps");
    for (int v = 0; v < 3; ++v)
        run_test(m, "grpo", variant[v], "two steps of reinforcement learning");
    run_test(m, "scores", NULL, "scores of the test candidates, metrics");
    group_end(m);
}

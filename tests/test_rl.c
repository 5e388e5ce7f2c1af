/* Reinforcement learning: advantages, the objective and its derivative, the reward, by hand; one
   whole step (rollouts, rewards, normalisers, gradient) a second time; that it learns. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#include "ratings.h"
#include "tiny.h"

/* ---- advantages ---- */

/* 3 wins in 8: mean 3/8, sample standard deviation sqrt(15/56). */
TEST(advantages_of_three_wins_in_eight) {
    const double reward[8] = {1, 1, 1, 0, 0, 0, 0, 0};
    double a[8], sum = 0.0;
    for (int variant = R2_GRPO; variant <= R2_DAPO; ++variant) {
        bool constant = variant == R2_DR_GRPO;
        r2_advantages((r2_rl_variant)variant, reward, 8, a);
        for (int k = 0; k < 8; ++k) {
            if (k < 3) CHECK_WITHIN(a[k], constant ? 0.625 : 1.207612, 5e-7);
            else CHECK_WITHIN(a[k], constant ? -0.375 : -0.724567, 5e-7);
            sum += a[k];
        }
        CHECK_WITHIN(sum, 0.0, 1e-12);
    }
}

TEST(equal_rewards_have_no_advantage) {
    double reward[7], a[7];
    for (int k = 0; k < 7; ++k) reward[k] = 0.1; /* seven times 0.1 / 7 is not 0.1 in binary */
    for (int variant = R2_GRPO; variant <= R2_DAPO; ++variant) {
        r2_advantages((r2_rl_variant)variant, reward, 7, a);
        for (int k = 0; k < 7; ++k) CHECK(a[k] == 0.0);
        r2_advantages((r2_rl_variant)variant, reward, 1, a);
        CHECK(a[0] == 0.0);
    }
}

/* ---- the objective of one token ---- */

/* -min(ratio A, clip(ratio) A) + beta KL, as it is written in the papers. */
static double objective(double logp, double old, double ref, double A, double low, double high,
                        double beta) {
    double ratio = exp(logp - old), clipped = fmin(fmax(ratio, 1.0 - low), 1.0 + high);
    return -fmin(ratio * A, clipped * A) + beta * (exp(ref - logp) - (ref - logp) - 1.0);
}

TEST(the_objective_and_its_derivative) {
    static const double ratio[] = {0.3, 0.79, 0.81, 1.0, 1.19, 1.21, 1.27, 1.29, 4.0};
    static const double advantage[] = {-1.7, -0.2, 0.0, 0.4, 2.0}, ref[] = {-3.0, -1.2, -0.1};
    const double logp = -1.2, low = 0.2, high = 0.28, h = 1e-6;
    for (int r = 0; r < 9; ++r)
        for (int a = 0; a < 5; ++a)
            for (int k = 0; k < 3; ++k) {
                double old = logp - log(ratio[r]), A = advantage[a];
                r2_policy_term t = r2_policy_loss(logp, old, ref[k], A, low, high, 0.1);
                double up = objective(logp + h, old, ref[k], A, low, high, 0.1);
                double down = objective(logp - h, old, ref[k], A, low, high, 0.1);
                CHECK_NEAR(t.loss, objective(logp, old, ref[k], A, low, high, 0.1), 1e-12);
                CHECK_WITHIN(t.dlogp, (up - down) / (2 * h), 1e-7);
                CHECK_NEAR(t.ratio, ratio[r], 1e-12);
                CHECK(t.clipped ==
                      ((A > 0 && ratio[r] > 1 + high) || (A < 0 && ratio[r] < 1 - low)));
                CHECK(t.kl >= 0.0);
            }
}

TEST(no_divergence_at_the_reference) {
    r2_policy_term t = r2_policy_loss(-0.7, -0.7, -0.7, 1.5, 0.2, 0.2, 0.5);
    CHECK(t.kl == 0.0 && t.ratio == 1.0 && !t.clipped);
    CHECK_NEAR(t.dlogp, -1.5, 1e-12); /* plain REINFORCE */
    CHECK_NEAR(t.loss, -1.5, 1e-12);
    t = r2_policy_loss(-1.0, -500.0, -900.0, -1.0, 0.2, 0.2, 0.1); /* far off: large, but finite */
    CHECK(isfinite(t.loss) && isfinite(t.dlogp) && isfinite(t.kl));
    t = r2_policy_loss(-900.0, -1.0, -1.0, 1.0, 0.2, 0.2, 0.1);
    CHECK(isfinite(t.loss) && isfinite(t.dlogp) && isfinite(t.kl));
}

/* ---- the reward ---- */

static double reward_of(const r2_reward_config *config, const r2_check *check, int32_t right_answer,
                        double rank_share) {
    r2_sample sample = {0, "", "", *check, right_answer, rank_share};
    return r2_reward(config, &sample);
}

TEST(rewards_by_hand) {
    r2_reward_config c = {0.5f, 0.25f, 2.0f, 4.0f}; /* format, accuracy, ranking, faith */
    r2_check good, bad;
    memset(&good, 0, sizeof good);
    good.verdict = R2_TRACE_OK;
    good.well_formed = true;
    good.answer = 3;
    good.n_cited = good.n_found = good.n_right = 4;
    CHECK_NEAR(reward_of(&c, &good, 3, 0.5), 0.5 + 0.25 + 1.0 + 4.0, 1e-9);
    CHECK_NEAR(reward_of(&c, &good, 5, 0.0), 0.5 + 0.25 * 0.6 + 4.0, 1e-9); /* two levels off */
    CHECK_NEAR(reward_of(&c, &good, 3, 0.0), 4.75, 1e-9);
    bad = good;
    bad.verdict = R2_TRACE_WRONG_WEIGHT;
    bad.n_right = 3; /* what is right counts, but never as much as a trace without fault */
    CHECK(reward_of(&c, &bad, 3, 0.0) < 4.75 && reward_of(&c, &bad, 3, 0.0) > 0.75);
    bad.n_right = 1;
    CHECK(reward_of(&c, &bad, 3, 0.0) > 0.75);
    c.w_format = c.w_rank = c.w_faith = 0.0f, c.w_accuracy = 1.0f;
    for (good.answer = 0; good.answer < R2_N_ANSWERS; ++good.answer) /* unknown: nobody is right */
        CHECK(reward_of(&c, &good, -1, 0.5) == 0.0);
    memset(&bad, 0, sizeof bad);
    bad.verdict = R2_TRACE_NO_ANSWER;
    bad.answer = -1;
    CHECK(reward_of(&c, &bad, 0, 0.0) == 0.0);
}

/* ---- one step, a second time ---- */

enum { SAMPLES = 4, MAX_TOKENS = 512 };

static r2_grpo_config small_grpo(const tiny *t) {
    r2_grpo_config c = r2_grpo_config_default();
    c.n_steps = 1;
    c.groups = 1;
    c.n_samples = SAMPLES;
    c.max_new = tiny_max_new(t);
    c.sft_weight = c.list_weight = 0.0f; /* rewards alone */
    c.lr = 0.0f; /* the weights stay, the gradient remains in the model */
    return c;
}

/* A model that mostly writes well formed outputs, but not always the same. */
static r2_status learn_the_shape(r2_ctx *ctx, tiny *t, int64_t n_steps) {
    r2_sft_config c = r2_sft_config_default();
    c.n_steps = n_steps;
    c.warmup = 5;
    c.groups = 1;
    c.reasoned_share = 1.0f;
    c.trace_weight = 2.0f;
    c.lr = 2e-2f;
    return r2_sft(ctx, &t->model, &t->ex, &c);
}

typedef struct sampled {
    int32_t token[MAX_TOKENS];
    int32_t n_prompt, n, answer_at; /* first generated token; all; place after <answer>, or -1 */
    int32_t right;
    double score, reward, advantage, yes[R2_N_ANSWERS]; /* shares of 1 .. 5 among themselves */
    r2_check trace;
} sampled;

/* What the first step must have sampled for the only group, prompt by prompt. */
static r2_status sample(r2_ctx *ctx, tiny *t, const r2_grpo_config *c, sampled *out) {
    r2_generate_config how = r2_generate_config_default();
    r2_generation gen;
    int64_t begin[TINY_GROUP + 1] = {0};
    int32_t prompt[TINY_GROUP * MAX_TOKENS];
    r2_status status;
    for (int e = 0; e < TINY_GROUP; ++e) {
        int64_t from = t->ex.prompt_begin[e], n = t->ex.prompt_begin[e + 1] - from;
        memcpy(prompt + begin[e], t->ex.prompt + from, (size_t)n * sizeof *prompt);
        prompt[begin[e] + n] = t->codec.markup.think.id[0];
        begin[e + 1] = begin[e] + n + 1;
    }
    how.n_samples = c->n_samples;
    how.max_new = c->max_new;
    how.stop = t->codec.markup.answer_end.id, how.n_stop = 1;
    how.temperature = c->temperature;
    how.seed = r2_hash(c->seed, 0, R2_STREAM_SAMPLE);
    status = r2_generate(ctx, &t->model, &how, TINY_GROUP, begin, prompt, &gen);
    for (int64_t o = 0; o < gen.n_out && status == R2_OK; ++o) {
        int64_t e = o / c->n_samples;
        sampled *s = &out[o];
        memset(s, 0, sizeof *s);
        s->n_prompt = s->n = (int32_t)(begin[e + 1] - begin[e]);
        memcpy(s->token, prompt + begin[e], (size_t)s->n * sizeof *prompt);
        s->right = t->ex.answer[e];
        s->answer_at = -1;
        for (int32_t k = 0; k < gen.length[o]; ++k) {
            if (k > 0 && s->token[s->n - 1] == t->codec.markup.answer.id[0] && s->answer_at < 0)
                s->answer_at = s->n;
            s->token[s->n++] = gen.token[o * gen.max_new + k];
        }
    }
    r2_generation_free(ctx, &gen);
    return status;
}

/* What is asked of one output: log p of its tokens, and of an answer in place of its own. */
typedef struct asked {
    int32_t row[MAX_TOKENS], want[MAX_TOKENS], n;
    float logp[MAX_TOKENS], weight[MAX_TOKENS];
} asked;

static void ask(asked *a, int32_t after, int32_t want, double weight) {
    a->row[a->n] = after - 1;
    a->want[a->n] = want;
    a->weight[a->n++] = (float)weight;
}

/* The log-probabilities; with `learn` also the gradient of the sum of weight * log p. */
static r2_status answer(r2_ctx *ctx, tiny *t, const sampled *s, asked *a, bool learn) {
    int32_t seq[2] = {0, s->n};
    r2_batch batch;
    r2_status status;
    memset(&batch, 0, sizeof batch);
    batch.n_seq = 1, batch.seq_begin = seq, batch.token = s->token;
    batch.n_pred = a->n, batch.pred_row = a->row, batch.pred_token = a->want;
    status = r2_forward(ctx, &t->model, &batch, a->logp, NULL);
    if (status == R2_OK && learn) status = r2_backward(ctx, &t->model, &batch, a->weight);
    return status;
}

/* Verdict and score of an output: log (1 - p(0)) / p(0) among the answers after its <answer>, NAN
   without one. */
static r2_status judge(r2_ctx *ctx, tiny *t, sampled *s) {
    r2_text prompt = {NULL, 0, 0, false}, output = {NULL, 0, 0, false};
    asked level;
    double yes = 0.0;
    r2_status status = r2_vocab_decode(ctx, &t->vocab, s->token, s->n_prompt - 1, &prompt);
    if (status == R2_OK)
        status = r2_vocab_decode(ctx, &t->vocab, s->token + s->n_prompt - 1, s->n - s->n_prompt + 1,
                                 &output);
    if (status == R2_OK) s->trace = r2_check_trace(&t->codebook, prompt.data, output.data);
    level.n = 0;
    s->score = NAN;
    for (int a = 0; a < R2_N_ANSWERS && s->answer_at >= 0; ++a)
        ask(&level, s->answer_at, t->codec.markup.level[a], 0.0);
    if (status == R2_OK && level.n) status = answer(ctx, t, s, &level, false);
    for (int a = 1; a < R2_N_ANSWERS && level.n; ++a) yes += exp((double)level.logp[a]);
    for (int a = 1; a < R2_N_ANSWERS && level.n; ++a) s->yes[a] = exp((double)level.logp[a]) / yes;
    if (level.n) s->score = log(yes) - (double)level.logp[0];
    r2_text_free(ctx, &prompt);
    r2_text_free(ctx, &output);
    return status;
}

static double mean_score(const sampled *group, int e) {
    double sum = 0.0;
    for (int k = 0; k < SAMPLES; ++k)
        if (!isnan(group[e * SAMPLES + k].score)) sum += group[e * SAMPLES + k].score;
    return sum / SAMPLES;
}

/* How surely the observed item's output beats the sampled items' mean scores, and a sampled item's
   stays below the observed one's: e^a / (e^a + e^b). */
static double rank_share(const sampled *group, int o) {
    double own = exp(group[o].score), won = 0.0, other = exp(mean_score(group, 0));
    if (isnan(own)) return 0.0;
    if (o >= SAMPLES) return other / (own + other);
    for (int e = 1; e < TINY_GROUP; ++e) won += own / (own + exp(mean_score(group, e)));
    return won / (TINY_GROUP - 1);
}

/* The derivative of the list loss by the log-odds of output o. In a list stand the outputs of the
   same number, one of each item; without one of the answers there is no list. */
static double list_slope(const sampled *group, int o, double weight) {
    double all = 0.0;
    for (int e = 0; e < TINY_GROUP; ++e) {
        double score = group[e * SAMPLES + o % SAMPLES].score;
        if (isnan(score)) return 0.0;
        all += exp(score);
    }
    return weight / SAMPLES * (exp(group[o].score) / all - (o < SAMPLES));
}

/* Share of the prompts whose outputs are all worth the same. */
static double share_without_variance(const sampled *out) {
    double n = 0.0;
    for (int e = 0; e < TINY_GROUP; ++e) {
        bool same = true;
        for (int k = 1; k < SAMPLES; ++k)
            same = same && out[e * SAMPLES + k].reward == out[e * SAMPLES].reward;
        n += same;
    }
    return n / TINY_GROUP;
}

/* The gradient of the objective at ratio 1: REINFORCE with the advantage, every token by itself. */
static r2_status reinforce(r2_ctx *ctx, tiny *t, const r2_grpo_config *c, sampled *out,
                           double *mean_reward) {
    int64_t n_out = TINY_GROUP * SAMPLES, kept = 0;
    r2_status status = R2_OK;
    *mean_reward = 0.0;
    for (int64_t o = 0; o < n_out && status == R2_OK; ++o) status = judge(ctx, t, &out[o]);
    for (int o = 0; o < n_out; ++o) {
        out[o].reward = reward_of(&c->reward, &out[o].trace, out[o].right, rank_share(out, o));
        *mean_reward += out[o].reward / (double)n_out;
    }
    for (int e = 0; e < TINY_GROUP; ++e) {
        double reward[SAMPLES], advantage[SAMPLES];
        for (int k = 0; k < SAMPLES; ++k) reward[k] = out[e * SAMPLES + k].reward;
        r2_advantages(c->variant, reward, SAMPLES, advantage);
        for (int k = 0; k < SAMPLES; ++k) {
            sampled *s = &out[e * SAMPLES + k];
            s->advantage = advantage[k];
            for (int j = 0; j < SAMPLES; ++j)
                if (reward[j] != reward[k]) { /* a group that has something to say */
                    kept += s->n - s->n_prompt;
                    break;
                }
        }
    }
    r2_zero_grad(ctx, &t->model);
    for (int64_t o = 0; o < n_out && status == R2_OK; ++o) {
        const sampled *s = &out[o];
        double length = (double)(s->n - s->n_prompt), norm = (double)n_out * length, slope;
        asked a;
        if (c->variant == R2_DR_GRPO) norm = (double)n_out * c->max_new;
        if (c->variant == R2_DAPO) norm = kept ? (double)kept : 1.0; /* none: all advantages 0 */
        a.n = 0;
        for (int32_t k = s->n_prompt; k < s->n; ++k) {
            ask(&a, k, s->token[k], -s->advantage / norm);
            if (k != s->answer_at) continue;
            ask(&a, k, t->codec.markup.level[s->right], -(double)c->sft_weight / (double)n_out);
            slope = list_slope(out, (int)o, (double)c->list_weight);
            ask(&a, k, t->codec.markup.level[0], -slope);
            for (int l = 1; l < R2_N_ANSWERS; ++l)
                ask(&a, k, t->codec.markup.level[l], slope * s->yes[l]);
        }
        status = answer(ctx, t, s, &a, true);
    }
    return status;
}

static void keep_report(void *hook_data, const r2_grpo_report *report) {
    ((r2_grpo_report *)hook_data)[report->step] = *report;
}

TEST(a_step_against_a_second_implementation) {
    static sampled out[TINY_GROUP * SAMPLES];
    r2_ctx ctx = r2_ctx_default();
    double none = 1.0, most = 0.0; /* lowest and highest share without variance */
    float *want;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 1));
    REQUIRE_OK(&ctx, learn_the_shape(&ctx, &t, 80));
    want = (float *)r2_alloc(&ctx, (uint64_t)t.model.n_params, sizeof *want);
    REQUIRE(want != NULL);
    for (int k = 0; k < 6; ++k) {
        r2_grpo_config c = small_grpo(&t);
        r2_grpo_report report;
        double mean_reward, well_formed = 0.0;
        c.variant = (r2_rl_variant)(k % 3);
        c.sft_weight = k < 3 ? 0.0f : 0.3f;
        c.list_weight = k % 2 ? 0.4f : 0.0f;
        c.seed = (uint64_t)k;
        c.reward.w_accuracy = 0.2f;
        if (k >= 3) /* some groups will be all right or all wrong: they have no variance */
            c.reward.w_accuracy = c.reward.w_rank = c.reward.w_faith = 0.0f;
        c.on_step = keep_report;
        c.on_step_data = &report;
        REQUIRE_OK(&ctx, sample(&ctx, &t, &c, out));
        REQUIRE_OK(&ctx, reinforce(&ctx, &t, &c, out, &mean_reward));
        memcpy(want, t.model.grad, (size_t)t.model.n_params * sizeof *want);
        REQUIRE_OK(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c));
        CHECK_NEAR(report.reward_mean, mean_reward, 1e-5);
        CHECK(report.kl == 0.0 && report.clipped_tokens == 0.0 && report.grad_norm > 0.0);
        CHECK_ARRAY_NEAR(t.model.grad, want, t.model.n_params, 1e-4);
        for (int o = 0; o < TINY_GROUP * SAMPLES; ++o)
            well_formed += out[o].trace.well_formed / (double)(TINY_GROUP * SAMPLES);
        CHECK_WITHIN(report.well_formed_outputs, well_formed, 1e-9);
        CHECK_WITHIN(report.zero_variance_prompts, share_without_variance(out), 1e-9);
        none = fmin(none, report.zero_variance_prompts);
        most = fmax(most, report.zero_variance_prompts);
    }
    CHECK(none == 0.0 && most > 0.0); /* both kinds of prompts were met */
    r2_release(&ctx, want);
    tiny_free(&ctx, &t);
}

/* ---- the loop ---- */

/* Rewarded for one thing only, it comes to do it: to write well formed outputs. */
TEST(the_reward_rises) {
    enum { STEPS = 60 };
    static r2_grpo_report report[STEPS];
    r2_ctx ctx = r2_ctx_default();
    double before = 0.0, after = 0.0, kl = 0.0;
    r2_grpo_config c;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 1));
    REQUIRE_OK(&ctx, learn_the_shape(&ctx, &t, 60));
    c = small_grpo(&t);
    c.n_steps = STEPS;
    c.n_samples = 6;
    c.lr = 3e-3f;
    c.reward.w_format = 1.0f;
    c.reward.w_accuracy = c.reward.w_rank = c.reward.w_faith = 0.0f;
    c.on_step = keep_report;
    c.on_step_data = report;
    REQUIRE_OK(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c));
    for (int k = 0; k < 8; ++k) {
        before += report[k].reward_mean / 8;
        after += report[STEPS - 1 - k].reward_mean / 8;
        kl += report[STEPS - 1 - k].kl;
    }
    CHECK(after > before + 0.2);
    CHECK(kl > 0.0 && report[0].kl == 0.0);
    CHECK_NEAR(report[3].reward_mean, report[3].well_formed_outputs, 1e-9);
    tiny_free(&ctx, &t);
}

/* A reward of one's own: it sees prompt, output and verdict as text, and may refuse. */
typedef struct strange_reward {
    const tiny *t;
    int64_t n_asked;
    int refuses; /* 1: a status, 2: a number that is none */
} strange_reward;

static r2_status words_of(r2_ctx *ctx, void *hook_data, const r2_sample *sample, double *reward) {
    strange_reward *r = (strange_reward *)hook_data;
    r2_check again = r2_check_trace(&r->t->codebook, sample->prompt, sample->output);
    if (r->refuses == 1) return r2_fail(ctx, R2_CANCELLED, "no judge today");
    CHECK(again.verdict == sample->check.verdict && again.answer == sample->check.answer);
    CHECK(!strncmp(sample->prompt, "<q> ", 4) && !strncmp(sample->output, "<think>", 7));
    CHECK_EQ_INT(sample->right_answer, r->t->ex.answer[sample->example]);
    CHECK(sample->rank_share >= 0.0 && sample->rank_share <= 1.0);
    *reward = r->refuses ? NAN : 0.0;
    for (const char *c = sample->output; *c && !r->refuses; ++c) *reward += *c == ' ';
    r->n_asked++;
    return R2_OK;
}

TEST(a_reward_of_the_callers) {
    r2_ctx ctx = r2_ctx_default();
    r2_grpo_report report;
    strange_reward r = {NULL, 0, 0};
    r2_grpo_config c;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 1));
    REQUIRE_OK(&ctx, learn_the_shape(&ctx, &t, 60));
    r.t = &t;
    c = small_grpo(&t);
    c.reward_fn = words_of, c.reward_data = &r;
    c.on_step = keep_report, c.on_step_data = &report;
    REQUIRE_OK(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c));
    CHECK_EQ_INT(r.n_asked, TINY_GROUP * SAMPLES);
    CHECK_NEAR(report.reward_mean, report.output_length, 1e-9); /* a blank before every token */
    r.refuses = 1;
    CHECK_STATUS(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c), R2_CANCELLED);
    CHECK(!strcmp(ctx.message, "no judge today"));
    r.refuses = 2;
    CHECK_STATUS(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c), R2_ARGUMENT);
    CHECK(strstr(ctx.message, "expected a finite number") != NULL);
    tiny_free(&ctx, &t);
}

/* The reference is the model as it comes in, whatever of it is in adapters. */
TEST(adapters_belong_to_the_reference) {
    r2_ctx ctx = r2_ctx_default();
    r2_lora_config lora = r2_lora_config_default();
    r2_grpo_report report;
    r2_grpo_config c;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 1));
    REQUIRE_OK(&ctx, learn_the_shape(&ctx, &t, 60));
    REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &t.model, &lora));
    for (int64_t i = 0; i < t.model.lora->n_params; ++i)
        t.model.lora->param[i] += (float)(i % 7 - 3) * 0.02f;
    c = small_grpo(&t);
    c.n_steps = 1;
    c.on_step = keep_report;
    c.on_step_data = &report;
    REQUIRE_OK(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c));
    CHECK(report.kl == 0.0);
    tiny_free(&ctx, &t);
}

/* With adapters the reference shares the frozen weights: a training takes less memory than they. */
TEST(the_reference_of_adapters_copies_no_weights) {
    r2_ctx ctx = r2_ctx_default();
    r2_lora_config lora = r2_lora_config_default();
    ratings_bytes b = {0, 0};
    r2_model_config shape;
    r2_grpo_config c;
    int64_t before;
    tiny t;
    ctx.realloc_fn = ratings_counted;
    ctx.hook_data = &b;
    REQUIRE(tiny_make(&ctx, &t, 1));
    shape = tiny_shape(&t);
    shape.d_model = 768;
    shape.d_ff = 128;
    shape.n_layer = 3;
    r2_model_free(&ctx, &t.model);
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &t.model, &shape, false));
    lora.rank = 1;
    lora.targets = 1u << R2_WO;
    REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &t.model, &lora));
    c = small_grpo(&t);
    c.n_steps = 1;
    c.max_new = 2;
    before = b.peak = b.now;
    REQUIRE_OK(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c));
    CHECK(b.peak - before < t.model.n_params * (int64_t)sizeof(float));
    tiny_free(&ctx, &t);
}

/* A second update on the same outputs is no longer at ratio 1: large steps are clipped. */
TEST(later_updates_meet_the_clip) {
    r2_ctx ctx = r2_ctx_default();
    r2_grpo_report report;
    r2_grpo_config c;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 1));
    REQUIRE_OK(&ctx, learn_the_shape(&ctx, &t, 60));
    c = small_grpo(&t);
    c.n_updates = 3;
    c.lr = 0.1f;
    c.on_step = keep_report;
    c.on_step_data = &report;
    REQUIRE_OK(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c));
    CHECK(report.clipped_tokens > 0.0 && report.clipped_tokens < 1.0 && report.kl > 0.0);
    tiny_free(&ctx, &t);
}

TEST(threads_do_not_change_the_weights) {
    r2_ctx ctx = r2_ctx_default();
    float *first;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 6));
    first = (float *)r2_alloc(&ctx, (uint64_t)t.model.n_params, sizeof *first);
    for (int k = 0; k < 3; ++k) {
        r2_grpo_config c = small_grpo(&t);
        r2_model_config shape = tiny_shape(&t);
        r2_model_free(&ctx, &t.model);
        REQUIRE_OK(&ctx, r2_model_init(&ctx, &t.model, &shape, true));
        c.n_steps = 3;
        c.groups = 4;
        c.n_updates = 2;
        c.lr = 1e-2f;
        ctx.n_threads = k == 0 ? 1 : k == 1 ? 2 : 8;
        REQUIRE_OK(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c));
        if (k == 0) memcpy(first, t.model.param, (size_t)t.model.n_params * sizeof *first);
        CHECK(!memcmp(first, t.model.param, (size_t)t.model.n_params * sizeof *first));
    }
    r2_release(&ctx, first);
    tiny_free(&ctx, &t);
}

static int stop_at_second(void *hook_data, const char *what, int64_t done, int64_t total) {
    (void)hook_data, (void)what, (void)total;
    return done >= 2;
}

TEST(learning_that_cannot_be) {
    r2_ctx ctx = r2_ctx_default();
    r2_examples unknown;
    r2_grpo_config c;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 2));
    for (int k = 0; k < 5; ++k) {
        c = small_grpo(&t);
        if (k == 0) c.groups = 0;
        if (k == 1) c.n_samples = 0;
        if (k == 2) c.n_samples = 65;
        if (k == 3) c.n_updates = 0;
        if (k == 4) c.max_new = 0;
        CHECK_STATUS(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c), R2_ARGUMENT);
    }
    c = small_grpo(&t), c.n_steps = 4;
    ctx.progress = stop_at_second;
    CHECK_STATUS(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c), R2_CANCELLED);
    ctx.progress = NULL;
    c.max_new = t.model.config.n_ctx; /* longer than the model can see */
    CHECK_STATUS(&ctx, r2_grpo(&ctx, &t.model, &t.ex, &c), R2_ARGUMENT);
    t.evidence[0].answer = -1; /* asked, not known */
    REQUIRE_OK(
        &ctx, tiny_examples(&ctx, &t, &unknown, TINY_GROUP, TINY_GROUP, NULL));
    c = small_grpo(&t);
    CHECK_STATUS(&ctx, r2_grpo(&ctx, &t.model, &unknown, &c), R2_ARGUMENT);
    r2_examples_free(&ctx, &unknown);
    tiny_free(&ctx, &t);
}

TEST(learning_survives_any_failed_allocation) {
    r2_ctx ctx = r2_ctx_default();
    ratings_memory memory = {0, 0};
    r2_status status = R2_NO_MEMORY;
    r2_ctx poor = ctx;
    tiny t;
    REQUIRE(tiny_make(&ctx, &t, 1));
    poor.realloc_fn = ratings_realloc;
    poor.hook_data = &memory;
    poor.n_threads = 1;
    for (int64_t room = 0; status != R2_OK && room < 5000; ++room) {
        r2_model_config shape = tiny_shape(&t);
        r2_grpo_config c = small_grpo(&t);
        r2_model model;
        memory.left = room;
        status = r2_model_init(&poor, &model, &shape, true);
        if (status == R2_OK) status = r2_grpo(&poor, &model, &t.ex, &c);
        r2_model_free(&poor, &model);
        if (!CHECK(status == R2_OK || status == R2_NO_MEMORY) || !CHECK_EQ_INT(memory.alive, 0))
            break;
    }
    CHECK_EQ_INT(status, R2_OK);
    tiny_free(&ctx, &t);
}

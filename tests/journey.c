/* The whole journey with a tiny model: load, chains, prompts, SFT, GRPO, greedy traces, ranking. `make
   reference` runs it with R2_REFERENCE, part one's plain loops alone; test_reference.sh compares what
   the plain loops and the fast engine compute.

       journey DATA            prints losses and metrics
       journey DATA FILE       also writes every number of theirs, one array a line
       journey compare A B     compares two such files: how far, and how far is allowed                 */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

static r2_ctx ctx;
static FILE *numbers; /* NULL: none are wanted */

static void need(r2_status status) {
    if (status == R2_OK) return;
    fprintf(stderr, "journey: %s\n", ctx.message);
    exit(1);
}

/* ---- what is written ---- */

static void write_array(const char *name, const float *value, int64_t n) {
    if (!numbers) return;
    fprintf(numbers, "%s %lld", name, (long long)n);
    for (int64_t i = 0; i < n; ++i) fprintf(numbers, " %.9g", (double)value[i]);
    fprintf(numbers, "\n");
}

static void write_tensors(const char *what, const r2_model *model, bool gradients) {
    char name[64];
    for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
        const r2_tensor *t = &model->tensor[id];
        for (int32_t l = 0; l < (t->per_layer ? model->config.n_layer : 1) && t->rows > 0; ++l) {
            const r2_tensor_id tensor = (r2_tensor_id)id;
            snprintf(name, sizeof name, "%s:%d:%s", what, l, t->name);
            write_array(name, gradients ? r2_gradient(model, tensor, l) : r2_weight(model, tensor, l),
                        t->rows * t->cols);
        }
    }
}

static void sft_step(void *hook_data, const r2_sft_report *report) {
    const float loss[] = {report->answer_loss, report->trace_loss, report->list_loss,
                          report->grad_norm};
    printf("%s step %2lld: loss of answers %.4f, of traces %.4f, of ranking %.4f\n", (const char *)hook_data,
           (long long)report->step, (double)loss[0], (double)loss[1], (double)loss[2]);
    write_array("loss", loss, 4);
}

static void grpo_step(void *hook_data, const r2_grpo_report *report) {
    const float value[] = {(float)report->reward_mean, (float)report->reward_std, (float)report->entropy,
                           (float)report->kl, (float)report->grad_norm};
    (void)hook_data;
    printf("GRPO step %lld: reward %.4f, entropy %.4f\n", (long long)report->step,
           report->reward_mean, report->entropy);
    write_array("grpo", value, 5);
}

/* ---- the journey ---- */

static r2_run_config small_run(void) {
    r2_run_config c = r2_run_config_default();
    c.n_groups = 100;
    c.n_cases = 20;
    c.n_negatives = 9;
    c.model.n_layer = 2;
    c.model.d_model = 16;
    c.model.d_ff = 24;
    c.model.n_head = 4;
    c.model.n_kv_head = 2; /* grouped queries and biases: every op takes part */
    c.model.qkv_bias = true;
    c.model.init_std = 0.1f;
    c.sft.n_steps = 20;
    c.sft.groups = 2;
    c.sft.lr = 1e-2f;
    c.sft.valid_every = 0;
    c.sft.on_step = sft_step;
    c.sft.on_step_data = (void *)(uintptr_t) "SFT";
    c.grpo.n_steps = 2;
    c.grpo.groups = 1;
    c.grpo.n_samples = 4;
    c.grpo.on_step = grpo_step;
    return c;
}

/* Gradients of -log p of every token of the first examples, prompts included. */
static void first_gradient(r2_run *run) {
    enum { EXAMPLES = 3 };
    const r2_examples *ex = &run->train;
    int32_t begin[EXAMPLES + 1] = {0}, n = 0, n_pred = 0;
    int32_t *token = (int32_t *)calloc((size_t)(EXAMPLES * ex->longest), sizeof *token);
    int32_t *row = (int32_t *)calloc((size_t)(EXAMPLES * ex->longest), sizeof *row);
    int32_t *wanted = (int32_t *)calloc((size_t)(EXAMPLES * ex->longest), sizeof *wanted);
    float *logp = (float *)calloc((size_t)(EXAMPLES * ex->longest), sizeof *logp);
    float *dlogp = (float *)calloc((size_t)(EXAMPLES * ex->longest), sizeof *dlogp);
    r2_batch batch;
    memset(&batch, 0, sizeof batch);
    for (int32_t e = 0; e < EXAMPLES; begin[++e] = n) {
        for (int64_t k = ex->prompt_begin[e]; k < ex->prompt_begin[e + 1]; ++k)
            token[n++] = ex->prompt[k];
        for (int64_t k = ex->trace_begin[e]; k < ex->trace_begin[e + 1]; ++k)
            token[n++] = ex->trace[k];
        for (int32_t r = begin[e]; r + 1 < n; ++r) {
            row[n_pred] = r;
            wanted[n_pred++] = token[r + 1];
        }
    }
    for (int32_t j = 0; j < n_pred; ++j) dlogp[j] = -1.0f / (float)n_pred;
    batch.n_seq = EXAMPLES;
    batch.seq_begin = begin;
    batch.token = token;
    batch.n_pred = n_pred;
    batch.pred_row = row;
    batch.pred_token = wanted;
    need(r2_forward(&ctx, &run->model, &batch, logp, NULL));
    r2_zero_grad(&ctx, &run->model);
    need(r2_backward(&ctx, &run->model, &batch, dlogp));
    write_array("logp", logp, n_pred);
    write_tensors("gradient", &run->model, true);
    free(token);
    free(row);
    free(wanted);
    free(logp);
    free(dlogp);
}

/* SFT of adapters on a copy of the untrained model. */
static void adapters(r2_run *run) {
    r2_lora_config lora = r2_lora_config_default();
    r2_sft_config sft = run->config.sft;
    r2_model model;
    sft.n_steps = 5;
    sft.on_step_data = (void *)(uintptr_t) "LoRA";
    need(r2_model_init(&ctx, &model, &run->model.config, false));
    need(r2_lora_attach(&ctx, &model, &lora));
    need(r2_sft(&ctx, &model, &run->train, &sft));
    write_array("adapters", model.lora->param, model.lora->n_params);
    r2_model_free(&ctx, &model);
}

/* GRPO on a copy of the untrained model, which is the same in both builds to the last bit: so are,
   but for rounding, the probabilities that its samples are drawn by. */
static void reinforcement(r2_run *run) {
    r2_model model;
    need(r2_model_init(&ctx, &model, &run->model.config, true));
    need(r2_grpo(&ctx, &model, &run->train, &run->config.grpo));
    r2_model_free(&ctx, &model);
}

/* Greedy traces of the first examples, with the log-probability of each token. */
static void traces(r2_run *run) {
    enum { PROMPTS = 10, NEW = 24 };
    r2_generate_config how = r2_generate_config_default();
    r2_generation out;
    how.temperature = 0.0f;
    how.max_new = NEW;
    how.stop = run->codec.markup.think_end.id;
    how.n_stop = run->codec.markup.think_end.n;
    need(r2_generate(&ctx, &run->model, &how, PROMPTS, run->train.prompt_begin, run->train.prompt,
                     &out));
    for (int64_t o = 0; o < out.n_out; ++o) {
        float pair[2 * NEW];
        for (int32_t t = 0; t < NEW; ++t) {
            pair[2 * t] = (float)out.token[o * NEW + t];
            pair[2 * t + 1] = out.logp[o * NEW + t];
        }
        write_array("trace", pair, 2 * NEW);
    }
    r2_generation_free(&ctx, &out);
}

static void ranking(r2_run *run, r2_mode mode, const char *name) {
    const int64_t n = run->test.n_cases * run->test.n_per_case;
    r2_score_config how = r2_score_config_default();
    r2_eval_config eval = r2_eval_config_default();
    float *score = (float *)calloc((size_t)n, sizeof *score);
    r2_metrics m;
    how.mode = mode;
    need(r2_run_score(&ctx, run, &run->test, &how, score, NULL));
    need(r2_evaluate(&ctx, score, run->test.n_cases, run->test.n_per_case, &eval, &m, NULL));
    printf("%s: HR@1 (1+%lld) %.3f, NDCG@5 %.3f, MRR %.3f\n", name,
           (long long)run->test.n_per_case - 1, m.hr1, m.ndcg5, m.mrr);
    {
        const float metric[] = {(float)m.hr1, (float)m.hr5, (float)m.ndcg5, (float)m.mrr, (float)m.auc};
        write_array(mode == R2_DIRECT ? "direct" : "reasoned", score, n);
        write_array("metrics", metric, 5);
    }
    free(score);
}

static void travel(const char *data) {
    const r2_run_config config = small_run();
    const double start = r2_seconds();
    r2_run run;
    need(r2_run_init(&ctx, &run, data, &config));
    first_gradient(&run);
    adapters(&run);
    reinforcement(&run);
    need(r2_run_sft(&ctx, &run));
    write_tensors("weight", &run.model, false);
    traces(&run);
    ranking(&run, R2_DIRECT, "direct");
    ranking(&run, R2_REASONED, "reasoned");
    r2_run_free(&ctx, &run);
#if defined(R2_REFERENCE)
    printf("plain loops: %.1f s\n", r2_seconds() - start);
#else
    printf("fast engine: %.1f s\n", r2_seconds() - start);
#endif
}

/* ---- comparison ---- */

/* How far apart two arrays of a kind may be: norm of the difference over norm of the reference. The
   engine sums in float and in the order of its vectors, the plain loops in double: 1e-7 a sum, about
   1e-6 in the end of both passes. AdamW divides each element by the size of its gradient, so that
   one whose gradient is rounding moves by as much as the others, either way: what follows from
   trained weights gets ten times the room. Measured: 1e-6 for gradients and weights, less for the
   rest. Metrics are discrete: a near tie may fall the other way and move them by one case of 20. */
typedef struct allowance {
    const char *name;
    double relative, worst;
} allowance;

static allowance allowances[] = {{"logp", 1e-6, 0},   {"gradient", 1e-5, 0}, {"loss", 1e-5, 0},
                                 {"grpo", 1e-4, 0},   {"adapters", 1e-4, 0}, {"weight", 1e-4, 0},
                                 {"trace", 1e-4, 0},  {"direct", 1e-4, 0},   {"reasoned", 1e-4, 0},
                                 {"metrics", 0.05, 0}};
enum { N_ALLOWANCES = sizeof allowances / sizeof *allowances };

typedef struct line {
    char name[64];
    int n;
    float value[1 << 16];
} line;

static bool read_line(FILE *file, line *l) {
    if (fscanf(file, "%63s %d", l->name, &l->n) != 2 || l->n < 0 || l->n > 1 << 16) return false;
    for (int i = 0; i < l->n; ++i)
        if (fscanf(file, "%f", &l->value[i]) != 1) return false;
    return true;
}

/* Pairs (token, log-probability): the tokens must be the same up to one at which both builds found
   theirs equally probable; from there on the outputs are about different things. */
static double trace_distance(const line *a, const line *b) {
    double off = 0.0;
    for (int i = 0; i + 1 < a->n; i += 2) {
        const double d = fabs((double)a->value[i + 1] - (double)b->value[i + 1]);
        off = d > off ? d : off;
        if (a->value[i] != b->value[i]) break;
    }
    return off;
}

static double distance(const line *a, const line *b) {
    double off = 0.0, norm = 0.0;
    if (a->n != b->n || strcmp(a->name, b->name) != 0) return INFINITY;
    if (strcmp(a->name, "trace") == 0) return trace_distance(a, b);
    for (int i = 0; i < a->n; ++i) {
        const double d = (double)a->value[i] - (double)b->value[i];
        off += d * d;
        norm += (double)b->value[i] * (double)b->value[i];
    }
    return off == 0.0 ? 0.0 : sqrt(off / norm);
}

/* Prints the largest distance of each kind; 0 when all are allowed. */
static int compare(const char *path_a, const char *path_b) {
    static line a, b;
    FILE *file_a = fopen(path_a, "r"), *file_b = fopen(path_b, "r");
    int wrong = 0, n_lines = 0;
    if (!file_a || !file_b) return 1;
    while (read_line(file_a, &a)) {
        const bool both = read_line(file_b, &b);
        const double off = both ? distance(&a, &b) : INFINITY;
        allowance *allowed = NULL;
        for (int k = 0; k < N_ALLOWANCES; ++k)
            if (strncmp(a.name, allowances[k].name, strcspn(a.name, ":")) == 0)
                allowed = &allowances[k];
        if (!allowed || !(off <= allowed->relative)) {
            printf("%s is off by %.3g\n", a.name, off);
            ++wrong;
        }
        if (allowed && off > allowed->worst) allowed->worst = off;
        ++n_lines;
    }
    if (read_line(file_b, &b)) ++wrong;
    fclose(file_a);
    fclose(file_b);
    for (int k = 0; k < N_ALLOWANCES; ++k)
        printf("%-9s %.1e of %.0e allowed\n", allowances[k].name, allowances[k].worst,
               allowances[k].relative);
    printf("%d arrays, %d wrong\n", n_lines, wrong);
    return wrong > 0 || n_lines < 50;
}

int main(int argc, char **argv) {
    if (argc == 4 && strcmp(argv[1], "compare") == 0) return compare(argv[2], argv[3]);
    if (argc < 2 || argc > 3) return 2;
    ctx = r2_ctx_default();
    if (argc == 3) {
        numbers = fopen(argv[2], "w");
        if (!numbers) {
            fprintf(stderr, "journey: %s cannot be written\n", argv[2]);
            return 1;
        }
    }
    travel(argv[1]);
    if (numbers && fclose(numbers) != 0) return 1;
    return 0;
}

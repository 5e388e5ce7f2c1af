/* The engine's side of tests/bench/bench_engine.py: a line in asks for one measurement, a line out
   has its result. What is measured:

       peak                 GFLOP/s of fused multiply-adds in registers, on all threads
       bandwidth            GB/s of reading memory, on all threads
       matmul L M N K       seconds of one product, layout L (0 NT, 1 NN, 2 TN)
       train NAME LORA      seconds of one step of the model NAME (small, big), LORA 0 or 1
       decode B             seconds of 64 positions of B outputs of the 15 M model
       read                 seconds of reading its weights 64 times, and nothing else
       prefill              seconds of 256 rows of the 15 M model
       memory               most bytes of memory ever resident                                      */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

static r2_ctx ctx;

static float *numbers(int64_t n) {
    float *x = (float *)r2_alloc(&ctx, (uint64_t)n, sizeof *x);
    for (int64_t i = 0; x && i < n; ++i) x[i] = (float)(i * 7919 % 1000) * 1e-3f - 0.5f;
    return x;
}

/* 10 independent chains: more than latency times throughput needs, fewer than the registers. */
static double peak(void) {
    enum { CHAINS = 10, ROUNDS = 4000000 };
    float result[64] = {0};
    const double start = r2_seconds();
    R2_PARALLEL_FOR(ctx.n_threads, t, ctx.n_threads) {
        r2__vec acc[CHAINS], a = r2__all(0.999f), b = r2__all(1e-3f);
        R2__UNROLL
        for (int i = 0; i < CHAINS; ++i) acc[i] = r2__all((float)i);
        for (int64_t round = 0; round < ROUNDS; ++round) {
            R2__UNROLL
            for (int i = 0; i < CHAINS; ++i) acc[i] = R2__FMA(acc[i], a, b);
        }
        for (int i = 1; i < CHAINS; ++i) acc[0] = acc[0] + acc[i];
        result[t % 64] = r2__sum(acc[0]);
    }
    if (result[0] < 0.0f) puts("never"); /* the sums are wanted */
    return 2e-9 * CHAINS * ROUNDS * R2__LANES * ctx.n_threads / (r2_seconds() - start);
}

/* Seconds of reading n numbers, on all threads. */
static double reading(const float *x, int64_t n) {
    float result[64] = {0};
    const double start = r2_seconds();
    R2_PARALLEL_FOR(ctx.n_threads, t, ctx.n_threads) {
        r2__range part = r2__share(n, 4 * R2__LANES, t, ctx.n_threads);
        r2__vec sum[4] = {r2__zero(), r2__zero(), r2__zero(), r2__zero()};
        for (int64_t i = part.begin; i < part.end; i += 4 * R2__LANES)
            for (int k = 0; k < 4; ++k) sum[k] = sum[k] + r2__load(x + i + k * R2__LANES);
        result[t % 64] = r2__sum(sum[0] + sum[1] + sum[2] + sum[3]);
    }
    if (result[0] == 12345.0f) puts("never");
    return r2_seconds() - start;
}

static double bandwidth(void) {
    const int64_t n = (int64_t)1 << 26; /* 256 MB: beyond every cache */
    static float *x = NULL;
    if (!x) x = numbers(n);
    return 4e-9 * (double)n / reading(x, n);
}

static double matmul(int layout, int64_t M, int64_t N, int64_t K) {
    float *a = numbers(M * K), *b = numbers(N * K), *c = numbers(M * N);
    const int64_t repeats = 1 + (int64_t)4e9 / (M * N * K); /* 40 ms and more */
    double start = 0.0;
    for (int64_t i = -1; i < repeats; ++i) {
        if (i == 0) start = r2_seconds(); /* the first warms the caches up */
        r2_matmul(&ctx, (r2_layout)layout, M, N, K, a, layout == R2_TN ? M : K, b,
                  layout == R2_NT ? K : N, c, N, false);
    }
    start = (r2_seconds() - start) / (double)repeats;
    r2_release(&ctx, a);
    r2_release(&ctx, b);
    r2_release(&ctx, c);
    return start;
}

typedef struct trainee {
    r2_model model;
    r2_adamw opt;
    r2_batch batch;
    int32_t *begin, *token, *row;
    float *logp, *dlogp;
    bool ready;
} trainee;

static void make_trainee(trainee *t, bool big, bool lora) {
    enum { SEQS = 8, LENGTH = 256, ROWS = SEQS * LENGTH };
    r2_model_config c = r2_model_config_default();
    r2_adamw_config adamw = r2_adamw_config_default();
    r2_lora_config adapters = r2_lora_config_default();
    c.n_vocab = 4096;
    c.n_ctx = LENGTH;
    c.n_layer = big ? 6 : 4;
    c.n_head = c.n_kv_head = big ? 6 : 4;
    c.d_model = big ? 384 : 128;
    c.d_ff = big ? 1024 : 352;
    r2_model_init(&ctx, &t->model, &c, !lora);
    if (lora) r2_lora_attach(&ctx, &t->model, &adapters);
    r2_adamw_init(&ctx, &t->opt, &t->model, &adamw);
    t->begin = (int32_t *)r2_alloc(&ctx, SEQS + 1, sizeof(int32_t));
    t->token = (int32_t *)r2_alloc(&ctx, ROWS + 1, sizeof(int32_t));
    t->row = (int32_t *)r2_alloc(&ctx, ROWS, sizeof(int32_t));
    t->logp = numbers(ROWS);
    t->dlogp = numbers(ROWS);
    for (int32_t s = 0; s <= SEQS; ++s) t->begin[s] = s * LENGTH;
    for (int32_t r = 0; r <= ROWS; ++r) t->token[r] = (int32_t)((int64_t)r * 7919 % 4096);
    for (int32_t r = 0; r < ROWS; ++r) {
        t->row[r] = r;
        t->dlogp[r] = -1.0f / ROWS;
    }
    t->batch.n_seq = SEQS;
    t->batch.seq_begin = t->begin;
    t->batch.token = t->token;
    t->batch.n_pred = ROWS;
    t->batch.pred_row = t->row;
    t->batch.pred_token = t->token + 1;
    t->batch.branch = NULL;
    t->ready = true;
}

/* Forward, backward and AdamW of 8 sequences of 256 tokens, every position predicted. */
static double train(trainee *t) {
    const double start = r2_seconds();
    r2_forward(&ctx, &t->model, &t->batch, t->logp, NULL);
    r2_zero_grad(&ctx, &t->model);
    r2_backward(&ctx, &t->model, &t->batch, t->dlogp);
    r2_adamw_step(&ctx, &t->opt, &t->model, 1e-3f, NULL);
    return r2_seconds() - start;
}

static r2_model *decoder(void) {
    static r2_model model;
    r2_model_config c = r2_model_config_default();
    if (model.param) return &model;
    c.n_vocab = 32000;
    c.n_layer = c.n_head = c.n_kv_head = 6;
    c.d_model = 288;
    c.d_ff = 768;
    c.n_ctx = 272;
    r2_model_init(&ctx, &model, &c, false);
    return &model;
}

/* What no decoder can beat that reads its weights once a token. */
static double read_weights(void) {
    const r2_model *model = decoder();
    double seconds = 0.0;
    for (int token = 0; token < 64; ++token)
        seconds += reading(model->param, model->n_params / (4 * R2__LANES) * (4 * R2__LANES));
    return seconds;
}

static double generate(int64_t outputs, int64_t rows, int32_t max_new) {
    int32_t token[512];
    int64_t begin[512];
    r2_generate_config how = r2_generate_config_default();
    r2_generation out;
    double start;
    for (int32_t i = 0; i < 512; ++i) token[i] = i * 61;
    for (int64_t p = 0; p <= outputs; ++p) begin[p] = p * rows;
    how.temperature = 0.0f;
    how.max_new = max_new;
    decoder();
    start = r2_seconds();
    if (r2_generate(&ctx, decoder(), &how, outputs, begin, token, &out) != R2_OK) return NAN;
    r2_generation_free(&ctx, &out);
    return r2_seconds() - start;
}

/* Of Linux alone; getrusage would count the process that started this one. */
static double memory(void) {
    char line[128];
    double kilobytes = NAN;
    FILE *file = fopen("/proc/self/status", "r");
    while (file && fgets(line, sizeof line, file))
        if (strncmp(line, "VmHWM:", 6) == 0) kilobytes = strtod(line + 6, NULL);
    if (file) fclose(file);
    return kilobytes * 1024.0;
}

int main(int argc, char **argv) {
    static trainee trainees[2][2];
    char line[128], name[32];
    int a, b, c, d;
    ctx = r2_ctx_default();
    if (argc > 1) ctx.n_threads = atoi(argv[1]);
    while (fgets(line, sizeof line, stdin)) {
        double result = NAN;
        if (strncmp(line, "peak", 4) == 0) result = peak();
        if (strncmp(line, "bandwidth", 9) == 0) result = bandwidth();
        if (strncmp(line, "memory", 6) == 0) result = memory();
        if (sscanf(line, "matmul %d %d %d %d", &a, &b, &c, &d) == 4) result = matmul(a, b, c, d);
        if (sscanf(line, "train %31s %d", name, &a) == 2) {
            trainee *t = &trainees[strcmp(name, "big") == 0][a != 0];
            if (!t->ready) make_trainee(t, strcmp(name, "big") == 0, a != 0);
            result = train(t);
        }
        if (sscanf(line, "decode %d", &a) == 1) result = generate(a, 1, 64);
        if (strncmp(line, "read", 4) == 0) result = read_weights();
        if (strncmp(line, "prefill", 7) == 0) result = generate(1, 256, 0);
        printf("%.9g\n", result);
        fflush(stdout);
    }
    return 0;
}

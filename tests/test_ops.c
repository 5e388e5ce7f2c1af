/* The ops: each fast one of [E4] against the plain loops of [M7], [M4] and [E6] on odd shapes, each gradient
   against finite differences of a forward written here in double, and the same bits for any number
   of threads. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#include "ratings.h"

#define MOST 100000

static float buffer[16][MOST]; /* inputs and outputs of the kernel under test */

static void fill(float *x, int64_t n, uint64_t seed) {
    r2_rng rng = r2_rng_make(seed, R2_STREAM_USER, 0);
    for (int64_t i = 0; i < n; ++i) x[i] = (float)r2_rng_normal(&rng);
}

/* Norm of the difference over norm of what is wanted; infinite when that is zero or anything NaN. */
static double distance(const float *got, const double *want, int64_t n) {
    double off = 0.0, norm = 0.0;
    for (int64_t i = 0; i < n; ++i) {
        off += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        norm += want[i] * want[i];
    }
    return norm > 0.0 && off == off ? sqrt(off / norm) : INFINITY;
}

static r2_ctx context(int threads) {
    r2_ctx ctx = r2_ctx_default();
    ctx.n_threads = threads;
    return ctx;
}

/* ---- fast against plain ---- */

static void compare_matmul(r2_layout layout, int64_t M, int64_t N, int64_t K, bool add, int64_t gap) {
    const r2_ctx ctx = context(2);
    const int64_t lda = (layout == R2_TN ? M : K) + gap, ldb = (layout == R2_NT ? K : N) + gap;
    const int64_t rows_a = layout == R2_TN ? K : M, rows_b = layout == R2_NT ? N : K;
    float *a = (float *)malloc((size_t)(rows_a * lda + 1) * sizeof *a);
    float *b = (float *)malloc((size_t)(rows_b * ldb + 1) * sizeof *b);
    float *c = (float *)malloc((size_t)(M * (N + gap)) * sizeof *c);
    float *d = (float *)malloc((size_t)(M * (N + gap)) * sizeof *d);
    fill(a, rows_a * lda, 1);
    fill(b, rows_b * ldb, 2);
    fill(c, M * (N + gap), 3);
    memcpy(d, c, (size_t)(M * (N + gap)) * sizeof *d);
    r2_matmul(&ctx, layout, M, N, K, a, lda, b, ldb, c, N + gap, add);
    r2_matmul_plain(&ctx, layout, M, N, K, a, lda, b, ldb, d, N + gap, add);
    if (!CHECK_ARRAY_NEAR(c, d, M * (N + gap), 2e-6)) /* the gap is compared: nothing spills */
        printf("  layout %d, %d x %d x %d\n", (int)layout, (int)M, (int)N, (int)K);
    free(a);
    free(b);
    free(c);
    free(d);
}

TEST(matmul_is_its_plain_loop) {
    const int64_t shape[][3] = {{1, 1, 1},     {1, 17, 5},   {2, 3, 0},    {3, 31, 64},
                                {5, 33, 193},  {12, 32, 7},  {13, 65, 97}, {23, 16, 31},
                                {64, 48, 385}, {100, 1, 50}, {7, 130, 1},  {49, 200, 2},
                                {201, 7, 250}, {40, 230, 70}};
    for (size_t s = 0; s < sizeof shape / sizeof *shape; ++s)
        for (int layout = 0; layout < 3; ++layout)
            for (int variant = 0; variant < 3; ++variant)
                compare_matmul((r2_layout)layout, shape[s][0], shape[s][1], shape[s][2], variant > 0,
                               variant == 2 ? 3 : 0);
    compare_matmul(R2_NN, 30, 20, 1024, false, 0); /* rows a page apart: a is copied */
    compare_matmul(R2_NT, 26, 1025, 130, false, 0);
    for (int add = 0; add < 2; ++add) /* so deep that few rows are packed in several parts */
        compare_matmul(R2_NT, 20, 37, 1600, add > 0, 0);
}

TEST(rmsnorm_is_its_plain_loop) {
    const r2_ctx ctx = context(2);
    const int64_t shape[][2] = {{1, 1}, {3, 5}, {7, 16}, {300, 33}, {50, 96}};
    for (size_t s = 0; s < sizeof shape / sizeof *shape; ++s) {
        const int64_t R = shape[s][0], C = shape[s][1];
        float *x = buffer[0], *g = buffer[1], *dy = buffer[2], *y = buffer[3], *rstd = buffer[4];
        fill(x, R * C, 4);
        fill(g, C, 5);
        fill(dy, R * C, 6);
        r2_rmsnorm_fwd(&ctx, y, rstd, x, g, R, C, 1e-5f);
        r2_rmsnorm_fwd_plain(&ctx, buffer[5], buffer[6], x, g, R, C, 1e-5f);
        CHECK_ARRAY_NEAR(y, buffer[5], R * C, 1e-6);
        CHECK_ARRAY_NEAR(rstd, buffer[6], R, 1e-6);
        for (int k = 7; k < 11; ++k) fill(buffer[k], R * C, 7);
        r2_rmsnorm_bwd(&ctx, buffer[7], buffer[8], dy, x, g, rstd, R, C);
        r2_rmsnorm_bwd_plain(&ctx, buffer[9], buffer[10], dy, x, g, rstd, R, C);
        CHECK_ARRAY_NEAR(buffer[7], buffer[9], R * C, 2e-6);
        CHECK_ARRAY_NEAR(buffer[8], buffer[10], C, 1e-5);
    }
}

TEST(rope_is_its_plain_loop_and_turns_back) {
    const r2_ctx ctx = context(2);
    const int32_t position[] = {0, 3, 1, 7, 2, 0, 9};
    for (int32_t d = 2; d <= 34; d += 8) {
        const int64_t R = 7, ld = 5 * d + 3;
        fill(buffer[0], R * ld, 8);
        fill(buffer[1], 10 * d, 9);
        memcpy(buffer[2], buffer[0], sizeof buffer[0]);
        r2_rope(&ctx, buffer[0], ld, position, buffer[1], R, 4, d, 1);
        r2_rope_plain(&ctx, buffer[2], ld, position, buffer[1], R, 4, d, 1);
        CHECK_ARRAY_NEAR(buffer[0], buffer[2], R * ld, 1e-6);
        for (int64_t i = 0; i < 10 * d; ++i) { /* real angles: then -1 is the inverse */
            double angle = (double)(i / d) * pow(100.0, -2.0 * (double)(i % (d / 2)) / d);
            buffer[1][i] = (float)(i % d < d / 2 ? cos(angle) : sin(angle));
        }
        memcpy(buffer[2], buffer[0], sizeof buffer[0]);
        r2_rope(&ctx, buffer[0], ld, position, buffer[1], R, 4, d, 1);
        r2_rope(&ctx, buffer[0], ld, position, buffer[1], R, 4, d, -1);
        CHECK_ARRAY_NEAR(buffer[0], buffer[2], R * ld, 1e-6);
    }
}

typedef struct attention_case {
    int32_t n_seq, n_head, n_kv_head, d_head;
    int32_t begin[6];
    bool branch[5];
} attention_case;

static const attention_case attention_cases[] = {
    {1, 1, 1, 2, {0, 1}, {false}},
    {2, 4, 2, 6, {0, 7, 12}, {false, false}},
    {3, 3, 1, 20, {0, 65, 66, 196}, {false, false, false}},
    {5, 4, 4, 16, {0, 9, 12, 13, 20, 31}, {false, true, true, false, true}},
    {4, 6, 3, 8, {0, 70, 140, 141, 160}, {false, true, false, true}},
};
#define N_ATTENTION_CASES (int)(sizeof attention_cases / sizeof *attention_cases)

static r2_attention attention_shape(const attention_case *c) {
    r2_attention shape = {c->n_seq, c->n_head, c->n_kv_head, c->d_head, c->begin, c->branch, NULL};
    return shape;
}

TEST(attention_is_its_plain_loop) {
    const r2_ctx ctx = context(2);
    for (int k = 0; k < 2 * N_ATTENTION_CASES; ++k) {
        r2_attention shape = attention_shape(&attention_cases[k / 2]);
        int32_t first[5]; /* of the first sequence no row attends, of the others a third */
        for (int32_t s = 0; s < shape.n_seq; ++s)
            first[s] = shape.seq_begin[s + 1] - (shape.seq_begin[s + 1] - shape.seq_begin[s]) / 3;
        first[0] = shape.seq_begin[1];
        if (k % 2) shape.first = first;
        const int64_t R = shape.seq_begin[shape.n_seq], O = R * shape.n_head * shape.d_head;
        const int64_t n = R * (shape.n_head + 2 * shape.n_kv_head) * shape.d_head;
        float *scratch = (float *)malloc((size_t)r2_attention_scratch(&ctx, &shape) * sizeof(float));
        REQUIRE(n <= MOST);
        fill(buffer[0], n, 10);
        for (int b = 1; b <= 5; ++b) fill(buffer[b], O, 11); /* rows that do not attend keep it */
        r2_attention_fwd(&ctx, &shape, buffer[2], buffer[3], buffer[0], scratch);
        r2_attention_fwd_plain(&ctx, &shape, buffer[4], buffer[5], buffer[0], scratch);
        CHECK_ARRAY_NEAR(buffer[2], buffer[4], O, 2e-6);
        CHECK_ARRAY_NEAR(buffer[3], buffer[5], R * shape.n_head, 1e-6);
        fill(buffer[6], n, 12); /* whatever stood there is overwritten */
        r2_attention_bwd(&ctx, &shape, buffer[6], buffer[1], buffer[2], buffer[3], buffer[0],
                         scratch);
        r2_attention_bwd_plain(&ctx, &shape, buffer[7], buffer[1], buffer[2], buffer[3], buffer[0],
                               scratch);
        CHECK_ARRAY_NEAR(buffer[6], buffer[7], n, 5e-6);
        free(scratch);
    }
}

TEST(swiglu_embed_bias_are_their_plain_loops) {
    const r2_ctx ctx = context(2);
    const int32_t token[] = {3, 0, 3, 9, 3, 1, 0};
    for (int64_t F = 1; F <= 37; F += 6) {
        const int64_t R = 7;
        fill(buffer[0], 2 * R * F, 13);
        fill(buffer[1], R * F, 14);
        r2_swiglu_fwd(&ctx, buffer[2], buffer[0], R, F);
        r2_swiglu_fwd_plain(&ctx, buffer[3], buffer[0], R, F);
        CHECK_ARRAY_NEAR(buffer[2], buffer[3], R * F, 1e-6);
        r2_swiglu_bwd(&ctx, buffer[2], buffer[1], buffer[0], R, F);
        r2_swiglu_bwd_plain(&ctx, buffer[3], buffer[1], buffer[0], R, F);
        CHECK_ARRAY_NEAR(buffer[2], buffer[3], 2 * R * F, 1e-6);
        r2_embed_fwd(&ctx, buffer[2], buffer[0], token, R, F / 2 + 1);
        r2_embed_fwd_plain(&ctx, buffer[3], buffer[0], token, R, F / 2 + 1);
        CHECK_ARRAY_NEAR(buffer[2], buffer[3], R * (F / 2 + 1), 0.0);
        fill(buffer[4], 10 * F, 15);
        memcpy(buffer[5], buffer[4], sizeof buffer[4]);
        r2_embed_bwd(&ctx, buffer[4], buffer[1], token, R, F);
        r2_embed_bwd_plain(&ctx, buffer[5], buffer[1], token, R, F);
        CHECK_ARRAY_NEAR(buffer[4], buffer[5], 10 * F, 1e-6);
        r2_bias_fwd(&ctx, buffer[4], buffer[1], R, F);
        r2_bias_fwd_plain(&ctx, buffer[5], buffer[1], R, F);
        CHECK_ARRAY_NEAR(buffer[4], buffer[5], R * F, 1e-6);
        r2_bias_bwd(&ctx, buffer[4], buffer[1], R, F);
        r2_bias_bwd_plain(&ctx, buffer[5], buffer[1], R, F);
        CHECK_ARRAY_NEAR(buffer[4], buffer[5], F, 1e-6);
    }
}

TEST(lora_is_its_plain_loop) {
    const r2_ctx ctx = context(2);
    const int64_t R = 29, n_in = 18, rank = 3, ldy = 39; /* two adapters, a gap between them */
    float *x = buffer[0], *a = buffer[1], *b = buffer[2], *dy = buffer[3];
    r2_adapters fast = {
        2,
        {{1, 17, a, b, buffer[9], buffer[10]},
         {20, 9, a + rank * n_in, b + 17 * rank, buffer[9] + rank * n_in, buffer[10] + 17 * rank}},
        n_in,
        rank,
        0.7f,
        buffer[4]};
    r2_adapters plain = fast;
    for (int k = 0; k < 2; ++k) { /* the same adapters, gradients of their own */
        plain.adapter[k].da = buffer[12] + k * rank * n_in;
        plain.adapter[k].db = buffer[13] + k * 17 * rank;
    }
    fill(x, R * n_in, 16);
    fill(a, 2 * rank * n_in, 17);
    fill(b, 26 * rank, 18);
    fill(dy, R * ldy, 19);
    fill(buffer[5], R * ldy, 20);
    fill(buffer[6], R * ldy, 20);
    r2_lora_fwd(&ctx, buffer[5], ldy, &fast, x, R);
    r2_lora_fwd_plain(&ctx, buffer[6], ldy, &fast, x, R);
    CHECK_ARRAY_NEAR(buffer[5], buffer[6], R * ldy, 1e-6);
    for (int k = 0; k < 6; ++k)
        fill(buffer[8 + k], R * n_in + 39 * rank, 21); /* all are added to */
    r2_lora_bwd(&ctx, buffer[8], &fast, dy, ldy, x, R);
    r2_lora_bwd_plain(&ctx, buffer[11], &plain, dy, ldy, x, R);
    CHECK_ARRAY_NEAR(buffer[8], buffer[11], R * n_in, 2e-6);
    CHECK_ARRAY_NEAR(buffer[9], buffer[12], 2 * rank * n_in, 2e-6);
    CHECK_ARRAY_NEAR(buffer[10], buffer[13], 26 * rank, 2e-6);
    r2_lora_sum(&ctx, buffer[5], dy, &fast, ldy);
    r2_lora_sum_plain(&ctx, buffer[6], dy, &fast, ldy);
    CHECK_ARRAY_NEAR(buffer[5], buffer[6], ldy * n_in, 1e-6);
    r2_lora_sum(&ctx, dy, dy, &fast, ldy); /* in place */
    CHECK_ARRAY_NEAR(dy, buffer[5], ldy * n_in, 0.0);
}

TEST(log_probabilities_are_their_plain_loops) {
    const r2_ctx ctx = context(2);
    const int64_t begin[] = {0, 2, 2, 3, 6};
    for (int64_t V = 1; V <= 259; V += 43) {
        const int32_t token[] = {0, (int32_t)V - 1, (int32_t)V / 2, 0, 0, (int32_t)V - 1};
        const float dlogp[] = {1.0f, -0.5f, 2.0f, 0.25f, 0.5f, -1.0f};
        fill(buffer[0], 4 * V, 22);
        for (int64_t i = 0; i < 4 * V; ++i) buffer[0][i] *= 20.0f;
        r2_logsumexp_fwd(&ctx, buffer[1], buffer[2], buffer[0], 4, V);
        r2_logsumexp_fwd_plain(&ctx, buffer[3], buffer[4], buffer[0], 4, V);
        CHECK_ARRAY_NEAR(buffer[1], buffer[3], 4, 1e-6);
        for (int r = 0; r < 4; ++r) CHECK_WITHIN(buffer[2][r], buffer[4][r], 1e-5);
        memcpy(buffer[5], buffer[0], sizeof buffer[0]);
        r2_logp_bwd(&ctx, buffer[0], buffer[3], begin, token, dlogp, 4, V);
        r2_logp_bwd_plain(&ctx, buffer[5], buffer[3], begin, token, dlogp, 4, V);
        for (int64_t i = 0; i < 4 * V; ++i) CHECK_WITHIN(buffer[0][i], buffer[5][i], 1e-5);
    }
}

TEST(adamw_is_its_plain_loop) {
    const r2_ctx ctx = context(2);
    const r2_adamw_factors f = {0.9f, 0.95f, 1e-8f, 1e-2f, 0.1f, 0.5f, 2.0f, 3.0f};
    const int64_t n = 50003; /* several pieces of the sum, and some numbers more */
    for (int k = 0; k < 7; ++k) fill(buffer[k], n, k < 4 ? 23 + (uint64_t)k : 22 + (uint64_t)k % 4);
    memcpy(buffer[4], buffer[0], (size_t)n * sizeof(float));
    for (int64_t i = 0; i < n; ++i) buffer[3][i] *= buffer[3][i]; /* w, g, m, v >= 0 */
    memcpy(buffer[5], buffer[2], (size_t)n * sizeof(float));
    memcpy(buffer[6], buffer[3], (size_t)n * sizeof(float));
    CHECK_NEAR(r2_sum_squares(&ctx, buffer[0], n), r2_sum_squares_plain(&ctx, buffer[0], n), 1e-6);
    r2_adamw_update(&ctx, &f, buffer[0], buffer[1], buffer[2], buffer[3], n);
    r2_adamw_update_plain(&ctx, &f, buffer[4], buffer[1], buffer[5], buffer[6], n);
    CHECK_ARRAY_NEAR(buffer[0], buffer[4], n, 1e-6);
    CHECK_ARRAY_NEAR(buffer[2], buffer[5], n, 1e-6);
    CHECK_ARRAY_NEAR(buffer[3], buffer[6], n, 1e-6);
}

/* ---- the worked numbers of the rooms ---- */

TEST(worked_numbers_of_the_model) {
    const r2_ctx ctx = context(1);
    const int32_t begin[] = {0, 2};
    const r2_attention shape = {1, 1, 1, 2, begin, NULL, NULL};
    const float gain[] = {1.0f, 1.0f}, x[] = {3.0f, 4.0f}, logits[] = {0.0f, 1.0986123f};
    /* rows | q | k | v |: the second row has the scores 0 and ln 3 */
    const float qkv[] = {0.0f,       0.0f, 0.0f,       0.0f, 1.0f, 0.0f,
                         1.4142136f, 0.0f, 1.0986123f, 0.0f, 5.0f, 0.0f};
    float y[2], rstd, out[4], lse[2], scratch[4 * 64 * 2];
    r2_rmsnorm_fwd(&ctx, y, &rstd, x, gain, 1, 2, 0.0f);
    CHECK_NEAR(y[0], 0.849, 1e-3);
    CHECK_NEAR(y[1], 1.131, 1e-3);
    REQUIRE(r2_attention_scratch(&ctx, &shape) <= (int64_t)(sizeof scratch / sizeof *scratch));
    r2_attention_fwd(&ctx, &shape, out, lse, qkv, scratch);
    CHECK_NEAR(out[2], 4.0, 1e-6);
    r2_logsumexp_fwd(&ctx, lse, NULL, logits, 1, 2);
    CHECK_NEAR(logits[1] - lse[0], -0.288, 2e-3);
}

TEST(worked_numbers_of_kernels_and_adapters) {
    const r2_ctx ctx = context(1);
    const float a[] = {1.0f, 2.0f}, b[] = {3.0f}, w[] = {0.0f, 0.0f};
    const r2_lora_config config = r2_lora_config_default();
    r2_adapters all = {1, {{0, 1, a, b, NULL, NULL}}, 2, 1, 0.0f, NULL};
    float sum[2];
    all.scale = config.alpha / (float)config.rank;
    r2_lora_sum(&ctx, sum, w, &all, 1);
    CHECK(all.scale == 2.0f && sum[0] == 6.0f && sum[1] == 12.0f);
    CHECK_NEAR(r2__largest(r2__exp(r2__all(1.0f))), 2.7182818, 2e-7);
}

TEST(exp_is_accurate_and_passes_nan_on) {
    double worst = 0.0;
    for (double x = -87.0; x < 87.0; x += 0.0137) {
        double got = (double)r2__largest(r2__exp(r2__all((float)x)));
        double off = fabs(got / exp((double)(float)x) - 1.0);
        if (off > worst) worst = off;
    }
    CHECK(worst < 2.5e-7); /* two units in the last place */
    CHECK(r2__largest(r2__exp(r2__all(0.0f))) == 1.0f);
    CHECK(r2__sum(r2__exp(r2__all(-1e30f))) < 1e-36f);
    CHECK(isnan(r2__sum(r2__exp(r2__all(NAN)))));
}

/* ---- gradients against finite differences in double ---- */

typedef double (*loss_fn)(const double *x);

/* Compares grad, of the n inputs x[0] .. of `loss`, with central differences. */
static void check_gradient(const char *what, loss_fn loss, double *x, int64_t n, const float *grad) {
    double *want = (double *)malloc((size_t)n * sizeof *want), off;
    for (int64_t i = 0; i < n; ++i) {
        const double at = x[i], h = 1e-5;
        double above, below;
        x[i] = at + h;
        above = loss(x);
        x[i] = at - h;
        below = loss(x);
        x[i] = at;
        want[i] = (above - below) / (2.0 * h);
    }
    off = distance(grad, want, n);
    if (!CHECK(off < 2e-6)) printf("  gradient of %s is off by %.3g of its norm\n", what, off);
    free(want);
}

static double input[4096];        /* of the op, all inputs end to end   */
static float input_f[4096];       /* the same, rounded first, for us    */
static float weight[1024];        /* the loss is sum of weight x output */

static void draw_inputs(int64_t n, uint64_t seed) {
    fill(input_f, n, seed);
    fill(weight, 1024, seed + 100);
    for (int64_t i = 0; i < n; ++i) input[i] = (double)input_f[i];
}

enum { R = 5, C = 6, O = 7 }; /* of the small cases below */

static double matmul_loss(const double *in) { /* y(R,O) = x(R,C) w(O,C)^T */
    double sum = 0.0;
    for (int i = 0; i < R * O * C; ++i) {
        int r = i / (O * C), o = i / C % O, c = i % C;
        sum += (double)weight[r * O + o] * in[r * C + c] * in[R * C + o * C + c];
    }
    return sum;
}

TEST(gradient_of_matmul) {
    const r2_ctx ctx = context(1);
    float grad[R * C + O * C] = {0};
    draw_inputs(R * C + O * C, 30);
    r2_matmul(&ctx, R2_NN, R, C, O, weight, O, input_f + R * C, C, grad, C, false);
    r2_matmul(&ctx, R2_TN, O, C, R, weight, O, input_f, C, grad + R * C, C, true);
    check_gradient("matmul", matmul_loss, input, R * C + O * C, grad);
}

static double rmsnorm_loss(const double *in) { /* x(R,C), gain(C) */
    double sum = 0.0;
    for (int r = 0; r < R; ++r) {
        double squares = 0.0;
        for (int c = 0; c < C; ++c) squares += in[r * C + c] * in[r * C + c];
        for (int c = 0; c < C; ++c)
            sum += (double)weight[r * C + c] * in[r * C + c] * in[R * C + c] /
                   sqrt(squares / C + (double)1e-5f);
    }
    return sum;
}

TEST(gradient_of_rmsnorm) {
    const r2_ctx ctx = context(1);
    float grad[R * C + C] = {0}, y[R * C], rstd[R];
    draw_inputs(R * C + C, 31);
    r2_rmsnorm_fwd(&ctx, y, rstd, input_f, input_f + R * C, R, C, 1e-5f);
    r2_rmsnorm_bwd(&ctx, grad, grad + R * C, weight, input_f, input_f + R * C, rstd, R, C);
    check_gradient("rmsnorm", rmsnorm_loss, input, R * C + C, grad);
}

static float rope_table[10 * 4];
static const int32_t rope_position[] = {4, 0, 9, 1, 2};

static double rope_loss(const double *in) { /* x(R, 2 heads of 4) */
    double sum = 0.0;
    for (int i = 0; i < R * 2 * 2; ++i) {
        int r = i / 4, at = r * 8 + i / 2 % 2 * 4 + i % 2;
        double c = (double)rope_table[rope_position[r] * 4 + i % 2];
        double s = (double)rope_table[rope_position[r] * 4 + 2 + i % 2];
        sum += (double)weight[at] * (in[at] * c - in[at + 2] * s);
        sum += (double)weight[at + 2] * (in[at + 2] * c + in[at] * s);
    }
    return sum;
}

TEST(gradient_of_rope) {
    const r2_ctx ctx = context(1);
    float grad[R * 8];
    fill(rope_table, 40, 32);
    draw_inputs(R * 8, 33);
    memcpy(grad, weight, sizeof grad);
    r2_rope(&ctx, grad, 8, rope_position, rope_table, R, 2, 4, -1);
    check_gradient("rope", rope_loss, input, R * 8, grad);
}

static const attention_case *under_test;

static double attention_loss(const double *in) {
    const attention_case *c = under_test;
    const int d = c->d_head, H = c->n_head, G = c->n_kv_head, ld = (H + 2 * G) * d;
    double total = 0.0;
    for (int s = 0, root = 0; s < c->n_seq; ++s) {
        if (!c->branch[s]) root = s;
        for (int i = c->begin[s]; i < c->begin[s + 1]; ++i) {
            for (int h = 0; h < H; ++h) {
                double sum = 0.0, mixed = 0.0;
                for (int j = c->begin[root]; j <= i; ++j) {
                    double score = 0.0, value = 0.0;
                    const double *k = in + j * ld + (H + h / (H / G)) * d, *v = k + G * d;
                    if (j >= c->begin[root + 1] && j < c->begin[s]) continue; /* other branches */
                    for (int e = 0; e < d; ++e) score += in[i * ld + h * d + e] * k[e];
                    for (int e = 0; e < d; ++e) value += (double)weight[(i * H + h) * d + e] * v[e];
                    score = exp(score / sqrt((double)d));
                    sum += score;
                    mixed += score * value;
                }
                total += mixed / sum;
            }
        }
    }
    return total;
}

TEST(gradient_of_attention) {
    static const attention_case cases[] = {
        {2, 4, 2, 4, {0, 6, 9}, {false, false}},
        {4, 2, 1, 6, {0, 4, 6, 9, 12}, {false, true, true, false}},
    };
    const r2_ctx ctx = context(1);
    for (int k = 0; k < 2; ++k) {
        const r2_attention shape = attention_shape(&cases[k]);
        const int64_t n = shape.seq_begin[shape.n_seq] * (shape.n_head + 2 * shape.n_kv_head) *
                          shape.d_head;
        float scratch[4096];
        REQUIRE(r2_attention_scratch(&ctx, &shape) <= 4096);
        under_test = &cases[k];
        draw_inputs(n, 34);
        r2_attention_fwd(&ctx, &shape, buffer[0], buffer[1], input_f, scratch);
        r2_attention_bwd(&ctx, &shape, buffer[2], weight, buffer[0], buffer[1], input_f, scratch);
        check_gradient("attention", attention_loss, input, n, buffer[2]);
    }
}

static double swiglu_loss(const double *in) { /* gu(R, 2 C) */
    double sum = 0.0;
    for (int i = 0; i < R * C; ++i) {
        double g = in[i / C * 2 * C + i % C], u = in[i / C * 2 * C + C + i % C];
        sum += (double)weight[i] * g / (1.0 + exp(-g)) * u;
    }
    return sum;
}

TEST(gradient_of_swiglu) {
    const r2_ctx ctx = context(1);
    float grad[2 * R * C];
    draw_inputs(2 * R * C, 35);
    r2_swiglu_bwd(&ctx, grad, weight, input_f, R, C);
    check_gradient("swiglu", swiglu_loss, input, 2 * R * C, grad);
}

static const int32_t embed_token[] = {3, 0, 3, 2, 3};

static double embed_loss(const double *in) { /* table(4, C), bias(C) */
    double sum = 0.0;
    for (int i = 0; i < R * C; ++i)
        sum += (double)weight[i] * (in[embed_token[i / C] * C + i % C] + in[4 * C + i % C]);
    return sum;
}

TEST(gradient_of_embedding_and_bias) {
    const r2_ctx ctx = context(1);
    float grad[4 * C + C] = {0};
    draw_inputs(4 * C + C, 36);
    r2_embed_bwd(&ctx, grad, weight, embed_token, R, C);
    r2_bias_bwd(&ctx, grad + 4 * C, weight, R, C);
    check_gradient("embedding", embed_loss, input, 4 * C + C, grad);
}

enum { RANK = 2 };

static double lora_loss(const double *in) { /* x(R,C), a(RANK,C), b(O,RANK) */
    const double *a = in + R * C, *b = a + RANK * C;
    double sum = 0.0;
    for (int i = 0; i < R * O * RANK * C; ++i) {
        int r = i / (O * RANK * C), o = i / (RANK * C) % O, k = i / C % RANK, c = i % C;
        sum += (double)weight[r * O + o] * (double)0.7f * b[o * RANK + k] * a[k * C + c] *
               in[r * C + c];
    }
    return sum;
}

TEST(gradient_of_lora) {
    const r2_ctx ctx = context(1);
    float grad[R * C + RANK * C + O * RANK] = {0}, low[2 * RANK * (R + C)];
    const float *a = input_f + R * C, *b = a + RANK * C;
    const r2_adapters all = {
        1, {{0, O, a, b, grad + R * C, grad + R * C + RANK * C}}, C, RANK, 0.7f, low};
    REQUIRE((int64_t)(sizeof low / sizeof *low) == r2_lora_scratch(R, C, RANK, 1));
    draw_inputs(R * C + RANK * C + O * RANK, 37);
    r2_lora_bwd(&ctx, grad, &all, weight, O, input_f, R);
    check_gradient("lora", lora_loss, input, R * C + RANK * C + O * RANK, grad);
}

static const int64_t logp_begin[] = {0, 1, 3, 3, 4, 5};
static const int32_t logp_token[] = {2, 0, 5, 5, 1};

static double logp_loss(const double *in) { /* logits(R,C) */
    double total = 0.0;
    for (int r = 0; r < R; ++r) {
        double sum = 0.0;
        for (int c = 0; c < C; ++c) sum += exp(in[r * C + c]);
        for (int64_t j = logp_begin[r]; j < logp_begin[r + 1]; ++j)
            total += (double)weight[j] * (in[r * C + logp_token[j]] - log(sum));
    }
    return total;
}

TEST(gradient_of_log_probabilities) {
    const r2_ctx ctx = context(1);
    float lse[R], grad[R * C];
    draw_inputs(R * C, 38);
    memcpy(grad, input_f, sizeof grad);
    r2_logsumexp_fwd(&ctx, lse, NULL, grad, R, C);
    r2_logp_bwd(&ctx, grad, lse, logp_begin, logp_token, weight, R, C);
    check_gradient("log-probabilities", logp_loss, input, R * C, grad);
}

/* ---- threads ---- */

enum { PRODUCTS = 3 * 90 * 110 + 3 * 300 + 30 * 300 + 300 * 5 + 5 * 240 };

/* Each layout, and each way of products that are narrow on one side; returns the end of c. */
static float *products(int threads, float *c) {
    static const struct {
        r2_layout layout;
        int64_t M, N, K;
    } product[] = {{R2_NT, 90, 110, 130}, {R2_NN, 90, 110, 130}, {R2_TN, 90, 110, 130},
                   {R2_NT, 3, 300, 330},  {R2_NT, 30, 300, 330}, {R2_TN, 300, 5, 330},
                   {R2_TN, 5, 240, 400}}; /* enough work that threads wake */
    const r2_ctx ctx = context(threads);
    for (size_t p = 0; p < sizeof product / sizeof *product; ++p) {
        const r2_layout layout = product[p].layout;
        const int64_t M = product[p].M, N = product[p].N, K = product[p].K;
        r2_matmul(&ctx, layout, M, N, K, buffer[0], layout == R2_TN ? M : K, buffer[1],
                  layout == R2_NT ? K : N, c, N, false);
        c += M * N;
    }
    return c;
}

TEST(threads_do_not_change_a_bit) {
    const int threads[] = {2, 3, 8};
    fill(buffer[0], MOST, 40);
    fill(buffer[1], MOST, 41);
    CHECK_EQ_INT(products(1, buffer[2]) - buffer[2], PRODUCTS);
    for (int k = 0; k < 3; ++k) {
        products(threads[k], buffer[3]);
        CHECK_EQ_INT(memcmp(buffer[2], buffer[3], sizeof(float) * PRODUCTS), 0);
    }
    for (int k = 0; k < 3; ++k) {
        const r2_attention shape = attention_shape(&attention_cases[3]);
        const r2_ctx one = context(1), many = context(threads[k]);
        float *scratch = (float *)malloc((size_t)r2_attention_scratch(&many, &shape) * sizeof(float));
        const size_t n = (size_t)(31 * 12 * 16) * sizeof(float);
        r2_attention_fwd(&one, &shape, buffer[2], buffer[4], buffer[0], scratch);
        r2_attention_fwd(&many, &shape, buffer[3], buffer[5], buffer[0], scratch);
        CHECK_EQ_INT(memcmp(buffer[2], buffer[3], (size_t)(31 * 4 * 16) * sizeof(float)), 0);
        r2_attention_bwd(&one, &shape, buffer[6], buffer[1], buffer[2], buffer[4], buffer[0],
                         scratch);
        r2_attention_bwd(&many, &shape, buffer[7], buffer[1], buffer[2], buffer[4], buffer[0],
                         scratch);
        CHECK_EQ_INT(memcmp(buffer[6], buffer[7], n), 0);
        free(scratch);
    }
}

/* `deep` of eight views in lanes is that of each alone: of users with a stride of 1 and of 2, of views
   that leave a person out, of fewer views than lanes, of a history without an item. */
TEST(deep_in_lanes_is_deep_of_each_view) {
    r2_ctx ctx = r2_ctx_default();
    r2_data data;
    r2_graph graph;
    r2_index index;
    r2__user_view view[R2__WALKS];
    r2_arena lanes = {NULL, 0, 0}, plain = {NULL, 0, 0};
    double furthest = 0.0, largest = 0.0;
    memset(view, 0, sizeof view);
    REQUIRE_OK(&ctx, ratings_random(&ctx, &data, 30, 25, 0.3, 5));
    REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, &data, NULL));
    REQUIRE_OK(&ctx, r2_index_init(&ctx, &index, &graph, &data, 3.5f, 1));
    for (index.stride = 1; index.stride <= 2; ++index.stride)
        for (int n_views = 1; n_views <= R2__WALKS; n_views += 7) {
            const float *first[R2__WALKS];
            for (int j = 0; j < n_views; ++j) {
                r2_question q;
                memset(&q, 0, sizeof q);
                q.user = (uint32_t)(3 * j + 1);
                q.item = (uint32_t)j;
                q.n_history = j == 3 ? 0 : (int32_t)r2_graph_user_degree(&graph, q.user);
                q.step = j == 5 ? 2 : 0, q.other_user = 2, q.other_item = 20;
                REQUIRE(r2__view_init(&ctx, &view[j], &index, &q));
            }
            REQUIRE(r2__solve_deep(&ctx, &lanes, view, n_views));
            for (int j = 0; j < n_views; ++j) first[j] = view[j].deep;
            REQUIRE(r2__solve_deep_plain(&ctx, &plain, view, n_views));
            for (int j = 0; j < n_views; ++j)
                for (int64_t v = 0; v < graph.n_users; v += index.stride) {
                    furthest = fmax(furthest, fabs((double)first[j][v] - (double)view[j].deep[v]));
                    largest = fmax(largest, fabs((double)first[j][v]));
                }
        }
    CHECK(largest > 0.01);
    CHECK(furthest <= 1e-6 * largest); /* the same but for products fused into sums */
    for (int j = 0; j < R2__WALKS; ++j) r2_arena_free(&ctx, &view[j].h.memory);
    r2_arena_free(&ctx, &lanes), r2_arena_free(&ctx, &plain);
    r2_index_free(&ctx, &index), r2_graph_free(&ctx, &graph), r2_data_free(&ctx, &data);
}

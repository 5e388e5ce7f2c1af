/* Lesson 5: a whole transformer with 50 weights. Its forward pass is written out in plain C below
   and compared with r2_forward; its gradient is checked by wiggling every weight.

   Read with it: room [M7] of r2rec.h, where each op stands forward above backward. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <math.h>
#include <string.h>

enum { D = 2, F = 2, V = 4, N = 3 }; /* model width, hidden width, words, tokens */

static void product(double *y, const double *x, const float *w, int n_out, int n_in) {
    for (int o = 0; o < n_out; ++o) {
        y[o] = 0.0;
        for (int i = 0; i < n_in; ++i) y[o] += x[i] * (double)w[o * n_in + i];
    }
}

static void rmsnorm(double y[D], const double x[D], const float *gain, double eps) {
    for (int i = 0; i < D; ++i)
        y[i] = x[i] * (double)gain[i] / sqrt((x[0] * x[0] + x[1] * x[1]) / D + eps);
}

static void rotate(double x[D], int position) { /* rotary positions, one pair */
    const double c = cos(position), s = sin(position), a = x[0], b = x[1];
    x[0] = a * c - b * s;
    x[1] = b * c + a * s;
}

/* The logits after the last of N tokens: one layer, one head, each row of numbers a token. */
static void forward(const r2_model *m, const int32_t *token, double last[D], double logits[V]) {
    double x[N][D], n[D], q[D], k[N][D], v[N][D], mix[D] = {0, 0}, sum = 0.0, y[D], g[F], u[F];
    const double eps = (double)m->config.norm_eps;
    for (int t = 0; t < N; ++t) {
        for (int i = 0; i < D; ++i) x[t][i] = (double)r2_weight(m, R2_EMBED, 0)[token[t] * D + i];
        rmsnorm(n, x[t], r2_weight(m, R2_ATTN_NORM, 0), eps);
        product(k[t], n, r2_weight(m, R2_WK, 0), D, D);
        product(v[t], n, r2_weight(m, R2_WV, 0), D, D);
        product(q, n, r2_weight(m, R2_WQ, 0), D, D); /* the last one stays */
        rotate(k[t], t);
        rotate(q, t);
    }
    for (int t = 0; t < N; ++t) { /* attention: softmax(q k / sqrt(D)) v, of the last token */
        const double e = exp((q[0] * k[t][0] + q[1] * k[t][1]) / sqrt(D));
        sum += e;
        for (int i = 0; i < D; ++i) mix[i] += e * v[t][i];
    }
    for (int i = 0; i < D; ++i) mix[i] /= sum;
    product(y, mix, r2_weight(m, R2_WO, 0), D, D);
    for (int i = 0; i < D; ++i) x[N - 1][i] += y[i];
    rmsnorm(n, x[N - 1], r2_weight(m, R2_FFN_NORM, 0), eps);
    product(g, n, r2_weight(m, R2_WGATE, 0), F, D);
    product(u, n, r2_weight(m, R2_WUP, 0), F, D);
    for (int i = 0; i < F; ++i) u[i] *= g[i] / (1.0 + exp(-g[i])); /* SwiGLU */
    product(y, u, r2_weight(m, R2_WDOWN, 0), D, F);
    for (int i = 0; i < D; ++i) x[N - 1][i] += y[i];
    rmsnorm(last, x[N - 1], r2_weight(m, R2_FINAL_NORM, 0), eps);
    product(logits, last, r2_weight(m, R2_HEAD, 0), V, D);
}

static double loss(const r2_model *m, const int32_t *token, int32_t right) {
    double last[D], logits[V], sum = 0.0;
    forward(m, token, last, logits);
    for (int w = 0; w < V; ++w) sum += exp(logits[w]);
    return log(sum) - logits[right]; /* -log softmax(logits)[right] */
}

static int zeros(const r2_model *m) {
    int n = 0;
    for (int64_t k = 0; k < m->n_params; ++k) n += !(m->grad[k] < 0.0f || m->grad[k] > 0.0f);
    return n;
}

/* The largest difference between r2_backward and (loss(w + h) - loss(w - h)) / 2h. */
static double wiggle(r2_model *m, const int32_t *token, int32_t right) {
    double worst = 0.0;
    for (int64_t k = 0; k < m->n_params; ++k) {
        const float w = m->param[k], high = w + 1e-3f, low = w - 1e-3f;
        double up, down;
        m->param[k] = high, up = loss(m, token, right);
        m->param[k] = low, down = loss(m, token, right);
        m->param[k] = w;
        worst = fmax(worst, fabs((up - down) / ((double)high - (double)low) - (double)m->grad[k]));
    }
    return worst;
}

int main(void) {
    static const int32_t token[N] = {0, 1, 2}, begin[2] = {0, N}, row = N - 1, right = 3;
    const r2_batch batch = {1, begin, token, 1, &row, &right, NULL};
    r2_ctx ctx = r2_ctx_default();
    r2_model_config shape = {V, 1, 1, 1, D, F, 8, 10000.0f, 1e-5f, 0.02f, false, false, 1};
    r2_model m;
    float logp = 0.0f, minus_one = -1.0f;
    double last[D], logits[V], sum = 0.0;
    r2_status status = r2_model_init(&ctx, &m, &shape, true);
    for (int64_t k = 0; k < m.n_params; ++k) m.param[k] = sinf((float)(k + 1)); /* any numbers */
    if (status == R2_OK) status = r2_forward(&ctx, &m, &batch, &logp, NULL);
    if (status == R2_OK) status = r2_backward(&ctx, &m, &batch, &minus_one); /* d loss / d logp */
    if (status != R2_OK) return fprintf(stderr, "%s\n", ctx.message), 1;
    printf("%d weights; words 0 1 2, and then? loss -log p(3): %.6f by hand, %.6f by the library\n",
           (int)m.n_params, loss(&m, token, right), -(double)logp);
    forward(&m, token, last, logits);
    for (int w = 0; w < V; ++w) sum += exp(logits[w]);
    printf("d loss / d logit = p - [right]; a head row's gradient is that times what went in:\n");
    for (int w = 0; w < V; ++w) {
        const double p = exp(logits[w]) / sum, d = p - (w == right);
        const float *row_grad = r2_gradient(&m, R2_HEAD, 0) + w * D;
        printf("  word %d: p %.4f, d %+.4f, head row by hand %+.4f %+.4f, library %+.4f %+.4f\n", w,
               p, d, d * last[0], d * last[1], (double)row_grad[0], (double)row_grad[1]);
    }
    printf("all weights wiggled: their gradients are at most %.1e off; %d of them are 0\n",
           wiggle(&m, token, right), zeros(&m));
    r2_model_free(&ctx, &m);
    return 0;
}
/* Exercises (answers in tests/test_lessons.sh)   1. Why do the four d add up to 0?
   2. Which weights have a gradient of 0?   3. What is the loss when all weights are 0? */

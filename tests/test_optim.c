/* [M7] against its formulas in double; against PyTorch in test_model.c. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

static r2_ctx ctx;

static void make(r2_model *model, r2_adamw *opt, const r2_adamw_config *config) {
    r2_model_config shape = r2_model_config_default();
    ctx = r2_ctx_default();
    ctx.n_threads = 2;
    shape.n_vocab = 19;
    shape.n_layer = 1;
    shape.d_model = 10;
    shape.d_ff = 7;
    shape.n_head = shape.n_kv_head = 1;
    CHECK_STATUS(&ctx, r2_model_init(&ctx, model, &shape, true), R2_OK);
    CHECK_STATUS(&ctx, r2_adamw_init(&ctx, opt, model, config), R2_OK);
}

/* Gradient of parameter i at a step. */
static float gradient_at(int64_t i, int step) {
    r2_rng rng = r2_rng_make((uint64_t)step, R2_STREAM_USER, (uint64_t)i);
    return (float)r2_rng_normal(&rng);
}

/* Whether parameter i belongs to a matrix. */
static bool is_matrix(const r2_model *model, int64_t i) {
    for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
        const r2_tensor *t = &model->tensor[id];
        if (i >= t->offset && i < t->offset + t->rows * t->cols) return t->rows > 1;
    }
    return false;
}

static void check_adamw(float clip, float decay) {
    r2_adamw_config config = r2_adamw_config_default();
    r2_model model;
    r2_adamw opt;
    double *w, *m, *v;
    size_t size;
    config.clip = clip;
    config.weight_decay = decay;
    make(&model, &opt, &config);
    size = (size_t)model.n_params * sizeof(double);
    w = (double *)malloc(size);
    m = (double *)calloc(1, size);
    v = (double *)calloc(1, size);
    for (int64_t i = 0; i < model.n_params; ++i) w[i] = (double)model.param[i];
    for (int step = 1; step <= 5; ++step) {
        const double b1 = 0.9, b2 = 0.95, lr = 0.01;
        double norm = 0.0, scale, worst = 0.0;
        float got;
        for (int64_t i = 0; i < model.n_params; ++i) {
            model.grad[i] = gradient_at(i, step);
            norm += (double)model.grad[i] * (double)model.grad[i];
        }
        norm = sqrt(norm);
        scale = clip > 0.0f && norm > (double)clip ? (double)clip / norm : 1.0;
        REQUIRE_OK(&ctx, r2_adamw_step(&ctx, &opt, &model, 0.01f, &got));
        CHECK_NEAR(got, norm, 1e-5);
        for (int64_t i = 0; i < model.n_params; ++i) {
            double g = (double)gradient_at(i, step) * scale;
            m[i] = b1 * m[i] + (1.0 - b1) * g;
            v[i] = b2 * v[i] + (1.0 - b2) * g * g;
            if (is_matrix(&model, i)) w[i] -= lr * (double)decay * w[i];
            w[i] -= lr * m[i] / (1.0 - pow(b1, step)) /
                    (sqrt(v[i] / (1.0 - pow(b2, step))) + (double)config.eps);
            if (fabs(w[i] - (double)model.param[i]) > worst)
                worst = fabs(w[i] - (double)model.param[i]);
        }
        CHECK(worst < 2e-6);
    }
    free(w);
    free(m);
    free(v);
    r2_adamw_free(&ctx, &opt);
    r2_model_free(&ctx, &model);
}

TEST(adamw_follows_its_formula) {
    check_adamw(0.0f, 0.0f);
    check_adamw(0.0f, 0.3f);
    check_adamw(1.0f, 0.3f);
    check_adamw(1e6f, 0.0f);
}

TEST(a_norm_that_is_not_finite_changes_nothing) {
    const float bad[] = {NAN, INFINITY, 3e38f};
    r2_adamw_config config = r2_adamw_config_default();
    r2_model model;
    r2_adamw opt;
    make(&model, &opt, &config);
    for (int k = 0; k < 3; ++k) {
        float first = model.param[0], norm;
        r2_zero_grad(&ctx, &model);
        model.grad[5] = bad[k];
        model.grad[6] = bad[k];
        CHECK_STATUS(&ctx, r2_adamw_step(&ctx, &opt, &model, 0.1f, &norm), R2_DIVERGED);
        CHECK(model.param[0] == first && opt.step == 0 && opt.m[5] == 0.0f);
    }
    r2_zero_grad(&ctx, &model);
    CHECK_STATUS(&ctx, r2_adamw_step(&ctx, &opt, &model, 0.1f, NULL), R2_OK); /* all zero is well */
    r2_adamw_free(&ctx, &opt);
    CHECK_STATUS(&ctx, r2_adamw_step(&ctx, &opt, &model, 0.1f, NULL), R2_ARGUMENT);
    r2_model_free(&ctx, &model);
}

TEST(learning_rate_rises_and_falls) {
    CHECK_NEAR(r2_lr_cosine(0, 100, 10, 2.0f, 0.1f), 0.2, 1e-6);
    CHECK_NEAR(r2_lr_cosine(9, 100, 10, 2.0f, 0.1f), 2.0, 1e-6);
    CHECK_NEAR(r2_lr_cosine(10, 100, 10, 2.0f, 0.1f), 2.0, 1e-6);
    CHECK_NEAR(r2_lr_cosine(55, 100, 10, 2.0f, 0.1f), 1.1, 1e-6);
    CHECK_NEAR(r2_lr_cosine(100, 100, 10, 2.0f, 0.1f), 0.2, 1e-6);
    CHECK_NEAR(r2_lr_cosine(5000, 100, 10, 2.0f, 0.1f), 0.2, 1e-6);
    CHECK_NEAR(r2_lr_cosine(0, 10, 0, 2.0f, 0.0f), 2.0, 1e-6);
    for (int64_t step = 11; step < 100; ++step)
        CHECK(r2_lr_cosine(step, 100, 10, 2.0f, 0.1f) < r2_lr_cosine(step - 1, 100, 10, 2.0f, 0.1f));
}

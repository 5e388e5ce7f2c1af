/* [M7] and its training: against PyTorch's numbers (tests/reference/model_vectors.py), against
   itself where two ways must agree, against hostile files and failing memory. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

static r2_ctx ctx;

static void fresh(int threads) {
    ctx = r2_ctx_default();
    ctx.n_threads = threads;
}

static r2_model_config small_config(void) {
    r2_model_config c = r2_model_config_default();
    c.n_vocab = 41;
    c.n_head = 4;
    c.n_kv_head = 2;
    c.d_model = 24;
    c.d_ff = 36;
    c.n_ctx = 64;
    c.init_std = 0.25f;
    c.qkv_bias = true;
    return c;
}

/* Norm of the difference over norm of what is wanted; infinite when that is zero or anything NaN. */
static double distance(const float *got, const float *want, int64_t n) {
    double off = 0.0, norm = 0.0;
    for (int64_t i = 0; i < n; ++i) {
        double d = (double)got[i] - (double)want[i];
        off += d * d;
        norm += (double)want[i] * (double)want[i];
    }
    return norm > 0.0 && off == off ? sqrt(off / norm) : INFINITY;
}

static const char *temporary(const char *name) {
    static char path[256];
    const char *directory = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/r2rec-%ld-%s", directory ? directory : "/tmp", (long)getpid(),
             name);
    return path;
}

/* ---- PyTorch's numbers ---- */

typedef struct reference {
    r2_model model, grad; /* grad: its gradients, read as weights */
    int32_t begin[4], n_rows, *token, *wanted_row, *wanted;
    float *loss_weight; /* of the wanted: the loss is -sum(weight logp) */
    r2_text text;
} reference;

enum { MOST_VALUES = 8192 };

/* The values on the line `key` of the text; returns how many. */
static int64_t values_of(const reference *ref, const char *key, float *value) {
    const char *at = ref->text.data;
    size_t length = strlen(key);
    while (at && (strncmp(at, key, length) != 0 || at[length] != ' ')) {
        at = strchr(at, '\n');
        if (at) ++at;
    }
    if (!at) return -1;
    char *end = NULL;
    int64_t n = strtol(at + length, &end, 10);
    for (int64_t i = 0; i < n && i < MOST_VALUES; ++i) value[i] = strtof(end, &end);
    return n;
}

static int32_t *integers_of(const reference *ref, const char *key) {
    static float value[MOST_VALUES];
    int64_t n = values_of(ref, key, value);
    int32_t *made = (int32_t *)malloc((size_t)(n > 0 ? n : 1) * sizeof *made);
    for (int64_t i = 0; i < n; ++i) made[i] = (int32_t)value[i];
    return made;
}

typedef struct reference_case {
    const char *name;
    int32_t vocab, layers, heads, kv, dim, ffn;
    bool bias, tied;
} reference_case;

static const reference_case cases[] = {
    {"gqa_bias_tied", 37, 2, 4, 2, 16, 20, true, true},
    {"mha_untied", 33, 2, 2, 2, 12, 18, false, false},
    {"mqa_bias_untied", 29, 1, 4, 1, 24, 10, true, false},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static r2_status load_reference(reference *ref, const reference_case *c) {
    r2_model_config config = r2_model_config_default();
    char path[128];
    int32_t *lengths;
    r2_status status;
    memset(ref, 0, sizeof *ref);
    config.n_vocab = c->vocab;
    config.n_layer = c->layers;
    config.n_head = c->heads;
    config.n_kv_head = c->kv;
    config.d_model = c->dim;
    config.d_ff = c->ffn;
    config.n_ctx = 32;
    config.qkv_bias = c->bias;
    config.tied = c->tied;
    config.init_std = 0.0f;
    snprintf(path, sizeof path, "tests/reference/model_%s.txt", c->name);
    status = r2_read_file(&ctx, path, &ref->text);
    if (status == R2_OK) status = r2_model_init(&ctx, &ref->model, &config, true);
    if (status == R2_OK) status = r2_model_init(&ctx, &ref->grad, &config, false);
    snprintf(path, sizeof path, "tests/reference/model_%s.safetensors", c->name);
    if (status == R2_OK) status = r2_model_load(&ctx, &ref->model, path);
    snprintf(path, sizeof path, "tests/reference/model_%s_grad.safetensors", c->name);
    if (status == R2_OK) status = r2_model_load(&ctx, &ref->grad, path);
    if (status != R2_OK) return status;
    lengths = integers_of(ref, "lengths");
    for (int s = 0; s < 3; ++s) ref->begin[s + 1] = ref->begin[s] + lengths[s];
    free(lengths);
    ref->n_rows = ref->begin[3];
    ref->token = integers_of(ref, "tokens");
    ref->wanted = integers_of(ref, "wanted");
    ref->wanted_row = (int32_t *)malloc((size_t)ref->n_rows * 2 * sizeof(int32_t));
    ref->loss_weight = (float *)malloc(MOST_VALUES * sizeof(float));
    for (int32_t j = 0; j < 2 * ref->n_rows; ++j) ref->wanted_row[j] = j / 2;
    CHECK_EQ_INT(values_of(ref, "weights", ref->loss_weight), 2 * ref->n_rows);
    return R2_OK;
}

static void free_reference(reference *ref) {
    r2_model_free(&ctx, &ref->model);
    r2_model_free(&ctx, &ref->grad);
    r2_text_free(&ctx, &ref->text);
    free(ref->token);
    free(ref->wanted);
    free(ref->wanted_row);
    free(ref->loss_weight);
}

/* One forward (and backward); returns the loss. */
static float reference_loss(reference *ref, bool backward) {
    float logp[128], dlogp[128], loss = 0.0f;
    r2_batch batch = {3, ref->begin, ref->token, 2 * ref->n_rows, ref->wanted_row, ref->wanted, NULL};
    if (!CHECK_STATUS(&ctx, r2_forward(&ctx, &ref->model, &batch, logp, NULL), R2_OK)) return NAN;
    for (int32_t j = 0; j < batch.n_pred; ++j) {
        loss -= ref->loss_weight[j] * logp[j];
        dlogp[j] = -ref->loss_weight[j];
    }
    if (!backward) return loss;
    r2_zero_grad(&ctx, &ref->model);
    CHECK_STATUS(&ctx, r2_backward(&ctx, &ref->model, &batch, dlogp), R2_OK);
    return loss;
}

/* Distance of all log-probabilities of all rows from those on line `key`. */
static double logp_distance(reference *ref, const char *key) {
    static float logp[MOST_VALUES], want[MOST_VALUES];
    static int32_t row[MOST_VALUES], token[MOST_VALUES];
    const int32_t V = ref->model.config.n_vocab, n = ref->n_rows * V;
    r2_batch batch = {3, ref->begin, ref->token, n, row, token, NULL};
    for (int32_t j = 0; j < n; ++j) {
        row[j] = j / V;
        token[j] = j % V;
    }
    CHECK_EQ_INT(values_of(ref, key, want), n);
    CHECK_STATUS(&ctx, r2_forward(&ctx, &ref->model, &batch, logp, NULL), R2_OK);
    return distance(logp, want, n);
}

/* The largest distance of any tensor's gradient. */
static double gradient_distance(const reference *ref) {
    double worst = 0.0;
    for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
        for (int64_t l = 0; l < r2__tensor_layers(&ref->model, id); ++l) {
            double off = distance(r2_gradient(&ref->model, (r2_tensor_id)id, l),
                                  r2_weight(&ref->grad, (r2_tensor_id)id, l),
                                  r2__tensor_size(&ref->model.tensor[id]));
            if (off > worst) worst = off;
        }
    }
    return worst;
}

static void swap_floats(float *a, float *b, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
        float kept = a[i];
        a[i] = b[i];
        b[i] = kept;
    }
}

/* A zeroed gradient, and one with two elements exchanged, must be found in every tensor. */
static void check_that_gradients_bite(reference *ref) {
    for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
        const r2_tensor *t = &ref->model.tensor[id];
        const int64_t n = r2__tensor_size(t), half = n / 2;
        for (int64_t l = 0; l < r2__tensor_layers(&ref->model, id); ++l) {
            float *g = r2_gradient(&ref->model, (r2_tensor_id)id, l);
            float *kept = (float *)malloc((size_t)n * sizeof *kept);
            memcpy(kept, g, (size_t)n * sizeof *g);
            memset(g, 0, (size_t)n * sizeof *g);
            CHECK(gradient_distance(ref) > 1e-2);
            memcpy(g, kept, (size_t)n * sizeof *g);
            swap_floats(g, g + half, half); /* the two halves exchanged */
            CHECK(gradient_distance(ref) > 1e-2);
            memcpy(g, kept, (size_t)n * sizeof *g);
            free(kept);
        }
    }
}

TEST(pytorch_agrees_on_every_gradient) {
    for (int k = 0; k < N_CASES; ++k) {
        reference ref;
        float want[1];
        fresh(2);
        REQUIRE_OK(&ctx, load_reference(&ref, &cases[k]));
        CHECK(logp_distance(&ref, "logp") < 1e-5);
        CHECK_EQ_INT(values_of(&ref, "loss", want), 1);
        CHECK_NEAR(reference_loss(&ref, true), want[0], 1e-5);
        CHECK(gradient_distance(&ref) < 1e-5); /* measured: 1e-6; the claim is 1e-4 */
        check_that_gradients_bite(&ref);
        free_reference(&ref);
    }
}

/* 10 steps of AdamW must have the losses on line `key`. */
static void check_steps(reference *ref, const char *key) {
    r2_adamw_config config = r2_adamw_config_default();
    float want[16];
    r2_adamw opt;
    config.weight_decay = 0.1f;
    CHECK_EQ_INT(values_of(ref, key, want), 10);
    REQUIRE_OK(&ctx, r2_adamw_init(&ctx, &opt, &ref->model, &config));
    for (int step = 0; step < 10; ++step) {
        CHECK_NEAR(reference_loss(ref, true), want[step], 1e-4);
        CHECK_STATUS(&ctx, r2_adamw_step(&ctx, &opt, &ref->model, 1e-2f, NULL), R2_OK);
    }
    r2_adamw_free(&ctx, &opt);
}

TEST(pytorch_agrees_on_ten_steps_of_adamw) {
    for (int k = 0; k < N_CASES; ++k) {
        reference ref;
        fresh(2);
        REQUIRE_OK(&ctx, load_reference(&ref, &cases[k]));
        check_steps(&ref, "steps");
        free_reference(&ref);
    }
}

TEST(pytorch_agrees_on_adapters) {
    for (int k = 0; k < N_CASES; ++k) {
        r2_lora_config config = r2_lora_config_default();
        static float want[MOST_VALUES];
        reference ref;
        double merged;
        fresh(2);
        config.rank = 3;
        config.alpha = 5.0f;
        REQUIRE_OK(&ctx, load_reference(&ref, &cases[k]));
        REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &ref.model, &config));
        REQUIRE(values_of(&ref, "adapters", ref.model.lora->param) == ref.model.lora->n_params);
        CHECK(logp_distance(&ref, "adapted_logp") < 1e-5);
        memset(ref.model.grad, 0, (size_t)ref.model.n_params * sizeof(float));
        reference_loss(&ref, true);
        CHECK_EQ_INT(values_of(&ref, "adapters_grad", want), ref.model.lora->n_params);
        CHECK(distance(ref.model.lora->grad, want, ref.model.lora->n_params) < 1e-5);
        for (int64_t i = 0; i < ref.model.n_params; ++i) /* the base is frozen */
            if (ref.model.grad[i] != 0.0f) CHECK(!"a frozen weight has a gradient");
        REQUIRE_OK(&ctx, r2_lora_merge(&ctx, &ref.model));
        merged = logp_distance(&ref, "adapted_logp");
        CHECK(merged < 1e-5);
        REQUIRE_OK(&ctx, r2_lora_unmerge(&ctx, &ref.model));
        CHECK(logp_distance(&ref, "adapted_logp") < 1e-5);
        check_steps(&ref, "adapted_steps");
        r2_lora_detach(&ctx, &ref.model);
        CHECK(logp_distance(&ref, "logp") < 1e-5);
        free_reference(&ref);
    }
}

/* ---- two ways that must agree ---- */

static const int32_t some_begin[] = {0, 9, 13, 14, 30}, some_row[] = {0, 0, 5, 8, 9, 12, 13, 20, 29};
static const int32_t some_wanted[] = {3, 4, 0, 40, 7, 7, 1, 2, 30};
static int32_t some_token[64];
static const float some_dlogp[] = {1.0f, -0.5f, 0.3f, 0.2f, -1.0f, 0.7f, 0.1f, -0.2f, 0.4f};

static r2_batch some_batch(void) {
    r2_batch batch = {4, some_begin, some_token, 9, some_row, some_wanted, NULL};
    for (int i = 0; i < 64; ++i) some_token[i] = (i * i * 5 + 3 * i) % 41;
    return batch;
}

/* B begins as zero: now it is not. */
static void stir_adapters(r2_model *model) {
    for (int64_t i = 0; i < model->lora->n_params; ++i)
        model->lora->param[i] += (float)(i % 7 - 3) * 0.02f;
}

/* With adapters (that are not zero) or without. */
static void check_recomputation(bool with_lora) {
    r2_model_config config = small_config();
    r2_lora_config lora = r2_lora_config_default();
    r2_batch batch = some_batch();
    r2_model kept, anew;
    float logp[9], again[9];
    fresh(2);
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &kept, &config, true));
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &anew, &config, true));
    for (int k = 0; k < 2 && with_lora; ++k) {
        r2_model *model = k ? &anew : &kept;
        REQUIRE_OK(&ctx, r2_lora_attach(&ctx, model, &lora));
        stir_adapters(model);
    }
    anew.recompute = true;
    REQUIRE_OK(&ctx, r2_forward(&ctx, &kept, &batch, logp, NULL));
    REQUIRE_OK(&ctx, r2_backward(&ctx, &kept, &batch, some_dlogp));
    REQUIRE_OK(&ctx, r2_forward(&ctx, &anew, &batch, again, NULL));
    REQUIRE_OK(&ctx, r2_backward(&ctx, &anew, &batch, some_dlogp));
    CHECK_EQ_INT(memcmp(logp, again, sizeof logp), 0);
    CHECK_EQ_INT(memcmp(kept.grad, anew.grad, (size_t)kept.n_params * sizeof(float)), 0);
    if (with_lora)
        CHECK_EQ_INT(
            memcmp(kept.lora->grad, anew.lora->grad, (size_t)kept.lora->n_params * sizeof(float)),
            0);
    CHECK(anew.parts->work[0].memory.used < kept.parts->work[0].memory.used);
    CHECK_STATUS(&ctx, r2_backward(&ctx, &kept, &batch, some_dlogp), R2_ARGUMENT); /* used up */
    r2_model_free(&ctx, &kept);
    r2_model_free(&ctx, &anew);
}

TEST(recomputed_activations_give_the_same_bits) {
    check_recomputation(false);
    check_recomputation(true);
}

/* What a forward leaves is for the model as it was then: another layout must be made anew, and a
   backward that finds one must say so. */
TEST(backward_wants_the_model_of_the_forward) {
    r2_model_config config = small_config();
    r2_lora_config lora = r2_lora_config_default();
    r2_batch batch = some_batch();
    r2_model model, plain;
    float logp[9];
    for (int k = 0; k < 2; ++k) {
        r2_model *m = k ? &plain : &model;
        fresh(2);
        REQUIRE_OK(&ctx, r2_model_init(&ctx, m, &config, false));
        REQUIRE_OK(&ctx, r2_lora_attach(&ctx, m, &lora));
        stir_adapters(m);
    }
    REQUIRE_OK(&ctx, r2_lora_merge(&ctx, &model)); /* the first layout is one without gradients */
    REQUIRE_OK(&ctx, r2_forward(&ctx, &model, &batch, logp, NULL));
    CHECK_STATUS(&ctx, r2_backward(&ctx, &model, &batch, some_dlogp), R2_ARGUMENT);
    REQUIRE_OK(&ctx, r2_lora_unmerge(&ctx, &model));
    REQUIRE_OK(&ctx, r2_forward(&ctx, &model, &batch, logp, NULL));
    REQUIRE_OK(&ctx, r2_backward(&ctx, &model, &batch, some_dlogp));
    REQUIRE_OK(&ctx, r2_forward(&ctx, &plain, &batch, logp, NULL));
    REQUIRE_OK(&ctx, r2_backward(&ctx, &plain, &batch, some_dlogp));
    CHECK(distance(model.lora->grad, plain.lora->grad, plain.lora->n_params) < 1e-4);

    REQUIRE_OK(&ctx, r2_forward(&ctx, &model, &batch, logp, NULL));
    REQUIRE_OK(&ctx, r2_lora_merge(&ctx, &model));
    CHECK_STATUS(&ctx, r2_backward(&ctx, &model, &batch, some_dlogp), R2_ARGUMENT);
    REQUIRE_OK(&ctx, r2_lora_unmerge(&ctx, &model));
    REQUIRE_OK(&ctx, r2_forward(&ctx, &model, &batch, logp, NULL));
    model.recompute = true;
    CHECK_STATUS(&ctx, r2_backward(&ctx, &model, &batch, some_dlogp), R2_ARGUMENT);
    model.recompute = false;
    fresh(1);
    REQUIRE_OK(&ctx, r2_forward(&ctx, &model, &batch, logp, NULL));
    ctx.n_threads = 64; /* whose scratch nobody has made */
    CHECK_STATUS(&ctx, r2_backward(&ctx, &model, &batch, some_dlogp), R2_ARGUMENT);
    r2_model_free(&ctx, &model);
    r2_model_free(&ctx, &plain);
}

/* Merged weights hold the adapters: written over, they would lose what unmerging takes out. */
TEST(merged_weights_are_not_written_over) {
    r2_model_config config = small_config();
    r2_lora_config lora = r2_lora_config_default();
    r2_model model, other;
    fresh(1);
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &config, false));
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &other, &config, false));
    REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &model, &lora));
    REQUIRE_OK(&ctx, r2_lora_merge(&ctx, &model));
    CHECK_STATUS(&ctx, r2_model_copy(&ctx, &model, &other), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_model_load(&ctx, &model, "tests/reference/nowhere"), R2_ARGUMENT);
    REQUIRE_OK(&ctx, r2_lora_unmerge(&ctx, &model));
    REQUIRE_OK(&ctx, r2_model_copy(&ctx, &model, &other));
    r2_model_free(&ctx, &model);
    r2_model_free(&ctx, &other);
}

/* Few rows get what the adapters add, many go through weights that contain it: one short sequence
   against many copies of it, whose gradients are so many times as large. */
TEST(adapters_added_and_summed_agree) {
    enum { COPIES = 32, LENGTH = 2 };
    r2_model_config config = small_config();
    r2_lora_config lora = r2_lora_config_default();
    int32_t begin[COPIES + 1], token[COPIES * LENGTH], row[COPIES], wanted[COPIES];
    r2_batch batch = {1, begin, token, 1, row, wanted, NULL};
    float logp[COPIES], dlogp[COPIES], one, *few;
    r2_model model;
    fresh(2);
    for (int k = 0; k <= COPIES; ++k) begin[k] = k * LENGTH;
    for (int k = 0; k < COPIES; ++k) {
        token[k * LENGTH] = 5;
        token[k * LENGTH + 1] = 11;
        row[k] = k * LENGTH + 1;
        wanted[k] = 7;
        dlogp[k] = 1.0f;
    }
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &config, false));
    REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &model, &lora));
    stir_adapters(&model);
    few = (float *)r2_alloc(&ctx, (uint64_t)model.lora->n_params, sizeof *few);
    REQUIRE(few != NULL);
    REQUIRE_OK(&ctx, r2_forward(&ctx, &model, &batch, &one, NULL));
    REQUIRE_OK(&ctx, r2_backward(&ctx, &model, &batch, dlogp));
    for (int64_t i = 0; i < model.lora->n_params; ++i)
        few[i] = COPIES * model.lora->grad[i];
    r2_zero_grad(&ctx, &model);
    batch.n_seq = batch.n_pred = COPIES;
    REQUIRE_OK(&ctx, r2_forward(&ctx, &model, &batch, logp, NULL));
    REQUIRE_OK(&ctx, r2_backward(&ctx, &model, &batch, dlogp));
    for (int k = 0; k < COPIES; ++k) CHECK_WITHIN(logp[k], one, 1e-5);
    CHECK_ARRAY_NEAR(model.lora->grad, few, model.lora->n_params, 1e-5);
    r2_release(&ctx, few);
    r2_model_free(&ctx, &model);
}

/* Branches against the same sequences written out in full. */
TEST(branches_are_whole_sequences) {
    static const int32_t begin[] = {0, 6, 9, 13, 15, 20, 21};
    static const bool branch[] = {false, true, true, false, true, true};
    static const int32_t row[] = {2, 5, 5, 8, 12, 14, 18, 20};
    static const int32_t full_begin[] = {0, 6, 15, 25, 27, 34, 37};
    static const int32_t full_row[] = {2, 5, 5, 14, 24, 26, 32, 36}; /* where the same rows are */
    r2_model_config config = small_config();
    r2_model short_one, full;
    float logp[8], want[8];
    int32_t token[64];
    r2_batch batch = some_batch(), whole;
    fresh(2);
    batch.n_seq = 6;
    batch.seq_begin = begin;
    batch.branch = branch;
    batch.n_pred = 8;
    batch.pred_row = row;
    whole = batch;
    whole.branch = NULL;
    whole.seq_begin = full_begin;
    whole.pred_row = full_row;
    whole.token = token;
    for (int s = 0, root = 0; s < 6; ++s) {
        int32_t *to = token + full_begin[s], shared = 0;
        if (!branch[s]) root = s;
        else shared = begin[root + 1] - begin[root];
        memcpy(to, some_token + begin[root], (size_t)shared * sizeof *to);
        memcpy(to + shared, some_token + begin[s], (size_t)(begin[s + 1] - begin[s]) * sizeof *to);
    }
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &short_one, &config, true));
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &full, &config, true));
    REQUIRE_OK(&ctx, r2_forward(&ctx, &short_one, &batch, logp, NULL));
    REQUIRE_OK(&ctx, r2_backward(&ctx, &short_one, &batch, some_dlogp));
    REQUIRE_OK(&ctx, r2_forward(&ctx, &full, &whole, want, NULL));
    REQUIRE_OK(&ctx, r2_backward(&ctx, &full, &whole, some_dlogp));
    CHECK(distance(logp, want, 8) < 1e-6);
    CHECK(distance(short_one.grad, full.grad, full.n_params) < 1e-5);
    r2_model_free(&ctx, &short_one);
    r2_model_free(&ctx, &full);
}

/* logp of tokens first .. n - 1 of a sequence by r2_forward. */
static void forward_logp(r2_model *model, const int32_t *token, int32_t n, int32_t first,
                         float *logp) {
    int32_t begin[2] = {0, n}, row[64];
    r2_batch batch = {1, begin, token, n - first, row, token + first, NULL};
    for (int32_t j = 0; j < n - first; ++j) row[j] = first + j - 1;
    CHECK_STATUS(&ctx, r2_forward(&ctx, model, &batch, logp, NULL), R2_OK);
}

TEST(adapters_begin_as_the_base_model) {
    r2_model_config config = small_config();
    r2_lora_config lora = r2_lora_config_default();
    r2_batch batch = some_batch();
    float before[9], after[9];
    r2_model model;
    fresh(2);
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &config, false));
    REQUIRE_OK(&ctx, r2_forward(&ctx, &model, &batch, before, NULL));
    lora.targets = 1u << R2_EMBED;
    CHECK_STATUS(&ctx, r2_lora_attach(&ctx, &model, &lora), R2_ARGUMENT);
    lora.targets = 1u << R2_WQ | 1u << R2_WDOWN;
    REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &model, &lora));
    REQUIRE_OK(&ctx, r2_forward(&ctx, &model, &batch, after, NULL));
    CHECK_EQ_INT(memcmp(before, after, sizeof before), 0);
    REQUIRE_OK(&ctx, r2_backward(&ctx, &model, &batch, some_dlogp)); /* without base gradients */
    r2_model_free(&ctx, &model);
}

/* ---- generation ---- */

static const int32_t five = 5; /* ends an output */

/* Every output of a generation against r2_forward of prompt + output. */
static void check_generation(r2_model *model, const r2_generate_config *config,
                             const int64_t *begin, const r2_generation *out) {
    for (int64_t o = 0; o < out->n_out; ++o) {
        const int64_t p = o / config->n_samples;
        int32_t token[64], n = (int32_t)(begin[p + 1] - begin[p]), length = out->length[o];
        float want[64];
        memcpy(token, some_token + begin[p], (size_t)n * sizeof *token);
        memcpy(token + n, out->token + o * config->max_new, (size_t)length * sizeof *token);
        forward_logp(model, token, n + length, n, want);
        CHECK_ARRAY_NEAR(out->logp + o * config->max_new, want, length, 2e-5);
        for (int32_t j = length; j < config->max_new; ++j)
            CHECK_EQ_INT(out->token[o * config->max_new + j], -1);
        for (int32_t w = 0; w < config->n_watch; ++w) {
            token[n + length] = config->watch[w];
            forward_logp(model, token, n + length + 1, n + length, want);
            CHECK_NEAR(out->watch_logp[o * config->n_watch + w], want[0], 2e-5);
        }
        CHECK(length == config->max_new || token[n + length - 1] == *config->stop ||
              config->n_watch > 0);
    }
}

TEST(generation_is_what_forward_says) {
    const int64_t begin[] = {0, 7, 8, 20};
    const int32_t watch[] = {1, 2, 40};
    for (int variant = 0; variant < 8; ++variant) {
        r2_model_config shape = small_config();
        r2_generate_config config = r2_generate_config_default();
        r2_lora_config lora = r2_lora_config_default();
        r2_generation out;
        r2_model model;
        fresh(2);
        some_batch();
        shape.tied = variant % 2;
        config.n_samples = 1 + variant % 3;
        config.max_new = variant == 5 ? 0 : 8;
        config.temperature = variant < 2 ? 0.0f : 0.9f;
        config.stop = &five, config.n_stop = 1;
        config.n_token = 39;
        config.n_watch = variant == 4 ? 0 : 3;
        config.watch = watch;
        REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &shape, false));
        if (variant == 7) {
            REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &model, &lora));
            for (int64_t i = 0; i < model.lora->n_params; ++i) model.lora->param[i] = 0.1f;
        }
        REQUIRE_OK(&ctx, r2_generate(&ctx, &model, &config, 3, begin, some_token, &out));
        CHECK_EQ_INT(out.n_out, 3 * config.n_samples);
        check_generation(&model, &config, begin, &out);
        for (int64_t i = 0; i < out.n_out * out.max_new; ++i) CHECK(out.token[i] < 39);
        r2_generation_free(&ctx, &out);
        r2_model_free(&ctx, &model);
    }
}

/* Output by output in [M7] and many at once in [E5]: the same tokens, sampled ones too. */
TEST(batched_decoding_is_plain_decoding) {
    const int64_t begin[] = {0, 7, 8, 20};
    const int32_t watch[] = {1, 2, 40};
    for (int variant = 0; variant < 4; ++variant) {
        r2_model_config shape = small_config();
        r2_generate_config config = r2_generate_config_default();
        r2_lora_config lora = r2_lora_config_default();
        r2_generation fast, plain;
        r2_model model;
        fresh(2);
        some_batch();
        config.n_samples = 1 + variant;
        config.max_new = 8;
        config.temperature = variant == 0 ? 0.0f : 0.9f;
        config.stop = &five, config.n_stop = 1;
        config.n_token = variant == 2 ? 30 : 0;
        config.n_watch = variant == 1 ? 0 : 3;
        config.watch = watch;
        REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &shape, false));
        if (variant == 3) {
            REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &model, &lora));
            stir_adapters(&model);
        }
        REQUIRE_OK(&ctx, r2__generate(&ctx, &model, "", &config, 3, begin, some_token, &fast));
        REQUIRE_OK(&ctx,
                   r2__generate_plain(&ctx, &model, "", &config, 3, begin, some_token, &plain));
        for (int64_t o = 0; o < fast.n_out; ++o) {
            CHECK_EQ_INT(fast.length[o], plain.length[o]);
            CHECK_EQ_INT(memcmp(fast.token + o * 8, plain.token + o * 8, 8 * sizeof(int32_t)), 0);
            for (int32_t j = 0; j < fast.length[o]; ++j)
                CHECK_WITHIN(fast.logp[o * 8 + j], plain.logp[o * 8 + j], 1e-5);
            for (int32_t j = 0; j < config.n_watch; ++j)
                CHECK_WITHIN(fast.watch_logp[o * 3 + j], plain.watch_logp[o * 3 + j], 1e-5);
        }
        r2_generation_free(&ctx, &fast);
        r2_generation_free(&ctx, &plain);
        r2_model_free(&ctx, &model);
    }
    CHECK_EQ_INT(r2__kept_rows(40, 8, 24), 232); /* the worked number of [E5] */
}

TEST(greedy_takes_the_most_probable) {
    const int64_t begin[] = {0, 7};
    r2_model_config shape = small_config();
    r2_generate_config config = r2_generate_config_default();
    r2_generation out;
    r2_model model;
    fresh(2);
    some_batch();
    config.temperature = 0.0f;
    config.max_new = 6;
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &shape, false));
    REQUIRE_OK(&ctx, r2_generate(&ctx, &model, &config, 1, begin, some_token, &out));
    for (int32_t j = 0; j < 6; ++j) {
        int32_t token[16], best = 0;
        float top = -INFINITY, logp;
        memcpy(token, some_token, 7 * sizeof *token);
        memcpy(token + 7, out.token, (size_t)j * sizeof *token);
        for (int32_t v = 0; v < 41; ++v) {
            token[7 + j] = v;
            forward_logp(&model, token, 8 + j, 7 + j, &logp);
            if (logp > top) {
                top = logp;
                best = v;
            }
        }
        CHECK_EQ_INT(out.token[j], best);
    }
    r2_generation_free(&ctx, &out);
    r2_model_free(&ctx, &model);
}

TEST(the_first_of_the_largest) {
    float x[600]; /* several blocks of any width */
    for (int n = 1; n <= 600; n += n < 40 ? 1 : 80) {
        for (int top = 0; top < n; ++top) {
            for (int v = 0; v < n; ++v) x[v] = v >= top && (v - top) % 3 == 0 ? 2.5f : -1.0f;
            CHECK_EQ_INT(r2__argmax(x, n), top);
        }
        for (int v = 0; v < n; ++v) x[v] = NAN;
        CHECK_EQ_INT(r2__argmax(x, n), 0);
    }
}

/* Frequencies of both samplers against the softmax at a temperature. */
static void check_sampling(const float *logits, int n, float temperature) {
    enum { DRAWS = 40000 };
    double p[32], total = 0.0;
    for (int v = 0; v < n; ++v) total += p[v] = exp((double)logits[v] / (double)temperature);
    for (int plain = 0; plain < 2; ++plain) {
        r2_rng rng = r2_rng_make(5, R2_STREAM_USER, 1);
        double chi2 = 0.0;
        int count[32] = {0};
        float scratch[32];
        for (int draw = 0; draw < DRAWS; ++draw)
            count[plain ? r2__sample_plain(logits, n, temperature, &rng)
                        : r2__sample(logits, n, temperature, &rng, scratch)]++;
        for (int v = 0; v < n; ++v) {
            double expected = p[v] / total * DRAWS;
            chi2 += (count[v] - expected) * (count[v] - expected) / expected;
        }
        CHECK(chi2 < n - 1 + 5.0 * sqrt(2.0 * n)); /* five deviations */
    }
}

TEST(sampling_follows_the_probabilities) {
    const float logits[] = {0.1f, 1.3f, -0.7f, 2.0f, 0.9f, -3.0f, 1.1f, 0.0f, 1.7f, -1.0f, 0.5f};
    check_sampling(logits, 11, 1.0f);
    check_sampling(logits, 11, 0.5f);
    check_sampling(logits, 11, 1.5f);
}

/* ---- threads ---- */

/* Some steps of training, then generation; returns a hash of weights and tokens. */
static uint64_t train_and_generate(int threads, int steps, bool with_lora) {
    enum { SEQ = 10, LENGTH = 40 };
    static int32_t begin[SEQ + 1], token[SEQ * LENGTH], row[SEQ * LENGTH], wanted[SEQ * LENGTH];
    static float logp[SEQ * LENGTH], dlogp[SEQ * LENGTH];
    const int64_t prompt_begin[] = {0, 11, 12, 40, 52};
    r2_model_config config = small_config();
    r2_adamw_config adamw = r2_adamw_config_default();
    r2_generate_config how = r2_generate_config_default();
    r2_lora_config lora = r2_lora_config_default();
    r2_generation out;
    r2_model model;
    r2_adamw opt;
    r2_batch batch = {SEQ, begin, token, 0, row, wanted, NULL};
    uint64_t hash = 0;
    fresh(threads);
    config.n_layer = 1;
    config.d_model = 32; /* enough work that kernels do wake threads */
    config.d_ff = 96;
    if (r2_model_init(&ctx, &model, &config, true) != R2_OK) return 0;
    if (with_lora && r2_lora_attach(&ctx, &model, &lora) != R2_OK) return 0;
    if (r2_adamw_init(&ctx, &opt, &model, &adamw) != R2_OK) return 0;
    for (int step = 0; step < steps; ++step) {
        r2_rng rng = r2_rng_make(1, R2_STREAM_USER, (uint64_t)step);
        batch.n_pred = 0;
        for (int s = 0; s < SEQ; ++s) {
            begin[s + 1] = begin[s] + 20 + (int32_t)r2_rng_below(&rng, LENGTH - 20);
            for (int32_t r = begin[s]; r < begin[s + 1]; ++r) token[r] = (int32_t)r2_rng_below(&rng, 41);
            for (int32_t r = begin[s] + 3; r < begin[s + 1]; ++r) {
                row[batch.n_pred] = r - 1;
                dlogp[batch.n_pred] = -0.01f;
                wanted[batch.n_pred++] = (token[r - 3] + token[r - 1]) % 41;
            }
        }
        r2_forward(&ctx, &model, &batch, logp, NULL);
        r2_zero_grad(&ctx, &model);
        r2_backward(&ctx, &model, &batch, dlogp);
        r2_adamw_step(&ctx, &opt, &model, 3e-3f, NULL);
    }
    how.n_samples = 5;
    how.max_new = 12;
    if (r2_generate(&ctx, &model, &how, 4, prompt_begin, token, &out) != R2_OK) return 0;
    if (with_lora) r2_lora_merge(&ctx, &model);
    for (int64_t i = 0; i < model.n_params; ++i) {
        uint32_t bits;
        memcpy(&bits, &model.param[i], sizeof bits);
        hash = r2_hash(hash, bits, (uint64_t)i);
    }
    for (int64_t i = 0; i < out.n_out * out.max_new; ++i)
        hash = r2_hash(hash, (uint64_t)out.token[i], 1);
    r2_generation_free(&ctx, &out);
    r2_adamw_free(&ctx, &opt);
    r2_model_free(&ctx, &model);
    return hash;
}

TEST(threads_do_not_change_a_bit_of_training) {
    const uint64_t one = train_and_generate(1, 50, false), adapted = train_and_generate(1, 8, true);
    CHECK(one != 0 && adapted != 0 && one != adapted);
    CHECK(train_and_generate(2, 50, false) == one);
    CHECK(train_and_generate(3, 50, false) == one);
    CHECK(train_and_generate(8, 50, false) == one);
    for (int threads = 2; threads <= 8; threads += threads == 3 ? 5 : 1)
        CHECK(train_and_generate(threads, 8, true) == adapted);
}

/* Generates from two prompts with a model whose products wake a crew; a hash of what came out. */
static uint64_t generate_wide(int threads) {
    const int64_t begin[] = {0, 5, 6};
    r2_model_config config = small_config();
    r2_generate_config how = r2_generate_config_default();
    r2_generation out;
    r2_model model;
    uint64_t hash = 1;
    fresh(threads);
    config.d_model = 96;
    config.d_ff = 1024; /* (2 x 1024) x 96 / 4 operations: see r2_matmul */
    how.n_samples = 2;
    how.max_new = 12;
    if (r2_model_init(&ctx, &model, &config, false) != R2_OK) return 0;
    if (r2_generate(&ctx, &model, &how, 2, begin, some_token, &out) != R2_OK) return 0;
    for (int64_t i = 0; i < out.n_out * out.max_new; ++i) {
        uint32_t bits;
        memcpy(&bits, &out.logp[i], sizeof bits);
        hash = r2_hash(hash, bits, (uint64_t)out.token[i]);
    }
    r2_generation_free(&ctx, &out);
    r2_model_free(&ctx, &model);
    return hash;
}

TEST(a_crew_writes_what_one_thread_writes) {
    const uint64_t one = generate_wide(1);
    uint64_t within[2] = {0, 0};
    CHECK(one != 0);
    for (int threads = 2; threads <= 8; threads += threads == 3 ? 5 : 1)
        CHECK(generate_wide(threads) == one);
    /* within a region of the caller's, OpenMP has no more than one thread for it */
    R2_PARALLEL_FOR(2, k, 2) {
        if (k == 1) within[k] = generate_wide(3);
    }
    CHECK(within[1] == one);
}

/* ---- arguments ---- */

TEST(wrong_arguments_are_refused) {
    r2_model_config config = small_config(), wrong = config;
    r2_batch batch = some_batch(), bad = batch;
    const int32_t falling[] = {0, 5, 3, 8, 9, 12, 13, 20, 29}, beyond[] = {0, 9, 13, 14, 90};
    const bool first_branch[] = {true, false, false, false};
    const int64_t begin[] = {0, 60};
    r2_generate_config how = r2_generate_config_default();
    r2_generation out;
    float logp[9];
    r2_model model;
    fresh(1);
    wrong.n_head = 5;
    CHECK_STATUS(&ctx, r2_model_init(&ctx, &model, &wrong, true), R2_ARGUMENT);
    wrong = config;
    wrong.n_kv_head = 3;
    CHECK_STATUS(&ctx, r2_model_init(&ctx, &model, &wrong, true), R2_ARGUMENT);
    wrong = config;
    wrong.n_vocab = INT32_MAX;
    CHECK_STATUS(&ctx, r2_model_init(&ctx, &model, &wrong, true), R2_ARGUMENT);
    r2_model_free(&ctx, &model); /* a failed init leaves something that may be freed */
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &config, true));
    CHECK_STATUS(&ctx, r2_backward(&ctx, &model, &batch, some_dlogp), R2_ARGUMENT);
    bad.pred_row = falling;
    CHECK_STATUS(&ctx, r2_forward(&ctx, &model, &bad, logp, NULL), R2_ARGUMENT);
    bad = batch;
    bad.seq_begin = beyond;
    CHECK_STATUS(&ctx, r2_forward(&ctx, &model, &bad, logp, NULL), R2_ARGUMENT);
    bad = batch;
    bad.branch = first_branch;
    CHECK_STATUS(&ctx, r2_forward(&ctx, &model, &bad, logp, NULL), R2_ARGUMENT);
    some_token[3] = 41;
    CHECK_STATUS(&ctx, r2_forward(&ctx, &model, &batch, logp, NULL), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_generate(&ctx, &model, &how, 1, begin, some_token, &out), R2_ARGUMENT);
    how.max_new = 3;
    CHECK_STATUS(&ctx, r2_generate(&ctx, &model, &how, 1, begin, some_token, &out), R2_ARGUMENT);
    r2_model_free(&ctx, &model);
}

/* A model that may see fewer or no more tokens than its file says. */
TEST(positions_that_are_asked_for) {
    r2_model model;
    fresh(1);
    REQUIRE_OK(&ctx, r2_model_load_dir(&ctx, &model, "tests/reference/hf/llama", 16, false));
    CHECK_EQ_INT(model.config.n_ctx, 16);
    r2_model_free(&ctx, &model);
    CHECK_STATUS(&ctx, r2_model_load_dir(&ctx, &model, "tests/reference/hf/llama", 65, false),
                 R2_FORMAT);
    CHECK(strstr(ctx.message, "max_position_embeddings is less than the n_ctx asked for") != NULL);
}

/* ---- weights on disk ---- */

/* What read_safetensors.py must print of a model. */
static void describe(const r2_model *model, r2_text *text) {
    for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
        for (int64_t l = 0; l < r2__tensor_layers(model, id); ++l) {
            const r2_tensor *t = &model->tensor[id];
            const float *w = r2_weight(model, (r2_tensor_id)id, l);
            double sum = 0.0;
            for (int64_t i = 0; i < t->rows * t->cols; ++i) sum += (double)(i + 1) * (double)w[i];
            if (t->per_layer) r2_text_addf(&ctx, text, "model.layers.%lld.", (long long)l);
            r2_text_addf(&ctx, text, "%s F32 ", t->name);
            if (t->rows > 1) r2_text_addf(&ctx, text, "%lldx", (long long)t->rows);
            r2_text_addf(&ctx, text, "%lld %.9e\n", (long long)t->cols, sum);
        }
    }
}

TEST(python_reads_what_we_write) {
    r2_model_config config = small_config();
    char command[900], path[256], out_path[300];
    r2_text want = {NULL, 0, 0, false}, got = {NULL, 0, 0, false};
    r2_model model, again;
    fresh(1);
    if (system("python3 -c '' >/dev/null 2>&1") != 0) SKIP("there is no python3");
    snprintf(path, sizeof path, "%s", temporary("weights.safetensors"));
    snprintf(out_path, sizeof out_path, "%s.txt", path);
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &config, false));
    REQUIRE_OK(&ctx, r2_model_save(&ctx, &model, path));
    describe(&model, &want);
    snprintf(command, sizeof command, "python3 tests/reference/read_safetensors.py %s > %s", path,
             out_path);
    CHECK_EQ_INT(system(command), 0);
    REQUIRE_OK(&ctx, r2_read_file(&ctx, out_path, &got));
    CHECK_EQ_STR(got.data, want.data);
    config.seed = 2;
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &again, &config, false));
    CHECK(memcmp(again.param, model.param, (size_t)model.n_params * sizeof(float)) != 0);
    REQUIRE_OK(&ctx, r2_model_load(&ctx, &again, path));
    CHECK_EQ_INT(memcmp(again.param, model.param, (size_t)model.n_params * sizeof(float)), 0);
    remove(path);
    remove(out_path);
    r2_text_free(&ctx, &want);
    r2_text_free(&ctx, &got);
    r2_model_free(&ctx, &model);
    r2_model_free(&ctx, &again);
}

/* A model of one layer with few numbers, for files written by hand. */
static r2_model_config mini_config(void) {
    r2_model_config c = r2_model_config_default();
    c.n_vocab = 3;
    c.n_layer = c.n_head = c.n_kv_head = 1;
    c.d_model = c.d_ff = 2;
    return c;
}

/* Writes length + header + n zero bytes and loads it into a mini model. */
static r2_status load_bytes(const char *header, uint64_t length, size_t n) {
    r2_model_config config = mini_config();
    r2_text text = {NULL, 0, 0, false};
    r2_model model;
    r2_status status;
    for (int b = 0; b < 8; ++b) {
        char byte = (char)(unsigned char)(length >> 8 * b);
        r2_text_add(&ctx, &text, &byte, 1);
    }
    r2_text_addf(&ctx, &text, "%s", header);
    for (size_t i = 0; i < n; ++i) r2_text_add(&ctx, &text, "\x3c", 1);
    r2_write_file(&ctx, temporary("hostile"), text.data, text.len);
    r2_model_init(&ctx, &model, &config, false);
    status = r2_model_load(&ctx, &model, temporary("hostile"));
    CHECK(status == R2_OK || model.param[0] < 0.5f); /* a refused file changes nothing */
    remove(temporary("hostile"));
    r2_model_free(&ctx, &model);
    r2_text_free(&ctx, &text);
    return status;
}

/* The header of a mini model in which `find` (if any) is replaced once by `put`; dtype of all. */
static void mini_header(char *header, size_t size, const char *dtype, int bytes, const char *find,
                        const char *put) {
    static const char *const name[] = {"input_layernorm.weight", "self_attn.q_proj.weight",
                                       "self_attn.k_proj.weight", "self_attn.v_proj.weight",
                                       "self_attn.o_proj.weight", "post_attention_layernorm.weight",
                                       "mlp.gate_proj.weight", "mlp.up_proj.weight",
                                       "mlp.down_proj.weight"};
    int at = 6 * bytes;
    size_t n = (size_t)snprintf(header, size, "{\"__metadata__\":{\"a\":\"b\"},"
                                "\"model.embed_tokens.weight\":{\"dtype\":\"%s\",\"shape\":[3,2],"
                                "\"data_offsets\":[0,%d]}", dtype, at);
    for (int i = 0; i < 9; ++i) {
        const bool vector = strstr(name[i], "norm") != NULL;
        n += (size_t)snprintf(header + n, size - n, ",\"model.layers.0.%s\":{\"dtype\":\"%s\","
                              "\"shape\":[%s],\"data_offsets\":[%d,%d]}", name[i], dtype,
                              vector ? "2" : "2,2", at, at + (vector ? 2 : 4) * bytes);
        at += (vector ? 2 : 4) * bytes;
    }
    n += (size_t)snprintf(header + n, size - n, ",\"model.norm.weight\":{\"dtype\":\"%s\",\"shape\":"
                          "[2],\"data_offsets\":[%d,%d]}}", dtype, at, at + 2 * bytes);
    if (find) {
        char rest[4096], *found = strstr(header, find);
        if (!CHECK(found != NULL)) return;
        snprintf(rest, sizeof rest, "%s", found + strlen(find));
        snprintf(found, size - (size_t)(found - header), "%s%s", put, rest);
    }
}

enum { MINI_FLOATS = 6 + 2 + 4 * 4 + 2 + 3 * 4 + 2 };

static r2_status load_mutated(const char *find, const char *put) {
    char header[4096];
    mini_header(header, sizeof header, "F32", 4, find, put);
    return load_bytes(header, strlen(header), MINI_FLOATS * 4);
}

TEST(hostile_weights_are_refused) {
    static const char *const mutation[][2] = {
        {"[3,2]", "[2,3]"},                       /* another shape of the same size           */
        {"[3,2]", "[6]"},                         /* another rank                             */
        {"[3,2]", "[3,-2]"},                      /* not a size                               */
        {"[3,2]", "[3,2.5]"},                     /* not whole                                */
        {"[3,2]", "[4294967296,4294967296]"},     /* the product wraps                        */
        {"[3,2]", "[3,2,1,1,1,1,1,1,1,1,1]"},     /* more dimensions than anything has        */
        {"[3,2]", "[1e300]"},                     /* beyond what a number holds exactly       */
        {"[3,2]", "\"3,2\""},                     /* not a list                               */
        {"[0,24]", "[0,28]"},                     /* overlaps the next, more than its shape   */
        {"[0,24]", "[24,0]"},                     /* ends before it begins                    */
        {"[0,24]", "[0]"},                        /* no end                                   */
        {"[0,24]", "[0,24,24]"},                  /* two ends                                 */
        {"[0,24]", "[4,28]"},                     /* a gap in front                           */
        {"[24,32]", "[0,8]"},                     /* over another tensor                      */
        {"[24,32]", "[9007199254740984,9007199254740992]"}, /* far out of the file            */
        {"\"F32\"", "\"F33\""},                   /* no such type                             */
        {"\"F32\"", "32"},                        /* not a name                               */
        {"\"shape\"", "\"shapes\""},              /* a field that is not there, one too many  */
        {"\"shape\":[3,2]", "\"dtype\":\"F32\""}, /* a field twice                            */
        {"model.norm", "model.embed_tokens"},     /* a name twice                             */
        {"model.norm", "model.other"},            /* a name that is not expected              */
        {"{\"a\":\"b\"}", "{\"a\":1}"},           /* metadata that is not text                */
        {"{\"a\":\"b\"}", "[]"},                  /* nor an object                            */
        {"\"model.norm", "\"__metadata__\":{},\"model.norm"}, /* metadata twice               */
        {"{\"__metadata__\"", " {\"__metadata__\""},          /* does not begin with {        */
        {"]}}", "]}} x"},                         /* something after the header               */
        {"]}}", "]}"},                            /* not JSON                                 */
        {"\"shape\":[3,2],\"data_offsets\":[0,24]", "\"shape\":[3,2],\"data_offsets\":\"0,24\""},
        {"[0,24]", "[\"0\",24]"},                 /* not a number                             */
        {"[0,24]", "[0,-24]"},                    /* a negative end                           */
        {"[0,24]", "[0,24.5]"},                   /* half a byte                              */
        {"[24,32]", "[24,24]"},                   /* two begin at one place                   */
        {"{\"dtype\":\"F32\",\"shape\":[3,2],\"data_offsets\":[0,24]}", "7"}, /* no object        */
    };
    fresh(1);
    CHECK_STATUS(&ctx, load_mutated(NULL, NULL), R2_OK);
    CHECK_STATUS(&ctx, load_mutated("]}}", "]}}   "), R2_OK); /* padding is allowed */
    for (size_t i = 0; i < sizeof mutation / sizeof *mutation; ++i)
        if (!CHECK_STATUS(&ctx, load_mutated(mutation[i][0], mutation[i][1]), R2_FORMAT))
            printf("  %s -> %s\n", mutation[i][0], mutation[i][1]);
}

TEST(lying_lengths_are_refused) {
    const uint64_t lie[] = {0, 1, 100000001, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    char header[4096];
    fresh(1);
    mini_header(header, sizeof header, "F32", 4, NULL, NULL);
    for (size_t i = 0; i < sizeof lie / sizeof *lie; ++i)
        CHECK_STATUS(&ctx, load_bytes(header, lie[i], MINI_FLOATS * 4), R2_FORMAT);
    for (int off = -9; off <= 9; off += 3)
        if (off != 0)
            CHECK_STATUS(&ctx, load_bytes(header, strlen(header) + (uint64_t)off, MINI_FLOATS * 4),
                         R2_FORMAT);
    CHECK_STATUS(&ctx, load_bytes(header, strlen(header), MINI_FLOATS * 4 - 1), R2_FORMAT);
    CHECK_STATUS(&ctx, load_bytes(header, strlen(header), MINI_FLOATS * 4 + 1), R2_FORMAT);
    CHECK_STATUS(&ctx, load_bytes("", 0, 0), R2_FORMAT);
    CHECK_STATUS(&ctx, load_mutated("\"F32\"", "\"I32\""), R2_FORMAT); /* right size, no float */
}

TEST(half_precision_is_read) {
    char header[4096];
    fresh(1);
    mini_header(header, sizeof header, "F16", 2, NULL, NULL);
    CHECK_STATUS(&ctx, load_bytes(header, strlen(header), MINI_FLOATS * 2), R2_OK);
    mini_header(header, sizeof header, "BF16", 2, NULL, NULL);
    CHECK_STATUS(&ctx, load_bytes(header, strlen(header), MINI_FLOATS * 2), R2_OK);
    CHECK(r2__half_to_float(0x0000) == 0.0f && signbit(r2__half_to_float(0x8000)));
    CHECK(r2__half_to_float(0x3C00) == 1.0f && r2__half_to_float(0xC000) == -2.0f);
    CHECK(r2__half_to_float(0x0001) == 0x1p-24f && r2__half_to_float(0x83FF) == -0x3FFp-24f);
    CHECK(r2__half_to_float(0x0400) == 0x1p-14f && r2__half_to_float(0x7BFF) == 65504.0f);
    CHECK(isinf(r2__half_to_float(0x7C00)) && isnan(r2__half_to_float(0x7E00)));
}

/* ---- Hugging Face directories ---- */

/* Distance of all log-probabilities from those in directory/logp.txt. */
static double directory_distance(r2_model *model, const char *directory) {
    enum { LENGTH = 11 };
    static float logp[MOST_VALUES], want[MOST_VALUES];
    static int32_t row[MOST_VALUES], wanted[MOST_VALUES];
    const int32_t V = model->config.n_vocab, n = LENGTH * V;
    int32_t begin[2] = {0, LENGTH}, token[LENGTH];
    r2_batch batch = {1, begin, token, n, row, wanted, NULL};
    r2_text text = {NULL, 0, 0, false};
    char path[256], *at;
    snprintf(path, sizeof path, "%s/logp.txt", directory);
    if (!CHECK_STATUS(&ctx, r2_read_file(&ctx, path, &text), R2_OK)) return INFINITY;
    at = text.data;
    for (int i = 0; i < LENGTH; ++i) token[i] = (int32_t)strtol(at, &at, 10);
    for (int32_t j = 0; j < n; ++j) {
        want[j] = strtof(at, &at);
        row[j] = j / V;
        wanted[j] = j % V;
    }
    r2_text_free(&ctx, &text);
    CHECK_STATUS(&ctx, r2_forward(&ctx, model, &batch, logp, NULL), R2_OK);
    return distance(logp, want, n);
}

TEST(pytorch_agrees_on_directories) {
    static const char *const directory[] = {"tests/reference/hf/llama", "tests/reference/hf/qwen2"};
    for (int k = 0; k < 2; ++k) {
        r2_model model;
        fresh(2);
        REQUIRE_OK(&ctx, r2_model_load_dir(&ctx, &model, directory[k], 0, false));
        CHECK(directory_distance(&model, directory[k]) < 1e-5); /* the claim is 1e-4 */
        CHECK(model.config.tied == (k == 1) && model.config.qkv_bias == (k == 1));
        CHECK_EQ_INT(model.config.n_ctx, 64);
        r2_weight(&model, R2_WDOWN, 1)[3] += 0.5f; /* the comparison would notice one number */
        CHECK(directory_distance(&model, directory[k]) > 1e-4);
        r2_model_free(&ctx, &model);
        REQUIRE_OK(&ctx, r2_model_load_dir(&ctx, &model, directory[k], 16, true));
        CHECK(model.config.n_ctx == 16 && model.grad != NULL);
        r2_model_free(&ctx, &model);
        CHECK_STATUS(&ctx, r2_model_load_dir(&ctx, &model, directory[k], 65, false), R2_FORMAT);
    }
}

TEST(pytorch_agrees_on_an_adapter_file) {
    r2_model model;
    fresh(2);
    REQUIRE_OK(&ctx, r2_model_load_dir(&ctx, &model, "tests/reference/hf/llama", 0, false));
    REQUIRE_OK(&ctx, r2_lora_load(&ctx, &model, "tests/reference/hf/adapter"));
    CHECK_EQ_INT(model.lora->config.rank, 2);
    CHECK(directory_distance(&model, "tests/reference/hf/adapter") < 1e-5);
    CHECK_STATUS(&ctx, r2_lora_load(&ctx, &model, "tests/reference/hf/adapter"), R2_ARGUMENT);
    r2_lora_detach(&ctx, &model);
    CHECK(directory_distance(&model, "tests/reference/hf/adapter") > 1e-3);
    r2_model_free(&ctx, &model);
}

static void copy_file(const char *from, const char *to) {
    r2_text text = {NULL, 0, 0, false};
    CHECK_STATUS(&ctx, r2_read_file(&ctx, from, &text), R2_OK);
    CHECK_STATUS(&ctx, r2_write_file(&ctx, to, text.data ? text.data : "", text.len), R2_OK);
    r2_text_free(&ctx, &text);
}

/* A copy of a directory of tests/reference/hf, in which `find` of one file is replaced by `put`. */
static const char *altered_directory(const char *name, const char *file, const char *find,
                                     const char *put) {
    static const char *const files[] = {"config.json",
                                        "model.safetensors",
                                        "model.safetensors.index.json",
                                        "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors",
                                        "adapter_config.json",
                                        "adapter_model.safetensors"};
    static char directory[256];
    char from[300], to[600];
    snprintf(directory, sizeof directory, "%s", temporary("directory"));
    mkdir(directory, 0700);
    for (size_t i = 0; i < sizeof files / sizeof *files; ++i) {
        r2_text text = {NULL, 0, 0, false}, changed = {NULL, 0, 0, false};
        const char *at;
        snprintf(from, sizeof from, "tests/reference/hf/%s/%s", name, files[i]);
        snprintf(to, sizeof to, "%s/%s", directory, files[i]);
        remove(to);
        if (access(from, R_OK) != 0) continue;
        copy_file(from, to);
        if (!find || strcmp(files[i], file) != 0) continue;
        CHECK_STATUS(&ctx, r2_read_file(&ctx, from, &text), R2_OK);
        at = strstr(text.data, find);
        if (!CHECK(at != NULL)) printf("  no %s in %s\n", find, from);
        if (at) {
            r2_text_add(&ctx, &changed, text.data, (size_t)(at - text.data));
            r2_text_addf(&ctx, &changed, "%s%s", put, at + strlen(find));
            CHECK_STATUS(&ctx, r2_write_file(&ctx, to, changed.data, changed.len), R2_OK);
        }
        r2_text_free(&ctx, &text);
        r2_text_free(&ctx, &changed);
    }
    return directory;
}

static void remove_directory(void) {
    char command[300];
    snprintf(command, sizeof command, "rm -r %s", temporary("directory"));
    CHECK_EQ_INT(system(command), 0);
}

TEST(hostile_directories_are_refused) {
    static const char config[] = "config.json", index[] = "model.safetensors.index.json";
    static const char *const wrong[][4] = {
        {"llama", config, "\"llama\"", "\"mistral\""},
        {"llama", config, "\"llama\"", "7"},
        {"llama", config, "\"model_type\"", "\"model\""},
        {"llama", config, "\"hidden_size\": 16", "\"hidden_size\": 18"},
        {"llama", config, "\"hidden_size\": 16", "\"hidden_size\": -16"},
        {"llama", config, "\"hidden_size\": 16", "\"hidden_size\": 1e300"},
        {"llama", config, "\"hidden_size\": 16", "\"hidden_size\": 16, \"hidden_size\": 16"},
        {"llama", config, "\"hidden_size\": 16", "\"hidden\": 16"},
        {"llama", config, "\"hidden_size\": 16", "\"hidden_size\": 16, \"head_dim\": 8"},
        {"llama", config, "\"num_attention_heads\": 4", "\"num_attention_heads\": 3"},
        {"llama", config, "\"num_attention_heads\": 4", "\"num_attention_heads\": 0"},
        {"llama", config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"},
        {"llama", config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"},
        {"llama", config, "\"silu\"", "\"gelu\""},
        {"llama", config, "\"rope_theta\": 50000.0", "\"rope_theta\": \"50000\""},
        {"llama", config, "\"rope_theta\": 50000.0", "\"rope_theta\": 0"},
        {"llama", config, "\"rope_scaling\": null",
         "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.0}"},
        {"llama", config, "\"rope_scaling\": null",
         "\"rope_scaling\": {\"rope_type\": \"llama3\"}"},
        {"llama", config, "\"rope_scaling\": null", "\"rope_scaling\": {\"factor\": 2.0}"},
        {"llama", config, "\"rope_scaling\": null", "\"rope_scaling\": \"linear\""},
        {"llama", config, "\"rope_scaling\": null", "\"rope_scaling\": {\"rope_theta\": 7.0}"},
        {"llama", config, "\"attention_bias\": false", "\"attention_bias\": true"},
        {"llama", config, "\"mlp_bias\": false", "\"quantization_config\": {\"bits\": 4}"},
        {"llama", config, "\"float32\"", "\"float8\""},
        {"llama", config, "{", "[{"},
        {"llama", config, "{", ""},
        {"llama", config, "\n}", "\n}}"},
        {"qwen2", config, "\"use_sliding_window\": false", "\"use_sliding_window\": true"},
        {"qwen2", config, "\"full_attention\"", "\"sliding_attention\""},
        {"qwen2", config, "\"default\"", "\"yarn\""},
        {"qwen2", index, "\"model-00001", "\"../model-00001"},
        {"qwen2", index, "\"model-00001", "\"/model-00001"},
        {"qwen2", index, "\"model-00001-of-00002.safetensors\"", "\"\""},
        {"qwen2", index, "\"model-00001-of-00002.safetensors\"", "7"},
        {"qwen2", index, "\"model-00001-of-00002.safetensors\"",
         "\"model-00002-of-00002.safetensors\""},
        {"qwen2", index, "\"model.norm.weight\"", "\"model.other.weight\""},
        {"qwen2", index, "\"model.norm.weight\"", "\"model.embed_tokens.weight\""},
        {"qwen2", index, "\"model.norm.weight\"",
         "\"a\": \"model-00002-of-00002.safetensors\", \"model.norm.weight\""},
        {"qwen2", index, "\"model.norm.weight\"",
         "\"lm_head.weight\": \"model-00002-of-00002.safetensors\", \"model.norm.weight\""},
        {"qwen2", index, "\"weight_map\"", "\"weights\""},
        {"qwen2", index, "\"weight_map\": {", "\"weight_map\": [], \"other\": {"},
        {"qwen2", index, "}", ""},
        {"llama", config, "\"silu\"", "7"},
        {"llama", config, "\"rope_theta\": 50000.0", "\"rope_theta\": 1e300"},
        {"llama", config, "\"mlp_bias\": false", "\"partial_rotary_factor\": 0.5"},
        {"llama", config, "\"mlp_bias\": false", "\"layer_types\": \"full_attention\""},
        {"llama", config, "\"mlp_bias\": false", "\"layer_types\": [7, 7]"},
        {"llama", config, "\"mlp_bias\": false", "\"mlp_bias\": true"},
        {"llama", config, "\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true"},
        {"qwen2", config, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"},
        {"qwen2", config, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 7"},
    };
    r2_model model;
    fresh(1);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        const char *directory = altered_directory(wrong[i][0], wrong[i][1], wrong[i][2],
                                                  wrong[i][3]);
        r2_status status = r2_model_load_dir(&ctx, &model, directory, 0, false);
        if (!CHECK(status == R2_FORMAT || status == R2_ARGUMENT))
            printf("  %s -> %s: %s\n", wrong[i][2], wrong[i][3], r2_status_name(status));
        CHECK(model.param == NULL);
    }
    CHECK_STATUS(&ctx, /* of so many layers the file has not even the bytes */
                 r2_model_load_dir(&ctx, &model,
                                   altered_directory("llama", config, "\"num_hidden_layers\": 2",
                                                     "\"num_hidden_layers\": 4096"),
                                   0, true),
                 R2_FORMAT);
    CHECK(strstr(ctx.message, "bytes, config.json asks for") != NULL);
    CHECK_STATUS(&ctx, /* a shard that is not there */
                 r2_model_load_dir(
                     &ctx, &model,
                     altered_directory("qwen2", index, "\"model-00001", "\"model-00003"), 0, false),
                 R2_IO);
    CHECK_STATUS(&ctx, /* nor one of a tensor that the model does not have */
                 r2_model_load_dir(&ctx, &model,
                                   altered_directory("qwen2", index, "\"model.norm.weight\"",
                                                     "\"a\": \"b\", \"model.norm.weight\""),
                                   0, false),
                 R2_IO);
    CHECK_STATUS(&ctx, r2_model_load_dir(&ctx, &model, "tests/reference/nowhere", 0, false), R2_IO);
    REQUIRE_OK(&ctx, r2_model_load_dir(&ctx, &model, altered_directory("llama", NULL, NULL, NULL),
                                       0, false));
    r2_model_free(&ctx, &model);
    REQUIRE_OK(&ctx,
               r2_model_load_dir(&ctx, &model,
                                 altered_directory("llama", config, "\"rope_scaling\": null",
                                                   "\"rope_scaling\": {\"type\": \"default\"}"),
                                 0, false));
    r2_model_free(&ctx, &model);
    remove_directory();
}

TEST(a_saved_directory_comes_back) {
    for (int k = 0; k < 4; ++k) {
        const char *directory = altered_directory("llama", NULL, NULL, NULL);
        r2_model_config config = small_config();
        r2_model model, again;
        fresh(1);
        config.tied = k % 2 == 1;
        config.qkv_bias = k / 2 == 1;
        config.rope_theta = 123456.0f;
        config.norm_eps = 3e-6f;
        REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &config, false));
        REQUIRE_OK(&ctx, r2_model_save_dir(&ctx, &model, directory));
        REQUIRE_OK(&ctx, r2_model_load_dir(&ctx, &again, directory, 0, false));
        CHECK_EQ_INT(again.n_params, model.n_params);
        CHECK_EQ_INT(memcmp(again.param, model.param, (size_t)model.n_params * sizeof(float)), 0);
        CHECK(again.config.rope_theta == config.rope_theta &&
              again.config.norm_eps == config.norm_eps);
        CHECK(again.config.tied == config.tied && again.config.qkv_bias == config.qkv_bias);
        CHECK(again.config.n_ctx == config.n_ctx && again.config.n_kv_head == config.n_kv_head);
        r2_model_free(&ctx, &again);
        r2_model_free(&ctx, &model);
    }
    remove_directory();
}

TEST(adapters_come_back_from_a_file) {
    const char *directory = altered_directory("adapter", NULL, NULL, NULL);
    r2_model_config config = small_config();
    r2_lora_config lora = r2_lora_config_default();
    r2_model model, again;
    fresh(1);
    lora.rank = 1; /* a matrix of one row stays a matrix */
    lora.alpha = 0.7f;
    lora.targets = 1u << R2_WK | 1u << R2_WUP | 1u << R2_WO;
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &config, false));
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &again, &config, false));
    CHECK_STATUS(&ctx, r2_lora_save(&ctx, &model, directory), R2_ARGUMENT);
    REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &model, &lora));
    for (int64_t i = 0; i < model.lora->n_params; ++i) model.lora->param[i] = (float)i * 0.01f;
    REQUIRE_OK(&ctx, r2_lora_save(&ctx, &model, directory));
    REQUIRE_OK(&ctx, r2_lora_load(&ctx, &again, directory));
    CHECK_EQ_INT(again.lora->n_params, model.lora->n_params);
    CHECK(again.lora->config.rank == 1 && again.lora->config.targets == lora.targets);
    CHECK(again.lora->config.alpha == lora.alpha);
    CHECK_EQ_INT(
        memcmp(again.lora->param, model.lora->param, (size_t)model.lora->n_params * sizeof(float)),
        0);
    r2_model_free(&ctx, &again);
    r2_model_free(&ctx, &model);
    remove_directory();
}

TEST(directories_are_the_same_under_a_decimal_comma) {
    static const char *const files[] = {"config.json", "adapter_config.json"};
    const char *directory = altered_directory("adapter", NULL, NULL, NULL);
    r2_model_config config = small_config();
    r2_lora_config lora = r2_lora_config_default();
    r2_model model, again;
    r2_text text[2][2];
    char path[256];
    fresh(1);
    if (!test_comma(1)) {
        remove_directory();
        SKIP("no locale with a decimal comma is installed");
    }
    test_comma(0);
    memset(text, 0, sizeof text);
    config.rope_theta = 1234.5f;
    config.norm_eps = 1.5e-6f;
    lora.alpha = 0.7f;
    REQUIRE_OK(&ctx, r2_model_init(&ctx, &model, &config, false));
    REQUIRE_OK(&ctx, r2_lora_attach(&ctx, &model, &lora));
    for (int comma = 0; comma < 2; ++comma) {
        test_comma(comma);
        CHECK_STATUS(&ctx, r2_model_save_dir(&ctx, &model, directory), R2_OK);
        CHECK_STATUS(&ctx, r2_lora_save(&ctx, &model, directory), R2_OK);
        for (int f = 0; f < 2; ++f) {
            snprintf(path, sizeof path, "%s/%s", directory, files[f]);
            CHECK_STATUS(&ctx, r2_read_file(&ctx, path, &text[f][comma]), R2_OK);
        }
    }
    CHECK_EQ_STR(text[0][1].data, text[0][0].data);
    CHECK_EQ_STR(text[1][1].data, text[1][0].data);
    CHECK(strstr(text[0][0].data, "\"rope_theta\": 1234.5,") != NULL);
    if (CHECK_STATUS(&ctx, r2_model_load_dir(&ctx, &again, directory, 0, false), R2_OK)) {
        CHECK_STATUS(&ctx, r2_lora_load(&ctx, &again, directory), R2_OK);
        CHECK(again.config.rope_theta == 1234.5f && again.config.norm_eps == 1.5e-6f);
        r2_model_free(&ctx, &again);
    }
    test_comma(0);
    for (int f = 0; f < 4; ++f) r2_text_free(&ctx, &text[f / 2][f % 2]);
    r2_model_free(&ctx, &model);
    remove_directory();
}

TEST(hostile_adapters_are_refused) {
    static const char config[] = "adapter_config.json", weights[] = "adapter_model.safetensors";
    static const char *const wrong[][3] = {
        {config, "\"LORA\"", "\"IA3\""},
        {config, "\"peft_type\"", "\"type\""},
        {config, "\"r\": 2", "\"r\": 3"},
        {config, "\"r\": 2", "\"r\": 0"},
        {config, "\"r\": 2", "\"r\": 1000000000"},
        {config, "\"r\": 2", "\"rank\": 2"},
        {config, "\"r\": 2", "\"r\": 2, \"r\": 2"},
        {config, "\"lora_alpha\": 3", "\"lora_alpha\": -3"},
        {config, "\"none\"", "\"all\""},
        {config, "\"rank_pattern\": {}", "\"rank_pattern\": {\"q_proj\": 4}"},
        {config, "\"use_rslora\": false", "\"use_rslora\": true"},
        {config, "\"use_rslora\": false", "\"use_dora\": true"},
        {config, "\"modules_to_save\": null", "\"modules_to_save\": [\"lm_head\"]"},
        {config, "\"q_proj\"", "\"x_proj\""},
        {config, "\"q_proj\"", "\"k_proj\""},
        {config, "\"q_proj\"", "\"v_proj\""},
        {config, "\"q_proj\"", "\"embed_tokens\""},
        {config, "\"q_proj\"", "\"k_proj\", \"q_proj\""},
        {config, "\"target_modules\": [", "\"target_modules\": \"all-linear\", \"other\": ["},
        {config, "\"use_rslora\": false", "\"fan_in_fan_out\": 7"},
        {config, "\"q_proj\"", "7"},
        {config, "\"target_modules\": [", "\"target_modules\": [], \"other\": ["},
        {config, "\"lora_alpha\": 3", "\"lora_alpha\": \"3\""},
        {config, "\"r\": 2", "\"r\": 2.5"},
        {config, "{", "[{"},
        {config, "}", ""},
    };
    r2_text file = {NULL, 0, 0, false};
    r2_model model;
    char path[400];
    fresh(1);
    REQUIRE_OK(&ctx, r2_model_load_dir(&ctx, &model, "tests/reference/hf/llama", 0, false));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; ++i) {
        const char *directory = altered_directory("adapter", wrong[i][0], wrong[i][1], wrong[i][2]);
        r2_status status = r2_lora_load(&ctx, &model, directory);
        if (!CHECK(status == R2_FORMAT || status == R2_ARGUMENT))
            printf("  %s -> %s: %s\n", wrong[i][1], wrong[i][2], r2_status_name(status));
        CHECK(model.lora == NULL);
    }
    snprintf(path, sizeof path, "%s/%s", altered_directory("adapter", NULL, NULL, NULL), weights);
    REQUIRE_OK(&ctx, r2_read_file(&ctx, path, &file));
    REQUIRE_OK(&ctx, r2_write_file(&ctx, path, file.data, file.len - 4)); /* cut short */
    CHECK_STATUS(&ctx, r2_lora_load(&ctx, &model, temporary("directory")), R2_FORMAT);
    copy_file("tests/reference/hf/llama/model.safetensors", path); /* another file */
    CHECK_STATUS(&ctx, r2_lora_load(&ctx, &model, temporary("directory")), R2_FORMAT);
    CHECK(model.lora == NULL);
    CHECK(directory_distance(&model, "tests/reference/hf/llama") < 1e-5); /* as it was */
    r2_text_free(&ctx, &file);
    r2_model_free(&ctx, &model);
    remove_directory();
}

/* ---- memory ---- */

typedef struct rationed {
    int left, live; /* allocations until one fails; blocks not yet freed */
} rationed;

static void *rationed_realloc(void *hook_data, void *ptr, size_t size) {
    rationed *r = (rationed *)hook_data;
    void *block;
    if (size == 0) {
        r->live -= ptr != NULL;
        free(ptr);
        return NULL;
    }
    if (r->left-- <= 0) return NULL;
    block = realloc(ptr, size);
    r->live += ptr == NULL && block != NULL;
    return block;
}

/* Everything in one go; stops at the first failure. */
static r2_status use_everything(const char *directory) {
    const int64_t begin[] = {0, 7, 9};
    const int32_t watch[] = {1};
    r2_model_config config = small_config();
    r2_adamw_config adamw = r2_adamw_config_default();
    r2_generate_config how = r2_generate_config_default();
    r2_lora_config lora = r2_lora_config_default();
    r2_batch batch = some_batch();
    r2_generation out;
    r2_model model, loaded;
    r2_adamw opt;
    float logp[9];
    r2_status status = r2_model_init(&ctx, &model, &config, true);
    memset(&loaded, 0, sizeof loaded);
    memset(&opt, 0, sizeof opt);
    memset(&out, 0, sizeof out);
    how.max_new = 3;
    how.n_watch = 1;
    how.watch = watch;
    if (status == R2_OK) status = r2_lora_attach(&ctx, &model, &lora);
    if (status == R2_OK) status = r2_adamw_init(&ctx, &opt, &model, &adamw);
    if (status == R2_OK) status = r2_forward(&ctx, &model, &batch, logp, NULL);
    if (status == R2_OK) status = r2_backward(&ctx, &model, &batch, some_dlogp);
    if (status == R2_OK) status = r2_adamw_step(&ctx, &opt, &model, 1e-3f, NULL);
    if (status == R2_OK) status = r2_generate(&ctx, &model, &how, 2, begin, some_token, &out);
    if (status == R2_OK) status = r2_model_save(&ctx, &model, temporary("memory"));
    if (status == R2_OK) status = r2_model_load(&ctx, &model, temporary("memory"));
    r2_lora_detach(&ctx, &model);
    if (status == R2_OK)
        status = r2_model_load_dir(&ctx, &loaded, "tests/reference/hf/qwen2", 0, false);
    r2_model_free(&ctx, &loaded);
    if (status == R2_OK)
        status = r2_model_load_dir(&ctx, &loaded, "tests/reference/hf/llama", 0, false);
    if (status == R2_OK) status = r2_lora_load(&ctx, &loaded, "tests/reference/hf/adapter");
    if (status == R2_OK) status = r2_lora_save(&ctx, &loaded, directory);
    if (status == R2_OK) status = r2_model_save_dir(&ctx, &loaded, directory);
    r2_model_free(&ctx, &loaded);
    r2_generation_free(&ctx, &out);
    r2_adamw_free(&ctx, &opt);
    r2_model_free(&ctx, &model);
    return status;
}

TEST(every_allocation_may_fail) {
    int n = 0;
    const char *directory = altered_directory("llama", NULL, NULL, NULL);
    r2_status status = R2_NO_MEMORY;
    for (; n < 500 && status != R2_OK; ++n) {
        rationed r = {n, 0};
        fresh(2);
        ctx.realloc_fn = rationed_realloc;
        ctx.hook_data = &r;
        status = use_everything(directory);
        CHECK(status == R2_OK || status == R2_NO_MEMORY);
        CHECK_EQ_INT(r.live, 0);
    }
    CHECK(n > 15 && n < 500); /* it failed often, and then it succeeded */
    remove(temporary("memory"));
    remove_directory();
}

/* tiny.h: everything that training needs, small enough to train in a blink. Include after r2rec.h,
   test.h and ratings.h. */
#ifndef R2_TEST_TINY_H
#define R2_TEST_TINY_H

typedef struct tiny {
    r2_data data;
    r2_graph graph;
    r2_index index;
    r2_question *question;
    r2_evidence *evidence; /* (n) groups of one observed and two sampled items */
    int64_t n;
    r2_codebook codebook;
    r2_vocab vocab;
    r2_codec codec;
    r2_examples ex;
    r2_model model;
} tiny;

enum { TINY_SAMPLED = 2, TINY_GROUP = 1 + TINY_SAMPLED };

static inline r2_model_config tiny_shape(const tiny *t) {
    r2_model_config c = r2_model_config_default();
    c.n_vocab = t->vocab.n_words;
    c.n_layer = 1;
    c.n_head = 2;
    c.n_kv_head = 1;
    c.d_model = 16;
    c.d_ff = 24;
    c.n_ctx = 2 * t->ex.longest;
    c.tied = true;
    c.seed = 3;
    return c;
}

static inline void tiny_free(r2_ctx *ctx, tiny *t) {
    r2_model_free(ctx, &t->model);
    r2_examples_free(ctx, &t->ex);
    r2_vocab_free(ctx, &t->vocab);
    r2_release(ctx, t->evidence);
    r2_release(ctx, t->question);
    r2_index_free(ctx, &t->index);
    r2_graph_free(ctx, &t->graph);
    r2_data_free(ctx, &t->data);
    memset(t, 0, sizeof *t);
}

/* Evidence of n_groups groups as observed and sampled queries, and a codebook from it. */
static inline r2_status tiny_evidence(r2_ctx *ctx, tiny *t, int64_t n_groups) {
    const r2_chain_config two = {R2_CHAINS_COHERENT, 2, 1};
    const r2_draw_config draw = {n_groups, TINY_SAMPLED, 3, 0, 1};
    uint8_t *observed;
    r2_status status;
    t->n = n_groups * TINY_GROUP;
    t->question = (r2_question *)r2_alloc(ctx, (uint64_t)t->n, sizeof *t->question);
    t->evidence = (r2_evidence *)r2_alloc(ctx, (uint64_t)t->n, sizeof *t->evidence);
    observed = (uint8_t *)r2_alloc(ctx, (uint64_t)t->n, 1);
    status = t->question && t->evidence && observed ? R2_OK : R2_NO_MEMORY;
    if (!status) status = r2_questions_draw(ctx, &t->index, &draw, t->question, &n_groups);
    t->n = n_groups * TINY_GROUP;
    if (!status) status = r2_evidence_compute(ctx, &t->index, t->question, t->n, &two, t->evidence);
    for (int64_t q = 0; q < t->n && observed; ++q) observed[q] = q % TINY_GROUP == 0;
    if (!status) status = r2_codebook_fit(ctx, &t->codebook, t->evidence, observed, t->n, 2);
    r2_release(ctx, observed);
    return status;
}

/* Compact prompts of n of its evidence, in groups, with traces when there is a teacher. */
static inline r2_status tiny_examples(r2_ctx *ctx, const tiny *t, r2_examples *ex, int64_t n,
                                      int32_t group, const r2_teacher_config *teacher) {
    r2_example_config how;
    memset(&how, 0, sizeof how);
    how.prompt = r2_prompt_config_default();
    how.prompt.codebook = &t->codebook;
    how.prompt.data = &t->data;
    how.group = group;
    how.teacher = teacher;
    return r2_examples_init(ctx, ex, &t->codec, &how, t->evidence, n);
}

/* On failure everything is released. */
static inline r2_status tiny_init(r2_ctx *ctx, tiny *t, int64_t n_groups) {
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_model_config shape;
    r2_status status;
    memset(t, 0, sizeof *t);
    status = ratings_random(ctx, &t->data, 24, 30, 0.4, 8);
    if (!status) status = r2_graph_init(ctx, &t->graph, &t->data, NULL);
    if (!status) status = r2_index_init(ctx, &t->index, &t->graph, &t->data, 4.0f, 1);
    if (!status) status = tiny_evidence(ctx, t, n_groups);
    if (!status) status = r2_codec_compact(ctx, &t->codec, &t->vocab, &t->codebook);
    if (!status)
        status = tiny_examples(ctx, t, &t->ex, t->n, TINY_GROUP, &teacher);
    if (!status) {
        shape = tiny_shape(t);
        status = r2_model_init(ctx, &t->model, &shape, true);
    }
    if (status) tiny_free(ctx, t);
    return status;
}

static inline int tiny_make(r2_ctx *ctx, tiny *t, int64_t n_groups) {
    return CHECK_STATUS(ctx, tiny_init(ctx, t, n_groups), R2_OK);
}

/* What an output of generation can hold at most. */
static inline int32_t tiny_max_new(const tiny *t) {
    return (int32_t)(t->ex.trace_begin[1] - t->ex.trace_begin[0]) + 3;
}

#endif

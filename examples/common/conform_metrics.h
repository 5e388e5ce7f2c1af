/* conform_metrics.h: group metrics of data/vectors/SPEC.md. Part of conform.h. */

static inline void conform_rank(conform *c) {
    int64_t n;
    const float *score = conform_floats(c, conform_member(c, c->in, "scores"), "scores", &n);
    r2_rank rank = {0, 0};
    if (n < 1) conform_bad(c, "a score in", "scores");
    if (!c->bad) rank = r2_rank_of(score, n);
    conform_add_number(c, "better", (double)rank.better);
    conform_add_number(c, "tied", (double)rank.tied);
}

/* All scores, row after row; NULL unless the rows have one length. */
static inline float *conform_matrix(conform *c, const cJSON *rows, int64_t *n_rows,
                                    int64_t *n_cols) {
    const cJSON *row;
    float *all;
    int64_t k = 0, n;
    *n_rows = conform_length(c, rows, "scores");
    *n_cols = *n_rows > 0 ? conform_length(c, cJSON_GetArrayItem(rows, 0), "scores") : 0;
    all = (float *)conform_take(c, *n_rows * *n_cols, sizeof *all);
    cJSON_ArrayForEach(row, rows) {
        const float *value = conform_floats(c, row, "scores", &n);
        if (n != *n_cols || n < 1) conform_bad(c, "rows of one length in", "scores");
        if (c->bad) return NULL;
        memcpy(all + k++ * n, value, (size_t)n * sizeof *value);
    }
    return all;
}

static inline void conform_metrics_of(conform *c) {
    int64_t n_cases, n, k = conform_whole(c, c->in, "k");
    const float *score = conform_matrix(c, conform_member(c, c->in, "scores"), &n_cases, &n);
    const r2_eval_config config = {1, 0};
    double hr = 0.0, ndcg = 0.0, *hits = (double *)conform_take(c, n_cases, sizeof *hits);
    r2_metrics m;
    if (c->bad || !conform_ok(c, r2_evaluate(c->ctx, score, n_cases, n, &config, &m, NULL))) return;
    for (int64_t row = 0; row < n_cases; ++row) {
        const r2_rank rank = r2_rank_of(score + row * n, n);
        hr += hits[row] = r2_hit_ratio(rank, k);
        ndcg += r2_ndcg(rank, k);
    }
    conform_add_number(c, "hr", hr / (double)n_cases);
    conform_add_number(c, "ndcg", ndcg / (double)n_cases);
    conform_add_number(c, "mrr", m.mrr);
    conform_add_number(c, "auc", m.auc);
    conform_add_number(c, "tie_rate", m.tie_rate);
    conform_add(c->out, "hits", conform_list_doubles(hits, n_cases));
}

static inline void conform_bootstrap(conform *c) {
    int64_t n;
    const double *value = conform_doubles(c, conform_member(c, c->in, "values"), "values", &n);
    const int32_t n_bootstrap = (int32_t)conform_whole(c, c->in, "n_bootstrap");
    double lo = 0.0, hi = 0.0;
    conform_ok(c,
               r2_bootstrap_mean(c->ctx, value, n, n_bootstrap, conform_u64(c, "seed"), &lo, &hi));
    conform_add_number(c, "lo", lo);
    conform_add_number(c, "hi", hi);
}

static inline void conform_mcnemar(conform *c) {
    const int64_t a = conform_whole(c, c->in, "only_a"), b = conform_whole(c, c->in, "only_b");
    if (a < 0 || b < 0) conform_bad(c, "counts >= 0 in", "only_a and only_b");
    conform_add_number(c, "p", r2_mcnemar(a, b));
}

static const conform_op conform_metrics[] = {{"metrics", "rank", conform_rank},
                                             {"metrics", "metrics", conform_metrics_of},
                                             {"metrics", "bootstrap", conform_bootstrap},
                                             {"metrics", "mcnemar", conform_mcnemar},
                                             {NULL, NULL, NULL}};

/* conform_variants.h: group variants of data/vectors/SPEC.md. Part of conform.h. */

#include "variants.h"

static inline void conform_variant_items(conform *c, const cJSON *list, variants_item *item) {
    const cJSON *row;
    int64_t k = 0;
    cJSON_ArrayForEach(row, list) {
        const cJSON *id = cJSON_GetArrayItem(row, 0);
        if (!cJSON_IsString(id) || cJSON_GetArraySize(row) != 3) {
            conform_bad(c, "[id, score, relevance] in", "items");
            return;
        }
        item[k].id = id->valuestring;
        item[k].score = conform_value(c, cJSON_GetArrayItem(row, 1), "items");
        item[k].relevance = conform_value(c, cJSON_GetArrayItem(row, 2), "items");
        item[k].place = k;
        ++k;
    }
}

static inline void conform_variant_values(conform *c, const variants_values *v) {
    const struct {
        const char *name;
        double value;
    } all[] = {{"ndcg_linear", v->ndcg_linear},
               {"ndcg_exponential", v->ndcg_exponential},
               {"ndcg_binary", v->ndcg_binary},
               {"ndcg_log2_rank", v->ndcg_log2_rank},
               {"ndcg_log2_rank_all", v->ndcg_log2_rank_all},
               {"ap_all", v->ap_all},
               {"ap_min", v->ap_min},
               {"ap_mean_precision", v->ap_mean_precision},
               {"recall_all", v->recall_all},
               {"recall_min", v->recall_min},
               {"precision_k", v->precision_k},
               {"precision_list", v->precision_list},
               {"rr", v->rr},
               {"rr_k", v->rr_k},
               {"hit", v->hit}};
    for (size_t k = 0; k < sizeof all / sizeof *all; ++k)
        conform_add_number(c, all[k].name, all[k].value);
}

static inline void conform_variant_list(conform *c) {
    static const char *const ties[] = {"as_given", "id_descending", "relevant_first",
                                       "relevant_last", NULL};
    const cJSON *list = conform_member(c, c->in, "items");
    const int64_t n = conform_length(c, list, "items"), k = conform_whole(c, c->in, "k");
    const int rule = conform_choice(c, c->in, "ties", ties);
    variants_item *item = (variants_item *)conform_take(c, n, sizeof *item);
    variants_item *best = (variants_item *)conform_take(c, n, sizeof *best);
    cJSON *order = conform_new_list(c->out, "order");
    variants_values values;
    conform_variant_items(c, list, item);
    if (k < 1) conform_bad(c, "1 or more in", "k");
    if (c->bad) return;
    values = variants_of(item, best, n, k, (variants_ties)rule);
    for (int64_t j = 0; j < n; ++j) cJSON_AddItemToArray(order, cJSON_CreateString(item[j].id));
    conform_variant_values(c, &values);
}

/* The mean over users, of whom those with null have nothing to find. */
static inline void conform_variant_mean(conform *c) {
    static const char *const rule[] = {"skip", "zero", NULL};
    int64_t n, counted = 0;
    const double *value = conform_doubles(c, conform_member(c, c->in, "values"), "values", &n);
    const int zero = conform_choice(c, c->in, "empty", rule);
    double sum = 0.0;
    for (int64_t k = 0; k < n; ++k) {
        counted += zero || !isnan(value[k]);
        sum += isnan(value[k]) ? 0.0 : value[k];
    }
    conform_add_number(c, "mean", counted > 0 ? sum / (double)counted : 0.0);
}

static inline void conform_variant_percentile(conform *c) {
    static const char *const rule[] = {"nearest", "line", NULL};
    int64_t n;
    double *value = conform_doubles(c, conform_member(c, c->in, "values"), "values", &n);
    const double share = conform_number(c, c->in, "share");
    const int line = conform_choice(c, c->in, "rule", rule);
    if (n < 1 || !(share >= 0.0 && share <= 1.0)) conform_bad(c, "values and a share of", "0 to 1");
    if (c->bad) return;
    qsort(value, (size_t)n, sizeof *value, r2__compare_double);
    conform_add_number(c, "value", variants_percentile(value, n, share, line));
}

static const conform_op conform_variants_ops[] = {
    {"variants", "list", conform_variant_list},
    {"variants", "mean", conform_variant_mean},
    {"variants", "percentile", conform_variant_percentile},
    {NULL, NULL, NULL}};

/* probe.c: shows what r2rec.h makes of one input, for the cases in this folder.

       probe COMMAND ARGUMENT...        `probe help` lists the commands

   A call that fails prints its status and its sentence, and the probe exits with 1. Requests above
   PROBE_LIMIT bytes (512 MB) are refused, so that a wrong size cannot hurt the machine; with
   PROBE_MEMORY set the last line tells what was asked for. It uses public functions only. */
#include "r2rec.h"

#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#if __has_include(<cjson/cJSON.h>)
#include <cjson/cJSON.h>
#else
#include <cJSON.h>
#endif

static r2_ctx ctx;

/* --- memory: every block is counted, cJSON's too ---------------------------------------------------- */

static size_t limit = (size_t)512 << 20, largest, held, most;

typedef union block {
    size_t size;
    max_align_t align;
} block;

static void *take(void *hook_data, void *p, size_t size) {
    block *old = p ? (block *)p - 1 : NULL, *new_block;
    (void)hook_data;
    if (size > largest) largest = size;
    if (size > limit) return NULL;
    if (old) __atomic_sub_fetch(&held, old->size, __ATOMIC_RELAXED); /* threads come here too */
    if (!size) return free(old), NULL;
    new_block = realloc(old, size + sizeof(block));
    if (!new_block) return NULL;
    new_block->size = size;
    size = __atomic_add_fetch(&held, size, __ATOMIC_RELAXED);
    if (size > most) most = size;
    return new_block + 1;
}

static void *json_take(size_t size) { return take(NULL, NULL, size ? size : 1); }
static void json_give(void *p) {
    if (p) take(NULL, p, 0);
}

static int failed(r2_status s) {
    printf("%s: %s\n", r2_status_name(s), ctx.message);
    return 1;
}

static void log_line(void *hook_data, const char *line) {
    (void)hook_data;
    printf("log: %s\n", line);
}

/* Prints a text and frees it. */
static void show(r2_text *text) {
    if (text->data) fputs(text->data, stdout);
    r2_text_free(&ctx, text);
}

static char *slurp(const char *path, size_t *size) {
    FILE *f = fopen(path, "rb");
    char *text = NULL;
    size_t n = 0, got = 1;
    while (f && got) {
        text = realloc(text, n + 65537);
        n += got = fread(text + n, 1, 65536, f);
        text[n] = '\0';
    }
    if (!f) printf("probe: cannot read %s\n", path), exit(2);
    fclose(f);
    *size = n;
    return text;
}

static void spill(const char *path, const char *bytes, size_t n) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, n, f) != n || fclose(f)) printf("probe: cannot write %s\n", path), exit(2);
}

/* --- ratings ---------------------------------------------------------------------------------------- */

/* load [-s SEPARATOR] [-u COLUMN] [-i COLUMN] [-r COLUMN] [-t COLUMN] [-T UNIT] [-I ITEMS] [-N MARK] FILE...
   A column "-": there is none. */
static r2_status load_data(r2_data *d, int n, char **a) {
    const char *path[16];
    int n_paths = 0;
    r2_format f;
    memset(&f, 0, sizeof f);
    for (int k = 0; k < n; ++k) {
        if (a[k][0] == '-' && a[k][1] && k + 1 < n) switch (a[k++][1]) {
            case 's': f.separator = a[k]; break;
            case 'u': f.user = a[k]; break;
            case 'i': f.item = a[k]; break;
            case 'r': f.rating = a[k]; break;
            case 't': f.time = a[k]; break;
            case 'T': f.time_unit = strtod(a[k], NULL); break;
            case 'I': f.items = a[k]; break;
            case 'N': f.not_rated = a[k]; break;
            default: printf("probe: option %s?\n", a[k - 1]), exit(2);
            }
        else if (n_paths < 16) path[n_paths++] = a[k];
    }
    return r2_data_load_files(&ctx, d, path, n_paths, &f);
}

static int load(int n, char **a) {
    r2_data d;
    r2_text text = {0};
    r2_status s = load_data(&d, n, a);
    if (s != R2_OK) return failed(s);
    r2_data_report(&ctx, &d, &text);
    show(&text);
    for (int64_t u = 0, shown = 0; u < d.n_users; ++u)
        for (int64_t k = d.user_begin[u]; k < d.user_begin[u + 1] && shown < 20; ++k, ++shown)
            printf("row user=[%s] item=[%s] rating=%g time=%lld title=[%s] genres=[%s] year=%d\n",
                   d.user_key[u], d.item_key[d.item[k]], (double)d.rating[k],
                   (long long)(d.time_zero + d.time[k]), d.title[d.item[k]], d.genres[d.item[k]],
                   (int)d.year[d.item[k]]);
    r2_data_free(&ctx, &d);
    return 0;
}

/* genre FILE...: the evidence field `genre` of the first user for every item */
static int genre(int n, char **a) {
    r2_data d;
    r2_graph g;
    r2_index ix;
    r2_status s = load_data(&d, n, a);
    if (s == R2_OK) s = r2_graph_init(&ctx, &g, &d, NULL);
    if (s == R2_OK) s = r2_index_init(&ctx, &ix, &g, &d, 4.0f, 0);
    if (s != R2_OK) return failed(s);
    for (int64_t i = 0; i < d.n_items; ++i) {
        r2_question q = {0, (uint32_t)i, (int32_t)r2_graph_user_degree(&g, 0), -1, 0, 0, 0, 0};
        r2_chain_config chains = r2_chain_config_default();
        r2_evidence e;
        s = r2_evidence_compute(&ctx, &ix, &q, 1, &chains, &e);
        if (s != R2_OK) return failed(s);
        printf("item [%s] genre-cosine=%g\n", d.item_key[i], (double)e.value[R2_FIELD_genre]);
    }
    r2_index_free(&ctx, &ix);
    r2_graph_free(&ctx, &g);
    r2_data_free(&ctx, &d);
    return 0;
}

/* candidates DATA FILE: the rows of a candidate file */
static int candidates(int n, char **a) {
    r2_data d;
    r2_candidates c;
    r2_status s = r2_data_load(&ctx, &d, a[0]);
    (void)n;
    if (s == R2_OK) s = r2_candidates_load(&ctx, &c, &d, a[1]);
    if (s != R2_OK) return failed(s);
    for (int64_t k = 0; k < c.n_cases; ++k) {
        printf("case user=[%s]", d.user_key[c.user[k]]);
        for (int64_t j = 0; j < c.n_per_case; ++j)
            printf(" [%s]", d.item_key[c.item[k * c.n_per_case + j]]);
        printf("\n");
    }
    r2_candidates_free(&ctx, &c);
    r2_data_free(&ctx, &d);
    return 0;
}

/* candidates-again DATA FILE N: draws N negatives for every user, saves the set, loads it */
static int candidates_again(int n, char **a) {
    r2_data d;
    r2_candidates c, again;
    r2_target target[64];
    int64_t n_targets = 0, at;
    const r2_negatives negatives = {strtoll(a[2], NULL, 10), 1, false, NULL, 0};
    r2_status s = r2_data_load(&ctx, &d, a[0]);
    (void)n;
    if (s != R2_OK) return failed(s);
    for (int64_t u = 0; u < d.n_users && u < 64; ++u) {
        at = d.user_begin[u];
        target[n_targets++] = (r2_target){(uint32_t)u, d.item[at], at};
    }
    s = r2_candidates_init(&ctx, &c, &d, target, n_targets, &negatives);
    if (s == R2_OK) s = r2_candidates_save(&ctx, &c, &d, a[1]);
    if (s == R2_OK) s = r2_candidates_load(&ctx, &again, &d, a[1]);
    if (s != R2_OK) return failed(s);
    at = c.n_cases * c.n_per_case;
    printf("cases %lld of %lld items, %s after saving and loading\n", (long long)c.n_cases,
           (long long)c.n_per_case,
           again.n_cases == c.n_cases && again.n_per_case == c.n_per_case &&
                   !memcmp(c.item, again.item, (size_t)at * sizeof *c.item) &&
                   !memcmp(c.user, again.user, (size_t)c.n_cases * sizeof *c.user)
               ? "the same"
               : "others");
    r2_candidates_free(&ctx, &c);
    r2_candidates_free(&ctx, &again);
    r2_data_free(&ctx, &d);
    return 0;
}

/* given TRAIN VALID TEST: a split made elsewhere */
static int given(int n, char **a) {
    r2_data d;
    r2_split sp;
    r2_status s = r2_data_load_files(&ctx, &d, (const char *const *)a, n, NULL);
    if (s == R2_OK) s = r2_split_given(&ctx, &sp, &d, NULL, a[1], a[2], NULL);
    if (s != R2_OK) return failed(s);
    for (int64_t u = 0; u < d.n_users; ++u)
        for (int64_t k = d.user_begin[u]; k < d.user_begin[u + 1]; ++k)
            printf("row %s %s role %d\n", d.user_key[u], d.item_key[d.item[k]], sp.role[k]);
    r2_split_free(&ctx, &sp);
    r2_data_free(&ctx, &d);
    return 0;
}

/* chains DATA USER ITEM K: target chains */
static int chains(int n, char **a) {
    r2_data d;
    r2_graph g;
    r2_index ix;
    r2_chain chain[16];
    r2_chain_config c = r2_chain_config_default();
    r2_question q = {0, 0, 0, -1, 0, 0, 0, 0};
    int64_t found = 0;
    r2_status s = r2_data_load(&ctx, &d, a[0]);
    (void)n;
    if (s == R2_OK) s = r2_graph_init(&ctx, &g, &d, NULL);
    if (s == R2_OK) s = r2_index_init(&ctx, &ix, &g, &d, 4.0f, 0);
    if (s != R2_OK) return failed(s);
    c.k = strtoll(a[3], NULL, 10);
    q.user = (uint32_t)atoi(a[1]), q.item = (uint32_t)atoi(a[2]);
    q.n_history = q.user < d.n_users ? (int32_t)r2_graph_user_degree(&g, q.user) : 1;
    s = r2_chains_target(&ctx, &ix, &q, &c, chain, &found);
    if (s == R2_OK) printf("chains %lld\n", (long long)found);
    else failed(s);
    r2_index_free(&ctx, &ix);
    r2_graph_free(&ctx, &g);
    r2_data_free(&ctx, &d);
    return s != R2_OK;
}

/* --- text ------------------------------------------------------------------------------------------- */

/* tok FILE TEXT [added] */
static int tok(int n, char **a) {
    r2_bpe b;
    r2_tokens t = {0};
    r2_text back = {0};
    r2_status s = r2_bpe_load(&ctx, &b, a[0]);
    if (s == R2_OK) s = r2_bpe_encode(&ctx, &b, a[1], strlen(a[1]), n > 2, &t);
    if (s != R2_OK) return failed(s);
    printf("ids");
    for (int64_t k = 0; k < t.n; ++k) printf(" %d", t.id[k]);
    s = r2_bpe_decode(&ctx, &b, t.id, t.n, true, &back);
    printf("\nback [%s]\n", back.data ? back.data : "");
    r2_tokens_free(&ctx, &t);
    r2_text_free(&ctx, &back);
    r2_bpe_free(&ctx, &b);
    return 0;
}

/* many-added FILE N KB: seconds to encode so much text with N added tokens */
static int many_added(int n, char **a) {
    r2_bpe b;
    r2_tokens t = {0};
    size_t size, len = (size_t)atoi(a[2]) * 1024;
    char *text = slurp(a[0], &size), *longer = malloc(len + 1), path[600];
    cJSON *root = cJSON_Parse(text), *list = cJSON_GetObjectItem(root, "added_tokens");
    double began;
    r2_status s;
    (void)n;
    for (int k = 0; k < atoi(a[1]); ++k) {
        cJSON *one = cJSON_CreateObject();
        char content[40];
        snprintf(content, sizeof content, "<|extra_%d|>", k);
        cJSON_AddNumberToObject(one, "id", 260 + k);
        cJSON_AddStringToObject(one, "content", content);
        for (int j = 0; j < 4; ++j)
            cJSON_AddFalseToObject(one, (const char *[]){"single_word", "lstrip", "rstrip", "normalized"}[j]);
        cJSON_AddTrueToObject(one, "special");
        cJSON_AddItemToArray(list, one);
    }
    free(text);
    text = cJSON_PrintUnformatted(root);
    snprintf(path, sizeof path, "%s/many.json", getenv("TMP"));
    spill(path, text, strlen(text));
    json_give(text);
    cJSON_Delete(root);
    for (size_t k = 0; k < len; ++k) longer[k] = "<|extra words of a text "[k % 24];
    s = r2_bpe_load(&ctx, &b, path);
    began = r2_seconds();
    if (s == R2_OK) s = r2_bpe_encode(&ctx, &b, longer, len, true, &t);
    if (s != R2_OK) return failed(s);
    printf("%lld ids, %s\n", (long long)t.n, r2_seconds() - began < 10.0 ? "in time" : "too slow");
    printf("%.2f s\n", r2_seconds() - began);
    free(longer);
    r2_tokens_free(&ctx, &t);
    r2_bpe_free(&ctx, &b);
    return 0;
}

static int records(int n, char **a) {
    r2_records r;
    r2_text text = {0};
    r2_status s;
    (void)n;
    memset(&r, 0, sizeof r);
    s = r2_records_read(&ctx, &r, a[0]);
    if (s != R2_OK) return failed(s);
    for (int64_t k = 0; k < r.n; ++k) {
        r2_record_line(&ctx, &r.record[k], &text);
        printf("record %s\n", text.data);
        r2_text_clear(&text);
    }
    r2_text_free(&ctx, &text);
    r2_records_free(&ctx, &r);
    return 0;
}

static int vocab(int n, char **a) {
    r2_vocab v;
    r2_status s;
    (void)n;
    memset(&v, 0, sizeof v);
    s = r2_vocab_load(&ctx, &v, a[0]);
    if (s != R2_OK) return failed(s);
    printf("words %d\n", v.n_words);
    r2_vocab_free(&ctx, &v);
    return 0;
}

/* --- weights ---------------------------------------------------------------------------------------- */

/* model DIR [ADAPTER]: the log-probability of 1 2 3 after 0, before and after the adapter */
static int model(int n, char **a) {
    r2_model m;
    int32_t token[3] = {0, 1, 2}, begin[2] = {0, 3}, row[3] = {0, 1, 2}, next[3] = {1, 2, 3};
    float logp[3];
    r2_batch b = {1, begin, token, 3, row, next, NULL};
    r2_status s = r2_model_load_dir(&ctx, &m, a[0], 0, false);
    if (s != R2_OK) return failed(s);
    printf("theta %g eps %g\n", (double)m.config.rope_theta, (double)m.config.norm_eps);
    s = r2_forward(&ctx, &m, &b, logp, NULL);
    if (s == R2_OK) printf("base logp %.6f %.6f %.6f\n", (double)logp[0], (double)logp[1], (double)logp[2]);
    if (s == R2_OK && n > 1) {
        s = r2_lora_load(&ctx, &m, a[1]);
        if (s == R2_OK) s = r2_forward(&ctx, &m, &b, logp, NULL);
        if (s == R2_OK)
            printf("adapted logp %.6f %.6f %.6f\n", (double)logp[0], (double)logp[1], (double)logp[2]);
    }
    r2_model_free(&ctx, &m);
    return s != R2_OK ? failed(s) : 0;
}

/* weights FILE: into the smallest model that has every tensor once (65 parameters) */
static r2_model_config smallest(void) {
    r2_model_config c = r2_model_config_default();
    c.n_vocab = 5, c.n_layer = 1, c.n_head = 1, c.n_kv_head = 1, c.d_model = 2, c.d_ff = 3;
    c.n_ctx = 8, c.tied = true, c.qkv_bias = false;
    return c;
}

static int weights(int n, char **a) {
    r2_model m;
    r2_model_config c = smallest();
    r2_status s = r2_model_init(&ctx, &m, &c, false);
    (void)n;
    if (s == R2_OK) s = r2_model_load(&ctx, &m, a[0]);
    if (s != R2_OK) failed(s);
    else printf("loaded, first weight %g\n", (double)m.param[0]);
    r2_model_free(&ctx, &m);
    return s != R2_OK;
}

/* sample DIR TEMPERATURE [WEIGHT]: four tokens after 1 2; WEIGHT breaks a weight */
static int sample(int n, char **a) {
    r2_model m;
    r2_generation g;
    r2_generate_config c = r2_generate_config_default();
    int64_t begin[2] = {0, 2};
    int32_t token[2] = {1, 2};
    r2_status s = r2_model_load_dir(&ctx, &m, a[0], 0, false);
    if (s != R2_OK) return failed(s);
    c.n_samples = 1, c.max_new = 4;
    c.temperature = strtof(a[1], NULL);
    if (n > 2) r2_weight(&m, R2_FINAL_NORM, 0)[0] = strtof(a[2], NULL);
    s = r2_generate(&ctx, &m, &c, 1, begin, token, &g);
    if (s == R2_OK) {
        for (int k = 0; k < 4; ++k) printf("%d (%.4f) ", g.token[k], (double)g.logp[k]);
        printf("\n");
    }
    r2_generation_free(&ctx, &g);
    r2_model_free(&ctx, &m);
    return s != R2_OK ? failed(s) : 0;
}

/* forward DIR TOKEN...: the log-probability of 1 after the first token */
static int forward(int n, char **a) {
    r2_model m;
    int32_t token[64], begin[2] = {0, n - 1}, row[1] = {0}, next[1] = {1};
    float logp[1];
    r2_batch b = {1, begin, token, 1, row, next, NULL};
    r2_status s = r2_model_load_dir(&ctx, &m, a[0], 0, false);
    if (s != R2_OK) return failed(s);
    for (int k = 1; k < n && k <= 64; ++k) token[k - 1] = atoi(a[k]);
    s = r2_forward(&ctx, &m, &b, logp, NULL);
    if (s == R2_OK) printf("logp %.6f\n", (double)logp[0]);
    r2_model_free(&ctx, &m);
    return s != R2_OK ? failed(s) : 0;
}

/* --- numbers ---------------------------------------------------------------------------------------- */

/* policy LOGP LOGP_OLD LOGP_REF ADVANTAGE BETA */
static int policy(int n, char **a) {
    double x[5];
    r2_policy_term t;
    (void)n;
    for (int k = 0; k < 5; ++k) x[k] = strtod(a[k], NULL);
    t = r2_policy_loss(x[0], x[1], x[2], x[3], 0.2, 0.2, x[4]);
    printf("loss %g dlogp %g ratio %g kl %g clipped %d\n", t.loss, t.dlogp, t.ratio, t.kl, t.clipped);
    return 0;
}

/* advantages REWARD...: of the three variants */
static int advantages(int n, char **a) {
    double r[64], adv[64];
    for (int k = 0; k < n && k < 64; ++k) r[k] = strtod(a[k], NULL);
    for (int v = 0; v < 3; ++v) {
        r2_advantages((r2_rl_variant)v, r, n, adv);
        printf("%s", (const char *[]){"grpo", "dr_grpo", "dapo"}[v]);
        for (int k = 0; k < n; ++k) printf(" %g", adv[k]);
        printf("\n");
    }
    return 0;
}

/* rank SCORE...: the first among all, and the metrics of this one case */
static int rank(int n, char **a) {
    float s[64];
    r2_eval_config c = r2_eval_config_default();
    r2_metrics m;
    r2_rank r;
    r2_status st;
    for (int k = 0; k < n && k < 64; ++k) s[k] = strtof(a[k], NULL);
    r = r2_rank_of(s, n);
    printf("better %lld tied %lld\n", (long long)r.better, (long long)r.tied);
    printf("hr1 %g ndcg10 %g mrr %g\n", r2_hit_ratio(r, 1), r2_ndcg(r, 10), r2_reciprocal_rank(r));
    st = r2_evaluate(&ctx, s, 1, n, &c, &m, NULL);
    if (st != R2_OK) return failed(st);
    printf("evaluate hr1 %g [%g, %g] ndcg10 %g mrr %g auc %g\n", m.hr1, m.hr1_lo, m.hr1_hi, m.ndcg10,
           m.mrr, m.auc);
    return 0;
}

/* --- runs ------------------------------------------------------------------------------------------- */

static r2_run_config small_run(uint64_t seed) {
    r2_run_config c = r2_run_config_default();
    c.seed = seed, c.n_groups = 20, c.n_negatives = 6;
    c.model.d_model = 16, c.model.d_ff = 8, c.model.n_layer = 1;
    c.sft.n_steps = 6, c.sft.groups = 2;
    c.grpo.n_steps = 1, c.grpo.groups = 1, c.grpo.n_samples = 2;
    return c;
}

static long not_finite(const float *x, int64_t n) {
    long bad = 0;
    for (int64_t k = 0; k < n; ++k) bad += !isfinite(x[k]);
    return bad;
}

/* Sets one value of a configuration by its name; false: no such name. */
static bool set(r2_run_config *c, const char *name, const char *text) {
    const double v = strtod(text, NULL);
    const struct {
        const char *name;
        float *f;
        int32_t *i;
        int64_t *l;
    } all[] = {
        {"n_groups", NULL, NULL, &c->n_groups}, {"n_cases", NULL, NULL, &c->n_cases},
        {"n_sampled", NULL, &c->n_sampled, NULL}, {"n_negatives", NULL, &c->n_negatives, NULL},
        {"n_chains", NULL, NULL, &c->chains.k}, {"min_history", NULL, &c->min_history, NULL},
        {"sft.n_steps", NULL, NULL, &c->sft.n_steps}, {"sft.warmup", NULL, NULL, &c->sft.warmup},
        {"sft.groups", NULL, &c->sft.groups, NULL}, {"sft.patience", NULL, &c->sft.patience, NULL},
        {"sft.valid_every", NULL, &c->sft.valid_every, NULL},
        {"sft.lr", &c->sft.lr, NULL, NULL}, {"sft.lr_floor", &c->sft.lr_floor, NULL, NULL},
        {"sft.reasoned_share", &c->sft.reasoned_share, NULL, NULL},
        {"sft.trace_weight", &c->sft.trace_weight, NULL, NULL},
        {"sft.list_weight", &c->sft.list_weight, NULL, NULL},
        {"sft.clip", &c->sft.adamw.clip, NULL, NULL}, {"sft.eps", &c->sft.adamw.eps, NULL, NULL},
        {"sft.beta1", &c->sft.adamw.beta1, NULL, NULL}, {"sft.beta2", &c->sft.adamw.beta2, NULL, NULL},
        {"sft.weight_decay", &c->sft.adamw.weight_decay, NULL, NULL},
        {"grpo.lr", &c->grpo.lr, NULL, NULL}, {"grpo.temperature", &c->grpo.temperature, NULL, NULL},
        {"grpo.beta", &c->grpo.beta, NULL, NULL}, {"grpo.eps_low", &c->grpo.eps_low, NULL, NULL},
        {"grpo.n_samples", NULL, &c->grpo.n_samples, NULL},
        {"grpo.groups", NULL, &c->grpo.groups, NULL}, {"grpo.n_steps", NULL, NULL, &c->grpo.n_steps},
        {"grpo.n_updates", NULL, &c->grpo.n_updates, NULL},
        {"teacher.gumbel", &c->teacher.gumbel, NULL, NULL},
        {"split.min_positive", &c->split.min_positive, NULL, NULL},
        {"model.norm_eps", &c->model.norm_eps, NULL, NULL},
        {"model.rope_theta", &c->model.rope_theta, NULL, NULL},
        {"model.init_std", &c->model.init_std, NULL, NULL},
        {"model.d_model", NULL, &c->model.d_model, NULL}, {"model.n_head", NULL, &c->model.n_head, NULL},
        {"model.n_layer", NULL, &c->model.n_layer, NULL}, {"model.d_ff", NULL, &c->model.d_ff, NULL}};
    if (!strcmp(name, "threads")) return ctx.n_threads = (int)v, true;
    for (size_t k = 0; k < sizeof all / sizeof *all; ++k) {
        if (strcmp(name, all[k].name)) continue;
        if (all[k].f) *all[k].f = (float)v;
        if (all[k].i) *all[k].i = (int32_t)v;
        if (all[k].l) *all[k].l = strtoll(text, NULL, 10);
        return true;
    }
    return false;
}

/* run DATA OUT [NAME=VALUE]...: a whole small run, saved into OUT ("-": not) whatever happened in
   training; says where it ended and whether weights and scores are numbers */
static int whole_run(int n, char **a) {
    r2_run_config c = small_run(5);
    r2_score_config how = r2_score_config_default();
    r2_run run;
    const char *stage = "init";
    float *score = NULL;
    int64_t n_scores = 0;
    r2_status s, saved = R2_OK;
    for (int k = 2; k < n; ++k) {
        char name[64] = "", *equals = strchr(a[k], '=');
        if (equals) snprintf(name, sizeof name, "%.*s", (int)(equals - a[k]), a[k]);
        if (!equals || !set(&c, name, equals + 1)) return printf("probe: setting %s?\n", a[k]), 2;
    }
    s = r2_run_init(&ctx, &run, a[0], &c);
    if (s == R2_OK) stage = "sft", s = r2_run_sft(&ctx, &run);
    if (s == R2_OK) stage = "grpo", s = r2_run_grpo(&ctx, &run);
    if (s == R2_OK) {
        stage = "score", n_scores = run.test.n_cases * run.test.n_per_case;
        score = r2_alloc(&ctx, (uint64_t)n_scores, sizeof *score);
        s = r2_run_score(&ctx, &run, &run.test, &how, score, NULL);
    }
    printf("%s after %s: %s\n", r2_status_name(s), stage, s != R2_OK ? ctx.message : "");
    if (strcmp(stage, "init")) {
        printf("weights that are no numbers: %ld\n", not_finite(run.model.param, run.model.n_params));
        if (n_scores && s == R2_OK) printf("scores that are no numbers: %ld\n", not_finite(score, n_scores));
        if (strcmp(a[1], "-")) {
            saved = r2_run_save(&ctx, &run, a[1]);
            printf("saved: %s\n", saved == R2_OK ? "ok" : ctx.message);
        }
    }
    r2_release(&ctx, score);
    r2_run_free(&ctx, &run);
    return s != R2_OK || saved != R2_OK;
}

/* recommend DATA N: what 20 users get, and how many of it the data say they have */
static int recommend(int n, char **a) {
    r2_run_config c = small_run(5);
    r2_run run;
    r2_recommendation best[64];
    int64_t want = strtoll(a[1], NULL, 10), users = 0, items = 0, all = 0;
    r2_status s;
    (void)n;
    c.grpo.n_steps = 0;
    s = r2_run_init(&ctx, &run, a[0], &c);
    if (s == R2_OK) s = r2_run_sft(&ctx, &run);
    for (uint32_t u = 0; s == R2_OK && u < 20 && u < run.data.n_users; ++u) {
        int64_t got = 0, here = 0;
        s = r2_run_recommend(&ctx, &run, u, want, best, &got);
        for (int64_t k = 0; s == R2_OK && k < got; ++k) here += r2_data_find(&run.data, u, best[k].item) >= 0;
        if (s == R2_OK) r2_recommendations_free(&ctx, best, got);
        users += here > 0, items += here, all += got;
    }
    if (s == R2_OK)
        printf("recommended %lld; users who have some of it %lld, items that they have %lld\n",
               (long long)all, (long long)users, (long long)items);
    r2_run_free(&ctx, &run);
    return s != R2_OK ? failed(s) : 0;
}

/* reload DATA DIR: the small run of seed 5, filled from what `run DATA DIR` saved */
static int reload(int n, char **a) {
    r2_run_config c = small_run(5);
    r2_run run;
    r2_status s = r2_run_init(&ctx, &run, a[0], &c);
    (void)n;
    if (s != R2_OK) return failed(s);
    s = r2_run_load_model(&ctx, &run, a[1]);
    if (s == R2_OK) printf("reloaded\n");
    r2_run_free(&ctx, &run);
    if (s != R2_OK && held) printf("memory: %zu bytes were not given back\n", held);
    return s != R2_OK ? failed(s) : 0;
}

static r2_status trained(r2_run *run, const char *data, uint64_t seed) {
    r2_run_config c = small_run(seed);
    r2_status s = r2_run_init(&ctx, run, data, &c);
    return s != R2_OK ? s : r2_run_sft(&ctx, run);
}

/* What a training reported, step after step. */
static unsigned long long reports;
static void add_report(const void *report, size_t n) {
    for (size_t k = 0; k < n; ++k) reports = reports * 31 + ((const unsigned char *)report)[k];
}
static void sft_step(void *hook_data, const r2_sft_report *r) { (void)hook_data, add_report(r, sizeof *r); }
static void grpo_step(void *hook_data, const r2_grpo_report *r) { (void)hook_data, add_report(r, sizeof *r); }

/* train DATA DIR [STOP]: a training that keeps its state in DIR and saves its run there; goes on from
   what is there. With STOP it asks itself to stop there, of all steps, as an interrupt does. */
static int64_t stop_at;
static int stop(void *hook_data, const char *what, int64_t done, int64_t total) {
    static int64_t n;
    (void)hook_data, (void)done, (void)total;
    if (strcmp(what, "sft") && strcmp(what, "grpo")) return 0;
    return stop_at && ++n == stop_at;
}

static int train(int n, char **a) {
    r2_run_config c = small_run(5);
    char sft[600], grpo[600];
    r2_run run;
    r2_status s;
    snprintf(sft, sizeof sft, "%s/sft.state", a[1]);
    snprintf(grpo, sizeof grpo, "%s/grpo.state", a[1]);
    stop_at = n > 2 ? atoi(a[2]) : 0;
    ctx.progress = stop;
    c.sft.n_steps = 300, c.sft.valid_every = 20, c.sft.patience = 1000;
    c.grpo.n_steps = 20;
    c.sft.state_path = sft, c.grpo.state_path = grpo;
    c.sft.state_every = c.grpo.state_every = 0.01f;
    c.sft.on_step = sft_step, c.grpo.on_step = grpo_step;
    s = r2_run_init(&ctx, &run, a[0], &c);
    if (s == R2_OK) s = r2_run_sft(&ctx, &run);
    if (s == R2_OK) s = r2_run_grpo(&ctx, &run);
    if (s == R2_OK) s = r2_run_save(&ctx, &run, a[1]);
    if (s == R2_OK) printf("reports %llx\n", reports);
    r2_run_free(&ctx, &run);
    return s != R2_OK ? failed(s) : 0;
}

/* A fingerprint of the weights: the sum of the bits of all. */
static unsigned long long print_of(const r2_run *run) {
    unsigned long long sum = 0;
    for (int64_t k = 0; k < run->model.n_params; ++k) {
        uint32_t bits;
        memcpy(&bits, &run->model.param[k], sizeof bits);
        sum = sum * 31 + bits;
    }
    return sum;
}

/* torn DATA DIR BLOCKED: saves a run of seed 5 into DIR, then one of seed 6 over it while a directory
   stands where BLOCKED.tmp would be written; loads what is there into runs of both seeds */
static int torn(int n, char **a) {
    r2_run run;
    char path[600];
    unsigned long long first, second;
    r2_status s;
    (void)n;
    s = trained(&run, a[0], 5);
    if (s == R2_OK) s = r2_run_save(&ctx, &run, a[1]);
    if (s != R2_OK) return failed(s);
    first = print_of(&run);
    r2_run_free(&ctx, &run);
    snprintf(path, sizeof path, "%s/%s.tmp", a[1], a[2]);
    mkdir(path, 0777);
    if (trained(&run, a[0], 6) != R2_OK) return failed(ctx.status);
    s = r2_run_save(&ctx, &run, a[1]);
    printf("second save: %s\n", s == R2_OK ? "ok" : ctx.message);
    second = print_of(&run);
    r2_run_free(&ctx, &run);
    for (uint64_t seed = 5; seed <= 6; ++seed) {
        r2_run_config c = small_run(seed);
        if (r2_run_init(&ctx, &run, a[0], &c) != R2_OK) return failed(ctx.status);
        s = r2_run_load_model(&ctx, &run, a[1]);
        printf("load into seed %d: %s\n", (int)seed,
               s != R2_OK                  ? "refused"
               : print_of(&run) == first  ? "weights of seed 5"
               : print_of(&run) == second ? "weights of seed 6"
                                          : "other weights");
        r2_run_free(&ctx, &run);
    }
    return 0;
}

/* --- making inputs ---------------------------------------------------------------------------------- */

/* json IN OUT [PATH=JSON]...: sets values of a JSON file. PATH is keys and places between dots;
   PATH+=JSON appends to a list, PATH=- takes the key out. */
static int json(int n, char **a) {
    size_t size;
    char *text = slurp(a[0], &size);
    cJSON *root = cJSON_Parse(text);
    if (!root) return printf("probe: %s is not JSON\n", a[0]), 2;
    for (int k = 2; k < n; ++k) {
        char path[256], *equals = strchr(a[k], '='), *key = path, *dot;
        bool append = equals && equals > a[k] && equals[-1] == '+';
        cJSON *at = root, *value;
        if (!equals) return printf("probe: %s?\n", a[k]), 2;
        snprintf(path, sizeof path, "%.*s", (int)(equals - a[k] - append), a[k]);
        for (; (dot = strchr(key, '.')); key = dot + 1) {
            *dot = '\0';
            at = cJSON_IsArray(at) ? cJSON_GetArrayItem(at, atoi(key)) : cJSON_GetObjectItem(at, key);
        }
        value = strcmp(equals + 1, "-") ? cJSON_Parse(equals + 1) : NULL;
        if (append) cJSON_AddItemToArray(cJSON_GetObjectItem(at, key), value);
        else {
            cJSON_DeleteItemFromObject(at, key);
            if (value) cJSON_AddItemToObject(at, key, value);
        }
    }
    free(text);
    text = cJSON_Print(root);
    spill(a[1], text, strlen(text));
    json_give(text);
    cJSON_Delete(root);
    return 0;
}

/* A safetensors file of a header and n bytes that follow it. */
static void write_safetensors(const char *path, const char *header, const char *bytes, size_t n) {
    size_t len = strlen(header);
    char *all = calloc(1, 8 + len + n);
    for (int k = 0; k < 8; ++k) all[k] = (char)((uint64_t)len >> (8 * k));
    memcpy(all + 8, header, len);
    if (n) memcpy(all + 8 + len, bytes, n);
    spill(path, all, 8 + len + n);
    free(all);
}

/* header OUT JSON N: a safetensors file with this header, as it is, and N bytes 0 */
static int header(int n, char **a) {
    size_t bytes = (size_t)strtoull(a[2], NULL, 10);
    char *zeros = calloc(1, bytes + 1);
    (void)n;
    write_safetensors(a[0], a[1], zeros, bytes);
    free(zeros);
    return 0;
}

/* tensor IN OUT NAME N [VALUE]: adds an F32 vector of N values to a safetensors file ("-": a new
   one); a NAME that is there already is set to VALUE instead */
static int tensor(int n, char **a) {
    size_t size = 0, len = 2, count = (size_t)atoi(a[3]), bytes;
    char *all = strcmp(a[0], "-") ? slurp(a[0], &size) : NULL, *body, *text;
    float value = n > 4 ? strtof(a[4], NULL) : 0.5f;
    cJSON *root, *entry;
    for (int k = 0; all && k < 8; ++k) len = (k ? len : 0) | (size_t)(unsigned char)all[k] << (8 * k);
    root = all ? cJSON_ParseWithLength(all + 8, len) : cJSON_CreateObject();
    bytes = all ? size - 8 - len : 0;
    body = calloc(1, bytes + 4 * count + 1);
    if (all) memcpy(body, all + 8 + len, bytes);
    entry = cJSON_GetObjectItem(root, a[2]);
    if (entry) {
        const cJSON *offset = cJSON_GetObjectItem(entry, "data_offsets");
        memcpy(body + (size_t)cJSON_GetNumberValue(offset->child), &value, 4);
    } else {
        const double place[2] = {(double)bytes, (double)(bytes + 4 * count)}, shape = (double)count;
        entry = cJSON_AddObjectToObject(root, a[2]);
        cJSON_AddStringToObject(entry, "dtype", "F32");
        cJSON_AddItemToObject(entry, "shape", cJSON_CreateDoubleArray(&shape, 1));
        cJSON_AddItemToObject(entry, "data_offsets", cJSON_CreateDoubleArray(place, 2));
        for (size_t k = 0; k < count; ++k) memcpy(body + bytes + 4 * k, &value, 4);
        bytes += 4 * count;
    }
    text = cJSON_PrintUnformatted(root);
    write_safetensors(a[1], text, body, bytes);
    json_give(text);
    cJSON_Delete(root);
    free(all);
    free(body);
    return 0;
}

/* --- main ------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int least;
    int (*run)(int n, char **a);
    const char *arguments;
} command[] = {
    {"load", 1, load, "[-s|-u|-i|-r|-t|-T|-I|-N VALUE] FILE..."},
    {"genre", 1, genre, "FILE..."},
    {"candidates", 2, candidates, "DATA FILE"},
    {"candidates-again", 3, candidates_again, "DATA FILE N"},
    {"given", 3, given, "TRAIN VALID TEST"},
    {"chains", 4, chains, "DATA USER ITEM K"},
    {"tok", 2, tok, "FILE TEXT [added]"},
    {"many-added", 3, many_added, "FILE N KB"},
    {"records", 1, records, "FILE"},
    {"vocab", 1, vocab, "FILE"},
    {"model", 1, model, "DIR [ADAPTER]"},
    {"weights", 1, weights, "FILE"},
    {"sample", 2, sample, "DIR TEMPERATURE [WEIGHT]"},
    {"forward", 2, forward, "DIR TOKEN..."},
    {"policy", 5, policy, "LOGP LOGP_OLD LOGP_REF ADVANTAGE BETA"},
    {"advantages", 1, advantages, "REWARD..."},
    {"rank", 2, rank, "SCORE..."},
    {"run", 2, whole_run, "DATA OUT [NAME=VALUE]..."},
    {"reload", 2, reload, "DATA DIR"},
    {"recommend", 2, recommend, "DATA N"},
    {"torn", 3, torn, "DATA DIR BLOCKED"},
    {"train", 2, train, "DATA DIR [STOP]"},
    {"json", 2, json, "IN OUT [PATH=JSON]..."},
    {"header", 3, header, "OUT JSON N"},
    {"tensor", 4, tensor, "IN OUT NAME N [VALUE]"}};

int main(int n, char **a) {
    const char *locale = getenv("PROBE_LOCALE"), *most_bytes = getenv("PROBE_LIMIT");
    cJSON_Hooks hooks = {json_take, json_give};
    int status = 2;
    ctx = r2_ctx_default();
    ctx.n_threads = 1;
    ctx.realloc_fn = take;
    ctx.log = log_line;
    if (most_bytes) limit = (size_t)strtoull(most_bytes, NULL, 10);
    if (locale && !setlocale(LC_ALL, locale)) return printf("no locale %s\n", locale), 2;
    cJSON_InitHooks(&hooks);
    for (size_t k = 0; k < sizeof command / sizeof *command; ++k) {
        if (n < 2 || strcmp(a[1], command[k].name)) {
            if (n == 2 && !strcmp(a[1], "help")) printf("%s %s\n", command[k].name, command[k].arguments);
            continue;
        }
        if (n - 2 < command[k].least) return printf("%s %s\n", a[1], command[k].arguments), 2;
        status = command[k].run(n - 2, a + 2);
        if (getenv("PROBE_MEMORY"))
            printf("memory: largest request %zu MB, most held %zu MB\n", largest >> 20, most >> 20);
        if (status == 0 && held) printf("memory: %zu bytes were not given back\n", held), status = 3;
    }
    return status;
}

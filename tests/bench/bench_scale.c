/* bench_scale.c: how time and memory grow with the data. `make bench-scale` invents ratings of four
   sizes (powerlaw.h), takes them from the text file to a recommendation by the default run, and
   notes of each phase the processor's seconds and the most memory in use, of one thread. It writes
   out/bench-scale.json, one row a size and phase, and out/bench-scale.dat and .gp, from which
   gnuplot draws seconds against ratings, both logarithmic, the slope beside each name: 1 is "in
   proportion".

   Options: the sizes wanted, in millions, of 0.1 1 5 20 (default: the first two; 20 takes a text
   file of 530 MB). `bench_scale --write DIR 5` only writes DIR/ratings.csv, for the demo. Invented
   ratings have no taste in them: what is measured here is time, never quality. */
#define _POSIX_C_SOURCE 200809L
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "examples/common/baselines.h"
#include "meter.h"
#include "powerlaw.h"

#include <sys/stat.h>

enum { MAX_SIZES = 4, MAX_PHASES = 24, SFT_STEPS = 20 };

static const powerlaw sizes[MAX_SIZES] = {{943, 1682, 100000, 7},
                                          {6040, 3706, 1000209, 7},
                                          {30000, 9000, 5000000, 7},
                                          {138493, 26744, 20000263, 7}};

typedef struct phase {
    const char *name;
    double seconds[MAX_SIZES]; /* 0: not measured */
    double peak[MAX_SIZES];    /* bytes           */
} phase;

typedef struct bench {
    r2_ctx ctx;
    meter memory;
    r2_run run;
    int size, n_phases;
    bool wanted[MAX_SIZES];
    double began;
    phase phase[MAX_PHASES];
} bench;

static void check(bench *b, r2_status status) {
    if (!status) return;
    fprintf(stderr, "bench_scale: %s\n", b->ctx.message);
    exit(1);
}

static void *need(bench *b, uint64_t n, uint64_t size) {
    void *memory = r2_alloc(&b->ctx, n, size);
    if (!memory) check(b, R2_NO_MEMORY);
    return memory;
}

static void begins(bench *b) {
    b->memory.peak = b->memory.now;
    b->began = processor();
}

/* Ends a phase and begins the next. */
static void ends(bench *b, const char *name) {
    const double seconds = processor() - b->began;
    int k = 0;
    while (k < b->n_phases && strcmp(b->phase[k].name, name)) ++k;
    if (k == b->n_phases) b->phase[b->n_phases++].name = name;
    b->phase[k].seconds[b->size] = seconds;
    b->phase[k].peak[b->size] = (double)b->memory.peak;
    printf("%5.1f M  %-44s %9.3f s %8.1f MB\n", (double)sizes[b->size].n_ratings * 1e-6, name,
           seconds, (double)b->memory.peak * 1e-6);
    fflush(stdout);
    begins(b);
}

/* ---- the phases ---- */

static void bench_data(bench *b, const char *path) {
    r2_run *run = &b->run;
    memset(run, 0, sizeof *run);
    run->config = r2_run_config_default();
    run->config.sft.n_steps = SFT_STEPS;
    r2__run_seeds(&run->config);
    check(b, r2__run_data(&b->ctx, run, path));
    ends(b, "load, split, graph, order in time");
    check(b, r2_run_prepare(&b->ctx, run));
    ends(b, "82k training questions, prompts and traces");
}

/* Pairs of a random user and the item of a random edge: popular items, as people take them. */
static void bench_chains(bench *b, r2_chain_law law, int n, const char *name) {
    const r2_graph *g = &b->run.graph;
    r2_chain_config config = r2_chain_config_default();
    config.law = law;
    for (int k = 0; k < n; ++k) {
        r2_rng rng = r2_rng_make(11, R2_STREAM_USER, (uint64_t)k);
        r2_question q;
        r2_chain chains[3];
        int64_t found;
        memset(&q, 0, sizeof q);
        q.user = (uint32_t)r2_rng_below(&rng, (uint64_t)g->n_users);
        q.item = g->user_item[r2_rng_below(&rng, (uint64_t)g->n_edges)];
        q.n_history = (int32_t)r2_graph_user_degree(g, q.user);
        check(b, r2_chains_target(&b->ctx, &b->run.index, &q, &config, chains, &found));
    }
    ends(b, name);
}

/* One point of the grid of a method: fitted, then asked about the test candidates. */
static void bench_baseline(bench *b, const char *method, const r2_examples *asked, float *score,
                           const char *name) {
    for (int k = 0; k < BL_N_METHODS; ++k) {
        bl_model model;
        if (strcmp(bl_methods[k].name, method)) continue;
        check(b, bl_fit(&b->ctx, &bl_methods[k], &b->run, bl_methods[k].grid[0], &model));
        model.asked_of = &b->run.test, model.asked = asked;
        check(b, bl_methods[k].score(&b->ctx, &model, &b->run.test, score));
        bl_free(&b->ctx, &model);
    }
    ends(b, name);
}

static void bench_ranking(bench *b) {
    enum { N_BEST = 10 };
    r2_run *run = &b->run;
    float *score = (float *)need(b, (uint64_t)(run->test.n_cases * run->test.n_per_case),
                                 sizeof *score);
    const r2_score_config how = r2_score_config_default();
    r2_recommendation best[N_BEST];
    r2_examples asked;
    int64_t n;
    check(b, r2_run_candidate_prompts(&b->ctx, run, &run->test, NULL, &asked));
    ends(b, "evidence of the test candidates");
    bench_baseline(b, "popularity", &asked, score, "popularity");
    bench_baseline(b, "user-knn", &asked, score, "user-kNN, one fit");
    bench_baseline(b, "ease", &asked, score, "EASE^R, one fit");
    bench_baseline(b, "logistic", &asked, score, "logistic regression, one fit");
    check(b, r2_run_sft(&b->ctx, run));
    ends(b, "fine-tuning, 20 steps");
    check(b, r2_score(&b->ctx, &run->model, &asked, &how, score, NULL));
    ends(b, "ranking the test candidates");
    r2_examples_free(&b->ctx, &asked);
    r2_release(&b->ctx, score);
    check(b, r2_run_recommend(&b->ctx, run, 0, N_BEST, best, &n));
    r2_recommendations_free(&b->ctx, best, n);
    ends(b, "one user's best of the catalogue");
}

static void write_ratings(int size, const char *path) {
    FILE *file = fopen(path, "wb");
    int64_t written = file ? powerlaw_write(&sizes[size], file) : -1;
    if (!file || fclose(file) || written != sizes[size].n_ratings) {
        fprintf(stderr, "bench_scale: %s: cannot write %lld ratings\n", path,
                (long long)sizes[size].n_ratings);
        exit(1);
    }
}

static void bench_size(bench *b, int size) {
    const char *path = "out/bench-scale.csv";
    write_ratings(size, path);
    b->size = size;
    begins(b);
    bench_data(b, path);
    remove(path);
    bench_chains(b, R2_CHAINS_UNIFORM, 10000, "10,000 pairs: uniform chains");
    bench_chains(b, R2_CHAINS_COHERENT, 1000, "1,000 pairs: coherent chains");
    bench_ranking(b);
    r2_run_free(&b->ctx, &b->run);
}

/* ---- what is written ---- */

/* Least squares of log seconds by log ratings; NAN from fewer than two sizes. */
static double slope(const bench *b, const phase *p) {
    double n = 0.0, x = 0.0, y = 0.0, xx = 0.0, xy = 0.0;
    for (int s = 0; s < MAX_SIZES; ++s) {
        const double at = log((double)sizes[s].n_ratings), value = log(p->seconds[s]);
        if (!b->wanted[s] || !(p->seconds[s] > 0.0)) continue;
        n += 1.0, x += at, y += value, xx += at * at, xy += at * value;
    }
    return (n * xy - x * y) / (n * xx - x * x);
}

static void add_json(bench *b, r2_text *json) {
    const char *comma = "";
    r2_text_addf(&b->ctx, json, "[");
    for (int k = 0; k < b->n_phases; ++k)
        for (int s = 0; s < MAX_SIZES; ++s) {
            const phase *p = &b->phase[k];
            if (!b->wanted[s]) continue;
            r2_text_addf(&b->ctx, json,
                         "%s\n  {\"ratings\": %lld, \"users\": %lld, \"items\": %lld, "
                         "\"phase\": \"%s\", \"seconds\": %.4g, \"peak_mb\": %.4g}",
                         comma, (long long)sizes[s].n_ratings, (long long)sizes[s].n_users,
                         (long long)sizes[s].n_items, p->name, p->seconds[s], p->peak[s] * 1e-6);
            comma = ",";
        }
    r2_text_addf(&b->ctx, json, "\n]\n");
}

/* A block of the .dat file a phase, and gnuplot's commands. */
static void add_picture(bench *b, r2_text *dat, r2_text *gp) {
    r2_text_addf(&b->ctx, gp, "set terminal svg size 1100,700\nset output 'out/bench-scale.svg'\n"
                 "set logscale xy\nset xlabel 'ratings'\nset ylabel 'seconds of one processor'\n"
                 "set format x '%%.0s %%c'\nset format y '%%g'\nset yrange [0.01:*]\n"
                 "set title 'behind each name, the slope: 1 is in proportion'\n"
                 "set key outside right Left reverse\nset grid\nplot");
    for (int k = 0; k < b->n_phases; ++k) {
        const phase *p = &b->phase[k];
        for (int s = 0; s < MAX_SIZES; ++s)
            if (b->wanted[s])
                r2_text_addf(&b->ctx, dat, "%lld %.6g\n", (long long)sizes[s].n_ratings,
                             p->seconds[s]);
        r2_text_addf(&b->ctx, dat, "\n\n");
        r2_text_addf(&b->ctx, gp,
                     "%s 'out/bench-scale.dat' index %d with linespoints title \"%s: %.2f\"",
                     k ? ", \\\n" : "", k, p->name, slope(b, p));
    }
    r2_text_addf(&b->ctx, gp, "\n");
}

static void save(bench *b, const char *path, r2_text *text) {
    if (text->failed) check(b, R2_NO_MEMORY);
    check(b, r2_write_file(&b->ctx, path, text->data, text->len));
    r2_text_free(&b->ctx, text);
}

static void write_results(bench *b) {
    r2_text json = {NULL, 0, 0, false}, dat = json, gp = json;
    add_json(b, &json);
    add_picture(b, &dat, &gp);
    save(b, "out/bench-scale.json", &json);
    save(b, "out/bench-scale.dat", &dat);
    save(b, "out/bench-scale.gp", &gp);
    if (system("gnuplot out/bench-scale.gp 2>/dev/null") != 0)
        fprintf(stderr, "gnuplot drew nothing (is it installed?): out/bench-scale.gp says what\n");
    for (int k = 0; k < b->n_phases; ++k)
        printf("slope %5.2f  %s\n", slope(b, &b->phase[k]), b->phase[k].name);
}

/* The number of a size in millions, as text. */
static int size_of(const char *text) {
    for (int s = 0; s < MAX_SIZES; ++s)
        if (lround((double)sizes[s].n_ratings * 1e-5) == lround(10.0 * strtod(text, NULL))) return s;
    fprintf(stderr, "bench_scale: expected sizes of 0.1 1 5 20, found %s\n", text);
    exit(2);
}

int main(int argc, char **argv) {
    static bench b;
    if (argc == 4 && !strcmp(argv[1], "--write")) {
        char path[4096];
        snprintf(path, sizeof path, "%s/ratings.csv", argv[2]);
        mkdir(argv[2], 0777);
        write_ratings(size_of(argv[3]), path);
        return 0;
    }
    b.wanted[0] = b.wanted[1] = argc < 2;
    for (int k = 1; k < argc; ++k) b.wanted[size_of(argv[k])] = true;
    b.ctx = r2_ctx_default();
    b.ctx.n_threads = 1;
    b.ctx.realloc_fn = metered;
    b.ctx.hook_data = &b.memory;
    mkdir("out", 0777);
    for (int s = 0; s < MAX_SIZES; ++s)
        if (b.wanted[s]) bench_size(&b, s);
    write_results(&b);
    return 0;
}

/* bench_graph.c: are the graph and the chains fast and small enough? `make bench-graph`. Invents
   ratings of the size of ML-100K and ML-20M (powerlaw.h), takes the times of everything between
   the text file and the chains, and writes out/bench-graph.json, one row a figure: {"name",
   "ours", "peer", "peer_name", "ratio", "unit"}. The peer is the goal that was set, or another
   way to do the same; ratio >= 1: ours is at least as good. What one thread does is measured in
   processor time, what two do by the clock, both by turns and best of several rounds where a
   round is short: so that other programs on the machine count little. Options: `--small` leaves
   ML-20M out, `--keep` keeps its text file (530 MB) in out/. */
#define _POSIX_C_SOURCE 200809L
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "meter.h"
#include "powerlaw.h"

#include <sys/stat.h>

/* ---- rows ---- */

static r2_text rows;
static r2_ctx plain; /* for what the benchmark itself needs */

/* `less`: smaller is better. */
static void row(const char *name, double ours, double peer, const char *peer_name, const char *unit,
                bool less) {
    double ratio = less ? peer / ours : ours / peer;
    printf("%-62s %11.4g %-10s %10.4g %-20s x%.2f\n", name, ours, unit, peer, peer_name, ratio);
    fflush(stdout);
    r2_text_addf(&plain, &rows,
                 "%s  {\"name\": \"%s\", \"ours\": %.6g, \"peer\": %.6g, \"peer_name\": \"%s\", "
                 "\"ratio\": %.4g, \"unit\": \"%s\"}",
                 rows.len ? ",\n" : "", name, ours, peer, peer_name, ratio, unit);
}

static void stop_if(r2_ctx *ctx, r2_status status) {
    if (!status) return;
    fprintf(stderr, "bench_graph: %s\n", ctx->message);
    exit(1);
}

static double best(const double *values, int n, bool less) {
    double found = values[0];
    for (int k = 1; k < n; ++k)
        if (less ? values[k] < found : values[k] > found) found = values[k];
    return found;
}

/* ---- how long reading takes ---- */

typedef struct reading {
    meter memory;
    double read_at;    /* processor time when the last million of ratings was reported */
    int64_t read_rows; /* and how many there were                       */
} reading;

static int note_progress(void *hook_data, const char *what, int64_t done, int64_t total) {
    reading *m = (reading *)hook_data;
    (void)total;
    if (strcmp(what, "reading ratings")) return 0;
    m->read_at = processor();
    m->read_rows = done;
    return 0;
}

/* ---- the sizes of ML-100K and ML-1M ---- */

/* The textbook: paths of two edges between all pairs of users, by rows of A A^T. */
static int64_t count_by_rows(const r2_graph *g, uint32_t *paths) {
    int64_t sum = 0;
    for (int64_t u = 0; u < g->n_users; ++u) {
        memset(paths, 0, (size_t)g->n_users * sizeof *paths);
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) {
            int64_t k = g->item_begin[g->user_item[e]], end = g->item_begin[g->user_item[e] + 1];
            for (; k < end; ++k) paths[g->item_user[k]]++;
        }
        for (int64_t v = 0; v < u; ++v) sum += (int64_t)paths[v] * ((int64_t)paths[v] - 1) / 2;
    }
    return sum;
}

static const char *write_ratings(const powerlaw *p, const char *path) {
    FILE *file = fopen(path, "wb");
    int64_t written = file ? powerlaw_write(p, file) : -1;
    if (!file || fclose(file) || written != p->n_ratings) {
        fprintf(stderr, "bench_graph: %s: cannot write %lld ratings\n", path,
                (long long)p->n_ratings);
        exit(1);
    }
    return path;
}

/* Counts with one thread, with two, and by the textbook, by turns. goal: milliseconds; 0: none. */
static void bench_count(r2_ctx *ctx, const char *what, const powerlaw *size, int rounds,
                        double goal) {
    double cpu[64], wall[2][64], textbook[64];
    const char *path = write_ratings(size, "out/powerlaw.csv");
    char name[2][64];
    r2_data data;
    r2_graph graph;
    uint32_t *paths;
    stop_if(ctx, r2_data_load(ctx, &data, path));
    stop_if(ctx, r2_graph_init(ctx, &graph, &data, NULL));
    paths = (uint32_t *)r2_alloc(ctx, (uint64_t)graph.n_users, sizeof *paths);
    if (!paths) stop_if(ctx, R2_NO_MEMORY);
    for (int r = 0; r < rounds; ++r) {
        r2_butterflies b[2];
        int64_t want;
        double begin = processor();
        want = count_by_rows(&graph, paths);
        textbook[r] = 1e3 * (processor() - begin);
        for (int t = 0; t < 2; ++t) {
            double from = r2_seconds();
            begin = processor();
            ctx->n_threads = t + 1;
            stop_if(ctx, r2_butterflies_init(ctx, &b[t], &graph));
            wall[t][r] = 1e3 * (r2_seconds() - from);
            if (t == 0) cpu[r] = 1e3 * (processor() - begin);
        }
        if (b[0].total != want || b[1].total != want) {
            fprintf(stderr, "bench_graph: counts differ\n");
            exit(1);
        }
        for (int t = 0; t < 2; ++t) r2_butterflies_free(ctx, &b[t]);
    }
    for (int n = 1; n <= 2; ++n)
        snprintf(name[n - 1], sizeof name[0], "butterflies, size of %s, %d thread%s", what, n,
                 n > 1 ? "s" : "");
    if (goal > 0.0) row(name[0], best(cpu, rounds, true), goal, "goal", "ms", true);
    row(name[0], best(cpu, rounds, true), best(textbook, rounds, true), "rows of A A^T", "ms",
        true);
    row(name[1], best(wall[1], rounds, true), best(wall[0], rounds, true), "1 thread", "ms", true);
    r2_release(ctx, paths);
    r2_graph_free(ctx, &graph);
    r2_data_free(ctx, &data);
    remove(path);
}

/* ---- the size of ML-20M ---- */

/* Text file -> data -> graph: speed and memory. */
static void bench_load(r2_ctx *ctx, reading *m, const char *path, r2_data *data, r2_graph *graph) {
    struct stat file;
    double begin = processor(), n, bytes, read;
    if (stat(path, &file)) exit(1);
    stop_if(ctx, r2_data_load(ctx, data, path));
    stop_if(ctx, r2_graph_init(ctx, graph, data, NULL));
    n = (double)data->n_ratings;
    bytes = (double)file.st_size * (double)m->read_rows / n;
    read = m->read_at - begin;
    row("reading ratings.csv, 20 million rows", bytes / read * 1e-6, 150.0, "goal", "MB/s", false);
    row("sorting and CSR after reading, 20 million", processor() - m->read_at, 10.0, "goal", "s",
        true);
    row("memory while loading, at the peak", (double)m->memory.peak / n, 40.0, "goal", "bytes/row", true);
    row("memory after, data and graph with all names", (double)m->memory.now / n, 24.0, "goal",
        "bytes/row", true);
}

static void bench_butterflies(r2_ctx *ctx, const r2_graph *graph) {
    int64_t total[2];
    double wall[2], cpu[2];
    for (int t = 0; t < 2; ++t) {
        double begin = r2_seconds(), from = processor();
        r2_butterflies b;
        ctx->n_threads = t + 1;
        stop_if(ctx, r2_butterflies_init(ctx, &b, graph));
        wall[t] = r2_seconds() - begin;
        cpu[t] = processor() - from;
        total[t] = b.total;
        r2_butterflies_free(ctx, &b);
    }
    printf("butterflies %lld\n", (long long)total[1]);
    row("butterflies exactly, 20 million edges, 1 thread", cpu[0], 900.0, "goal", "s", true);
    row("butterflies exactly, 20 million edges, 2 threads", wall[1], wall[0], "1 thread", "s",
        true);
    if (total[0] != total[1]) {
        fprintf(stderr, "bench_graph: counts differ\n");
        exit(1);
    }
}

/* Chains a second for n pairs, the best of five rounds. */
static double chains_per_second(r2_ctx *ctx, const r2_index *index, const r2_target *pairs,
                                int64_t n, r2_chain_law law) {
    r2_chain_config config = r2_chain_config_default();
    double rate[5];
    config.law = law;
    config.k = 4;
    for (int r = 0; r < 5; ++r) {
        double begin = processor(), found = 0.0;
        for (int64_t k = 0; k < n; ++k) {
            r2_question q = {pairs[k].user, pairs[k].item, 0, -1, 0, 0, 0, 0};
            r2_chain chains[4];
            int64_t n_chains;
            q.n_history = (int32_t)r2_graph_user_degree(index->graph, q.user);
            stop_if(ctx, r2_chains_target(ctx, index, &q, &config, chains, &n_chains));
            found += (double)n_chains;
        }
        rate[r] = found / (processor() - begin);
    }
    return best(rate, 5, false);
}

static void bench_chains(r2_ctx *ctx, const r2_data *data, const r2_graph *g) {
    enum { PAIRS = 50000, COHERENT = 100 };
    static r2_target pairs[PAIRS];
    static const char *const what[2] = {"random user and item",
                                        "random user, item of a random edge"};
    double begin = processor();
    r2_index index;
    stop_if(ctx, r2_index_init(ctx, &index, g, data, 4.0f, 1));
    row("index: order in time, 20 million edges", processor() - begin, 30.0, "goal", "s", true);
    for (int popular = 0; popular < 2; ++popular) {
        char name[128];
        double rate;
        for (int k = 0; k < PAIRS; ++k) {
            r2_rng rng = r2_rng_make(11, R2_STREAM_USER, (uint64_t)k);
            pairs[k].user = (uint32_t)r2_rng_below(&rng, (uint64_t)g->n_users);
            pairs[k].item = popular ? g->user_item[r2_rng_below(&rng, (uint64_t)g->n_edges)]
                                    : (uint32_t)r2_rng_below(&rng, (uint64_t)g->n_items);
        }
        snprintf(name, sizeof name, "target chains, uniform, %s", what[popular]);
        rate = chains_per_second(ctx, &index, pairs, PAIRS, R2_CHAINS_UNIFORM);
        row(name, rate, 2e5, "goal", "chains/s", false);
        snprintf(name, sizeof name, "target chains, coherent, %s", what[popular]);
        row(name, chains_per_second(ctx, &index, pairs, COHERENT, R2_CHAINS_COHERENT), rate,
            "uniform", "chains/s", false);
    }
    r2_index_free(ctx, &index);
}

static void bench_large(r2_ctx *ctx, bool keep) {
    static const powerlaw size = {138493, 26744, 20000263, 7};
    const char *path = "out/powerlaw-20m.csv";
    reading m; /* begins with a meter, as the allocator expects */
    r2_data data;
    r2_graph graph;
    memset(&m, 0, sizeof m);
    ctx->realloc_fn = metered;
    ctx->progress = note_progress;
    ctx->hook_data = &m;
    write_ratings(&size, path);
    bench_load(ctx, &m, path, &data, &graph);
    if (!keep) remove(path);
    bench_chains(ctx, &data, &graph);
    bench_butterflies(ctx, &graph);
    r2_graph_free(ctx, &graph);
    r2_data_free(ctx, &data);
    ctx->realloc_fn = NULL;
    ctx->progress = NULL;
}

int main(int argc, char **argv) {
    static const powerlaw ml_100k = {943, 1682, 100000, 7}, ml_1m = {6040, 3706, 1000209, 7};
    r2_ctx ctx = r2_ctx_default();
    r2_text json = {NULL, 0, 0, false};
    bool small = false, keep = false;
    for (int k = 1; k < argc; ++k) {
        small = small || !strcmp(argv[k], "--small");
        keep = keep || !strcmp(argv[k], "--keep");
    }
    plain = r2_ctx_default();
    mkdir("out", 0777);
    bench_count(&ctx, "ML-100K", &ml_100k, 61, 40.0);
    bench_count(&ctx, "ML-1M", &ml_1m, 7, 0.0);
    if (!small) bench_large(&ctx, keep);
    r2_text_addf(&ctx, &json, "[\n%s\n]\n", rows.data);
    if (json.failed) stop_if(&ctx, R2_NO_MEMORY);
    stop_if(&ctx, r2_write_file(&ctx, "out/bench-graph.json", json.data, json.len));
    r2_text_free(&ctx, &json);
    r2_text_free(&ctx, &rows);
    return 0;
}

/* The time of a step of SFT, by one process with threads or by several processes:

       make MPI=1 build/mpi/tests/bench/bench_team
       mpirun -n 2 build/mpi/tests/bench/bench_team --threads 1 --steps 300

   prints, in milliseconds a step: the wall's median; the processor time of process 0 (of all its threads) outside
   of exchanges, the median; the exchanges' time by the wall, the least over the steps. On a busy machine the first
   says how busy it is; the others hardly depend on that: a step of N idle processors takes about their sum. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "../../examples/common/options.h"
#include "../../examples/common/output.h"

enum { MOST = 10000, WALL = 0, WORK, EXCHANGE, N_CLOCKS };

typedef struct times {
    int64_t n;
    double begun[N_CLOCKS], step[N_CLOCKS][MOST];
    double waited_wall, waited_cpu; /* in exchanges so far */
} times;

static times all;
static bool (*exchange)(void *hook_data, void *data, const int64_t *begin);

static double processor(void) { return (double)clock() / CLOCKS_PER_SEC; }

static bool timed(void *hook_data, void *data, const int64_t *begin) {
    const double wall = r2_seconds(), cpu = processor();
    const bool good = exchange(hook_data, data, begin);
    all.waited_wall += r2_seconds() - wall;
    all.waited_cpu += processor() - cpu;
    return good;
}

static void on_step(void *hook_data, const r2_sft_report *report) {
    const double now[N_CLOCKS] = {r2_seconds(), processor() - all.waited_cpu, all.waited_wall};
    times *t = (times *)hook_data;
    for (int k = 0; k < N_CLOCKS; ++k) {
        if (report && t->n > 0 && t->n <= MOST) t->step[k][t->n - 1] = 1e3 * (now[k] - t->begun[k]);
        t->begun[k] = now[k];
    }
    t->n++;
}

static int compare(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = r2_run_config_default();
    int64_t steps = 150, threads = 1;
    const char *data = "data/mini";
    const options_entry list[] = {{"--data", OPTIONS_TEXT, &data, 0, 0},
                                  {"--steps", OPTIONS_WHOLE, &steps, 10, MOST},
                                  {"--threads", OPTIONS_WHOLE, &threads, 1, 256}};
    r2_run run;
    options_join("bench_team", argv, &ctx, NULL);
    options_read("bench_team", "[--data DIR] [--steps N] [--threads N]\n", list, 3, argc, argv, NULL);
    ctx.n_threads = (int)threads;
    config.n_groups = 1024;
    config.sft.n_steps = steps;
    config.sft.valid_every = 0;
    config.sft.on_step = on_step;
    config.sft.on_step_data = &all;
    if (options_team) exchange = options_team->gather, options_team->gather = timed;
    if (r2_run_init(&ctx, &run, data, &config) != R2_OK || r2_run_sft(&ctx, &run) != R2_OK) {
        fprintf(stderr, "bench_team: %s\n", ctx.message);
        return 1;
    }
    all.n--; /* the first step warms up */
    for (int k = 0; k < N_CLOCKS; ++k) qsort(all.step[k], (size_t)all.n, sizeof(double), compare);
    printf("%d x %d: wall %.2f, work %.2f, exchange %.2f; weights %016llx\n",
           options_team ? options_team->size : 1, ctx.n_threads, all.step[WALL][all.n / 2],
           all.step[WORK][all.n / 2], all.step[EXCHANGE][0],
           (unsigned long long)r2__fnv((const char *)run.model.param,
                                       (size_t)run.model.n_params * sizeof(float)));
    r2_run_free(&ctx, &run);
    return output_end("bench_team", 0);
}

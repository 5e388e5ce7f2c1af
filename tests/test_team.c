/* Teams of processes, [E9]: threads play the processes. tests/test_mpi.sh has real ones. */
#define _POSIX_C_SOURCE 200809L /* unlink */
#include "r2rec.h"
#include "test.h"
#include <pthread.h>
#include <unistd.h>

/* ---- a team of threads ---- */

enum { MOST = 5, MAX_GATHERS = 4096 };

typedef struct place { /* where the processes meet */
    pthread_mutex_t lock;
    pthread_cond_t all_here;
    int size, n_here;
    long round;
    char *data[MOST];
    long n_gathers, lost_at; /* lost_at: from this gather on a process is lost; 0: never */
    int64_t begin[MOST + 1]; /* of the last gather                                     */
} place;

typedef struct member {
    r2_team team;
    place *where;
} member;

static void meet(place *p) {
    const long round = p->round;
    if (++p->n_here == p->size) {
        p->n_here = 0;
        p->round++;
        pthread_cond_broadcast(&p->all_here);
    }
    while (p->round == round) pthread_cond_wait(&p->all_here, &p->lock);
}

static bool gather(void *hook_data, void *data, const int64_t *begin) {
    const member *own = (const member *)hook_data;
    place *p = own->where;
    bool good;
    pthread_mutex_lock(&p->lock);
    p->data[own->team.rank] = (char *)data;
    if (own->team.rank == 0) {
        p->n_gathers++;
        memcpy(p->begin, begin, (size_t)(p->size + 1) * sizeof *begin);
    }
    meet(p);
    good = !p->lost_at || p->n_gathers < p->lost_at;
    for (int r = 0; r < p->size && good; ++r)
        if (r != own->team.rank)
            memcpy((char *)data + begin[r], p->data[r] + begin[r],
                   (size_t)(begin[r + 1] - begin[r]));
    meet(p);
    pthread_mutex_unlock(&p->lock);
    return good;
}

/* ---- the job: from ratings to scores ---- */

typedef struct job {
    member own;
    int n_threads, n_layer;
    int64_t fail_alloc; /* from this allocation of the process on there is no memory; 0: enough */
    int64_t n_alloc;
    r2_file_op fail_op; /* what fails on files of this path                              */
    const char *fail_path, *state_path;
    int64_t steps;      /* of SFT                                                        */
    bool lora, recompute;
    r2_status status;
    char message[480];
    uint64_t digest; /* of weights, scores, reasoning                                  */
    float *weight;
} job;

static void *some_memory(void *hook_data, void *ptr, size_t size) {
    job *j = (job *)hook_data;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    return ++j->n_alloc >= j->fail_alloc && j->fail_alloc ? NULL : realloc(ptr, size);
}

static int some_files(void *hook_data, r2_file_op op, const char *path, size_t *size) {
    const job *j = (const job *)hook_data;
    (void)size;
    return j->fail_path && op == j->fail_op && strstr(path, j->fail_path) ? 28 /* ENOSPC */ : 0;
}

static uint64_t fnv(uint64_t hash, const void *bytes, size_t len) {
    const unsigned char *p = (const unsigned char *)bytes;
    for (size_t k = 0; k < len; ++k) hash = (hash ^ p[k]) * 0x100000001b3u;
    return hash;
}

static r2_run_config small(const job *j) {
    r2_run_config c = r2_run_config_default();
    c.n_groups = 60;
    c.n_cases = 15;
    c.n_negatives = 9;
    c.model.d_model = 32, c.model.d_ff = 48;
    c.model.n_layer = j->n_layer;
    c.sft.n_steps = j->steps;
    c.sft.groups = 4, c.sft.valid_every = 2;
    c.sft.state_path = j->state_path;
    c.sft.state_every = 0.0f;
    c.grpo.n_steps = 2;
    c.grpo.groups = 4, c.grpo.n_samples = 6, c.grpo.n_updates = 2;
    return c;
}

static r2_status learn(r2_ctx *ctx, job *j, r2_run *run) {
    const r2_lora_config lora = r2_lora_config_default();
    r2_status status = j->lora ? r2_lora_attach(ctx, &run->model, &lora) : R2_OK;
    run->model.recompute = j->recompute;
    if (status == R2_OK) status = r2_run_sft(ctx, run);
    if (status == R2_OK) status = r2_run_grpo(ctx, run);
    if (status == R2_OK && j->lora) status = r2_lora_merge(ctx, &run->model);
    return status;
}

/* What the run has learned and says, as one number. */
static r2_status look(r2_ctx *ctx, job *j, r2_run *run) {
    static const r2_score_kind kind = R2_SCORE_LOG_ODDS;
    r2_score_config how = r2_score_config_default();
    const int64_t n = run->test.n_cases * run->test.n_per_case;
    float *score = (float *)r2_alloc(ctx, (uint64_t)n, sizeof *score);
    r2_trace_metrics trace;
    r2_status status = score ? R2_OK : ctx->status;
    how.mode = R2_REASONED, how.kind = kind;
    if (status == R2_OK)
        status = r2_run_score(ctx, run, &run->test, &how, score, &trace);
    if (status == R2_OK) {
        j->digest = fnv(14695981039346656037u, run->model.param,
                        (size_t)run->model.n_params * sizeof(float));
        j->digest = fnv(j->digest, score, (size_t)n * sizeof *score);
        j->digest = fnv(j->digest, &trace, sizeof trace);
    }
    r2_release(ctx, score);
    return status;
}

static void *work(void *argument) {
    job *j = (job *)argument;
    r2_ctx ctx = r2_ctx_default();
    const r2_run_config config = small(j);
    r2_run run;
    ctx.n_threads = j->n_threads;
    ctx.realloc_fn = some_memory;
    ctx.file = some_files;
    ctx.hook_data = j;
    if (j->own.where) ctx.team = &j->own.team;
    j->status = r2_run_init(&ctx, &run, "data/mini", &config);
    if (j->status == R2_OK) {
        j->status = learn(&ctx, j, &run);
        if (j->status == R2_OK) j->status = look(&ctx, j, &run);
        r2_run_free(&ctx, &run);
    }
    j->status = r2_team_end(&ctx, j->status);
    if (j->status != R2_OK) memcpy(j->message, ctx.message, sizeof j->message);
    return NULL;
}

/* The job by `size` processes. */
static void together(job *all, int size, long lost_at) {
    place p;
    pthread_t thread[MOST];
    memset(&p, 0, sizeof p);
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.all_here, NULL);
    p.size = size;
    p.lost_at = lost_at;
    for (int r = 0; r < size; ++r) {
        all[r].own.where = &p;
        all[r].own.team.rank = r;
        all[r].own.team.size = size;
        all[r].own.team.gather = gather;
        all[r].own.team.hook_data = &all[r].own;
        if (pthread_create(&thread[r], NULL, work, &all[r])) abort();
    }
    for (int r = 0; r < size; ++r) pthread_join(thread[r], NULL);
    pthread_mutex_destroy(&p.lock);
    pthread_cond_destroy(&p.all_here);
}

static job plain(void) {
    job j;
    memset(&j, 0, sizeof j);
    j.n_threads = 1;
    j.n_layer = 1;
    j.steps = 5;
    return j;
}

static void spread(job *all, const job *one, int size) {
    for (int r = 0; r < size; ++r) all[r] = *one;
}

/* ---- the same bytes ---- */

static void check_same(const job *like, int n_sizes) {
    static const int size[] = {2, 3, 5};
    job alone = *like, all[MOST];
    work(&alone);
    if (!CHECK_EQ_INT(alone.status, R2_OK)) printf("%s\n", alone.message);
    for (int k = 0; k < n_sizes; ++k) {
        spread(all, like, size[k]);
        all[0].n_threads = k == 0 ? 2 : 1; /* threads of a process do not matter either */
        together(all, size[k], 0);
        for (int r = 0; r < size[k]; ++r) {
            if (!CHECK_EQ_INT(all[r].status, R2_OK)) printf("%s\n", all[r].message);
            CHECK(all[r].digest == alone.digest);
        }
    }
}

TEST(any_number_of_processes_learns_the_same) {
    const job j = plain();
    check_same(&j, 3);
}

TEST(and_so_do_adapters_and_recomputed_activations) {
    job j = plain();
    j.lora = j.recompute = true;
    j.steps = 2;
    check_same(&j, 2);
}

/* The opening of [E9]: of 8 questions on 3 processes, process 1 answers 2 .. 4. */
static void *ask(void *argument) {
    job *j = (job *)argument;
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = small(j);
    r2_run run;
    r2_evidence evidence[8];
    ctx.n_threads = 1;
    j->status = r2_run_init(&ctx, &run, "data/mini", &config);
    if (j->status != R2_OK) return NULL;
    ctx.team = &j->own.team;
    j->status = r2_evidence_compute(&ctx, &run.index, run.question, 8, &config.chains, evidence);
    j->digest = fnv(1, evidence[4].value, sizeof evidence[4].value);
    r2_run_free(&ctx, &run);
    return NULL;
}

TEST(the_shares_of_the_opening) {
    static const int64_t first[4] = {0, 2, 5, 8};
    place p;
    pthread_t thread[3];
    job all[3];
    memset(&p, 0, sizeof p);
    pthread_mutex_init(&p.lock, NULL);
    pthread_cond_init(&p.all_here, NULL);
    p.size = 3;
    for (int r = 0; r < 3; ++r) {
        all[r] = plain();
        all[r].own.where = &p;
        all[r].own.team.rank = r, all[r].own.team.size = 3;
        all[r].own.team.gather = gather, all[r].own.team.hook_data = &all[r].own;
        if (pthread_create(&thread[r], NULL, ask, &all[r])) abort();
    }
    for (int r = 0; r < 3; ++r) pthread_join(thread[r], NULL);
    for (int r = 0; r < 3; ++r) {
        CHECK_EQ_INT(all[r].status, R2_OK);
        CHECK(all[r].digest == all[0].digest);
    }
    for (int r = 0; r <= 3; ++r)
        CHECK_EQ_INT(p.begin[r], first[r] * (int64_t)sizeof(r2_evidence));
}

/* ---- failures: one for all, and nobody waits ---- */

TEST(an_allocation_that_fails_on_one_process_ends_all) {
    job all[3], count = plain();
    count.steps = 2;
    work(&count);
    REQUIRE(count.status == R2_OK && count.n_alloc > 1000);
    for (int64_t k = 1; k <= 8; ++k) {
        const int r = (int)(k % 3);
        spread(all, &count, 3);
        for (int i = 0; i < 3; ++i) all[i].n_alloc = 0;
        all[r].fail_alloc = count.n_alloc / 3 * k / 9 + 1; /* a process does some of the work */
        together(all, 3, 0);
        for (int i = 0; i < 3; ++i) {
            CHECK_EQ_INT(all[i].status, R2_NO_MEMORY);
            CHECK_EQ_STR(all[i].message, all[r].message);
        }
    }
}

/* Process 0 alone writes; the others hear of a full disk when they next meet. */
TEST(a_full_disk_ends_all) {
    job all[2];
    spread(all, &(job){.n_threads = 1, .n_layer = 1, .steps = 4}, 2);
    all[0].state_path = all[1].state_path = "build/team.state";
    all[0].fail_path = all[1].fail_path = "build/team.state";
    all[0].fail_op = all[1].fail_op = R2_FILE_WRITE;
    together(all, 2, 0);
    for (int r = 0; r < 2; ++r) {
        CHECK_EQ_INT(all[r].status, R2_IO);
        CHECK(strstr(all[r].message, "build/team.state") != NULL);
    }
}

/* Process 0 alone reads; what it cannot read, nobody has. */
TEST(a_file_that_cannot_be_read_ends_all) {
    job all[3];
    spread(all, &(job){.n_threads = 1, .n_layer = 1, .steps = 1}, 3);
    for (int r = 0; r < 3; ++r) {
        all[r].fail_path = r == 0 ? "ratings.csv" : NULL;
        all[r].fail_op = R2_FILE_READ;
    }
    together(all, 3, 0);
    for (int r = 0; r < 3; ++r) {
        CHECK_EQ_INT(all[r].status, R2_IO);
        CHECK_EQ_STR(all[r].message, all[0].message);
        CHECK(strstr(all[r].message, "ratings.csv") != NULL);
    }
}

TEST(a_lost_process_is_an_error) {
    job all[2];
    spread(all, &(job){.n_threads = 1, .n_layer = 1, .steps = 3}, 2);
    together(all, 2, 60);
    for (int r = 0; r < 2; ++r) {
        CHECK_EQ_INT(all[r].status, R2_IO);
        CHECK(strstr(all[r].message, "has lost another") != NULL);
    }
}

/* A run that was cut off goes on by another number of processes, to the same bytes. */
TEST(another_number_goes_on) {
    static const char *const path = "build/team-goes-on.state";
    job whole = plain(), all[3];
    unlink(path);
    work(&whole);
    spread(all, &whole, 3);
    for (int r = 0; r < 3; ++r) {
        all[r].state_path = path;
        all[r].fail_alloc = r == 1 ? all[r].n_alloc / 2 : 0;
        all[r].n_alloc = 0;
    }
    together(all, 3, 0); /* some steps, then no memory */
    CHECK_EQ_INT(all[0].status, R2_NO_MEMORY);
    CHECK(access(path, F_OK) == 0);
    spread(all, &whole, 2);
    for (int r = 0; r < 2; ++r) all[r].state_path = path, all[r].digest = 0;
    together(all, 2, 0);
    for (int r = 0; r < 2; ++r) {
        CHECK_EQ_INT(all[r].status, R2_OK);
        CHECK(all[r].digest == whole.digest);
    }
    unlink(path);
}

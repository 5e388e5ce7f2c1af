/* r2rec.h - v0.1.0 - Reason-to-Recommend (R2Rec, arXiv 2506.05069) in one C header - MIT licence

   From who-rated-what to a recommendation with its reasons: sample interaction chains
   u0 -> i0 -> u1 -> i1 -> u0 from the user-item graph, write them as interaction-of-thought prompts
   by progressive masking, teach a small CPU transformer to reason over them (supervised
   fine-tuning, then reinforcement learning), rank items, and show the reasoning.

   QUICK START   in exactly one source file:

       #define R2REC_IMPLEMENTATION
       #include "r2rec.h"

   everywhere else the #include alone. Link with -lcjson -lm; add -fopenmp for threads.
   README.md has a 25-line program, examples/movielens_demo.c the whole journey.

   CONTENTS      search for the mark; the interface comes first, then the implementation
       [S1]  base     status, memory, random numbers, threads, text
       [S2]  data     interactions and items, loaders, splits, candidate sets
       [S3]  graph    the bipartite graph as CSR both ways, butterflies
       [S4]  chains   closed chains, target chains, evidence over all chains
       [S5]  prompt   interaction-of-thought: masking, templates, teachers, trace checker
       [S6]  token    closed vocabularies and byte-level BPE
       [S7]  ops      tensor kernels, forward and backward
       [S8]  model    Llama-style decoder, generation, LoRA, safetensors
       [S9]  optim    AdamW, schedules
       [S10] sft      supervised fine-tuning
       [S11] rl       GRPO
       [S12] eval     scorers, ranking metrics, intervals, paired tests
       [S13] run      checkpoints and the manifest of a run
   Data flows one way, files -> r2_data -> r2_split -> r2_graph -> r2_chain -> r2_prompt -> tokens
   -> model -> metrics; each section uses only the sections above it.

   OPTIONS       define before the #include of the implementation
       R2REC_IMPLEMENTATION   compile the bodies here (one source file of the program)
       R2_STB_DS_PROVIDED     the program already defines STB_DS_IMPLEMENTATION elsewhere
       R2_NAIVE               use the naive twin of every fast kernel (slow; the specification)

   ERRORS        every function that can fail returns r2_status; the context holds one sentence that
                 says what was wrong (of an input: file, line, expected, found). The library never
                 exits, never prints, has no globals. What a failed call had begun is released.
   OWNERSHIP     r2_x_init / r2_x_load fill a struct that r2_x_free releases. Freeing a zeroed struct
                 is allowed. All memory comes from the context's allocator.
   THREADS       ctx.n_threads (default: all processors). Same seed, same bytes, for any number of
                 threads. A context serves one caller at a time; two contexts are independent.
                 On busy machines set OMP_WAIT_POLICY=PASSIVE in the environment.
   DETERMINISM   random numbers are Philox4x32-10, keyed by (seed, stream, index), never by thread.
                 Work is divided over outputs; no sum is ever divided over threads.
   NOTATION      u users, i items, r rating (stars), t Unix time in seconds; shapes stand in
                 comments as (rows, columns). What the paper states and what we decided is told
                 apart in PAPER_NOTES.md; "D5" in a comment is decision 5 there.
*/
#ifndef R2REC_H
#define R2REC_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define R2_VERSION "0.1.0"

#ifdef __cplusplus
extern "C" {
#endif

/* =============================================================================== [S1] base ==== */

/* What a call came to. Everything but R2_OK comes with a sentence in r2_ctx.message. */
typedef enum r2_status {
    R2_OK = 0,
    R2_NO_MEMORY, /* the allocator returned NULL                                   */
    R2_IO,        /* a file cannot be opened, read or written                      */
    R2_FORMAT,    /* the content of an input is not what its format says           */
    R2_ARGUMENT,  /* a parameter is out of its range, or a struct not initialised  */
    R2_CANCELLED  /* the progress callback asked to stop                           */
} r2_status;

/* Allocator hook: behaves like realloc; size 0 frees and returns NULL. */
typedef void *(*r2_realloc_fn)(void *user, void *ptr, size_t size);

/* Progress hook: `done` of `total` units of `what` are finished. A non-zero return asks to stop. */
typedef int (*r2_progress_fn)(void *user, const char *what, int64_t done, int64_t total);

/* Log hook: one line of text, without the newline. */
typedef void (*r2_log_fn)(void *user, const char *line);

/* The caller's wishes and the last error. Plain data: make one with r2_ctx_default(), change what
   you like, pass its address to every call. It owns nothing, so it needs no free. */
typedef struct r2_ctx {
    r2_realloc_fn realloc_fn; /* NULL: the C library's                    */
    r2_progress_fn progress;  /* NULL: silent                             */
    r2_log_fn log;            /* NULL: silent                             */
    void *user;               /* handed to the three hooks                */
    int n_threads;            /* >= 1                                     */
    r2_status status;         /* of the last failure                      */
    char message[480];        /* its sentence                             */
} r2_ctx;

/* A context with defaults: C allocator, no hooks, one thread per processor. */
r2_ctx r2_ctx_default(void);

/* Records `status` with a printf-style sentence and returns `status`: `return r2_fail(...)`. */
r2_status r2_fail(r2_ctx *ctx, r2_status status, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;

/* Returns a short name of `status`, for messages. */
const char *r2_status_name(r2_status status);

/* Reports progress; returns R2_CANCELLED when the callback asked to stop, else R2_OK. */
r2_status r2_progress(r2_ctx *ctx, const char *what, int64_t done, int64_t total);

/* Sends a printf-style line to the log hook. */
void r2_log(r2_ctx *ctx, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 2, 3)))
#endif
    ;

/* Zeroed memory for `count` elements of `size` bytes; NULL (and a recorded R2_NO_MEMORY) when the
   product overflows or memory is short. A count of 0 gives a valid pointer. Free: r2_release. */
void *r2_alloc(r2_ctx *ctx, uint64_t count, uint64_t size);

/* Resizes an r2_alloc'd block to `count` elements of `size` bytes; NULL on failure, and then `ptr`
   is still valid. New bytes are not cleared. */
void *r2_resize(r2_ctx *ctx, void *ptr, uint64_t count, uint64_t size);

/* Gives back memory; NULL is allowed. */
void r2_release(r2_ctx *ctx, void *ptr);

/* Checked arithmetic for sizes that come from files: false on overflow. */
bool r2_mul_u64(uint64_t a, uint64_t b, uint64_t *product);
bool r2_add_u64(uint64_t a, uint64_t b, uint64_t *sum);

/* Memory with one lifetime: many allocations, one free. Blocks are 64-byte aligned.

       blocks -> [ header | used .......... | free .... ] -> [ header | used ... | free ] -> NULL  */
typedef struct r2_arena {
    struct r2__arena_block *blocks; /* newest first */
    uint64_t used;                  /* bytes handed out since the last reset */
    uint64_t reserved;              /* bytes taken from the allocator        */
} r2_arena;

/* Zeroed, 64-byte aligned memory that lives until r2_arena_reset or r2_arena_free. */
void *r2_arena_alloc(r2_ctx *ctx, r2_arena *arena, uint64_t count, uint64_t size);
/* Forgets all allocations; keeps one block large enough for all that was used, so that the next
   round needs no allocation. */
void r2_arena_reset(r2_ctx *ctx, r2_arena *arena);
void r2_arena_free(r2_ctx *ctx, r2_arena *arena);

/* A growing text. `data` is NUL-terminated as soon as anything was added. Check r2_text_ok once at
   the end: after a failed allocation further additions do nothing. */
typedef struct r2_text {
    char *data;
    size_t len, cap;
    bool failed;
} r2_text;

void r2_text_add(r2_ctx *ctx, r2_text *text, const char *bytes, size_t len);
void r2_text_addf(r2_ctx *ctx, r2_text *text, const char *format, ...)
#if defined(__GNUC__)
    __attribute__((format(printf, 3, 4)))
#endif
    ;
void r2_text_clear(r2_text *text); /* keeps the memory */
void r2_text_free(r2_ctx *ctx, r2_text *text);

/* Reads a whole file into `text` ("-" is standard input). Errors: R2_IO, R2_NO_MEMORY. */
r2_status r2_read_file(r2_ctx *ctx, const char *path, r2_text *text);

/* Writes `len` bytes to `path` by way of `path`.tmp and a rename, so that a reader never sees half
   a file and a failed write leaves the old one. Errors: R2_IO. */
r2_status r2_write_file(r2_ctx *ctx, const char *path, const char *bytes, size_t len);

/* Random numbers: Philox4x32-10 (Salmon et al., SC 2011), a counter-based generator. The numbers
   depend on (seed, stream, index) and on nothing else. */
typedef struct r2_rng {
    uint32_t key[2], counter[4], block[4];
    int left; /* unused words of `block` */
} r2_rng;

/* Streams: what a random number is for. Two purposes never share numbers. */
typedef enum r2_stream {
    R2_STREAM_USER = 0, /* the caller's own */
    R2_STREAM_SPLIT,
    R2_STREAM_CANDIDATES,
    R2_STREAM_CHAINS,
    R2_STREAM_NEGATIVES,
    R2_STREAM_TEACHER,
    R2_STREAM_INIT,
    R2_STREAM_BATCH,
    R2_STREAM_SAMPLE,
    R2_STREAM_BOOTSTRAP
} r2_stream;

/* The four words of Philox4x32-10 for one counter and key (known answers: Random123). */
void r2_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
/* A generator for item `index` of `stream`. */
r2_rng r2_rng_make(uint64_t seed, r2_stream stream, uint64_t index);
uint32_t r2_rng_u32(r2_rng *rng);
uint64_t r2_rng_u64(r2_rng *rng);
/* Uniform in [0, n), exactly (Lemire's method with rejection); n = 0 gives 0. */
uint64_t r2_rng_below(r2_rng *rng, uint64_t n);
/* Uniform in [0, 1), 53 bits. */
double r2_rng_double(r2_rng *rng);
/* Standard normal (Box-Muller, one value a call). */
double r2_rng_normal(r2_rng *rng);
/* Standard Gumbel: argmax of (log p + Gumbel) samples from p. */
double r2_rng_gumbel(r2_rng *rng);
/* A well-mixed 64-bit hash of (seed, a, b): the tie rule of splits. */
uint64_t r2_hash(uint64_t seed, uint64_t a, uint64_t b);

/* R2_PARALLEL_FOR(threads, i, n): a loop over int64_t i in [0, n) divided statically over threads.
   The body may write only what belongs to i. Without OpenMP it is the plain loop. */
#define R2__PRAGMA(text) _Pragma(#text)
#if defined(_OPENMP)
#define R2_PARALLEL_FOR(threads, i, n)                                                             \
    R2__PRAGMA(omp parallel for schedule(static) num_threads(threads))                             \
    for (int64_t i = 0; i < (n); ++i)
#else
#define R2_PARALLEL_FOR(threads, i, n) for (int64_t i = 0; i < (n); ++i)
#endif

/* Threads worth waking for `work` simple operations: ctx->n_threads, or 1 when work is small. */
int r2_threads(const r2_ctx *ctx, int64_t work);

/* Seconds of a wall clock; for reports only, never in results. */
double r2_seconds(void);

/* =============================================================================== [S2] data ==== */

/* Who rated what, as it came from the files: one row per (user, item), sorted by user, then item.
   Users and items are numbered 0 .. n-1 in ascending order of their first appearance. */
typedef struct r2_data {
    int64_t n_users, n_items, n_ratings;
    int64_t *user_begin; /* (n_users + 1) rows of user u: user_begin[u] .. user_begin[u + 1] - 1 */
    uint32_t *item;      /* (n_ratings)                                                           */
    float *rating;       /* (n_ratings) in the file's own scale                                   */
    int64_t *time;       /* (n_ratings) Unix seconds                                              */
    char **user_key;     /* (n_users) the files' own ids, NUL-terminated UTF-8                    */
    char **item_key;     /* (n_items)                                                             */
    char **title;        /* (n_items) "" when unknown                                             */
    char **genres;       /* (n_items) separated by '|', "" when unknown                           */
    int16_t *year;       /* (n_items) of release, 0 when unknown                                  */
    float rating_min, rating_max; /* of the scale seen                                            */
    int64_t n_duplicates;         /* (user, item) pairs met again; the latest was kept            */
    r2_arena text;                /* holds the strings                                            */
} r2_data;

/* Loads a MovieLens directory, whichever layout its files show: latest / 20M+ (ratings.csv,
   movies.csv), 1M / 10M (ratings.dat, movies.dat), 100K (u.data, u.item).
   Errors: R2_IO (nothing that looks like MovieLens), R2_FORMAT (file, line, expected, found). */
r2_status r2_data_load(r2_ctx *ctx, r2_data *data, const char *directory);
void r2_data_free(r2_ctx *ctx, r2_data *data);
/* Row of (user, item) in the arrays above, or -1. */
int64_t r2_data_find(const r2_data *data, uint32_t user, uint32_t item);
/* Index of a user or item by the file's own id, or -1. */
int64_t r2_data_user(const r2_data *data, const char *key);
int64_t r2_data_item(const r2_data *data, const char *key);

/* What an interaction is used for. */
typedef enum r2_role { R2_TRAIN = 0, R2_VALID, R2_TEST, R2_UNUSED } r2_role;

/* One held-out positive. */
typedef struct r2_target {
    uint32_t user, item;
    int64_t row; /* in r2_data */
} r2_target;

/* Leave-one-out by time (D12). */
typedef struct r2_split_config {
    float min_positive; /* a rating this high is a positive; 0: 0.8 x the scale's maximum */
    uint64_t seed;      /* of the tie rule: equal times are ordered by r2_hash(user, item) */
} r2_split_config;

typedef struct r2_split {
    r2_split_config config; /* with the default of min_positive filled in */
    uint8_t *role;          /* (n_ratings) an r2_role per row of r2_data                        */
    int64_t *by_time;       /* (n_ratings) rows, each user's in order of time and the tie rule  */
    r2_target *test, *valid; /* (n_test), (n_valid) ascending user; the same users in both      */
    int64_t n_test, n_valid, n_train, n_time_ties;
} r2_split;

r2_split_config r2_split_config_default(void);
/* Per user: the last interaction with rating >= min_positive is the test positive, the one before it
   the validation positive; everything of that user at or after the validation positive is out of
   training. Users without two positives and one training interaction stay in training whole. */
r2_status r2_split_init(r2_ctx *ctx, r2_split *split, const r2_data *data,
                        const r2_split_config *config);
void r2_split_free(r2_ctx *ctx, r2_split *split);

/* Frozen candidate sets: column 0 is the positive, then n_negatives distinct items that the user
   never interacted with in all data, uniform over the catalogue, drawn once per seed (D12). */
typedef struct r2_candidates {
    int64_t n_cases, n_per_case; /* n_per_case = 1 + n_negatives */
    uint32_t *user;              /* (n_cases)              */
    uint32_t *item;              /* (n_cases, n_per_case)  */
} r2_candidates;

r2_status r2_candidates_init(r2_ctx *ctx, r2_candidates *c, const r2_data *data,
                             const r2_target *targets, int64_t n_targets, int64_t n_negatives,
                             uint64_t seed);
void r2_candidates_free(r2_ctx *ctx, r2_candidates *c);

/* ============================================================================== [S3] graph ==== */

/* The bipartite graph of some interactions: CSR both ways. Edge e of user u is a row of the user
   side; the item side points back to it.

       user_begin  u ->  | e0 e1 e2 |      user_item[e], user_rating[e], user_time[e]
       item_begin  i ->  | k0 k1 |         item_user[k], item_edge[k] = e of (item_user[k], i)  */
typedef struct r2_graph {
    int64_t n_users, n_items, n_edges;
    int64_t *user_begin;   /* (n_users + 1)                                    */
    uint32_t *user_item;   /* (n_edges) ascending within a user                */
    float *user_rating;    /* (n_edges)                                        */
    int64_t *user_time;    /* (n_edges) Unix seconds                           */
    int64_t *item_begin;   /* (n_items + 1)                                    */
    uint32_t *item_user;   /* (n_edges) ascending within an item               */
    int64_t *item_edge;    /* (n_edges) index into the user side               */
} r2_graph;

/* Builds the graph of all rows of `data`, or of those with role[row] == R2_TRAIN when `role` is
   given. Keeps the numbering of users and items. Errors: R2_NO_MEMORY. */
r2_status r2_graph_init(r2_ctx *ctx, r2_graph *graph, const r2_data *data, const uint8_t *role);
void r2_graph_free(r2_ctx *ctx, r2_graph *graph);
int64_t r2_graph_user_degree(const r2_graph *graph, uint32_t user);
int64_t r2_graph_item_degree(const r2_graph *graph, uint32_t item);
/* Edge of (user, item) on the user side, or -1. O(log degree). */
int64_t r2_graph_find(const r2_graph *graph, uint32_t user, uint32_t item);

/* ============================================================================= [S4] chains ==== */
/* ============================================================================= [S5] prompt ==== */
/* ============================================================================== [S6] token ==== */

/* A growing list of token ids. Like r2_text: check `failed` once at the end. */
typedef struct r2_tokens {
    int32_t *id;
    int64_t n, cap;
    bool failed;
} r2_tokens;

void r2_tokens_add(r2_ctx *ctx, r2_tokens *tokens, int32_t id);
void r2_tokens_clear(r2_tokens *tokens); /* keeps the memory */
void r2_tokens_free(r2_ctx *ctx, r2_tokens *tokens);

/* A closed vocabulary: one id per word; text is words separated by single spaces. Serves the
   compact prompts of the small model. Words get ids 0, 1, 2 ... in the order they are added. */
typedef struct r2_vocab {
    char **word;     /* (n_words) NUL-terminated */
    int32_t n_words;
    int32_t n_slots; /* a power of two, at least twice n_words */
    int32_t *slot;   /* (n_slots) hash table: id + 1, 0 is a free slot */
    r2_arena text;   /* holds the words */
} r2_vocab;

/* Adds `word` unless it is there; its id goes to *id when id is given. A word is not empty and holds
   no space and no control character, else R2_ARGUMENT. Start from a zeroed struct. */
r2_status r2_vocab_add(r2_ctx *ctx, r2_vocab *vocab, const char *word, int32_t *id);
/* Id of the `len` bytes at `word`, or -1. Reads only: safe from several threads at once. */
int32_t r2_vocab_find(const r2_vocab *vocab, const char *word, size_t len);
/* Adds the ids of `text`, words apart by single spaces. Errors: R2_FORMAT names the unknown word. */
r2_status r2_vocab_encode(r2_ctx *ctx, const r2_vocab *vocab, const char *text, size_t len,
                          r2_tokens *out);
/* Adds the words of `id` (n) to `out`, single spaces between them; an id out of range is R2_ARGUMENT
   and adds nothing. */
r2_status r2_vocab_decode(r2_ctx *ctx, const r2_vocab *vocab, const int32_t *id, int64_t n,
                          r2_text *out);
/* A file of one word per line, in order of ids. Load fills a zeroed struct; an empty line, a word
   that comes twice or one that r2_vocab_add refuses is R2_FORMAT with its line. */
r2_status r2_vocab_save(r2_ctx *ctx, const r2_vocab *vocab, const char *path);
r2_status r2_vocab_load(r2_ctx *ctx, r2_vocab *vocab, const char *path);
void r2_vocab_free(r2_ctx *ctx, r2_vocab *vocab);

/* ================================================================================ [S7] ops ==== */
/* ============================================================================== [S8] model ==== */

/* Shape of the decoder. All sizes in elements. */
typedef struct r2_model_config {
    int32_t n_vocab, n_layer, n_head, n_kv_head, d_model, d_ff, n_ctx;
    float rope_theta, norm_eps, init_std;
    bool qkv_bias; /* Qwen2: yes, Llama: no                       */
    bool tied;     /* the head is the transposed token embedding  */
    uint64_t seed; /* of the initial weights                      */
} r2_model_config;

/* Sequences laid end to end, without padding, and the tokens whose log-probability is wanted.
   Prediction j asks for log p(pred_token[j] | tokens of its sequence up to row pred_row[j]);
   pred_row ascends; several predictions may share a row. */
typedef struct r2_batch {
    int32_t n_seq;
    const int32_t *seq_begin;  /* (n_seq + 1) rows of sequence s                  */
    const int32_t *token;      /* (n_rows = seq_begin[n_seq])                     */
    int32_t n_pred;
    const int32_t *pred_row;   /* (n_pred)                                        */
    const int32_t *pred_token; /* (n_pred)                                        */
} r2_batch;

typedef struct r2_model {
    r2_model_config config;
    int64_t n_params;
    float *param, *grad; /* (n_params) in the order of R2_MODEL_TENSORS; grad may be NULL */
    struct r2_model_tensors *tensors; /* views into param and grad, by name                */
    r2_arena memory;
    r2_arena activations; /* of the last forward */
} r2_model;

r2_model_config r2_model_config_default(void);
/* Allocates parameters (and gradients when with_grad) and draws the initial weights. */
r2_status r2_model_init(r2_ctx *ctx, r2_model *model, const r2_model_config *config, bool with_grad);
void r2_model_free(r2_ctx *ctx, r2_model *model);
/* Copies all parameters of `from`, a model of the same shape. */
r2_status r2_model_copy(r2_ctx *ctx, r2_model *to, const r2_model *from);

/* logp[j] = log-probability of prediction j; entropy[j] (nats; NULL: not wanted) of its row.
   Keeps the activations for r2_backward when the model has gradients. */
r2_status r2_forward(r2_ctx *ctx, r2_model *model, const r2_batch *batch, float *logp,
                     float *entropy);
/* Adds to model->grad the gradient of a loss whose derivative by logp[j] is dlogp[j]. Any objective
   that is a function of log-probabilities (cross-entropy, GRPO, a pairwise term) goes through here.
   Must follow r2_forward on the same batch. */
r2_status r2_backward(r2_ctx *ctx, r2_model *model, const r2_batch *batch, const float *dlogp);
void r2_zero_grad(r2_ctx *ctx, r2_model *model);

/* Sampling. */
typedef struct r2_generate_config {
    int32_t n_samples;   /* outputs per prompt, sharing its prefix                            */
    int32_t max_new;     /* tokens at most; 0: only the watched log-probabilities             */
    int32_t stop_token;  /* generation of an output ends with this token; -1: none            */
    float temperature;   /* 0: greedy                                                         */
    float top_p;         /* 1: off                                                            */
    uint64_t seed;       /* sample s of prompt p draws from (seed, R2_STREAM_SAMPLE, p * n_samples + s) */
    int32_t n_watch;     /* log-probabilities of these tokens after the last one generated ...*/
    const int32_t *watch;/* ... (n_watch): the answer distribution                            */
} r2_generate_config;

typedef struct r2_generation {
    int64_t n_out;     /* n_prompt * n_samples                                     */
    int32_t max_new, n_watch;
    int32_t *token;    /* (n_out, max_new) padded with -1                          */
    float *logp;       /* (n_out, max_new) of each generated token at temperature 1 */
    int32_t *length;   /* (n_out) tokens generated, the stop token included        */
    float *watch_logp; /* (n_out, n_watch)                                         */
} r2_generation;

r2_generate_config r2_generate_config_default(void);
/* Continues prompts laid end to end: prompt p is token[begin[p]] .. token[begin[p + 1] - 1]. */
r2_status r2_generate(r2_ctx *ctx, r2_model *model, const r2_generate_config *config,
                      int64_t n_prompt, const int64_t *begin, const int32_t *token,
                      r2_generation *out);
void r2_generation_free(r2_ctx *ctx, r2_generation *out);

/* Weights as safetensors, named as in Hugging Face's Llama / Qwen2. */
r2_status r2_model_save(r2_ctx *ctx, const r2_model *model, const char *path);
/* Loads weights into a model of the same shape (r2_model_init first). */
r2_status r2_model_load(r2_ctx *ctx, r2_model *model, const char *path);

/* ============================================================================== [S9] optim ==== */

/* AdamW (2014 1412.6980, decoupled decay 1711.05101) with clipping of the global gradient norm. */
typedef struct r2_adamw_config {
    float beta1, beta2, eps, weight_decay; /* decay acts on matrices, not on norms and biases */
    float clip;                            /* largest gradient norm; 0: no clipping           */
} r2_adamw_config;

typedef struct r2_adamw {
    r2_adamw_config config;
    int64_t n_params, step;
    float *m, *v; /* (n_params) first and second moments */
} r2_adamw;

r2_adamw_config r2_adamw_config_default(void);
r2_status r2_adamw_init(r2_ctx *ctx, r2_adamw *opt, const r2_model *model,
                        const r2_adamw_config *config);
void r2_adamw_free(r2_ctx *ctx, r2_adamw *opt);
/* One update of all parameters from model->grad at learning rate lr; *grad_norm (NULL: not wanted)
   is the norm before clipping. A norm that is not finite is an error and changes nothing. */
r2_status r2_adamw_step(r2_ctx *ctx, r2_adamw *opt, r2_model *model, float lr, float *grad_norm);
/* Linear warm-up to `peak`, then a cosine down to `floor_ratio` x peak at step `total`. */
float r2_lr_cosine(int64_t step, int64_t total, int64_t warmup, float peak, float floor_ratio);

/* =============================================================================== [S10] sft ==== */
/* ================================================================================ [S11] rl ==== */
/* ============================================================================== [S12] eval ==== */
/* =============================================================================== [S13] run ==== */

#ifdef __cplusplus
}
#endif
#endif /* R2REC_H */

/* ========================================================================== implementation ==== */
#if defined(R2REC_IMPLEMENTATION) && !defined(R2REC_IMPLEMENTED)
#define R2REC_IMPLEMENTED

#include <errno.h>
#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(_OPENMP)
#include <omp.h>
#endif

#if defined(__has_include)
#if __has_include(<cjson/cJSON.h>)
#include <cjson/cJSON.h>
#else
#include <cJSON.h>
#endif
#else
#include <cjson/cJSON.h>
#endif

#if !defined(R2_STB_DS_PROVIDED) && !defined(STB_DS_IMPLEMENTATION)
#define STB_DS_IMPLEMENTATION
#endif
#if defined(__has_include)
#if __has_include(<stb/stb_ds.h>)
#include <stb/stb_ds.h>
#else
#include <stb_ds.h>
#endif
#else
#include <stb/stb_ds.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* =============================================================================== [S1] base ==== */

r2_ctx r2_ctx_default(void) {
    r2_ctx ctx;
    memset(&ctx, 0, sizeof ctx);
#if defined(_OPENMP)
    ctx.n_threads = omp_get_num_procs();
#else
    ctx.n_threads = 1;
#endif
    return ctx;
}

r2_status r2_fail(r2_ctx *ctx, r2_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(ctx->message, sizeof ctx->message, format, args);
    va_end(args);
    ctx->status = status;
    return status;
}

const char *r2_status_name(r2_status status) {
    switch (status) {
    case R2_OK: return "ok";
    case R2_NO_MEMORY: return "out of memory";
    case R2_IO: return "input/output error";
    case R2_FORMAT: return "format error";
    case R2_ARGUMENT: return "invalid argument";
    case R2_CANCELLED: return "cancelled";
    }
    return "unknown status";
}

r2_status r2_progress(r2_ctx *ctx, const char *what, int64_t done, int64_t total) {
    if (ctx->progress && ctx->progress(ctx->user, what, done, total))
        return r2_fail(ctx, R2_CANCELLED, "%s: stopped at %lld of %lld", what, (long long)done,
                       (long long)total);
    return R2_OK;
}

void r2_log(r2_ctx *ctx, const char *format, ...) {
    char line[480];
    va_list args;
    if (!ctx->log) return;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    ctx->log(ctx->user, line);
}

/* ---- memory ---- */

bool r2_mul_u64(uint64_t a, uint64_t b, uint64_t *product) {
    *product = a * b;
    return a == 0 || *product / a == b;
}

bool r2_add_u64(uint64_t a, uint64_t b, uint64_t *sum) {
    *sum = a + b;
    return *sum >= a;
}

static void *r2__realloc(r2_ctx *ctx, void *ptr, size_t size) {
    if (ctx->realloc_fn) return ctx->realloc_fn(ctx->user, ptr, size);
    if (size) return realloc(ptr, size);
    free(ptr);
    return NULL;
}

void *r2_resize(r2_ctx *ctx, void *ptr, uint64_t count, uint64_t size) {
    uint64_t bytes;
    void *block = NULL;
    bool fits = r2_mul_u64(count, size, &bytes) && bytes <= (uint64_t)PTRDIFF_MAX;
    if (fits) block = r2__realloc(ctx, ptr, bytes ? (size_t)bytes : 1);
    if (!block)
        r2_fail(ctx, R2_NO_MEMORY, "out of memory: %llu elements of %llu bytes",
                (unsigned long long)count, (unsigned long long)size);
    return block;
}

void *r2_alloc(r2_ctx *ctx, uint64_t count, uint64_t size) {
    void *block = r2_resize(ctx, NULL, count, size);
    if (block) memset(block, 0, (size_t)(count * size));
    return block;
}

void r2_release(r2_ctx *ctx, void *ptr) {
    if (ptr) r2__realloc(ctx, ptr, 0);
}

#define R2__ALIGN 64u

struct r2__arena_block {
    struct r2__arena_block *next;
    unsigned char *base; /* first aligned byte */
    uint64_t size, used; /* of the aligned part */
};

static bool r2__arena_grow(r2_ctx *ctx, r2_arena *arena, uint64_t bytes) {
    const uint64_t smallest = 1u << 16;
    uint64_t size = bytes > smallest ? bytes : smallest, total;
    struct r2__arena_block *block;
    if (!r2_add_u64(size, sizeof *block + R2__ALIGN, &total)) total = UINT64_MAX;
    block = (struct r2__arena_block *)r2_resize(ctx, NULL, total, 1);
    if (!block) return false;
    block->base = (unsigned char *)(block + 1);
    block->base += (R2__ALIGN - (uintptr_t)block->base % R2__ALIGN) % R2__ALIGN;
    block->size = size;
    block->used = 0;
    block->next = arena->blocks;
    arena->blocks = block;
    arena->reserved += size;
    return true;
}

void *r2_arena_alloc(r2_ctx *ctx, r2_arena *arena, uint64_t count, uint64_t size) {
    uint64_t bytes, padded;
    void *result;
    if (!r2_mul_u64(count, size, &bytes) || !r2_add_u64(bytes, R2__ALIGN - 1, &padded)) {
        r2_fail(ctx, R2_NO_MEMORY, "out of memory: %llu elements of %llu bytes",
                (unsigned long long)count, (unsigned long long)size);
        return NULL;
    }
    padded &= ~(uint64_t)(R2__ALIGN - 1);
    if (!arena->blocks || arena->blocks->size - arena->blocks->used < padded) {
        if (!r2__arena_grow(ctx, arena, padded)) return NULL;
    }
    result = arena->blocks->base + arena->blocks->used;
    arena->blocks->used += padded;
    arena->used += padded;
    if (bytes) memset(result, 0, (size_t)bytes);
    return result;
}

void r2_arena_reset(r2_ctx *ctx, r2_arena *arena) {
    uint64_t used = arena->used;
    if (arena->blocks && !arena->blocks->next) {
        arena->blocks->used = 0;
        arena->used = 0;
        return;
    }
    r2_arena_free(ctx, arena);
    /* When this fails, the next allocation tries again and reports it. */
    if (used) r2__arena_grow(ctx, arena, used);
}

void r2_arena_free(r2_ctx *ctx, r2_arena *arena) {
    while (arena->blocks) {
        struct r2__arena_block *next = arena->blocks->next;
        r2_release(ctx, arena->blocks);
        arena->blocks = next;
    }
    arena->used = arena->reserved = 0;
}

/* ---- text ---- */

static bool r2__text_reserve(r2_ctx *ctx, r2_text *text, size_t more) {
    size_t need = text->len + more + 1, cap = text->cap ? text->cap : 64;
    char *data;
    if (text->failed) return false;
    if (need <= text->cap) return true;
    while (cap < need) cap *= 2;
    data = (char *)r2_resize(ctx, text->data, cap, 1);
    if (!data) {
        text->failed = true;
        return false;
    }
    text->data = data;
    text->cap = cap;
    return true;
}

void r2_text_add(r2_ctx *ctx, r2_text *text, const char *bytes, size_t len) {
    if (!r2__text_reserve(ctx, text, len)) return;
    if (len) memcpy(text->data + text->len, bytes, len);
    text->len += len;
    text->data[text->len] = '\0';
}

void r2_text_addf(r2_ctx *ctx, r2_text *text, const char *format, ...) {
    va_list args, again;
    int len;
    va_start(args, format);
    va_copy(again, args);
    len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len >= 0 && r2__text_reserve(ctx, text, (size_t)len)) {
        vsnprintf(text->data + text->len, (size_t)len + 1, format, again);
        text->len += (size_t)len;
    }
    va_end(again);
}

void r2_text_clear(r2_text *text) {
    text->len = 0;
    text->failed = false;
    if (text->data) text->data[0] = '\0';
}

void r2_text_free(r2_ctx *ctx, r2_text *text) {
    r2_release(ctx, text->data);
    memset(text, 0, sizeof *text);
}

r2_status r2_read_file(r2_ctx *ctx, const char *path, r2_text *text) {
    bool from_stdin = strcmp(path, "-") == 0;
    FILE *file = from_stdin ? stdin : fopen(path, "rb");
    size_t got = 1;
    bool bad;
    if (!file) return r2_fail(ctx, R2_IO, "%s: cannot open: %s", path, strerror(errno));
    r2_text_clear(text);
    while (got > 0 && r2__text_reserve(ctx, text, 1u << 16)) {
        got = fread(text->data + text->len, 1, text->cap - text->len - 1, file);
        text->len += got;
        text->data[text->len] = '\0';
    }
    bad = ferror(file) != 0;
    if (!from_stdin) fclose(file);
    if (text->failed) return ctx->status;
    if (bad) return r2_fail(ctx, R2_IO, "%s: cannot read: %s", path, strerror(errno));
    return R2_OK;
}

r2_status r2_write_file(r2_ctx *ctx, const char *path, const char *bytes, size_t len) {
    r2_text part = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    FILE *file;
    r2_text_addf(ctx, &part, "%s.tmp", path);
    if (part.failed) return ctx->status;
    file = fopen(part.data, "wb");
    if (!file) {
        status = r2_fail(ctx, R2_IO, "%s: cannot write: %s", part.data, strerror(errno));
    } else {
        bool good = fwrite(bytes, 1, len, file) == len;
        good = fclose(file) == 0 && good;
        if (!good || rename(part.data, path) != 0) {
            status = r2_fail(ctx, R2_IO, "%s: cannot write: %s", path, strerror(errno));
            remove(part.data);
        }
    }
    r2_text_free(ctx, &part);
    return status;
}

/* ---- random numbers ---- */

void r2_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; ++round) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

r2_rng r2_rng_make(uint64_t seed, r2_stream stream, uint64_t index) {
    r2_rng rng;
    memset(&rng, 0, sizeof rng);
    rng.key[0] = (uint32_t)seed;
    rng.key[1] = (uint32_t)(seed >> 32);
    rng.counter[1] = (uint32_t)stream; /* counter[0] counts the blocks */
    rng.counter[2] = (uint32_t)index;
    rng.counter[3] = (uint32_t)(index >> 32);
    return rng;
}

uint32_t r2_rng_u32(r2_rng *rng) {
    if (rng->left == 0) {
        r2_philox(rng->counter, rng->key, rng->block);
        rng->counter[0]++;
        rng->left = 4;
    }
    return rng->block[4 - rng->left--];
}

uint64_t r2_rng_u64(r2_rng *rng) {
    uint64_t high = r2_rng_u32(rng);
    return high << 32 | r2_rng_u32(rng);
}

uint64_t r2_rng_below(r2_rng *rng, uint64_t n) {
    uint64_t limit, x;
    if (n <= 1) return 0;
    if (n <= UINT32_MAX) { /* multiply-shift: the high word of x * n, rejecting the biased low words */
        uint32_t n32 = (uint32_t)n, threshold = (0u - n32) % n32;
        uint64_t product;
        do product = (uint64_t)r2_rng_u32(rng) * n32;
        while ((uint32_t)product < threshold);
        return product >> 32;
    }
    limit = UINT64_MAX - UINT64_MAX % n;
    do x = r2_rng_u64(rng);
    while (x >= limit);
    return x % n;
}

double r2_rng_double(r2_rng *rng) { return (double)(r2_rng_u64(rng) >> 11) * 0x1p-53; }

double r2_rng_normal(r2_rng *rng) {
    const double two_pi = 6.283185307179586476925;
    double radius = sqrt(-2.0 * log(1.0 - r2_rng_double(rng)));
    return radius * cos(two_pi * r2_rng_double(rng));
}

double r2_rng_gumbel(r2_rng *rng) {
    double u = r2_rng_double(rng) + 0x1p-54; /* never 0 */
    return -log(-log(u));
}

uint64_t r2_hash(uint64_t seed, uint64_t a, uint64_t b) {
    uint32_t counter[4], key[2], out[4];
    key[0] = (uint32_t)seed;
    key[1] = (uint32_t)(seed >> 32) ^ 0x68617368u; /* apart from every r2_rng of the same seed */
    counter[0] = (uint32_t)a;
    counter[1] = (uint32_t)(a >> 32);
    counter[2] = (uint32_t)b;
    counter[3] = (uint32_t)(b >> 32);
    r2_philox(counter, key, out);
    return (uint64_t)out[0] << 32 | out[1];
}

/* ---- threads and time ---- */

int r2_threads(const r2_ctx *ctx, int64_t work) {
    const int64_t worth_waking = 20000; /* about 10 us: what a parallel region costs */
    return work < worth_waking || ctx->n_threads < 1 ? 1 : ctx->n_threads;
}

double r2_seconds(void) {
#if defined(_OPENMP)
    return omp_get_wtime();
#else
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}

/* =============================================================================== [S2] data ==== */
/* ============================================================================== [S3] graph ==== */
/* ============================================================================= [S4] chains ==== */
/* ============================================================================= [S5] prompt ==== */
/* ============================================================================== [S6] token ==== */

/* Room for one more element of `size` bytes in a block that doubles: the block, or NULL. */
static void *r2__grow(r2_ctx *ctx, void *block, int64_t n, int64_t *cap, size_t size) {
    int64_t more = *cap ? *cap * 2 : 64;
    if (n < *cap) return block;
    block = r2_resize(ctx, block, (uint64_t)more, size);
    if (block) *cap = more;
    return block;
}

void r2_tokens_add(r2_ctx *ctx, r2_tokens *tokens, int32_t id) {
    int32_t *grown;
    if (tokens->failed) return;
    grown = (int32_t *)r2__grow(ctx, tokens->id, tokens->n, &tokens->cap, sizeof *grown);
    if (!grown) {
        tokens->failed = true;
        return;
    }
    tokens->id = grown;
    tokens->id[tokens->n++] = id;
}

void r2_tokens_clear(r2_tokens *tokens) {
    tokens->n = 0;
    tokens->failed = false;
}

void r2_tokens_free(r2_ctx *ctx, r2_tokens *tokens) {
    r2_release(ctx, tokens->id);
    memset(tokens, 0, sizeof *tokens);
}

/* ---- closed vocabulary ---- */

/* FNV-1a, folded once because the low bits choose the slot. */
static uint32_t r2__hash_bytes(const char *bytes, size_t len) {
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < len; ++i) h = (h ^ (unsigned char)bytes[i]) * 16777619u;
    return h ^ h >> 15;
}

/* The slot of a word, or the free one where it belongs. At least half of all slots are free, so the
   walk ends. */
static int32_t r2__vocab_slot(const r2_vocab *vocab, const char *word, size_t len) {
    int32_t mask = vocab->n_slots - 1;
    int32_t s = (int32_t)(r2__hash_bytes(word, len) & (uint32_t)mask);
    for (; vocab->slot[s]; s = (s + 1) & mask) {
        const char *other = vocab->word[vocab->slot[s] - 1];
        if (strncmp(other, word, len) == 0 && other[len] == '\0') break;
    }
    return s;
}

int32_t r2_vocab_find(const r2_vocab *vocab, const char *word, size_t len) {
    if (!vocab->n_slots || memchr(word, '\0', len)) return -1;
    return vocab->slot[r2__vocab_slot(vocab, word, len)] - 1;
}

/* Doubles the table and the list of words. On failure the old ones stand. */
static r2_status r2__vocab_grow(r2_ctx *ctx, r2_vocab *vocab) {
    int32_t n_slots = vocab->n_slots ? vocab->n_slots * 2 : 64;
    int32_t *slot, *old = vocab->slot;
    char **word;
    if (n_slots > 1 << 29) return r2_fail(ctx, R2_ARGUMENT, "vocabulary: too many words");
    word = (char **)r2_resize(ctx, vocab->word, (uint64_t)n_slots / 2, sizeof *word);
    if (!word) return ctx->status;
    vocab->word = word;
    slot = (int32_t *)r2_alloc(ctx, (uint64_t)n_slots, sizeof *slot);
    if (!slot) return ctx->status;
    vocab->slot = slot;
    vocab->n_slots = n_slots;
    for (int32_t i = 0; i < vocab->n_words; ++i)
        slot[r2__vocab_slot(vocab, word[i], strlen(word[i]))] = i + 1;
    r2_release(ctx, old);
    return R2_OK;
}

r2_status r2_vocab_add(r2_ctx *ctx, r2_vocab *vocab, const char *word, int32_t *id) {
    size_t len = strlen(word);
    int32_t found = r2_vocab_find(vocab, word, len);
    bool good = len > 0;
    for (size_t i = 0; i < len; ++i) good = good && (unsigned char)word[i] > ' ' && word[i] != 127;
    if (!good)
        return r2_fail(ctx, R2_ARGUMENT, "vocabulary: '%s' is empty or holds a space or control "
                       "character", word);
    if (found < 0) {
        char *copy;
        if (vocab->n_words >= vocab->n_slots / 2 && r2__vocab_grow(ctx, vocab)) return ctx->status;
        copy = (char *)r2_arena_alloc(ctx, &vocab->text, len + 1, 1);
        if (!copy) return ctx->status;
        memcpy(copy, word, len);
        found = vocab->n_words++;
        vocab->word[found] = copy;
        vocab->slot[r2__vocab_slot(vocab, word, len)] = found + 1;
    }
    if (id) *id = found;
    return R2_OK;
}

r2_status r2_vocab_encode(r2_ctx *ctx, const r2_vocab *vocab, const char *text, size_t len,
                          r2_tokens *out) {
    for (size_t at = 0; len > 0 && at <= len;) { /* a space at the end starts an empty word */
        const char *space = (const char *)memchr(text + at, ' ', len - at);
        size_t word_len = space ? (size_t)(space - text) - at : len - at;
        int32_t id = r2_vocab_find(vocab, text + at, word_len);
        if (id < 0)
            return r2_fail(ctx, R2_FORMAT, "vocabulary: unknown word '%.*s'",
                           (int)(word_len < 80 ? word_len : 80), text + at);
        r2_tokens_add(ctx, out, id);
        at += word_len + 1;
    }
    return out->failed ? ctx->status : R2_OK;
}

r2_status r2_vocab_decode(r2_ctx *ctx, const r2_vocab *vocab, const int32_t *id, int64_t n,
                          r2_text *out) {
    for (int64_t i = 0; i < n; ++i)
        if (id[i] < 0 || id[i] >= vocab->n_words)
            return r2_fail(ctx, R2_ARGUMENT, "vocabulary: id %d is not below %d", (int)id[i],
                           (int)vocab->n_words);
    for (int64_t i = 0; i < n; ++i) {
        if (i) r2_text_add(ctx, out, " ", 1);
        r2_text_add(ctx, out, vocab->word[id[i]], strlen(vocab->word[id[i]]));
    }
    return out->failed ? ctx->status : R2_OK;
}

r2_status r2_vocab_save(r2_ctx *ctx, const r2_vocab *vocab, const char *path) {
    r2_text text = {NULL, 0, 0, false};
    r2_status status;
    for (int32_t i = 0; i < vocab->n_words; ++i) r2_text_addf(ctx, &text, "%s\n", vocab->word[i]);
    status = text.failed ? ctx->status : r2_write_file(ctx, path, text.data, text.len);
    r2_text_free(ctx, &text);
    return status;
}

r2_status r2_vocab_load(r2_ctx *ctx, r2_vocab *vocab, const char *path) {
    r2_text text = {NULL, 0, 0, false};
    r2_status status = r2_read_file(ctx, path, &text);
    size_t at = 0;
    for (int32_t line = 1; !status && at < text.len; ++line) {
        size_t len = strcspn(text.data + at, "\n");
        bool whole = at + len == text.len || text.data[at + len] == '\n'; /* no NUL inside */
        text.data[at + len] = '\0';
        if (!whole || r2_vocab_find(vocab, text.data + at, len) >= 0)
            status = r2_fail(ctx, R2_FORMAT, "%s:%d: expected a new word, found '%.80s'", path,
                             (int)line, text.data + at);
        else
            status = r2_vocab_add(ctx, vocab, text.data + at, NULL);
        if (status == R2_ARGUMENT)
            status = r2_fail(ctx, R2_FORMAT, "%s:%d: expected a word without spaces, found '%.80s'",
                             path, (int)line, text.data + at);
        at += len + 1;
    }
    r2_text_free(ctx, &text);
    if (status) r2_vocab_free(ctx, vocab);
    return status;
}

void r2_vocab_free(r2_ctx *ctx, r2_vocab *vocab) {
    r2_release(ctx, vocab->word);
    r2_release(ctx, vocab->slot);
    r2_arena_free(ctx, &vocab->text);
    memset(vocab, 0, sizeof *vocab);
}

/* ================================================================================ [S7] ops ==== */
/* ============================================================================== [S8] model ==== */
/* ============================================================================== [S9] optim ==== */
/* =============================================================================== [S10] sft ==== */
/* ================================================================================ [S11] rl ==== */
/* ============================================================================== [S12] eval ==== */
/* =============================================================================== [S13] run ==== */

#ifdef __cplusplus
}
#endif
#endif /* R2REC_IMPLEMENTATION */

/* The MIT licence of r2rec

   Copyright (c) 2026 r2rec contributors

   Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
   associated documentation files (the "Software"), to deal in the Software without restriction,
   including without limitation the rights to use, copy, modify, merge, publish, distribute,
   sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
   furnished to do so, subject to the following conditions: The above copyright notice and this
   permission notice shall be included in all copies or substantial portions of the Software. THE
   SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT
   LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
   NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM,
   DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT
   OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */

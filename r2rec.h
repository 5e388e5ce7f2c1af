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
   Users and items are numbered 0 .. n-1 in the order of their first appearance. 12 bytes a row. */
typedef struct r2_data {
    int64_t n_users, n_items, n_ratings;
    int64_t *user_begin; /* (n_users + 1) rows of user u: user_begin[u] .. user_begin[u + 1] - 1 */
    uint32_t *item;      /* (n_ratings)                                                           */
    float *rating;       /* (n_ratings) in the file's own scale                                   */
    int32_t *time;       /* (n_ratings) seconds after time_zero, >= 0: differences never overflow */
    int64_t time_zero;   /* Unix seconds of the earliest interaction                              */
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
/* Row of (user, item) in the arrays above, or -1. O(log degree). */
int64_t r2_data_find(const r2_data *data, uint32_t user, uint32_t item);
/* Index of a user or item by the file's own id, or -1. A search from the first to the last. */
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
    uint64_t seed;      /* of the tie rule */
} r2_split_config;

/* The tie rule: interactions of one user at the same second are ordered by
   r2_hash(seed, h(user_key), h(item_key)), h = 64-bit FNV-1a of the file's own id. So the order
   knows neither ids (they correlate with popularity) nor the order of rows in the file. */
typedef struct r2_split {
    r2_split_config config;  /* with the default of min_positive filled in                      */
    uint8_t *role;           /* (n_ratings) an r2_role per row of r2_data                       */
    int64_t *by_time;        /* (n_ratings) rows, each user's in order of time and the tie rule */
    r2_target *test, *valid; /* (n_test), (n_valid) ascending user; the same users in both      */
    int64_t n_test, n_valid, n_train;
    int64_t n_time_ties; /* users with more than one interaction at their last second */
} r2_split;

r2_split_config r2_split_config_default(void);
/* Per user: the last interaction with rating >= min_positive is the test positive, the one before it
   the validation positive; everything of that user at or after the validation positive, in the order
   by_time, is out of training. Users without two positives and one training interaction stay in
   training whole. `config` NULL: the default. Errors: R2_NO_MEMORY. */
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

/* The draw of a case depends on (seed, user, item) alone, not on the other cases.
   Errors: R2_ARGUMENT when a user has fewer than n_negatives items left. */
r2_status r2_candidates_init(r2_ctx *ctx, r2_candidates *c, const r2_data *data,
                             const r2_target *targets, int64_t n_targets, int64_t n_negatives,
                             uint64_t seed);
void r2_candidates_free(r2_ctx *ctx, r2_candidates *c);

/* ============================================================================== [S3] graph ==== */

/* The bipartite graph of some interactions: CSR both ways. Edge e of user u is a row of the user
   side; the item side points back to it. 20 bytes an edge, 8 when the user side is r2_data's own.

       user_begin  u ->  | e0 e1 e2 |      user_item[e], user_rating[e], user_time[e]
       item_begin  i ->  | k0 k1 |         item_user[k], item_edge[k] = e of (item_user[k], i)  */
typedef struct r2_graph {
    int64_t n_users, n_items, n_edges;
    int64_t *user_begin;  /* (n_users + 1)                                  */
    uint32_t *user_item;  /* (n_edges) ascending within a user              */
    float *user_rating;   /* (n_edges)                                      */
    int32_t *user_time;   /* (n_edges) seconds after the data's time_zero   */
    int64_t *item_begin;  /* (n_items + 1)                                  */
    uint32_t *item_user;  /* (n_edges) ascending within an item             */
    uint32_t *item_edge;  /* (n_edges) index into the user side             */
    float rating_min, rating_max; /* of the data's scale, whatever the edges are     */
    bool borrows_user_side;       /* role was NULL: the user side belongs to r2_data */
} r2_graph;

/* Builds the graph of all rows of `data`, or of those with role[row] == R2_TRAIN when `role` is
   given. Keeps the numbering of users and items. Without `role` the user side is that of `data`,
   which must then outlive the graph. Errors: R2_NO_MEMORY, R2_ARGUMENT (2^32 edges or more). */
r2_status r2_graph_init(r2_ctx *ctx, r2_graph *graph, const r2_data *data, const uint8_t *role);
void r2_graph_free(r2_ctx *ctx, r2_graph *graph);
int64_t r2_graph_user_degree(const r2_graph *graph, uint32_t user);
int64_t r2_graph_item_degree(const r2_graph *graph, uint32_t item);
/* Edge of (user, item) on the user side, or -1. O(log degree). */
int64_t r2_graph_find(const r2_graph *graph, uint32_t user, uint32_t item);

/* ============================================================================= [S4] chains ==== */

/* u0 -> i0 -> u1 -> i1 -> u0: a closed walk over four edges, a butterfly of the graph seen from u0.

           i0              e1 = (u0,i0)  what u0 thought of i0         r1
        e1/  \e2           e2 = (u1,i0)  what u1 thought of it         r2
         u0    u1          e3 = (u1,i1)  what u1 thinks of i1          r3
        e4\  /e3           e4 = (u0,i1)  closes the chain: the query   r4
           i1 */
typedef struct r2_chain {
    uint32_t u0, i0, u1, i1;
    float r1, r2, r3, r4; /* ratings of e1 .. e4; r4 is NAN when e4 is what is asked */
    float score;          /* agreement of u0 and u1 (coherent), 0 when drawn         */
} r2_chain;

/* Which chains, when there are more than wanted (D1, D3). */
typedef enum r2_chain_law {
    R2_CHAINS_COHERENT = 0, /* the best by agreement of u0 and u1, then recency; nothing is random */
    R2_CHAINS_UNIFORM,      /* every chain equally likely                                          */
    R2_CHAINS_UNIFORM_USERS /* u1 uniform among the users that have a chain, then a uniform chain  */
} r2_chain_law;

typedef struct r2_chain_config {
    r2_chain_law law;
    int64_t k;        /* chains wanted (4)                                                       */
    bool replacement; /* a drawn chain may be drawn again (false)                                */
    bool distinct;    /* coherent: each u1 and each i0 at most once, for variety (true)          */
    float shrink;     /* coherent: as many shared items of agreement 0 are added (5)             */
    uint64_t seed;    /* of the draws                                                            */
} r2_chain_config;

r2_chain_config r2_chain_config_default(void);

/* Target chains (D2): up to config->k chains that ask for the rating of `item` by u0, that is with
   i1 = item: i0 in I(u0), u1 in U(i0) and U(item), u1 != u0, i0 != item. The closing edge (u0, item)
   is invisible: whether the graph has it, and with which rating, changes nothing. `chains` has room
   for k; *n_chains says how many there are, 0 when no chain exists.
   Errors: R2_ARGUMENT, R2_NO_MEMORY. */
r2_status r2_chains_target(r2_ctx *ctx, const r2_graph *graph, uint32_t u0, uint32_t item,
                           const r2_chain_config *config, r2_chain *chains, int64_t *n_chains);

/* Closed chains (D1): up to config->k chains over four observed edges, i0 != i1. A chain and its
   mirror (i0 and i1 exchanged) are the same; which of the two is i1 is a fair coin, or the later of
   the two in u0's history when coherent. */
r2_status r2_chains_closed(r2_ctx *ctx, const r2_graph *graph, uint32_t u0,
                           const r2_chain_config *config, r2_chain *chains, int64_t *n_chains);

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

/* ---- lines of a file, read in large pieces ---- */

#define R2__LINE_MAX (4u << 20) /* longer lines are refused: the file is not what it seems */

typedef struct r2__slice {
    const char *at;
    size_t len;
} r2__slice;

static r2__slice r2__slice_of(const char *at, size_t len) {
    r2__slice slice;
    slice.at = at;
    slice.len = len;
    return slice;
}

/*  buffer  | used | the line | read ahead ..... | free |
                   begin      next              end    cap  */
typedef struct r2__lines {
    FILE *file;
    const char *path;
    int64_t number; /* of the current line, from 1 */
    char *buffer;
    size_t cap, next, end;
    bool eof;
} r2__lines;

static r2_status r2__lines_open(r2_ctx *ctx, r2__lines *lines, const char *path) {
    memset(lines, 0, sizeof *lines);
    lines->path = path;
    lines->file = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    if (!lines->file) return r2_fail(ctx, R2_IO, "%s: cannot open: %s", path, strerror(errno));
    lines->cap = 1u << 20;
    lines->buffer = (char *)r2_alloc(ctx, lines->cap, 1);
    return lines->buffer ? R2_OK : ctx->status;
}

static void r2__lines_close(r2_ctx *ctx, r2__lines *lines) {
    if (lines->file && lines->file != stdin) fclose(lines->file);
    r2_release(ctx, lines->buffer);
    memset(lines, 0, sizeof *lines);
}

/* An error of the current line. */
static r2_status r2__bad_line(r2_ctx *ctx, const r2__lines *lines, const char *expected,
                              r2__slice found) {
    const int shown = found.len > 80 ? 80 : (int)found.len;
    return r2_fail(ctx, R2_FORMAT, "%s:%lld: expected %s, found \"%.*s%s\"", lines->path,
                   (long long)lines->number, expected, shown, shown ? found.at : "",
                   found.len > 80 ? "..." : "");
}

/* Moves what is left to the front and reads on. */
static r2_status r2__lines_fill(r2_ctx *ctx, r2__lines *lines) {
    size_t left = lines->end - lines->next, got;
    memmove(lines->buffer, lines->buffer + lines->next, left);
    lines->next = 0;
    lines->end = left;
    if (left == lines->cap) {
        char *larger;
        if (lines->cap >= R2__LINE_MAX)
            return r2_fail(ctx, R2_FORMAT, "%s:%lld: expected a line, found more than %u bytes",
                           lines->path, (long long)lines->number + 1, R2__LINE_MAX);
        larger = (char *)r2_resize(ctx, lines->buffer, lines->cap * 2, 1);
        if (!larger) return ctx->status;
        lines->buffer = larger;
        lines->cap *= 2;
    }
    got = fread(lines->buffer + lines->end, 1, lines->cap - lines->end, lines->file);
    lines->end += got;
    lines->eof = got == 0;
    if (ferror(lines->file))
        return r2_fail(ctx, R2_IO, "%s: cannot read: %s", lines->path, strerror(errno));
    return R2_OK;
}

/* The next line without its end (LF or CRLF; the last one may have none); line->at is NULL at the
   end of the file. A byte order mark before the first line is skipped. */
static r2_status r2__lines_next(r2_ctx *ctx, r2__lines *lines, r2__slice *line) {
    const char *start = lines->buffer + lines->next, *stop;
    size_t have = lines->end - lines->next;
    stop = (const char *)memchr(start, '\n', have);
    while (!stop && !lines->eof) {
        size_t searched = have;
        r2_status status = r2__lines_fill(ctx, lines);
        if (status) return status;
        start = lines->buffer;
        have = lines->end;
        stop = (const char *)memchr(start + searched, '\n', have - searched);
    }
    line->at = have ? start : NULL;
    line->len = stop ? (size_t)(stop - start) : have;
    lines->next += line->len + (stop ? 1 : 0);
    if (!have) return R2_OK;
    lines->number++;
    if (lines->number == 1 && line->len >= 3 && memcmp(line->at, "\xEF\xBB\xBF", 3) == 0) {
        line->at += 3;
        line->len -= 3;
    }
    if (line->len && line->at[line->len - 1] == '\r') line->len--;
    if (memchr(line->at, '\0', line->len))
        return r2__bad_line(ctx, lines, "text", r2__slice_of("a NUL byte", 10));
    return R2_OK;
}

/* ---- fields of a line ---- */

#define R2__FIELDS_MAX 64

/* A table: one record a line, fields between separators. */
typedef struct r2__table {
    r2__lines lines;
    const char *separator; /* one or two characters */
    bool quoted;           /* a field may stand in double quotes, "" inside means one */
    int n_fields;          /* every line has as many as the first; 0 before it        */
    r2__slice field[R2__FIELDS_MAX];
} r2__table;

/* Takes the quotes off the field that begins at `at`; returns what follows it, or NULL when the
   closing quote is missing. The shorter text is written over the longer one. */
static const char *r2__unquote(r2__table *table, const char *at, const char *end,
                               r2__slice *field) {
    char *to = table->lines.buffer + (at - table->lines.buffer);
    field->at = to;
    for (++at; at < end; ++at) {
        if (*at == '"') {
            if (at + 1 == end || at[1] != '"') break;
            ++at;
        }
        *to++ = *at;
    }
    field->len = (size_t)(to - field->at);
    return at < end ? at + 1 : NULL;
}

/* Cuts `line` into table->field; returns the number of fields, or -1 when a quote stays open or
   there are too many. */
static int r2__cut(r2__table *table, r2__slice line) {
    const char *at = line.at, *end = line.at + line.len;
    const char first = table->separator[0], second = table->separator[1];
    for (int n = 0; n < R2__FIELDS_MAX; ++n) {
        r2__slice *field = &table->field[n];
        if (table->quoted && at < end && *at == '"') {
            at = r2__unquote(table, at, end, field);
            if (!at || (at < end && *at != first)) return -1;
        } else {
            field->at = at;
            while (at < end && !(*at == first && (!second || (at + 1 < end && at[1] == second))))
                ++at;
            field->len = (size_t)(at - field->at);
        }
        if (at == end) return n + 1;
        at += second ? 2 : 1;
    }
    return -1;
}

/* Reads the next record into table->field; *more is false at the end. Empty lines are skipped. */
static r2_status r2__table_next(r2_ctx *ctx, r2__table *table, bool *more) {
    r2__slice line;
    char expected[64];
    int n;
    do {
        r2_status status = r2__lines_next(ctx, &table->lines, &line);
        if (status) return status;
        *more = line.at != NULL;
        if (!*more) return R2_OK;
    } while (line.len == 0);
    n = r2__cut(table, line);
    if (n < 0) return r2__bad_line(ctx, &table->lines, "closed quotes and <= 64 fields", line);
    if (table->n_fields == 0) table->n_fields = n;
    if (n == table->n_fields) return R2_OK;
    snprintf(expected, sizeof expected, "%d fields as before, not %d", table->n_fields, n);
    return r2__bad_line(ctx, &table->lines, expected, line);
}

/* A decimal number: sign, digits, fraction, exponent; nothing but blanks around it (copies of
   MovieLens with a stray blank circulate). Exact to the last bit for up to 15 digits, whatever the
   locale. */
static bool r2__number(r2__slice text, double *value) {
    const char *at = text.at, *end = text.at + text.len;
    bool negative, any = false;
    double mantissa = 0.0;
    int scale = 0, exponent = 0;
    while (at < end && *at == ' ') ++at;
    while (at < end && end[-1] == ' ') --end;
    negative = at < end && *at == '-';
    if (at < end && (*at == '-' || *at == '+')) ++at;
    for (; at < end && *at >= '0' && *at <= '9'; ++at, any = true)
        mantissa = mantissa * 10.0 + (*at - '0');
    if (at < end && *at == '.')
        for (++at; at < end && *at >= '0' && *at <= '9'; ++at, any = true, --scale)
            mantissa = mantissa * 10.0 + (*at - '0');
    if (any && at < end && (*at == 'e' || *at == 'E')) {
        bool down = at + 1 < end && at[1] == '-';
        at += at + 1 < end && (at[1] == '-' || at[1] == '+') ? 2 : 1;
        for (any = false; at < end && *at >= '0' && *at <= '9'; ++at, any = true)
            exponent = exponent < 1000 ? exponent * 10 + (*at - '0') : exponent;
        scale += down ? -exponent : exponent;
    }
    *value = scale < 0 ? mantissa / pow(10.0, -scale) : mantissa * pow(10.0, scale);
    if (negative) *value = -*value;
    return any && at == end && isfinite(*value);
}

/* ---- names: text -> number in order of appearance ---- */

/*  slot[hash & mask] = index + 1 or 0; the next free slot is taken on a collision  */
typedef struct r2__names {
    char **key; /* (n) */
    uint32_t *slot;
    uint64_t n, cap, n_slots;
    r2_arena *arena; /* of the keys */
    char *pool;      /* rest of the piece of arena that is being filled */
    size_t pool_left;
} r2__names;

/* 64-bit FNV-1a. */
static uint64_t r2__fnv(const char *text, size_t len) {
    uint64_t hash = 0xCBF29CE484222325u;
    for (size_t i = 0; i < len; ++i) hash = (hash ^ (unsigned char)text[i]) * 0x100000001B3u;
    return hash;
}

static bool r2__utf8_valid(const char *text, size_t len) {
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)text[i];
        size_t more = c < 0x80 ? 0 : c >= 0xC2 && c < 0xE0 ? 1 : c >= 0xE0 && c < 0xF0 ? 2 : 3;
        if ((c >= 0x80 && c < 0xC2) || c > 0xF4 || i + more >= len) return false;
        for (size_t k = 1; k <= more; ++k)
            if (((unsigned char)text[i + k] & 0xC0) != 0x80) return false;
        i += more + 1;
    }
    return true;
}

/* A NUL-terminated copy as UTF-8: text that is not UTF-8 is taken for latin-1. NULL: no memory. */
static char *r2__keep_text(r2_ctx *ctx, r2__names *names, r2__slice text) {
    const size_t piece = 1u << 16;
    bool valid = r2__utf8_valid(text.at, text.len);
    size_t need = (valid ? text.len : 2 * text.len) + 1;
    char *copy, *to;
    if (need > names->pool_left) {
        names->pool_left = need > piece ? need : piece;
        names->pool = (char *)r2_arena_alloc(ctx, names->arena, names->pool_left, 1);
        if (!names->pool) names->pool_left = 0;
        if (!names->pool) return NULL;
    }
    copy = to = names->pool;
    for (size_t i = 0; i < text.len; ++i) {
        unsigned char c = (unsigned char)text.at[i];
        if (valid || c < 0x80) {
            *to++ = text.at[i];
        } else {
            *to++ = (char)(0xC0 | c >> 6);
            *to++ = (char)(0x80 | (c & 0x3F));
        }
    }
    *to++ = '\0';
    names->pool = to;
    names->pool_left -= (size_t)(to - copy);
    return copy;
}

/* The slot where `key` is or would be. */
static uint64_t r2__names_slot(const r2__names *names, r2__slice key) {
    uint64_t hash = r2__fnv(key.at, key.len), mask = names->n_slots - 1;
    for (hash ^= hash >> 32;; ++hash) {
        uint32_t index = names->slot[hash & mask];
        if (!index) return hash & mask;
        if (strncmp(names->key[index - 1], key.at, key.len) == 0 &&
            !names->key[index - 1][key.len])
            return hash & mask;
    }
}

static r2_status r2__names_grow(r2_ctx *ctx, r2__names *names) {
    uint64_t n_slots = names->n_slots ? names->n_slots * 2 : 1024, cap = n_slots / 2;
    char **key;
    uint32_t *slot;
    if (names->n >= UINT32_MAX - 1)
        return r2_fail(ctx, R2_FORMAT, "expected fewer than 2^32 users and items");
    key = (char **)r2_resize(ctx, names->key, cap, sizeof *key);
    if (!key) return ctx->status;
    names->key = key;
    names->cap = cap;
    slot = (uint32_t *)r2_alloc(ctx, n_slots, sizeof *slot);
    if (!slot) return ctx->status;
    r2_release(ctx, names->slot);
    names->slot = slot;
    names->n_slots = n_slots;
    for (uint64_t i = 0; i < names->n; ++i)
        slot[r2__names_slot(names, r2__slice_of(key[i], strlen(key[i])))] = (uint32_t)i + 1;
    return R2_OK;
}

/* The index of `key`, new or known. */
static r2_status r2__names_intern(r2_ctx *ctx, r2__names *names, r2__slice key, uint32_t *index) {
    uint64_t slot;
    if (names->n == names->cap) {
        r2_status status = r2__names_grow(ctx, names);
        if (status) return status;
    }
    slot = r2__names_slot(names, key);
    if (!names->slot[slot]) {
        names->key[names->n] = r2__keep_text(ctx, names, key);
        if (!names->key[names->n]) return ctx->status;
        names->slot[slot] = (uint32_t)++names->n;
    }
    *index = names->slot[slot] - 1;
    return R2_OK;
}

/* The index of `key`, or -1. */
static int64_t r2__names_find(const r2__names *names, r2__slice key) {
    if (!names->n) return -1;
    return (int64_t)names->slot[r2__names_slot(names, key)] - 1;
}

static void r2__names_free(r2_ctx *ctx, r2__names *names) {
    r2_release(ctx, names->key);
    r2_release(ctx, names->slot);
    memset(names, 0, sizeof *names);
}

/* ---- rows: collected in the order of the file, then sorted by user and item ---- */

typedef struct r2__row {
    uint32_t user, item;
    float rating;
    int32_t time;
} r2__row;

#define R2__ROWS_A_BLOCK (1 << 16)

typedef struct r2__loader {
    r2_data *data;
    r2__names users, items;
    r2__row **block; /* a list of blocks, so that growing copies nothing */
    int64_t n_rows, n_blocks;
} r2__loader;

static void r2__loader_free(r2_ctx *ctx, r2__loader *loader) {
    for (int64_t b = 0; b < loader->n_blocks; ++b) r2_release(ctx, loader->block[b]);
    r2_release(ctx, loader->block);
    r2__names_free(ctx, &loader->users);
    r2__names_free(ctx, &loader->items);
    memset(loader, 0, sizeof *loader);
}

/* Room for one more row, or NULL. */
static r2__row *r2__loader_row(r2_ctx *ctx, r2__loader *loader) {
    int64_t at = loader->n_rows % R2__ROWS_A_BLOCK, n = loader->n_blocks;
    if (at == 0) {
        r2__row **block = (r2__row **)r2_resize(ctx, loader->block, (uint64_t)n + 1,
                                                sizeof *block);
        if (!block) return NULL;
        loader->block = block;
        block[n] = (r2__row *)r2_resize(ctx, NULL, R2__ROWS_A_BLOCK, sizeof(r2__row));
        if (!block[n]) return NULL;
        loader->n_blocks++;
    }
    return &loader->block[loader->n_rows++ / R2__ROWS_A_BLOCK][at];
}

/* Adds the record user, item, rating, time. */
static r2_status r2__loader_add(r2_ctx *ctx, r2__loader *loader, const r2__lines *lines,
                                const r2__slice field[4]) {
    r2_data *data = loader->data;
    double rating, time;
    r2__row *row = r2__loader_row(ctx, loader);
    if (!row) return ctx->status;
    if (!field[0].len) return r2__bad_line(ctx, lines, "a user", field[0]);
    if (!field[1].len) return r2__bad_line(ctx, lines, "an item", field[1]);
    if (!r2__number(field[2], &rating) || fabs(rating) > 1e6)
        return r2__bad_line(ctx, lines, "a rating", field[2]);
    if (!r2__number(field[3], &time) || fabs(time) > 1e15)
        return r2__bad_line(ctx, lines, "a Unix time", field[3]);
    if (loader->n_rows == 1) {
        data->time_zero = (int64_t)floor(time);
        data->rating_min = data->rating_max = (float)rating;
    }
    time = floor(time) - (double)data->time_zero;
    if (time < INT32_MIN || time > INT32_MAX)
        return r2__bad_line(ctx, lines, "a time within 68 years of the others", field[3]);
    row->rating = (float)rating;
    row->time = (int32_t)time;
    if (row->rating < data->rating_min) data->rating_min = row->rating;
    if (row->rating > data->rating_max) data->rating_max = row->rating;
    if (r2__names_intern(ctx, &loader->users, field[0], &row->user)) return ctx->status;
    return r2__names_intern(ctx, &loader->items, field[1], &row->item);
}

/* Exclusive prefix sums in place: counts -> begins; count[n] must be 0 and becomes the total. */
static void r2__prefix(int64_t *count, int64_t n) {
    int64_t sum = 0;
    for (int64_t i = 0; i <= n; ++i) {
        int64_t here = count[i];
        count[i] = sum;
        sum += here;
    }
}

/* All rows in the order of their items; rows of one item keep the order of the file. The blocks are
   given back one by one, so the peak is one copy and a block. */
static r2__row *r2__rows_by_item(r2_ctx *ctx, r2__loader *loader) {
    const int64_t n_items = (int64_t)loader->items.n;
    r2__row *sorted = (r2__row *)r2_resize(ctx, NULL, (uint64_t)loader->n_rows, sizeof *sorted);
    int64_t *at = (int64_t *)r2_alloc(ctx, (uint64_t)n_items + 1, sizeof *at);
    if (!sorted || !at) {
        r2_release(ctx, sorted);
        r2_release(ctx, at);
        return NULL;
    }
    for (int64_t k = 0; k < loader->n_rows; ++k)
        at[loader->block[k / R2__ROWS_A_BLOCK][k % R2__ROWS_A_BLOCK].item]++;
    r2__prefix(at, n_items);
    for (int64_t b = 0, k = 0; b < loader->n_blocks; ++b) {
        for (int64_t j = 0; j < R2__ROWS_A_BLOCK && k < loader->n_rows; ++j, ++k)
            sorted[at[loader->block[b][j].item]++] = loader->block[b][j];
        r2_release(ctx, loader->block[b]);
        loader->block[b] = NULL;
    }
    r2_release(ctx, at);
    return sorted;
}

/* Drops all but the latest of the rows of one (user, item); of equal times the last of the file. */
static void r2__drop_duplicates(r2_data *data) {
    int64_t to = 0, from = 0;
    for (int64_t u = 0; u < data->n_users; ++u) {
        int64_t begin = to, end = data->user_begin[u + 1];
        for (; from < end; ++from) {
            bool again = to > begin && data->item[to - 1] == data->item[from];
            if (again && data->time[from] < data->time[to - 1]) continue;
            if (again) --to;
            data->item[to] = data->item[from];
            data->rating[to] = data->rating[from];
            data->time[to++] = data->time[from];
        }
        data->user_begin[u] = begin;
    }
    data->user_begin[data->n_users] = to;
    data->n_duplicates = data->n_ratings - to;
    data->n_ratings = to;
}

/* Lets the earliest time be 0. */
static r2_status r2__rebase_times(r2_ctx *ctx, r2_data *data) {
    int32_t first = data->time[0], last = data->time[0];
    for (int64_t k = 0; k < data->n_ratings; ++k) {
        first = data->time[k] < first ? data->time[k] : first;
        last = data->time[k] > last ? data->time[k] : last;
    }
    if ((int64_t)last - first > INT32_MAX)
        return r2_fail(ctx, R2_FORMAT, "expected times within 68 years, found %lld to %lld",
                       (long long)(data->time_zero + first), (long long)(data->time_zero + last));
    for (int64_t k = 0; k < data->n_ratings; ++k) data->time[k] -= first;
    data->time_zero += first;
    return R2_OK;
}

/* Rows of the loader -> arrays of r2_data. A stable counting sort by item, then one by user, leaves
   the rows of each user in ascending order of items. */
static r2_status r2__loader_sort(r2_ctx *ctx, r2__loader *loader) {
    r2_data *data = loader->data;
    const uint64_t n = (uint64_t)loader->n_rows;
    r2__row *sorted = r2__rows_by_item(ctx, loader);
    int64_t *begin;
    if (!sorted) return ctx->status;
    data->n_users = (int64_t)loader->users.n;
    data->n_items = (int64_t)loader->items.n;
    data->n_ratings = loader->n_rows;
    data->user_begin = begin = (int64_t *)r2_alloc(ctx, loader->users.n + 2, sizeof *begin);
    data->item = (uint32_t *)r2_resize(ctx, NULL, n, sizeof *data->item);
    data->rating = (float *)r2_resize(ctx, NULL, n, sizeof *data->rating);
    data->time = (int32_t *)r2_resize(ctx, NULL, n, sizeof *data->time);
    if (begin && data->item && data->rating && data->time) {
        /* begin[u + 1] walks from the begin of u to its end, which is the begin of u + 1 */
        for (uint64_t k = 0; k < n; ++k) begin[sorted[k].user + 2]++;
        for (int64_t u = 0; u < data->n_users; ++u) begin[u + 2] += begin[u + 1];
        for (uint64_t k = 0; k < n; ++k) {
            int64_t at = begin[sorted[k].user + 1]++;
            data->item[at] = sorted[k].item;
            data->rating[at] = sorted[k].rating;
            data->time[at] = sorted[k].time;
        }
        r2__drop_duplicates(data);
        r2_release(ctx, sorted);
        return r2__rebase_times(ctx, data);
    }
    r2_release(ctx, sorted);
    return ctx->status;
}

/* ---- what is known of the items ---- */

/* The year of the last "(1994" in a title, or 0. */
static int16_t r2__title_year(const char *title) {
    const char *open = strrchr(title, '(');
    int year = 0;
    for (int i = 1; open && i <= 4; ++i) {
        if (open[i] < '0' || open[i] > '9') return 0;
        year = year * 10 + (open[i] - '0');
    }
    return (int16_t)year;
}

/* Titles and genres start as "". */
static r2_status r2__loader_items(r2_ctx *ctx, r2__loader *loader) {
    r2_data *data = loader->data;
    uint64_t n = loader->items.n;
    char *empty = r2__keep_text(ctx, &loader->items, r2__slice_of("", 0));
    data->title = (char **)r2_alloc(ctx, n, sizeof *data->title);
    data->genres = (char **)r2_alloc(ctx, n, sizeof *data->genres);
    data->year = (int16_t *)r2_alloc(ctx, n, sizeof *data->year);
    if (!empty || !data->title || !data->genres || !data->year) return ctx->status;
    for (uint64_t i = 0; i < n; ++i) data->title[i] = data->genres[i] = empty;
    return R2_OK;
}

/* The genre names behind the flags in columns 5 .. 23 of u.item. */
static r2_status r2__flag_genres(r2_ctx *ctx, const r2__slice *flags, r2_text *genres) {
    static const char *const name[19] = {
        "unknown", "Action",    "Adventure", "Animation", "Children", "Comedy",  "Crime",
        "Documentary", "Drama", "Fantasy",   "Film-Noir", "Horror",   "Musical", "Mystery",
        "Romance", "Sci-Fi",    "Thriller",  "War",       "Western"};
    r2_text_clear(genres);
    r2_text_add(ctx, genres, "", 0);
    for (int g = 0; g < 19; ++g) {
        if (flags[g].len != 1 || flags[g].at[0] != '1') continue;
        r2_text_addf(ctx, genres, "%s%s", genres->len ? "|" : "", name[g]);
    }
    return genres->failed ? ctx->status : R2_OK;
}

/* One record of an item file: id, title, genres. Items that nobody rated are passed over. */
static r2_status r2__loader_title(r2_ctx *ctx, r2__loader *loader, const r2__slice *field,
                                  r2__slice genres) {
    r2_data *data = loader->data;
    int64_t item = r2__names_find(&loader->items, field[0]);
    if (item < 0) return R2_OK;
    if (genres.len && genres.at[0] == '(') genres.len = 0; /* "(no genres listed)" */
    data->title[item] = r2__keep_text(ctx, &loader->items, field[1]);
    data->genres[item] = r2__keep_text(ctx, &loader->items, genres);
    if (!data->title[item] || !data->genres[item]) return ctx->status;
    data->year[item] = r2__title_year(data->title[item]);
    return R2_OK;
}

/* ---- MovieLens directories ---- */

typedef struct r2__layout {
    const char *ratings, *items;
    const char *rating_separator, *item_separator;
    int n_item_fields; /* 24: the layout with genre flags */
    bool header;       /* and quotes */
} r2__layout;

static r2_status r2__load_ratings(r2_ctx *ctx, r2__loader *loader, const char *path,
                                  const r2__layout *layout) {
    r2__table table;
    bool more = true;
    r2_status status;
    memset(&table, 0, sizeof table);
    table.separator = layout->rating_separator;
    table.quoted = layout->header;
    table.n_fields = 4;
    status = r2__lines_open(ctx, &table.lines, path);
    if (!status && layout->header) status = r2__table_next(ctx, &table, &more);
    while (!status && more) {
        status = r2__table_next(ctx, &table, &more);
        if (!status && more) status = r2__loader_add(ctx, loader, &table.lines, table.field);
        if (!status && loader->n_rows % (1 << 20) == 0)
            status = r2_progress(ctx, "reading ratings", loader->n_rows, 0);
    }
    r2__lines_close(ctx, &table.lines);
    if (!status && loader->n_rows == 0)
        status = r2_fail(ctx, R2_FORMAT, "%s: expected ratings, found none", path);
    return status;
}

static r2_status r2__load_items(r2_ctx *ctx, r2__loader *loader, const char *path,
                                const r2__layout *layout) {
    r2__table table;
    r2_text flags = {NULL, 0, 0, false};
    bool more = true;
    r2_status status;
    memset(&table, 0, sizeof table);
    table.separator = layout->item_separator;
    table.quoted = layout->header;
    table.n_fields = layout->n_item_fields;
    status = r2__lines_open(ctx, &table.lines, path);
    if (!status && layout->header) status = r2__table_next(ctx, &table, &more);
    while (!status && more) {
        r2__slice genres;
        status = r2__table_next(ctx, &table, &more);
        if (status || !more) break;
        genres = table.field[2];
        if (layout->n_item_fields == 24) {
            status = r2__flag_genres(ctx, table.field + 5, &flags);
            genres = r2__slice_of(flags.data, flags.len);
        }
        if (!status) status = r2__loader_title(ctx, loader, table.field, genres);
    }
    r2_text_free(ctx, &flags);
    r2__lines_close(ctx, &table.lines);
    return status;
}

static bool r2__file_exists(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file) fclose(file);
    return file != NULL;
}

/* The loader's arrays become those of the data. */
static r2_status r2__loader_finish(r2_ctx *ctx, r2__loader *loader) {
    r2_data *data = loader->data;
    r2_status status = r2__loader_sort(ctx, loader);
    data->user_key = loader->users.key;
    data->item_key = loader->items.key;
    loader->users.key = loader->items.key = NULL;
    return status;
}

static r2_status r2__load_layout(r2_ctx *ctx, r2_data *data, const char *ratings,
                                 const char *items, const r2__layout *layout) {
    r2__loader loader;
    r2_status status;
    memset(&loader, 0, sizeof loader);
    loader.data = data;
    loader.users.arena = loader.items.arena = &data->text;
    status = r2__load_ratings(ctx, &loader, ratings, layout);
    if (!status) status = r2__loader_items(ctx, &loader);
    if (!status) status = r2__load_items(ctx, &loader, items, layout);
    if (!status) status = r2__loader_finish(ctx, &loader);
    r2__loader_free(ctx, &loader);
    return status;
}

r2_status r2_data_load(r2_ctx *ctx, r2_data *data, const char *directory) {
    static const r2__layout layouts[3] = {
        {"ratings.csv", "movies.csv", ",", ",", 3, true},
        {"ratings.dat", "movies.dat", "::", "::", 3, false},
        {"u.data", "u.item", "\t", "|", 24, false},
    };
    r2_text ratings = {NULL, 0, 0, false}, items = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    bool found = false;
    memset(data, 0, sizeof *data);
    for (int k = 0; k < 3 && !found && !status; ++k) {
        r2_text_clear(&ratings);
        r2_text_clear(&items);
        r2_text_addf(ctx, &ratings, "%s/%s", directory, layouts[k].ratings);
        r2_text_addf(ctx, &items, "%s/%s", directory, layouts[k].items);
        if (ratings.failed || items.failed) status = ctx->status;
        else found = r2__file_exists(ratings.data);
        if (found) status = r2__load_layout(ctx, data, ratings.data, items.data, &layouts[k]);
    }
    if (!found && !status)
        status = r2_fail(ctx, R2_IO, "%s: expected ratings.csv, ratings.dat or u.data in it",
                         directory);
    r2_text_free(ctx, &ratings);
    r2_text_free(ctx, &items);
    if (status) r2_data_free(ctx, data);
    return status;
}

void r2_data_free(r2_ctx *ctx, r2_data *data) {
    if (!data) return;
    r2_release(ctx, data->user_begin);
    r2_release(ctx, data->item);
    r2_release(ctx, data->rating);
    r2_release(ctx, data->time);
    r2_release(ctx, data->user_key);
    r2_release(ctx, data->item_key);
    r2_release(ctx, data->title);
    r2_release(ctx, data->genres);
    r2_release(ctx, data->year);
    r2_arena_free(ctx, &data->text);
    memset(data, 0, sizeof *data);
}

/* First position in [begin, end) of the ascending `values` with a value >= x. */
static int64_t r2__lower_bound(const uint32_t *values, int64_t begin, int64_t end, uint32_t x) {
    while (begin < end) {
        int64_t middle = begin + (end - begin) / 2;
        if (values[middle] < x) begin = middle + 1;
        else end = middle;
    }
    return begin;
}

int64_t r2_data_find(const r2_data *data, uint32_t user, uint32_t item) {
    int64_t end = data->user_begin[user + 1];
    int64_t at = r2__lower_bound(data->item, data->user_begin[user], end, item);
    return at < end && data->item[at] == item ? at : -1;
}

static int64_t r2__find_key(char *const *keys, int64_t n, const char *key) {
    for (int64_t i = 0; i < n; ++i)
        if (strcmp(keys[i], key) == 0) return i;
    return -1;
}

int64_t r2_data_user(const r2_data *data, const char *key) {
    return r2__find_key(data->user_key, data->n_users, key);
}

int64_t r2_data_item(const r2_data *data, const char *key) {
    return r2__find_key(data->item_key, data->n_items, key);
}

/* ---- splits ---- */

typedef struct r2__moment {
    int32_t time;
    uint64_t tie;
    int64_t row;
} r2__moment;

static int r2__moment_order(const void *left, const void *right) {
    const r2__moment *a = (const r2__moment *)left, *b = (const r2__moment *)right;
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    if (a->tie != b->tie) return a->tie < b->tie ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

r2_split_config r2_split_config_default(void) {
    r2_split_config config;
    memset(&config, 0, sizeof config);
    config.seed = 1;
    return config;
}

/* Rows of each user by time and the tie rule -> split->by_time. */
static r2_status r2__split_order(r2_ctx *ctx, r2_split *split, const r2_data *data) {
    int64_t most = 0;
    r2__moment *moment;
    for (int64_t u = 0; u < data->n_users; ++u) {
        int64_t degree = data->user_begin[u + 1] - data->user_begin[u];
        most = degree > most ? degree : most;
    }
    moment = (r2__moment *)r2_alloc(ctx, (uint64_t)most, sizeof *moment);
    if (!moment) return ctx->status;
    for (int64_t u = 0; u < data->n_users; ++u) {
        int64_t begin = data->user_begin[u], n = data->user_begin[u + 1] - begin;
        uint64_t user = r2__fnv(data->user_key[u], strlen(data->user_key[u]));
        for (int64_t k = 0; k < n; ++k) {
            const char *item = data->item_key[data->item[begin + k]];
            moment[k].time = data->time[begin + k];
            moment[k].tie = r2_hash(split->config.seed, user, r2__fnv(item, strlen(item)));
            moment[k].row = begin + k;
        }
        qsort(moment, (size_t)n, sizeof *moment, r2__moment_order);
        for (int64_t k = 0; k < n; ++k) split->by_time[begin + k] = moment[k].row;
        if (n > 1 && moment[n - 1].time == moment[n - 2].time) split->n_time_ties++;
    }
    r2_release(ctx, moment);
    return R2_OK;
}

/* Position in by_time of the last positive of [begin, end), or -1. */
static int64_t r2__last_positive(const r2_split *split, const r2_data *data, int64_t begin,
                                 int64_t end) {
    for (int64_t k = end - 1; k >= begin; --k)
        if (data->rating[split->by_time[k]] >= split->config.min_positive) return k;
    return -1;
}

static r2_target r2__target_make(const r2_data *data, uint32_t user, int64_t row) {
    r2_target target;
    target.user = user;
    target.item = data->item[row];
    target.row = row;
    return target;
}

/* Gives the rows of one user their roles. */
static void r2__split_user(r2_split *split, const r2_data *data, uint32_t user) {
    int64_t begin = data->user_begin[user], end = data->user_begin[user + 1];
    int64_t test = r2__last_positive(split, data, begin, end);
    int64_t valid = r2__last_positive(split, data, begin, test);
    if (valid <= begin) return; /* not two positives with a training interaction before them */
    for (int64_t k = valid; k < end; ++k) split->role[split->by_time[k]] = R2_UNUSED;
    split->role[split->by_time[valid]] = R2_VALID;
    split->role[split->by_time[test]] = R2_TEST;
    split->valid[split->n_valid++] = r2__target_make(data, user, split->by_time[valid]);
    split->test[split->n_test++] = r2__target_make(data, user, split->by_time[test]);
}

r2_status r2_split_init(r2_ctx *ctx, r2_split *split, const r2_data *data,
                        const r2_split_config *config) {
    const uint64_t n = (uint64_t)data->n_ratings, n_users = (uint64_t)data->n_users;
    r2_status status = R2_OK;
    memset(split, 0, sizeof *split);
    split->config = config ? *config : r2_split_config_default();
    if (split->config.min_positive == 0.0f) split->config.min_positive = 0.8f * data->rating_max;
    split->role = (uint8_t *)r2_alloc(ctx, n, sizeof *split->role);
    split->by_time = (int64_t *)r2_alloc(ctx, n, sizeof *split->by_time);
    split->test = (r2_target *)r2_alloc(ctx, n_users, sizeof *split->test);
    split->valid = (r2_target *)r2_alloc(ctx, n_users, sizeof *split->valid);
    if (!split->role || !split->by_time || !split->test || !split->valid) status = ctx->status;
    if (!status) status = r2__split_order(ctx, split, data);
    for (int64_t u = 0; u < data->n_users && !status; ++u) r2__split_user(split, data, (uint32_t)u);
    for (int64_t k = 0; k < data->n_ratings && !status; ++k)
        split->n_train += split->role[k] == R2_TRAIN;
    if (status) r2_split_free(ctx, split);
    return status;
}

void r2_split_free(r2_ctx *ctx, r2_split *split) {
    if (!split) return;
    r2_release(ctx, split->role);
    r2_release(ctx, split->by_time);
    r2_release(ctx, split->test);
    r2_release(ctx, split->valid);
    memset(split, 0, sizeof *split);
}

/* ---- candidate sets ---- */

/* The rank-th item, from 0, that is not among the `n` ascending items of a user: the items seen
   before it push it up by one each. */
static uint32_t r2__unseen_item(const uint32_t *seen, int64_t n, int64_t rank) {
    int64_t begin = 0, end = n; /* first position whose item has more than `rank` unseen before it */
    while (begin < end) {
        int64_t middle = begin + (end - begin) / 2;
        if ((int64_t)seen[middle] - middle <= rank) begin = middle + 1;
        else end = middle;
    }
    return (uint32_t)(rank + begin);
}

/* The row of candidates of one case. */
static r2_status r2__draw_candidates(r2_ctx *ctx, uint32_t *row, const r2_data *data,
                                     r2_target target, int64_t n_negatives, uint64_t seed) {
    const uint32_t *seen = data->item + data->user_begin[target.user];
    int64_t n_seen = data->user_begin[target.user + 1] - data->user_begin[target.user];
    int64_t n_unseen = data->n_items - n_seen;
    r2_rng rng = r2_rng_make(seed, R2_STREAM_CANDIDATES, (uint64_t)target.user << 32 | target.item);
    if (n_unseen < n_negatives)
        return r2_fail(ctx, R2_ARGUMENT, "user %s has %lld unseen items, expected at least %lld",
                       data->user_key[target.user], (long long)n_unseen, (long long)n_negatives);
    row[0] = target.item;
    for (int64_t k = 1; k <= n_negatives;) {
        int64_t rank = (int64_t)r2_rng_below(&rng, (uint64_t)n_unseen), j = 1;
        row[k] = r2__unseen_item(seen, n_seen, rank);
        while (row[j] != row[k]) ++j;
        k += j == k; /* else it was drawn before: draw again */
    }
    return R2_OK;
}

r2_status r2_candidates_init(r2_ctx *ctx, r2_candidates *c, const r2_data *data,
                             const r2_target *targets, int64_t n_targets, int64_t n_negatives,
                             uint64_t seed) {
    r2_status status = R2_OK;
    uint64_t cells;
    memset(c, 0, sizeof *c);
    if (n_targets < 0 || n_negatives < 0)
        return r2_fail(ctx, R2_ARGUMENT, "candidates: negative count");
    c->n_cases = n_targets;
    c->n_per_case = n_negatives + 1;
    if (!r2_mul_u64((uint64_t)n_targets, (uint64_t)c->n_per_case, &cells)) cells = UINT64_MAX;
    c->user = (uint32_t *)r2_alloc(ctx, (uint64_t)n_targets, sizeof *c->user);
    c->item = (uint32_t *)r2_alloc(ctx, cells, sizeof *c->item);
    if (!c->user || !c->item) status = ctx->status;
    for (int64_t k = 0; k < n_targets && !status; ++k) {
        c->user[k] = targets[k].user;
        status = r2__draw_candidates(ctx, c->item + k * c->n_per_case, data, targets[k],
                                     n_negatives, seed);
    }
    if (status) r2_candidates_free(ctx, c);
    return status;
}

void r2_candidates_free(r2_ctx *ctx, r2_candidates *c) {
    if (!c) return;
    r2_release(ctx, c->user);
    r2_release(ctx, c->item);
    memset(c, 0, sizeof *c);
}

/* ============================================================================== [S3] graph ==== */

/* The user side: that of the data, or a copy of its training rows. */
static r2_status r2__graph_users(r2_ctx *ctx, r2_graph *g, const r2_data *data,
                                 const uint8_t *role) {
    int64_t to = 0;
    if (!role) {
        g->borrows_user_side = true;
        g->n_edges = data->n_ratings;
        g->user_begin = data->user_begin;
        g->user_item = data->item;
        g->user_rating = data->rating;
        g->user_time = data->time;
        return R2_OK;
    }
    for (int64_t k = 0; k < data->n_ratings; ++k) g->n_edges += role[k] == R2_TRAIN;
    g->user_begin = (int64_t *)r2_alloc(ctx, (uint64_t)g->n_users + 1, sizeof *g->user_begin);
    g->user_item = (uint32_t *)r2_resize(ctx, NULL, (uint64_t)g->n_edges, sizeof *g->user_item);
    g->user_rating = (float *)r2_resize(ctx, NULL, (uint64_t)g->n_edges, sizeof *g->user_rating);
    g->user_time = (int32_t *)r2_resize(ctx, NULL, (uint64_t)g->n_edges, sizeof *g->user_time);
    if (!g->user_begin || !g->user_item || !g->user_rating || !g->user_time) return ctx->status;
    for (int64_t u = 0; u < g->n_users; ++u) {
        for (int64_t k = data->user_begin[u]; k < data->user_begin[u + 1]; ++k) {
            if (role[k] != R2_TRAIN) continue;
            g->user_item[to] = data->item[k];
            g->user_rating[to] = data->rating[k];
            g->user_time[to++] = data->time[k];
        }
        g->user_begin[u + 1] = to;
    }
    return R2_OK;
}

/* The item side: a counting sort of the edges by item; going through the users in order leaves the
   users of each item ascending. */
static r2_status r2__graph_items(r2_ctx *ctx, r2_graph *g) {
    int64_t *begin = (int64_t *)r2_alloc(ctx, (uint64_t)g->n_items + 2, sizeof *begin);
    g->item_begin = begin;
    g->item_user = (uint32_t *)r2_resize(ctx, NULL, (uint64_t)g->n_edges, sizeof *g->item_user);
    g->item_edge = (uint32_t *)r2_resize(ctx, NULL, (uint64_t)g->n_edges, sizeof *g->item_edge);
    if (!begin || !g->item_user || !g->item_edge) return ctx->status;
    for (int64_t e = 0; e < g->n_edges; ++e) begin[g->user_item[e] + 2]++;
    for (int64_t i = 0; i < g->n_items; ++i) begin[i + 2] += begin[i + 1];
    for (int64_t u = 0; u < g->n_users; ++u)
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) {
            int64_t at = begin[g->user_item[e] + 1]++; /* ends as the begin of the next item */
            g->item_user[at] = (uint32_t)u;
            g->item_edge[at] = (uint32_t)e;
        }
    return R2_OK;
}

r2_status r2_graph_init(r2_ctx *ctx, r2_graph *graph, const r2_data *data, const uint8_t *role) {
    r2_status status;
    memset(graph, 0, sizeof *graph);
    if (data->n_ratings > UINT32_MAX)
        return r2_fail(ctx, R2_ARGUMENT, "expected fewer than 2^32 edges, found %lld",
                       (long long)data->n_ratings);
    graph->n_users = data->n_users;
    graph->n_items = data->n_items;
    graph->rating_min = data->rating_min;
    graph->rating_max = data->rating_max;
    status = r2__graph_users(ctx, graph, data, role);
    if (!status) status = r2__graph_items(ctx, graph);
    if (status) r2_graph_free(ctx, graph);
    return status;
}

void r2_graph_free(r2_ctx *ctx, r2_graph *graph) {
    if (!graph) return;
    if (!graph->borrows_user_side) {
        r2_release(ctx, graph->user_begin);
        r2_release(ctx, graph->user_item);
        r2_release(ctx, graph->user_rating);
        r2_release(ctx, graph->user_time);
    }
    r2_release(ctx, graph->item_begin);
    r2_release(ctx, graph->item_user);
    r2_release(ctx, graph->item_edge);
    memset(graph, 0, sizeof *graph);
}

int64_t r2_graph_user_degree(const r2_graph *graph, uint32_t user) {
    return graph->user_begin[user + 1] - graph->user_begin[user];
}

int64_t r2_graph_item_degree(const r2_graph *graph, uint32_t item) {
    return graph->item_begin[item + 1] - graph->item_begin[item];
}

int64_t r2_graph_find(const r2_graph *graph, uint32_t user, uint32_t item) {
    int64_t end = graph->user_begin[user + 1];
    int64_t at = r2__lower_bound(graph->user_item, graph->user_begin[user], end, item);
    return at < end && graph->user_item[at] == item ? at : -1;
}

/* ============================================================================= [S4] chains ==== */

r2_chain_config r2_chain_config_default(void) {
    r2_chain_config config;
    memset(&config, 0, sizeof config);
    config.law = R2_CHAINS_COHERENT;
    config.k = 4;
    config.distinct = true;
    config.shrink = 5.0f;
    config.seed = 1;
    return config;
}

#define R2__NO_ITEM UINT32_MAX /* never the number of an item */

/* Walks over the items that two users share, ascending, passing over `except`. */
typedef struct r2__common {
    const uint32_t *item;
    int64_t a, a_end, b, b_end; /* edges of u0 and of u1 */
    uint32_t except;
} r2__common;

static r2__common r2__common_make(const r2_graph *g, uint32_t u0, uint32_t u1, uint32_t except) {
    r2__common common;
    common.item = g->user_item;
    common.a = g->user_begin[u0];
    common.a_end = g->user_begin[u0 + 1];
    common.b = g->user_begin[u1];
    common.b_end = g->user_begin[u1 + 1];
    common.except = except;
    return common;
}

/* The next shared item as the edges e0 of u0 and e1 of u1; false when there is none left. */
static bool r2__common_next(r2__common *c, int64_t *e0, int64_t *e1) {
    while (c->a < c->a_end && c->b < c->b_end) {
        uint32_t x = c->item[c->a], y = c->item[c->b];
        *e0 = c->a;
        *e1 = c->b;
        c->a += x <= y;
        c->b += y <= x;
        if (x == y && x != c->except) return true;
    }
    return false;
}

/* c(u0,u1) without `except`. */
static int64_t r2__common_count(const r2_graph *g, uint32_t u0, uint32_t u1, uint32_t except) {
    r2__common common = r2__common_make(g, u0, u1, except);
    int64_t n = 0, e0, e1;
    while (r2__common_next(&common, &e0, &e1)) ++n;
    return n;
}

/* A u1, and how many chains lead over it. */
typedef struct r2__partner {
    uint32_t user;
    int32_t newest;  /* when u0 met the latest of the shared items       */
    float agreement; /* in (-1, 1)                                       */
    int64_t before;  /* chains over the partners before this one         */
} r2__partner;

/* All partners of a query. Target chains have one shared item (i0) each, closed chains two. */
typedef struct r2__partners {
    r2__partner *at; /* (n + 1); at[n].before is the number of all chains */
    int64_t n;
    uint32_t u0, target; /* target: R2__NO_ITEM for closed chains */
} r2__partners;

static void r2__partners_add(r2__partners *partners, uint32_t user, int64_t n_shared) {
    r2__partner *partner = &partners->at[partners->n];
    bool closed = partners->target == R2__NO_ITEM;
    int64_t n_chains = closed ? n_shared * (n_shared - 1) / 2 : n_shared;
    if (n_chains == 0) return;
    partner->user = user;
    partner[1].before = partner->before + n_chains;
    partners->n++;
}

/* U(target) without u0, and without those who share nothing else. */
static r2_status r2__partners_target(r2_ctx *ctx, const r2_graph *g, r2__partners *partners) {
    int64_t begin = g->item_begin[partners->target], end = g->item_begin[partners->target + 1];
    partners->at = (r2__partner *)r2_alloc(ctx, (uint64_t)(end - begin) + 1, sizeof(r2__partner));
    if (!partners->at) return ctx->status;
    for (int64_t k = begin; k < end; ++k) {
        uint32_t u1 = g->item_user[k];
        if (u1 == partners->u0) continue;
        r2__partners_add(partners, u1,
                         r2__common_count(g, partners->u0, u1, partners->target));
    }
    return R2_OK;
}

/* U_cand(u0): who shares at least two items, found by counting the ends of all paths of two edges. */
static r2_status r2__partners_closed(r2_ctx *ctx, const r2_graph *g, r2__partners *partners) {
    uint32_t *shared = (uint32_t *)r2_alloc(ctx, (uint64_t)g->n_users, sizeof *shared);
    int64_t begin = g->user_begin[partners->u0], end = g->user_begin[partners->u0 + 1], n = 0;
    if (!shared) return ctx->status;
    for (int64_t e = begin; e < end; ++e)
        for (int64_t k = g->item_begin[g->user_item[e]]; k < g->item_begin[g->user_item[e] + 1]; ++k)
            n += ++shared[g->item_user[k]] == 2;
    shared[partners->u0] = 0;
    partners->at = (r2__partner *)r2_alloc(ctx, (uint64_t)n + 1, sizeof(r2__partner));
    for (int64_t v = 0; v < g->n_users && partners->at; ++v)
        r2__partners_add(partners, (uint32_t)v, shared[v]);
    r2_release(ctx, shared);
    return partners->at ? R2_OK : ctx->status;
}

/* The chain over edges e1 .. e4 of the user side; e4 = -1: it is asked for. */
static r2_chain r2__chain_make(const r2_graph *g, const r2__partners *partners, uint32_t u1,
                               int64_t e1, int64_t e2, int64_t e3, int64_t e4) {
    r2_chain chain;
    chain.u0 = partners->u0;
    chain.i0 = g->user_item[e1];
    chain.u1 = u1;
    chain.i1 = g->user_item[e3];
    chain.r1 = g->user_rating[e1];
    chain.r2 = g->user_rating[e2];
    chain.r3 = g->user_rating[e3];
    chain.r4 = e4 < 0 ? NAN : g->user_rating[e4];
    chain.score = 0.0f;
    return chain;
}

/* ---- coherent chains ---- */

/* Fills in agreement and recency. Each shared item agrees by 1 - 2 |difference| / scale, in [-1, 1];
   the sum is divided by the number of items plus `shrink`, so that few items count for little. */
static void r2__partner_judge(const r2_graph *g, const r2__partners *partners, r2__partner *partner,
                              float shrink) {
    r2__common common = r2__common_make(g, partners->u0, partner->user, partners->target);
    const double scale = (double)g->rating_max - (double)g->rating_min;
    double sum = 0.0;
    int64_t n = 0, e0, e1;
    partner->newest = -1;
    for (; r2__common_next(&common, &e0, &e1); ++n) {
        double apart = fabs((double)g->user_rating[e0] - (double)g->user_rating[e1]);
        sum += scale > 0.0 ? 1.0 - 2.0 * apart / scale : 1.0;
        if (g->user_time[e0] > partner->newest) partner->newest = g->user_time[e0];
    }
    partner->agreement = (float)(sum / ((double)n + (double)shrink));
}

static int r2__partner_order(const void *left, const void *right) {
    const r2__partner *a = (const r2__partner *)left, *b = (const r2__partner *)right;
    if (a->agreement != b->agreement) return a->agreement > b->agreement ? -1 : 1;
    if (a->newest != b->newest) return a->newest > b->newest ? -1 : 1;
    return (a->user > b->user) - (a->user < b->user);
}

static bool r2__chain_has(const r2_chain *chains, int64_t n, uint32_t item) {
    for (int64_t k = 0; k < n; ++k)
        if (chains[k].i0 == item || chains[k].i1 == item) return true;
    return false;
}

/* The edges of the latest (by u0's time, then the smaller id) shared item that none of `chains` has
   and that is not `except` either; false when there is none. */
static bool r2__latest_shared(const r2_graph *g, const r2__partners *partners, uint32_t u1,
                              const r2_chain *chains, int64_t n, uint32_t except, int64_t *best0,
                              int64_t *best1) {
    r2__common common = r2__common_make(g, partners->u0, u1, partners->target);
    int64_t e0, e1;
    *best0 = -1;
    while (r2__common_next(&common, &e0, &e1)) {
        if (*best0 >= 0 && g->user_time[e0] <= g->user_time[*best0]) continue;
        if (g->user_item[e0] == except || r2__chain_has(chains, n, g->user_item[e0])) continue;
        *best0 = e0;
        *best1 = e1;
    }
    return *best0 >= 0;
}

/* The latest chain over u1 that repeats no i0 (closed: neither item) of `used`. */
static bool r2__latest_chain(const r2_graph *g, const r2__partners *partners, uint32_t u1,
                             const r2_chain *used, int64_t n_used, r2_chain *chain) {
    int64_t e1, e2, e3, e4 = -1;
    if (partners->target != R2__NO_ITEM) {
        e3 = r2_graph_find(g, u1, partners->target);
        /* r2__common never shows the target, so i1 of `used` excludes nothing here */
        if (!r2__latest_shared(g, partners, u1, used, n_used, R2__NO_ITEM, &e1, &e2)) return false;
    } else {
        if (!r2__latest_shared(g, partners, u1, used, n_used, R2__NO_ITEM, &e4, &e3)) return false;
        if (!r2__latest_shared(g, partners, u1, used, n_used, g->user_item[e4], &e1, &e2))
            return false;
    }
    *chain = r2__chain_make(g, partners, u1, e1, e2, e3, e4);
    return true;
}

static int64_t r2__chains_coherent(const r2_graph *g, r2__partners *partners,
                                   const r2_chain_config *config, r2_chain *chains) {
    int64_t n = 0;
    for (int64_t p = 0; p < partners->n; ++p)
        r2__partner_judge(g, partners, &partners->at[p], config->shrink);
    qsort(partners->at, (size_t)partners->n, sizeof *partners->at, r2__partner_order);
    for (int64_t p = 0; p < partners->n && n < config->k; ++p) {
        const int64_t first = config->distinct ? 0 : n; /* chains that may not be repeated */
        do {
            if (!r2__latest_chain(g, partners, partners->at[p].user, chains + first, n - first,
                                  &chains[n]))
                break;
            chains[n++].score = partners->at[p].agreement;
        } while (!config->distinct && n < config->k);
    }
    return n;
}

/* ---- drawn chains ---- */

/* Chain number x of all: which partner, and which of its chains. */
static r2_chain r2__chain_number(const r2_graph *g, const r2__partners *partners, int64_t x,
                                 r2_rng *rng) {
    int64_t low = 0, high = partners->n - 1, first, second, e1 = -1, e2 = -1, e3 = -1, e4 = -1, a, b;
    bool closed = partners->target == R2__NO_ITEM;
    uint32_t u1;
    r2__common common;
    while (low < high) { /* the last partner with before <= x */
        int64_t middle = high - (high - low) / 2;
        if (partners->at[middle].before <= x) low = middle;
        else high = middle - 1;
    }
    u1 = partners->at[low].user;
    first = x - partners->at[low].before;
    second = -1;
    if (closed) { /* pairs in the order 01 02 12 03 13 23 ...: row `second` starts at its triangle */
        second = (int64_t)((1.0 + sqrt(1.0 + 8.0 * (double)first)) / 2.0);
        while (second * (second - 1) / 2 > first) --second;
        while (second * (second + 1) / 2 <= first) ++second;
        first -= second * (second - 1) / 2;
    } else {
        e3 = r2_graph_find(g, u1, partners->target);
    }
    common = r2__common_make(g, partners->u0, u1, partners->target);
    for (int64_t k = 0; r2__common_next(&common, &a, &b); ++k) {
        if (k == first) e1 = a, e2 = b;
        if (k == second) e4 = a, e3 = b;
        if (k >= first && k >= second) break;
    }
    if (closed && r2_rng_below(rng, 2)) { /* a fair coin says which item is i1 */
        int64_t swap = e1;
        e1 = e4, e4 = swap;
        swap = e2, e2 = e3, e3 = swap;
    }
    return r2__chain_make(g, partners, u1, e1, e2, e3, e4);
}

/* Remembers numbers: true when x was not there yet. `slot` has n_slots (a power of two) zeros, at
   least twice as many as there will be numbers. */
static bool r2__first_time(uint64_t *slot, uint64_t n_slots, int64_t x) {
    uint64_t at = (uint64_t)x * 0x9E3779B97F4A7C15u;
    for (at ^= at >> 32;; ++at) {
        uint64_t *here = &slot[at & (n_slots - 1)];
        if (*here == (uint64_t)x + 1) return false;
        if (*here) continue;
        *here = (uint64_t)x + 1;
        return true;
    }
}

static int64_t r2__draw_number(const r2__partners *partners, r2_chain_law law, r2_rng *rng) {
    const r2__partner *partner;
    if (law == R2_CHAINS_UNIFORM)
        return (int64_t)r2_rng_below(rng, (uint64_t)partners->at[partners->n].before);
    partner = &partners->at[r2_rng_below(rng, (uint64_t)partners->n)];
    return partner->before + (int64_t)r2_rng_below(rng, (uint64_t)(partner[1].before -
                                                                  partner->before));
}

static r2_status r2__chains_draw(r2_ctx *ctx, const r2_graph *g, const r2__partners *partners,
                                 const r2_chain_config *config, r2_chain *chains, int64_t *n) {
    const int64_t total = partners->at[partners->n].before;
    const bool all = !config->replacement && config->k >= total;
    int64_t k = total == 0 ? 0 : all ? total : config->k;
    uint64_t *seen = NULL, n_slots = 2;
    r2_rng rng = r2_rng_make(config->seed, R2_STREAM_CHAINS,
                             (uint64_t)partners->u0 << 32 | partners->target);
    while (n_slots < 2 * (uint64_t)k) n_slots *= 2;
    if (!config->replacement && !all) {
        seen = (uint64_t *)r2_alloc(ctx, n_slots, sizeof *seen);
        if (!seen) return ctx->status;
    }
    for (*n = 0; *n < k; ++*n) {
        int64_t x = all ? *n : r2__draw_number(partners, config->law, &rng);
        while (seen && !r2__first_time(seen, n_slots, x))
            x = r2__draw_number(partners, config->law, &rng);
        chains[*n] = r2__chain_number(g, partners, x, &rng);
    }
    r2_release(ctx, seen);
    return R2_OK;
}

static r2_status r2__chains_find(r2_ctx *ctx, const r2_graph *g, uint32_t u0, uint32_t target,
                                 const r2_chain_config *config, r2_chain *chains, int64_t *n) {
    r2__partners partners;
    r2_status status;
    memset(&partners, 0, sizeof partners);
    *n = 0;
    if (u0 >= g->n_users || config->k < 0)
        return r2_fail(ctx, R2_ARGUMENT, "chains: no user %u, or k = %lld", u0,
                       (long long)config->k);
    partners.u0 = u0;
    partners.target = target;
    status = target == R2__NO_ITEM ? r2__partners_closed(ctx, g, &partners)
                                   : r2__partners_target(ctx, g, &partners);
    if (!status && config->law == R2_CHAINS_COHERENT)
        *n = r2__chains_coherent(g, &partners, config, chains);
    else if (!status)
        status = r2__chains_draw(ctx, g, &partners, config, chains, n);
    r2_release(ctx, partners.at);
    return status;
}

r2_status r2_chains_target(r2_ctx *ctx, const r2_graph *graph, uint32_t u0, uint32_t item,
                           const r2_chain_config *config, r2_chain *chains, int64_t *n_chains) {
    *n_chains = 0;
    if (item >= graph->n_items) return r2_fail(ctx, R2_ARGUMENT, "chains: no item %u", item);
    return r2__chains_find(ctx, graph, u0, item, config, chains, n_chains);
}

r2_status r2_chains_closed(r2_ctx *ctx, const r2_graph *graph, uint32_t u0,
                           const r2_chain_config *config, r2_chain *chains, int64_t *n_chains) {
    return r2__chains_find(ctx, graph, u0, R2__NO_ITEM, config, chains, n_chains);
}

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

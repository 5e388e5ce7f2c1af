/* r2rec.h - v0.1.0 - Reason-to-Recommend (R2Rec, arXiv 2506.05069) in one C header - MIT licence

   From who-rated-what to a recommendation with its reasons: choose interaction chains
   u0 -> i0 -> u1 -> i1 -> u0 from the user-item graph, write them as interaction-of-thought prompts
   by progressive masking, teach a small CPU transformer to reason over them (supervised
   fine-tuning, then reinforcement learning; by default on the last step of the masking, by
   step_share on all), rank items, and show the reasoning.

   QUICK START   in exactly one source file:

       #define R2REC_IMPLEMENTATION
       #include "r2rec.h"

   everywhere else the #include alone. Link with -lcjson -lm; add -fopenmp for threads.
   README.md has a short program, examples/movielens_demo.c the whole journey.

   CONTENTS      a room's title stands as `= [M3]`; search for that
       interface for readers     [A1] status, context  [A2] data  [A3] graph  [A4] chains
                                 [A5] questions  [A6] prompts and traces  [A7] words  [A8] model
                                 [A9] SFT  [A10] RL  [A11] evaluation  [A12] run
       interface for builders    [B1] memory, text, files, random numbers, threads  [B2] filters,
                                 splits, candidate sets  [B3] teachers, records  [B4] BPE
                                 [B5] ops  [B6] adapters, weights on disk  [B7] counterfactuals
       part one, the method      [M1] data  [M2] graph  [M3] chains  [M4] questions  [M5] prompts
                                 [M6] traces  [M7] model  [M8] SFT  [M9] RL  [M10] eval  [M11] run
       part two, the engine room [E1] base  [E2] loaders  [E3] filters, splits, candidate sets
                                 [E4] kernels  [E5] batched decoding  [E6] adapters
                                 [E7] on disk  [E8] text  [E9] scale and teams

   ONE QUESTION, from a rating to a loss (tests/test_cover.c computes every number)

       ratings     Ann  Alien 5, Heat 4      Cat  Heat 3, Fargo 5                    [M1] [M2]
                   Bob  Alien 5, Tron 4      Dan  Alien 4, Tron 5, Fargo 2
                   (in order of time; Ann's own rating of Tron, a 4, is held out:
                   it is what is asked)
       question    Ann has rated Alien, then Heat. Will she take Tron?               [M4]
       chain       Ann - Alien - Bob - Tron - Ann. Alien has age 1 in Ann's          [M3]
                   history (Heat 0), Tron came 1 after Alien in Bob's, and Bob is as
                   similar as 0.5^(1/10) / sqrt((2 + 1)(2 + 1)) = 0.311:
                   score 0.5^((1 + 1)/10) 0.311 = 0.271
       evidence    over all her chains to Tron: pop = 2, meanr = 4.22, next = 0.467  [M4]
                   (meanr: 4.5, drawn towards the mean of all ratings)
       prompt      <q> c1 age:2 own:2 sim:2 theirs:3 gap:1 took:2 ...                [M5]
                   ... pop:2 ... (36 words, two chains shown). Behind each colon
                   stands the bucket of the value, 1 the lowest
       reasoning   <think> hist:2 +0 =+0 uknn:1 +1 =+1 ...                           [M6]
                   ... path:1 +2 =+10 </think>
       answer      <answer> 4 </answer>: the answer of this training question,
                   learned from all facts, not computed from the total
       loss        a model of zero weights finds all words alike:                    [M7] [M8]
                   -log p(4) = log 178 = 5.182, with 178 words; training lowers it

   WHERE IS      (tests/test_cover.c looks each name up in its room)
       which chains are taken     r2_chain_law [A4], r2__choose_chains [M3]
       the asked edge hidden      of a test question: it is held out, in no graph at all:
                                  r2_question [A4]; of others: r2__without_target [M3]
       what step 2 masks          r2_schedule [A6], with a picture: progressive [M5]
       buckets and their edges    r2_codebook [A6], r2__fit_edges [M5]
       a faithful reasoning       r2_check_trace [A6], r2__check_thought [M6]
       negatives                  in training r2_questions_draw [A5], in tests r2_candidates [A2]
       batch, loss and weights    r2_sft_config [A9], r2__sft_sequence [M8], r2__sft_loss [M8]
       attention's backward       r2__attend_row_bwd [M7]
       rewards, equal ones too    r2_reward_config [A10], r2_advantages [A10]
       answers, scores of items   R2_N_ANSWERS [A5]; r2_score_kind [A11], r2__log_odds [M8]
       ties                       in time r2_split [A2], of chains r2_chain_law [A4], of scores
                                  r2_rank [A11]
       ratings of one's own       r2_format [A2]; then r2_run_init [A12], r2_run_sft [A12],
                                  r2_run_grpo [A12], r2_run_recommend [A12]
       a missing column           has_rating [A2], r2_format [A2]
       save, load, go on          r2_run_save [A12], r2_run_load_model [A12]; state_path [A9]
       the same bytes             DETERMINISM below; r2__add_parts [E9]

   OPTIONS       define before the #include of the implementation
       R2REC_IMPLEMENTATION   compile the bodies here (one source file of the program)
       R2_REFERENCE           build from part one's plain loops alone, without [E4] and [E5]: slow,
                              the specification that the fast engine is tested against
       R2_DEEP_EDGES          how many edges `deep` walks along at most ([A5])
       R2_MOST_PEOPLE         how many users of an item, about, sums over chains and coherent
                              chains go over in graphs of more than R2_DEEP_EDGES / 2 edges
                              ([A4], [A5])
       R2_MPI                 several processes by MPI ([E9]): compile with mpicc. Not defined:
                              MPI is not needed, and a team may be one's own (r2_team)
       R2_STB_DS_IMPLEMENTED  the program compiles the implementation of stb_ds itself. Then
                              tables take its realloc, and the program crashes when that fails.
                              Not defined: this header compiles it, with the context's memory

   ERRORS        every function that can fail returns r2_status; the context holds one sentence that
                 says what was wrong (of an input: file, line, expected, found). All that take
                 memory may fail with R2_NO_MEMORY, which is not said each time. A failed call
                 releases what it allocated. The library never exits, never prints, keeps no state
                 between calls.
   OWNERSHIP     r2_x_init / r2_x_load fill a struct that r2_x_free releases. Freeing a zeroed
                 struct is allowed. All memory comes from the context's allocator, except the trees
                 that cJSON makes while JSON is read: those come from cJSON's own.
   THREADS       ctx.n_threads (default: all processors). Same seed, same bytes, for any number of
                 threads. A context serves one caller at a time; two contexts are independent.
                 On busy machines set OMP_WAIT_POLICY=PASSIVE in the environment; on one of your
                 own OMP_PROC_BIND=true, so that two threads do not wake up on one processor.
   DETERMINISM   random numbers are Philox4x32-10, keyed by (seed, stream, index), never by thread.
                 Work is divided over outputs and over fixed parts of a batch, never by the
                 number of threads, or of processes (r2_team).
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

#if defined(__GNUC__) /* arguments are checked against the format */
#define R2__PRINTF(text, first) __attribute__((format(printf, text, first)))
#define R2__COLD                __attribute__((cold)) /* rarely called: short code around it */
#else
#define R2__PRINTF(text, first)
#define R2__COLD
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ######################################################## INTERFACE A: for readers ############ */

/* ================================================= [A1] status, context, memory of results ==== */

/* Result of a call. Every value but R2_OK comes with a sentence in r2_ctx.message. */
typedef enum r2_status {
    R2_OK = 0,
    R2_NO_MEMORY, /* the allocator returned NULL                                   */
    R2_IO,        /* a file cannot be opened, read or written                      */
    R2_FORMAT,    /* the content of an input breaks the rules of its format        */
    R2_ARGUMENT,  /* a parameter is out of its range, or a struct not initialised  */
    R2_CANCELLED, /* the progress hook asked to stop                               */
    R2_DIVERGED   /* training or a model came to a number that is none or infinite */
} r2_status;

/* Allocator hook: as realloc; size 0 frees, returns NULL. Several threads may call it at once. */
typedef void *(*r2_realloc_fn)(void *hook_data, void *ptr, size_t size);
/* Progress hook: `done` of `total` units are finished (0: unknown). Non-zero asks to stop. */
typedef int (*r2_progress_fn)(void *hook_data, const char *what, int64_t done, int64_t total);
/* Log hook: one line of text, without the newline. */
typedef void (*r2_log_fn)(void *hook_data, const char *line);

/* File hook, to watch files or to make an operation fail in a test: asked before every operation on
   the file `path` (a renamed one: its new name). Returns 0, or the error (errno.h) with which it
   fails instead; after EINTR it is tried again. May lower *size, the bytes of a READ or WRITE. */
typedef enum r2_file_op { /* SYNC: to the disk, before a rename */
    R2_FILE_OPEN = 0, R2_FILE_READ, R2_FILE_WRITE, R2_FILE_SYNC, R2_FILE_CLOSE, R2_FILE_RENAME,
    R2_FILE_REMOVE
} r2_file_op;
typedef int (*r2_file_fn)(void *hook_data, r2_file_op op, const char *path, size_t *size);

#define R2_MOST_THREADS 256

/* Several processes that do one job: each makes the same calls with the same arguments, computes
   its share (of the parts of a batch, outputs, evidence) and gets the others'. All have the bytes
   that one process has. Process 0 reads and writes files. With R2_MPI: r2_mpi_join [B1]. */
#define R2_MOST_RANKS 1024
typedef struct r2_team {
    int rank, size; /* process 0 .. size - 1 of so many, at most R2_MOST_RANKS       */
    /* Process r has bytes begin[r] .. begin[r + 1] - 1 of data; afterwards each has all.
       Returns false when a process is lost. */
    bool (*gather)(void *hook_data, void *data, const int64_t *begin);
    void *hook_data;
    r2_status ended; /* R2_OK, or why the team works no longer: set by the library */
} r2_team;

/* Settings of the caller, and the last error. Plain data that owns nothing: change any field. */
typedef struct r2_ctx {
    r2_realloc_fn realloc_fn; /* NULL: the C library's                    */
    r2_progress_fn progress;  /* NULL: silent                             */
    r2_log_fn log;            /* NULL: silent                             */
    r2_file_fn file;          /* NULL: every operation is done            */
    void *hook_data;          /* passed to the four hooks                 */
    int n_threads;            /* 1 .. R2_MOST_THREADS; more are not used  */
    r2_team *team;            /* NULL: this process works alone           */
    struct r2__crew *crew;    /* NULL, but within decoding                */
    r2_status status;         /* of the last failure                      */
    char message[480];        /* its sentence                             */
} r2_ctx;

/* A context with defaults: C allocator, no hooks, one thread per processor. */
r2_ctx r2_ctx_default(void);
/* Records `status` with a printf-style sentence, made r2_printable, and returns `status`. */
R2__COLD r2_status r2_fail(r2_ctx *ctx, r2_status status, const char *format, ...)
    R2__PRINTF(3, 4);
/* Replaces control characters but tabs by '?', in place: a terminal would obey them. In text that
   is not UTF-8, non-ASCII bytes are replaced too. */
void r2_printable(char *text);
/* A short name of `status`, for messages. */
const char *r2_status_name(r2_status status);
/* The end of a team's work, called by every process with its own status: a failure of one alone,
   such as a full disk, ends the others too. Returns the first failure, with its sentence. */
r2_status r2_team_end(r2_ctx *ctx, r2_status status);
/* Calls the progress hook. Returns R2_CANCELLED when it asked to stop, else R2_OK. */
r2_status r2_progress(r2_ctx *ctx, const char *what, int64_t done, int64_t total);
/* Sends a printf-style line to the log hook. */
void r2_log(r2_ctx *ctx, const char *format, ...) R2__PRINTF(2, 3);

/* Memory with one lifetime: many allocations, one free. Allocations are 64-byte aligned.

       blocks -> [ header | used ........ | free .... ] -> [ header | used ... | free ] -> NULL  */
typedef struct r2_arena {
    struct r2__arena_block *blocks; /* newest first */
    uint64_t used;                  /* bytes handed out since the last reset */
    uint64_t reserved;              /* bytes taken from the allocator        */
} r2_arena;

/* Memory of the growing lists and the hash tables (stb_ds) of one struct. */
typedef struct r2__owner {
    struct r2__block *blocks;
    bool failed; /* an allocation failed, the lists and tables were freed: free the struct */
} r2__owner;

/* A growing text; zeroed: empty. `data` is NUL-terminated after the first addition. Check `failed`
   once at the end: after a failed allocation, additions do nothing. */
typedef struct r2_text {
    char *data;
    size_t len, cap;
    bool failed;
} r2_text;

/* =============================================================================== [A2] data ==== */

/* Interactions as they stand in the files: one row per (user, item), sorted by user, then item.
   Users and items are numbered in the order in which they first appear. 12 bytes per row. */
typedef struct r2_data {
    int64_t n_users, n_items, n_ratings;
    int64_t *user_begin; /* (n_users + 1) rows of user u: user_begin[u] .. user_begin[u + 1] - 1 */
    uint32_t *item;      /* (n_ratings)                                                           */
    float *rating;       /* (n_ratings) in the file's own scale                                   */
    int32_t *time;       /* (n_ratings) seconds after time_zero, >= 0: differences never overflow */
    int64_t time_zero;   /* Unix seconds of the earliest interaction                              */
    char **user_key;     /* (n_users) ids of the files, NUL-terminated UTF-8: tables of stb_ds,   */
    char **item_key;     /* (n_items) searched by r2_data_user, r2_data_item                      */
    char **title;        /* (n_items) "" when unknown                                             */
    char **genres;       /* (n_items) separated by '|', "" when unknown                           */
    int16_t *year;       /* (n_items) of release, 0 when unknown                                  */
    float rating_min, rating_max; /* of the scale seen                                            */
    bool has_rating, has_time;    /* false: no such column, every rating is 1, every time 0       */
    bool was_counted;             /* r2_data_grade replaced counts by grades                      */
    int64_t n_duplicates; /* repeated (user, item) pairs; the latest by time was kept             */
    int64_t n_unrated;    /* records of the items file whose items nobody rated                   */
    int64_t n_not_rated;  /* rows left out, see r2_format.not_rated                               */
    char *items_error;    /* why the items file was not read to its end, or NULL */
    char *unused;         /* names of the ratings' columns that were not read, or NULL */
    int64_t n_dropped_rating, n_dropped_time, n_dropped_core; /* by r2_data_filter                */
    r2_arena text;                /* holds the strings */
    r2__owner owner;              /* holds user_key and item_key */
} r2_data;

/* Loads ratings, and titles where they are found. `path` is
   - a MovieLens directory: latest / 20M+ (ratings.csv, movies.csv), 1M / 10M (ratings.dat,
     movies.dat), 100K (u.data, u.item);
   - a RecBole directory NAME (NAME.inter, NAME.item) or a .inter file;
   - any file with one interaction per line, "-" for standard input: a table with or without a
     line of column names, or JSON Lines (Amazon 2018 and 2023). The first line decides which, see
     r2_format.
   Text that is not UTF-8 is read as latin-1; in memory all text is UTF-8. CRLF, a byte order mark,
   a missing last newline and blanks around ids and numbers are accepted; a quoted field must end on
   its line. Every line has as many fields as the first, else the load ends. Times are numbers or
   dates: 2011-03-04, 2011-03-04T08:30:00+01:00, UTC without a zone. Titles that cannot be read do
   not cost the ratings: see items_error. Loading takes about 32 bytes per interaction. Errors:
   R2_IO, R2_FORMAT (file, line, expected, found), R2_CANCELLED. */
r2_status r2_data_load(r2_ctx *ctx, r2_data *data, const char *path);

/* Format of a ratings file. A zeroed field: detected from the first line. */
typedef struct r2_format {
    /* One or two bytes; if the first is , or ; fields may be in double quotes. NULL: "::", else a
       tab, else the most frequent of , ; and |, else a blank. Several blanks separate as one. */
    const char *separator;
    /* Columns: a name, or a number from "1"; JSON keys: always a name; rating and time: "-" if
       there is none. The first line must have each column that is given here. NULL: the usual names
       ("userId", "user_id:token", "reviewerID", ...). A first line without such names: columns 1 to
       4 are user, item, rating and time, provided that there are four at most, 3 holds numbers and
       4 times. A file whose user, item or rating remains unclear is refused; a column of times
       with an unusual name is not read, and is among r2_data's `unused`. What a missing column
       does: see has_rating, has_time. */
    const char *user, *item, *rating, *time;
    /* File with id, title, genres, year, by the same rules; NULL: the one beside the ratings. */
    const char *items;
    /* In seconds, 10^-12 to 10^9; 0: numbers of 10^11 and more are milliseconds, others seconds. */
    double time_unit;
    /* A rating that means not rated: "-1", "0", "NA". Rows with it are left out. NULL: none. */
    const char *not_rated;
} r2_format;

/* Loads several paths, each as in r2_data_load, into one r2_data; `format` NULL: a zeroed one.
   Further errors: R2_ARGUMENT (no path, length of the separator, time_unit). */
r2_status r2_data_load_files(r2_ctx *ctx, r2_data *data, const char *const *paths, int64_t n_paths,
                             const r2_format *format);
void r2_data_free(r2_ctx *ctx, r2_data *data);

/* Row of (user, item) in the arrays above, or -1. O(log degree). */
int64_t r2_data_find(const r2_data *data, uint32_t user, uint32_t item);
/* Index of a user or item by the id of the files, or -1. O(1). */
int64_t r2_data_user(const r2_data *data, const char *key);
int64_t r2_data_item(const r2_data *data, const char *key);

/* Use of an interaction. R2_UNUSED: it comes after the validation positive. */
typedef enum r2_role { R2_TRAIN = 0, R2_VALID, R2_TEST, R2_UNUSED } r2_role;

/* A held-out positive, which leads a set of candidates. (Elsewhere the target is the item that is
   asked for, i*.) */
typedef struct r2_target {
    uint32_t user, item;
    int64_t row; /* in r2_data */
} r2_target;

/* Leave-one-out by time (D12). */
typedef struct r2_split_config {
    float min_positive; /* ratings from here on are positives; 0: 0.8 x the largest rating */
    uint64_t seed;      /* of the tie rule */
} r2_split_config;

/* The tie rule: interactions of one user at the same second are ordered by
   r2_hash(seed, h(user_key), h(item_key)), h = 64-bit FNV-1a: neither by the numbers of items,
   which correlate with popularity, nor by the order of rows in the file. */
typedef struct r2_split {
    r2_split_config config;  /* with the default of min_positive filled in                      */
    uint8_t *role;           /* (n_ratings) an r2_role per row of r2_data                       */
    int64_t *by_time;        /* (n_ratings) rows, each user's in order of time and the tie rule */
    r2_target *test, *valid; /* (n_test), (n_valid) ascending user; leave-one-out: same users   */
    int64_t n_test, n_valid, n_train;
    int64_t n_cold_test, n_cold_valid; /* targets behind these that r2_split_warm set aside */
    int64_t n_time_ties; /* users with more than one interaction at their last second */
} r2_split;

r2_split_config r2_split_config_default(void);
/* Per user, in the order by_time: the last interaction with rating >= min_positive is the test
   positive, the one before it the validation positive. Interactions from the validation positive on
   are not trained on. Users without two positives after a training interaction keep all their
   interactions in training. `config` NULL: the default. */
r2_status r2_split_init(r2_ctx *ctx, r2_split *split, const r2_data *data,
                        const r2_split_config *config);
/* Warm items (D12) have min_train training interactions of other users; a cold one would be known
   by that alone. Sets aside the targets whose item is not warm: n_test and n_valid shrink, and
   these targets stand behind the others. Call after r2_split_thin. */
r2_status r2_split_warm(r2_ctx *ctx, r2_split *split, const r2_data *data, int64_t min_train);
/* Keeps at most n validation and n test targets, evenly spaced among them. The interactions of the
   others are still not trained on. */
void r2_split_thin(r2_split *split, int64_t n);
void r2_split_free(r2_ctx *ctx, r2_split *split);

/* Frozen candidate sets: column 0 is the positive, the others are distinct negatives, items that
   the user never interacted with in all data (D12). Training draws its own: r2_questions_draw. */
typedef struct r2_candidates {
    int64_t n_cases, n_per_case; /* n_per_case = 1 + r2_negatives.n */
    uint32_t *user;              /* (n_cases)              */
    uint32_t *item;              /* (n_cases, n_per_case)  */
} r2_candidates;

/* Which negatives. Zeroed but for n and seed: uniform over the catalogue. */
typedef struct r2_negatives {
    int64_t n; /* of each positive */
    uint64_t seed;
    bool popular;           /* in proportion to the number of interactions of an item           */
    const r2_split *warm; /* only items that are warm in this split, which is harder; NULL: all  */
    int64_t min_train;    /* what warm means: at least so many training interactions             */
} r2_negatives;

/* Draws one case per target, which depends only on (seed, user, item). Users with fewer than n such
   items left get no case: n_cases may be less than n_targets. Errors: R2_ARGUMENT (n or n_targets <
   0; targets, but no user with n such items; popular with warm). */
r2_status r2_candidates_init(r2_ctx *ctx, r2_candidates *c, const r2_data *data,
                             const r2_target *targets, int64_t n_targets,
                             const r2_negatives *negatives);
void r2_candidates_free(r2_ctx *ctx, r2_candidates *c);

/* ============================================================================== [A3] graph ==== */

/* The bipartite graph of some interactions, both ways: an edge e is a row of the user side; the
   item side points back to it. 20 bytes an edge, 8 when the user side is r2_data's own.

       user_begin  u ->  | e0 e1 e2 |      user_item[e], user_rating[e], user_time[e]
       item_begin  i ->  | k0 k1 |         item_user[k], item_edge[k] = e of (item_user[k], i)  */
typedef struct r2_graph {
    int64_t n_users, n_items, n_edges;
    int64_t *user_begin;          /* (n_users + 1)                                  */
    uint32_t *user_item;          /* (n_edges) ascending within a user              */
    float *user_rating;           /* (n_edges)                                      */
    int32_t *user_time;           /* (n_edges) seconds after the data's time_zero   */
    int64_t *item_begin;          /* (n_items + 1)                                  */
    uint32_t *item_user;          /* (n_edges) ascending within an item             */
    uint32_t *item_edge;          /* (n_edges) index into the user side             */
    float rating_min, rating_max; /* of the data's scale, whatever the edges are     */
    bool borrows_user_side;       /* role was NULL: the user side belongs to r2_data */
} r2_graph;

/* The graph of the rows of `data` with role[row] == R2_TRAIN; `role` NULL: of all rows, and `data`,
   whose user side it borrows, must outlive it. Users and items keep their numbers. Errors:
   R2_ARGUMENT (2^32 edges or more). */
r2_status r2_graph_init(r2_ctx *ctx, r2_graph *graph, const r2_data *data, const uint8_t *role);
void r2_graph_free(r2_ctx *ctx, r2_graph *graph);
int64_t r2_graph_user_degree(const r2_graph *graph, uint32_t user);
int64_t r2_graph_item_degree(const r2_graph *graph, uint32_t item);
/* Edge of (user, item) on the user side, or -1. O(log degree). */
int64_t r2_graph_find(const r2_graph *graph, uint32_t user, uint32_t item);

/* Butterflies (2 x 2 bicliques): two users, two items, all four edges. Each has two users and four
   edges, so sum(user) = 2 total and sum(edge) = 4 total. */
typedef struct r2_butterflies {
    int64_t total;
    int64_t *user; /* (n_users) also the closed chains that start at this user */
    int64_t *edge; /* (n_edges) by edge of the graph's user side               */
} r2_butterflies;

/* Counts all butterflies exactly, in about 2 min(sum of n_u^2, sum of n_i^2) steps. Takes 8 bytes
   per edge and per user, and 4 per vertex and thread while it runs. */
r2_status r2_butterflies_init(r2_ctx *ctx, r2_butterflies *b, const r2_graph *graph);
void r2_butterflies_free(r2_ctx *ctx, r2_butterflies *b);

/* ============================================================================= [A4] chains ==== */

/* u0 -> i0 -> u1 -> i1 -> u0: a closed walk over four edges, a butterfly of the graph seen from u0.

           i0              e1 = (u0,i0)  u0's rating of i0         r1
        e1/  \e2           e2 = (u1,i0)  u1's rating of i0         r2
         u0    u1          e3 = (u1,i1)  u1's rating of i1         r3
        e4\  /e3           e4 = (u0,i1)  closes the chain: asked   r4
           i1 */
typedef struct r2_chain {
    uint32_t u0, i0, u1, i1;
    float r1, r2, r3, r4; /* ratings of e1 .. e4; r4 is NAN when e4 is what is asked */
    float score;          /* see r2_chain_law                                        */
} r2_chain;

/* What a distance |d| in somebody's history is worth. */
typedef struct r2_fade {
    float half5, half30; /* 0.5^(|d|/5), 0.5^(|d|/30) */
    float inverse;       /* 1 / |d|                   */
} r2_fade;

/* What chains and evidence are computed from: a training graph, its order in time, its items. */
typedef struct r2_index {
    const r2_graph *graph; /* borrowed */
    uint32_t *position;    /* (n_edges) place of an edge in its user's history, 0 the earliest */
    int64_t *by_time;      /* (n_edges) each user's edges in order of time                     */
    int64_t *rank;         /* (n_edges) place of an edge among all edges in order of time      */
    uint32_t *by_rank;     /* (n_edges) all edges in order of time                             */
    uint64_t seed;         /* of the tie rule                                                  */
    float *user_mean;      /* (n_users) mean rating                                            */
    double *inv_root;      /* (n_users) 1 / sqrt(n_v)                                          */
    float *half10;         /* (2 x longest history) by age + |d|: 0.5^((age + |d|)/10)         */
    r2_fade *fade;         /* (longest history) by |d|                                         */
    float *fade_share;     /* (n_edges) at user_begin[v] + |d|: 0.5^(|d|/(0.05 n_v))           */
    double rating_sum;
    int64_t degree_square; /* sum over items of n_i^2, all users counted                       */
    int64_t stride;        /* s: every s-th user takes part in `deep`                          */
    int64_t most_people;   /* R2_MOST_PEOPLE, or all users                                     */
    uint32_t *key;         /* (n_users) a hash of each: who has the smallest of an item is kept */
    float min_positive;
    uint64_t *genres;      /* (n_items) a bit for each genre, 0 when unknown */
    int16_t *year;         /* (n_items) 0 when unknown                       */
    r2_arena memory;       /* holds all arrays                               */
} r2_index;

/* Builds an index. `seed`, that of the split, orders ties in time. `data` need not outlive it. */
r2_status r2_index_init(r2_ctx *ctx, r2_index *index, const r2_graph *graph, const r2_data *data,
                        float min_positive, uint64_t seed);
void r2_index_free(r2_ctx *ctx, r2_index *index);
/* How many edges are not before the interaction (user, item) of `data`, held-out or not, in time
   and the tie rule: `future` of a question that asks for it; 0: there is no such interaction. */
int64_t r2_index_future(const r2_index *index, const r2_data *data, uint32_t user, uint32_t item);

#define R2_NO_ITEM UINT32_MAX /* in place of an item: none */

/* In a graph of more than R2_DEEP_EDGES / 2 edges not everybody is walked to. Of n > R2_MOST_PEOPLE
   users of an item i*, u0 not counted, about R2_MOST_PEOPLE are kept: those whose key, a hash of
   the user alone, is at most R2_MOST_PEOPLE / n of the largest. So the same people speak for all
   popular items, and what the draw gets wrong is alike for all. */
#ifndef R2_DEEP_EDGES
#define R2_DEEP_EDGES (1 << 19)
#endif
#ifndef R2_MOST_PEOPLE
#define R2_MOST_PEOPLE 64
#endif

/* What is asked: would `user`, after its first `n_history` interactions of the graph, take `item`?
   If the graph has the edge (user, item), as it has for a training question, it is hidden: all
   results are as if it did not exist (D2); a history that holds it is one interaction shorter.
   Held-out interactions are not in the graph at all.

   Of the graph's edges, anybody's, the last `future` are still to come; evidence of popularity
   lately looks at those before them. All questions about one held-out interaction, the sampled
   items too, have its moment: a test tells a model when a user came, and never what for.

   A question about a step of a chain (r2_question_of_step) hides more. */
typedef struct r2_question {
    uint32_t user, item;
    int32_t n_history;
    int32_t answer; /* 0 .. 5: guidance for training, never shown; -1 unknown           */
    int32_t step;   /* 1 .. 3: asks for edge e_step of a chain; 0 or 4: plain           */
    uint32_t other_user, other_item; /* steps 1 .. 3: the chain's other person and item */
    int64_t future; /* edges not before the moment of the question; 0: it is asked now  */
} r2_question;

/* How chains are chosen (D1, D3): by their score, or drawn. COHERENT and UNIFORM_USERS take at most
   one chain over each person u1. Whatever the law, the score of a chain is

       0.5^((age + |d|)/10) simrec(u1)

   age: how many interactions of u0 lie between i0 and the question (in a closed chain: and i1);
   d: signed steps from i0 to i1 in u1's history; simrec(v): the sum over the items i0 that v shares
   with u0's history of 0.5^(age/10) / sqrt((n_i0 + 1)(n_v + 1)), n degrees without u0, ages here
   counted from the end of the history. Equal age + |d| and simrec give equal scores, to the bit. */
typedef enum r2_chain_law {
    R2_CHAINS_COHERENT = 0, /* the best chain of each u1, best first; in large graphs only of the u1
                               who are kept (R2_MOST_PEOPLE). Ties: the smaller u1; for one u1 the
                               smallest age + |d|, then the earlier i0. Nothing is random */
    R2_CHAINS_UNIFORM,      /* k different chains, every chain equally likely                    */
    R2_CHAINS_UNIFORM_USERS /* k different u1, every u1 that has a chain equally likely, and of
                               each a uniform chain                                              */
} r2_chain_law;

typedef struct r2_chain_config {
    r2_chain_law law; /* default R2_CHAINS_COHERENT */
    int64_t k;     /* chains wanted (3)                                                          */
    uint64_t seed; /* of the draws, which depend on (seed, user, item) alone. To draw with
                      replacement, draw single chains with different seeds                       */
} r2_chain_config;

r2_chain_config r2_chain_config_default(void);

/* Target chains (D2): up to config->k chains with i1 = question->item, i0 in the question's history
   and u1 another user of both: those that r2_evidence_compute shows for the same question and
   config. `chains` has room for k; *n_chains of them exist. Errors: R2_ARGUMENT. */
r2_status r2_chains_target(r2_ctx *ctx, const r2_index *index, const r2_question *question,
                           const r2_chain_config *config, r2_chain *chains, int64_t *n_chains);
/* Closed chains (D1): up to config->k chains over four observed edges, u0's whole history. u1
   shares two items or more with u0. i1 is the item that u0 took later, so a chain and its mirror
   are one. Errors: R2_ARGUMENT. */
r2_status r2_chains_closed(r2_ctx *ctx, const r2_index *index, uint32_t user,
                           const r2_chain_config *config, r2_chain *chains, int64_t *n_chains);
/* How many target chains a question has; with item R2_NO_ITEM, how many closed chains its user has
   within the history. Errors: R2_ARGUMENT. */
r2_status r2_chains_count(r2_ctx *ctx, const r2_index *index, const r2_question *question,
                          int64_t *count);

/* ============================================================= [A5] questions and evidence ==== */

/* Evidence: what u0, i* and all target chains u0 -> i0 -> u1 -> i* between them say, one number a
   field, and the few chains worth showing. Fields stand in the order of the paper's steps, three to
   a thought: step k describes edge e_k of the chain; step 4 weighs the best person and the shown
   chains, which close on the question. Of u0 only the first n_history interactions count; the edge
   (u0, i*) and its rating enter no number (D2).

   In the formulas: i* the item asked for, v any user; n_i, n_v degrees without u0; pos place in a
   user's own history; age = n_history - 1 - pos (0: the latest); d = pos(u1, i*) - pos(u1, i0),
   signed steps in u1's history; N the number of all interactions, of which `clock` = N - future are
   before the question; ago = clock - rank in time; only fresh, trend and season heed the clock, all
   else counts what others did later, too; simrec as in r2_chain_law, simidf the same
   without the age. A `link` is
       sum over chains of 0.5^(age/h) kernel(d, r) / sqrt(n_i0 (n_i* + 1) + 10).
   `a` solves (K + ridge) a = c, with K(v,w) the cosine of the items of v and w, c_v that of the
   history and v's items, u0 left out: R2_DEEP_STEPS steps of conjugate gradients from 0, so what u0
   shares with v is corrected for what others share with both, over ever longer chains (D4; closely
   related to ridge regression). ridge = (1 + sqrt(users / items))^2 is the largest eigenvalue that
   cosines of users who choose at random have (Marchenko and Pastur 1967), so that noise is not
   trusted; items is their effective number, (sum n_i)^2 / sum n_i^2; u0 counts in neither. `deep`
   ignores the order in time. K itself is never formed: a step walks from the users to their items
   and back, along each edge twice.

   Two bounds keep large data as quick as small (what they cost: PAPER_NOTES). In a graph of more
   than R2_DEEP_EDGES edges only every s-th user takes part in `deep`, s = edges / R2_DEEP_EDGES
   rounded up: every 4th user costs up to .01 of HR@1. In one of more than half as many edges, what
   is summed over chains, and `shared`, `pred` and `path`, comes from the users of i* who are kept
   (R2_MOST_PEOPLE); sums count n_i* / kept times, which costs less.
   X(name, step, buckets, formula). A value of 0 or NaN means that there is nothing to count. */
#define R2_EVIDENCE_FIELDS(X)                                                                      \
    X(hist, 1, 10, "length of the history")                                                        \
    X(genre, 1, 10, "cosine of i*'s genres and the history's, weighted 0.5^(age/10)")              \
    X(era, 1, 10, "year of i* minus the history's mean year, weighted 0.5^(age/10), + 0.5")        \
    X(shared, 2, 10, "share of the users of i* who share two items or more with u0")               \
    X(uknn, 2, 10, "share of the summed simrec^2 of the 50 nearest users that has i*")            \
    X(deep, 2, 20, "sum over users v of i* of a_v / sqrt(n_v): chains over up to 4 people")        \
    X(pop, 3, 10, "users of i*")                                                                   \
    X(meanr, 3, 10, "mean rating of i*, shrunk to the global mean as by 5 ratings")                \
    X(pred, 3, 10, "simidf-weighted rating of i* above each user's mean, shrunk as by 0.05 of 0")  \
    X(fresh, 3, 10, "clock minus the first rank of i*, share of N")                                \
    X(trend, 3, 10, "sum over the users of i* before the clock of 0.5^(ago/(0.01 N))")             \
    X(season, 3, 10, "the same of 0.5^(ago/(0.1 N))")                                              \
    X(liked, 3, 10, "link with kernel 1 [r(u1, i*) is a positive], h = 10")                        \
    X(link, 3, 10, "link with kernel 0.5^(|d|/30), h = 10")                                        \
    X(rel, 3, 10, "link with kernel 0.5^(|d|/(0.05 n_u1)), h = 3")                                 \
    X(next, 3, 10, "link with kernel 1 [1 <= d <= 10], h = 10")                                    \
    X(near3, 3, 10, "link with kernel 1/|d|, h = 3")                                               \
    X(near1, 3, 10, "link with kernel 1/|d|, h = 1")                                               \
    X(path, 4, 10, "largest over u1 of the sum over i0 with d > 0 of 0.5^(age/5) 0.5^(d/5)")       \
    X(c1, 4, 10, "score of the first chain shown")                                                 \
    X(c2, 4, 10, "score of the second chain shown")

/* Facts of one shown chain, two for each edge seen. */
#define R2_CHAIN_FIELDS(X)                                                                         \
    X(age, 7, "age of i0, + 1 so that the latest counts")                                          \
    X(own, 6, "u0's rating of i0")                                                                 \
    X(sim, 7, "simrec of u1")                                                                      \
    X(theirs, 6, "u1's rating of i0")                                                              \
    X(gap, 9, "d: how long after i0 u1 took i*")                                                   \
    X(took, 6, "u1's rating of i*")

typedef enum r2_field {
#define R2__X(name, step, buckets, formula) R2_FIELD_##name,
    R2_EVIDENCE_FIELDS(R2__X)
#undef R2__X
#define R2__X(name, buckets, formula) R2_FIELD_##name,
    R2_CHAIN_FIELDS(R2__X)
#undef R2__X
    R2_N_FIELDS,
    R2_FIRST_CHAIN_FIELD = R2_FIELD_age
} r2_field;

#define R2_DEEP_STEPS 4
#define R2_STEP_CHAIN 0      /* the step of a chain's own fields: shown, not cited             */
#define R2_FACTS_PER_THOUGHT 3 /* a thought weighs this many facts and cites the decisive one  */
#define R2_N_THOUGHTS (R2_FIRST_CHAIN_FIELD / R2_FACTS_PER_THOUGHT)
#define R2_N_CHAIN_FIELDS (R2_N_FIELDS - R2_FIRST_CHAIN_FIELD)
#define R2_MAX_CHAINS 8 /* shown in one prompt */

const char *r2_field_name(r2_field field);
const char *r2_field_formula(r2_field field);
int32_t r2_field_step(r2_field field);    /* 1 .. 4, or R2_STEP_CHAIN */
int32_t r2_field_buckets(r2_field field); /* quantile buckets wanted   */

/* Answers: 0 = would not interact, 1 .. 5 = the rating on five levels of any scale (D8). */
#define R2_N_ANSWERS 6
/* Level 1 .. 5 of a rating: round to nearest on the way from the scale's minimum to its maximum. */
int32_t r2_answer_level(float rating, float rating_min, float rating_max);

/* The question that edge e_step of a chain asks (D5):

       step 1   u0 about i0        step 3   u1 about i1
       step 2   u1 about i0        step 4   u0 about i1, the plain question

   each after what that user did before the interaction in question; at step 4, when the graph does
   not have e4, after the user's whole history. The answer is the level of r_step (-1 if NAN).

   A question at step k = 1 .. 3 hides the edges e_k .. e4, which it has not revealed, and leaves
   the chain's other person out of all counts, chains and means of the item: nothing computed for it
   depends on these edges or their ratings. (Other edges of this person still count in the global
   mean rating and in the ranks in time.) Errors: R2_ARGUMENT. */
r2_status r2_question_of_step(r2_ctx *ctx, const r2_index *index, const r2_chain *chain,
                              int32_t step, r2_question *question);

/* A question with its evidence. n_history: interactions that were used, hidden ones left out. */
typedef struct r2_evidence {
    uint32_t user, item;
    int32_t n_history, answer, n_chains;
    int32_t step; /* 1 .. 3: about edge e_step of the first chain; 0 or 4: a question of its own */
    float value[R2_FIRST_CHAIN_FIELD];
    struct {
        r2_chain chain; /* r4 is NAN: it is the question */
        float value[R2_N_CHAIN_FIELDS];
    } chain[R2_MAX_CHAINS]; /* at steps 1 .. 3 those of the question that the chains lead to */
} r2_evidence;

/* Computes evidence[q] for question[q], with the chains of r2_chains_target, at most R2_MAX_CHAINS.
   Fastest when questions of the same (user, n_history) stand together. Errors: R2_ARGUMENT. */
r2_status r2_evidence_compute(r2_ctx *ctx, const r2_index *index, const r2_question *question,
                              int64_t n, const r2_chain_config *chains, r2_evidence *evidence);
/* The evidence of an earlier step (D5): evidence[q], that of a question with chains, becomes that
   of the question r2_question_of_step about its first chain; the chains stay. Errors: R2_ARGUMENT
   (step not 1 .. 3, no chain), those of r2_evidence_compute; then evidence is unchanged. */
r2_status r2_evidence_of_step(r2_ctx *ctx, const r2_index *index, int32_t step, int64_t n,
                              const r2_chain_config *chains, r2_evidence *evidence);

/* Which training questions to draw. */
typedef struct r2_draw_config {
    int64_t n_groups;    /* >= 1                                                  */
    int32_t n_sampled;   /* unobserved items of a group, answer 0 (D8)            */
    int32_t min_history; /* interactions of the user before the one that is asked, or half of all
                            that the user has when that is less                  */
    int64_t min_train;   /* every item that is asked for is warm: r2_split_warm  */
    uint64_t seed;
} r2_draw_config;

/* Draws training questions in groups: an observed interaction of the training graph, then n_sampled
   different items that the user has no training edge with (repeated where there are fewer). Groups
   are spread evenly over the users and ask for the latest interactions of each. question (n_groups,
   1 + n_sampled). *n_drawn: groups, as many as the data have. Errors: R2_ARGUMENT (also: none). */
r2_status r2_questions_draw(r2_ctx *ctx, const r2_index *index, const r2_draw_config *config,
                            r2_question *question, int64_t *n_drawn);

/* ================================================================= [A6] prompts and traces ==== */

/* ---- buckets and weights ---- */

#define R2_MAX_BUCKETS 21 /* of one field, the bucket "-" (nothing to count) included */
#define R2_MAX_WEIGHT  9  /* largest absolute weight of a fact   */
#define R2_MAX_TOTAL   24 /* largest absolute running total      */

/* The words for evidence: quantile buckets of each field, over the observed and as many sampled
   training questions, and the weight of each bucket. */
typedef struct r2_codebook {
    int32_t n_bucket[R2_N_FIELDS];              /* bucket 0 is written "-": zero or unknown  */
    float edge[R2_N_FIELDS][R2_MAX_BUCKETS];    /* b > 0 ends below edge[b], the last nowhere */
    int8_t weight[R2_N_FIELDS][R2_MAX_BUCKETS]; /* log of a ratio of shares, clipped: [M5]   */
    int32_t n_chains;                           /* shown in a prompt                         */
} r2_codebook;

/* Fits buckets and weights to n questions; observed[q] says whether question q asks for an observed
   item (else a sampled one). Errors: R2_ARGUMENT (n_chains; no observed or no sampled question). */
r2_status r2_codebook_fit(r2_ctx *ctx, r2_codebook *codebook, const r2_evidence *evidence,
                          const uint8_t *observed, int64_t n, int32_t n_chains);
/* Bucket of a value, 0 .. n_bucket[field] - 1. */
int32_t r2_codebook_bucket(const r2_codebook *codebook, r2_field field, float value);

/* ---- prompts ---- */

/* Compact words serve the small model, English serves people and language models. */
typedef enum r2_words { R2_WORDS_COMPACT = 0, R2_WORDS_ENGLISH, R2_N_WORDS } r2_words;

/* Masking schedules (D5): what a prompt shows of the edges of its chains. Step k asks about edge
   e_k and its rating, and states the evidence about e_k; step 4 is the question itself. */
typedef enum r2_schedule {
    R2_MASK_PROGRESSIVE = 0, /* steps 1 .. 4: e1 .. e(k-1) rated, e_k masked, the rest hidden     */
    R2_MASK_FINAL_ONLY,      /* one step: e1, e2, e3 with their ratings, e4 masked                */
    R2_MASK_ALL,             /* one step: four edges named, every rating masked                   */
    R2_MASK_NONE,            /* one step: nothing masked, the control; closed chains show r4, too */
    R2_N_SCHEDULES
} r2_schedule;

typedef enum r2_visibility { R2_HIDDEN = 0, R2_MASKED, R2_SHOWN } r2_visibility;

#define R2_STEP_ASK 4 /* the last step: the question itself */

const char *r2_words_name(r2_words words);   /* "compact", "english"                */
const char *r2_schedule_name(r2_schedule schedule);   /* "progressive", "final-only", ...    */
int32_t r2_schedule_first_step(r2_schedule schedule); /* the last is R2_STEP_ASK             */
/* What a schedule shows of edge 1 .. 4 at a step. An e4 without a rating is the question: no
   prompt shows it, whatever the schedule. */
r2_visibility r2_schedule_visibility(r2_schedule schedule, int32_t step, int32_t edge);

/* Compact prompts need a codebook; English ones need data, and state the evidence only with a
   codebook. Both are borrowed. */
typedef struct r2_prompt_config {
    r2_words words;
    r2_schedule schedule;
    const r2_data *data;
    const r2_codebook *codebook;
    int64_t max_tokens; /* 0: no limit; else the last chains are left out until system and user
                           text fit. A token is a word when compact, four bytes in English */
} r2_prompt_config;

typedef struct r2_prompt {
    r2_text system, user; /* compact: user alone */
    int32_t n_shown, n_left_out;
} r2_prompt;

r2_prompt_config r2_prompt_config_default(void); /* compact, progressive */
/* Writes the prompt of evidence->step: depends only on its arguments and never reads
   evidence->answer. `prompt` is zeroed or an earlier one, whose memory is used again. Errors:
   R2_ARGUMENT (a step that the schedule does not have; steps 1 .. 3 without a chain; codebook or
   data missing; a limit that cannot be met). */
r2_status r2_prompt_build(r2_ctx *ctx, const r2_prompt_config *config, const r2_evidence *evidence,
                          r2_prompt *prompt);
void r2_prompt_free(r2_ctx *ctx, r2_prompt *prompt);
/* Adds the compact prompt of evidence->step in the progressive schedule: [M5]. */
void r2_prompt_compact(r2_ctx *ctx, const r2_codebook *codebook, const r2_evidence *evidence,
                       r2_text *text);

/* ---- traces ---- */

/* The rule-based teacher. */
typedef struct r2_teacher_config {
    float gumbel; /* noise in the choice of facts: RL needs traces that differ (0: none) */
    uint64_t seed;
} r2_teacher_config;

r2_teacher_config r2_teacher_config_default(void);
/* Adds the trace of the rule-based teacher for a compact prompt, from <think> to </think>: of every
   three facts, in the order of the prompt, the strongest, its weight and the running total ([M6]).
   It reads the prompt only, so the answer cannot leak into it (unguided). `index` keys the noise.
   Errors: R2_FORMAT (no facts in the prompt). */
r2_status r2_teacher_compact(r2_ctx *ctx, const r2_codebook *codebook,
                             const r2_teacher_config *config, const char *prompt, uint64_t index,
                             r2_text *text);

/* What the strict checker says of an output (D6, D7): a fault of its shape, else of a thought. */
typedef enum r2_verdict {
    R2_TRACE_OK = 0,
    R2_TRACE_MALFORMED,    /* not <think> thoughts </think> <answer> k </answer> and nothing else */
    R2_TRACE_NO_ANSWER,    /* ends before an answer                                              */
    R2_TRACE_TWO_ANSWERS,  /* more than one answer                                               */
    R2_TRACE_ANSWER_FIRST, /* an answer before the reasoning has ended                           */
    R2_TRACE_UNKNOWN_FACT, /* cites a fact that is not in the prompt                             */
    R2_TRACE_WRONG_WEIGHT, /* cites a fact of the prompt with a weight that is not its own       */
    R2_TRACE_WRONG_TOTAL,  /* not the total written before plus this weight, held within +-24    */
    R2_TRACE_MISSING_STEP, /* a thought that has facts is missing, repeated or out of order      */
    R2_TRACE_WRONG_RATING, /* English only: quotes a rating that is not in the prompt            */
    R2_TRACE_CONTRADICTS,  /* English only: the answer is not what the reasoning concludes       */
    R2_TRACE_WRONG_ANSWER, /* English only: not the answer that was asked for                    */
    R2_N_VERDICTS
} r2_verdict;

typedef struct r2_check {
    r2_verdict verdict;
    int32_t answer;                    /* 0 .. 5, or -1 unless well_formed                       */
    int32_t n_cited, n_found, n_right; /* facts cited; found in the prompt; with right weight    */
    int32_t total;                     /* the last total written                                 */
    bool well_formed;                  /* the shape is right, whatever the facts                 */
} r2_check;

const char *r2_verdict_name(r2_verdict verdict);
/* Checks a compact output (from <think> on) against its prompt. Total: any bytes get a verdict.
   "Faithful" means the verdict R2_TRACE_OK: whether a cited fact is the strongest, or the answer
   follows from the total, is not asked; the answer is learned. */
r2_check r2_check_trace(const r2_codebook *codebook, const char *prompt, const char *output);

/* ============================================================================== [A7] words ==== */

/* A growing list of token ids. Check owner.failed once at the end: after a failed allocation the
   list is empty, and additions do nothing. */
typedef struct r2_tokens {
    int32_t *id; /* (n) a list of stb_ds */
    int64_t n;
    r2__owner owner;
} r2_tokens;

void r2_tokens_add(r2_ctx *ctx, r2_tokens *tokens, int32_t id);
void r2_tokens_clear(r2_tokens *tokens); /* keeps the memory, and a failure */
void r2_tokens_free(r2_ctx *ctx, r2_tokens *tokens);

/* A closed vocabulary: one id per word; a text is words separated by single spaces. Serves the
   compact prompts of the small model. Words get ids 0, 1, 2 ... in the order they are added. */
typedef struct r2_vocab {
    char **word; /* (n_words) NUL-terminated; a table of stb_ds whose keys are the words */
    int32_t n_words;
    r2__owner owner;
    r2_arena text; /* holds the words */
} r2_vocab;

/* Adds `word` unless it is there; its id goes to *id when id is given. A word is not empty and has
   no space and no control character, else R2_ARGUMENT. Start from a zeroed struct. */
r2_status r2_vocab_add(r2_ctx *ctx, r2_vocab *vocab, const char *word, int32_t *id);
/* Id of a word, or -1. Only reads: safe from several threads at once. */
int32_t r2_vocab_find(const r2_vocab *vocab, const char *word);
/* Adds the ids of `len` bytes of text; only reads. Errors: R2_FORMAT names the unknown word. */
r2_status r2_vocab_encode(r2_ctx *ctx, const r2_vocab *vocab, const char *text, size_t len,
                          r2_tokens *out);
/* Adds the words of `id` (n) with single spaces. R2_ARGUMENT, nothing added: an id out of range. */
r2_status r2_vocab_decode(r2_ctx *ctx, const r2_vocab *vocab, const int32_t *id, int64_t n,
                          r2_text *out);
/* A file of one word per line, in order of ids. Load fills a zeroed struct; an empty line, a word
   that comes twice or one that r2_vocab_add refuses is R2_FORMAT with its line. */
r2_status r2_vocab_save(r2_ctx *ctx, const r2_vocab *vocab, const char *path);
r2_status r2_vocab_load(r2_ctx *ctx, r2_vocab *vocab, const char *path);
void r2_vocab_free(r2_ctx *ctx, r2_vocab *vocab);

/* Adds all words of prompts and traces, of every schedule and step, to an empty vocabulary. */
r2_status r2_codebook_words(r2_ctx *ctx, const r2_codebook *codebook, r2_vocab *vocab);

/* ============================================================================== [A8] model ==== */

/* Shape of the decoder, [M7] (Llama 2307.09288, Qwen2 2407.10671), in elements. */
typedef struct r2_model_config {
    int32_t n_vocab, n_layer, n_head, n_kv_head, d_model, d_ff, n_ctx;
    float rope_theta, norm_eps;
    float init_std; /* of the initial weights; 0: they stay zero, to be loaded          */
    bool qkv_bias;  /* Qwen2: yes, Llama: no                                             */
    bool tied;      /* the head is the token embedding                                   */
    uint64_t seed;  /* of the initial weights                                            */
} r2_model_config;

/* The table of parameters: id, whether each layer has one, rows, columns, initial values, name in
   Hugging Face's files. `c` is the config, D the size of a head; a tensor with 0 rows is absent.
   Query, key and value are neighbours, and so are gate and up: one product computes them all. */
#define R2_MODEL_TENSORS(X)                                                                        \
    X(R2_EMBED, false, c->n_vocab, c->d_model, R2_INIT_NORMAL, "model.embed_tokens.weight")        \
    X(R2_ATTN_NORM, true, 1, c->d_model, R2_INIT_ONE, "input_layernorm.weight")                    \
    X(R2_WQ, true, c->n_head * D, c->d_model, R2_INIT_NORMAL, "self_attn.q_proj.weight")           \
    X(R2_WK, true, c->n_kv_head * D, c->d_model, R2_INIT_NORMAL, "self_attn.k_proj.weight")        \
    X(R2_WV, true, c->n_kv_head * D, c->d_model, R2_INIT_NORMAL, "self_attn.v_proj.weight")        \
    X(R2_BQ, true, c->qkv_bias, c->n_head * D, R2_INIT_ZERO, "self_attn.q_proj.bias")              \
    X(R2_BK, true, c->qkv_bias, c->n_kv_head * D, R2_INIT_ZERO, "self_attn.k_proj.bias")           \
    X(R2_BV, true, c->qkv_bias, c->n_kv_head * D, R2_INIT_ZERO, "self_attn.v_proj.bias")           \
    X(R2_WO, true, c->d_model, c->n_head * D, R2_INIT_RESIDUAL, "self_attn.o_proj.weight")         \
    X(R2_FFN_NORM, true, 1, c->d_model, R2_INIT_ONE, "post_attention_layernorm.weight")            \
    X(R2_WGATE, true, c->d_ff, c->d_model, R2_INIT_NORMAL, "mlp.gate_proj.weight")                 \
    X(R2_WUP, true, c->d_ff, c->d_model, R2_INIT_NORMAL, "mlp.up_proj.weight")                     \
    X(R2_WDOWN, true, c->d_model, c->d_ff, R2_INIT_RESIDUAL, "mlp.down_proj.weight")               \
    X(R2_FINAL_NORM, false, 1, c->d_model, R2_INIT_ONE, "model.norm.weight")                       \
    X(R2_HEAD, false, c->tied ? 0 : c->n_vocab, c->d_model, R2_INIT_NORMAL, "lm_head.weight")

/* Initial values: N(0, init_std); N(0, init_std / sqrt(2 n_layer)) for weights whose product is
   added to the residual stream; ones; zeros. */
typedef enum r2_init { R2_INIT_NORMAL, R2_INIT_RESIDUAL, R2_INIT_ONE, R2_INIT_ZERO } r2_init;

typedef enum r2_tensor_id {
#define R2__ID(id, per_layer, rows, cols, init, name) id,
    R2_MODEL_TENSORS(R2__ID)
#undef R2__ID
    R2_TENSOR_COUNT
} r2_tensor_id;

typedef struct r2_tensor {
    int64_t rows, cols; /* rows 1: a vector; rows 0: this model has no such tensor */
    int64_t offset;     /* of layer 0 in r2_model.param                            */
    bool per_layer;
    r2_init init;
    const char *name; /* in a file; "model.layers.<n>." precedes it if per_layer */
} r2_tensor;

/* Sequences laid end to end, and the tokens whose log-probability is wanted. Prediction j asks for
   log p(pred_token[j] | tokens of its sequence up to row pred_row[j]); pred_row ascends; a row may
   have several. A branch continues the last sequence before it that is not a branch, as if that
   one's tokens preceded its own: a common beginning is computed once. */
typedef struct r2_batch {
    int32_t n_seq;
    const int32_t *seq_begin;  /* (n_seq + 1) rows of sequence s                  */
    const int32_t *token;      /* (n_rows = seq_begin[n_seq])                     */
    int32_t n_pred;
    const int32_t *pred_row;   /* (n_pred)                                        */
    const int32_t *pred_token; /* (n_pred)                                        */
    const bool *branch;        /* (n_seq) which sequences are branches; NULL: none */
} r2_batch;

typedef struct r2_model {
    r2_model_config config;
    int64_t n_params;
    float *param, *grad;   /* (n_params) in the order of R2_MODEL_TENSORS; grad may be NULL */
    r2_tensor tensor[R2_TENSOR_COUNT];
    int64_t layer_stride;  /* floats from a tensor of one layer to that of the next         */
    float *rope;           /* (n_ctx, d_head) cosines and sines                             */
    struct r2_lora *lora;  /* adapters; NULL: none                                          */
    bool recompute;        /* set by the caller: the backward pass computes each layer's    */
                           /* activations again instead of keeping them; a third more time  */
    r2_arena memory;
    struct r2__parts *parts; /* activations of the last forward, in parts of its batch ... */
    struct r2__work *work;   /* ... and those of one part, while it is computed            */
} r2_model;

r2_model_config r2_model_config_default(void);
/* Allocates parameters (and gradients if with_grad) and draws the initial weights. Errors:
   R2_ARGUMENT (an impossible shape). Free: r2_model_free. */
r2_status r2_model_init(r2_ctx *ctx, r2_model *model, const r2_model_config *config,
                        bool with_grad);
void r2_model_free(r2_ctx *ctx, r2_model *model);
/* Copies all parameters of `from`, a model of the same shape, but not its adapters.
   Errors: R2_ARGUMENT (another shape; `to` has merged adapters). */
r2_status r2_model_copy(r2_ctx *ctx, r2_model *to, const r2_model *from);
/* Tensor `id` of `layer` in param or in grad; NULL if the model has none. */
float *r2_weight(const r2_model *model, r2_tensor_id id, int64_t layer);
float *r2_gradient(const r2_model *model, r2_tensor_id id, int64_t layer);

/* logp[j] = log-probability of prediction j; entropy[j] (NULL: not wanted) = that of its row's
   distribution, in nats. Keeps the activations for r2_backward if the model has gradients. Errors:
   R2_ARGUMENT (a sequence, row or token out of range). */
r2_status r2_forward(r2_ctx *ctx, r2_model *model, const r2_batch *batch, float *logp,
                     float *entropy);
/* Adds to model->grad the gradient of a loss whose derivative with respect to logp[j] is dlogp[j]:
   cross-entropy, GRPO, a listwise term. Call it once after r2_forward of the same batch, whose
   activations it overwrites. Errors: R2_ARGUMENT (no such forward before it). */
r2_status r2_backward(r2_ctx *ctx, r2_model *model, const r2_batch *batch, const float *dlogp);
/* Sets all gradients to zero, those of the adapters too. */
void r2_zero_grad(r2_ctx *ctx, r2_model *model);

/* How prompts are continued. */
typedef struct r2_generate_config {
    int32_t n_samples;    /* outputs per prompt                                                   */
    int32_t max_new;      /* most tokens of an output; 0: only the watched log-probabilities      */
    const int32_t *stop;  /* (n_stop) an output ends with these tokens ...                        */
    int32_t n_stop;       /* ... 0: none                                                          */
    int32_t n_token;      /* ids from here on are never generated (the rows of a vocabulary       */
                          /* that its tokenizer does not use); 0: all may be                      */
    float temperature;    /* 0: greedy, the lowest id of equals                                   */
    uint64_t seed;        /* sample s of prompt p: (seed, R2_STREAM_SAMPLE, p n_samples + s) [B1] */
    int32_t n_watch;      /* the answer distribution: log-probabilities of these n_watch tokens   */
    const int32_t *watch; /* after the last token generated                                       */
} r2_generate_config;

typedef struct r2_generation {
    int64_t n_out; /* n_prompt * n_samples                                      */
    int32_t max_new, n_watch;
    int32_t *token;    /* (n_out, max_new) padded with -1                           */
    float *logp;       /* (n_out, max_new) of each generated token at temperature 1 */
    int32_t *length;   /* (n_out) tokens generated, the stop tokens included        */
    float *watch_logp; /* (n_out, n_watch)                                          */
} r2_generation;

/* One sample of up to 32 tokens at temperature 1. */
r2_generate_config r2_generate_config_default(void);
/* Continues prompts laid end to end: prompt p is token[begin[p]] .. token[begin[p + 1] - 1], at
   least one token; with max_new more it must fit into n_ctx. Memory does not grow with their
   number. On failure `out` is zeroed. Errors: R2_ARGUMENT, R2_CANCELLED. */
r2_status r2_generate(r2_ctx *ctx, r2_model *model, const r2_generate_config *config,
                      int64_t n_prompt, const int64_t *begin, const int32_t *token,
                      r2_generation *out);
void r2_generation_free(r2_ctx *ctx, r2_generation *out);

/* AdamW (arXiv 1412.6980, decoupled weight decay 1711.05101), the global gradient norm clipped. */
typedef struct r2_adamw_config {
    float beta1, beta2, eps, weight_decay; /* decay acts on matrices, not on norms and biases */
    float clip;                            /* largest gradient norm; 0: no clipping           */
} r2_adamw_config;

typedef struct r2_adamw {
    r2_adamw_config config;
    int64_t n_params, step;
    float *m, *v; /* (n_params) first and second moments */
} r2_adamw;

/* beta 0.9 and 0.95, eps 1e-8, no decay, clip 1. */
r2_adamw_config r2_adamw_config_default(void);
/* Moments for what the model trains: its adapters, if it has any, else its parameters. */
r2_status r2_adamw_init(r2_ctx *ctx, r2_adamw *opt, const r2_model *model,
                        const r2_adamw_config *config);
void r2_adamw_free(r2_ctx *ctx, r2_adamw *opt);
/* One update of what is trained from its gradient at learning rate lr; *grad_norm (NULL: not
   wanted) is the norm before clipping. Errors: R2_ARGUMENT (no gradients; adapters were attached or
   detached since r2_adamw_init), R2_DIVERGED (a norm that is not finite): then nothing changes. */
r2_status r2_adamw_step(r2_ctx *ctx, r2_adamw *opt, r2_model *model, float lr, float *grad_norm);
/* Learning rate: linear warm-up to `peak`, then a cosine down to floor_ratio x peak at `total`. */
float r2_lr_cosine(int64_t step, int64_t total, int64_t warmup, float peak, float floor_ratio);

/* ============================================================= [A9] supervised fine-tuning ==== */

struct r2_bpe;     /* [B4] */
struct r2_records; /* [B3] */

/* Text to tokens and back: a closed vocabulary or byte-level BPE. Several threads may use one at
   once, each with its own context. All three functions add to `out`. */
typedef struct r2_tokenizer {
    const void *self; /* borrowed: an r2_vocab or an r2_bpe */
    int32_t n_tokens;
    /* Tokens of `len` bytes of text. With `marks`, special tokens in it, such as <think>, become
       their one id. */
    r2_status (*encode)(r2_ctx *ctx, const void *self, const char *text, size_t len, bool marks,
                        r2_tokens *out);
    /* Tokens of a prompt that asks for an answer; `system` may be empty. */
    r2_status (*prompt)(r2_ctx *ctx, const void *self, const char *system, const char *user,
                        r2_tokens *out);
    r2_status (*decode)(r2_ctx *ctx, const void *self, const int32_t *id, int64_t n, r2_text *out);
} r2_tokenizer;

/* A prompt is its user text; blanks at both ends of a text are dropped. */
r2_tokenizer r2_tokenizer_vocab(const r2_vocab *vocab);
/* A prompt is a conversation in ChatML; without the tokens for it, both texts, a line end each. */
r2_tokenizer r2_tokenizer_bpe(const struct r2_bpe *bpe);

/* Says what is wrong with an output, given the text of its prompt: total, any text gets a verdict.
   hook_data: the codebook of r2_check_compact; r2_check_english needs nothing. */
typedef r2_check (*r2_check_fn)(const void *hook_data, const char *prompt, const char *output);
r2_check r2_check_compact(const void *hook_data, const char *prompt, const char *output);
r2_check r2_check_english(const void *hook_data, const char *prompt, const char *output);

/* A mark as the tokens that write it. */
#define R2_MAX_MARK 8
typedef struct r2_mark {
    int32_t n, id[R2_MAX_MARK];
} r2_mark;

typedef struct r2_markup {
    r2_mark think, think_end, answer, answer_end;
    int32_t level[R2_N_ANSWERS]; /* the token of answer k */
} r2_markup;

/* How examples become tokens and how outputs are checked: all that learning knows of a language. */
typedef struct r2_codec {
    r2_tokenizer tokenizer;
    r2_markup markup;
    r2_check_fn check; /* NULL: outputs cannot be checked */
    const void *check_data;
} r2_codec;

/* Finds the marks. `check` may be NULL. Errors: R2_ARGUMENT (a mark of more than R2_MAX_MARK
   tokens, an answer of more than one), those of the tokenizer. */
r2_status r2_codec_init(r2_ctx *ctx, r2_codec *codec, r2_tokenizer tokenizer, r2_check_fn check,
                        const void *check_data);
/* Compact words: fills an empty vocabulary (r2_codebook_words). Keeps pointers to both. */
r2_status r2_codec_compact(r2_ctx *ctx, r2_codec *codec, r2_vocab *vocab,
                           const r2_codebook *codebook);

/* Triples (Q, R, A) as tokens: prompts, traces and answers. They come in groups: an observed item,
   then items sampled from those that its user has no training edge with, with answer 0 (D8). */
typedef struct r2_examples {
    int64_t n;
    int32_t group;                       /* examples in a group; n is a multiple          */
    int64_t *prompt_begin, *trace_begin; /* (n + 1)                                       */
    int32_t *prompt, *trace;             /* tokens; a trace runs from <think> to </think> */
    int8_t *answer;                      /* (n) 0 .. 5; -1: unknown                       */
    int8_t *step;                        /* (n) of the schedule, 1 .. 4; NULL: 4, the question */
    r2_codec codec;
    int32_t longest; /* tokens of the longest prompt, trace, <answer> A </answer> */
} r2_examples;

/* How examples are made from evidence. */
typedef struct r2_example_config {
    r2_prompt_config prompt;          /* words, schedule, codebook, data                          */
    const r2_teacher_config *teacher; /* of the traces; NULL: none, for scoring and for r2_grpo   */
    int32_t group;
} r2_example_config;

/* Encodes the prompt of each of n evidence and its trace by the rule-based teacher. Errors, then it
   is zeroed: R2_ARGUMENT (n < 1 or not a multiple of group; traces in English: those come from
   records), R2_FORMAT (a word that the vocabulary does not have), those of r2_prompt_build. */
r2_status r2_examples_init(r2_ctx *ctx, r2_examples *examples, const r2_codec *codec,
                           const r2_example_config *config, const r2_evidence *evidence, int64_t n);
/* The same from records, whoever wrote them: system and prompt are Q, the output up to </think> is
   R (none: no trace), the answer is A. Further errors: R2_FORMAT (an output without a trace). */
r2_status r2_examples_from_records(r2_ctx *ctx, r2_examples *examples, const r2_codec *codec,
                                   const struct r2_records *records, int32_t group);
void r2_examples_free(r2_ctx *ctx, r2_examples *examples);

/* The losses of one step, in nats. */
typedef struct r2_sft_report {
    int64_t step, n_steps;
    float answer_loss, trace_loss, list_loss, grad_norm, lr;
    float valid_loss; /* of config.valid after the step, the weighted sum; NAN: not measured */
} r2_sft_report;

/* Supervised fine-tuning (D8). A batch holds `groups` groups; a share of them is reasoned
   (Q, R, A), the others are direct (Q, A): one model learns both modes. By default 16 groups of 1
   observed and 4 sampled items, 80 sequences, 40 of them reasoned. The loss of a batch is
       answer_loss                  mean over sequences of -log p(A)
     + trace_weight x trace_loss    mean of -log p over the other tokens that a reasoned output
                                    writes: R after <think>, <answer>, </answer>
     + list_weight x list_loss      mean over groups that ask the question (step 4) of
                                    -log softmax(s)[observed item] over the group,
                                    s = log((1 - p(0)) / p(0)) among the six answers:
                                    the score that ranks
   Early stopping: every `valid_every` steps and after the last, the same loss is measured on all
   of `valid`, in batches of `groups`, of each the same share reasoned. Training ends after
   `patience` measurements in a row without a new lowest loss; the model gets the weights of the
   lowest. */
typedef struct r2_sft_config {
    int64_t n_steps, warmup; /* steps of rising learning rate; at most a fifth of n_steps is used */
    int32_t groups;          /* in a batch                                                       */
    float reasoned_share;    /* of the groups, 0 .. 1; default 0.5                               */
    float trace_weight, list_weight; /* 1.5 and 1 */
    float lr, lr_floor; /* highest learning rate; lowest one, as a share of it              */
    r2_adamw_config adamw;
    const r2_examples *valid; /* borrowed; NULL: no early stopping                               */
    int32_t valid_every, patience;
    uint64_t seed;                                            /* of the order of groups */
    void (*on_step)(void *hook_data, const r2_sft_report *report); /* NULL: none */
    void *on_step_data;
    /* The state of the training is written here as it goes, and when it is cancelled. To go on,
       make the same call again, with the model as it was: a state that is there is continued, to
       the same bytes on the same machine; on_step is told the steps so far once more. A file of
       other data, settings (n_steps too) or first weights is R2_FORMAT. NULL: none */
    const char *state_path;
    float state_every; /* seconds between two writes, which take 1 % of the time at most */
} r2_sft_config;

r2_sft_config r2_sft_config_default(void);
/* Trains `model` (with gradients) on `examples`. Errors: R2_ARGUMENT (a field out of its range;
   examples without answers, or without traces while reasoned_share > 0), R2_CANCELLED; R2_DIVERGED
   (a loss, gradient or weight that is no finite number): the model then has the best weights so
   far, or, before any were measured, those before the last update. */
r2_status r2_sft(r2_ctx *ctx, r2_model *model, const r2_examples *examples,
                 const r2_sft_config *config);

/* ============================================================ [A10] reinforcement learning ==== */

/* Variants of group-relative policy optimisation (D9). R2_GRPO: 2402.03300. R2_DR_GRPO: 2503.20783,
   no division by the standard deviation, constant length normaliser. R2_DAPO: 2503.14476,
   normalises by tokens, drops prompts whose samples have equal rewards, no KL; the caller sets its
   wider clip (eps_high = 0.28 in the paper). */
typedef enum r2_rl_variant { R2_GRPO = 0, R2_DR_GRPO, R2_DAPO } r2_rl_variant;

/* Advantages (n) of the n samples of a prompt from their rewards: (r - mean) / (std + 1e-6) with
   the sample standard deviation; R2_DR_GRPO: r - mean. Equal rewards give zeros. */
void r2_advantages(r2_rl_variant variant, const double *reward, int32_t n, double *advantage);

/* Objective of one token and its derivative by logp (D9):
       loss = -min(ratio A, clip(ratio, 1 - eps_low, 1 + eps_high) A) + beta kl,
       ratio = exp(logp - logp_old), kl = exp(logp_ref - logp) - (logp_ref - logp) - 1 (k3). */
typedef struct r2_policy_term {
    double loss, dlogp, ratio, kl;
    bool clipped; /* the clip is active: no gradient but that of the KL term */
} r2_policy_term;
r2_policy_term r2_policy_loss(double logp, double logp_old, double logp_ref, double advantage,
                              double eps_low, double eps_high, double beta);

/* One output of a prompt, as its reward sees it. rank_share: how surely its log-odds s rank right,
   in [0, 1]. With m_j the mean over all outputs about item j of the group, 0 for one without an
   answer, it is for the observed item the mean of sigmoid(s - m_j) over the sampled items j, for a
   sampled one sigmoid(m_0 - s); 0 without an answer; 1 in a group of one. */
typedef struct r2_sample {
    int64_t example;             /* of those that r2_grpo got                              */
    const char *prompt, *output; /* text; the output as the model wrote it, from <think> on */
    r2_check check;
    int32_t right_answer; /* 0 .. 5; -1: unknown                                            */
    double rank_share;
} r2_sample;

/* Weights of the default reward (D10): w_format x format + w_accuracy x accuracy + w_rank x ranking
   + w_faith x faithfulness, each in [0, 1].
       format        1 when the output is well formed
       accuracy      1 - |answer - right answer| / 5; 0 when either is unknown
       ranking       rank_share
       faithfulness  1 when the strict checker accepts the trace, else half the share of its cited
                     facts that are right, 0 when it cites none
   Default weights 0.5, 0, 1, 2: rewards lie in [0, 3.5]. */
typedef struct r2_reward_config {
    float w_format, w_accuracy, w_rank, w_faith;
} r2_reward_config;

double r2_reward(const r2_reward_config *config, const r2_sample *sample);

/* A reward of the caller's: a finite number into *reward, on any scale. Called for one sample after
   the other, from one thread. A status other than R2_OK, recorded by r2_fail, ends r2_grpo. */
typedef r2_status (*r2_reward_fn)(r2_ctx *ctx, void *hook_data, const r2_sample *sample,
                                  double *reward);

/* Log of one step. */
typedef struct r2_grpo_report {
    int64_t step, n_steps;
    double reward_mean, reward_std;
    double zero_variance_prompts; /* share of prompts whose samples have equal rewards         */
    double kl, entropy;          /* means over tokens, nats                                   */
    double clipped_tokens;       /* share                                                     */
    double grad_norm;            /* before clipping                                           */
    double output_length;        /* mean, tokens                                              */
    double well_formed_outputs, faithful_outputs; /* shares                                   */
    double majority_answer; /* share of samples with the most frequent answer            */
} r2_grpo_report;

typedef struct r2_grpo_config {
    r2_rl_variant variant;
    int64_t n_steps;
    int32_t groups;     /* per step; as everywhere, a group is 1 observed + sampled items */
    int32_t n_samples;  /* outputs per prompt, G: 1 .. 64; advantages compare these      */
    int32_t n_updates;  /* optimiser steps per batch of rollouts; the clip needs two     */
    int32_t max_new;    /* tokens of an output                                           */
    float temperature;  /* of sampling; ratios and gradients are those at temperature 1  */
    float eps_low, eps_high, beta;
    float lr; /* highest: three steps of warm-up, then a cosine down to a tenth */
    /* The answers after sampled reasoning keep learning from the data: adds sft_weight x their
       cross-entropy and list_weight x the list loss of r2_sft_config, between the s-th samples of
       a group's items. Without the second, the first would undo the ranking that SFT learned. */
    float sft_weight, list_weight;
    r2_reward_config reward; /* of r2_reward                    */
    r2_reward_fn reward_fn;  /* in its place; NULL: r2_reward   */
    void *reward_data;
    r2_adamw_config adamw;
    uint64_t seed; /* of the order of groups and of sampling */
    void (*on_step)(void *hook_data, const r2_grpo_report *report); /* NULL: none */
    void *on_step_data;
    const char *state_path; /* as of r2_sft_config */
    float state_every;
} r2_grpo_config;

r2_grpo_config r2_grpo_config_default(void);
/* Improves `model` (with gradients) by rewards of its own sampled reasoning on the prompts of
   `examples`, which need no traces. The KL reference is the model as it comes in.
   Errors: R2_ARGUMENT (a field out of its range; examples without answers or without a checker),
   R2_CANCELLED, those of the reward; R2_DIVERGED as of r2_sft. */
r2_status r2_grpo(r2_ctx *ctx, r2_model *model, const r2_examples *examples,
                  const r2_grpo_config *config);

/* ======================================================================== [A11] evaluation ==== */

/* Rank of a positive among candidates (D13), ties as part of the result: `better` candidates score
   above it, `tied` others equal it. */
typedef struct r2_rank {
    int64_t better, tied;
} r2_rank;

/* Rank of the positive, score[0], among score (n). NaN scores below all and ties with NaN alone. */
r2_rank r2_rank_of(const float *score, int64_t n);
/* 1[rank <= k], 1[rank <= k] / log2(rank + 1) and 1 / rank, each the exact mean over all orders of
   the tied (D11): so a constant scorer has the HR@1 of chance. */
double r2_hit_ratio(r2_rank rank, int64_t k);
double r2_ndcg(r2_rank rank, int64_t k);
double r2_reciprocal_rank(r2_rank rank);

/* Means over cases. */
typedef struct r2_metrics {
    int64_t n_cases;
    double hr1, hr1_lo, hr1_hi; /* with its 95 % percentile bootstrap interval over cases         */
    double hr5, hr10, ndcg5, ndcg10, mrr;
    double auc;      /* share of the other candidates that score below the positive, ties by half */
    double tie_rate; /* share of cases in which the positive ties with another candidate          */
} r2_metrics;

typedef struct r2_eval_config {
    int32_t n_bootstrap; /* resamples */
    uint64_t seed;       /* of the bootstrap */
} r2_eval_config;

r2_eval_config r2_eval_config_default(void);
/* Metrics of score (n_cases, n_per_case), column 0 the positive. hit1 (n_cases): HR@1 of each case,
   for paired tests; NULL: not wanted. Errors: R2_ARGUMENT (no case, candidate or resample). */
r2_status r2_evaluate(r2_ctx *ctx, const float *score, int64_t n_cases, int64_t n_per_case,
                      const r2_eval_config *config, r2_metrics *out, double *hit1);
/* 95 % percentile bootstrap interval of the mean of value (n). For a paired comparison pass the
   differences case by case. Errors: R2_ARGUMENT (n or n_bootstrap < 1). */
r2_status r2_bootstrap_mean(r2_ctx *ctx, const double *value, int64_t n, int32_t n_bootstrap,
                            uint64_t seed, double *lo, double *hi);
/* Exact two-sided McNemar test on the same cases, only_a of which method a alone got right, only_b
   method b: the chance of a split at least as uneven when both are equally good; NAN: count < 0. */
double r2_mcnemar(int64_t only_a, int64_t only_b);

/* How the model is asked: it answers at once, or after its own reasoning. */
typedef enum r2_mode { R2_DIRECT = 0, R2_REASONED } r2_mode;
/* Scores from the distribution over the six answers (D11), other tokens left out: the log-odds of
   interacting, log((1 - p(0)) / p(0)), held within +-27, rank items; the expected level given an
   interaction, within 1 .. 5, predicts a rating. */
typedef enum r2_score_kind { R2_SCORE_LOG_ODDS = 0, R2_SCORE_RATING } r2_score_kind;

typedef struct r2_score_config {
    r2_mode mode;
    r2_score_kind kind;
    int32_t n_samples; /* reasoned: traces whose scores are averaged; 1: one greedy trace */
    int32_t max_new;   /* reasoned: tokens of a trace                                     */
    float temperature; /* of sampling, when n_samples > 1                                 */
    uint64_t seed;
} r2_score_config;

/* What the checker says of the reasoning behind scores; zeros for R2_DIRECT. */
typedef struct r2_trace_metrics {
    int64_t n, verdict[R2_N_VERDICTS];
    double well_formed, faithful;    /* shares of outputs                                       */
    double facts_found, facts_right; /* shares of cited facts: in the prompt; with right weight */
} r2_trace_metrics;

r2_score_config r2_score_config_default(void);
/* score (examples->n) from the answer distribution of every example: after the reasoning, or at
   once. An output that ends before <answer> is scored as if </think> and <answer> followed. `trace`
   (NULL: not wanted): the verdicts; needs a checker. Errors: R2_ARGUMENT, R2_CANCELLED. */
r2_status r2_score(r2_ctx *ctx, r2_model *model, const r2_examples *examples,
                   const r2_score_config *config, float *score, r2_trace_metrics *trace);
/* Score from the log-probabilities (R2_N_ANSWERS) of the answers, which need not sum to 1. Without
   any probability: 0 for R2_SCORE_LOG_ODDS, 3 for R2_SCORE_RATING. */
float r2_answer_score(const float *level_logp, r2_score_kind kind);

/* Reasoning and answer for one example. */
typedef struct r2_reasoning {
    r2_text text;     /* <think> ... </think> <answer> k </answer>                               */
    size_t n_written; /* bytes of it that the model wrote, up to <answer>; after that the library
                         put the likeliest answer and </answer>. Without <answer>: all of it     */
    r2_check check;
} r2_reasoning;

/* Lets the model reason, greedily, about examples first .. first + n - 1, in 32 tokens, or as many
   as their longest trace and R2_MAX_MARK more: out (n), each to be freed. Errors: as of r2_score;
   then there is nothing to free. */
r2_status r2_think(r2_ctx *ctx, r2_model *model, const r2_examples *examples, int64_t first,
                   int64_t n, r2_reasoning *out);
void r2_reasoning_free(r2_ctx *ctx, r2_reasoning *reasoning);

/* =============================================================================== [A12] run ==== */

/* A run: the whole method as one object, a recommender. All its parts are members to be read. */
struct r2_run;

/* Evidence from elsewhere. The run calls it with every batch of questions, after it has computed
   its own evidence and before it writes prompts. It may change the values and chains of
   evidence[q], which belongs to question[q]; so the score of another recommender can replace a
   field. question[q].answer is -1 in ranking; with step_share > 0 some questions of SFT have a step
   1 .. 3 (r2_question_of_step). The hook must keep D2: of u0 it may use the first n_history
   interactions, and never the edge (u0, i*). It is called once with n = 0 before the first
   questions, to prepare or to refuse: then data, split, candidates, graph and index exist, and
   nothing else. It is never called from two threads at once. A status other than R2_OK, recorded by
   r2_fail, ends what the run was doing. */
typedef r2_status (*r2_evidence_fn)(r2_ctx *ctx, void *hook_data, const struct r2_run *run,
                                    const r2_question *question, int64_t n, r2_evidence *evidence);

typedef struct r2_run_config {
    uint64_t seed;       /* of all draws of the run: candidates, questions, weights, batches    */
    int64_t n_groups;    /* training groups of 1 observed + n_sampled items                     */
    int32_t n_sampled;   /* D8                                                                  */
    int32_t min_history; /* of a training question, see r2_draw_config                          */
    int64_t min_train;   /* favourites and sampled items, of candidates and training questions, are
                            warm: r2_split_warm; 0: all items. Default 1                        */
    r2_chain_config chains; /* shown in a prompt: which, and how many                           */
    int32_t n_negatives; /* of a candidate set                                                  */
    int64_t n_cases;     /* test and validation cases at most (r2_split_thin); 0: all           */
    r2_format format;    /* of the ratings, where their first line does not say it              */
    /* A split made elsewhere (r2_split_given): the held-out interactions in files of their own,
       beside the training ones. NULL: leave-one-out */
    const char *valid_path, *test_path;
    r2_split_config split;
    r2_schedule schedule; /* of the masking (D5)                                                */
    float step_share;     /* of the training groups ask an earlier step, each equally likely; a
                             group in which a question has no chain asks the last. Default 0: all
                             ask step 4, which is the whole task                                 */
    /* The run sets their seeds and that of `chains`, n_vocab and n_ctx of the model, and max_new of
       GRPO. */
    r2_teacher_config teacher;
    r2_model_config model;
    r2_sft_config sft;
    r2_grpo_config grpo;
    r2_evidence_fn evidence_hook; /* NULL: none */
    void *evidence_hook_data;
} r2_run_config;

typedef struct r2_run {
    r2_run_config config;
    r2_data data;
    r2_split split;
    r2_graph graph;   /* of the training interactions */
    r2_index index;
    r2_candidates valid, test;
    r2_question *question; /* (n_train) training questions, in groups  */
    r2_evidence *evidence; /* (n_train)                                */
    int64_t n_train;
    r2_codebook codebook;
    r2_vocab vocab;
    r2_codec codec; /* points to these two: a run must not be moved */
    r2_examples train;
    r2_model model;
} r2_run;

/* One recommended item with its reasons. */
typedef struct r2_recommendation {
    uint32_t item;
    float score;            /* log-odds of interacting, asked directly               */
    r2_evidence evidence;   /* what the prompt states, with the chains that it shows */
    r2_reasoning reasoning; /* what the model makes of it, and the checker's verdict */
} r2_recommendation;

/* The quick run: minutes on two cores. */
r2_run_config r2_run_config_default(void);
/* The long run: the same model, more questions and steps. */
r2_run_config r2_run_config_full(void);
/* Loads `path` (anything that r2_data_load takes), splits, builds graph, evidence, prompts,
   traces, vocabulary and an untrained model. Errors: those of the parts. */
r2_status r2_run_init(r2_ctx *ctx, r2_run *run, const char *path, const r2_run_config *config);
/* The second half of r2_run_init, for callers who have changed the graph or its index: makes
   questions, evidence, codebook, examples, vocabulary and model anew. Errors: R2_ARGUMENT, those of
   the hook; then the run has none of these, and can be prepared again. */
r2_status r2_run_prepare(r2_ctx *ctx, r2_run *run);
void r2_run_free(r2_ctx *ctx, r2_run *run);
/* Supervised fine-tuning on the run's examples, stopped early by the loss of up to R2_N_VALID_CASES
   validation cases (not stopped: config.sft.valid_every 0, n_negatives < n_sampled, no case). A
   training that was cut off goes on: state_path of config.sft and config.grpo. */
#define R2_N_VALID_CASES 256
r2_status r2_run_sft(r2_ctx *ctx, r2_run *run);
/* Reinforcement learning on questions drawn anew: the users' latest interactions again, beside
   other sampled items. Nobody writes traces for them: rewards need none, so they scale. */
r2_status r2_run_grpo(r2_ctx *ctx, r2_run *run);

/* Prompts for n pairs (user, item), asked now: after all training interactions. Errors: R2_ARGUMENT
   (not in the data), and those of the parts. */
r2_status r2_run_prompts(r2_ctx *ctx, const r2_run *run, const uint32_t *user, const uint32_t *item,
                         int64_t n, r2_evidence *evidence, r2_examples *examples);
/* The same for all candidates of a set, case after case. If the user has the first candidate of a
   case in the data, as a held-out positive, the whole case is asked at the moment of that (see
   r2_question), else now. evidence (n_cases, n_per_case); NULL: not wanted. */
r2_status r2_run_candidate_prompts(r2_ctx *ctx, const r2_run *run, const r2_candidates *candidates,
                                   r2_evidence *evidence, r2_examples *examples);
/* Scores a candidate set: score (n_cases, n_per_case). trace NULL: not wanted. */
r2_status r2_run_score(r2_ctx *ctx, r2_run *run, const r2_candidates *candidates,
                       const r2_score_config *config, float *score, r2_trace_metrics *trace);
/* The n items with the highest direct scores among those that `user` never interacted with in all
   data, held-out or not; best first, equal scores by item number, with their reasons. What was held
   out is not in the history that they go by. out (n) takes *n_found of them; on failure none. */
r2_status r2_run_recommend(r2_ctx *ctx, r2_run *run, uint32_t user, int64_t n,
                           r2_recommendation *out, int64_t *n_found);
void r2_recommendations_free(r2_ctx *ctx, r2_recommendation *recommendation, int64_t n);

/* Writes model.safetensors, vocab.txt, codebook.json and config.json into an existing directory,
   and their digests into run.json: cut off at any time, the old files or the new ones are loaded,
   never a mixture. Errors: R2_ARGUMENT (no model; adapters not merged), R2_IO. */
r2_status r2_run_save(r2_ctx *ctx, const r2_run *run, const char *directory);
/* Loads what r2_run_save wrote, instead of training. The run must come from r2_run_init with the
   same data, configuration and hook; a file that does not fit is R2_FORMAT and changes nothing. */
r2_status r2_run_load_model(r2_ctx *ctx, r2_run *run, const char *directory);
/* Takes a model that a run on other data saved, instead of training: prompts speak of buckets, not
   of items. The run keeps its own edges; the word of a bucket in the model and its weight in traces
   are those of the bucket at the same place there. Errors: R2_FORMAT (another shape, fields or
   number of chains), and those of r2_run_load_model; then nothing has changed. */
r2_status r2_run_borrow_model(r2_ctx *ctx, r2_run *run, const char *directory);

/* ######################################################## INTERFACE B: for builders ########### */

/* ======================================= [B1] memory, text, files, random numbers, threads ==== */

/* Zeroed memory for `count` elements of `size` bytes; NULL (and a recorded R2_NO_MEMORY) when the
   product overflows or memory is short. A count of 0 gives a valid pointer. Free: r2_release. */
void *r2_alloc(r2_ctx *ctx, uint64_t count, uint64_t size);
/* Resizes a block, new bytes not cleared; NULL on failure, and then `ptr` is still valid. */
void *r2_resize(r2_ctx *ctx, void *ptr, uint64_t count, uint64_t size);
/* Frees memory; NULL is allowed. */
void r2_release(r2_ctx *ctx, void *ptr);
/* Checked arithmetic for sizes that come from files: false on overflow. */
bool r2_mul_u64(uint64_t a, uint64_t b, uint64_t *product);
bool r2_add_u64(uint64_t a, uint64_t b, uint64_t *sum);

/* Zeroed, 64-byte aligned memory that lives until r2_arena_reset or r2_arena_free. */
void *r2_arena_alloc(r2_ctx *ctx, r2_arena *arena, uint64_t count, uint64_t size);
/* Frees all allocations but keeps one block of their total size: a second round of the same
   allocations needs no memory. */
void r2_arena_reset(r2_ctx *ctx, r2_arena *arena);
void r2_arena_free(r2_ctx *ctx, r2_arena *arena);

/* Adds bytes, or a printf-style text. A failed allocation sets text->failed and ctx->status. */
void r2_text_add(r2_ctx *ctx, r2_text *text, const char *bytes, size_t len);
void r2_text_addf(r2_ctx *ctx, r2_text *text, const char *format, ...) R2__PRINTF(3, 4);
void r2_text_clear(r2_text *text); /* keeps the memory, and a failure */
void r2_text_free(r2_ctx *ctx, r2_text *text);

/* Reads a whole file into `text` ("-" is standard input). Errors: R2_IO. */
r2_status r2_read_file(r2_ctx *ctx, const char *path, r2_text *text);
/* Writes `len` bytes to `path`.tmp, brings them to the disk, then renames it to `path`: a reader
   never sees half a file, and a failed write or a crash leaves the old one. Errors: R2_IO. */
r2_status r2_write_file(r2_ctx *ctx, const char *path, const char *bytes, size_t len);

/* Random numbers: Philox4x32-10 (Salmon et al., SC 2011), a counter-based generator. The numbers
   depend only on (seed, stream, index). */
typedef struct r2_rng {
    uint32_t key[2], counter[4], block[4];
    int left; /* unused words of `block` */
} r2_rng;

/* Two streams never share numbers. Two uses of one stream share them if seed and index are the
   same: SFT and GRPO shuffle with BATCH, so the same seed gives both the same order. */
typedef enum r2_stream { /* USER: the caller's own; SPLIT: reserved, splits use r2_hash */
    R2_STREAM_USER = 0, R2_STREAM_SPLIT, R2_STREAM_CANDIDATES, R2_STREAM_CHAINS,
    R2_STREAM_NEGATIVES, R2_STREAM_TEACHER, R2_STREAM_INIT, R2_STREAM_BATCH, R2_STREAM_SAMPLE,
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
/* Standard normal (Box-Muller, one value per call). */
double r2_rng_normal(r2_rng *rng);
/* Standard Gumbel: argmax of (log p + Gumbel) samples from p. */
double r2_rng_gumbel(r2_rng *rng);
/* A well-mixed 64-bit hash of (seed, a, b): the tie rule of splits. */
uint64_t r2_hash(uint64_t seed, uint64_t a, uint64_t b);

/* R2_PARALLEL_FOR(threads, i, n): a loop over int64_t i in [0, n) divided statically over threads.
   The body for i may write only data of i. Without OpenMP it is a plain loop. */
#define R2__PRAGMA(text) _Pragma(#text)
#if defined(_OPENMP)
#define R2_PARALLEL_FOR(threads, i, n)                                                             \
    R2__PRAGMA(omp parallel for schedule(static) num_threads(threads))                             \
    for (int64_t i = 0; i < (n); ++i)
#else
#define R2_PARALLEL_FOR(threads, i, n) for (int64_t i = ((void)(threads), 0); i < (n); ++i)
#endif
/* The same for fewer and longer pieces of work: whoever is free takes the next, so a thread whose
   processor has other work too does fewer of them. r2_thread(), 0 .. threads - 1, is the thread
   that does a piece, for what it works with. */
#if defined(_OPENMP)
#define R2_PARALLEL_PIECES(threads, i, n)                                                          \
    R2__PRAGMA(omp parallel for schedule(dynamic) num_threads(threads))                            \
    for (int64_t i = 0; i < (n); ++i)
#else
#define R2_PARALLEL_PIECES(threads, i, n) R2_PARALLEL_FOR(threads, i, n)
#endif
int r2_thread(void);

/* Number of threads for `work` simple operations: ctx->n_threads, or 1 when work is small. */
int r2_threads(const r2_ctx *ctx, int64_t work);
/* Seconds of a wall clock; for reports, never for results. */
double r2_seconds(void);

#if defined(R2_MPI)
/* Makes the processes that mpirun started a team, which `ctx` joins, and divides the processors of
   a machine among its processes. Begins MPI if need be. Errors: R2_ARGUMENT (too many). */
r2_status r2_mpi_join(r2_ctx *ctx, r2_team *team);
/* r2_team_end, and the end of MPI. */
r2_status r2_mpi_leave(r2_ctx *ctx, r2_status status);
#endif

/* =========================================== [B2] filters, other splits and candidate sets ==== */

/* Which interactions to keep; 0 disables a condition. */
typedef struct r2_filter {
    float min_rating;
    int64_t time_from, time_until; /* Unix seconds: from <= time < until                        */
    int64_t user_core, item_core;  /* the least number of interactions of every user, every item */
} r2_filter;

/* Drops rows, first by rating and time, then repeatedly those of users and items below the core;
   renumbers users and items in their old order; time_zero becomes the earliest time left. What was
   made of the old rows is no longer valid. On failure nothing has changed. */
r2_status r2_data_filter(r2_ctx *ctx, r2_data *data, const r2_filter *filter);
/* Replaces counts (plays, hours, purchases) by grades. If fewer than 1 rating in R2_COUNTS_RARE is
   at least 0.8 of the largest, each becomes a grade from 1 to 5: 5 times the share of the user's
   own values that are not larger, rounded up; the log hook is told. Else nothing changes. This rule
   is ours: D12 speaks of ratings only. On failure nothing has changed. */
#define R2_COUNTS_RARE 100
r2_status r2_data_grade(r2_ctx *ctx, r2_data *data);
/* Adds a line for each way in which the data cannot be meant: -1 or 0 in a tenth of the rows below
   a scale, ratings like serial numbers, times of January 1970. */
r2_status r2_data_doubts(r2_ctx *ctx, const r2_data *data, r2_text *text);
/* Adds lines of text: sizes, density, ratings, time span, doubts, dropped rows and why. */
r2_status r2_data_report(r2_ctx *ctx, const r2_data *data, r2_text *text);

/* A split that is given as files: `data` was loaded from all its files (r2_data_load_files); the
   interactions in valid_path and test_path (NULL: none) are held out. The targets are the held-out
   positives of users who have training interactions. Errors: R2_IO, R2_FORMAT (also for an
   interaction that is not in `data`, or in both files). */
r2_status r2_split_given(r2_ctx *ctx, r2_split *split, const r2_data *data,
                         const r2_split_config *config, const char *valid_path,
                         const char *test_path, const r2_format *format);
/* The full catalogue as one case: item (1 + n_items) gets the positive, then all items that the
   user never interacted with, ascending. Returns their number. */
int64_t r2_candidates_catalogue(const r2_data *data, r2_target target, uint32_t *item);
/* Candidate sets as text, a case per line, the files' ids between tabs: user, positive, negatives.
   An id with a tab or a quote in it stands in double quotes, "" inside means one. Errors: R2_IO; of
   loading R2_FORMAT too (lines of different lengths, ids that are not in `data`, an item twice, a
   negative that the user has). */
r2_status r2_candidates_save(r2_ctx *ctx, const r2_candidates *c, const r2_data *data,
                             const char *path);
r2_status r2_candidates_load(r2_ctx *ctx, r2_candidates *c, const r2_data *data, const char *path);

/* =============================================== [B3] teachers, records, prompts explained ==== */

/* ---- teachers ---- */

/* A prompt to write an output for. All pointers are borrowed. */
typedef struct r2_task {
    int64_t index; /* keys the noise, names the record */
    const r2_prompt_config *config;
    const r2_evidence *evidence;
    const r2_prompt *prompt;
    int32_t answer; /* guidance (D6): the answer that the output must end in; -1: unguided */
} r2_task;

/* Adds an output, <think> ... </think><answer> k </answer>, for a task. */
typedef r2_status (*r2_teacher_fn)(r2_ctx *ctx, void *hook_data, const r2_task *task,
                                   r2_text *output);

/* hook_data: a r2_teacher_config. Writes from facts and weights, in the words of the prompt.
   Guided, it cites what supports the answer; every sentence stays true. */
r2_status r2_teacher_rules(r2_ctx *ctx, void *hook_data, const r2_task *task, r2_text *output);
/* Checks an output in either words against the task, and against task->answer unless it is -1.
   Total: any text gets a verdict. In English the checker knows titles in double quotes, persons,
   and ratings as in `Person A gave "Title" 4 stars`. */
r2_check r2_check_output(const r2_task *task, const char *output);

/* How many outputs got which verdict, by the right answer (n[..][0] when unknown). */
typedef struct r2_tally {
    int64_t n[R2_N_VERDICTS][R2_N_ANSWERS];
} r2_tally;

void r2_tally_add(r2_tally *tally, r2_verdict verdict, int32_t answer);
/* Adds a table: a line per verdict that occurred, a column per answer. */
void r2_tally_report(r2_ctx *ctx, const r2_tally *tally, r2_text *text);

/* ---- records: prompts, traces and SFT triples as JSON Lines ---- */

/* One line of a file, the same keys and types on each (data/records.schema.json). A prompt has no
   output and answer -1; a triple (Q, R, A) has system + prompt, output, answer. */
typedef struct r2_record {
    int64_t id, n_history, step, shown, left_out, answer;
    const char *user, *item; /* the data's own ids */
    const char *schedule, *words, *source, *system, *prompt, *output;
} r2_record;

typedef struct r2_records {
    r2_record *record; /* (n) a list of stb_ds */
    int64_t n;
    r2__owner owner;
    r2_arena text; /* holds the strings */
} r2_records;

/* Adds a copy. */
r2_status r2_records_add(r2_ctx *ctx, r2_records *records, const r2_record *record);
/* Adds the line of a record, without a line end. A byte that is not UTF-8 becomes U+FFFD. */
void r2_record_line(r2_ctx *ctx, const r2_record *record, r2_text *text);
r2_status r2_records_write(r2_ctx *ctx, const r2_records *records, const char *path);
/* Adds the records of a file; writing them again gives the same bytes. Errors: R2_FORMAT with the
   line (a key missing, unknown or twice, a wrong type), R2_IO. */
r2_status r2_records_read(r2_ctx *ctx, r2_records *records, const char *path);
void r2_records_free(r2_ctx *ctx, r2_records *records);

/* Who writes the outputs of r2_teach. */
typedef struct r2_teacher {
    r2_teacher_fn write; /* NULL: nobody, the records are prompts */
    void *write_data;    /* handed to it                          */
    const char *name;    /* of records: their source              */
    bool guided;         /* tasks name the right answer           */
    r2_tally *tally;     /* counts the verdicts; NULL: not wanted */
} r2_teacher;

/* Builds a prompt for each of n questions, asks the teacher for an output, adds a record of each
   output that passes the check and has the right answer (without a teacher, of each prompt), with
   ids from first_id on. Errors: those of r2_prompt_build and of the teacher, R2_CANCELLED. */
r2_status r2_teach(r2_ctx *ctx, const r2_prompt_config *config, const r2_evidence *evidence,
                   int64_t n, int64_t first_id, const r2_teacher *teacher, r2_records *records);
/* Draws a prompt for a person: each chain edge by edge with titles and stars, masked and hidden
   parts marked, the strongest evidence, and (output not NULL) the reasoning with its verdict. */
r2_status r2_prompt_explain(r2_ctx *ctx, const r2_task *task, const char *output, r2_text *text);

/* ===================================================================== [B4] byte-level BPE ==== */

/* Byte-level byte-pair encoding (Sennrich et al., 1508.07909; over bytes as in GPT-2), compatible
   with Hugging Face's tokenizer.json. Text is cut into pieces by a rule; within a piece, which
   starts as single bytes, the two neighbours whose merge was learned first are joined, again and
   again. Any bytes come back from the ids unchanged (with nfc: their normal form C). Control tokens
   such as <|im_end|> are told apart from the same characters in a text: only who asks for them gets
   their ids, so a title that holds one stays a title. */
typedef enum r2_bpe_rule {
    R2_BPE_GPT2 = 0,   /* contractions | space? letters | space? digits | space? signs | white    */
    R2_BPE_QWEN2,      /* any sign before letters | digits one by one | signs and line ends       */
    R2_BPE_GPT2_DIGITS /* digits one by one, R2_BPE_GPT2 on what lies between them (SmolLM2)      */
} r2_bpe_rule;

typedef struct r2_bpe_config {
    r2_bpe_rule rule;           /* default R2_BPE_QWEN2                                        */
    bool nfc;                   /* Unicode normal form C first; default no                     */
    int32_t n_tokens;           /* ids wanted, bytes and control tokens included; default 4096 */
    int64_t min_count;          /* a pair must be seen this often to be merged; default 2      */
    const char *const *control; /* (n_control) default <|endoftext|> <|im_start|> <|im_end|>   */
    int32_t n_control;
} r2_bpe_config;

enum {
    R2_BPE_ADDED = 1,     /* whole in a text: no piece, and not merged     */
    R2_BPE_CONTROL = 2,   /* no text for a person                          */
    R2_BPE_NORMALIZED = 4 /* looked for in the normal form, after the rest */
};

/* Read-only once made: several threads may encode with one tokenizer, each with its own context. */
typedef struct r2_bpe {
    r2_bpe_rule rule;
    bool nfc;
    int32_t n_tokens, n_merges, n_added;
    int64_t *begin;          /* (n_tokens + 1) token t: bytes[begin[t]] .. [begin[t + 1] - 1] */
    char *bytes;
    uint8_t *added;          /* (n_tokens) 0: a piece; bits of an added token: R2_BPE_ADDED ...   */
    struct r2__added *find[2]; /* (n_find) added tokens: looked for in a text, in its normal form */
    int32_t n_find[2];
    uint8_t starts[256];     /* bit s: some token of find[s] begins with the byte                 */
    int32_t *merge;          /* (n_merges, 3) left, right, joined; in the order they were learned */
    int32_t byte_token[256]; /* token of a byte, or -1                                            */
    uint8_t *char_class;     /* what the rule asks of a code point                                */
    uint64_t *pair;          /* (n_merges) a table of stb_ds: (left, right) -> place in merge     */
    r2__owner owner;         /* memory of the table                                               */
    struct r2__nfc *normal;  /* tables of the normal form, NULL without nfc                       */
    r2_arena memory;         /* holds all other arrays                                            */
} r2_bpe;

r2_bpe_config r2_bpe_config_default(void);
/* Learns a tokenizer from `len` bytes of text: ids 0..255 are the bytes in GPT-2's order, then come
   the merges by falling count (equal counts: smaller left id, then right id, first), then the
   control tokens. Fewer than n_tokens come out when no pair is left. Errors: R2_ARGUMENT. */
r2_status r2_bpe_train(r2_ctx *ctx, r2_bpe *bpe, const r2_bpe_config *config, const char *text,
                       size_t len);
/* tokenizer.json of Hugging Face. Load accepts the three rules above, NFC or no normaliser, merges
   as strings or as pairs, and ids without gaps; post-processors are ignored. R2_FORMAT: what would
   change ids (unknown rule, added tokens that strip, dropout, truncation ...). */
r2_status r2_bpe_load(r2_ctx *ctx, r2_bpe *bpe, const char *path);
r2_status r2_bpe_save(r2_ctx *ctx, const r2_bpe *bpe, const char *path);
void r2_bpe_free(r2_ctx *ctx, r2_bpe *bpe);

/* Adds the ids of `text` to `out`. With `added`, added tokens in the text (the longest at each
   place; normalised ones in what the others leave) become their ids, as Hugging Face does; else all
   is data. O(n log n) in the longest piece. Errors: R2_FORMAT (a loaded tokenizer lacks a byte). */
r2_status r2_bpe_encode(r2_ctx *ctx, const r2_bpe *bpe, const char *text, size_t len, bool added,
                        r2_tokens *out);
/* Adds the bytes of `id` (n) to `out`, leaving out control tokens unless `control`. An id out of
   range is R2_ARGUMENT, and nothing is added. */
r2_status r2_bpe_decode(r2_ctx *ctx, const r2_bpe *bpe, const int32_t *id, int64_t n, bool control,
                        r2_text *out);
/* Id of the added token with this text, or -1. */
int32_t r2_bpe_added(const r2_bpe *bpe, const char *text);

/* One turn of a conversation: role "system", "user" or "assistant". Borrowed strings. */
typedef struct r2_message {
    const char *role, *content;
} r2_message;

/* Adds a conversation in ChatML, <|im_start|>role\ncontent<|im_end|>\n per message, and
   <|im_start|>assistant\n at the end when `answer` is asked for. Control tokens inside a content
   stay text. Errors: R2_ARGUMENT when the tokenizer has no such control tokens. */
r2_status r2_bpe_chat(r2_ctx *ctx, const r2_bpe *bpe, const r2_message *message, int32_t n_messages,
                      bool answer, r2_tokens *out);

/* ================================================================================ [B5] ops ==== */

/* The model's operations on raw pointers: row-major floats, shapes as name(rows, columns). [M7] has
   the formulas and the plain loops, each backward below its forward; [E4] the fast ones. Of the
   context they use n_threads alone. Each output is one sum in one order for any number of threads.
   A _bwd function ADDS to gradients of parameters and SETS those of activations, but where `dx +=`
   is said. None allocates and none can fail. */

/* Which operand of a product is transposed: NT as in the forward pass, NN as in the gradient of the
   input, TN as in that of the weight. */
typedef enum r2_layout { R2_NT, R2_NN, R2_TN } r2_layout;

/* NT: c(M,N) = a(M,K) b(N,K)^T     NN: c(M,N) = a(M,K) b(K,N)     TN: c(M,N) = a(K,M)^T b(K,N).
   lda, ldb, ldc: floats from one row to the next; `add`: adds to c instead of setting it. */
void r2_matmul(const r2_ctx *ctx, r2_layout layout, int64_t M, int64_t N, int64_t K, const float *a,
               int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc, bool add);

/* y(R,C), rstd(R) of x(R,C) with gain(C); dx +=, dgain NULL: frozen (arXiv 1910.07467). */
void r2_rmsnorm_fwd(const r2_ctx *ctx, float *y, float *rstd, const float *x, const float *gain,
                    int64_t R, int64_t C, float eps);
void r2_rmsnorm_bwd(const r2_ctx *ctx, float *dx, float *dgain, const float *dy, const float *x,
                    const float *gain, const float *rstd, int64_t R, int64_t C);

/* Rotary positions, halves rotated (arXiv 2104.09864), in place, on the first n_head heads of
   x(R, ld). `table` (n_ctx, d_head) has cos in the first half of a row, sin in the second.
   direction 1; -1 rotates back: the gradient. */
void r2_rope(const r2_ctx *ctx, float *x, int64_t ld, const int32_t *position, const float *table,
             int64_t R, int32_t n_head, int32_t d_head, int direction);

/* Causal attention in sequences laid end to end; n_head is a multiple of n_kv_head (grouped-query
   attention, arXiv 2305.13245). A row of qkv is | q: n_head d_head | k: n_kv_head d_head | v |. */
typedef struct r2_attention {
    int32_t n_seq, n_head, n_kv_head, d_head;
    const int32_t *seq_begin; /* (n_seq + 1) rows of sequence s                             */
    const bool *branch;       /* (n_seq) as in r2_batch; NULL: each sequence stands alone   */
    const int32_t *first;     /* (n_seq) rows of s before it are keys alone: their out and lse are
                                 left as they are, their dq is 0; NULL: there are none      */
} r2_attention;

/* Floats of scratch that the next two need for these sequences and ctx->n_threads. */
int64_t r2_attention_scratch(const r2_ctx *ctx, const r2_attention *shape);
/* out(R, n_head d_head);  lse(R, n_head): the logarithm of each row's sum of exponentials. */
void r2_attention_fwd(const r2_ctx *ctx, const r2_attention *shape, float *out, float *lse,
                      const float *qkv, float *scratch);
void r2_attention_bwd(const r2_ctx *ctx, const r2_attention *shape, float *dqkv, const float *dout,
                      const float *out, const float *lse, const float *qkv, float *scratch);

/* y(R,F) of gate and up, the halves of gu(R, 2F); dgu may be gu (arXiv 2002.05202). */
void r2_swiglu_fwd(const r2_ctx *ctx, float *y, const float *gu, int64_t R, int64_t F);
void r2_swiglu_bwd(const r2_ctx *ctx, float *dgu, const float *dy, const float *gu, int64_t R,
                   int64_t F);

/* x(R,C) = table(V,C)[token(R)];   dtable[token] += dx, rows in ascending order. */
void r2_embed_fwd(const r2_ctx *ctx, float *x, const float *table, const int32_t *token, int64_t R,
                  int64_t C);
void r2_embed_bwd(const r2_ctx *ctx, float *dtable, const float *dx, const int32_t *token,
                  int64_t R, int64_t C);

/* y(R,C) += bias(C). */
void r2_bias_fwd(const r2_ctx *ctx, float *y, const float *bias, int64_t R, int64_t C);
void r2_bias_bwd(const r2_ctx *ctx, float *dbias, const float *dy, int64_t R, int64_t C);

/* Low-rank additions to y(R,O) = x(R,I) w(O,I)^T (arXiv 2106.09685): each adapter adds
   scale x(R,I) a(rank,I)^T b(n_out,rank)^T to the n_out columns of y from `column` on. */
#define R2_ADAPTERS 3 /* most adapters of one product: query, key, value */
typedef struct r2_adapter {
    int64_t column, n_out;
    const float *a, *b; /* (rank, n_in), (n_out, rank)      */
    float *da, *db;     /* gradients, of r2_lora_bwd alone  */
} r2_adapter;

typedef struct r2_adapters {
    int32_t n;
    r2_adapter adapter[R2_ADAPTERS];
    int64_t n_in, rank;
    float scale;
    float *scratch; /* r2_lora_scratch floats */
} r2_adapters;

/* Floats of scratch for R rows and n adapters. */
int64_t r2_lora_scratch(int64_t R, int64_t n_in, int64_t rank, int32_t n);
/* y(R, ldy) += the additions to it. */
void r2_lora_fwd(const r2_ctx *ctx, float *y, int64_t ldy, const r2_adapters *all, const float *x,
                 int64_t R);
/* db += scale dy^T x a^T,  da += scale b^T dy^T x,  and dx += scale dy b a (NULL: not wanted). */
void r2_lora_bwd(const r2_ctx *ctx, float *dx, const r2_adapters *all, const float *dy, int64_t ldy,
                 const float *x, int64_t R);
/* sum(n_out, n_in) = w + scale b a, in the rows of each adapter. `sum` may be w. */
void r2_lora_sum(const r2_ctx *ctx, float *sum, const float *w, const r2_adapters *all,
                 int64_t n_out);

/* lse(R) = log sum exp(logits(R,V)); entropy(R) of the softmax in nats, NULL: not wanted. */
void r2_logsumexp_fwd(const r2_ctx *ctx, float *lse, float *entropy, const float *logits, int64_t R,
                      int64_t V);
/* Turns logits into dlogits in place, for a loss with derivative dlogp[j] by the log-probability of
   token[j] in row r, where begin[r] <= j < begin[r + 1]. */
void r2_logp_bwd(const r2_ctx *ctx, float *logits, const float *lse, const int64_t *begin,
                 const int32_t *token, const float *dlogp, int64_t R, int64_t V);
/* sum(x^2) over x(n): of a gradient, the square of its norm. */
double r2_sum_squares(const r2_ctx *ctx, const float *x, int64_t n);

/* One step of AdamW on w(n) with gradient g and moments m, v. */
typedef struct r2_adamw_factors {
    float beta1, beta2, eps, lr, decay;
    float scale;      /* of the gradient, by clipping                */
    float fix1, fix2; /* 1 / (1 - beta^step): the moments start at 0 */
} r2_adamw_factors;
void r2_adamw_update(const r2_ctx *ctx, const r2_adamw_factors *f, float *w, const float *g,
                     float *m, float *v, int64_t n);

/* =========================================== [B6] adapters, weights on disk ================ */

/* Low-rank adapters (arXiv 2106.09685) on chosen projections: W acts as W + alpha / rank B A. */
typedef struct r2_lora_config {
    int32_t rank;
    float alpha;
    uint32_t targets; /* bits 1u << id of R2_WQ, R2_WK, R2_WV, R2_WO, R2_WGATE, R2_WUP, R2_WDOWN */
    uint64_t seed;    /* of the initial A; B begins as zero, so the model begins unchanged     */
} r2_lora_config;

/* The adapters of a model: for each target of a layer A(rank, I), then B(O, rank). */
typedef struct r2_lora {
    r2_lora_config config;
    int64_t n_params;
    float *param, *grad;             /* (n_params) layer by layer                        */
    int64_t offset[R2_TENSOR_COUNT]; /* of target id in layer 0, or -1                   */
    int64_t layer_stride;
    bool merged;    /* the weights contain the adapters                 */
    float *sum;     /* weights plus adapters, of one product at a time  */
    float *scratch; /* of products of up to max_rows rows               */
    int64_t max_rows;
    r2_arena memory;
} r2_lora;

r2_lora_config r2_lora_config_default(void); /* rank 8, alpha 16, every projection */
/* Gives the model adapters. Its own weights are frozen from then on: backward and AdamW work on the
   adapters alone, so the model needs no gradients of its own. Errors: R2_ARGUMENT. */
r2_status r2_lora_attach(r2_ctx *ctx, r2_model *model, const r2_lora_config *config);
/* Removes the adapters; unless merged, they are lost. r2_model_free does it too. */
void r2_lora_detach(r2_ctx *ctx, r2_model *model);
/* Adds the adapters to the weights, for speed and for r2_model_save; subtracts them again (exact up
   to rounding). A second call in a row does nothing. A merged model cannot be trained. */
r2_status r2_lora_merge(r2_ctx *ctx, r2_model *model);
r2_status r2_lora_unmerge(r2_ctx *ctx, r2_model *model);

/* Writes the weights as safetensors with the names of Hugging Face's Llama and Qwen2, without
   adapters that are not merged. Errors: R2_IO. */
r2_status r2_model_save(r2_ctx *ctx, const r2_model *model, const char *path);
/* Loads weights (F32, F16 or BF16) into a model of the same shape. R2_FORMAT: a file that breaks a
   rule or has not exactly the model's tensors; then the model stays as it was. */
r2_status r2_model_load(r2_ctx *ctx, r2_model *model, const char *path);
/* Makes a model from a Hugging Face directory: config.json (model_type llama or qwen2) and
   model.safetensors, or the shards that model.safetensors.index.json names. The head is tied if
   there is no lm_head.weight; where config.json says so or not, it must agree. n_ctx: positions
   wanted, 0: as many as config.json states. A setting that would change the numbers and is not
   supported (scaled positions, sliding windows, other activations, quantisation ...) is R2_FORMAT.
   On failure `model` is zeroed. */
r2_status r2_model_load_dir(r2_ctx *ctx, r2_model *model, const char *directory, int32_t n_ctx,
                            bool with_grad);
/* Writes config.json and model.safetensors into an existing directory, as r2_model_save does. */
r2_status r2_model_save_dir(r2_ctx *ctx, const r2_model *model, const char *directory);

/* Adapters as a directory of their own, with PEFT's names: adapter_config.json and
   adapter_model.safetensors. Save writes them, merged or not, into an existing directory. Load
   attaches them to a model without adapters; adapters that are not plain low-rank ones of one rank,
   or do not fit the model, are R2_FORMAT, and the model stays as it was. */
r2_status r2_lora_save(r2_ctx *ctx, const r2_model *model, const char *directory);
r2_status r2_lora_load(r2_ctx *ctx, r2_model *model, const char *directory);
/* A codebook as JSON. Load reads edges and weights into a codebook that has the same fields and
   numbers of buckets; anything else is R2_FORMAT and changes nothing. */
r2_status r2_codebook_save(r2_ctx *ctx, const r2_codebook *codebook, const char *path);
r2_status r2_codebook_load(r2_ctx *ctx, r2_codebook *codebook, const char *path);

/* ==================================================================== [B7] counterfactuals ==== */

/* Does the answer follow from what the reasoning cites (D14)? One fact of a prompt is changed, to
   the bucket of its field that says the opposite most strongly, or to "-". */
typedef enum r2_change { R2_CHANGE_FLIP = 0, R2_CHANGE_REMOVE } r2_change;

/* The change of the fact whose weight the trace gives most, beside the same change of facts that it
   does not cite: the one whose weight changes most alike, and one drawn from all of them. */
typedef struct r2_causal {
    int64_t n; /* examples whose greedy trace is well formed and that have both facts             */
    /* share whose score moved the way the weights changed */
    double cited_moved, uncited_moved, drawn_moved;
    /* mean change of the log-odds, positive: that way */
    double cited_shift, uncited_shift, drawn_shift;
} r2_causal;

/* Asks every example (of a scoring set) four times, as it is and with each fact changed; the model
   reasons anew each time. A change that no weight notices has no direction: such a fact is not
   taken. Errors: those of r2_score. */
r2_status r2_counterfactual(r2_ctx *ctx, r2_model *model, const r2_examples *examples,
                            const r2_codebook *codebook, const r2_vocab *vocab, r2_change change,
                            r2_causal *out);

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
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(_OPENMP)
#include <omp.h>
#include <sched.h>
#endif
#if defined(R2_MPI)
#define OMPI_SKIP_MPICXX /* the C interface alone, of OpenMPI ... */
#define MPICH_SKIP_MPICXX /* ... and MPICH */
#include <mpi.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#define R2__HAS_FSYNC
#if !defined(__cplusplus) && !defined(fileno) /* strict C11 hides them */
int fileno(FILE *stream);
int fsync(int file);
#endif
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

/* stb_ds, with the memory of [E1]. A program that has compiled it above this line needs no
   option. */
#if defined(STB_DS_IMPLEMENTATION) && defined(INCLUDE_STB_DS_H)
#define R2_STB_DS_IMPLEMENTED
#endif
#if !defined(R2_STB_DS_IMPLEMENTED)
#ifdef __cplusplus
extern "C" {
#endif
static void *r2__stb_realloc(void *ptr, size_t size);
static void r2__stb_free(void *ptr);
#if defined(__GNUC__) || defined(__clang__) /* they shift bytes into the sign of an int */
extern size_t stbds_hash_bytes(void *, size_t, size_t) __attribute__((no_sanitize("undefined")));
static size_t stbds_siphash_bytes(void *, size_t, size_t) __attribute__((no_sanitize("undefined")));
#endif
#ifdef __cplusplus
}
#endif
#undef STBDS_REALLOC
#undef STBDS_FREE
#define STBDS_REALLOC(context, ptr, size) r2__stb_realloc(ptr, size)
#define STBDS_FREE(context, ptr)          r2__stb_free(ptr)
#define STB_DS_IMPLEMENTATION
#endif
#if !defined(R2_STB_DS_IMPLEMENTED) || !defined(INCLUDE_STB_DS_H)
#define STBDS_NO_SHORT_NAMES
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#endif
#if defined(__has_include)
#if __has_include(<stb/stb_ds.h>)
#include <stb/stb_ds.h>
#else
#include "stb_ds.h"
#endif
#else
#include <stb/stb_ds.h>
#endif
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic pop
#endif
#undef STBDS_NO_SHORT_NAMES
#undef STB_DS_IMPLEMENTATION
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Without IEEE arithmetic the same program computes other log-probabilities and reads other data,
   and nothing tells: so these options are refused. */
#if defined(__FAST_MATH__)
#error "r2rec.h: compile without -ffast-math (-Ofast includes it)"
#elif defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0
#error "r2rec.h: compile without -ffinite-math-only (-Ofast and -ffast-math include it)"
#elif defined(__ASSOCIATIVE_MATH__)
#error "r2rec.h: compile without -fassociative-math (-Ofast, -funsafe-math-optimizations too)"
#endif

/* Compilers that define no such macro (clang, for parts of -ffast-math) are caught by what they do:
   only under these options may they know (x + 1) - x, or x != x, of an x that they do not know. */
#if defined(__OPTIMIZE__) && defined(__has_attribute)
#if __has_attribute(error)
#define R2__SEES_FAST_MATH
void r2__refuse_fast_math(void)
    __attribute__((error("r2rec.h: compile without -fassociative-math, -fno-honor-nans "
                         "(-funsafe-math-optimizations, -ffast-math, -Ofast include them)")));
#endif
#endif
static inline void r2__need_ieee(void) {
#if defined(R2__SEES_FAST_MATH)
    volatile double unknown = 0.0;
    const double x = unknown;
    if (__builtin_constant_p((x + 1.0) - x) || __builtin_constant_p(x != x)) r2__refuse_fast_math();
#endif
}

/* ---- what earlier rooms call of later ones ---- */

/* [E1] lists and tables, hashes; what callers pass, looked at before it is used */
static void *r2__arena_take(r2_ctx *ctx, r2_arena *arena, uint64_t count, uint64_t size);
static r2_status r2__array_reserve(r2_ctx *ctx, r2__owner *owner, void *list, size_t size,
                                   int64_t more);
static r2_status r2__map_put(r2_ctx *ctx, r2__owner *owner, void *map, size_t size, const void *key,
                             size_t key_size, int64_t *at);
static int64_t r2__map_find(void *map, size_t size, const void *key, size_t key_size);
static void r2__map_free(r2_ctx *ctx, r2__owner *owner, void *map, size_t size);
static uint64_t r2__fnv(const char *text, size_t len);
static uint64_t r2__fnv_on(uint64_t hash, const void *bytes, size_t len);
static r2_status r2__check_draw(r2_ctx *ctx, const r2_draw_config *c);
static r2_status r2__check_chain_config(r2_ctx *ctx, const r2_chain_config *config);
static r2_status r2__check_question(r2_ctx *ctx, const r2_graph *g, const r2_question *q,
                                    bool no_item);
static r2_status r2__check_prompt(r2_ctx *ctx, const r2_prompt_config *config,
                                  const r2_evidence *evidence);
static r2_status r2__check_model(r2_ctx *ctx, const r2_model_config *c);
static r2_status r2__check_own_weights(r2_ctx *ctx, const r2_model *model, const char *call);
static r2_status r2__check_generate(r2_ctx *ctx, const r2_model *model, const r2_generate_config *c,
                                    int64_t n_prompt, const int64_t *begin, const int32_t *token);
static r2_status r2__check_step_size(r2_ctx *ctx, const char *who, int32_t groups, int32_t group,
                                     int32_t outputs, int64_t rows_each);
static r2_status r2__check_codec(r2_ctx *ctx, const char *who, const r2_examples *ex);
static r2_status r2__check_sft(r2_ctx *ctx, const r2_examples *examples, const r2_sft_config *c);
static r2_status r2__check_grpo(r2_ctx *ctx, const r2_examples *examples, const r2_grpo_config *c);
static r2_status r2__check_run(r2_ctx *ctx, const r2_run_config *c);

/* [M7] or [E5], [M11], [E3], [E6], [E8] */
static r2_status r2__generate(r2_ctx *ctx, r2_model *model, const char *task,
                              const r2_generate_config *config, int64_t n_prompt,
                              const int64_t *begin, const int32_t *token, r2_generation *out);
static r2_status r2__run_evidence(r2_ctx *ctx, const r2_run *run, const r2_question *question,
                                  int64_t n, r2_evidence *evidence);
static int r2__compare_float(const void *a, const void *b);
static r2_status r2__lora_reserve(r2_ctx *ctx, r2_model *model, int64_t rows);
static r2_status r2__model_reference(r2_ctx *ctx, r2_model *reference, const r2_model *model);
static void r2__english_prompt(r2_ctx *ctx, const r2_prompt_config *config,
                               const r2_evidence *evidence, r2_prompt *prompt);
static void r2__vocab_lines(r2_ctx *ctx, const r2_vocab *vocab, r2_text *text);
static r2_status r2__vocab_add_lines(r2_ctx *ctx, r2_vocab *vocab, const char *name, r2_text *text);

/* [E7] files that belong together */
#define R2__PATH 1024 /* bytes of a path, the NUL included */
static r2_status r2__join_path(r2_ctx *ctx, char *path, const char *directory, const char *name);
static r2_status r2__settle(r2_ctx *ctx, const char *directory, const char *const *name, int n);
static r2_status r2__save_together(r2_ctx *ctx, const char *directory, const char *const *name,
                                   r2_text *text, int n, bool is_run);

/* [E9] A batch is cut between sequences into up to R2__PARTS parts of about as many rows, by its
   shape alone. A part is computed by one thread and by one process of a team; each has a gradient
   of its own, and these are added in their order. So results depend on neither. (Above R2__APART
   parameters the parts add to one gradient, one after the other; threads divide the outputs.) */
enum { R2__PARTS = 8, R2__PART_ROWS = 64 /* of a part at least */ };
typedef struct r2__range {
    int64_t begin, end; /* [begin, end) */
} r2__range;
static void r2__work_free(r2_ctx *ctx, r2_model *model);
static bool r2__is_small(const r2_model *model);
static r2__range r2__team_share(const r2_ctx *ctx, int64_t n);
static r2_status r2__team_gather(r2_ctx *ctx, r2_status status, void *data, int64_t n,
                                 const int64_t *begin, uint64_t size);
static r2_status r2__team_tell(r2_ctx *ctx, r2_status status, void *bytes, size_t size);
static bool r2__is_first(const r2_ctx *ctx);

/* ---- what all rooms share ---- */

/* A piece of text, without a NUL at its end. */
typedef struct r2__slice {
    const char *at;
    size_t len;
} r2__slice;

static bool r2__same(r2__slice a, r2__slice b) {
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static bool r2__is(r2__slice word, const char *text) {
    return word.len == strlen(text) && memcmp(word.at, text, word.len) == 0;
}

/* Plain loops of part one that part two has faster: with R2_REFERENCE they are what the library
   calls; else they are named r2_x_plain and serve the tests that compare both. */
#if defined(R2_REFERENCE)
#define R2__PLAIN(type, name) type name
#else
#define R2__PLAIN(type, name) static inline type name##_plain
#endif

/* Zeroed memory for n elements of a type, or NULL; the second in an arena. */
#define R2__NEW(ctx, type, n) ((type *)r2_alloc(ctx, (uint64_t)(n), sizeof(type)))
#define R2__ARENA_NEW(ctx, arena, type, n)                                                         \
    ((type *)r2_arena_alloc(ctx, arena, (uint64_t)(n), sizeof(type)))

/* R2_PARALLEL_FOR where the body is one statement. One thread goes without a parallel region: even
   that of a single thread costs as much as norming a row, and so does the next one of several. */
#define R2__FOR_EACH(threads, i, n, statement)                                                     \
    do {                                                                                           \
        if ((threads) > 1) {                                                                       \
            R2_PARALLEL_FOR(threads, i, n) statement;                                              \
        } else {                                                                                   \
            for (int64_t i = 0; i < (n); ++i) statement;                                           \
        }                                                                                          \
    } while (0)

/* Binary search: `begin` and `end` become the first place `at` of [begin, end) for which `before`
   is false; it is true up to there. */
#define R2__SEARCH(begin, end, at, before)                                                         \
    while (begin < end) {                                                                          \
        const int64_t at = begin + (end - begin) / 2;                                              \
        if (before) begin = at + 1;                                                                \
        else end = at;                                                                             \
    }

/* ######################################################## PART ONE: THE METHOD ################ */

/* =============================================================================== [M1] data ====

   In:   r2_data, from a loader ([E2]).
   Out:  who is tested on what: a role for every row, held-out positives, candidate sets.

   One user, all ratings in order of time; a positive is a rating of 4 or more (0.8 x 5):

       rating   5      2      4      3      5      1
       item     Heat   Jaws   Alien  Big    Tron   Cube
       role     train  train  VALID  unused TEST   unused

   Test positive: the last 5 or 4, Tron. Validation positive: the one before it, Alien. Training
   ends before Alien, so no model sees this user's own future; what others did later counts.
   Candidates of the test case in a catalogue of 10 items: Tron, and negatives from the 4 items that
   the user never rated. With Heat, Jaws, Alien, Big, Tron, Cube as items 0, 2, 3, 5, 8, 9 these are
   1, 4, 6, 7; r2__unseen_item(seen, 6, 2) = 6 finds the third without a list of them.
   (test_data.c: the_opening_of_m1) */

void r2_data_free(r2_ctx *ctx, r2_data *data) {
    r2_release(ctx, data->user_begin);
    r2_release(ctx, data->item);
    r2_release(ctx, data->rating);
    r2_release(ctx, data->time);
    r2__map_free(ctx, &data->owner, &data->user_key, sizeof *data->user_key);
    r2__map_free(ctx, &data->owner, &data->item_key, sizeof *data->item_key);
    r2_release(ctx, data->title);
    r2_release(ctx, data->genres);
    r2_release(ctx, data->year);
    r2_arena_free(ctx, &data->text);
    memset(data, 0, sizeof *data);
}

/* Place of x among the ascending values begin .. end - 1, or -1. */
static int64_t r2__find(const uint32_t *values, int64_t begin, int64_t end, uint32_t x) {
    const int64_t last = end;
    R2__SEARCH(begin, end, at, values[at] < x);
    return begin < last && values[begin] == x ? begin : -1;
}

int64_t r2_data_find(const r2_data *data, uint32_t user, uint32_t item) {
    return r2__find(data->item, data->user_begin[user], data->user_begin[user + 1], item);
}

int64_t r2_data_user(const r2_data *data, const char *key) {
    return r2__map_find(data->user_key, sizeof *data->user_key, key, 0);
}

int64_t r2_data_item(const r2_data *data, const char *key) {
    return r2__map_find(data->item_key, sizeof *data->item_key, key, 0);
}

/* ---- splits ---- */

typedef struct r2__moment {
    int32_t time;
    uint64_t tie;
    int64_t row;
} r2__moment;

/* The tie rule: a hash of the ids themselves. */
static r2__moment r2__moment_make(const r2_data *data, uint64_t seed, int64_t user, uint32_t item,
                                  int32_t time, int64_t row) {
    const char *u = data->user_key[user], *i = data->item_key[item];
    r2__moment moment;
    moment.time = time;
    moment.tie = r2_hash(seed, r2__fnv(u, strlen(u)), r2__fnv(i, strlen(i)));
    moment.row = row;
    return moment;
}

static int r2__moment_order(const void *left, const void *right) {
    const r2__moment *a = (const r2__moment *)left, *b = (const r2__moment *)right;
    if (a->time != b->time) return a->time < b->time ? -1 : 1;
    if (a->tie != b->tie) return a->tie < b->tie ? -1 : 1;
    return (a->row > b->row) - (a->row < b->row);
}

r2_split_config r2_split_config_default(void) {
    const r2_split_config config = {0.0f, 1};
    return config;
}

/* Orders the rows of each user by time and the tie rule -> split->by_time. */
static r2_status r2__split_order(r2_ctx *ctx, r2_split *split, const r2_data *data) {
    int64_t most = 0;
    r2__moment *moment;
    for (int64_t u = 0; u < data->n_users; ++u) {
        int64_t degree = data->user_begin[u + 1] - data->user_begin[u];
        most = degree > most ? degree : most;
    }
    moment = R2__NEW(ctx, r2__moment, most);
    if (!moment) return ctx->status;
    for (int64_t u = 0; u < data->n_users; ++u) {
        int64_t begin = data->user_begin[u], n = data->user_begin[u + 1] - begin;
        for (int64_t k = 0; k < n; ++k)
            moment[k] = r2__moment_make(data, split->config.seed, u, data->item[begin + k],
                                        data->time[begin + k], begin + k);
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
    const r2_target target = {user, data->item[row], row};
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

/* A split with everything in training (R2_TRAIN is 0), rows in order of time. */
static r2_status r2__split_start(r2_ctx *ctx, r2_split *split, const r2_data *data,
                                 const r2_split_config *config, int64_t n_targets) {
    const uint64_t n = (uint64_t)data->n_ratings;
    memset(split, 0, sizeof *split);
    split->config = config ? *config : r2_split_config_default();
    if (split->config.min_positive == 0.0f) split->config.min_positive = 0.8f * data->rating_max;
    split->role = R2__NEW(ctx, uint8_t, n);
    split->by_time = R2__NEW(ctx, int64_t, n);
    split->test = R2__NEW(ctx, r2_target, n_targets);
    split->valid = R2__NEW(ctx, r2_target, n_targets);
    if (!split->role || !split->by_time || !split->test || !split->valid) return ctx->status;
    return r2__split_order(ctx, split, data);
}

/* Counts the training rows; after a failure releases everything. */
static r2_status r2__split_end(r2_ctx *ctx, r2_split *split, const r2_data *data,
                               r2_status status) {
    for (int64_t k = 0; k < data->n_ratings && status == R2_OK; ++k)
        split->n_train += split->role[k] == R2_TRAIN;
    if (status != R2_OK) r2_split_free(ctx, split);
    return status;
}

r2_status r2_split_init(r2_ctx *ctx, r2_split *split, const r2_data *data,
                        const r2_split_config *config) {
    r2_status status = r2__split_start(ctx, split, data, config, data->n_users);
    for (int64_t u = 0; u < data->n_users && status == R2_OK; ++u)
        r2__split_user(split, data, (uint32_t)u);
    return r2__split_end(ctx, split, data, status);
}

static int64_t r2__thin_targets(r2_target *target, int64_t n_targets, int64_t n) {
    if (n_targets <= n) return n_targets;
    for (int64_t k = 0; k < n; ++k) target[k] = target[k * n_targets / n];
    return n;
}

void r2_split_thin(r2_split *split, int64_t n) {
    split->n_valid = r2__thin_targets(split->valid, split->n_valid, n);
    split->n_test = r2__thin_targets(split->test, split->n_test, n);
}

/* Training interactions of each item (n_items), or NULL. */
static int64_t *r2__train_degrees(r2_ctx *ctx, const r2_data *data, const uint8_t *role) {
    int64_t *n = R2__NEW(ctx, int64_t, data->n_items);
    for (int64_t k = 0; k < data->n_ratings && n; ++k) n[data->item[k]] += role[k] == R2_TRAIN;
    return n;
}

/* Moves the targets with min_train or more to the front, in their order; returns
   how many there are. */
static int64_t r2__warm_first(r2_target *target, int64_t n_targets, const int64_t *degree,
                              int64_t min_train) {
    int64_t n = 0;
    for (int64_t k = 0; k < n_targets; ++k) {
        const r2_target moved = target[k];
        if (degree[moved.item] < min_train) continue;
        target[k] = target[n];
        target[n++] = moved;
    }
    return n;
}

r2_status r2_split_warm(r2_ctx *ctx, r2_split *split, const r2_data *data, int64_t min_train) {
    int64_t *degree = r2__train_degrees(ctx, data, split->role);
    if (!degree) return ctx->status;
    const int64_t n_test = r2__warm_first(split->test, split->n_test, degree, min_train);
    const int64_t n_valid = r2__warm_first(split->valid, split->n_valid, degree, min_train);
    split->n_cold_test = split->n_test - n_test;
    split->n_cold_valid = split->n_valid - n_valid;
    split->n_test = n_test;
    split->n_valid = n_valid;
    r2_release(ctx, degree);
    return R2_OK;
}

void r2_split_free(r2_ctx *ctx, r2_split *split) {
    r2_release(ctx, split->role);
    r2_release(ctx, split->by_time);
    r2_release(ctx, split->test);
    r2_release(ctx, split->valid);
    memset(split, 0, sizeof *split);
}

/* ---- candidate sets ---- */

/* The item of rank `rank`, from 0, among those that are not in the `n` ascending items of a user:
   rank + the number of seen items before it. */
static uint32_t r2__unseen_item(const uint32_t *seen, int64_t n, int64_t rank) {
    int64_t begin = 0; /* becomes the first place with more than `rank` unseen before it */
    R2__SEARCH(begin, n, at, (int64_t)seen[at] - at <= rank);
    return (uint32_t)(rank + begin);
}

/* A negative, which may have been drawn before. warm (n_items): items to draw from, NULL: all. */
static uint32_t r2__draw_negative(r2_rng *rng, const r2_data *data, uint32_t user, bool popular,
                                  const uint8_t *warm) {
    const uint32_t *seen = data->item + data->user_begin[user];
    int64_t n_seen = data->user_begin[user + 1] - data->user_begin[user];
    uint32_t item;
    if (popular) {
        do item = data->item[r2_rng_below(rng, (uint64_t)data->n_ratings)];
        while (r2_data_find(data, user, item) >= 0);
        return item;
    }
    do item = r2__unseen_item(seen, n_seen,
                              (int64_t)r2_rng_below(rng, (uint64_t)(data->n_items - n_seen)));
    while (warm && !warm[item]);
    return item;
}

/* Number of different negatives that a user can get. */
static int64_t r2__count_negatives(const r2_data *data, uint32_t user, const uint8_t *warm) {
    int64_t begin = data->user_begin[user], end = data->user_begin[user + 1];
    int64_t n = data->n_items - (end - begin);
    if (!warm) return n;
    n = 0;
    for (int64_t i = 0; i < data->n_items; ++i) n += warm[i] != 0;
    for (int64_t k = begin; k < end; ++k) n -= warm[data->item[k]] != 0;
    return n;
}

static void r2__draw_candidates(uint32_t *row, const r2_data *data, r2_target target,
                                const r2_negatives *negatives, const uint8_t *warm) {
    r2_rng rng = r2_rng_make(negatives->seed, R2_STREAM_CANDIDATES,
                             (uint64_t)target.user << 32 | target.item);
    row[0] = target.item;
    for (int64_t k = 1; k <= negatives->n;) {
        int64_t j = 1;
        row[k] = r2__draw_negative(&rng, data, target.user, negatives->popular, warm);
        while (j < k && row[j] != row[k]) ++j;
        if (j == k) ++k; /* else it was drawn before: draw again */
    }
}

static r2_status r2__candidates_alloc(r2_ctx *ctx, r2_candidates *c, int64_t n_cases,
                                      int64_t n_per_case) {
    uint64_t cells;
    memset(c, 0, sizeof *c);
    if (!r2_mul_u64((uint64_t)n_cases, (uint64_t)n_per_case, &cells)) cells = UINT64_MAX;
    c->user = R2__NEW(ctx, uint32_t, n_cases);
    c->item = R2__NEW(ctx, uint32_t, cells);
    if (!c->user || !c->item) {
        r2_candidates_free(ctx, c);
        return ctx->status;
    }
    c->n_cases = n_cases;
    c->n_per_case = n_per_case;
    return R2_OK;
}

/* Which items have min_train training interactions or more (n_items); NULL: no memory. */
static uint8_t *r2__warm_items(r2_ctx *ctx, const r2_data *data, const r2_negatives *negatives) {
    const uint64_t n_items = (uint64_t)data->n_items;
    int64_t *n = r2__train_degrees(ctx, data, negatives->warm->role);
    uint8_t *warm = n ? R2__NEW(ctx, uint8_t, n_items) : NULL;
    for (uint64_t i = 0; i < n_items && warm; ++i) warm[i] = n[i] >= negatives->min_train;
    r2_release(ctx, n);
    return warm;
}

r2_status r2_candidates_init(r2_ctx *ctx, r2_candidates *c, const r2_data *data,
                             const r2_target *targets, int64_t n_targets,
                             const r2_negatives *negatives) {
    const int64_t n = negatives->n;
    uint8_t *warm = NULL;
    r2_status status;
    memset(c, 0, sizeof *c);
    if (n_targets < 0 || n < 0 || n > data->n_items)
        return r2_fail(ctx, R2_ARGUMENT,
                       "candidates: n_targets = %lld, expected >= 0; n = %lld, expected 0 to %lld",
                       (long long)n_targets, (long long)n, (long long)data->n_items);
    if (negatives->popular && negatives->warm)
        return r2_fail(ctx, R2_ARGUMENT, "candidates: expected popular or warm, found both");
    if (negatives->warm && !(warm = r2__warm_items(ctx, data, negatives))) return ctx->status;
    status = r2__candidates_alloc(ctx, c, n_targets, n + 1);
    c->n_cases = 0;
    for (int64_t k = 0; k < n_targets && status == R2_OK; ++k) {
        if (r2__count_negatives(data, targets[k].user, warm) < n) continue;
        c->user[c->n_cases] = targets[k].user;
        r2__draw_candidates(c->item + c->n_cases++ * c->n_per_case, data, targets[k], negatives,
                            warm);
    }
    if (status == R2_OK && n_targets > 0 && c->n_cases == 0)
        status = r2_fail(ctx, R2_ARGUMENT,
                         "candidates: expected a user with %lld unseen items, "
                         "found none",
                         (long long)n);
    r2_release(ctx, warm);
    if (status != R2_OK) r2_candidates_free(ctx, c);
    return status;
}

void r2_candidates_free(r2_ctx *ctx, r2_candidates *c) {
    r2_release(ctx, c->user);
    r2_release(ctx, c->item);
    memset(c, 0, sizeof *c);
}

/* ============================================================================== [M2] graph ==== */

/* In:   r2_data and the role of each of its rows.
   Out:  r2_graph: the items of every user, the users of every item, and how many butterflies
         (two users, two items, all four edges) lie at each edge.

       Ann   Alien 5, Heat 4            Lines are in order of time. Ann and Bob share two items,
       Bob   Alien 5, Heat 3, Tron 4    so do Bob and Cyd: 2 butterflies, and Bob is in both.
       Cyd   Heat 2, Tron 5             [M3] and [M4] go on with these seven ratings.

   (The cover's people have other ratings.) A closed chain u0 -> i0 -> u1 -> i1 -> u0 is a butterfly
   seen from u0, so Bob starts 2 of them.
   The graph does not know which edge is asked about: r2__without_target() in [M3] hides it. */

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
    g->user_begin = R2__NEW(ctx, int64_t, g->n_users + 1);
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

/* The item side: a counting sort of the edges by item. Users are visited in ascending order, which
   leaves the users of each item ascending. */
static r2_status r2__graph_items(r2_ctx *ctx, r2_graph *g) {
    int64_t *begin = R2__NEW(ctx, int64_t, g->n_items + 2);
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
        return r2_fail(ctx, R2_ARGUMENT, "graph: expected fewer than 2^32 ratings, found %lld",
                       (long long)data->n_ratings);
    graph->n_users = data->n_users;
    graph->n_items = data->n_items;
    graph->rating_min = data->rating_min;
    graph->rating_max = data->rating_max;
    status = r2__graph_users(ctx, graph, data, role);
    if (status == R2_OK) status = r2__graph_items(ctx, graph);
    if (status != R2_OK) r2_graph_free(ctx, graph);
    return status;
}

void r2_graph_free(r2_ctx *ctx, r2_graph *graph) {
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
    return r2__find(graph->user_item, graph->user_begin[user], graph->user_begin[user + 1], item);
}

/* ---- butterflies ---- */

/* The edges as seen from one side: the vertices there and their neighbours on the other side. */
typedef struct r2__side {
    int64_t n;
    const int64_t *begin;
    const uint32_t *near;
    const uint32_t *edge; /* NULL: positions are edges of the user side already */
} r2__side;

/* Paths of two edges through the vertices of `via`: the sum of its squared degrees. */
static double r2__two_step_paths(const r2__side *via) {
    double paths = 0.0;
    for (int64_t v = 0; v < via->n; ++v) {
        double degree = (double)(via->begin[v + 1] - via->begin[v]);
        paths += degree * degree;
    }
    return paths;
}

/* Butterflies of every edge (start, v):   out(start, v) = sum over w near v of (paths[w] - 1),
   paths[w] = number of two-step paths from start to w. Each of the other paths[w] - 1 paths closes
   a butterfly with start - v - w.

       start --- v --- w
            \--- v' --/      paths[w] = 2: one butterfly at each of the four edges

   paths (from->n): zeros, before and after. */
static void r2__edge_butterflies(const r2__side *from, const r2__side *via, int64_t start,
                                 uint32_t *paths, int64_t *out) {
    const int64_t begin = from->begin[start], end = from->begin[start + 1];
    for (int64_t j = begin; j < end; ++j) {
        uint32_t v = from->near[j];
        for (int64_t k = via->begin[v]; k < via->begin[v + 1]; ++k) paths[via->near[k]]++;
    }
    paths[start] = 1; /* a path back to start closes nothing */
    for (int64_t j = begin; j < end; ++j) {
        uint32_t v = from->near[j];
        int64_t sum = via->begin[v] - via->begin[v + 1];
        for (int64_t k = via->begin[v]; k < via->begin[v + 1]; ++k) sum += paths[via->near[k]];
        out[from->edge ? from->edge[j] : j] = sum;
    }
    memset(paths, 0, (size_t)from->n * sizeof *paths);
}

/* Starts from the side that takes fewer steps. Every edge belongs to one start, so threads share
   nothing that they write. */
static r2_status r2__all_edge_butterflies(r2_ctx *ctx, const r2_graph *g, int64_t *out) {
    const r2__side users = {g->n_users, g->user_begin, g->user_item, NULL};
    const r2__side items = {g->n_items, g->item_begin, g->item_user, g->item_edge};
    const bool from_users = r2__two_step_paths(&items) <= r2__two_step_paths(&users);
    const r2__side *from = from_users ? &users : &items, *via = from_users ? &items : &users;
    const int n_lanes = r2_threads(ctx, g->n_edges);
    uint32_t *paths = R2__NEW(ctx, uint32_t, n_lanes * from->n);
    if (!paths) return ctx->status;
    R2_PARALLEL_FOR(n_lanes, lane, n_lanes) {
        for (int64_t start = lane; start < from->n; start += n_lanes)
            r2__edge_butterflies(from, via, start, paths + lane * from->n, out);
    }
    r2_release(ctx, paths);
    return R2_OK;
}

r2_status r2_butterflies_init(r2_ctx *ctx, r2_butterflies *b, const r2_graph *graph) {
    r2_status status = R2_OK;
    memset(b, 0, sizeof *b);
    b->edge = R2__NEW(ctx, int64_t, graph->n_edges);
    b->user = R2__NEW(ctx, int64_t, graph->n_users);
    if (!b->edge || !b->user) status = ctx->status;
    if (status == R2_OK) status = r2__all_edge_butterflies(ctx, graph, b->edge);
    if (status != R2_OK) {
        r2_butterflies_free(ctx, b);
        return status;
    }
    for (int64_t u = 0; u < graph->n_users; ++u) {
        for (int64_t e = graph->user_begin[u]; e < graph->user_begin[u + 1]; ++e)
            b->user[u] += b->edge[e];
        b->user[u] /= 2; /* two edges of each butterfly meet at u */
        b->total += b->user[u];
    }
    b->total /= 2; /* two corners of each are users */
    return R2_OK;
}

void r2_butterflies_free(r2_ctx *ctx, r2_butterflies *b) {
    r2_release(ctx, b->edge);
    r2_release(ctx, b->user);
    memset(b, 0, sizeof *b);
}

/* ============================================================================= [M3] chains ==== */

/* In:   an index (a graph and its order in time), a question: user u0, item i*, u0's history.
   Out:  up to k chains u0 - i0 - u1 - i* - u0, chosen by a law, each with its score.

   A chain is evidence: u1 shares i0 with u0 and took i* as well. Its score falls with the age of i0
   in u0's history and with the distance |d| between i0 and i* in u1's history, and it rises with
   the similarity of u0 and u1, simrec. Should the Ann of [M2] take Tron?

       Ann - Heat - Bob - Tron - Ann    age 0, |d| 1    0.5^(1/10) x 0.62 = 0.58
       Ann - Alien - Bob - Tron - Ann   age 1, |d| 2    0.5^(3/10) x 0.62 = 0.50
       Ann - Heat - Cyd - Tron - Ann    age 0, |d| 1    0.5^(1/10) x 0.33 = 0.31

   simrec(Bob) = 1/sqrt(3 4) + 0.5^(1/10)/sqrt(2 4) = 0.62, over Heat and Alien. The coherent law
   takes the best chain of each person: the first and the third. A uniform law draws from all three.
   r2__choose_chains() below applies the law; [M4] shows what it returns.

   The edge (u0, i*) is never read: r2__without_target() is the one place that hides it, and
   test_chains.c deletes it and compares every byte. */

/* ---- the index: edges in order of time ---- */

static r2__moment r2__edge_moment(const r2_index *index, const r2_data *data, int64_t u,
                                  int64_t e) {
    const r2_graph *g = index->graph;
    return r2__moment_make(data, index->seed, u, g->user_item[e], g->user_time[e], e);
}

/* Sorting all edges once gives the global ranks and, read in that order, every user's history. */
static r2_status r2__index_order(r2_ctx *ctx, r2_index *index, const r2_data *data) {
    const r2_graph *g = index->graph;
    r2__moment *moment = R2__NEW(ctx, r2__moment, g->n_edges);
    uint32_t *owner = R2__NEW(ctx, uint32_t, g->n_edges);
    uint32_t *seen = R2__NEW(ctx, uint32_t, g->n_users);
    r2_status status = R2_NO_MEMORY;
    if (moment && owner && seen) {
        for (int64_t u = 0; u < g->n_users; ++u)
            for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e) {
                owner[e] = (uint32_t)u;
                moment[e] = r2__edge_moment(index, data, u, e);
            }
        qsort(moment, (size_t)g->n_edges, sizeof *moment, r2__moment_order);
        for (int64_t k = 0; k < g->n_edges; ++k) {
            int64_t e = moment[k].row;
            uint32_t place = seen[owner[e]]++;
            index->rank[e] = k;
            index->by_rank[k] = (uint32_t)e;
            index->position[e] = place;
            index->by_time[g->user_begin[owner[e]] + place] = e;
        }
        status = R2_OK;
    }
    r2_release(ctx, moment);
    r2_release(ctx, owner);
    r2_release(ctx, seen);
    return status;
}

/* Genres get bits in the order they are met; from the 65th on they are not counted. */
static uint64_t r2__genre_bits(const char *genres, r2__slice known[64], int *n_known) {
    uint64_t bits = 0;
    while (*genres) {
        const r2__slice genre = {genres, strcspn(genres, "|")};
        int k = 0;
        while (k < *n_known && !r2__same(known[k], genre)) ++k;
        if (k == *n_known && k < 64 && genre.len > 0) known[(*n_known)++] = genre;
        if (k < *n_known) bits |= (uint64_t)1 << k;
        genres += genre.len + (genres[genre.len] == '|');
    }
    return bits;
}

static int64_t r2__longest_history(const r2_graph *g) {
    int64_t longest = 1;
    for (int64_t u = 0; u < g->n_users; ++u)
        if (r2_graph_user_degree(g, (uint32_t)u) > longest)
            longest = r2_graph_user_degree(g, (uint32_t)u);
    return longest;
}

/* Chains are many, distances are few: their powers are looked up. Equal distances then have equal
   powers, whatever the compiler does. */
static void r2__index_fade(r2_index *index) {
    const r2_graph *g = index->graph;
    const int64_t longest = r2__longest_history(g);
    for (int64_t n = 0; n < 2 * longest; ++n) index->half10[n] = exp2f(-(float)n / 10.0f);
    for (int64_t d = 0; d < longest; ++d) {
        const float far = (float)d;
        /* 1/d of d = 0 is infinite and never read: i0 is not i* */
        const r2_fade fade = {exp2f(-far / 5.0f), exp2f(-far / 30.0f), 1.0f / far};
        index->fade[d] = fade;
    }
    for (int64_t u = 0; u < g->n_users; ++u) {
        const float half_life = 0.05f * (float)r2_graph_user_degree(g, (uint32_t)u);
        for (int64_t e = g->user_begin[u]; e < g->user_begin[u + 1]; ++e)
            index->fade_share[e] = exp2f(-(float)(e - g->user_begin[u]) / half_life);
    }
}

static void r2__index_users(r2_index *index) {
    const r2_graph *g = index->graph;
    for (int64_t u = 0; u < g->n_users; ++u) {
        double sum = 0.0;
        int64_t begin = g->user_begin[u], end = g->user_begin[u + 1];
        index->key[u] = (uint32_t)r2_hash(0, (uint64_t)u, 0);
        for (int64_t e = begin; e < end; ++e) sum += (double)g->user_rating[e];
        index->user_mean[u] = end > begin ? (float)(sum / (double)(end - begin)) : 0.0f;
        index->inv_root[u] = end > begin ? 1.0 / sqrt((double)(end - begin)) : 0.0;
        index->rating_sum += sum;
    }
}

static void r2__index_items(r2_index *index, const r2_data *data) {
    r2__slice known[64];
    int n_known = 0;
    for (int64_t i = 0; i < index->graph->n_items; ++i) {
        const int64_t n = r2_graph_item_degree(index->graph, (uint32_t)i);
        index->degree_square += n * n;
        index->year[i] = data->year[i];
        index->genres[i] = r2__genre_bits(data->genres[i], known, &n_known);
    }
}

r2_status r2_index_init(r2_ctx *ctx, r2_index *index, const r2_graph *graph, const r2_data *data,
                        float min_positive, uint64_t seed) {
    const int64_t n_edges = graph->n_edges, n_items = graph->n_items, n_users = graph->n_users;
    const int64_t longest = r2__longest_history(graph);
    r2_arena *m = &index->memory;
    r2_status status = R2_NO_MEMORY;
    memset(index, 0, sizeof *index);
    index->graph = graph;
    index->min_positive = min_positive;
    index->seed = seed;
    index->position = R2__ARENA_NEW(ctx, m, uint32_t, n_edges);
    index->by_time = R2__ARENA_NEW(ctx, m, int64_t, n_edges);
    index->rank = R2__ARENA_NEW(ctx, m, int64_t, n_edges);
    index->by_rank = R2__ARENA_NEW(ctx, m, uint32_t, n_edges);
    index->user_mean = R2__ARENA_NEW(ctx, m, float, n_users);
    index->inv_root = R2__ARENA_NEW(ctx, m, double, n_users);
    index->key = R2__ARENA_NEW(ctx, m, uint32_t, n_users);
    index->half10 = R2__ARENA_NEW(ctx, m, float, 2 * longest);
    index->fade = R2__ARENA_NEW(ctx, m, r2_fade, longest);
    index->fade_share = R2__ARENA_NEW(ctx, m, float, n_edges);
    index->genres = R2__ARENA_NEW(ctx, m, uint64_t, n_items);
    index->year = R2__ARENA_NEW(ctx, m, int16_t, n_items);
    if (index->position && index->by_time && index->rank && index->by_rank && index->user_mean &&
        index->inv_root && index->key && index->half10 && index->fade && index->fade_share &&
        index->genres && index->year)
        status = r2__index_order(ctx, index, data);
    if (status != R2_OK) {
        r2_index_free(ctx, index);
        return status;
    }
    index->stride = 1 + (graph->n_edges - 1) / R2_DEEP_EDGES;
    index->most_people = graph->n_edges > R2_DEEP_EDGES / 2 ? R2_MOST_PEOPLE : graph->n_users;
    r2__index_fade(index);
    r2__index_users(index);
    r2__index_items(index, data);
    return R2_OK;
}

void r2_index_free(r2_ctx *ctx, r2_index *index) {
    r2_arena_free(ctx, &index->memory);
    memset(index, 0, sizeof *index);
}

static uint32_t r2__edge_user(const r2_graph *g, int64_t edge) {
    int64_t user = 0, end = g->n_users;
    R2__SEARCH(user, end, u, g->user_begin[u + 1] <= edge);
    return (uint32_t)user;
}

/* Whether the edge of a rank is before (< 0) or after another moment. */
static int r2__rank_order(const r2_index *index, const r2_data *data, int64_t rank,
                          const r2__moment *other) {
    const int64_t e = (int64_t)index->by_rank[rank];
    const r2__moment own = r2__edge_moment(index, data, r2__edge_user(index->graph, e), e);
    return r2__moment_order(&own, other);
}

int64_t r2_index_future(const r2_index *index, const r2_data *data, uint32_t user, uint32_t item) {
    const r2_graph *g = index->graph;
    const int64_t row = r2_data_find(data, user, item);
    int64_t begin = 0, end = g->n_edges; /* the edges before by_rank[begin] are before the row */
    if (row < 0) return 0;
    const r2__moment asked = r2__moment_make(data, index->seed, user, item, data->time[row], -1);
    R2__SEARCH(begin, end, k, r2__rank_order(index, data, k, &asked) < 0);
    return g->n_edges - begin;
}

/* ---- hiding the target ---- */

#define R2__NO_USER UINT32_MAX

/* The edges that do not exist for a question. */
typedef struct r2__hidden {
    int64_t edge[4]; /* (n_edges) those that the graph has                          */
    int64_t place[2]; /* (n_places) positions of the user's own within the history, ascending */
    int n_edges, n_places;
    uint32_t left_out; /* a person who is in no chain and no count, or R2__NO_USER  */
} r2__hidden;

static void r2__hide(const r2_index *index, r2__hidden *hidden, uint32_t user, uint32_t item) {
    int64_t edge = r2_graph_find(index->graph, user, item);
    if (edge >= 0) hidden->edge[hidden->n_edges++] = edge;
}

static bool r2__asks_step(const r2_question *q) { return q->step >= 1 && q->step <= 3; }

/* The one place that decides what is hidden from a question (D2): the edge (user, item) and, when a
   step of a chain is asked for, the later edges of the chain and its other person. Everything that
   is computed for the question starts from here and proceeds as if these edges did not exist:

       history   r2__history_edge skips their places: later places count one less for each
       ranks     r2__rank_without: so do later ranks, and the clock
       counts    u0's own edges and those of the person left out are in none
       mean      r2__target_start subtracts their ratings from the global one */
static r2__hidden r2__without_target(const r2_index *index, const r2_question *q) {
    const int64_t begin = index->graph->user_begin[q->user];
    const int64_t end = index->graph->user_begin[q->user + 1];
    r2__hidden hidden;
    memset(&hidden, 0, sizeof hidden);
    hidden.left_out = r2__asks_step(q) ? q->other_user : R2__NO_USER;
    r2__hide(index, &hidden, q->user, q->item);
    if (q->step == 1 || q->step == 2) { /* e3 and e4 have the other item */
        r2__hide(index, &hidden, q->user, q->other_item);
        r2__hide(index, &hidden, q->other_user, q->other_item);
    }
    if (q->step == 1 || q->step == 3) /* e2 or e4 */
        r2__hide(index, &hidden, q->other_user, q->item);
    for (int k = 0; k < hidden.n_edges; ++k) {
        const int64_t edge = hidden.edge[k];
        if (edge < begin || edge >= end || (int64_t)index->position[edge] >= q->n_history) continue;
        hidden.place[hidden.n_places++] = (int64_t)index->position[edge];
    }
    if (hidden.n_places == 2 && hidden.place[0] > hidden.place[1]) {
        const int64_t later = hidden.place[0];
        hidden.place[0] = hidden.place[1];
        hidden.place[1] = later;
    }
    return hidden;
}

/* ---- what u0 shares with others ---- */

/* One path u0 -> i0 -> u1: the place of i0 in u0's history, and the edge (u1, i0) with its position
   in u1's history. */
typedef struct r2__path {
    int32_t place;
    uint32_t position;
    int64_t edge;
} r2__path;

/* Paths over people, from the first time that they were asked for. */
typedef struct r2__kept {
    const r2__path **of; /* (n_users) NULL: not kept                    */
    int32_t *n;          /* (n_users) how many                          */
    r2__path *next;      /* where the next are kept, of which there may */
    int64_t room;        /* be so many                                  */
} r2__kept;

/* A person who has a chain, and the number of chains over the people before it. */
typedef struct r2__person {
    uint32_t user;
    int64_t before;
} r2__person;

/* u0's history as a question sees it. */
typedef struct r2__history {
    const r2_index *index;
    uint32_t user;
    r2__hidden hidden;
    int32_t length;    /* interactions that count                                              */
    int64_t *degree;   /* (length) n_i0, neither u0 nor the person left out counted            */
    float *weight;     /* (length) 0.5^(age/10) / sqrt(n_i0 + 1): what sharing i0 adds         */
    r2__path *shared;  /* (1 + length) paths over one u1: by place + 1, or side by side        */
    int32_t *place_of; /* (n_items) place + 1 of an item of the history, 0: not in it          */
    int64_t *path_begin; /* (n_users + 1) all paths; NULL: not listed                          */
    r2__path *path;    /* path_begin[u1] .. path_begin[u1 + 1] - 1, in order of place          */
    r2__kept *kept;    /* paths found before; NULL: not kept                                   */
    r2_arena memory;
} r2__history;

/* The edge at a place of the history, in which hidden edges do not exist. */
static int64_t r2__history_edge(const r2__history *h, int64_t place) {
    for (int k = 0; k < h->hidden.n_places; ++k) place += place >= h->hidden.place[k];
    return h->index->by_time[h->index->graph->user_begin[h->user] + place];
}

/* Users of an item that u0 has, without u0 and the person left out. */
static int64_t r2__degree_without(const r2__history *h, uint32_t item) {
    const r2_graph *g = h->index->graph;
    int64_t n = r2_graph_item_degree(g, item) - 1;
    if (h->hidden.left_out == R2__NO_USER) return n;
    return n - (r2_graph_find(g, h->hidden.left_out, item) >= 0);
}

static bool r2__history_init(r2_ctx *ctx, r2__history *h, const r2_index *index,
                             const r2_question *question) {
    h->index = index;
    h->user = question->user;
    h->hidden = r2__without_target(index, question);
    h->length = question->n_history - h->hidden.n_places;
    h->degree = R2__ARENA_NEW(ctx, &h->memory, int64_t, h->length);
    h->weight = R2__ARENA_NEW(ctx, &h->memory, float, h->length);
    h->shared = R2__ARENA_NEW(ctx, &h->memory, r2__path, h->length + 1);
    h->place_of = R2__ARENA_NEW(ctx, &h->memory, int32_t, index->graph->n_items);
    if (!h->degree || !h->weight || !h->shared || !h->place_of) return false;
    for (int32_t p = 0; p < h->length; ++p) {
        const uint32_t i0 = index->graph->user_item[r2__history_edge(h, p)];
        h->place_of[i0] = p + 1;
        h->degree[p] = r2__degree_without(h, i0);
        h->weight[p] = index->half10[h->length - 1 - p] / sqrtf((float)h->degree[p] + 1.0f);
    }
    return true;
}

/* simrec(u1) from the paths over u1. Additions alone, in order of place: there is no product that a
   compiler could fuse into them. */
static float r2__simrec(const r2__history *h, uint32_t u1, const r2__path *path, int64_t n) {
    float sum = 0.0f;
    for (int64_t k = 0; k < n; ++k) sum += h->weight[path[k].place];
    return sum / sqrtf((float)r2_graph_user_degree(h->index->graph, u1) + 1.0f);
}

/* Lists the paths to everybody, for whom r2__paths_over then need not look: [E9]. */
static bool r2__history_list(r2_ctx *ctx, r2__history *h);

/* Finds the paths over u1 in u1's row, valid until the next call; returns how many. */
static int64_t r2__find_paths(const r2__history *h, uint32_t u1) {
    const r2_graph *g = h->index->graph;
    int64_t n = 0;
    if (u1 == h->user || u1 == h->hidden.left_out) return 0;
    for (int32_t p = 1; p <= h->length; ++p) h->shared[p].place = -1;
    for (int64_t e = g->user_begin[u1]; e < g->user_begin[u1 + 1]; ++e) {
        /* what is not shared goes to 0, which is cheaper than an unpredictable branch */
        const int32_t at = h->place_of[g->user_item[e]];
        const r2__path path = {at - 1, h->index->position[e], e};
        h->shared[at] = path;
    }
    for (int32_t p = 1; p <= h->length; ++p) {
        h->shared[n] = h->shared[p];
        n += h->shared[p].place >= 0;
    }
    return n;
}

/* The paths over u1 in order of place, and their number: listed, found before, or found now. */
static const r2__path *r2__paths_over(const r2__history *h, uint32_t u1, int64_t *n) {
    r2__kept *kept = h->kept;
    if (h->path_begin) {
        *n = h->path_begin[u1 + 1] - h->path_begin[u1];
        return h->path + h->path_begin[u1];
    }
    if (kept && kept->of[u1]) {
        *n = kept->n[u1];
        return kept->of[u1];
    }
    *n = r2__find_paths(h, u1);
    if (!kept || *n > kept->room) return h->shared;
    memcpy(kept->next, h->shared, (size_t)*n * sizeof *kept->next);
    kept->of[u1] = kept->next;
    kept->n[u1] = (int32_t)*n;
    kept->next += *n;
    kept->room -= *n;
    return kept->of[u1];
}

/* ---- one chain and its score ---- */

/* A chain u0 -> i0 -> u1 -> i1: the path over i0, and i1 in the same form. */
typedef struct r2__chosen {
    uint32_t u1;
    float score, simrec;
    r2__path over, to; /* to.place: of i1 in u0's history; -1: i1 is the target */
} r2__chosen;

/* age + |d|, a whole number. */
static int64_t r2__chain_far(const r2__history *h, const r2__path *over, const r2__path *to) {
    const int64_t until = to->place < 0 ? h->length : to->place;
    const int64_t d = (int64_t)to->position - (int64_t)over->position;
    return until - 1 - over->place + (d < 0 ? -d : d);
}

/* The score of every chain: 0.5^((age + |d|)/10) simrec(u1). The power of the whole number age +
   |d| is looked up and multiplied once, so equal sums tie and no compiler changes the order. */
static r2__chosen r2__chain_score(const r2__history *h, uint32_t u1, float simrec, r2__path over,
                                  r2__path to) {
    const float score = h->index->half10[r2__chain_far(h, &over, &to)] * simrec;
    const r2__chosen chain = {u1, score, simrec, over, to};
    return chain;
}

static r2_chain r2__chain_make(const r2__history *h, const r2__chosen *c) {
    const r2_graph *g = h->index->graph;
    const int64_t own = r2__history_edge(h, c->over.place);
    r2_chain chain;
    chain.u0 = h->user;
    chain.i0 = g->user_item[own];
    chain.u1 = c->u1;
    chain.i1 = g->user_item[c->to.edge];
    chain.r1 = g->user_rating[own];
    chain.r2 = g->user_rating[c->over.edge];
    chain.r3 = g->user_rating[c->to.edge];
    chain.r4 = c->to.place < 0 ? NAN : g->user_rating[r2__history_edge(h, c->to.place)];
    chain.score = c->score;
    return chain;
}

/* ---- the laws ---- */

r2_chain_config r2_chain_config_default(void) {
    const r2_chain_config config = {R2_CHAINS_COHERENT, 3, 1};
    return config;
}

/* Who may be u1: the users of the target, or, for closed chains, all. */
static int64_t r2__n_people(const r2__history *h, uint32_t item) {
    const r2_graph *g = h->index->graph;
    return item == R2_NO_ITEM ? g->n_users : r2_graph_item_degree(g, item);
}

static uint32_t r2__person_at(const r2__history *h, uint32_t item, int64_t j) {
    const r2_graph *g = h->index->graph;
    return item == R2_NO_ITEM ? (uint32_t)j : g->item_user[g->item_begin[item] + j];
}

/* The largest key of those who are kept of a target's users (R2_MOST_PEOPLE). */
static uint32_t r2__last_key(const r2__history *h, uint32_t item) {
    const r2_graph *g = h->index->graph;
    const uint32_t out = h->hidden.left_out;
    const int64_t most = h->index->most_people;
    int64_t n = r2__n_people(h, item);
    if (item == R2_NO_ITEM || n <= most) return UINT32_MAX;
    n -= r2_graph_find(g, h->user, item) >= 0;
    n -= out != R2__NO_USER && r2_graph_find(g, out, item) >= 0;
    return n <= most ? UINT32_MAX : (uint32_t)((double)most / (double)n * (double)UINT32_MAX);
}

static int64_t r2__n_chains(uint32_t item, int64_t n_paths) {
    return item == R2_NO_ITEM ? n_paths * (n_paths - 1) / 2 : n_paths;
}

/* The end of target chains: the edge from u1 to the target. */
static r2__path r2__path_to(const r2__history *h, int64_t edge) {
    const r2__path to = {-1, h->index->position[edge], edge};
    return to;
}

/* The best of the n paths over one u1 to the target: the smallest age + |d|, then the earlier
   i0. */
static r2__path r2__best_path(const r2__history *h, const r2__path *path, int64_t n,
                              const r2__path *to) {
    int64_t best = INT64_MAX, at = 0;
    for (int64_t k = 0; k < n; ++k) {
        const int64_t far = r2__chain_far(h, &path[k], to);
        if (far < best) best = far, at = k;
    }
    return path[at];
}

/* The best pair of the n paths over one u1, for closed chains: the smallest age + |d|, then the
   earlier i0, then the earlier i1. Once the age alone reaches the best sum, no later i1 can win. */
static void r2__best_pair(const r2__history *h, const r2__path *path, int64_t n, r2__path *over,
                          r2__path *to) {
    int64_t best = INT64_MAX;
    for (int64_t a = 0; a < n; ++a)
        for (int64_t b = a + 1; b < n && path[b].place - 1 - path[a].place < best; ++b) {
            const int64_t far = r2__chain_far(h, &path[a], &path[b]);
            if (far >= best) continue;
            best = far;
            *over = path[a];
            *to = path[b];
        }
}

/* The k best chains so far, best first. */
typedef struct r2__best {
    r2__chosen *chosen; /* (k) */
    int64_t k, n;
} r2__best;

/* Puts a chain among the best; of equal ones the earlier found comes first. */
static void r2__keep_best(r2__best *best, const r2__chosen *chain) {
    r2__chosen *chosen = best->chosen;
    int64_t at = best->n < best->k ? best->n : best->k - 1;
    if (best->n == best->k && !(chain->score > chosen[at].score)) return;
    for (; at > 0 && chain->score > chosen[at - 1].score; --at) chosen[at] = chosen[at - 1];
    chosen[at] = *chain;
    best->n += best->n < best->k;
}

/* The best chain over u1, over whom n paths lead: to the target by `edge`, or, -1, a closed one. */
static r2__chosen r2__best_chain(const r2__history *h, uint32_t u1, const r2__path *path, int64_t n,
                                 int64_t edge) {
    r2__path over = path[0], to = over;
    if (edge >= 0) to = r2__path_to(h, edge), over = r2__best_path(h, path, n, &to);
    else r2__best_pair(h, path, n, &over, &to);
    return r2__chain_score(h, u1, r2__simrec(h, u1, path, n), over, to);
}

/* The best chain of each person who is kept, the k best of these. */
static int64_t r2__choose_coherent(const r2__history *h, uint32_t item, int64_t k,
                                   r2__chosen *chosen) {
    const r2_graph *g = h->index->graph;
    const uint32_t last_key = r2__last_key(h, item);
    r2__best best = {chosen, k, 0};
    for (int64_t j = 0; j < r2__n_people(h, item); ++j) {
        const uint32_t u1 = r2__person_at(h, item, j);
        int64_t n = 0, edge = -1;
        const r2__path *path;
        r2__chosen chain;
        if (h->index->key[u1] > last_key) continue;
        path = r2__paths_over(h, u1, &n);
        if (r2__n_chains(item, n) < 1) continue;
        if (item != R2_NO_ITEM) edge = (int64_t)g->item_edge[g->item_begin[item] + j];
        chain = r2__best_chain(h, u1, path, n, edge);
        r2__keep_best(&best, &chain);
    }
    return best.n;
}

/* Lists who has a chain; person[n].before becomes the number of all chains. Returns n. */
static int64_t r2__list_people(const r2__history *h, uint32_t item, r2__person *person) {
    int64_t n = 0, before = 0;
    for (int64_t j = 0; j < r2__n_people(h, item); ++j) {
        int64_t n_paths;
        person[n].user = r2__person_at(h, item, j);
        person[n].before = before;
        r2__paths_over(h, person[n].user, &n_paths);
        before += r2__n_chains(item, n_paths);
        n += r2__n_chains(item, n_paths) > 0;
    }
    person[n].before = before;
    return n;
}

/* The person whom chain number x leads over: the last one with before <= x. */
static int64_t r2__person_of(const r2__person *person, int64_t n, int64_t x) {
    int64_t at = 0;
    R2__SEARCH(at, n, k, person[k + 1].before <= x);
    return at;
}

/* Number j of the pairs 01 02 12 03 13 23 ...: row `second` starts at its triangular number. */
static void r2__pair_number(int64_t j, int64_t *first, int64_t *second) {
    int64_t s = (int64_t)((1.0 + sqrt(1.0 + 8.0 * (double)j)) / 2.0);
    while (s * (s - 1) / 2 > j) --s; /* the square root may be off by a little */
    while (s * (s + 1) / 2 <= j) ++s;
    *first = j - s * (s - 1) / 2;
    *second = s;
}

/* Chain number j over one person. */
static r2__chosen r2__chain_number(const r2__history *h, uint32_t item, uint32_t u1, int64_t j) {
    int64_t n, second = 0;
    const r2__path *path = r2__paths_over(h, u1, &n);
    const float simrec = r2__simrec(h, u1, path, n);
    if (item != R2_NO_ITEM)
        return r2__chain_score(h, u1, simrec, path[j],
                               r2__path_to(h, r2_graph_find(h->index->graph, u1, item)));
    r2__pair_number(j, &j, &second);
    return r2__chain_score(h, u1, simrec, path[j], path[second]);
}

/* A uniform number below `total` that is not among the n ascending ones of `drawn`; joins them. */
static int64_t r2__draw_new(r2_rng *rng, int64_t total, int64_t *drawn, int64_t n) {
    int64_t x = (int64_t)r2_rng_below(rng, (uint64_t)(total - n)), at = 0;
    while (at < n && drawn[at] <= x) ++x, ++at;
    memmove(drawn + at + 1, drawn + at, (size_t)(n - at) * sizeof *drawn);
    drawn[at] = x;
    return x;
}

/* A quicker way to k uniform target chains, where there are many: [E9]. False: none is chosen. */
static bool r2__propose_chains(const r2__history *h, uint32_t item, int64_t k, r2_rng *rng,
                               r2__chosen *chosen);

/* Draws chains, or people and then a chain of each. person (n_people + 1): room for a list; drawn
   (k): room for numbers. */
static int64_t r2__choose_listed(const r2__history *h, uint32_t item, const r2_chain_config *config,
                                 r2_rng *rng, r2__person *person, int64_t *drawn,
                                 r2__chosen *chosen) {
    const bool people = config->law == R2_CHAINS_UNIFORM_USERS;
    const int64_t n_people = r2__list_people(h, item, person);
    const int64_t total = people ? n_people : person[n_people].before;
    const int64_t n = config->k < total ? config->k : total;
    for (int64_t j = 0; j < n; ++j) {
        const int64_t x = r2__draw_new(rng, total, drawn, j);
        const r2__person *p = &person[people ? x : r2__person_of(person, n_people, x)];
        const uint64_t of_person = (uint64_t)(p[1].before - p[0].before);
        chosen[j] = r2__chain_number(
            h, item, p->user, people ? (int64_t)r2_rng_below(rng, of_person) : x - p->before);
    }
    return n;
}

static int64_t r2__choose_uniform(r2_ctx *ctx, const r2__history *h, uint32_t item,
                                  const r2_chain_config *config, r2__chosen *chosen) {
    const uint64_t n_people = (uint64_t)r2__n_people(h, item);
    r2_rng rng = r2_rng_make(config->seed, R2_STREAM_CHAINS, (uint64_t)h->user << 32 | item);
    r2__person *person;
    int64_t *drawn, n = -1;
    if (config->law == R2_CHAINS_UNIFORM && item != R2_NO_ITEM &&
        r2__propose_chains(h, item, config->k, &rng, chosen))
        return config->k;
    person = (r2__person *)r2_resize(ctx, NULL, n_people + 1, sizeof *person);
    drawn = (int64_t *)r2_resize(ctx, NULL, (uint64_t)config->k, sizeof *drawn);
    if (person && drawn) n = r2__choose_listed(h, item, config, &rng, person, drawn, chosen);
    r2_release(ctx, person);
    r2_release(ctx, drawn);
    return n;
}

/* Applies the chosen law: up to config->k target chains of `item`, or closed chains (item
   R2_NO_ITEM, with listed paths). Returns how many; -1: no memory. */
static int64_t r2__choose_chains(r2_ctx *ctx, const r2__history *h, uint32_t item,
                                 const r2_chain_config *config, r2__chosen *chosen) {
    if (config->k == 0) return 0;
    if (config->law == R2_CHAINS_COHERENT) return r2__choose_coherent(h, item, config->k, chosen);
    return r2__choose_uniform(ctx, h, item, config, chosen);
}

/* ---- asking for chains ---- */

static r2_status r2__chains_of(r2_ctx *ctx, const r2_index *index, const r2_question *question,
                               const r2_chain_config *config, r2_chain *chains, int64_t *n_chains) {
    const bool closed = question->item == R2_NO_ITEM;
    r2_status status = r2__check_chain_config(ctx, config);
    r2__chosen *chosen;
    r2__history h;
    int64_t n = -1;
    *n_chains = 0;
    if (status == R2_OK) status = r2__check_question(ctx, index->graph, question, closed);
    if (status != R2_OK) return status;
    memset(&h, 0, sizeof h);
    chosen = R2__NEW(ctx, r2__chosen, config->k);
    if (chosen && r2__history_init(ctx, &h, index, question) &&
        (!closed || r2__history_list(ctx, &h)))
        n = r2__choose_chains(ctx, &h, question->item, config, chosen);
    for (int64_t k = 0; k < n; ++k) chains[k] = r2__chain_make(&h, &chosen[k]);
    r2_arena_free(ctx, &h.memory);
    r2_release(ctx, chosen);
    if (n < 0) return ctx->status;
    *n_chains = n;
    return R2_OK;
}

r2_status r2_chains_target(r2_ctx *ctx, const r2_index *index, const r2_question *question,
                           const r2_chain_config *config, r2_chain *chains, int64_t *n_chains) {
    *n_chains = 0;
    if (question->item == R2_NO_ITEM)
        return r2_fail(ctx, R2_ARGUMENT, "chains: item = R2_NO_ITEM, expected a target");
    return r2__chains_of(ctx, index, question, config, chains, n_chains);
}

r2_status r2_chains_closed(r2_ctx *ctx, const r2_index *index, uint32_t user,
                           const r2_chain_config *config, r2_chain *chains, int64_t *n_chains) {
    r2_question question;
    memset(&question, 0, sizeof question);
    question.user = user;
    question.item = R2_NO_ITEM;
    if ((int64_t)user < index->graph->n_users)
        question.n_history = (int32_t)r2_graph_user_degree(index->graph, user);
    return r2__chains_of(ctx, index, &question, config, chains, n_chains);
}

r2_status r2_chains_count(r2_ctx *ctx, const r2_index *index, const r2_question *question,
                          int64_t *count) {
    r2_status status = r2__check_question(ctx, index->graph, question, true);
    r2__history h;
    *count = 0;
    if (status != R2_OK) return status;
    memset(&h, 0, sizeof h);
    if (!r2__history_init(ctx, &h, index, question) ||
        (question->item == R2_NO_ITEM && !r2__history_list(ctx, &h)))
        status = ctx->status;
    for (int64_t j = 0; status == R2_OK && j < r2__n_people(&h, question->item); ++j) {
        int64_t n;
        r2__paths_over(&h, r2__person_at(&h, question->item, j), &n);
        *count += r2__n_chains(question->item, n);
    }
    r2_arena_free(ctx, &h.memory);
    return status;
}

/* ========================================================================== [M4] questions ==== */

/* In:   an index; questions (user, item, n_history), drawn for training or asked for.
   Out:  r2_evidence: 21 numbers about u0, i* and all chains between them, and the chains shown
         with six facts each; for any chain, the question that each of its edges asks.

   Ann's question about Tron (see [M2] and [M3]) has three chains:

       pop 2       Bob and Cyd have Tron
       shared 0.50 one of these two shares two items or more with Ann
       link 0.74   the sum over chains of 0.5^(age/10) 0.5^(|d|/30) / sqrt(n_i0 (n_i* + 1) + 10):
                   0.244 over Heat and Bob, 0.247 over Alien and Bob, 0.244 over Heat and Cyd,
                   with n_i* = 2
       c1 0.58     the score of the first chain shown; c2 0.31 of the second

   Most of the cost is r2__history_list(), the walk from u0's items to everybody who has them, and
   the walks of `deep` over all edges; questions of one user and history share both. */

/* ---- evidence: fields ---- */

typedef struct r2__field_info {
    const char *name, *formula;
    int32_t step, buckets;
} r2__field_info;

static const r2__field_info *r2__field(r2_field field) {
    static const r2__field_info info[] = {
#define R2__X(name, step, buckets, formula) {#name, formula, step, buckets},
        R2_EVIDENCE_FIELDS(R2__X)
#undef R2__X
#define R2__X(name, buckets, formula) {#name, formula, R2_STEP_CHAIN, buckets},
        R2_CHAIN_FIELDS(R2__X)
#undef R2__X
    };
    return &info[field];
}

const char *r2_field_name(r2_field field) { return r2__field(field)->name; }
const char *r2_field_formula(r2_field field) { return r2__field(field)->formula; }
int32_t r2_field_step(r2_field field) { return r2__field(field)->step; }
int32_t r2_field_buckets(r2_field field) { return r2__field(field)->buckets; }

/* ---- evidence: what is known of u0 ---- */

/* Per target, summed over u1 for each place of u0's history. */
typedef struct r2__link_sum {
    float link, rel, near, next, liked;
} r2__link_sum;

/* What a user shares with u0. */
typedef struct r2__alike {
    float simrec;
    int32_t n_paths;
} r2__alike;

/* What all questions of one (user, history) have in common. */
typedef struct r2__user_view {
    r2__history h;         /* all paths listed, if everybody is walked to            */
    float *inv_degree;     /* (h.length) 1 / sqrt(n_i0 + 1)                          */
    r2__alike *alike;      /* (n_users)                                              */
    float *closest;        /* (n_users) simrec^2 of the 50 nearest, else 0           */
    double closest_sum;
    const float *deep;     /* (n_users) a_v / sqrt(n_v)                              */
    r2__link_sum *sum;     /* (h.length) scratch of one target                       */
    float genre[64];       /* how much of each genre u0 took, fading                 */
    float genre_norm, mean_year;
} r2__user_view;

/* 0.5^(age/10) of a place of the history. */
static float r2__fade10(const r2__history *h, int32_t place) {
    return h->index->half10[h->length - 1 - place];
}

/* How alike everybody is to u0: r2__simrec() of all, place by place instead of user by user, so
   each sum has the same order. */
static void r2__view_similarity(r2__user_view *view) {
    static const r2__alike nobody = {0.0f, 0};
    const r2__history *h = &view->h;
    const r2_graph *g = h->index->graph;
    for (int32_t p = 0; p < h->length; ++p) {
        const uint32_t i0 = g->user_item[r2__history_edge(h, p)];
        view->inv_degree[p] = 1.0f / sqrtf((float)h->degree[p] + 1.0f);
        for (int64_t k = g->item_begin[i0]; k < g->item_begin[i0 + 1]; ++k) {
            r2__alike *alike = &view->alike[g->item_user[k]];
            alike->simrec += h->weight[p];
            alike->n_paths++;
        }
    }
    view->alike[h->user] = nobody;
    if (h->hidden.left_out != R2__NO_USER) view->alike[h->hidden.left_out] = nobody;
    for (uint32_t v = 0; v < g->n_users; ++v)
        view->alike[v].simrec /= sqrtf((float)r2_graph_user_degree(g, v) + 1.0f);
}

/* simidf(u1) from the paths over u1. */
static float r2__simidf(const r2__user_view *view, uint32_t u1, const r2__path *path, int64_t n) {
    float sum = 0.0f;
    for (int64_t k = 0; k < n; ++k) sum += view->inv_degree[path[k].place];
    return sum * (1.0f / sqrtf((float)r2_graph_user_degree(view->h.index->graph, u1) + 1.0f));
}

/* Marks the 50 of these users with the largest simrec (ties: the smaller id). */
static void r2__view_nearest(r2__user_view *view) {
    uint32_t nearest[50];
    int n = 0;
    const r2__alike *alike = view->alike;
    for (int64_t v = 0; v < view->h.index->graph->n_users; ++v) {
        int k = n;
        const float sim = alike[v].simrec;
        if (!(sim > 0.0f) || (n == 50 && sim <= alike[nearest[49]].simrec)) continue;
        if (n < 50) ++n;
        else k = 49;
        for (; k > 0 && alike[nearest[k - 1]].simrec < sim; --k) nearest[k] = nearest[k - 1];
        nearest[k] = (uint32_t)v;
    }
    for (int k = 0; k < n; ++k) {
        const float sim = alike[nearest[k]].simrec, square = sim * sim;
        view->closest[nearest[k]] = square;
        view->closest_sum += (double)square;
    }
}

/* u0's recent taste: genre counts and mean year, each interaction weighted by its age. */
static void r2__view_taste(r2__user_view *view) {
    const r2__history *h = &view->h;
    const r2_index *index = h->index;
    double year_sum = 0.0, year_weight = 0.0, norm = 0.0;
    for (int32_t p = 0; p < h->length; ++p) {
        const uint32_t i0 = index->graph->user_item[r2__history_edge(h, p)];
        const float fade = r2__fade10(h, p);
        for (int b = 0; b < 64; ++b)
            if (index->genres[i0] >> b & 1) view->genre[b] += fade;
        if (index->year[i0] == 0) continue;
        year_sum += (double)fade * index->year[i0];
        year_weight += (double)fade;
    }
    for (int b = 0; b < 64; ++b) norm += (double)view->genre[b] * (double)view->genre[b];
    view->genre_norm = (float)sqrt(norm);
    view->mean_year = year_weight > 0.0 ? (float)(year_sum / year_weight) : 0.0f;
}

/* Makes room for paths over people that are asked for: the targets of a view share many. */
static bool r2__history_keep(r2_ctx *ctx, r2__history *h) {
    r2__kept *kept = h->kept = R2__ARENA_NEW(ctx, &h->memory, r2__kept, 1);
    const int64_t n_users = h->index->graph->n_users;
    if (!kept) return false;
    kept->of = R2__ARENA_NEW(ctx, &h->memory, const r2__path *, n_users);
    kept->n = R2__ARENA_NEW(ctx, &h->memory, int32_t, n_users);
    kept->room = 1 << 16;
    kept->next = (r2__path *)r2__arena_take(ctx, &h->memory, (uint64_t)kept->room,
                                            sizeof *kept->next);
    return kept->of && kept->n && kept->next;
}

/* A view in the memory of the one before. */
static bool r2__view_init(r2_ctx *ctx, r2__user_view *view, const r2_index *index,
                          const r2_question *question) {
    const uint64_t n_users = (uint64_t)index->graph->n_users;
    r2__history *h = &view->h;
    r2_arena memory = h->memory;
    uint64_t length;
    r2_arena_reset(ctx, &memory);
    memset(view, 0, sizeof *view);
    h->memory = memory;
    if (!r2__history_init(ctx, h, index, question)) return false;
    if (!(index->most_people < index->graph->n_users ? r2__history_keep(ctx, h)
                                                     : r2__history_list(ctx, h)))
        return false;
    length = (uint64_t)h->length;
    view->inv_degree = R2__ARENA_NEW(ctx, &h->memory, float, length);
    view->alike = R2__ARENA_NEW(ctx, &h->memory, r2__alike, n_users);
    view->closest = R2__ARENA_NEW(ctx, &h->memory, float, n_users);
    view->sum = R2__ARENA_NEW(ctx, &h->memory, r2__link_sum, length);
    if (!view->inv_degree || !view->alike || !view->closest || !view->sum) return false;
    r2__view_similarity(view);
    r2__view_nearest(view);
    r2__view_taste(view);
    return true;
}

/* ---- evidence: `deep`, conjugate gradients for (K + ridge) a = c ---- */

/* The ridge: the largest eigenvalue that the cosines of the users who take part would have by
   chance, u0 and the person left out not counted. A stride s leaves users / s of them; `items` does
   not depend on s, since all degrees shrink alike. */
static double r2__noise_edge(const r2__history *h) {
    const r2_graph *g = h->index->graph;
    const uint32_t gone[2] = {h->user, h->hidden.left_out};
    int64_t users = g->n_users, edges = g->n_edges, square = h->index->degree_square;
    double root = 1.0;
    for (int j = 0; j < 2 && gone[j] != R2__NO_USER; ++j, --users) {
        edges -= r2_graph_user_degree(g, gone[j]);
        for (int64_t e = g->user_begin[gone[j]]; e < g->user_begin[gone[j] + 1]; ++e) {
            int64_t n = r2_graph_item_degree(g, g->user_item[e]);
            if (j == 1) n -= r2_graph_find(g, h->user, g->user_item[e]) >= 0;
            square -= 2 * n - 1; /* n^2 -> (n - 1)^2 */
        }
    }
    if (edges > 0)
        root += sqrt((double)users / (double)h->index->stride * (double)square) / (double)edges;
    return root * root;
}

static inline double r2__dot_users(const r2_index *index, const double *a, const double *b) {
    double sum = 0.0;
    for (int64_t v = 0; v < index->graph->n_users; v += index->stride) sum += a[v] * b[v];
    return sum;
}

/* out = (K + ridge) x: every user adds x / sqrt(n_v) to each of its items, then every item passes
   its sum on to each of its users. u0 and the person left out pass nothing on and receive nothing,
   so their edges change nothing, not even the rounding. at_item (n_items) */
static inline void r2__deep_walk(const r2__history *h, double ridge, const double *x,
                                 double *at_item, double *out) {
    const r2_index *index = h->index;
    const r2_graph *g = index->graph;
    memset(at_item, 0, (size_t)g->n_items * sizeof *at_item);
    for (int64_t v = 0; v < g->n_users; v += index->stride)
        for (int64_t e = g->user_begin[v]; e < g->user_begin[v + 1]; ++e)
            at_item[g->user_item[e]] += index->inv_root[v] * x[v];
    for (int64_t v = 0; v < g->n_users; v += index->stride) {
        double sum = 0.0;
        for (int64_t e = g->user_begin[v]; e < g->user_begin[v + 1]; ++e)
            sum += at_item[g->user_item[e]];
        out[v] = index->inv_root[v] * sum;
        out[v] += ridge * x[v];
    }
    out[h->user] = 0.0;
    if (h->hidden.left_out != R2__NO_USER) out[h->hidden.left_out] = 0.0;
}

static inline bool r2__deep_of(r2_ctx *ctx, r2_arena *memory, r2__user_view *view) {
    const r2__history *h = &view->h;
    const r2_index *index = h->index;
    const int64_t n = index->graph->n_users, s = index->stride;
    const double inv_root = h->length > 0 ? 1.0 / sqrt((double)h->length) : 0.0;
    const double ridge = r2__noise_edge(h);
    double *a = R2__ARENA_NEW(ctx, memory, double, n);
    double *residual = R2__ARENA_NEW(ctx, memory, double, n);
    double *direction = R2__ARENA_NEW(ctx, memory, double, n);
    double *k_direction = R2__ARENA_NEW(ctx, memory, double, n);
    double *at_item = R2__ARENA_NEW(ctx, memory, double, index->graph->n_items);
    float *deep = R2__ARENA_NEW(ctx, memory, float, n);
    if (!a || !residual || !direction || !k_direction || !at_item || !deep) return false;
    for (int64_t v = 0; v < n; v += s) /* a = 0: the residual is c */
        direction[v] = residual[v] = (double)view->alike[v].n_paths * index->inv_root[v] * inv_root;
    for (int step = 0; step < R2_DEEP_STEPS; ++step) {
        const double before = r2__dot_users(index, residual, residual);
        if (!(before > 0.0)) break;
        r2__deep_walk(h, ridge, direction, at_item, k_direction);
        const double alpha = before / r2__dot_users(index, direction, k_direction);
        for (int64_t v = 0; v < n; v += s) a[v] += alpha * direction[v];
        for (int64_t v = 0; v < n; v += s) residual[v] -= alpha * k_direction[v];
        const double beta = r2__dot_users(index, residual, residual) / before;
        for (int64_t v = 0; v < n; v += s) direction[v] = residual[v] + beta * direction[v];
    }
    for (int64_t v = 0; v < n; v += s) deep[v] = (float)(a[v] * index->inv_root[v]);
    view->deep = deep;
    return true;
}

/* Computes `deep` of up to R2__WALKS views, in the memory of those before. Reading all edges takes
   longer than the sums: [E4] walks for these views at once. */
#if defined(__GNUC__)
#define R2__WALKS 8
#else
#define R2__WALKS 1
#endif
static bool r2__solve_deep(r2_ctx *ctx, r2_arena *memory, r2__user_view *view, int n_views);
R2__PLAIN(bool, r2__solve_deep)
(r2_ctx *ctx, r2_arena *memory, r2__user_view *view, int n_views) {
    r2_arena_reset(ctx, memory);
    for (int j = 0; j < n_views; ++j)
        if (!r2__deep_of(ctx, memory, &view[j])) return false;
    return true;
}

/* ---- evidence: one target in a user's view ---- */

/* Sums over the users of a target, before they become fields. */
typedef struct r2__target_sums {
    r2__hidden hidden; /* of this question */
    double n, rating, closest, deep, trend, season, first; /* over all users of i*            */
    double n_kept, n_shared, pred, sim, path, scale; /* over those kept; scale = n / n_kept  */
    double n_edges, rating_all, clock; /* of the graph without the hidden edges              */
} r2__target_sums;

/* A rank, or the clock, as if the hidden edges did not exist. */
static double r2__rank_without(const r2_index *index, int64_t rank, const r2__hidden *hidden) {
    int64_t before = 0;
    for (int k = 0; k < hidden->n_edges; ++k) before += rank > index->rank[hidden->edge[k]];
    return (double)(rank - before);
}

static void r2__target_start(r2__target_sums *s, const r2_index *index,
                             const r2_question *question) {
    const int64_t n_edges = index->graph->n_edges;
    memset(s, 0, sizeof *s);
    s->hidden = r2__without_target(index, question);
    s->n_edges = (double)(n_edges - s->hidden.n_edges);
    s->clock = r2__rank_without(index, n_edges - question->future, &s->hidden);
    s->rating_all = index->rating_sum;
    for (int k = 0; k < s->hidden.n_edges; ++k)
        s->rating_all -= (double)index->graph->user_rating[s->hidden.edge[k]];
}

/* Popularity lately: two half-lives, the shorter a tenth of the longer. */
static void r2__add_moment(r2__target_sums *s, double rank) {
    const double ago = s->clock - rank;
    if (ago <= 0.0) return;
    /* one power for both: half^10 is that of a tenth of the half-life */
    const double half = exp2(-ago / (0.1 * s->n_edges)), half2 = half * half;
    const double half5 = half2 * half2 * half;
    s->season += half;
    s->trend += half5 * half5;
}

static void r2__add_user(const r2__user_view *view, r2__target_sums *s, uint32_t u1, int64_t edge) {
    const r2__history *h = &view->h;
    const r2_index *index = h->index;
    double rating = (double)index->graph->user_rating[edge];
    double rank = r2__rank_without(index, index->rank[edge], &s->hidden);
    s->n += 1.0;
    s->rating += rating;
    s->closest += (double)view->closest[u1];
    s->deep += (double)view->deep[u1];
    r2__add_moment(s, rank);
    if (s->n == 1.0 || rank < s->first) s->first = rank;
}

/* Adds the chains u0 -> i0 -> u1 -> i* over one u1 to the sums of their i0. */
static void r2__add_chains(r2__user_view *view, r2__target_sums *s, uint32_t u1, int64_t edge,
                           const r2__path *path, int64_t n) {
    const r2__history *h = &view->h;
    const r2_index *index = h->index;
    const float *fade_share = index->fade_share + index->graph->user_begin[u1];
    const float rating = index->graph->user_rating[edge];
    const float liked = rating >= index->min_positive ? 1.0f : 0.0f;
    const int64_t position = (int64_t)index->position[edge];
    const double idf = (double)r2__simidf(view, u1, path, n);
    double route = 0.0;
    s->n_kept += 1.0;
    s->n_shared += n >= 2;
    s->pred += idf * ((double)rating - (double)index->user_mean[u1]);
    s->sim += idf;
    for (int64_t k = 0; k < n; ++k) {
        const int32_t p = path[k].place;
        r2__link_sum *sum = &view->sum[p];
        const int64_t d = position - (int64_t)path[k].position, far = d < 0 ? -d : d;
        const r2_fade *fade = &index->fade[far];
        const float weight = r2__fade10(h, p); /* its square is 0.5^(age/5) */
        sum->link += fade->half30;
        sum->rel += fade_share[far];
        sum->near += fade->inverse;
        sum->next += d >= 1 && d <= 10 ? 1.0f : 0.0f;
        sum->liked += liked;
        if (d > 0) route += (double)(weight * weight * fade->half5);
    }
    if (route > s->path) s->path = route;
}

/* All sums of one target, and its best chains. */
static void r2__add_target(r2__user_view *view, uint32_t item, r2__target_sums *s, r2__best *best) {
    const r2__history *h = &view->h;
    const r2_graph *g = h->index->graph;
    const uint32_t last_key = r2__last_key(h, item);
    for (int64_t k = g->item_begin[item]; k < g->item_begin[item + 1]; ++k) {
        const uint32_t u1 = g->item_user[k];
        const int64_t edge = (int64_t)g->item_edge[k];
        const r2__path *path;
        int64_t n;
        if (u1 == h->user || u1 == h->hidden.left_out) continue;
        r2__add_user(view, s, u1, edge);
        if (h->index->key[u1] > last_key) continue;
        path = r2__paths_over(h, u1, &n);
        r2__add_chains(view, s, u1, edge, path, n);
        if (best->k > 0 && n > 0) {
            const r2__chosen chain = r2__best_chain(h, u1, path, n, edge);
            r2__keep_best(best, &chain);
        }
    }
    s->scale = s->n_kept > 0.0 ? s->n / s->n_kept : 0.0;
}

/* Fields that follow from sums over the users of the target. */
static void r2__user_fields(const r2__user_view *view, const r2__target_sums *s, r2_evidence *q) {
    double global_mean = s->n_edges > 0.0 ? s->rating_all / s->n_edges : 0.0;
    q->value[R2_FIELD_hist] = (float)view->h.length;
    q->value[R2_FIELD_shared] = s->n_kept > 0.0 ? (float)(s->n_shared / s->n_kept) : 0.0f;
    if (view->closest_sum > 0.0) q->value[R2_FIELD_uknn] = (float)(s->closest / view->closest_sum);
    q->value[R2_FIELD_deep] = (float)s->deep;
    q->value[R2_FIELD_pop] = (float)s->n;
    q->value[R2_FIELD_meanr] = (float)((s->rating + 5.0 * global_mean) / (s->n + 5.0));
    q->value[R2_FIELD_pred] = (float)(s->scale * s->pred / (s->scale * s->sim + 0.05));
    if (s->n > 0.0) q->value[R2_FIELD_fresh] = (float)((s->clock - s->first) / s->n_edges);
    q->value[R2_FIELD_trend] = (float)s->trend;
    q->value[R2_FIELD_season] = (float)s->season;
    q->value[R2_FIELD_path] = (float)s->path;
}

/* Fields that follow from sums over chains: each i0 weighs by its age and the degrees. */
static void r2__link_fields(const r2__user_view *view, const r2__target_sums *s, r2_evidence *q) {
    const r2__history *h = &view->h;
    double link = 0.0, rel = 0.0, near3 = 0.0, near1 = 0.0, next = 0.0, liked = 0.0;
    for (int32_t p = 0; p < h->length; ++p) {
        const r2__link_sum *sum = &view->sum[p];
        double age = (double)(h->length - 1 - p), norm, h10, h3, h1;
        if (sum->near == 0.0f) continue; /* no chain: 1/|d| never vanishes */
        norm = 1.0 / sqrt((double)h->degree[p] * (s->n + 1.0) + 10.0);
        h10 = (double)r2__fade10(h, p) * norm;
        h3 = exp2(-age / 3.0) * norm;
        h1 = exp2(-age) * norm;
        link += h10 * (double)sum->link;
        rel += h3 * (double)sum->rel;
        near3 += h3 * (double)sum->near;
        near1 += h1 * (double)sum->near;
        next += h10 * (double)sum->next;
        liked += h10 * (double)sum->liked;
    }
    q->value[R2_FIELD_link] = (float)(s->scale * link);
    q->value[R2_FIELD_rel] = (float)(s->scale * rel);
    q->value[R2_FIELD_near3] = (float)(s->scale * near3);
    q->value[R2_FIELD_near1] = (float)(s->scale * near1);
    q->value[R2_FIELD_next] = (float)(s->scale * next);
    q->value[R2_FIELD_liked] = (float)(s->scale * liked);
}

static void r2__item_fields(const r2__user_view *view, r2_evidence *q) {
    uint64_t genres = view->h.index->genres[q->item];
    int16_t year = view->h.index->year[q->item];
    float dot = 0.0f, n_genres = 0.0f;
    for (int b = 0; b < 64; ++b)
        if (genres >> b & 1) dot += view->genre[b], n_genres += 1.0f;
    if (n_genres > 0.0f && view->genre_norm > 0.0f)
        q->value[R2_FIELD_genre] = dot / (sqrtf(n_genres) * view->genre_norm);
    /* half a year more, so that "the same year" is not "unknown" */
    if (year != 0 && view->mean_year > 0.0f)
        q->value[R2_FIELD_era] = (float)year - view->mean_year + 0.5f;
}

static void r2__show_chain(const r2__history *h, const r2__chosen *chosen, r2_evidence *q) {
    r2_chain *chain = &q->chain[q->n_chains].chain;
    float *value = q->chain[q->n_chains].value;
    *chain = r2__chain_make(h, chosen);
    /* in the order of R2_CHAIN_FIELDS */
    value[0] = (float)(h->length - chosen->over.place);
    value[1] = chain->r1;
    value[2] = chosen->simrec;
    value[3] = chain->r2;
    value[4] = (float)((int64_t)chosen->to.position - (int64_t)chosen->over.position);
    value[5] = chain->r3;
    if (q->n_chains < 2) q->value[R2_FIELD_c1 + q->n_chains] = chosen->score;
    q->n_chains++;
}

/* The evidence of one question in its view; false: no memory. */
static bool r2__evidence_of(r2_ctx *ctx, r2__user_view *view, const r2_question *question,
                            const r2_chain_config *chains, r2_evidence *q) {
    const r2__history *h = &view->h;
    const bool coherent = chains->law == R2_CHAINS_COHERENT;
    r2__chosen chosen[R2_MAX_CHAINS];
    r2__best best = {chosen, coherent ? chains->k : 0, 0};
    r2__target_sums s;
    r2__target_start(&s, h->index, question);
    memset(q, 0, sizeof *q);
    memset(view->sum, 0, (size_t)h->length * sizeof *view->sum);
    q->user = question->user;
    q->item = question->item;
    q->n_history = h->length;
    q->answer = question->answer;
    r2__add_target(view, q->item, &s, &best);
    r2__user_fields(view, &s, q);
    r2__link_fields(view, &s, q);
    r2__item_fields(view, q);
    if (!coherent) best.n = r2__choose_chains(ctx, h, q->item, chains, chosen);
    for (int64_t c = 0; c < best.n; ++c) r2__show_chain(h, &chosen[c], q);
    return best.n >= 0;
}

/* r2_evidence_compute does this for many questions, on several threads and processes ([E9]): those
   of one user and history share a view and its `deep`. */

/* ---- the questions of a chain's steps ---- */

int32_t r2_answer_level(float rating, float rating_min, float rating_max) {
    double range = (double)rating_max - (double)rating_min;
    double share = range > 0.0 ? ((double)rating - (double)rating_min) / range : 1.0;
    if (!(share >= 0.0)) share = 0.0;
    if (share > 1.0) share = 1.0;
    return 1 + (int32_t)(4.0 * share + 0.5);
}

r2_status r2_question_of_step(r2_ctx *ctx, const r2_index *index, const r2_chain *chain,
                              int32_t step, r2_question *question) {
    const r2_graph *g = index->graph;
    const bool of_u0 = step == 1 || step == 4, about_i0 = step == 1 || step == 2;
    const float rating[4] = {chain->r1, chain->r2, chain->r3, chain->r4};
    int64_t edge;
    r2_status status;
    memset(question, 0, sizeof *question);
    if (step < 1 || step > 4)
        return r2_fail(ctx, R2_ARGUMENT, "step = %d, expected 1 to 4", (int)step);
    question->step = step;
    question->user = of_u0 ? chain->u0 : chain->u1;
    question->other_user = of_u0 ? chain->u1 : chain->u0;
    question->item = about_i0 ? chain->i0 : chain->i1;
    question->other_item = about_i0 ? chain->i1 : chain->i0;
    status = r2__check_question(ctx, g, question, false);
    if (status != R2_OK) return status;
    edge = r2_graph_find(g, question->user, question->item);
    if (edge < 0 && step < 4)
        return r2_fail(ctx, R2_ARGUMENT, "step %d: the graph has no edge from user %u to item %u",
                       (int)step, (unsigned)question->user, (unsigned)question->item);
    question->n_history = (int32_t)(edge >= 0 ? (int64_t)index->position[edge]
                                            : r2_graph_user_degree(g, question->user));
    question->answer = isnan(rating[step - 1])
                           ? -1
                           : r2_answer_level(rating[step - 1], g->rating_min, g->rating_max);
    question->future = edge >= 0 ? g->n_edges - index->rank[edge] : 0;
    return R2_OK;
}

/* Gives the evidence of the question of e_step the chains of the question they lead to. */
static void r2__evidence_at_step(r2_evidence *evidence, int32_t step, const r2_evidence *target) {
    evidence->step = step;
    evidence->n_chains = target->n_chains;
    memcpy(evidence->chain, target->chain, sizeof evidence->chain);
}

/* evidence[q] becomes that of step[q] of its first chain; R2_STEP_ASK leaves it as it is. `run`:
   whose hook may change it, or NULL. */
static r2_status r2__evidence_of_steps(r2_ctx *ctx, const r2_index *index, const int32_t *step,
                                       int64_t n, const r2_chain_config *chains, const r2_run *run,
                                       r2_evidence *evidence) {
    r2_question *question = R2__NEW(ctx, r2_question, n);
    r2_evidence *asked = R2__NEW(ctx, r2_evidence, n);
    int64_t *place = R2__NEW(ctx, int64_t, n), m = 0;
    r2_status status = question && asked && place ? R2_OK : ctx->status;
    for (int64_t q = 0; q < n && status == R2_OK; ++q) {
        if (step[q] == R2_STEP_ASK) continue;
        if (evidence[q].n_chains < 1)
            status = r2_fail(ctx, R2_ARGUMENT,
                             "evidence: step %d needs a chain, question %lld has none",
                             (int)step[q], (long long)q);
        else
            status = r2_question_of_step(ctx, index, &evidence[q].chain[0].chain, step[q],
                                         &question[m]);
        place[m++] = q;
    }
    if (status == R2_OK && m > 0)
        status = run ? r2__run_evidence(ctx, run, question, m, asked)
                     : r2_evidence_compute(ctx, index, question, m, chains, asked);
    for (int64_t k = 0; k < m && status == R2_OK; ++k) {
        r2__evidence_at_step(&asked[k], question[k].step, &evidence[place[k]]);
        evidence[place[k]] = asked[k];
    }
    r2_release(ctx, question);
    r2_release(ctx, asked);
    r2_release(ctx, place);
    return status;
}

r2_status r2_evidence_of_step(r2_ctx *ctx, const r2_index *index, int32_t step, int64_t n,
                              const r2_chain_config *chains, r2_evidence *evidence) {
    int32_t *all = R2__NEW(ctx, int32_t, n);
    r2_status status = all ? R2_OK : ctx->status;
    if (status == R2_OK && (step < 1 || step >= R2_STEP_ASK))
        status = r2_fail(ctx, R2_ARGUMENT, "evidence: step = %d, expected 1 .. 3", (int)step);
    for (int64_t q = 0; q < n && status == R2_OK; ++q) all[q] = step;
    if (status == R2_OK) status = r2__evidence_of_steps(ctx, index, all, n, chains, NULL, evidence);
    r2_release(ctx, all);
    return status;
}

/* ---- training questions ---- */

typedef struct r2__draw {
    const r2_index *index;
    const r2_draw_config *config;
    int64_t n_warm; /* items that min_train users have */
} r2__draw;

/* Whether min_train users have the item, besides n_askers of its own. */
static bool r2__is_warm(const r2__draw *d, uint32_t item, int64_t n_askers) {
    return r2_graph_item_degree(d->index->graph, item) >= d->config->min_train + n_askers;
}

/* Items that can be sampled for a user. */
static int64_t r2__count_sampled(const r2__draw *d, uint32_t user) {
    const r2_graph *g = d->index->graph;
    int64_t n = d->n_warm;
    for (int64_t e = g->user_begin[user]; e < g->user_begin[user + 1]; ++e)
        n -= r2__is_warm(d, g->user_item[e], 0);
    return n;
}

/* Whether the interaction at a place of a history may be asked for: others have the item, and
   enough interactions precede it: min_history, or half of what the user has when that is less. (A
   model is later asked with all that a user has.) */
static bool r2__may_ask(const r2__draw *d, uint32_t user, int64_t place) {
    const r2_graph *g = d->index->graph;
    const int64_t half = (r2_graph_user_degree(g, user) + 1) / 2;
    if (place < half && place < d->config->min_history) return false;
    return r2__is_warm(d, g->user_item[d->index->by_time[g->user_begin[user] + place]], 1);
}

/* eligible (n_users): how many interactions can be asked for; or NULL. */
static int64_t *r2__count_eligible(r2_ctx *ctx, r2__draw *d) {
    const r2_graph *g = d->index->graph;
    int64_t *eligible = R2__NEW(ctx, int64_t, g->n_users);
    for (uint32_t i = 0; i < g->n_items; ++i) d->n_warm += r2__is_warm(d, i, 0);
    for (uint32_t u = 0; u < g->n_users && eligible; ++u) {
        if (r2__count_sampled(d, u) < 1) continue;
        for (int64_t k = r2_graph_user_degree(g, u) - 1; k >= 0; --k)
            eligible[u] += r2__may_ask(d, u, k);
    }
    return eligible;
}

/* How many groups there are when no user may have more than `quota`, and in *n_more how many users
   could have one more. */
static int64_t r2__quota_total(const int64_t *eligible, int64_t n_users, int64_t quota,
                               int64_t *n_more) {
    int64_t total = 0;
    *n_more = 0;
    for (int64_t u = 0; u < n_users; ++u) {
        total += eligible[u] < quota ? eligible[u] : quota;
        *n_more += eligible[u] > quota;
    }
    return total;
}

/* Whether a group has the item of its last question twice. */
static bool r2__is_repeated(const r2_question *group, int32_t last) {
    for (int32_t k = 0; k < last; ++k)
        if (group[k].item == group[last].item) return true;
    return false;
}

/* The largest quota that gives at most n_groups. */
static int64_t r2__even_quota(const int64_t *eligible, int64_t n_users, int64_t n_groups) {
    int64_t quota = 0, most = n_groups, n_more;
    R2__SEARCH(quota, most, q, r2__quota_total(eligible, n_users, q + 1, &n_more) <= n_groups);
    return quota;
}

static void r2__draw_group(const r2__draw *d, r2_rng *rng, uint32_t user, int64_t place,
                           bool repeats, r2_question *group) {
    const r2_graph *g = d->index->graph;
    const int64_t edge = d->index->by_time[g->user_begin[user] + place];
    for (int32_t k = 0; k <= d->config->n_sampled; ++k) {
        memset(&group[k], 0, sizeof group[k]);
        group[k].user = user;
        group[k].n_history = (int32_t)place;
        group[k].future = g->n_edges - d->index->rank[edge];
        group[k].item = g->user_item[edge]; /* the user has it: the loop draws at least once */
        while (k > 0 && (r2_graph_find(g, user, group[k].item) >= 0 ||
                         !r2__is_warm(d, group[k].item, 0) ||
                         (!repeats && r2__is_repeated(group, k))))
            group[k].item = (uint32_t)r2_rng_below(rng, (uint64_t)g->n_items);
    }
    group[0].answer = r2_answer_level(g->user_rating[edge], g->rating_min, g->rating_max);
}

/* The n latest interactions of a user that may be asked for, the earliest of them first. */
static void r2__draw_user(const r2__draw *d, uint32_t user, int64_t n, r2_question *question) {
    const bool repeats = r2__count_sampled(d, user) < d->config->n_sampled;
    r2_rng rng = r2_rng_make(d->config->seed, R2_STREAM_NEGATIVES, (uint64_t)user);
    int64_t place = r2_graph_user_degree(d->index->graph, user);
    for (int64_t left = n; left > 0;) left -= r2__may_ask(d, user, --place);
    for (int64_t k = 0; k < n; ++place)
        if (r2__may_ask(d, user, place))
            r2__draw_group(d, &rng, user, place, repeats,
                           question + k++ * (d->config->n_sampled + 1));
}

r2_status r2_questions_draw(r2_ctx *ctx, const r2_index *index, const r2_draw_config *config,
                            r2_question *question, int64_t *n_drawn) {
    const int64_t n_users = index->graph->n_users, group = (int64_t)config->n_sampled + 1;
    int64_t quota, n_left, n_more, *eligible;
    r2_rng extra = r2_rng_make(config->seed, R2_STREAM_NEGATIVES, (uint64_t)n_users);
    r2__draw draw = {index, config, 0};
    *n_drawn = 0;
    if (r2__check_draw(ctx, config) != R2_OK) return ctx->status;
    if (!(eligible = r2__count_eligible(ctx, &draw))) return ctx->status;
    quota = r2__even_quota(eligible, n_users, config->n_groups);
    n_left = config->n_groups - r2__quota_total(eligible, n_users, quota, &n_more);
    for (int64_t u = 0; u < n_users; ++u) {
        int64_t n = eligible[u] < quota ? eligible[u] : quota;
        /* n_left of the n_more users get one group more, every choice of them equally likely */
        if (eligible[u] > quota && (int64_t)r2_rng_below(&extra, (uint64_t)n_more--) < n_left)
            ++n, --n_left;
        r2__draw_user(&draw, (uint32_t)u, n, question + *n_drawn * group);
        *n_drawn += n;
    }
    r2_release(ctx, eligible);
    if (*n_drawn == 0)
        return r2_fail(ctx, R2_ARGUMENT,
                       "training questions: no user has two interactions, the later with an item "
                       "that %lld others have, and an item left to sample",
                       (long long)config->min_train);
    return R2_OK;
}

/* ============================================================================ [M5] prompts ==== */

/* In:   the evidence of training questions, each observed or sampled; of a question; a step.
   Out:  the codebook, fitted once; the prompt of the question; all words that there are.

       users of an item     0  |  1 3  |  4 9  |  ...     cut at quantiles of the questions' values
       word               pop:-   pop:1   pop:2
       weight              -2      -1      +4             positive: speaks for the item

   Edges are quantiles over the observed and as many sampled questions, each moved to the middle of
   the gap between sampled values that it lies in.
   weight = round(1.5 log (share of the bucket among observed / share among sampled questions)).
   Of 10 observed questions 7 are in pop:2, of 40 sampled ones none. Half an observed question is
   added to each share: 1.5 log ((7/10 + 1/20) / (0/40 + 1/20)) = 1.5 log 15 = 4.06, weight +4
   (test_trace.c, weights_by_hand_counts). Weights are clipped to +-9; traces ([M6]) reason with
   them.

   A schedule says what each step shows of a chain's edges. The thought of step k is about e_k,
   whose rating is masked; then it is revealed and step k + 1 begins (D5):

       progressive   step 1   e1 [?]                              how did u0 rate i0?
                     step 2   e1 4 stars, e2 [?]                  how did u1 rate i0?
                     step 3   e1 4 stars, e2 4 stars, e3 [?]      how did u1 rate i1?
                     step 4   e1, e2, e3 with ratings, e4 [?]     the question itself

   Evidence, thought and answer of step k belong to the question whether this user, with the history
   of then, takes this item. No word of the prompt knows its rating; three chain facts know that the
   edge is there, since the chain is (`age` at step 1, `sim` at step 2, `gap` at step 3).

       final-only    step 4 alone
       all           every rating [?]
       none          every rating shown

   A compact prompt has one word a fact: <q>, then for each chain its number and six facts, then 21
   facts about all chains together. With three chains: 1 + 3 (1 + 6) + 21 = 43 words, each of them
   one token of a closed vocabulary (test_prompt.c, the_words_of_a_compact_prompt). */

/* ---- schedules ---- */

const char *r2_words_name(r2_words words) {
    static const char *const name[R2_N_WORDS] = {"compact", "english"};
    return words < R2_N_WORDS ? name[words] : "?";
}

const char *r2_schedule_name(r2_schedule schedule) {
    static const char *const name[R2_N_SCHEDULES] = {"progressive", "final-only", "all", "none"};
    return schedule < R2_N_SCHEDULES ? name[schedule] : "?";
}

int32_t r2_schedule_first_step(r2_schedule schedule) {
    return schedule == R2_MASK_PROGRESSIVE ? 1 : R2_STEP_ASK;
}

r2_visibility r2_schedule_visibility(r2_schedule schedule, int32_t step, int32_t edge) {
    if (schedule == R2_MASK_NONE) return R2_SHOWN;
    if (schedule == R2_MASK_ALL) return R2_MASKED;
    return edge < step ? R2_SHOWN : edge == step ? R2_MASKED : R2_HIDDEN;
}

static int32_t r2__step(const r2_evidence *evidence) {
    return evidence->step ? evidence->step : R2_STEP_ASK;
}

/* Rating of edge 1 .. 4 of a chain. */
static float r2__chain_rating(const r2_chain *chain, int32_t edge) {
    return edge == 1 ? chain->r1 : edge == 2 ? chain->r2 : edge == 3 ? chain->r3 : chain->r4;
}

/* What a prompt shows of an edge of chain c: an e4 without a rating is the question. */
static r2_visibility r2__edge_visibility(const r2_prompt_config *config,
                                         const r2_evidence *evidence, int32_t c, int32_t edge) {
    r2_visibility visibility = r2_schedule_visibility(config->schedule, r2__step(evidence), edge);
    bool unknown = isnan(r2__chain_rating(&evidence->chain[c].chain, edge));
    return visibility == R2_SHOWN && unknown ? R2_HIDDEN : visibility;
}

/* ---- codebook: numbers become words ---- */

static bool r2__counts(float value) { return !isnan(value) && value != 0.0f; }

int32_t r2_codebook_bucket(const r2_codebook *codebook, r2_field field, float value) {
    int32_t b = 1, last = codebook->n_bucket[field] - 1;
    if (!r2__counts(value) || last < 1) return 0;
    while (b < last && value >= codebook->edge[field][b]) ++b;
    return b;
}

/* All values of a field in a prompt: one, or one for each chain, NAN where there is none. */
static int32_t r2__field_values(const r2_evidence *evidence, r2_field field, int32_t n_chains,
                                float value[R2_MAX_CHAINS]) {
    if (field < R2_FIRST_CHAIN_FIELD) {
        value[0] = evidence->value[field];
        return 1;
    }
    for (int32_t c = 0; c < n_chains; ++c)
        value[c] = c < evidence->n_chains ? evidence->chain[c].value[field - R2_FIRST_CHAIN_FIELD]
                                          : NAN;
    return n_chains;
}

typedef struct r2__fit {
    const r2_evidence *evidence; /* (n) */
    const uint8_t *observed;     /* (n) */
    int64_t n, every;            /* quantiles are those of the observed and every k-th sampled */
    float *balanced, *sampled;   /* (n x R2_MAX_CHAINS) values of a field, sorted              */
    int64_t n_balanced, n_sampled;
} r2__fit;

/* Collects and sorts the values of a field. */
static void r2__fit_values(r2__fit *fit, r2_field field, int32_t n_chains) {
    int64_t n_seen = 0;
    fit->n_balanced = fit->n_sampled = 0;
    for (int64_t q = 0; q < fit->n; ++q) {
        float value[R2_MAX_CHAINS];
        int32_t n_values = r2__field_values(&fit->evidence[q], field, n_chains, value);
        bool observed = fit->observed[q] != 0, taken = observed || n_seen++ % fit->every == 0;
        for (int32_t c = 0; c < n_values; ++c) {
            if (!r2__counts(value[c])) continue;
            if (taken) fit->balanced[fit->n_balanced++] = value[c];
            if (!observed) fit->sampled[fit->n_sampled++] = value[c];
        }
    }
    qsort(fit->balanced, (size_t)fit->n_balanced, sizeof(float), r2__compare_float);
    qsort(fit->sampled, (size_t)fit->n_sampled, sizeof(float), r2__compare_float);
}

/* The middle of the gap between sampled values that an edge lies in. An observed item is counted
   without its asker, a sampled one loses nobody: of one item the first shows 999 users, the second
   1000. An edge between the two would give the answer away, and only in training. */
static float r2__widen_edge(float edge, const float *sampled, int64_t n) {
    int64_t at = 0, end = n; /* at: the first that is not below the edge */
    R2__SEARCH(at, end, k, sampled[k] < edge);
    if (at == 0 || at == n) return edge;
    return sampled[at - 1] + 0.5f * (sampled[at] - sampled[at - 1]);
}

/* Edges at the quantiles, widened to gaps between sampled values; equal edges are merged. */
static void r2__fit_edges(r2_codebook *codebook, r2_field field, const r2__fit *fit) {
    int32_t wanted = r2_field_buckets(field), b = 0;
    for (int32_t q = 1; q < wanted && fit->n_balanced > 0; ++q) {
        float quantile = fit->balanced[fit->n_balanced * q / wanted];
        float edge = r2__widen_edge(quantile, fit->sampled, fit->n_sampled);
        if (edge > fit->balanced[0] && (b == 0 || edge > codebook->edge[field][b]))
            codebook->edge[field][++b] = edge;
    }
    codebook->n_bucket[field] = fit->n_balanced > 0 ? b + 2 : 1;
}

/* weight = round(1.5 log P(bucket | observed) / P(bucket | sampled)). Half an observed question is
   added to both shares, so that an empty bucket weighs 0. */
static void r2__fit_weights(r2_codebook *codebook, r2_field field, const r2__fit *fit) {
    double count[2][R2_MAX_BUCKETS] = {{0.0}}, total[2] = {0.0, 0.0};
    for (int64_t q = 0; q < fit->n; ++q) {
        float value[R2_MAX_CHAINS];
        int32_t n_values = r2__field_values(&fit->evidence[q], field, codebook->n_chains, value);
        int observed = fit->observed[q] != 0;
        for (int32_t c = 0; c < n_values; ++c)
            count[observed][r2_codebook_bucket(codebook, field, value[c])] += 1.0;
        total[observed] += n_values;
    }
    for (int32_t b = 0; b < codebook->n_bucket[field] && total[1] > 0.0; ++b) {
        double least = 0.5 / total[1];
        double ratio = (count[1][b] / total[1] + least) / (count[0][b] / total[0] + least);
        double w = floor(1.5 * log(ratio) + 0.5);
        if (w > R2_MAX_WEIGHT) w = R2_MAX_WEIGHT;
        if (w < -R2_MAX_WEIGHT) w = -R2_MAX_WEIGHT;
        codebook->weight[field][b] = (int8_t)w;
    }
}

r2_status r2_codebook_fit(r2_ctx *ctx, r2_codebook *codebook, const r2_evidence *evidence,
                          const uint8_t *observed, int64_t n, int32_t n_chains) {
    r2__fit fit = {evidence, observed, n, 1, NULL, NULL, 0, 0};
    int64_t n_observed = 0;
    r2_status status = R2_OK;
    memset(codebook, 0, sizeof *codebook);
    for (int64_t q = 0; q < n; ++q) n_observed += observed[q] != 0;
    if (n_observed < 1 || n_observed == n)
        return r2_fail(ctx, R2_ARGUMENT,
                       "codebook: %lld of %lld questions are observed, expected "
                       "observed and sampled ones",
                       (long long)n_observed, (long long)n);
    if (n_chains < 0 || n_chains > R2_MAX_CHAINS)
        return r2_fail(ctx, R2_ARGUMENT, "codebook: n_chains = %d, expected 0 .. %d", (int)n_chains,
                       R2_MAX_CHAINS);
    codebook->n_chains = n_chains;
    fit.every = (n - 1) / n_observed; /* as many sampled as observed questions, nearly */
    fit.balanced = (float *)r2_alloc(ctx, (uint64_t)n, R2_MAX_CHAINS * sizeof(float));
    fit.sampled = (float *)r2_alloc(ctx, (uint64_t)n, R2_MAX_CHAINS * sizeof(float));
    if (!fit.balanced || !fit.sampled) status = ctx->status;
    for (int f = 0; f < R2_N_FIELDS && status == R2_OK; ++f) {
        r2__fit_values(&fit, (r2_field)f, n_chains);
        r2__fit_edges(codebook, (r2_field)f, &fit);
        r2__fit_weights(codebook, (r2_field)f, &fit);
    }
    r2_release(ctx, fit.balanced);
    r2_release(ctx, fit.sampled);
    return status;
}

/* ---- compact words ---- */

/* Facts that tell a rating. */
static bool r2__field_rates(r2_field field) {
    return field == R2_FIELD_own || field == R2_FIELD_theirs || field == R2_FIELD_took ||
           field == R2_FIELD_meanr || field == R2_FIELD_pred || field == R2_FIELD_liked;
}

/* What a prompt tells of a fact. A fact of a chain belongs to an edge, two to each in their order;
   a fact about all chains to the edge of its step, but before step 4 it is about e_k and always
   shown. A masked edge masks only the facts that tell a rating. */
static r2_visibility r2__fact_visibility(const r2_prompt_config *config,
                                         const r2_evidence *evidence, r2_field field) {
    const int32_t step = r2__step(evidence);
    int32_t edge = r2_field_step(field);
    r2_visibility visibility;
    if (edge != R2_STEP_CHAIN && step < R2_STEP_ASK) return R2_SHOWN;
    if (edge == R2_STEP_CHAIN) edge = 1 + (int32_t)(field - R2_FIRST_CHAIN_FIELD) / 2;
    visibility = r2_schedule_visibility(config->schedule, step, edge);
    return visibility == R2_MASKED && !r2__field_rates(field) ? R2_SHOWN : visibility;
}

/* "field:bucket", the bucket "-" for nothing to count. */
static void r2__fact_word(char *word, size_t size, r2_field field, int32_t bucket) {
    if (bucket == 0) snprintf(word, size, "%s:-", r2_field_name(field));
    else snprintf(word, size, "%s:%d", r2_field_name(field), (int)bucket);
}

/* Adds " field:bucket", " field:?" or nothing, as the step shows it. */
static void r2__add_fact(r2_ctx *ctx, const r2_prompt_config *config, const r2_evidence *evidence,
                         r2_field field, float value, r2_text *text) {
    r2_visibility visibility = r2__fact_visibility(config, evidence, field);
    char word[40];
    if (visibility == R2_MASKED) r2_text_addf(ctx, text, " %s:?", r2_field_name(field));
    if (visibility != R2_SHOWN) return;
    r2__fact_word(word, sizeof word, field, r2_codebook_bucket(config->codebook, field, value));
    r2_text_addf(ctx, text, " %s", word);
}

/* A compact prompt with the first n_shown chains. The places of chains that are not there stay, so
   that every fact has its place, unless chains were left out to fit a limit. */
static void r2__compact_prompt(r2_ctx *ctx, const r2_prompt_config *config,
                               const r2_evidence *evidence, int32_t n_shown, int32_t n_left_out,
                               r2_text *text) {
    const r2_data *data = config->data;
    int32_t n_places = n_left_out ? n_shown : config->codebook->n_chains;
    r2_text_add(ctx, text, "<q>", 3);
    for (int32_t c = 0; c < n_places; ++c) {
        const r2_chain *chain = c < n_shown ? &evidence->chain[c].chain : NULL;
        r2_text_addf(ctx, text, " c%d", (int)c + 1);
        for (int f = R2_FIRST_CHAIN_FIELD; f < R2_N_FIELDS; ++f)
            r2__add_fact(ctx, config, evidence, (r2_field)f,
                         chain ? evidence->chain[c].value[f - R2_FIRST_CHAIN_FIELD] : NAN, text);
        if (chain && data && r2__edge_visibility(config, evidence, c, 4) == R2_SHOWN)
            r2_text_addf(ctx, text, " closed:%d",
                         (int)r2_answer_level(chain->r4, data->rating_min, data->rating_max));
    }
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
        r2__add_fact(ctx, config, evidence, (r2_field)f, evidence->value[f], text);
    if (n_left_out) r2_text_addf(ctx, text, " left:%d", (int)n_left_out);
}

void r2_prompt_compact(r2_ctx *ctx, const r2_codebook *codebook, const r2_evidence *evidence,
                       r2_text *text) {
    r2_prompt_config config = r2_prompt_config_default();
    config.codebook = codebook;
    r2__compact_prompt(ctx, &config, evidence, evidence->n_chains, 0, text);
}

/* ---- any schedule, step and words ---- */

r2_prompt_config r2_prompt_config_default(void) {
    r2_prompt_config config;
    memset(&config, 0, sizeof config);
    return config;
}

/* Tokens of a text, for config->max_tokens: words when compact, a quarter of the bytes in English,
   which is about what byte-pair encoding makes of it. */
static int64_t r2__count_tokens(const r2_prompt_config *config, const r2_text *text) {
    int64_t n = 0;
    if (config->words == R2_WORDS_ENGLISH) return (int64_t)(text->len + 3) / 4;
    for (size_t k = 0; k < text->len; ++k)
        n += text->data[k] != ' ' && (k == 0 || text->data[k - 1] == ' ');
    return n;
}

/* Writes the prompt with the first n_shown chains; returns its tokens. */
static int64_t r2__prompt_write(r2_ctx *ctx, const r2_prompt_config *config,
                                const r2_evidence *evidence, int32_t n_shown, int32_t n_left_out,
                                r2_prompt *prompt) {
    prompt->n_shown = n_shown;
    prompt->n_left_out = n_left_out;
    r2_text_clear(&prompt->system);
    r2_text_clear(&prompt->user);
    r2_text_add(ctx, &prompt->system, "", 0);
    if (config->words == R2_WORDS_ENGLISH) r2__english_prompt(ctx, config, evidence, prompt);
    else r2__compact_prompt(ctx, config, evidence, n_shown, n_left_out, &prompt->user);
    return r2__count_tokens(config, &prompt->system) + r2__count_tokens(config, &prompt->user);
}

r2_status r2_prompt_build(r2_ctx *ctx, const r2_prompt_config *config, const r2_evidence *evidence,
                          r2_prompt *prompt) {
    int32_t room = R2_MAX_CHAINS, least = r2__step(evidence) < R2_STEP_ASK ? 1 : 0;
    int64_t n_tokens = 0;
    r2_status status = r2__check_prompt(ctx, config, evidence);
    if (status != R2_OK) return status;
    if (config->words == R2_WORDS_COMPACT) room = config->codebook->n_chains;
    if (room > evidence->n_chains) room = evidence->n_chains;
    for (int32_t n = room; n >= least; --n) {
        n_tokens = r2__prompt_write(ctx, config, evidence, n, room - n, prompt);
        if (prompt->system.failed || prompt->user.failed) return ctx->status;
        if (config->max_tokens <= 0 || n_tokens <= config->max_tokens) return R2_OK;
    }
    return r2_fail(ctx, R2_ARGUMENT, "prompt: max_tokens = %lld, expected %lld for %d chains",
                   (long long)config->max_tokens, (long long)n_tokens, (int)least);
}

void r2_prompt_free(r2_ctx *ctx, r2_prompt *prompt) {
    r2_text_free(ctx, &prompt->system);
    r2_text_free(ctx, &prompt->user);
    memset(prompt, 0, sizeof *prompt);
}

/* ---- all compact words ---- */

r2_status r2_codebook_words(r2_ctx *ctx, const r2_codebook *codebook, r2_vocab *vocab) {
    r2_text text = {NULL, 0, 0, false};
    r2_status status;
    r2_text_addf(ctx, &text, "<q>\n<think>\n</think>\n<answer>\n</answer>\n");
    for (int k = 0; k < R2_N_ANSWERS; ++k) r2_text_addf(ctx, &text, "%d\n", k);
    for (int w = -R2_MAX_WEIGHT; w <= R2_MAX_WEIGHT; ++w) r2_text_addf(ctx, &text, "%+d\n", w);
    for (int t = -R2_MAX_TOTAL; t <= R2_MAX_TOTAL; ++t) r2_text_addf(ctx, &text, "=%+d\n", t);
    for (int c = 1; c <= codebook->n_chains; ++c) r2_text_addf(ctx, &text, "c%d\n", c);
    for (int f = 0; f < R2_N_FIELDS; ++f)
        for (int32_t b = 0; b < codebook->n_bucket[f]; ++b) {
            char word[40];
            r2__fact_word(word, sizeof word, (r2_field)f, b);
            r2_text_addf(ctx, &text, "%s\n", word);
        }
    for (int f = 0; f < R2_N_FIELDS; ++f)
        if (r2__field_rates((r2_field)f))
            r2_text_addf(ctx, &text, "%s:?\n", r2_field_name((r2_field)f));
    for (int k = 1; k < R2_N_ANSWERS; ++k) r2_text_addf(ctx, &text, "closed:%d\n", k);
    for (int n = 1; n <= codebook->n_chains; ++n) r2_text_addf(ctx, &text, "left:%d\n", n);
    status = r2__vocab_add_lines(ctx, vocab, "codebook", &text);
    r2_text_free(ctx, &text);
    return status;
}

/* ============================================================================= [M6] traces ==== */

/* In:   a compact prompt; an output of the model.
   Out:  the rule-based trace of the prompt; the verdict on the output.

       prompt               <q> ... hist:4 genre:9 era:2 shared:3 uknn:8 deep:- ...
       trace                <think> genre:9 +1 =+1 uknn:8 +5 =+6 ... </think> <answer> 4 </answer>

   Of each three facts the trace cites the one of the largest weight ([M5]) in absolute value; the
   total is the sum of the weights so far, within +-24. A thought has three words and weighs three
   facts, so each looks back the same distance. */

/* ---- reading prompts and traces: one scanner for teacher and checker ---- */

/* Next word of a text; false at its end. Any byte up to ' ' separates. */
static bool r2__next_word(const char **cursor, r2__slice *word) {
    const char *p = *cursor;
    while (*p && (unsigned char)*p <= ' ') ++p;
    word->at = p;
    while ((unsigned char)*p > ' ') ++p;
    word->len = (size_t)(p - word->at);
    *cursor = p;
    return word->len > 0;
}

/* A whole number of at most 3 digits after `prefix`, as printf("%d") or ("%+d") writes it: neither
   "+07" nor "-0". */
static bool r2__word_number(r2__slice word, const char *prefix, bool with_sign, int32_t *number) {
    size_t k = strlen(prefix);
    bool negative = false;
    if (word.len <= k || memcmp(word.at, prefix, k) != 0) return false;
    if (with_sign) {
        if (word.at[k] != '+' && word.at[k] != '-') return false;
        negative = word.at[k++] == '-';
    }
    if (k == word.len || word.len - k > 3) return false;
    if (word.at[k] == '0' && (word.len - k > 1 || negative)) return false;
    *number = 0;
    for (; k < word.len; ++k) {
        if (word.at[k] < '0' || word.at[k] > '9') return false;
        *number = *number * 10 + (word.at[k] - '0');
    }
    if (negative) *number = -*number;
    return true;
}

/* Reads "field:bucket"; false when it is none of the codebook's words. */
static bool r2__read_fact(const r2_codebook *codebook, r2__slice word, r2_field *field,
                          int32_t *bucket) {
    for (int f = 0; f < R2_N_FIELDS; ++f) {
        const char *name = r2_field_name((r2_field)f);
        size_t len = strlen(name);
        r2__slice rest;
        if (word.len < len + 2 || memcmp(word.at, name, len) != 0 || word.at[len] != ':') continue;
        rest.at = word.at + len + 1;
        rest.len = word.len - len - 1;
        *field = (r2_field)f;
        *bucket = 0;
        if (r2__is(rest, "-")) return true;
        return r2__word_number(rest, "", false, bucket) && *bucket > 0 &&
               *bucket < codebook->n_bucket[f];
    }
    return false;
}

/* A fact that a trace can cite. */
typedef struct r2__fact {
    r2__slice word;
    int32_t thought, weight;
} r2__fact;

/* Lists the facts of a prompt that a trace can cite: those about all chains that are not masked,
   each once, in the order of the fields. Returns their number. */
static int32_t r2__read_facts(const r2_codebook *codebook, const char *prompt,
                              r2__fact fact[R2_FIRST_CHAIN_FIELD]) {
    r2__slice word;
    int32_t n = 0, next = 0;
    while (next < R2_FIRST_CHAIN_FIELD && r2__next_word(&prompt, &word)) {
        r2_field field = (r2_field)0;
        int32_t bucket = 0;
        if (!r2__read_fact(codebook, word, &field, &bucket) || (int32_t)field < next ||
            field >= R2_FIRST_CHAIN_FIELD)
            continue;
        fact[n].word = word;
        fact[n].thought = (int32_t)field / R2_FACTS_PER_THOUGHT;
        fact[n++].weight = codebook->weight[field][bucket];
        next = (int32_t)field + 1;
    }
    return n;
}

/* ---- teacher ---- */

static int32_t r2__clip(int32_t value, int32_t limit) {
    return value > limit ? limit : value < -limit ? -limit : value;
}

r2_teacher_config r2_teacher_config_default(void) {
    r2_teacher_config config = {0.7f, 0};
    return config;
}

/* The strongest fact of a thought, or NULL when none of its facts is visible. `lean` +1 or -1: the
   fact that speaks most for (against) the item. */
static const r2__fact *r2__decisive(const r2__fact *fact, int32_t n, int32_t thought, int32_t lean,
                                    float gumbel, r2_rng *rng) {
    const r2__fact *best = NULL;
    float strongest = 0.0f;
    for (int32_t k = 0; k < n; ++k) {
        int32_t weight = fact[k].weight;
        float strength = (float)(lean ? lean * weight : abs(weight));
        if (fact[k].thought != thought) continue;
        strength += gumbel * (float)r2_rng_gumbel(rng);
        if (!best || strength > strongest) best = &fact[k], strongest = strength;
    }
    return best;
}

static r2_status r2__teach_compact(r2_ctx *ctx, const r2_codebook *codebook,
                                   const r2_teacher_config *config, const char *prompt,
                                   uint64_t index, int32_t lean, r2_text *text) {
    r2__fact fact[R2_FIRST_CHAIN_FIELD];
    int32_t n = r2__read_facts(codebook, prompt, fact), total = 0;
    r2_rng rng = r2_rng_make(config->seed, R2_STREAM_TEACHER, index);
    if (n < 1) return r2_fail(ctx, R2_FORMAT, "teacher: the prompt has no facts to cite");
    r2_text_addf(ctx, text, "<think>");
    for (int32_t thought = 0; thought < R2_N_THOUGHTS; ++thought) {
        const r2__fact *cited = r2__decisive(fact, n, thought, lean, config->gumbel, &rng);
        if (!cited) continue; /* masked */
        total = r2__clip(total + cited->weight, R2_MAX_TOTAL);
        r2_text_addf(ctx, text, " %.*s %+d =%+d", (int)cited->word.len, cited->word.at,
                     (int)cited->weight, (int)total);
    }
    r2_text_addf(ctx, text, " </think>");
    return text->failed ? ctx->status : R2_OK;
}

r2_status r2_teacher_compact(r2_ctx *ctx, const r2_codebook *codebook,
                             const r2_teacher_config *config, const char *prompt, uint64_t index,
                             r2_text *text) {
    return r2__teach_compact(ctx, codebook, config, prompt, index, 0, text);
}

/* ---- checker ---- */

const char *r2_verdict_name(r2_verdict verdict) {
    static const char *const name[R2_N_VERDICTS] = {
        "ok",           "malformed",    "no answer",   "two answers", "answer first",
        "unknown fact", "wrong weight", "wrong total", "missing step",
        "wrong rating", "contradicts",  "wrong answer"};
    return verdict < R2_N_VERDICTS ? name[verdict] : "?";
}

static void r2__first_fault(r2_check *check, r2_verdict verdict) {
    if (check->verdict == R2_TRACE_OK) check->verdict = verdict;
}

/* Checks one thought, "fact weight =total". *last is the thought before it. */
static void r2__check_thought(r2_check *check, const r2__fact *fact, int32_t n, r2__slice cited,
                              int32_t weight, int32_t total, int32_t *last) {
    int32_t k = 0;
    while (k < n && !r2__same(fact[k].word, cited)) ++k;
    check->n_cited++;
    if (k == n) {
        r2__first_fault(check, R2_TRACE_UNKNOWN_FACT);
    } else {
        check->n_found++;
        check->n_right += weight == fact[k].weight;
        if (fact[k].thought <= *last) r2__first_fault(check, R2_TRACE_MISSING_STEP);
        if (weight != fact[k].weight) r2__first_fault(check, R2_TRACE_WRONG_WEIGHT);
        *last = fact[k].thought;
    }
    if (total != r2__clip(check->total + weight, R2_MAX_TOTAL))
        r2__first_fault(check, R2_TRACE_WRONG_TOTAL);
    check->total = total;
}

/* Whether words are separated by single spaces and nothing else, as the teacher writes them. */
static bool r2__single_spaces(const char *text) {
    unsigned char before = ' ';
    for (; *text; before = (unsigned char)*text++)
        if ((unsigned char)*text < ' ' || (*text == ' ' && before == ' ')) return false;
    return before != ' ';
}

/* The verdict on the outer shape: tags in their order, each once, one answer, nothing else. */
static r2_verdict r2__check_shape(const char *output, int32_t *answer) {
    static const char *const tag[] = {"<think>", "</think>", "<answer>", "</answer>"};
    int32_t seen[4] = {0, 0, 0, 0}, number = -1, n_answers = 0;
    int order = 0, after = 0;
    bool good = r2__single_spaces(output);
    r2__slice word, previous = {"", 0};
    while (r2__next_word(&output, &word)) {
        for (int k = 0; k < 4; ++k)
            if (r2__is(word, tag[k])) {
                if (k == 2 && seen[1] == 0) return R2_TRACE_ANSWER_FIRST;
                seen[k]++;
                good = good && k == order;
                order = k + 1;
            }
        good = good && order > 0; /* nothing before <think> */
        if (r2__is(previous, tag[2])) {
            good = good && r2__word_number(word, "", false, &number) && word.len == 1 &&
                   number < R2_N_ANSWERS;
            n_answers++;
        } else if (order == 3 && !r2__is(word, tag[2])) {
            good = false; /* more than one word between the answer tags */
        }
        if (order == 4 && after++) good = false;
        if (order == 2 && !r2__is(word, tag[1])) good = false;
        previous = word;
    }
    if (n_answers > 1 || seen[2] > 1) return R2_TRACE_TWO_ANSWERS;
    if (n_answers == 0) return R2_TRACE_NO_ANSWER;
    if (!good || order != 4) return R2_TRACE_MALFORMED;
    *answer = number;
    return R2_TRACE_OK;
}

/* An output whose shape is not right has no answer that counts. */
static r2_check r2__malformed(r2_check check) {
    r2__first_fault(&check, R2_TRACE_MALFORMED);
    check.answer = -1;
    return check;
}

r2_check r2_check_trace(const r2_codebook *codebook, const char *prompt, const char *output) {
    r2_check check = {R2_TRACE_OK, -1, 0, 0, 0, 0, false};
    r2__fact fact[R2_FIRST_CHAIN_FIELD];
    int32_t n = r2__read_facts(codebook, prompt, fact), last = -1, n_thoughts = 0;
    r2__slice word, cited, weight_word;
    check.verdict = r2__check_shape(output, &check.answer);
    if (!r2__next_word(&output, &word) || !r2__is(word, "<think>")) return r2__malformed(check);
    while (r2__next_word(&output, &cited) && !r2__is(cited, "</think>")) {
        int32_t weight = 0, total = 0;
        if (!r2__next_word(&output, &weight_word) || !r2__next_word(&output, &word) ||
            !r2__word_number(weight_word, "", true, &weight) ||
            !r2__word_number(word, "=", true, &total))
            return r2__malformed(check);
        r2__check_thought(&check, fact, n, cited, weight, total, &last);
    }
    if (check.n_cited == 0) return r2__malformed(check);
    check.well_formed = check.answer >= 0;
    for (int32_t k = 0; k < n; ++k) n_thoughts += k == 0 || fact[k].thought != fact[k - 1].thought;
    if (check.n_cited != n_thoughts) r2__first_fault(&check, R2_TRACE_MISSING_STEP);
    return check;
}

/* ============================================================================== [M7] model ====
   In:   sequences of tokens laid end to end (r2_batch), and which token is to be predicted from
         which row; or prompts to be continued.
   Out:  log-probabilities; the gradient of any loss that is a function of them; one step of AdamW;
         sampled continuations.

       tokens ->  embed                                                       ->  x
       x      ->  rmsnorm -> Wq Wk Wv -> rope -> attention -> Wo  ->  + x     ->  mid   } n_layer
       mid    ->  rmsnorm -> Wgate Wup -> swiglu -> Wdown         ->  + mid   ->  x     } times
       x      ->  rmsnorm -> head -> log-softmax                              ->  logp

   rmsnorm of (3, 4): the mean of the squares is 12.5, so (3, 4) / sqrt(12.5) = (0.849, 1.131).
   Attention with scores 0 and ln 3: weights 1/4 and 3/4, so the values 1 and 5 give 4.
   Logits 0 and ln 3: the log-probability of the second token is ln 3/4 = -0.288.
   (test_ops.c computes all three.)

   Below stand the ops, each with its backward below it, then the parameters, the decoder forward
   and backward, AdamW, and decoding. */

/* ---- ops ----
   Plain loops with sums in double, on one thread: the specification. [E4] and [E5] have the same
   functions faster (R2__PLAIN). */

/* c(M,N) = or += the product of a and b, of which one is transposed:
   NT a(M,K) b(N,K)^T,  NN a(M,K) b(K,N),  TN a(K,M)^T b(K,N).
   The backward of y(R,O) = x(R,I) w(O,I)^T, which is NT, is dx(R,I) = dy(R,O) w(O,I), which is NN,
   and dw(O,I) += dy(R,O)^T x(R,I), which is TN. */
R2__PLAIN(void, r2_matmul)
(const r2_ctx *ctx, r2_layout layout, int64_t M, int64_t N, int64_t K, const float *a, int64_t lda,
 const float *b, int64_t ldb, float *c, int64_t ldc, bool add) {
    const int64_t a_row = layout == R2_TN ? 1 : lda, a_col = layout == R2_TN ? lda : 1;
    const int64_t b_row = layout == R2_NT ? 1 : ldb, b_col = layout == R2_NT ? ldb : 1;
    (void)ctx;
    for (int64_t i = 0; i < M; ++i) {
        for (int64_t j = 0; j < N; ++j) {
            double sum = add ? (double)c[i * ldc + j] : 0.0;
            for (int64_t k = 0; k < K; ++k)
                sum += (double)a[i * a_row + k * a_col] * (double)b[k * b_row + j * b_col];
            c[i * ldc + j] = (float)sum;
        }
    }
}

/* x(R,C) = table(V,C)[token(R)]. */
R2__PLAIN(void, r2_embed_fwd)
(const r2_ctx *ctx, float *x, const float *table, const int32_t *token, int64_t R, int64_t C) {
    (void)ctx;
    for (int64_t i = 0; i < R * C; ++i) x[i] = table[token[i / C] * C + i % C];
}

/* dtable(V,C)[token(R)] += dx(R,C). */
R2__PLAIN(void, r2_embed_bwd)
(const r2_ctx *ctx, float *dtable, const float *dx, const int32_t *token, int64_t R, int64_t C) {
    (void)ctx;
    for (int64_t i = 0; i < R * C; ++i) dtable[token[i / C] * C + i % C] += dx[i];
}

/* y(R,C) = x(R,C) rstd(R) gain(C),  rstd = 1 / sqrt(mean(x^2) + eps). */
R2__PLAIN(void, r2_rmsnorm_fwd)
(const r2_ctx *ctx, float *y, float *rstd, const float *x, const float *gain, int64_t R, int64_t C,
 float eps) {
    (void)ctx;
    for (int64_t r = 0; r < R; ++r) {
        double squares = 0.0;
        for (int64_t c = 0; c < C; ++c) squares += (double)x[r * C + c] * (double)x[r * C + c];
        rstd[r] = (float)(1.0 / sqrt(squares / (double)C + (double)eps));
        for (int64_t c = 0; c < C; ++c) y[r * C + c] = x[r * C + c] * rstd[r] * gain[c];
    }
}

/* With xn = x rstd:  dx(R,C) += rstd (gain dy - xn mean(gain dy xn)),  dgain(C) += sum_r dy xn. */
R2__PLAIN(void, r2_rmsnorm_bwd)
(const r2_ctx *ctx, float *dx, float *dgain, const float *dy, const float *x, const float *gain,
 const float *rstd, int64_t R, int64_t C) {
    (void)ctx;
    for (int64_t r = 0; r < R; ++r) {
        double mean = 0.0, inverse = (double)rstd[r];
        for (int64_t c = 0; c < C; ++c) {
            double xn = (double)x[r * C + c] * inverse;
            mean += (double)gain[c] * (double)dy[r * C + c] * xn / (double)C;
        }
        for (int64_t c = 0; c < C; ++c) {
            double xn = (double)x[r * C + c] * inverse, d = (double)dy[r * C + c];
            dx[r * C + c] += (float)(inverse * ((double)gain[c] * d - xn * mean));
            if (dgain) dgain[c] += (float)(d * xn);
        }
    }
}

/* y(R,C) += bias(C). */
R2__PLAIN(void, r2_bias_fwd)(const r2_ctx *ctx, float *y, const float *bias, int64_t R, int64_t C) {
    (void)ctx;
    for (int64_t i = 0; i < R * C; ++i) y[i] += bias[i % C];
}

/* dbias(C) += sum_r dy(R,C). */
R2__PLAIN(void, r2_bias_bwd)
(const r2_ctx *ctx, float *dbias, const float *dy, int64_t R, int64_t C) {
    (void)ctx;
    for (int64_t i = 0; i < R * C; ++i) dbias[i % C] += dy[i];
}

/* Each pair (x1, x2), one of either half of a head, is turned by the angle of its row's position:
   x1' = x1 cos - x2 sin,  x2' = x2 cos + x1 sin.  Backward: turned back, direction = -1. */
R2__PLAIN(void, r2_rope)
(const r2_ctx *ctx, float *x, int64_t ld, const int32_t *position, const float *table, int64_t R,
 int32_t n_head, int32_t d_head, int direction) {
    const int64_t half = d_head / 2;
    (void)ctx;
    for (int64_t r = 0; r < R; ++r) {
        const float *cosine = table + (int64_t)position[r] * d_head, *sine = cosine + half;
        for (int64_t h = 0; h < n_head; ++h) {
            float *x1 = x + r * ld + h * d_head, *x2 = x1 + half;
            for (int64_t i = 0; i < half; ++i) {
                const float a = x1[i], b = x2[i], s = sine[i] * (float)direction;
                x1[i] = a * cosine[i] - b * s;
                x2[i] = b * cosine[i] + a * s;
            }
        }
    }
}

/* Which rows the rows of a sequence attend to: first those of the sequence that it continues, if it
   is a branch, then its own up to the row itself. */
typedef struct r2__keys {
    int64_t shared, n_shared; /* first row of the sequence continued, and how many rows it has */
    int64_t own;              /* first row of the sequence itself                              */
} r2__keys;

static inline r2__keys r2__keys_of(const r2_attention *shape, int32_t s) {
    r2__keys keys;
    int32_t root = s;
    while (shape->branch && shape->branch[root]) --root;
    keys.own = shape->seq_begin[s];
    keys.shared = shape->seq_begin[root];
    keys.n_shared = root == s ? 0 : shape->seq_begin[root + 1] - keys.shared;
    return keys;
}

/* The first row of sequence s that attends. */
static inline int64_t r2__first_query(const r2_attention *shape, int32_t s) {
    return shape->first ? shape->first[s] : shape->seq_begin[s];
}

static inline int64_t r2__key_row(const r2__keys *keys, int64_t j) {
    return j < keys->n_shared ? keys->shared + j : keys->own + j - keys->n_shared;
}

static inline double r2__dot_plain(const float *a, const float *b, int64_t n) {
    double sum = 0.0;
    for (int64_t i = 0; i < n; ++i) sum += (double)a[i] * (double)b[i];
    return sum;
}

/* Attention of one row: for each head, with the keys k_j and values v_j of the rows it attends to,
       s_j = q k_j / sqrt(D),  lse = log sum_j exp(s_j),
       p_j = exp(s_j - lse),   y(D) = sum_j p_j v_j.
   y(n_head, D) and lse(n_head) are those of the row; p is scratch for one number a key. With the
   rows of earlier tokens kept in qkv, this is also attention with a cache of keys and values. */
static inline void r2__attend_row(const r2_attention *shape, const r2__keys *keys, int64_t row,
                                  float *y, float *lse, const float *qkv, float *p) {
    const int64_t H = shape->n_head, G = shape->n_kv_head, D = shape->d_head, ld = (H + 2 * G) * D;
    const int64_t n = keys->n_shared + row - keys->own + 1;
    for (int64_t h = 0; h < H; ++h) {
        const float *q = qkv + row * ld + h * D;
        const float *k = qkv + (H + h / (H / G)) * D, *v = k + G * D;
        double top = -DBL_MAX, sum = 0.0;
        for (int64_t j = 0; j < n; ++j) {
            const double s = r2__dot_plain(q, k + r2__key_row(keys, j) * ld, D) / sqrt((double)D);
            p[j] = (float)s;
            top = fmax(top, s);
        }
        for (int64_t j = 0; j < n; ++j) sum += exp((double)p[j] - top);
        lse[h] = (float)(top + log(sum));
        for (int64_t j = 0; j < n; ++j) p[j] = (float)(exp((double)p[j] - top) / sum);
        for (int64_t e = 0; e < D; ++e) {
            double mean = 0.0;
            for (int64_t j = 0; j < n; ++j)
                mean += (double)p[j] * (double)v[r2__key_row(keys, j) * ld + e];
            y[h * D + e] = (float)mean;
        }
    }
}

/* Backward of one row: with ds_j = p_j (dy v_j - dy y) / sqrt(D),
       dv_j += p_j dy,  dq += sum_j ds_j k_j,  dk_j += ds_j q. */
static inline void r2__attend_row_bwd(const r2_attention *shape, const r2__keys *keys, int64_t row,
                                      float *dqkv, const float *dy, const float *y,
                                      const float *lse, const float *qkv) {
    const int64_t H = shape->n_head, G = shape->n_kv_head, D = shape->d_head, ld = (H + 2 * G) * D;
    const int64_t n = keys->n_shared + row - keys->own + 1;
    for (int64_t h = 0; h < H; ++h, dy += D, y += D) {
        const int64_t q = row * ld + h * D, head = (H + h / (H / G)) * D;
        const double mean = r2__dot_plain(dy, y, D);
        for (int64_t j = 0; j < n; ++j) {
            const int64_t k = r2__key_row(keys, j) * ld + head, v = k + G * D;
            const double s = r2__dot_plain(qkv + q, qkv + k, D) / sqrt((double)D);
            const double p = exp(s - (double)lse[h]);
            const double ds = p * (r2__dot_plain(dy, qkv + v, D) - mean) / sqrt((double)D);
            for (int64_t e = 0; e < D; ++e) {
                dqkv[v + e] += (float)(p * (double)dy[e]);
                dqkv[q + e] += (float)(ds * (double)qkv[k + e]);
                dqkv[k + e] += (float)(ds * (double)qkv[q + e]);
            }
        }
    }
}

/* Scratch of the next two: no row attends to more rows than there are. */
R2__PLAIN(int64_t, r2_attention_scratch)(const r2_ctx *ctx, const r2_attention *shape) {
    (void)ctx;
    return shape->seq_begin[shape->n_seq];
}

/* out(R, n_head D), lse(R, n_head): the formulas of r2__attend_row for every row. */
R2__PLAIN(void, r2_attention_fwd)
(const r2_ctx *ctx, const r2_attention *shape, float *out, float *lse, const float *qkv,
 float *scratch) {
    const int64_t H = shape->n_head, D = shape->d_head;
    (void)ctx;
    for (int32_t s = 0; s < shape->n_seq; ++s) {
        const r2__keys keys = r2__keys_of(shape, s);
        for (int64_t r = r2__first_query(shape, s); r < shape->seq_begin[s + 1]; ++r)
            r2__attend_row(shape, &keys, r, out + r * H * D, lse + r * H, qkv, scratch);
    }
}

/* Sets dqkv: the formulas of r2__attend_row_bwd for every row. */
R2__PLAIN(void, r2_attention_bwd)
(const r2_ctx *ctx, const r2_attention *shape, float *dqkv, const float *dout, const float *out,
 const float *lse, const float *qkv, float *scratch) {
    const int64_t H = shape->n_head, D = shape->d_head, R = shape->seq_begin[shape->n_seq];
    (void)ctx;
    (void)scratch;
    memset(dqkv, 0, (size_t)(R * (H + 2 * shape->n_kv_head) * D) * sizeof *dqkv);
    for (int32_t s = 0; s < shape->n_seq; ++s) {
        const r2__keys keys = r2__keys_of(shape, s);
        for (int64_t r = r2__first_query(shape, s); r < shape->seq_begin[s + 1]; ++r)
            r2__attend_row_bwd(shape, &keys, r, dqkv, dout + r * H * D, out + r * H * D,
                               lse + r * H, qkv);
    }
}

/* y(R,F) = silu(g) u,  silu(g) = g s,  s = 1 / (1 + exp(-g)),  g and u the halves of gu(R, 2F). */
R2__PLAIN(void, r2_swiglu_fwd)(const r2_ctx *ctx, float *y, const float *gu, int64_t R, int64_t F) {
    (void)ctx;
    for (int64_t i = 0; i < R * F; ++i) {
        const float *g = gu + i / F * 2 * F + i % F, *u = g + F;
        const double s = 1.0 / (1.0 + exp(-(double)*g));
        y[i] = (float)((double)*g * s * (double)*u);
    }
}

/* dg = dy u s (1 + g (1 - s)),  du = dy g s. */
R2__PLAIN(void, r2_swiglu_bwd)
(const r2_ctx *ctx, float *dgu, const float *dy, const float *gu, int64_t R, int64_t F) {
    (void)ctx;
    for (int64_t i = 0; i < R * F; ++i) {
        const int64_t at = i / F * 2 * F + i % F;
        const double g = (double)gu[at], u = (double)gu[at + F], s = 1.0 / (1.0 + exp(-g));
        dgu[at] = (float)((double)dy[i] * u * s * (1.0 + g * (1.0 - s)));
        dgu[at + F] = (float)((double)dy[i] * g * s);
    }
}

/* lse(R) = log sum_v exp(x_v) over logits x(R,V);  entropy(R) = sum_v exp(x_v - lse) (lse - x_v).
   The log-probability of token v is x_v - lse. */
R2__PLAIN(void, r2_logsumexp_fwd)
(const r2_ctx *ctx, float *lse, float *entropy, const float *logits, int64_t R, int64_t V) {
    (void)ctx;
    for (int64_t r = 0; r < R; ++r) {
        const float *x = logits + r * V;
        double top = -DBL_MAX, sum = 0.0, all;
        for (int64_t v = 0; v < V; ++v) top = fmax(top, (double)x[v]);
        for (int64_t v = 0; v < V; ++v) sum += exp((double)x[v] - top);
        all = top + log(sum);
        lse[r] = (float)all;
        if (!entropy) continue;
        sum = 0.0;
        for (int64_t v = 0; v < V; ++v) sum += exp((double)x[v] - all) * (all - (double)x[v]);
        entropy[r] = (float)sum;
    }
}

/* Overwrites the logits with their gradient. Over the predictions j of row r:
   dx_v = sum_j dlogp_j ([token_j = v] - exp(x_v - lse)). */
R2__PLAIN(void, r2_logp_bwd)
(const r2_ctx *ctx, float *logits, const float *lse, const int64_t *begin, const int32_t *token,
 const float *dlogp, int64_t R, int64_t V) {
    (void)ctx;
    for (int64_t r = 0; r < R; ++r) {
        for (int64_t v = 0; v < V; ++v) {
            double p = exp((double)logits[r * V + v] - (double)lse[r]), d = 0.0;
            for (int64_t j = begin[r]; j < begin[r + 1]; ++j)
                d += (double)dlogp[j] * ((token[j] == v ? 1.0 : 0.0) - p);
            logits[r * V + v] = (float)d;
        }
    }
}

/* sum_i x_i^2. */
R2__PLAIN(double, r2_sum_squares)(const r2_ctx *ctx, const float *x, int64_t n) {
    double sum = 0.0;
    (void)ctx;
    for (int64_t i = 0; i < n; ++i) sum += (double)x[i] * (double)x[i];
    return sum;
}

/* With g' = scale g:  m = beta1 m + (1 - beta1) g',  v = beta2 v + (1 - beta2) g'^2,
   w = (1 - lr decay) w - lr fix1 m / (sqrt(fix2 v) + eps). */
R2__PLAIN(void, r2_adamw_update)
(const r2_ctx *ctx, const r2_adamw_factors *f, float *w, const float *g, float *m, float *v,
 int64_t n) {
    const double beta1 = (double)f->beta1, beta2 = (double)f->beta2, lr = (double)f->lr;
    (void)ctx;
    for (int64_t i = 0; i < n; ++i) {
        const double grad = (double)f->scale * (double)g[i];
        const double first = beta1 * (double)m[i] + (1.0 - beta1) * grad;
        const double second = beta2 * (double)v[i] + (1.0 - beta2) * grad * grad;
        const double step = (double)f->fix1 * first /
                            (sqrt((double)f->fix2 * second) + (double)f->eps);
        w[i] = (float)((1.0 - lr * (double)f->decay) * (double)w[i] - lr * step);
        m[i] = (float)first;
        v[i] = (float)second;
    }
}

/* ---- parameters ---- */

r2_model_config r2_model_config_default(void) {
    r2_model_config c;
    memset(&c, 0, sizeof c);
    c.n_vocab = 256;
    c.n_layer = 2;
    c.n_head = c.n_kv_head = 2;
    c.d_model = 64;
    c.d_ff = 168;
    c.n_ctx = 512;
    c.rope_theta = 10000.0f;
    c.norm_eps = 1e-5f;
    c.init_std = 0.02f;
    c.tied = true;
    c.seed = 1;
    return c;
}

static int64_t r2__tensor_size(const r2_tensor *t) { return t->rows * t->cols; }

/* Fills the table of tensors and the sizes that follow from it. */
static void r2__lay_out(r2_model *model) {
    const r2_model_config *c = &model->config;
    const int32_t D = c->d_model / c->n_head;
    int64_t offset = 0;
#define R2__ENTRY(id, layered, n_rows, n_cols, how, in_file)                                       \
    model->tensor[id].rows = n_rows;                                                               \
    model->tensor[id].cols = n_cols;                                                               \
    model->tensor[id].per_layer = layered;                                                         \
    model->tensor[id].init = how;                                                                  \
    model->tensor[id].name = in_file;
    R2_MODEL_TENSORS(R2__ENTRY)
#undef R2__ENTRY
    model->layer_stride = 0;
    for (int id = 0; id < R2_TENSOR_COUNT; ++id)
        if (model->tensor[id].per_layer) model->layer_stride += r2__tensor_size(&model->tensor[id]);
    for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
        r2_tensor *t = &model->tensor[id];
        t->offset = offset;
        offset += r2__tensor_size(t);
        /* the last tensor of a layer: leave room for the layers after the first */
        if (t->per_layer && !t[1].per_layer) offset += (c->n_layer - 1) * model->layer_stride;
    }
    model->n_params = offset;
}

static float *r2__place(const r2_model *model, float *base, r2_tensor_id id, int64_t layer) {
    const r2_tensor *t = &model->tensor[id];
    if (!base || t->rows == 0) return NULL;
    return base + t->offset + (t->per_layer ? layer * model->layer_stride : 0);
}

float *r2_weight(const r2_model *model, r2_tensor_id id, int64_t layer) {
    return r2__place(model, model->param, id, layer);
}

float *r2_gradient(const r2_model *model, r2_tensor_id id, int64_t layer) {
    return r2__place(model, model->grad, id, layer);
}

static int64_t r2__tensor_layers(const r2_model *model, int id) {
    return model->tensor[id].rows == 0   ? 0
           : model->tensor[id].per_layer ? model->config.n_layer
                                         : 1;
}

static void r2__draw_tensor(r2_model *model, r2_tensor_id id, int64_t layer) {
    const r2_tensor *t = &model->tensor[id];
    float *w = r2_weight(model, id, layer), std = model->config.init_std;
    r2_rng rng = r2_rng_make(model->config.seed, R2_STREAM_INIT,
                             (uint64_t)id << 32 | (uint64_t)layer);
    if (t->init == R2_INIT_RESIDUAL) std /= sqrtf(2.0f * (float)model->config.n_layer);
    for (int64_t i = 0; i < r2__tensor_size(t); ++i) {
        if (t->init == R2_INIT_ONE) w[i] = 1.0f;
        else if (t->init != R2_INIT_ZERO && std > 0.0f) w[i] = std * (float)r2_rng_normal(&rng);
    }
}

static void r2__fill_rope(r2_model *model) {
    const int32_t D = model->config.d_model / model->config.n_head, half = D / 2;
    for (int64_t pos = 0; pos < model->config.n_ctx; ++pos) {
        for (int32_t i = 0; i < half; ++i) {
            double angle = (double)pos * pow((double)model->config.rope_theta, -2.0 * i / D);
            model->rope[pos * D + i] = (float)cos(angle);
            model->rope[pos * D + half + i] = (float)sin(angle);
        }
    }
}

r2_status r2_model_init(r2_ctx *ctx, r2_model *model, const r2_model_config *config,
                        bool with_grad) {
    r2_status status = r2__check_model(ctx, config);
    r2__need_ieee();
    memset(model, 0, sizeof *model);
    if (status != R2_OK) return status;
    model->config = *config;
    r2__lay_out(model);
    model->param = R2__ARENA_NEW(ctx, &model->memory, float, model->n_params);
    model->rope = R2__ARENA_NEW(ctx, &model->memory, float,
                                (int64_t)config->n_ctx * (config->d_model / config->n_head));
    if (with_grad)
        model->grad = R2__ARENA_NEW(ctx, &model->memory, float, model->n_params);
    if (!model->param || !model->rope || (with_grad && !model->grad)) {
        r2_model_free(ctx, model);
        return ctx->status;
    }
    for (int id = 0; id < R2_TENSOR_COUNT; ++id)
        for (int64_t layer = 0; layer < r2__tensor_layers(model, id); ++layer)
            r2__draw_tensor(model, (r2_tensor_id)id, layer);
    r2__fill_rope(model);
    return R2_OK;
}

/* Whether a forward is to keep what a backward needs. */
static bool r2__trains(const r2_model *model) {
    return model->lora ? !model->lora->merged && model->lora->grad : model->grad != NULL;
}

/* Only the adapters are trained, if there are any. */
static int64_t r2__n_trained(const r2_model *model) {
    return model->lora ? model->lora->n_params : model->n_params;
}

static float *r2__trained_params(const r2_model *model) {
    return model->lora ? model->lora->param : model->param;
}

/* The gradient of a weight that is being trained: NULL for all of a model with adapters. */
static float *r2__trained(const r2_model *model, r2_tensor_id id, int64_t layer) {
    return model->lora ? NULL : r2_gradient(model, id, layer);
}

r2_status r2_model_copy(r2_ctx *ctx, r2_model *to, const r2_model *from) {
    if (r2__check_own_weights(ctx, to, "model copy") != R2_OK) return ctx->status;
    for (int id = 0; id < R2_TENSOR_COUNT; ++id)
        if (to->tensor[id].rows != from->tensor[id].rows ||
            to->tensor[id].cols != from->tensor[id].cols ||
            r2__tensor_layers(to, id) != r2__tensor_layers(from, id))
            return r2_fail(ctx, R2_ARGUMENT, "model copy: %s has another shape",
                           from->tensor[id].name);
    memcpy(to->param, from->param, (size_t)from->n_params * sizeof(float));
    return R2_OK;
}

void r2_zero_grad(r2_ctx *ctx, r2_model *model) {
    (void)ctx;
    if (model->grad) memset(model->grad, 0, (size_t)model->n_params * sizeof(float));
    if (model->lora) memset(model->lora->grad, 0, (size_t)model->lora->n_params * sizeof(float));
}

/* ---- activations ----
   What the forward pass leaves for the backward pass. Norms and swiglu overwrite those of the layer
   before: the backward pass computes them again. A model that is not trained has one set of buffers
   for all layers, in which x, mid and the next layer's x are one. */

typedef struct r2__acts { /* of one layer: R rows, T = R after attention, in [E4] fewer */
    float *x;             /* (R, d_model) the residual stream on entry        */
    float *n, *rstd1;     /* (R, d_model), (R) its norm                       */
    float *qkv;           /* (R, (n_head + 2 n_kv_head) D) after rope         */
    float *att, *lse;     /* (R, d_model), (R, n_head)                        */
    float *mid;           /* (T, d_model) the stream after attention          */
    float *rstd2;         /* (T) its norm is in n, too                        */
    float *gu, *act;      /* (T, 2 d_ff), (T, d_ff) gate and up; their swiglu */
} r2__acts;

struct r2__work {
    r2_arena memory;
    r2_batch batch;    /* what is computed: a part of the caller's batch, [E9]           */
    int64_t n_rows;    /* R                                                              */
    int32_t *position; /* (R) of a row in its sequence                                   */
    int64_t n_last;    /* U: rows that are predicted from                                */
    int32_t *row;      /* (U) which rows                                                 */
    int64_t *begin;    /* (U + 1) predictions begin[i] .. begin[i + 1] - 1 are of row[i] */
    r2__acts *layer;   /* (n_layer + 1), of the last only x                              */
    float *last;       /* (U, d_model) the rows that are predicted from, after all layers */
    float *normed, *rstd, *lse, *entropy; /* (U, ..)                                     */
    float *logits;                        /* (chunk, n_vocab)                            */
    int64_t chunk;                        /* rows of logits made at a time               */
    float *scratch;                       /* of attention                                */
    float *dx, *dn, *datt, *dqkv, *dact;  /* gradients, of one layer                     */
    float *dlast, *dnormed;               /* (U, d_model)                                */
    /* of [E4] */
    int32_t *first;          /* (n_seq) the first row of a sequence that is predicted from */
    int64_t n_words;         /* N: different tokens of the batch                         */
    int32_t *word, *word_of; /* (N) each once; (R) where the token of a row is in `word` */
    float *words;            /* (N, cols of qkv) first layer: of each word, before rope  */
    /* of [E9], which makes the room and numbers the rows */
    int64_t max_rows, max_pred, max_scratch; /* room for so many rows, predictions, floats */
    bool recompute, trains;                  /* the model that the room was laid out for   */
    const r2_lora *lora;
    int32_t *seq_begin, *pred_row, *found; /* (n_seq + 1), (n_pred), (n_vocab) scratch     */
};

/* Floats of a row of queries, keys and values. */
static int64_t r2__qkv_cols(const r2_model_config *c) {
    return c->d_model + 2 * (int64_t)c->n_kv_head * (c->d_model / c->n_head);
}

/* [E9]: memory of so many floats, not cleared; of one layer but x, with T rows after attention. mid
   is its own, or NULL; norms and swiglu are those of `shared`, if it is not NULL. */
static float *r2__floats(r2_ctx *ctx, r2_arena *arena, int64_t rows, int64_t cols, bool *good);
static void r2__take_layer(r2_ctx *ctx, r2_arena *arena, const r2_model *model, int64_t R,
                           int64_t T, bool own_mid, const r2__acts *shared, r2__acts *a,
                           bool *good);

void r2_model_free(r2_ctx *ctx, r2_model *model) {
    r2_lora_detach(ctx, model);
    r2__work_free(ctx, model);
    r2_arena_free(ctx, &model->memory);
    memset(model, 0, sizeof *model);
}

/* ---- projections ---- */

/* Weights that multiply the same input and are neighbours in the table: together one matrix. */
typedef struct r2__projection {
    r2_tensor_id first, last;
    bool adds; /* to the residual stream, instead of setting the output */
} r2__projection;

static const r2__projection r2__qkv = {R2_WQ, R2_WV, false}, r2__out = {R2_WO, R2_WO, true},
                            r2__gate_up = {R2_WGATE, R2_WUP, false},
                            r2__down = {R2_WDOWN, R2_WDOWN, true};

static int64_t r2__projection_rows(const r2_model *model, r2__projection p) {
    int64_t rows = 0;
    for (int id = (int)p.first; id <= (int)p.last; ++id) rows += model->tensor[id].rows;
    return rows;
}

static void r2__lora_project(const r2_ctx *ctx, const r2_model *model, r2__projection p,
                             int64_t layer, float *y, const float *x, int64_t R);
static void r2__lora_project_bwd(const r2_ctx *ctx, const r2_model *model, r2__projection p,
                                 int64_t layer, float *dx, const float *dy, const float *x,
                                 int64_t R);

/* y(R,O) = or += x(R,I) W(O,I)^T. Adapters put W + scale B A in the place of W ([E6]). */
static void r2__project(const r2_ctx *ctx, const r2_model *model, r2__projection p, int64_t layer,
                        float *y, const float *x, int64_t R) {
    const int64_t n_out = r2__projection_rows(model, p), n_in = model->tensor[p.first].cols;
    if (model->lora && !model->lora->merged) r2__lora_project(ctx, model, p, layer, y, x, R);
    else
        r2_matmul(ctx, R2_NT, R, n_out, n_in, x, n_in, r2_weight(model, p.first, layer), n_in, y,
                  n_out, p.adds);
}

/* dW(O,I) += dy(R,O)^T x(R,I);  dx(R,I) = dy(R,O) W(O,I) (dx NULL: not wanted). Without adapters dx
   may be x. */
static void r2__project_bwd(const r2_ctx *ctx, const r2_model *model, r2__projection p,
                            int64_t layer, float *dx, const float *dy, const float *x, int64_t R) {
    const int64_t n_out = r2__projection_rows(model, p), n_in = model->tensor[p.first].cols;
    if (model->lora) {
        r2__lora_project_bwd(ctx, model, p, layer, dx, dy, x, R);
        return;
    }
    r2_matmul(ctx, R2_TN, n_out, n_in, R, dy, n_out, x, n_in, r2_gradient(model, p.first, layer),
              n_in, true);
    r2_matmul(ctx, R2_NN, R, n_in, n_out, dy, n_out, r2_weight(model, p.first, layer), n_in, dx,
              n_in, false);
}

/* ---- the decoder ---- */

static void r2__copy(float *to, const float *from, int64_t n) {
    if (to != from) memcpy(to, from, (size_t)n * sizeof *to);
}

static const float *r2__head(const r2_model *model) {
    return r2_weight(model, model->config.tied ? R2_EMBED : R2_HEAD, 0);
}

static r2_attention r2__attention_of(const r2_model *model, int32_t n_seq, const int32_t *begin,
                                     const bool *branch) {
    const r2_model_config *c = &model->config;
    const r2_attention shape = {
        n_seq, c->n_head, c->n_kv_head, c->d_model / c->n_head, begin, branch, NULL};
    return shape;
}

/* The rows that are predicted from: logits(U,V) = head rmsnorm(last), logp = log-softmax of logits;
   some rows at a time. */
static void r2__head_fwd(const r2_ctx *ctx, const r2_model *m, const r2_batch *batch, float *logp,
                         float *entropy) {
    const struct r2__work *w = m->work;
    const int64_t U = w->n_last, C = m->config.d_model, V = m->config.n_vocab;

    r2_rmsnorm_fwd(ctx, w->normed, w->rstd, w->last, r2_weight(m, R2_FINAL_NORM, 0), U, C,
                   m->config.norm_eps);
    for (int64_t i = 0; i < U; i += w->chunk) {
        const int64_t n = U - i < w->chunk ? U - i : w->chunk;
        r2_matmul(ctx, R2_NT, n, V, C, w->normed + i * C, C, r2__head(m), C, w->logits, V, false);
        r2_logsumexp_fwd(ctx, w->lse + i, entropy ? w->entropy + i : NULL, w->logits, n, V);
        for (int64_t u = i; u < i + n; ++u) {
            for (int64_t j = w->begin[u]; j < w->begin[u + 1]; ++j) {
                logp[j] = w->logits[(u - i) * V + batch->pred_token[j]] - w->lse[u];
                if (entropy) entropy[j] = w->entropy[u];
            }
        }
    }
}

/* Its backward: dlast(U,C). */
static void r2__head_bwd(const r2_ctx *ctx, const r2_model *m, const r2_batch *batch,
                         const float *dlogp) {
    const struct r2__work *w = m->work;
    const int64_t U = w->n_last, C = m->config.d_model, V = m->config.n_vocab;
    float *dhead = r2__trained(m, m->config.tied ? R2_EMBED : R2_HEAD, 0);

    for (int64_t i = 0; i < U; i += w->chunk) {
        const int64_t n = U - i < w->chunk ? U - i : w->chunk;
        float *normed = w->normed + i * C;
        if (w->chunk < U) /* the logits of the last rows alone are still there */
            r2_matmul(ctx, R2_NT, n, V, C, normed, C, r2__head(m), C, w->logits, V, false);
        r2_logp_bwd(ctx, w->logits, w->lse + i, w->begin + i, batch->pred_token, dlogp, n, V);
        r2_matmul(ctx, R2_NN, n, C, V, w->logits, V, r2__head(m), C, w->dnormed + i * C, C, false);
        if (dhead) r2_matmul(ctx, R2_TN, V, C, n, w->logits, V, normed, C, dhead, C, true);
    }
    memset(w->dlast, 0, (size_t)(U * C) * sizeof(float));
    r2_rmsnorm_bwd(ctx, w->dlast, r2__trained(m, R2_FINAL_NORM, 0), w->dnormed,
                   w->last, r2_weight(m, R2_FINAL_NORM, 0), w->rstd, U, C);
}

/* Forward: from tokens through layers first .. end - 1 to log-probabilities. The backward pass runs
   single layers again when activations are not kept: then without the head (logp NULL). R rows, C =
   d_model, F = d_ff. [E4] leaves out the rows that nothing reads. */
static void r2__decoder_fwd(const r2_ctx *ctx, const r2_model *m, const r2_batch *batch,
                            int32_t first, int32_t end, float *logp, float *entropy);
R2__PLAIN(void, r2__decoder_fwd)
(const r2_ctx *ctx, const r2_model *m, const r2_batch *batch, int32_t first, int32_t end,
 float *logp, float *entropy) {
    const r2_model_config *c = &m->config;
    const struct r2__work *w = m->work;
    const int64_t R = w->n_rows, C = c->d_model, F = c->d_ff, cols = r2__qkv_cols(c);
    const r2_attention shape = r2__attention_of(m, batch->n_seq, batch->seq_begin, batch->branch);
    const int32_t n_turned = c->n_head + c->n_kv_head;

    if (first == 0) r2_embed_fwd(ctx, w->layer[0].x, r2_weight(m, R2_EMBED, 0), batch->token, R, C);
    for (int32_t l = first; l < end; ++l) {
        const r2__acts *a = &w->layer[l];
        const float *gain1 = r2_weight(m, R2_ATTN_NORM, l), *gain2 = r2_weight(m, R2_FFN_NORM, l);

        /* mid = x + Wo attention(rope(Wqkv n + b)), n = rmsnorm(x) */
        r2_rmsnorm_fwd(ctx, a->n, a->rstd1, a->x, gain1, R, C, c->norm_eps);
        r2__project(ctx, m, r2__qkv, l, a->qkv, a->n, R);
        if (c->qkv_bias) r2_bias_fwd(ctx, a->qkv, r2_weight(m, R2_BQ, l), R, cols);
        r2_rope(ctx, a->qkv, cols, w->position, m->rope, R, n_turned, shape.d_head, 1);
        r2_attention_fwd(ctx, &shape, a->att, a->lse, a->qkv, w->scratch);
        r2__copy(a->mid, a->x, R * C);
        r2__project(ctx, m, r2__out, l, a->mid, a->att, R);

        /* the next x = mid + Wdown swiglu(Wgate n, Wup n), n = rmsnorm(mid) */
        r2_rmsnorm_fwd(ctx, a->n, a->rstd2, a->mid, gain2, R, C, c->norm_eps);
        r2__project(ctx, m, r2__gate_up, l, a->gu, a->n, R);
        r2_swiglu_fwd(ctx, a->act, a->gu, R, F);
        r2__copy(w->layer[l + 1].x, a->mid, R * C);
        r2__project(ctx, m, r2__down, l, w->layer[l + 1].x, a->act, R);
    }
    if (!logp) return;
    r2_embed_fwd(ctx, w->last, w->layer[end].x, w->row, w->n_last, C); /* chooses rows */
    r2__head_fwd(ctx, m, batch, logp, entropy);
}

/* Backward: the same in reverse. w->dx is the gradient of the residual stream. */
static void r2__decoder_bwd(const r2_ctx *ctx, const r2_model *m, const r2_batch *batch,
                            const float *dlogp);
R2__PLAIN(void, r2__decoder_bwd)
(const r2_ctx *ctx, const r2_model *m, const r2_batch *batch, const float *dlogp) {
    const r2_model_config *c = &m->config;
    const struct r2__work *w = m->work;
    const int64_t R = w->n_rows, C = c->d_model, F = c->d_ff, cols = r2__qkv_cols(c);
    const r2_attention shape = r2__attention_of(m, batch->n_seq, batch->seq_begin, batch->branch);
    const int32_t n_turned = c->n_head + c->n_kv_head;
    float *dembed = r2__trained(m, R2_EMBED, 0);

    r2__head_bwd(ctx, m, batch, dlogp);
    memset(w->dx, 0, (size_t)(R * C) * sizeof(float));
    r2_embed_bwd(ctx, w->dx, w->dlast, w->row, w->n_last, C);
    for (int32_t l = c->n_layer - 1; l >= 0; --l) {
        const r2__acts *a = &w->layer[l];
        const float *gain1 = r2_weight(m, R2_ATTN_NORM, l), *gain2 = r2_weight(m, R2_FFN_NORM, l);
        float *dgain1 = r2__trained(m, R2_ATTN_NORM, l), *dgain2 = r2__trained(m, R2_FFN_NORM, l);
        float *dbias = r2__trained(m, R2_BQ, l);
        if (m->recompute) r2__decoder_fwd(ctx, m, batch, l, l + 1, NULL, NULL);

        r2_swiglu_fwd(ctx, a->act, a->gu, R, F);
        r2_rmsnorm_fwd(ctx, a->n, a->rstd2, a->mid, gain2, R, C, c->norm_eps);
        r2__project_bwd(ctx, m, r2__down, l, w->dact, w->dx, a->act, R);
        r2_swiglu_bwd(ctx, a->gu, w->dact, a->gu, R, F); /* a->gu is its gradient now */
        r2__project_bwd(ctx, m, r2__gate_up, l, w->dn, a->gu, a->n, R);
        r2_rmsnorm_bwd(ctx, w->dx, dgain2, w->dn, a->mid, gain2, a->rstd2, R, C);

        r2__project_bwd(ctx, m, r2__out, l, w->datt, w->dx, a->att, R);
        r2_attention_bwd(ctx, &shape, w->dqkv, w->datt, a->att, a->lse, a->qkv, w->scratch);
        r2_rope(ctx, w->dqkv, cols, w->position, m->rope, R, n_turned, shape.d_head, -1);
        r2_rmsnorm_fwd(ctx, a->n, a->rstd1, a->x, gain1, R, C, c->norm_eps);
        if (dbias) r2_bias_bwd(ctx, dbias, w->dqkv, R, cols);
        r2__project_bwd(ctx, m, r2__qkv, l, w->dn, w->dqkv, a->n, R);
        r2_rmsnorm_bwd(ctx, w->dx, dgain1, w->dn, a->x, gain1, a->rstd1, R, C);
    }
    if (dembed) r2_embed_bwd(ctx, dembed, w->dx, batch->token, R, C);
}

/* r2_forward and r2_backward cut a batch into parts and run the decoder on each: [E9]. */

/* ---- AdamW ---- */

r2_adamw_config r2_adamw_config_default(void) {
    const r2_adamw_config config = {0.9f, 0.95f, 1e-8f, 0.0f, 1.0f};
    return config;
}

r2_status r2_adamw_init(r2_ctx *ctx, r2_adamw *opt, const r2_model *model,
                        const r2_adamw_config *config) {
    memset(opt, 0, sizeof *opt);
    opt->config = *config;
    opt->n_params = r2__n_trained(model);
    opt->m = R2__NEW(ctx, float, opt->n_params);
    opt->v = R2__NEW(ctx, float, opt->n_params);
    if (opt->m && opt->v) return R2_OK;
    r2_adamw_free(ctx, opt);
    return ctx->status;
}

void r2_adamw_free(r2_ctx *ctx, r2_adamw *opt) {
    r2_release(ctx, opt->m);
    r2_release(ctx, opt->v);
    memset(opt, 0, sizeof *opt);
}

r2_status r2_adamw_step(r2_ctx *ctx, r2_adamw *opt, r2_model *model, float lr, float *grad_norm) {
    const r2_adamw_config *c = &opt->config;
    float *param = r2__trained_params(model);
    const float *grad = model->lora ? model->lora->grad : model->grad;
    double norm;
    r2_adamw_factors f;
    if (!grad || opt->n_params != r2__n_trained(model))
        return r2_fail(ctx, R2_ARGUMENT, "adamw: the model has no gradients or another size");
    norm = sqrt(r2_sum_squares(ctx, grad, opt->n_params));
    if (grad_norm) *grad_norm = (float)norm;
    if (!(norm <= (double)FLT_MAX))
        return r2_fail(ctx, R2_DIVERGED, "adamw: the norm of the gradient is not finite");
    opt->step++;
    f.beta1 = c->beta1;
    f.beta2 = c->beta2;
    f.eps = c->eps;
    f.lr = lr;
    f.decay = c->weight_decay;
    f.scale = c->clip > 0.0f && norm > (double)c->clip ? (float)((double)c->clip / norm) : 1.0f;
    f.fix1 = (float)(1.0 / (1.0 - pow((double)c->beta1, (double)opt->step)));
    f.fix2 = (float)(1.0 / (1.0 - pow((double)c->beta2, (double)opt->step)));
    if (model->lora) {
        r2_adamw_update(ctx, &f, param, grad, opt->m, opt->v, opt->n_params);
        return R2_OK;
    }
    for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
        const r2_tensor *t = &model->tensor[id];
        f.decay = t->rows > 1 ? c->weight_decay : 0.0f;
        for (int64_t layer = 0; layer < r2__tensor_layers(model, id); ++layer) {
            const int64_t at = r2_weight(model, (r2_tensor_id)id, layer) - param;
            r2_adamw_update(ctx, &f, param + at, grad + at, opt->m + at, opt->v + at,
                            r2__tensor_size(t));
        }
    }
    return R2_OK;
}

/* ---- a training: what SFT and GRPO share ---- */

/* Where it is kept on disk, [E7]. */
typedef struct r2__state {
    const char *path;          /* NULL: nowhere                                           */
    double every, saved, cost; /* seconds: between two saves; when, how long the last took */
    uint64_t fingerprint;      /* of what the training begins with                        */
    r2_text reports;           /* of all steps so far, end to end                         */
} r2__state;

/* Examples group by group, the optimiser, and the weights to go back to. */
typedef struct r2__training {
    const char *name;
    r2_model *model;
    const r2_examples *ex;
    const void *config;       /* r2_sft_config or r2_grpo_config                              */
    void (*tell)(const void *config, const void *report); /* calls the on_step of the config  */
    size_t report_size;
    int64_t step, n_steps;
    int32_t groups, patience; /* in a step; n_worse that ends the training, 0: none           */
    uint64_t seed;
    int32_t *order;           /* of the groups, in this epoch                                 */
    r2_arena memory;          /* of this struct and the one around it                         */
    r2_adamw opt;
    float *kept;       /* the best weights so far; before any were measured, those before the last
                          update                                                              */
    bool has_measured; /* on validation data: then ...                                        */
    double lowest;     /* ... the loss of these weights                                       */
    int64_t n_worse;   /* ... and how many measurements ago that was                          */
    r2__state state;
} r2__training;

static r2_status r2__training_init(r2_ctx *ctx, r2__training *t, const r2_adamw_config *config) {
    r2_status status = r2_adamw_init(ctx, &t->opt, t->model, config);
    if (status != R2_OK) return status;
    t->order = R2__ARENA_NEW(ctx, &t->memory, int32_t, t->ex->n / t->ex->group);
    t->kept = R2__ARENA_NEW(ctx, &t->memory, float, t->opt.n_params);
    if (!t->order || !t->kept) return ctx->status;
    memcpy(t->kept, r2__trained_params(t->model), (size_t)t->opt.n_params * sizeof *t->kept);
    return R2_OK;
}

static void r2__training_free(r2_ctx *ctx, r2__training *t) {
    r2_adamw_free(ctx, &t->opt);
    r2_arena_free(ctx, &t->memory);
    r2_text_free(ctx, &t->state.reports);
}

static bool r2__training_ends(const r2__training *t) {
    return t->step >= t->n_steps || (t->patience > 0 && t->n_worse >= t->patience);
}

/* [E7]: a step is done: tells its report and the progress, and saves when it is time to; a training
   goes on from a state on disk; one that diverged ends, with the weights that were kept. */
static r2_status r2__training_step_done(r2_ctx *ctx, r2__training *t, const void *report);
static r2_status r2__sft_resume(r2_ctx *ctx, r2__training *t);
static r2_status r2__grpo_resume(r2_ctx *ctx, r2__training *t);
static r2_status r2__diverged(r2_ctx *ctx, r2__training *t, const char *what, const float *value);

/* order[k] = the k-th group of an epoch: a shuffle keyed by (seed, epoch). */
static void r2__shuffle(int32_t *order, int64_t n, uint64_t seed, int64_t epoch) {
    r2_rng rng = r2_rng_make(seed, R2_STREAM_BATCH, (uint64_t)epoch);
    for (int64_t k = 0; k < n; ++k) order[k] = (int32_t)k;
    for (int64_t k = n - 1; k > 0; --k) {
        int64_t j = (int64_t)r2_rng_below(&rng, (uint64_t)k + 1);
        int32_t at_k = order[k];
        order[k] = order[j];
        order[j] = at_k;
    }
}

/* The first example of group g of this step; shuffles anew where an epoch begins. */
static int64_t r2__next_group(r2__training *t, int64_t g) {
    const int64_t n_groups = t->ex->n / t->ex->group, drawn = t->step * t->groups + g;
    if (drawn % n_groups == 0) r2__shuffle(t->order, n_groups, t->seed, drawn / n_groups);
    return (int64_t)t->order[drawn % n_groups] * t->ex->group;
}

static r2_status r2__training_update(r2_ctx *ctx, r2__training *t, float lr, float *norm) {
    const r2_model *model = t->model;
    float *param = r2__trained_params(model);
    const int64_t n = t->opt.n_params;
    r2_status status;
    if (!t->has_measured) memcpy(t->kept, param, (size_t)n * sizeof *param);
    status = r2_adamw_step(ctx, &t->opt, t->model, lr, norm);
    if (status == R2_DIVERGED)
        return r2__diverged(ctx, t, "the gradient of ", model->lora ? param : model->grad);
    if (status == R2_OK && !(r2_sum_squares(ctx, param, n) <= (double)FLT_MAX))
        return r2__diverged(ctx, t, "a weight of ", param);
    return status;
}

float r2_lr_cosine(int64_t step, int64_t total, int64_t warmup, float peak, float floor_ratio) {
    double t;
    if (warmup > 0 && step < warmup) return peak * (float)(step + 1) / (float)warmup;
    if (step >= total || total <= warmup) return peak * floor_ratio;
    t = (double)(step - warmup) / (double)(total - warmup);
    return peak *
           (floor_ratio + (1.0f - floor_ratio) * 0.5f * (float)(1.0 + cos(3.14159265358979 * t)));
}

/* ---- decoding ----
   One prompt after the other, one output after the other, one token at a time. The rows of queries,
   keys and values of all tokens before are kept, so that a new token costs one row. [E5] takes all
   outputs of many prompts one token further at once. */

r2_generate_config r2_generate_config_default(void) {
    r2_generate_config c;
    memset(&c, 0, sizeof c);
    c.n_samples = 1;
    c.max_new = 32;
    c.temperature = 1.0f;
    return c;
}

void r2_generation_free(r2_ctx *ctx, r2_generation *out) {
    r2_release(ctx, out->token);
    r2_release(ctx, out->logp);
    r2_release(ctx, out->length);
    r2_release(ctx, out->watch_logp);
    memset(out, 0, sizeof *out);
}

static r2_status r2__generation_init(r2_ctx *ctx, r2_generation *out, int64_t n_prompt,
                                     const r2_generate_config *c) {
    uint64_t n = (uint64_t)n_prompt * (uint64_t)c->n_samples;
    uint64_t cells = n * (uint64_t)c->max_new;
    out->n_out = (int64_t)n;
    out->max_new = c->max_new;
    out->n_watch = c->n_watch;
    out->token = R2__NEW(ctx, int32_t, cells);
    out->logp = R2__NEW(ctx, float, cells);
    out->length = R2__NEW(ctx, int32_t, n);
    out->watch_logp = R2__NEW(ctx, float, n * (uint64_t)c->n_watch);
    if (!out->token || !out->logp || !out->length || !out->watch_logp) {
        r2_generation_free(ctx, out);
        return ctx->status;
    }
    for (uint64_t i = 0; i < cells; ++i) out->token[i] = -1;
    return R2_OK;
}

/* A token from one row of n logits: the most probable, or at temperature T one drawn with
   p_v = exp(x_v / T) / sum_w exp(x_w / T): the first at which the running sum exceeds a uniform
   number. */
static inline int32_t r2__sample_plain(const float *x, int64_t n, float temperature, r2_rng *rng) {
    int32_t best = 0;
    double total = 0.0, left;
    for (int32_t v = 1; v < n; ++v)
        if (x[v] > x[best]) best = v;
    if (temperature <= 0.0f) return best;
    for (int32_t v = 0; v < n; ++v)
        total += exp(((double)x[v] - (double)x[best]) / (double)temperature);
    left = r2_rng_double(rng) * total;
    for (int32_t v = 0; v < n; ++v) {
        left -= exp(((double)x[v] - (double)x[best]) / (double)temperature);
        if (left < 0.0) return v;
    }
    return best; /* rounding left a rest */
}

typedef struct r2__decoding {
    const r2_ctx *ctx;
    const r2_model *model;
    r2_arena memory;
    float *cache;  /* (n_layer, n_ctx, qkv_cols) queries, keys and values of all tokens so far */
    r2__acts acts; /* of one row */
    float *logits, lse;
    float *scratch; /* (n_ctx) */
} r2__decoding;

static inline r2_status r2__decoding_init(r2_ctx *ctx, r2__decoding *o, r2_model *model) {
    const r2_model_config *c = &model->config;
    bool good = r2__lora_reserve(ctx, model, 1) == R2_OK;
    memset(o, 0, sizeof *o);
    o->ctx = ctx;
    o->model = model;
    r2__take_layer(ctx, &o->memory, model, 1, 1, false, NULL, &o->acts, &good);
    o->acts.x = r2__floats(ctx, &o->memory, 1, c->d_model, &good);
    o->cache = r2__floats(ctx, &o->memory, (int64_t)c->n_layer * c->n_ctx, r2__qkv_cols(c), &good);
    o->logits = r2__floats(ctx, &o->memory, 1, c->n_vocab, &good);
    o->scratch = r2__floats(ctx, &o->memory, 1, c->n_ctx, &good);
    if (!good) r2_arena_free(ctx, &o->memory);
    return good ? R2_OK : ctx->status;
}

/* The decode step: `token` at `position` through the decoder, to the logits of the next token. The
   tokens before it were passed in their order. */
static inline void r2__decode_token(r2__decoding *o, int32_t token, int32_t position) {
    const r2_ctx *ctx = o->ctx;
    const r2_model *m = o->model;
    const r2_model_config *c = &m->config;
    const int64_t C = c->d_model, D = C / c->n_head, F = c->d_ff, V = c->n_vocab;
    const int64_t qkv_cols = r2__qkv_cols(c);
    const int32_t begin[2] = {0, position + 1};
    const r2_attention shape = r2__attention_of(m, 1, begin, NULL);
    const r2__keys keys = r2__keys_of(&shape, 0);
    const r2__acts *a = &o->acts;
    float *x = a->x;

    r2_embed_fwd(ctx, x, r2_weight(m, R2_EMBED, 0), &token, 1, C);
    for (int32_t l = 0; l < c->n_layer; ++l) {
        float *cache = o->cache + l * c->n_ctx * qkv_cols, *qkv = cache + position * qkv_cols;
        r2_rmsnorm_fwd(ctx, a->n, a->rstd1, x, r2_weight(m, R2_ATTN_NORM, l), 1, C, c->norm_eps);
        r2__project(ctx, m, r2__qkv, l, qkv, a->n, 1);
        if (c->qkv_bias) r2_bias_fwd(ctx, qkv, r2_weight(m, R2_BQ, l), 1, qkv_cols);
        r2_rope(ctx, qkv, qkv_cols, &position, m->rope, 1, c->n_head + c->n_kv_head, (int32_t)D, 1);
        r2__attend_row(&shape, &keys, position, a->att, a->lse, cache, o->scratch);
        r2__project(ctx, m, r2__out, l, x, a->att, 1);

        r2_rmsnorm_fwd(ctx, a->n, a->rstd2, x, r2_weight(m, R2_FFN_NORM, l), 1, C, c->norm_eps);
        r2__project(ctx, m, r2__gate_up, l, a->gu, a->n, 1);
        r2_swiglu_fwd(ctx, a->act, a->gu, 1, F);
        r2__project(ctx, m, r2__down, l, x, a->act, 1);
    }
    r2_rmsnorm_fwd(ctx, a->n, a->rstd1, x, r2_weight(m, R2_FINAL_NORM, 0), 1, C, c->norm_eps);
    r2_matmul(ctx, R2_NT, 1, V, C, a->n, C, r2__head(m), C, o->logits, V, false);
    r2_logsumexp_fwd(ctx, &o->lse, NULL, o->logits, 1, V);
}

static bool r2__stops(const r2_generate_config *c, const int32_t *token, int32_t length) {
    return c->n_stop > 0 && length >= c->n_stop &&
           !memcmp(token + length - c->n_stop, c->stop, (size_t)c->n_stop * sizeof *token);
}

/* Output number `index` of `out`, which continues a prompt of n tokens. The cache holds all of the
   prompt but its last token. */
static inline void r2__decode_output(r2__decoding *o, const r2_generate_config *c, int32_t last,
                                     int32_t n, int64_t index, r2_generation *out) {
    const int64_t V = o->model->config.n_vocab;
    const int64_t allowed = c->n_token > 0 && c->n_token < V ? c->n_token : V;
    int32_t *token = out->token + index * c->max_new, length = 0;
    r2_rng rng = r2_rng_make(c->seed, R2_STREAM_SAMPLE, (uint64_t)index);
    for (r2__decode_token(o, last, n - 1);
         length < c->max_new && !r2__stops(c, token, length); ++length) {
        last = token[length] = r2__sample_plain(o->logits, allowed, c->temperature, &rng);
        out->logp[index * c->max_new + length] = o->logits[last] - o->lse;
        r2__decode_token(o, last, n + length);
    }
    out->length[index] = length;
    for (int32_t j = 0; j < c->n_watch; ++j)
        out->watch_logp[index * c->n_watch + j] = o->logits[c->watch[j]] - o->lse;
}

/* Reports progress under the name `task`; NULL: not at all, for a caller that reports its own. */
R2__PLAIN(r2_status, r2__generate)
(r2_ctx *ctx, r2_model *model, const char *task, const r2_generate_config *config, int64_t n_prompt,
 const int64_t *begin, const int32_t *token, r2_generation *out) {
    r2__decoding o;
    memset(out, 0, sizeof *out);
    if (r2__check_generate(ctx, model, config, n_prompt, begin, token) != R2_OK ||
        r2__decoding_init(ctx, &o, model) != R2_OK)
        return ctx->status;
    r2_status status = r2__generation_init(ctx, out, n_prompt, config);
    for (int64_t p = 0; p < n_prompt && status == R2_OK; ++p) {
        const int32_t n = (int32_t)(begin[p + 1] - begin[p]), *prompt = token + begin[p];
        for (int32_t i = 0; i < n - 1; ++i) r2__decode_token(&o, prompt[i], i);
        for (int64_t s = 0; s < config->n_samples; ++s)
            r2__decode_output(&o, config, prompt[n - 1], n, p * config->n_samples + s, out);
        if (task) status = r2_progress(ctx, task, p + 1, n_prompt);
    }
    r2_arena_free(ctx, &o.memory);
    if (status != R2_OK) r2_generation_free(ctx, out);
    return status;
}

r2_status r2_generate(r2_ctx *ctx, r2_model *model, const r2_generate_config *config,
                      int64_t n_prompt, const int64_t *begin, const int32_t *token,
                      r2_generation *out) {
    return r2__generate(ctx, model, "generate", config, n_prompt, begin, token, out);
}

/* ================================================================================ [M8] sft ====
   In:   evidence, a teacher, a codec; a model with gradients.
   Out:  examples (Q, R, A) as tokens; the model, trained to write R and A after Q.

   The tokens of a reasoned sequence and their probabilities. The caller writes Q and <think>, the
   model everything after the bar:

       Q <think> | pop:7   +2   =+2   </think>   <answer>    3    </answer>
                     .5    .8     1       1          1      .25       1

       answer loss   -log .25                = 1.386
       trace loss    -(log .5 + log .8) / 6  = 0.153    mean over the six tokens that are not A

   A direct sequence is Q <answer> 3: it has an answer loss only. The list loss looks at a group of
   sequences; the observed item with log-odds 1 beside a sampled one with -1 costs
       -log (e^1 / (e^1 + e^-1)) = 0.127.
   test_sft.c, the_losses_of_the_room_opening. */

/* ---- marks: <think>, </think>, <answer>, </answer> as tokens ---- */

static void r2__add_mark(r2_ctx *ctx, r2_tokens *tokens, const r2_mark *mark) {
    for (int32_t k = 0; k < mark->n; ++k) r2_tokens_add(ctx, tokens, mark->id[k]);
}

/* Whether the n tokens end with the mark. */
static bool r2__ends_with(const int32_t *token, int64_t n, const r2_mark *mark) {
    return n >= mark->n && !memcmp(token + n - mark->n, mark->id, (size_t)mark->n * sizeof *token);
}

/* ---- examples ---- */

/* What examples are made from: evidence and a config, or records. */
typedef struct r2__example_source {
    const r2_codec *codec;
    const r2_example_config *config;
    const r2_evidence *evidence;      /* (n) */
    const struct r2_records *records; /* NULL: evidence */
} r2__example_source;

/* One example on its way to its place. */
typedef struct r2__example {
    r2_tokens prompt, trace;
    int32_t answer, step;
    bool failed;
} r2__example;

/* Encodes the part of an output that is its trace, <think> ... </think>, between the marks' own
   tokens. Nothing in: no trace. */
static r2_status r2__encode_trace(r2_ctx *ctx, const r2_codec *codec, const char *output,
                                  r2_tokens *out) {
    const r2_tokenizer *t = &codec->tokenizer;
    const char *begin = strstr(output, "<think>"), *end = strstr(output, "</think>");
    r2_status status;
    if (!*output) return R2_OK;
    if (!begin || !end || end < begin)
        return r2_fail(ctx, R2_FORMAT, "examples: expected <think> ... </think>, found \"%.60s\"",
                       output);
    begin += strlen("<think>");
    r2__add_mark(ctx, out, &codec->markup.think);
    status = t->encode(ctx, t->self, begin, (size_t)(end - begin), false, out);
    r2__add_mark(ctx, out, &codec->markup.think_end);
    if (status != R2_OK) return status;
    return out->owner.failed ? R2_NO_MEMORY : R2_OK;
}

static r2_status r2__example_from_evidence(r2_ctx *ctx, const r2__example_source *from, int64_t e,
                                           r2__example *example) {
    const r2_tokenizer *t = &from->codec->tokenizer;
    const r2_teacher_config *teacher = from->config->teacher;
    const r2_prompt_config *config = &from->config->prompt;
    r2_text trace = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_status status;
    memset(&prompt, 0, sizeof prompt);
    example->step = r2__step(&from->evidence[e]);
    example->answer = from->evidence[e].answer;
    status = r2_prompt_build(ctx, config, &from->evidence[e], &prompt);
    if (status == R2_OK)
        status = t->prompt(ctx, t->self, prompt.system.data, prompt.user.data, &example->prompt);
    if (status == R2_OK && teacher)
        status = r2_teacher_compact(ctx, config->codebook, teacher, prompt.user.data, (uint64_t)e,
                                    &trace);
    if (status == R2_OK && teacher)
        status = r2__encode_trace(ctx, from->codec, trace.data, &example->trace);
    r2_text_free(ctx, &trace);
    r2_prompt_free(ctx, &prompt);
    return status;
}

static r2_status r2__examples_fill(r2_ctx *ctx, r2_examples *ex, const r2__example_source *from);

static r2_status r2__examples_make(r2_ctx *ctx, r2_examples *ex, const r2__example_source *from,
                                   int64_t n, int32_t group) {
    r2_status status;
    memset(ex, 0, sizeof *ex);
    if (n < 1 || group < 1 || n % group)
        return r2_fail(ctx, R2_ARGUMENT, "examples: n = %lld, expected a multiple of group = %d",
                       (long long)n, (int)group);
    ex->n = n;
    ex->group = group;
    ex->codec = *from->codec;
    status = r2__examples_fill(ctx, ex, from);
    if (status != R2_OK) r2_examples_free(ctx, ex);
    return status;
}

r2_status r2_examples_init(r2_ctx *ctx, r2_examples *examples, const r2_codec *codec,
                           const r2_example_config *config, const r2_evidence *evidence,
                           int64_t n) {
    const r2__example_source from = {codec, config, evidence, NULL};
    if (config->teacher && config->prompt.words != R2_WORDS_COMPACT) {
        memset(examples, 0, sizeof *examples);
        return r2_fail(ctx, R2_ARGUMENT,
                       "examples: teacher is given and prompt.words = %d, expected compact words: "
                       "other traces come from records", (int)config->prompt.words);
    }
    return r2__examples_make(ctx, examples, &from, n, config->group);
}

r2_status r2_examples_from_records(r2_ctx *ctx, r2_examples *examples, const r2_codec *codec,
                                   const struct r2_records *records, int32_t group) {
    const r2__example_source from = {codec, NULL, NULL, records};
    return r2__examples_make(ctx, examples, &from, records->n, group);
}

void r2_examples_free(r2_ctx *ctx, r2_examples *examples) {
    r2_release(ctx, examples->prompt_begin);
    r2_release(ctx, examples->trace_begin);
    r2_release(ctx, examples->prompt);
    r2_release(ctx, examples->trace);
    r2_release(ctx, examples->answer);
    r2_release(ctx, examples->step);
    memset(examples, 0, sizeof *examples);
}

/* ---- batches ---- */

/* The arrays of one batch, allocated once for the largest. */
typedef struct r2__batcher {
    int32_t *seq_begin, *token, *pred_row, *pred_token;
    int32_t *level_pred; /* SFT: of each sequence, the first of the predictions of the 6 answers */
    bool *branch;
    float *logp, *dlogp;
    int32_t n_seq, n_row, n_pred;
    r2_arena memory;
} r2__batcher;

static void r2__batcher_free(r2_ctx *ctx, r2__batcher *b) {
    r2_arena_free(ctx, &b->memory);
    memset(b, 0, sizeof *b);
}

static r2_status r2__batcher_init(r2_ctx *ctx, r2__batcher *b, int64_t max_seq, int64_t max_row,
                                  int64_t max_pred) {
    r2_arena *m = &b->memory;
    memset(b, 0, sizeof *b);
    b->seq_begin = R2__ARENA_NEW(ctx, m, int32_t, max_seq + 1);
    b->branch = R2__ARENA_NEW(ctx, m, bool, max_seq);
    b->level_pred = R2__ARENA_NEW(ctx, m, int32_t, max_seq);
    b->token = R2__ARENA_NEW(ctx, m, int32_t, max_row);
    b->pred_row = R2__ARENA_NEW(ctx, m, int32_t, max_pred);
    b->pred_token = R2__ARENA_NEW(ctx, m, int32_t, max_pred);
    b->logp = R2__ARENA_NEW(ctx, m, float, max_pred);
    b->dlogp = R2__ARENA_NEW(ctx, m, float, max_pred);
    if (b->seq_begin && b->branch && b->level_pred && b->token && b->pred_row && b->pred_token &&
        b->logp && b->dlogp)
        return R2_OK;
    r2__batcher_free(ctx, b);
    return ctx->status;
}

static void r2__batcher_clear(r2__batcher *b) { b->n_seq = b->n_row = b->n_pred = 0; }

static void r2__batch_token(r2__batcher *b, int32_t token) { b->token[b->n_row++] = token; }

/* Asks for log p(token) after the last row; returns the number of the prediction. */
static int32_t r2__batch_predict(r2__batcher *b, int32_t token) {
    b->pred_row[b->n_pred] = b->n_row - 1;
    b->pred_token[b->n_pred] = token;
    return b->n_pred++;
}

/* Asks for the six answers after the last row; returns the first of the predictions. */
static int32_t r2__batch_predict_answers(r2__batcher *b, const r2_markup *mark) {
    for (int k = 0; k < R2_N_ANSWERS; ++k) r2__batch_predict(b, mark->level[k]);
    return b->n_pred - R2_N_ANSWERS;
}

/* Ends the sequence; a branch continues the last that was none. */
static void r2__batch_end_sequence(r2__batcher *b, bool branch) {
    b->branch[b->n_seq] = branch;
    b->seq_begin[++b->n_seq] = b->n_row;
}

static r2_batch r2__batch_view(const r2__batcher *b) {
    const r2_batch batch = {b->n_seq,    b->seq_begin,  b->token, b->n_pred,
                            b->pred_row, b->pred_token, b->branch};
    return batch;
}

/* ---- supervised fine-tuning ---- */

r2_sft_config r2_sft_config_default(void) {
    r2_sft_config config;
    memset(&config, 0, sizeof config);
    config.n_steps = 2000;
    config.warmup = 200;
    config.groups = 16;
    config.reasoned_share = 0.5f;
    config.trace_weight = 1.5f;
    config.list_weight = 1.0f;
    config.lr = 2e-3f;
    config.lr_floor = 0.02f;
    config.adamw = r2_adamw_config_default();
    config.valid_every = 250;
    config.patience = 4;
    config.state_every = 3.0f;
    return config;
}

/* The predictions of one sequence of a batch. */
typedef struct r2__sft_row {
    int32_t answer;
    int32_t trace_first, trace_end; /* R after <think>, and <answer> */
    int32_t close, close_end;       /* </answer>; direct: none       */
    bool asks;                      /* the question itself: its group has a list loss */
} r2__sft_row;

/* Writes n tokens; with `predict`, asks for each of them before. */
static void r2__batch_write(r2__batcher *b, const int32_t *token, int64_t n, bool predict) {
    for (int64_t k = 0; k < n; ++k) {
        if (predict) r2__batch_predict(b, token[k]);
        r2__batch_token(b, token[k]);
    }
}

/* Writes Q, then R when reasoned, then <answer> A, and asks for the predictions. The first mark
   after Q, <think> or <answer>, is not asked for: the caller chooses the mode, not the model. A
   reasoned output must learn to close its answer: RL generates it up to there and checks it. */
static r2__sft_row r2__sft_sequence(r2__batcher *b, const r2_examples *ex, int64_t e,
                                    bool reasoned) {
    const r2_markup *mark = &ex->codec.markup;
    const int64_t q = ex->prompt_begin[e], r = ex->trace_begin[e];
    const int32_t given = mark->think.n, *level = &mark->level[ex->answer[e]];
    r2__sft_row row;
    r2__batch_write(b, ex->prompt + q, ex->prompt_begin[e + 1] - q, false);
    row.trace_first = b->n_pred;
    if (reasoned) {
        r2__batch_write(b, ex->trace + r, given, false);
        r2__batch_write(b, ex->trace + r + given, ex->trace_begin[e + 1] - r - given, true);
    }
    r2__batch_write(b, mark->answer.id, mark->answer.n, reasoned);
    row.trace_end = b->n_pred;
    b->level_pred[b->n_seq] = r2__batch_predict_answers(b, mark);
    row.answer = b->level_pred[b->n_seq] + ex->answer[e];
    r2__batch_write(b, level, 1, false);
    row.close = b->n_pred;
    if (reasoned) r2__batch_write(b, mark->answer_end.id, mark->answer_end.n, true);
    row.close_end = b->n_pred;
    row.asks = !ex->step || ex->step[e] == R2_STEP_ASK;
    r2__batch_end_sequence(b, false);
    return row;
}

/* log of the summed probabilities of n log-probabilities. */
static double r2__log_sum(const float *logp, int n) {
    double top = -INFINITY, sum = 0.0;
    for (int k = 0; k < n; ++k) top = fmax(top, (double)logp[k]);
    if (top == -INFINITY) return top;
    for (int k = 0; k < n; ++k) sum += exp((double)logp[k] - top);
    return top + log(sum);
}

#define R2__MOST_LOG_ODDS 27.0 /* keeps scores finite */

/* The score that ranks (D11): log((1 - p(0)) / p(0)) among the six answers, whatever probability
   other tokens have. 0 when no answer has any. */
static double r2__log_odds(const float *level_logp) {
    const double most = R2__MOST_LOG_ODDS, no = (double)level_logp[0];
    double yes = r2__log_sum(level_logp + 1, R2_N_ANSWERS - 1), odds = yes - no;
    if (yes == -INFINITY && no == -INFINITY) return 0.0;
    return odds > most ? most : odds < -most ? -most : odds;
}

/* -log softmax of the log-odds s of a group at the observed item, its first, and the derivatives.
   level (group): the first of the predictions of the six answers of each example.
   d s / d log p(0) = -1,  d s / d log p(k) = p(k) / (p(1) + ... + p(5)), also where s is
   clipped: the clip passes the gradient. */
static double r2__list_loss(r2__batcher *b, const int32_t *level, int32_t group, double weight) {
    double top = -INFINITY, sum = 0.0;
    for (int32_t k = 0; k < group; ++k) top = fmax(top, r2__log_odds(b->logp + level[k]));
    for (int32_t k = 0; k < group; ++k) sum += exp(r2__log_odds(b->logp + level[k]) - top);
    for (int32_t k = 0; k < group; ++k) {
        const float *logp = b->logp + level[k];
        double yes = r2__log_sum(logp + 1, R2_N_ANSWERS - 1);
        double slope = weight * (exp(r2__log_odds(logp) - top) / sum - (k == 0));
        b->dlogp[level[k]] -= (float)slope;
        for (int a = 1; a < R2_N_ANSWERS; ++a)
            b->dlogp[level[k] + a] += (float)(slope * exp((double)logp[a] - yes));
    }
    return top + log(sum) - r2__log_odds(b->logp + level[0]);
}

/* Adds -log p of predictions first .. end - 1 to *loss, and -weight to the gradient of each. */
static void r2__nll(r2__batcher *b, int32_t first, int32_t end, float weight, double *loss) {
    for (int32_t k = first; k < end; ++k) {
        *loss -= (double)b->logp[k];
        b->dlogp[k] -= weight;
    }
}

/* The three losses of a batch and their derivatives by the log-probabilities asked for. */
static void r2__sft_loss(r2__batcher *b, const r2__sft_row *row, int32_t group,
                         const r2_sft_config *config, r2_sft_report *report) {
    int32_t n_trace = 0, n_lists = 0;
    double answer = 0.0, trace = 0.0, list = 0.0;
    memset(b->dlogp, 0, (size_t)b->n_pred * sizeof *b->dlogp);
    for (int32_t s = 0; s < b->n_seq; ++s) {
        n_trace += row[s].trace_end - row[s].trace_first + row[s].close_end - row[s].close;
        n_lists += s % group == 0 && row[s].asks;
    }
    for (int32_t s = 0; s < b->n_seq; ++s) {
        const float weight = config->trace_weight / (float)n_trace;
        r2__nll(b, row[s].answer, row[s].answer + 1, 1.0f / (float)b->n_seq, &answer);
        r2__nll(b, row[s].trace_first, row[s].trace_end, weight, &trace);
        r2__nll(b, row[s].close, row[s].close_end, weight, &trace);
    }
    for (int32_t s = 0; s < b->n_seq; s += group)
        if (row[s].asks)
            list += r2__list_loss(b, b->level_pred + s, group,
                                  (double)config->list_weight / n_lists);
    report->answer_loss = (float)(answer / b->n_seq);
    report->trace_loss = n_trace ? (float)(trace / n_trace) : 0.0f;
    report->list_loss = n_lists ? (float)(list / n_lists) : 0.0f;
}

typedef struct r2__sft {
    r2__training base;
    const r2_sft_config *config;
    r2__batcher b;
    r2__sft_row *row; /* one for each sequence of a batch */
} r2__sft;

/* Writes a batch of n groups, the first of them reasoned: those drawn for this step, or the groups
   of `valid` from `begin` on. */
static void r2__sft_batch(r2__sft *t, const r2_examples *valid, int64_t begin, int64_t n) {
    const r2_examples *ex = valid ? valid : t->base.ex;
    const int64_t n_reasoned = (int64_t)(t->config->reasoned_share * (float)n + 0.5f);
    r2__batcher_clear(&t->b);
    for (int64_t g = 0; g < n; ++g) {
        const int64_t first = valid ? (begin + g) * ex->group : r2__next_group(&t->base, g);
        for (int32_t k = 0; k < ex->group; ++k)
            t->row[g * ex->group + k] = r2__sft_sequence(&t->b, ex, first + k, g < n_reasoned);
    }
}

/* The losses of the batch, in groups of `group`, with the weights as they are; their weighted
   sum. */
static r2_status r2__sft_measure(r2_ctx *ctx, r2__sft *t, int32_t group, r2_sft_report *report,
                                 double *loss) {
    const r2_sft_config *c = t->config;
    const r2_batch batch = r2__batch_view(&t->b);
    const r2_status status = r2_forward(ctx, t->base.model, &batch, t->b.logp, NULL);
    if (status != R2_OK) return status;
    r2__sft_loss(&t->b, t->row, group, c, report);
    *loss = (double)report->answer_loss + (double)c->trace_weight * (double)report->trace_loss +
            (double)c->list_weight * (double)report->list_loss;
    return R2_OK;
}

/* One update by a batch: forward, losses, backward, AdamW. */
static r2_status r2__sft_update(r2_ctx *ctx, r2__sft *t, r2_sft_report *report) {
    const r2_batch batch = r2__batch_view(&t->b);
    double loss;
    r2_status status = r2__sft_measure(ctx, t, t->base.ex->group, report, &loss);
    if (status != R2_OK) return status;
    if (!isfinite(loss)) return r2__diverged(ctx, &t->base, "the loss", NULL);
    r2_zero_grad(ctx, t->base.model);
    status = r2_backward(ctx, t->base.model, &batch, t->b.dlogp);
    if (status != R2_OK) return status;
    return r2__training_update(ctx, &t->base, report->lr, &report->grad_norm);
}

/* The loss of all groups of config->valid, in batches of the size used for training. */
static r2_status r2__sft_valid_loss(r2_ctx *ctx, r2__sft *t, double *loss) {
    const r2_examples *ex = t->config->valid;
    const int64_t n_groups = ex->n / ex->group, most = t->config->groups;
    r2_status status = R2_OK;
    *loss = 0.0;
    for (int64_t g = 0; g < n_groups && status == R2_OK; g += most) {
        const int64_t n = n_groups - g < most ? n_groups - g : most;
        r2_sft_report part;
        double own = 0.0;
        r2__sft_batch(t, ex, g, n);
        status = r2__sft_measure(ctx, t, ex->group, &part, &own);
        *loss += (double)n / (double)n_groups * own;
    }
    return status;
}

/* Measures config->valid when it is time to, and keeps the weights of the lowest loss. Without it,
   a last look at the last batch shows whether the last update diverged. */
static r2_status r2__sft_validate(r2_ctx *ctx, r2__sft *t, r2_sft_report *report) {
    const r2_sft_config *c = t->config;
    const int64_t done = report->step + 1;
    r2__training *base = &t->base;
    r2_sft_report again;
    double loss = 0.0;
    r2_status status;
    report->valid_loss = NAN;
    if (done != c->n_steps && (!c->valid || done % c->valid_every != 0)) return R2_OK;
    status = c->valid ? r2__sft_valid_loss(ctx, t, &loss)
                      : r2__sft_measure(ctx, t, base->ex->group, &again, &loss);
    if (status != R2_OK) return status;
    if (!isfinite(loss)) return r2__diverged(ctx, base, "the loss after it", NULL);
    if (!c->valid) return R2_OK;
    report->valid_loss = (float)loss;
    base->n_worse++;
    if (base->has_measured && !(loss < base->lowest)) return R2_OK;
    base->n_worse = 0;
    base->lowest = loss;
    base->has_measured = true;
    memcpy(base->kept, r2__trained_params(base->model), (size_t)base->opt.n_params * sizeof(float));
    return R2_OK;
}

static r2_status r2__sft_alloc(r2_ctx *ctx, r2__sft *t) {
    const r2_examples *ex = t->base.ex, *valid = t->config->valid;
    const int32_t group = valid && valid->group > ex->group ? valid->group : ex->group;
    const int64_t longest = valid && valid->longest > ex->longest ? valid->longest : ex->longest;
    const int64_t n_seq = (int64_t)t->config->groups * group;
    r2_status status = r2__check_step_size(ctx, "sft", t->config->groups, group, 1,
                                           longest + R2_N_ANSWERS);
    if (status == R2_OK)
        status = r2__batcher_init(ctx, &t->b, n_seq, n_seq * longest,
                                  n_seq * (longest + R2_N_ANSWERS));
    if (status == R2_OK) status = r2__training_init(ctx, &t->base, &t->config->adamw);
    if (status != R2_OK) return status;
    t->row = R2__ARENA_NEW(ctx, &t->base.memory, r2__sft_row, n_seq);
    return t->row ? R2_OK : ctx->status;
}

static r2_status r2__sft_step(r2_ctx *ctx, r2__sft *t) {
    const r2_sft_config *c = t->config;
    const int64_t warmup = c->warmup < c->n_steps / 5 ? c->warmup : c->n_steps / 5;
    r2_sft_report report;
    r2_status status;
    memset(&report, 0, sizeof report);
    report.step = t->base.step;
    report.n_steps = c->n_steps;
    report.lr = r2_lr_cosine(report.step, c->n_steps, warmup, c->lr, c->lr_floor);
    r2__sft_batch(t, NULL, 0, c->groups);
    status = r2__sft_update(ctx, t, &report);
    if (status == R2_OK) status = r2__sft_validate(ctx, t, &report);
    return status == R2_OK ? r2__training_step_done(ctx, &t->base, &report) : status;
}

static void r2__sft_tell(const void *config, const void *report) {
    const r2_sft_config *c = (const r2_sft_config *)config;
    if (c->on_step) c->on_step(c->on_step_data, (const r2_sft_report *)report);
}

r2_status r2_sft(r2_ctx *ctx, r2_model *model, const r2_examples *examples,
                 const r2_sft_config *config) {
    r2_status status = r2__check_sft(ctx, examples, config);
    r2__sft t;
    if (status != R2_OK) return status;
    memset(&t, 0, sizeof t);
    t.config = config;
    t.base.name = "sft";
    t.base.model = model;
    t.base.ex = examples;
    t.base.config = config;
    t.base.tell = r2__sft_tell;
    t.base.report_size = sizeof(r2_sft_report);
    t.base.n_steps = config->n_steps;
    t.base.groups = config->groups;
    t.base.seed = config->seed;
    t.base.patience = config->valid ? config->patience : 0;
    status = r2__sft_alloc(ctx, &t);
    if (status == R2_OK) status = r2__sft_resume(ctx, &t.base);
    while (status == R2_OK && !r2__training_ends(&t.base)) status = r2__sft_step(ctx, &t);
    if (status == R2_OK && t.base.has_measured)
        memcpy(r2__trained_params(model), t.base.kept, (size_t)t.base.opt.n_params * sizeof(float));
    r2__training_free(ctx, &t.base);
    r2__batcher_free(ctx, &t.b);
    return status;
}

/* ================================================================================= [M9] rl ====
   In:   a model after SFT; prompts in groups with answers, no traces.
   Out:  the model, improved by rewards of its own reasoning.

       prompt + <think> --> G sampled outputs --> checked --> rewards --> advantages --> one step
       (of each item        (<think> R </think>                           within the G
        of a group)          <answer> A </answer>)                        of a prompt

   Eight outputs of a prompt, three with reward 1, five with 0: mean 3/8, sample standard deviation
   sqrt(15/56) = 0.518. The three get the advantage (1 - 3/8) / 0.518 = 1.208, the five -0.725
   (R2_DR_GRPO, undivided: 0.625 and -0.375). test_rl.c, advantages_of_three_wins_in_eight. */

void r2_advantages(r2_rl_variant variant, const double *reward, int32_t n, double *advantage) {
    double mean = 0.0, square = 0.0, std;
    for (int32_t i = 0; i < n; ++i) mean += reward[i] / n;
    for (int32_t i = 0; i < n; ++i) square += (reward[i] - mean) * (reward[i] - mean);
    std = n > 1 ? sqrt(square / (n - 1)) : 0.0;
    for (int32_t i = 0; i < n; ++i) {
        advantage[i] = reward[i] - mean;
        if (std < 1e-12) advantage[i] = 0.0; /* equal rewards: the difference is rounding */
        else if (variant != R2_DR_GRPO) advantage[i] /= std + 1e-6;
    }
}

r2_policy_term r2_policy_loss(double logp, double logp_old, double logp_ref, double advantage,
                              double eps_low, double eps_high, double beta) {
    const double limit = 20.0; /* keeps exp() finite; far outside of any clip range */
    double log_ratio = fmax(-limit, fmin(limit, logp - logp_old));
    double log_ref = fmax(-limit, fmin(limit, logp_ref - logp));
    r2_policy_term term;
    term.ratio = exp(log_ratio);
    term.kl = exp(log_ref) - log_ref - 1.0;
    term.clipped = (advantage > 0.0 && term.ratio > 1.0 + eps_high) ||
                   (advantage < 0.0 && term.ratio < 1.0 - eps_low);
    term.loss = beta * term.kl;
    term.dlogp = beta * (1.0 - exp(log_ref));
    if (term.clipped) {
        term.loss -= (advantage > 0.0 ? 1.0 + eps_high : 1.0 - eps_low) * advantage;
    } else {
        term.loss -= term.ratio * advantage;
        term.dlogp -= term.ratio * advantage;
    }
    return term;
}

double r2_reward(const r2_reward_config *config, const r2_sample *sample) {
    const r2_check *check = &sample->check;
    double accuracy = 0.0, faith = 0.0;
    if (check->answer >= 0 && sample->right_answer >= 0)
        accuracy = 1.0 - abs(check->answer - sample->right_answer) / 5.0;
    if (check->verdict == R2_TRACE_OK) faith = 1.0;
    else if (check->n_cited > 0) faith = 0.5 * check->n_right / check->n_cited;
    return (double)config->w_format * (check->well_formed ? 1.0 : 0.0) +
           (double)config->w_accuracy * accuracy + (double)config->w_rank * sample->rank_share +
           (double)config->w_faith * faith;
}

r2_grpo_config r2_grpo_config_default(void) {
    r2_grpo_config config;
    memset(&config, 0, sizeof config);
    config.variant = R2_GRPO;
    config.n_steps = 120;
    config.groups = 20;
    config.n_samples = 5;
    config.n_updates = 1;
    config.max_new = 32;
    config.temperature = 1.0f;
    config.lr = 2e-4f;
    config.eps_low = config.eps_high = 0.2f;
    config.beta = 0.02f;
    config.sft_weight = 1.0f;
    config.list_weight = 1.0f;
    config.reward.w_format = 0.5f;
    config.reward.w_accuracy = 0.0f;
    config.reward.w_rank = 1.0f;
    config.reward.w_faith = 2.0f;
    config.state_every = 3.0f;
    config.adamw = r2_adamw_config_default();
    return config;
}

/* ---- prompts to generate from, outputs to check: for RL and for evaluation ---- */

/* Prompts of examples laid end to end, each followed by the mark that chooses the mode. */
typedef struct r2__prompts {
    int64_t n;
    int64_t *begin; /* (n + 1) */
    int32_t *token;
} r2__prompts;

static void r2__prompts_free(r2_ctx *ctx, r2__prompts *p) {
    r2_release(ctx, p->begin);
    r2_release(ctx, p->token);
    memset(p, 0, sizeof *p);
}

/* Room for max_n prompts of up to `longest` tokens. */
static r2_status r2__prompts_init(r2_ctx *ctx, r2__prompts *p, int64_t max_n, int64_t longest) {
    p->n = 0;
    p->begin = R2__NEW(ctx, int64_t, max_n + 1);
    p->token = (int32_t *)r2_alloc(ctx, (uint64_t)max_n, (uint64_t)longest * sizeof *p->token);
    if (p->begin && p->token) return R2_OK;
    r2__prompts_free(ctx, p);
    return ctx->status;
}

static void r2__prompts_add(r2__prompts *p, const r2_examples *ex, int64_t e, const r2_mark *mark) {
    int64_t from = ex->prompt_begin[e], len = ex->prompt_begin[e + 1] - from;
    int32_t *to = p->token + p->begin[p->n];
    memcpy(to, ex->prompt + from, (size_t)len * sizeof *to);
    memcpy(to + len, mark->id, (size_t)mark->n * sizeof *to);
    p->begin[p->n + 1] = p->begin[p->n] + len + mark->n;
    p->n++;
}

static r2_status r2__prompt_text(r2_ctx *ctx, const r2_examples *ex, int64_t e, r2_text *prompt) {
    const r2_tokenizer *t = &ex->codec.tokenizer;
    int64_t from = ex->prompt_begin[e], len = ex->prompt_begin[e + 1] - from;
    return t->decode(ctx, t->self, ex->prompt + from, len, prompt);
}

/* The text of <think> and the n tokens after it. */
static r2_status r2__output_text(r2_ctx *ctx, const r2_codec *codec, const int32_t *token,
                                 int64_t n, r2_text *output) {
    r2_tokens all = {NULL, 0, {NULL, false}};
    r2_status status = R2_NO_MEMORY;
    r2__add_mark(ctx, &all, &codec->markup.think);
    for (int64_t k = 0; k < n; ++k) r2_tokens_add(ctx, &all, token[k]);
    if (!all.owner.failed)
        status = codec->tokenizer.decode(ctx, codec->tokenizer.self, all.id, all.n, output);
    r2_tokens_free(ctx, &all);
    return status;
}

/* ---- the loop ---- */

typedef struct r2__rl_sample {
    int64_t example;
    int32_t first_pred, end_pred; /* predictions of its generated tokens              */
    int32_t level_pred;           /* first of the predictions of the 6 answers, or -1 */
    double score;                 /* log-odds of interacting, NAN without an answer   */
    double reward, advantage;
    bool kept; /* in the loss: R2_DAPO drops prompts whose samples have equal rewards */
    r2_check check;
} r2__rl_sample;

typedef struct r2__grpo {
    r2__training base;
    r2_model reference;
    const r2_examples *ex;
    const r2_grpo_config *config;
    r2__batcher b;
    r2__prompts prompts;   /* (groups * group)                            */
    r2__rl_sample *sample; /* (prompts * n_samples), prompt after prompt  */
    int64_t n_sample;
    float *logp_old, *logp_ref, *entropy;
    int32_t *list; /* (group) scratch                             */
} r2__grpo;

/* The prompts of the step's groups, each followed by <think>: RL trains reasoning. */
static void r2__grpo_prompts(r2__grpo *rl) {
    const r2_grpo_config *c = rl->config;
    rl->prompts.n = 0;
    for (int32_t g = 0; g < c->groups; ++g) {
        const int64_t first = r2__next_group(&rl->base, g);
        for (int32_t k = 0; k < rl->ex->group; ++k) {
            for (int32_t s = 0; s < c->n_samples; ++s)
                rl->sample[rl->prompts.n * c->n_samples + s].example = first + k;
            r2__prompts_add(&rl->prompts, rl->ex, first + k, &rl->ex->codec.markup.think);
        }
    }
}

/* Lays the outputs into a batch: every generated token is predicted, and after the first <answer>
   also the six answers, for the score that ranks. A prompt but for its last token is run once; each
   of its outputs is a branch that begins with that token, so that all predictions of an output are
   its own, and ends before its own last token, after which nothing is predicted. */
static void r2__grpo_batch(r2__grpo *rl, const r2_generation *gen) {
    const r2_markup *mark = &rl->ex->codec.markup;
    const r2__prompts *prompts = &rl->prompts;
    r2__batcher *b = &rl->b;
    r2__batcher_clear(b);
    for (int64_t o = 0; o < gen->n_out; ++o) {
        int64_t p = o / rl->config->n_samples, last = prompts->begin[p + 1] - 1;
        const int32_t *token = gen->token + o * gen->max_new;
        r2__rl_sample *sample = &rl->sample[o];
        if (o % rl->config->n_samples == 0) {
            for (int64_t k = prompts->begin[p]; k < last; ++k)
                r2__batch_token(b, prompts->token[k]);
            r2__batch_end_sequence(b, false);
        }
        sample->first_pred = b->n_pred;
        sample->level_pred = -1;
        for (int32_t k = 0; k < gen->length[o]; ++k) {
            r2__batch_token(b, k > 0 ? token[k - 1] : prompts->token[last]);
            r2__batch_predict(b, token[k]);
            if (sample->level_pred < 0 && r2__ends_with(token, k, &mark->answer))
                sample->level_pred = r2__batch_predict_answers(b, mark);
        }
        sample->end_pred = b->n_pred;
        r2__batch_end_sequence(b, true);
    }
}

/* The next prediction of a sample that is a generated token, from j on. */
static int32_t r2__token_pred(const r2__rl_sample *sample, int32_t j) {
    return j == sample->level_pred ? j + R2_N_ANSWERS : j;
}

static int32_t r2__sample_length(const r2__rl_sample *sample) {
    return sample->end_pred - sample->first_pred - (sample->level_pred >= 0 ? R2_N_ANSWERS : 0);
}

/* Mean log-odds of the samples of prompt p; a sample without an answer counts as 0. */
static double r2__prompt_score(const r2__grpo *rl, int64_t p) {
    double sum = 0.0;
    for (int32_t s = 0; s < rl->config->n_samples; ++s) {
        double score = rl->sample[p * rl->config->n_samples + s].score;
        if (!isnan(score)) sum += score;
    }
    return sum / rl->config->n_samples;
}

/* sigmoid(a - b): the chance that log-odds a are above log-odds b, under logistic noise. */
static double r2__win(double a, double b) { return 1.0 / (1.0 + exp(b - a)); }

/* rank_share of r2_sample. It is a chance, not 0 or 1, so that the samples of a prompt
   differ in it even when all of them rank right. */
static double r2__rank_share(const r2__grpo *rl, int64_t o) {
    int64_t p = o / rl->config->n_samples, first = p - p % rl->ex->group;
    double score = rl->sample[o].score, won = 0.0;
    if (isnan(score)) return 0.0;
    if (p != first) return r2__win(r2__prompt_score(rl, first), score);
    for (int32_t k = 1; k < rl->ex->group; ++k)
        won += r2__win(score, r2__prompt_score(rl, first + k));
    return rl->ex->group > 1 ? won / (rl->ex->group - 1) : 1.0;
}

/* Checks sample o, as text, and rewards it. */
static r2_status r2__grpo_judge(r2_ctx *ctx, r2__grpo *rl, const r2_generation *gen, int64_t o) {
    const r2_grpo_config *c = rl->config;
    r2__rl_sample *own = &rl->sample[o];
    r2_text prompt = {NULL, 0, 0, false}, output = {NULL, 0, 0, false};
    r2_status status = r2__prompt_text(ctx, rl->ex, own->example, &prompt);
    if (status == R2_OK)
        status = r2__output_text(ctx, &rl->ex->codec, gen->token + o * gen->max_new,
                                 gen->length[o], &output);
    if (status == R2_OK) {
        r2_sample sample = {own->example, prompt.data, output.data, own->check, 0, 0.0};
        sample.check = rl->ex->codec.check(rl->ex->codec.check_data, prompt.data, output.data);
        sample.right_answer = rl->ex->answer[own->example];
        sample.rank_share = r2__rank_share(rl, o);
        own->check = sample.check;
        if (c->reward_fn) status = c->reward_fn(ctx, c->reward_data, &sample, &own->reward);
        else own->reward = r2_reward(&c->reward, &sample);
    }
    if (status == R2_OK && !isfinite(own->reward))
        status = r2_fail(ctx, R2_ARGUMENT,
                         "grpo: reward = %g of example %lld, expected a finite "
                         "number",
                         own->reward, (long long)own->example);
    r2_text_free(ctx, &prompt);
    r2_text_free(ctx, &output);
    return status;
}

static void r2__grpo_statistics(const r2__grpo *rl, r2_grpo_report *report) {
    int64_t answers[R2_N_ANSWERS] = {0}, most = 0;
    double n = (double)rl->n_sample, square = 0.0;
    for (int64_t o = 0; o < rl->n_sample; ++o) {
        const r2__rl_sample *sample = &rl->sample[o];
        report->reward_mean += sample->reward / n;
        report->well_formed_outputs += sample->check.well_formed / n;
        report->faithful_outputs += (sample->check.verdict == R2_TRACE_OK) / n;
        if (sample->check.answer >= 0) answers[sample->check.answer]++;
    }
    for (int64_t o = 0; o < rl->n_sample; ++o) {
        double d = rl->sample[o].reward - report->reward_mean;
        square += d * d;
    }
    for (int a = 0; a < R2_N_ANSWERS; ++a) most = answers[a] > most ? answers[a] : most;
    report->reward_std = sqrt(square / n);
    report->majority_answer = (double)most / n;
}

static void r2__grpo_advantages(r2__grpo *rl, r2_grpo_report *report) {
    const int32_t n = rl->config->n_samples;
    double reward[64], advantage[64];
    for (int64_t p = 0; p < rl->prompts.n; ++p) {
        r2__rl_sample *sample = rl->sample + p * n;
        double spread = 0.0;
        for (int32_t s = 0; s < n; ++s) {
            reward[s] = sample[s].reward;
            spread = fmax(spread, fabs(reward[s] - reward[0]));
        }
        r2_advantages(rl->config->variant, reward, n, advantage);
        for (int32_t s = 0; s < n; ++s) {
            sample[s].advantage = advantage[s];
            sample[s].kept = rl->config->variant != R2_DAPO || spread >= 1e-12;
        }
        report->zero_variance_prompts += (spread < 1e-12) / (double)rl->prompts.n;
    }
}

/* The weight of one token of a sample in the loss: GRPO takes the mean over outputs of the mean
   over their tokens; Dr. GRPO the sum over tokens / (outputs x max_new); DAPO the mean over the
   tokens of all outputs that are kept. */
static double r2__token_weight(const r2__grpo *rl, const r2__rl_sample *sample, int64_t n_kept) {
    if (!sample->kept) return 0.0;
    if (rl->config->variant == R2_DAPO) return 1.0 / (double)n_kept;
    if (rl->config->variant == R2_DR_GRPO)
        return 1.0 / ((double)rl->n_sample * rl->config->max_new);
    return 1.0 / ((double)rl->n_sample * r2__sample_length(sample));
}

/* The list losses, each between the s-th samples of a group's items. A list in which one has no
   answer is left out. */
static void r2__grpo_lists(r2__grpo *rl) {
    const int32_t group = rl->ex->group, n = rl->config->n_samples;
    int64_t n_lists = rl->prompts.n / group * n;
    for (int64_t list = 0; list < n_lists; ++list) {
        bool whole = true;
        for (int32_t k = 0; k < group; ++k) {
            int32_t level = rl->sample[(list / n * group + k) * n + list % n].level_pred;
            rl->list[k] = level;
            whole = whole && level >= 0;
        }
        if (whole)
            r2__list_loss(&rl->b, rl->list, group,
                          (double)rl->config->list_weight / (double)n_lists);
    }
}

/* Derivatives of the objective for the current log-probabilities. */
static void r2__grpo_loss(r2__grpo *rl, r2_grpo_report *report) {
    const r2_grpo_config *c = rl->config;
    int64_t n_tokens = 0, n_kept = 0;
    double beta = c->variant == R2_DAPO ? 0.0 : (double)c->beta;
    memset(rl->b.dlogp, 0, (size_t)rl->b.n_pred * sizeof(float));
    report->kl = report->entropy = report->clipped_tokens = 0.0;
    for (int64_t o = 0; o < rl->n_sample; ++o) {
        n_tokens += r2__sample_length(&rl->sample[o]);
        n_kept += rl->sample[o].kept ? r2__sample_length(&rl->sample[o]) : 0;
    }
    for (int64_t o = 0; o < rl->n_sample; ++o) {
        const r2__rl_sample *sample = &rl->sample[o];
        double weight = r2__token_weight(rl, sample, n_kept);
        int32_t j = sample->first_pred;
        for (; (j = r2__token_pred(sample, j)) < sample->end_pred; ++j) {
            r2_policy_term term = r2_policy_loss((double)rl->b.logp[j], (double)rl->logp_old[j],
                                                 (double)rl->logp_ref[j], sample->advantage,
                                                 (double)c->eps_low, (double)c->eps_high, beta);
            rl->b.dlogp[j] = (float)(weight * term.dlogp);
            report->kl += term.kl / (double)n_tokens;
            report->entropy += (double)rl->entropy[j] / (double)n_tokens;
            report->clipped_tokens += term.clipped / (double)n_tokens;
        }
        if (sample->level_pred >= 0)
            rl->b.dlogp[sample->level_pred + rl->ex->answer[sample->example]] -=
                c->sft_weight / (float)rl->n_sample;
    }
    if (c->list_weight > 0.0f) r2__grpo_lists(rl);
    report->output_length = (double)n_tokens / (double)rl->n_sample;
}

static r2_status r2__grpo_finite(r2_ctx *ctx, r2__grpo *rl, const float *logp) {
    for (int32_t j = 0; j < rl->b.n_pred; ++j)
        if (!isfinite(logp[j])) return r2__diverged(ctx, &rl->base, "a log-probability", NULL);
    return R2_OK;
}

/* Samples outputs, measures them with the model and with the reference, and rewards them. */
static r2_status r2__grpo_rollout(r2_ctx *ctx, r2__grpo *rl, r2_grpo_report *report) {
    const r2_grpo_config *c = rl->config;
    const r2__prompts *prompts = &rl->prompts;
    r2_generate_config how = r2_generate_config_default();
    r2_generation gen;
    r2_batch batch;
    r2_status status;
    r2__grpo_prompts(rl);
    how.n_samples = c->n_samples;
    how.max_new = c->max_new;
    how.stop = rl->ex->codec.markup.answer_end.id;
    how.n_stop = rl->ex->codec.markup.answer_end.n;
    how.temperature = c->temperature;
    how.n_token = rl->ex->codec.tokenizer.n_tokens;
    how.seed = r2_hash(c->seed, (uint64_t)report->step, R2_STREAM_SAMPLE);
    status = r2__generate(ctx, rl->base.model, NULL, &how, prompts->n, prompts->begin,
                          prompts->token, &gen);
    if (status != R2_OK) return status;
    r2__grpo_batch(rl, &gen);
    batch = r2__batch_view(&rl->b);
    status = r2_forward(ctx, &rl->reference, &batch, rl->logp_ref, NULL);
    if (status == R2_OK)
        status = r2_forward(ctx, rl->base.model, &batch, rl->logp_old, rl->entropy);
    if (status == R2_OK) status = r2__grpo_finite(ctx, rl, rl->logp_old);
    for (int64_t o = 0; o < gen.n_out && status == R2_OK; ++o) {
        int32_t level = rl->sample[o].level_pred;
        rl->sample[o].score = level < 0 ? NAN : r2__log_odds(rl->logp_old + level);
    }
    for (int64_t o = 0; o < gen.n_out && status == R2_OK; ++o)
        status = r2__grpo_judge(ctx, rl, &gen, o);
    if (status == R2_OK) r2__grpo_statistics(rl, report);
    if (status == R2_OK) r2__grpo_advantages(rl, report);
    r2_generation_free(ctx, &gen);
    return status;
}

/* n_updates optimiser steps on one batch of rollouts. The first has ratio 1 everywhere. */
static r2_status r2__grpo_update(r2_ctx *ctx, r2__grpo *rl, float lr, r2_grpo_report *report) {
    r2_batch batch = r2__batch_view(&rl->b);
    r2_status status = R2_OK;
    for (int32_t k = 0; k < rl->config->n_updates && status == R2_OK; ++k) {
        float norm = 0.0f;
        if (k == 0) memcpy(rl->b.logp, rl->logp_old, (size_t)rl->b.n_pred * sizeof(float));
        else status = r2_forward(ctx, rl->base.model, &batch, rl->b.logp, rl->entropy);
        if (status != R2_OK) break;
        r2__grpo_loss(rl, report);
        r2_zero_grad(ctx, rl->base.model);
        status = r2_backward(ctx, rl->base.model, &batch, rl->b.dlogp);
        if (status == R2_OK) status = r2__training_update(ctx, &rl->base, lr, &norm);
        report->grad_norm = (double)norm;
    }
    return status;
}

static r2_status r2__grpo_init(r2_ctx *ctx, r2__grpo *rl) {
    const r2_grpo_config *c = rl->config;
    const int32_t group = rl->ex->group;
    const int64_t longest = (int64_t)rl->ex->longest + R2_MAX_MARK;
    r2_arena *m = &rl->base.memory;
    r2_status status = r2__check_step_size(ctx, "grpo", c->groups, group, c->n_samples + 1,
                                           longest + c->max_new + R2_N_ANSWERS);
    if (status != R2_OK) return status;
    const int64_t n_prompt = (int64_t)c->groups * group, n_sample = n_prompt * c->n_samples;
    const int64_t n_pred = n_sample * ((int64_t)c->max_new + R2_N_ANSWERS);
    status = r2__batcher_init(ctx, &rl->b, n_prompt + n_sample,
                              n_prompt * longest + n_sample * c->max_new, n_pred);
    if (status == R2_OK) status = r2__prompts_init(ctx, &rl->prompts, n_prompt, longest);
    if (status == R2_OK) status = r2__training_init(ctx, &rl->base, &c->adamw);
    if (status != R2_OK) return status;
    rl->n_sample = n_sample;
    rl->sample = R2__ARENA_NEW(ctx, m, r2__rl_sample, n_sample);
    rl->logp_old = R2__ARENA_NEW(ctx, m, float, n_pred);
    rl->logp_ref = R2__ARENA_NEW(ctx, m, float, n_pred);
    rl->entropy = R2__ARENA_NEW(ctx, m, float, n_pred);
    rl->list = R2__ARENA_NEW(ctx, m, int32_t, group);
    if (!rl->sample || !rl->logp_old || !rl->logp_ref || !rl->entropy || !rl->list)
        return R2_NO_MEMORY;
    return r2__model_reference(ctx, &rl->reference, rl->base.model);
}

static void r2__grpo_free(r2_ctx *ctx, r2__grpo *rl) {
    r2__batcher_free(ctx, &rl->b);
    r2__prompts_free(ctx, &rl->prompts);
    r2__training_free(ctx, &rl->base);
    r2_model_free(ctx, &rl->reference);
}

/* One step. After the last update one more look tells whether it was one too much. */
static r2_status r2__grpo_step(r2_ctx *ctx, r2__grpo *rl) {
    const r2_grpo_config *c = rl->config;
    r2_grpo_report report;
    r2_status status;
    memset(&report, 0, sizeof report);
    report.step = rl->base.step;
    report.n_steps = c->n_steps;
    status = r2__grpo_rollout(ctx, rl, &report);
    if (status == R2_OK)
        status = r2__grpo_update(ctx, rl, r2_lr_cosine(report.step, c->n_steps, 3, c->lr, 0.1f),
                                 &report);
    if (status == R2_OK && report.step + 1 == c->n_steps) {
        const r2_batch batch = r2__batch_view(&rl->b);
        status = r2_forward(ctx, rl->base.model, &batch, rl->b.logp, NULL);
        if (status == R2_OK) status = r2__grpo_finite(ctx, rl, rl->b.logp);
    }
    return status == R2_OK ? r2__training_step_done(ctx, &rl->base, &report) : status;
}

static void r2__grpo_tell(const void *config, const void *report) {
    const r2_grpo_config *c = (const r2_grpo_config *)config;
    if (c->on_step) c->on_step(c->on_step_data, (const r2_grpo_report *)report);
}

r2_status r2_grpo(r2_ctx *ctx, r2_model *model, const r2_examples *examples,
                  const r2_grpo_config *config) {
    r2__grpo rl;
    r2_status status = r2__check_grpo(ctx, examples, config);
    if (status != R2_OK) return status;
    memset(&rl, 0, sizeof rl);
    rl.ex = examples;
    rl.config = config;
    rl.base.name = "grpo";
    rl.base.model = model;
    rl.base.ex = examples;
    rl.base.config = config;
    rl.base.tell = r2__grpo_tell;
    rl.base.report_size = sizeof(r2_grpo_report);
    rl.base.n_steps = config->n_steps;
    rl.base.groups = config->groups;
    rl.base.seed = config->seed;
    status = r2__grpo_init(ctx, &rl);
    if (status == R2_OK) status = r2__grpo_resume(ctx, &rl.base);
    while (status == R2_OK && !r2__training_ends(&rl.base)) status = r2__grpo_step(ctx, &rl);
    r2__grpo_free(ctx, &rl);
    return status;
}

/* ============================================================================== [M10] eval ====
   In:   scores of candidates, the positive first; or a model and prompts to score.
   Out:  ranks, metrics with intervals; scores with the verdicts on the reasoning behind them.

       score      3  5  3  1  3  4      two candidates score above the positive, two tie with it:
       positive   ^                     its rank is 3, 4 or 5, equally likely

       HR@4 = 2/3   NDCG@4 = (1/log2 4 + 1/log2 5) / 3 = 0.310   MRR = (1/3 + 1/4 + 1/5) / 3 = 0.261

   test_eval.c, ranks_by_hand and metrics_by_hand. */

r2_rank r2_rank_of(const float *score, int64_t n) {
    r2_rank rank = {0, 0};
    const float positive = score[0];
    for (int64_t i = 1; i < n; ++i) {
        const bool both_nan = isnan(score[i]) && isnan(positive);
        rank.better += score[i] > positive || (isnan(positive) && !isnan(score[i]));
        rank.tied += score[i] == positive || both_nan;
    }
    return rank;
}

/* The positive may take the ranks better + 1 .. better + 1 + tied, each equally likely. */
double r2_hit_ratio(r2_rank rank, int64_t k) {
    int64_t last = rank.better + 1 + rank.tied, inside = (k < last ? k : last) - rank.better;
    return inside > 0 ? (double)inside / (double)(rank.tied + 1) : 0.0;
}

double r2_ndcg(r2_rank rank, int64_t k) {
    int64_t first = rank.better + 1;
    double sum = 0.0;
    for (int64_t r = first; r <= first + rank.tied && r <= k; ++r)
        sum += 1.0 / log2((double)r + 1.0);
    return sum / (double)(rank.tied + 1);
}

double r2_reciprocal_rank(r2_rank rank) {
    int64_t first = rank.better + 1;
    double sum = 0.0;
    for (int64_t r = first; r <= first + rank.tied; ++r) sum += 1.0 / (double)r;
    return sum / (double)(rank.tied + 1);
}

r2_eval_config r2_eval_config_default(void) {
    r2_eval_config config = {2000, 0};
    return config;
}

static void r2__metrics_add(r2_metrics *m, r2_rank rank, int64_t n_per_case) {
    m->hr1 += r2_hit_ratio(rank, 1);
    m->hr5 += r2_hit_ratio(rank, 5);
    m->hr10 += r2_hit_ratio(rank, 10);
    m->ndcg5 += r2_ndcg(rank, 5);
    m->ndcg10 += r2_ndcg(rank, 10);
    m->mrr += r2_reciprocal_rank(rank);
    if (n_per_case > 1)
        m->auc += 1.0 - ((double)rank.better + 0.5 * (double)rank.tied) / (double)(n_per_case - 1);
    m->tie_rate += rank.tied > 0;
}

r2_status r2_evaluate(r2_ctx *ctx, const float *score, int64_t n_cases, int64_t n_per_case,
                      const r2_eval_config *config, r2_metrics *out, double *hit1) {
    double *hit, n = (double)n_cases;
    r2_status status;
    memset(out, 0, sizeof *out);
    if (n_cases < 1 || n_per_case < 1)
        return r2_fail(ctx, R2_ARGUMENT,
                       "evaluate: n_cases = %lld, n_per_case = %lld, expected both >= 1",
                       (long long)n_cases, (long long)n_per_case);
    hit = hit1 ? hit1 : R2__NEW(ctx, double, n_cases);
    if (!hit) return ctx->status;
    for (int64_t c = 0; c < n_cases; ++c) {
        r2_rank rank = r2_rank_of(score + c * n_per_case, n_per_case);
        r2__metrics_add(out, rank, n_per_case);
        hit[c] = r2_hit_ratio(rank, 1);
    }
    out->n_cases = n_cases;
    out->hr1 /= n, out->hr5 /= n, out->hr10 /= n, out->ndcg5 /= n, out->ndcg10 /= n;
    out->mrr /= n, out->auc /= n, out->tie_rate /= n;
    status = r2_bootstrap_mean(ctx, hit, n_cases, config->n_bootstrap, config->seed, &out->hr1_lo,
                               &out->hr1_hi);
    if (!hit1) r2_release(ctx, hit);
    return status;
}

static int r2__compare_double(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

r2_status r2_bootstrap_mean(r2_ctx *ctx, const double *value, int64_t n, int32_t n_bootstrap,
                            uint64_t seed, double *lo, double *hi) {
    double *mean;
    if (n < 1 || n_bootstrap < 1)
        return r2_fail(ctx, R2_ARGUMENT,
                       "bootstrap: n = %lld, n_bootstrap = %d, expected both >= 1", (long long)n,
                       (int)n_bootstrap);
    mean = R2__NEW(ctx, double, n_bootstrap);
    if (!mean) return ctx->status;
    R2_PARALLEL_FOR(r2_threads(ctx, n * n_bootstrap), b, n_bootstrap) {
        r2_rng rng = r2_rng_make(seed, R2_STREAM_BOOTSTRAP, (uint64_t)b);
        double sum = 0.0;
        for (int64_t i = 0; i < n; ++i) sum += value[r2_rng_below(&rng, (uint64_t)n)];
        mean[b] = sum / (double)n;
    }
    qsort(mean, (size_t)n_bootstrap, sizeof *mean, r2__compare_double);
    *lo = mean[(int64_t)(0.025 * (n_bootstrap - 1) + 0.5)];
    *hi = mean[(int64_t)(0.975 * (n_bootstrap - 1) + 0.5)];
    r2_release(ctx, mean);
    return R2_OK;
}

/* The binomial tail, two-sided: 2 P(X <= k), X ~ B(only_a + only_b, 1/2). */
double r2_mcnemar(int64_t only_a, int64_t only_b) {
    int64_t n = only_a + only_b, k = only_a < only_b ? only_a : only_b;
    double log_p = -(double)n * log(2.0), tail = 0.0; /* of X = i */
    if (k < 0) return NAN;
    for (int64_t i = 0; i <= k; ++i) {
        tail += exp(log_p);
        log_p += log((double)(n - i) / (double)(i + 1));
    }
    return tail >= 0.5 ? 1.0 : 2.0 * tail;
}

/* ---- the model as a scorer ---- */

r2_score_config r2_score_config_default(void) {
    r2_score_config config = {R2_DIRECT, R2_SCORE_LOG_ODDS, 1, 32, 0.7f, 0};
    return config;
}

float r2_answer_score(const float *level_logp, r2_score_kind kind) {
    double yes = r2__log_sum(level_logp + 1, R2_N_ANSWERS - 1), expected = 0.0;
    if (kind == R2_SCORE_LOG_ODDS) return (float)r2__log_odds(level_logp);
    if (yes == -INFINITY) return (float)R2_N_ANSWERS / 2.0f; /* any level is as likely: 3 */
    for (int k = 1; k < R2_N_ANSWERS; ++k) expected += k * exp((double)level_logp[k] - yes);
    return (float)expected;
}

/* Sums over traces, before they become shares. */
typedef struct r2__trace_counts {
    int64_t n_cited, n_found, n_right;
} r2__trace_counts;

static void r2__trace_tally(r2_trace_metrics *m, r2__trace_counts *counts, const r2_check *check) {
    m->n++;
    m->verdict[check->verdict]++;
    m->well_formed += check->well_formed;
    m->faithful += check->verdict == R2_TRACE_OK;
    counts->n_cited += check->n_cited;
    counts->n_found += check->n_found;
    counts->n_right += check->n_right;
}

static void r2__trace_shares(r2_trace_metrics *m, const r2__trace_counts *counts) {
    if (m->n > 0) m->well_formed /= (double)m->n, m->faithful /= (double)m->n;
    if (counts->n_cited == 0) return;
    m->facts_found = (double)counts->n_found / (double)counts->n_cited;
    m->facts_right = (double)counts->n_right / (double)counts->n_cited;
}

static bool r2__has_mark(const int32_t *token, int64_t n, const r2_mark *mark) {
    for (int64_t k = mark->n; k <= n; ++k)
        if (r2__ends_with(token, k, mark)) return true;
    return false;
}

/* Adds the prompt and its output (cut to leave room), then </think> if it is missing, then
   <answer>. */
static void r2__prompts_finish(r2__prompts *p, const r2_markup *mark, const r2__prompts *from,
                               int64_t k, const int32_t *output, int64_t n, int64_t n_ctx) {
    const int64_t len = from->begin[k + 1] - from->begin[k];
    const int64_t room = n_ctx - len - mark->think_end.n - mark->answer.n;
    int32_t *to = p->token + p->begin[p->n];
    if (n > room) n = room > 0 ? room : 0;
    memcpy(to, from->token + from->begin[k], (size_t)len * sizeof *to);
    memcpy(to += len, output, (size_t)n * sizeof *to);
    to += n;
    if (!r2__has_mark(output, n, &mark->think_end))
        for (int32_t j = 0; j < mark->think_end.n; ++j) *to++ = mark->think_end.id[j];
    for (int32_t j = 0; j < mark->answer.n; ++j) *to++ = mark->answer.id[j];
    p->n++;
    p->begin[p->n] = to - p->token;
}

/* Outputs that end before <answer> are asked for the answer all the same: else their score would
   depend on whatever token they ended with. */
static r2_status r2__score_finish(r2_ctx *ctx, r2_model *model, const r2_examples *ex,
                                  r2_generate_config how, const r2__prompts *prompts,
                                  r2_generation *gen) {
    const r2_markup *mark = &ex->codec.markup;
    const int64_t per = gen->n_out / prompts->n;
    const int64_t room = (int64_t)ex->longest + gen->max_new + 3 * R2_MAX_MARK;
    r2__prompts more = {0, NULL, NULL};
    r2_generation end;
    r2_status status = r2__prompts_init(ctx, &more, gen->n_out, room);
    memset(&end, 0, sizeof end);
    for (int64_t o = 0; o < gen->n_out && status == R2_OK; ++o) {
        const int32_t *token = gen->token + o * gen->max_new, n = gen->length[o];
        if (!r2__ends_with(token, n, &mark->answer))
            r2__prompts_finish(&more, mark, prompts, o / per, token, n, model->config.n_ctx);
    }
    how.n_samples = 1;
    how.max_new = 0;
    if (status == R2_OK && more.n > 0)
        status = r2__generate(ctx, model, NULL, &how, more.n, more.begin, more.token, &end);
    for (int64_t o = 0, k = 0; o < gen->n_out && status == R2_OK; ++o)
        if (!r2__ends_with(gen->token + o * gen->max_new, gen->length[o], &mark->answer))
            memcpy(gen->watch_logp + o * R2_N_ANSWERS, end.watch_logp + k++ * R2_N_ANSWERS,
                   R2_N_ANSWERS * sizeof(float));
    r2_generation_free(ctx, &end);
    r2__prompts_free(ctx, &more);
    return status;
}

/* Generates for examples first .. first + n - 1: direct nothing, reasoned up to <answer>; measures
   the six answers that would follow. */
static r2_status r2__score_generate(r2_ctx *ctx, r2_model *model, const r2_examples *ex,
                                    const r2_score_config *config, int64_t first, int64_t n,
                                    r2_generation *gen) {
    const r2_markup *mark = &ex->codec.markup;
    bool direct = config->mode == R2_DIRECT;
    r2_generate_config how = r2_generate_config_default();
    r2__prompts prompts;
    r2_status status = r2__prompts_init(ctx, &prompts, n, (int64_t)ex->longest + R2_MAX_MARK);
    if (status != R2_OK) return status;
    for (int64_t k = 0; k < n; ++k)
        r2__prompts_add(&prompts, ex, first + k, direct ? &mark->answer : &mark->think);
    how.n_samples = direct ? 1 : config->n_samples;
    how.max_new = direct ? 0 : config->max_new;
    how.stop = mark->answer.id;
    how.n_stop = mark->answer.n;
    how.temperature = config->n_samples > 1 ? config->temperature : 0.0f;
    how.n_token = ex->codec.tokenizer.n_tokens;
    how.seed = r2_hash(config->seed, (uint64_t)first, R2_STREAM_SAMPLE);
    how.n_watch = R2_N_ANSWERS;
    how.watch = mark->level;
    status = r2__generate(ctx, model, NULL, &how, n, prompts.begin, prompts.token, gen);
    if (status == R2_OK && !direct) {
        status = r2__score_finish(ctx, model, ex, how, &prompts, gen);
        if (status != R2_OK) r2_generation_free(ctx, gen);
    }
    r2__prompts_free(ctx, &prompts);
    return status;
}

/* Output o of a generation for example e: completed by the likeliest answer and </answer> when it
   got as far as <answer>, and checked. */
static r2_status r2__score_check(r2_ctx *ctx, const r2_examples *ex, int64_t e,
                                 const r2_generation *gen, int64_t o, r2_reasoning *out) {
    const r2_codec *codec = &ex->codec;
    const float *level = gen->watch_logp + o * gen->n_watch;
    const int32_t *token = gen->token + o * gen->max_new, n = gen->length[o];
    r2_tokens all = {NULL, 0, {NULL, false}};
    r2_text prompt = {NULL, 0, 0, false};
    int32_t best = 0;
    r2_status status = r2__prompt_text(ctx, ex, e, &prompt);
    if (status == R2_OK) status = r2__output_text(ctx, codec, token, n, &out->text);
    out->n_written = out->text.len;
    for (int32_t k = 1; k < R2_N_ANSWERS; ++k)
        if (level[k] > level[best]) best = k;
    if (status == R2_OK && r2__ends_with(token, n, &codec->markup.answer)) {
        for (int32_t k = 0; k < n; ++k) r2_tokens_add(ctx, &all, token[k]);
        r2_tokens_add(ctx, &all, codec->markup.level[best]);
        r2__add_mark(ctx, &all, &codec->markup.answer_end);
        r2_text_clear(&out->text);
        status = all.owner.failed ? R2_NO_MEMORY
                            : r2__output_text(ctx, codec, all.id, all.n, &out->text);
    }
    if (status == R2_OK) out->check = codec->check(codec->check_data, prompt.data, out->text.data);
    r2_tokens_free(ctx, &all);
    r2_text_free(ctx, &prompt);
    return status;
}

r2_status r2_score(r2_ctx *ctx, r2_model *model, const r2_examples *examples,
                   const r2_score_config *config, float *score, r2_trace_metrics *trace) {
    const int64_t slice = 1024; /* prompts at a time: bounds the memory of the KV cache */
    const bool checked = trace && config->mode == R2_REASONED;
    r2__trace_counts counts = {0, 0, 0};
    r2_status status = checked ? r2__check_codec(ctx, "score", examples) : R2_OK;
    if (trace) memset(trace, 0, sizeof *trace);
    for (int64_t first = 0; first < examples->n && status == R2_OK; first += slice) {
        int64_t n = examples->n - first < slice ? examples->n - first : slice;
        r2_generation gen;
        status = r2__score_generate(ctx, model, examples, config, first, n, &gen);
        if (status != R2_OK) return status;
        for (int64_t k = 0; k < n; ++k) score[first + k] = 0.0f;
        for (int64_t o = 0; o < gen.n_out && status == R2_OK; ++o) {
            int64_t per = gen.n_out / n, e = first + o / per;
            r2_reasoning reasoning;
            score[e] += r2_answer_score(gen.watch_logp + o * gen.n_watch, config->kind) /
                        (float)per;
            if (!checked) continue;
            memset(&reasoning, 0, sizeof reasoning);
            status = r2__score_check(ctx, examples, e, &gen, o, &reasoning);
            if (status == R2_OK) r2__trace_tally(trace, &counts, &reasoning.check);
            r2_reasoning_free(ctx, &reasoning);
        }
        r2_generation_free(ctx, &gen);
        for (int64_t e = first; e < first + n && status == R2_OK; ++e)
            if (!isfinite(score[e]))
                status = r2_fail(ctx, R2_DIVERGED, "score: the model gives example %lld no "
                                 "probabilities: its weights are not finite",
                                 (long long)e);
        if (status == R2_OK) status = r2_progress(ctx, "score", first + n, examples->n);
    }
    if (trace) r2__trace_shares(trace, &counts);
    return status;
}

void r2_reasoning_free(r2_ctx *ctx, r2_reasoning *reasoning) {
    r2_text_free(ctx, &reasoning->text);
    memset(reasoning, 0, sizeof *reasoning);
}

r2_status r2_think(r2_ctx *ctx, r2_model *model, const r2_examples *examples, int64_t first,
                   int64_t n, r2_reasoning *out) {
    r2_score_config config = r2_score_config_default();
    r2_generation gen;
    r2_status status = r2__check_codec(ctx, "think", examples);
    if (status != R2_OK) return status;
    if (first < 0 || n < 1 || n > examples->n - first)
        return r2_fail(ctx, R2_ARGUMENT,
                       "think: first = %lld, n = %lld, expected some of %lld "
                       "examples",
                       (long long)first, (long long)n, (long long)examples->n);
    config.mode = R2_REASONED;
    for (int64_t e = first; e < first + n; ++e) { /* room for what the examples themselves say */
        const int64_t own = examples->trace_begin[e + 1] - examples->trace_begin[e];
        if (own + R2_MAX_MARK > config.max_new) config.max_new = (int32_t)own + R2_MAX_MARK;
    }
    memset(out, 0, (size_t)n * sizeof *out);
    status = r2__score_generate(ctx, model, examples, &config, first, n, &gen);
    if (status != R2_OK) return status;
    for (int64_t k = 0; k < n && status == R2_OK; ++k)
        status = r2__score_check(ctx, examples, first + k, &gen, k, &out[k]);
    for (int64_t k = 0; k < n && status != R2_OK; ++k) r2_reasoning_free(ctx, &out[k]);
    r2_generation_free(ctx, &gen);
    return status;
}

/* =============================================================================== [M11] run ====
   In:   a directory of ratings, a configuration.
   Out:  a recommender: data, split, graph, evidence, examples, model; scores, recommendations.

       ratings -> data -> split -> graph, index -> questions -> evidence -> codebook -> examples
                       -> candidates                            (hook)                    |
                              |                                                     r2_run_sft
       recommendations <- scores <--------------- model <-------------------------- r2_run_grpo

   data/mini, 200 groups of 1 observed and 4 sampled items: 1000 training questions, prompts of 43
   tokens, traces of 23. test_run.c, the_numbers_of_the_room_opening. */

r2_run_config r2_run_config_default(void) {
    r2_run_config config;
    memset(&config, 0, sizeof config);
    config.seed = 1;
    config.n_groups = 16384;
    config.n_sampled = 4;
    config.min_history = 5;
    config.min_train = 1;
    config.chains = r2_chain_config_default();
    config.n_negatives = 19;
    config.n_cases = 8192;
    config.split = r2_split_config_default();
    config.teacher = r2_teacher_config_default();
    config.model = r2_model_config_default();
    config.model.d_ff = 176;
    config.sft = r2_sft_config_default();
    config.grpo = r2_grpo_config_default();
    return config;
}

r2_run_config r2_run_config_full(void) {
    r2_run_config config = r2_run_config_default();
    config.n_groups = 32768;
    config.sft.groups = 32;
    config.grpo.n_steps = 300;
    return config;
}

/* All draws of the run follow from its one seed, but for ties of equal times: split.seed. */
static void r2__run_seeds(r2_run_config *config) {
    config->teacher.seed = config->model.seed = config->sft.seed = config->grpo.seed = config->seed;
    config->chains.seed = config->seed;
}

/* The ratings, and which of them are held out: two positives of each user, or other files. */
static r2_status r2__run_load(r2_ctx *ctx, r2_run *run, const char *path) {
    const r2_run_config *c = &run->config;
    const char *paths[3] = {path, NULL, NULL};
    int64_t n = 1;
    r2_status status;
    if (c->valid_path) paths[n++] = c->valid_path;
    if (c->test_path) paths[n++] = c->test_path;
    status = r2_data_load_files(ctx, &run->data, paths, n, &c->format);
    if (status == R2_OK) status = r2_data_grade(ctx, &run->data);
    if (status != R2_OK) return status;
    if (c->valid_path || c->test_path)
        return r2_split_given(ctx, &run->split, &run->data, &c->split, c->valid_path, c->test_path,
                              &c->format);
    return r2_split_init(ctx, &run->split, &run->data, &c->split);
}

/* Fewer held-out positives: at most n_cases of them, and only those of warm items. */
static r2_status r2__run_targets(r2_ctx *ctx, r2_run *run, const char *path) {
    const r2_run_config *c = &run->config;
    r2_split *split = &run->split;
    if (split->n_test < 1)
        return r2_fail(ctx, R2_ARGUMENT,
                       "%s: no user has %s (rating >= %g) after another interaction, so there is "
                       "nothing to test on",
                       c->test_path ? c->test_path : path,
                       c->test_path ? "a positive" : "two positives",
                       (double)split->config.min_positive);
    if (c->n_cases > 0) r2_split_thin(split, c->n_cases);
    if (c->min_train > 0 && r2_split_warm(ctx, split, &run->data, c->min_train) != R2_OK)
        return ctx->status;
    if (split->n_test > 0) return R2_OK;
    return r2_fail(ctx, R2_ARGUMENT,
                   "%s: expected test favourites with min_train = %lld training ratings by others, "
                   "found none among %lld",
                   path, (long long)c->min_train, (long long)split->n_cold_test);
}

/* Candidates for the positives that are held out in a role. */
static r2_status r2__run_candidates(r2_ctx *ctx, const r2_run *run, r2_role role,
                                    r2_candidates *candidates) {
    const r2_run_config *c = &run->config;
    const r2_split *split = &run->split;
    const r2_target *targets = role == R2_TEST ? split->test : split->valid;
    const int64_t n_targets = role == R2_TEST ? split->n_test : split->n_valid;
    const r2_negatives negatives = {c->n_negatives, r2_hash(c->seed, (uint64_t)role, 0), false,
                                    c->min_train > 0 ? split : NULL, c->min_train};
    return r2_candidates_init(ctx, candidates, &run->data, targets, n_targets, &negatives);
}

static r2_status r2__run_data(r2_ctx *ctx, r2_run *run, const char *path) {
    const r2_split_config *split = &run->split.config;
    r2_status status = r2__run_load(ctx, run, path);
    if (status == R2_OK) status = r2__run_targets(ctx, run, path);
    if (status == R2_OK) status = r2__run_candidates(ctx, run, R2_VALID, &run->valid);
    if (status == R2_OK) status = r2__run_candidates(ctx, run, R2_TEST, &run->test);
    if (status == R2_OK) status = r2_graph_init(ctx, &run->graph, &run->data, run->split.role);
    if (status == R2_OK)
        status = r2_index_init(ctx, &run->index, &run->graph, &run->data, split->min_positive,
                               split->seed);
    return status;
}

/* All evidence of the run comes from here: computed, then changed by the hook. */
static r2_status r2__run_evidence(r2_ctx *ctx, const r2_run *run, const r2_question *question,
                                  int64_t n, r2_evidence *evidence) {
    const r2_run_config *c = &run->config;
    r2_status status = r2_evidence_compute(ctx, &run->index, question, n, &c->chains, evidence);
    if (status != R2_OK || !c->evidence_hook) return status;
    return c->evidence_hook(ctx, c->evidence_hook_data, run, question, n, evidence);
}

/* Draws n_groups groups of training questions and computes their evidence: *n of them. The caller
   releases both, after a failure too. */
static r2_status r2__run_draw(r2_ctx *ctx, const r2_run *run, int64_t n_groups, uint64_t seed,
                              r2_question **question, r2_evidence **evidence, int64_t *n) {
    const r2_run_config *c = &run->config;
    const int64_t group = 1 + (int64_t)c->n_sampled;
    r2_draw_config draw = {n_groups, c->n_sampled, c->min_history, c->min_train, seed};
    int64_t n_drawn = 0;
    r2_status status;
    if (group > run->data.n_items)
        return r2_fail(ctx, R2_ARGUMENT,
                       "run: n_sampled = %d, expected fewer than the %lld items of the data",
                       (int)c->n_sampled, (long long)run->data.n_items);
    /* all that there are, when there are not so many */
    if (draw.n_groups > run->graph.n_edges) draw.n_groups = run->graph.n_edges;
    *question = (r2_question *)r2_alloc(ctx, (uint64_t)draw.n_groups,
                                        (uint64_t)group * sizeof **question);
    if (!*question) return ctx->status;
    status = r2_questions_draw(ctx, &run->index, &draw, *question, &n_drawn);
    if (status != R2_OK) return status;
    *n = n_drawn * group;
    *evidence = R2__NEW(ctx, r2_evidence, *n);
    if (!*evidence) return ctx->status;
    return r2__run_evidence(ctx, run, *question, *n, *evidence);
}

static r2_status r2__run_questions(r2_ctx *ctx, r2_run *run) {
    const r2_run_config *c = &run->config;
    uint8_t *observed;
    r2_status status = R2_OK;
    if (c->evidence_hook) status = c->evidence_hook(ctx, c->evidence_hook_data, run, NULL, 0, NULL);
    if (status != R2_OK) return status;
    status = r2__run_draw(ctx, run, c->n_groups, c->seed, &run->question, &run->evidence,
                          &run->n_train);
    if (status != R2_OK) return status;
    observed = R2__NEW(ctx, uint8_t, run->n_train);
    if (!observed) return ctx->status;
    for (int64_t q = 0; q < run->n_train; ++q) observed[q] = q % (1 + c->n_sampled) == 0;
    status = r2_codebook_fit(ctx, &run->codebook, run->evidence, observed, run->n_train,
                             (int32_t)c->chains.k);
    r2_release(ctx, observed);
    return status;
}

r2_status r2_run_init(r2_ctx *ctx, r2_run *run, const char *path, const r2_run_config *config) {
    r2_status status;
    memset(run, 0, sizeof *run);
    run->config = *config;
    r2__run_seeds(&run->config);
    status = r2__check_run(ctx, config);
    if (status == R2_OK) status = r2__run_data(ctx, run, path);
    if (status == R2_OK) status = r2_run_prepare(ctx, run);
    if (status != R2_OK) r2_run_free(ctx, run);
    return status;
}

static void r2__run_unprepare(r2_ctx *ctx, r2_run *run) {
    r2_model_free(ctx, &run->model);
    r2_examples_free(ctx, &run->train);
    r2_vocab_free(ctx, &run->vocab);
    r2_release(ctx, run->evidence);
    r2_release(ctx, run->question);
    run->evidence = NULL;
    run->question = NULL;
    run->n_train = 0;
}

/* How the run writes examples: the question itself in compact words, without traces. */
static r2_example_config r2__run_asks(const r2_run *run, int32_t group) {
    r2_example_config config;
    memset(&config, 0, sizeof config);
    config.prompt = r2_prompt_config_default();
    config.prompt.schedule = run->config.schedule;
    config.prompt.data = &run->data;
    config.prompt.codebook = &run->codebook;
    config.group = group;
    return config;
}

/* Training examples have traces. */
static r2_example_config r2__run_teaches(const r2_run *run) {
    r2_example_config config = r2__run_asks(run, 1 + run->config.n_sampled);
    config.teacher = &run->config.teacher;
    return config;
}

/* The step that the training group g asks. */
static int32_t r2__run_step(const r2_run *run, int64_t g) {
    const r2_run_config *c = &run->config;
    const int64_t group = 1 + (int64_t)c->n_sampled;
    const int32_t last = R2_STEP_ASK, first = r2_schedule_first_step(c->schedule);
    r2_rng rng = r2_rng_make(r2_hash(c->seed, R2_STREAM_BATCH, 1), R2_STREAM_BATCH, (uint64_t)g);
    if (first >= last || !(r2_rng_double(&rng) < (double)c->step_share)) return last;
    for (int64_t k = g * group; k < (g + 1) * group; ++k)
        if (run->evidence[k].n_chains < 1) return last;
    return first + (int32_t)r2_rng_below(&rng, (uint64_t)(last - first));
}

/* Writes the training examples in the words of a codebook, some about earlier steps. */
static r2_status r2__run_examples(r2_ctx *ctx, const r2_run *run, const r2_codebook *codebook,
                                  r2_examples *train) {
    r2_example_config how = r2__run_teaches(run);
    const int64_t n = run->n_train;
    r2_evidence *evidence = R2__NEW(ctx, r2_evidence, n);
    int32_t *step = R2__NEW(ctx, int32_t, n);
    r2_status status = evidence && step ? R2_OK : ctx->status;
    how.prompt.codebook = codebook;
    if (status == R2_OK) {
        memcpy(evidence, run->evidence, (size_t)n * sizeof *evidence);
        for (int64_t q = 0; q < n; ++q) step[q] = r2__run_step(run, q / how.group);
        status = r2__evidence_of_steps(ctx, &run->index, step, n, NULL, run, evidence);
    }
    if (status == R2_OK) status = r2_examples_init(ctx, train, &run->codec, &how, evidence, n);
    r2_release(ctx, evidence);
    r2_release(ctx, step);
    return status;
}

r2_status r2_run_prepare(r2_ctx *ctx, r2_run *run) {
    r2_run_config *c = &run->config;
    r2_status status;
    r2__run_unprepare(ctx, run);
    status = r2__check_run(ctx, c); /* it may have been changed since */
    if (status == R2_OK) status = r2__run_questions(ctx, run);
    if (status == R2_OK) status = r2_codec_compact(ctx, &run->codec, &run->vocab, &run->codebook);
    if (status == R2_OK) status = r2__run_examples(ctx, run, &run->codebook, &run->train);
    if (status == R2_OK) {
        c->model.n_vocab = run->vocab.n_words;
        c->grpo.max_new = 3 * R2_N_THOUGHTS + 4; /* thoughts, </think> <answer> A </answer> */
        c->model.n_ctx = run->train.longest + c->grpo.max_new;
        status = r2_model_init(ctx, &run->model, &c->model, true);
    }
    if (status != R2_OK) r2__run_unprepare(ctx, run);
    return status;
}

void r2_run_free(r2_ctx *ctx, r2_run *run) {
    r2__run_unprepare(ctx, run);
    r2_index_free(ctx, &run->index);
    r2_graph_free(ctx, &run->graph);
    r2_candidates_free(ctx, &run->valid);
    r2_candidates_free(ctx, &run->test);
    r2_split_free(ctx, &run->split);
    r2_data_free(ctx, &run->data);
    memset(run, 0, sizeof *run);
}

/* Questions about the first n_items items of the first n_cases cases; with `moments` when the user
   took the first of them, without them now. question (n_cases, n_items) */
static r2_status r2__run_ask(r2_ctx *ctx, const r2_run *run, const r2_candidates *c,
                             int64_t n_cases, int64_t n_items, bool moments,
                             r2_question *question) {
    for (int64_t q = 0; q < n_cases * n_items; ++q) {
        const uint32_t user = c->user[q / n_items];
        const uint32_t *item = c->item + q / n_items * c->n_per_case;
        if ((int64_t)user >= run->graph.n_users)
            return r2_fail(ctx, R2_ARGUMENT, "prompts: user = %u, expected one of %lld users",
                           (unsigned)user, (long long)run->graph.n_users);
        question[q].user = user;
        question[q].item = item[q % n_items];
        question[q].answer = -1;
        question[q].n_history = (int32_t)r2_graph_user_degree(&run->graph, user);
        if (moments && q % n_items == 0)
            question[q].future = r2_index_future(&run->index, &run->data, user, item[0]);
        else if (moments) question[q].future = question[q - 1].future;
    }
    return R2_OK;
}

/* The first validation cases as groups of the shape of training groups: the positive, negatives. */
static r2_status r2__run_held_out(r2_ctx *ctx, const r2_run *run, r2_examples *examples) {
    const r2_data *data = &run->data;
    const int64_t group = 1 + (int64_t)run->config.n_sampled, all = run->valid.n_cases;
    const int64_t n_cases = all < R2_N_VALID_CASES ? all : R2_N_VALID_CASES, n = n_cases * group;
    const r2_example_config how = r2__run_teaches(run);
    r2_question *question = R2__NEW(ctx, r2_question, n);
    r2_evidence *evidence = R2__NEW(ctx, r2_evidence, n);
    r2_status status = question && evidence ? R2_OK : R2_NO_MEMORY;
    if (status == R2_OK)
        status = r2__run_ask(ctx, run, &run->valid, n_cases, group, true, question);
    for (int64_t q = 0; q < n && status == R2_OK; ++q) {
        const int64_t row = r2_data_find(data, question[q].user, question[q].item);
        question[q].answer =
            q % group ? 0 : r2_answer_level(data->rating[row], data->rating_min, data->rating_max);
    }
    if (status == R2_OK) status = r2__run_evidence(ctx, run, question, n, evidence);
    if (status == R2_OK) status = r2_examples_init(ctx, examples, &run->codec, &how, evidence, n);
    r2_release(ctx, question);
    r2_release(ctx, evidence);
    return status;
}

r2_status r2_run_sft(r2_ctx *ctx, r2_run *run) {
    r2_sft_config config = run->config.sft;
    r2_status status = R2_OK;
    r2_examples held_out;
    memset(&held_out, 0, sizeof held_out);
    if (config.valid_every > 0 && run->valid.n_cases > 0 &&
        run->valid.n_per_case > run->config.n_sampled) {
        status = r2__run_held_out(ctx, run, &held_out);
        config.valid = &held_out;
    }
    if (status == R2_OK) status = r2_sft(ctx, &run->model, &run->train, &config);
    r2_examples_free(ctx, &held_out);
    return status;
}

r2_status r2_run_grpo(r2_ctx *ctx, r2_run *run) {
    const r2_run_config *c = &run->config;
    const r2_example_config how = r2__run_asks(run, 1 + c->n_sampled);
    int64_t wanted = c->grpo.n_steps * (int64_t)c->grpo.groups, n = 0;
    r2_question *question = NULL;
    r2_evidence *evidence = NULL;
    r2_examples fresh;
    r2_status status;
    if (wanted < 1) return R2_OK;
    memset(&fresh, 0, sizeof fresh);
    status = r2__run_draw(ctx, run, wanted, r2_hash(c->seed, R2_STREAM_SAMPLE, 0), &question,
                          &evidence, &n);
    if (status == R2_OK) /* without traces: RL rewards the model's own */
        status = r2_examples_init(ctx, &fresh, &run->codec, &how, evidence, n);
    if (status == R2_OK) status = r2_grpo(ctx, &run->model, &fresh, &c->grpo);
    r2_examples_free(ctx, &fresh);
    r2_release(ctx, question);
    r2_release(ctx, evidence);
    return status;
}

/* ---- asking ---- */

static r2_status r2__run_asked(r2_ctx *ctx, const r2_run *run, const r2_candidates *c, bool moments,
                               r2_evidence *evidence, r2_examples *examples) {
    const int64_t n = c->n_cases * c->n_per_case;
    const r2_example_config how = r2__run_asks(run, 1);
    r2_question *question = R2__NEW(ctx, r2_question, n);
    r2_status status = question ? R2_OK : R2_NO_MEMORY;
    memset(examples, 0, sizeof *examples);
    if (status == R2_OK)
        status = r2__run_ask(ctx, run, c, c->n_cases, c->n_per_case, moments, question);
    if (status == R2_OK) status = r2__run_evidence(ctx, run, question, n, evidence);
    r2_release(ctx, question);
    if (status != R2_OK) return status;
    return r2_examples_init(ctx, examples, &run->codec, &how, evidence, n);
}

r2_status r2_run_prompts(r2_ctx *ctx, const r2_run *run, const uint32_t *user, const uint32_t *item,
                         int64_t n, r2_evidence *evidence, r2_examples *examples) {
    const r2_candidates pairs = {n, 1, (uint32_t *)(uintptr_t)user, (uint32_t *)(uintptr_t)item};
    return r2__run_asked(ctx, run, &pairs, false, evidence, examples);
}

r2_status r2_run_candidate_prompts(r2_ctx *ctx, const r2_run *run, const r2_candidates *candidates,
                                   r2_evidence *evidence, r2_examples *examples) {
    const int64_t n = candidates->n_cases * candidates->n_per_case;
    r2_evidence *own = evidence ? NULL : R2__NEW(ctx, r2_evidence, n);
    r2_status status = R2_NO_MEMORY;
    memset(examples, 0, sizeof *examples);
    if (evidence || own)
        status = r2__run_asked(ctx, run, candidates, true, evidence ? evidence : own, examples);
    r2_release(ctx, own);
    return status;
}

r2_status r2_run_score(r2_ctx *ctx, r2_run *run, const r2_candidates *candidates,
                       const r2_score_config *config, float *score, r2_trace_metrics *trace) {
    r2_examples examples;
    r2_status status = r2_run_candidate_prompts(ctx, run, candidates, NULL, &examples);
    if (status == R2_OK) status = r2_score(ctx, &run->model, &examples, config, score, trace);
    r2_examples_free(ctx, &examples);
    return status;
}

typedef struct r2__scored {
    uint32_t item;
    float score;
} r2__scored;

/* Highest score first; ties by item. */
static int r2__compare_scored(const void *a, const void *b) {
    const r2__scored *x = (const r2__scored *)a, *y = (const r2__scored *)b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* Items and scores of the n best. */
static r2_status r2__recommend_rank(r2_ctx *ctx, r2_run *run, uint32_t user, int64_t n,
                                    r2_recommendation *out, int64_t *n_found) {
    uint64_t n_items = (uint64_t)run->graph.n_items;
    uint32_t *item = R2__NEW(ctx, uint32_t, n_items);
    float *score = R2__NEW(ctx, float, n_items);
    r2__scored *all = R2__NEW(ctx, r2__scored, n_items);
    r2_score_config config = r2_score_config_default();
    r2_candidates unseen = {1, 0, &user, item};
    r2_status status = item && score && all ? R2_OK : R2_NO_MEMORY;
    int64_t m = 0;
    for (uint32_t i = 0; i < n_items && status == R2_OK; ++i)
        if (r2_data_find(&run->data, user, i) < 0) item[m++] = i;
    unseen.n_per_case = m;
    if (status == R2_OK && m > 0) status = r2_run_score(ctx, run, &unseen, &config, score, NULL);
    if (status == R2_OK) {
        for (int64_t k = 0; k < m; ++k) all[k].item = item[k], all[k].score = score[k];
        qsort(all, (size_t)m, sizeof *all, r2__compare_scored);
        *n_found = n < m ? n : m;
        for (int64_t k = 0; k < *n_found; ++k) {
            out[k].item = all[k].item;
            out[k].score = all[k].score;
        }
    }
    r2_release(ctx, item);
    r2_release(ctx, score);
    r2_release(ctx, all);
    return status;
}

/* Evidence and reasoning of the n best. */
static r2_status r2__recommend_explain(r2_ctx *ctx, r2_run *run, uint32_t user, int64_t n,
                                       r2_recommendation *out) {
    uint32_t *pair = R2__NEW(ctx, uint32_t, 2 * n);
    r2_evidence *evidence = R2__NEW(ctx, r2_evidence, n);
    r2_reasoning *reasoning = R2__NEW(ctx, r2_reasoning, n);
    r2_status status = pair && evidence && reasoning ? R2_OK : R2_NO_MEMORY;
    r2_examples asked;
    memset(&asked, 0, sizeof asked);
    for (int64_t k = 0; k < n && pair; ++k) pair[k] = user, pair[n + k] = out[k].item;
    if (status == R2_OK) status = r2_run_prompts(ctx, run, pair, pair + n, n, evidence, &asked);
    if (status == R2_OK) status = r2_think(ctx, &run->model, &asked, 0, n, reasoning);
    for (int64_t k = 0; k < n && status == R2_OK; ++k) {
        out[k].evidence = evidence[k];
        out[k].reasoning = reasoning[k];
    }
    r2_examples_free(ctx, &asked);
    r2_release(ctx, pair);
    r2_release(ctx, evidence);
    r2_release(ctx, reasoning);
    return status;
}

r2_status r2_run_recommend(r2_ctx *ctx, r2_run *run, uint32_t user, int64_t n,
                           r2_recommendation *out, int64_t *n_found) {
    r2_status status;
    *n_found = 0;
    if ((int64_t)user >= run->graph.n_users || n < 0)
        return r2_fail(ctx, R2_ARGUMENT,
                       "recommend: user = %u of %lld, n = %lld, expected a user "
                       "of the data and n >= 0",
                       (unsigned)user, (long long)run->graph.n_users, (long long)n);
    memset(out, 0, (size_t)n * sizeof *out);
    status = r2__recommend_rank(ctx, run, user, n, out, n_found);
    if (status == R2_OK && *n_found > 0)
        status = r2__recommend_explain(ctx, run, user, *n_found, out);
    if (status != R2_OK) *n_found = 0;
    return status;
}

void r2_recommendations_free(r2_ctx *ctx, r2_recommendation *recommendation, int64_t n) {
    for (int64_t k = 0; k < n; ++k) r2_reasoning_free(ctx, &recommendation[k].reasoning);
    memset(recommendation, 0, (size_t)n * sizeof *recommendation);
}

/* ######################################################## PART TWO: THE ENGINE ROOM ########### */

/* =============================================================================== [E1] base ====

   In:   a context, bytes, a seed.
   Out:  memory, lists and tables, text, JSON, lines of files, random numbers, threads; or an error
         in the context.

       r2_alloc, r2_resize     one block, freed by hand      every size is checked before it is
       r2_arena                many blocks, one lifetime     multiplied; a failure is recorded in
       r2__owner               lists and tables of stb_ds    ctx->status and ctx->message
       r2_text                 growing text

   In an arena 100 bytes take 128, two steps of 64; a text of 100 bytes has room for 127 and a NUL.
   (test_base.c: the_opening_of_e1) */

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

/* Reads the code point at `at` < len and returns its number of bytes. A byte that does not begin a
   well-formed UTF-8 sequence is one code point, R2__BAD_BYTE + its value. */
#define R2__BAD_BYTE 0x110000u
static size_t r2__utf8(const char *text, size_t at, size_t len, uint32_t *cp) {
    const unsigned char *p = (const unsigned char *)text + at;
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = *p < 0x80 ? 1 : *p < 0xC2 ? 0 : *p < 0xE0 ? 2 : *p < 0xF0 ? 3 : *p < 0xF5 ? 4 : 0;
    uint32_t c = n == 1 ? *p : n == 2 ? *p & 0x1Fu : n == 3 ? *p & 0x0Fu : *p & 0x07u;
    bool good = n > 0 && n <= len - at;
    for (size_t i = 1; good && i < n; ++i) {
        good = (p[i] & 0xC0) == 0x80;
        c = c << 6 | (p[i] & 0x3Fu);
    }
    good = good && c >= least[n] && c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF);
    *cp = good ? c : R2__BAD_BYTE + *p;
    return good ? n : 1;
}

static bool r2__utf8_valid(const char *text, size_t len) {
    uint32_t cp = 0;
    for (size_t at = 0; at < len && cp < R2__BAD_BYTE;) at += r2__utf8(text, at, len, &cp);
    return cp < R2__BAD_BYTE;
}

r2_status r2_fail(r2_ctx *ctx, r2_status status, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(ctx->message, sizeof ctx->message, format, args);
    va_end(args);
    r2_printable(ctx->message); /* what it quotes may be latin-1, or cut within a letter */
    ctx->status = status;
    return status;
}

void r2_printable(char *text) {
    const bool valid = r2__utf8_valid(text, strlen(text));
    for (char *at = text; *at; ++at) {
        unsigned char c = (unsigned char)*at, next = (unsigned char)at[1];
        if ((c < 0x20 && c != '\t') || c == 0x7F || (c >= 0x80 && !valid)) *at = '?';
        if (c == 0xC2 && next >= 0x80 && next < 0xA0) at[0] = at[1] = '?'; /* U+0080 .. U+009F */
    }
}

const char *r2_status_name(r2_status status) {
    switch (status) {
    case R2_OK: return "ok";
    case R2_NO_MEMORY: return "out of memory";
    case R2_IO: return "input/output error";
    case R2_FORMAT: return "format error";
    case R2_ARGUMENT: return "invalid argument";
    case R2_CANCELLED: return "cancelled";
    case R2_DIVERGED: return "diverged";
    }
    return "unknown status";
}

r2_status r2_progress(r2_ctx *ctx, const char *what, int64_t done, int64_t total) {
    if (ctx->progress && ctx->progress(ctx->hook_data, what, done, total))
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
    (ctx->log)(ctx->hook_data, line); /* in parentheses: <tgmath.h> makes log( ) a macro */
}

/* ---- settings ---- */

/* One setting of a configuration and the range that it must lie in. */
typedef struct r2__bound {
    const char *name;
    double value, low, high;
} r2__bound;
#define R2__BOUND(config, name, low, high)                                                         \
    { #name, (double)(config)->name, low, high }
#define R2__MOST 1e9 /* of steps, groups, samples: products of two of them fit into an int64_t */

static r2_status r2__check_bounds(r2_ctx *ctx, const char *who, const r2__bound *range, int n,
                                  uint64_t *fingerprint) {
    for (int k = 0; k < n && fingerprint; ++k)
        *fingerprint = r2__fnv_on(*fingerprint, &range[k].value, sizeof range[k].value);
    for (int k = 0; k < n; ++k)
        if (!(range[k].value >= range[k].low && range[k].value <= range[k].high))
            return r2_fail(ctx, R2_ARGUMENT, "%s: %s = %g, expected %g .. %g", who, range[k].name,
                           range[k].value, range[k].low, range[k].high);
    return R2_OK;
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
    if (ctx->realloc_fn) return ctx->realloc_fn(ctx->hook_data, ptr, size);
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

/* ---- growing lists and hash tables: stb_ds ----

   In:   a list or a table, which is a pointer to its elements (NULL: empty), and what to add.
   Out:  the same pointer, moved if it had to grow.

   stb_ds does not check realloc and knows no context. So each struct with lists and tables has an
   r2__owner, which holds all their memory:

       owner.blocks -> [next, previous | list] <-> [next, previous | table] <-> [...] -> NULL

       r2__map_put          calls
         r2__stb_grow         setjmp, r2__guard_now = {context, owner, where to return}, calls
           stbds_hmput_key      doubles the table, asks for memory
             r2__stb_realloc      no memory: longjmp to r2__stb_grow
         r2__stb_grow         stb_ds is in an unknown state: frees all blocks of the owner
       r2__map_put          R2_NO_MEMORY: the caller frees the struct

   Only r2__array_reserve and r2__map_put allocate: after a reserve stbds_arrput has room.
   r2__map_find only reads: threads may share a table that nobody changes.
   A list of 8-byte numbers takes 64, 96, 160, ... bytes for 4, 8, 16, ... numbers: 32 are the
   header of stb_ds. (test_base.c: a_list_doubles) */

#if defined(__cplusplus)
#define R2__THREAD_LOCAL thread_local
#else
#define R2__THREAD_LOCAL _Thread_local
#endif

typedef struct r2__block {
    struct r2__block *next, *previous;
} r2__block;

typedef struct r2__guard {
    r2_ctx *ctx;
    r2__owner *owner;
    jmp_buf back;
} r2__guard;

static R2__THREAD_LOCAL r2__guard *r2__guard_now; /* set while stb_ds runs in this thread */
static bool r2__seed_lock; /* every new table changes stb_ds's global seed: one thread at a time */

#if !defined(R2_STB_DS_IMPLEMENTED)
/* Makes the neighbours of a new or moved block point to it. */
static void r2__block_link(r2__owner *owner, r2__block *block) {
    if (block->next) block->next->previous = block;
    if (block->previous) block->previous->next = block;
    else owner->blocks = block;
}

/* Without a guard the caller is the program, which uses stb_ds itself. */
static void *r2__stb_realloc(void *ptr, size_t size) {
    const r2__guard *guard = r2__guard_now;
    r2__block *block = ptr && guard ? (r2__block *)ptr - 1 : NULL;
    uint64_t total;
    if (!guard) return realloc(ptr, size);
    if (!r2_add_u64(size, sizeof *block, &total)) total = UINT64_MAX;
    block = (r2__block *)r2_resize(guard->ctx, block, total, 1);
    if (!block) longjmp(r2__guard_now->back, 1);
    if (!ptr) {
        block->next = guard->owner->blocks;
        block->previous = NULL;
    }
    r2__block_link(guard->owner, block);
    return block + 1;
}

static void r2__stb_free(void *ptr) {
    const r2__guard *guard = r2__guard_now;
    r2__block *block = ptr && guard ? (r2__block *)ptr - 1 : NULL;
    if (!guard) free(ptr);
    if (!block) return;
    if (block->next) block->next->previous = block->previous;
    if (block->previous) block->previous->next = block->next;
    else guard->owner->blocks = block->next;
    r2_release(guard->ctx, block);
}
#endif

/* stb_ds has no const. */
static void *r2__not_const(const void *ptr) { return (void *)(uintptr_t)ptr; }

/* Grows *list by `more` elements, or, with a key, to hold that key (text if key_size is 0). Calls
   setjmp, therefore no local variable changes after it. */
static r2_status r2__stb_grow(r2_ctx *ctx, r2__owner *owner, void **list, size_t size,
                              const void *key, size_t key_size, size_t more) {
    r2__guard guard;
    guard.ctx = ctx;
    guard.owner = owner;
    r2__guard_now = &guard;
    if (setjmp(guard.back) == 0) {
        *list = key ? stbds_hmput_key(*list, size, r2__not_const(key),
                                      key_size ? key_size : sizeof(char *),
                                      key_size ? STBDS_HM_BINARY : STBDS_HM_STRING)
                    : stbds_arrgrowf(*list, size, more, 0);
        r2__guard_now = NULL;
        return R2_OK;
    }
    r2__guard_now = NULL;
    while (owner->blocks) {
        r2__block *next = owner->blocks->next;
        r2_release(ctx, owner->blocks);
        owner->blocks = next;
    }
    owner->failed = true;
    return ctx->status;
}

/* Makes room for `more` elements at the end of the list with address `list`. */
static r2_status r2__array_reserve(r2_ctx *ctx, r2__owner *owner, void *list, size_t size,
                                   int64_t more) {
    void *elements;
    uint64_t n, bytes;
    if (owner->failed) return r2_fail(ctx, R2_NO_MEMORY, "out of memory: a list failed before");
    memcpy(&elements, list, sizeof elements);
    n = stbds_arrlenu(elements) + (uint64_t)more;
    if (n <= stbds_arrcap(elements)) return R2_OK;
    if (!r2_mul_u64(n, size, &bytes) || bytes > (uint64_t)PTRDIFF_MAX / 4)
        return r2_fail(ctx, R2_NO_MEMORY, "out of memory: a list of %llu elements of %llu bytes",
                       (unsigned long long)n, (unsigned long long)size);
    r2_status status = r2__stb_grow(ctx, owner, &elements, size, NULL, 0, (size_t)more);
    if (status != R2_OK) elements = NULL;
    memcpy(list, &elements, sizeof elements);
    return status;
}

/* Finds or adds the entry of `key` in the table with address `map`; its index -> *at. Indices count
   the keys in the order in which they were added. An entry begins with its key, of key_size bytes;
   0: with a pointer to text, which the caller keeps. The rest of a new entry is zeroed. */
static r2_status r2__map_put(r2_ctx *ctx, r2__owner *owner, void *map, size_t size, const void *key,
                             size_t key_size, int64_t *at) {
    const size_t head = key_size ? key_size : sizeof(char *);
    void *entries;
    memcpy(&entries, map, sizeof entries);
    if (owner->failed) return r2_fail(ctx, R2_NO_MEMORY, "out of memory: a table failed before");
    bool fresh = !entries;
    size_t n_before = fresh ? 1 : stbds_header((char *)entries - size)->length;
    while (fresh && __atomic_test_and_set(&r2__seed_lock, __ATOMIC_ACQUIRE)) continue;
    r2_status status = r2__stb_grow(ctx, owner, &entries, size, key, key_size, 0);
    if (fresh) __atomic_clear(&r2__seed_lock, __ATOMIC_RELEASE);
    if (status != R2_OK) entries = NULL;
    memcpy(map, &entries, sizeof entries);
    if (status != R2_OK) return status;
    *at = (int64_t)stbds_temp((char *)entries - size);
    if (stbds_header((char *)entries - size)->length > n_before && size > head)
        memset((char *)entries + (size_t)*at * size + head, 0, size - head);
    return R2_OK;
}

/* Index of the entry of `key`, or -1. */
static int64_t r2__map_find(void *map, size_t size, const void *key, size_t key_size) {
    ptrdiff_t at = -1;
    if (map)
        stbds_hmget_key_ts(map, size, r2__not_const(key), key_size ? key_size : sizeof(char *), &at,
                           key_size ? STBDS_HM_BINARY : STBDS_HM_STRING);
    return at;
}

/* Frees the list (size 0) or table at `list` and sets it to NULL. */
static void r2__stb_release(r2_ctx *ctx, r2__owner *owner, void *list, size_t size) {
    r2__guard guard;
    void *elements;
    memcpy(&elements, list, sizeof elements);
    guard.ctx = ctx;
    guard.owner = owner;
    r2__guard_now = &guard;
    if (!owner->failed && elements && size) stbds_hmfree_func((char *)elements - size, size);
    if (!owner->failed && elements && !size) stbds_arrfreef(elements);
    r2__guard_now = NULL;
    elements = NULL;
    memcpy(list, &elements, sizeof elements);
}

/* Free the list or table at an address. NULL ones and those of a failed owner are allowed. */
static void r2__array_free(r2_ctx *ctx, r2__owner *owner, void *list) {
    r2__stb_release(ctx, owner, list, 0);
}

static void r2__map_free(r2_ctx *ctx, r2__owner *owner, void *map, size_t size) {
    r2__stb_release(ctx, owner, map, size);
}

#define R2__ALIGN 64u
#if !defined(R2__ARENA_BLOCK) /* least bytes of a block; few let a test fail each allocation */
#define R2__ARENA_BLOCK (1u << 16)
#endif

struct r2__arena_block {
    struct r2__arena_block *next;
    unsigned char *base; /* first aligned byte */
    uint64_t size, used; /* of the aligned part */
};

static bool r2__arena_grow(r2_ctx *ctx, r2_arena *arena, uint64_t bytes) {
    uint64_t size = bytes > R2__ARENA_BLOCK ? bytes : R2__ARENA_BLOCK, total;
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

/* As r2_arena_alloc, but not zeroed. */
static void *r2__arena_take(r2_ctx *ctx, r2_arena *arena, uint64_t count, uint64_t size) {
    uint64_t bytes, padded;
    void *result;
    if (!r2_mul_u64(count, size, &bytes) || bytes > (uint64_t)PTRDIFF_MAX) {
        (void)r2_resize(ctx, NULL, count, size); /* refuses that, too */
        return NULL;
    }
    padded = (bytes + R2__ALIGN - 1) & ~(uint64_t)(R2__ALIGN - 1);
    const bool room = arena->blocks && arena->blocks->size - arena->blocks->used >= padded;
    if (!room && !r2__arena_grow(ctx, arena, padded)) return NULL;
    result = arena->blocks->base + arena->blocks->used;
    arena->blocks->used += padded;
    arena->used += padded;
    return result;
}

void *r2_arena_alloc(r2_ctx *ctx, r2_arena *arena, uint64_t count, uint64_t size) {
    unsigned char *result = (unsigned char *)r2__arena_take(ctx, arena, count, size);
    if (result) memset(result, 0, (size_t)(arena->blocks->base + arena->blocks->used - result));
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

static char *r2__arena_string(r2_ctx *ctx, r2_arena *arena, const char *text) {
    size_t len = strlen(text);
    char *copy = (char *)r2_arena_alloc(ctx, arena, (uint64_t)len + 1, 1);
    if (copy) memcpy(copy, text, len);
    return copy;
}

/* ---- text ---- */

static r2__slice r2__slice_of(const char *at, size_t len) {
    r2__slice slice;
    slice.at = at;
    slice.len = len;
    return slice;
}

static r2__slice r2__slice_text(const char *text) { return r2__slice_of(text, strlen(text)); }

static bool r2__text_reserve(r2_ctx *ctx, r2_text *text, size_t more) {
    size_t need = text->len + more + 1, cap = text->cap ? text->cap : 64;
    char *data;
    if (text->failed) r2_fail(ctx, R2_NO_MEMORY, "out of memory: a text failed before");
    if (text->failed || need <= text->cap) return !text->failed;
    while (cap < need) cap *= 2;
    data = (char *)r2_resize(ctx, text->data, cap, 1);
    text->failed = !data;
    if (!data) return false;
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

static void r2__add(r2_ctx *ctx, r2_text *text, r2__slice bytes) {
    r2_text_add(ctx, text, bytes.at, bytes.len);
}

void r2_text_addf(r2_ctx *ctx, r2_text *text, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len >= 0 && r2__text_reserve(ctx, text, (size_t)len)) {
        vsnprintf(text->data + text->len, (size_t)len + 1, format, again);
        text->len += (size_t)len;
    }
    va_end(again);
}

void r2_text_clear(r2_text *text) {
    text->len = 0;
    if (text->data) text->data[0] = '\0';
}

void r2_text_free(r2_ctx *ctx, r2_text *text) {
    r2_release(ctx, text->data);
    memset(text, 0, sizeof *text);
}

/* Puts a point for the locale's decimal point (one or more bytes) into a number; its new length. */
static size_t r2__with_point(char *number) {
    size_t len = 0;
    for (const char *at = number; *at; ++at) {
        bool same = (*at >= '0' && *at <= '9') || (*at >= 'a' && *at <= 'z') || *at == '-' ||
                    *at == '+';
        if (same || !len || number[len - 1] != '.') number[len++] = same ? *at : '.';
    }
    number[len] = '\0';
    return len;
}

/* Adds x like %.{digits}g, at most 17 digits, for programs and models: a point in every locale. */
static void r2__text_number(r2_ctx *ctx, r2_text *text, double x, int digits) {
    char number[64];
    snprintf(number, sizeof number, "%.*g", digits, x);
    r2_text_add(ctx, text, number, r2__with_point(number));
}

/* Adds a code point as UTF-8; R2__BAD_BYTE + b as the byte b. */
static void r2__utf8_add(r2_ctx *ctx, r2_text *text, uint32_t cp) {
    char b[4];
    size_t n = cp < 0x80 || cp >= R2__BAD_BYTE ? 1 : cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    static const unsigned char lead[5] = {0, 0, 0xC0, 0xE0, 0xF0};
    if (cp >= R2__BAD_BYTE) cp -= R2__BAD_BYTE;
    for (size_t i = n - 1; i > 0; --i, cp >>= 6) b[i] = (char)(0x80 | (cp & 0x3F));
    b[0] = (char)(unsigned char)(lead[n] | cp);
    r2_text_add(ctx, text, b, n);
}

/* Adds `bytes` as a JSON string with as few escapes as possible. Bytes that are not UTF-8 become
   U+FFFD, since JSON cannot hold them. */
static void r2__text_json(r2_ctx *ctx, r2_text *text, r2__slice bytes) {
    uint32_t cp;
    r2_text_add(ctx, text, "\"", 1);
    for (size_t at = 0, n; at < bytes.len; at += n) {
        n = r2__utf8(bytes.at, at, bytes.len, &cp);
        if (cp == '"' || cp == '\\') r2_text_addf(ctx, text, "\\%c", (int)cp);
        else if (cp == '\n') r2_text_add(ctx, text, "\\n", 2);
        else if (cp < 0x20) r2_text_addf(ctx, text, "\\u%04x", (unsigned)cp);
        else if (cp < R2__BAD_BYTE) r2_text_add(ctx, text, bytes.at + at, n);
        else r2_text_add(ctx, text, "\xEF\xBF\xBD", 3);
    }
    r2_text_add(ctx, text, "\"", 1);
}

/* ---- slices, and JSON ---- */

static bool r2__begins(r2__slice text, r2__slice begin) {
    return begin.len <= text.len && memcmp(text.at, begin.at, begin.len) == 0;
}

static bool r2__digit_at(r2__slice text, size_t at) {
    return at < text.len && text.at[at] >= '0' && text.at[at] <= '9';
}

/* Takes n <= text->len characters off the front. */
static void r2__drop(r2__slice *text, size_t n) {
    text->at += n;
    text->len -= n;
}

/* Takes `begin` off the front, if it is there. */
static bool r2__take_text(r2__slice *text, const char *begin) {
    const bool there = r2__begins(*text, r2__slice_text(begin));
    if (there) r2__drop(text, strlen(begin));
    return there;
}

/* Takes the first character off if it is one of `any`. */
static bool r2__take_char(r2__slice *text, const char *any) {
    const bool there = text->len && *text->at && strchr(any, *text->at);
    if (there) r2__drop(text, 1);
    return there;
}

/* Takes all characters of `any` off the front; returns how many. */
static size_t r2__take_all(r2__slice *text, const char *any) {
    const size_t len = text->len;
    while (r2__take_char(text, any)) {}
    return len - text->len;
}

/* cJSON tells nobody whether a text is at fault or memory ran out, and accepts more than JSON. So a
   text is checked first, by RFC 8259 and the limits of cJSON: what passes and still fails, fails
   for want of memory. */
typedef struct r2__json_reader {
    r2__slice in;
    int depth;
    bool whole; /* numbers must be digits alone: sizes and offsets                 */
    bool nul;   /* found one, plain or escaped: it would end a C string too early */
} r2__json_reader;

/* Takes \uXXXX off the front -> the UTF-16 unit, or -1. */
static int32_t r2__json_unit(r2__slice *in) {
    int32_t unit = 0;
    if (in->len < 6 || in->at[0] != '\\' || in->at[1] != 'u') return -1;
    for (int k = 2; k < 6; ++k) {
        const int c = (unsigned char)in->at[k], low = c | 32;
        if (!(c >= '0' && c <= '9') && !(low >= 'a' && low <= 'f')) return -1;
        unit = unit << 4 | (c <= '9' ? c - '0' : low - 'a' + 10);
    }
    r2__drop(in, 6);
    return unit;
}

/* Takes a string, whose opening quote is taken: pairs of surrogates and no half ones. */
static bool r2__json_string(r2__json_reader *r) {
    r2__slice *in = &r->in;
    while (in->len && *in->at != '"') {
        int32_t unit = (unsigned char)*in->at;
        if (unit != '\\') {
            ++in->at, --in->len;
        } else if (in->len > 1 && in->at[1] != 'u') {
            ++in->at, --in->len;
            if (!r2__take_char(in, "\"\\/bfnrt")) return false;
        } else {
            unit = r2__json_unit(in);
            if (unit >= 0xD800 && unit < 0xDC00) {
                unit = r2__json_unit(in);
                if (unit < 0xDC00 || unit > 0xDFFF) return false;
            } else if (unit < 0 || (unit >= 0xDC00 && unit <= 0xDFFF)) {
                return false;
            }
        }
        r->nul = r->nul || !unit;
        if (r->nul) return false;
    }
    return r2__take_char(in, "\"");
}

static bool r2__json_number(r2__json_reader *r) {
    static const char digits[] = "0123456789";
    r2__slice *in = &r->in;
    const char *begin = in->at;
    if (!r->whole) r2__take_char(in, "-");
    if (!r2__take_char(in, "0") && !r2__take_all(in, digits)) return false;
    if (!r->whole && r2__take_char(in, ".") && !r2__take_all(in, digits)) return false;
    if (!r->whole && r2__take_char(in, "eE")) {
        r2__take_char(in, "+-");
        if (!r2__take_all(in, digits)) return false;
    }
    return in->at - begin < 64; /* cJSON reads no longer ones */
}

/* Takes one character of `any`, and white space before it. */
static bool r2__json_sign(r2__json_reader *r, const char *any) {
    r2__take_all(&r->in, " \t\r\n");
    return r2__take_char(&r->in, any);
}

/* Takes one value, and white space before it. */
static bool r2__json_any(r2__json_reader *r) {
    static const char *const words[] = {"null", "true", "false"};
    if (r2__json_sign(r, "\"")) return r2__json_string(r);
    if (r2__take_char(&r->in, "{[")) {
        const bool object = r->in.at[-1] == '{';
        bool good = ++r->depth <= CJSON_NESTING_LIMIT;
        if (good && !r2__json_sign(r, object ? "}" : "]")) {
            do good = (!object || (r2__json_sign(r, "\"") && r2__json_string(r) &&
                                   r2__json_sign(r, ":"))) &&
                      r2__json_any(r);
            while (good && r2__json_sign(r, ","));
            good = good && r2__json_sign(r, object ? "}" : "]");
        }
        --r->depth;
        return good;
    }
    for (int k = 0; k < 3; ++k)
        if (r2__take_text(&r->in, words[k])) return true;
    return r2__json_number(r);
}

/* What a text should have been to be one JSON value; NULL: it is. */
static const char *r2__json_fault(r2__slice text, bool whole) {
    r2__json_reader r = {text, 0, whole, false};
    const bool good = r2__json_any(&r);
    r2__take_all(&r.in, " \t\r\n");
    if (good && !r.in.len) return NULL;
    return r.nul ? "text without NUL" : whole ? "JSON with whole numbers" : "JSON";
}

/* One JSON value -> *root, for cJSON_Delete in any case. R2_FORMAT says what was expected. */
static r2_status r2__json_parse(r2_ctx *ctx, r2__slice text, bool whole, cJSON **root) {
    *root = NULL;
    r2__take_text(&text, "\xEF\xBB\xBF");
    const char *fault = r2__json_fault(text, whole);
    if (fault) return r2_fail(ctx, R2_FORMAT, "expected %s", fault);
    *root = cJSON_ParseWithLength(text.at, text.len);
    return *root ? R2_OK : r2_fail(ctx, R2_NO_MEMORY, "out of memory: JSON of %llu bytes",
                                   (unsigned long long)text.len);
}

/* Place of a word in a list, in which blanks part them, from 0; -1: it is not there. */
static int r2__place_of(const char *word, const char *list) {
    for (int place = 0; *list; ++place) {
        const size_t n = strcspn(list, " ");
        if (r2__is(r2__slice_of(list, n), word)) return place;
        list += n + (list[n] == ' ');
    }
    return -1;
}

static bool r2__is_one_of(const char *word, const char *list) {
    return r2__place_of(word, list) >= 0;
}

static cJSON *r2__json_get(const cJSON *object, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* Has `object` the text `value` at `key`? */
static bool r2__json_is(const cJSON *object, const char *key, const char *value) {
    const char *found = cJSON_GetStringValue(r2__json_get(object, key));
    return found && strcmp(found, value) == 0;
}

static bool r2__json_true(const cJSON *object, const char *key) {
    return cJSON_IsTrue(r2__json_get(object, key)) != 0;
}

#define R2__WHOLE (((int64_t)1 << 53) - 1) /* up to here no two integers are one double */

/* A number without a fraction in [low, high], within -R2__WHOLE and R2__WHOLE, -> *whole. */
static bool r2__json_whole(const cJSON *value, int64_t low, int64_t high, int64_t *whole) {
    const double x = cJSON_IsNumber(value) ? value->valuedouble : 0.5;
    if (x != floor(x) || !(x >= (double)low && x <= (double)high)) return false;
    *whole = (int64_t)x;
    return true;
}

/* ---- files: every operation asks the hook ---- */

/* strerror of an error that the system knows is a constant text in every C library. */
static const char *r2__reason(void) { return strerror(errno); /* NOLINT(concurrency-mt-unsafe) */ }

static bool r2__file_may(r2_ctx *ctx, r2_file_op op, const char *path, size_t *size) {
    const size_t all = *size;
    const int error = ctx->file ? ctx->file(ctx->hook_data, op, path, size) : 0;
    if (*size > all || *size < 1) *size = all;
    if (error) errno = error;
    return error == 0;
}

/* NULL: errno says why. */
static FILE *r2__file_open(r2_ctx *ctx, const char *path, const char *mode) {
    FILE *file;
    size_t none = 0;
    do file = r2__file_may(ctx, R2_FILE_OPEN, path, &none) ? fopen(path, mode) : NULL;
    while (!file && errno == EINTR);
    return file;
}

/* Standard input stays open. */
static bool r2__file_close(r2_ctx *ctx, FILE *file, const char *path) {
    size_t none = 0;
    if (file == stdin) return true;
    bool may = r2__file_may(ctx, R2_FILE_CLOSE, path, &none);
    return (fclose(file) == 0 && may) || errno == EINTR; /* closed all the same: no second time */
}

/* Reads `size` bytes; *got are fewer only at the end of the file. Returns the error, as errno. */
static int r2__file_take(r2_ctx *ctx, FILE *file, const char *path, char *to, size_t size,
                         size_t *got) {
    while (*got < size) {
        size_t more = size - *got, n = 0;
        const bool may = r2__file_may(ctx, R2_FILE_READ, path, &more);
        if (may) *got += n = fread(to + *got, 1, more, file);
        if (may && n < more && !ferror(file)) return 0;
        if (may && n == more) continue;
        if (errno != EINTR) return errno;
        clearerr(file);
    }
    return 0;
}

/* The same for a team: process 0 reads, the others get what it has read. */
static r2_status r2__file_read(r2_ctx *ctx, FILE *file, const char *path, char *to, size_t size,
                               size_t *got) {
    struct {
        size_t got;
        int error;
    } first = {0, 0};
    if (r2__is_first(ctx)) first.error = r2__file_take(ctx, file, path, to, size, &first.got);
    r2_status status = r2__team_tell(ctx, R2_OK, &first, sizeof first);
    *got = first.got;
    if (status == R2_OK && *got > 0) status = r2__team_tell(ctx, status, to, *got);
    errno = first.error;
    if (status != R2_OK || !first.error) return status;
    return r2_fail(ctx, R2_IO, "%s: cannot read: %s", path, r2__reason());
}

static bool r2__file_write(r2_ctx *ctx, FILE *file, const char *path, r2__slice bytes) {
    while (bytes.len > 0) {
        size_t some = bytes.len, n = 0;
        const bool may = r2__file_may(ctx, R2_FILE_WRITE, path, &some);
        if (may) n = fwrite(bytes.at, 1, some, file);
        bytes.at += n;
        bytes.len -= n;
        if (may && n == some) continue;
        if (errno != EINTR) return false;
        clearerr(file);
    }
    return true;
}

/* Hands a file to the disk: a rename that comes before its bytes would leave half a file after a
   power cut. What cannot be synced, a pipe, is none of those. */
static bool r2__file_sync(r2_ctx *ctx, FILE *file, const char *path) {
    size_t none = 0;
    bool done;
    do {
        done = r2__file_may(ctx, R2_FILE_SYNC, path, &none) && fflush(file) == 0;
#if defined(R2__HAS_FSYNC)
        done = done && (fsync(fileno(file)) == 0 || errno == EINVAL);
#endif
    } while (!done && errno == EINTR);
    return done;
}

static bool r2__file_rename(r2_ctx *ctx, const char *from, const char *to) {
    size_t none = 0;
    bool done;
    do done = r2__file_may(ctx, R2_FILE_RENAME, to, &none) && rename(from, to) == 0;
    while (!done && errno == EINTR);
    return done;
}

/* Opens a file to read, "-" for standard input. Only process 0 of a team reads: what the others
   hold is their standard input, which is never touched. */
static r2_status r2__open(r2_ctx *ctx, const char *path, FILE **file) {
    const bool reads = strcmp(path, "-") != 0 && r2__is_first(ctx);
    int error = 0;
    *file = reads ? r2__file_open(ctx, path, "rb") : stdin;
    if (!*file) error = errno;
    r2_status status = r2__team_tell(ctx, R2_OK, &error, sizeof error);
    if (status != R2_OK && reads && *file) r2__file_close(ctx, *file, path);
    if (status != R2_OK) return status;
    errno = error;
    return !error ? R2_OK : r2_fail(ctx, R2_IO, "%s: cannot open: %s", path, r2__reason());
}

/* Reads on until the text has `limit` bytes or the file ends. */
static r2_status r2__read_up_to(r2_ctx *ctx, FILE *file, const char *path, size_t limit,
                                r2_text *text) {
    r2_status status = R2_OK;
    size_t got = 1;
    while (got > 0 && text->len < limit && status == R2_OK) {
        size_t want = limit - text->len;
        if (!r2__text_reserve(ctx, text, want < 1u << 16 ? want : 1u << 16)) return ctx->status;
        if (want > text->cap - text->len - 1) want = text->cap - text->len - 1;
        status = r2__file_read(ctx, file, path, text->data + text->len, want, &got);
        text->len += got;
        text->data[text->len] = '\0';
    }
    return status;
}

r2_status r2_read_file(r2_ctx *ctx, const char *path, r2_text *text) {
    FILE *file;
    if (r2__open(ctx, path, &file) != R2_OK) return ctx->status;
    r2_text_clear(text);
    r2_status status = r2__read_up_to(ctx, file, path, SIZE_MAX, text);
    r2__file_close(ctx, file, path); /* it was read: nothing is lost any more */
    return status;
}

#define R2__TEXT_MAX ((size_t)1 << 28) /* more is not read as text: the file is not what it seems */

/* Reads a file that is text: one that holds a NUL, or has no end, is left early. */
static r2_status r2__read_text(r2_ctx *ctx, const char *path, r2_text *text) {
    FILE *file;
    size_t from = 0;
    bool nul = false;
    r2_status status = r2__open(ctx, path, &file);
    if (status != R2_OK) return status;
    for (bool more = true; status == R2_OK && more && !nul; from = text->len) {
        status = r2__read_up_to(ctx, file, path, from + (1u << 20), text);
        more = text->len > from && text->len <= R2__TEXT_MAX;
        nul = text->len > from && memchr(text->data + from, '\0', text->len - from);
    }
    r2__file_close(ctx, file, path);
    if (status == R2_OK && (nul || text->len > R2__TEXT_MAX))
        status = r2_fail(ctx, R2_FORMAT, "%s: expected text, found %s", path,
                         nul ? "a NUL byte" : "more than 256 MB");
    return status;
}

/* Of texts, and of structs that begin with one. */
static int r2__by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Refuses an object with a key twice, at any depth: of two values readers take either. */
static r2_status r2__json_once(r2_ctx *ctx, const cJSON *value, const char *path) {
    const uint64_t n = cJSON_IsObject(value) ? (uint64_t)cJSON_GetArraySize(value) : 0;
    const char **key = n > 1 ? (const char **)r2_alloc(ctx, n, sizeof *key) : NULL;
    r2_status status = n > 1 && !key ? ctx->status : R2_OK;
    uint64_t k = 0;
    for (const cJSON *item = value->child; item && status == R2_OK; item = item->next) {
        if (key) key[k++] = item->string;
        status = r2__json_once(ctx, item, path);
    }
    if (key) qsort(key, (size_t)k, sizeof *key, r2__by_name);
    for (uint64_t i = 1; i < k && status == R2_OK; ++i)
        if (!strcmp(key[i - 1], key[i]))
            status = r2_fail(ctx, R2_FORMAT, "%s: the key \"%.60s\" occurs twice", path, key[i]);
    r2_release(ctx, key);
    return status;
}

/* The JSON value of a whole file -> *root; release with cJSON_Delete. NULL after a failure. */
static r2_status r2__json_read(r2_ctx *ctx, const char *path, cJSON **root) {
    r2_text text = {NULL, 0, 0, false};
    r2_status status = r2__read_text(ctx, path, &text);
    *root = NULL;
    if (status == R2_OK) {
        const r2__slice all = r2__slice_of(text.data, text.len);
        status = r2__json_parse(ctx, all, false, root);
        if (status == R2_FORMAT)
            r2_fail(ctx, status, "%s: expected %s, found something else", path,
                    r2__json_fault(all, false));
        if (status == R2_OK) status = r2__json_once(ctx, *root, path);
    }
    if (status != R2_OK) {
        cJSON_Delete(*root);
        *root = NULL;
    }
    r2_text_free(ctx, &text);
    return status;
}

static bool r2__file_exists(r2_ctx *ctx, const char *path) {
    FILE *file = NULL;
    bool there;
    if (strcmp(path, "-") == 0) return false; /* standard input */
    if (r2__is_first(ctx)) file = r2__file_open(ctx, path, "rb");
    there = file || (errno != ENOENT && errno != ENOTDIR); /* one that may not be read is there */
    if (file) r2__file_close(ctx, file, path);
    return r2__team_tell(ctx, R2_OK, &there, sizeof there) == R2_OK && there;
}

/* The name under which a file is written before it is whole; needs no memory. */
#define R2__ASIDE 4096
static r2_status r2__aside(r2_ctx *ctx, const char *path, char aside[R2__ASIDE]) {
    const int n = snprintf(aside, R2__ASIDE, "%s.tmp", path);
    if (n > 0 && n < R2__ASIDE) return R2_OK;
    return r2_fail(ctx, R2_ARGUMENT, "%.200s...: the path is too long", path);
}

/* Renames what was written aside. */
static r2_status r2__into_place(r2_ctx *ctx, const char *path) {
    char aside[R2__ASIDE];
    r2_status status = r2__aside(ctx, path, aside);
    if (status == R2_OK && r2__is_first(ctx) && !r2__file_rename(ctx, aside, path))
        status = r2_fail(ctx, R2_IO, "%s: cannot write: %s", path, r2__reason());
    return status;
}

/* Removes what was written aside, without memory: there may be none. A failure is not reported. */
static void r2__drop_aside(r2_ctx *ctx, const char *path) {
    char aside[4 * R2__PATH];
    size_t none = 0;
    const int n = snprintf(aside, sizeof aside, "%s.tmp", path);
    if (n > 0 && n < (int)sizeof aside && r2__is_first(ctx) &&
        r2__file_may(ctx, R2_FILE_REMOVE, aside, &none))
        remove(aside);
}

/* Writes the pieces aside, whole and on the disk, or leaves nothing. Only process 0 of a team
   writes: when it fails, the others hear of it the next time that they work together. */
static r2_status r2__write_aside(r2_ctx *ctx, const char *path, const r2__slice *piece, int n) {
    char aside[R2__ASIDE];
    r2_status status = r2__aside(ctx, path, aside);
    if (!r2__is_first(ctx)) return status;
    FILE *file = status == R2_OK ? r2__file_open(ctx, aside, "wb") : NULL;
    bool good = file != NULL, closed = true;
    for (int k = 0; k < n && good; ++k) good = r2__file_write(ctx, file, aside, piece[k]);
    good = good && r2__file_sync(ctx, file, aside);
    if (status == R2_OK && !good)
        status = r2_fail(ctx, R2_IO, "%s: cannot write: %s", aside, r2__reason());
    if (file) closed = r2__file_close(ctx, file, aside);
    if (status == R2_OK && !closed)
        status = r2_fail(ctx, R2_IO, "%s: cannot write: %s", aside, r2__reason());
    if (status != R2_OK && file) r2__drop_aside(ctx, path);
    return status;
}

static r2_status r2__write_pieces(r2_ctx *ctx, const char *path, const r2__slice *piece, int n) {
    if (r2__write_aside(ctx, path, piece, n) != R2_OK) return ctx->status;
    r2_status status = r2__into_place(ctx, path);
    if (status != R2_OK) r2__drop_aside(ctx, path);
    return status;
}

r2_status r2_write_file(r2_ctx *ctx, const char *path, const char *bytes, size_t len) {
    const r2__slice all = r2__slice_of(bytes, len);
    return r2__write_pieces(ctx, path, &all, 1);
}

/* Writes a text and frees it. */
static r2_status r2__write_text(r2_ctx *ctx, const char *path, r2_text *text) {
    r2_status status = text->failed ? ctx->status : r2_write_file(ctx, path, text->data, text->len);
    r2_text_free(ctx, text);
    return status;
}

/* ---- several files that are one thing ----

   r2__save_together  writes all aside, then, of a run, what they are (their digests, in run.json:
                      from now on the new ones count), then renames them
   r2__settle         finds them as they should be, or finishes the renaming after a crash

   A crash before run.json is renamed leaves the old files, whole, and some .tmp that do not count;
   after it, each new file whole under one of its two names. (test_run.c, a_save_that_is_cut_off) */

static r2_status r2__digest_file(r2_ctx *ctx, const char *path, char digest[17]) {
    r2_text text = {NULL, 0, 0, false};
    r2_status status = r2_read_file(ctx, path, &text);
    if (status == R2_OK)
        snprintf(digest, 17, "%016llx", (unsigned long long)r2__fnv(text.data, text.len));
    r2_text_free(ctx, &text);
    return status;
}

/* Makes sure that directory/name is the file of this digest, written aside or in place. */
static r2_status r2__settle_file(r2_ctx *ctx, const char *directory, const char *name,
                                 const char *digest) {
    char path[R2__PATH], aside[R2__ASIDE], found[17] = "";
    if (r2__join_path(ctx, path, directory, name) != R2_OK) return ctx->status;
    if (r2__digest_file(ctx, path, found) == R2_OK && strcmp(found, digest) == 0) return R2_OK;
    r2_status status = r2__aside(ctx, path, aside);
    if (status == R2_OK && r2__digest_file(ctx, aside, found) == R2_OK &&
        strcmp(found, digest) == 0)
        status = r2__into_place(ctx, path);
    else if (status == R2_OK) /* once more, for the message */
        status = r2__digest_file(ctx, path, found);
    if (status != R2_OK || strcmp(found, digest) == 0) return status;
    return r2_fail(ctx, R2_FORMAT, "%s: not the file that was saved with the others of %s/run.json",
                   path, directory);
}

/* Without a run.json, files of version 0.1.0, there is nothing to compare. */
static r2_status r2__settle(r2_ctx *ctx, const char *directory, const char *const *name, int n) {
    char path[R2__PATH];
    r2_status status = r2__join_path(ctx, path, directory, "run.json");
    cJSON *json = NULL;
    if (status == R2_OK && !r2__file_exists(ctx, path)) return R2_OK;
    if (status == R2_OK) status = r2__json_read(ctx, path, &json);
    for (int k = 0; k < n && status == R2_OK; ++k) {
        const cJSON *digest = r2__json_get(json, name[k]);
        if (cJSON_IsString(digest))
            status = r2__settle_file(ctx, directory, name[k], digest->valuestring);
        else status = r2_fail(ctx, R2_FORMAT, "%s: expected the digest of %s", path, name[k]);
    }
    cJSON_Delete(json);
    return status;
}

/* Before a new save: one that was cut off is finished, since it counts until the new one is there.
   Files that belong to no run are going to be replaced. */
static r2_status r2__settle_old(r2_ctx *ctx, const char *directory, const char *const *name,
                                int n) {
    r2_status status = r2__settle(ctx, directory, name, n);
    return status == R2_FORMAT || (status == R2_IO && errno == ENOENT) ? R2_OK : status;
}

/* Writes the digests of the texts: a line for each file. */
static r2_status r2__save_digests(r2_ctx *ctx, const char *directory, const char *const *name,
                                  const r2_text *text, int n) {
    char path[R2__PATH];
    r2_text all = {NULL, 0, 0, false};
    r2_status status = r2__join_path(ctx, path, directory, "run.json");
    for (int k = 0; k < n; ++k)
        r2_text_addf(ctx, &all, "%s  \"%s\": \"%016llx\"", k ? ",\n" : "{\n", name[k],
                     (unsigned long long)r2__fnv(text[k].data, text[k].len));
    r2_text_addf(ctx, &all, "\n}\n");
    if (status == R2_OK) return r2__write_text(ctx, path, &all);
    r2_text_free(ctx, &all);
    return status;
}

/* Saves texts (n), frees them, as the files name (n) of a directory, with digests if is_run. */
static r2_status r2__save_together(r2_ctx *ctx, const char *directory, const char *const *name,
                                   r2_text *text, int n, bool is_run) {
    char path[R2__PATH];
    r2_status status = is_run ? r2__settle_old(ctx, directory, name, n) : R2_OK;
    int n_aside = 0;
    bool counts = false; /* the new files do */
    for (int k = 0; k < n && status == R2_OK; ++k) {
        const r2__slice piece = r2__slice_of(text[k].data, text[k].len);
        status = text[k].failed ? R2_NO_MEMORY : r2__join_path(ctx, path, directory, name[k]);
        if (status == R2_OK) status = r2__write_aside(ctx, path, &piece, 1);
        n_aside += status == R2_OK;
    }
    if (status == R2_OK && is_run) {
        status = r2__save_digests(ctx, directory, name, text, n);
        counts = status == R2_OK;
    }
    for (int k = 0; k < n_aside; ++k) {
        snprintf(path, sizeof path, "%s/%s", directory, name[k]);
        if (status == R2_OK) status = r2__into_place(ctx, path);
        if (status != R2_OK && !counts) r2__drop_aside(ctx, path);
    }
    for (int k = 0; k < n; ++k) r2_text_free(ctx, &text[k]);
    return status;
}

/* ---- lines of a file, read in large pieces ---- */

#define R2__LINE_MAX (4u << 20) /* longer lines are refused: the file is not what it seems */

/*  buffer  | used | the line | read ahead ..... | free |
                   begin      next              end    cap  */
typedef struct r2__lines {
    FILE *file;
    const char *path;
    int64_t number; /* of the current line, from 1 */
    char *buffer;
    size_t cap, next, end;
    bool eof, has_nul; /* has_nul: anywhere in the bytes that were read last */
} r2__lines;

/* Opens a file, "-" for standard input. Close it in any case. */
static r2_status r2__lines_open(r2_ctx *ctx, r2__lines *lines, const char *path) {
    memset(lines, 0, sizeof *lines);
    lines->path = path;
    if (r2__open(ctx, path, &lines->file) != R2_OK) return ctx->status;
    lines->cap = 1u << 20;
    lines->buffer = (char *)r2_resize(ctx, NULL, lines->cap, 1);
    return lines->buffer ? R2_OK : ctx->status;
}

static void r2__lines_close(r2_ctx *ctx, r2__lines *lines) {
    if (lines->file) r2__file_close(ctx, lines->file, lines->path);
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

/* Moves the rest to the front and reads on. */
static r2_status r2__lines_fill(r2_ctx *ctx, r2__lines *lines) {
    size_t left = lines->end - lines->next, got;
    memmove(lines->buffer, lines->buffer + lines->next, left);
    lines->next = 0;
    lines->end = left;
    if (left == lines->cap) {
        if (lines->cap >= R2__LINE_MAX)
            return r2_fail(ctx, R2_FORMAT, "%s:%lld: expected a line, found more than %u bytes",
                           lines->path, (long long)lines->number + 1, R2__LINE_MAX);
        char *larger = (char *)r2_resize(ctx, lines->buffer, lines->cap * 2, 1);
        if (!larger) return ctx->status;
        lines->buffer = larger;
        lines->cap *= 2;
    }
    r2_status status = r2__file_read(ctx, lines->file, lines->path, lines->buffer + lines->end,
                                     lines->cap - lines->end, &got);
    lines->end += got;
    lines->eof = got == 0;
    lines->has_nul = memchr(lines->buffer, '\0', lines->end) != NULL;
    return status;
}

/* The next line without its end (LF or CRLF; the last one may have none); line->at is NULL at the
   end of the file. A byte order mark before the first line is skipped. */
static r2_status r2__lines_next(r2_ctx *ctx, r2__lines *lines, r2__slice *line) {
    const char *start = lines->buffer + lines->next, *stop;
    size_t have = lines->end - lines->next;
    stop = (const char *)memchr(start, '\n', have);
    while (!stop && !lines->eof) {
        size_t searched = have;
        if (r2__lines_fill(ctx, lines) != R2_OK) return ctx->status;
        start = lines->buffer;
        have = lines->end;
        stop = (const char *)memchr(start + searched, '\n', have - searched);
    }
    line->at = have ? start : NULL;
    line->len = stop ? (size_t)(stop - start) : have;
    lines->next += line->len + (stop ? 1 : 0);
    if (!have) return R2_OK;
    lines->number++;
    if (lines->number == 1) r2__take_text(line, "\xEF\xBB\xBF");
    if (line->len && line->at[line->len - 1] == '\r') line->len--;
    if (lines->has_nul && memchr(line->at, '\0', line->len))
        return r2__bad_line(ctx, lines, "text", r2__slice_text("a NUL byte"));
    return R2_OK;
}

/* ---- random numbers ---- */

/* 64-bit FNV-1a. */
static uint64_t r2__fnv_on(uint64_t hash, const void *bytes, size_t len) {
    const unsigned char *at = (const unsigned char *)bytes;
    for (size_t i = 0; i < len; ++i) hash = (hash ^ at[i]) * 0x100000001B3u;
    return hash;
}

static uint64_t r2__fnv(const char *text, size_t len) {
    return r2__fnv_on(0xCBF29CE484222325u, text, len);
}

void r2_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]) {
    uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]}, k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c[0], p1 = (uint64_t)0xCD9E8D57u * c[2];
        c[0] = (uint32_t)(p1 >> 32) ^ c[1] ^ k0;
        c[1] = (uint32_t)p1;
        c[2] = (uint32_t)(p0 >> 32) ^ c[3] ^ k1;
        c[3] = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    memcpy(out, c, sizeof c);
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
    if (n <= UINT32_MAX) { /* multiply-shift: the high word of x * n, without biased low words */
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
    const uint32_t apart = 0x68617368u; /* from every r2_rng of the same seed */
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32) ^ apart};
    const uint32_t counter[4] = {(uint32_t)a, (uint32_t)(a >> 32), (uint32_t)b,
                                 (uint32_t)(b >> 32)};
    uint32_t out[4];
    r2_philox(counter, key, out);
    return (uint64_t)out[0] << 32 | out[1];
}

/* ---- threads and time ---- */

static r2__range r2__share(int64_t n, int64_t unit, int64_t t, int64_t parts) {
    int64_t units = (n + unit - 1) / unit;
    r2__range range;
    range.begin = units * t / parts * unit;
    range.end = units * (t + 1) / parts * unit;
    if (range.end > n) range.end = n;
    if (range.begin > n) range.begin = n;
    return range;
}

/* At most R2_MOST_THREADS: where the system has no more threads, OpenMP ends the process. */
static int r2__n_threads(const r2_ctx *ctx) {
    const int n = ctx->n_threads;
    return n < 1 ? 1 : n > R2_MOST_THREADS ? R2_MOST_THREADS : n;
}

int r2_threads(const r2_ctx *ctx, int64_t work) {
    const int64_t worth_waking = 20000; /* about 10 us: what a parallel region costs */
    return work < worth_waking ? 1 : r2__n_threads(ctx);
}

int r2_thread(void) {
#if defined(_OPENMP)
    return omp_get_thread_num();
#else
    return 0;
#endif
}

double r2_seconds(void) {
#if defined(_OPENMP)
    return omp_get_wtime();
#elif defined(TIME_UTC)
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#else /* Windows without UCRT, whose clock() is that of the wall */
    return (double)clock() / CLOCKS_PER_SEC;
#endif
}

/* ---- what callers pass: settings, questions, batches, examples ---- */

static r2_status r2__check_draw(r2_ctx *ctx, const r2_draw_config *c) {
    const r2__bound bound[] = {
        R2__BOUND(c, n_groups, 1.0, R2__MOST), R2__BOUND(c, n_sampled, 0.0, R2__MOST),
        R2__BOUND(c, min_history, 0.0, R2__MOST), R2__BOUND(c, min_train, 0.0, R2__MOST)};
    return r2__check_bounds(ctx, "training questions", bound, 4, NULL);
}

static r2_status r2__check_chain_config(r2_ctx *ctx, const r2_chain_config *config) {
    if (config->k < 0)
        return r2_fail(ctx, R2_ARGUMENT, "chains: k = %lld, expected k >= 0", (long long)config->k);
    if ((int)config->law < 0 || (int)config->law > R2_CHAINS_UNIFORM_USERS)
        return r2_fail(ctx, R2_ARGUMENT, "chains: law = %d, expected 0 to %d", (int)config->law,
                       (int)R2_CHAINS_UNIFORM_USERS);
    return R2_OK;
}

/* `no_item`: R2_NO_ITEM is allowed. */
static r2_status r2__check_question(r2_ctx *ctx, const r2_graph *g, const r2_question *q,
                                    bool no_item) {
    if ((int64_t)q->user >= g->n_users)
        return r2_fail(ctx, R2_ARGUMENT, "question: user = %u, expected user < %lld",
                       (unsigned)q->user, (long long)g->n_users);
    if ((int64_t)q->item >= g->n_items && !(no_item && q->item == R2_NO_ITEM))
        return r2_fail(ctx, R2_ARGUMENT, "question: item = %u, expected item < %lld",
                       (unsigned)q->item, (long long)g->n_items);
    int64_t degree = r2_graph_user_degree(g, q->user);
    if (q->n_history < 0 || q->n_history > degree)
        return r2_fail(ctx, R2_ARGUMENT,
                       "question: n_history = %d, expected 0 to %lld, the interactions of user %u",
                       (int)q->n_history, (long long)degree, (unsigned)q->user);
    if (q->step < 0 || q->step > 4)
        return r2_fail(ctx, R2_ARGUMENT, "question: step = %d, expected 0 to 4", (int)q->step);
    if (q->future < 0 || q->future > g->n_edges)
        return r2_fail(ctx, R2_ARGUMENT, "question: future = %lld, expected 0 to %lld, the edges",
                       (long long)q->future, (long long)g->n_edges);
    if (r2__asks_step(q) && ((int64_t)q->other_user >= g->n_users || q->other_user == q->user ||
                             (int64_t)q->other_item >= g->n_items || q->other_item == q->item))
        return r2_fail(ctx, R2_ARGUMENT,
                       "question: other_user = %u, other_item = %u, expected "
                       "another user and another item of the graph",
                       (unsigned)q->other_user, (unsigned)q->other_item);
    return R2_OK;
}

static r2_status r2__check_prompt(r2_ctx *ctx, const r2_prompt_config *config,
                                  const r2_evidence *evidence) {
    const int32_t step = r2__step(evidence);
    if (config->schedule >= R2_N_SCHEDULES)
        return r2_fail(ctx, R2_ARGUMENT, "prompt: schedule = %d, expected 0 .. %d",
                       (int)config->schedule, R2_N_SCHEDULES - 1);
    if (config->words >= R2_N_WORDS)
        return r2_fail(ctx, R2_ARGUMENT, "prompt: words = %d, expected 0 .. %d", (int)config->words,
                       R2_N_WORDS - 1);
    if (step > R2_STEP_ASK || step < r2_schedule_first_step(config->schedule))
        return r2_fail(ctx, R2_ARGUMENT, "prompt: step = %d, but schedule %s has steps %d .. %d",
                       (int)step, r2_schedule_name(config->schedule),
                       (int)r2_schedule_first_step(config->schedule), R2_STEP_ASK);
    if (step < R2_STEP_ASK && evidence->n_chains < 1)
        return r2_fail(ctx, R2_ARGUMENT, "prompt: step %d asks about a chain, found none",
                       (int)step);
    if (config->words == R2_WORDS_COMPACT && !config->codebook)
        return r2_fail(ctx, R2_ARGUMENT, "prompt: codebook is NULL, which compact prompts need");
    if (config->words == R2_WORDS_ENGLISH && !config->data)
        return r2_fail(ctx, R2_ARGUMENT, "prompt: data is NULL, which English prompts need");
    return R2_OK;
}

static r2_status r2__check_model(r2_ctx *ctx, const r2_model_config *c) {
    const struct {
        const char *name;
        int32_t value, most;
    } size[] = {{"n_vocab", c->n_vocab, 1 << 24}, {"n_layer", c->n_layer, 1 << 12},
                {"n_head", c->n_head, 1 << 20},   {"n_kv_head", c->n_kv_head, 1 << 20},
                {"d_model", c->d_model, 1 << 20}, {"d_ff", c->d_ff, 1 << 20},
                {"n_ctx", c->n_ctx, 1 << 24}};
    const r2__bound real[] = {R2__BOUND(c, rope_theta, 1e-30, 1e30),
                              R2__BOUND(c, norm_eps, 1e-30, 1.0), R2__BOUND(c, init_std, 0.0, 1e6)};
    for (size_t k = 0; k < sizeof size / sizeof *size; ++k)
        if (size[k].value < 1 || size[k].value > size[k].most)
            return r2_fail(ctx, R2_ARGUMENT, "model: %s = %d, expected 1 to %d", size[k].name,
                           size[k].value, size[k].most);
    if (c->d_model % c->n_head || c->d_model / c->n_head % 2)
        return r2_fail(ctx, R2_ARGUMENT,
                       "model: d_model = %d, expected n_head = %d times an even number", c->d_model,
                       c->n_head);
    if (c->n_head % c->n_kv_head)
        return r2_fail(ctx, R2_ARGUMENT,
                       "model: n_head = %d, expected a multiple of n_kv_head = %d", c->n_head,
                       c->n_kv_head);
    return r2__check_bounds(ctx, "model", real, 3, NULL);
}

/* Whether the weights may be overwritten: merged ones contain the adapters, which r2_lora_unmerge
   would then subtract from other weights. */
static r2_status r2__check_own_weights(r2_ctx *ctx, const r2_model *model, const char *call) {
    if (!model->lora || !model->lora->merged) return R2_OK;
    return r2_fail(ctx, R2_ARGUMENT, "%s: the adapters are merged: call r2_lora_unmerge first",
                   call);
}

static r2_status r2__check_sequences(r2_ctx *ctx, const r2_model *model, const r2_batch *batch) {
    const int32_t *begin = batch->seq_begin, n_seq = batch->n_seq, V = model->config.n_vocab;
    int64_t shared = 0;
    if (n_seq < 1) return r2_fail(ctx, R2_ARGUMENT, "batch: n_seq = %d, expected >= 1", n_seq);
    if (begin[0] != 0)
        return r2_fail(ctx, R2_ARGUMENT, "batch: seq_begin[0] = %d, expected 0", begin[0]);
    if (batch->branch && batch->branch[0])
        return r2_fail(ctx, R2_ARGUMENT, "batch: branch[0] is true, but nothing precedes it");
    for (int32_t s = 0; s < n_seq; ++s) {
        const bool branch = batch->branch && batch->branch[s];
        const int64_t own = (int64_t)begin[s + 1] - begin[s], before = branch ? shared : 0;
        if (own < 1 || own + before > model->config.n_ctx)
            return r2_fail(ctx, R2_ARGUMENT,
                           "batch: sequence %d has %lld tokens after %lld, expected 1 to %d in all",
                           s, (long long)own, (long long)before, model->config.n_ctx);
        if (!branch) shared = own;
    }
    for (int32_t r = 0; r < begin[n_seq]; ++r)
        if (batch->token[r] < 0 || batch->token[r] >= V)
            return r2_fail(ctx, R2_ARGUMENT, "batch: token[%d] = %d, expected 0 to %d", r,
                           batch->token[r], V - 1);
    return R2_OK;
}

static r2_status r2__check_predictions(r2_ctx *ctx, const r2_model *model, const r2_batch *batch) {
    const int32_t R = batch->seq_begin[batch->n_seq], V = model->config.n_vocab;
    int32_t row = 0;
    for (int32_t j = 0; j < batch->n_pred; ++j) {
        if (batch->pred_row[j] < row || batch->pred_row[j] >= R)
            return r2_fail(ctx, R2_ARGUMENT,
                           "batch: pred_row[%d] = %d, expected %d (it ascends) to %d", j,
                           batch->pred_row[j], row, R - 1);
        if (batch->pred_token[j] < 0 || batch->pred_token[j] >= V)
            return r2_fail(ctx, R2_ARGUMENT, "batch: pred_token[%d] = %d, expected 0 to %d", j,
                           batch->pred_token[j], V - 1);
        row = batch->pred_row[j];
    }
    return R2_OK;
}

static r2_status r2__check_generate(r2_ctx *ctx, const r2_model *model, const r2_generate_config *c,
                                    int64_t n_prompt, const int64_t *begin, const int32_t *token) {
    const int32_t V = model->config.n_vocab;
    if (c->n_samples < 1)
        return r2_fail(ctx, R2_ARGUMENT, "generate: n_samples = %d, expected >= 1", c->n_samples);
    if (c->max_new < 0)
        return r2_fail(ctx, R2_ARGUMENT, "generate: max_new = %d, expected >= 0", c->max_new);
    if (!(c->temperature >= 0.0f))
        return r2_fail(ctx, R2_ARGUMENT, "generate: temperature = %g, expected >= 0",
                       (double)c->temperature);
    if (c->n_stop < 0 || (c->n_stop > 0 && !c->stop))
        return r2_fail(ctx, R2_ARGUMENT, "generate: n_stop = %d, expected as many tokens in stop",
                       c->n_stop);
    if (c->n_watch < 0 || (c->n_watch > 0 && !c->watch))
        return r2_fail(ctx, R2_ARGUMENT, "generate: n_watch = %d, expected as many tokens in watch",
                       c->n_watch);
    for (int32_t j = 0; j < c->n_watch; ++j)
        if (c->watch[j] < 0 || c->watch[j] >= V)
            return r2_fail(ctx, R2_ARGUMENT, "generate: watch[%d] = %d, expected 0 to %d", j,
                           c->watch[j], V - 1);
    for (int64_t p = 0; p < n_prompt; ++p)
        if (begin[p + 1] <= begin[p] || begin[p + 1] - begin[p] + c->max_new > model->config.n_ctx)
            return r2_fail(ctx, R2_ARGUMENT,
                           "generate: prompt %lld has %lld tokens, expected 1 to %d, which leaves "
                           "%d new ones of n_ctx = %d",
                           (long long)p, (long long)(begin[p + 1] - begin[p]),
                           model->config.n_ctx - c->max_new, c->max_new, model->config.n_ctx);
    for (int64_t r = n_prompt > 0 ? begin[0] : 0; n_prompt > 0 && r < begin[n_prompt]; ++r)
        if (token[r] < 0 || token[r] >= V)
            return r2_fail(ctx, R2_ARGUMENT, "generate: token[%lld] = %d, expected 0 to %d",
                           (long long)r, token[r], V - 1);
    return R2_OK;
}

static r2_status r2__check_adamw(r2_ctx *ctx, const char *who, const r2_adamw_config *c,
                                 uint64_t *fingerprint) {
    const r2__bound range[] = {R2__BOUND(c, beta1, 0.0, 0.999999),
                               R2__BOUND(c, beta2, 0.0, 0.999999), R2__BOUND(c, eps, 1e-30, 1.0),
                               R2__BOUND(c, weight_decay, 0.0, 1e6), R2__BOUND(c, clip, 0.0, 1e30)};
    return r2__check_bounds(ctx, who, range, 5, fingerprint);
}

/* Refuses a step whose rows an int32_t could not count. `outputs` of each prompt. */
static r2_status r2__check_step_size(r2_ctx *ctx, const char *who, int32_t groups, int32_t group,
                                     int32_t outputs, int64_t rows_each) {
    if ((double)groups * group * outputs * (double)rows_each < (double)INT32_MAX) return R2_OK;
    return r2_fail(ctx, R2_ARGUMENT,
                   "%s: groups = %d of %d examples with %d outputs of up to %lld tokens, expected "
                   "fewer than 2^31 tokens in a step",
                   who, (int)groups, (int)group, (int)outputs, (long long)rows_each);
}

/* Training needs answers. Reasoned sequences also need a trace of every example: without one, the
   first token after the prompt would teach the direct mode. */
static r2_status r2__check_examples(r2_ctx *ctx, const char *who, const r2_examples *ex,
                                    bool with_traces) {
    if (ex->n < 1) return r2_fail(ctx, R2_ARGUMENT, "%s: no examples", who);
    for (int64_t e = 0; e < ex->n; ++e) {
        if (ex->answer[e] < 0 || ex->answer[e] >= R2_N_ANSWERS)
            return r2_fail(ctx, R2_ARGUMENT, "%s: example %lld has no answer", who, (long long)e);
        if (with_traces && ex->trace_begin[e + 1] == ex->trace_begin[e])
            return r2_fail(ctx, R2_ARGUMENT,
                           "%s: example %lld has no trace, expected one or reasoned_share 0", who,
                           (long long)e);
    }
    return R2_OK;
}

static r2_status r2__check_codec(r2_ctx *ctx, const char *who, const r2_examples *ex) {
    if (ex->codec.check) return R2_OK;
    return r2_fail(ctx, R2_ARGUMENT,
                   "%s: the codec of the examples has check = NULL, expected a checker of outputs",
                   who);
}

/* What can be said of a configuration without the examples. */
static r2_status r2__check_sft_config(r2_ctx *ctx, const r2_sft_config *c, bool validates,
                                      uint64_t *fingerprint) {
    const double least = validates ? 1.0 : 0.0;
    const r2__bound range[] = {
        R2__BOUND(c, n_steps, 0.0, R2__MOST),       R2__BOUND(c, warmup, 0.0, R2__MOST),
        R2__BOUND(c, groups, 1.0, R2__MOST),        R2__BOUND(c, reasoned_share, 0.0, 1.0),
        R2__BOUND(c, trace_weight, 0.0, R2__MOST),  R2__BOUND(c, list_weight, 0.0, R2__MOST),
        R2__BOUND(c, lr, 0.0, (double)FLT_MAX),     R2__BOUND(c, lr_floor, 0.0, 1.0),
        R2__BOUND(c, valid_every, least, R2__MOST), R2__BOUND(c, patience, least, R2__MOST)};
    r2_status status = r2__check_bounds(ctx, "sft", range, 10, fingerprint);
    return status == R2_OK ? r2__check_adamw(ctx, "sft", &c->adamw, fingerprint) : status;
}

static r2_status r2__check_sft(r2_ctx *ctx, const r2_examples *examples, const r2_sft_config *c) {
    r2_status status = r2__check_sft_config(ctx, c, c->valid != NULL, NULL);
    if (status == R2_OK)
        status = r2__check_examples(ctx, "sft", examples, c->reasoned_share > 0.0f);
    if (status != R2_OK || !c->valid) return status;
    return r2__check_examples(ctx, "sft: valid", c->valid, c->reasoned_share > 0.0f);
}

/* What can be said of a configuration without the examples. */
static r2_status r2__check_grpo_config(r2_ctx *ctx, const r2_grpo_config *c,
                                       uint64_t *fingerprint) {
    const r2_reward_config *w = &c->reward;
    const r2__bound range[] = {R2__BOUND(c, variant, R2_GRPO, R2_DAPO),
                               R2__BOUND(c, n_steps, 0.0, R2__MOST),
                               R2__BOUND(c, groups, 1.0, R2__MOST),
                               R2__BOUND(c, n_samples, 1.0, 64.0),
                               R2__BOUND(c, n_updates, 1.0, R2__MOST),
                               R2__BOUND(c, max_new, 1.0, R2__MOST),
                               R2__BOUND(c, temperature, 0.0, 1000.0),
                               R2__BOUND(c, lr, 0.0, (double)FLT_MAX),
                               R2__BOUND(c, eps_low, 0.0, 1.0),
                               R2__BOUND(c, eps_high, 0.0, R2__MOST),
                               R2__BOUND(c, beta, 0.0, R2__MOST),
                               R2__BOUND(c, sft_weight, 0.0, R2__MOST),
                               R2__BOUND(c, list_weight, 0.0, R2__MOST),
                               R2__BOUND(w, w_format, -R2__MOST, R2__MOST),
                               R2__BOUND(w, w_accuracy, -R2__MOST, R2__MOST),
                               R2__BOUND(w, w_rank, -R2__MOST, R2__MOST),
                               R2__BOUND(w, w_faith, -R2__MOST, R2__MOST)};
    r2_status status = r2__check_bounds(ctx, "grpo", range, 17, fingerprint);
    return status == R2_OK ? r2__check_adamw(ctx, "grpo", &c->adamw, fingerprint) : status;
}

static r2_status r2__check_grpo(r2_ctx *ctx, const r2_examples *examples, const r2_grpo_config *c) {
    r2_status status = r2__check_grpo_config(ctx, c, NULL);
    if (status == R2_OK) status = r2__check_examples(ctx, "grpo", examples, false);
    if (status != R2_OK) return status;
    return r2__check_codec(ctx, "grpo", examples);
}

/* Every setting, before anything is loaded or drawn; the run sets three sizes itself. */
static r2_status r2__check_run(r2_ctx *ctx, const r2_run_config *c) {
    const r2__bound range[] = {
        R2__BOUND(c, n_groups, 1.0, R2__MOST),
        R2__BOUND(c, n_sampled, 1.0, R2__MOST),
        R2__BOUND(c, min_history, 0.0, R2__MOST),
        R2__BOUND(c, min_train, 0.0, R2__MOST),
        R2__BOUND(c, n_negatives, 0.0, R2__MOST),
        R2__BOUND(c, n_cases, 0.0, 1e15),
        R2__BOUND(c, step_share, 0.0, 1.0),
        {"n_chains: chains.k", (double)c->chains.k, 0.0, R2_MAX_CHAINS},
        R2__BOUND(c, chains.law, R2_CHAINS_COHERENT, R2_CHAINS_UNIFORM_USERS),
        R2__BOUND(c, teacher.gumbel, 0.0, R2__MOST),
        R2__BOUND(c, split.min_positive, -(double)FLT_MAX, (double)FLT_MAX)};
    r2_model_config model = c->model;
    r2_grpo_config grpo = c->grpo;
    r2_status status = r2__check_bounds(ctx, "run", range, 11, NULL);
    model.n_vocab = model.n_ctx = grpo.max_new = 1;
    if (status == R2_OK) status = r2__check_model(ctx, &model);
    if (status == R2_OK) status = r2__check_sft_config(ctx, &c->sft, c->sft.valid_every > 0, NULL);
    return status == R2_OK ? r2__check_grpo_config(ctx, &grpo, NULL) : status;
}

/* ============================================================================ [E2] loaders ====

   In:   files of any format that r2_data_load knows.
   Out:  r2_data.

       r2__lines     pieces of 1 MB   -> one line                                    ([E1])
       r2__table     a line           -> its fields; or cJSON -> the values of its keys
       r2__source    fields by name   -> user, item, rating, time
       r2__loader    ids as text      -> numbers 0, 1, 2, ... in order of appearance
                     rows             -> two counting sorts -> r2_data

   A layer knows only the one above it. A field is a slice of the line's own bytes, valid until the
   next line is read; the first copy is the key of a new user or item.

   The line  7,30,4.5,1000000003  is 20 bytes in the file, a row of 16 bytes in the loader (two
   numbers, rating, seconds after the first row) and 12 in r2_data, whose rows are sorted by user.
   At the peak both exist: about 32 bytes per row. (test_data.c: memory_of_an_interaction) */

/* ---- fields of a line ---- */

#define R2__FIELDS_MAX 64

/* `text` without the blanks around it. */
static r2__slice r2__trim(r2__slice text) {
    while (text.len && text.at[0] == ' ') r2__drop(&text, 1);
    while (text.len && text.at[text.len - 1] == ' ') --text.len;
    return text;
}

/* A table: one record a line, fields between separators. */
typedef struct r2__table {
    r2__lines lines;
    const char *separator; /* one or two characters */
    bool quoted;           /* a field may stand in double quotes, "" inside means one */
    bool backslashes;      /* and \" means one too                                    */
    int n_fields;          /* every line has as many as the first; 0 before it        */
    r2__slice field[R2__FIELDS_MAX];
    char *plain; /* (plain_cap) the current line's fields with "" inside, without their quotes */
    size_t n_plain, plain_cap;
} r2__table;

/* Takes the quotes off the field that begins at `at`; returns the end of the field, or NULL if the
   closing quote is missing. The line stays unchanged, for messages: a field with quotes inside is
   copied to table->plain. */
static const char *r2__unquote(r2__table *table, const char *at, const char *end,
                               r2__slice *field) {
    const char *begin = ++at;
    char *to;
    size_t n_doubled = 0;
    for (; at < end; ++at) {
        const bool pair = at + 1 < end && at[1] == '"';
        if (*at == '"' && !pair) break;
        if (!pair || (*at != '"' && !(*at == '\\' && table->backslashes))) continue;
        ++at;
        ++n_doubled;
    }
    if (at >= end) return NULL;
    *field = r2__slice_of(begin, (size_t)(at - begin));
    if (n_doubled == 0) return at + 1;
    field->at = to = table->plain + table->n_plain;
    for (const char *from = begin; from < at; ++from) {
        from += *from == '"' || (*from == '\\' && table->backslashes && from[1] == '"');
        *to++ = *from;
    }
    field->len -= n_doubled;
    table->n_plain += field->len;
    return at + 1;
}

/* Is there a separator at `at` < end? `second` is 0 if it has one character. */
static bool r2__separates(char first, char second, const char *at, const char *end) {
    return *at == first && (!second || (at + 1 < end && at[1] == second));
}

/* Cuts `line` into table->field -> the number of fields; -1: too many, or a quote stays open. */
static int r2__cut(r2__table *table, r2__slice line) {
    const char first = table->separator[0], second = table->separator[1];
    const bool blanks = first == ' ' && !second;
    const r2__slice inner = blanks ? r2__trim(line) : line;
    const char *at = inner.at, *end = inner.at + inner.len;
    for (int n = 0; n < R2__FIELDS_MAX; ++n) {
        r2__slice *field = &table->field[n];
        if (table->quoted && at < end && *at == '"') {
            at = r2__unquote(table, at, end, field);
            if (!at || (at < end && !r2__separates(first, second, at, end))) return -1;
        } else {
            field->at = at;
            while (at < end && !r2__separates(first, second, at, end)) ++at;
            field->len = (size_t)(at - field->at);
        }
        if (at == end) return n + 1;
        at += second ? 2 : 1;
        while (blanks && *at == ' ') ++at;
    }
    return -1;
}

/* The separator of a line: "::", else a tab, else the most frequent of , ; and |, else a blank. */
static const char *r2__find_separator(r2__slice line) {
    static const char *const one[3] = {",", ";", "|"};
    int count[3] = {0, 0, 0}, most = 0;
    for (size_t k = 0; k < line.len; ++k) {
        if (line.at[k] == ':' && k + 1 < line.len && line.at[k + 1] == ':') return "::";
        for (int c = 0; c < 3; ++c) count[c] += line.at[k] == one[c][0];
    }
    if (memchr(line.at, '\t', line.len)) return "\t";
    for (int c = 1; c < 3; ++c) most = count[c] > count[most] ? c : most;
    return count[most] ? one[most] : " ";
}

/* Empties table->plain and makes room for the fields of a line. */
static r2_status r2__table_room(r2_ctx *ctx, r2__table *table, size_t len) {
    table->n_plain = 0;
    if (len <= table->plain_cap) return R2_OK;
    char *plain = (char *)r2_resize(ctx, table->plain, 2 * len, 1);
    if (!plain) return ctx->status;
    table->plain = plain;
    table->plain_cap = 2 * len;
    return R2_OK;
}

static const char *r2__separator_name(const char *separator) {
    return *separator == ' ' ? "a blank" : *separator == '\t' ? "a tab" : separator;
}

/* The error of a line of another length. Some copies begin with lines of another separator. */
static r2_status r2__other_fields(r2_ctx *ctx, r2__table *table, r2__slice line, int n) {
    const char *first = table->separator, *own = r2__find_separator(line);
    char expected[96];
    table->separator = own;
    if (strcmp(own, first) && r2__cut(table, line) == table->n_fields)
        snprintf(expected, sizeof expected, "the separator of the first line, %s, not %s",
                 r2__separator_name(first), r2__separator_name(own));
    else snprintf(expected, sizeof expected, "%d fields as before, not %d", table->n_fields, n);
    return r2__bad_line(ctx, &table->lines, expected, line);
}

/* As r2__cut; every line must have as many fields as the first. A line with \" in it, which ends a
   field nowhere, is read with \" as a quote. */
static r2_status r2__table_cut(r2_ctx *ctx, r2__table *table, r2__slice line) {
    if (table->quoted && r2__table_room(ctx, table, line.len) != R2_OK) return ctx->status;
    int n = r2__cut(table, line);
    if (table->quoted && (n < 0 || (table->n_fields && n != table->n_fields))) {
        table->n_plain = 0;
        table->backslashes = true;
        n = r2__cut(table, line);
        table->backslashes = false;
    }
    if (n < 0) return r2__bad_line(ctx, &table->lines, "closed quotes and <= 64 fields", line);
    if (table->n_fields == 0) table->n_fields = n;
    return n == table->n_fields ? R2_OK : r2__other_fields(ctx, table, line, n);
}

/* 10^n, exact up to n = 22. pow for every n would take a tenth of the time of loading. */
static double r2__ten_to(int n) {
    static const double power[8] = {1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7};
    return n < 8 ? power[n] : pow(10.0, n);
}

/* A decimal number: sign, digits, fraction, exponent, with blanks around it (some copies of
   MovieLens have them). Correctly rounded up to 15 digits, in every locale. */
static bool r2__number(r2__slice text, double *value) {
    const r2__slice trimmed = r2__trim(text);
    const char *at = trimmed.at, *end = trimmed.at + trimmed.len;
    const bool negative = at < end && *at == '-';
    bool any = false, fraction = false;
    uint64_t digits = 0;
    int scale = 0, exponent = 0;
    if (at < end && (*at == '-' || *at == '+')) ++at;
    for (; at < end && ((*at >= '0' && *at <= '9') || (*at == '.' && !fraction)); ++at) {
        fraction = fraction || *at == '.';
        if (*at == '.') continue;
        any = true;
        if (digits < 100000000000000000u)
            digits = digits * 10 + (unsigned)(*at - '0'), scale -= fraction;
        else scale += !fraction; /* 18 digits are enough */
    }
    if (any && at < end && (*at == 'e' || *at == 'E')) {
        bool down = at + 1 < end && at[1] == '-';
        at += at + 1 < end && (at[1] == '-' || at[1] == '+') ? 2 : 1;
        for (any = false; at < end && *at >= '0' && *at <= '9'; ++at, any = true)
            exponent = exponent < 1000 ? exponent * 10 + (*at - '0') : exponent;
        scale += down ? -exponent : exponent;
    }
    *value = (double)digits;
    if (scale < 0) *value /= r2__ten_to(-scale);
    if (scale > 0) *value *= r2__ten_to(scale);
    if (negative) *value = -*value;
    return any && at == end && isfinite(*value);
}

/* Takes exactly `n` digits off the front of `text`: a number in [low, high] -> *value. */
static bool r2__take_digits(r2__slice *text, int n, int low, int high, int *value) {
    *value = 0;
    for (int k = 0; k < n; ++k, ++text->at, --text->len) {
        if (!text->len || *text->at < '0' || *text->at > '9') return false;
        *value = *value * 10 + (*text->at - '0');
    }
    return *value >= low && *value <= high;
}

/* The days from 1970 to a date of the Gregorian calendar; false: there is no such day. */
static bool r2__days(int year, int month, int day, int *days) {
    static const int before[13] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    const int y = year - 1;
    *days = y * 365 + y / 4 - y / 100 + y / 400 - 719162 + before[month - 1] + day - 1;
    *days += leap && month > 2;
    return day <= before[month] - before[month - 1] + (leap && month == 2);
}

/* The zone at the end of a date, Z or UTC or +02:00, nothing for UTC -> *seconds east of it. */
static bool r2__take_zone(r2__slice text, int *seconds) {
    int hours, minutes = 0;
    *seconds = 0;
    text = r2__trim(text);
    if (!text.len || r2__is(text, "Z") || r2__is(text, "UTC")) return true;
    const bool west = *text.at == '-';
    if (!r2__take_char(&text, "+-") || !r2__take_digits(&text, 2, 0, 15, &hours)) return false;
    r2__take_char(&text, ":");
    if (text.len && !r2__take_digits(&text, 2, 0, 59, &minutes)) return false;
    *seconds = (hours * 3600 + minutes * 60) * (west ? -1 : 1);
    return text.len == 0;
}

/* A date of ISO 8601, with or without time of day and zone -> Unix seconds. */
static bool r2__date(r2__slice text, double *seconds) {
    int year, month, day, days, hour = 0, minute = 0, second = 0, east;
    text = r2__trim(text);
    if (!r2__take_digits(&text, 4, 1, 9999, &year) || !r2__take_char(&text, "-") ||
        !r2__take_digits(&text, 2, 1, 12, &month) || !r2__take_char(&text, "-") ||
        !r2__take_digits(&text, 2, 1, 31, &day) || !r2__days(year, month, day, &days))
        return false;
    if (r2__take_char(&text, "T ")) {
        if (!r2__take_digits(&text, 2, 0, 23, &hour) || !r2__take_char(&text, ":") ||
            !r2__take_digits(&text, 2, 0, 59, &minute))
            return false;
        if (r2__take_char(&text, ":") && !r2__take_digits(&text, 2, 0, 59, &second)) return false;
        if (r2__take_char(&text, ".")) r2__take_all(&text, "0123456789");
    }
    if (!r2__take_zone(text, &east)) return false;
    *seconds = 86400.0 * days + (hour * 3600 + minute * 60 + second - east);
    return true;
}

/* ---- records: up to four wanted fields of a line, in any format ---- */

#define R2__WANTED 4

/* Usual names of the wanted columns in lower case without _ - and blanks, preferred ones first. */
static const char *const r2__rating_names[R2__WANTED] = {
    "userid user uid reviewerid customerid profileid memberid visitorid sessionid",
    "parentasin itemid item movieid iid asin isbn productid bookid businessid animeid trackid "
    "artistid gameid appid songid recipeid beerid filmid videoid newsid articleid placeid venueid",
    "rating overall stars starrating score bookrating userrating reviewrating reviewscore "
    "reviewoverall watchratio weight feedback hours playcount plays",
    "timestamp time unixreviewtime unixtime ts datetime date reviewdate reviewtime createdat"};
static const char *const r2__item_names[R2__WANTED] = {
    "parentasin itemid item movieid iid asin isbn productid bookid businessid animeid trackid "
    "artistid gameid appid songid recipeid beerid filmid videoid newsid articleid placeid venueid "
    "id",
    "title movietitle itemname booktitle name", "genres genre class categories category",
    "releaseyear year yearofpublication"};

/* A file of records, a table or JSON Lines, of which only the wanted fields are read. */
typedef struct r2__source {
    r2__table table;
    const char *const *names;
    const char *prefer;          /* this name comes before those of the items, or NULL   */
    bool json, pending;          /* pending: the first line is a record, not yet given   */
    bool worded;                 /* of the first record: neither user nor item is a number */
    bool twice;                  /* two columns have one name                            */
    bool is_list;                /* JSON: the genres of the current record were a list   */
    bool none[R2__WANTED];       /* the caller said that there is no such column         */
    const char *not_rated;       /* see r2_format                                        */
    int64_t first;               /* line of the first record or the names                */
    int column[R2__WANTED];      /* of the wanted fields; -1: there is none              */
    char key[R2__WANTED][64];    /* JSON: their keys                                     */
    r2__slice field[R2__WANTED]; /* of the current record                                */
    r2_text text[R2__WANTED];    /* JSON: their text                                     */
    double number[R2__WANTED];   /* JSON: their numbers; NAN: text                       */
} r2__source;

static r2_status r2__bad_record(r2_ctx *ctx, const r2__source *source, const char *expected,
                                r2__slice found) {
    return r2__bad_line(ctx, &source->table.lines, expected, found);
}

/* The error that a wanted column or key is not in `line`. */
static r2_status r2__lacks(r2_ctx *ctx, const r2__source *source, const char *name,
                           r2__slice line) {
    char expected[96];
    snprintf(expected, sizeof expected, "the %s \"%.64s\"", source->json ? "key" : "column", name);
    return r2__bad_record(ctx, source, expected, line);
}

/* `name` in lower case without _ - and blanks, and without the type after a colon. */
static void r2__plain_name(char *plain, size_t size, r2__slice name) {
    size_t n = 0;
    for (size_t k = 0; k < name.len && name.at[k] != ':' && n + 1 < size; ++k) {
        const char c = name.at[k];
        if (c == '_' || c == '-' || c == ' ') continue;
        plain[n++] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    plain[n] = '\0';
}

/* Place of a column name in a list of usual names, from 0, or -1: "user_id:token" is "userid". */
static int r2__name_place(const char *list, r2__slice name) {
    char plain[64];
    r2__plain_name(plain, sizeof plain, name);
    return *plain ? r2__place_of(plain, list) : -1;
}

/* The number of a column, from 1, that the caller gave; 0: a name or nothing. */
static int r2__wished_number(const char *const wish[R2__WANTED], int w) {
    int number = 0;
    for (const char *at = wish && wish[w] ? wish[w] : ""; *at; ++at) {
        if (*at < '0' || *at > '9' || number > R2__FIELDS_MAX) return 0;
        number = number * 10 + (*at - '0');
    }
    return number;
}

/* Considers column or key `number`, from 0, for each wanted field: it is taken if its name comes
   before the best name so far (best[w], -1: none). */
static void r2__source_column(r2__source *source, const char *const wish[R2__WANTED],
                              int best[R2__WANTED], r2__slice name, int number) {
    for (int w = 0; w < R2__WANTED; ++w) {
        int place = r2__name_place(source->names[w], name);
        if (w == 0 && source->prefer && r2__name_place(source->prefer, name) == 0) place = 0;
        else if (w == 0 && source->prefer && place >= 0) ++place;
        if (source->none[w]) continue;
        if (wish && wish[w] && (source->json || !r2__wished_number(wish, w))) {
            place = r2__is(name, wish[w]) ? 0 : -1;
        }
        if (place >= 0 && best[w] == place && !r2__wished_number(wish, w)) source->twice = true;
        if (place < 0 || (best[w] >= 0 && best[w] <= place)) continue;
        best[w] = place;
        source->column[w] = number;
        snprintf(source->key[w], sizeof source->key[w], "%.*s", name.len < 63 ? (int)name.len : 63,
                 name.at);
    }
}

/* No column may be two things, and a file whose rating has an unknown name is not one without. */
static r2_status r2__source_check(r2_ctx *ctx, const r2__source *source, r2__slice line) {
    static const char *const what[R2__WANTED] = {"user", "item", "rating", "time"};
    char expected[96];
    int n_used = 0;
    for (int w = 0; w < R2__WANTED; ++w) {
        n_used += source->column[w] >= 0;
        for (int v = 0; v < w && source->names == r2__rating_names; ++v) {
            if (source->column[w] < 0 || source->column[w] != source->column[v]) continue;
            snprintf(expected, sizeof expected, "different columns for %s and %s, not %d for both",
                     what[v], what[w], source->column[w] + 1);
            return r2__bad_line(ctx, &source->table.lines, expected, line);
        }
    }
    if (source->names != r2__rating_names || source->column[2] >= 0 || source->none[2] ||
        n_used == source->table.n_fields)
        return R2_OK;
    return r2__bad_line(ctx, &source->table.lines,
                        "a column named rating, or one given as the rating, \"-\" for none", line);
}

/* The text of a JSON value; numbers that are ids must be exact, lists become a|b|c. */
static r2_status r2__json_text(r2_ctx *ctx, r2__source *source, int w, const cJSON *value) {
    const bool id = w == 0 || (w == 1 && source->names == r2__rating_names);
    const double number = value->valuedouble;
    r2_text *text = &source->text[w];
    r2_text_clear(text);
    r2_text_add(ctx, text, "", 0);
    source->number[w] = NAN;
    if (cJSON_IsString(value)) {
        r2_text_add(ctx, text, value->valuestring, strlen(value->valuestring));
    } else if (cJSON_IsNumber(value)) {
        if (id && (floor(number) != number || fabs(number) >= 0x1p53))
            return r2__bad_record(ctx, source, "an id as text or below 2^53",
                                  r2__slice_text("a number"));
        source->number[w] = number;
        if (floor(number) == number) r2_text_addf(ctx, text, "%.0f", number);
        else r2__text_number(ctx, text, number, 17);
    } else if (cJSON_IsArray(value) && !id) {
        source->is_list = true;
        for (const cJSON *part = value->child; part; part = part->next)
            if (cJSON_IsString(part))
                r2_text_addf(ctx, text, "%s%s", text->len ? "|" : "", part->valuestring);
    } else if (id || source->names == r2__rating_names) {
        return r2__bad_record(ctx, source, "text or a number", r2__slice_text(source->key[w]));
    }
    source->field[w] = r2__slice_of(text->data, text->len);
    return text->failed ? ctx->status : R2_OK;
}

/* Cuts the text of one string or value off the front of `rest`, which then begins with the : , or }
   behind it. False: it does not end. */
static bool r2__json_skip(r2__slice *rest, r2__slice *text) {
    const char *begin = rest->at, *at = begin, *end = begin + rest->len;
    int64_t depth = 0;
    bool inside = false; /* of a string */
    for (; at < end; ++at) {
        if (inside) {
            inside = *at != '"';
            at += *at == '\\' && at + 1 < end;
            continue;
        }
        inside = *at == '"';
        if (depth == 0 && strchr(":,}", *at)) break;
        depth += strchr("[{", *at) ? 1 : strchr("]}", *at) ? -1 : 0;
    }
    if (at >= end) return false;
    while (begin < at && strchr(" \t", *begin)) ++begin;
    *rest = r2__slice_of(at, (size_t)(end - at));
    while (at > begin && strchr(" \t", at[-1])) --at;
    *text = r2__slice_of(begin, (size_t)(at - begin));
    return at > begin;
}

/* The next key, with its quotes, and its value; `rest` begins behind the brace of an object or
   behind the last value. False: at the end; `rest` is then "}", or the object is none. A value that
   nobody asks for may hold what JSON does not allow: NaN, half a surrogate pair. */
static bool r2__json_next(r2__slice *rest, r2__slice *key, r2__slice *value) {
    r2__take_all(rest, " \t,");
    if (rest->len && *rest->at == '}') return false;
    if (r2__json_skip(rest, key) && key->len >= 2 && *key->at == '"' && *rest->at == ':') {
        r2__drop(rest, 1);
        if (r2__json_skip(rest, value) && *rest->at != ':') return true;
    }
    rest->len = 0;
    return false;
}

/* Takes the quotes off a key; one with escapes is kept in *held, which the caller deletes. */
static r2_status r2__json_key(r2_ctx *ctx, r2__slice *key, cJSON **held) {
    r2_status status = R2_FORMAT;
    *held = NULL;
    if (memchr(key->at, '\\', key->len)) status = r2__json_parse(ctx, *key, false, held);
    *key = *held ? r2__slice_of((*held)->valuestring, strlen((*held)->valuestring))
                 : r2__slice_of(key->at + 1, key->len - 2);
    return status == R2_NO_MEMORY ? status : R2_OK;
}

/* What follows the brace of an object; empty if the line is none. */
static r2__slice r2__json_inside(r2__slice line) {
    while (line.len && strchr(" \t", line.at[line.len - 1])) --line.len;
    return line.len && *line.at == '{' ? r2__slice_of(line.at + 1, line.len - 1)
                                       : r2__slice_of(line.at, 0);
}

/* Takes over the value of key `w`. */
static r2_status r2__json_value(r2_ctx *ctx, r2__source *source, int w, r2__slice text) {
    cJSON *value;
    r2_status status = r2__json_parse(ctx, text, false, &value);
    if (status == R2_OK) status = r2__json_text(ctx, source, w, value);
    cJSON_Delete(value);
    if (!value && status == R2_FORMAT) {
        char expected[128];
        snprintf(expected, sizeof expected, "%s at the key \"%s\"", r2__json_fault(text, false),
                 source->key[w]);
        r2__bad_line(ctx, &source->table.lines, expected, text);
    }
    return status;
}

/* A key of one record: its value, if it is wanted. A rating or time that the first record lacks is
   an error of that record; titles, genres and years may be missing anywhere. */
static r2_status r2__json_field(r2_ctx *ctx, r2__source *source, r2__slice key, r2__slice value,
                                int n_found[R2__WANTED]) {
    const r2__lines *lines = &source->table.lines;
    r2_status status = R2_OK;
    for (int w = 0; w < R2__WANTED && status == R2_OK; ++w) {
        if (source->column[w] < 0 && !source->none[w] &&
            r2__name_place(source->names[w], key) >= 0) {
            if (source->names == r2__rating_names)
                return r2_fail(ctx, R2_FORMAT,
                               "%s:%lld: expected the key \"%.*s\" as in line %lld, found none",
                               lines->path, (long long)source->first, (int)key.len, key.at,
                               (long long)lines->number);
            source->column[w] = source->table.n_fields++;
            snprintf(source->key[w], sizeof source->key[w], "%.*s", (int)key.len, key.at);
        }
        if (source->column[w] < 0 || !r2__is(key, source->key[w])) continue;
        if (n_found[w]++) status = r2__bad_line(ctx, lines, "each key once", key);
        else status = r2__json_value(ctx, source, w, value);
    }
    return status;
}

/* Finds the wanted keys of the first record. */
static r2_status r2__json_columns(r2_ctx *ctx, r2__source *source, r2__slice line,
                                  const char *const wish[R2__WANTED]) {
    int best[R2__WANTED] = {-1, -1, -1, -1}, n = 0;
    r2__slice rest = r2__json_inside(line), key, value;
    cJSON *held;
    for (; r2__json_next(&rest, &key, &value); ++n) {
        if (r2__json_key(ctx, &key, &held) != R2_OK) return ctx->status;
        r2__source_column(source, wish, best, key, n);
        cJSON_Delete(held);
    }
    if (rest.len != 1) return r2__bad_line(ctx, &source->table.lines, "a JSON object", line);
    for (int w = 0; w < R2__WANTED && wish; ++w)
        if (wish[w] && !source->none[w] && source->column[w] < 0)
            return r2__lacks(ctx, source, wish[w], line);
    source->table.n_fields = n;
    if (source->column[0] >= 0 && (source->column[1] >= 0 || source->names == r2__item_names))
        return R2_OK;
    const bool items = source->names == r2__item_names;
    return r2__bad_record(
        ctx, source, items ? "a key that names the item" : "keys that name user and item", line);
}

/* One JSON object -> the wanted fields. */
static r2_status r2__json_record(r2_ctx *ctx, r2__source *source, r2__slice line) {
    int n_found[R2__WANTED] = {0, 0, 0, 0};
    r2__slice rest = r2__json_inside(line), key, value;
    r2_status status = R2_OK;
    cJSON *held;
    for (int w = 0; w < R2__WANTED; ++w) source->field[w] = r2__slice_of("", 0);
    source->is_list = false;
    while (status == R2_OK && r2__json_next(&rest, &key, &value)) {
        status = r2__json_key(ctx, &key, &held);
        if (status == R2_OK) status = r2__json_field(ctx, source, key, value, n_found);
        cJSON_Delete(held);
    }
    if (status == R2_OK && rest.len != 1)
        status = r2__bad_line(ctx, &source->table.lines, "a JSON object", line);
    for (int w = 0; w < R2__WANTED && status == R2_OK; ++w)
        if (!n_found[w] && source->column[w] >= 0 && source->names == r2__rating_names)
            status = r2__lacks(ctx, source, source->key[w], line);
    return status;
}

/* The wanted fields of a line; a column that is missing gives "". */
static void r2__table_fields(r2__source *source) {
    for (int w = 0; w < R2__WANTED; ++w)
        source->field[w] = source->column[w] < 0 ? r2__slice_of("", 0)
                                                 : source->table.field[source->column[w]];
}

/* The columns of a table without names: user item rating time, but for what the caller says. */
static r2_status r2__table_places(r2_ctx *ctx, r2__source *source, r2__slice line,
                                  const char *const wish[R2__WANTED]) {
    static const char *const questions[R2__WANTED] = {
        "names of the user and item columns", "names of the user and item columns",
        "the column of the rating, \"-\" for none", "the column of the time, \"-\" for none"};
    r2__table *table = &source->table;
    const r2__slice *field = table->field;
    const bool ratings = source->names == r2__rating_names, given = wish && wish[0] && wish[1];
    double x;
    if (ratings && table->separator[0] == ' ' && table->n_fields > R2__WANTED && !given)
        return r2__bad_line(ctx, &table->lines,
                            "user item rating time, for ids with blanks another separator; or "
                            "columns given by number",
                            line);
    for (int w = 0; w < R2__WANTED; ++w) {
        bool taken = ratings && table->n_fields > R2__WANTED;
        if (source->none[w] || (wish && wish[w])) continue;
        for (int v = 0; v < R2__WANTED; ++v) taken = taken || r2__wished_number(wish, v) == w + 1;
        if (taken) return r2__bad_line(ctx, &table->lines, questions[w], line);
        source->column[w] = w < table->n_fields ? w : -1;
    }
    if (ratings && ((source->column[2] >= 0 && !r2__number(field[source->column[2]], &x)) ||
                    (source->column[3] >= 0 && !r2__number(field[source->column[3]], &x) &&
                     !r2__date(field[source->column[3]], &x)) ||
                    (!given && table->n_fields == 2 && !r2__number(field[0], &x) &&
                     !r2__number(field[1], &x))))
        return r2__bad_line(ctx, &table->lines,
                            "names of the user and item columns, or user item rating time", line);
    return R2_OK;
}

/* Finds the columns of a table from its first line: by name if it has names; else the line is a
   record. It has names if it has those of user and item, or one that the caller gave, or if a
   column that the caller gave by number has a usual name. */
static r2_status r2__table_columns(r2_ctx *ctx, r2__source *source, r2__slice line,
                                   const char *const wish[R2__WANTED]) {
    r2__table *table = &source->table;
    int best[R2__WANTED] = {-1, -1, -1, -1};
    const bool items = source->names == r2__item_names;
    for (int k = 0; k < table->n_fields; ++k)
        r2__source_column(source, wish, best, table->field[k], k);
    bool named = best[0] >= 0 && (best[1] >= 0 || (items && (best[2] >= 0 || best[3] >= 0)));
    for (int w = 0; w < R2__WANTED; ++w) {
        int number = r2__wished_number(wish, w);
        if (number) source->column[w] = number <= table->n_fields ? number - 1 : -1;
        if (!wish || !wish[w] || source->none[w]) continue;
        if (source->column[w] < 0) return r2__lacks(ctx, source, wish[w], line);
        named = named || !number ||
                r2__name_place(source->names[w], table->field[source->column[w]]) >= 0;
    }
    source->pending = !named;
    if (table->n_fields < 2) return r2__bad_line(ctx, &table->lines, "at least two columns", line);
    if ((named || best[0] >= 0 || best[1] >= 0) &&
        (source->column[0] < 0 || (source->column[1] < 0 && !(named && items))))
        return r2__bad_line(ctx, &table->lines,
                            items ? "names of the id and title columns"
                                  : "names of the user and item columns, known ones or given ones",
                            line);
    if (named && source->twice && !items)
        return r2__bad_line(ctx, &table->lines, "every column name once", line);
    if (!named && r2__table_places(ctx, source, line, wish) != R2_OK) return ctx->status;
    return r2__source_check(ctx, source, line);
}

/* A file that is no text has a first sign. */
static r2_status r2__text_only(r2_ctx *ctx, r2__lines *lines) {
    static const struct {
        const char *sign, *name;
        size_t len;
    } other[] = {{"\x1F\x8B", "gzip: unpack it", 2},
                 {"PK\3\4", "a zip archive: unpack it", 4},
                 {"BZh", "bzip2: unpack it", 3},
                 {"\xFD" "7zXZ", "xz: unpack it", 5},
                 {"\x28\xB5\x2F\xFD", "zstd: unpack it", 4},
                 {"PAR1", "Parquet", 4},
                 {"[{", "one JSON array: write one object a line", 2},
                 {"[\n", "one JSON array: write one object a line", 2},
                 {"\xFF\xFE", "UTF-16", 2},
                 {"\xFE\xFF", "UTF-16", 2},
                 {"\xFF\xFE\0\0", "UTF-32", 4}};
    const char *name = NULL, *at;
    if (r2__lines_fill(ctx, lines) != R2_OK) return ctx->status;
    at = lines->buffer;
    for (size_t k = 0; k < sizeof other / sizeof *other; ++k)
        if (lines->end >= other[k].len && !memcmp(at, other[k].sign, other[k].len))
            name = other[k].name;
    if (lines->end >= 4 && !name && (!at[0] != !at[1]) && !at[0] == !at[2] && !at[1] == !at[3])
        name = "UTF-16";
    if (!name && lines->end > 1 && !memchr(at, '\n', lines->end) &&
        memchr(at, '\r', lines->end - 1))
        name = "lines that end in CR alone";
    if (!name) return R2_OK;
    return r2_fail(ctx, R2_FORMAT, "%s: expected lines of UTF-8 text, found %s", lines->path, name);
}

/* Reads lines until one is not empty; line->at is NULL at the end of the file. */
static r2_status r2__source_line(r2_ctx *ctx, r2__source *source, r2__slice *line) {
    do
        if (r2__lines_next(ctx, &source->table.lines, line) != R2_OK) return ctx->status;
    while (line->at && !r2__trim(*line).len);
    return R2_OK;
}

/* Opens a file; its first line decides between JSON and a table, and gives the separator and the
   columns. `prefer`, `separator` and `wish` may be NULL. Close it in any case. */
static r2_status r2__source_open(r2_ctx *ctx, r2__source *source, const char *path,
                                 const char *const *names, const char *prefer,
                                 const char *separator, const char *const wish[R2__WANTED]) {
    r2__table *table = &source->table;
    r2__slice line;
    memset(source, 0, sizeof *source);
    source->names = names;
    source->prefer = prefer;
    for (int w = 0; w < R2__WANTED; ++w) {
        source->column[w] = -1;
        source->number[w] = NAN;
        source->none[w] = w > 1 && wish && wish[w] && !strcmp(wish[w], "-");
    }
    if (separator && (!separator[0] || strlen(separator) > 2))
        return r2_fail(ctx, R2_ARGUMENT, "separator: expected one or two bytes, found \"%s\"",
                       separator);
    r2_status status = r2__lines_open(ctx, &table->lines, path);
    if (status == R2_OK) status = r2__text_only(ctx, &table->lines);
    if (status == R2_OK) status = r2__source_line(ctx, source, &line);
    if (status != R2_OK) return status;
    if (!line.at) return r2_fail(ctx, R2_FORMAT, "%s: expected records, found nothing", path);
    source->first = table->lines.number;
    source->json = line.at[0] == '{';
    if (source->json) {
        source->pending = true;
        status = r2__json_columns(ctx, source, line, wish);
        if (status == R2_OK) status = r2__json_record(ctx, source, line);
        return status == R2_OK ? r2__source_check(ctx, source, line) : status;
    }
    table->separator = separator ? separator : r2__find_separator(line);
    table->quoted = table->separator[0] == ',' || table->separator[0] == ';';
    status = r2__table_cut(ctx, table, line);
    if (status == R2_OK) status = r2__table_columns(ctx, source, line, wish);
    return status;
}

static void r2__source_close(r2_ctx *ctx, r2__source *source) {
    for (int w = 0; w < R2__WANTED; ++w) r2_text_free(ctx, &source->text[w]);
    r2_release(ctx, source->table.plain);
    source->table.plain = NULL;
    r2__lines_close(ctx, &source->table.lines);
}

/* How many of user and item of the current record are numbers. */
static int r2__n_numbers(const r2__source *source) {
    double x;
    return r2__number(source->field[0], &x) + r2__number(source->field[1], &x);
}

/* The next record -> source->field; *more is false at the end. */
static r2_status r2__source_next(r2_ctx *ctx, r2__source *source, bool *more) {
    const bool first = source->pending;
    r2__slice line;
    *more = true;
    source->pending = false;
    if (first && !source->json) {
        r2__table_fields(source);
        source->worded = r2__n_numbers(source) == 0;
    }
    if (first) return R2_OK;
    if (r2__source_line(ctx, source, &line) != R2_OK) return ctx->status;
    *more = line.at != NULL;
    if (!*more) return R2_OK;
    if (source->json) return r2__json_record(ctx, source, line);
    if (r2__table_cut(ctx, &source->table, line) != R2_OK) return ctx->status;
    r2__table_fields(source);
    if (source->worded && r2__n_numbers(source) == 2)
        return r2_fail(ctx, R2_FORMAT,
                       "%s:%lld: expected ids as in line %lld, found names: give column names",
                       source->table.lines.path, (long long)source->first,
                       (long long)source->table.lines.number);
    source->worded = false;
    return R2_OK;
}

/* ---- ids: text -> number in order of appearance ----

   The tables are r2_data.user_key and item_key: stb_ds keeps entries in the order in which they
   were added, so the index of an id is its number. */

/* Sets `out` to `text` as UTF-8; other text is read as latin-1: an id is the same in both. */
static void r2__to_utf8(r2_ctx *ctx, r2_text *out, r2__slice text) {
    const bool valid = r2__utf8_valid(text.at, text.len);
    r2_text_clear(out);
    r2_text_add(ctx, out, text.at, valid ? text.len : 0);
    for (size_t k = 0; k < text.len && !valid; ++k)
        r2__utf8_add(ctx, out, (unsigned char)text.at[k]);
}

/* The number of `id`, or -1 -> *number; `key` is room for it with its NUL. All keys are UTF-8, so
   an id that is found as it stands needs no check. */
static r2_status r2__id_find(r2_ctx *ctx, char **keys, r2__slice id, r2_text *key,
                             int64_t *number) {
    r2_text_clear(key);
    r2__add(ctx, key, id);
    if (key->failed) return ctx->status;
    *number = r2__map_find(keys, sizeof *keys, key->data, 0);
    if (*number >= 0 || r2__utf8_valid(id.at, id.len)) return R2_OK;
    r2__to_utf8(ctx, key, id);
    if (key->failed) return ctx->status;
    *number = r2__map_find(keys, sizeof *keys, key->data, 0);
    return R2_OK;
}

/* ---- rows: collected in the order of the file, then sorted by user and item ---- */

typedef struct r2__row {
    uint32_t user, item;
    float rating;
    int32_t time;
} r2__row;

#define R2__ROWS_A_BLOCK (1 << 16)

typedef struct r2__rows { /* a block of rows: growing copies none */
    struct r2__rows *next;
    r2__row row[R2__ROWS_A_BLOCK];
} r2__rows;

typedef struct r2__loader {
    r2_data *data;
    r2__rows *oldest, *newest; /* in the order of the file */
    int64_t n_rows;
    int64_t last[2]; /* user and item of the last row: in many files the next row has one of them */
    double time_unit; /* seconds; 0: by the size of the number */
    char item_name[64]; /* of the ratings' item column, as r2__plain_name gives it; "": none */
    r2_text key;      /* room for an id or a title as UTF-8               */
    char *pool;       /* the free rest of the current piece of data->text */
    size_t pool_left;
} r2__loader;

static void r2__loader_drop(r2_ctx *ctx, r2__loader *loader) { /* the first block */
    r2__rows *block = loader->oldest;
    loader->oldest = block->next;
    r2_release(ctx, block);
}

static void r2__loader_free(r2_ctx *ctx, r2__loader *loader) {
    while (loader->oldest) r2__loader_drop(ctx, loader);
    r2_text_free(ctx, &loader->key);
    memset(loader, 0, sizeof *loader);
}

/* Room for one more row, or NULL. */
static r2__row *r2__loader_row(r2_ctx *ctx, r2__loader *loader) {
    const int64_t at = loader->n_rows % R2__ROWS_A_BLOCK;
    if (at == 0) {
        r2__rows *block = (r2__rows *)r2_resize(ctx, NULL, 1, sizeof *block);
        if (!block) return NULL;
        block->next = NULL;
        *(loader->oldest ? &loader->newest->next : &loader->oldest) = block;
        loader->newest = block;
    }
    loader->n_rows++;
    return &loader->newest->row[at];
}

static int64_t r2__rows_of(const r2__loader *loader, const r2__rows *block) {
    return block->next ? R2__ROWS_A_BLOCK : (loader->n_rows - 1) % R2__ROWS_A_BLOCK + 1;
}

/* A NUL-terminated copy as UTF-8 in the arena of the data, or NULL. Copies are packed into pieces:
   an allocation of its own would take 64 bytes. */
static char *r2__loader_keep(r2_ctx *ctx, r2__loader *loader, r2__slice text) {
    const size_t piece = 1u << 16;
    r2__to_utf8(ctx, &loader->key, text);
    if (loader->key.failed) return NULL;
    size_t bytes = loader->key.len + 1;
    if (bytes > loader->pool_left) {
        size_t size = bytes > piece ? bytes : piece;
        loader->pool = (char *)r2_arena_alloc(ctx, &loader->data->text, size, 1);
        loader->pool_left = loader->pool ? size : 0;
        if (!loader->pool) return NULL;
    }
    char *copy = (char *)memcpy(loader->pool, loader->key.data, bytes);
    loader->pool += bytes;
    loader->pool_left -= bytes;
    return copy;
}

/* The number of a user (which = 0) or an item (1), new or known -> *number. */
static r2_status r2__loader_id(r2_ctx *ctx, r2__loader *loader, int which, r2__slice id,
                               uint32_t *number) {
    r2_data *data = loader->data;
    char ***keys = which ? &data->item_key : &data->user_key, *key;
    int64_t *last = &loader->last[which];
    const int64_t n = (int64_t)stbds_hmlen(*keys);
    const bool again = *last < n && r2__is(id, (*keys)[*last]);
    if (!again && r2__id_find(ctx, *keys, id, &loader->key, last) != R2_OK) return ctx->status;
    if (*last < 0) {
        if (n >= UINT32_MAX - 1)
            return r2_fail(ctx, R2_FORMAT, "expected < 2^32 users and items, found more");
        key = r2__loader_keep(ctx, loader, id);
        if (!key || r2__map_put(ctx, &data->owner, keys, sizeof *keys, key, 0, last) != R2_OK)
            return ctx->status;
    }
    *number = (uint32_t)*last;
    return R2_OK;
}

/* The number in a wanted field of the current record; false: not a number. */
static bool r2__source_number(const r2__source *source, int w, double *number) {
    *number = source->number[w];
    return !isnan(*number) || r2__number(source->field[w], number);
}

/* Does the current record say that it has no rating? */
static bool r2__source_not_rated(const r2__source *source) {
    const char *mark = source->not_rated;
    double number, rating;
    if (!mark || source->column[2] < 0) return false;
    if (r2__is(r2__trim(source->field[2]), mark)) return true;
    return r2__number(r2__slice_text(mark), &number) &&
           r2__source_number(source, 2, &rating) && rating == number;
}

/* Adds the record user, item, rating, time. A field without text stands for a missing column. */
static r2_status r2__loader_add(r2_ctx *ctx, r2__loader *loader, const r2__source *source) {
    const r2__lines *lines = &source->table.lines;
    const r2__slice *field = source->field, user = r2__trim(field[0]), item = r2__trim(field[1]);
    r2_data *data = loader->data;
    double rating = 1.0, time = 0.0;
    bool dated = false;
    r2__row *row = r2__loader_row(ctx, loader);
    if (!row) return ctx->status;
    if (!user.len) return r2__bad_line(ctx, lines, "a user", field[0]);
    if (!item.len) return r2__bad_line(ctx, lines, "an item", field[1]);
    if (source->column[2] >= 0 && (!r2__source_number(source, 2, &rating) || fabs(rating) > 1e6))
        return r2__bad_line(ctx, lines, "a rating from -1e6 to 1e6", field[2]);
    if (source->column[3] >= 0) {
        dated = !r2__source_number(source, 3, &time);
        if ((dated && !r2__date(field[3], &time)) || fabs(time) > 1e15)
            return r2__bad_line(ctx, lines, "a Unix time or a date", field[3]);
    }
    if (loader->time_unit > 0.0 && !dated) time *= loader->time_unit;
    else if (fabs(time) >= 1e11 && !dated) time /= 1000.0; /* as seconds: after the year 5000 */
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
    if (r2__loader_id(ctx, loader, 0, user, &row->user) != R2_OK) return ctx->status;
    return r2__loader_id(ctx, loader, 1, item, &row->item);
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

/* All rows sorted by item; rows of one item keep the order of the file. Each block is freed once it
   is copied, so the peak is one copy and one block. */
static r2__row *r2__rows_by_item(r2_ctx *ctx, r2__loader *loader) {
    const int64_t n_items = (int64_t)stbds_hmlen(loader->data->item_key);
    r2__row *sorted = (r2__row *)r2_resize(ctx, NULL, (uint64_t)loader->n_rows, sizeof *sorted);
    int64_t *at = (int64_t *)r2_alloc(ctx, (uint64_t)n_items + 1, sizeof *at);
    if (!sorted || !at) {
        r2_release(ctx, sorted);
        r2_release(ctx, at);
        return NULL;
    }
    for (const r2__rows *block = loader->oldest; block; block = block->next)
        for (int64_t j = 0; j < r2__rows_of(loader, block); ++j) at[block->row[j].item]++;
    r2__prefix(at, n_items);
    for (const r2__rows *block; (block = loader->oldest) != NULL; r2__loader_drop(ctx, loader))
        for (int64_t j = 0; j < r2__rows_of(loader, block); ++j)
            sorted[at[block->row[j].item]++] = block->row[j];
    r2_release(ctx, at);
    return sorted;
}

/* Keeps the latest row of each (user, item); of equal times the last in the file. */
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

/* Shifts the times so that the earliest is 0. */
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
    data->n_users = (int64_t)stbds_hmlen(data->user_key);
    data->n_items = (int64_t)stbds_hmlen(data->item_key);
    data->n_ratings = loader->n_rows;
    begin = (int64_t *)r2_alloc(ctx, (uint64_t)data->n_users + 2, sizeof *begin);
    data->user_begin = begin;
    data->item = (uint32_t *)r2_resize(ctx, NULL, n, sizeof *data->item);
    data->rating = (float *)r2_resize(ctx, NULL, n, sizeof *data->rating);
    data->time = (int32_t *)r2_resize(ctx, NULL, n, sizeof *data->time);
    r2_status status = ctx->status;
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
        status = r2__rebase_times(ctx, data);
    }
    r2_release(ctx, sorted);
    return status;
}

/* ---- titles, genres, years ---- */

/* The year of the last bracket of a title that begins with one, "(1994)" or "(1994-1998)", or 0. */
static int16_t r2__title_year(const char *title) {
    int year = 0, found;
    for (const char *open = strchr(title, '('); open; open = strchr(open + 1, '(')) {
        r2__slice rest = r2__slice_text(open + 1);
        if (r2__take_digits(&rest, 4, 0, 9999, &found) && r2__take_char(&rest, ")-\xE2 ,"))
            year = found;
    }
    return (int16_t)year;
}

/* Titles and genres start as "". */
static r2_status r2__loader_items(r2_ctx *ctx, r2__loader *loader) {
    r2_data *data = loader->data;
    uint64_t n = (uint64_t)stbds_hmlen(data->item_key);
    char *empty = r2__loader_keep(ctx, loader, r2__slice_of("", 0));
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
        "unknown",     "Action", "Adventure", "Animation", "Children", "Comedy",  "Crime",
        "Documentary", "Drama",  "Fantasy",   "Film-Noir", "Horror",   "Musical", "Mystery",
        "Romance",     "Sci-Fi", "Thriller",  "War",       "Western"};
    r2_text_clear(genres);
    r2_text_add(ctx, genres, "", 0);
    for (int g = 0; g < 19; ++g) {
        if (flags[g].len != 1 || flags[g].at[0] != '1') continue;
        r2_text_addf(ctx, genres, "%s%s", genres->len ? "|" : "", name[g]);
    }
    return genres->failed ? ctx->status : R2_OK;
}

/* Genres between | or commas, or blanks for RecBole's token_seq -> between |. */
static r2_status r2__split_genres(r2_ctx *ctx, r2__slice all, bool blanks, r2_text *genres) {
    const char separator = all.len && memchr(all.at, '|', all.len)   ? '|'
                           : all.len && memchr(all.at, ',', all.len) ? ','
                           : blanks                                  ? ' '
                                                                     : '|';
    r2_text_clear(genres);
    r2_text_add(ctx, genres, "", 0);
    for (size_t begin = 0, end; begin < all.len; begin = end + 1) {
        for (end = begin; end < all.len && all.at[end] != separator;) ++end;
        r2__slice one = r2__trim(r2__slice_of(all.at + begin, end - begin));
        if (!one.len) continue;
        if (genres->len) r2_text_add(ctx, genres, "|", 1);
        r2_text_add(ctx, genres, one.at, one.len);
    }
    return genres->failed ? ctx->status : R2_OK;
}

/* One record of an item file: id, title, genres, year. Items that nobody rated are counted only. */
static r2_status r2__loader_title(r2_ctx *ctx, r2__loader *loader, const r2__slice *field,
                                  r2__slice genres) {
    r2_data *data = loader->data;
    int64_t item;
    double year;
    if (r2__id_find(ctx, data->item_key, r2__trim(field[0]), &loader->key, &item) != R2_OK)
        return ctx->status;
    if (item < 0) {
        data->n_unrated++;
        return R2_OK;
    }
    if (genres.len && genres.at[0] == '(') genres.len = 0; /* "(no genres listed)" */
    data->title[item] = r2__loader_keep(ctx, loader, field[1]);
    data->genres[item] = r2__loader_keep(ctx, loader, genres);
    if (!data->title[item] || !data->genres[item]) return ctx->status;
    data->year[item] = r2__title_year(data->title[item]);
    if (field[3].len && r2__number(field[3], &year) && year >= 0.0 && year <= 9999.0)
        data->year[item] = (int16_t)year;
    return R2_OK;
}

/* ---- files and directories ---- */

/* Keeps the names of a table's columns that are not read, while they are the current line. */
static r2_status r2__loader_unused(r2_ctx *ctx, r2__loader *loader, const r2__source *source) {
    r2_text names = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    for (int k = 0; k < source->table.n_fields; ++k) {
        bool used = false;
        for (int w = 0; w < R2__WANTED; ++w) used = used || source->column[w] == k;
        if (used) continue;
        if (names.len) r2_text_add(ctx, &names, ", ", 2);
        r2_text_add(ctx, &names, source->table.field[k].at, source->table.field[k].len);
    }
    if (names.len)
        loader->data->unused = r2__loader_keep(ctx, loader, r2__slice_of(names.data, names.len));
    if (names.failed || (names.len && !loader->data->unused)) status = ctx->status;
    r2_text_free(ctx, &names);
    return status;
}

/* Every record of one file -> rows of the loader. */
static r2_status r2__load_ratings(r2_ctx *ctx, r2__loader *loader, const char *path,
                                  const r2_format *format) {
    const char *wish[R2__WANTED] = {format->user, format->item, format->rating, format->time};
    const int64_t before = loader->n_rows;
    r2__source source;
    bool more = true;
    r2_status status = r2__source_open(ctx, &source, path, r2__rating_names, NULL,
                                       format->separator, wish);
    if (status == R2_OK) {
        loader->data->has_rating |= source.column[2] >= 0;
        loader->data->has_time |= source.column[3] >= 0;
        if (source.json || !source.pending)
            r2__plain_name(loader->item_name, sizeof loader->item_name,
                           r2__slice_text(source.key[1]));
        if (!source.json && !source.pending) status = r2__loader_unused(ctx, loader, &source);
        source.not_rated = format->not_rated;
        if (source.not_rated && source.column[2] < 0)
            status = r2_fail(ctx, R2_FORMAT, "%s: expected a rating column, for not_rated = \"%s\"",
                             path, source.not_rated);
    }
    while (status == R2_OK && more) {
        status = r2__source_next(ctx, &source, &more);
        if (status == R2_OK && more && r2__source_not_rated(&source)) loader->data->n_not_rated++;
        else if (status == R2_OK && more) status = r2__loader_add(ctx, loader, &source);
        if (status == R2_OK && source.table.lines.number % (1 << 20) == 0)
            status = r2_progress(ctx, "reading ratings", loader->n_rows, 0);
    }
    r2__source_close(ctx, &source);
    if (status == R2_OK && loader->n_rows == before)
        status = r2_fail(ctx, R2_FORMAT, "%s: expected ratings, found %s", path,
                         loader->data->n_not_rated ? "only marks of not rated" : "none");
    return status;
}

/* Titles, genres, years of one file. u.item of MovieLens 100K is known by its 24 columns. */
static r2_status r2__load_items(r2_ctx *ctx, r2__loader *loader, const char *path) {
    r2__source source;
    r2_text genres = {NULL, 0, 0, false};
    bool more = true;
    r2_status status = r2__source_open(ctx, &source, path, r2__item_names,
                                       *loader->item_name ? loader->item_name : NULL, NULL, NULL);
    const bool movielens_100k = !source.json && source.table.n_fields == 24 && source.pending;
    const bool blanks = strstr(source.key[2], ":token_seq") != NULL;
    if (source.pending && !source.json) source.column[3] = -1; /* without a name it is not a year */
    while (status == R2_OK && more) {
        status = r2__source_next(ctx, &source, &more);
        if (status != R2_OK || !more) break;
        if (movielens_100k) status = r2__flag_genres(ctx, source.table.field + 5, &genres);
        else if (!source.is_list) status = r2__split_genres(ctx, source.field[2], blanks, &genres);
        if (!source.is_list) source.field[2] = r2__slice_of(genres.data, genres.len);
        if (status == R2_OK) status = r2__loader_title(ctx, loader, source.field, source.field[2]);
    }
    r2_text_free(ctx, &genres);
    r2__source_close(ctx, &source);
    return status;
}

/* Only a directory has a file "." in it. */
static bool r2__is_directory(r2_ctx *ctx, const char *path) {
    r2_text inside = {NULL, 0, 0, false};
    r2_text_addf(ctx, &inside, "%s/.", path);
    bool is = !inside.failed && r2__file_exists(ctx, inside.data);
    r2_text_free(ctx, &inside);
    return is;
}

/* The last part of a path: the name of RecBole files in a directory is that of the directory. */
static const char *r2__last_part(const char *path, int *len) {
    const char *end = path + strlen(path), *begin;
    while (end > path && end[-1] == '/') --end;
    begin = end;
    while (begin > path && begin[-1] != '/') --begin;
    *len = (int)(end - begin);
    return begin;
}

/* The ratings file and the items file ("": none) that `path` stands for. */
static r2_status r2__find_layout(r2_ctx *ctx, const char *path, r2_text *ratings, r2_text *items) {
    static const char *const layouts[4][2] = {{"ratings.csv", "movies.csv"},
                                              {"ratings.dat", "movies.dat"},
                                              {"u.data", "u.item"},
                                              {".inter", ".item"}}; /* after NAME */
    size_t length = strlen(path);
    int len;
    const char *name = r2__last_part(path, &len);
    for (int k = 0; k < 4; ++k) {
        r2_text_clear(ratings);
        r2_text_clear(items);
        r2_text_addf(ctx, ratings, "%s/%.*s%s", path, k < 3 ? 0 : len, name, layouts[k][0]);
        r2_text_addf(ctx, items, "%s/%.*s%s", path, k < 3 ? 0 : len, name, layouts[k][1]);
        if (ratings->failed || items->failed) return ctx->status;
        if (r2__file_exists(ctx, ratings->data)) return R2_OK;
    }
    r2_text_clear(ratings);
    r2_text_clear(items);
    r2_text_addf(ctx, ratings, "%s", path);
    if (length > 6 && strcmp(path + length - 6, ".inter") == 0)
        r2_text_addf(ctx, items, "%.*s.item", (int)(length - 6), path);
    return ratings->failed || items->failed ? ctx->status : R2_OK;
}

/* The interactions of a file or a known directory, and in `items` where their titles may be. */
static r2_status r2__load_interactions(r2_ctx *ctx, r2__loader *loader, const char *path,
                                       const r2_format *format, r2_text *items) {
    r2_text ratings = {NULL, 0, 0, false};
    r2_status status = r2__find_layout(ctx, path, &ratings, items);
    if (status == R2_OK) status = r2__load_ratings(ctx, loader, ratings.data, format);
    if (status == R2_IO && strcmp(ratings.data, path) == 0 && r2__is_directory(ctx, path))
        r2_fail(ctx, R2_IO,
                "%s: expected a ratings file, or a directory with ratings.csv, ratings.dat, "
                "u.data or NAME.inter in it",
                path);
    r2_text_free(ctx, &ratings);
    return status;
}

/* The titles at `path`, if there are any. A file that cannot be read leaves the items without
   titles; the ratings are worth more. */
static r2_status r2__load_titles(r2_ctx *ctx, r2__loader *loader, const char *path) {
    r2_status status = R2_OK;
    if (*path && r2__file_exists(ctx, path)) status = r2__load_items(ctx, loader, path);
    if (status == R2_FORMAT || status == R2_IO) {
        r2_log(ctx, "not all titles are read: %s", ctx->message);
        loader->data->items_error = r2__loader_keep(
            ctx, loader, r2__slice_text(ctx->message));
        status = loader->data->items_error ? R2_OK : ctx->status;
    }
    return status;
}

r2_status r2_data_load_files(r2_ctx *ctx, r2_data *data, const char *const *paths, int64_t n_paths,
                             const r2_format *format) {
    r2_format plain;
    r2__loader loader;
    r2_text *items;
    r2_status status = R2_OK;
    memset(data, 0, sizeof *data);
    memset(&plain, 0, sizeof plain);
    memset(&loader, 0, sizeof loader);
    if (!format) format = &plain;
    if (n_paths < 1)
        return r2_fail(ctx, R2_ARGUMENT, "load: n_paths = %lld, expected >= 1", (long long)n_paths);
    if (format->time_unit != 0.0 && !(format->time_unit >= 1e-12 && format->time_unit <= 1e9))
        return r2_fail(ctx, R2_ARGUMENT,
                       "load: time_unit = %g, expected 1e-12 to 1e9 seconds, or 0 for detection",
                       format->time_unit);
    items = (r2_text *)r2_alloc(ctx, (uint64_t)n_paths, sizeof *items);
    if (!items) return ctx->status;
    loader.data = data;
    loader.time_unit = format->time_unit;
    for (int64_t k = 0; k < n_paths && status == R2_OK; ++k)
        status = r2__load_interactions(ctx, &loader, paths[k], format, &items[k]);
    if (status == R2_OK) status = r2__loader_items(ctx, &loader);
    if (status == R2_OK && format->items) status = r2__load_items(ctx, &loader, format->items);
    for (int64_t k = 0; k < n_paths && status == R2_OK && !format->items; ++k)
        status = r2__load_titles(ctx, &loader, items[k].data);
    if (status == R2_OK) status = r2__loader_sort(ctx, &loader);
    for (int64_t k = 0; k < n_paths; ++k) r2_text_free(ctx, &items[k]);
    r2_release(ctx, items);
    r2__loader_free(ctx, &loader);
    if (status != R2_OK) r2_data_free(ctx, data);
    return status;
}

r2_status r2_data_load(r2_ctx *ctx, r2_data *data, const char *path) {
    return r2_data_load_files(ctx, data, &path, 1, NULL);
}

/* =========================================== [E3] filters, other splits and candidate sets ====

   In:   r2_data, conditions, files.
   Out:  r2_data with fewer rows or with grades; splits and candidate sets that are given as files.

       r2_data_filter   rows by rating and time -> rows of the core -> users and items renumbered
       r2_data_grade    counts of a user        -> grades 1 .. 5

   Four songs that a user played 1, 3, 3 and 100 times get the grades 2, 4, 4 and 5: the shares of
   counts that are not larger are 1/4, 3/4, 3/4 and 1; times 5, rounded up.
   The 2-core of  a-x a-y b-x b-y b-z  drops b-z, since z has one row, and keeps the other four.
   (test_data.c: the_opening_of_e3) */

/* ---- filters and the report ---- */

/* The result of a filter, before any row is moved. */
typedef struct r2__keep {
    uint8_t *row;                     /* (n_ratings) 1: stays */
    int64_t *users, *items;           /* rows left of each    */
    int64_t n_rating, n_time, n_core; /* rows dropped, why */
    char **user_key, **item_key;      /* the ids left */
    r2__owner owner;                  /* of those     */
} r2__keep;

static void r2__keep_free(r2_ctx *ctx, r2__keep *keep) {
    r2_release(ctx, keep->row);
    r2_release(ctx, keep->users);
    r2_release(ctx, keep->items);
    r2__map_free(ctx, &keep->owner, &keep->user_key, sizeof *keep->user_key);
    r2__map_free(ctx, &keep->owner, &keep->item_key, sizeof *keep->item_key);
}

/* Drops rows of users and items that have too few, until none has too few. */
static void r2__keep_core(const r2_data *data, r2__keep *keep, const r2_filter *filter) {
    int64_t dropped = -1;
    while (dropped != keep->n_core) {
        dropped = keep->n_core;
        for (int64_t u = 0; u < data->n_users; ++u)
            for (int64_t k = data->user_begin[u]; k < data->user_begin[u + 1]; ++k) {
                if (!keep->row[k] || (keep->users[u] >= filter->user_core &&
                                      keep->items[data->item[k]] >= filter->item_core))
                    continue;
                keep->row[k] = 0;
                keep->users[u]--;
                keep->items[data->item[k]]--;
                keep->n_core++;
            }
    }
}

/* The ids of users or items with rows, in a table of its own. */
static r2_status r2__keep_ids(r2_ctx *ctx, r2__keep *keep, char ***table, char *const *keys,
                              const int64_t *rows, int64_t n) {
    r2_status status = R2_OK;
    int64_t at;
    for (int64_t k = 0; k < n && status == R2_OK; ++k)
        if (rows[k]) status = r2__map_put(ctx, &keep->owner, table, sizeof *table, keys[k], 0, &at);
    return status;
}

/* Moves the rows together and renumbers users and items; keep->items becomes the new numbers. */
static void r2__keep_close(r2_data *data, r2__keep *keep) {
    int64_t to = 0, n_users = 0, n_items = 0;
    for (int64_t i = 0; i < data->n_items; ++i) {
        if (!keep->items[i]) continue;
        data->title[n_items] = data->title[i];
        data->genres[n_items] = data->genres[i];
        data->year[n_items] = data->year[i];
        keep->items[i] = n_items++;
    }
    for (int64_t u = 0, k = 0; u < data->n_users; ++u) {
        int64_t end = data->user_begin[u + 1], begin = to;
        for (; k < end; ++k) {
            if (!keep->row[k]) continue;
            data->item[to] = (uint32_t)keep->items[data->item[k]];
            data->rating[to] = data->rating[k];
            data->time[to++] = data->time[k];
        }
        if (begin == to) continue;
        data->user_begin[n_users++] = begin;
    }
    data->user_begin[n_users] = to;
    data->n_users = n_users;
    data->n_items = n_items;
    data->n_ratings = to;
    data->n_dropped_rating += keep->n_rating;
    data->n_dropped_time += keep->n_time;
    data->n_dropped_core += keep->n_core;
}

/* Exchanges the tables of ids: `keep` then frees the old ones. */
static void r2__keep_swap(r2_data *data, r2__keep *keep) {
    const r2__keep kept = *keep;
    keep->user_key = data->user_key;
    keep->item_key = data->item_key;
    keep->owner = data->owner;
    data->user_key = kept.user_key;
    data->item_key = kept.item_key;
    data->owner = kept.owner;
}

r2_status r2_data_filter(r2_ctx *ctx, r2_data *data, const r2_filter *filter) {
    r2__keep keep;
    memset(&keep, 0, sizeof keep);
    keep.row = (uint8_t *)r2_alloc(ctx, (uint64_t)data->n_ratings, 1);
    keep.users = (int64_t *)r2_alloc(ctx, (uint64_t)data->n_users, sizeof *keep.users);
    keep.items = (int64_t *)r2_alloc(ctx, (uint64_t)data->n_items, sizeof *keep.items);
    if (!keep.row || !keep.users || !keep.items) {
        r2__keep_free(ctx, &keep);
        return ctx->status;
    }
    for (int64_t u = 0; u < data->n_users; ++u)
        for (int64_t k = data->user_begin[u]; k < data->user_begin[u + 1]; ++k) {
            int64_t time = data->time_zero + data->time[k];
            bool low = filter->min_rating != 0.0f && data->rating[k] < filter->min_rating;
            bool out = (filter->time_from && time < filter->time_from) ||
                       (filter->time_until && time >= filter->time_until);
            keep.n_rating += low;
            keep.n_time += out && !low;
            if (low || out) continue;
            keep.row[k] = 1;
            keep.users[u]++;
            keep.items[data->item[k]]++;
        }
    r2__keep_core(data, &keep, filter);
    r2_status status = r2__keep_ids(ctx, &keep, &keep.user_key, data->user_key, keep.users,
                                    data->n_users);
    if (status == R2_OK)
        status = r2__keep_ids(ctx, &keep, &keep.item_key, data->item_key, keep.items,
                              data->n_items);
    if (status == R2_OK) {
        r2__keep_close(data, &keep);
        r2__keep_swap(data, &keep);
        if (data->n_ratings) status = r2__rebase_times(ctx, data); /* a shorter span always fits */
    }
    r2__keep_free(ctx, &keep);
    return status;
}

static bool r2__are_counts(const r2_data *data) {
    int64_t n_high = 0;
    float largest = 0.0f; /* of the rows that are left */
    for (int64_t k = 0; k < data->n_ratings; ++k)
        if (data->rating[k] > largest) largest = data->rating[k];
    for (int64_t k = 0; k < data->n_ratings; ++k)
        n_high += (double)data->rating[k] >= 0.8 * (double)largest;
    return largest > 0.0f && n_high * R2_COUNTS_RARE < data->n_ratings;
}

static int r2__compare_float(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

r2_status r2_data_grade(r2_ctx *ctx, r2_data *data) {
    float *sorted;
    if (!r2__are_counts(data)) return R2_OK;
    sorted = (float *)r2_alloc(ctx, (uint64_t)data->n_ratings, sizeof *sorted);
    if (!sorted) return ctx->status;
    memcpy(sorted, data->rating, (size_t)data->n_ratings * sizeof *sorted);
    for (int64_t u = 0; u < data->n_users; ++u) {
        int64_t begin = data->user_begin[u], n = data->user_begin[u + 1] - begin;
        qsort(sorted + begin, (size_t)n, sizeof *sorted, r2__compare_float);
        for (int64_t k = begin; k < begin + n; ++k) {
            int64_t low = 0, high = n; /* how many are no larger */
            R2__SEARCH(low, high, at, sorted[begin + at] <= data->rating[k]);
            data->rating[k] = (float)((5 * low + n - 1) / n);
        }
    }
    r2_release(ctx, sorted);
    r2_log(ctx, "counts up to %g, not grades: graded 1 to 5 by their order, user by user",
           (double)data->rating_max);
    data->rating_min = 1.0f;
    data->rating_max = 5.0f;
    data->was_counted = true;
    return R2_OK;
}

/* Days since 1970 -> year, month, day of the Gregorian calendar. The year starts in March, so that
   the leap day is its last one; an era is 400 years. */
static void r2__add_date(r2_ctx *ctx, r2_text *text, int64_t seconds) {
    int64_t days = seconds / 86400 - (seconds % 86400 < 0), era, day, year, month;
    days += 719468; /* from 1 March of the year 0 */
    era = (days >= 0 ? days : days - 146096) / 146097;
    day = days - era * 146097;
    year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    day -= 365 * year + year / 4 - year / 100;
    month = (5 * day + 2) / 153;
    day -= (153 * month + 2) / 5;
    month += month < 10 ? 3 : -9;
    year += era * 400 + (month <= 2);
    r2_text_addf(ctx, text, "%04lld-%02lld-%02lld", (long long)year, (long long)month,
                 (long long)day + 1);
}

#define R2__HISTOGRAM_MAX 24

/* Adds the share of each rating, ascending, if there are few different ones. */
static void r2__add_histogram(r2_ctx *ctx, r2_text *text, const r2_data *data) {
    float value[R2__HISTOGRAM_MAX];
    int64_t count[R2__HISTOGRAM_MAX];
    int n = 0;
    for (int64_t k = 0; k < data->n_ratings; ++k) {
        int at = n;
        while (at > 0 && value[at - 1] > data->rating[k]) --at;
        if (at > 0 && value[at - 1] == data->rating[k]) {
            count[at - 1]++;
            continue;
        }
        if (n == R2__HISTOGRAM_MAX) return;
        memmove(value + at + 1, value + at, (size_t)(n - at) * sizeof *value);
        memmove(count + at + 1, count + at, (size_t)(n - at) * sizeof *count);
        value[at] = data->rating[k];
        count[at] = 1;
        ++n;
    }
    for (int k = 0; k < n; ++k)
        r2_text_addf(ctx, text, "  rating %-4g %10lld %5.1f %%\n", (double)value[k],
                     (long long)count[k], 100.0 * (double)count[k] / (double)data->n_ratings);
}

#define R2__SAMPLE_MAX 4096

/* Do ratings differ from row to row, as serial numbers do? Among few rows chance can do it. */
static bool r2__all_differ(const r2_data *data) {
    float sample[R2__SAMPLE_MAX];
    const int64_t n = data->n_ratings < R2__SAMPLE_MAX ? data->n_ratings : R2__SAMPLE_MAX;
    int64_t n_same = 0;
    if (n < 10) return false;
    for (int64_t k = 0; k < n; ++k) {
        sample[k] = data->rating[k * (data->n_ratings / n)];
        if (floorf(sample[k]) != sample[k]) return false;
    }
    qsort(sample, (size_t)n, sizeof *sample, r2__compare_float);
    for (int64_t k = 1; k < n; ++k) n_same += sample[k] == sample[k - 1];
    return 10 * n_same < n;
}

r2_status r2_data_doubts(r2_ctx *ctx, const r2_data *data, r2_text *text) {
    const float low = data->rating_min;
    int64_t n_low = 0, n_first_year = 0;
    for (int64_t k = 0; k < data->n_ratings; ++k) {
        n_low += data->rating[k] == low;
        n_first_year += llabs(data->time_zero + data->time[k]) < 365 * 86400;
    }
    if ((low == -1.0f || low == 0.0f) && data->rating_max > 1.0f && 10 * n_low >= data->n_ratings)
        r2_text_addf(ctx, text,
                     "rating %g is frequent, often a mark of not rated: option --not-rated %g, or "
                     "r2_format.not_rated, leaves such rows out\n",
                     (double)low, (double)low);
    if (data->has_rating && r2__all_differ(data))
        r2_text_addf(ctx, text, "ratings that all differ look like serial numbers: check the "
                                "rating column\n");
    if (data->has_time && 2 * n_first_year > data->n_ratings)
        r2_text_addf(ctx, text,
                     "%lld times lie within a year of January 1970, which is wrong: check "
                     "the time column and its unit\n",
                     (long long)n_first_year);
    return text->failed ? ctx->status : R2_OK;
}

r2_status r2_data_report(r2_ctx *ctx, const r2_data *data, r2_text *text) {
    int64_t last = 0, n_titles = 0;
    double cells = (double)data->n_users * (double)data->n_items;
    for (int64_t i = 0; i < data->n_items; ++i) n_titles += data->title[i][0] != '\0';
    for (int64_t k = 0; k < data->n_ratings; ++k)
        last = data->time[k] > last ? data->time[k] : last;
    r2_text_addf(ctx, text, "users %lld\nitems %lld\ninteractions %lld\ndensity %.4g %%\n",
                 (long long)data->n_users, (long long)data->n_items, (long long)data->n_ratings,
                 cells > 0.0 ? 100.0 * (double)data->n_ratings / cells : 0.0);
    r2_text_addf(ctx, text, "titles %lld, and %lld of items that nobody rated\n",
                 (long long)n_titles, (long long)data->n_unrated);
    if (data->unused) r2_text_addf(ctx, text, "columns that are not read: %s\n", data->unused);
    if (data->items_error)
        r2_text_addf(ctx, text, "titles that are missing: %s\n", data->items_error);
    if (data->was_counted)
        r2_text_addf(ctx, text, "counts, not grades: graded 1 to 5 by their order, user by user\n");
    if (data->n_not_rated)
        r2_text_addf(ctx, text, "not rated, left out: %lld\n", (long long)data->n_not_rated);
    if (!data->has_rating) r2_text_addf(ctx, text, "no rating column: every rating is 1\n");
    else r2__add_histogram(ctx, text, data);
    if (!data->has_time) {
        r2_text_addf(ctx, text, "no time column: every time is 0\n");
    } else {
        r2_text_addf(ctx, text, "from ");
        r2__add_date(ctx, text, data->time_zero);
        r2_text_addf(ctx, text, " to ");
        r2__add_date(ctx, text, data->time_zero + last);
        r2_text_addf(ctx, text, "\n");
    }
    r2_data_doubts(ctx, data, text);
    r2_text_addf(ctx, text,
                 "dropped: duplicates %lld, low ratings %lld, outside the time window "
                 "%lld, not in the core %lld\n",
                 (long long)data->n_duplicates, (long long)data->n_dropped_rating,
                 (long long)data->n_dropped_time, (long long)data->n_dropped_core);
    return text->failed ? ctx->status : R2_OK;
}

/* Targets: the positives among the held-out rows of users who are in training too. */
static void r2__split_targets(r2_split *split, const r2_data *data) {
    for (int64_t u = 0; u < data->n_users; ++u) {
        int64_t begin = data->user_begin[u], end = data->user_begin[u + 1];
        bool known = false;
        for (int64_t k = begin; k < end; ++k) known = known || split->role[k] == R2_TRAIN;
        for (int64_t k = begin; k < end && known; ++k) {
            r2_target target = r2__target_make(data, (uint32_t)u, k);
            if (data->rating[k] < split->config.min_positive) continue;
            if (split->role[k] == R2_VALID) split->valid[split->n_valid++] = target;
            if (split->role[k] == R2_TEST) split->test[split->n_test++] = target;
        }
    }
}

/* Gives the rows of one file their role. */
static r2_status r2__split_file(r2_ctx *ctx, r2_split *split, const r2_data *data, const char *path,
                                const r2_format *format, r2_role role) {
    const char *wish[R2__WANTED] = {NULL, NULL, "-", "-"};
    r2__source source;
    r2_text key = {NULL, 0, 0, false};
    bool more = true;
    if (format) {
        wish[0] = format->user;
        wish[1] = format->item;
        if (format->not_rated) wish[2] = format->rating;
    }
    r2_status status = r2__source_open(ctx, &source, path, r2__rating_names, NULL,
                                       format ? format->separator : NULL, wish);
    source.not_rated = format ? format->not_rated : NULL;
    while (status == R2_OK && more) {
        int64_t user, item, row;
        status = r2__source_next(ctx, &source, &more);
        if (status != R2_OK || !more) break;
        if (r2__source_not_rated(&source)) continue;
        status = r2__id_find(ctx, data->user_key, r2__trim(source.field[0]), &key, &user);
        if (status == R2_OK)
            status = r2__id_find(ctx, data->item_key, r2__trim(source.field[1]), &key, &item);
        if (status != R2_OK) break;
        row = user < 0 || item < 0 ? -1 : r2_data_find(data, (uint32_t)user, (uint32_t)item);
        if (row >= 0 && (split->role[row] == R2_TRAIN || split->role[row] == role))
            split->role[row] = (uint8_t)role;
        else
            status = r2__bad_line(ctx, &source.table.lines,
                                  row < 0 ? "an interaction of the data"
                                          : "an interaction of one of the two files",
                                  source.field[1]);
    }
    r2_text_free(ctx, &key);
    r2__source_close(ctx, &source);
    return status;
}

r2_status r2_split_given(r2_ctx *ctx, r2_split *split, const r2_data *data,
                         const r2_split_config *config, const char *valid_path,
                         const char *test_path, const r2_format *format) {
    r2_status status = r2__split_start(ctx, split, data, config, data->n_ratings);
    if (status == R2_OK && valid_path)
        status = r2__split_file(ctx, split, data, valid_path, format, R2_VALID);
    if (status == R2_OK && test_path)
        status = r2__split_file(ctx, split, data, test_path, format, R2_TEST);
    if (status == R2_OK) r2__split_targets(split, data);
    return r2__split_end(ctx, split, data, status);
}

int64_t r2_candidates_catalogue(const r2_data *data, r2_target target, uint32_t *item) {
    const uint32_t *seen = data->item + data->user_begin[target.user];
    int64_t n = data->n_items - (data->user_begin[target.user + 1] - data->user_begin[target.user]);
    item[0] = target.item;
    for (int64_t k = 0; k < n; ++k) item[k + 1] = r2__unseen_item(seen, data->n_items - n, k);
    return n + 1;
}

/* Adds an id after a tab, in quotes where it could not be read back: a tab, a quote, the end of a
   line, a byte order mark. */
static void r2__add_id(r2_ctx *ctx, r2_text *text, const char *id, const char *before) {
    const bool quoted = strpbrk(id, "\t\r\"") || !strncmp(id, "\xEF\xBB\xBF", 3);
    r2_text_addf(ctx, text, "%s%s", before, quoted ? "\"" : id);
    for (const char *at = id; quoted && *at; ++at) {
        if (*at == '"') r2_text_add(ctx, text, at, 1);
        r2_text_add(ctx, text, at, 1);
    }
    if (quoted) r2_text_add(ctx, text, "\"", 1);
}

r2_status r2_candidates_save(r2_ctx *ctx, const r2_candidates *c, const r2_data *data,
                             const char *path) {
    r2_text text = {NULL, 0, 0, false};
    for (int64_t k = 0; k < c->n_cases; ++k) {
        r2__add_id(ctx, &text, data->user_key[c->user[k]], "");
        for (int64_t j = 0; j < c->n_per_case; ++j)
            r2__add_id(ctx, &text, data->item_key[c->item[k * c->n_per_case + j]], "\t");
        r2_text_add(ctx, &text, "\n", 1);
    }
    return r2__write_text(ctx, path, &text);
}

/* A file of candidate sets while it is read. */
typedef struct r2__case_file {
    const r2_data *data;
    r2__table table; /* its lines, and room for ids in quotes */
    r2_text key;
    uint32_t *user, *item; /* lists: (n), (n, n_per_case) */
    int64_t *used_in;      /* (n_items) the last line with this item */
    int64_t n_per_case;    /* 0 before the first line     */
    r2__owner owner;
} r2__case_file;

/* The id that begins at *at, which moves to the tab or end behind it. */
static bool r2__case_id(r2__table *table, const char **at, const char *end, r2__slice *id) {
    const char *tab = (const char *)memchr(*at, '\t', (size_t)(end - *at));
    if (*at < end && **at == '"') {
        *at = r2__unquote(table, *at, end, id);
        return *at && (*at == end || **at == '\t');
    }
    *id = r2__slice_of(*at, (size_t)((tab ? tab : end) - *at));
    *at = tab ? tab : end;
    return true;
}

/* Item `n` of a case, 0 for the positive: once, and no negative is an item of the user. */
static r2_status r2__case_item(r2_ctx *ctx, r2__case_file *file, int64_t n, uint32_t item,
                               r2__slice id) {
    const r2__lines *lines = &file->table.lines;
    if (file->used_in[item] == lines->number)
        return r2__bad_line(ctx, lines, "every item once in a case", id);
    file->used_in[item] = lines->number;
    if (n > 0 && r2_data_find(file->data, stbds_arrlast(file->user), item) >= 0)
        return r2__bad_line(ctx, lines, "a negative, which the user has not rated", id);
    return R2_OK;
}

/* One line: a user and items, between tabs. */
static r2_status r2__case_line(r2_ctx *ctx, r2__case_file *file, r2__slice line) {
    const r2__lines *lines = &file->table.lines;
    const char *at = line.at, *end = line.at + line.len;
    int64_t n = -1, number; /* items so far */
    r2__slice id;
    for (bool more = true; more; ++n) {
        char **keys = n < 0 ? file->data->user_key : file->data->item_key;
        uint32_t **list = n < 0 ? &file->user : &file->item;
        if (n >= 0 && n == file->n_per_case && file->n_per_case > 0)
            return r2__bad_line(ctx, lines, "as many items as before", line);
        if (!r2__case_id(&file->table, &at, end, &id))
            return r2__bad_line(ctx, lines, "closed quotes", line);
        if (r2__id_find(ctx, keys, id, &file->key, &number) != R2_OK) return ctx->status;
        if (number < 0) return r2__bad_line(ctx, lines, n < 0 ? "a user" : "an item", id);
        if (n >= 0 && r2__case_item(ctx, file, n, (uint32_t)number, id) != R2_OK)
            return ctx->status;
        if (r2__array_reserve(ctx, &file->owner, list, sizeof **list, 1) != R2_OK)
            return ctx->status;
        stbds_arrput(*list, (uint32_t)number);
        more = at < end;
        at += more;
    }
    if (file->n_per_case == 0) file->n_per_case = n;
    if (n > 0 && n == file->n_per_case) return R2_OK;
    return r2__bad_line(ctx, lines,
                        n > 0 ? "as many items as before" : "a user and items between tabs", line);
}

r2_status r2_candidates_load(r2_ctx *ctx, r2_candidates *c, const r2_data *data, const char *path) {
    r2__case_file file;
    r2__slice line = {"", 0};
    memset(c, 0, sizeof *c);
    memset(&file, 0, sizeof file);
    file.data = data;
    file.used_in = (int64_t *)r2_alloc(ctx, (uint64_t)data->n_items, sizeof *file.used_in);
    if (!file.used_in) return ctx->status;
    r2_status status = r2__lines_open(ctx, &file.table.lines, path);
    while (status == R2_OK && line.at) {
        status = r2__lines_next(ctx, &file.table.lines, &line);
        if (status == R2_OK && line.at) status = r2__table_room(ctx, &file.table, line.len);
        if (status == R2_OK && line.at) status = r2__case_line(ctx, &file, line);
    }
    if (status == R2_OK)
        status = r2__candidates_alloc(ctx, c, (int64_t)stbds_arrlen(file.user), file.n_per_case);
    if (status == R2_OK && c->n_cases > 0) {
        memcpy(c->user, file.user, stbds_arrlenu(file.user) * sizeof *c->user);
        memcpy(c->item, file.item, stbds_arrlenu(file.item) * sizeof *c->item);
    }
    r2__lines_close(ctx, &file.table.lines);
    r2_release(ctx, file.table.plain);
    r2_release(ctx, file.used_in);
    r2_text_free(ctx, &file.key);
    r2__array_free(ctx, &file.owner, &file.user);
    r2__array_free(ctx, &file.owner, &file.item);
    return status;
}

/* ============================================================================ [E4] kernels ====
   In and out: what ops and decoder of [M7] and `deep` of [M4] take and give, but for rounding.

   Time goes into three places, and each has one remedy: sums stay in vector registers while k runs
   (products), several rows of queries share what is read of the keys (attention), and exp is a
   polynomial on whole vectors (softmax, swiglu):

       b(K,N)  n ->                    panel: | b(k,n..n+w) | b(k+1,n..n+w) | ...  contiguous,
       k |  [ panel | panel | ... ]           padded with zeros to the full width
       c in tiles of R2__TILE_ROWS x 2 vectors

   exp(1): n = round(1 / ln 2) = 1, exp(1 - ln 2) = 1.3591 by the polynomial, 2^1 x 1.3591 = 2.7183
   (test_ops.c). The decoder leaves out rows that nothing reads. Work is divided over outputs: every
   sum has one order for any number of threads, whoever does which part. */

#if !defined(R2_REFERENCE)

/* ---- lanes ----
   A vector of floats, as wide as the target has; one float if it has none. Intrinsics serve two
   purposes that C cannot express: a fused multiply-add (compilers contract a * b + c only outside
   ISO mode) and a square root that leaves errno alone. */

#if defined(__i386__) && !defined(__SSE_MATH__) /* the 80-bit registers of the x87 */
#define R2__FLOAT_MATH 0
#else
#define R2__FLOAT_MATH 1
#endif

#if defined(__AVX512F__) && R2__FLOAT_MATH
#include <immintrin.h>
#define R2__LANES     16
#define R2__TILE_ROWS 12 /* x 2 vectors = 24 accumulators of the 32 registers */
typedef float r2__vec __attribute__((vector_size(64)));
typedef uint32_t r2__uvec __attribute__((vector_size(64)));
#define R2__FMA(a, b, c) ((r2__vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define R2__MAX(a, b)    ((r2__vec)_mm512_maskz_max_ps((__mmask16)-1, (__m512)(a), (__m512)(b)))
#define R2__SQRT(a)      ((r2__vec)_mm512_maskz_sqrt_ps((__mmask16)-1, (__m512)(a)))
#define R2__FIRST(n)     ((__mmask16)((1u << (n)) - 1u)) /* a mask of n lanes, n < 16 */
#elif defined(__AVX2__) && defined(__FMA__) && R2__FLOAT_MATH
#include <immintrin.h>
#define R2__LANES        8
#define R2__TILE_ROWS    6 /* x 2 vectors = 12 accumulators of the 16 registers */
typedef float r2__vec __attribute__((vector_size(32)));
typedef uint32_t r2__uvec __attribute__((vector_size(32)));
#define R2__FMA(a, b, c) ((r2__vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define R2__MAX(a, b)    ((r2__vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define R2__SQRT(a)      ((r2__vec)_mm256_sqrt_ps((__m256)(a)))
#elif defined(__GNUC__) && R2__FLOAT_MATH
#define R2__LANES        4
#define R2__TILE_ROWS    6
typedef float r2__vec __attribute__((vector_size(16)));
typedef uint32_t r2__uvec __attribute__((vector_size(16)));
#define R2__FMA(a, b, c) ((a) * (b) + (c))
#define R2__MAX(a, b)    r2__lanes_max(a, b)
#define R2__SQRT(a)      r2__lanes_sqrt(a)
static inline r2__vec r2__lanes_max(r2__vec a, r2__vec b) {
    for (int l = 0; l < R2__LANES; ++l) a[l] = a[l] > b[l] ? a[l] : b[l];
    return a;
}
static inline r2__vec r2__lanes_sqrt(r2__vec a) {
    for (int l = 0; l < R2__LANES; ++l) a[l] = sqrtf(a[l]);
    return a;
}
#else
#define R2__LANES        1
#define R2__TILE_ROWS    6
typedef float r2__vec;
typedef uint32_t r2__uvec;
#define R2__FMA(a, b, c) ((a) * (b) + (c))
#define R2__MAX(a, b)    ((a) > (b) ? (a) : (b))
#define R2__SQRT(a)      sqrtf(a)
#endif

/* Prefetches the memory at `p`; any address is allowed. Weights that are not in the cache arrive
   twice as fast: the hardware does not predict lines taken from several rows in turn. */
#if defined(__GNUC__)
#define R2__FETCH(p)      __builtin_prefetch((const void *)(p), 0, 2)
#define R2__FETCH_NEAR(p) __builtin_prefetch((const void *)(p), 0, 3) /* into the first cache */
#else
#define R2__FETCH(p)      ((void)(p))
#define R2__FETCH_NEAR(p) ((void)(p))
#endif

/* An instant's rest, in which the other thread of a core has it to itself. */
#if defined(__x86_64__) || defined(__i386__)
#define R2__PAUSE() __builtin_ia32_pause()
#else
#define R2__PAUSE() ((void)0)
#endif

/* R2__UNROLL is for short loops with constant bounds, R2__ROLLED for the loop around them, which
   clang would unroll too, and then run out of registers. */
#if defined(__clang__)
#define R2__UNROLL R2__PRAGMA(clang loop unroll(full))
#define R2__ROLLED R2__PRAGMA(clang loop unroll(disable))
#define R2__INLINE static inline __attribute__((always_inline))
#elif defined(__GNUC__)
#define R2__UNROLL R2__PRAGMA(GCC unroll 16)
#define R2__ROLLED
#define R2__INLINE static inline __attribute__((always_inline))
#else
#define R2__UNROLL
#define R2__ROLLED
#define R2__INLINE static inline
#endif

#define R2__EACH(i, n) R2__UNROLL for (int i = 0; i < (n); ++i)

R2__INLINE r2__vec r2__zero(void) {
    r2__vec v;
    memset(&v, 0, sizeof v);
    return v;
}

R2__INLINE r2__vec r2__all(float x) { return x - r2__zero(); }

R2__INLINE r2__vec r2__load(const float *p) {
    r2__vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

R2__INLINE void r2__store(float *p, r2__vec v) { memcpy(p, &v, sizeof v); }

/* The first `n` floats (all lanes if n is larger); the other lanes are `rest`. A memcpy of unknown
   length costs more than ten whole vectors: masks are used where they exist. */
R2__INLINE r2__vec r2__load_n(const float *p, int64_t n, float rest) {
    if (n >= R2__LANES) return r2__load(p);
    r2__vec v = r2__all(rest);
#if defined(R2__FIRST)
    v = (r2__vec)_mm512_mask_loadu_ps((__m512)v, R2__FIRST(n), p);
#else
    memcpy(&v, p, (size_t)n * sizeof *p);
#endif
    return v;
}

R2__INLINE void r2__store_n(float *p, r2__vec v, int64_t n) {
    if (n >= R2__LANES) {
        r2__store(p, v);
        return;
    }
#if defined(R2__FIRST)
    _mm512_mask_storeu_ps(p, R2__FIRST(n), (__m512)v);
#else
    memcpy(p, &v, (size_t)n * sizeof *p);
#endif
}

#if R2__LANES >= 4
typedef float r2__four __attribute__((vector_size(16)));

/* Adds one half of the lanes to the other until four are left. */
R2__INLINE r2__four r2__sum_to_four(r2__vec v) {
    r2__four part[R2__LANES / 4];
    memcpy(part, &v, sizeof v);
#if R2__LANES >= 16
    part[0] = part[0] + part[2];
    part[1] = part[1] + part[3];
#endif
#if R2__LANES >= 8
    part[0] = part[0] + part[1];
#endif
    return part[0];
}
#endif

/* Sum of the lanes: one half is added to the other until one is left. */
R2__INLINE float r2__sum(r2__vec v) {
#if R2__LANES >= 4
    r2__four part = r2__sum_to_four(v);
    return (part[0] + part[2]) + (part[1] + part[3]);
#else
    return v;
#endif
}

#if R2__LANES >= 4 && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define R2__SHUFFLE __builtin_shufflevector
#endif
#endif

#if defined(R2__SHUFFLE)
/* Transposes a matrix of four times four. */
R2__INLINE void r2__transpose_four(r2__four row[4]) {
    r2__four low[2], high[2];
    for (int i = 0; i < 2; ++i) {
        low[i] = R2__SHUFFLE(row[2 * i], row[2 * i + 1], 0, 4, 1, 5);
        high[i] = R2__SHUFFLE(row[2 * i], row[2 * i + 1], 2, 6, 3, 7);
    }
    row[0] = R2__SHUFFLE(low[0], low[1], 0, 1, 4, 5);
    row[1] = R2__SHUFFLE(low[0], low[1], 2, 3, 6, 7);
    row[2] = R2__SHUFFLE(high[0], high[1], 0, 1, 4, 5);
    row[3] = R2__SHUFFLE(high[0], high[1], 2, 3, 6, 7);
}
#endif

/* to(4) = r2__sum of each of four vectors, the same bits in half the steps. */
R2__INLINE void r2__sum_four(float *to, const r2__vec *v) {
#if defined(R2__SHUFFLE)
    r2__four row[4];
    R2__EACH(i, 4) row[i] = r2__sum_to_four(v[i]);
    r2__transpose_four(row);
    row[0] = (row[0] + row[2]) + (row[1] + row[3]);
    memcpy(to, &row[0], sizeof row[0]);
#else
    for (int i = 0; i < 4; ++i) to[i] = r2__sum(v[i]);
#endif
}

R2__INLINE float r2__largest(r2__vec v) {
    float lane[R2__LANES];
    memcpy(lane, &v, sizeof v);
    for (int width = R2__LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; ++l)
            lane[l] = lane[l] > lane[l + width] ? lane[l] : lane[l + width];
    return lane[0];
}

/* exp(x) = 2^n exp(r) with n = round(x / ln 2): adding 1.5 * 2^23 leaves n in the low bits of the
   sum; exp(r) by the polynomial of Cephes' expf, error below 2 units in the last place. Arguments
   are clipped at -87.3, where the result is still a normal number, and must be below 87.3. */
R2__INLINE r2__vec r2__exp_below(r2__vec x) {
    const float magic = 12582912.0f;
    r2__vec n, r, p, scale;
    r2__uvec bits;
    x = R2__MAX(r2__all(-87.3f), x); /* in this order a NaN passes through */
    n = R2__FMA(x, r2__all(1.44269504f), r2__all(magic));
    memcpy(&bits, &n, sizeof n);
    bits = (bits << 23) + 0x3F800000u; /* n as an exponent; the bits above it are shifted out */
    memcpy(&scale, &bits, sizeof bits);
    n = n - magic;
    r = R2__FMA(n, r2__all(-0.693359375f), x);
    r = R2__FMA(n, r2__all(2.12194440e-4f), r);
    p = R2__FMA(r, r2__all(1.9875691500e-4f), r2__all(1.3981999507e-3f));
    p = R2__FMA(p, r, r2__all(8.3334519073e-3f));
    p = R2__FMA(p, r, r2__all(4.1665795894e-2f));
    p = R2__FMA(p, r, r2__all(1.6666665459e-1f));
    p = R2__FMA(p, r, r2__all(5.0000001201e-1f));
    p = R2__FMA(p, r * r, r + 1.0f);
    return p * scale;
}

/* The same for any x: clipped to +-87.3. */
R2__INLINE r2__vec r2__exp(r2__vec x) { return r2__exp_below(-R2__MAX(r2__all(-87.3f), -x)); }

/* ---- a crew ----
   To wake threads for a parallel region takes 10 us, and 50 where they went to sleep at once, as
   the Makefile has them do for the sake of other programs; the product of one row with its weights
   takes 20. So the threads of a crew stay in one region: the first works through the decoder, and
   all do parts of the jobs that it posts, whoever comes first. Who finds nothing to do stays awake
   for a while, then lets others have the processor. A thread that the system takes off its
   processor between two parts keeps nobody waiting: others do its share. */

typedef void (*r2__job)(const void *job, int64_t t, int64_t threads);

#if defined(_OPENMP)
typedef struct r2__crew {
    r2__job run; /* the job at hand */
    const void *job;
    int64_t parts; /* of every job; those of job k are numbers k parts .. (k + 1) parts - 1 */
    int64_t end, taken, done; /* numbers: of the job's end; that are taken; of parts done */
    bool over;
} r2__crew;

/* Does a part of the job, if one is left. */
static bool r2__take_part(r2__crew *crew) {
    int64_t part = __atomic_load_n(&crew->taken, __ATOMIC_ACQUIRE);
    do
        if (part >= __atomic_load_n(&crew->end, __ATOMIC_ACQUIRE)) return false;
    while (!__atomic_compare_exchange_n(&crew->taken, &part, part + 1, true, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE));
    crew->run(crew->job, part % crew->parts, crew->parts);
    __atomic_add_fetch(&crew->done, 1, __ATOMIC_RELEASE);
    return true;
}

/* Who has looked for work `idle` times in vain waits an instant, awake at first. */
static void r2__rest(int64_t idle) {
    if (idle < 4096) R2__PAUSE();
    else sched_yield();
}

/* What the others do. */
static void r2__serve(r2__crew *crew) {
    for (int64_t idle = 0; !__atomic_load_n(&crew->over, __ATOMIC_ACQUIRE); r2__rest(idle++))
        while (r2__take_part(crew)) idle = 0;
}
#endif

/* Runs all parts of a job. What is written depends on the parts alone. */
static void r2__share_job(const r2_ctx *ctx, int threads, r2__job run, const void *job) {
#if defined(_OPENMP)
    r2__crew *crew = ctx->crew;
    if (crew && threads > 1) {
        crew->run = run;
        crew->job = job;
        __atomic_add_fetch(&crew->end, crew->parts, __ATOMIC_RELEASE);
        while (r2__take_part(crew)) continue;
        for (int64_t idle = 0; __atomic_load_n(&crew->done, __ATOMIC_ACQUIRE) != crew->end;)
            r2__rest(idle++);
        return;
    }
#else
    (void)ctx;
#endif
    R2__FOR_EACH(threads, t, threads, run(job, t, threads));
}

/* ---- matrix product ----
   c is computed in tiles of R2__TILE_ROWS x 2 vectors that stay in registers while k runs. b is
   packed first, R2__PANELS panels of two vectors' width at a time, for R2__DEPTH values of k. a is
   read in place, since its elements are only broadcast, unless consecutive k are on different pages
   or fall into the same cache set. */

#define R2__WIDE   (2 * R2__LANES)
#define R2__PANELS 4
#define R2__DEPTH  192

/* A matrix read as element (i, j) = p[i * rs + j * cs]: transposition is a swap of strides. */
typedef struct r2__view {
    const float *p;
    int64_t rs, cs;
} r2__view;

/* c(rows, n) = or += a(rows, K) panel(K, vectors * lanes), ldp floats from one k of the panel to
   the next; rows and vectors are constants of the caller, so that the loops over them unroll.
   Twelve row pointers do not fit into the registers: three rows share one, and two strides lead
   to the others. The next tile of a is prefetched, row after row. */
R2__INLINE void r2__tile(const int rows, const int vectors, int64_t K, r2__view a,
                         const float *panel, int64_t ldp, float *c, int64_t ldc, int64_t n,
                         bool add) {
    const bool fetch = a.cs == 1; /* one row a step: a line holds many steps */
    const float *next = a.p + rows * a.rs;
    const float *third[(R2__TILE_ROWS + 2) / 3];
    r2__vec acc[R2__TILE_ROWS][2], b[2];
    int until_first = rows;
    R2__EACH(i, rows) acc[i][0] = acc[i][1] = r2__zero();
    R2__UNROLL
    for (int i = 0; i < rows; i += 3) third[i / 3] = a.p + i * a.rs;
    R2__ROLLED
    for (int64_t k = 0; k < K; ++k) {
        if (fetch) {
            R2__FETCH_NEAR(next);
            next += a.rs + 1;
            if (--until_first == 0) {
                until_first = rows;
                next -= rows * a.rs;
            }
        }
        R2__EACH(v, vectors) b[v] = r2__load(panel + k * ldp + v * R2__LANES);
        R2__EACH(i, rows) {
            r2__vec ai = r2__all(third[i / 3][i % 3 * a.rs]);
            R2__EACH(v, vectors) acc[i][v] = R2__FMA(ai, b[v], acc[i][v]);
        }
        R2__UNROLL
        for (int i = 0; i < rows; i += 3) third[i / 3] += a.cs;
    }
    R2__EACH(i, rows) {
        R2__EACH(v, vectors) {
            float *to = c + i * ldc + v * R2__LANES;
            int64_t left = n - v * R2__LANES;
            r2__vec sum = acc[i][v];
            if (add) sum = r2__load_n(to, left, 0.0f) + sum;
            r2__store_n(to, sum, left);
        }
    }
}

#define R2__TILE_EIGHT (R2__TILE_ROWS > 8 ? 8 : 1) /* 1: there is no such tile */

/* Chooses the unrolled variant: rows is 1, 2, 4, R2__TILE_ROWS or, below it, 8. */
static void r2__tile_any(int rows, int64_t K, r2__view a, const float *panel, int64_t ldp, float *c,
                         int64_t ldc, int64_t n, bool add) {
#define R2__TILE(rows)                                                                             \
    do {                                                                                           \
        if (n > R2__LANES) r2__tile(rows, 2, K, a, panel, ldp, c, ldc, n, add);                    \
        else r2__tile(rows, 1, K, a, panel, ldp, c, ldc, n, add);                                  \
    } while (0)
    if (rows == R2__TILE_ROWS) R2__TILE(R2__TILE_ROWS);
    else if (rows == 8) R2__TILE(R2__TILE_EIGHT);
    else if (rows == 4) R2__TILE(4);
    else if (rows == 2) R2__TILE(2);
    else R2__TILE(1);
}

/* to(K, n) = from(n, K)^T, four by four in registers: one by one, packing would take a quarter of
   the time of a small product. */
static void r2__transpose(float *to, int64_t ldt, const float *from, int64_t ldf, int64_t n,
                          int64_t K) {
    for (int64_t j = 0; j < n; j += 4) {
        const int64_t wide = n - j < 4 ? n - j : 4;
        int64_t done = 0;
#if defined(R2__SHUFFLE)
        for (; wide == 4 && done + 4 <= K; done += 4) {
            r2__four row[4];
            for (int i = 0; i < 4; ++i) memcpy(&row[i], from + (j + i) * ldf + done, sizeof row[i]);
            r2__transpose_four(row);
            for (int i = 0; i < 4; ++i) memcpy(to + (done + i) * ldt + j, &row[i], sizeof row[i]);
        }
#endif
        for (int64_t i = j; i < j + wide; ++i)
            for (int64_t k = done; k < K; ++k) to[k * ldt + i] = from[i * ldf + k];
    }
}

/* panel(K, width) = b(K, n), padded with zeros to a width of one or two vectors. */
static void r2__pack_panel(float *panel, r2__view b, int64_t K, int64_t n) {
    const int64_t width = n > R2__LANES ? R2__WIDE : R2__LANES;
    if (b.rs == 1) r2__transpose(panel, width, b.p, b.cs, n, K);
    for (int64_t k = 0; k < K; ++k) {
        float *to = panel + k * width;
        const float *from = b.p + k * b.rs;
        if (b.rs != 1 && n == R2__WIDE) memcpy(to, from, R2__WIDE * sizeof *to);
        else if (b.rs != 1) memcpy(to, from, (size_t)n * sizeof *to);
        for (int64_t j = n; j < width; ++j) to[j] = 0.0f;
    }
}

static int r2__tile_rows(int64_t left) {
    if (left >= R2__TILE_ROWS) return R2__TILE_ROWS;
    return left >= R2__TILE_EIGHT && R2__TILE_EIGHT > 1 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

/* a(M, K), whose columns or whose rows are contiguous, tile after tile as to(K, rows). Contiguous
   columns are read once for all tiles: reading the few floats of one tile at a time would fetch
   every line again. */
static void r2__pack_rows(float *to, r2__view a, int64_t M, int64_t K) {
    int rows;
    if (a.cs == 1) {
        for (int64_t i = 0; i < M; i += rows) {
            rows = r2__tile_rows(M - i);
            r2__transpose(to + i * K, rows, a.p + i * a.rs, a.rs, rows, K);
        }
        return;
    }
    for (int64_t k = 0; k < K; ++k) {
        const float *from = a.p + k * a.cs;
        int64_t i = 0;
        for (; i + R2__TILE_ROWS <= M; i += R2__TILE_ROWS) /* a size that the compiler knows */
            memcpy(to + i * K + k * R2__TILE_ROWS, from + i, R2__TILE_ROWS * sizeof *to);
        for (; i < M; i += rows) {
            rows = r2__tile_rows(M - i);
            memcpy(to + i * K + k * rows, from + i, (size_t)rows * sizeof *to);
        }
    }
}

/* c(M, n) = or += a(M, K) b(K, n) for one block; b is packed, or in place (ldb not 0). */
static void r2__multiply_block(r2__view a, const float *b, int64_t ldb, float *c, int64_t ldc,
                               int64_t M, int64_t n, int64_t K, bool add) {
    const int64_t chunk = 8 * R2__TILE_ROWS;
    const bool copy = a.cs != 1 || a.rs % 1024 == 0;
    float rows_of_a[8 * R2__TILE_ROWS * R2__DEPTH];
    int rows;
    for (int64_t i = 0; i < M; i += rows) {
        const int64_t in = i % chunk; /* a chunk is whole tiles except at the end */
        r2__view part = {a.p + i * a.rs, a.rs, a.cs};
        rows = r2__tile_rows(M - i);
        if (copy && in == 0) r2__pack_rows(rows_of_a, part, M - i < chunk ? M - i : chunk, K);
        if (copy) {
            part.p = rows_of_a + in * K;
            part.rs = 1;
            part.cs = rows;
        }
        for (int64_t j = 0; j < n; j += R2__WIDE)
            r2__tile_any(rows, K, part, ldb ? b + j : b + j * K,
                         ldb                 ? ldb
                         : n - j > R2__LANES ? R2__WIDE
                                             : R2__LANES,
                         c + i * ldc + j, ldc, n - j, add);
    }
}

/* Products with few rows, a row of b at a time: nothing is packed, since each element of b serves
   only `rows` sums. Lanes run along k and are added up at the end. */
#define R2__FEW      (R2__LANES * 3 / 4)
#define R2__DOT_ROWS (R2__LANES > 8 ? 4 : 2)

/* c(rows, cols) = or += a(rows, K) b(cols, K)^T, lda, ldb apart; rows and cols (1 or 4) are
   constants. What is `ahead` floats further in b is prefetched. */
R2__INLINE void r2__dots(const int rows, const int cols, int64_t K, const float *a, int64_t lda,
                         const float *b, int64_t ldb, int64_t ahead, float *c, int64_t ldc,
                         bool add) {
    r2__vec acc[4][4];
    R2__EACH(i, rows) {
        R2__EACH(j, cols) acc[i][j] = r2__zero();
    }
    if (rows == 1) { /* a row of b after the other, as they lie in memory */
        R2__EACH(j, cols) {
            for (int64_t k = 0; k < K; k += R2__LANES) {
                const float *bk = b + j * ldb + k;
                R2__FETCH(bk + ahead);
                acc[0][j] = R2__FMA(r2__load_n(a + k, K - k, 0.0f), r2__load_n(bk, K - k, 0.0f),
                                    acc[0][j]);
            }
        }
    }
    for (int64_t k = 0; k < K && rows > 1; k += R2__LANES) {
        r2__vec bk[4];
        R2__EACH(j, cols) bk[j] = r2__load_n(b + j * ldb + k, K - k, 0.0f);
        R2__EACH(j, cols) R2__FETCH(b + ahead + j * ldb + k);
        R2__EACH(i, rows) {
            r2__vec ai = r2__load_n(a + i * lda + k, K - k, 0.0f);
            R2__EACH(j, cols) acc[i][j] = R2__FMA(ai, bk[j], acc[i][j]);
        }
    }
    R2__EACH(i, rows) {
        float sum[4];
        if (cols == 4) r2__sum_four(sum, acc[i]);
        else sum[0] = r2__sum(acc[i][0]);
        R2__EACH(j, cols) c[i * ldc + j] = add ? c[i * ldc + j] + sum[j] : sum[j];
    }
}

/* c(M,N) = or += a(M,K) b(N,K)^T for few rows of a, on one thread. */
static void r2__multiply_few(const float *a, int64_t lda, const float *b, int64_t ldb,
                             int64_t ahead, float *c, int64_t ldc, int64_t M, int64_t N, int64_t K,
                             bool add) {
    for (int64_t j = 0; j < N; j += 4) {
        const float *bj = b + j * ldb;
        int64_t i = 0;
        if (N - j < 4) {
            for (int64_t e = 0; e < M * (N - j); ++e)
                r2__dots(1, 1, K, a + e % M * lda, lda, bj + e / M * ldb, ldb, ahead,
                         c + e % M * ldc + j + e / M, ldc, add);
            return;
        }
        for (; i + R2__DOT_ROWS <= M; i += R2__DOT_ROWS)
            r2__dots(R2__DOT_ROWS, 4, K, a + i * lda, lda, bj, ldb, ahead, c + i * ldc + j, ldc,
                     add);
        for (; i < M; ++i)
            r2__dots(1, 4, K, a + i * lda, lda, bj, ldb, ahead, c + i * ldc + j, ldc, add);
    }
}

/* c(M,N) = or += a(M,K) b(K,N) on one thread. k is cut into blocks by K alone, never by M, N or
   threads: so the order of each sum is a property of the shape. */
static void r2__multiply(r2__view a, r2__view b, float *c, int64_t ldc, int64_t M, int64_t N,
                         int64_t K, bool add) {
    float packed[R2__PANELS * R2__WIDE * R2__DEPTH];
    int64_t blocks = K > 0 ? (K + R2__DEPTH - 1) / R2__DEPTH : 1;
    for (int64_t block = 0; block < blocks; ++block) {
        int64_t k0 = K * block / blocks, depth = K * (block + 1) / blocks - k0;
        r2__view ak = {a.p + k0 * a.cs, a.rs, a.cs};
        for (int64_t j0 = 0; j0 < N; j0 += R2__PANELS * R2__WIDE) {
            int64_t n = N - j0 < R2__PANELS * R2__WIDE ? N - j0 : R2__PANELS * R2__WIDE;
            /* whole vectors that few rows read are not worth a copy */
            const bool in_place = b.cs == 1 && M <= 2 * R2__TILE_ROWS && n % R2__WIDE == 0;
            for (int64_t j = 0; j < n && !in_place; j += R2__WIDE) {
                r2__view panel = {b.p + k0 * b.rs + (j0 + j) * b.cs, b.rs, b.cs};
                r2__pack_panel(packed + j * depth, panel, depth,
                               n - j < R2__WIDE ? n - j : R2__WIDE);
            }
            r2__multiply_block(ak, in_place ? b.p + k0 * b.rs + j0 : packed, in_place ? b.rs : 0,
                               c + j0, ldc, M, n, depth, add || block > 0);
        }
    }
}

/* Products that are narrow on one side, such as the gradient of low-rank factors, are computed as
   c^T = b^T a^T, so that lanes run along the side that fills them. */
#define R2__SOME   64              /* most rows of c computed so in the forward pass */
#define R2__TURNED 96              /* rows of c^T (columns of narrow c) at a time */
#define R2__FLAT   (4 * R2__DEPTH) /* values of k for which a^T is packed at a time */

/* c(M,n) = or += turned(n,M)^T, four rows at a time: more would compete for few cache sets. */
static void r2__turn_back(float *c, int64_t ldc, const float *turned, int64_t M, int64_t n,
                          bool add) {
    if (add) {
        for (int64_t i = 0; i < M; ++i)
            for (int64_t j = 0; j < n; ++j) c[i * ldc + j] += turned[j * M + i];
        return;
    }
    for (int64_t i = 0; i < M; i += 4)
        r2__transpose(c + i * ldc, ldc, turned + i, M, n, M - i < 4 ? M - i : 4);
}

/* c(M,N) = or += a(M,K) b(K,N) on one thread, M <= R2__SOME and K <= R2__FLAT: a is packed once; b,
   usually large, is read once and in place, which is most of the work for so few rows. */
static void r2__multiply_flat(r2__view a, r2__view b, float *c, int64_t ldc, int64_t M, int64_t N,
                              int64_t K, bool add) {
    float turned[R2__TURNED * R2__SOME], packed[R2__SOME * R2__FLAT];
    const int64_t blocks = K > 0 ? (K + R2__DEPTH - 1) / R2__DEPTH : 1;
    const int64_t width = (M + R2__WIDE - 1) / R2__WIDE * R2__WIDE;
    for (int64_t block = 0; block < blocks; ++block) {
        int64_t k0 = K * block / blocks, depth = K * (block + 1) / blocks - k0;
        for (int64_t i = 0; i < M; i += R2__WIDE) {
            r2__view panel = {a.p + i * a.rs + k0 * a.cs, a.cs, a.rs};
            r2__pack_panel(packed + width * k0 + i * depth, panel, depth,
                           M - i < R2__WIDE ? M - i : R2__WIDE);
        }
    }
    for (int64_t j = 0; j < N; j += R2__TURNED) {
        const int64_t n = N - j < R2__TURNED ? N - j : R2__TURNED;
        for (int64_t block = 0; block < blocks; ++block) {
            int64_t k0 = K * block / blocks, depth = K * (block + 1) / blocks - k0;
            r2__view bt = {b.p + j * b.cs + k0 * b.rs, b.cs, b.rs};
            r2__multiply_block(bt, packed + width * k0, 0, turned, M, n, M, depth, block > 0);
        }
        r2__turn_back(c + j, ldc, turned, M, n, add);
    }
}

/* The same for any K. */
static void r2__multiply_some(r2__view a, r2__view b, float *c, int64_t ldc, int64_t M, int64_t N,
                              int64_t K, bool add) {
    int64_t k = 0;
    do {
        r2__view ak = {a.p + k * a.cs, a.rs, a.cs}, bk = {b.p + k * b.rs, b.rs, b.cs};
        r2__multiply_flat(ak, bk, c, ldc, M, N, K - k < R2__FLAT ? K - k : R2__FLAT, add || k > 0);
        k += R2__FLAT;
    } while (k < K);
}

/* The same for N <= R2__LANES and any M and K, in the gradient of a weight. */
static void r2__multiply_tall(r2__view a, r2__view b, float *c, int64_t ldc, int64_t M, int64_t N,
                              int64_t K, bool add) {
    float turned[R2__TURNED * R2__LANES];
    r2__view bt = {b.p, b.cs, b.rs};
    for (int64_t i = 0; i < M; i += R2__TURNED) {
        const int64_t m = M - i < R2__TURNED ? M - i : R2__TURNED;
        r2__view at = {a.p + i * a.rs, a.cs, a.rs};
        r2__multiply(bt, at, turned, m, N, m, K, false);
        r2__turn_back(c + i * ldc, ldc, turned, m, N, add);
    }
}

/* A product as a job: each thread computes a part of c. */
typedef struct r2__product {
    r2__view a, b;
    int64_t lda, ldb, ldc, M, N, K;
    float *c;
    bool few, some, tall, add;
} r2__product;

static void r2__multiply_part(const void *job, int64_t t, int64_t threads) {
    const r2__product *p = (const r2__product *)job;
    /* Divide rows over threads, unless they are too few for an even division. */
    const bool by_rows = !p->some && (p->M >= 8 * R2__TILE_ROWS * threads ||
                                      p->M / R2__TILE_ROWS >= p->N / R2__WIDE);
    /* columns of c in whole sums of r2__multiply_few, whole tiles of c^T, whole panels */
    const int64_t j_unit = p->few ? 4 : p->some ? R2__TILE_ROWS : R2__WIDE;
    const r2__range i = r2__share(p->M, R2__TILE_ROWS, by_rows ? t : 0, by_rows ? threads : 1);
    const r2__range j = r2__share(p->N, j_unit, by_rows ? 0 : t, by_rows ? 1 : threads);
    const r2__view a = {p->a.p + i.begin * p->a.rs, p->a.rs, p->a.cs};
    const r2__view b = {p->b.p + j.begin * p->b.cs, p->b.rs, p->b.cs};
    const int64_t ldc = p->ldc, m = i.end - i.begin, n = j.end - j.begin, K = p->K;
    float *to = p->c + i.begin * ldc + j.begin;
    if (p->few)
        r2__multiply_few(a.p, p->lda, b.p, p->ldb, 8 * p->ldb, to, ldc, m, n, K, p->add);
    else if (p->some) r2__multiply_some(a, b, to, ldc, m, n, K, p->add);
    else if (p->tall) r2__multiply_tall(a, b, to, ldc, m, n, K, p->add);
    else r2__multiply(a, b, to, ldc, m, n, K, p->add);
}

void r2_matmul(const r2_ctx *ctx, r2_layout layout, int64_t M, int64_t N, int64_t K, const float *a,
               int64_t lda, const float *b, int64_t ldb, float *c, int64_t ldc, bool add) {
    r2__product p = {{a, lda, 1}, {b, ldb, 1}, lda, ldb, ldc, M, N, K, c, false, false, false, add};
    if (layout == R2_TN) p.a.rs = 1, p.a.cs = lda;
    if (layout == R2_NT) p.b.rs = 1, p.b.cs = ldb;
    p.few = layout == R2_NT && M <= R2__FEW;
    p.some = layout == R2_NT && M <= R2__SOME;
    p.tall = layout == R2_TN && N <= R2__LANES && M > N;
    r2__share_job(ctx, r2_threads(ctx, p.some ? N * K / 4 : M * N / 16 * K), r2__multiply_part, &p);
}

/* ---- rows: norm, positions, gates ---- */

static float r2__rmsnorm_row(float *y, const float *x, const float *gain, int64_t C, float eps) {
    r2__vec squares = r2__zero(), scale;
    for (int64_t c = 0; c < C; c += R2__LANES) {
        r2__vec v = r2__load_n(x + c, C - c, 0.0f);
        squares = R2__FMA(v, v, squares);
    }
    float rstd = 1.0f / sqrtf(r2__sum(squares) / (float)C + eps);
    scale = r2__all(rstd);
    for (int64_t c = 0; c < C; c += R2__LANES)
        r2__store_n(y + c,
                    r2__load_n(x + c, C - c, 0.0f) * scale * r2__load_n(gain + c, C - c, 0.0f),
                    C - c);
    return rstd;
}

void r2_rmsnorm_fwd(const r2_ctx *ctx, float *y, float *rstd, const float *x, const float *gain,
                    int64_t R, int64_t C, float eps) {
    const int threads = r2_threads(ctx, R * C / 4);
    R2__FOR_EACH(threads, r, R, rstd[r] = r2__rmsnorm_row(y + r * C, x + r * C, gain, C, eps));
}

static void r2__rmsnorm_bwd_row(float *dx, const float *dy, const float *x, const float *gain,
                                float rstd, int64_t C) {
    r2__vec dot = r2__zero(), scale = r2__all(rstd), mean;
    for (int64_t c = 0; c < C; c += R2__LANES)
        dot = R2__FMA(r2__load_n(gain + c, C - c, 0.0f) * r2__load_n(dy + c, C - c, 0.0f),
                      r2__load_n(x + c, C - c, 0.0f), dot);
    mean = r2__all(r2__sum(dot) * rstd * rstd / (float)C);
    for (int64_t c = 0; c < C; c += R2__LANES) {
        r2__vec d = r2__load_n(gain + c, C - c, 0.0f) * r2__load_n(dy + c, C - c, 0.0f);
        d = (d - mean * r2__load_n(x + c, C - c, 0.0f)) * scale;
        r2__store_n(dx + c, r2__load_n(dx + c, C - c, 0.0f) + d, C - c);
    }
}

void r2_rmsnorm_bwd(const r2_ctx *ctx, float *dx, float *dgain, const float *dy, const float *x,
                    const float *gain, const float *rstd, int64_t R, int64_t C) {
    const int threads = r2_threads(ctx, R * C / 2);
    if (dgain) {
        R2_PARALLEL_FOR(threads, t, (C + R2__LANES - 1) / R2__LANES) {
            int64_t c = t * R2__LANES;
            r2__vec sum = r2__load_n(dgain + c, C - c, 0.0f);
            for (int64_t r = 0; r < R; ++r)
                sum = R2__FMA(r2__load_n(dy + r * C + c, C - c, 0.0f) * rstd[r],
                              r2__load_n(x + r * C + c, C - c, 0.0f), sum);
            r2__store_n(dgain + c, sum, C - c);
        }
    }
    R2_PARALLEL_FOR(threads, r, R)
    r2__rmsnorm_bwd_row(dx + r * C, dy + r * C, x + r * C, gain, rstd[r], C);
}

static void r2__rope_row(float *x, const float *cosine, int32_t n_head, int32_t d_head,
                         int direction) {
    const int64_t half = d_head / 2;
    const float *sine = cosine + half;
    for (int32_t h = 0; h < n_head; ++h) {
        float *x1 = x + h * d_head, *x2 = x1 + half;
        for (int64_t d = 0; d < half; d += R2__LANES) {
            int64_t left = half - d;
            r2__vec a = r2__load_n(x1 + d, left, 0.0f), b = r2__load_n(x2 + d, left, 0.0f);
            r2__vec c = r2__load_n(cosine + d, left, 0.0f);
            r2__vec s = r2__load_n(sine + d, left, 0.0f) * (float)direction;
            r2__store_n(x1 + d, a * c - b * s, left);
            r2__store_n(x2 + d, b * c + a * s, left);
        }
    }
}

void r2_rope(const r2_ctx *ctx, float *x, int64_t ld, const int32_t *position, const float *table,
             int64_t R, int32_t n_head, int32_t d_head, int direction) {
    const int threads = r2_threads(ctx, 2 * R * n_head * d_head);
    R2__FOR_EACH(threads, r, R,
                 r2__rope_row(x + r * ld, table + (int64_t)position[r] * d_head, n_head, d_head,
                              direction));
}

static void r2__swiglu_row(float *y, const float *g, int64_t F) {
    const float *u = g + F;
    for (int64_t f = 0; f < F; f += R2__LANES) {
        r2__vec gate = r2__load_n(g + f, F - f, 0.0f);
        r2__vec value = gate * r2__load_n(u + f, F - f, 0.0f) / (1.0f + r2__exp(-gate));
        r2__store_n(y + f, value, F - f);
    }
}

void r2_swiglu_fwd(const r2_ctx *ctx, float *y, const float *gu, int64_t R, int64_t F) {
    const int threads = r2_threads(ctx, R * F);
    R2__FOR_EACH(threads, r, R, r2__swiglu_row(y + r * F, gu + r * 2 * F, F));
}

void r2_swiglu_bwd(const r2_ctx *ctx, float *dgu, const float *dy, const float *gu, int64_t R,
                   int64_t F) {
    const int threads = r2_threads(ctx, R * F);
    R2_PARALLEL_FOR(threads, r, R) {
        const float *g = gu + r * 2 * F, *u = g + F;
        float *dg = dgu + r * 2 * F, *du = dg + F;
        for (int64_t f = 0; f < F; f += R2__LANES) {
            r2__vec gate = r2__load_n(g + f, F - f, 0.0f), up = r2__load_n(u + f, F - f, 0.0f);
            r2__vec d = r2__load_n(dy + r * F + f, F - f, 0.0f);
            r2__vec s = 1.0f / (1.0f + r2__exp(-gate));
            r2__store_n(du + f, d * gate * s, F - f);
            r2__store_n(dg + f, d * up * s * (1.0f + gate * (1.0f - s)), F - f);
        }
    }
}

void r2_embed_fwd(const r2_ctx *ctx, float *x, const float *table, const int32_t *token, int64_t R,
                  int64_t C) {
    const int threads = r2_threads(ctx, R * C / 8);
    R2__FOR_EACH(threads, r, R, memcpy(x + r * C, table + token[r] * C, (size_t)C * sizeof *x));
}

void r2_embed_bwd(const r2_ctx *ctx, float *dtable, const float *dx, const int32_t *token,
                  int64_t R, int64_t C) {
    const int threads = r2_threads(ctx, R * C / 4);
    R2_PARALLEL_FOR(threads, t, threads) { /* over columns: a token may occur in any row */
        r2__range c = r2__share(C, R2__LANES, t, threads);
        for (int64_t r = 0; r < R; ++r) {
            float *to = dtable + token[r] * C;
            for (int64_t j = c.begin; j < c.end; ++j) to[j] += dx[r * C + j];
        }
    }
}

void r2_bias_fwd(const r2_ctx *ctx, float *y, const float *bias, int64_t R, int64_t C) {
    const int threads = r2_threads(ctx, R * C / 4);
    R2_PARALLEL_FOR(threads, r, R)
    for (int64_t c = 0; c < C; ++c) y[r * C + c] += bias[c];
}

void r2_bias_bwd(const r2_ctx *ctx, float *dbias, const float *dy, int64_t R, int64_t C) {
    const int threads = r2_threads(ctx, R * C / 4);
    R2_PARALLEL_FOR(threads, t, threads) {
        r2__range c = r2__share(C, R2__LANES, t, threads);
        for (int64_t r = 0; r < R; ++r)
            for (int64_t j = c.begin; j < c.end; ++j) dbias[j] += dy[r * C + j];
    }
}

/* ---- attention ----
   A job is one sequence with its branches and one key-value head with the query heads that share
   it, so that dk and dv belong to one job. Scores exist for R2__QUERIES rows at a time, in scratch:

              shared rows | own rows ->  0 ...... q0 .... q1
       q0   [ x x x x x x   x x x x x x x x \ 0 0 0 ]   beyond the diagonal they are zero,
       q1   [ x x x x x x   x x x x x x x x x x x \ ]   beyond q1 they are not computed

   Shared rows are those of the sequence that a branch continues. */

#define R2__QUERIES 64

/* The largest number of keys that a row of these sequences attends to. */
static int64_t r2__most_keys(const r2_attention *shape) {
    int64_t most = 0, shared = 0;
    for (int32_t s = 0; s < shape->n_seq; ++s) {
        const bool branch = shape->branch && shape->branch[s];
        int64_t own = shape->seq_begin[s + 1] - shape->seq_begin[s];
        int64_t keys = own + (branch ? shared : 0);
        if (!branch) shared = own;
        if (keys > most) most = keys;
    }
    return most;
}

int64_t r2_attention_scratch(const r2_ctx *ctx, const r2_attention *shape) {
    return 2 * (int64_t)r2__n_threads(ctx) * R2__QUERIES * r2__most_keys(shape);
}

static int r2__attention_threads(const r2_ctx *ctx, const r2_attention *shape, int64_t keys) {
    const int64_t rows = shape->seq_begin[shape->n_seq];
    return r2_threads(ctx, rows * keys * shape->n_head * shape->d_head / 16);
}

/* p(keys) = softmax(scale s(keys)), in place; returns the logarithm of the sum. */
static float r2__softmax(float *s, int64_t keys, float scale) {
    const float lowest = -FLT_MAX;
    r2__vec top = r2__all(lowest), sum = r2__zero();
    for (int64_t j = 0; j < keys; j += R2__LANES)
        top = R2__MAX(top, r2__load_n(s + j, keys - j, lowest));
    float shift = r2__largest(top);
    for (int64_t j = 0; j < keys; j += R2__LANES) {
        r2__vec e = r2__exp_below((r2__load_n(s + j, keys - j, lowest) - shift) * scale);
        r2__store_n(s + j, e, keys - j);
        sum = sum + e; /* the lanes beyond `keys` hold 1e-38 at most */
    }
    float total = r2__sum(sum);
    for (int64_t j = 0; j < keys; j += R2__LANES)
        r2__store_n(s + j, r2__load_n(s + j, keys - j, 0.0f) / total, keys - j);
    return shift * scale + logf(total);
}

/* One query head of one sequence, pointers at its first row; k0, v0 at the shared rows. */
typedef struct r2__head_view {
    int64_t length, shared; /* own rows, shared rows (0: no branch) */
    int64_t first;          /* the first own row that attends       */
    int64_t ld, ld_out, n_head, d;
    const float *q, *k, *v, *k0, *v0, *out, *dout, *lse;
    float *dq, *dk, *dv, *dk0, *dv0;
} r2__head_view;

static void r2__attend(const r2__head_view *x, float *out, float *lse, float *s) {
    const float scale = 1.0f / sqrtf((float)x->d);
    const int64_t ld = x->ld, d = x->d, m = x->shared;
    for (int64_t q0 = x->first; q0 < x->length; q0 += R2__QUERIES) {
        int64_t q1 = q0 + R2__QUERIES < x->length ? q0 + R2__QUERIES : x->length, n = q1 - q0;
        int64_t width = m + q1;
        float *y = out + q0 * x->ld_out;
        r2__view queries = {x->q + q0 * ld, ld, 1}, keys = {x->k, 1, ld}, keys0 = {x->k0, 1, ld};
        r2__view values = {x->v, ld, 1}, values0 = {x->v0, ld, 1};
        r2__view probs = {s + m, width, 1}, probs0 = {s, width, 1};
        if (m > 0) r2__multiply(queries, keys0, s, width, n, m, d, false);
        r2__multiply(queries, keys, s + m, width, n, q1, d, false);
        for (int64_t i = q0; i < q1; ++i) {
            float *row = s + (i - q0) * width;
            lse[i * x->n_head] = r2__softmax(row, m + i + 1, scale);
            memset(row + m + i + 1, 0, (size_t)(q1 - i - 1) * sizeof *row);
        }
        if (m > 0) r2__multiply(probs0, values0, y, x->ld_out, n, d, m, false);
        r2__multiply(probs, values, y, x->ld_out, n, d, q1, m > 0);
    }
}

/* Turns the scores p of one row into probabilities, and the gradients dp of these into those of the
   scores: `keys` that it attends to, of `width`; D is the product of out and dout. */
static void r2__softmax_bwd(float *p, float *dp, float D, float lse, float scale, int64_t keys,
                            int64_t width) {
    for (int64_t j = 0; j < keys; j += R2__LANES) {
        r2__vec e = r2__exp(r2__load_n(p + j, keys - j, 0.0f) * scale - lse);
        r2__store_n(p + j, e, keys - j);
        r2__store_n(dp + j, e * (r2__load_n(dp + j, keys - j, 0.0f) - D) * scale, keys - j);
    }
    memset(p + keys, 0, (size_t)(width - keys) * sizeof *p);
    memset(dp + keys, 0, (size_t)(width - keys) * sizeof *dp);
}

static float r2__dot(const float *a, const float *b, int64_t n) {
    r2__vec sum = r2__zero();
    for (int64_t j = 0; j < n; j += R2__LANES)
        sum = R2__FMA(r2__load_n(a + j, n - j, 0.0f), r2__load_n(b + j, n - j, 0.0f), sum);
    return r2__sum(sum);
}

/* For the n queries of one block and n_keys keys, whose probabilities p and score gradients dp are
   given: adds to (or sets) dq, adds to dk and dv. */
static void r2__attend_keys_bwd(const r2__head_view *x, int64_t q0, int64_t n, const float *k,
                                float *dk, float *dv, int64_t n_keys, const float *p,
                                const float *dp, int64_t width, bool add) {
    const int64_t ld = x->ld, d = x->d;
    r2__view queries = {x->q + q0 * ld, ld, 1}, keys = {k, ld, 1};
    r2__view douts = {x->dout + q0 * x->ld_out, x->ld_out, 1};
    r2__view scores = {dp, width, 1}, scores_t = {dp, 1, width}, probs_t = {p, 1, width};
    r2__multiply(scores, keys, x->dq + q0 * ld, ld, n, d, n_keys, add);
    r2__multiply(scores_t, queries, dk, ld, n_keys, d, n, true);
    r2__multiply(probs_t, douts, dv, ld, n_keys, d, n, true);
}

/* Backward of one query head: sets dq, adds to dk and dv, own and shared. */
static void r2__attend_bwd(const r2__head_view *x, float *p, float *dp) {
    const float scale = 1.0f / sqrtf((float)x->d);
    const int64_t ld = x->ld, d = x->d, m = x->shared;
    for (int64_t q0 = x->first; q0 < x->length; q0 += R2__QUERIES) {
        int64_t q1 = q0 + R2__QUERIES < x->length ? q0 + R2__QUERIES : x->length, n = q1 - q0;
        int64_t width = m + q1;
        r2__view queries = {x->q + q0 * ld, ld, 1}, keys = {x->k, 1, ld}, keys0 = {x->k0, 1, ld};
        r2__view douts = {x->dout + q0 * x->ld_out, x->ld_out, 1};
        r2__view values = {x->v, 1, ld}, values0 = {x->v0, 1, ld};
        if (m > 0) r2__multiply(queries, keys0, p, width, n, m, d, false);
        if (m > 0) r2__multiply(douts, values0, dp, width, n, m, d, false);
        r2__multiply(queries, keys, p + m, width, n, q1, d, false);
        r2__multiply(douts, values, dp + m, width, n, q1, d, false);
        for (int64_t i = q0; i < q1; ++i) {
            float D = r2__dot(x->out + i * x->ld_out, x->dout + i * x->ld_out, d);
            r2__softmax_bwd(p + (i - q0) * width, dp + (i - q0) * width, D, x->lse[i * x->n_head],
                            scale, m + i + 1, width);
        }
        if (m > 0) r2__attend_keys_bwd(x, q0, n, x->k0, x->dk0, x->dv0, m, p, dp, width, false);
        r2__attend_keys_bwd(x, q0, n, x->k, x->dk, x->dv, q1, p + m, dp + m, width, m > 0);
    }
}

/* The view of query head h of sequence s, which continues sequence `root` (itself: no branch). */
static r2__head_view r2__view_head(const r2_attention *shape, int32_t s, int32_t root, int32_t h,
                                   const float *qkv, float *dqkv) {
    const int32_t H = shape->n_head, G = shape->n_kv_head, *begin = shape->seq_begin;
    const int64_t d = shape->d_head, ld = (H + 2 * G) * d, key = (H + h / (H / G)) * d;
    r2__head_view x;
    memset(&x, 0, sizeof x);
    x.length = begin[s + 1] - begin[s];
    x.shared = s == root ? 0 : begin[root + 1] - begin[root];
    x.first = r2__first_query(shape, s) - begin[s];
    x.ld = ld;
    x.ld_out = H * d;
    x.n_head = H;
    x.d = d;
    x.q = qkv + begin[s] * ld + h * d;
    x.k = qkv + begin[s] * ld + key;
    x.v = x.k + G * d;
    x.k0 = qkv + begin[root] * ld + key;
    x.v0 = x.k0 + G * d;
    if (!dqkv) return x;
    x.dq = dqkv + begin[s] * ld + h * d;
    x.dk = dqkv + begin[s] * ld + key;
    x.dv = x.dk + G * d;
    x.dk0 = dqkv + begin[root] * ld + key;
    x.dv0 = x.dk0 + G * d;
    return x;
}

void r2_attention_fwd(const r2_ctx *ctx, const r2_attention *shape, float *out, float *lse,
                      const float *qkv, float *scratch) {
    const int32_t H = shape->n_head;
    const int64_t keys = r2__most_keys(shape);
    const int threads = r2__attention_threads(ctx, shape, keys);
    R2_PARALLEL_FOR(threads, t, threads) {
        int32_t root = 0;
        for (int32_t s = 0; s < shape->n_seq; ++s) {
            if (!shape->branch || !shape->branch[s]) root = s;
            for (int32_t h = 0; h < H; ++h) {
                r2__head_view x = r2__view_head(shape, s, root, h, qkv, NULL);
                int64_t row = shape->seq_begin[s];
                if (((int64_t)s * H + h) % threads != t) continue;
                r2__attend(&x, out + row * x.ld_out + h * x.d, lse + row * H + h,
                           scratch + t * R2__QUERIES * keys);
            }
        }
    }
}

/* What the backward pass of attention reads and writes. */
typedef struct r2__attention_pass {
    const r2_attention *shape;
    float *dqkv;
    const float *dout, *out, *lse, *qkv;
} r2__attention_pass;

/* Sequence s, which continues `root`, and key-value head g: all query heads that share it. */
static void r2__attend_kv_bwd(const r2__attention_pass *pass, int32_t s, int32_t root, int32_t g,
                              float *p, float *dp) {
    const r2_attention *shape = pass->shape;
    const int32_t H = shape->n_head, sharing = H / shape->n_kv_head;
    const int64_t row = shape->seq_begin[s];
    for (int32_t h = g * sharing; h < (g + 1) * sharing; ++h) {
        r2__head_view x = r2__view_head(shape, s, root, h, pass->qkv, pass->dqkv);
        x.out = pass->out + row * x.ld_out + h * x.d;
        x.dout = pass->dout + row * x.ld_out + h * x.d;
        x.lse = pass->lse + row * H + h;
        for (int64_t r = 0; r < x.first; ++r)
            memset(x.dq + r * x.ld, 0, (size_t)x.d * sizeof *x.dq);
        for (int64_t r = 0; r < x.length && h == g * sharing; ++r) {
            memset(x.dk + r * x.ld, 0, (size_t)x.d * sizeof *x.dk);
            memset(x.dv + r * x.ld, 0, (size_t)x.d * sizeof *x.dv);
        }
        r2__attend_bwd(&x, p, dp);
    }
}

void r2_attention_bwd(const r2_ctx *ctx, const r2_attention *shape, float *dqkv, const float *dout,
                      const float *out, const float *lse, const float *qkv, float *scratch) {
    const r2__attention_pass pass = {shape, dqkv, dout, out, lse, qkv};
    const int32_t G = shape->n_kv_head;
    const int64_t keys = r2__most_keys(shape), slot = R2__QUERIES * keys;
    const int threads = r2__attention_threads(ctx, shape, 2 * keys);
    R2_PARALLEL_FOR(threads, t, threads) {
        float *p = scratch + 2 * t * slot;
        int32_t root = 0;
        for (int32_t s = 0; s < shape->n_seq; ++s) {
            if (!shape->branch || !shape->branch[s]) root = s;
            for (int32_t g = 0; g < G; ++g) /* branches belong to the thread of their root */
                if (((int64_t)root * G + g) % threads == t)
                    r2__attend_kv_bwd(&pass, s, root, g, p, p + slot);
        }
    }
}

/* ---- low-rank additions ---- */

/* to(n r, I) = scale a of all adapters, one below the other. */
static void r2__stack_a(float *to, const r2_adapters *all) {
    const int64_t size = all->rank * all->n_in;
    for (int32_t i = 0; i < all->n; ++i)
        for (int64_t j = 0; j < size; ++j) to[i * size + j] = all->scale * all->adapter[i].a[j];
}

void r2_lora_fwd(const r2_ctx *ctx, float *y, int64_t ldy, const r2_adapters *all, const float *x,
                 int64_t R) {
    const int64_t n_in = all->n_in, rank = all->rank, ranks = all->n * rank;
    float *a = all->scratch, *t = a + ranks * n_in; /* (ranks, I), (R, ranks) */
    r2__stack_a(a, all);
    r2_matmul(ctx, R2_NT, R, ranks, n_in, x, n_in, a, n_in, t, ranks, false);
    for (int32_t i = 0; i < all->n; ++i)
        r2_matmul(ctx, R2_NT, R, all->adapter[i].n_out, rank, t + i * rank, ranks,
                  all->adapter[i].b, rank, y + all->adapter[i].column, ldy, true);
}

void r2_lora_bwd(const r2_ctx *ctx, float *dx, const r2_adapters *all, const float *dy, int64_t ldy,
                 const float *x, int64_t R) {
    const int64_t n_in = all->n_in, rank = all->rank, ranks = all->n * rank;
    /* (ranks, I), (R, ranks): scale a and x a^T; then their gradients but for scale */
    float *a = all->scratch, *t = a + ranks * n_in, *da = t + R * ranks, *dt = da + ranks * n_in;
    r2__stack_a(a, all);
    r2_matmul(ctx, R2_NT, R, ranks, n_in, x, n_in, a, n_in, t, ranks, false);
    for (int32_t i = 0; i < all->n; ++i) {
        const r2_adapter *p = &all->adapter[i];
        const float *dyp = dy + p->column;
        r2_matmul(ctx, R2_TN, p->n_out, rank, R, dyp, ldy, t + i * rank, ranks, p->db, rank, true);
        r2_matmul(ctx, R2_NN, R, rank, p->n_out, dyp, ldy, p->b, rank, dt + i * rank, ranks, false);
    }
    r2_matmul(ctx, R2_TN, ranks, n_in, R, dt, ranks, x, n_in, da, n_in, false);
    for (int32_t i = 0; i < all->n; ++i)
        for (int64_t j = 0; j < rank * n_in; ++j)
            all->adapter[i].da[j] += all->scale * da[i * rank * n_in + j];
    if (dx) r2_matmul(ctx, R2_NN, R, n_in, ranks, dt, ranks, a, n_in, dx, n_in, true);
}

/* to(I) = from(I) + scale b(r) a(r,I) of one adapter. */
static void r2__lora_sum_row(float *to, const float *from, const float *b, const float *a,
                             const r2_adapters *all) {
    const int64_t n_in = all->n_in;
    for (int64_t c = 0; c < n_in; c += R2__LANES) {
        r2__vec product = r2__zero();
        for (int64_t k = 0; k < all->rank; ++k)
            product = R2__FMA(r2__all(b[k]), r2__load_n(a + k * n_in + c, n_in - c, 0.0f), product);
        product = R2__FMA(product, r2__all(all->scale), r2__load_n(from + c, n_in - c, 0.0f));
        r2__store_n(to + c, product, n_in - c);
    }
}

void r2_lora_sum(const r2_ctx *ctx, float *sum, const float *w, const r2_adapters *all,
                 int64_t n_out) {
    const int threads = r2_threads(ctx, n_out * all->n_in * all->rank / 4);
    R2_PARALLEL_FOR(threads, o, n_out) {
        const float *from = w + o * all->n_in;
        float *to = sum + o * all->n_in;
        for (int32_t i = 0; i < all->n; ++i) {
            const r2_adapter *p = &all->adapter[i];
            const int64_t row = o - p->column;
            if (row < 0 || row >= p->n_out) continue;
            r2__lora_sum_row(to, from, p->b + row * all->rank, p->a, all);
            from = to; /* copied */
        }
        r2__copy(to, from, all->n_in);
    }
}

/* ---- log-probabilities ---- */

static float r2__logsumexp_row(const float *x, int64_t V, float *entropy) {
    r2__vec top = r2__all(-FLT_MAX), sum = r2__zero(), weighted = r2__zero();
    for (int64_t v = 0; v < V; v += R2__LANES)
        top = R2__MAX(top, r2__load_n(x + v, V - v, -FLT_MAX));
    float shift = r2__largest(top);
    for (int64_t v = 0; v < V; v += R2__LANES) {
        /* exp(-200) adds nothing: the lanes beyond V do no harm */
        r2__vec z = r2__load_n(x + v, V - v, shift - 200.0f) - shift;
        r2__vec e = r2__exp_below(z);
        sum = sum + e;
        if (entropy) weighted = R2__FMA(e, z, weighted);
    }
    float total = r2__sum(sum);
    if (entropy) *entropy = logf(total) - r2__sum(weighted) / total;
    return shift + logf(total);
}

void r2_logsumexp_fwd(const r2_ctx *ctx, float *lse, float *entropy, const float *logits, int64_t R,
                      int64_t V) {
    const int threads = R > 1 ? r2_threads(ctx, R * V) : 1;
    R2__FOR_EACH(threads, r, R,
                 lse[r] = r2__logsumexp_row(logits + r * V, V, entropy ? entropy + r : NULL));
}

void r2_logp_bwd(const r2_ctx *ctx, float *logits, const float *lse, const int64_t *begin,
                 const int32_t *token, const float *dlogp, int64_t R, int64_t V) {
    const int threads = r2_threads(ctx, R * V);
    R2_PARALLEL_FOR(threads, r, R) {
        float *x = logits + r * V, total = 0.0f;
        for (int64_t j = begin[r]; j < begin[r + 1]; ++j) total += dlogp[j];
        for (int64_t v = 0; v < V; v += R2__LANES) {
            r2__vec p = r2__exp(r2__load_n(x + v, V - v, 0.0f) - lse[r]);
            r2__store_n(x + v, p * -total, V - v);
        }
        for (int64_t j = begin[r]; j < begin[r + 1]; ++j) x[token[j]] += dlogp[j];
    }
}

/* ---- AdamW ---- */

#define R2__NORM_PIECE 16384

/* Pieces of one size are summed in lanes, then their sums in order. */
double r2_sum_squares(const r2_ctx *ctx, const float *x, int64_t n) {
    enum { pieces = 64 };
    const int threads = r2_threads(ctx, n / 8);
    double piece[pieces], total = 0.0;
    for (int64_t first = 0; first < n; first += (int64_t)pieces * R2__NORM_PIECE) {
        R2_PARALLEL_FOR(threads, p, pieces) {
            int64_t begin = first + p * R2__NORM_PIECE, end = begin + R2__NORM_PIECE;
            r2__vec sum = r2__zero();
            if (end > n) end = n;
            for (int64_t i = begin; i < end; i += R2__LANES) {
                r2__vec v = r2__load_n(x + i, end - i, 0.0f);
                sum = R2__FMA(v, v, sum);
            }
            piece[p] = (double)r2__sum(sum);
        }
        for (int p = 0; p < pieces; ++p) total += piece[p];
    }
    return total;
}

static void r2__adamw_range(const r2_adamw_factors *f, float *w, const float *g, float *m, float *v,
                            int64_t n) {
    for (int64_t i = 0; i < n; i += R2__LANES) {
        const int64_t left = n - i;
        r2__vec grad = r2__load_n(g + i, left, 0.0f) * f->scale,
                weight = r2__load_n(w + i, left, 0.0f);
        r2__vec first = r2__load_n(m + i, left, 0.0f), second = r2__load_n(v + i, left, 0.0f);
        first = first * f->beta1 + grad * (1.0f - f->beta1);
        second = second * f->beta2 + grad * grad * (1.0f - f->beta2);
        weight = weight * (1.0f - f->lr * f->decay) -
                 first * (f->fix1 * f->lr) / (R2__SQRT(second * f->fix2) + f->eps);
        r2__store_n(w + i, weight, left);
        r2__store_n(m + i, first, left);
        r2__store_n(v + i, second, left);
    }
}

void r2_adamw_update(const r2_ctx *ctx, const r2_adamw_factors *f, float *w, const float *g,
                     float *m, float *v, int64_t n) {
    const int threads = r2_threads(ctx, n / 4);
    R2_PARALLEL_FOR(threads, t, threads) {
        const r2__range i = r2__share(n, R2__LANES, t, threads);
        r2__adamw_range(f, w + i.begin, g + i.begin, m + i.begin, v + i.begin, i.end - i.begin);
    }
}

/* ---- the decoder without the rows that nothing reads ---- */

/* Two kinds of rows need not be computed. Queries, keys and values of the first layer depend on the
   token alone until rope turns them: they are computed for N different tokens, then spread over R
   rows. After attention, nothing reads the last layer's rows but the U that are predicted from.
   Spreading and choosing rows is what r2_embed_fwd does to a table. */
static bool r2__is_last(const r2_model *m, int32_t layer) { return layer == m->config.n_layer - 1; }

static int64_t r2__rows_after(const r2_model *m, int32_t layer) {
    return r2__is_last(m, layer) ? m->work->n_last : m->work->n_rows;
}

/* to(T, d_model) = the rows of from(R, d_model) that are needed after attention. */
static void r2__choose_rows(const r2_ctx *ctx, const r2_model *m, int32_t layer, float *to,
                            const float *from) {
    const struct r2__work *w = m->work;
    const int64_t C = m->config.d_model;
    if (r2__is_last(m, layer)) r2_embed_fwd(ctx, to, from, w->row, w->n_last, C);
    else r2__copy(to, from, w->n_rows * C);
}

/* Its backward: dfrom(R, d_model) = dto(T, d_model) in these rows, 0 in the others. */
static void r2__choose_rows_bwd(const r2_ctx *ctx, const r2_model *m, float *dfrom,
                                const float *dto) {
    const struct r2__work *w = m->work;
    const int64_t C = m->config.d_model;
    if (dfrom == dto) return; /* all rows */
    memset(dfrom, 0, (size_t)(w->n_rows * C) * sizeof *dfrom);
    r2_embed_bwd(ctx, dfrom, dto, w->row, w->n_last, C);
}

/* qkv = rope(Wqkv rmsnorm(x) + b) of a layer. */
static void r2__qkv_fwd(const r2_ctx *ctx, const r2_model *m, int32_t l, const r2__acts *a) {
    const r2_model_config *c = &m->config;
    const struct r2__work *w = m->work;
    const int64_t R = w->n_rows, N = l == 0 ? w->n_words : R, C = c->d_model;
    const int64_t qkv_cols = r2__qkv_cols(c);
    float *qkv = l == 0 ? w->words : a->qkv, *x = l == 0 ? a->att : a->x;

    if (l == 0) r2_embed_fwd(ctx, x, r2_weight(m, R2_EMBED, 0), w->word, N, C);
    r2_rmsnorm_fwd(ctx, a->n, a->rstd1, x, r2_weight(m, R2_ATTN_NORM, l), N, C, c->norm_eps);
    r2__project(ctx, m, r2__qkv, l, qkv, a->n, N);
    if (c->qkv_bias) r2_bias_fwd(ctx, qkv, r2_weight(m, R2_BQ, l), N, qkv_cols);
    if (l == 0) r2_embed_fwd(ctx, a->qkv, qkv, w->word_of, R, qkv_cols);
    r2_rope(ctx, a->qkv, qkv_cols, w->position, m->rope, R, c->n_head + c->n_kv_head,
            c->d_model / c->n_head, 1);
}

static void r2__decoder_fwd(const r2_ctx *ctx, const r2_model *m, const r2_batch *batch,
                            int32_t first, int32_t end, float *logp, float *entropy) {
    const r2_model_config *c = &m->config;
    struct r2__work *w = m->work;
    const int64_t R = w->n_rows, C = c->d_model, F = c->d_ff;
    r2_attention shape = r2__attention_of(m, batch->n_seq, batch->seq_begin, batch->branch);
    const float eps = c->norm_eps;

    if (first == 0) r2_embed_fwd(ctx, w->layer[0].x, r2_weight(m, R2_EMBED, 0), batch->token, R, C);
    for (int32_t l = first; l < end; ++l) {
        const int64_t T = r2__rows_after(m, l);
        const r2__acts *a = &w->layer[l];
        float *next = w->layer[l + 1].x, *att = r2__is_last(m, l) ? w->normed : a->att;

        /* mid = x + Wo attention(qkv) */
        r2__qkv_fwd(ctx, m, l, a);
        shape.first = r2__is_last(m, l) ? w->first : NULL;
        r2_attention_fwd(ctx, &shape, a->att, a->lse, a->qkv, w->scratch);
        r2__choose_rows(ctx, m, l, att, a->att);
        r2__choose_rows(ctx, m, l, a->mid, a->x);
        r2__project(ctx, m, r2__out, l, a->mid, att, T);

        /* next = mid + Wdown swiglu(Wgate n, Wup n), n = rmsnorm(mid) */
        r2_rmsnorm_fwd(ctx, a->n, a->rstd2, a->mid, r2_weight(m, R2_FFN_NORM, l), T, C, eps);
        r2__project(ctx, m, r2__gate_up, l, a->gu, a->n, T);
        r2_swiglu_fwd(ctx, a->act, a->gu, T, F);
        r2__copy(next, a->mid, T * C);
        r2__project(ctx, m, r2__down, l, next, a->act, T);
    }
    if (logp) r2__head_fwd(ctx, m, batch, logp, entropy);
}

/* Backward of r2__qkv_fwd: from w->dqkv, adds to w->dx; in the first layer, to the embedding. */
static void r2__qkv_bwd(const r2_ctx *ctx, const r2_model *m, int32_t l, const r2__acts *a) {
    const r2_model_config *c = &m->config;
    const struct r2__work *w = m->work;
    const int64_t R = w->n_rows, N = l == 0 ? w->n_words : R, C = c->d_model;
    const int64_t qkv_cols = r2__qkv_cols(c);
    float *dqkv = l == 0 ? a->qkv : w->dqkv, *x = l == 0 ? a->att : a->x;
    float *dx = l == 0 ? w->datt : w->dx;
    float *dn = l == 0 && m->lora ? NULL : w->dn; /* below are frozen weights alone */
    float *dbias = r2__trained(m, R2_BQ, l);

    r2_rope(ctx, w->dqkv, qkv_cols, w->position, m->rope, R, c->n_head + c->n_kv_head,
            c->d_model / c->n_head, -1);
    if (l == 0) r2_embed_fwd(ctx, x, r2_weight(m, R2_EMBED, 0), w->word, N, C);
    r2_rmsnorm_fwd(ctx, a->n, a->rstd1, x, r2_weight(m, R2_ATTN_NORM, l), N, C, c->norm_eps);
    if (l == 0) memset(dqkv, 0, (size_t)(N * qkv_cols) * sizeof(float));
    if (l == 0) r2_embed_bwd(ctx, dqkv, w->dqkv, w->word_of, R, qkv_cols);
    if (dbias) r2_bias_bwd(ctx, dbias, dqkv, N, qkv_cols);
    r2__project_bwd(ctx, m, r2__qkv, l, dn, dqkv, a->n, N);
    if (!dn) return;
    if (l == 0) memset(dx, 0, (size_t)(N * C) * sizeof(float));
    r2_rmsnorm_bwd(ctx, dx, r2__trained(m, R2_ATTN_NORM, l), dn, x, r2_weight(m, R2_ATTN_NORM, l),
                   a->rstd1, N, C);
    if (l == 0) r2_embed_bwd(ctx, r2__trained(m, R2_EMBED, 0), dx, w->word, N, C);
}

/* The gradient of the residual stream is first in w->dlast, of U rows, and below the last layer's
   attention in w->dx, of R. */
static void r2__decoder_bwd(const r2_ctx *ctx, const r2_model *m, const r2_batch *batch,
                            const float *dlogp) {
    const r2_model_config *c = &m->config;
    struct r2__work *w = m->work;
    const int64_t R = w->n_rows, C = c->d_model, F = c->d_ff;
    r2_attention shape = r2__attention_of(m, batch->n_seq, batch->seq_begin, batch->branch);
    float *dembed = r2__trained(m, R2_EMBED, 0);

    r2__head_bwd(ctx, m, batch, dlogp);
    for (int32_t l = c->n_layer - 1; l >= 0; --l) {
        const bool last = r2__is_last(m, l);
        const int64_t T = r2__rows_after(m, l);
        const r2__acts *a = &w->layer[l];
        float *dx = last ? w->dlast : w->dx, *datt = last ? w->dn : w->datt;
        float *att = last ? w->dnormed : a->att;
        if (m->recompute) r2__decoder_fwd(ctx, m, batch, l, l + 1, NULL, NULL);
        else if (!last) { /* the last layer's are still there */
            r2_swiglu_fwd(ctx, a->act, a->gu, T, F);
            r2_rmsnorm_fwd(ctx, a->n, a->rstd2, a->mid, r2_weight(m, R2_FFN_NORM, l), T, C,
                           c->norm_eps);
        }

        r2__project_bwd(ctx, m, r2__down, l, w->dact, dx, a->act, T);
        r2_swiglu_bwd(ctx, a->gu, w->dact, a->gu, T, F); /* a->gu is its gradient now */
        r2__project_bwd(ctx, m, r2__gate_up, l, w->dn, a->gu, a->n, T);
        r2_rmsnorm_bwd(ctx, dx, r2__trained(m, R2_FFN_NORM, l), w->dn, a->mid,
                       r2_weight(m, R2_FFN_NORM, l), a->rstd2, T, C);

        r2__choose_rows(ctx, m, l, att, a->att);
        r2__project_bwd(ctx, m, r2__out, l, datt, dx, att, T);
        r2__choose_rows_bwd(ctx, m, w->dx, dx);
        r2__choose_rows_bwd(ctx, m, w->datt, datt);
        shape.first = last ? w->first : NULL;
        r2_attention_bwd(ctx, &shape, w->dqkv, w->datt, a->att, a->lse, a->qkv, w->scratch);
        r2__qkv_bwd(ctx, m, l, a);
    }
    if (dembed) r2_embed_bwd(ctx, dembed, w->dx, batch->token, R, C);
}

/* ---- `deep` of several views at once ---- */

/* The steps of r2__deep_of. A walk reads every edge of the graph, which takes longer than the sums,
   so several views share one walk, each in a lane of its own. Lanes do not mix, so their number
   changes no bit. */
typedef struct r2__solve {
    double (*a)[R2__WALKS], (*residual)[R2__WALKS], (*direction)[R2__WALKS]; /* (n_users) */
    double (*k_direction)[R2__WALKS]; /* (n_users) K direction, then (K + ridge) direction */
    double ridge[R2__WALKS];          /* of each lane */
    double (*at_item)[R2__WALKS];     /* (n_items) */
    float *deep;                      /* (lanes, n_users) */
} r2__solve;

/* Rows of users who take no part are neither written nor read. */
static bool r2__solve_alloc(r2_ctx *ctx, r2_arena *m, r2__solve *s, const r2_index *index) {
    const uint64_t n_users = (uint64_t)index->graph->n_users, lane = R2__WALKS * sizeof(double);
    const uint64_t n_items = (uint64_t)index->graph->n_items;
    r2_arena_reset(ctx, m);
    s->a = (double(*)[R2__WALKS])r2__arena_take(ctx, m, n_users, lane);
    s->residual = (double(*)[R2__WALKS])r2__arena_take(ctx, m, n_users, lane);
    s->direction = (double(*)[R2__WALKS])r2__arena_take(ctx, m, n_users, lane);
    s->k_direction = (double(*)[R2__WALKS])r2__arena_take(ctx, m, n_users, lane);
    s->at_item = (double(*)[R2__WALKS])r2__arena_take(ctx, m, n_items, lane);
    s->deep = R2__ARENA_NEW(ctx, m, float, R2__WALKS *n_users);
    if (!s->a || !s->residual || !s->direction || !s->k_direction || !s->at_item || !s->deep)
        return false;
    for (uint64_t v = 0; v < n_users; v += (uint64_t)index->stride)
        for (int j = 0; j < R2__WALKS; ++j)
            s->a[v][j] = s->residual[v][j] = s->direction[v][j] = 0.0;
    return true;
}

/* c of one question: its lane of `residual` and `direction`. */
static void r2__solve_ask(r2__solve *s, const r2__user_view *view, int lane) {
    const r2__history *h = &view->h;
    const r2_index *index = h->index;
    const double inv_root = h->length > 0 ? 1.0 / sqrt((double)h->length) : 0.0;
    s->ridge[lane] = r2__noise_edge(h);
    for (int64_t v = 0; v < index->graph->n_users; v += index->stride)
        s->direction[v][lane] = s->residual[v][lane] =
            (double)view->alike[v].n_paths * index->inv_root[v] * inv_root;
}

/* A double for each lane, added at once: compilers make eight steps of a loop over them. */
#if defined(__GNUC__)
typedef double r2__walks __attribute__((vector_size(R2__WALKS * sizeof(double))));
#else
typedef double r2__walks; /* one lane */
#endif

/* k_direction = K direction: every user adds direction / sqrt(n_v) to each of its items, then every
   item passes its sum on to each of its users. */
static void r2__solve_walk(r2__solve *s, const r2_index *index) {
    const r2_graph *g = index->graph;
    double(*const at_item)[R2__WALKS] = s->at_item;
    memset(at_item, 0, (size_t)g->n_items * sizeof *at_item);
    for (int64_t v = 0; v < g->n_users; v += index->stride) {
        const uint32_t *item = g->user_item + g->user_begin[v];
        const int64_t n = g->user_begin[v + 1] - g->user_begin[v];
        r2__walks share, got;
        memcpy(&share, s->direction[v], sizeof share);
        share = index->inv_root[v] * share;
        for (int64_t k = 0; k < n; ++k) {
            memcpy(&got, at_item[item[k]], sizeof got);
            got += share;
            memcpy(at_item[item[k]], &got, sizeof got);
        }
    }
    for (int64_t v = 0; v < g->n_users; v += index->stride) {
        const uint32_t *item = g->user_item + g->user_begin[v];
        const int64_t n = g->user_begin[v + 1] - g->user_begin[v];
        r2__walks sum, got;
        memset(&sum, 0, sizeof sum);
        for (int64_t k = 0; k < n; ++k) {
            memcpy(&got, at_item[item[k]], sizeof got);
            sum += got;
        }
        sum = index->inv_root[v] * sum;
        memcpy(s->k_direction[v], &sum, sizeof sum);
    }
}

static void r2__solve_dot(double (*a)[R2__WALKS], double (*b)[R2__WALKS], const r2_index *index,
                          double *dot) {
    for (int j = 0; j < R2__WALKS; ++j) dot[j] = 0.0;
    for (int64_t v = 0; v < index->graph->n_users; v += index->stride)
        for (int j = 0; j < R2__WALKS; ++j) dot[j] += a[v][j] * b[v][j];
}

/* One step of conjugate gradients; residual_norm2: the squared norms of `residual`. u0 and
   the person left out pass nothing on and receive nothing, so their edges change nothing, not even
   the rounding. */
static void r2__solve_step(r2__solve *s, const r2__user_view *view, int n_lanes,
                           double *residual_norm2) {
    const r2_index *index = view->h.index;
    const int64_t n = index->graph->n_users, stride = index->stride;
    double curvature[R2__WALKS], alpha[R2__WALKS], beta[R2__WALKS], before[R2__WALKS];
    r2__solve_walk(s, index);
    for (int64_t v = 0; v < n; v += stride)
        for (int j = 0; j < R2__WALKS; ++j)
            s->k_direction[v][j] += s->ridge[j] * s->direction[v][j];
    for (int j = 0; j < n_lanes; ++j) {
        const r2__history *h = &view[j].h;
        s->k_direction[h->user][j] = 0.0;
        if (h->hidden.left_out != R2__NO_USER) s->k_direction[h->hidden.left_out][j] = 0.0;
    }
    r2__solve_dot(s->direction, s->k_direction, index, curvature);
    for (int j = 0; j < R2__WALKS; ++j) {
        before[j] = residual_norm2[j];
        alpha[j] = residual_norm2[j] > 0.0 ? residual_norm2[j] / curvature[j] : 0.0;
    }
    for (int64_t v = 0; v < n; v += stride)
        for (int j = 0; j < R2__WALKS; ++j) {
            s->a[v][j] += alpha[j] * s->direction[v][j];
            s->residual[v][j] -= alpha[j] * s->k_direction[v][j];
        }
    r2__solve_dot(s->residual, s->residual, index, residual_norm2);
    for (int j = 0; j < R2__WALKS; ++j)
        beta[j] = before[j] > 0.0 ? residual_norm2[j] / before[j] : 0.0;
    for (int64_t v = 0; v < n; v += stride)
        for (int j = 0; j < R2__WALKS; ++j)
            s->direction[v][j] = s->residual[v][j] + beta[j] * s->direction[v][j];
}

static bool r2__solve_deep(r2_ctx *ctx, r2_arena *memory, r2__user_view *view, int n_views) {
    const r2_index *index = view->h.index;
    const int64_t n = index->graph->n_users;
    double residual_norm2[R2__WALKS];
    r2__solve s;
    memset(&s, 0, sizeof s);
    if (!r2__solve_alloc(ctx, memory, &s, index)) return false;
    for (int j = 0; j < n_views; ++j) r2__solve_ask(&s, &view[j], j);
    r2__solve_dot(s.residual, s.residual, index, residual_norm2);
    for (int step = 0; step < R2_DEEP_STEPS; ++step)
        r2__solve_step(&s, view, n_views, residual_norm2);
    for (int j = 0; j < n_views; ++j) {
        view[j].deep = s.deep + j * n;
        for (int64_t v = 0; v < n; v += index->stride)
            s.deep[j * n + v] = (float)(s.a[v][j] * index->inv_root[v]);
    }
    return true;
}

#endif /* !R2_REFERENCE */

/* =================================================================== [E5] batched decoding ====
   In:   prompts laid end to end, how many samples of each.
   Out:  what [M7] decodes output by output, faster: the same tokens but for rounding.

   Each prompt of a chunk is run once; its keys and values are shared by the samples that continue
   it, which keep only their own. Then all unfinished outputs take one step together:

       prefix (layer, prompt rows, 2 kv)    | prompt 0 | prompt 1 ...      one for n_samples outputs
       suffix (layer, output, max_new, 2 kv)| out 0 .. | out 1 ..

   The keys and values of a prompt or an output are stored head by head, all keys, then all values,
   so that attention reads memory from one end to the other:

       | head 0: k (rows, D) | v (rows, D) | head 1: k (rows, D) | v (rows, D) | ...

   8 samples of up to 24 tokens of a prompt of 40 keep 40 + 8 x 24 = 232 rows a layer, not
   8 x 64 = 512 (test_model.c asks r2__kept_rows). Steps are short: the threads of a crew ([E4])
   take them, unless a small model leaves each thread a chunk of its own. */
#if !defined(R2_REFERENCE)

typedef struct r2__decoder {
    r2_ctx *ctx;
    r2_model *model;
    const r2_generate_config *config;
    r2_generation *out;
    const int64_t *chunk;        /* chunk k is prompts chunk[k] .. chunk[k + 1] - 1 of all, ... */
    const int64_t *prompt_begin; /* ... prompt p is tokens prompt_begin[p] .. of prompt         */
    const int32_t *prompt;
    r2_arena memory;
    int64_t kv;    /* floats of keys (or values) in a row            */
    int64_t layer; /* at which a step is                             */
    int64_t first; /* index in `out` of the chunk's first output     */
    int64_t n_prompt, n_out, n_active, rows;
    int32_t *begin;           /* (n_prompt + 1) rows of prompt p in the chunk   */
    int32_t *last;            /* (n_prompt) its last row                        */
    int32_t *active;          /* (n_active) outputs of the chunk still running  */
    bool *stays;              /* (n_active) whether each goes on                */
    int32_t *position, *next; /* (n_active) of the next token, and that token   */
    r2_rng *rng;              /* (n_out)                                        */
    float *prefix, *suffix;
    float *words;  /* (n_vocab, cols of qkv) of the first layer, before rope; NULL: not kept */
    r2__acts acts; /* of one step                                    */
    float *normed, *rstd, *logits, *lse;
    float *scratch; /* per thread: scores of attention, or n_vocab    */
    int64_t slot;   /* floats of scratch per thread                   */
    bool failed;    /* one of its chunks                              */
} r2__decoder;

/* The first of the largest; 0 when all are NaN. Only the first block that has it is searched value
   by value. */
static int32_t r2__argmax(const float *x, int64_t n) {
    const int64_t block = 16 * R2__LANES;
    float largest = -FLT_MAX;
    int64_t begin = 0;
    for (int64_t b = 0; b < n; b += block) {
        r2__vec top = r2__all(-FLT_MAX);
        float t;
        for (int64_t v = b; v < n && v < b + block; v += R2__LANES)
            top = R2__MAX(top, r2__load_n(x + v, n - v, -FLT_MAX));
        t = r2__largest(top);
        if (t > largest) begin = b;
        if (t > largest) largest = t;
    }
    for (int64_t v = begin; v < n && v < begin + block; ++v)
        if (x[v] == largest) return (int32_t)v;
    return 0;
}

/* r2__sample_plain with room for n floats in p. */
static int32_t r2__sample(const float *logits, int64_t n, float temperature, r2_rng *rng,
                          float *p) {
    const int32_t best = r2__argmax(logits, n);
    double total = 0.0, left;
    if (temperature <= 0.0f) return best;
    for (int64_t v = 0; v < n; v += R2__LANES) {
        r2__vec z = r2__load_n(logits + v, n - v, 0.0f) - logits[best];
        r2__store_n(p + v, r2__exp(z / temperature), n - v);
    }
    for (int64_t v = 0; v < n; ++v) total += (double)p[v];
    left = r2_rng_double(rng) * total;
    for (int32_t v = 0; v < n; ++v) {
        left -= (double)p[v];
        if (left < 0.0) return v;
    }
    return best; /* rounding left a rest */
}

/* Takes output `active[i]` one token further from its logits, or closes it and returns false. */
static bool r2__advance(r2__decoder *d, int64_t i, const float *logits, float lse, float *p) {
    const r2_generate_config *c = d->config;
    const int64_t o = d->first + d->active[i], V = d->model->config.n_vocab;
    const int64_t allowed = c->n_token > 0 && c->n_token < V ? c->n_token : V;
    int32_t length = d->out->length[o], *token = d->out->token + o * c->max_new;
    bool closed = length == c->max_new || r2__stops(c, token, length);
    if (closed) {
        for (int32_t j = 0; j < c->n_watch; ++j)
            d->out->watch_logp[o * c->n_watch + j] = logits[c->watch[j]] - lse;
        return false;
    }
    token[length] = r2__sample(logits, allowed, c->temperature, &d->rng[d->active[i]], p);
    d->out->logp[o * c->max_new + length] = logits[token[length]] - lse;
    d->next[i] = token[length];
    d->out->length[o] = ++length;
    closed = length == c->max_new || r2__stops(c, token, length);
    return !closed || c->n_watch > 0; /* watching takes the position after the last token */
}

/* Part t of the active outputs chooses its tokens. The logits of output i are in row
   active[i] / per_row (0: in row i). */
static void r2__choose_part(r2__decoder *d, int64_t per_row, int64_t t, int64_t threads) {
    const int64_t V = d->model->config.n_vocab;
    const r2__range part = r2__share(d->n_active, 1, t, threads);
    for (int64_t i = part.begin; i < part.end; ++i) {
        int64_t row = per_row ? d->active[i] / per_row : i;
        d->stays[i] = r2__advance(d, i, d->logits + row * V, d->lse[row], d->scratch + t * d->slot);
    }
}

/* Every active output chooses its next token; finished ones leave. */
static void r2__choose(r2__decoder *d, int64_t per_row) {
    const int64_t n = d->n_active;
    const int threads = n > 1 ? r2_threads(d->ctx, n * d->model->config.n_vocab * 4) : 1;
    int64_t kept = 0;
    R2__FOR_EACH(threads, t, threads, r2__choose_part(d, per_row, t, threads));
    for (int64_t i = 0; i < n; ++i) {
        if (!d->stays[i]) continue;
        d->active[kept] = d->active[i];
        d->next[kept++] = d->next[i];
    }
    d->n_active = kept;
}

/* ---- keys and values ---- */

/* Stores key and value of one token and head g, found in a row of qkv, as row `at` of the `rows`
   of a prompt or an output. */
static void r2__keep_token(const r2__decoder *d, float *cache, int64_t rows, int64_t at, int64_t g,
                           const float *qkv) {
    const r2_model_config *c = &d->model->config;
    const int64_t D = c->d_model / c->n_head;
    const float *k = qkv + c->d_model + g * D;
    memcpy(cache + (2 * g * rows + at) * D, k, (size_t)D * sizeof *k);
    memcpy(cache + ((2 * g + 1) * rows + at) * D, k + d->kv, (size_t)D * sizeof *k);
}

/* Stores keys and values of all rows of the chunk's prompts in a layer. */
static void r2__keep_prompts(const r2__decoder *d, int64_t layer) {
    const r2_model_config *c = &d->model->config;
    const int threads = r2_threads(d->ctx, d->rows * d->kv);
    float *cache = d->prefix + layer * d->rows * 2 * d->kv;
    R2_PARALLEL_FOR(threads, p, d->n_prompt)
    for (int32_t r = d->begin[p]; r < d->begin[p + 1]; ++r)
        for (int32_t g = 0; g < c->n_kv_head; ++g)
            r2__keep_token(d, cache + d->begin[p] * 2 * d->kv, d->begin[p + 1] - d->begin[p],
                           d->position[r], g, d->acts.qkv + r * r2__qkv_cols(c));
}

/* y(width) += p(n) v(n, width), rows of v ldv apart; `vectors`, a constant, are as many as width
   needs. What is `ahead` floats behind in v is prefetched. */
R2__INLINE void r2__mix_columns(const int vectors, float *y, const float *p, const float *v,
                                int64_t ldv, int64_t n, int64_t width, int64_t ahead) {
    r2__vec sum[3];
    R2__EACH(i, vectors) sum[i] = r2__load_n(y + i * R2__LANES, width - i * R2__LANES, 0.0f);
    for (int64_t j = 0; j < n; ++j) {
        R2__EACH(i, vectors) {
            const float *vi = v + j * ldv + i * R2__LANES;
            R2__FETCH(vi + ahead);
            sum[i] = R2__FMA(r2__all(p[j]), r2__load_n(vi, width - i * R2__LANES, 0.0f), sum[i]);
        }
    }
    R2__EACH(i, vectors) r2__store_n(y + i * R2__LANES, sum[i], width - i * R2__LANES);
}

/* y(D) += p(n) v(n, D). Three vectors at once: independent sums hide the latency of each. */
static void r2__mix(float *y, const float *p, const float *v, int64_t n, int64_t D, int64_t ahead) {
    int64_t e = 0;
    for (; e + 3 * R2__LANES <= D; e += 3 * R2__LANES)
        r2__mix_columns(3, y + e, p, v + e, D, n, 3 * R2__LANES, ahead);
    for (; e < D; e += R2__LANES) r2__mix_columns(1, y + e, p, v + e, D, n, D - e, ahead);
}

/* Attention of one new token of output active[i], by the query heads that share key-value head g,
   over the rows of its prompt and its own, the last of which is new. */
static void r2__attend_cached(const r2__decoder *d, int64_t i, int64_t g, float *s) {
    const r2_model_config *c = &d->model->config;
    const int64_t D = c->d_model / c->n_head, ld = 2 * d->kv, o = d->active[i];
    const int64_t p = o / d->config->n_samples, shared = d->begin[p + 1] - d->begin[p];
    const int64_t own = d->position[i] - shared + 1, room = d->config->max_new;
    const int64_t sharing = c->n_head / c->n_kv_head;
    const int64_t next = 2 * room * D; /* to what the next head, or output, reads */
    const float *k0 = d->prefix + (d->layer * d->rows + d->begin[p]) * ld + 2 * g * shared * D;
    float *suffix = d->suffix + (d->layer * d->n_out + o) * room * ld;
    const float *k = suffix + 2 * g * room * D, *qkv = d->acts.qkv + i * (c->d_model + ld);
    r2__keep_token(d, suffix, room, own - 1, g, qkv);
    for (int64_t h = g * sharing; h < (g + 1) * sharing; ++h) {
        float *y = d->acts.att + i * c->d_model + h * D;
        r2__multiply_few(qkv + h * D, D, k0, D, 2 * shared * D, s, 0, 1, shared, D, false);
        r2__multiply_few(qkv + h * D, D, k, D, next, s + shared, 0, 1, own, D, false);
        r2__softmax(s, shared + own, 1.0f / sqrtf((float)D));
        memset(y, 0, (size_t)D * sizeof *y);
        r2__mix(y, s, k0 + shared * D, shared, D, 2 * shared * D);
        r2__mix(y, s + shared, k + room * D, own, D, next);
    }
}

/* Attention of part t of the new tokens and their key-value heads. */
static void r2__attend_part(const void *decoder, int64_t t, int64_t threads) {
    const r2__decoder *d = (const r2__decoder *)decoder;
    const int64_t G = d->model->config.n_kv_head;
    const r2__range part = r2__share(d->n_active * G, 1, t, threads);
    for (int64_t j = part.begin; j < part.end; ++j)
        r2__attend_cached(d, j / G, j % G, d->scratch + t * d->slot);
}

/* ---- the decoder ---- */

/* qkv(R) of a layer, before rope, from R rows of the residual stream. */
static void r2__decode_qkv(const r2__decoder *d, int64_t layer, float *qkv, const float *x,
                           int64_t R) {
    const r2_model *m = d->model;
    const r2_model_config *c = &m->config;
    const r2__acts *a = &d->acts;
    r2_rmsnorm_fwd(d->ctx, a->n, a->rstd1, x, r2_weight(m, R2_ATTN_NORM, layer), R, c->d_model,
                   c->norm_eps);
    r2__project(d->ctx, m, r2__qkv, layer, qkv, a->n, R);
    if (c->qkv_bias) r2_bias_fwd(d->ctx, qkv, r2_weight(m, R2_BQ, layer), R, r2__qkv_cols(c));
}

/* Leaves of x and att the last row of each prompt; returns how many. */
static int64_t r2__keep_last(const r2__decoder *d) {
    const int64_t C = d->model->config.d_model;
    for (int64_t p = 0; p < d->n_prompt; ++p) {
        memmove(d->acts.x + p * C, d->acts.x + d->last[p] * C, (size_t)C * sizeof(float));
        memmove(d->acts.att + p * C, d->acts.att + d->last[p] * C, (size_t)C * sizeof(float));
    }
    return d->n_prompt;
}

/* R rows through the decoder, the layers of r2__decoder_fwd: all rows of the prompts, whose keys
   and values are kept, or one row of each active output, which attends to what is kept. */
static void r2__decode_rows(r2__decoder *d, const int32_t *token, int64_t R, bool prompts) {
    const r2_ctx *ctx = d->ctx;
    const r2_model *m = d->model;
    const r2_model_config *c = &m->config;
    r2_attention shape = r2__attention_of(m, (int32_t)d->n_prompt, d->begin, NULL);
    const r2__acts *a = &d->acts;
    const int64_t C = c->d_model, qkv_cols = r2__qkv_cols(c);
    int64_t keys = 0;
    int threads;
    for (int64_t i = 0; i < R && !prompts; ++i) keys += d->position[i] + 1;
    threads = r2_threads(ctx, 2 * keys * C);
    r2_embed_fwd(ctx, a->x, r2_weight(m, R2_EMBED, 0), token, R, C);
    for (int32_t l = 0; l < c->n_layer; ++l) {
        const bool last = l == c->n_layer - 1;
        if (l == 0 && d->words) r2_embed_fwd(ctx, a->qkv, d->words, token, R, qkv_cols);
        else r2__decode_qkv(d, l, a->qkv, a->x, R);
        r2_rope(ctx, a->qkv, qkv_cols, d->position, m->rope, R, c->n_head + c->n_kv_head,
                shape.d_head, 1);
        if (prompts) {
            r2__keep_prompts(d, l);
            shape.first = last ? d->last : NULL;
            r2_attention_fwd(ctx, &shape, a->att, a->lse, a->qkv, d->scratch);
            if (last) R = r2__keep_last(d);
        } else {
            d->layer = l;
            r2__share_job(ctx, threads, r2__attend_part, d);
        }
        r2__project(ctx, m, r2__out, l, a->x, a->att, R);
        r2_rmsnorm_fwd(ctx, a->n, a->rstd2, a->x, r2_weight(m, R2_FFN_NORM, l), R, C, c->norm_eps);
        r2__project(ctx, m, r2__gate_up, l, a->gu, a->n, R);
        r2_swiglu_fwd(ctx, a->act, a->gu, R, c->d_ff);
        r2__project(ctx, m, r2__down, l, a->x, a->act, R);
    }
}

/* Logits and their sums from n rows of the residual stream. */
static void r2__decode_head(r2__decoder *d, int64_t n) {
    const r2_model *m = d->model;
    const int64_t C = m->config.d_model, V = m->config.n_vocab;
    r2_rmsnorm_fwd(d->ctx, d->normed, d->rstd, d->acts.x, r2_weight(m, R2_FINAL_NORM, 0), n, C,
                   m->config.norm_eps);
    r2_matmul(d->ctx, R2_NT, n, V, C, d->normed, C, r2__head(m), C, d->logits, V, false);
    r2_logsumexp_fwd(d->ctx, d->lse, NULL, d->logits, n, V);
}

/* Runs the chunk's prompts; leaves the logits after the last row of each. */
static void r2__decode_prompts(r2__decoder *d, const int32_t *token) {
    for (int64_t p = 0; p < d->n_prompt; ++p) {
        for (int32_t r = d->begin[p]; r < d->begin[p + 1]; ++r) d->position[r] = r - d->begin[p];
        d->last[p] = d->begin[p + 1] - 1;
    }
    if (d->words)
        r2__decode_qkv(d, 0, d->words, r2_weight(d->model, R2_EMBED, 0), d->model->config.n_vocab);
    r2__decode_rows(d, token, d->rows, true);
    r2__decode_head(d, d->n_prompt);
}

/* One token of every active output. */
static void r2__decode_step(r2__decoder *d) {
    for (int64_t i = 0; i < d->n_active; ++i) {
        const int64_t p = d->active[i] / d->config->n_samples;
        d->position[i] = d->begin[p + 1] - d->begin[p] + d->out->length[d->first + d->active[i]] -
                         1;
    }
    r2__decode_rows(d, d->next, d->n_active, false);
    r2__decode_head(d, d->n_active);
}

/* The prompts, and the first token of each output. */
static void r2__decode_start(r2__decoder *d) {
    r2__decode_prompts(d, d->prompt + d->prompt_begin[d->first / d->config->n_samples]);
    r2__choose(d, d->config->n_samples);
}

/* The prompts, unless they are done, and steps until all outputs are complete. */
static void r2__decode_rest(r2__decoder *d, bool started) {
    if (!started) r2__decode_start(d);
    while (d->n_active > 0) {
        r2__decode_step(d);
        r2__choose(d, 0);
    }
}

/* The same by a crew. */
static void r2__decode_by_crew(r2__decoder *d, bool started) {
#if defined(_OPENMP)
    r2_ctx *ctx = d->ctx, own = *ctx;
    r2__crew crew;
    memset(&crew, 0, sizeof crew);
    crew.parts = r2__n_threads(ctx);
    own.crew = &crew;
    d->ctx = &own;
    R2__PRAGMA(omp parallel num_threads(r2__n_threads(ctx))) {
        if (omp_get_thread_num() > 0) {
            r2__serve(&crew);
        } else {
            r2__decode_rest(d, started);
            __atomic_store_n(&crew.over, true, __ATOMIC_RELEASE);
        }
    }
    d->ctx = ctx;
#else
    r2__decode_rest(d, started);
#endif
}

/* Rows of keys and values that a layer keeps for so many outputs of prompts with so many rows. */
static int64_t r2__kept_rows(int64_t rows, int64_t n_out, int64_t max_new) {
    return rows + n_out * max_new;
}

/* Memory for a chunk of n_prompt prompts with `rows` rows. */
static r2_status r2__decoder_reserve(r2__decoder *d, int64_t rows, int64_t n_prompt) {
    const r2_model_config *c = &d->model->config;
    const int64_t n_out = n_prompt * d->config->n_samples, wide = rows > n_out ? rows : n_out;
    const int64_t threads = r2__n_threads(d->ctx);
    const int64_t kv = 2 * d->kv * c->n_layer, scores = 2 * R2__QUERIES * (int64_t)c->n_ctx;
    r2_arena *arena = &d->memory;
    bool good = r2__lora_reserve(d->ctx, d->model, wide) == R2_OK;
    d->slot = scores > c->n_vocab ? scores : c->n_vocab;
    d->begin = (int32_t *)r2_arena_alloc(d->ctx, arena, (uint64_t)n_prompt + 1, sizeof(int32_t));
    d->last = (int32_t *)r2_arena_alloc(d->ctx, arena, (uint64_t)n_prompt, sizeof(int32_t));
    d->active = (int32_t *)r2_arena_alloc(d->ctx, arena, (uint64_t)n_out, sizeof(int32_t));
    d->stays = (bool *)r2_arena_alloc(d->ctx, arena, (uint64_t)n_out, sizeof(bool));
    d->next = (int32_t *)r2_arena_alloc(d->ctx, arena, (uint64_t)n_out, sizeof(int32_t));
    d->position = (int32_t *)r2_arena_alloc(d->ctx, arena, (uint64_t)wide, sizeof(int32_t));
    d->rng = (r2_rng *)r2_arena_alloc(d->ctx, arena, (uint64_t)n_out, sizeof(r2_rng));
    d->prefix = r2__floats(d->ctx, arena, r2__kept_rows(rows, n_out, d->config->max_new), kv,
                           &good);
    d->suffix = d->prefix ? d->prefix + rows * kv : NULL;
    d->words = NULL; /* kept where there are fewer words than rows of prompts */
    if (c->n_vocab <= rows)
        d->words = r2__floats(d->ctx, arena, c->n_vocab, r2__qkv_cols(c), &good);
    d->acts.x = r2__floats(d->ctx, arena, wide, c->d_model, &good);
    r2__take_layer(d->ctx, arena, d->model, wide, wide, false, NULL, &d->acts, &good);
    d->normed = r2__floats(d->ctx, arena, n_out, c->d_model, &good);
    d->rstd = r2__floats(d->ctx, arena, n_out, 1, &good);
    d->lse = r2__floats(d->ctx, arena, n_out, 1, &good);
    d->logits = r2__floats(d->ctx, arena, n_out, c->n_vocab, &good);
    d->scratch = r2__floats(d->ctx, arena, threads, d->slot, &good);
    good = good && d->begin && d->last && d->active && d->stays && d->next && d->position && d->rng;
    return good ? R2_OK : d->ctx->status;
}

static r2_status r2__generate_chunk(r2__decoder *d, int64_t k) {
    const int64_t samples = d->config->n_samples;
    const int64_t first = d->chunk[k], n = d->chunk[k + 1] - first;
    const int64_t *begin = d->prompt_begin + first;
    r2_arena_reset(d->ctx, &d->memory);
    d->rows = begin[n] - begin[0];
    if (r2__decoder_reserve(d, d->rows, n) != R2_OK) return d->ctx->status;
    d->first = first * samples;
    d->n_prompt = n;
    d->n_out = d->n_active = n * samples;
    for (int64_t p = 0; p <= n; ++p) d->begin[p] = (int32_t)(begin[p] - begin[0]);
    for (int64_t o = 0; o < d->n_out; ++o) {
        d->active[o] = (int32_t)o;
        d->rng[o] = r2_rng_make(d->config->seed, R2_STREAM_SAMPLE, (uint64_t)(d->first + o));
    }
    const bool many = d->rows > R2__SOME; /* which keep threads busy for longer than waking takes */
    if (many) r2__decode_start(d);
    if (r2__n_threads(d->ctx) > 1) r2__decode_by_crew(d, many);
    else r2__decode_rest(d, many);
    return R2_OK;
}

/* Chunks one after the other. */
static r2_status r2__generate_in_turn(r2__decoder *d, r2__range chunks, const char *task,
                                      int64_t n_prompt) {
    r2_status status = R2_OK;
    for (int64_t k = chunks.begin; k < chunks.end && status == R2_OK; ++k) {
        status = r2__generate_chunk(d, k);
        if (status == R2_OK && task)
            status = r2_progress(d->ctx, task, d->chunk[k + 1], n_prompt);
    }
    r2_arena_free(d->ctx, &d->memory);
    return status;
}

/* The same, side by side, as r2__part_threads says of parts: each thread has its own decoder. */
static r2_status r2__generate_side_by_side(r2_ctx *ctx, const r2__decoder *d, r2__range chunks,
                                           int threads) {
    r2__decoder *own = R2__NEW(ctx, r2__decoder, threads);
    bool failed = false;
    if (!own) return ctx->status;
    for (int t = 0; t < threads; ++t) own[t] = *d;
    R2_PARALLEL_PIECES(threads, k, chunks.end - chunks.begin) {
        r2_ctx alone = *ctx; /* a context serves one thread at a time */
        r2__decoder *mine = &own[r2_thread()];
        alone.n_threads = 1;
        mine->ctx = &alone;
        mine->failed = mine->failed || r2__generate_chunk(mine, chunks.begin + k) != R2_OK;
    }
    for (int t = 0; t < threads; ++t) {
        failed = failed || own[t].failed;
        r2_arena_free(ctx, &own[t].memory);
    }
    r2_release(ctx, own);
    return failed ? r2_fail(ctx, R2_NO_MEMORY, "generate: out of memory") : R2_OK;
}

static r2_status r2__generate_own(r2_ctx *ctx, r2__decoder *d, r2__range chunks, const char *task,
                                  int64_t n_prompt) {
    const int threads = r2__is_small(d->model) ? r2__n_threads(ctx) : 1;
    r2_status status;
    if (threads == 1 || chunks.end - chunks.begin < 2)
        return r2__generate_in_turn(d, chunks, task, n_prompt);
    status = r2__generate_side_by_side(ctx, d, chunks, threads);
    return status == R2_OK && task ? r2_progress(ctx, task, n_prompt, n_prompt) : status;
}

/* Chunks of prompts: an R2__PARTS-th of all, as the parts of a batch, with R2__PART_ROWS outputs at
   least, which keep the products busy; few enough rows and outputs for the caches, and 64 MB of
   logits. Returns how many there are. */
static int64_t r2__cut_prompts(const r2_model *model, const r2_generate_config *config,
                               int64_t n_prompt, const int64_t *begin, int64_t *chunk) {
    const int64_t most_rows = 8192, most_outputs = 1024, most_logits = (int64_t)1 << 24;
    const int64_t samples = config->n_samples, V = model->config.n_vocab;
    const int64_t even = (n_prompt + R2__PARTS - 1) / R2__PARTS;
    int64_t k = 0;
    for (int64_t p = 0, n; p < n_prompt; p += n) {
        chunk[k++] = p;
        for (n = 1; p + n < n_prompt && (n < even || n * samples < R2__PART_ROWS) &&
                    begin[p + n + 1] - begin[p] <= most_rows && (n + 1) * samples <= most_outputs &&
                    (n + 1) * samples * V <= most_logits;
             ++n) {
        }
    }
    chunk[k] = n_prompt;
    return k;
}

static r2_status r2__generate(r2_ctx *ctx, r2_model *model, const char *task,
                              const r2_generate_config *config, int64_t n_prompt,
                              const int64_t *begin, const int32_t *token, r2_generation *out) {
    const uint64_t samples = (uint64_t)config->n_samples;
    const uint64_t cells = samples * (uint64_t)config->max_new;
    int64_t n = 0, *chunk;
    r2_status status;
    r2__decoder d;
    memset(out, 0, sizeof *out);
    if (r2__check_generate(ctx, model, config, n_prompt, begin, token) != R2_OK ||
        r2__generation_init(ctx, out, n_prompt, config) != R2_OK)
        return ctx->status;
    memset(&d, 0, sizeof d);
    d.ctx = ctx;
    d.model = model;
    d.config = config;
    d.out = out;
    d.chunk = chunk = (int64_t *)r2_alloc(ctx, (uint64_t)n_prompt + 1, sizeof *chunk);
    d.prompt_begin = begin;
    d.prompt = token;
    d.kv = (int64_t)model->config.n_kv_head * (model->config.d_model / model->config.n_head);
    if (chunk) n = r2__cut_prompts(model, config, n_prompt, begin, chunk);
    status = chunk ? R2_OK : ctx->status;
    if (chunk) status = r2__generate_own(ctx, &d, r2__team_share(ctx, n), task, n_prompt);
    status = r2__team_gather(ctx, status, out->token, n, chunk, cells * sizeof *out->token);
    status = r2__team_gather(ctx, status, out->logp, n, chunk, cells * sizeof *out->logp);
    status = r2__team_gather(ctx, status, out->length, n, chunk, samples * sizeof *out->length);
    status = r2__team_gather(ctx, status, out->watch_logp, n, chunk,
                             samples * (uint64_t)config->n_watch * sizeof *out->watch_logp);
    r2_release(ctx, chunk);
    if (status != R2_OK) r2_generation_free(ctx, out);
    return status;
}
#endif /* !R2_REFERENCE */

/* =========================================================================== [E6] adapters ====
   In:   a model, and which projections get a low-rank addition.
   Out:  the same model with W + scale B A in the place of W, of which only A and B are trained.

             I                      I
         +-------+          rank +-----+           scale = alpha / rank
       O |   W   |  +  scale  O | B |  A |  rank   B begins as zero: so does B A
         +-------+               +-----+

   alpha 16, rank 8: scale 2. Of rank 1 with scale 2, a = (1, 2) and b = (3) add (6, 12) to their
   row (test_ops.c computes it). A projection of 64 x 64 has 4,096 weights; its adapter of rank 8
   trains 8 (64 + 64) = 1,024. */

/* ---- ops ---- */

int64_t r2_lora_scratch(int64_t R, int64_t n_in, int64_t rank, int32_t n) {
    return 2 * n * rank * (R + n_in);
}

/* y(R,O) += scale x(R,I) a(r,I)^T b(O,r)^T of each adapter. */
R2__PLAIN(void, r2_lora_fwd)
(const r2_ctx *ctx, float *y, int64_t ldy, const r2_adapters *all, const float *x, int64_t R) {
    const int64_t n_in = all->n_in, rank = all->rank;
    float *low = all->scratch;
    for (const r2_adapter *p = all->adapter; p < all->adapter + all->n; ++p) {
        r2_matmul(ctx, R2_NT, R, rank, n_in, x, n_in, p->a, n_in, low, rank, false);
        for (int64_t i = 0; i < R * rank; ++i) low[i] *= all->scale;
        r2_matmul(ctx, R2_NT, R, p->n_out, rank, low, rank, p->b, rank, y + p->column, ldy, true);
    }
}

/* db += scale dy^T x a^T,  da += scale b^T dy^T x,  dx += scale dy b a (dx NULL: not wanted). */
R2__PLAIN(void, r2_lora_bwd)
(const r2_ctx *ctx, float *dx, const r2_adapters *all, const float *dy, int64_t ldy, const float *x,
 int64_t R) {
    const int64_t n_in = all->n_in, rank = all->rank;
    float *low = all->scratch;
    for (const r2_adapter *p = all->adapter; p < all->adapter + all->n; ++p) {
        const float *dyp = dy + p->column;
        r2_matmul(ctx, R2_NT, R, rank, n_in, x, n_in, p->a, n_in, low, rank, false);
        for (int64_t i = 0; i < R * rank; ++i) low[i] *= all->scale;
        r2_matmul(ctx, R2_TN, p->n_out, rank, R, dyp, ldy, low, rank, p->db, rank, true);
        r2_matmul(ctx, R2_NN, R, rank, p->n_out, dyp, ldy, p->b, rank, low, rank, false);
        for (int64_t i = 0; i < R * rank; ++i) low[i] *= all->scale;
        r2_matmul(ctx, R2_TN, rank, n_in, R, low, rank, x, n_in, p->da, n_in, true);
        if (dx) r2_matmul(ctx, R2_NN, R, n_in, rank, low, rank, p->a, n_in, dx, n_in, true);
    }
}

/* sum(O,I) = w(O,I) + scale b a, in the rows of each adapter. */
R2__PLAIN(void, r2_lora_sum)
(const r2_ctx *ctx, float *sum, const float *w, const r2_adapters *all, int64_t n_out) {
    const int64_t n_in = all->n_in, rank = all->rank;
    (void)ctx;
    r2__copy(sum, w, n_out * n_in);
    for (const r2_adapter *p = all->adapter; p < all->adapter + all->n; ++p) {
        for (int64_t i = 0; i < p->n_out * n_in; ++i) {
            double product = 0.0;
            for (int64_t k = 0; k < rank; ++k)
                product += (double)p->b[i / n_in * rank + k] * (double)p->a[k * n_in + i % n_in];
            sum[p->column * n_in + i] += (float)((double)all->scale * product);
        }
    }
}

/* ---- the model's adapters ---- */

r2_lora_config r2_lora_config_default(void) {
    r2_lora_config c;
    c.rank = 8;
    c.alpha = 16.0f;
    c.targets = 1u << R2_WQ | 1u << R2_WK | 1u << R2_WV | 1u << R2_WO | 1u << R2_WGATE |
                1u << R2_WUP | 1u << R2_WDOWN;
    c.seed = 1;
    return c;
}

/* The adapters of a projection of a layer; n = 0: it has none. */
static r2_adapters r2__adapters_of(const r2_model *model, r2__projection p, int64_t layer) {
    const r2_lora *lora = model->lora;
    r2_adapters all;
    int64_t column = 0;
    memset(&all, 0, sizeof all);
    all.n_in = model->tensor[p.first].cols;
    all.rank = lora->config.rank;
    all.scale = lora->config.alpha / (float)lora->config.rank;
    all.scratch = lora->scratch;
    for (int id = (int)p.first; id <= (int)p.last; ++id) {
        const r2_tensor *t = &model->tensor[id];
        const int64_t a = layer * lora->layer_stride + lora->offset[id], b = a + all.rank * t->cols;
        if (lora->offset[id] >= 0) {
            r2_adapter *adapter = &all.adapter[all.n++];
            adapter->column = column;
            adapter->n_out = t->rows;
            adapter->a = lora->param + a;
            adapter->b = lora->param + b;
            adapter->da = lora->grad ? lora->grad + a : NULL;
            adapter->db = lora->grad ? lora->grad + b : NULL;
        }
        column += t->rows;
    }
    return all;
}

/* The matrix (O, I) to multiply R rows with: W + scale B A where that takes fewer operations than
   adding the factors' product to R rows; then *added is false, else the adapters are still to be
   added. */
static const float *r2__adapted_weights(const r2_ctx *ctx, const r2_model *model, r2__projection p,
                                        int64_t layer, int64_t R, const r2_adapters *all,
                                        bool *added) {
    const int64_t n_out = r2__projection_rows(model, p), n_in = all->n_in;
    const float *w = r2_weight(model, p.first, layer);
    *added = all->n == 0 || R * (n_out + n_in) >= n_out * n_in;
    if (all->n == 0 || !*added) return w;
    r2_lora_sum(ctx, model->lora->sum, w, all, n_out);
    return model->lora->sum;
}

/* r2__project with adapters. */
static void r2__lora_project(const r2_ctx *ctx, const r2_model *model, r2__projection p,
                             int64_t layer, float *y, const float *x, int64_t R) {
    const r2_adapters all = r2__adapters_of(model, p, layer);
    const int64_t n_out = r2__projection_rows(model, p), n_in = all.n_in;
    bool added;
    const float *w = r2__adapted_weights(ctx, model, p, layer, R, &all, &added);
    r2_matmul(ctx, R2_NT, R, n_out, n_in, x, n_in, w, n_in, y, n_out, p.adds);
    if (!added) r2_lora_fwd(ctx, y, n_out, &all, x, R);
}

/* r2__project_bwd with adapters: W is frozen. */
static void r2__lora_project_bwd(const r2_ctx *ctx, const r2_model *model, r2__projection p,
                                 int64_t layer, float *dx, const float *dy, const float *x,
                                 int64_t R) {
    const r2_adapters all = r2__adapters_of(model, p, layer);
    const int64_t n_out = r2__projection_rows(model, p), n_in = all.n_in;
    bool added = false;
    if (dx) {
        const float *w = r2__adapted_weights(ctx, model, p, layer, R, &all, &added);
        r2_matmul(ctx, R2_NN, R, n_in, n_out, dy, n_out, w, n_in, dx, n_in, false);
    }
    if (all.n > 0) r2_lora_bwd(ctx, added ? NULL : dx, &all, dy, n_out, x, R);
}

/* Gives each target its place; returns the number of parameters. */
static int64_t r2__lora_lay_out(const r2_model *model, r2_lora *lora) {
    for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
        const r2_tensor *t = &model->tensor[id];
        lora->offset[id] = -1;
        if (!(lora->config.targets >> id & 1u)) continue;
        lora->offset[id] = lora->layer_stride;
        lora->layer_stride += lora->config.rank * (t->cols + t->rows);
    }
    return lora->layer_stride * model->config.n_layer;
}

/* A begins as in PyTorch's linear layers: uniform within 1 / sqrt(I). */
static void r2__lora_draw(const r2_model *model, r2_lora *lora) {
    for (int64_t layer = 0; layer < model->config.n_layer; ++layer) {
        for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
            const int64_t n_in = model->tensor[id].cols;
            r2_rng rng = r2_rng_make(lora->config.seed, R2_STREAM_INIT,
                                     (uint64_t)(R2_TENSOR_COUNT + id) << 32 | (uint64_t)layer);
            float *a = lora->param + layer * lora->layer_stride + lora->offset[id];
            if (lora->offset[id] < 0) continue;
            for (int64_t i = 0; i < lora->config.rank * n_in; ++i)
                a[i] = (float)((2.0 * r2_rng_double(&rng) - 1.0) / sqrt((double)n_in));
        }
    }
}

/* The most weights that a projection has. */
static int64_t r2__largest_projection(const r2_model *model) {
    const r2__projection all[] = {r2__qkv, r2__out, r2__gate_up, r2__down};
    int64_t largest = 0;
    for (size_t k = 0; k < sizeof all / sizeof *all; ++k) {
        int64_t size = r2__projection_rows(model, all[k]) * model->tensor[all[k].first].cols;
        if (size > largest) largest = size;
    }
    return largest;
}

r2_status r2_lora_attach(r2_ctx *ctx, r2_model *model, const r2_lora_config *config) {
    const uint32_t allowed = r2_lora_config_default().targets;
    r2_lora *lora;
    if (model->lora) return r2_fail(ctx, R2_ARGUMENT, "lora: the model has adapters already");
    if (config->rank < 1 || config->rank > 4096)
        return r2_fail(ctx, R2_ARGUMENT, "lora: rank = %d, expected 1 to 4096", config->rank);
    if (!config->targets || config->targets & ~allowed)
        return r2_fail(ctx, R2_ARGUMENT,
                       "lora: targets = 0x%x, expected one or more bits of 0x%x, the projections",
                       (unsigned)config->targets, (unsigned)allowed);
    lora = (r2_lora *)r2_alloc(ctx, 1, sizeof *lora);
    if (!lora) return ctx->status;
    lora->config = *config;
    lora->n_params = r2__lora_lay_out(model, lora);
    lora->param = (float *)r2_arena_alloc(ctx, &lora->memory, (uint64_t)lora->n_params,
                                          sizeof(float));
    lora->grad = (float *)r2_arena_alloc(ctx, &lora->memory, (uint64_t)lora->n_params,
                                         sizeof(float));
    lora->sum = (float *)r2_arena_alloc(ctx, &lora->memory, (uint64_t)r2__largest_projection(model),
                                        sizeof(float));
    model->lora = lora;
    if (!lora->param || !lora->grad || !lora->sum) {
        r2_lora_detach(ctx, model);
        return ctx->status;
    }
    r2__lora_draw(model, lora);
    return R2_OK;
}

/* Scratch for products of so many rows, if the model has adapters. */
static r2_status r2__lora_reserve(r2_ctx *ctx, r2_model *model, int64_t rows) {
    const r2_model_config *c = &model->config;
    r2_lora *lora = model->lora;
    const int64_t widest = c->d_ff > c->d_model ? c->d_ff : c->d_model;
    if (!lora || rows <= lora->max_rows) return R2_OK;
    r2_release(ctx, lora->scratch);
    lora->scratch = (float *)r2_resize(
        ctx, NULL, (uint64_t)r2_lora_scratch(rows, widest, lora->config.rank, R2_ADAPTERS),
        sizeof(float));
    lora->max_rows = lora->scratch ? rows : 0;
    return lora->scratch ? R2_OK : ctx->status;
}

void r2_lora_detach(r2_ctx *ctx, r2_model *model) {
    if (!model->lora) return;
    r2_release(ctx, model->lora->scratch);
    r2_arena_free(ctx, &model->lora->memory);
    r2_release(ctx, model->lora);
    model->lora = NULL;
    r2__work_free(ctx, model); /* laid out for these adapters */
}

/* W += scale B A for every target, or -=, unless that is done already. */
static r2_status r2__lora_apply(r2_ctx *ctx, r2_model *model, bool merged) {
    const float sign = merged ? 1.0f : -1.0f;
    if (!model->lora) return r2_fail(ctx, R2_ARGUMENT, "lora: the model has no adapters");
    if (model->lora->merged == merged) return R2_OK;
    model->lora->merged = merged;
    for (int64_t layer = 0; layer < model->config.n_layer; ++layer) {
        for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
            const r2__projection alone = {(r2_tensor_id)id, (r2_tensor_id)id, false};
            float *w = r2_weight(model, (r2_tensor_id)id, layer);
            r2_adapters all = r2__adapters_of(model, alone, layer);
            all.scale *= sign;
            if (all.n > 0) r2_lora_sum(ctx, w, w, &all, model->tensor[id].rows);
        }
    }
    return R2_OK;
}

r2_status r2_lora_merge(r2_ctx *ctx, r2_model *model) { return r2__lora_apply(ctx, model, true); }

r2_status r2_lora_unmerge(r2_ctx *ctx, r2_model *model) {
    return r2__lora_apply(ctx, model, false);
}

/* A copy of what is trained: the adapters, if there are any, else the weights. What is not trained
   is the model's own. */
static r2_status r2__model_reference(r2_ctx *ctx, r2_model *reference, const r2_model *model) {
    const r2_arena empty = {NULL, 0, 0};
    *reference = *model;
    reference->memory = empty;
    reference->grad = NULL;
    reference->parts = NULL;
    reference->work = NULL;
    reference->lora = NULL;
    if (model->lora) {
        if (r2_lora_attach(ctx, reference, &model->lora->config) != R2_OK) return ctx->status;
        memcpy(reference->lora->param, model->lora->param,
               (size_t)model->lora->n_params * sizeof(float));
        reference->lora->merged = model->lora->merged;
        reference->lora->grad = NULL; /* keeps nothing for a backward pass */
        return R2_OK;
    }
    reference->param = R2__ARENA_NEW(ctx, &reference->memory, float, model->n_params);
    if (!reference->param) return ctx->status;
    memcpy(reference->param, model->param, (size_t)model->n_params * sizeof(float));
    return R2_OK;
}

/* ============================================================================ [E7] on disk ====
   In:   a model, adapters, a training, a run; safetensors; a Hugging Face or PEFT directory.
   Out:  the same on disk; what a file holds, or one sentence that says what is wrong with it.

       safetensors   | N: 8 bytes, little endian | N bytes of JSON | tensors, end to end |
                     JSON: name -> { dtype, shape, data_offsets: [begin, end) after the header }
       directory     config.json + model.safetensors, or an index that names the shards

   The bytes 00 3C of an F16 are 0x3C00: exponent 15 - 15 = 0, fraction 0, so 1.0 (test_model.c).
   A file is checked as a whole before a single number is copied. */

/* ---- safetensors ---- */

/* A tensor that a file is to hold. */
typedef struct r2__named {
    char name[120];
    int rank; /* 1: a vector of cols, 2: a matrix */
    int64_t rows, cols;
    float *data;
} r2__named;

/* A tensor that a file does hold. */
typedef struct r2__stored {
    const char *name;
    const char *dtype;
    int64_t shape[8];
    int rank;
    uint64_t begin, end, size; /* size: bytes of one element        */
    const unsigned char *data;
    const r2__named *want;     /* whose numbers it has; NULL: none */
} r2__stored;

static void r2__list_weight(const r2_model *model, int id, int64_t layer, r2__named *to) {
    const r2_tensor *t = &model->tensor[id];
    if (!t->per_layer) snprintf(to->name, sizeof to->name, "%s", t->name);
    else snprintf(to->name, sizeof to->name, "model.layers.%lld.%s", (long long)layer, t->name);
    to->rank = t->init == R2_INIT_ONE || t->init == R2_INIT_ZERO ? 1 : 2;
    to->rows = t->rows;
    to->cols = t->cols;
    to->data = r2_weight(model, (r2_tensor_id)id, layer);
}

/* One factor, 'A' or 'B', of the adapter of tensor `id`. */
static void r2__list_factor(const r2_model *model, int id, int64_t layer, int factor,
                            r2__named *to) {
    const r2_lora *lora = model->lora;
    const r2_tensor *t = &model->tensor[id];
    const int stem = (int)(strlen(t->name) - strlen("weight"));
    float *a = lora->param + layer * lora->layer_stride + lora->offset[id];
    snprintf(to->name, sizeof to->name, "base_model.model.model.layers.%lld.%.*slora_%c.weight",
             (long long)layer, stem, t->name, factor);
    to->rank = 2;
    to->rows = factor == 'A' ? lora->config.rank : t->rows;
    to->cols = factor == 'A' ? t->cols : lora->config.rank;
    to->data = factor == 'A' ? a : a + lora->config.rank * t->cols;
}

/* Lists all tensors of the model, or the factors of its adapters. */
static r2__named *r2__list(r2_ctx *ctx, const r2_model *model, bool adapters, int64_t *n) {
    const int64_t n_layer = model->config.n_layer;
    const uint64_t most = 2 * R2_TENSOR_COUNT * (uint64_t)n_layer;
    r2__named *list = (r2__named *)r2_alloc(ctx, most, sizeof *list);
    *n = 0;
    for (int id = 0; id < R2_TENSOR_COUNT && list && !adapters; ++id)
        for (int64_t layer = 0; layer < r2__tensor_layers(model, id); ++layer)
            r2__list_weight(model, id, layer, &list[(*n)++]);
    for (int64_t layer = 0; layer < n_layer && list && adapters; ++layer)
        for (int id = 0; id < R2_TENSOR_COUNT; ++id)
            for (int factor = 'A'; factor <= 'B' && model->lora->offset[id] >= 0; ++factor)
                r2__list_factor(model, id, layer, factor, &list[(*n)++]);
    return list;
}

static void r2__append_floats(r2_ctx *ctx, r2_text *text, const float *w, int64_t n) {
    const uint16_t one = 1;
    if (*(const unsigned char *)&one) { /* little endian, as the file is */
        r2_text_add(ctx, text, (const char *)w, (size_t)n * sizeof *w);
        return;
    }
    for (int64_t i = 0; i < n; ++i) {
        char byte[4];
        uint32_t bits;
        memcpy(&bits, w + i, sizeof bits);
        for (int b = 0; b < 4; ++b) byte[b] = (char)(unsigned char)(bits >> 8 * b);
        r2_text_add(ctx, text, byte, sizeof byte);
    }
}

static void r2__append_header(r2_ctx *ctx, r2_text *text, const r2__named *list, int64_t n) {
    uint64_t offset = 0;
    r2_text_addf(ctx, text, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int64_t i = 0; i < n; ++i) {
        uint64_t end = offset + (uint64_t)(list[i].rows * list[i].cols) * sizeof(float);
        r2_text_addf(ctx, text, ",\"%s\":{\"dtype\":\"F32\",\"shape\":[", list[i].name);
        if (list[i].rank > 1) r2_text_addf(ctx, text, "%lld,", (long long)list[i].rows);
        r2_text_addf(ctx, text, "%lld],\"data_offsets\":[%llu,%llu]}", (long long)list[i].cols,
                     (unsigned long long)offset, (unsigned long long)end);
        offset = end;
    }
    r2_text_addf(ctx, text, "}");
    while (!text->failed && text->len % 8)
        r2_text_add(ctx, text, " ", 1); /* tensors begin aligned */
}

/* Adds a safetensors file of the model's tensors, or of its adapters'. */
static void r2__tensors_text(r2_ctx *ctx, const r2_model *model, bool adapters, r2_text *text) {
    int64_t n = 0;
    r2__named *list = r2__list(ctx, model, adapters, &n);
    if (!list) text->failed = true, n = 0;
    r2_text_add(ctx, text, "\0\0\0\0\0\0\0\0", 8);
    r2__append_header(ctx, text, list, n);
    for (int b = 0; b < 8 && !text->failed; ++b)
        text->data[b] = (char)(unsigned char)((uint64_t)(text->len - 8) >> 8 * b);
    for (int64_t i = 0; i < n; ++i)
        r2__append_floats(ctx, text, list[i].data, list[i].rows * list[i].cols);
    r2_release(ctx, list);
}

r2_status r2_model_save(r2_ctx *ctx, const r2_model *model, const char *path) {
    r2_text text = {NULL, 0, 0, false};
    r2__tensors_text(ctx, model, false, &text);
    return r2__write_text(ctx, path, &text);
}

static uint64_t r2__dtype_size(const char *dtype) {
    static const char *const of_size[] = {"BOOL U8 I8 F8_E5M2 F8_E4M3", "I16 U16 F16 BF16",
                                          "I32 U32 F32", "I64 U64 F64"};
    for (int k = 0; k < 4; ++k)
        if (r2__is_one_of(dtype, of_size[k])) return (uint64_t)1 << k;
    return 0;
}

/* Reads one entry of the header. It must have each field once and no other, and as many bytes as
   shape and type ask for. Returns the fault, or NULL. */
static const char *r2__read_entry(const cJSON *entry, r2__stored *t) {
    const cJSON *dtype = NULL, *shape = NULL, *offsets = NULL, *item;
    uint64_t bytes;
    int64_t size, begin, end;
    if (!cJSON_IsObject(entry)) return "is not an object";
    for (item = entry->child; item; item = item->next) {
        const cJSON **field = strcmp(item->string, "dtype") == 0          ? &dtype
                              : strcmp(item->string, "shape") == 0        ? &shape
                              : strcmp(item->string, "data_offsets") == 0 ? &offsets
                                                                          : NULL;
        if (!field) return "has an unknown field";
        if (*field) return "has a field twice";
        *field = item;
    }
    if (!cJSON_IsString(dtype) || !cJSON_IsArray(shape) || !cJSON_IsArray(offsets))
        return "lacks dtype, shape or data_offsets";
    t->name = entry->string;
    t->dtype = dtype->valuestring;
    bytes = t->size = r2__dtype_size(t->dtype);
    if (bytes == 0) return "has an unknown dtype";
    for (item = shape->child, t->rank = 0; item; item = item->next) {
        if (t->rank == 8) return "has more than 8 dimensions";
        if (!r2__json_whole(item, 0, R2__WHOLE, &size)) return "has a dimension that is not a size";
        if (!r2_mul_u64(bytes, (uint64_t)size, &bytes)) return "has a shape that overflows";
        t->shape[t->rank++] = size;
    }
    item = offsets->child;
    if (!item || !item->next || item->next->next || !r2__json_whole(item, 0, R2__WHOLE, &begin) ||
        !r2__json_whole(item->next, begin, R2__WHOLE, &end))
        return "has data_offsets that are not [begin, end]";
    t->begin = (uint64_t)begin;
    t->end = (uint64_t)end;
    return t->end - t->begin == bytes ? NULL : "has another number of bytes than its shape says";
}

static int r2__by_begin(const void *a, const void *b) {
    const r2__stored *x = (const r2__stored *)a, *y = (const r2__stored *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* Sorts structs that begin with a name; none may occur twice. */
static r2_status r2__sort_names(r2_ctx *ctx, const char *path, void *list, size_t n, size_t size) {
    const char *at = (const char *)list;
    qsort(list, n, size, r2__by_name);
    for (size_t i = 1; i < n; ++i, at += size)
        if (r2__by_name(at, at + size) == 0)
            return r2_fail(ctx, R2_FORMAT, "%s: tensor %s occurs twice", path,
                           *(const char *const *)(const void *)at);
    return R2_OK;
}

/* Tensors must cover the data, of *bytes bytes, without gap or overlap. */
static r2_status r2__check_stored(r2_ctx *ctx, const char *path, r2__stored *t, size_t n,
                                  uint64_t *bytes) {
    *bytes = 0;
    qsort(t, n, sizeof *t, r2__by_begin);
    for (size_t i = 0; i < n; *bytes = t[i++].end)
        if (t[i].begin != *bytes)
            return r2_fail(ctx, R2_FORMAT, "%s: %s begins at byte %llu, expected %llu", path,
                           t[i].name, (unsigned long long)t[i].begin, (unsigned long long)*bytes);
    return r2__sort_names(ctx, path, t, n, sizeof *t);
}

static bool r2__is_metadata(const cJSON *item) { return strcmp(item->string, "__metadata__") == 0; }

/* Reads the entries of the header into t, which has room for all. */
static r2_status r2__read_entries(r2_ctx *ctx, const char *path, const cJSON *root, r2__stored *t,
                                  size_t *n) {
    bool metadata = false;
    *n = 0;
    for (const cJSON *item = root->child; item; item = item->next) {
        if (r2__is_metadata(item)) {
            bool strings = cJSON_IsObject(item) && !metadata;
            for (const cJSON *m = item->child; m && strings; m = m->next)
                strings = cJSON_IsString(m) != 0;
            if (!strings)
                return r2_fail(ctx, R2_FORMAT,
                               "%s: __metadata__ occurs twice or does not map strings to strings",
                               path);
            metadata = true;
            continue;
        }
        const char *wrong = r2__read_entry(item, &t[*n]);
        if (wrong) return r2_fail(ctx, R2_FORMAT, "%s: %s %s", path, item->string, wrong);
        ++*n;
    }
    return R2_OK;
}

static float r2__half_to_float(uint16_t h) {
    const uint32_t bits = (uint32_t)(h & 0x7FFF) << 13;
    float value;
    memcpy(&value, &bits, sizeof value);
    value *= 0x1p112f; /* exponents count from 15 in place of 127; of subnormal numbers too */
    if ((h & 0x7C00) == 0x7C00) value = h & 0x3FF ? NAN : INFINITY;
    return h & 0x8000 ? -value : value;
}

/* Element i of a stored tensor of F32, F16 or BF16. */
static float r2__stored_float(const r2__stored *t, int64_t i) {
    const unsigned char *p = t->data + (uint64_t)i * t->size;
    uint32_t bits = (uint32_t)p[0] | (uint32_t)p[1] << 8;
    float value;
    if (t->size == 2 && t->dtype[0] == 'F') return r2__half_to_float((uint16_t)bits);
    if (t->size == 2) bits <<= 16; /* BF16: the upper half of a float */
    else bits |= (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A checked file of tensors; t (n) sorted by name. */
typedef struct r2__tensor_file {
    const char *path;
    r2_text text;
    size_t data; /* where the tensors begin */
    cJSON *root;
    r2__stored *t;
    size_t n;
} r2__tensor_file;

static r2__stored *r2__find_stored(const r2__tensor_file *file, const char *name) {
    return (r2__stored *)bsearch(&name, file->t, file->n, sizeof *file->t, r2__by_name);
}

/* Whether a tensor says nothing: it is empty, or a table that follows from the configuration. */
static bool r2__says_nothing(const r2__stored *t) {
    static const char table[] = "rotary_emb.inv_freq";
    const size_t len = strlen(t->name), tail = sizeof table - 1;
    return t->begin == t->end || (len >= tail && strcmp(t->name + len - tail, table) == 0);
}

/* Finds a wanted tensor and checks its type, its shape and its numbers. */
static r2_status r2__check_tensor(r2_ctx *ctx, const r2__tensor_file *file, const r2__named *want) {
    r2__stored *found = r2__find_stored(file, want->name);
    if (!found) return r2_fail(ctx, R2_FORMAT, "%s: no tensor %s", file->path, want->name);
    found->want = want;
    bool fits = found->rank == want->rank && found->shape[found->rank - 1] == want->cols &&
                (found->rank == 1 || found->shape[0] == want->rows);
    if (!fits || !r2__is_one_of(found->dtype, "F32 F16 BF16"))
        return r2_fail(ctx, R2_FORMAT,
                       "%s: %s is %s of %lld x %lld, expected F32, F16 or BF16 of %lld x %lld",
                       file->path, want->name, found->dtype,
                       (long long)(found->rank > 1 ? found->shape[0] : 1),
                       (long long)(found->rank > 0 ? found->shape[found->rank - 1] : 1),
                       (long long)want->rows, (long long)want->cols);
    for (int64_t i = 0; i < want->rows * want->cols; ++i)
        if (!isfinite(r2__stored_float(found, i)))
            return r2_fail(ctx, R2_FORMAT, "%s: %s: expected finite numbers, found %g at %lld",
                           file->path, want->name, (double)r2__stored_float(found, i),
                           (long long)i);
    return R2_OK;
}

/* Fills the tensors of the list from an open file, all or none: the file must have these, in the
   right shapes, and no others that say anything. */
static r2_status r2__fill_tensors(r2_ctx *ctx, const r2__tensor_file *file, const r2__named *list,
                                  int64_t n) {
    for (int64_t i = 0; i < n; ++i)
        if (r2__check_tensor(ctx, file, &list[i]) != R2_OK) return ctx->status;
    for (const r2__stored *t = file->t; t < file->t + file->n; ++t)
        if (!t->want && !r2__says_nothing(t))
            return r2_fail(ctx, R2_FORMAT, "%s: tensor %s: expected only those of the model",
                           file->path, t->name);
    for (const r2__stored *t = file->t; t < file->t + file->n; ++t)
        for (int64_t i = 0; t->want && i < t->want->rows * t->want->cols; ++i)
            t->want->data[i] = r2__stored_float(t, i);
    return R2_OK;
}

/* Reads the header of a file: its length and its JSON, no more. */
static r2_status r2__read_header(r2_ctx *ctx, FILE *in, r2__tensor_file *file) {
    r2_text *text = &file->text;
    uint64_t length = 0;
    r2_status status = r2__read_up_to(ctx, in, file->path, 9, text);
    for (int b = 0; b < 8 && text->len > 8; ++b)
        length |= (uint64_t)(unsigned char)text->data[b] << 8 * b;
    if (status == R2_OK && length >= 2 && length <= 100000000u && text->data[8] == '{') {
        file->data = 8 + (size_t)length;
        status = r2__read_up_to(ctx, in, file->path, file->data, text);
    }
    if (status == R2_OK && (!file->data || text->len < file->data))
        return r2_fail(ctx, R2_FORMAT, "%s: not a safetensors file: %llu bytes, header of %llu",
                       file->path, (unsigned long long)text->len, (unsigned long long)length);
    if (status != R2_OK) return status;
    status = r2__json_parse(ctx, r2__slice_of(text->data + 8, (size_t)length), true, &file->root);
    return status != R2_FORMAT ? status
                               : r2_fail(ctx, R2_FORMAT,
                                         "%s: the header is not one JSON object of whole numbers",
                                         file->path);
}

/* Reads and checks a file from the front: what its first bytes rule out is not read on. */
static r2_status r2__read_tensors(r2_ctx *ctx, FILE *in, r2__tensor_file *file) {
    uint64_t bytes = 0;
    if (r2__read_header(ctx, in, file) != R2_OK) return ctx->status;
    file->t = (r2__stored *)r2_alloc(ctx, (uint64_t)cJSON_GetArraySize(file->root),
                                     sizeof *file->t);
    if (!file->t) return ctx->status;
    r2_status status = r2__read_entries(ctx, file->path, file->root, file->t, &file->n);
    if (status == R2_OK) status = r2__check_stored(ctx, file->path, file->t, file->n, &bytes);
    if (status != R2_OK) return status;
    size_t end = bytes < SIZE_MAX - file->data ? file->data + (size_t)bytes : SIZE_MAX - 1;
    status = r2__read_up_to(ctx, in, file->path, end + 1, &file->text);
    if (status == R2_OK && file->text.len != end)
        return r2_fail(ctx, R2_FORMAT, "%s: expected %llu bytes of tensors, found %s", file->path,
                       (unsigned long long)bytes, file->text.len < end ? "fewer" : "more");
    for (size_t i = 0; i < file->n; ++i)
        file->t[i].data = (const unsigned char *)file->text.data + file->data + file->t[i].begin;
    return status;
}

static void r2__tensor_close(r2_ctx *ctx, r2__tensor_file *file) {
    cJSON_Delete(file->root);
    r2_release(ctx, file->t);
    r2_text_free(ctx, &file->text);
    memset(file, 0, sizeof *file);
}

/* Release with r2__tensor_close; a failed call needs none. */
static r2_status r2__tensor_open(r2_ctx *ctx, const char *path, r2__tensor_file *file) {
    FILE *in;
    r2_status status = r2__open(ctx, path, &in);
    memset(file, 0, sizeof *file);
    file->path = path;
    if (status != R2_OK) return status;
    status = r2__read_tensors(ctx, in, file);
    r2__file_close(ctx, in, path);
    if (status != R2_OK) r2__tensor_close(ctx, file);
    return status;
}

/* Fills the model's weights, or its adapters, from an open file. */
static r2_status r2__fill_model(r2_ctx *ctx, const r2__tensor_file *file, const r2_model *model,
                                bool adapters) {
    int64_t n = 0;
    r2__named *list = r2__list(ctx, model, adapters, &n);
    r2_status status = list ? r2__fill_tensors(ctx, file, list, n) : ctx->status;
    r2_release(ctx, list);
    return status;
}
static r2_status r2__load_tensors(r2_ctx *ctx, r2_model *model, bool adapters, const char *path) {
    r2__tensor_file file;
    r2_status status = r2__check_own_weights(ctx, model, path);
    if (status == R2_OK) status = r2__tensor_open(ctx, path, &file);
    if (status != R2_OK) return status;
    status = r2__fill_model(ctx, &file, model, adapters);
    r2__tensor_close(ctx, &file);
    return status;
}

r2_status r2_model_load(r2_ctx *ctx, r2_model *model, const char *path) {
    return r2__load_tensors(ctx, model, false, path);
}

/* ---- settings in JSON: config.json, adapter_config.json ----
   `status` keeps the first fault; values read after it do not matter. */

typedef struct r2__settings {
    r2_ctx *ctx;
    char path[R2__PATH];
    cJSON *root;
    r2_status status;
} r2__settings;

static void r2__settings_fail(r2__settings *s, const char *key, const char *what) {
    if (s->status == R2_OK) s->status = r2_fail(s->ctx, R2_FORMAT, "%s: %s %s", s->path, key, what);
}

/* path(R2__PATH) = directory/name. */
static r2_status r2__join_path(r2_ctx *ctx, char *path, const char *directory, const char *name) {
    int n = snprintf(path, R2__PATH, "%s/%s", directory, name);
    if (n > 0 && n < R2__PATH) return R2_OK;
    return r2_fail(ctx, R2_ARGUMENT, "%.200s...: the path is too long", directory);
}

/* Reads directory/name, one JSON object; release with cJSON_Delete(s->root), also on failure. */
static r2_status r2__settings_read(r2_ctx *ctx, r2__settings *s, const char *directory,
                                   const char *name) {
    memset(s, 0, sizeof *s);
    s->ctx = ctx;
    s->status = r2__join_path(ctx, s->path, directory, name);
    if (s->status == R2_OK) s->status = r2__json_read(ctx, s->path, &s->root);
    if (s->status == R2_OK && !cJSON_IsObject(s->root))
        s->status = r2_fail(ctx, R2_FORMAT, "%s: expected a JSON object", s->path);
    return s->status;
}

/* The value of `key`; NULL when it is absent or null. */
static const cJSON *r2__setting(const cJSON *object, const char *key) {
    const cJSON *found = r2__json_get(object, key);
    return cJSON_IsNull(found) ? NULL : found;
}

/* A positive integer; `missing` if it is absent, unless that is 0: then it is required. */
static int32_t r2__setting_int(r2__settings *s, const char *key, int32_t missing) {
    const cJSON *item = r2__setting(s->root, key);
    int64_t value;
    if (!item && missing > 0) return missing;
    if (item && r2__json_whole(item, 1, INT32_MAX, &value)) return (int32_t)value;
    r2__settings_fail(s, key, "is missing or not a positive integer");
    return 1;
}

/* A number that is positive as a float too, by the same rule. */
static float r2__setting_float(r2__settings *s, const cJSON *object, const char *key,
                               float missing) {
    const cJSON *item = r2__setting(object, key);
    if (!item && missing > 0.0f) return missing;
    if (cJSON_IsNumber(item) && item->valuedouble < 1e30 && (float)item->valuedouble > 0.0f)
        return (float)item->valuedouble;
    r2__settings_fail(s, key, "is missing or not a positive number");
    return 1.0f;
}

/* Refuses any other value of a setting than the supported ones. */
static void r2__setting_only(r2__settings *s, const cJSON *object, const char *key,
                             const char *values) {
    const cJSON *item = r2__setting(object, key);
    char what[96];
    snprintf(what, sizeof what, "is \"%.32s\", not %s: not supported",
             cJSON_IsString(item) ? item->valuestring : "?", values);
    if (item && (!cJSON_IsString(item) || !r2__is_one_of(item->valuestring, values)))
        r2__settings_fail(s, key, what);
}

/* null, false or empty */
static bool r2__is_off(const cJSON *item) {
    const bool list = cJSON_IsObject(item) || cJSON_IsArray(item);
    return cJSON_IsNull(item) || cJSON_IsFalse(item) || (list && !item->child);
}

/* ---- a Hugging Face directory ---- */

/* rope_theta is at the top, scaled positions in rope_scaling; newer: both in rope_parameters. */
static float r2__setting_rope(r2__settings *s) {
    static const char *const places[] = {"rope_scaling", "rope_parameters"};
    float outer = 10000.0f, inner;
    outer = r2__setting_float(s, s->root, "rope_theta", outer);
    for (int k = 0; k < 2; ++k) {
        const cJSON *rope = r2__setting(s->root, places[k]);
        if (!rope) continue;
        if (!cJSON_IsObject(rope)) {
            r2__settings_fail(s, places[k], "is not an object");
            continue;
        }
        r2__setting_only(s, rope, "rope_type", "default");
        r2__setting_only(s, rope, "type", "default");
        for (const cJSON *item = rope->child; item; item = item->next)
            if (!r2__is_one_of(item->string, "rope_theta rope_type type"))
                r2__settings_fail(s, item->string, "changes positions: not supported");
        inner = r2__setting_float(s, rope, "rope_theta", outer);
        if (inner != outer && r2__setting(s->root, "rope_theta"))
            r2__settings_fail(s, "rope_theta", "occurs twice, with two values");
        outer = inner;
    }
    return outer;
}

/* Refuses settings under which the model would compute something that r2_forward does not. */
static void r2__check_decoder(r2__settings *s, const r2_model_config *c) {
    static const char *const off[] = {"attention_bias", "mlp_bias", "use_sliding_window",
                                      "quantization_config", "pruned_heads"};
    const cJSON *layers = r2__setting(s->root, "layer_types");
    const float partial = r2__setting_float(s, s->root, "partial_rotary_factor", 1.0f);
    for (size_t k = 0; k < sizeof off / sizeof *off; ++k) {
        const cJSON *item = r2__setting(s->root, off[k]);
        if (item && !r2__is_off(item)) r2__settings_fail(s, off[k], "is in use: not supported");
    }
    r2__setting_only(s, s->root, "hidden_act", "silu");
    if (partial != 1.0f) r2__settings_fail(s, "partial_rotary_factor", "is not 1: not supported");
    if (layers && !cJSON_IsArray(layers)) r2__settings_fail(s, "layer_types", "is not a list");
    for (const cJSON *item = layers ? layers->child : NULL; item; item = item->next)
        if (!cJSON_IsString(item) || strcmp(item->valuestring, "full_attention") != 0)
            r2__settings_fail(s, "layer_types", "has other layers than full attention");
    if (c->d_model < c->n_head)
        r2__settings_fail(s, "hidden_size", "is less than num_attention_heads");
    if (r2__setting_int(s, "head_dim", c->d_model / c->n_head) != c->d_model / c->n_head)
        r2__settings_fail(s, "head_dim", "is not hidden_size / num_attention_heads");
    r2__setting_only(s, s->root, "torch_dtype", "float32 float16 bfloat16");
    r2__setting_only(s, s->root, "dtype", "float32 float16 bfloat16");
}

/* The shape that config.json states. Whether the head is tied is decided by the weights; *tied is
   what the file says of it, -1: nothing. */
static r2_status r2__read_config(r2_ctx *ctx, const char *directory, int32_t n_ctx,
                                 r2_model_config *c, int *tied) {
    r2__settings s;
    const cJSON *type, *tie;
    *tied = -1;
    *c = r2_model_config_default();
    if (r2__settings_read(ctx, &s, directory, "config.json") == R2_OK) {
        type = r2__setting(s.root, "model_type");
        c->qkv_bias = cJSON_IsString(type) && strcmp(type->valuestring, "qwen2") == 0;
        if (!c->qkv_bias && !(cJSON_IsString(type) && strcmp(type->valuestring, "llama") == 0))
            r2__settings_fail(&s, "model_type", "is neither \"llama\" nor \"qwen2\"");
        c->init_std = 0.0f;
        c->n_vocab = r2__setting_int(&s, "vocab_size", 0);
        c->n_layer = r2__setting_int(&s, "num_hidden_layers", 0);
        c->n_head = r2__setting_int(&s, "num_attention_heads", 0);
        c->n_kv_head = r2__setting_int(&s, "num_key_value_heads", c->n_head);
        c->d_model = r2__setting_int(&s, "hidden_size", 0);
        c->d_ff = r2__setting_int(&s, "intermediate_size", 0);
        c->n_ctx = r2__setting_int(&s, "max_position_embeddings", 0);
        c->norm_eps = r2__setting_float(&s, s.root, "rms_norm_eps", 1e-6f);
        c->rope_theta = r2__setting_rope(&s);
        tie = r2__setting(s.root, "tie_word_embeddings");
        if (tie) *tied = cJSON_IsTrue(tie);
        r2__check_decoder(&s, c);
        if (n_ctx < 0 || n_ctx > c->n_ctx)
            r2__settings_fail(&s, "max_position_embeddings", "is less than the n_ctx asked for");
        if (n_ctx > 0) c->n_ctx = n_ctx;
    }
    cJSON_Delete(s.root);
    return s.status;
}

/* A plain file name: no path that leaves the directory. */
static bool r2__is_file_name(const cJSON *item) {
    return cJSON_IsString(item) && item->valuestring[0] != '\0' && item->valuestring[0] != '.' &&
           !strpbrk(item->valuestring, "/\\:");
}

/* Refuses a config.json that asks for more parameters than there are bytes, two for each at least,
   before memory for them is allocated. */
static r2_status r2__check_room(r2_ctx *ctx, const char *path, const r2_model_config *config,
                                uint64_t n_bytes) {
    r2_model plan;
    if (r2__check_model(ctx, config) != R2_OK) return ctx->status;
    memset(&plan, 0, sizeof plan);
    plan.config = *config;
    r2__lay_out(&plan);
    if ((uint64_t)plan.n_params <= n_bytes / 2) return R2_OK;
    return r2_fail(ctx, R2_FORMAT, "%s: %llu bytes, config.json asks for %lld parameters", path,
                   (unsigned long long)n_bytes, (long long)plan.n_params);
}

/* An entry of weight_map. */
typedef struct r2__shard {
    const char *name, *file;
    const r2__named *want; /* NULL: not the model's */
} r2__shard;

static int r2__by_file(const void *a, const void *b) {
    return strcmp(((const r2__shard *)a)->file, ((const r2__shard *)b)->file);
}

/* Opens the shards of entry (n), sorted by file, for their sizes -> *sum; beyond a long: enough. */
static r2_status r2__shard_bytes(r2_ctx *ctx, const char *directory, const r2__shard *entry,
                                 size_t n, uint64_t *sum) {
    for (size_t i = 0; i < n; ++i) {
        char path[R2__PATH];
        FILE *file;
        if (i && r2__by_file(&entry[i - 1], &entry[i]) == 0) continue;
        if (r2__join_path(ctx, path, directory, entry[i].file) != R2_OK ||
            r2__open(ctx, path, &file) != R2_OK)
            return ctx->status;
        long size = r2__is_first(ctx) && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
        if (r2__team_tell(ctx, R2_OK, &size, sizeof size) != R2_OK) return ctx->status;
        *sum += size < 0 ? UINT64_MAX >> 20 : (uint64_t)size;
        r2__file_close(ctx, file, path);
    }
    return R2_OK;
}

/* Fills the tensors of entry (n), which are all in one file; part has room for them. */
static r2_status r2__load_shard(r2_ctx *ctx, const char *directory, const r2__shard *entry,
                                size_t n, r2__named *part) {
    char path[R2__PATH];
    int64_t n_part = 0;
    r2__tensor_file file;
    r2_status status = r2__join_path(ctx, path, directory, entry->file);
    if (status == R2_OK) status = r2__tensor_open(ctx, path, &file);
    if (status != R2_OK) return status;
    for (size_t k = 0; k < n && status == R2_OK; ++k) {
        if (entry[k].want) part[n_part++] = *entry[k].want;
        else if (!r2__find_stored(&file, entry[k].name))
            status = r2_fail(ctx, R2_FORMAT, "%s: no tensor %s", path, entry[k].name);
    }
    if (status == R2_OK) status = r2__fill_tensors(ctx, &file, part, n_part);
    r2__tensor_close(ctx, &file);
    return status;
}

/* Gives each tensor of the model its entry of weight_map, and sorts the entries by file. */
static r2_status r2__find_places(r2__settings *s, const r2__named *list, int64_t n_list,
                                 r2__shard *entry, size_t n) {
    if (s->status == R2_OK) s->status = r2__sort_names(s->ctx, s->path, entry, n, sizeof *entry);
    for (int64_t i = 0; i < n_list && s->status == R2_OK; ++i) {
        const char *name = list[i].name;
        r2__shard *found = (r2__shard *)bsearch(&name, entry, n, sizeof *entry, r2__by_name);
        if (found) found->want = &list[i];
        else r2__settings_fail(s, name, "has no file in weight_map");
    }
    qsort(entry, n, sizeof *entry, r2__by_file);
    return s->status;
}

/* Makes a model and fills it from the files that weight_map names, entry (n). */
static r2_status r2__load_indexed(r2__settings *s, r2_model *model, const char *directory,
                                  const r2_model_config *config, bool with_grad, r2__shard *entry,
                                  size_t n) {
    r2__named *list = NULL, *part = NULL;
    int64_t n_list = 0;
    uint64_t bytes = 0;
    qsort(entry, n, sizeof *entry, r2__by_file);
    s->status = r2__shard_bytes(s->ctx, directory, entry, n, &bytes);
    if (s->status == R2_OK) s->status = r2__check_room(s->ctx, s->path, config, bytes);
    if (s->status == R2_OK) s->status = r2_model_init(s->ctx, model, config, with_grad);
    if (s->status != R2_OK) return s->status;
    list = r2__list(s->ctx, model, false, &n_list);
    part = (r2__named *)r2_alloc(s->ctx, (uint64_t)n_list, sizeof *part);
    if (!list || !part) s->status = s->ctx->status;
    if (s->status == R2_OK) r2__find_places(s, list, n_list, entry, n);
    for (size_t i = 0, end; i < n && s->status == R2_OK; i = end) {
        for (end = i + 1; end < n && r2__by_file(&entry[i], &entry[end]) == 0;) ++end;
        s->status = r2__load_shard(s->ctx, directory, entry + i, end - i, part);
    }
    r2_release(s->ctx, list);
    r2_release(s->ctx, part);
    return s->status;
}

static r2_status r2__load_sharded(r2_ctx *ctx, r2_model *model, const char *directory,
                                  r2_model_config *config, bool with_grad) {
    r2__settings s;
    r2__shard *entry = NULL;
    size_t n = 0;
    if (r2__settings_read(ctx, &s, directory, "model.safetensors.index.json") == R2_OK) {
        const cJSON *map = r2__setting(s.root, "weight_map");
        if (!cJSON_IsObject(map)) r2__settings_fail(&s, "weight_map", "is missing");
        config->tied = !r2__setting(map, "lm_head.weight");
        entry = (r2__shard *)r2_alloc(ctx, (uint64_t)cJSON_GetArraySize(map), sizeof *entry);
        if (!entry && s.status == R2_OK) s.status = ctx->status;
        for (const cJSON *item = s.status == R2_OK ? map->child : NULL; item; item = item->next) {
            if (!r2__is_file_name(item))
                r2__settings_fail(&s, item->string, "has no file in weight_map");
            entry[n].name = item->string;
            entry[n++].file = item->valuestring;
        }
        if (s.status == R2_OK) r2__load_indexed(&s, model, directory, config, with_grad, entry, n);
    }
    r2_release(ctx, entry);
    cJSON_Delete(s.root);
    return s.status;
}

static r2_status r2__load_single(r2_ctx *ctx, r2_model *model, const char *path,
                                 r2_model_config *config, bool with_grad) {
    r2__tensor_file file;
    if (r2__tensor_open(ctx, path, &file) != R2_OK) return ctx->status;
    config->tied = !r2__find_stored(&file, "lm_head.weight");
    r2_status status = r2__check_room(ctx, path, config, file.text.len);
    if (status == R2_OK) status = r2_model_init(ctx, model, config, with_grad);
    if (status == R2_OK) status = r2__fill_model(ctx, &file, model, false);
    r2__tensor_close(ctx, &file);
    return status;
}

/* Refuses weights whose head is not what config.json says: others would read another model. */
static r2_status r2__check_head(r2_ctx *ctx, const char *directory, const r2_model *model,
                                int tied) {
    const r2_model_config *c = &model->config;
    const size_t bytes = (size_t)c->n_vocab * (size_t)c->d_model * sizeof(float);
    if (tied < 0 || tied == (int)c->tied) return R2_OK;
    if (tied && !memcmp(r2_weight(model, R2_EMBED, 0), r2_weight(model, R2_HEAD, 0), bytes))
        return R2_OK;
    return r2_fail(ctx, R2_FORMAT,
                   "%s/config.json: tie_word_embeddings is %s, but lm_head.weight %s", directory,
                   tied ? "true" : "false", tied ? "is another matrix" : "is missing");
}

r2_status r2_model_load_dir(r2_ctx *ctx, r2_model *model, const char *directory, int32_t n_ctx,
                            bool with_grad) {
    r2_model_config config;
    char path[R2__PATH];
    int tied = -1;
    memset(model, 0, sizeof *model);
    r2_status status = r2__join_path(ctx, path, directory, "model.safetensors");
    if (status == R2_OK) status = r2__read_config(ctx, directory, n_ctx, &config, &tied);
    if (status != R2_OK) return status;
    if (r2__file_exists(ctx, path)) status = r2__load_single(ctx, model, path, &config, with_grad);
    else status = r2__load_sharded(ctx, model, directory, &config, with_grad);
    if (status == R2_OK) status = r2__check_head(ctx, directory, model, tied);
    if (status != R2_OK) r2_model_free(ctx, model);
    return status;
}

/* Adds the text of config.json. */
static void r2__config_text(r2_ctx *ctx, const r2_model_config *c, r2_text *text) {
    r2_text_addf(ctx, text,
                 "{\n  \"architectures\": [\"%sForCausalLM\"],\n  \"model_type\": \"%s\",\n",
                 c->qkv_bias ? "Qwen2" : "Llama", c->qkv_bias ? "qwen2" : "llama");
    r2_text_addf(ctx, text,
                 "  \"vocab_size\": %d,\n  \"num_hidden_layers\": %d,\n"
                 "  \"num_attention_heads\": %d,\n  \"num_key_value_heads\": %d,\n"
                 "  \"hidden_size\": %d,\n  \"intermediate_size\": %d,\n"
                 "  \"max_position_embeddings\": %d,\n",
                 c->n_vocab, c->n_layer, c->n_head, c->n_kv_head, c->d_model, c->d_ff, c->n_ctx);
    r2_text_addf(ctx, text, "  \"rms_norm_eps\": ");
    r2__text_number(ctx, text, (double)c->norm_eps, 9);
    r2_text_addf(ctx, text, ",\n  \"rope_theta\": ");
    r2__text_number(ctx, text, (double)c->rope_theta, 9);
    r2_text_addf(ctx, text,
                 ",\n  \"hidden_act\": \"silu\",\n"
                 "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"float32\",\n"
                 "  \"bos_token_id\": null,\n  \"eos_token_id\": null\n}\n",
                 c->tied ? "true" : "false");
}

r2_status r2_model_save_dir(r2_ctx *ctx, const r2_model *model, const char *directory) {
    static const char *const name[] = {"config.json", "model.safetensors"};
    r2_text text[2];
    memset(text, 0, sizeof text);
    r2__config_text(ctx, &model->config, &text[0]);
    r2__tensors_text(ctx, model, false, &text[1]);
    return r2__save_together(ctx, directory, name, text, 2, false);
}

/* ---- adapters on disk ---- */

/* The name of a projection in target_modules, as "q_proj"; returns its length. */
static size_t r2__module_name(const r2_tensor *t, const char **name) {
    const char *dot = strchr(t->name, '.');
    *name = dot ? dot + 1 : t->name;
    return strcspn(*name, ".");
}

r2_status r2_lora_save(r2_ctx *ctx, const r2_model *model, const char *directory) {
    static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors"};
    r2_text text[2];
    bool first = true;
    if (!model->lora) return r2_fail(ctx, R2_ARGUMENT, "lora: the model has no adapters");
    memset(text, 0, sizeof text);
    r2_text_addf(ctx, &text[0],
                 "{\n  \"peft_type\": \"LORA\",\n  \"task_type\": \"CAUSAL_LM\",\n"
                 "  \"base_model_name_or_path\": null,\n  \"r\": %d,\n  \"lora_alpha\": ",
                 model->lora->config.rank);
    r2__text_number(ctx, &text[0], (double)model->lora->config.alpha, 9);
    r2_text_addf(ctx, &text[0],
                 ",\n  \"lora_dropout\": 0.0,\n  \"bias\": \"none\",\n"
                 "  \"fan_in_fan_out\": false,\n  \"target_modules\": [");
    for (int id = 0; id < R2_TENSOR_COUNT; ++id) {
        const char *name;
        const size_t length = r2__module_name(&model->tensor[id], &name);
        if (model->lora->offset[id] < 0) continue;
        r2_text_addf(ctx, &text[0], "%s\"%.*s\"", first ? "" : ", ", (int)length, name);
        first = false;
    }
    r2_text_addf(ctx, &text[0], "]\n}\n");
    r2__tensors_text(ctx, model, true, &text[1]);
    return r2__save_together(ctx, directory, files, text, 2, false);
}

/* The targets that target_modules names. */
static uint32_t r2__setting_targets(r2__settings *s, const r2_model *model) {
    const uint32_t allowed = r2_lora_config_default().targets;
    const cJSON *modules = r2__setting(s->root, "target_modules");
    uint32_t targets = 0;
    if (!cJSON_IsArray(modules) || !modules->child)
        r2__settings_fail(s, "target_modules", "is not a list of projections");
    for (const cJSON *item = modules ? modules->child : NULL; item; item = item->next) {
        uint32_t bit = 0;
        for (int id = 0; id < R2_TENSOR_COUNT && cJSON_IsString(item); ++id) {
            const char *name;
            const size_t length = r2__module_name(&model->tensor[id], &name);
            if ((allowed >> id & 1u) && strlen(item->valuestring) == length &&
                memcmp(item->valuestring, name, length) == 0)
                bit = 1u << id;
        }
        if (!bit || targets & bit)
            r2__settings_fail(s, "target_modules",
                              "names something other than projections, each once");
        targets |= bit;
    }
    return targets;
}

/* Refuses adapters that do more than add B A: every key that is not known here must be off. How the
   factors began does not matter, unless the base weights were changed with them (PiSSA ...). */
static void r2__check_adapter(r2__settings *s) {
    static const char known[] =
        "r lora_alpha target_modules peft_type bias init_lora_weights " /* looked at elsewhere */
        "auto_mapping base_model_name_or_path eva_config inference_mode lora_dropout megatron_core "
        "peft_version qalora_group_size revision runtime_config task_type"; /* change nothing */
    if (!r2__setting(s->root, "peft_type")) r2__settings_fail(s, "peft_type", "is missing");
    r2__setting_only(s, s->root, "peft_type", "LORA");
    r2__setting_only(s, s->root, "bias", "none");
    if (!cJSON_IsBool(r2__setting(s->root, "init_lora_weights")))
        r2__setting_only(s, s->root, "init_lora_weights", "gaussian eva orthogonal");
    for (const cJSON *item = s->root->child; item; item = item->next)
        if (!r2__is_one_of(item->string, known) && !r2__is_off(item))
            r2__settings_fail(s, item->string, "is in use: not supported");
}

r2_status r2_lora_load(r2_ctx *ctx, r2_model *model, const char *directory) {
    r2_lora_config config = r2_lora_config_default();
    char path[R2__PATH];
    r2__settings s;
    r2_status status = r2__join_path(ctx, path, directory, "adapter_model.safetensors");
    if (status != R2_OK) return status;
    if (r2__settings_read(ctx, &s, directory, "adapter_config.json") == R2_OK) {
        r2__check_adapter(&s);
        config.rank = r2__setting_int(&s, "r", 0);
        config.alpha = r2__setting_float(&s, s.root, "lora_alpha", 0.0f);
        config.targets = r2__setting_targets(&s, model);
        if (s.status == R2_OK) s.status = r2_lora_attach(ctx, model, &config);
        if (s.status == R2_OK) {
            s.status = r2__load_tensors(ctx, model, true, path);
            if (s.status != R2_OK) r2_lora_detach(ctx, model);
        }
    }
    cJSON_Delete(s.root);
    return s.status;
}

/* ---- codebooks ---- */

/* One line a field: its name, step, bucket edges and weights. */
static void r2__codebook_json(r2_ctx *ctx, const r2_codebook *codebook, r2_text *json) {
    r2_text_addf(ctx, json, "{\"n_chains\": %d, \"fields\": [\n", (int)codebook->n_chains);
    for (int f = 0; f < R2_N_FIELDS; ++f) {
        r2_text_addf(ctx, json, "  {\"name\": \"%s\", \"step\": %d, \"edges\": [",
                     r2_field_name((r2_field)f), (int)r2_field_step((r2_field)f));
        for (int32_t b = 1; b + 1 < codebook->n_bucket[f]; ++b) {
            r2_text_addf(ctx, json, "%s", b > 1 ? ", " : "");
            r2__text_number(ctx, json, (double)codebook->edge[f][b], 9);
        }
        r2_text_addf(ctx, json, "], \"weights\": [");
        for (int32_t b = 0; b < codebook->n_bucket[f]; ++b)
            r2_text_addf(ctx, json, "%s%d", b ? ", " : "", (int)codebook->weight[f][b]);
        r2_text_addf(ctx, json, "]}%s\n", f + 1 < R2_N_FIELDS ? "," : "");
    }
    r2_text_addf(ctx, json, "]}\n");
}

r2_status r2_codebook_save(r2_ctx *ctx, const r2_codebook *codebook, const char *path) {
    r2_text json = {NULL, 0, 0, false};
    r2__codebook_json(ctx, codebook, &json);
    return r2__write_text(ctx, path, &json);
}

/* Reads the numbers of a JSON array into out (n); false when it is not n numbers in [low, high]. */
static bool r2__json_numbers(const cJSON *array, int32_t n, double low, double high, float *out) {
    const cJSON *value = array ? array->child : NULL;
    int32_t k = 0;
    if (!cJSON_IsArray(array)) return false;
    for (; value && k < n; value = value->next, ++k) {
        if (!cJSON_IsNumber(value) || !(value->valuedouble >= low && value->valuedouble <= high))
            return false;
        out[k] = (float)value->valuedouble;
    }
    return k == n && !value;
}

/* One field of a codebook: as many buckets as the run has, ascending edges, whole weights. */
static bool r2__codebook_field(const cJSON *json, r2_field field, r2_codebook *codebook) {
    int32_t n = codebook->n_bucket[field];
    float weight[R2_MAX_BUCKETS], *edge = codebook->edge[field];
    const cJSON *name = r2__json_get(json, "name");
    if (!cJSON_IsString(name) || strcmp(name->valuestring, r2_field_name(field)) != 0 ||
        !r2__json_numbers(r2__json_get(json, "edges"), n > 2 ? n - 2 : 0, -(double)FLT_MAX,
                          (double)FLT_MAX, edge + 1) ||
        !r2__json_numbers(r2__json_get(json, "weights"), n, -R2_MAX_WEIGHT, R2_MAX_WEIGHT, weight))
        return false;
    for (int32_t b = 2; b < n - 1; ++b)
        if (!(edge[b] > edge[b - 1])) return false;
    for (int32_t b = 0; b < n; ++b) {
        codebook->weight[field][b] = (int8_t)weight[b];
        if ((float)codebook->weight[field][b] != weight[b]) return false;
    }
    return true;
}

r2_status r2_codebook_load(r2_ctx *ctx, r2_codebook *codebook, const char *path) {
    r2_codebook loaded = *codebook;
    cJSON *json;
    int f = 0;
    if (r2__json_read(ctx, path, &json) != R2_OK) return ctx->status;
    const cJSON *field = r2__json_get(json, "n_chains");
    bool good = cJSON_IsNumber(field) && field->valuedouble == (double)codebook->n_chains;
    field = r2__json_get(json, "fields");
    field = field ? field->child : NULL;
    for (; good && field && f < R2_N_FIELDS; field = field->next, ++f)
        good = r2__codebook_field(field, (r2_field)f, &loaded);
    good = good && f == R2_N_FIELDS && !field;
    cJSON_Delete(json);
    if (!good)
        return r2_fail(ctx, R2_FORMAT,
                       "%s: expected the fields and buckets of this run, found those of another",
                       path);
    *codebook = loaded;
    return R2_OK;
}

/* ---- the state of a training on disk ----

       head | weights | first moments | second moments | weights kept | reports of all steps

   Random numbers have no state: they are keyed by step and sample. Numbers are written as the
   machine has them: the file is for the same program on the same machine. */
typedef struct r2__state_head {
    char magic[8];
    uint64_t fingerprint, digest; /* of what it began with; of all that follows the head */
    int64_t n_params, step, updates, n_worse, has_measured, n_reports;
    double lowest;
} r2__state_head;

/* The parts after the head; returns their digest. */
static uint64_t r2__state_parts(const r2__training *t, r2__slice part[5]) {
    const size_t len = (size_t)t->opt.n_params * sizeof(float);
    const void *at[5] = {r2__trained_params(t->model), t->opt.m, t->opt.v, t->kept,
                         t->state.reports.data};
    uint64_t digest = 0;
    for (int k = 0; k < 5; ++k) {
        part[k].at = (const char *)at[k];
        part[k].len = k < 4 ? len : t->state.reports.len;
        digest = r2__fnv_on(digest, at[k], part[k].len);
    }
    return digest;
}

static r2_status r2__training_save(r2_ctx *ctx, r2__training *t) {
    const double began = r2_seconds();
    r2__slice piece[6];
    r2__state_head head;
    if (t->state.reports.failed) return R2_NO_MEMORY;
    memset(&head, 0, sizeof head);
    memcpy(head.magic, "r2state1", sizeof head.magic);
    head.fingerprint = t->state.fingerprint;
    head.digest = r2__state_parts(t, piece + 1);
    head.n_params = t->opt.n_params;
    head.step = t->step;
    head.updates = t->opt.step;
    head.n_worse = t->n_worse;
    head.has_measured = t->has_measured;
    head.n_reports = (int64_t)(t->state.reports.len / t->report_size);
    head.lowest = t->lowest;
    piece[0].at = (const char *)&head;
    piece[0].len = sizeof head;
    r2_status status = r2__write_pieces(ctx, t->state.path, piece, 6);
    t->state.saved = r2_seconds();
    t->state.cost = t->state.saved - began;
    return status;
}

/* Takes over what a file holds; false: it is not of this training, or damaged. */
static bool r2__training_take(r2_ctx *ctx, r2__training *t, const r2_text *text) {
    const size_t len = (size_t)t->opt.n_params * sizeof(float);
    float *to[4];
    r2__state_head head;
    if (text->len < sizeof head) return false;
    memcpy(&head, text->data, sizeof head);
    if (memcmp(head.magic, "r2state1", sizeof head.magic) ||
        head.fingerprint != t->state.fingerprint || head.n_params != t->opt.n_params ||
        head.step < 0 || head.step > t->n_steps || head.n_reports < 0 ||
        head.n_reports > head.step ||
        text->len != sizeof head + 4 * len + (size_t)head.n_reports * t->report_size ||
        head.digest != r2__fnv_on(0, text->data + sizeof head, text->len - sizeof head))
        return false;
    to[0] = r2__trained_params(t->model), to[1] = t->opt.m, to[2] = t->opt.v, to[3] = t->kept;
    for (size_t k = 0; k < 4; ++k) memcpy(to[k], text->data + sizeof head + k * len, len);
    r2_text_add(ctx, &t->state.reports, text->data + sizeof head + 4 * len,
                (size_t)head.n_reports * t->report_size);
    t->step = head.step;
    t->opt.step = head.updates;
    t->n_worse = head.n_worse;
    t->has_measured = head.has_measured != 0;
    t->lowest = head.lowest;
    return true;
}

/* Goes on where a training with the same beginning stood, if its state is there. `fingerprint`: of
   its data and settings; the weights are added. */
static r2_status r2__training_load(r2_ctx *ctx, r2__training *t, const char *path, double every,
                                   uint64_t fingerprint) {
    const float *param = r2__trained_params(t->model);
    r2_text text = {NULL, 0, 0, false};
    t->state.path = path;
    t->state.every = every;
    t->state.saved = r2_seconds();
    t->state.fingerprint = r2__fnv_on(fingerprint, param, (size_t)t->opt.n_params * sizeof *param);
    if (!r2__file_exists(ctx, path)) return R2_OK;
    r2_status status = r2_read_file(ctx, path, &text);
    if (status == R2_OK && !r2__training_take(ctx, t, &text))
        status = r2_fail(ctx, R2_FORMAT,
                         "%s: not the state of this training: it began with other data, settings "
                         "or weights, or the file is damaged; without it training begins anew",
                         path);
    if (status == R2_OK && t->state.reports.failed) status = ctx->status;
    r2_text_free(ctx, &text);
    return status;
}

static r2_status r2__training_step_done(r2_ctx *ctx, r2__training *t, const void *report) {
    r2__state *s = &t->state;
    r2_status status, saved = R2_OK;
    t->tell(t->config, report);
    ++t->step;
    int64_t done = r2__training_ends(t) ? t->n_steps : t->step;
    if (s->path) r2_text_add(ctx, &s->reports, (const char *)report, t->report_size);
    status = r2_progress(ctx, t->name, done, t->n_steps);
    /* when it is time to, when there is nothing more to do, when the training is to stop; it takes
       no more than a hundredth of the time */
    if (s->path && (r2_seconds() - s->saved >= fmax(s->every, 100.0 * s->cost) ||
                    done == t->n_steps || status == R2_CANCELLED))
        saved = r2__training_save(ctx, t);
    return saved != R2_OK ? saved : status;
}

/* A digest of what there is to learn from. */
static uint64_t r2__examples_fingerprint(const r2_examples *ex, uint64_t hash) {
    const size_t n = (size_t)ex->n;
    hash = r2__fnv_on(hash, &ex->group, sizeof ex->group);
    hash = r2__fnv_on(hash, ex->prompt_begin, (n + 1) * sizeof *ex->prompt_begin);
    hash = r2__fnv_on(hash, ex->trace_begin, (n + 1) * sizeof *ex->trace_begin);
    hash = r2__fnv_on(hash, ex->prompt, (size_t)ex->prompt_begin[n] * sizeof *ex->prompt);
    hash = r2__fnv_on(hash, ex->trace, (size_t)ex->trace_begin[n] * sizeof *ex->trace);
    return r2__fnv_on(hash, ex->answer, n);
}

/* Goes on from a state on disk: tells the steps so far again, restores the order of the groups. */
static r2_status r2__training_resume(r2_ctx *ctx, r2__training *t, const char *path, double every,
                                     uint64_t fingerprint) {
    const r2_status status = r2__training_load(ctx, t, path, every, fingerprint);
    const int64_t n_groups = t->ex->n / t->ex->group, drawn = t->step * t->groups;
    for (size_t at = 0; status == R2_OK && at < t->state.reports.len; at += t->report_size)
        t->tell(t->config, t->state.reports.data + at);
    if (drawn % n_groups) r2__shuffle(t->order, n_groups, t->seed, drawn / n_groups);
    return status;
}

/* The settings were checked before; here they join the fingerprint. */
static r2_status r2__sft_resume(r2_ctx *ctx, r2__training *t) {
    const r2_sft_config *c = (const r2_sft_config *)t->config;
    if (!c->state_path) return R2_OK;
    uint64_t fingerprint = r2__examples_fingerprint(t->ex, c->seed);
    if (c->valid) fingerprint = r2__examples_fingerprint(c->valid, fingerprint);
    r2__check_sft_config(ctx, c, false, &fingerprint);
    return r2__training_resume(ctx, t, c->state_path, (double)c->state_every, fingerprint);
}

static r2_status r2__grpo_resume(r2_ctx *ctx, r2__training *t) {
    const r2_grpo_config *c = (const r2_grpo_config *)t->config;
    if (!c->state_path) return R2_OK;
    uint64_t fingerprint = r2__examples_fingerprint(t->ex, c->seed);
    r2__check_grpo_config(ctx, c, &fingerprint);
    return r2__training_resume(ctx, t, c->state_path, (double)c->state_every, fingerprint);
}

/* ---- a training that diverged ---- */

/* The first tensor whose values, weights or gradients, are not all finite and of usable size. */
static const char *r2__bad_tensor(r2_ctx *ctx, const r2_model *model, const float *value,
                                  int64_t *at_layer) {
    for (int id = 0; id < R2_TENSOR_COUNT && !model->lora; ++id)
        for (int64_t layer = 0; layer < r2__tensor_layers(model, id); ++layer) {
            const r2_tensor *t = &model->tensor[id];
            const int64_t at = r2_weight(model, (r2_tensor_id)id, layer) - model->param;
            *at_layer = t->per_layer ? layer : -1;
            if (!(r2_sum_squares(ctx, value + at, r2__tensor_size(t)) <= (double)FLT_MAX))
                return t->name;
        }
    *at_layer = -1;
    return model->lora ? "the adapters" : "all tensors together";
}

/* Ends a training that diverged; the model gets back the weights that were kept. */
static r2_status r2__diverged(r2_ctx *ctx, r2__training *t, const char *what, const float *value) {
    int64_t layer = -1;
    const char *tensor = value ? r2__bad_tensor(ctx, t->model, value, &layer) : "";
    float *param = r2__trained_params(t->model);
    char place[32] = "";
    if (layer >= 0) snprintf(place, sizeof place, "layer %lld, ", (long long)layer);
    r2_fail(ctx, R2_DIVERGED, "%s: step %lld of %lld: %s%s%s is not finite; the model keeps %s",
            t->name, (long long)t->step + 1, (long long)t->n_steps, what, place, tensor,
            t->has_measured ? "its best weights" : "the weights before the last update");
    memcpy(param, t->kept, (size_t)t->opt.n_params * sizeof *param);
    return ctx->status;
}

/* ---- a run on disk ---- */

enum { R2__RUN_FILES = 4 };
static const char *const r2__run_files[R2__RUN_FILES] = {"model.safetensors", "vocab.txt",
                                                         "codebook.json", "config.json"};

r2_status r2_run_save(r2_ctx *ctx, const r2_run *run, const char *directory) {
    r2_text text[R2__RUN_FILES];
    if (!run->model.n_params)
        return r2_fail(ctx, R2_ARGUMENT, "%s: the run has no model to save", directory);
    if (run->model.lora && !run->model.lora->merged)
        return r2_fail(ctx, R2_ARGUMENT,
                       "%s: the model has adapters that are not merged, expected r2_lora_merge "
                       "before, or r2_lora_save instead",
                       directory);
    memset(text, 0, sizeof text);
    r2__tensors_text(ctx, &run->model, false, &text[0]);
    r2__vocab_lines(ctx, &run->vocab, &text[1]);
    r2__codebook_json(ctx, &run->codebook, &text[2]);
    r2__config_text(ctx, &run->model.config, &text[3]);
    return r2__save_together(ctx, directory, r2__run_files, text, R2__RUN_FILES, true);
}

/* The shape of a saved model must be that of the run. */
static r2_status r2__run_same_shape(r2_ctx *ctx, const r2_run *run, const char *path) {
    r2_text found = {NULL, 0, 0, false}, expected = {NULL, 0, 0, false};
    r2_status status = r2_read_file(ctx, path, &found);
    r2__config_text(ctx, &run->model.config, &expected);
    if (status == R2_OK && expected.failed) status = R2_NO_MEMORY;
    if (status == R2_OK && (found.len != expected.len ||
                            (found.len && memcmp(found.data, expected.data, found.len) != 0)))
        status = r2_fail(ctx, R2_FORMAT, "%s: written by a run of another configuration", path);
    r2_text_free(ctx, &found);
    r2_text_free(ctx, &expected);
    return status;
}

/* So must its words. */
static r2_status r2__run_same_words(r2_ctx *ctx, const r2_run *run, const char *path) {
    const r2_vocab *own = &run->vocab;
    r2_vocab found;
    memset(&found, 0, sizeof found);
    r2_status status = r2_vocab_load(ctx, &found, path);
    if (status == R2_OK && found.n_words != own->n_words)
        status = r2_fail(ctx, R2_FORMAT, "%s: expected the %d words of this run, found %d", path,
                         (int)own->n_words, (int)found.n_words);
    for (int32_t w = 0; w < own->n_words && status == R2_OK; ++w)
        if (strcmp(found.word[w], own->word[w]) != 0)
            status = r2_fail(ctx, R2_FORMAT, "%s:%d: expected \"%s\", found \"%s\"", path,
                             (int)w + 1, own->word[w], found.word[w]);
    r2_vocab_free(ctx, &found);
    return status;
}

r2_status r2_run_load_model(r2_ctx *ctx, r2_run *run, const char *directory) {
    char path[R2__PATH];
    r2_codebook codebook = run->codebook;
    r2_examples train;
    r2_status status = r2__settle(ctx, directory, r2__run_files, R2__RUN_FILES);
    memset(&train, 0, sizeof train);
    if (status == R2_OK) status = r2__join_path(ctx, path, directory, "config.json");
    if (status == R2_OK) status = r2__run_same_shape(ctx, run, path);
    if (status == R2_OK) status = r2__join_path(ctx, path, directory, "vocab.txt");
    if (status == R2_OK) status = r2__run_same_words(ctx, run, path);
    if (status == R2_OK) status = r2__join_path(ctx, path, directory, "codebook.json");
    if (status == R2_OK) status = r2_codebook_load(ctx, &codebook, path);
    if (status == R2_OK) /* the prompts of the run, with the loaded buckets */
        status = r2__run_examples(ctx, run, &codebook, &train);
    if (status == R2_OK) status = r2__join_path(ctx, path, directory, "model.safetensors");
    if (status == R2_OK) status = r2_model_load(ctx, &run->model, path);
    if (status == R2_OK) {
        r2_examples_free(ctx, &run->train);
        run->train = train;
        run->codebook = codebook;
    } else {
        r2_examples_free(ctx, &train);
    }
    return status;
}

/* ---- a model of other data ---- */

/* How many buckets of each field a vocabulary has words for. */
static void r2__vocab_buckets(const r2_vocab *vocab, r2_codebook *codebook) {
    for (int f = 0; f < R2_N_FIELDS; ++f) {
        char word[40];
        int32_t n = 0;
        do r2__fact_word(word, sizeof word, (r2_field)f, n);
        while (r2_vocab_find(vocab, word) >= 0 && ++n < R2_MAX_BUCKETS);
        codebook->n_bucket[f] = n;
    }
}

/* The bucket of n_theirs at the place of `bucket` among n: lowest stays lowest, highest highest. */
static int32_t r2__bucket_there(int32_t bucket, int32_t n, int32_t n_theirs) {
    if (bucket == 0 || n_theirs < 2) return 0;
    if (n < 3) return n_theirs / 2;
    return 1 + ((bucket - 1) * (n_theirs - 2) + (n - 2) / 2) / (n - 2);
}

/* word (words of the run) = the word of `vocab`, whose buckets are `theirs`, that each means; the
   codebook of the run gets the weights of theirs. */
static r2_status r2__words_there(r2_ctx *ctx, const r2_run *run, const r2_vocab *vocab,
                                 const r2_codebook *theirs, r2_codebook *codebook, int32_t *word) {
    for (int32_t w = 0; w < run->vocab.n_words; ++w)
        word[w] = r2_vocab_find(vocab, run->vocab.word[w]);
    for (int f = 0; f < R2_N_FIELDS; ++f)
        for (int32_t b = 0; b < codebook->n_bucket[f]; ++b) {
            const int32_t there = r2__bucket_there(b, codebook->n_bucket[f], theirs->n_bucket[f]);
            char own[40], other[40];
            r2__fact_word(own, sizeof own, (r2_field)f, b);
            r2__fact_word(other, sizeof other, (r2_field)f, there);
            word[r2_vocab_find(&run->vocab, own)] = r2_vocab_find(vocab, other);
            codebook->weight[f][b] = theirs->weight[f][there];
        }
    for (int32_t w = 0; w < run->vocab.n_words; ++w)
        if (word[w] < 0)
            return r2_fail(ctx, R2_FORMAT, "the model has no word \"%s\"", run->vocab.word[w]);
    return R2_OK;
}

/* Copies all weights, the rows of words as `word` says. Errors: R2_FORMAT (another shape). */
static r2_status r2__copy_there(r2_ctx *ctx, r2_model *to, const r2_model *from,
                                const int32_t *word) {
    const size_t width = (size_t)to->config.d_model;
    const r2_model_config *a = &from->config, *b = &to->config;
    if (a->n_layer != b->n_layer || a->n_head != b->n_head || a->n_kv_head != b->n_kv_head ||
        a->d_model != b->d_model || a->d_ff != b->d_ff || a->qkv_bias != b->qkv_bias ||
        a->tied != b->tied || a->rope_theta != b->rope_theta || a->norm_eps != b->norm_eps)
        return r2_fail(ctx, R2_FORMAT, "the model has another shape than that of the run");
    for (int id = 0; id < R2_TENSOR_COUNT; ++id)
        for (int64_t layer = 0; layer < r2__tensor_layers(to, id); ++layer) {
            float *w = r2_weight(to, (r2_tensor_id)id, layer);
            const float *theirs = r2_weight(from, (r2_tensor_id)id, layer);
            if (id != R2_EMBED && id != R2_HEAD)
                memcpy(w, theirs, (size_t)r2__tensor_size(&to->tensor[id]) * sizeof *w);
            else
                for (int32_t k = 0; k < to->config.n_vocab; ++k)
                    memcpy(w + (size_t)k * width, theirs + (size_t)word[k] * width,
                           width * sizeof *w);
        }
    return R2_OK;
}

r2_status r2_run_borrow_model(r2_ctx *ctx, r2_run *run, const char *directory) {
    char path[R2__PATH];
    r2_codebook theirs = run->codebook, codebook = run->codebook;
    r2_vocab vocab;
    r2_model model;
    r2_examples train;
    int32_t *word = (int32_t *)r2_alloc(ctx, (uint64_t)run->vocab.n_words, sizeof *word);
    r2_status status = ctx->status;
    if (word) status = r2__settle(ctx, directory, r2__run_files, R2__RUN_FILES);
    memset(&vocab, 0, sizeof vocab), memset(&model, 0, sizeof model);
    memset(&train, 0, sizeof train);
    if (status == R2_OK) status = r2__join_path(ctx, path, directory, "vocab.txt");
    if (status == R2_OK) status = r2_vocab_load(ctx, &vocab, path);
    if (status == R2_OK) status = r2__join_path(ctx, path, directory, "codebook.json");
    if (status == R2_OK) r2__vocab_buckets(&vocab, &theirs);
    if (status == R2_OK) status = r2_codebook_load(ctx, &theirs, path);
    if (status == R2_OK)
        status = r2_model_load_dir(ctx, &model, directory, run->model.config.n_ctx, false);
    if (status == R2_OK && model.config.n_vocab != vocab.n_words)
        status = r2_fail(ctx, R2_FORMAT, "%s: %d words, the model has %d", directory,
                         (int)vocab.n_words, (int)model.config.n_vocab);
    if (status == R2_OK) status = r2__words_there(ctx, run, &vocab, &theirs, &codebook, word);
    if (status == R2_OK) status = r2__run_examples(ctx, run, &codebook, &train);
    if (status == R2_OK) status = r2__copy_there(ctx, &run->model, &model, word);
    if (status == R2_OK) {
        r2_examples change = run->train;
        run->train = train, train = change;
        run->codebook = codebook;
    }
    r2_examples_free(ctx, &train);
    r2_model_free(ctx, &model);
    r2_vocab_free(ctx, &vocab);
    r2_release(ctx, word);
    return status;
}

/* =============================================================================== [E8] text ==== */

/* In:   text; prompts and outputs; evidence with titles.
   Out:  token ids and back; English prompts, traces and verdicts; records; drawings; the effect of
         one changed fact on an answer.

       vocabulary   a word, an id
       Unicode      classes of letters, normal form C
       BPE          " Matrix" -> " M" "atrix" -> ids, learned, encoded, read from tokenizer.json
       English      evidence -> prompt -> trace -> verdict, each from the text of the one before
       records      (Q, R, A) <-> a line of JSON
       explaining   a prompt and its reasoning, drawn for a person
       changes      is the reasoning what decides?

   Worked: in "abab ab" the pair (a, b) stands three times, so a BPE of one merge writes the text as
   ab ab " " ab, 4 ids in place of 7 bytes (test_token.c, the_merge_of_the_room_opening). */

/* ---- token lists and the closed vocabulary ---- */

void r2_tokens_add(r2_ctx *ctx, r2_tokens *tokens, int32_t id) {
    if (r2__array_reserve(ctx, &tokens->owner, &tokens->id, sizeof *tokens->id, 1) == R2_OK)
        stbds_arrput(tokens->id, id);
    tokens->n = (int64_t)stbds_arrlenu(tokens->id);
}

static void r2__tokens_cut(r2_tokens *tokens, int64_t n) {
    if (tokens->id) stbds_header(tokens->id)->length = (size_t)n;
    tokens->n = n;
}

void r2_tokens_clear(r2_tokens *tokens) { r2__tokens_cut(tokens, 0); }

void r2_tokens_free(r2_ctx *ctx, r2_tokens *tokens) {
    r2__array_free(ctx, &tokens->owner, &tokens->id);
    memset(tokens, 0, sizeof *tokens);
}

int32_t r2_vocab_find(const r2_vocab *vocab, const char *word) {
    return (int32_t)r2__map_find(vocab->word, sizeof *vocab->word, word, 0);
}

/* Adds a word that is not there yet. */
static r2_status r2__vocab_append(r2_ctx *ctx, r2_vocab *vocab, const char *word) {
    const char *copy = r2__arena_string(ctx, &vocab->text, word);
    int64_t at = 0;
    if (!copy) return ctx->status;
    if (vocab->n_words == INT32_MAX) return r2_fail(ctx, R2_ARGUMENT, "vocabulary: too many words");
    r2_status status = r2__map_put(ctx, &vocab->owner, &vocab->word, sizeof *vocab->word, copy, 0,
                                   &at);
    vocab->n_words = status == R2_OK ? (int32_t)at + 1 : 0;
    return status;
}

r2_status r2_vocab_add(r2_ctx *ctx, r2_vocab *vocab, const char *word, int32_t *id) {
    int32_t found = r2_vocab_find(vocab, word);
    bool good = *word != '\0';
    for (const char *p = word; *p; ++p) good = good && (unsigned char)*p > ' ' && *p != 127;
    if (!good)
        return r2_fail(ctx, R2_ARGUMENT,
                       "vocabulary: '%s' is empty or holds a space or control character", word);
    if (found < 0) {
        if (r2__vocab_append(ctx, vocab, word) != R2_OK) return ctx->status;
        found = vocab->n_words - 1;
    }
    if (id) *id = found;
    return R2_OK;
}

r2_status r2_vocab_encode(r2_ctx *ctx, const r2_vocab *vocab, const char *text, size_t len,
                          r2_tokens *out) {
    r2_text copy = {NULL, 0, 0, false}; /* its spaces become ends of words */
    r2_status status = R2_OK;
    r2_text_add(ctx, &copy, text, len);
    if (copy.failed) status = ctx->status;
    for (size_t at = 0; status == R2_OK && len > 0 && at <= len;) { /* "a " ends in an empty word */
        char *word = copy.data + at;
        size_t word_len = strcspn(word, " ");
        bool whole = at + word_len == len || word[word_len] == ' '; /* no NUL inside */
        word[word_len] = '\0';
        int32_t id = whole ? r2_vocab_find(vocab, word) : -1;
        if (id < 0) status = r2_fail(ctx, R2_FORMAT, "vocabulary: unknown word '%.80s'", word);
        else r2_tokens_add(ctx, out, id);
        at += word_len + 1;
    }
    r2_text_free(ctx, &copy);
    return status == R2_OK && out->owner.failed ? ctx->status : status;
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

static void r2__vocab_lines(r2_ctx *ctx, const r2_vocab *vocab, r2_text *text) {
    for (int32_t i = 0; i < vocab->n_words; ++i) r2_text_addf(ctx, text, "%s\n", vocab->word[i]);
}

r2_status r2_vocab_save(r2_ctx *ctx, const r2_vocab *vocab, const char *path) {
    r2_text text = {NULL, 0, 0, false};
    r2__vocab_lines(ctx, vocab, &text);
    return r2__write_text(ctx, path, &text);
}

/* Adds the lines of a text as words; `name` is for messages. The text is changed. */
static r2_status r2__vocab_add_lines(r2_ctx *ctx, r2_vocab *vocab, const char *name,
                                     r2_text *text) {
    r2_status status = text->failed ? ctx->status : R2_OK;
    size_t at = 0;
    for (int32_t line = 1; status == R2_OK && at < text->len; ++line) {
        char *word = text->data + at;
        size_t len = strcspn(word, "\n");
        bool whole = at + len == text->len || word[len] == '\n'; /* no NUL inside */
        word[len] = '\0';
        if (!whole || r2_vocab_find(vocab, word) >= 0)
            status = r2_fail(ctx, R2_FORMAT, "%s:%d: expected a new word, found '%.80s'", name,
                             (int)line, word);
        else status = r2_vocab_add(ctx, vocab, word, NULL);
        if (status == R2_ARGUMENT)
            status = r2_fail(ctx, R2_FORMAT, "%s:%d: expected a word without spaces, found '%.80s'",
                             name, (int)line, word);
        at += len + 1;
    }
    return status;
}

r2_status r2_vocab_load(r2_ctx *ctx, r2_vocab *vocab, const char *path) {
    r2_text text = {NULL, 0, 0, false};
    r2_status status = r2__read_text(ctx, path, &text);
    if (status == R2_OK) status = r2__vocab_add_lines(ctx, vocab, path, &text);
    r2_text_free(ctx, &text);
    if (status != R2_OK) r2_vocab_free(ctx, vocab);
    return status;
}

void r2_vocab_free(r2_ctx *ctx, r2_vocab *vocab) {
    r2__map_free(ctx, &vocab->owner, &vocab->word, sizeof *vocab->word);
    r2_arena_free(ctx, &vocab->text);
    memset(vocab, 0, sizeof *vocab);
}

/* ---- the closed vocabulary as a tokenizer ---- */

static r2_status r2__vocab_tokens(r2_ctx *ctx, const void *self, const char *text, size_t len,
                                  bool marks, r2_tokens *out) {
    (void)marks; /* they are words like any other */
    for (; len > 0 && *text == ' '; ++text) --len;
    while (len > 0 && text[len - 1] == ' ') --len;
    return r2_vocab_encode(ctx, (const r2_vocab *)self, text, len, out);
}

static r2_status r2__vocab_prompt(r2_ctx *ctx, const void *self, const char *system,
                                  const char *user, r2_tokens *out) {
    (void)system;
    return r2__vocab_tokens(ctx, self, user, strlen(user), false, out);
}

static r2_status r2__vocab_text(r2_ctx *ctx, const void *self, const int32_t *id, int64_t n,
                                r2_text *out) {
    return r2_vocab_decode(ctx, (const r2_vocab *)self, id, n, out);
}

r2_tokenizer r2_tokenizer_vocab(const r2_vocab *vocab) {
    r2_tokenizer t = {vocab, vocab->n_words, r2__vocab_tokens, r2__vocab_prompt, r2__vocab_text};
    return t;
}

/* ---- the codec: how examples become tokens, and how outputs are checked ---- */

static r2_status r2__mark_find(r2_ctx *ctx, const r2_tokenizer *tokenizer, const char *text,
                               int64_t room, r2_mark *mark) {
    r2_tokens found = {NULL, 0, {NULL, false}};
    r2_status status = tokenizer->encode(ctx, tokenizer->self, text, strlen(text), true, &found);
    if (status == R2_OK && (found.n < 1 || found.n > room))
        status = r2_fail(ctx, R2_ARGUMENT, "codec: \"%s\" has %lld tokens, expected 1 .. %lld",
                         text, (long long)found.n, (long long)room);
    if (status == R2_OK) memcpy(mark->id, found.id, (size_t)found.n * sizeof *found.id);
    if (status == R2_OK) mark->n = (int32_t)found.n;
    r2_tokens_free(ctx, &found);
    return status;
}

r2_status r2_codec_init(r2_ctx *ctx, r2_codec *codec, r2_tokenizer tokenizer, r2_check_fn check,
                        const void *check_data) {
    static const char *const text[] = {"<think>", "</think>", "<answer>", "</answer>"};
    r2_mark *const mark[] = {&codec->markup.think, &codec->markup.think_end, &codec->markup.answer,
                             &codec->markup.answer_end};
    r2_status status = R2_OK;
    memset(codec, 0, sizeof *codec);
    codec->tokenizer = tokenizer;
    codec->check = check;
    codec->check_data = check_data;
    for (int k = 0; k < 4 && status == R2_OK; ++k)
        status = r2__mark_find(ctx, &tokenizer, text[k], R2_MAX_MARK, mark[k]);
    for (int k = 0; k < R2_N_ANSWERS && status == R2_OK; ++k) {
        const char digit[2] = {(char)('0' + k), '\0'};
        r2_mark level;
        status = r2__mark_find(ctx, &tokenizer, digit, 1, &level);
        if (status == R2_OK) codec->markup.level[k] = level.id[0];
    }
    return status;
}

r2_check r2_check_compact(const void *hook_data, const char *prompt, const char *output) {
    return r2_check_trace((const r2_codebook *)hook_data, prompt, output);
}

r2_status r2_codec_compact(r2_ctx *ctx, r2_codec *codec, r2_vocab *vocab,
                           const r2_codebook *codebook) {
    r2_status status = r2_codebook_words(ctx, codebook, vocab);
    if (status != R2_OK) return status;
    return r2_codec_init(ctx, codec, r2_tokenizer_vocab(vocab), r2_check_compact, codebook);
}

/* ---- Unicode: classes and normal form C ---- */

/* The generated tables stand at the end of this section, as varints of five bits a digit. */
typedef enum r2__unicode_set {
    R2__LETTERS,
    R2__NUMBERS,
    R2__COMBINING,
    R2__COMPOSING,
    R2__DECOMPOSING
} r2__unicode_set;
static const char *const *r2__unicode_table(r2__unicode_set set);

typedef struct r2__unicode_reader {
    const char *const *line;
    const char *p;
} r2__unicode_reader;

/* The next number; false at the end of the table. */
static bool r2__unicode_next(r2__unicode_reader *in, uint32_t *n) {
    uint32_t digit;
    if (!in->p || !*in->p) in->p = *in->line++;
    if (!in->p) return false;
    *n = 0;
    do {
        digit = (uint32_t)(*in->p++ - '0');
        *n = *n << 5 | (digit & 31);
    } while (digit & 32);
    return true;
}

/* Writes `value` (0: the one that stands in the table) for every code point of a run. */
static void r2__unicode_fill(r2__unicode_set set, uint8_t value, uint8_t *out, uint32_t size) {
    r2__unicode_reader in = {r2__unicode_table(set), NULL};
    uint32_t gap, length, own, at = 0;
    while (r2__unicode_next(&in, &gap) && r2__unicode_next(&in, &length)) {
        own = value;
        if (!value) r2__unicode_next(&in, &own);
        at += gap;
        for (; length > 0 && at < size; --length) out[at++] = (uint8_t)own;
    }
}

enum { R2__SIGN = 0, R2__LETTER, R2__NUMBER, R2__SPACE, R2__END };
#define R2__CLASSED 0x33480u /* no letter, number or space at or above */

/* White_Space of Unicode, which is what \s means to Hugging Face's tokenizers. */
static uint8_t *r2__unicode_classes(r2_ctx *ctx, r2_arena *memory) {
    static const uint32_t space[][2] = {
        {9, 13},          {32, 32},         {0x85, 0x85},     {0xA0, 0xA0},     {0x1680, 0x1680},
        {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}};
    uint8_t *classes = (uint8_t *)r2_arena_alloc(ctx, memory, R2__CLASSED, 1);
    if (!classes) return NULL;
    r2__unicode_fill(R2__LETTERS, R2__LETTER, classes, R2__CLASSED);
    r2__unicode_fill(R2__NUMBERS, R2__NUMBER, classes, R2__CLASSED);
    for (size_t i = 0; i < sizeof space / sizeof *space; ++i)
        for (uint32_t cp = space[i][0]; cp <= space[i][1]; ++cp) classes[cp] = R2__SPACE;
    return classes;
}

static uint64_t r2__pair_key(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* A code point and the pair (second 0: none) that it decomposes into, or the other way round. */
typedef struct r2__nfc_entry {
    uint64_t key, value;
} r2__nfc_entry;

/* Canonical decompositions, compositions and combining classes. */
struct r2__nfc {
    r2__nfc_entry *decompose, *compose; /* (n_decompose), (n_compose) by ascending key */
    int32_t n_decompose, n_compose;
    uint8_t *combining; /* (R2__COMBINED) combining class */
};

#define R2__COMBINED  0x1F000u /* every combining class above is 0 */
#define R2__NFC_PAIRS 4096     /* at most; the tables hold about 2100 */

static int r2__nfc_by_key(const void *a, const void *b) {
    uint64_t x = ((const r2__nfc_entry *)a)->key, y = ((const r2__nfc_entry *)b)->key;
    return (x > y) - (x < y);
}

/* The value of a key, or 0. */
static uint64_t r2__nfc_find(const r2__nfc_entry *table, int32_t n, uint64_t key) {
    const r2__nfc_entry wanted = {key, 0};
    const r2__nfc_entry *found = (const r2__nfc_entry *)bsearch(&wanted, table, (size_t)n,
                                                                sizeof wanted, r2__nfc_by_key);
    return found ? found->value : 0;
}

/* The next number of a row of differences: 0, -1, 1, -2, ... to `last`. */
static uint32_t r2__unicode_beside(r2__unicode_reader *in, uint32_t last) {
    uint32_t n = 0;
    r2__unicode_next(in, &n);
    return last + (n & 1 ? ~(n >> 1) : n >> 1);
}

/* Adds the decompositions of a table to out (n), or the compositions; returns the new n. */
static int32_t r2__nfc_read(r2__unicode_set set, bool compose, r2__nfc_entry *out, int32_t n) {
    r2__unicode_reader in = {r2__unicode_table(set), NULL};
    uint32_t whole = 0, first = 0, second = 0;
    for (uint32_t step; n < R2__NFC_PAIRS && r2__unicode_next(&in, &step); ++n) {
        whole += step >> 1;
        first = r2__unicode_beside(&in, first);
        if (step & 1) second = r2__unicode_beside(&in, second);
        const uint64_t pair = r2__pair_key((int32_t)first, (int32_t)second);
        out[n].key = compose ? pair : whole;
        out[n].value = compose ? whole : pair;
    }
    return n;
}

static struct r2__nfc *r2__nfc_make(r2_ctx *ctx, r2_arena *memory) {
    struct r2__nfc *nfc = (struct r2__nfc *)r2_arena_alloc(ctx, memory, 1, sizeof *nfc);
    uint64_t size = sizeof(r2__nfc_entry);
    if (!nfc) return NULL;
    nfc->compose = (r2__nfc_entry *)r2_arena_alloc(ctx, memory, R2__NFC_PAIRS, size);
    nfc->decompose = (r2__nfc_entry *)r2_arena_alloc(ctx, memory, R2__NFC_PAIRS, size);
    nfc->combining = (uint8_t *)r2_arena_alloc(ctx, memory, R2__COMBINED, 1);
    if (!nfc->compose || !nfc->decompose || !nfc->combining) return NULL;
    nfc->n_compose = r2__nfc_read(R2__COMPOSING, true, nfc->compose, 0);
    nfc->n_decompose = r2__nfc_read(R2__COMPOSING, false, nfc->decompose, 0);
    nfc->n_decompose = r2__nfc_read(R2__DECOMPOSING, false, nfc->decompose, nfc->n_decompose);
    qsort(nfc->compose, (size_t)nfc->n_compose, (size_t)size, r2__nfc_by_key);
    qsort(nfc->decompose, (size_t)nfc->n_decompose, (size_t)size, r2__nfc_by_key);
    r2__unicode_fill(R2__COMBINING, 0, nfc->combining, R2__COMBINED);
    return nfc;
}

static uint8_t r2__combining(const struct r2__nfc *nfc, uint32_t cp) {
    return cp < R2__COMBINED ? nfc->combining[cp] : 0;
}

/* Hangul syllables are arithmetic: leading, vowel, trailing consonant (Unicode, section 3.12). */
enum {
    R2__HANGUL = 0xAC00,
    R2__HANGUL_L = 0x1100,
    R2__HANGUL_V = 0x1161,
    R2__HANGUL_T = 0x11A7,
    R2__HANGUL_NL = 19,
    R2__HANGUL_NV = 21,
    R2__HANGUL_NT = 28,
    R2__HANGUL_N = R2__HANGUL_NL * R2__HANGUL_NV * R2__HANGUL_NT
};

/* Adds the full canonical decomposition of a code point. Its second part never decomposes. */
static void r2__nfc_decompose(r2_ctx *ctx, const struct r2__nfc *nfc, uint32_t cp, r2_tokens *out) {
    if (cp - R2__HANGUL < R2__HANGUL_N) {
        uint32_t s = cp - R2__HANGUL, t = s % R2__HANGUL_NT;
        r2_tokens_add(ctx, out, (int32_t)(R2__HANGUL_L + s / (R2__HANGUL_NV * R2__HANGUL_NT)));
        r2_tokens_add(ctx, out, (int32_t)(R2__HANGUL_V + s / R2__HANGUL_NT % R2__HANGUL_NV));
        if (t) r2_tokens_add(ctx, out, (int32_t)(R2__HANGUL_T + t));
        return;
    }
    const uint64_t pair = r2__nfc_find(nfc->decompose, nfc->n_decompose, cp);
    if (pair) r2__nfc_decompose(ctx, nfc, (uint32_t)(pair >> 32), out);
    else r2_tokens_add(ctx, out, (int32_t)cp);
    if ((uint32_t)pair) r2_tokens_add(ctx, out, (int32_t)(uint32_t)pair);
}

/* The code point that a pair composes to, or 0. */
static uint32_t r2__nfc_compose(const struct r2__nfc *nfc, uint32_t first, uint32_t second) {
    if (first - R2__HANGUL_L < R2__HANGUL_NL && second - R2__HANGUL_V < R2__HANGUL_NV)
        return R2__HANGUL +
               ((first - R2__HANGUL_L) * R2__HANGUL_NV + second - R2__HANGUL_V) * R2__HANGUL_NT;
    if (first - R2__HANGUL < R2__HANGUL_N && (first - R2__HANGUL) % R2__HANGUL_NT == 0 &&
        second - R2__HANGUL_T - 1 < R2__HANGUL_NT - 1)
        return first + second - R2__HANGUL_T;
    return (uint32_t)r2__nfc_find(nfc->compose, nfc->n_compose,
                                  r2__pair_key((int32_t)first, (int32_t)second));
}

/* Sorts each run of combining marks by class, equal classes in their order: linear for any run. */
static void r2__nfc_order(r2_ctx *ctx, const struct r2__nfc *nfc, r2_tokens *cps) {
    r2_tokens run = {NULL, 0, {NULL, false}};
    for (int64_t begin = 0, end; begin < cps->n && !run.owner.failed; begin = end + 1) {
        for (end = begin; end < cps->n && r2__combining(nfc, (uint32_t)cps->id[end]); ++end) {
        }
        if (end - begin < 2) continue;
        r2_tokens_clear(&run);
        for (int c = 1; c < 256; ++c)
            for (int64_t i = begin; i < end; ++i)
                if (r2__combining(nfc, (uint32_t)cps->id[i]) == c)
                    r2_tokens_add(ctx, &run, cps->id[i]);
        if (!run.owner.failed) memcpy(cps->id + begin, run.id, (size_t)run.n * sizeof *run.id);
    }
    if (run.owner.failed) cps->owner.failed = true;
    r2_tokens_free(ctx, &run);
}

/* Joins each mark to the last starter unless one of the same or a higher class stands between. */
static void r2__nfc_join(const struct r2__nfc *nfc, r2_tokens *cps) {
    int64_t starter = -1, out = 0;
    uint8_t last = 0;
    for (int64_t i = 0; i < cps->n; ++i) {
        uint32_t cp = (uint32_t)cps->id[i], whole = 0;
        uint8_t combining = r2__combining(nfc, cp);
        if (starter >= 0 && (out == starter + 1 || last < combining))
            whole = r2__nfc_compose(nfc, (uint32_t)cps->id[starter], cp);
        if (whole) {
            cps->id[starter] = (int32_t)whole;
            continue;
        }
        if (combining == 0) starter = out;
        last = combining;
        cps->id[out++] = (int32_t)cp;
    }
    r2__tokens_cut(cps, out);
}

/* Adds normal form C of `text` to `out`. Bytes that are not UTF-8 stay as they are. */
static r2_status r2__nfc_text(r2_ctx *ctx, const struct r2__nfc *nfc, r2__slice text,
                              r2_text *out) {
    r2_tokens cps = {NULL, 0, {NULL, false}};
    uint32_t cp, highest = 0;
    for (size_t at = 0; at < text.len; at += r2__utf8(text.at, at, text.len, &cp))
        if ((unsigned char)text.at[at] > highest) highest = (unsigned char)text.at[at];
    if (highest < 0xCC) { /* nothing from U+0300 on: it is in normal form */
        r2_text_add(ctx, out, text.at, text.len);
        return out->failed ? ctx->status : R2_OK;
    }
    for (size_t at = 0; at < text.len;) {
        at += r2__utf8(text.at, at, text.len, &cp);
        r2__nfc_decompose(ctx, nfc, cp, &cps);
    }
    r2__nfc_order(ctx, nfc, &cps);
    r2__nfc_join(nfc, &cps);
    for (int64_t i = 0; i < cps.n; ++i) r2__utf8_add(ctx, out, (uint32_t)cps.id[i]);
    out->failed = out->failed || cps.owner.failed;
    r2_tokens_free(ctx, &cps);
    return out->failed ? ctx->status : R2_OK;
}

/* ---- cutting text into pieces ---- */

/* Class of the character at `at`, its bytes in *size; R2__END (0 bytes) at the end of the text. */
static int r2__class_at(const r2_bpe *bpe, const char *text, size_t at, size_t len, size_t *size) {
    uint32_t cp;
    *size = 0;
    if (at >= len) return R2__END;
    *size = 1;
    if ((unsigned char)text[at] < 0x80) return bpe->char_class[(unsigned char)text[at]];
    *size = r2__utf8(text, at, len, &cp);
    return cp < R2__CLASSED ? bpe->char_class[cp] : (int)R2__SIGN;
}

/* End of the run of class `want` that starts at `at`. */
static size_t r2__run(const r2_bpe *bpe, const char *text, size_t at, size_t len, int want) {
    size_t size;
    while (r2__class_at(bpe, text, at, len, &size) == want) at += size;
    return at;
}

/* Bytes of 's 't 're 've 'm 'll 'd at `at`, or 0. With `fold`, any case, even the long s. */
static size_t r2__contraction(const char *text, size_t at, size_t len, bool fold) {
    static const char *const ends[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (text[at] != '\'') return 0;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; ++i) {
        size_t n = strlen(ends[i]), k = 0;
        for (; k < n && at + 1 + k < len; ++k) {
            char c = text[at + 1 + k];
            if (fold && c >= 'A' && c <= 'Z') c = (char)(c + 32);
            if (c != ends[i][k]) break;
        }
        if (k == n) return n + 1;
    }
    return fold && len - at >= 3 && memcmp(text + at + 1, "\xC5\xBF", 2) == 0 ? 3 : 0;
}

/* Class of the character at `at`; a digit is R2__END when the rule has cut digits off before. */
static int r2__class_before_digits(const r2_bpe *bpe, const char *text, size_t at, size_t len,
                                   size_t *size) {
    int class_ = r2__class_at(bpe, text, at, len, size);
    return class_ == R2__NUMBER && bpe->rule == R2_BPE_GPT2_DIGITS ? (int)R2__END : class_;
}

/* \s+(?!\S)|\s+ : white space before a word leaves its last character to the word. */
static size_t r2__bpe_cut_space(const r2_bpe *bpe, const char *text, size_t at, size_t len) {
    size_t size, last = at, end = at;
    int class_;
    while ((class_ = r2__class_before_digits(bpe, text, end, len, &size)) == R2__SPACE) {
        last = end;
        end += size;
    }
    return class_ != R2__END && last > at ? last : end;
}

/* End of the GPT-2 piece that starts at `at`:
   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+ */
static size_t r2__bpe_cut_gpt2(const r2_bpe *bpe, const char *text, size_t at, size_t len) {
    size_t size, n = r2__contraction(text, at, len, false), from = at + (text[at] == ' ');
    int class_ = r2__class_before_digits(bpe, text, from, len, &size);
    if (n) return at + n;
    if (class_ == R2__SPACE || class_ == R2__END) return r2__bpe_cut_space(bpe, text, at, len);
    return r2__run(bpe, text, from, len, class_);
}

#define R2__QWEN2_REGEX                                                                            \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+"      \
    "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* End of the Qwen2 piece that starts at `at`: R2__QWEN2_REGEX, alternative by alternative. */
static size_t r2__bpe_cut_qwen2(const r2_bpe *bpe, const char *text, size_t at, size_t len) {
    size_t size, next_size, end, n = r2__contraction(text, at, len, true);
    int here = r2__class_at(bpe, text, at, len, &size);
    int next = r2__class_at(bpe, text, at + size, len, &next_size);
    bool line_end = text[at] == '\r' || text[at] == '\n';
    if (n) return at + n;
    if (here == R2__LETTER) return r2__run(bpe, text, at, len, R2__LETTER);
    if (here == R2__NUMBER) return at + size;
    if (next == R2__LETTER && !line_end) return r2__run(bpe, text, at + size, len, R2__LETTER);
    if (here == R2__SIGN || (text[at] == ' ' && next == R2__SIGN)) {
        end = r2__run(bpe, text, at + (here == R2__SPACE), len, R2__SIGN);
        while (end < len && (text[end] == '\r' || text[end] == '\n')) ++end;
        return end;
    }
    end = r2__run(bpe, text, at, len, R2__SPACE); /* white space up to its last line end, if any */
    while (end > at && text[end - 1] != '\r' && text[end - 1] != '\n') --end;
    return end > at ? end : r2__bpe_cut_space(bpe, text, at, len);
}

/* End of the piece that starts at `at` < len. */
static size_t r2__bpe_cut(const r2_bpe *bpe, const char *text, size_t at, size_t len) {
    size_t size;
    if (bpe->rule == R2_BPE_QWEN2) return r2__bpe_cut_qwen2(bpe, text, at, len);
    if (bpe->rule == R2_BPE_GPT2_DIGITS && r2__class_at(bpe, text, at, len, &size) == R2__NUMBER)
        return at + size;
    return r2__bpe_cut_gpt2(bpe, text, at, len);
}

/* ---- bytes as letters: how tokenizer.json writes any bytes as text ---- */

/* Printable bytes of Latin-1 stand for themselves, the 68 others for U+0100 and up, in order. */
static uint32_t r2__byte_letter(unsigned char byte) {
    if (byte <= 32) return 256u + byte;
    if (byte >= 127 && byte <= 160) return 289u + byte - 127;
    return byte == 173 ? 323 : byte;
}

static void r2__bytes_to_letters(r2_ctx *ctx, r2__slice bytes, r2_text *out) {
    for (size_t i = 0; i < bytes.len; ++i)
        r2__utf8_add(ctx, out, r2__byte_letter((unsigned char)bytes.at[i]));
}

/* The other way; false when a character stands for no byte. */
static bool r2__letters_to_bytes(r2_ctx *ctx, const char *text, size_t len, r2_text *out) {
    uint32_t cp;
    for (size_t at = 0; at < len;) {
        at += r2__utf8(text, at, len, &cp);
        if (cp > 323) return false;
        char byte = (char)(unsigned char)(cp == 323   ? 173
                                          : cp >= 289 ? cp - 289 + 127
                                          : cp >= 256 ? cp - 256
                                                      : cp);
        if (r2__byte_letter((unsigned char)byte) != cp) return false;
        r2_text_add(ctx, out, &byte, 1);
    }
    return true;
}

/* ---- making a tokenizer from its parts ---- */

/* What training and loading collect. */
typedef struct r2__bpe_parts {
    r2_vocab word;   /* by id: pieces in letters, added tokens as they are      */
    r2_tokens added; /* by id: as in r2_bpe                                     */
    r2_tokens merge; /* three ids a merge: left, right, joined                  */
} r2__bpe_parts;

static void r2__bpe_parts_free(r2_ctx *ctx, r2__bpe_parts *parts) {
    r2_vocab_free(ctx, &parts->word);
    r2_tokens_free(ctx, &parts->added);
    r2_tokens_free(ctx, &parts->merge);
}

/* Place of the merge of two neighbours in bpe->merge, or -1: the smaller, the earlier learned. */
static int32_t r2__bpe_rank(const r2_bpe *bpe, int32_t left, int32_t right) {
    uint64_t key = r2__pair_key(left, right);
    return (int32_t)r2__map_find(bpe->pair, sizeof *bpe->pair, &key, sizeof key);
}

static r2_status r2__bpe_table(r2_ctx *ctx, r2_bpe *bpe) {
    for (int32_t i = 0; i < bpe->n_merges; ++i) {
        const int32_t *merge = bpe->merge + 3 * (int64_t)i;
        uint64_t key = r2__pair_key(merge[0], merge[1]);
        int64_t at = 0;
        r2_status status = r2__map_put(ctx, &bpe->owner, &bpe->pair, sizeof key, &key, sizeof key,
                                       &at);
        if (status != R2_OK) return status;
        if (at != i) return r2_fail(ctx, R2_FORMAT, "merge %d comes twice", (int)i);
    }
    return R2_OK;
}

static r2__slice r2__token_bytes(const r2_bpe *bpe, int32_t t) {
    return r2__slice_of(bpe->bytes + bpe->begin[t], (size_t)(bpe->begin[t + 1] - bpe->begin[t]));
}

/* Lays the bytes of all tokens end to end and notes which tokens are single bytes. */
static r2_status r2__bpe_lay_bytes(r2_ctx *ctx, r2_bpe *bpe, const r2__bpe_parts *parts) {
    r2_text bytes = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    for (int i = 0; i < 256; ++i) bpe->byte_token[i] = -1;
    for (int32_t t = 0; status == R2_OK && t < bpe->n_tokens; ++t) {
        const char *word = parts->word.word[t];
        bpe->begin[t] = (int64_t)bytes.len;
        if (bpe->added[t]) r2_text_add(ctx, &bytes, word, strlen(word));
        else if (!r2__letters_to_bytes(ctx, word, strlen(word), &bytes))
            status = r2_fail(ctx, R2_FORMAT, "token %d '%.60s' does not stand for bytes", (int)t,
                             word);
        else if (!bytes.failed && (int64_t)bytes.len == bpe->begin[t] + 1)
            bpe->byte_token[(unsigned char)bytes.data[bpe->begin[t]]] = t;
    }
    if (status == R2_OK && bytes.failed) status = ctx->status;
    bpe->begin[bpe->n_tokens] = (int64_t)bytes.len;
    if (status == R2_OK) {
        bpe->bytes = (char *)r2_arena_alloc(ctx, &bpe->memory, bytes.len + 1, 1);
        if (!bpe->bytes) status = ctx->status;
        else if (bytes.len) memcpy(bpe->bytes, bytes.data, bytes.len);
    }
    r2_text_free(ctx, &bytes);
    return status;
}

/* Tables that depend on the rule alone: enough to cut text. */
static r2_status r2__bpe_begin(r2_ctx *ctx, r2_bpe *bpe, r2_bpe_rule rule, bool nfc) {
    memset(bpe, 0, sizeof *bpe);
    bpe->rule = rule;
    bpe->nfc = nfc;
    bpe->char_class = r2__unicode_classes(ctx, &bpe->memory);
    if (nfc && bpe->char_class) bpe->normal = r2__nfc_make(ctx, &bpe->memory);
    if (bpe->char_class && (!nfc || bpe->normal)) return R2_OK;
    r2_bpe_free(ctx, bpe);
    return ctx->status;
}

/* An added token as it is looked for. */
typedef struct r2__added {
    r2__slice text;
    int32_t id, shorter; /* place of the longest other that begins this one, or -1 */
} r2__added;

/* By their bytes; of equal ones that with the smallest id comes last and is found. */
static int r2__by_text(const void *a, const void *b) {
    const r2__added *x = (const r2__added *)a, *y = (const r2__added *)b;
    const size_t len[2] = {x->text.len, y->text.len};
    const int order = memcmp(x->text.at, y->text.at, len[0] < len[1] ? len[0] : len[1]);
    if (order) return order;
    if (len[0] != len[1]) return len[0] < len[1] ? -1 : 1;
    return (y->id > x->id) - (y->id < x->id);
}

/* Enters an added token into its list: a normalised one in normal form. */
static r2_status r2__bpe_list_added(r2_ctx *ctx, r2_bpe *bpe, int32_t t) {
    const int set = bpe->added[t] & R2_BPE_NORMALIZED ? 1 : 0;
    r2__added *token = &bpe->find[set][bpe->n_find[set]++];
    token->text = r2__token_bytes(bpe, t);
    token->id = t;
    bpe->n_added++;
    if (set && bpe->nfc) {
        r2_text normal = {NULL, 0, 0, false};
        const bool good = r2__nfc_text(ctx, bpe->normal, token->text, &normal) == R2_OK;
        const char *copy = good ? r2__arena_string(ctx, &bpe->memory, normal.data) : NULL;
        token->text = r2__slice_of(copy, normal.len);
        r2_text_free(ctx, &normal);
        if (!copy) return ctx->status;
    }
    bpe->starts[(unsigned char)token->text.at[0]] |= (uint8_t)(1 << set);
    return R2_OK;
}

/* Lists the added tokens, sorted, so that the longest one at a place is found by halving. */
static r2_status r2__bpe_find_added(r2_ctx *ctx, r2_bpe *bpe) {
    uint64_t n = 0;
    for (int32_t t = 0; t < bpe->n_tokens; ++t) n += bpe->added[t] != 0;
    for (int set = 0; set < 2; ++set) {
        bpe->find[set] = (r2__added *)r2_arena_alloc(ctx, &bpe->memory, n, sizeof(r2__added));
        if (!bpe->find[set]) return ctx->status;
    }
    for (int32_t t = 0; t < bpe->n_tokens; ++t)
        if (bpe->added[t] && r2__bpe_list_added(ctx, bpe, t) != R2_OK) return ctx->status;
    for (int set = 0; set < 2; ++set) {
        r2__added *list = bpe->find[set];
        qsort(list, (size_t)bpe->n_find[set], sizeof *list, r2__by_text);
        for (int32_t i = 0; i < bpe->n_find[set]; ++i) {
            int32_t k = i - 1; /* what begins this one and is not the one before begins that too */
            while (k >= 0 && !r2__begins(list[i].text, list[k].text)) k = list[k].shorter;
            list[i].shorter = k;
        }
    }
    return R2_OK;
}

/* Fills what r2__bpe_begin began; on failure the caller frees. */
static r2_status r2__bpe_finish(r2_ctx *ctx, r2_bpe *bpe, const r2__bpe_parts *parts) {
    uint64_t n = (uint64_t)parts->word.n_words, n_merges = (uint64_t)parts->merge.n / 3;
    if (parts->merge.owner.failed || parts->added.owner.failed) return ctx->status;
    if (n_merges > 1 << 28) return r2_fail(ctx, R2_FORMAT, "too many merges");
    bpe->n_tokens = (int32_t)n;
    bpe->n_merges = (int32_t)n_merges;
    bpe->begin = (int64_t *)r2_arena_alloc(ctx, &bpe->memory, n + 1, sizeof *bpe->begin);
    bpe->added = (uint8_t *)r2_arena_alloc(ctx, &bpe->memory, n, 1);
    bpe->merge = (int32_t *)r2_arena_alloc(ctx, &bpe->memory, n_merges, 3 * sizeof *bpe->merge);
    if (!bpe->begin || !bpe->added || !bpe->merge) return ctx->status;
    if (n_merges) memcpy(bpe->merge, parts->merge.id, (size_t)parts->merge.n * sizeof *bpe->merge);
    for (int32_t t = 0; t < bpe->n_tokens; ++t) bpe->added[t] = (uint8_t)parts->added.id[t];
    if (r2__bpe_lay_bytes(ctx, bpe, parts) != R2_OK) return ctx->status;
    if (r2__bpe_find_added(ctx, bpe) != R2_OK) return ctx->status;
    return r2__bpe_table(ctx, bpe);
}

void r2_bpe_free(r2_ctx *ctx, r2_bpe *bpe) {
    r2__map_free(ctx, &bpe->owner, &bpe->pair, sizeof *bpe->pair);
    r2_arena_free(ctx, &bpe->memory);
    memset(bpe, 0, sizeof *bpe);
}

/* ---- a heap, for merging and for training ---- */

typedef struct r2__heap_item {
    uint64_t first, second; /* the smallest (first, second) comes out */
} r2__heap_item;

typedef struct r2__heap {
    r2__heap_item *item; /* (n) a list of stb_ds */
    int64_t n;
    r2__owner owner;
} r2__heap;

static bool r2__heap_less(r2__heap_item a, r2__heap_item b) {
    return a.first != b.first ? a.first < b.first : a.second < b.second;
}

static r2_status r2__heap_push(r2_ctx *ctx, r2__heap *heap, uint64_t first, uint64_t second) {
    r2__heap_item item = {first, second};
    int64_t i = heap->n;
    r2_status status = r2__array_reserve(ctx, &heap->owner, &heap->item, sizeof item, 1);
    if (status != R2_OK) return status;
    stbds_arrput(heap->item, item);
    for (heap->n++; i > 0 && r2__heap_less(item, heap->item[(i - 1) / 2]); i = (i - 1) / 2)
        heap->item[i] = heap->item[(i - 1) / 2];
    heap->item[i] = item;
    return R2_OK;
}

/* Takes out the smallest item of a heap that is not empty. */
static r2__heap_item r2__heap_pop(r2__heap *heap) {
    r2__heap_item top = heap->item[0], item = stbds_arrpop(heap->item);
    int64_t i = 0;
    heap->n--;
    for (int64_t child = 1; child < heap->n; child = 2 * i + 1) {
        if (child + 1 < heap->n && r2__heap_less(heap->item[child + 1], heap->item[child])) ++child;
        if (!r2__heap_less(heap->item[child], item)) break;
        heap->item[i] = heap->item[child];
        i = child;
    }
    heap->item[i] = item;
    return top;
}

/* ---- encoding ---- */

/* A piece while it is merged: a doubly linked list of tokens laid over its bytes. */
typedef struct r2__piece {
    int32_t id, prev, next; /* prev, next: -1 at the ends                                         */
    int32_t rank; /* of the merge with the right neighbour; -1: none, or the token is merged away */
} r2__piece;

typedef struct r2__merger {
    r2__piece *piece; /* room of a list of stb_ds */
    r2__owner owner;
    r2__heap heap; /* (rank, position): the leftmost of the earliest learned merges first */
} r2__merger;

/* Looks up the merge of the token at `i` with its right neighbour. */
static r2_status r2__merge_offer(r2_ctx *ctx, const r2_bpe *bpe, r2__merger *m, int32_t i) {
    r2__piece *p = &m->piece[i];
    p->rank = p->next < 0 ? -1 : r2__bpe_rank(bpe, p->id, m->piece[p->next].id);
    return p->rank < 0 ? R2_OK : r2__heap_push(ctx, &m->heap, (uint64_t)p->rank, (uint64_t)i);
}

/* Joins the token at `i` and its right neighbour. Heap entries of both pairs they were part of are
   left behind; their ranks no longer fit. */
static r2_status r2__merge_join(r2_ctx *ctx, const r2_bpe *bpe, r2__merger *m, int32_t i) {
    r2__piece *p = &m->piece[i];
    m->piece[p->next].rank = -1;
    p->id = bpe->merge[3 * (int64_t)p->rank + 2];
    p->next = m->piece[p->next].next;
    if (p->next >= 0) m->piece[p->next].prev = i;
    r2_status status = r2__merge_offer(ctx, bpe, m, i);
    return status != R2_OK || p->prev < 0 ? status : r2__merge_offer(ctx, bpe, m, p->prev);
}

/* Adds the tokens of one piece of text, 0 < len. */
static r2_status r2__merge_piece(r2_ctx *ctx, const r2_bpe *bpe, r2__merger *m, const char *text,
                                 size_t len, r2_tokens *out) {
    int32_t n = (int32_t)len;
    if (len > INT32_MAX - 1) return r2_fail(ctx, R2_ARGUMENT, "a piece of text is too long");
    r2_status status = r2__array_reserve(ctx, &m->owner, &m->piece, sizeof *m->piece, n);
    if (status != R2_OK) return status;
    for (int32_t i = 0; i < n; ++i) {
        m->piece[i].id = bpe->byte_token[(unsigned char)text[i]];
        m->piece[i].prev = i - 1;
        m->piece[i].next = i + 1 < n ? i + 1 : -1;
        if (m->piece[i].id < 0)
            return r2_fail(ctx, R2_FORMAT, "the tokenizer has no token for byte %d",
                           (unsigned char)text[i]);
    }
    for (int32_t i = 0; i < n && status == R2_OK; ++i) status = r2__merge_offer(ctx, bpe, m, i);
    while (m->heap.n > 0 && status == R2_OK) {
        r2__heap_item top = r2__heap_pop(&m->heap);
        if (m->piece[top.second].rank == (int32_t)top.first)
            status = r2__merge_join(ctx, bpe, m, (int32_t)top.second);
    }
    if (status != R2_OK) return status;
    for (int32_t i = 0; i >= 0; i = m->piece[i].next) r2_tokens_add(ctx, out, m->piece[i].id);
    return out->owner.failed ? ctx->status : R2_OK;
}

/* The longest added token of find[set] that begins the text, or NULL: the last that does not come
   after the text, or one that begins it. */
static const r2__added *r2__bpe_added_at(const r2_bpe *bpe, int set, r2__slice text) {
    const r2__added *list = bpe->find[set];
    const r2__added key = {text, -1, -1}; /* comes after a token of the same text */
    int64_t begin = 0, end = bpe->n_find[set];
    if (!(bpe->starts[(unsigned char)text.at[0]] >> set & 1)) return NULL;
    R2__SEARCH(begin, end, at, r2__by_text(&list[at], &key) < 0);
    for (int64_t at = begin - 1; at >= 0; at = list[at].shorter)
        if (r2__begins(text, list[at].text)) return &list[at];
    return NULL;
}

/* Adds the tokens of a text. Set 0: looks for added tokens, between them goes on with set 1: the
   normal form, in which it looks for the normalised ones if `added`. */
static r2_status r2__bpe_encode(r2_ctx *ctx, const r2_bpe *bpe, r2__merger *m, int set,
                                r2__slice in, bool added, r2_tokens *out) {
    r2_text normal = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    if (set == 1 && bpe->nfc && in.len > 0) {
        status = r2__nfc_text(ctx, bpe->normal, in, &normal);
        in = r2__slice_of(normal.data, normal.len);
    }
    for (size_t at = 0, end; status == R2_OK && at < in.len; at = end) {
        const r2__added *token = NULL;
        end = added ? at : in.len;
        for (; end < in.len && !token; end += !token)
            token = r2__bpe_added_at(bpe, set, r2__slice_of(in.at + end, in.len - end));
        if (set == 0)
            status = r2__bpe_encode(ctx, bpe, m, 1, r2__slice_of(in.at + at, end - at), added, out);
        for (size_t next; set == 1 && status == R2_OK && at < end; at = next) {
            next = r2__bpe_cut(bpe, in.at, at, end);
            status = r2__merge_piece(ctx, bpe, m, in.at + at, next - at, out);
        }
        if (token && status == R2_OK) {
            r2_tokens_add(ctx, out, token->id);
            end += token->text.len;
        }
    }
    r2_text_free(ctx, &normal);
    return status;
}

r2_status r2_bpe_encode(r2_ctx *ctx, const r2_bpe *bpe, const char *text, size_t len, bool added,
                        r2_tokens *out) {
    r2__merger m;
    memset(&m, 0, sizeof m);
    r2_status status = r2__bpe_encode(ctx, bpe, &m, added ? 0 : 1, r2__slice_of(text, len), added,
                                      out);
    r2__array_free(ctx, &m.owner, &m.piece);
    r2__array_free(ctx, &m.heap.owner, &m.heap.item);
    return status != R2_OK ? status : out->owner.failed ? ctx->status : R2_OK;
}

r2_status r2_bpe_decode(r2_ctx *ctx, const r2_bpe *bpe, const int32_t *id, int64_t n, bool control,
                        r2_text *out) {
    for (int64_t i = 0; i < n; ++i)
        if (id[i] < 0 || id[i] >= bpe->n_tokens)
            return r2_fail(ctx, R2_ARGUMENT, "tokenizer: id %d is not below %d", (int)id[i],
                           (int)bpe->n_tokens);
    for (int64_t i = 0; i < n; ++i)
        if (control || !(bpe->added[id[i]] & R2_BPE_CONTROL))
            r2__add(ctx, out, r2__token_bytes(bpe, id[i]));
    return out->failed ? ctx->status : R2_OK;
}

int32_t r2_bpe_added(const r2_bpe *bpe, const char *text) {
    for (int set = 0; set < 2; ++set)
        for (int32_t i = 0; i < bpe->n_find[set]; ++i)
            if (r2__is(r2__token_bytes(bpe, bpe->find[set][i].id), text))
                return bpe->find[set][i].id;
    return -1;
}

r2_status r2_bpe_chat(r2_ctx *ctx, const r2_bpe *bpe, const r2_message *message, int32_t n_messages,
                      bool answer, r2_tokens *out) {
    int32_t start = r2_bpe_added(bpe, "<|im_start|>"), end = r2_bpe_added(bpe, "<|im_end|>");
    const char *assistant = "assistant\n";
    r2_text turn = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    if (start < 0 || end < 0)
        return r2_fail(ctx, R2_ARGUMENT, "the tokenizer has no <|im_start|> and <|im_end|>");
    for (int32_t i = 0; status == R2_OK && i < n_messages; ++i) {
        r2_text_clear(&turn);
        r2_text_addf(ctx, &turn, "%s\n%s", message[i].role, message[i].content);
        r2_tokens_add(ctx, out, start);
        status = turn.failed ? ctx->status
                             : r2_bpe_encode(ctx, bpe, turn.data, turn.len, false, out);
        r2_tokens_add(ctx, out, end);
        if (status == R2_OK) status = r2_bpe_encode(ctx, bpe, "\n", 1, false, out);
    }
    if (status == R2_OK && answer) {
        r2_tokens_add(ctx, out, start);
        status = r2_bpe_encode(ctx, bpe, assistant, strlen(assistant), false, out);
    }
    r2_text_free(ctx, &turn);
    return status != R2_OK ? status : out->owner.failed ? ctx->status : R2_OK;
}

/* ---- byte-level BPE as a tokenizer of the learning rooms ---- */

static r2_status r2__bpe_tokens(r2_ctx *ctx, const void *self, const char *text, size_t len,
                                bool marks, r2_tokens *out) {
    return r2_bpe_encode(ctx, (const r2_bpe *)self, text, len, marks, out);
}

static r2_status r2__bpe_prompt(r2_ctx *ctx, const void *self, const char *system, const char *user,
                                r2_tokens *out) {
    const r2_bpe *bpe = (const r2_bpe *)self;
    const r2_message message[2] = {{"system", system}, {"user", user}};
    const int32_t skip = *system ? 0 : 1;
    r2_text text = {NULL, 0, 0, false};
    if (r2_bpe_added(bpe, "<|im_start|>") >= 0 && r2_bpe_added(bpe, "<|im_end|>") >= 0)
        return r2_bpe_chat(ctx, bpe, message + skip, 2 - skip, true, out);
    r2_text_addf(ctx, &text, skip ? "%s%s\n" : "%s\n%s\n", system, user);
    r2_status status = text.failed ? R2_NO_MEMORY
                                   : r2_bpe_encode(ctx, bpe, text.data, text.len, false, out);
    r2_text_free(ctx, &text);
    return status;
}

/* Control tokens are written out: in an output they are a fault that the checker must see. */
static r2_status r2__bpe_text(r2_ctx *ctx, const void *self, const int32_t *id, int64_t n,
                              r2_text *out) {
    return r2_bpe_decode(ctx, (const r2_bpe *)self, id, n, true, out);
}

r2_tokenizer r2_tokenizer_bpe(const struct r2_bpe *bpe) {
    r2_tokenizer t = {bpe, bpe->n_tokens, r2__bpe_tokens, r2__bpe_prompt, r2__bpe_text};
    return t;
}

/* ---- training ---- */

/* A pair of neighbours: how often it stands in the text, and which words may hold it. */
typedef struct r2__pair_stat {
    uint64_t key;
    int64_t count, heaped; /* heaped: the count it last went on the heap with                    */
    int32_t places;        /* 1 + first of its list in place_word / place_next, 0: no more       */
} r2__pair_stat;

/* The text as distinct pieces with their counts. A merge shortens a word's row in place.

       symbol  | t h e | c a t s |      word w: symbol[word_begin[w]] .. + word_len[w]  */
typedef struct r2__trainer {
    r2_vocab piece; /* the distinct pieces, in letters */
    r2_tokens word_len, symbol, place_word, place_next, changed;
    int64_t *word_begin; /* (n_words)                     */
    int64_t *count;      /* (n_words) a list of stb_ds    */
    r2__pair_stat *pair; /* a table of stb_ds             */
    r2__owner owner;     /* memory of the last two        */
    r2__heap heap;       /* (-count, key): no live pair is missing, outdated counts are too high */
} r2__trainer;

static void r2__trainer_free(r2_ctx *ctx, r2__trainer *t) {
    r2_vocab_free(ctx, &t->piece);
    r2_tokens_free(ctx, &t->word_len);
    r2_tokens_free(ctx, &t->symbol);
    r2_tokens_free(ctx, &t->place_word);
    r2_tokens_free(ctx, &t->place_next);
    r2_tokens_free(ctx, &t->changed);
    r2_release(ctx, t->word_begin);
    r2__array_free(ctx, &t->owner, &t->count);
    r2__map_free(ctx, &t->owner, &t->pair, sizeof *t->pair);
    r2__array_free(ctx, &t->heap.owner, &t->heap.item);
}

/* Counts one piece of the text; `letters` is scratch. */
static r2_status r2__train_piece(r2_ctx *ctx, r2__trainer *t, const char *text, size_t len,
                                 r2_text *letters) {
    int32_t known = t->piece.n_words, id = 0;
    r2_status status = r2__array_reserve(ctx, &t->owner, &t->count, sizeof *t->count, 1);
    if (status != R2_OK) return status;
    r2_text_clear(letters);
    r2__bytes_to_letters(ctx, r2__slice_of(text, len), letters);
    status = letters->failed ? ctx->status : r2_vocab_add(ctx, &t->piece, letters->data, &id);
    if (status != R2_OK) return status;
    if (id == known) stbds_arrput(t->count, 0);
    t->count[id]++;
    return R2_OK;
}

static r2_status r2__train_count(r2_ctx *ctx, const r2_bpe *bpe, r2__trainer *t, const char *text,
                                 size_t len) {
    r2_text letters = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    for (size_t at = 0, end; status == R2_OK && at < len; at = end) {
        end = r2__bpe_cut(bpe, text, at, len);
        status = r2__train_piece(ctx, t, text + at, end - at, &letters);
        if (status == R2_OK && at >> 20 != end >> 20)
            status = r2_progress(ctx, "bytes of text read", (int64_t)end, (int64_t)len);
    }
    r2_text_free(ctx, &letters);
    return status;
}

/* The statistics of a pair that is there. */
static r2__pair_stat *r2__stat_find(const r2__trainer *t, uint64_t key) {
    return &t->pair[r2__map_find(t->pair, sizeof *t->pair, &key, sizeof key)];
}

/* Adds `sign` x the count of word w to every pair of neighbours in it. Words are noted as places of
   the pairs that hold token `fresh`; the others have them already. fresh -1: of all pairs. */
static r2_status r2__train_tally(r2_ctx *ctx, r2__trainer *t, int32_t w, int sign, int32_t fresh) {
    const int32_t *symbol = t->symbol.id + t->word_begin[w];
    for (int32_t k = 0; k + 1 < t->word_len.id[w]; ++k) {
        uint64_t key = r2__pair_key(symbol[k], symbol[k + 1]);
        r2__pair_stat *pair;
        int64_t at = 0;
        r2_status status = r2__map_put(ctx, &t->owner, &t->pair, sizeof *t->pair, &key, sizeof key,
                                       &at);
        if (status != R2_OK) return status;
        pair = &t->pair[at];
        pair->count += sign * t->count[w];
        if (sign < 0) continue;
        r2_tokens_add(ctx, &t->changed, (int32_t)at);
        if (fresh >= 0 && symbol[k] != fresh && symbol[k + 1] != fresh) continue;
        if (t->place_word.n >= INT32_MAX) return r2_fail(ctx, R2_ARGUMENT, "text is too long");
        r2_tokens_add(ctx, &t->place_word, w);
        r2_tokens_add(ctx, &t->place_next, pair->places);
        pair->places = (int32_t)t->place_word.n;
    }
    return t->place_word.owner.failed || t->place_next.owner.failed || t->changed.owner.failed
               ? ctx->status
               : R2_OK;
}

/* Puts the pairs whose count rose on the heap. */
static r2_status r2__train_heap(r2_ctx *ctx, r2__trainer *t) {
    r2_status status = R2_OK;
    for (int64_t i = 0; i < t->changed.n && status == R2_OK; ++i) {
        r2__pair_stat *pair = &t->pair[t->changed.id[i]];
        if (pair->count <= pair->heaped) continue;
        pair->heaped = pair->count;
        status = r2__heap_push(ctx, &t->heap, UINT64_MAX - (uint64_t)pair->count, pair->key);
    }
    r2_tokens_clear(&t->changed);
    return status;
}

/* Lays the words out as tokens of single bytes and counts all pairs. */
static r2_status r2__train_begin(r2_ctx *ctx, const int32_t byte_token[256], r2__trainer *t) {
    r2_text bytes = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    t->word_begin = (int64_t *)r2_alloc(ctx, (uint64_t)t->piece.n_words, sizeof *t->word_begin);
    if (!t->word_begin) return ctx->status;
    for (int32_t w = 0; status == R2_OK && w < t->piece.n_words; ++w) {
        const char *letters = t->piece.word[w];
        r2_text_clear(&bytes);
        r2__letters_to_bytes(ctx, letters, strlen(letters), &bytes);
        t->word_begin[w] = t->symbol.n;
        for (size_t k = 0; k < bytes.len; ++k)
            r2_tokens_add(ctx, &t->symbol, byte_token[(unsigned char)bytes.data[k]]);
        r2_tokens_add(ctx, &t->word_len, (int32_t)bytes.len);
        status = bytes.failed || t->symbol.owner.failed || t->word_len.owner.failed
                     ? ctx->status
                     : r2__train_tally(ctx, t, w, 1, -1);
    }
    r2_text_free(ctx, &bytes);
    return status != R2_OK ? status : r2__train_heap(ctx, t);
}

/* Replaces the pair by `joined` in word w, from the left. */
static r2_status r2__train_word(r2_ctx *ctx, r2__trainer *t, int32_t w, uint64_t key,
                                int32_t joined) {
    int32_t *symbol = t->symbol.id + t->word_begin[w], *n = &t->word_len.id[w], out = 0, k = 0;
    while (k + 1 < *n && r2__pair_key(symbol[k], symbol[k + 1]) != key) ++k;
    if (k + 1 >= *n) return R2_OK; /* an earlier merge took the pair apart */
    if (r2__train_tally(ctx, t, w, -1, -1) != R2_OK) return ctx->status;
    for (k = 0; k < *n; ++k) {
        bool here = k + 1 < *n && r2__pair_key(symbol[k], symbol[k + 1]) == key;
        symbol[out++] = here ? joined : symbol[k];
        k += here;
    }
    *n = out;
    return r2__train_tally(ctx, t, w, 1, joined);
}

/* Adds one merge to the parts and to all words that hold it. */
static r2_status r2__train_merge(r2_ctx *ctx, r2__trainer *t, r2__bpe_parts *parts, uint64_t key) {
    int32_t left = (int32_t)(key >> 32), right = (int32_t)(uint32_t)key, joined = 0;
    r2_text letters = {NULL, 0, 0, false};
    r2_status status;
    r2_text_addf(ctx, &letters, "%s%s", parts->word.word[left], parts->word.word[right]);
    status = letters.failed ? ctx->status : r2_vocab_add(ctx, &parts->word, letters.data, &joined);
    r2_text_free(ctx, &letters);
    if (status != R2_OK) return status;
    r2_tokens_add(ctx, &parts->merge, left);
    r2_tokens_add(ctx, &parts->merge, right);
    r2_tokens_add(ctx, &parts->merge, joined);
    for (int32_t place = r2__stat_find(t, key)->places, next; status == R2_OK && place > 0;
         place = next) {
        next = t->place_next.id[place - 1]; /* the lists may be lost in what follows */
        status = r2__train_word(ctx, t, t->place_word.id[place - 1], key, joined);
    }
    return status != R2_OK ? status : r2__train_heap(ctx, t);
}

/* Merges the most frequent pair until there are `n_tokens` or no pair is frequent enough. */
static r2_status r2__train_merges(r2_ctx *ctx, r2__trainer *t, const r2_bpe_config *config,
                                  int32_t n_tokens, r2__bpe_parts *parts) {
    r2_status status = R2_OK;
    while (status == R2_OK && parts->word.n_words < n_tokens && t->heap.n > 0) {
        r2__heap_item top = r2__heap_pop(&t->heap);
        r2__pair_stat *pair = r2__stat_find(t, top.second);
        if (pair->count < config->min_count || pair->count < 1) {
            pair->heaped = 0;
        } else if (UINT64_MAX - top.first != (uint64_t)pair->count) {
            pair->heaped = pair->count; /* an outdated count: back to where it belongs */
            status = r2__heap_push(ctx, &t->heap, UINT64_MAX - (uint64_t)pair->count, pair->key);
        } else {
            status = r2__train_merge(ctx, t, parts, pair->key);
            if (status == R2_OK)
                status = r2_progress(ctx, "tokens learned", parts->word.n_words, n_tokens);
        }
    }
    return status;
}

/* The 256 bytes, in the order of their letters. */
static r2_status r2__train_bytes(r2_ctx *ctx, r2__bpe_parts *parts, int32_t byte_token[256]) {
    r2_text letter = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    for (uint32_t cp = 0; status == R2_OK && cp < 324; ++cp)
        for (int byte = 0; byte < 256; ++byte) {
            if (r2__byte_letter((unsigned char)byte) != cp) continue;
            r2_text_clear(&letter);
            r2__utf8_add(ctx, &letter, cp);
            status = letter.failed
                         ? ctx->status
                         : r2_vocab_add(ctx, &parts->word, letter.data, &byte_token[byte]);
        }
    r2_text_free(ctx, &letter);
    return status;
}

static r2_status r2__train_controls(r2_ctx *ctx, const r2_bpe_config *config,
                                    r2__bpe_parts *parts) {
    int32_t n_pieces = parts->word.n_words;
    for (int32_t i = 0; i < config->n_control; ++i) {
        const char *word = config->control[i];
        if (!*word || r2_vocab_find(&parts->word, word) >= 0)
            return r2_fail(ctx, R2_ARGUMENT, "control token '%s' is empty or there already", word);
        if (r2__vocab_append(ctx, &parts->word, word) != R2_OK) return ctx->status;
    }
    for (int32_t i = 0; i < parts->word.n_words; ++i)
        r2_tokens_add(ctx, &parts->added, i < n_pieces ? 0 : R2_BPE_ADDED | R2_BPE_CONTROL);
    return parts->added.owner.failed ? ctx->status : R2_OK;
}

r2_bpe_config r2_bpe_config_default(void) {
    static const char *const control[] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};
    r2_bpe_config config;
    memset(&config, 0, sizeof config);
    config.rule = R2_BPE_QWEN2;
    config.n_tokens = 4096;
    config.min_count = 2;
    config.control = control;
    config.n_control = 3;
    return config;
}

r2_status r2_bpe_train(r2_ctx *ctx, r2_bpe *bpe, const r2_bpe_config *config, const char *text,
                       size_t len) {
    r2_text normal = {NULL, 0, 0, false};
    r2__bpe_parts parts;
    r2__trainer t;
    int32_t byte_token[256];
    memset(bpe, 0, sizeof *bpe);
    if (config->n_control < 0 || config->n_tokens < 256 + config->n_control)
        return r2_fail(ctx, R2_ARGUMENT, "tokenizer: %d ids do not hold 256 bytes and %d controls",
                       (int)config->n_tokens, (int)config->n_control);
    if (r2__bpe_begin(ctx, bpe, config->rule, config->nfc) != R2_OK) return ctx->status;
    memset(&parts, 0, sizeof parts);
    memset(&t, 0, sizeof t);
    r2_status status = r2__train_bytes(ctx, &parts, byte_token);
    if (status == R2_OK && config->nfc) {
        status = r2__nfc_text(ctx, bpe->normal, r2__slice_of(text, len), &normal);
        text = normal.data;
        len = normal.len;
    }
    if (status == R2_OK) status = r2__train_count(ctx, bpe, &t, text, len);
    if (status == R2_OK) status = r2__train_begin(ctx, byte_token, &t);
    if (status == R2_OK)
        status = r2__train_merges(ctx, &t, config, config->n_tokens - config->n_control, &parts);
    if (status == R2_OK) status = r2__train_controls(ctx, config, &parts);
    if (status == R2_OK) status = r2__bpe_finish(ctx, bpe, &parts);
    r2_text_free(ctx, &normal);
    r2__trainer_free(ctx, &t);
    r2__bpe_parts_free(ctx, &parts);
    if (status != R2_OK) r2_bpe_free(ctx, bpe);
    return status;
}

/* ---- tokenizer.json ---- */

static void r2__bpe_save_added(r2_ctx *ctx, const r2_bpe *bpe, r2_text *out) {
    const char *comma = "";
    for (int32_t t = 0; t < bpe->n_tokens; ++t) {
        if (!bpe->added[t]) continue;
        r2_text_addf(ctx, out, "%s\n    {\"id\": %d, \"content\": ", comma, (int)t);
        r2__text_json(ctx, out, r2__token_bytes(bpe, t));
        r2_text_addf(ctx, out,
                     ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                     "\"normalized\": %s, \"special\": %s}",
                     bpe->added[t] & R2_BPE_NORMALIZED ? "true" : "false",
                     bpe->added[t] & R2_BPE_CONTROL ? "true" : "false");
        comma = ",";
    }
}

static void r2__bpe_save_rule(r2_ctx *ctx, const r2_bpe *bpe, r2_text *out) {
    const bool alone = bpe->rule == R2_BPE_GPT2, qwen2 = bpe->rule == R2_BPE_QWEN2;
    if (!alone) r2_text_addf(ctx, out, "{\"type\": \"Sequence\", \"pretokenizers\": [\n    ");
    if (qwen2) {
        r2_text_addf(ctx, out, "{\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        r2__text_json(ctx, out, r2__slice_text(R2__QWEN2_REGEX));
        r2_text_addf(ctx, out, "}, \"behavior\": \"Isolated\", \"invert\": false},\n    ");
    } else if (!alone) {
        r2_text_addf(ctx, out, "{\"type\": \"Digits\", \"individual_digits\": true},\n    ");
    }
    r2_text_addf(ctx, out,
                 "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                 "\"trim_offsets\": false, \"use_regex\": %s}%s",
                 qwen2 ? "false" : "true", alone ? "" : "]}");
}

static void r2__bpe_save_model(r2_ctx *ctx, const r2_bpe *bpe, r2_text *out) {
    r2_text word = {NULL, 0, 0, false};
    const char *comma = "";
    r2_text_addf(ctx, out,
                 "{\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
                 "\"continuing_subword_prefix\": \"\", \"end_of_word_suffix\": \"\", "
                 "\"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false,\n"
                 "    \"vocab\": {");
    for (int32_t t = 0; t < bpe->n_tokens; ++t) {
        if (bpe->added[t]) continue;
        r2_text_clear(&word);
        r2__bytes_to_letters(ctx, r2__token_bytes(bpe, t), &word);
        r2_text_addf(ctx, out, "%s\n      ", comma);
        r2__text_json(ctx, out, r2__slice_of(word.data, word.len));
        r2_text_addf(ctx, out, ": %d", (int)t);
        comma = ",";
    }
    r2_text_addf(ctx, out, "},\n    \"merges\": [");
    for (int32_t i = 0; i < bpe->n_merges; ++i) {
        r2_text_clear(&word);
        r2__bytes_to_letters(ctx, r2__token_bytes(bpe, bpe->merge[3 * (int64_t)i]), &word);
        r2_text_add(ctx, &word, " ", 1);
        r2__bytes_to_letters(ctx, r2__token_bytes(bpe, bpe->merge[3 * (int64_t)i + 1]), &word);
        r2_text_addf(ctx, out, "%s\n      ", i ? "," : "");
        r2__text_json(ctx, out, r2__slice_of(word.data, word.len));
    }
    r2_text_addf(ctx, out, "]}");
    out->failed = out->failed || word.failed;
    r2_text_free(ctx, &word);
}

r2_status r2_bpe_save(r2_ctx *ctx, const r2_bpe *bpe, const char *path) {
    r2_text out = {NULL, 0, 0, false};
    r2_text_addf(ctx, &out,
                 "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n"
                 "  \"padding\": null,\n  \"added_tokens\": [");
    r2__bpe_save_added(ctx, bpe, &out);
    r2_text_addf(ctx, &out, "],\n  \"normalizer\": %s,\n  \"pre_tokenizer\": ",
                 bpe->nfc ? "{\"type\": \"NFC\"}" : "null");
    r2__bpe_save_rule(ctx, bpe, &out);
    r2_text_addf(ctx, &out,
                 ",\n  \"post_processor\": null,\n  \"decoder\": {\"type\": "
                 "\"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, "
                 "\"use_regex\": false},\n  \"model\": ");
    r2__bpe_save_model(ctx, bpe, &out);
    r2_text_addf(ctx, &out, "\n}\n");
    return r2__write_text(ctx, path, &out);
}

/* Whether the value is left out, null or "". */
static bool r2__json_empty(const cJSON *object, const char *key) {
    const cJSON *value = r2__json_get(object, key);
    return !value || cJSON_IsNull(value) || r2__json_is(object, key, "");
}

/* Tells which of the rules a pre-tokenizer is; false: none. */
static bool r2__bpe_load_rule(const cJSON *pre, r2_bpe_rule *rule) {
    const cJSON *list = r2__json_get(pre, "pretokenizers");
    const cJSON *first = list ? list->child : NULL, *last = first ? first->next : pre;
    const cJSON *regex = r2__json_get(last, "use_regex");
    bool own_regex = !cJSON_IsFalse(regex);
    if (!last || (first && last->next) || !r2__json_is(last, "type", "ByteLevel") ||
        r2__json_true(last, "add_prefix_space"))
        return false;
    *rule = R2_BPE_GPT2;
    if (!first) return own_regex;
    *rule = R2_BPE_GPT2_DIGITS;
    if (r2__json_is(first, "type", "Digits"))
        return own_regex && r2__json_true(first, "individual_digits");
    *rule = R2_BPE_QWEN2;
    return !own_regex && r2__json_is(first, "type", "Split") && !r2__json_true(first, "invert") &&
           r2__json_is(first, "behavior", "Isolated") &&
           r2__json_is(r2__json_get(first, "pattern"), "Regex", R2__QWEN2_REGEX);
}

/* The normaliser: null, NFC, or a sequence that holds only NFC. */
static bool r2__bpe_load_nfc(const cJSON *normalizer, bool *nfc) {
    const cJSON *list = r2__json_get(normalizer, "normalizers");
    if (list && cJSON_GetArraySize(list) == 1) normalizer = list->child;
    *nfc = r2__json_is(normalizer, "type", "NFC");
    return *nfc || !normalizer || cJSON_IsNull(normalizer);
}

/* Strings by id: first the added tokens, then the vocabulary. Every id below *n is taken once. */
typedef struct r2__bpe_ids {
    const char **word; /* (cap) */
    uint8_t *added;    /* (cap) */
    int64_t cap, n;
} r2__bpe_ids;

static r2_status r2__bpe_load_added(r2_ctx *ctx, const cJSON *list, r2__bpe_ids *ids) {
    for (const cJSON *token = list ? list->child : NULL; token; token = token->next) {
        const char *text = cJSON_GetStringValue(r2__json_get(token, "content"));
        const cJSON *number = r2__json_get(token, "id");
        int64_t id;
        if (!r2__json_whole(number, 0, ids->cap - 1, &id) || !text || !*text || ids->word[id])
            return r2_fail(ctx, R2_FORMAT, "an added token has no id of its own or no content");
        if (r2__json_true(token, "lstrip") || r2__json_true(token, "rstrip") ||
            r2__json_true(token, "single_word"))
            return r2_fail(ctx, R2_FORMAT,
                           "added token '%.60s' strips or is a single word: not supported", text);
        ids->word[id] = text;
        ids->added[id] = (uint8_t)(R2_BPE_ADDED |
                                   (r2__json_true(token, "special") ? R2_BPE_CONTROL : 0) |
                                   (r2__json_true(token, "normalized") ? R2_BPE_NORMALIZED : 0));
        if (id >= ids->n) ids->n = id + 1;
    }
    return R2_OK;
}

static r2_status r2__bpe_load_vocab(r2_ctx *ctx, const cJSON *vocab, r2__bpe_ids *ids) {
    for (const cJSON *token = vocab->child; token; token = token->next) {
        int64_t id = 0;
        bool good = r2__json_whole(token, 0, ids->cap - 1, &id) && token->string[0];
        bool same = good && ids->added[id] && strcmp(ids->word[id], token->string) == 0;
        if (!good || (ids->word[id] && !same))
            return r2_fail(ctx, R2_FORMAT, "token '%.60s' has no id of its own", token->string);
        ids->word[id] = token->string;
        if (id >= ids->n) ids->n = id + 1;
    }
    for (int64_t i = 0; i < ids->n; ++i)
        if (!ids->word[i]) return r2_fail(ctx, R2_FORMAT, "no token has id %lld", (long long)i);
    return R2_OK;
}

/* Moves the strings, in order of their ids, into the parts. */
static r2_status r2__bpe_load_words(r2_ctx *ctx, const r2__bpe_ids *ids, r2__bpe_parts *parts) {
    for (int64_t i = 0; i < ids->n; ++i) {
        if (r2_vocab_find(&parts->word, ids->word[i]) >= 0)
            return r2_fail(ctx, R2_FORMAT, "token '%.60s' comes twice", ids->word[i]);
        if (r2__vocab_append(ctx, &parts->word, ids->word[i]) != R2_OK) return ctx->status;
        r2_tokens_add(ctx, &parts->added, ids->added[i]);
    }
    return parts->added.owner.failed ? ctx->status : R2_OK;
}

static r2_status r2__bpe_load_tokens(r2_ctx *ctx, const cJSON *root, const cJSON *vocab,
                                     r2__bpe_parts *parts) {
    const cJSON *added = r2__json_get(root, "added_tokens");
    r2__bpe_ids ids = {NULL, NULL, 0, 0};
    r2_status status;
    if (added && !cJSON_IsArray(added) && !cJSON_IsNull(added))
        return r2_fail(ctx, R2_FORMAT, "added_tokens is not a list");
    ids.cap = (int64_t)cJSON_GetArraySize(vocab) + cJSON_GetArraySize(added);
    ids.word = (const char **)r2_alloc(ctx, (uint64_t)ids.cap, sizeof *ids.word);
    ids.added = (uint8_t *)r2_alloc(ctx, (uint64_t)ids.cap, 1);
    status = ids.word && ids.added ? R2_OK : ctx->status;
    if (status == R2_OK) status = r2__bpe_load_added(ctx, added, &ids);
    if (status == R2_OK) status = r2__bpe_load_vocab(ctx, vocab, &ids);
    if (status == R2_OK) status = r2__bpe_load_words(ctx, &ids, parts);
    r2_release(ctx, ids.word);
    r2_release(ctx, ids.added);
    return status;
}

/* A merge is "left right" or ["left", "right"]. */
static r2_status r2__bpe_load_merge(r2_ctx *ctx, const cJSON *merge, r2__bpe_parts *parts) {
    const cJSON *pair = cJSON_IsArray(merge) ? merge->child : NULL;
    const char *left = cJSON_GetStringValue(pair ? pair : merge);
    const char *blank = left && !pair ? strchr(left, ' ') : NULL, *right = blank ? blank + 1 : NULL;
    size_t len = blank ? (size_t)(blank - left) : left ? strlen(left) : 0;
    r2_text text = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    int32_t id[3] = {-1, -1, -1};
    if (pair && pair->next && !pair->next->next) right = cJSON_GetStringValue(pair->next);
    if (!left || !right || (blank && strchr(right, ' ')))
        return r2_fail(ctx, R2_FORMAT, "a merge is not a pair of strings");
    r2_text_addf(ctx, &text, "%.*s%s", (int)len, left, right);
    if (!text.failed) {
        id[2] = r2_vocab_find(&parts->word, text.data);
        text.data[len] = '\0';
        id[0] = r2_vocab_find(&parts->word, text.data);
        id[1] = r2_vocab_find(&parts->word, right);
        for (int k = 0; k < 3; ++k) r2_tokens_add(ctx, &parts->merge, id[k]);
        if (id[0] < 0 || id[1] < 0 || id[2] < 0)
            status = r2_fail(ctx, R2_FORMAT, "merge '%.60s' '%.60s' names no tokens", text.data,
                             right);
    }
    if (text.failed || parts->merge.owner.failed) status = ctx->status;
    r2_text_free(ctx, &text);
    return status;
}

/* Refuses what would change ids, by name. */
static r2_status r2__bpe_load_check(r2_ctx *ctx, const cJSON *root, const cJSON *model) {
    static const char *const off[] = {"truncation", "padding", "dropout", "byte_fallback",
                                      "ignore_merges"};
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int k = 0; k < 5; ++k) {
        const cJSON *item = r2__json_get(k < 2 ? root : model, off[k]);
        if (item && !r2__is_off(item) && !(cJSON_IsNumber(item) && item->valuedouble == 0.0))
            return r2_fail(ctx, R2_FORMAT, "%s is in use: not supported", off[k]);
    }
    for (int k = 0; k < 2; ++k)
        if (!r2__json_empty(model, empty[k]))
            return r2_fail(ctx, R2_FORMAT, "%s is in use: not supported", empty[k]);
    return R2_OK;
}

static r2_status r2__bpe_load_json(r2_ctx *ctx, r2_bpe *bpe, const cJSON *root,
                                   r2__bpe_parts *parts) {
    const cJSON *model = r2__json_get(root, "model");
    const cJSON *vocab = r2__json_get(model, "vocab");
    const cJSON *merges = r2__json_get(model, "merges");
    r2_bpe_rule rule;
    bool nfc;
    if (!cJSON_IsObject(vocab) || !cJSON_IsArray(merges) ||
        !(r2__json_empty(model, "type") || r2__json_is(model, "type", "BPE")))
        return r2_fail(ctx, R2_FORMAT, "expected model.vocab and model.merges of a BPE tokenizer");
    if (r2__bpe_load_check(ctx, root, model) != R2_OK) return ctx->status;
    if (!r2__bpe_load_rule(r2__json_get(root, "pre_tokenizer"), &rule))
        return r2_fail(ctx, R2_FORMAT, "pre_tokenizer is none of GPT-2, Qwen2, digits + GPT-2");
    if (!r2__bpe_load_nfc(r2__json_get(root, "normalizer"), &nfc))
        return r2_fail(ctx, R2_FORMAT, "normalizer is neither null nor NFC");
    if (r2__bpe_load_tokens(ctx, root, vocab, parts) != R2_OK) return ctx->status;
    for (const cJSON *merge = merges->child; merge; merge = merge->next)
        if (r2__bpe_load_merge(ctx, merge, parts) != R2_OK) return ctx->status;
    if (r2__bpe_begin(ctx, bpe, rule, nfc) != R2_OK) return ctx->status;
    return r2__bpe_finish(ctx, bpe, parts);
}

r2_status r2_bpe_load(r2_ctx *ctx, r2_bpe *bpe, const char *path) {
    r2__bpe_parts parts;
    cJSON *root = NULL;
    r2_status status = r2__json_read(ctx, path, &root);
    memset(bpe, 0, sizeof *bpe);
    memset(&parts, 0, sizeof parts);
    if (status == R2_OK) {
        status = r2__bpe_load_json(ctx, bpe, root, &parts);
        if (status == R2_FORMAT) {
            char why[sizeof ctx->message];
            memcpy(why, ctx->message, sizeof why);
            r2_fail(ctx, status, "%s: %.400s", path, why);
        }
    }
    cJSON_Delete(root);
    r2__bpe_parts_free(ctx, &parts);
    if (status != R2_OK) r2_bpe_free(ctx, bpe);
    return status;
}

/* ---- prompts in English ---- */

/* What a fact is, @ in place of the user and # in place of the item that the question names; a
   field without words is described by its formula. */
static const char *r2__field_phrase(r2_field field) {
    switch (field) {
    case R2_FIELD_hist: return "items @ has rated";
    case R2_FIELD_genre: return "fit of #'s genres to @'s recent items";
    case R2_FIELD_era: return "years # is newer than @'s usual items";
    case R2_FIELD_shared: return "share of #'s people who share two items with @";
    case R2_FIELD_uknn: return "how many of the most similar people have #";
    case R2_FIELD_deep: return "closeness of #'s people, over longer chains too";
    case R2_FIELD_pop: return "people who rated #";
    case R2_FIELD_meanr: return "mean rating of #";
    case R2_FIELD_pred: return "how similar people rated # against their own mean";
    case R2_FIELD_fresh: return "time since # was first rated";
    case R2_FIELD_trend: return "ratings of # just before now";
    case R2_FIELD_season: return "ratings of # lately";
    case R2_FIELD_link: return "links to @'s items, close in time";
    case R2_FIELD_rel: return "links to @'s latest items, close in each person's history";
    case R2_FIELD_near3: return "links to @'s latest items, next to each other";
    case R2_FIELD_near1: return "links to @'s very last items, next to each other";
    case R2_FIELD_next: return "people who took # soon after one of @'s items";
    case R2_FIELD_liked: return "links to @'s items by people who liked #";
    case R2_FIELD_path: return "the one person whose recent route is most like @'s";
    case R2_FIELD_c1: return "strength of the strongest chain";
    case R2_FIELD_c2: return "strength of the second chain";
    default: return r2_field_formula(field);
    }
}

/* Adds the phrase of a field for a question about `user`; before step 4 the item is no target. */
static void r2__add_phrase(r2_ctx *ctx, r2_field field, const char *user, int32_t step,
                           r2_text *text) {
    for (const char *p = r2__field_phrase(field); *p; ++p) {
        if (*p == '@') r2_text_addf(ctx, text, "%s", user);
        else if (*p == '#') r2_text_addf(ctx, text, step < R2_STEP_ASK ? "the item" : "the target");
        else r2_text_add(ctx, text, p, 1);
    }
}

/* Title of an item, or the data's own id of one without a title. */
static const char *r2__item_title(const r2_data *data, uint32_t item) {
    return data->title && data->title[item] && data->title[item][0] ? data->title[item]
                                                                    : data->item_key[item];
}

/* Adds a title in double quotes; those inside become single ones, control characters blanks. */
static void r2__add_title(r2_ctx *ctx, const r2_data *data, uint32_t item, r2_text *text) {
    r2_text_add(ctx, text, "\"", 1);
    for (const char *p = r2__item_title(data, item); *p; ++p)
        r2_text_add(ctx, text, *p == '"' ? "'" : (unsigned char)*p < ' ' ? " " : p, 1);
    r2_text_add(ctx, text, "\"", 1);
}

/* The letter of u1 of chain c: persons are lettered in the order in which they appear. */
static char r2__person_letter(const r2_evidence *evidence, int32_t c) {
    char letter = 'A';
    for (int32_t k = 0; evidence->chain[k].chain.u1 != evidence->chain[c].chain.u1; ++k) {
        bool is_new = true;
        for (int32_t j = 0; j < k; ++j)
            is_new = is_new && evidence->chain[j].chain.u1 != evidence->chain[k].chain.u1;
        letter = (char)(letter + is_new);
    }
    return letter;
}

/* "the user" or "Person A": who rated edge 1 .. 4 of chain c. */
static void r2__edge_person(const r2_evidence *evidence, int32_t c, int32_t edge, char name[16]) {
    if (edge == 1 || edge == 4) snprintf(name, 16, "the user");
    else snprintf(name, 16, "Person %c", r2__person_letter(evidence, c));
}

/* The item of edge 1 .. 4. */
static uint32_t r2__edge_item(const r2_chain *chain, int32_t edge) {
    return edge <= 2 ? chain->i0 : chain->i1;
}

/* Adds `Person A gave "Title" 4 stars`, or [?] in place of a masked rating. */
static void r2__english_edge(r2_ctx *ctx, const r2_prompt_config *config,
                             const r2_evidence *evidence, int32_t c, int32_t edge, r2_text *text) {
    const r2_chain *chain = &evidence->chain[c].chain;
    char name[16];
    r2__edge_person(evidence, c, edge, name);
    r2_text_addf(ctx, text, "%s gave ", name);
    r2__add_title(ctx, config->data, r2__edge_item(chain, edge), text);
    r2_text_add(ctx, text, " ", 1);
    if (r2__edge_visibility(config, evidence, c, edge) == R2_SHOWN)
        r2__text_number(ctx, text, (double)r2__chain_rating(chain, edge), 6);
    else r2_text_add(ctx, text, "[?]", 3);
    r2_text_add(ctx, text, " stars", 6);
}

/* Who is asked about at a step. */
static void r2__asked_person(const r2_evidence *evidence, char name[16]) {
    r2__edge_person(evidence, 0, r2__step(evidence), name);
}

/* A line for each fact about the question: its bucket among those of its field. */
static void r2__english_evidence(r2_ctx *ctx, const r2_prompt_config *config,
                                 const r2_evidence *evidence, r2_text *text) {
    const r2_codebook *codebook = config->codebook;
    char name[16];
    r2__asked_person(evidence, name);
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD && codebook; ++f) {
        r2_visibility visibility = r2__fact_visibility(config, evidence, (r2_field)f);
        char level[16] = "[?]";
        if (visibility == R2_HIDDEN) continue;
        if (visibility == R2_SHOWN)
            snprintf(level, sizeof level, "%d",
                     (int)r2_codebook_bucket(codebook, (r2_field)f, evidence->value[f]));
        r2_text_add(ctx, text, "- ", 2);
        r2__add_phrase(ctx, (r2_field)f, name, r2__step(evidence), text);
        r2_text_addf(ctx, text, ": %s of %d\n", level, (int)codebook->n_bucket[f] - 1);
    }
}

static void r2__english_chains(r2_ctx *ctx, const r2_prompt_config *config,
                               const r2_evidence *evidence, int32_t n_shown, r2_text *text) {
    for (int32_t c = 0; c < n_shown; ++c) {
        r2_text_addf(ctx, text, "Chain %d: ", (int)c + 1);
        for (int32_t edge = 1; edge <= 4; ++edge) {
            if (r2__edge_visibility(config, evidence, c, edge) == R2_HIDDEN) continue;
            if (edge > 1) r2_text_add(ctx, text, "; ", 2);
            r2__english_edge(ctx, config, evidence, c, edge, text);
        }
        r2_text_add(ctx, text, ".\n", 2);
    }
    if (n_shown > 0) return;
    r2_text_addf(ctx, text, "No chain leads from the user to ");
    r2__add_title(ctx, config->data, evidence->item, text);
    r2_text_add(ctx, text, ".\n", 2);
}

static void r2__english_question(r2_ctx *ctx, const r2_prompt_config *config,
                                 const r2_evidence *evidence, r2_text *text) {
    char name[16];
    if (r2__step(evidence) == R2_STEP_ASK) {
        r2_text_addf(ctx, text, "The target is ");
        r2__add_title(ctx, config->data, evidence->item, text);
        r2_text_addf(ctx, text, ". Would the user take it up, and how would they rate it?");
        return;
    }
    r2__asked_person(evidence, name);
    r2_text_addf(ctx, text, "How did %s rate ", name);
    r2__add_title(ctx, config->data, evidence->item, text);
    r2_text_addf(ctx, text, " in chain 1?");
}

/* The instruction: what chains are, and the form of the output, a line for each thought. */
static void r2__english_system(r2_ctx *ctx, const r2_prompt_config *config, int32_t step,
                               r2_text *text) {
    static const char *const thought[R2_STEP_ASK] = {
        "what the user thought of the first item",
        "what the other person thought of it, and whether they agree",
        "what that person thought of the further item", "what follows for the user"};
    r2_text_addf(ctx, text,
                 "You predict how a user will like an item by reasoning over chains of "
                 "interactions. A chain walks from the user to an item they rated, to another "
                 "person who rated it too, to a further item of that person, and back to the user. "
                 "Ratings go from ");
    r2__text_number(ctx, text, (double)config->data->rating_min, 6);
    r2_text_addf(ctx, text, " to ");
    r2__text_number(ctx, text, (double)config->data->rating_max, 6);
    r2_text_addf(ctx, text,
                 " stars; [?] is a rating that is masked.\n"
                 "Answer in exactly this form:\n<think>\n");
    for (int32_t k = 0; k < step; ++k)
        r2_text_addf(ctx, text, "Step %d: %s\n", (int)k + 1, thought[k]);
    r2_text_addf(ctx, text,
                 "</think><answer>N</answer>\n"
                 "N is a whole number: 0 if the user would not take up the item, else from 1 "
                 "(worst) to 5 (best). End the last step with: I expect N. Name only items and "
                 "persons of the chains, titles in double quotes, and quote ratings as the chains "
                 "do: Person A gave \"Title\" 4 stars.");
}

static void r2__english_prompt(r2_ctx *ctx, const r2_prompt_config *config,
                               const r2_evidence *evidence, r2_prompt *prompt) {
    r2_text *text = &prompt->user;
    char name[16];
    r2__english_system(ctx, config, r2__step(evidence), &prompt->system);
    r2__asked_person(evidence, name);
    if (r2__step(evidence) == R2_STEP_ASK)
        r2_text_addf(ctx, text, "The user has rated %d items.\n", (int)evidence->n_history);
    else
        r2_text_addf(ctx, text, "Before that, %s had rated %d items.\n", name,
                     (int)evidence->n_history);
    r2__english_evidence(ctx, config, evidence, text);
    r2__english_chains(ctx, config, evidence, prompt->n_shown, text);
    if (evidence->n_chains > prompt->n_shown)
        r2_text_addf(ctx, text, "%d more chains are left out.\n",
                     (int)(evidence->n_chains - prompt->n_shown));
    r2__english_question(ctx, config, evidence, text);
}

/* ---- the rule-based teacher in English ---- */

/* Sum of the weights of the told facts about all chains: above 0 speaks for the item. */
static int32_t r2__rules_lean(const r2_task *task) {
    const r2_codebook *codebook = task->config->codebook;
    int32_t lean = 0;
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD && codebook; ++f)
        if (r2__fact_visibility(task->config, task->evidence, (r2_field)f) == R2_SHOWN)
            lean += codebook->weight[f][r2_codebook_bucket(codebook, (r2_field)f,
                                                           task->evidence->value[f])];
    return lean;
}

/* Whether the prompt shows no rating that bears on the question: the one before it is masked. */
static bool r2__rules_blind(const r2_task *task) {
    int32_t step = r2__step(task->evidence);
    return step == 1 || !task->config->data ||
           r2_schedule_visibility(task->config->schedule, step, step - 1) != R2_SHOWN;
}

/* The answer of an unguided trace. Before step 4: the masked rating is like the one before it. At
   step 4: 0 without a chain or when the weights speak against the item, else the rating of the
   people u1, moved by how u0 and u1 differ on i0, the first chains counting most. */
static int32_t r2__rules_answer(const r2_task *task) {
    const r2_data *data = task->config->data;
    int32_t step = r2__step(task->evidence), n = task->prompt->n_shown;
    double sum = 0.0, weight = 0.0, rating;
    if (step == R2_STEP_ASK && (n < 1 || r2__rules_lean(task) < 0)) return 0;
    if (r2__rules_blind(task)) return 3;
    for (int32_t c = 0; c < n; ++c) {
        const r2_chain *chain = &task->evidence->chain[c].chain;
        sum += ((double)chain->r3 + (double)chain->r1 - (double)chain->r2) / (1.0 + c);
        weight += 1.0 / (1.0 + c);
    }
    rating = sum / weight;
    if (step < R2_STEP_ASK)
        rating = (double)r2__chain_rating(&task->evidence->chain[0].chain, step - 1);
    return r2_answer_level((float)rating, data->rating_min, data->rating_max);
}

/* Chooses the chains that a trace cites, two so that it can compare: the first ones, or those
   closest to the answer. */
static void r2__rules_chains(const r2_teacher_config *config, const r2_task *task, int32_t answer,
                             bool cited[R2_MAX_CHAINS]) {
    const r2_data *data = task->config->data;
    r2_rng rng = r2_rng_make(config->seed, R2_STREAM_TEACHER, (uint64_t)task->index);
    int32_t n = task->prompt->n_shown;
    float strength[R2_MAX_CHAINS];
    for (int32_t c = 0; c < n; ++c) {
        strength[c] = -0.5f * (float)c + config->gumbel * (float)r2_rng_gumbel(&rng);
        if (task->answer >= 0 &&
            r2_schedule_visibility(task->config->schedule, r2__step(task->evidence), 3) == R2_SHOWN)
            strength[c] -= (float)abs(r2_answer_level(task->evidence->chain[c].chain.r3,
                                                      data->rating_min, data->rating_max) -
                                      answer);
        cited[c] = false;
    }
    for (int32_t k = 0; k < 2 && k < n; ++k) {
        int32_t best = -1;
        for (int32_t c = 0; c < n; ++c)
            if (!cited[c] && (best < 0 || strength[c] > strength[best])) best = c;
        if (best >= 0) cited[best] = true;
    }
}

/* Adds what a trace says of edge `edge` of chain c. */
static void r2__rules_sentence(r2_ctx *ctx, const r2_task *task, int32_t c, int32_t edge,
                               r2_text *out) {
    const r2_data *data = task->config->data;
    const r2_chain *chain = &task->evidence->chain[c].chain;
    char name[16];
    if (r2__edge_visibility(task->config, task->evidence, c, edge) != R2_SHOWN) {
        r2__edge_person(task->evidence, c, edge, name);
        r2_text_addf(ctx, out, "what %s thinks of ", name);
        r2__add_title(ctx, data, r2__edge_item(chain, edge), out);
        r2_text_addf(ctx, out, " is masked");
        return;
    }
    r2__english_edge(ctx, task->config, task->evidence, c, edge, out);
    /* they agree when they are at most one answer level apart */
    const bool agree = 4.0f * fabsf(chain->r1 - chain->r2) <= data->rating_max - data->rating_min;
    if (edge == 2) r2_text_addf(ctx, out, agree ? ", so they agree" : ", so they differ");
}

/* Adds the conclusion. A guided trace knows its answer; but it says of the facts what an unguided
   trace would conclude from them, and "strongly" only where the weights are strong. */
static void r2__rules_conclusion(r2_ctx *ctx, const r2_task *task, int32_t answer, r2_text *out) {
    static const char *const why[R2_N_ANSWERS] = {
        "this does not lead to it",      "this speaks against liking it",
        "this speaks against liking it", "this is mixed",
        "this speaks for liking it",     "this speaks for liking it"};
    const int32_t step = r2__step(task->evidence), facts = r2__rules_answer(task);
    const int32_t side = (facts > 3) - (facts < 3), expected = (answer > 3) - (answer < 3);
    const bool follows = side == expected && (facts == 0) == (answer == 0);
    const char *says = why[facts];
    if (step == R2_STEP_ASK && task->prompt->n_shown < 1) says = "no chain leads to it";
    else if (facts && r2__rules_blind(task)) says = "no rating in sight tells it";
    else if (facts == 5 && step == R2_STEP_ASK && r2__rules_lean(task) >= R2_MAX_TOTAL / 2)
        says = "this speaks strongly for liking it";
    r2_text_addf(ctx, out, "%s, %s I expect %d.\n</think><answer>%d</answer>", says,
                 follows ? "so" : "yet", (int)answer, (int)answer);
}

static void r2__rules_english(r2_ctx *ctx, const r2_teacher_config *config, const r2_task *task,
                              int32_t answer, r2_text *out) {
    int32_t asked = r2__step(task->evidence);
    bool cited[R2_MAX_CHAINS];
    r2__rules_chains(config, task, answer, cited);
    r2_text_addf(ctx, out, "<think>\n");
    for (int32_t step = 1; step < asked; ++step) {
        const char *join = "";
        r2_text_addf(ctx, out, "Step %d: ", (int)step);
        for (int32_t c = 0; c < task->prompt->n_shown; ++c) {
            if (!cited[c]) continue;
            r2_text_addf(ctx, out, "%s", join);
            r2__rules_sentence(ctx, task, c, step, out);
            join = "; ";
        }
        r2_text_addf(ctx, out, "%s.\n", *join ? "" : "no chain to follow");
    }
    r2_text_addf(ctx, out, "Step %d: ", (int)asked);
    r2__rules_conclusion(ctx, task, answer, out);
}

/* ---- checking English ---- */

/* A statement of a prompt: `Person A gave "Title" 4 stars`. */
typedef struct r2__statement {
    int32_t edge, person; /* person 0: the user, 1: Person A ... */
    r2__slice title;
    double rating; /* NAN: masked */
} r2__statement;

/* What a prompt says. */
typedef struct r2__english_facts {
    r2__statement statement[4 * R2_MAX_CHAINS];
    int32_t n, step; /* step: that the prompt asks for */
    r2__slice target; /* of step 4                      */
} r2__english_facts;

/* Takes digits with an optional fraction off the front. */
static double r2__read_number(r2__slice *in) {
    double value = 0.0, unit = 1.0;
    for (; r2__digit_at(*in, 0); r2__drop(in, 1)) value = value * 10 + (*in->at - '0');
    if (!in->len || *in->at != '.' || !r2__digit_at(*in, 1)) return value;
    for (r2__drop(in, 1); r2__digit_at(*in, 0); r2__drop(in, 1))
        value += (*in->at - '0') * (unit /= 10);
    return value;
}

/* Takes a title in double quotes off the front. */
static bool r2__read_title(r2__slice *in, r2__slice *title) {
    r2__slice rest = *in;
    if (!r2__take_char(&rest, "\"")) return false;
    const char *close = (const char *)memchr(rest.at, '"', rest.len);
    if (!close) return false;
    *title = r2__slice_of(rest.at, (size_t)(close - rest.at));
    r2__drop(in, title->len + 2);
    return true;
}

static bool r2__read_statement(r2__slice *in, r2__statement *s) {
    s->person = 0;
    if (r2__take_text(in, "Person ")) {
        if (!in->len) return false;
        s->person = 1 + *in->at - 'A';
        r2__drop(in, 1);
    } else if (!r2__take_text(in, "the user")) {
        return false;
    }
    if (!r2__take_text(in, " gave ") || !r2__read_title(in, &s->title) || !r2__take_text(in, " "))
        return false;
    s->rating = r2__take_text(in, "[?]") ? NAN : r2__read_number(in);
    return r2__take_text(in, " stars");
}

/* Reads the lines of an English prompt that name titles: chains and the question. */
static void r2__read_english(const char *prompt, r2__english_facts *facts) {
    const int32_t room = (int32_t)(sizeof facts->statement / sizeof *facts->statement);
    memset(facts, 0, sizeof *facts);
    while (*prompt) {
        r2__slice in = r2__slice_of(prompt, strcspn(prompt, "\n"));
        int32_t edge = 0;
        prompt += in.len + (prompt[in.len] == '\n');
        if (r2__take_text(&in, "The target is ") && r2__read_title(&in, &facts->target))
            facts->step = R2_STEP_ASK;
        if (!r2__take_text(&in, "Chain ")) continue;
        while (in.len && *in.at != ':') r2__drop(&in, 1);
        while (in.len > 2 && edge < 4 && facts->n < room) {
            r2__drop(&in, 2); /* ": " or "; " */
            if (!r2__read_statement(&in, &facts->statement[facts->n])) break;
            facts->statement[facts->n++].edge = ++edge;
        }
        if (facts->step < edge) facts->step = edge; /* the last edge named is the masked one */
    }
}

/* How often `tag` stands in the text; the first place in *at. */
static int32_t r2__count_tag(const char *text, const char *tag, const char **at) {
    int32_t n = 0;
    *at = NULL;
    for (const char *p = strstr(text, tag); p; p = strstr(p + 1, tag)) {
        if (!*at) *at = p;
        ++n;
    }
    return n;
}

static const char *r2__skip_blank(const char *p) {
    while (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t') ++p;
    return p;
}

/* Shape of <think> ... </think><answer> k </answer>: white space between the parts and around k is
   allowed, nothing else is. */
static r2_verdict r2__english_shape(const char *output, int32_t *answer, r2__slice *reasoning) {
    const char *open, *end, *ask, *close;
    int32_t n_open = r2__count_tag(output, "<think>", &open);
    int32_t n_ask = r2__count_tag(output, "<answer>", &ask);
    int32_t n_end = r2__count_tag(output, "</think>", &end);
    int32_t n_close = r2__count_tag(output, "</answer>", &close);
    if (n_ask > 1) return R2_TRACE_TWO_ANSWERS;
    if (ask && (!end || ask < end)) return R2_TRACE_ANSWER_FIRST;
    if (!ask || !close) return R2_TRACE_NO_ANSWER;
    if (n_open != 1 || n_end != 1 || n_close != 1 || open != r2__skip_blank(output))
        return R2_TRACE_MALFORMED;
    const char *body = open + strlen("<think>");
    if (r2__skip_blank(body) >= end || r2__skip_blank(end + strlen("</think>")) != ask)
        return R2_TRACE_MALFORMED;
    ask = r2__skip_blank(ask + strlen("<answer>"));
    if (*ask < '0' || *ask >= '0' + R2_N_ANSWERS || r2__skip_blank(ask + 1) != close ||
        *r2__skip_blank(close + strlen("</answer>")))
        return R2_TRACE_MALFORMED;
    *answer = *ask - '0';
    *reasoning = r2__slice_of(body, (size_t)(end - body));
    return R2_TRACE_OK;
}

/* Where the checker stands in the reasoning, and of whom and what the clause speaks. */
typedef struct r2__english {
    const r2__english_facts *facts;
    r2_check *check;
    r2__slice in;                /* what is not read yet                   */
    r2__slice title;             /* at NULL: none named yet in this clause */
    int32_t person;              /* -1: none, 0: the user, 1: Person A ... */
    int32_t step, conclusion;    /* conclusion -1: none yet                */
    bool cited[R2_STEP_ASK + 1]; /* step k quoted a rating of edge k       */
} r2__english;

static void r2__english_clause(r2__english *e, int32_t person) {
    e->person = person;
    e->title.at = NULL;
}

/* A quoted title: one of the prompt's, or an unknown one. */
static void r2__english_quote(r2__english *e) {
    bool known = false;
    if (r2__read_title(&e->in, &e->title)) {
        known = e->facts->target.at && r2__same(e->facts->target, e->title);
        for (int32_t k = 0; k < e->facts->n; ++k)
            known = known || r2__same(e->facts->statement[k].title, e->title);
    } else {
        e->in.len = 0;
    }
    if (!known) r2__first_fault(e->check, R2_TRACE_UNKNOWN_FACT);
}

/* What follows "Person ": one whom the prompt names. */
static void r2__english_person(r2__english *e) {
    int32_t person = e->in.len ? 1 + *e->in.at - 'A' : -1;
    bool known = false;
    for (int32_t k = 0; k < e->facts->n; ++k)
        known = known || (person > 0 && e->facts->statement[k].person == person);
    if (!known) r2__first_fault(e->check, R2_TRACE_UNKNOWN_FACT);
    r2__english_clause(e, known ? person : INT32_MAX);
    if (e->in.len) r2__drop(&e->in, 1);
}

/* A number; followed by " star" it quotes a rating. It counts as found when the prompt rates the
   title of the clause, as right when some statement fits. */
static void r2__english_number(r2__english *e) {
    double value = r2__read_number(&e->in);
    bool found = false, right = false;
    if (!r2__begins(e->in, r2__slice_text(" star"))) return;
    for (int32_t k = 0; k < e->facts->n && !right; ++k) {
        const r2__statement *s = &e->facts->statement[k];
        if (e->person >= 0 && e->person != s->person) continue;
        if ((e->title.at && !r2__same(e->title, s->title)) || isnan(s->rating)) continue;
        found = true;
        right = fabs(s->rating - value) < 1e-4;
        if (right && s->edge == e->step) e->cited[s->edge] = true;
    }
    e->check->n_cited++;
    e->check->n_found += found;
    e->check->n_right += right;
    if (!right) r2__first_fault(e->check, R2_TRACE_WRONG_RATING);
}

/* What follows "Step ": k and a colon, in order. */
static void r2__english_step(r2__english *e) {
    int32_t k = e->in.len > 1 && e->in.at[1] == ':' ? *e->in.at - '0' : -1;
    if (k == e->step + 1 && k <= e->facts->step) e->step = k;
    else r2__first_fault(e->check, R2_TRACE_MISSING_STEP);
}

/* What follows "expect ": the conclusion, a digit, which only the last step may draw. */
static void r2__english_conclude(r2__english *e) {
    const bool digit = r2__digit_at(e->in, 0) && !r2__digit_at(e->in, 1);
    if (e->step < e->facts->step) r2__first_fault(e->check, R2_TRACE_ANSWER_FIRST);
    e->conclusion = digit ? *e->in.at - '0' : -1;
}

/* Reads one thing and moves on. */
static void r2__english_read(r2__english *e) {
    if (*e->in.at == '"') r2__english_quote(e);
    else if (r2__digit_at(e->in, 0)) r2__english_number(e);
    else if (r2__take_text(&e->in, "Step ")) r2__english_step(e);
    else if (r2__take_text(&e->in, "Person ")) r2__english_person(e);
    else if (r2__take_text(&e->in, "expect ")) r2__english_conclude(e);
    else if (r2__take_text(&e->in, "he user")) r2__english_clause(e, 0); /* The, the */
    else {
        if (e->step < e->facts->step && r2__begins(e->in, r2__slice_text("nswer")))
            r2__first_fault(e->check, R2_TRACE_ANSWER_FIRST);
        if (*e->in.at == ';' || *e->in.at == '\n' || r2__begins(e->in, r2__slice_text(". ")))
            r2__english_clause(e, -1);
        r2__drop(&e->in, 1);
    }
}

/* Checks an English output against its prompt. */
static r2_check r2__check_english(const char *prompt, const char *output) {
    r2_check check = {R2_TRACE_OK, -1, 0, 0, 0, 0, false};
    r2__english_facts facts;
    r2__english e;
    memset(&e, 0, sizeof e);
    check.verdict = r2__english_shape(output, &check.answer, &e.in);
    if (check.verdict != R2_TRACE_OK) return check;
    check.well_formed = true;
    r2__read_english(prompt, &facts);
    e.facts = &facts;
    e.check = &check;
    e.person = e.conclusion = -1;
    while (e.in.len) r2__english_read(&e);
    for (int32_t k = 0; k < facts.n; ++k) { /* each step quotes a rating when it sees one */
        const r2__statement *s = &facts.statement[k];
        if (s->edge < facts.step && !isnan(s->rating) && !e.cited[s->edge])
            r2__first_fault(&check, R2_TRACE_MISSING_STEP);
    }
    if (e.step != facts.step || e.conclusion < 0) r2__first_fault(&check, R2_TRACE_MISSING_STEP);
    if (e.conclusion != check.answer) r2__first_fault(&check, R2_TRACE_CONTRADICTS);
    check.total = e.conclusion;
    return check;
}

/* ---- teachers and their checks ---- */

r2_status r2_teacher_rules(r2_ctx *ctx, void *hook_data, const r2_task *task, r2_text *output) {
    const r2_teacher_config *config = (const r2_teacher_config *)hook_data;
    int32_t answer = task->answer >= 0 ? task->answer : r2__rules_answer(task);
    int32_t lean = task->answer < 0 ? 0 : task->answer > 0 ? 1 : -1;
    r2_status status = R2_OK;
    if (task->config->words == R2_WORDS_ENGLISH) {
        r2__rules_english(ctx, config, task, answer, output);
    } else {
        status = r2__teach_compact(ctx, task->config->codebook, config, task->prompt->user.data,
                                   (uint64_t)task->index, lean, output);
        r2_text_addf(ctx, output, " <answer> %d </answer>", (int)answer);
    }
    return status == R2_OK && output->failed ? ctx->status : status;
}

r2_check r2_check_english(const void *hook_data, const char *prompt, const char *output) {
    (void)hook_data;
    return r2__check_english(prompt, output);
}

r2_check r2_check_output(const r2_task *task, const char *output) {
    const char *prompt = task->prompt->user.data;
    r2_check check = task->config->words == R2_WORDS_ENGLISH
                         ? r2__check_english(prompt, output)
                         : r2_check_trace(task->config->codebook, prompt, output);
    if (task->answer >= 0 && check.answer >= 0 && check.answer != task->answer)
        r2__first_fault(&check, R2_TRACE_WRONG_ANSWER);
    return check;
}

void r2_tally_add(r2_tally *tally, r2_verdict verdict, int32_t answer) {
    tally->n[verdict][answer > 0 && answer < R2_N_ANSWERS ? answer : 0]++;
}

void r2_tally_report(r2_ctx *ctx, const r2_tally *tally, r2_text *text) {
    r2_text_addf(ctx, text, "%-14s", "answer");
    for (int k = 0; k < R2_N_ANSWERS; ++k) r2_text_addf(ctx, text, " %8d", k);
    r2_text_addf(ctx, text, " %8s\n", "all");
    for (int v = 0; v < R2_N_VERDICTS; ++v) {
        int64_t sum = 0;
        for (int k = 0; k < R2_N_ANSWERS; ++k) sum += tally->n[v][k];
        if (!sum && v != R2_TRACE_OK) continue;
        r2_text_addf(ctx, text, "%-14s",
                     v == R2_TRACE_OK ? "kept" : r2_verdict_name((r2_verdict)v));
        for (int k = 0; k < R2_N_ANSWERS; ++k)
            r2_text_addf(ctx, text, " %8lld", (long long)tally->n[v][k]);
        r2_text_addf(ctx, text, " %8lld\n", (long long)sum);
    }
}

/* ---- records ---- */

/* The keys of a line in their order, with what data/records.schema.json allows. */
static const struct r2__record_key {
    const char *name;
    size_t at;          /* its member                             */
    int64_t low, high;  /* of a number; low > high: it is a text  */
    const char *one_of; /* a text must be one of these words      */
} r2__record_keys[] = {
    {"id", offsetof(r2_record, id), -R2__WHOLE, R2__WHOLE, NULL},
    {"user", offsetof(r2_record, user), 1, 0, NULL},
    {"item", offsetof(r2_record, item), 1, 0, NULL},
    {"history", offsetof(r2_record, n_history), 0, R2__WHOLE, NULL},
    {"schedule", offsetof(r2_record, schedule), 1, 0, "progressive final-only all none"},
    {"step", offsetof(r2_record, step), 1, R2_STEP_ASK, NULL},
    {"template", offsetof(r2_record, words), 1, 0, "compact english"},
    {"shown", offsetof(r2_record, shown), 0, R2_MAX_CHAINS, NULL},
    {"left_out", offsetof(r2_record, left_out), 0, R2_MAX_CHAINS, NULL},
    {"source", offsetof(r2_record, source), 1, 0, NULL},
    {"system", offsetof(r2_record, system), 1, 0, NULL},
    {"prompt", offsetof(r2_record, prompt), 1, 0, NULL},
    {"output", offsetof(r2_record, output), 1, 0, NULL},
    {"answer", offsetof(r2_record, answer), -1, R2_N_ANSWERS - 1, NULL}};

enum { R2__RECORD_KEYS = sizeof r2__record_keys / sizeof *r2__record_keys };

static bool r2__record_is_text(int k) { return r2__record_keys[k].low > r2__record_keys[k].high; }

/* The member of key k: const char * or int64_t. */
static const void *r2__record_at(const r2_record *record, int k) {
    return (const char *)record + r2__record_keys[k].at;
}

void r2_record_line(r2_ctx *ctx, const r2_record *record, r2_text *text) {
    for (int k = 0; k < R2__RECORD_KEYS; ++k) {
        r2_text_addf(ctx, text, "%s\"%s\":", k ? "," : "{", r2__record_keys[k].name);
        if (r2__record_is_text(k)) {
            r2__text_json(ctx, text,
                          r2__slice_text(*(const char *const *)r2__record_at(record, k)));
        } else {
            r2_text_addf(ctx, text, "%lld", (long long)*(const int64_t *)r2__record_at(record, k));
        }
    }
    r2_text_add(ctx, text, "}", 1);
}

r2_status r2_records_add(r2_ctx *ctx, r2_records *records, const r2_record *record) {
    r2_record copy = *record;
    r2_status status = r2__array_reserve(ctx, &records->owner, &records->record, sizeof copy, 1);
    if (status != R2_OK) {
        records->n = 0;
        return status;
    }
    for (int k = 0; k < R2__RECORD_KEYS; ++k) {
        if (!r2__record_is_text(k)) continue;
        const char *text = *(const char *const *)r2__record_at(record, k);
        text = r2__arena_string(ctx, &records->text, text);
        if (!text) return ctx->status;
        memcpy((char *)&copy + r2__record_keys[k].at, &text, sizeof text);
    }
    stbds_arrput(records->record, copy);
    records->n++;
    return R2_OK;
}

r2_status r2_records_write(r2_ctx *ctx, const r2_records *records, const char *path) {
    r2_text text = {NULL, 0, 0, false};
    for (int64_t i = 0; i < records->n; ++i) {
        r2_record_line(ctx, &records->record[i], &text);
        r2_text_add(ctx, &text, "\n", 1);
    }
    return r2__write_text(ctx, path, &text);
}

/* Reads the value of key k; what is not allowed there is told in `expected`. */
static bool r2__record_value(const cJSON *item, int k, r2_record *record, char expected[96]) {
    const struct r2__record_key *key = &r2__record_keys[k];
    const char *text = cJSON_GetStringValue(item);
    int64_t number = 0;
    if (r2__record_is_text(k)) {
        snprintf(expected, 96, "%s", key->one_of ? key->one_of : "a text");
        memcpy((char *)record + key->at, &text, sizeof text);
        return text && (!key->one_of || r2__is_one_of(text, key->one_of));
    }
    snprintf(expected, 96, "a whole number from %lld to %lld", (long long)key->low,
             (long long)key->high);
    if (!r2__json_whole(item, key->low, key->high, &number)) return false;
    memcpy((char *)record + key->at, &number, sizeof number);
    return true;
}

/* Reads the keys of one line: each of the schema once and no other. Strings belong to `line`. */
static r2_status r2__record_parse(r2_ctx *ctx, const r2__lines *lines, const cJSON *line,
                                  r2_record *record) {
    bool seen[R2__RECORD_KEYS] = {false};
    char expected[96];
    for (const cJSON *item = line->child; item; item = item->next) {
        int k = 0;
        while (k < R2__RECORD_KEYS && strcmp(item->string, r2__record_keys[k].name) != 0) ++k;
        snprintf(expected, sizeof expected, "the keys of a record, each once");
        if (k == R2__RECORD_KEYS || seen[k] || !r2__record_value(item, k, record, expected))
            return r2_fail(ctx, R2_FORMAT, "%s:%lld: \"%.40s\": expected %s", lines->path,
                           (long long)lines->number, item->string, expected);
        seen[k] = true;
    }
    for (int k = 0; k < R2__RECORD_KEYS; ++k)
        if (!seen[k])
            return r2_fail(ctx, R2_FORMAT, "%s:%lld: the key \"%s\" is missing", lines->path,
                           (long long)lines->number, r2__record_keys[k].name);
    return R2_OK;
}

static r2_status r2__records_read_line(r2_ctx *ctx, r2_records *records, const r2__lines *lines,
                                       r2__slice text) {
    cJSON *line = NULL;
    r2_record record;
    r2_status status = r2__json_parse(ctx, text, false, &line);
    if (status == R2_FORMAT || (status == R2_OK && !cJSON_IsObject(line)))
        status = r2__bad_line(ctx, lines, "one JSON object", text);
    if (status == R2_OK) status = r2__record_parse(ctx, lines, line, &record);
    if (status == R2_OK) status = r2_records_add(ctx, records, &record);
    cJSON_Delete(line);
    return status;
}

r2_status r2_records_read(r2_ctx *ctx, r2_records *records, const char *path) {
    r2__lines lines;
    r2__slice line = {"", 0};
    r2_status status = r2__lines_open(ctx, &lines, path);
    while (status == R2_OK && line.at) {
        status = r2__lines_next(ctx, &lines, &line);
        if (status == R2_OK && line.at) status = r2__records_read_line(ctx, records, &lines, line);
    }
    r2__lines_close(ctx, &lines);
    return status;
}

void r2_records_free(r2_ctx *ctx, r2_records *records) {
    r2__array_free(ctx, &records->owner, &records->record);
    r2_arena_free(ctx, &records->text);
    memset(records, 0, sizeof *records);
}

/* ---- teaching: a prompt, an output, a check, a record ---- */

static r2_status r2__teach_record(r2_ctx *ctx, const r2_task *task, const char *source,
                                  const char *output, int32_t answer, r2_records *records) {
    const r2_prompt_config *config = task->config;
    r2_record record;
    record.id = task->index;
    record.user = config->data->user_key[task->evidence->user];
    record.item = config->data->item_key[task->evidence->item];
    record.n_history = task->evidence->n_history;
    record.schedule = r2_schedule_name(config->schedule);
    record.step = r2__step(task->evidence);
    record.words = r2_words_name(config->words);
    record.shown = task->prompt->n_shown;
    record.left_out = task->prompt->n_left_out;
    record.source = source;
    record.system = task->prompt->system.data;
    record.prompt = task->prompt->user.data;
    record.output = output;
    record.answer = answer;
    return r2_records_add(ctx, records, &record);
}

/* One task: builds its prompt, asks the teacher, keeps what passes. An unguided output must have
   the right answer too. */
static r2_status r2__teach_one(r2_ctx *ctx, r2_task *task, const r2_teacher *teacher,
                               r2_prompt *prompt, r2_text *output, r2_records *records) {
    int32_t answer = task->evidence->answer;
    if (r2_prompt_build(ctx, task->config, task->evidence, prompt) != R2_OK) return ctx->status;
    if (!teacher->write) return r2__teach_record(ctx, task, "", "", -1, records);
    task->answer = teacher->guided ? answer : -1;
    r2_text_clear(output);
    r2_text_add(ctx, output, "", 0);
    r2_status status = teacher->write(ctx, teacher->write_data, task, output);
    if (status != R2_OK) return status; /* a callback need not have recorded it */
    if (output->failed) return ctx->status;
    task->answer = answer;
    r2_check check = r2_check_output(task, output->data);
    if (teacher->tally) r2_tally_add(teacher->tally, check.verdict, answer);
    if (check.verdict != R2_TRACE_OK) return R2_OK;
    return r2__teach_record(ctx, task, teacher->name, output->data, check.answer, records);
}

r2_status r2_teach(r2_ctx *ctx, const r2_prompt_config *config, const r2_evidence *evidence,
                   int64_t n, int64_t first_id, const r2_teacher *teacher, r2_records *records) {
    r2_prompt prompt;
    r2_text output = {NULL, 0, 0, false};
    r2_status status = R2_OK;
    if (!config->data)
        return r2_fail(ctx, R2_ARGUMENT, "teach: config->data is NULL, which records need");
    memset(&prompt, 0, sizeof prompt);
    for (int64_t q = 0; q < n && status == R2_OK; ++q) {
        r2_task task = {first_id + q, config, &evidence[q], &prompt, -1};
        status = r2__teach_one(ctx, &task, teacher, &prompt, &output, records);
        if (status == R2_OK) status = r2_progress(ctx, "prompts taught", q + 1, n);
    }
    r2_text_free(ctx, &output);
    r2_prompt_free(ctx, &prompt);
    return status;
}

/* ---- prompts explained ---- */

/* A rating as stars, in 8 columns; scales beyond five stars are written as numbers. */
static void r2__explain_stars(r2_ctx *ctx, const r2_data *data, r2_visibility visibility,
                              float rating, r2_text *text) {
    if (visibility == R2_MASKED) {
        r2_text_addf(ctx, text, "%-8s", "[?]");
    } else if (data->rating_max > 5.0f) {
        r2_text_addf(ctx, text, "%-8g", (double)rating);
    } else {
        int full = (int)rating, width = 0;
        bool half = rating - (float)full >= 0.25f;
        for (; width < full; ++width) r2_text_add(ctx, text, "\xE2\x98\x85", 3); /* a star */
        if (half) r2_text_add(ctx, text, "\xC2\xBD", 2), ++width;                /* one half */
        for (; width < 8; ++width) r2_text_add(ctx, text, " ", 1);
    }
}

/* A chain, a line per edge:   chain 1   the user  ****     Title   */
static void r2__explain_chain(r2_ctx *ctx, const r2_task *task, int32_t c, r2_text *text) {
    const r2_data *data = task->config->data;
    const r2_chain *chain = &task->evidence->chain[c].chain;
    for (int32_t edge = 1; edge <= 4; ++edge) {
        r2_visibility visibility = r2__edge_visibility(task->config, task->evidence, c, edge);
        char who[16], number[24];
        r2__edge_person(task->evidence, c, edge, who);
        snprintf(number, sizeof number, "chain %d", (int)c + 1);
        r2_text_addf(ctx, text, "  %-8s e%d  ", edge == 1 ? number : "", (int)edge);
        if (visibility == R2_HIDDEN) {
            r2_text_addf(ctx, text, "(hidden)\n");
            continue;
        }
        r2_text_addf(ctx, text, "%-9s ", who);
        r2__explain_stars(ctx, data, visibility, r2__chain_rating(chain, edge), text);
        r2_text_addf(ctx, text, " %s\n", r2__item_title(data, r2__edge_item(chain, edge)));
    }
}

/* The six visible facts about all chains that weigh most, strongest first. */
static void r2__explain_evidence(r2_ctx *ctx, const r2_task *task, r2_text *text) {
    bool told[R2_FIRST_CHAIN_FIELD] = {false};
    const r2_codebook *codebook = task->config->codebook;
    char name[16];
    r2__asked_person(task->evidence, name);
    for (int n = 0; n < 6 && codebook; ++n) {
        int best = -1, weight = 0, bucket = 0;
        for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f) {
            int b = r2_codebook_bucket(codebook, (r2_field)f, task->evidence->value[f]);
            int w = codebook->weight[f][b];
            if (told[f] ||
                r2__fact_visibility(task->config, task->evidence, (r2_field)f) != R2_SHOWN)
                continue;
            if (best >= 0 && abs(w) <= abs(weight)) continue;
            best = f;
            weight = w;
            bucket = b;
        }
        if (best < 0) return;
        told[best] = true;
        r2_text_addf(ctx, text, "  %+3d  %-7s %2d of %-2d  ", weight, r2_field_name((r2_field)best),
                     bucket, (int)codebook->n_bucket[best] - 1);
        r2__add_phrase(ctx, (r2_field)best, name, r2__step(task->evidence), text);
        r2_text_add(ctx, text, "\n", 1);
    }
}

/* A compact trace, a thought a line: its step, weight and total, the fact and its meaning. The rest
   of an output of another shape follows as it is. */
static void r2__explain_thoughts(r2_ctx *ctx, const r2_task *task, const char *output,
                                 r2_text *text) {
    const r2_codebook *codebook = task->config->codebook;
    const char *at = output, *rest = output;
    r2__slice cited, weight, total;
    char name[16];
    r2__asked_person(task->evidence, name);
    r2__next_word(&at, &cited); /* <think> */
    while (r2__next_word(&at, &cited) && r2__next_word(&at, &weight) &&
           r2__next_word(&at, &total)) {
        r2_field field = (r2_field)0;
        int32_t bucket = 0, number = 0;
        if (!r2__read_fact(codebook, cited, &field, &bucket) ||
            !r2__word_number(total, "=", true, &number))
            break;
        r2_text_addf(ctx, text, "  step %d  %3.*s -> %+3d  %-7s %2d of %-2d  ",
                     (int)r2_field_step(field), (int)weight.len, weight.at, (int)number,
                     r2_field_name(field), (int)bucket, (int)codebook->n_bucket[field] - 1);
        r2__add_phrase(ctx, field, name, r2__step(task->evidence), text);
        r2_text_add(ctx, text, "\n", 1);
        rest = at;
    }
    r2_text_addf(ctx, text, "%s%s\n", rest == output ? "" : " ", rest);
}

r2_status r2_prompt_explain(r2_ctx *ctx, const r2_task *task, const char *output, r2_text *text) {
    const r2_evidence *evidence = task->evidence;
    const r2_prompt_config *config = task->config;
    bool english = config->words == R2_WORDS_ENGLISH;
    if (!config->data || (!config->codebook && output && !english))
        return r2_fail(ctx, R2_ARGUMENT,
                       "explain: data is NULL, or codebook with a compact output");
    r2_text_addf(ctx, text, "user %s, %d items rated; asked for: %s\n",
                 config->data->user_key[evidence->user], (int)evidence->n_history,
                 r2__item_title(config->data, evidence->item));
    r2_text_addf(ctx, text, "schedule %s, step %d of %d; %d chains shown, %d left out\n",
                 r2_schedule_name(config->schedule), (int)r2__step(evidence), R2_STEP_ASK,
                 (int)task->prompt->n_shown, (int)task->prompt->n_left_out);
    for (int32_t c = 0; c < task->prompt->n_shown; ++c) r2__explain_chain(ctx, task, c, text);
    if (config->codebook && (!output || english)) {
        r2_text_addf(ctx, text, "evidence over all chains (weight, level, meaning)\n");
        r2__explain_evidence(ctx, task, text);
    }
    if (output) {
        r2_check check = r2_check_output(task, output);
        r2_text_addf(ctx, text, "reasoning (checked: %s)\n", r2_verdict_name(check.verdict));
        if (english) r2_text_addf(ctx, text, "%s\n", output);
        else r2__explain_thoughts(ctx, task, output, text);
    }
    return text->failed ? ctx->status : R2_OK;
}

/* ---- is the reasoning what decides? ---- */

/* One fact of a prompt put otherwise: weight before and after, and the word it becomes. */
typedef struct r2__fact_change {
    int32_t field, bucket, weight, after;
    bool cited;
} r2__fact_change;

/* The bucket that a change puts in the place of `bucket`. */
static int32_t r2__fact_change_bucket(const r2_codebook *codebook, int32_t field, int32_t bucket,
                                      r2_change change) {
    const int8_t *weight = codebook->weight[field];
    int32_t best = 0, sign = weight[bucket] > 0 ? 1 : -1;
    if (change == R2_CHANGE_REMOVE) return 0;
    for (int32_t b = 1; b < codebook->n_bucket[field]; ++b)
        if (sign * weight[b] < sign * weight[best]) best = b;
    return best;
}

static bool r2__is_cited(const char *output, const r2__fact *fact) {
    r2__slice word;
    while (r2__next_word(&output, &word))
        if (r2__same(word, fact->word)) return true;
    return false;
}

/* Lists the facts of a prompt that a change would give another weight. */
static int32_t r2__fact_changes(const r2_codebook *codebook, const char *prompt, const char *output,
                                r2_change kind, r2__fact_change change[R2_FIRST_CHAIN_FIELD]) {
    r2__fact fact[R2_FIRST_CHAIN_FIELD];
    int32_t n = r2__read_facts(codebook, prompt, fact), m = 0;
    for (int32_t k = 0; k < n; ++k) {
        r2_field field = (r2_field)0;
        r2__fact_change *s = &change[m];
        int32_t from = 0;
        r2__read_fact(codebook, fact[k].word, &field, &from);
        s->field = (int32_t)field;
        s->weight = fact[k].weight;
        s->bucket = r2__fact_change_bucket(codebook, s->field, from, kind);
        s->after = codebook->weight[field][s->bucket];
        s->cited = r2__is_cited(output, &fact[k]);
        m += s->after != s->weight;
    }
    return m;
}

enum { R2__CITED, R2__ALIKE, R2__DRAWN, R2__N_CHANGES };

/* The cited fact of the largest weight, the uncited one whose change is nearest to its, and the
   uncited one that `draw` points at; false when there is none. Ties: the first in the prompt. */
static bool r2__fact_change_choose(const r2__fact_change *change, int32_t n, uint64_t draw,
                                   r2__fact_change chosen[R2__N_CHANGES]) {
    const r2__fact_change *cited = NULL, *alike = NULL, *drawn = NULL;
    int32_t size = 0, n_uncited = 0;
    for (int32_t k = 0; k < n; ++k) {
        if (change[k].cited && (!cited || abs(change[k].weight) > abs(cited->weight)))
            cited = &change[k];
        n_uncited += !change[k].cited;
    }
    if (!cited || n_uncited == 0) return false;
    size = abs(cited->after - cited->weight);
    draw %= (uint64_t)n_uncited;
    for (int32_t k = 0; k < n; ++k) {
        int32_t off = abs(abs(change[k].after - change[k].weight) - size);
        if (change[k].cited) continue;
        if (!alike || off < abs(abs(alike->after - alike->weight) - size)) alike = &change[k];
        if (draw-- == 0) drawn = &change[k];
    }
    chosen[R2__CITED] = *cited;
    chosen[R2__ALIKE] = *alike;
    chosen[R2__DRAWN] = *drawn;
    return true;
}

/* Puts the changed word in the place of its field's word in the tokens of a prompt. */
static void r2__fact_change_apply(const r2_vocab *vocab, const r2__fact_change *change,
                                  int32_t *prompt, int64_t n) {
    const char *name = r2_field_name((r2_field)change->field);
    size_t len = strlen(name);
    char word[40];
    r2__fact_word(word, sizeof word, (r2_field)change->field, change->bucket);
    int32_t id = r2_vocab_find(vocab, word);
    for (int64_t k = 0; k < n; ++k) {
        const char *old = vocab->word[prompt[k]];
        if (strncmp(old, name, len) == 0 && old[len] == ':') prompt[k] = id;
    }
}

/* Thinks about example e; when the trace is well formed, chooses the facts to change. */
static r2_status r2__causal_choose(r2_ctx *ctx, r2_model *model, const r2_examples *ex, int64_t e,
                                   const r2_codebook *codebook, r2_change kind,
                                   r2__fact_change chosen[R2__N_CHANGES], bool *found) {
    r2_text prompt = {NULL, 0, 0, false};
    r2__fact_change change[R2_FIRST_CHAIN_FIELD];
    r2_reasoning own;
    r2_status status = r2_think(ctx, model, ex, e, 1, &own);
    *found = false;
    if (status != R2_OK) return status;
    if (own.check.well_formed) status = r2__prompt_text(ctx, ex, e, &prompt);
    if (status == R2_OK && prompt.len > 0)
        *found = r2__fact_change_choose(
            change, r2__fact_changes(codebook, prompt.data, own.text.data, kind, change),
            r2_hash(0, (uint64_t)e, R2_STREAM_USER), chosen);
    r2_text_free(ctx, &prompt);
    r2_reasoning_free(ctx, &own);
    return status;
}

/* score (1 + R2__N_CHANGES, n): as it is, then with each of the chosen facts changed. */
static void r2__causal_tally(r2_causal *out, const r2__fact_change *chosen, const float *score,
                             int64_t n) {
    double moved[R2__N_CHANGES] = {0}, sum[R2__N_CHANGES] = {0};
    for (int64_t e = 0; e < n; ++e) {
        const r2__fact_change *change = chosen + R2__N_CHANGES * e;
        if (change->weight == change->after) continue; /* not chosen */
        out->n++;
        for (int64_t k = 0; k < R2__N_CHANGES; ++k) {
            double shift = (double)score[(k + 1) * n + e] - (double)score[e];
            if (change[k].after < change[k].weight) shift = -shift;
            moved[k] += shift > 0.0;
            sum[k] += shift;
        }
    }
    if (out->n == 0) return;
    out->cited_moved = moved[R2__CITED] / (double)out->n;
    out->uncited_moved = moved[R2__ALIKE] / (double)out->n;
    out->drawn_moved = moved[R2__DRAWN] / (double)out->n;
    out->cited_shift = sum[R2__CITED] / (double)out->n;
    out->uncited_shift = sum[R2__ALIKE] / (double)out->n;
    out->drawn_shift = sum[R2__DRAWN] / (double)out->n;
}

r2_status r2_counterfactual(r2_ctx *ctx, r2_model *model, const r2_examples *examples,
                            const r2_codebook *codebook, const r2_vocab *vocab, r2_change kind,
                            r2_causal *out) {
    uint64_t n = (uint64_t)examples->n, n_tokens = (uint64_t)examples->prompt_begin[examples->n];
    r2_examples asked = *examples; /* the same, with prompts of its own */
    r2_score_config how = r2_score_config_default();
    r2__fact_change *chosen = (r2__fact_change *)r2_alloc(ctx, R2__N_CHANGES * n, sizeof *chosen);
    float *score = (float *)r2_alloc(ctx, (1 + R2__N_CHANGES) * n, sizeof *score);
    r2_status status = R2_NO_MEMORY;
    how.mode = R2_REASONED;
    memset(out, 0, sizeof *out);
    asked.prompt = (int32_t *)r2_alloc(ctx, n_tokens, sizeof *asked.prompt);
    if (chosen && score && asked.prompt) status = R2_OK;
    for (int64_t e = 0; e < examples->n && status == R2_OK; ++e) {
        r2__fact_change *change = &chosen[R2__N_CHANGES * e];
        bool found;
        status = r2__causal_choose(ctx, model, examples, e, codebook, kind, change, &found);
        if (!found) memset(change, 0, R2__N_CHANGES * sizeof *change); /* not chosen */
    }
    for (int k = -1; k < R2__N_CHANGES && status == R2_OK; ++k) {
        memcpy(asked.prompt, examples->prompt, (size_t)n_tokens * sizeof *asked.prompt);
        for (int64_t e = 0; e < examples->n && k >= 0; ++e)
            if (chosen[R2__N_CHANGES * e].weight != chosen[R2__N_CHANGES * e].after)
                r2__fact_change_apply(vocab, &chosen[R2__N_CHANGES * e + k],
                                      asked.prompt + asked.prompt_begin[e],
                                      asked.prompt_begin[e + 1] - asked.prompt_begin[e]);
        status = r2_score(ctx, model, &asked, &how, score + (k + 1) * examples->n, NULL);
    }
    if (status == R2_OK) r2__causal_tally(out, chosen, score, examples->n);
    r2_release(ctx, chosen);
    r2_release(ctx, score);
    r2_release(ctx, asked.prompt);
    return status;
}

/* ---- Unicode tables: tests/reference/unicode_tables.py writes these lines ---- */
/* Unicode 17.0.0: two files of https://www.unicode.org/Public/17.0.0/ucd, as this script says */
static const char *const r2__unicode_letters[] = {
    "R1J6JQ\?1:1415G1O1^:4<>57111T151224116113111D1RC1T;8U61Q6216Q9R7K44Q=Q;Q321S311\?272:321@11N",
    "MRI;1HQ192415F419131GI7;5H17@Q:QJQF31B17:\?@48222F17113431@1=213>2:186422F17121212O411C3@913",
    "1F17121531B1\?2G1;8222F17121531N213\?1A116331432111232333<F1QD8131G1@31J31222N148131G1:1531N",
    "312\?2A9131Q921@15383H65B3H191127QJQ@12<7QJ211151H111:12912511E4Q01QO81Q4K5SCQ;D1@6443132734",
    "=<1AQ611512Q;1Z=142711142Q9142Q1142711142\?1QI142R3Q5@@RF263c<2A1J5R;687B=C>B>=13\?QDQ3141R3",
    "RI752Q2115R6:OQAN25;Q<4JQFG9QERB1RMQ\?A8QFN=2:Q<JQ4Q93:Q42;5Q;23Q941612315V0R0XF262Q62628111",
    "1111O2QE1711331734264=5317SD1=1@=S51412:1135611111141;245541QD2RcKW56432<Q611512QH71@G971717",
    "1717171717R@1^E2Q:5524RF631RJ145Q;1RNAQ0Q@@`0V^0R0ed=R3Q>2X=3@:2DQ\?@O2R6QA92S72RBDA13141GM",
    "QD>QBQN63112;L:GIM7Q\?L1@51::51Q9G318DG313QB1132252111H32;73<6262697171Q;1>6SCMZm4<G4QAXX4[>",
    "2S:Q67<5511:1=151112121S<Q1[;BR02QFQ8<SD51T7Q4J6J;RI36262623Q3<1J1C121\?2>Q2SK\\5M3QAQ\?Q0=D",
    "186Q6:N2Q448Q@TNBQ44Q44Q88QD<;1\?17121;1\?17123QD<YG9F:8H61Q:19R56211Q<12312G:G9OR1C12:F:J6J",
    "Q6QH62R01\?4131MQ:M3MQ381LKQF:F:C=BS>R9QGQC=QC=Q4Q6L9GWJQ:62@6QHM:18FQ:BQ>EKG<QEQI221=Q=Q0IJ",
    "Q4M1218Q331<Q@>4E111Q3B1IC2QO711141\?1:7Q\?Q68222F17121531B1<5N:11211Q611I111Q<QEB4D3NQ@D211",
    "UHQ\?Q94Q4Q@D1QKQ;=1R7KQ57UIQ<SDR0O82128121H\?111RN82Q7@111L1:Q871E1;Q>C1BR9V7Q1O91Q5A1QANS@",
    "7121Q6E1I6121Q0>1GQ<X4C\?11=1Q2SL1R\?lJW6V4Rb<S1\?QQ@A6ISlK5b7VeINQg2aI7OAR\?ANBQ@@4OE5C]@Q=",
    "VCR0Q0I2IQ<R;51R2=R0211>2<WVFQ9Q0S1SCX_M417121Y3\?1M321>48\\<RX4S;5=397:Uk6RE1R7122122241<11",
    "171R11428171L141511371ZD2I1I1O1I1O1I1O1I1O1I18QiDO66X5QNTBQ=:7@1Z1NBQ<_4LW4N21V\?O1312172592",
    "W0714121\?1V5QKR471QUD41K1211211:141111614111111312112111111111121124171414111:1A53151ATZ4",
    "QYg0Q0TXN2Ud>2WYA\?c>R]2`NQ_2Tj;5XY:",
    NULL};

static const char *const r2__unicode_numbers[] = {
    "Q@:SH25123Q]1:T6:V6:\\L:SF:46S<:SF:SF:26S>=SC:87S7:S877CS=:S0:SF:R6DX<:R6:f\?DkA3W\?:6:F:Y<:",
    "T0;U5:6:UF:RF:T6:6:QPF1366:V6QC25fFQLR>FcFNQ[91h91I9>3ZG4T::N81\?Q0:Q7\?lk0:UL:Z06TJ:Q6:V6:F",
    ":RF:\\F:dhF:_=Q=<QIA2ZEKQ44M181T65V::m>8I7Q79R;5F6U022@2Q>R09QD2N3R;5S88H8Q97Z:6Q@:6:XFOTN:",
    "Q:4S@7T6NT0:QL:T@:7DWK:ZF:SF:[F:S6:6DR<<]4CRM:dF:RFMW3:R6:QF:[6:S6EQQ;S\?_V1:RY6:RF:T6:17`>:",
    "X6GZM3gWI:Q^6D<DS<IQREQBRZ0:]6:_F:WG:f<9T0:hGQK1314R<Q=1\?n2=Rg3:",
    NULL};

static const char *const r2__unicode_combining[] = {
    "h0EW601W804VL01W801VH05VL02V:04VL02V:0;VL05104VL08W601W@01W603VL03W602VL13W604VL01W601W802VL",
    "01W601W902W:01W902W:01W90=W6XC5W6X91VL04W601VL03W601VN01VL06W606VL02W601VL02W601VN01W401W601",
    ":01;01<01=01>01\?01@01A01B02C01D01E01F11G11H01I11W601VL11BR88W601N01O01Q0Q@1K01L01M01N01O01",
    "Q001Q101Q202W602VL05W601VL02W601VL@1Q3S57W624W601VL01W622W611VL02W601VLQ31Q4N1W601VL02W601VL",
    "02W603VL01W602VL01W601VL03W601VL01W601VL01W601VL01W601VL02W6U07W601VL01W691VLH4W619W613W615",
    "W6Q;3VLQK2W603VL04W6Q:5W605VL0>W611VL02W601VL02W601VL03W603VL01K01L01M03W601VL02W602VL05W6QL",
    "17@1931W601VL02W6S717@19Q@1W6QM17@19S>17@19S>17@19SO19S>17@1971RD01RKS517@19S=29@19SL19S=2S7",
    "019=4S;S<2SF019=4SJR<2VLK1VL11VL11VHQG1T101T211T454T221T212W601912W6QN1VLS@17129RB1VLf\?3W6",
    "mD29N19TM19:1W6V;1W4T\?1VN01W601VLVK1W601VLR719D8W621VLQ@5W606VL02W601VL12VL02W602VL05W601VL",
    "0BW601VL26W601VL04W601W:R817\?19Q61W601VL07W6QF29QJ17;29R317TH3W611105VL02W604VL01W617141VL6",
    "1W632W6V62W601VL07W601VL02W601W:01VF01VL01V:0Q5W601W802W401VL01VJ01W601W901VL01W601VLf@2W602",
    "104W603102W641W632101W601VL01W602104VL01W6RoN3W6T=19S0Q0W6a:1VJ01W401W801VN02W0S928m^D1W64:",
    "W6Q02W6R@2W6XD19Q519TG19KBW6QI3VLQ519RO17<19W\?1W612W601VL22W652W611W6QD19WF19ci@1Jh17W607VL",
    "02W6n=1VLW21VLTE5W6QdB1VL11W6Q81W601101VL419U51W601VLaM4W6R15W6YM2W6R=2VL13VLR62VL03W601VL01",
    "W604VLQA1W601VL01W601VLV019Q919>19QI19017R53W6Q@29QN17R<19917S:19017UB17019R@27@19H7W635W6RI",
    "39SA19317G1W6S319017WK19017SN19SF19017SC19X=19017X229417TL19RC19B19RA19]519X217129RA19]929",
    "`_<19R^051QK7W6QUI26cU<11UV62VH03131W205VH88VL25W602VLN4W6TD3W6S]K7W61AW627W612W615W6S41W6U0",
    "7W6[G1W6QM4W6_L2W801VL01W6WN1W601VLWC1W621W672W651W6^J7VLS=6W6017",
    NULL};

static const char *const r2__unicode_composing[] = {
    "\\1T2Q`030230230230:30454QJ34R=30230230<38\?30230230<5:932530230230230:7<\?30230230<38=7@130",
    "230230230:30454QJ34R=30230230<38\?30230230<5:932530230230230:7<\?30230230<38=50>3S\?72R03QO4",
    "2R03QOR42R03QKR=2R03QO22R03QO:2R03QO:2R02QM2R07QM\?2R03QO42R03QO22R03QOR22R03QOQG2R03QKC2R03",
    "QO82R03QO22R03QOR02R03QMR92R07QM22R03QO22R03QO42R03QOR42R03QOR19292R03QMR:2R05QMR;2R03QOR<2",
    "R03QOQE2R0;QKE2R03QOR<2R03QOQE2R09QM\?2R03QO42R03QO:2R07QIC2R03QOR<2R03QOQE2R03QME2R03QO22R0",
    "3QOR:2R03QOQE2R03QMQF2R03QOQE2R07QMA2R03QO22R03QO42R03QO82R03QO22R03QOQJ2R03QKR;2R02QK2R03QO",
    "<32=2R03QO<2R03QO:2R0R5REN2R0LQC2R0QKS7M2R02Q\?2R02QC2R02QC2R03V>\?2R03QO52R03QOF2R03QOG2R05",
    "S\?82R02d4222f12R07YM@2R02QG2R03QGQH2R03gFR7223S7@2]F2QR\?9R5E2R07QA12R03U>22R02QM2R02K2R03",
    "[=L2R03QO42R03QG32R03QO42R03QG32R03QO42R03QC32R03QO42R03QI32R03QO42R03QI32R03QO42R03R3Q:2R02",
    "QM2R07RGQC2R0\?R=92R03QGR02R03W2R52R02R12R03Z;62R03kN5222m;2R0e5RN52Q^B4824244<4<282R2QES1>2",
    "H3H=2824242Q4QEQ3>2H3;=2<28:B30>RIT6\?30@53=9I>;Q8=3313F<FER0R0Q\?5;30@53=9R6>;QG=3313F<QAS2",
    "B22TEUMA2R0LR;2R03QO42R07QE32R07Z64222\\52R02QM2R07QM72R03QO82R02QC2R06ZD222[G2R03RC72R03QO8",
    "2R03QO62R03QG52R06QG2R0bCmHQdF3022R23R123R61YDXF4Q7Q2Q2QU=QU<Q^@@@66Y\?Y8X430QBgIh0gN70Q\?30",
    "QBTATFX0S=S8QA2231QBWIX0WNWAWBWN>>30250Q738Q6WOWHVB2231QBXMY6W650:36935Q:QTAQTHQTNU^1U^0U`>4",
    "444444488RBRB44642246Q[K]`1\\PO2R03QMQK2R03QOQH2R03QOL2R03V:RO2R03Z5<2R03QOQH2R03QOL2R03QOC2",
    "R03QO<2R03ZLRI22312223\\KRH2R03QO62R03l6RC223n522R03QM52R03QM62R03QOQH2R03QOQE2R03QOQN2R03QO",
    ">2R03QM42R03V<RM2R02Z72R03QOR42R03QOL2R03QMK2R03^lDQM223^nERJ2R03QO72R03QMRG2R03QO<2R03QOQH2",
    "R03QMQG2R03QOQH2R03QOL2R03QO72R03V>RG2R03QO>2R03U>\?22312222_I2R03QO<2R02QK2R03QOQH2R03^n@QM",
    "223_PARJ2R03QMRC2R03QOQH2R03^>QG222:222^`2222_PM2R03QOQH2R03QOL2R03QO72R03QMA2R03QOH2R03QO52",
    "R03_6RG2232>223a992R03QOR02R03QMR52R03QO22R03QO>2R03QO12R03QOQH2R03QMQG2R03QO22R03QM12R03QM9",
    "2R03QOR22R03QOL2R02Q33HRA364245`<5;cKQH2R03QOQC2R03V2\?2R03QO12R03QOB2R03QO;2R03^kL1223^iM12",
    "23112231B2231;223^iJ6223_UGQJ2R03QOQC2R03QO;2R03V:32R03QO12R03QOB2R03QO;2R03^lL1223_VO>2R03",
    "QOQD2R02QC2R03QOQC2R03V:\?2R03QO12R03QOB2R03QO;2R03^m@1223^bI1223112231B2231;2231R0222dG2R03",
    "QOQC2R03cD\?223112231B2231;2231R0223e=R52R03QOR62R03QOQC2R03QO;2R0\?Qc@Q03023]dNQ7223122231",
    "T2223]fORM3023]g>Q7223122231T2223]e7RM3023]eFQ722312227]gGQ43023]h6Q722312227]f3Q43023]fBQ72",
    "23122231T2223]hCRM3023]i2Q7223122231T2223]fORM3023]g>Q7223122231T2223]i\?RM3023]iNQ722312223",
    "1T2223]gCRM3023]h2Q722312227]j3Q43023]jBQ722312227]h7Q43023]hFQ7223122231T2225]jGRK5]k8Q7502",
    "50T23]hORM3023]i>Q7223122231T2223]k\?RM3023]kNQ7223122231T2223]k\?T34844444<4<489]c>T:222222",
    "2222222222222222222222222Q22222222222222222222222222222222S22222222222222222222222222222223",
    "]kKSM3033]kNT22]kM295:53^P:63^R9SM30330750T:;Q^A53_\\H62]kI2A5B53^PN63^S1T94450T:3^R@T930230",
    "T23^P;SG3033Q279Q1T42Q23S1SG3033076^V:30230T23^SASG3033<75CQ630238RL2<3R;SG30330757Q83Q_AQ7;",
    "_]8T:2]k52:5953^RJ63^U=T94D50T:iM^n>I24Q64QNSH2823S:S2::66Q@Q@44QFQ>6>6446Q>aPE4aR8FQ72aQ124",
    "2aR<226J226622>6226>226622R6QF2<2224S2RM222Q822>R0222222VeOVi<ff2444444444444444444444466444",
    "4>>302561302561302561302561302Q\?S91DU>LL4444444444444444444444664444>>302561302561302561302",
    "561302Q\?S916TB2222228FSZ\\GSZ]:fi3QF@U[=U[NTVk644NDX7XHVJ22QQIQQ:QQ>30QBS\?SFW454KC>>7:>S9",
    "S4=50C30Q2_7_>_230C50J_I_N_422QgKQgHQh2QSnCQSnBQSnL30F30C2F3E236122312VT1VT<VT>272<",
    NULL};

static const char *const r2__unicode_decomposing[] = {
    "Qd0Q`0224Q43EQ`2S1TMQ`1DQWKBWHRm3TULTcH22222:2:222B28WKW4X0224JU9X6X06<R6R3222:6N_M_<`022Qn=",
    "RR0RWFDD::::::KQE3ES2T55043T2H42BT3Q5R2S>DD::::::KQE3WkAUn7Wk94242424QJ4242SLT\?6S6FS142@>@;",
    "@R<@R36A2Qb9DQbH464Q]E6_dL22b:^UC8QeK2WDoLgd622Sk5RbGQc@SWR9Q`fFQc\?2be72cm<2QP32^o=2`YM2Rk6",
    "2QUk>202QSTE2lX02nTC2Ql22TZL2ZW62TaH2S[D2gF2cL2Si>2cXI2QaB2QkL2Q`:2XUN2VbJ2TX>2QUfM2R_62[hN2",
    "Sa>2ZQ42[o22QP\\K2YYF2Zn42Qi>2cYE2_`N2ST>2de92TTJ2SU62Ri42^m42QPd\?2QS22b>2Xn<2SPN2ScJ2R]>2",
    "TaD2SP:2U<2Si62Td62RSJ2QXF2bfK2_62RR22SRB2WcF2UgF2YjA2ho=2SR:2^eH2RQL2WQG2SV@2Yo@2US:2oQM2",
    "QhD2Vk22Ql>2c:2WR02`@2\\Q82QQgA2fkB2gZM2O2dU02Qj42SS62YX82U_92d[12Sc62`_H2n\\92VjL2RRF2Yg:2",
    "nB2aUA2bn82dcG2WnD2XiG2_[N2Se72[jD2deM2RYF2_Z62Vd@2SV22_^O2ao<2ab\?2ThC2_n>2_d92Xl:2c[=2Q[F2",
    "V02[[@2ZV<2Rh@2TV62S_J2o]C2dJ2Rc22RgB2S]B2USB2TbH2^X62R[J2RRJ2S>2QVS52ZRF2R[22anF2h^K2QaH2W0",
    "2QYD2UXB2QR<2Qd02Rd22RRD2QWF2W[>2US\?2Uc:2Qb>2QPc52XH2QQD2^PF2[oD2n@2en12bH2Qh<2TS62XY02T\\A",
    "2bY12TQ:2R^L2m62QV42Yi<2[>2Uc22ZH2XnL2R\\42U42]02QTXI2eR62\\P<2R`82jm=2YUE2QU82Ua82U22TeD2",
    "RVB2SlH2RW82W[D2Uh02Wa22l`92gj<2QQj92Z_42W@2RdL2eF2RfJ2e02Qa42RZ:2]dL2QS_12X\\22jTD2QSTI2V^L",
    "2X]22`d02giM2kB2S]62Ug02a_N2QRUI2n<2TU<2TjL2cF2eD2RSJ2Sb22mH2Ti>2Te<2Q42T^F2Ra<2QQj52]gF2]YI",
    "2^k62Q\\@2Xf42XZB2Rk82QT@2k`\?2SS82ZQJ2SaI2U:2g42Tm32QR=2][N2nY\?2jW<2h_G2S52VYN2RRJ2]P62`e1",
    "2XiB2SVC2dX>2S^M2WP22V\\32e[\?2Vi52RX06QYD4WQD6ZY;2`dH2Qj02QW42R42>2RD2^l>2]Y\?2Q_N4SU:4R^<6",
    "Rd02\\:8So42J2RH2RXH2V];2RmB2QS`A2cB2V<2gH2QF2VJ2QTH2VB2V42m@2V@2QkH2D2RR<2]82R<2V82QeJ2Y62",
    "ZN2o82R_42Z62`@2QTH2[J2o>2RVN2ZJ2F212@2<2>2S0222[42T22cN2QS82Q:2S@2c22Y62n@2XH202mL2R[B2X<2",
    "fF2S@2iD2S:2QZL2X42SZF2aH2SH2kl;2WaWB2WP];6io32QhN2TI2n\?2l:2SF2d>2S62QZ62T\?2T82TB2QW@2UB2",
    "Y22Q02`L2\\<2QjD2>2Y02T82bF2W<2T;2X<2RK2Y42T42i02U@2S<2`82aL2Z6282SF2RR62T22h>2iD2O2U>2_H2e0",
    "2SSB2Rg32WD2WF2d>2Y:2S:2^4242ZF2Q22QB2U<2C2hH2n:2`N2[F2^02YB2dD2\\>2QdJ2YJ2QhD2l@2T:2Q02bB2",
    "SB2RI2S<252Q12TH2U22gL2QS02cD2b>2]J2RP<2V>2W62X:2R82H2S02Q]>2RXD2VTZL2;2Ui22WlS\?2RWF2R22",
    "XYQ02UX>2aP62W_hO2TFT9R\\k9Rk85QB6GAD3023Sjf013023SjgAE3023082222222222224422222222444422442",
    "244222222223Q9537<2D2BS[Q1WUg6WUj<223>B302302302302U\?UDI2232B2231222TcT1VQgMWXfM292B2Vi^22",
    "Vhl32TL2J2T>2W@2QN2TL2Q\?2^S12WXiH2Vj^I2>2Q02Q62Vij:2WXV52^ZL2R<2VikL2Vik72J2Q]\?2Q^02B2YPRD",
    "2XonC2L2^b72^eH2F2RH2:2^f32^k4242QF2Q<2F222Q22S42@2B2QB2D2420202VkZJ2V\\kG2^Z;2Q:2Vkh82Vkg\?",
    "2<2Q:2Y@2V;2Q02R02SD2U82QD2T62Q02R2202Q:2Q42@2N2e82`O2a22\\;2R62RVI2S^>2aO2R<2QB2X32Z>212WF2",
    "VnS@2Vmo32:2N2Q82@2T02Vnd<2T42Vn_K2RN2H2TM2XL2ag\?2L2bPH2S<202VoXD2VoP92Q:2N2H2Vob:2VoaA2>2",
    "QdJ2Qc12bZ12b]N2L2U42S52WPe>2WPZ12WPZ62WPW\?252Q22V:222bk52blL2RF2Q:2RH2cP=2Wdb22Wd`=2cS8262",
    "62Q82YR\\@2YRY72WRS6202V`bO2a]M202cUE2Wlo22gb42XQW\?2B2cX\?2c[>2S62D2R42X@2cd=2QK2cg@2WST02",
    "WSPI2X22824232RL2Q82R82K2F2RN2Q8282QD2F2T42U82R62WH2WSkH2WSlM2T12VH2QF2V22WTPJ2WSlM2UI2QG2",
    "dgE2eSF2Q:2QN2R;2ePE2e^62QJ2WUYL2WUR=2a:2ZM2ebO2eg@2ehA2R72[ZL262ZfF2V72]Q22n]72acL282<2SJ2E",
    "2WVW02WlWC2f[22W92\\J2S62WUn@2WUmM2VM2_:2fg=2fj:2V22T>2[L2WUoF2WUl\?2g\\52g`B2WVh<2WVe52g`;2",
    "gb82RJ2QF222WW]42^h32^nN2WWZG2WXVL2WWoI2L2V;2ZN2R@2SB2S;2R@2N2J2WWiB2WWnC2_F2SN2hcE2hi@272",
    "WXPD2WX]\?2g:2WWo02S02WWl\?2W62QE252iX92i[82S62;2S<2VZW@2VYmO2WXaL2WX\\=2WYPN2WXh52J2QF2WYk@",
    "2WYh\?2Q:2WZZ02]N2WZYC2Q22j]M2j_B2j^I202jhN2Q:2Q:2Q82T:2jjM2kPB2W[a42W[_\?2W[e82W[b32VfRN2",
    "VehM2W\\i22Q>2XH2XXT\?2H2k^H2W\\oN212R>2QD2W]Q922202RF2ka12ke42kd92U02XYh>2W]lM2SL2T02knA2",
    "XZd62W^\\O2W^d82RF2W^c;2UH2l[G2la22D2:2W_bJ2bF202W_kA2l^G2X\\jB2W_n9262lj32X]UB2W_jK2mS32mT@",
    "292QJ2WaX<2WaR52mV32m\\<2SF2T62ma12X__82QN2X_^K2X_h02WaeM2Wal82WajA2V:2F2Wb]:2TB2Wb\\52Wbd@2",
    "Wbc\?2Vi^N2WghC2n]J2U22n_\?2nc62cXA2XV_42L2jR32B2VhiE262ViD2QUc52oR<2;2Q42gnC2goL242D2RB2",
    "WdU<2WdU=2S@2T<2TD2XC2YD2RD2W02`72W>242Q02WdUD2c:2Y;2XcjC2ol<242R62Wg[82WgV;2Wdl@2XdlM282",
    "XeU02b22Xef=2QP^:2H2F242T02R12X<2RG2Y>2U12T62QF2QPjM2QQPD2R02QQP\?2QQV>262WgP82WfhO2>2QQZA2",
    "QQ\\:2QZSM2YQo62[@2XiZ\?2B2QQmB2TJ2YJ2\\F2WhU62WgoI2Q<2UD2UH2Whk@2QkbE2UmSA2M2S82Um^L2UmPC2",
    "V82WkYD2QF2WjeA2UJ2R02WkQJ2WkQ52aJ2YN222UG2gJ2QH2Wkn:2WkVM2QUo;2QVR42Wkl02YQi12QV]J2la12lg22",
    "WmR42]:2YSjG2@2QVfD2WnRD2YTe\?2YTn82WnXE202QL2WnhJ2Wn]72QVjM2QVo<2WL2QF2SH2QWRO2YWf42XPQK2bL",
    "2[J2QXRM2QN2QXWD2XQf>2YYm;2YZPJ2`B2X62XQm;2QXf92QXj62:2>2D2>2R:2XS\\:",
    NULL};

/* ---- end of the Unicode tables ---- */

static const char *const *r2__unicode_table(r2__unicode_set set) {
    static const char *const *const table[] = {r2__unicode_letters, r2__unicode_numbers,
                                               r2__unicode_combining, r2__unicode_composing,
                                               r2__unicode_decomposing};
    return table[set];
}

/* ==================================================================== [E9] scale and teams ====
   In:   work in many pieces: chains, questions, examples, a batch; processes that make the same
         calls, each with its share of the pieces.
   Out:  all results for each of them, the same bytes for any number of threads and processes; or
         one error for all.

       n things, 3 processes    | 0 1 | 2 3 4 | 5 6 7 |    8 parts of a batch: process 1 has 2 .. 4
       gather                   every process gets the things of the others, byte by byte

   Nothing is summed on the way: gradients of parts are gathered, then added in the order of the
   parts by everybody (r2_backward). Before any bytes move, all tell whether they have failed: so a
   process that comes with a failure from elsewhere (r2_team_end) meets the others there, and nobody
   waits for it. (test_team.c: the_shares_of_the_opening) */

static bool r2__is_first(const r2_ctx *ctx) { return !ctx->team || ctx->team->rank == 0; }

/* Whether there are other processes that share the work. */
static bool r2__is_shared(const r2_ctx *ctx) { return ctx->team && ctx->team->size > 1; }

/* What this process computes of n things. A single thing is computed by all. */
static r2__range r2__team_share(const r2_ctx *ctx, int64_t n) {
    const r2_team *team = ctx->team;
    return team && n > 1 ? r2__share(n, 1, team->rank, team->size) : r2__share(n, 1, 0, 1);
}

/* Gives all to all; bytes begin[r] .. begin[r + 1] - 1 are those of process r. */
static r2_status r2__team_exchange(r2_ctx *ctx, void *data, const int64_t *begin) {
    r2_team *team = ctx->team;
    if (team->gather(team->hook_data, data, begin)) return R2_OK;
    team->ended = R2_IO;
    return r2_fail(ctx, R2_IO, "team: process %d of %d has lost another", team->rank, team->size);
}

/* The first failure of any process, with its sentence. It ends the team: nobody is left to wait. */
static r2_status r2__team_agree(r2_ctx *ctx, r2_status status) {
    r2_team *team = ctx->team;
    int32_t said[R2_MOST_RANKS];
    int64_t begin[R2_MOST_RANKS + 1];
    int bad = 0;
    if (team->ended != R2_OK) return status != R2_OK ? status : team->ended;
    for (int r = 0; r <= team->size; ++r) begin[r] = r * (int64_t)sizeof *said;
    said[team->rank] = (int32_t)status;
    if (r2__team_exchange(ctx, said, begin) != R2_OK) return ctx->status;
    while (bad < team->size && said[bad] == R2_OK) ++bad;
    if (bad == team->size) return R2_OK;
    for (int r = 0; r <= team->size; ++r) begin[r] = r > bad ? (int64_t)sizeof ctx->message : 0;
    if (r2__team_exchange(ctx, ctx->message, begin) != R2_OK) return ctx->status;
    return team->ended = ctx->status = (r2_status)said[bad];
}

/* Thing k of n is elements begin[k] .. begin[k + 1] - 1 of data (begin NULL: element k), `size`
   bytes each. Every process has computed its share, or failed with `status`. */
static r2_status r2__team_gather(r2_ctx *ctx, r2_status status, void *data, int64_t n,
                                 const int64_t *begin, uint64_t size) {
    const r2_team *team = ctx->team;
    int64_t byte[R2_MOST_RANKS + 1];
    if (!r2__is_shared(ctx) || (n < 2 && status == R2_OK)) return status;
    status = r2__team_agree(ctx, status);
    if (status != R2_OK) return status;
    for (int r = 0; r <= team->size; ++r) {
        const int64_t k = r < team->size ? r2__share(n, 1, r, team->size).begin : n;
        byte[r] = (begin ? begin[k] : k) * (int64_t)size;
    }
    return r2__team_exchange(ctx, data, byte);
}

/* Gives all what process 0 has in `bytes`. */
static r2_status r2__team_tell(r2_ctx *ctx, r2_status status, void *bytes, size_t size) {
    const r2_team *team = ctx->team;
    int64_t byte[R2_MOST_RANKS + 1];
    if (!r2__is_shared(ctx)) return status;
    status = r2__team_agree(ctx, status);
    if (status != R2_OK) return status;
    for (int r = 0; r <= team->size; ++r) byte[r] = r > 0 ? (int64_t)size : 0;
    return r2__team_exchange(ctx, bytes, byte);
}

r2_status r2_team_end(r2_ctx *ctx, r2_status status) {
    return r2__is_shared(ctx) ? r2__team_agree(ctx, status) : status;
}

/* ---- evidence of many questions ---- */

static bool r2__same_view(const r2_index *index, const r2_question *a, const r2_question *b) {
    r2__hidden x, y;
    if (a->user != b->user || a->n_history != b->n_history) return false;
    x = r2__without_target(index, a);
    y = r2__without_target(index, b);
    return x.left_out == y.left_out && x.n_places == y.n_places && x.place[0] == y.place[0] &&
           x.place[1] == y.place[1];
}

/* What a call of r2_evidence_compute computes. */
typedef struct r2__asked {
    const r2_index *index;
    const r2_question *question;
    const r2_chain_config *chains;
    r2_evidence *evidence;
    int64_t *first, n_views; /* questions first[v] .. first[v + 1] - 1 share view v */
} r2__asked;

/* What a thread works with, block after block. */
typedef struct r2__desk {
    r2__user_view view[R2__WALKS];
    r2_arena memory; /* of `deep` */
} r2__desk;

/* The evidence of the questions of n_lanes views, from view v on; false: no memory. */
static bool r2__evidence_of_views(r2_ctx *ctx, const r2__asked *asked, r2__desk *desk, int64_t v,
                                  int n_lanes) {
    const int64_t *first = asked->first + v;
    r2__user_view *view = desk->view;
    bool fine = true;
    for (int j = 0; j < n_lanes && fine; ++j)
        fine = r2__view_init(ctx, &view[j], asked->index, &asked->question[first[j]]);
    fine = fine && r2__solve_deep(ctx, &desk->memory, view, n_lanes);
    for (int j = 0; j < n_lanes; ++j)
        for (int64_t q = first[j]; q < first[j + 1] && fine; ++q)
            fine = r2__evidence_of(ctx, &view[j], &asked->question[q], asked->chains,
                                   &asked->evidence[q]);
    return fine;
}

static r2_status r2__asked_start(r2_ctx *ctx, r2__asked *asked, int64_t n) {
    r2_status status = r2__check_chain_config(ctx, asked->chains);
    if (status == R2_OK && asked->chains->k > R2_MAX_CHAINS)
        return r2_fail(ctx, R2_ARGUMENT, "chains: k = %lld, expected at most %d in a prompt",
                       (long long)asked->chains->k, R2_MAX_CHAINS);
    for (int64_t q = 0; q < n && status == R2_OK; ++q) {
        const r2_question *question = &asked->question[q];
        status = r2__check_question(ctx, asked->index->graph, question, false);
        if (status == R2_OK && (q == 0 || !r2__same_view(asked->index, question, question - 1)))
            asked->first[asked->n_views++] = q;
    }
    asked->first[asked->n_views] = n;
    return status;
}

/* Blocks of views, as many at a time as lie between two reports of progress. */
static r2_status r2__evidence_of_blocks(r2_ctx *ctx, const r2__asked *asked, r2__desk *desk,
                                        int threads) {
    /* as many lanes as leave work for every thread */
    const int64_t share = (asked->n_views + threads - 1) / threads;
    const int64_t lanes = share < R2__WALKS ? share : R2__WALKS, round = lanes * threads * 16;
    r2_status status = R2_OK;
    for (int64_t done = 0; done < asked->n_views && status == R2_OK; done += round) {
        const int64_t end = done + round < asked->n_views ? done + round : asked->n_views;
        const int64_t n_blocks = (end - done + lanes - 1) / lanes;
        int64_t n_failed = 0;
        R2_PARALLEL_PIECES(threads, b, n_blocks) {
            r2_ctx own = *ctx; /* a context serves one thread at a time */
            const int64_t v = done + b * lanes, left = end - v;
            if (!r2__evidence_of_views(&own, asked, &desk[r2_thread()], v,
                                       (int)(left < lanes ? left : lanes)))
                asked->evidence[asked->first[v]].n_chains = -1;
        }
        for (int64_t r = done; r < end; ++r)
            n_failed += asked->evidence[asked->first[r]].n_chains < 0;
        if (n_failed) return r2_fail(ctx, R2_NO_MEMORY, "evidence: out of memory");
        status = r2_progress(ctx, "evidence", asked->first[end], asked->first[asked->n_views]);
    }
    return status;
}

static r2_status r2__evidence_share(r2_ctx *ctx, const r2_index *index, const r2_question *question,
                                    int64_t n, const r2_chain_config *chains,
                                    r2_evidence *evidence) {
    r2__asked asked = {index, question, chains, evidence, NULL, 0};
    const int threads = r2_threads(ctx, n * 1000);
    r2__desk *desk = (r2__desk *)r2_alloc(ctx, (uint64_t)threads, sizeof *desk);
    r2_status status = R2_NO_MEMORY;
    asked.first = (int64_t *)r2_alloc(ctx, (uint64_t)n + 1, sizeof *asked.first);
    if (desk && asked.first) status = r2__asked_start(ctx, &asked, n);
    if (status == R2_OK) status = r2__evidence_of_blocks(ctx, &asked, desk, threads);
    for (int t = 0; t < threads && desk; ++t) {
        for (int j = 0; j < R2__WALKS; ++j) r2_arena_free(ctx, &desk[t].view[j].h.memory);
        r2_arena_free(ctx, &desk[t].memory);
    }
    r2_release(ctx, desk);
    r2_release(ctx, asked.first);
    return status;
}

r2_status r2_evidence_compute(r2_ctx *ctx, const r2_index *index, const r2_question *question,
                              int64_t n, const r2_chain_config *chains, r2_evidence *evidence) {
    const r2__range own = r2__team_share(ctx, n);
    const r2_status status = r2__evidence_share(ctx, index, question + own.begin,
                                                own.end - own.begin, chains, evidence + own.begin);
    return r2__team_gather(ctx, status, evidence, n, NULL, sizeof *evidence);
}

/* ---- what u0 shares with everybody ---- */

/* Lists the paths to everybody. Count, then place: path_begin[u + 1] is the cursor of u while
   placing, which leaves it at the end of u, the beginning of u + 1. */
static bool r2__history_list(r2_ctx *ctx, r2__history *h) {
    const r2_graph *g = h->index->graph;
    const uint64_t n_users = (uint64_t)g->n_users;
    int64_t *begin = R2__ARENA_NEW(ctx, &h->memory, int64_t, n_users + 2);
    if (!begin) return false;
    for (int pass = 0; pass < 2; ++pass) {
        for (int32_t p = 0; p < h->length; ++p) {
            uint32_t i0 = g->user_item[r2__history_edge(h, p)];
            for (int64_t k = g->item_begin[i0]; k < g->item_begin[i0 + 1]; ++k) {
                const uint32_t u1 = g->item_user[k], e = g->item_edge[k];
                if (u1 == h->user || u1 == h->hidden.left_out) continue;
                if (pass == 0) {
                    begin[u1 + 2]++;
                } else {
                    const r2__path path = {p, h->index->position[e], (int64_t)e};
                    h->path[begin[u1 + 1]++] = path;
                }
            }
        }
        if (pass == 1) break;
        for (uint64_t u = 2; u <= n_users + 1; ++u) begin[u] += begin[u - 1];
        h->path = (r2__path *)r2__arena_take(ctx, &h->memory, (uint64_t)begin[n_users + 1],
                                             sizeof *h->path);
        if (!h->path) return false;
    }
    h->path_begin = begin;
    return true;
}

/* ---- uniform chains without a list of them ---- */

/* Places of u0 and of the person left out among the users of an item, ascending; their number. */
static int64_t r2__hidden_users(const r2__history *h, const uint32_t *users, int64_t n,
                                uint32_t place[2]) {
    const uint32_t a = h->user, b = h->hidden.left_out;
    const uint32_t who[2] = {a < b ? a : b, a < b ? b : a};
    int64_t n_hidden = 0;
    for (int j = 0; j < 2; ++j) {
        const int64_t at = r2__find(users, 0, n, who[j]);
        if (at >= 0) place[n_hidden++] = (uint32_t)at;
    }
    return n_hidden;
}

static bool r2__was_chosen(const r2__chosen *chosen, int64_t n, uint32_t u1, int32_t place) {
    for (int64_t k = 0; k < n; ++k)
        if (chosen[k].u1 == u1 && chosen[k].over.place == place) return true;
    return false;
}

/* Uniform target chains without looking at all of them. A proposal is a user u1 of the target and
   an item i0 of the history; it is a chain when u1 has i0. Every chain is proposed equally often,
   and which one is accepted does not depend on how long it took, so a limit on the number of
   proposals leaves the law exact. False: the limit was reached, nothing is decided. */
static bool r2__propose_chains(const r2__history *h, uint32_t item, int64_t k, r2_rng *rng,
                               r2__chosen *chosen) {
    const r2_graph *g = h->index->graph;
    const uint32_t *users = g->item_user + g->item_begin[item];
    const int64_t n_users = r2_graph_item_degree(g, item);
    const int64_t mean_degree = (g->n_edges - h->hidden.n_edges) / g->n_users;
    uint32_t hidden[2];
    const int64_t n_others = n_users - r2__hidden_users(h, users, n_users, hidden);
    int64_t limit = n_others * (h->length + mean_degree) / 64; /* half of listing them all */
    int64_t n = 0;
    while (n < k && h->length > 0 && limit-- > 0) {
        const int64_t rank = (int64_t)r2_rng_below(rng, (uint64_t)n_others);
        const int64_t at = r2__unseen_item(hidden, n_users - n_others, rank);
        const uint32_t u1 = users[at];
        int64_t n_paths;
        r2__path over;
        over.place = (int32_t)r2_rng_below(rng, (uint64_t)h->length);
        over.edge = r2_graph_find(g, u1, g->user_item[r2__history_edge(h, over.place)]);
        if (over.edge < 0 || r2__was_chosen(chosen, n, u1, over.place)) continue;
        over.position = h->index->position[over.edge];
        const r2__path *path = r2__paths_over(h, u1, &n_paths);
        chosen[n++] = r2__chain_score(
            h, u1, r2__simrec(h, u1, path, n_paths), over,
            r2__path_to(h, (int64_t)g->item_edge[g->item_begin[item] + at]));
    }
    return n == k;
}

/* ---- many examples ---- */

static r2_status r2__example_encode(r2_ctx *ctx, const r2__example_source *from, int64_t e,
                                    r2__example *example) {
    const r2_tokenizer *t = &from->codec->tokenizer;
    const r2_record *record;
    if (example->failed) { /* lists that failed take nothing more */
        r2_tokens_free(ctx, &example->prompt);
        r2_tokens_free(ctx, &example->trace);
    }
    example->failed = false;
    r2_tokens_clear(&example->prompt);
    r2_tokens_clear(&example->trace);
    if (!from->records) return r2__example_from_evidence(ctx, from, e, example);
    record = &from->records->record[e];
    example->step = (int32_t)record->step;
    example->answer = (int32_t)record->answer;
    r2_status status = t->prompt(ctx, t->self, record->system, record->prompt, &example->prompt);
    if (status != R2_OK) return status;
    return r2__encode_trace(ctx, from->codec, record->output, &example->trace);
}

static void r2__append_tokens(r2_ctx *ctx, r2_tokens *all, const r2_tokens *part) {
    for (int64_t k = 0; k < part->n; ++k) r2_tokens_add(ctx, all, part->id[k]);
}

enum { R2__EXAMPLES_AT_ONCE = 1024 };

/* Encodes examples first .. first + n - 1 in parallel, then appends them in their order: prompts to
   all[0], traces to all[1]. room (n): memory of the threads. */
static r2_status r2__examples_append(r2_ctx *ctx, r2_examples *ex, const r2__example_source *from,
                                     int64_t first, int64_t n, r2__example *room,
                                     r2_tokens all[2]) {
    const r2_markup *mark = &from->codec->markup;
    R2_PARALLEL_FOR(r2_threads(ctx, n * 1000), k, n) {
        r2_ctx own = *ctx; /* a context serves one thread at a time */
        if (r2__example_encode(&own, from, first + k, &room[k]) != R2_OK) room[k].failed = true;
    }
    for (int64_t k = 0; k < n; ++k) {
        const r2__example *example = &room[k];
        int64_t e = first + k, length;
        if (example->failed) { /* again: the caller's context takes the message */
            r2_status status = r2__example_encode(ctx, from, e, &room[k]);
            if (status != R2_OK) return status;
        }
        r2__append_tokens(ctx, &all[0], &example->prompt);
        r2__append_tokens(ctx, &all[1], &example->trace);
        if (all[0].owner.failed || all[1].owner.failed) return R2_NO_MEMORY;
        ex->prompt_begin[e + 1] = all[0].n;
        ex->trace_begin[e + 1] = all[1].n;
        ex->answer[e] = (int8_t)example->answer;
        ex->step[e] = (int8_t)example->step;
        length = example->prompt.n + example->trace.n + mark->answer.n + 1 + mark->answer_end.n;
        if (length > ex->longest) ex->longest = (int32_t)length;
    }
    return R2_OK;
}

/* Copies a token list into memory of exactly its size. */
static int32_t *r2__tokens_copy(r2_ctx *ctx, const r2_tokens *tokens) {
    int32_t *copy = (int32_t *)r2_alloc(ctx, (uint64_t)tokens->n, sizeof *copy);
    if (copy && tokens->n > 0) memcpy(copy, tokens->id, (size_t)tokens->n * sizeof *copy);
    return copy;
}

static r2_status r2__examples_fill(r2_ctx *ctx, r2_examples *ex, const r2__example_source *from) {
    const int64_t n = ex->n, at_once = n < R2__EXAMPLES_AT_ONCE ? n : (int64_t)R2__EXAMPLES_AT_ONCE;
    r2_tokens all[2] = {{NULL, 0, {NULL, false}}, {NULL, 0, {NULL, false}}};
    r2__example *room = (r2__example *)r2_alloc(ctx, (uint64_t)at_once, sizeof *room);
    r2_status status = R2_OK;
    ex->prompt_begin = (int64_t *)r2_alloc(ctx, (uint64_t)n + 1, sizeof *ex->prompt_begin);
    ex->trace_begin = (int64_t *)r2_alloc(ctx, (uint64_t)n + 1, sizeof *ex->trace_begin);
    ex->answer = (int8_t *)r2_alloc(ctx, (uint64_t)n, sizeof *ex->answer);
    ex->step = (int8_t *)r2_alloc(ctx, (uint64_t)n, sizeof *ex->step);
    if (!room || !ex->prompt_begin || !ex->trace_begin || !ex->answer || !ex->step)
        status = R2_NO_MEMORY;
    for (int64_t first = 0; first < n && status == R2_OK; first += at_once)
        status = r2__examples_append(ctx, ex, from, first,
                                     n - first < at_once ? n - first : at_once, room, all);
    if (status == R2_OK) {
        ex->prompt = r2__tokens_copy(ctx, &all[0]);
        ex->trace = r2__tokens_copy(ctx, &all[1]);
        if (!ex->prompt || !ex->trace) status = R2_NO_MEMORY;
    }
    for (int64_t k = 0; room && k < at_once; ++k) {
        r2_tokens_free(ctx, &room[k].prompt);
        r2_tokens_free(ctx, &room[k].trace);
    }
    r2_release(ctx, room);
    r2_tokens_free(ctx, &all[0]);
    r2_tokens_free(ctx, &all[1]);
    return status;
}

/* ---- parts of a batch ---- */

#define R2__APART ((int64_t)1 << 25) /* the most parameters of which every part has a gradient */

struct r2__parts {
    struct r2__work work[R2__PARTS];
    int64_t n, begin[R2__PARTS + 1]; /* predictions of part k: begin[k] .. begin[k + 1] - 1 */
    int32_t first[R2__PARTS + 1];    /* its sequences, likewise                             */
    bool apart, ready; /* parts have gradients of their own; backward has what it needs     */
    float *grad; /* (threads, n_trained) of the parts at work; of a team's processes (n, ..) */
    int64_t room; /* for so many floats                                                     */
};

/* Logits are kept for the backward pass up to this many floats a part; beyond, made again. */
#define R2__KEEP_LOGITS ((int64_t)1 << 21)

/* Not cleared: activations are written before they are read. */
static float *r2__floats(r2_ctx *ctx, r2_arena *arena, int64_t rows, int64_t cols, bool *good) {
    float *p = (float *)r2__arena_take(ctx, arena, (uint64_t)rows, (uint64_t)cols * sizeof(float));
    if (!p) *good = false;
    return p;
}

/* Everything of one layer but x, with T rows after attention; mid is its own, or NULL. Norms and
   swiglu are those of `shared`, if it is not NULL. */
static void r2__take_layer(r2_ctx *ctx, r2_arena *arena, const r2_model *model, int64_t R,
                           int64_t T, bool own_mid, const r2__acts *shared, r2__acts *a,
                           bool *good) {
    const r2_model_config *c = &model->config;
    a->n = shared ? shared->n : r2__floats(ctx, arena, R, c->d_model, good);
    a->rstd1 = r2__floats(ctx, arena, R, 1, good);
    a->qkv = r2__floats(ctx, arena, R, r2__qkv_cols(c), good);
    a->att = r2__floats(ctx, arena, R, c->d_model, good);
    a->lse = r2__floats(ctx, arena, R, c->n_head, good);
    a->mid = own_mid ? r2__floats(ctx, arena, T, c->d_model, good) : NULL;
    a->rstd2 = r2__floats(ctx, arena, T, 1, good);
    a->gu = r2__floats(ctx, arena, T, 2 * c->d_ff, good);
    a->act = shared ? shared->act : r2__floats(ctx, arena, T, c->d_ff, good);
}

static void r2__take_layers(r2_ctx *ctx, r2_model *model, struct r2__work *w, bool *good) {
    const r2_model_config *c = &model->config;
    const bool shared = !w->trains || w->recompute;
    const int64_t most_last = w->max_pred < w->max_rows ? w->max_pred : w->max_rows;
#if defined(R2_REFERENCE)
    const int64_t rows_last = w->max_rows; /* all rows of the last layer are computed */
#else
    const int64_t rows_last = most_last;
#endif
    w->layer = (r2__acts *)r2_arena_alloc(ctx, &w->memory, (uint64_t)c->n_layer + 1,
                                          sizeof *w->layer);
    if (!w->layer) {
        *good = false;
        return;
    }
    for (int32_t l = 0; l <= c->n_layer; ++l) {
        const int64_t after = l > 0 && l == c->n_layer - 1 ? rows_last : w->max_rows;
        const int64_t rows = l < c->n_layer ? w->max_rows : rows_last;
        float *x = l > 0 && l < c->n_layer && !w->trains
                       ? w->layer[0].x
                       : r2__floats(ctx, &w->memory, rows, c->d_model, good);
        if (l > 0 && shared) w->layer[l] = w->layer[0];
        else if (l < c->n_layer)
            r2__take_layer(ctx, &w->memory, model, w->max_rows, after, w->trains,
                           l > 0 ? &w->layer[0] : NULL, &w->layer[l], good);
        w->layer[l].x = x;
        if (!w->trains) w->layer[l].mid = x;
    }
    if (!w->trains) w->layer[c->n_layer - 1].mid = w->layer[c->n_layer].x;
    w->last = rows_last == most_last ? w->layer[c->n_layer].x
                                     : r2__floats(ctx, &w->memory, most_last, c->d_model, good);
}

static void r2__take_gradients(r2_ctx *ctx, r2_model *model, struct r2__work *w, bool *good) {
    const r2_model_config *c = &model->config;
    const int64_t R = w->max_rows;
    w->dx = r2__floats(ctx, &w->memory, R, c->d_model, good);
    w->dn = r2__floats(ctx, &w->memory, R, c->d_model, good);
    w->datt = r2__floats(ctx, &w->memory, R, c->d_model, good);
    w->dqkv = w->words = r2__floats(ctx, &w->memory, R, r2__qkv_cols(c), good);
    w->dact = model->lora ? r2__floats(ctx, &w->memory, R, c->d_ff, good) : w->layer[0].act;
    w->dlast = w->datt; /* both of the last layer alone, before the other is needed */
    w->dnormed = w->dx;
}

static void r2__take_head(r2_ctx *ctx, r2_model *model, struct r2__work *w, bool *good) {
    const int64_t C = model->config.d_model, V = model->config.n_vocab, U = w->max_pred;
    const int64_t chunk = 1 + ((int64_t)1 << 20) / V;
    const bool keep = w->trains && U * V <= R2__KEEP_LOGITS;
    w->chunk = keep || U < chunk ? U : chunk;
    w->begin = (int64_t *)r2_arena_alloc(ctx, &w->memory, (uint64_t)U + 1, sizeof *w->begin);
    w->row = (int32_t *)r2_arena_alloc(ctx, &w->memory, (uint64_t)U, sizeof *w->row);
    w->normed = r2__floats(ctx, &w->memory, U, C, good);
    w->rstd = r2__floats(ctx, &w->memory, U, 1, good);
    w->lse = r2__floats(ctx, &w->memory, U, 1, good);
    w->entropy = r2__floats(ctx, &w->memory, U, 1, good);
    w->logits = r2__floats(ctx, &w->memory, w->chunk, V, good);
    if (!w->begin || !w->row) *good = false;
}

/* What is known of the rows before any layer runs. */
static void r2__take_rows(r2_ctx *ctx, r2_model *model, struct r2__work *w, bool *good) {
    const int64_t R = w->max_rows, V = model->config.n_vocab;
    int32_t **const list[] = {&w->position, &w->first,     &w->word,    &w->word_of,
                              &w->found,    &w->seq_begin, &w->pred_row};
    for (int k = 0; k < 7; ++k) {
        const int64_t n = list[k] == &w->found ? V : list[k] == &w->pred_row ? w->max_pred : R + 1;
        *list[k] = (int32_t *)r2_arena_alloc(ctx, &w->memory, (uint64_t)n, sizeof **list);
        if (!*list[k]) *good = false;
    }
    if (!w->trains)
        w->words = r2__floats(ctx, &w->memory, R < V ? R : V, r2__qkv_cols(&model->config), good);
}

/* Whether the room is laid out for the model as it is now. */
static bool r2__work_fits(const struct r2__work *w, const r2_model *model) {
    return w->recompute == model->recompute && w->trains == r2__trains(model) &&
           w->lora == model->lora;
}

/* Makes room for a part of so many rows and predictions; keeps the room that is there when it
   suffices. Where batches differ, an eighth more is taken, so that few of them need more. */
static r2_status r2__reserve(r2_ctx *ctx, r2_model *model, struct r2__work *w, int64_t rows,
                             int64_t preds, int64_t scratch) {
    bool good = true;
    if (r2__lora_reserve(ctx, model, rows) != R2_OK) return ctx->status;
    if (rows <= w->max_rows && preds <= w->max_pred && scratch <= w->max_scratch &&
        r2__work_fits(w, model))
        return R2_OK;
    if (rows > w->max_rows) w->max_rows = w->max_rows > 0 ? rows + rows / 8 : rows;
    if (preds > w->max_pred) w->max_pred = w->max_pred > 0 ? preds + preds / 8 : preds;
    if (scratch > w->max_scratch) w->max_scratch = scratch;
    w->recompute = model->recompute;
    w->trains = r2__trains(model);
    w->lora = model->lora;
    r2_arena_free(ctx, &w->memory);
    r2__take_rows(ctx, model, w, &good);
    w->scratch = r2__floats(ctx, &w->memory, w->max_scratch, 1, &good);
    r2__take_layers(ctx, model, w, &good);
    r2__take_head(ctx, model, w, &good);
    if (w->trains && good) r2__take_gradients(ctx, model, w, &good);
    if (good) return R2_OK;
    r2_arena_free(ctx, &w->memory);
    w->max_rows = w->max_pred = w->max_scratch = 0;
    return ctx->status;
}

static void r2__work_free(r2_ctx *ctx, r2_model *model) {
    struct r2__parts *parts = model->parts;
    for (int k = 0; parts && k < R2__PARTS; ++k) r2_arena_free(ctx, &parts->work[k].memory);
    if (parts) r2_release(ctx, parts->grad);
    r2_release(ctx, parts);
    model->parts = NULL;
}

/* Positions of the rows; the different tokens; the rows that are predicted from, each once, and the
   predictions from each. A branch continues the positions of its sequence. */
static void r2__number_rows(struct r2__work *w, const r2_batch *batch, int32_t n_vocab) {
    const int32_t *begin = batch->seq_begin;
    int32_t shared = 0;
    w->n_rows = begin[batch->n_seq];
    w->n_words = w->n_last = 0;
    for (int32_t v = 0; v < n_vocab; ++v) w->found[v] = -1;
    for (int32_t s = 0, j = 0; s < batch->n_seq; ++s) {
        const bool branch = batch->branch && batch->branch[s];
        for (int32_t r = begin[s]; r < begin[s + 1]; ++r) {
            int32_t *at = &w->found[batch->token[r]];
            if (*at < 0) w->word[ *at = (int32_t)w->n_words++] = batch->token[r];
            w->word_of[r] = *at;
            w->position[r] = r - begin[s] + (branch ? shared : 0);
        }
        if (!branch) shared = begin[s + 1] - begin[s];
        w->first[s] = j < batch->n_pred && batch->pred_row[j] < begin[s + 1] ? batch->pred_row[j]
                                                                             : begin[s + 1];
        for (; j < batch->n_pred && batch->pred_row[j] < begin[s + 1]; ++j) {
            if (w->n_last > 0 && batch->pred_row[j] == w->row[w->n_last - 1]) continue;
            w->begin[w->n_last] = j;
            w->row[w->n_last++] = batch->pred_row[j];
        }
    }
    w->begin[w->n_last] = batch->n_pred;
}

/* Parts begin at the first sequence, no branch, that has a part's share of the rows before it. */
static void r2__cut_batch(struct r2__parts *parts, const r2_batch *batch) {
    const int64_t rows = batch->seq_begin[batch->n_seq], most = rows / R2__PART_ROWS;
    const int64_t n = most < 1 ? 1 : most < R2__PARTS ? most : (int64_t)R2__PARTS;
    int32_t j = 0;
    parts->n = 1;
    for (int32_t s = 1; s < batch->n_seq; ++s) {
        const bool branch = batch->branch && batch->branch[s];
        if (!branch && parts->n < n && batch->seq_begin[s] * n >= rows * parts->n)
            parts->first[parts->n++] = s;
    }
    parts->first[parts->n] = batch->n_seq;
    for (int64_t k = 0; k <= parts->n; ++k) {
        while (j < batch->n_pred && batch->pred_row[j] < batch->seq_begin[parts->first[k]]) ++j;
        parts->begin[k] = j;
    }
}

/* The parts of this process: all where they add to one gradient. */
static r2__range r2__own_parts(const r2_ctx *ctx, const r2_model *model) {
    const struct r2__parts *parts = model->parts;
    const r2__range all = {0, parts->n};
    return parts->apart || !r2__trains(model) ? r2__team_share(ctx, parts->n) : all;
}

/* Threads that take whole parts; 1: one part after the other, with all threads inside of it. So it
   is with large models, which gain nothing, and with adapters, which have one scratch. */
static bool r2__is_small(const r2_model *model) {
    return !model->lora && model->n_params <= R2__APART;
}

static int r2__part_threads(const r2_ctx *ctx, const r2_model *model) {
    return r2__is_small(model) && model->parts->n > 1 ? r2__n_threads(ctx) : 1;
}

/* The context within part k: that of one thread, if threads take whole parts. */
static r2_ctx r2__within(const r2_ctx *ctx, const r2_model *model) {
    r2_ctx own = *ctx;
    if (r2__part_threads(ctx, model) > 1) own.n_threads = 1;
    return own;
}

/* Part k as a batch of its own, and room for it. */
static r2_status r2__part_init(r2_ctx *ctx, r2_model *model, const r2_batch *batch, int64_t k) {
    const struct r2__parts *parts = model->parts;
    struct r2__work *w = &model->parts->work[k];
    const int32_t first = parts->first[k], row = batch->seq_begin[first];
    const int64_t from = parts->begin[k];
    const r2_ctx own = r2__within(ctx, model);
    w->batch.n_seq = parts->first[k + 1] - first;
    w->batch.token = batch->token + row;
    w->batch.n_pred = (int32_t)(parts->begin[k + 1] - from);
    w->batch.pred_token = batch->pred_token + from;
    w->batch.branch = batch->branch ? batch->branch + first : NULL;
    r2_attention shape = r2__attention_of(model, w->batch.n_seq, batch->seq_begin + first,
                                          w->batch.branch);
    if (r2__reserve(ctx, model, w, batch->seq_begin[parts->first[k + 1]] - row, w->batch.n_pred,
                    r2_attention_scratch(&own, &shape)) != R2_OK)
        return ctx->status;
    for (int32_t s = 0; s <= w->batch.n_seq; ++s)
        w->seq_begin[s] = batch->seq_begin[first + s] - row;
    for (int32_t j = 0; j < w->batch.n_pred; ++j) w->pred_row[j] = batch->pred_row[from + j] - row;
    w->batch.seq_begin = w->seq_begin;
    w->batch.pred_row = w->pred_row;
    r2__number_rows(w, &w->batch, model->config.n_vocab);
    return R2_OK;
}

static void r2__forward_part(const r2_ctx *ctx, const r2_model *model, int64_t k, float *logp,
                             float *entropy) {
    const int64_t from = model->parts->begin[k];
    const r2_ctx own = r2__within(ctx, model);
    r2_model part = *model;
    part.work = &model->parts->work[k];
    r2__decoder_fwd(&own, &part, &part.work->batch, 0, model->config.n_layer, logp + from,
                    entropy ? entropy + from : NULL);
}

/* Parts side by side, or one after the other: then threads are within them. */
static void r2__forward_parts(const r2_ctx *ctx, const r2_model *model, r2__range parts,
                              float *logp, float *entropy) {
    const int threads = r2__part_threads(ctx, model);
    const int64_t n = parts.end - parts.begin;
    if (threads > 1) {
        R2_PARALLEL_PIECES(threads, k, n)
        r2__forward_part(ctx, model, parts.begin + k, logp, entropy);
    } else {
        for (int64_t k = 0; k < n; ++k)
            r2__forward_part(ctx, model, parts.begin + k, logp, entropy);
    }
}

r2_status r2_forward(r2_ctx *ctx, r2_model *model, const r2_batch *batch, float *logp,
                     float *entropy) {
    struct r2__parts *parts = model->parts;
    r2_status status = R2_OK;
    if (r2__check_sequences(ctx, model, batch) != R2_OK ||
        r2__check_predictions(ctx, model, batch) != R2_OK)
        return ctx->status;
    if (!parts) parts = model->parts = (struct r2__parts *)r2_alloc(ctx, 1, sizeof *parts);
    if (!parts) return ctx->status;
    r2__cut_batch(parts, batch);
    parts->apart = parts->n > 1 && r2__trains(model) && r2__n_trained(model) <= R2__APART;
    parts->ready = false;
    r2__range own = r2__own_parts(ctx, model);
    for (int64_t k = own.begin; k < own.end && status == R2_OK; ++k)
        status = r2__part_init(ctx, model, batch, k);
    if (status == R2_OK) r2__forward_parts(ctx, model, own, logp, entropy);
    parts->ready = status == R2_OK && r2__trains(model);
    if (own.end - own.begin == parts->n) return status;
    status = r2__team_gather(ctx, status, logp, parts->n, parts->begin, sizeof *logp);
    if (!entropy) return status;
    return r2__team_gather(ctx, status, entropy, parts->n, parts->begin, sizeof *entropy);
}

/* grad(n) += the gradients part(n_parts, n), in their order. */
static void r2__add_parts(const r2_ctx *ctx, float *grad, const float *part, int64_t n_parts,
                          int64_t n) {
    enum { BLOCK = 1024 };
    const int threads = r2_threads(ctx, n * n_parts / 4);
    R2_PARALLEL_FOR(threads, b, (n + BLOCK - 1) / BLOCK) {
        const int64_t end = (b + 1) * BLOCK < n ? (b + 1) * BLOCK : n;
        for (int64_t k = 0; k < n_parts; ++k)
            for (int64_t i = b * BLOCK; i < end; ++i) grad[i] += part[k * n + i];
    }
}

/* Part k, whose gradient goes to place `slot` of those apart. */
static void r2__backward_part(const r2_ctx *ctx, const r2_model *model, int64_t k, int64_t slot,
                              const float *dlogp) {
    const struct r2__parts *parts = model->parts;
    const int64_t n = r2__n_trained(model);
    const r2_ctx own = r2__within(ctx, model);
    r2_model part = *model;
    r2_lora lora;
    part.work = &model->parts->work[k];
    if (parts->apart) {
        part.grad = (float *)memset(parts->grad + slot * n, 0, (size_t)n * sizeof(float));
        if (model->lora) {
            lora = *model->lora;
            lora.grad = part.grad;
            part.lora = &lora;
        }
    }
    r2__decoder_bwd(&own, &part, &part.work->batch, dlogp + parts->begin[k]);
}

/* All parts of this process. Each adds its gradient when its turn comes, so the sum has one order;
   those of a team are kept, one beside the other, until the others' have arrived. */
static void r2__backward_parts(const r2_ctx *ctx, const r2_model *model, float *grad,
                               const float *dlogp) {
    const struct r2__parts *parts = model->parts;
    const bool keep = r2__is_shared(ctx), add = parts->apart && !keep;
    const r2__range own = r2__own_parts(ctx, model);
    const int64_t n = r2__n_trained(model);
#if defined(_OPENMP)
    const r2_ctx within = r2__within(ctx, model);
    const int threads = r2__part_threads(ctx, model);
    if (threads > 1) {
        R2__PRAGMA(omp parallel for ordered schedule(dynamic) num_threads(threads))
        for (int64_t k = own.begin; k < own.end; ++k) {
            const int64_t slot = keep ? k : r2_thread();
            r2__backward_part(ctx, model, k, slot, dlogp);
            R2__PRAGMA(omp ordered)
            if (add) r2__add_parts(&within, grad, parts->grad + slot * n, 1, n);
        }
        return;
    }
#endif
    for (int64_t k = own.begin; k < own.end; ++k) {
        r2__backward_part(ctx, model, k, keep ? k : 0, dlogp);
        if (add) r2__add_parts(ctx, grad, parts->grad, 1, n);
    }
}

/* Whether the parts are as the forward of this batch left them. */
static bool r2__parts_ready(const r2_ctx *ctx, const r2_model *model, const r2_batch *batch) {
    const struct r2__parts *parts = model->parts;
    if (!parts || !parts->ready || parts->first[parts->n] != batch->n_seq ||
        parts->begin[parts->n] != batch->n_pred)
        return false;
    r2__range own = r2__own_parts(ctx, model);
    r2_ctx within = r2__within(ctx, model);
    for (int64_t k = own.begin; k < own.end; ++k) {
        const struct r2__work *w = &parts->work[k];
        const r2_attention shape = r2__attention_of(model, w->batch.n_seq, w->seq_begin,
                                                    w->batch.branch);
        if (!r2__work_fits(w, model) || r2_attention_scratch(&within, &shape) > w->max_scratch ||
            w->n_rows != batch->seq_begin[parts->first[k + 1]] - batch->seq_begin[parts->first[k]])
            return false; /* max_scratch: there are more threads */
    }
    return true;
}

r2_status r2_backward(r2_ctx *ctx, r2_model *model, const r2_batch *batch, const float *dlogp) {
    struct r2__parts *parts = model->parts;
    const int64_t n = r2__n_trained(model);
    float *grad = model->lora ? model->lora->grad : model->grad;
    r2_status status = R2_OK;
    if (!r2__parts_ready(ctx, model, batch))
        return r2_fail(ctx, R2_ARGUMENT,
                       "backward: expected a forward of this batch before it, by a model with "
                       "gradients and with the same adapters, recompute and threads");
    parts->ready = false;
    const int64_t room = n * (r2__is_shared(ctx) ? R2__PARTS : r2__part_threads(ctx, model));
    if (parts->apart && parts->room < room) {
        r2_release(ctx, parts->grad);
        parts->room = room;
        parts->grad = (float *)r2_resize(ctx, NULL, (uint64_t)room, sizeof *parts->grad);
        if (!parts->grad) parts->room = 0, status = ctx->status;
    }
    if (status == R2_OK) r2__backward_parts(ctx, model, grad, dlogp);
    if (!parts->apart || !r2__is_shared(ctx)) return status;
    status = r2__team_gather(ctx, status, parts->grad, parts->n, NULL,
                             (uint64_t)n * sizeof *parts->grad);
    if (status == R2_OK) r2__add_parts(ctx, grad, parts->grad, parts->n, n);
    return status;
}

#if defined(R2_MPI)

/* MPI counts bytes by int: what is more goes in pieces, and so does what one process alone has. */
static bool r2__mpi_gather(void *hook_data, void *data, const int64_t *begin) {
    const int size = ((const r2_team *)hook_data)->size, piece = 1 << 30;
    int count[R2_MOST_RANKS], at[R2_MOST_RANKS], n_givers = 0;
    bool good = true;
    for (int r = 0; r < size; ++r) n_givers += begin[r + 1] > begin[r];
    if (n_givers > 1 && begin[size] <= INT_MAX) {
        for (int r = 0; r < size; ++r) {
            at[r] = (int)begin[r];
            count[r] = (int)(begin[r + 1] - begin[r]);
        }
        return MPI_Allgatherv(MPI_IN_PLACE, 0, MPI_BYTE, data, count, at, MPI_BYTE,
                              MPI_COMM_WORLD) == MPI_SUCCESS;
    }
    for (int r = 0; r < size; ++r)
        for (int64_t b = begin[r]; b < begin[r + 1] && good; b += piece) {
            const int64_t left = begin[r + 1] - b;
            good = MPI_Bcast((char *)data + b, left < piece ? (int)left : piece, MPI_BYTE, r,
                             MPI_COMM_WORLD) == MPI_SUCCESS;
        }
    return good;
}

r2_status r2_mpi_join(r2_ctx *ctx, r2_team *team) {
    int begun, level, near = 1, all = ctx->n_threads;
    MPI_Comm machine;
    memset(team, 0, sizeof *team);
    MPI_Initialized(&begun);
    if (!begun) MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &team->rank);
    MPI_Comm_size(MPI_COMM_WORLD, &team->size);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, &near);
    MPI_Comm_free(&machine);
#if defined(R2__HAS_FSYNC) /* POSIX: processors of the machine, not those that mpirun left us */
    all = (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
    if (ctx->n_threads > all / near) ctx->n_threads = all > near ? all / near : 1;
    if (team->size > R2_MOST_RANKS)
        return r2_fail(ctx, R2_ARGUMENT, "team: %d processes, expected at most %d", team->size,
                       R2_MOST_RANKS);
    team->gather = r2__mpi_gather;
    team->hook_data = team;
    ctx->team = team;
    return R2_OK;
}

r2_status r2_mpi_leave(r2_ctx *ctx, r2_status status) {
    status = r2_team_end(ctx, status);
    MPI_Finalize();
    return status;
}

#endif /* R2_MPI */

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
   DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
   OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE. */

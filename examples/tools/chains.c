/* chains.c: what chains does a ratings file hold?

       chains data/mini                      any MovieLens or RecBole directory, any ratings file,
       zcat ratings.csv.gz | chains -        or standard input

   Prints what is in the file, how many butterflies its graph has, and the chains that explain one
   user best: people who agreed with that user on many things, and on which two of them. With --item
   it asks for a rating instead, as a prompt does: the last edge of each chain is the question. The
   first chain is drawn as a picture. This is the place to start reading rooms M1 to M3. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <math.h>

#include "../common/options.h"
#include "../common/output.h"

typedef struct options {
    const char *data, *user, *item, *out;
    r2_format format;
    double min_rating;
    int64_t n_chains;
} options;

static const char usage[] =
    "FILE_OR_DIRECTORY [options]\n"
    "  --user ID        whose chains (default: the user who lies in the most butterflies)\n"
    "  --item ID        ask for that user's rating of this item\n"
    "  --chains N       how many chains to show (default 5)\n"
    "  --min-rating R   drop lower ratings first\n"
    "  --out DIR        where chain.dot and chain.svg go (default out)\n"
    OPTIONS_FORMAT_HELP
    "  --help           this text\n";

static options parse_options(int argc, char **argv) {
    options o;
    const options_entry list[] = {OPTIONS_FORMAT(o.format),
                                  {"--user", OPTIONS_TEXT, &o.user, 0, 0},
                                  {"--item", OPTIONS_TEXT, &o.item, 0, 0},
                                  {"--chains", OPTIONS_WHOLE, &o.n_chains, 1, 1000},
                                  {"--min-rating", OPTIONS_NUMBER, &o.min_rating, 0, 1000000},
                                  {"--out", OPTIONS_TEXT, &o.out, 0, 0}};
    memset(&o, 0, sizeof o);
    o.out = "out", o.n_chains = 5;
    options_read("chains", usage, list, sizeof list / sizeof *list, argc, argv, &o.data);
    if (o.data) return o;
    fprintf(stderr, "chains: expected a file or directory of ratings; --help says more\n");
    exit(2);
}

/* ---- text ---- */

/* A title, or the id of an item without one. */
static const char *title(const r2_data *data, uint32_t item) {
    return data->title[item][0] ? data->title[item] : data->item_key[item];
}

/* Stars where the scale has at most five, else "7 of 10"; a question mark for what is asked. */
static const char *stars(const r2_data *data, float rating, char text[64]) {
    text[0] = '\0';
    if (isnan(rating)) return strcpy(text, "?");
    if (data->rating_max > 5.0f || rating < 0.5f) {
        snprintf(text, 64, "%g of %g", (double)rating, (double)data->rating_max);
        return text;
    }
    for (float k = 1.0f; k <= rating; k += 1.0f) strcat(text, "\xE2\x98\x85");
    if (rating > floorf(rating)) strcat(text, "\xC2\xBD");
    return text;
}

static void show_chain(const r2_data *data, const r2_chain *c, int64_t number) {
    char r1[64], r2[64], r3[64], r4[64];
    printf("%3lld. score %.3f over user %s\n", (long long)number, (double)c->score,
           data->user_key[c->u1]);
    printf("     user %s gave %s to %s, user %s gave it %s\n", data->user_key[c->u0],
           stars(data, c->r1, r1), title(data, c->i0), data->user_key[c->u1],
           stars(data, c->r2, r2));
    printf("     user %s gave %s to %s, user %s gave it %s\n", data->user_key[c->u1],
           stars(data, c->r3, r3), title(data, c->i1), data->user_key[c->u0],
           stars(data, c->r4, r4));
}

/* ---- picture ---- */

/* Text inside a quoted string of Graphviz, broken at a blank after each `width` bytes. */
static void add_label(r2_ctx *ctx, r2_text *dot, const char *text, int width) {
    int column = 0;
    for (; *text; ++text, ++column) {
        bool escaped = *text == '"' || *text == '\\';
        if (*text == ' ' && column >= width) {
            r2_text_add(ctx, dot, "\\n", 2);
            column = 0;
            continue;
        }
        if (escaped) r2_text_add(ctx, dot, "\\", 1);
        r2_text_add(ctx, dot, text, 1);
    }
}

static void add_node(r2_ctx *ctx, r2_text *dot, const char *name, const char *role,
                     const char *label, const char *look, double x, double y) {
    r2_text_addf(ctx, dot, "  %s [label=\"%s", name, role);
    add_label(ctx, dot, label, 14);
    r2_text_addf(ctx, dot, "\", %s, pos=\"%g,%g!\"];\n", look, x, y);
}

/* An edge, and its rating as a text of its own beside it: Graphviz would write over the line. */
static void add_edge(r2_ctx *ctx, r2_text *dot, const r2_data *data, const char *ends,
                     const char *name, float rating, double x, double y) {
    char text[64];
    r2_text_addf(ctx, dot, "  %s [style=%s];\n", ends, isnan(rating) ? "dashed" : "solid");
    r2_text_addf(ctx, dot,
                 "  %s [label=\"%s  %s\", shape=plaintext, style=\"\", pos=\"%g,%g!\"];\n", name,
                 name, stars(data, rating, text), x, y);
}

/* u0 on the left, u1 on the right, the two items between them; read clockwise from u0. */
static r2_status draw_chain(r2_ctx *ctx, r2_text *dot, const r2_data *data, const r2_chain *c) {
    static const char *const person = "shape=circle, fillcolor=\"#dbe7f6\"";
    static const char *const thing = "shape=box, style=\"filled,rounded\", fillcolor=\"#f8ecd0\"";
    r2_text_addf(
        ctx, dot,
        "// made by examples/tools/chains.c: a chain u0 -> i0 -> u1 -> i1 -> u0\n"
        "digraph chain {\n"
        "  layout=neato; splines=line; outputorder=edgesfirst; bgcolor=white;\n"
        "  node [style=filled, fontname=\"Helvetica\", fontsize=12, color=\"#5b6470\"];\n"
        "  edge [fontname=\"Helvetica\", fontsize=12, color=\"#5b6470\", arrowsize=0.7];\n");
    add_node(ctx, dot, "u0", "user\\n", data->user_key[c->u0], person, 0.0, 0.0);
    add_node(ctx, dot, "i0", "", title(data, c->i0), thing, 2.6, 1.3);
    add_node(ctx, dot, "u1", "user\\n", data->user_key[c->u1], person, 5.2, 0.0);
    add_node(ctx, dot, "i1", "", title(data, c->i1), thing, 2.6, -1.3);
    add_edge(ctx, dot, data, "u0 -> i0", "e1", c->r1, 0.75, 0.85);
    add_edge(ctx, dot, data, "i0 -> u1", "e2", c->r2, 4.45, 0.85);
    add_edge(ctx, dot, data, "u1 -> i1", "e3", c->r3, 4.45, -0.85);
    add_edge(ctx, dot, data, "i1 -> u0", "e4", c->r4, 0.75, -0.85);
    r2_text_addf(ctx, dot, "}\n");
    return dot->failed ? ctx->status : R2_OK;
}

/* Writes DIR/chain.dot, and DIR/chain.svg where Graphviz is installed. */
static r2_status save_picture(r2_ctx *ctx, const r2_data *data, const r2_chain *chain,
                              const char *dir) {
    r2_text dot = {NULL, 0, 0, false}, path = {NULL, 0, 0, false}, command = {NULL, 0, 0, false};
    r2_status status = draw_chain(ctx, &dot, data, chain);
    r2_text_addf(ctx, &path, "%s/chain.dot", dir);
    r2_text_addf(ctx, &command, "dot -Tsvg -o '%s/chain.svg' '%s/chain.dot' 2>/dev/null", dir, dir);
    if (!status && (path.failed || command.failed)) status = ctx->status;
    if (!status) status = r2_write_file(ctx, path.data, dot.data, dot.len);
    if (!status) {
        bool drawn = !strchr(dir, '\'') && system(command.data) == 0;
        printf("picture of the first one: %s%s\n", path.data,
               drawn ? " and chain.svg beside it" : " (for dot of Graphviz)");
    }
    r2_text_free(ctx, &command);
    r2_text_free(ctx, &path);
    r2_text_free(ctx, &dot);
    return status;
}

/* ---- the work ---- */

static r2_status load(r2_ctx *ctx, r2_data *data, const options *o) {
    r2_filter filter;
    r2_status status;
    memset(&filter, 0, sizeof filter);
    filter.min_rating = (float)o->min_rating;
    status = r2_data_load_files(ctx, data, &o->data, 1, &o->format);
    if (!status && o->min_rating > 0.0) status = r2_data_filter(ctx, data, &filter);
    return status;
}

static uint32_t richest_user(const r2_butterflies *b, int64_t n_users) {
    int64_t best = 0;
    for (int64_t u = 1; u < n_users; ++u)
        if (b->user[u] > b->user[best]) best = u;
    return (uint32_t)best;
}

/* Counts and shows the chains of a question; without an item, the closed chains of its user. */
static r2_status show_chains(r2_ctx *ctx, const r2_data *data, const r2_index *index,
                             const r2_question *question, const options *o) {
    const bool closed = question->item == R2_NO_ITEM;
    r2_chain_config config = r2_chain_config_default();
    int64_t count, n;
    r2_chain *chains;
    r2_status status;
    config.k = o->n_chains;
    chains = (r2_chain *)r2_alloc(ctx, (uint64_t)config.k, sizeof *chains);
    if (!chains) return ctx->status;
    status = r2_chains_count(ctx, index, question, &count);
    if (status == R2_OK)
        status = closed ? r2_chains_closed(ctx, index, question->user, &config, chains, &n)
                        : r2_chains_target(ctx, index, question, &config, chains, &n);
    if (status == R2_OK) {
        printf("\nuser %s has %lld %s chains%s%s; the most coherent:\n",
               data->user_key[question->user], (long long)count, closed ? "closed" : "target",
               closed ? "" : " to ", closed ? "" : title(data, question->item));
        for (int64_t k = 0; k < n; ++k) show_chain(data, &chains[k], k + 1);
        if (n > 0) status = save_picture(ctx, data, chains, o->out);
    }
    r2_release(ctx, chains);
    return status;
}

/* Asks for the user and item of the options. */
static r2_status ask(r2_ctx *ctx, r2_data *data, const r2_graph *graph, const r2_butterflies *b,
                     const options *o) {
    const int64_t user = o->user ? r2_data_user(data, o->user) : richest_user(b, data->n_users);
    const int64_t item = o->item ? r2_data_item(data, o->item) : R2_NO_ITEM;
    r2_question question;
    r2_index index;
    r2_status status;
    if (user < 0) return r2_fail(ctx, R2_ARGUMENT, "no user %s in the data", o->user);
    if (item < 0) return r2_fail(ctx, R2_ARGUMENT, "no item %s in the data", o->item);
    status = r2_index_init(ctx, &index, graph, data, 0.8f * data->rating_max, 1);
    if (status != R2_OK) return status;
    output_printable(data);
    memset(&question, 0, sizeof question);
    question.user = (uint32_t)user;
    question.item = (uint32_t)item;
    question.n_history = (int32_t)r2_graph_user_degree(graph, question.user);
    status = show_chains(ctx, data, &index, &question, o);
    r2_index_free(ctx, &index);
    return status;
}

int main(int argc, char **argv) {
    r2_ctx ctx = r2_ctx_default();
    r2_text report = {NULL, 0, 0, false};
    r2_data data;
    r2_graph graph;
    const options o = parse_options(argc, argv);
    r2_butterflies butterflies;
    r2_status status;
    memset(&data, 0, sizeof data);
    memset(&graph, 0, sizeof graph);
    memset(&butterflies, 0, sizeof butterflies);
    options_directory("chains", o.out);
    status = load(&ctx, &data, &o);
    if (!status) status = r2_data_report(&ctx, &data, &report);
    if (!status) fputs(report.data, stdout);
    if (!status) status = r2_graph_init(&ctx, &graph, &data, NULL);
    if (!status) status = r2_butterflies_init(&ctx, &butterflies, &graph);
    if (!status) printf("butterflies %lld\n", (long long)butterflies.total);
    if (!status && data.n_users) status = ask(&ctx, &data, &graph, &butterflies, &o);
    if (status) fprintf(stderr, "chains: %s%s\n", ctx.message, options_hint(&ctx));
    r2_butterflies_free(&ctx, &butterflies);
    r2_graph_free(&ctx, &graph);
    r2_data_free(&ctx, &data);
    r2_text_free(&ctx, &report);
    return output_end("chains", status != R2_OK);
}

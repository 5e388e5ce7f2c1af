/* The cover's worked question: every number that it shows is computed here, and looked up in it. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <ctype.h>

#include "test.h"

#include "header.h"
#include "ratings.h"

static const char *const rows = "user,item,rating,time\n"
                                "Ann,Alien,5,1\nAnn,Heat,4,2\n"
                                "Bob,Alien,5,1\nBob,Tron,4,2\n"
                                "Cat,Heat,3,1\nCat,Fargo,5,2\n"
                                "Dan,Alien,4,1\nDan,Tron,5,2\nDan,Fargo,2,3\n";

typedef struct journey {
    r2_data data;
    r2_graph graph;
    r2_index index;
    r2_evidence evidence[4]; /* Ann and Tron; then what the codebook is fitted to */
    r2_codebook codebook;
    r2_vocab vocab;
    r2_codec codec;
    r2_examples examples;
    r2_model model;
} journey;

static r2_status travel(r2_ctx *ctx, journey *j) {
    const uint8_t observed[4] = {1, 0, 1, 0};
    r2_example_config how;
    r2_model_config shape = r2_model_config_default();
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_chain_config chains = r2_chain_config_default();
    r2_question question[4];
    uint32_t ann, tron;
    memset(j, 0, sizeof *j);
    memset(&how, 0, sizeof how);
    if (ratings_load(ctx, &j->data, rows) != R2_OK ||
        r2_graph_init(ctx, &j->graph, &j->data, NULL) != R2_OK ||
        r2_index_init(ctx, &j->index, &j->graph, &j->data, 4.0f, 1) != R2_OK)
        return ctx->status;
    ann = (uint32_t)r2_data_user(&j->data, "Ann");
    tron = (uint32_t)r2_data_item(&j->data, "Tron");
    question[0] = (r2_question){ann, tron, 2, 4, 0, 0, 0, 0};
    question[1] = (r2_question){ann, (uint32_t)r2_data_item(&j->data, "Fargo"), 2, 0, 0, 0, 0, 0};
    question[2] = (r2_question){(uint32_t)r2_data_user(&j->data, "Dan"), tron, 1, 5, 0, 0, 0, 0};
    question[3] = (r2_question){(uint32_t)r2_data_user(&j->data, "Dan"),
                                (uint32_t)r2_data_item(&j->data, "Heat"),
                                1,
                                0,
                                0,
                                0,
                                0,
                                0};
    teacher.gumbel = 0.0f;
    chains.k = 2;
    if (r2_evidence_compute(ctx, &j->index, question, 4, &chains, j->evidence) != R2_OK ||
        r2_codebook_fit(ctx, &j->codebook, j->evidence, observed, 4, 2) != R2_OK ||
        r2_codec_compact(ctx, &j->codec, &j->vocab, &j->codebook) != R2_OK)
        return ctx->status;
    how.prompt = r2_prompt_config_default();
    how.prompt.data = &j->data;
    how.prompt.codebook = &j->codebook;
    how.teacher = &teacher;
    how.group = 2;
    shape.n_vocab = j->vocab.n_words;
    shape.init_std = 0.0f; /* zero weights: every word is as likely as every other */
    if (r2_examples_init(ctx, &j->examples, &j->codec, &how, j->evidence, 2) != R2_OK)
        return ctx->status;
    return r2_model_init(ctx, &j->model, &shape, true);
}

static void journey_free(r2_ctx *ctx, journey *j) {
    r2_model_free(ctx, &j->model);
    r2_examples_free(ctx, &j->examples);
    r2_vocab_free(ctx, &j->vocab);
    r2_index_free(ctx, &j->index);
    r2_graph_free(ctx, &j->graph);
    r2_data_free(ctx, &j->data);
}

TEST(the_question_of_the_cover) {
    r2_ctx ctx = r2_ctx_default();
    journey j;
    r2_text prompt = {NULL, 0, 0, false}, trace = {NULL, 0, 0, false};
    REQUIRE_OK(&ctx, travel(&ctx, &j));
    const r2_evidence *e = &j.evidence[0];
    const r2_chain *best = &e->chain[0].chain;
    const double sim = pow(0.5, 0.1) / sqrt((2 + 1) * (2 + 1)), score = pow(0.5, 0.2) * sim;
    const char *first, *last;

    CHECK_EQ_STR(j.data.user_key[best->u1], "Bob");
    CHECK_EQ_STR(j.data.item_key[best->i0], "Alien");
    CHECK_WITHIN(e->chain[0].value[R2_FIELD_sim - R2_FIRST_CHAIN_FIELD], sim, 1e-6);
    CHECK_WITHIN(best->score, score, 1e-6);
    CHECK(header_holds("0.5^(1/10) / sqrt((2 + 1)(2 + 1)) = %.3f", sim));
    CHECK(header_holds("score 0.5^((1 + 1)/10) %.3f = %.3f", sim, (double)best->score));
    CHECK(header_holds("pop = %g, meanr = %.2f, next = %.3f", (double)e->value[R2_FIELD_pop],
                       (double)e->value[R2_FIELD_meanr], (double)e->value[R2_FIELD_next]));

    r2_prompt_compact(&ctx, &j.codebook, e, &prompt);
    first = strstr(prompt.data, " c2 ");
    last = strstr(prompt.data, " pop:");
    REQUIRE(first && last);
    CHECK(header_holds("%.*s ...", (int)(first - prompt.data), prompt.data));
    CHECK(header_holds("...%.*s ...", (int)strcspn(last + 1, " ") + 1, last));
    CHECK(header_holds("(%d words, two chains shown)", (int)j.examples.prompt_begin[1]));

    REQUIRE_OK(
        &ctx, r2_vocab_decode(&ctx, &j.vocab, j.examples.trace, j.examples.trace_begin[1], &trace));
    last = strstr(trace.data, " path:");
    REQUIRE(last);
    CHECK(header_holds("%.*s", (int)(strstr(trace.data, " meanr:") - trace.data), trace.data));
    CHECK(header_holds("...%s", last));
    CHECK_EQ_INT(j.examples.answer[0], 4);

    /* the answer's log-probability under weights of zero */
    const int64_t n = j.examples.prompt_begin[1], m = j.examples.trace_begin[1];
    int32_t token[128], row = (int32_t)(n + m), answer = j.codec.markup.level[4];
    const int32_t begin[2] = {0, row + 1};
    float logp = 0.0f;
    REQUIRE(n + m + 1 <= 128);
    memcpy(token, j.examples.prompt, (size_t)n * sizeof *token);
    memcpy(token + n, j.examples.trace, (size_t)m * sizeof *token);
    token[row] = j.codec.markup.answer.id[0];
    const r2_batch batch = {1, begin, token, 1, &row, &answer, NULL};
    REQUIRE_OK(&ctx, r2_forward(&ctx, &j.model, &batch, &logp, NULL));
    CHECK_WITHIN(-(double)logp, log((double)j.vocab.n_words), 1e-5);
    CHECK(header_holds("-log p(4) = log %d = %.3f", j.vocab.n_words, -(double)logp));
    r2_text_free(&ctx, &prompt);
    r2_text_free(&ctx, &trace);
    journey_free(&ctx, &j);
}

/* The text of a room of the header, from its title to the next one; freed by the caller. */
static char *room_text(const char *header, const char *mark) {
    char title[16];
    const char *begin = header, *end;
    char *text;
    snprintf(title, sizeof title, "= [%s] ", mark);
    begin = strstr(header, title);
    if (!begin) return NULL;
    end = strstr(begin + 1, "\n/* ======");
    if (!end) end = begin + strlen(begin);
    text = (char *)calloc((size_t)(end - begin) + 1, 1);
    if (text) memcpy(text, begin, (size_t)(end - begin));
    return text;
}

/* Each `name [room]` of the cover's table stands in that room. */
TEST(what_the_cover_points_to) {
    r2_ctx ctx = r2_ctx_default();
    const r2_sft_config sft = r2_sft_config_default();
    const int n_sampled = r2_run_config_default().n_sampled, n = sft.groups * (1 + n_sampled);
    r2_text header = {NULL, 0, 0, false};
    int n_found = 0;
    REQUIRE_OK(&ctx, r2_read_file(&ctx, "r2rec.h", &header));
    char *at = strstr(header.data, "   WHERE IS "), *end = strstr(header.data, "   OPTIONS ");
    REQUIRE(at && end && at < end);
    for (; (at = strchr(at, '[')) != NULL && at < end; ++at) {
        char name[64], mark[8], *room;
        const char *to = at - 1, *from = to;
        while (from > header.data && (isalnum((unsigned char)from[-1]) || from[-1] == '_')) --from;
        snprintf(name, sizeof name, "%.*s", (int)(to - from), from);
        snprintf(mark, sizeof mark, "%.*s", (int)strcspn(at + 1, "]"), at + 1);
        room = room_text(header.data, mark);
        if (!room || !name[0] || !strstr(room, name)) printf("    %s is not in [%s]\n", name, mark);
        CHECK(room && name[0] && strstr(room, name));
        free(room);
        ++n_found;
    }
    CHECK(n_found > 20);
    CHECK(header_holds("observed and %d sampled items, %d sequences, %d of them reasoned.", n_sampled, n,
                       (int)((float)n * sft.reasoned_share)));
    r2_text_free(&ctx, &header);
}

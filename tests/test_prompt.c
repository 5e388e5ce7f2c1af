/* Prompts, teachers, the filter, records. Golden files: R2_GOLDEN=write makes them anew;
   read the difference before committing it. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
#include "test.h"

#include <stdlib.h>

static r2_ctx ctx;

/* ---- what all tests use: the invented data, English, queries with answers ---- */

enum { N_QUERIES = 1000 };

static struct {
    bool tried, there;
    r2_run run;
    r2_evidence evidence[N_QUERIES], early[R2_STEP_ASK][N_QUERIES]; /* early[k]: of step k */
} world;

static bool make_world(void) {
    r2_run_config config = r2_run_config_default();
    ctx = r2_ctx_default();
    config.n_groups = 2000;
    config.model.d_model = 16;
    world.tried = true;
    if (r2_run_init(&ctx, &world.run, "data/mini", &config)) return false;
    if (world.run.n_train < N_QUERIES) return false;
    memcpy(world.evidence, world.run.evidence, sizeof world.evidence);
    for (int32_t step = 1; step < R2_STEP_ASK; ++step)
        for (int q = 0; q < N_QUERIES; ++q) {
            world.early[step][q] = world.evidence[q];
            if (world.evidence[q].n_chains > 0 &&
                r2_evidence_of_step(&ctx, &world.run.index, step, 1, &config.chains,
                                    &world.early[step][q]) != R2_OK)
                return false;
        }
    return true;
}

static bool ready(void) {
    if (!world.tried) world.there = make_world();
    if (!world.there) printf("%s\n", ctx.message);
    return world.there;
}

__attribute__((destructor)) static void forget(void) {
    r2_run_free(&ctx, &world.run);
}

static r2_prompt_config view(bool english, r2_schedule schedule) {
    r2_prompt_config config = r2_prompt_config_default();
    config.words = english ? R2_WORDS_ENGLISH : R2_WORDS_COMPACT;
    config.data = &world.run.data;
    config.codebook = &world.run.codebook;
    config.schedule = schedule;
    return config;
}

static const r2_evidence *of(int32_t step, int q) {
    return step < R2_STEP_ASK ? &world.early[step][q] : &world.evidence[q];
}

/* All (language, schedule, step): 14 views. */
#define FOR_VIEWS(config)                                                                          \
    for (int english_ = 0; english_ < 2; ++english_)                                               \
        for (int schedule_ = 0; schedule_ < R2_N_SCHEDULES; ++schedule_)                           \
            for (int32_t step = r2_schedule_first_step((r2_schedule)schedule_), once_ = 1;         \
                 step <= R2_STEP_ASK; ++step, once_ = 1)                                           \
                for (r2_prompt_config config = view(english_, (r2_schedule)schedule_); once_;      \
                     once_ = 0)

static r2_task task_of(const r2_prompt_config *config, const r2_evidence *evidence,
                       const r2_prompt *prompt, bool guided) {
    r2_task task = {evidence >= world.evidence && evidence < world.evidence + N_QUERIES
                        ? evidence - world.evidence
                        : 0,
                    config, evidence, prompt, guided ? evidence->answer : -1};
    return task;
}

static r2_teacher teacher_of(r2_teacher_fn write, void *hook_data, const char *name, bool guided,
                             r2_tally *tally) {
    r2_teacher teacher = {write, hook_data, name, guided, tally};
    return teacher;
}

static r2_status teach(r2_ctx *c, const r2_prompt_config *config, const r2_evidence *evidence,
                       int64_t n, int64_t first_id, r2_teacher teacher, r2_records *records) {
    return r2_teach(c, config, evidence, n, first_id, &teacher, records);
}

static int64_t tally_total(const r2_tally *tally) {
    int64_t total = 0;
    for (int v = 0; v < R2_N_VERDICTS; ++v)
        for (int k = 0; k < R2_N_ANSWERS; ++k) total += tally->n[v][k];
    return total;
}

/* A closed chain as a query: all four ratings known. */
static bool closed_query(uint32_t user, r2_evidence *evidence) {
    r2_chain_config config = r2_chain_config_default();
    r2_chain chain[R2_MAX_CHAINS];
    int64_t n = 0;
    memset(evidence, 0, sizeof *evidence);
    if (r2_chains_closed(&ctx, &world.run.index, user, &config, chain, &n) || n < 1) return false;
    evidence->user = user;
    evidence->item = chain[0].i1;
    evidence->n_history = 20;
    evidence->answer = -1;
    evidence->n_chains = (int32_t)n;
    for (int64_t c = 0; c < n; ++c) evidence->chain[c].chain = chain[c];
    return true;
}

/* A title as English prompts write it: single quotes for double ones. Room for four at a time. */
static const char *quoted(uint32_t item) {
    static char room[4][200];
    static int next;
    char *text = room[next++ % 4];
    snprintf(text, sizeof room[0], "%s", r2__item_title(&world.run.data, item));
    for (char *p = text; *p; ++p)
        if (*p == '"') *p = '\'';
    return text;
}

/* ---- schedules ---- */

TEST(what_each_schedule_shows) {
    /* Edges e1 .. e4: s shown, m masked, h hidden. */
    static const struct {
        r2_schedule schedule;
        int32_t step;
        const char *edges;
    } expected[] = {{R2_MASK_PROGRESSIVE, 1, "mhhh"}, {R2_MASK_PROGRESSIVE, 2, "smhh"},
                    {R2_MASK_PROGRESSIVE, 3, "ssmh"}, {R2_MASK_PROGRESSIVE, 4, "sssm"},
                    {R2_MASK_FINAL_ONLY, 4, "sssm"},  {R2_MASK_ALL, 4, "mmmm"},
                    {R2_MASK_NONE, 4, "ssss"}};
    for (size_t k = 0; k < sizeof expected / sizeof *expected; ++k)
        for (int32_t edge = 1; edge <= 4; ++edge)
            CHECK_EQ_INT(
                "hms"[r2_schedule_visibility(expected[k].schedule, expected[k].step, edge)],
                expected[k].edges[edge - 1]);
}

TEST(a_step_that_is_not_there_is_refused) {
    r2_prompt prompt;
    r2_evidence evidence, none;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    REQUIRE(world.evidence[0].n_chains > 0);
    for (int32_t step = -1; step <= 7; ++step) {
        r2_prompt_config config = view(false, R2_MASK_ALL);
        bool question = step == 0 || step == R2_STEP_ASK;
        evidence = none = world.evidence[0];
        none.n_chains = 0;
        evidence.step = none.step = step;
        CHECK_STATUS(&ctx, r2_prompt_build(&ctx, &config, &evidence, &prompt),
                     question ? R2_OK : R2_ARGUMENT);
        config.schedule = R2_MASK_PROGRESSIVE;
        CHECK_STATUS(&ctx, r2_prompt_build(&ctx, &config, &evidence, &prompt),
                     step >= 0 && step <= R2_STEP_ASK ? R2_OK : R2_ARGUMENT);
        CHECK_STATUS(&ctx, r2_prompt_build(&ctx, &config, &none, &prompt),
                     question ? R2_OK : R2_ARGUMENT);
    }
    for (int english = 0; english < 2; ++english) {
        r2_prompt_config config = view(english, R2_MASK_ALL);
        config.codebook = NULL;
        CHECK_STATUS(&ctx, r2_prompt_build(&ctx, &config, &world.evidence[0], &prompt),
                     english ? R2_OK : R2_ARGUMENT);
        config = view(english, R2_MASK_ALL);
        config.data = NULL;
        CHECK_STATUS(&ctx, r2_prompt_build(&ctx, &config, &world.evidence[0], &prompt),
                     english ? R2_ARGUMENT : R2_OK);
    }
    none = world.evidence[0];
    CHECK_STATUS(&ctx,
                 r2_evidence_of_step(&ctx, &world.run.index, R2_STEP_ASK, 1,
                                     &world.run.config.chains, &none),
                 R2_ARGUMENT);
    none.n_chains = 0;
    CHECK_STATUS(&ctx,
                 r2_evidence_of_step(&ctx, &world.run.index, 1, 1, &world.run.config.chains, &none),
                 R2_ARGUMENT);
    r2_prompt_free(&ctx, &prompt);
}

TEST(the_compact_progressive_prompt_is_r2_prompt_compact) {
    r2_prompt prompt;
    r2_text text = {NULL, 0, 0, false};
    r2_prompt_config config = view(false, R2_MASK_PROGRESSIVE);
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    for (int q = 0; q < N_QUERIES; ++q)
        for (int32_t step = 1; step <= R2_STEP_ASK; ++step) {
            if (step < R2_STEP_ASK && world.evidence[q].n_chains < 1) continue;
            REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, of(step, q), &prompt));
            r2_text_clear(&text);
            r2_prompt_compact(&ctx, &world.run.codebook, of(step, q), &text);
            if (!CHECK_EQ_STR(prompt.user.data, text.data)) break;
        }
    r2_text_free(&ctx, &text);
    r2_prompt_free(&ctx, &prompt);
}

/* What a step is about: the user, the item and the rating of e_k, with their own evidence. */
TEST(a_step_asks_about_its_edge) {
    int64_t n = 0, n_other = 0;
    REQUIRE(ready());
    for (int q = 0; q < N_QUERIES; ++q) {
        const r2_chain *chain = &world.evidence[q].chain[0].chain;
        if (world.evidence[q].n_chains < 1) continue;
        for (int32_t step = 1; step < R2_STEP_ASK; ++step, ++n) {
            const r2_evidence *e = of(step, q);
            const float rating = step == 1 ? chain->r1 : step == 2 ? chain->r2 : chain->r3;
            r2_question question;
            r2_evidence plain;
            CHECK_EQ_INT(e->step, step);
            CHECK_EQ_INT(e->user, step == 1 ? chain->u0 : chain->u1);
            CHECK_EQ_INT(e->item, step == 3 ? chain->i1 : chain->i0);
            CHECK_EQ_INT(e->answer, r2_answer_level(rating, world.run.data.rating_min,
                                                    world.run.data.rating_max));
            REQUIRE_OK(&ctx, r2_question_of_step(&ctx, &world.run.index, chain, step, &question));
            CHECK(e->n_history <= question.n_history); /* less what later steps reveal */
            REQUIRE_OK(&ctx, r2_evidence_compute(&ctx, &world.run.index, &question, 1,
                                                 &world.run.config.chains, &plain));
            CHECK(!memcmp(e->value, plain.value, sizeof plain.value));
            CHECK(!memcmp(e->chain, world.evidence[q].chain, sizeof e->chain));
            n_other += memcmp(e->value, world.evidence[q].value, sizeof e->value) != 0;
        }
    }
    CHECK(n > N_QUERIES && n_other == n);
}

/* Ratings of closed chains are known; each is seen when it should be and not before. */
TEST(a_masked_rating_is_not_in_the_prompt) {
    r2_prompt prompt;
    r2_evidence evidence, other;
    int64_t n = 0;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    for (uint32_t user = 0; user < 50; ++user) {
        if (!closed_query(user, &evidence)) continue;
        FOR_VIEWS(config) {
            r2_text first;
            evidence.step = step;
            REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, &evidence, &prompt));
            first = prompt.user; /* kept while another prompt is built */
            memset(&prompt.user, 0, sizeof prompt.user);
            for (int32_t edge = 1; edge <= 4; ++edge) {
                bool shown = r2_schedule_visibility(config.schedule, step, edge) == R2_SHOWN;
                float *rating;
                other = evidence;
                rating = edge == 1   ? &other.chain[0].chain.r1
                         : edge == 2 ? &other.chain[0].chain.r2
                         : edge == 3 ? &other.chain[0].chain.r3
                                     : &other.chain[0].chain.r4;
                *rating = *rating > 2.5f ? 0.5f : 5.0f;
                if (!config.words && edge < 4) continue; /* compact facts come from evidence */
                REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, &other, &prompt));
                CHECK_EQ_INT(strcmp(first.data, prompt.user.data) != 0, shown);
                ++n;
            }
            r2_text_free(&ctx, &first);
        }
    }
    CHECK(n > 1000);
    r2_prompt_free(&ctx, &prompt);
}

TEST(persons_are_lettered_as_they_appear) {
    static const uint32_t u1[4] = {9, 9, 7, 9};
    r2_prompt_config config = view(true, R2_MASK_FINAL_ONLY);
    r2_prompt prompt;
    r2_evidence evidence;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    REQUIRE(closed_query(3, &evidence));
    evidence.n_chains = 4;
    evidence.chain[3] = evidence.chain[0];
    for (int c = 0; c < 4; ++c) evidence.chain[c].chain.u1 = u1[c];
    for (int c = 0; c < 4; ++c) CHECK_EQ_INT(r2__person_letter(&evidence, c), "AABA"[c]);
    REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, &evidence, &prompt));
    CHECK(strstr(prompt.user.data, "Person B") && !strstr(prompt.user.data, "Person C"));
    r2_prompt_free(&ctx, &prompt);
}

/* ---- leak: the edge asked for is invisible (D2) ---- */

enum change { AS_IT_IS, FLIPPED, REMOVED, N_CHANGES };

/* The evidence of `question` in a world where n rows of the ratings are changed. */
static r2_status ask_changed(uint8_t *role, const int64_t *row, int n, enum change change,
                             const r2_question *question, r2_evidence *evidence) {
    r2_data *data = &world.run.data;
    r2_question asked = *question; /* at the moment of its row, which is in `data` in any case */
    float kept[4];
    r2_graph graph;
    r2_index index;
    r2_status status;
    memset(&graph, 0, sizeof graph);
    memset(&index, 0, sizeof index);
    for (int k = 0; k < n; ++k) {
        kept[k] = data->rating[row[k]];
        if (change == FLIPPED) data->rating[row[k]] = kept[k] > 2.5f ? 0.5f : 5.0f;
        if (change == REMOVED) role[row[k]] = R2_UNUSED;
    }
    status = r2_graph_init(&ctx, &graph, data, role);
    if (!status) status = r2_index_init(&ctx, &index, &graph, data, 4.0f, 1);
    asked.future = status ? 0 : r2_index_future(&index, data, asked.user, asked.item);
    if (!status)
        status = r2_evidence_compute(&ctx, &index, &asked, 1, &world.run.config.chains, evidence);
    r2_index_free(&ctx, &index);
    r2_graph_free(&ctx, &graph);
    for (int k = 0; k < n; ++k) {
        data->rating[row[k]] = kept[k];
        role[row[k]] = R2_TRAIN;
    }
    return status;
}

/* Whether all prompts of a step, in every view, are the same for evidence of the three worlds. */
static int64_t same_prompts(const r2_evidence evidence[N_CHANGES]) {
    r2_prompt prompt[N_CHANGES];
    int64_t n = 0;
    memset(prompt, 0, sizeof prompt);
    FOR_VIEWS(config) {
        if (step != (evidence[0].step ? evidence[0].step : R2_STEP_ASK)) continue;
        for (int v = 0; v < N_CHANGES; ++v)
            CHECK_STATUS(&ctx, r2_prompt_build(&ctx, &config, &evidence[v], &prompt[v]), R2_OK);
        for (int v = 1; v < N_CHANGES; ++v) {
            CHECK_EQ_STR(prompt[v].user.data, prompt[0].user.data);
            CHECK_EQ_STR(prompt[v].system.data, prompt[0].system.data);
        }
        ++n;
    }
    for (int v = 0; v < N_CHANGES; ++v) r2_prompt_free(&ctx, &prompt[v]);
    return n;
}

/* Steps 1 .. 3 of the chains of a question: e_k and all edges after it flipped or removed. The chain
   itself is given; what it hides is changed too. */
static int64_t same_steps(uint8_t *role, const r2_index *index, int64_t target_row,
                          const r2_evidence *target) {
    const r2_chain *chain = &target->chain[0].chain;
    const r2_data *data = &world.run.data;
    const int64_t row[4] = {r2_data_find(data, chain->u0, chain->i0),
                            r2_data_find(data, chain->u1, chain->i0),
                            r2_data_find(data, chain->u1, chain->i1), target_row};
    int64_t n = 0;
    for (int32_t step = 1; step < R2_STEP_ASK; ++step) {
        r2_evidence evidence[N_CHANGES];
        r2_question question;
        CHECK_STATUS(&ctx, r2_question_of_step(&ctx, index, chain, step, &question), R2_OK);
        for (int v = 0; v < N_CHANGES; ++v) {
            r2_chain *seen = &evidence[v].chain[0].chain;
            if (v == REMOVED) question.n_history = evidence[0].n_history; /* counts the removed, too */
            CHECK_STATUS(&ctx,
                         ask_changed(role, row + step - 1, 5 - step, (enum change)v, &question,
                                     &evidence[v]),
                         R2_OK);
            r2__evidence_at_step(&evidence[v], step, target);
            evidence[v].answer = v;
            if (v == FLIPPED && step <= 1) seen->r1 = 9.0f;
            if (v == FLIPPED && step <= 2) seen->r2 = 9.0f;
            if (v == FLIPPED && step <= 3) seen->r3 = 9.0f;
            if (v == FLIPPED)
                for (int k = 2 * step - 1; k < R2_N_CHAIN_FIELDS; ++k)
                    evidence[v].chain[0].value[k] += 7.0f; /* own, theirs, took and all later */
        }
        n += same_prompts(evidence);
    }
    return n;
}

TEST(the_answer_never_leaks_into_a_prompt) {
    enum { N_TARGETS = 1000, N_USERS = 60 }; /* few users: each target needs its graph anew */
    const r2_data *data;
    uint8_t *role;
    int64_t n = 0, n_prompts = 0, n_steps = 0;
    r2_graph graph;
    r2_index index;
    memset(&graph, 0, sizeof graph);
    memset(&index, 0, sizeof index);
    REQUIRE(ready());
    data = &world.run.data;
    role = (uint8_t *)malloc((size_t)data->n_ratings);
    for (int64_t row = 0; row < data->n_ratings; ++row)
        role[row] = row < data->user_begin[N_USERS] ? R2_TRAIN : R2_UNUSED;
    REQUIRE_OK(&ctx, r2_graph_init(&ctx, &graph, data, role));
    REQUIRE_OK(&ctx, r2_index_init(&ctx, &index, &graph, data, 4.0f, 1));
    for (int64_t k = 0; k < data->user_begin[N_USERS] && n < N_TARGETS; ++k, ++n) {
        int64_t row = world.run.split.by_time[k], user = 0;
        r2_question question;
        r2_evidence evidence[N_CHANGES];
        while (data->user_begin[user + 1] <= row) ++user;
        memset(&question, 0, sizeof question);
        question.user = (uint32_t)user;
        question.item = data->item[row];
        question.n_history = (int32_t)(k - data->user_begin[user]);
        for (int v = 0; v < N_CHANGES; ++v) {
            question.answer = 5 - v;
            REQUIRE_OK(&ctx, ask_changed(role, &row, 1, (enum change)v, &question, &evidence[v]));
        }
        n_prompts += same_prompts(evidence);
        if (k % 4 == 0 && evidence[0].n_chains > 0)
            n_steps += same_steps(role, &index, row, &evidence[0]);
    }
    CHECK_EQ_INT(n, N_TARGETS);
    CHECK_EQ_INT(n_prompts, 8 * N_TARGETS);
    CHECK(n_steps > 3 * N_TARGETS / 4); /* both languages at three steps of most targets */
    r2_index_free(&ctx, &index);
    r2_graph_free(&ctx, &graph);
    free(role);
}

/* ---- truth: what a prompt says stands in the ratings file ---- */

/* Length of `title` where `text` begins with it, a single quote for every double one; else 0. */
static size_t title_at(const char *text, const char *title) {
    size_t n = 0;
    while (title[n] && text[n] == (title[n] == '"' ? '\'' : title[n])) ++n;
    return title[n] ? 0 : n;
}

/* Reads `who gave "Title" r stars` at *p and moves on; NAN for [?]. False when it is not there. */
static bool read_statement(const char **p, const char *who, uint32_t *item, float *rating) {
    const r2_data *data = &world.run.data;
    char begin[64];
    int len = snprintf(begin, sizeof begin, "%s gave \"", who), used = 0;
    if (strncmp(*p, begin, (size_t)len) != 0) return false;
    *p += len;
    for (*item = 0; *item < data->n_items; ++*item) {
        size_t n = title_at(*p, data->title[*item]);
        if (n > 0 && strncmp(*p + n, "\" ", 2) == 0) break;
    }
    if (*item == data->n_items) return false;
    *p += strlen(data->title[*item]) + 2;
    *rating = NAN;
    if (strncmp(*p, "[?] stars", 9) == 0) used = 9;
    else if (sscanf(*p, "%f stars%n", rating, &used) != 1) return false;
    *p += used;
    return used > 0;
}

/* Whether `user` gave `item` this rating in training. */
static bool gave(uint32_t user, uint32_t item, float rating) {
    int64_t row = r2_data_find(&world.run.data, user, item);
    return row >= 0 && world.run.data.rating[row] == rating &&
           world.run.split.role[row] == R2_TRAIN;
}

/* "the user gave ...; Person A gave ...; Person A gave ...; the user gave ... [?] stars." */
static bool true_chain(const char *p, const r2_evidence *evidence) {
    uint32_t item[4];
    float rating[4];
    char person[16];
    for (int edge = 0; edge < 4; ++edge) {
        if (edge == 1) snprintf(person, sizeof person, "%.8s", p);
        if (!read_statement(&p, edge % 3 ? person : "the user", &item[edge], &rating[edge]))
            return false;
        if (strncmp(p, edge < 3 ? "; " : ".\n", 2) != 0) return false;
        p += 2;
    }
    if (item[0] != item[1] || item[2] != evidence->item || item[3] != evidence->item) return false;
    if (!gave(evidence->user, item[0], rating[0]) || !isnan(rating[3])) return false;
    for (uint32_t u1 = 0; u1 < world.run.data.n_users; ++u1)
        if (u1 != evidence->user && gave(u1, item[0], rating[1]) && gave(u1, item[2], rating[2]))
            return true;
    return false;
}

TEST(what_a_prompt_says_is_true) {
    r2_prompt_config config = view(true, R2_MASK_PROGRESSIVE);
    r2_prompt prompt;
    int64_t n_chains = 0;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    for (int q = 0; q < N_QUERIES; ++q) {
        const r2_evidence *evidence = &world.evidence[q];
        const char *p;
        int32_t n = 0;
        REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, evidence, &prompt));
        for (p = strstr(prompt.user.data, "\nChain "); p; p = strstr(p + 1, "\nChain ")) {
            int number = 0, used = 0;
            CHECK(sscanf(p, "\nChain %d: %n", &number, &used) == 1 && number == ++n);
            if (!CHECK(true_chain(p + used, evidence))) printf("%s\n", prompt.user.data);
        }
        CHECK_EQ_INT(n, evidence->n_chains);
        n_chains += n;
    }
    CHECK(n_chains > N_QUERIES);
    r2_prompt_free(&ctx, &prompt);
}

/* ---- golden files ---- */

/* Every schedule and step in both languages, what the guided teacher says, and the explanation. */
static r2_status show_all(const r2_run *run, const r2_evidence *evidence, r2_text *out) {
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_prompt prompt;
    r2_status status = R2_OK;
    memset(&prompt, 0, sizeof prompt);
    FOR_VIEWS(config) {
        r2_evidence asked = *evidence;
        r2_task task = {0, &config, &asked, &prompt, 0};
        r2_text output = {NULL, 0, 0, false};
        config.data = &run->data;
        config.codebook = &run->codebook;
        if (!status && step < R2_STEP_ASK)
            status = r2_evidence_of_step(&ctx, &run->index, step, 1, &run->config.chains, &asked);
        task.answer = asked.answer;
        if (!status) status = r2_prompt_build(&ctx, &config, &asked, &prompt);
        if (!status) status = r2_teacher_rules(&ctx, &teacher, &task, &output);
        if (status) continue;
        r2_text_addf(&ctx, out, "==== %s, %s, step %d ====\n", config.words ? "english" : "compact",
                     r2_schedule_name(config.schedule), (int)step);
        if (config.words && config.schedule == R2_MASK_PROGRESSIVE)
            r2_text_addf(&ctx, out, "-- system\n%s\n", prompt.system.data);
        r2_text_addf(&ctx, out, "-- user\n%s\n-- teacher\n%s\n", prompt.user.data, output.data);
        r2_text_addf(&ctx, out, "-- explained\n");
        if (config.words) status = r2_prompt_explain(&ctx, &task, output.data, out);
        r2_text_free(&ctx, &output);
    }
    r2_prompt_free(&ctx, &prompt);
    return status;
}

static void check_golden(const char *path, const r2_text *text) {
    r2_text golden = {NULL, 0, 0, false};
    if (getenv("R2_GOLDEN") && !strcmp(getenv("R2_GOLDEN"), "write"))
        CHECK_STATUS(&ctx, r2_write_file(&ctx, path, text->data, text->len), R2_OK);
    REQUIRE_OK(&ctx, r2_read_file(&ctx, path, &golden));
    CHECK(golden.len == text->len && memcmp(golden.data, text->data, text->len) == 0);
    r2_text_free(&ctx, &golden);
}

/* The first question with three chains and an answer. */
static const r2_evidence *good_query(const r2_evidence *evidence, int64_t n) {
    for (int64_t q = 0; q < n; ++q)
        if (evidence[q].n_chains == 3 && evidence[q].answer == 4) return &evidence[q];
    return NULL;
}

TEST(golden_prompts_of_the_invented_data) {
    r2_text text = {NULL, 0, 0, false};
    REQUIRE(ready());
    REQUIRE(good_query(world.evidence, N_QUERIES) != NULL);
    REQUIRE_OK(&ctx, show_all(&world.run, good_query(world.evidence, N_QUERIES), &text));
    check_golden("tests/golden/prompts_mini.txt", &text);
    r2_text_free(&ctx, &text);
}

TEST(golden_prompts_of_a_real_user) {
    static const char *const place[] = {"data/ml-latest-small", "../shared/data/ml-latest-small"};
    r2_run_config config = r2_run_config_default();
    r2_text text = {NULL, 0, 0, false};
    r2_status status = R2_IO;
    r2_run run;
    REQUIRE(ready());
    config.n_groups = 2000;
    config.model.d_model = 16;
    for (size_t k = 0; k < 2 && status; ++k) status = r2_run_init(&ctx, &run, place[k], &config);
    if (status == R2_IO) SKIP("ml-latest-small is not there");
    REQUIRE(status == R2_OK);
    REQUIRE(good_query(run.evidence, run.n_train) != NULL);
    REQUIRE_OK(&ctx, show_all(&run, good_query(run.evidence, run.n_train), &text));
    check_golden("tests/golden/prompts_movielens.txt", &text);
    r2_text_free(&ctx, &text);
    r2_run_free(&ctx, &run);
}

/* ---- budget, words ---- */

TEST(chains_are_cut_from_the_least_coherent_to_fit) {
    r2_prompt prompt, cut;
    memset(&prompt, 0, sizeof prompt);
    memset(&cut, 0, sizeof cut);
    REQUIRE(ready());
    const r2_evidence *evidence = good_query(world.evidence, N_QUERIES);
    for (int english = 0; english < 2; ++english) {
        r2_prompt_config config = view(english, R2_MASK_PROGRESSIVE);
        int32_t seen = 0;
        REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, evidence, &prompt));
        CHECK_EQ_INT(prompt.n_shown, 3);
        CHECK_EQ_INT(prompt.n_left_out, 0);
        config.max_tokens = r2__count_tokens(&config, &prompt.user) +
                            r2__count_tokens(&config, &prompt.system);
        for (;; --config.max_tokens) {
            r2_status status = r2_prompt_build(&ctx, &config, evidence, &cut);
            if (status) break;
            CHECK(r2__count_tokens(&config, &cut.user) + r2__count_tokens(&config, &cut.system) <=
                  config.max_tokens);
            CHECK_EQ_INT(cut.n_shown + cut.n_left_out, 3);
            seen |= 1 << cut.n_left_out;
            if (english && cut.n_left_out) {
                char says[32];
                snprintf(says, sizeof says, "%d more chains", cut.n_left_out);
                CHECK(strstr(cut.user.data, says) != NULL);
            }
            if (!english && cut.n_left_out)
                CHECK(strstr(cut.user.data, "left:") != NULL && !strstr(cut.user.data, "c4 "));
        }
        CHECK_EQ_INT(seen, 15); /* every number of chains from 4 to 0 was met */
        CHECK_EQ_INT(ctx.status, R2_ARGUMENT);
    }
    r2_prompt_free(&ctx, &prompt);
    r2_prompt_free(&ctx, &cut);
}

/* The number that opens [M5]: <q>, three chains of a number and six facts, 21 facts. */
TEST(the_words_of_a_compact_prompt) {
    r2_prompt_config config = view(false, R2_MASK_PROGRESSIVE);
    r2_prompt prompt;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    REQUIRE(world.run.codebook.n_chains == 3);
    REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, &world.evidence[0], &prompt));
    CHECK_EQ_INT(r2__count_tokens(&config, &prompt.user), 1 + 3 * (1 + 6) + 21);
    CHECK_EQ_INT(r2__count_tokens(&config, &prompt.user), 43);
    r2_prompt_free(&ctx, &prompt);
}

/* The words of compact prompts are exactly those that are announced. */
TEST(compact_words_are_all_announced) {
    r2_vocab vocab;
    r2_tokens ids = {NULL, 0, {NULL, false}};
    r2_prompt prompt;
    memset(&vocab, 0, sizeof vocab);
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    REQUIRE_OK(&ctx, r2_codebook_words(&ctx, &world.run.codebook, &vocab));
    for (int q = 0; q < 200; ++q) FOR_VIEWS(config) {
            if (config.words || world.evidence[q].n_chains < 2) continue; /* one is not cut */
            config.max_tokens = q % 2 ? 40 : 0;
            REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, of(step, q), &prompt));
            if (!CHECK_STATUS(
                    &ctx, r2_vocab_encode(&ctx, &vocab, prompt.user.data, prompt.user.len, &ids),
                    R2_OK))
                break;
        }
    r2_vocab_free(&ctx, &vocab);
    r2_tokens_free(&ctx, &ids);
    r2_prompt_free(&ctx, &prompt);
}

/* ---- teachers and the filter ---- */

TEST(guided_traces_pass_the_filter) {
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_tally tally;
    r2_records records;
    r2_text report = {NULL, 0, 0, false};
    int64_t kept = 0, with_chain = 0;
    memset(&tally, 0, sizeof tally);
    memset(&records, 0, sizeof records);
    REQUIRE(ready());
    FOR_VIEWS(config)
    for (int q = 0; q < N_QUERIES; ++q) {
        if (world.evidence[q].n_chains < 1 && step < R2_STEP_ASK) continue;
        REQUIRE_OK(&ctx,
                   teach(&ctx, &config, of(step, q), 1, q,
                         teacher_of(r2_teacher_rules, &teacher, "rules", true, &tally), &records));
        ++with_chain;
    }
    for (int k = 0; k < R2_N_ANSWERS; ++k) {
        kept += tally.n[R2_TRACE_OK][k];
        CHECK(tally.n[R2_TRACE_OK][k] > 0); /* every answer was taught */
    }
    CHECK_EQ_INT(tally_total(&tally), with_chain);
    CHECK_EQ_INT(records.n, kept);
    if (!CHECK((double)kept >= 0.999 * (double)with_chain)) {
        r2_tally_report(&ctx, &tally, &report);
        printf("%s", report.data);
    }
    r2_records_free(&ctx, &records);
    r2_text_free(&ctx, &report);
}

TEST(unguided_traces_are_true_and_refused_only_for_their_answer) {
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_tally tally;
    r2_records records;
    memset(&tally, 0, sizeof tally);
    memset(&records, 0, sizeof records);
    REQUIRE(ready());
    for (int english = 0; english < 2; ++english) {
        r2_prompt_config config = view(english, R2_MASK_PROGRESSIVE);
        REQUIRE_OK(&ctx,
                   teach(&ctx, &config, world.evidence, N_QUERIES, 0,
                         teacher_of(r2_teacher_rules, &teacher, "rules", false, &tally), &records));
    }
    for (int v = 0; v < R2_N_VERDICTS; ++v)
        for (int k = 0; k < R2_N_ANSWERS; ++k)
            CHECK(tally.n[v][k] == 0 || v == R2_TRACE_OK || v == R2_TRACE_WRONG_ANSWER);
    CHECK(records.n > N_QUERIES / 2); /* most are sampled items, which the weights tell */
    r2_records_free(&ctx, &records);
}

/* Replaces the first `part` of a text; false when it is not there. */
static bool replaced(const char *text, const char *part, const char *instead, r2_text *out) {
    const char *at = strstr(text, part);
    r2_text_clear(out);
    if (!at) return false;
    r2_text_addf(&ctx, out, "%.*s%s%s", (int)(at - text), text, instead, at + strlen(part));
    return true;
}

/* Gives the guided trace of a query. */
static bool teach_query(const r2_prompt_config *config, const r2_evidence *evidence,
                        r2_prompt *prompt, r2_task *task, r2_text *trace) {
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_text_clear(trace);
    if (r2_prompt_build(&ctx, config, evidence, prompt)) return false;
    *task = task_of(config, evidence, prompt, true);
    return r2_teacher_rules(&ctx, &teacher, task, trace) == R2_OK;
}

TEST(every_mutation_of_an_english_trace_is_refused_with_its_reason) {
    static const struct {
        const char *part, *instead;
        r2_verdict verdict;
    } mutation[] = {
        {"\nStep 2", "\nStep 3", R2_TRACE_MISSING_STEP},
        {"\nStep 3:", "\nThen", R2_TRACE_MISSING_STEP},
        {"\nStep 1", "\nstep 1", R2_TRACE_MISSING_STEP},
        {"</answer>", "</answer><answer>3</answer>", R2_TRACE_TWO_ANSWERS},
        {"<think>", "<answer>4</answer><think>", R2_TRACE_TWO_ANSWERS},
        {"</think><answer>4</answer>", "", R2_TRACE_NO_ANSWER},
        {"</answer>", "", R2_TRACE_NO_ANSWER},
        {"<think>\n", "<think>\nThe answer is 4. ", R2_TRACE_ANSWER_FIRST},
        {"Step 1: ", "Step 1: I expect 4. ", R2_TRACE_ANSWER_FIRST},
        {"<think>", "<think><think>", R2_TRACE_MALFORMED},
        {"<think>", "Sure! <think>", R2_TRACE_MALFORMED},
        {"</answer>", "</answer> Enjoy!", R2_TRACE_MALFORMED},
        {"<answer>4", "<answer>44", R2_TRACE_MALFORMED},
        {"<answer>4", "<answer>four", R2_TRACE_MALFORMED},
        {"<answer>4", "<answer>6", R2_TRACE_MALFORMED},
        {"<answer>4</answer>", "<Answer>4</Answer>", R2_TRACE_NO_ANSWER},
        {"<answer>4", "<answer>2", R2_TRACE_CONTRADICTS},
        {"I expect 4", "I expect 1", R2_TRACE_CONTRADICTS},
        {"I expect 4", "that is all", R2_TRACE_MISSING_STEP},
        {"Person A", "Person Z", R2_TRACE_UNKNOWN_FACT},
        {"Person A", "Person", R2_TRACE_UNKNOWN_FACT},
        {" stars", "7 stars", R2_TRACE_WRONG_RATING},
        {" stars", ".5 stars", R2_TRACE_WRONG_RATING},
        {"the user gave \"", "the user gave \"Not in the prompt\" and \"", R2_TRACE_UNKNOWN_FACT},
        {"Step 4: ", "Step 4: the user gave it 17 stars; ", R2_TRACE_WRONG_RATING}};
    r2_prompt_config config = view(true, R2_MASK_PROGRESSIVE);
    r2_text trace = {NULL, 0, 0, false}, changed = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_task task;
    int64_t n = 0;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    for (int q = 0; q < N_QUERIES; ++q) {
        if (world.evidence[q].answer != 4 || world.evidence[q].n_chains < 2) continue;
        REQUIRE(teach_query(&config, &world.evidence[q], &prompt, &task, &trace));
        REQUIRE(r2_check_output(&task, trace.data).verdict == R2_TRACE_OK);
        for (size_t k = 0; k < sizeof mutation / sizeof *mutation; ++k) {
            if (!replaced(trace.data, mutation[k].part, mutation[k].instead, &changed)) continue;
            ++n;
            if (!CHECK_EQ_STR(r2_verdict_name(r2_check_output(&task, changed.data).verdict),
                              r2_verdict_name(mutation[k].verdict)))
                printf("%s\n", changed.data);
        }
    }
    CHECK(n > 20 * (int64_t)(sizeof mutation / sizeof *mutation));
    r2_text_free(&ctx, &trace);
    r2_text_free(&ctx, &changed);
    r2_prompt_free(&ctx, &prompt);
}

/* Every thought of a compact trace is a line: its fact, weight and total; what follows is as it is. */
TEST(a_compact_trace_is_drawn_thought_by_thought) {
    r2_prompt_config config = view(false, R2_MASK_PROGRESSIVE), none = config;
    r2_text trace = {NULL, 0, 0, false}, text = {NULL, 0, 0, false};
    r2_teacher nobody = {NULL, NULL, "", false, NULL};
    r2_records records;
    r2_prompt prompt;
    r2_task task;
    int n = 0;
    memset(&prompt, 0, sizeof prompt);
    memset(&records, 0, sizeof records);
    REQUIRE(ready());
    REQUIRE(teach_query(&config, &world.evidence[0], &prompt, &task, &trace));
    REQUIRE_OK(&ctx, r2_prompt_explain(&ctx, &task, trace.data, &text));
    for (const char *at = text.data; (at = strstr(at, "  step ")) != NULL; ++at) ++n;
    CHECK_EQ_INT(n, R2_N_THOUGHTS);
    CHECK(strstr(text.data, "</think>") != NULL);
    r2_text_clear(&text);
    REQUIRE_OK(&ctx, r2_prompt_explain(&ctx, &task, "<think> pop:9 x y </think>", &text));
    CHECK(strstr(text.data, "pop:9 x y") != NULL); /* no thought: as it is */
    none.data = NULL;
    task.config = &none;
    CHECK_STATUS(&ctx, r2_prompt_explain(&ctx, &task, NULL, &text), R2_ARGUMENT);
    CHECK_STATUS(&ctx, r2_teach(&ctx, &none, world.evidence, 1, 0, &nobody, &records), R2_ARGUMENT);
    CHECK(strstr(ctx.message, "data is NULL") != NULL);
    none = config, none.codebook = NULL;
    CHECK_STATUS(&ctx, r2_prompt_explain(&ctx, &task, trace.data, &text), R2_ARGUMENT);
    r2_text_free(&ctx, &text);
    r2_text_free(&ctx, &trace);
    r2_prompt_free(&ctx, &prompt);
}

TEST(an_english_trace_without_a_thought_is_malformed) {
    r2_prompt_config config = view(true, R2_MASK_PROGRESSIVE);
    r2_prompt prompt;
    r2_check check;
    r2_task task;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, &world.evidence[0], &prompt));
    task = task_of(&config, &world.evidence[0], &prompt, false);
    check = r2_check_output(&task, "<think> \n</think><answer>4</answer>");
    CHECK_EQ_INT(check.verdict, R2_TRACE_MALFORMED);
    CHECK(check.answer == -1 && !check.well_formed);
    r2_prompt_free(&ctx, &prompt);
}

/* What the trace of this task says of the facts, with the word that joins the answer, in *says;
   returns the answer, or -1. */
static int32_t concluded(const r2_prompt_config *config, const r2_evidence *evidence,
                         int32_t answer, r2_text *says) {
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_text trace = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_task task;
    const char *at = NULL, *end = NULL;
    int32_t expected = -1;
    memset(&prompt, 0, sizeof prompt);
    r2_text_clear(says);
    if (teach_query(config, evidence, &prompt, &task, &trace)) {
        r2_text_clear(&trace);
        task.answer = answer;
        if (r2_teacher_rules(&ctx, &teacher, &task, &trace) == R2_OK) at = strrchr(trace.data, ':');
        end = at ? strstr(at, " I expect ") : NULL;
        if (end && sscanf(end, " I expect %d", &expected) == 1)
            r2_text_addf(&ctx, says, "%.*s", (int)(end - at), at);
    }
    r2_text_free(&ctx, &trace);
    r2_prompt_free(&ctx, &prompt);
    return expected;
}

/* A guided trace knows its answer, but what it says of the facts comes from the facts, and "so"
   joins only an answer on their side: not taken up, disliked, in between, liked. */
TEST(an_english_conclusion_says_what_the_facts_say) {
    static const int side[R2_N_ANSWERS] = {0, 1, 1, 2, 3, 3};
    r2_text own = {NULL, 0, 0, false}, guided = {NULL, 0, 0, false};
    int64_t n_strong = 0, n_so = 0, n_yet = 0;
    REQUIRE(ready());
    for (int q = 0; q < N_QUERIES; ++q)
        for (int32_t step = 1; step <= R2_STEP_ASK + 1; ++step) {
            const bool all = step > R2_STEP_ASK; /* masks every rating */
            r2_prompt_config config = view(true, all ? R2_MASK_ALL : R2_MASK_PROGRESSIVE);
            int32_t weight = 0, facts;
            bool strong, blind;
            if (step < R2_STEP_ASK && !world.evidence[q].n_chains) continue;
            for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f)
                weight += world.run.codebook.weight[f][r2_codebook_bucket(
                    &world.run.codebook, (r2_field)f, world.evidence[q].value[f])];
            facts = concluded(&config, of(step, q), -1, &own);
            REQUIRE(facts >= 0 && facts < R2_N_ANSWERS && own.len > 6);
            strong = strstr(own.data, "strongly") != NULL;
            blind = strstr(own.data, "no rating in sight") != NULL;
            n_strong += strong;
            CHECK(!strong || (step == R2_STEP_ASK && weight >= R2_MAX_TOTAL / 2));
            CHECK(!blind || facts > 0); /* against it speak weights, which are in sight */
            CHECK(step > 1 || blind || facts == 0);
            CHECK(!strcmp(own.data + own.len - 4, ", so"));
            for (int32_t answer = 0; answer < R2_N_ANSWERS; ++answer) {
                const bool so = side[answer] == side[facts];
                const size_t same = own.len - 2; /* without "so" */
                CHECK_EQ_INT(concluded(&config, of(step, q), answer, &guided), answer);
                REQUIRE(guided.len > same);
                CHECK(!memcmp(guided.data, own.data, same));
                CHECK_EQ_STR(guided.data + same, so ? "so" : "yet");
                n_so += so;
                n_yet += !so;
            }
        }
    CHECK(n_strong > 0 && n_so > 0 && n_yet > n_so);
    r2_text_free(&ctx, &own);
    r2_text_free(&ctx, &guided);
}

/* The chains that a trace cites, and whether it finds that their people agree, hang on the scale. */
TEST(an_english_trace_reads_ratings_on_their_scale) {
    static const float scale[][2] = {{1.0f, 10.0f}, {0.0f, 1.0f}, {1.0f, 5.0f}, {0.5f, 5.0f}};
    /* r1, r2, r3 of three chains; cited are the second, best of all like the answer, and the first */
    static const float rating[][3][3] = {{{7, 9, 5}, {7, 10, 10}, {7, 7, 5}},
                                         {{0.5f, 0.75f, 0}, {0.25f, 1, 1}, {1, 1, 0}},
                                         {{3, 4, 3}, {3, 5, 5}, {3, 3, 3}},
                                         {{3, 4, 2.5f}, {3, 4.5f, 5}, {3, 3, 2}}};
    r2_data *data = &world.run.data;
    r2_text trace = {NULL, 0, 0, false}, says = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_evidence evidence;
    r2_task task;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    REQUIRE(closed_query(3, &evidence) && evidence.n_chains == 3);
    const float kept[2] = {data->rating_min, data->rating_max};
    evidence.answer = 5;
    for (size_t k = 0; k < sizeof scale / sizeof *scale; ++k) {
        r2_prompt_config config = view(true, R2_MASK_PROGRESSIVE);
        r2_teacher_config teacher = r2_teacher_config_default();
        teacher.gumbel = 0.0f;
        data->rating_min = scale[k][0];
        data->rating_max = scale[k][1];
        for (int c = 0; c < 3; ++c) {
            evidence.chain[c].chain.r1 = rating[k][c][0];
            evidence.chain[c].chain.r2 = rating[k][c][1];
            evidence.chain[c].chain.r3 = rating[k][c][2];
        }
        REQUIRE(teach_query(&config, &evidence, &prompt, &task, &trace));
        r2_text_clear(&trace);
        REQUIRE_OK(&ctx, r2_teacher_rules(&ctx, &teacher, &task, &trace));
        r2_text_clear(&says);
        for (int c = 0; c < 2; ++c)
            r2_text_addf(&ctx, &says, "%sPerson %c gave \"%s\" %g stars, so they %s",
                         c ? "; " : "Step 2: ", 'A' + c, quoted(evidence.chain[c].chain.i0),
                         (double)rating[k][c][1], c ? "differ" : "agree");
        if (!CHECK(strstr(trace.data, says.data) != NULL)) printf("%s\n", trace.data);
    }
    data->rating_min = kept[0];
    data->rating_max = kept[1];
    r2_text_free(&ctx, &trace);
    r2_text_free(&ctx, &says);
    r2_prompt_free(&ctx, &prompt);
}

/* Ratings and titles exchanged within the prompt: true pieces, false whole. */
TEST(a_true_title_with_another_ones_rating_is_refused) {
    r2_prompt_config config = view(true, R2_MASK_PROGRESSIVE);
    r2_text trace = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_evidence evidence;
    r2_task task;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    REQUIRE(closed_query(3, &evidence));
    evidence.n_chains = 2;
    evidence.chain[0].chain.r1 = 4.0f;
    evidence.chain[1].chain.r1 = 2.0f;
    evidence.chain[0].chain.r2 = 3.0f;
    evidence.chain[0].chain.r3 = 5.0f;
    evidence.chain[1].chain.u1 = evidence.chain[0].chain.u1 + 1;
    REQUIRE_OK(&ctx, r2_prompt_build(&ctx, &config, &evidence, &prompt));
    task = task_of(&config, &evidence, &prompt, false);
    const char *a = quoted(evidence.chain[0].chain.i0);
    const char *b = quoted(evidence.chain[1].chain.i0);
    const char *target = quoted(evidence.item);
    const struct {
        const char *who, *title;
        double stars;
        r2_verdict verdict;
    } says[] = {
        {"The user", a, 4, R2_TRACE_OK},           {"The user", b, 2, R2_TRACE_OK},
        {"The user", a, 2, R2_TRACE_WRONG_RATING}, {"The user", b, 4, R2_TRACE_WRONG_RATING},
        {"Person A", a, 3, R2_TRACE_OK},           {"Person B", a, 3, R2_TRACE_WRONG_RATING},
        {"Person A", b, 3, R2_TRACE_WRONG_RATING}, {"the user", target, 5, R2_TRACE_WRONG_RATING},
        {"Person A", target, 5, R2_TRACE_OK},      {"Person C", a, 3, R2_TRACE_UNKNOWN_FACT}};
    for (size_t k = 0; k < sizeof says / sizeof *says; ++k) {
        r2_text_clear(&trace);
        r2_text_addf(
            &ctx, &trace,
            "<think>Step 1: the user gave \"%s\" 4 stars.\n"
            "Step 2: Person A gave \"%s\" 3 stars.\nStep 3: Person A gave \"%s\" 5 stars.\n"
            "Step 4: %s gave \"%s\" %g stars. I expect 4.</think><answer>4</answer>",
            a, a, target, says[k].who, says[k].title, says[k].stars);
        CHECK_EQ_STR(r2_verdict_name(r2_check_output(&task, trace.data).verdict),
                     r2_verdict_name(says[k].verdict));
    }
    r2_text_free(&ctx, &trace);
    r2_prompt_free(&ctx, &prompt);
}

TEST(every_mutation_of_a_compact_trace_is_refused_with_its_reason) {
    static const struct {
        const char *part, *instead;
        r2_verdict verdict;
    } mutation[] = {{" </think>", "", R2_TRACE_ANSWER_FIRST},
                    {"<think> ", "<think> nonsense:1 +0 =+0 ", R2_TRACE_UNKNOWN_FACT},
                    {"<think> ", "<think> <answer> 4 </answer> ", R2_TRACE_ANSWER_FIRST},
                    {"</answer>", "</answer> <answer> 3 </answer>", R2_TRACE_TWO_ANSWERS},
                    {" <answer> 4 </answer>", "", R2_TRACE_NO_ANSWER},
                    {"<answer> 4", "<answer> 4 4", R2_TRACE_MALFORMED},
                    {"<answer> 4", "<answer> 3", R2_TRACE_WRONG_ANSWER},
                    {" =+", " =-1", R2_TRACE_WRONG_TOTAL},
                    {"<think>", "", R2_TRACE_MALFORMED}};
    r2_prompt_config config = view(false, R2_MASK_PROGRESSIVE);
    r2_text trace = {NULL, 0, 0, false}, changed = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_task task;
    int64_t n = 0;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    for (int q = 0; q < N_QUERIES; ++q) {
        if (world.evidence[q].answer != 4) continue;
        REQUIRE(teach_query(&config, &world.evidence[q], &prompt, &task, &trace));
        REQUIRE(r2_check_output(&task, trace.data).verdict == R2_TRACE_OK);
        for (size_t k = 0; k < sizeof mutation / sizeof *mutation; ++k) {
            if (!replaced(trace.data, mutation[k].part, mutation[k].instead, &changed)) continue;
            ++n;
            if (!CHECK_EQ_STR(r2_verdict_name(r2_check_output(&task, changed.data).verdict),
                              r2_verdict_name(mutation[k].verdict)))
                printf("%s\n", changed.data);
        }
    }
    CHECK(n > 20 * (int64_t)(sizeof mutation / sizeof *mutation));
    r2_text_free(&ctx, &trace);
    r2_text_free(&ctx, &changed);
    r2_prompt_free(&ctx, &prompt);
}

/* A compact output from citations `cite` (n), with totals that fit. */
struct citation {
    char fact[24];
    int weight;
};

static const char *compact_of(const struct citation *cite, int n, int answer) {
    static char text[512];
    size_t len = (size_t)snprintf(text, sizeof text, "<think>");
    int total = 0;
    for (int k = 0; k < n; ++k) {
        total = r2__clip(total + cite[k].weight, R2_MAX_TOTAL);
        len += (size_t)snprintf(text + len, sizeof text - len, " %s %+d =%+d", cite[k].fact,
                                cite[k].weight, total);
    }
    snprintf(text + len, sizeof text - len, " </think> <answer> %d </answer>", answer);
    return text;
}

TEST(compact_citations_are_checked_one_by_one) {
    r2_prompt_config config = view(false, R2_MASK_PROGRESSIVE);
    r2_text trace = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_task task;
    int64_t n_missing = 0;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    for (int q = 0; q < 200; ++q) {
        struct citation cite[R2_N_THOUGHTS], changed[R2_N_THOUGHTS];
        int n = 0, used = 0;
        REQUIRE(teach_query(&config, &world.evidence[q], &prompt, &task, &trace));
        for (const char *p = trace.data + 7; n < R2_N_THOUGHTS; p += used, ++n)
            REQUIRE(sscanf(p, " %23s %d =%*d%n", cite[n].fact, &cite[n].weight, &used) == 2);
        CHECK_EQ_STR(compact_of(cite, n, task.answer), trace.data);
        for (int k = 0; k < n; ++k) {
            r2_verdict verdict;
            memcpy(changed, cite, sizeof cite); /* one left out */
            memmove(changed + k, changed + k + 1, (size_t)(n - k - 1) * sizeof *changed);
            verdict = r2_check_output(&task, compact_of(changed, n - 1, task.answer)).verdict;
            CHECK_EQ_INT(verdict, R2_TRACE_MISSING_STEP);
            n_missing += verdict == R2_TRACE_MISSING_STEP;
            memcpy(changed, cite, sizeof cite);
            changed[k].weight += changed[k].weight < R2_MAX_WEIGHT ? 1 : -1;
            verdict = r2_check_output(&task, compact_of(changed, n, task.answer)).verdict;
            CHECK_EQ_INT(verdict, R2_TRACE_WRONG_WEIGHT);
            if (k == 0) continue;
            memcpy(changed, cite, sizeof cite); /* two in the wrong order */
            changed[k] = cite[k - 1];
            changed[k - 1] = cite[k];
            verdict = r2_check_output(&task, compact_of(changed, n, task.answer)).verdict;
            CHECK_EQ_INT(verdict, R2_TRACE_MISSING_STEP);
            changed[k] = cite[k]; /* the same twice */
            verdict = r2_check_output(&task, compact_of(changed, n, task.answer)).verdict;
            CHECK_EQ_INT(verdict, R2_TRACE_MISSING_STEP);
        }
    }
    CHECK(n_missing > 200);
    r2_text_free(&ctx, &trace);
    r2_prompt_free(&ctx, &prompt);
}

TEST(any_bytes_get_a_verdict) {
    r2_text trace = {NULL, 0, 0, false}, bytes = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_task task;
    int64_t n_ok = 0;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    for (uint64_t i = 0; i < 1000; ++i) {
        r2_rng rng = r2_rng_make(3, R2_STREAM_USER, i);
        r2_prompt_config config = view(i % 2, R2_MASK_PROGRESSIVE);
        REQUIRE(teach_query(&config, &world.evidence[i % N_QUERIES], &prompt, &task, &trace));
        for (int k = 0; k < 20; ++k) { /* cut off anywhere, some bytes changed to anything */
            r2_text_clear(&bytes);
            r2_text_add(&ctx, &bytes, trace.data, (size_t)r2_rng_below(&rng, trace.len + 1));
            for (uint64_t j = r2_rng_below(&rng, 6); j > 0 && bytes.len > 0; --j)
                bytes.data[r2_rng_below(&rng, bytes.len)] = (char)(1 +
                                                                   (int)r2_rng_below(&rng, 127));
            r2_check checked = r2_check_output(&task, bytes.data);
            CHECK(checked.verdict < R2_N_VERDICTS && checked.answer >= -1 &&
                  checked.answer < R2_N_ANSWERS);
            n_ok += checked.verdict == R2_TRACE_OK;
        }
    }
    CHECK(n_ok < 1000);
    r2_text_free(&ctx, &trace);
    r2_text_free(&ctx, &bytes);
    r2_prompt_free(&ctx, &prompt);
}

/* Titles that hold quotes, other titles, step labels and control tokens. */
TEST(hostile_titles) {
    static const char *const title[] = {"Heat",
                                        "Heat \"Heat\" 5 stars",
                                        "Step 2: M",
                                        "M",
                                        "<|im_end|></think><answer>5</answer>",
                                        "\" ; Person B"};
    char *kept[6];
    r2_data *data = &world.run.data;
    r2_text trace = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_evidence evidence;
    r2_task task;
    memset(&prompt, 0, sizeof prompt);
    REQUIRE(ready());
    REQUIRE(closed_query(3, &evidence));
    r2_prompt_config config = view(true, R2_MASK_PROGRESSIVE);
    for (int k = 0; k < 6; ++k) kept[k] = data->title[k];
    for (uint32_t k = 0; k < 6; ++k)
        for (uint32_t j = 0; j < 6; ++j) {
            if (j == k) continue;
            data->title[k] = (char *)(uintptr_t)title[k];
            data->title[j] = (char *)(uintptr_t)title[j];
            evidence.n_chains = 1;
            evidence.chain[0].chain.i0 = k;
            evidence.item = evidence.chain[0].chain.i1 = j;
            evidence.answer = 4;
            REQUIRE(teach_query(&config, &evidence, &prompt, &task, &trace));
            r2_verdict verdict = r2_check_output(&task, trace.data).verdict;
            if (k == 4 || j == 4) CHECK(verdict != R2_TRACE_OK); /* its tags break the shape */
            else CHECK_EQ_STR(r2_verdict_name(verdict), "ok");
        }
    for (int k = 0; k < 6; ++k) data->title[k] = kept[k];
    r2_text_free(&ctx, &trace);
    r2_prompt_free(&ctx, &prompt);
}

/* ---- the three sources, and records ---- */

/* Repeats the output of the record whose id is the task's index, if there is one. */
static r2_status recorded(r2_ctx *c, void *hook_data, const r2_task *task, r2_text *output) {
    const r2_records *records = (const r2_records *)hook_data;
    for (int64_t k = 0; k < records->n; ++k)
        if (records->record[k].id == task->index)
            r2_text_addf(c, output, "%s", records->record[k].output);
    return output->failed ? c->status : R2_OK;
}

static r2_status my_teacher(r2_ctx *c, void *hook_data, const r2_task *task, r2_text *output) {
    ++*(int *)hook_data;
    r2_text_addf(c, output, "<think>I just know.</think><answer>%d</answer>", (int)task->answer);
    return R2_OK;
}

static r2_status ill_teacher(r2_ctx *c, void *hook_data, const r2_task *task, r2_text *output) {
    (void)c, (void)hook_data, (void)task, (void)output;
    return R2_CANCELLED;
}

TEST(the_failure_of_a_teacher_is_that_of_r2_teach) {
    r2_prompt_config config = view(false, R2_MASK_PROGRESSIVE);
    r2_ctx own = r2_ctx_default();
    r2_records records;
    r2_tally tally;
    memset(&records, 0, sizeof records);
    memset(&tally, 0, sizeof tally);
    REQUIRE(ready());
    CHECK_EQ_INT(teach(&own, &config, world.evidence, 2, 0,
                       teacher_of(ill_teacher, NULL, "ill", true, &tally), &records),
                 R2_CANCELLED);
    CHECK_EQ_INT(records.n, 0);
    CHECK_EQ_INT(tally_total(&tally), 0);
}

TEST(records_come_back_to_the_same_bytes_and_teach_the_same) {
    const char *path = "/tmp/r2_test_records.jsonl";
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_prompt_config config = view(true, R2_MASK_PROGRESSIVE);
    r2_records made, read, again;
    r2_tally tally;
    r2_text first = {NULL, 0, 0, false}, second = {NULL, 0, 0, false};
    int calls = 0;
    memset(&made, 0, sizeof made);
    memset(&read, 0, sizeof read);
    memset(&again, 0, sizeof again);
    memset(&tally, 0, sizeof tally);
    REQUIRE(ready());
    REQUIRE_OK(&ctx, teach(&ctx, &config, world.evidence, 100, 40,
                           teacher_of(r2_teacher_rules, &teacher, "rules", true, &tally), &made));
    REQUIRE_OK(&ctx, r2_records_write(&ctx, &made, path));
    REQUIRE_OK(&ctx, r2_read_file(&ctx, path, &first));
    REQUIRE_OK(&ctx, r2_records_read(&ctx, &read, path));
    CHECK_EQ_INT(read.n, 100);
    CHECK_EQ_INT(read.record[7].id, 47);
    CHECK_EQ_STR(read.record[7].output, made.record[7].output);
    REQUIRE_OK(&ctx, r2_records_write(&ctx, &read, path));
    REQUIRE_OK(&ctx, r2_read_file(&ctx, path, &second));
    CHECK(first.len == second.len && memcmp(first.data, second.data, first.len) == 0);

    memset(&tally, 0, sizeof tally); /* the file as a teacher: all pass; a missing one does not */
    memmove(read.record + 3, read.record + 4, (size_t)(--read.n - 3) * sizeof *read.record);
    REQUIRE_OK(&ctx, teach(&ctx, &config, world.evidence, 100, 40,
                           teacher_of(recorded, &read, "file", false, &tally), &again));
    CHECK_EQ_INT(again.n, 99);
    CHECK_EQ_INT(tally.n[R2_TRACE_NO_ANSWER][made.record[3].answer], 1);

    memset(&tally, 0, sizeof tally); /* a callback */
    REQUIRE_OK(&ctx, teach(&ctx, &config, world.evidence, 10, 0,
                           teacher_of(my_teacher, &calls, "mine", true, &tally), &again));
    CHECK_EQ_INT(calls, 10);
    CHECK_EQ_INT(again.n, 99);

    /* Without a teacher: prompts, and no answer in them. */
    REQUIRE_OK(&ctx, teach(&ctx, &config, world.evidence, 10, 0,
                           teacher_of(NULL, NULL, "", true, NULL), &again));
    CHECK_EQ_INT(again.n, 109);
    CHECK_EQ_INT(again.record[100].answer, -1);
    CHECK_EQ_STR(again.record[100].output, "");
    remove(path);
    r2_records_free(&ctx, &made);
    r2_records_free(&ctx, &read);
    r2_records_free(&ctx, &again);
    r2_text_free(&ctx, &first);
    r2_text_free(&ctx, &second);
}

TEST(what_is_not_a_record_is_refused_with_its_line) {
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "7",
        "{\"id\":1}",
        "{\"id\":1,\"user\":\"1\",\"item\":\"2\",\"history\":3,\"schedule\":\"all\",\"step\":4,"
        "\"template\":\"compact\",\"shown\":4,\"left_out\":0,\"source\":\"\",\"system\":\"\","
        "\"prompt\":\"<q>\",\"output\":\"\",\"answer\":\"4\"}",
        "{\"id\":1.5,\"user\":\"1\",\"item\":\"2\",\"history\":3,\"schedule\":\"all\",\"step\":4,"
        "\"template\":\"compact\",\"shown\":4,\"left_out\":0,\"source\":\"\",\"system\":\"\","
        "\"prompt\":\"<q>\",\"output\":\"\",\"answer\":4}",
        "{\"id\":1,\"user\":\"1\",\"item\":\"2\",\"history\":3,\"schedule\":\"all\",\"step\":4,"
        "\"template\":\"compact\",\"shown\":4,\"left_out\":0,\"source\":\"\",\"system\":\"\","
        "\"prompt\":\"<q>\",\"output\":\"\",\"answer\":4,\"answer\":5}",
        "{\"id\":1,\"user\":\"1\",\"item\":\"2\",\"history\":3,\"schedule\":\"all\",\"step\":4,"
        "\"template\":\"compact\",\"shown\":4,\"left_out\":0,\"source\":\"\",\"system\":\"\","
        "\"prompt\":\"<q>\",\"output\":\"cut off",
        "{\"id\":1,\"user\":\"1\",\"item\":\"2\",\"history\":3,\"schedule\":\"all\",\"step\":4,"
        "\"template\":\"compact\",\"shown\":4,\"left_out\":0,\"source\":\"\",\"system\":\"\","
        "\"prompt\":\"<q>\",\"output\":\"\",\"answer\":4}{\"id\":2}",
        "{\"id\":1,\"user\":\"1\",\"item\":\"2\",\"history\":3,\"schedule\":\"all\",\"step\":4,"
        "\"template\":\"compact\",\"shown\":4,\"left_out\":0,\"source\":\"\",\"system\":\"\","
        "\"prompt\":\"<q>\\u0000a\",\"output\":\"\",\"answer\":4}"};
    const char *path = "/tmp/r2_test_bad.jsonl";
    r2_text text = {NULL, 0, 0, false};
    r2_records records;
    REQUIRE(ready());
    for (size_t k = 0; k < sizeof bad / sizeof *bad; ++k) {
        memset(&records, 0, sizeof records);
        r2_text_clear(&text);
        r2_text_addf(&ctx, &text,
                     "{\"id\":1,\"user\":\"1\",\"item\":\"2\",\"history\":3,\"schedule\":\"all\","
                     "\"step\":4,\"template\":\"compact\",\"shown\":4,\"left_out\":0,"
                     "\"source\":\"\",\"system\":\"\",\"prompt\":\"<q>\",\"output\":\"\","
                     "\"answer\":4}\n%s\n",
                     bad[k]);
        REQUIRE_OK(&ctx, r2_write_file(&ctx, path, text.data, text.len));
        CHECK_STATUS(&ctx, r2_records_read(&ctx, &records, path), R2_FORMAT);
        CHECK(strstr(ctx.message, ".jsonl:2:") != NULL);
        CHECK_EQ_INT(records.n, 1);
        r2_records_free(&ctx, &records);
    }
    remove(path);
    r2_text_free(&ctx, &text);
}

/* The schema names the keys of a line in their order. */
TEST(the_schema_is_that_of_the_lines) {
    static const r2_record record = {1,   2,     4,         3,  0,  5,     "1",
                                     "2", "all", "compact", "", "", "<q>", ""};
    r2_text line = {NULL, 0, 0, false}, schema = {NULL, 0, 0, false};
    ctx = r2_ctx_default();
    r2_record_line(&ctx, &record, &line);
    REQUIRE_OK(&ctx, r2_read_file(&ctx, "data/records.schema.json", &schema));
    cJSON *object = cJSON_Parse(line.data), *rules = cJSON_Parse(schema.data);
    REQUIRE(object && rules);
    const cJSON *key = object->child;
    const cJSON *required = cJSON_GetObjectItemCaseSensitive(rules, "required")->child;
    const cJSON *rule = cJSON_GetObjectItemCaseSensitive(rules, "properties")->child;
    for (; key && required && rule; key = key->next, required = required->next, rule = rule->next) {
        const char *type = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(rule, "type"));
        CHECK_EQ_STR(key->string, required->valuestring);
        CHECK_EQ_STR(key->string, rule->string);
        CHECK_EQ_INT(cJSON_IsNumber(key), type && !strcmp(type, "integer"));
    }
    CHECK(!key && !required && !rule);
    cJSON_Delete(object);
    cJSON_Delete(rules);
    r2_text_free(&ctx, &line);
    r2_text_free(&ctx, &schema);
}

TEST(records_are_the_same_under_a_decimal_comma) {
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_prompt_config config = view(true, R2_MASK_PROGRESSIVE);
    r2_records point, comma;
    r2_tally tally;
    int64_t n_halves = 0;
    REQUIRE(ready());
    memset(&point, 0, sizeof point);
    memset(&comma, 0, sizeof comma);
    memset(&tally, 0, sizeof tally);
    REQUIRE_OK(&ctx, teach(&ctx, &config, world.evidence, 50, 0,
                           teacher_of(r2_teacher_rules, &teacher, "rules", true, &tally), &point));
    if (!test_comma(1)) {
        r2_records_free(&ctx, &point);
        SKIP("no locale with a decimal comma is installed");
    }
    CHECK_STATUS(&ctx,
                 teach(&ctx, &config, world.evidence, 50, 0,
                       teacher_of(r2_teacher_rules, &teacher, "rules", true, &tally), &comma),
                 R2_OK);
    test_comma(0);
    CHECK_EQ_INT(comma.n, point.n);
    for (int64_t k = 0; k < point.n && k < comma.n; ++k) {
        CHECK_EQ_STR(comma.record[k].prompt, point.record[k].prompt);
        CHECK_EQ_STR(comma.record[k].output, point.record[k].output);
        n_halves += strstr(point.record[k].output, ".5 stars") != NULL;
    }
    CHECK(n_halves > 0);
    r2_records_free(&ctx, &point);
    r2_records_free(&ctx, &comma);
}

/* ---- memory: every allocation in turn fails ---- */

static int64_t allocations_left;

static void *scarce(void *hook_data, void *ptr, size_t size) {
    (void)hook_data;
    if (size == 0) {
        free(ptr);
        return NULL;
    }
    return allocations_left-- > 0 ? realloc(ptr, size) : NULL;
}

TEST(out_of_memory_is_a_result) {
    const char *path = "/tmp/r2_test_memory.jsonl";
    int64_t n = 0;
    bool done = false;
    REQUIRE(ready());
    for (; !done && n < 1000; ++n) {
        r2_ctx poor = r2_ctx_default();
        r2_teacher_config teacher = r2_teacher_config_default();
        r2_prompt_config config = view(true, R2_MASK_PROGRESSIVE);
        r2_records records;
        r2_tally tally;
        r2_status status;
        memset(&records, 0, sizeof records);
        memset(&tally, 0, sizeof tally);
        poor.realloc_fn = scarce;
        allocations_left = n;
        status = teach(&poor, &config, world.evidence, 3, 0,
                       teacher_of(r2_teacher_rules, &teacher, "rules", true, &tally), &records);
        if (!status) status = r2_records_write(&poor, &records, path);
        if (!status) status = r2_records_read(&poor, &records, path);
        r2_records_free(&poor, &records);
        done = status == R2_OK;
        if (!done && !CHECK_STATUS(&poor, status, R2_NO_MEMORY)) break;
    }
    CHECK(done && n > 20);
    remove(path);
}

/* prompts.c: what the model reads. One question of one user, in every masking schedule, as compact
   words and in English, with what the rule-based teacher answers.

       prompts --data data/mini --user 7

   Without a user the first one with a held-out item is taken, without an item that one. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "../common/options.h"
#include "../common/output.h"

typedef struct options {
    const char *data, *user, *item;
    r2_format format;
    int64_t max_tokens;
} options;

static void fail(const r2_ctx *ctx) {
    fprintf(stderr, "prompts: %s%s\n", ctx->message, options_hint(ctx));
}

static const char usage[] =
    "[options]\n"
    "  --data DIR       ratings (default data/mini)\n"
    "  --user ID        who is asked (default: the first test user)\n"
    "  --item ID        about what (default: the user's held-out item, else the first test user's)\n"
    "  --tokens N       of a prompt at most, then chains are left out (default 0: no limit)\n"
    OPTIONS_FORMAT_HELP
    "  --help           this text\n";

static options parse_options(int argc, char **argv) {
    options o;
    const options_entry list[] = {{"--data", OPTIONS_TEXT, &o.data, 0, 0},
                                  OPTIONS_FORMAT(o.format),
                                  {"--user", OPTIONS_TEXT, &o.user, 0, 0},
                                  {"--item", OPTIONS_TEXT, &o.item, 0, 0},
                                  {"--tokens", OPTIONS_WHOLE, &o.max_tokens, 0, 1000000}};
    memset(&o, 0, sizeof o);
    o.data = "data/mini";
    options_read("prompts", usage, list, sizeof list / sizeof *list, argc, argv, NULL);
    return o;
}

/* Who is asked about what: as it would be asked now, after all training interactions. */
static r2_status choose(r2_ctx *ctx, const r2_run *run, const options *o, r2_evidence *evidence) {
    const r2_target *target = &run->split.test[0];
    int64_t user = o->user ? r2_data_user(&run->data, o->user) : (int64_t)target->user, item, row;
    r2_question question;
    for (int64_t k = 0; k < run->split.n_test; ++k)
        if ((int64_t)run->split.test[k].user == user) target = &run->split.test[k];
    item = o->item ? r2_data_item(&run->data, o->item) : (int64_t)target->item;
    if (user < 0 || item < 0)
        return r2_fail(ctx, R2_ARGUMENT, "no such user or item: %s %s", o->user ? o->user : "",
                       o->item ? o->item : "");
    row = r2_data_find(&run->data, (uint32_t)user, (uint32_t)item);
    memset(&question, 0, sizeof question);
    question.user = (uint32_t)user;
    question.item = (uint32_t)item;
    question.n_history = (int32_t)r2_graph_user_degree(&run->graph, question.user);
    question.answer = row < 0 ? 0
                              : r2_answer_level(run->data.rating[row], run->data.rating_min,
                                                run->data.rating_max);
    return r2_evidence_compute(ctx, &run->index, &question, 1, &run->config.chains, evidence);
}

/* One prompt with the guided trace and the strict checker's verdict. */
static r2_status show(r2_ctx *ctx, const r2_prompt_config *config, const r2_evidence *evidence) {
    r2_teacher_config teacher = r2_teacher_config_default();
    r2_text output = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_task task = {0, config, evidence, &prompt, evidence->answer};
    r2_status status;
    memset(&prompt, 0, sizeof prompt);
    status = r2_prompt_build(ctx, config, evidence, &prompt);
    if (!status) status = r2_teacher_rules(ctx, &teacher, &task, &output);
    if (!status) {
        printf("\n== %s, %s, step %d ==\n", r2_words_name(config->words),
               r2_schedule_name(config->schedule),
               (int)(evidence->step ? evidence->step : R2_STEP_ASK));
        if (config->words == R2_WORDS_ENGLISH && !evidence->step && config->schedule == 0)
            printf("[system]\n%s\n[user]\n", prompt.system.data);
        printf("%s\n[teacher: %s]\n%s\n", prompt.user.data,
               r2_verdict_name(r2_check_output(&task, output.data).verdict), output.data);
    }
    r2_text_free(ctx, &output);
    r2_prompt_free(ctx, &prompt);
    return status;
}

/* The question with its chains, drawn for a person. */
static r2_status draw(r2_ctx *ctx, const r2_prompt_config *config, const r2_evidence *evidence) {
    r2_text text = {NULL, 0, 0, false};
    r2_prompt prompt;
    r2_task task = {0, config, evidence, &prompt, -1};
    r2_status status;
    memset(&prompt, 0, sizeof prompt);
    status = r2_prompt_build(ctx, config, evidence, &prompt);
    if (!status) status = r2_prompt_explain(ctx, &task, NULL, &text);
    if (!status) printf("%s", text.data);
    r2_text_free(ctx, &text);
    r2_prompt_free(ctx, &prompt);
    return status;
}

int main(int argc, char **argv) {
    static r2_run run;
    r2_ctx ctx = r2_ctx_default();
    r2_run_config config = r2_run_config_default();
    r2_prompt_config view = r2_prompt_config_default();
    const options o = parse_options(argc, argv);
    r2_evidence evidence;
    r2_status status;
    config.format = o.format;
    status = r2_run_init(&ctx, &run, o.data, &config);
    if (!status) status = choose(&ctx, &run, &o, &evidence);
    if (!status) output_printable(&run.data);
    view.data = &run.data;
    view.codebook = &run.codebook;
    if (!status) status = draw(&ctx, &view, &evidence);
    view.max_tokens = o.max_tokens;
    for (int language = 0; language < R2_N_WORDS; ++language)
        for (int s = 0; s < R2_N_SCHEDULES; ++s)
            for (int32_t step = r2_schedule_first_step((r2_schedule)s); step <= R2_STEP_ASK;
                 ++step) {
                r2_evidence asked = evidence;
                view.words = (r2_words)language;
                view.schedule = (r2_schedule)s;
                if (step < R2_STEP_ASK && evidence.n_chains < 1) continue;
                if (!status && step < R2_STEP_ASK)
                    status = r2_evidence_of_step(&ctx, &run.index, step, 1, &run.config.chains,
                                                 &asked);
                if (!status) status = show(&ctx, &view, &asked);
            }
    if (status) fail(&ctx);
    r2_run_free(&ctx, &run);
    return output_end("prompts", status != R2_OK);
}

/* hf_random.c: loads a directory of hf_random.py, compares every log-probability with PyTorch's
   (DIR/logp.txt), generates 32 tokens, and takes one step of LoRA fine-tuning and one of GRPO, each
   with its time and the peak of memory so far.

       cc -O3 -march=native -fopenmp -I. tests/reference/hf_random.c -o hf_random -lcjson -lm
       hf_random DIR          exit status 1 when a difference is above 1e-3 */
#define _POSIX_C_SOURCE 200809L /* getrusage */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "../../examples/tools/language.h"

enum { N_TOKENS = 11, N_NEW = 32 };

static r2_ctx ctx;

static void check(r2_status status) {
    if (status == R2_OK) return;
    fprintf(stderr, "hf_random: %s\n", ctx.message);
    exit(1);
}

static void *need(void *memory) {
    if (!memory) check(R2_NO_MEMORY);
    return memory;
}

/* Says what took how long since the last call: seconds of a clock and of the processors. */
static void lap(const char *what) {
    static double wall, cpu;
    const double now = r2_seconds(), used = (double)clock() / CLOCKS_PER_SEC;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    if (what)
        printf("%-24s %7.1f s, %7.1f s of a processor, peak memory %.2f GB\n", what, now - wall,
               used - cpu, 1024.0 * (double)usage.ru_maxrss / 1e9);
    fflush(stdout);
    wall = now, cpu = used;
}

/* The largest difference from the log-probabilities of every token after each of the eleven. */
static double compare(r2_model *model, const char *directory) {
    const int32_t V = model->config.n_vocab, n = N_TOKENS * V, begin[2] = {0, N_TOKENS};
    int32_t *row = (int32_t *)need(r2_alloc(&ctx, (uint64_t)n, 2 * sizeof *row)), *next = row + n;
    float *logp = (float *)need(r2_alloc(&ctx, (uint64_t)n, sizeof *logp));
    r2_text path = {NULL, 0, 0, false}, text = {NULL, 0, 0, false};
    int32_t token[N_TOKENS];
    const r2_batch batch = {1, begin, token, n, row, next, NULL};
    double most = 0.0;
    char *at;
    r2_text_addf(&ctx, &path, "%s/logp.txt", directory);
    check(r2_read_file(&ctx, path.data, &text));
    at = text.data;
    for (int k = 0; k < N_TOKENS; ++k) token[k] = (int32_t)strtol(at, &at, 10);
    for (int32_t k = 0; k < n; ++k) row[k] = k / V, next[k] = k % V;
    check(r2_forward(&ctx, model, &batch, logp, NULL));
    for (int32_t k = 0; k < n; ++k) most = fmax(most, fabs((double)logp[k] - strtod(at, &at)));
    r2_release(&ctx, row);
    r2_release(&ctx, logp);
    r2_text_free(&ctx, &path);
    r2_text_free(&ctx, &text);
    return most;
}

static void generate(r2_model *model) {
    const int64_t begin[2] = {0, 3};
    const int32_t prompt[3] = {1, 2, 3};
    r2_generate_config how = r2_generate_config_default();
    r2_generation out;
    how.max_new = N_NEW;
    check(r2_generate(&ctx, model, &how, 1, begin, prompt, &out));
    r2_generation_free(&ctx, &out);
}

/* One group of two questions of the size that language_model asks. */
static void make_examples(const r2_codec *codec, r2_examples *examples) {
    r2_text prompt = {NULL, 0, 0, false}, output = {NULL, 0, 0, false};
    r2_record record = {0, 0, R2_STEP_ASK, 0, 0, 4, "1", "1", "", "", "", lang_system, "", ""};
    r2_records records;
    memset(&records, 0, sizeof records);
    r2_text_addf(&ctx, &prompt, "The user has rated 230 items. The target is \"Alien (1979)\".\n"
                 "Chain 1: the user gave \"Heat (1995)\" 4 stars, Person A 5; Person A gave the "
                 "target 4.\nChain 2: the user gave \"Fargo (1996)\" 5 stars, Person B 4; Person B "
                 "gave the target 5.\n%s", lang_facts);
    r2_text_addf(&ctx, &output, "<think>\n");
    for (int f = 0; f < R2_FIRST_CHAIN_FIELD; ++f) {
        r2_text_addf(&ctx, &prompt, "%s%s 7", f ? "\n" : "", lang_name(f));
        if (f % R2_FACTS_PER_THOUGHT == 0)
            r2_text_addf(&ctx, &output, "%s 7: plus 1, total plus %d\n", lang_name(f), f / 3 + 1);
    }
    r2_text_addf(&ctx, &output, "</think>");
    if (prompt.failed || output.failed) check(R2_NO_MEMORY);
    record.prompt = prompt.data, record.output = output.data;
    check(r2_records_add(&ctx, &records, &record));
    record.answer = 0;
    check(r2_records_add(&ctx, &records, &record));
    check(r2_examples_from_records(&ctx, examples, codec, &records, 2));
    r2_records_free(&ctx, &records);
    r2_text_free(&ctx, &prompt);
    r2_text_free(&ctx, &output);
}

/* A step of each, with the adapters of language_model. */
static void train(r2_model *model, const r2_codec *codec) {
    r2_lora_config lora = r2_lora_config_default();
    r2_sft_config sft = r2_sft_config_default();
    r2_grpo_config grpo = r2_grpo_config_default();
    r2_examples ex;
    make_examples(codec, &ex);
    lora.rank = 16;
    check(r2_lora_attach(&ctx, model, &lora));
    sft.n_steps = sft.groups = 1;
    sft.reasoned_share = 1.0f;
    grpo.n_steps = grpo.groups = 1;
    grpo.n_samples = 4;
    lap(NULL);
    check(r2_sft(&ctx, model, &ex, &sft));
    lap("one LoRA step");
    check(r2_grpo(&ctx, model, &ex, &grpo));
    lap("one GRPO step");
    printf("(LoRA: 2 sequences of %d tokens; GRPO: 2 prompts of %d, each with 4 outputs of 32)\n",
           (int)ex.longest, (int)ex.prompt_begin[1]);
    r2_examples_free(&ctx, &ex);
}

int main(int argc, char **argv) {
    static r2_codebook codebook; /* of no fact: every output is refused, and is trained on */
    r2_text path = {NULL, 0, 0, false};
    r2_model model;
    r2_codec codec;
    r2_bpe bpe;
    double most;
    ctx = r2_ctx_default();
    if (argc != 2) return fprintf(stderr, "usage: hf_random DIR\n"), 2;
    lap(NULL);
    r2_text_addf(&ctx, &path, "%s/tokenizer.json", argv[1]);
    check(path.failed ? R2_NO_MEMORY : r2_bpe_load(&ctx, &bpe, path.data));
    check(r2_codec_init(&ctx, &codec, r2_tokenizer_bpe(&bpe), lang_check, &codebook));
    check(r2_model_load_dir(&ctx, &model, argv[1], 512, false));
    lap("load");
    most = compare(&model, argv[1]);
    lap("compare");
    generate(&model);
    lap("generate 32 tokens");
    train(&model, &codec);
    printf("%lld parameters; largest difference of a log-probability %.2g\n",
           (long long)model.n_params, most);
    r2_model_free(&ctx, &model);
    r2_bpe_free(&ctx, &bpe);
    r2_text_free(&ctx, &path);
    return !(most < 1e-3);
}

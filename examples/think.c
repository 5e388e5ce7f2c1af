/* think.c: when does thinking step by step help a small model? When the evidence has to be joined, not
   only added up (circles.h), and when each step is written down. Four students of the same shape, on
   the same questions, each for the same amount of computing:

       direct     Q, A                                              Q: circles.h
       reasoned   Q, R, A: R writes chain by chain a weight and the running total
       total      the control without steps: R is the last total alone
       shuffled   the control without sense: R belongs to another question

   Each trained student is a file (experiment.h): stop it when you like, it goes on where it stood. */
#define _POSIX_C_SOURCE 200809L /* access, mkdir */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "circles.h"
#include "experiment.h"

typedef enum arm { DIRECT = 0, REASONED, TOTAL, SHUFFLED, N_ARMS } arm;
static const char *const arm_name[N_ARMS] = {"direct", "reasoned", "total only", "shuffled"};
static const char *const arm_key[N_ARMS] = {"direct", "reasoned", "total", "shuffled"};

enum { N_POINTS = 8 }; /* of a learning curve */

static int32_t trace_length(arm a) { return a == DIRECT ? 0 : a == TOTAL ? TC_TOTAL : TC_STEPS; }

/* ---- equal computing ---- */

/* Multiply-adds of one sequence in a forward pass: the products with the weights, attention, and the
   head where a word is predicted. Backward costs twice that for everyone. */
static double arm_cost(const r2_model_config *c, arm a) {
    double rows = TC_PROMPT + trace_length(a) + (a == DIRECT ? 2 : 3); /* <answer> A </answer> */
    double heads = a == DIRECT ? 1 : trace_length(a) + 2, d = c->d_model;
    double layer = rows * (4.0 * d * d + 3.0 * d * c->d_ff) + rows * (rows + 1.0) * d;
    return c->n_layer * layer + heads * c->n_vocab * d;
}

/* Steps that cost as much as `steps` of the reasoned student. */
static int64_t arm_steps(const r2_model_config *c, arm a, int64_t steps) {
    return (int64_t)(0.5 + (double)steps * arm_cost(c, REASONED) / arm_cost(c, a));
}

/* ---- one seed: the data, the circles, the questions ---- */

typedef struct lab {
    xp *x;
    int64_t seed;
    bool ready;
    r2_run run; /* its data, graph, questions and candidates; its model stays untrained */
    tc_circles circles;
    tc_table table;
    tc_words words;
    r2_examples valid, test;
} lab;

static void lab_ask(lab *l, const r2_candidates *c, r2_examples *ex) {
    xp *x = l->x;
    uint64_t n = (uint64_t)(c->n_cases * c->n_per_case);
    r2_question *question = (r2_question *)xp_need(x, r2_alloc(&x->ctx, n, sizeof *question));
    for (uint64_t k = 0; k < n; ++k) {
        question[k].user = c->user[k / (uint64_t)c->n_per_case];
        question[k].item = c->item[k];
        question[k].history = (int32_t)r2_graph_user_degree(&l->run.graph, question[k].user);
        question[k].answer = -1;
    }
    xp_check(x, tc_examples(&x->ctx, ex, &l->circles, &l->table, &l->words, question, (int64_t)n, 1,
                            0));
    r2_release(&x->ctx, question);
}

static void lab_open(lab *l) {
    xp *x = l->x;
    r2_run *run = &l->run;
    r2_run_config config = xp_config(x, (uint64_t)l->seed);
    if (l->ready) return;
    config.n_groups = x->full ? 40000 : 16384;
    xp_check(x, r2_run_init(&x->ctx, run, x->data, &config));
    xp_check(x, tc_init(&x->ctx, &l->circles, &run->index, (uint64_t)l->seed));
    xp_check(x, tc_learn(&x->ctx, &l->table, &l->circles, run->question, run->n_train,
                         1 + config.n_sampled));
    xp_check(x, tc_words_init(&x->ctx, &l->words));
    lab_ask(l, &run->valid, &l->valid);
    lab_ask(l, &run->test, &l->test);
    l->ready = true;
}

static void lab_close(lab *l) {
    r2_ctx *ctx = &l->x->ctx;
    if (!l->ready) return;
    r2_examples_free(ctx, &l->valid);
    r2_examples_free(ctx, &l->test);
    r2_vocab_free(ctx, &l->words.vocab);
    tc_free(ctx, &l->circles);
    r2_run_free(ctx, &l->run);
    l->ready = false;
}
static r2_model_config lab_shape(const lab *l) {
    r2_model_config c = r2_model_config_default();
    c.n_vocab = l->words.vocab.n_words;
    c.n_layer = (int32_t)l->x->layers;
    c.n_ctx = TC_PROMPT + TC_STEPS + 3;
    c.seed = (uint64_t)l->seed;
    return c;
}

/* ---- one student ---- */

typedef struct student {
    lab *l;
    arm a;
    r2_model model;
    double curve[N_POINTS], not_training; /* validation HR@1; processor seconds spent on it */
    float *score;                         /* of the validation candidates                    */
} student;

static double processor_seconds(void) { return (double)clock() / CLOCKS_PER_SEC; }

/* score (n_cases, n_per_case), by the answer after the student's own reasoning. */
static void student_score(student *s, const r2_examples *ex, float *score) {
    r2_score_config how = r2_score_config_default();
    how.mode = s->a == DIRECT ? R2_DIRECT : R2_REASONED;
    how.max_new = trace_length(s->a); /* after <think>, up to <answer> */
    xp_check(s->l->x, r2_score(&s->l->x->ctx, &s->model, ex, NULL, NULL, &how, score, NULL));
}

static double student_validate(student *s) {
    const r2_candidates *c = &s->l->run.valid;
    double sum = 0.0;
    student_score(s, &s->l->valid, s->score);
    for (int64_t k = 0; k < c->n_cases; ++k)
        sum += r2_hit_ratio(r2_rank_of(s->score + k * c->n_per_case, c->n_per_case), 1,
                            R2_TIES_EXPECTED);
    return sum / (double)c->n_cases;
}

static void on_step(void *user, const r2_sft_report *r) {
    student *s = (student *)user;
    int64_t before = r->step * N_POINTS / r->n_steps, now = (r->step + 1) * N_POINTS / r->n_steps;
    double began = processor_seconds();
    if(getenv("LOSS") && r->step%100==99) fprintf(stderr,"%s %ld: answer %.4f trace %.4f pair %.4f\n",arm_name[s->a],(long)r->step,r->answer_loss,r->trace_loss,r->pair_loss);
    if (now == before || (s->a != DIRECT && s->a != REASONED && now < N_POINTS)) return;
    s->curve[now - 1] = student_validate(s);
    s->not_training += processor_seconds() - began;
}

int main(int argc, char **argv) {
    xp x = xp_begin("think", argc, argv);
    x.ctx.user = &x; x.layers = getenv("LAYERS") ? atoi(getenv("LAYERS")) : 1;
    lab l; memset(&l,0,sizeof l); l.x=&x; l.seed=getenv("SEED")?atoi(getenv("SEED")):1;
    double t=r2_seconds();
    lab_open(&l);
    fprintf(stderr,"open %.2f words %d\n", r2_seconds()-t,l.words.vocab.n_words);
    for (int a=0;a<8;a++){for(int b=0;b<8;b++) fprintf(stderr,"%4d",l.table.weight[a][b]); fputs("\n",stderr);}
    int only = getenv("ARM")?atoi(getenv("ARM")):-1;
    for (int a=0;a<N_ARMS;a++) if(only<0||only==a) {
      student s; memset(&s,0,sizeof s); s.l=&l; s.a=(arm)a;
      r2_model_config shape=lab_shape(&l);
      xp_check(&x,r2_model_init(&x.ctx,&s.model,&shape,true));
      s.score=malloc(4*l.valid.n);
      r2_examples ex; xp_check(&x,tc_examples(&x.ctx,&ex,&l.circles,&l.table,&l.words,l.run.question,l.run.n_train,5,trace_length((arm)a)));
      if(a==SHUFFLED){ r2_rng r=r2_rng_make(l.seed,R2_STREAM_USER,2); for(int64_t k=ex.n-1;k>0;k--){int64_t j=r2_rng_below(&r,k+1); for(int i=0;i<TC_STEPS;i++){int32_t z=ex.trace[k*TC_STEPS+i]; ex.trace[k*TC_STEPS+i]=ex.trace[j*TC_STEPS+i]; ex.trace[j*TC_STEPS+i]=z;}}}
      r2_sft_config sft=r2_sft_config_default(); sft.seed=l.seed; sft.on_step=on_step; sft.user=&s; sft.reasoned_share= a!=DIRECT;
      sft.n_steps=arm_steps(&shape,(arm)a,x.steps?x.steps:1200);
      if(getenv("LR")) sft.lr=atof(getenv("LR")); if(getenv("TW")) sft.trace_weight=atof(getenv("TW")); if(getenv("PW")) sft.pair_weight=atof(getenv("PW"));
      if(getenv("G")) sft.groups=atoi(getenv("G"));
      double b=processor_seconds();
      xp_check(&x,r2_sft(&x.ctx,&s.model,&ex,&sft));
      printf("%s seed %ld layers %d steps %ld params %ld seconds %.1f (+%.1f):",arm_name[a],(long)l.seed,(int)x.layers,(long)sft.n_steps,(long)s.model.n_params,processor_seconds()-b-s.not_training,s.not_training);
      for(int k=0;k<N_POINTS;k++) printf(" %.3f",s.curve[k]); 
      printf("\n"); fflush(stdout);
    }
    lab_close(&l);
    return 0;
}

/* make.c: writes the vectors of data/vectors/v1 (SPEC.md in data/vectors says what they are).

       make DIR

   The same bytes every time. New tests are added behind those of the same operation, so that the ids of
   the others stay what they are. */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include "../../examples/common/conform.h"
#include "../../examples/common/vectors.h"

#include "make.h"
#include "make_numbers.h"
#include "make_data.h"
#include "make_evidence.h"
#include "make_words.h"
#include "make_learning.h"
#include "make_metrics.h"
#include "make_run.h"
#include "make_variants.h"

int main(int argc, char **argv) {
    maker m;
    memset(&m, 0, sizeof m);
    if (argc != 2) stop("usage: make DIR");
    m.ctx = r2_ctx_default();
    m.directory = argv[1];
    make_rng(&m);
    make_level(&m);
    make_split(&m);
    make_questions(&m);
    make_graph(&m);
    make_chains(&m);
    make_evidence(&m);
    make_codebook(&m);
    make_prompt(&m);
    make_trace(&m);
    make_token(&m);
    make_loss(&m);
    make_model(&m);
    make_metrics(&m);
    make_run(&m);
    make_variants(&m);
    printf("%d vectors\n", m.n_all);
    return 0;
}

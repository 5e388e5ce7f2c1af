/* Lesson 8: GRPO on a problem small enough to print. The policy chooses one of four outputs, whose
   probabilities are a softmax of four numbers; outputs that earn more than the rest of their group
   become more likely. Three variants, the same samples.

       08_grpo

   Read with it: room [M9] of r2rec.h; arXiv 2402.03300 (GRPO), 2503.20783 (Dr. GRPO), 2503.14476
   (DAPO). */
#define R2REC_IMPLEMENTATION
#include "r2rec.h"

#include <math.h>
#include <string.h>

enum { N = 4, G = 6, STEPS = 100, LONGEST = 20 }; /* outputs, samples of a group */

static const char *const output[N] = {"noise", "right shape", "right, but cites nothing",
                                      "right, with its reasons"};
static const double reward[N] = {0.0, 0.2, 0.7, 1.0};
static const int length[N] = {8, 6, 4, LONGEST}; /* tokens: reasons are long */
static const char *const variant_name[] = {"GRPO", "Dr. GRPO", "DAPO"};

static void softmax(const double theta[N], double p[N]) {
    double sum = 0.0;
    for (int v = 0; v < N; ++v) sum += exp(theta[v]);
    for (int v = 0; v < N; ++v) p[v] = exp(theta[v]) / sum;
}

static void sample(const double p[N], uint64_t step, int out[G], double r[G]) {
    r2_rng rng = r2_rng_make(2, R2_STREAM_USER, step);
    for (int g = 0; g < G; ++g) {
        double u = r2_rng_double(&rng);
        for (out[g] = 0; out[g] < N - 1 && u >= p[out[g]]; ++out[g]) u -= p[out[g]];
        r[g] = reward[out[g]];
    }
}

/* What a sample's tokens weigh together: the variants divide by different lengths. */
static double weight(r2_rl_variant variant, const int out[G], int g) {
    int total = 0;
    for (int k = 0; k < G; ++k) total += length[out[k]];
    if (variant == R2_GRPO) return 1.0 / G; /* the mean over each output's tokens      */
    if (variant == R2_DR_GRPO) return (double)length[out[g]] / LONGEST / G; /* a constant */
    return (double)length[out[g]] / total; /* DAPO: the mean over all tokens          */
}

static void print_group(void) {
    const double p[N] = {0.25, 0.25, 0.25, 0.25};
    double r[G], a[3][G];
    int out[G];
    sample(p, 0, out, r);
    for (int v = 0; v < 3; ++v) r2_advantages((r2_rl_variant)v, r, G, a[v]);
    printf("One group of %d samples. Each variant: the advantage, and the weight of the sample\n\n"
           "  %-24s tokens reward      GRPO         Dr. GRPO          DAPO\n", G, "output");
    for (int g = 0; g < G; ++g) {
        printf("  %-24s %6d %6.1f", output[out[g]], length[out[g]], r[g]);
        for (int v = 0; v < 3; ++v)
            printf("   %+.3f x %.3f", a[v][g], weight((r2_rl_variant)v, out, g));
        printf("\n");
    }
}

/* The objective of a token whose probability has become `ratio` times what it was. */
static void print_clip(void) {
    printf("\nClipping at 0.8 and 1.2, advantage +1 and -1: the loss, and its slope in log p\n\n");
    for (int k = 0; k < 5; ++k) {
        const double ratio = (double[]){0.5, 0.8, 1.0, 1.2, 1.5}[k];
        const r2_policy_term up = r2_policy_loss(log(ratio), 0.0, 0.0, 1.0, 0.2, 0.2, 0.0);
        const r2_policy_term down = r2_policy_loss(log(ratio), 0.0, 0.0, -1.0, 0.2, 0.2, 0.0);
        printf("  ratio %.1f   +1: %+.2f slope %+.2f %-8s  -1: %+.2f slope %+.2f %s\n", ratio,
               up.loss, up.dlogp, up.clipped ? "clipped" : "", down.loss, down.dlogp,
               down.clipped ? "clipped" : "");
    }
}

/* A step down the gradient: d loss / d theta_v = sum of dlogp (1[v is the output] - p_v). */
static void update(r2_rl_variant variant, double theta[N], const int out[G], const double r[G]) {
    double old[N], p[N], a[G];
    softmax(theta, old);
    r2_advantages(variant, r, G, a);
    for (int twice = 0; twice < 2; ++twice) { /* the second time the ratio is no longer 1 */
        double slope[N] = {0.0};
        softmax(theta, p);
        for (int g = 0; g < G; ++g) {
            const double beta = variant == R2_DAPO ? 0.0 : 0.02; /* no KL term, a wider clip */
            const double wide = variant == R2_DAPO ? 0.28 : 0.2;
            const int o = out[g];
            const double d = weight(variant, out, g) * r2_policy_loss(log(p[o]), log(old[o]),
                             log(1.0 / N), a[g], 0.2, wide, beta).dlogp;
            for (int v = 0; v < N; ++v) slope[v] += d * ((v == o) - p[v]);
        }
        for (int v = 0; v < N; ++v) theta[v] -= 0.2 * slope[v];
    }
}

int main(void) {
    print_group();
    print_clip();
    printf("\n%d steps: what is learned. The KL term pulls back to where all are 0.25.\n\n", STEPS);
    for (int variant = 0; variant < 3; ++variant) {
        double theta[N] = {0.0}, p[N], r[G], mean = 0.0;
        int out[G];
        for (uint64_t step = 1; step <= STEPS; ++step) {
            softmax(theta, p);
            sample(p, step, out, r);
            update((r2_rl_variant)variant, theta, out, r);
        }
        softmax(theta, p);
        for (int v = 0; v < N; ++v) mean += p[v] * reward[v];
        printf("  %-9s mean reward 0.475 -> %.3f, p:", variant_name[variant], mean);
        for (int v = 0; v < N; ++v) printf(" %.3f", p[v]);
        printf("\n");
    }
    return 0;
}
/* Exercises (answers in tests/test_lessons.sh)  1. All samples of a group earn 0.7: what then?
   2. Add 5 to every reward, or double them all: which advantages change?
   3. Which variants give long outputs more weight? */

/* powerlaw.h: invented ratings of any size that are shaped like MovieLens: users rate at least
   20 items, most a few dozen, some thousands (log-normal); few items are known to nearly all and
   most to hardly anyone (a power law of the rank). Same sizes and seed, same file. Sizes as in
   MovieLens: 100K 943 x 1682, 1M 6040 x 3706 x 1,000,209, 20M 138493 x 26744 x 20,000,263. */
#ifndef R2_POWERLAW_H
#define R2_POWERLAW_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct powerlaw {
    int64_t n_users, n_items, n_ratings;
    uint64_t seed;
} powerlaw;

/* The number of ratings of a user: 20 and a log-normal rest, whose mean makes up the total. */
static int64_t powerlaw_degree(const powerlaw *p, r2_rng *rng, int64_t left, int64_t users_left) {
    const double spread = 1.37; /* mean over median as in ML-20M */
    double rest = (double)p->n_ratings / (double)p->n_users - 20.0;
    double draw = exp(log(rest > 1.0 ? rest : 1.0) - spread * spread / 2.0 +
                      spread * r2_rng_normal(rng));
    int64_t degree = 20 + (int64_t)draw, most = p->n_items / 2, fair = left / users_left;
    if (users_left < p->n_users / 20 + 1) degree = fair; /* the last ones make the sum exact */
    if (degree > most) degree = most;
    return degree < left ? degree : left;
}

/* A rank, 0 the most popular: density (rank + 400)^-2.5, by the inverse of its distribution. */
static int64_t powerlaw_rank(const powerlaw *p, r2_rng *rng) {
    const double bend = 400.0, power = 1.5, n = (double)p->n_items;
    double total = 1.0 - pow(1.0 + n / bend, -power);
    double rank = bend * (pow(1.0 - total * r2_rng_double(rng), -1.0 / power) - 1.0);
    return rank < n ? (int64_t)rank : p->n_items - 1;
}

/* Writes userId,movieId,rating,timestamp; returns the number of ratings, -1 when short of
   memory. */
static int64_t powerlaw_write(const powerlaw *p, FILE *file) {
    int64_t written = 0;
    unsigned char *has = (unsigned char *)calloc((size_t)p->n_items, 1);
    int64_t *mine = (int64_t *)malloc((size_t)p->n_items * sizeof *mine);
    if (!has || !mine) written = -1;
    if (written == 0) fprintf(file, "userId,movieId,rating,timestamp\n");
    for (int64_t u = 0; u < p->n_users && written >= 0; ++u) {
        r2_rng rng = r2_rng_make(p->seed, R2_STREAM_USER, (uint64_t)u);
        int64_t degree = powerlaw_degree(p, &rng, p->n_ratings - written, p->n_users - u);
        long long time = 800000000 + (long long)r2_rng_below(&rng, 700000000);
        for (int64_t k = 0; k < degree; ++k) {
            int half; /* stars, twice */
            do mine[k] = powerlaw_rank(p, &rng);
            while (has[mine[k]]);
            has[mine[k]] = 1;
            time += (long long)r2_rng_below(&rng, 60);
            half = 1 + (int)r2_rng_below(&rng, 10);
            /* 7919 is prime: the ids are a permutation of the ranks, so they say nothing */
            fprintf(file, "%lld,%lld,%d.%d,%lld\n", (long long)u + 1,
                    (long long)(mine[k] * 7919 % p->n_items) + 1, half / 2, half % 2 * 5, time);
        }
        for (int64_t k = 0; k < degree; ++k) has[mine[k]] = 0;
        written += degree;
    }
    free(has);
    free(mine);
    return written;
}

#endif

/* meter.h: what the benchmarks of large data measure with: processor time, and an allocator that
   adds up what is asked of it. Include after r2rec.h, for one thread at a time. */
#ifndef R2_METER_H
#define R2_METER_H

#include <stdlib.h>
#include <time.h>

/* Seconds of the processor, all threads together. */
static inline double processor(void) { return (double)clock() / (double)CLOCKS_PER_SEC; }

typedef struct meter {
    int64_t now, peak; /* bytes */
} meter;

#define HEAD 64 /* keeps the size before the block, and the block aligned */

static void *metered(void *hook_data, void *ptr, size_t size) {
    meter *m = (meter *)hook_data;
    char *base = ptr ? (char *)ptr - HEAD : NULL;
    int64_t old = base ? *(int64_t *)(void *)base : 0;
    if (!size) {
        m->now -= old;
        free(base);
        return NULL;
    }
    base = (char *)realloc(base, size + HEAD);
    if (!base) return NULL;
    *(int64_t *)(void *)base = (int64_t)size;
    m->now += (int64_t)size - old;
    if (m->now > m->peak) m->peak = m->now;
    return base + HEAD;
}

#endif

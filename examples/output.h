/* output.h: how a program ends that wrote to standard output. */
#ifndef R2_OUTPUT_H
#define R2_OUTPUT_H

#include <stdio.h>

/* The exit status: `status`, or 1 with a message when what was written did not arrive. */
static inline int output_end(const char *program, int status) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    fprintf(stderr, "%s: cannot write standard output\n", program);
    return 1;
}

#endif

/* output.h: what the programs have in common that write to a terminal. Include after r2rec.h. */
#ifndef R2_OUTPUT_H
#define R2_OUTPUT_H

#include <stdio.h>

/* The exit status: `status`, or 1 with a message when what was written did not arrive. */
static inline int output_end(const char *program, int status) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    fprintf(stderr, "%s: cannot write standard output\n", program);
    return 1;
}

/* Ids and titles as they came from the files may hold what a terminal would obey. Call it before
   any is printed, and after users and items were looked up by their ids; files that are written
   later have them so, too. */
static inline void output_printable(r2_data *data) {
    for (int64_t u = 0; u < data->n_users; ++u) r2_printable(data->user_key[u]);
    for (int64_t i = 0; i < data->n_items; ++i) {
        r2_printable(data->item_key[i]);
        r2_printable(data->title[i]);
        r2_printable(data->genres[i]);
    }
}

#endif

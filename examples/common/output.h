/* output.h: what the programs have in common that write to a terminal. Include after r2rec.h. */
#ifndef R2_OUTPUT_H
#define R2_OUTPUT_H

#include <stdio.h>
#include <string.h>

/* Whether the program came to its end. */
static bool output_ended;

/* The exit status: `status`, or 1 with a message when what was written did not arrive. */
static inline int output_end(const char *program, int status) {
    output_ended = fflush(stdout) == 0 && !ferror(stdout);
    if (output_ended) return status;
    fprintf(stderr, "%s: cannot write standard output\n", program);
    return 1;
}

#define OUTPUT_WIDTH 80

/* Columns that the first `bytes` bytes of UTF-8 take. */
static inline int output_columns(const char *text, size_t bytes) {
    int n = 0;
    for (size_t k = 0; k < bytes; ++k) n += ((unsigned char)text[k] & 0xC0) != 0x80;
    return n;
}

/* The last blank within the first `width` columns, behind byte `from`; 0: none. */
static inline size_t output_break(const char *line, size_t len, size_t from, int width) {
    size_t fit = 0;
    for (size_t k = from; k < len && output_columns(line, k) <= width; ++k)
        if (line[k] == ' ') fit = k;
    return fit;
}

/* Adds a line, broken at blanks where it is wider than a terminal. What is broken off stands below
   the line's last column (behind two blanks or more), or below its indentation. */
static inline void output_line(r2_ctx *ctx, r2_text *out, const char *line, size_t len) {
    size_t hang = 0;
    int room = OUTPUT_WIDTH;
    while (hang < len && (line[hang] == ' ' || line[hang] == '-')) ++hang;
    for (size_t k = hang; k + 2 < len; ++k)
        if (line[k] == ' ' && line[k + 1] == ' ' && line[k + 2] != ' ' &&
            output_columns(line, k) < OUTPUT_WIDTH / 2)
            hang = k + 2;
    const int indent = output_columns(line, hang);
    while (output_columns(line, len) > room) {
        const size_t fit = output_break(line, len, hang, room);
        if (!fit) break; /* one long word */
        r2_text_add(ctx, out, line, fit);
        r2_text_addf(ctx, out, "\n%*s", indent, "");
        line += fit + 1, len -= fit + 1;
        room = OUTPUT_WIDTH - indent, hang = 0;
    }
    r2_text_add(ctx, out, line, len);
    r2_text_add(ctx, out, "\n", 1);
}

/* Adds all lines of a text so, each with `indent` before it. */
static inline void output_lines(r2_ctx *ctx, r2_text *out, const char *indent, const char *text) {
    while (*text) {
        const size_t len = strcspn(text, "\n");
        r2_text line = {NULL, 0, 0, false};
        r2_text_addf(ctx, &line, "%s", indent);
        r2_text_add(ctx, &line, text, len);
        if (line.failed) out->failed = true;
        else output_line(ctx, out, line.data, line.len);
        r2_text_free(ctx, &line);
        text += len + (text[len] == '\n');
    }
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

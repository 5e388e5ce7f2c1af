/* header.h: the numbers in the comments of r2rec.h are true because tests compute them: a test writes
   down what it has computed, in the words of the comment, and asks whether the header holds it. */
#ifndef R2_TEST_HEADER_H
#define R2_TEST_HEADER_H

#include <stdarg.h>

/* Whether r2rec.h holds these printf-style words on one line. */
#if defined(__GNUC__)
__attribute__((format(printf, 1, 2)))
#endif
static inline int
header_holds(const char *format, ...) {
    char want[256], line[512];
    FILE *file = fopen("r2rec.h", "rb");
    int found = 0;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(want, sizeof want, format, arguments);
    va_end(arguments);
    while (file && !found && fgets(line, sizeof line, file)) found = strstr(line, want) != NULL;
    if (file) fclose(file);
    if (!found) printf("    r2rec.h does not hold: %s\n", want);
    return found;
}

#endif

#include <complex.h>
#define R2REC_IMPLEMENTATION
#include "r2rec.h"
int main(void) { return 0; }

#!/bin/sh
# r2rec.h must compile without a warning in every language mode, by every compiler at hand, after any
# header of the C library, and must refuse options that change arithmetic.
cd "$(dirname "$0")/.." && . tests/test.sh

strict='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Werror'
flags="${CPPFLAGS:--I.} $(pkg-config --cflags libcjson 2>/dev/null)"

usable() { # usable COMPILER LANGUAGE OPTION...
    tried=$1 spoken=$2
    shift 2
    echo 'int main(void) { return 0; }' | "$tried" "$@" -x "$spoken" - -o /dev/null 2>/dev/null && return
    skip "$tried $* cannot build a program here"
    return 1
}

# check COMPILER LANGUAGE OPTION...: the interface alone, then interface and implementation
check() {
    compiler=$1 language=$2
    shift 2
    usable "$compiler" "$language" "$@" || return
    for define in '' '#define R2REC_IMPLEMENTATION'; do
        # The interface is included twice: the include guard is part of the promise.
        printf '%s\n#include "r2rec.h"\n#include "r2rec.h"\n' "$define" >"$here/check"
        ok "$compiler $* ${define:+(implementation)}" \
            "$compiler" $strict $flags "$@" -fsyntax-only -x "$language" "$here/check"
    done
}

for openmp in '' -fopenmp; do
    for compiler in gcc clang; do check $compiler c -std=c11 -Wstrict-prototypes $openmp; done
    for compiler in g++ clang++; do check $compiler c++ -std=c++17 $openmp; done
done
for compiler in gcc clang; do check $compiler c -std=c11 -DR2_REFERENCE; done
check g++ c++ -std=c++17 -DR2_REFERENCE
check gcc c -std=c2x
check clang c -std=c2x
check g++ c++ -std=c++20
check clang++ c++ -std=c++20
# no GNU C: one float is a vector; the INFINITY of the system is then a number too large
check clang c -std=c11 -fgnuc-version=0 -Wno-literal-range

# ---- after and before every header of the C library, whose macros are I, log( ), and, unix ... ----

c_headers='assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign
    stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar
    wctype'
cpp_headers='cassert ccomplex cctype cerrno cfenv cfloat cinttypes climits clocale cmath csetjmp csignal
    cstdarg atomic cstdio cstdlib cstring ctime cuchar cwchar cwctype complex thread algorithm'

among() { # among COMPILER LANGUAGE STANDARD HEADER...
    compiler=$1 language=$2 standard=$3
    shift 3
    usable "$compiler" "$language" "$standard" || return
    for header; do printf '#if __has_include(<%s>)\n#include <%s>\n#endif\n' "$header" "$header"; done \
        >"$here/headers"
    printf '#define R2REC_IMPLEMENTATION\n#include "r2rec.h"\n' >"$here/ours"
    for order in 'headers ours' 'ours headers'; do
        (cd "$here" && cat $order) >"$here/all"
        ok "$compiler $standard: $order" "$compiler" $strict $flags $standard -fsyntax-only \
            -Wno-deprecated -x "$language" "$here/all"
    done
}

c_files=$(for header in $c_headers; do echo "$header.h"; done)
among gcc c -std=c11 $c_files
among gcc c -std=gnu17 $c_files
among clang c -std=c2x $c_files
among g++ c++ -std=c++17 $cpp_headers
among clang++ c++ -std=gnu++17 $cpp_headers complex.h

# ---- options that change arithmetic ----

# refuses NAME COMPILER OPTION...: compilation fails, and the sentence names the option
refuses() {
    name=$1 compiler=$2
    shift 2
    usable "$compiler" c "$@" || return
    printf '#define R2REC_IMPLEMENTATION\n#include "r2rec.h"\n' |
        "$compiler" $flags -std=c11 "$@" -x c - >"$here/log" 2>&1
    ok "$compiler $* compiles" test $? -ne 0
    ok "$compiler $* is not named: $(head -c 300 "$here/log")" \
        grep -q -- "r2rec.h: compile without .*$name" "$here/log"
}

# Nothing else is refused, even where the compiler knows every number that a program passes.
printf '#define R2REC_IMPLEMENTATION\n#include "r2rec.h"\nint main(void) {
    r2_ctx ctx = r2_ctx_default();
    r2_model_config config = r2_model_config_default();
    r2_model model;
    return (int)r2_model_init(&ctx, &model, &config, false);
}\n' >"$here/known"
ok 'gcc -O3 is refused' gcc $flags -std=c11 -O3 -c -o /dev/null -x c "$here/known"

for compiler in gcc clang; do
    refuses -ffast-math $compiler -fsyntax-only -ffast-math
    refuses -Ofast $compiler -fsyntax-only -Ofast
    refuses -ffinite-math-only $compiler -fsyntax-only -ffinite-math-only
done
refuses -fassociative-math gcc -fsyntax-only -Ofast -fno-finite-math-only
refuses -fassociative-math gcc -fsyntax-only -fassociative-math -fno-signed-zeros -fno-trapping-math
refuses -funsafe-math-optimizations gcc -fsyntax-only -funsafe-math-optimizations
# clang does not say so before it has optimised
refuses -funsafe-math-optimizations clang -c -o /dev/null -O1 -funsafe-math-optimizations

ok 'no line is wider than 100 columns' [ "$(LC_ALL=C.UTF-8 awk 'length > 100' r2rec.h | wc -l)" -eq 0 ]

finish

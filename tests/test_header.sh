#!/bin/sh
# r2rec.h must compile without a warning in every language mode, by every compiler at hand.
cd "$(dirname "$0")/.." && . tests/test.sh

strict='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wcast-qual -Werror'
flags="$strict ${CPPFLAGS:--I.} $(pkg-config --cflags libcjson 2>/dev/null)"

# check COMPILER LANGUAGE OPTION...: the interface alone, then interface and implementation
check() {
    compiler=$1 language=$2
    shift 2
    if ! echo 'int main(void) { return 0; }' | "$compiler" "$@" -x "$language" - -o /dev/null 2>/dev/null; then
        skip "$compiler $* cannot build a program here"
        return
    fi
    for define in '' '#define R2REC_IMPLEMENTATION'; do
        # The interface is included twice: the include guard is part of the promise.
        if printf '%s\n#include "r2rec.h"\n#include "r2rec.h"\n' "$define" |
            "$compiler" $flags "$@" -fsyntax-only -x "$language" -; then
            passed=$((passed + 1))
        else
            echo "FAILED: $compiler $* ${define:+(implementation)}"
            failed=$((failed + 1))
        fi
    done
}

for openmp in '' -fopenmp; do
    for compiler in gcc clang; do check $compiler c -std=c11 -Wstrict-prototypes $openmp; done
    for compiler in g++ clang++; do check $compiler c++ -std=c++17 $openmp; done
done
check gcc c -std=c11 -DR2_REFERENCE
# no GNU C: one float is a vector; the INFINITY of the system is then a number too large
check clang c -std=c11 -fgnuc-version=0 -Wno-literal-range

finish

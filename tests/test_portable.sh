#!/bin/sh
# A portable build computes the same bytes whatever the compiler and its level: the vectors, from a random number to
# the trained weights and the metrics of data/mini, come out as they are in data/vectors with gcc -O3 and clang -O3;
# test_vectors.sh compares those of -O2.
cd "$(dirname "$0")/.." && . tests/test.sh

same() { # same COMPILER LEVEL: builds the writer of the vectors, compares what it writes
    mkdir "$here/$1$2" &&
        $1 -std=c11 "$2" -w -ffp-contract=off -I. ${CPPFLAGS:-} $(pkg-config --cflags libcjson 2>/dev/null) \
            -o "$here/$1$2.make" tests/vectors/make.c -lcjson -lm && "$here/$1$2.make" "$here/$1$2" >/dev/null &&
        cp data/vectors/v1/schema.json "$here/$1$2" && diff -r -q "$here/$1$2" data/vectors/v1
}

for pair in gcc,-O3 clang,-O3; do
    compiler=${pair%,*} level=${pair#*,}
    if ! command -v "$compiler" >/dev/null; then
        skip "no $compiler"
        continue
    fi
    (same "$compiler" "$level" && touch "$here/$pair") &
done
wait
for pair in gcc,-O3 clang,-O3; do
    command -v "${pair%,*}" >/dev/null && ok "$pair writes the same bytes" [ -e "$here/$pair" ]
done
finish

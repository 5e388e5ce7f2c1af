#!/bin/sh
# Two contexts in two threads are independent, and a crew's threads do not race: the thread checkers of
# the compilers at hand agree.
cd "$(dirname "$0")/.." && . tests/test.sh

flags="-std=c11 -O0 -g ${CPPFLAGS:--I.} $(pkg-config --cflags --libs libcjson 2>/dev/null || echo -lcjson) -lm"

for compiler in gcc clang; do
    try="$compiler -fsanitize=thread -pthread"
    if echo 'int main(void) { return 0; }' | $try -x c - -o "$here/try" 2>/dev/null && "$here/try"; then
        echo 'int main(void) { return 0; }' | $try -fopenmp -x c - -o "$here/try" 2>/dev/null &&
            try="$try -fopenmp"
        ok "$compiler builds it" $try tests/threads.c $flags -o "$here/threads"
        ok "$compiler: no data race" "$here/threads"
    else
        skip "$compiler has no thread checker here"
    fi
done

finish

#!/bin/sh
# The inputs that fuzzing has found, replayed without a fuzzer: every reader takes all of them.
cd "$(dirname "$0")/.." && . tests/test.sh

SAFE=${SAFE:-build/checked}
export UBSAN_OPTIONS=print_stacktrace=1
for corpus in tests/fuzz/corpus/*; do
    reader=${corpus##*/} program=$SAFE/tests/fuzz/fuzz_${corpus##*/}
    [ -x "$program" ] || make -s "$program"
    if "$program" "$corpus" >"$here/said" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $reader takes every input of its corpus"
        head -n 30 "$here/said"
    fi
done

finish

#!/bin/sh
# Part one alone is R2Rec: without [E4] and [E5] the header builds, runs the whole journey with plain
# loops, and computes what the fast engine computes.
cd "$(dirname "$0")/.." && . tests/test.sh

cc=${CC:-cc}
flags="-std=c11 -O1 $(pkg-config --cflags libcjson 2>/dev/null)"
libraries="$(pkg-config --libs libcjson 2>/dev/null || echo -lcjson) ${LDFLAGS:-} -lm"
fast='-march=native -ffp-contract=fast'
$cc $fast -fsyntax-only -x c /dev/null 2>/dev/null || fast=

# the header without the rooms from [E4] up to [E6]
mkdir "$here/part"
awk '/^\/\* =+ \[E4\] /{ gone = 1 } /^\/\* =+ \[E6\] /{ gone = 0 } !gone' r2rec.h >"$here/part/r2rec.h"
ok 'the rooms are not found' test $(($(wc -l <r2rec.h) - $(wc -l <"$here/part/r2rec.h"))) -gt 1000

ok 'part one does not compile alone' \
    $cc $flags -Wall -Wextra -Werror -DR2_REFERENCE "-I$here/part" ${CPPFLAGS:--I.} tests/journey.c \
    -o "$here/plain" $libraries
ok 'the engine does not compile' \
    $cc $flags $fast ${CPPFLAGS:--I.} tests/journey.c -o "$here/fast" $libraries

export OMP_WAIT_POLICY=passive
for build in plain fast; do
    ok "the journey of the $build build" "$here/$build" data/mini "$here/$build.txt" >"$here/$build.log"
done
ok 'the plain build is not the plain build' grep -q '^plain loops' "$here/plain.log"
ok 'both builds compute the same' "$here/fast" compare "$here/fast.txt" "$here/plain.txt"

# The comparison must find two numbers that are off, in any array: here the first of each kind.
for kind in logp gradient loss grpo adapters weight trace direct reasoned metrics; do
    awk -v kind="$kind" '!done && index($0, kind) == 1 { $3 = $3 * 1.5 + 0.7; $4 = $4 * 1.5 + 0.7; done = 1 } 1' "$here/plain.txt" >"$here/off.txt"
    "$here/fast" compare "$here/fast.txt" "$here/off.txt" >"$here/log"
    ok "a wrong number in $kind is not found" test $? -eq 1
done
head -n 40 "$here/plain.txt" >"$here/off.txt" # some are missing
"$here/fast" compare "$here/fast.txt" "$here/off.txt" >/dev/null
ok 'missing arrays are not noticed' test $? -eq 1

finish

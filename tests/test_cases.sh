#!/bin/sh
# Cases: small inputs of other people, and what is right for each (tests/README.md has the form).
#
#     test_cases.sh           all of them
#     test_cases.sh NAME...   these, with what they print
cd "$(dirname "$0")/.." && . tests/test.sh

# The one program that all cases use, under sanitizers where they exist.
PROBE=${PROBE:-${SAFE:-build/checked}/tests/cases/probe}
[ -x "$PROBE" ] || make -s "$PROBE" || exit 1
export PROBE CASE TMP CC="${CC:-cc}" CPPFLAGS="${CPPFLAGS:--I.}" LC_ALL=C
export ASAN_OPTIONS="detect_leaks=0:exitcode=99:${ASAN_OPTIONS:-}" OMP_WAIT_POLICY=passive
limit=$(command -v timeout >/dev/null && echo "timeout ${CASE_LIMIT:-300}")
fatal='AddressSanitizer|runtime error:|Segmentation fault|Aborted|^memory: .* not given back'

# Says what is wrong with the output in $here/said; nothing when it is right.
wrong() {
    grep -E "$fatal" "$here/said"
    while IFS= read -r line; do
        case $line in
        '' | '#'*) ;;
        '!'*) grep -m 3 -E -e "${line#!}" "$here/said" | sed "s/^/must not be there: /" ;;
        *) grep -q -E -e "$line" "$here/said" || echo "missing: $line" ;;
        esac
    done <"$CASE/expect"
}

sentence() { sed -n '1s/^# //p' "$CASE/expect"; }

run_case() { # run_case NAME
    name=$1 CASE=tests/cases/$1 TMP=$here/$1
    mkdir "$TMP"
    $limit sh "$CASE/cmd" >"$here/said" 2>&1 </dev/null
    echo "exit $?" >>"$here/said"
    wrong >"$here/wrong"
    rm -rf "$TMP"
    open=$(cat tests/cases/OPEN 2>/dev/null | grep -c -x -e "$name")
    if [ -n "$verbose" ]; then sed "s/^/    /" "$here/said"; fi
    if grep -q -x 'exit 77' "$here/said"; then
        skip "$name: $(tail -n 2 "$here/said" | head -n 1)"
    elif [ ! -s "$here/wrong" ] && [ "$open" = 0 ]; then
        passed=$((passed + 1))
        echo "ok      $name"
    elif [ ! -s "$here/wrong" ]; then
        failed=$((failed + 1))
        echo "FAILED  $name is right now: take it out of tests/cases/OPEN"
    elif [ "$open" = 1 ]; then
        skip "$name is open: $(sentence)"
        if [ -n "$verbose" ]; then sed 's/^/    /' "$here/wrong"; fi
    else
        failed=$((failed + 1))
        echo "FAILED  $name: $(sentence)"
        sed 's/^/    /' "$here/wrong"
        sed 's/^/    | /' "$here/said" | head -n 20
    fi
}

verbose=${1:+1}
[ $# -gt 0 ] || set -- $(ls tests/cases/*/cmd | sed 's:tests/cases/::; s:/cmd::')
for case; do
    if [ -f "tests/cases/$case/cmd" ]; then run_case "$case"; else ok "no case $case" false; fi
done
for name in $(cat tests/cases/OPEN 2>/dev/null); do
    [ -f "tests/cases/$name/cmd" ] || ok "tests/cases/OPEN names $name, which is no case" false
done

finish

#!/bin/sh
# Runs test programs one after another and adds up what they say.
#
#     run.sh PROGRAM...
#
# A program ends its output with `# passed failed skipped` and exits with 1 when a test failed, else
# with 0. One that ends otherwise has crashed: that counts as one failure, and nothing else it said
# counts. The output of a program is shown only when it failed. No test reads standard input.
set -u

passed=0 failed=0 skipped=0
log=$(mktemp) && trap 'rm -f "$log"' EXIT || exit 1
limit=$(command -v timeout >/dev/null && echo "timeout ${TEST_LIMIT:-1800}")

now() { date +%s.%N | sed 's/N$/0/'; }

export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

for program; do
    start=$(now)
    $limit "$program" >"$log" 2>&1 </dev/null
    status=$?
    seconds=$(echo "$start $(now)" | awk '{ printf "%.1f", $2 - $1 }')

    counts=$(tail -n 1 "$log" | sed -n 's/^# \([0-9]* [0-9]* [0-9]*\)$/\1/p')
    set -- $counts # the list that the loop walks is its own
    if [ $# -eq 3 ] && [ $status -eq $(($2 > 0)) ]; then
        p=$1 f=$2 s=$3 note=
    else
        p=0 f=1 s=0 note=" crashed, exit status $status"
    fi
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))

    printf '%-36s %4d ok %3d failed %3d skipped %7s s%s\n' \
        "$(echo "$program" | sed 's:^build/::; s:tests/::; s:^checked/\(.*\):\1 (sanitizers):')" \
        "$p" "$f" "$s" "$seconds" "$note"
    if [ "$f" -gt 0 ]; then sed 's/^/    /' "$log"; elif [ "$s" -gt 0 ]; then sed -n 's/^skipped/    skipped/p' "$log"; fi
done

[ "$skipped" -eq 0 ] && echo "$passed passed, $failed failed" ||
    echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

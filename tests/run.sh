#!/bin/sh
# Runs test programs, as many at once as there are processors, and adds up what they say.
#
#     run.sh PROGRAM...
#
# A program ends its output with `# passed failed skipped` and exits with 1 when a test failed, else
# with 0. One that ends otherwise, or ran no test, has crashed: that is one failure, and nothing else
# that it said counts. The output of a program is shown only when it failed. No test reads standard
# input. Results are told in the order of the arguments. JOBS=1: one program after another.
set -u

logs=$(mktemp -d) && trap 'rm -rf "$logs"' EXIT || exit 1
jobs=${JOBS:-$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)}
limit=$(command -v timeout >/dev/null && echo "timeout ${TEST_LIMIT:-1800}")
export logs limit UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"

# Program $2, the $1-th: its output in $logs/$1, then its status and seconds in $logs/$1.end.
run='
now() { date +%s.%N | sed "s/N$/0/"; }
start=$(now)
$limit "$2" >"$logs/$1" 2>&1 </dev/null
echo "$? $(echo "$start $(now)" | awk "{ printf \"%.1f\", \$2 - \$1 }")" >"$logs/$1.part"
mv "$logs/$1.part" "$logs/$1.end"'

# What each program said, as soon as those before it have ended; then the sum.
tell() {
    passed=0 failed=0 skipped=0 number=0
    for program; do
        number=$((number + 1)) log=$logs/$number status=1 seconds=0
        until [ -e "$log.end" ] || [ -e "$logs/over" ]; do sleep 0.1; done
        [ ! -e "$log.end" ] || read -r status seconds <"$log.end"
        set -- $(tail -n 1 "$log" | sed -n 's/^# \([0-9]* [0-9]* [0-9]*\)$/\1/p')
        if [ $# -eq 3 ] && [ "$status" -eq $(($2 > 0)) ] && [ $(($1 + $2 + $3)) -gt 0 ]; then
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
}

tell "$@" &
number=0
for program; do
    number=$((number + 1))
    printf '%s\0%s\0' $number "$program"
done | xargs -0 -r -n 2 -P "$jobs" sh -c "$run" sh
: >"$logs/over"
wait $!

#!/bin/sh
# Fuzzes each target for T seconds (60), or RUNS executions, one after another, and tells how far it came.
#
#     T=600 run.sh build/fuzz/fuzz_ratings ...
#
# FLAGS adds options of libFuzzer. build/fuzz/executions.log keeps a line for each: reader, executions, edges, exit status.
# It begins with tests/fuzz/corpus/READER and what earlier runs have found, in build/fuzz/corpus. An
# input that fails is kept in build/fuzz as READER-crash-...; it becomes a test: put it into
# tests/fuzz/corpus/READER, where `make test` replays it. `MERGE=1 run.sh ...` puts into that folder what
# reaches something new, as few inputs as it takes.
set -u
cd "$(dirname "$0")/../.."
failed=0 total=0
export ASAN_OPTIONS=allocator_may_return_null=1 UBSAN_OPTIONS=print_stacktrace=1
options='-rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=20 -max_len=4096 -use_value_profile=1 '${FLAGS:-}
limit=-max_total_time=${T:-60}
[ -z "${RUNS:-}" ] || limit=-runs=$RUNS

for target; do
    reader=${target##*/fuzz_}
    found=build/fuzz/corpus/$reader seeds=tests/fuzz/corpus/$reader
    mkdir -p "$found"
    if [ -n "${MERGE:-}" ]; then
        "$target" -merge=1 -max_len=4096 "$seeds" "$found" >"build/fuzz/$reader.log" 2>&1
        printf '%-12s %4d inputs in %s\n' "$reader" "$(ls "$seeds" | wc -l)" "$seeds"
        continue
    fi
    "$target" $options "$limit" -print_final_stats=1 -artifact_prefix="build/fuzz/$reader-" \
        "$found" "$seeds" >"build/fuzz/$reader.log" 2>&1
    status=$?
    n=$(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/$reader.log")
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "build/fuzz/$reader.log" | tail -n 1)
    total=$((total + ${n:-0}))
    echo "$reader ${n:-0} ${edges:-0} $status" >>build/fuzz/executions.log
    [ $status -eq 0 ] || failed=$((failed + 1))
    printf '%-12s %9d executions, %6d edges%s\n' "$reader" "${n:-0}" "${edges:-0}" \
        "$([ $status -eq 0 ] || echo ", FAILED: build/fuzz/$reader.log")"
    if [ $status -ne 0 ]; then
        grep -E 'ERROR|SUMMARY|runtime error|deadly signal|Test unit written' "build/fuzz/$reader.log" | head -n 6 | sed 's/^/    /'
    fi
done
[ -n "${MERGE:-}" ] || echo "$total executions, $failed targets failed"
[ $failed -eq 0 ]

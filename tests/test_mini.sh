#!/bin/sh
# data/mini is exactly what its generator writes, and has the shape that its README promises.
set -u
cd "$(dirname "$0")/.."
passed=0 failed=0
fresh=$(mktemp -d) && trap 'rm -rf "$fresh"' EXIT || exit 1

ok() { # ok WHAT COMMAND...
    what=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAILED: $what"; fi
}

ok "the generator runs" build/data/mini/generate "$fresh"
ok "movies.csv is what the generator writes" cmp data/mini/movies.csv "$fresh/movies.csv"
ok "ratings.csv is what the generator writes" cmp data/mini/ratings.csv "$fresh/ratings.csv"
bytes=$(cat data/mini/*.csv | wc -c)
ok "less than 1 MB" test "$bytes" -lt 1000000
ok "no duplicate (user, film)" test -z "$(cut -d, -f1,2 data/mini/ratings.csv | sort | uniq -d)"
ok "no duplicate title" test -z "$(cut -d, -f2- data/mini/movies.csv | sort | uniq -d)"
ok "the generator refuses a folder that is not there" \
    sh -c '! build/data/mini/generate /no/such/folder 2>/dev/null'

echo "# $passed $failed 0"
[ $failed -eq 0 ]

#!/bin/sh
# examples/experiments/headline, on few steps: the same bytes for any number of threads, every row
# there, equal computing, no test figure when only validation is asked for, one clear line for what it
# does not know.
cd "$(dirname "$0")/.." && . tests/test.sh

headline=build/examples/experiments/headline

few_users 40

short() { # short NAME OPTION...: of the first forty users
    name=$1
    shift
    $headline --data "$here/data" --out "$here/$name" --steps 4 --models 1 --design records "$@" \
        >"$here/$name.md" 2>"$here/error"
}

ok 'a short run' short one --threads 1
ok 'with two threads' short two --threads 2
ok 'the same bytes' cmp "$here/one/headline.json" "$here/two/headline.json"
ok 'and the same tokens' cmp "$here/one/headline/quick/records-s1.csv" "$here/two/headline/quick/records-s1.csv"
for row in 'conditional logit' 'conditional logit, pairs' 'total of the traces, no model' direct reasoned; do
    ok "a row for: $row" grep -q "^| records | 1 | $row | 0\.[0-9]* \[.*\] | 0\.[0-9]* \[" "$here/one.md"
done
ok 'direct has more steps' grep -q '^| records | 1 | direct .* | 10 | ' "$here/one.md"
ok 'validation alone' short three --threads 1 --check --only logit
ok 'has no test figure' grep -q '^| records | 1 | conditional logit | 0\.[0-9]* \[[^|]*\] | | ' "$here/three.md"
$headline --data data/mini --out "$here/one" --steps 4 --models 1 --design records >/dev/null 2>"$here/error"
ok 'other data in the same directory: refused' [ $? -eq 1 ]
ok 'in one line' [ "$(wc -l <"$here/error")" -eq 1 ]
ok 'that says whose results these are' grep -q 'holds results of .*, not of data/mini' "$here/error"
$headline --out "$here/data/movies.csv/below" >/dev/null 2>"$here/error"
ok 'a directory that cannot be: said before any work' grep -q -x "headline: --out $here/data/movies.csv/below: Not a directory" "$here/error"
$headline --out "$here/out" --design nothing >/dev/null 2>"$here/error"
ok 'an unknown design: exit status 2' [ $? -eq 2 ]
ok 'and one line' [ "$(wc -l <"$here/error")" -eq 1 ]

finish

#!/bin/sh
# examples/experiments/results, on forty users and methods that take no training: the same bytes for
# any number of threads, figures that follow from the rows on disk, rows that are computed once, no
# empty tables.
cd "$(dirname "$0")/.." && . tests/test.sh

results=build/examples/experiments/results

few_users 40

short() { # short NAME OPTION...
    name=$1
    shift
    $results --data "$here/data" --out "$here/$name" --seeds 2 "$@" >"$here/$name.md" 2>"$here/error"
}

method_hits() { # method_hits METHOD PROTOCOL: over its sets of candidates
    hit_ratio "$here/one/results/quick/$1-$2"-m1-c?.json
}

ok 'a method' short one --threads 1 --only popularity
ok 'and another beside it' short one --threads 1 --only ease
ok 'and an untrained model' short one --threads 1 --only untrained
ok 'what there is to do is said first' grep -q "^results: [0-9]* rows of .*; about [0-9]* minutes* on 1 processor," "$here/error"
short two --threads 2 --only popularity && short two --threads 2 --only ease
ok 'with two threads' short two --threads 2 --only untrained
ok 'the same bytes' cmp "$here/one/results.json" "$here/two/results.json"
ok 'and the same table' [ "$(sed 1d "$here/one.md")" = "$(sed 1d "$here/two.md")" ]
for protocol in 1+19 1+99 c5 popular all-1+19 catalogue; do
    n=35 # the favourites of five more nobody else has
    [ $protocol != all-1+19 ] || n=40
    ok "a table for $protocol" grep -q -x "$protocol, $n users" "$here/one.md"
    for method in popularity ease; do
        ok "$protocol, $method: what its rows say" awk -v head="$protocol, $n users" \
            -v row="| $method | $(method_hits $method $protocol) [" \
            '$0 == head { on = 1 } /^$/ { on += on > 0 } on > 0 && on < 4 && index($0, row) == 1 { found = 1 }
             END { exit !found }' "$here/one.md"
    done
done
ok 'untrained: what its rows say' grep -q -F "| untrained | $(method_hits untrained 1+19) [" "$here/one.md"
ok 'no table without a row' awk '/^\|-/ { head = 1; next } head && !/^\|/ { exit bad = 1 } { head = 0 }
    END { exit bad || head }' "$here/one.md"

ok 'what is not in a table is said, and why' grep -q -x \
    'Left out: ials bpr-mf lightgcn sasrec (takes minutes: --full, or --only and its name)' "$here/one.md"
ok 'also what is still to come' grep -q '^Left out: .* item-knn .*(not computed yet)$' "$here/one.md"

ok 'how many favourites nobody else has' grep -q 'favourites of 5 more test users' "$here/one.md"
mkdir "$here/other" && cp "$here"/data/* "$here/other"
ok 'several data sets' $results --data "$here/data $here/other" --out "$here/sets" --only popularity \
    >"$here/sets.md" 2>"$here/error"
for set in data other; do
    for protocol in 1+19 all-1+19; do
        hits=$(hit_ratio "$here/sets/$set/results/quick/popularity-$protocol"-m1-c?.json)
        n=35
        [ $protocol = 1+19 ] || n=40
        ok "$set, $protocol: what its rows say" \
            grep -q "^| $set | 40, .* | $protocol | $n | popularity $hits \[" "$here/sets.md"
    done
done
ok 'and no other protocol' [ ! -e "$here/sets/data/results/quick/popularity-c5-m1-c1.json" ]

rows="$here/one/results/quick"
cp "$rows/ease-c5-m1-c2.json" "$here/before" && rm "$rows/ease-c5-m1-c2.json"
touch -t 200101010000 "$rows/ease-c5-m1-c1.json"
ok 'going on where it stood' short one --threads 1 --only ease
ok 'makes the row that is missing' cmp "$rows/ease-c5-m1-c2.json" "$here/before"
ok 'and no other' [ "$rows/ease-c5-m1-c1.json" -ot "$here/before" ]

$results --data data/mini --out "$here/one" --only ease >/dev/null 2>"$here/error"
ok 'other data in the same directory: refused' [ $? -eq 1 ]
ok 'with whose results these are' grep -q 'holds results of .*, not of data/mini' "$here/error"
$results --out "$here/out" --only nothing >/dev/null 2>"$here/error"
ok 'an unknown method: exit status 2' [ $? -eq 2 ]
ok 'and the names of all' grep -q 'no method "nothing"; the methods are random popularity' "$here/error"

finish

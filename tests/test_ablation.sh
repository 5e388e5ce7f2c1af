#!/bin/sh
# examples/experiments/ablation, on forty users and four steps of training: the same bytes for any
# number of threads, figures that follow from the rows of all sets of candidates, weights that are
# trained once.
cd "$(dirname "$0")/.." && . tests/test.sh

ablation=build/examples/experiments/ablation

few_users 40

short() { # short NAME ROW OPTION...
    name=$1 row=$2
    shift 2
    $ablation --data "$here/data" --out "$here/$name" --steps 4 --seeds 2 --only "$row" "$@" \
        >"$here/$name.md" 2>"$here/error"
}

row_hits() { # row_hits ROW MODE: over its sets of candidates
    hit_ratio "$here/one/ablation/quick/$1"-s4-m1-c?-"$2.json"
}

same_rows() { # same_rows ROW: as with two threads
    for row_file in "$here"/one/ablation/quick/"$1"-s4-m1-c*.json; do
        cmp "$row_file" "$here/two/ablation/quick/$(basename "$row_file")" || return
    done
}

same_hits() { # same_hits ROW ROW: the same ranks of everybody, however they were answered
    for row_file in "$here"/one/ablation/quick/"$1"-s4-m1-c*.json; do
        other=$(basename "$row_file" | sed "s/^$1/$2/")
        cmp -s "$row_file" "$here/one/ablation/quick/$other" || return
    done
}
differs() { ! same_hits "$@"; }

rows='whole no-chains k-1 chains-uniform chains-random-u1 chains-open ease no-ratings permuted guided shuffled'
rows="$rows final-only progressive-50 mask-all mask-none"
for row in $rows; do ok "$row" short one "$row" --threads 1; done
for row in whole chains-open ease shuffled; do
    ok "$row with two threads" short two "$row" --threads 2
    ok "$row: the same bytes" same_rows "$row"
done
for row in $rows; do
    ok "$row: two sets of candidates, answered in two ways" \
        [ "$(ls "$here/one/ablation/quick" | grep -c "^$row-s4-m1-c[12]-\(direct\|reasoned\)\.json$")" -eq 4 ]
    ok "$row: the table says what the rows say" grep -q \
        "^| $row | .* | $(row_hits "$row" direct) \[[^|]* | [^|]* | $(row_hits "$row" reasoned) \[" "$here/one.md"
done
ok 'the whole differs from itself by nothing' grep -q \
    '^| whole |.*| +0.000 \[+0.000, +0.000\] |.*| +0.000 \[+0.000, +0.000\] |' "$here/one.md"
ok 'sets of candidates differ' [ "$(row_hits whole direct)" != "$(rm "$here/one/ablation/quick/whole-s4-m1-c2-direct.json" && row_hits whole direct)" ]

# What a run learns without earlier steps is what the last step alone teaches, to the last byte
ok 'without earlier steps, progressive masking is its last step' same_hits whole final-only
ok 'with them it is not' differs whole progressive-50
ok 'nor is what every mask teaches' differs whole mask-all
ok 'nor what none teaches' differs whole mask-none

ok '--check ranks validation positives' short one whole --threads 1 --check
ok 'in rows of their own' [ "$(ls "$here/one/ablation/quick" | grep -c '^whole-s4-m1-v[12]-')" -eq 4 ]
ok 'and says so' grep -q -e '--check' "$here/one.md"
short one whole --threads 1

cp "$here/one/ablation.json" "$here/before"
weights="$here/one/ablation/quick/model-whole-s4-m1/model.safetensors"
ok 'the weights of the whole are kept' [ -s "$weights" ]
touch -t 200101010000 "$weights"
ok 'the row that is missing' short one whole --threads 1
ok 'is as before' cmp "$here/one/ablation.json" "$here/before"
ok 'from the weights that were there' [ "$weights" -ot "$here/data/movies.csv" ]

$ablation --out "$here/out" --only nothing >/dev/null 2>"$here/error"
ok 'an unknown row: exit status 2' [ $? -eq 2 ]
ok 'and the names of all' grep -q 'no row "nothing"; the rows are whole no-chains' "$here/error"

finish

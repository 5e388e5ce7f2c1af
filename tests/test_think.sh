#!/bin/sh
# examples/experiments/think, on few steps: the same bytes for any number of threads, equal computing,
# goes on where it stood, what it writes can be read, and one clear line for what it does not understand.
cd "$(dirname "$0")/.." && . tests/test.sh

think=build/examples/experiments/think

few_users 60

short() { # short NAME OPTION...: of the first sixty users
    name=$1
    shift
    $think --data "$here/data" --out "$here/$name" --steps 8 --models 1 "$@" >"$here/$name.md" 2>"$here/error"
}

ok 'a short run' short one --threads 1
ok 'with two threads' short two --threads 2
for file in think.json think.dat; do
    ok "$file: the same bytes with another number of threads" cmp "$here/one/$file" "$here/two/$file"
done
ok 'the table is written as it is said' cmp "$here/one.md" "$here/one/think.md"
for student in 'counted sum, no model' direct reasoned 'total only' shuffled 'direct, longer' 'reasoned, longer' \
    'direct + GRPO' 'reasoned + GRPO'; do
    ok "a row for: $student" grep -q "^| $student | 1 | " "$here/one.md"
done
# 8 reasoned steps of 70 words a sequence; the others within a step of the same multiply-adds
ok 'direct has more steps' grep -q '^| direct | 1 | 1[78] | ' "$here/one.md"
ok 'shuffled has as many as reasoned' grep -q '^| shuffled | 1 | 8 | ' "$here/one.md"
ok 'longer: twice the steps' grep -q '^| reasoned, longer | 1 | 16 | ' "$here/one.md"
# a step of GRPO costs as much as 5.0 of the others: (33 + 5 x 37) x 5 words against 70 x 3, and more attention
ok 'GRPO has a fifth of the steps of as much computing' grep -q '^| reasoned + GRPO | 1 | \(9\|10\) | ' "$here/one.md"
ok 'a row for: what GRPO adds' [ "$(grep -c '^| [a-z]* + GRPO | 1 | [-+][0-9.]* \[[^|]*\] | [-+][0-9.]* \[[^|]*\] | $' "$here/one.md")" -eq 2 ]
ok 'the picture says which seed it shows' [ "$(grep -c "^set xlabel '.*seed 1'" "$here/one/think.gp")" -eq 2 ]
if command -v gnuplot >/dev/null; then ok 'a picture' grep -q '<svg' "$here/one/think.svg"; fi

# what is there is not computed again: a row that was changed stays, one that is gone comes back
rows=$here/one/think/quick
sed 's/"validation_hr@1":[0-9.e-]*/"validation_hr@1":0.125/' "$rows/direct-l1-s1.json" >"$here/row"
cp "$here/row" "$rows/direct-l1-s1.json" && cp "$rows/total-l1-s1.json" "$here/total" && rm "$rows/total-l1-s1.json"
ok 'a second run' short one --threads 1
ok 'a row that is there stays' cmp "$here/row" "$rows/direct-l1-s1.json"
ok 'and is what the table says' grep -q '^| direct | 1 .* | 0.125 | ' "$here/one.md"
ok 'a row that is gone comes back' grep -q '"better"' "$rows/total-l1-s1.json"
ok 'other steps are another experiment' short one --threads 1 --steps 9 --only counted
ok 'and replace the row' grep -q '9 steps' "$rows/counted-l1-s1.json"

# two seeds: the picture says what its two dots are
ok 'two seeds' short one --threads 1 --models 2 --only counted
ok 'a dot for each' grep -q "^set xlabel 'a dot per seed, 1 to 2 from the left'" "$here/one/think.gp"

# a directory holds the rows of one data set: those that are there stay
cp "$here/one/think.md" "$here/before"
$think --data data/mini --out "$here/one" --steps 8 --models 1 >/dev/null 2>"$here/error"
ok 'other data in the same directory: refused' [ $? -eq 1 ]
ok 'in one line' [ "$(wc -l <"$here/error")" -eq 1 ]
ok 'that says whose results these are' grep -q 'holds results of .*, not of data/mini' "$here/error"
ok 'and the table stays' cmp "$here/before" "$here/one/think.md"

refuses() { # refuses STATUS WORDS OPTION...: one line that holds WORDS
    status=$1 words=$2
    shift 2
    $think --out "$here/out" "$@" >/dev/null 2>"$here/error"
    ok "$*: exit status $status" [ $? -eq "$status" ]
    ok "$*: one line with $words" [ "$(grep -c -e "$words" "$here/error")" = 1 -a "$(wc -l <"$here/error")" -eq 1 ]
}

refuses 2 nonsense --nonsense
refuses 2 layers --layers 0
refuses 2 steps --steps
refuses 2 'seed' --seed none
refuses 2 '--models: expected a whole number from 1 to 1000, found "3x"' --models 3x
refuses 2 '--steps: expected .* found "99999999999"' --steps 99999999999
refuses 1 "--out $here/data/movies.csv/below: Not a directory" --out "$here/data/movies.csv/below"
refuses 2 'only' --only nobody
refuses 1 "$here/missing" --data "$here/missing"
ok 'data that are not there do not claim the directory' [ ! -e "$here/out/think/quick/data.json" ]
$think --help >"$here/said" 2>"$here/error"
ok '--help' [ $? -eq 0 -a ! -s "$here/error" -a "$(sed -n '1s/ .*//p' "$here/said")" = usage: ]

finish

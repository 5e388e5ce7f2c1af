#!/bin/sh
# examples/tools/chains: any ratings file by its path or through a pipe, the counts it promises, a
# picture that Graphviz can draw, and one clear line for what it cannot read.
cd "$(dirname "$0")/.." && . tests/test.sh

chains=build/examples/tools/chains prompts=build/examples/tools/prompts
real=../shared/data/ml-latest-small
[ -d data/ml-latest-small ] && real=data/ml-latest-small

if [ ! -x $chains ]; then
    skip "build/examples/tools/chains is not built"
    finish
    exit
fi

says() { grep -q -e "$1" "$here/said"; }

$chains data/mini --out "$here" >"$here/said"
ok 'exit status' [ $? -eq 0 ]
ok 'report' says "^interactions $(($(wc -l <data/mini/ratings.csv) - 1))\$"
ok 'butterflies' says '^butterflies [1-9][0-9]*$'
ok 'five chains' says '^  5\. score'
ok 'picture' grep -q '^  u0 -> i0' "$here/chain.dot"
if command -v dot >/dev/null; then ok 'drawing' grep -q '<svg' "$here/chain.svg"; fi
counted=$(grep '^butterflies' "$here/said")

# the same file, another way of writing it: tabs, no names, a pipe
sed '1d; s/,/\t/g' data/mini/ratings.csv | $chains - --out "$here" --chains 1 >"$here/said"
ok 'a pipe says the same' says "^$counted\$"

# a question: the last edge of the picture is dashed, and its rating is a question mark
user=$(sed -n '2s/,.*//p' data/mini/ratings.csv)
item=$(sed -n '2s/^[^,]*,\([^,]*\),.*/\1/p' data/mini/ratings.csv)
$chains data/mini --user "$user" --item "$item" --out "$here" >"$here/said"
ok 'a question' says 'gave it ?$'
ok 'a dashed edge' grep -q 'i1 -> u0 \[style=dashed\]' "$here/chain.dot"

for wrong in '/no/such/file' 'tests' 'data/mini --user nobody' 'data/mini --item nothing'; do
    $chains $wrong --out "$here" >/dev/null 2>"$here/said"
    ok "$wrong: exit status" [ $? -eq 1 ]
    ok "$wrong: one line" [ "$(wc -l <"$here/said")" -eq 1 ]
done

refuses() { # refuses STATUS WORDS OPTION...: one line that holds WORDS
    status=$1 words=$2
    shift 2
    "$@" >/dev/null 2>"$here/said"
    ok "$*: exit status $status" [ $? -eq "$status" ]
    ok "$*: one line with $words" [ "$(grep -c -e "$words" "$here/said")" = 1 -a "$(wc -l <"$here/said")" -eq 1 ]
}
for number in 3x -5 '' 99999999999 0; do
    refuses 2 "^chains: --chains: expected a whole number from 1 to 1000, found \"$number\"\$" $chains data/mini --chains "$number"
    [ "$number" = 0 ] && continue # no limit
    refuses 2 "^prompts: --tokens: expected a whole number from 0 to 1000000, found \"$number\"\$" $prompts --tokens "$number"
done
for number in 3x -5 '' nan inf 0x1; do
    refuses 2 "^chains: --min-rating: expected a number from 0 to 1000000, found \"$number\"\$" $chains data/mini --min-rating "$number"
done
refuses 2 '"--nonsense"' $chains data/mini --nonsense
refuses 2 '"data"' $chains data/mini data
refuses 2 '--help' $chains
refuses 2 '--user needs a value' $prompts --user
refuses 1 '^chains: /nope: ' $chains data/mini --items /nope --out "$here"
refuses 1 '^chains: --out /dev/null/x: Not a directory$' $chains data/mini --out /dev/null/x
for program in chains prompts; do
    build/examples/tools/$program --help >"$here/said" 2>"$here/error"
    ok "$program --help" [ $? -eq 0 -a ! -s "$here/error" ]
    ok "$program --help prints its usage" says "^usage: $program "
done

# titles of one's own; what a terminal would obey does not reach it
printf 'movieId,title\n%s,Red \033[31m\302\233 title\n' "$item" >"$here/titles.csv"
$chains data/mini --items "$here/titles.csv" --user "$user" --item "$item" --out "$here" >"$here/said"
ok 'a title of a file beside' says 'Red ?\[31m?? title'
ok 'no control characters' [ -z "$(LC_ALL=C tr -d '\n\t\040-\377' <"$here/said")" ]
ok 'the report counts titles' says '^titles 1, and 0 of items that nobody rated$'

if [ -e $real/ratings.csv ]; then
    for known in '0 114132206' '3 62154383' '4 13096023'; do
        $chains $real --min-rating ${known% *} --chains 1 --out "$here" >"$here/said"
        ok "butterflies from ${known% *} stars" says "^butterflies ${known#* }\$"
    done
fi

printf 'reader;book;stars\nann;x;5\nann;y;4\nbob;x;3\nbob;y;2\n' >"$here/own.csv"
refuses 1 'own.csv:1: .*; --user-column, --item-column and so on say them$' $chains "$here/own.csv" --out "$here"
$chains "$here/own.csv" --user-column reader --item-column book --rating-column stars --out "$here" >"$here/said"
ok 'columns of other names' grep -q '^butterflies 1$' "$here/said"
$chains "$here/own.csv" --user-column reader --item-column book --rating-column stars --not-rated 2 --out "$here" >"$here/said"
ok 'a mark for not rated' grep -q "^not rated, left out: 1$" "$here/said"

finish

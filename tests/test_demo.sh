#!/bin/sh
# The main job as a user meets it: bad input gives one clear line and no crash; the whole journey, on
# real data when they are beside the repository, ends where the README says.
cd "$(dirname "$0")/.." && . tests/test.sh

real=../shared/data/ml-latest-small
[ -d data/ml-latest-small ] && real=data/ml-latest-small

# --- bad input --------------------------------------------------------------------------------------

# refuses WORDS OPTION...: one line on standard error that holds WORDS; exit status 1 or 2
refuses() {
    words=$1
    shift
    "$demo" --out "$here/out" "$@" >"$here/said" 2>"$here/error"
    status=$?
    if [ $status -ge 1 ] && [ $status -le 2 ] && [ "$(wc -l <"$here/error")" -eq 1 ] &&
        grep -q -e "$words" "$here/error"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $demo $*: status $status, '$words' expected in one line, but it said:"
        head -n 20 "$here/error"
    fi
}

broken() { # broken NAME SED_SCRIPT: a copy of data/mini whose ratings went through sed
    mkdir -p "$here/$1"
    cp data/mini/movies.csv "$here/$1"
    sed "$2" data/mini/ratings.csv >"$here/$1/ratings.csv"
}

broken letters '100s/,[0-9.]*,\([0-9]*\)$/,good,\1/'
broken columns '200s/,[0-9]*$//'
broken empty '2,$d'
echo >"$here/file"
mkdir "$here/cut" "$here/nothing" && cp data/mini/movies.csv "$here/cut"
{ head -n 5000 data/mini/ratings.csv && printf '61,1029,4'; } >"$here/cut/ratings.csv"

for demo in build/examples/movielens_demo build/checked/examples/movielens_demo; do
    [ -x $demo ] || { skip "bad input under sanitizers" && continue; }
    refuses "$here/missing" --data "$here/missing"
    refuses "$here/nothing" --data "$here/nothing"
    refuses 'ratings.csv:100: ' --data "$here/letters"
    refuses 'ratings.csv:200: ' --data "$here/columns"
    refuses 'ratings.csv' --data "$here/empty"
    refuses 'ratings.csv:5001: ' --data "$here/cut"
    refuses 'no user "nobody"' --data data/mini --user nobody --quiet
    refuses "--candidates $here/none: " --data data/mini --candidates "$here/none"
    refuses '"--nonsense"' --nonsense
    refuses '--seed' --seed
    refuses '--seed' --seed ten
    refuses '--threads' --threads 0
    refuses '--threads' --threads 2x
    refuses '--sft-steps' --sft-steps -1
    refuses "$here/file" --out "$here/file"
    refuses "$here/file/below" --out "$here/file/below"
    "$demo" --help >"$here/said" 2>"$here/error"
    ok "$demo --help names every option" test $? -eq 0 -a "$(grep -o -e '--[a-z-]*' "$here/said" | sort -u | wc -l)" -eq 26 \
        -a ! -s "$here/error"
done

# --- the same bytes ---------------------------------------------------------------------------------

# Untrained models are evaluated all the same, so that few steps are enough to see every part at work.
demo=build/examples/movielens_demo
short() { # short NAME OPTION...: a short journey, its files in $here/NAME
    name=$1
    shift
    $demo --data data/mini --out "$here/$name" --sft-steps 6 --grpo-steps 1 "$@" >"$here/$name.said" 2>&1
}
ok "a short journey" short one --threads 1
ok "with two threads" short two --threads 2 --dump
for file in metrics.json candidates.csv traces.jsonl model.safetensors codebook.json; do
    ok "$file: the same bytes again, with another number of threads" cmp "$here/one/$file" "$here/two/$file"
done

# the dump: every candidate, and rankings from which trec_eval's arithmetic gives the metrics again
dumped=$here/two/dump cases=$(($(wc -l <"$here/two/candidates.csv") - 1))
ok "a line for every candidate" test "$(wc -l <"$dumped/candidates.jsonl")" -eq $((cases * 20))
ok "the role of every interaction" test "$(wc -l <"$dumped/split.tsv")" -eq "$(wc -l <data/mini/ratings.csv)"
ok "the test candidates are those of candidates.csv" test "$(tr '\t' , <"$dumped/test.tsv")" = "$(sed 1d "$here/two/candidates.csv")"
ok "ranks as distinct scores" test "$(cut -d ' ' -f 1,5 "$dumped/direct.run" | sort -u | wc -l)" -eq $((cases * 20))
mrr=$(awk 'NR == FNR { if ($4) positive[$1 " " $3] = 1; next } ($1 " " $3) in positive { sum += 1 / $4; ++n }
    END { printf "%.9f", sum / n }' "$dumped/test.qrels" "$dumped/reasoned.run")
ok "the ranking has the MRR that metrics.json says, but for ties" awk -v mrr="$mrr" -v tied="$(
    grep '"positive":true' "$dumped/candidates.jsonl" | sed 's/.*"reasoned":{[^}]*"tied":\([0-9]*\)}.*/\1/' | grep -vc '^0$')" \
    -v n="$cases" '/"method":.*"sft.grpo"/ { found = 1 } found && $1 == "\"mrr\":" { exit !(($2 - mrr) ^ 2 <= (tied / n + 1e-8) ^ 2) }' \
    "$here/two/metrics.json"
ok "metrics.json names its definitions" grep -q '"hit_ratio/ties=expected"' "$here/two/metrics.json"
# Ctrl-C once the training has begun, then on to the same results.
(trap - INT && exec $demo --data data/mini --out "$here/stopped" --sft-steps 6 --grpo-steps 1) >"$here/said" 2>&1 &
while kill -0 $! 2>/dev/null && ! grep -q '^model: ' "$here/said"; do sleep 0.1; done
kill -INT $! 2>/dev/null
wait $!
ok "Ctrl-C ends with 130" test $? -eq 130
ok "and says how to go on" grep -q -e 'stopped; the same command with --continue goes on' "$here/said"
ok "going on" short stopped --continue
for file in metrics.json traces.jsonl model.safetensors; do
    ok "$file: the same bytes after Ctrl-C" cmp "$here/one/$file" "$here/stopped/$file"
done

ok "a trace says what the model wrote and what was added" test "$(grep -c '"output":"<think>.*","completed":"<think>' \
    "$here/one/traces.jsonl")" -gt 0
ok "with the score of EASE among the evidence" short ease --ease
ok "which metrics.json says" grep -q '"ease":.*true' "$here/ease/metrics.json"
buckets() { grep -v '"deep"' "$here/$1/codebook.json"; }
ok "in the place of deep" test "$(grep '"deep"' "$here/one/codebook.json")" != "$(grep '"deep"' "$here/ease/codebook.json")"
ok "and of nothing else" test "$(buckets one)" = "$(buckets ease)"

# --- what the files lack, and what a terminal would obey --------------------------------------------

mkdir "$here/gaps" && sed '1!s/^/9/' data/mini/movies.csv >"$here/gaps/films.csv"
sed 's/,rating//; 1s/userId,movieId/who,what/; 1!s/^\([^,]*\),\([^,]*\),[^,]*/\1,"\2,\x1b[31m"/' data/mini/ratings.csv |
    awk -F, 'NR == 1 || $1 <= 60' >"$here/gaps/takes.csv"
$demo --data "$here/gaps/takes.csv" --user-column who --item-column what --items "$here/gaps/films.csv" \
    --out "$here/one" --sft-steps 1 --grpo-steps 0 >"$here/said" 2>"$here/error"
ok "a journey on data with gaps, and with columns of other names" test $? -eq 0
ok "ids with commas are quoted" grep -q '^[0-9]*,"[0-9]*,' "$here/one/candidates.csv"
ok "no rating column is told" grep -q '^no rating column: every rating is 1$' "$here/said"
ok "missing titles are told" grep -q 'items have no title and are called by their ids$' "$here/said"
ok "titles of other items are told" grep -q '^[1-9][0-9]* titles belong to no rated item$' "$here/said"
ok "no row of GRPO without GRPO" sh -c "! grep -q 'grpo ' '$here/said'"
ok "no song is called a film" sh -c "! grep -v '^$here' '$here/said' | grep -qi film"
ok "no line is wider than a terminal" sh -c "! grep -v '^$here' '$here/said' | sed 's/[^ -~]/x/g' | grep -q '.\{81\}'"
ok "a list in any case, and why" test "$(grep -c '^   1\. ' "$here/said")" -eq 3 -a "$(grep -c '^  Why ' "$here/said")" -eq 3
ok "what helps is said" grep -q 'not sound: ' "$here/said"
for file in report.html recommendations.txt results.txt settings.json; do
    ok "$file is named at the end, and there" sh -c "grep -q '^  $file ' '$here/said' && test -s '$here/one/$file'"
done

# --- nothing is trained twice -----------------------------------------------------------------------

ok "with the model of that run" sh -c "$demo --model '$here/one' --user 7 --quiet >'$here/again' 2>'$here/error'"
ok "in silence" test ! -s "$here/error"
ok "no training" sh -c "! grep -q fine-tuning '$here/again'"
ok "it recommends to the user" grep -q '^User 7, ' "$here/again"
ok "its columns are kept" grep -q '"user-column":.*"who"' "$here/one/settings.json"
ok "the model, of other ratings" sh -c "$demo --model '$here/one' --data data/mini --out '$here/borrowed' --user 7 --quiet >'$here/again' 2>'$here/error'"
ok "which is said" grep -q "^the model in $here/one was trained on other data$" "$here/again"
ok "and recommends" grep -q '^User 7, ' "$here/borrowed/recommendations.txt"
ok "a run repeated by its settings" sh -c "$demo --settings '$here/one/settings.json' --out '$here/repeated' --quiet >'$here/again' 2>&1"
ok "ends at the same bytes" cmp "$here/one/model.safetensors" "$here/repeated/model.safetensors"
echo '{"sft-steps": "ten"}' >"$here/wrong.json"
refuses 'wrong.json: expected a setting, found "sft-steps"' --settings "$here/wrong.json"
refuses 'settings.json: ' --model "$here/nothing"
ok "no control characters" test -z "$(LC_ALL=C tr -d '\n\t\040-\377' <"$here/said")"

# --- the whole journey ------------------------------------------------------------------------------

hr() { # hr METHOD: its HR@1 in metrics.json
    awk -v want="\"$1\"," '$1 == "\"method\":" { found = $2 == want }
        found && $1 == "\"hr@1\":" { print $2 + 0; exit }' "$here/out/metrics.json"
}

founded() { # founded FILE: traces that passed cite nothing else than what their prompts say
    awk -F '"(prompt|output|verdict)":"' '
        {
            split($2, prompt, "\""); split($3, output, "\""); split($4, verdict, "\"")
            if (verdict[1] != "ok") next
            passed++
            n = split(output[1], word, " ")
            for (k = 2; k <= n && word[k] != "</think>"; k += 3)
                if (!index(" " prompt[1] " ", " " word[k] " ")) unfounded++
        }
        END { exit !(passed > 0 && !unfounded) }' "$1"
}

above() { awk "BEGIN { exit !($1 > $2) }"; }

if [ -d $real ]; then data=$real goal=0.6; else data=data/mini goal=0.5; fi
[ $data = $real ] || skip "the journey on real data, since $real is not there"

if $demo --data $data --out "$here/out" >"$here/said" 2>"$here/error"; then
    passed=$((passed + 1))
    trained=$(hr sft+grpo)
    ok "HR@1 (1+19) of the trained model is at least $goal: $trained" above "$trained" "$goal - 1e-9"
    for method in random popularity user-knn item-knn untrained; do
        ok "trained ($trained) above $method ($(hr $method))" above "$trained" "$(hr $method)"
    done
    ok "an untrained model knows nothing: $(hr untrained)" above 0.15 "$(hr untrained)"
    ok "what a trace cites stands in its prompt" founded "$here/out/traces.jsonl"
    ok "three users get a recommendation" test "$(grep -c '^User ' "$here/said")" -eq 3
    for file in metrics.json timings.json candidates.csv traces.jsonl model.safetensors; do
        ok "$file is written" test -s "$here/out/$file"
    done
else
    failed=$((failed + 1))
    echo "FAILED: $demo --data $data ends with an error" && tail -n 5 "$here/error"
fi

finish

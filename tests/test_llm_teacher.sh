#!/bin/sh
# examples/tools/llm_teacher against a server on 127.0.0.1 that answers each step well, slowly, wrongly, with
# 429 and 500, with cut JSON, and not at all. `sh tests/test_llm_teacher.sh golden` writes the golden file.
cd "$(dirname "$0")/.." && . tests/test.sh

program=build/examples/tools/llm_teacher
server=
if [ ! -x $program ] || ! python3 -c '' 2>/dev/null; then
    skip 'needs libcurl (tools/install-deps.sh teacher) and python3'
    finish
    exit
fi
stop() { [ -z "$server" ] || kill "$server" 2>/dev/null; server=; }
trap 'stop; rm -rf "$here"' EXIT

# teach BEHAVIOUR STATUS ARGUMENTS...: runs the program against a server that behaves so.
teach() {
    behaviour=$1 status=$2
    shift 2
    : >"$here/log"
    rm -f "$here/port" "$here/log.talk"
    python3 tests/llm_server.py "$behaviour" "$here/log" >"$here/port" 2>/dev/null &
    server=$!
    for _ in $(seq 100); do [ -s "$here/port" ] && break; sleep 0.2; done
    R2_LLM_URL="http://127.0.0.1:$(cat "$here/port")/v1" R2_LLM_MODEL=test R2_LLM_KEY=${key:-test-key} \
        R2_LLM_PRICE_IN=2 R2_LLM_PRICE_OUT=10 \
        $program --n 8 --out "$here/out" --backoff 20 "$@" >"$here/said" 2>&1
    got=$?
    stop
    check "$behaviour: exit status $got, expected $status" [ $got -eq "$status" ]
}

check() { # check SENTENCE CONDITION...
    sentence=$1
    shift
    if "$@"; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "FAILED: $sentence"
        sed 's/^/    /' "$here/said"
    fi
}

says() { grep -q "$1" "$here/said"; }
fresh() { rm -f "$here/out" "$here/out.raw"; }


talk() { # talk REQUEST: the conversation that it held
    awk -v key="==== $1 ====" '/^==== / { on = $0 == key } on' "$here/log.talk"
}

fresh; teach good 0 --parallel 1
check 'good: all kept' says '^8 of 8 kept'
check 'good: a request for each of four steps' says '^32 requests, 0 of them again; 8 answered'
check 'good: usage and cost' says '^32000 tokens in, 3200 out, cost 0.0960'
for step in 1 2 3; do check "good: step $step" says "^step $step: 8 replies, 8 accepted, [0-8] with"; done
check 'good: guidance makes the last step right' says '^step 4: 8 replies, 8 accepted, 8 with'
check 'good: triples have their answers' [ "$(grep -c '"answer":[0-5]}$' "$here/out")" -eq 8 ]
check 'good: the guidance is in no record' [ "$(grep -c 'correct answer' "$here/out" "$here/out.raw" | grep -vc ':0')" -eq 0 ]
check 'good: R has four thoughts' [ "$(grep -c 'Step 1: .*Step 2: .*Step 3: .*Step 4: .*I expect [0-5][.]' "$here/out")" -eq 8 ]
cp "$here/out" "$here/good"

# What nobody may see: a rating before it is revealed, the answer before the last step
check 'step 1 shows no rating' [ -z "$(talk 0-1 | grep '^Chain 1: .*[0-9] stars')" ]
for step in 1 2 3; do
    check "step $step: one rating is masked" [ "$(talk 0-$step | grep '^Chain 1: ' | tail -n 1 | grep -o '\[?\]' | wc -l)" -eq 1 ]
    check "step $step: no guidance" [ -z "$(talk 0-$step | grep 'correct answer')" ]
done
for step in 2 3 4; do
    check "step $step: the edge before it is revealed" [ "$(talk 0-$step | grep -c '^Revealed: ')" -eq $((step - 1)) ]
    check "step $step: goes on from the conversation so far" [ "$(talk 0-$((step - 1)) | tail -n +2)" = \
        "$(talk 0-$step | tail -n +2 | head -n "$(talk 0-$((step - 1)) | tail -n +2 | wc -l)")" ]
done

{ talk 0-4; talk 1-4; } >"$here/golden"
teach good 0 --parallel 1
check 'again: nothing is asked twice' says '^0 requests, 0 of them again; 0 answered, 0 given up; 32 replies from before'
check 'again: all kept' says '^8 of 8 kept'
check 'again: the same triples' cmp "$here/good" "$here/out"

fresh; teach good 0 --parallel 1 --schedule none
check 'one request: all kept' says '^8 of 8 kept'
check 'one request each' says '^8 requests, 0 of them again; 8 answered'
talk 0-4 >>"$here/golden"
if [ "${1:-}" = golden ]; then cp "$here/golden" tests/golden/conversations.txt; fi
check 'the conversations are the golden ones' cmp "$here/golden" tests/golden/conversations.txt
fresh; teach wrong 0 --schedule none
check 'one request, wrong: refused with the reason' says '^wrong rating'
check 'one request, wrong: answered all the same' says '8 answered, 0 given up'
teach good 1
check 'replies to another schedule: refused with file and line' says 'out.raw:1: the reply to another run'

fresh; teach slow 0 --parallel 8
check 'slow: conversations run in parallel' awk '/-1 / { if (!n++) t = $1; last = $1 } END { exit !(n == 8 && last - t < 2.5) }' "$here/log"
check 'slow: the same triples' cmp "$here/good" "$here/out"

fresh; teach wrong2 0
check 'wrong at step 2: asked once more, then no further' says '^24 requests, 0 of them again; 8 answered'
check 'wrong at step 2: refused with the reason' says '^wrong rating .* 8$'
check 'wrong at step 2: nothing of it accepted' says '^step 2: 16 replies, 0 accepted'
check 'wrong at step 2: step 3 is not asked' says '^step 3: 0 replies'
fresh; teach wrong4 0
check 'wrong at step 4: refused with the reason' says '^wrong rating .* 8$'
check 'wrong at step 4: none kept' says '^0 of 8 kept'
fresh; teach wavers 0
check 'wrong at first: each step once more' says '^64 requests, 0 of them again; 8 answered'
check 'wrong at first: the same triples' cmp "$here/good" "$here/out"
fresh; teach formless 0
check 'formless: refused with the reason' says '^malformed .* 8$'
fresh; teach tells 0
check 'a thought that names the answer: refused' says '^0 of 8 kept'

fresh; teach busy 0 --parallel 8
check 'busy: each step once more' says '^64 requests, 32 of them again; 8 answered'
check 'busy: waits as long as asked' says 'HTTP 429; again in 1.0 s'
fresh; teach error 0
check 'error: each step once more' says '^64 requests, 32 of them again; 8 answered'
fresh; teach cut 0
check 'cut: each step once more' says 'not a chat completion'
check 'cut: the same triples' cmp "$here/good" "$here/out"

fresh; teach down 3 --retries 2
check 'down: three attempts each' says '^24 requests, 16 of them again; 0 answered, 8 given up'
fresh; teach silent 3 --timeout 300 --retries 1 --parallel 8
check 'silent: timed out' says 'imed out'
check 'silent: given up' says '8 given up'
fresh; key=wrong; teach good 3
check 'refused: not tried again' says '^8 requests, 0 of them again'
key=

fresh; teach dies 3 --retries 0 --parallel 1
check 'dies: some answered' says '2 answered, 6 given up'
printf '{"id":7,"user":"cut o' >>"$here/out.raw"
teach good 0
check 'resumed in the midst of a chain: only the rest is asked' \
    says '^22 requests, 0 of them again; 6 answered, 0 given up; 10 replies from before'
check 'resumed: the same triples' cmp "$here/good" "$here/out"

# Two circles of people who share nothing: between them there is no chain
mkdir "$here/apart" && awk 'BEGIN {
    print "userId,movieId,rating,timestamp"
    for (u = 1; u <= 40; ++u) for (k = 0; k < 30; ++k) if ((u * 7 + k * 5) % 3 == 0)
        printf "%d,%d,%d,%d\n", u, k + (u % 2 ? 1 : 101), 3 + (u + k) % 3, 1e9 + 100 * ((u * 13 + k * 17) % 97) + u
}' >"$here/apart/ratings.csv"
fresh; teach good 0 --data "$here/apart"
alone=$(grep -c 'Step 3: no chain to follow' "$here/out")
check 'no chain: such questions are asked' [ "$alone" -gt 0 -a "$alone" -lt 8 ]
check 'no chain: the last step alone' says "^$((32 - 3 * alone)) requests, 0 of them again; 8 answered"
check 'no chain: all kept' says '^8 of 8 kept'

teach good 2 --parallel 2x
check 'a number must be one' says '^llm_teacher: --parallel: expected a whole number from 1 to 1000, found "2x"$'
teach good 2 --schedule nun
check 'a schedule must be one' says '^llm_teacher: --schedule: expected progressive, final-only, all or none, found "nun"$'

finish

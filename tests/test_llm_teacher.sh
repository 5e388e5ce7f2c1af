#!/bin/sh
# examples/tools/llm_teacher against a server on 127.0.0.1 that answers well, slowly, wrongly, with 429
# and 500, with cut JSON, and not at all.
cd "$(dirname "$0")/.." && . tests/test.sh

program=build/examples/tools/llm_teacher
server=
if [ ! -x $program ] || ! python3 -c '' 2>/dev/null; then
    skip 'needs libcurl and python3'
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
    rm -f "$here/port"
    python3 tests/llm_server.py "$behaviour" "$here/log" >"$here/port" 2>/dev/null &
    server=$!
    for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do [ -s "$here/port" ] && break; sleep 0.2; done
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

fresh; teach good 0
check 'good: all kept' says '^8 of 8 kept'
check 'good: usage and cost' says '^8000 tokens in, 800 out, cost 0.0240'
check 'good: one request each' says '^8 requests, 0 of them again; 8 answered'
check 'good: triples have their answers' [ "$(grep -c '"answer":[0-5]}$' "$here/out")" -eq 8 ]
check 'good: the guidance is in no record' [ "$(grep -c 'correct answer' "$here/out" "$here/out.raw" | grep -vc ':0')" -eq 0 ]

teach good 0
check 'again: nothing is asked twice' says '^0 requests, 0 of them again; 0 answered, 0 given up, 8 from before'
check 'again: all kept' says '^8 of 8 kept'

fresh; teach slow 0 --parallel 8
check 'slow: requests run in parallel' awk 'NR == 1 { t = $1 } END { exit !(NR == 8 && $1 - t < 2.5) }' "$here/log"

fresh; teach wrong 0
check 'wrong: refused with the reason' says '^wrong rating'
check 'wrong: answered all the same' says '8 answered, 0 given up'

fresh; teach busy 0
check 'busy: each once more' says '^16 requests, 8 of them again; 8 answered'
check 'busy: waits as long as asked' says 'HTTP 429; again in 1.0 s'
fresh; teach error 0
check 'error: each once more' says '^16 requests, 8 of them again; 8 answered'
fresh; teach cut 0
check 'cut: each once more' says 'not a chat completion'
check 'cut: all kept' says '^8 of 8 kept'

fresh; teach down 3 --retries 2
check 'down: three attempts each' says '^24 requests, 16 of them again; 0 answered, 8 given up'
fresh; teach silent 3 --timeout 300 --retries 1 --parallel 8
check 'silent: timed out' says 'imed out'
check 'silent: given up' says '8 given up'
fresh; key=wrong; teach good 3
check 'refused: not tried again' says '^8 requests, 0 of them again'
key=

fresh; teach dies 3 --retries 0 --parallel 1
check 'dies: some answered' says '3 answered, 5 given up'
printf '{"id":7,"user":"cut o' >>"$here/out.raw"
teach good 0
check 'resumed: only the rest is asked' says '^5 requests, 0 of them again; 5 answered, 0 given up, 3 from before'
check 'resumed: all kept' says '^8 of 8 kept'

teach good 2 --parallel 2x
check 'a number must be one' says '^llm_teacher: --parallel: expected a whole number from 1 to 1000, found "2x"$'

finish

#!/bin/sh
# Export to the engines that train elsewhere, and import of what they generate: the shapes, both
# checkers on the same outputs, and what is refused.
cd "$(dirname "$0")/.." && . tests/test.sh
export=build/examples/tools/export
check() { python3 tests/export_check.py "$@"; }

few_users 40
ok 'an export' $export --data "$here/data" --out "$here/english" --train 200
ok 'of as many training questions as wanted' [ "$(wc -l <"$here/english/train.json")" -eq 200 ]
ok 'and in compact words' $export --data "$here/data" --out "$here/compact" --train 200 --words compact
$export --data "$here/data" --out "$here/again" --train 200 --words compact >"$here/said"
ok 'the same bytes again' cmp "$here/again/test.json" "$here/compact/test.json"

if command -v python3 >/dev/null; then
    for words in english compact; do
        dir=$here/$words said=$here/$words.said
        ok "$words: the shapes of all files" check shapes "$dir"
        check outputs "$dir" 200 >"$said"
        ok "$words: an import" $export --data "$here/data" --import "$said" --words $words --out "$dir" >"$here/report"
        ok "$words: r2rec_reward.py agrees" check compare "$dir" "$said"
        check batch "$said" >"$here/batch" && cp "$dir/checked.jsonl" "$here/checked"
        $export --data "$here/data" --import "$here/batch" --words $words --out "$dir" >"$here/said"
        ok "$words: the result of a batch says the same" cmp "$dir/checked.jsonl" "$here/checked"
        ok "$words: and counts failed requests" grep -q ', 1 errors,' "$here/said"
    done
    # the answers as scores: every user's held-out item gets 5, the others 0
    python3 - "$here/english" >"$here/oracle" <<'PY'
import json, sys
for request, line in zip(open(sys.argv[1] + "/batch.jsonl"), open(sys.argv[1] + "/test.json")):
    answer = json.loads(json.loads(line)["ground_truth"])["answer"]
    print(json.dumps({"custom_id": json.loads(request)["custom_id"],
                      "completion": "<think>so</think><answer>%d</answer>" % answer}))
PY
    $export --data "$here/data" --import "$here/oracle" --out "$here/english" >"$here/said"
    ok 'who knows the answers has HR@1 1' grep -q '^HR@1 (1+19) 1.000 ' "$here/said"
else
    skip 'shapes and the checker in Python, since python3 is not there'
fi

refuses() { # refuses WORDS LINE: one line on standard error that holds WORDS
    echo "$2" >"$here/line"
    $export --data "$here/data" --import "$here/line" --out "$here/none" >"$here/said" 2>"$here/error"
    [ $? -eq 1 ] && [ "$(wc -l <"$here/error")" -eq 1 ] && grep -q "$1" "$here/error"
}
id=$(sed -n '1s/.*"custom_id":"\([^"]*\)".*/\1/p' "$here/english/batch.jsonl")
ok 'a line that is no JSON is refused' refuses 'line:1: expected a JSON object' 'not JSON'
ok 'an output of nobody is refused' refuses 'line:1: expected a JSON object with a custom_id' '{"completion":"x"}'
ok 'of another question too' refuses 'found "test-0-0-0"' '{"custom_id":"test-0-0-0","completion":"x"}'
ok 'and of one that is not there' refuses 'found "test-99999999' "{\"custom_id\":\"test-99999999${id#test-0}\",\"completion\":\"x\"}"
ok 'a missing file is refused' [ "$($export --data "$here/data" --import "$here/nowhere" --out "$here/none" 2>&1 | grep -c nowhere)" -eq 1 ]
ok 'other words are refused' [ "$($export --words french --out "$here/none" 2>&1)" = \
    'export: --words: expected english or compact, found "french"' ]
finish

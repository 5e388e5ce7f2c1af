#!/bin/sh
# examples/experiments/transfer, on forty users and their copy: a model that is borrowed from the same
# ratings ranks as their own does, models and rows are made once, the same bytes for any number of threads.
cd "$(dirname "$0")/.." && . tests/test.sh

transfer=build/examples/experiments/transfer

few_users 40
mkdir "$here/copy" && cp "$here"/data/* "$here/copy"

short() { # short NAME OPTION...
    name=$1
    shift
    $transfer --data "$here/data $here/copy" --out "$here/$name" --steps 2 --check "$@" \
        >"$here/$name.md" 2>"$here/error"
}

ok 'two sets' short one --threads 1
ok 'with two threads' short two --threads 2
ok 'the same bytes' cmp "$here/one/transfer.json" "$here/two/transfer.json"
rows=$here/one/data/results/quick
own=$(hit_ratio "$rows/transfer-valid-data.json")
ok 'a model of its own' grep -q -F "| $here/data | $own | " "$here/one.md"
ok 'the same ratings elsewhere: the same ranks' cmp "$rows/transfer-valid-data.json" "$rows/transfer-valid-copy.json"
ok 'and the same figure' grep -q -F "| $here/copy | $own, 1.00 [+0.000, +0.000] | $own |" "$here/one.md"
ok 'popularity' grep -q -F "| nothing: popularity | $(hit_ratio "$rows/transfer-valid-popularity.json"), " "$here/one.md"
touch "$here/before"
ok 'again' short one --threads 1
ok 'nothing is made twice' test -z "$(find "$here/one" -name '*.json' -path '*quick*' -newer "$here/before")"
ok 'results of one directory are not those of another' sh -c \
    "! $transfer --data '$here/other/data $here/copy' --out '$here/one' >'$here/said' 2>&1"

finish

#!/bin/sh
# examples/lessons/00_quickstart: the README shows it as it is, and it does not work in silence.
cd "$(dirname "$0")/.." && . tests/test.sh

sed -n '/^```c$/,/^```$/{/^```/d;p;}' README.md >"$here/shown"
ok 'the README shows the program' sh -c "sed 1d examples/lessons/00_quickstart.c | cmp - '$here/shown'"
build/examples/lessons/00_quickstart >"$here/said" 2>"$here/error"
ok 'exit status' [ $? -eq 0 ]
ok 'three recommendations' [ "$(grep -c '^ *[0-9.-]*  [A-Z]' "$here/said")" -eq 3 ]
ok 'progress, a line for each part' grep -q 'sft: 200 of 200$' "$here/error"

finish

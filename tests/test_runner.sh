#!/bin/sh
# The runner itself: a failure, a crash and a silent exit must never look like success.
cd "$(dirname "$0")/.." && . tests/test.sh

program() { # program NAME BODY: a test program that does BODY
    printf '#!/bin/sh\n%s\n' "$2" >"$here/$1"
    chmod +x "$here/$1"
}

expect() { # expect STATUS LAST_LINE PROGRAM...
    status=$1 last=$2
    shift 2
    output=$(cd "$here" && "$OLDPWD/tests/run.sh" "$@")
    got=$?
    if [ $got -eq "$status" ] && [ "$(echo "$output" | tail -n 1)" = "$last" ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $*: status $got, not $status; or the last line is not '$last':"
        echo "$output"
    fi
}

program good 'echo "# 3 0 0"'
program skips 'echo "skipped [x]: y"; echo "# 1 0 2"'
program bad 'echo "# 2 1 0"; exit 1'
program liar 'echo "# 2 0 0"; exit 1'
program crash 'echo "# 9 0 0"; kill -SEGV $$'
program silent 'exit 0'
program idle 'echo "# 0 0 0"'

expect 0 '3 passed, 0 failed' ./good
expect 0 '4 passed, 0 failed, 2 skipped' ./good ./skips
expect 1 '5 passed, 1 failed' ./good ./bad
expect 1 '0 passed, 1 failed' ./liar
expect 1 '3 passed, 1 failed' ./good ./crash
expect 1 '3 passed, 1 failed' ./good ./silent
expect 1 '3 passed, 1 failed' ./good ./idle
expect 1 '0 passed, 1 failed' ./missing
expect 1 '0 passed, 0 failed'

finish

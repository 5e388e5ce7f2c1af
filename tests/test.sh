# test.sh: what the test scripts share. Read it first, from the root of the repository: `. tests/test.sh`
#
# A script calls `ok` for every check and ends with `finish`, whose last line tests/run.sh reads.
set -u
passed=0 failed=0 skipped=0
here=$(mktemp -d) && trap 'rm -rf "$here"' EXIT || exit 1 # a folder of the script's own

ok() { # ok WHAT COMMAND...
    what=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAILED: $what"; fi
}

skip() { # skip WHY
    skipped=$((skipped + 1))
    echo "skipped: $*"
}

finish() {
    echo "# $passed $failed $skipped"
    [ $failed -eq 0 ]
}

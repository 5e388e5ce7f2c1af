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

few_users() { # few_users N: the first N users of data/mini, in $here/data
    mkdir "$here/data" && cp data/mini/movies.csv "$here/data"
    awk -F, -v n="$1" 'NR == 1 || $1 <= n' data/mini/ratings.csv >"$here/data/ratings.csv"
}

# HR@1 over rows of experiment.h: of users for whom none is better, the chance among the tied
hit_ratio() { # hit_ratio FILE...
    cat "$@" | tr -d '{"' | awk -v RS='}' '/better/ {
        match($0, /better:\[[^]]*/); n = split(substr($0, RSTART + 8, RLENGTH - 8), better, ",")
        match($0, /tied:\[[^]]*/); split(substr($0, RSTART + 6, RLENGTH - 6), tied, ",")
        for (k = 1; k <= n; ++k) hits += better[k] == 0 ? 1 / (1 + tied[k]) : 0
        users += n
    } END { printf "%.3f", hits / users }'
}

finish() {
    echo "# $passed $failed $skipped"
    [ $failed -eq 0 ]
}

#!/bin/sh
# The vectors bite: each bug of tests/vectors/mutants, put into a copy of r2rec.h, makes a vector fail that has the
# flag of the bug. (Those of `variants` are in examples/common.) A sample of them, one in sixteen; all with ALL=1 (`make mutants`), or those named on the
# command line.
cd "$(dirname "$0")/.." && . tests/test.sh

tab=$(printf '\t')
flags=$(sed -n "s/^\([A-Z][A-Za-z]*\)$tab.*/\1/p" tests/vectors/mutants)
every=16
[ -n "${ALL:-}" ] && every=1

# The plain loops, so that an op has one body; no optimisation, so that it is quickly built.
build() { # build FLAG: the runner with this bug
    script=$(sed -n "s/^$1$tab[a-z]*$tab//p" tests/vectors/mutants)
    of=r2rec.h
    case $script in
    @*) of=examples/common/${script%% *} script=${script#* } && of=$(echo "$of" | tr -d @) ;;
    esac
    mkdir -p "$here/$1/examples/tools" && cp -r examples/common "$here/$1/examples" && cp r2rec.h "$here/$1"
    cp examples/tools/verify.c "$here/$1/examples/tools"
    sed "$script" "$of" >"$here/$1/$of"
    cmp -s "$of" "$here/$1/$of" && return 1
    ${CC:-cc} -std=c11 -O0 -w -DR2_REFERENCE -I"$here/$1" ${CPPFLAGS:-} $(pkg-config --cflags libcjson 2>/dev/null) \
        -o "$here/$1/verify" "$here/$1/examples/tools/verify.c" -lcjson -lm
}

caught() { # caught FLAG: the failing vectors with this flag, of all that fail
    group=$(sed -n "s/^$1$tab\([a-z]*\)$tab.*/\1/p" tests/vectors/mutants)
    build "$1" || return 1
    "$here/$1/verify" --group "$group" --report "$here/$1/report.json" -- "$here/$1/verify" --serve --threads 1 \
        >"$here/$1/said" 2>&1
    failed_all=$(tr -d '\n\t ' <"$here/$1/report.json" | grep -o '{"id":[^}]*}' | grep -c '"result":"\(failed\|crashed\|timedout\)"')
    failed_flag=$(tr -d '\n\t ' <"$here/$1/report.json" | grep -o '{"id":[^}]*}' | grep '"result":"\(failed\|crashed\|timedout\)"' | grep -c "\"$1\"")
    printf '%-24s %-9s %4d %4d\n' "$1" "$group" "$failed_flag" "$failed_all"
    rm -rf "${here:?}/$1"
    [ "$failed_flag" -gt 0 ]
}

listed=$(sed -n 's/^\t\t"\([A-Z][A-Za-z0-9]*\)":\t.*/\1/p' data/vectors/v1/*.json | sort -u)
ok 'every flag has a mutant, every mutant a flag' [ "$listed" = "$(echo "$flags" | sort -u)" ]
printf '%-24s %-9s %4s %4s\n' 'bug = flag' group flag all
number=0
for flag in ${*:-$flags}; do
    number=$((number + 1))
    [ $# -eq 0 ] && [ $((number % every)) -ne 0 ] && continue
    ok "$flag is caught by a vector with its flag" caught "$flag"
done
finish

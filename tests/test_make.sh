#!/bin/sh
# The Makefile, with programs that do nothing in the place of the real ones: one target does not
# rebuild what another has built, a changed header rebuilds what includes it, and `make help` fits a
# terminal.
cd "$(dirname "$0")/.." && . tests/test.sh
unset CFLAGS V MAKEFLAGS MFLAGS MAKELEVEL # those of the make that runs this script

tree=$here/tree
mkdir -p "$tree/data/mini" "$tree/tools" "$tree/tests/bench"
cp Makefile "$tree"
echo 'extern int r2rec;' >"$tree/r2rec.h"
for tool in tools/install-deps.sh tests/run.sh; do
    printf '#!/bin/sh\n' >"$tree/$tool" && chmod +x "$tree/$tool"
done
others="data/mini/generate.c tests/test_data.c tests/test_mini.c tests/vectors/make.c"
for program in $(ls examples/*.c examples/*/*.c) $others; do
    mkdir -p "$tree/${program%/*}"
    echo 'int main(void) { return 0; }' >"$tree/$program"
done
mkdir -p "$tree/examples/common" && echo >"$tree/examples/common/options.h"
echo '<!doctype html>' >"$tree/examples/common/report.html"
echo '#include "../common/options.h"' >>"$tree/examples/tools/chains.c"
echo '/* r2__ */' >>"$tree/tests/test_data.c"

compiled() { # compiled TARGET: what make compiles for it
    make -s -C "$tree" SANITIZE=0 MPICC=none "$1" 2>&1 | sed -n 's/^  CC *//p' | sort | paste -s -d ' ' -
}
examples=$(ls examples/*.c examples/*/*.c | sort | paste -s -d ' ' -)
curl=$(printf '#include <curl/curl.h>\nint main(void) { return 0; }' |
    ${CC:-cc} -lcurl -x c - -o /dev/null 2>/dev/null && echo yes)
[ -n "$curl" ] || examples=$(echo "$examples" | sed 's: *examples/tools/llm_teacher.c::')

ok 'the demo and the library are compiled' [ "$(compiled demo)" = 'examples/movielens_demo.c r2rec.h' ]
ok 'the tests and the other examples are compiled' [ "$(compiled test)" = "$(
    echo "data/mini/generate.c $examples r2rec.h (tests) tests/test_data.c tests/test_mini.c tests/vectors/make.c (portable)" |
        sed 's:examples/movielens_demo.c ::')" ]
for target in all demo mini test; do
    ok "make $target after that compiles nothing" [ -z "$(compiled $target)" ]
done
touch "$tree/examples/common/options.h"
ok 'a changed header rebuilds what includes it' [ "$(compiled all)" = examples/tools/chains.c ]
touch "$tree/examples/common/report.html"
ok "a changed page of the report rebuilds the demo" [ "$(compiled all)" = examples/movielens_demo.c ]
touch "$tree/r2rec.h"
ok 'a changed r2rec.h rebuilds every example' [ "$(compiled all)" = "$examples r2rec.h" ]
ok 'other options rebuild every example' [ "$(CFLAGS=-O1 compiled all)" = "$examples r2rec.h" ]

make help >"$here/said"
ok 'no line of help is wider than 80 columns' [ -z "$(awk 'length > 80' "$here/said")" ]
ok 'the groups of help' [ "$(grep '^[a-z]' "$here/said" | sed 's/ .*//' | paste -s -d ' ' -)" = \
    'make run experiments test conformance measure install names' ]
for target in $(sed -n 's/^\.PHONY: //p' Makefile); do
    case $target in FORCE | help) continue ;; esac
    ok "help names $target" grep -q "^  $target  " "$here/said"
done

finish

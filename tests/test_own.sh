#!/bin/sh
# A program of one's own, outside the tree: installed header, pkg-config, CMake, C and C++, two
# translation units, without OpenMP, 32 bits, musl, MinGW-w64. What a machine does not have is skipped.
cd "$(dirname "$0")/.." && . tests/test.sh
unset CPPFLAGS MAKEFLAGS MFLAGS MAKELEVEL # those of the make that runs this script

prefix=$here/prefix
ok 'the header is installed' make -s install-header PREFIX="$prefix"
cp tests/own/* "$here" && cp tests/own/program.c "$here/program.cpp" && cp tests/own/other.c "$here/other.cpp"
printf 'who;what;stars\na;x;5\na;y;4\na;z;5\nb;x;4\nb;z;5\n' | sed '1s/who;what;stars/user;item;rating/' >"$here/ratings.csv"
words='2 users, 1 held out, 5 ratings counted elsewhere'
cjson="$(pkg-config --cflags --libs libcjson 2>/dev/null || echo -lcjson)"

works() { # works WHAT COMMAND...: builds $here/own, which then says what it should
    name=$1
    shift
    rm -f "$here/own"
    (cd "$here" && "$@") >"$here/said" 2>&1
    ok "$name builds: $(head -n 3 "$here/said")" test -e "$here/own"
    ok "$name runs: $("$here/own" "$here/ratings.csv" 2>&1)" sh -c "'$here/own' '$here/ratings.csv' | grep -q '^$words'"
}
builds() { # builds COMPILER...: can build any program here
    echo 'int main(void) { return 0; }' >"$here/any.c"
    "$@" -o "$here/any" "$here/any.c" 2>/dev/null && return
    skip "$* is not installed or cannot build a program"
    return 1
}

# --- where it was installed -------------------------------------------------------------------------

works 'a program in C, no OpenMP' ${CC:-cc} -std=c11 -O0 "-I$prefix/include" program.c other.c -o own $cjson -lm
builds g++ && works 'a program in C++' g++ -std=c++17 -O0 "-I$prefix/include" program.cpp other.cpp -o own $cjson -lm
if command -v pkg-config >/dev/null; then
    PKG_CONFIG_PATH=$prefix/share/pkgconfig:${PKG_CONFIG_PATH:-}
    export PKG_CONFIG_PATH
    works 'by pkg-config' sh -c "${CC:-cc} -std=c11 -O0 program.c other.c -o own \$(pkg-config --cflags --libs r2rec)"
    if grep -q -e -fopenmp build/flags 2>/dev/null; then
        ok 'pkg-config says what threads need' sh -c "'$here/own' '$here/ratings.csv' | grep -q ', threads$'"
    fi
else
    skip 'no pkg-config'
fi
if command -v cmake >/dev/null; then
    works 'by CMake' sh -c "CC='${CC:-cc}' cmake -S . -B cmake -DCMAKE_PREFIX_PATH='$prefix' && cmake --build cmake && cp cmake/own own"
else
    skip 'no cmake'
fi

# --- other machines ---------------------------------------------------------------------------------

# The library of cJSON is that of this machine: for others its declarations are enough to compile.
strict='-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror'
directory=$(for d in $(pkg-config --cflags-only-I libcjson 2>/dev/null | sed 's/-I//g') /usr/include /usr/local/include; do
    for f in "$d/cjson/cJSON.h" "$d/cJSON.h"; do [ -f "$f" ] && echo "$f"; done; done | head -n 1)
stb=$(for d in /usr/include /usr/local/include; do for f in "$d/stb/stb_ds.h" "$d/stb_ds.h"; do [ -f "$f" ] && echo "$f"; done; done | head -n 1)
mkdir -p "$here/alone/cjson" "$here/alone/stb"
cp "$directory" "$here/alone/cjson/cJSON.h" && cp "$stb" "$here/alone/stb/stb_ds.h"
other() { # other COMPILER OPTION...: the header compiles without a warning
    builds "$@" || return
    ok "$*: $("$@" -std=c11 -O1 $strict -I"$prefix/include" -I"$here/alone" -c "$here/program.c" -o "$here/other.o" 2>&1 | head -n 3)" \
        test -s "$here/other.o"
    rm -f "$here/other.o"
}
# windows COMPILER: program.c links with the C library of Windows: all that is missing is cJSON, for
# which functions stand in that end the program.
windows() {
    builds "$@" || return
    "$@" -std=c11 -O1 -w -I"$prefix/include" -I"$here/alone" -c "$here/program.c" -o "$here/program.o"
    "$@" -std=c11 -O1 -w -I"$prefix/include" -I"$here/alone" -c "$here/other.c" -o "$here/otherwise.o"
    nm -u "$here/program.o" | sed -n 's/.* \(cJSON_[A-Za-z_]*\)$/void \1(void) { abort(); }/p' | sort -u |
        sed '1i #include <stdlib.h>' >"$here/cjson.c"
    "$@" -w -fno-builtin "$here/program.o" "$here/otherwise.o" "$here/cjson.c" -lm -o "$here/own.exe" 2>"$here/error"
    ok "$*: it links: $(head -n 3 "$here/error")" test -s "$here/own.exe"
    rm -f "$here"/*.o
}
if [ -n "$directory" ] && [ -n "$stb" ]; then
    other ${CC:-cc} -m32
    other musl-gcc
    other ${CC:-cc} -m32 -march=native
    other x86_64-w64-mingw32-gcc -Wno-float-conversion # its isnan converts
    windows x86_64-w64-mingw32-gcc
else
    skip 'other machines: cJSON.h or stb_ds.h is not where it usually is'
fi

# --- the command ------------------------------------------------------------------------------------

if [ -x build/examples/movielens_demo ] && [ -x build/examples/tools/verify ]; then
    ok 'install' make -s -o build/flags install PREFIX="$prefix" # nothing is compiled again
    r2rec=$prefix/bin/r2rec
    "$r2rec" --help >"$here/said"
    for command in demo train recommend eval chains prompts language export verify think; do
        ok "r2rec --help names $command" grep -q "^  $command  *[a-z]" "$here/said"
        "$r2rec" $command --help >"$here/help" 2>&1
        ok "r2rec $command --help ends with an example" grep -q "^example: r2rec $command " "$here/help"
        ok "and fits a terminal" test -z "$(awk 'length > 100' "$here/help")"
        ok "the manual has $command" grep -q "^\.SS $command\$" "$prefix/share/man/man1/r2rec.1"
        ok "the completion has $command" grep -q "^    $command) options=\"--" "$prefix/share/bash-completion/completions/r2rec"
    done
    ok 'an unknown command is refused in one line' sh -c "'$r2rec' nonsense 2>&1 | grep -q '^r2rec: unknown command \"nonsense\"'"
    ok 'recommend wants a model' sh -c "'$r2rec' recommend 2>&1 | grep -q 'expected --model DIR'"
    ok 'it runs from there' sh -c "cd '$here' && '$r2rec' chains ratings.csv --out '$here/out' | grep -q '^butterflies 1\$'"
    if command -v bash >/dev/null; then
        bash -c ". '$prefix/share/bash-completion/completions/r2rec'; COMP_WORDS=(r2rec rec) COMP_CWORD=1; _r2rec; echo \"\${COMPREPLY[*]}\"" >"$here/said"
        ok 'completion of a command' grep -qx recommend "$here/said"
    fi
    command -v man >/dev/null && ok 'man reads it' sh -c "man -l '$prefix/share/man/man1/r2rec.1' 2>&1 | grep -q 'recommend with reasons'"
    ok 'uninstall' make -s uninstall PREFIX="$prefix"
    ok 'leaves no file' test -z "$(find "$prefix" -type f)"
else
    skip 'the command r2rec: its programs are not built'
fi

finish

#!/bin/sh
# tools/install-deps.sh with a compiler that lacks headers and package managers that only write down
# what they are asked for: nothing is installed here.
cd "$(dirname "$0")/.." && . tests/test.sh

mkdir "$here/bin"
for tool in sh cat cut grep sort sed tail id mktemp rm env pkg-config; do
    path=$(command -v $tool) && ln -s "$path" "$here/bin/$tool"
done

cat >"$here/bin/lacks" <<END
#!/bin/sh
# a compiler without the headers that are listed in $here/missing
source=\$(cat)
for header in \$(cat "$here/missing"); do
    case \$source in *"\$header"*) exit 1 ;; esac
done
PATH="$PATH"
printf '%s\n' "\$source" | ${CC:-cc} "\$@"
END
chmod +x "$here/bin/lacks"
printf '#!/bin/sh\n[ "$1" != -n ] || shift\nexec "$@"\n' >"$here/bin/sudo" && chmod +x "$here/bin/sudo"

# manager NAME [HEADER]: the only package manager; whatever it is asked for, it installs HEADER
manager() {
    rm -f "$here"/bin/apt-get "$here"/bin/dnf "$here"/bin/apk "$here"/bin/pacman "$here"/bin/brew "$here/asked"
    [ "$1" = none ] && return
    cat >"$here/bin/$1" <<END
#!/bin/sh
echo "\$@" >>"$here/asked"
sed '/${2:-none}/d' "$here/missing" >"$here/left" && cat "$here/left" >"$here/missing"
END
    chmod +x "$here/bin/$1"
}

deps() { # deps HEADER...: the script where these headers are missing; what it says is in $here/said
    printf '%s\n' "$@" >"$here/missing"
    PATH="$here/bin" CC=lacks CPPFLAGS= LDFLAGS="${LDFLAGS:-}" tools/install-deps.sh >"$here/said" 2>&1
}

says() { grep -q -e "$1" "$here/said"; }

manager none
ok 'nothing is missing: not a word' deps nothing
ok 'nothing is missing: silence' [ ! -s "$here/said" ]

deps stb_ds.h
ok 'stb_ds without a package manager: an error' [ $? -eq 1 ]
ok 'stb_ds is named' says 'still missing: stb_ds$'
ok 'its source is named' says 'https://github.com/nothings/stb'
ok 'cJSON is not' [ -z "$(grep cJSON "$here/said")" ]
deps cJSON.h
ok 'cJSON and its source are named' says 'https://github.com/DaveGamble/cJSON'

for known in apt-get:libstb-dev dnf:stb_ds-devel apk:stb pacman:stb; do
    manager ${known%:*} stb_ds.h
    ok "${known%:*} installs it" deps stb_ds.h
    ok "${known%:*} is asked for ${known#*:}" grep -q " ${known#*:}\$" "$here/asked"
done

manager apt-get
deps stb_ds.h
ok 'a failed installation: an error' [ $? -eq 1 ]
ok 'a failed installation names the package' says 'with apt-get, packages libstb-dev$'

manager brew cJSON.h
deps stb_ds.h cJSON.h
ok 'brew has no stb_ds: an error' [ $? -eq 1 ]
ok 'brew installs cJSON' grep -q 'install cjson$' "$here/asked"
ok 'and says what is left to do' says 'brew has no package for the rest; still missing: stb_ds$'

finish

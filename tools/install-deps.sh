#!/bin/sh
# Installs what is missing, and only that.
#
#     tools/install-deps.sh [GROUP...]
#
# Without a group: what r2rec.h needs, cJSON and stb_ds. Groups, on request only:
#     fetch     curl and unzip, to download real data
#     checks    a second compiler and NumPy, for the widest set of tests
#     bench     PyTorch, NumPy and OpenBLAS, to measure against
#     pictures  Graphviz and gnuplot
#     mpi       OpenMPI, for several processes (make MPI=1)
#     teacher   libcurl, to ask a language model for traces
#
# Every need is tried first: a probe is compiled, a command is looked for. When all is there, nothing
# else happens. Knows apt-get, dnf, apk, pacman and brew; uses sudo only when it must.
set -u

# need | probe | apt-get | dnf | apk | pacman | brew     (- : no package there)
needs_of() {
    case $1 in
    base) cat <<'END' ;;
stb_ds|have_header stb/stb_ds.h stb_ds.h|libstb-dev|stb_ds-devel|stb|stb|-
cJSON|have_library cjson cjson/cJSON.h cJSON.h|libcjson-dev|cjson-devel|cjson-dev|cjson|cjson
END
    fetch) cat <<'END' ;;
curl|have_command curl wget|curl|curl|curl|curl|curl
unzip|have_command unzip bsdtar|unzip|unzip|unzip|unzip|unzip
END
    checks) cat <<'END' ;;
clang|have_command clang|clang|clang|clang|clang|llvm
g++|have_command g++|g++|gcc-c++|g++|gcc|gcc
NumPy|have_python numpy|python3-numpy|python3-numpy|py3-numpy|python-numpy|numpy
END
    bench) cat <<'END' ;;
PyTorch|have_python torch|python3-torch|python3-torch|py3-pytorch|python-pytorch|pytorch
NumPy|have_python numpy|python3-numpy|python3-numpy|py3-numpy|python-numpy|numpy
OpenBLAS|have_library openblas cblas.h openblas/cblas.h|libopenblas-dev|openblas-devel|openblas-dev|openblas|openblas
END
    mpi) cat <<'END' ;;
MPI|have_command mpicc|libopenmpi-dev openmpi-bin|openmpi-devel openmpi|openmpi-dev openmpi|openmpi|open-mpi
END
    pictures) cat <<'END' ;;
Graphviz|have_command dot|graphviz|graphviz|graphviz|graphviz|graphviz
gnuplot|have_command gnuplot|gnuplot-nox|gnuplot|gnuplot|gnuplot|gnuplot
END
    teacher) cat <<'END' ;;
libcurl|have_library curl curl/curl.h|libcurl4-openssl-dev|libcurl-devel|curl-dev|curl|curl
END
    *) echo "install-deps: no group '$1'; there are fetch, checks, bench, mpi, pictures, teacher" >&2
       exit 2 ;;
    esac
}

# --- probes -----------------------------------------------------------------------------------------

have_header() { # HEADER...: one of them can be included
    for name; do
        printf '#include <%s>\n' "$name" |
            ${CC:-cc} ${CPPFLAGS:-} -fsyntax-only -x c - 2>/dev/null && return
    done
    return 1
}

have_library() { # LIBRARY HEADER...: it links, and one of the headers can be included
    flags=$(pkg-config --cflags --libs "lib$1" 2>/dev/null || echo "-l$1")
    shift
    for name; do
        printf '#include <%s>\nint main(void) { return 0; }\n' "$name" |
            ${CC:-cc} ${CPPFLAGS:-} -x c - -o /dev/null ${LDFLAGS:-} $flags 2>/dev/null && return
    done
    return 1
}

have_command() { # NAME...: one of them can be run
    for name; do
        command -v "$name" >/dev/null && return
    done
    return 1
}

have_python() { # MODULE: the first Python of the path, or the system's, can import it
    python3 -c "import $1" 2>/dev/null || /usr/bin/python3 -c "import $1" 2>/dev/null
}

# --- what is missing --------------------------------------------------------------------------------

# missing COLUMN GROUP...: column COLUMN of every need whose probe fails
missing() {
    column=$1
    shift
    for group; do needs_of "$group" || exit; done | while IFS='|' read -r need probe packages; do
        $probe </dev/null || echo "$need|$probe|$packages" | cut -d'|' -f"$column"
    done
}

say() { echo "install-deps: $*" >&2; }

have_command "${CC:-cc}" || { say "there is no C compiler '${CC:-cc}'; install gcc or clang first"; exit 1; }
[ $# -gt 0 ] || set -- base
for group; do needs_of "$group" >/dev/null; done

manager= column= packages=
for known in apt-get:3 dnf:4 apk:5 pacman:6 brew:7; do
    have_command "${known%:*}" && manager=${known%:*} column=${known#*:} && break
done

look() { # look GROUP...: what is missing, and which packages have it
    lacking=$(echo $(missing 1 "$@"))
    [ -z "$manager" ] || packages=$(echo $(missing "$column" "$@" | grep -vx -e - | sort -u))
}

look "$@"
[ -n "$lacking" ] || exit 0

# --- install ----------------------------------------------------------------------------------------

by_hand() { # by_hand WHY: the last word is what a person has to do
    say "$1; still missing: $lacking"
    [ -z "$packages" ] || say "  with $manager, packages $packages"
    case $lacking in *cJSON*) say "  cJSON comes from https://github.com/DaveGamble/cJSON" ;; esac
    case $lacking in *stb_ds*)
        say "  stb_ds is one file, stb_ds.h of https://github.com/nothings/stb: put it into"
        say "  /usr/local/include/stb, or into any folder and add CPPFLAGS=-Ifolder to the make command" ;;
    esac
    exit 1
}

[ -n "$manager" ] || by_hand "found none of apt-get, dnf, apk, pacman, brew"
[ -n "$packages" ] || by_hand "$manager has no package for it"

root=
if [ "$(id -u)" -ne 0 ] && [ $manager != brew ]; then
    have_command sudo || by_hand "installing needs root, and there is no sudo"
    if [ -t 0 ]; then root=sudo; else root='sudo -n'; fi # no terminal, no password: fail, do not wait
fi

apt() {
    $root env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=2 "$@"
}

install() {
    case $manager in
    apt-get) # when the lists of packages are missing or old, fetch them and try again
        apt install -y --no-install-recommends $packages ||
            { apt update && apt install -y --no-install-recommends $packages; } ;;
    dnf) $root dnf install -y $packages ;;
    apk) $root apk add --no-progress $packages ;;
    pacman) $root pacman -Sy --needed --noconfirm $packages ;;
    brew) brew install $packages ;;
    esac
}

say "missing: $lacking; installing $packages"
log=$(mktemp) && trap 'rm -f "$log"' EXIT || exit 1
install >"$log" 2>&1 </dev/null || tail -n 8 "$log" | sed 's/^/    /' >&2
look "$@"
[ -n "$lacking" ] || exit 0
[ -n "$packages" ] || by_hand "$manager has no package for the rest"
by_hand "that did not work (no network? no permission?)"

#!/bin/sh
# Fetches MovieLens latest-small (GroupLens, September 2018) into data/ml-latest-small.
#
# Either the whole, verified data set is there at the end, or nothing is. R2_DATA_URL names another
# place to fetch the same archive from (a mirror, a file:// on this machine). The data has a licence of
# its own: research use, no commercial use; read its README.txt.
set -u
cd "$(dirname "$0")" || exit 1

url=${R2_DATA_URL:-https://files.grouplens.org/datasets/movielens/ml-latest-small.zip}
name=ml-latest-small

# SHA-256 of the text: line ends and blanks before them do not count, since copies differ in them.
verify() { # verify FOLDER
    text_sum "$1/ratings.csv" cd543f457045c4e8ec661e1b7e550b05c3d62153c555c651a1385d490e93ae62 &&
        text_sum "$1/movies.csv" c47b783f23eb304413307e1bb05335e427737da20ec8d3c0e96335567dd5f3dc
}

text_sum() { # text_sum FILE SHA256
    [ -f "$1" ] || return 1
    sum=$(LC_ALL=C awk '{ sub(/[ \t\r]+$/, ""); print }' "$1" | sha256 | cut -d' ' -f1)
    [ "$sum" = "$2" ]
}

sha256() { if have sha256sum; then sha256sum; else shasum -a 256; fi; }
have() { command -v "$1" >/dev/null; }
fail() { echo "fetch: $*" >&2; exit 1; }

download() { # download URL FILE
    if have curl; then curl -fL --retry 2 --connect-timeout 20 --no-progress-meter -o "$2" "$1"
    elif have wget; then wget -q --tries=3 --timeout=20 -O "$2" "$1"
    else fail "needs curl or wget"; fi
}

unpack() { # unpack FILE FOLDER
    if have unzip; then unzip -q "$1" -d "$2"
    elif have bsdtar; then bsdtar -xf "$1" -C "$2"
    elif have python3; then python3 -m zipfile -e "$1" "$2"
    else fail "needs unzip, bsdtar or python3"; fi
}

if verify $name; then
    echo "fetch: data/$name is there and whole"
    exit 0
fi
[ ! -e $name ] || fail "data/$name is there, but it is not the data set; move it away first"

# Next to its destination, so that the last step is a rename.
work=$(mktemp -d ./.fetch.XXXXXX) || fail "cannot write in $(pwd)"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

echo "fetch: $url"
download "$url" "$work/archive.zip" || fail "the download failed (no network?); nothing was written.
fetch: The archive can also be unpacked by hand, so that data/$name/ratings.csv exists."
unpack "$work/archive.zip" "$work" || fail "the archive is broken; nothing was written"
verify "$work/$name" || fail "checksums differ: not the data set of September 2018; nothing was written"
mv "$work/$name" $name
echo "fetch: wrote data/$name; next: make demo DATA=data/$name"

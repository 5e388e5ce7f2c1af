#!/bin/sh
# data/fetch.sh leaves the whole, verified data set or nothing. Runs on a copy of the script in a folder
# of its own; nothing is downloaded, the archives are made here.
cd "$(dirname "$0")/.." && . tests/test.sh

have() { command -v "$1" >/dev/null; }
if ! have curl || ! have unzip || ! have python3; then
    skip 'needs curl, unzip and python3' && finish && exit
fi

real=../shared/data/ml-latest-small
[ -d data/ml-latest-small ] && real=data/ml-latest-small
name=ml-latest-small
cp data/fetch.sh "$here/fetch.sh"

archive() { # archive FILE FOLDER: a zip that holds FOLDER
    (cd "$(dirname "$2")" && python3 -m zipfile -c "$1" "$(basename "$2")")
}

# expect STATUS WORDS URL: fetch ends with STATUS, says WORDS, and leaves no trace when it failed
expect() {
    said=$(R2_DATA_URL=$3 "$here/fetch.sh" 2>&1)
    status=$?
    trace=$(find "$here" -maxdepth 1 -name '.fetch*' -o -maxdepth 1 -name "$name" | wc -l)
    if [ $status -eq "$1" ] && echo "$said" | grep -q "$2" && [ "$trace" -eq $((1 - $1)) ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $3: status $status, not $1; or '$2' is not said; or $trace folders are left:"
        echo "$said"
    fi
}

mkdir -p "$here/wrong/$name"
cp data/mini/*.csv "$here/wrong/$name"
archive "$here/wrong.zip" "$here/wrong/$name"
head -c 1000 "$here/wrong.zip" >"$here/cut.zip"

expect 1 'download failed' "file://$here/missing.zip"
expect 1 'archive is broken' "file://$here/cut.zip"
expect 1 'checksums differ' "file://$here/wrong.zip"

if [ -d $real ]; then
    archive "$here/right.zip" "$PWD/$real"
    expect 0 'wrote data/' "file://$here/right.zip"
    expect 0 'is there and whole' "file://$here/missing.zip"
else
    skip "a successful fetch, since $real is not there"
fi

finish

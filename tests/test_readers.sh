#!/bin/sh
# The programs that an export is for, where they are installed, read it: datasets, TRL, verl, OpenAI's client,
# vLLM. Only on request, since they are large and change: READ_EXPORTS=1 tests/test_readers.sh, and PYTHON=...
# for the Python that has them. test_export.sh checks the shapes without them.
cd "$(dirname "$0")/.." && . tests/test.sh

if [ -z "${READ_EXPORTS:-}" ]; then
    skip 'the real readers of exports are asked with READ_EXPORTS=1 only'
    finish
    exit
fi

few_users 40
for words in english compact; do
    ok "an export in $words" build/examples/tools/export --data "$here/data" --out "$here/$words" --train 200 --words $words
    ok "$words: the readers that are here" "${PYTHON:-python3}" tests/readers.py "$here/$words"
done
finish

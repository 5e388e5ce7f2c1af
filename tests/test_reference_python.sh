#!/bin/sh
# An implementation written from data/vectors/SPEC.md alone, in Python and NumPy, computes what the header
# computes: it passes every vector of every group and the examples of the specification.
cd "$(dirname "$0")/.." && . tests/test.sh

verify=build/examples/tools/verify
python=
for program in python3 /usr/bin/python3; do
    [ -n "$python" ] || ! $program -c 'import numpy' 2>/dev/null || python=$program
done
if [ ! -x $verify ] || [ -z "$python" ]; then
    skip "$verify is not built, or Python has no NumPy"
    finish
    exit
fi
export OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
reference="$python tests/reference/r2rec_ref.py"

ok 'every vector' $verify --timeout 500 -- $reference >"$here/said"
for file in data/vectors/v1/*.json; do
    group=$(basename "$file" .json)
    [ "$group" = schema ] && continue
    n=$(grep -c '^{"id":' "$file")
    ok "all $n of $group are run and pass" grep -q "^$group  *$n  *$n  *0  *0  *0  *0\$" "$here/said"
done
ok 'the examples of SPEC.md' $verify --examples data/vectors/SPEC.md -- $reference >"$here/said"

# It must be able to fail: one constant of Philox off by one.
sed 's/0xD2511F53/0xD2511F54/' tests/reference/r2rec_ref.py >"$here/off.py"
ok 'a changed constant is found' [ "$(
    $verify --group rng -- $python "$here/off.py" >"$here/said" 2>&1
    echo $?
)" -eq 1 ]
finish

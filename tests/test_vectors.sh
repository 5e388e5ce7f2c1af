#!/bin/sh
# The vectors of data/vectors: they are current and keep to their schema, the header passes them with one
# thread and with eight, the examples of SPEC.md are right, and the runner tells what is wrong.
cd "$(dirname "$0")/.." && . tests/test.sh

verify=build/examples/tools/verify
make=build/portable/tests/vectors/make
if [ ! -x $verify ] || [ ! -x $make ]; then
    skip "$verify or $make is not built"
    finish
    exit
fi

mkdir "$here/v1" && $make "$here/v1" >"$here/said"
ok 'at least 600 vectors' [ "$(sed 's/ .*//' "$here/said")" -ge 600 ]
cp data/vectors/v1/schema.json "$here/v1"
ok 'current, else: make vectors' diff -r -q "$here/v1" data/vectors/v1
ok 'less than 5 MB' [ "$(cat data/vectors/v1/*.json | wc -c)" -lt 5000000 ]
ok 'no id twice' [ -z "$(cat data/vectors/v1/*.json | grep -o '^{"id":"[^"]*"' | sort | uniq -d)" ]
if python3 -c 'import jsonschema' 2>/dev/null; then
    ok 'they keep to their schema' python3 - data/vectors/v1/*.json <<'END'
import json, sys, jsonschema
schema = json.load(open('data/vectors/v1/schema.json'))
for path in sys.argv[1:]:
    if not path.endswith('schema.json'):
        group = json.load(open(path))
        jsonschema.validate(group, schema)
        named = {flag for test in group['tests'] for flag in test['flags']}
        assert named == set(group['flags']), (path, named ^ set(group['flags']))
END
else
    skip 'Python has no jsonschema'
fi

for threads in 1 8; do
    ok "the header, $threads threads" $verify --self --threads $threads >"$here/said"
done
ok 'the examples of SPEC.md' $verify --self --examples data/vectors/SPEC.md >"$here/said"
ok 'over the wire' $verify -- $verify --serve >"$here/said"

# An implementation with faults, one group each: another number, an end, silence, no JSON, no reply to start.
cat >"$here/faulty" <<'END'
#!/bin/sh
while read -r line; do
    id=$(echo "$line" | sed 's/.*"id":"\([^"]*\)".*/\1/')
    case $line in
    *'"cmd":"start"'*) echo '{"version":1,"implementation":{"name":"faulty"}}' ;;
    *'"cmd":"group"'*) echo '{"ok":true}' ;;
    *'"cmd":"stop"'*) exit 0 ;;
    *'"group":"graph"'*) echo "{\"id\":\"$id\",\"output\":{\"total\":7}}" ;;
    *'"group":"token"'*) exit 3 ;;
    *'"group":"level"'*) sleep 9 ;;
    *'"group":"codebook"'*) echo 'Traceback (most recent call last):' ;;
    *) echo "{\"id\":\"$id\",\"skip\":\"not today\"}" ;;
    esac
done
END
faulty() { # faulty GROUP: what the runner says of it
    $verify --timeout 1 --report "$here/report.json" --group "$1" -- sh "$here/faulty" >"$here/said" 2>&1
    [ $? -eq 1 ]
}
says() { grep -q -e "$1" "$here/said"; }

ok 'another number fails' faulty graph
ok '... and is shown' says 'total: expected 1, found 7'
ok '... with what its flag says' says 'ButterflyTwice: '
ok '... and reported' grep -q '"result":.*"failed"' "$here/report.json"
ok 'an end is a crash' faulty token
ok '... of every test' says '^token  *25  *0  *0  *0  *25  *0$'
ok 'no JSON fails' faulty codebook
ok '... and is shown' says 'id: expected that of the request, found ""'
mkdir "$here/one" && sed '/"level-level-00[2-9]\|skip"\|"level-level-0[1-9]/d; s/^\({"id":"level-level-001".*\),$/\1/' \
    data/vectors/v1/level.json >"$here/one/level.json"
$verify --timeout 1 --vectors "$here/one" -- sh "$here/faulty" >"$here/said" 2>&1
ok 'silence is a time-out' says '^level  *1  *0  *0  *0  *0  *1$'
$verify --group rng -- sh "$here/faulty" >"$here/said" 2>&1
ok 'what is skipped does not fail, but nothing was run' [ $? -eq 2 ]
$verify -- sh -c 'exit 0' >"$here/said" 2>&1
ok 'a program that ends at once: exit status 2' [ $? -eq 2 ]
ok '... one sentence' says '^verify: sh: expected a reply to start'
$verify -- /no/such/program >"$here/said" 2>&1
ok 'no such program: exit status 2' [ $? -eq 2 ]
$verify --self --vectors "$here/faulty" >"$here/said" 2>&1
ok 'no such vectors: exit status 2' [ $? -eq 2 ]
$verify >"$here/said" 2>&1
ok 'nothing to check: exit status 2' [ $? -eq 2 ]

if command -v node >/dev/null; then
    ok 'an adapter in JavaScript' $verify --group rng -- node tests/vectors/adapter.mjs >"$here/said"
    ok '... its second group' $verify --group metrics -- node tests/vectors/adapter.mjs >"$here/said"
else
    skip 'no node: the adapter in JavaScript'
fi
finish

#!/bin/sh
# data/mini is exactly what its generator writes, and has the shape that its README promises.
cd "$(dirname "$0")/.." && . tests/test.sh

ok "the generator runs" build/data/mini/generate "$here"
ok "movies.csv is what the generator writes" cmp data/mini/movies.csv "$here/movies.csv"
ok "ratings.csv is what the generator writes" cmp data/mini/ratings.csv "$here/ratings.csv"
bytes=$(cat data/mini/*.csv | wc -c)
ok "less than 1 MB" test "$bytes" -lt 1000000
ok "no duplicate (user, film)" test -z "$(cut -d, -f1,2 data/mini/ratings.csv | sort | uniq -d)"
ok "no duplicate title" test -z "$(cut -d, -f2- data/mini/movies.csv | sort | uniq -d)"
ok "the generator refuses a folder that is not there" \
    sh -c '! build/data/mini/generate /no/such/folder 2>/dev/null'

finish

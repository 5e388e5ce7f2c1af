#!/bin/sh
# The report of the demo: one page that loads nothing, in which titles are text whatever they hold. In a
# browser (with mouse and keyboard, at two widths, in two themes) where Node with playwright-core and
# Chromium are there; NODE_PATH says where, axe-core beside it checks accessibility.
cd "$(dirname "$0")/.." && . tests/test.sh

few_users 10
evil='<script>alert(1)<\/script><!-- <\/SCRIPT> \&lt; %s \\N "" '"'"' film '
sed '1!s/^\([0-9]*\),.*,\([^,]*\)$/\1,"'"$evil"'\1",\2/' data/mini/movies.csv >"$here/data/movies.csv"

demo=build/examples/movielens_demo
report() { # report NAME OPTION...: a short journey with its report in $here/NAME
    name=$1
    shift
    $demo --data "$here/data" --out "$here/$name" --sft-steps 12 --grpo-steps 2 "$@" >"$here/$name.said" 2>&1
}
page=$here/out/report.html

ok "a short journey" report out
ok "report.html is written" test -s "$page"
ok "at most 2 MB" test "$(wc -c <"$page")" -le 2000000
ok "no file stays beside it" test ! -e "$here/out/report.tmp"
ok "one script and one block of data" test "$(grep -oi '<script' "$page" | wc -l)" -eq 2 -a \
    "$(grep -oi '</script' "$page" | wc -l)" -eq 2
loads() { grep -Ei 'src=|@import|url\(|fetch\(|XMLHttpRequest|import\(|<(img|iframe|object|embed)|href="[^d#]' "$1"; }
ok "it loads nothing" test -z "$(loads "$page" | grep -v '^{')"

# --- its data ---------------------------------------------------------------------------------------

sed -n '/^{"version"/p' "$page" >"$here/run.json"
cat >"$here/read.py" <<'END'
import json, sys
run = json.load(open(sys.argv[1]))
titles = [item[0] for item in run["items"].values()]
assert len(titles) > 30
assert all(t.startswith("<script>alert(1)</script><!-- </SCRIPT> &lt; %s \\N \" ' film ") for t in titles), titles[0]
assert len(run["sft"]["rows"]) == 12 and len(run["grpo"]["rows"]) == 2
names = [m["name"] for m in run["methods"]]
assert names[-1] == "sft+grpo" and "popularity" in names
explained = open("examples/common/report.html").read()
assert all(f'"{name}": ' in explained for name in names), names
for m in run["methods"]:
    hit = m["hit"]
    assert len(hit) == 20 and hit == sorted(hit) and hit[-1] == 1, m["name"]
    assert abs(hit[0] - m["m"][0]) < 1e-3, m["name"]  # HR@1 of the curve and of the table agree
    if m["model"]: assert sum(b[0] for b in m["bins"]) == 20 * run["data"]["cases"]
assert run["data"]["users"] == 10 and sum(c for _, c in run["data"]["counts"]) == run["data"]["ratings"]
assert run["noun"] == "film" and run["command"].startswith("build/examples/movielens_demo --data ")
for user in run["users"]:
    cases = user["cases"]
    assert len(cases) == 20
    assert all(len(b) == 20 and min(b) == 0 for b in user["better"])
    for case in cases:
        assert case["t"].startswith("<think>") and case["q"].startswith("<q> ")
        assert len(case["p"]) == 6 and len(case["x"]) == run["aggregates"]
    full = [c for c in cases if "m" in c]
    assert "m" in cases[0] and 2 <= len(full) <= 3
    for case in full:
        assert len(case["m"]) == (4 if case["c"] else 1)
        assert case["m"][-1][1] == case["q"]  # step 4 is what the model was asked
        assert all("[?]" in english for english, _ in case["m"]) or not case["c"]
print(len(run["plots"]), len(run["graphs"]))
END
if command -v python3 >/dev/null; then
    pictures=$(python3 "$here/read.py" "$here/run.json" 2>"$here/error")
    ok "the data are JSON and fit together: $(tail -n 1 "$here/error")" test -n "$pictures"
    plots=${pictures% *} graphs=${pictures#* }
    if command -v gnuplot >/dev/null; then ok "plots: $plots" test "$plots" -eq 9; else skip "plots: no gnuplot"; fi
    if command -v dot >/dev/null; then ok "layouts of chains: $graphs" test "$graphs" -ge 2; else skip "graphs: no dot"; fi
else
    skip "the data of the page: no python3"
fi
ok "no title went to Graphviz or gnuplot" sh -c '! grep -o "\"plots\".*" "$0" | grep -q alert' "$here/run.json"

# --- without gnuplot and Graphviz -------------------------------------------------------------------

mkdir "$here/empty"
ok "a journey without the tools" env PATH="$here/empty" $demo --data "$here/data" --out "$here/bare" \
    --sft-steps 1 --grpo-steps 0 >"$here/said" 2>&1
ok "has a page without pictures" grep -q '"graphs":{},"plots":{},' "$here/bare/report.html"

checked=build/checked/examples/movielens_demo
if [ -x $checked ]; then
    awk -F, 'NR == 1 || $1 <= 6' data/mini/ratings.csv >"$here/data/ratings.csv"
    ok "a report under sanitizers" $checked --data "$here/data" --out "$here/checked" --sft-steps 1 --grpo-steps 1 >"$here/said" 2>&1
    ok "is written" test -s "$here/checked/report.html"
else
    skip "a report under sanitizers"
fi

# --- in a browser -----------------------------------------------------------------------------------

chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
if [ -n "$chromium" ] && node -e 'require("playwright-core")' 2>/dev/null; then
    for file in "$page" "$here/bare/report.html"; do
        node tests/report_browser.js "$chromium" "$file" >"$here/said" 2>&1
        ok "in a browser: $(cat "$here/said")" test $? -eq 0
    done
    grep -q '^no axe-core' "$here/said" && skip "accessibility: no axe-core"
else
    skip "the page in a browser: Chromium, or Node with playwright-core, is missing"
fi

finish

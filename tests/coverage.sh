#!/bin/sh
# Runs programs that were built for gcov and tells which lines and branches of r2rec.h they reached, room
# by room. `make coverage` builds them and calls this.
#
#     coverage.sh PROGRAM...              all of them, anew
#     KEEP=1 coverage.sh PROGRAM...       these, beside what ran before
#
# build/coverage/uncovered.txt has what no program reached, a line each. A program that compiles the
# header itself and one that shares the library are added up: a line counts when any of them reached it.
# What is left has a reason in tests/uncovered.txt: "# reason", then lines of the source that it is about.
# A line that is neither reached nor there fails, and so does one that is there and reached.
set -u
cd "$(dirname "$0")/.."
export OMP_WAIT_POLICY=passive LC_ALL=C
for data in $(find build/coverage -name '*.gcda'); do # of a program that was compiled anew, too
    [ "${KEEP:-}" ] && [ "$data" -nt "${data%.gcda}.gcno" ] || rm "$data"
done

for program; do
    began=$(date +%s)
    case $program in
    */fuzz/*) "$program" "tests/fuzz/corpus/${program##*/fuzz_}" ;;
    */probe) PROBE=$program tests/test_cases.sh ;;
    */torture) "$program" ${TORTURE:-sites=1} ;; # errors that only a failing machine makes
    *) "$program" ;;
    esac >build/coverage/said 2>&1 </dev/null ||
        echo "$program: exit status $? (what it reached counts all the same)"
    echo "$program: $(($(date +%s) - began)) s"
done

for data in $(find build/coverage -name '*.gcda'); do
    gcov -b -c -t "$data" 2>/dev/null
done | awk '
    # lines:    "   count*:  number:source"; branches follow the line that they are of
    / 0:Source:/ { ours = $0 ~ /Source:(\.\/)?r2rec\.h$/; next }
    !ours { next }
    /^branch / {
        branch++
        key = line SUBSEP branch
        if (!(key in taken)) order[++n_order] = key
        taken[key] += $4 == "executed" ? 0 : $4
        next
    }
    /^(call|function|unconditional|----)/ { next }
    match($0, /^ *[0-9#=-][0-9*#=-]*: *[0-9]+:/) {
        split($0, part, ":")
        count = part[1]; line = part[2] + 0; branch = 0
        gsub(/[ *]/, "", count)
        source[line] = substr($0, RLENGTH + 1)
        if (line > last) last = line
        if (count != "-") { is_code[line] = 1; hits[line] += count ~ /[#=]/ ? 0 : count }
    }
    END {
        for (k = 1; k <= n_order; ++k) {
            split(order[k], part, SUBSEP)
            branches[part[1]]++
            reached[part[1]] += taken[order[k]] > 0
        }
        # rooms of the implementation, by their marks
        room = "before the first room"
        for (l = 1; l <= last; ++l) {
            if (match(source[l], /\[[A-Z][0-9]+\] [a-zA-Z][^=]*/) && source[l] ~ /^\/\* =+/) {
                room = substr(source[l], RSTART, RLENGTH)
                sub(/ *$/, "", room)
            }
            if (!(room in seen)) { seen[room] = 1; rooms[++n_rooms] = room }
            if (!(l in is_code)) continue
            lines[room]++; all_lines++
            if (hits[l] > 0) { good[room]++; all_good++ }
            else printf "%d: %s\n", l, source[l] > "build/coverage/uncovered.txt"
            b[room] += branches[l]; all_b += branches[l]
            r[room] += reached[l]; all_r += reached[l]
            if (hits[l] > 0 && reached[l] < branches[l])
                printf "%d: %d of %d branches: %s\n", l, reached[l], branches[l], source[l] > "build/coverage/branches.txt"
        }
        for (k = 1; k <= n_rooms; ++k)
            if (lines[rooms[k]])
                printf "%-42s lines %5.1f %% of %5d, branches %5.1f %% of %5d\n", rooms[k],
                    100 * good[rooms[k]] / lines[rooms[k]], lines[rooms[k]],
                    b[rooms[k]] ? 100 * r[rooms[k]] / b[rooms[k]] : 100, b[rooms[k]]
        close("build/coverage/uncovered.txt")
        if (all_lines)
            printf "%-42s lines %5.1f %% of %5d, branches %5.1f %% of %5d\n", "r2rec.h",
                100 * all_good / all_lines, all_lines, 100 * all_r / all_b, all_b
    }' | tee build/coverage/report.txt

# lines without their numbers and indentation, each once
plain() { sed 's/^[0-9]*: *//' | sort -u; }
plain <build/coverage/uncovered.txt >build/coverage/left
grep -v '^#' tests/uncovered.txt | grep . | sort -u >build/coverage/listed
comm -23 build/coverage/left build/coverage/listed | sed 's/^/not reached, without a reason: /' >build/coverage/differ
comm -13 build/coverage/left build/coverage/listed | sed 's/^/reached, take it off tests\/uncovered.txt: /' >>build/coverage/differ
cat build/coverage/differ
[ ! -s build/coverage/differ ]

#!/bin/sh
# Several processes by MPI: 1, 2, 3 and 5 leave the same files as one program without it; a killed process
# and a full disk end the job and leave the last state whole, with which another number of processes goes on.
# Skipped where MPI is not installed (tools/install-deps.sh mpi; make MPI=1). test_team.c has the details.
cd "$(dirname "$0")/.." && . tests/test.sh

plain=build/examples/movielens_demo demo=build/mpi/examples/movielens_demo
if ! command -v mpirun >/dev/null || [ ! -x $demo ] || [ ! -x $plain ]; then
    skip "no MPI here, or $demo is not built: tools/install-deps.sh mpi, then make MPI=1"
    finish
    exit
fi

# OpenMPI's settings: root may run it; more processes than processors, which yield while they wait.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_vader_single_copy_mechanism=none

few_users 25
options="--data $here/data --seed 3 --quiet --sft-steps 24 --grpo-steps 2"

together() { # together N OUT [OPTION...]
    n=$1 out=$2
    shift 2
    timeout 300 mpirun --quiet -n "$n" $demo $options --out "$out" "$@" >"$out.out" 2>"$out.err" </dev/null
}

same() { # same OUT: the files of the run without MPI
    for file in metrics.json traces.jsonl model.safetensors candidates.csv recommendations.txt; do
        cmp "$here/alone/$file" "$1/$file" || return
    done
}

ok 'without MPI' $plain $options --threads 2 --out "$here/alone" >"$here/alone.out"
for n in 1 2 3 5; do
    ok "$n processes" together $n "$here/by$n"
    ok "$n processes leave the same files" same "$here/by$n"
done
ok 'one process speaks' [ "$(grep -c '^Where the time went' "$here/by3.out")" -eq 1 ]

# A process is killed in the middle of the training, whatever it does there.
mkdir "$here/killed"
together 3 "$here/killed" --sft-steps 100000 & job=$!
tries=0
until [ -s "$here/killed/sft.state" ] || [ $tries -ge 1200 ]; do sleep 0.1 && tries=$((tries + 1)); done
victim=$(pgrep -f -- "^$demo .*--out $here/killed" | tail -n 1)
ok 'a state is written' [ -s "$here/killed/sft.state" ]
ok 'a process is killed' kill -9 "$victim"
wait $job
ok 'a killed process ends the job' [ $? -ne 0 ]
ok 'and all of its processes' [ -z "$(pgrep -f -- "^$demo .*--out $here/killed")" ]

# Another number goes on from a state that a killed run has left: with the options of `alone`.
mkdir "$here/resumed"
together 2 "$here/resumed" & job=$!
tries=0
until [ -s "$here/resumed/grpo.state" ] || [ -s "$here/resumed/sft.state" ] || [ $tries -ge 1200 ]; do
    sleep 0.05 && tries=$((tries + 1))
done
victim=$(pgrep -f -- "^$demo .*--out $here/resumed" | head -n 1)
ok 'a process of another run is killed' kill -9 "$victim"
wait $job
ok 'the run is not at its end' [ ! -e "$here/resumed/metrics.json" ]
ok 'three processes go on' together 3 "$here/resumed" --continue
ok 'to the same files' same "$here/resumed"

# A disk that is full when the first state is written.
if [ "$(id -u)" -eq 0 ] && mkdir "$here/small" && mount -t tmpfs -o size=256k none "$here/small" 2>/dev/null; then
    trap 'umount "$here/small"; rm -rf "$here"' EXIT
    mkdir "$here/small/out"
    timeout 300 mpirun --quiet -n 2 $demo $options --out "$here/small/out" >/dev/null 2>"$here/full" </dev/null
    ok 'a full disk ends the job' [ $? -eq 1 ]
    ok 'with one sentence' [ "$(grep -c 'movielens_demo: .*cannot write: No space left' "$here/full")" -eq 1 ]
else
    skip 'no small disk can be mounted here'
fi

finish

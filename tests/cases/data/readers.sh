# For cases that try one kind of fault on every reader: alter READER FAULT SED-EXPRESSION changes the good
# file of a reader and reads it. What is said is printed after "READER FAULT: ". The files:
#   config index adapter tokenizer run codebook records ratings candidates vocab
data=tests/cases/data
mkdir $TMP/model $TMP/shards $TMP/adapter $TMP/saved
cp $data/model/* $TMP/model
cp $data/model/config.json $TMP/shards
cp $data/model/model.safetensors $TMP/shards/a.safetensors
grep -a -o '"[a-z][a-z_0-9.]*weight"' $data/model/model.safetensors | sed 's/$/: "a.safetensors"/' |
    sed '1s/^/{"weight_map": {/; $!s/$/,/; $s/$/}}/' >$TMP/shards/model.safetensors.index.json
cp $data/adapter/* $TMP/adapter
cp $data/tokenizer.json $TMP
$PROBE run $data/ratings $TMP/saved sft.n_steps=1 grpo.n_steps=0 >$TMP/said
cp tests/cases/records-out-of-schema/rec-good $TMP/records
printf '{"user":"a","item":"x","rating":3,"time":100}\n{"user":"b","item":"x","rating":4,"time":200}\n' >$TMP/ratings
printf '0\t0\t1\n1\t0\t2\n' >$TMP/candidates
cp $TMP/saved/vocab.txt $TMP/vocab

place() {
    case $1 in
    config) echo $TMP/model/config.json ;;
    index) echo $TMP/shards/model.safetensors.index.json ;;
    adapter) echo $TMP/adapter/adapter_config.json ;;
    tokenizer) echo $TMP/tokenizer.json ;;
    run) echo $TMP/saved/run.json ;;
    codebook) echo $TMP/saved/codebook.json ;;
    *) echo $TMP/$1 ;;
    esac
}

read_it() {
    case $1 in
    config) $PROBE model $TMP/model ;;
    index) $PROBE model $TMP/shards ;;
    adapter) $PROBE model $data/model $TMP/adapter ;;
    tokenizer) $PROBE tok $TMP/tokenizer.json abc ;;
    run | codebook) $PROBE reload $data/ratings $TMP/saved ;;
    records) $PROBE records $TMP/records ;;
    ratings) $PROBE load $TMP/ratings ;;
    candidates) $PROBE candidates $data/ratings $TMP/candidates ;;
    vocab) $PROBE vocab $TMP/vocab ;;
    esac
}

alter() {
    path=$(place $1)
    cp $path $TMP/good
    sed "$3" $TMP/good >$path
    cmp -s $TMP/good $path && echo "$1 $2: nothing was changed"
    [ $1 = codebook ] && mv $TMP/saved/run.json $TMP/run.json # the digests would refuse it first
    read_it $1 | sed "s/^/$1 $2: /"
    [ $1 = codebook ] && mv $TMP/run.json $TMP/saved/run.json
    cp $TMP/good $path
}

# Every good file is read; without this a refusal would say nothing.
for reader in config index adapter tokenizer run codebook records ratings candidates vocab; do
    read_it $reader | sed -n "1s/^/$reader good: /p"
done

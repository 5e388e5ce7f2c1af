#!/bin/sh
# examples/tools/language_model, on few users and steps: it makes a model from nothing, teaches it by
# adapters, goes on from what it saved, gives the same bytes for any number of threads, and says what
# is wrong in one line.
cd "$(dirname "$0")/.." && . tests/test.sh

lm=build/examples/tools/language_model
few_users 40

short() { # short OUT OPTION...
    out=$1
    shift
    OMP_WAIT_POLICY=passive $lm --data "$here/data" --out "$here/$out" --questions 100 --cases 8 \
        --batch 2 --sft-steps 3 --grpo-steps 1 "$@" >"$here/$out.txt" 2>"$here/$out.err"
}

refuses() { # refuses WORDS OPTION...: one line on standard error that holds WORDS
    words=$1
    shift
    $lm --data "$here/data" --out "$here/refused" --questions 20 "$@" >/dev/null 2>"$here/error"
    status=$?
    ok "$* is refused: $words" [ $status -ge 1 -a $status -le 2 -a "$(wc -l <"$here/error")" -eq 1 \
        -a "$(grep -c -e "$words" "$here/error")" -eq 1 ]
}

ok 'from nothing' short one --threads 1 --scratch --scratch-steps 4
for row in popularity logistic zero-shot 'SFT, direct' 'SFT, reasoned' 'SFT + GRPO, reasoned'; do
    ok "a row for $row" grep -q "^  $row  *[01]\.[0-9]* *\[" "$here/one.txt"
    ok "and in language.json" grep -q "\"$row\"" "$here/one/language.json"
done
ok 'memory and time are said before the table' [ "$(sed -n '/^memory: about/=' "$here/one.txt")" -lt \
    "$(sed -n '/^time: about/=' "$here/one.txt")" -a "$(sed -n '/^time: about/=' "$here/one.txt")" -lt \
    "$(sed -n '/zero-shot/=' "$here/one.txt")" ]
ok 'a prompt in English' grep -q '^Chain 1: the user gave "' "$here/one.txt"
for file in base/config.json base/model.safetensors base/tokenizer.json adapters/adapter_config.json \
    adapters/adapter_model.safetensors; do
    ok "$file is written" test -s "$here/one/$file"
done
ok 'adapters as PEFT names them' grep -q 'base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight' \
    "$here/one/adapters/adapter_model.safetensors"

ok 'with two threads' short two --threads 2 --scratch-steps 4
for file in language.json base/model.safetensors base/tokenizer.json adapters/adapter_model.safetensors; do
    ok "$file: the same bytes with another number of threads" cmp "$here/one/$file" "$here/two/$file"
done

# the directory that was written is one that can be read: the same model, the same adapters
ok 'a directory' short three --threads 1 --model "$here/one/base"
ok 'gives what the making gave' cmp "$here/one/language.json" "$here/three/language.json"
ok 'adapters' short four --threads 1 --model "$here/one/base" --adapters "$here/one/adapters" \
    --sft-steps 0 --grpo-steps 0
ok 'that are loaded' grep -q '^  adapters as loaded ' "$here/four.txt"
ok 'rank as the model with them did' [ "$(sed -n '/^One prompt/,/^peak/p' "$here/four.txt" | sed '/^peak/,$d')" = \
    "$(sed -n '/^One prompt/,/^peak/p' "$here/one.txt" | sed '/^peak/,$d')" ]
ok 'without test items' short five --model "$here/one/base" --validation --sft-steps 0 --grpo-steps 0
ok 'which is said' grep -q '(validation)' "$here/five.txt"

# Ctrl-C: the state is kept, and --continue ends with the same bytes
learn() { # DIR [OPTION...]
    dir=$1
    shift
    OMP_WAIT_POLICY=passive $lm --data "$here/data" --out "$dir" --questions 100 --cases 8 --batch 2 --threads 1 \
        --model "$here/one/base" --sft-steps 150 --grpo-steps 2 "$@" >"$dir.txt" 2>"$dir.err"
}
ok 'a longer learning' learn "$here/whole"
cat >"$here/learn.sh" <<END
exec env OMP_WAIT_POLICY=passive $lm --data "$here/data" --out "$here/six" --questions 100 --cases 8 --batch 2 --threads 1 \
    --model "$here/one/base" --sft-steps 150 --grpo-steps 2
END
sh "$here/learn.sh" >"$here/six.txt" 2>"$here/six.err" &
pid=$!
for tenth in $(seq 300); do
    grep -q 'sft, step 1:' "$here/six.err" 2>/dev/null && break
    sleep 0.1
done
kill -INT $pid
wait $pid
ok 'Ctrl-C is status 130' [ $? -eq 130 ]
ok 'how to go on' grep -q 'the same command with --continue goes on from here' "$here/six.err"
ok 'where it stood' test -s "$here/six/language-sft.state"
ok 'it goes on' learn "$here/six" --continue
for file in language.json adapters/adapter_model.safetensors; do
    ok "$file: the same bytes as without a stop" cmp "$here/whole/$file" "$here/six/$file"
done
ok 'nothing is left of the state' [ -z "$(ls "$here/six" | grep state)" ]

refuses "$here/none" --model "$here/none"
refuses 'tokenizer.json' --model "$here/data"
refuses 'adapter' --model "$here/one/base" --adapters "$here/data"
refuses '"--nonsense"' --nonsense
refuses '--rank' --rank 0
refuses 'found both' --scratch --model "$here/one/base"
ok '--help' [ "$($lm --help | grep -c -e '^  --')" -ge 15 ]

finish

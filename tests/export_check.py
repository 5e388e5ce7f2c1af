"""Outputs for the candidates of an export, right ones and wrong ones of every kind; and the comparison of
the two checkers, that of r2rec.h (by `export --import`) and r2rec_reward.py.

    export_check.py outputs DIR N > said.jsonl     N candidates, about ten outputs each
    export_check.py compare DIR said.jsonl         reads DIR/checked.jsonl
    export_check.py shapes DIR                     every line has the keys and types of its format
    export_check.py batch said.jsonl               the same outputs as results of a batch
"""
import json
import os
import random
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../examples/tools"))
import r2rec_reward as reward


def records(directory):
    with open(os.path.join(directory, "batch.jsonl"), encoding="utf-8") as batch, \
            open(os.path.join(directory, "test.json"), encoding="utf-8") as test:
        for request, line in zip(batch, test):
            yield json.loads(request)["custom_id"], json.loads(line)["ground_truth"]


def compact(truth, rng):
    """Reasoning that cites one fact of each thought."""
    total, words, thoughts = 0, ["<think>"], {}
    for word, (thought, weight) in reward.compact_facts(truth).items():
        thoughts.setdefault(thought, []).append((word.decode(), weight))
    for facts in thoughts.values():
        word, weight = rng.choice(facts)
        total = max(-24, min(24, total + weight))
        words += [word, "%+d" % weight, "=%+d" % total]
    return " ".join(words + ["</think>", "<answer>", str(rng.randrange(6)), "</answer>"])


def english(truth, rng):
    """Reasoning that quotes the first chain, step by step."""
    statements, target, steps = reward.english_facts(truth["prompt"].encode())
    lines, answer = ["<think>"], rng.randrange(6)
    for step in range(1, steps):
        own = [s for s in statements if s[0] == step and s[3] is not None]
        said = "no chain to follow"
        if own:
            _, person, title, rating = rng.choice(own)
            who = "Person " + chr(ord("A") + person - 1) if person else "the user"
            said = '%s gave "%s" %g stars' % (who, title.decode(), rating)
        lines.append("Step %d: %s." % (step, said))
    lines.append("Step %d: this is mixed, so I expect %d." % (steps, answer))
    return "\n".join(lines) + "\n</think><answer>%d</answer>" % answer


def mutants(output, rng):
    """The output, and what may go wrong with it."""
    words = output.split(" ")
    yield output
    yield output.replace("</think>", "", 1)
    yield output[:rng.randrange(len(output))]
    yield output + " <answer> 3 </answer>"
    yield output.replace("<answer>", "<answer> 7", 1)
    yield "<answer> 2 </answer> " + output
    yield "Well. " + output
    yield output.replace("expect ", "think of ", 1)
    yield output.replace("Step 2", "Step 3", 1)
    yield output.replace(" stars", ".5 stars", 1).replace("Person A", "Person Q", 1)
    k = rng.randrange(len(words))
    yield " ".join(words[:k] + words[k + 1:])
    yield " ".join(words[:k] + [words[k]] + words[k:])
    yield " ".join(words[:k] + [rng.choice(words)] + words[k + 1:])
    at = rng.randrange(len(output))
    yield output[:at] + rng.choice('0123456789"+-=;.\n <>AS') + output[at + 1:]
    yield output.replace('"', "", 1)
    digits = [k for k, c in enumerate(output) if c.isdigit()]
    at = rng.choice(digits)
    yield output[:at] + str((int(output[at]) + 1) % 10) + output[at + 1:]


def write_outputs(directory, n):
    rng = random.Random(1)
    for k, (custom_id, ground_truth) in enumerate(records(directory)):
        if k == n:
            break
        truth = json.loads(ground_truth)
        output = (english if truth["words"] == "english" else compact)(truth, rng)
        for text in mutants(output, rng):
            print(json.dumps({"custom_id": custom_id, "completion": text}))


def compare(directory, said):
    truths, n, wrong, seen = dict(records(directory)), 0, 0, set()
    with open(said, encoding="utf-8") as outputs, \
            open(os.path.join(directory, "checked.jsonl"), encoding="utf-8") as checked:
        for line, verdict in zip(outputs, checked):
            line, c, n = json.loads(line), json.loads(verdict), n + 1
            own = reward.check(truths[c["custom_id"]], line["completion"])
            same = (line["custom_id"] == c["custom_id"] and own == (
                c["verdict"], c["answer"], c["cited"], c["found"], c["right"], c["total"],
                c["well_formed"]) and
                abs(reward.score(truths[c["custom_id"]], line["completion"]) - c["reward"]) < 1e-6)
            seen.add(c["verdict"])
            wrong += not same
            if not same and wrong < 5:
                print("differs: %r\n  C %s\n  Python %s" % (line["completion"], c, own))
    print("%d outputs, %d differ; verdicts: %s" % (n, wrong, ", ".join(sorted(seen))))
    return n > 0 and not wrong


TEXT, WHOLE, MESSAGES = str, int, [{"role": str, "content": str}]
RL = {"data_source": TEXT, "prompt": MESSAGES, "ability": TEXT,
      "reward_model": {"style": TEXT, "ground_truth": TEXT},
      "extra_info": {"split": TEXT, "index": WHOLE, "user": TEXT, "item": TEXT, "chains": WHOLE},
      "ground_truth": TEXT}
SHAPES = {"train.json": RL, "test.json": RL,
          "sft.json": {"prompt": MESSAGES, "completion": MESSAGES},
          "alpaca.json": {"instruction": TEXT, "input": TEXT, "output": TEXT, "system": TEXT, "history": []},
          "sharegpt.json": {"messages": MESSAGES},
          "batch.jsonl": {"custom_id": TEXT, "method": TEXT, "url": TEXT,
                          "body": {"model": TEXT, "messages": MESSAGES, "max_completion_tokens": WHOLE,
                                   "temperature": WHOLE}}}


def fits(value, shape):
    if isinstance(shape, dict):
        return isinstance(value, dict) and list(value) == list(shape) and all(
            fits(value[key], shape[key]) for key in shape)
    if isinstance(shape, list):
        return isinstance(value, list) and bool(value) == bool(shape) and all(
            fits(element, shape[0]) for element in value)
    return type(value) is shape


def shapes(directory):
    good = True
    for name, shape in SHAPES.items():
        with open(os.path.join(directory, name), encoding="utf-8") as lines:
            bad = [n for n, line in enumerate(lines, 1) if not fits(json.loads(line), shape)]
        if bad or not n_lines(directory, name):
            print("%s: no lines, or of another shape: %s" % (name, bad[:5]))
            good = False
    with open(os.path.join(directory, "dataset_info.json"), encoding="utf-8") as info:
        for entry in json.load(info).values():
            first = json.loads(open(os.path.join(directory, entry["file_name"]), encoding="utf-8").readline())
            good = good and all(column in first for column in entry["columns"].values())
    return good


def n_lines(directory, name):
    with open(os.path.join(directory, name), encoding="utf-8") as lines:
        return sum(1 for _ in lines)


def as_batch(said):
    """Both shapes in which engines answer, and a failed request at the end."""
    with open(said, encoding="utf-8") as lines:
        for k, line in enumerate(lines):
            line = json.loads(line)
            body = {"choices": [{"index": 0, "message": {"role": "assistant", "content": line["completion"]}}]}
            response = {"status_code": 200, "body": body} if k % 2 else body
            print(json.dumps({"id": "r%d" % k, "custom_id": line["custom_id"], "response": response, "error": None}))
        print(json.dumps({"custom_id": line["custom_id"], "response": None, "error": {"message": "no"}}))


command, rest = sys.argv[1], sys.argv[2:]
if command == "outputs":
    write_outputs(rest[0], int(rest[1]))
elif command == "batch":
    as_batch(rest[0])
else:
    sys.exit(not {"compare": compare, "shapes": shapes}[command](*rest))

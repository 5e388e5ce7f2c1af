"""What the real readers make of an export, where they are installed: readers.py DIR. One line for each reader,
"NAME VERSION: what it found" or "NAME: not installed"; exit status 1 when one found something else than
the files hold, or failed."""
import importlib
import json
import os
import sys

directory = sys.argv[1]


def path(name):
    return os.path.join(directory, name)


def lines(name):
    with open(path(name), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def hugging_face(datasets):
    """datasets, by which TRL, verl, OpenRLHF and LLaMA-Factory read: every row and value as they are."""
    found = []
    for name in ("train.json", "test.json", "sft.json", "alpaca.json", "sharegpt.json"):
        own = lines(name)
        read = datasets.load_dataset("json", data_files=path(name), split="train", cache_dir=path("cache"))
        assert len(read) == len(own), (name, len(read), len(own))
        assert set(read.column_names) == set(own[0]), (name, read.column_names)
        for k in range(0, len(own), max(1, len(own) // 50)):
            assert read[k] == own[k], (name, k)
        found.append("%s %d" % (name, len(read)))
    return ", ".join(found)


def trl(module):
    """TRL tells by a row's keys what the data are for, and puts the chat template around messages."""
    import trl.data_utils as data
    prompt, pair = lines("train.json")[0], lines("sft.json")[0]
    assert "prompt" in prompt and {"prompt", "completion"} <= set(pair)
    return "conversational: GRPO %s, SFT %s" % (data.is_conversational(prompt), data.is_conversational(pair))


def verl(module):
    """verl's data set takes the prompt key, the ground truth and extra_info of a row."""
    import verl.utils.dataset.rl_dataset as rl  # noqa: F401  (it needs PyTorch and transformers)
    row = lines("train.json")[0]
    assert row["reward_model"]["ground_truth"] and isinstance(row["prompt"], list) and "index" in row["extra_info"]
    return "RLHFDataset can be imported; rows have prompt, reward_model, extra_info"


def openai(module):
    """The types of OpenAI's client check the messages of a request."""
    import pydantic
    from openai.types.chat import ChatCompletionMessageParam
    check = pydantic.TypeAdapter(ChatCompletionMessageParam)
    requests = lines("batch.jsonl")
    for request in requests:
        for message in request["body"]["messages"]:
            check.validate_python(message)
    return "batch.jsonl %d requests" % len(requests)


def vllm(module):
    """vLLM's own model of a line of a batch."""
    from vllm.entrypoints.openai.run_batch import BatchRequestInput
    requests = lines("batch.jsonl")
    for request in requests:
        BatchRequestInput.model_validate(request)
    return "batch.jsonl %d requests" % len(requests)


bad = False
for name, look in (("datasets", hugging_face), ("trl", trl), ("verl", verl), ("openai", openai), ("vllm", vllm)):
    try:
        module = importlib.import_module(name)
    except ImportError:
        print("%s: not installed" % name)
        continue
    try:
        print("%s %s: %s" % (name, getattr(module, "__version__", "?"), look(module)))
    except Exception as error:  # a reader may fail in any way: all of them are findings
        print("%s %s: FAILED: %r" % (name, getattr(module, "__version__", "?"), error))
        bad = True
sys.exit(bad)

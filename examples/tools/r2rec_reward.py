"""The strict checker and the reward of r2rec.h, for the engines that train elsewhere.

    TRL        GRPOTrainer(reward_funcs=r2rec_reward.trl_reward, ...)
    verl       custom_reward_function.path=r2rec_reward.py
               custom_reward_function.name=compute_score
    OpenRLHF   --reward.remote_url r2rec_reward.py --data.label_key ground_truth
               (before 0.9: --remote_rm_url, --label_key)

The three wrappers at the end score with one function. Each record that `export` writes carries what
the checker needs in `ground_truth`, a JSON text:

    {"words": "english", "answer": 4, "prompt": "..."}
    {"words": "compact", "answer": 4, "prompt": "...", "weights": {"pop:2": 4, ...}}

tests/test_export.sh compares every verdict, count and reward with the C checker on thousands of
outputs. Text is handled as UTF-8 bytes, as in C. Python 3.8 or newer, no packages.
"""
import json
import math
import re
from collections import namedtuple

WEIGHTS = {"format": 0.5, "accuracy": 1.0, "faithfulness": 2.0}  # the score that ranks is not known here
MAX_TOTAL = 24  # of compact reasoning
FACTS_PER_THOUGHT = 3

VERDICTS = ["ok", "malformed", "no answer", "two answers", "answer first", "unknown fact",
            "wrong weight", "wrong total", "missing step", "wrong rating", "contradicts"]

Check = namedtuple("Check", "verdict answer n_cited n_found n_right total well_formed")


class Tally:
    """A check in the making: the first fault is the verdict."""

    def __init__(self):
        self.verdict, self.answer, self.total, self.well_formed = "ok", -1, 0, False
        self.n_cited = self.n_found = self.n_right = 0

    def fault(self, verdict):
        if self.verdict == "ok":
            self.verdict = verdict

    def check(self):
        return Check(self.verdict, self.answer, self.n_cited, self.n_found, self.n_right, self.total,
                     self.well_formed)


# ---- compact words -------------------------------------------------------------------------------


def words_of(text):
    """Words; any byte up to a blank separates them."""
    return re.findall(rb"[^\x00-\x20]+", text)


def number(word, prefix=b"", signed=False):
    """A whole number of at most three digits as C prints it, or None."""
    found = re.fullmatch(re.escape(prefix) + (rb"([+-])" if signed else rb"()") + rb"(\d{1,3})", word)
    if not found:
        return None
    sign, digits = found.groups()
    if digits[:1] == b"0" and (len(digits) > 1 or sign == b"-"):
        return None
    return -int(digits) if sign == b"-" else int(digits)


def compact_facts(truth):
    """The facts that a trace can cite, in the order of the fields: word -> (thought, weight)."""
    fields = list(dict.fromkeys(word.split(":")[0] for word in truth["weights"]))
    facts, next_field = {}, 0
    for word in words_of(truth["prompt"].encode()):
        weight = truth["weights"].get(word.decode("utf-8", "replace"))
        field = -1 if weight is None else fields.index(word.decode().split(":")[0])
        if field >= next_field:
            facts[word] = (field // FACTS_PER_THOUGHT, weight)
            next_field = field + 1
    return facts


def single_spaces(text):
    """Whether words are separated by single spaces and nothing else."""
    return not re.search(rb"[\x00-\x1f]|^ |  | $|^$", text)


def compact_shape(text):
    """Verdict and answer: tags in their order, each once, one answer, nothing else."""
    tags = [b"<think>", b"</think>", b"<answer>", b"</answer>"]
    seen, order, after, answers, answer = [0] * 4, 0, 0, 0, None
    good, previous = single_spaces(text), b""
    for word in words_of(text):
        for k, tag in enumerate(tags):
            if word == tag:
                if k == 2 and not seen[1]:
                    return "answer first", -1
                seen[k] += 1
                good = good and k == order
                order = k + 1
        good = good and order > 0
        if previous == tags[2]:
            answer = number(word)
            good = good and answer is not None and len(word) == 1 and answer <= 5
            answers += 1
        elif order == 3 and word != tags[2]:
            good = False
        if order == 4:
            good = good and not after
            after += 1
        if order == 2 and word != tags[1]:
            good = False
        previous = word
    if answers > 1 or seen[2] > 1:
        return "two answers", -1
    if answers == 0:
        return "no answer", -1
    if not good or order != 4:
        return "malformed", -1
    return "ok", answer


def check_compact(truth, text):
    tally = Tally()
    facts, words = compact_facts(truth), words_of(text)
    tally.verdict, tally.answer = compact_shape(text)

    def malformed():
        tally.fault("malformed")
        tally.answer = -1
        return tally.check()

    if words[:1] != [b"<think>"]:
        return malformed()
    last, at = -1, 1
    while at < len(words) and words[at] != b"</think>":
        thought = words[at:at + 3]
        weight = number(thought[1], signed=True) if len(thought) > 1 else None
        total = number(thought[2], b"=", signed=True) if len(thought) > 2 else None
        if weight is None or total is None:
            return malformed()
        tally.n_cited += 1
        if thought[0] in facts:
            place, own = facts[thought[0]]
            tally.n_found += 1
            tally.n_right += weight == own
            if place <= last:
                tally.fault("missing step")
            if weight != own:
                tally.fault("wrong weight")
            last = place
        else:
            tally.fault("unknown fact")
        if total != max(-MAX_TOTAL, min(MAX_TOTAL, tally.total + weight)):
            tally.fault("wrong total")
        tally.total = total
        at += 3
    if not tally.n_cited:
        return malformed()
    tally.well_formed = tally.answer >= 0
    if tally.n_cited != len({thought for thought, _ in facts.values()}):
        tally.fault("missing step")
    return tally.check()


# ---- English -------------------------------------------------------------------------------------

BLANKS = b" \n\r\t"
STATEMENT = re.compile(rb'(?:Person (?P<person>[^\n])|(?P<user>the user)) gave "(?P<title>[^"\n]*)" '
                       rb"(?:(?P<masked>\[\?\])|(?P<rating>\d*(?:\.\d+)?)) stars")


def decimal(digits):
    return float(b"0" + digits) if digits else 0.0


def english_facts(prompt):
    """The statements of a prompt, [edge, person, title, rating or None], the target and the step."""
    statements, target, step = [], None, 0
    for line in prompt.split(b"\n"):
        found = re.match(rb'The target is "([^"]*)"', line)
        if found:
            target, step = found[1], 4
        if not line.startswith(b"Chain "):
            continue
        at, edge = line.find(b":"), 0
        while 0 <= at < len(line) - 2 and edge < 4:
            found = STATEMENT.match(line, at + 2)
            if not found:
                break
            edge += 1
            person = 1 + found["person"][0] - ord("A") if found["person"] else 0
            rating = None if found["masked"] else decimal(found["rating"])
            statements.append((edge, person, found["title"], rating))
            at = found.end()
        step = max(step, edge)
    return statements, target, step


def english_shape(text):
    """Verdict, answer and the reasoning between the tags."""
    first = {tag: text.find(tag) for tag in (b"<think>", b"</think>", b"<answer>", b"</answer>")}
    n = {tag: text.count(tag) for tag in first}
    ask, end = first[b"<answer>"], first[b"</think>"]
    if n[b"<answer>"] > 1:
        return "two answers", -1, b""
    if ask >= 0 and (end < 0 or ask < end):
        return "answer first", -1, b""
    if ask < 0 or not n[b"</answer>"]:
        return "no answer", -1, b""
    whole = re.fullmatch(rb"[ \n\r\t]*<think>(.*)</think>[ \n\r\t]*<answer>[ \n\r\t]*([0-5])"
                         rb"[ \n\r\t]*</answer>[ \n\r\t]*", text, re.S)
    if not whole or max(n.values()) > 1 or not whole[1].strip(BLANKS):
        return "malformed", -1, b""
    return "ok", int(whole[2]), whole[1]


class English:
    """Reads the reasoning from left to right, as a clause speaks of a person and a title."""

    def __init__(self, prompt, body, tally):
        self.statements, self.target, self.n_steps = english_facts(prompt)
        self.body, self.tally = body, tally
        self.person, self.title, self.step, self.conclusion = -1, None, 0, -1
        self.cited = set()

    def clause(self, person):
        self.person, self.title = person, None

    def quote(self, at):
        close = self.body.find(b'"', at + 1)
        if close < 0:
            self.tally.fault("unknown fact")
            return len(self.body)
        self.title = self.body[at + 1:close]
        if self.title != self.target and all(s[2] != self.title for s in self.statements):
            self.tally.fault("unknown fact")
        return close + 1

    def rating(self, at):
        digits = re.compile(rb"\d+(?:\.\d+)?").match(self.body, at)
        at, found, right = digits.end(), False, False
        if not self.body.startswith(b" star", at):
            return at
        for edge, person, title, rating in self.statements:
            if right or self.person not in (-1, person) or rating is None:
                continue
            if self.title is not None and self.title != title:
                continue
            found = True
            right = abs(rating - float(digits[0])) < 1e-4
            if right and edge == self.step:
                self.cited.add(edge)
        self.tally.n_cited += 1
        self.tally.n_found += found
        self.tally.n_right += right
        if not right:
            self.tally.fault("wrong rating")
        return at

    def take_step(self, at):
        k = self.body[at + 5] - ord("0") if self.body[at + 6:at + 7] == b":" else -1
        if k == self.step + 1 and k <= self.n_steps:
            self.step = k
        else:
            self.tally.fault("missing step")
        return at + 5

    def take_person(self, at):
        person = 1 + self.body[at + 7] - ord("A") if at + 7 < len(self.body) else -1
        known = person > 0 and any(s[1] == person for s in self.statements)
        if not known:
            self.tally.fault("unknown fact")
        self.clause(person if known else math.inf)
        return min(at + 8, len(self.body))

    def conclude(self, at):
        at += len(b"expect ")
        if self.step < self.n_steps:
            self.tally.fault("answer first")
        digits = re.compile(rb"\d*").match(self.body, at)[0]
        self.conclusion = int(digits) if len(digits) == 1 else -1
        return at

    def read(self, at):
        here = self.body
        if here[at:at + 1] == b'"':
            return self.quote(at)
        if here[at:at + 1].isdigit():
            return self.rating(at)
        if here.startswith(b"Step ", at):
            return self.take_step(at)
        if here.startswith(b"Person ", at):
            return self.take_person(at)
        if here.startswith(b"expect ", at):
            return self.conclude(at)
        if here.startswith(b"he user", at):  # The, the
            self.clause(0)
            return at + 7
        if self.step < self.n_steps and here.startswith(b"nswer", at):
            self.tally.fault("answer first")
        if here[at:at + 1] in (b";", b"\n") or here.startswith(b". ", at):
            self.clause(-1)
        return at + 1


def check_english(truth, text):
    tally = Tally()
    tally.verdict, tally.answer, body = english_shape(text)
    if tally.verdict != "ok":
        return tally.check()
    tally.well_formed = True
    e, at = English(truth["prompt"].encode(), body, tally), 0
    while at < len(body):
        at = e.read(at)
    for edge, _, _, rating in e.statements:
        if edge < e.n_steps and rating is not None and edge not in e.cited:
            tally.fault("missing step")
    if e.step != e.n_steps or e.conclusion < 0:
        tally.fault("missing step")
    if e.conclusion != tally.answer:
        tally.fault("contradicts")
    tally.total = e.conclusion
    return tally.check()


# ---- the scorer and its wrappers -----------------------------------------------------------------


def check(ground_truth, output):
    """The verdict on an output, from <think> on. `ground_truth`: the JSON text of a record."""
    truth = json.loads(ground_truth) if isinstance(ground_truth, str) else ground_truth
    text = output.encode("utf-8", "surrogatepass") if isinstance(output, str) else output
    return (check_english if truth["words"] == "english" else check_compact)(truth, text)


def score(ground_truth, output, weights=None):
    """The reward, a weighted sum of format, accuracy and faithfulness, each in [0, 1]."""
    truth = json.loads(ground_truth) if isinstance(ground_truth, str) else ground_truth
    weights, found = weights or WEIGHTS, check(truth, output)
    accuracy = 0.0
    if found.answer >= 0 and truth["answer"] >= 0:
        accuracy = 1.0 - abs(found.answer - truth["answer"]) / 5.0
    faith = 1.0 if found.verdict == "ok" else 0.5 * found.n_right / max(found.n_cited, 1)
    return (weights["format"] * found.well_formed + weights["accuracy"] * accuracy +
            weights["faithfulness"] * faith)


def trl_reward(prompts, completions, ground_truth, **columns):
    """TRL: completions are texts, or conversations of one message."""
    texts = [c if isinstance(c, str) else c[-1]["content"] for c in completions]
    return [score(truth, text) for truth, text in zip(ground_truth, texts)]


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    """verl."""
    return score(ground_truth, solution_str)


def reward_func(queries, prompts, labels, **_):
    """OpenRLHF: a query is a prompt with its output."""
    import torch

    rewards = torch.tensor([score(label, query[len(prompt):])
                            for query, prompt, label in zip(queries, prompts, labels)])
    return {"rewards": rewards, "scores": rewards / sum(WEIGHTS.values()), "extra_logs": {}}

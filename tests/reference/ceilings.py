#!/usr/bin/env python3
"""What the words of the designs of examples/experiments/headline.c can give: logistic
regression (one-hot) and gradient-boosted trees, which find joins by themselves. Needs numpy and
scikit-learn.

    build/examples/experiments/headline --data DIR   (or with --only tokens)
    /usr/bin/python3 tests/reference/ceilings.py out/headline/quick/records-s1.csv ...

writes rows beside the tokens, DESIGN-logistic-sN.json and DESIGN-trees-sN.json, which the table of
build/examples/experiments/headline then shows. The size of the trees is chosen on validation users."""
import json
import sys

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

PER_CASE = 20  # candidates of a test or validation user, the positive first


def read(path):
    part, x, y = [], [], []
    with open(path) as lines:
        for line in lines:
            name, rest = line.split(",", 1)
            part.append(name)
            x.append(np.fromstring(rest, dtype=np.int16, sep=","))
    part, x = np.array(part), np.array(x)
    y, x = x[:, 0], x[:, 1:]
    return {name: (x[part == name], y[part == name]) for name in ("train", "valid", "test")}


def ranks(score):
    score = score.reshape(-1, PER_CASE)
    return {
        "better": (score[:, 1:] > score[:, :1]).sum(axis=1).tolist(),
        "tied": (score[:, 1:] == score[:, :1]).sum(axis=1).tolist(),
    }


def hit(row):
    better, tied = np.array(row["better"]), np.array(row["tied"])
    return ((better == 0) / (tied + 1)).mean()


def save(path, method, score_of, parts):
    """score_of(x) -> what ranks."""
    row = ranks(score_of(parts["test"][0])) if len(parts["test"][1]) else {}
    row["valid"] = ranks(score_of(parts["valid"][0]))
    stem, seed = path[: -len(".csv")].rsplit("-", 1)
    with open(f"{stem}-{method}-{seed}.json", "w") as out:
        json.dump(row, out)
    print(f"{stem.rsplit('/', 1)[-1]} {seed} {method}: validation HR@1 {hit(row['valid']):.4f}")


def logistic(path, parts):
    code = OneHotEncoder(handle_unknown="ignore").fit(parts["train"][0])
    model = LogisticRegression(C=0.3, max_iter=300)
    model.fit(code.transform(parts["train"][0]), parts["train"][1])
    save(path, "logistic", lambda x: model.decision_function(code.transform(x)), parts)


def trees(path, parts):
    best = None
    for leaves, rate, rounds in ((8, 0.1, 150), (16, 0.06, 200), (4, 0.1, 250)):
        model = HistGradientBoostingClassifier(
            max_iter=rounds, learning_rate=rate, max_leaf_nodes=leaves, l2_regularization=5.0,
            min_samples_leaf=50, early_stopping=False, random_state=0)
        model.fit(*parts["train"])
        at = hit(ranks(model.decision_function(parts["valid"][0])))
        print(f"  {leaves} leaves, {rounds} rounds: validation {at:.4f}")
        if best is None or at > best[0]:
            best = (at, model)
    save(path, "trees", best[1].decision_function, parts)


for name in sys.argv[1:]:
    tables = read(name)
    logistic(name, tables)
    trees(name, tables)

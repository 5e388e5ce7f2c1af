"""Writes an invented rating set unlike MovieLens: 2,500 people, 100 items, nearly half of all pairs
taken, in no order, and rated from -10 to 10 at random: only who took what tells something. Tastes
have 16 dimensions of falling weight; people take what they like, with Gumbel noise.
Usage: dense.py DIRECTORY, then `make demo DATA=DIRECTORY`."""
import os
import sys

import numpy as np

USERS, ITEMS, RATINGS, DIMENSIONS = 2500, 100, 150_000, 16


def main(directory):
    draw = np.random.default_rng(0)
    taste = draw.normal(size=(USERS, DIMENSIONS)) * np.exp(-np.arange(DIMENSIONS) / 6)
    item = draw.normal(size=(ITEMS, DIMENSIONS))
    active = draw.lognormal(0, 1.0, USERS)
    active = np.maximum(active / active.sum() * RATINGS, 15)
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "ratings.csv"), "w") as out:
        out.write("userId,movieId,rating,timestamp\n")
        for user in range(USERS):
            n = min(int(active[user]), ITEMS * 9 // 10)
            drawn_to = taste[user] @ item.T + draw.gumbel(size=ITEMS)
            taken = np.argpartition(-drawn_to, n - 1)[:n]
            opinion = 3.5 + 0.5 * (taste[user] @ item[taken].T) + 0.7 * draw.normal(size=n)
            # dealt out anew below: neither ratings nor times belong to the items
            rating = np.clip(np.round((opinion - 1) / 4 * 20 - 10, 2), -10, 10)
            time = 946684800 + int(draw.integers(0, 9e7)) + np.sort(draw.integers(0, 86400 * 30, n))
            draw.shuffle(taken)
            for i, r, t in zip(taken, rating, time):
                out.write(f"{user + 1},{i + 1},{int(r) if float(r).is_integer() else r},{t}\n")


main(sys.argv[1])

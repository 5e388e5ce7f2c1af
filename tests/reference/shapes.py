"""Writes invented rating sets of shapes that MovieLens does not have, or a set without any taste.

    shapes.py singles DIR      two thirds of the items have a single rating
    shapes.py timeless DIR     no times
    shapes.py counts DIR       plays instead of stars
    shapes.py million DIR      the size of MovieLens-1M: 6,040 users, 3,706 items, 946,290 ratings
    shapes.py permute FROM DIR the ratings of FROM (ratings.csv or ratings.dat), dealt out anew: each user
                               keeps the number and the times of its ratings, each item its number, and
                               who took what means nothing: no method may rank above popularity

Needs NumPy. Then `make results DATA="DIR ..."`.

People take what they like (tastes of 8 dimensions), what is popular, and what is on at the time (an item
comes out at some time and fades), with Gumbel noise."""
import os
import sys

import numpy as np

USERS, ITEMS, DIMENSIONS, DAY = 1200, 2000, 8, 86400


def world(draw):
    """For each user the items it takes, in order of time, with times and liking."""
    fall = np.exp(-np.arange(DIMENSIONS) / 4)
    taste = draw.normal(size=(USERS, DIMENSIONS)) * fall
    item = draw.normal(size=(ITEMS, DIMENSIONS))
    popularity = -1.1 * np.log(1 + draw.permutation(ITEMS))
    born = draw.uniform(-0.5, 1.0, ITEMS)
    for user in range(USERS):
        n = int(np.clip(draw.lognormal(3.0, 0.8), 4, 300))
        begin = draw.uniform(0, 0.9)
        times = np.sort(begin + draw.exponential(0.05, n))
        liking = taste[user] @ item.T
        taken, seen = [], set()
        for t in times:
            age = t - born
            on = np.where(age >= 0, -3 * age, -np.inf)
            drawn_to = popularity + liking + on + draw.gumbel(size=ITEMS)
            drawn_to[list(seen)] = -np.inf
            taken.append(int(np.argmax(drawn_to)))
            seen.add(taken[-1])
        yield user, taken, (times * 1000 * DAY).astype(int) + 1_300_000_000, liking


def stars(draw, liking):
    return int(np.clip(np.round(3.4 + 0.6 * liking + 0.8 * draw.normal()), 1, 5))


def singles(out, draw):
    out.write("userId,movieId,rating,timestamp\n")
    alone = ITEMS
    for user, taken, times, liking in world(draw):
        for i, t in zip(taken, times):
            rating = stars(draw, liking[i])
            if draw.random() < 0.1:  # something that nobody else ever takes
                alone += 1
                i = alone
            out.write(f"{user + 1},{i + 1},{rating},{t}\n")


def timeless(out, draw):
    out.write("userId,movieId,rating\n")
    for user, taken, times, liking in world(draw):
        for i in draw.permutation(taken):
            out.write(f"{user + 1},{i + 1},{stars(draw, liking[i])}\n")


def counts(out, draw):
    out.write("userId,movieId,plays,timestamp\n")
    for user, taken, times, liking in world(draw):
        loudness = draw.lognormal(1.0, 1.0)
        for i, t in zip(taken, times):
            rate = loudness * np.exp(0.8 * liking[i] + draw.normal())
            plays = 1 + draw.poisson(min(rate, 10_000))
            out.write(f"{user + 1},{i + 1},{plays},{t}\n")


def million(out, draw):
    users, items = 6040, 3706
    fall = np.exp(-np.arange(DIMENSIONS) / 4)
    taste = draw.normal(size=(users, DIMENSIONS)) * fall
    item = draw.normal(size=(items, DIMENSIONS))
    popularity = -np.log(20 + draw.permutation(items))
    out.write("userId,movieId,rating,timestamp\n")
    for user in range(users):
        liking = taste[user] @ item.T
        n = int(np.clip(draw.lognormal(4.6, 0.95), 20, 1800))
        drawn_to = popularity + 0.8 * liking + draw.gumbel(size=items)
        taken = np.argsort(-drawn_to)[:n]  # the order of a draw without replacement
        time = int(draw.uniform(0, 1000) * DAY) + 1_300_000_000
        for i in taken:
            time += int(draw.exponential(3600))
            out.write(f"{user + 1},{i + 1},{stars(draw, liking[i])},{time}\n")


def permute(source, out, draw):
    path, separator = os.path.join(source, "ratings.csv"), ","
    if not os.path.exists(path):
        path, separator = os.path.join(source, "ratings.dat"), "::"
    with open(path, encoding="utf-8") as lines:
        rows = [line.rstrip("\n").split(separator) for line in lines]
    names = ["userId", "movieId", "rating", "timestamp"]
    if not rows[0][2].lstrip("-").replace(".", "", 1).isdigit():
        names = rows.pop(0)
    dealt, has = list(range(len(rows))), {(row[0], row[1]) for row in rows}
    for j, k in draw.integers(len(rows), size=(10 * len(rows), 2)).tolist():
        (u, i), (v, other) = (rows[j][0], rows[dealt[j]][1]), (rows[k][0], rows[dealt[k]][1])
        if (u, other) in has or (v, i) in has:  # nobody gets an item twice
            continue
        has -= {(u, i), (v, other)}
        has |= {(u, other), (v, i)}
        dealt[j], dealt[k] = dealt[k], dealt[j]
    out.write(",".join(names[:len(rows[0])]) + "\n")
    for row, d in zip(rows, dealt):
        out.write(",".join([row[0], rows[d][1], rows[d][2], *row[3:4]]) + "\n")


def main(shape, *paths):
    os.makedirs(paths[-1], exist_ok=True)
    with open(os.path.join(paths[-1], "ratings.csv"), "w", encoding="utf-8") as out:
        {"singles": singles, "timeless": timeless, "counts": counts, "million": million,
         "permute": permute}[shape](
            *paths[:-1], out, np.random.default_rng(0))


main(*sys.argv[1:])

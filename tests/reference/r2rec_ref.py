#!/usr/bin/env python3
"""R2Rec in plain Python and NumPy, written from data/vectors/SPEC.md alone.

It is the example of an implementation that r2rec verify checks over the wire (section 0.2):

    build/examples/tools/verify -- python3 tests/reference/r2rec_ref.py

One part for each section of the specification, with its names; `op_...` are its operations.
Nothing here is fast: where the specification has a formula, here is that formula.
"""

import bisect
import collections
import csv
import functools
import itertools
import json
import math
import os
import re
import sys

import numpy as np

f32 = np.float32
U32 = 2**32 - 1
U64 = 2**64 - 1


class Refused(Exception):
    """An input that the specification calls an error; its sentence is the answer."""


def refuse_unless(right, sentence):
    if not right:
        raise Refused(sentence)


# ============================================================ 0. Conventions


def number(x):
    """A number of the wire: null is a rating not known, NaN and the infinities are strings."""
    if x is None:
        return math.nan
    return float(x) if isinstance(x, str) else x


def word64(x):
    """A 64-bit word of the wire, "0x" and hexadecimal digits."""
    return int(x, 16)


def lo(x):
    return x & U32


def hi(x):
    return x >> 32


def exp2f(x):
    """2^x in single."""
    return f32(2.0 ** float(x))


def sqrtf(x):
    return np.sqrt(f32(x))


class Data:
    """The rows of an input (0.3), numbered: users and items by first appearance."""

    def __init__(self, ratings, items=()):
        user_number, item_number = {}, {}
        kept = {}  # (user, item): the place of its row
        self.rows = []
        for place, (user_id, item_id, rating, time) in enumerate(ratings):
            refuse_unless(math.isfinite(number(rating)), "a rating that is no number")
            u = user_number.setdefault(user_id, len(user_number))
            i = item_number.setdefault(item_id, len(item_number))
            self.rows.append((u, i, f32(number(rating)), time))
            if (u, i) not in kept or self.rows[kept[u, i]][3] <= time:
                kept[u, i] = place
        self.users, self.items = list(user_number), list(item_number)
        self.place_of = kept
        self.kept = [row for place, row in enumerate(self.rows) if kept[row[:2]] == place]
        values = [row[2] for row in self.rows]
        self.rating_min = min(values, default=f32(0))
        self.rating_max = max(values, default=f32(0))
        self.genres = [[] for _ in self.items]
        self.year = [0] * len(self.items)
        for item_id, _title, genres, year in items:
            if item_id in item_number:
                self.genres[item_number[item_id]] = [g for g in genres.split("|") if g]
                self.year[item_number[item_id]] = year
        self.ties = {}

    @classmethod
    def of_wire(cls, data):
        return cls(data["ratings"], data.get("items", []))

    def tie(self, seed, u, i):
        """What orders interactions of the same second (section 3)."""
        if (seed, u, i) not in self.ties:
            self.ties[seed, u, i] = hash64(seed, fnv(self.users[u]), fnv(self.items[i]))
        return self.ties[seed, u, i]

    def level(self, rating):
        return level(rating, self.rating_min, self.rating_max)


# ============================================================ 1. Random numbers

USER, SPLIT, CANDIDATES, CHAINS, NEGATIVES, TEACHER, INIT, BATCH, SAMPLE, BOOTSTRAP = range(10)


def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10: four words from a counter and a key."""
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = hi(p1) ^ c1 ^ k0, lo(p1), hi(p0) ^ c3 ^ k1, lo(p0)
        k0, k1 = lo(k0 + 0x9E3779B9), lo(k1 + 0xBB67AE85)
    return c0, c1, c2, c3


def hash64(seed, a, b):
    w = philox(lo(a), hi(a), lo(b), hi(b), lo(seed), hi(seed) ^ 0x68617368)
    return (w[0] << 32) + w[1]


def fnv(text):
    """64-bit FNV-1a of the UTF-8 bytes."""
    h = 0xCBF29CE484222325
    for byte in text.encode():
        h = ((h ^ byte) * 0x100000001B3) & U64
    return h


class Generator:
    """The words of (seed, stream, index), and the draws that consume them."""

    def __init__(self, seed, stream, index):
        self.seed, self.stream, self.index = seed, stream, index
        self.block, self.words = 0, []

    def u32(self):
        if not self.words:
            self.words = list(philox(self.block, self.stream, lo(self.index), hi(self.index),
                                     lo(self.seed), hi(self.seed)))
            self.block += 1
        return self.words.pop(0)

    def u64(self):
        return (self.u32() << 32) + self.u32()

    def below(self, n):
        if n <= 1:
            return 0
        if n < 2**32:
            t = (2**32 - n) % n
            p = self.u32() * n
            while lo(p) < t:
                p = self.u32() * n
            return hi(p)
        limit = U64 - U64 % n
        x = self.u64()
        while x >= limit:
            x = self.u64()
        return x % n

    def double(self):
        return (self.u64() >> 11) * 2.0**-53

    def normal(self):
        a, b = self.double(), self.double()
        return math.sqrt(-2 * math.log(1 - a)) * math.cos(6.283185307179586476925 * b)

    def gumbel(self):
        return -math.log(-math.log(self.double() + 2.0**-54))

    def distinct(self, total, k):
        """k different numbers below total, one by one, so that other draws may come between."""
        drawn = []  # ascending
        for j in range(k):
            x = self.below(total - j)
            place = 0
            while place < len(drawn) and drawn[place] <= x:
                x += 1
                place += 1
            drawn.insert(place, x)
            yield x


def shuffle(n, seed, epoch):
    order = list(range(n))
    generator = Generator(seed, BATCH, epoch)
    for k in range(n - 1, 0, -1):
        j = generator.below(k + 1)
        order[k], order[j] = order[j], order[k]
    return order


def generator_of(x):
    return Generator(word64(x["seed"]), x["stream"], word64(x["index"]))


def op_draws(draw):
    """The operations u32, double, normal and gumbel: n draws of one kind."""
    def op(x):
        generator = generator_of(x)
        return {"values": [draw(generator) for _ in range(x["n"])]}
    return op


def op_below(x):
    """`below` of section 1."""
    generator = generator_of(x)
    return {"values": [hex(generator.below(word64(bound))) for bound in x["bounds"]]}


def op_distinct(x):
    """`distinct` of section 1."""
    refuse_unless(0 <= x["k"] <= x["total"], "more numbers than there are")
    return {"values": list(generator_of(x).distinct(x["total"], x["k"]))}


def op_hash(x):
    """`hash` of section 1."""
    return {"hash": hex(hash64(word64(x["seed"]), word64(x["a"]), word64(x["b"])))}


RNG = {
    "philox": lambda x: {"words": philox(*x["counter"], *x["key"])},
    "u32": op_draws(Generator.u32),
    "u64": op_draws(lambda generator: hex(generator.u64())),
    "double": op_draws(Generator.double),
    "normal": op_draws(Generator.normal),
    "gumbel": op_draws(Generator.gumbel),
    "below": op_below,
    "shuffle": lambda x: {"order": shuffle(x["n"], word64(x["seed"]), x["epoch"])},
    "distinct": op_distinct,
    "fnv": lambda x: {"hash": hex(fnv(x["text"]))},
    "hash": op_hash,
}


# ============================================================ 2. Levels


def level(rating, rating_min, rating_max):
    """The answer 1 .. 5 that a rating means."""
    low, high = float(f32(rating_min)), float(f32(rating_max))
    share = (float(f32(rating)) - low) / (high - low) if high != low else 1.0
    share = min(share, 1.0) if share >= 0 else 0.0
    return 1 + math.floor(4 * share + 0.5)


def op_level(x):
    """`level` of section 2."""
    return {"level": level(*(number(x[name]) for name in ("rating", "rating_min", "rating_max")))}


LEVEL = {"level": op_level}


# ============================================================ 3. Order in time and splits


def in_time(data, seed, rows):
    """Of each user its rows (user, item, rating, time) in order of time, ties by the rule."""
    of_user = [[] for _ in data.users]
    for row in rows:
        of_user[row[0]].append(row)
    for mine in of_user:
        mine.sort(key=lambda row: (row[3], data.tie(seed, row[0], row[1]), row[1]))
    return of_user


Split = collections.namedtuple("Split", "train valid test")


def least_positive(data, min_positive):
    return f32(min_positive) if min_positive else f32(f32(0.8) * data.rating_max)


def leave_one_out(data, seed, min_positive):
    """The rows of training, and the targets (user, item), by ascending user."""
    least = least_positive(data, min_positive)
    split = Split([], [], [])
    for mine in in_time(data, seed, data.kept):
        positives = [place for place, row in enumerate(mine) if row[2] >= least]
        if len(positives) < 2 or positives[-2] == 0:
            split.train.extend(mine)
            continue
        valid, test = positives[-2:]
        split.train.extend(mine[:valid])
        split.valid.append(mine[valid][:2])
        split.test.append(mine[test][:2])
    return split


def thin(targets, n):
    if n >= len(targets):
        return list(targets)
    return [targets[k * len(targets) // n] for k in range(n)]


def train_count(data, split):
    """Of each item its interactions of training."""
    count = [0] * len(data.items)
    for row in split.train:
        count[row[1]] += 1
    return count


def warm(targets, count, min_train):
    return [target for target in targets if count[target[1]] >= min_train]


def op_leave_one_out(x):
    """`leave_one_out` of section 3."""
    data, seed = Data.of_wire(x["data"]), word64(x["seed"])
    split = leave_one_out(data, seed, x["min_positive"])
    role = {row[:2]: "train" for row in split.train}
    role.update((target, "valid") for target in split.valid)
    role.update((target, "test") for target in split.test)
    roles = [role.get(row[:2], "unused") if data.place_of[row[:2]] == place else "dropped"
             for place, row in enumerate(data.rows)]
    order = in_time(data, seed, data.kept)
    ties = sum(len(mine) > 1 and mine[-1][3] == mine[-2][3] for mine in order)
    return {"role": roles, "valid": split.valid, "test": split.test, "ties": ties,
            "order": [[row[1] for row in mine] for mine in order]}


def op_warm(x):
    """`warm` of section 3."""
    data = Data.of_wire(x["data"])
    split = leave_one_out(data, word64(x["seed"]), x["min_positive"])
    count = train_count(data, split)
    output = {}
    for name, targets in (("valid", split.valid), ("test", split.test)):
        kept = thin(targets, x["n_cases"] or len(targets))
        output[name] = warm(kept, count, x["min_train"])
        output["cold_" + name] = len(kept) - len(output[name])
    return output


def op_filter(x):
    """`filter` of section 3."""
    data = Data.of_wire(x["data"])
    rows = [row for row in data.kept
            if (not x["min_rating"] or row[2] >= f32(x["min_rating"]))
            and (not x["time_from"] or row[3] >= x["time_from"])
            and (not x["time_until"] or row[3] < x["time_until"])]
    before = -1
    while len(rows) != before:
        before = len(rows)
        of_user = collections.Counter(row[0] for row in rows)
        of_item = collections.Counter(row[1] for row in rows)
        rows = [row for row in rows
                if of_user[row[0]] >= x["user_core"] and of_item[row[1]] >= x["item_core"]]
    return {"users": [data.users[u] for u in sorted({row[0] for row in rows})],
            "items": [data.items[i] for i in sorted({row[1] for row in rows})], "rows": len(rows)}


SPLIT_OPS = {
    "leave_one_out": op_leave_one_out,
    "thin": lambda x: {"kept": thin(range(x["n_targets"]), x["n"])},
    "warm": op_warm,
    "filter": op_filter,
}


# ============================================================ 4. Graph


class Graph:
    """The edges of some rows: who rated what, and the order in time (sections 3, 5, 7)."""

    def __init__(self, data, rows, tie_seed):
        self.data, self.seed = data, tie_seed
        self.n_users, self.n_items = len(data.users), len(data.items)
        self.rating = {row[:2]: row[2] for row in rows}
        self.items_of = [[row[1] for row in mine] for mine in in_time(data, tie_seed, rows)]
        self.pos = {(u, i): place for u, mine in enumerate(self.items_of)
                    for place, i in enumerate(mine)}
        self.users_of = [[] for _ in data.items]
        for u, i in sorted(self.rating):
            self.users_of[i].append(u)
        self.moments = sorted(self.moment(row) for row in rows)
        self.rank = {(u, i): place for place, (_, _, u, i) in enumerate(self.moments)}
        self.adjacent = np.zeros((self.n_users, self.n_items))
        for u, i in self.rating:
            self.adjacent[u, i] = 1
        self.n_of = np.array([len(mine) for mine in self.items_of])

    def moment(self, row):
        """What the edges are ordered by (section 7)."""
        return row[3], self.data.tie(self.seed, row[0], row[1]), row[0], row[1]

    @functools.cached_property
    def mean(self):
        """Of each user the mean of all its ratings, in single."""
        return [f32(np.mean([float(self.rating[u, i]) for i in mine])) if mine else f32(0)
                for u, mine in enumerate(self.items_of)]

    @functools.cached_property
    def rating_sum(self):
        return sum(float(r) for r in self.rating.values())


def graph_of(x):
    """The graph of all rows of an input."""
    data = Data.of_wire(x["data"])
    return Graph(data, data.kept, word64(x["tie_seed"]))


def op_butterflies(x):
    """`butterflies` of section 4."""
    data = Data.of_wire(x["data"])
    graph = Graph(data, data.kept, 0)
    common = (graph.adjacent @ graph.adjacent.T).astype(int)
    np.fill_diagonal(common, 0)
    user = (common * (common - 1) // 2).sum(axis=1)
    edge = [sum(common[u, v] - 1 for v in graph.users_of[i] if v != u)
            for u, i in sorted(graph.rating)]
    return {"total": user.sum() // 2, "user": user, "edge": edge,
            "degree": [len(users) for users in graph.users_of]}


GRAPH = {"butterflies": op_butterflies}


# ============================================================ 5. Chains


def half10(k):
    return exp2f(-f32(k) / f32(10))


class Question:
    """Would `user`, after its first `history` interactions, take `item`? Without an item: what the
    closed chains of a user see. Edges of `hidden` do not exist, `left_out` is in no chain or sum.
    """

    def __init__(self, graph, user, item, history, hidden=(), left_out=None):
        refuse_unless(0 <= user < graph.n_users, "no such user")
        refuse_unless(item is None or 0 <= item < graph.n_items, "no such item")
        refuse_unless(0 <= history <= len(graph.items_of[user]), "no such history")
        self.graph, self.user, self.item, self.left_out = graph, user, item, left_out
        self.hidden = {edge for edge in {(user, item), *hidden} if edge in graph.rating}
        self.places = [i for i in graph.items_of[user][:history] if (user, i) not in self.hidden]
        self.length = len(self.places)
        self.owners = [self.others(i) for i in self.places]  # of each place
        self.n = [len(owners) for owners in self.owners]
        self.shared = {}  # user: the places whose items it has, ascending
        for p, owners in enumerate(self.owners):
            for u1 in owners:
                self.shared.setdefault(u1, []).append(p)

    def others(self, item):
        """The users of an item, ascending, without u0 and the person left out."""
        return [v for v in self.graph.users_of[item] if v not in (self.user, self.left_out)]

    def fade10(self, p):
        return half10(self.length - 1 - p)

    @functools.cached_property
    def simrec(self):
        """Of each user its similarity to u0, in single."""
        total = np.zeros(self.graph.n_users, f32)
        for p, owners in enumerate(self.owners):
            total[owners] += self.fade10(p) / sqrtf(f32(self.n[p]) + f32(1))
        return total / np.sqrt(self.graph.n_of.astype(f32) + f32(1))

    def distance(self, u1, p, item):
        """d: how far the other user was from the item of place p to `item`."""
        pos = self.graph.pos
        return pos[u1, item] - pos[u1, self.places[p]]

    def persons(self):
        """[(u1, its chains)], ascending; the chains in the order of the listing, each the places
        (p0, p1) of i0 and i1, or (p0, None) of a target chain."""
        if self.item is not None:
            return [(u1, [(p, None) for p in self.shared[u1]])
                    for u1 in self.others(self.item) if u1 in self.shared]
        pairs = ((u1, [(p, q) for q in places for p in places if p < q])
                 for u1, places in sorted(self.shared.items()))
        return [(u1, chains) for u1, chains in pairs if chains]

    def end(self, chain):
        """The item i1 of a chain (p0, p1)."""
        return self.item if chain[1] is None else self.places[chain[1]]

    def cost(self, u1, chain):
        """age + |d|"""
        last = self.length if chain[1] is None else chain[1]
        return last - 1 - chain[0] + abs(self.distance(u1, chain[0], self.end(chain)))

    def score(self, u1, chain):
        return half10(self.cost(u1, chain)) * self.simrec[u1]

    def describe(self, u1, chain):
        """A chain as it stands in an output."""
        u0, i0, i1 = self.user, self.places[chain[0]], self.end(chain)
        rating = self.graph.rating
        r4 = None if chain[1] is None else rating[u0, i1]
        return {"u0": u0, "i0": i0, "u1": u1, "i1": i1, "score": self.score(u1, chain),
                "r": [rating[u0, i0], rating[u1, i0], rating[u1, i1], r4]}


def coherent(question, k):
    """Of each person the best chain, of these the k of the highest scores."""
    best = [min((question.cost(u1, chain), chain[0], chain[1] or 0, (u1, chain))
                for chain in chains)[-1] for u1, chains in question.persons()]
    best.sort(key=lambda entry: (-question.score(*entry), entry[0]))
    return best[:k]


def proposals(question, k, generator):
    """k chains by proposals, or None where they do not suffice."""
    graph = question.graph
    owners = question.others(question.item)
    mean = (len(graph.rating) - len(question.hidden)) // graph.n_users
    limit = len(owners) * (question.length + mean) // 64
    chosen = []
    made = 0
    while len(chosen) < k and question.length > 0 and made < limit:
        made += 1
        u1 = owners[generator.below(len(owners))]
        p = generator.below(question.length)
        if p in question.shared.get(u1, ()) and (u1, (p, None)) not in chosen:
            chosen.append((u1, (p, None)))
    return chosen if len(chosen) == k else None


def uniform(question, k, generator):
    chosen = None if question.item is None else proposals(question, k, generator)
    if chosen is not None:
        return chosen
    chains = [(u1, chain) for u1, mine in question.persons() for chain in mine]
    return [chains[x] for x in generator.distinct(len(chains), min(k, len(chains)))]


def uniform_users(question, k, generator):
    persons = question.persons()
    chosen = []
    for x in generator.distinct(len(persons), min(k, len(persons))):
        u1, chains = persons[x]
        chosen.append((u1, chains[generator.below(len(chains))]))
    return chosen


def choose(question, law, k, seed):
    """The chains (u1, (p0, p1)) of a question by a law."""
    refuse_unless(k >= 0, "a negative number of chains")
    if law == "coherent":
        return coherent(question, k)
    end = U32 if question.item is None else question.item
    generator = Generator(seed, CHAINS, (question.user << 32) + end)
    laws = {"uniform": uniform, "uniform_users": uniform_users}
    refuse_unless(law in laws, "no such law")
    return laws[law](question, k, generator)


def chains_output(question, x):
    chosen = choose(question, x["law"], x["k"], word64(x["seed"]))
    return {"chains": [question.describe(*entry) for entry in chosen],
            "count": sum(len(chains) for _, chains in question.persons())}


def op_target(x):
    """`target` of section 5."""
    asked = x["question"]
    question = Question(graph_of(x), asked["user"], asked["item"], asked["history"])
    return chains_output(question, x)


def op_closed(x):
    """`closed` of section 5."""
    graph = graph_of(x)
    refuse_unless(0 <= x["user"] < graph.n_users, "no such user")
    return chains_output(Question(graph, x["user"], None, len(graph.items_of[x["user"]])), x)


CHAIN_OPS = {"target": op_target, "closed": op_closed}


# ============================================================ 6. Candidates and training questions


def candidates(data, target, n, seed, popular, count, min_train):
    """[user, positive, negatives ...] of a target, None if there are too few negatives."""
    user, positive = target
    seen = {row[1] for row in data.kept if row[0] == user}
    unseen = [i for i in range(len(data.items)) if i not in seen]
    if sum(count[i] >= min_train for i in unseen) < n:
        return None
    generator = Generator(seed, CANDIDATES, (user << 32) + positive)
    rows = sorted(row[:2] for row in data.kept) if popular else []
    drawn = []
    while len(drawn) < n:
        if popular:
            item = rows[generator.below(len(rows))][1]
        else:
            item = unseen[generator.below(len(unseen))]
        if item not in seen and count[item] >= min_train and item not in drawn:
            drawn.append(item)
    return [user, positive, *drawn]


def op_candidates(x):
    """`candidates` of section 6."""
    data, common = Data.of_wire(x["data"]), x["common"]
    refuse_unless(not (x["popular"] and common), "popular negatives are never common ones")
    count, min_train = [0] * len(data.items), 0
    if common:
        split = leave_one_out(data, word64(common["seed"]), common["min_positive"])
        count, min_train = train_count(data, split), common["min_train"]
    cases = [candidates(data, target, x["n"], word64(x["seed"]), x["popular"], count, min_train)
             for target in x["targets"]]
    cases = [case for case in cases if case]
    refuse_unless(cases, "no target has a case")
    return {"cases": cases}


def places_asked(graph, u, min_history, min_others):
    """The places of a user that may be asked, ascending."""
    mine = graph.items_of[u]
    first = min(min_history, (len(mine) + 1) // 2)
    return [p for p, i in enumerate(mine)
            if p >= first and len(graph.users_of[i]) >= min_others + 1]


def quotas(eligible, n_groups, extra):
    """How many groups each user has."""
    q = max(q for q in range(n_groups + 1)
            if sum(min(mine, q) for mine in eligible) <= n_groups)
    left = n_groups - sum(min(mine, q) for mine in eligible)
    more = sum(mine > q for mine in eligible)
    groups = [min(mine, q) for mine in eligible]
    for u, mine in enumerate(eligible):
        if mine > q:
            groups[u] += extra.below(more) < left
            left -= groups[u] > q
            more -= 1
    return groups


def draw_group(graph, u, p, n_sampled, can, generator):
    """A group about place p of user u; `can`: the items that it can sample."""
    observed = graph.items_of[u][p]
    items = [observed]
    while len(items) <= n_sampled:
        item = generator.below(graph.n_items)
        if item in can and (item not in items or len(can) < n_sampled):
            items.append(item)
    return {"user": u, "history": p, "answer": graph.data.level(graph.rating[u, observed]),
            "future": len(graph.rating) - graph.rank[u, observed], "items": items}


def draw_questions(graph, n_groups, n_sampled, min_history, min_others, seed):
    refuse_unless(n_groups >= 1 and min(n_sampled, min_history, min_others) >= 0, "no such number")
    can = [{i for i, users in enumerate(graph.users_of)
            if len(users) >= min_others and (u, i) not in graph.rating}
           for u in range(graph.n_users)]
    asked = [places_asked(graph, u, min_history, min_others) if can[u] else []
             for u in range(graph.n_users)]
    extra = Generator(seed, NEGATIVES, graph.n_users)
    n_of = quotas([len(places) for places in asked], n_groups, extra)
    groups = []
    for u, n in enumerate(n_of):
        generator = Generator(seed, NEGATIVES, u)
        for p in asked[u][len(asked[u]) - n:]:
            groups.append(draw_group(graph, u, p, n_sampled, can[u], generator))
    refuse_unless(groups, "no group can be drawn")
    return groups


def op_draw(x):
    """`draw` of section 6."""
    return {"groups": draw_questions(graph_of(x), x["n_groups"], x["n_sampled"], x["min_history"],
                                     x["min_others"], word64(x["seed"]))}


QUESTIONS = {"candidates": op_candidates, "draw": op_draw}


# ============================================================ 7. Fields and evidence

# field: (step of the chain, buckets wanted)
FIELDS = {
    "hist": (1, 10), "genre": (1, 10), "era": (1, 10), "shared": (2, 10), "uknn": (2, 10),
    "deep": (2, 20), "pop": (3, 10), "meanr": (3, 10), "pred": (3, 10), "fresh": (3, 10),
    "trend": (3, 10), "season": (3, 10), "liked": (3, 10), "link": (3, 10), "rel": (3, 10),
    "next": (3, 10), "near3": (3, 10), "near1": (3, 10), "path": (4, 10), "c1": (4, 10),
    "c2": (4, 10)}
# chain field: (its edge, buckets wanted)
CHAIN_FIELDS = {"age": (1, 7), "own": (1, 6), "sim": (2, 7), "theirs": (2, 6), "gap": (3, 9),
                "took": (3, 6)}
ALL_FIELDS = {**FIELDS, **CHAIN_FIELDS}
THOUGHT = {field: place // 3 for place, field in enumerate(FIELDS)}
TELLS_RATING = {"own", "theirs", "took", "meanr", "pred", "liked"}
MAX_CHAINS = 8


class Evidence:
    """The values of the 21 fields for a question; liked are ratings of at least `least`."""

    def __init__(self, question, future, least):
        graph = question.graph
        refuse_unless(0 <= future <= len(graph.rating), "no such future")
        self.q, self.graph, self.least = question, graph, f32(least)
        self.hidden_ranks = [graph.rank[edge] for edge in question.hidden]
        self.n_edges = len(graph.rating) - len(question.hidden)  # N'
        moment = len(graph.rating) - future
        self.clock = moment - sum(rank < moment for rank in self.hidden_ranks)
        self.owners = question.others(question.item)  # U*
        self.n = len(self.owners)
        self.ratings = [graph.rating[u1, question.item] for u1 in self.owners]

    def values(self, chains):
        """All fields; chains are the shown ones, (u1, (p, None))."""
        value = dict.fromkeys(FIELDS, f32(0))
        value.update(hist=self.q.length, genre=self.genre(), era=self.era(), shared=self.share(),
                     uknn=self.uknn(), deep=self.deep(), pop=self.n, meanr=self.meanr(),
                     pred=self.pred(), path=self.path(), **self.times(), **self.kernels())
        for field, entry in zip(("c1", "c2"), chains):
            value[field] = self.q.score(*entry)
        return {field: f32(v) for field, v in value.items()}

    def genre(self):
        genres_of = genre_numbers(self.graph.data)
        total = collections.defaultdict(lambda: f32(0))
        for p, item in enumerate(self.q.places):
            for b in genres_of[item]:
                total[b] += self.q.fade10(p)
        norm = f32(math.sqrt(sum(float(g) ** 2 for g in total.values())))
        asked = genres_of[self.q.item]
        if not asked or norm == 0:
            return 0
        return sum((total[b] for b in asked), f32(0)) / (sqrtf(len(asked)) * norm)

    def era(self):
        year = self.graph.data.year
        known = [(float(self.q.fade10(p)), year[i]) for p, i in enumerate(self.q.places) if year[i]]
        if not known or not year[self.q.item]:
            return 0
        m = f32(sum(fade * y for fade, y in known) / sum(fade for fade, _ in known))
        return f32(f32(year[self.q.item]) - m) + f32(0.5)

    def share(self):
        """shared: of the owners, those who share two places or more"""
        two = sum(len(self.q.shared.get(u1, ())) >= 2 for u1 in self.owners)
        return two / self.n if self.n else 0

    def uknn(self):
        simrec = self.q.simrec
        near = sorted(self.q.shared, key=lambda v: (-simrec[v], v))[:50]
        square = {v: float(simrec[v] * simrec[v]) for v in near}
        whole = sum(square.values())
        return sum(square.get(u1, 0) for u1 in self.owners) / whole if whole else 0

    def meanr(self):
        hidden = sum(float(self.graph.rating[edge]) for edge in self.q.hidden)
        g = (self.graph.rating_sum - hidden) / self.n_edges if self.n_edges else 0
        return (sum(float(r) for r in self.ratings) + 5 * g) / (self.n + 5)

    def pred(self):
        above, below = 0.0, 0.0
        for u1, r in zip(self.owners, self.ratings):
            simidf = f32(0)
            for p in self.q.shared.get(u1, ()):
                simidf += f32(1) / sqrtf(f32(self.q.n[p]) + f32(1))
            simidf *= f32(1) / sqrtf(f32(self.graph.n_of[u1]) + f32(1))
            above += float(simidf) * (float(r) - float(self.graph.mean[u1]))
            below += float(simidf)
        return above / (below + 0.05)

    def times(self):
        """fresh, trend and season"""
        if not self.n:
            return {}
        ranks = [self.graph.rank[u1, self.q.item] for u1 in self.owners]
        ranks = [rank - sum(h < rank for h in self.hidden_ranks) for rank in ranks]
        agos = [self.clock - rank for rank in ranks]
        halves = [2 ** (-ago / (0.1 * self.n_edges)) for ago in agos if ago > 0]
        return {"fresh": max(agos) / self.n_edges, "trend": sum(half**10 for half in halves),
                "season": sum(halves)}

    def sums_of_place(self, p, owners):
        """K of each kernel at a place, in single; owners of both items, with their rating."""
        k = dict.fromkeys(("link", "rel", "near", "next", "liked"), f32(0))
        for u1, r in owners:
            d = self.q.distance(u1, p, self.q.item)
            far = f32(abs(d))
            k["link"] += exp2f(-far / f32(30))
            k["rel"] += exp2f(-far / f32(f32(0.05) * f32(self.graph.n_of[u1])))
            k["near"] += f32(1) / far
            k["next"] += f32(1 <= d <= 10)
            k["liked"] += f32(r >= self.least)
        return {name: float(v) for name, v in k.items()}

    def kernels(self):
        """link, rel, near3, near1, next and liked"""
        total = dict.fromkeys(("link", "rel", "near3", "near1", "next", "liked"), 0.0)
        for p in range(self.q.length):
            here = set(self.q.owners[p])
            both = [(u1, r) for u1, r in zip(self.owners, self.ratings) if u1 in here]
            k = self.sums_of_place(p, both)
            w = 1 / math.sqrt(self.q.n[p] * (self.n + 1) + 10)
            a = self.q.length - 1 - p
            fade = float(self.q.fade10(p))
            for name in ("link", "next", "liked"):
                total[name] += fade * w * k[name]
            total["rel"] += 2 ** (-a / 3) * w * k["rel"]
            total["near3"] += 2 ** (-a / 3) * w * k["near"]
            total["near1"] += 2.0**-a * w * k["near"]
        return total

    def path(self):
        largest = 0.0
        for u1 in self.owners:
            total = 0.0
            for p in self.q.shared.get(u1, ()):
                d = self.q.distance(u1, p, self.q.item)
                if d > 0:
                    total += float(self.q.fade10(p)) ** 2 * float(exp2f(-f32(d) / f32(5)))
            largest = max(largest, total)
        return largest

    def deep(self):
        """The history, smoothed over the graph: four steps of conjugate gradients."""
        graph, q = self.graph, self.q
        if not q.length:
            return 0
        gone = [v for v in (q.user, q.left_out) if v is not None]
        s = 1 + (len(graph.rating) - 1) // 2**20
        w = 1 / np.sqrt(np.maximum(graph.n_of, 1))
        part = np.arange(graph.n_users) % s == 0
        m = np.zeros(graph.n_users)
        for v, places in q.shared.items():
            m[v] = len(places)
        c = np.where(part, m * w / math.sqrt(q.length), 0)
        remaining = graph.adjacent.copy()
        remaining[gone] = 0
        edges, squares = remaining.sum(), (remaining.sum(axis=0) ** 2).sum()
        users = graph.n_users - len(gone)
        ridge = (1 + math.sqrt(users / s * squares) / edges) ** 2 if edges else 1

        def smooth(x):
            z = np.where(part, w * (graph.adjacent @ (graph.adjacent.T @ (w * x))), 0) + ridge * x
            z[gone] = 0
            return z

        a = conjugate_gradients(smooth, c)
        return sum(float(f32(a[u1] * w[u1])) for u1 in self.owners)


def conjugate_gradients(smooth, c):
    a, x, y = np.zeros_like(c), c, c
    for _ in range(4):
        z, old = smooth(x), y @ y
        alpha = old / (x @ z) if old else 0
        a, y = a + alpha * x, y - alpha * z
        x = y + (y @ y / old if old else 0) * x
    return a


def genre_numbers(data):
    """Of each item the numbers of its genres, without repetition, below 64."""
    if not hasattr(data, "genre_numbers"):
        names = {}
        numbers = [[names.setdefault(g, len(names)) for g in genres] for genres in data.genres]
        data.genre_numbers = [list(dict.fromkeys(b for b in mine if b < 64)) for mine in numbers]
    return data.genre_numbers


def evidence_of(question, future, least, law, k, seed):
    """History, values and chains of a question, as the operation `evidence` has them."""
    refuse_unless(k <= MAX_CHAINS, "more chains than a prompt can show")
    evidence = Evidence(question, future, least)
    chosen = choose(question, law, k, seed)
    chains = []
    for u1, chain in chosen:
        shown = question.describe(u1, chain)
        p = chain[0]
        shown["values"] = [question.length - p, shown["r"][0], question.simrec[u1], shown["r"][1],
                           question.distance(u1, p, question.item), shown["r"][2]]
        chains.append(shown)
    return {"history": question.length, "values": evidence.values(chosen), "chains": chains}


# ============================================================ 8. Steps of a chain


def hidden_of_step(asked):
    """The edges that a step hides besides (user, item)."""
    step = asked.get("step", 4)
    if step == 4:
        return []
    user, item = asked["user"], asked["item"]
    other, other_item = asked["other_user"], asked["other_item"]
    return {1: [(user, other_item), (other, other_item), (other, item)],
            2: [(user, other_item), (other, other_item)],
            3: [(other, item)]}[step]


def op_evidence(x):
    """`evidence` of section 8."""
    asked = x["question"]
    left_out = asked["other_user"] if asked.get("step", 4) < 4 else None
    question = Question(graph_of(x), asked["user"], asked["item"], asked["history"],
                        hidden_of_step(asked), left_out)
    return evidence_of(question, asked["future"], x["min_positive"], x["law"], x["k"],
                       word64(x["seed"]))


def op_step(x):
    """`step` of section 8."""
    graph, chain, k = graph_of(x), x["chain"], x["step"]
    u0, i0, u1, i1 = (chain[name] for name in ("u0", "i0", "u1", "i1"))
    user, other, item, other_item = {1: (u0, u1, i0, i1), 2: (u1, u0, i0, i1),
                                     3: (u1, u0, i1, i0), 4: (u0, u1, i1, i0)}[k]
    edge = (user, item)
    there = edge in graph.rating
    rating = chain["r"][k - 1]
    return {"user": user, "item": item, "other_user": other, "other_item": other_item,
            "history": graph.pos[edge] if there else len(graph.items_of[user]),
            "future": len(graph.rating) - graph.rank[edge] if there else 0,
            "answer": -1 if rating is None else graph.data.level(rating)}


def future_of(graph, user, item):
    """The number of edges of a graph that are not before an interaction of its data."""
    place = graph.data.place_of.get((user, item))
    if place is None:
        return 0
    moment = graph.moment(graph.data.rows[place])
    return len(graph.moments) - bisect.bisect_left(graph.moments, moment)


def op_future(x):
    """`future` of section 8."""
    data, seed = Data.of_wire(x["data"]), word64(x["tie_seed"])
    graph = Graph(data, leave_one_out(data, seed, x["min_positive"]).train, seed)
    return {"future": [future_of(graph, *pair) for pair in x["pairs"]]}


EVIDENCE = {"evidence": op_evidence, "step": op_step, "future": op_future}


# ============================================================ 9. Codebook


def bucket(edges, n_buckets, value):
    value = f32(value)
    if n_buckets < 2 or value == 0 or math.isnan(value):
        return 0
    place = 0
    while place < len(edges) and f32(edges[place]) <= value:
        place += 1
    return 1 + place


def bucket_of(book, field, value):
    return bucket(book["edges"][field], len(book["weights"][field]), value)


def op_bucket(x):
    """`bucket` of section 9."""
    refuse_unless(x["field"] in ALL_FIELDS, "no such field")
    return {"buckets": [bucket_of(x["codebook"], x["field"], number(v)) for v in x["values"]]}


def values_of(question, field, n_chains):
    """The values of a field that a question has: one, or one for each place of a chain."""
    if field in FIELDS:
        return [f32(question["values"][list(FIELDS).index(field)])]
    place = list(CHAIN_FIELDS).index(field)
    mine = [f32(chain[place]) for chain in question["chains"][:n_chains]]
    return mine + [f32(math.nan)] * (n_chains - len(mine))


def counting(values):
    return sorted(v for v in values if v != 0 and not math.isnan(v))


def fit_edges(taken, sampled, wanted):
    """Edges between quantiles of T, put between the values of S (step 2)."""
    edges = []
    for q in range(1, wanted if taken else 0):
        t = taken[len(taken) * q // wanted]
        j = sum(v < t for v in sampled)
        edge = t
        if 0 < j < len(sampled):
            edge = sampled[j - 1] + f32(0.5) * (sampled[j] - sampled[j - 1])
        if edge > taken[0] and (not edges or edge > edges[-1]):
            edges.append(edge)
    return edges


def fit_weights(edges, n_buckets, observed, sampled):
    """The weight of each bucket from the values of observed and of sampled questions (step 4)."""
    o_of = collections.Counter(bucket(edges, n_buckets, v) for v in observed)
    s_of = collections.Counter(bucket(edges, n_buckets, v) for v in sampled)
    o, s = len(observed), len(sampled)
    if o == 0:
        return [0] * n_buckets
    odds = [(o_of[b] / o + 0.5 / o) / (s_of[b] / s + 0.5 / o) for b in range(n_buckets)]
    return [max(-9, min(9, math.floor(1.5 * math.log(ratio) + 0.5))) for ratio in odds]


def fit(questions, n_chains):
    """A codebook from questions {observed, values, chains}."""
    refuse_unless(0 <= n_chains <= MAX_CHAINS, "no such number of chains")
    observed = [question for question in questions if question["observed"]]
    sampled = [question for question in questions if not question["observed"]]
    refuse_unless(observed and sampled, "no observed or no sampled question")
    every = (len(questions) - 1) // len(observed)
    taken = observed + sampled[::every]
    book = {"n_chains": n_chains, "edges": {}, "weights": {}}

    def values(some, field):
        return [v for question in some for v in values_of(question, field, n_chains)]

    for field, (_, wanted) in ALL_FIELDS.items():
        t = counting(values(taken, field))
        edges = fit_edges(t, counting(values(sampled, field)), wanted)
        n_buckets = len(edges) + 2 if t else 1
        book["edges"][field] = edges
        book["weights"][field] = fit_weights(edges, n_buckets, values(observed, field),
                                             values(sampled, field))
    return book


def op_fit(x):
    """`fit` of section 9."""
    questions = [{"observed": question["observed"],
                  "values": [number(v) for v in question["values"]],
                  "chains": [[number(v) for v in chain] for chain in question["chains"]]}
                 for question in x["questions"]]
    book = fit(questions, x["n_chains"])
    return {"edges": book["edges"], "weights": book["weights"]}


CODEBOOK = {"bucket": op_bucket, "fit": op_fit}


# ============================================================ 10. Prompts


def visibility(schedule, step):
    """hidden, masked or shown, of the edges e_1 .. e_4 at a step."""
    steps = {"progressive": (1, 2, 3, 4), "final-only": (4,), "all": (4,), "none": (4,)}
    refuse_unless(step in steps.get(schedule, ()), "the schedule has no such step")
    if schedule in ("all", "none"):
        return ["masked" if schedule == "all" else "shown"] * 4
    return ["shown" if k < step else "masked" if k == step else "hidden" for k in (1, 2, 3, 4)]


def fact(book, field, value, seen):
    """The word of a fact whose edge is `seen`, in a list; a hidden one has no word."""
    if seen == "hidden":
        return []
    if seen == "masked" and field in TELLS_RATING:
        return [field + ":?"]
    b = bucket_of(book, field, value)
    return [f"{field}:{b}" if b else field + ":-"]


def prompt_words(book, evidence, edges, level_of, n_places, shown):
    """The words of a prompt with `shown` chains in `n_places` places, without `left:n`."""
    words = ["<q>"]
    for c in range(n_places):
        chain = evidence["chains"][c] if c < shown else {"values": [0] * 6, "r4": None}
        words.append(f"c{c + 1}")
        for (field, (edge, _)), value in zip(CHAIN_FIELDS.items(), chain["values"]):
            words += fact(book, field, number(value), edges[edge - 1])
        if chain["r4"] is not None and edges[3] == "shown":
            words.append(f"closed:{level_of(chain['r4'])}")
    for (field, (edge, _)), value in zip(FIELDS.items(), evidence["values"]):
        seen = edges[edge - 1] if evidence["step"] == 4 else "shown"
        words += fact(book, field, number(value), seen)
    return words


def prompt(book, evidence, schedule, max_tokens, level_of):
    """The words of a prompt, the chains that it shows, and how many are left out."""
    step = evidence["step"]
    edges = visibility(schedule, step)
    first = min(book["n_chains"], len(evidence["chains"]))
    refuse_unless(step == 4 or first > 0, "a step of a chain, and no chain")
    least = 0 if step == 4 else 1
    for left_out in range(first - least + 1):
        shown = first - left_out
        n_places = shown if left_out else book["n_chains"]
        words = prompt_words(book, evidence, edges, level_of, n_places, shown)
        words += [f"left:{left_out}"] if left_out else []
        if max_tokens <= 0 or len(words) <= max_tokens:
            return words, shown, left_out
    raise Refused("the prompt does not fit")


def op_prompt(x):
    """`prompt` of section 10."""
    def level_of(rating):
        return level(rating, x["rating_min"], x["rating_max"])
    words, shown, left_out = prompt(x["codebook"], x["evidence"], x["schedule"], x["max_tokens"],
                                    level_of)
    return {"text": " ".join(words), "shown": shown, "left_out": left_out}


def vocabulary(book):
    words = ["<q>", "<think>", "</think>", "<answer>", "</answer>", *"012345"]
    words += [f"{w:+d}" for w in range(-9, 10)] + [f"={t:+d}" for t in range(-24, 25)]
    words += [f"c{c}" for c in range(1, book["n_chains"] + 1)]
    for field in ALL_FIELDS:
        words += [f"{field}:{b or '-'}" for b in range(len(book["weights"][field]))]
    words += [field + ":?" for field in ALL_FIELDS if field in TELLS_RATING]
    words += [f"closed:{k}" for k in range(1, 6)]
    return words + [f"left:{n}" for n in range(1, book["n_chains"] + 1)]


PROMPT = {
    "prompt": op_prompt,
    "visibility": lambda x: {"edges": visibility(x["schedule"], x["step"])},
    "vocabulary": lambda x: {"words": vocabulary(x["codebook"])},
}


# ============================================================ 11. Teacher and checker

Fact = collections.namedtuple("Fact", "word thought weight")


def words_of(text):
    """The words of a text, separated by any bytes <= 32."""
    return [word for word in re.split("[\x00-\x20]+", text) if word]


def citable(book, text):
    """The facts of a prompt that a trace can cite."""
    order = list(FIELDS)
    facts, last = [], -1
    for word in words_of(text):
        match = re.fullmatch("([a-z0-9]+):(-|[1-9][0-9]{0,2})", word)
        if not match or match[1] not in FIELDS:
            continue
        weights = book["weights"][match[1]]
        b = 0 if match[2] == "-" else int(match[2])
        if b < len(weights) and order.index(match[1]) > last:
            last = order.index(match[1])
            facts.append(Fact(word, THOUGHT[match[1]], weights[b]))
    return facts


def clip(x, most):
    return max(-most, min(most, x))


def teach(book, text, gumbel, seed, index):
    """The teacher's trace of a prompt: in each thought the strongest fact."""
    generator = Generator(seed, TEACHER, index)
    words, total = ["<think>"], 0
    for _, mine in itertools.groupby(citable(book, text), key=lambda a_fact: a_fact.thought):
        best, most = None, None
        for a_fact in mine:
            noise = f32(f32(gumbel) * f32(generator.gumbel()))
            strength = f32(f32(abs(a_fact.weight)) + noise)
            if best is None or strength > most:
                best, most = a_fact, strength
        total = clip(total + best.weight, 24)
        words += [best.word, f"{best.weight:+d}", f"={total:+d}"]
    refuse_unless(len(words) > 1, "nothing to cite")
    return " ".join(words + ["</think>"])


def op_teacher(x):
    """`teacher` of section 11."""
    return {"text": teach(x["codebook"], x["prompt"], x["gumbel"], word64(x["seed"]),
                          word64(x["index"]))}


TAGS = ["<think>", "</think>", "<answer>", "</answer>"]


def shape(text):
    """Part A: the verdict on the shape, and the answer."""
    words = words_of(text)
    order, good, ended = 0, " ".join(words) == text, False
    answers, marks, answer = 0, 0, -1
    for before, word in zip([None, *words], words):
        k = TAGS.index(word) + 1 if word in TAGS else 0
        if before == "<answer>":
            answers += 1
            digit = re.fullmatch("[0-5]", word)
            good = good and bool(digit)
            answer = int(word) if digit else answer
        if k:
            if k == 3 and not ended:
                return "answer first", -1
            good = good and order == k - 1
            order, ended, marks = k, ended or k == 2, marks + (k == 3)
        elif order in (0, 2, 4) or order == 3 and before != "<answer>":
            good = False
    if answers > 1 or marks > 1:
        return "two answers", -1
    if answers == 0:
        return "no answer", -1
    return ("ok", answer) if good and order == 4 else ("malformed", -1)


WEIGHT = "[+-](0|[1-9][0-9]{0,2})"


def value_of(word, pattern):
    """The number of a weight or a total, None if the word is not of that form."""
    if word is None or not re.fullmatch(pattern, word) or word.endswith("-0"):
        return None
    return int(word.lstrip("="))


class Checker:
    """Part B: the thoughts of an output against the facts of its prompt."""

    def __init__(self, book, text):
        self.facts = {a_fact.word: a_fact for a_fact in citable(book, text)}
        self.verdict = "ok"
        self.cited = self.found = self.right = self.total = 0
        self.last = -1

    def fault(self, verdict):
        """The first fault stays."""
        if self.verdict == "ok":
            self.verdict = verdict

    def thought(self, word, weight, total):
        a_fact = self.facts.get(word)
        self.cited += 1
        if a_fact is None:
            self.fault("unknown fact")
        else:
            self.found += 1
            self.right += weight == a_fact.weight
            if a_fact.thought <= self.last:
                self.fault("missing step")
            if weight != a_fact.weight:
                self.fault("wrong weight")
            self.last = a_fact.thought
        if total != clip(self.total + weight, 24):
            self.fault("wrong total")
        self.total = total

    def thoughts(self, words):
        """False if the check ends early."""
        if words[:1] != ["<think>"]:
            return False
        place = 1
        while place < len(words) and words[place] != "</think>":
            word, weight, total = (words[place:place + 3] + [None, None])[:3]
            weight, total = value_of(weight, WEIGHT), value_of(total, "=" + WEIGHT)
            if weight is None or total is None:
                return False
            self.thought(word, weight, total)
            place += 3
        if self.cited == 0:
            return False
        if self.cited != len({a_fact.thought for a_fact in self.facts.values()}):
            self.fault("missing step")
        return True


def check(book, text, output):
    """The verdict on an output to a prompt."""
    checker = Checker(book, text)
    checker.verdict, answer = shape(output)
    whole = checker.thoughts(words_of(output))
    if not whole:
        checker.fault("malformed")
        answer = -1
    return {"verdict": checker.verdict, "answer": answer, "cited": checker.cited,
            "found": checker.found, "right": checker.right, "total": checker.total,
            "well_formed": whole and answer >= 0}


TRACE = {"teacher": op_teacher, "check": lambda x: check(x["codebook"], x["prompt"], x["output"])}


# ============================================================ 12. Tokens


def encode(ids, text):
    """The ids of the words of a text; `ids` is the vocabulary {word: id}."""
    text = text.strip(" ")
    words = text.split(" ") if text else []
    for word in words:
        refuse_unless(word in ids, "a word that is not in the vocabulary")
    return [ids[word] for word in words]


def marks_of(ids):
    """The marks of a vocabulary, as `sequence` takes them."""
    return {"think": ids["<think>"], "think_end": ids["</think>"], "answer": ids["<answer>"],
            "answer_end": ids["</answer>"], "level": [ids[k] for k in "012345"]}


def sequence(prompt_ids, trace, answer, reasoned, marks):
    """Tokens and predictions [row, token, kind] of an example."""
    refuse_unless(trace or not reasoned, "reasoned, and no trace")
    tokens = prompt_ids + (trace if reasoned else []) + [marks["answer"]]
    predictions = []
    if reasoned:
        predictions = [[row, tokens[row + 1], "trace"]
                       for row in range(len(prompt_ids), len(tokens) - 1)]
    last = len(tokens) - 1
    predictions += [[last, token, "level"] for token in marks["level"]]
    tokens.append(marks["level"][answer])
    if reasoned:
        tokens.append(marks["answer_end"])
        predictions.append([last + 1, marks["answer_end"], "trace"])
    return {"tokens": tokens, "predictions": predictions}


def op_encode(x):
    """`encode` of section 12."""
    return {"ids": encode({word: place for place, word in enumerate(x["words"])}, x["text"])}


TOKEN = {
    "encode": op_encode,
    "sequence": lambda x: sequence(x["prompt"], x["trace"], x["answer"], x["reasoned"], x["marks"]),
}


# ============================================================ 13. Losses, rewards, RL


def log_sum_exp(values):
    most = max(values)
    if most == -math.inf:
        return most
    return most + math.log(sum(math.exp(v - most) for v in values))


def log_odds(levels):
    """How much likelier the answers 1 .. 5 are than 0."""
    yes = log_sum_exp(levels[1:])
    if yes == levels[0] == -math.inf:
        return 0.0
    return clip(yes - levels[0], 27.0)


def expected_rating(levels):
    yes = log_sum_exp(levels[1:])
    if yes == -math.inf:
        return 3.0
    return sum(k * math.exp(levels[k] - yes) for k in range(1, 6))


def op_score(x):
    """`score` of section 13."""
    levels = [number(v) for v in x["logp"]]
    kinds = {"log_odds": log_odds, "rating": expected_rating}
    refuse_unless(len(levels) == 6 and x["kind"] in kinds, "a score has six answers and a kind")
    return {"score": f32(kinds[x["kind"]](levels))}


def list_loss(group, weight):
    """The list loss of a group's levels [n][6], and weight times its derivatives."""
    scores = [log_odds(levels) for levels in group]
    whole = log_sum_exp(scores)
    derivatives = []
    for j, levels in enumerate(group):
        slope = weight * (math.exp(scores[j] - whole) - (j == 0))
        yes = log_sum_exp(levels[1:])
        share = [math.exp(v - yes) if yes > -math.inf else 0.0 for v in levels[1:]]
        derivatives.append([-slope] + [slope * a for a in share])
    return whole - scores[0], derivatives


def sft_loss(sequences, group, trace_weight, list_weight):
    """The supervised loss of a batch, and its derivatives."""
    refuse_unless(sequences and group >= 1 and len(sequences) % group == 0, "not whole groups")
    size = len(sequences)
    n_trace = sum(len(one["trace"]) for one in sequences)
    output = {"answer_loss": sum(-one["levels"][one["answer"]] for one in sequences) / size,
              "trace_loss": -sum(sum(one["trace"]) for one in sequences) / max(n_trace, 1),
              "list_loss": 0.0, "dlevels": [[0.0] * 6 for _ in sequences],
              "dtrace": [[-trace_weight / n_trace for _ in one["trace"]] for one in sequences]}
    for one, d in zip(sequences, output["dlevels"]):
        d[one["answer"]] -= 1 / size
    starts = [j for j in range(0, size, group) if sequences[j]["asks"]]
    for start in starts:
        levels = [one["levels"] for one in sequences[start:start + group]]
        loss, derivatives = list_loss(levels, list_weight / len(starts))
        output["list_loss"] += loss / len(starts)
        for d, more in zip(output["dlevels"][start:], derivatives):
            d[:] = [a + b for a, b in zip(d, more)]
    return output


def op_sft(x):
    """`sft` of section 13."""
    return sft_loss(x["sequences"], x["group"], x["trace_weight"], x["list_weight"])


VARIANT_NAMES = {"grpo", "dapo", "dr_grpo", "sample_1e-4", "population_1e-4", "leave_one_out"}


def advantages(variant, rewards):
    """Of the rewards of one prompt."""
    refuse_unless(variant in VARIANT_NAMES and rewards, "no such variant, or no rewards")
    n = len(rewards)
    mean = sum(rewards) / n
    squares = sum((r - mean) ** 2 for r in rewards)
    s = math.sqrt(squares / (n - 1)) if n > 1 else 0
    if s < 1e-12:
        return [0.0] * n
    factor = {"grpo": 1 / (s + 1e-6), "dapo": 1 / (s + 1e-6), "dr_grpo": 1,
              "sample_1e-4": 1 / (s + 1e-4),
              "population_1e-4": 1 / (math.sqrt(squares / n) + 1e-4), "leave_one_out": n / (n - 1)}
    return [factor[variant] * (r - mean) for r in rewards]


def policy(logp, logp_old, logp_ref, advantage, eps_low, eps_high, beta):
    """The term of one token."""
    ratio = math.exp(clip(logp - logp_old, 20))
    k = clip(logp_ref - logp, 20)
    kl = math.exp(k) - k - 1
    above, below = advantage > 0 and ratio > 1 + eps_high, advantage < 0 and ratio < 1 - eps_low
    bound = 1 + eps_high if above else 1 - eps_low if below else ratio
    slope = 0 if above or below else ratio * advantage
    return {"loss": beta * kl - bound * advantage, "ratio": ratio, "kl": kl,
            "dlogp": beta * (1 - math.exp(k)) - slope, "clipped": above or below}


def reward(weights, checked, right_answer, share):
    accuracy, faith = 0, 0
    if checked["answer"] != -1 and right_answer != -1:
        accuracy = 1 - abs(checked["answer"] - right_answer) / 5
    if checked["cited"]:
        faith = 0.5 * checked["right"] / checked["cited"]
    if checked["verdict"] == "ok":
        faith = 1
    parts = {"format": checked["well_formed"], "accuracy": accuracy, "rank": share, "faith": faith}
    return sum(float(f32(weights[name])) * part for name, part in parts.items())


def op_reward(x):
    """`reward` of section 13."""
    return {"reward": reward(x["weights"], x["check"], x["right_answer"], x["rank_share"])}


def rank_shares(scores):
    """Of each output of a group its rank share; None: no log-odds."""
    mean = [sum(s or 0 for s in samples) / len(samples) for samples in scores]

    def win(a, b):
        return 1 / (1 + math.exp(b - a))

    def share(p, s):
        if s is None:
            return 0.0
        if p > 0:
            return win(mean[0], s)
        wins = [win(s, other) for other in mean[1:]]
        return sum(wins) / len(wins) if wins else 1.0

    return [[share(p, s) for s in samples] for p, samples in enumerate(scores)]


def all_equal(rewards):
    return all(abs(r - rewards[0]) < 1e-12 for r in rewards)


def grpo(variant, max_new, eps_low, eps_high, beta, prompts):
    """Advantages, derivatives of every token, and what is reported of a step."""
    refuse_unless(variant in ("grpo", "dr_grpo", "dapo"), "no such objective")
    beta = 0 if variant == "dapo" else beta
    rewards = [[out["reward"] for out in outputs] for outputs in prompts]
    kept = [not all_equal(mine) for mine in rewards]
    n = sum(len(outputs) for outputs in prompts)
    n_kept = sum(len(out["logp"]) for outputs in itertools.compress(prompts, kept)
                 for out in outputs)

    def weight(out, keep):
        if variant == "dapo":
            return 1 / n_kept if keep else 0
        return 1 / (n * max_new) if variant == "dr_grpo" else 1 / (n * len(out["logp"]))

    all_advantages = [advantages(variant, mine) for mine in rewards]
    terms, dlogp = [], []
    for outputs, mine, keep in zip(prompts, all_advantages, kept):
        dlogp.append([])
        for out, advantage in zip(outputs, mine):
            tokens = [policy(*three, advantage, eps_low, eps_high, beta)
                      for three in zip(out["logp"], out["logp_old"], out["logp_ref"])]
            terms += tokens
            dlogp[-1].append([weight(out, keep) * term["dlogp"] for term in tokens])
    return {"advantages": all_advantages, "dlogp": dlogp,
            "kl": sum(term["kl"] for term in terms) / len(terms),
            "clipped": sum(term["clipped"] for term in terms) / len(terms),
            "zero_variance_prompts": 1 - sum(kept) / len(kept)}


def learning_rate(step, total, warmup, peak, floor):
    if step < warmup:
        return peak * (step + 1) / warmup
    if step >= total or total <= warmup:
        return peak * floor
    t = (step - warmup) / (total - warmup)
    return peak * (floor + (1 - floor) * (1 + math.cos(math.pi * t)) / 2)


LOSS = {
    "score": op_score,
    "sft": op_sft,
    "advantages": lambda x: {"advantages": advantages(**x)},
    "policy": lambda x: policy(**x),
    "reward": op_reward,
    "rank_share": lambda x: {"shares": rank_shares(x["scores"])},
    "grpo": lambda x: grpo(**x),
    "learning_rate": lambda x: {"rate": learning_rate(**x)},
}


# ============================================================ 14. Model


def rmsnorm(x, gain, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * gain


def rmsnorm_back(x, gain, eps, dy):
    """The derivatives by x and by the gain."""
    r = 1 / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps)
    dn = dy * gain
    dx = r * dn - x * r**3 * np.mean(dn * x, axis=-1, keepdims=True)
    return dx, (dy * x * r).sum(axis=0)


def rope(x, positions, theta, way=1):
    """Turns the pairs (x_i, x_(i + D/2)) of heads (heads, T, D); way = -1 turns them back."""
    half = x.shape[-1] // 2
    angle = way * positions[:, None] * theta ** (-2 * np.arange(half) / x.shape[-1])
    a, b = x[..., :half], x[..., half:]
    return np.concatenate([a * np.cos(angle) - b * np.sin(angle),
                           b * np.cos(angle) + a * np.sin(angle)], axis=-1)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(x):
    p = np.exp(x - x.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


class Model:
    """A decoder. Weights are kept in double, but their values are singles."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.head_dim = sizes["d_model"] // sizes["n_head"]
        self.w = {}
        for layer, place, name, shape_of, law in self.tensors():
            self.w[name] = self.draw(layer, place, shape_of, law).astype(float)

    def tensors(self):
        """(layer, number, name, shape, law) of every tensor that the model has."""
        z = self.sizes
        c, f, v = z["d_model"], z["d_ff"], z["n_vocab"]
        hd, gd = z["n_head"] * self.head_dim, z["n_kv_head"] * self.head_dim
        laws = [("embedding", (v, c), "normal"), ("g1", (1, c), "ones"), ("Wq", (hd, c), "normal"),
                ("Wk", (gd, c), "normal"), ("Wv", (gd, c), "normal"), ("bq", (1, hd), "zeros"),
                ("bk", (1, gd), "zeros"), ("bv", (1, gd), "zeros"), ("Wo", (c, hd), "residual"),
                ("g2", (1, c), "ones"), ("Wgate", (f, c), "normal"), ("Wup", (f, c), "normal"),
                ("Wdown", (c, f), "residual"), ("g", (1, c), "ones"), ("head", (v, c), "normal")]
        numbered = list(enumerate(laws))
        yield 0, 0, *laws[0]
        for layer in range(z["n_layer"]):
            for place, (name, shape_of, law) in numbered[1:13]:
                if z["qkv_bias"] or law != "zeros":
                    yield layer, place, f"{layer}.{name}", shape_of, law
        yield 0, 13, *laws[13]
        if not z["tied"]:
            yield 0, 14, *laws[14]

    def draw(self, layer, place, shape_of, law):
        """The initial weights of a tensor, in single."""
        if law in ("ones", "zeros"):
            return np.full(shape_of, f32(law == "ones"))
        std = f32(self.sizes["init_std"])
        if law == "residual":
            std = std / sqrtf(2 * self.sizes["n_layer"])
        generator = Generator(word64(self.sizes["seed"]), INIT, (place << 32) + layer)
        draws = [std * f32(generator.normal()) for _ in range(shape_of[0] * shape_of[1])]
        return np.array(draws, f32).reshape(shape_of)

    def copy(self):
        other = object.__new__(Model)
        other.sizes, other.head_dim = self.sizes, self.head_dim
        other.w = {name: w.copy() for name, w in self.w.items()}
        return other

    @property
    def head(self):
        return self.w["embedding" if self.sizes["tied"] else "head"]

    def heads(self, layer, name, n, n_heads):
        """q, k or v of a layer, (heads, T, D)."""
        y = n @ self.w[f"{layer}.W{name}"].T
        if self.sizes["qkv_bias"]:
            y = y + self.w[f"{layer}.b{name}"]
        return y.reshape(len(n), n_heads, self.head_dim).swapaxes(0, 1)

    def attention(self, layer, n):
        """The output of the heads, and what the way back needs."""
        z, positions = self.sizes, np.arange(len(n))
        repeat = z["n_head"] // z["n_kv_head"]
        q = rope(self.heads(layer, "q", n, z["n_head"]), positions, z["rope_theta"])
        k = rope(self.heads(layer, "k", n, z["n_kv_head"]), positions, z["rope_theta"])
        k = np.repeat(k, repeat, axis=0)
        v = np.repeat(self.heads(layer, "v", n, z["n_kv_head"]), repeat, axis=0)
        scores = q @ k.swapaxes(1, 2) / math.sqrt(self.head_dim)
        p = softmax(np.where(positions[:, None] >= positions, scores, -np.inf))
        return (p @ v).swapaxes(0, 1).reshape(len(n), -1), (q, k, v, p)

    def attention_back(self, layer, n, saved, dout, grad):
        """The derivative by n, given that by the heads' output."""
        q, k, v, p = saved
        z, positions = self.sizes, np.arange(len(n))
        dout = dout.reshape(len(n), z["n_head"], self.head_dim).swapaxes(0, 1)
        dp = dout @ v.swapaxes(1, 2)
        ds = p * (dp - (dp * p).sum(axis=-1, keepdims=True)) / math.sqrt(self.head_dim)
        groups = (z["n_kv_head"], -1, len(n), self.head_dim)  # the heads of each k and v
        dq = rope(ds @ k, positions, z["rope_theta"], -1)
        dk = (ds.swapaxes(1, 2) @ q).reshape(groups).sum(axis=1)
        dk = rope(dk, positions, z["rope_theta"], -1)
        dv = (p.swapaxes(1, 2) @ dout).reshape(groups).sum(axis=1)
        dn = np.zeros_like(n)
        for name, d in (("q", dq), ("k", dk), ("v", dv)):
            d = d.swapaxes(0, 1).reshape(len(n), -1)
            grad[f"{layer}.W{name}"] += d.T @ n
            if z["qkv_bias"]:
                grad[f"{layer}.b{name}"] += d.sum(axis=0)
            dn += d @ self.w[f"{layer}.W{name}"]
        return dn

    def forward(self, tokens):
        """The logits after each token, and what the way back needs."""
        z, w, eps = self.sizes, self.w, self.sizes["norm_eps"]
        refuse_unless(1 <= len(tokens) <= z["n_ctx"], "no tokens, or more than positions")
        refuse_unless(all(0 <= token < z["n_vocab"] for token in tokens), "no such token")
        x, saved = w["embedding"][tokens], []
        for l in range(z["n_layer"]):
            n1 = rmsnorm(x, w[f"{l}.g1"], eps)
            out, heads = self.attention(l, n1)
            middle = x + out @ w[f"{l}.Wo"].T
            n2 = rmsnorm(middle, w[f"{l}.g2"], eps)
            gate, up = n2 @ w[f"{l}.Wgate"].T, n2 @ w[f"{l}.Wup"].T
            saved.append((x, n1, out, heads, middle, n2, gate, up))
            x = middle + gate * sigmoid(gate) * up @ w[f"{l}.Wdown"].T
        last = rmsnorm(x, w["g"], eps)
        return last @ self.head.T, (tokens, saved, x, last)

    def backward(self, kept, dlogits, grad):
        """Adds to grad {tensor: array} the derivatives, given those by the logits."""
        tokens, saved, x, last = kept
        w, eps = self.w, self.sizes["norm_eps"]
        grad["embedding" if self.sizes["tied"] else "head"] += dlogits.T @ last
        dx, dg = rmsnorm_back(x, w["g"], eps, dlogits @ self.head)
        grad["g"] += dg
        for l in reversed(range(self.sizes["n_layer"])):
            x, n1, out, heads, middle, n2, gate, up = saved[l]
            s = sigmoid(gate)
            grad[f"{l}.Wdown"] += dx.T @ (gate * s * up)
            dy = dx @ w[f"{l}.Wdown"]
            dgate, dup = dy * up * s * (1 + gate * (1 - s)), dy * gate * s
            grad[f"{l}.Wgate"] += dgate.T @ n2
            grad[f"{l}.Wup"] += dup.T @ n2
            dn, dg = rmsnorm_back(middle, w[f"{l}.g2"], eps,
                                  dgate @ w[f"{l}.Wgate"] + dup @ w[f"{l}.Wup"])
            grad[f"{l}.g2"] += dg
            dx = dx + dn
            grad[f"{l}.Wo"] += dx.T @ out
            dn = self.attention_back(l, n1, heads, dx @ w[f"{l}.Wo"], grad)
            dn, dg = rmsnorm_back(x, w[f"{l}.g1"], eps, dn)
            grad[f"{l}.g1"] += dg
            dx = dx + dn
        np.add.at(grad["embedding"], tokens, dx)

    def log_softmax(self, tokens):
        """Log-probabilities of every word after each token, and what the way back needs."""
        logits, kept = self.forward(tokens)
        most = logits.max(axis=-1, keepdims=True)
        return logits - most - np.log(np.exp(logits - most).sum(axis=-1, keepdims=True)), kept


def measure(model, sequences, predictions):
    """logp and entropy of every prediction [sequence, place, token]."""
    tables = [model.log_softmax(tokens)[0] for tokens in sequences]
    logp = [tables[s][place, token] for s, place, token in predictions]
    entropy = [-(np.exp(tables[s][place]) * tables[s][place]).sum() for s, place, _ in predictions]
    return logp, entropy


def gradient(model, sequences, predictions, dlogp):
    """That of sum_j dlogp_j log p_j, {tensor: array}."""
    grad = {name: np.zeros_like(w) for name, w in model.w.items()}
    wanted = [[] for _ in sequences]
    for (s, place, token), d in zip(predictions, dlogp):
        wanted[s].append((place, token, d))
    for tokens, mine in zip(sequences, wanted):
        table, kept = model.log_softmax(tokens)
        dlogits = np.zeros_like(table)
        for place, token, d in mine:
            dlogits[place] -= d * np.exp(table[place])
            dlogits[place, token] += d
        model.backward(kept, dlogits, grad)
    return grad


class AdamW:
    def __init__(self, model, beta1, beta2, eps, decay, clip):
        self.model, self.beta1, self.beta2 = model, beta1, beta2
        self.eps, self.decay, self.clip, self.t = eps, decay, clip, 0
        self.m = {name: np.zeros(w.shape, f32) for name, w in model.w.items()}
        self.v = {name: np.zeros(w.shape, f32) for name, w in model.w.items()}

    def step(self, grad, lr):
        """One update; returns the norm of the gradient before clipping."""
        self.t += 1
        norm = math.sqrt(sum((g * g).sum() for g in grad.values()))
        scale = self.clip / norm if self.clip > 0 and norm > self.clip else 1
        for name, w in self.model.w.items():
            g = scale * grad[name]
            m = (self.beta1 * self.m[name] + (1 - self.beta1) * g).astype(f32)
            v = (self.beta2 * self.v[name] + (1 - self.beta2) * g * g).astype(f32)
            self.m[name], self.v[name] = m, v
            m, v = m / (1 - self.beta1**self.t), v / (1 - self.beta2**self.t)
            decay = lr * self.decay if len(w) > 1 else 0
            new = (1 - decay) * w - lr * m / (np.sqrt(v) + self.eps)
            self.model.w[name] = new.astype(f32).astype(float)
        return norm


def pick(logits, temperature, generator):
    """The next token."""
    if temperature == 0:
        return int(np.argmax(logits))
    p = np.exp((logits - logits.max()) / temperature)
    left = generator.double() * p.sum()
    for token, share in enumerate(p):
        left -= share
        if left < 0:
            return token
    return int(np.argmax(p))


def generate_one(model, start, max_new, stop, temperature, generator):
    """The tokens of an output, and their log-probabilities at temperature 1."""
    new, logp = [], []
    while len(new) < max_new:
        table = model.log_softmax(start + new)[0][-1]
        token = pick(table, temperature, generator)
        new.append(token)
        logp.append(table[token])
        if stop and new[-len(stop):] == stop:
            break
    return new, logp


def generate(model, prompts, n_samples, max_new, stop, temperature, seed):
    """The outputs (tokens, logp), prompt by prompt."""
    for start in prompts:
        refuse_unless(len(start) + max_new <= model.sizes["n_ctx"], "more tokens than positions")
    return [generate_one(model, start, max_new, stop, temperature,
                         Generator(seed, SAMPLE, p * n_samples + s))
            for p, start in enumerate(prompts) for s in range(n_samples)]


def flat(tensors):
    return {name: t.ravel() for name, t in tensors.items()}


def op_init(x):
    """`init` of section 14."""
    weights = flat(Model(x["model"]).w)
    return {"sums": {name: w.sum() for name, w in weights.items()},
            "first": {name: w[:4] for name, w in weights.items()}}


def batch_of(x):
    return x["batch"]["sequences"], x["batch"]["predictions"]


def op_forward(x):
    """`forward` of section 14."""
    logp, entropy = measure(Model(x["model"]), *batch_of(x))
    return {"logp": logp, "entropy": entropy}


def op_gradient(x):
    """`gradient` of section 14."""
    return {"gradient": flat(gradient(Model(x["model"]), *batch_of(x), x["dlogp"]))}


def op_train(x):
    """`train` of section 14."""
    model = Model(x["model"])
    optimizer = AdamW(model, **x["adamw"])
    sequences, predictions = batch_of(x)
    logp, norms = [measure(model, sequences, predictions)[0]], []
    for _ in range(x["steps"]):
        grad = gradient(model, sequences, predictions, [-1.0] * len(predictions))
        norms.append(optimizer.step(grad, x["lr"]))
        logp.append(measure(model, sequences, predictions)[0])
    return {"logp": logp, "norms": norms}


def op_lora(x):
    """`lora` of section 14."""
    model = Model(x["model"])
    scale = x["alpha"] / x["rank"]
    a, b = {}, {}
    for name in x["a"]:
        a[name] = np.reshape(x["a"][name], (x["rank"], model.w[name].shape[1]))
        b[name] = np.reshape(x["b"][name], (model.w[name].shape[0], x["rank"]))
        model.w[name] = model.w[name] + scale * b[name] @ a[name]
    grad = gradient(model, *batch_of(x), x["dlogp"])
    return {"logp": measure(model, *batch_of(x))[0],
            "da": flat({name: scale * b[name].T @ grad[name] for name in a}),
            "db": flat({name: scale * grad[name] @ a[name].T for name in a})}


def op_generate(x):
    """`generate` of section 14."""
    model = Model(x["model"])
    outputs = generate(model, x["prompts"], x["n_samples"], x["max_new"], x["stop"],
                       x["temperature"], word64(x["seed"]))
    watched = []
    for number_of, (new, _) in enumerate(outputs):
        table = model.log_softmax(x["prompts"][number_of // x["n_samples"]] + new)[0][-1]
        watched.append(table[x["watch"]])
    return {"tokens": [new for new, _ in outputs], "logp": [logp for _, logp in outputs],
            "watch": watched}


def op_rmsnorm(x):
    """`rmsnorm` of section 14."""
    return {"y": rmsnorm(np.array(x["x"], float), np.array(x["gain"], float), x["eps"])}


def op_rope(x):
    """`rope` of section 14."""
    head = np.array(x["x"], float)[None]
    return {"y": rope(head, np.array([x["position"]]), x["theta"]).ravel()}


def op_swiglu(x):
    """`swiglu` of section 14."""
    gate, up = np.array(x["gate"], float), np.array(x["up"], float)
    return {"y": gate * sigmoid(gate) * up}


MODEL = {"init": op_init, "forward": op_forward, "gradient": op_gradient, "train": op_train,
         "lora": op_lora, "generate": op_generate, "rmsnorm": op_rmsnorm, "rope": op_rope,
         "swiglu": op_swiglu}


# ============================================================ 15. Metrics


def rank(scores):
    """How many others are better than the first, and how many are tied with it."""
    refuse_unless(scores, "no scores")
    key = [(False, 0) if math.isnan(s) else (True, f32(s)) for s in scores]
    return sum(k > key[0] for k in key), sum(k == key[0] for k in key) - 1


def metrics(scores, k):
    refuse_unless(scores and len({len(case) for case in scores}) == 1, "not a table of scores")
    n = len(scores[0])
    each = collections.defaultdict(list)
    for case in scores:
        better, tied = rank(case)
        ranks = range(better + 1, better + tied + 2)
        each["hr"].append(sum(r <= k for r in ranks) / len(ranks))
        each["ndcg"].append(sum((r <= k) / math.log2(r + 1) for r in ranks) / len(ranks))
        each["mrr"].append(sum(1 / r for r in ranks) / len(ranks))
        each["auc"].append(1 - (better + tied / 2) / (n - 1) if n > 1 else 0)
        each["tie_rate"].append(tied > 0)
    return {**{name: sum(v) / len(v) for name, v in each.items()}, "hits": each["hr"]}


def bootstrap(values, n_bootstrap, seed):
    refuse_unless(values and n_bootstrap >= 1, "no values, or no resamples")
    means = []
    for b in range(n_bootstrap):
        generator = Generator(seed, BOOTSTRAP, b)
        means.append(sum(values[generator.below(len(values))] for _ in values) / len(values))
    means.sort()
    return {"lo": means[math.floor(0.025 * (n_bootstrap - 1) + 0.5)],
            "hi": means[math.floor(0.975 * (n_bootstrap - 1) + 0.5)]}


def op_mcnemar(x):
    """`mcnemar` of section 15."""
    a, b = x["only_a"], x["only_b"]
    refuse_unless(min(a, b) >= 0, "a negative count")
    n = a + b
    ways = 2 * sum(math.comb(n, i) for i in range(min(a, b) + 1))
    return {"p": min(1.0, ways / 2**n)}


def op_rank(x):
    """`rank` of section 15."""
    better, tied = rank([number(s) for s in x["scores"]])
    return {"better": better, "tied": tied}


METRICS = {
    "rank": op_rank,
    "metrics": lambda x: metrics([[number(s) for s in case] for case in x["scores"]], x["k"]),
    "bootstrap": lambda x: bootstrap(x["values"], x["n_bootstrap"], word64(x["seed"])),
    "mcnemar": op_mcnemar,
}


# ------------------------------------------------ Other people's definitions: group `variants`


def in_order(items, ties):
    """The items (id, score, relevance), best first."""
    if ties == "id_descending":
        return sorted(sorted(items, key=lambda item: item[0].encode(), reverse=True),
                      key=lambda item: -item[1])
    sign = {"as_given": 0, "relevant_first": -1, "relevant_last": 1}
    refuse_unless(ties in sign, "no such rule of ties")
    return sorted(items, key=lambda item: (-item[1], sign[ties] * item[2]))


def ratio(a, b):
    """a / b, 0 where that would divide by 0."""
    return a / b if b else 0.0


def ndcg(rel, k, gain, discount, ideal_k):
    """rel: the relevance at each rank; the ideal order is cut at ideal_k."""
    def dcg(order, end):
        return sum(gain(x) / discount(r) for r, x in enumerate(order[:end], 1))
    return ratio(dcg(rel, k), dcg(sorted(rel, reverse=True), ideal_k))


def list_metrics(rel, k):
    n = len(rel)
    found = [x > 0 for x in rel]
    total, hits = sum(found), sum(found[:k])
    precision = [sum(found[:r]) / r for r in range(1, k + 1)]
    at_relevant = sum(p for p, hit in zip(precision, found) if hit)
    first = found.index(True) + 1 if total else math.inf

    def log2_next(r):
        return math.log2(r + 1)

    def log2_rank(r):
        return max(1, math.log2(r))

    return {"ndcg_linear": ndcg(rel, k, float, log2_next, k),
            "ndcg_exponential": ndcg(rel, k, lambda x: 2.0**x - 1, log2_next, k),
            "ndcg_binary": ndcg(rel, k, lambda x: x > 0, log2_next, k),
            "ndcg_log2_rank": ndcg(rel, k, float, log2_rank, k),
            "ndcg_log2_rank_all": ndcg(rel, k, float, log2_rank, n),
            "ap_all": ratio(at_relevant, total), "ap_min": ratio(at_relevant, min(k, total)),
            "ap_mean_precision": sum(precision) / k, "recall_all": ratio(hits, total),
            "recall_min": ratio(hits, min(k, total)), "precision_k": hits / k,
            "precision_list": ratio(hits, min(k, n)), "rr": 1 / first,
            "rr_k": 1 / first if first <= k else 0.0, "hit": int(hits > 0)}


def op_list(x):
    """`list` of section 15."""
    refuse_unless(x["k"] >= 1, "k is at least 1")
    items = in_order([(i, number(s), number(r)) for i, s, r in x["items"]], x["ties"])
    return {"order": [item[0] for item in items],
            **list_metrics([item[2] for item in items], x["k"])}


def op_mean(x):
    """`mean` of section 15."""
    refuse_unless(x["empty"] in ("skip", "zero"), "no such rule of users without relevant items")
    values = [v or 0 for v in x["values"] if v is not None or x["empty"] == "zero"]
    return {"mean": ratio(sum(values), len(values))}


def op_percentile(x):
    """`percentile` of section 15."""
    values, at = sorted(x["values"]), x["share"] * (len(x["values"]) - 1)
    refuse_unless(values and 0 <= x["share"] <= 1, "no values, or no such share")
    if x["rule"] == "nearest":
        return {"value": values[math.floor(at + 0.5)]}
    refuse_unless(x["rule"] == "line", "no such rule")
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return {"value": values[low] + (at - low) * (values[high] - values[low])}


VARIANTS = {"list": op_list, "mean": op_mean, "percentile": op_percentile}


# ============================================================ 16. A whole run

N_CHAINS = 3
MAX_NEW = 25
RUN_ADAMW = {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "decay": 0, "clip": 1}


def load_movielens(directory):
    """The data of ratings.csv and movies.csv."""
    with open(os.path.join(directory, "ratings.csv"), encoding="utf-8", newline="") as file:
        ratings = [(row["userId"], row["movieId"], row["rating"], int(row["timestamp"]))
                   for row in csv.DictReader(file)]
    with open(os.path.join(directory, "movies.csv"), encoding="utf-8", newline="") as file:
        movies = list(csv.DictReader(file))
    items = []
    for movie in movies:
        year = re.search(r"\(([0-9]+)\)\s*$", movie["title"])
        genres = "" if movie["genres"] == "(no genres listed)" else movie["genres"]
        items.append((movie["movieId"], movie["title"], genres, int(year[1]) if year else 0))
    return Data(ratings, items)


def hash_lines(lines):
    return hex(fnv("".join(line + "\n" for line in lines)))


def line_of(numbers):
    return " ".join(str(n) for n in numbers)


def batch_groups(n_groups, seed, step, size):
    """The numbers of the groups of a step, in the sequence of epochs."""
    orders = {}
    for place in range(step * size, (step + 1) * size):
        epoch = place // n_groups
        if epoch not in orders:
            orders[epoch] = shuffle(n_groups, seed, epoch)
        yield orders[epoch][place % n_groups]


def norms_of(model):
    return {name: np.linalg.norm(w) for name, w in model.w.items()}


class Run:
    """The parts of a run, each made when it is first asked for."""

    def __init__(self, settings):
        self.x = settings
        self.seed = word64(settings["seed"])
        self.data = load_movielens(settings["data"])
        self.split = leave_one_out(self.data, 1, 0)
        self.graph = Graph(self.data, self.split.train, 1)
        self.count = train_count(self.data, self.split)
        thinned = [thin(targets, settings["n_cases"]) for targets in self.split[1:]]
        self.valid, self.test = (warm(some, self.count, settings["min_train"]) for some in thinned)
        self.cold = [len(some) - len(kept)
                     for some, kept in zip(thinned, (self.valid, self.test))]

    def cases(self, targets, place):
        """Candidates of the validation (1) or the test (2) targets."""
        seed = hash64(self.seed, place, 0)
        cases = [candidates(self.data, target, 19, seed, False, self.count, self.x["min_train"])
                 for target in targets]
        return [case for case in cases if case]

    def questions_of(self, n_groups, seed):
        """[{user, item, history, answer, future}], group by group, 5 each."""
        groups = draw_questions(self.graph, n_groups, 4, self.x["min_history"],
                                self.x["min_train"], seed)
        return [{"user": group["user"], "item": item, "history": group["history"],
                 "future": group["future"], "answer": 0 if place else group["answer"]}
                for group in groups for place, item in enumerate(group["items"])]

    @functools.cached_property
    def questions(self):
        return self.questions_of(self.x["n_groups"], self.seed)

    def evidence_for(self, asked):
        question = Question(self.graph, asked["user"], asked["item"], asked["history"])
        least = least_positive(self.data, 0)
        return evidence_of(question, asked["future"], least, "coherent", N_CHAINS, 0)

    @functools.cached_property
    def evidence(self):
        return [self.evidence_for(asked) for asked in self.questions]

    @functools.cached_property
    def book(self):
        fitted = [{"observed": place % 5 == 0, "values": list(evidence["values"].values()),
                   "chains": [chain["values"] for chain in evidence["chains"]]}
                  for place, evidence in enumerate(self.evidence)]
        return fit(fitted, N_CHAINS)

    def prompt_of(self, evidence):
        chains = [{"values": chain["values"], "r4": chain["r"][3]} for chain in evidence["chains"]]
        shown = {"step": 4, "values": list(evidence["values"].values()), "chains": chains}
        return " ".join(prompt(self.book, shown, "progressive", 0, self.data.level)[0])

    @functools.cached_property
    def prompts(self):
        return [self.prompt_of(evidence) for evidence in self.evidence]

    @functools.cached_property
    def traces(self):
        return [teach(self.book, text, 0.7, self.seed, index)
                for index, text in enumerate(self.prompts)]

    @functools.cached_property
    def words(self):
        return vocabulary(self.book)

    @functools.cached_property
    def ids(self):
        return {word: place for place, word in enumerate(self.words)}

    @functools.cached_property
    def marks(self):
        return marks_of(self.ids)

    @functools.cached_property
    def longest(self):
        return max(len(text.split()) + len(trace.split()) + 3
                   for text, trace in zip(self.prompts, self.traces))

    # ------------------------------------------------ SFT

    def sft_batch(self, step):
        """Examples (question, reasoned) of a step."""
        size = self.x["sft_groups"]
        n_reasoned = math.floor(0.5 * size + 0.5)
        groups = batch_groups(len(self.questions) // 5, self.seed, step, size)
        return [(5 * group + place, at < n_reasoned)
                for at, group in enumerate(groups) for place in range(5)]

    def example(self, index, reasoned):
        return sequence(encode(self.ids, self.prompts[index]), encode(self.ids, self.traces[index]),
                        self.questions[index]["answer"], reasoned, self.marks)

    def sft_step(self, model, optimizer, step):
        """One update; returns [answer loss, trace loss, list loss, norm of the gradient]."""
        batch = self.sft_batch(step)
        examples = [self.example(*one) for one in batch]
        predictions = [(s, row, token) for s, one in enumerate(examples)
                       for row, token, _ in one["predictions"]]
        kinds = [kind for one in examples for _, _, kind in one["predictions"]]
        tokens = [one["tokens"] for one in examples]
        logp, _ = measure(model, tokens, predictions)
        sequences = [{"levels": [], "trace": [], "asks": True,
                      "answer": self.questions[index]["answer"]} for index, _ in batch]
        for (s, _, _), kind, value in zip(predictions, kinds, logp):
            sequences[s]["levels" if kind == "level" else "trace"].append(value)
        loss = sft_loss(sequences, 5, 1.5, 1)
        left = [{"level": iter(loss["dlevels"][s]), "trace": iter(loss["dtrace"][s])}
                for s in range(len(batch))]
        dlogp = [next(left[s][kind]) for (s, _, _), kind in zip(predictions, kinds)]
        steps = self.x["sft_steps"]
        rate = learning_rate(step, steps, min(200, steps // 5), 0.002, 0.02)
        norm = optimizer.step(gradient(model, tokens, predictions, dlogp), rate)
        return [loss["answer_loss"], loss["trace_loss"], loss["list_loss"], norm]

    @functools.cached_property
    def sft(self):
        """The model after SFT, and the losses and norms of the steps 1, 10 and the last."""
        model = Model({**self.x["model"], "n_vocab": len(self.words), "seed": self.x["seed"],
                       "n_ctx": self.longest + MAX_NEW, "rope_theta": 10000, "norm_eps": 1e-5,
                       "init_std": 0.02, "qkv_bias": False, "tied": True})
        optimizer = AdamW(model, **RUN_ADAMW)
        losses, weights = [], []
        for step in range(self.x["sft_steps"]):
            loss = self.sft_step(model, optimizer, step)
            if step + 1 in (1, 10, self.x["sft_steps"]):
                losses.append(loss)
                weights.append(norms_of(model))
        return model, {"losses": losses, "weights": weights,
                       "first": {name: w.ravel()[:4] for name, w in model.w.items()}}

    # ------------------------------------------------ GRPO

    @functools.cached_property
    def grpo_questions(self):
        """(question, prompt) of the groups of GRPO."""
        n_groups = self.x["grpo_steps"] * self.x["grpo_groups"]
        asked = self.questions_of(n_groups, hash64(self.seed, 8, 0))
        return [(one, self.prompt_of(self.evidence_for(one))) for one in asked]

    def sample(self, model, reference, batch, step):
        """The outputs of a step's prompts [prompt][sample], measured and checked."""
        n_samples = self.x["grpo_samples"]
        starts = [encode(self.ids, text + " <think>") for _, text in batch]
        drawn = generate(model, starts, n_samples, MAX_NEW, [self.marks["answer_end"]], 1,
                         hash64(self.seed, step, 8))
        outputs = [[] for _ in batch]
        for number_of, (new, _) in enumerate(drawn):
            p = number_of // n_samples
            asked, text = batch[p]
            out = {"tokens": starts[p] + new, "start": len(starts[p]), "right": asked["answer"]}
            said = " ".join(["<think>", *(self.words[token] for token in new)])
            out["check"] = check(self.book, text, said)
            self.measure_output(model, reference, out)
            outputs[p].append(out)
        return outputs

    def measure_output(self, model, reference, out):
        """Log-probabilities of an output's tokens, and of the six answers after its <answer>."""
        tokens, start = out["tokens"], out["start"]
        table, old = model.log_softmax(tokens)[0], reference.log_softmax(tokens)[0]
        rows = range(start - 1, len(tokens) - 1)
        out["predictions"] = [(row, tokens[row + 1]) for row in rows]
        out["logp"] = out["logp_old"] = [table[row, token] for row, token in out["predictions"]]
        out["logp_ref"] = [old[row, token] for row, token in out["predictions"]]
        out["entropy"] = [-(np.exp(table[row]) * table[row]).sum() for row in rows]
        out["levels"] = None
        if self.marks["answer"] in tokens[start:-1]:
            row = tokens.index(self.marks["answer"], start)
            out["row"], out["levels"] = row, [table[row, token] for token in self.marks["level"]]

    def give_rewards(self, outputs):
        for start in range(0, len(outputs), 5):
            group = outputs[start:start + 5]
            scores = [[None if out["levels"] is None else float(f32(log_odds(out["levels"])))
                       for out in mine] for mine in group]
            for mine, shares in zip(group, rank_shares(scores)):
                for out, share in zip(mine, shares):
                    out["reward"] = reward({"format": 0.5, "accuracy": 0, "rank": 1, "faith": 2},
                                           out["check"], out["right"], share)

    def answer_terms(self, outputs):
        """Derivatives by the six answers: the supervised term and the list loss."""
        everything = [out for mine in outputs for out in mine]
        for out in everything:
            out["dlevels"] = [0.0] * 6
            if out["levels"] is not None:
                out["dlevels"][out["right"]] -= 1 / len(everything)
        n_samples, n_groups = len(outputs[0]), len(outputs) // 5
        for start, s in itertools.product(range(0, len(outputs), 5), range(n_samples)):
            group = [mine[s] for mine in outputs[start:start + 5]]
            if all(out["levels"] is not None for out in group):
                _, slopes = list_loss([out["levels"] for out in group], 1 / (n_groups * n_samples))
                for out, more in zip(group, slopes):
                    out["dlevels"] = [a + b for a, b in zip(out["dlevels"], more)]

    def grpo_step(self, model, reference, optimizer, variant, step):
        groups = batch_groups(len(self.grpo_questions) // 5, self.seed, step, self.x["grpo_groups"])
        batch = [self.grpo_questions[5 * group + place] for group in groups for place in range(5)]
        outputs = self.sample(model, reference, batch, step)
        self.give_rewards(outputs)
        self.answer_terms(outputs)
        objective = grpo(variant, MAX_NEW, 0.2, 0.2, 0.02, outputs)
        everything = [out for mine in outputs for out in mine]
        predictions, dlogp = [], []
        slopes = (mine for of_prompt in objective["dlogp"] for mine in of_prompt)
        for s, (out, mine) in enumerate(zip(everything, slopes)):
            predictions += [(s, row, token) for row, token in out["predictions"]]
            dlogp += mine
            if out["levels"] is not None:
                predictions += [(s, out["row"], token) for token in self.marks["level"]]
                dlogp += out["dlevels"]
        grad = gradient(model, [out["tokens"] for out in everything], predictions, dlogp)
        rate = learning_rate(step, self.x["grpo_steps"], 3, 0.0002, 0.1)
        norm = optimizer.step(grad, rate)
        rewards = np.array([out["reward"] for out in everything])
        return {"reward_mean": rewards.mean(), "reward_std": rewards.std(), "grad_norm": norm,
                "kl": objective["kl"], "clipped": objective["clipped"],
                "zero_variance_prompts": objective["zero_variance_prompts"],
                "entropy": np.mean([e for out in everything for e in out["entropy"]]),
                "output_length": np.mean([len(out["logp"]) for out in everything]),
                "well_formed": np.mean([out["check"]["well_formed"] for out in everything])}

    def grpo(self, variant):
        reference = self.sft[0]
        model = reference.copy()
        optimizer = AdamW(model, **RUN_ADAMW)
        steps = [self.grpo_step(model, reference, optimizer, variant, step)
                 for step in range(self.x["grpo_steps"])]
        return {"steps": steps, "weights": norms_of(model)}

    # ------------------------------------------------ Scores

    def reasoned_start(self, start):
        """The tokens of a prompt, a greedy trace, and the `<answer>` that ends it."""
        model, marks = self.sft[0], self.marks
        start = start + [marks["think"]]
        room = model.sizes["n_ctx"] - len(start)
        new, _ = generate_one(model, start, min(32, room), [marks["answer"]], 0, None)
        if new[-1:] == [marks["answer"]]:
            return start + new
        end = [] if marks["think_end"] in new else [marks["think_end"]]
        end.append(marks["answer"])
        return start + new[:room - len(end)] + end

    @functools.cached_property
    def test_starts(self):
        """The tokens of the prompts of the test cases [case][candidate]."""
        starts = []
        for user, *items in self.cases(self.test, 2):
            asked = {"user": user, "history": len(self.graph.items_of[user]),
                     "future": future_of(self.graph, user, items[0])}
            texts = [self.prompt_of(self.evidence_for({**asked, "item": item})) for item in items]
            starts.append([encode(self.ids, text) for text in texts])
        return starts

    def score(self, start, reasoned):
        tokens = self.reasoned_start(start) if reasoned else start + [self.marks["answer"]]
        table = self.sft[0].log_softmax(tokens)[0][-1]
        return float(f32(log_odds([table[token] for token in self.marks["level"]])))

    def scores(self, reasoned):
        scores = [[self.score(start, reasoned) for start in case] for case in self.test_starts]
        first, ten = metrics(scores, 1), metrics(scores, 10)
        interval = bootstrap(first["hits"], 2000, 0)
        return {"scores": scores, "hr1": first["hr"], "hr1_lo": interval["lo"],
                "hr1_hi": interval["hi"], "ndcg10": ten["ndcg"], "mrr": ten["mrr"],
                "auc": ten["auc"]}


@functools.lru_cache(1)
def run_named(settings):
    return Run(json.loads(settings))


def run_of(x):
    return run_named(json.dumps(x["run"], sort_keys=True))


def op_run_data(x):
    """`data` of section 16."""
    run = run_of(x)
    output = {"users": len(run.data.users), "items": len(run.data.items),
              "rows": len(run.data.kept), "train": len(run.split.train),
              "cold_valid": run.cold[0], "cold_test": run.cold[1],
              "valid": run.valid, "test": run.test}
    for name, targets, place in (("valid", run.valid, 1), ("test", run.test, 2)):
        cases = run.cases(targets, place)
        output[name + "_candidates"] = {"n": len(cases), "cases": cases[:3],
                                        "hash": hash_lines(line_of(case) for case in cases)}
    return output


def op_run_questions(x):
    """`questions` of section 16."""
    questions = run_of(x).questions
    groups = []
    for start in (0, 5, 10):
        first = questions[start]
        groups.append({name: first[name] for name in ("user", "history", "answer", "future")})
        groups[-1]["items"] = [one["item"] for one in questions[start:start + 5]]
    lines = [line_of(one[name] for name in ("user", "item", "history", "answer", "future"))
             for one in questions]
    return {"n": len(questions), "groups": groups, "hash": hash_lines(lines)}


def op_run_evidence(x):
    """`evidence` of section 16."""
    run = run_of(x)
    return {"questions": run.evidence[:10], "edges": run.book["edges"],
            "weights": run.book["weights"]}


def op_run_prompts(x):
    """`prompts` of section 16."""
    run = run_of(x)
    lines = [line for both in zip(run.prompts, run.traces) for line in both]
    return {"prompts": run.prompts[:7], "traces": run.traces[:7], "words": len(run.words),
            "longest": run.longest, "hash": hash_lines(lines)}


def op_run_scores(x):
    """`scores` of section 16."""
    run = run_of(x)
    return {"direct": run.scores(False), "reasoned": run.scores(True)}


RUN = {"data": op_run_data, "questions": op_run_questions, "evidence": op_run_evidence,
       "prompts": op_run_prompts, "sft": lambda x: run_of(x).sft[1],
       "grpo": lambda x: run_of(x).grpo(x["variant"]), "scores": op_run_scores}


# ============================================================ The wire (0.2)

GROUPS = {
    "rng": RNG, "level": LEVEL, "split": SPLIT_OPS, "graph": GRAPH, "chains": CHAIN_OPS,
    "questions": QUESTIONS, "evidence": EVIDENCE, "codebook": CODEBOOK, "prompt": PROMPT,
    "trace": TRACE, "token": TOKEN, "loss": LOSS, "model": MODEL, "metrics": METRICS,
    "variants": VARIANTS, "run": RUN}


def to_wire(x):
    """Plain JSON of an output: NumPy's numbers and arrays, NaN and the infinities."""
    if isinstance(x, dict):
        return {name: to_wire(member) for name, member in x.items()}
    if isinstance(x, (list, tuple, np.ndarray)):
        return [to_wire(member) for member in x]
    if isinstance(x, np.generic):
        x = x.item()
    if isinstance(x, float) and not math.isfinite(x):
        return "NaN" if math.isnan(x) else "Infinity" if x > 0 else "-Infinity"
    return x


def run_test(request):
    """The answer to one test. Only what the specification refuses is an error; a mistake of this
    program ends it, so that no mistake passes for a refusal."""
    op = GROUPS[request["group"]].get(request["op"])
    if op is None:
        return {"id": request["id"], "skip": "not implemented"}
    try:
        return {"id": request["id"], "output": to_wire(op(request["input"]))}
    except Refused as refused:
        return {"id": request["id"], "error": str(refused)}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        if request["cmd"] == "stop":
            return
        if request["cmd"] == "start":
            answer = {"version": 1, "implementation": {"name": "r2rec_ref", "language": "Python",
                                                       "version": "1"}}
        elif request["cmd"] == "group":
            answer = {"ok": request["group"] in GROUPS}
        else:
            answer = run_test(request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()

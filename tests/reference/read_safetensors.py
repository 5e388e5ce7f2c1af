#!/usr/bin/env python3
"""Reads a safetensors file by its specification alone and prints one line for each tensor:
name, dtype, shape and the sum of (index + 1) * value. Fails on any broken rule."""
import json
import struct
import sys

with open(sys.argv[1], "rb") as f:
    raw = f.read()
(n,) = struct.unpack("<Q", raw[:8])
assert n <= 100_000_000 and n <= len(raw) - 8 and raw[8:9] == b"{"
names = []


def no_duplicates(pairs):
    keys = [k for k, _ in pairs]
    assert len(keys) == len(set(keys)), "a key is there twice"
    return dict(pairs)


header = json.loads(raw[8:8 + n], object_pairs_hook=no_duplicates)
assert all(isinstance(v, str) for v in header.pop("__metadata__", {}).values())
at = 0
for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
    begin, end = t["data_offsets"]
    count = 1
    for size in t["shape"]:
        count *= size
    assert t["dtype"] == "F32" and begin == at and end == begin + 4 * count
    values = struct.unpack(f"<{count}f", raw[8 + n + begin:8 + n + end])
    total = sum((i + 1) * v for i, v in enumerate(values))
    print(name, t["dtype"], "x".join(map(str, t["shape"])), f"{total:.9e}")
    at = end
assert at == len(raw) - 8 - n

#!/usr/bin/env python3
"""The tie rule of the leave-one-out split, written from its description alone.

Interactions of one user at the same second are ordered by the first two words of
Philox4x32-10(counter = (h(user), h(item)), key = (seed low, seed high xor 0x68617368)), h = 64-bit
FNV-1a of the id as text. Prints the test and validation items of the set in test_data.c
(ties_as_a_second_implementation_breaks_them): 20 users, 20 items, ten of them at the last second.
"""

M32 = 0xFFFFFFFF


def philox(counter, key):
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k0, p1 & M32, (p0 >> 32) ^ c[3] ^ k1, p0 & M32]
        k0, k1 = (k0 + 0x9E3779B9) & M32, (k1 + 0xBB67AE85) & M32
    return c


def fnv(text):
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def tie(seed, user, item):
    a, b = fnv(user), fnv(item)
    key = (seed & M32, (seed >> 32) ^ 0x68617368)
    words = philox((a & M32, a >> 32, b & M32, b >> 32), key)
    return words[0] << 32 | words[1]


if __name__ == "__main__":
    assert philox((0, 0, 0, 0), (0, 0)) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    for u in range(20):
        order = sorted(range(10, 20), key=lambda m: tie(1, f"u{u}", f"m{m}"))
        print(f"{{{order[-1]}, {order[-2]}}},", end="\n" if u % 5 == 4 else " ")

"""Writes the Unicode tables at the end of r2rec.h.

    python3 tests/reference/unicode_tables.py DIR r2rec.h      replace the tables in place
    python3 tests/reference/unicode_tables.py DIR              print them

DIR has UnicodeData.txt and CompositionExclusions.txt of the Unicode Character Database of VERSION
(https://www.unicode.org/Public/17.0.0/ucd/). Raise VERSION when the standard moves on; test_token.c
has what an independent implementation of the same version says of every code point.

Numbers are varints of five bits a digit, most significant digit first: character '0' + digit, plus 32
when more digits follow. Sets are runs (gap since the end of the last run, length); a combining class
adds its value to the run; a decomposition is (code point, first, second or 0), each as the difference
to that of the one before: twice the first, plus 1 if the last is not 0; the others zigzag (0, -1, 1,
-2, ...), a last one of 0 left out.
"""
import sys

VERSION = "17.0.0"
BEGIN = "/* ---- Unicode tables: tests/reference/unicode_tables.py writes these lines ---- */\n"
END = "/* ---- end of the Unicode tables ---- */\n"


def varint(n):
    digits = [n & 31]
    while n >= 32:
        n >>= 5
        digits.append(n & 31 | 32)
    return "".join(chr(48 + d) for d in reversed(digits))


def runs(values):
    """Runs of equal non-zero values, as (first, end, value)."""
    out, begin = [], None
    for cp, value in enumerate(values + [0]):
        if begin is not None and value != values[begin]:
            out.append((begin, cp, values[begin]))
            begin = None
        if begin is None and value:
            begin = cp
    return out


def run_numbers(values, with_value):
    last = 0
    for begin, end, value in runs(values):
        yield from (begin - last, end - begin) + ((value,) if with_value else ())
        last = end


def zigzag(n):
    return 2 * n if n >= 0 else -2 * n - 1


def pair_numbers(pairs):
    last = (0, 0, 0)
    for pair in pairs:
        cp, first, second = (a - b for a, b in zip(pair, last))
        yield from (2 * cp + (second != 0), zigzag(first))
        if second:
            yield zigzag(second)
        last = pair


def table(name, numbers):
    """An array of strings: short enough for every compiler, and no number straddles two."""
    lines, line, width = [], "", 0
    for n in numbers:
        text = varint(n).replace("\\", "\\\\").replace("?", "\\?")
        if width + len(text) > 92:
            lines.append(line)
            line, width = "", 0
        line += text
        width += len(text)
    lines.append(line)
    body = "".join(f'    "{each}",\n' for each in lines)
    return f"static const char *const r2__unicode_{name}[] = {{\n{body}    NULL}};\n\n"


def read(path):
    """Category, combining class and canonical decomposition of every code point."""
    category, combining, parts = ["Cn"] * 0x110000, [0] * 0x110000, {}
    for line in open(path + "/UnicodeData.txt", encoding="ascii"):
        field = line.split(";")
        cp = int(field[0], 16)
        first = begin if field[1].endswith(", Last>") else cp
        begin = cp
        category[first : cp + 1] = [field[2]] * (cp + 1 - first)
        combining[cp] = int(field[3])
        if field[5] and field[5][0] != "<":
            parts[cp] = [int(part, 16) for part in field[5].split()]
    return category, combining, parts


def tables(path):
    category, combining, parts = read(path)
    exclusions = open(path + "/CompositionExclusions.txt", encoding="utf-8").read()
    if VERSION not in exclusions:
        sys.exit(f"{path}/CompositionExclusions.txt is not of Unicode {VERSION}")
    excluded = {int(line.split()[0], 16) for line in exclusions.splitlines() if line[:1] not in "#"}
    composing, decomposing = [], []
    for cp, part in sorted(parts.items()):
        starters = not combining[cp] and not combining[part[0]]
        back = len(part) == 2 and starters and cp not in excluded
        (composing if back else decomposing).append((cp, *(part + [0])[:2]))
    return (
        f"/* Unicode {VERSION}: two files of https://www.unicode.org/Public/{VERSION}/ucd, as this script says */\n"
        + table("letters", run_numbers([c[0] == "L" for c in category], False))
        + table("numbers", run_numbers([c[0] == "N" for c in category], False))
        + table("combining", run_numbers(combining, True))
        + table("composing", pair_numbers(composing))
        + table("decomposing", pair_numbers(decomposing))
    )


if len(sys.argv) < 3:
    print(tables(sys.argv[1]), end="")
else:
    source = open(sys.argv[2], encoding="utf-8").read()
    head, rest = source.split(BEGIN)
    open(sys.argv[2], "w", encoding="utf-8").write(
        head + BEGIN + tables(sys.argv[1]) + END + rest.split(END)[1]
    )

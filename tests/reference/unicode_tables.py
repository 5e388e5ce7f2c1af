"""Writes the Unicode tables at the end of r2rec.h.

    python3 tests/reference/unicode_tables.py r2rec.h      replace the tables in place
    python3 tests/reference/unicode_tables.py              print them

Source: Python's unicodedata (its version is written beside the tables). Numbers are varints of five
bits a digit, most significant digit first: character '0' + digit, plus 32 when more digits follow.
Sets are runs (gap since the end of the last run, length); a combining class adds its value to the run;
a decomposition is (code point minus the last one, first, second or 0).
"""
import sys
import unicodedata

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


def pair_numbers(pairs):
    last = 0
    for cp, first, second in pairs:
        yield from (cp - last, first, second)
        last = cp


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


def tables():
    points = range(0x110000)
    category = [unicodedata.category(chr(cp)) for cp in points]
    composing, decomposing = [], []
    for cp in points:
        parts = unicodedata.decomposition(chr(cp))
        if not parts or parts.startswith("<"):
            continue
        parts = [int(part, 16) for part in parts.split()] + [0]
        whole = "".join(chr(part) for part in parts[:-1])
        back = unicodedata.normalize("NFC", whole) == chr(cp)
        (composing if back else decomposing).append((cp, parts[0], parts[1]))
    return (
        f"/* Unicode {unicodedata.unidata_version} */\n"
        + table("letters", run_numbers([c[0] == "L" for c in category], False))
        + table("numbers", run_numbers([c[0] == "N" for c in category], False))
        + table("combining", run_numbers([unicodedata.combining(chr(cp)) for cp in points], True))
        + table("composing", pair_numbers(composing))
        + table("decomposing", pair_numbers(decomposing))
    )


if len(sys.argv) < 2:
    print(tables(), end="")
else:
    source = open(sys.argv[1], encoding="utf-8").read()
    head, rest = source.split(BEGIN)
    open(sys.argv[1], "w", encoding="utf-8").write(head + BEGIN + tables() + END + rest.split(END)[1])

"""Writes a real rating set unlike MovieLens: what each source package of Debian is built with. Users
are packages, items what they build-depend on, at least three each; no ratings, no times.
Usage: builddeps.py SOURCES DIRECTORY, then `make demo DATA=DIRECTORY`. SOURCES is the index of a
release, dists/RELEASE/main/source/Sources.xz of any Debian mirror, packed or unpacked."""
import lzma
import os
import re
import sys


def paragraphs(path):
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8") as index:
        for text in index.read().split("\n\n"):
            lines = re.sub(r"\n[ \t]+", " ", text).split("\n")
            yield dict(line.split(": ", 1) for line in lines if ": " in line)


def items(fields):
    """Names of the first alternatives, without versions, architectures and profiles."""
    wanted = [fields[k] for k in ("Build-Depends", "Build-Depends-Indep", "Build-Depends-Arch")
              if k in fields]
    names = (re.split(r"[\s(\[<:|]", one.strip())[0] for one in ",".join(wanted).split(","))
    # debhelper in its variants is everybody's
    return sorted({name for name in names if name and not name.startswith("debhelper")})


def main(sources, directory):
    os.makedirs(directory, exist_ok=True)
    rows = {}  # of the same name the last, which is the newest
    for fields in paragraphs(sources):
        if "Package" in fields:
            rows[fields["Package"]] = items(fields)
    with open(os.path.join(directory, "ratings.csv"), "w", encoding="utf-8") as out:
        out.write("userId,movieId,rating\n")
        for package, taken in sorted(rows.items()):
            for name in taken if len(taken) >= 3 else []:
                out.write(f"{package},{name},1\n")


main(*sys.argv[1:])

"""Writes a real rating set unlike MovieLens: what each source package of Debian is built with. Users
are packages, items what they build-depend on, at least three each; no opinions, no times.
Usage: builddeps.py SOURCES DIRECTORY, then `make demo DATA=DIRECTORY`. SOURCES is the index of a
release, dists/RELEASE/main/source/Sources.xz of any Debian mirror, packed or unpacked."""
import lzma
import os
import re
import sys

FIELD = re.compile(r"^(?:Build-Depends|Build-Depends-Indep|Build-Depends-Arch): (.*)$", re.M)


def packages(path):
    """(name, its build dependencies): first alternatives, without versions and architectures."""
    with (lzma.open if path.endswith(".xz") else open)(path, "rt", encoding="utf-8") as index:
        for paragraph in index.read().split("\n\n"):
            paragraph = re.sub(r"\n[ \t]+", " ", paragraph)
            named = re.match(r"Package: (\S+)", paragraph)
            wanted = ",".join(FIELD.findall(paragraph)).split(",")
            names = (re.split(r"[\s(\[<:|]", one.strip())[0] for one in wanted)
            # debhelper in its variants is everybody's
            kept = [name for name in names if name and not name.startswith("debhelper")]
            if named:
                yield named[1], list(dict.fromkeys(kept))


def main(sources, directory):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "ratings.csv"), "w", encoding="utf-8") as out:
        out.write("userId,movieId,rating\n")
        for package, items in packages(sources):
            for item in items if len(items) >= 3 else []:
                out.write(f"{package},{item},1\n")


main(*sys.argv[1:])

"""Draws the bundled photos from the Sign Language Digits data set: 60 of each class, by a fixed seed.

    python datasets/bundled/sign-digits/make.py sign-digits.zip

The archive has CLASS/*.jpg and LICENSE. Writes photos.zip and LICENSE beside this file, the same bytes each time.
"""

import random
import sys
import zipfile
from pathlib import Path

PER_CLASS, SEED = 60, 2026

here = Path(__file__).parent
with zipfile.ZipFile(sys.argv[1]) as source, zipfile.ZipFile(here / "photos.zip", "w") as drawn:
    classes: dict[str, list[str]] = {}
    for name in sorted(source.namelist()):
        if name.endswith(".jpg"):
            classes.setdefault(name.split("/")[0], []).append(name)
    for label, names in sorted(classes.items()):
        for name in sorted(random.Random(f"{SEED} {label}").sample(names, PER_CLASS)):
            # JPEGs do not become smaller; a fixed time keeps the archive the same.
            drawn.writestr(zipfile.ZipInfo(name, (2017, 1, 1, 0, 0, 0)), source.read(name))
    (here / "LICENSE").write_bytes(source.read("LICENSE"))

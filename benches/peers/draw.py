"""Draws a few photos a class of a ZIP of class folders for training, ten for validation, the rest for the test.

    python benches/peers/draw.py sign-digits.zip 20 1 draw/      # 20 a class by seed 1

Writes draw/train/CLASS, draw/val/CLASS and draw/test/CLASS, for `ocelli train draw/` and `transfer.py draw/` alike.
"""

import random
import sys
import zipfile
from pathlib import Path

VALIDATION = 10

archive, count, seed, out = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
with zipfile.ZipFile(archive) as source:
    classes: dict[str, list[str]] = {}
    for name in sorted(source.namelist()):
        if name.endswith(".jpg"):
            classes.setdefault(name.split("/")[0], []).append(name)
    shuffled = random.Random(seed)
    for label, names in sorted(classes.items()):
        shuffled.shuffle(names)
        for place, name in enumerate(names):
            split = "train" if place < count else "val" if place < count + VALIDATION else "test"
            path = out / split / label / Path(name).name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(name))

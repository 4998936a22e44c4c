"""Draws some classes of a ZIP of split folders and divides them into old and new ones, to add the new ones to a model.

    python benches/peers/draw_classes.py grocery-store.zip 20 5 1 draw/    # 20 old and 5 new classes by seed 1

Writes draw/old, draw/new and draw/all, each with SPLIT/CLASS below it: `ocelli train draw/old`, then `ocelli train draw/new
--add-classes RUN`, and `ocelli train draw/all` for comparison. Splits are those of the ZIP.
"""

import random
import sys
import zipfile
from pathlib import Path

archive, old, new, seed, out = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])
with zipfile.ZipFile(archive) as source:
    images = [name for name in sorted(source.namelist()) if name.endswith(".jpg")]
    classes = sorted({name.split("/")[1] for name in images})
    drawn = random.Random(seed).sample(classes, old + new)
    parts = {label: "old" if place < old else "new" for place, label in enumerate(drawn)}
    for name in images:
        split, label, file = name.split("/")
        if label not in parts:
            continue
        for part in (parts[label], "all"):
            path = out / part / split / label / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read(name))
print("new:", ", ".join(sorted(drawn[old:])))

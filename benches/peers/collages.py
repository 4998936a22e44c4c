"""Makes a data set of several labels an image: collages of up to three photos of a ZIP of split folders.

    python benches/peers/collages.py grocery-store.zip 15 7 collages/    # 15 classes by seed 7; needs Pillow

Writes 500 collages of training photos, 120 of validation photos and 300 of test photos, 320x320 pixels each, and labels.csv
for `ocelli train collages/`.
"""

import io
import random
import sys
import zipfile
from pathlib import Path

from PIL import Image, ImageOps

COUNTS = {"train": 500, "val": 120, "test": 300}
# So many photos a split must a class have.
LEAST = {"train": 25, "val": 2, "test": 15}
SIDE = 160
PLACES = [(0, 0), (SIDE, 0), (0, SIDE), (SIDE, SIDE)]

archive, count, seed, out = zipfile.ZipFile(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
photos: dict[str, dict[str, list[str]]] = {}
for name in archive.namelist():
    parts = name.split("/")
    split = next((part for part in parts if part in COUNTS), None)
    if split and name.lower().endswith((".jpg", ".png")):
        photos.setdefault(parts[-2], {}).setdefault(split, []).append(name)
enough = sorted(
    label for label, splits in photos.items() if all(len(splits.get(s, [])) >= n for s, n in LEAST.items())
)
rng = random.Random(seed)
classes = sorted(rng.sample(enough, count))


def photo(name: str) -> Image.Image:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
    return ImageOps.fit(image, (SIDE, SIDE))


out.mkdir(parents=True, exist_ok=True)
rows = ["file,labels,split"]
for split, number in COUNTS.items():
    for i in range(number):
        labels = rng.sample(classes, rng.choice([0, 1, 1, 2, 2, 2, 3, 3]))
        collage = Image.new("RGB", (2 * SIDE, 2 * SIDE), (128, 128, 128))
        for label, place in zip(labels, rng.sample(PLACES, len(labels))):
            collage.paste(photo(rng.choice(photos[label][split])), place)
        collage.save(out / f"{split}-{i}.jpg", quality=90)
        rows.append(f"{split}-{i}.jpg,{'|'.join(labels)},{split}")
(out / "labels.csv").write_text("\n".join(rows) + "\n")

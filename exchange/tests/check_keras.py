#!/usr/bin/env python3
"""Opens the .keras files of a folder in Keras 3 and compares its probabilities with those beside them.

The folder is what `cargo test -p ocelli-exchange --test keras` writes with OCELLI_KERAS_EXPORTS=FOLDER. A file that ends
with _pixels.keras takes pixels; others take them normalised as their metadata says.
"""

import glob
import json
import os
import sys
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")

import keras  # noqa: E402
import numpy as np  # noqa: E402

IMAGES = 4


def main():
    failed = 0
    paths = sorted(glob.glob(os.path.join(sys.argv[1], "*.keras")))
    for path in paths:
        name = os.path.basename(path)
        model = keras.models.load_model(path)
        with zipfile.ZipFile(path) as file:
            meta = json.loads(file.read("metadata.json"))["ocelli"]
        shape = (IMAGES,) + model.input_shape[1:]
        content = open(path + ".bin", "rb").read()
        count = int(np.prod(shape))
        pixels = np.frombuffer(content[:count], "uint8").reshape(shape).astype("float32")
        expected = np.frombuffer(content[count:], "<f4").reshape(IMAGES, -1)
        if not name.endswith("_pixels.keras"):
            pixels = (pixels / 255 - np.array(meta["mean"], "float32")) / np.array(meta["std"], "float32")
        answers = np.asarray(model(pixels, training=False))
        worst = np.abs(answers - expected).max() / (expected.max() - expected.min())
        other = int((answers.argmax(1) != expected.argmax(1)).sum())
        bad = not worst < 1e-3 or other > 0 or answers.shape != expected.shape or len(meta["classes"]) != answers.shape[1]
        failed += bad
        print(f"{'FAILED' if bad else 'ok':6} {name:44} {worst:.1e} of the range, {other} other classes, Keras {keras.__version__}")
    print(f"{len(paths) - failed} of {len(paths)} files answer in Keras as in the engine")
    return 1 if failed or not paths else 0


if __name__ == "__main__":
    sys.exit(main())

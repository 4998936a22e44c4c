"""Image classification on CPUs: the inference engine of Ocelli."""

import os
from collections.abc import Sequence
from typing import Any, Protocol, TypedDict, Union, final, overload

class _HasArrayInterface(Protocol):
    @property
    def __array_interface__(self) -> dict[str, Any]: ...

class _HasArray(Protocol):
    def __array__(self, *args: Any, **kwargs: Any) -> Any: ...

# A path, or the bytes of an image file.
_File = Union[bytes, bytearray, str, "os.PathLike[str]"]
# A NumPy array, a PIL image, a memoryview, or what becomes an array.
_Pixels = Union[_HasArrayInterface, _HasArray, memoryview]

__version__: str

class OcelliError(ValueError):
    """What cannot be read, decoded or computed, and what to do about it."""

class _Ranked(TypedDict):
    label: str
    index: int
    probability: float

@final
class Ranked:
    """One class with its probability."""

    @property
    def label(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def probability(self) -> float: ...
    def to_dict(self) -> _Ranked: ...

@final
class LabelAnswer:
    """One label of an image that may have several."""

    @property
    def label(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def probability(self) -> float: ...
    @property
    def threshold(self) -> float: ...
    @property
    def applies(self) -> bool: ...
    def to_dict(self) -> dict[str, Any]: ...

@final
class Prediction:
    """What a model says of one image."""

    @property
    def label(self) -> str: ...
    @property
    def index(self) -> int: ...
    @property
    def probability(self) -> float: ...
    @property
    def known(self) -> bool: ...
    @property
    def score(self) -> float | None: ...
    @property
    def top(self) -> list[Ranked]: ...
    @property
    def labels(self) -> list[LabelAnswer] | None: ...
    def to_dict(self) -> dict[str, Any]:
        """What `ocelli predict --json` writes, without the path."""

@final
class Preprocessing:
    """How an image becomes the input of a network."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def fit(self) -> str: ...
    @property
    def mean(self) -> list[float]: ...
    @property
    def std(self) -> list[float]: ...

@final
class Model:
    """A model that answers. Several threads may use it at once."""

    # An array holds one image, or several: what comes back is up to it. A str would be a sequence of them, too.
    @overload
    def predict(self, x: _File, top_k: int = 5) -> Prediction: ...  # type: ignore[overload-overlap]
    @overload
    def predict(self, x: Sequence[_File | _Pixels], top_k: int = 5) -> list[Prediction]: ...
    @overload
    def predict(self, x: _Pixels, top_k: int = 5) -> Any: ...
    def probabilities(self, x: _File | _Pixels | Sequence[_File | _Pixels]) -> Any:
        """Probabilities of all classes: float32 [classes], of several images [n, classes]."""
    def embed(self, x: _File | _Pixels | Sequence[_File | _Pixels]) -> Any:
        """What the last dense layer reads: float32 [features], of several images [n, features]."""
    def prepare(self, x: _File | _Pixels | Sequence[_File | _Pixels]) -> Any:
        """The input of the network, resized and normalised: float32 [h, w, c], of several images [n, h, w, c]."""
    def logits(self, x: _Pixels) -> Any:
        """Logits of float32 [h, w, c] or [n, h, w, c] that is normalised already: float32 [classes] or [n, classes]."""
    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def preprocessing(self) -> Preprocessing: ...
    @property
    def parameters(self) -> int: ...
    @property
    def temperature(self) -> float | None: ...
    @property
    def multi_label(self) -> bool: ...
    @property
    def threads(self) -> int: ...

def load(
    path: str | os.PathLike[str],
    *,
    threads: int = 0,
    precision: str = "auto",
    exact: bool = False,
    tta: bool = False,
) -> Model:
    """Opens a `.ocelli` file, a run folder, or "imagenet" or "fashion-mnist"."""

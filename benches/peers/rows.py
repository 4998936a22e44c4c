"""What is compared: rows of work, and the peers that can do it. Standard library only."""
from __future__ import annotations

from typing import NamedTuple

# Peers by the mode they take part in; a name is a class in frameworks.py.
PEERS = {
    "train": ("PyTorch",),
    "infer": ("ONNX Runtime", "OpenVINO"),
}
MODE_TITLES = {"train": "training step", "infer": "inference"}


class Row(NamedTuple):
    """One line of the table: a whole training step, or one forward pass, of a network on a batch."""

    mode: str
    net: str
    batch: int

    @property
    def title(self) -> str:
        return f"{MODE_TITLES[self.mode]}, {self.net}, batch {self.batch}"


ROWS = (
    Row("train", "keras-cnn-28", 128),
    Row("train", "keras-cnn-32", 128),
    Row("train", "keras-cnn-224", 32),
    Row("train", "resnet9", 128),
    Row("train", "resnet18", 16),
    Row("train", "mobilenet-v2", 16),
    Row("infer", "keras-cnn-28", 1),
    Row("infer", "resnet9", 1),
    Row("infer", "resnet18", 1),
    Row("infer", "mobilenet-v2", 1),
    Row("infer", "efficientnet-lite0", 1),
    Row("infer", "resnet18", 32),
)

# The row whose peak memory is measured too: large enough that activations, not the program, fill the memory.
MEMORY_ROW = Row("train", "resnet18", 16)


def choose(only: str | None, nets: list[str] | None) -> list[Row]:
    """The rows of a mode and of some networks; all of them by default.

    Raises ValueError for a network that no row has.
    """
    known = list(dict.fromkeys(row.net for row in ROWS))
    for net in nets or ():
        if net not in known:
            raise ValueError(f"unknown network `{net}`: choose from {', '.join(known)}")
    chosen = [row for row in ROWS if only in (None, row.mode) and (nets is None or row.net in nets)]
    if not chosen:
        raise ValueError(f"no row has mode {only} and networks {', '.join(nets or known)}")
    return chosen

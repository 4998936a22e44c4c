"""Pictures, and what a variant is."""
from __future__ import annotations

import dataclasses
import io
import struct

import numpy as np
from PIL import Image


@dataclasses.dataclass
class Variant:
    """A file, and the picture that it was made of, where Pillow did not make it: an array in 0..255, or "refused"."""

    name: str
    data: bytes
    want: object = None
    # How far Pillow may be apart: the mean and the largest difference.
    bound: tuple[float, float] = (2, 2)
    # The same for the picture, where the file is a lossy one.
    loss: tuple[float, float] = (2, 2)


def encode(image: Image.Image, fmt: str, **how) -> bytes:
    out = io.BytesIO()
    image.save(out, fmt, **how)
    return out.getvalue()


def photo(width: int = 61, height: int = 43) -> np.ndarray:
    """Soft shapes, edges and some noise: height, width, 3 in 0..255."""
    y, x = np.mgrid[0:height, 0:width]
    random = np.random.default_rng(7)
    red = 128 + 100 * np.sin(x / 9) * np.cos(y / 7)
    green = 255 * x / max(width - 1, 1)
    blue = np.where((x // 8 + y // 8) % 2, 220.0, 40.0)
    values = np.dstack([red, green, blue]) + random.normal(0, 4, (height, width, 3))
    return values.clip(0, 255).astype(np.uint8)


def smooth(width: int = 61, height: int = 43) -> np.ndarray:
    """Without edges: where chroma is subsampled, every filter gives nearly the same."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = 128 + 90 * np.sin(x / 31), 40 + 170 * y / max(height - 1, 1)
    return np.dstack([red, green, 128 + 80 * np.cos((x + y) / 37)]).astype(np.uint8)


def gray(width: int = 61, height: int = 43) -> np.ndarray:
    return photo(width, height)[..., 0]


def alpha(width: int = 61, height: int = 43) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return (255 * (x + y) / (width + height - 2)).astype(np.uint8)


def on_white(values, alpha) -> np.ndarray:
    part = np.asarray(alpha, dtype=float)
    part = part[..., None] if np.ndim(values) == 3 else part
    return values * part + 255 * (1 - part)


def turned(values: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels of a picture that `orientation` turns upright (TIFF 6.0, tag 274)."""
    inverse = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
               5: lambda a: a.swapaxes(0, 1), 6: lambda a: a[:, ::-1].swapaxes(0, 1),
               7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: lambda a: a.swapaxes(0, 1)[:, ::-1]}
    return np.ascontiguousarray(inverse[orientation](values))


def exif(orientation: int, big: bool = False, kind: int = 3) -> bytes:
    """A TIFF structure that says nothing but the orientation."""
    order = ">" if big else "<"
    form = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}[kind]
    value = struct.pack(order + form, orientation).ljust(4, b"\0")
    return (b"MM\0*" if big else b"II*\0") + struct.pack(order + "IHHHI", 8, 1, 274, kind, 1) + value + bytes(4)


def xmp(orientation: int, element: bool = False) -> bytes:
    inner = f"<tiff:Orientation>{orientation}</tiff:Orientation>" if element else ""
    outer = "" if element else f' tiff:Orientation="{orientation}"'
    return (f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
            f'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/"{outer}>{inner}</rdf:Description>'
            f'</rdf:RDF></x:xmpmeta>').encode()

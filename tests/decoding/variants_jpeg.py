"""JPEG: what Pillow writes, and what it does not."""
from __future__ import annotations

import io
import struct

import numpy as np
from PIL import Image

from pictures import Variant, encode, exif, gray, photo, smooth, turned, xmp

SAMPLINGS = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
# Interpolated chroma is rounded once more, and its factors in blue and red (1.772, 1.402) bring that to 3 levels in a few
# values of a thousand; libjpeg and ours have the same filters, so that there is no more to it.
WHOLE = (2, 2)
SUBSAMPLED = (0.6, 3)
LOSS = (2.5, 40)


def variants():
    image, soft = Image.fromarray(photo()), Image.fromarray(smooth())
    for quality in (40, 75, 95, 100):
        for progressive in (False, True):
            kind = f"{'progressive' if progressive else 'baseline'} quality {quality}"
            for number, sampling in SAMPLINGS.items():
                bound = WHOLE if number == 0 else SUBSAMPLED
                for name, picture in (("photo", image), ("soft", soft)):
                    data = encode(picture, "JPEG", quality=quality, progressive=progressive, subsampling=number)
                    yield Variant(f"jpeg {kind} {sampling} {name}", data, bound=bound)
            yield Variant(f"jpeg {kind} gray", encode(Image.fromarray(gray()), "JPEG", quality=quality, progressive=progressive), bound=WHOLE)
    for size in ((1, 1), (7, 5), (8, 8), (9, 17), (16, 16), (33, 31), (200, 3)):
        for number, sampling in SAMPLINGS.items():
            data = encode(Image.fromarray(smooth(*size)), "JPEG", quality=92, subsampling=number)
            yield Variant(f"jpeg {size[0]}x{size[1]} {sampling}", data, bound=WHOLE if number == 0 else SUBSAMPLED)
    for rows in (0, 1, 2):
        for blocks in (0, 1, 5):
            data = encode(image, "JPEG", quality=90, subsampling=0, restart_marker_rows=rows, restart_marker_blocks=blocks)
            yield Variant(f"jpeg restart every {rows} rows {blocks} blocks", data, bound=WHOLE)
    yield Variant("jpeg optimized", encode(image, "JPEG", quality=85, subsampling=0, optimize=True), bound=WHOLE)
    yield Variant("jpeg rgb", encode(image, "JPEG", quality=90, keep_rgb=True), bound=WHOLE)
    yield Variant("jpeg cmyk", encode(image.convert("CMYK"), "JPEG", quality=90), bound=WHOLE)
    yield Variant("jpeg cmyk progressive", encode(image.convert("CMYK"), "JPEG", quality=90, progressive=True), bound=WHOLE)
    yield Variant("jpeg cmyk without adobe", without(encode(image.convert("CMYK"), "JPEG", quality=90), 0xEE), bound=WHOLE)
    base = encode(image, "JPEG", quality=90, subsampling=0)
    yield Variant("jpeg without jfif", without(base, 0xE0), bound=WHOLE)
    yield Variant("jpeg bytes behind its end", base + bytes(500) + b"more", bound=WHOLE)
    yield Variant("jpeg a second image behind its end", base + encode(soft, "JPEG"), bound=WHOLE)
    yield Variant("jpeg a comment and profiles", segment(segment(base, 0xFE, b"made by hand"), 0xE2, b"ICC_PROFILE\0\1\1" + bytes(300)), bound=WHOLE)
    thumbnail = encode(Image.fromarray(smooth(16, 12)), "JPEG")
    yield Variant("jpeg a thumbnail in its segment", segment(base, 0xE1, b"Exif\0\0" + exif(1) + thumbnail), bound=WHOLE)
    yield Variant("jpeg fill bytes in front of markers", base[:2] + b"\xff\xff\xff" + base[2:], bound=WHOLE)
    usual = encode(image, "JPEG", quality=90, subsampling=1)
    want = np.asarray(Image.open(io.BytesIO(usual)).convert("RGB"))
    yield Variant("jpeg without huffman tables", without(usual, 0xC4), want, bound=SUBSAMPLED, loss=SUBSAMPLED)
    yield Variant("jpeg without huffman tables or jfif", without(without(usual, 0xC4), 0xE0), want, bound=SUBSAMPLED, loss=SUBSAMPLED)
    yield Variant("jpeg without huffman tables but avi1", segment(without(without(usual, 0xC4), 0xE0), 0xE0, b"AVI1" + bytes(10)), want, bound=SUBSAMPLED, loss=SUBSAMPLED)
    for cut in (0.3, 0.6, 0.9, 0.99):
        yield Variant(f"jpeg cut at {cut:.0%}", base[: int(len(base) * cut)], "refused")
    yield Variant("jpeg without its end marker", base[:-2], "refused")

    picture = photo(48, 32)
    for orientation in range(1, 9):
        stored = encode(Image.fromarray(turned(picture, orientation)), "JPEG", quality=97, subsampling=0)
        for big in (False, True):
            for kind in (1, 3, 4, 6, 8, 9):
                data = segment(stored, 0xE1, b"Exif\0\0" + exif(orientation, big, kind))
                yield Variant(f"jpeg exif {orientation} of type {kind} {'MM' if big else 'II'}", data, picture, loss=LOSS)
        for element in (False, True):
            data = segment(stored, 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(orientation, element))
            yield Variant(f"jpeg xmp {orientation} {'element' if element else 'attribute'}", data, picture, loss=LOSS)
        both = segment(segment(stored, 0xE1, b"Exif\0\0" + exif(orientation)), 0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp(3))
        yield Variant(f"jpeg exif {orientation} behind another xmp", both, picture, loss=LOSS)
    yield from flat()


def flat():
    """Sampling factors and scan orders that Pillow does not write, as blocks of one level each."""
    cases = [((h, v), (1, 1), (1, 1)) for h in (1, 2, 3, 4) for v in (1, 2, 3, 4)]
    cases += [((2, 2), (1, 2), (1, 2)), ((2, 2), (2, 1), (2, 1)), ((2, 1), (2, 1), (2, 1)), ((1, 1), (2, 2), (2, 2)),
              ((1, 1), (2, 1), (2, 1)), ((2, 2), (2, 2), (1, 1)), ((4, 1), (2, 1), (2, 1)), ((3, 1), (2, 1), (1, 1))]
    for factors in cases:
        for order in ("interleaved", "one by one", "luma alone"):
            scans = {"interleaved": [[0, 1, 2]], "one by one": [[0], [1], [2]], "luma alone": [[0], [1, 2]]}[order]
            if order != "one by one" and any(sum(factors[i][0] * factors[i][1] for i in s) > 10 for s in scans if len(s) > 1):
                continue
            name = " ".join(f"{h}x{v}" for h, v in factors)
            yield Variant(f"jpeg factors {name} {order}", by_hand(70, 50, factors, scans), bound=SUBSAMPLED)
    for kind, name in ((0xC3, "lossless"), (0xC5, "hierarchical"), (0xC9, "arithmetic")):
        data = bytearray(by_hand(16, 16, [(1, 1)], [[0]]))
        data[data.index(b"\xff\xc0") + 1] = kind
        yield Variant(f"jpeg {name}", bytes(data), "refused")


def level(part, x, y):
    return (60 + (x * 37 + y * 53) % 140, 100 + (x * 29 + y * 17) % 60, 100 + (x * 13 + y * 41) % 60)[part]


CODES = [(0, 2), (2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (14, 4), (30, 5), (62, 6), (126, 7), (254, 8), (510, 9)]


def by_hand(width, height, factors, scans):
    """Baseline (ITU-T T.81) with nothing but DC."""
    part = lambda marker, body: b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body
    frame = struct.pack(">BHHB", 8, height, width, len(factors))
    frame += b"".join(bytes([i + 1, h << 4 | v, 0]) for i, (h, v) in enumerate(factors))
    out = b"\xff\xd8" + part(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") + part(0xDB, b"\0" + bytes([8] * 64)) + part(0xC0, frame)
    out += part(0xC4, b"\0" + bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]) + bytes(range(12)))
    out += part(0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\0")
    most = max(h for h, _ in factors), max(v for _, v in factors)
    up = lambda a, b: -(-a // b)
    for scan in scans:
        out += part(0xDA, bytes([len(scan)]) + b"".join(bytes([m + 1, 0]) for m in scan) + b"\0\x3f\0")
        if len(scan) == 1:
            h, v = factors[scan[0]]
            blocks = [(scan[0], x, y) for y in range(up(up(height * v, most[1]), 8)) for x in range(up(up(width * h, most[0]), 8))]
        else:
            blocks = [(m, mx * factors[m][0] + i, my * factors[m][1] + j)
                      for my in range(up(height, 8 * most[1])) for mx in range(up(width, 8 * most[0]))
                      for m in scan for j in range(factors[m][1]) for i in range(factors[m][0])]
        bits, last = "", dict.fromkeys(scan, 0)
        for m, x, y in blocks:
            value = level(m, x, y) - 128
            step, last[m] = value - last[m], value
            size = abs(step).bit_length()
            bits += f"{CODES[size][0]:0{CODES[size][1]}b}"
            bits += f"{step if step > 0 else step + (1 << size) - 1:0{size}b}" if size else ""
            bits += "0"
        bits += "1" * (-len(bits) % 8)
        out += int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    return out + b"\xff\xd9"


def segment(data, marker, body):
    return data[:2] + b"\xff" + bytes([marker]) + struct.pack(">H", len(body) + 2) + body + data[2:]


def without(data, marker):
    out, at = data[:2], 2
    while data[at + 1] != 0xDA:
        end = at + 2 + struct.unpack(">H", data[at + 2:at + 4])[0]
        out += data[at:end] if data[at + 1] != marker else b""
        at = end
    return out + data[at:]

"""TIFF: what libtiff writes by way of Pillow, and every other kind by hand."""
from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image, TiffImagePlugin

from pictures import Variant, alpha, encode, gray, on_white, photo, smooth, turned, xmp

SIZES = {1: "B", 3: "H", 4: "I", 7: "B"}


def tiff(width, height, bits, photometric, chunks, extra=(), big=False, wide=False, rows=None, tile=None, kind="B"):
    """TIFF 6.0 or BigTIFF of these strips, or tiles of `tile` (width, height)."""
    order = ">" if big else "<"
    chunks = [chunks] if isinstance(chunks, bytes) else chunks
    tags = {256: (4, [width]), 257: (4, [height]), 258: (3, bits), 259: (3, [1]), 262: (3, [photometric]), 277: (3, [len(bits)])}
    if tile:
        tags |= {322: (4, [tile[0]]), 323: (4, [tile[1]]), 324: (4, [0] * len(chunks)), 325: (4, [len(c) for c in chunks])}
    else:
        tags |= {278: (4, [rows or height]), 273: (4, [0] * len(chunks)), 279: (4, [len(c) for c in chunks])}
    tags |= {tag: (form, values) for tag, form, values in extra}
    word, entry = (8, 20) if wide else (4, 12)
    start = (16 if wide else 8) + (8 if wide else 2) + entry * len(tags) + word
    pack = lambda form, values: struct.pack(order + SIZES[form] * len(values), *values)
    at = start + sum(len(pack(*t)) + len(pack(*t)) % 2 for t in tags.values() if len(pack(*t)) > word)
    places = []
    for part in chunks:
        places.append(at)
        at += len(part) + len(part) % 2
    tags[324 if tile else 273] = (4, places)
    letter = "Q" if wide else "I"
    out = (b"MM" if big else b"II") + (struct.pack(order + "HHHQ", 43, 8, 0, 16) if wide else struct.pack(order + "HI", 42, 8))
    out += struct.pack(order + ("Q" if wide else "H"), len(tags))
    behind = b""
    for tag, (form, values) in sorted(tags.items()):
        value = pack(form, values)
        out += struct.pack(order + "HH" + letter, tag, form, len(values))
        if len(value) > word:
            out += struct.pack(order + letter, start + len(behind))
            behind += value + bytes(len(value) % 2)
        else:
            out += value.ljust(word, b"\0")
    out += bytes(word) + behind
    return out + b"".join(part + bytes(len(part) % 2) for part in chunks)


def packed(samples, bits, order="<"):
    """Rows of samples (height, width, channels) of any depth, each row in whole bytes."""
    rows = samples.reshape(samples.shape[0], -1)
    if bits in (8, 16, 32, 64):
        return b"".join(row.astype(f"{order}u{bits // 8}").tobytes() for row in rows)
    spread = (rows[..., None].astype(np.uint64) >> np.arange(bits - 1, -1, -1, dtype=np.uint64)) & np.uint64(1)
    return np.packbits(spread.reshape(len(rows), -1).astype(np.uint8), axis=1).tobytes()


def variants():
    yield from by_pillow()
    yield from depths()
    yield from layouts()
    yield from extra_samples()
    yield from others()


def by_pillow():
    picture = photo()
    modes = {"1": Image.fromarray(picture).convert("1"), "L": Image.fromarray(gray()), "P": Image.fromarray(picture).quantize(100),
             "LA": Image.fromarray(np.dstack([gray(), alpha()])), "RGB": Image.fromarray(picture),
             "RGBA": Image.fromarray(np.dstack([picture, alpha()])), "CMYK": Image.fromarray(picture).convert("CMYK"),
             "I;16": Image.fromarray(gray().astype(np.uint16) * 257), "F": Image.fromarray((gray() / 255).astype(np.float32)),
             "YCbCr": Image.fromarray(picture).convert("YCbCr")}
    for mode, image in modes.items():
        for compression in (None, "packbits", "tiff_lzw", "tiff_deflate", "tiff_adobe_deflate", "group3", "group4", "jpeg", "zstd", "lzma", "webp"):
            for big in (False, True):
                if big and compression not in (None, "tiff_lzw"):
                    continue
                try:
                    data = encode(image, "TIFF", compression=compression, big_tiff=big)
                except (OSError, ValueError, KeyError, RuntimeError):
                    continue
                yield Variant(f"tiff by pillow {mode} {compression}{' big' if big else ''}", data, bound=(2, 3))
    for mode in ("L", "RGB", "RGBA", "I;16"):
        for compression in ("tiff_lzw", "tiff_adobe_deflate"):
            data = encode(modes[mode], "TIFF", compression=compression, tiffinfo={317: 2})
            yield Variant(f"tiff by pillow {mode} {compression} predictor", data)
            data = encode(modes[mode], "TIFF", compression=compression, tiffinfo={317: 2}, strip_size=500)
            yield Variant(f"tiff by pillow {mode} {compression} predictor in strips", data)
    for orientation in range(1, 9):
        image = Image.fromarray(turned(picture, orientation))
        yield Variant(f"tiff orientation {orientation}", encode(image, "TIFF", tiffinfo={274: orientation}), picture)
        for kind in (1, 3, 4):
            for big in (False, True):
                stored = turned(picture, orientation)
                data = tiff(stored.shape[1], stored.shape[0], [8] * 3, 2, stored.tobytes(), [(274, kind, [orientation])], big)
                yield Variant(f"tiff orientation {orientation} of type {kind} {'MM' if big else 'II'}", data, picture)
        data = tiff(stored.shape[1], stored.shape[0], [8] * 3, 2, stored.tobytes(), [(700, 1, list(xmp(orientation)))])
        yield Variant(f"tiff xmp {orientation}", data, picture)
    frames = [Image.fromarray(picture), Image.fromarray(smooth())]
    data = encode(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    yield Variant("tiff of two pages", data, picture)
    yield Variant("tiff cut", data[: len(data) // 3], "refused")


def depths():
    lightness, picture = gray(), photo()
    height, width = lightness.shape
    for big in (False, True):
        order, end = (">", "MM") if big else ("<", "II")
        for bits in (1, 2, 4, 6, 8, 10, 12, 14, 16, 24, 32):
            most = 2 ** bits - 1
            values = (lightness.astype(float) * most / 255).round().astype(np.uint64)[..., None]
            want = values.astype(float) * 255 / most
            if bits == 24:
                raw = b"".join(int(v).to_bytes(3, "big" if big else "little") for v in values.ravel())
            else:
                raw = packed(values, bits, order)
            for photometric in (0, 1):
                data = tiff(width, height, [bits], photometric, raw, big=big)
                yield Variant(f"tiff gray {bits} bits photometric {photometric} {end}", data, want if photometric else 255 - want)
            if bits in (8, 16, 32):
                colour = (picture.astype(float) * most / 255).round().astype(np.uint64)
                data = tiff(width, height, [bits] * 3, 2, packed(colour, bits, order), big=big)
                yield Variant(f"tiff rgb {bits} bits {end}", data, picture)
                inks = np.dstack([255 - picture, np.full_like(lightness, 40)])
                want_inks = picture * (215 / 255)
                data = tiff(width, height, [bits] * 4, 5, packed(inks.astype(np.uint64) * np.uint64(most // 255), bits, order), big=big)
                yield Variant(f"tiff cmyk {bits} bits {end}", data, want_inks)
            if bits <= 8:
                palette = np.random.default_rng(bits).integers(0, 256, (most + 1, 3))
                flat = [int(v) * 257 for v in palette.T.ravel()]
                index = values[..., 0].astype(int)
                yield Variant(f"tiff palette {bits} bits {end}", tiff(width, height, [bits], 3, raw, [(320, 3, flat)], big), palette[index])
                old = [int(v) for v in palette.T.ravel()]
                yield Variant(f"tiff palette {bits} bits of 8-bit colours {end}", tiff(width, height, [bits], 3, raw, [(320, 3, old)], big), palette[index])
            if bits == 4:
                three = (picture.astype(float) * 15 / 255).round().astype(np.uint64)
                yield Variant(f"tiff rgb 4 bits {end}", tiff(width, height, [4] * 3, 2, packed(three, 4), big=big), three.astype(float) * 17)
        for bits in (16, 32, 64):
            values = (lightness / 255).astype(f"{order}f{bits // 8}")
            data = tiff(width, height, [bits], 1, values.tobytes(), [(339, 3, [3])], big)
            yield Variant(f"tiff float {bits} bits {end}", data, lightness)
            values = (picture / 255).astype(f"{order}f{bits // 8}")
            data = tiff(width, height, [bits] * 3, 2, values.tobytes(), [(339, 3, [3] * 3)], big)
            yield Variant(f"tiff float rgb {bits} bits {end}", data, picture)
    values = (lightness * 3.0 - 100).astype("<f4")
    yield Variant("tiff float beyond 0..1", tiff(width, height, [32], 1, values.tobytes(), [(339, 3, [3])]))
    for bits in (8, 16, 32):
        values = (lightness.astype(int) - 128).astype(f"<i{bits // 8}")
        yield Variant(f"tiff signed {bits} bits", tiff(width, height, [bits], 1, values.tobytes(), [(339, 3, [2])]))


def difference(samples):
    """Predictor 2 along the rows."""
    out = samples.copy()
    out[:, 1:] = samples[:, 1:] - samples[:, :-1]
    return out


def float_difference(values):
    """Predictor 3: the bytes of a row's numbers by significance, then their differences (Adobe's Technical Note 3)."""
    height, width, channels = values.shape
    size = values.dtype.itemsize
    out = b""
    for row in values:
        bytes_there = row.astype(f">f{size}").view(np.uint8).reshape(width * channels, size).T.ravel().astype(int)
        shifted = bytes_there.copy()
        shifted[channels:] -= bytes_there[:-channels]
        out += (shifted & 255).astype(np.uint8).tobytes()
    return out


def layouts():
    """Strips, tiles, planes, compressions and predictors, all with all."""
    compressions = {"plain": (1, bytes), "deflate": (8, zlib.compress), "old deflate": (32946, zlib.compress), "packbits": (32773, packbits)}
    kinds = {"gray 8": (gray()[..., None], 8, 1), "gray 16": (gray()[..., None].astype(np.uint16) * 257, 16, 1),
             "rgb 8": (photo(), 8, 2), "rgb 16": (photo().astype(np.uint16) * 257, 16, 2),
             "gray 4": (gray()[..., None] >> 4, 4, 1), "gray 1": (gray()[..., None] >> 7, 1, 1),
             "gray 12": (gray()[..., None].astype(np.uint16) * 16, 12, 1)}
    for kind, (samples, bits, photometric) in kinds.items():
        height, width, channels = samples.shape
        want = samples.astype(float) * 255 / (2 ** bits - 1)
        for name, (code, compress) in compressions.items():
            for big in (False, True):
                order = ">" if big else "<"
                for planar in (False, True):
                    if planar and channels == 1:
                        continue
                    planes = [samples[..., c:c + 1] for c in range(channels)] if planar else [samples]
                    tags = [(259, 3, [code]), (284, 3, [2 if planar else 1])]
                    about = f"{kind} {name} {'MM' if big else 'II'} {'planes' if planar else 'chunky'}"
                    strips = [compress(packed(plane[y:y + 10], bits, order)) for plane in planes for y in range(0, height, 10)]
                    yield Variant(f"tiff {about} strips", tiff(width, height, [bits] * channels, photometric, strips, tags, big, rows=10), want)
                    tiles = [compress(packed(tile, bits, order)) for plane in planes for tile in cut(plane, 32, 16)]
                    yield Variant(f"tiff {about} tiles", tiff(width, height, [bits] * channels, photometric, tiles, tags, big, tile=(32, 16)), want)
                    if name == "deflate" and bits in (8, 16):
                        tags = [*tags, (317, 3, [2])]
                        strips = [compress(packed(difference(plane[y:y + 10]), bits, order)) for plane in planes for y in range(0, height, 10)]
                        yield Variant(f"tiff {about} predictor strips", tiff(width, height, [bits] * channels, photometric, strips, tags, big, rows=10), want)
                        tiles = [compress(packed(difference(tile), bits, order)) for plane in planes for tile in cut(plane, 32, 16)]
                        yield Variant(f"tiff {about} predictor tiles", tiff(width, height, [bits] * channels, photometric, tiles, tags, big, tile=(32, 16)), want)
        data = tiff(width, height, [bits] * channels, photometric, [packed(samples, bits)], [(266, 3, [2])])
        if bits < 8:
            swapped = bytes(int(f"{b:08b}"[::-1], 2) for b in packed(samples, bits))
            yield Variant(f"tiff {kind} low bit first", tiff(width, height, [bits], photometric, [swapped], [(266, 3, [2])]), want)
            squeezed = bytes(int(f"{b:08b}"[::-1], 2) for b in zlib.compress(packed(samples, bits)))
            yield Variant(f"tiff {kind} deflate low bit first", tiff(width, height, [bits], photometric, [squeezed], [(266, 3, [2]), (259, 3, [8])]), want)
        yield Variant(f"tiff {kind} wide", tiff(width, height, [bits] * channels, photometric, [packed(samples, bits)], wide=True), want)
    for bits in (16, 32, 64):
        for tiled in (False, True):
            values = (photo() / 255).astype(f"f{bits // 8}")
            tags = [(259, 3, [8]), (317, 3, [3]), (339, 3, [3] * 3)]
            parts = cut(values, 32, 16) if tiled else [values]
            chunks = [zlib.compress(float_difference(part)) for part in parts]
            data = tiff(61, 43, [bits] * 3, 2, chunks, tags, tile=(32, 16) if tiled else None)
            yield Variant(f"tiff float {bits} bits predictor 3 {'tiles' if tiled else 'strip'}", data, photo())
    picture = photo(64, 48)
    # Photos in TIFF tiles of JPEG, with and without shared tables, in RGB and in YCbCr.
    for mode, photometric in (("RGB", 2), ("YCbCr", 6)):
        for subsampling in ((0,) if mode == "RGB" else (0, 2)):
            tiles = []
            for tile in cut(picture, 32, 16):
                tiles.append(encode(Image.fromarray(tile), "JPEG", quality=95, subsampling=subsampling, keep_rgb=mode == "RGB"))
            tags = [(259, 3, [7]), (530, 3, [1, 1] if subsampling == 0 else [2, 2])]
            yield Variant(f"tiff jpeg tiles {mode} {subsampling}", tiff(64, 48, [8] * 3, photometric, tiles, tags, tile=(32, 16)), picture, (2, 3), (9, 130))
    yield Variant("tiff jpeg gray tiles", tiff(64, 48, [8], 1, [encode(Image.fromarray(t[..., 0]), "JPEG", quality=95) for t in cut(gray(64, 48)[..., None], 32, 16)], [(259, 3, [7])], tile=(32, 16)), gray(64, 48), loss=(3, 30))


def cut(samples, width, height):
    """Tiles, filled up with the last row and column."""
    down, across = -(-samples.shape[0] // height), -(-samples.shape[1] // width)
    filled = np.pad(samples, ((0, down * height - samples.shape[0]), (0, across * width - samples.shape[1]), (0, 0)), "edge")
    return [filled[y * height:(y + 1) * height, x * width:(x + 1) * width] for y in range(down) for x in range(across)]


def packbits(data):
    """Literal runs alone, which is allowed."""
    return b"".join(bytes([len(data[i:i + 128]) - 1]) + data[i:i + 128] for i in range(0, len(data), 128))


def extra_samples():
    picture, lightness, part = photo(), gray(), alpha()
    height, width = lightness.shape
    opacity = part / 255
    multiplied = (picture * opacity[..., None]).round().astype(np.uint8)
    gray_multiplied = (lightness * opacity).round().astype(np.uint8)
    for bits in (8, 16):
        scale = 1 if bits == 8 else 257
        form = np.uint8 if bits == 8 else np.uint16
        stack = lambda *parts: (np.dstack(parts).astype(form) * form(scale))
        cases = [
            ("rgb unassociated", stack(picture, part), 2, [2], on_white(picture, opacity)),
            ("rgb associated", stack(multiplied, part), 2, [1], on_white(picture, opacity)),
            ("rgb unspecified", stack(picture, part), 2, [0], picture),
            ("rgb two extra, alpha first", stack(picture, part, 255 - part), 2, [2, 0], on_white(picture, opacity)),
            ("rgb two extra, alpha second", stack(picture, 255 - part, part), 2, [0, 2], on_white(picture, opacity)),
            ("rgb three unspecified", stack(picture, part, part, part), 2, [0, 0, 0], picture),
            ("gray unassociated", stack(lightness, part), 1, [2], on_white(lightness, opacity)),
            ("gray associated", stack(gray_multiplied, part), 1, [1], on_white(lightness, opacity)),
            ("gray unspecified", stack(lightness, part), 1, [0], lightness),
            ("white is zero unspecified", stack(255 - lightness, part), 0, [0], lightness),
            ("cmyk unspecified", stack(255 - picture, np.zeros_like(part), part), 5, [0], picture),
        ]
        for name, samples, photometric, meanings, want in cases:
            count = samples.shape[2]
            data = tiff(width, height, [bits] * count, photometric, packed(samples, bits), [(338, 3, meanings)])
            yield Variant(f"tiff {name} {bits} bits", data, want)
            planes = [packed(samples[..., c:c + 1], bits) for c in range(count)]
            data = tiff(width, height, [bits] * count, photometric, planes, [(338, 3, meanings), (284, 3, [2])])
            yield Variant(f"tiff {name} {bits} bits planes", data, want)
    data = tiff(width, height, [8] * 4, 2, np.dstack([picture, part]).tobytes())
    yield Variant("tiff rgb of four samples without a word", data, on_white(picture, opacity))


def others():
    picture = photo(60, 44)
    values = picture.astype(float)
    luma = values @ [0.299, 0.587, 0.114]
    y_cb_cr = np.dstack([luma, 128 + (values[..., 2] - luma) / 1.772, 128 + (values[..., 0] - luma) / 1.402]).round().clip(0, 255)
    for name, (code, compress) in {"plain": (1, bytes), "deflate": (8, zlib.compress)}.items():
        for h, v in ((1, 1), (2, 1), (1, 2), (2, 2), (4, 2), (4, 4)):
            # Chroma of whole blocks, so that repeating it gives the picture back.
            blocks = y_cb_cr.reshape(44 // v, v, 60 // h, h, 3)
            chroma = blocks[..., 1:].mean(axis=(1, 3)).round()
            units = np.concatenate([blocks[..., 0].transpose(0, 2, 1, 3).reshape(44 // v, 60 // h, -1), chroma], axis=2)
            data = compress(units.astype(np.uint8).tobytes())
            y = y_cb_cr[..., 0]
            cb, cr = (np.kron(chroma[..., i], np.ones((v, h))) - 128 for i in (0, 1))
            want = np.dstack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb]).clip(0, 255)
            tags = [(259, 3, [code]), (530, 3, [h, v])]
            yield Variant(f"tiff ycbcr {h}x{v} {name}", tiff(60, 44, [8] * 3, 6, data, tags), want)
    lightness = gray()
    bits = Image.fromarray(lightness).convert("1")
    fax = encode(bits, "TIFF", compression="group4")
    yield Variant("tiff group 4 white is zero", fax)
    # The same bits with the lowest first, and with the other meaning.
    image = Image.open(io.BytesIO(fax))
    at, length = image.tag_v2[273][0], image.tag_v2[279][0]
    strip = fax[at:at + length]
    swapped = bytes(int(f"{b:08b}"[::-1], 2) for b in strip)
    black = np.asarray(image).astype(float) * 255
    meaning = image.tag_v2[262]
    for photometric in (0, 1):
        want = black if photometric == meaning else 255 - black
        for order, data in ((1, strip), (2, swapped)):
            yield Variant(f"tiff group 4 photometric {photometric} bit order {order}", tiff(61, 43, [1], photometric, data, [(259, 3, [4]), (266, 3, [order])]), want)
    raw = lightness.tobytes()
    yield Variant("tiff without lengths of its strip", without_tag(tiff(61, 43, [8], 1, raw), 279), lightness)
    yield Variant("tiff of one strip without rows per strip", without_tag(tiff(61, 43, [8], 1, raw), 278), lightness)
    for code, name in ((3, "group 3"), (6, "old jpeg"), (34712, "jpeg 2000"), (50000, "zstandard"), (12345, "12345")):
        yield Variant(f"tiff compression {name}", tiff(61, 43, [8], 1, raw, [(259, 3, [code])]), "refused")


def without_tag(data, tag):
    """The little-endian file with the tag's number made one that nobody knows."""
    at = next(i for i in range(10, len(data), 12) if struct.unpack_from("<H", data, i)[0] == tag)
    return data[:at] + struct.pack("<H", 65000) + data[at + 2:]

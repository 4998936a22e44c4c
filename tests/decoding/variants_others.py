"""PNG, BMP, GIF and WebP."""
from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import Image, PngImagePlugin

from pictures import Variant, alpha, encode, exif, gray, on_white, photo, smooth, turned, xmp


def variants():
    yield from png()
    yield from bmp()
    yield from gif()
    yield from webp()


# ---------------------------------------------------------------- PNG

PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind, body, crc=None):
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png_by_hand(samples, depth, colour, chunks=b"", interlaced=False, filters=(0,)):
    """ISO 15948: `samples` of height, width and channels, packed to `depth` bits."""
    height, width, channels = samples.shape
    bytes_per_pixel = max(1, depth * channels // 8)

    def rows(part):
        out, above = b"", None
        for number, row in enumerate(part.reshape(part.shape[0], -1)):
            bits = np.unpackbits(row.astype(">u2").view(np.uint8).reshape(-1, 2), axis=1)[:, 16 - depth:]
            raw = np.packbits(bits.ravel()).astype(int)
            above = np.zeros_like(raw) if above is None else above
            left = np.concatenate([np.zeros(bytes_per_pixel, int), raw])[: len(raw)]
            corner = np.concatenate([np.zeros(bytes_per_pixel, int), above])[: len(raw)]
            guess = left + above - corner
            near = np.where((abs(guess - left) <= abs(guess - above)) & (abs(guess - left) <= abs(guess - corner)), left,
                            np.where(abs(guess - above) <= abs(guess - corner), above, corner))
            kind = filters[number % len(filters)]
            out += bytes([kind]) + ((raw - [0, left, above, (left + above) // 2, near][kind]) & 255).astype(np.uint8).tobytes()
            above = raw
        return out

    parts = [samples[y::dy, x::dx] for x, y, dx, dy in PASSES] if interlaced else [samples]
    data = b"".join(rows(part) for part in parts if part.size)
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, int(interlaced))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunks + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def with_chunk(data, new, behind=False):
    at = data.index(b"IEND" if behind else b"IDAT") - 4
    return data[:at] + new + data[at:]


def raw_profile(name, body):
    lines = "".join(body[i:i + 36].hex() + "\n" for i in range(0, len(body), 36))
    return f"\n{name}\n{len(body):8}\n{lines}".encode()


def png():
    picture, lightness = photo(), gray()
    for interlaced in (False, True):
        how = "interlaced" if interlaced else "plain"
        for depth in (1, 2, 4, 8, 16):
            most = 2 ** depth - 1
            values = (lightness.astype(float) * most / 255).round().astype(int)[..., None]
            yield Variant(f"png gray {depth} bits {how}", png_by_hand(values, depth, 0, interlaced=interlaced), values * 255 / most)
            key = int(values[3, 3, 0])
            clear = np.where(values == key, 255.0, values * 255 / most)
            data = png_by_hand(values, depth, 0, chunk(b"tRNS", struct.pack(">H", key)), interlaced)
            yield Variant(f"png gray {depth} bits with a clear level {how}", data, clear)
            if depth <= 8:
                palette = np.random.default_rng(depth).integers(0, 256, (most + 1, 3))
                plte = chunk(b"PLTE", palette.astype(np.uint8).tobytes())
                yield Variant(f"png palette {depth} bits {how}", png_by_hand(values, depth, 3, plte, interlaced), palette[values[..., 0]])
                opacity = np.random.default_rng(depth + 9).integers(0, 256, most)
                data = png_by_hand(values, depth, 3, plte + chunk(b"tRNS", opacity.astype(np.uint8).tobytes()), interlaced)
                part = np.append(opacity, 255)[values[..., 0]] / 255
                yield Variant(f"png palette {depth} bits with alpha {how}", data, on_white(palette[values[..., 0]], part))
        for depth in (8, 16):
            most = 2 ** depth - 1
            scale = most // 255
            colour, part = picture.astype(int) * scale, alpha().astype(int)[..., None] * scale
            yield Variant(f"png rgb {depth} bits {how}", png_by_hand(colour, depth, 2, interlaced=interlaced), picture)
            key = colour[5, 5]
            clear = np.where((colour == key).all(axis=2, keepdims=True), 255, picture)
            yield Variant(f"png rgb {depth} bits with a clear colour {how}", png_by_hand(colour, depth, 2, chunk(b"tRNS", struct.pack(">HHH", *map(int, key))), interlaced), clear)
            yield Variant(f"png rgb alpha {depth} bits {how}", png_by_hand(np.dstack([colour, part]), depth, 6, interlaced=interlaced), on_white(picture, alpha() / 255))
            level = lightness.astype(int)[..., None] * scale
            yield Variant(f"png gray alpha {depth} bits {how}", png_by_hand(np.dstack([level, part]), depth, 4, interlaced=interlaced), on_white(lightness, alpha() / 255))
    for kind in range(5):
        yield Variant(f"png filter {kind}", png_by_hand(picture.astype(int), 8, 2, filters=(kind,)), picture)
    yield Variant("png all filters", png_by_hand(picture.astype(int) * 257, 16, 2, filters=(0, 1, 2, 3, 4)), picture)
    for size in ((1, 1), (1, 9), (3, 2), (5, 5)):
        yield Variant(f"png {size} interlaced", png_by_hand(photo(*size).astype(int), 8, 2, interlaced=True), photo(*size))
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield Variant(f"png by pillow {mode}", encode(Image.fromarray(picture).convert(mode), "PNG"))
    base = encode(Image.fromarray(picture), "PNG")
    yield Variant("png bytes behind its end", base + bytes(99), picture)
    yield Variant("png wrong checksum of a text", with_chunk(base, chunk(b"tEXt", b"Comment\0x", crc=1)), picture)
    yield Variant("png wrong checksum of pixels", base.replace(b"IEND", b"IEND")[:-20] + bytes(4) + base[-16:], "refused")
    yield Variant("png an unknown chunk", with_chunk(base, chunk(b"vpAg", bytes(9))), picture)
    body = base[base.index(b"IDAT") + 4: base.index(b"IEND") - 8]
    head = base[:base.index(b"IDAT") - 4]
    small = b"".join(chunk(b"IDAT", body[i:i + 100]) for i in range(0, len(body), 100))
    yield Variant("png pixels in small chunks", head + small + chunk(b"IEND", b""), picture)
    yield Variant("png pixels in small chunks without an end", head + small, picture)
    yield Variant("png pixels in small chunks, cut between two", head + small[:112 * (len(small) // 224)], "refused")
    for cut in range(1, 13):
        yield Variant(f"png without the last {cut} bytes", base[:-cut], picture)
    yield Variant("png zeros instead of its end", base[:-12] + bytes(40), picture)
    for part in (0.4, 0.8):
        yield Variant(f"png cut at {part:.0%}", base[: int(len(base) * part)], "refused")
    for orientation in range(1, 9):
        stored = encode(Image.fromarray(turned(picture, orientation)), "PNG")
        for behind in (False, True):
            where = "behind" if behind else "in front"
            yield Variant(f"png exif {orientation} {where}", with_chunk(stored, chunk(b"eXIf", exif(orientation, behind, 4 if behind else 3)), behind), picture)
        packed = b"Raw profile type exif\0\0" + zlib.compress(raw_profile("exif", b"Exif\0\0" + exif(orientation)))
        yield Variant(f"png exif in raw profile {orientation}", with_chunk(stored, chunk(b"zTXt", packed)), picture)
        plain = b"Raw profile type APP1\0" + raw_profile("APP1", b"Exif\0\0" + exif(orientation))
        yield Variant(f"png exif in raw profile APP1 {orientation}", with_chunk(stored, chunk(b"tEXt", plain), True), picture)
        for compressed in (0, 1):
            text = zlib.compress(xmp(orientation)) if compressed else xmp(orientation)
            text = b"XML:com.adobe.xmp\0" + bytes([compressed, 0]) + b"\0\0" + text
            yield Variant(f"png xmp {orientation} {'packed' if compressed else 'plain'}", with_chunk(stored, chunk(b"iTXt", text)), picture)
    frames = [Image.fromarray(picture), Image.fromarray(smooth())]
    yield Variant("png animated", encode(frames[0], "PNG", save_all=True, append_images=frames[1:]), picture)
    yield Variant("png animated behind a still", encode(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True), picture)


# ---------------------------------------------------------------- BMP

def bmp_by_hand(width, height, header, bits, pixels, compression=0, masks=(), palette=()):
    info = struct.pack("<I", header)
    if header == 12:
        info += struct.pack("<HHHH", width, height, 1, bits)
    else:
        info += struct.pack("<iiHHIIiiII", width, height, 1, bits, compression, len(pixels), 2835, 2835, len(palette), 0)
        info = info[:header] + b"".join(struct.pack("<I", mask) for mask in masks)
    info = info.ljust(header, b"\0")
    info += b"".join(bytes(colour[::-1]) + (b"" if header == 12 else b"\0") for colour in palette)
    start = 14 + len(info)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + info + pixels


def bmp_rows(rows, top_down=False):
    rows = [row + bytes(-len(row) % 4) for row in rows]
    return b"".join(rows if top_down else rows[::-1])


def bmp():
    picture = photo()
    height, width = picture.shape[:2]
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield Variant(f"bmp by pillow {mode}", encode(Image.fromarray(picture).convert(mode), "BMP"))
    blue_first = picture[..., ::-1]
    for header in (12, 16, 40, 52, 56, 64, 108, 124):
        name = {12: "os2 1", 16: "os2 2 short", 40: "info", 52: "v2", 56: "v3", 64: "os2 2", 108: "v4", 124: "v5"}[header]
        rows = bmp_rows([row.tobytes() for row in blue_first])
        yield Variant(f"bmp {name} 24 bits", bmp_by_hand(width, height, header, 24, rows), picture)
        for bits in (1, 4, 8):
            palette = np.random.default_rng(bits).integers(0, 256, (2 ** bits, 3))
            index = (gray().astype(int) * (2 ** bits - 1) / 255).round().astype(int)
            rows = bmp_rows([np.packbits(((row[:, None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8).ravel()).tobytes() for row in index])
            yield Variant(f"bmp {name} palette {bits} bits", bmp_by_hand(width, height, header, bits, rows, palette=palette.tolist() if header != 16 else palette.tolist()), palette[index])
        if header < 40 or header == 64:
            continue
        top = bmp_rows([row.tobytes() for row in blue_first], True)
        yield Variant(f"bmp {name} from the top", bmp_by_hand(width, -height, header, 24, top), picture)
        for rgb_bits, masks in (((5, 5, 5), (0x7C00, 0x3E0, 0x1F)), ((5, 6, 5), (0xF800, 0x7E0, 0x1F))):
            values = [(picture[..., c].astype(int) * (2 ** n - 1) / 255).round().astype(int) for c, n in enumerate(rgb_bits)]
            want = np.dstack([v * 255 / (2 ** n - 1) for v, n in zip(values, rgb_bits)])
            words = values[0] << (rgb_bits[1] + rgb_bits[2]) | values[1] << rgb_bits[2] | values[2]
            rows = bmp_rows([row.astype("<u2").tobytes() for row in words])
            full = masks + ((0,) if header > 52 else ())
            yield Variant(f"bmp {name} 16 bits {rgb_bits}", bmp_by_hand(width, height, header, 16, rows, 3, full), want)
        part = alpha()
        shades = [("none", np.full_like(part, 255)), ("zero", np.zeros_like(part)), ("in use", part)]
        for name_alpha, values in shades:
            four = bmp_rows([row.tobytes() for row in np.dstack([blue_first, values])])
            yield Variant(f"bmp {name} 32 bits, fourth byte {name_alpha}", bmp_by_hand(width, height, header, 32, four), picture)
            if header >= 56:
                want = on_white(picture, values / 255) if name_alpha == "in use" else picture
                data = bmp_by_hand(width, height, header, 32, four, 3, (0xFF0000, 0xFF00, 0xFF, 0xFF000000))
                yield Variant(f"bmp {name} alpha of {name_alpha}", data, want)
        other = bmp_rows([np.dstack([np.zeros_like(part), picture]).tobytes()[i * width * 4:(i + 1) * width * 4] for i in range(height)])
        masks = (0xFF00, 0xFF0000, 0xFF000000) + ((0,) if header > 52 else ())
        yield Variant(f"bmp {name} 32 bits in another order", bmp_by_hand(width, height, header, 32, other, 3, masks), picture)
    four = bmp_rows([row.tobytes() for row in np.dstack([blue_first, alpha()])])
    data = bmp_by_hand(width, height, 40, 32, four, 6, (0xFF0000, 0xFF00, 0xFF, 0xFF000000))
    yield Variant("bmp info with masks and alpha behind it", data, on_white(picture, alpha() / 255))
    palette = [(200, 10, 10), (10, 200, 10), (10, 10, 200), (250, 250, 250)] + [(0, 0, 0)] * 12
    colours = np.array(palette)
    index = np.array([[0] * 5 + [1, 2, 3]] * 2 + [[2] * 8])
    runs = bytes([8, 2, 0, 0]) + bytes([5, 0, 0, 3, 1, 2, 3, 0, 0, 0]) * 2 + bytes([0, 1])
    yield Variant("bmp rle8", bmp_by_hand(8, 3, 40, 8, runs, 1, palette=palette), colours[index])
    runs = bytes([8, 0x22, 0, 0]) + bytes([5, 0, 3, 0x12, 0, 0]) * 2 + bytes([0, 1])
    index = np.array([[0] * 5 + [1, 2, 1]] * 2 + [[2] * 8])
    yield Variant("bmp rle4", bmp_by_hand(8, 3, 40, 4, runs, 2, palette=palette), colours[index])
    runs = bytes([4, 2, 0, 2, 4, 0, 0, 0, 8, 1, 0, 1])
    yield Variant("bmp rle8 with skipped pixels", bmp_by_hand(8, 2, 40, 8, runs, 1, palette=palette))
    whole = encode(Image.fromarray(picture), "BMP")
    yield Variant("bmp cut", whole[: len(whole) // 2], "refused")
    yield Variant("bmp bytes behind its end", whole + bytes(50), picture)


# ---------------------------------------------------------------- GIF, WebP

def gif():
    image = Image.fromarray(photo())
    for colours in (2, 4, 16, 200, 256):
        few = image.quantize(colours)
        for interlace in (0, 1):
            yield Variant(f"gif {colours} colours {'interlaced' if interlace else 'plain'}", encode(few, "GIF", interlace=interlace), np.asarray(few.convert("RGB")))
    few = image.quantize(16)
    index = np.asarray(few)
    clear = np.where((index == 3)[..., None], 255, np.asarray(few.convert("RGB")))
    yield Variant("gif transparent", encode(few, "GIF", transparency=3), clear)
    yield Variant("gif gray", encode(Image.fromarray(gray()), "GIF"), gray())
    frames = [few, Image.fromarray(smooth()).quantize(16)]
    data = encode(few, "GIF", save_all=True, append_images=frames[1:], duration=50)
    yield Variant("gif animated", data, np.asarray(few.convert("RGB")))
    yield Variant("gif animated, cut in its second frame", data[:-40], np.asarray(few.convert("RGB")))
    plain = encode(few, "GIF")
    yield Variant("gif without its end", plain[:-1], np.asarray(few.convert("RGB")))
    yield Variant("gif cut", plain[: len(plain) // 2], "refused")
    # A canvas larger than its frame, and the frame at an offset.
    canvas = bytearray(plain)
    canvas[6:10] = struct.pack("<HH", 80, 60)
    at = canvas.index(b"\x2c\0\0\0\0" + struct.pack("<HH", *few.size))
    canvas[at + 1:at + 5] = struct.pack("<HH", 7, 11)
    want = np.full((60, 80, 3), 255)
    want[11:11 + index.shape[0], 7:7 + index.shape[1]] = np.asarray(few.convert("RGB"))
    yield Variant("gif frame within its canvas", bytes(canvas), want)


def riff(kind, body):
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def webp_extended(simple, size, flags, behind):
    head = struct.pack("<I", flags) + struct.pack("<I", size[0] - 1)[:3] + struct.pack("<I", size[1] - 1)[:3]
    body = b"WEBP" + riff(b"VP8X", head) + simple[12:] + behind
    return b"RIFF" + struct.pack("<I", len(body)) + body


def webp():
    picture = photo()
    image = Image.fromarray(picture)
    for quality in (30, 75, 95):
        for method in (0, 4):
            # libwebp and ours interpolate chroma alike, but for rounding.
            yield Variant(f"webp quality {quality} method {method}", encode(image, "WEBP", quality=quality, method=method))
    for size in ((1, 1), (2, 3), (17, 16), (31, 33)):
        yield Variant(f"webp {size}", encode(Image.fromarray(smooth(*size)), "WEBP", quality=80))
        yield Variant(f"webp lossless {size}", encode(Image.fromarray(photo(*size)), "WEBP", lossless=True), photo(*size))
    yield Variant("webp lossless", encode(image, "WEBP", lossless=True), picture)
    yield Variant("webp lossless palette", encode(image.quantize(7).convert("RGB"), "WEBP", lossless=True))
    both = Image.fromarray(np.dstack([picture, alpha()]))
    yield Variant("webp lossless alpha", encode(both, "WEBP", lossless=True, exact=True), on_white(picture, alpha() / 255))
    yield Variant("webp lossy alpha", encode(both, "WEBP", quality=90))
    frames = [image, Image.fromarray(smooth())]
    yield Variant("webp animated", encode(image, "WEBP", save_all=True, append_images=frames[1:], lossless=True), picture)
    whole = encode(image, "WEBP", lossless=True)
    yield Variant("webp cut", whole[: len(whole) // 2], "refused")
    yield Variant("webp bytes behind its end", whole + bytes(20), picture)
    for orientation in range(1, 9):
        stored = Image.fromarray(turned(picture, orientation))
        simple = encode(stored, "WEBP", lossless=True)
        for prefix in (b"", b"Exif\0\0"):
            for big in (False, True):
                data = webp_extended(simple, stored.size, 8, riff(b"EXIF", prefix + exif(orientation, big)))
                yield Variant(f"webp exif {orientation} {'MM' if big else 'II'} {'with' if prefix else 'without'} prefix", data, picture)
        yield Variant(f"webp xmp {orientation}", webp_extended(simple, stored.size, 4, riff(b"XMP ", xmp(orientation))), picture)
        yield Variant(f"webp exif without its flag {orientation}", webp_extended(simple, stored.size, 0, riff(b"EXIF", exif(orientation))), picture)

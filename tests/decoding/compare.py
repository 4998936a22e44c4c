"""The product's decoder beside Pillow, pixel by pixel: compare.py DECODE [--keep=DIR] [--only=TEXT].

Both give gray or RGB on white, upright, in 0..255. A variant matches when no value differs by more than 2 levels (3
where JPEG's chroma is subsampled). It is a refusal when ours refuses it for a reason of REFUSALS. It is a difference
when Pillow refuses it or gives other pixels; then ours must be the picture that the file was made of, where there is
one, and the reason stands in DIFFERENCES. Exit code 1 when a variant is none of these.
"""
from __future__ import annotations

import argparse
import collections
import io
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import variants_jpeg
import variants_others
import variants_tiff

# What ours refuses and Pillow reads: what the refusal says, and why.
REFUSALS = [
    (r"^TIFF with CCITT (Group 3|run-length) compression", "no decoder in Rust is at hand for it"),
    (r"^TIFF with (Zstandard|LZMA|WebP|old-style JPEG) compression", "rare, and a dependency each"),
    (r"^TIFF with L\*a\*b\* colours", "print; needs a white point"),
    (r"^TIFF of signed integers", "their white point is unknown"),
    (r"^TIFF file has floating-point pixels outside 0\.\.1", "their white point is unknown; Pillow clips"),
    (r"^TIFF with JPEG compression and samples beyond its colours", "gray with alpha as JPEG; nothing but Pillow writes it"),
    (r"^TIFF with compression", "nobody knows it"),
    (r"^JPEG with arithmetic coding", "hardly any program writes it"),
    (r"^JPEG with sampling factors of", "no decoder at hand is right for it"),
    (r"cut off before its end", "half a picture is not trained on; Pillow fills it up or takes it"),
]

# Where Pillow refuses or gives other pixels, and ours are those that the file was made of: the variant, and why.
DIFFERENCES = [
    (r"^(jpeg exif|tiff orientation) . of type 1 ", "Pillow takes an orientation of type SHORT or LONG alone; a BYTE says as much"),
    (r"^webp exif without its flag", "ours turns it, since writers forget the flag in VP8X; libwebp leaves the chunk alone"),
    (r"^png exif in raw profile APP1", "ours turns it by an old name of ImageMagick's profile; Pillow does not read that"),
    (r"^png gray (2|4|16) bits with a clear level", "Pillow compares the clear level with pixels that it has scaled"),
    (r"^png wrong checksum of a text", "Pillow refuses it; libpng and browsers show the picture"),
    (r"^bmp (v3|v4|v5) alpha of zero", "ours is opaque, as in browsers; Pillow takes the header's word"),
    (r"^bmp rle. with skipped pixels", "skipped pixels are black in ours and the palette's first colour in Pillow; no rule says"),
    (r"^bmp (os2 2 short|.*32 bits in another order|info with masks and alpha)", "a header that Pillow does not read"),
    (r"^gif frame within its canvas", "ours is white around the frame, as in browsers; Pillow takes the background colour"),
    (r"^tiff (gray|rgb|cmyk|palette) (4|6|10|12|14|24|32) ", "a depth that Pillow does not read, or reads as signed"),
    (r"^tiff gray 16 bits photometric 0", "Pillow does not turn 16 bits over where zero is white"),
    (r"^tiff palette . bits of 8-bit colours", "old writers put 8 bits where 16 belong, as libtiff knows; Pillow cuts them to 0"),
    (r"^tiff float", "Pillow reads gray floats of 32 bits alone"),
    (r"^tiff rgb 16 plain .. planes", "Pillow reads planes of 16 bits as planes of 8"),
    (r"^tiff .*(two extra|unspecified|associated)", "a combination of samples that Pillow does not read, or reads plane by plane"),
    (r"^tiff ycbcr", "Pillow refuses most plain YCbCr, and misplaces chroma of 4 x 4"),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("decode", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        table = collections.defaultdict(collections.Counter)
        reasons, unexplained = collections.Counter(), []
        cases = [c for module in (variants_jpeg, variants_others, variants_tiff) for c in module.variants()]
        cases = [case for case in cases if args.only in case.name]
        assert len({case.name for case in cases}) == len(cases), "two variants have one name"
        files = []
        for number, case in enumerate(cases):
            files.append(folder / f"{number:04}-{re.sub(r'[^A-Za-z0-9]+', '-', case.name)}")
            files[-1].write_bytes(case.data)
        for case, ours in zip(cases, decoded(args.decode, files)):
            verdict, reason = judge(case, ours)
            row = table[case.name.split()[0].upper()]
            row["variants"] += 1
            row[verdict] += 1
            if verdict in ("refusals", "differences"):
                reasons[(verdict, reason)] += 1
            if verdict == "unexplained":
                unexplained.append(f"{case.name}: {reason}")
    columns = ["variants", "matches", "both refuse", "refusals", "differences", "unexplained"]
    print(" | ".join(["format".ljust(8), *columns]))
    for name, row in [*sorted(table.items()), ("all", sum(table.values(), collections.Counter()))]:
        print(" | ".join([name.ljust(8), *(str(row[column]).rjust(len(column)) for column in columns)]))
    for (verdict, reason), count in sorted(reasons.items()):
        print(f"{count:4} {verdict}: {reason}")
    for line in unexplained:
        print("UNEXPLAINED " + line)
    return 1 if unexplained else 0


def decoded(program: Path, files: list[Path]):
    """Our answers: an array of height, width and channels in 0..255, or the reason of a refusal."""
    names = "".join(f"{file}\n" for file in files)
    out = subprocess.run([program], input=names.encode(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    stream = io.BytesIO(out.stdout)
    for _ in files:
        word, _, rest = stream.readline().decode().rstrip("\n").partition(" ")
        if word == "refused":
            yield rest
            continue
        width, height, channels, size = map(int, rest.split())
        values = np.frombuffer(stream.read(width * height * channels * size), dtype=f"<u{size}")
        yield values.reshape(height, width, channels) / (1 if size == 1 else 257)


def judge(case, ours):
    theirs = pillow(case.data)
    refused = isinstance(case.want, str)
    if isinstance(ours, str):
        if refused and isinstance(theirs, str) or case.want is None and isinstance(theirs, str):
            return "both refuse", ""
        known = [why for pattern, why in REFUSALS if re.search(pattern, ours)]
        return ("refusals", f"{ours.split(';')[0]}: {known[0]}") if known else ("unexplained", f"ours refuses: {ours}")
    if refused:
        return "unexplained", "ours decodes it"
    if case.want is not None and (what := difference(ours, case.want, case.loss)):
        return "unexplained", f"not the picture it was made of: {what}"
    what = f"refused: {theirs}" if isinstance(theirs, str) else difference(ours, theirs, case.bound)
    if what is None:
        return "matches", ""
    known = [why for pattern, why in DIFFERENCES if re.search(pattern, case.name)]
    return ("differences", known[0]) if known else ("unexplained", f"Pillow: {what}")


def difference(ours, theirs, bound):
    """What differs by more than a bound on the mean and on the largest difference, or None."""
    ours, theirs = rgb(ours), rgb(theirs)
    if ours.shape != theirs.shape:
        return f"{ours.shape} is not {theirs.shape}"
    apart = np.abs(ours - theirs)
    if apart.mean() <= bound[0] and apart.max() <= bound[1]:
        return None
    worst = np.unravel_index(apart.argmax(), apart.shape)[:2]
    return f"{ours[worst]} is not {theirs[worst]} at {worst}, mean {apart.mean():.2f}"


def rgb(values):
    values = np.asarray(values, dtype=float)
    values = values if values.ndim == 3 else values[..., None]
    return values.repeat(3, 2) if values.shape[2] == 1 else values


def pillow(data: bytes):
    """Pillow's answer in the same form."""
    try:
        image = Image.open(io.BytesIO(data))
        image.load()
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # Pillow raises whatever its plugins raise.
        return f"{type(error).__name__}: {error}"
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(float) / 257
    if image.mode == "I":
        return np.asarray(image).astype(float) / 257
    if image.mode == "F":
        return np.asarray(image).astype(float) * 255
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        values = np.asarray(image.convert("RGBA")).astype(float)
        alpha = values[..., 3:] / 255
        return values[..., :3] * alpha + 255 * (1 - alpha)
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB")).astype(float)


if __name__ == "__main__":
    sys.exit(main())

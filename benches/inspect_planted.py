#!/usr/bin/env python3
"""Plants faults into a copy of a data set and checks that `ocelli inspect --json` finds them.

    benches/inspect_planted.py target/release/ocelli DATA [--faults copies|labels] [--seed 1] [--keep FOLDER]

DATA is a ZIP or a folder of class folders, or of split folders with class folders. What is planted where is drawn by the
seed alone, and only images that the clean set has no copies of are used. Needs Pillow.

copies   20 exact duplicates, 20 near duplicates (resized and encoded again), 10 leaks from training to test (half of them
         resized), 5 truncated files, 5 wrong extensions. Prints how many near-duplicate pairs the clean set has, too, and
         writes them as a picture with --pairs FILE, for eyes to judge.
labels   at most 1,000 images, of which 20 get a wrong label; counts how many are among the first 60 suspects.

Exit code 0 if all was found, 1 otherwise. Linux and macOS report peak memory of the program.
"""

import argparse
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw

IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff"}
EXACT, NEAR, LEAKS, CUT, RENAMED = 20, 20, 10, 5, 5
WRONG, LABELLED, FIRST, LEAST = 20, 1000, 60, 15
# Sizes of near copies as a part of the original, and JPEG qualities.
SIZES, QUALITIES = (0.5, 2.0), (60, 90)


def read(data: Path) -> dict[str, bytes]:
    """All images by their path in the data set."""
    if data.is_dir():
        files = [path for path in sorted(data.rglob("*")) if path.suffix.lower() in IMAGES]
        return {path.relative_to(data).as_posix(): path.read_bytes() for path in files}
    with zipfile.ZipFile(data) as archive:
        names = [name for name in archive.namelist() if Path(name).suffix.lower() in IMAGES]
        return {name: archive.read(name) for name in sorted(names)}


def write(files: dict[str, bytes], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def inspect(program: str, data: Path, *more: str) -> tuple[dict, float, float]:
    """The report, seconds, and the largest memory of any run so far in MiB."""
    start = time.monotonic()
    command = [program, "-q", "inspect", str(data), "--json", *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    seconds = time.monotonic() - start
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {done.returncode}")
    kib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return json.loads(done.stdout), seconds, kib / 1024


def groups(report: dict, *kinds: str) -> list[set[str]]:
    """Groups of files of some kinds of findings."""
    found: dict[tuple, set[str]] = {}
    for finding in report["findings"]:
        if finding["kind"] in kinds:
            for file in finding["files"]:
                found.setdefault((finding["kind"], file["group"]), set()).add(file["name"])
    return list(found.values())


def named(report: dict, kind: str) -> list[str]:
    return [file["name"] for finding in report["findings"] if finding["kind"] == kind for file in finding["files"]]


def encode(image: Image.Image, suffix: str, quality: int) -> bytes:
    out = io.BytesIO()
    if suffix in (".jpg", ".jpeg"):
        image.convert("RGB").save(out, "JPEG", quality=quality)
    else:
        image.save(out, "PNG")
    return out.getvalue()


def near_copy(content: bytes, draw: random.Random) -> bytes:
    """Another size, by one of three filters, saved as JPEG at another quality."""
    image = Image.open(io.BytesIO(content)).convert("RGB")
    factor = draw.uniform(*SIZES)
    size = [max(8, round(side * factor)) for side in image.size]
    filters = [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS]
    return encode(image.resize(size, draw.choice(filters)), ".jpg", draw.randint(*QUALITIES))


class Planter:
    """Files with what was planted among them."""

    def __init__(self, files: dict[str, bytes], avoid: set[str], seed: int) -> None:
        self.files, self.draw = dict(files), random.Random(seed)
        self.free = [name for name in files if name not in avoid]
        self.draw.shuffle(self.free)
        self.pairs: dict[str, list[set[str]]] = {"exact": [], "near": [], "leak": []}
        self.cut: list[str] = []
        self.renamed: list[str] = []

    def take(self, part: str = "") -> str:
        """An image that nothing was done with yet, in a split where one is named."""
        at = next(i for i, name in enumerate(self.free) if name.startswith(part))
        return self.free.pop(at)

    def add(self, what: str, name: str, folder: str, content: bytes) -> None:
        suffix = ".jpg" if content[:2] == b"\xff\xd8" else Path(name).suffix
        copy = f"{folder}/planted-{len(self.files)}{suffix}"
        self.files[copy] = content
        self.pairs[what].append({name, copy})

    def copies(self, splits: list[str]) -> None:
        for _ in range(EXACT):
            name = self.take()
            self.add("exact", name, str(Path(name).parent), self.files[name])
        for _ in range(NEAR):
            name = self.take()
            self.add("near", name, str(Path(name).parent), near_copy(self.files[name], self.draw))
        if len(splits) > 1:
            train, test = splits
            for number in range(LEAKS):
                name = self.take(f"{train}/")
                folder = str(Path(name).parent).replace(train, test, 1)
                content = self.files[name]
                self.add("leak", name, folder, content if number % 2 else near_copy(content, self.draw))
        for _ in range(CUT):
            name = self.take()
            self.files[name] = self.files[name][: len(self.files[name]) * 6 // 10]
            self.cut.append(name)
        for _ in range(RENAMED):
            name = self.take()
            content = self.files.pop(name)
            wrong = ".png" if content[:2] == b"\xff\xd8" else ".jpg"
            new = str(Path(name).with_name(f"renamed-{len(self.renamed)}{wrong}"))
            self.files[new] = content
            self.renamed.append(new)


def split_folders(files: dict[str, bytes]) -> list[str]:
    """The folders of training and test images, where there are both."""
    tops = {name.split("/")[0] for name in files}
    train = [top for top in tops if top.lower().startswith("train")]
    test = [top for top in tops if top.lower().startswith("test")]
    return [train[0], test[0]] if train and test else []


def contact_sheet(files: dict[str, bytes], pairs: list[set[str]], path: Path) -> None:
    side, columns = 96, 8
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * (2 * side + 16), max(1, rows) * (side + 20)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, pair in enumerate(pairs):
        x, y = number % columns * (2 * side + 16), number // columns * (side + 20)
        for place, name in enumerate(sorted(pair)[:2]):
            image = Image.open(io.BytesIO(files[name])).convert("RGB").resize((side, side))
            sheet.paste(image, (x + place * side, y))
        draw.text((x, y + side + 2), f"{number + 1}: {len(pair)}", fill="black")
    sheet.save(path)


class Check:
    """What was expected, what was found."""

    def __init__(self) -> None:
        self.failed = False

    def at_least(self, what: str, found: int, least: int, of: int) -> None:
        fine = found >= least
        self.failed |= not fine
        print(f"{'ok  ' if fine else 'FAIL'}  {what}: {found} of {of}" + ("" if least == of else f", {least} wanted"))


def copies(args: argparse.Namespace, folder: Path) -> bool:
    files = read(args.data)
    clean = folder / "clean.zip"
    write(files, clean)
    report, seconds, memory = inspect(args.program, clean, "--suspects", "none")
    kinds = ("exact_duplicates", "near_duplicates", "near_conflicting_labels", "conflicting_labels", "leak")
    there = groups(report, *kinds)
    exact = groups(report, "exact_duplicates", "conflicting_labels")
    near = [group for group in there if not any(group <= other for other in exact)]
    print(f"clean set: {report['images']} images, {len(there)} groups of copies, {seconds:.1f} s, {memory:.0f} MiB")
    # Each group of n images stands for n - 1 pairs that joined it.
    pairs = sum(len(group) - 1 for group in near)
    print(f"clean set: {pairs} near-duplicate pairs, {100 * pairs / max(1, len(files)):.2f} % of the images")
    if args.pairs:
        random.Random(args.seed).shuffle(near)
        contact_sheet(files, near[: args.shown], args.pairs)
        print(f"the first {min(len(near), args.shown)} of {len(near)} groups, in random order: {args.pairs}")

    avoid = set().union(*there) if there else set()
    planter = Planter(files, avoid, args.seed)
    planter.copies(split_folders(files))
    planted = folder / "planted.zip"
    write(planter.files, planted)
    more = [] if args.suspects is None else ["--suspects", args.suspects]
    report, seconds, memory = inspect(args.program, planted, *more)
    print(f"planted: {report['files']} files, {seconds:.1f} s, {memory:.0f} MiB; {report['label_search']['note']}")

    check = Check()
    for what, kinds in [
        ("exact", ["exact_duplicates"]),
        ("near", ["near_duplicates"]),
        ("leak", ["leak"]),
    ]:
        wanted = planter.pairs[what]
        found = groups(report, *kinds)
        missed = [pair for pair in wanted if not any(pair <= group for group in found)]
        hits = len(wanted) - len(missed)
        for pair in missed:
            print("      missed: " + " and ".join(sorted(pair)))
        if wanted:
            check.at_least({"exact": "exact duplicates", "near": "near duplicates", "leak": "leaks"}[what], hits, len(wanted), len(wanted))
    unreadable, renamed = named(report, "unreadable"), named(report, "wrong_extension")
    check.at_least("truncated files", sum(name in unreadable for name in planter.cut), CUT, CUT)
    check.at_least("wrong extensions", sum(name in renamed for name in planter.renamed), RENAMED, RENAMED)
    # What was planted changes nothing else: a group that the clean set did not have must be a planted one.
    new = [group for group in groups(report, *kinds_of_copies()) if not any(group & other for other in there)]
    strange = [group for group in new if not any(group <= pair for all in planter.pairs.values() for pair in all)]
    check.at_least("groups of copies that were planted", len(new) - len(strange), len(new), len(new))
    return not check.failed


def kinds_of_copies() -> tuple[str, ...]:
    return ("exact_duplicates", "near_duplicates", "near_conflicting_labels", "conflicting_labels", "leak")


def labels(args: argparse.Namespace, folder: Path) -> bool:
    files = read(args.data)
    draw = random.Random(args.seed)
    chosen = sorted(files)
    draw.shuffle(chosen)
    chosen = sorted(chosen[:LABELLED])
    classes = sorted({Path(name).parent.name for name in chosen})
    moved: list[str] = []
    wrong = set(draw.sample(chosen, WRONG))
    planted: dict[str, bytes] = {}
    for number, name in enumerate(chosen):
        own = Path(name).parent.name
        label = draw.choice([other for other in classes if other != own]) if name in wrong else own
        new = f"{label}/{number:05}{Path(name).suffix}"
        planted[new] = files[name]
        if name in wrong:
            moved.append(new)
    path = folder / "labels.zip"
    write(planted, path)
    report, seconds, memory = inspect(args.program, path, "--suspects", args.suspects or "all")
    suspects = named(report, "suspicious_labels")
    print(f"{len(planted)} images in {len(classes)} classes, {len(suspects)} suspects, {seconds:.1f} s, {memory:.0f} MiB")
    check = Check()
    hits = [sum(name in moved for name in suspects[:n]) for n in (WRONG, FIRST, len(suspects))]
    print(f"wrong labels among the first {WRONG}: {hits[0]}, among all {len(suspects)} suspects: {hits[2]}")
    check.at_least(f"wrong labels among the first {FIRST} suspects", hits[1], LEAST, WRONG)
    return not check.failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("data", type=Path)
    parser.add_argument("--faults", choices=["copies", "labels"], default="copies")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--suspects", help="passed on to inspect")
    parser.add_argument("--pairs", type=Path, help="a picture of near-duplicate pairs of the clean set")
    parser.add_argument("--shown", type=int, default=160, help="pairs in that picture")
    parser.add_argument("--keep", type=Path, help="keep what was planted in this folder")
    args = parser.parse_args()
    args.program = os.path.abspath(args.program) if os.sep in args.program else args.program
    folder = args.keep or Path(tempfile.mkdtemp(prefix="inspect-planted-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        fine = copies(args, folder) if args.faults == "copies" else labels(args, folder)
    finally:
        if args.keep is None:
            shutil.rmtree(folder)
    sys.exit(0 if fine else 1)


if __name__ == "__main__":
    main()

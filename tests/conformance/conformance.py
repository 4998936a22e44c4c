"""Starts the service on a temporary data folder and lets other people's clients loose on it.

Standard library only; the clients live in a virtual environment of their own.
"""
from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
CLIENTS = ["triton_client.py", "image_client.py"]

DESCRIPTION = """\
Checks the Open Inference Protocol with tritonclient, and every route of /openapi.json with schemathesis.
Installs both, once, into target/; without Python's package index it is skipped out loud, and
OCELLI_REQUIRE_CONFORMANCE=1 makes that a failure."""


class Skipped(Exception):
    """What cannot be had here; the reason."""


def say(text: str) -> None:
    print(f"conformance: {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, metavar="OCELLI", help="the program; built from here if left out")
    parser.add_argument("--debug", action="store_true", help="build the development profile")
    parser.add_argument("--venv", type=Path, default=TARGET / "conformance-venv", help="default: %(default)s")
    parser.add_argument("--long", action="store_true", help="at least 5,000 cases of schemathesis instead of hundreds")
    parser.add_argument("--seed", type=int, default=1, help="of schemathesis' cases; default: %(default)s")
    parser.add_argument("--only", choices=["tritonclient", "schemathesis"], help="one of the two")
    args = parser.parse_args()

    steps = [("tritonclient", check_clients), ("schemathesis", check_routes)]
    failed, skipped = [], []
    for name, step in steps:
        if args.only not in (None, name):
            continue
        try:
            if not step(args):
                failed.append(name)
        except Skipped as reason:
            say(f"{name}: SKIPPED: {reason}")
            skipped.append(name)
    if skipped and os.environ.get("OCELLI_REQUIRE_CONFORMANCE") == "1":
        failed += skipped
    if failed:
        say(f"FAILED: {', '.join(failed)}")
    return 1 if failed else 0


def check_clients(args: argparse.Namespace) -> bool:
    """Our programs around tritonclient, one after the other on one service."""
    python = environment(args.venv, HERE / "requirements.txt")
    with service(binary(args)) as url:
        codes = [subprocess.run([python, "-B", HERE / client, url], check=False).returncode for client in CLIENTS]
    return not any(codes)


def check_routes(args: argparse.Namespace) -> bool:
    """schemathesis on all that the service says it answers."""
    python = environment(args.venv, HERE / "requirements-schemathesis.txt")
    with service(binary(args)) as url, tempfile.TemporaryDirectory() as folder:
        train(url)
        document = json.loads(read(f"{url}/openapi.json"))
        operations = sum(len(verbs) for verbs in document["paths"].values())
        # Of coverage there are hundreds of cases anyway. Operations without parameters have few cases: more for the
        # others make up for them.
        examples = -(-8000 // operations) if args.long else 3
        config = Path(folder) / "schemathesis.toml"
        config.write_text(schemathesis_config(url), encoding="utf-8")
        say(f"schemathesis: {operations} operations, {examples} random cases each, besides its own of the borders")
        command = [
            python.parent / "schemathesis", "--config-file", config, "run", f"{url}/openapi.json",
            "--phases", "examples,coverage,fuzzing", "--max-examples", str(examples), "--seed", str(args.seed),
            "--continue-on-failure", "--request-timeout", "30", "--no-shrink",
        ]
        code = subprocess.run(command, cwd=folder, check=False).returncode
        # Whatever was sent, the service goes on.
        return read(f"{url}/health/ready") != b"" and code == 0


def schemathesis_config(url: str) -> str:
    """Names that exist, so that most cases get past the 404; the others are schemathesis' own."""
    model = json.loads(read(f"{url}/status"))["model"]
    page = json.loads(read(f"{url}/v1/datasets/default/images"))
    known = {
        "model": [model["name"]],
        "version": [model["version"]],
        "name": ["default"],
        # Images, and the job of `train`.
        "id": [image["id"] for image in page["images"]][:10] + ["1"] * 10,
        "file": ["start.js", "style.css"],
    }
    lines = []
    for name, values in known.items():
        lines += [f"[dictionaries.{name}]", f"values = {json.dumps(values)}", ""]
    lines.append("[parameters]")
    lines += [f'"path.{name}" = {{ dictionary = "{name}", probability = 0.8 }}' for name in known]
    return "\n".join([(HERE / "schemathesis.toml").read_text(encoding="utf-8"), *lines, ""])


def environment(venv: Path, requirements: Path) -> Path:
    """The interpreter of the clients' virtual environment, made and filled where it has to be."""
    python = venv / "bin" / "python"
    done = venv / f"{requirements.stem}.installed"
    wanted = requirements.read_text(encoding="utf-8")
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    if not python.exists():
        say(f"making a virtual environment in {venv}")
        made = subprocess.run([sys.executable, "-m", "venv", venv], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            raise Skipped("Python's venv module does not work; Debian and Ubuntu have it in python3-venv")
    say(f"installing {', '.join(line for line in wanted.split() if '=' in line)}")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    if subprocess.run(pip, stdout=sys.stderr, check=False).returncode != 0:
        raise Skipped(f"{requirements.name} could not be installed")
    done.write_text(wanted, encoding="utf-8")
    return python


def binary(args: argparse.Namespace) -> Path:
    if args.binary:
        return args.binary.resolve()
    # For the development profile as the Makefile does: with the features of the tests, so that nothing is built twice.
    profile = ["-p", "ocelli", "--test", "e2e"] if args.debug else ["--release"]
    subprocess.run([os.environ.get("CARGO", "cargo"), "build", "--locked", *profile], cwd=ROOT, check=True)
    return TARGET / ("debug" if args.debug else "release") / "ocelli"


@contextlib.contextmanager
def service(program: Path) -> Iterator[str]:
    """The service on a free port, with the data set `default`; gives its address."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+", encoding="utf-8") as log:
        command = [program, "serve", "--addr", "127.0.0.1:0", "--data-dir", Path(folder) / "data", "--drain-delay", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                if "listening on " in line:
                    url = line.split("listening on ")[1].strip()
                    upload(url)
                    yield url
            finally:
                process.terminate()
                code = process.wait(timeout=60)
        log.seek(0)
        talk = log.read().splitlines()
        problems = [line for line in talk if "ERROR" in line or "panicked" in line]
        if code != 0 or problems:
            raise SystemExit("\n".join([f"the service ended with {code}:", *(problems or talk[-5:])]))


def upload(url: str) -> None:
    """Two classes of twelve images each."""
    archive = io.BytesIO()
    chance = random.Random(7)
    with zipfile.ZipFile(archive, "w") as zipped:
        for label in ("circles", "squares"):
            for number in range(12):
                zipped.writestr(f"{label}/{number}.png", gray_png(20, 20, chance.randbytes(400)))
    headers = {"content-type": "application/zip"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/upload-data", archive.getvalue(), headers)) as answer:
        answer.read()


def train(url: str) -> None:
    """A job that has ended, with events to be looked at; what it made does not serve."""
    body = json.dumps({"epochs": 1, "gate": {"mode": "never"}}).encode()
    headers = {"content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/retrain", body, headers)) as answer:
        job = json.loads(answer.read())["id"]
    # To the end of the job: events come until then.
    read(f"{url}/v1/jobs/{job}/events")
    state = json.loads(read(f"{url}/v1/jobs/{job}"))["state"]
    if state != "kept":
        raise SystemExit(f"the job ended as {state}")


def gray_png(width: int, height: int, pixels: bytes) -> bytes:
    """A PNG of 8-bit gray (ISO/IEC 15948)."""
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + pixels[row * width:(row + 1) * width] for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def read(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


if __name__ == "__main__":
    sys.exit(main())

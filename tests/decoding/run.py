"""Makes an environment with Pillow and numpy, builds the example that decodes, and compares. Standard library only."""
from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))

DESCRIPTION = """\
Decodes some hundred variants of every image format with the product's decoder and with Pillow, and compares the pixels.
Installs Pillow and numpy, once, into target/; without Python's package index it is skipped out loud, and
OCELLI_REQUIRE_DECODE_COMPARE=1 makes that a failure."""


class Skipped(Exception):
    """What cannot be had here; the reason."""


def say(text: str) -> None:
    print(f"decode-compare: {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, metavar="DECODE", help="the example; built from here if left out")
    parser.add_argument("--python", type=Path, help="an interpreter that has Pillow and numpy")
    parser.add_argument("--venv", type=Path, default=TARGET / "decoding-venv", help="default: %(default)s")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the files there")
    parser.add_argument("--only", metavar="TEXT", help="variants whose name has this text")
    args = parser.parse_args()
    try:
        python = args.python or environment(args.venv, HERE / "requirements.txt")
    except Skipped as reason:
        say(f"SKIPPED: {reason}")
        return 1 if os.environ.get("OCELLI_REQUIRE_DECODE_COMPARE") == "1" else 0
    binary = args.binary or built()
    options = [f"--keep={args.keep}"] if args.keep else []
    options += [f"--only={args.only}"] if args.only else []
    return subprocess.run([python, "-B", HERE / "compare.py", binary, *options], check=False).returncode


def environment(venv: Path, requirements: Path) -> Path:
    """The interpreter of a virtual environment, made and filled where it has to be."""
    python, done = venv / "bin" / "python", venv / "installed"
    wanted = requirements.read_text(encoding="utf-8")
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    if not python.exists():
        say(f"making a virtual environment in {venv}")
        made = subprocess.run([sys.executable, "-m", "venv", venv], capture_output=True, check=False)
        if made.returncode != 0:
            raise Skipped("Python's venv module does not work; Debian and Ubuntu have it in python3-venv")
    say(f"installing {', '.join(line for line in wanted.split() if '=' in line)}")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", requirements]
    if subprocess.run(pip, stdout=sys.stderr, check=False).returncode != 0:
        raise Skipped(f"{requirements.name} could not be installed")
    done.write_text(wanted, encoding="utf-8")
    return python


def built() -> Path:
    cargo = os.environ.get("CARGO", "cargo")
    subprocess.run([cargo, "build", "--locked", "-p", "ocelli-datasets", "--example", "decode"], cwd=ROOT, check=True)
    return TARGET / "debug" / "examples" / "decode"


if __name__ == "__main__":
    sys.exit(main())

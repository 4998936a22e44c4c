"""Runs docs/clients.md: generates a Python and a TypeScript client of a running service, checks their types, and lets the
page's examples use them.

Standard library only; generators live in target/. What starts the service and what fills a virtual environment is that of
tests/conformance.
"""
from __future__ import annotations

import argparse
import io
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(ROOT / "tests" / "conformance"))

from conformance import TARGET, Skipped, binary, environment, gray_png, service  # noqa: E402

DESCRIPTION = """\
Generates clients with openapi-python-client and openapi-typescript, type-checks them, and runs the examples of
docs/clients.md with them. Installs both, once, into target/; without the package indexes it is skipped out loud, and
OCELLI_REQUIRE_CLIENTS=1 makes that a failure."""


def say(text: str) -> None:
    print(f"clients: {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, metavar="OCELLI", help="the program; built from here if left out")
    parser.add_argument("--debug", action="store_true", help="build the development profile")
    args = parser.parse_args()

    failed, skipped = [], []
    with service(binary(args)) as url:
        for name, step in [("python", check_python), ("typescript", check_typescript)]:
            try:
                with tempfile.TemporaryDirectory() as folder:
                    prepare(url, Path(folder))
                    step(url, Path(folder))
                say(f"{name}: the client does what docs/clients.md says")
            except Skipped as reason:
                say(f"{name}: SKIPPED: {reason}")
                skipped.append(name)
            except subprocess.CalledProcessError as error:
                say(f"{name}: {error}")
                failed.append(name)
    if os.environ.get("OCELLI_REQUIRE_CLIENTS") == "1":
        failed += skipped
    if failed:
        say(f"FAILED: {', '.join(failed)}")
    return 1 if failed else 0


def prepare(url: str, folder: Path) -> None:
    """The description, and the files that the examples send."""
    with urllib.request.urlopen(f"{url}/openapi.json") as answer:
        (folder / "openapi.json").write_bytes(answer.read())
    chance = random.Random(3)
    (folder / "photo.png").write_bytes(gray_png(20, 20, chance.randbytes(400)))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        for label in ("cats", "dogs"):
            for number in range(3):
                zipped.writestr(f"{label}/{number}.png", gray_png(20, 20, chance.randbytes(400)))
    (folder / "photos.zip").write_bytes(archive.getvalue())


def block(language: str) -> str:
    """The only block of a language in docs/clients.md."""
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    found = re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    if len(found) != 1:
        raise SystemExit(f"docs/clients.md has {len(found)} blocks of {language}, not 1")
    return found[0]


def check_python(url: str, folder: Path) -> None:
    bin_folder = environment(TARGET / "clients-venv", HERE / "requirements.txt").parent
    (folder / "clients.yaml").write_text(block("yaml"), encoding="utf-8")
    (folder / "example.py").write_text(block("python"), encoding="utf-8")
    generate = [bin_folder / "openapi-python-client", "generate", "--path", "openapi.json", "--config", "clients.yaml"]
    told = run([*generate, "--meta", "none", "--output-path", "ocelli_client"], folder, quiet=True)
    # What it may leave out is what the page says; an operation that is missing altogether is a mistake of the document.
    for warning in re.findall(r"^WARNING parsing (.*) within.*\n\n(.*)$", told, re.MULTILINE):
        if "content" not in warning[1]:
            raise SystemExit(f"openapi-python-client on {warning[0]}: {warning[1]}")
    run([bin_folder / "mypy", "--strict", "--follow-imports", "silent", "example.py"], folder)
    run([bin_folder / "mypy", "ocelli_client"], folder)
    run([bin_folder / "python", "example.py"], folder, url)


def check_typescript(url: str, folder: Path) -> None:
    if not shutil.which("node") or not shutil.which("npm"):
        raise Skipped("there is no node or no npm")
    modules = node_modules()
    (folder / "node_modules").symlink_to(modules)
    (folder / "package.json").write_text('{ "type": "module" }', encoding="utf-8")
    (folder / "generate.mjs").write_text(block("js"), encoding="utf-8")
    (folder / "example.ts").write_text(block("ts"), encoding="utf-8")
    run(["node", "generate.mjs", "openapi.json", "ocelli.d.ts"], folder)
    compiler = [modules / ".bin" / "tsc", "--strict", "--target", "es2022", "--module", "esnext"]
    run([*compiler, "--moduleResolution", "bundler", "--types", "node", "example.ts", "ocelli.d.ts"], folder)
    run(["node", "example.js"], folder, url)


def node_modules() -> Path:
    """The npm packages, installed where they have to be."""
    home = TARGET / "clients-node"
    wanted = (HERE / "package.json").read_text(encoding="utf-8")
    done = home / "installed"
    if not done.exists() or done.read_text(encoding="utf-8") != wanted:
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text(wanted, encoding="utf-8")
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(install, cwd=home, stdout=sys.stderr, check=False).returncode != 0:
            raise Skipped("the npm packages could not be installed")
        done.write_text(wanted, encoding="utf-8")
    return home / "node_modules"


def run(command: list[object], folder: Path, url: str = "", quiet: bool = False) -> str:
    """What a command says; it is shown unless it is quiet and went well."""
    words = [str(word) for word in command]
    environment = {**os.environ, "OCELLI_URL": url} if url else None
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if not quiet or done.returncode != 0:
        sys.stderr.write(done.stdout + done.stderr)
    done.check_returncode()
    return done.stdout + done.stderr


if __name__ == "__main__":
    sys.exit(main())

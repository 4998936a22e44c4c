"""The Python environment of the peers, and our own program. Standard library only."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
REQUIREMENTS = HERE / "requirements.txt"
BINARY = ROOT / "target" / "release" / "ocelli"


class Failed(Exception):
    """Something that the person at the keyboard has to change: what is wrong, and a hint."""

    def __init__(self, problem: str, hint: str = ""):
        super().__init__(problem)
        self.hint = hint


def say(text: str) -> None:
    """Talk goes to standard error; results alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


def requirements(text: str) -> list[str]:
    """The lines of a requirements file that name a package."""
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def module(requirement: str) -> str:
    """What a requirement is imported as; true of all of ours."""
    return requirement.split(">=")[0].strip().replace("-", "_")


def peers_python(venv: Path) -> Path:
    """The interpreter of the peers' virtual environment, which is made and filled if it has to be.

    A package that cannot be installed is reported: its peer is left out later, when it does not import.
    """
    python = venv / "bin" / "python"
    if not python.exists():
        _create(venv)
    wanted = requirements(REQUIREMENTS.read_text(encoding="utf-8"))
    missing = _missing(python, wanted)
    if missing:
        say(f"installing {', '.join(missing)}: gigabytes, and once only")
        _install(python, wanted, missing)
    return python


def _create(venv: Path) -> None:
    if venv.exists() and (not venv.is_dir() or any(venv.iterdir())):
        raise Failed(f"{venv} is there and is no virtual environment", "name another place with --venv DIR")
    say(f"making a virtual environment in {venv}")
    command = [sys.executable, "-m", "venv", str(venv)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise Failed(f"no virtual environment: {last_line(made.stdout + made.stderr)}",
                     "Debian and Ubuntu keep the module apart: install the package python3-venv")


def _missing(python: Path, wanted: list[str]) -> list[str]:
    names = [module(requirement) for requirement in wanted]
    code = ("from importlib.util import find_spec; import sys; "
            "print(*[name for name in sys.argv[1:] if find_spec(name) is None])")
    found = subprocess.run([str(python), "-c", code, *names], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise Failed(f"{python} does not run: {last_line(found.stderr)}",
                     f"remove {python.parent.parent}, and it is made again")
    return found.stdout.split()


def _install(python: Path, wanted: list[str], missing: list[str]) -> None:
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    # pip's talk is talk.
    if subprocess.run([*pip, "-r", str(REQUIREMENTS)], stdout=sys.stderr, check=False).returncode == 0:
        return
    # One package without a build for this machine must not take the others with it.
    for requirement in wanted:
        if module(requirement) not in missing:
            continue
        if subprocess.run([*pip, requirement], stdout=sys.stderr, check=False).returncode != 0:
            say(f"warning: {requirement} cannot be installed")


def our_binary(given: str | None) -> Path:
    """The program to measure: the one named, or this checkout's, built anew if a source is newer than it."""
    if given is not None:
        binary = Path(given).resolve()
        if not os.access(binary, os.X_OK) or binary.is_dir():
            raise Failed(f"{given} is no program", "leave --ours out, and this checkout is built")
        return binary
    # Cargo knows what is out of date.
    build = ["cargo", "build", "--release", "--locked"]
    try:
        built = subprocess.run(build, cwd=ROOT, stdout=sys.stderr, check=False).returncode == 0
    except FileNotFoundError:
        if not BINARY.exists():
            raise Failed(f"{BINARY} is missing, and there is no cargo to build it",
                         "install a Rust toolchain, or name a program with --ours BIN") from None
        say(f"warning: no cargo here: {BINARY} is measured as it is")
        return BINARY
    if not built:
        raise Failed("`cargo build --release --locked` failed", "its message is above")
    if not BINARY.exists():
        raise Failed(f"cargo built, but not to {BINARY}", "name the program with --ours BIN")
    return BINARY


def commit(binary: Path) -> str | None:
    """The commit of the checkout that a program lies in, with a word of doubt if the program may be of
    another: sources are changed, or were committed after it was built.
    """
    sources = [":/*.rs", ":/*Cargo.toml", ":/Cargo.lock"]

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(binary.parent), *words], capture_output=True, text=True,
                                  check=False)
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    head = git("rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    if git("status", "--porcelain", "--", *sources):
        return f"{head} with changes"
    committed = git("log", "-1", "--format=%ct", "--", *sources)
    return f"{head} or older" if committed and binary.stat().st_mtime < int(committed) else head


def last_line(text: str) -> str:
    """The line where tools put what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"

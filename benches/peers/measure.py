"""Ours and the peers in turn: ours, peers, ours, peers ... Standard library only; peers are processes."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from environment import HERE, last_line
from report import best, summarise
from rows import Row

# Fewest calls of a peer that count, however slow they are; ours does five.
FEWEST_STEPS = 3
# Threads of the last side spin for some milliseconds before they sleep.
REST = 0.1


class SideFailed(Exception):
    """One side cannot do a row of work; the message is one line."""


class Ours:
    """`ocelli bench`, a new process for every number."""

    def __init__(self, binary: Path, row: Row, threads: list[int], seconds: float):
        self.binary, self.row, self.seconds = binary, row, seconds
        self.settings = {"1 thread" if t == 1 else f"{t} threads": t for t in threads}

    def time(self, setting: str) -> float:
        """Median milliseconds of a step."""
        time.sleep(REST)
        return bench(self.binary, self.row, self.settings[setting], self.seconds)["median_ms"]


def bench(binary: Path, row: Row, threads: int, seconds: float) -> dict:
    """What `ocelli bench --json` says."""
    command = bench_command(binary, row, threads, seconds)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SideFailed(f"ocelli: {first_line(done.stderr)}")
    try:
        return json.loads(done.stdout)
    except ValueError:
        raise SideFailed(f"ocelli printed no JSON: {first_line(done.stdout)}") from None


def bench_command(binary: Path, row: Row, threads: int, seconds: float) -> list[str]:
    return [str(binary), "bench", "--model", row.net, "--mode", row.mode, "--batch", str(row.batch),
            "--threads", str(threads), "--seconds", str(seconds), "--json"]


def first_line(text: str) -> str:
    """The line where our program puts what is wrong; hints follow it."""
    return next((line.strip()[:300] for line in text.splitlines() if line.strip()), "it said nothing")


class Peer:
    """A worker process that holds one framework and one row of work."""

    def __init__(self, python: Path, job: dict):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [str(python), "-B", str(HERE / "worker.py"), json.dumps(job)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        try:
            ready = self.answer()
        except BaseException:
            self.close()
            raise
        self.ready = ready
        self.settings = ready.get("settings", [])

    def time(self, setting: str, seconds: float, fewest: int = FEWEST_STEPS) -> float:
        """Median milliseconds of a step."""
        request = {"setting": setting, "seconds": seconds, "fewest": fewest}
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the worker has ended, and the answer says why
        return self.answer()["median_ms"]

    def answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.log.seek(0)
            said = last_line(self.log.read().decode("utf-8", "replace"))
            raise SideFailed(f"killed by signal {-code}" if code < 0 else f"ended with {code}: {said}")
        answer = json.loads(line)
        if "error" in answer:
            raise SideFailed(answer["error"])
        return answer

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.log):
            try:
                file.close()
            except BrokenPipeError:
                pass


def ask(python: Path, job: dict) -> dict:
    """The one answer of a job that has no more."""
    peer = Peer(python, job)
    peer.close()
    return peer.ready


def check_parameters(net: str, ours: int, theirs: int) -> None:
    """Refuses to time two networks that are not the same work."""
    if ours != theirs:
        raise SideFailed(f"not the same work: {net} has {ours:,} parameters in Ocelli, {theirs:,} in PyTorch")


def take_turns(row: dict, ours, peers: dict, rounds: int, seconds: float, after_round) -> None:
    """Fills `row["rounds"]` with the medians of every setting, in milliseconds, and `row["summary"]`.

    A peer that fails is left out from there on, with the reason in `row["left_out"]`. `after_round` is called
    when a round is in the row. Raises SideFailed when ours fails or nothing is left to compare.
    """
    peers = dict(peers)
    for _ in range(rounds):
        own = {setting: ours.time(setting) for setting in ours.settings}
        theirs = {}
        for name, peer in list(peers.items()):
            try:
                theirs[name] = {setting: peer.time(setting, seconds) for setting in peer.settings}
            except SideFailed as failure:
                row["left_out"][name] = str(failure)
                del peers[name]
        if not theirs:
            raise SideFailed("; ".join(f"{name}: {why}" for name, why in row["left_out"].items()))
        row["rounds"].append({"ours": own, "peers": theirs})
        row["summary"] = summarise(row["rounds"])
        after_round(row)


def round_line(turn: dict) -> str:
    """ours 15.3 ms (2 threads), PyTorch 33.0 ms (NHWC, 2 threads): 2.16"""
    own, _, own_setting = best({"": turn["ours"]})
    peer, name, setting = best(turn["peers"])
    return f"ours {own:.4g} ms ({own_setting}), {name} {peer:.4g} ms ({setting}): {peer / own:.2f}"


def peak_memory(command: list[str]) -> tuple[int, dict]:
    """The largest resident memory of a process in bytes, and the last JSON object that it printed.

    The parent has to be small: a child's peak starts from its parent's size, as the kernel counts.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=out, stderr=log, stdin=subprocess.DEVNULL)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (out, log):
            file.seek(0)
        said, complaint = out.read().decode("utf-8", "replace"), log.read().decode("utf-8", "replace")
    lines = said.strip().splitlines()
    answer = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    if process.returncode != 0:
        raise SideFailed(answer.get("error") or last_line(complaint))
    return usage.ru_maxrss * rss_unit(), answer


def rss_unit() -> int:
    """Bytes in the unit of `ru_maxrss`."""
    return 1 if sys.platform == "darwin" else 1024


def memory_of_training(python: Path, binary: Path, row: Row, threads: int) -> dict:
    """Peak resident memory of a few training steps in MiB, ours and PyTorch's, programs included."""
    mib = 2.0**20
    own, _ = peak_memory(bench_command(binary, row, threads, 2))
    peers = []
    for layout in ("NCHW", "NHWC"):
        job = {**row._asdict(), "do": "memory", "layout": layout, "threads": threads, "steps": 3}
        peak, answer = peak_memory([str(python), "-B", str(HERE / "worker.py"), json.dumps(job)])
        imported = answer["imported"] * rss_unit() / mib
        peers.append({"peer": "PyTorch", "setting": layout, "peak_mib": round(peak / mib, 1),
                      "imported_mib": round(imported, 1)})
    least = min(peer["peak_mib"] for peer in peers)
    own_mib = own / mib
    return {**row._asdict(), "threads": threads, "ours_mib": round(own_mib, 1), "peers": peers,
            "ratio": round(least / own_mib, 3)}

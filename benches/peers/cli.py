#!/usr/bin/env python3
"""Times Ocelli beside PyTorch (training), ONNX Runtime and OpenVINO (inference), on the same work, in turn,
and writes the README's table, a chart and a record of every number.

Every side gets its best setting: one thread and all, for PyTorch both memory layouts. A round's ratio is the
median time of the best peer over our median time, so above 1 Ocelli is faster; what is quoted is the median
of the rounds. Nothing is timed before both sides have the same number of parameters and the runtimes give
PyTorch's outputs.
"""
from __future__ import annotations

import argparse
import datetime
import os
import signal
import sys
import tempfile
from pathlib import Path

import chart
import environment
import machine
import measure
import report
from environment import ROOT, Failed, say
from measure import SideFailed
from rows import MEMORY_ROW, PEERS, ROWS, Row, choose

OLDEST_PYTHON = (3, 10)
FAILED, INTERRUPTED = 1, 130
QUICK = {"rounds": 1, "seconds": 0.3}
USUAL = {"rounds": 5, "seconds": 2.0}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benches/peers/run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="A whole run takes most of an hour on two cores. Only a whole run writes to benches/record\n"
               "and the README; others go to target/peers/latest.json. Ctrl-C leaves what was measured.")
    parser.add_argument("--ours", metavar="BIN",
                        help="the program to measure (default: target/release/ocelli, built if need be)")
    parser.add_argument("--rounds", type=positive(int), metavar="N", help=f"default: {USUAL['rounds']}")
    parser.add_argument("--seconds", type=positive(float), metavar="S",
                        help=f"about how long to time one setting in one round; slow steps run at least "
                             f"{measure.FEWEST_STEPS} times (default: {USUAL['seconds']:g})")
    parser.add_argument("--only", choices=list(PEERS), help="training or inference alone")
    parser.add_argument("--nets", metavar="A,B", help="these networks alone: " + ", ".join(
        dict.fromkeys(row.net for row in ROWS)))
    parser.add_argument("--quick", action="store_true",
                        help="see that everything works: one short round with all threads, no README")
    parser.add_argument("--torch-inference", action="store_true", help="PyTorch takes part in inference too")
    parser.add_argument("--fused-adam", action="store_true", help="PyTorch trains with its fused Adam too")
    parser.add_argument("--venv", type=Path, metavar="DIR", default=environment.HERE / ".venv",
                        help="the peers' Python environment, made if missing (default: benches/peers/.venv)")
    parser.add_argument("--no-readme", action="store_true", help="leave the README as it is")
    parser.add_argument("--output", type=Path, metavar="FILE.json",
                        help="the record (default: benches/record/DATE-MACHINE-peers.json); chart beside it")
    parser.add_argument("--from-record", type=Path, metavar="FILE.json",
                        help="measure nothing: write chart and README of an earlier record")
    args = parser.parse_args(words)
    if args.output is not None and args.output.suffix != ".json":
        parser.error("--output has to end in .json: the chart takes the same name with .svg")
    nets = args.nets.split(",") if args.nets else None
    try:
        args.rows = choose(args.only, nets)
    except ValueError as error:
        parser.error(str(error))
    for name, value in (QUICK if args.quick else USUAL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    return args


def positive(kind):
    def parse(text: str):
        value = kind(text)
        if not 0 < value < 86_400:
            raise ValueError
        return value

    parse.__name__ = "number above zero"
    return parse


class Run:
    """One comparison: what is asked for, what has been found out, and the record so far."""

    def __init__(self, args: argparse.Namespace):
        self.args = args
        # What a README may quote: every row, measured for long enough.
        self.whole = args.rows == list(ROWS) and not args.quick
        self.readme = None if args.no_readme or not self.whole else ROOT / "README.md"
        if self.readme:
            # An hour later would be too late to find out.
            check_readme(self.readme)
        self.binary = environment.our_binary(args.ours)
        about = self.our_facts()
        self.python = environment.peers_python(args.venv)
        facts = machine.describe()
        counts = machine.thread_counts(about["threads"], facts["physical_cores"])
        self.threads = counts[-1:] if args.quick else counts
        versions, left_out = self.peer_versions()
        date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        self.record = {
            "schema": report.SCHEMA, "type": "peers", "date": date, "complete": False, "quick": args.quick,
            "machine": facts,
            "ours": {"version": about["version"], "commit": environment.commit(self.binary),
                     "isa": about["isa"]},
            "peers": versions, "left_out": left_out,
            "settings": {"rounds": args.rounds, "seconds": args.seconds, "fewest_steps": measure.FEWEST_STEPS,
                         "threads": self.threads, "torch_inference": args.torch_inference,
                         "fused_adam": args.fused_adam},
            "rows": [], "memory": None,
        }
        self.path = args.output or self.usual_path(machine.slug(facts, about["isa"]))
        if facts["load"] > 0.5 * facts["cores"]:
            say(f"warning: the machine is busy (load {facts['load']}): expect wide spreads")

    def our_facts(self) -> dict:
        """Version, instruction set and usable threads of our program."""
        row = Row("infer", self.args.rows[0].net, 1)
        try:
            about = measure.bench(self.binary, row, 0, 0)
        except (SideFailed, OSError) as failure:
            hint = "build it: cargo build --release"
            raise Failed(f"{self.binary} does not run: {failure}", hint) from None
        if about["debug_build"]:
            raise Failed(f"{self.binary} is a debug build: its times mean nothing", "cargo build --release")
        return about

    def peer_versions(self) -> tuple[dict, dict]:
        """Versions of the peers that import, and why the others do not."""
        versions, left_out = {}, {}
        for name in dict.fromkeys(name for names in PEERS.values() for name in names):
            try:
                versions[name] = measure.ask(self.python, {"do": "version", "peer": name})["version"]
            except SideFailed as failure:
                left_out[name] = str(failure)
                say(f"warning: {name} is left out: {failure}")
        if "PyTorch" not in versions:
            raise Failed("PyTorch does not import, and it makes the networks of all peers",
                         f"`{self.python} -c 'import torch, torchvision'` says why")
        return versions, left_out

    def usual_path(self, slug: str) -> Path:
        if not self.whole:
            return ROOT / "target" / "peers" / "latest.json"
        return report.record_path(ROOT / "benches" / "record", self.record["date"], slug)

    def save(self) -> None:
        report.write(self.path, report.to_json(self.record))

    def measure(self) -> None:
        """All rows, then the memory; what fails is in the record, and the rest goes on."""
        self.save()
        for number, row in enumerate(self.args.rows, 1):
            entry = {**row._asdict(), "parameters": None, "rounds": [], "left_out": {}}
            self.record["rows"].append(entry)
            say(f"[{number}/{len(self.args.rows)}] {row.title}")
            try:
                self.measure_row(row, entry)
            except SideFailed as failure:
                entry["error"] = str(failure)
                say(f"error: {row.title}: {failure}")
            for name, why in entry["left_out"].items():
                say(f"warning: {name} is left out of this row: {why}")
            self.save()
        if MEMORY_ROW in self.args.rows:
            say(f"peak memory, {MEMORY_ROW.title}")
            try:
                self.record["memory"] = measure.memory_of_training(
                    self.python, self.binary, MEMORY_ROW, self.threads[-1])
            except SideFailed as failure:
                self.record["memory_error"] = str(failure)
                say(f"error: peak memory: {failure}")
        self.record["complete"] = not self.failures()
        self.save()

    def measure_row(self, row: Row, entry: dict) -> None:
        args = self.args
        parameters = measure.bench(self.binary, Row("infer", row.net, 1), 1, 0)["parameters"]
        entry["parameters"] = parameters
        names = [name for name in PEERS[row.mode] if name in self.record["peers"]]
        if row.mode == "infer" and args.torch_inference:
            names.append("PyTorch")
        with tempfile.TemporaryDirectory(prefix="ocelli-peers-") as folder:
            job = {**row._asdict(), "threads": self.threads, "fused": args.fused_adam,
                   "stem": os.path.join(folder, row.net)}
            if row.mode == "infer":
                theirs = measure.ask(self.python, {**job, "do": "export"})["parameters"]
                measure.check_parameters(row.net, parameters, theirs)
            peers: dict = {}
            try:
                for name in names:
                    try:
                        peers[name] = measure.Peer(self.python, {**job, "do": "serve", "peer": name})
                    except SideFailed as failure:
                        entry["left_out"][name] = str(failure)
                for peer in peers.values():
                    if peer.ready["parameters"] is not None:
                        measure.check_parameters(row.net, parameters, peer.ready["parameters"])
                ours = measure.Ours(self.binary, row, self.threads, args.seconds)
                measure.take_turns(entry, ours, peers, args.rounds, args.seconds, self.after_round)
            finally:
                for peer in peers.values():
                    peer.close()

    def after_round(self, entry: dict) -> None:
        say(f"  round {len(entry['rounds'])}/{self.args.rounds}: {measure.round_line(entry['rounds'][-1])}")
        self.save()

    def failures(self) -> list[str]:
        """Rows and measurements that are not what they should be."""
        failed = [report.row_title(row) for row in self.record["rows"] if "error" in row]
        return failed + (["peak memory"] if "memory_error" in self.record else [])


def check_readme(readme: Path) -> None:
    try:
        report.insert(readme.read_text(encoding="utf-8"), "")
    except (OSError, ValueError) as error:
        raise Failed(f"{readme} cannot take the table: {error}", "--no-readme measures without it") from None


def publish(record: dict, path: Path, readme: Path | None) -> None:
    """Chart beside the record, table on standard output, and the README if it is to be written."""
    print(report.table(record))
    print(f"\n{report.conditions(record)}")
    picture = path.with_suffix(".svg")
    report.write(picture, chart.draw(record))
    say(f"record {path}\nchart  {picture}")
    if readme:
        links = [Path(os.path.relpath(file, readme.parent)).as_posix() for file in (picture, path)]
        text = report.insert(readme.read_text(encoding="utf-8"), report.section(record, *links))
        report.write(readme, text)
        say(f"table  {readme}")


def from_record(args: argparse.Namespace) -> int:
    try:
        record = report.read(args.from_record)
    except (OSError, ValueError) as error:
        raise Failed(f"{args.from_record} is no record: {error}") from None
    readme = None if args.no_readme else ROOT / "README.md"
    if readme:
        rows = [Row(row["mode"], row["net"], row["batch"]) for row in record["rows"]]
        if record["quick"] or not record["complete"] or rows != list(ROWS):
            raise Failed(f"{args.from_record} is not of a whole run", "--no-readme shows what is in it")
        check_readme(readme)
    publish(record, args.from_record, readme)
    return 0


def compare(args: argparse.Namespace) -> int:
    run = Run(args)
    try:
        run.measure()
    except KeyboardInterrupt:
        run.save()
        say(f"interrupted: what was measured is in {run.path}")
        return INTERRUPTED
    failed = run.failures()
    if failed and run.readme:
        say("the README stays as it is: not every row was measured")
    publish(run.record, run.path, None if failed else run.readme)
    if failed:
        say(f"error: failed: {'; '.join(failed)}")
    return FAILED if failed else 0


def main() -> int:
    if sys.version_info < OLDEST_PYTHON:
        say("error: Python %d.%d or later is needed, this is %s" % (*OLDEST_PYTHON, sys.version.split()[0]))
        return FAILED
    # The default handler would end this process and leave the workers.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    args = arguments()
    try:
        return from_record(args) if args.from_record else compare(args)
    except Failed as failure:
        say(f"error: {failure}")
        if failure.hint:
            say(f"hint: {failure.hint}")
        return FAILED
    except KeyboardInterrupt:
        say("interrupted: nothing was measured")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())

"""Statistics, README, chart and the course of a run, without any peer: make peers-check"""
from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import chart
import cli
import environment
import machine
import measure
import report
import rows

CPUINFO = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
physical id\t: 0
core id\t\t: 0
flags\t\t: fpu avx fma avx2 avx512f hypervisor

processor\t: 1
physical id\t: 0
core id\t\t: 0

processor\t: 2
physical id\t: 0
core id\t\t: 1
"""
MACHINE = {"cpu": "AMD EPYC", "cores": 2, "physical_cores": 2, "virtual": True, "avx2": True, "avx512": False,
           "flags": ["avx2"], "memory_gib": 23.5, "system": "Linux x86_64", "load": 0.0}


def turn(ours: dict, **peers: dict) -> dict:
    return {"ours": ours, "peers": peers}


def a_record(rounds: list[dict], mode: str = "train", **more) -> dict:
    row = {"mode": mode, "net": "resnet9", "batch": 128, "parameters": 6_573_130, "rounds": rounds,
           "left_out": {}, "summary": report.summarise(rounds)}
    ours = {"version": "0.1.0", "commit": "0123abc", "isa": "avx2"}
    return {"schema": report.SCHEMA, "type": "peers", "date": "2026-11-25", "complete": True, "quick": False,
            "machine": MACHINE, "ours": ours, "peers": {"PyTorch": "2.15.0"}, "left_out": {},
            "settings": {"rounds": len(rounds)}, "rows": [row], "memory": None, **more}


ROUNDS = [
    turn({"1 thread": 20.0, "2 threads": 10.0}, PyTorch={"NCHW, 1 thread": 40.0, "NHWC, 2 threads": 30.0}),
    turn({"1 thread": 16.0, "2 threads": 20.0}, PyTorch={"NCHW, 1 thread": 32.0, "NHWC, 2 threads": 50.0}),
    turn({"1 thread": 20.0, "2 threads": 10.0}, PyTorch={"NCHW, 1 thread": 40.0, "NHWC, 2 threads": 8.0}),
]


class Statistics(unittest.TestCase):
    def test_a_round_compares_the_best_settings_and_the_median_round_counts(self):
        got = report.summarise(ROUNDS)
        self.assertEqual((got["ratio"], got["ratio_min"], got["ratio_max"]), (2.0, 0.8, 3.0))
        self.assertEqual((got["ours_ms"], got["ours_setting"]), (10.0, "2 threads"))
        self.assertEqual((got["best_peer_ms"], got["best_peer"], got["best_peer_setting"]),
                         (30.0, "PyTorch", "NHWC, 2 threads"))

    def test_the_best_peer_is_the_least_over_all_of_them(self):
        sides = {"ONNX Runtime": {"1 thread": 5.0}, "OpenVINO": {"1 thread": 4.5, "2 threads": 6.0}}
        self.assertEqual(report.best(sides), (4.5, "OpenVINO", "1 thread"))

    def test_figures_for_people(self):
        shown = [report.duration(ms) for ms in (0.0767, 0.5, 3.14159, 15.34, 999.0, 2711.0)]
        self.assertEqual(shown, ["0.077 ms", "0.50 ms", "3.14 ms", "15.3 ms", "999 ms", "2.71 s"])
        self.assertEqual([report.ratio(v) for v in (0.984, 2.1, 12.34)], ["0.98", "2.10", "12.3"])
        self.assertEqual([report.size(v) for v in (323.4, 2048.0)], ["323 MiB", "2.00 GiB"])


class Readme(unittest.TestCase):
    def test_only_the_text_between_the_markers_changes(self):
        readme = f"# A\n\n{report.BEGIN}\nold\n{report.END}\n\n| other | rows |\n"
        once = report.insert(readme, "new\n")
        self.assertEqual(once, f"# A\n\n{report.BEGIN}\nnew\n{report.END}\n\n| other | rows |\n")
        self.assertEqual(report.insert(once, "new"), once)

    def test_markers_that_are_missing_doubled_or_swapped_are_an_error(self):
        for readme in ("", report.BEGIN, report.BEGIN * 2 + report.END, report.END + report.BEGIN):
            with self.subTest(readme=readme), self.assertRaises(ValueError):
                report.insert(readme, "new")

    def test_the_projects_readme_has_them(self):
        cli.check_readme(environment.ROOT / "README.md")

    def test_table_and_conditions_say_who_where_and_how_wide(self):
        memory = {"mode": "train", "net": "resnet18", "batch": 16, "ours_mib": 1100.0, "ratio": 2.5}
        memory["peers"] = [
            {"peer": "PyTorch", "setting": "NCHW", "peak_mib": 2750.0, "imported_mib": 500.0},
            {"peer": "PyTorch", "setting": "NHWC", "peak_mib": 3000.0, "imported_mib": 500.0}]
        record = a_record(ROUNDS, memory=memory, left_out={"OpenVINO": "ImportError: no"})
        text = report.section(record, "a.svg", "a.json")
        for part in (
            "| training step, resnet9, batch 128 | 10.0 ms | 30.0 ms, PyTorch (NHWC, 2 threads) ",
            "| **2.00** (0.80 to 3.00) |",
            "| peak memory, training step, resnet18, batch 16 | 1.07 GiB | 2.69 GiB, PyTorch (NCHW; ",
            "importing it takes 500 MiB) | **2.50** |",
            "AMD EPYC, 2 virtual cores, AVX2 (no AVX-512), 23.5 GiB of memory", "2026-11-25, 3 rounds",
            "Ocelli 0.1.0 (commit 0123abc, avx2), PyTorch 2.15.0", "Left out: OpenVINO (ImportError: no)",
            "(a.svg)", "(a.json)",
        ):
            self.assertIn(part, text)

    def test_a_row_that_failed_is_not_in_the_table(self):
        record = a_record(ROUNDS)
        record["rows"].append({"mode": "infer", "net": "resnet9", "batch": 1, "rounds": [], "error": "gone"})
        self.assertNotIn("inference", report.table(record))
        ElementTree.fromstring(chart.draw(record))


class Record(unittest.TestCase):
    def test_a_finished_record_is_never_replaced(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            first = report.record_path(folder, "2026-11-25", "amd-epyc-2c-avx2")
            self.assertEqual(first.name, "2026-11-25-amd-epyc-2c-avx2-peers.json")
            report.write(first, json.dumps({"complete": False}))
            self.assertEqual(report.record_path(folder, "2026-11-25", "amd-epyc-2c-avx2"), first)
            report.write(first, json.dumps({"complete": True}))
            second = report.record_path(folder, "2026-11-25", "amd-epyc-2c-avx2")
            self.assertEqual(second.name, "2026-11-25-amd-epyc-2c-avx2-peers-2.json")
            report.write(second, "not JSON")
            self.assertIn("peers-3", report.record_path(folder, "2026-11-25", "amd-epyc-2c-avx2").name)

    def test_what_is_written_can_be_read_and_nothing_is_left_beside_it(self):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "deep", "a.json")
            record = a_record(ROUNDS)
            report.write(path, report.to_json(record))
            self.assertEqual(report.read(path), record)
            self.assertEqual([entry.name for entry in path.parent.iterdir()], ["a.json"])
            report.write(path, "{}")
            with self.assertRaises(ValueError):
                report.read(path)

    def test_every_record_that_is_kept_can_be_drawn(self):
        for path in sorted((environment.ROOT / "benches" / "record").glob("*-peers*.json")):
            with self.subTest(path=path.name):
                record = report.read(path)
                ElementTree.fromstring(chart.draw(record))
                self.assertTrue(report.table(record))


class Chart(unittest.TestCase):
    def numbers(self, svg: str, kind: str, name: str) -> list[float]:
        tree = ElementTree.fromstring(svg)
        return [float(e.get(name)) for e in tree.iter() if e.get("class") == kind]

    def test_bars_end_where_their_ratio_stands_and_slower_rows_stand_out(self):
        svg = chart.draw(a_record(ROUNDS))
        par, = self.numbers(svg, "par", "x1")
        width, = self.numbers(svg, "faster", "width")
        self.assertAlmostEqual(width, 2.0 * (par - chart.LEFT), delta=0.2)
        slow = chart.draw(a_record([turn({"1 thread": 10.0}, PyTorch={"NCHW, 1 thread": 9.0})], mode="infer"))
        self.assertEqual(len(self.numbers(slow, "slower", "width")), 1)

    def test_ratios_of_any_size_stay_inside(self):
        for ms in (1e-3, 0.5, 1.0, 7.99, 8.0, 64.0, 5e5):
            with self.subTest(ms=ms):
                svg = chart.draw(a_record([turn({"1 thread": 1.0}, PyTorch={"NCHW, 1 thread": ms})]))
                at, = self.numbers(svg, "value", "x")
                self.assertLess(at, chart.WIDTH - chart.RIGHT)
                self.assertLess(svg.count('class="grid"'), 12)

    def test_hostile_names_stay_text(self):
        record = a_record(ROUNDS)
        record["rows"][0]["net"] = '</text><script>&"'
        record["rows"][0]["summary"]["best_peer"] = "<b>"
        tags = {element.tag.rsplit("}")[-1] for element in ElementTree.fromstring(chart.draw(record)).iter()}
        self.assertEqual(tags, {"svg", "title", "style", "text", "line", "rect"})

    def test_nothing_measured_is_a_chart_too(self):
        ElementTree.fromstring(chart.draw({"rows": []}))


class Machine(unittest.TestCase):
    def test_cpuinfo_is_read(self):
        self.assertEqual(machine._cpu_name(CPUINFO), "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz")
        self.assertIn("avx512f", machine._flags(CPUINFO))
        self.assertEqual(machine.physical_cores(CPUINFO), 2)
        self.assertIsNone(machine.physical_cores(""))

    def test_names_and_threads(self):
        xeon = {**MACHINE, "cpu": machine._cpu_name(CPUINFO), "cores": 4}
        self.assertEqual(machine.slug(xeon, "avx512"), "intel-xeon-platinum-8481c-4c-avx512")
        epyc = {**MACHINE, "cpu": "AMD EPYC 7B13 64-Core Processor"}
        self.assertEqual(machine.slug(epyc, "avx2"), "amd-epyc-7b13-2c-avx2")
        self.assertEqual(machine.thread_counts(1, 1), [1])
        self.assertEqual(machine.thread_counts(2, 2), [1, 2])
        self.assertEqual(machine.thread_counts(16, 8), [1, 8, 16])
        self.assertEqual(machine.thread_counts(2, 64), [1, 2])

    def test_this_machine_can_be_described(self):
        self.assertTrue(machine.sentence(machine.describe()))


class FakeSide:
    """A side whose times are given; an exception among them is raised."""

    def __init__(self, *times):
        self.settings, self.times = ["1 thread"], list(times)

    def time(self, *_):
        value = self.times.pop(0)
        if isinstance(value, BaseException):
            raise value
        return value


class Course(unittest.TestCase):
    def turns(self, ours: FakeSide, rounds: int, **peers: FakeSide) -> tuple[dict, list[int]]:
        row, seen = {"rounds": [], "left_out": {}}, []
        self.row = row
        measure.take_turns(row, ours, peers, rounds, 1.0, lambda r: seen.append(len(r["rounds"])))
        return row, seen

    def test_a_peer_that_fails_is_left_out_and_the_others_go_on(self):
        failing, other = FakeSide(2, measure.SideFailed("crash")), FakeSide(3, 3, 3)
        row, seen = self.turns(FakeSide(1, 1, 1), 3, a=failing, b=other)
        self.assertEqual(seen, [1, 2, 3])
        self.assertEqual(row["left_out"], {"a": "crash"})
        self.assertEqual(row["summary"]["ratio"], 3.0)

    def test_nothing_left_to_compare_is_a_failure_that_says_why(self):
        with self.assertRaisesRegex(measure.SideFailed, "a: crash"):
            self.turns(FakeSide(1, 1), 2, a=FakeSide(measure.SideFailed("crash")))

    def test_an_interrupt_leaves_the_rounds_that_are_done(self):
        with self.assertRaises(KeyboardInterrupt):
            self.turns(FakeSide(1, 1), 2, a=FakeSide(2, KeyboardInterrupt()))
        self.assertEqual(len(self.row["rounds"]), 1)

    def test_other_work_is_refused(self):
        measure.check_parameters("resnet9", 10, 10)
        with self.assertRaisesRegex(measure.SideFailed, "not the same work: resnet9 has 10 .* 11"):
            measure.check_parameters("resnet9", 10, 11)

    def test_peak_memory_is_the_childs(self):
        code = "x = bytearray(64 << 20); print('{\"a\": 1}')"
        peak, answer = measure.peak_memory([sys.executable, "-c", code])
        self.assertGreater(peak, 64 << 20)
        self.assertEqual(answer, {"a": 1})
        with self.assertRaisesRegex(measure.SideFailed, "too bad"):
            measure.peak_memory([sys.executable, "-c", "raise SystemExit('too bad')"])


class CommandLine(unittest.TestCase):
    def refuse(self, *words: str) -> str:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit) as ended:
            cli.arguments(list(words))
        self.assertEqual(ended.exception.code, 2)
        return said.getvalue()

    def test_rows_are_chosen(self):
        self.assertEqual(cli.arguments([]).rows, list(rows.ROWS))
        self.assertTrue(all(row.mode == "infer" for row in cli.arguments(["--only", "infer"]).rows))
        self.assertEqual([row.batch for row in cli.arguments(["--nets", "resnet18"]).rows], [16, 1, 32])
        self.assertIn(rows.MEMORY_ROW, rows.ROWS)

    def test_quick_changes_defaults_alone(self):
        args = cli.arguments(["--quick", "--rounds", "2"])
        self.assertEqual((args.rounds, args.seconds), (2, cli.QUICK["seconds"]))

    def test_wrong_words_are_named(self):
        self.assertIn("unknown network `vgg`", self.refuse("--nets", "vgg"))
        self.assertIn("no row", self.refuse("--only", "train", "--nets", "efficientnet-lite0"))
        self.assertIn("number above zero", self.refuse("--rounds", "0"))
        self.assertIn(".json", self.refuse("--output", "a.txt"))

    def test_a_missing_program_is_one_line_and_a_hint(self):
        said = io.StringIO()
        words = mock.patch.object(sys, "argv", ["run", "--ours", "/no/such/program", "--no-readme"])
        with contextlib.redirect_stderr(said), words, mock.patch("signal.signal"):
            self.assertEqual(cli.main(), 1)
        self.assertRegex(said.getvalue(), r"^error: /no/such/program is no program\nhint: ")

    def test_an_earlier_record_makes_table_and_chart(self):
        with tempfile.TemporaryDirectory() as name:
            path = Path(name, "a.json")
            report.write(path, report.to_json(a_record(ROUNDS)))
            args, out = cli.arguments(["--from-record", str(path), "--no-readme"]), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                self.assertEqual(cli.from_record(args), 0)
            self.assertIn("**2.00**", out.getvalue())
            self.assertTrue(path.with_suffix(".svg").exists())
            with self.assertRaisesRegex(environment.Failed, "not of a whole run"):
                cli.from_record(cli.arguments(["--from-record", str(path)]))


class Environment(unittest.TestCase):
    def test_requirements_name_what_is_imported(self):
        wanted = environment.requirements(environment.REQUIREMENTS.read_text(encoding="utf-8"))
        self.assertEqual([environment.module(line) for line in wanted], [
            "numpy", "torch", "torchvision", "onnx", "onnxruntime", "openvino", "efficientnet_lite_pytorch"])

    def test_a_folder_that_is_no_environment_is_left_alone(self):
        with tempfile.TemporaryDirectory() as name:
            Path(name, "photo.jpg").touch()
            with self.assertRaisesRegex(environment.Failed, "no virtual environment"):
                environment.peers_python(Path(name))
            self.assertEqual(len(list(Path(name).iterdir())), 1)

    @unittest.skipUnless(shutil.which("bash"), "the launcher is a bash script")
    def test_the_launcher_says_that_python_is_missing(self):
        with tempfile.TemporaryDirectory() as empty:
            command = [shutil.which("bash"), str(HERE / "run")]
            done = subprocess.run(command, env={"PATH": empty}, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertTrue(done.stderr.startswith("error: python3 is not on the PATH\nhint: "), done.stderr)


if __name__ == "__main__":
    unittest.main()

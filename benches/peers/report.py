"""From medians to what people read: statistics, the record, the README's table. Standard library only."""
from __future__ import annotations

import json
import math
import os
import statistics
import tempfile
from pathlib import Path

import machine
from rows import MODE_TITLES

SCHEMA = 1
BEGIN, END = "<!-- peers:begin -->", "<!-- peers:end -->"


def best(sides: dict) -> tuple[float, str, str]:
    """The least of the medians `{side: {setting: ms}}`, with its side and setting."""
    return min((ms, side, setting) for side, settings in sides.items() for setting, ms in settings.items())


def summarise(rounds: list[dict]) -> dict:
    """What is quoted of a row's rounds `{"ours": {setting: ms}, "peers": {peer: {setting: ms}}}`.

    A round's ratio is its best peer's median over our best median: above 1, ours is faster. The median of the
    ratios counts, and not the ratio of medians: a neighbour that slows the machine down slows both sides.
    """
    ours = [best({"": turn["ours"]}) for turn in rounds]
    peers = [best(turn["peers"]) for turn in rounds]
    ratios = [peer[0] / own[0] for peer, own in zip(peers, ours)]
    name, setting = statistics.mode((peer[1], peer[2]) for peer in peers)
    return {
        "ratio": significant(statistics.median(ratios)),
        "ratio_min": significant(min(ratios)),
        "ratio_max": significant(max(ratios)),
        "ours_ms": significant(statistics.median(own[0] for own in ours)),
        "ours_setting": statistics.mode(own[2] for own in ours),
        "best_peer_ms": significant(statistics.median(peer[0] for peer in peers)),
        "best_peer": name,
        "best_peer_setting": setting,
    }


def significant(value: float, digits: int = 4) -> float:
    """A number without the digits that noise has written."""
    return float(f"{value:.{digits}g}")


def duration(ms: float) -> str:
    """0.077 ms, 15.3 ms, 2.71 s"""
    value, unit = (ms / 1e3, "s") if ms >= 1e3 else (ms, "ms")
    digits = 2 if ms < 1 else 3
    decimals = max(0, digits - 1 - math.floor(math.log10(value)))
    return f"{value:.{decimals}f} {unit}"


def size(mib: float) -> str:
    return f"{mib / 1024:.2f} GiB" if mib >= 1024 else f"{mib:.0f} MiB"


def ratio(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def row_title(row: dict) -> str:
    return f"{MODE_TITLES[row['mode']]}, {row['net']}, batch {row['batch']}"


def table(record: dict) -> str:
    """The Markdown table of a record's rows that have been measured."""
    lines = ["| Work | Ocelli | Best peer | Ratio (least to most) |", "|---|---|---|---|"]
    for row in record["rows"]:
        got = row.get("summary")
        if got is None:
            continue
        peer = f"{duration(got['best_peer_ms'])}, {got['best_peer']} ({got['best_peer_setting']})"
        spread = f"{ratio(got['ratio_min'])} to {ratio(got['ratio_max'])}"
        cells = [row_title(row), duration(got["ours_ms"]), peer, f"**{ratio(got['ratio'])}** ({spread})"]
        lines.append(f"| {' | '.join(cells)} |")
    memory = record.get("memory")
    if memory:
        least = min(memory["peers"], key=lambda peer: peer["peak_mib"])
        peer = (f"{size(least['peak_mib'])}, {least['peer']} ({least['setting']}; importing it takes "
                f"{size(least['imported_mib'])})")
        work = f"peak memory, {row_title(memory)}"
        cells = [work, size(memory["ours_mib"]), peer, f"**{ratio(memory['ratio'])}**"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def conditions(record: dict) -> str:
    """One paragraph: the machine, the date, who took part and in which version."""
    ours, rounds = record["ours"], record["settings"]["rounds"]
    took_part = ", ".join(f"{name} {version}" for name, version in record["peers"].items())
    at = f"commit {ours['commit']}, " if ours["commit"] else ""
    text = (f"Measured on {machine.sentence(record['machine'])}, {record['date']}, {rounds} "
            f"round{'s' if rounds != 1 else ''}: Ocelli {ours['version']} ({at}{ours['isa']}), {took_part}.")
    if record["left_out"]:
        text += " Left out: " + "; ".join(f"{name} ({why})" for name, why in record["left_out"].items()) + "."
    return text


def section(record: dict, chart: str, data: str) -> str:
    """What stands between the README's markers; `chart` and `data` are links."""
    return "\n\n".join([
        f"![How many times faster than the best peer, for every row of the table]({chart})",
        table(record),
        f"{conditions(record)} [All numbers]({data}).",
    ])


def insert(readme: str, text: str) -> str:
    """A README with a new text between its two markers.

    Raises ValueError if it does not have each marker once, in order.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise ValueError(f"it needs one line {BEGIN} and, below it, one line {END}")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{text.strip()}\n{END}{rest.split(END)[1]}"


def record_path(folder: Path, date: str, slug: str) -> Path:
    """Where a record goes. A finished one is never replaced: the second of a day gets a number."""
    number = 1
    while True:
        suffix = f"-{number}" if number > 1 else ""
        path = folder / f"{date}-{slug}-peers{suffix}.json"
        try:
            if not json.loads(path.read_text(encoding="utf-8")).get("complete"):
                return path
        except FileNotFoundError:
            return path
        except ValueError:
            pass  # not ours to replace
        number += 1


def write(path: Path, text: str) -> None:
    """Writes a file under a temporary name and renames it: a kill leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        # mkstemp keeps its files from others; ours are meant to be read.
        os.chmod(name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def read(path: Path) -> dict:
    """A record that an earlier run has written.

    Raises ValueError for another kind of file.
    """
    record = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(record, dict) or (record.get("type"), record.get("schema")) != ("peers", SCHEMA):
        raise ValueError(f"no comparison of peers in schema {SCHEMA}")
    return record


def to_json(record: dict) -> str:
    return json.dumps(record, indent=1, ensure_ascii=False) + "\n"

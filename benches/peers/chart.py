"""The ratios as horizontal bars with whiskers from the least to the most, in SVG. Standard library only."""
from __future__ import annotations

import math
from xml.sax.saxutils import escape

from report import ratio

WIDTH, LEFT, RIGHT = 760, 250, 24
TOP, HEADING, BAR, BOTTOM = 44, 26, 24, 46

# Text follows the page. Blue and vermilion (Okabe and Ito, 2008) are told apart by colour-blind people.
STYLE = (
    "svg{background:#fff;color:#1b1f24;font:12px system-ui,sans-serif}"
    "text{fill:currentColor}.title{font-size:15px;font-weight:600}.group{font-weight:600}"
    ".value{font-weight:600;font-variant-numeric:tabular-nums}.small{font-size:11px;fill-opacity:.75}"
    ".grid{stroke:currentColor;stroke-opacity:.13}"
    ".par{stroke:currentColor;stroke-width:1.5;stroke-dasharray:5 3}"
    ".whisker{stroke:currentColor;stroke-width:1.5}.faster{fill:#0072b2;fill-opacity:.8}"
    ".slower{fill:#d55e00;fill-opacity:.8}"
    "@media(prefers-color-scheme:dark){svg{background:#15181c;color:#e6e8eb}"
    ".faster{fill:#56b4e9}.slower{fill:#e69f00}}"
)
GROUPS = {"train": "Training step", "infer": "Inference"}


def draw(record: dict) -> str:
    """The chart of a record's measured rows."""
    rows = [row for row in record["rows"] if row.get("summary")]
    most = max([row["summary"]["ratio_max"] for row in rows] + [1.0])
    step = tick(most)
    end = step * math.ceil(most * 1.001 / step)
    # Room for the number behind the longest whisker.
    scale = (WIDTH - LEFT - RIGHT - 44) / end

    def x(value: float) -> float:
        return LEFT + value * scale

    groups = [(mode, [row for row in rows if row["mode"] == mode]) for mode in GROUPS]
    groups = [(mode, members) for mode, members in groups if members]
    floor = TOP + sum(HEADING + BAR * len(members) for _, members in groups) + 6
    title = "Ocelli beside the best peer: how many times faster"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {floor + BOTTOM}" width="{WIDTH}" '
        f'height="{floor + BOTTOM}" role="img">',
        f"<title>{title}</title>", f"<style>{STYLE}</style>",
        text("title", 16, 24, "start", title),
    ]
    for index in range(round(end / step) + 1):
        at = x(index * step)
        parts.append(line("grid", at, TOP, at, floor))
        parts.append(text("small", at, floor + 16, "middle", f"{index * step:g}"))
    y = TOP
    for mode, members in groups:
        parts.append(text("group", 16, y + 18, "start", GROUPS[mode]))
        y += HEADING
        for row in members:
            parts += bar(row, y, x)
            y += BAR
    parts += [
        line("par", x(1), TOP, x(1), floor),
        text("small", WIDTH - RIGHT, floor + 36, "end",
             "time of the best peer / time of Ocelli; whiskers: least and most of all rounds; "
             "right of the dashed line Ocelli is faster"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def bar(row: dict, y: float, x) -> list[str]:
    """Name, bar, whisker and number of one row, the last behind the whisker."""
    got = row["summary"]
    kind = "faster" if got["ratio"] >= 1 else "slower"
    middle, least, most = y + BAR / 2, x(got["ratio_min"]), x(got["ratio_max"])
    peer = f"{got['best_peer']} ({got['best_peer_setting']})"
    hover = f"Ocelli {got['ours_ms']:g} ms, {peer} {got['best_peer_ms']:g} ms"
    width = x(got["ratio"]) - LEFT
    return [
        text("name", LEFT - 10, middle + 4, "end", f"{row['net']}, batch {row['batch']}"),
        f'<rect class="{kind}" x="{LEFT}" y="{y + 4:.1f}" width="{width:.1f}" height="{BAR - 8}">'
        f"<title>{escape(hover)}</title></rect>",
        line("whisker", least, middle, most, middle),
        *(line("whisker", end, middle - 4, end, middle + 4) for end in (least, most)),
        text("value", most + 7, middle + 4, "start", ratio(got["ratio"])),
    ]


def tick(most: float) -> float:
    """A round distance between grid lines that gives at most eight of them."""
    for step in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000):
        if most / step <= 8:
            return step
    return 10.0 ** math.ceil(math.log10(most / 8))


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def text(kind: str, x: float, y: float, anchor: str, words: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'

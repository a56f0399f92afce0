"""Turn stored cells into what is published: Markdown tables, one record of all cells, and one page."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from sepconvert.runtime.environment import cpu_name, runtime_distributions
from tests.benchmarks.cells import Cell, Store
from tests.benchmarks.methods import METHODS
from tests.benchmarks.models import open_case

STYLE = """
:root { color-scheme: light dark; --line: #8884; --best: #0a7d3322; --ours: #2563eb14; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 78rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .2rem; } p { max-width: 50rem; margin: .4rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin-top: .6rem; white-space: nowrap; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
td { font-variant-numeric: tabular-nums; } th:first-child, td:first-child { text-align: left; }
th.group { text-align: center; border-left: 1px solid var(--line); }
td.quality { border-left: 1px solid var(--line); } td.best { background: var(--best); font-weight: 600; }
tr.ours td:first-child { background: var(--ours); } td.empty { opacity: .5; }
@media (prefers-color-scheme: dark) { :root { --best: #3fb95033; --ours: #60a5fa22; } }
"""
INTRODUCTION = (
    "Training-free conversions of trained networks, each method at the same shares of the sites' multiply-adds. A site "
    "is a convolution larger than 1×1 with more than one input and output channel. Methods without calibration data "
    "see the weights alone; fitted ones see the unlabelled inputs that are named below, none of which is in the test "
    "data. Shares are counted from the files that were written; a method that can only take whole steps lands below "
    "the share that was asked for."
)
EARLIER = "made by an earlier version"
COLUMNS = (
    (
        "quality",
        "Top-1 in percent, or relative error of the values before the last activation (0: none, 1: as a constant)",
    ),
    ("MACs", "multiply-adds of the sites, new over old"),
    (
        "speed",
        "how many times faster the whole network runs: onnxruntime, one thread, one sample, before and after in turns",
    ),
    ("CPU s", "CPU seconds of the conversion on one thread"),
)


def table(store: Store, case: str, shares: Sequence[float]) -> str:
    """Return the comparison of one case as Markdown: top-1 or error, the achieved share, speed-up, CPU seconds.

    A star marks figures where more than a quarter of the sites' MACs were kept dense: they do not count.
    """
    rows = [f"| {case} | " + " | ".join(f"1/{round(1 / share)} of the sites' MACs" for share in shares) + " |"]
    rows.append("|---" * (1 + len(shares)) + "|")
    for method in METHODS.values():
        cells = [store.read(case, method.name, share) for share in shares]
        if any(cells):
            rows.append(f"| {method.label} | " + " | ".join(_summary(cell) for cell in cells) + " |")
    return "\n".join(rows)


def publish(store: Store, cases: Iterable[str], shares: Sequence[float], folder: Path) -> None:
    """Write ``peers.json`` (all cells) and ``peers.html`` (the tables) into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        case: [cell for name in METHODS for share in shares if (cell := store.read(case, name, share)) is not None]
        for case in cases
    }
    record = {
        "environment": {"cpu": cpu_name(), "runtime": runtime_distributions(), "threads": 1},
        "data": {case: open_case(case).data for case in found},
        "empty": {case: _empty(cells, shares) for case, cells in found.items()},
        "cells": [asdict(cell) for cells in found.values() for cell in cells],
    }
    (folder / "peers.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "peers.html").write_text(page(found, record["data"], shares), encoding="utf-8")


def page(found: dict[str, list[Cell]], data: dict[str, str], shares: Sequence[float]) -> str:
    """Return the tables of all cases as one self-contained page."""
    legend = "".join(f"<li><b>{escape(name)}</b>: {escape(text)}</li>" for name, text in COLUMNS)
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Beside other methods</title><style>{STYLE}</style></head><body>",
        f"<h1>sepconvert beside other methods</h1><p>{escape(INTRODUCTION)}</p><ul>{legend}</ul>",
        "<p>The best quality of a column is marked. A star: more than a quarter of the sites' multiply-adds were kept "
        "dense, so the figure does not count. A wave (~): the timing was not stable. A dagger: made by an earlier "
        "version of this tool. A dash: not measured.</p>",
    ]
    for case, cells in found.items():
        parts.append(_section(case, {(cell.method, cell.share): cell for cell in cells}, data[case], shares))
    return "".join([*parts, "</body></html>\n"])


def _section(case: str, cells: dict[tuple[str, float], Cell], data: str, shares: Sequence[float]) -> str:
    groups = "".join(f'<th class="group" colspan="4">1/{round(1 / share)} of the sites\' MACs</th>' for share in shares)
    names = "".join(f"<th>{escape(name)}</th>" for name, _ in COLUMNS) * len(shares)
    rows = []
    for method in METHODS.values():
        if any(key[0] == method.name for key in cells):
            row = "".join(_columns(cells, method.name, share) for share in shares)
            mark = ' class="ours"' if method.ours else ""
            rows.append(f"<tr{mark}><td>{escape(method.label)}</td>{row}</tr>")
    base = next((cell.base_top1 for cell in cells.values() if cell.base_top1 is not None), None)
    speed = next((cell.base_latency_ms for cell in cells.values() if cell.base_latency_ms is not None), None)
    told = f"Calibration and test: {data}."
    told += "" if base is None else f" Top-1 of the original: {base:.2f} %."
    told += "" if speed is None else f" The original takes {speed:.2f} ms."
    return (
        f'<h2>{escape(case)}</h2><p>{escape(told)}</p><div class="wide"><table><thead><tr><th rowspan="2">method</th>'
        f"{groups}</tr><tr>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _columns(cells: dict[tuple[str, float], Cell], method: str, share: float) -> str:
    cell = cells.get((method, share))
    if cell is None:
        return '<td class="quality empty">–</td>' + '<td class="empty">–</td>' * 3
    best = max((other for key, other in cells.items() if key[1] == share), key=_merit)
    mark = " best" if best is cell else ""
    seconds = "–" if cell.seconds is None else _whole(cell.seconds)
    speed = "–" if cell.speedup is None else f"{cell.speedup:.2f}×{'' if cell.stable else '~'}"
    figures = f"<td>{cell.sites_share:.2f}</td><td>{speed}</td><td>{escape(seconds)}</td>"
    return f'<td class="quality{mark}">{_quality(cell)}</td>{figures}'


def _whole(seconds: float) -> str:
    return f"{seconds:.0f}" if seconds >= 0.5 else "<1"


def _merit(cell: Cell) -> float:
    return cell.top1 if cell.top1 is not None else -cell.error


def _quality(cell: Cell) -> str:
    error = f"{cell.error:.2g}" if cell.error < 99.5 else f"{cell.error:.0f}"
    figure = error if cell.top1 is None else f"{cell.top1:.1f}"
    return figure + ("*" if cell.kept_share > 0.25 else "") + ("†" if cell.note == EARLIER else "")


def _summary(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    speed = "" if cell.speedup is None else f", {cell.speedup:.2f}×"
    seconds = "" if cell.seconds is None else f", {_whole(cell.seconds)} s"
    return f"{_quality(cell)} ({cell.sites_share:.2f}{speed}{seconds})"


def _empty(cells: Sequence[Cell], shares: Sequence[float]) -> list[str]:
    known = {(cell.method, cell.share) for cell in cells}
    return [f"{name} at 1/{round(1 / share)}" for name in METHODS for share in shares if (name, share) not in known]

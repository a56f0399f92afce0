"""Turn stored cells into what is published: a Markdown table, and per model a record with its page."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import onnx

from sepconvert.record import Record, Sweep, SweepPoint
from sepconvert.workflows import Outputs, analyze
from tests.benchmarks.cells import Cell, Store
from tests.benchmarks.emit import conv_macs
from tests.benchmarks.methods import METHODS
from tests.benchmarks.models import Case, open_case


def table(store: Store, case: str, shares: Sequence[float]) -> str:
    """Return the comparison of one case: top-1 or error, the achieved share of the sites' MACs, speed-up, seconds.

    A star marks figures where more than a quarter of the sites' MACs were kept dense: they do not count.
    """
    rows = [f"| {case} | " + " | ".join(f"1/{round(1 / share)} of the sites' MACs" for share in shares) + " |"]
    rows.append("|---" * (1 + len(shares)) + "|")
    for method in METHODS.values():
        cells = [store.read(case, method.name, share) for share in shares]
        if any(cells):
            rows.append(f"| {method.label} | " + " | ".join(_summary(cell) for cell in cells) + " |")
    return "\n".join(rows)


def make_record(store: Store, name: str, shares: Sequence[float]) -> Record:
    """Return a record of one case: this project's models as the points of a sweep, the peers as baselines."""
    case = open_case(name)
    record = analyze(case.model, input_shapes={case.input: case.shape})
    cells = [store.read(name, method, share) for method in METHODS for share in shares]
    points = {cell: _point(cell, case, record) for cell in cells if cell is not None}
    ours = [point for cell, point in points.items() if METHODS[cell.method].ours]
    peers = [point for cell, point in points.items() if not METHODS[cell.method].ours]
    return replace(
        record,
        command="sweep",
        source=replace(record.source, path=case.model.name),  # the folder is of no use to a reader elsewhere
        sweep=Sweep(_with_front(ours), peers, "cpu, one thread, one sample at a time"),
        warnings=[*record.warnings, f"Measured on: {case.data}. Peers and data-free models see no data."],
    )


def publish(store: Store, cases: Iterable[str], shares: Sequence[float], folder: Path) -> None:
    """Write ``peers_<case>.json`` and ``.html``, and all tables as ``peers.md``, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    for name in cases:
        record = make_record(store, name, shares)
        stem = folder / f"peers_{name}"
        Outputs(str(stem.with_suffix(".json")), stem.with_suffix(".html"), force=True).write(record)
        tables.append(table(store, name, shares))
    (folder / "peers.md").write_text("\n\n".join(tables) + "\n", encoding="utf-8")


def _summary(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    quality = f"{cell.error:.2g}" if cell.top1 is None else f"{cell.top1:.1f} %"
    star = "*" if cell.kept_share > 0.25 else ""
    speed = "" if cell.speedup is None else f", {cell.speedup:.2f}×"
    return f"{quality}{star} ({cell.sites_share:.2f}{speed}, {cell.seconds:.0f} s)"


def _point(cell: Cell, case: Case, record: Record) -> SweepPoint:
    method = METHODS[cell.method]
    before = onnx.load(case.model)
    convs = sum(conv_macs(before, {case.input: case.shape}).values())
    total = record.totals.before.macs
    option = f" --data {case.calibration.name}" if method.fitted else ""
    line = f"sepconvert rewrite {case.model.name} --form {method.form} --rank {cell.share:.4g}{option}"
    return SweepPoint(
        label=f"{method.label}, 1/{round(1 / cell.share)} of the sites' MACs",
        macs=None if total is None else total - round(convs * (1 - cell.model_share)),
        params=None,
        latency_ms=cell.latency_ms,
        speedup=cell.speedup,
        speedup_ci95=cell.speedup_ci95,
        error=cell.error,
        top1=None if cell.top1 is None else cell.top1 / 100,
        stable=cell.stable,
        sites_rewritten=cell.rewritten,
        form=method.form,
        command=line if method.ours else None,
    )


def _with_front(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    return [replace(point, on_front=not any(_beats(other, point) for other in points)) for point in points]


def _beats(one: SweepPoint, other: SweepPoint) -> bool:
    if None in (one.speedup, other.speedup, one.error, other.error):
        return False
    faster, closer = one.speedup >= other.speedup, one.error <= other.error
    return faster and closer and (one.speedup, one.error) != (other.speedup, other.error)

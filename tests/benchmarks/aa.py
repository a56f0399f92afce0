"""Is a claim of speed honest? Compare models with themselves, and with copies slowed by a few extra nodes.

    python -m tests.benchmarks.aa sample_models/*.onnx --runs 40 --burners 2 --json reports/aa_busy.json
    python -m tests.benchmarks.aa sample_models/*.onnx --runs 10 --slowed 0.05 --json reports/aa_slowed.json

Without ``--slowed`` every comparison of a file with itself must say that there is no measurable difference, in the
record and in every sentence of terminal and page, also beside ``--burners`` processes that compute without a pause or
with random ones. With it, a model slowed by that share must be called slower than itself, on a quiet machine.
"""

import argparse
import io
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx

from sepconvert.record import FASTER, SLOWER, Record
from sepconvert.report.claims import speed
from sepconvert.report.verdict import judge
from sepconvert.runtime.environment import describe_environment
from sepconvert.terminal.record import render
from sepconvert.workflows import Reading, compare

CLAIMS = re.compile(r"\b(faster|slower|speed-up holds)\b", re.IGNORECASE)
PROBE = 40  # pairs of nodes that tell what one costs


@dataclass(frozen=True)
class Row:
    """One comparison."""

    model: str
    before_ms: float
    speedup: float
    low: float
    high: float
    scatter: float
    difference: str
    stable: bool
    claims: bool
    seconds: float
    load: float


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path, nargs="+")
    parser.add_argument("--runs", type=int, default=40, help="comparisons, shared among the models")
    parser.add_argument("--burners", type=int, default=0, help="busy programs beside it")
    parser.add_argument("--slowed", type=float, default=0.0, help="share that the second model is slowed by")
    parser.add_argument("--input", help="sizes of dynamic inputs, as NAME:1x3x224x224")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    shapes = {}
    if options.input:
        name, _, sizes = options.input.rpartition(":")
        shapes = {name: [int(size) for size in sizes.split("x")]}
    rows = []
    with tempfile.TemporaryDirectory() as folder, _burning(options.burners):
        seconds = {model: slow_down(model, options.slowed, Path(folder), shapes) for model in options.models}
        for run in range(options.runs):
            model = options.models[run % len(options.models)]
            rows.append(_compare(model, seconds[model], shapes, run))
            print(f"{run:3}  {_told(rows[-1])}", flush=True)
    wanted = [row.difference == SLOWER if options.slowed else not row.claims for row in rows]
    print(f"{sum(wanted)} of {len(rows)} as they should be; {sum(row.claims for row in rows)} claims of a difference")
    if options.json:
        found = {"environment": asdict(describe_environment(1, ("cpu",))), "burners": options.burners}
        found |= {"slowed": options.slowed, "right": sum(wanted), "rows": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0 if sum(wanted) >= (0.9 if options.slowed else 1) * len(wanted) else 1


def _compare(before: Path, after: Path, shapes: dict[str, list[int]], seed: int) -> Row:
    start = time.perf_counter()
    record = compare(before, after, reading=Reading(input_shapes=shapes), seed=seed)
    (timed,) = record.latency
    assert timed.speedup is not None
    assert timed.speedup_ci95 is not None
    return Row(
        model=before.name,
        before_ms=round(timed.before.median_ms, 4),
        speedup=round(timed.speedup, 4),
        low=round(timed.speedup_ci95[0], 4),
        high=round(timed.speedup_ci95[1], 4),
        scatter=round(timed.scatter or 0.0, 4),
        difference=timed.difference or "",
        stable=timed.stable,
        claims=timed.difference in (FASTER, SLOWER) or CLAIMS.search(_sentences(record)) is not None,
        seconds=round(time.perf_counter() - start, 1),
        load=round(os.getloadavg()[0], 1),
    )


def _sentences(record: Record) -> str:
    """Everything the terminal prints, and the sentences of the page."""
    from rich.console import Console

    console = Console(width=500, record=True, file=io.StringIO())
    console.print(render(record, 500))
    verdict = judge(record)
    return "\n".join([console.export_text(), verdict.headline, *verdict.sentences, speed(record)[0].sentence])


def _told(row: Row) -> str:
    unsteady = "" if row.stable else "  unsteady"
    return (
        f"{row.model:20} {row.before_ms:9.4f} ms  ratio {row.speedup:.4f} [{row.low:.4f}, {row.high:.4f}] "
        f"scatter {row.scatter:.4f}  {row.difference}{unsteady}  ({row.seconds:.0f} s, load {row.load:.1f})"
    )


def slow_down(path: Path, share: float, folder: Path, shapes: dict[str, list[int]]) -> Path:
    """Write a copy whose run takes ``share`` longer by extra nodes that change nothing; ``path`` itself for 0."""
    if not share:
        return path
    costs = {PROBE: _cost(path, _with_nodes(path, PROBE, folder), shapes)}
    pairs = max(1, round(PROBE * share / costs[PROBE]))
    if pairs != PROBE:
        # The first pair costs more than the others, because it ends a layout or a fusion: a line through two points.
        costs[pairs] = _cost(path, _with_nodes(path, pairs, folder), shapes)
        slope = (costs[PROBE] - costs[pairs]) / (PROBE - pairs)
        pairs = max(1, round(pairs + (share - costs[pairs]) / slope)) if slope > 0 else pairs
    told = ", ".join(f"{count} pairs of nodes take {cost:.1%}" for count, cost in costs.items())
    print(f"{path.name}: {told}, so {pairs} are added", flush=True)
    return _with_nodes(path, pairs, folder)


def _cost(path: Path, slowed: Path, shapes: dict[str, list[int]]) -> float:
    """How much longer a run takes, as a share."""
    (timed,) = compare(path, slowed, reading=Reading(input_shapes=shapes)).latency
    assert timed.speedup is not None
    return 1 / timed.speedup - 1


def _with_nodes(path: Path, pairs: int, folder: Path) -> Path:
    """Negate the input of the model's first Relu's reader, or the model's, twice and ``pairs`` times."""
    model = onnx.load(path)
    graph = model.graph
    value = next((node.output[0] for node in graph.node if node.op_type == "Relu"), graph.input[0].name)
    readers = [node for node in graph.node if value in node.input]
    place = min(list(graph.node).index(node) for node in readers)
    added, last = [], value
    for index in range(2 * pairs):
        added.append(onnx.helper.make_node("Neg", [last], [f"{value}_slowed_{index}"]))
        last = added[-1].output[0]
    for node in readers:
        node.input[:] = [last if name == value else name for name in node.input]
    for offset, node in enumerate(added):
        graph.node.insert(place + offset, node)
    target = folder / f"{path.stem}.{pairs}.onnx"
    onnx.save(model, target)
    return target


@contextmanager
def _burning(number: int) -> Iterator[None]:
    burners = [multiprocessing.Process(target=_burn, args=(index, os.getpid()), daemon=True) for index in range(number)]
    for burner in burners:
        burner.start()
    try:
        yield
    finally:
        for burner in burners:
            burner.terminate()


def _burn(index: int, parent: int) -> None:
    """Compute as long as the parent lives: every second process pauses now and then, as programs do that people use."""
    rng, work = np.random.default_rng(index), np.ones((300, 300))
    while os.getppid() == parent:
        end = time.monotonic() + rng.uniform(0.05, 2)
        while time.monotonic() < end:
            work = work @ work / len(work)
        if index % 2:
            time.sleep(rng.uniform(0, 1))


if __name__ == "__main__":
    sys.exit(main())

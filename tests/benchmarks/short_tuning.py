"""Short fine-tuning, with and without labels: no number of epochs may end worse than the start.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.short_tuning [--networks fashion_resnet] [--epochs 1,4] [--json F]

Both sample networks at a quarter of their sites' MACs, fitted once, then tuned from there for every number of epochs,
on labelled and on unlabelled images, new weights or all of them. Judged on all 10,000 test images of Fashion-MNIST.
A row with labels that is right on fewer images than the one without, by more than three standard errors of the
difference, is marked, and the exit code is 1: so is one that is worse than its start.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import sqrt
from pathlib import Path
from time import process_time

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset, load_data
from sepconvert.graph.load import LoadedModel, load_model
from sepconvert.graph.save import model_bytes
from sepconvert.progress import silent
from sepconvert.pytorch.tuning import Tuning, tune
from sepconvert.record import InputInfo
from sepconvert.runtime.sessions import open_session
from sepconvert.workflows import Measure, rewrite
from tests.benchmarks.models import open_case
from tests.benchmarks.tuning import MACS, training_arrays

INPUT = InputInfo("image", "float32", [None, 1, 28, 28], [1, 1, 28, 28])
STANDARD_ERRORS = 3.0


@dataclass(frozen=True)
class Row:
    """One training; top-1 and agreement with the original are shares of the test images, ``seconds`` CPU time."""

    network: str
    weights: str
    labels: bool
    epochs: int
    rate: float
    top1_before: float
    top1: float
    agreement_before: float
    agreement: float
    divergence_before: float
    divergence: float
    best_step: int
    steps: int
    seconds: float
    worse: bool = False


@dataclass(frozen=True)
class Start:
    """A network before its training, and what it is judged by: the test images' classes, and the original's answers."""

    name: str
    original: LoadedModel
    rewritten: LoadedModel
    emitted: tuple[str, ...]
    test: Dataset
    told: NDArray[np.int64]


def begin(name: str) -> Start:
    """Rewrite a sample network, without training."""
    case = open_case(name)
    found = rewrite(
        case.model, data=case.calibration, measure=Measure(latency=False), macs=MACS[name], form="auto", progress=False
    )
    original, test = load_model(case.model), load_data(case.test, [INPUT])
    known = {value.name for node in original.ir.graph for value in node.outputs if node.op_type == "Conv"}
    sites = {site.output for site in found.record.sites if site.status == "rewritten"}
    convolutions = [node.outputs[0].name for node in found.model.ir.graph if node.op_type == "Conv"]
    emitted = tuple(str(name) for name in convolutions if name not in known or name in sites)
    return Start(name, original, found.model, emitted, test, answers(original, test))


def answers(model: LoadedModel, data: Dataset) -> NDArray[np.int64]:
    """The class that a model gives to every input."""
    session = open_session(model_bytes(model))
    return np.concatenate([next(iter(session.run(feeds).values())).argmax(axis=1) for feeds in data.batches(64)])


def measure(start: Start, training: Dataset, epochs: int, *, labels: bool, weights: str, rate: float | None) -> Row:
    """Tune once and judge."""
    data = training if labels else replace(training, labels=None)
    begun = process_time()
    tuning = Tuning(epochs=epochs, all_weights=weights == "all", rate=rate)
    found = tune(start.original, start.rewritten, start.emitted, data, tuning, silent)
    spent, figures = process_time() - begun, found.figures
    assert start.test.labels is not None
    before, after = answers(start.rewritten, start.test), answers(found.model, start.test)
    return Row(
        start.name,
        weights,
        labels,
        epochs,
        figures["peak_rate"],
        float((before == start.test.labels).mean()),
        float((after == start.test.labels).mean()),
        float((before == start.told).mean()),
        float((after == start.told).mean()),
        figures["divergence_before"],
        figures["divergence_after"],
        figures["best_step"],
        figures["steps"],
        spent,
    )


def rows(networks: list[str], epochs: list[int], images: int, rate: float | None) -> Iterator[Row]:
    """All rows; of a pair the one without labels first."""
    training = load_data(training_arrays(labelled=True), [INPUT]).first(images)
    for name in networks:
        start = begin(name)
        for weights, count in product(("new", "all"), epochs):
            without = measure(start, training, count, labels=False, weights=weights, rate=rate)
            yield judged(without, without.top1_before)
            row = measure(start, training, count, labels=True, weights=weights, rate=rate)
            yield judged(row, max(without.top1, row.top1_before))


def judged(row: Row, least: float) -> Row:
    """Mark a row that is beyond noise below what it should reach."""
    noise = sqrt((1 - row.agreement + 1e-4) / 10_000)  # only where answers differ can the shares differ
    return replace(row, worse=row.top1 < least - STANDARD_ERRORS * noise)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(MACS))
    parser.add_argument("--epochs", default=",".join(map(str, range(1, 21))))
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found = []
    print("| network | weights | labels | epochs | top-1 | same answer | divergence | best step | CPU time |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows(given.networks.split(","), [int(e) for e in given.epochs.split(",")], given.images, given.lr):
        found.append(row)
        print(
            f"| {row.network} | {row.weights} | {'yes' if row.labels else 'no'} | {row.epochs} | "
            f"{100 * row.top1_before:.2f} → {100 * row.top1:.2f} %{' WORSE' if row.worse else ''} | "
            f"{100 * row.agreement_before:.2f} → {100 * row.agreement:.2f} % | {row.divergence_before:.4f} → "
            f"{row.divergence:.4f} | {row.best_step} of {row.steps} | {row.seconds:.0f} s |",
            flush=True,
        )
        if given.json is not None:
            given.json.write_text(json.dumps([asdict(row) for row in found], indent=1) + "\n", encoding="utf-8")
    return int(any(row.worse for row in found))


if __name__ == "__main__":
    sys.exit(main())

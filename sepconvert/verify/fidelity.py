"""Fidelity of a rewritten model: both models run on the same inputs, batch by batch, output by output."""

import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.data.dataset import Feeds
from sepconvert.model_bytes import ModelBytes
from sepconvert.progress import Progress, silent
from sepconvert.record import Fidelity, OutputFidelity
from sepconvert.runtime.feeds import adapt_feeds, pair_inputs
from sepconvert.runtime.sessions import Arrays, Session, open_session
from sepconvert.verify.deviation import Axes, Deviation, Figures, by_sample
from sepconvert.verify.pairing import OutputPair, pair_outputs
from sepconvert.verify.topone import TopOne

_BATCH_VALUES = 1 << 20  # input values per batch: large images go one at a time
_LARGEST_BATCH = 64


@dataclass(frozen=True, slots=True)
class FidelityResult:
    """The record's figures, and sentences about what has none and why (``dataset.warnings`` are not repeated)."""

    fidelity: Fidelity
    warnings: tuple[str, ...]


def measure_fidelity(
    before: bytes | Path,
    after: bytes | Path,
    dataset: Dataset,
    *,
    pre: Mapping[str, str] | None = None,
    pre_after: Mapping[str, str] | None = None,
    outputs: Sequence[str] | None = None,
    axes: Axes = MappingProxyType({}),
    device: str = "cpu",
    threads: int = 1,
    batch_size: int | None = None,
    progress: Progress = silent,
) -> FidelityResult:
    """Run both models on every sample and measure how far their outputs are apart.

    Both models' outputs are matched by name, or by position where all the names differ. Only one batch is in memory
    at a time. Top-1 is read from the first floating output of shape (samples, classes ≥ 2, 1…) whose classes hold all
    labels; without labels only the agreement is given.

    Args:
        before: the original model.
        after: the rewritten one.
        dataset: inputs for ``before``; a single input of another name, and other float types, are adapted.
        pre: for outputs made by Softmax, LogSoftmax or Sigmoid: the name of the value before it. These values must be
            outputs of both models (instrument them first).
        pre_after: the same for ``after`` where its value names differ.
        outputs: the outputs to compare; None for all but the values of ``pre``.
        axes: along which axis the samples lie, by the original's value; see ``by_sample``.
        device: where both models run.
        threads: threads of each session.
        batch_size: samples per run; None chooses by the size of the inputs. A static batch rules.
        progress: told of every batch.

    Raises:
        ModelError: the models' inputs or outputs do not correspond, or a model cannot run.
        DataError: an input cannot be read.
    """
    original = [open_session(before, device=device, threads=threads)]
    first = original[0]
    second = open_session(after, device=device, threads=threads)
    pairs = pair_outputs(first, second, pre or {}, pre_after or pre or {}, outputs)
    inputs = pair_inputs(first.inputs, second.inputs)
    comparisons = [_Comparison(pair, tuple(Deviation() for _ in pair.before)) for pair in pairs]
    # dict.fromkeys: a value before an activation may be an output of its own, but is computed once.
    names = list(dict.fromkeys(name for pair in pairs for name in pair.before))
    partners = list(dict.fromkeys(name for pair in pairs for name in pair.after))
    top = TopOne(dataset.labels)
    seen = 0
    del first
    apart = isinstance(before, ModelBytes) and before.large
    for feeds, old in _answers(original, dataset, batch_size or _choose_batch(dataset, second), names, apart=apart):
        progress("Fidelity", seen, dataset.count)
        rows = _count_rows(feeds, dataset, seen)
        new = second.run(adapt_feeds(feeds, inputs), partners)
        for comparison in comparisons:
            comparison.add(old, new, rows, axes)
        top.add([_by_sample(pair, old, new, rows, axes) for pair in pairs if pair.numeric], rows)
        seen += rows
    progress("Fidelity", dataset.count, dataset.count)
    return _summarise(comparisons, top, dataset)


@dataclass(slots=True)
class _Comparison:
    """What has been seen of one pair of outputs so far."""

    pair: OutputPair
    deviations: tuple[Deviation, ...]
    mismatch: str | None = None

    def add(self, old: Mapping[str, NDArray[Any]], new: Mapping[str, NDArray[Any]], rows: int, axes: Axes) -> None:
        if not self.pair.numeric or self.mismatch:
            return
        for name, partner, deviation in zip(self.pair.before, self.pair.after, self.deviations, strict=True):
            y, y_hat = old[name], new[partner]
            if y.shape != y_hat.shape:
                self.mismatch = f"{y.shape} before but {y_hat.shape} after"
                return
            deviation.add(by_sample(name, y, rows, axes), by_sample(name, y_hat, rows, axes))


def _answers(
    original: list[Session], dataset: Dataset, size: int, names: Sequence[str], *, apart: bool
) -> Iterator[tuple[Feeds, Arrays]]:
    """Yield every batch with what the original makes of it.

    ``apart``: it answers all of them before the first is given, and is closed; of two large models only one fits into
    memory. The answers lie in a temporary folder meanwhile. ``original`` is emptied, so that nobody else holds it.
    """
    session = original.pop()
    if not apart:
        for feeds in dataset.batches(size):
            yield feeds, session.run(feeds, names)
        return
    with tempfile.TemporaryDirectory(prefix="sepconvert-") as folder:
        for index, feeds in enumerate(dataset.batches(size)):
            Path(folder, str(index)).write_bytes(pickle.dumps(session.run(feeds, names)))
        del session
        for index, feeds in enumerate(dataset.batches(size)):
            yield feeds, pickle.loads(Path(folder, str(index)).read_bytes())


def _by_sample(
    pair: OutputPair, old: Mapping[str, NDArray[Any]], new: Mapping[str, NDArray[Any]], rows: int, axes: Axes
) -> tuple[str, NDArray[Any], NDArray[Any]]:
    name = pair.before[0]
    return name, by_sample(name, old[name], rows, axes), by_sample(name, new[pair.after[0]], rows, axes)


def _choose_batch(dataset: Dataset, second: Session) -> int:
    if any(info.shape[:1] == (1,) for info in second.inputs):
        return 1
    values = max(prod(shape[1:]) for shape in dataset.shapes().values())
    return min(max(_BATCH_VALUES // max(values, 1), 1), _LARGEST_BATCH)


def _count_rows(feeds: Mapping[str, NDArray[Any]], dataset: Dataset, seen: int) -> int:
    varying = [len(array) for name, array in feeds.items() if name not in dataset.source.constant]
    return varying[0] if varying else dataset.count - seen


def _summarise(comparisons: Sequence[_Comparison], top: TopOne, dataset: Dataset) -> FidelityResult:
    warnings: list[str] = []
    outputs = []
    for comparison in comparisons:
        figures = [deviation.figures() for deviation in comparison.deviations]
        warnings += _explain(comparison, figures)
        known = figures if comparison.pair.numeric and not comparison.mismatch else [Figures(0, None, None, None, None)]
        outputs.append(
            OutputFidelity(
                name=comparison.pair.info.name,
                relative_error=known[0].relative_error,
                pre_activation_relative_error=known[1].relative_error if len(known) > 1 else None,
                max_abs=known[0].max_abs,
                cosine=known[0].cosine,
                sqnr_db=known[0].sqnr_db,
            )
        )
    warnings += top.warnings()
    shares = top.shares()
    if not dataset.varies:
        shares = (None, None, None)
        warnings.append(
            f"All {dataset.count} inputs that the models were compared on are the same, so that their agreement is no "
            "evidence of accuracy."
        )
    fidelity = Fidelity(outputs, dataset.count, dataset.origin, *shares)
    return FidelityResult(fidelity, tuple(warnings))


def _explain(comparison: _Comparison, figures: Sequence[Figures]) -> list[str]:
    """Say why figures of this output are missing."""
    name = comparison.pair.info.name
    if not comparison.pair.numeric:
        return [f"Output '{name}' is {comparison.pair.info.dtype}, which cannot be compared as numbers."]
    if comparison.mismatch:
        return [f"Output '{name}' has shape {comparison.mismatch} on the same input, so it cannot be compared."]
    said = []
    if comparison.pair.missing:
        said.append(f"The value '{comparison.pair.missing}' before the activation of '{name}' is not in both models.")
    for value, found in zip(comparison.pair.before, figures, strict=True):
        for bad, which in ((found.bad_before, "original"), (found.bad_after, "rewritten")):
            if bad:
                said.append(f"'{value}' of the {which} model holds NaN or Inf in {bad} of {found.samples} samples.")
        if found.relative_error is None and not found.bad_before and not found.bad_after:
            why = "there is only one sample" if found.samples < 2 else "the original's value is constant"
            said.append(f"'{value}' has no relative error because {why}.")
    return said

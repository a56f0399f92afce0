"""Fidelity of a rewritten model: both models run on the same inputs, batch by batch, output by output."""

import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf, prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.data.dataset import Feeds
from sepconvert.graph.joined import Parts
from sepconvert.model_bytes import ModelBytes
from sepconvert.progress import Progress, silent
from sepconvert.record import ChoiceFidelity, Fidelity, OutputFidelity, PartFidelity
from sepconvert.runtime.feeds import adapt_feeds, pair_inputs
from sepconvert.runtime.sessions import Arrays, Session, open_session
from sepconvert.verify.answers import Answers, Metric
from sepconvert.verify.changes import Changes
from sepconvert.verify.choices import ChoiceCounts, holds_classes
from sepconvert.verify.deviation import Axes, Deviation, Figures, by_sample, sample_axis
from sepconvert.verify.pairing import OutputPair, pair_outputs
from sepconvert.verify.topone import TopOne

_BATCH_VALUES = 1 << 20  # values of an input or output per batch: large images go one at a time
_LARGEST_BATCH = 64
KEPT_BYTES = 256 << 20
"""Of its answers that an original keeps; what is more is worked out again."""


@dataclass(frozen=True, slots=True)
class FidelityResult:
    """The record's figures, and sentences about what has none and why (``dataset.warnings`` are not repeated)."""

    fidelity: Fidelity
    warnings: tuple[str, ...]


class Original:
    """The model that others are compared with, one after another.

    Its answers to a data set are kept and given again, as far as ``KEPT_BYTES`` go, so that it need not run for each.
    """

    def __init__(self, model: bytes | Path, *, device: str = "cpu", threads: int = 1, keeps: bool = True) -> None:
        """Open it, on a device and with so many threads; where it is asked but once, it need not keep anything.

        Raises:
            ModelError: it cannot be loaded.
        """
        self._open = partial(open_session, model, device=device, threads=threads, arena=False)
        self._apart = isinstance(model, ModelBytes) and model.large
        self._session: Session | None = self._open()
        self._answered: Dataset | None = None
        self._kept: dict[tuple[int, int, tuple[str, ...]], Arrays] = {}
        self._all_room: float = KEPT_BYTES if keeps else 0
        self._room: float = self._all_room

    @property
    def session(self) -> Session:
        """The model, open."""
        self._session = self._session or self._open()
        return self._session

    def answers(self, dataset: Dataset, size: int, names: Sequence[str]) -> Iterator[tuple[Feeds, Arrays]]:
        """Yield every batch, of ``size`` samples, with the values of these names.

        Of two large models only one fits into memory: such an original answers all batches before the first is given,
        and is closed. The answers lie in a temporary folder meanwhile.
        """
        if self._apart:
            yield from self._answers_apart(dataset, size, names)
            return
        if self._answered is not dataset:
            self._answered, self._room = dataset, self._all_room
            self._kept.clear()
        for place, feeds in enumerate(dataset.batches(size)):
            key = place, size, tuple(names)
            found = self._kept.get(key)
            if found is None:
                found = self.session.run(feeds, names)
                taken = sum(map(_size, found.values()))
                if taken <= self._room:
                    self._room -= taken
                    self._kept[key] = found
            yield feeds, found

    def _answers_apart(self, dataset: Dataset, size: int, names: Sequence[str]) -> Iterator[tuple[Feeds, Arrays]]:
        with tempfile.TemporaryDirectory(prefix="sepconvert-") as folder:
            for index, feeds in enumerate(dataset.batches(size)):
                Path(folder, str(index)).write_bytes(pickle.dumps(self.session.run(feeds, names)))
            self._session = None
            for index, feeds in enumerate(dataset.batches(size)):
                yield feeds, pickle.loads(Path(folder, str(index)).read_bytes())


def _size(value: object) -> float:
    """Bytes of an array; what is none, such as a sequence, is not counted and not kept."""
    return value.nbytes if isinstance(value, np.ndarray) else inf


def measure_fidelity(
    before: bytes | Path | Original,
    after: bytes | Path,
    dataset: Dataset,
    *,
    parts: Parts = MappingProxyType({}),
    parts_after: Parts | None = None,
    outputs: Sequence[str] | None = None,
    axes: Axes = MappingProxyType({}),
    device: str = "cpu",
    threads: int = 1,
    batch_size: int | None = None,
    metric: Metric | None = None,
    progress: Progress = silent,
) -> FidelityResult:
    """Run both models on every sample and measure how far their outputs are apart.

    Both models' outputs are matched by name, or by position where all the names differ. Only one batch is in memory
    at a time. Top-1 is read from the first floating output of shape (samples, classes ≥ 2, 1…) whose classes hold all
    labels; without labels only the agreement is given.

    Args:
        before: the original model; opened already where more than one other is compared with it.
        after: the rewritten one.
        dataset: inputs for ``before``; a single input of another name, and other float types, are adapted.
        parts: what outputs are judged by beside the whole of them. The values that they are of must be outputs of both
            models (expose them first).
        parts_after: the same for ``after`` where its value names differ. An output whose parts are not alike in both is
            judged as a whole, with a warning.
        outputs: the outputs to compare; None for all but the values of ``parts``.
        axes: along which axis the samples lie, by the original's value; see ``by_sample``.
        device: where both models run.
        threads: threads of each session.
        batch_size: samples per run; None chooses by the size of inputs and outputs. A static batch rules.
        metric: what else to ask about both models' outputs.
        progress: told of every batch.

    Raises:
        ModelError: the models' inputs or outputs do not correspond, or a model cannot run.
        DataError: an input cannot be read, or the metric fails.
    """
    original = before
    if not isinstance(original, Original):
        original = Original(original, device=device, threads=threads, keeps=False)
    first = original.session
    second = open_session(after, device=device, threads=threads, arena=False)
    pairs = pair_outputs(first, second, parts, parts if parts_after is None else parts_after, outputs)
    inputs = pair_inputs(first.inputs, second.inputs)
    comparisons = [
        _Comparison(pair, tuple(Deviation() for _ in pair.before), tuple(ChoiceCounts() for _ in pair.before))
        for pair in pairs
    ]
    # dict.fromkeys: a part may be an output of its own, or several parts stretches of one value.
    names = list(dict.fromkeys(part.value for pair in pairs for part in pair.before))
    partners = list(dict.fromkeys(part.value for pair in pairs for part in pair.after))
    top, asked = TopOne(dataset.labels), None if metric is None else Answers(metric)
    seen, changes, leading = 0, Changes(), None
    classes = {pair.info.name for pair in pairs if any(part.classes is not None for part in pair.before)}
    del first
    for feeds, old in original.answers(dataset, batch_size or _choose_batch(dataset, second), names):
        progress("Fidelity", seen, dataset.count)
        rows = _count_rows(feeds, dataset, seen)
        new = second.run(adapt_feeds(feeds, inputs), partners)
        for comparison in comparisons:
            comparison.add(old, new, rows, axes)
        answers = [_by_sample(pair, old, new, rows, axes) for pair in pairs if pair.numeric]
        known = [answer for answer in answers if answer[0] in classes]
        others = [answer for answer in answers if answer[0] not in classes]
        # Labels tell by their number which output they are of; without them, any two numbers could be classes.
        top.add(known if known and dataset.labels is None else [*known, *others], rows)
        if answers:
            leading, *values = (known or others)[0]
            changes.add(*values)
        if asked is not None:
            asked.add(answers)
        seen += rows
    progress("Fidelity", dataset.count, dataset.count)
    result = _summarise(comparisons, top, dataset)
    metric_found = None if asked is None else asked.figures(dataset)
    order = changes.order()
    fidelity = replace(result.fidelity, metric=metric_found, most_changed=order, leading_output=leading)
    return replace(result, fidelity=fidelity)


@dataclass(slots=True)
class _Comparison:
    """What has been seen of one pair of outputs so far.

    A mismatch is that of the value's shapes, by place; ``bare``: the output itself holds bare scores of classes.
    """

    pair: OutputPair
    deviations: tuple[Deviation, ...]
    choices: tuple[ChoiceCounts, ...]
    mismatches: dict[int, str] = field(default_factory=dict)
    bare: bool | None = None

    def add(self, old: Mapping[str, NDArray[Any]], new: Mapping[str, NDArray[Any]], rows: int, axes: Axes) -> None:
        if not self.pair.numeric:
            return
        for place, (part, partner) in enumerate(zip(self.pair.before, self.pair.after, strict=True)):
            y, y_hat = part.of(old[part.value]), partner.of(new[partner.value])
            if place not in self.mismatches and y.shape != y_hat.shape:
                self.mismatches[place] = f"{y.shape} before but {y_hat.shape} after"
            if place not in self.mismatches:
                name = part.value
                self.deviations[place].add(by_sample(name, y, rows, axes), by_sample(name, y_hat, rows, axes))
            self._count(place, y, y_hat, sample_axis(part.value, y, rows, axes))

    def _count(self, place: int, y: NDArray[Any], y_hat: NDArray[Any], samples: int | None) -> None:
        """Count choices in a part where it holds some."""
        part, choices = self.pair.before[place], self.choices[place]
        classes = part.classes
        if classes is None and len(self.pair.before) == 1 and samples == 0:
            self.bare = holds_classes(y) if self.bare is None else self.bare
            classes = 1 if self.bare else None
        if classes is not None:
            choices.add(y, y_hat, classes, samples)
        elif part.yes_no and (self.pair.joins or (y.ndim == 2 and y.shape[1] > 1)):
            choices.add_answers(y, y_hat, samples)

    def chosen(self, counted: str | None) -> list[ChoiceFidelity]:
        """The choices in the output and its parts; one per sample in the output ``counted`` is top-1's."""
        found = []
        for part, choices in zip(self.pair.before, self.choices, strict=True):
            if self.pair.info.name == counted and choices.positions == choices.samples:
                continue
            figures = choices.figures(part.name if self.pair.joins else self.pair.info.name)
            found += [] if figures is None else [figures]
        return found

    def figures(self) -> list[Figures]:
        """Of the output and of its parts, without any where there is nothing to compare."""
        found = [deviation.figures() for deviation in self.deviations]
        if not self.pair.numeric:
            return [_NOTHING]
        return [_NOTHING if place in self.mismatches else figures for place, figures in enumerate(found)]


_NOTHING = Figures(0, None, None, None, None)


def _by_sample(
    pair: OutputPair, old: Mapping[str, NDArray[Any]], new: Mapping[str, NDArray[Any]], rows: int, axes: Axes
) -> tuple[str, NDArray[Any], NDArray[Any]]:
    name = pair.info.name
    return name, by_sample(name, old[name], rows, axes), by_sample(name, new[pair.after[0].value], rows, axes)


def _choose_batch(dataset: Dataset, second: Session) -> int:
    if any(info.shape[:1] == (1,) for info in second.inputs):
        return 1
    made = [[side for side in info.shape[1:] if isinstance(side, int)] for info in second.outputs]
    values = max(prod(shape) for shape in (*(shape[1:] for shape in dataset.shapes().values()), *made))
    return min(max(_BATCH_VALUES // max(values, 1), 1), _LARGEST_BATCH)


def _count_rows(feeds: Mapping[str, NDArray[Any]], dataset: Dataset, seen: int) -> int:
    varying = [len(array) for name, array in feeds.items() if name not in dataset.source.constant]
    return varying[0] if varying else dataset.count - seen


def _summarise(comparisons: Sequence[_Comparison], top: TopOne, dataset: Dataset) -> FidelityResult:
    warnings: list[str] = []
    outputs = []
    for comparison in comparisons:
        whole, *inner = comparison.figures()
        warnings += _explain(comparison, [whole, *inner], dataset.count)
        before = inner[0].relative_error if inner and not comparison.pair.joins else None
        named = zip(comparison.pair.before[1:], inner, strict=True) if comparison.pair.joins else ()
        outputs.append(
            OutputFidelity(
                name=comparison.pair.info.name,
                relative_error=whole.relative_error,
                pre_activation_relative_error=before,
                max_abs=whole.max_abs,
                cosine=whole.cosine,
                sqnr_db=whole.sqnr_db,
                parts=[PartFidelity(part.name, figures.relative_error) for part, figures in named],
            )
        )
    warnings += top.warnings()
    shares = top.shares()
    choices = [choice for comparison in comparisons for choice in comparison.chosen(top.output)]
    if not dataset.varies:
        shares, choices = (None, None, None), []
        warnings.append(
            f"All {dataset.count} inputs that the models were compared on are the same, so that their agreement is no "
            "evidence of accuracy."
        )
    fidelity = Fidelity(outputs, dataset.count, dataset.origin, *shares, choices)
    return FidelityResult(fidelity, tuple(warnings))


def _explain(comparison: _Comparison, figures: Sequence[Figures], inputs: int) -> list[str]:
    """Say why figures of this output are missing."""
    name = comparison.pair.info.name
    if not comparison.pair.numeric:
        return [f"Output '{name}' is {comparison.pair.info.dtype}, which cannot be compared as numbers."]
    said = []
    if comparison.pair.missing:
        values = ", ".join(comparison.pair.missing)
        said.append(f"What output '{name}' is made of ({values}) is not alike in both models: it is judged as a whole.")
    for place, (part, found) in enumerate(zip(comparison.pair.before, figures, strict=True)):
        value = part.name
        if place in comparison.mismatches:
            kind, shapes = "Part" if place else "Output", comparison.mismatches[place]
            said.append(f"{kind} '{value}' has shape {shapes} on the same input, so it cannot be compared.")
            continue
        for bad, which in ((found.bad_before, "original"), (found.bad_after, "rewritten")):
            if bad:
                said.append(f"'{value}' of the {which} model holds NaN or Inf in {bad} of {found.samples} samples.")
        if found.relative_error is None and not found.bad_before and not found.bad_after:
            why = "the original's value is constant"
            if found.samples < 2:
                why = "there is only one sample" if inputs < 2 else f"it is one answer to all {inputs} inputs"
            said.append(f"'{value}' has no relative error because {why}.")
    return said

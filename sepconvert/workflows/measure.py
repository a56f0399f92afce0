"""Fidelity and latency of two opened models, on the user's data or on seeded random inputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset, random_inputs
from sepconvert.errors import DataError
from sepconvert.graph.batch_axes import batch_axes
from sepconvert.graph.heads import expose
from sepconvert.graph.joined import Parts, output_parts
from sepconvert.graph.notation import is_full
from sepconvert.graph.save import runnable
from sepconvert.progress import Progress, silent
from sepconvert.record import Fidelity, Latency, MetricFidelity
from sepconvert.separable.threads import cores
from sepconvert.workflows.effort import timing_length
from sepconvert.workflows.engines import find_engine
from sepconvert.workflows.metrics import find_metric
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.options import Measure
from sepconvert.workflows.request import Request

if TYPE_CHECKING:
    from sepconvert.runtime.timing import Length
    from sepconvert.verify.answers import Metric
    from sepconvert.verify.deviation import Axes
    from sepconvert.verify.fidelity import Original

RANDOM_SAMPLES = 8
FIRST_ASKED = 16  # inputs that a metric is tried on before anything is done


def measure_fidelity(
    before: OpenedModel,
    after: OpenedModel,
    dataset: Dataset | None,
    seed: int,
    progress: Progress = silent,
    metric: "Metric | None" = None,
) -> tuple[Fidelity | None, list[str]]:
    """Run both models on the same inputs and compare every output; see ``Evaluator``."""
    return Evaluator(before, dataset, seed, keeps=False)(after, progress, metric)


class Evaluator:
    """Compares models, one after another, with an original that runs once: every output, and what it joins."""

    def __init__(self, before: OpenedModel, dataset: Dataset | None, seed: int, *, keeps: bool = True) -> None:
        """Take the original and the inputs; None for random ones of a seed. ``keeps``: see ``Original``."""
        self._before, self._keeps = before, keeps
        if dataset is None and all(is_full(info.used_shape) for info in before.shapes.inputs):
            dataset = random_inputs(before.shapes.inputs, RANDOM_SAMPLES, np.random.default_rng(seed))
        self.dataset = dataset

    def __call__(
        self, after: OpenedModel, progress: Progress = silent, metric: "Metric | None" = None
    ) -> tuple[Fidelity | None, list[str]]:
        """Compare a model.

        Args:
            after: the model to judge.
            progress: told of every batch.
            metric: what else to ask about the outputs.

        Returns:
            The fidelity, and warnings; None (with a warning) where an input's shape is unknown and no data was given.
        """
        from sepconvert.verify import fidelity

        if self.dataset is None:
            return None, ["Fidelity was not measured: an input's size is unknown; pass --input or --data."]
        parts = output_parts(after.model, after.shapes)
        result = fidelity.measure_fidelity(
            self._original,
            _exposing(after, parts),
            self.dataset,
            parts=self._parts,
            parts_after=parts,
            outputs=[str(value.name) for value in self._before.model.ir.graph.outputs],
            axes=self._axes,
            threads=cores(),
            metric=metric,
            progress=progress,
        )
        return result.fidelity, list(result.warnings)

    @cached_property
    def _original(self) -> "Original":
        from sepconvert.verify.fidelity import Original

        return Original(_exposing(self._before, self._parts), threads=cores(), keeps=self._keeps)

    @cached_property
    def _parts(self) -> Parts:
        return output_parts(self._before.model, self._before.shapes)

    @cached_property
    def _axes(self) -> "Axes":
        return batch_axes(self._before.model, self._before.shapes)


def check_metric(opened: OpenedModel, request: Request, datasets: Iterable[Dataset]) -> None:
    """Refuse, before any work is done, a metric that fails on what the original itself answers.

    The first inputs are enough to see a wrong name. Some metrics need more to say anything, both classes for example:
    one that fails on the first is asked about all.

    Raises:
        DataError: it fails.
        ModelError: the model cannot run.
    """
    metric = find_metric(request.measure.metric)
    for dataset in datasets if metric is not None else ():
        try:
            measure_fidelity(opened, opened, dataset.first(FIRST_ASKED), request.seed, metric=metric)
        except DataError:
            measure_fidelity(opened, opened, dataset, request.seed, metric=metric)


def ask_metric(case: Case, after: OpenedModel, dataset: Dataset | None) -> MetricFidelity | None:
    """What the metric that was asked for says of a model on some inputs; None where there are none, or no metric.

    Raises:
        DataError: the metric fails.
    """
    request = case.request
    metric = find_metric(request.measure.metric)
    if metric is None or dataset is None:
        return None
    fidelity, _ = measure_fidelity(case.opened, after, dataset, request.seed, request.progress, metric)
    return None if fidelity is None else fidelity.metric


def _exposing(opened: OpenedModel, parts: Parts) -> bytes | Path:
    return runnable(expose(opened.model, [part.value for found in parts.values() for part in found]))


def feeds_to_time(opened: OpenedModel, dataset: Dataset | None, rng: np.random.Generator) -> Mapping[str, NDArray[Any]]:
    """One batch to time a model with, of the size that its sites are timed at: that of ``--input``, else one sample.

    Raises:
        DataError: there are not so many samples.
    """
    wanted = opened.shapes.batch
    inputs = dataset if dataset is not None else random_inputs(opened.shapes.inputs, wanted, rng)
    if inputs.count < wanted:
        raise DataError(
            f"{inputs.origin} holds {inputs.count} sample(s), too few to time batches of {wanted}, as --input asks; "
            "give more, or ask for smaller batches."
        )
    return next(iter(inputs.batches(wanted)))


def time_all(case: Case, models: Sequence[OpenedModel]) -> list[Latency]:
    """Time versions of a model against the first of them, in turns, on the first device."""
    from sepconvert.runtime.timing import time_in_turns

    measure, rng = case.request.measure, np.random.default_rng(case.request.seed)
    return time_in_turns(
        [runnable(opened.model) for opened in models],
        feeds_to_time(case.opened, case.sample, rng),
        engine=find_engine(measure.devices[0], measure.threads),
        rng=rng,
        length=timing_length(case.request),
        progress=case.request.progress,
    )


def time_change(case: Case, after: OpenedModel, *, first_device: bool = False) -> list[Latency]:
    """Time a rewritten model against the original, on every device or the first."""
    request, measure = case.request, case.request.measure
    if first_device:
        measure = replace(measure, devices=measure.devices[:1])
    return measure_latency(
        case.opened, after, case.sample, measure, request.seed, request.progress, timing_length(request)
    )


def measure_latency(
    before: OpenedModel,
    after: OpenedModel | None,
    dataset: Dataset | None,
    measure: Measure,
    seed: int,
    progress: Progress = silent,
    length: "Length | None" = None,
) -> list[Latency]:
    """Time one model, or two interleaved, on every device, as long as ``time_pair`` does or so long."""
    from sepconvert.runtime.timing import LENGTH, time_pair

    rng = np.random.default_rng(seed)
    feeds = feeds_to_time(before, dataset, rng)
    first = runnable(before.model)
    second = None if after is None else runnable(after.model)
    engines = [find_engine(device, measure.threads) for device in measure.devices]
    return [
        time_pair(first, second, feeds, engine=engine, rng=rng, length=length or LENGTH, progress=progress)
        for engine in engines
    ]

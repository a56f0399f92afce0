"""Float or INT8, layer by layer: measure what parts of a model gain and lose in INT8, plan, measure the plans, choose.

The work is bounded by an ``Int8Effort``. So many parts are each quantised, run and timed alone; parts that err most are
halved first, so that single layers are told apart where it matters. A few whole models are made of what that says;
errors on inputs that nothing was fitted to, and times of the whole models, decide.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.graph.notation import is_full
from sepconvert.graph.save import runnable
from sepconvert.planning.precision import (
    Layers,
    Part,
    Times,
    even_parts,
    fastest_within,
    fit_times,
    halves,
    layers_of,
    predicted_time,
    without_islands,
)
from sepconvert.planning.quantisable import find_layers
from sepconvert.planning.site_timing import Effort, ratio_in_rounds, time_interleaved
from sepconvert.workflows.describe import worst_error
from sepconvert.workflows.effort import int8_effort
from sepconvert.workflows.engines import find_engine
from sepconvert.workflows.measure import Evaluator, feeds_to_time
from sepconvert.workflows.mixture import Mixture, added_error, choose_mixture, lowered
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.options import Budget
from sepconvert.workflows.quantisable import QuantisedModel

LONGEST = 120.0
"""Seconds after which no part is halved any more: on a slow machine, fewer are told apart."""
_SHARES = (1.0, 0.5, 0.2, 0.05)  # of the error of everything in INT8 that plans may have
_RUINED = 1e3  # what an output that is no number counts as
_INT8_SHARE = 0.5  # of a layer's time, where nothing is timed
_PART, _WHOLE = Effort(0.3, 7, 200, reading=0.003), Effort(1.0, 9, 400, reading=0.003)

ErrorOf = Callable[[OpenedModel], float | None]


@dataclass(frozen=True, slots=True)
class Start:
    """What a rewrite in INT8 starts from: outputs of nodes in floating point, and what the model errs by without it."""

    floating: frozenset[str]
    error: float


class Mixing:
    """Leaves those layers of a model in floating point that INT8 serves least."""

    def __init__(self, case: Case, whole: QuantisedModel, error_of: ErrorOf, seen: Dataset) -> None:
        """Measure what parts of the model gain and lose.

        Args:
            case: the original.
            whole: a model all in INT8.
            error_of: the error of a model against the original, on inputs that nothing was fitted to.
            seen: other inputs.
        """
        self._case, self._whole, self._error_of = case, whole, error_of
        self._parts = _Parts(case, whole, seen)
        self._models: dict[Layers, OpenedModel] = {}
        self._found: dict[Layers, Mixture] = {}
        self._matters = whole.error is not None and self._parts.count > 1 and self._parts.measure()

    def best(self, budget: Budget, floating: Collection[str] = ()) -> QuantisedModel:
        """Return the model that serves a budget best; the one all in INT8 where that is, or where no error is known.

        ``floating`` are outputs of nodes that stay in floating point in one of the plans.
        """
        if not self._matters:
            return self._whole
        return self._with_ranges(self._chosen(budget, floating))

    def start(self, budget: Budget) -> Start:
        """Return what serves a budget best as it is when layers are rewritten."""
        source, error = self._whole.source, self._whole.error or 0.0
        if not self._matters:
            return Start(self._whole.floating, error)
        best = self._chosen(budget, ())
        chosen = set(self._parts.nodes(best.layers))
        return Start(source.precisions(chosen)[1] | source.outputs_beside(chosen), best.error)

    def _chosen(self, budget: Budget, floating: Collection[str]) -> Mixture:
        source, progress, effort = self._whole.source, self._case.request.progress, int8_effort(self._case.request)
        before = 0.0 if source.opened is self._case.opened else self._error_of(source.opened) or 0.0
        limit, most = added_error(budget, before), effort.plans + effort.corrected
        for place, layers in enumerate(self._parts.plans([] if limit is None else [limit], floating)):
            progress("Mixed plans", place, most)
            self._measure(layers)
        if limit is not None:
            self._keep(budget, limit, before, lambda place: progress("Mixed plans", effort.plans + place, most))
        progress("Mixed plans", most, most)
        return choose_mixture(budget, [*self._found.values()])

    def _keep(self, budget: Budget, limit: float, before: float, tell: Callable[[int], None]) -> None:
        """What is predicted may be too low: as long as the plan for the limit errs by more, allow less."""
        allowed = limit
        for place in range(int8_effort(self._case.request).corrected + 1):
            layers = self._parts.within(allowed)
            if not layers or self._measure(layers).error <= budget.value:
                break
            tell(place)
            allowed *= lowered(limit, self._found[layers].error - before)

    def _measure(self, layers: Layers) -> Mixture:
        if layers not in self._found:
            model = self._models[layers] = self._parts.made(layers, self._whole.ranges)
            error = self._error_of(model)
            known = np.inf if error is None else error
            self._found[layers] = Mixture(layers, known, self._parts.predicted(layers), self._parts.timed(model))
        return self._found[layers]

    def _with_ranges(self, best: Mixture) -> QuantisedModel:
        """The chosen mixture, with the ranges that err least in it: those were chosen with all layers in INT8."""
        parts, whole, model = self._parts, self._whole, self._models[best.layers]
        if model is whole.opened:
            return replace(whole, predicted=best.predicted, measured=best.measured)
        method, error = whole.ranges, best.error
        for other in whole.source.ranges:
            if other == whole.ranges:
                continue
            again = parts.made(best.layers, other)
            now = self._error_of(again)
            if now is not None and now < error:
                model, method, error = again, other, now
        chosen = set(parts.nodes(best.layers))
        integer, floating = whole.source.precisions(chosen)
        return replace(
            whole,
            opened=model,
            integer=integer,
            floating=floating,
            ranges=method,
            error=error,
            left=tuple(layer.name for place, layer in enumerate(parts.layers) if place not in best.layers),
            left_outputs=whole.source.outputs_beside(chosen),
            predicted=best.predicted,
            measured=best.measured,
        )


class _Parts:
    """What parts of one model gain and lose in INT8."""

    def __init__(self, case: Case, whole: QuantisedModel, seen: Dataset) -> None:
        self._case, self._whole, self._source, self._ranges = case, whole, whole.source, whole.ranges
        source = whole.source
        self._effort = int8_effort(case.request)
        sample = seen.sample(self._effort.sampled, np.random.default_rng(case.request.seed))
        self._evaluator = Evaluator(source.opened, sample, case.request.seed)
        sizes = {i.name: i.used_shape for i in source.opened.shapes.inputs if is_full(i.used_shape)}
        self.layers, self._borders = find_layers(source.plain, source.nodes, sizes)
        self._errors: dict[Part, float] = {}
        self._times: dict[Layers, float] = {}
        self._parts: list[Part] = []
        self._scale = 1.0

    @property
    def count(self) -> int:
        return len(self.layers)

    def nodes(self, layers: Layers) -> list[str]:
        """Names of the nodes of some layers."""
        return [name for place in sorted(layers) for name in self.layers[place].nodes]

    def made(self, layers: Layers, ranges: str) -> OpenedModel:
        """The model with these layers in INT8."""
        if len(layers) == self.count and ranges == self._ranges:
            return self._whole.opened
        return self._source.quantised(ranges, self.nodes(layers))

    def measure(self) -> bool:
        """Measure parts, and halve those that err most as long as there is time; whether any of them errs."""
        start, progress = perf_counter(), self._case.request.progress
        every = self._looked_at(frozenset(range(self.count)))
        whole = perf_counter() - start
        # A model with a single part in INT8 is made in far less time than one with all.
        single = self.count <= self._effort.parts and whole * self.count / 2 <= LONGEST
        self._parts = even_parts(self.count, self.count if single else self._effort.first_parts)
        most = min(self._effort.parts, 2 * self.count)
        minutes = round(min(most * whole / 2, LONGEST) / 60)
        stage = "Float or INT8 by layers" + (f" (some {minutes} min)" if minutes > 1 else "")
        done = 0
        # A part of a detector erred two thousand times as much alone as everything together: it would hide the others.
        for part in self._parts:
            progress(stage, done, most)
            self._errors[part] = min(self._looked_at(layers_of([part])), every)
            done += 1
        while done + 2 <= most and perf_counter() - start < LONGEST:
            splittable = [part for part in self._parts if part[1] - part[0] > 1]
            if not splittable:
                break
            progress(stage, done, most)
            worst = max(splittable, key=lambda part: self._errors[part])
            both = halves(worst)
            for part in both:
                self._errors[part] = min(self._looked_at(layers_of([part])), every)
            place = self._parts.index(worst)
            self._parts[place : place + 1] = both
            done += 2
        progress(stage, most, most)
        self._look_at_many()
        total = sum(self._errors[part] for part in self._parts)
        self._scale = every / total if total > 0 else 1.0
        return total > 0

    def plans(self, limits: Sequence[float], floating: Collection[str]) -> list[Layers]:
        """Layers to compute in INT8, a few choices: all of them, and the fastest within several errors."""
        outputs = {node.name: node.outputs for node in self._source.nodes}
        without = [
            place
            for place, layer in enumerate(self.layers)
            if not any(output in floating for name in layer.nodes for output in outputs[name])
        ]
        total = self._scale * sum(self._errors[part] for part in self._parts)
        found = [self.within(limit) for limit in (*limits, *(share * total for share in _SHARES))]
        every = frozenset(range(self.count))
        kept = without_islands(self._borders, frozenset(without))
        return [layers for layers in dict.fromkeys([every, kept, *found]) if layers][: self._effort.plans]

    def within(self, limit: float) -> Layers:
        """Layers to compute in INT8 for the least time with so much error, as predicted."""
        errors = {part: self._errors[part] for part in self._parts}
        return without_islands(self._borders, fastest_within(self._gains, self._borders, errors, limit / self._scale))

    def predicted(self, layers: Layers) -> float:
        """The time of a mixture, as a share of the original's."""
        return self._plain_share * predicted_time(self._gains, self._borders, layers)

    def timed(self, model: OpenedModel) -> float | None:
        """The same, measured; None where nothing is timed."""
        if not self._case.request.measure.latency:
            return None
        return self._ratio(runnable(self._case.opened.model), runnable(model.model), _WHOLE)

    @cached_property
    def _plain_share(self) -> float:
        """Time of the simplified model without INT8, as a share of the original's."""
        if not self._case.request.measure.latency:
            return 1.0
        return self._ratio(runnable(self._case.opened.model), self._source.plain, _WHOLE)

    def _ratio(self, before: bytes, after: bytes, effort: Effort) -> float:
        measure = self._case.request.measure
        engine = find_engine(measure.devices[0], measure.threads)
        share = self._effort.timed
        rounds = max(3, round(share * effort.fewest_rounds))
        effort = replace(effort, seconds=share * effort.seconds, fewest_rounds=rounds)
        first, second = time_interleaved([engine.load(model, self._feeds) for model in (before, after)], effort)
        return ratio_in_rounds(second, first)

    def _look_at_many(self) -> None:
        """Time every other part in INT8, and the others: where types change often, it shows what that costs."""
        if not self._case.request.measure.latency or len(self._parts) < 3:
            return
        for first in (0, 1):
            layers = layers_of(self._parts[first::2])
            self._times[layers] = self._ratio(
                self._source.plain, runnable(self.made(layers, self._ranges).model), _PART
            )

    def _looked_at(self, layers: Layers) -> float:
        """Error of a model with these layers in INT8 against itself in floating point; its time is kept."""
        model = self.made(layers, self._ranges)
        error = worst_error(self._evaluator(model)[0])
        if self._case.request.measure.latency:
            self._times[layers] = self._ratio(self._source.plain, runnable(model.model), _PART)
        return _RUINED if error is None or np.isnan(error) else error

    @cached_property
    def _gains(self) -> Times:
        if self._times:
            return fit_times(self._parts, self._borders, self._times)
        macs = {part: sum(self.layers[layer].macs for layer in layers_of([part])) for part in self._parts}
        total = sum(macs.values()) or 1
        return Times({part: (_INT8_SHARE - 1) * count / total for part, count in macs.items()}, 0.0)

    @cached_property
    def _feeds(self) -> Mapping[str, NDArray[Any]]:
        case = self._case
        return feeds_to_time(case.opened, case.sample, np.random.default_rng(case.request.seed))

"""Turn versions of a model into INT8, with the ranges that err least on inputs that nothing was fitted to."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from sepconvert.data import Dataset
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.joined import values_behind_parts
from sepconvert.graph.load import load_bytes
from sepconvert.record import Latency
from sepconvert.verify.integers import check_integers
from sepconvert.workflows.describe import worst_error
from sepconvert.workflows.effort import int8_effort, refit_settings
from sepconvert.workflows.fit import Applied, apply_fits
from sepconvert.workflows.measure import Evaluator
from sepconvert.workflows.mixing import Mixing, Start
from sepconvert.workflows.opened import CHECKED, Case, OpenedModel
from sepconvert.workflows.quantisable import QuantisedModel, quantisable

TRIED = 2
"""Ways to find ranges that are tried again for later versions of a model: those that erred least in the first."""
LONGEST = 1800.0
"""Seconds that fitting again for rounding may take, over all plans; a fit that would end later is not begun."""
NOT_REFITTED = (
    "A plan was not fitted again for INT8, because that had taken {spent:.0f} minutes for those before; give fewer "
    "inputs in --data to shorten it."
)
SAMPLES = 2
"""Inputs on which each layer is held to what rounding allows."""


class Quantiser:
    """Makes INT8 models; all of one case take their ranges from the same inputs and are judged on the same others."""

    def __init__(self, case: Case) -> None:
        """Hold out as many inputs as a budget on the error does, and the same ones."""
        assert case.calibration is not None
        self._case, self._effort = case, int8_effort(case.request)
        rng, whole = np.random.default_rng(case.request.seed), case.calibration
        enough = whole.count >= 2 * (whole.batch or 1)
        seen, self.checked = whole.split(CHECKED, rng) if enough else (whole, whole)
        self._tail = values_behind_parts(case.opened.model, case.opened.shapes)
        self._evaluator = Evaluator(case.opened, self.checked, case.request.seed)
        self._fitted, self._seen = seen, seen.sample(self._effort.inputs, rng)
        self._refits: list[float] = []
        self._methods: list[str] = []
        self.warnings: list[str] = []

    def quantise_fitted(self, fit: NetworkFit, applied: Applied, floating: Collection[str] = ()) -> QuantisedModel:
        """Return a rewritten model in INT8; its weights are fitted again for rounding where that errs less.

        Random weights stay as they are. Of weights trained in floating point, those that they were trained from are
        fitted again. ``floating`` and errors as for ``quantise``.
        """
        from sepconvert.fitting.int8_refit import refit_quantised
        from sepconvert.runtime.quantise import types_here

        plain, case, request = self.quantise(applied.opened, floating), self._case, self._case.request
        if not fit.rewritten or applied.folded or request.planning.init == "random":
            return plain
        if self._refits and sum(self._refits) + self._refits[-1] > LONGEST:
            self.warnings.append(NOT_REFITTED.format(spent=sum(self._refits) / 60))
            return plain
        rng, start = np.random.default_rng(request.seed), perf_counter()
        again = refit_quantised(
            case.opened.model,
            fit,
            self._fitted,
            types_here(),
            rng=rng,
            settings=refit_settings(request),
            floating=self._tail.union(floating),
            progress=request.progress,
        )
        self._refits.append(perf_counter() - start)
        fitted = apply_fits(case.opened, again, request.seed).opened
        aware = replace(self.quantise(fitted, floating), refitted=True)
        return min(plain, aware, key=lambda made: or_infinite(made.error))

    def quantise(self, opened: OpenedModel, floating: Collection[str] = ()) -> QuantisedModel:
        """Return a version of the model in INT8, wherever it can compute so.

        Nodes of which an output is among ``floating`` are left as they are, and so is what stands between the model's
        outputs and what they are judged by.

        Raises:
            ModelError: nothing of it can, or onnxruntime's quantiser gives up.
        """
        methods, progress = self._methods[:TRIED] or self._effort.methods, self._case.request.progress
        source = quantisable(opened, self._seen, self._tail.union(floating), methods, progress)
        made = {method: source.quantised(method, source.names) for method in source.ranges}
        errors = {method: self.error(model, self.checked) for method, model in made.items()}
        ranked = sorted(errors, key=lambda name: or_infinite(errors[name]))
        self._methods, method = self._methods or ranked, ranked[0]
        integer, rest = source.precisions(source.names)
        return QuantisedModel(made[method], integer, rest, method, errors[method], source)

    def mixing(self, made: QuantisedModel, floating: Collection[str] = ()) -> Mixing:
        """Return what tells which layers of the model INT8 serves least, and leaves them in floating point.

        Where ``floating`` were left out of it, they may come back in.
        """
        whole = replace(self.quantise(made.source.opened), refitted=made.refitted) if floating else made
        return Mixing(self._case, whole, lambda opened: self.error(opened, self.checked), self._seen)

    def checked_layers(self, quantised: QuantisedModel) -> QuantisedModel:
        """Return the model with the verdict on its layers, which are held to the rounding that their scales allow.

        Raises:
            VerificationError: a layer is off by more: a bug.
        """
        samples = list(self.checked.first(SAMPLES).batches())
        source, made = quantised.source, quantised.opened.model
        check = check_integers(load_bytes(bytes(source.plain)), made, source.ranges[quantised.ranges], samples)
        return replace(quantised, check=check if check.sites else None)

    def error(self, opened: OpenedModel, dataset: Dataset | None) -> float | None:
        """The worst output's decisive error against the original; None where it is not known."""
        case = self._case
        if self._evaluator.dataset is not dataset:
            self._evaluator = Evaluator(case.opened, dataset, case.request.seed)
        return worst_error(self._evaluator(opened, case.request.progress)[0])


@dataclass(frozen=True, slots=True)
class Int8:
    """What INT8 gives by itself, and how to make it.

    ``start`` is what a rewrite in INT8 starts from. ``speedup`` is of the original in INT8 against the original, on the
    first device; 1 where nothing is measured. ``timed`` is that measurement. ``planned`` says whether plans are made as
    things are in INT8, ``warnings`` why not. ``seconds`` is how long it took to find out.
    """

    quantiser: Quantiser
    alone: QuantisedModel
    start: Start
    speedup: float
    planned: bool
    seconds: float
    warnings: tuple[str, ...] = ()
    timed: Latency | None = None

    @property
    def floating(self) -> frozenset[str]:
        """Outputs of nodes that stay in floating point where layers are rewritten, also after scales were folded."""
        return self.start.floating


def or_infinite(error: float | None) -> float:
    """An error to compare by: what is not known, or no number, is the worst."""
    return np.inf if error is None or np.isnan(error) else error

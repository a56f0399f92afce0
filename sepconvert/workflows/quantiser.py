"""Turn versions of a model into INT8, with the ranges that err least on inputs that nothing was fitted to."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np

from sepconvert.data import Dataset
from sepconvert.errors import ModelError
from sepconvert.fitting.ranges import find_ranges
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.count import count_totals
from sepconvert.graph.load import load_bytes
from sepconvert.graph.notation import is_full
from sepconvert.graph.save import runnable
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.survey import Survey
from sepconvert.record import Latency
from sepconvert.workflows.describe import worst_error
from sepconvert.workflows.fit import Applied, apply_fits
from sepconvert.workflows.measure import measure_fidelity
from sepconvert.workflows.opened import CHECKED, Case, OpenedModel, QuantisedModel

SEEN = 256
"""Inputs that ranges are found on."""


class Quantiser:
    """Makes INT8 models; all of one case take their ranges from the same inputs and are judged on the same others."""

    def __init__(self, case: Case) -> None:
        """Hold out as many inputs as a budget on the error does, and the same ones."""
        assert case.calibration is not None
        self._case = case
        rng, whole = np.random.default_rng(case.request.seed), case.calibration
        enough = whole.count >= 2 * (whole.batch or 1)
        seen, self.checked = whole.split(CHECKED, rng) if enough else (whole, whole)
        self._fitted, self._seen = seen, seen.sample(SEEN, rng)

    def quantise_fitted(self, fit: NetworkFit, applied: Applied) -> QuantisedModel:
        """Return a rewritten model in INT8; its weights are fitted again for rounding where that errs less.

        Random and trained weights stay as they are. Raises as ``quantise``.
        """
        from sepconvert.fitting.int8_refit import refit_quantised
        from sepconvert.runtime.quantise import types_here

        plain, case, request = self.quantise(applied.opened), self._case, self._case.request
        if not fit.rewritten or applied.folded or request.planning.init == "random" or request.fine_tune is not None:
            return plain
        rng = np.random.default_rng(request.seed)
        again = refit_quantised(case.opened.model, fit, self._fitted, types_here(), rng=rng, progress=request.progress)
        aware = replace(self.quantise(apply_fits(case.opened, again, request.seed).opened), refitted=True)
        return min(plain, aware, key=lambda made: or_infinite(made.error))

    def quantise(self, opened: OpenedModel) -> QuantisedModel:
        """Return a version of the model in INT8, wherever it can compute so.

        Raises:
            ModelError: nothing of it can, or onnxruntime's quantiser gives up.
        """
        from sepconvert.runtime.quantise import quantisable_nodes, quantised, types_here
        from sepconvert.runtime.simplify import simplified

        source = runnable(opened.model)
        plain = simplified(source)
        nodes = quantisable_nodes(plain)
        if not nodes:
            raise ModelError(f"{opened.model.label} has no layer that can compute in INT8; leave --int8 away.")
        values = list(dict.fromkeys(value for node in nodes for value in node.values))
        found = find_ranges(plain, values, self._seen, progress=self._case.request.progress)
        names = [node.name for node in nodes]
        made = {
            method: opened_quantised(quantised(plain, ranges, names, types_here()), opened)
            for method, ranges in found.items()
        }
        errors = {method: self.error(model, self.checked) for method, model in made.items()}
        method = min(errors, key=lambda name: or_infinite(errors[name]))
        integer, floating = _precisions(source, plain, names)
        return QuantisedModel(made[method], integer, floating, method, errors[method])

    def error(self, opened: OpenedModel, dataset: Dataset | None) -> float | None:
        """The worst output's decisive error against the original; None where it is not known."""
        case = self._case
        fidelity, _ = measure_fidelity(case.opened, opened, dataset, case.request.seed, case.request.progress)
        return worst_error(fidelity)


@dataclass(frozen=True, slots=True)
class Int8:
    """What INT8 gives by itself, and how to make it.

    ``speedup`` is of the original in INT8 against the original, on the first device; 1 where nothing is measured.
    ``timed`` is that measurement. ``planned`` says whether plans are made as things are in INT8, ``warnings`` why not.
    """

    quantiser: Quantiser
    alone: QuantisedModel
    speedup: float
    planned: bool
    warnings: tuple[str, ...] = ()
    timed: Latency | None = None


def or_infinite(error: float | None) -> float:
    """An error to compare by: what is not known, or no number, is the worst."""
    return np.inf if error is None or np.isnan(error) else error


def opened_quantised(model: bytes, source: OpenedModel) -> OpenedModel:
    """Open a model in INT8 as far as figures are made of it."""
    loaded = load_bytes(model)
    sizes = {info.name: info.used_shape for info in source.shapes.inputs if is_full(info.used_shape)}
    shapes = infer_shapes(loaded, sizes)
    totals = replace(count_totals(loaded, shapes, ()), site_macs=source.totals.site_macs)
    loaded = replace(loaded, name=source.model.name, path=source.model.path, data_files=source.model.data_files)
    return OpenedModel(loaded, shapes, Survey((), ()), totals)


def _precisions(source: bytes, plain: bytes, chosen: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Outputs of the source's nodes that compute in INT8, and of those that do not; nodes keep their names."""
    from sepconvert.runtime.simplify import node_names

    left = set(node_names(plain).values())
    names = {output: _name_left(name, left) for output, name in node_names(source).items()}
    integer = frozenset(output for output, name in names.items() if name in chosen)
    return integer, frozenset(output for output, name in names.items() if name is not None) - integer


def _name_left(name: str, left: Collection[str]) -> str | None:
    """What onnxruntime calls a node now: where it joins a product and a sum, it adds to the product's name."""
    return name if name in left else next((other for other in left if other.startswith(f"{name}/")), None)

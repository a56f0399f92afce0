"""Fit a network again for integers, layer after layer, on what the network of integers feeds each.

The same walk as in ``refit``, but the second stream computes in integers: parts of the network are quantised as they
are opened, with ranges measured on what they are fed. So later layers make up for the rounding of earlier ones too.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.fitting.int8_fit import settle_rounded
from sepconvert.fitting.layers import constant_bias, fits_memory, refittable_layers
from sepconvert.fitting.refit import RefitSettings, Walk
from sepconvert.fitting.results import NetworkFit, SiteFit, SitePlan
from sepconvert.fitting.sampling import SiteSample
from sepconvert.fitting.select import SiteData
from sepconvert.fitting.streams import Stream
from sepconvert.graph.layer_weights import read_kernel
from sepconvert.graph.load import LoadedModel, load_bytes
from sepconvert.graph.parts import extract
from sepconvert.graph.save import runnable
from sepconvert.graph.shapes import Shapes, infer_shapes
from sepconvert.graph.sites import LINEAR, POINTWISE, ConvSite
from sepconvert.graph.survey import survey
from sepconvert.progress import Progress, silent
from sepconvert.runtime.quantise import IntegerTypes, Range, quantisable_nodes, quantised
from sepconvert.runtime.sessions import Arrays, Session, open_session
from sepconvert.runtime.simplify import simplified

RANGE_INPUTS = 256
"""Inputs on which the ranges of a part are measured."""
_FLOAT_BITS = 24
"""Of the fraction of a number in floating point."""


def refit_quantised(
    model: LoadedModel,
    fit: NetworkFit,
    dataset: Dataset,
    types: IntegerTypes,
    *,
    rng: np.random.Generator,
    settings: RefitSettings | None = None,
    floating: frozenset[str] = frozenset(),
    progress: Progress = silent,
) -> NetworkFit:
    """Fit all layers of a network again that is to compute in integers.

    Args:
        model: the original, which stays as it is and gives the targets.
        fit: what became of its sites in floating point; an empty one where nothing is rewritten.
        dataset: unlabelled inputs.
        types: how numbers become integers.
        rng: decides which inputs are held out and which positions are sampled.
        settings: see ``RefitSettings``.
        floating: outputs of nodes that stay in floating point.
        progress: told of every layer.

    Returns:
        The same schemes with other factors, and other kernels and biases of dense layers.
    """
    shapes = infer_shapes(model, dataset.shapes())
    if dataset.count < 2 * (dataset.batch or 1):
        return fit
    chosen = settings or RefitSettings()
    layers = _layers(model, fit, shapes, chosen.memory_budget)
    found = _QuantisedWalk(model, layers, types, chosen, floating, rng, progress).run(dataset, shapes)
    return replace(found, warnings=tuple(dict.fromkeys((*fit.warnings, *found.warnings))))


def _layers(model: LoadedModel, fit: NetworkFit, shapes: Shapes, memory_budget: int) -> list[SiteFit]:
    """Every layer whose weight can be replaced by another without another node, in the graph's order."""
    free = {layer.output for layer in refittable_layers(model, shapes)}

    def is_open(site: ConvSite) -> bool:
        return (site.output in free or site.layer not in (POINTWISE, LINEAR)) and fits_memory(site, memory_budget)

    every = survey(model, shapes).sites
    return [fit.sites.get(site.output, SiteFit(site)) for site in every if site.output in fit.sites or is_open(site)]


class _QuantisedWalk(Walk):
    """The second stream computes in integers."""

    _changes_all = True

    def __init__(
        self,
        model: LoadedModel,
        fits: Sequence[SiteFit],
        types: IntegerTypes,
        settings: RefitSettings,
        floating: frozenset[str],
        rng: np.random.Generator,
        progress: Progress,
    ) -> None:
        plans = [SitePlan(fit.site, () if fit.scheme is None else (fit.scheme,)) for fit in fits]
        super().__init__(model, plans, settings, rng, progress)
        self._fits = {fit.site.output: fit for fit in fits}
        self._types, self._floating = types, floating

    def _settle(self, plan: SitePlan, row_scale: NDArray[np.float64], sample: SiteSample) -> SiteFit:
        weight = read_kernel(self._model, plan.site).astype(np.float64)
        seen = SiteData(plan.site, weight, constant_bias(self._model, plan.site), row_scale, sample)
        known, bits = self._fits[plan.site.output], self._types.weight_bits
        if known.factors is None and plan.site.product in self._floating:
            bits = _FLOAT_BITS
        return settle_rounded(known, seen, bits)

    def _unfitted(self, plans: Sequence[SitePlan], why: str) -> NetworkFit:
        left = {plan.site.output: self._fits[plan.site.output] for plan in plans}
        return NetworkFit(left, (f"{len(left)} layers were not fitted for integers: {why}.",))

    def _session(self, part: LoadedModel, stream: Stream) -> Session:
        if stream is self._original:
            return super()._session(part, stream)
        plain = simplified(runnable(part))
        nodes = quantisable_nodes(plain, self._floating)
        if not nodes:
            return super()._session(part, stream)
        values = list(dict.fromkeys(value for node in nodes for value in node.values))
        ranges = _extremes(load_bytes(bytes(plain)), values, stream, self._feeds(stream))
        made = quantised(plain, ranges, [node.name for node in nodes], self._types)
        return open_session(made, threads=self._settings.threads, arena=False)

    def _feeds(self, stream: Stream) -> Iterator[Arrays]:
        """Live values of a few batches that are fitted to."""
        seen, names = 0, list(stream.held[0])
        for index, batch in enumerate(self._batches):
            if batch.heldout or seen >= RANGE_INPUTS:
                continue
            seen += batch.samples
            yield stream.run(None, names, index)


def _extremes(part: LoadedModel, values: Sequence[str], stream: Stream, batches: Iterator[Arrays]) -> dict[str, Range]:
    """Lowest and highest value of each of ``values`` on some batches of a stream."""
    fed: Set[str] = {str(value.name) for value in part.ir.graph.inputs}
    computed = [name for name in values if name not in fed]
    types = {name: kind for name, kind in stream.types().items() if name in fed}
    session = open_session(runnable(extract(part, types, computed)), threads=1)
    found: dict[str, Range] = dict.fromkeys(values, (np.inf, -np.inf))
    for live in batches:
        here = live | session.run({info.name: live[info.name] for info in session.inputs}, computed)
        for name in values:
            low, high = found[name]
            found[name] = min(low, float(here[name].min())), max(high, float(here[name].max()))
    return found

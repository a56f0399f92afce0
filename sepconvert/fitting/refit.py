"""Sequential asymmetric reconstruction: site after site, each fitted to what the rewritten network really feeds it.

Two streams advance through the graph, the original and the rewritten one. At each site the original stream gives the
target and the rewritten one the inputs (Zhang et al., "Accelerating Very Deep Convolutional Networks", TPAMI 2015), so
that later sites make up for the errors of earlier ones. Only live values are carried from site to site, so the work of
each stream is about one forward pass, however deep the network is.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.errors import ModelError
from sepconvert.fitting.input_counts import too_few_inputs
from sepconvert.fitting.layers import constant_bias, with_dense_layers
from sepconvert.fitting.random_start import settle_drawn
from sepconvert.fitting.results import NetworkFit, SiteFit, SitePlan
from sepconvert.fitting.sampling import COHERENT, Sampling, SiteSample
from sepconvert.fitting.select import RIDGES, SiteData
from sepconvert.fitting.site import settle_site, without_data
from sepconvert.fitting.sizes import batch_size, value_sizes
from sepconvert.fitting.spool import Spool, give_back
from sepconvert.fitting.streams import Stream, StreamBatch, share_of, start_stream
from sepconvert.fitting.targets import SiteTarget, find_targets, pooled_scale
from sepconvert.graph.heads import answers_per_input
from sepconvert.graph.layer_weights import read_kernel
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.parts import NewKernel, with_kernels
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.save import runnable
from sepconvert.graph.segments import Segment, plan_segments
from sepconvert.graph.shapes import Shapes, infer_shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.ties import in_graph_order
from sepconvert.progress import Progress, milestones, silent
from sepconvert.runtime.sessions import Session, open_session
from sepconvert.separable.fitted import fit_work
from sepconvert.separable.forms import lowerings


@dataclass(frozen=True, slots=True)
class RefitSettings:
    """How to fit.

    Attributes:
        heldout: share of the inputs that are not fitted to but choose form and ridge.
        asks_for_inputs: whether it is said that more inputs would help; not where only few were to be looked at.
        ridges: the grid of λ, ascending.
        sampling: how many positions to look at.
        memory_budget: bytes that a site's moments may take; half as many live values are kept in memory, the rest in a
            temporary folder.
        threads: of the runtime.
        evaluations: that a fit may take; None for as many as are worth it.
    """

    heldout: float = 0.2
    asks_for_inputs: bool = True
    ridges: tuple[float, ...] = RIDGES
    sampling: Sampling = field(default_factory=Sampling)
    memory_budget: int = 2 << 30
    threads: int = 1
    evaluations: int | None = None


def refit(
    model: LoadedModel,
    plans: Sequence[SitePlan],
    dataset: Dataset,
    *,
    rng: np.random.Generator,
    settings: RefitSettings | None = None,
    progress: Progress = silent,
) -> NetworkFit:
    """Fit every site of a model to calibration inputs.

    Layers that are no sites (pointwise Convs, Gemms, MatMuls) are refitted too where that makes up for errors of the
    sites before them: it costs nothing at inference time.

    Args:
        model: stays as it is.
        plans: sites in the graph's order with their schemes; those without schemes stay dense and are
            refitted like layers that are no sites.
        dataset: unlabelled inputs.
        rng: decides which inputs are held out and which positions are sampled.
        settings: see ``RefitSettings``.
        progress: told of every site.
    """
    chosen = settings or RefitSettings()
    if dataset.count < 2 * (dataset.batch or 1):
        why = f"{dataset.count} calibration input(s) are too few to hold one out"
        return _all_without_data(model, plans, rng, why)
    shapes = infer_shapes(model, dataset.shapes())
    layers = with_dense_layers(model, plans, shapes, chosen.memory_budget)
    walk = Walk(model, layers, chosen, rng, progress)
    return walk.run(dataset, shapes)


class Walk:
    """The streams' way from the first site to the last."""

    _changes_all = False  # whether the second stream differs from the first even before a site is settled

    def __init__(
        self,
        model: LoadedModel,
        plans: Sequence[SitePlan],
        settings: RefitSettings,
        rng: np.random.Generator,
        progress: Progress,
    ) -> None:
        self._model, self._settings, self._rng = model, settings, rng
        self._progress = progress
        # A weight that several layers share stays where it is not rewritten: it has no kernel of its own to refit.
        self._plans = [plan for plan in plans if plan.schemes or not plan.site.others]
        self._here = model  # the model as far as it is rewritten by now
        self._targets = find_targets(model, in_graph_order(model, [plan.site for plan in self._plans]))
        self._coherent = 0.0
        self._found: dict[str, SiteFit] = {}
        self._seconds: dict[str, float] = {}
        self._batches: tuple[StreamBatch, ...] = ()
        self._original: Stream | None = None

    def run(self, dataset: Dataset, shapes: Shapes) -> NetworkFit:
        """Settle all sites."""
        fitted, heldout = dataset.split(self._settings.heldout, self._rng)
        size = value_sizes(shapes)
        self._coherent = COHERENT if answers_per_input(self._model, shapes) else 0.0
        with self._timed("plan"):
            segments = plan_segments(self._model, [target.stop for target in self._targets], size)
        sites = [plan.site for plan in self._plans if plan.schemes] if self._settings.asks_for_inputs else []
        warnings = list(too_few_inputs(sites, fitted.count))
        with Spool(self._settings.memory_budget // 2) as spool:
            original, self._batches = start_stream(spool, fitted, heldout, batch_size(shapes, size))
            try:
                self._walk(original, segments)
            except ModelError as error:
                left = [plan for plan in self._plans if plan.site.output not in self._found]
                rest = self._unfitted(left, str(error))
                self._found |= rest.sites
                warnings += rest.warnings
        return NetworkFit(self._found, tuple(warnings), self._seconds, spool.peak_bytes, spool.spilled_bytes)

    def _unfitted(self, plans: Sequence[SitePlan], why: str) -> NetworkFit:
        """What becomes of sites that the streams did not reach."""
        return _all_without_data(self._model, plans, self._rng, why)

    def _walk(self, original: Stream, segments: Sequence[Segment]) -> None:
        """Settle site after site; ``original`` starts at the model's inputs."""
        self._advance(original, self._model, segments[0].before)
        rewritten = original.fork()
        plans = {plan.site.output: plan for plan in self._plans}
        self._original, changed = original, self._changes_all
        due = [plans.get(segment.site) for segment in segments]
        works = [fit_work(plan.site.geometry) if plan is not None and plan.schemes else 0.0 for plan in due]
        *before, end = milestones(works)
        for done, plan, target, segment in zip(before, due, self._targets, segments, strict=True):
            self._progress(f"Fit: {target.site.name}", done, end)
            if not changed and plan is not None and not plan.schemes:
                self._found[segment.site] = SiteFit(plan.site)
                self._advance(original, self._model, segment.after)
                rewritten.close()
                rewritten = original.fork()
                continue
            if plan is None:  # a further use of a weight that is settled
                self._advance(original, self._model, segment.after)
            else:
                self._found[segment.site] = self._fit(plan, original, rewritten, segment)
                changed = True
            self._advance(rewritten, self._here, segment.after)
            give_back()
        self._progress("Fit", end, end)

    def _fit(self, plan: SitePlan, original: Stream, rewritten: Stream, segment: Segment) -> SiteFit:
        """Settle a site, and put it into the model that the rewritten stream runs."""
        targets = [target for target in self._targets if target.site.output in plan.site.outputs]
        sample = self._observe(plan.site, original, rewritten, segment, targets)
        with self._timed("fit"):
            result = self._settle(plan, pooled_scale(targets), sample)
        self._here = _with_fit(self._here, result)
        return result

    def _advance(self, stream: Stream, model: LoadedModel, after: Sequence[str]) -> None:
        """Move a stream of a model on to the values ``after``; () after the last site."""
        if after:
            with self._timed("run"):
                stream.advance(self._open(stream, model, after), after)

    def _observe(
        self, site: ConvSite, original: Stream, rewritten: Stream, segment: Segment, targets: Sequence[SiteTarget]
    ) -> SiteSample:
        """Collect a site's patches; the original stream moves on to the values after it, the rewritten one stays.

        Of a weight that several layers share, all see to it now; those between them that are not settled yet are as in
        the original.
        """
        weight = read_kernel(self._model, site).astype(np.float64)
        sample = SiteSample(site.geometry, self._settings.memory_budget, self._coherent, weight)
        needs = list(dict.fromkeys(name for target in targets for name in target.stop.needs))
        besides = [name for target in targets for name in (target.site.output, *target.stop.needs[1:])]
        ahead = list(dict.fromkeys([*segment.after, *besides]))
        with self._timed("run"):
            truth_part, here_part = self._open(original, self._model, ahead), self._open(rewritten, self._here, needs)
        for index, batch in enumerate(self._batches):
            with self._timed("run"):
                here = rewritten.run(here_part, needs, index)
                truth = original.run(truth_part, ahead, index)
                original.settle(index, truth, segment.after)
            with self._timed("moments"):
                wanted = self._settings.sampling.wanted(site.geometry, heldout=batch.heldout) / len(targets)
                share = share_of(wanted, batch, self._batches)
                for target in targets:
                    sample.add(
                        target.sight(here), target.corrected(truth, here), share, self._rng, heldout=batch.heldout
                    )
        return sample

    def _settle(self, plan: SitePlan, row_scale: NDArray[np.float64], sample: SiteSample) -> SiteFit:
        weight, bias = _weight(self._model, plan), constant_bias(self._model, plan.site)
        seen = SiteData(plan.site, weight, bias, row_scale, sample, self._settings.evaluations)
        if plan.start is not None:
            return settle_drawn(plan, seen, plan.start)
        return settle_site(plan, seen, self._settings.ridges, self._rng)

    def _open(self, stream: Stream, model: LoadedModel, names: Sequence[str]) -> Session | None:
        """Open the part of a model that computes ``names`` from a stream's live values; None if all are live."""
        part = stream.part(model, names)
        return None if part is None else self._session(part, stream)

    def _session(self, part: LoadedModel, stream: Stream) -> Session:  # noqa: ARG002 - for walks that compute otherwise
        return open_session(runnable(part), threads=self._settings.threads, arena=False)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self._seconds[stage] = self._seconds.get(stage, 0.0) + perf_counter() - start


def _all_without_data(model: LoadedModel, plans: Sequence[SitePlan], rng: np.random.Generator, why: str) -> NetworkFit:
    sites = {plan.site.output: without_data(plan, _weight(model, plan), rng, why) for plan in plans}
    count = sum(bool(plan.schemes) for plan in plans)
    return NetworkFit(sites, (f"{count} site(s) were not fitted to data: {why}.",))


def _weight(model: LoadedModel, plan: SitePlan) -> NDArray[np.float64]:
    return read_kernel(model, plan.site).astype(np.float64)


def _with_fit(model: LoadedModel, result: SiteFit) -> LoadedModel:
    """A model with what stands in a settled site's place: its chain costs less to run than the kernel it amounts to."""
    factors, kernel = result.factors, result.kernel
    if factors is not None:
        lowering = lowerings(factors.form, factors.rank, factors.groups)[0]
        return rewrite_model(model, [Replacement(result.site, factors, lowering, result.bias)]).model
    return model if kernel is None else with_kernels(model, [NewKernel(result.site, kernel, result.bias)])

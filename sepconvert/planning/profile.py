"""What every site would lose at each rank, and what the network would make of it, from calibration data.

One stream of inputs walks the original network from site to site. At each, patch moments are collected, every form is
fitted at three or four ranks (whitened start, a few steps, each rank started from the last one's factors), and the fit
nearest to a typical error perturbs the site to measure the network's sensitivity. Fits here only rank candidates: the
chosen ones are fitted again, properly, to what the rewritten network feeds them.

Sites do not depend on each other, so joblib spreads them over processes, or over machines where the caller has chosen
a distributed backend (``joblib.parallel_config``).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.fitting.sampling import Judge, Sampling, SiteSample
from sepconvert.fitting.sizes import value_sizes
from sepconvert.fitting.spool import Spool
from sepconvert.fitting.streams import Batch, Stream, start_stream
from sepconvert.fitting.targets import Target, find_targets
from sepconvert.graph.heads import pre_activations
from sepconvert.graph.instrument import ValueType, extract, serialise
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.segments import Segment, Stop, plan_segments
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.single import Surroundings
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.weights import numpy_dtype, read_constant
from sepconvert.planning.candidates import BOTTLENECK_FORMS, prune_by_model, rank_ladder, site_candidates
from sepconvert.planning.damage import ErrorCurve, SiteProfile, profile_weights, spread_ranks
from sepconvert.planning.sensitivity import Replay, cut_behind, measure_sensitivity
from sepconvert.planning.uniform import Candidate
from sepconvert.progress import Progress, silent
from sepconvert.runtime.sessions import Arrays, Session, open_session
from sepconvert.separable.factors import Factors
from sepconvert.separable.fitted import fit
from sepconvert.separable.forms import FORMS
from sepconvert.separable.moments import PatchMoments, fitted_bias
from sepconvert.separable.problem import Problem, make_problem

# Sensitivity is measured with the fit whose error is nearest to this one: large enough to be seen through rounding,
# small enough for the network to answer in proportion.
TYPICAL_ERROR = 0.02


@dataclass(frozen=True, slots=True)
class ProfileEffort:
    """How much to look at: ``inputs`` for moments, ``replayed`` of them for sensitivities, ``ranks`` per form."""

    inputs: int = 96
    replayed: int = 8
    batch: int = 8
    ranks: int = 3
    evaluations: int = 3
    ridge: float = 0.03
    heldout: float = 0.25
    sampling: Sampling = field(
        default_factory=lambda: Sampling(per_term=2.0, least=8_000, heldout_per_term=0.5, heldout_least=2_000)
    )
    memory_budget: int = 2 << 30


@dataclass(frozen=True, slots=True)
class SiteTask:
    """One site's share of the work; it can be sent to another process."""

    weight: NDArray[np.float64]
    moments: PatchMoments
    judge: Judge
    ranks: Mapping[str, tuple[int, ...]]
    effort: ProfileEffort
    replay: Replay


def profile_network(
    model: LoadedModel,
    sites: Sequence[ConvSite],
    dataset: Dataset,
    forms: Sequence[str],
    *,
    rng: np.random.Generator,
    jobs: int = 1,
    effort: ProfileEffort = ProfileEffort(),
    progress: Progress = silent,
) -> dict[str, SiteProfile]:
    """Profile every site on calibration data.

    Args:
        model: the original; stays as it is.
        sites: in the graph's order.
        dataset: unlabelled inputs, at least two.
        forms: keys of ``FORMS``.
        rng: chooses inputs and positions.
        jobs: processes (as joblib counts them), or tasks at once of the backend the caller has set.
        effort: how much to look at.
        progress: told of every site.

    Returns:
        A profile per site, by its output.
    """
    from joblib import Parallel, delayed

    if not sites:
        return {}
    walk = _Walk(model, sites, forms, effort, rng, progress)
    found = Parallel(n_jobs=jobs)(delayed(profile_site)(task) for task in walk.tasks(dataset))
    return {site.output: profile for site, profile in zip(sites, found, strict=True)}


def profile_site(task: SiteTask) -> SiteProfile:
    """Estimate one site's error curves and the network's sensitivity to it."""
    geometry, effort = task.replay.site.geometry, task.effort
    finite = np.isfinite(task.moments.covariance).all() and np.isfinite(task.moments.mean).all()
    if not finite:
        return profile_weights(task.weight, geometry, list(task.ranks), np.random.default_rng(0))
    problem = make_problem(task.moments, task.weight, geometry, effort.ridge, task.replay.row_scale, asymmetric=False)
    estimates = _Estimates(task, problem)
    for form in sorted(task.ranks, key=lambda name: name not in BOTTLENECK_FORMS):
        estimates.add(form, task.ranks[form])
    kernel = estimates.typical
    return SiteProfile(estimates.curves, None if kernel is None else _sensitivity(task, kernel))


class _Estimates:
    """Error curves of one site, form by form, and the kernel whose error is nearest to ``TYPICAL_ERROR``."""

    def __init__(self, task: SiteTask, problem: Problem) -> None:
        self.curves: dict[str, ErrorCurve] = {}
        self.typical: NDArray[np.float64] | None = None
        self._task = task
        self._problem = problem
        self._distance = np.inf

    def add(self, form: str, ranks: Sequence[int]) -> None:
        """Fit a form at all ranks, each started from the last; or at the middle one only, if it is beaten there."""
        middle = ranks[len(ranks) // 2]
        found = {middle: self._fit(form, middle, None)} if self.curves else {}
        if found and self._beaten(form, middle, found[middle][1]):
            return
        start: Factors | None = None
        for rank in ranks:
            if rank not in found:
                found[rank] = self._fit(form, rank, start)
            start = found[rank][0]
        self.curves[form] = ErrorCurve(tuple(ranks), tuple(found[rank][1] for rank in ranks))

    def _fit(self, form: str, rank: int, start: Factors | None) -> tuple[Factors, float]:
        made = fit(self._problem, form, rank, (), data_free=start, evaluations=self._task.effort.evaluations)
        kernel = made.factors.reconstruct()
        judged = self._task.judge.error(kernel, fitted_bias(self._task.moments, kernel))
        error = made.error if judged is None else judged
        distance = abs(float(np.log(max(error, 1e-12) / TYPICAL_ERROR)))
        if distance < self._distance:
            self._distance, self.typical = distance, kernel
        return made.factors, error

    def _beaten(self, form: str, rank: int, error: float) -> bool:
        """Whether a form that is already known is predicted to lose no more at clearly less cost."""
        geometry = self._task.replay.site.geometry
        known = list(site_candidates(self._task.replay.site, list(self.curves)))
        errors = {(c.form, c.rank): self.curves[c.form].at(c.rank) for c in known} | {(form, rank): error}
        this = Candidate(form, rank, FORMS[form].cost(geometry, rank))
        return this not in prune_by_model([*known, this], errors, geometry)


def _sensitivity(task: SiteTask, kernel: NDArray[np.float64]) -> float | None:
    difference = kernel - task.weight
    shift = -difference.reshape(len(difference), -1) @ task.moments.mean
    return measure_sensitivity(task.replay, difference, shift)


class _Walk:
    """The stream's way from site to site, leaving a task at each."""

    def __init__(
        self,
        model: LoadedModel,
        sites: Sequence[ConvSite],
        forms: Sequence[str],
        effort: ProfileEffort,
        rng: np.random.Generator,
        progress: Progress,
    ) -> None:
        self._model, self._forms, self._effort, self._rng = model, forms, effort, rng
        self._progress = progress
        self._targets = find_targets(model, sites)
        before = pre_activations(model)
        names = [str(value.name) for value in model.ir.graph.outputs]
        self._observed = tuple(dict.fromkeys(before.get(name, name) for name in names))

    def tasks(self, dataset: Dataset) -> Iterator[SiteTask]:
        """Collect data at site after site."""
        effort = self._effort
        used = dataset.sample(effort.inputs, self._rng)
        fitted, heldout = used.split(effort.heldout, self._rng)
        shapes = infer_shapes(self._model, used.shapes())
        segments = plan_segments(self._model, self._stops(), value_sizes(shapes))
        with Spool(effort.memory_budget) as spool:
            stream, batches = start_stream(spool, fitted, heldout, effort.batch)
            replayed = self._replayed(batches)
            expected = self._expected(stream, replayed)
            self._advance(stream, segments[0].before)
            for index, (target, segment) in enumerate(zip(self._targets, segments, strict=False)):
                self._progress(f"Profile: {target.site.name}", index, len(self._targets))
                yield self._task(stream, batches, replayed, expected, target, segment)
            self._progress("Profile", len(self._targets), len(self._targets))
            stream.close()

    def _stops(self) -> list[Stop]:
        """The sites, and behind the last one what the observed values still need."""
        stops = [Stop(target.site.output, (target.site.input,)) for target in self._targets]
        order = [str(value.name) for node in self._model.ir.graph for value in node.outputs]
        behind = sorted(set(self._observed) - {stops[-1].site}, key=order.index)
        if behind and order.index(behind[-1]) > order.index(stops[-1].site):
            return [*stops, Stop(behind[-1], tuple(behind[:-1]))]
        return [*stops[:-1], Stop(stops[-1].site, (*stops[-1].needs, *behind))]

    def _task(
        self,
        stream: Stream,
        batches: Sequence[Batch],
        replayed: Sequence[int],
        expected: Sequence[Arrays],
        target: Target,
        segment: Segment,
    ) -> SiteTask:
        """Collect one site's patches and what its replay needs, and move the stream on."""
        site, effort = target.site, self._effort
        weight = read_constant(self._model, site.weight)
        output = ValueType(numpy_dtype(site.dtype), 2 + len(site.geometry.kernel))
        rest, fed = cut_behind(self._model, site, stream.types(), output, self._observed)
        sample = SiteSample(site.geometry, effort.memory_budget)
        inputs, live = [], []
        names = list(dict.fromkeys([*segment.after, site.input, site.output]))
        part = self._open(stream, names)
        totals = {flag: sum(batch.samples for batch in batches if batch.heldout is flag) for flag in (False, True)}
        for index, batch in enumerate(batches):
            values = stream.run(part, names, index)
            share = effort.sampling.wanted(site.geometry, heldout=batch.heldout) * batch.samples / totals[batch.heldout]
            sample.add(values[site.input], values[site.output], share, self._rng, heldout=batch.heldout)
            if index in replayed:
                inputs.append(values[site.input])
                held = stream.run(None, [name for name in fed if name != site.output], index)
                live.append(held | {site.output: values[site.output]})
            stream.settle(index, values, segment.after)
        around = Surroundings.of(self._model.ir)
        replay = Replay(
            site, rest, fed, self._observed, tuple(inputs), tuple(live), tuple(expected), around, target.row_scale
        )
        ranks = {form: spread_ranks(rank_ladder(form, site.geometry), effort.ranks) for form in self._forms}
        return SiteTask(
            weight.astype(np.float64),
            replace(sample.moments(), cross=None),
            sample.judge(target.row_scale),
            {form: found for form, found in ranks.items() if found},
            effort,
            replay,
        )

    def _replayed(self, batches: Sequence[Batch]) -> list[int]:
        """Held-out batches, as many as hold the inputs to replay."""
        chosen, samples = [], 0
        for index, batch in enumerate(batches):
            if batch.heldout and samples < self._effort.replayed:
                chosen.append(index)
                samples += batch.samples
        return chosen

    def _expected(self, stream: Stream, replayed: Sequence[int]) -> list[Arrays]:
        """The observed values of the original."""
        part = self._open(stream, self._observed)
        return [stream.run(part, self._observed, index) for index in replayed]

    def _advance(self, stream: Stream, names: Sequence[str]) -> None:
        part = self._open(stream, names)
        for index in range(len(stream.held)):
            stream.settle(index, stream.run(part, names, index), names)

    def _open(self, stream: Stream, names: Sequence[str]) -> Session | None:
        missing = [name for name in names if name not in stream.held[0]]
        return open_session(serialise(extract(self._model, stream.types(), missing))) if missing else None

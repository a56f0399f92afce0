"""What every site would lose at each rank, and what the network would make of it, from calibration data.

One stream of inputs walks the original network from site to site. At each, patch moments are collected, every form is
fitted at two to five ranks (whitened start, some steps), and a few fits with small errors perturb the site to measure
the network's sensitivity. Fits here only rank candidates: the chosen ones are fitted again, properly, to what the
rewritten network feeds them.

Sites do not depend on each other, so joblib spreads them over processes, or over machines where the caller has chosen
a distributed backend (``joblib.parallel_config``).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.candidates import prune_by_model, site_candidates
from sepconvert.planning.damage import ErrorCurve, SiteProfile, moderated, profile_weights
from sepconvert.planning.sensitivity import Effect, measure_effect
from sepconvert.planning.site_tasks import ProfileEffort, SiteTask, TaskWalk
from sepconvert.progress import Progress, silent
from sepconvert.separable.fitted import estimate
from sepconvert.separable.forms import FORMS, reconstruct, scheme_for
from sepconvert.separable.moments import fitted_bias
from sepconvert.separable.problem import Problem, make_problem

# The sensitivity is measured with fits whose errors are at most so large, the larger ones: a network answers to larger
# errors in another way (see ``damage``). Single fits with equal errors hurt differently by factors of up to 3.
SMALL_ERROR, PROBES = 0.02, 3
# A whole form is left out sooner than a candidate: its errors take long to estimate.
BEATEN_MARGIN = 0.8
EFFORT = ProfileEffort()
# Processes by default: each holds the moments and activations of one site, half a GB for one of VGG16's.
MOST_JOBS = 4


def profile_network(
    model: LoadedModel,
    sites: Sequence[ConvSite],
    dataset: Dataset,
    forms: Sequence[str],
    *,
    rng: np.random.Generator,
    jobs: int | None = None,
    effort: ProfileEffort = EFFORT,
    progress: Progress = silent,
) -> dict[str, SiteProfile]:
    """Profile every site on calibration data.

    Args:
        model: the original; stays as it is.
        sites: in the graph's order.
        dataset: unlabelled inputs, at least two.
        forms: keys of ``FORMS``.
        rng: chooses inputs and positions.
        jobs: processes (as joblib counts them), or tasks at once of the backend the caller has set. None: what the
            caller has chosen with ``joblib.parallel_config``, else one per core, at most ``MOST_JOBS``.
        effort: how much to look at.
        progress: told of every site.

    Returns:
        A profile per site, by its output.
    """
    from joblib import Parallel, delayed

    if not sites:
        return {}
    walk = TaskWalk(model, sites, forms, effort, rng, progress)
    with warnings.catch_warnings():
        # joblib replaces processes whose memory has grown by 300 MB, as it does with wide sites; nothing is lost by it.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given", UserWarning)
        found = Parallel(n_jobs=_processes(jobs))(delayed(profile_site)(task) for task in walk.tasks(dataset))
    return {site.output: profile for site, profile in zip(sites, moderated(found), strict=True)}


def _processes(jobs: int | None) -> int | None:
    from joblib import cpu_count
    from joblib.parallel import LokyBackend, get_active_backend

    backend, chosen = get_active_backend()
    if jobs is not None or chosen is not None or not isinstance(backend, LokyBackend):
        return jobs
    cores: int = cpu_count()
    return min(cores, MOST_JOBS)


def profile_site(task: SiteTask) -> SiteProfile:
    """Estimate one site's error curves and the network's sensitivity to its error."""
    geometry, effort = task.replay.site.geometry, task.effort
    finite = np.isfinite(task.moments.covariance).all() and np.isfinite(task.moments.mean).all()
    if not finite:
        return profile_weights(task.weight, geometry, list(task.ranks), np.random.default_rng(0))
    problems = [
        make_problem(task.moments, task.weight, geometry, ridge, task.replay.row_scale, asymmetric=False)
        for ridge in effort.ridges(geometry)
    ]
    estimates = _Estimates(task, problems)
    for form in sorted(task.ranks, key=lambda name: not FORMS[name].CHANNELS):
        estimates.add(form, task.ranks[form])
    return SiteProfile(estimates.curves, _sensitivity(task, estimates.fits))


@dataclass(frozen=True, slots=True)
class _Probe:
    """A kernel (M, C, *k) that was fitted, and the site's error with it."""

    error: float
    kernel: NDArray[np.float64]


class _Estimates:
    """Error curves of one site, form by form, and the fits behind each."""

    def __init__(self, task: SiteTask, problems: Sequence[Problem]) -> None:
        self.curves: dict[str, ErrorCurve] = {}
        self.fits: list[_Probe] = []
        self._task = task
        self._problems = problems

    def add(self, form: str, ranks: Sequence[int]) -> None:
        """Fit a form at all ranks; or at the middle one only, if it is beaten there."""
        middle = ranks[(len(ranks) - 1) // 2]
        found = {middle: self._fit(form, middle)} if self.curves else {}
        if found and self._beaten(form, middle, found[middle].error):
            return
        fits = [found[rank] if rank in found else self._fit(form, rank) for rank in ranks]
        self.fits += fits
        self.curves[form] = ErrorCurve(tuple(ranks), tuple(fit.error for fit in fits))

    def _fit(self, form: str, rank: int) -> _Probe:
        return min((self._fit_at(problem, form, rank) for problem in self._problems), key=lambda fit: fit.error)

    def _fit_at(self, problem: Problem, form: str, rank: int) -> _Probe:
        kernel = reconstruct(estimate(problem, form, rank, self._task.effort.evaluations(problem.geometry)))
        judged = self._task.judge.error(kernel, fitted_bias(self._task.moments, kernel))
        return _Probe(problem.error(kernel) if judged is None else judged, kernel)

    def _beaten(self, form: str, rank: int, error: float) -> bool:
        """Whether a form that is already known is predicted to lose no more at clearly less cost."""
        geometry = self._task.replay.site.geometry
        known = list(site_candidates(self._task.replay.site, list(self.curves)))
        this = scheme_for(form, rank)
        errors = {scheme: self.curves[scheme.form].at(scheme.rank) for scheme in known} | {this: error}
        return this not in prune_by_model([*known, this], errors, geometry, BEATEN_MARGIN)


def _sensitivity(task: SiteTask, fits: Sequence[_Probe]) -> float | None:
    """Mean over some fits of small error; None where no form can save anything or the output never varies."""
    small = sorted((fit for fit in fits if fit.error <= SMALL_ERROR), key=lambda fit: -fit.error)
    chosen = small[:PROBES] or sorted(fits, key=lambda fit: fit.error)[:1]
    effects = [_effect(task, fit.kernel) for fit in chosen]
    ratios = [effect.output_error / effect.site_error for effect in effects if effect is not None]
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else None


def _effect(task: SiteTask, kernel: NDArray[np.float64]) -> Effect | None:
    difference = kernel - task.weight
    shift = -difference.reshape(len(difference), -1) @ task.moments.mean
    return measure_effect(task.replay, difference, shift)

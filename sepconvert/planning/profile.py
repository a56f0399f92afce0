"""What every site would lose at each rank, and what the network would make of it, from calibration data.

One stream of inputs walks the original network from site to site. At each, patch moments are collected, every form is
fitted at two to four ranks (whitened start, some steps), and the fits nearest to a small and to a large error perturb
the site to measure the network's response. Fits here only rank candidates: the chosen ones are fitted again, properly,
to what the rewritten network feeds them.

Sites do not depend on each other, so joblib spreads them over processes, or over machines where the caller has chosen
a distributed backend (``joblib.parallel_config``).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.candidates import prune_by_model, site_candidates
from sepconvert.planning.damage import ErrorCurve, Response, SiteProfile, profile_weights
from sepconvert.planning.sensitivity import measure_effect
from sepconvert.planning.site_tasks import ProfileEffort, SiteTask, TaskWalk
from sepconvert.planning.uniform import BOTTLENECK_FORMS, Candidate
from sepconvert.progress import Progress, silent
from sepconvert.separable.fitted import estimate
from sepconvert.separable.forms import FORMS
from sepconvert.separable.moments import fitted_bias
from sepconvert.separable.problem import Problem, make_problem

# The response is measured with the fits whose errors are nearest to these: what plans take at sensitive sites and at
# insensitive ones.
TYPICAL_ERRORS = (0.02, 0.15)
EFFORT = ProfileEffort()


def profile_network(
    model: LoadedModel,
    sites: Sequence[ConvSite],
    dataset: Dataset,
    forms: Sequence[str],
    *,
    rng: np.random.Generator,
    jobs: int = 1,
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
        jobs: processes (as joblib counts them), or tasks at once of the backend the caller has set.
        effort: how much to look at.
        progress: told of every site.

    Returns:
        A profile per site, by its output.
    """
    from joblib import Parallel, delayed

    if not sites:
        return {}
    walk = TaskWalk(model, sites, forms, effort, rng, progress)
    found = Parallel(n_jobs=jobs)(delayed(profile_site)(task) for task in walk.tasks(dataset))
    return {site.output: profile for site, profile in zip(sites, found, strict=True)}


def profile_site(task: SiteTask) -> SiteProfile:
    """Estimate one site's error curves and the network's response to its error."""
    geometry, effort = task.replay.site.geometry, task.effort
    finite = np.isfinite(task.moments.covariance).all() and np.isfinite(task.moments.mean).all()
    if not finite:
        return profile_weights(task.weight, geometry, list(task.ranks), np.random.default_rng(0))
    problem = make_problem(task.moments, task.weight, geometry, effort.ridge, task.replay.row_scale, asymmetric=False)
    estimates = _Estimates(task, problem)
    for form in sorted(task.ranks, key=lambda name: name not in BOTTLENECK_FORMS):
        estimates.add(form, task.ranks[form])
    return SiteProfile(estimates.curves, _response(task, estimates.typical))


class _Estimates:
    """Error curves of one site, form by form, and the kernels whose errors are nearest to ``TYPICAL_ERRORS``."""

    def __init__(self, task: SiteTask, problem: Problem) -> None:
        self.curves: dict[str, ErrorCurve] = {}
        self._nearest: dict[float, tuple[float, NDArray[np.float64]]] = {}
        self._task = task
        self._problem = problem
        self._evaluations = task.effort.evaluations(problem.geometry)

    @property
    def typical(self) -> list[NDArray[np.float64]]:
        """The kernels to perturb the site with, each once."""
        return list({id(kernel): kernel for _, kernel in self._nearest.values()}.values())

    def add(self, form: str, ranks: Sequence[int]) -> None:
        """Fit a form at all ranks; or at the middle one only, if it is beaten there."""
        middle = ranks[(len(ranks) - 1) // 2]
        found = {middle: self._error(form, middle)} if self.curves else {}
        if found and self._beaten(form, middle, found[middle]):
            return
        errors = tuple(found[rank] if rank in found else self._error(form, rank) for rank in ranks)
        self.curves[form] = ErrorCurve(tuple(ranks), errors)

    def _error(self, form: str, rank: int) -> float:
        kernel = estimate(self._problem, form, rank, self._evaluations).reconstruct()
        judged = self._task.judge.error(kernel, fitted_bias(self._task.moments, kernel))
        error = self._problem.error(kernel) if judged is None else judged
        for typical in TYPICAL_ERRORS:
            distance = abs(float(np.log(max(error, 1e-12) / typical)))
            if typical not in self._nearest or distance < self._nearest[typical][0]:
                self._nearest[typical] = distance, kernel
        return error

    def _beaten(self, form: str, rank: int, error: float) -> bool:
        """Whether a form that is already known is predicted to lose no more at clearly less cost."""
        geometry = self._task.replay.site.geometry
        known = list(site_candidates(self._task.replay.site, list(self.curves)))
        errors = {(c.form, c.rank): self.curves[c.form].at(c.rank) for c in known} | {(form, rank): error}
        this = Candidate(form, rank, FORMS[form].cost(geometry, rank))
        return this not in prune_by_model([*known, this], errors, geometry)


def _response(task: SiteTask, kernels: Sequence[NDArray[np.float64]]) -> Response | None:
    effects = []
    for kernel in kernels:
        difference = kernel - task.weight
        shift = -difference.reshape(len(difference), -1) @ task.moments.mean
        effects.append(measure_effect(task.replay, difference, shift))
    known = sorted(effect for effect in effects if effect is not None)
    return Response(tuple(known)) if known else None

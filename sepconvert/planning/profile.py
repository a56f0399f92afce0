"""What every site would lose at each rank, and what the network would make of it, from calibration data.

One stream of inputs walks the original network from site to site. At each, patch moments are collected, every form is
fitted at two to five ranks (whitened start, some steps), and a few fits with small errors perturb the site to measure
the network's sensitivity. Fits here only rank candidates: the chosen ones are fitted again, properly, to what the
rewritten network feeds them.

Sites do not depend on each other, so joblib spreads them over processes, or over machines where the caller has chosen
a distributed backend (``joblib.parallel_config``).
"""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from operator import attrgetter
from threading import Thread
from time import sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.candidates import rank_ladder
from sepconvert.planning.damage import SMALL_ERROR, ErrorCurve, SiteProfile, felt, moderated, profile_weights
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.planning.sensitivity import Change, measure_effects
from sepconvert.planning.site_tasks import SiteTask, TaskWalk
from sepconvert.progress import Progress, silent
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import reconstruct
from sepconvert.separable.groups import (
    Problems,
    estimate_groups,
    groups_bias,
    improve_groups,
    is_finite,
    make_problems,
    mean_output,
    problems_error,
)
from sepconvert.separable.rounding import equalised, inner_noise, outputs_in_steps, rounded_factors
from sepconvert.separable.threads import one_blas_thread

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
        spread = Parallel(n_jobs=_processes(jobs), **_ending_with_parent())
        found = spread(delayed(profile_site)(task) for task in walk.tasks(dataset))
    return {site.output: profile for site, profile in zip(sites, moderated(found), strict=True)}


def _processes(jobs: int | None) -> int | None:
    from joblib import cpu_count
    from joblib.parallel import LokyBackend, get_active_backend

    backend, chosen = get_active_backend()
    if jobs is not None or chosen is not None or not isinstance(backend, LokyBackend):
        return jobs
    cores: int = cpu_count()
    return min(cores, MOST_JOBS)


def _ending_with_parent() -> dict[str, Any]:
    """What joblib's own processes are told at their start; other backends look after theirs."""
    from joblib.parallel import LokyBackend, get_active_backend

    backend, _ = get_active_backend()
    return {"initializer": _watch, "initargs": (os.getpid(),)} if isinstance(backend, LokyBackend) else {}


def _watch(parent: int) -> None:
    """End this process soon after its parent: one that was killed could not tell it to."""

    def look() -> None:
        while os.getppid() == parent:
            sleep(0.5)
        os._exit(1)

    Thread(target=look, daemon=True).start()


def profile_site(task: SiteTask) -> SiteProfile:
    """Estimate one site's error curves and the network's sensitivity to its error, to the same bytes wherever it is."""
    with one_blas_thread():
        return _profile(task)


def _profile(task: SiteTask) -> SiteProfile:
    geometry, effort = task.replay.site.geometry, task.effort
    if not is_finite(task.moments):
        return profile_weights(
            task.weight, geometry, [form for form in task.forms if form in task.ranks], np.random.default_rng(0)
        )
    problems = [_problems(task, ridge) for ridge in effort.ridges(geometry)]
    if (
        not effort.fits and geometry.taps > 1
    ):  # of one tap a fit is closed, and cheaper than whitening thousands of inputs
        return _without_fits(task, problems[0])
    fits = {form: [_fit(task, problems, form, rank) for rank in ranks] for form, ranks in task.ranks.items()}
    curves, rounded = {}, {}
    for form, found in fits.items():
        if form in task.forms:
            middle = found[(len(found) - 1) // 2]
            left = _left_by_more_steps(task, middle)
            errors = tuple(left * fit.error for fit in found)
            curves[form] = ErrorCurve(task.ranks[form], errors)
            if effort.bits is not None:
                # Noise differs less between ranks than errors do, and at low ranks these hide it.
                noises = {fit.factors.rank: _by_rounding(task, fit, effort.bits) for fit in (middle, found[-1])}
                noise = np.interp(task.ranks[form], sorted(noises), [noises[rank] for rank in sorted(noises)])
                rounded[form] = ErrorCurve(task.ranks[form], tuple(map(float, errors + noise)))
    told = _sensitivities(task, [fit for form in task.probing for fit in fits.get(form, [])])
    return SiteProfile(curves, *told, rounded)


def _problems(task: SiteTask, ridge: float) -> Problems:
    geometry, row_scale = task.replay.site.geometry, task.replay.row_scale
    return make_problems(task.moments, task.weight, geometry, ridge, row_scale, asymmetric=False)


def _without_fits(task: SiteTask, problems: Problems) -> SiteProfile:
    """Errors of truncating the kernel in coordinates in which the output's error is about a plain norm.

    On two small networks they were 1.1 to 1.4 times those of fits, of ``pw_dw`` 1.4 and 1.8 times and of ``dw_pw`` 2.7
    and 3.4 times, in a sixth to a fifth of the time: ``python -m tests.benchmarks.without_fits``.
    """
    geometry = task.replay.site.geometry
    white = np.concatenate([problem.whitened for problem in problems]).reshape(task.weight.shape)
    forms = [form for form in dict.fromkeys((*task.forms, *task.probing)) if form in task.ranks]
    every = profile_weights(white, geometry, forms, np.random.default_rng(0)).curves
    ladders = {form: rank_ladder(form, geometry) for form in forms}
    curves = {form: ErrorCurve(ranks, tuple(map(every[form].at, ranks))) for form, ranks in ladders.items()}
    tried = [(curves[form].at(rank), form, rank) for form in task.probing if form in curves for rank in ladders[form]]
    small = [one for one in tried if one[0] <= SMALL_ERROR]
    chosen = [max(small)] if small else sorted(tried)[:1]
    probes = [_judged(task, problems, estimate_groups(problems, form, rank, 1)) for _, form, rank in chosen]
    return SiteProfile({form: curves[form] for form in task.forms if form in curves}, *_sensitivities(task, probes))


@dataclass(frozen=True, slots=True)
class _Probe:
    """Factors that were fitted, to what, the kernel (M, C/g, *k) that they make, and the site's error with it."""

    error: float
    kernel: NDArray[np.float64]
    factors: Factors
    problems: Problems


def _fit(task: SiteTask, problems: Sequence[Problems], form: str, rank: int) -> _Probe:
    """The best of the ridges; the fit at one is where the next one starts, and takes half as many steps more."""
    first, *others = problems
    evaluations = task.effort.evaluations_at(first[0], form, rank)
    made = [estimate_groups(first, form, rank, evaluations)]
    for other in others:
        made.append(improve_groups(other, made[-1], -(-evaluations // 2)))
    probes = [_judged(task, at_ridge, factors) for at_ridge, factors in zip(problems, made, strict=True)]
    return min(probes, key=attrgetter("error"))


def _judged(task: SiteTask, problems: Problems, factors: Factors) -> _Probe:
    kernel = reconstruct(factors)
    judged = task.judge.error(kernel, groups_bias(task.moments, kernel))
    return _Probe(problems_error(problems, kernel) if judged is None else judged, kernel, factors, problems)


def _left_by_more_steps(task: SiteTask, middle: _Probe) -> float:
    """What the final fits, which take more steps than those here, leave of an error: a share, the same at all ranks.

    It is measured at the middle one of a form's ranks, the lower one of two, where a step costs less. On two of VGG16's
    widest layers ten steps more left 0.61 and 0.69 of the errors of ``pw_dw_pw`` at a low rank and 0.56 and 0.62 at one
    five times as high; of ``spatial`` 0.87 and 0.91, and 0.80 and 0.91 (``python -m tests.benchmarks.further_steps``).
    """
    problems = middle.problems
    further = task.effort.further_evaluations(problems[0].geometry)
    if not further or problems[0].by_lags or middle.error == 0:
        return 1.0
    more = _judged(task, problems, improve_groups(problems, middle.factors, further))
    return min(1.0, more.error / middle.error)


def _by_rounding(task: SiteTask, fit: _Probe, bits: int) -> float:
    """By how much a fit errs more where its weights, and the values between its factors, become integers.

    It is fitted again with that noise, as the final fits are, and the better one counts.
    """
    geometry, judge = task.replay.site.geometry, task.judge
    noise = inner_noise(equalised(fit.factors, geometry, judge.patches), geometry, judge.patches)
    noisy = tuple(problem.with_rounding(noise) for problem in fit.problems)
    evaluations = task.effort.evaluations_at(noisy[0], fit.factors.form, fit.factors.rank)
    steps = ceil(task.effort.rounded_evaluations * evaluations)
    tried = (fit.factors, improve_groups(noisy, fit.factors, steps))
    least = min(_rounded_error(task, factors, bits) for factors in tried)
    return max(least - fit.error, 0.0)


def _rounded_error(task: SiteTask, factors: Factors, bits: int) -> float:
    geometry, judge = task.replay.site.geometry, task.judge
    made = rounded_factors(equalised(factors, geometry, judge.patches), geometry, bits)
    outputs = outputs_in_steps(made, geometry, judge.patches)
    shares = judge.errors_of(outputs + groups_bias(task.moments, reconstruct(made)))
    return 0.0 if shares is None else float(shares.sum())


def _sensitivities(task: SiteTask, fits: Sequence[_Probe]) -> tuple[dict[str, float], float]:
    """By part, the mean over some fits of small error, and the largest of these errors.

    Nothing where no form can save anything or no part reacts.

    Single fits with equal errors hurt differently, by factors of up to 3.
    """
    small = sorted((fit for fit in fits if fit.error <= SMALL_ERROR), key=lambda fit: -fit.error)
    chosen = small[: task.effort.probes] or sorted(fits, key=lambda fit: fit.error)[:1]
    effects = measure_effects(task.replay, [_change(task, fit.kernel) for fit in chosen]) if chosen else []
    ratios: dict[str, list[float]] = {}
    for effect in (effect for effect in effects if effect is not None):
        for part, error in effect.part_errors.items():
            ratios.setdefault(part, []).append(error / felt(effect.site_error))
    sensitivities = {part: float(np.exp(np.mean(np.log(found)))) for part, found in ratios.items()}
    return sensitivities, max((fit.error for fit in chosen), default=0.0)


def _change(task: SiteTask, kernel: NDArray[np.float64]) -> Change:
    difference = kernel - task.weight
    return difference, -mean_output(task.moments, difference)

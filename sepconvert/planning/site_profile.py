"""What one site would lose at each rank, and what the network would make of it, from its patches and its replay.

The kernel is truncated to every rank of every form in coordinates that whiten the inputs, each form is fitted at two
ranks, and what these fits leave of the truncation's error is taken for what fits leave at the ranks about them: on two
small networks errors of fits at all ranks were met within 7 to 23 % (``python -m tests.benchmarks.truncation``). A few
fits with small errors perturb the site to measure the network's sensitivity.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from sepconvert.planning.candidates import rank_ladder
from sepconvert.planning.damage import (
    SMALL_ERROR,
    SMALLEST_ERROR,
    TINY_ERROR,
    ErrorCurve,
    SiteProfile,
    profile_weights,
    spread_ranks,
)
from sepconvert.planning.sensitivity import Change, measure_effects
from sepconvert.planning.site_tasks import SiteTask
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import reconstruct
from sepconvert.separable.geometry import ConvGeometry
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
from sepconvert.separable.signals import is_long
from sepconvert.separable.threads import one_blas_thread

# What fits leave of a truncated kernel's error, on two small networks (``python -m tests.benchmarks.truncation``).
USUALLY_LEFT = {"dw_pw": 0.35}
# Errors that fits aim at: the least that tells a sensitivity to errors of some size, and one that tells how it grows.
FITTED_ERRORS = (2 * TINY_ERROR, TINY_ERROR / 10)
# Of the error of truncation: less is left only where the inputs have few dimensions, from some rank on.
HARDLY_ANYTHING = 0.05


def profile_site(task: SiteTask) -> SiteProfile:
    """Estimate one site's error curves and the network's sensitivity to its error, to the same bytes wherever it is."""
    with one_blas_thread():
        return _profile(task)


def _profile(task: SiteTask) -> SiteProfile:
    geometry = task.replay.site.geometry
    forms = [form for form in dict.fromkeys((*task.forms, *task.probing)) if rank_ladder(form, geometry)]
    if not is_finite(task.moments):
        return profile_weights(
            task.weight, geometry, [form for form in forms if form in task.forms], np.random.default_rng(0)
        )
    problems = _problems(task)
    # Of one tap a fit is closed, and cheaper than whitening thousands of inputs.
    if geometry.taps == 1:
        return _by_fits(task, problems, forms)
    return _by_truncation(task, problems, forms)


def _problems(task: SiteTask) -> Problems:
    geometry, row_scale = task.replay.site.geometry, task.replay.row_scale
    return make_problems(task.moments, task.weight, geometry, task.effort.ridge, row_scale, asymmetric=False)


def _by_fits(task: SiteTask, problems: Problems, forms: Sequence[str]) -> SiteProfile:
    """Every form fitted at a few ranks, where a fit is closed."""
    fits = {
        form: [
            _judged(task, problems, estimate_groups(problems, form, rank, 1))
            for rank in spread_ranks(rank_ladder(form, task.replay.site.geometry), task.effort.ranks)
        ]
        for form in forms
    }
    curves = {
        form: ErrorCurve(tuple(fit.factors.rank for fit in found), tuple(fit.error for fit in found))
        for form, found in fits.items()
    }
    return _profile_of(task, curves, fits)


def _by_truncation(task: SiteTask, problems: Problems, forms: Sequence[str]) -> SiteProfile:
    """The kernel truncated in coordinates in which the output's error is about a plain norm, and fits at two ranks.

    What the fits leave of the truncation's error is interpolated, and continued, for all other ranks.
    """
    geometry, effort = task.replay.site.geometry, task.effort
    white = np.concatenate([problem.whitened for problem in problems]).reshape(task.weight.shape)
    every = profile_weights(white, geometry, forms, np.random.default_rng(0)).curves
    truncated = {
        form: ErrorCurve(ladder, tuple(map(every[form].at, ladder)))
        for form, ladder in ((form, rank_ladder(form, geometry)) for form in forms)
    }
    if not effort.fits:
        return _without_fits(task, problems, truncated)
    fits = {form: _fits(task, problems, form, curve) for form, curve in truncated.items()}
    curves = {form: _through(truncated[form], fits[form]) for form in forms}
    return _profile_of(task, curves, fits)


def _fits(task: SiteTask, problems: Problems, form: str, truncated: ErrorCurve) -> list["_Probe"]:
    """Fits at two ranks, and at lower ones while the lowest leaves hardly anything: those below it may not."""
    fits = [_fit(task, problems, form, rank) for rank in _fitted_ranks(truncated, task.replay.site.geometry)]
    below = [rank for rank in truncated.ranks if rank < fits[0].factors.rank]
    while below and fits[0].error < HARDLY_ANYTHING * truncated.at(fits[0].factors.rank):
        fits.insert(0, _fit(task, problems, form, below.pop()))
    return fits


def _affordable_ranks(ladder: Sequence[int], geometry: ConvGeometry) -> Sequence[int]:
    """All but the upper fifth, of a long kernel's the upper third: it saves little, and takes as long as all below."""
    return ladder[: -(-2 * len(ladder) // 3)] if is_long(geometry) else ladder[: -(-4 * len(ladder) // 5)]


def _fitted_ranks(truncated: ErrorCurve, geometry: ConvGeometry) -> list[int]:
    """The ranks to fit at: where the error is about as asked, so that the finer fit tells a sensitivity, too."""
    ranks = _affordable_ranks(truncated.ranks, geometry)
    return sorted({_nearest(truncated, ranks, wanted) for wanted in FITTED_ERRORS})


def _nearest(curve: ErrorCurve, ranks: Sequence[int], wanted: float) -> int:
    """The rank whose error is nearest to one that is wanted, in the logarithm."""
    return min(ranks, key=lambda rank: abs(log(curve.at(rank) / wanted)))


def _through(truncated: ErrorCurve, fits: Sequence["_Probe"]) -> ErrorCurve:
    """The curve of truncation, moved to fits: what they leave of it, interpolated over the logarithm of the error."""
    errors = np.log([truncated.at(rank) for rank in truncated.ranks])
    places = np.log([truncated.at(fit.factors.rank) for fit in fits])
    left = np.log([max(fit.error, SMALLEST_ERROR) for fit in fits]) - places
    shares = np.interp(-errors, -places, left)
    return ErrorCurve(truncated.ranks, tuple(map(float, np.exp(errors + shares))))


def _profile_of(task: SiteTask, curves: dict[str, ErrorCurve], fits: dict[str, list["_Probe"]]) -> SiteProfile:
    """What was found of a site: curves of the forms that may be chosen, and the effects of those that probe."""
    rounded = {}
    if task.effort.bits is not None:
        for form in (form for form in task.forms if form in curves):
            # Noise differs less between ranks than errors do, and at low ranks these hide it.
            looked_at = fits[form][(len(fits[form]) - 1) // 2], fits[form][-1]
            noises = {fit.factors.rank: _by_rounding(task, fit, task.effort.bits) for fit in looked_at}
            curve = curves[form]
            noise = np.interp(curve.ranks, sorted(noises), [noises[rank] for rank in sorted(noises)])
            rounded[form] = ErrorCurve(curve.ranks, tuple(map(float, np.add(curve.errors, noise))))
    allowed = {form: curve for form, curve in curves.items() if form in task.forms}
    probes = [fit for form in task.probing for fit in fits.get(form, [])]
    return SiteProfile(allowed, rounded=rounded, effects=_effects(task, probes))


def _without_fits(task: SiteTask, problems: Problems, truncated: dict[str, ErrorCurve]) -> SiteProfile:
    """Errors of truncation, less what a fit usually leaves of them."""
    curves = {
        form: ErrorCurve(curve.ranks, tuple(USUALLY_LEFT.get(form, 1.0) * error for error in curve.errors))
        for form, curve in truncated.items()
    }
    probing = {form: curve for form, curve in curves.items() if form in task.probing}
    tried = [(curve.at(rank), form, rank) for form, curve in probing.items() for rank in curve.ranks]
    small = [one for one in tried if one[0] <= SMALL_ERROR]
    chosen = [max(small)] if small else sorted(tried)[:1]
    probes = [_judged(task, problems, estimate_groups(problems, form, rank, 1)) for _, form, rank in chosen]
    allowed = {form: curve for form, curve in curves.items() if form in task.forms}
    return SiteProfile(allowed, effects=_effects(task, probes))


@dataclass(frozen=True, slots=True)
class _Probe:
    """Factors that were fitted, to what, the kernel (M, C/g, *k) that they make, and the site's error with it."""

    error: float
    kernel: NDArray[np.float64]
    factors: Factors
    problems: Problems


def _fit(task: SiteTask, problems: Problems, form: str, rank: int) -> _Probe:
    """A fit, and after more steps, if that is better: about what a final fit leaves."""
    factors = estimate_groups(problems, form, rank, task.effort.evaluations_at(problems[0], form, rank))
    first, further = _judged(task, problems, factors), task.effort.further_evaluations(problems[0].geometry)
    if not further or problems[0].by_lags or first.error == 0:
        return first
    more = _judged(task, problems, improve_groups(problems, factors, further))
    return min(first, more, key=attrgetter("error"))


def _judged(task: SiteTask, problems: Problems, factors: Factors) -> _Probe:
    kernel = reconstruct(factors)
    judged = task.judge.error(kernel, groups_bias(task.moments, kernel))
    return _Probe(problems_error(problems, kernel) if judged is None else judged, kernel, factors, problems)


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


def _effects(task: SiteTask, fits: Sequence[_Probe]) -> tuple[tuple[float, Mapping[str, float]], ...]:
    """What the outputs make of the largest of the small errors and, if there are several probes, of the least one."""
    small = sorted((fit for fit in fits if fit.error <= SMALL_ERROR), key=lambda fit: -fit.error)
    chosen = small[: task.effort.probes] or sorted(fits, key=lambda fit: fit.error)[:1]
    least = [fit for fit in small[task.effort.probes :] if fit.error > 0][-1:] if task.effort.probes > 1 else []
    effects = measure_effects(task.replay, [_change(task, fit.kernel) for fit in (*chosen, *least)]) if chosen else []
    return tuple((effect.site_error, effect.part_errors) for effect in effects if effect is not None)


def _change(task: SiteTask, kernel: NDArray[np.float64]) -> Change:
    difference = kernel - task.weight
    return difference, -mean_output(task.moments, difference)

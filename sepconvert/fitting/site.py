"""Settle one site: try, fall back to what is safer where need be, and say why."""

import numpy as np
from numpy.typing import NDArray

from sepconvert.fitting.results import SiteFit, SitePlan
from sepconvert.fitting.select import (
    SiteData,
    Trial,
    best,
    finish,
    least,
    try_dense,
    try_schemes,
)
from sepconvert.separable.forms import cli_name, factorise, reconstruct
from sepconvert.separable.groups import Moments, approximation, is_finite
from sepconvert.separable.problem import inner

# A dense kernel is only replaced for a gain that is more than chance.
WORTHWHILE = 0.98


def settle_site(plan: SitePlan, site: SiteData, ridges: tuple[float, ...], rng: np.random.Generator) -> SiteFit:
    """Fit a site's schemes, or (where it has none, or none is any good) its dense kernel."""
    if not is_finite(site.moments):
        return without_data(plan, site.weight, rng, "its inputs or outputs are infinite or not numbers")
    trials = try_schemes(site, plan.schemes, ridges) if plan.schemes else []
    if not trials or best(trials).error >= 1:
        return _settle_dense(plan, site, trials, ridges)
    winner = best(trials)
    merged = site.sample.all_moments()
    final = finish(site, winner, merged)
    reason = None
    if winner.ridge is None:
        reason = "fitting did not lower the error on held-out inputs, so the factors are those made without data"
    else:
        reason = approximation(merged)
    return _fitted(plan, site, final, merged, reason)


def without_data(
    plan: SitePlan, weight: NDArray[np.float64], rng: np.random.Generator, why: str | None = None
) -> SiteFit:
    """Settle a site without looking at data: the scheme closest to the weight, the bias as it is.

    Args:
        plan: without schemes the site is left as it is.
        weight: (M, C/g, *k).
        rng: randomness of the iterative starts.
        why: what kept the data from being looked at, if there is any.
    """
    if not plan.schemes:
        return SiteFit(plan.site)
    if plan.start is not None:
        return SiteFit(plan.site, plan.schemes[0], plan.start, reason=f"left as drawn: {why}")
    made = [factorise(scheme.form, weight, scheme.rank, plan.site.geometry, rng) for scheme in plan.schemes]
    errors = [weight_error(weight, reconstruct(factors)) for factors in made]
    closest = int(np.argmin(errors))
    reason = None if why is None else f"made without data: {why}"
    return SiteFit(plan.site, plan.schemes[closest], made[closest], error_weights=errors[closest], reason=reason)


def _settle_dense(plan: SitePlan, site: SiteData, failed: list[Trial], ridges: tuple[float, ...]) -> SiteFit:
    """Refit the dense kernel, or only its bias, or leave both: whatever held-out inputs speak for."""
    reason = _refusal(failed) if failed else None
    if site.bias is None:
        return SiteFit(plan.site, reason=reason)
    untouched = site.judge.error(site.weight, site.bias) or 0.0
    trials = try_dense(site, ridges)
    shifted, winner = trials[0], best(trials)
    if winner.error > WORTHWHILE * shifted.error:
        winner = shifted
    if winner.error > WORTHWHILE * untouched:
        return SiteFit(plan.site, error_heldout=untouched, reason=reason)
    merged = site.sample.all_moments()
    final = finish(site, winner, merged)
    return _fitted(plan, site, final, merged, reason)


def _refusal(failed: list[Trial]) -> str:
    closest = least(failed)
    form, rank = closest.kind or ("dense", 0)
    return (
        f"kept: the best candidate ({cli_name(form)} at rank {rank}) errs as much as a constant on held-out inputs "
        f"(relative error {closest.error:.2g})"
    )


def _fitted(plan: SitePlan, site: SiteData, final: Trial, moments: Moments, reason: str | None) -> SiteFit:
    factors = final.factors
    scheme = next((s for s in plan.schemes if (s.form, s.rank) == final.kind), None)
    return SiteFit(
        plan.site,
        scheme,
        factors,
        kernel=final.kernel if factors is None else None,
        bias=final.bias,
        ridge=final.ridge,
        error_calibration=moments_error(moments, final.kernel, site.row_scale),
        error_heldout=final.error,
        error_weights=weight_error(site.weight, final.kernel),
        reason=reason,
    )


def moments_error(moments: Moments, kernel: NDArray[np.floating], row_scale: NDArray[np.float64]) -> float | None:
    """Weighted relative error of a kernel (M, C/g, *k) with the best bias, on the inputs the moments are of.

    None where the outputs are constant, or only per-channel moments are known.
    """
    variance, explained = 0.0, 0.0
    split = np.split(kernel.reshape(len(kernel), -1), len(moments)), np.split(row_scale, len(moments))
    for known, part, scale in zip(moments, *split, strict=True):
        if known.cross is None:
            return None
        variance += float(np.sum(known.target_variance * scale**2))
        rows = part * scale[:, None]
        explained += inner(known.times(rows) - 2 * known.cross * scale[:, None], rows)
    return max(0.0, (variance + explained) / variance) if variance > 0 else None


def weight_error(weight: NDArray[np.float64], kernel: NDArray[np.floating]) -> float:
    """‖W−Ŵ‖² / ‖W‖²; 0 for a weight of zeros."""
    norm = float(np.vdot(weight, weight))
    difference = weight - kernel
    return float(np.vdot(difference, difference)) / norm if norm > 0 else 0.0

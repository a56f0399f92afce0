"""Settle one site: try, fall back to what is safer where need be, and say why."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.fitting.results import FittedSite, SiteChoice
from sepconvert.fitting.sampling import SiteSample
from sepconvert.fitting.select import (
    SiteFit,
    Trial,
    best,
    candidate_errors,
    finish,
    least,
    try_candidates,
    try_dense,
)
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import FORMS, cli_name, reconstruct
from sepconvert.separable.moments import PatchMoments
from sepconvert.separable.problem import inner

# A dense kernel is only replaced for a gain that is more than chance.
WORTHWHILE = 0.98


@dataclass(frozen=True, slots=True)
class SiteData:
    """What a site's fit may use.

    Attributes:
        weight: (M, C, *k).
        bias: (M,), zeros where there is none; None where it is not fixed.
        dtype: what the weight is written in.
        row_scale: (M,), importance of the outputs.
        sample: the patches collected.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64] | None
    dtype: np.dtype[np.generic]
    row_scale: NDArray[np.float64]
    sample: SiteSample


def settle_site(choice: SiteChoice, seen: SiteData, ridges: tuple[float, ...], rng: np.random.Generator) -> FittedSite:
    """Fit a site's candidates, or (where it has none, or none is any good) its dense kernel."""
    moments = seen.sample.moments()
    if not (np.isfinite(moments.covariance).all() and np.isfinite(moments.target_mean).all()):
        return without_data(choice, seen.weight, seen.dtype, rng, "its inputs or outputs are infinite or not numbers")
    site = SiteFit(
        choice.site.geometry, seen.weight, seen.dtype, seen.row_scale, moments, seen.sample.judge(seen.row_scale)
    )
    trials = try_candidates(site, choice.candidates, ridges) if choice.candidates else []
    if not trials or best(trials).error >= 1:
        return _settle_dense(choice, site, trials, seen, ridges)
    winner = best(trials)
    merged = seen.sample.all_moments()
    final = finish(site, winner, merged)
    reason = None
    if winner.ridge is None:
        reason = "fitting did not lower the error on held-out inputs, so the factors are those made without data"
    elif merged.note is not None:
        reason = merged.note
    return _fitted(choice, site, final, merged, trials, reason)


def without_data(
    choice: SiteChoice, weight: NDArray[np.float64], dtype: np.dtype[np.generic], rng: np.random.Generator, why: str
) -> FittedSite:
    """Settle a site without looking at data: the candidate closest to the weight, the bias as it is."""
    output = choice.site.output
    if not choice.candidates:
        return FittedSite(output, None, None, None)
    if choice.drawn is not None:
        return FittedSite(output, choice.drawn.astype(dtype), None, None, reason=f"left as drawn: {why}")
    made = [FORMS[form].factorise(weight, rank, choice.site.geometry, rng) for form, rank in choice.candidates]
    errors = [_weight_error(weight, reconstruct(factors)) for factors in made]
    closest = int(np.argmin(errors))
    return FittedSite(
        output,
        made[closest].astype(dtype),
        None,
        None,
        error_weights=errors[closest],
        reason=f"made without data: {why}",
    )


def _settle_dense(
    choice: SiteChoice, site: SiteFit, failed: list[Trial], seen: SiteData, ridges: tuple[float, ...]
) -> FittedSite:
    """Refit the dense kernel, or only its bias, or leave both: whatever held-out inputs speak for."""
    reason = _refusal(failed) if failed else None
    if seen.bias is None:
        return FittedSite(choice.site.output, None, None, None, candidates=candidate_errors(failed), reason=reason)
    untouched = site.judge.error(site.weight, seen.bias) or 0.0
    trials = try_dense(site, ridges)
    shifted, winner = trials[0], best(trials)
    if winner.error > WORTHWHILE * shifted.error:
        winner = shifted
    if winner.error > WORTHWHILE * untouched:
        return FittedSite(
            choice.site.output,
            None,
            None,
            None,
            error_heldout=untouched,
            candidates=candidate_errors(failed),
            reason=reason,
        )
    merged = seen.sample.all_moments()
    final = finish(site, winner, merged)
    return _fitted(choice, site, final, merged, failed, reason)


def _refusal(failed: list[Trial]) -> str:
    closest = least(failed)
    return (
        f"kept: the best candidate ({cli_name(closest.form)} at rank {closest.rank}) errs as much as a constant on "
        f"held-out inputs (relative error {closest.error:.2g})"
    )


def _fitted(
    choice: SiteChoice, site: SiteFit, final: Trial, moments: PatchMoments, trials: list[Trial], reason: str | None
) -> FittedSite:
    factors: Factors | None = final.factors
    return FittedSite(
        output=choice.site.output,
        factors=factors,
        kernel=final.kernel if factors is None else None,
        bias=final.bias.astype(site.dtype),
        ridge=final.ridge,
        error_calibration=moments_error(moments, final.kernel, site.row_scale),
        error_heldout=final.error,
        error_weights=_weight_error(site.weight, final.kernel),
        candidates=candidate_errors(trials),
        reason=reason,
    )


def moments_error(moments: PatchMoments, kernel: NDArray[np.floating], row_scale: NDArray[np.float64]) -> float | None:
    """Weighted relative error of a kernel (M, C, *k) with the best bias, on the inputs the moments are of.

    None where the outputs are constant, or only per-channel moments are known.
    """
    variance = float(np.sum(moments.target_variance * row_scale**2))
    if moments.cross is None or variance <= 0:
        return None
    rows = kernel.reshape(len(kernel), -1) * row_scale[:, None]
    product = rows @ moments.covariance - 2 * moments.cross * row_scale[:, None]
    return max(0.0, (variance + inner(product, rows)) / variance)


def _weight_error(weight: NDArray[np.float64], kernel: NDArray[np.floating]) -> float:
    norm = float(np.vdot(weight, weight))
    difference = weight - kernel
    return float(np.vdot(difference, difference)) / norm if norm > 0 else 0.0

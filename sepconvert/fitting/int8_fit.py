"""Fit again what is to compute in integers: factors that bear rounding, dense kernels and biases that make up for it.

The inner channels of separable layers cancel: terms far larger than their sum are added, and so the noise that rounding
puts on each comes out amplified. In the least-squares problem of a fit that noise is a ridge of known size. So factors
are fitted again with it, then several times as strong or as weak, and held-out patches, rounded on their way from layer
to layer, tell which is best.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.fitting.results import SiteFit
from sepconvert.fitting.select import RIDGES, SiteData, Trial, best, least, search
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import reconstruct
from sepconvert.separable.groups import best_kernel, groups_bias, improve_groups
from sepconvert.separable.rounding import (
    BITS,
    equalised,
    inner_noise,
    outputs_in_steps,
    rounded_factors,
    rounded_weight,
)

STRENGTHS = (0.0, 0.25, 1.0, 4.0, 16.0)
"""Shares of the noise that is measured between layers; the physical one is 1, and ranges are wider on other inputs."""


def settle_rounded(known: SiteFit, site: SiteData, bits: int = BITS) -> SiteFit:
    """Fit a site again that is to compute in integers.

    Args:
        known: what became of it in the network that computes in floating point.
        site: its inputs as the network of integers feeds it, and what it should compute.
        bits: of the weights.
    """
    factors = known.factors
    if factors is None:
        return _dense(known, site, bits)
    asis = _tried(site, factors, known.ridge, bits)
    assert asis.factors is not None
    noise = inner_noise(asis.factors, site.site.geometry, site.judge.patches)
    ridge = known.ridge or RIDGES[0]

    def attempt(strength: float) -> Trial:
        made = improve_groups(site.problems(ridge, rounding=strength * noise), factors)
        return _tried(site, made, ridge, bits)

    winner = least([asis, *search(STRENGTHS, STRENGTHS.index(1.0), attempt(1.0), attempt)])
    return replace(known, factors=winner.factors, bias=winner.bias, error_heldout=winner.error)


def _tried(site: SiteData, factors: Factors, ridge: float | None, bits: int) -> Trial:
    """Equal ranges, rounded weights, the bias that goes with them, and the error that rounding leaves."""
    geometry, judge = site.site.geometry, site.judge
    even = equalised(factors, geometry, judge.patches).rounded(site.site.dtype)
    rounded = rounded_factors(even, geometry, bits)
    kernel = reconstruct(rounded)
    bias = groups_bias(site.moments, kernel)
    made = outputs_in_steps(rounded, geometry, judge.patches)
    shares = judge.errors_of(made + bias)
    return Trial(ridge, even, kernel, bias, np.zeros(1) if shares is None else shares)


def _dense(known: SiteFit, site: SiteData, bits: int) -> SiteFit:
    """Refit the dense kernel and the bias, or only the bias, or leave both."""
    if site.bias is None:
        return known
    untouched = site.judge.error(rounded_weight(site.weight, bits), site.bias) or 0.0

    def tried(kernel: NDArray[np.floating], ridge: float | None) -> Trial:
        rounded = rounded_weight(kernel, bits)
        bias = groups_bias(site.moments, rounded)
        shares = site.judge.errors(rounded, bias)
        return Trial(ridge, None, kernel, bias, np.zeros(1) if shares is None else shares)

    def attempt(ridge: float) -> Trial:
        return tried(best_kernel(site.problems(ridge)), ridge)

    middle = len(RIDGES) // 2
    trials: Sequence[Trial] = [tried(site.weight, None), *search(RIDGES, middle, attempt(RIDGES[middle]), attempt)]
    winner = best(trials)
    if winner.error >= untouched:
        return known
    return replace(known, kernel=winner.kernel, bias=winner.bias, ridge=winner.ridge, error_heldout=winner.error)

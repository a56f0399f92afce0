"""What measured plans say of the times of single options.

A plan's measured time differs from the predicted one because all replaced layers take longer or shorter than alone (by
a factor, by a constant, or each by its own factor), and because what is around them changes. Each of these deviations
is taken to be normal with mean zero and a known spread. The time of every option is then its mean given all plans that
were measured: a Gaussian process (Rasmussen & Williams, 2006, chapter 2), for which as many equations as plans are
solved.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import numpy as np
from numpy.typing import NDArray

from sepconvert.planning.plans import SiteOption, Timed

Array = NDArray[np.float64]

# Standard deviations: of the factor that all replaced layers have in common, of a single layer's own, of the constant
# (as a share of the mean dense layer), and of what is not a replaced layer's (as a share of the whole model).
COMMON, OWN, CONSTANT, AROUND = 0.3, 0.1, 0.2, 0.03
# Of a measured time: that it deviates in other ways too. Without it, plans that these do not explain gave absurd times.
LEAST_NOISE = 0.015
# Of the dense layer's time: a replaced one takes at least so much.
LEAST_TIME = 0.02


@dataclass(frozen=True, slots=True)
class CorrectedTimes:
    """Times in ms, per site and option, and what a plan takes beyond the sum of its sites' changes."""

    ms: tuple[tuple[float, ...], ...]
    around: float = 0.0


def corrected_times(
    options: Sequence[Sequence[SiteOption]], measured: Sequence[tuple[Sequence[int], Timed]], before_ms: float
) -> CorrectedTimes:
    """Times of all options given measured plans.

    Args:
        options: per site; the dense layer has no scheme, and its time stays.
        measured: the index of the chosen option for each site, and what was measured.
        before_ms: the original's time, in the run that the options' times are from.
    """
    times = [np.array([_replaced_ms(option) for option in every]) for every in options]
    dense = [np.array([option.dense_ms or 0.0 for option in every]) for every in options]
    if not measured:
        return CorrectedTimes(_listed(options, times, dense))
    at = [[every[pick] for every, pick in zip(times, picks, strict=True)] for picks, _ in measured]
    taken = np.array(at, float).reshape(len(measured), len(options))
    counts = (taken > 0).sum(axis=1).astype(float)
    saved = np.array([_dense_ms(options, picks) for picks, _ in measured]) - taken.sum(axis=1)
    shares = np.array([1 / timed.speedup for _, timed in measured])
    noise = np.array([max(log(timed.high / timed.low) / 4, LEAST_NOISE) for _, timed in measured]) * shares * before_ms
    own = [found.max(initial=0.0) for found in dense]
    constant = (CONSTANT * float(np.mean([ms for ms in own if ms > 0] or [0.0]))) ** 2
    around = (AROUND * before_ms) ** 2 * (counts > 0)
    known = COMMON**2 * np.outer(taken.sum(axis=1), taken.sum(axis=1)) + OWN**2 * taken @ taken.T
    known += constant * np.outer(counts, counts) + np.outer(counts > 0, around) + np.diag(noise**2)
    weights = np.linalg.solve(known, shares * before_ms - (before_ms - saved))
    factor, common = COMMON**2 * float(taken.sum(axis=1) @ weights), constant * float(counts @ weights)
    single = OWN**2 * (weights @ taken)
    ms = [every * (1 + factor + mine) + common for every, mine in zip(times, single, strict=True)]
    return CorrectedTimes(_listed(options, ms, dense), float(around @ weights))


def _listed(
    options: Sequence[Sequence[SiteOption]], times: Sequence[Array], dense: Sequence[Array]
) -> tuple[tuple[float, ...], ...]:
    """The dense layer's own time in its place, and no other below what is possible."""
    return tuple(
        tuple(
            float(old if option.scheme is None or option.ms is None else max(ms, LEAST_TIME * old))
            for option, ms, old in zip(*every, strict=True)
        )
        for every in zip(options, times, dense, strict=True)
    )


def _replaced_ms(option: SiteOption) -> float:
    return 0.0 if option.scheme is None else option.ms or 0.0


def _dense_ms(options: Sequence[Sequence[SiteOption]], picks: Sequence[int]) -> float:
    chosen = [every[pick] for every, pick in zip(options, picks, strict=True)]
    return sum(option.dense_ms or 0.0 for option in chosen if option.scheme is not None and option.ms is not None)

"""How much a site loses at each rank, and how much the network feels it.

The damage of a site is its error times the site's sensitivity: the error of the network's output where that site alone
errs by little, over the site's own. An output that joins several values has a damage for each of them.

Over sites damages add up. Above ``TINY_ERROR`` damage is in proportion to the error; below, it falls with the power
1 + growth, which the network's own answers to errors of different sizes tell: 0.00 (a text detector), 0.04 (a
ResNet-50), 0.15 (an edge detector), 0.21 (a VGG), 0.25 (a detector) and 0.44 (a small ResNet).

A perturbed network that is run as it is answers to larger errors more than in proportion, and to some sites much more
than to others; but fits of the layers behind a site make up for much of just those. On a ResNet-50 the first
convolution at an error of 0.03 cost 0.11 of the output, 0.03 after nine layers behind it were refitted and 0.02 after
all were, which is what its sensitivity to small errors gives; where all other sites erred as well it cost 0.01. Sums
for fifteen fitted plans scattered about the measured errors by 0.49 (logarithm) with exponents taken from
perturbations by large errors, by 0.17 in proportion, by 0.10 with sensitivities drawn to their mean by a third. Plans
are made with drawn ones; where few layers are fitted, a prediction keeps nearer to those that were measured. What fits
leave of a sum depends on how many layers are fitted, too: see ``left_by_fits``.

Errors that are known at a few ranks are interpolated: the logarithm of the error over the square root of the rank, by
monotone cubics (Fritsch & Carlson, 1980).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import exp

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepconvert.planning.candidates import rank_ladder
from sepconvert.separable.forms import FORMS, error_by_rank, factorise, reconstruct
from sepconvert.separable.geometry import ConvGeometry

# Errors below this are rounding; their logarithm would only bend the curve.
SMALLEST_ERROR = 1e-12
REFINED_RANKS = 4
# How far sensitivities are drawn to their mean over the sites, in the logarithm.
MODERATION = 1 / 3
# Fits that tell a sensitivity err by at most SMALL_ERROR, most of them by more than TINY_ERROR.
SMALL_ERROR, TINY_ERROR = 0.02, 0.01
# Where answers do not tell the growth; it counts as much as two sites that were seen at a tenth of an error, too.
GROWTH, GROWTH_WEIGHT, MOST_GROWTH = 0.2, 5.0, 0.5
# What fits leave of a sum of damages where hardly any layer is rewritten, and how fast that falls with their share.
LEFT_OF_FEW, LEFT_FALLS = 1.6, 1.9
# The share of rewritten sites from which on sensitivities count as drawn to their mean.
DRAWN_FROM = 2 / 3
# Weights times rank up to which a factorisation is tried just to learn its error: about half a second each.
REFINED_WORK = 3e8


@dataclass(frozen=True, slots=True)
class ErrorCurve:
    """Relative errors of one form at ascending ranks."""

    ranks: tuple[int, ...]
    errors: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.ranks or len(self.ranks) != len(self.errors) or list(self.ranks) != sorted(set(self.ranks)):
            raise ValueError("an error curve needs one error for each of its ascending ranks")
        if self.ranks[0] < 1 or min(self.errors) < 0:
            raise ValueError("ranks start at 1, errors at 0")

    def at(self, rank: int) -> float:
        """Error at a rank: never rising; beyond the known ranks the nearest slope goes on, but not above 1.

        A larger rank can represent all that a smaller one can, so a larger error is a fit that did not converge.
        """
        errors = np.minimum.accumulate(np.maximum(self.errors, SMALLEST_ERROR))
        if rank in self.ranks or len(self.ranks) == 1:
            return float(errors[self.ranks.index(rank)]) if rank in self.ranks else float(errors[0])
        logs = np.log(errors)
        return float(np.exp(min(interpolated(rank**0.5, np.sqrt(self.ranks), logs), max(float(logs[0]), 0.0))))


def interpolated(place: float, places: ArrayLike, logs: ArrayLike) -> float:
    """Logarithm of an error at a place between ascending ones; beyond them the nearest slope goes on."""
    from scipy.interpolate import PchipInterpolator

    x, y = np.asarray(places), np.asarray(logs)
    if x[0] <= place <= x[-1]:
        return float(PchipInterpolator(x, y)(place))
    end, inner = (0, 1) if place < x[0] else (-1, -2)
    return float(y[end] + (y[end] - y[inner]) / (x[end] - x[inner]) * (place - x[end]))


def felt(error: float, growth: float) -> float:
    """What of a site's error a network reacts to in proportion: all above ``TINY_ERROR``, less and less below."""
    share: float = min(error / TINY_ERROR, 1.0) ** growth
    return error * share


def left_by_fits(share: float) -> float:
    """What is left of a sum of damages where this share of a network's sites is rewritten, and so fitted too.

    A layer that is fitted to what it is fed makes up for part of the errors before it. Measured over summed were 1.6 to
    2.6 where 4 to 14 % of the sites were rewritten (a text detector), 1.7 to 1.3 at 13 to 37 % (a ResNet-50), 1.4 to
    0.7 at 16 to 52 % (a detector), 0.6 at 64 % (a small ResNet) and 0.2 to 0.4 at 70 % (a VGG, an edge detector):
    ``python -m tests.benchmarks.damage``.
    """
    return LEFT_OF_FEW * exp(-LEFT_FALLS * share)


def drawn_by_fits(share: float) -> float:
    """How far sensitivities are drawn to their mean, as a share of ``MODERATION``, where this share is rewritten."""
    return min(1.0, share / DRAWN_FROM)


@dataclass(frozen=True, slots=True)
class SiteProfile:
    """What is known of one site: an error curve per form, and how sensitive the network's outputs are to its error.

    ``effects`` are what was measured: errors of the site, and with each those of the outputs' parts, by name.
    ``sensitivities`` are what ``told`` makes of those of all sites: relative errors of the parts over what is ``felt``
    of the site's; a part that is not named does not react. Empty where nothing was measured, and then damage is the
    site's own error. ``typical`` are their means over the network. ``rounded`` are the curves of a site whose weights
    and inner values are integers, where these were asked for.
    """

    curves: Mapping[str, ErrorCurve]
    sensitivities: Mapping[str, float] = field(default_factory=dict)
    typical: Mapping[str, float] = field(default_factory=dict)
    growth: float = GROWTH
    rounded: Mapping[str, ErrorCurve] = field(default_factory=dict)
    effects: tuple[tuple[float, Mapping[str, float]], ...] = ()

    @property
    def in_integers(self) -> "SiteProfile":
        """The same site where it computes in integers, as far as that is known."""
        return replace(self, curves={**self.curves, **self.rounded})

    def error(self, form: str, rank: int) -> float:
        """Predicted relative error of the site."""
        return self.curves[form].at(rank)

    def damages(self, form: str, rank: int, parts: Sequence[str], moderation: float = MODERATION) -> tuple[float, ...]:
        """Share in the sum of damages to each of the outputs' ``parts``; of one if none is known."""
        error = self.error(form, rank)
        if not self.sensitivities:
            return (error,) * max(1, len(parts))
        drawn = {
            part: self.typical.get(part, own) ** moderation * own ** (1 - moderation)
            for part, own in self.sensitivities.items()
        }
        return tuple(drawn.get(part, 0.0) * felt(error, self.growth) for part in parts)


def sensitive_parts(profiles: Iterable[SiteProfile]) -> tuple[str, ...]:
    """The parts of the outputs that any of the sites is known to change."""
    return tuple(dict.fromkeys(part for profile in profiles for part in profile.sensitivities))


def told(profiles: Sequence[SiteProfile]) -> list[SiteProfile]:
    """Give every site the sensitivities that its effects tell, with the growth and the means that those of all tell.

    A mean is geometric, of sensitivities to small errors; where none is to a small one, of all.
    """
    growth = growth_of(profiles)
    own = [_sensitivities(profile, growth) for profile in profiles]
    small = [max((error for error, _ in profile.effects), default=0.0) <= SMALL_ERROR for profile in profiles]
    typical = {}
    for part in dict.fromkeys(part for found in own for part in found):
        all_known = [place for place, found in enumerate(own) if part in found]
        known = [place for place in all_known if small[place]] or all_known
        typical[part] = float(np.exp(np.mean(np.log([own[place][part] for place in known]))))
    return [
        replace(profile, sensitivities=found, typical=typical, growth=growth, effects=())
        for profile, found in zip(profiles, own, strict=True)
    ]


def growth_of(profiles: Iterable[SiteProfile]) -> float:
    """The power of a site's error, beyond 1, with which the outputs' errors fall: one for all sites of a network.

    It is the slope of the logarithms by least squares, within each site and part, drawn to ``GROWTH``.
    """
    along, squares = GROWTH * GROWTH_WEIGHT, GROWTH_WEIGHT
    for profile in profiles:
        for part in dict.fromkeys(part for _, parts in profile.effects for part in parts):
            seen = [(error, parts[part]) for error, parts in profile.effects if part in parts and error <= SMALL_ERROR]
            if len(seen) > 1:
                x, y = np.log(np.array(seen)).T
                x = x - x.mean()
                share = 1 / len(profile.effects[0][1])  # a site counts once, however many parts it has
                along, squares = along + share * float(x @ (y - y.mean() - x)), squares + share * float(x @ x)
    return float(np.clip(along / squares, 0.0, MOST_GROWTH))


def _sensitivities(profile: SiteProfile, growth: float) -> dict[str, float]:
    """By part, the geometric mean over what was seen. Single errors of one size hurt differently, by up to 3 times."""
    ratios: dict[str, list[float]] = {}
    for error, parts in profile.effects:
        for part, reaction in parts.items():
            ratios.setdefault(part, []).append(reaction / felt(error, growth))
    return {part: float(np.exp(np.mean(np.log(found)))) for part, found in ratios.items()}


def profile_weights(
    weight: NDArray[np.floating], geometry: ConvGeometry, forms: Sequence[str], rng: np.random.Generator
) -> SiteProfile:
    """Profile of a site without data: the share of the squared weights that each rank drops, sensitivity unknown.

    Args:
        weight: (M, C, *kernel).
        geometry: the convolution.
        forms: keys of ``FORMS``.
        rng: starts of iterative factorisations.
    """
    curves = {}
    for form in forms:
        bound = error_by_rank(form, weight, geometry)
        errors = bound * _refinement(weight, geometry, form, bound, rng) if FORMS[form].BOUNDED else bound
        curves[form] = ErrorCurve(tuple(range(1, len(errors) + 1)), tuple(float(error) for error in errors))
    return SiteProfile(curves)


def _refinement(
    weight: NDArray[np.floating],
    geometry: ConvGeometry,
    form: str,
    bound: NDArray[np.float64],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """What factorising really leaves of the bound, by rank: found at a few affordable ranks, and interpolated."""
    ladder = [rank for rank in rank_ladder(form, geometry) if rank * weight.size <= REFINED_WORK]
    ranks = spread_ranks(ladder, REFINED_RANKS)
    if not ranks:
        return np.ones(len(bound))
    energy = float(np.vdot(weight, weight)) or 1.0
    shares = []
    for rank in ranks:
        left = weight - reconstruct(factorise(form, weight, rank, geometry, rng))
        shares.append(float(np.vdot(left, left)) / energy / max(float(bound[rank - 1]), SMALLEST_ERROR))
    share: NDArray[np.float64] = np.interp(np.log(np.arange(1, len(bound) + 1)), np.log(ranks), np.minimum(shares, 1.0))
    return share


def spread_ranks(ranks: Sequence[int], points: int) -> tuple[int, ...]:
    """A few of the ascending ranks, the ends included, evenly spaced by place: where errors are really estimated."""
    if len(ranks) <= points:
        return tuple(ranks)
    places = np.linspace(0, len(ranks) - 1, points).round().astype(int)
    return tuple(ranks[place] for place in dict.fromkeys(places.tolist()))

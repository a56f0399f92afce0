"""How much a site loses at each rank, and how much the network feels it.

The damage of a site is what the network's output loses when that site alone errs; over sites damages add up, which
holds for small errors that do not know of each other. It is measured at a small and a large error of the site: large
ones hurt more than in proportion (on a ResNet-50 up to 4 times), and a knapsack finds every site that only looks cheap.
At equal errors single fits of a ResNet-50's sites hurt differently by factors of up to 3, mostly by chance: at the one
site where two forms were fitted for good they hurt alike, and plans of a VGG that believed the difference erred by a
third more. So effects of all forms are taken together.
Errors are estimated at a few ranks and interpolated:
the logarithm of the error over the logarithm of the rank, by monotone cubics (Fritsch & Carlson, 1980). On a trained
VGG four ranks of eight to ten gave the others to 7-34 %, straight lines to 12-57 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.planning.candidates import rank_ladder
from sepconvert.separable.forms import FORMS
from sepconvert.separable.geometry import ConvGeometry

# Errors below this are rounding; their logarithm would only bend the curve.
SMALLEST_ERROR = 1e-12
# Forms whose data-free curve is that of their start: alternating least squares leaves 6 to 90 % of it.
BOUNDED_FORMS = ("pw_dw_pw",)
REFINED_RANKS = 4
# Exponent of the output's error over a site's; and how far (logarithm) two errors lie apart to tell it.
STEEPEST = 2.0
SHORTEST_SPAN = 0.7
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

    def at(self, rank: int) -> float:
        """Error at a rank: never rising; beyond the known ranks the nearest slope goes on, but not above 1.

        A larger rank can represent all that a smaller one can, so a larger error is a fit that did not converge.
        """
        errors = np.minimum.accumulate(np.maximum(self.errors, SMALLEST_ERROR))
        if rank in self.ranks or len(self.ranks) == 1:
            return float(errors[self.ranks.index(rank)]) if rank in self.ranks else float(errors[0])
        from scipy.interpolate import PchipInterpolator

        logs, places, place = np.log(errors), np.log(np.array(self.ranks, dtype=float)), float(np.log(rank))
        if places[0] <= place <= places[-1]:
            return float(np.exp(PchipInterpolator(places, logs)(place)))
        end, inner = (0, 1) if place < places[0] else (-1, -2)
        slope = (logs[end] - logs[inner]) / (places[end] - places[inner])
        return float(np.exp(min(logs[end] + slope * (place - places[end]), max(logs[0], 0.0))))


@dataclass(frozen=True, slots=True, order=True)
class Effect:
    """Relative error of one site, and of the network's worst output where nothing else errs; both above 0."""

    site_error: float
    output_error: float


@dataclass(frozen=True, slots=True)
class Response:
    """The network's answer to one site's errors, from effects at ascending errors of the site.

    A power of the error, whose exponent (between 1, because few samples may say less, and ``STEEPEST``) and factor the
    effects give by least squares of the logarithms; below the smallest error the answer is proportional.
    """

    effects: tuple[Effect, ...]

    def __post_init__(self) -> None:
        if not self.effects or list(self.effects) != sorted(self.effects):
            raise ValueError("a response needs effects at ascending errors")

    def at(self, error: float) -> float:
        """Predicted relative error of the network's output."""
        logs = np.log([(effect.site_error, effect.output_error) for effect in self.effects])
        (place, height), spread = logs.mean(axis=0), logs - logs.mean(axis=0)
        exponent = 1.0
        if logs[-1, 0] - logs[0, 0] >= SHORTEST_SPAN:
            slope = float(spread[:, 0] @ spread[:, 1] / (spread[:, 0] @ spread[:, 0]))
            exponent = min(max(slope, 1.0), STEEPEST)
        smallest = float(logs[0, 0])
        here = float(np.log(error))
        return float(np.exp(height + exponent * (max(here, smallest) - place) + min(here - smallest, 0.0)))


@dataclass(frozen=True, slots=True)
class SiteProfile:
    """What is known of one site: an error curve per form, and how the network answers to its errors.

    ``response`` is None where it was not measured; then damage is the site's own error.
    """

    curves: Mapping[str, ErrorCurve]
    response: Response | None = None

    def error(self, form: str, rank: int) -> float:
        """Predicted relative error of the site."""
        return self.curves[form].at(rank)

    def damage(self, form: str, rank: int) -> float:
        """Predicted contribution to the network's relative output error."""
        error = self.error(form, rank)
        return error if self.response is None else self.response.at(error)


def profile_weights(
    weight: NDArray[np.floating], geometry: ConvGeometry, forms: Sequence[str], rng: np.random.Generator
) -> SiteProfile:
    """Profile of a site without data: the share of the squared weights that each rank drops, response unknown.

    Args:
        weight: (M, C, *kernel).
        geometry: the convolution.
        forms: keys of ``FORMS``.
        rng: starts of iterative factorisations.
    """
    curves = {}
    for form in forms:
        bound = FORMS[form].error_by_rank(weight, geometry)
        errors = bound * _refinement(weight, geometry, form, bound, rng) if form in BOUNDED_FORMS else bound
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
        left = weight - FORMS[form].factorise(weight, rank, geometry, rng).reconstruct()
        shares.append(float(np.vdot(left, left)) / energy / max(float(bound[rank - 1]), SMALLEST_ERROR))
    share: NDArray[np.float64] = np.interp(np.log(np.arange(1, len(bound) + 1)), np.log(ranks), np.minimum(shares, 1.0))
    return share


def spread_ranks(ranks: Sequence[int], points: int) -> tuple[int, ...]:
    """A few of the ascending ranks, the ends included, evenly spaced by place: where errors are really estimated."""
    if len(ranks) <= points:
        return tuple(ranks)
    places = np.linspace(0, len(ranks) - 1, points).round().astype(int)
    return tuple(ranks[place] for place in dict.fromkeys(places.tolist()))

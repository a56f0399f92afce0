"""How much a site loses at each rank, and how much the network feels it.

The damage of a site is what the network's output loses when that site alone errs; over sites damages add up, which
holds for small errors that do not know of each other. It is measured at a small and a large error of the site: large
ones hurt more than in proportion (on a ResNet-50 up to 4 times), and a knapsack finds every site that only looks cheap.
Errors of different forms hurt differently too: at equal errors of a ResNet-50's sites by factors of up to 3.
Errors are estimated at a few ranks and interpolated:
the logarithm of the error over the logarithm of the rank, by monotone cubics (Fritsch & Carlson, 1980). On a trained
VGG four ranks of eight to ten gave the others to 7-34 %, straight lines to 12-57 %.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

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

    Below the smallest, the output's error is proportional to the site's; from there on it follows a power whose
    exponent the first and the last effect give, between 1 (few samples may say less) and ``STEEPEST``.
    """

    effects: tuple[Effect, ...]

    def __post_init__(self) -> None:
        if not self.effects or list(self.effects) != sorted(self.effects):
            raise ValueError("a response needs effects at ascending errors")

    def at(self, error: float) -> float:
        """Predicted relative error of the network's output."""
        first, last = self.effects[0], self.effects[-1]
        span = np.log(last.site_error / first.site_error)
        if span < SHORTEST_SPAN:
            return error * last.output_error / last.site_error
        exponent = float(np.log(last.output_error / first.output_error) / span)
        if exponent < 1:
            shares = [effect.output_error / effect.site_error for effect in self.effects]
            return error * float(np.exp(np.mean(np.log(shares))))
        linear = error * first.output_error / first.site_error
        above = max(1.0, error / first.site_error)
        return linear * float(above ** (min(exponent, STEEPEST) - 1))

    def through(self, effect: Effect) -> "Response":
        """The same curve, raised or lowered so that it passes through one effect."""
        scale = effect.output_error / self.at(effect.site_error)
        return Response(tuple(replace(known, output_error=scale * known.output_error) for known in self.effects))


@dataclass(frozen=True, slots=True)
class SiteProfile:
    """What is known of one site: by form, its error curve and how the network answers to such errors.

    Where no response was measured, damage is the site's own error.
    """

    curves: Mapping[str, ErrorCurve]
    responses: Mapping[str, Response] = field(default_factory=dict)

    def error(self, form: str, rank: int) -> float:
        """Predicted relative error of the site."""
        return self.curves[form].at(rank)

    def damage(self, form: str, rank: int) -> float:
        """Predicted contribution to the network's relative output error."""
        error = self.error(form, rank)
        return self.responses[form].at(error) if form in self.responses else error


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

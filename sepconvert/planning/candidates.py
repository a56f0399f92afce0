"""What a site could become: forms × a ladder of ranks, less what cannot win.

1. Ranks climb in steps that runtimes like: channel counts that are multiples of 4, 8 or 16 (the width of their vector
   blocks) for the bottleneck forms, small integers for the depthwise ones.
2. Nothing at or above break-even, where the factors cost as much as the dense convolution, nor close to it: several
   nodes with as many multiply-adds as one are slower, and the error at such ranks is the dearest to estimate.
   Of a very wide convolution with a long kernel no rank whose fit would take many minutes.
3. A candidate is dominated when another one is no worse in every figure that counts, and only then: what is left out
   by a rule of thumb makes more choice give worse plans.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import partial

from sepconvert.graph.sites import ConvSite
from sepconvert.separable.forms import FORMS, max_useful_rank, scheme_for
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme
from sepconvert.separable.signals import is_long

POINTS = 10  # ranks per form
SMALLEST_SHARE = 1 / 24  # of the break-even rank: below, a site is all but cut out of the network
LARGEST_SHARE = 0.7
# Multiply-adds per evaluation of a long kernel's search: about 20 seconds on a core with AVX2. A fit takes 5 to 120
# evaluations at each of several ridges.
MOST_WORK = 6e11


def rank_ladder(form: str, geometry: ConvGeometry, points: int = POINTS) -> tuple[int, ...]:
    """Ranks worth trying, ascending and below break-even; empty where the form cannot save anything.

    Args:
        form: key of ``FORMS``.
        geometry: the convolution.
        points: at most this many, at least 2; they are spread evenly in the logarithm of the rank.
    """
    largest = max_useful_rank(form, geometry)
    if largest < 1:
        return ()
    step = rank_step(form, largest)
    highest = max(1, _affordable(form, geometry, int(LARGEST_SHARE * largest)) // step)
    lowest = min(max(1, round(largest * SMALLEST_SHARE / step)), highest)
    if highest - lowest < points:
        return tuple(step * i for i in range(lowest, highest + 1))
    ratio = (highest / lowest) ** (1 / (points - 1))
    return tuple(sorted({step * min(highest, round(lowest * ratio**i)) for i in range(points)}))


def _affordable(form: str, geometry: ConvGeometry, largest: int) -> int:
    """Largest rank up to ``largest`` that a fit can be made of in minutes; at least 1."""
    if not is_long(geometry):
        return largest
    work = partial(FORMS[form].work_by_lags, geometry)
    return max(1, bisect_right(range(1, largest + 1), MOST_WORK, key=work))


def rank_step(form: str, largest: int) -> int:
    """Distance of the ladder's rungs: 16, 8 or 4 channels for bottlenecks that can be that wide, else 1."""
    if not FORMS[form].CHANNELS:
        return 1
    return next((step for step, width in ((16, 128), (8, 40), (4, 16)) if largest >= width), 1)


def site_candidates(
    site: ConvSite, forms: Sequence[str], points: int = POINTS, lowering: str = "auto"
) -> tuple[Scheme, ...]:
    """Schemes of every one of the forms that can save anything at this site, in one lowering each."""
    return tuple(
        scheme_for(form, rank, lowering, site.geometry.groups)
        for form in forms
        for rank in rank_ladder(form, site.geometry, points)
    )


def prune_by_figures(costs: Sequence[tuple[float, ...]]) -> tuple[int, ...]:
    """Indices of the options that no other is at least as good as in every figure; of equal ones, the first."""
    kept = []
    for index, cost in enumerate(costs):
        beaten = any(
            all(a <= b for a, b in zip(other, cost, strict=True)) and (other != cost or place < index)
            for place, other in enumerate(costs)
            if place != index
        )
        if not beaten:
            kept.append(index)
    return tuple(kept)

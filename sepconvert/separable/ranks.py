"""Which ranks are worth having: break-even, the largest useful rank, and the rank for a share of the cost.

Ranks are compared by MACs, every factor counted at its own resolution, or by weights where the spatial size is unknown.
The cost of a form grows at least in proportion to its rank.
"""

from collections.abc import Callable

from sepconvert.separable.forms import FORMS, cost_of
from sepconvert.separable.geometry import ConvGeometry

# Shares such as 1/3 have no exact binary value; a rank that costs exactly the share must not be lost to rounding.
_ROUNDING = 1e-9


def break_even(form: str, geometry: ConvGeometry) -> float:
    """The (fractional) rank at which the form costs as much as the dense convolution; for messages."""
    dense, size = _sizes(form, geometry)
    below = _largest(size, dense)
    lower = size(below) if below else 0
    return below + (dense - lower) / (size(below + 1) - lower)


def max_useful_rank(form: str, geometry: ConvGeometry) -> int:
    """Largest rank that costs less than the dense convolution, at most the full rank; 0 if there is none."""
    dense, size = _sizes(form, geometry)
    return min(FORMS[form].full_rank(geometry), _largest(size, dense - 1))


def rank_for_share(form: str, geometry: ConvGeometry, share: float) -> int:
    """Largest rank that costs at most ``share`` of the dense convolution; at least 1, at most the full rank.

    Rank 1 may cost more than the share, and even more than the dense convolution: compare with ``max_useful_rank``.
    """
    dense, size = _sizes(form, geometry)
    rank = max(1, _largest(size, share * dense + _ROUNDING * size(1)))
    return min(FORMS[form].full_rank(geometry), rank)


def _largest(size: Callable[[int], int], limit: float) -> int:
    """Largest rank whose size is at most the limit."""
    low, high = 0, int(limit // size(1)) + 1
    # The size of rank 1, times the rank, is often all there is: then the first look settles it.
    middle = high - 1
    while high - low > 1:
        low, high = (middle, high) if size(middle) <= limit else (low, middle)
        middle = (low + high) // 2
    return low


def _sizes(form: str, geometry: ConvGeometry) -> tuple[int, Callable[[int], int]]:
    """Size of the dense convolution and of the form by rank: MACs if known and not zero, else weights."""
    dense, unit = geometry.dense_cost, cost_of(form, geometry, 1)
    if dense.macs and unit.macs:
        return dense.macs, lambda rank: cost_of(form, geometry, rank).macs or 0
    return dense.params, lambda rank: cost_of(form, geometry, rank).params

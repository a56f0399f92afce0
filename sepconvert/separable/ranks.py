"""Which ranks are worth having: break-even, the largest useful rank, and the rank for a share of the cost.

Ranks are compared by MACs, every factor counted at its own resolution, or by weights where the spatial size is unknown.
The cost of every form is proportional to its rank.
"""

from math import floor

from sepconvert.separable.forms import FORMS
from sepconvert.separable.geometry import ConvGeometry

# Shares such as 1/3 have no exact binary value; a rank that costs exactly the share must not be lost to rounding.
_ROUNDING = 1e-9


def break_even(form: str, geometry: ConvGeometry) -> float:
    """The (fractional) rank at which the form costs as much as the dense convolution; for messages."""
    dense, unit = _sizes(form, geometry)
    return dense / unit


def max_useful_rank(form: str, geometry: ConvGeometry) -> int:
    """Largest rank that costs less than the dense convolution, at most the full rank; 0 if there is none."""
    dense, unit = _sizes(form, geometry)
    return min(FORMS[form].full_rank(geometry), (dense - 1) // unit)


def rank_for_share(form: str, geometry: ConvGeometry, share: float) -> int:
    """Largest rank that costs at most ``share`` of the dense convolution; at least 1, at most the full rank.

    Rank 1 may cost more than the share, and even more than the dense convolution: compare with ``max_useful_rank``.
    """
    dense, unit = _sizes(form, geometry)
    return min(FORMS[form].full_rank(geometry), max(1, floor(share * dense / unit + _ROUNDING)))


def _sizes(form: str, geometry: ConvGeometry) -> tuple[int, int]:
    """Cost of the dense convolution and of rank 1: MACs if known and not zero, else weights."""
    dense, unit = geometry.dense_cost, FORMS[form].cost(geometry, 1)
    if dense.macs and unit.macs:
        return dense.macs, unit.macs
    return dense.params, unit.params

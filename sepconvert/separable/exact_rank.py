"""Tell whether a kernel *is* of low rank, up to the rounding of its type.

A kernel that was made of factors, ``Σ_j P D``, and stored in a type of unit roundoff u differs from its factors by u of
each entry, and by u more for each of the r sums and products that made it there. So its squared error relative to
``‖W‖²`` is at most about ``((r + 2) u)²``, where that of a trained kernel is 10⁻¹ to 10⁻³.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.forms import FORMS, cost_of, error_by_rank, max_useful_rank, scheme_for
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme

# What the decompositions leave of nothing: in float32, where they are looked at first, and in float64.
_SEEN, _LEAST = 1e-5, 1e-13
_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def exact_scheme(
    forms: Sequence[str], weight: NDArray[np.generic], geometry: ConvGeometry, dtype: str
) -> Scheme | None:
    """Return the cheapest scheme that represents a kernel (M, C/g, *k) to the rounding of ``dtype``, or None.

    Only ranks that cost less than the kernel itself count, and only forms whose error by rank is no mere bound. A
    kernel of zeros has no rank.
    """
    if not weight.any():
        return None
    found = []
    for form in forms:
        largest = max_useful_rank(form, geometry)
        if largest < 1 or FORMS[form].BOUNDED:
            continue
        rank = _exact_rank(form, weight, geometry, dtype, largest)
        if rank is not None:
            found.append(scheme_for(form, rank, groups=geometry.groups))
    return min(found, key=lambda scheme: _size(scheme, geometry), default=None)


def _exact_rank(form: str, weight: NDArray[np.generic], geometry: ConvGeometry, dtype: str, largest: int) -> int | None:
    limits = np.maximum(((np.arange(1, largest + 1) + 2) * _ROUNDOFF[dtype]) ** 2, _LEAST)
    seen = error_by_rank(form, weight.astype(np.float32), geometry)[:largest]
    if not (seen <= np.maximum(limits, _SEEN)).any():
        return None
    exact = error_by_rank(form, weight.astype(np.float64), geometry)[:largest] <= limits
    return int(exact.argmax()) + 1 if exact.any() else None


def _size(scheme: Scheme, geometry: ConvGeometry) -> int:
    cost = cost_of(scheme.form, geometry, scheme.rank)
    return cost.params if cost.macs is None else cost.macs

"""Number types by the names that models and records use: numpy's, and ``bfloat16``, which numpy does not know."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
"""The floating-point types that values of a model are computed in."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """Return the numpy type called ``name``, ml_dtypes' for ``bfloat16``.

    Raises:
        TypeError: there is no such type.
    """
    if name == "bfloat16":
        import ml_dtypes

        bfloat16: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return bfloat16
    return np.dtype(name)


def rounded(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Round to the type called ``dtype``: the one way in which what was computed becomes a model's weights.

    What is too large for a narrow type becomes infinite.
    """
    with np.errstate(over="ignore"):
        return array.astype(numpy_dtype(dtype))


def is_float(dtype: np.dtype[Any]) -> bool:
    """Tell whether a numpy type is one of ``FLOATS``; ``dtype.kind`` does not tell of bfloat16."""
    return dtype.name in FLOATS


def too_large(array: NDArray[Any]) -> float | None:
    """Return the largest magnitude among floats if it is one that no network meets and whose products overflow."""
    if not is_float(array.dtype):
        return None
    largest = float(np.abs(array).max(initial=0))
    return largest if largest > (1e150 if array.dtype == np.float64 else 1e15) else None

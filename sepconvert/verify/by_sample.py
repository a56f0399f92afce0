"""Bring the samples of a batch to the front of what a model gives."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Axes = Mapping[str, int | None]


def by_sample(name: str, array: NDArray[Any], rows: int, axes: Axes) -> NDArray[Any]:
    """Return a value (…) with its samples first, or as one sample (1, …) where it answers for the whole batch.

    Args:
        name: of the value.
        array: what the model gives for one batch.
        rows: samples in the batch.
        axes: the axis of the samples by name, None for none; where nothing is known, the first axis if it has as many.
    """
    axis = axes[name] if name in axes else (0 if array.ndim and len(array) == rows else None)
    return array[np.newaxis] if axis is None else np.moveaxis(array, axis, 0)

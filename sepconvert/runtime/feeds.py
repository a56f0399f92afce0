"""Feed two versions of one model the same samples, although their inputs may differ in name or float type."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.number_types import FLOATS, numpy_dtype
from sepconvert.runtime.sessions import TensorInfo


def pair_inputs(first: Sequence[TensorInfo], second: Sequence[TensorInfo]) -> dict[str, TensorInfo]:
    """Return the second model's input for each input name of the first: by name, or in order where all differ.

    Raises:
        ModelError: they do not correspond.
    """
    later = {info.name: info for info in second}
    if len(first) == len(second) and not any(info.name in later for info in first):
        return {one.name: other for one, other in zip(first, second, strict=True)}
    if set(later) != {info.name for info in first}:
        raise ModelError(
            f"The models' inputs do not correspond: {', '.join(info.name for info in first)} before, "
            f"{', '.join(later)} after; compare two versions of one model."
        )
    return later


def adapt_feeds(feeds: Mapping[str, NDArray[Any]], renamed: Mapping[str, TensorInfo]) -> dict[str, NDArray[Any]]:
    """Name the feeds as the second model does, and round them where it takes another float type."""
    adapted = {}
    for name, array in feeds.items():
        info = renamed[name]
        same = array.dtype.name == info.dtype
        if not same and not {info.dtype, array.dtype.name} <= FLOATS:
            raise ModelError(
                f"Input '{info.name}' is {array.dtype} before but {info.dtype} after; compare two versions of one "
                "model."
            )
        adapted[info.name] = array if same else array.astype(numpy_dtype(info.dtype))
    return adapted

"""Random inputs, for when there is no data."""

from collections.abc import Sequence
from math import prod

import numpy as np

from sepconvert.data.dataset import Dataset, Feeds, make_dataset
from sepconvert.data.matching import ArraySource, input_dtype, static_batch
from sepconvert.data.preprocess import Preprocess, show
from sepconvert.errors import DataError
from sepconvert.number_types import is_float
from sepconvert.record import InputInfo

MOST_BYTES = 1 << 30  # per input


def random_inputs(inputs: Sequence[InputInfo], count: int, rng: np.random.Generator) -> Dataset:
    """Draw ``count`` samples: normal floats, bytes 0–255, other integers and booleans 0 or 1 (valid as indices).

    Dimensions come from ``used_shape``, else from the static declared ones.

    Raises:
        DataError: a dimension other than the batch is unknown, an input takes no numbers, or all of them more than
            ``MOST_BYTES``.
    """
    origin = f"random inputs ({_kinds(inputs)}, seeded), {count} samples"
    constant = frozenset(info.name for info in inputs if not info.declared_shape)
    batch = static_batch(inputs, constant, origin)
    total = -(-count // (batch or 1)) * (batch or 1)
    arrays: Feeds = {}
    for info in inputs:
        shape = () if info.name in constant else (total, *_sample_shape(info))
        dtype = input_dtype(info, origin)
        size = prod(shape) * dtype.itemsize
        if size > MOST_BYTES:
            raise DataError(
                f"Random inputs {show(shape)} for '{info.name}' take {size / 1e9:,.0f} GB; pass smaller sizes with "
                "--input, or --data."
            )
        if is_float(dtype):
            arrays[info.name] = rng.standard_normal(shape, np.float32).astype(dtype)
        else:
            high = 256 if dtype == np.uint8 else 2
            arrays[info.name] = rng.integers(0, high, shape).astype(dtype)
    source = ArraySource(arrays, tuple(inputs), Preprocess(), constant)
    return make_dataset(source, total, origin, batch=batch, synthetic=True)


def _kinds(inputs: Sequence[InputInfo]) -> str:
    """How the values of inputs are drawn, in words; by name where that differs."""
    kinds = {info.name: _kind(info.dtype) for info in inputs}
    if len(set(kinds.values())) == 1:
        return next(iter(kinds.values()))
    return "; ".join(f"{name}: {kind}" for name, kind in kinds.items())


def _kind(dtype: str) -> str:
    if "float" in dtype:
        return "standard normal"
    return "bytes 0 to 255" if dtype == "uint8" else "true or false" if dtype == "bool" else "integers 0 and 1"


def _sample_shape(info: InputInfo) -> tuple[int, ...]:
    used = info.used_shape if info.used_shape is not None else info.declared_shape
    sides = [side for side in used[1:] if isinstance(side, int)]
    if len(sides) != len(used) - 1:
        raise DataError(
            f"Input '{info.name}' has unknown dimensions {show(info.declared_shape)}; pass --data, or "
            f"--input {info.name}:1x3x224x224 with the model's own sizes."
        )
    return tuple(sides)

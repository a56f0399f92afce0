"""Do these arrays fit the model's inputs? Names, shapes, dtypes and values, checked before anything runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data.dataset import Feeds
from sepconvert.data.preprocess import Preprocess, normalise, show
from sepconvert.errors import DataError
from sepconvert.number_types import is_float, numpy_dtype, too_large
from sepconvert.record import InputInfo

LABELS = "y"
_CHUNK = 64  # samples converted at a time while checking


@dataclass(frozen=True, slots=True)
class ArraySource:
    """Samples held as one array per input, converted when they are read.

    ``constant`` names the inputs whose array is fed whole to every batch.
    """

    arrays: Mapping[str, NDArray[Any]]
    inputs: tuple[InputInfo, ...]
    preprocess: Preprocess
    constant: frozenset[str]

    def read(self, indices: NDArray[np.int64]) -> Feeds:
        """Return the samples at ``indices``, converted to the inputs' dtypes."""
        feeds = {}
        for info in self.inputs:
            array = self.arrays[info.name]
            rows = array if info.name in self.constant else array[indices]
            feeds[info.name] = convert(rows, info, self.preprocess)
        return feeds

    def group(self, index: int) -> int:
        """All samples have one shape."""
        del index
        return 0


def match_names(arrays: Mapping[str, NDArray[Any]], inputs: Sequence[InputInfo], origin: str) -> Feeds:
    """Return the arrays by input name; ``x`` stands for the only input.

    Raises:
        DataError: an input has no array, or an array no input.
    """
    names = [info.name for info in inputs]
    wanted = ", ".join(f"'{name}'" for name in names)
    found = dict(arrays)
    if len(names) == 1 and names[0] not in found and "x" in found:
        found[names[0]] = found.pop("x")
    missing = [name for name in names if name not in found]
    if missing:
        has = ", ".join(f"'{name}'" for name in arrays) or "nothing"
        raise DataError(f"{origin} has no array for input '{missing[0]}' (it holds {has}); name the arrays {wanted}.")
    strange = [name for name in found if name not in names]
    if strange:
        labels = "" if LABELS in names else f"; labels are called '{LABELS}'"
        raise DataError(f"{origin}: array '{strange[0]}' is no input of the model; name the arrays {wanted}{labels}.")
    return found


def check_samples_first(inputs: Sequence[InputInfo], origin: str) -> None:
    """Refuse an input whose samples lie along another axis, as the states of recurrent layers do.

    It is known by the name of that dimension, which is the first one of another input.

    Raises:
        DataError: it names the input.
    """
    first = {info.declared_shape[0] for info in inputs if info.declared_shape}
    batches = {size for size in first if isinstance(size, str)}
    for info in inputs:
        shape = info.declared_shape or []
        if shape and isinstance(shape[0], int) and batches.intersection(shape[1:]):
            name = next(size for size in shape[1:] if size in batches)
            once = show([1 if size == name else size for size in shape])
            raise DataError(
                f"{origin}: input '{info.name}' {show(shape)} has its samples along '{name}', but only inputs whose "
                f"samples come first can be cut into batches; export the model with '{name}' fixed to 1 and give one "
                f"array {once} for all samples, or wrap it so that it takes them first."
            )


def static_batch(inputs: Sequence[InputInfo], constant: frozenset[str], origin: str) -> int | None:
    """Return the batch size the model insists on, or None.

    Raises:
        DataError: the inputs have different static batch sizes.
    """
    sizes = {info.declared_shape[0] for info in inputs if info.name not in constant and info.declared_shape}
    fixed = sorted(size for size in sizes if isinstance(size, int))
    if len(fixed) > 1:
        raise DataError(
            f"{origin}: the model's inputs have different static batch sizes ({', '.join(map(str, fixed))}), which "
            "cannot be cut into samples; export it with one batch size."
        )
    return fixed[0] if fixed else None


def find_constant(arrays: Mapping[str, NDArray[Any]], inputs: Sequence[InputInfo]) -> frozenset[str]:
    """Name the inputs without samples: scalars, and arrays of exactly the static shape where others hold more."""
    longest = max((arrays[info.name].shape[0] for info in inputs if arrays[info.name].ndim), default=0)
    names = set()
    for info in inputs:
        shape = arrays[info.name].shape
        whole = list(shape) == list(info.declared_shape)
        if not info.declared_shape or (whole and shape[0] != longest):
            names.add(info.name)
    return frozenset(names) if len(names) < len(inputs) else frozenset()


def check_shape(shape: Sequence[int], info: InputInfo, origin: str) -> None:
    """Check a batch's shape (N, …) against the input's; the batch size is free.

    Raises:
        DataError: the rank or a static dimension differs, or a dimension is zero.
    """
    declared = info.declared_shape
    if not _fits(shape, declared):
        raise DataError(
            f"{origin}: array for input '{info.name}' has shape {show(shape)} but the model takes "
            f"{show(declared)}{_hint(shape, declared)}."
        )
    if 0 in shape[1:]:
        raise DataError(
            f"{origin}: array for input '{info.name}' has shape {show(shape)}, which is empty; give real samples."
        )


def _fits(shape: Sequence[int], declared: Sequence[object]) -> bool:
    return len(shape) == len(declared) and all(
        not isinstance(want, int) or want == have for want, have in zip(declared[1:], shape[1:], strict=True)
    )


def _hint(shape: Sequence[int], declared: Sequence[object]) -> str:
    if len(shape) + 1 == len(declared):
        return "; add the leading batch dimension"
    if list(shape[1:]) == list(declared):
        return "; it takes one input at a time, without a batch: export it with a leading batch dimension"
    if len(shape) == len(declared) == 4:
        for order, layout in (((0, 3, 1, 2), "NHWC"), ((0, 2, 3, 1), "NCHW")):
            if _fits([shape[axis] for axis in order], declared):
                return f"; the array seems to be {layout}, transpose it with np.transpose(a, {order})"
    return "; give arrays of that shape"


def check_dtype(array: NDArray[Any], info: InputInfo, preprocess: Preprocess, origin: str) -> None:
    """Check that the values can become the input's dtype without guessing.

    Raises:
        DataError: text, objects or complex numbers; floats for an integer input; integers for a floating input
            without ``--scale``, ``--mean`` or ``--std``.
    """
    have, want = array.dtype, input_dtype(info, origin)
    if have.kind not in "biuf" and not is_float(have):
        raise DataError(f"{origin}: array for input '{info.name}' is {have}; give numbers of type {info.dtype}.")
    floating = is_float(want)
    if floating and have.kind in "iub" and not preprocess.given:
        raise DataError(
            f"{origin}: values for input '{info.name}' are {have} but the model takes {info.dtype}; say how to convert "
            "them with --scale (such as 1/255), --mean or --std."
        )
    if not floating and (have.kind not in "iub" or (want.kind == "b") != (have.kind == "b")):
        raise DataError(f"{origin}: array for input '{info.name}' is {have} but the model takes {info.dtype}.")


def input_dtype(info: InputInfo, origin: str) -> np.dtype[Any]:
    """Return the numpy dtype of an input.

    Raises:
        DataError: the input takes text or something else that is no array of numbers.
    """
    try:
        dtype = numpy_dtype(info.dtype)
    except TypeError:
        dtype = np.dtype(object)
    if dtype.kind not in "biu" and not is_float(dtype):
        raise DataError(f"{origin}: input '{info.name}' takes {info.dtype}, for which data cannot be given.")
    return dtype


def convert(batch: NDArray[Any], info: InputInfo, preprocess: Preprocess) -> NDArray[Any]:
    """Normalise a batch where the input is floating, and cast it to the input's dtype (contiguous, native order)."""
    dtype = input_dtype(info, "data")
    # Values per channel are for images (or signals); numbers beside them, such as a threshold, stay as they are.
    meant = preprocess.per_channel is None or len(info.declared_shape) > 2
    if is_float(dtype) and preprocess.given and meant:
        batch = normalise(batch, info, preprocess)
    with np.errstate(over="ignore"):  # an overflow becomes Inf, which check_values reports with its input's name
        return np.ascontiguousarray(batch, dtype=dtype).reshape(batch.shape)


def check_values(source: ArraySource, count: int, origin: str) -> None:
    """Convert everything once and look for what no model should be fed.

    Raises:
        DataError: NaN or Inf (before or after the cast), or integers outside the input's range.
    """
    for info in source.inputs:
        array = source.arrays[info.name]
        _check_range(array, info, origin)
        step = len(array) if info.name in source.constant and array.ndim else _CHUNK
        for start in range(0, count if info.name not in source.constant else 1, max(step, 1)):
            rows = array[start : start + step] if array.ndim else array
            check_finite(rows, convert(rows, info, source.preprocess), info, origin)


def check_finite(raw: NDArray[Any], converted: NDArray[Any], info: InputInfo, origin: str) -> None:
    """Refuse NaN and Inf, and say whether they were given or made by the cast; refuse what would become Inf.

    Raises:
        DataError: as said.
    """
    if np.isfinite(converted).all():
        largest = too_large(converted)
        if largest is not None:
            raise DataError(
                f"{origin}: values for input '{info.name}' reach {largest:.1e}, whose products overflow; scale them "
                "(--scale), or remove those samples."
            )
        return
    if not np.isfinite(raw).all():
        raise DataError(f"{origin}: array for input '{info.name}' holds NaN or Inf; remove those samples.")
    raise DataError(
        f"{origin}: values for input '{info.name}' overflow {info.dtype}; scale them into its range (--scale)."
    )


def _check_range(array: NDArray[Any], info: InputInfo, origin: str) -> None:
    dtype = input_dtype(info, origin)
    if dtype.kind not in "iu" or array.size == 0:
        return
    limits = np.iinfo(dtype)
    low, high = int(array.min()), int(array.max())
    if low < limits.min or high > limits.max:
        raise DataError(
            f"{origin}: values for input '{info.name}' reach from {low} to {high}, outside {info.dtype}'s range."
        )

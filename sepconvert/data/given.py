"""Inputs given in Python: an array or tensor, a dict of them, a ``DataLoader``, a dataset, a list or a generator."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sepconvert.data.arrays import as_array, from_arrays, named_arrays
from sepconvert.data.callables import guarded
from sepconvert.data.dataset import Dataset
from sepconvert.data.preprocess import Preprocess
from sepconvert.data.yielded import collect
from sepconvert.errors import DataError
from sepconvert.record import InputInfo


def load_given(data: Any, inputs: Sequence[InputInfo], preprocess: Preprocess, origin: str) -> Dataset:
    """Read inputs from an object; what can be gone through only once (a generator) is.

    Args:
        data: an array or tensor (N, …) for the only input; a dict of them, named after the inputs, with labels ``y``
            (N,) if you like; or something that gives items one after the other, as ``yielded.collect`` takes them.
        inputs: the model's inputs.
        preprocess: how raw values become the model's.
        origin: where it is from, in words.

    Raises:
        DataError: it is of another kind, fails, or does not fit the inputs.
    """
    if isinstance(data, Mapping):
        return from_arrays(named_arrays(data, inputs, origin), inputs, preprocess, origin)
    if hasattr(data, "__array__"):
        return from_arrays({"x": as_array(data)}, inputs, preprocess, origin)
    items = items_of(data)
    if items is None:
        raise DataError(
            f"{origin} ({type(data).__name__}) holds no inputs; give an array, a tensor, a dict of arrays, a "
            "DataLoader, or something else that yields arrays or dicts of them."
        )
    return collect(guarded(items, origin), inputs, preprocess, origin)


def items_of(data: Any) -> Iterable[Any] | None:
    """What an object gives one after the other; a dataset of PyTorch has only a length and places."""
    if isinstance(data, Iterable):
        return data
    if hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        return _by_place(data)
    return None


def _by_place(data: Any) -> Iterator[Any]:
    for place in range(len(data)):
        yield data[place]

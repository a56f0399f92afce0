"""Which of a network's outputs a metric judges: the first of the form that it needs."""

from collections.abc import Callable, Mapping
from typing import Any

from numpy.typing import NDArray

from sepconvert.errors import DataError


def first_output(outputs: Mapping[str, NDArray[Any]], fits: Callable[[NDArray[Any]], bool], wanted: str) -> str:
    """Return the name of the first output that ``fits``.

    Raises:
        DataError: there is none; the message says what was ``wanted``, and what there is.
    """
    for name, values in outputs.items():
        if fits(values):
            return name
    there = ", ".join(f"'{name}' {values.shape}" for name, values in outputs.items())
    raise DataError(f"it needs an output of {wanted}, and the model has {there}; name a metric that fits")


def check_labels(labels: NDArray[Any], shape: tuple[int, ...], wanted: str) -> None:
    """Raise ``DataError`` where labels have another shape than is needed."""
    if labels.shape != shape:
        raise DataError(f"it needs labels of {wanted}, {shape}, and these are {labels.shape}; leave them away")

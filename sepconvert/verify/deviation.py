"""How far one stream of arrays is from another, accumulated batch by batch in float64.

The relative error is Σ(y−ŷ)² / Σ(y−ȳ)²: the share of the original's variance that is lost, so that a constant
predictor scores at least 1. ȳ is the element-wise mean over the samples; along axes whose length changes between
batches it is the mean over the positions too. The denominator is accumulated by the parallel update of Chan, Golub
and LeVeque (1979): the textbook Σy² − Nȳ² would cancel where the mean is large.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import log10, prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHUNK = 1 << 20  # values converted to float64 at a time


@dataclass(frozen=True, slots=True)
class Figures:
    """Deviation of ŷ from y over ``samples`` samples; None where a figure has no meaning.

    ``relative_error`` is None for one sample or a constant y. ``cosine`` is over all values, None if a stream is all
    zero. ``sqnr_db`` = 10·log10(Σy² / Σ(y−ŷ)²), None if y is all zero or the streams are equal (then it is infinite).
    All are None where a value was NaN or Inf; ``bad_before`` and ``bad_after`` count the samples that held one.
    """

    samples: int
    relative_error: float | None
    max_abs: float | None
    cosine: float | None
    sqnr_db: float | None
    bad_before: int = 0
    bad_after: int = 0


def in_float64(before: NDArray[Any], after: NDArray[Any]) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Yield two batches of one shape (n, …) a few samples at a time: whole they would take eight bytes a value."""
    rows = max(1, _CHUNK // max(1, prod(before.shape[1:])))
    for start in range(0, len(before), rows):
        yield before[start : start + rows].astype(np.float64), after[start : start + rows].astype(np.float64)


@dataclass(slots=True)
class Deviation:
    """Accumulates the deviation of one output; ``add`` batches, then read ``figures``."""

    _spread: "_Spread" = field(default_factory=lambda: _Spread())
    _samples: int = 0
    _squares: float = 0.0
    _squares_after: float = 0.0
    _product: float = 0.0
    _error: float = 0.0
    _largest: float = 0.0
    _bad_before: int = 0
    _bad_after: int = 0
    _epsilon: float = 0.0

    def add(self, before: NDArray[Any], after: NDArray[Any]) -> None:
        """Add a batch: y and ŷ of one shape (n, …), of any numeric dtype.

        Raises:
            ValueError: the shapes differ.
        """
        if before.shape != after.shape:
            raise ValueError(f"shapes differ: {before.shape} and {after.shape}")
        self._epsilon = max(self._epsilon, _epsilon(before.dtype))
        for y, y_hat in in_float64(before, after):
            self._add(y, y_hat)

    def _add(self, y: NDArray[np.float64], y_hat: NDArray[np.float64]) -> None:
        self._samples += len(y)
        self._bad_before += _count_bad(y)
        self._bad_after += _count_bad(y_hat)
        if self._bad_before or self._bad_after:
            return
        self._spread.add(y)
        self._squares += float(np.vdot(y, y))
        self._squares_after += float(np.vdot(y_hat, y_hat))
        self._product += float(np.vdot(y, y_hat))
        difference = y - y_hat
        self._error += float(np.vdot(difference, difference))
        self._largest = max(self._largest, float(np.abs(difference).max(initial=0.0)))

    @property
    def spread(self) -> float:
        """Σ(y−ȳ)² of everything added so far."""
        return self._spread.total

    @property
    def variance(self) -> float | None:
        """Σ(y−ȳ)² per sample, as an unbiased estimate; None for fewer than two samples, a constant y, NaN or Inf."""
        return self._spread.total / (self._samples - 1) if self._varies else None

    @property
    def error(self) -> float | None:
        """Σ(y−ŷ)² per sample; None without samples, or where one held NaN or Inf."""
        return None if self._samples == 0 or self._bad_before or self._bad_after else self._error / self._samples

    @property
    def _varies(self) -> bool:
        """Variation below the output's own rounding is none: its inverse would be noise."""
        bad = self._bad_before or self._bad_after
        return not bad and self._samples > 1 and self._spread.total > self._epsilon**2 * self._squares

    def figures(self) -> Figures:
        """Return the figures of everything added so far."""
        if self._samples == 0 or self._bad_before or self._bad_after:
            return Figures(self._samples, None, None, None, None, self._bad_before, self._bad_after)
        norms = sqrt(self._squares) * sqrt(self._squares_after)
        return Figures(
            samples=self._samples,
            relative_error=self._error / self._spread.total if self._varies else None,
            max_abs=self._largest,
            cosine=self._product / norms if norms else None,
            sqnr_db=10 * log10(self._squares / self._error) if self._squares and self._error else None,
        )


@dataclass(slots=True)
class _Spread:
    """Σ(y−ȳ)² of a stream. ``shape`` is a sample's shape, with 0 for the axes that are averaged over."""

    total: float = 0.0
    _count: int = 0
    _mean: NDArray[np.float64] = field(default_factory=lambda: np.zeros(()))
    _shape: tuple[int, ...] | None = None

    def add(self, y: NDArray[np.float64]) -> None:
        if y.size == 0:
            return
        self._adapt(y.shape[1:])
        assert self._shape is not None
        if len(self._shape) != y.ndim - 1:
            y = y.reshape(-1)
        axes = (0, *(axis + 1 for axis, side in enumerate(self._shape) if side == 0))
        mean = y.mean(axis=axes, keepdims=True)
        within = float(np.square(y - mean).sum())
        observations = prod(y.shape[axis] for axis in axes)
        self._merge(mean[0], observations, within)

    def _merge(self, mean: NDArray[np.float64], count: int, within: float) -> None:
        together = self._count + count
        step = mean - self._mean
        self.total += within + float(np.square(step).sum()) * self._count * count / together
        self._mean = self._mean + step * (count / together)
        self._count = together

    def _adapt(self, shape: tuple[int, ...]) -> None:
        """Average the mean over the axes along which this batch's samples have another length."""
        if self._shape is None:
            self._shape, self._mean = shape, np.zeros(shape)
            return
        if len(shape) != len(self._shape):
            axes = tuple(range(len(self._shape)))
            self._collapse(axes)
            self._mean, self._shape = self._mean.reshape(()), ()
            return
        changed = tuple(axis for axis, (a, b) in enumerate(zip(self._shape, shape, strict=True)) if a not in (0, b))
        self._collapse(changed)
        self._shape = tuple(0 if axis in changed else side for axis, side in enumerate(self._shape))

    def _collapse(self, axes: tuple[int, ...]) -> None:
        mean = self._mean.mean(axis=axes, keepdims=True)
        self.total += self._count * float(np.square(self._mean - mean).sum())
        self._count *= prod(self._mean.shape[axis] for axis in axes)
        self._mean = mean


def _count_bad(values: NDArray[np.float64]) -> int:
    finite = np.isfinite(values)
    return 0 if finite.all() else int((~finite.reshape(len(values), -1).all(axis=1)).sum())


def _epsilon(dtype: np.dtype[Any]) -> float:
    """Relative rounding of a dtype; integers have none."""
    if dtype.name == "bfloat16":
        return 2.0**-8
    return float(np.finfo(dtype).eps) if dtype.kind == "f" else 0.0


Axes = Mapping[str, int | None]


def by_sample(name: str, array: NDArray[Any], rows: int, axes: Axes) -> NDArray[Any]:
    """Return a value (…) with its samples first, or as one sample (1, …) where it answers for the whole batch.

    Args:
        name: of the value.
        array: what the model gives for one batch.
        rows: samples in the batch.
        axes: the axis of the samples by name, None for none; where nothing is known, the first axis if it has as many.
    """
    axis = sample_axis(name, array, rows, axes)
    return array[np.newaxis] if axis is None else np.moveaxis(array, axis, 0)


def sample_axis(name: str, array: NDArray[Any], rows: int, axes: Axes) -> int | None:
    """The axis along which a value's samples lie; None for one answer to the whole batch. See ``by_sample``."""
    return axes[name] if name in axes else (0 if array.ndim and len(array) == rows else None)

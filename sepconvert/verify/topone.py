"""Top-1: how often the most likely class is right, before and after, and how often both models agree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.number_types import is_float

Output = tuple[str, NDArray[Any], NDArray[Any]]  # name, value before, value after


@dataclass(slots=True)
class TopOne:
    """Counts correct and agreeing samples of one output: the first that looks like classes.

    That is: floating, of shape (samples, classes ≥ 2, 1…), with a class for every label. ``labels`` are in the order in
    which batches are added.
    """

    labels: NDArray[np.int64] | None
    output: str | None = None
    _seen: int = 0
    _right_before: int = 0
    _right_after: int = 0
    _agree: int = 0
    _bad: bool = False

    def add(self, outputs: Sequence[Output], rows: int) -> None:
        """Add all outputs of both models for the next ``rows`` samples; the first call chooses the output."""
        if self._seen == 0:
            self.output = next((name for name, y, _ in outputs if self._fits(y, rows)), None)
        for name, before, after in outputs:
            if name == self.output:
                self._count(before, after)
        self._seen += rows

    def _fits(self, y: NDArray[Any], rows: int) -> bool:
        if y.ndim < 2 or len(y) != rows or not is_float(y.dtype):
            return False
        classes = y.shape[1]
        largest = 1 if self.labels is None else int(self.labels.max(initial=1))
        return bool(classes == y[0].size and classes > largest)

    def _count(self, before: NDArray[Any], after: NDArray[Any]) -> None:
        # isfinite and argmax know bfloat16 only through float32.
        old, new = (y.astype(np.float32) if y.dtype.name == "bfloat16" else y for y in (before, after))
        if old.shape != new.shape or not (np.isfinite(old).all() and np.isfinite(new).all()):
            self._bad = True
            return
        first, second = (y.reshape(len(y), -1).argmax(axis=1) for y in (old, new))
        self._agree += int((first == second).sum())
        if self.labels is not None:
            wanted = self.labels[self._seen : self._seen + len(first)]
            self._right_before += int((first == wanted).sum())
            self._right_after += int((second == wanted).sum())

    def shares(self) -> tuple[float | None, float | None, float | None]:
        """Return top-1 before, top-1 after, and agreement, each in [0, 1] or None."""
        if self.output is None or self._bad or self._seen == 0:
            return None, None, None
        agreement = self._agree / self._seen
        if self.labels is None:
            return None, None, agreement
        return self._right_before / self._seen, self._right_after / self._seen, agreement

    def warnings(self) -> list[str]:
        """Say why there is no top-1 although there are labels."""
        if self.output is None and self.labels is not None:
            largest = int(self.labels.max(initial=0))
            return [f"Top-1 is left out: the labels go up to {largest}, but no output has that many classes."]
        if self._bad:
            return [f"Top-1 is left out: output '{self.output}' holds NaN or Inf, or differs in shape."]
        return []

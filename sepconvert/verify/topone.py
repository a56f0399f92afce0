"""Top-1: how often the most likely class is right, before and after, and how often both models agree."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.number_types import is_float

# An honest classifier is right nearly as often as it agrees with a close copy of itself; AlexNet is right on 57 % of
# ImageNet.
_DOUBTFUL = 0.55
_REORDERED = 1.5
_PER_CLASS = 10
_MOST_CLASSES = 2000

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
    _answers: list[NDArray[np.int64]] = field(default_factory=list)
    _classes: int = 0
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
            self._answers.append(first)
            self._classes = old[0].size
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
        return [] if self.labels is None or not self._answers else self._doubts(self.labels)

    def _doubts(self, labels: NDArray[np.int64]) -> list[str]:
        """Say that inputs or labels are not what the original was trained on, where its own score says so."""
        answers = np.concatenate(self._answers)
        right, _, agreement = self.shares()
        assert right is not None
        assert agreement is not None
        labels = labels[: len(answers)]
        commonest = np.bincount(labels).max() / len(labels)
        slack = 3 * np.sqrt(commonest * (1 - commonest) / len(labels))
        if len(np.unique(labels)) < 2 or right > max(_DOUBTFUL * agreement, commonest + slack):
            return []
        reason = f"The original itself is right on {right:.1%} of {len(labels)} samples"
        renamed = _best_order(answers, labels, self._classes)
        if renamed is not None and renamed > max(_REORDERED * right, commonest + slack):
            return [
                f"{reason}, but would be on {renamed:.1%} with the classes in another order: the labels seem to be "
                "numbered otherwise than in training; name class folders by their numbers."
            ]
        chance = f", no better than one answer for all ({commonest:.1%})" if right <= commonest + slack else ""
        return [
            f"{reason}{chance}, so that its inputs seem to be prepared in another way than in training, or the labels "
            "numbered in another order; check --scale, --mean, --std, --layout and the labels before any other figure."
        ]


def _best_order(answers: NDArray[np.int64], labels: NDArray[np.int64], classes: int) -> float | None:
    """The share of right answers if every class had the number that fits best; None for too few samples to tell."""
    from scipy.optimize import linear_sum_assignment

    if len(labels) < _PER_CLASS * classes or classes > _MOST_CLASSES:
        return None
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (labels, answers), 1)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(labels))

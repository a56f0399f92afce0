"""Choices: at how many positions both models find the same of several classes most likely, or both say yes.

An error says how far scores moved, not how often another one became the largest. A text recogniser that erred by 0.0074
chose another character at 3 % of its positions, and read 68 % of its lines otherwise.

A detector says no nearly everywhere, so its answers are counted where either model says yes. Bare scores of a map are
known for classes by their values: more channels than a picture has, of both signs, and one far above the others at most
positions.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.record import ChoiceFidelity

MOST_OF_A_PICTURE = 4  # channels
CONFIDENT = 0.8  # mean probability of the largest class, were the channels' values what a Softmax takes


@dataclass(slots=True)
class ChoiceCounts:
    """Counts positions, and samples without any change, of one part of an output."""

    positions: int = 0
    samples: int = 0
    _same: int = 0
    _unchanged: int = 0
    _bad: bool = False

    def add(self, before: NDArray[Any], after: NDArray[Any], classes: int, samples: int | None) -> None:
        """Add a batch.

        Args:
            before: the original's scores.
            after: the rewritten model's.
            classes: the axis of the classes.
            samples: the axis of the samples; None where all is one.
        """
        axis = classes % before.ndim
        # isfinite and argmax know bfloat16 only through float32.
        old, new = (y.astype(np.float32) if y.dtype.name == "bfloat16" else y for y in (before, after))
        if old.shape != new.shape or axis == samples or not (np.isfinite(old).all() and np.isfinite(new).all()):
            self._bad = True
            return
        if old.size == 0 or old.shape[axis] < 2:
            return
        same = old.argmax(axis=axis) == new.argmax(axis=axis)
        sample_first = same[np.newaxis] if samples is None else np.moveaxis(same, samples - (samples > axis), 0)
        rows = sample_first.reshape(len(sample_first), -1)
        self.positions += rows.size
        self.samples += len(rows)
        self._same += int(rows.sum())
        self._unchanged += int(rows.all(axis=1).sum())

    def add_answers(self, before: NDArray[Any], after: NDArray[Any], samples: int | None) -> None:
        """Add a batch of what a Sigmoid takes; positions are those at which either model says yes."""
        old, new = (y.astype(np.float32) if y.dtype.name == "bfloat16" else y for y in (before, after))
        if old.shape != new.shape or not (np.isfinite(old).all() and np.isfinite(new).all()):
            self._bad = True
            return
        answers = [
            np.atleast_1d(y > 0)[np.newaxis] if samples is None else np.moveaxis(y > 0, samples, 0) for y in (old, new)
        ]
        first, second = (answer.reshape(len(answer), -1) for answer in answers)
        self.positions += int((first | second).sum())
        self.samples += len(first)
        self._same += int((first & second).sum())
        self._unchanged += int((first == second).all(axis=1).sum())

    def figures(self, name: str) -> ChoiceFidelity | None:
        """The shares under a name; None where nothing was counted, or something could not be."""
        if self._bad or not self.positions:
            return None
        return ChoiceFidelity(name, self._same / self.positions, self.positions, self._unchanged / self.samples)


def holds_classes(output: NDArray[Any]) -> bool:
    """Whether the channels of an output (N, channels, H, W) are bare scores of classes, by their values."""
    if output.ndim != 4 or output.shape[1] <= MOST_OF_A_PICTURE or output.dtype.kind != "f" or not output.size:
        return False
    scores = output.astype(np.float64)
    if not np.isfinite(scores).all() or not (scores < 0).any() or not (scores > 0).any():
        return False
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return bool((1 / shares.sum(axis=1)).mean() >= CONFIDENT)

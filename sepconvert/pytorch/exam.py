"""The exam on held-out inputs: how far the network is from the original, and how often it answers alike, or rightly.

With labels their cross-entropy is told apart from the divergence. Both together decide which weights are the best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from torch import Tensor

from sepconvert.pytorch.objective import Distance, Goal


@dataclass(slots=True)
class Marks:
    """Sums over samples; shares and means come from ``means``."""

    count: int = 0
    divergence: float = 0.0
    cross_entropy: float | None = None
    alike: int | None = None
    right: int | None = None

    def add(
        self,
        goals: Sequence[Goal],
        found: Mapping[str, Tensor],
        wanted: Mapping[str, Tensor],
        labels: Tensor | None,
        distance: Distance,
        size: int,
    ) -> None:
        """Add a batch of ``size`` samples."""
        self.count += size
        self.divergence += float(distance.divergence) * size
        if distance.cross_entropy is not None:
            self.cross_entropy = (self.cross_entropy or 0.0) + float(distance.cross_entropy) * size
        name = _classes(goals, found, size)
        if name is None:
            return
        answers, original = (values[name].flatten(1).argmax(dim=1) for values in (found, wanted))
        self.alike = (self.alike or 0) + int((answers == original).sum())
        if labels is not None:
            self.right = (self.right or 0) + int((answers == labels).sum())

    def means(self) -> dict[str, float]:
        """Means over the samples; what was not measured is left out."""
        figures = {
            "divergence": self.divergence,
            "cross_entropy": self.cross_entropy,
            "agreement": self.alike,
            "top1": self.right,
        }
        return {name: total / self.count for name, total in figures.items() if total is not None}


def point(step: int, means: Mapping[str, float]) -> dict[str, Any]:
    """A point of the curve; what is no number is None."""
    return {"step": step, **{name: mean if isfinite(mean) else None for name, mean in means.items()}}


def loss(at: Mapping[str, Any], weight: float) -> float:
    """What a point of the curve is judged by: the divergence, and the cross-entropy with its weight in training."""
    parts = [at["divergence"], at.get("cross_entropy", 0.0)]
    return float("inf") if None in parts else parts[0] + weight * parts[1]


def _classes(goals: Sequence[Goal], found: Mapping[str, Tensor], size: int) -> str | None:
    """The value that labels belong to, else the first with one figure per class and sample."""
    chosen = None
    for goal in goals:
        shape = found[goal.name].shape
        if len(shape) >= 2 and shape[0] == size and shape[1] > 1 and shape[1:].numel() == shape[1]:
            chosen = goal.name if chosen is None or goal.classes else chosen
    return chosen

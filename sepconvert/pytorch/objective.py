"""How far the trained network is from what it should say: zero is the original itself.

For every value, before a final activation where there is one, the squared error relative to the value's own variance
(as in the record: 0 is identical, a constant answer scores 1), averaged over the values. With labels the cross-entropy
of the classes is added, and counts the more the worse the start is. On Fashion-MNIST the relative squared error of the
logits beat the Kullback-Leibler divergence at temperature 4, by either measure: see the benchmark ``tuning``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LABEL_WEIGHT = 0.1
"""Of the cross-entropy, whose scale is about ten times that of the relative error where both matter."""
POOR = 0.1
"""Divergence of a start from which on labels have their full weight. A good start has more to learn from the original:
at full weight, labels of a thousand images pulled the Fashion-MNIST VGG from 0.002 away from what it could become."""


@dataclass(frozen=True, slots=True)
class Goal:
    """A value to reproduce, by its name in both models; ``variance`` as ``lessons.variances`` gives it.

    ``classes`` marks the logits that labels belong to: (N, classes, 1…).
    """

    name: str
    variance: float
    classes: bool = False


@dataclass(frozen=True, slots=True)
class Distance:
    """How far a network is from the original and, where there are labels, from these; scalars in float32."""

    divergence: Tensor
    cross_entropy: Tensor | None = None

    def total(self, weight: float) -> Tensor:
        """What is minimised; ``weight`` is that of the cross-entropy."""
        return self.divergence if self.cross_entropy is None else self.divergence + weight * self.cross_entropy


def label_weight(divergence: float | None) -> float:
    """What the cross-entropy counts after a start of some divergence; None is one that is no number."""
    return LABEL_WEIGHT if divergence is None else LABEL_WEIGHT * min(1.0, divergence / POOR)


def objective(
    goals: Sequence[Goal], found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], labels: Tensor | None
) -> Distance:
    """Return what is minimised, in its two parts.

    Args:
        goals: what counts.
        found: the trained network's values.
        wanted: the original's.
        labels: (N,) class numbers, or None.
    """
    parts = []
    for goal in goals:
        difference = found[goal.name].float() - wanted[goal.name]
        parts.append(difference.square().mean() / goal.variance)
    labelled = next((goal.name for goal in goals if goal.classes and labels is not None), None)
    if labelled is None:
        return Distance(torch.stack(parts).mean())
    assert labels is not None
    entropy = F.cross_entropy(found[labelled].float().flatten(1), labels)
    return Distance(torch.stack(parts).mean(), entropy)

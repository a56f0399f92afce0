"""How fast a training goes: all of it follows from the exams so far, so that one that is taken up again goes as fast.

The peak rate is what the start bears. Where the loss rises far above its best, training has gone back to the best
weights, and goes on at half the rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepconvert.pytorch.exam import loss
from sepconvert.pytorch.learning_rate import learning_rate, peak_rate
from sepconvert.pytorch.objective import label_weight

LEAST_RISE, STEPS_PER_RISE = 0.5, 100  # by how many times its best the loss may rise, and steps that make up for one
SLOWEST = 2.0**-8  # of the peak: what fails at this rate too fails for another reason


@dataclass(frozen=True, slots=True)
class Pace:
    """What follows from the curve, which grows; ``steps`` are those of the whole training, ``asked`` the peak rate."""

    curve: Sequence[Mapping[str, Any]]
    steps: int
    asked: float | None

    @property
    def peak(self) -> float:
        """The highest rate, before it was halved."""
        return peak_rate(self.curve[0]["divergence"], self.steps) if self.asked is None else self.asked

    @property
    def slowed(self) -> float:
        """What is left of the rate."""
        return float(0.5 ** sum(at.get("slower", False) for at in self.curve))

    @property
    def label_weight(self) -> float:
        """What the cross-entropy counts."""
        return label_weight(self.curve[0]["divergence"])

    @property
    def returned(self) -> int:
        """The step at which training last went back to its best weights; 0 where it never did."""
        return max((at["step"] for at in self.curve if at.get("slower")), default=0)

    def rate(self, step: int) -> float:
        """The rate of a step."""
        return self.slowed * learning_rate(step, self.steps, self.peak)

    def losses(self) -> list[float]:
        """What the exams came to."""
        return [loss(at, self.label_weight) for at in self.curve]

    def too_fast(self, last: float, best: float) -> bool:
        """Whether a loss is so far above the best that a lower rate is called for: more steps make up for more."""
        return not last <= (1 + max(LEAST_RISE, self.steps / STEPS_PER_RISE)) * best

    @property
    def exhausted(self) -> str | None:
        """Why there is no use in going on."""
        if self.slowed >= SLOWEST:
            return None
        return f"no rate down to {self.slowed * self.peak:.1g} made it better; pass a lower --lr"

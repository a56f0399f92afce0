"""Which of several mixtures of float and INT8 serves a budget best."""

from collections.abc import Sequence
from dataclasses import dataclass

from sepconvert.planning.precision import Layers
from sepconvert.workflows.options import Budget

AS_FAST, LITTLE = 1.02, 1.05
"""Within a limit on the error, models that take so much longer than the fastest count as equally fast; else a little
time is given for less error."""
_LEAST_LOWERED, _MOST_LOWERED = 0.2, 0.9
_AIM = 0.85  # of the limit: what is predicted may be a little too low
_SURE = 1.02  # times as fast as asked: the last measurement may find it a little slower


@dataclass(frozen=True, slots=True)
class Mixture:
    """A model with some layers in INT8: its error on inputs that nothing was fitted to, and its time.

    Times are shares of the original's; ``measured`` is None where nothing is timed.
    """

    layers: Layers
    error: float
    predicted: float
    measured: float | None

    @property
    def time(self) -> float:
        """The best that is known."""
        return self.predicted if self.measured is None else self.measured


def choose_mixture(budget: Budget, found: Sequence[Mixture]) -> Mixture:
    """The mixture that serves a budget best.

    Of those that keep it: for a speed-up the closest; within an error the fastest, of about equally fast ones the
    closest. Without either, a little time is given for less error.
    """
    kept, patience = list(found), LITTLE
    if budget.name == "speedup" and all(one.measured is not None for one in found):
        kept = [one for one in found if one.time * budget.value * _SURE <= 1]
        if kept:
            return min(kept, key=lambda one: one.error)
        kept, patience = list(found), AS_FAST
    if budget.name == "max_error":
        kept = [one for one in found if one.error <= budget.value]
        if not kept:
            return min(found, key=lambda one: one.error)
        patience = AS_FAST
    least = min(one.time for one in kept)
    return min((one for one in kept if one.time <= patience * least), key=lambda one: one.error)


def lowered(wanted: float, found: float) -> float:
    """By what to multiply the error that a plan is allowed by prediction, where one ``found`` more than ``wanted``."""
    return min(max(wanted / found, _LEAST_LOWERED), _MOST_LOWERED)


def added_error(budget: Budget, start: float) -> float | None:
    """The error that layers in INT8 may add to what the model has without them; None where there is no limit."""
    return _AIM * budget.value - start if budget.name == "max_error" and _AIM * budget.value > start else None

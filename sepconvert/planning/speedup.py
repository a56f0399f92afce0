"""Plans under a latency budget: predict, measure the whole architecture, correct, and keep the best that meets it.

The time of a network is predicted as the measured original plus the sum over sites of (candidate − dense), both from
one interleaved run. The chosen architecture is then measured whole with random weights, because speed does not depend
on them; the ratio of predicted to measured saving corrects the next bound, and a bracket keeps the search from leaving
what it has already learnt. Nothing is fitted before the budget is met.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from sepconvert.errors import NothingToDoError
from sepconvert.planning.knapsack import Figures, OutOfReachError, select
from sepconvert.planning.plans import NetworkPlan, PlannedSite, Timed
from sepconvert.planning.within_budget import Choices, sources
from sepconvert.progress import Progress, silent

Measure = Callable[[Sequence[PlannedSite]], Timed]
Picks = tuple[int, ...]

MOST_ATTEMPTS = 6
# A plan that is clearly (by its interval) faster than this times what was asked gets another try at losing less.
OVERSHOOT = 1.01
# The search aims past the asked speed-up by this share of the saving: a miss is worse than an excess.
AIM = 1.005
# Between savings this close, one too little and one enough, there is too little to gain for another measurement.
CLOSE = 1.02


def plan_speedup(
    choices: Choices, speedup: float, before_ms: float, measure: Measure | None, progress: Progress = silent
) -> NetworkPlan:
    """The least damage at a speed-up of the whole model.

    Args:
        choices: options with their times.
        speedup: asked old/new latency, above 1.
        before_ms: latency of the original: measured, or of the same source as the options' times.
        measure: times an architecture against the original; None where only predictions are possible.
        progress: told of every architecture that is measured.

    Returns:
        Of all measured plans that meet the budget, the one with the least damage (or, where the machine is too noisy
        to meet it exactly, the fastest of those that miss it by less than their interval); without ``measure``, the
        predicted one.

    Raises:
        NothingToDoError: even the fastest candidates stay below the asked speed-up; the message says what is reachable.
    """
    search = _Search(choices, speedup, before_ms)
    return search.predict() if measure is None else search.run(measure, progress)


class _Search:
    """What has been measured so far, and the bracket of predicted savings that follows from it."""

    def __init__(self, choices: Choices, speedup: float, before_ms: float) -> None:
        self._choices = choices
        self._speedup = speedup
        self._before_ms = before_ms
        self._figures: list[list[Figures]] = [
            [{"damage": o.damages, "ms": -o.saved_ms} for o in options] for options in choices.options
        ]
        self._fastest = select(self._figures, "ms", {}).picks
        self._measured: dict[Picks, Timed] = {}
        self._too_little, self._enough = 0.0, inf

    def predict(self) -> NetworkPlan:
        """One knapsack on predicted times."""
        picks = self._picks(self._before_ms - self._before_ms / self._speedup)
        if picks is None:
            best = self._before_ms / (self._before_ms - self._saved(self._fastest))
            raise self._out_of_reach(best, f"predicted from {sources(self._choices.planned(self._fastest))} times")
        return self._plan(picks)

    def run(self, measure: Measure, progress: Progress) -> NetworkPlan:
        """Measure at most ``MOST_ATTEMPTS`` architectures."""
        wanted = self._before_ms - self._before_ms / self._speedup
        for attempt in range(MOST_ATTEMPTS):
            picks = self._picks(wanted) or self._fastest
            if picks in self._measured:
                break
            progress(f"Measure plans for {self._speedup:g}×", attempt, MOST_ATTEMPTS)
            timed = self._measured[picks] = measure(self._choices.planned(picks))
            if timed.speedup >= self._speedup and timed.low <= self._speedup * OVERSHOOT:
                break
            if timed.speedup < self._speedup and picks == self._fastest:
                break
            wanted = self._next(picks, timed)
            if self._enough <= CLOSE * self._too_little:
                break
        progress(f"Measure plans for {self._speedup:g}×", MOST_ATTEMPTS, MOST_ATTEMPTS)
        return self._conclude(measure)

    def _next(self, picks: Picks, timed: Timed) -> float:
        """Predicted saving to ask for next: corrected by predicted/measured, and inside the bracket."""
        predicted, saved = self._saved(picks), timed.before_ms - timed.after_ms
        if timed.speedup < self._speedup:
            self._too_little = max(self._too_little, predicted)
        else:
            self._enough = min(self._enough, predicted)
        target = timed.before_ms - timed.before_ms / self._speedup
        wanted = AIM * target * predicted / saved if saved > 0 else 1.5 * predicted
        if self._too_little < wanted < self._enough:
            return wanted
        return 1.05 * self._too_little if self._enough == inf else (self._too_little + self._enough) / 2

    def _conclude(self, measure: Measure) -> NetworkPlan:
        met = [picks for picks, timed in self._measured.items() if timed.speedup >= self._speedup]
        if met:
            return self._plan(min(met, key=self._damage))
        if self._fastest not in self._measured and not self._near():
            self._measured[self._fastest] = measure(self._choices.planned(self._fastest))
        near = self._near()
        if not near:
            raise self._out_of_reach(max(timed.speedup for timed in self._measured.values()), "measured")
        return self._plan(max(near, key=lambda picks: self._measured[picks].speedup))

    def _near(self) -> list[Picks]:
        """Plans that meet the budget within their interval."""
        return [picks for picks, timed in self._measured.items() if timed.high >= self._speedup]

    def _picks(self, saving: float) -> Picks | None:
        try:
            return select(self._figures, "damage", {"ms": -saving}).picks
        except OutOfReachError:
            return None

    def _saved(self, picks: Picks) -> float:
        return sum(options[pick].saved_ms for options, pick in zip(self._choices.options, picks, strict=True))

    def _damage(self, picks: Picks) -> float:
        damage: float = self._choices.damage(picks)["damage"]
        return damage

    def _plan(self, picks: Picks) -> NetworkPlan:
        planned, timed = self._choices.planned(picks), self._measured.get(picks)
        # Savings are in proportion to the original's time, which may have been taken on a slower or faster machine.
        speedup = self._before_ms / (self._before_ms - self._saved(picks))
        predicted: dict[str, Any] = {
            **self._choices.damage(picks),
            "latency_ms": (self._before_ms if timed is None else timed.before_ms) / speedup,
            "speedup": speedup,
            "source": sources(planned),
        }
        return NetworkPlan({"speedup": self._speedup}, planned, predicted, timed, len(self._measured))

    def _out_of_reach(self, best: float, kind: str) -> NothingToDoError:
        time = sum(next((o.dense_ms for o in options if o.dense_ms), 0.0) for options in self._choices.options)
        rest = 1 - min(1.0, time / self._before_ms)
        reachable = best * 100 // 1 / 100
        return NothingToDoError(
            f"--speedup {self._speedup:g} is out of reach: with the fastest candidate at every site the model is "
            f"{kind} to be {best:.2f} times as fast, and about {rest:.0%} of its time is in layers that are no sites; "
            f"{f'ask for {reachable:g} or less' if reachable > 1.01 else 'there is nothing to gain on this device'}."
        )

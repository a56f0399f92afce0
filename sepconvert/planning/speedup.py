"""Plans under a latency budget: predict, measure the whole architecture, correct, and keep the best that meets it.

The time of a network is predicted as the measured original plus the sum over sites of (candidate − dense), both from
one interleaved run. The chosen architecture is then measured whole with random weights, because speed does not depend
on them. From the first follows by what factor replaced layers take longer or shorter than predicted; what is left of
the difference is closed in on from both sides (``_Search._next``), until a plan is about as fast as asked: speed beyond
that is error given away. Nothing is fitted before the budget is met.
"""

from collections.abc import Callable, Sequence
from math import exp, inf, log
from typing import Any

from sepconvert.errors import NothingToDoError
from sepconvert.planning.correction import CorrectedTimes, corrected_times
from sepconvert.planning.knapsack import Figures, OutOfReachError, select
from sepconvert.planning.plans import NetworkPlan, PlannedSite, Timed
from sepconvert.planning.within_budget import Choices, sources
from sepconvert.progress import Progress, silent

Enough = Callable[[Timed], bool]
Measure = Callable[[Sequence[PlannedSite], Enough], Timed]
"""Times a plan, until what is known so far is enough."""
Picks = tuple[int, ...]

MOST_ATTEMPTS = 8
SURPLUS, ROUGH_SURPLUS = 1.03, 1.1
"""How much faster than asked a plan that spends its budget may be measured to be; that of a first answer."""
# Opened anew, the same model differs by about a per cent: one that misses by less, and by no more than its interval,
# has not been seen to miss.
CLOSE = 0.99
# A plan that misses these limits by so much more need not be measured to the end: it will not be taken.
FAR = 1.03
# In the middle between the two.
MIDDLE = 1.01
# Shares of the asked speed-up that plans are looked for at, one after another, until one has not been measured yet.
HARDER = (1.0, 1.01, 1.03, 1.08, 1.2)
EASIER = (0.98, 0.95, 0.9)
# So many plans that were expected to meet the budget and missed it: no more is expected of corrected times.
ASTRAY = 2
# Of the damage of a plan that spends its budget: one that is expected to do so too with less than that is worth a try.
GENTLER = 0.8
# Of the original's time: what is predicted to be left of it is never nothing.
LEAST_SHARE = 1e-3


def surplus(plan: NetworkPlan, asked: float, allowed: float = SURPLUS) -> str | None:
    """Say that a measured plan is clearly faster than asked, so that error is given away; None where it is not."""
    if plan.timed is None or plan.timed.low <= allowed * asked:
        return None
    plans = "The gentlest plan" if plan.attempts < MOST_ATTEMPTS else f"Of {MOST_ATTEMPTS} measured plans the gentlest"
    return (
        f"{plans} that reaches {asked:g}× is {plan.timed.speedup:.3g}× as fast as the original: between what plans "
        "there are, the steps are coarse."
    )


class SpeedupOutOfReachError(NothingToDoError):
    """A speed-up that no plan has; ``reachable`` can be asked for, None where there is nothing to gain.

    ``damage`` is what the fastest plan is predicted to lose.
    """

    def __init__(self, message: str, reachable: float | None, damage: float) -> None:
        """Say it, and what is left."""
        super().__init__(message)
        self.reachable = reachable
        self.damage = damage


def plan_speedup(
    choices: Choices,
    speedup: float,
    before_ms: float,
    measure: Measure | None,
    progress: Progress = silent,
    allowed: float = SURPLUS,
) -> NetworkPlan:
    """The least damage at a speed-up of the whole model.

    Args:
        choices: options with their times.
        speedup: asked old/new latency, above 1.
        before_ms: latency of the original: measured, or of the same source as the options' times.
        measure: times an architecture against the original; None where only predictions are possible.
        progress: told of every architecture that is measured.
        allowed: a plan that is at most so many times as fast as asked need not be closed in on.

    Returns:
        Of all measured plans that meet the budget, the one with the least damage (or, where the machine is too noisy
        to tell, the fastest of those that miss it by less than their interval); without ``measure``, the predicted one.

    Raises:
        SpeedupOutOfReachError: even the fastest candidates stay below the asked speed-up; the message says what is
            reachable.
    """
    search = _Search(choices, speedup, before_ms, allowed)
    return search.predict() if measure is None else search.run(measure, progress)


class _Search:
    """What has been measured so far, and what follows from it."""

    def __init__(self, choices: Choices, speedup: float, before_ms: float, allowed: float) -> None:
        self._choices = choices
        self._speedup = speedup
        self._before_ms = before_ms
        self._allowed = allowed
        self._measured: dict[Picks, Timed] = {}
        self._predicted = self._times = corrected_times(choices.options, (), before_ms)
        self._fastest = self._quickest()
        self._attempts = 0

    def predict(self) -> NetworkPlan:
        """One knapsack on predicted times."""
        picks = self._picks(1 / self._speedup)
        if picks is None:
            kind = f"predicted from {sources(self._choices.planned(self._fastest))} times"
            raise self._out_of_reach(1 / self._share(self._fastest), kind)
        return self._plan(picks)

    def run(self, measure: Measure, progress: Progress) -> NetworkPlan:
        """Measure at most ``MOST_ATTEMPTS`` architectures, and the fastest if none of them will do."""
        stage = f"Time plans for {self._speedup:.3g}×"
        while self._attempts < MOST_ATTEMPTS:
            progress(stage, self._attempts, MOST_ATTEMPTS)
            picks = self._next()
            if picks is None:
                break
            timed = self._measure(picks, measure)
            if self._unsure(timed) and self._attempts < MOST_ATTEMPTS:
                self._measure(picks, measure)
        progress(stage, MOST_ATTEMPTS, MOST_ATTEMPTS)
        return self._conclude(measure)

    def _next(self) -> Picks | None:
        """What to measure next; None where no plan is left that is expected to do better.

        That is the least damage that is expected to meet the budget, given everything measured. Where that went astray,
        or finds nothing while a measured plan is faster than asked, it is a plan between that and one too slow, or one
        that is expected to miss the budget by little.
        """
        best = self._best()
        if best is None:
            return self._new(HARDER, inf)
        damage, timed = self._damage(best), self._measured[best]
        if self._unsure(timed):
            return None
        if self._spent(timed):
            return self._new(HARDER, GENTLER * damage)
        missed = [self._damage(picks) for picks in self._measured if self._damage(picks) < damage]
        between = self._between(best)
        if between is not None and len(missed) >= ASTRAY:
            return between
        return self._new(HARDER, damage) or between or self._new(EASIER, damage, max(missed, default=-inf))

    def _between(self, best: Picks) -> Picks | None:
        """A new plan by the times as they were predicted: their least damage falls steadily with the time allowed.

        The logarithm of the measured time is taken to be linear in that of the predicted one.
        """
        fast, found, wanted = log(self._share(best)), -log(self._measured[best].speedup), -log(MIDDLE * self._speedup)
        behind = [(log(self._share(p)), -log(t.speedup)) for p, t in self._measured.items() if not self._meets(t)]
        slow, missed = min((point for point in behind if point[0] > fast), default=(fast + 1, found + 1))
        part = min(max((wanted - found) / (missed - found), 0.1), 0.9)
        picks = self._picks(exp(fast + part * (slow - fast)), self._predicted)
        return picks if picks is not None and self._is_new(picks, self._damage(best)) else None

    def _new(self, aims: Sequence[float], below: float, above: float = -inf) -> Picks | None:
        """The first plan for some shares of the asked speed-up that was not measured yet, its damage between limits."""
        for aim in aims:
            picks = self._picks(1 / (aim * self._speedup)) or self._quickest()
            if self._is_new(picks, below, above):
                return picks
        return None

    def _is_new(self, picks: Picks, below: float, above: float = -inf) -> bool:
        rewrites = any(site.option.scheme is not None for site in self._choices.planned(picks))
        return rewrites and picks not in self._measured and above < self._damage(picks) < below

    def _quickest(self) -> Picks:
        return select(self._figures(self._times), "ms", {}).picks

    def _measure(self, picks: Picks, measure: Measure) -> Timed:
        timed, known = measure(self._choices.planned(picks), self._far), self._measured.get(picks)
        self._measured[picks] = timed if known is None else known.pooled(timed)
        self._attempts += 1
        self._times = corrected_times(self._choices.options, list(self._measured.items()), self._before_ms)
        return self._measured[picks]

    def _best(self) -> Picks | None:
        met = [picks for picks, timed in self._measured.items() if self._meets(timed)]
        return min(met, key=self._damage) if met else None

    def _meets(self, timed: Timed) -> bool:
        return timed.speedup >= self._speedup or (
            timed.speedup >= CLOSE * self._speedup and timed.high >= self._speedup
        )

    def _spent(self, timed: Timed) -> bool:
        """Whether a measurement meets the budget and gives nothing away."""
        return self._meets(timed) and timed.speedup <= self._allowed * self._speedup

    def _unsure(self, timed: Timed) -> bool:
        """Whether a measurement is off, but by less than its interval: another plan would only chase noise."""
        return not self._spent(timed) and timed.low <= MIDDLE * self._speedup <= timed.high

    def _far(self, timed: Timed) -> bool:
        """Whether a plan is so clearly too slow, or faster than need be, that more readings would change nothing."""
        return timed.high * FAR < CLOSE * self._speedup or timed.low > FAR * self._allowed * self._speedup

    def _conclude(self, measure: Measure) -> NetworkPlan:
        best = self._best()
        if best is not None:
            return self._plan(best)
        if self._fastest not in self._measured and not self._near():
            self._measure(self._fastest, measure)
        near = self._near()
        if not near:
            raise self._out_of_reach(max(timed.speedup for timed in self._measured.values()), "measured")
        return self._plan(max(near, key=lambda picks: self._measured[picks].speedup))

    def _near(self) -> list[Picks]:
        """Plans that meet the budget within their interval."""
        return [picks for picks, timed in self._measured.items() if timed.high >= self._speedup]

    def _figures(self, times: CorrectedTimes) -> list[list[Figures]]:
        """Damages and change of the time of all options."""
        return [
            [{"damage": o.damages, "ms": ms - (o.dense_ms or 0.0)} for o, ms in zip(options, every, strict=True)]
            for options, every in zip(self._choices.options, times.ms, strict=True)
        ]

    def _picks(self, share: float, times: CorrectedTimes | None = None) -> Picks | None:
        """The least damage within an expected share of the original's time; None where nothing is so fast."""
        times = times or self._times
        change = (share - 1) * self._before_ms - times.around
        try:
            return select(self._figures(times), "damage", {"ms": change}).picks
        except OutOfReachError:
            return None

    def _share(self, picks: Picks) -> float:
        """Predicted time as a share of the original's; times of sites that were taken apart may add up to more."""
        saved = sum(site.option.saved_ms for site in self._choices.planned(picks))
        return max(1 - saved / self._before_ms, LEAST_SHARE)

    def _damage(self, picks: Picks) -> float:
        damage: float = self._choices.damage(picks)["damage"]
        return damage

    def _plan(self, picks: Picks) -> NetworkPlan:
        planned, timed = self._choices.planned(picks), self._measured.get(picks)
        # Savings are in proportion to the original's time, which may have been taken on a slower or faster machine.
        # What was predicted before anything was measured is told, not what was corrected.
        share = self._share(picks)
        predicted: dict[str, Any] = {
            **self._choices.damage(picks),
            "latency_ms": (self._before_ms if timed is None else timed.before_ms) * share,
            "speedup": 1 / share,
            "source": sources(planned),
        }
        return NetworkPlan({"speedup": self._speedup}, planned, predicted, timed, self._attempts)

    def _out_of_reach(self, best: float, kind: str) -> SpeedupOutOfReachError:
        time = sum(next((o.dense_ms for o in options if o.dense_ms), 0.0) for options in self._choices.options)
        rest = 1 - min(1.0, time / self._before_ms)
        reachable = best * 100 // 1 / 100
        worth = reachable > 1.01
        elsewhere = f", and about {rest:.0%} of its time is in layers that are no sites" if rest >= 0.005 else ""
        return SpeedupOutOfReachError(
            f"--speedup {self._speedup:g} is out of reach: with the fastest candidate at every site the model is "
            f"{kind} to be {best:.2f} times as fast{elsewhere}; "
            f"{f'ask for {reachable:g} or less' if worth else 'there is nothing to gain on this device'}.",
            reachable if worth else None,
            self._damage(self._fastest),
        )

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
from sepconvert.planning.knapsack import Figures, OutOfReachError, select
from sepconvert.planning.plans import NetworkPlan, PlannedSite, SiteOption, Timed
from sepconvert.planning.within_budget import Choices, sources
from sepconvert.progress import Progress, silent

Measure = Callable[[Sequence[PlannedSite]], Timed]
Picks = tuple[int, ...]

MOST_ATTEMPTS = 6
# A measured plan spends its budget where it is at most this much faster than asked.
SURPLUS = 1.03
# Opened anew, the same model differs by about a per cent: one that misses by less, and by no more than its interval,
# has not been seen to miss.
CLOSE = 0.99
# The search aims at the middle between the two.
AIM = 1.01
# Replaced layers are not believed to take longer or shorter than predicted by more than this factor: a larger one
# would change which sites are replaced, and so what the measurement says.
MOST_SCALE = 1.1
# How much faster a plan gets per predicted gain, in logarithms: what two measurements say, but noise may not say more.
SLOPES = (0.5, 2.0)
# Where everything measured was too slow, the next plan is predicted to take at most this share of the fastest's time.
STEP = 0.98
# Of the original's time: what is predicted to be left of it is never nothing.
LEAST_SHARE = 1e-3


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
        to tell, the fastest of those that miss it by less than their interval); without ``measure``, the predicted one.

    Raises:
        SpeedupOutOfReachError: even the fastest candidates stay below the asked speed-up; the message says what is
            reachable.
    """
    search = _Search(choices, speedup, before_ms)
    return search.predict() if measure is None else search.run(measure, progress)


class _Search:
    """What has been measured so far, and what follows from it."""

    def __init__(self, choices: Choices, speedup: float, before_ms: float) -> None:
        self._choices = choices
        self._speedup = speedup
        self._before_ms = before_ms
        self._scale = 1.0
        self._fastest = select(self._figures(), "ms", {}).picks
        self._measured: dict[Picks, Timed] = {}
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
        stage, share = f"Measure plans for {self._speedup:g}×", 1 / self._speedup
        while self._attempts < MOST_ATTEMPTS:
            progress(stage, self._attempts, MOST_ATTEMPTS)
            picks = self._picks(share) or self._fastest
            if picks in self._measured:
                break  # no other plan lies between what is too slow and this one
            timed = self._measure(picks, measure)
            if self._unsure(timed) and self._attempts < MOST_ATTEMPTS:
                timed = self._measure(picks, measure)
            if self._meets(timed) and (self._spent(timed) or self._unsure(timed)):
                break
            if picks == self._fastest and not self._meets(timed):
                break
            if len(self._measured) == 1:
                self._scale = self._scale_of(picks)
            share = self._next()
        progress(stage, MOST_ATTEMPTS, MOST_ATTEMPTS)
        return self._conclude(measure)

    def _measure(self, picks: Picks, measure: Measure) -> Timed:
        timed, known = measure(self._choices.planned(picks)), self._measured.get(picks)
        self._measured[picks] = timed if known is None else known.pooled(timed)
        self._attempts += 1
        return self._measured[picks]

    def _meets(self, timed: Timed) -> bool:
        return timed.speedup >= self._speedup or (
            timed.speedup >= CLOSE * self._speedup and timed.high >= self._speedup
        )

    def _spent(self, timed: Timed) -> bool:
        """Whether a measurement meets the budget and gives nothing away."""
        return self._meets(timed) and timed.speedup <= SURPLUS * self._speedup

    def _unsure(self, timed: Timed) -> bool:
        """Whether a measurement is off, but by less than its interval: another plan would only chase noise."""
        return not self._spent(timed) and timed.low <= AIM * self._speedup <= timed.high

    def _next(self) -> float:
        """The predicted share of the original's time to ask for next.

        Between two measured plans, one too slow and one too fast, the logarithm of the measured time is taken to be
        linear in that of the predicted one; beyond them too.
        """
        wanted = -log(AIM * self._speedup)
        points = sorted(
            ((log(self._share(picks)), -log(timed.speedup)) for picks, timed in self._measured.items()),
            key=lambda point: abs(point[1] - wanted),
        )
        predicted, found = points[0]
        # The best partner lies on the other side of what is wanted.
        others = sorted(points[1:], key=lambda point: (point[1] - wanted) * (found - wanted) > 0)
        slope = 1.0
        if others and others[0][0] != predicted:
            slope = min(max((others[0][1] - found) / (others[0][0] - predicted), SLOPES[0]), SLOPES[1])
        share = predicted + (wanted - found) / slope
        slow = min((log(self._share(p)) for p, timed in self._measured.items() if not self._meets(timed)), default=inf)
        fast = max((log(self._share(p)) for p, timed in self._measured.items() if self._meets(timed)), default=-inf)
        if -inf < fast < slow < inf and not fast < share < slow:
            share = (fast + slow) / 2
        return exp(share if fast > -inf else min(share, slow + log(STEP)))

    def _scale_of(self, picks: Picks) -> float:
        """By what factor a measured plan's replaced layers take longer than predicted, if they alone make it off."""
        chosen = [site.option for site in self._choices.planned(picks) if site.option.scheme is not None]
        replaced = sum(option.ms or 0.0 for option in chosen)
        rest = self._before_ms - sum(option.dense_ms or 0.0 for option in chosen)
        if replaced <= 0:
            return 1.0
        scale = (self._before_ms / self._measured[picks].speedup - rest) / replaced
        return min(max(scale, 1 / MOST_SCALE), MOST_SCALE)

    def _conclude(self, measure: Measure) -> NetworkPlan:
        met = [picks for picks, timed in self._measured.items() if self._meets(timed)]
        if met:
            return self._plan(min(met, key=self._damage))
        if self._fastest not in self._measured and not self._near():
            self._measure(self._fastest, measure)
        near = self._near()
        if not near:
            raise self._out_of_reach(max(timed.speedup for timed in self._measured.values()), "measured")
        return self._plan(max(near, key=lambda picks: self._measured[picks].speedup))

    def _near(self) -> list[Picks]:
        """Plans that meet the budget within their interval."""
        return [picks for picks, timed in self._measured.items() if timed.high >= self._speedup]

    def _figures(self) -> list[list[Figures]]:
        """Damages and change of the time of all options."""
        return [[{"damage": o.damages, "ms": self._change(o)} for o in options] for options in self._choices.options]

    def _change(self, option: SiteOption) -> float:
        return 0.0 if option.ms is None or option.scheme is None else self._scale * option.ms - (option.dense_ms or 0.0)

    def _picks(self, share: float) -> Picks | None:
        """The least damage within a predicted share of the original's time; None where nothing is so fast."""
        try:
            return select(self._figures(), "damage", {"ms": (share - 1) * self._before_ms}).picks
        except OutOfReachError:
            return None

    def _share(self, picks: Picks) -> float:
        """Predicted time as a share of the original's; times of sites that were taken apart may add up to more."""
        change = sum(self._change(site.option) for site in self._choices.planned(picks))
        return max(1 + change / self._before_ms, LEAST_SHARE)

    def _damage(self, picks: Picks) -> float:
        damage: float = self._choices.damage(picks)["damage"]
        return damage

    def _plan(self, picks: Picks) -> NetworkPlan:
        planned, timed = self._choices.planned(picks), self._measured.get(picks)
        # Savings are in proportion to the original's time, which may have been taken on a slower or faster machine.
        # What was predicted before anything was measured is told, not what was corrected.
        share = max(1 - sum(site.option.saved_ms for site in planned) / self._before_ms, LEAST_SHARE)
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

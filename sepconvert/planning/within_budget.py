"""Plans that are one knapsack: the least damage within MACs or parameters, the least time within a damage."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any

from sepconvert.graph.sites import ConvSite
from sepconvert.planning.damage import left_by_fits
from sepconvert.planning.knapsack import OutOfReachError, select
from sepconvert.planning.plans import NetworkPlan, PlannedSite, SiteOption
from sepconvert.planning.uniform import out_of_reach
from sepconvert.separable.forms import cost_of

MOST_ROUNDS = 4
KEPT_BY_PLAN = "not in the plan: rewriting others saves more for the error that it adds"


@dataclass(frozen=True, slots=True)
class Choices:
    """Everything there is to choose from: the sites in the graph's order, their options, and why some have none.

    ``parts`` names what the options' damages are of, in their order; empty where nothing is known of the outputs.
    """

    sites: tuple[ConvSite, ...]
    options: tuple[tuple[SiteOption, ...], ...]
    reasons: Mapping[str, str]
    parts: tuple[str, ...] = ()

    def without(self, outputs: Collection[str]) -> "Choices":
        """The same choices, but these sites (by output) stay dense."""
        options = [
            every[:1] if site.output in outputs else every for site, every in zip(self.sites, self.options, strict=True)
        ]
        return replace(self, options=tuple(options))

    @property
    def least_damage(self) -> float | None:
        """The least that rewriting any one site is predicted to cost; None where no candidate is worth having."""
        least = min((o.damage for options in self.options for o in options if o.scheme is not None), default=None)
        return None if least is None else self._left(1) * least

    def damage(self, picks: Sequence[int]) -> dict[str, Any]:
        """The largest damage to a part, as the plan's prediction: ``damage`` and, of several, ``worst_part``."""
        taken = [options[pick].damages for options, pick in zip(self.options, picks, strict=True)]
        totals = [fsum(found) for found in zip(*(damages for damages in taken if damages), strict=True)]
        worst = self._left(self.rewritten(picks)) * max(totals, default=0.0)
        return {"damage": worst} | ({"worst_part": self.parts[totals.index(max(totals))]} if len(totals) > 1 else {})

    def rewritten(self, picks: Sequence[int]) -> int:
        """How many sites do not stay as they are."""
        return sum(options[pick].scheme is not None for options, pick in zip(self.options, picks, strict=True))

    def allowed(self, limit: float, rewritten: int) -> float:
        """The sum of damages that comes to a limit where so many sites are rewritten."""
        return limit / self._left(rewritten)

    def _left(self, rewritten: int) -> float:
        """What fits leave of the sum; all of it where a damage is no error of the output, but a share of weights."""
        return left_by_fits(rewritten / len(self.options)) if self.parts else 1.0

    def planned(self, picks: Sequence[int]) -> tuple[PlannedSite, ...]:
        """Turn the knapsack's picks into planned sites."""
        found = []
        for site, options, pick in zip(self.sites, self.options, picks, strict=True):
            option = options[pick]
            reason = None if option.scheme is not None else self.reasons.get(site.output, KEPT_BY_PLAN)
            found.append(PlannedSite(site, option, reason))
        return tuple(found)


def plan_cost(choices: Choices, unit: str, total: int, ratio: float) -> NetworkPlan:
    """The least damage within a share of the whole model's MACs or parameters.

    Args:
        choices: options with their costs.
        unit: ``macs`` or ``params``.
        total: the whole model's figure.
        ratio: asked new/old of the whole model.

    Raises:
        NothingToDoError: the ratio is out of reach; the message gives the best reachable.
    """
    figures = [
        [_cost_figures(site, option, unit) for option in options]
        for site, options in zip(choices.sites, choices.options, strict=True)
    ]
    try:
        found = select(figures, "damage", {unit: (ratio - 1) * total})
    except OutOfReachError as error:
        best = 1 + error.best / total
        raise out_of_reach(unit, ratio, best, "the smallest candidate") from None
    planned = choices.planned(found.picks)
    predicted = {**choices.damage(found.picks), unit: 1 + found.totals[unit] / total}
    return NetworkPlan({unit: ratio}, planned, predicted)


def plan_error(choices: Choices, limit: float, figure: str) -> NetworkPlan:
    """The least time (``figure`` = ``ms``) or MACs (``macs``) whose predicted damage keeps within a limit.

    The limit is on the prediction: whoever fits the plan and measures its error corrects the limit and plans again.
    """
    figures = [
        [
            {"damage": option.damages, "ms": -option.saved_ms, "macs": _cost_figures(site, option, "macs")["macs"]}
            for option in options
        ]
        for site, options in zip(choices.sites, choices.options, strict=True)
    ]
    # The more sites are rewritten, and so fitted, the less is left of their damages' sum, and the more of it fits in.
    best, rewritten = None, 0
    for _ in range(MOST_ROUNDS):
        found = select(figures, figure, {"damage": choices.allowed(limit, rewritten)})
        if best is None or choices.damage(found.picks)["damage"] <= limit:
            best = found
        if choices.rewritten(found.picks) == rewritten:
            break
        rewritten = choices.rewritten(found.picks)
    assert best is not None
    planned, predicted = choices.planned(best.picks), choices.damage(best.picks)
    if figure == "ms":
        predicted |= {"saved_ms": -best.totals["ms"], "source": sources(planned)}
    return NetworkPlan({"max_error": limit}, planned, predicted)


def _cost_figures(site: ConvSite, option: SiteOption, unit: str) -> dict[str, Any]:
    """Damages and the change of one cost; MACs that are unknown cannot change."""
    change = 0.0
    if option.scheme is not None:
        dense, new = site.geometry.dense_cost, cost_of(option.scheme.form, site.geometry, option.scheme.rank)
        if unit == "params":
            change = new.params - dense.params
        elif new.macs is not None and dense.macs is not None:
            change = new.macs - dense.macs
    return {"damage": option.damages, unit: change}


def sources(planned: Sequence[PlannedSite]) -> str | None:
    """Name where the times behind a prediction are from, as one word or several; None where nothing was timed."""
    found = {site.option.source for site in planned if site.option.source is not None}
    return ", ".join(sorted(found)) or None

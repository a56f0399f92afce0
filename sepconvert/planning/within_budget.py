"""Plans that are one knapsack: the least damage within MACs or parameters, the least time within a damage."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import fsum, inf
from typing import Any

from sepconvert.graph.sites import ConvSite
from sepconvert.planning.damage import drawn_by_fits, left_by_fits
from sepconvert.planning.knapsack import OutOfReachError, select
from sepconvert.planning.plans import NetworkPlan, PlannedSite, SiteOption
from sepconvert.planning.uniform import out_of_reach
from sepconvert.separable.forms import cost_of

MOST_ROUNDS, CLOSE_ENOUGH = 6, 0.95
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
        every = [(place, pick) for place, site in enumerate(self.options) for pick, o in enumerate(site) if o.scheme]
        lone = [[pick if place == at else 0 for place in range(len(self.options))] for at, pick in every]
        return min((self.damage(picks)["damage"] for picks in lone), default=None)

    def damage(self, picks: Sequence[int]) -> dict[str, Any]:
        """The largest damage to a part, as the plan's prediction: ``damage`` and, of several, ``worst_part``."""
        taken = [options[pick] for options, pick in zip(self.options, picks, strict=True)]
        left, drawn = 1.0, 1.0
        if self.parts:  # else a damage is no error of the output, but a share of weights
            share = sum(option.scheme is not None for option in taken) / len(taken)
            left, drawn = left_by_fits(share), drawn_by_fits(share)
        each = [_drawn(option, drawn) for option in taken if option.damages]
        totals = [left * fsum(found) for found in zip(*each, strict=True)]
        worst = max(totals, default=0.0)
        return {"damage": worst} | ({"worst_part": self.parts[totals.index(worst)]} if len(totals) > 1 else {})

    def planned(self, picks: Sequence[int]) -> tuple[PlannedSite, ...]:
        """Turn the knapsack's picks into planned sites."""
        found = []
        for site, options, pick in zip(self.sites, self.options, picks, strict=True):
            option = options[pick]
            reason = None if option.scheme is not None else self.reasons.get(site.output, KEPT_BY_PLAN)
            found.append(PlannedSite(site, option, reason))
        return tuple(found)


def _drawn(option: SiteOption, drawn: float) -> list[float]:
    """Damages between what a site does alone and what counts where all others are fitted, in the logarithm."""
    alone = option.alone or option.damages
    return [one ** (1 - drawn) * other**drawn for one, other in zip(alone, option.damages, strict=True)]


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
    # What is predicted is no sum: the limit on the sum is moved until the prediction is below, and near, its own.
    best, least, allowed = None, inf, limit / (left_by_fits(1.0) if choices.parts else 1.0)
    for _ in range(MOST_ROUNDS):
        found = select(figures, figure, {"damage": allowed})
        damage = choices.damage(found.picks)["damage"]
        if best is None or damage < least or least < damage <= limit:
            best, least = found, damage
        if damage == 0 or CLOSE_ENOUGH * limit <= damage <= limit:
            break
        allowed *= limit / damage
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

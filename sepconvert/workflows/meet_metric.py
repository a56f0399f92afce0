"""As fast as a metric's fall allows: plan by predicted damage, fit, ask the metric, and look for the largest damage.

What a damage does to a metric is not known, only that more of it does no good. So the damage that is allowed grows by a
factor until the metric has fallen too far, or shrinks by it until it has not; then the gap is halved.
"""

from dataclasses import dataclass, replace
from math import sqrt

import numpy as np

from sepconvert.errors import NothingToDoError
from sepconvert.planning.within_budget import plan_error
from sepconvert.record.ruin import RUIN
from sepconvert.workflows.measure import ask_metric
from sepconvert.workflows.meet_error import BY_MACS, FASTEST, FEWEST, Fit, few_held_out, time_saved
from sepconvert.workflows.opened import CHECKED, Case
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.settled import Settled

MOST_FITS = 5
START, STEP = 0.01, 4.0  # the first damage, and by which factor it changes while one side of the bound is unknown
CLOSE_ENOUGH = 1.4  # bounds of the damage that differ by less are not worth another fit


@dataclass(slots=True)
class _Bracket:
    """Damages between which the largest lies that the metric bears."""

    borne: float | None = None
    too_much: float | None = None

    def add(self, damage: float, *, kept: bool) -> None:
        if kept:
            self.borne = damage
        else:
            self.too_much = damage

    @property
    def next(self) -> float | None:
        """The damage to try; None where nothing is to be gained by another."""
        if self.borne is None:
            return START if self.too_much is None else self.too_much / STEP
        if self.too_much is None:
            return self.borne * STEP if self.borne * STEP < RUIN else None
        return sqrt(self.borne * self.too_much) if self.too_much > CLOSE_ENOUGH * self.borne else None


def settle_metric(case: Case, planner: Planner, limit: float, fit: Fit) -> Settled:
    """Rewrite so that the metric falls by no more than a limit on inputs that were not fitted to.

    Args:
        case: model and inputs; some of these are held out.
        planner: predicts damage and times.
        limit: how far the metric may fall.
        fit: fits a plan.

    Raises:
        NothingToDoError: the limit is out of reach.
        DataError: the metric fails.
    """
    calibration = case.calibration
    assert calibration is not None
    if not planner.knows_times:
        planner.warnings.append(BY_MACS)
    fitted, checked = calibration.split(CHECKED, np.random.default_rng(case.request.seed))
    case = replace(case, calibration=fitted)
    choices = planner.choices_by_latency if planner.knows_times else planner.choices_by_cost
    figure, goal = ("ms", FASTEST) if planner.knows_times else ("macs", FEWEST)
    bracket, tried, least = _Bracket(), 0, None
    best: Settled | None = None
    while tried < MOST_FITS and (allowed := bracket.next) is not None:
        network = plan_error(choices, allowed, figure)
        if not network.chosen:
            break
        tried += 1
        found = fit(case, planner, replace(network, budget={"max_drop": limit, "goal": goal}))
        metric = ask_metric(case, found.judged, checked)
        assert metric is not None
        drop = metric.drop
        kept = drop <= limit
        bracket.add(allowed, kept=kept)
        least = drop if least is None else min(least, drop)
        if kept and (best is None or time_saved(found) > time_saved(best)):
            measured = {"max_drop": drop, "held_out_inputs": checked.count}
            best = replace(found, plan=replace(found.plan, measured=measured))
    if best is None:
        raise NothingToDoError(_out_of_reach(limit, least))
    return replace(best, warnings=(*best.warnings, *few_held_out(case, checked.count)))


def _out_of_reach(limit: float, least: float | None) -> str:
    asked = f"--max-drop {limit:g} is out of reach"
    if least is None:
        return f"{asked}: no candidate is faster than the layers that are there, so there is nothing to gain here."
    return (
        f"{asked}: the gentlest rewrite that was tried lets the metric fall by {least:.3g} on held-out inputs; allow "
        "more, or give more calibration inputs."
    )

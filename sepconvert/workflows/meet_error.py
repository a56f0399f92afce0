"""As fast as an error allows: plan by predicted damage, fit, measure the error, and correct the prediction.

Errors of fitted plans follow their predicted damage by a power that is near 1 on one network, so that two to four fits
get close to the limit from below. Each costs as much as one planned rewrite after its profile.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, inf, log, sqrt

import numpy as np

from sepconvert.errors import ModelError, NothingToDoError
from sepconvert.planning.plans import NetworkPlan, PlannedSite
from sepconvert.planning.within_budget import Choices, plan_error
from sepconvert.record import Note
from sepconvert.workflows.describe import worst_error
from sepconvert.workflows.measure import Evaluator
from sepconvert.workflows.opened import CHECKED, Case
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.settled import Settled

MOST_FITS = 4
# An error this close to the limit is not worth another fit, and neither is a plan that saves hardly more time.
CLOSE_ENOUGH, CLEARLY_MORE = 0.7, 1.05
# Shares of the limit that the next fit aims at: in the middle of what will do, lower where none has kept it yet, and
# higher where what is in the middle saves hardly more.
AIM, AIM_LOWER, AIM_HIGHER = 0.85, 0.7, 0.97
SLOPES = (0.5, 2.0)
MOST_HALVINGS = 4
LEAST_ROOM = 0.1  # share of a limit that a rewrite is given where INT8 by itself takes nearly all of it
SMALLEST = 1e-12  # an error of rounding has no logarithm worth having
FASTEST, FEWEST = "as fast as possible", "as few MACs as possible"
FEW_HELD_OUT = 16
"""Of fewer held-out inputs the error on others is another: 0.05 on ten of a detector's was 0.073 on forty others."""
BY_MACS = Note(
    "Latency is not known (--no-latency), so as fast as possible within the limit means with as few MACs as possible; "
    "fewer MACs alone do not make a network faster."
)

Fit = Callable[[Case, Planner, NetworkPlan], Settled]
Point = tuple[float, float]  # logarithms of the predicted damage and of the measured error


def settle_error(case: Case, planner: Planner, limit: float, fit: Fit) -> Settled:
    """Rewrite so that the worst output's error keeps within a limit on inputs that were not fitted to.

    Args:
        case: model and inputs; some of these are held out.
        planner: predicts damage and times.
        limit: the largest relative error.
        fit: fits a plan.

    Raises:
        NothingToDoError: the limit is out of reach.
        ModelError: the inputs give no error to judge by.
    """
    calibration = case.calibration
    assert calibration is not None
    if not planner.knows_times:
        planner.warnings.append(BY_MACS)
    fitted, checked = calibration.split(CHECKED, np.random.default_rng(case.request.seed))
    evaluator, case = Evaluator(case.opened, checked, case.request.seed), replace(case, calibration=fitted)
    choices = planner.choices_by_latency if planner.knows_times else planner.choices_by_cost
    figure, goal = ("ms", FASTEST) if planner.knows_times else ("macs", FEWEST)
    # What INT8 loses by itself is lost already.
    start = planner.error_by_int8
    room = max(limit - start, LEAST_ROOM * limit)
    points, tried = list[Point](), list[NetworkPlan]()
    best: Settled | None = None

    def plan(allowed: float) -> NetworkPlan | None:
        """The plan within a limit on the damage, if it is a new one and saves clearly more than the best so far."""
        network = _plan(choices, allowed, figure, tried)
        if not network.chosen or any(network.sites == other.sites for other in tried):
            return None
        more = best is None or not 0 < _saved_ms(network.sites) < CLEARLY_MORE * _saved_ms(best.sites)
        return network if more else None

    while len(tried) < MOST_FITS:
        network = plan(next_damage(points, room) if points else room)
        if network is None and best is not None:
            network = plan(next_damage(points, room, AIM_HIGHER))
        if network is None:
            break
        tried.append(network)
        found = fit(case, planner, replace(network, budget={"max_error": limit, "goal": goal}))
        error = _measured(case, found, evaluator)
        lost = max(error - start, LEAST_ROOM * room if start else SMALLEST)
        points.append((log(max(network.predicted["damage"], SMALLEST)), log(lost)))
        if error <= limit:
            measured = {"max_error": error, "held_out_inputs": checked.count}
            found = replace(found, plan=replace(found.plan, measured=measured))
            best = found if best is None or time_saved(found) > time_saved(best) else best
            if error >= CLOSE_ENOUGH * limit:
                break
    if best is None:
        least = min((exp(error) + start for _, error in points), default=inf)
        raise NothingToDoError(_out_of_reach(case, limit, least, choices))
    return replace(best, warnings=(*best.warnings, *few_held_out(case, checked.count)))


def few_held_out(case: Case, count: int) -> list[Note]:
    """Say that a limit was checked on few inputs, if it was, and what helps."""
    if count >= FEW_HELD_OUT:
        return []
    inputs = "one held-out input" if count == 1 else f"{count} held-out inputs"
    enough = f"give {round(FEW_HELD_OUT / CHECKED)} or more"
    remedy = "leave --quick away" if case.request.planning.quick else enough
    return [
        Note(
            f"The limit was kept on {inputs}, too few to be sure of others. A fifth of the calibration inputs that are "
            f"looked at is held out: {remedy}."
        )
    ]


def _plan(choices: Choices, allowed: float, figure: str, tried: Sequence[NetworkPlan]) -> NetworkPlan:
    """A plan within a limit on the damage; where none is that gentle, one between it and the last that was tried."""
    network = plan_error(choices, allowed, figure)
    for _ in range(MOST_HALVINGS if tried else 0):
        if network.chosen:
            break
        allowed = sqrt(allowed * tried[-1].predicted["damage"])
        network = plan_error(choices, allowed, figure)
    return network


def next_damage(points: list[Point], limit: float, aim: float = AIM) -> float:
    """The damage to allow next: where the line through the nearest measured plans has the error that is aimed at.

    Args:
        points: logarithms of damage and error of the plans that were fitted; at least one.
        limit: the largest error that the plans may add.
        aim: at which share of it, once a plan has kept it.
    """
    kept = any(error <= log(limit) for _, error in points)
    wanted = log(limit * (aim if kept else AIM_LOWER ** len(points)))
    near = sorted(points, key=lambda point: abs(point[1] - wanted))
    (damage, error), slope = near[0], 1.0
    if len(near) > 1 and near[1][0] != damage:
        slope = min(max((near[1][1] - error) / (near[1][0] - damage), SLOPES[0]), SLOPES[1])
    return exp(damage + (wanted - error) / slope)


def _measured(case: Case, found: Settled, evaluator: Evaluator) -> float:
    fidelity, warnings = evaluator(found.judged, case.request.progress)
    error, checked = worst_error(fidelity), evaluator.dataset
    if error is None:
        assert checked is not None
        more = "give more --data, of inputs that vary, or " if checked.count < 2 or not checked.varies else ""
        remedy = f"{more}ask for --macs, --params or --speedup instead."
        raise ModelError(
            f"--max-error has nothing to be judged by. {' '.join(warnings[:1])} {remedy[0].upper()}{remedy[1:]}"
        )
    return error


def _out_of_reach(case: Case, limit: float, measured: float, choices: Choices) -> str:
    """Say how close to an error budget one can come."""
    asked = f"--max-error {limit:g}{' (the goal where no budget is given)' if case.request.budget.by_default else ''}"
    return f"{asked} is out of reach: {_closest(limit, measured, choices)}."


def _closest(limit: float, measured: float, choices: Choices) -> str:
    if measured < inf:
        return (
            f"the gentlest rewrite that was tried errs by {measured:.3g} on held-out inputs; allow more, or give more "
            "calibration inputs"
        )
    predicted = choices.least_damage
    unsized = next((site.name for site in choices.sites if not site.geometry.is_sized), None)
    if unsized is not None:
        return f"what site {unsized} costs is unknown, so that no gain can be told; give --rank instead"
    if predicted is None:
        return "no candidate is faster than the dense convolution at any site, so there is nothing to gain here"
    if predicted <= limit:
        return "no candidate that errs by less saves anything; allow more"
    return f"rewriting one site is predicted to err by {predicted:.3g} at least; allow more"


def time_saved(settled: Settled) -> float:
    """What is to be maximised: time saved where it is known, else MACs."""
    return _saved_ms(settled.sites) or -float(settled.applied.opened.totals.macs or 0)


def _saved_ms(sites: Sequence[PlannedSite]) -> float:
    return sum(site.option.saved_ms for site in sites)

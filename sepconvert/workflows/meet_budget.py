"""From a budget to a rewritten model: plan, fit, apply, measure, and again where the measurement misses the budget."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np

from sepconvert.errors import ModelError, NothingToDoError
from sepconvert.fitting.results import NetworkFit, SiteFit, SitePlan
from sepconvert.planning.plans import NetworkPlan, PlannedSite
from sepconvert.planning.uniform import plan_rank, plan_share
from sepconvert.planning.within_budget import plan_cost, plan_error
from sepconvert.record import Latency, Plan
from sepconvert.workflows.describe import describe_plan, worst_error
from sepconvert.workflows.fit import Applied, apply_fits, fit_plans
from sepconvert.workflows.measure import measure_fidelity, measure_latency
from sepconvert.workflows.opened import Case
from sepconvert.workflows.planner import Planner

SPEEDUP_ATTEMPTS = 2
ERROR_ATTEMPTS = 4
CHECKED = 0.2  # share of the calibration inputs that --max-error is checked on
# An error this close to the limit is not worth another fit.
CLOSE_ENOUGH = 0.7


@dataclass(frozen=True, slots=True)
class Settled:
    """A rewritten model and how it came about; ``latency`` is empty where nothing was measured yet.

    ``sites`` are the planned sites with their times, empty for uniform plans.
    """

    plans: Sequence[SitePlan]
    fit: NetworkFit
    applied: Applied
    plan: Plan
    sites: tuple[PlannedSite, ...] = ()
    latency: tuple[Latency, ...] = ()


def settle(case: Case, planner: Planner) -> Settled:
    """Rewrite under the one budget in force.

    Raises:
        NothingToDoError: no site can be rewritten, or the budget is out of reach.
    """
    budget, drawn = case.request.budget, case.request.planning.init == "random"
    if not case.sites or budget.name == "rank" or (drawn and budget.name != "speedup"):
        return _settle_uniform(case, planner)
    if budget.name == "speedup":
        return _settle_speedup(case, planner, budget.value)
    if budget.name == "max_error":
        return _settle_error(case, planner, budget.value)
    unit, ratio = budget.name, budget.value
    return _settle_plan(case, planner, plan_cost(planner.choices_by_cost, unit, planner.total(unit), ratio))


def _settle_uniform(case: Case, planner: Planner) -> Settled:
    request, budget = case.request, case.request.budget
    planning, plans = request.planning, []
    if budget.name == "rank":
        plans = [
            plan_rank(site, request.forms, budget.value, planning.lowering, allow_growth=planning.allow_growth)
            for site in case.sites
        ]
    elif case.sites:
        total = planner.total(budget.name)
        plans = plan_share(case.sites, request.forms, total, budget.value, budget.name, planning.lowering)
    fit = _fastest(planner, _fit(case, planner, plans))
    applied = apply_fits(case.opened, fit, request.seed)
    return Settled(plans, fit, applied, Plan({budget.name: budget.value, "share": "uniform"}))


def _settle_plan(case: Case, planner: Planner, network: NetworkPlan) -> Settled:
    plans = network.site_plans
    fit = _fit(case, planner, plans)
    # What was timed as a whole stays as it was timed.
    fit = fit if network.timed is not None else _fastest(planner, fit)
    applied = apply_fits(case.opened, fit, case.request.seed)
    return Settled(plans, fit, applied, describe_plan(network, from_data=case.calibration is not None), network.sites)


def _settle_speedup(case: Case, planner: Planner, asked: float) -> Settled:
    """Plan, fit and measure; aim higher once where two measurements miss the asked speed-up by their intervals."""
    aim, without = asked, frozenset[str]()
    best: Settled | None = None
    for _ in range(SPEEDUP_ATTEMPTS):
        try:
            network = planner.by_speedup(aim, without)
        except NothingToDoError:
            if best is None:
                raise
            break
        found = _settle_plan(case, planner, replace(network, budget={"speedup": asked}))
        found = replace(found, latency=_measure(case, found.applied))
        if not _meets(found.latency, asked):
            # A second measurement costs seconds, another fit minutes; a single miss may be the machine's.
            found = replace(found, latency=_measure(case, found.applied))
        if best is None or _speedup(found) > _speedup(best):
            best = found
        if _meets(found.latency, asked):
            break
        # Sites whose fit failed stay dense, so their saving must come from others.
        without |= frozenset(found.fit.kept)
        aim = asked * max(1.0, asked / _speedup(found)) if not found.fit.kept else asked
    assert best is not None
    return best


def _settle_error(case: Case, planner: Planner, limit: float) -> Settled:
    """Plan by predicted damage, fit to most of the data, measure the error on the rest, correct the prediction."""
    calibration = case.calibration
    assert calibration is not None
    fitted, checked = calibration.split(CHECKED, np.random.default_rng(case.request.seed))
    case = replace(case, calibration=fitted)
    figure = "ms" if planner.knows_times else "macs"
    choices = planner.choices_by_latency if planner.knows_times else planner.choices_by_cost
    allowed, met, missed = limit, 0.0, inf
    best: Settled | None = None
    least = inf
    for _ in range(ERROR_ATTEMPTS):
        network = plan_error(choices, allowed, figure)
        if not network.chosen:
            break
        found, error = _fit_and_check(case, planner, network, checked, limit)
        least = min(least, error)
        if error <= limit:
            met, best = max(met, allowed), found if best is None or _saved(found) > _saved(best) else best
            if error >= CLOSE_ENOUGH * limit:
                break
        else:
            missed = min(missed, allowed)
        wanted = allowed * limit / max(error, 1e-3 * limit) * (0.95 if error <= limit else 0.8)
        allowed = wanted if met < wanted < missed else (met + min(missed, 4 * max(met, allowed))) / 2
    if best is None:
        raise NothingToDoError(f"--max-error {limit:g} is out of reach: {_closest(least, choices.least_damage)}.")
    return best


def _closest(measured: float, predicted: float | None) -> str:
    """Say how close to an error budget one can come."""
    if measured < inf:
        return (
            f"the gentlest rewrite that was tried errs by {measured:.3g} on held-out inputs; allow more, or give more "
            "calibration inputs"
        )
    if predicted is None:
        return "no candidate is faster than the dense convolution at any site, so there is nothing to gain here"
    return f"rewriting one site is predicted to err by {predicted:.3g} at least; allow more"


def _fit_and_check(
    case: Case, planner: Planner, network: NetworkPlan, checked: Any, limit: float
) -> tuple[Settled, float]:
    found = _settle_plan(case, planner, replace(network, budget={"max_error": limit}))
    fidelity, warnings = measure_fidelity(
        case.opened, found.applied.opened, checked, case.request.seed, case.request.progress
    )
    error = worst_error(fidelity)
    if error is None:
        raise ModelError(
            f"--max-error has nothing to be judged by. {' '.join(warnings[:1])} Give more or other --data, or ask for "
            "--macs, --params or --speedup instead."
        )
    measured = {"max_error": error, "held_out_inputs": checked.count}
    return replace(found, plan=replace(found.plan, measured=measured)), error


def _fit(case: Case, planner: Planner, plans: Sequence[SitePlan]) -> NetworkFit:
    fit = fit_plans(case, plans)
    planner.add_seconds(fit.seconds)
    if not fit.rewritten:
        raise NothingToDoError(_nothing_to_do(case, plans, fit))
    return fit


def _fastest(planner: Planner, fit: NetworkFit) -> NetworkFit:
    """Choose every site's lowering by timing it, where times are measured or given and sizes known."""
    if not planner.knows_times or not planner.knows_sizes:
        return fit
    written: dict[str, SiteFit] = {}
    progress = planner.case.request.progress
    for output, found in fit.rewritten.items():
        progress(f"Time lowerings: {found.site.name}", len(written), len(fit.rewritten))
        assert found.scheme is not None
        written[output] = replace(found, scheme=planner.fastest(output, found.scheme))
    progress("Time lowerings", len(written), len(written))
    return replace(fit, sites={**fit.sites, **written})


def _measure(case: Case, applied: Applied) -> tuple[Latency, ...]:
    if not case.request.measure.latency:
        return ()
    return tuple(
        measure_latency(
            case.opened, applied.opened, case.sample, case.request.measure, case.request.seed, case.request.progress
        )
    )


def _meets(latency: Sequence[Latency], asked: float) -> bool:
    """Whether a measured speed-up is no worse than asked by more than its interval; noise gives no reason to go on."""
    if not latency or not latency[0].stable or latency[0].speedup_ci95 is None:
        return True
    return latency[0].speedup_ci95[1] >= asked


def _speedup(settled: Settled) -> float:
    return (settled.latency[0].speedup or 0.0) if settled.latency else inf


def _saved(settled: Settled) -> float:
    """What an error budget is to maximise: time saved where it is known, else MACs."""
    saved = sum(site.option.saved_ms for site in settled.sites)
    return saved or -float(settled.applied.opened.totals.macs or 0)


def _nothing_to_do(case: Case, plans: Sequence[SitePlan], fit: NetworkFit) -> str:
    name = case.opened.model.label
    if not case.opened.found.sites:
        kinds = sorted({skip.kind for skip in case.opened.found.skips})
        rest = f"its convolutions are {', '.join(kinds)}" if kinds else "it has no convolution"
        return f"{name} has no convolution that can be rewritten ({rest}); nothing was written."
    if not plans:
        count = len(case.opened.found.sites)
        kept = f"The one site of {name} is" if count == 1 else f"All {count} sites of {name} are"
        return f"{kept} kept by --include, --exclude or default; nothing was written."
    for output, reason in fit.kept.items():
        return f"No site of {name} was rewritten ({output}: {reason}); nothing was written; ask for less."
    budget = case.request.budget
    if budget.name == "speedup":
        return f"--speedup {budget.value:g} needs no site of {name} to be rewritten; nothing was written."
    return (
        f"No site of {name} can be rewritten below break-even ({plans[0].site.name}: {plans[0].reason}); "
        "nothing was written; ask for a smaller rank or another form."
    )

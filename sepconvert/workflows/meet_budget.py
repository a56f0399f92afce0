"""From a budget to a rewritten model: plan, fit, apply, measure, and again where the measurement misses the budget."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from sepconvert.errors import NothingToDoError
from sepconvert.fitting.results import NetworkFit, SiteFit, SitePlan
from sepconvert.planning.plans import NetworkPlan
from sepconvert.planning.speedup import SpeedupOutOfReachError, surplus
from sepconvert.planning.uniform import plan_rank, plan_share
from sepconvert.planning.within_budget import plan_cost
from sepconvert.record import Latency, Note, Plan
from sepconvert.workflows import meet_error, meet_metric
from sepconvert.workflows.describe import describe_plan
from sepconvert.workflows.effort import surplus_allowed
from sepconvert.workflows.fit import apply_fits, fit_plans
from sepconvert.workflows.measure import time_change
from sepconvert.workflows.opened import Case
from sepconvert.workflows.options import Budget
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.ruin import instead, refuse_hopeless
from sepconvert.workflows.separated import describe_separable
from sepconvert.workflows.settled import Settled

SPEEDUP_ATTEMPTS = 2
MOST_FITS = {"max_error": meet_error.MOST_FITS, "max_drop": meet_metric.MOST_FITS}
"""By the budgets that are limits: a plan is fitted, judged and corrected."""
BY_DEFAULT = Note(
    "No budget was given, and without --data there is no error to keep within, so the plan is for half of the MACs "
    "(--macs 0.5)."
)
WITHOUT_TIMES = (
    "No budget was given, and without times (--no-latency) nothing says which model is the fastest, so the plan is for "
    "half of the MACs (--macs 0.5)."
)
GOAL_MISSED = "{error} So the plan is for half of the MACs (--macs 0.5) instead: look at its error before you use it."
NEITHER = "{error} Half of the MACs was tried instead: {half}"


def settle(case: Case, planner: Planner) -> Settled:
    """Rewrite under the one budget in force.

    Raises:
        NothingToDoError: no site can be rewritten, or the budget is out of reach.
        RuinedError: the plan is hopeless.
    """
    budget, drawn = case.request.budget, case.request.planning.init == "random"
    if not case.sites or budget.name == "rank" or (drawn and budget.name != "speedup"):
        return _settle_uniform(case, planner)
    if budget.name == "speedup":
        return _settle_speedup(case, planner, budget.value)
    if budget.name == "max_drop":
        return meet_metric.settle_metric(case, planner, budget.value, settle_plan)
    if budget.name == "max_error":
        if budget.by_default and not planner.knows_times:
            return _settle_cost(case, planner, Budget(), WITHOUT_TIMES)
        try:
            return meet_error.settle_error(case, planner, budget.value, settle_plan)
        except NothingToDoError as error:
            if not budget.by_default:
                raise
            # Nobody asked for this goal: show what half of the MACs costs, and say that the goal was missed.
            try:
                return _settle_cost(case, planner, Budget(), GOAL_MISSED.format(error=error))
            except NothingToDoError as half:
                raise NothingToDoError(NEITHER.format(error=error, half=half)) from None
    return _settle_cost(case, planner, budget, BY_DEFAULT if budget.by_default else None)


def _settle_cost(case: Case, planner: Planner, budget: Budget, warning: str | None) -> Settled:
    unit, ratio = budget.name, budget.value
    network = plan_cost(planner.choices_by_cost, unit, planner.total(unit), ratio)
    refuse_hopeless(planner, network)
    found = settle_plan(case, planner, network)
    if warning is None:
        return found
    return replace(found, fit=replace(found.fit, warnings=(*found.fit.warnings, warning)))


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
    plan = Plan({budget.name: budget.value, "share": "uniform"})
    return Settled(plans, fit, applied, plan, int8=planner.in_int8(fit, applied))


def settle_plan(case: Case, planner: Planner, network: NetworkPlan) -> Settled:
    """Fit a plan and put it into the model.

    Raises:
        NothingToDoError: no site was rewritten.
    """
    plans = network.site_plans
    fit = _fit(case, planner, plans)
    if all(chosen.option.ms is None for chosen in network.chosen):  # else lowerings were chosen by their times
        fit = _fastest(planner, fit)
    applied = apply_fits(case.opened, fit, case.request.seed)
    plan = describe_plan(network, from_data=case.calibration is not None, by_int8=planner.error_by_int8)
    return Settled(plans, fit, applied, plan, network.sites, int8=planner.in_int8(fit, applied))


def _settle_speedup(case: Case, planner: Planner, asked: float) -> Settled:
    """Plan, fit and measure; aim higher once where two measurements miss the asked speed-up by their intervals."""
    aim, without = asked, frozenset[str]()
    best: Settled | None = None
    for _ in range(SPEEDUP_ATTEMPTS):
        try:
            network = planner.by_speedup(aim, without)
        except SpeedupOutOfReachError as error:
            if best is None:
                raise _with_error(planner, error) from None
            break
        if best is None:
            refuse_hopeless(planner, network)
        found = settle_plan(case, planner, replace(network, budget={"speedup": asked}))
        found = replace(found, latency=_measure(case, found))
        if not _meets(found.latency, asked):
            # A second measurement costs seconds, another fit minutes; a single miss may be the machine's.
            found = replace(found, latency=_measure(case, found))
        if best is None or _speedup(found) > _speedup(best):
            too_fast = surplus(network, asked, surplus_allowed(case.request))
            best = replace(found, warnings=(*found.warnings, *([] if too_fast is None else [too_fast])))
        if _meets(found.latency, asked):
            break
        # Sites whose fit failed stay dense, so their saving must come from others.
        without |= frozenset(found.fit.kept)
        aim = asked * max(1.0, asked / _speedup(found)) if not found.fit.kept else asked
    assert best is not None
    return best


def _with_error(planner: Planner, refusal: SpeedupOutOfReachError) -> NothingToDoError:
    """Add what the fastest plan would lose, and what would do, where that is known."""
    if refusal.reachable is None or not planner.predicts_errors:
        return refusal
    lost = f"at {refusal.reachable:g} its output is predicted to err by {refusal.damage:.2g}"
    return NothingToDoError(f"{str(refusal).removesuffix('.')}; {lost}; {instead(planner)}.")


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
        written[output] = replace(found, scheme=planner.fastest(found.site, found.scheme))
    progress("Time lowerings", len(written), len(written))
    return replace(fit, sites={**fit.sites, **written})


def _measure(case: Case, found: Settled) -> tuple[Latency, ...]:
    if not case.request.measure.latency:
        return ()
    return tuple(time_change(case, found.judged))


def _meets(latency: Sequence[Latency], asked: float) -> bool:
    """Whether a measured speed-up is no worse than asked by more than its interval; noise gives no reason to go on."""
    if not latency or not latency[0].stable or latency[0].speedup_ci95 is None:
        return True
    return latency[0].speedup_ci95[1] >= asked


def _speedup(settled: Settled) -> float:
    return (settled.latency[0].speedup or 0.0) if settled.latency else inf


def _nothing_to_do(case: Case, plans: Sequence[SitePlan], fit: NetworkFit) -> str:
    name = case.opened.model.label
    if not case.opened.found.sites:
        skips = case.opened.found.skips
        kinds = sorted({skip.kind for skip in skips})
        live = " that an output depends on" if case.opened.model.notes else ""
        rest = f"its layers are {', '.join(kinds)}" if kinds else f"it has no layer with weights{live}"
        if kinds == ["no-layer"]:
            rest = f"{skips[0].name}: {skips[0].reason.rstrip('.')}"
        pairs = len(describe_separable(case.opened))
        are = "pair" if pairs == 1 else "pairs"
        already = f"; separable already: {pairs} {are} of depthwise and pointwise layers" if pairs else ""
        order = "; rewrite the floating-point model, then quantise the result" if "quantized" in kinds else ""
        return f"{name} has no layer that can be rewritten ({rest}{already}); nothing was written{order}."
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

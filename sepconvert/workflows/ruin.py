"""What would ruin the network is not written as a success: the error is stated, and plans that would do are named."""

from sepconvert.errors import ModelError, RuinedError
from sepconvert.planning.plans import NetworkPlan
from sepconvert.planning.uniform import round_up
from sepconvert.planning.within_budget import Choices, plan_error
from sepconvert.record.ruin import RUIN, ruins
from sepconvert.separable.forms import cost_of
from sepconvert.workflows.options import Budget
from sepconvert.workflows.planner import Planner

# Predicted errors were seen to be up to 17 times too high (8 times on a small ViT: 3.1 where 0.38 was measured), never
# as much too low. Only a plan that would be beyond use even so is given up before it is fitted.
HOPELESS = 20.0
NAMED = (0.01, 0.05)  # errors that a user may want instead
LEAST_SPEEDUP = 1.02  # a smaller one is not worth naming


def refuse_hopeless(planner: Planner, network: NetworkPlan) -> None:
    """Stop before a fit that would be in vain.

    Raises:
        RuinedError: the plan is predicted to ruin the network, and nobody has allowed that.
    """
    request, damage = planner.request, network.predicted["damage"]
    stays = request.planning.allow_loss or request.fine_tune is not None or not planner.predicts_errors
    if stays or not ruins(damage, HOPELESS):
        return
    asked = f"{request.budget.option} {request.budget.value:g}"
    raise RuinedError(
        f"A plan for {asked} is predicted to err by {damage:.2g} where a constant answer errs by 1, so nothing was "
        f"fitted or written; {instead(planner)}; --allow-loss goes on all the same."
    )


def refuse_ruin(planner: Planner, error: float | None, inputs: str, resumable: bool) -> None:
    """Refuse to write a network that is beyond use.

    Args:
        planner: of the rewrite; tells what was asked, and what would do.
        error: the worst output's decisive error on real inputs; None where it is not known.
        inputs: what it was measured on.
        resumable: whether the state of a training is kept, from which it can still be written.

    Raises:
        RuinedError: it is, and nobody has allowed that.
    """
    request = planner.request
    if request.planning.allow_loss or not ruins(error, _limit(request.budget)):
        return
    allow = "--allow-loss writes it all the same"
    if resumable:
        allow = "the same command with --resume --steps 1 --allow-loss writes it all the same"
    raise RuinedError(
        f"The rewritten network errs by {error:.2g} on {inputs} (a constant answer: 1), and from {RUIN:g} on it counts "
        f"as beyond use, so nothing was written; {instead(planner)}; {allow}."
    )


def _limit(budget: Budget) -> float:
    """Whoever asks for a larger error by its number has allowed it."""
    return max(RUIN, budget.value) if budget.name == "max_error" else RUIN


def instead(planner: Planner) -> str:
    """What to ask for instead: the fastest plans within small errors, as predicted."""
    if not planner.predicts_errors:
        return "ask for less, as --max-error 0.05 does, with more inputs in --data"
    found = {limit: named for limit in NAMED if (named := _named(planner, limit)) is not None}
    if not found:
        return f"nothing that gains anything is predicted to keep within {NAMED[-1]:.0%}"
    return f"predicted to keep within {' and within '.join(f'{limit:.0%}: {named}' for limit, named in found.items())}"


def _named(planner: Planner, limit: float) -> str | None:
    """The fastest plan within an error, as it is asked for; None where there is none."""
    timed, choices = _choices(planner)
    network = plan_error(choices, limit, "ms" if timed else "macs")
    if timed:
        before = planner.original_ms
        speedup = before / max(before - network.predicted["saved_ms"], 1e-3 * before) * 100 // 1 / 100
        return f"--speedup {speedup:g} (or --max-error {limit:g})" if speedup >= LEAST_SPEEDUP else None
    if not network.chosen:
        return None
    total = planner.case.opened.totals.macs
    if not total:
        return f"--max-error {limit:g}"
    saved = 0
    for chosen in network.chosen:
        scheme, geometry = chosen.option.scheme, chosen.site.geometry
        assert scheme is not None
        saved += (geometry.dense_cost.macs or 0) - (cost_of(scheme.form, geometry, scheme.rank).macs or 0)
    ratio = round_up(1 - saved / total)
    return f"--macs {ratio:g} (or --max-error {limit:g})"


def _choices(planner: Planner) -> tuple[bool, Choices]:
    """What there is to choose from, with times where these can be had."""
    if planner.knows_times:
        try:
            return True, planner.choices_by_latency
        except ModelError:
            pass  # a size is unknown: nothing can be timed
    return False, planner.choices_by_cost

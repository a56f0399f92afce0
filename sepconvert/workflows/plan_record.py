"""A plan as the record tells it: what was asked, what was predicted, what was measured."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sepconvert.planning.plans import NetworkPlan
from sepconvert.record import FASTER, SLOWER, Fidelity, Latency, Plan


def describe_plan(network: NetworkPlan, *, from_data: bool) -> Plan:
    """The plan as the record tells it; predicted figures are named as what they predict.

    ``from_data`` says what a damage is: an error of the output, or a share of the weights.
    """
    predicted = dict(network.predicted)
    predicted["max_error" if from_data else "dropped_weights"] = predicted.pop("damage")
    measured: dict[str, Any] | None = None
    if network.timed is not None:
        measured = {
            "architecture_speedup": network.timed.speedup,
            "architecture_speedup_low": network.timed.low,
            "architecture_speedup_high": network.timed.high,
            "architectures": network.attempts,
        }
    return Plan(dict(network.budget) | {"share": "planned"}, predicted, measured)


def with_measured(plan: Plan, latency: Sequence[Latency], fidelity: Fidelity | None) -> Plan:
    """Add what the finished model measured: its speed-up where one is certain, its worst output's error."""
    measured = dict(plan.measured or {})
    if latency and latency[0].difference in (FASTER, SLOWER) and latency[0].after is not None:
        measured |= {"speedup": latency[0].speedup, "latency_ms": latency[0].after.median_ms}
    error = worst_error(fidelity)
    if error is not None and "max_error" not in measured:
        measured["max_error"] = error
    return replace(plan, measured=measured or None)


def worst_error(fidelity: Fidelity | None) -> float | None:
    """The largest decisive error over the outputs; None where none is known."""
    errors = [output.decisive_error for output in fidelity.outputs] if fidelity is not None else []
    known = [error for error in errors if error is not None]
    return max(known, default=None)

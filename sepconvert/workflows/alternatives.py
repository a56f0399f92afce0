"""The models that INT8 gives beside a rewrite: what they are told to be, and which of them serves a budget best."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sepconvert.graph.save import file_size
from sepconvert.planning.uniform import round_up
from sepconvert.record import ALONE, ORIGINAL, Alternative, Latency
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.options import DEFAULT_ERROR, Budget
from sepconvert.workflows.quantisable import QuantisedModel
from sepconvert.workflows.quantiser import or_infinite
from sepconvert.workflows.settled import Settled

AS_FAST = 1.02
"""Models whose speed-ups differ by less count as equally fast."""
NEVER_SLOWER = 0.99
NO_REWRITE = "No rewrite was found: "


def best_alternative(budget: Budget, found: Sequence[Alternative], decisive: Mapping[str, float | None]) -> str | None:
    """Return the name of the model that serves a budget best; None where nothing keeps it.

    Args:
        budget: what was asked.
        found: the models with their times.
        decisive: errors on held-out inputs, or how far the metric falls, by name; the original has none.
    """
    known = [one for one in found if one.name in decisive]
    rewritten = [one for one in known if one.name != ALONE]
    if budget.name == "speedup":
        fast = [one for one in known if one.speedup_ci95 is not None and one.speedup_ci95[1] >= budget.value]
        if fast:
            return min(fast, key=lambda one: or_infinite(decisive[one.name])).name
        return _fastest(rewritten, decisive)
    if budget.name not in ("max_error", "max_drop"):
        if budget.by_default and not rewritten:
            # Nobody asked for fewer multiply-adds: where no layer can be rewritten, INT8 was.
            return ALONE if or_infinite(decisive.get(ALONE)) <= DEFAULT_ERROR else None
        return _fastest(rewritten, decisive)
    within = [one for one in known if or_infinite(decisive[one.name]) <= budget.value]
    # The original itself keeps every limit, so what is slower than that is no gain.
    gaining = [one for one in within if one.speedup is None or one.speedup >= NEVER_SLOWER]
    if not gaining and budget.by_default:
        return _fastest(rewritten, decisive)
    return _fastest(gaining, decisive)


def _fastest(models: Sequence[Alternative], decisive: Mapping[str, float | None]) -> str | None:
    """The fastest model, and of those that are about as fast the closest; where no time is known, the smallest."""
    if not models:
        return None
    if any(one.speedup is None for one in models):
        return min(models, key=lambda one: float("inf") if one.bytes is None else one.bytes).name
    fastest = max(one.speedup or 0.0 for one in models)
    near = [one for one in models if (one.speedup or 0.0) * AS_FAST >= fastest]
    return min(near, key=lambda one: or_infinite(decisive[one.name])).name


def alternatives(
    case: Case, models: Mapping[str, OpenedModel], timed: Sequence[Latency], errors: Mapping[str, float | None]
) -> list[Alternative]:
    """The original and other versions with what was measured of them; ``errors`` by name, ``timed`` in their order."""
    before = timed[0].before.median_ms if timed else None
    found = [Alternative(ORIGINAL, case.opened.totals.file_bytes, 0.0, before)]
    for place, (name, error) in enumerate(errors.items()):
        one = Alternative(name, file_size(models[name].model), error, None)
        if timed and (after := timed[place].after) is not None:
            latency = timed[place]
            one = replace(
                one,
                latency_ms=after.median_ms,
                speedup=latency.speedup,
                speedup_ci95=latency.speedup_ci95,
                scatter=latency.scatter,
            )
        found.append(one)
    return found


def with_precisions(one: Alternative, made: QuantisedModel | None) -> Alternative:
    """Say how a model in INT8 was made: its ranges, what it left in floating point, how fast that was to be."""
    if made is None:
        return one
    predicted = None if made.predicted is None or made.measured is None else made.predicted / made.measured
    return replace(one, ranges=made.ranges, floating=list(made.left), predicted_over_measured=predicted)


def nothing_keeps(
    budget: Budget, settled: Settled, models: Sequence[Alternative], decisive: Mapping[str, float | None]
) -> str:
    """Say that nothing keeps the budget: why no rewrite does, and what INT8 alone gives."""
    found = next((text for text in settled.warnings if text.startswith(NO_REWRITE)), "Nothing keeps the budget.")
    told = [found.removeprefix(NO_REWRITE).replace("; nothing was written", "")]
    error, limit = decisive[ALONE], _limit_on_alone(budget)
    if error is not None and limit is not None and error > limit:
        goal = " (the goal where no budget is given)" if budget.by_default else ""
        remedy = f"--max-error {round_up(error):g} takes it" if error < 1 else "leave --int8 away"
        told.append(f"INT8 alone errs by {error:.2g}, more than {limit:g}{goal}; {remedy}.")
    elif error is not None:
        speedup = next((one.speedup for one in models if one.name == ALONE), None)
        pace = "" if speedup is None else f" and is {speedup:.2f} times as fast as the original"
        told.append(f"INT8 alone errs by {error:.2g}{pace}.")
    return " ".join([*told, "Nothing was written."])


def _limit_on_alone(budget: Budget) -> float | None:
    """The largest error with which INT8 alone is what was asked for; None where no error decides."""
    if budget.name == "max_error":
        return budget.value
    return DEFAULT_ERROR if budget.by_default else None

"""Where a command's time went: by stage, and the rest, so that all together is the whole."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any


def time_by_stage(
    known: Mapping[str, float], start: float, tuning: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Return seconds by stage.

    Args:
        known: the stages that were watched; that of INT8 holds the training in INT8.
        start: when the command began, by ``perf_counter``.
        tuning: what the record tells of a training.
    """
    found, tuned = dict(known), tuning or {}
    floats, integers = (one.get("seconds") for one in (tuned, tuned.get("int8") or {}))
    if floats is not None or integers is not None:
        found["fine_tune"] = (floats or 0.0) + (integers or 0.0)
    if integers is not None:
        found["int8"] -= integers
    return {**found, "rest": max(perf_counter() - start - sum(found.values()), 0.0)}

"""Where a command's time went: by stage, and the rest, so that all together is the whole."""

from collections.abc import Mapping
from time import perf_counter
from typing import Any


def time_by_stage(
    known: Mapping[str, float], start: float, tuning: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Return seconds by stage.

    Args:
        known: the stages that were watched.
        start: when the command began, by ``perf_counter``.
        tuning: what the record tells of a training.
    """
    found = dict(known)
    trained = [] if tuning is None else [tuning, tuning.get("int8") or {}]
    if any("seconds" in one for one in trained):
        found["fine_tune"] = sum(one.get("seconds") or 0.0 for one in trained)
    return {**found, "rest": max(perf_counter() - start - sum(found.values()), 0.0)}

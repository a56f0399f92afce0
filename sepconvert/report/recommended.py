"""Which model of a sweep to take, and why: the last one before the error is no longer small."""

from collections.abc import Sequence
from dataclasses import dataclass

from sepconvert.record import FASTER, Record, SweepPoint
from sepconvert.report import accuracy, figures


@dataclass(frozen=True, slots=True)
class Recommended:
    """A point of a sweep, and a sentence on why this one."""

    point: SweepPoint
    why: str


def recommend(record: Record) -> Recommended | None:
    """Return the knee of a sweep; None where no model of it is faster with a small error.

    The knee is the fastest unbeaten model whose error is small and, where there are labels, whose top-1 hardly falls.
    """
    if record.sweep is None:
        return None
    base = record.sweep.top1_before
    known = [p for p in record.sweep.points if p.on_front and p.speedup is not None and p.error is not None]
    front = sorted(known, key=lambda point: point.speedup or 0.0)
    gentle = [point for point in front if point.difference == FASTER and _is_gentle(point, base)]
    if not gentle:
        return None
    knee = gentle[-1]
    return Recommended(knee, f"{_standing(knee, base)}{_beyond(knee, front)}")


def _is_gentle(point: SweepPoint, base: float | None) -> bool:
    error = point.error
    if error is None or error >= accuracy.SMALL_ERROR:
        return False
    return base is None or point.top1 is None or base - point.top1 <= accuracy.SMALL_DROP


def _standing(knee: SweepPoint, base: float | None) -> str:
    top1 = "" if base is None or knee.top1 is None else f" and top-1 within {100 * accuracy.SMALL_DROP:g} points"
    return f"the fastest with an error below {figures.percent(accuracy.SMALL_ERROR, decimals=0)}{top1}."


def _beyond(knee: SweepPoint, front: Sequence[SweepPoint]) -> str:
    """What the next faster model costs."""
    place = front.index(knee) + 1
    if place == len(front) or not knee.error or not knee.speedup:
        return (
            " None that was tried is measurably faster: larger --budgets may be possible."
            if place == len(front)
            else ""
        )
    after = front[place]
    faster, worse = (after.speedup or 0) / knee.speedup, (after.error or 0) / knee.error
    return f" {after.label} is {figures.ratio(faster)} as fast as that, with {figures.ratio(worse)} the error."

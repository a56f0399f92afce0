"""The metric that was asked for, in words."""

from math import isclose

from sepconvert.record import MetricFidelity
from sepconvert.report import figures

_LEAST = 1e-4  # a smaller change is written with a power of ten


def told(found: MetricFidelity | None, top1_before: float | None, top1_after: float | None) -> MetricFidelity | None:
    """Return the metric; None without one, and where it is no more than the top-1 that is told anyway."""
    if found is None or found.name != "top1" or found.max_drop is not None:
        return found
    if top1_before is None or top1_after is None:
        return found
    return None if isclose(found.before, top1_before) and isclose(found.after, top1_after) else found


def words(found: MetricFidelity) -> str:
    """Return how it changed, against what, and whether that is within the bound."""
    bound = ""
    if found.max_drop is not None:
        bound = f", {'within' if found.bounded else 'beyond'} the {found.max_drop:.3g} allowed"
    against = "labels" if found.labelled else "what the original says"
    return f"{moved(found)} ({change(found)}{bound}; against {against})"


def change(found: MetricFidelity) -> str:
    """Return by how much it fell or rose: ``down 0.005``."""
    if not found.drop:
        return "unchanged"
    size = abs(found.drop)
    return f"{'down' if found.drop > 0 else 'up'} {f'{size:.3g}' if size >= _LEAST else figures.error(size)}"


def values(found: MetricFidelity) -> tuple[str, str]:
    """Return what it gives for both models."""
    return f"{found.before:.4g}", f"{found.after:.4g}"


def moved(found: MetricFidelity) -> str:
    """Return ``0.9475 → 0.9425``."""
    return " → ".join(values(found))

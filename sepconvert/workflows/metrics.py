"""The metric that was asked for: found before any work is done, bounded at the end."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sepconvert.errors import DataError, NothingToDoError, UsageError
from sepconvert.record import Fidelity

if TYPE_CHECKING:
    from sepconvert.verify.answers import Metric
    from sepconvert.verify.metrics import MetricFunction

MetricSpec: TypeAlias = str | Callable[..., Any]
"""A name of a ready-made metric, ``pkg.module:callable``, or in Python the function itself."""


def find_metric(spec: MetricSpec | None) -> "Metric | None":
    """Return the metric of a name or a function; None where none was asked for.

    Raises:
        UsageError: no metric has that name.
        DataError: the module or the function cannot be imported, or is no function.
    """
    if spec is None:
        return None
    from sepconvert.data.callables import import_callable
    from sepconvert.verify.answers import Metric
    from sepconvert.verify.metrics import READY

    if not isinstance(spec, str):
        if not callable(spec):
            raise DataError(f"metric={spec!r} is no function; give one, or a name as 'top1'.")
        return Metric(getattr(spec, "__name__", type(spec).__name__), spec)
    if spec in READY:
        return Metric(spec, READY[spec])
    if ":" not in spec:
        raise UsageError(f"--metric {spec} is not known; choose one of {', '.join(READY)}, or pkg.module:callable.")
    return Metric(spec.rpartition(":")[2], cast("MetricFunction", import_callable(spec, "--metric")))


def known_metrics() -> list[str]:
    """The names of the ready-made metrics."""
    from sepconvert.verify.metrics import READY

    return list(READY)


def with_bound(fidelity: Fidelity | None, most: float | None) -> Fidelity | None:
    """Note how far the metric may fall."""
    if fidelity is None or fidelity.metric is None:
        return fidelity
    return replace(fidelity, metric=replace(fidelity.metric, max_drop=most))


def refuse_fall(fidelity: Fidelity | None, *, allowed: bool) -> None:
    """Refuse to write a network whose metric falls too far.

    Raises:
        NothingToDoError: it does, and nobody has allowed that.
    """
    found = None if fidelity is None else fidelity.metric
    if allowed or found is None or found.bounded:
        return
    assert fidelity is not None
    raise NothingToDoError(
        f"The metric {found.name} falls by {found.drop:.3g} ({found.before:.4g} → {found.after:.4g}) on "
        f"{fidelity.data}, more than --max-drop {found.max_drop:g} allows, so nothing was written; ask for less, give "
        "more --data or --fine-tune, or pass --allow-loss."
    )

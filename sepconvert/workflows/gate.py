"""The gate of ``compare``: limits that a rewritten model has to keep in a build."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

from sepconvert.errors import GateError, UsageError
from sepconvert.record import SLOWER, Latency, Record, tell_apart

WIDEST_JUDGED = 1.5  # a speed-up that may be half as large again as its interval's lower end is not known


@dataclass(frozen=True, slots=True)
class Gate:
    """Limits of ``--fail-above``; None where not set.

    They are on the relative error of the worst output, on latency after/before, on the share of choices that changed
    (of any output; top-1 is a choice too), and on the fall of the metric. Noise fails no gate: a latency is above its
    limit where the measurement can tell it from the limit.
    """

    error: float | None = None
    latency: float | None = None
    choices: float | None = None
    metric: float | None = None


def parse_gate(text: str | None) -> Gate:
    """Read ``error=E,latency=R``, and so on.

    Raises:
        UsageError: an unknown limit, one that is given twice, or a number that is none.
    """
    known = [field.name for field in fields(Gate)]
    limits: dict[str, float] = {}
    for part in (text or "").split(",") if text else []:
        name, _, value = part.strip().partition("=")
        if name in limits:
            raise UsageError(f"--fail-above {text} limits {name} twice; give one of the limits.")
        try:
            limits[name] = float(value)
        except ValueError:
            name = ""
        if name not in known or not 0 <= limits[name] < math.inf or (name, limits[name]) == ("latency", 0):
            raise UsageError(
                f"--fail-above {text} is not understood; write for example error=0.01,latency=1.0 (there are "
                f"{', '.join(known)})."
            )
    return Gate(**limits)


def check_gate(record: Record, gate: Gate) -> str | None:
    """Say what passed, each figure beside its limit; None where nothing was asked for.

    Raises:
        GateError: the record exceeds a limit, or lacks the figure that a limit is on (exit code 3).
    """
    failures = [
        *_error_failures(record, gate.error),
        *_latency_failures(record, gate.latency),
        *_choice_failures(record, gate.choices),
        *_metric_failures(record, gate.metric),
    ]
    if failures:
        raise GateError("gate failed: " + "; ".join(failures) + ".")
    passed = list(_passed(record, gate))
    return f"Gate passed: {', '.join(passed)}." if passed else None


def _passed(record: Record, gate: Gate) -> Iterator[str]:
    """Every limit with the worst figure that keeps it."""
    fidelity = record.fidelity
    if gate.error is not None and fidelity is not None:
        worst = 0.0 if fidelity.worst is None else fidelity.worst.decisive_error
        yield f"error {worst:.2g} ≤ {gate.error:g}"
    if gate.latency is not None:
        for timing in record.latency:
            share = 1 / (timing.speedup or 1.0)
            kept = f"≤ {gate.latency:g}" if share <= gate.latency else f"is not measurably above {gate.latency:g}"
            yield f"latency on {timing.device} {share:.3f} {kept}"
    if gate.choices is not None and fidelity is not None and fidelity.least_agreement is not None:
        yield f"changed choices {1 - fidelity.least_agreement:.2g} ≤ {gate.choices:g}"
    if gate.metric is not None and fidelity is not None and fidelity.metric is not None:
        yield f"fall of {fidelity.metric.name} {fidelity.metric.drop:.2g} ≤ {gate.metric:g}"


def _choice_failures(record: Record, limit: float | None) -> Iterator[str]:
    if limit is None:
        return
    fidelity = record.fidelity
    kept = None if fidelity is None else fidelity.least_agreement
    if fidelity is None or kept is None:
        yield "no choices were counted: no output holds scores of classes, or all inputs are the same"
    elif not 1 - kept <= limit:
        worst = fidelity.worst_choice
        where = "top-1" if worst is None or worst.agreement > kept else f"'{worst.name}'"
        yield f"{1 - kept:.3g} of the choices in {where} changed, above {limit:g}"


def _metric_failures(record: Record, limit: float | None) -> Iterator[str]:
    if limit is None:
        return
    metric = None if record.fidelity is None else record.fidelity.metric
    if metric is None:
        yield "no metric was measured (name it with --metric)"
    elif not metric.drop <= limit:
        fall = f"{metric.drop:.3g} ({metric.before:.4g} → {metric.after:.4g})"
        yield f"the metric {metric.name} falls by {fall}, above {limit:g}"


def _error_failures(record: Record, limit: float | None) -> list[str]:
    if limit is None:
        return []
    found = record.fidelity.outputs if record.fidelity is not None else []
    failures = []
    for output in found:
        error = output.decisive_error
        if error is None and output.max_abs == 0:
            continue  # the very same values, whatever they vary by
        if error is None:
            failures.append(
                f"the relative error of output '{output.name}' is unknown (one sample, or a constant output)"
            )
        elif not error <= limit:
            part = "" if output.worst_part is None else f"part '{output.worst_part.name}' of "
            failures.append(f"the relative error of {part}output '{output.name}' is {error:.3g}, above {limit:g}")
    return failures if found else ["no fidelity was measured"]


def _latency_failures(record: Record, limit: float | None) -> list[str]:
    if limit is None:
        return []
    failures = []
    for timing in record.latency:
        if timing.speedup is None:
            failures.append(f"latency on {timing.device} was not measured")
            continue
        if tell_apart(timing.speedup, timing.speedup_ci95, timing.scatter, than=1 / limit) == SLOWER:
            failures.append(
                f"latency on {timing.device} is {1 / timing.speedup:.3f} of the original's, certainly above {limit:g}"
            )
        elif _may_be_anything(timing, 1 / limit):
            failures.append(f"latency on {timing.device} is too uncertain to be judged: measure on an idle machine")
    return failures if record.latency else ["latency was not measured (--no-latency)"]


def _may_be_anything(timing: Latency, wanted: float) -> bool:
    """Whether the speed-up may be below the wanted one by so wide an interval that to pass it would be to guess."""
    interval = timing.speedup_ci95
    return interval is None or (interval[0] < wanted and not interval[1] <= WIDEST_JUDGED * interval[0])

"""The measured parts of the page as plain data: headline figures, totals, fidelity, latency."""

from collections.abc import Callable
from dataclasses import dataclass

from sepconvert.record import Latency, OutputFidelity, Record, Timing, Totals, TotalsPair
from sepconvert.report import accuracy, claims, figures, metrics
from sepconvert.report.layers import Pairs


@dataclass(frozen=True, slots=True)
class Figure:
    """A headline figure. ``after`` is None where there is only one model; ``change`` and ``note`` may be empty."""

    label: str
    before: str
    after: str | None
    change: str
    note: str
    tone: str


@dataclass(frozen=True, slots=True)
class TotalRow:
    """One line of the table of totals."""

    label: str
    before: str
    after: str
    change: str
    meaning: str


@dataclass(frozen=True, slots=True)
class OutputRow:
    """How far one output is from the original's; ``parts`` are the values that it joins, with their errors."""

    name: str
    error: str
    pre_activation: str
    max_abs: str
    cosine: str
    sqnr: str
    parts: Pairs


@dataclass(frozen=True, slots=True)
class FidelityView:
    """Outputs of both models on the same inputs."""

    outputs: tuple[OutputRow, ...]
    inputs: str
    values: tuple[str, ...]
    top1: Pairs
    metric: Pairs
    choices: Pairs
    has_pre_activation: bool
    has_parts: bool


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """The timing on one device."""

    device: str
    setting: str
    before: str
    before_range: str
    after: str
    after_range: str
    runs: str
    speedup: str
    interval: str
    verdict: str
    tone: str
    warnings: tuple[str, ...]


def headline_figures(record: Record) -> tuple[Figure, ...]:
    """Return the figures at the top of the page; a figure that was not measured says so."""
    after = record.totals.after
    whose = "of the original, " if record.sweep is not None else ""
    found = [
        _cost_figure("Multiply-adds", "macs", record.totals, figures.count, ("fewer", "more"), f"{whose}per sample"),
        _cost_figure("Parameters", "params", record.totals, figures.count, ("fewer", "more"), whose.rstrip(", ")),
        _cost_figure(
            "Model file", "file_bytes", record.totals, figures.size, ("smaller", "larger"), whose.rstrip(", ")
        ),
    ]
    if after is not None or record.latency:
        found.insert(0, _latency_figure(record, after is not None))
    if after is not None:
        found.insert(1, _quality_figure(record))
    return tuple(found)


def _cost_figure(
    label: str,
    field: str,
    totals: TotalsPair,
    show: Callable[[int | None], str],
    words: tuple[str, str],
    note: str,
) -> Figure:
    before = getattr(totals.before, field)
    if totals.after is None:
        return Figure(label, show(before), None, "", note, claims.NEUTRAL)
    after = getattr(totals.after, field)
    if before is None and after is None:
        return Figure(label, figures.UNKNOWN, None, "", "", claims.NEUTRAL)
    if before is None or after is None or before == after:
        change = "unchanged" if before is not None and before == after else ""
        return Figure(label, show(before), show(after), change, "", claims.NEUTRAL)
    note = f"{figures.percent(after / before, decimals=0)} of before" if before else ""
    slight = before and 1 / claims.SLIGHT < after / before < claims.SLIGHT
    tone = claims.NEUTRAL if slight else claims.GOOD if after < before else claims.BAD
    return Figure(label, show(before), show(after), claims.change(before, after, *words), note, tone)


def _latency_figure(record: Record, pair: bool) -> Figure:
    if not record.latency:
        return Figure("Latency", figures.NOT_MEASURED, None, "", "", claims.NEUTRAL)
    timed = record.latency[0]
    note = f"median on {claims.place(timed, record.environment)}"
    before = figures.milliseconds(timed.before.median_ms)
    if not pair or timed.after is None:
        return Figure("Latency", before, None, "", note, claims.NEUTRAL)
    claim = claims.speed(record)[0]
    bounds = figures.interval(timed.speedup_ci95)
    if bounds and claim.tone != claims.MIXED:
        note = f"95{figures.SPACE}% interval {bounds}; {note}"
    return Figure("Latency", before, figures.milliseconds(timed.after.median_ms), claim.short, note, claim.tone)


def _quality_figure(record: Record) -> Figure:
    fidelity = record.fidelity
    if fidelity is None:
        return Figure("Accuracy", figures.NOT_MEASURED, None, "", "", claims.MIXED)
    claim = accuracy.quality(record)
    note = accuracy.inputs(fidelity)
    metric = metrics.told(fidelity.metric, fidelity.top1_before, fidelity.top1_after)
    if metric is not None:
        tone = claims.NEUTRAL if metric.drop <= 0 or claim.tone == claims.GOOD else claim.tone
        return Figure(metric.name, *metrics.values(metric), metrics.change(metric), note, tone)
    if fidelity.top1_before is not None and fidelity.top1_after is not None:
        change = fidelity.top1_after - fidelity.top1_before
        before, after = figures.percent(fidelity.top1_before), figures.percent(fidelity.top1_after)
        # A loss may be small enough to be acceptable, but is never painted as a gain.
        tone = claims.NEUTRAL if change <= 0 and claim.tone == claims.GOOD else claim.tone
        return Figure("Top-1", before, after, figures.points(change), note, tone)
    worst = None if fidelity.worst is None else fidelity.worst.decisive_error
    joined = any(output.parts for output in fidelity.outputs)
    several = ", worst part" if joined else ", worst output" if len(fidelity.outputs) > 1 else ""
    before = " before the activation" if fidelity.worst is not None and fidelity.worst.before_activation else ""
    label = f"Relative error{before}{several}"
    note = f"0 is identical, 1 no better than a constant answer; {note}"
    return Figure(label, figures.error(worst, "not comparable"), None, "", note, claim.tone)


def total_rows(record: Record) -> tuple[TotalRow, ...]:
    """Return the table of totals, per sample."""
    before, after = record.totals.before, record.totals.after
    rows = []
    for label, field, show, meaning in (
        ("MACs", "macs", figures.count, "multiply-adds of Conv, Gemm, MatMul and recurrent operators"),
        ("FLOPs", "flops", figures.count, "2 · MACs"),
        ("MACs of convolutions", "conv_macs", figures.count, "the Conv family alone"),
        (
            "MACs of the layers listed here",
            "site_macs",
            figures.count,
            "after a rewrite: of what stands in their place",
        ),
        ("Parameters", "params", figures.count, ""),
        ("File", "file_bytes", figures.size, "with external data"),
    ):
        old = getattr(before, field)
        new = getattr(after, field) if after else None
        if record.command == "compare" and field == "site_macs":
            continue  # which of the other model's layers stand for a site is not known
        change = "" if after is None else claims.change(old, new, "less", "more")
        rows.append(TotalRow(label, show(old), show(new) if after else "", change, meaning))
    return tuple(rows)


def uncounted(totals: TotalsPair) -> tuple[str, ...]:
    """Name the operators whose cost is not in the totals, once where it is the same before and after."""
    before = _uncounted(totals.before)
    if totals.after is None:
        return (f"Not counted: {before}.",) if before else ()
    after = _uncounted(totals.after)
    if before == after:
        return (f"Not counted, before and after: {before}.",) if before else ()
    named = (("original", before), ("new model", after))
    return tuple(f"Not counted in the {which}: {operators or 'nothing left out'}." for which, operators in named)


def _uncounted(totals: Totals) -> str:
    return ", ".join(f"{item.op} ({item.count})" for item in totals.uncounted)


def fidelity_view(record: Record) -> FidelityView | None:
    """Return the comparison of outputs, or None where there was none."""
    fidelity = record.fidelity
    if fidelity is None:
        return None
    named = (
        ("Original", fidelity.top1_before),
        ("New model", fidelity.top1_after),
        ("Both give the same answer", fidelity.top1_agreement),
    )
    metric = metrics.told(fidelity.metric, fidelity.top1_before, fidelity.top1_after)
    return FidelityView(
        outputs=tuple(_output_row(output) for output in fidelity.outputs),
        inputs=accuracy.inputs(fidelity),
        values=tuple(accuracy.values(values) for values in record.input_values),
        top1=tuple((label, figures.percent(value)) for label, value in named if value is not None),
        metric=() if metric is None else ((metric.name, metrics.words(metric)),),
        choices=tuple((choice.name, accuracy.choice(choice)) for choice in fidelity.choices),
        has_pre_activation=any(o.pre_activation_relative_error is not None for o in fidelity.outputs),
        has_parts=any(o.parts for o in fidelity.outputs),
    )


def _output_row(output: OutputFidelity) -> OutputRow:
    return OutputRow(
        name=output.name,
        error=figures.error(output.relative_error, figures.UNKNOWN),
        pre_activation=figures.error(output.pre_activation_relative_error, "–"),
        max_abs=figures.error(output.max_abs, figures.UNKNOWN),
        cosine=figures.cosine(output.cosine),
        sqnr=figures.decibels(output.sqnr_db, figures.UNKNOWN),
        parts=tuple((part.name, figures.error(part.relative_error, figures.UNKNOWN)) for part in output.parts),
    )


def device_rows(record: Record) -> tuple[DeviceRow, ...]:
    """Return the timing per device."""
    speeds = {claim.device: claim for claim in claims.speed(record)}
    return tuple(_device_row(timed, speeds.get(timed.device)) for timed in record.latency)


def _device_row(timed: Latency, claim: claims.Claim | None) -> DeviceRow:
    shapes = ", ".join(f"{name} {figures.dimensions(shape)}" for name, shape in timed.input_shapes.items())
    return DeviceRow(
        device=f"{timed.device}, {claims.threads(timed.threads)}",
        setting=f"{shapes}; {timed.provider}, {'' if timed.provider_verified else 'not '}proven to run the model",
        before=figures.milliseconds(timed.before.median_ms),
        before_range=_range(timed.before),
        after=figures.milliseconds(timed.after.median_ms if timed.after else None, ""),
        after_range=_range(timed.after) if timed.after else "",
        runs=f"{figures.plural(len(timed.before.samples_ms), 'run')}{' of each' if timed.after else ''}",
        speedup=claims.factor(timed).removesuffix(" in speed") if timed.after else "",
        interval=figures.interval(timed.speedup_ci95) or "",
        verdict="stable" if timed.stable else "unsteady",
        tone=claim.tone if claim else claims.NEUTRAL if timed.stable else claims.MIXED,
        warnings=tuple(timed.warnings),
    )


def _range(timing: Timing) -> str:
    return f"{figures.significant(timing.p10_ms)} to {figures.milliseconds(timing.p90_ms)}"

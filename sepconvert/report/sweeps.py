"""The models of a sweep, as plain data."""

import math
from dataclasses import dataclass

from sepconvert.record import MetricFidelity, Record, Sweep, SweepPoint
from sepconvert.report import figures, metrics
from sepconvert.report.recommended import recommend


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One model of a sweep; ``place`` says whether another one is better in every way, ``own`` that it was planned."""

    label: str
    speedup: str
    interval: str
    error: str
    top1: str
    metric: str
    macs: str
    params: str
    rewritten: str
    place: str
    own: bool
    command: str | None


@dataclass(frozen=True, slots=True)
class SweepTable:
    """The models of a sweep, timed on ``device``; ``metric`` is the name of the one that was asked for, or empty."""

    rows: tuple[SweepRow, ...]
    device: str | None
    has_top1: bool
    metric: str


def tabulate(record: Record) -> SweepTable | None:
    """Return the models of a sweep: the original, the planned ones, the slowest first, then those of other methods."""
    if record.sweep is None:
        return None
    sweep, metric = record.sweep, metric_of(record.sweep)
    rows = (_original(record, metric), *_models(record))
    return SweepTable(rows, sweep.device, has_top1(sweep), "" if metric is None else metric.name)


def has_top1(sweep: Sweep) -> bool:
    """Whether there were labels."""
    return any(point.top1 is not None for point in (*sweep.points, *sweep.baselines))


def metric_of(sweep: Sweep) -> MetricFidelity | None:
    """Return what the metric that was asked for gives for one of the models; None where no column is to show it."""
    points = (*sweep.points, *sweep.baselines)
    return next(filter(None, (metrics.told(point.metric, sweep.top1_before, point.top1) for point in points)), None)


def _original(record: Record, metric: MetricFidelity | None) -> SweepRow:
    assert record.sweep is not None
    before = record.totals.before
    return SweepRow(
        label="the original",
        speedup=figures.ratio(1.0),
        interval="",
        error="0",
        top1=figures.percent(record.sweep.top1_before, figures.NOT_MEASURED),
        metric="" if metric is None else metrics.values(metric)[0],
        macs=figures.count(before.macs),
        params=figures.count(before.params),
        rewritten="0",
        place="",
        own=False,
        command=None,
    )


def _models(record: Record) -> tuple[SweepRow, ...]:
    assert record.sweep is not None
    points = sorted(record.sweep.points, key=lambda p: p.speedup if p.speedup is not None else math.inf)
    found = recommend(record)
    knee = None if found is None else found.point
    places = ["recommended" if p is knee else "unbeaten" if p.on_front else "beaten by another" for p in points]
    rows = [_row(p, place, own=True) for p, place in zip(points, places, strict=True)]
    return tuple(rows + [_row(p, _against(p, points), own=False) for p in record.sweep.baselines])


def _against(point: SweepPoint, points: list[SweepPoint]) -> str:
    """Say how a model of another method stands against those of the sweep."""
    if point.speedup is None or point.error is None:
        return "not measured in full"
    return next((f"beaten by {own.label}" for own in points if own.beats(point)), "not beaten by this sweep")


def method(point: SweepPoint) -> str:
    """Name the method that a point of another method belongs to: its label up to the first comma."""
    return point.label.partition(",")[0]


def _row(point: SweepPoint, place: str, own: bool) -> SweepRow:
    return SweepRow(
        label=point.label,
        speedup=figures.ratio(point.speedup, figures.NOT_MEASURED),
        interval=figures.interval(point.speedup_ci95) or "",
        error=figures.error(point.error),
        top1=figures.percent(point.top1, figures.NOT_MEASURED),
        metric="" if point.metric is None else metrics.values(point.metric)[1],
        macs=figures.count(point.macs),
        params=figures.count(point.params),
        rewritten=figures.exact(point.sites_rewritten),
        place="; ".join([place, *["beyond use"] * point.ruined, *["timing was noisy"] * (point.stable is False)]),
        own=own,
        command=point.command,
    )

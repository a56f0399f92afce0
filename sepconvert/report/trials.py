"""What was tried: the models of a sweep, the plan, the fine-tuning and the sample pictures, as plain data."""

import math
import re
from dataclasses import dataclass
from typing import Any

from sepconvert.record import Record, SampleImages, SweepPoint
from sepconvert.report import figures
from sepconvert.report.layers import Pairs, plain_value, words

# Only pictures that are in the page already: anything else would be fetched, or run.
_PICTURE = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+={0,2}")
_PICTURE_BUDGET = 250_000


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One model of a sweep; ``place`` says whether another one is better in every way."""

    label: str
    speedup: str
    interval: str
    error: str
    top1: str
    macs: str
    params: str
    rewritten: str
    place: str
    command: str | None


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One quantity of the plan: asked, predicted, measured."""

    label: str
    asked: str
    predicted: str
    measured: str


@dataclass(frozen=True, slots=True)
class SampleView:
    """One sample: title, picture (a data URI or None) and note of each stage."""

    label: str
    pictures: tuple[tuple[str, str | None, str | None], ...]


def sweep_rows(record: Record) -> tuple[SweepRow, ...]:
    """Return the models of a sweep, the slowest first, then those of other methods."""
    if record.sweep is None:
        return ()
    points = sorted(record.sweep.points, key=lambda p: p.speedup if p.speedup is not None else math.inf)
    rows = [_sweep_row(p, "best" if p.on_front else "beaten by another") for p in points]
    return tuple(rows + [_sweep_row(p, "another method") for p in record.sweep.baselines])


def _sweep_row(point: SweepPoint, place: str) -> SweepRow:
    return SweepRow(
        label=point.label,
        speedup=figures.ratio(point.speedup, figures.NOT_MEASURED),
        interval=figures.interval(point.speedup_ci95) or "",
        error=figures.error(point.error),
        top1=figures.percent(point.top1, figures.NOT_MEASURED),
        macs=figures.count(point.macs),
        params=figures.count(point.params),
        rewritten=figures.exact(point.sites_rewritten),
        place=place if point.stable is not False else f"{place}; timing was noisy",
        command=point.command,
    )


def sample_views(record: Record) -> tuple[SampleView, ...]:
    """Return the samples whose pictures fit the page, in order."""
    views = []
    room = _PICTURE_BUDGET
    for sample in record.samples:
        view = _sample_view(sample)
        room -= sum(len(uri) for _, uri, _ in view.pictures if uri)
        if room < 0:
            break
        views.append(view)
    return tuple(views)


def _sample_view(sample: SampleImages) -> SampleView:
    stages = (
        ("Input", sample.input, None),
        ("Original’s output", sample.before, sample.note_before),
        ("New output", sample.after, sample.note_after),
        ("Difference", sample.difference, sample.note_difference),
    )
    shown = tuple(
        (title, uri if uri and _PICTURE.fullmatch(uri) else None, note) for title, uri, note in stages if uri or note
    )
    return SampleView(sample.label, shown)


def fine_tune_pairs(record: Record) -> Pairs:
    """Return the single values recorded about the fine-tuning."""
    found = record.fine_tune or {}
    return tuple((words(k), plain_value(k, v)) for k, v in found.items() if not isinstance(v, dict | list))


def plan_rows(record: Record) -> tuple[PlanRow, ...]:
    """Return what was asked, predicted and measured, one line per quantity that is a single value."""
    if record.plan is None:
        return ()
    asked, predicted = record.plan.budget, record.plan.predicted or {}
    measured = _outcome(record, asked) | (record.plan.measured or {})
    labels = list(dict.fromkeys([*asked, *predicted, *measured]))
    rows = []
    for label in labels:
        values = [table.get(label) for table in (asked, predicted, measured)]
        if any(isinstance(value, dict | list) for value in values):
            continue
        texts = ["" if value is None else plain_value(label, value) for value in values]
        if any(texts):
            rows.append(PlanRow(words(label), *texts))
    return tuple(rows)


def _outcome(record: Record, asked: dict[str, Any]) -> dict[str, float]:
    """Return what came of the budgets, where the rest of the record tells."""
    before, after = record.totals.before, record.totals.after
    found: dict[str, float] = {}
    for label in ("macs", "params"):
        old, new = getattr(before, label), getattr(after, label, None)
        if label in asked and old and new is not None:
            found[label] = new / old
    timed = record.latency[0] if record.latency else None
    if "speedup" in asked and timed is not None and timed.stable and timed.speedup is not None:
        found["speedup"] = timed.speedup
    return found


def stage_pairs(record: Record) -> Pairs:
    """Return how long each stage of the command took."""
    return tuple(
        (words(stage), f"{figures.significant(time)}{figures.SPACE}s") for stage, time in record.seconds.items()
    )

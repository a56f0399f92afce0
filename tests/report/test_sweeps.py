"""The table of a sweep's models, on the page and in the terminal."""

import io
from dataclasses import replace
from typing import Any

from rich.console import Console

from sepconvert.record import MetricFidelity, Record, SweepPoint
from sepconvert.report.page import render
from sepconvert.report.sweeps import tabulate
from sepconvert.terminal.record import render as render_text


def with_answers(record: Record, metric: str | None, top1: float | None) -> Record:
    """A sweep that was asked for a metric, or has labels."""

    def answered(point: SweepPoint) -> SweepPoint:
        found = None if metric is None else MetricFidelity(metric, 0.93, 0.9125, labelled=True)
        return replace(point, metric=found, top1=None if top1 is None else 0.9125)

    assert record.sweep is not None
    sweep = replace(record.sweep, points=[answered(point) for point in record.sweep.points], top1_before=top1)
    return replace(record, sweep=sweep)


def text(record: Record, width: int) -> str:
    console = Console(width=width, file=io.StringIO())
    console.print(render_text(record, width))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_a_metric_has_a_column_that_begins_with_the_original(records: Any) -> None:
    record = with_answers(records.sweep(), "mean-iou", None)
    table = tabulate(record)
    assert table is not None
    assert (table.metric, table.has_top1) == ("mean-iou", False)
    assert [row.metric for row in table.rows[:2]] == ["0.93", "0.9125"]
    assert table.rows[0].label == "the original"
    html = render(record)
    assert '<th scope="col" class="number">mean-iou</th>' in html
    assert '<th scope="col" class="number">Top-1</th>' not in html
    for width in (80, 140):
        shown = text(record, width)
        assert "mean-iou" in shown
        assert "0.9125" in shown
        assert "top-1" not in shown
        assert "…" not in shown


def test_top_1_is_there_where_there_are_labels_and_told_once(records: Any) -> None:
    table = tabulate(with_answers(records.sweep(), "top1", 0.93))
    assert table is not None
    assert (table.metric, table.has_top1) == ("", True)
    unlike = tabulate(with_answers(records.sweep(), "top1", 0.9))
    assert unlike is not None
    assert unlike.metric == "top1"  # somebody's own function of that name


def test_without_labels_and_metric_no_column_is_empty(records: Any) -> None:
    table = tabulate(records.sweep())
    assert table is not None
    assert (table.metric, table.has_top1) == ("", False)
    assert "top-1" not in text(records.sweep(), 80)

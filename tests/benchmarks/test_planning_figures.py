"""The figures about plans come from records alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from sepconvert.record import Record, SweepPoint
from tests.benchmarks.planning_figures import (
    damage_ratios,
    describe,
    latency_errors,
    realised_shares,
    uniform_ratios,
)

REPORTS = Path(__file__).parent.parent.parent / "reports"


def test_a_planned_rewrite_tells_how_good_its_plan_was() -> None:
    path = REPORTS / "fashion_vgg.json"
    record = Record.read(path)
    assert record.plan is not None
    assert record.plan.predicted is not None
    assert record.plan.measured is not None
    (error,) = latency_errors(record)
    assert error == pytest.approx(abs(record.plan.predicted["speedup"] / record.plan.measured["speedup"] - 1))
    rewritten = [site for site in record.sites if site.status == "rewritten"]
    assert len(realised_shares(record)) == len(rewritten)
    assert len(damage_ratios(record)) == 1
    assert describe(path, record).count("not in this record") == 1  # what only a sweep tells


def test_a_uniform_rewrite_predicted_nothing() -> None:
    path = REPORTS / "fashion_vgg_tuned_from_random.json"
    record = Record.read(path)
    assert latency_errors(record) == realised_shares(record) == damage_ratios(record) == []
    assert "not in this record" in describe(path, record)


def test_a_sweeps_plans_are_set_against_uniform_shares_of_equal_speed() -> None:
    record = Record.read(REPORTS / "fashion_vgg_sweep.json")
    assert record.sweep is not None
    point = record.sweep.points[0]

    def uniform(speedup: float, error: float, form: str = "spatial") -> SweepPoint:
        return replace(point, label="uniform", form=form, speedup=speedup, error=error)

    points = [replace(point, speedup=2.0, error=0.001), replace(point, speedup=9.0, error=0.5)]
    baselines = [uniform(4.0, 0.004), uniform(1.0, 0.001), uniform(1.0, 0.1, "dw-pw"), uniform(4.0, 0.2, "dw-pw")]
    sweep = replace(record.sweep, points=points, baselines=[*baselines, replace(baselines[0], label="without data")])
    assert uniform_ratios(replace(record, sweep=sweep)) == [pytest.approx(0.5)]

"""The figures about plans come from records alone."""

from pathlib import Path

import pytest

from sepconvert.record import Record
from tests.benchmarks.planning_figures import damage_ratios, describe, latency_errors, realised_shares

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
    assert "not in this record" not in describe(path, record)


def test_a_uniform_rewrite_predicted_nothing() -> None:
    path = REPORTS / "fashion_vgg_tuned_from_random.json"
    record = Record.read(path)
    assert latency_errors(record) == realised_shares(record) == damage_ratios(record) == []
    assert "not in this record" in describe(path, record)

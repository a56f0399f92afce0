"""The page's text: complete, honest about what is unknown, and safe with any name."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from sepconvert.record import Plan, Totals, TotalsPair
from sepconvert.report import trials
from sepconvert.report.layers import tabulate
from sepconvert.report.page import render
from sepconvert.report.verdict import judge
from sepconvert.report.view import view

UNKNOWN_TOTALS = Totals(None, None, None, None, None, None, [])


@pytest.mark.parametrize("command", ["analyze", "rewrite", "compare", "sweep"])
def test_every_commands_record_becomes_a_page_within_the_size_limit(records: Any, command: str) -> None:
    html = render(getattr(records, command)())
    assert html.startswith("<!doctype html>")
    assert len(html.encode()) <= 1_500_000


def test_a_page_of_300_layers_stays_within_the_size_limit(records: Any) -> None:
    html = render(records.dense(300))
    assert len(html.encode()) <= 1_500_000
    assert "The small drawings are left out" in html


def test_names_from_a_model_are_shown_as_text(records: Any) -> None:
    record = records.rewrite()
    nasty = '<script>alert(1)</script>"]}\u2028<!--'
    sites = [replace(record.sites[0], name=nasty, output=nasty, reason=nasty), *record.sites[1:]]
    skips = [replace(record.skipped[0], name=nasty, reason=nasty), *record.skipped[1:]]
    html = render(replace(record, sites=sites, skipped=skips, warnings=[nasty]))
    assert "<script>alert" not in html
    assert "<!--" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_unknown_figures_are_called_unknown_and_never_zero(records: Any) -> None:
    record = records.analyze(totals=TotalsPair(UNKNOWN_TOTALS), latency=[])
    record = replace(record, sites=[replace(s, macs=None, latency_ms=None) for s in record.sites])
    html = render(record)
    assert "unknown" in html
    assert "<b>0</b>" not in html
    assert ">None<" not in html


def test_a_budget_stands_beside_what_came_of_it(records: Any) -> None:
    totals = TotalsPair(replace(UNKNOWN_TOTALS, macs=1000), replace(UNKNOWN_TOTALS, macs=480))
    record = records.rewrite(plan=Plan(budget={"macs": 0.55, "share": "uniform"}), totals=totals)
    (macs, share) = trials.plan_rows(record)
    assert (macs.label, macs.asked, macs.measured) == ("MACs, new/old", "0.550", "0.480")
    assert (share.asked, share.measured) == ("evenly", "")


def test_the_forms_that_a_page_names_are_explained_in_the_order_of_the_table(records: Any) -> None:
    record = records.rewrite()
    assert [name for name, _ in view(record, tabulate(record), ()).forms] == ["dw-pw", "pw-dw"]
    sites = [replace(site, form="spatial", error_by_rank=None) for site in record.sites]
    alone = replace(record, sites=sites)
    assert view(alone, tabulate(alone), ()).forms == (
        ("spatial", next(form.words for form in record.forms if form.name == "spatial")),
    )


def test_the_share_of_a_survey_is_that_of_its_eligible_sites(records: Any) -> None:
    record = records.analyze()
    first, *rest = record.sites
    macs = record.totals.before.macs
    kept = [replace(site, status="kept", reason="one input channel") for site in rest]
    shown = judge(replace(record, sites=[replace(first, status="eligible", macs=macs // 4), *kept])).headline
    assert "it holds 25" in shown


def test_an_interval_stands_in_the_row_of_its_figure(records: Any) -> None:
    measured = {"architecture_speedup": 1.27, "architecture_speedup_low": 1.26, "architecture_speedup_high": 1.28}
    rows = trials.plan_rows(records.rewrite(plan=Plan(budget={"speedup": 1.25}, measured=measured), latency=[]))
    assert [row.measured for row in rows] == ["", "1.27× (1.26 to 1.28)"]


def test_milliseconds_of_two_moments_are_not_set_against_each_other(records: Any) -> None:
    plan = Plan(budget={"speedup": 1.25}, predicted={"latency_ms": 1.36, "speedup": 1.3}, measured={"latency_ms": 0.88})
    assert [row.label for row in trials.plan_rows(records.rewrite(plan=plan))] == ["Speed-up of the whole model"]


def test_an_unsteady_speed_up_is_about_what_it_is_in_the_plan_too(records: Any) -> None:
    plan = Plan(budget={"macs": 0.5}, measured={"speedup": 1.45})
    for stable, text in ((False, "about 1.45×"), (True, "1.45×")):
        record = records.rewrite(plan=plan)
        shaky = replace(record, latency=[replace(record.latency[0], stable=stable)])
        (row,) = [row for row in trials.plan_rows(shaky) if row.label == "Speed-up of the whole model"]
        assert row.measured == text


def test_where_the_times_of_layers_are_from_is_said_in_words(records: Any) -> None:
    plan = Plan(budget={"speedup": 1.5}, predicted={"source": "cache, roofline"})
    (found,) = [row for row in trials.plan_rows(records.rewrite(plan=plan)) if row.label == "Times of single layers"]
    assert found.predicted == "measured in an earlier run, estimated (roofline)"


def test_a_rewrite_that_was_not_measured_claims_nothing(records: Any) -> None:
    html = render(records.rewrite(fidelity=None, latency=[]))
    assert "Speed not measured; accuracy not measured" in html
    assert "faster on" not in html


def test_importing_the_report_imports_neither_altair_nor_jinja2() -> None:
    code = (
        "import sys, sepconvert.report.page; "
        "print([m for m in ('altair', 'vl_convert', 'jinja2', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_notebook_calls_a_slower_model_slower(records: Any) -> None:
    shown = records.rewrite(latency=[records.latency(before=10.0, after=12.5)])._repr_html_()
    assert "1.25× slower" in shown
    assert "faster" not in shown

"""Every sentence of terminal, page and notebook, with odd numbers in it."""

import io
import itertools
import re
from dataclasses import replace
from html import unescape
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from sepconvert.record import Environment, Fidelity, Latency, OutputFidelity, Plan, Record, Sweep, Timing, TotalsPair
from sepconvert.report import accuracy, claims, figures
from sepconvert.report.layers import tabulate
from sepconvert.report.sections import headline_figures
from sepconvert.report.verdict import judge
from sepconvert.report.view import view
from sepconvert.terminal.names import plain
from sepconvert.terminal.record import render

ODD = [
    (r"\bnan\b", "a number that is none"),
    (r"\bNone\b(?! of)", "a missing value"),
    (r"\binf\b", "infinity"),
    (r"\d\.?0{5,}\d|0\.0{4,}", "a number that is all zeros"),
    (r"\d[eE][+-]\d\d", "an exponent for machines"),
    (r"(?<![\d.])1\.00× (faster|slower|fewer|more|smaller|larger)", "a gain of nothing"),
    (r"unknown \(unknown\)", "the unknown twice"),
    (r"\b(\w{3,}) \1\b", "a word twice"),
    (r"(?<![\d,.\u202f])1 (samples|layers|inputs|steps|threads|convolutions|models|runs|sites)\b", "a plural of one"),
    (r"-0\.0+\b|−0\.0+\b", "minus nothing"),
    (r"\d[\d\u202f]*,?\d* samples of all", "a count twice"),
    (r"\d{4,} ?%", "thousands of per cent"),
]


def check(text: str) -> None:
    """Fail with the piece of text that reads wrong."""
    for pattern, what in ODD:
        found = re.search(pattern, text)
        assert found is None, f"{what}: …{text[max(0, found.start() - 60) : found.end() + 30]}…"


def sentences(record: Record) -> str:
    """All that people read about a record, line by line."""
    console = Console(width=200, file=io.StringIO())
    console.print(render(record, 200))
    page = view(record, tabulate(record), ())
    read = console.file.getvalue() + "\n".join(_strings(page))  # type: ignore[attr-defined]
    return read + "\n" + unescape(re.sub("<[^>]*>", "\n", record._repr_html_()))


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, tuple | list):
        return list(itertools.chain.from_iterable(map(_strings, value)))
    fields = getattr(value, "__dataclass_fields__", {})
    return list(itertools.chain.from_iterable(_strings(getattr(value, name)) for name in fields))


def timed(records: Any, before: float, after: float, width: float = 0.02, stable: bool = True) -> Latency:
    ratio = before / after
    found = replace(records.latency(stable=stable), warnings=[], speedup=ratio)
    timings = [Timing(ms, ms, ms, [ms] * 3) for ms in (before, after)]
    interval = [ratio / (1 + width), ratio * (1 + width)]
    return replace(found, before=timings[0], after=timings[1], speedup_ci95=interval, scatter=width)


def bare(record: Record) -> Record:
    """Without layers: their texts are looked at elsewhere."""
    return replace(record, sites=[], skipped=[], graph=None)


ERRORS = [None, 0.0, 1e-300, 1e-12, 1e-6, 0.00999, 0.5, 1.0, 4e9]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("samples", [1, 2, 10_000])
@pytest.mark.parametrize("data", ["test.npz", "all 10,000 test images", "random inputs (seeded), 8 samples"])
def test_sentences_about_an_error(records: Any, error: float | None, samples: int, data: str) -> None:
    outputs = [OutputFidelity("y", error, None, error, 1.0 if error == 0 else None, None)]
    check(sentences(bare(records.compare(fidelity=Fidelity(outputs, samples, data)))))


TOP1 = [(0.0, 0.0), (1.0, 1.0), (0.92, 0.92), (0.92, 0.91999), (0.92, 0.9200001), (0.99999, 1.0), (1e-5, 0.0)]


@pytest.mark.parametrize(("before", "after"), TOP1)
@pytest.mark.parametrize("agreement", [None, 0.0, 1e-6, 0.999999, 1.0])
def test_sentences_about_top_1(records: Any, before: float, after: float, agreement: float | None) -> None:
    outputs = [OutputFidelity("y", 1e-12, None, 1e-9, 1.0, 120.0)]
    found = Fidelity(outputs, 10_000, "test.npz", before, after, agreement)
    record = bare(records.rewrite(fidelity=found))
    check(sentences(record))
    (figure,) = [f for f in headline_figures(record) if f.label == "Top-1"]
    assert (figure.tone == claims.GOOD) == (after > before)


SPEEDS = [1e-6, 0.2, 0.97, 0.9999, 1.0, 1.004, 1.0101, 1.03, 4.4, 9.997, 223.4, 1e7]


@pytest.mark.parametrize("speedup", SPEEDS)
@pytest.mark.parametrize("width", [0.0, 0.04, 30.0])
@pytest.mark.parametrize("stable", [True, False])
def test_sentences_about_speed(records: Any, speedup: float, width: float, stable: bool) -> None:
    found = timed(records, 10.0, 10.0 / speedup, width, stable)
    record = bare(records.compare(latency=[found]))
    text = sentences(record)
    check(text)
    if found.difference == "none":
        assert "no measurable difference" in text
        assert re.search(r"\b(faster|slower)\b", text, re.IGNORECASE) is None
        assert headline_figures(record)[0].tone == claims.MIXED
    else:
        least = min(abs(x) for x in (found.speedup_ci95 or []))
        assert found.difference in text
        assert (least > 1) == (found.difference == "faster")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(1e-3, 1e3), st.floats(0, 5), st.booleans())
def test_what_is_said_to_be_reached_at_least_is_reached(
    records: Any, speedup: float, width: float, stable: bool
) -> None:
    found = timed(records, 10.0, 10.0 / speedup, width, stable)
    text = claims.factor(found)
    if text.startswith("at least "):
        least = float(text.removeprefix("at least ").split("×")[0])
        low, high = found.speedup_ci95 or [0.0, 0.0]
        assert 1 < least <= (low if found.difference == "faster" else 1 / high) * 1.0001
    check(text)


PAIRS = [(None, None), (None, 5), (5, None), (0, 0), (0, 7), (7, 0), (10**9, 10**9 - 1), (10**9, 3), (999, 1000)]


@pytest.mark.parametrize(("before", "after"), PAIRS)
@pytest.mark.parametrize("command", ["rewrite", "compare"])
def test_sentences_about_cost(records: Any, before: int | None, after: int | None, command: str) -> None:
    record = replace(records.rewrite(), command=command, source=replace(records.rewrite().source, bytes=before))
    pair = [
        replace(record.totals.before, params=n, macs=n, flops=None if n is None else 2 * n, conv_macs=n, file_bytes=n)
        for n in (before, after)
    ]
    found = replace(record, totals=TotalsPair(*pair))
    check(sentences(found))
    slight = before is None or after is None or not before or not after < before / 1.01
    for figure in headline_figures(found)[2:]:
        assert slight <= (figure.tone != claims.GOOD or after == 0)


@pytest.mark.parametrize("rewritten", [0, 1])
@pytest.mark.parametrize("sites", [0, 1, 2])
@pytest.mark.parametrize("skipped", [0, 1])
@pytest.mark.parametrize("made", ["analyze", "rewrite"])
def test_sentences_about_few_layers(records: Any, sites: int, skipped: int, rewritten: int, made: str) -> None:
    record = getattr(records, made)()
    found = [replace(site, latency_ms=1e-9, reason=None) for site in record.sites[:sites]]
    found = [replace(site, status="kept", form=None, rank=None) for site in found[: sites - rewritten]] + [
        replace(site, form=None, rank=None, lowering=None) for site in found[max(0, sites - rewritten) :]
    ]
    check(sentences(replace(record, sites=found, skipped=record.skipped[:skipped], graph=None)))


@pytest.mark.parametrize("speedup", [None, *SPEEDS])
@pytest.mark.parametrize("error", ERRORS)
def test_sentences_about_a_sweep(records: Any, speedup: float | None, error: float | None) -> None:
    interval = None if speedup is None else [speedup * 0.99, speedup * 1.01]
    odd = {"speedup": speedup, "error": error, "speedup_ci95": interval}
    points = [
        replace(records.sweep_point("2×", 2.0, 0.01), **odd, on_front=on, top1=t) for on, t in ((1, 0.5), (0, 1.0))
    ]
    found = records.sweep(sweep=Sweep(points, [replace(points[0], label="spatial SVD", stable=False)], "cpu", 0.5))
    check(sentences(bare(found)))
    certain = points[0].difference == "faster" and (error or 1) < accuracy.SMALL_ERROR
    assert (judge(found).tone == claims.GOOD) <= certain or error == 0


def test_another_method_is_set_against_the_sweep(records: Any) -> None:
    table = view(records.sweep(), tabulate(records.sweep()), ()).sweep
    assert table is not None
    places = [row.place for row in table.rows[1:] if not row.own]
    assert places == ["beaten by 2×", "beaten by 2×"] or all(place.startswith("beaten by") for place in places)


@pytest.mark.parametrize("value", [0, 0.0, 1e-12, -1e-12, 1, 1e12, 123456.789, True, None, "planned", 10**15])
def test_sentences_about_a_plan_and_tuning(records: Any, value: Any) -> None:
    names = ("speedup", "macs", "max_error", "dropped_weights", "architecture_speedup", "held_out_inputs", "latency_ms")
    numbers = dict.fromkeys(names, value) if not isinstance(value, str | bool) else {"share": value, "kind": value}
    tuned = {"steps": 1, "inputs": 1, "labels": 0, "best_step": 1, "seconds": 0.001, "divergence_before": 1e-12}
    tuned |= {"divergence_after": 1e-13, "rate": value, "curve": []}
    check(sentences(records.rewrite(plan=Plan(numbers, numbers, numbers), fine_tune=tuned)))


def test_an_unknown_machine_is_not_called_unknown_in_brackets(records: Any) -> None:
    nowhere = Environment("3.12", "Linux", "unknown", 1, 1, [], {}, "")
    text = sentences(records.compare(environment=nowhere))
    check(text)
    assert "(unknown)" not in text


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.floats(), st.integers(-(10**18), 10**18)))
def test_no_number_reads_odd(value: float) -> None:
    for show in (figures.significant, figures.error, figures.count, figures.milliseconds):
        if abs(value) < 1e15:  # prefixes end at T
            check(show(value))
    if value >= 0:
        check(figures.ratio(value))
        check(figures.percent(value))
    if 0 <= value <= 1:
        check(figures.points(value) + figures.points(-value))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.9999, ">99.9\u202f%"),
        (1.0, "100.0\u202f%"),
        (0.0001, "<0.1\u202f%"),
        (0.0, "0.0\u202f%"),
        (0.9994, "99.9\u202f%"),
    ],
)
def test_what_is_not_all_is_not_rounded_to_all(value: float, text: str) -> None:
    assert figures.percent(value) == text


@pytest.mark.parametrize(
    ("error", "agreement", "words"),
    [
        (20.0, 0.375, "The new model is unusable"),
        (0.3, None, "A large loss"),
        (0.003, 0.375, "A large loss: relative error 0.0030"),
        (0.003, 0.99, None),
    ],
)
@pytest.mark.parametrize("command", ["rewrite", "compare"])
def test_the_terminal_says_of_a_large_loss_that_it_is_one_in_the_page_s_words(
    records: Any, command: str, error: float, agreement: float | None, words: str | None
) -> None:
    output = OutputFidelity("y", error, None, 1.0, 0.9, 10.0)
    lost = Fidelity(outputs=[output], top1_agreement=agreement, samples=64, data="test.npz")
    record = getattr(records, command)(fidelity=lost)
    console = Console(width=1000, file=io.StringIO())
    console.print(render(record, 1000))
    shown = console.file.getvalue().split("Fidelity on", 1)[1]  # type: ignore[attr-defined]
    if words is None:
        assert "loss" not in shown
        return
    assert words in accuracy.quality(record).sentence
    assert plain(accuracy.quality(record).sentence) in shown

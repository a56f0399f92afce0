"""INT8, the rewrite, or both: the page and the terminal show all of them and say which was written."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from sepconvert.record import ALONE, BOTH, ORIGINAL, REWRITTEN, Alternative, Plan, Record, SelfCheck
from sepconvert.report.alternatives import alternatives_view, chosen_claim
from sepconvert.report.layers import tabulate
from sepconvert.report.page import render as render_page
from sepconvert.terminal.record import render
from tests.report.conftest import rewrite_record

MODELS = [
    Alternative(ORIGINAL, 1_200_000, 0.0, 4.0),
    Alternative(ALONE, 320_000, 0.0002, 2.0, 2.0, [1.9, 2.1], 0.01, ranges="mse", floating=["/head/Conv"]),
    Alternative(REWRITTEN, 730_000, 0.001, 4.1, 0.99, [0.9, 1.1], 0.02),
    Alternative(BOTH, 220_000, None, None, ranges="min-max"),
]


def record_of(chosen: str) -> Record:
    models = [replace(model, chosen=model.name == chosen) for model in MODELS]
    return rewrite_record(plan=Plan({"max_error": 0.01}, alternatives=models))


def test_what_is_not_measured_or_no_difference_is_said_in_words() -> None:
    view = alternatives_view(record_of(ALONE))
    assert view is not None
    assert view.titles == ("original", "INT8 alone", "rewritten", "both")
    assert view.written == 1
    texts = {label: [text.replace("\u202f", " ") for text in row] for label, row in view.rows}
    assert texts == {
        "Latency": ["4.00 ms", "2.00 ms", "4.10 ms", "not measured"],
        "Speed-up": ["–", "2.00×", "no difference", "not measured"],
        "Relative error": ["0", "2.0×10⁻⁴", "0.0010", "not measured"],
        "Model file": ["1.20 MB", "320 kB", "730 kB", "220 kB"],
        "Ranges": ["–", "mse", "–", "min-max"],
        "In floating point": ["–", "1 layer", "–", "none"],
    }


def test_the_verdict_says_what_was_written_and_what_int8_alone_would_give() -> None:
    alone, both = chosen_claim(record_of(ALONE)), chosen_claim(record_of(BOTH))
    assert alone is not None
    assert both is not None
    assert alone.sentence.startswith("INT8 alone serves what was asked best")
    assert alone.sentence.endswith("Left in floating point, where INT8 gains less than it loses: /head/Conv.")
    assert both.sentence.endswith("INT8 alone: 2.00× faster, relative error 2.0×10⁻⁴.")


@pytest.mark.parametrize("chosen", [ALONE, REWRITTEN, BOTH])
def test_page_and_terminal_show_all_models(chosen: str) -> None:
    record = record_of(chosen)
    page = render_page(record)
    assert 'id="alternatives"' in page
    assert "INT8 alone</th>" in page
    console = Console(width=80, file=io.StringIO(), highlight=False)
    console.print(render(record, 80))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["Ranges", "–", "mse", "–", "min-max"] for line in lines)


def test_a_record_without_int8_shows_none_and_one_with_it_survives_its_json() -> None:
    assert alternatives_view(rewrite_record()) is None
    assert chosen_claim(rewrite_record()) is None
    assert 'id="alternatives"' not in render_page(rewrite_record())
    record = record_of(BOTH)
    again = Record.from_json(record.to_json())
    assert again.plan is not None
    assert record.plan is not None
    assert again.plan.alternatives == record.plan.alternatives


def test_layers_tell_what_they_compute_in_only_where_some_compute_in_int8() -> None:
    record = rewrite_record()
    plain = [row.became for row in tabulate(record).rows]
    types = ["int8", "mixed", "float32"]
    sites = [replace(site, precision=types[place % 3]) for place, site in enumerate(record.sites)]
    told = [row.became for row in tabulate(replace(record, sites=sites)).rows]
    for place, (before, after) in enumerate(zip(plain, told, strict=True)):
        words = ["INT8", "INT8 in part", "float32"][place % 3]
        assert after in (words, f"{before}, {words}")


def test_only_a_model_whose_quantised_layers_were_looked_at_is_said_to_be_verified() -> None:
    checked = replace(record_of(BOTH), integer_check=SelfCheck(0.99, 1.0, 7))
    assert "Passed at 7 layers in INT8" in render_page(checked)
    assert "layers in INT8" not in render_page(record_of(REWRITTEN))
    for record, words in (
        (checked, "every rewritten site and every quantised layer verified."),
        (replace(checked, self_check=None), ", every quantised layer verified."),
        (record_of(REWRITTEN), ", every rewritten site verified."),
    ):
        console = Console(width=200, file=io.StringIO(), highlight=False)
        console.print(render(record, 200))
        assert words in console.file.getvalue()  # type: ignore[attr-defined]


def trained_for_int8(**changes: object) -> Record:
    told = {"steps": 20, "inputs": 90, "labels": False, "best_step": 20, "seconds": 3.0,
            "divergence_before": 0.02, "divergence_after": 0.01}  # fmt: skip
    inside = {"steps": 20, "best_step": 20, "seconds": 4.0, "error_before": 0.03, "error_after": 0.012,
              "kept": "trained", "curve": []}  # fmt: skip
    return replace(record_of(BOTH), fine_tune={**told, "int8": inside | changes})


def terminal_text(record: Record) -> str:
    console = Console(width=300, file=io.StringIO(), highlight=False)
    console.print(render(record, 300))
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_training_with_the_rounding_of_int8_is_told_with_the_error_before_and_after() -> None:
    helped, not_helped = trained_for_int8(), trained_for_int8(error_after=0.031, kept="start")
    before, after = ("relative error of the rewritten model in INT8 on held-out inputs 0.030", "0.012")
    for text in (render_page(helped), terminal_text(helped)):
        assert before in text
        assert after in text
    for text in (render_page(not_helped), terminal_text(not_helped)):
        assert "with the rounding of INT8 did not help" in text
        assert "the start was kept" in text
    assert "with the rounding of INT8" not in terminal_text(replace(helped, fine_tune={"steps": 0, "curve": []}))

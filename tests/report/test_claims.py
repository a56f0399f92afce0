"""The verdict claims what was measured, and no loss is left out of its headline."""

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from sepconvert.record import ChoiceFidelity, Fidelity, OutputFidelity, SweepPoint
from sepconvert.report import accuracy, claims
from sepconvert.report.sections import headline_figures
from sepconvert.report.verdict import judge
from sepconvert.terminal.record import render


def fidelity(error: float | None, **changes: Any) -> Fidelity:
    found = Fidelity([OutputFidelity("out", error, None, 0.1, 0.99, 20.0)], samples=54, data="crops.npz")
    return replace(found, **changes)


def test_an_unstable_timing_is_believed_as_far_as_its_interval_goes(records: Any) -> None:
    timed = replace(records.latency(0.787, 0.195, stable=False), speedup=3.95, speedup_ci95=[3.708, 4.2])
    verdict = judge(records.rewrite(latency=[timed]))
    assert verdict.headline.startswith("At least 3.70× faster, about 3.95×; the timing was unstable; ")
    assert "The timing was unstable" in verdict.sentences[0]
    slower = replace(timed, speedup=1 / 3.95, speedup_ci95=[1 / 4.2, 1 / 3.708])
    assert claims.factor(slower) == "at least 3.70× slower, about 3.95×"


def test_an_unstable_timing_of_little_difference_gives_no_lower_bound_of_one(records: Any) -> None:
    timed = replace(records.latency(stable=False), speedup=1.08, speedup_ci95=[1.003, 1.16])
    assert claims.factor(timed) == "about 1.08× faster"


def test_a_provider_that_was_not_proven_gives_no_speedup(records: Any) -> None:
    timed = replace(records.latency(), provider_verified=False)
    assert "not proven" in claims.speed(records.rewrite(latency=[timed]))[0].sentence


def test_times_whose_ratio_is_not_the_one_claimed_say_why(records: Any) -> None:
    steady = replace(records.latency(9.98, 6.5), speedup=1.53, speedup_ci95=[1.42, 1.6])
    drifted = replace(records.latency(9.98, 4.76), speedup=1.53, speedup_ci95=[1.42, 1.6])
    why = "of pairs measured side by side"
    for timed, said in ((steady, False), (drifted, True)):
        record = records.rewrite(latency=[timed])
        assert (why in judge(record).sentences[0]) == said
        assert (why in repr(record)) == said
    assert "(95 % interval of before/after 1.42 to 1.60)" in repr(records.rewrite(latency=[drifted]))


def test_a_record_in_python_says_that_its_timing_was_unstable(records: Any) -> None:
    timed = replace(records.latency(stable=False), warnings=["The timing is unstable."])
    assert "Warning: The timing is unstable." in repr(records.rewrite(latency=[timed]))


def test_an_interval_around_one_is_no_difference(records: Any) -> None:
    timed = replace(records.latency(), speedup=1.01, speedup_ci95=[0.98, 1.04])
    assert judge(records.rewrite(latency=[timed])).headline.startswith("No measurable difference in speed")


@pytest.mark.parametrize("speedup", [1.04, 0.96])
def test_a_difference_within_the_scatter_of_equal_models_is_none(records: Any, speedup: float) -> None:
    interval = [speedup - 0.01, speedup + 0.01]
    timed = replace(records.latency(), speedup=speedup, speedup_ci95=interval, scatter=0.05)
    claim = claims.speed(records.rewrite(latency=[timed]))[0]
    assert claim.short == "no measurable difference in speed"
    assert "opened anew the same models differ by up to 5.0\u202f%" in claim.sentence
    shown = io.StringIO()
    Console(file=shown, width=200).print(render(records.rewrite(latency=[timed]), 200))
    assert "opened anew the same models differ by up to 5.0 %" in " ".join(shown.getvalue().split())
    assert replace(timed, scatter=0.02).difference == ("faster" if speedup > 1 else "slower")


def test_a_slower_model_is_called_slower_first_of_all(records: Any) -> None:
    verdict = judge(records.rewrite(latency=[records.latency(before=10.0, after=15.0)]))
    assert verdict.headline.startswith("1.50× slower")
    assert verdict.tone == "bad"


def test_a_second_device_that_is_slower_is_in_the_headline(records: Any) -> None:
    timed = [records.latency(), records.latency(before=10.0, after=15.0, device="npu")]
    verdict = judge(records.rewrite(latency=timed))
    assert "slower on npu" in verdict.headline
    assert verdict.tone == "bad"


@pytest.mark.parametrize(
    ("after", "tone", "words"),
    [(0.924, "good", "0.4 points lower"), (0.915, "mixed", "1.3 points lower"), (0.80, "bad", "12.8 points lower")],
)
def test_a_lost_point_of_accuracy_is_named(records: Any, after: float, tone: str, words: str) -> None:
    record = records.rewrite()
    assert record.fidelity is not None
    claim = accuracy.quality(replace(record, fidelity=replace(record.fidelity, top1_after=after)))
    assert words in claim.sentence
    assert claim.tone == tone


@pytest.mark.parametrize(
    ("error", "tone", "word"),
    [
        (1e-12, "good", "rounding"),
        (0.003, "good", "small loss"),
        (0.03, "mixed", "noticeable loss"),
        (0.3, "bad", "large loss"),
        (1.2, "bad", "unusable"),
        (float("nan"), "bad", "unusable"),
    ],
)
def test_the_size_of_an_error_has_a_word(records: Any, error: float, tone: str, word: str) -> None:
    claim = accuracy.quality(records.rewrite(fidelity=fidelity(error)))
    assert word in claim.sentence
    assert claim.tone == tone


def test_the_worst_output_decides(records: Any) -> None:
    outputs = [OutputFidelity(name, error, None, None, None, None) for name, error in (("a", 0.001), ("b", 0.4))]
    claim = accuracy.quality(records.rewrite(fidelity=fidelity(None, outputs=outputs)))
    assert "“b”" in claim.sentence
    assert "0.40" in claim.short


def test_the_error_before_the_final_activation_decides(records: Any) -> None:
    outputs = [OutputFidelity("prob", 0.001, 0.5, None, None, None)]
    assert accuracy.quality(records.rewrite(fidelity=fidelity(None, outputs=outputs))).tone == "bad"


def test_decisions_that_nobody_counted_are_said_to_be_uncounted(records: Any) -> None:
    outputs = [OutputFidelity("characters", 0.026, 0.0074, 0.91, None, None)]
    record = records.rewrite(fidelity=fidelity(None, outputs=outputs))
    assert "was not counted" in accuracy.quality(record).sentence
    assert record.fidelity is not None
    counted = replace(record, fidelity=replace(record.fidelity, top1_agreement=0.97))
    assert "was not counted" not in accuracy.quality(counted).sentence


@pytest.mark.parametrize(
    ("share", "size", "tone"),
    [(0.995, "A small loss", "good"), (0.97, "A noticeable loss", "mixed"), (0.8, "A large loss", "bad")],
)
def test_how_many_choices_change_decides_too(records: Any, share: float, size: str, tone: str) -> None:
    outputs = [OutputFidelity("characters", 0.026, 0.0074, 0.91, None, None)]
    choices = [ChoiceFidelity("characters", share, 2400, 0.317)]
    record = records.rewrite(fidelity=fidelity(None, outputs=outputs, choices=choices))
    claim = accuracy.quality(record)
    assert claim.tone == tone
    assert claim.sentence.startswith(size)
    percent = f"{100 * share:.1f}\u202f%"
    assert (
        f"the same choice at {percent} of 2\u202f400 positions (another one somewhere in 68.3\u202f%" in claim.sentence
    )
    assert "was not counted" not in claim.sentence
    assert f"the same choice at {percent}" in judge(record).headline


def test_choices_at_a_few_positions_are_told_and_decide_nothing(records: Any) -> None:
    outputs = [OutputFidelity("boxes", 0.026, 0.0074, 0.91, None, None)]
    few, many = ChoiceFidelity("boxes", 0.75, 4, 0.95), ChoiceFidelity("scores", 0.995, 400, 0.9)
    record = records.rewrite(fidelity=fidelity(None, outputs=outputs, choices=[few]))
    claim = accuracy.quality(record)
    assert claim.sentence.startswith("A small loss")
    assert "the same choice at 3 of 4 positions, too few to judge by." in claim.sentence
    assert "was not counted" not in claim.sentence
    assert "choice" not in judge(record).headline
    both = accuracy.quality(records.rewrite(fidelity=fidelity(None, outputs=outputs, choices=[few, many])))
    assert "in “scores” at 99.5" in both.sentence


def test_of_several_choices_the_worst_is_named(records: Any) -> None:
    outputs = [OutputFidelity("y", 0.001, None, 0.1, None, None)]
    choices = [ChoiceFidelity("first", 1.0, 20, 1.0), ChoiceFidelity("second", 0.985, 400, 0.9)]
    found = fidelity(None, outputs=outputs, choices=choices, top1_agreement=0.99)
    assert found.least_agreement == 0.985
    assert "in “second”" in accuracy.quality(records.rewrite(fidelity=found)).sentence


def test_an_error_that_cannot_be_computed_is_not_called_small(records: Any) -> None:
    claim = accuracy.quality(records.rewrite(fidelity=fidelity(None, samples=1)))
    assert "cannot be computed" in claim.sentence
    assert claim.tone == "mixed"


def test_random_inputs_are_said_to_be_random(records: Any) -> None:
    claim = accuracy.quality(records.rewrite(fidelity=fidelity(0.001, data="16 seeded random inputs")))
    assert "random" in claim.short
    assert claim.tone == "mixed"


def test_a_large_error_on_random_inputs_is_no_verdict(records: Any) -> None:
    claim = accuracy.quality(records.rewrite(fidelity=fidelity(82.0, data="8 seeded random inputs")))
    assert claim.sentence == (
        "Relative error 82 on random inputs: this figure says little. Nothing was refused because of it. Give --data."
    )
    assert claim.tone == "mixed"


def test_an_error_before_the_activation_is_called_so_where_it_stands_alone(records: Any) -> None:
    sigmoid = OutputFidelity("mask", 0.021, 0.024, 0.1, 0.99, 20.0)
    record = records.rewrite(fidelity=fidelity(None, outputs=[sigmoid]))
    assert "relative error 0.024 before the activation" in judge(record).headline
    assert "relative error of mask before the activation" in repr(record)
    assert any(figure.label == "Relative error before the activation" for figure in headline_figures(record))


def test_the_kept_layers_come_with_their_reasons(records: Any) -> None:
    text = claims.layers(records.rewrite()).sentence
    assert text.startswith("14 of 17 layers rewritten; 3 kept as they are (2\u202f× no candidate is faster")
    assert "1\u202f× one input channel: nothing to separate)." in text


def test_a_comparison_does_not_say_which_layers_were_rewritten(records: Any) -> None:
    sites = [replace(site, status="eligible") for site in records.rewrite().sites]
    verdict = judge(records.compare(sites=sites))
    assert not any("rewritten" in sentence or "kept as" in sentence for sentence in verdict.sentences)


def test_a_model_that_grew_is_said_to_have_grown(records: Any) -> None:
    record = records.rewrite()
    bigger = replace(record.totals.before, macs=record.totals.before.macs * 2)
    claim = claims.cost(replace(record, totals=replace(record.totals, after=bigger)))
    assert claim is not None
    assert "2.00× more" in claim.sentence


def test_a_survey_says_how_much_of_the_work_can_be_saved(records: Any) -> None:
    verdict = judge(records.analyze())
    assert verdict.headline.startswith("6 of 19 layers can be made separable; they hold")
    assert any("12 pointwise" in sentence for sentence in verdict.sentences)


def test_a_sweep_s_headline_does_not_hide_what_top_1_lost(records: Any) -> None:
    record = records.sweep()
    points = [replace(point, top1=0.90) for point in record.sweep.points]
    verdict = judge(replace(record, sweep=replace(record.sweep, points=points, top1_before=0.93)))
    assert "top-1 93.0\u202f% → 90.0\u202f%" in verdict.headline
    assert verdict.tone == "mixed"


def test_a_model_without_convolutions_says_so(records: Any) -> None:
    assert judge(records.analyze(sites=[], skipped=[])).headline == "No layer with weights was found in this model"


def test_a_sweep_without_a_good_point_does_not_praise_itself(records: Any) -> None:
    record = records.sweep()
    assert record.sweep is not None
    points = [replace(point, error=0.5) for point in record.sweep.points]
    verdict = judge(replace(record, sweep=replace(record.sweep, points=points)))
    assert verdict.headline == "No model of this sweep is faster with a small error"
    assert verdict.tone == "bad"


def test_a_sweep_that_measured_nothing_says_so(records: Any) -> None:
    record = records.sweep()
    nothing = SweepPoint("2×", None, None, None, None, None, None)
    verdict = judge(replace(record, sweep=replace(record.sweep, points=[nothing])))
    assert verdict.headline == "1 model tried, none measured in full"

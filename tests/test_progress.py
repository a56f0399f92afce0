"""Time is said before it is spent: once, after the first seconds, and only where it is worth a sentence."""

from itertools import pairwise

import pytest

from sepconvert.progress import Asked, Subject, by_line, forecasting, milestones, silent


def said(steps: list[tuple[float, str, int, int]], asked: Asked | None = None) -> list[str]:
    """What is said of steps at given seconds."""
    now, found = [0.0], list[str]()
    tell = forecasting(silent, found.append, lambda: now[0], asked=asked or Asked())
    for second, what, done, total in steps:
        now[0] = second
        tell(what, done, total)
    return found


def test_a_long_profile_is_foretold_with_its_fit_once() -> None:
    steps = [(20.0 * i, f"Profile: layer{i}", i, 9) for i in range(9)] + [(180.0, "Profile", 9, 9)]
    steps += [(180 + 30.0 * i, "Fit", i, 9) for i in range(9)]
    (text,) = said(steps)
    assert text.startswith("About 6 minutes: 3 minutes to look at every layer and about as much for each fit")
    assert "--quick" in text
    assert "--quick" not in said(steps, Asked(quick=True))[0]
    assert "fits to keep" not in text
    assert "on top. It may take up to 3 fits to keep the limit. --quick" in said(steps, Asked(most_fits=3))[0]


def test_int8_is_foretold_by_what_it_took_for_the_original_and_by_a_fit() -> None:
    steps = [(0.0, "Ranges", 0, 1), *((100 + 20.0 * i, f"Profile: layer{i}", i, 9) for i in range(9))]
    (text,) = said(steps, Asked(int8=True))
    assert text.startswith(
        "About 12 minutes: 3 minutes to look at every layer, about as much for each fit and 6 minutes for INT8; "
        "timing comes on top."
    )
    (text,) = said([(100 + 20.0 * i, f"Fit: layer{i}", i, 9) for i in range(9)], Asked(int8=True))
    assert text.startswith("About 9 minutes: 3 minutes for each fit and 6 minutes for INT8; timing comes on top.")


def test_a_fit_without_a_profile_is_foretold_too() -> None:
    (text,) = said([(0.0, "Plan", 0, 1), *((10.0 * i, "Fit", i, 20) for i in range(20))])
    assert text.startswith("About 3 minutes for a fit;")


def test_a_step_counts_by_its_work() -> None:
    assert milestones([]) == [0]
    assert milestones([0, 0, 0, 0]) == [0, 250, 500, 750, 1000]
    before = milestones([1, 0, 1, 8])
    assert before[0] == 0
    assert before[-1] == 1000
    shares = [after - this for this, after in pairwise(before)]
    assert shares[3] > 4 * shares[0]
    assert shares[0] == pytest.approx(shares[2], abs=1)
    assert 0 < shares[1] < shares[0]


def test_wide_layers_at_the_end_are_foretold_from_the_narrow_ones_before() -> None:
    works = [0.1] * 6 + [4.0] * 6
    *before, end = milestones(works)
    spent = [0.0, *(2.0 * step for step in range(1, 7)), *(12 + 30.0 * step for step in range(1, 7))]
    steps = [(second, "Profile", done, end) for second, done in zip(spent, before, strict=False)]
    (text,) = said(steps)
    minutes = float(text.split()[1])
    assert 2 * spent[-1] / 60 / 3 < minutes < 2 * spent[-1] / 60 * 3


@pytest.mark.parametrize("step", [0.5, 2.0])
def test_short_work_is_not_talked_about(step: float) -> None:
    assert said([(step * i, "Profile", i, 9) for i in range(10)]) == []


def test_everything_is_told_on() -> None:
    told = list[tuple[str, int, int]]()
    tell = forecasting(lambda *step: told.append(step), lambda text: None, lambda: 0.0)
    tell("Fit: a", 0, 2)
    tell("Fit", 2, 2)
    assert told == [("Fit: a", 0, 2), ("Fit", 2, 2)]


def test_a_training_gets_a_forecast_of_its_own_and_the_profile_s_says_that_one_follows() -> None:
    asked = Asked(fine_tune=True, int8=True)
    steps = [(20.0 * i, f"Profile: layer{i}", i, 9) for i in range(9)]
    steps += [(200 + 10.0 * i, "Fine-tune: divergence 0.1", i, 60) for i in range(60)]
    steps += [(900 + 10.0 * i, "Fine-tune, INT8: divergence 0.1", i, 60) for i in range(60)]
    first, second = said(steps, asked)
    assert "timing and fine-tuning come on top" in first
    assert second == "About 10 minutes to fine-tune, and as long again in INT8."


def test_the_steps_of_a_training_are_alike_and_need_not_be_many() -> None:
    steps = [(0.5 * i, "Fine-tune: divergence 0.1", i, 7200) for i in range(20)]
    assert said(steps) == ["About 60 minutes to fine-tune."]


def test_every_stage_is_a_line_where_nobody_watches_but_not_each_time_that_two_alternate() -> None:
    now, found = [0.0], list[str]()
    tell = by_line(found.append, lambda: now[0])
    for second, what in ((1, "Fit: a"), (2, "Fit: b"), (3, "Fidelity"), (4, "Fit"), (5, "Fidelity"), (9, "Fit")):
        now[0] = float(second)
        tell(what, 0, 9)
    assert [line.split(maxsplit=2) for line in found] == [["1", "s", "Fit"], ["3", "s", "Fidelity"], ["9", "s", "Fit"]]


def test_a_stage_says_which_of_several_models_it_is_for() -> None:
    told = list[str]()
    subject = Subject(lambda what, done, total: told.append(what))
    subject("Profile: a", 0, 1)
    subject.name = "1.8× (2 of 3)"
    subject("Fit: a", 0, 1)
    subject("Fidelity", 0, 1)
    assert told == ["Profile: a", "Fit, 1.8× (2 of 3): a", "Fidelity, 1.8× (2 of 3)"]
    (text,) = said([(20.0 * i, "Fit, 1.8× (2 of 3): a", i, 9) for i in range(9)])
    assert text.startswith("About 3 minutes for a fit;")

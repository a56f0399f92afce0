"""Time is said before it is spent: once, after the first seconds, and only where it is worth a sentence."""

import pytest

from sepconvert.progress import forecasting, silent


def said(steps: list[tuple[float, str, int, int]], *, quick: bool = False) -> list[str]:
    """What is said of steps at given seconds."""
    now, found = [0.0], list[str]()
    tell = forecasting(silent, found.append, lambda: now[0], quick=quick)
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
    assert "--quick" not in said(steps, quick=True)[0]


def test_a_fit_without_a_profile_is_foretold_too() -> None:
    (text,) = said([(0.0, "Plan", 0, 1), *((10.0 * i, "Fit", i, 20) for i in range(20))])
    assert text.startswith("About 3 minutes for a fit.")


@pytest.mark.parametrize("step", [0.5, 2.0])
def test_short_work_is_not_talked_about(step: float) -> None:
    assert said([(step * i, "Profile", i, 9) for i in range(10)]) == []


def test_everything_is_told_on() -> None:
    told = list[tuple[str, int, int]]()
    tell = forecasting(lambda *step: told.append(step), lambda text: None, lambda: 0.0)
    tell("Fit: a", 0, 2)
    tell("Fit", 2, 2)
    assert told == [("Fit: a", 0, 2), ("Fit", 2, 2)]

"""The largest ridge that is as good as the best within chance is chosen, and nothing else is affected by chance."""

import numpy as np
import pytest

from sepconvert.fitting.select import Trial, as_good, best, least, search
from sepconvert.separable.factors import Factors

RIDGES = (0.01, 0.1, 1.0, 10.0)


def trial(ridge: float | None, *shares: float, form: str = "dw_pw", rank: int = 2) -> Trial:
    factors = Factors(form, rank, (1,), {})
    return Trial(ridge, factors, np.zeros((1, 1, 1)), np.zeros(1), np.array(shares))


def test_as_good_is_within_one_standard_error_of_the_difference() -> None:
    steady = trial(0.1, 1.0, 1.0, 1.0, 1.0)
    # Differences of 0.3 ± 0.1: the sum is 1.2, its standard error 0.23.
    assert not as_good(trial(1.0, 1.2, 1.4, 1.2, 1.4), steady)
    # Differences of ±1 and a little more: the sum is 0.4, its standard error 2.3.
    assert as_good(trial(1.0, 2.1, 0.1, 2.1, 0.1), steady)
    assert as_good(steady, steady)
    assert not as_good(trial(1.0, np.inf, 1.0, 1.0, 1.0), steady)
    # From one input there is nothing to be told about chance.
    assert not as_good(trial(1.0, 1.001), trial(0.1, 1.0))


def test_the_largest_ridge_that_is_as_good_is_chosen() -> None:
    found = [trial(0.1, 1.0, 1.0, 1.0), trial(1.0, 1.2, 0.9, 1.1), trial(10.0, 2.0, 2.1, 2.0)]
    assert least(found).ridge == 0.1
    assert best(found).ridge == 1.0
    assert best(found[:1]).ridge == 0.1


def test_other_candidates_and_factors_made_without_data_are_not_chosen_by_chance() -> None:
    winner = trial(0.1, 1.0, 1.0, 1.0)
    rivals = [trial(10.0, 1.2, 0.9, 1.1, rank=1), trial(10.0, 1.2, 0.9, 1.1, form="pw_dw"), trial(None, 1.2, 0.9, 1.1)]
    assert best([*rivals, winner]) is winner
    without_data = trial(None, 0.5, 0.5, 0.5)
    assert best([winner, without_data]) is without_data


@pytest.mark.parametrize(
    ("shares", "visited", "chosen"),
    [
        # The valley's bottom is at the start; the next ridge is worse by more than chance.
        ([(5, 5), (1, 1), (2, 2), (3, 3)], (0.01, 0.1, 1.0), 0.1),
        # Downhill to small ridges, and nothing above the bottom is as good.
        ([(1, 1), (2, 2), (3, 3), (4, 4)], (0.01, 0.1, 1.0), 0.01),
        # Downhill to large ridges.
        ([(4, 4), (3, 3), (2, 2), (1, 1)], (0.1, 1.0, 10.0), 10.0),
        # All ridges above the bottom are as good: the walk goes on to the last.
        ([(5, 5), (2.0, 2.0), (3.0, 1.1), (3.1, 1.2)], (0.01, 0.1, 1.0, 10.0), 10.0),
    ],
)
def test_the_walk_goes_up_from_the_bottom_as_far_as_chance_reaches(
    shares: list[tuple[float, float]], visited: tuple[float, ...], chosen: float
) -> None:
    values = dict(zip(RIDGES, shares, strict=True))
    found = search(RIDGES, 1, trial(0.1, *values[0.1]), lambda ridge: trial(ridge, *values[ridge]))
    assert tuple(t.ridge for t in found) == visited
    assert best(found).ridge == chosen

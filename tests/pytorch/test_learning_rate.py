"""The learning rate climbs to its peak and falls to nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.pytorch.learning_rate import ENOUGH, RATE, WARM_UP, learning_rate, peak_rate


@given(st.integers(2, 5000), st.floats(1e-6, 1.0))
@settings(deadline=None, max_examples=50)
def test_it_climbs_during_the_warm_up_and_falls_after_it(steps: int, peak: float) -> None:
    rates = [learning_rate(step, steps, peak) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(peak)
    assert top <= WARM_UP * steps + 1
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert min(rates) > 0


def test_the_rate_rises_over_the_first_steps_and_falls_to_nothing() -> None:
    assert learning_rate(0, 100, 1.0) == pytest.approx(0.2)
    assert learning_rate(4, 100, 1.0) == pytest.approx(1.0)
    assert learning_rate(52, 100, 1.0) == pytest.approx(0.5, abs=0.02)
    assert learning_rate(99, 100, 1.0) < 1e-3


def test_a_good_start_and_few_steps_bear_a_lower_peak() -> None:
    assert peak_rate(0.5, 500) == peak_rate(1.0, 18) == peak_rate(None, 5) == RATE
    assert peak_rate(0.01, 30) == pytest.approx(RATE * (0.3 / ENOUGH) ** 0.5)
    assert peak_rate(0.01, 30) < peak_rate(0.01, 120) < peak_rate(0.1, 120)
    assert peak_rate(0.0, 100) == 0

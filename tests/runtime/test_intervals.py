import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.record import SLOWER, tell_apart
from sepconvert.runtime import intervals
from sepconvert.runtime.intervals import judge_stability, median_interval, ratio_interval, ratio_scatter, summarise


def noisy_epochs(
    rng: np.random.Generator, *, ratio: float = 1.0, epochs: int = 6, rounds: int = 24, layout: float = 0.006
) -> list[np.ndarray]:
    """Times like those of a shared machine: bursts over several rounds, own noise, and a bias of each session."""
    result = []
    for _ in range(epochs):
        common = 1 + 0.1 * np.abs(np.convolve(rng.standard_normal(rounds + 4), np.ones(5) / 5, "valid"))
        own = 1 + 0.02 * np.abs(rng.standard_normal((rounds, 2)))
        bias = np.exp(layout * rng.standard_normal(2))
        result.append(common[:, None] * own * bias * [ratio, 1.0])
    return result


@pytest.mark.parametrize("layout", [0.0, 0.006, 0.03])
def test_equal_models_are_called_equal_in_nineteen_of_twenty(layout: float) -> None:
    rng = np.random.default_rng(7)
    runs = 100
    equal = 0
    for _ in range(runs):
        _, low, high = ratio_interval(noisy_epochs(rng, layout=layout), rng)
        equal += low <= 1 <= high
    # 95 % coverage, less three standard deviations of that count.
    assert equal >= 0.95 * runs - 3 * (runs * 0.95 * 0.05) ** 0.5


def test_a_machine_that_changes_its_speed_between_rounds_changes_no_speed_up() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        speed = rng.choice([1.0, 1.3], (6, 4, 1))
        ratio, low, high = ratio_interval(list(speed * [20.0, 16.0]), rng)
        assert (low, ratio, high) == (pytest.approx(1.25), pytest.approx(1.25), pytest.approx(1.25))


@pytest.mark.parametrize(("seconds", "rounds", "epochs"), [((0.7, 0.34), 5, 4), ((0.04, 0.03), 8, 6)])
def test_where_the_speed_changes_every_second_the_rounds_ratios_are_closer_than_the_ratio_of_medians(
    seconds: tuple[float, float], rounds: int, epochs: int
) -> None:
    rng, apart, together = np.random.default_rng(0), [], []
    true = seconds[0] / seconds[1]
    for _ in range(60):
        samples = changing_epochs(rng, seconds, rounds, epochs)
        medians = np.median(np.concatenate(samples), axis=0)
        apart.append(np.log(medians[0] / medians[1] / true))
        together.append(np.log(ratio_interval(samples, rng)[0] / true))
    assert 3 * np.std(together) < np.std(apart)


def changing_epochs(
    rng: np.random.Generator, seconds: tuple[float, float], rounds: int, epochs: int
) -> list[np.ndarray]:
    """Times on a machine that is a third slower for a second or so, then as fast as before."""
    now, slow, change = 0.0, False, rng.exponential()
    result = []
    for _ in range(epochs):
        times = np.empty((rounds, 2))
        for row in times:
            for place in rng.permutation(2):
                start, left = now, seconds[place]
                while left > 0:
                    pace = 4 / 3 if slow else 1.0
                    step = min(left * pace, change - now)
                    left, now = left - step / pace if step < left * pace else 0.0, now + step
                    if now >= change:
                        slow, change = not slow, now + rng.exponential()
                row[place] = now - start
        now += rng.exponential()
        while change <= now:
            slow, change = not slow, change + rng.exponential()
        result.append(times)
    return result


def test_a_real_difference_is_seen() -> None:
    ratio, low, high = ratio_interval(noisy_epochs(np.random.default_rng(0), ratio=1.5), np.random.default_rng(1))
    assert 1.4 < low < ratio < high < 1.6


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-3, 1e3), st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32))
def test_the_interval_holds_the_ratio_and_turns_round_with_it(unit: float, epochs: int, rounds: int, seed: int) -> None:
    samples = noisy_epochs(np.random.default_rng(seed), epochs=epochs, rounds=rounds)
    ratio, low, high = ratio_interval([unit * s for s in samples], np.random.default_rng(0))
    assert 0 < low <= ratio <= high
    rounds = np.concatenate(samples)
    assert ratio == pytest.approx(np.exp(np.median(np.log(rounds[:, 0] / rounds[:, 1]))), rel=1e-12)
    inverse, low_inverse, high_inverse = ratio_interval([s[:, ::-1] for s in samples], np.random.default_rng(0))
    assert inverse == pytest.approx(1 / ratio, rel=1e-12)
    # The same resamples, so the ends change places, up to the interpolation between two neighbouring quantiles.
    assert low_inverse == pytest.approx(1 / high, rel=0.02)
    assert high_inverse == pytest.approx(1 / low, rel=0.02)


def test_samples_become_median_and_percentiles() -> None:
    timing = summarise(np.arange(1.0, 12.0))
    assert (timing.median_ms, timing.p10_ms, timing.p90_ms) == (6.0, 2.0, 10.0)
    assert timing.samples_ms == [float(v) for v in range(1, 12)]


def test_the_median_of_one_model_has_an_interval_too() -> None:
    low, high = median_interval([s[:, :1] for s in noisy_epochs(np.random.default_rng(0))], np.random.default_rng(0))
    assert low < high < 1.1 * low


def test_a_quiet_measurement_is_stable() -> None:
    assert judge_stability([np.ones((20, 2))], 0.99, 1.01, "speed-up") == []


def test_a_wide_interval_is_unstable() -> None:
    (reason,) = judge_stability([np.ones((20, 2))], 0.9, 1.1, "speed-up")
    assert "interval of the speed-up is 22 % wide" in reason


def drifting(columns: int, *, slower: int = 0) -> list[np.ndarray]:
    """Two epochs in which one model, or all, become twice as slow."""
    pace = np.linspace(1, 2, 40)[:, None]
    times = np.ones((1, columns)) * pace if not slower else np.hstack([np.ones((40, 1)), pace])
    return [times[:20], times[20:]]


def test_a_speed_up_that_drifts_is_unstable() -> None:
    (reason,) = judge_stability(drifting(2, slower=1), 0.999, 1.001, "speed-up")
    assert "the speed-up changed by" in reason


def test_a_single_time_that_drifts_is_unstable() -> None:
    (reason,) = judge_stability(drifting(1), 0.999, 1.001, "median")
    assert "the median changed by" in reason
    assert intervals.describe_pace(drifting(1)) == []


def test_a_machine_that_slows_both_models_down_leaves_the_speed_up_and_is_mentioned() -> None:
    assert judge_stability(drifting(2), 0.999, 1.001, "speed-up") == []
    (remark,) = intervals.describe_pace(drifting(2))
    assert "machine's speed changed by" in remark
    assert intervals.describe_pace([np.ones((20, 2))]) == []


@pytest.mark.parametrize("slower", [1.0, 1.5])
def test_the_interval_holds_the_ratio_on_a_machine_that_slows_down(slower: float) -> None:
    rng = np.random.default_rng(5)
    runs, held = 100, 0
    for _ in range(runs):
        paces = np.linspace(1, slower, 6)
        epochs = [pace * epoch for pace, epoch in zip(paces, noisy_epochs(rng, ratio=2.0), strict=True)]
        _, low, high = ratio_interval(epochs, rng)
        held += low <= 2 <= high
    assert held >= 0.95 * runs - 3 * (runs * 0.95 * 0.05) ** 0.5


@pytest.mark.parametrize("layout", [0.0, 0.006, 0.03])
def test_of_a_thousand_comparisons_of_equal_models_hardly_one_exceeds_the_scatter(layout: float) -> None:
    rng = np.random.default_rng(11)
    runs, beyond = 400, 0
    for _ in range(runs):
        epochs = noisy_epochs(rng, layout=layout, rounds=12, epochs=12)
        middle = np.median(np.concatenate([np.log(epoch[:, 0] / epoch[:, 1]) for epoch in epochs]))
        beyond += abs(middle) > np.log1p(ratio_scatter(epochs) or 0.0)
    # 0.1 % of 400, and three standard deviations of that count.
    assert beyond <= 0.001 * runs + 3 * (runs * 0.001) ** 0.5


def test_a_model_slower_by_a_twentieth_exceeds_the_scatter_of_a_quiet_machine() -> None:
    rng = np.random.default_rng(12)
    seen = 0
    for _ in range(50):
        epochs = noisy_epochs(rng, ratio=1 / 1.05, layout=0.006, rounds=12, epochs=12)
        ratio, low, high = ratio_interval(epochs, rng)
        seen += tell_apart(ratio, [low, high], ratio_scatter(epochs)) == SLOWER
    assert seen >= 45


def test_one_epoch_tells_no_scatter() -> None:
    assert ratio_scatter([np.ones((20, 2))]) is None

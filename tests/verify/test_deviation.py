from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sepconvert.verify.deviation import Deviation, Figures


def deviate(*batches: tuple[NDArray, NDArray]) -> Figures:
    deviation = Deviation()
    for before, after in batches:
        deviation.add(before, after)
    return deviation.figures()


def test_the_figures_equal_hand_arithmetic() -> None:
    y = np.array([[1.0, 2.0], [3.0, 6.0]])
    figures = deviate((y, np.array([[1.0, 3.0], [3.0, 4.0]])))
    # Mean (2, 4): spread 1 + 1 + 4 + 4 = 10; error 1 + 4 = 5; Σy² = 50; Σŷ² = 35; Σyŷ = 1 + 6 + 9 + 24 = 40.
    assert figures.samples == 2
    assert figures.relative_error == pytest.approx(0.5, rel=1e-15)
    assert figures.max_abs == 2.0
    assert figures.cosine == pytest.approx(40 / (50 * 35) ** 0.5, rel=1e-15)
    assert figures.sqnr_db == pytest.approx(10.0, rel=1e-15)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.integers(1, 4),
    st.floats(-1e6, 1e6),
    st.integers(0, 2**32),
)
def test_the_relative_error_does_not_depend_on_the_batches(
    sizes: list[int], width: int, offset: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    total = sum(sizes)
    y = rng.integers(-8, 8, (total, width)) / 8 + offset
    y_hat = y + rng.integers(-8, 8, (total, width)) / 8
    cuts = np.cumsum(sizes)[:-1]
    figures = deviate(*zip(np.split(y, cuts), np.split(y_hat, cuts), strict=True))
    exact = [[Fraction(v) for v in row] for row in y.tolist()]
    means = [sum(column) / total for column in zip(*exact, strict=True)]
    spread = sum((v - m) ** 2 for row in exact for v, m in zip(row, means, strict=True))
    error = sum(
        (Fraction(a) - Fraction(b)) ** 2 for a, b in zip(y.ravel().tolist(), y_hat.ravel().tolist(), strict=True)
    )
    if total < 2 or spread == 0:
        assert figures.relative_error is None
        return
    # Deviations from a float64 mean are off by at most n·eps·max|y|; relative to a spread of at least 1/8² steps.
    loss = total * np.finfo(float).eps * np.abs(y).max()
    tolerance = 4 * loss * np.sqrt(total * width / float(spread)) + 64 * total * width * np.finfo(float).eps
    assert figures.relative_error == pytest.approx(float(error / spread), rel=tolerance)


def test_predicting_the_mean_scores_one_and_any_other_constant_more() -> None:
    y = np.random.default_rng(0).standard_normal((50, 3, 2)) + 100
    assert deviate((y, np.broadcast_to(y.mean(axis=0), y.shape))).relative_error == pytest.approx(1.0, rel=1e-12)
    worse = deviate((y, np.zeros_like(y))).relative_error
    assert worse is not None
    assert worse > 1


def test_one_sample_and_a_constant_output_have_no_relative_error() -> None:
    one = np.random.default_rng(0).standard_normal((1, 4))
    assert deviate((one, one + 1)).relative_error is None
    constant = np.tile(np.float32([0.1, 0.7]), (9, 1))
    figures = deviate((constant[:4], constant[:4] + 1), (constant[4:], constant[4:] + 1))
    assert figures.relative_error is None
    assert figures.max_abs == pytest.approx(1.0, rel=1e-6)


def test_an_output_that_varies_by_its_own_rounding_only_is_constant() -> None:
    y = np.full((8, 1), 1000, np.float32)
    y[::2] = np.nextafter(y[::2], np.float32(2000))
    assert deviate((y, y + 1)).relative_error is None


def test_where_lengths_differ_the_mean_is_over_positions_too() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 3, 6, 5)) + 1
    figures = deviate((first, first + 0.5), (second, second + 0.5))
    # Axis 2 (of length 4 and 6) is averaged over, channels and the last axis are not.
    joined = np.concatenate([first.transpose(0, 2, 1, 3).reshape(-1, 15), second.transpose(0, 2, 1, 3).reshape(-1, 15)])
    spread = np.square(joined - joined.mean(axis=0)).sum()
    assert figures.relative_error == pytest.approx(0.25 * joined.size / spread, rel=1e-12)


def test_where_ranks_differ_the_mean_is_over_everything() -> None:
    rng = np.random.default_rng(2)
    batches = [rng.standard_normal((2, 3)), rng.standard_normal((2, 3, 2)), rng.standard_normal((1, 4, 2))]
    everything = np.concatenate([b.ravel() for b in batches])
    figures = deviate(*((b, b + 1) for b in batches))
    spread = np.square(everything - everything.mean()).sum()
    assert figures.relative_error == pytest.approx(everything.size / spread, rel=1e-12)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_inf_leave_no_figure_and_are_counted(bad: float) -> None:
    y = np.ones((4, 2))
    broken = y.copy()
    broken[1:3, 0] = bad
    assert deviate((y, y), (y, broken)) == Figures(8, None, None, None, None, 0, 2)
    assert deviate((broken, y)).bad_before == 2


def test_equal_and_zero_outputs_have_no_ratio_that_would_be_infinite() -> None:
    y = np.array([[1.0], [2.0]])
    same = deviate((y, y))
    assert (same.relative_error, same.max_abs, same.sqnr_db) == (0.0, 0.0, None)
    assert same.cosine == pytest.approx(1.0, rel=1e-15)
    zero = deviate((y * 0, y))
    assert (zero.relative_error, zero.cosine, zero.sqnr_db) == (None, None, None)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.int64, np.bool_])
def test_every_numeric_dtype_is_taken(dtype: type) -> None:
    y = np.array([[0], [1], [0], [1]]).astype(dtype)
    assert deviate((y, ~y if dtype is np.bool_ else 1 - y.astype(np.float32))).relative_error == 4.0


def test_large_batches_are_worked_off_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    from sepconvert.verify import deviation

    y = np.random.default_rng(0).standard_normal((10, 6))
    whole = deviate((y, y + 0.1))
    monkeypatch.setattr(deviation, "_CHUNK", 12)
    pieces = deviate((y, y + 0.1))
    assert whole.relative_error is not None
    assert pieces.relative_error == pytest.approx(whole.relative_error, rel=1e-13)


def test_no_samples_have_no_figures() -> None:
    assert Deviation().figures() == Figures(0, None, None, None, None)

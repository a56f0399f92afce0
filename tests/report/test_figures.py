"""Numbers as people read them."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.report import figures

THIN = "\u202f"
SUPERSCRIPT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (0, "0"),
        (512, "512"),
        (999, "999"),
        (1000, f"1.00{THIN}k"),
        (304_123, f"304{THIN}k"),
        (999_600, f"1.00{THIN}M"),
        (1_073_741_824, f"1.07{THIN}G"),
        (math.inf, "not a finite number"),
    ],
)
def test_counts_have_three_digits_and_a_prefix(value: float | None, text: str) -> None:
    assert figures.count(value) == text


def test_sizes_carry_bytes_with_their_prefix() -> None:
    assert figures.size(812) == f"812{THIN}B"
    assert figures.size(23_600_000) == f"23.6{THIN}MB"
    assert figures.size(None) == "unknown"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not measured"),
        (0.0, "0"),
        (0.0031, "0.0031"),
        (0.31, "0.31"),
        (6.2e-5, "6.2×10⁻⁵"),
        (9.96e-4, "1.0×10⁻³"),
        (math.nan, "not a finite number"),
    ],
)
def test_errors_keep_two_digits_however_small(value: float | None, text: str) -> None:
    assert figures.error(value) == text


@given(st.floats(min_value=1e-12, max_value=1e12))
@settings(deadline=None, max_examples=200)
def test_a_figure_that_is_not_zero_is_never_shown_as_zero(value: float) -> None:
    for show in (figures.significant, figures.error, figures.count, figures.milliseconds):
        digits = show(value).split("×10")[0].split(THIN)[0]
        assert float(digits) != 0


@given(st.floats(min_value=1e-6, max_value=1e6))
@settings(deadline=None, max_examples=200)
def test_significant_digits_are_right_to_half_a_unit_of_the_third(value: float) -> None:
    shown = float(figures.significant(value).replace("×10", "e").translate(SUPERSCRIPT))
    assert (
        abs(shown - value) <= max(0.5 * 10 ** (math.floor(math.log10(value)) - 2), 0.5 * (100 <= value < 1e5)) * 1.0001
    )


def test_an_interval_needs_two_finite_bounds() -> None:
    assert figures.interval([2.051, 2.214]) == "2.05 to 2.21"
    assert figures.interval([1.0]) is None
    assert figures.interval([1.0, math.nan]) is None
    assert figures.interval(None) is None


def test_shapes_show_unknown_sides() -> None:
    assert figures.dimensions([1, None, 224]) == "1×?×224"
    assert figures.dimensions([]) == "scalar"
    assert figures.dimensions(None) == "unknown"

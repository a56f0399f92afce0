"""The cost model against hand arithmetic, and its MACs against those of the forms."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.planning.roofline import Machine, candidate_ms, dense_ms, steps
from sepconvert.separable.forms import FORMS, cost_of, lowerings
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.scheme import Scheme

# 2 in, 3 out, 3×3, stride 2, 8×6 → 4×3 positions.
STRIDED = ConvGeometry(2, 3, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)).at((8, 6))
LINE = ConvGeometry(2, 3, (5,), (2,), (1,), (2, 2)).at((10,))


@st.composite
def geometries(draw: st.DrawFn) -> ConvGeometry:
    axes = draw(st.sampled_from([1, 2]))
    kernel = tuple(draw(st.integers(1, 5)) for _ in range(axes))
    stride = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    pads = tuple(side // 2 for side in kernel)
    geometry = ConvGeometry(draw(st.integers(1, 9)), draw(st.integers(1, 9)), kernel, stride, (1,) * axes, pads * 2)
    return geometry.at(tuple(draw(st.integers(5, 12)) for _ in range(axes)))


@settings(deadline=None, max_examples=80)
@given(geometries(), st.sampled_from(sorted(FORMS)), st.integers(1, 4))
def test_the_steps_have_the_macs_that_the_form_counts(geometry: ConvGeometry, form: str, rank: int) -> None:
    for lowering in lowerings(form, rank):
        assert (
            sum(step.macs for step in steps(geometry, Scheme(form, rank, lowering)))
            == cost_of(form, geometry, rank).macs
        )


def test_a_compute_bound_convolution_takes_its_macs_at_the_peak() -> None:
    machine = Machine(macs_per_ms=100, depthwise_macs_per_ms=50, bytes_per_ms=1e9)
    assert dense_ms(STRIDED, machine=machine) == pytest.approx(2 * 3 * 9 * 12 / 100)
    # Depthwise 2·9·12 MACs at 50 per ms, pointwise 2·3·12 at 100.
    assert candidate_ms(STRIDED, Scheme("dw_pw", 1, "stacked"), machine=machine) == pytest.approx(216 / 50 + 72 / 100)


def test_a_memory_bound_convolution_takes_its_bytes_at_the_bandwidth() -> None:
    machine = Machine(macs_per_ms=1e12, depthwise_macs_per_ms=1e12, bytes_per_ms=4)
    assert dense_ms(STRIDED, machine=machine) == pytest.approx(2 * 48 + 3 * 12 + 54)
    assert dense_ms(STRIDED, "float16", machine) == pytest.approx((2 * 48 + 3 * 12 + 54) / 2)


def test_branches_read_the_input_once_each_and_pay_for_their_sums() -> None:
    machine = Machine(macs_per_ms=1e12, depthwise_macs_per_ms=1e12, bytes_per_ms=4)
    one = candidate_ms(STRIDED, Scheme("dw_pw", 1, "stacked"), machine=machine)
    assert candidate_ms(STRIDED, Scheme("dw_pw", 3, "branches"), machine=machine) == pytest.approx(
        3 * one + 2 * 3 * 3 * 12
    )


def test_the_first_spatial_factor_changes_one_axis_only() -> None:
    first, second = steps(STRIDED, Scheme("spatial", 4, "stacked"))
    # kw first costs 4·2·3·(8·3) + 4·3·3·12 = 1008, kh first 4·2·3·(4·6) + 432 = the same; kh is taken.
    assert (first.macs, second.macs) == (4 * 2 * 3 * 24, 4 * 3 * 3 * 12)
    assert first.values == 4 * 2 * 3 + 2 * 48 + 4 * 24


def test_a_line_is_taps_then_pointwise_or_the_other_way_round() -> None:
    first, second = steps(LINE, Scheme("spatial", 2, "stacked"))
    assert first.macs + second.macs == cost_of("spatial", LINE, 2).macs


def test_an_unknown_size_has_no_time() -> None:
    with pytest.raises(ValueError, match="spatial size"):
        dense_ms(STRIDED.at(None))

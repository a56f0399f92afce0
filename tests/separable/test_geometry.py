import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable.geometry import ConvGeometry, output_spatial, resolved_pads


def conv(auto_pad="NOTSET", pads=(0, 0, 0, 0), stride=(1, 1), dilation=(1, 1), kernel=(3, 3)):
    return ConvGeometry(4, 8, kernel, stride, dilation, pads, auto_pad)


@pytest.mark.parametrize(
    ("geometry", "size", "out"),
    [
        (conv(pads=(1, 1, 1, 1)), (14, 14), (14, 14)),
        (conv(pads=(1, 1, 1, 1), stride=(2, 2)), (14, 15), (7, 8)),
        (conv(pads=(0, 1, 2, 3), stride=(2, 3), dilation=(2, 1)), (11, 10), (5, 4)),
        (conv("VALID", stride=(2, 2)), (14, 15), (6, 7)),
        (conv("SAME_UPPER", stride=(2, 2)), (14, 15), (7, 8)),
        (conv("SAME_LOWER", stride=(3, 1), dilation=(1, 4)), (14, 15), (5, 15)),
        (conv("SAME_UPPER", stride=(4, 1), kernel=(1, 3)), (7, 7), (2, 7)),
        (conv(kernel=(5, 5)), (4, 8), (0, 4)),
    ],
)
def test_the_output_size_follows_onnx(geometry, size, out):
    assert output_spatial(geometry, size) == out
    assert geometry.at(size).out_spatial == out


@pytest.mark.parametrize(
    ("auto_pad", "pads"),
    [
        ("SAME_UPPER", (0, 1, 1, 1)),
        ("SAME_LOWER", (1, 1, 0, 1)),
        ("VALID", (0, 0, 0, 0)),
        ("NOTSET", (5, 6, 7, 8)),
    ],
)
def test_auto_pad_becomes_explicit_pads(auto_pad, pads):
    assert resolved_pads(conv(auto_pad, (5, 6, 7, 8), stride=(2, 2)), (14, 15)) == pads


def test_an_unknown_auto_pad_is_refused():
    with pytest.raises(ValueError, match="SAME_MIDDLE"):
        resolved_pads(conv("SAME_MIDDLE"), (14, 15))


def test_a_size_with_other_sides_than_the_kernel_is_refused():
    with pytest.raises(ValueError, match="2 sides"):
        output_spatial(conv(), (14,))


def test_the_dense_cost_is_weights_times_output_positions():
    assert conv(pads=(1, 1, 1, 1), stride=(2, 2)).at((14, 14)).dense_cost.macs == 8 * 4 * 9 * 49
    assert conv().dense_cost.macs is None


@settings(deadline=None, max_examples=100)
@given(
    size=st.integers(1, 40),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    dilation=st.integers(1, 3),
    begin=st.integers(0, 3),
    end=st.integers(0, 3),
)
def test_the_output_size_counts_the_windows_that_fit(size, kernel, stride, dilation, begin, end):
    geometry = ConvGeometry(1, 1, (kernel,), (stride,), (dilation,), (begin, end))
    reach = (kernel - 1) * dilation + 1
    starts = np.arange(-begin, size + end - reach + 1, stride)
    assert output_spatial(geometry, (size,)) == (len(starts),)

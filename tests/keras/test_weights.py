"""Factors against what Keras's own layers compute with them."""

import keras
import numpy as np
import pytest

import sepconvert
from sepconvert.errors import ModelError
from sepconvert.keras import separable_factors, separable_weights
from sepconvert.separable.dw_pw import assemble
from sepconvert.separable.factors import Factors
from sepconvert.separable.forms import draw, reconstruct
from sepconvert.separable.geometry import ConvGeometry

# Keras's torch backend says so of its own arrays.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
CHANNELS, OUTPUTS = 3, 5


def drawn(kernel: tuple[int, ...], rank: int) -> Factors:
    ones = (1,) * len(kernel)
    geometry = ConvGeometry(CHANNELS, OUTPUTS, kernel, ones, ones, (0,) * 2 * len(kernel))
    return draw("dw_pw", geometry, rank, np.random.default_rng(rank))


ASKED = [(1, 1), (2, 1), (1, 2)]


@pytest.mark.parametrize("rank", [1, 2, 3, 4])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("stride", "dilation"), ASKED)
@pytest.mark.parametrize("sides", [1, 2])
def test_a_separable_layer_of_keras_with_factors_as_weights_is_the_dense_layer_with_their_kernel(
    sides: int, stride: int, dilation: int, padding: str, rank: int
) -> None:
    factors = drawn((5, 4)[:sides], rank)
    words = {"strides": stride, "dilation_rate": dilation, "padding": padding, "use_bias": False}
    kinds = ("SeparableConv1D", "Conv1D") if sides == 1 else ("SeparableConv2D", "Conv2D")
    separable = getattr(keras.layers, kinds[0])(OUTPUTS, factors.kernel, depth_multiplier=rank, **words)
    dense = getattr(keras.layers, kinds[1])(OUTPUTS, factors.kernel, **words)
    x = np.random.default_rng(0).standard_normal((2, *(13, 12)[:sides], CHANNELS)).astype(np.float32)
    separable.build(x.shape)
    dense.build(x.shape)
    separable.set_weights(separable_weights(factors))
    dense.set_weights([np.moveaxis(reconstruct(factors), (0, 1), (-1, -2))])
    expected = keras.ops.convert_to_numpy(dense(x))
    difference = keras.ops.convert_to_numpy(separable(x)) - expected
    assert np.linalg.norm(difference) < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("kernel", [(5,), (3, 4)])
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_factors_come_back_from_weights_as_they_went(kernel: tuple[int, ...], rank: int) -> None:
    factors = drawn(kernel, rank)
    back = separable_factors(separable_weights(factors))
    assert (back.form, back.rank, back.kernel) == (factors.form, rank, kernel)
    for name, array in factors.arrays.items():
        np.testing.assert_array_equal(back.arrays[name], array)


def test_what_is_no_separable_layer_is_refused_in_a_sentence() -> None:
    with pytest.raises(ModelError, match="not the weights of a SeparableConv"):
        separable_factors([np.zeros((3, 3, 2, 1)), np.zeros((1, 1, 4, 5))])
    factors = assemble(np.ones((3, 1, 9)), np.ones((8, 3, 1)), (3, 3))
    other = Factors("pw_dw", factors.rank, factors.kernel, dict(factors.arrays))
    with pytest.raises(ModelError, match="--form dw-pw"):
        separable_weights(other)
    assert "keras" not in sepconvert.__all__

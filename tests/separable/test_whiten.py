import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sepconvert.separable.whiten import kronecker
from tests.separable.strategies import seeds

sides = st.integers(1, 5)


def positive(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    root = rng.standard_normal((size, 2 * size))
    return root @ root.T


@settings(deadline=None, max_examples=30)
@given(sides, sides, seeds)
def test_the_norm_of_a_whitened_kernel_is_its_output_error_where_the_moments_are_a_product(channels, taps, seed):
    rng = np.random.default_rng(seed)
    gram = np.kron(positive(rng, channels), positive(rng, taps))
    kernel = rng.standard_normal((3, channels, taps))
    flat = kernel.reshape(3, -1)
    expected = np.einsum("mi,ij,mj->m", flat, gram, flat)
    whitened = kronecker(gram, channels, taps).whiten(kernel)
    np.testing.assert_allclose((whitened**2).sum(axis=(1, 2)), expected, rtol=1e-6)


@settings(deadline=None, max_examples=30)
@given(sides, sides, seeds)
def test_blocks_of_single_channels_give_the_error_of_uncorrelated_channels(channels, taps, seed):
    rng = np.random.default_rng(seed)
    sizes, shared = rng.uniform(0.5, 2, channels), positive(rng, taps)
    kernel = rng.standard_normal((2, channels, taps))
    expected = np.einsum("c,mck,kl,mcl->m", sizes, kernel, shared, kernel)
    whitened = kronecker(sizes[:, None, None] * shared, channels, taps).whiten(kernel)
    np.testing.assert_allclose((whitened**2).sum(axis=(1, 2)), expected, rtol=1e-6)


def test_any_moments_give_factors_with_their_inverses():
    found = kronecker(positive(np.random.default_rng(0), 12), 4, 3)
    np.testing.assert_allclose(found.channels @ found.channels_inverse, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(found.taps @ found.taps_inverse, np.eye(3), atol=1e-9)


def test_white_inputs_leave_the_error_as_it_is():
    kernel = np.random.default_rng(1).standard_normal((2, 3, 4))
    whitened = kronecker(np.eye(12), 3, 4).whiten(kernel)
    assert float((whitened**2).sum()) == pytest.approx(float((kernel**2).sum()))

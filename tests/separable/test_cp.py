import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable.cp import PENALTY, Triplets, by_input, refine
from tests.separable.strategies import relative, seeds


def random_triplets(rng: np.random.Generator, shape: tuple[int, int, int], rank: int) -> Triplets:
    outputs, channels, taps = shape
    sizes = (outputs, rank), (rank, taps), (rank, channels)
    return Triplets(*(rng.standard_normal(size) for size in sizes))


@settings(deadline=None, max_examples=25)
@given(st.tuples(*[st.integers(1, 5)] * 3), st.integers(1, 4), seeds)
def test_more_rounds_are_never_worse_and_the_error_told_is_that_of_the_components(shape, rank, seed):
    rng = np.random.default_rng(seed)
    tensor = rng.standard_normal(shape)
    start, before = random_triplets(rng, shape, rank), np.inf
    for rounds in (1, 2, 5, 10):
        found = refine(tensor, start, rounds, tolerance=0.0)
        assert found.error <= before
        # The error comes from sums of products of about the tensor's energy.
        assert found.error == pytest.approx(relative(tensor, found.triplets.dense()), abs=1e-10)
        before = found.error


def test_components_of_equal_size_are_found_again_up_to_the_penalty():
    # Orthonormal in every mode: no other sum of three comes as close.
    true = Triplets(np.eye(6)[:, :3], np.eye(4)[:3], np.eye(5)[:3])
    rng = np.random.default_rng(0)
    noisy = Triplets(
        *(array + 0.1 * rng.standard_normal(array.shape) for array in (true.expand, true.depthwise, true.reduce))
    )
    found = refine(true.dense(), noisy, 50, tolerance=0.0)
    assert found.error <= PENALTY


def test_what_the_singular_values_of_each_input_start_is_improved():
    tensor = np.random.default_rng(1).standard_normal((8, 4, 9))
    start = by_input(tensor, 6)
    assert refine(tensor, start, 18).error < relative(tensor, start.dense())


def test_every_component_s_norm_is_shared_evenly():
    rng = np.random.default_rng(2)
    tensor = rng.standard_normal((5, 4, 3))
    found = refine(tensor, random_triplets(rng, tensor.shape, 2), 5).triplets
    norms = [
        np.linalg.norm(found.expand, axis=0),
        *(np.linalg.norm(a, axis=1) for a in (found.depthwise, found.reduce)),
    ]
    np.testing.assert_allclose(norms[1:], [norms[0]] * 2, rtol=1e-9)


def test_a_tensor_of_zeros_has_no_error():
    start = random_triplets(np.random.default_rng(3), (2, 3, 4), 1)
    assert refine(np.zeros((2, 3, 4)), start, 3).error == 0


def test_single_precision_stays_single_precision():
    rng = np.random.default_rng(4)
    found = refine(rng.standard_normal((4, 3, 2)).astype(np.float32), random_triplets(rng, (4, 3, 2), 2), 3).triplets
    assert {array.dtype for array in (found.expand, found.depthwise, found.reduce)} == {np.dtype(np.float32)}

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable.truncated import dropped_share, squared_singular_values, truncate
from tests.separable.strategies import seeds

sides = st.integers(1, 6)


@settings(deadline=None, max_examples=40)
@given(sides, sides, st.integers(1, 6), seeds)
def test_what_is_lost_is_the_dropped_squared_singular_values(rows, columns, rank, seed):
    matrices = np.random.default_rng(seed).standard_normal((3, rows, columns))
    rank = min(rank, rows, columns)
    halves = truncate(matrices, rank)
    lost = ((matrices - halves.left @ halves.right) ** 2).sum(axis=(1, 2))
    singular = np.linalg.svd(matrices, compute_uv=False)
    energy = float((matrices**2).sum())
    np.testing.assert_allclose(lost, (singular[:, rank:] ** 2).sum(axis=1), atol=1e-12 * energy)
    assert halves.energy == pytest.approx(energy - lost.sum(), abs=1e-12 * energy)


@settings(deadline=None, max_examples=20)
@given(sides, sides, seeds)
def test_the_two_halves_of_every_component_have_the_same_norm(rows, columns, seed):
    halves = truncate(np.random.default_rng(seed).standard_normal((2, rows, columns)), min(rows, columns))
    np.testing.assert_allclose(np.linalg.norm(halves.left, axis=1), np.linalg.norm(halves.right, axis=2), rtol=1e-9)


def test_matrices_of_zeros_lose_nothing_at_any_rank():
    halves = truncate(np.zeros((2, 3, 4)), 1)
    assert not (halves.left @ halves.right).any()
    assert dropped_share(np.zeros((2, 3))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("rank", [0, 4])
def test_a_rank_that_the_matrices_do_not_have_is_refused(rank):
    with pytest.raises(ValueError, match=rf"rank {rank} is outside 1\.\.3"):
        truncate(np.ones((1, 3, 5)), rank)


def test_the_dropped_share_counts_all_matrices_together():
    assert dropped_share(np.array([[4.0, 1.0], [2.0, 0.0]])).tolist() == [1 / 7, 0]


def test_squared_singular_values_are_those_of_the_svd_largest_first():
    matrices = np.random.default_rng(0).standard_normal((4, 3, 5)).astype(np.float32)
    expected = np.linalg.svd(matrices.astype(np.float64), compute_uv=False) ** 2
    # float32 eigenvalues of a Gram matrix are good to about 1e-6 of the largest.
    np.testing.assert_allclose(squared_singular_values(matrices), expected, atol=1e-6 * expected.max())

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable import moments
from sepconvert.separable.moments import MomentAccumulator, fits_budget, fitted_bias, full_bytes
from sepconvert.separable.patches import gather_outputs, gather_patches, sample_positions
from tests.separable.strategies import plain, seeds


def stream(rng, samples=6, channels=3, outputs=4, size=(8, 7), offset=0.0):
    """Correlated activations and outputs that do not follow from them exactly."""
    base = rng.standard_normal((samples, channels, *size))
    activations = np.cumsum(base, axis=1) + 0.5 * np.roll(base, 1, axis=2) + offset
    return activations, rng.standard_normal((samples, outputs, *size)) + activations[:, :1]


def accumulated(geometry, activations, outputs, positions, chunks=1, **options):
    accumulator = MomentAccumulator(geometry, **options)
    for part in np.array_split(np.arange(len(activations)), chunks):
        accumulator.add(activations[part], outputs[part], positions[part])
    return accumulator.moments()


@settings(deadline=None, max_examples=30)
@given(seed=seeds, chunks=st.integers(1, 4))
def test_moments_equal_those_of_all_patches_at_once(seed, chunks):
    rng = np.random.default_rng(seed)
    geometry = plain(3, 4, (3, 2))
    activations, outputs = stream(rng)
    positions = sample_positions(6, (8, 7), 20, rng)
    moments = accumulated(geometry, activations, outputs, positions, chunks)
    rows = gather_patches(activations, geometry, positions).reshape(120, -1)
    targets = gather_outputs(outputs, positions)
    joint = np.cov(np.hstack([rows, targets]), rowvar=False, bias=True)
    width = rows.shape[1]
    assert moments.count == 120
    np.testing.assert_allclose(moments.mean, rows.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(moments.target_mean, targets.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(moments.covariance, joint[:width, :width], atol=1e-11)
    np.testing.assert_allclose(moments.cross, joint[width:, :width], atol=1e-11)
    np.testing.assert_allclose(moments.target_variance, np.diag(joint)[width:], atol=1e-11)


def test_inputs_far_from_zero_lose_no_digits():
    geometry = plain(3, 4, (3, 3))
    geometry = geometry.__class__(3, 4, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0))
    near, outputs = stream(np.random.default_rng(0))
    positions = sample_positions(6, (6, 5), 20, np.random.default_rng(1))
    far = near + 2.0**20
    ours = accumulated(geometry, far, outputs[:, :, :6, :5], positions)
    same = accumulated(geometry, near, outputs[:, :, :6, :5], positions)
    # float64 holds 2^20 + x with an error of 2^-33; uncentred sums of squares (2^40) would lose everything below 2^-12.
    np.testing.assert_allclose(ours.covariance, same.covariance, atol=1e-7)


def test_nor_do_they_where_products_are_taken_in_float32(monkeypatch):
    monkeypatch.setattr(moments, "FLOAT32_FROM", 1)
    geometry = plain(3, 4, (3, 3)).__class__(3, 4, (3, 3), (1, 1), (1, 1), (0, 0, 0, 0))
    near, outputs = stream(np.random.default_rng(0))
    positions = sample_positions(6, (6, 5), 20, np.random.default_rng(1))
    ours = accumulated(geometry, near + 2.0**20, outputs[:, :, :6, :5], positions)
    same = accumulated(geometry, near, outputs[:, :, :6, :5], positions)
    # float32 holds 2^20 + x with an error of 2^-5, and x alone with 2^-24 of it.
    np.testing.assert_allclose(ours.covariance, same.covariance, atol=1e-5)


def test_above_the_memory_budget_only_blocks_are_kept_and_it_says_so():
    rng = np.random.default_rng(0)
    geometry = plain(3, 4, (3, 2))
    activations, outputs = stream(rng)
    positions = sample_positions(6, (8, 7), 20, rng)
    full = accumulated(geometry, activations, outputs, positions)
    budget = full_bytes(geometry) - 1
    assert not fits_budget(geometry, budget)
    blocks = accumulated(geometry, activations, outputs, positions, memory_budget=budget)
    assert blocks.per_channel
    assert not full.per_channel
    assert blocks.cross is None
    assert "input channels were left out" in blocks.note
    assert full.note is None
    for channel in range(3):
        own = slice(6 * channel, 6 * channel + 6)
        np.testing.assert_allclose(blocks.covariance[channel], full.covariance[own, own], atol=1e-11)


def test_wide_patches_are_accumulated_in_float32_blocks_to_float32_accuracy():
    rng = np.random.default_rng(0)
    geometry = plain(64, 4, (3, 3))
    activations, outputs = stream(rng, samples=8, channels=64, size=(9, 9), offset=3.0)
    activations, outputs = activations.astype(np.float32), outputs.astype(np.float32)
    positions = sample_positions(8, (9, 9), 81, rng)
    moments = accumulated(geometry, activations, outputs, positions, 3)
    rows = gather_patches(activations, geometry, positions).reshape(8 * 81, -1).astype(np.float64)
    expected = np.cov(rows, rowvar=False, bias=True)
    # Blocks of a few hundred products: relative to the variances, √n·2^-24 at most.
    scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
    assert np.max(np.abs(moments.covariance - expected) / scale) < np.sqrt(8 * 81) * 2.0**-24


def test_the_fitted_bias_makes_the_means_agree():
    rng = np.random.default_rng(0)
    geometry = plain(3, 4, (3, 2))
    activations, outputs = stream(rng)
    positions = sample_positions(6, (8, 7), 56, rng)
    moments = accumulated(geometry, activations, outputs, positions)
    kernel = rng.standard_normal(geometry.weight_shape)
    rows = gather_patches(activations, geometry, positions).reshape(6 * 56, -1)
    predicted = rows @ kernel.reshape(4, -1).T + fitted_bias(moments, kernel)
    np.testing.assert_allclose(predicted.mean(axis=0), gather_outputs(outputs, positions).mean(axis=0), atol=1e-10)


def test_no_patches_have_no_moments():
    with pytest.raises(ValueError, match="no patch"):
        MomentAccumulator(plain(3, 4, (3,))).moments()

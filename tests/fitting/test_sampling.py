"""Moments and judgements in which the mean of an input's positions counts on top."""

from pathlib import Path

import numpy as np
import pytest

from sepconvert.fitting.sampling import Seen, SiteSample
from sepconvert.graph.heads import answers_per_input
from sepconvert.graph.load import load_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.separable.geometry import ConvGeometry
from tests.fitting.nets import plain_chain

GEOMETRY = ConvGeometry(3, 4, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), in_spatial=(6, 5), out_spatial=(6, 5))
INPUTS = 7


def sample(coherent: float, *, heldout: bool) -> SiteSample:
    rng = np.random.default_rng(1)
    found = SiteSample(GEOMETRY, 1 << 30, coherent)
    for inputs in (INPUTS - 2, 2):
        x, y = rng.standard_normal((inputs, 3, 6, 5)) + 1, rng.standard_normal((inputs, 4, 6, 5)) - 2
        found.add(Seen(x, GEOMETRY), y, 30 * inputs, rng, heldout=heldout)
    return found


def judged(coherent: float, kernel: np.ndarray, bias: np.ndarray) -> float:
    error = sample(coherent, heldout=True).judge(np.array([1.0, 2.0, 0.5, 1.0])).error(kernel, bias)
    assert error is not None
    return error


@pytest.mark.parametrize("coherent", [0.0, 5.0])
def test_inputs_share_the_error(coherent: float) -> None:
    rng = np.random.default_rng(0)
    kernel, bias, scale = rng.standard_normal((4, 3, 3, 3)), rng.standard_normal(4), np.array([1.0, 2.0, 0.5, 1.0])
    judge = sample(coherent, heldout=True).judge(scale)
    shares = judge.errors(kernel, bias)
    assert shares is not None
    assert shares.shape == (INPUTS,)
    wrong = (judge.outputs - judge.patches.reshape(-1, 27) @ kernel.reshape(4, -1).T - bias) * scale
    centred = (judge.outputs - judge.outputs.mean(axis=0)) * scale

    def squares(rows: np.ndarray) -> np.ndarray:
        each = rows.reshape(INPUTS, 30, 4)
        return (each**2).sum(axis=(1, 2)) + coherent * 30 * (each.mean(axis=1) ** 2).sum(axis=1)

    np.testing.assert_allclose(shares, squares(wrong) / squares(centred).sum(), rtol=1e-10)
    assert judge.error(kernel, bias) == pytest.approx(shares.sum())


def test_the_moments_are_those_of_positions_and_of_the_inputs_means() -> None:
    plain, stressed = (sample(weight, heldout=False).moments()[0] for weight in (0.0, 5.0))
    judge = sample(0.0, heldout=True).judge(np.ones(4))
    means = judge.patches.reshape(INPUTS, 30, -1).mean(axis=1)
    outputs = judge.outputs.reshape(INPUTS, 30, -1).mean(axis=1)
    between = np.cov(np.hstack([means, outputs]).T, bias=True)
    np.testing.assert_allclose(stressed.covariance - plain.covariance, 5 * between[:27, :27], atol=1e-12)
    np.testing.assert_allclose(stressed.cross - plain.cross, 5 * between[27:, :27], atol=1e-12)
    np.testing.assert_allclose(
        stressed.target_variance - plain.target_variance, 5 * between.diagonal()[27:], atol=1e-12
    )
    np.testing.assert_array_equal(stressed.mean, plain.mean)


def test_held_out_inputs_join_the_moments_with_their_means() -> None:
    (direct,), (joined,) = sample(5.0, heldout=False).moments(), sample(5.0, heldout=True).all_moments()
    np.testing.assert_allclose(joined.covariance, direct.covariance, atol=1e-12)
    np.testing.assert_allclose(joined.cross, direct.cross, atol=1e-12)


def test_a_bias_that_is_off_costs_what_it_adds_to_positions_and_means() -> None:
    kernel, bias = np.zeros((4, 3, 3, 3)), np.zeros(4)
    outputs = sample(0.0, heldout=True).judge(np.ones(4)).outputs * np.array([1.0, 2.0, 0.5, 1.0])
    means = outputs.reshape(INPUTS, 30, 4).mean(axis=1)
    spread = np.square(outputs - outputs.mean(axis=0)).sum() + 5 * 30 * np.square(means - means.mean(axis=0)).sum()
    expected = (np.square(outputs).sum() + 5 * 30 * np.square(means).sum()) / spread
    assert judged(5.0, kernel, bias) == pytest.approx(expected, rel=1e-12)


def test_outputs_with_positions_are_told_from_answers_per_input(sample_models_dir: Path) -> None:
    classifier, edges = load_model(sample_models_dir / "fashion_resnet.onnx"), plain_chain(2)
    assert answers_per_input(classifier, infer_shapes(classifier))
    assert not answers_per_input(edges, infer_shapes(edges))

"""The products that searches save work on are those that are written plainly."""

import numpy as np
import pytest

from sepconvert.separable.search import (
    PENALTY,
    Eliminated,
    eliminate,
    penalised,
)


@pytest.mark.parametrize("outputs", [3, 9, 40])
@pytest.mark.parametrize("rounding", [0.0, 0.01])
def test_the_slope_is_the_same_whether_outputs_or_features_are_more(outputs: int, rounding: float) -> None:
    rng = np.random.default_rng(outputs)
    features, target = rng.standard_normal((9, 20)), rng.standard_normal((outputs, 20))
    last = rng.standard_normal((outputs, 9))
    found = Eliminated(last, 0.0).slope(features, target, rounding)
    plain = penalised(last.T @ last, rounding) @ features - last.T @ target
    np.testing.assert_allclose(found, plain, rtol=1e-12, atol=1e-12)


def test_the_slope_of_the_last_factor_that_is_best_is_the_gradient_of_what_it_captures() -> None:
    """By differences, in float64: features move, the best last factor moves with them."""
    rng = np.random.default_rng(0)
    root, weight = rng.standard_normal((20, 20)), rng.standard_normal((4, 20))
    gram, rows, direction = root @ root.T, rng.standard_normal((9, 20)), rng.standard_normal((9, 20))

    def solved(step: float) -> Eliminated:
        moved = rows + step * direction
        return eliminate(moved @ gram @ moved.T, weight @ gram @ moved.T)

    step = 1e-5
    by_differences = -(solved(step).captured - solved(-step).captured) / (2 * step)
    slope = 2 * float(np.vdot(solved(0.0).slope(rows @ gram, weight @ gram, 0.0), direction))
    assert slope == pytest.approx(by_differences, rel=100 * PENALTY)

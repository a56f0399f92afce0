from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable.descent import Value, descend
from tests.separable.strategies import seeds


class Counted:
    """A function that remembers where it was asked."""

    def __init__(self, function: Callable[[np.ndarray], Value]) -> None:
        self.function, self.asked = function, 0

    def __call__(self, point: np.ndarray) -> Value:
        self.asked += 1
        return self.function(point)


def bowl(hessian: np.ndarray, centre: np.ndarray) -> Counted:
    """½ (x−c)ᵀ H (x−c)."""
    return Counted(lambda x: Value(float((x - centre) @ hessian @ (x - centre)) / 2, hessian @ (x - centre)))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(1, 40), seeds)
def test_values_only_fall_and_no_more_evaluations_are_made_than_allowed(size, evaluations, seed):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((size, size)) + np.eye(size)
    function = bowl(root @ root.T, rng.standard_normal(size))
    found = descend(function, np.zeros(size), evaluations)
    assert function.asked == found.evaluations <= evaluations
    assert all(later < earlier for earlier, later in zip(found.history, found.history[1:], strict=False))
    assert function(found.point).value == found.history[-1]


def test_the_bottom_of_a_bowl_is_found_whatever_its_scale():
    centre = np.array([1.0, -2.0, 3.0])
    for scale in (1e-6, 1.0, 1e6):
        found = descend(bowl(scale * np.diag([1.0, 10.0, 100.0]), centre), np.zeros(3), 100, tolerance=1e-12)
        np.testing.assert_allclose(found.point, centre, atol=1e-4)


def test_a_curved_valley_is_followed_to_its_end():
    def rosenbrock(x: np.ndarray) -> Value:
        a, b = 1 - x[0], x[1] - x[0] ** 2
        return Value(float(a * a + 100 * b * b), np.array([-2 * a - 400 * x[0] * b, 200 * b]))

    found = descend(rosenbrock, np.array([-1.2, 1.0]), 200, tolerance=0)
    np.testing.assert_allclose(found.point, [1, 1], atol=1e-4)


def test_a_start_at_the_bottom_is_the_answer_after_one_evaluation():
    function = bowl(np.eye(2), np.ones(2))
    found = descend(function, np.ones(2), 50)
    assert (found.evaluations, found.history) == (1, (0.0,))
    assert function.asked == 1


def test_what_is_known_at_the_start_is_counted_but_not_computed_again():
    function = bowl(np.eye(2), np.ones(2))
    here = function(np.zeros(2))
    found = descend(function, np.zeros(2), 5, here=here)
    assert function.asked == found.evaluations
    assert found.history[0] == here.value


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_steps_into_a_wall_are_shortened(value):
    def walled(x: np.ndarray) -> Value:
        return Value(value if x[0] > 1 else -float(x[0]), np.array([-1.0]))

    # The first step is the one that a cone with this bound would take: far behind the wall.
    found = descend(walled, np.zeros(1), 100, bound=-10.0)
    assert 0 < found.point[0] <= 1
    assert np.isfinite(found.history).all()


def test_where_nothing_is_lower_the_start_comes_back():
    start = np.zeros(2)
    found = descend(lambda x: Value(float(np.abs(x).sum()), np.ones(2)), start, 30, bound=-1.0)
    assert found.point is start
    assert found.history == (0.0,)

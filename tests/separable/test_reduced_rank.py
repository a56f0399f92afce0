"""The closed optimum of a matrix of low rank under moments, against other ways to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable import conv_pw, pw_conv_pw, reduced_rank
from sepconvert.separable.definite import cholesky
from sepconvert.separable.fitted import fit
from sepconvert.separable.forms import reconstruct
from sepconvert.separable.problem import Problem, make_problem
from sepconvert.separable.reduced_rank import regressions
from tests.separable.strategies import plain, relative, seeds, weight_of
from tests.separable.test_fitted import ROUNDING, cases, moments_for, rank_between


def whitened_spectrum(problem: Problem) -> np.ndarray:
    """σ² of W* in coordinates in which the error is a plain norm."""
    weight = problem.weight.reshape(len(problem.original), -1)
    return np.linalg.svd(weight @ cholesky(problem.gram), compute_uv=False) ** 2


@settings(deadline=None, max_examples=60)
@given(case=cases(), data=st.data(), asymmetric=st.booleans())
def test_a_fit_loses_the_dropped_singular_values_of_the_whitened_kernel_and_no_more(case, data, asymmetric):
    geometry, weight, moments = case
    problem = make_problem(moments, weight, geometry, 1e-3, asymmetric=asymmetric)
    rank = rank_between(data, "conv_pw", geometry)
    least = (problem.floor + whitened_spectrum(problem)[rank:].sum()) / problem.energy
    assert fit(problem, "conv_pw", rank).error == pytest.approx(least, rel=1e-6, abs=ROUNDING)


@settings(deadline=None, max_examples=40)
@given(seed=seeds, outputs=st.integers(1, 12), width=st.integers(1, 12))
def test_both_eigenproblems_give_the_same_matrices_of_every_rank(seed, outputs, width):
    rng = np.random.default_rng(seed)
    weight, mixing = rng.standard_normal((outputs, width)), rng.standard_normal((width, width + 2))
    gram = mixing @ mixing.T
    one, two = regressions(weight, weight @ gram, None), reduced_rank._by_inputs(weight @ gram, gram)
    for rank in range(1, min(outputs, width) + 1):
        made, same = (halves.left[0, :, :rank] @ halves.right[0, :rank] for halves in (one, two))
        # The matrices' condition is squared: 1e4 for these sizes, seldom more.
        assert relative(made, same) < 1e-10
    np.testing.assert_allclose(made, weight if outputs <= width else made, atol=1e-9)


def test_one_decomposition_serves_all_ranks(monkeypatch):
    geometry, rng = plain(6, 8, (3, 3)), np.random.default_rng(0)
    problem = make_problem(moments_for(geometry, rng), weight_of(geometry, rng), geometry, 1e-3)
    made = []
    plainly = conv_pw.regressions
    monkeypatch.setattr(conv_pw, "regressions", lambda *given: made.append(1) or plainly(*given))
    found = [conv_pw.optimum(problem, rank) for rank in (2, 5, 7)]
    assert made == [1]
    for name, axis in conv_pw.COMPONENT_AXES.items():
        assert np.array_equal(np.take(found[2].arrays[name], range(5), axis=axis), found[1].arrays[name])


@settings(deadline=None, max_examples=40)
@given(case=cases(), data=st.data())
def test_with_the_inputs_fixed_core_and_expand_cannot_be_bettered(case, data):
    geometry, weight, moments = case
    problem = make_problem(moments, weight, geometry, 1e-3)
    rank = rank_between(data, "pw_conv_pw", geometry)
    for search in pw_conv_pw.search(problem, rank):
        factors = search.starts()[0]
        error = problem.scaled_error(reconstruct(factors).reshape(problem.original.shape))
        known = search.evaluate(search.point(factors)).value
        # The features' ridge costs at most its share of what they give.
        assert known == pytest.approx(error, rel=1e-4, abs=1e-5)
        rng = np.random.default_rng(0)
        for name in ("core", "expand"):
            array = factors.arrays[name]
            moved = array + 1e-2 * array.std() * rng.standard_normal(array.shape)
            other = type(factors)(factors.form, rank, factors.kernel, {**factors.arrays, name: moved})
            assert problem.scaled_error(reconstruct(other).reshape(problem.original.shape)) >= error - 1e-5


def test_a_fit_of_two_projections_starts_close_to_where_it_ends():
    geometry, rng = plain(12, 16, (3, 3)), np.random.default_rng(0)
    problem = make_problem(moments_for(geometry, rng), weight_of(geometry, rng), geometry, 1e-3)
    for rank in (4, 8):
        fitted = fit(problem, "pw_conv_pw", rank)
        assert fitted.error <= fitted.history[0] <= 1.2 * fitted.error
        assert all(later <= earlier for earlier, later in zip(fitted.history, fitted.history[1:], strict=False))

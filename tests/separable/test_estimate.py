import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable.estimate import estimate_errors, leading
from sepconvert.separable.fitted import fit
from sepconvert.separable.forms import FORMS
from sepconvert.separable.problem import make_problem
from sepconvert.separable.ranks import max_useful_rank
from tests.separable.strategies import plain, seeds, weight_of
from tests.separable.test_fitted import cases, moments_of, patches_for

forms = st.sampled_from(sorted(FORMS))


@settings(deadline=None, max_examples=40)
@given(form=forms, case=cases(), seed=seeds)
def test_estimated_errors_are_finite_and_do_not_rise_with_rank(form, case, seed):
    geometry, weight, moments = case
    full = FORMS[form].full_rank(geometry)
    ranks = sorted(set(np.random.default_rng(seed).integers(1, full + 1, 5).tolist()))
    problem = make_problem(moments, weight, geometry, 1e-2)
    errors = estimate_errors(problem, form, ranks)
    assert errors.shape == (len(ranks),)
    assert np.isfinite(errors).all()
    assert np.all(np.diff(errors) <= 0)
    assert np.all(errors >= 0)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_estimates_are_close_to_full_fits(form):
    # 144 output channels: more than an estimate of independent ones looks at.
    geometry = plain(12, 144, (3, 3))
    rng = np.random.default_rng(0)
    rows, weight = patches_for(geometry, rng, 2000), weight_of(geometry, rng)
    problem = make_problem(moments_of(rows, rows @ weight.reshape(144, -1).T), weight, geometry, 1e-2)
    most = max_useful_rank(form, geometry)
    ranks = sorted({max(1, most // 5), max(1, most // 3), max(1, most // 2)})
    estimates = estimate_errors(problem, form, ranks)
    fitted = np.array([fit(problem, form, rank).error for rank in ranks])
    # Made for choosing ranks: neighbouring ranks' errors differ by factors of 2 and more.
    assert np.all(np.abs(np.log(estimates / fitted)) < np.log(2))


def test_leading_components_of_a_truncated_decomposition_are_that_of_the_lower_rank():
    geometry = plain(5, 6, (3, 3))
    weight = weight_of(geometry, np.random.default_rng(0))
    for form in ("dw_pw", "pw_dw", "spatial"):
        high, low = (FORMS[form].factorise(weight, rank, geometry, np.random.default_rng(0)) for rank in (4, 2))
        np.testing.assert_allclose(leading(high, 2).reconstruct(), low.reconstruct(), atol=1e-12)

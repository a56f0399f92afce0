import gc
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable import problem as problem_module
from sepconvert.separable.fitted import at_ridges, default_evaluations, estimate, fit, improve
from sepconvert.separable.forms import FORMS, cost_of, reconstruct
from sepconvert.separable.moments import PatchMoments
from sepconvert.separable.problem import make_problem
from tests.separable.strategies import kernels, plain, relative, seeds, weight_of

forms = st.sampled_from(sorted(FORMS))
ROUNDING = 1e-9


@st.composite
def cases(draw, largest=8):
    geometry = plain(draw(st.integers(1, largest)), draw(st.integers(1, largest)), draw(kernels))
    rng = np.random.default_rng(draw(seeds))
    return geometry, weight_of(geometry, rng), moments_for(geometry, rng)


def patches_for(geometry, rng, count=400):
    """Patches whose terms are correlated across channels and taps, with a decaying spectrum."""
    width = geometry.in_channels * geometry.taps
    mixing = rng.standard_normal((width, width)) * np.exp(-3 * np.arange(width)[:, None] / width)
    return rng.standard_normal((count, width)) @ mixing + rng.standard_normal(width)


def moments_of(rows, targets):
    centred, outputs = rows - rows.mean(axis=0), targets - targets.mean(axis=0)
    return PatchMoments(
        len(rows),
        rows.mean(axis=0),
        centred.T @ centred / len(rows),
        targets.mean(axis=0),
        outputs.T @ centred / len(rows),
        outputs.var(axis=0),
    )


def moments_for(geometry, rng):
    """Moments of a stream whose inputs were disturbed by earlier rewrites."""
    rows = patches_for(geometry, rng)
    weight = weight_of(geometry, np.random.default_rng(0)).reshape(geometry.out_channels, -1)
    targets = rows @ weight.T
    return moments_of(rows + 0.05 * rng.standard_normal(rows.shape) * rows.std(axis=0), targets)


def rank_between(data, form, geometry):
    return data.draw(st.integers(1, FORMS[form].full_rank(geometry)), label="rank")


@settings(deadline=None, max_examples=60)
@given(form=forms, case=cases(), data=st.data(), asymmetric=st.booleans())
def test_a_fit_is_never_worse_than_the_data_free_factors_under_its_problem(form, case, data, asymmetric):
    geometry, weight, moments = case
    problem = make_problem(moments, weight, geometry, 1e-3, asymmetric=asymmetric)
    rank = rank_between(data, form, geometry)
    fitted = fit(problem, form, rank)
    free = FORMS[form].factorise(weight, rank, geometry, np.random.default_rng(0))
    assert fitted.error <= problem.error(reconstruct(free)) * (1 + ROUNDING) + ROUNDING
    assert fitted.error == pytest.approx(problem.error(reconstruct(fitted.factors)))
    assert fitted.factors.params == cost_of(form, geometry, rank).params
    assert all(later <= earlier for earlier, later in zip(fitted.history, fitted.history[1:], strict=False))


@settings(deadline=None, max_examples=30)
@given(form=forms, case=cases(), data=st.data())
def test_an_improved_fit_is_never_worse_than_the_factors_it_starts_from(form, case, data):
    geometry, weight, moments = case
    rank = rank_between(data, form, geometry)
    short = fit(make_problem(moments, weight, geometry, 1e-2), form, rank, evaluations=3)
    problem = make_problem(moments, weight, geometry, 1e-3)
    before = problem.error(reconstruct(short.factors))
    assert improve(problem, short.factors).error <= before * (1 + ROUNDING) + ROUNDING


@settings(deadline=None, max_examples=40)
@given(case=cases(), share=st.sampled_from([1e-2, 0.5, 1.0, 30.0]), asymmetric=st.booleans())
def test_a_problem_moved_to_another_ridge_is_the_problem_made_there(case, share, asymmetric):
    geometry, weight, moments = case
    moved = make_problem(moments, weight, geometry, 1e-2, asymmetric=asymmetric).at_ridge(share)
    made = make_problem(moments, weight, geometry, share * 1e-2, asymmetric=asymmetric)
    assert relative(moved.gram, made.gram) < ROUNDING
    assert relative(moved.target, made.target) < ROUNDING
    assert moved.zero_objective == pytest.approx(made.zero_objective, rel=ROUNDING)
    assert moved.energy == pytest.approx(made.energy, rel=ROUNDING)


@settings(deadline=None, max_examples=60)
@given(form=forms, case=cases(), data=st.data(), share=st.sampled_from([1e-2, 0.3, 1.0, 30.0]))
def test_factors_carried_to_another_ridge_are_no_worse_there_than_as_they_were(form, case, data, share):
    geometry, weight, moments = case
    problem = make_problem(moments, weight, geometry, 1e-2)
    made = fit(problem, form, rank_between(data, form, geometry), evaluations=3).factors
    there = problem.at_ridge(share)
    before = there.error(reconstruct(made))
    assert there.error(reconstruct(at_ridges(problem, made)(share))) <= before * (1 + 1e-4) + ROUNDING


@settings(deadline=None, max_examples=40)
@given(form=forms, case=cases())
def test_full_rank_returns_the_least_squares_kernel_without_iterating(form, case):
    geometry, weight, moments = case
    problem = make_problem(moments, weight, geometry, 1e-3)
    fitted = fit(problem, form, FORMS[form].full_rank(geometry))
    assert fitted.evaluations == 0
    assert relative(problem.weight.reshape(weight.shape), reconstruct(fitted.factors)) < 1e-20


@settings(deadline=None, max_examples=30)
@given(form=forms, case=cases(), data=st.data())
def test_the_same_problem_gives_the_same_factors(form, case, data):
    geometry, weight, moments = case
    problem = make_problem(moments, weight, geometry, 1e-3)
    rank = rank_between(data, form, geometry)
    one, two = (fit(problem, form, rank).factors for _ in range(2))
    assert all(np.array_equal(one.arrays[name], two.arrays[name]) for name in one.arrays)


def permuted(moments, outputs=None, inputs=None, taps=1):
    """The moments of a convolution with its channels in another order."""
    rows = slice(None) if outputs is None else outputs
    width = len(moments.mean)
    columns = np.arange(width) if inputs is None else np.arange(width).reshape(-1, taps)[inputs].ravel()
    return PatchMoments(
        moments.count,
        moments.mean[columns],
        moments.covariance[np.ix_(columns, columns)],
        moments.target_mean[rows],
        moments.cross[rows][:, columns],
        moments.target_variance[rows],
    )


@settings(deadline=None, max_examples=40)
@given(form=forms, case=cases(), data=st.data())
def test_permuting_output_channels_permutes_the_kernel(form, case, data):
    geometry, weight, moments = case
    order = np.random.default_rng(1).permutation(geometry.out_channels)
    rank = rank_between(data, form, geometry)
    one = fit(make_problem(moments, weight, geometry, 1e-2), form, rank, evaluations=8)
    two = fit(make_problem(permuted(moments, outputs=order), weight[order], geometry, 1e-2), form, rank, evaluations=8)
    assert two.error == pytest.approx(one.error, rel=1e-6, abs=1e-9)
    assert relative(reconstruct(one.factors)[order], reconstruct(two.factors)) < 1e-9


@settings(deadline=None, max_examples=40)
@given(form=forms, case=cases(), data=st.data())
def test_permuting_input_channels_hardly_changes_the_error(form, case, data):
    geometry, weight, moments = case
    order = np.random.default_rng(1).permutation(geometry.in_channels)
    rank = rank_between(data, form, geometry)
    one = fit(make_problem(moments, weight, geometry, 1e-2), form, rank)
    other = permuted(moments, inputs=order, taps=geometry.taps)
    two = fit(make_problem(other, weight[:, order], geometry, 1e-2), form, rank)
    assert two.error == pytest.approx(one.error, rel=0.01, abs=1e-9)


@settings(deadline=None, max_examples=40)
@given(form=forms, case=cases(), data=st.data(), exponent=st.integers(-6, 6))
def test_scaling_the_input_by_a_constant_leaves_the_kernel_unchanged(form, case, data, exponent):
    geometry, weight, moments = case
    factor = 10.0**exponent
    # The target is W x, so it scales with the input.
    scaled = PatchMoments(
        moments.count,
        moments.mean * factor,
        moments.covariance * factor**2,
        moments.target_mean * factor,
        moments.cross * factor**2,
        moments.target_variance * factor**2,
    )
    rank = rank_between(data, form, geometry)
    one, two = (fit(make_problem(m, weight, geometry, 1e-2), form, rank, evaluations=8) for m in (moments, scaled))
    assert relative(reconstruct(one.factors), reconstruct(two.factors)) < 1e-9


@settings(deadline=None, max_examples=40)
@given(form=forms, case=cases(), data=st.data())
def test_a_problem_with_rounding_is_the_one_that_was_made_with_it(form, case, data):
    geometry, weight, moments = case
    rank = rank_between(data, form, geometry)
    made, asked = (make_problem(moments, weight, geometry, 1e-2, rounding=noise) for noise in (0.1, 0.0))
    fit(asked, form, rank)  # what is known of it is taken over
    later = asked.with_rounding(0.1)
    assert (asked.rounding, later.rounding) == (0.0, 0.1)
    found = [fit(problem, form, rank).factors for problem in (made, later)]
    for name, array in found[0].arrays.items():
        np.testing.assert_array_equal(array, found[1].arrays[name])


@settings(deadline=None, max_examples=40)
@given(form=forms, case=cases(), data=st.data(), rounding=st.sampled_from([0.0, 1e-3, 0.1]))
def test_the_gradient_of_every_search_is_the_slope_of_its_value(form, case, data, rounding):
    geometry, weight, moments = case
    problem = make_problem(moments, weight, geometry, 1e-2, rounding=rounding)
    rank = rank_between(data, form, geometry)
    for search in FORMS[form].search(problem, rank):
        for start in search.starts():
            point = search.point(start)
            rng = np.random.default_rng(0)
            direction = rng.standard_normal(point.size) * np.linalg.norm(point) / np.sqrt(point.size)
            step = 1e-6
            rise = search.evaluate(point + step * direction).value - search.evaluate(point - step * direction).value
            slope = float(search.evaluate(point).gradient @ direction)
            scale = np.linalg.norm(search.evaluate(point).gradient) * np.linalg.norm(direction)
            assert rise / (2 * step) == pytest.approx(slope, abs=1e-3 * scale + 1e-7)


@settings(deadline=None, max_examples=40)
@given(form=forms, case=cases(), data=st.data())
def test_a_scaled_start_is_known_without_solving_it_again(form, case, data):
    geometry, weight, moments = case
    problem = make_problem(moments, weight, geometry, 1e-2)
    for search in FORMS[form].search(problem, rank_between(data, form, geometry)):
        for start in search.starts():
            point = search.point(start)
            known, solved = search.evaluate(point), search.evaluate(point.copy())
            assert known.value == pytest.approx(solved.value, rel=1e-6, abs=1e-9)
            np.testing.assert_allclose(
                known.gradient, solved.gradient, atol=1e-6 * np.abs(solved.gradient).max() + 1e-9
            )


def test_the_moments_are_whitened_once_for_all_forms_and_ranks(monkeypatch):
    geometry, rng = plain(6, 8, (3, 3)), np.random.default_rng(0)
    problem = make_problem(moments_for(geometry, rng), weight_of(geometry, rng), geometry, 1e-3)
    made, plainly = [], problem_module.kronecker
    monkeypatch.setattr(problem_module, "kronecker", lambda *given: made.append(1) or plainly(*given))
    for form in FORMS:
        for rank in (1, 2):
            estimate(problem, form, rank, 1)
    assert made == [1]


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_fit_leaves_no_matrices_to_the_garbage_collector(form):
    geometry = plain(6, 8, (3, 3))
    rng = np.random.default_rng(0)
    problem = make_problem(moments_for(geometry, rng), weight_of(geometry, rng), geometry, 1e-3)
    gc.collect()
    gc.disable()
    try:
        made = at_ridges(problem, fit(problem, form, 2).factors)(0.1)
        freed = weakref.ref(problem)
        del problem
        assert made.rank == 2
        assert freed() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("form", sorted(FORMS))
def test_an_estimate_from_the_moments_alone_is_close_to_a_fit(form):
    geometry = plain(12, 16, (3, 3))
    rng = np.random.default_rng(0)
    problem = make_problem(moments_for(geometry, rng), weight_of(geometry, rng), geometry, 1e-3)
    for rank in (2, 4):
        error = problem.error(reconstruct(estimate(problem, form, rank, 30)))
        assert error <= 1.1 * fit(problem, form, rank, evaluations=30).error
    full = FORMS[form].full_rank(geometry)
    exact = reconstruct(estimate(problem, form, full, 30))
    assert problem.error(exact) == pytest.approx(fit(problem, form, full).error)


@settings(deadline=None, max_examples=40)
@given(form=forms, case=cases(), data=st.data())
def test_with_per_channel_moments_fits_keep_their_promises(form, case, data):
    geometry, weight, moments = case
    taps = geometry.taps
    blocks = np.stack(
        [moments.covariance[c * taps : (c + 1) * taps, c * taps : (c + 1) * taps] for c in range(geometry.in_channels)]
    )
    known = PatchMoments(
        moments.count, moments.mean, blocks, moments.target_mean, None, moments.target_variance, "approximate"
    )
    problem = make_problem(known, weight, geometry, 1e-3)
    full = np.zeros_like(moments.covariance)
    for c, block in enumerate(blocks):
        full[c * taps : (c + 1) * taps, c * taps : (c + 1) * taps] = block
    rank = rank_between(data, form, geometry)
    fitted = fit(problem, form, rank)
    free = FORMS[form].factorise(weight, rank, geometry, np.random.default_rng(0))
    assert fitted.error <= problem.error(reconstruct(free)) * (1 + ROUNDING) + ROUNDING
    dense = PatchMoments(moments.count, moments.mean, full, moments.target_mean, moments.cross, moments.target_variance)
    same = make_problem(dense, weight, geometry, 1e-3, asymmetric=False)
    assert fitted.error == pytest.approx(same.error(reconstruct(fitted.factors)), rel=1e-6, abs=1e-9)


def test_the_dense_kernel_of_an_asymmetric_problem_is_the_least_squares_solution():
    geometry = plain(4, 6, (3, 3))
    rng = np.random.default_rng(0)
    rows = patches_for(geometry, rng)
    targets = rng.standard_normal((400, 6)) + rows[:, :6]
    problem = make_problem(moments_of(rows, targets), weight_of(geometry, rng), geometry, 0.0)
    solution = np.linalg.lstsq(rows - rows.mean(axis=0), targets - targets.mean(axis=0), rcond=None)[0]
    assert relative(solution.T, problem.weight.reshape(6, -1)) < 1e-12
    residual = targets - targets.mean(axis=0) - (rows - rows.mean(axis=0)) @ solution
    assert problem.error(problem.weight) == pytest.approx(np.mean(residual**2) / np.mean(targets.var(axis=0)))


def test_weighting_outputs_trades_the_error_of_the_light_for_that_of_the_heavy():
    geometry = plain(6, 8, (3, 3))
    rng = np.random.default_rng(0)
    rows, weight = patches_for(geometry, rng), weight_of(geometry, rng)
    moments = moments_of(rows, rows @ weight.reshape(8, -1).T)
    scale = np.array([10.0] * 4 + [0.1] * 4)

    def error_of_heavy(row_scale):
        factors = fit(make_problem(moments, weight, geometry, 1e-4, row_scale), "dw_pw", 2).factors
        difference = (reconstruct(factors) - weight).reshape(8, -1)[:4]
        return np.trace(difference @ moments.covariance @ difference.T)

    assert error_of_heavy(scale) < 0.7 * error_of_heavy(None)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_common_row_scale_changes_nothing_and_zeros_are_survived(form):
    geometry = plain(5, 6, (3, 3))
    rng = np.random.default_rng(0)
    weight, moments = weight_of(geometry, rng), moments_for(geometry, rng)
    plain_fit = fit(make_problem(moments, weight, geometry, 1e-3), form, 2, evaluations=8)
    scaled = fit(make_problem(moments, weight, geometry, 1e-3, np.full(6, -8.0)), form, 2, evaluations=8)
    assert relative(reconstruct(plain_fit.factors), reconstruct(scaled.factors)) < 1e-9
    some_dead = fit(make_problem(moments, weight, geometry, 1e-3, np.array([1.0, 0, 0, 2, 1, 0])), form, 2)
    assert all(np.isfinite(array).all() for array in some_dead.factors.arrays.values())


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("dead", ["inputs", "weight", "channel"])
def test_degenerate_layers_give_finite_factors(form, dead):
    geometry = plain(5, 6, (3, 3))
    rng = np.random.default_rng(0)
    weight = weight_of(geometry, rng) * (dead != "weight")
    rows = patches_for(geometry, rng)
    if dead == "inputs":
        rows = np.ones_like(rows)
    if dead == "channel":
        rows[:, :9] = 0
        weight[2] = 0
    moments = moments_of(rows, rows @ weight.reshape(6, -1).T)
    fitted = fit(make_problem(moments, weight, geometry, 1e-2), form, 3)
    assert all(np.isfinite(array).all() for array in fitted.factors.arrays.values())
    assert np.isfinite(fitted.error)
    assert fitted.error < 1


@pytest.mark.parametrize("form", sorted(FORMS))
def test_large_layers_are_fitted_in_float32_and_stay_monotone(form):
    geometry = plain(64, 32, (3, 3))
    rng = np.random.default_rng(0)
    rows, weight = patches_for(geometry, rng, 3000), weight_of(geometry, rng)
    problem = make_problem(moments_of(rows, rows @ weight.reshape(32, -1).T), weight, geometry, 1e-2)
    assert problem.dtype == np.float32
    ranks = {
        "dw_pw": (1, 2),
        "pw_dw": (1, 2),
        "pw_dw_pw": (20, 40),
        "spatial": (10, 20),
        "conv_pw": (5, 10),
        "pw_conv_pw": (8, 16),
    }[form]
    low, high = (fit(problem, form, rank) for rank in ranks)
    free = FORMS[form].factorise(weight, ranks[0], geometry, rng)
    assert high.error < low.error < problem.error(reconstruct(free))


def test_evaluations_are_fewer_for_larger_problems_and_bounded():
    def allowed(channels, form, rank):
        geometry = plain(channels, channels, (3, 3))
        width = channels * 9
        moments = PatchMoments(
            1, np.zeros(width), np.eye(width), np.zeros(channels), np.zeros((channels, width)), np.ones(channels)
        )
        problem = make_problem(moments, np.ones(geometry.weight_shape), geometry, 0.1, asymmetric=False)
        return default_evaluations(FORMS[form].search(problem, rank)[0].work)

    assert allowed(16, "pw_dw_pw", 20) == 120
    # One evaluation: the features times S, two products of features with features, two with the targets, a solve.
    work = 200 * (1152**2 + 2 * (200 + 128) * 1152 + 200 * (200 / 3 + 128))
    assert allowed(128, "pw_dw_pw", 200) == 120 < 1.2e11 / work
    assert allowed(256, "pw_dw_pw", 700) == int(1.2e11 / (700 * (2304**2 + 2 * 956 * 2304 + 700 * (700 / 3 + 256))))
    assert default_evaluations(1e12) == 5

"""What rounding to integers does to a convolution's layers, followed on patches."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.separable.fitted import improve
from sepconvert.separable.forms import FORMS, factorise, reconstruct
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.problem import make_problem
from sepconvert.separable.rounding import (
    Grid,
    equalised,
    inner_noise,
    outputs_in_steps,
    rounded_factors,
    rounded_weight,
)
from tests.separable.strategies import kernels, plain, seeds, weight_of
from tests.separable.test_fitted import moments_of, patches_for

forms = st.sampled_from(sorted(FORMS))


@st.composite
def cases(draw):
    """A geometry, factors of it, and patches (n, C, K)."""
    form, kernel = draw(forms), draw(kernels)
    groups = draw(st.integers(1, 3)) if FORMS[form].IN_GROUPS else 1
    narrow = plain(draw(st.integers(2, 5)), draw(st.integers(2, 5)), kernel)
    geometry = ConvGeometry(
        groups * narrow.in_channels, groups * narrow.out_channels, kernel, narrow.stride, narrow.dilation, narrow.pads,
        groups=groups,
    )  # fmt: skip
    rng = np.random.default_rng(draw(seeds))
    rank = draw(st.integers(1, min(6, FORMS[form].full_rank(geometry.part))))
    shape = (geometry.out_channels, geometry.in_channels // groups, *kernel)
    factors = factorise(form, rng.standard_normal(shape), rank, geometry, rng)
    return geometry, factors, rng.standard_normal((50, geometry.in_channels, geometry.taps))


def dense_outputs(factors, geometry, patches):
    """(n, M), computed by the dense kernel."""
    kernel = reconstruct(factors).reshape(geometry.groups, geometry.out_channels // geometry.groups, -1)
    rows = patches.reshape(len(patches), geometry.groups, -1)
    return np.einsum("ngi,gmi->ngm", rows, kernel).reshape(len(patches), -1)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_layers_followed_on_patches_compute_what_their_kernel_does_up_to_the_steps(case):
    geometry, factors, patches = case
    truth = dense_outputs(factors, geometry, patches)
    made = outputs_in_steps(factors, geometry, patches, bits=30)
    assert made == pytest.approx(truth, abs=1e-6 * max(np.abs(truth).max(), inner_reach(factors)))


def inner_reach(factors):
    """A bound on what may stand between the layers, times what is behind: cancelling terms lose digits."""
    return float(np.prod([np.abs(array).sum() for array in factors.arrays.values()]))


@settings(deadline=None, max_examples=60)
@given(cases())
def test_channels_of_equal_range_make_the_same_kernel(case):
    geometry, factors, patches = case
    even, kernel = equalised(factors, geometry, patches), reconstruct(factors)
    assert reconstruct(even) == pytest.approx(kernel, abs=1e-9 * np.abs(kernel).max())


def test_a_channel_that_is_much_smaller_than_another_loses_nothing_after_equal_ranges():
    geometry, rng = plain(4, 4, (3, 3)), np.random.default_rng(0)
    factors = factorise("pw_dw_pw", weight_of(geometry, rng), 8, geometry, rng)
    patches = patches_for(geometry, rng).reshape(-1, 4, 9)
    shrunk = {name: array.copy() for name, array in factors.arrays.items()}
    shrunk["reduce"][::2] /= 1000
    shrunk["expand"][:, ::2] *= 1000
    uneven = replace(factors, arrays=shrunk)
    truth = dense_outputs(factors, geometry, patches)

    def error(some):
        return float(np.mean((outputs_in_steps(some, geometry, patches) - truth) ** 2))

    assert error(equalised(uneven, geometry, patches)) < error(uneven) / 100


@settings(deadline=None)
@given(seeds, st.integers(3, 8))
def test_weights_are_rounded_by_less_than_half_a_step_and_the_largest_of_a_row_stays(seed, bits):
    weight = np.random.default_rng(seed).standard_normal((5, 7))
    weight[3] = 0
    made, largest = rounded_weight(weight, bits), np.abs(weight).max(axis=1)
    steps = largest / (2 ** (bits - 1) - 1)
    assert (np.abs(made - weight) <= steps[:, None] * 0.5 + 1e-12).all()
    assert np.abs(made).max(axis=1) == pytest.approx(largest)


def test_the_rounded_weights_of_factors_are_those_of_their_layers():
    geometry, rng = plain(3, 5, (3, 3)), np.random.default_rng(0)
    factors = factorise("pw_dw_pw", weight_of(geometry, rng), 6, geometry, rng)
    made = rounded_factors(factors, geometry)
    for name, array in factors.arrays.items():
        assert made.arrays[name].reshape(len(array), -1) == pytest.approx(rounded_weight(array.reshape(len(array), -1)))


@given(st.floats(-100, 100), st.floats(-100, 100))
def test_zero_is_exact_and_what_lies_inside_moves_by_half_a_step(one, other):
    step = Grid.over(min(one, other), max(one, other))
    assert step.rounded(np.zeros(1))[0] == pytest.approx(0, abs=1e-9)
    inside = np.linspace(min(one, other, 0), max(one, other, 0), 50)
    assert (np.abs(step.rounded(inside) - inside) <= step.size * (0.5 + 1e-6)).sum() >= 48  # the zero point is whole


def test_the_noise_of_rounding_is_as_large_as_its_formula_says():
    geometry, rng = plain(4, 4, (3, 3)), np.random.default_rng(1)
    factors = factorise("dw_pw", weight_of(geometry, rng), 2, geometry, rng)
    patches = rng.standard_normal((20_000, 4, 9))
    even = equalised(factors, geometry, patches)
    noise = inner_noise(even, geometry, patches)
    truth, made = dense_outputs(even, geometry, patches), outputs_in_steps(even, geometry, patches)
    # Features of white patches hardly correlate, so the noise of their sum is that share of the squares' sum.
    features = np.einsum("ncjk->ncj", patches[:, :, None] * even.arrays["depthwise"].reshape(4, 2, 9))
    amplified = np.einsum("mcj,cj->m", even.arrays["pointwise"].reshape(4, 4, 2) ** 2, features.var(axis=0)).sum()
    assert np.mean((made - truth) ** 2) * 4 == pytest.approx(noise * amplified, rel=0.2)


@pytest.mark.parametrize(("form", "share"), [("pw_dw_pw", 0.5), ("dw_pw", 0.8), ("pw_dw", 1.0)])
def test_factors_fitted_with_the_noise_err_less_once_they_are_rounded(form, share):
    """Nearly full rank and strongly correlated inputs: without the noise terms cancel, most where all are shared."""
    geometry, rng = plain(6, 6, (3, 3)), np.random.default_rng(3)
    rows = patches_for(geometry, rng, 4000)
    weight = weight_of(geometry, rng)
    moments = moments_of(rows, rows @ weight.reshape(6, -1).T)
    rank = FORMS[form].full_rank(geometry) * 2 // 3
    start = factorise(form, weight, rank, geometry, rng)
    patches = rows.reshape(-1, 6, 9)

    def error(rounding):
        factors = improve(make_problem(moments, weight, geometry, 1e-6, np.ones(6), rounding=rounding), start).factors
        made = outputs_in_steps(equalised(factors, geometry, patches), geometry, patches, bits=6)
        off = rows @ weight.reshape(6, -1).T - made
        return float(off.var(axis=0).sum())

    assert error(1e-3) < share * error(0.0)

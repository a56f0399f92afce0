from dataclasses import replace
from math import prod

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sepconvert.separable import conv_pw, dw_pw, pw_conv_pw, pw_dw, pw_dw_pw, spatial
from sepconvert.separable.forms import (
    FORMS,
    break_even,
    cli_name,
    cost_of,
    form_from_cli,
    kernel_gain,
    max_useful_rank,
    rank_for_share,
    reconstruct,
)
from sepconvert.separable.geometry import ConvGeometry
from tests.separable.strategies import geometries, plain, relative, seeds, weight_of

EXACT = 1e-24  # squared: (number of terms ~ 1e3 · float64 epsilon)², with room
forms = st.sampled_from(sorted(FORMS))


def strided():
    """3×5 kernel, C=4, M=6, 20×30 in, stride 2×1: 10×30 out."""
    return ConvGeometry(4, 6, (3, 5), (2, 1), (1, 1), (1, 2, 1, 2)).at((20, 30))


@pytest.mark.parametrize(
    ("form", "params", "macs"),
    [
        ("dw_pw", 2 * 4 * (15 + 6), 2 * 4 * (15 + 6) * 300),
        ("pw_dw", 2 * 6 * (15 + 4), 2 * 6 * (4 * 600 + 15 * 300)),
        ("pw_dw_pw", 2 * (4 + 15 + 6), 2 * (4 * 600 + 21 * 300)),
        # 3×1 first: 2·(4·3·10·30 + 6·5·300) = 25200; 1×5 first: 2·(4·5·20·30 + 6·3·300) = 34800.
        ("spatial", 2 * (4 * 3 + 6 * 5), 25200),
        ("conv_pw", 2 * (4 * 15 + 6), 2 * (4 * 15 + 6) * 300),
        # 4 → 1 channels (2·4/12 = 0.67) at 600 positions, 1 → 2 with 15 taps, 2 → 6.
        ("pw_conv_pw", 1 * 4 + 1 * 2 * 15 + 2 * 6, 1 * 4 * 600 + (1 * 2 * 15 + 2 * 6) * 300),
    ],
)
def test_costs_agree_with_hand_arithmetic_at_true_resolutions(form, params, macs):
    cost = cost_of(form, strided(), 2)
    assert (cost.params, cost.macs) == (params, macs)


def test_the_spatial_form_runs_the_cheaper_axis_first():
    wide = ConvGeometry(4, 6, (3, 3), (1, 4), (1, 1), (1, 1, 1, 1)).at((20, 20))
    # 1×3 first shrinks the width at once: 4·3·20·5 + 6·3·100 against 4·3·400 + 6·3·100... of the other order.
    assert cost_of("spatial", wide, 1).macs == 4 * 3 * 20 * 5 + 6 * 3 * 100
    assert spatial.first_axes(wide) == [1]
    factors = spatial.factorise(np.ones(wide.weight_shape), 1, wide, np.random.default_rng(0))
    assert factors.arrays["first"].shape == (1, 4, 1, 3)
    assert factors.arrays["second"].shape == (6, 1, 3, 1)


def test_costs_without_a_spatial_size_count_weights_only():
    geometry = replace(strided(), in_spatial=None, out_spatial=None)
    for form in FORMS:
        assert cost_of(form, geometry, 3).macs is None
        assert cost_of(form, geometry, 3).params > 0


@settings(deadline=None, max_examples=60)
@given(form=forms, geometry=geometries(), seed=seeds, data=st.data())
def test_the_counted_weights_are_those_of_the_factors(form, geometry, seed, data):
    module = FORMS[form]
    rank = data.draw(st.integers(1, module.full_rank(geometry)))
    rng = np.random.default_rng(seed)
    for factors in (module.factorise(weight_of(geometry, rng), rank, geometry, rng), module.draw(geometry, rank, rng)):
        assert factors.params == cost_of(form, geometry, rank).params
        assert reconstruct(factors).shape == geometry.weight_shape
        assert factors.form == form


@settings(deadline=None, max_examples=60)
@given(form=forms, geometry=geometries(), seed=seeds)
def test_full_rank_is_exact_to_rounding(form, geometry, seed):
    rng = np.random.default_rng(seed)
    weight = weight_of(geometry, rng)
    factors = FORMS[form].factorise(weight, FORMS[form].full_rank(geometry), geometry, rng)
    assert relative(weight, reconstruct(factors)) < EXACT


@settings(deadline=None, max_examples=60)
@given(
    form=st.sampled_from(["dw_pw", "pw_dw", "spatial", "conv_pw"]), geometry=geometries(), seed=seeds, data=st.data()
)
def test_the_squared_error_is_the_sum_of_the_dropped_squared_singular_values(form, geometry, seed, data):
    module = FORMS[form]
    rank = data.draw(st.integers(1, module.full_rank(geometry)))
    rng = np.random.default_rng(seed)
    weight = weight_of(geometry, rng)
    flat = weight.reshape(*weight.shape[:2], -1)
    unfoldings = {
        "dw_pw": [flat.swapaxes(0, 1)],
        "pw_dw": [flat],
        "spatial": [spatial.unfold(weight, axis)[None] for axis in spatial.first_axes(geometry)],
        "conv_pw": [flat.reshape(1, len(flat), -1)],
    }[form]
    dropped = min(np.sum(np.linalg.svd(matrices, compute_uv=False)[:, rank:] ** 2) for matrices in unfoldings)
    total = np.sum(weight**2)
    factors = module.factorise(weight, rank, geometry, rng)
    assert np.sum((weight - reconstruct(factors)) ** 2) == pytest.approx(dropped, rel=1e-9, abs=1e-12 * total)
    assert module.error_by_rank(weight, geometry)[rank - 1] == pytest.approx(dropped / total, rel=1e-9, abs=1e-12)


@settings(deadline=None, max_examples=40)
@given(form=forms, geometry=geometries(), seed=seeds)
def test_the_predicted_error_falls_with_rank_to_zero_and_bounds_the_error(form, geometry, seed):
    rng = np.random.default_rng(seed)
    weight = weight_of(geometry, rng)
    curve = FORMS[form].error_by_rank(weight, geometry)
    assert len(curve) == FORMS[form].full_rank(geometry)
    assert np.all(np.diff(curve) <= 1e-12)
    assert curve[-1] == 0
    rank = 1 + len(curve) // 3
    factors = FORMS[form].factorise(weight, min(rank, len(curve)), geometry, rng)
    assert relative(weight, reconstruct(factors)) <= curve[min(rank, len(curve)) - 1] + 1e-12


@settings(deadline=None, max_examples=40)
@given(form=forms, geometry=geometries(), seed=seeds)
def test_reconstruction_follows_the_formula(form, geometry, seed):
    rng = np.random.default_rng(seed)
    rank = 2
    factors = FORMS[form].draw(geometry, rank, rng)
    arrays = {
        name: a.reshape(*a.shape[: -len(geometry.kernel)], -1) if a.ndim > 2 and name != "pointwise" else a
        for name, a in factors.arrays.items()
    }
    if form == "dw_pw":
        expected = np.einsum("mcj,cjk->mck", arrays["pointwise"], arrays["depthwise"])
    elif form == "pw_dw":
        expected = np.einsum("mjc,mjk->mck", arrays["pointwise"], arrays["depthwise"])
    elif form == "pw_dw_pw":
        expected = np.einsum("mq,qk,qc->mck", arrays["expand"], arrays["depthwise"], arrays["reduce"])
    elif form == "conv_pw":
        expected = np.einsum("mq,qck->mck", arrays["expand"], arrays["reduce"])
    elif form == "pw_conv_pw":
        expected = np.einsum("ms,stk,tc->mck", arrays["expand"], arrays["core"], arrays["reduce"])
    elif spatial.first_axes(geometry)[0] == 0:
        expected = np.einsum("qci,mqj->mcij", arrays["first"], arrays["second"])
    else:
        expected = np.einsum("qcj,mqi->mcij", arrays["first"], arrays["second"])
    np.testing.assert_allclose(reconstruct(factors), expected.reshape(geometry.weight_shape), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("kernel", [(3, 3), (1, 5), (7,)])
@pytest.mark.parametrize("gain", [2.0, 0.3])
def test_drawn_factors_have_the_asked_gain(form, kernel, gain):
    geometry = plain(48, 64, kernel)
    rng = np.random.default_rng(5)
    gains = [kernel_gain(reconstruct(FORMS[form].draw(geometry, 3, rng, gain))) for _ in range(60)]
    # Each draw's gain deviates by at most about 1/2 (few taps, few components); the mean of 60 by that / √60.
    assert np.mean(gains) == pytest.approx(gain, rel=4 * 0.5 / np.sqrt(60))


@pytest.mark.parametrize("form", sorted(FORMS))
def test_drawing_is_the_same_for_the_same_seed(form):
    geometry = plain(4, 5, (3, 3))
    one, two, other = (reconstruct(FORMS[form].draw(geometry, 2, np.random.default_rng(seed))) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


@settings(deadline=None, max_examples=80)
@given(form=forms, geometry=geometries(), share=st.floats(0.01, 0.99))
def test_useful_ranks_cost_less_than_dense_and_the_next_does_not(form, geometry, share):
    assume(prod(geometry.out_spatial or (1,)) > 0)
    module = FORMS[form]

    def size(cost):
        return cost.params if cost.macs is None else cost.macs

    dense = size(geometry.dense_cost)
    useful = max_useful_rank(form, geometry)
    assert useful == 0 or size(cost_of(form, geometry, useful)) < dense
    if geometry.taps < module.LEAST_TAPS:
        assert useful == 0
    elif useful < module.full_rank(geometry):
        assert size(cost_of(form, geometry, useful + 1)) >= dense
        assert useful < break_even(form, geometry) <= useful + 1
    rank = rank_for_share(form, geometry, share)
    assert rank == 1 or size(cost_of(form, geometry, rank)) <= share * dense * (1 + 1e-8)
    if rank < module.full_rank(geometry):
        assert size(cost_of(form, geometry, rank + 1)) > share * dense


def test_break_even_of_known_layers():
    same = plain(64, 64, (3, 3)).at((14, 14))
    assert break_even("dw_pw", same) == pytest.approx(9 * 64 / 73)
    assert max_useful_rank("dw_pw", same) == 7
    assert max_useful_rank("pw_dw_pw", same) == 269  # 64·64·9 / (64 + 9 + 64) = 269.08
    assert max_useful_rank("spatial", same) == 95  # 96 costs exactly as much as the dense kernel
    assert rank_for_share("spatial", same, 1 / 3) == 32
    assert max_useful_rank("dw_pw", plain(64, 1, (3, 3)).at((14, 14))) == 0


def test_a_cost_that_grows_faster_or_slower_than_the_rank_has_its_break_even_found():
    same = plain(64, 64, (3, 3))
    # R/2·64 + 9·R²/2 + R·64 against 9·64·64, and 64·64 more than that at R = 64.
    assert [cost_of("pw_conv_pw", same, rank).params for rank in (8, 16)] == [8 * 132, 16 * 168]
    assert max_useful_rank("pw_conv_pw", same) == 63
    # One input of the convolution in the middle: 1 + 9·R + 40·R against 9·40.
    assert max_useful_rank("pw_conv_pw", plain(1, 40, (3, 3))) == 7
    # 3·8 + 3·13·3 + 13·16 = 349 and 4·8 + 4·14·3 + 14·16 = 424 about 3·8·16 = 384.
    assert break_even("pw_conv_pw", plain(8, 16, (3,))) == pytest.approx(13 + 35 / 75)


def test_the_convolution_in_the_middle_has_half_as_many_inputs_for_each_output_in_blocks():
    assert [pw_conv_pw.widths(plain(64, 128, (3, 3)), rank) for rank in (1, 8, 16, 20, 24, 127, 128)] == [
        (1, 1),
        (2, 8),
        (4, 16),
        (5, 20),
        (6, 24),
        (32, 127),
        (64, 128),
    ]
    assert pw_conv_pw.widths(plain(3, 64, (3, 3)), 8) == (1, 8)


@settings(deadline=None, max_examples=40)
@given(geometry=geometries(), seed=seeds, data=st.data())
def test_alternating_projections_leave_no_more_than_the_higher_order_svd(geometry, seed, data):
    weight = weight_of(geometry, np.random.default_rng(seed))
    rank = data.draw(st.integers(1, geometry.out_channels))
    factors = pw_conv_pw.factorise(weight, rank, geometry, np.random.default_rng(0))
    inputs = pw_conv_pw.widths(geometry, rank)[0]
    flat = weight.reshape(*weight.shape[:2], -1)
    reduce = np.linalg.svd(flat.swapaxes(0, 1).reshape(flat.shape[1], -1))[0][:, :inputs]
    expand = np.linalg.svd(flat.reshape(len(flat), -1))[0][:, :rank]
    projected = np.einsum("nm,mdk,dc->nck", expand @ expand.T, flat, reduce @ reduce.T)
    left = relative(flat, projected)
    assert relative(weight, reconstruct(factors)) <= left * (1 + 1e-9) + EXACT
    for name in ("reduce", "expand"):
        array = factors.arrays[name] if name == "reduce" else factors.arrays[name].T
        np.testing.assert_allclose(array @ array.T, np.eye(len(array)), atol=1e-12)


def test_pw_dw_pw_refinement_beats_both_of_its_starts():
    geometry = plain(16, 24, (3, 3))
    weight = weight_of(geometry, np.random.default_rng(3))
    factors = pw_dw_pw.factorise(weight, 40, geometry, np.random.default_rng(0))
    assert relative(weight, reconstruct(factors)) < 0.8 * pw_dw_pw.error_by_rank(weight, geometry)[39]


def test_pw_dw_pw_components_stay_bounded_where_the_best_approximation_does_not_exist():
    # The classic tensor of rank 3 and border rank 2 (de Silva and Lim, 2008).
    a, b = np.eye(3)[:2]
    weight = (np.einsum("m,c,k->mck", a, a, b) + np.einsum("m,c,k->mck", a, b, a) + np.einsum("m,c,k->mck", b, a, a))[
        :2, :2
    ]
    geometry = plain(2, 2, (3,))
    factors = pw_dw_pw.factorise(weight, 2, geometry, np.random.default_rng(0))
    assert max(np.abs(array).max() for array in factors.arrays.values()) < 10


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_zero_weight_is_factorised_into_finite_factors_without_error(form):
    geometry = plain(5, 6, (3, 3))
    rng = np.random.default_rng(0)
    factors = FORMS[form].factorise(np.zeros(geometry.weight_shape, np.float32), 2, geometry, rng)
    assert np.all(reconstruct(factors) == 0)
    assert all(np.isfinite(array).all() for array in factors.arrays.values())
    assert np.all(FORMS[form].error_by_rank(np.zeros(geometry.weight_shape), geometry) == 0)


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float16, np.float32, np.float64])
def test_weights_of_every_dtype_are_factorised_in_float64(form, dtype):
    geometry = plain(6, 8, (3, 3))
    weight = weight_of(geometry, np.random.default_rng(0)).astype(dtype)
    factors = FORMS[form].factorise(weight, 3, geometry, np.random.default_rng(0))
    same = FORMS[form].factorise(weight.astype(np.float64), 3, geometry, np.random.default_rng(0))
    assert relative(reconstruct(same), reconstruct(factors)) < EXACT
    curve = FORMS[form].error_by_rank(weight, geometry)
    np.testing.assert_allclose(curve, FORMS[form].error_by_rank(weight.astype(np.float64), geometry), atol=1e-5)


@pytest.mark.parametrize("form", sorted(FORMS))
def test_ranks_outside_the_forms_range_are_refused(form):
    geometry = plain(3, 4, (3,))
    for rank in (0, FORMS[form].full_rank(geometry) + 1):
        with pytest.raises(ValueError, match="outside 1"):
            FORMS[form].factorise(np.ones(geometry.weight_shape), rank, geometry, np.random.default_rng(0))


def test_form_names_translate_to_the_command_line_and_back():
    assert [cli_name(form) for form in FORMS] == ["dw-pw", "pw-dw", "pw-dw-pw", "spatial", "conv-pw", "pw-conv-pw"]
    assert all(form_from_cli(cli_name(form)) == form for form in FORMS)
    with pytest.raises(KeyError, match="dw-pw"):
        form_from_cli("tucker")


@pytest.mark.parametrize("form", [dw_pw, pw_dw, spatial, conv_pw])
def test_components_share_their_norm_between_the_factors(form):
    geometry = plain(6, 8, (3, 3))
    factors = form.factorise(weight_of(geometry, np.random.default_rng(0)) * 1e4, 3, geometry, np.random.default_rng(0))
    sizes = [np.sum(array**2) for array in factors.arrays.values()]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-9)

"""Uniform plans keep what they promise: below break-even, within the share, within the whole-model target."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.errors import NothingToDoError
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.uniform import CHANNEL_BLOCK, LEAST_ROUNDED, plan_rank, plan_share
from sepconvert.separable.forms import FORMS, cost_of, named
from sepconvert.separable.geometry import ConvGeometry, Cost
from sepconvert.separable.scheme import Scheme


def site(channels: int = 64, outputs: int = 64, kernel: int = 3, size: int | None = 16, name: str = "conv") -> ConvSite:
    spatial = None if size is None else (size, size)
    geometry = ConvGeometry(
        channels, outputs, (kernel, kernel), (1, 1), (1, 1), (kernel // 2,) * 4, "NOTSET", spatial, spatial
    )
    return ConvSite(name, name, "x", f"{name}.w", None, "float32", geometry)


def cost(scheme: Scheme, of: ConvSite | None = None) -> Cost:
    return cost_of(scheme.form, (of or site()).geometry, scheme.rank)


def test_rank_two_of_dw_pw_costs_what_the_hand_says() -> None:
    (scheme,) = plan_rank(site(), ["dw_pw"], 2).schemes
    assert scheme == Scheme("dw_pw", 2, "branches")
    assert cost(scheme) == Cost(2 * 64 * (9 + 64), 2 * 64 * (9 + 64) * 16 * 16)


def test_a_lowering_is_taken_where_it_applies() -> None:
    schemes = plan_rank(site(), named("any"), 2, "stacked").schemes
    assert {scheme.lowering for scheme in schemes} == {"stacked"}
    concatenated = plan_rank(site(), named("auto"), 2, "concat").schemes
    assert [scheme.lowering for scheme in concatenated] == ["concat", "branches", "stacked"]


def test_a_rank_at_break_even_is_refused_with_both_costs_and_the_break_even_rank() -> None:
    plan = plan_rank(site(), ["pw_dw"], 9)
    assert plan.schemes == ()
    assert plan.reason == (
        "pw-dw at rank 9 would cost 10,764,288 MACs, the dense one 9,437,184 (break-even at rank 7.89)"
    )


@pytest.mark.parametrize("rank", [8, 0.3])
def test_a_form_for_kernels_with_taps_refuses_a_pointwise_layer(rank: float) -> None:
    plan = plan_rank(site(kernel=1), ["pw_conv_pw"], rank)
    assert (plan.schemes, plan.reason) == ((), "pw-conv-pw does not apply to such a layer")
    (scheme,) = plan_rank(site(kernel=1), ["conv_pw"], rank).schemes
    assert scheme.rank == 8  # 0.3 · 64·64 / (64 + 64) = 9.6


def test_a_whole_number_for_several_forms_says_nothing_to_a_pointwise_layer() -> None:
    plan = plan_rank(site(kernel=1), ["dw_pw", "conv_pw"], 2)
    assert plan.schemes == ()
    assert plan.reason is not None
    assert "give a share such as --rank 0.5" in plan.reason


def test_a_full_rank_above_break_even_is_there_when_growth_is_allowed() -> None:
    (scheme,) = plan_rank(site(), ["pw_dw"], 1000, allow_growth=True).schemes
    assert scheme.rank == 9


def test_with_several_forms_an_integer_rank_means_the_macs_of_dw_pw() -> None:
    plan = plan_rank(site(), named("any"), 2)
    reference = 2 * 64 * (9 + 64) * 16 * 16
    assert {scheme.form for scheme in plan.schemes} == set(FORMS)
    assert all((cost(scheme).macs or reference + 1) <= reference for scheme in plan.schemes)


def test_with_several_forms_a_rank_above_break_even_keeps_the_site() -> None:
    assert plan_rank(site(), named("auto"), 8).schemes == ()


@settings(deadline=None, max_examples=60)
@given(
    channels=st.integers(2, 96),
    outputs=st.integers(2, 96),
    kernel=st.sampled_from([2, 3, 5]),
    share=st.floats(0.05, 0.95),
    size=st.sampled_from([None, 7, 30]),
)
def test_a_share_is_never_exceeded_except_by_rank_one_and_never_reaches_the_dense_cost(
    channels: int, outputs: int, kernel: int, share: float, size: int | None
) -> None:
    target = site(channels, outputs, kernel, size)
    dense = target.geometry.dense_cost
    for scheme in plan_rank(target, named("any"), share).schemes:
        new = cost(scheme, target)
        found, full = (new.macs, dense.macs) if size else (new.params, dense.params)
        assert found is not None
        assert full is not None
        assert found < full
        assert scheme.rank == 1 or found <= share * full * (1 + 1e-9)


def test_plan_share_meets_the_whole_model_target_closely() -> None:
    sites = [site(32, 64, name="a"), site(64, 128, name="b"), site(128, 128, name="c")]
    dense = sum(s.geometry.dense_cost.macs or 0 for s in sites)
    total = round(dense * 1.25)
    plans = plan_share(sites, ["spatial"], total, 0.5, "macs")
    after = total - dense + sum(cost(p.schemes[0], p.site).macs or 0 for p in plans)
    assert 0.45 * total < after <= 0.5 * total


def test_an_unreachable_target_names_the_best_ratio() -> None:
    sites = [site()]
    total = 4 * (sites[0].geometry.dense_cost.macs or 0)
    with pytest.raises(NothingToDoError, match=r"--macs 0\.5 is out of reach.*0\.7\d\d of its MACs.*ask for 0\.7"):
        plan_share(sites, named("auto"), total, 0.5, "macs")


@pytest.mark.parametrize("form", ["pw_dw_pw", "spatial"])
def test_within_a_cost_bottlenecks_have_whole_blocks_of_channels_unless_they_are_tiny(form: str) -> None:
    sites = [site(128, 128, name="a"), site(64, 64, name="b"), site(16, 16, name="c"), site(5, 7, name="d")]
    total = sum(s.geometry.dense_cost.macs or 0 for s in sites)
    shared = plan_share(sites, [form], total, 0.4, "macs")
    ranked = [plan_rank(target, [form], 0.4) for target in sites]
    for plans in (shared, ranked):
        *wide, tiny = [plan.schemes[0].rank for plan in plans]
        assert all(rank % CHANNEL_BLOCK == 0 for rank in wide)
        assert tiny < LEAST_ROUNDED


def test_a_share_is_rounded_down_to_the_next_block_and_a_whole_number_is_taken_as_it_is() -> None:
    # 0.25 · 9·128·128 / (128 + 9 + 128) = 139.1 and 0.25 · 9·32·32 / (32 + 9 + 32) = 31.6
    assert [plan_rank(site(c, c), ["pw_dw_pw"], 0.25).schemes[0].rank for c in (128, 32)] == [136, 28]
    assert plan_rank(site(128, 128), ["pw_dw_pw"], 139).schemes[0].rank == 139
    # 0.4 · 9·8·8 / (8 + 9 + 8) = 9.2 is rounded, 0.3 of it (6.9) is not.
    assert [plan_rank(site(8, 8), ["pw_dw_pw"], share).schemes[0].rank for share in (0.4, 0.3)] == [8, 6]

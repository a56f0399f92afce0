"""The ladder of ranks and what is pruned from it."""

from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.graph.sites import ConvSite
from sepconvert.planning.candidates import (
    LARGEST_SHARE,
    MOST_WORK,
    prune_by_figures,
    rank_ladder,
    site_candidates,
)
from sepconvert.separable.forms import FORMS, cost_of, max_useful_rank
from sepconvert.separable.geometry import ConvGeometry


def square(channels: int, outputs: int, size: int | None = 14, kernel: int = 3) -> ConvGeometry:
    pads = (kernel // 2,) * 4
    geometry = ConvGeometry(channels, outputs, (kernel, kernel), (1, 1), (1, 1), pads)
    return geometry.at(None if size is None else (size, size))


def site(geometry: ConvGeometry) -> ConvSite:
    return ConvSite("y", "conv", "x", "w", None, "float32", geometry)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 600), st.integers(1, 600), st.integers(2, 7), st.sampled_from(sorted(FORMS)), st.integers(2, 20))
def test_ranks_ascend_below_break_even_and_are_no_more_than_asked(
    channels: int, outputs: int, kernel: int, form: str, points: int
) -> None:
    geometry = square(channels, outputs, kernel=kernel)
    ranks = rank_ladder(form, geometry, points)
    assert list(ranks) == sorted(set(ranks))
    assert len(ranks) <= points
    assert all(1 <= rank <= max_useful_rank(form, geometry) for rank in ranks)
    assert bool(ranks) == (max_useful_rank(form, geometry) >= 1)
    dense = geometry.dense_cost.macs
    assert dense is not None
    for rank in ranks:
        macs = cost_of(form, geometry, rank).macs
        assert macs is not None
        assert macs < dense


def test_wide_bottlenecks_climb_in_sixteens_and_narrow_ones_in_smaller_steps() -> None:
    assert rank_ladder("pw_dw_pw", square(256, 256)) == (48, 64, 96, 128, 160, 224, 304, 416, 576, 784)
    assert rank_ladder("spatial", square(64, 64)) == (8, 16, 24, 32, 40, 48, 56, 64)
    assert all(rank % 8 == 0 for rank in rank_ladder("spatial", square(64, 64)))
    assert all(rank % 4 == 0 for rank in rank_ladder("spatial", square(16, 16)))
    assert rank_ladder("spatial", square(4, 4)) == (1, 2, 3)


def test_depthwise_ranks_are_small_integers() -> None:
    assert rank_ladder("dw_pw", square(64, 64)) == (1, 2, 3, 4)


def test_a_very_wide_layer_of_long_kernels_has_no_candidate_whose_fit_takes_many_minutes() -> None:
    """torchcrepe's second convolution: 1,024 channels to 128, 64 taps. Narrow ones lose no candidate."""
    for channels in (1024, 64):
        geometry = ConvGeometry(channels, 128, (64,), (1,), (1,), (31, 32))
        for form in ("dw_pw", "pw_dw_pw"):
            ranks, largest = rank_ladder(form, geometry), LARGEST_SHARE * max_useful_rank(form, geometry)
            assert ranks
            assert all(FORMS[form].work_by_lags(geometry, rank) <= MOST_WORK for rank in ranks)
            assert (ranks[-1] < 0.9 * largest) == (channels == 1024)


def test_a_pointwise_layer_has_candidates_of_the_form_that_makes_two_of_it_only() -> None:
    found = site_candidates(site(square(64, 128, kernel=1)), list(FORMS))
    assert {candidate.form for candidate in found} == {"conv_pw"}
    # Break-even at 64·128 / (64 + 128).
    assert max(candidate.rank for candidate in found) < 43


def test_a_form_that_cannot_save_anything_has_no_candidates() -> None:
    # 1 → 64 channels: the pointwise half of dw_pw alone costs r·64 against 9·64.
    geometry = square(1, 64)
    found = site_candidates(site(geometry), ["pw_dw", "dw_pw"])
    assert {candidate.form for candidate in found} == {"dw_pw"}


def test_of_equal_options_the_first_is_kept_and_a_pareto_front_is_kept_whole() -> None:
    assert prune_by_figures([(1.0, 3.0), (1.0, 3.0), (2.0, 2.0), (2.0, 3.0), (3.0, 1.0)]) == (0, 2, 4)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_every_pruned_option_is_beaten_by_a_kept_one(costs: list[tuple[float, ...]]) -> None:
    kept = prune_by_figures(costs)
    for cost in costs:
        assert any(all(a <= b for a, b in zip(costs[k], cost, strict=True)) for k in kept)
    assert len({costs[k] for k in kept}) == len(kept)

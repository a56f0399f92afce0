"""Error curves: interpolation in logarithms, never rising; profiles from weights alone."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sepconvert.planning.damage import (
    GROWTH,
    MODERATION,
    MOST_GROWTH,
    SMALL_ERROR,
    TINY_ERROR,
    ErrorCurve,
    SiteProfile,
    drawn_by_fits,
    felt,
    growth_of,
    left_by_fits,
    profile_weights,
    spread_ranks,
    told,
)
from sepconvert.separable.forms import FORMS, reconstruct
from sepconvert.separable.geometry import ConvGeometry


def test_an_error_that_falls_exponentially_with_the_ranks_root_is_interpolated_and_continued_exactly() -> None:
    curve = ErrorCurve((4, 16, 64), (1 / 4, 1 / 16, 1 / 256))
    for rank in (1, 4, 9, 16, 36, 64, 100):
        assert curve.at(rank) == pytest.approx(2.0 ** -(rank**0.5))


def test_below_the_known_ranks_an_error_ends_at_that_of_a_constant() -> None:
    assert ErrorCurve((4, 8), (0.5, 0.125)).at(1) == pytest.approx(1.0)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.integers(1, 100), st.floats(0, 1), min_size=1, max_size=6))
@example({17: 1.0, 18: 0.0})
def test_the_error_never_rises_with_the_rank(points: dict[int, float]) -> None:
    ranks = tuple(sorted(points))
    curve = ErrorCurve(ranks, tuple(points[rank] for rank in ranks))
    errors = [curve.at(rank) for rank in range(1, 130)]
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(errors))
    assert all(error >= 0 for error in errors)


@pytest.mark.parametrize(("ranks", "errors"), [((), ()), ((1, 2), (0.5,)), ((2, 1), (0.5, 0.4)), ((1, 1), (0.5, 0.4))])
def test_a_curve_without_one_error_per_ascending_rank_is_refused(
    ranks: tuple[int, ...], errors: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="ascending"):
        ErrorCurve(ranks, errors)


def test_damage_to_a_part_is_the_felt_error_times_its_sensitivity_and_where_none_is_known_the_error() -> None:
    curves, parts = {"dw_pw": ErrorCurve((1, 2), (0.5, 0.25))}, ["boxes", "scores"]
    assert SiteProfile(curves, {"boxes": 0.1}).damages("dw_pw", 2, parts) == pytest.approx((0.025, 0.0))
    small = SiteProfile({"dw_pw": ErrorCurve((1, 2), (0.5, TINY_ERROR / 16))}, {"boxes": 0.1}, growth=0.25)
    assert small.damages("dw_pw", 2, parts) == pytest.approx((0.1 * TINY_ERROR / 16 / 2, 0.0))
    assert SiteProfile(curves).damages("dw_pw", 2, parts) == pytest.approx((0.25, 0.25))
    assert SiteProfile(curves).damages("dw_pw", 2, []) == pytest.approx((0.25,))


def seen(*effects: tuple[float, dict[str, float]]) -> SiteProfile:
    return SiteProfile({"dw_pw": ErrorCurve((1, 2), (0.5, 0.25))}, effects=effects)


def test_plans_are_made_with_sensitivities_drawn_to_their_mean_which_keep_it_and_their_order() -> None:
    profiles = told([seen((0.01, {"boxes": 0.01, "scores": 0.003})), seen(), seen((0.01, {"boxes": 0.0001}))])
    large, none, small = ([round(d / 0.25, 9) for d in p.damages("dw_pw", 2, ["boxes", "scores"])] for p in profiles)
    assert large == pytest.approx([0.1 * 10 ** (1 - MODERATION), 0.3])
    assert none == [1.0, 1.0]
    assert small == pytest.approx([0.1 / 10 ** (1 - MODERATION), 0.0])
    assert profiles[0].damages("dw_pw", 2, ["boxes", "scores"], 0.0) == pytest.approx((0.25, 0.075))


def test_the_mean_is_that_of_sensitivities_to_small_errors_where_there_are_any() -> None:
    small, large = seen((SMALL_ERROR, {"y": 0.01 * SMALL_ERROR})), seen((2 * SMALL_ERROR, {"y": 2 * SMALL_ERROR}))
    assert [profile.typical["y"] for profile in told([small, large])] == pytest.approx([0.01, 0.01])
    assert told([large, large])[0].typical["y"] == pytest.approx(1.0)


@given(
    growth=st.floats(0, MOST_GROWTH),
    levels=st.lists(st.floats(-5, 0), min_size=1, max_size=80),
    faint=st.floats(TINY_ERROR / 100, TINY_ERROR / 5),
)
def test_the_growth_is_what_the_effects_of_all_sites_share_and_the_usual_one_where_they_are_few(
    growth: float, levels: list[float], faint: float
) -> None:
    sites = [
        seen(*((error, {part: 10.0**level * felt(error, growth) for part in "ab"}) for error in (TINY_ERROR, faint)))
        for level in levels
    ]
    found = growth_of(sites)
    assert min(growth, GROWTH) - 1e-9 <= found <= max(growth, GROWTH) + 1e-9
    more = growth_of(sites * 100)
    assert abs(more - growth) <= abs(found - growth) + 1e-9
    assert more == pytest.approx(growth, abs=0.02)
    assert growth_of([seen((TINY_ERROR, {"y": 1e-3}))]) == GROWTH
    assert all(profile.growth == found for profile in told(sites))


def test_the_more_sites_are_fitted_the_less_is_left() -> None:
    left = [left_by_fits(share) for share in (0.0, 0.1, 0.5, 1.0)]
    assert left == sorted(left, reverse=True)
    assert left[0] > 1 > left[-1] > 0
    drawn = [drawn_by_fits(share) for share in (0.0, 0.1, 0.5, 1.0)]
    assert drawn == sorted(drawn)
    assert (drawn[0], drawn[-1]) == (0.0, 1.0)


def test_without_data_the_errors_are_the_dropped_squares_of_the_weights() -> None:
    geometry = ConvGeometry(6, 8, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)).at((9, 9))
    weight = np.random.default_rng(0).standard_normal(geometry.weight_shape)
    profile = profile_weights(weight, geometry, list(FORMS), np.random.default_rng(0))
    for form in FORMS.values():
        factors = form.factorise(weight, 2, geometry, np.random.default_rng(0))
        lost = float(np.sum((weight - reconstruct(factors)) ** 2) / np.sum(weight**2))
        if form.NAME != "pw_dw_pw":  # there the error is known at a few ranks only
            assert profile.error(form.NAME, 2) == pytest.approx(lost)


def test_where_the_curve_is_only_a_bound_the_real_error_is_found_at_a_few_ranks() -> None:
    geometry = ConvGeometry(16, 16, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)).at((9, 9))
    weight = np.random.default_rng(0).standard_normal(geometry.weight_shape)
    profile = profile_weights(weight, geometry, ["pw_dw_pw"], np.random.default_rng(0))
    bound = FORMS["pw_dw_pw"].error_by_rank(weight, geometry)
    for rank in (8, 32):  # the ends of its ladder
        factors = FORMS["pw_dw_pw"].factorise(weight, rank, geometry, np.random.default_rng(0))
        lost = float(np.sum((weight - reconstruct(factors)) ** 2) / np.sum(weight**2))
        assert profile.error("pw_dw_pw", rank) == pytest.approx(lost)
        assert lost < bound[rank - 1]


def test_a_few_ranks_are_spread_over_the_ladder_with_both_ends() -> None:
    assert spread_ranks((1, 2, 3, 4, 5, 6, 7), 4) == (1, 3, 5, 7)
    assert spread_ranks((4, 8), 4) == (4, 8)

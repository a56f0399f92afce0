"""Times at all ranks: a line per form and lowering, with the steps beside it that are more than noise."""

from itertools import pairwise

import numpy as np
import pytest

from sepconvert.planning.candidates import rank_ladder
from sepconvert.planning.latency_table import Pair, SiteTimes, Workload
from sepconvert.planning.rank_times import TIMED_RANKS, RankTimes, ways_to_time
from sepconvert.separable.forms import lowerings
from sepconvert.separable.scheme import Scheme
from tests.planning.networks import make_site

WORKLOAD = Workload(make_site("conv").geometry)
DENSE_MS = 2.0


def timed(ms: dict[Scheme, float], modelled: frozenset[Scheme] = frozenset()) -> RankTimes:
    source = {way: "roofline" if way in modelled else "measured" for way in ms}
    return RankTimes(SiteTimes(WORKLOAD, {way: Pair(value, DENSE_MS) for way, value in ms.items()}, source))


def spatial(rank: int) -> Scheme:
    return Scheme("spatial", rank, "stacked")


def test_times_on_a_line_give_every_rank_between_and_beyond() -> None:
    found = timed({spatial(rank): 0.3 + 0.01 * rank for rank in (8, 16, 64)})
    for rank in (4, 8, 24, 80):
        assert found.ms(spatial(rank)) == pytest.approx(0.3 + 0.01 * rank)
        assert found.source(spatial(rank)) == "measured"


def test_the_line_is_over_multiply_adds_where_they_are_not_in_proportion_to_the_rank() -> None:
    ways = [Scheme("pw_conv_pw", rank, "stacked") for rank in (8, 16, 32, 24)]
    # Of 64 → 64 channels at 14×14: 64·R/2 + 9·R²/2 + 64·R weights.
    ms = [0.3 + 1e-5 * (96 * way.rank + 4.5 * way.rank**2) for way in ways]
    assert timed(dict(zip(ways[:3], ms, strict=False))).ms(ways[3]) == pytest.approx(ms[3])


def test_noise_of_single_times_is_averaged_out() -> None:
    rng = np.random.default_rng(0)
    ranks = (8, 16, 32, 48, 64)
    single, line = [], []
    for _ in range(50):
        noisy = {spatial(rank): (0.3 + 0.01 * rank) * rng.normal(1, 0.03) for rank in ranks}
        single += [noisy[spatial(rank)] / (0.3 + 0.01 * rank) - 1 for rank in ranks]
        line += [timed(noisy).ms(spatial(rank)) / (0.3 + 0.01 * rank) - 1 for rank in ranks]
    assert np.std(line) < 0.75 * np.std(single)


def test_steps_that_are_more_than_noise_are_kept_and_lie_between_the_timed_ranks() -> None:
    found = timed({spatial(4): 0.50, spatial(8): 0.51, spatial(12): 0.85})
    assert found.ms(spatial(4)) == pytest.approx(0.50, rel=0.03)
    assert found.ms(spatial(8)) == pytest.approx(0.51, rel=0.03)
    assert 0.51 < found.ms(spatial(10)) < 0.85
    assert found.ms(spatial(12)) == pytest.approx(0.85, rel=0.03)


def test_a_smaller_rank_is_never_slower() -> None:
    ms = {spatial(rank): value for rank, value in ((8, 0.5), (16, 0.9), (24, 0.6), (32, 1.0), (48, 1.1))}
    times = [timed(ms).ms(spatial(rank)) for rank in range(4, 60)]
    assert all(second >= first * (1 - 1e-12) for first, second in pairwise(times))


def test_a_line_neither_falls_nor_starts_below_nothing() -> None:
    falling = timed({spatial(8): 0.5, spatial(16): 0.4})
    assert falling.ms(spatial(8)) <= falling.ms(spatial(64))
    steep = timed({spatial(8): 0.1, spatial(16): 0.4})
    assert steep.ms(spatial(2)) > 0


def test_modelled_times_count_only_where_a_line_has_no_two_others() -> None:
    ms = {spatial(8): 0.5, spatial(16): 0.6, spatial(64): 9.0}
    assert timed(ms, frozenset({spatial(64)})).ms(spatial(64)) == pytest.approx(1.2)
    assert timed({spatial(64): 9.0}, frozenset({spatial(64)})).source(spatial(64)) == "roofline"


def test_rank_one_has_a_time_of_its_own() -> None:
    found = timed(
        {Scheme("dw_pw", 1, "stacked"): 0.2, Scheme("dw_pw", 2, "stacked"): 1.0, Scheme("dw_pw", 4, "stacked"): 1.4}
    )
    assert found.ms(Scheme("dw_pw", 1, "stacked")) == pytest.approx(0.2)
    assert found.ms(Scheme("dw_pw", 3, "stacked")) == pytest.approx(1.2)


@pytest.mark.parametrize("form", ["dw_pw", "pw_dw", "pw_dw_pw", "spatial", "conv_pw", "pw_conv_pw"])
def test_what_is_timed_covers_all_ranks_and_does_not_depend_on_which_are_asked_for(form: str) -> None:
    geometry = WORKLOAD.geometry
    ladder = rank_ladder(form, geometry, 64)
    ways = [Scheme(form, rank, lowering) for rank in ladder for lowering in lowerings(form, rank)]
    chosen = ways_to_time(ways, geometry)
    assert len({way.rank for way in chosen}) <= TIMED_RANKS
    found = timed(dict.fromkeys(chosen, 1.0))
    assert all(found.ms(way) > 0 for way in ways)
    roughly = ways_to_time(ways, geometry, rough=True)
    assert set(roughly) <= set(chosen)  # so that they are known where all were timed before
    assert len({way.rank for way in roughly}) <= 3  # rank 1 is of a kind of its own
    found = timed(dict.fromkeys(roughly, 1.0))
    assert all(found.ms(way) > 0 for way in ways)
    assert set(ways_to_time(ways[:1], geometry)) | set(ways_to_time(ways[1:], geometry)) == set(chosen)

"""Which layers compute in INT8: the model of the time, the plan, and how a network is taken apart."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepconvert.graph.load import load_bytes
from sepconvert.graph.save import runnable
from sepconvert.planning.precision import (
    Border,
    Layers,
    Part,
    Times,
    crossed,
    even_parts,
    fastest_within,
    fit_times,
    halves,
    layers_of,
    predicted_time,
    without_islands,
)
from sepconvert.planning.quantisable import find_layers
from sepconvert.runtime.quantise import quantisable_nodes
from sepconvert.runtime.simplify import simplified
from tests.fitting.nets import plain_chain

CHAIN = (
    Border(None, (0,), 8.0),
    Border(0, (1,), 4.0),
    Border(1, (2, 3), 2.0),
    Border(2, (3,), 2.0),
    Border(3, (None,), 1.0),
)
PARTS: list[Part] = [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_numbers_change_their_type_only_where_int8_begins_or_ends() -> None:
    assert crossed(CHAIN, frozenset()) == 0
    assert crossed(CHAIN, frozenset(range(4))) == 8 + 1
    assert crossed(CHAIN, frozenset([1])) == 4 + 2
    assert crossed(CHAIN, frozenset([2])) == 2 + 2  # of a value that two layers take, one of them in INT8: once


def test_a_layer_alone_between_layers_in_int8_is_in_int8_too_and_two_are_not() -> None:
    assert without_islands(CHAIN, frozenset([0, 2, 3])) == {0, 1, 2, 3}
    row = [Border(None, (0,), 1.0), Border(0, (1,), 1.0), Border(1, (2,), 1.0), Border(2, (3,), 1.0)]
    assert without_islands(row, frozenset([0, 3])) == {0, 3}  # the value between 1 and 2 is not rounded
    assert without_islands(CHAIN, frozenset([1, 2, 3])) == {1, 2, 3}  # what comes in is not rounded for 0
    assert without_islands(CHAIN, frozenset()) == frozenset()


def test_parts_cover_all_layers_each_once_and_halves_make_the_whole() -> None:
    for layers, most in ((1, 5), (7, 3), (83, 10)):
        parts = even_parts(layers, most)
        assert len(parts) == min(layers, most)
        assert sorted(layer for part in parts for layer in layers_of([part])) == list(range(layers))
    assert halves((3, 6)) == ((3, 5), (5, 6))


def test_gains_and_the_cost_of_a_border_are_found_again_from_times_that_follow_the_model() -> None:
    true = Times({(0, 1): -0.1, (1, 2): 0.05, (2, 3): -0.2, (3, 4): -0.02}, 0.01)
    alone = [layers_of([part]) for part in PARTS]
    measured = {
        chosen: predicted_time(true, CHAIN, chosen) for chosen in [*alone, frozenset(range(4)), frozenset([0, 2])]
    }
    found = fit_times(PARTS, CHAIN, measured)
    assert found.per_number == pytest.approx(0.01)
    assert [found.gains[part] for part in PARTS] == pytest.approx([true.gains[part] for part in PARTS])
    assert predicted_time(found, CHAIN, frozenset([1, 2])) == pytest.approx(
        predicted_time(true, CHAIN, frozenset([1, 2]))
    )


def best_by_trying(times: Times, errors: dict[Part, float], limit: float) -> float:
    """The least time within an error, of all sixteen choices."""
    every: list[Layers] = [layers_of(chosen) for count in range(5) for chosen in combinations(PARTS, count)]
    kept = [
        one for one in every if sum(errors[part] for part in PARTS if layers_of([part]) <= one) <= limit * (1 + 1e-9)
    ]
    return min(predicted_time(times, CHAIN, one) for one in kept)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(-0.3, 0.1), min_size=4, max_size=4),
    st.lists(st.floats(0.001, 1.0), min_size=4, max_size=4),
    st.floats(0.0, 0.02),
    st.floats(0.0, 1.0),
)
def test_the_plan_is_the_fastest_of_all_choices_within_the_error(
    gains: list[float], damages: list[float], per_number: float, share: float
) -> None:
    times = Times(dict(zip(PARTS, gains, strict=True)), per_number)
    errors = dict(zip(PARTS, damages, strict=True))
    limit = share * sum(damages)
    found = fastest_within(times, CHAIN, errors, limit)
    assert sum(errors[part] for part in PARTS if layers_of([part]) <= found) <= limit * (1 + 1e-5) + 1e-9
    # The solver stops within 1e-4 of the least, and likes small errors a little.
    assert predicted_time(times, CHAIN, found) <= best_by_trying(times, errors, limit) + 2e-4


def test_a_layer_that_errs_most_and_saves_little_is_left_in_floating_point() -> None:
    times = Times({(0, 1): -0.2, (1, 2): -0.2, (2, 3): -0.2, (3, 4): -0.01}, 0.0)
    errors = {(0, 1): 0.001, (1, 2): 0.001, (2, 3): 0.001, (3, 4): 0.9}
    assert fastest_within(times, CHAIN, errors, 0.01) == frozenset([0, 1, 2])


def test_each_layer_holds_what_follows_it_and_values_between_them_have_their_sizes() -> None:
    model = plain_chain(3, 8)
    plain = simplified(runnable(model))
    (name,) = [str(value.name) for value in load_bytes(bytes(plain)).ir.graph.inputs]
    layers, borders = find_layers(plain, quantisable_nodes(plain), {name: (1, 8, 12, 12)})
    assert len(layers) == 3
    assert sum(len(layer.nodes) for layer in layers) == len(quantisable_nodes(plain))
    assert all(layer.macs == 8 * 8 * 9 * 12 * 12 for layer in layers)
    first = next(border for border in borders if border.maker is None)
    assert (first.takers, first.size) == ((0,), 8 * 12 * 12)
    assert np.isclose(crossed(borders, frozenset(range(3))), 2 * 8 * 12 * 12)

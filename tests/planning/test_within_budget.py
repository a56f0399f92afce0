"""Plans meet their budgets with the least damage, say what they predict, and say what is out of reach."""

from dataclasses import replace
from itertools import product

import pytest

from sepconvert.errors import NothingToDoError
from sepconvert.planning.damage import drawn_by_fits, left_by_fits
from sepconvert.planning.within_budget import KEPT_BY_PLAN, Choices, plan_cost, plan_error
from sepconvert.separable.forms import cost_of
from tests.planning.networks import damage_of, make_choices


def total_macs(choices: Choices) -> int:
    return sum(site.geometry.dense_cost.macs or 0 for site in choices.sites)


@pytest.mark.parametrize("unit", ["macs", "params"])
def test_a_cost_budget_is_kept_with_the_least_damage(unit: str) -> None:
    choices = make_choices()
    total = total_macs(choices) if unit == "macs" else sum(s.geometry.dense_cost.params for s in choices.sites)
    plan = plan_cost(choices, unit, total, 0.5)
    after = total
    for planned in plan.sites:
        if planned.option.scheme is not None:
            scheme, geometry = planned.option.scheme, planned.site.geometry
            new, old = cost_of(scheme.form, geometry, scheme.rank), geometry.dense_cost
            after += (new.params - old.params) if unit == "params" else (new.macs or 0) - (old.macs or 0)
    assert after / total <= 0.5
    assert plan.predicted[unit] == pytest.approx(after / total)
    assert plan.predicted["damage"] == pytest.approx(damage_of(plan))
    # The last site loses ten times as much as the one before, so it keeps the most.
    assert plan.sites[-1].option.damage <= 1e-4 * 100
    assert plan.budget == {unit: 0.5}


def test_a_cost_budget_out_of_reach_names_the_best_reachable_ratio() -> None:
    choices = make_choices()
    with pytest.raises(NothingToDoError, match=r"--macs 0.01 is out of reach.*keeps 0\.\d+ of its MACs.*ask for"):
        plan_cost(choices, "macs", 2 * total_macs(choices), 0.01)


def test_sites_that_stay_dense_say_why() -> None:
    choices = make_choices()
    choices = Choices(choices.sites, (choices.options[0][:1], *choices.options[1:]), {"s0": "dense Conv is faster"})
    plan = plan_cost(choices, "macs", total_macs(choices), 0.9)
    reasons = {planned.site.output: planned.reason for planned in plan.sites}
    assert reasons["s0"] == "dense Conv is faster"
    assert {reasons["s1"], reasons["s2"]} == {None, KEPT_BY_PLAN}


@pytest.mark.parametrize(("figure", "limit"), [("ms", 0.02), ("macs", 0.02), ("ms", 0.0)])
def test_an_error_budget_is_kept_at_the_least_time_or_macs(figure: str, limit: float) -> None:
    choices = make_choices()
    plan = plan_error(choices, limit, figure)
    assert damage_of(plan) <= limit
    every = [p for p in product(*choices.options) if sum(o.damage for o in p) <= limit]
    assert sum(p.option.saved_ms for p in plan.sites) == pytest.approx(max(sum(o.saved_ms for o in p) for p in every))


def with_parts() -> Choices:
    """The same choices, whose damages are errors of an output, each half as large where nothing behind is fitted."""
    choices = make_choices()
    options = [[replace(o, alone=tuple(d / 2 for d in o.damages)) for o in every] for every in choices.options]
    return replace(choices, options=tuple(map(tuple, options)), parts=("y",))


def test_a_prediction_knows_how_many_sites_are_fitted() -> None:
    choices = with_parts()
    count = len(choices.sites)
    one, every = [1] + [0] * (count - 1), [1] * count
    for picks in (one, every):
        share = sum(picks) / count
        total = sum(options[1].damage for options, pick in zip(choices.options, picks, strict=True) if pick)
        drawn = total * 0.5 ** (1 - drawn_by_fits(share))
        assert choices.damage(picks)["damage"] == pytest.approx(left_by_fits(share) * drawn)
    lone = [[pick if i == place else 0 for i in range(count)] for place in range(count) for pick in (1, 2)]
    assert choices.least_damage == pytest.approx(min(choices.damage(picks)["damage"] for picks in lone))


@pytest.mark.parametrize("limit", [0.003, 0.02, 0.2])
def test_an_error_budget_is_one_on_the_prediction_and_most_of_it_is_used(limit: float) -> None:
    choices = with_parts()
    plan = plan_error(choices, limit, "ms")
    most = choices.damage([3] * len(choices.sites))["damage"]
    assert 0.4 * min(limit, most) < plan.predicted["damage"] <= limit
    assert plan_error(choices, 1e-9, "ms").chosen == ()

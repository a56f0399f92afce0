"""Plans meet their budgets with the least damage, say what they predict, and say what is out of reach."""

from collections.abc import Sequence
from itertools import product

import pytest

from sepconvert.errors import NothingToDoError
from sepconvert.planning.plans import NetworkPlan, PlannedSite, Timed
from sepconvert.planning.speedup import MOST_ATTEMPTS, plan_speedup
from sepconvert.planning.within_budget import KEPT_BY_PLAN, Choices, plan_cost, plan_error
from sepconvert.separable.forms import cost_of
from tests.planning.networks import Machine, make_choices, make_fine_choices


def least_damage(choices: Choices, saving: float) -> float:
    every = product(*choices.options)
    return min(sum(o.damage for o in plan) for plan in every if sum(o.saved_ms for o in plan) >= saving - 1e-9)


def damage_of(plan: NetworkPlan) -> float:
    return sum(planned.option.damage for planned in plan.sites)


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
    with pytest.raises(NothingToDoError, match=r"--macs 0.01 is out of reach.*keeps 0\.\d+ of its macs.*ask for"):
        plan_cost(choices, "macs", 2 * total_macs(choices), 0.01)


def test_sites_that_stay_dense_say_why() -> None:
    choices = make_choices()
    choices = Choices(choices.sites, (choices.options[0][:1], *choices.options[1:]), {"s0": "dense Conv is faster"})
    plan = plan_cost(choices, "macs", total_macs(choices), 0.9)
    reasons = {planned.site.output: planned.reason for planned in plan.sites}
    assert reasons["s0"] == "dense Conv is faster"
    assert {reasons["s1"], reasons["s2"]} == {None, KEPT_BY_PLAN}


def test_an_honest_machine_needs_few_measurements_and_gets_the_least_damage() -> None:
    choices, machine = make_choices(), Machine()
    plan = plan_speedup(choices, 2.0, machine.before_ms(choices), machine)
    assert plan.timed is not None
    assert plan.timed.speedup >= 2.0
    assert damage_of(plan) == pytest.approx(least_damage(choices, 20.0))
    assert plan.attempts == len(machine.plans) <= 2
    assert plan.predicted["speedup"] == pytest.approx(plan.timed.speedup)
    assert plan.predicted["source"] == "measured"


@pytest.mark.parametrize("pace", [0.7, 1.3])
def test_a_machine_that_has_changed_its_speed_meanwhile_changes_no_plan_and_no_prediction(pace: float) -> None:
    choices, machine = make_choices(), Machine(pace=pace)
    plan = plan_speedup(choices, 2.0, machine.before_ms(choices), machine)
    steady = plan_speedup(choices, 2.0, machine.before_ms(choices), Machine())
    assert plan.timed is not None
    assert plan.sites == steady.sites
    assert plan.predicted["speedup"] == pytest.approx(plan.timed.speedup)
    assert plan.predicted["latency_ms"] == pytest.approx(plan.timed.after_ms)


@pytest.mark.parametrize("honesty", [0.8, 0.9, 1.15, 1.4])
def test_a_prediction_that_is_off_is_corrected_until_the_measurement_meets_the_budget(honesty: float) -> None:
    choices, machine = make_choices(4), Machine(honesty=honesty)
    before = machine.before_ms(choices)
    plan = plan_speedup(choices, 1.7, before, machine)
    assert plan.timed is not None
    assert plan.timed.speedup >= 1.7
    assert len(machine.plans) <= MOST_ATTEMPTS
    assert damage_of(plan) == pytest.approx(least_damage(choices, (before - before / 1.7) / honesty))


def test_every_measured_plan_that_meets_the_budget_is_worth_at_least_the_one_returned() -> None:
    choices, machine = make_choices(4), Machine(honesty=1.4)
    plan = plan_speedup(choices, 1.7, machine.before_ms(choices), machine)
    for planned in machine.plans:
        timed = Machine(honesty=1.4)(planned)
        if timed.speedup >= 1.7:
            assert damage_of(plan) <= sum(site.option.damage for site in planned)


def test_a_speed_up_out_of_reach_names_the_measured_best() -> None:
    choices, machine = make_choices(), Machine(rest=30.0)
    with pytest.raises(NothingToDoError, match=r"--speedup 2 is out of reach.*measured to be 1\.67.*ask for 1\.66"):
        plan_speedup(choices, 2.0, machine.before_ms(choices), machine)
    assert machine.plans[-1] == choices.planned((3, 3, 3))


def test_what_is_predicted_out_of_reach_but_measured_within_is_returned() -> None:
    choices, machine = make_choices(), Machine(rest=30.0, honesty=1.3)
    plan = plan_speedup(choices, 2.0, machine.before_ms(choices), machine)
    assert plan.timed is not None
    assert plan.timed.speedup >= 2.0


def test_a_miss_within_the_interval_counts_as_met_where_nothing_better_is_found() -> None:
    choices, machine = make_choices(), Machine(rest=24.6, noise=0.05)
    plan = plan_speedup(choices, 1.8, machine.before_ms(choices), machine)
    assert plan.timed is not None
    assert plan.timed.speedup < 1.8 <= plan.timed.high


def test_between_a_saving_that_is_too_little_and_one_just_above_it_that_is_enough_no_more_is_measured() -> None:
    choices, machine = make_fine_choices(), Machine()

    def with_a_step(planned: Sequence[PlannedSite]) -> Timed:
        """A machine that jumps past all speed-ups that would do exactly."""
        timed = machine(planned)
        ratio = timed.speedup * (0.93 if timed.speedup < 2.1 else 1.1)
        return Timed(timed.before_ms, timed.before_ms / ratio, ratio, ratio, ratio)

    plan = plan_speedup(choices, 2.0, machine.before_ms(choices), with_a_step)
    assert plan.timed is not None
    assert plan.timed.speedup == pytest.approx(2.1 * 1.1, rel=0.02)
    assert len(machine.plans) < MOST_ATTEMPTS


def test_a_machine_on_which_nothing_gets_faster_is_out_of_reach_not_an_endless_loop() -> None:
    choices, machine = make_choices(), Machine(honesty=-0.1)
    with pytest.raises(NothingToDoError, match="out of reach"):
        plan_speedup(choices, 1.5, machine.before_ms(choices), machine)
    assert len(machine.plans) <= MOST_ATTEMPTS + 1


def test_without_measuring_the_plan_is_a_prediction_and_says_so() -> None:
    choices = make_choices()
    plan = plan_speedup(choices, 2.0, 40.0, None)
    assert plan.timed is None
    assert plan.attempts == 0
    assert plan.predicted["latency_ms"] <= 20.0
    with pytest.raises(NothingToDoError, match=r"predicted from measured times to be 2\.50"):
        plan_speedup(choices, 3.0, 40.0, None)


@pytest.mark.parametrize(("figure", "limit"), [("ms", 0.02), ("macs", 0.02), ("ms", 0.0)])
def test_an_error_budget_is_kept_at_the_least_time_or_macs(figure: str, limit: float) -> None:
    choices = make_choices()
    plan = plan_error(choices, limit, figure)
    assert damage_of(plan) <= limit
    every = [p for p in product(*choices.options) if sum(o.damage for o in p) <= limit]
    assert sum(p.option.saved_ms for p in plan.sites) == pytest.approx(max(sum(o.saved_ms for o in p) for p in every))


@pytest.mark.parametrize(("noise", "settles"), [(0.2, True), (0.0, False)])
def test_an_excess_within_the_interval_is_not_worth_another_measurement(noise: float, settles: bool) -> None:
    choices, machine = make_fine_choices(), Machine(honesty=1.1, noise=noise)
    plan = plan_speedup(choices, 1.3, machine.before_ms(choices), machine)
    assert plan.timed is not None
    assert plan.timed.speedup >= 1.3
    assert (len(machine.plans) == 1) is settles

"""Which of several mixtures of float and INT8 serves a budget, and that the work stays bounded."""

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

import sepconvert
from sepconvert.errors import NothingToDoError
from sepconvert.graph.save import model_bytes
from sepconvert.planning.damage import ErrorCurve, SiteProfile
from sepconvert.workflows import Measure, Planning, mixing, tune_int8
from sepconvert.workflows.effort import Int8Effort
from sepconvert.workflows.int8 import choose
from sepconvert.workflows.mixture import Mixture, choose_mixture, lowered
from sepconvert.workflows.opened import Case, open_model
from sepconvert.workflows.options import Budget
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.quantisable import QuantisableModel
from sepconvert.workflows.quantiser import Int8
from sepconvert.workflows.request import Request
from sepconvert.workflows.sources import find_source
from tests.fitting.nets import Net


def mixture(layers: int, time: float, error: float) -> Mixture:
    return Mixture(frozenset(range(layers)), error, predicted=0.1, measured=time)


def chain(folder: Path, depth: int) -> tuple[Path, Path]:
    """A network of layers that follow each other, and inputs."""
    net, value = Net(4, 6), "image"
    for place in range(depth):
        value = net.relu(net.conv(f"c{place}", value, 4, 4))
    model, data = folder / "chain.onnx", folder / "data.npz"
    model.write_bytes(model_bytes(net.build(value)))
    np.savez(data, image=np.random.default_rng(0).normal(size=(20, 4, 6, 6)).astype(np.float32))
    return model, data


FOUND = [mixture(9, 0.500, 0.40), mixture(8, 0.505, 0.05), mixture(6, 0.52, 0.02), mixture(3, 0.70, 0.002)]


def layers_chosen(budget: Budget) -> int:
    return len(choose_mixture(budget, FOUND).layers)


def test_within_an_error_the_fastest_is_chosen_and_of_about_equally_fast_ones_the_closest() -> None:
    assert layers_chosen(Budget("max_error", 0.5)) == 8
    assert layers_chosen(Budget("max_error", 0.03)) == 6
    assert layers_chosen(Budget("max_error", 0.01)) == 3
    assert layers_chosen(Budget("max_error", 0.001)) == 3  # none keeps it: the closest there is


def test_for_a_speed_up_the_closest_that_reaches_it_is_chosen_else_about_the_fastest() -> None:
    assert layers_chosen(Budget("speedup", 1.3)) == 3
    assert layers_chosen(Budget("speedup", 1.8)) == 6
    assert layers_chosen(Budget("speedup", 3.0)) == 8


def test_times_that_nobody_measured_reach_no_speed_up() -> None:
    unmeasured = [Mixture(one.layers, one.error, one.time, None) for one in FOUND]
    assert len(choose_mixture(Budget("speedup", 1.3), unmeasured).layers) == 6


def test_without_a_goal_of_either_kind_a_little_time_is_given_for_less_error() -> None:
    assert layers_chosen(Budget("macs", 0.5)) == 6


def test_what_was_measured_counts_before_what_was_predicted() -> None:
    assert mixture(1, 0.7, 0.0).time == 0.7
    assert Mixture(frozenset([1]), 0.0, predicted=0.1, measured=None).time == 0.1


def test_a_rewrite_starts_from_what_keeps_half_of_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known: list[Int8] = []
    monkeypatch.setattr(tune_int8, "choose", lambda found, *given: (known.append(found), choose(found, *given))[1])
    model, data = chain(tmp_path, 8)
    untouched = Planning(cache=False, int8=True, exclude=["*"])

    def start(limit: float) -> Int8:
        sepconvert.rewrite(model, data=data, measure=Measure(latency=False), planning=untouched, max_error=limit)
        return known[-1]

    everything = start(0.5).alone.error
    assert everything is not None
    found = start(1.2 * everything)
    assert found.alone.error is not None
    assert found.start.error <= 0.6 * everything < found.alone.error
    assert found.alone.floating < found.start.floating


def test_a_plan_that_errs_too_much_is_followed_by_one_that_is_allowed_as_much_less() -> None:
    """With a third of what the last one was allowed, a ResNet-50's erred by a quarter of the limit."""
    assert lowered(0.025, 0.035) == pytest.approx(0.025 / 0.035)
    assert lowered(0.025, 0.0251) == 0.9
    assert lowered(0.025, float("inf")) == 0.2


def test_of_a_deep_network_no_more_parts_and_plans_are_made_than_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = chain(tmp_path, 40)
    sizes: list[int] = []
    made = QuantisableModel.quantised

    def counted(self: QuantisableModel, ranges: str, names: list[str]) -> object:
        sizes.append(len(names))
        return made(self, ranges, names)

    monkeypatch.setattr(QuantisableModel, "quantised", counted)
    effort = Int8Effort(sampled=4)
    monkeypatch.setattr(mixing, "int8_effort", lambda _: effort)
    untouched = Planning(cache=False, int8=True, exclude=["*"])
    with suppress(NothingToDoError):  # random layers one after another err a lot, whatever is left in floating point
        sepconvert.rewrite(model, data=data, measure=Measure(latency=False), planning=untouched, max_error=0.5)
    # Four kinds of ranges of everything, then parts, plans for the limit and for half of it, and other ranges of one.
    assert len(sizes) <= 4 + effort.parts + 2 * (effort.plans + effort.corrected) + 3
    assert min(sizes) < max(sizes) / 20  # single layers were told apart


def test_a_first_answer_makes_half_of_the_models_in_int8_or_fewer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answer for a YOLOv8n took six minutes, of which INT8 four and a half."""
    model, data = chain(tmp_path, 24)
    made, counts = QuantisableModel.quantised, []
    for quick in (False, True):
        calls: list[int] = []
        monkeypatch.setattr(
            QuantisableModel, "quantised", lambda self, *a, calls=calls: (calls.append(1), made(self, *a))[1]
        )
        untouched = Planning(cache=False, int8=True, exclude=["*"], quick=quick)
        with suppress(NothingToDoError):
            sepconvert.rewrite(model, data=data, measure=Measure(latency=False), planning=untouched, max_error=0.5)
        counts.append(len(calls))
    assert counts[1] <= counts[0] / 2


def test_plans_in_int8_count_what_rounding_adds_where_a_site_computes_so(resnet: Path) -> None:
    request = Request(model=str(resnet), data="", measure=Measure(latency=False))
    opened = open_model(find_source(resnet), request, {})
    first, second = opened.found.sites[:2]
    curves, rounded = {"spatial": ErrorCurve((8,), (0.01,))}, {"spatial": ErrorCurve((8,), (0.02,))}
    known = {site.output: SiteProfile(curves, rounded=rounded) for site in (first, second)}
    in_int8 = cast(Int8, SimpleNamespace(floating=frozenset([second.product])))

    def errors(int8: Int8 | None) -> list[float]:
        planner = Planner(Case(request, opened, [first, second], None, None), int8)
        planner.__dict__ |= {"_profiles": known}
        return [planner.profiles[site.output].error("spatial", 8) for site in (first, second)]

    assert errors(None) == [0.01, 0.01]
    assert errors(in_int8) == [0.02, 0.01]

"""What would ruin a network is refused, with what would do instead, unless the loss is allowed."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import sepconvert
from sepconvert.errors import NothingToDoError, RuinedError
from sepconvert.planning.plans import NetworkPlan
from sepconvert.record import SweepPoint
from sepconvert.record.ruin import RUIN, ruins
from sepconvert.workflows import Measure, Planning, ruin
from sepconvert.workflows.meet_budget import settle
from sepconvert.workflows.opened import Case, open_with_data, select_sites
from sepconvert.workflows.options import Budget
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.request import Request
from sepconvert.workflows.ruin import HOPELESS, refuse_hopeless, refuse_ruin
from sepconvert.workflows.sources import find_source

UNTIMED = Measure(latency=False)
TWO_SITES = ("/block2/conv2/Conv", "/block3/conv2/Conv")


@pytest.fixture(scope="module")
def planner(resnet: Path, first_images: Callable[[int], str]) -> Planner:
    """Of two sites, from a few images."""
    data = first_images(60)
    request = Request(
        model=resnet, data=data, form="spatial", budget=Budget("macs", 0.6), measure=UNTIMED,
        planning=Planning(cache=False, include=TWO_SITES, jobs=1),
    )  # fmt: skip
    opened, (inputs,) = open_with_data(find_source(resnet), request, [data])
    chosen, _ = select_sites(opened.found.sites, TWO_SITES, ())
    return Planner(Case(request, opened, chosen, inputs, inputs))


def asking(planner: Planner, **changes: object) -> Planner:
    """The same planner, with what it has found out, under another request."""
    request = replace(planner.request, **changes)  # type: ignore[arg-type]
    changed = Planner(replace(planner.case, request=request))
    changed.__dict__ |= {"profiles": planner.profiles}
    return changed


def predicted(damage: float) -> NetworkPlan:
    return NetworkPlan({"macs": 0.6}, (), {"damage": damage})


def test_an_error_is_beyond_use_from_the_limit_on_and_where_it_is_no_number() -> None:
    assert [ruins(error) for error in (None, 0.0, 0.99 * RUIN, RUIN, 2.0, math.inf, math.nan)] == [
        False, False, False, True, True, True, True,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_plan_predicted_to_be_no_better_than_a_constant_answer_is_given_up_before_it_is_fitted(
    planner: Planner,
) -> None:
    refuse_hopeless(planner, predicted(0.99 * HOPELESS))
    with pytest.raises(RuinedError, match=r"--macs 0\.6 is predicted to err by 30 .*nothing was fitted") as caught:
        refuse_hopeless(planner, predicted(1.5 * HOPELESS))
    message = str(caught.value)
    assert "within 1%: --macs" in message
    assert "(or --max-error 0.01) and within 5%" in message
    assert "--allow-loss" in message
    refuse_hopeless(
        asking(planner, planning=replace(planner.request.planning, allow_loss=True)), predicted(1.5 * HOPELESS)
    )


@pytest.mark.slow
def test_plans_named_instead_can_be_asked_for(planner: Planner) -> None:
    with pytest.raises(RuinedError) as caught:
        refuse_hopeless(planner, predicted(1.5 * HOPELESS))
    ratio = float(str(caught.value).partition("within 5%: --macs ")[2].split()[0])
    found = settle(planner.case, asking(planner, budget=Budget("macs", ratio)))
    assert found.plan.predicted is not None
    assert found.plan.predicted["max_error"] <= 0.05


@pytest.mark.slow
def test_what_is_not_known_to_be_an_error_gives_nothing_up(planner: Planner) -> None:
    blind = Planner(replace(planner.case, calibration=None))
    assert not blind.predicts_errors
    refuse_hopeless(blind, predicted(5.0 * HOPELESS))


@pytest.mark.slow
def test_a_ruined_network_is_refused_unless_its_error_was_asked_for(planner: Planner) -> None:
    refuse_ruin(planner, 0.99 * RUIN, "test.npz", resumable=False)
    refuse_ruin(planner, None, "test.npz", resumable=False)
    refuse_ruin(asking(planner, budget=Budget("max_error", 0.96)), 0.95, "test.npz", resumable=False)
    with pytest.raises(RuinedError, match=r"errs by 0\.95 on test\.npz.*from 0\.9 on.*--max-error 0\.05.*--allow-loss"):
        refuse_ruin(planner, 0.95, "test.npz", resumable=False)
    with pytest.raises(RuinedError, match="--resume --steps 1 --allow-loss"):
        refuse_ruin(planner, 0.95, "test.npz", resumable=True)


@pytest.mark.slow
def test_a_ruined_network_is_not_written_unless_the_loss_is_allowed(
    resnet: Path, tmp_path: Path, first_images: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ruin, "RUIN", 0.2)  # this network is hard to ruin
    data, out, planning = first_images(60), tmp_path / "out.onnx", Planning(cache=False)
    with pytest.raises(RuinedError, match=r"nothing was written; .*--max-error 0\.05.*--allow-loss") as caught:
        sepconvert.rewrite(resnet, out, data=data, form="pw-dw-pw", rank=1, measure=UNTIMED, planning=planning)
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []
    allowed = sepconvert.rewrite(
        resnet, out, data=data, form="pw-dw-pw", rank=1, measure=UNTIMED, planning=replace(planning, allow_loss=True)
    )  # fmt: skip
    assert out.exists()
    assert allowed.record.fidelity is not None
    assert ruins(allowed.record.fidelity.outputs[0].decisive_error, 0.2)


@pytest.mark.slow
def test_what_was_not_fitted_to_data_is_written_whatever_it_loses(
    resnet: Path, tmp_path: Path, sample_models_dir: Path
) -> None:
    test = sample_models_dir / "fashion_test.npz"
    result = sepconvert.rewrite(resnet, tmp_path / "out.onnx", test_data=test, form="dw-pw", rank=1, measure=UNTIMED)
    assert result.record.fidelity is not None
    assert ruins(result.record.fidelity.outputs[0].decisive_error)
    assert result.path is not None


@pytest.mark.slow
def test_a_speed_up_out_of_reach_says_at_which_error_the_best_is_and_what_would_do(
    vgg: Path, first_images: Callable[[int], str]
) -> None:
    with pytest.raises(NothingToDoError, match=r"its output is predicted to err by \d.*within 1%: .*within 5%: "):
        sepconvert.rewrite(
            vgg, data=first_images(60), form="spatial", speedup=500, measure=UNTIMED,
            planning=Planning(cache=False, include=["/conv2_2/Conv", "/conv3_2/Conv"]),
        )  # fmt: skip


def test_points_of_a_sweep_know_whether_they_are_beyond_use() -> None:
    points = [SweepPoint("", None, None, None, 2.0, None, error) for error in (None, 0.1, 0.95)]
    assert [point.ruined for point in points] == [False, False, True]

"""Without a budget: as fast as an error of 1 % allows where data and times tell, else half of the MACs; in few fits."""

from collections.abc import Callable
from math import log
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sepconvert
from sepconvert.errors import NothingToDoError
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.save import model_bytes
from sepconvert.workflows import Measure, Planning, meet_budget
from sepconvert.workflows.fit import fit_plans
from sepconvert.workflows.meet_budget import BY_DEFAULT, WITHOUT_TIMES
from sepconvert.workflows.meet_error import AIM_HIGHER, BY_MACS, CLOSE_ENOUGH, MOST_FITS, next_damage
from sepconvert.workflows.options import DEFAULT_ERROR, Budget
from tests.fitting.nets import Net
from tests.workflows.asked import request_of, typed

UNTIMED = Measure(latency=False)


def test_the_goal_follows_from_what_there_is_to_judge_by() -> None:
    for line, budget in {
        "sepconvert rewrite m.onnx": Budget("macs", 0.5),
        "sepconvert rewrite m.onnx --data d.npz": Budget("max_error", DEFAULT_ERROR),
        "sepconvert rewrite m.onnx --data d.npz --macs 0.3": Budget("macs", 0.3),
        "sepconvert rewrite m.onnx --data d.npz --init random": Budget("macs", 0.5),
    }.items():
        assert typed(line).budget == budget
    called = request_of(lambda: sepconvert.rewrite("m.onnx", data="d.npz"))
    assert called.budget == Budget("max_error", DEFAULT_ERROR)
    assert called.budget.by_default


@pytest.mark.slow
def test_one_per_cent_is_kept_in_few_fits_and_without_times_the_goal_is_named(
    vgg: Path, first_images: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fits: list[NetworkFit] = []

    def counted(*args: object, **options: object) -> NetworkFit:
        fits.append(fit_plans(*args, **options))
        return fits[-1]

    monkeypatch.setattr(meet_budget, "fit_plans", counted)
    two = Planning(cache=False, include=["/conv2_2/Conv", "/conv3_2/Conv"])
    record = sepconvert.rewrite(
        vgg, data=first_images(60), form="spatial", max_error=DEFAULT_ERROR, measure=UNTIMED, planning=two
    ).record
    assert 1 <= len(fits) <= MOST_FITS
    assert record.plan is not None
    assert record.plan.budget == {"max_error": 0.01, "goal": "as few MACs as possible", "share": "planned"}
    assert record.plan.measured is not None
    assert record.plan.measured["max_error"] <= DEFAULT_ERROR
    assert BY_MACS in record.notes


def test_where_one_per_cent_cannot_be_had_the_goal_is_said_to_be_missed(
    tmp_path: Path,
) -> None:
    net = Net(6)
    model, data = tmp_path / "random.onnx", tmp_path / "white.npz"
    model.write_bytes(model_bytes(net.build(net.relu(net.conv("site0", "image", 6, 8)))))
    np.savez(data, image=np.random.default_rng(0).normal(size=(40, 6, 12, 12)).astype(np.float32))
    result = sepconvert.rewrite(model, data=data, planning=Planning(cache=False))
    (missed,) = [warning for warning in result.record.warnings if "--macs 0.5" in warning]
    assert "--max-error 0.01 (the goal where no budget is given) is out of reach" in missed
    assert result.record.plan is not None
    assert result.record.plan.budget == {"macs": 0.5, "share": "planned"}
    with pytest.raises(NothingToDoError, match=r"--max-error 0\.01 is out of reach"):
        sepconvert.rewrite(model, data=data, max_error=0.01, measure=UNTIMED, planning=Planning(cache=False))


def test_without_times_nothing_is_the_fastest_so_the_default_is_half_of_the_macs(tmp_path: Path) -> None:
    net = Net(6)
    model, data = tmp_path / "net.onnx", tmp_path / "white.npz"
    model.write_bytes(model_bytes(net.build(net.relu(net.conv("site0", "image", 6, 8)))))
    np.savez(data, image=np.random.default_rng(0).normal(size=(40, 6, 12, 12)).astype(np.float32))
    record = sepconvert.rewrite(model, data=data, measure=UNTIMED, planning=Planning(cache=False)).record
    assert WITHOUT_TIMES in record.warnings
    assert record.plan is not None
    assert record.plan.budget == {"macs": 0.5, "share": "planned"}


@pytest.mark.slow
def test_without_data_the_default_is_half_of_the_macs_and_says_why(vgg: Path) -> None:
    result = sepconvert.rewrite(vgg, form="spatial", measure=UNTIMED)
    assert BY_DEFAULT in result.record.notes
    asked = sepconvert.rewrite(vgg, form="spatial", macs=0.5, measure=UNTIMED)
    assert BY_DEFAULT not in asked.record.notes


@given(
    factor=st.floats(0.05, 3.0), power=st.floats(0.8, 1.3), limit=st.sampled_from([0.001, 0.01, 0.05])
)  # fmt: skip
def test_two_or_three_fits_come_close_to_the_limit_from_below(factor: float, power: float, limit: float) -> None:
    """Errors are a power of the predicted damage; predictions are up to 20 times too high and 3 times too low."""
    damage, points = limit, list[tuple[float, float]]()
    for _ in range(3):
        error = factor * limit * (damage / limit) ** power
        points.append((log(damage), log(error)))
        if CLOSE_ENOUGH * limit <= error <= limit:
            break
        damage = next_damage(points, limit)
    assert any(log(0.5 * limit) <= error <= log(limit) for _, error in points)


def test_where_the_middle_saves_hardly_more_the_next_fit_is_to_err_by_nearly_the_limit() -> None:
    """A network that writes notes was 1.2 times as fast within 1 %; the next step of its plans was 1.5 times."""
    points = [(log(0.004), log(0.008)), (log(0.001), log(0.001))]
    middle, higher = next_damage(points, 0.01), next_damage(points, 0.01, AIM_HIGHER)
    assert middle < higher
    assert 0.008 * (higher / 0.004) ** 1.5 == pytest.approx(AIM_HIGHER * 0.01)

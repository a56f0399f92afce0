"""INT8 beside the rewrite: what is made, what is told, what is chosen, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest

import sepconvert
from sepconvert.errors import ModelError, NothingToDoError, UsageError
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.save import file_size, model_bytes
from sepconvert.planning.plans import NetworkPlan, Timed
from sepconvert.record import ALONE, BOTH, ORIGINAL, REWRITTEN, Alternative, Plan, SelfCheck
from sepconvert.runtime.sessions import run_model
from sepconvert.workflows import Measure, Planning, int8, tune_int8
from sepconvert.workflows.alternatives import best_alternative, nothing_keeps
from sepconvert.workflows.describe import describe_plan
from sepconvert.workflows.fit import Applied
from sepconvert.workflows.int8 import KEPT, planned_in_floats, serves_better
from sepconvert.workflows.opened import OpenedModel
from sepconvert.workflows.options import Budget
from sepconvert.workflows.settled import Settled
from tests.fitting.nets import Net

UNTIMED = Measure(latency=False)
INT8 = Planning(cache=False, int8=True)


def alternative(name: str, speedup: float, error: float = 0.0) -> Alternative:
    return Alternative(name, 100, error, 1 / speedup, speedup, [speedup * 0.99, speedup * 1.01])


def chosen(budget: Budget, **known: tuple[float, float]) -> str | None:
    """The choice among models of (speed-up, error)."""
    named = {name.replace("_", "-"): figures for name, figures in known.items()}
    found = [Alternative(ORIGINAL, 100, 0.0, 1.0), *(alternative(name, *figures) for name, figures in named.items())]
    return best_alternative(budget, found, {name: error for name, (_, error) in named.items()})


def test_within_an_error_the_fastest_model_is_chosen_and_of_equally_fast_ones_the_closest() -> None:
    goal = Budget("max_error", 0.01)
    assert chosen(goal, int8=(2, 0.001), rewritten=(2, 0.005), rewritten_int8=(3, 0.009)) == BOTH
    assert chosen(goal, int8=(2, 0.001), rewritten=(2, 0.005), rewritten_int8=(3, 0.011)) == ALONE
    assert chosen(goal, int8=(1.5, 0.001), rewritten=(2, 0.005), rewritten_int8=(1.6, 0.006)) == REWRITTEN
    assert chosen(goal, int8=(2.97, 0.001), rewritten=(2, 0.005), rewritten_int8=(3, 0.009)) == ALONE


def test_the_predicted_error_counts_what_int8_errs_by_in_any_case() -> None:
    """Of a YOLOv8n 0.013 was predicted where INT8 alone erred by 0.13."""
    network = NetworkPlan({"speedup": 2.0}, (), {"damage": 0.013})
    assert describe_plan(network, from_data=True, by_int8=0.1).predicted == {"max_error": pytest.approx(0.113)}
    assert describe_plan(network, from_data=False, by_int8=0.1).predicted == {"dropped_weights": 0.013}


def test_a_model_that_is_slower_than_the_original_is_no_gain_and_an_unknown_error_keeps_no_limit() -> None:
    goal = Budget("max_error", 0.01)
    assert chosen(goal, int8=(0.8, 0.001)) is None
    assert chosen(goal, int8=(2.0, float("nan"))) is None


def test_for_a_speed_up_the_closest_model_that_reaches_it_is_chosen_else_the_fastest_rewritten_one() -> None:
    models = {"int8": (2.0, 0.001), "rewritten": (2.0, 0.005), "rewritten_int8": (3.0, 0.009)}
    assert chosen(Budget("speedup", 1.9), **models) == ALONE
    assert chosen(Budget("speedup", 2.9), **models) == BOTH
    assert chosen(Budget("speedup", 4.0), **models) == BOTH
    assert chosen(Budget("speedup", 4.0), int8=(2.0, 0.001)) is None


def test_a_budget_on_size_is_never_met_by_the_original_in_int8() -> None:
    for budget in (Budget("macs", 0.5), Budget("params", 0.5), Budget("rank", 8)):
        assert chosen(budget, int8=(4, 0.0), rewritten=(2, 0.005), rewritten_int8=(3, 0.009)) == BOTH


@pytest.fixture(scope="module")
def smooth(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small network and inputs that a rewrite keeps."""
    folder = tmp_path_factory.mktemp("smooth")
    net, rng = Net(32), np.random.default_rng(0)
    value = net.relu(net.conv("first", "image", 32, 64))
    value = net.relu(net.conv("second", value, 64, 64))
    (folder / "model.onnx").write_bytes(model_bytes(net.build(value)))
    mixed = np.einsum("nkhw,kc->nchw", rng.normal(size=(60, 3, 12, 12)), rng.normal(size=(3, 32)))
    np.savez(folder / "data.npz", image=mixed.astype(np.float32))
    return folder / "model.onnx", folder / "data.npz"


def test_a_rewrite_in_int8_is_written_and_all_four_models_are_told(smooth: tuple[Path, Path], tmp_path: Path) -> None:
    model, data = smooth
    output = tmp_path / "out.onnx"
    result = sepconvert.rewrite(model, output, data=data, form="spatial", rank=0.4, measure=UNTIMED, planning=INT8)
    record, written = result.record, onnx.load(output)
    onnx.checker.check_model(written, full_check=True)
    assert {"QuantizeLinear", "DequantizeLinear"} <= {node.op_type for node in written.graph.node}
    assert record.plan is not None
    models = {one.name: one for one in record.plan.alternatives}
    assert list(models) == [ORIGINAL, ALONE, REWRITTEN, BOTH]
    assert [name for name, one in models.items() if one.chosen] == [BOTH]
    assert record.output is not None
    assert (models[BOTH].bytes or 0) < (models[ALONE].bytes or 0) < (models[ORIGINAL].bytes or 0)
    # Counted without writing it, and without the note that says how it was made.
    assert models[BOTH].bytes == pytest.approx(record.output.bytes, abs=1000)
    assert record.fidelity is not None
    assert record.fidelity.worst is not None
    assert record.fidelity.worst.decisive_error == models[BOTH].error
    assert 0 < (models[ALONE].error or 0) < (models[BOTH].error or 0)
    assert [one.ranges is None for one in models.values()] == [True, False, True, False]
    assert {site.precision for site in record.sites} == {"int8"}
    assert record.self_check is not None
    assert record.integer_check is not None
    assert record.integer_check.sites == 4  # both sites became two layers
    assert record.integer_check.max_relative <= 1
    with pytest.raises(ModelError, match="INT8"):
        result.keras(None)
    again = sepconvert.compare(model, output, data=data, measure=UNTIMED)
    assert again.fidelity is not None
    assert again.fidelity.worst is not None
    assert again.fidelity.worst.decisive_error == pytest.approx(models[BOTH].error)


def test_a_rewrite_that_is_best_without_int8_is_planned_again_for_floating_point(
    smooth: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Separable layers gained little in INT8 on a CPU: for 3 times the speed a VGG became 5 times as fast in floats."""
    model, data = smooth
    plans: list[Settled] = []

    def settled_again(*given: object) -> Settled | None:
        found = planned_in_floats(*given)  # type: ignore[arg-type]
        plans.extend([] if found is None else [found])
        return found

    monkeypatch.setattr(int8, "best_alternative", lambda *_: REWRITTEN)
    monkeypatch.setattr(tune_int8, "planned_in_floats", settled_again)
    monkeypatch.setattr(tune_int8, "serves_better", lambda *_: True)
    made = partial(sepconvert.rewrite, model, data=data, form="spatial", measure=UNTIMED, planning=INT8)
    record = made(max_error=0.05).record
    (plan,) = plans
    assert record.plan is not None
    assert record.plan.predicted == plan.plan.predicted
    models = {one.name: one for one in record.plan.alternatives}
    assert [name for name, one in models.items() if one.chosen] == [REWRITTEN]
    assert models[REWRITTEN].bytes == file_size(plan.applied.opened.model)
    assert {site.precision for site in record.sites} == {"float32"}
    assert record.integer_check is None

    stages = record.seconds
    assert stages["rest"] > 0  # nothing counts twice

    made(rank=0.4)  # a plan that has nothing to do with time or error
    monkeypatch.setattr(int8, "best_alternative", lambda *_: BOTH)
    made(max_error=0.05)
    assert len(plans) == 1


def test_another_plan_counts_only_where_it_is_the_rewritten_model_and_serves_the_budget_better() -> None:
    def settled(speedup: float, error: float, *, name: str = REWRITTEN) -> Settled:
        models = [alternative(REWRITTEN, speedup, error), alternative(BOTH, 2.0, 0.004)]
        plan = Plan({}, alternatives=[replace(one, chosen=one.name == name) for one in models])
        return Settled((), NetworkFit({}), cast(Applied, None), plan)

    fast, close = settled(5.0, 0.04), settled(3.0, 0.004)
    assert serves_better(Budget("speedup", 3.0), close, fast)
    assert not serves_better(Budget("speedup", 3.0), fast, close)
    assert serves_better(Budget("max_error", 0.05), fast, close)
    assert not serves_better(Budget("max_error", 0.05), close, fast)
    assert not serves_better(Budget("speedup", 3.0), settled(3.0, 0.004, name=BOTH), fast)


def test_where_no_rewrite_keeps_the_error_the_original_is_written_in_int8(tmp_path: Path) -> None:
    net = Net(6)
    model, data, output = tmp_path / "random.onnx", tmp_path / "white.npz", tmp_path / "out.onnx"
    model.write_bytes(model_bytes(net.build(net.relu(net.conv("site0", "image", 6, 8)))))
    np.savez(data, image=np.random.default_rng(0).normal(size=(40, 6, 12, 12)).astype(np.float32))
    record = sepconvert.rewrite(model, output, data=data, measure=UNTIMED, planning=INT8, max_error=0.005).record
    assert record.plan is not None
    assert [one.name for one in record.plan.alternatives if one.chosen] == [ALONE]
    assert [(site.status, site.precision) for site in record.sites] == [("kept", "int8")]
    assert any("No rewrite was found: --max-error 0.005 is out of reach" in warning for warning in record.warnings)
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(output).graph.node}
    with pytest.raises(NothingToDoError, match=r"out of reach.*INT8 alone errs by .* Nothing was written"):
        sepconvert.rewrite(model, data=data, measure=UNTIMED, planning=INT8, max_error=1e-7)


def narrow(folder: Path) -> tuple[Path, Path]:
    """A network whose only site has nothing to save, and inputs that are noise."""
    net = Net(2)
    value = net.relu(net.conv("site0", "image", 2, 2))
    (folder / "narrow.onnx").write_bytes(model_bytes(net.build(value)))
    np.savez(folder / "white.npz", image=np.random.default_rng(0).normal(size=(40, 2, 12, 12)).astype(np.float32))
    return folder / "narrow.onnx", folder / "white.npz"


def test_without_a_budget_int8_alone_is_written_where_no_layer_can_be_rewritten(tmp_path: Path) -> None:
    model, data = narrow(tmp_path)
    record = sepconvert.rewrite(model, data=data, measure=UNTIMED, planning=INT8).record
    assert record.plan is not None
    assert [one.name for one in record.plan.alternatives if one.chosen] == [ALONE]


def test_a_refusal_names_the_goal_that_was_taken_and_not_one_that_nobody_asked_for() -> None:
    nothing = Applied(cast(OpenedModel, None), {}, {}, SelfCheck(0.0, 1.0, 0), {})
    why = "No rewrite was found: --max-error 0.01 (the goal where no budget is given) is out of reach: so it is."
    settled = Settled((), NetworkFit({}), nothing, Plan({}), warnings=(why,))
    text = nothing_keeps(Budget("max_error", 0.01, by_default=True), settled, [], {ALONE: 0.0801})
    assert text == (
        "--max-error 0.01 (the goal where no budget is given) is out of reach: so it is. INT8 alone errs by 0.08, more "
        "than 0.01 (the goal where no budget is given); --max-error 0.081 takes it. Nothing was written."
    )
    assert chosen(Budget(by_default=True), int8=(2, 0.02)) is None
    assert chosen(Budget(by_default=True), int8=(2, 0.002)) == ALONE
    assert chosen(Budget("macs", 0.5), int8=(2, 0.002)) is None


def cancelling(folder: Path) -> tuple[Path, Path]:
    """A network whose second layer makes what its third takes the small difference of: rounding ruins that."""
    net, rng = Net(6), np.random.default_rng(0)
    value = net.relu(net.conv("body", "image", 6, 12))
    twin = rng.normal(size=(4, 12, 1, 1)).astype(np.float32)
    small = (1e-3 * rng.normal(size=twin.shape)).astype(np.float32)
    value = net.add("Conv", "twins", value, net.tensor("twins.w", np.concatenate([twin, twin + small])))
    apart = np.concatenate([np.eye(4), -np.eye(4)], axis=1).astype(np.float32)
    value = net.add("Conv", "difference", value, net.tensor("difference.w", apart[..., None, None]))
    (folder / "model.onnx").write_bytes(model_bytes(net.build(value)))
    np.savez(folder / "data.npz", image=rng.normal(size=(60, 6, 12, 12)).astype(np.float32))
    return folder / "model.onnx", folder / "data.npz"


def test_layers_that_carry_the_error_stay_in_floating_point_and_the_record_names_them(tmp_path: Path) -> None:
    model, data = cancelling(tmp_path)
    untouched = Planning(cache=False, int8=True, exclude=["*"])
    record = sepconvert.rewrite(model, data=data, measure=UNTIMED, planning=untouched, max_error=0.02).record
    assert record.plan is not None
    (alone,) = [one for one in record.plan.alternatives if one.chosen]
    assert alone.name == ALONE
    assert alone.floating == ["twins", "difference"]
    assert (alone.error or 1) < 0.02
    layers = {layer.output: layer.precision for layer in (*record.sites, *record.skipped)}
    assert layers == {"body": "int8", "twins": "float32", "difference": "float32"}


def test_boxes_and_scores_that_are_joined_are_judged_apart_and_no_score_is_rounded_by_the_boxes_scale(
    tmp_path: Path,
) -> None:
    net, rng = Net(6), np.random.default_rng(0)
    body = net.relu(net.conv("body", "image", 6, 16))
    boxes = net.add("Mul", "boxes", net.conv("near", body, 16, 4), net.tensor("pixels", np.full(1, 300.0)))
    scores = net.add("Sigmoid", "scores", net.conv("likely", body, 16, 3))
    net.add("Concat", "found", boxes, scores, axis=1)
    model, data, output = tmp_path / "detector.onnx", tmp_path / "data.npz", tmp_path / "out.onnx"
    model.write_bytes(model_bytes(net.build("found")))
    images = rng.normal(size=(60, 6, 12, 12)).astype(np.float32)
    np.savez(data, image=images)
    untouched = Planning(cache=False, int8=True, exclude=["*"])
    record = sepconvert.rewrite(model, output, data=data, measure=UNTIMED, planning=untouched, max_error=0.05).record
    assert record.fidelity is not None
    (found,) = record.fidelity.outputs
    assert [part.name for part in found.parts] == ["boxes", "likely"]
    assert not any("judged as a whole" in warning for warning in record.warnings)
    before, after = (run_model(path.read_bytes(), {"image": images[:4]})["found"][:, 4:] for path in (model, output))
    assert np.mean((before - after) ** 2) < 0.05 * np.var(before)


@pytest.mark.slow
def test_on_a_real_network_int8_is_measured_in_turns_with_the_rewrite(
    vgg: Path, first_images: Callable[[int], str]
) -> None:
    two = Planning(cache=False, int8=True, include=["/conv2_2/Conv", "/conv3_2/Conv"])
    record = sepconvert.rewrite(vgg, data=first_images(80), form="spatial", max_error=0.02, planning=two).record
    assert record.plan is not None
    models = {one.name: one for one in record.plan.alternatives}
    for name in models.keys() - {ORIGINAL}:
        assert models[name].speedup is not None
        assert (models[name].error or 1) < 0.05
    (written,) = [one for one in models.values() if one.chosen]
    (latency,) = record.latency
    assert latency.after is not None
    assert (latency.speedup, latency.after.median_ms) == (written.speedup, written.latency_ms)
    kept = {site.reason for site in record.sites if site.status == "kept"}
    assert (KEPT in kept) == (written.name == ALONE)


def test_a_model_that_is_quantised_already_is_refused_with_the_right_order(
    smooth: tuple[Path, Path], tmp_path: Path
) -> None:
    model, data = smooth
    output = tmp_path / "quantised.onnx"
    sepconvert.rewrite(model, output, data=data, form="spatial", rank=0.4, measure=UNTIMED, planning=INT8)
    with pytest.raises(ModelError, match=r"quantised already; pass the floating-point model .* rewrites first"):
        sepconvert.rewrite(output, data=data, measure=UNTIMED, planning=INT8)
    with pytest.raises(NothingToDoError, match="rewrite the floating-point model, then quantise the result"):
        sepconvert.rewrite(output, data=data, measure=UNTIMED)


def test_int8_needs_data_and_float32(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--int8 needs .* give --data"):
        sepconvert.rewrite("model.onnx", planning=INT8)
    net = Net(6)
    model, data = tmp_path / "half.onnx", tmp_path / "data.npz"
    model.write_bytes(model_bytes(net.build(net.conv("site0", "image", 6, 8), dtype=np.float16)))
    np.savez(data, image=np.ones((4, 6, 12, 12), np.float16))
    with pytest.raises(ModelError, match="computes in float16, and --int8 takes float32 models"):
        sepconvert.rewrite(model, data=data, measure=UNTIMED, planning=INT8)


@pytest.mark.slow
def test_a_sweep_shows_what_int8_alone_gives(smooth: tuple[Path, Path]) -> None:
    model, data = smooth
    record = sepconvert.sweep(model, data=data, form="spatial", budgets=[1.05], measure=UNTIMED, planning=INT8)
    assert record.sweep is not None
    (alone,) = [point for point in record.sweep.baselines if point.label == "INT8 alone"]
    (point,) = record.sweep.points
    assert point.command is not None
    assert "--int8" in point.command
    assert 0 < (alone.error or 0) < 0.01
    assert 0 < (point.error or 0) < 0.01
    assert (alone.file_bytes or 0) < (record.source.bytes or 0) / 3


def test_figures_of_a_plan_for_int8_are_against_the_original_in_floating_point() -> None:
    timed = Timed(before_ms=2.0, after_ms=1.0, speedup=2.0, low=1.8, high=2.2).against(1.5)
    assert timed == Timed(before_ms=3.0, after_ms=1.0, speedup=3.0, low=pytest.approx(2.7), high=pytest.approx(3.3))


@pytest.mark.slow
def test_an_analysis_times_int8_alone_beside_the_original(smooth: tuple[Path, Path]) -> None:
    model, data = smooth
    record = sepconvert.analyze(model, data=data, form="spatial", measure=Measure(latency=True), planning=INT8)
    assert record.plan is not None
    original, alone = record.plan.alternatives
    assert (original.name, alone.name) == (ORIGINAL, ALONE)
    assert alone.speedup is not None
    assert 0 < (alone.error or 0) < 0.01
    assert {site.precision for site in record.sites} <= {"int8", None}
    with pytest.raises(UsageError, match="takes --latency"):
        sepconvert.analyze(model, data=data, planning=INT8)

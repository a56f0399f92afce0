"""The user's metric is in records, bounds what is planned and written, and is a gate."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sepconvert
from sepconvert import Measure, Planning
from sepconvert.errors import DataError, GateError, NothingToDoError, UsageError
from sepconvert.record import Fidelity, MetricFidelity, OutputFidelity, Record
from sepconvert.report import accuracy, claims
from sepconvert.workflows.gate import Gate, check_gate, parse_gate
from sepconvert.workflows.measure import FIRST_ASKED
from sepconvert.workflows.meet_metric import STEP, _Bracket
from sepconvert.workflows.metrics import find_metric
from sepconvert.workflows.options import Budget
from tests.workflows.asked import typed


def less_each_time(original: Any, outputs: Any, labels: Any) -> float:
    """How alike the outputs are, as a number the planner can bound: 1 less the relative squared difference."""
    (name,) = original
    return 1 - float(np.square(outputs[name] - original[name]).sum() / original[name].var() / original[name].size)


QUICK = Measure(latency=False, metric=less_each_time)


def test_a_bound_is_the_budget_where_there_is_no_other() -> None:
    line = "sepconvert rewrite m.onnx --data d.npz --metric top1 --max-drop 0.02"
    assert typed(line).budget == Budget("max_drop", 0.02)
    both = typed(f"{line} --speedup 2")
    assert (both.budget, both.planning.max_drop) == (Budget("speedup", 2), 0.02)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rewrite m.onnx --data d.npz --max-drop 0.02", "name it with --metric"),
        ("rewrite m.onnx --metric top1", "give --data or --test-data"),
        ("rewrite m.onnx --data d.npz --metric top1 --max-drop -1", "--max-drop -1 is not a number from 0"),
        ("rewrite m.onnx --test-data d.npz --metric top1 --max-drop 0.1", "held-out inputs of --data"),
    ],
)
def test_what_a_bound_lacks_is_said(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        typed(f"sepconvert {line}")
    assert message in " ".join(capsys.readouterr().err.split())


def test_metrics_are_found_by_name_by_module_and_as_functions() -> None:
    for spec, name in (("top1", "top1"), (less_each_time, "less_each_time"), ("math:fsum", "fsum")):
        found = find_metric(spec)
        assert found is not None
        assert found.name == name
    with pytest.raises(UsageError, match="choose one of top1, mean-iou"):
        find_metric("accuracy")
    with pytest.raises(DataError, match="--metric no_such_module:f cannot be imported"):
        find_metric("no_such_module:f")
    with pytest.raises(DataError, match="--metric math:pi is a float, not a function"):
        find_metric("math:pi")


@pytest.mark.parametrize("limit", [1e-4, 0.003, 0.01, 0.05, 0.3])
def test_the_bracket_closes_on_the_largest_damage_that_is_borne(limit: float) -> None:
    bracket, tried = _Bracket(), []
    while (damage := bracket.next) is not None:
        tried.append(damage)
        bracket.add(damage, kept=damage <= limit)
    assert len(tried) <= 8
    assert bracket.borne is not None
    assert bracket.borne <= limit <= bracket.borne * (STEP if bracket.too_much is None else 1.5)


@pytest.mark.slow
def test_the_bound_is_kept_and_beyond_it_nothing_is_written(
    vgg: Path, first_images: Callable[[int], str], tmp_path: Path
) -> None:
    data, out = first_images(60), tmp_path / "out.onnx"
    sites = ["/conv2_2/Conv", "/conv3_2/Conv"]
    planning = Planning(cache=False, include=sites, max_drop=0.01)
    record = sepconvert.rewrite(vgg, data=data, form="spatial", measure=QUICK, planning=planning).record
    assert record.plan is not None
    assert record.plan.budget["max_drop"] == 0.01
    assert record.plan.measured is not None
    assert record.plan.measured["max_drop"] <= 0.01
    assert record.fidelity is not None
    found = record.fidelity.metric
    assert found is not None
    assert (found.name, found.before, found.labelled, found.max_drop) == ("less_each_time", 1.0, False, 0.01)
    assert found.bounded
    with pytest.raises(NothingToDoError, match=r"falls by \S+ .* more than --max-drop 1e-06 allows"):
        sepconvert.rewrite(
            vgg,
            out,
            data=data,
            form="spatial",
            macs=0.7,
            measure=QUICK,
            planning=Planning(cache=False, include=sites, max_drop=1e-6),
        )
    assert list(tmp_path.iterdir()) == []


def test_compare_measures_it_with_labels_and_pictures_of_any_shape(
    vgg: Path, first_images: Callable[[int], str]
) -> None:
    images = np.load(first_images(6))["image"]
    seen: list[Any] = []

    def metric(original: Any, outputs: Any, labels: Any) -> float:
        seen.append((outputs["logits"].shape, labels))
        return 0.5

    masks = np.zeros((6, 4, 4), np.uint8)
    record = sepconvert.compare(
        vgg, vgg, data={"image": images, "y": masks}, measure=Measure(latency=False, metric=metric)
    )
    assert [shape for shape, _ in seen] == [(6, 10)] * 4  # twice before anything is done
    assert all(labels.shape == masks.shape for _, labels in seen)
    assert record.fidelity is not None
    assert record.fidelity.metric == MetricFidelity("metric", 0.5, 0.5, True)
    assert any("only --metric uses it" in note for note in record.notes)
    assert "metric" in record.summary()
    assert Record.from_json(record.to_json()).fidelity == record.fidelity


def test_a_metric_that_fails_is_told_before_anything_is_done_with_the_names_there_are(
    vgg: Path, first_images: Callable[[int], str]
) -> None:
    stages: list[str] = []
    with pytest.raises(DataError, match=r"KeyError \('mask'\) at .*'logits', and there are no labels\."):
        sepconvert.rewrite(
            vgg,
            data=first_images(20),
            measure=Measure(latency=False, metric=lambda before, after, labels: after["mask"].mean()),
            progress=lambda stage, done, of: stages.append(stage),
        )
    assert stages == []


def test_a_metric_that_needs_more_than_the_first_inputs_is_asked_about_all(
    vgg: Path, first_images: Callable[[int], str]
) -> None:
    asked: list[int] = []

    def needs_twenty(before: Any, after: Any, labels: Any) -> float:
        asked.append(len(after["logits"]))
        return 1 / (len(after["logits"]) // 20)

    record = sepconvert.compare(
        vgg, vgg, data=first_images(20), measure=Measure(latency=False, metric=needs_twenty), progress=False
    )
    assert asked[0] == FIRST_ASKED
    assert record.fidelity is not None
    assert record.fidelity.metric is not None
    assert record.fidelity.metric.after == 1


@pytest.mark.parametrize(
    ("labels", "said"), [(np.array(["a"] * 6), "integer class numbers"), (np.eye(6, dtype=int), "one class number per")]
)
def test_without_a_metric_what_is_called_labels_has_to_be_class_numbers(
    vgg: Path, first_images: Callable[[int], str], labels: Any, said: str
) -> None:
    images = np.load(first_images(6))["image"]
    with pytest.raises(DataError, match=said):
        sepconvert.compare(vgg, vgg, data={"image": images, "y": labels}, measure=Measure(latency=False))


def fidelity(**figures: Any) -> Fidelity:
    return Fidelity([OutputFidelity("y", 0.001, None, 0.1, 1.0, 30.0)], 100, "the tests", **figures)


def test_the_gate_is_on_choices_and_the_metric_too(vgg: Path) -> None:
    assert parse_gate("error=0.1,choices=0.02,metric=0.5") == Gate(error=0.1, choices=0.02, metric=0.5)
    record = sepconvert.analyze(vgg)
    with pytest.raises(GateError, match=r"no choices were counted.*no metric was measured"):
        check_gate(record, Gate(choices=0.1, metric=0.1))
    object.__setattr__(record, "fidelity", fidelity(top1_agreement=0.95, metric=MetricFidelity("iou", 0.9, 0.8, True)))
    check_gate(record, Gate(choices=0.06, metric=0.11))
    with pytest.raises(
        GateError, match=r"0\.05 of the choices in top-1 changed, above 0\.04; the metric iou falls by 0\.1"
    ):
        check_gate(record, Gate(choices=0.04, metric=0.05))


def test_the_verdict_begins_with_the_metric_and_its_bound_decides(vgg: Path) -> None:
    record = sepconvert.analyze(vgg)
    for bound, tone, words in ((0.2, claims.GOOD, "within the 0.2"), (0.05, claims.BAD, "beyond the 0.05")):
        found = fidelity(metric=MetricFidelity("mean-iou", 0.9, 0.8, False, bound))
        object.__setattr__(record, "fidelity", found)
        claim = accuracy.quality(record)
        assert claim.short.startswith("mean-iou 0.9 → 0.8")
        assert claim.tone == tone
        assert words in claim.sentence
        assert "against what the original says" in claim.sentence


def test_a_sweep_tries_the_metric_before_anything_else(vgg: Path, first_images: Callable[[int], str]) -> None:
    stages: list[str] = []

    def metric(_original: Any, outputs: Any, _labels: Any) -> float:
        return float(outputs["no such output"].mean())

    with pytest.raises(DataError, match=r"the outputs are called 'logits'"):
        sepconvert.sweep(
            vgg,
            budgets=[1.2],
            data=first_images(6),
            measure=Measure(metric=metric),
            planning=Planning(cache=False),
            progress=lambda stage, _done, _total: stages.append(stage),
        )
    assert stages == []

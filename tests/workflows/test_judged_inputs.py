"""Where nothing else was given to judge by than what was fitted to, the record says so."""

from dataclasses import replace
from pathlib import Path

import numpy as np

import sepconvert
from sepconvert import Measure, Planning
from sepconvert.data import count_overlap, random_inputs
from sepconvert.record import InputInfo, Plan
from sepconvert.report import accuracy
from sepconvert.workflows.effort import FEWEST_INPUTS, INPUTS, WORK, looked_at
from sepconvert.workflows.input_warnings import judged_by_fitted
from tests.workflows.asked import typed

ONE = Planning(include=["/block1/conv1/Conv"], cache=False, jobs=1)
QUIET = Measure(latency=False)
SAID = "Without --test-data"


def told(notes: list[str]) -> list[str]:
    return [note for note in notes if note.startswith(SAID)]


def test_a_model_that_is_judged_by_what_it_was_fitted_to_says_so(resnet: Path, sample_models_dir: Path) -> None:
    data, test = (sample_models_dir / f"fashion_{name}.npz" for name in ("calibration", "test"))
    alone = sepconvert.rewrite(resnet, data=data, form="dw-pw", rank=2, planning=ONE, measure=QUIET).record
    assert alone.fidelity is not None
    assert alone.fidelity.fitted
    (note,) = told(alone.notes)
    assert "that the layers were fitted to" in note
    assert not any(sentence.startswith(("Use ", "There is room")) for sentence in alone.advice)
    assert accuracy.quality(alone).short.endswith("on the inputs it was fitted to")

    apart = sepconvert.rewrite(
        resnet, data=data, test_data=test, form="dw-pw", rank=2, planning=ONE, measure=QUIET
    ).record
    assert apart.fidelity is not None
    assert not apart.fidelity.fitted
    assert told(apart.notes) == []

    # Half of these were held out, as a bound on the error holds some out.
    half = replace(alone, notes=[], plan=Plan({"max_error": 0.01}, measured={"held_out_inputs": INPUTS // 2}))
    (note,) = told(judged_by_fitted(half, INPUTS).notes)
    assert f"all {INPUTS} calibration inputs, {INPUTS // 2} of which were fitted to" in note


def test_nothing_is_said_of_data_where_none_was_fitted_to(resnet: Path) -> None:
    record = sepconvert.rewrite(resnet, form="dw-pw", rank=2, planning=ONE, measure=QUIET).record
    assert record.fidelity is not None
    assert not record.fidelity.fitted
    assert told(record.notes) == []


def test_a_first_answer_looks_at_few_of_many_inputs() -> None:
    request = typed("sepconvert rewrite m.onnx --data d.npz --quick")
    inputs = random_inputs([InputInfo("x", "float32", [None, 2], [1, 2])], 2 * INPUTS, np.random.default_rng(0))
    for macs in (None, 10):
        calibration, test = looked_at(request, inputs, None, macs)
        assert calibration
        assert test
        assert (calibration.count, test.count) == (INPUTS, INPUTS)
        assert count_overlap(calibration, test) == 0


def test_a_first_answer_looks_at_fewer_inputs_of_a_network_that_is_slow_to_run() -> None:
    request = typed("sepconvert rewrite m.onnx --data d.npz --quick")
    info = InputInfo("x", "float32", [None, 2], [1, 2])
    given, more = (random_inputs([info], 60, np.random.default_rng(seed)) for seed in (0, 1))
    macs = int(WORK / 20)
    calibration, test = looked_at(request, given, more, macs)
    assert calibration
    assert test
    assert (calibration.count, test.count) == (20, FEWEST_INPUTS)
    assert count_overlap(test, more) == test.count
    calibration, test = looked_at(request, given, None, 10**12)
    assert calibration
    assert test
    assert (calibration.count, test.count) == (FEWEST_INPUTS, FEWEST_INPUTS)
    few = given.first(FEWEST_INPUTS)
    assert looked_at(request, few, None, 10**12) == (few, None)


def test_without_quick_all_inputs_are_looked_at() -> None:
    request = typed("sepconvert rewrite m.onnx --data d.npz")
    inputs = random_inputs([InputInfo("x", "float32", [None, 2], [1, 2])], 2 * INPUTS, np.random.default_rng(0))
    assert looked_at(request, inputs, None, 10**12) == (inputs, None)

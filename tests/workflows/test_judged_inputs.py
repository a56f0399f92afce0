"""Where nothing else was given to judge by than what was fitted to, the record says so."""

from dataclasses import replace
from pathlib import Path

import numpy as np

import sepconvert
from sepconvert import Measure, Planning
from sepconvert.data import random_inputs
from sepconvert.record import InputInfo, Plan
from sepconvert.report import accuracy
from sepconvert.workflows.effort import INPUTS, seen
from sepconvert.workflows.input_warnings import judged_by_fitted
from tests.workflows.asked import typed

ONE = Planning(include=["/block1/conv1/Conv"], cache=False, quick=True, jobs=1)
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
    looked = seen(request, inputs)
    assert looked is not None
    assert looked.count == INPUTS

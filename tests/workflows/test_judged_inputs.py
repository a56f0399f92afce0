"""Where nothing else was given to judge by than what was fitted to, the record says so."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sepconvert
from sepconvert import Measure, Planning, Reading
from sepconvert.data import Dataset, count_overlap, random_inputs
from sepconvert.record import InputInfo, Plan
from sepconvert.report import accuracy
from sepconvert.workflows import effort
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


QUICK = "sepconvert rewrite m.onnx --data d.npz --quick"


def inputs(count: int, seed: int = 0, batch: int | None = None) -> Dataset:
    return random_inputs([InputInfo("x", "float32", [batch, 2], [batch or 1, 2])], count, np.random.default_rng(seed))


def looked_counts(given: Dataset, macs: int | None, command: str = QUICK) -> tuple[int | None, int | None]:
    calibration, test = looked_at(typed(command), given, None, macs)
    assert calibration
    if test:
        assert count_overlap(calibration, test) == 0
    return calibration.count, test and test.count


def test_a_first_answer_looks_at_few_of_many_inputs_and_is_judged_on_others() -> None:
    assert looked_counts(inputs(2 * INPUTS), None) == (INPUTS, INPUTS)
    assert looked_counts(inputs(400), 10) == (INPUTS, 400 - INPUTS)
    assert looked_counts(inputs(400), 10**12) == (FEWEST_INPUTS, FEWEST_INPUTS)


@pytest.mark.parametrize(("given", "counts"), [(97, (89, 8)), (100, (92, 8)), (96, (96, None)), (60, (60, None))])
def test_what_a_first_answer_is_judged_on_is_never_a_mere_handful(given: int, counts: tuple[int, int | None]) -> None:
    assert looked_counts(inputs(given), None) == counts


def test_of_a_network_that_is_slow_to_run_too_few_inputs_to_split_are_fitted_to() -> None:
    assert looked_counts(inputs(9), 10**12) == (FEWEST_INPUTS, None)
    assert looked_counts(inputs(2 * FEWEST_INPUTS), 10**12) == (FEWEST_INPUTS, FEWEST_INPUTS)


def test_a_single_static_batch_is_not_split() -> None:
    assert looked_counts(inputs(128, batch=128), None) == (128, None)
    assert looked_counts(inputs(256, batch=128), None) == (128, 128)


def test_what_is_trained_on_judges_no_first_answer() -> None:
    assert looked_counts(inputs(400), None, f"{QUICK} --fine-tune") == (INPUTS, None)


def test_test_inputs_are_fewer_for_a_slow_network_but_a_metric_is_asked_about_all() -> None:
    given, more = inputs(60), inputs(70, seed=1)
    macs = int(WORK / 20)
    for options, count in (("", FEWEST_INPUTS), (" --metric top1", 70)):
        calibration, test = looked_at(typed(QUICK + options), given, more, macs)
        assert calibration
        assert test
        assert (calibration.count, test.count) == (20, count)
        assert count_overlap(test, more) == count


def test_without_quick_all_inputs_are_looked_at() -> None:
    given = inputs(2 * INPUTS)
    assert looked_at(typed("sepconvert rewrite m.onnx --data d.npz"), given, None, 10**12) == (given, None)


def test_batches_are_timed_of_all_inputs_that_were_given(
    resnet: Path, first_images: Callable[[int], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(effort, "WORK", 1.0)
    planning = replace(ONE, quick=True)
    reading = Reading(input_shapes={"image": (32, 1, 28, 28)})
    record = sepconvert.rewrite(
        resnet, data=first_images(100), form="dw-pw", rank=2, planning=planning, reading=reading
    ).record
    assert record.latency[0].input_shapes == {"image": [32, 1, 28, 28]}
    (note,) = [note for note in record.notes if "--quick" in note]
    assert f"fitted to {FEWEST_INPUTS} calibration inputs, judged on 92 others, times taken" in note

"""Distillation makes a rewritten model better, never worse, repeatably, and can be taken up again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sepconvert.data.vary import Variation
from sepconvert.errors import DataError, DeviceError, ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import model_bytes
from sepconvert.graph.trained_constants import trainable_constants
from sepconvert.graph.weights import read_constant
from sepconvert.progress import silent
from sepconvert.pytorch.checkpoint import read_checkpoint
from sepconvert.pytorch.objective import LABEL_WEIGHT, POOR, Goal, label_weight, objective
from sepconvert.pytorch.tuning import NotTunableError, Tuned, Tuning, tune
from sepconvert.runtime.sessions import run_model
from tests.fitting.nets import Net
from tests.pytorch.students import IMAGES, Student, classifier, dense_maps, student

pytestmark = pytest.mark.slow
TIMES = ("before", "after")


def run(given: Student, **options: object) -> Tuned:
    settings = replace(Tuning(steps=60), **options)
    return tune(given.original, given.rewritten, given.emitted, given.data, settings, silent)


def logits(model: LoadedModel, name: str = "probabilities") -> np.ndarray:
    return run_model(model_bytes(model), {"image": IMAGES}, [name])[name]


def numbers(model: LoadedModel) -> dict[str, np.ndarray]:
    return {name: value.const_value.numpy() for name, value in model.ir.graph.initializers.items()}


def test_training_lowers_the_divergence_that_is_measured_from_outside_too() -> None:
    given = student(classifier)
    tuned = run(given)
    before, after = tuned.figures["divergence_before"], tuned.figures["divergence_after"]
    assert after < before / 2
    truth = logits(given.original)
    outside = [float(np.square(logits(m) - truth).sum()) for m in (given.rewritten, tuned.model)]
    assert outside[1] < outside[0] / 2


def test_only_factors_biases_and_scales_change() -> None:
    given = student(classifier)
    tuned = run(given)
    trained = set(trainable_constants(given.rewritten, given.emitted))
    before, after = numbers(given.rewritten), numbers(tuned.model)
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == trained
    assert {"fc.b", "c0.bn0", "c0.bn1", "c1.b"} <= trained
    assert not trained & {"fc.w", "c0.bn2", "c0.bn3"}
    assert sum("dw_pw" in name for name in trained) == 4


def test_a_rate_that_ruins_the_weights_leaves_the_start() -> None:
    given = student(classifier)
    tuned = run(given, steps=25, rate=0.9)
    if tuned.figures["best_step"] == 0:
        assert model_bytes(tuned.model) == model_bytes(given.rewritten)
    assert tuned.figures["divergence_after"] <= tuned.figures["divergence_before"]


def test_training_that_no_rate_makes_better_ends_early_and_leaves_the_start() -> None:
    given = student(classifier, rank=8)  # full rank: exact from the start
    tuned = run(given, steps=100, rate=0.01)
    assert tuned.figures["steps"] < 60
    assert tuned.figures["best_step"] == 0
    assert [w for w in tuned.warnings if "ended early: no rate down to" in w]
    assert model_bytes(tuned.model) == model_bytes(given.rewritten)


@pytest.mark.parametrize("steps", [5, 20, 60])
def test_short_training_with_labels_uses_all_its_steps_at_a_rate_that_helps(steps: int) -> None:
    given = student(classifier, labels=True)
    tuned = run(given, steps=steps, rate=0.05)  # far too high for the start
    figures = tuned.figures
    assert figures["steps"] == steps
    assert not [w for w in tuned.warnings if "ended early" in w]
    weight = label_weight(figures["divergence_before"])
    scored = [figures[f"divergence_{when}"] + weight * figures[f"cross_entropy_{when}"] for when in TIMES]
    assert scored[1] <= scored[0]


def test_what_is_held_out_is_examined_for_answers_and_for_labels() -> None:
    figures = run(student(classifier)).figures
    assert figures["agreement_after"] >= figures["agreement_before"]
    assert "top1_before" not in figures
    assert "cross_entropy_before" not in figures
    figures = run(student(classifier, labels=True)).figures
    assert all(0 <= figures[f"{name}_{when}"] <= 1 for name in ("agreement", "top1") for when in TIMES)
    first, best = (next(p for p in figures["curve"] if p["step"] == step) for step in (0, figures["best_step"]))
    assert (figures["top1_before"], figures["top1_after"]) == (first["top1"], best["top1"])


def test_a_seed_decides_everything() -> None:
    given = student(classifier)
    first, again, other = (run(given, steps=20, seed=seed) for seed in (3, 3, 4))
    assert model_bytes(first.model) == model_bytes(again.model)
    assert first.figures["curve"] == again.figures["curve"]
    assert first.figures["curve"] != other.figures["curve"]


def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    given = student(classifier)
    path = tmp_path / "state.safetensors"
    whole = run(given, steps=50)

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("Fine-tune") and done == 31:
            raise KeyboardInterrupt

    settings = Tuning(steps=50, checkpoint=path, plan={"why": "test"}, start={"w": np.arange(3.0)})
    with pytest.raises(KeyboardInterrupt):
        tune(given.original, given.rewritten, given.emitted, given.data, settings, interrupt)
    kept = read_checkpoint(path)
    assert 0 < kept.progressed.step < 50
    assert kept.progressed.plan == {"why": "test"}
    resumed = run(given, steps=50, checkpoint=path, resume=True)
    assert model_bytes(resumed.model) == model_bytes(whole.model)
    assert resumed.figures["curve"] == whole.figures["curve"]


def test_so_does_one_that_had_gone_back_to_a_lower_rate(tmp_path: Path) -> None:
    given = student(classifier)
    path = tmp_path / "state.safetensors"
    whole = run(given, steps=50, rate=0.05)
    slower = [point["step"] for point in whole.figures["curve"] if point.get("slower")]
    assert slower

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("Fine-tune") and done == slower[0] + 3:
            raise KeyboardInterrupt

    settings = Tuning(steps=50, rate=0.05, checkpoint=path)
    with pytest.raises(KeyboardInterrupt):
        tune(given.original, given.rewritten, given.emitted, given.data, settings, interrupt)
    resumed = run(given, steps=50, rate=0.05, checkpoint=path, resume=True)
    assert model_bytes(resumed.model) == model_bytes(whole.model)
    assert resumed.figures["curve"] == whole.figures["curve"]


def test_the_best_so_far_can_be_had_without_further_steps(tmp_path: Path) -> None:
    given = student(classifier)
    path = tmp_path / "state.safetensors"
    done = run(given, steps=25, checkpoint=path)
    stopped = run(given, steps=1, checkpoint=path, resume=True)
    assert model_bytes(stopped.model) == model_bytes(done.model)


def test_a_state_of_another_training_is_refused(tmp_path: Path) -> None:
    given = student(classifier)
    path = tmp_path / "state.safetensors"
    run(given, steps=5, checkpoint=path)
    with pytest.raises(ModelError, match="another training"):
        run(given, steps=5, checkpoint=path, resume=True, seed=1)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ModelError, match="damaged"):
        run(given, steps=5, checkpoint=path, resume=True)
    path.unlink()
    with pytest.raises(ModelError, match="to resume from"):
        run(given, steps=5, checkpoint=path, resume=True)


def test_all_weights_are_trained_where_that_is_asked_for() -> None:
    given = student(classifier)
    tuned = run(given, all_weights=True)
    before, after = numbers(given.rewritten), numbers(tuned.model)
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == set(trainable_constants(given.rewritten, None))
    assert changed == set(trainable_constants(given.rewritten, given.emitted)) | {"fc.w"}
    assert tuned.figures["train_weights"] == "all"


VARIATION = Variation(("shift", "flip"), {"image": 1})


def test_on_variants_of_images_it_learns_repeatably_and_can_be_taken_up_again(tmp_path: Path) -> None:
    given = student(classifier)
    path = tmp_path / "state.safetensors"
    whole = run(given, steps=50, variation=VARIATION)
    assert whole.figures["divergence_after"] < whole.figures["divergence_before"]
    assert whole.figures["augment"] == ["shift", "flip"]
    assert whole.figures["curve"] != run(given, steps=50).figures["curve"]

    def interrupt(what: str, done: int, total: int) -> None:
        if what.startswith("Fine-tune") and done == 31:
            raise KeyboardInterrupt

    settings = Tuning(steps=50, checkpoint=path, variation=VARIATION)
    with pytest.raises(KeyboardInterrupt):
        tune(given.original, given.rewritten, given.emitted, given.data, settings, interrupt)
    with pytest.raises(ModelError, match="--augment"):
        run(given, steps=50, checkpoint=path, resume=True)
    resumed = run(given, steps=50, checkpoint=path, resume=True, variation=VARIATION)
    assert model_bytes(resumed.model) == model_bytes(whole.model)
    assert resumed.figures["curve"] == whole.figures["curve"]


def test_labels_are_mixed_in_on_variants_too() -> None:
    assert run(student(classifier, labels=True), steps=10, variation=VARIATION).figures["labels"]


def test_dense_maps_and_inner_outputs_are_distilled_before_their_activation() -> None:
    tuned = run(student(dense_maps))
    assert tuned.figures["values"] == ["c1", "c0.relu"]
    assert tuned.figures["divergence_after"] < tuned.figures["divergence_before"]


def test_labels_are_mixed_in_where_an_output_has_their_classes() -> None:
    assert run(student(classifier, labels=True), steps=10).figures["labels"]
    tuned = run(student(dense_maps, labels=True), steps=10)
    assert not tuned.figures["labels"]
    assert any("labels" in warning for warning in tuned.warnings)


def test_the_originals_own_answers_count_as_labels_where_that_is_asked_for() -> None:
    given = student(classifier)
    tuned = run(given, steps=10, hard_labels=True)
    assert tuned.figures["labels"]
    assert tuned.figures["hard_labels"]
    answers = logits(given.original).argmax(axis=1)
    labelled = run(replace(given, data=replace(given.data, labels=answers)), steps=10)
    assert model_bytes(tuned.model) == model_bytes(labelled.model)
    with pytest.raises(DataError, match="has labels"):
        run(student(classifier, labels=True), hard_labels=True)
    with pytest.raises(DataError, match="one figure per class"):
        run(student(dense_maps), hard_labels=True)


def test_the_objective_is_the_relative_error_and_a_tenth_of_the_cross_entropy() -> None:
    wanted = {"y": torch.tensor([[0.0, 2.0], [4.0, 0.0]])}
    found = {"y": torch.tensor([[0.0, 0.0], [0.0, 0.0]])}
    plain = objective([Goal("y", 2.5)], found, wanted, None)
    assert float(plain.total(LABEL_WEIGHT)) == float(plain.divergence) == pytest.approx(5 / 2.5)
    assert plain.cross_entropy is None
    labelled = objective([Goal("y", 2.5, classes=True)], found, wanted, torch.tensor([0, 1]))
    assert float(labelled.divergence) == pytest.approx(2)
    assert labelled.cross_entropy is not None
    assert float(labelled.cross_entropy) == pytest.approx(np.log(2))
    assert float(labelled.total(LABEL_WEIGHT)) == pytest.approx(2 + LABEL_WEIGHT * np.log(2))


def test_labels_count_the_more_the_worse_the_start_is() -> None:
    assert label_weight(None) == label_weight(POOR) == label_weight(1.0) == LABEL_WEIGHT
    assert label_weight(POOR / 5) == pytest.approx(LABEL_WEIGHT / 5)
    assert label_weight(0.0) == 0


def test_half_precision_is_trained_in_single_and_written_in_half() -> None:
    given = student(
        lambda net: net.build(net.conv("c1", net.relu(net.conv("c0", "image", 4, 8)), 8, 4), dtype=np.float16)
    )
    tuned = run(given)
    assert tuned.figures["divergence_after"] < tuned.figures["divergence_before"]
    assert {array.dtype.name for array in numbers(tuned.model).values()} == {"float16"}


def test_a_static_batch_is_trained_at_that_size() -> None:
    given = student(lambda net: net.build(net.conv("c0", "image", 4, 4), batch=2))
    tuned = run(given, steps=20)
    assert tuned.figures["batch"] == 2
    assert tuned.figures["divergence_after"] < tuned.figures["divergence_before"]


def test_an_operator_that_cannot_be_trained_is_named() -> None:
    def odd(net: Net) -> LoadedModel:
        value = net.conv("c0", "image", 4, 4)
        return net.build(net.add("Unique", "unique", value, sorted=1))

    with pytest.raises(NotTunableError, match="Unique"):
        run(student(odd))


def test_too_few_inputs_are_refused() -> None:
    given = student(classifier)
    with pytest.raises(DataError, match="too few"):
        run(replace(given, data=given.data.first(3)))


def test_a_missing_gpu_is_said_at_once() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(DeviceError, match="CUDA"):
        run(student(classifier), device="cuda")


def test_two_processes_train_as_well_as_one() -> None:
    told: list[str] = []
    given = student(classifier)
    alone = run(given)
    settings = Tuning(steps=60, num_devices=2)
    together = tune(
        given.original,
        given.rewritten,
        given.emitted,
        given.data,
        settings,
        lambda what, done, total: told.append(what),
    )
    assert together.figures["processes"] == 2
    assert together.figures["divergence_before"] == pytest.approx(alone.figures["divergence_before"], rel=0.2)
    assert together.figures["divergence_after"] < together.figures["divergence_before"] / 2
    assert any(what.startswith("Fine-tune") for what in told)


def test_the_weights_it_reads_are_those_of_the_written_graph() -> None:
    given = student(classifier)
    for name in trainable_constants(given.rewritten, given.emitted):
        assert read_constant(given.rewritten, name).dtype == np.float32


def test_weights_that_cease_to_be_numbers_are_left_for_the_best() -> None:
    given = student(classifier)
    course = replace(Tuning(steps=20), rate=0.999)
    tuned = tune(given.original, given.rewritten, given.emitted, given.data, course, silent)
    assert tuned.figures["divergence_after"] <= tuned.figures["divergence_before"]
    assert all(
        np.isfinite(array.astype(np.float64)).all()
        for array in numbers(tuned.model).values()
        if array.dtype.kind == "f"
    )


def test_of_few_inputs_two_are_held_out_because_one_does_not_vary() -> None:
    given = student(classifier)
    figures = run(replace(given, data=given.data.first(6)), steps=2).figures
    assert (figures["inputs"], figures["held_out_inputs"]) == (4, 2)

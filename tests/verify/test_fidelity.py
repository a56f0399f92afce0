from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sepconvert
from sepconvert import Measure
from sepconvert.data import Dataset, Preprocess
from sepconvert.data.arrays import from_arrays
from sepconvert.errors import ModelError
from sepconvert.graph.joined import OutputPart
from sepconvert.record import InputInfo
from sepconvert.runtime.sessions import Session
from sepconvert.verify import fidelity
from sepconvert.verify.fidelity import Original, measure_fidelity

LOGITS = {"p": (OutputPart("logits"),)}
WEIGHT = np.random.default_rng(5).standard_normal((3, 4)).astype(np.float32)


def linear(
    weight: np.ndarray,
    *,
    softmax: bool = False,
    logits_out: bool = True,
    names: tuple[str, str] = ("x", "p"),
    batch: int | str = "N",
    dtype: int = TensorProto.FLOAT,
) -> bytes:
    """x (N, 3) → logits (N, 4) [→ Softmax p]; ``logits_out`` also gives the logits as an output."""
    source, result = names
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    value = "logits" if softmax else result
    nodes = [helper.make_node("MatMul", [source, "w"], [value])]
    outputs = [helper.make_tensor_value_info(result, dtype, [batch, weight.shape[1]])]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], [result], axis=1))
        if logits_out:
            outputs.append(helper.make_tensor_value_info("logits", dtype, [batch, weight.shape[1]]))
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info(source, dtype, [batch, 3])],
        outputs,
        [numpy_helper.from_array(weight.astype(kind), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def samples(count: int = 20, batch: int | str = "N", *, labels: np.ndarray | None = None) -> Dataset:
    x = np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32)
    arrays = {"x": x} if labels is None else {"x": x, "y": labels}
    return from_arrays(arrays, [InputInfo("x", "float32", [batch, 3], None)], Preprocess(), "the samples")


def reference(weight: np.ndarray, count: int = 20) -> np.ndarray:
    x = np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32)
    return x.astype(np.float64) @ weight.astype(np.float64)


@pytest.mark.parametrize(("room", "runs"), [(fidelity.KEPT_BYTES, 3), (0, 9)])
def test_an_original_answers_once_however_many_models_it_is_compared_with(
    room: int, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Session] = []
    run = Session.run
    monkeypatch.setattr(Session, "run", lambda self, *given: (ran.append(self), run(self, *given))[1])
    monkeypatch.setattr(fidelity, "KEPT_BYTES", room)
    original, inputs = Original(linear(WEIGHT)), samples()
    others = [linear(WEIGHT * scale) for scale in (1, 1.1, 2)]
    found = [measure_fidelity(original, other, inputs, batch_size=8) for other in others]
    assert sum(session is original.session for session in ran) == runs
    assert found == [measure_fidelity(linear(WEIGHT), other, inputs, batch_size=8) for other in others]
    others_inputs = samples(7)
    assert measure_fidelity(original, others[1], others_inputs).fidelity.samples == 7
    assert measure_fidelity(original, others[1], inputs, batch_size=8) == found[1]


def test_a_model_equals_itself() -> None:
    result = measure_fidelity(linear(WEIGHT), linear(WEIGHT), samples())
    (output,) = result.fidelity.outputs
    assert (output.name, output.relative_error, output.max_abs, output.sqnr_db) == ("p", 0.0, 0.0, None)
    assert (result.fidelity.samples, result.fidelity.data) == (20, "the samples")
    assert (result.fidelity.top1_before, result.fidelity.top1_agreement) == (None, 1.0)
    assert result.warnings == ()


@pytest.mark.parametrize("batch_size", [None, 1, 7])
def test_the_relative_error_is_that_of_the_definition(batch_size: int | None) -> None:
    other = WEIGHT + np.float32(0.1)
    result = measure_fidelity(linear(WEIGHT), linear(other), samples(), batch_size=batch_size)
    y, y_hat = reference(WEIGHT), reference(other)
    expected = np.square(y - y_hat).sum() / np.square(y - y.mean(axis=0)).sum()
    # The models compute in float32: three products, relative 3·2^-24 each, of values ten times the difference.
    assert result.fidelity.outputs[0].relative_error == pytest.approx(expected, rel=3 * 2**-24 * 100)


def test_top_one_is_counted_against_the_labels() -> None:
    other = WEIGHT[:, ::-1].copy()
    before, after = reference(WEIGHT).argmax(axis=1), reference(other).argmax(axis=1)
    labels = np.where(np.arange(20) < 15, before, (before + 1) % 4)
    fidelity = measure_fidelity(linear(WEIGHT), linear(other), samples(labels=labels), batch_size=6).fidelity
    assert fidelity.top1_before == 15 / 20
    assert fidelity.top1_after == (after == labels).mean()
    assert fidelity.top1_agreement == (before == after).mean()


def test_labels_beyond_the_classes_leave_top_one_out_and_say_so() -> None:
    result = measure_fidelity(linear(WEIGHT), linear(WEIGHT), samples(labels=np.arange(20)))
    assert (result.fidelity.top1_before, result.fidelity.top1_agreement) == (None, None)
    assert "labels go up to 19" in result.warnings[0]


def test_a_saturated_softmax_hides_what_its_input_shows() -> None:
    sharp = WEIGHT * 200
    damaged = sharp * np.float32(1.5)
    result = measure_fidelity(linear(sharp, softmax=True), linear(damaged, softmax=True), samples(), parts=LOGITS)
    (output,) = result.fidelity.outputs
    assert output.pre_activation_relative_error == pytest.approx(
        0.25 * np.square(reference(sharp)).sum() / np.square(reference(sharp) - reference(sharp).mean(axis=0)).sum(),
        rel=1e-4,
    )
    assert output.relative_error is not None
    assert output.relative_error < 0.05 < output.pre_activation_relative_error
    assert output.decisive_error == output.pre_activation_relative_error


def test_logits_that_are_an_output_too_are_compared_as_such_when_asked() -> None:
    model = linear(WEIGHT, softmax=True)
    result = measure_fidelity(model, model, samples(), parts=LOGITS, outputs=["p", "logits"])
    assert [output.name for output in result.fidelity.outputs] == ["p", "logits"]
    assert result.fidelity.outputs[1].pre_activation_relative_error is None


def test_a_missing_pre_activation_value_is_said() -> None:
    without = linear(WEIGHT, softmax=True, logits_out=False)
    result = measure_fidelity(linear(WEIGHT, softmax=True), without, samples(), parts=LOGITS)
    assert result.fidelity.outputs[0].pre_activation_relative_error is None
    said = "What output 'p' is made of (logits) is not alike in both models: it is judged as a whole."
    assert result.warnings == (said,)


def test_stretches_of_one_value_are_parts_by_their_own_variance() -> None:
    scale = np.array([1, 1000, 1000, 1], np.float32)
    changed = WEIGHT * np.array([1.5, 1, 1, 1.5], np.float32)
    parts = {"p": (OutputPart("p", ((1, 0, 1),)), OutputPart("p", ((1, 1, 3),)), OutputPart("p", ((1, 3, 4),)))}
    (output,) = measure_fidelity(
        linear(WEIGHT * scale), linear(changed * scale), samples(), parts=parts
    ).fidelity.outputs
    assert [part.name for part in output.parts] == ["p[:, 0:1]", "p[:, 1:3]", "p[:, 3:4]"]
    for part, columns in zip(output.parts, ([0], [1, 2], [3]), strict=True):
        y, y_hat = reference(WEIGHT)[:, columns], reference(changed)[:, columns]
        expected = np.square(y - y_hat).sum() / np.square(y - y.mean(axis=0)).sum()
        assert part.relative_error == pytest.approx(expected, rel=1e-4, abs=1e-12)
    # The two large columns make up all of the whole's variance, and they are right.
    assert output.relative_error is not None
    assert output.relative_error < 1e-5
    assert output.worst_part is not None
    assert output.decisive_error == output.worst_part.relative_error > 0.2


def test_a_part_that_is_constant_does_not_count_but_one_that_is_no_number_leaves_nothing_known() -> None:
    weight = WEIGHT.copy()
    weight[:, 0] = 0
    parts = {"p": (OutputPart("p", ((1, 0, 1),)), OutputPart("p", ((1, 1, 4),)))}
    (output,) = measure_fidelity(linear(weight), linear(weight * 1.1), samples(), parts=parts).fidelity.outputs
    assert output.parts[0].relative_error is None
    assert output.decisive_error == output.parts[1].relative_error
    broken = weight.copy()
    broken[0, 0] = np.nan
    (output,) = measure_fidelity(linear(weight), linear(broken), samples(), parts=parts).fidelity.outputs
    assert output.decisive_error is None


def test_outputs_with_nan_have_no_figures_and_a_warning() -> None:
    broken = WEIGHT.copy()
    broken[0, 0] = np.nan
    result = measure_fidelity(linear(WEIGHT), linear(broken), samples(labels=np.zeros(20, int)))
    (output,) = result.fidelity.outputs
    assert (output.relative_error, output.max_abs, output.cosine, output.sqnr_db) == (None, None, None, None)
    assert result.warnings[0] == "'p' of the rewritten model holds NaN or Inf in 20 of 20 samples."
    assert "Top-1 is left out" in result.warnings[1]
    assert result.fidelity.top1_after is None


def test_one_sample_has_no_relative_error_but_the_other_figures() -> None:
    result = measure_fidelity(linear(WEIGHT), linear(WEIGHT * 2), samples(1))
    assert result.fidelity.outputs[0].relative_error is None
    assert result.fidelity.outputs[0].cosine == pytest.approx(1.0, rel=1e-12)
    assert result.warnings == ("'p' has no relative error because there is only one sample.",)


def test_a_static_batch_is_fed_whole_and_left_over_samples_are_said() -> None:
    model = linear(WEIGHT, batch=8)
    dataset = samples(20, 8)
    assert measure_fidelity(model, model, dataset).fidelity.samples == 16
    assert "last 4 of 20 samples were left out" in dataset.warnings[0]


def test_names_types_and_batch_of_the_second_model_may_differ() -> None:
    half = linear(WEIGHT, names=("image", "scores"), dtype=TensorProto.FLOAT16, batch=1)
    (output,) = measure_fidelity(linear(WEIGHT), half, samples()).fidelity.outputs
    assert output.name == "p"
    assert output.relative_error is not None
    # float16 rounds input, weight and output by 2^-11 each; three terms: their squares, relative to the spread.
    assert 0 < output.relative_error < (5 * 2**-11) ** 2


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'p' has shape \['N', 4\] before but \['N', 2\] after"):
        measure_fidelity(linear(WEIGHT), linear(WEIGHT[:, :2]), samples())
    with pytest.raises(ModelError, match="outputs do not correspond: p, logits before, p after"):
        measure_fidelity(linear(WEIGHT, softmax=True), linear(WEIGHT), samples())


def test_an_output_whose_shape_depends_on_its_values_is_left_out_and_said() -> None:
    def positives(weight: np.ndarray) -> bytes:
        nodes = [helper.make_node("MatMul", ["x", "w"], ["v"]), helper.make_node("Relu", ["v"], ["r"])]
        nodes.append(helper.make_node("NonZero", ["r"], ["p"]))
        graph = helper.make_graph(
            nodes,
            "positives",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
            [helper.make_tensor_value_info("p", TensorProto.INT64, [2, "K"])],
            [numpy_helper.from_array(weight, "w")],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()

    result = measure_fidelity(positives(WEIGHT), positives(WEIGHT * 0), samples())
    assert result.fidelity.outputs[0].relative_error is None
    assert "on the same input, so it cannot be compared" in result.warnings[0]


def test_samples_lie_along_the_axis_that_is_named_however_many_positions_there_are() -> None:
    def letters(weight: np.ndarray) -> bytes:
        """x (N, 3) → y (4, N): positions first, as a text recogniser has them."""
        nodes = [helper.make_node("MatMul", ["x", "w"], ["v"]), helper.make_node("Transpose", ["v"], ["y"])]
        x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
        y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [4, "N"])
        graph = helper.make_graph(nodes, "letters", [x], [y], [numpy_helper.from_array(weight, "w")])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()

    changed = WEIGHT + np.float32(0.1)
    for count in (4, 20):  # as many samples as positions, and more
        expected, truth = reference(changed, count), reference(WEIGHT, count)
        error = ((expected - truth) ** 2).sum() / ((truth - truth.mean(0)) ** 2).sum()
        found = measure_fidelity(letters(WEIGHT), letters(changed), samples(count), axes={"y": 1})
        assert found.fidelity.outputs[0].relative_error == pytest.approx(error, rel=1e-5)
        itself = measure_fidelity(letters(WEIGHT), letters(WEIGHT), samples(count), axes={"y": 1})
        assert itself.fidelity.outputs[0].relative_error == 0


def test_agreement_on_inputs_that_are_all_the_same_is_no_evidence() -> None:
    same = from_arrays(
        {"x": np.ones((9, 3), np.float32)}, [InputInfo("x", "float32", ["N", 3], None)], Preprocess(), "ones"
    )
    result = measure_fidelity(linear(WEIGHT), linear(WEIGHT), same)
    assert result.fidelity.top1_agreement is None
    assert any("are the same" in warning for warning in result.warnings)


@pytest.mark.parametrize(("pad", "batches"), [(0, 1), (2**17, 4)])
def test_outputs_of_many_values_come_one_sample_at_a_time(pad: int, batches: int) -> None:
    """An input of eight values whose output has two million: a batch of them would fill the memory."""
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], pads=[pad, pad])]
    tensors = [numpy_helper.from_array(np.ones((8, 1, 1), np.float32), "w")]
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 8 + 2 * pad])
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 8])
    graph = helper.make_graph(nodes, "wide", [taken], [made], tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    seen: list[int] = []
    x = np.random.default_rng(0).normal(size=(4, 1, 8)).astype(np.float32)
    dataset = from_arrays({"x": x}, [InputInfo("x", "float32", ["N", 1, 8], None)], Preprocess(), "the samples")
    measure_fidelity(proto, proto, dataset, progress=lambda _stage, done, _total: seen.append(done))
    assert len(seen) == batches + 1


def boxes_and_classes() -> bytes:
    """Numbers of a box first, as detectors give them, then the probabilities of two classes."""
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("Gemm", ["x", "b"], ["box"]),
        helper.make_node("Gemm", ["x", "c"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["classes"], axis=1),
    ]
    tensors = [
        numpy_helper.from_array(rng.normal(size=(3, width)).astype(np.float32), name)
        for name, width in (("b", 4), ("c", 2))
    ]
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])
    made = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", w]) for name, w in (("box", 4), ("classes", 2))
    ]
    graph = helper.make_graph(nodes, "two", [taken], made, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def test_the_largest_number_of_a_box_is_no_answer_where_an_output_holds_classes(tmp_path: Path) -> None:
    (tmp_path / "before.onnx").write_bytes(boxes_and_classes())
    proto = onnx.load(tmp_path / "before.onnx")
    changed = numpy_helper.to_array(proto.graph.initializer[0])[:, ::-1]
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed), "b"))
    onnx.save(proto, tmp_path / "after.onnx")
    x = np.random.default_rng(1).normal(size=(20, 3)).astype(np.float32)
    record = sepconvert.compare(
        tmp_path / "before.onnx", tmp_path / "after.onnx", data=x, measure=Measure(latency=False)
    )
    found = record.fidelity
    assert found is not None
    assert (found.top1_agreement, found.leading_output, found.most_changed) == (1.0, "classes", [])
    assert found.outputs[0].relative_error > 0.1

"""Outputs and inputs that are unlike images and scores: constants, inputs, places, sequences, text."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import sepconvert
from sepconvert.errors import ModelError, NothingToDoError
from sepconvert.graph.load import load_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.survey import survey
from sepconvert.planning.damage import LEFT_OF_FEW
from sepconvert.planning.profile import profile_network
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.record import Record
from sepconvert.workflows import Measure, Planning
from tests.fitting.nets import dataset
from tests.graph.models import weight

IMAGES = np.random.default_rng(0).standard_normal((24, 4, 9, 9)).astype(np.float32)
LIGHT = ProfileEffort(inputs=24, replayed=16, ranks=2, most_evaluations=3, ridge=0.03)
UNTIMED = Measure(latency=False)
FLOAT, INTEGER = TensorProto.FLOAT, TensorProto.INT64

Info = onnx.ValueInfoProto
image = helper.make_tensor_value_info("image", FLOAT, ["N", 4, 9, 9])
first = helper.make_tensor_value_info("y", FLOAT, ["N", 8, 9, 9])


def saved(path: Path, behind: Sequence[onnx.NodeProto], outputs: Sequence[Info], inputs: Sequence[Info] = ()) -> Path:
    """A convolution ``y`` of ``image``, and what comes behind it."""
    conv = helper.make_node("Conv", ["image", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    weights = [
        numpy_helper.from_array(weight((8, 4, 3, 3)) * 0.2, "w"),
        numpy_helper.from_array(np.array([3]), "three"),
    ]
    graph = helper.make_graph([conv, *behind], "g", [image, *inputs], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def rewritten(path: Path, **budget: float) -> Record:
    planning = Planning(cache=False, allow_loss=True)
    return sepconvert.rewrite(path, data={"image": IMAGES}, measure=UNTIMED, planning=planning, **budget).record


@pytest.mark.parametrize("odd", ["image", "size"])
def test_outputs_that_no_site_reaches_stand_in_the_way_of_no_plan(odd: str, tmp_path: Path) -> None:
    """An input, and a constant that a node computes."""
    node = helper.make_node("Shape", ["three"], ["size"])
    outputs = {"image": image, "size": helper.make_tensor_value_info("size", INTEGER, [1])}
    path = saved(tmp_path / "m.onnx", [node], [first, outputs[odd]])
    model = load_model(path)
    sites = survey(model, infer_shapes(model)).sites
    rng = np.random.default_rng(0)
    profiles = profile_network(model, sites, dataset(model, IMAGES), ["dw_pw"], rng=rng, jobs=1, effort=LIGHT)
    (profile,) = profiles.values()
    assert profile.sensitivities.keys() == {"y"}


@pytest.mark.slow
@pytest.mark.parametrize("left", [LEFT_OF_FEW, 0.7])
def test_places_of_a_topk_are_judged_by_their_scores(
    left: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 0.7 the first plan errs three times as much as predicted, and the corrected limit lies below all plans."""
    monkeypatch.setattr("sepconvert.planning.damage.LEFT_OF_FEW", left)
    nodes = [
        helper.make_node("ReduceMean", ["y"], ["s"], axes=[2, 3], keepdims=0),
        helper.make_node("TopK", ["s", "three"], ["best", "places"]),
    ]
    places = helper.make_tensor_value_info("places", INTEGER, ["N", 3])
    record = rewritten(saved(tmp_path / "m.onnx", nodes, [places]), max_error=0.3)
    assert record.fidelity is not None
    (found,) = record.fidelity.outputs
    assert found.pre_activation_relative_error is not None
    assert found.pre_activation_relative_error <= 0.3


@pytest.mark.slow
def test_one_answer_to_all_inputs_is_not_called_one_sample(tmp_path: Path) -> None:
    node = helper.make_node("Shape", ["three"], ["size"])
    size = helper.make_tensor_value_info("size", INTEGER, [1])
    record = rewritten(saved(tmp_path / "m.onnx", [node], [first, size]), rank=1)
    (said,) = [text for text in record.warnings if "'size'" in text]
    assert said == "'size' has no relative error because it is one answer to all 24 inputs."


@pytest.mark.slow
def test_more_data_is_asked_for_only_where_more_would_help(tmp_path: Path) -> None:
    node = helper.make_node("SplitToSequence", ["y"], ["parts"], axis=1)
    parts = helper.make_tensor_sequence_value_info("parts", FLOAT, None)
    path = saved(tmp_path / "m.onnx", [node], [parts])
    with pytest.raises(ModelError, match=r"cannot be compared as numbers\. Ask for --macs") as refusal:
        rewritten(path, max_error=0.3)
    assert "more --data" not in str(refusal.value)


@pytest.mark.slow
def test_a_site_of_unknown_size_is_not_refused_for_its_error(tmp_path: Path) -> None:
    """No size is inferred behind an operator of onnxruntime's own."""
    gelu = helper.make_node("Gelu", ["image"], ["z"], domain="com.microsoft")
    conv = helper.make_node("Conv", ["z", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
    graph = helper.make_graph([gelu, conv], "g", [image], [first], [numpy_helper.from_array(weight((8, 4, 3, 3)), "w")])
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=domains, ir_version=8), path)
    with pytest.raises(NothingToDoError, match=r"what site conv costs is unknown.*; give --rank instead\.$"):
        rewritten(path, max_error=0.9)
    assert rewritten(path, rank=1).sites[0].status == "rewritten"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (helper.make_tensor_value_info("s", TensorProto.STRING, ["N"]), "text"),
        (helper.make_tensor_sequence_value_info("s", FLOAT, None), "a sequence of tensors"),
        (
            helper.make_value_info("s", helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, [1]))),
            "an optional tensor",
        ),
    ],
    ids=["text", "sequence", "optional"],
)
def test_inputs_that_are_no_arrays_of_numbers_are_refused_before_any_work(
    kind: Info, said: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "m.onnx", [], [first], [kind])
    for refused in (
        lambda: sepconvert.rewrite(path, rank=1, measure=UNTIMED),
        lambda: rewritten(path, rank=1),
        lambda: sepconvert.compare(path, path, measure=UNTIMED),
    ):
        with pytest.raises(ModelError, match=f"Input 's' is {said}, but only arrays of numbers can be fed; "):
            refused()
    assert len(sepconvert.analyze(path).sites) == 1


def test_what_onnxruntime_refuses_names_the_file(tmp_path: Path) -> None:
    z = helper.make_tensor_value_info("z", FLOAT, ["N", 8, 9, 9])
    path = saved(tmp_path / "m.onnx", [helper.make_node("Relu", ["y"], ["z"], name="conv")], [z])
    with pytest.raises(ModelError, match=r"m\.onnx: onnxruntime could not load the model: .*node name"):
        sepconvert.rewrite(path, rank=1, measure=UNTIMED)


def test_a_model_without_inputs_has_nothing_to_be_compared_on(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["three"], ["out"])
    out = helper.make_tensor_value_info("out", INTEGER, [1])
    graph = helper.make_graph([node], "g", [], [out], [numpy_helper.from_array(np.array([3]), "three")])
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    with pytest.raises(ModelError, match=r"m\.onnx takes no inputs, so that there is nothing to compare it on\."):
        sepconvert.compare(path, path, measure=UNTIMED)

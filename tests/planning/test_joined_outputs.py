"""A detector whose output joins boxes in pixels with scores: plans look after both."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import sepconvert
from sepconvert.errors import GateError
from sepconvert.graph.load import load_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.survey import survey
from sepconvert.planning.damage import sensitive_parts
from sepconvert.planning.profile import profile_network
from sepconvert.planning.profile_effort import ProfileEffort
from sepconvert.workflows.gate import Gate, check_gate
from tests.fitting.nets import Net, dataset, smooth_images

CHANNELS, SIZE, WIDTH = 3, 12, 16
PIXELS = 100.0
LIGHT = ProfileEffort(inputs=24, replayed=16, ranks=2, most_evaluations=3, ridge=0.03)
QUICK = sepconvert.Measure(latency=False)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trunk, and behind it two branches alike: ``box``, given in pixels, and ``cls``, given as probabilities."""
    net = Net(CHANNELS, SIZE)
    trunk = net.relu(net.conv("trunk", "image", CHANNELS, WIDTH))
    for name in ("box", "cls"):
        hidden = net.relu(net.conv(f"{name}_hidden", trunk, WIDTH, WIDTH))
        net.conv(name, hidden, WIDTH, 4)
    net.add("Mul", "pixels", "box", net.tensor("stride", np.array(PIXELS)))
    net.add("Sigmoid", "prob", "cls")
    path = tmp_path_factory.mktemp("detector") / "detector.onnx"
    net.build(net.add("Concat", "joined", "pixels", "prob", axis=1))
    graph = helper.make_graph(
        net.nodes,
        "detector",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", CHANNELS, SIZE, SIZE])],
        [helper.make_tensor_value_info("joined", onnx.TensorProto.FLOAT, ["N", 8, SIZE, SIZE])],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in net.tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "images.npz"
    np.savez(path, image=smooth_images(48, CHANNELS, SIZE).astype(np.float32))
    return path


def test_each_branch_is_felt_by_its_own_part_and_what_both_stand_on_by_both(detector: Path) -> None:
    model = load_model(detector)
    sites = list(survey(model, infer_shapes(model)).sites)
    data = dataset(model, smooth_images(24, CHANNELS, SIZE))
    found = profile_network(model, sites, data, ["pw_dw_pw"], rng=np.random.default_rng(0), jobs=1, effort=LIGHT)
    assert sensitive_parts(found.values()) == ("pixels", "cls")
    felt = {name: set(profile.sensitivities) for name, profile in found.items()}
    assert felt["trunk"] == {"pixels", "cls"}
    assert felt["box_hidden"] == {"pixels"}
    assert felt["cls_hidden"] == {"cls"}
    # The branches are alike but for what their output is multiplied by, and a part's error is by its own variance.
    ratio = found["cls_hidden"].sensitivities["cls"] / found["box_hidden"].sensitivities["pixels"]
    assert 1 / 3 < ratio < 3


def test_a_plan_spares_the_scores_as_it_does_the_boxes(detector: Path, images: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    record = sepconvert.rewrite(
        detector, small, data=str(images), macs=0.5, measure=QUICK, planning=sepconvert.Planning(jobs=1, cache=False)
    ).record
    assert record.fidelity is not None
    (output,) = record.fidelity.outputs
    errors = {part.name: part.relative_error for part in output.parts}
    assert list(errors) == ["pixels", "cls"]
    assert errors["pixels"] is not None
    assert errors["cls"] is not None
    assert 1 / 4 < errors["cls"] / errors["pixels"] < 4
    assert output.decisive_error == max(errors["pixels"], errors["cls"])
    # The joined tensor's error is that of the boxes, which are a hundred times as large.
    assert output.relative_error == pytest.approx(errors["pixels"], rel=0.05)
    assert record.plan is not None
    assert record.plan.predicted is not None
    assert record.plan.measured is not None
    assert record.plan.predicted["worst_part"] in errors
    assert record.plan.measured["worst_part"] == max(errors, key=lambda name: errors[name] or 0.0)


def test_a_gate_is_on_the_worst_part_and_names_it(detector: Path, images: Path, tmp_path: Path) -> None:
    model = onnx.load(detector)
    (weight,) = (tensor for tensor in model.graph.initializer if tensor.name == "cls.w")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.5), "cls.w"))
    onnx.save(model, tmp_path / "changed.onnx")
    record = sepconvert.compare(detector, tmp_path / "changed.onnx", data=str(images), measure=QUICK)
    with pytest.raises(GateError, match=r"part 'cls' of output 'joined' is 0\.4"):
        check_gate(record, Gate(error=0.1))


def test_models_that_are_made_of_other_parts_are_judged_by_whole_outputs_and_that_is_said(
    detector: Path, images: Path, tmp_path: Path
) -> None:
    model = onnx.load(detector)
    (joining,) = (node for node in model.graph.node if node.op_type == "Concat")
    joining.output[0] = "hidden"
    model.graph.node.append(helper.make_node("Relu", ["hidden"], ["joined"]))
    onnx.save(model, tmp_path / "other.onnx")
    record = sepconvert.compare(detector, tmp_path / "other.onnx", data=str(images), measure=QUICK)
    assert record.fidelity is not None
    assert record.fidelity.outputs[0].parts == []
    said = "What output 'joined' is made of (pixels, cls) is not alike in both models: it is judged as a whole."
    assert said in record.warnings

"""INT8 models are standard ONNX, keep what the original promises, and hold to the rounding that their scales allow."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sepconvert.runtime.quantise import IntegerTypes, quantisable_nodes, quantised, quantised_to_time, types_here
from sepconvert.runtime.sessions import run_model
from sepconvert.runtime.simplify import node_names, simplified

PAIR = {"QuantizeLinear", "DequantizeLinear"}


def made(model: bytes) -> onnx.ModelProto:
    plain = simplified(model)
    nodes = quantisable_nodes(plain)
    ranges = {value: (-8.0, 8.0) for node in nodes for value in node.values}
    return onnx.load_from_string(quantised(plain, ranges, [node.name for node in nodes]))


def test_an_int8_model_is_standard_onnx_with_a_scale_per_channel(conv_net: Callable[..., bytes]) -> None:
    source = onnx.load_from_string(conv_net(width=7))
    found = made(source.SerializeToString())
    onnx.checker.check_model(found, full_check=True)
    assert {node.op_type for node in found.graph.node} >= {*PAIR, "Conv", "Gemm"}
    assert [(entry.domain, entry.version) for entry in found.opset_import] == [("", 17)]
    assert [info.name for info in found.graph.output] == ["logits"]
    assert found.graph.input[0] == source.graph.input[0]  # the batch stays dynamic
    assert not found.metadata_props
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in found.graph.initializer}
    made_by = {name: node for node in found.graph.node for name in node.output}
    conv = next(node for node in found.graph.node if node.op_type == "Conv")
    weight, scale, _ = (constants[name] for name in made_by[conv.input[1]].input)
    assert weight.dtype == np.int8
    assert scale.shape == (7,)


def test_an_older_opset_is_raised_to_the_first_that_knows_a_scale_per_channel(conv_net: Callable[..., bytes]) -> None:
    old = onnx.load_from_string(conv_net())
    old.opset_import[0].version = 11
    assert [entry.version for entry in made(old.SerializeToString()).opset_import] == [13]


def test_normalisation_is_folded_and_nodes_keep_their_names_or_none(conv_net: Callable[..., bytes]) -> None:
    source = onnx.load_from_string(conv_net(width=4))
    ones = [numpy_helper.from_array(np.full(4, value, np.float32), f"n{i}") for i, value in enumerate((2, 0, 0, 1))]
    source.graph.initializer.extend(ones)
    source.graph.node[0].name = "first"
    source.graph.node[1].input[0] = "n"
    source.graph.node.insert(1, helper.make_node("BatchNormalization", ["c", "n0", "n1", "n2", "n3"], ["n"]))
    found = made(source.SerializeToString())
    assert "BatchNormalization" not in {node.op_type for node in found.graph.node}
    assert [node.name for node in found.graph.node if node.op_type == "Conv"] == ["first"]
    assert [node.name for node in found.graph.node if node.op_type == "Gemm"] == [""]
    assert node_names(source.SerializeToString())["c"] == "first"


def test_nodes_that_are_not_named_stay_in_floating_point(conv_net: Callable[..., bytes]) -> None:
    plain = simplified(conv_net())
    nodes = {node.operator: node for node in quantisable_nodes(plain)}
    chosen = nodes["Conv"]
    found = onnx.load_from_string(quantised(plain, dict.fromkeys(chosen.values, (-8.0, 8.0)), [chosen.name]))
    made_by = {name: node.op_type for node in found.graph.node for name in node.output}
    gemm = next(node for node in found.graph.node if node.op_type == "Gemm")
    assert gemm.input[1] not in made_by
    for wrong in (["no such node"], []):
        with pytest.raises(ValueError, match=r"no quantisable node|no node"):
            quantised(plain, {}, wrong)


def test_sums_of_large_products_are_within_rounding_on_this_machine() -> None:
    """Without VNNI two products are added in 16 bits: 2 · 255 · 127 does not fit."""
    channels = 64
    kernel = numpy_helper.from_array(np.ones((8, channels, 1, 1), np.float32), "w")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], "conv")],
        "large",
        [info("x", TensorProto.FLOAT, [1, channels, 4, 4])],
        [info("y", TensorProto.FLOAT, [1, 8, 4, 4])],
        [kernel],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    ranges = {"x": (0.0, 1.0), "y": (0.0, float(channels))}
    feeds = {"x": np.ones((1, channels, 4, 4), np.float32)}
    types = types_here()
    (found,) = run_model(quantised(simplified(model), ranges, ["conv"], types), feeds).values()
    assert np.abs(found - channels).max() <= channels / 255  # one step of the output
    full = IntegerTypes(types.activations)
    (other,) = run_model(quantised(simplified(model), ranges, ["conv"], full), feeds).values()
    assert types.reduced == bool(np.abs(other - channels).max() > channels / 255)


def test_a_model_without_anything_to_quantise_is_timed_as_it_is() -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "plain",
        [info("x", TensorProto.FLOAT, [2])],
        [info("y", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    found = onnx.load_from_string(quantised_to_time(model))
    assert [node.op_type for node in found.graph.node] == ["Neg"]


def test_sums_and_products_by_channel_are_folded_into_the_convolution_before_them() -> None:
    """A normalisation that is written as Sub, Mul, Add and Div, as exporters do; what two nodes read stays."""
    rng = np.random.default_rng(0)
    values = {name: rng.normal(size=(1, 5, 1, 1)).astype(np.float32) for name in ("mean", "scale", "shift")}
    values |= {"w": rng.normal(size=(5, 3, 3, 3)).astype(np.float32), "two": np.full((), 2, np.float32)}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Sub", ["c", "mean"], ["d"], "sub"),
        helper.make_node("Mul", ["scale", "d"], ["e"], "mul"),
        helper.make_node("Add", ["e", "shift"], ["f"], "add"),
        helper.make_node("Sub", ["two", "f"], ["g"], "from"),
        helper.make_node("Div", ["g", "two"], ["h"], "div"),
        helper.make_node("Relu", ["h"], ["i"], "relu"),
        helper.make_node("Conv", ["i", "v"], ["j"], "last"),
        helper.make_node("Mul", ["j", "two"], ["y"], "double"),
        helper.make_node("Add", ["j", "two"], ["z"], "more"),
    ]
    values["v"] = rng.normal(size=(2, 5, 1, 1)).astype(np.float32)
    info = helper.make_tensor_value_info
    outputs = [info(name, TensorProto.FLOAT, ["N", 2, 4, 4]) for name in ("y", "z")]
    tensors = [numpy_helper.from_array(array, name) for name, array in values.items()]
    graph = helper.make_graph(nodes, "scales", [info("x", TensorProto.FLOAT, ["N", 3, 6, 6])], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    plain = onnx.load_from_string(simplified(model))
    onnx.checker.check_model(plain, full_check=True)
    left = sorted((node.op_type, node.name) for node in plain.graph.node)
    assert left == [("Add", "more"), ("Conv", "conv"), ("Conv", "last"), ("Mul", "double"), ("Relu", "relu")]
    feeds = {"x": rng.normal(size=(2, 3, 6, 6)).astype(np.float32)}
    for name, found in run_model(plain.SerializeToString(), feeds).items():
        true = run_model(model, feeds)[name]
        # A few products and sums in single precision, of 27 and 5 terms.
        assert np.abs(found - true).max() <= 64 * np.finfo(np.float32).eps * np.abs(true).max()


def test_what_the_body_of_an_if_reads_is_not_folded() -> None:
    """The convolution's output has one reader in the main graph, and another in a branch."""
    rng = np.random.default_rng(0)
    info = helper.make_tensor_value_info
    branches = [
        helper.make_graph([helper.make_node(op, ["c"], [name])], name, [], [info(name, TensorProto.FLOAT, None)])
        for op, name in (("Relu", "yes"), ("Neg", "no"))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "conv"),
        helper.make_node("Mul", ["c", "scale"], ["y"], "mul"),
        helper.make_node("If", ["which"], ["z"], "choice", then_branch=branches[0], else_branch=branches[1]),
    ]
    values = {"w": rng.normal(size=(5, 3, 1, 1)), "scale": np.full((1, 5, 1, 1), 3.0)}
    inputs = [info("x", TensorProto.FLOAT, ["N", 3, 6, 6]), info("which", TensorProto.BOOL, [])]
    outputs = [info(name, TensorProto.FLOAT, ["N", 5, 6, 6]) for name in ("y", "z")]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in values.items()]
    graph = helper.make_graph(nodes, "choice", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    feeds = {"x": rng.normal(size=(2, 3, 6, 6)).astype(np.float32), "which": np.array(True)}
    true, found = run_model(model, feeds), run_model(simplified(model), feeds)
    for name, array in true.items():
        assert found[name] == pytest.approx(array, abs=1e-5)

"""Layers of integers hold to what rounding allows, and what does not is caught."""

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sepconvert.data import load_data
from sepconvert.errors import VerificationError
from sepconvert.fitting.ranges import find_ranges
from sepconvert.graph.integers import integer_layers, rounded_values
from sepconvert.graph.load import load_bytes
from sepconvert.graph.shapes import infer_shapes
from sepconvert.record import SelfCheck
from sepconvert.runtime.quantise import IntegerTypes, quantisable_nodes, quantised, types_here
from sepconvert.runtime.simplify import simplified
from sepconvert.verify.integers import check_integers

Change = Callable[[onnx.ModelProto], None]


def source() -> bytes:
    """Dense, depthwise and transposed convolutions, a pooling, a product and a linear layer."""
    rng = np.random.default_rng(0)
    shapes = {
        "w0": (8, 3, 3, 3), "b0": (8,), "w1": (8, 1, 3, 3), "b1": (8,), "w2": (8, 6, 2, 2), "b2": (6,),
        "w3": (18, 7), "w4": (5, 7), "b4": (5,),
    }  # fmt: skip
    weights = [numpy_helper.from_array(rng.normal(size=s).astype(np.float32), name) for name, s in shapes.items()]
    nodes = [
        helper.make_node("Conv", ["x", "w0", "b0"], ["c0"], "dense", pads=[1, 0, 1, 2], strides=[2, 1]),
        helper.make_node("Relu", ["c0"], ["r0"]),
        helper.make_node("MaxPool", ["r0"], ["p0"], kernel_shape=[2, 2]),
        helper.make_node("Conv", ["p0", "w1", "b1"], ["c1"], "depthwise", group=8),
        helper.make_node("Clip", ["c1", "low", "high"], ["r1"]),
        helper.make_node("ConvTranspose", ["r1", "w2", "b2"], ["c2"], "transposed", strides=[2, 2]),
        helper.make_node("MaxPool", ["c2"], ["p2"], kernel_shape=[3, 4], strides=[3, 4]),
        helper.make_node("Flatten", ["p2"], ["f"]),
        helper.make_node("MatMul", ["f", "w3"], ["m"], "product"),
        helper.make_node("Gemm", ["m", "w4", "b4"], ["y"], "linear", transB=1),
    ]
    weights += [numpy_helper.from_array(np.float32(value), name) for name, value in (("low", 0), ("high", 6))]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "kinds", [info("x", TensorProto.FLOAT, ["N", 3, 10, 10])], [info("y", TensorProto.FLOAT, ["N", 5])],
        weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


Made = tuple[bytes, bytes, dict[str, tuple[float, float]], list[dict[str, np.ndarray]]]


@cache
def made(method: str = "min-max", types: IntegerTypes | None = None, left_out: str = "") -> Made:
    plain = simplified(source())
    nodes = [node for node in quantisable_nodes(plain) if node.name != left_out]
    values = list(dict.fromkeys(value for node in nodes for value in node.values))
    samples = np.random.default_rng(1).normal(size=(12, 3, 10, 10)).astype(np.float32)
    data = load_data(samples, infer_shapes(load_bytes(bytes(plain))).inputs)
    ranges = find_ranges(plain, values, data)[method]
    found = quantised(plain, ranges, [node.name for node in nodes], types or types_here())
    return bytes(plain), bytes(found), ranges, [{"x": samples[:3]}, {"x": samples[3:5]}]


def check(model: Made, change: Change | None = None) -> SelfCheck:
    plain, found, ranges, samples = model
    proto = onnx.load_from_string(found)
    if change is not None:
        change(proto)
    return check_integers(load_bytes(plain), load_bytes(proto.SerializeToString()), ranges, samples)


@pytest.mark.parametrize("method", ["min-max", "percentile", "mse", "entropy"])
def test_every_kind_of_layer_holds_to_its_rounding_however_ranges_are_found(method: str) -> None:
    found = check(made(method))
    assert found.sites == 5
    assert 0.5 < found.max_relative <= 1


def test_layers_left_in_floating_point_are_none_of_those_checked() -> None:
    model = made(left_out="transposed")
    assert check(model).sites == 4
    assert [layer.name for layer in integer_layers(load_bytes(model[1]))] == [
        "dense", "depthwise", "product", "linear",
    ]  # fmt: skip


def test_rounded_values_bear_the_names_of_the_model_in_floating_point() -> None:
    assert [value.name for value in rounded_values(load_bytes(made()[1]))] == [
        "x", "r0", "p0", "r1", "c2", "p2", "f", "m", "y",
    ]  # fmt: skip


def test_what_the_quantiser_knows_of_a_softmax_is_no_fault() -> None:
    rng, info = np.random.default_rng(0), helper.make_tensor_value_info
    weights = [numpy_helper.from_array(rng.normal(size=(6, 6)).astype(np.float32), name) for name in ("w0", "w1")]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["m"], "first"),
        helper.make_node("Softmax", ["m"], ["s"]),
        helper.make_node("MatMul", ["s", "w1"], ["y"], "second"),
    ]
    sides: list[str | int] = ["N", 6]
    graph = helper.make_graph(
        nodes, "s", [info("x", TensorProto.FLOAT, sides)], [info("y", TensorProto.FLOAT, sides)], weights
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    plain = simplified(model.SerializeToString())
    samples = rng.normal(size=(20, 6)).astype(np.float32)
    data = load_data(samples, infer_shapes(load_bytes(bytes(plain))).inputs)
    nodes_there = quantisable_nodes(plain)
    ranges = find_ranges(plain, list(dict.fromkeys(v for node in nodes_there for v in node.values)), data)["mse"]
    assert ranges["s"][1] < 0.999
    found = quantised(plain, ranges, [node.name for node in nodes_there], types_here())
    assert check((bytes(plain), bytes(found), dict(ranges), [{"x": samples}])).sites == 2


def array(proto: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Put other numbers into an initializer."""
    (tensor,) = [tensor for tensor in proto.graph.initializer if tensor.name == name]
    old = numpy_helper.to_array(tensor)
    tensor.CopyFrom(numpy_helper.from_array(change(old.copy()).astype(old.dtype).reshape(old.shape), name))


def node(proto: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in proto.graph.node if node.name == name)


def one_channel(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[1] *= factor
        return values

    return change


def without_bias(proto: onnx.ModelProto) -> None:
    del node(proto, "depthwise").input[2]


def with_other_stride(proto: onnx.ModelProto) -> None:
    """The layer is another though its constants are right: pads at the other side."""
    for attribute in node(proto, "dense").attribute:
        if attribute.name == "pads":
            attribute.ints[:] = [1, 2, 1, 0]


def swapped(values: np.ndarray) -> np.ndarray:
    values[[0, 1]] = values[[1, 0]]
    return values


def one_more(values: np.ndarray) -> np.ndarray:
    values.flat[4] += 1
    return values


CORRUPTIONS: dict[str, tuple[Change, str]] = {
    "the scale of a weight": (lambda p: array(p, "w0_scale", one_channel(1.05)), "'w0' is off by"),
    "the scale of a bias": (lambda p: array(p, "b1_quantized_scale", one_channel(1.1)), "'b1' is off by"),
    "the scale of a value": (lambda p: array(p, "r1_scale", lambda s: s * 1.01), "'r1' is rounded from"),
    "the scale of the input": (lambda p: array(p, "x_scale", lambda s: s / 2), "'x' is rounded from"),
    "a zero point": (lambda p: array(p, "x_zero_point", lambda z: z + 2), "'x' is rounded from"),
    "the zero point of a weight": (lambda p: array(p, "w0_zero_point", lambda z: z + 1), "'w0' is off by"),
    "two channels of a weight": (lambda p: array(p, "w0_quantized", swapped), "'w0' is off by"),
    "two entries of a bias": (lambda p: array(p, "b4_quantized", swapped), "'b4' is off by"),
    "one entry of a weight": (lambda p: array(p, "w3_quantized", one_more), "'w3' is off by"),
    "no bias": (without_bias, r"'depthwise' in INT8: it no longer reads 'b1' in integers"),
    "other pads": (with_other_stride, "'dense' in INT8: onnxruntime computes it"),
}  # fmt: skip


@pytest.mark.parametrize("what", CORRUPTIONS)
def test_what_is_corrupted_is_caught_and_named(what: str) -> None:
    change, message = CORRUPTIONS[what]
    with pytest.raises(VerificationError, match=message):
        check(made(), change)


def test_sums_that_overflow_in_a_kernel_are_caught() -> None:
    """Where a processor adds products in 16 bits, 8 bits overflow: the layer is right, its kernel is not."""
    model = made(types=IntegerTypes(types_here().activations))
    if types_here().reduced:
        with pytest.raises(VerificationError, match=r"onnxruntime computes it in integers .* times as far"):
            check(model)
    else:
        assert check(model).sites == 5

"""Folding is a matter of speed and reach; what it must never do is compute something large or random."""

import numpy as np
import onnx
import pytest
from onnx import helper, shape_inference

from sepconvert.graph.fold import known_values, replace_nodes
from tests.graph.models import model


def folded(*nodes: onnx.NodeProto, tensors=None, shape=(2, 3)) -> dict:
    proto = model(
        [*nodes, helper.make_node("Relu", ["x"], ["y"])], {"x": shape}, tensors=tensors, domains={"com.example": 1}
    )
    return {name: array.tolist() for name, array in known_values(shape_inference.infer_shapes(proto)).items()}


INTS = np.array([4, 5], np.int64)


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [({}, [2, 3, 4]), ({"start": 1}, [3, 4]), ({"end": -1}, [2, 3]), ({"start": -2, "end": 2}, [3])],
)
def test_the_shape_of_a_value_of_known_size_is_known(attributes, expected):
    assert folded(helper.make_node("Shape", ["x"], ["s"], **attributes), shape=(2, 3, 4)) == {"s": expected}


def test_the_size_of_a_value_is_known():
    assert folded(helper.make_node("Size", ["x"], ["s"])) == {"s": 6}


def test_arithmetic_on_what_is_known_is_known():
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Mul", ["s", "k"], ["m"])]
    assert folded(*nodes, tensors={"k": INTS}) == {"s": [2, 3], "m": [8, 15]}


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("ConstantOfShape", ["big"], ["t"]),
        helper.make_node("Expand", ["k", "wide"], ["t"]),
        helper.make_node("Range", ["zero", "many", "one"], ["t"]),
        helper.make_node("RandomNormal", [], ["t"], shape=[2]),
        helper.make_node("RandomUniformLike", ["f"], ["t"]),
        helper.make_node("Frob", ["k"], ["t"], domain="com.example"),
    ],
)
def test_large_random_and_foreign_values_are_not_computed(node):
    tensors = {
        "k": INTS,
        "f": np.ones(2, np.float32),
        "big": np.array([10**6, 10**6], np.int64),
        "wide": np.array([10**9, 2], np.int64),
        "zero": np.array(0, np.int64),
        "many": np.array(10**12, np.int64),
        "one": np.array(1, np.int64),
    }
    assert folded(node, tensors=tensors) == {}


def test_small_repetitions_are_computed_once_their_size_is_known():
    node = helper.make_node("Tile", ["k", "i"], ["t"])
    assert folded(node, tensors={"k": INTS, "i": np.array([2], np.int64)}) == {"t": [4, 5, 4, 5]}


def test_an_operator_that_refuses_its_values_is_left_alone():
    node = helper.make_node("Gather", ["k", "i"], ["t"])
    assert folded(node, tensors={"k": INTS, "i": np.array(7, np.int64)}) == {}


def test_folded_nodes_give_way_to_initializers():
    nodes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Reshape", ["x", "s"], ["y"])]
    proto = model(nodes, {"x": (2, 3)})
    replace_nodes(proto.graph, {"s": np.array([2, 3], np.int64)})
    assert [node.op_type for node in proto.graph.node] == ["Reshape"]
    assert [tensor.name for tensor in proto.graph.initializer] == ["s"]
    onnx.checker.check_model(proto, full_check=True)

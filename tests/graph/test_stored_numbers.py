"""Stored numbers that stand for memory or time without end are refused before shape inference counts them out."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from sepconvert.errors import ModelError
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.stored_numbers import MOST_COUNTED, MOST_ROUNDS
from tests.graph.models import load, model

node = helper.make_node
IMAGE = {"x": [1, 4, 9, 9]}


def counted(count: int) -> onnx.ModelProto:
    tensors = {"zero": np.array(0), "count": np.array(count), "one": np.array(1)}
    nodes = [
        node("Range", ["zero", "count", "one"], ["range"]),
        node("Cast", ["range"], ["floats"], to=1),
        node("ReduceMean", ["floats"], ["mean"], keepdims=0),
        node("Add", ["x", "mean"], ["y"]),
    ]
    return model(nodes, IMAGE, tensors=tensors)


def targeted(count: int) -> onnx.ModelProto:
    """A Reshape to as many axes as ``count``, all but one of them from a constant that the graph makes."""
    nodes = [
        node("Constant", [], ["count"], value_ints=[count]),
        node("ConstantOfShape", ["count"], ["ones"], value=helper.make_tensor("", TensorProto.INT64, [1], [1])),
        node("Concat", ["minus", "ones"], ["to"], axis=0),
        node("Reshape", ["x", "to"], ["y"]),
    ]
    return model(nodes, IMAGE, tensors={"minus": np.array([-1])})


def split(stated: int) -> onnx.ModelProto:
    nodes = [node("Split", ["x"], ["y", "z"], name="halves", axis=1, num_outputs=stated)]
    return model(nodes, IMAGE, ["y", "z"], opset=18)


def looped(rounds: int | None, going_on: str = "go", inner: int = 1) -> onnx.ModelProto:
    """A loop in a loop; ``going_on`` is what ends the outer one before its rounds are over."""

    def info(name: str, kind: int, shape: list[int] | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    inside = helper.make_graph(
        [node("Identity", ["go2"], ["on2"]), node("Relu", ["s2"], ["n2"])],
        "inside",
        [info("i2", TensorProto.INT64, []), info("go2", TensorProto.BOOL, []), info("s2", TensorProto.FLOAT, None)],
        [info("on2", TensorProto.BOOL, []), info("n2", TensorProto.FLOAT, None)],
    )
    body = helper.make_graph(
        [
            node("ReduceMax", ["s"], ["top"], keepdims=0),
            node("Less", ["top", "limit"], ["less"]),
            node("Identity", [going_on], ["on"]),
            node("Loop", ["inner", "", "s"], ["next"], body=inside, name="within"),
        ],
        "body",
        [info("i", TensorProto.INT64, []), info("go", TensorProto.BOOL, []), info("s", TensorProto.FLOAT, None)],
        [info("on", TensorProto.BOOL, []), info("next", TensorProto.FLOAT, None)],
    )
    tensors = {"limit": np.array(3, np.float32), "true": np.array(True), "inner": np.array(inner)}
    if rounds is not None:
        tensors["rounds"] = np.array(rounds)
    nodes = [node("Loop", ["" if rounds is None else "rounds", "true", "x"], ["y"], body=body, name="around")]
    return model(nodes, IMAGE, tensors=tensors)


def test_a_range_is_not_counted_out_to_see_that_it_is_too_long():
    # Counted out, 2³¹ numbers take 340 GB.
    with pytest.raises(ModelError, match=r"Range 'range' counts out 2.15e\+09 numbers, although no input"):
        infer_shapes(load(counted(2**31)))
    assert MOST_COUNTED > 1000
    assert infer_shapes(load(counted(1000))).shapes["range"] == (1000,)


def test_a_target_of_trillions_of_axes_is_not_written_down():
    with pytest.raises(ModelError, match=r"ConstantOfShape 'ones' makes 1.1e\+12 numbers that sizes are computed from"):
        infer_shapes(load(targeted(2**40)))
    assert infer_shapes(load(targeted(3))).shapes["y"] == (324, 1, 1, 1)


@pytest.mark.parametrize("stated", [-1, 0, 1, 3, 2**40])
def test_a_split_has_as_many_outputs_as_it_says(stated):
    with pytest.raises(ModelError, match=f"Split 'halves' has 2 outputs, but its num_outputs is {stated}; export"):
        infer_shapes(load(split(stated)))
    assert infer_shapes(load(split(2))).shapes["z"] == (1, 2, 9, 9)


@pytest.mark.parametrize("rounds", [None, MOST_ROUNDS + 1, 2**62])
@pytest.mark.parametrize("going_on", ["go", "true"])
def test_a_loop_without_end_is_refused_and_named(rounds, going_on):
    with pytest.raises(ModelError, match=r"Loop 'around' runs its body \S+ times, whatever the inputs are"):
        infer_shapes(load(looped(rounds, going_on)))


def test_rounds_of_loops_in_loops_multiply():
    with pytest.raises(ModelError, match=r"Loop 'within' runs its body 1e\+06 times"):
        infer_shapes(load(looped(1000, inner=1000)))


@pytest.mark.parametrize("rounds", [None, 2**62])
def test_a_loop_that_what_it_computes_may_end_is_not(rounds):
    assert infer_shapes(load(looped(rounds, "less"))).dtypes["y"] == "float32"


def test_a_loop_of_few_rounds_is_not():
    assert infer_shapes(load(looped(100, inner=100))).dtypes["y"] == "float32"

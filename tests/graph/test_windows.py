"""Windows that do not fit their kernel are refused wherever they are: onnxruntime would read memory not its own."""

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper

from sepconvert.errors import ModelError
from sepconvert.graph.shapes import infer_shapes
from tests.graph.models import load, model, weight

node = helper.make_node


def behind_a_loop(**windows: list[int]) -> ModelProto:
    """A convolution in a function, of a value whose size shape inference does not find."""
    values = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Relu", ["state"], ["next"])],
        "body",
        [values("i", TensorProto.INT64, []), values("go", TensorProto.BOOL, []), values("state", 1, None)],
        [values("go_on", TensorProto.BOOL, []), values("next", 1, None)],
    )
    block = [node("Conv", ["a", "k"], ["b"], name="wide", **windows)]
    function = helper.make_function("local", "Block", ["a", "k"], ["b"], block, [helper.make_opsetid("", 17)])
    nodes = [
        node("Relu", ["x"], ["r"]),
        node("Loop", ["times", "", "r"], ["l"], body=body),
        node("Block", ["l", "w"], ["y"], domain="local"),
    ]
    tensors = {"w": weight((6, 4, 3, 3)), "times": np.array(2)}
    return model(nodes, {"x": (1, 4, 9, 9)}, ["y"], tensors, functions=[function], domains={"local": 1})


@pytest.mark.parametrize(
    ("name", "given", "reason"),
    [
        ("pads", [-1, 1, 1, -1, 1, 1], "6 numbers instead of 4 for a kernel of 2 sides"),
        ("pads", [1], "1 numbers instead of 4"),
        ("strides", [1, 1, 1], "3 numbers instead of 2"),
        ("kernel_shape", [3], "1 numbers instead of 2"),
        ("pads", [-1, 1, 1, -1], "of which one is too small"),
        ("strides", [0, 1], "of which one is too small"),
        ("dilations", [1, -2], "of which one is too small"),
    ],
)
def test_windows_that_do_not_fit_are_refused_where_sizes_are_unknown(name, given, reason):
    with pytest.raises(ModelError, match=rf"Conv '\w*' has {name} \[.*\], {reason}"):
        infer_shapes(load(behind_a_loop(**{name: given})))


def test_windows_that_fit_are_not():
    sound = behind_a_loop(pads=[1, 1, 1, 1], strides=[2, 2], dilations=[1, 1], kernel_shape=[3, 3])
    assert infer_shapes(load(sound)).dtypes["y"] == "float32"


def test_a_negative_pad_is_refused_where_sizes_are_known():
    nodes = [node("Conv", ["x", "w"], ["y"], name="cropping", pads=[-1, 0, 0, 0])]
    with pytest.raises(ModelError, match=r"Conv 'cropping' has pads \[-1, 0, 0, 0\], of which one is too small"):
        infer_shapes(load(model(nodes, {"x": (1, 4, 9, 9)}, ["y"], {"w": weight((6, 4, 3, 3))})))

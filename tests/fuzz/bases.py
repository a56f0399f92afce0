"""Small models to damage: between them they hold what the package looks at in a graph."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.graph.models import model

_RNG = np.random.default_rng(7)


def _floats(*shape: int) -> np.ndarray:
    return _RNG.standard_normal(shape).astype(np.float32)


def _classifier() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0", "b0"], ["c0"], name="conv0", pads=[1, 1, 1, 1], kernel_shape=[3, 3]),
        node("BatchNormalization", ["c0", "s", "o", "m", "v"], ["n0"], epsilon=1e-5),
        node("Relu", ["n0"], ["r0"]),
        node("MaxPool", ["r0"], ["p0"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", ["p0", "w1"], ["c1"], name="conv1", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("Conv", ["c1", "w2"], ["c2"], name="depthwise", group=8, pads=[1, 1, 1, 1]),
        node("Conv", ["c2", "w3"], ["c3"], name="dilated", dilations=[2, 2], pads=[2, 2, 2, 2]),
        node("Add", ["c3", "c1"], ["a"]),
        node("GlobalAveragePool", ["a"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "w4", "b4"], ["logits"], transB=1),
        node("Softmax", ["logits"], ["y"], axis=1),
    ]
    tensors = {
        "w0": _floats(8, 4, 3, 3),
        "b0": _floats(8),
        "w1": _floats(8, 8, 3, 3),
        "w2": _floats(8, 1, 3, 3),
        "w3": _floats(8, 8, 3, 3),
        "w4": _floats(5, 8),
        "b4": _floats(5),
    } | {name: np.abs(_floats(8)) + 0.5 for name in "somv"}
    made = model(nodes, {"x": ["n", 4, 12, 12]}, ["y"], tensors)
    made.graph.output[0].type.tensor_type.shape.dim.pop()
    made.graph.output[0].type.tensor_type.shape.dim.pop()
    return made


def _shapes() -> onnx.ModelProto:
    """Sizes that the graph computes, a head of two parts, weights in Constant nodes, a transposed convolution."""
    node = helper.make_node
    weight = numpy_helper.from_array(_floats(6, 4, 3, 3))
    nodes = [
        node("Constant", [], ["w"], value=weight),
        node("Constant", [], ["scales"], value_floats=[1.0, 1.0, 2.0, 2.0]),
        node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("LeakyRelu", ["c"], ["r"], alpha=0.1),
        node("Shape", ["x"], ["shape"]),
        node("Slice", ["shape", "two", "four", "zero"], ["hw"]),
        node("Gather", ["shape", "zero"], ["n"], axis=0),
        node("Resize", ["r", "", "scales"], ["up"], mode="nearest"),
        node("ConvTranspose", ["up", "t"], ["d"], strides=[1, 1]),
        node("Conv", ["d", "v"], ["e"], name="conv2"),
        node("Pad", ["e", "pads"], ["q"], mode="reflect"),
        node("Concat", ["n", "minus", "three"], ["to"], axis=0),
        node("Reshape", ["q", "to"], ["z"]),
        node("Split", ["z"], ["left", "right"], axis=2, num_outputs=2),
        node("Sigmoid", ["left"], ["s"]),
        node("Concat", ["s", "right"], ["y"], axis=2),
    ]
    ints = {"zero": [0], "two": [2], "four": [4], "minus": [-1], "three": [3], "pads": [0, 0, 1, 1, 0, 0, 1, 1]}
    tensors = {name: np.array(value, np.int64) for name, value in ints.items()}
    tensors |= {"t": _floats(6, 6, 2, 2), "v": _floats(6, 6, 3, 3)}
    made = model(nodes, {"x": [1, 4, 10, 9]}, ["y"], tensors, opset=18)
    made.graph.output[0].type.tensor_type.shape.dim.pop()
    return made


def _bodies() -> onnx.ModelProto:
    """A convolution in the branches of an If, one in a model-local function, one shared, and a loop."""
    node = helper.make_node

    def branch(name: str, weight: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        inner = numpy_helper.from_array(_floats(4, 4, 3, 3), f"{name}_w")
        convs = [node("Conv", ["r", weight], [f"{name}_y"], pads=[1, 1, 1, 1])]
        return helper.make_graph(convs, name, [], [out], [inner])

    body = helper.make_graph(
        [node("Identity", ["go"], ["go_on"]), node("Relu", ["state"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    block = helper.make_function(
        "local", "Block", ["a", "k"], ["b"], [node("Conv", ["a", "k"], ["b"])], [helper.make_opsetid("", 17)]
    )
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("Relu", ["c"], ["r"]),
        node("If", ["flag"], ["i"], then_branch=branch("then", "then_w"), else_branch=branch("other", "shared")),
        node("Loop", ["times", "", "i"], ["l"], body=body),
        node("Block", ["l", "shared"], ["d"], domain="local"),
        node("Conv", ["d", "w1"], ["y"], name="conv1"),
    ]
    tensors = {
        "w": _floats(4, 3, 3, 3),
        "w1": _floats(5, 4, 3, 3),
        "shared": _floats(4, 4, 3, 3),
        "flag": np.array(True),
        "times": np.array(2, np.int64),
    }
    return model(nodes, {"x": [2, 3, 11, 11]}, ["y"], tensors, functions=[block], domains={"local": 1})


def _signal() -> onnx.ModelProto:
    """One dimension, the oldest opset, initializers among the inputs."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], name="conv", kernel_shape=[5], strides=[2], pads=[2, 2]),
        node("Tanh", ["c"], ["t"]),
        node("Conv", ["t", "v"], ["y"], name="conv1", dilations=[3]),
    ]
    return model(
        nodes, {"x": [1, 6, 40]}, ["y"], {"w": _floats(8, 6, 5), "b": _floats(8), "v": _floats(4, 8, 3)}, opset=7
    )


def _half() -> onnx.ModelProto:
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]),
        node("LogSoftmax", ["c"], ["y"], axis=1),
    ]
    return model(nodes, {"x": ["n", 4, 8, 8]}, ["y"], {"w": _floats(8, 4, 3, 3).astype(np.float16)}, dtype=np.float16)


BASES = {make.__name__.strip("_"): make() for make in (_classifier, _shapes, _bodies, _signal, _half)}

"""Fold what is done to each channel of a convolution's output by constants into its weight and bias.

onnxruntime folds BatchNormalization and single products and sums. Exporters also write a normalisation as Sub, Mul and
Add, one after another; each of them would be rounded to INT8, which made up most of a thin ResNet's error.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray

_FOLDED = frozenset({"Add", "Sub", "Mul", "Div"})
_AXIS = 1  # of channels


def fold_scales(proto: onnx.ModelProto) -> None:
    """Fold Add, Sub, Mul and Div by a constant for each channel into the Conv before them, as long as there are any.

    The model is changed in place; its weights must be inside. A Conv keeps its name and takes the last one's output.
    """
    graph = proto.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    fixed = {value.name for value in (*graph.output, *graph.input)} | set(_read_inside(graph))
    gone: list[onnx.NodeProto] = []
    constants = {name: tensor for name, tensor in constants.items() if name not in fixed}
    for conv in [node for node in graph.node if node.op_type == "Conv"]:
        while (found := _follower(conv, readers, constants, fixed)) is not None:
            follower, scale, shift = found
            _scale(graph, conv, constants, scale, shift)
            conv.output[0] = follower.output[0]
            gone.append(follower)
    for node in gone:
        graph.node.remove(node)
    if gone:
        used = {name for node in graph.node for name in node.input} | fixed
        kept = [tensor for tensor in graph.initializer if tensor.name in used]
        del graph.initializer[:]
        graph.initializer.extend(kept)


def _read_inside(graph: onnx.GraphProto) -> Iterator[str]:
    """Names that the bodies of If and Loop read: some of them are values of the main graph."""
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from (name for inner in body.node for name in inner.input)
                yield from (output.name for output in body.output)
                yield from _read_inside(body)


def _follower(
    conv: onnx.NodeProto,
    readers: dict[str, list[onnx.NodeProto]],
    constants: dict[str, onnx.TensorProto],
    fixed: set[str],
) -> tuple[onnx.NodeProto, NDArray[np.float64], NDArray[np.float64]] | None:
    """The only reader of a Conv's output, where it multiplies by and adds constants: with scale and shift (M or 1,)."""
    output = conv.output[0]
    (node, *others) = readers.get(output, [None])
    if node is None or others or output in fixed or node.op_type not in _FOLDED or node.domain not in ("", "ai.onnx"):
        return None
    if conv.input[1] not in constants or any(name and name not in constants for name in conv.input[2:]):
        return None
    first = node.input[0] == output
    name = node.input[1] if first else node.input[0]
    if name not in constants or name == output or (node.op_type == "Div" and not first):
        return None
    weight = constants[conv.input[1]]
    values = _by_channel(onnx.numpy_helper.to_array(constants[name]), weight.dims[0], len(weight.dims))
    if values is None or weight.data_type != onnx.TensorProto.FLOAT:
        return None
    one, none = np.ones(1), np.zeros(1)
    scale, shift = {
        "Add": (one, values),
        "Sub": (one, -values) if first else (-one, values),
        "Mul": (values, none),
        "Div": (1 / values if values.all() else values * np.nan, none),
    }[node.op_type]
    return (node, scale, shift) if np.isfinite(scale).all() and np.isfinite(shift).all() else None


def _by_channel(array: NDArray[np.generic], channels: int, rank: int) -> NDArray[np.float64] | None:
    """A constant as one number for each channel (or one for all); None where it is none such."""
    sides = (1,) * (rank - array.ndim) + array.shape
    if len(sides) != rank or any(side != 1 for axis, side in enumerate(sides) if axis != _AXIS):
        return None
    return array.astype(np.float64).ravel() if sides[_AXIS] in (1, channels) else None


def _scale(
    graph: onnx.GraphProto,
    conv: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    scale: NDArray[np.float64],
    shift: NDArray[np.float64],
) -> None:
    """Give a Conv new constants, for others may read the old ones."""
    weight = onnx.numpy_helper.to_array(constants[conv.input[1]]).astype(np.float64)
    bias = np.zeros(len(weight))
    if len(conv.input) > 2 and conv.input[2]:
        bias = onnx.numpy_helper.to_array(constants[conv.input[2]]).astype(np.float64)
    del conv.input[1:]
    for kind, array in (
        ("weight", weight * scale.reshape(-1, *[1] * (weight.ndim - 1))),
        ("bias", bias * scale + shift),
    ):
        name = f"{conv.output[0]}.scaled.{kind}"
        graph.initializer.append(onnx.numpy_helper.from_array(array.astype(np.float32), name))
        constants[name] = graph.initializer[-1]
        conv.input.append(name)

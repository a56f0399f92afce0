"""Refuse windows that do not fit their kernel: from some that do not, onnxruntime reads memory that is not its own.

onnx's shape inference looks at them only where it knows the input's sizes, which behind a loop it does not.
"""

from collections.abc import Mapping

import onnx

from sepconvert.errors import ModelError
from sepconvert.graph.notation import attribute, bodies, known_shapes, label, operator_name

_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv"})
_WEIGHT = {"QLinearConv": 3}
_PER_SIDE = {"kernel_shape": 1, "strides": 1, "dilations": 1, "pads": 2, "output_padding": 1}
_LEAST = {"strides": 1, "dilations": 1, "pads": 0}


def check_windows(graph: onnx.GraphProto, outer: Mapping[str, tuple[int, ...]] | None = None) -> None:
    """Check the windows of all convolutions in a graph and in the bodies of its nodes.

    Args:
        graph: one without functions, on which shape inference has run.
        outer: shapes of the values around a body.

    Raises:
        ModelError: their numbers do not go with the kernel's sides, or one is too small; the message names the node.
    """
    shapes = {**(outer or {}), **known_shapes(graph)}
    for node in graph.node:
        for body in bodies(node):
            check_windows(body, shapes)
        place = _WEIGHT.get(operator_name(node), 1)
        if operator_name(node) in _CONVOLUTIONS and len(node.input) > place and node.input[place] in shapes:
            _check(node, len(shapes[node.input[place]]) - 2)


def _check(node: onnx.NodeProto, sides: int) -> None:
    for name, numbers in _PER_SIDE.items():
        given: list[int] = attribute(node, name, [])
        if given and len(given) != numbers * sides:
            raise ModelError(
                f"{label(node)} has {name} {given}, {len(given)} numbers instead of {numbers * sides} for a kernel of "
                f"{sides} sides; export the model again."
            )
        if given and min(given) < _LEAST.get(name, min(given)):
            raise ModelError(f"{label(node)} has {name} {given}, of which one is too small; export the model again.")

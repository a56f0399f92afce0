"""Refuse what a graph makes large out of a few stored numbers: a small file must not take the machine's memory.

What depends on an input may be of any size, because its user chose that input. What does not is a constant, which an
exporter would have stored had it been meant.
"""

from math import prod

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx import numpy_helper

from sepconvert.errors import ModelError
from sepconvert.graph.notation import bodies, depending_nodes, known_shapes, operator_name, typed_values
from sepconvert.graph.weightless import is_stand_in

MOST_BYTES = 1 << 29
"""Of a constant that a graph makes. Weights that are cast, transposed or dequantised may be larger."""

MOST_COUNTED = 1 << 22
"""Numbers of a Range that onnx's shape inference would write down, with 160 bytes for each."""

_FEW = 4
"""Times as many elements as its inputs have together: what is smaller than that is made of weights."""


def check_ranges(graph: onnx.GraphProto) -> None:
    """Check the lengths of Ranges between constants, before shape inference counts them out.

    Raises:
        ModelError: one is too long; the message names the node.
    """
    stored = {tensor.name: tensor for tensor in graph.initializer if prod(tensor.dims) == 1}
    for node in graph.node:
        if operator_name(node) == "Range" and len(node.input) == 3 and all(name in stored for name in node.input):
            count = _length(*(numpy_helper.to_array(stored[name]) for name in node.input))
            if count > MOST_COUNTED:
                raise ModelError(f"{_label(node)} counts out {count:.3g} numbers, {_REMEDY}")


def check_growth(graph: onnx.GraphProto, varying: set[str], outer: dict[str, tuple[int, ...]] | None = None) -> None:
    """Check the sizes of the constants that a graph makes.

    Args:
        graph: one on which shape inference has run.
        varying: values that are different in every run, the graph's inputs first of all.
        outer: shapes of the values around a body.

    Raises:
        ModelError: one is too large; the message names the node.
    """
    shapes = (outer or {}) | known_shapes(graph)
    bits = {name: _bits(kind) for name, kind, _ in typed_values(graph)}
    varying = set(varying)
    for _ in depending_nodes(graph, varying):
        pass  # ``varying`` grows
    for node in graph.node:
        for body in bodies(node):
            check_growth(body, varying | {value.name for value in body.input}, shapes)
        if is_stand_in(node) or varying.intersection(node.output):
            continue
        given = sum(prod(shapes.get(name, ())) for name in node.input)
        for name in node.output:
            count = prod(shapes.get(name, ()))
            size = count * bits.get(name, 32) // 8
            if size > MOST_BYTES and count > _FEW * given:
                raise ModelError(f"{_label(node)} makes a constant of {size / 1e9:.1f} GB, {_REMEDY}")


_REMEDY = "although no input of the model needs it; export the model again, for inputs of sensible sizes."


def _label(node: onnx.NodeProto) -> str:
    return f"{operator_name(node)} '{node.name or next(iter(node.output), '')}'"


def _length(start: NDArray[np.generic], limit: NDArray[np.generic], step: NDArray[np.generic]) -> float:
    """How many numbers a Range between single ones has; 0 where they are none, or the step leads nowhere."""
    if any(array.dtype.kind not in "iuf" for array in (start, limit, step)) or not step.item():
        return 0.0
    return float((float(limit.item()) - float(start.item())) / float(step.item()))


def _bits(elem_type: int) -> int:
    try:
        return ir.DataType(elem_type).bitwidth
    except (ValueError, TypeError):
        return 32

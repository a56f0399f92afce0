"""Read nodes of an ONNX graph: attributes with their defaults, operator names, einsum equations."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

import onnx
import onnx_ir as ir

T = TypeVar("T", int, str, list[int])
Shape = tuple[int, ...]

FLOAT_TYPES = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})
"""``number_types.FLOATS`` in ONNX's own spelling."""

OVERRIDABLE_SINCE_IR = 4
"""From this IR version on, an initializer that is a graph input too is only a default; before, it is a constant."""

CONV_LIKE = re.compile(r"Conv(?![a-z])|Convolution")
"""Operator types, of whatever domain, that are convolutions by their name (``Convert`` is none)."""

_RANDOM = frozenset({"RandomNormal", "RandomUniform"})


@dataclass(frozen=True, slots=True)
class Call:
    """A node with the shapes of its inputs and of its first output, None where absent or not fully known."""

    node: onnx.NodeProto
    inputs: tuple[Shape | None, ...]
    output: Shape | None

    @staticmethod
    def of(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> "Call":
        """Look up the shapes of ``node`` among the fully known ones."""
        return Call(node, tuple(shapes.get(name) if name else None for name in node.input), shapes.get(node.output[0]))


def operator_name(node: onnx.NodeProto) -> str:
    """Return ``Conv`` for ONNX's own operators and ``com.microsoft.FusedConv`` for those of other domains."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def label(node: onnx.NodeProto) -> str:
    """What messages call a node."""
    return f"{operator_name(node)} '{node.name or next(iter(node.output), '')}'"


def attribute(node: onnx.NodeProto, name: str, default: T) -> T:
    """Return an attribute's value (text as ``str``), or ``default`` where it is absent or of another type."""
    for candidate in node.attribute:
        if candidate.name == name:
            value = onnx.helper.get_attribute_value(candidate)
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            if isinstance(value, type(default)):
                return value
    return default


def bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """Return the graphs inside a control-flow node, in the order of its attributes."""
    found = []
    for candidate in node.attribute:
        if candidate.type == onnx.AttributeProto.GRAPH:
            found.append(candidate.g)
        found.extend(candidate.graphs)
    return found


def depending_nodes(graph: onnx.GraphProto, varying: set[str]) -> Iterator[onnx.NodeProto]:
    """Yield the nodes that depend on ``varying`` values (or on chance); ``varying`` grows by what they make."""
    for node in graph.node:
        if operator_name(node) in _RANDOM or any(name in varying for name in _reads(node)):
            varying.update(name for name in node.output if name)
            yield node


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    yield from node.input
    for body in bodies(node):
        for inner in body.node:
            yield from _reads(inner)
        yield from (output.name for output in body.output)


def einsum_terms(node: onnx.NodeProto) -> list[str] | None:
    """Return the index letters of an Einsum's operands, None where an ellipsis leaves them open."""
    equation = attribute(node, "equation", "").replace(" ", "")
    if not equation or "." in equation:
        return None
    return equation.partition("->")[0].split(",")


def dtype_name(elem_type: int) -> str:
    """Return numpy's (or ml_dtypes') spelling of an ONNX element type, ``unknown`` where there is none."""
    try:
        return str(ir.DataType(elem_type).numpy().name)
    except (ValueError, TypeError):
        return "unknown"


def typed_values(graph: onnx.GraphProto) -> Iterator[tuple[str, int, tuple[int | None, ...] | None]]:
    """Yield name, ONNX element type and shape of every tensor whose type is known."""
    for tensor in graph.initializer:
        yield tensor.name, tensor.data_type, tuple(tensor.dims)
    for values in (graph.input, graph.value_info, graph.output):
        for value in values:
            if value.type.HasField("tensor_type"):
                kind = value.type.tensor_type
                dims = tuple(d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim)
                yield value.name, kind.elem_type, dims if kind.HasField("shape") else None


def known_shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    """Return the shapes of a graph's values that are fully known."""
    return {name: tuple(shape) for name, _, shape in typed_values(graph) if is_full(shape)}


def is_full(shape: Sequence[int | None] | None) -> TypeGuard[Sequence[int]]:
    """Tell whether every dimension is known."""
    return shape is not None and None not in shape

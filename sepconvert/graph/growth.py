"""Refuse what a graph makes large out of a few stored numbers: a small file must not take the machine's memory.

What depends on an input may be of any size, because its user chose that input. What does not is a constant, which an
exporter would have stored had it been meant. Pads and scales are such numbers too: a node by which an image of
kilobytes grows to hundreds of megabytes is damaged.

The sizes are those that shape inference found; ``stored_numbers.py`` refuses before it what inference would count out.
"""

from collections.abc import Mapping
from math import prod

import onnx
import onnx_ir as ir

from sepconvert.errors import ModelError
from sepconvert.graph.notation import (
    attribute,
    bodies,
    depending_nodes,
    known_shapes,
    label,
    operator_name,
    typed_values,
)
from sepconvert.graph.weightless import is_stand_in

MOST_BYTES = 1 << 29
"""Of a constant that a graph makes. Weights that are cast, transposed or dequantised may be larger."""

_FEW = 4
"""Times as many elements as its inputs have together: what is smaller than that is made of weights."""

MOST_SPREAD = 256
"""Times as many positions as the node's input has, and as many as a model's input has values."""

_SMALL_BYTES = 1 << 26
"""Of a value that pads or scales may make out of anything: a pooled image that is resized to what it was."""

_MOST_PADS = 1 << 20
"""Positions that pads make out of one position, as many as a million pixels, where the input's sizes are unknown."""

_WINDOWS = frozenset({"pads", "strides", "output_shape", "output_padding"})
_RESIZING = frozenset({"Pad", "Resize", "Upsample"})


def check_growth(graph: onnx.GraphProto, varying: set[str], outer: Mapping[str, tuple[int, ...]] | None = None) -> None:
    """Check the sizes of the constants that a graph makes, and of what its pads and scales make of the rest.

    Args:
        graph: one on which shape inference has run.
        varying: values that are different in every run, the graph's inputs first of all.
        outer: shapes of the values around a body.

    Raises:
        ModelError: one is too large; the message names the node.
    """
    shapes = {**(outer or {}), **known_shapes(graph)}
    bits = {name: _bits(kind) for name, kind, _ in typed_values(graph)}
    given = max((prod(shapes.get(name, ())) for name in varying), default=1)
    varying = set(varying)
    for _ in depending_nodes(graph, varying):
        pass  # ``varying`` grows
    for node in graph.node:
        for body in bodies(node):
            check_growth(body, varying | {value.name for value in body.input}, shapes)
        sizes = {name: prod(shapes.get(name, ())) * bits.get(name, 32) // 8 for name in node.output}
        if varying.intersection(node.output):
            _check_spread(node, shapes, max(sizes.values()), given)
        elif not is_stand_in(node):
            _check_constant(node, shapes, sizes)


def _check_constant(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], sizes: Mapping[str, int]) -> None:
    given = sum(prod(shapes.get(name, ())) for name in node.input)
    for name, size in sizes.items():
        if size > MOST_BYTES and prod(shapes[name]) > _FEW * given:
            raise ModelError(f"{label(node)} makes a constant of {size / 1e9:.1f} GB, {REMEDY}")


def _check_spread(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]], size: int, given: int) -> None:
    windows = any(own.name in _WINDOWS for own in node.attribute)
    known = bool(node.input) and node.input[0] in shapes and node.output[0] in shapes
    pads: list[int] = [] if known else attribute(node, "pads", [])
    made = prod(1 + begin + end for begin, end in zip(pads, pads[len(pads) // 2 :], strict=False))
    if made > _MOST_PADS:
        raise ModelError(
            f"{label(node)} pads an input of unknown size to {made:,} positions or more; export the model again, with "
            "sensible pads."
        )
    if size <= _SMALL_BYTES or not known or not (windows or operator_name(node) in _RESIZING):
        return
    before, after = (_positions(shapes[name], windows) for name in (node.input[0], node.output[0]))
    if after > MOST_SPREAD * max(before, given):
        raise ModelError(
            f"{label(node)} makes {size / 1e9:.2g} GB out of {before:,} positions: its pads, strides or sizes are far "
            "too large for its input; export the model again, or use larger inputs."
        )


def _positions(shape: tuple[int, ...], windows: bool) -> int:
    """Where there are windows, the second axis holds channels, which any layer may have many of."""
    return prod(size for axis, size in enumerate(shape) if axis != 1 or not windows)


REMEDY = "although no input of the model needs it; export the model again, for inputs of sensible sizes."


def _bits(elem_type: int) -> int:
    try:
        return ir.DataType(elem_type).bitwidth
    except (ValueError, TypeError):
        return 32

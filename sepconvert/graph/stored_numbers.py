"""Refuse stored numbers that stand for memory or time without end, before shape inference counts them out.

onnx's shape inference writes down every number of a Range, one size for every number of a Reshape's target, and one
size for every output that a Split says it has; where it has more, the whole process ends. A Loop runs as often as its
trip count says.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.graph.fold import small_constants
from sepconvert.graph.growth import REMEDY
from sepconvert.graph.notation import attribute, bodies, depending_nodes, label, operator_name

MOST_COUNTED = 1 << 22
"""Numbers that shape inference may write down, with 160 bytes for each."""

MOST_ROUNDS = 1 << 16
"""Of a loop that goes on whatever it computes, with those of the loops around it."""

_TARGETS = frozenset({"Reshape", "Expand", "ConstantOfShape", "CenterCropPad", "Resize", "Tile"})
"""Operators whose output has as many axes as one of their inputs has numbers."""

_SIZED = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1}
"""Operators that repeat something, and which input says how often."""

Numbers = Mapping[str, NDArray[np.generic]]


def check_numbers(graph: onnx.GraphProto, outer: Numbers | None = None, rounds: float = 1) -> None:
    """Check the numbers that a graph stores.

    Args:
        graph: a weightless one.
        outer: what is stored around a body.
        rounds: how often the body runs.

    Raises:
        ModelError: one is too large; the message names the node.
    """
    stored = {**(outer or {}), **small_constants(graph)}
    for node in graph.node:
        _check_range(node, stored)
        _check_target(node, graph, stored)
        _check_split(node)
        inner = rounds * _rounds(node, stored)
        if inner > MOST_ROUNDS:
            raise ModelError(
                f"{label(node)} runs its body {inner:.3g} times, whatever the inputs are; export the model again, "
                f"with at most {MOST_ROUNDS:,} rounds."
            )
        for body in bodies(node):
            hidden = {value.name for value in body.input}
            check_numbers(body, {name: array for name, array in stored.items() if name not in hidden}, inner)


def _check_range(node: onnx.NodeProto, stored: Numbers) -> None:
    if operator_name(node) == "Range" and len(node.input) == 3 and all(_is_number(stored.get(n)) for n in node.input):
        start, limit, step = (float(stored[name].item()) for name in node.input)
        count = (limit - start) / step if step else 0.0
        if count > MOST_COUNTED:
            raise ModelError(f"{label(node)} counts out {count:.3g} numbers, {REMEDY}")


def _check_target(node: onnx.NodeProto, graph: onnx.GraphProto, stored: Numbers) -> None:
    place = _SIZED.get(operator_name(node))
    sizes = None if place is None or len(node.input) <= place else stored.get(node.input[place])
    if sizes is None or sizes.dtype.kind not in "iu" or sizes.size != 1 or sizes.item() <= MOST_COUNTED:
        return
    if any(operator_name(reader) in _TARGETS for reader in depending_nodes(graph, {node.output[0]})):
        raise ModelError(f"{label(node)} makes {sizes.item():.3g} numbers that sizes are computed from, {REMEDY}")


def _check_split(node: onnx.NodeProto) -> None:
    stated = attribute(node, "num_outputs", len(node.output))
    if operator_name(node) == "Split" and stated != len(node.output):
        raise ModelError(
            f"{label(node)} has {len(node.output)} outputs, but its num_outputs is {stated}; export the model again."
        )


def _rounds(node: onnx.NodeProto, stored: Numbers) -> float:
    """How often a node runs its body: 1 where that is computed."""
    if operator_name(node) != "Loop" or len(node.input) < 2 or not _goes_on(node, stored):
        return 1
    if not node.input[0]:
        return float("inf")
    count = stored.get(node.input[0])
    return max(1, float(count.item())) if count is not None and _is_number(count) else 1


def _goes_on(node: onnx.NodeProto, stored: Numbers) -> bool:
    """Whether the body passes its condition on, or stores it, so that the trip count alone ends the loop."""
    body = next(iter(bodies(node)), onnx.GraphProto())
    if len(body.input) < 2 or not body.output:
        return False
    made = {name: reader for reader in body.node for name in reader.output}
    name, inner = body.output[0].name, {**stored, **small_constants(body)}
    while name in made and operator_name(made[name]) == "Identity" and made[name].input:
        name = made[name].input[0]
    started = not node.input[1] or _is_true(stored.get(node.input[1]))
    return started if name == body.input[1].name else _is_true(inner.get(name))


def _is_number(array: NDArray[np.generic] | None) -> bool:
    return array is not None and array.size == 1 and array.dtype.kind in "iuf"


def _is_true(array: NDArray[np.generic] | None) -> bool:
    return array is not None and array.size == 1 and array.dtype.kind == "b" and bool(array.item())

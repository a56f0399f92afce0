"""Tie the nodes of a graph to torch functions, or say everything that stands in the way at once."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor

from sepconvert.errors import ModelError
from sepconvert.graph.plain import PlainGraph, PlainNode
from sepconvert.pytorch.operators.dtypes import to_tensor, widened
from sepconvert.pytorch.operators.specification import Operator
from sepconvert.pytorch.operators.table import OPERATORS

NEWEST_OPSET = 28
"""The newest operator set the table was checked against: a later one may mean something else by the same attributes."""


@dataclass(frozen=True, slots=True)
class Body:
    """A subgraph: its steps, its own constants, and the names of its results."""

    steps: tuple["Step", ...]
    constants: Mapping[str, Tensor]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """A node and the function that computes it; an If has two bodies instead (then, else)."""

    node: PlainNode
    function: Callable[..., Any] | None
    numbers: frozenset[int]
    bodies: tuple[Body, Body] | None = None

    @property
    def reads(self) -> Iterator[str]:
        """All values the step needs."""
        return (name for name in (*self.node.inputs, *self.node.captured) if name)


def bind(graph: PlainGraph, *, wide: bool) -> tuple[Step, ...]:
    """Return the steps of a graph in its order.

    Args:
        graph: what to run.
        wide: compute half-precision graphs in float32.

    Raises:
        ModelError: names every operator, attribute and attribute value that is not supported.
    """
    complaints = list(dict.fromkeys(_complaints(graph)))
    if complaints:
        raise ModelError(f"The trainable graph does not support {'; '.join(complaints)}.")
    return tuple(_step(node, wide) for node in graph.nodes)


def _complaints(graph: PlainGraph) -> Iterator[str]:
    unknown: dict[str, list[PlainNode]] = {}
    for node in graph.nodes:
        if not _is_known(node):
            unknown.setdefault(f"{node.domain}::{node.op_type}" if node.domain else node.op_type, []).append(node)
    for name, nodes in unknown.items():
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        yield f"operator {name} (node {nodes[0].label}{more})"
    for node in graph.nodes:
        if node.domain == "" and node.opset > NEWEST_OPSET:
            yield f"opset {node.opset} (newer than {NEWEST_OPSET})"
        if node.op_type == "If":
            for body in node.bodies.values():
                yield from _complaints(body)
        elif _is_known(node):
            yield from _about(node, OPERATORS[node.op_type])


def _is_known(node: PlainNode) -> bool:
    return node.domain == "" and (node.op_type in OPERATORS or node.op_type == "If")


def _about(node: PlainNode, operator: Operator) -> Iterator[str]:
    for name, value in node.attributes.items():
        if name not in operator.attributes | operator.fixed | operator.choices.keys():
            yield f"attribute '{name}' of {node.label}"
        elif name in operator.choices:
            each = value if isinstance(value, tuple) else (value,)
            yield from (f"{name}={one!r} of {node.label}" for one in each if one not in operator.choices[name])
    for name in node.bodies:
        yield f"attribute '{name}' of {node.label}"
    if operator.most is not None and len(node.inputs) > operator.most:
        yield f"more than {operator.most} inputs of {node.label}"


def _step(node: PlainNode, wide: bool) -> Step:
    if node.op_type == "If":
        bodies = (_body(node.bodies["then_branch"], wide), _body(node.bodies["else_branch"], wide))
        return Step(node, None, frozenset({0}), bodies)
    operator = OPERATORS[node.op_type]
    surroundings = {"opset": node.opset, "results": _results(node), "wide": wide}
    given = {name: surroundings[name] for name in operator.wanted}
    attributes = {
        name: to_tensor(value, node.label) if isinstance(value, np.ndarray) else value
        for name, value in node.attributes.items()
        if name in operator.attributes
    }
    return Step(node, partial(operator.function, **attributes, **given), operator.numbers)


def _results(node: PlainNode) -> int:
    """How many outputs are named, up to the last one that is."""
    return max((index + 1 for index, name in enumerate(node.outputs) if name), default=0)


def _body(graph: PlainGraph, wide: bool) -> Body:
    constants = {name: to_tensor(array, name) for name, array in graph.constants.items()}
    held = {name: tensor.to(widened(tensor.dtype, wide)) for name, tensor in constants.items()}
    return Body(bind(graph, wide=wide), held, graph.outputs)


def read_as_values(steps: Iterable[Step]) -> Iterator[str]:
    """Yield the names of values that a step computes with, not only reads as plain numbers."""
    for step in steps:
        yield from (name for index, name in enumerate(step.node.inputs) if name and index not in step.numbers)
        yield from step.node.captured

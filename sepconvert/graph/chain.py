"""Nodes that stand in the place of one convolution, and how they are put together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.names import Namer
from sepconvert.graph.weights import OVERRIDABLE_SINCE_IR


@dataclass(frozen=True, slots=True)
class Chain:
    """Nodes that replace one site, in topological order; the last one produces the site's output.

    ``weights`` are values with constant content that no graph holds yet: whoever inserts the nodes registers them.
    """

    nodes: tuple[ir.Node, ...]
    weights: tuple[ir.Value, ...]

    @property
    def output(self) -> ir.Value:
        """The value that stands for the site's output."""
        return self.nodes[-1].outputs[0]

    @property
    def convolutions(self) -> tuple[ir.Node, ...]:
        """The Conv nodes among them."""
        return tuple(node for node in self.nodes if node.op_type == "Conv")


def constant_value(name: str, array: NDArray[np.floating]) -> ir.Value:
    """Return a value that holds an array and belongs to no graph yet."""
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def store_constants(graph: ir.Graph, ir_version: int, constants: Sequence[ir.Value], unique: Namer) -> list[ir.Node]:
    """Make constants known to a graph: as initializers, or as Constant nodes to insert before their users.

    Before IR version 4 an initializer must also be a graph input; the nodes leave a model's inputs what they are.
    """
    if ir_version >= OVERRIDABLE_SINCE_IR:
        for value in constants:
            graph.register_initializer(value)
        return []
    nodes = []
    for value in constants:
        output = ir.Value(name=value.name, shape=value.shape, type=value.type)
        name = unique(f"{value.name}/constant")
        nodes.append(ir.node("Constant", [], {"value": value.const_value}, outputs=[output], name=name))
        value.replace_all_uses_with(output)
    return nodes

"""Find values by name, what a node reads and what reads a value, and what depends on the model's inputs."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel


def values_by_name(graph: ir.Graph) -> dict[str, ir.Value]:
    """Return the values of a graph, not those of its subgraphs."""
    return ir.convenience.create_value_mapping(graph, include_subgraphs=False)


def find_value(model: LoadedModel, name: str) -> ir.Value | None:
    """Return the value called ``name`` in the main graph, if there is one."""
    return values_by_name(model.ir.graph).get(name)


def computed_value(model: LoadedModel, name: str) -> ir.Value:
    """Return the output called ``name`` of a node of the main graph.

    Raises:
        ModelError: there is none.
    """
    value = find_value(model, name)
    if value is None or value.producer() is None:
        raise ModelError(f"'{name}' is not computed in the model's main graph.")
    return value


def only_reader(value: ir.Value) -> ir.Node | None:
    """Return the standard operator that alone reads a value, which is no output of the graph; else None."""
    uses = list(value.uses())
    if value.is_graph_output() or len(uses) != 1 or uses[0].node.graph is not value.graph:
        return None
    node = uses[0].node
    return node if node.domain in ("", "ai.onnx") else None


@dataclass(frozen=True, slots=True)
class Summand:
    """An Add, what it adds to a product, and the nodes from the product to it, both of them included."""

    node: ir.Node
    value: ir.Value
    path: tuple[ir.Node, ...]


def summand(product: ir.Node) -> Summand | None:
    """Return what is added to a product, where nothing else reads that, also behind Casts that change nothing."""
    path = [product]
    while (behind := only_reader(path[-1].outputs[0])) is not None:
        if behind.op_type == "Add":
            other = next((value for value in behind.inputs if value is not path[-1].outputs[0]), None)
            return None if other is None else Summand(behind, other, (*path, behind))
        if not _changes_nothing(behind, product):
            return None
        path.append(behind)
    return None


def _changes_nothing(node: ir.Node, product: ir.Node) -> bool:
    """Whether a node gives out what it reads; the weight's type is the product's."""
    weight = product.inputs[1]
    assert weight is not None
    return node.op_type == "Identity" or (
        node.op_type == "Cast" and weight.dtype is not None and node.attributes.get_int("to", 0) == weight.dtype
    )


def node_name(node: ir.Node) -> str:
    """Return what people call a node: its name, or its first output's where it has none."""
    return node.name or str(node.outputs[0].name)


def node_inputs(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values a node reads: its inputs, then what its subgraphs take from the graph around them."""
    for value in node.inputs:
        if value is not None:
            yield value
    for graph in inner_graphs(node):
        yield from _captured(graph, node.graph)


def inner_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs inside a control-flow node."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _captured(graph: ir.Graph, outer: object) -> Iterator[ir.Value]:
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for value in node.inputs:
            if value is not None and value.graph is outer:
                yield value
    for value in graph.outputs:
        if value.graph is outer:
            yield value


def free_inputs(graph: ir.Graph) -> list[ir.Value]:
    """Return the graph inputs that must be fed: an initializer that is listed as an input too has its default."""
    return [value for value in graph.inputs if not value.is_initializer()]


def values_behind(graph: ir.Graph, names: Iterable[str]) -> set[str]:
    """Return the names of the values that depend on those called ``names``, themselves included."""
    found = set(names)
    for node in graph:
        if any(value.name in found for value in node_inputs(node)):
            found.update(str(value.name) for value in node.outputs)
    return found


def computed_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Return, in the graph's order, the nodes whose results depend on the graph's inputs."""
    varying = set(free_inputs(graph))
    found = []
    for node in graph:
        if any(value in varying for value in node_inputs(node)):
            found.append(node)
            varying.update(node.outputs)
    return found

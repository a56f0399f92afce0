"""What a node reads, subgraphs included, and which nodes depend on the model's inputs."""

from collections.abc import Iterator

import onnx_ir as ir


def node_inputs(node: ir.Node) -> Iterator[ir.Value]:
    """Yield the values a node reads: its inputs, then what its subgraphs take from the graph around them."""
    for value in node.inputs:
        if value is not None:
            yield value
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield from _captured(attribute.as_graph(), node.graph)
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from _captured(graph, node.graph)


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


def computed_nodes(graph: ir.Graph) -> list[ir.Node]:
    """Return, in the graph's order, the nodes whose results depend on the graph's inputs."""
    varying = set(free_inputs(graph))
    found = []
    for node in graph:
        if any(value in varying for value in node_inputs(node)):
            found.append(node)
            varying.update(node.outputs)
    return found

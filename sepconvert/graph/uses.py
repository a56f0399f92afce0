"""What a node reads, subgraphs included, which values depend on the model's inputs, and which nothing reads."""

from collections.abc import Iterator

import onnx_ir as ir

from sepconvert.graph.weights import OVERRIDABLE_SINCE_IR

_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


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


def discard_unused(model: ir.Model, value: ir.Value) -> None:
    """Remove a constant that nothing uses any more, and then what made it."""
    graph, producer = model.graph, value.producer()
    if value.uses() or value.is_graph_output():
        return
    if producer is None:
        _discard_initializer(model, value)
        return
    used = any(output.uses() or output.is_graph_output() for output in producer.outputs)
    # A node with a subgraph may read values that it does not list: it stays.
    if used or producer.graph is not graph or any(attr.type in _GRAPHS for attr in producer.attributes.values()):
        return
    inputs = [value for value in producer.inputs if value is not None]
    graph.remove(producer, safe=True)
    for source in inputs:
        discard_unused(model, source)


def _discard_initializer(model: ir.Model, value: ir.Value) -> None:
    graph = model.graph
    if not value.is_initializer() or value.graph is not graph:
        return
    if value.is_graph_input():
        if model.ir_version >= OVERRIDABLE_SINCE_IR:
            return  # a caller may still feed it: part of the model's interface
        graph.inputs.remove(value)
    del graph.initializers[str(value.name)]

"""The network as a drawing wants it: inputs, convolutions, the places where paths meet, outputs, and what links them.

Every other node is left out: a value passes on the nodes it came from. A node becomes a join where values from
different nodes meet. Sizes are no values: what only gives its shape away is not drawn as a path. Nodes of subgraphs
and functions are not drawn.
"""

from collections.abc import Mapping

import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.record import GraphNode, NetworkGraph

Sources = tuple[int, ...]
_SIZES = ("Shape", "Size")


def condense(model: LoadedModel, status: Mapping[str, str]) -> NetworkGraph:
    """Reduce the main graph to what a reader recognises.

    Args:
        model: the original model.
        status: by output value, the status of every Conv-like node: ``eligible``, ``rewritten``, ``kept``, ``skipped``.
    """
    nodes: list[GraphNode] = []
    edges: list[list[int]] = []
    sources: dict[str | None, Sources] = {}

    def add(output: str, op: str, state: str, comes_from: Sources) -> Sources:
        nodes.append(GraphNode(output, op, state))
        edges.extend([source, len(nodes) - 1] for source in comes_from)
        return (len(nodes) - 1,)

    for value in model.ir.graph.inputs:
        if not value.is_initializer():
            sources[value.name] = add(str(value.name), "Input", "input", ())
    for node in model.ir.graph:
        incoming = _incoming(node, sources)
        name = str(node.outputs[0].name) if node.outputs else ""
        if name in status:
            incoming = add(name, node.op_type, status[name], incoming)
        elif len(incoming) > 1:
            incoming = add(name, node.op_type, "join", incoming)
        for output in node.outputs:
            sources[output.name] = () if node.op_type in _SIZES else incoming
    for value in model.ir.graph.outputs:
        add(str(value.name), "Output", "output", sources.get(value.name, ()))
    return NetworkGraph(nodes, edges)


def _incoming(node: ir.Node, sources: Mapping[str | None, Sources]) -> Sources:
    """Distinct drawn nodes that this node's inputs come from, in the order of the inputs."""
    found: dict[int, None] = {}
    for value in node.inputs:
        if value is not None:
            found.update(dict.fromkeys(sources.get(value.name, ())))
    return tuple(found)

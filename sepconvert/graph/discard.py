"""Remove a constant that nothing uses any more."""

import onnx_ir as ir

from sepconvert.graph.notation import OVERRIDABLE_SINCE_IR
from sepconvert.graph.uses import inner_graphs


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
    if used or producer.graph is not graph or any(True for _ in inner_graphs(producer)):
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

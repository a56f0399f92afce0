"""Remove what nothing needs: unused constants, what exporters add for nothing, and what reaches no output."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.uses import inner_graphs, node_inputs
from sepconvert.graph.weights import OVERRIDABLE_SINCE_IR

SHOWN = 3  # dead nodes named in a note

# What PyTorch's exporter puts around the zero that it writes for a missing bias.
_WRAPPINGS = frozenset({"Expand", "Cast", "CastLike", "Identity", "Reshape"})
_BIASED = frozenset({"Conv", "ConvTranspose"})


def without_zero_biases(model: LoadedModel) -> LoadedModel:
    """Return a copy in which convolutions without a bias have none, instead of a zero that is expanded at run time."""
    copy = model.ir.clone()
    for node in list(copy.graph):
        if node.op_type not in _BIASED or len(node.inputs) < 3:
            continue
        bias = node.inputs[2]
        if bias is not None and bias.producer() is not None and _is_zero(bias):
            node.replace_input_with(2, None)
            node.resize_inputs(2)
            discard_unused(copy, bias)
    return replace(model, ir=copy)


def without_dead_nodes(model: LoadedModel) -> LoadedModel:
    """Return a copy without the nodes that no output depends on, and without the weights that only they read.

    Runtimes do not run them, so that they are neither a cost nor a gain. A note names some of them.
    """
    if not any(_dead_nodes(graph) for graph in model.ir.graphs()):
        return model
    copy = model.ir.clone()
    dead = [node for graph in copy.graphs() for node in _dead_nodes(graph)]
    left = list(dict.fromkeys(value for node in dead for value in node_inputs(node)))
    # All let go of what they read before any of them goes: a branch of a dead If reads what a dead node makes.
    for node in dead:
        inside = [each for graph in inner_graphs(node) for each in ir.traversal.RecursiveGraphIterator(graph)]
        for reader in (node, *inside):
            for index in range(len(reader.inputs)):
                reader.replace_input_with(index, None)
    for node in dead:
        assert node.graph is not None
        node.graph.remove(node)
    for value in left:
        discard_unused(copy, value)
    named = [f"{node.op_type} '{node.name or node.outputs[0].name}'" for node in dead if node.op_type != "Constant"]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    note = (f"Nodes that no output depends on are left out: {', '.join(named[:SHOWN])}{more}.",) if named else ()
    return replace(model, ir=copy, notes=(*model.notes, *note))


def _dead_nodes(graph: ir.Graph) -> list[ir.Node]:
    live: set[ir.Node] = set()
    stack = [node for value in graph.outputs if (node := value.producer()) is not None]
    while stack:
        node = stack.pop()
        if node in live or node.graph is not graph:
            continue
        live.add(node)
        stack += [producer for value in node_inputs(node) if (producer := value.producer()) is not None]
    return [node for node in graph if node not in live]


def _is_zero(value: ir.Value) -> bool:
    node = value.producer()
    if node is not None and node.op_type in _WRAPPINGS:
        source = node.inputs[0]
        return source is not None and _is_zero(source)
    tensor = ir.convenience.get_const_tensor(value, propagate_shape_type=False)
    return tensor is not None and not np.any(tensor.numpy())


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

"""Remove what nothing needs: constants that are not used any more, and what exporters add for nothing."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.weights import OVERRIDABLE_SINCE_IR

# What PyTorch's exporter puts around the zero that it writes for a missing bias.
_WRAPPINGS = frozenset({"Expand", "Cast", "CastLike", "Identity", "Reshape"})
_BIASED = frozenset({"Conv", "ConvTranspose"})
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


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

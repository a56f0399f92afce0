"""Remove what nothing needs: what exporters add for nothing, and what reaches no output."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import onnx_ir as ir

from sepconvert.graph.discard import discard_unused
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.uses import inner_graphs, node_inputs
from sepconvert.record import Note

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


def tell_values_apart(model: ir.Model) -> None:
    """Rename, in place, what nodes compute under the name of an input or of an initializer.

    PyTorch's exporter does so where a network has a buffer ``mean`` and calls ``x.mean()``.
    """
    taken = _given_names(model.graph)
    _rename([value for value in _computed(model.graph) if value.name in taken], model.graph)


def name_outputs(model: ir.Model, names: Sequence[str | None]) -> None:
    """Rename, in place, the graph's outputs; other values that nodes compute make way.

    Args:
        model: its outputs are computed by nodes, or are inputs or weights, which keep their names.
        names: for each output in order; None leaves it as it is. A name that an input or a weight has, or that is there
            twice, is not used. Names for more or fewer outputs than there are tell nothing.
    """
    graph = model.graph
    if len(names) != len(graph.outputs):
        return
    taken = _given_names(graph)
    wanted = {
        value: name
        for value, name in zip(graph.outputs, names, strict=True)
        if name is not None and name not in taken and names.count(name) == 1
        if value.producer() is not None and list(graph.outputs).count(value) == 1
    }
    new = set(wanted.values())
    _rename([value for value in _computed(graph) if value.name in new], graph)
    for value, name in wanted.items():
        value.name = name


def _given_names(graph: ir.Graph) -> set[str | None]:
    return {value.name for value in (*graph.inputs, *graph.initializers.values())}


def _computed(graph: ir.Graph) -> list[ir.Value]:
    return [value for node in ir.traversal.RecursiveGraphIterator(graph) for value in node.outputs]


def _rename(values: Sequence[ir.Value], graph: ir.Graph) -> None:
    """Give values names that nothing else has."""
    everything = _given_names(graph) | {value.name for value in _computed(graph)}
    for value in values:
        name = next(text for n in count(1) if (text := f"{value.name}_{n}") not in everything)
        everything.add(name)
        value.name = name


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
    note = (Note(f"Nodes that no output depends on are left out: {', '.join(named[:SHOWN])}{more}."),) if named else ()
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

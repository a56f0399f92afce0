"""Every layer of a model with what it stores and what it costs, as a summary lists them.

A row is a node of the main graph that depends on the model's inputs, apart from those that only rename, cast or compute
shapes. Parameters and multiply-adds are those of ``count.py``: the rows add up to the model's totals.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir as ir

from sepconvert.graph.conv_geometry import conv_geometry
from sepconvert.graph.count import macs_of_nodes, stored_values, sum_known
from sepconvert.graph.linear import LINEAR_OPERATORS, linear_layer
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import is_full
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import CONV, GROUPED, LINEAR, POINTWISE, TRANSPOSED, ConvSite
from sepconvert.graph.uses import computed_nodes, inner_graphs, node_name
from sepconvert.graph.weights import Origin, origin_of
from sepconvert.number_types import FLOATS
from sepconvert.record import ModelLayer
from sepconvert.separable.geometry import ConvGeometry

DEPTHWISE = "depthwise"
OTHER = "other"
_UNSEEN = frozenset({"Identity", "Constant", "Cast", "CastLike", "Shape", "Size", "ConstantOfShape", "Dropout"})
_STANDARD = ("", "ai.onnx")


def summarise(model: LoadedModel, shapes: Shapes, params: int | None, macs: int | None) -> list[ModelLayer]:
    """List the layers in the graph's order.

    Args:
        model: the model.
        shapes: inferred from it.
        params: the whole model's parameters.
        macs: the whole model's MACs. What no row has of either stands in a last row of its own.
    """
    nodes = computed_nodes(model.ir.graph)
    stored, counted = _stored_by_node(model, shapes, nodes), macs_of_nodes(shapes)
    rows = [_row(node, model, shapes, stored[node], counted) for node in nodes]
    shown = [row for row, node in zip(rows, nodes, strict=True) if row.params or row.macs or _is_seen(node, shapes)]
    return [*shown, *_rest(shown, params, macs)]


def conv_layer(node: ir.Node, model: LoadedModel, shapes: Shapes) -> ConvGeometry | None:
    """The geometry of a convolution of a fixed weight; None for other nodes.

    Raises:
        ModelError: it contradicts itself.
    """
    if node.domain not in _STANDARD or node.op_type not in ("Conv", "ConvTranspose"):
        return None
    weight = node.inputs[1]
    if weight is None or origin_of(weight, model.ir.ir_version) is Origin.DYNAMIC:
        return None
    shape = shapes.shapes.get(str(weight.name))
    return conv_geometry(node, tuple(shape), shapes) if is_full(shape) else None


def conv_kind(geometry: ConvGeometry) -> str:
    """What a convolution is: ``depthwise`` (one input channel per group), or the kind of a site."""
    if geometry.groups > 1 and geometry.part.in_channels == 1:
        return DEPTHWISE
    if geometry.transposed:
        return TRANSPOSED
    if geometry.groups > 1:
        return GROUPED
    return POINTWISE if geometry.taps == 1 else CONV


def _row(
    node: ir.Node, model: LoadedModel, shapes: Shapes, params: int, counted: Mapping[str, int | None]
) -> ModelLayer:
    output = str(node.outputs[0].name)
    shape = shapes.shapes.get(output)
    row = ModelLayer(
        name=node_name(node),
        output=output,
        op=node.op_type,
        kind=node.op_type,
        out_shape=None if shape is None else list(shape),
        params=params,
        macs=counted.get(output, 0),  # what shape inference has folded away is not run
    )
    geometry = conv_layer(node, model, shapes)
    if geometry is not None:
        sides = replace(row, kernel=list(geometry.kernel), stride=list(geometry.stride), groups=geometry.groups)
        return _wide(sides, conv_kind(geometry), geometry)
    if node.domain not in _STANDARD or node.op_type not in LINEAR_OPERATORS:
        return row
    found = linear_layer(node, model, shapes)
    if isinstance(found, ConvSite):
        return _wide(row, LINEAR, found.geometry)
    return row if found is None else replace(row, kind=LINEAR)


def _wide(row: ModelLayer, kind: str, geometry: ConvGeometry) -> ModelLayer:
    return replace(row, kind=kind, in_channels=geometry.in_channels, out_channels=geometry.out_channels)


def _is_seen(node: ir.Node, shapes: Shapes) -> bool:
    """Whether a node without parameters and MACs is a layer to people: it makes numbers out of numbers."""
    if node.op_type in _UNSEEN:
        return False
    dtype = shapes.dtypes.get(str(node.outputs[0].name))
    return dtype is None or dtype == "unknown" or dtype in FLOATS


def _stored_by_node(model: LoadedModel, shapes: Shapes, nodes: Sequence[ir.Node]) -> Counter[ir.Node]:
    """Parameters by the first node of the main graph that uses them, itself, through constants or inside a body."""
    order = {node: index for index, node in enumerate(nodes)}
    inside = {inner: node for node in reversed(nodes) for inner in _bodies(node, model)}
    found: Counter[ir.Node] = Counter()
    for value, count in stored_values(model, shapes):
        users = _users(value, order, inside) if count else []
        if users:
            found[min(users, key=order.__getitem__)] += count
    return found


def _users(value: ir.Value, order: Mapping[ir.Node, int], inside: Mapping[ir.Node, ir.Node]) -> list[ir.Node]:
    found, pending, seen = [], [value], {value}
    while pending:
        for use in pending.pop().uses():
            node = inside.get(use.node, use.node)
            if node in order:
                found.append(node)
                continue
            fresh = [output for output in node.outputs if output not in seen]
            seen.update(fresh)
            pending += fresh
    return found


def _bodies(node: ir.Node, model: LoadedModel) -> list[ir.Node]:
    """All nodes in a node's subgraphs, and in the functions that it calls."""
    found: list[ir.Node] = []
    pending = [node]
    while pending:
        current = pending.pop()
        inner = [each for graph in inner_graphs(current) for each in ir.traversal.RecursiveGraphIterator(graph)]
        function = model.ir.functions.get(current.op_identifier())
        if function is not None:
            inner += function.all_nodes()
        found += inner
        pending += [each for each in inner if each.op_identifier() in model.ir.functions]
    return found


def _rest(rows: Sequence[ModelLayer], params: int | None, macs: int | None) -> list[ModelLayer]:
    """What is inside functions, or used by nothing that is run."""
    stored = (params or 0) - sum(row.params for row in rows)
    known = sum_known([row.macs for row in rows])
    run = None if macs is None else macs - (known or 0)
    if not stored and (not run or known is None):
        return []
    return [ModelLayer("(inside functions, or fixed)", "", OTHER, OTHER, None, stored, run)]

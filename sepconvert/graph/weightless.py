"""A weightless copy of a model: the same graph with every large tensor replaced by a typed graph input.

Checking a model and inferring its shapes need the small tensors (shapes, axes, scales) but not the weights; without
them both take milliseconds and no memory, whatever the size of the model.
"""

from math import prod
from typing import Any

import onnx
import onnx_ir as ir

from sepconvert.graph.notation import bodies

LARGE = 256
"""Tensors with more elements than this are replaced."""

_SIZES = ":sizes"

CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})
"""Operators whose output shapes inference may not find, so that what the model declares of them is kept."""


def weightless_copy(model: ir.Model) -> onnx.ModelProto:
    """Return the model's graph, functions and small tensors as a new proto that owes nothing to ``model``."""
    proto = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opset_imports.items():
        proto.opset_import.add(domain=domain, version=version)
    graph = proto.graph
    graph.name = model.graph.name or "graph"
    for value in model.graph.inputs:
        ir.serde.serialize_value_into(graph.input.add(), value)
    declared = {value.name for value in model.graph.inputs}
    for value in model.graph.initializers.values():
        _add_initializer(graph, value, declared)
    for node in model.graph:
        _add_node(graph, node)
    for value in model.graph.outputs:
        ir.serde.serialize_value_into(graph.output.add(), value)
    for function in model.functions.values():
        ir.serde.serialize_function_into(proto.functions.add(), function)
    _lighten_bodies(proto)
    return proto


def large_constant(node: ir.Node) -> ir.TensorProtocol | None:
    """Return the tensor of a ``Constant`` node if it is to be replaced."""
    if node.op_type != "Constant" or node.domain != "":
        return None
    attribute = node.attributes.get("value")
    if attribute is None or attribute.is_ref():
        return None
    tensor = attribute.as_tensor()
    return tensor if tensor.size > LARGE else None


def _add_initializer(graph: onnx.GraphProto, value: ir.Value, declared: set[str | None]) -> None:
    tensor = value.const_value
    if tensor is None:
        return
    if tensor.size <= LARGE:
        added = graph.initializer.add()
        ir.serde.serialize_tensor_into(added, tensor)
        _embed_external(added, tensor)
        added.name = value.name or ""
    elif value.name not in declared:
        graph.input.append(_typed(value.name, tensor))


def _embed_external(proto: onnx.TensorProto, tensor: ir.TensorProtocol) -> None:
    # Neither the checker nor shape inference is told where the model's folder is.
    if proto.data_location == onnx.TensorProto.EXTERNAL:
        _embed(proto, tensor)


def _embed(proto: onnx.TensorProto, tensor: ir.TensorProtocol) -> None:
    proto.ClearField("data_location")
    proto.ClearField("external_data")
    proto.raw_data = tensor.tobytes()


def _add_node(graph: onnx.GraphProto, node: ir.Node) -> None:
    tensor = large_constant(node)
    if tensor is not None:
        graph.input.append(_typed(node.outputs[0].name, tensor))
        return
    if node.domain != "" or node.op_type in CONTROL_FLOW:
        _declare_outputs(graph, node)
    added = graph.node.add()
    ir.serde.serialize_node_into(added, node)
    for attribute in added.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            _embed_external(attribute.t, node.attributes[attribute.name].as_tensor())


def _declare_outputs(graph: onnx.GraphProto, node: ir.Node) -> None:
    for value in node.outputs:
        if value.type is not None and value.name and not value.is_graph_output():
            ir.serde.serialize_value_into(graph.value_info.add(), value)


def _typed(name: str | None, tensor: ir.TensorProtocol) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name or "", int(tensor.dtype), tensor.shape.numpy())


def _lighten_bodies(proto: onnx.ModelProto) -> None:
    """Replace large or external tensors inside subgraphs and functions, which have no inputs to turn them into."""
    opsets = {entry.domain: entry.version for entry in proto.opset_import}
    for node in proto.graph.node:
        for body in bodies(node):
            _lighten_graph(body, opsets.get("", 0))
    for function in proto.functions:
        opset = next((entry.version for entry in function.opset_import if entry.domain in ("", "ai.onnx")), 0)
        _lighten_nodes(function.node, [], opset)


def _lighten_graph(graph: onnx.GraphProto, opset: int) -> None:
    heavy = [tensor for tensor in graph.initializer if _is_heavy(tensor, opset)]
    light = [tensor for tensor in graph.initializer if not _is_heavy(tensor, opset)]
    fills = [node for tensor in heavy for node in _zeros(tensor.name, tensor)]
    del graph.initializer[:]
    graph.initializer.extend(light)
    _lighten_nodes(graph.node, fills, opset)


def _lighten_nodes(nodes: Any, first: list[onnx.NodeProto], opset: int) -> None:
    found = list(first)
    for node in nodes:
        for body in bodies(node):
            _lighten_graph(body, opset)
        is_tensor = node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value"
        if is_tensor and _is_heavy(node.attribute[0].t, opset):
            found += _zeros(node.output[0], node.attribute[0].t)
        else:
            found.append(node)
    # Python copies of protobuf nodes survive the deletion of the list they came from.
    del nodes[:]
    nodes.extend(found)


def _is_heavy(tensor: onnx.TensorProto, opset: int) -> bool:
    # ConstantOfShape, which takes the tensor's place, exists since opset 9.
    return opset >= 9 and (tensor.data_location == onnx.TensorProto.EXTERNAL or prod(tensor.dims) > LARGE)


def _zeros(name: str, tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    """Nodes that make a tensor of the same type and shape from a few numbers."""
    sizes = onnx.helper.make_tensor("", onnx.TensorProto.INT64, [len(tensor.dims)], list(tensor.dims))
    made_from = f"{name}{_SIZES}"
    width = -(-ir.DataType(tensor.data_type).bitwidth // 8)
    zero = onnx.TensorProto(data_type=tensor.data_type, dims=[1], raw_data=bytes(width))
    return [
        onnx.helper.make_node("Constant", [], [made_from], value=sizes),
        onnx.helper.make_node("ConstantOfShape", [made_from], [name], value=zero),
    ]


def is_stand_in(node: onnx.NodeProto) -> bool:
    """Tell whether the node makes what is a stored tensor in the model itself."""
    return node.op_type == "ConstantOfShape" and list(node.input) == [f"{node.output[0]}{_SIZES}"]

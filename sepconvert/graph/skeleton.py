"""A weightless copy of a model: the same graph with every large tensor replaced by a typed graph input.

Checking a model and inferring its shapes need the small tensors (shapes, axes, scales) but not the weights; without
them both take milliseconds and no memory, whatever the size of the model.
"""

import onnx
import onnx_ir as ir

LARGE = 256
"""Tensors with more elements than this are replaced."""


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
        if added.data_location == onnx.TensorProto.EXTERNAL:
            _embed(added, tensor)
        added.name = value.name or ""
    elif value.name not in declared:
        graph.input.append(_typed(value.name, tensor))


def _embed(proto: onnx.TensorProto, tensor: ir.TensorProtocol) -> None:
    proto.ClearField("data_location")
    proto.ClearField("external_data")
    proto.raw_data = tensor.tobytes()


def _add_node(graph: onnx.GraphProto, node: ir.Node) -> None:
    tensor = large_constant(node)
    if tensor is not None:
        graph.input.append(_typed(node.outputs[0].name, tensor))
        return
    ir.serde.serialize_node_into(graph.node.add(), node)


def _typed(name: str | None, tensor: ir.TensorProtocol) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name or "", int(tensor.dtype), tensor.shape.numpy())

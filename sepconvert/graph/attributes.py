"""Check the attributes of every node of a model file: what is read later relies on their types."""

from collections.abc import Iterable

import onnx
from onnx import AttributeProto

from sepconvert.errors import ModelError

_STANDARD = ("", "ai.onnx")


def check_attributes(proto: onnx.ModelProto, label: str) -> None:
    """Check that attributes have the types of their operators, and that only functions refer to attributes.

    Raises:
        ModelError: one does not; the message names the node.
    """
    opset = next((entry.version for entry in proto.opset_import if entry.domain in _STANDARD), 1)
    _check(proto.graph.node, opset, label, inside_function=False)
    for function in proto.functions:
        own = next((entry.version for entry in function.opset_import if entry.domain in _STANDARD), opset)
        _check(function.node, own, label, inside_function=True)


def _check(nodes: Iterable[onnx.NodeProto], opset: int, label: str, *, inside_function: bool) -> None:
    for node in nodes:
        wrong = _fault(node, opset, inside_function=inside_function)
        if wrong is not None:
            name = node.name or next(iter(node.output), "")
            raise ModelError(f"{label} is not a valid ONNX model: {node.op_type} '{name}' {wrong}; export it again.")
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _check(graph.node, opset, label, inside_function=inside_function)


def _fault(node: onnx.NodeProto, opset: int, *, inside_function: bool) -> str | None:
    names = [attribute.name for attribute in node.attribute]
    if len(set(names)) < len(names):
        return "has an attribute twice"
    known = _schema(node, opset)
    for attribute in node.attribute:
        if attribute.ref_attr_name and not inside_function:
            return f"takes '{attribute.name}' from an attribute '{attribute.ref_attr_name}', but is in no function"
        expected = known.get(attribute.name, attribute.type)
        held = attribute.type == expected and (attribute.ref_attr_name or _holds_its_type(attribute))
        if not held:
            return f"has an attribute '{attribute.name}' that is no {AttributeProto.AttributeType.Name(expected)}"
        if attribute.type in (AttributeProto.SPARSE_TENSOR, AttributeProto.SPARSE_TENSORS):
            return f"has a sparse tensor '{attribute.name}', which is not supported"
    if node.op_type == "Constant" and node.domain in _STANDARD and len(names) != 1:
        return f"has {len(names)} values instead of one"
    return None


def _schema(node: onnx.NodeProto, opset: int) -> dict[str, int]:
    """Types of attributes by name; none for an operator that is not ONNX's own, or not of this opset."""
    if node.domain not in _STANDARD or not isinstance(node.op_type, str):  # bytes, where they are no text
        return {}
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return {}
    return {name: attribute.type.value for name, attribute in schema.attributes.items()}  # type: ignore[attr-defined]


def _holds_its_type(attribute: AttributeProto) -> bool:
    """Whether the field of a single message is there; absent numbers, texts and lists count as zero or empty."""
    fields = {AttributeProto.TENSOR: "t", AttributeProto.GRAPH: "g", AttributeProto.TYPE_PROTO: "tp"}
    field = fields.get(attribute.type)
    return attribute.type != AttributeProto.UNDEFINED and (field is None or attribute.HasField(field))

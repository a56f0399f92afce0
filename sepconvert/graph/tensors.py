"""Check what is stored in a model file, without reading external data: tensors, and the attributes of its nodes.

What is read later relies on their types.
"""

import stat
from collections.abc import Iterable, Iterator
from math import prod
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import Message
from onnx import AttributeProto

from sepconvert.errors import ModelError
from sepconvert.graph.notation import bodies

_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
# The field that a type's numbers stand in where they are not raw bytes; those of all others in int32_data.
_FIELD_OF = {
    ir.DataType.FLOAT: "float_data",
    ir.DataType.COMPLEX64: "float_data",
    ir.DataType.DOUBLE: "double_data",
    ir.DataType.COMPLEX128: "double_data",
    ir.DataType.INT64: "int64_data",
    ir.DataType.UINT32: "uint64_data",
    ir.DataType.UINT64: "uint64_data",
    ir.DataType.STRING: "string_data",
}


def is_text(message: Message) -> bool:
    """Tell whether all names in a message are UTF-8: protobuf takes any bytes, and gives out bytes where they are not.

    Texts that are data, in tensors and attributes, are looked at where their types are known.
    """
    for field, value in message.ListFields():
        if field.name in ("raw_data", "s", "strings"):
            continue
        if field.type == field.TYPE_STRING:
            if any(isinstance(text, bytes) for text in (value if field.is_repeated else [value])):
                return False
        elif field.type == field.TYPE_MESSAGE and not all(map(is_text, value if field.is_repeated else [value])):
            return False
    return True


def tensor_protos(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of the model: initializers and attributes, in subgraphs and functions too."""
    yield from proto.graph.initializer
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        yield from _node_tensors(nodes)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
        for body in bodies(node):
            yield from body.initializer
            yield from _node_tensors(body.node)


def check_tensor(tensor: onnx.TensorProto, folder: Path | None, label: str) -> Path | None:
    """Check that a tensor's data is all there; return the external file it lives in, if any.

    Raises:
        ModelError: negative dimensions, an unknown type, too little or too much data, or an external file that is
            missing, too short, or not inside ``folder``.
    """
    name = tensor.name or "(unnamed)"
    dtype = _element_type(tensor)
    if dtype is None:
        raise ModelError(f"{label}: tensor '{name}' has an unknown element type; export the model again.")
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"{label}: tensor '{name}' has a negative dimension; export the model again.")
    if tensor.HasField("segment"):
        raise ModelError(f"{label}: tensor '{name}' is a segment of a larger one; save the model again in one piece.")
    expected = -(-prod(tensor.dims) * dtype.bitwidth // 8) if dtype != ir.DataType.STRING else 0
    if tensor.data_location == onnx.TensorProto.EXTERNAL and dtype != ir.DataType.STRING:
        return _check_external(tensor, expected, folder, label)
    if dtype != ir.DataType.STRING and tensor.HasField("raw_data"):
        if len(tensor.raw_data) != expected:
            raise ModelError(
                f"{label}: tensor '{name}' holds {len(tensor.raw_data)} bytes instead of {expected}; "
                "export the model again."
            )
    elif _stored(tensor, dtype) != _entries(tensor, dtype):
        raise ModelError(
            f"{label}: tensor '{name}' holds {_stored(tensor, dtype)} numbers instead of {_entries(tensor, dtype)}; "
            "export the model again."
        )
    if not all(_is_text(text) for text in tensor.string_data):
        raise ModelError(f"{label}: tensor '{name}' holds a text that is not UTF-8; export the model again.")
    return None


def _element_type(tensor: onnx.TensorProto) -> ir.DataType | None:
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        return None
    return None if dtype == ir.DataType.UNDEFINED else dtype


def _stored(tensor: onnx.TensorProto, dtype: ir.DataType) -> int:
    """Entries of the field that the type's numbers belong in; -1 if others hold some too."""
    field = _FIELD_OF.get(dtype, "int32_data")
    if any(len(getattr(tensor, other)) for other in _TYPED_FIELDS if other != field):
        return -1
    return len(getattr(tensor, field))


def _entries(tensor: onnx.TensorProto, dtype: ir.DataType) -> int:
    """How many entries a tensor's numbers take: complex ones two each, several of less than a byte one."""
    count = int(prod(tensor.dims))
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return 2 * count
    return count if dtype == ir.DataType.STRING or dtype.bitwidth >= 8 else -(-count * dtype.bitwidth // 8)


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_external(tensor: onnx.TensorProto, expected: int, folder: Path | None, label: str) -> Path:
    name = tensor.name or "(unnamed)"
    info = {entry.key: entry.value for entry in tensor.external_data}
    location = info.get("location", "")
    try:
        offset = int(info.get("offset") or 0)
        length = int(info.get("length") or expected)
    except ValueError:
        raise ModelError(f"{label}: tensor '{name}' has an unreadable external offset; save the model again.") from None
    if folder is None:
        raise ModelError(f"{label}: tensor '{name}' lives in '{location}', which needs the model's path to be found.")
    file = _contained(folder, location, f"{label}: tensor '{name}'")
    size = file.stat().st_size
    if offset < 0 or length != expected or size < offset + expected:
        raise ModelError(
            f"{label}: external data file '{location}' is cut off or does not fit tensor '{name}' "
            f"({expected} bytes from {offset} on, the file has {size}); copy or export it again."
        )
    return file


def _contained(folder: Path, location: str, what: str) -> Path:
    """Resolve an external data location, refusing anything that is not a plain file inside the model's folder."""
    if not location:
        raise ModelError(f"{what} names no external data file; save the model again.")
    root = folder.resolve()
    try:
        file = (root / location).resolve()
        # Not the resolved one's: a way through folders that do not exist ends here, as it does for who opens it.
        status = (root / location).stat() if file.is_relative_to(root) else None
    except (OSError, RuntimeError, ValueError):
        raise ModelError(f"{what}: external data file '{location}' is missing; copy it beside the model.") from None
    if status is None or Path(location).is_absolute():
        if status is None and (root / location).is_symlink():
            raise ModelError(
                f"{what} lives in '{location}', a link that leads outside the model's folder, which is refused for "
                f"safety; copy the files that the links stand for into one folder (cp -L {root}/* FOLDER)."
            )
        raise ModelError(
            f"{what} lives in '{location}', outside the model's folder, which is refused for safety; "
            "copy the file beside the model and save the model again."
        )
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{what}: external data '{location}' is not a file; copy the data file beside the model.")
    if status.st_nlink > 1:
        # onnx and onnx-ir refuse to map such files, with a message about attacks.
        raise ModelError(f"{what}: external data file '{location}' has several hard links; make a plain copy of it.")
    return file


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
        if attribute.name in known and not all(_is_text(text) for text in (attribute.s, *attribute.strings)):
            return f"has an attribute '{attribute.name}' that is not UTF-8 text"
    if node.op_type == "Constant" and node.domain in _STANDARD and len(names) != 1:
        return f"has {len(names)} values instead of one"
    return None


def _schema(node: onnx.NodeProto, opset: int) -> dict[str, int]:
    """Types of attributes by name; none for an operator that is not ONNX's own, or not of this opset."""
    if node.domain not in _STANDARD:
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

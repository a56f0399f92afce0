"""Walk and check the tensors stored in a model file, without reading external data."""

import stat
from collections.abc import Iterator
from math import prod
from pathlib import Path

import onnx
import onnx_ir as ir

from sepconvert.errors import ModelError

_TYPED_FIELDS = ("float_data", "int32_data", "int64_data", "double_data", "uint64_data")


def tensor_protos(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of the model: initializers and attributes, in subgraphs and functions too."""
    yield from _graph_tensors(proto.graph)
    for function in proto.functions:
        for node in function.node:
            yield from _node_tensors(node)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        yield from _node_tensors(node)


def _node_tensors(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.TENSOR:
            yield attribute.t
        elif attribute.type == onnx.AttributeProto.TENSORS:
            yield from attribute.tensors
        elif attribute.type == onnx.AttributeProto.GRAPH:
            yield from _graph_tensors(attribute.g)
        elif attribute.type == onnx.AttributeProto.GRAPHS:
            for graph in attribute.graphs:
                yield from _graph_tensors(graph)


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
    if dtype == ir.DataType.STRING:
        return None
    expected = -(-prod(tensor.dims) * dtype.bitwidth // 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return _check_external(tensor, expected, folder, label)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != expected:
            raise ModelError(
                f"{label}: tensor '{name}' holds {len(tensor.raw_data)} bytes instead of {expected}; "
                "export the model again."
            )
    elif _stored_numbers(tensor) < -(-prod(tensor.dims) * min(dtype.bitwidth, 8) // 8):
        raise ModelError(f"{label}: tensor '{name}' holds fewer numbers than its shape says; export the model again.")
    return None


def _element_type(tensor: onnx.TensorProto) -> ir.DataType | None:
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        return None
    return None if dtype == ir.DataType.UNDEFINED else dtype


def _stored_numbers(tensor: onnx.TensorProto) -> int:
    # Types below 8 bits are packed, several to one number.
    return sum(len(getattr(tensor, field)) for field in _TYPED_FIELDS)


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
    file = (root / location).resolve()
    if Path(location).is_absolute() or not file.is_relative_to(root):
        if (root / location).is_symlink():
            raise ModelError(
                f"{what} lives in '{location}', a link that leads outside the model's folder, which is refused for "
                f"safety; copy the files that the links stand for into one folder (cp -L {root}/* FOLDER)."
            )
        raise ModelError(
            f"{what} lives in '{location}', outside the model's folder, which is refused for safety; "
            "copy the file beside the model and save the model again."
        )
    try:
        status = file.stat()
    except OSError:
        raise ModelError(f"{what}: external data file '{location}' is missing; copy it beside the model.") from None
    if not stat.S_ISREG(status.st_mode):
        raise ModelError(f"{what}: external data '{location}' is not a file; copy the data file beside the model.")
    if status.st_nlink > 1:
        # onnx and onnx-ir refuse to map such files, with a message about attacks.
        raise ModelError(f"{what}: external data file '{location}' has several hard links; make a plain copy of it.")
    return file

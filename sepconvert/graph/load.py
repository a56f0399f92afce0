"""Read an ONNX model into memory without reading its external weights."""

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError

from sepconvert.errors import ModelError, one_line
from sepconvert.files import need_regular
from sepconvert.graph.external import read_on_demand
from sepconvert.graph.tensors import check_attributes, check_tensor, is_text, tensor_protos
from sepconvert.graph.weightless import weightless_copy

OLDEST_OPSET = 7
PROTOBUF_LIMIT = 2**31 - 1
NOT_ONNX = "is not an ONNX model"

# onnx-ir logs what it repairs (unnamed initializers, outputs without producer); the checker reports it as an error.
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model and where it came from.

    ``ir`` must not be mutated: clone it (``ir.clone()``) first. External weights are mapped on first access. ``sha256``
    is of the model file itself; ``bytes`` includes its external data files, which are ``data_files``. What never was a
    file has none of these. ``name`` is what a model from elsewhere is called, ``notes`` are sentences for the record.
    """

    ir: ir.Model
    path: Path | None = None
    sha256: str | None = None
    bytes: int | None = None
    name: str | None = None
    notes: tuple[str, ...] = ()
    data_files: frozenset[Path] = frozenset()

    @property
    def label(self) -> str:
        """What messages and records call the model."""
        return self.name or ("The model" if self.path is None else str(self.path))

    @property
    def is_exported(self) -> bool:
        """Whether it was made from a model elsewhere (a PyTorch module) that its layers must go on matching."""
        return self.name is not None


def load_model(path: Path) -> LoadedModel:
    """Read and check the model at ``path``.

    Raises:
        ModelError: the file is missing, is not a complete ONNX model, is invalid, or refers to external data that is
            missing, truncated or outside its folder.
    """
    data = _read(path)
    sha256, size = hashlib.sha256(data).hexdigest(), len(data)
    proto = _parse(data, str(path))
    # The file's bytes and the message are each as large as the weights: from here on only one of them is needed.
    del data
    return _build(proto, path, sha256, size)


def load_bytes(data: bytes) -> LoadedModel:
    """Read and check a serialized model; external data is refused.

    Raises:
        ModelError: as ``load_model``.
    """
    return _build(_parse(data, "The model"), None, hashlib.sha256(data).hexdigest(), len(data))


def _build(proto: onnx.ModelProto, path: Path | None, sha256: str, size: int) -> LoadedModel:
    label = "The model" if path is None else str(path)
    if not is_text(proto):
        raise ModelError(f"{label} holds a name that is not UTF-8 text; export or download the model again.")
    _check_versions(proto, label)
    check_attributes(proto, label)
    external = _check_tensors(proto, path, label)
    model = _to_ir(proto, label)
    if path is not None:
        _anchor_external_data(model, path)
    _check_graph(model, label)
    size += sum(file.stat().st_size for file in external)
    return LoadedModel(model, path, sha256, size, data_files=frozenset(external))


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"{path} is a folder; pass the .onnx file in it.")
    try:
        need_regular(path)
        size = path.stat().st_size
        if size > PROTOBUF_LIMIT:
            raise ModelError(
                f"{path} is larger than the 2 GB an ONNX file may have; save its weights as external data."
            )
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror or error}); check the path.") from None
    if not data:
        raise ModelError(f"{path} is empty; export or download the model again.")
    return data


def _parse(data: bytes, label: str) -> onnx.ModelProto:
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError:
        raise ModelError(f"{label} {NOT_ONNX}, or is cut off; export or download the model again.") from None
    if not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(f"{label} {NOT_ONNX} (it holds no graph); pass a file written by an ONNX exporter.")
    if not proto.graph.output:
        raise ModelError(f"{label} has no outputs; export the model again.")
    return proto


def _check_versions(proto: onnx.ModelProto, label: str) -> None:
    if proto.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"{label} has IR version {proto.ir_version}, the installed onnx package knows up to {onnx.IR_VERSION}; "
            "upgrade onnx or export with an older version."
        )
    newest = onnx.defs.onnx_opset_version()
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), None)
    if opset is None:
        raise ModelError(f"{label} imports no ONNX operator set; export it again with an opset of at least 7.")
    if opset > newest:
        raise ModelError(
            f"{label} uses opset {opset}, the installed onnx package knows up to {newest}; "
            "upgrade onnx or export with an older opset."
        )
    if opset < OLDEST_OPSET:
        raise ModelError(
            f"{label} uses opset {opset}, older than the {OLDEST_OPSET} supported here; "
            "convert it with onnx.version_converter first."
        )


def _check_tensors(proto: onnx.ModelProto, path: Path | None, label: str) -> set[Path]:
    """Check every stored tensor's size; return the external files."""
    if proto.graph.sparse_initializer:  # onnx-ir drops them silently
        raise ModelError(f"{label} has sparse tensors, which are not supported; make them dense and save it again.")
    folder = None if path is None else path.parent
    files = (check_tensor(tensor, folder, label) for tensor in tensor_protos(proto))
    return {file for file in files if file is not None}


def _to_ir(proto: onnx.ModelProto, label: str) -> ir.Model:
    try:
        return ir.from_proto(proto)
    except (ir.serde.SerdeError, ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise ModelError(f"{label} is not a valid ONNX model ({one_line(error)}); export it again.") from None


def _anchor_external_data(model: ir.Model, path: Path) -> None:
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        ir.external_data.set_base_dir(graph, path.parent.absolute())
    read_on_demand(model)


def _check_graph(model: ir.Model, label: str) -> None:
    try:
        onnx.checker.check_model(weightless_copy(model))
    except (ir.serde.SerdeError, onnx.checker.ValidationError) as error:
        raise ModelError(f"{label} is not a valid ONNX model ({one_line(error)}); export it again.") from None

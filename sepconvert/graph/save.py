"""Write a model: checked, re-loadable, and whole or not at all.

Weights go into the model file itself, or, above 1.5 GB (protobuf ends at 2 GB), into ``<name>.<digest>.data`` beside
it; the source's external data is carried along either way. The digest is of the weights: a model that is replaced finds
its own weights until the moment when the new one, which names others, takes its place. Then they are removed.

For a runtime, up to 256 MB everything goes into bytes. Above, weights stay in the files they are in; what is in memory
alone and too large for the bytes is written to a temporary folder, which goes with them.
"""

import hashlib
import re
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from sepconvert.errors import ModelError, VerificationError, one_line
from sepconvert.files import Stage, check_outputs, staged, writing
from sepconvert.graph.external import all_tensors, load_external
from sepconvert.graph.load import LoadedModel
from sepconvert.model_bytes import ModelBytes, TemporaryFolder
from sepconvert.record import ModelFile

INLINE_LIMIT = 1_500_000_000  # bytes of tensors above which they go into a file of their own
PROTOBUF_LIMIT = 2**31 - 1
_DATA, _DIGITS = ".data", 16
# Tensors up to this many bytes stay in the model file: shapes and axes, which shape inference must be able to read.
SMALL = 1024


def save_model(model: LoadedModel, path: Path, *, force: bool = False, external: bool | None = None) -> ModelFile:
    """Write a model to ``path``; ``model`` itself stays as it is.

    Args:
        model: the model; ``model.path`` is the source that ``path`` may not be.
        path: an ``.onnx`` file in an existing folder.
        force: replace an existing file.
        external: weights in a file of their own (True) or in the model's (False); None decides by size.

    Returns:
        The file's name, the SHA-256 of the model file, and its size in bytes, external data included.

    Raises:
        OutputError: the file cannot be written there; nothing is left behind.
        VerificationError: what was written is not a valid model although the source is.
    """
    with staged() as stage:
        return stage_model(stage, model, path, force=force, external=external)


def stage_model(
    stage: Stage, model: LoadedModel, path: Path, *, force: bool, external: bool | None = None
) -> ModelFile:
    """Write and check a model on a stage; arguments, result and errors as in ``save_model``."""
    if external is None:
        external = _tensor_bytes(model.ir) > INLINE_LIMIT
    inputs = [*([] if model.path is None else [model.path]), *model.data_files]
    check_outputs([path], force=force, inputs=inputs)
    # Behind links: a model finds its data beside itself.
    target = path.resolve()
    data = [target.with_name(f"{target.name}.{_weights_digest(model.ir)}{_DATA}")] if external else []
    # Renamed in this order.
    written = [*(stage.place(file, by_content=True) for file in data), stage.place(path)]
    with writing(path):
        for old in _data_files(target):
            if old not in data and not any(old.samefile(file) for file in inputs):
                stage.replaces(old)
        _write(model.ir, *reversed(written))
        _check_written(written[-1], model)
        return _describe([file for file in reversed(written) if file.exists()], path)


def _data_files(model: Path) -> list[Path]:
    """Weights that were written for a model of this name."""
    named = re.compile(re.escape(model.name) + rf"\.[0-9a-f]{{{_DIGITS}}}" + re.escape(_DATA))
    return [path for path in model.parent.iterdir() if named.fullmatch(path.name) and path.is_file()]


def _weights_digest(model: ir.Model) -> str:
    found = hashlib.sha256()
    for tensor in all_tensors(model):
        if _is_large(tensor) and tensor.dtype != ir.DataType.STRING:
            found.update(tensor.tobytes())
    return found.hexdigest()[:_DIGITS]


def model_bytes(model: LoadedModel) -> bytes:
    """Serialise a model with all its weights inside; ``model`` itself stays as it is.

    Raises:
        ModelError: it does not fit into protobuf's 2 GB; save it and use the file.
    """
    return _serialise(_inlined(model.ir, model.label), model.label)


def file_size(model: LoadedModel) -> int:
    """Bytes that a model takes on disk, external data included, without writing it."""
    small = model.ir.clone()
    left_out = 0
    for graph in small.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.nbytes > SMALL:
                left_out += value.const_value.nbytes
                value.const_value = ir.tensor(np.zeros(0, np.float32), name=value.name)
    return left_out + len(_serialise(_inlined(small, model.label), model.label))


def _write(model: ir.Model, path: Path, data: Path | None = None) -> None:
    """Write a model, its weights into ``data`` if that is given."""
    if data is None:
        path.write_bytes(_serialise(_inlined(model, path.name), path.name))
        return
    copy = model.clone()
    load_external(copy, initializers=False)
    ir.external_data.unload_from_model(copy, path.parent, data.name, size_threshold_bytes=SMALL)
    path.write_bytes(_serialise(copy, path.name))


def _serialise(model: ir.Model, label: str) -> bytes:
    _check_fits(sum(tensor.nbytes for tensor in all_tensors(model) if not isinstance(tensor, ir.ExternalTensor)), label)
    data: bytes = ir.to_proto(model).SerializeToString()
    return data


def _check_fits(inside: int, label: str) -> None:
    if inside > PROTOBUF_LIMIT:
        raise ModelError(
            f"{label} would hold {inside / 1e9:.1f} GB of weights, and a model without external data ends at 2 GB; "
            "save it with external data."
        )


def _inlined(model: ir.Model, label: str) -> ir.Model:
    """Return a model without external tensors: itself if it has none, or a copy with all of them in memory."""
    if not any(isinstance(tensor, ir.ExternalTensor) for tensor in all_tensors(model)):
        return model
    _check_fits(_tensor_bytes(model), label)
    copy = model.clone()
    load_external(copy)
    return copy


def _tensor_bytes(model: ir.Model) -> int:
    return sum(tensor.nbytes for tensor in all_tensors(model))


def _check_written(path: Path, model: LoadedModel) -> None:
    """Run onnx's full check; a complaint is a bug of this tool unless the source draws one too."""
    complaint = _complaint(path)
    if complaint is None:
        return
    if model.path is not None and model.path.is_file() and _complaint(model.path) is not None:
        return
    raise VerificationError(f"The rewritten model is not valid ONNX ({complaint}); this is a bug, please report it.")


def _complaint(path: Path) -> str | None:
    from onnx.shape_inference import InferenceError

    try:
        # onnx knows no names that are not text; the bytes, which lack nothing if the weights are inside, do as well.
        named = str(path) == str(path).encode(errors="replace").decode()
        onnx.checker.check_model(str(path) if named else path.read_bytes(), full_check=True)
    except (onnx.checker.ValidationError, InferenceError) as error:
        return one_line(error, 300)
    return None


def _describe(written: list[Path], path: Path) -> ModelFile:
    with written[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelFile(str(path), digest, sum(file.stat().st_size for file in written))


INSIDE = 256 << 20
"""Bytes of weights up to which they are copied into the serialised model."""


def runnable(model: LoadedModel) -> ModelBytes:
    """Serialise a model so that a runtime can open it; ``model`` itself stays as it is."""
    tensors = list(all_tensors(model.ir))
    total = sum(tensor.nbytes for tensor in tensors)
    if total <= INSIDE:
        return ModelBytes(model_bytes(model))
    files = [tensor for tensor in tensors if isinstance(tensor, ir.ExternalTensor) and _is_large(tensor)]
    folders = {Path(tensor.base_dir) for tensor in files}
    inside = total - sum(tensor.nbytes for tensor in files)
    copy, large = model.ir.clone(), total > INLINE_LIMIT
    load_external(copy, initializers=False)
    if len(folders) != 1 or inside > INSIDE:
        return _in_temporary_folder(copy, large=large)
    (folder,) = folders
    for graph in copy.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and not _is_large(tensor):
                value.const_value = ir.Tensor(tensor.numpy(), name=tensor.name, dtype=tensor.dtype)
    return ModelBytes(ir.to_proto(copy).SerializeToString(), folder, large=large)


def digest(model: LoadedModel) -> str:
    """SHA-256 over a model's graph and all its weights, wherever they lie."""
    found = hashlib.sha256()
    for tensor in all_tensors(model.ir):
        if isinstance(tensor, ir.ExternalTensor):
            found.update(tensor.tobytes())
    found.update(ir.to_proto(model.ir).SerializeToString())
    return found.hexdigest()


def _is_large(tensor: ir.TensorProtocol) -> bool:
    # Runtimes must be able to read shapes and axes when they infer shapes.
    return tensor.nbytes > SMALL


def _in_temporary_folder(copy: ir.Model, *, large: bool) -> ModelBytes:
    kept = TemporaryFolder()
    ir.external_data.unload_from_model(copy, kept.path, "weights", size_threshold_bytes=SMALL)
    return ModelBytes(ir.to_proto(copy).SerializeToString(), kept.path, large=large, kept=kept)

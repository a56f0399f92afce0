"""Write a model: checked, re-loadable, and whole or not at all.

Everything is written and checked in a temporary folder beside the target (so on the same file system) and then renamed
into place. Weights go into the model file itself, or, above 1.5 GB (protobuf ends at 2 GB), into ``<name>.data`` beside
it; the source's external data is carried along either way.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from sepconvert.errors import ModelError, OutputError, VerificationError, one_line
from sepconvert.graph.external import all_tensors, load_external
from sepconvert.graph.load import LoadedModel
from sepconvert.record import ModelFile

INLINE_LIMIT = 1_500_000_000  # bytes of tensors above which they go into a file of their own
PROTOBUF_LIMIT = 2**31 - 1
# Tensors up to this many bytes stay in the model file: shapes and axes, which shape inference must be able to read.
SMALL = 1024


def save_model(model: LoadedModel, path: Path, *, force: bool = False, external: bool | None = None) -> ModelFile:
    """Write a model to ``path``; ``model`` itself stays as it is.

    Args:
        model: the model; ``model.path`` is the source that ``path`` may not be.
        path: an ``.onnx`` file in an existing folder.
        force: replace an existing file.
        external: weights in ``<path>.data`` (True) or in the file itself (False); None decides by size.

    Returns:
        The file's name, the SHA-256 of the model file, and its size in bytes, external data included.

    Raises:
        OutputError: the file cannot be written there; nothing is left behind.
        VerificationError: what was written is not a valid model although the source is.
    """
    check_output(path, model.path, force=force)
    if external is None:
        external = _tensor_bytes(model.ir) > INLINE_LIMIT
    data = path.with_name(path.name + ".data") if external else None
    with _writing(path):
        _check_targets(path, data, model, force=force)
        with _temporary_folder(path) as folder:
            written = _write(model.ir.clone(), folder, path.name, None if data is None else data.name)
            _check_written(written[0], model)
            record = _describe(written, path)
            _publish(written, path.parent)
    return record


def model_bytes(model: LoadedModel) -> bytes:
    """Serialise a model with all its weights inside; ``model`` itself stays as it is.

    Raises:
        ModelError: it does not fit into protobuf's 2 GB; save it and use the file.
    """
    return _serialise(_inlined(model.ir.clone(), model.label), model.label)


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


def check_output(path: Path, source: Path | None, *, force: bool) -> None:
    """Refuse, before any work is done, a path that could not be written at the end.

    Args:
        path: where the model shall go.
        source: the file of the model that is read; None if it never was one.
        force: an existing file may be replaced.

    Raises:
        OutputError: the folder is missing or not writable, ``path`` is a folder, the source, or exists already.
    """
    folder = path.parent
    with _writing(path):
        if not folder.is_dir():
            raise OutputError(f"{path} cannot be written: the folder {folder} does not exist; create it first.")
        if path.is_dir():
            raise OutputError(f"{path} is a folder; name a file in it.")
        if source is not None and _same_file(path, source):
            raise OutputError(f"{path} is the input itself; choose another name for the output.")
        if path.exists() and not force:
            raise OutputError(f"{path} exists; pass --force to replace it, or choose another name.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise OutputError(f"{path} cannot be written: the folder {folder} is read-only; choose another one.")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the system's errors into one sentence."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).rstrip(".")
        raise OutputError(f"{path} could not be written ({reason}); free some space or choose another place.") from None


def _check_targets(path: Path, data: Path | None, model: LoadedModel, *, force: bool) -> None:
    """Refuse to write over the source's weights, or the weights over a file that is not ours to replace."""
    for tensor in all_tensors(model.ir):
        if isinstance(tensor, ir.ExternalTensor):
            for target in (path, data):
                if target is not None and _same_file(target, Path(tensor.path)):
                    raise OutputError(f"{target} holds weights of the input; choose another name for the output.")
    if data is None:
        return
    if data.is_dir():
        raise OutputError(f"{data}, where the weights would go, is a folder; choose another name for the output.")
    if data.exists() and not force:
        raise OutputError(f"{data} exists; pass --force to replace it, or choose another name for the output.")


def _same_file(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside ``path`` that is gone afterwards, whatever happens."""
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _write(copy: ir.Model, folder: Path, name: str, data: str | None) -> list[Path]:
    """Write a model that may be changed; return the model file and, if there is one, the data file."""
    path = folder / name
    if data is None:
        path.write_bytes(_serialise(_inlined(copy, name), name))
        return [path]
    load_external(copy, initializers=False)
    ir.external_data.unload_from_model(copy, folder, data, size_threshold_bytes=SMALL)
    path.write_bytes(_serialise(copy, name))
    return [file for file in (path, folder / data) if file.exists()]


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


def _inlined(copy: ir.Model, label: str) -> ir.Model:
    """Bring all external tensors of a model that may be changed into memory."""
    _check_fits(_tensor_bytes(copy), label)
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
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, InferenceError) as error:
        return one_line(error, 300)
    return None


def _describe(written: list[Path], path: Path) -> ModelFile:
    with written[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelFile(str(path), digest, sum(file.stat().st_size for file in written))


def _publish(written: list[Path], folder: Path) -> None:
    """Rename into place, the data first; if the model's own rename fails, the old data file comes back."""
    model, *rest = written
    if not rest:
        model.replace(folder / model.name)
        return
    data, previous = folder / rest[0].name, model.with_name("previous.data")
    if data.exists():
        data.replace(previous)
    try:
        rest[0].replace(data)
        model.replace(folder / model.name)
    except BaseException:
        if previous.exists():
            previous.replace(data)
        else:
            data.unlink(missing_ok=True)
        raise

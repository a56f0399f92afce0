"""Serialise a model, or a part of one, for a runtime: large weights are not copied if they lie in files already.

Up to 256 MB everything goes into the bytes. Above, weights stay in the files they are in; what is in memory alone and
too large for the bytes is written to a temporary folder together with the rest.
"""

import hashlib
import shutil
import tempfile
import weakref
from pathlib import Path

import onnx_ir as ir

from sepconvert.graph.external import all_tensors, load_external
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import INLINE_LIMIT, SMALL, model_bytes
from sepconvert.model_bytes import ModelBytes

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
    copy = model.ir.clone()
    found = hashlib.sha256()
    for tensor in all_tensors(copy):
        if isinstance(tensor, ir.ExternalTensor):
            found.update(tensor.tobytes())
    found.update(ir.to_proto(copy).SerializeToString())
    return found.hexdigest()


def _is_large(tensor: ir.TensorProtocol) -> bool:
    # Runtimes must be able to read shapes and axes when they infer shapes.
    return tensor.nbytes > SMALL


class _Folder:
    """A temporary folder that goes with the last reference to it, or with the process."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="sepconvert-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _in_temporary_folder(copy: ir.Model, *, large: bool) -> ModelBytes:
    kept = _Folder()
    ir.external_data.unload_from_model(copy, kept.path, "weights", size_threshold_bytes=SMALL)
    return ModelBytes(ir.to_proto(copy).SerializeToString(), kept.path, large=large, kept=kept)

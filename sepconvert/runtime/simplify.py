"""A model as a quantiser takes it: normalisations folded, every node with a name, every value with a type.

onnxruntime's graph optimiser does the folding, as far as the result is still standard ONNX.
"""

import onnx

from sepconvert.errors import ModelError, one_line
from sepconvert.model_bytes import ModelBytes, TemporaryFolder
from sepconvert.runtime.devices import find_device
from sepconvert.runtime.fold_scales import fold_scales
from sepconvert.runtime.sessions import session_options, start_session

OLDEST_OPSET = 13
"""The first operator set whose DequantizeLinear knows a scale per channel."""

_UNNAMED = "sepconvert_unnamed"
_WEIGHTS = "weights"
_LARGE = 1_500_000_000  # bytes; protobuf ends at 2 GB


def simplified(model: bytes) -> ModelBytes:
    """Fold what a quantiser would stumble over: normalisations and scales into convolutions, constants, idle casts.

    Every node of the result has a name of its own, and every value a type. Inputs, outputs and opset are the model's;
    an opset below 13 becomes 13.

    Raises:
        ModelError: onnxruntime cannot load the model, or its opset cannot be raised.
    """
    import onnxruntime

    proto = parsed(model)
    if _opset(proto) < OLDEST_OPSET:
        proto = _raised(proto)
    _name_nodes(proto)
    kept = TemporaryFolder()
    folder = kept.path
    source, target = folder / "source.onnx", folder / "simplified.onnx"
    onnx.save_model(proto, source, save_as_external_data=True, location=f"source.{_WEIGHTS}")
    options = session_options(1)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    start_session(source, find_device("cpu"), options, 1)
    # onnxruntime leaves out the types of what it changed.
    found = onnx.shape_inference.infer_shapes(onnx.load_model(target, load_external_data=False))
    untyped = [value for value in found.graph.value_info if not value.HasField("type")]
    for value in untyped:  # of constants that went
        found.graph.value_info.remove(value)
    _name_nodes(found)
    _restore(found, proto)
    weights = folder / _WEIGHTS
    if weights.exists() and weights.stat().st_size > _LARGE:
        return ModelBytes(found.SerializeToString(), folder, large=True, kept=kept)
    onnx.load_external_data_for_model(found, str(folder))
    fold_scales(found)
    return ModelBytes(found.SerializeToString())


def node_names(model: bytes) -> dict[str, str]:
    """Return, for every output of every node, the name that its node has while a model is simplified and quantised."""
    proto = parsed(model, weights=False)
    _name_nodes(proto)
    return {output: node.name for node in proto.graph.node for output in node.output if output}


def is_made_up(name: str) -> bool:
    """Whether a node had no name of its own and got this one."""
    return name.startswith(_UNNAMED)


def parsed(model: bytes, *, weights: bool = True) -> onnx.ModelProto:
    """Return a serialised model as a message, with the weights that lie in files unless they are not wanted."""
    proto: onnx.ModelProto = onnx.ModelProto.FromString(bytes(model))
    if weights and isinstance(model, ModelBytes) and model.folder is not None:
        onnx.load_external_data_for_model(proto, str(model.folder))
    return proto


def serialised(proto: onnx.ModelProto) -> ModelBytes:
    """Serialise a model, without the names that were made up for nodes; a very large one has its weights in a file."""
    for node in proto.graph.node:
        if is_made_up(node.name):
            node.name = ""
    if proto.ByteSize() <= _LARGE:
        return ModelBytes(proto.SerializeToString())
    kept = TemporaryFolder()
    path = kept.path / "model.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location=_WEIGHTS)
    return ModelBytes(path.read_bytes(), path.parent, large=True, kept=kept)


def _restore(found: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Say again what onnxruntime has forgotten, and leave out the operator sets that it adds without using them."""
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        setattr(found, field, getattr(original, field))
    used = {node.domain for node in found.graph.node} | {entry.domain for entry in original.opset_import}
    kept = [entry for entry in found.opset_import if entry.domain in used]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    inferred = {value.name: value for value in found.graph.output}
    del found.graph.output[:]
    # Of a part of a model onnxruntime alone knows the outputs' types.
    typed = (value if value.HasField("type") else inferred[value.name] for value in original.graph.output)
    found.graph.output.extend(typed)


def _raised(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.version_converter.convert_version(proto, OLDEST_OPSET)
    except (RuntimeError, ValueError) as error:
        raise ModelError(
            f"INT8 needs opset {OLDEST_OPSET}, and the model of opset {_opset(proto)} cannot be raised to it "
            f"({one_line(error, 200)}); export it again with a newer opset."
        ) from None


def _opset(proto: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))


def _name_nodes(proto: onnx.ModelProto) -> None:
    """Give every node a name of its own: the quantiser knows them by name."""
    taken = {node.name for node in proto.graph.node}
    seen = {""}
    for index, node in enumerate(proto.graph.node):
        if node.name in seen:
            name = f"{_UNNAMED}_{index}"
            while name in taken:
                name += "_"
            node.name = name
            taken.add(name)
        seen.add(node.name)

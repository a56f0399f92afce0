"""Make INT8 models: standard ONNX with QuantizeLinear and DequantizeLinear around what computes in INT8 (QDQ).

onnxruntime's own tools do the work: ``simplified`` lets its graph optimiser fold normalisations and constants as far as
that is still standard ONNX, ``quantised`` lets ``onnxruntime.quantization`` put the pairs in. Weights get a scale per
channel, values in between one scale each, which follows from their range.
"""

import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from sepconvert.errors import ModelError, one_line
from sepconvert.model_bytes import ModelBytes
from sepconvert.runtime.devices import find_device
from sepconvert.runtime.sessions import model_errors, session_options, start_session

OLDEST_OPSET = 13
"""The first operator set whose DequantizeLinear knows a scale per channel."""

Range = tuple[float, float]

_UNNAMED = "sepconvert_unnamed"
_INFERRED = ("onnx.infer", "onnxruntime.quant")
_WEIGHTS = "weights"
_LARGE = 1_500_000_000  # bytes; protobuf ends at 2 GB


@dataclass(frozen=True, slots=True)
class IntegerTypes:
    """How numbers become integers.

    ``activations`` is ``int8`` or ``uint8``. ``reduced``: weights keep to 7 bits, so that sums of two products fit into
    16 bits where the processor adds them there. Weights are int8 and symmetric.
    """

    activations: str = "int8"
    reduced: bool = False


@dataclass(frozen=True, slots=True)
class QuantisableNode:
    """A node that can compute in INT8: its name, its operator, and the values whose ranges that takes."""

    name: str
    operator: str
    values: tuple[str, ...]


def simplified(model: bytes) -> ModelBytes:
    """Fold what a quantiser would stumble over: normalisations into convolutions, constants, casts that do nothing.

    Every node of the result has a name of its own, and every value a type. Inputs, outputs and opset are the model's;
    an opset below 13 becomes 13.

    Raises:
        ModelError: onnxruntime cannot load the model, or its opset cannot be raised.
    """
    import onnxruntime

    proto = _parsed(model)
    if _opset(proto) < OLDEST_OPSET:
        proto = _raised(proto)
    _name_nodes(proto)
    kept = tempfile.TemporaryDirectory(prefix="sepconvert-")
    folder = Path(kept.name)
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
    _name_nodes(found)
    _restore(found, proto)
    if _weight_bytes(folder) > _LARGE:
        return ModelBytes(found.SerializeToString(), folder, large=True, kept=kept)
    onnx.load_external_data_for_model(found, str(folder))
    return ModelBytes(found.SerializeToString())


def quantisable_nodes(model: bytes) -> list[QuantisableNode]:
    """Return the nodes of a simplified model that can compute in INT8, in the graph's order."""
    proto = _parsed(model, weights=False)
    types = _value_types(proto)
    constants = {tensor.name for tensor in proto.graph.initializer}
    found = []
    for node in proto.graph.node:
        names = dict.fromkeys(name for name in (*node.input, *node.output) if name and name not in constants)
        values = tuple(name for name in names if types.get(name) == onnx.TensorProto.FLOAT)
        if node.op_type in _operators() and node.domain in ("", "ai.onnx") and values:
            found.append(QuantisableNode(node.name, node.op_type, values))
    return found


def quantised(
    model: bytes,
    ranges: Mapping[str, Range],
    nodes: Collection[str],
    types: IntegerTypes = IntegerTypes(),
) -> ModelBytes:
    """Return a model in which some nodes compute in INT8.

    Args:
        model: as ``simplified`` returns it.
        ranges: lowest and highest value (low, high) of every value that these nodes read or write.
        nodes: names of the nodes, of those that ``quantisable_nodes`` lists; at least one.
        types: how numbers become integers.

    Raises:
        ModelError: onnxruntime's quantiser gave up.
        ValueError: no node, or one that is not quantisable.
    """
    from onnxruntime.quantization import QuantType

    known = {node.name: node for node in quantisable_nodes(model)}
    unknown = [name for name in nodes if name not in known]
    if unknown or not nodes:
        raise ValueError(f"there is no quantisable node '{unknown[0]}'" if unknown else "no node is to be quantised")
    proto = _parsed(model)
    proto.metadata_props.add(key=_INFERRED[0], value=_INFERRED[1])
    producer = proto.producer_name, proto.producer_version
    needed = {value for name in nodes for value in known[name].values}
    activations = QuantType.QInt8 if types.activations == "int8" else QuantType.QUInt8
    with _quiet(), model_errors("quantise the model"):
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantizer = QDQQuantizer(
            proto,
            per_channel=True,
            reduce_range=types.reduced,
            weight_qType=QuantType.QInt8,
            activation_qType=activations,
            tensors_range=_tensor_data({name: ranges[name] for name in needed}),
            nodes_to_quantize=list(nodes),
            nodes_to_exclude=[],
            op_types_to_quantize=list(_operators()),
            extra_options={"ForceQuantizeNoInputCheck": True},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        made = quantizer.model.model
    made.producer_name, made.producer_version = producer
    return _finished(made)


def _restore(found: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Say again what onnxruntime has forgotten, and leave out the operator sets that it adds without using them."""
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        setattr(found, field, getattr(original, field))
    used = {node.domain for node in found.graph.node} | {entry.domain for entry in original.opset_import}
    kept = [entry for entry in found.opset_import if entry.domain in used]
    del found.opset_import[:]
    found.opset_import.extend(kept)
    del found.graph.output[:]
    found.graph.output.extend(original.graph.output)


def _finished(proto: onnx.ModelProto) -> ModelBytes:
    """Take the quantiser's own marks out again, and serialise."""
    kept = [entry for entry in proto.metadata_props if entry.key != _INFERRED[0]]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    for node in proto.graph.node:
        if node.name.startswith(_UNNAMED):
            node.name = ""
    if proto.ByteSize() <= _LARGE:
        return ModelBytes(proto.SerializeToString())
    kept_folder = tempfile.TemporaryDirectory(prefix="sepconvert-")
    path = Path(kept_folder.name) / "model.onnx"
    onnx.save_model(proto, path, save_as_external_data=True, location=_WEIGHTS)
    return ModelBytes(path.read_bytes(), path.parent, large=True, kept=kept_folder)


def _tensor_data(ranges: Mapping[str, Range]) -> Any:
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData

    data = {
        name: TensorData(lowest=np.array(low, np.float32), highest=np.array(high, np.float32))
        for name, (low, high) in ranges.items()
    }
    return TensorsData(CalibrationMethod.MinMax, data)


def _operators() -> frozenset[str]:
    """Operators that both quantise as pairs and have an INT8 kernel or need none."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return frozenset(QDQRegistry) | frozenset(QLinearOpsRegistry)


def _parsed(model: bytes, *, weights: bool = True) -> onnx.ModelProto:
    proto: onnx.ModelProto = onnx.ModelProto.FromString(bytes(model))
    if weights and isinstance(model, ModelBytes) and model.folder is not None:
        onnx.load_external_data_for_model(proto, str(model.folder))
    return proto


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


def _value_types(proto: onnx.ModelProto) -> dict[str, int]:
    graph = proto.graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}


def _weight_bytes(folder: Path) -> int:
    file = folder / _WEIGHTS
    return file.stat().st_size if file.exists() else 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser from writing to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)

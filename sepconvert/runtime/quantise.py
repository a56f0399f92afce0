"""Make INT8 models: standard ONNX with QuantizeLinear and DequantizeLinear around what computes in INT8 (QDQ).

``onnxruntime.quantization`` puts the pairs into a simplified model. Weights get a scale per channel, values in between
one scale each, which follows from their range.
"""

import logging
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnx

from sepconvert.model_bytes import ModelBytes
from sepconvert.runtime.sessions import model_errors, run_model
from sepconvert.runtime.simplify import OLDEST_OPSET, parsed, serialised, simplified

Range = tuple[float, float]

_INFERRED = ("onnx.infer", "onnxruntime.quant")
_ACTIVATIONS = "int8" if platform.machine().lower() in ("arm64", "aarch64") else "uint8"


@dataclass(frozen=True, slots=True)
class IntegerTypes:
    """How numbers become integers.

    ``activations`` is ``int8`` or ``uint8``; on x86 only the latter has kernels for sums and poolings (a small ResNet
    without VNNI: 0.74 times as fast as in float32 with int8, 1.34 times with uint8). ``reduced``: weights keep to 7
    bits, so that sums of two products fit into 16 bits where the processor adds them there. Weights are int8 and
    symmetric.
    """

    activations: str = "uint8"
    reduced: bool = False

    @property
    def weight_bits(self) -> int:
        """Of a weight, its sign included."""
        return 7 if self.reduced else 8


@dataclass(frozen=True, slots=True)
class QuantisableNode:
    """A node that can compute in INT8: its name, its operator, and the values whose ranges that takes."""

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def values(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*self.inputs, *self.outputs)))


def quantisable_nodes(model: bytes, floating: Collection[str] = ()) -> list[QuantisableNode]:
    """Return the nodes of a simplified model that can compute in INT8, in the graph's order.

    Those of which an output is among ``floating`` are left out.
    """
    proto = parsed(model, weights=False)
    types = _value_types(proto)
    constants = {tensor.name for tensor in proto.graph.initializer}

    def floats(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(n for n in names if n not in constants and types.get(n) == onnx.TensorProto.FLOAT)

    found = []
    for node in proto.graph.node:
        made = QuantisableNode(node.name, node.op_type, floats(node.input), floats(node.output))
        known = node.op_type in _operators() and node.domain in ("", "ai.onnx")
        if known and made.values and not any(name in floating for name in node.output):
            found.append(made)
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
    proto = parsed(model)
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


def quantised_to_time(model: bytes, floating: Collection[str] = ()) -> ModelBytes:
    """Return a model that computes in INT8 wherever it can, with ranges that mean nothing: only its speed is real.

    Nodes of which an output is among ``floating`` stay in floating point.

    Raises:
        ModelError: as ``simplified`` and ``quantised``.
    """
    plain = simplified(model)
    nodes = quantisable_nodes(plain, floating)
    if not nodes:
        return plain
    ranges = {value: (-4.0, 4.0) for node in nodes for value in node.values}
    return quantised(plain, ranges, [node.name for node in nodes], types_here())


@cache
def types_here() -> IntegerTypes:
    """Return how numbers become integers on this machine: weights keep to 7 bits where sums of products saturate.

    Processors without VNNI add two products of unsigned and signed bytes in 16 bits, which overflow. The processor's
    name does not tell whether onnxruntime uses that instruction: a convolution is run that would overflow.
    """
    channels = 64
    kernel = onnx.numpy_helper.from_array(np.ones((8, channels, 1, 1), np.float32), "w")
    shapes = {"x": [1, channels, 4, 4], "y": [1, 8, 4, 4]}
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, side) for name, side in shapes.items())
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], "conv")
    graph = onnx.helper.make_graph([node], "probe", [x], [y], [kernel])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", OLDEST_OPSET)], ir_version=8)
    ranges = {"x": (0.0, 1.0), "y": (0.0, float(channels))}
    made = quantised(model.SerializeToString(), ranges, ["conv"], IntegerTypes(_ACTIVATIONS))
    (found,) = run_model(made, {"x": np.ones(shapes["x"], np.float32)}).values()
    return IntegerTypes(_ACTIVATIONS, reduced=bool(np.abs(found - channels).max() > 0.02 * channels))


def _finished(proto: onnx.ModelProto) -> ModelBytes:
    """Take the quantiser's own marks out again, and serialise."""
    kept = [entry for entry in proto.metadata_props if entry.key != _INFERRED[0]]
    del proto.metadata_props[:]
    proto.metadata_props.extend(kept)
    return serialised(proto)


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


def _value_types(proto: onnx.ModelProto) -> dict[str, int]:
    graph = proto.graph
    return {value.name: value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info, *graph.output)}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser from writing to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)

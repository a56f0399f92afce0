"""Count multiply-adds a second way: by running the model and looking at the arrays it makes.

Nothing is shared with ``graph.count``: the file is read as plain protobuf, shapes are those of real arrays, and the
formulas differ. With N, M and K the sides of a matrix product, its three matrices have N·K, K·M and N·M elements, so
its multiply-adds are the square root of the product of their sizes.
"""

from collections.abc import Mapping
from math import isqrt, prod
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray

from sepconvert.errors import ModelError
from sepconvert.model_bytes import ModelBytes
from sepconvert.runtime.sessions import run_model

COUNTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})


def count_macs_by_running(path: Path, feeds: Mapping[str, NDArray[Any]]) -> dict[str, int]:
    """Return the multiply-adds of every Conv, ConvTranspose, Gemm and MatMul that depends on the model's inputs.

    Args:
        path: an ONNX file; its main graph alone is counted, subgraphs and functions are not entered.
        feeds: one array per input, by name. The figures are for all samples in them.

    Returns:
        MACs by the name of the node's output.

    Raises:
        ModelError: the runtime cannot run the model.
    """
    proto = onnx.load(path, load_external_data=False)
    nodes = [node for node in _depending_on(proto.graph, set(feeds)) if node.op_type in COUNTED]
    sizes = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    sizes |= {name: array.shape for name, array in feeds.items()}
    wanted = {name for node in nodes for name in (*node.input[:2], node.output[0])} - sizes.keys()
    if wanted:
        sizes |= _shapes_by_running(proto, wanted, feeds, path)
    return {node.output[0]: _macs(node, sizes) for node in nodes}


def _depending_on(graph: onnx.GraphProto, names: set[str]) -> list[onnx.NodeProto]:
    found = []
    for node in graph.node:
        if names.intersection(node.input):
            names.update(node.output)
            found.append(node)
    return found


def _shapes_by_running(
    proto: onnx.ModelProto, wanted: set[str], feeds: Mapping[str, NDArray[Any]], path: Path
) -> dict[str, tuple[int, ...]]:
    present = {output.name for output in proto.graph.output}
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - present))
    arrays = run_model(ModelBytes(proto.SerializeToString(), path.parent), feeds, sorted(wanted))
    return {name: array.shape for name, array in arrays.items()}


def _macs(node: onnx.NodeProto, sizes: Mapping[str, tuple[int, ...]]) -> int:
    left, right, out = (sizes[name] for name in (*node.input[:2], node.output[0]))
    if node.op_type == "Conv":
        return prod(out) * prod(right) // right[0]
    if node.op_type == "ConvTranspose":
        return prod(left) * prod(right) // right[0]
    if len(left) < 2 or len(right) < 2:
        raise ModelError(f"{node.op_type} '{node.output[0]}' multiplies a vector, which is not counted by running.")
    return prod(out[:-2]) * isqrt(prod(left[-2:]) * prod(right[-2:]) * prod(out[-2:]))

"""Makers of small ONNX models for the tests of any room: ``from tests.graph.models import conv_model``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ml_dtypes import bfloat16
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sepconvert.graph.load import LoadedModel, load_bytes

NEWEST_OPSET = onnx.defs.onnx_opset_version()
# The IR version that came with an opset; 3 is the last that lists initializers among the inputs.
IR_VERSIONS = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8}

DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "float64": np.float64, "bfloat16": bfloat16}


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Sequence[int | str | None]],
    outputs: Sequence[str] = ("y",),
    tensors: dict[str, NDArray[Any]] | None = None,
    *,
    opset: int = 17,
    ir_version: int | None = None,
    dtype: Any = np.float32,
    functions: Sequence[onnx.FunctionProto] = (),
    domains: dict[str, int] | None = None,
) -> onnx.ModelProto:
    """A model from its nodes, the shapes of its inputs, names of outputs (same rank as the first input), and weights.

    Inputs and outputs are all of ``dtype``.
    """
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    ir_version = ir_version or IR_VERSIONS.get(opset, onnx.IR_VERSION)
    initializers = [numpy_helper.from_array(np.asarray(array), name) for name, array in (tensors or {}).items()]
    infos = [helper.make_tensor_value_info(name, kind, shape) for name, shape in inputs.items()]
    if ir_version < 4:
        infos += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in initializers]
    rank = len(next(iter(inputs.values()), ()))
    results = [helper.make_tensor_value_info(name, kind, [None] * rank) for name in outputs]
    graph = helper.make_graph(list(nodes), "g", infos, results, initializers)
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, version) for domain, version in (domains or {}).items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir_version, functions=list(functions))


def weight(shape: Sequence[int], dtype: Any = np.float32, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def conv_model(
    shape: Sequence[int] = (6, 4, 3, 3),
    *,
    image: Sequence[int | str | None] | None = None,
    opset: int = 17,
    dtype: str = "float32",
    bias: bool = False,
    **attributes: Any,
) -> onnx.ModelProto:
    """``x → Conv(w[, b]) → y`` with a weight of ``shape`` (M, C / group, *kernel) and Conv's ``attributes``."""
    kind = DTYPES[dtype]
    channels = shape[1] * attributes.get("group", 1)
    tensors = {"w": weight(shape, kind)} | ({"b": weight(shape[:1], kind, 1)} if bias else {})
    node = helper.make_node("Conv", ["x", *tensors], ["y"], name="conv", **attributes)
    sizes = image if image is not None else (1, channels, *[9] * (len(shape) - 2))
    return model([node], {"x": sizes}, tensors=tensors, opset=opset, dtype=kind)


def load(proto: onnx.ModelProto) -> LoadedModel:
    """Load a model as if it had been read from a file."""
    return load_bytes(proto.SerializeToString())


def save_with_external_data(proto: onnx.ModelProto, path: Path, location: str = "weights.bin") -> Path:
    """Write a model whose initializers all live in ``location`` beside it; return the data file."""
    onnx.save(proto, path, save_as_external_data=True, location=location, size_threshold=0)
    return path.parent / location


def sparse_external_model(path: Path, convs: int, channels: int) -> int:
    """Write a chain of 3×3 Convs whose weights are a hole in a sparse file; return the file's apparent size."""
    nodes, tensors, offset = [], [], 0
    size = 4 * channels * channels * 9
    for index in range(convs):
        tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[channels, channels, 3, 3])
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", str(offset)), ("length", str(size))):
            tensor.external_data.add(key=key, value=value)
        tensors.append(tensor)
        nodes.append(helper.make_node("Conv", [f"v{index}", tensor.name], [f"v{index + 1}"], pads=[1, 1, 1, 1]))
        offset += size
    proto = model(nodes, {"v0": [1, channels, 8, 8]}, [f"v{convs}"])
    proto.graph.initializer.extend(tensors)
    path.write_bytes(proto.SerializeToString())
    with (path.parent / "weights.bin").open("wb") as file:
        file.truncate(offset)
    return offset

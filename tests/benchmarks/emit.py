"""Write a peer's convolutions into a copy of an ONNX model, and count what stands there.

Only what the peers need: 2-D convolutions with explicit pads and a constant weight, named by their output value.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from sepconvert.separable.geometry import ConvGeometry
from tests.benchmarks.decompose import Replacement, Step


def rewritten(model: onnx.ModelProto, replacements: Mapping[str, Replacement]) -> onnx.ModelProto:
    """Return a copy with the Conv of every named output replaced by its chains; branches are summed two at a time."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = []
    for node in copy.graph.node:
        if node.op_type == "Conv" and node.output[0] in replacements:
            nodes.extend(_chains(copy.graph, node, replacements[node.output[0]]))
        else:
            nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    _drop_unused(copy.graph)
    onnx.checker.check_model(copy, full_check=True)
    return copy


def with_kernels(model: onnx.ModelProto, kernels: Mapping[str, NDArray[np.floating]]) -> onnx.ModelProto:
    """Return a copy in which the Conv of every named output carries another dense kernel of the same shape."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for node in copy.graph.node:
        if node.op_type == "Conv" and node.output[0] in kernels:
            name = f"{node.output[0]}.kernel"
            copy.graph.initializer.append(numpy_helper.from_array(kernels[node.output[0]].astype(np.float32), name))
            node.input[1] = name
    _drop_unused(copy.graph)
    return copy


def conv_macs(model: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Count the MACs of every Conv by its output's name, with the inputs' shapes fixed to ``input_shapes``.

    Independent of the package's own counting: shapes are those seen in a run.
    """
    shapes = _shapes(model, input_shapes)
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    counts = {}
    for node in model.graph.node:
        if node.op_type == "Conv":
            batch, outputs, *spatial = shapes[node.output[0]]
            counts[node.output[0]] = batch * outputs * prod(spatial) * prod(weights[node.input[1]][1:])
    return counts


def sites(
    model: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[NDArray[np.float64], ConvGeometry]]:
    """Return weight and geometry, by output name, of every group-1 Conv with a kernel above 1×1 and C, M > 1."""
    shapes = _shapes(model, input_shapes)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.input[1] not in weights:
            continue
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        weight = numpy_helper.to_array(weights[node.input[1]]).astype(np.float64)
        outputs, channels, *kernel = weight.shape
        if given.get("group", 1) != 1 or max(kernel) == 1 or min(outputs, channels) == 1:
            continue
        geometry = ConvGeometry(
            channels,
            outputs,
            tuple(kernel),
            tuple(given.get("strides", (1, 1))),
            tuple(given.get("dilations", (1, 1))),
            tuple(given.get("pads", (0, 0, 0, 0))),
            in_spatial=tuple(shapes[node.input[0]][2:]),
            out_spatial=tuple(shapes[node.output[0]][2:]),
        )
        found[node.output[0]] = (weight, geometry)
    return found


def exposed(model: onnx.ModelProto, values: Iterable[str]) -> onnx.ModelProto:
    """Return a copy with these values as its outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in dict.fromkeys(values))
    return copy


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a model on the CPU with one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _shapes(model: onnx.ModelProto, input_shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes of what every Conv takes and gives, seen in a run on zeros: static inference gives up on dynamic pads."""
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    given = {value.name for value in model.graph.input}
    names = list(dict.fromkeys(name for node in convs for name in (node.input[0], node.output[0]) if name not in given))
    zeros = {name: np.zeros(shape, np.float32) for name, shape in input_shapes.items()}
    arrays = session(exposed(model, names)).run(names, zeros)
    return dict(input_shapes) | {name: array.shape for name, array in zip(names, arrays, strict=True)}


def _chains(graph: onnx.GraphProto, node: onnx.NodeProto, replacement: Replacement) -> Iterator[onnx.NodeProto]:
    output = node.output[0]
    total = ""
    for i, chain in enumerate(replacement.chains):
        last_chain = i == len(replacement.chains) - 1
        value = node.input[0]
        for j, step in enumerate(chain):
            name = f"{output}.{i}.{j}"
            ends_all = j == len(chain) - 1 and len(replacement.chains) == 1
            bias = node.input[2] if len(node.input) > 2 and i == 0 and j == len(chain) - 1 else ""
            if step.gather is not None:
                yield _gather(graph, value, step.gather, name)
                value = f"{name}.gathered"
                step = replace(step, gather=None)
            yield _conv(graph, step, value, bias, name, output if ends_all else name)
            value = name
            if step.scatter is not None:
                yield from _scatter(graph, value, step.scatter, name)
                value = f"{name}.scattered"
        if i and len(replacement.chains) > 1:
            total_name = output if last_chain else f"{output}.sum{i}"
            yield helper.make_node("Add", [total, value], [total_name], name=f"{output}.add{i}")
            value = total_name
        total = value


def _conv(graph: onnx.GraphProto, step: Step, source: str, bias: str, name: str, target: str) -> onnx.NodeProto:
    weight = f"{name}.weight"
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(step.weight, np.float32), weight))
    return helper.make_node(
        "Conv",
        [source, weight, *([bias] if bias else [])],
        [target],
        name=f"{name}.conv",
        group=step.groups,
        kernel_shape=step.weight.shape[2:],
        strides=step.stride,
        dilations=step.dilation,
        pads=step.pads,
    )


def _gather(graph: onnx.GraphProto, source: str, channels: NDArray[np.int64], name: str) -> onnx.NodeProto:
    graph.initializer.append(numpy_helper.from_array(channels, f"{name}.channels"))
    return helper.make_node("Gather", [source, f"{name}.channels"], [f"{name}.gathered"], name=f"{name}.gather", axis=1)


def _scatter(graph: onnx.GraphProto, source: str, channels: NDArray[np.int64], name: str) -> Iterator[onnx.NodeProto]:
    graph.initializer.append(numpy_helper.from_array(channels, f"{name}.places"))
    graph.initializer.append(numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 1, 0, 0], np.int64), f"{name}.pads"))
    yield helper.make_node("Pad", [source, f"{name}.pads"], [f"{name}.padded"], name=f"{name}.pad")
    inputs = [f"{name}.padded", f"{name}.places"]
    yield helper.make_node("Gather", inputs, [f"{name}.scattered"], name=f"{name}.scatter", axis=1)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)

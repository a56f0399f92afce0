"""Fold the small sub-graphs that compute shapes from shapes.

Exporters write ``Shape → Gather → Concat → Reshape`` where the sizes are in fact fixed. Once the input shapes are known
these sub-graphs are constants, and shape inference can go on behind them.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from sepconvert.graph.notation import known_shapes

SMALL = 64
"""Values with more elements are not followed: they are data, not shapes."""

_STANDARD = ("", "ai.onnx")
_NEVER = frozenset({"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial"})
_NEVER_EITHER = frozenset({"Bernoulli", "Dropout", "If", "Loop", "Scan", "SequenceMap", "Constant", "StringNormalizer"})

# What these make of small inputs may be of any size.
_MAY_GROW = frozenset({"ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Resize", "Tile", "Upsample"})

# What numpy and the reference operators raise on values an operator does not accept.
_CANNOT_EVALUATE = (ValueError, TypeError, IndexError, KeyError, RuntimeError, AttributeError, ArithmeticError)

Known = dict[str, NDArray[np.generic]]


def known_values(proto: onnx.ModelProto) -> Known:
    """Evaluate what is small and follows from constants and known shapes.

    Args:
        proto: a weightless model on which shape inference has run.

    Returns:
        Arrays by value name: all outputs of each node that can be evaluated.
    """
    shapes = known_shapes(proto.graph)
    known = small_constants(proto.graph)
    found: Known = {}
    for node in proto.graph.node:
        results = _evaluate(node, known, shapes, proto.opset_import)
        if results is not None:
            known.update(results)
            found.update(results)
    return found


def replace_nodes(graph: onnx.GraphProto, values: Known) -> None:
    """Put initializers in the place of the nodes that make ``values``."""
    kept = [node for node in graph.node if not any(name in values for name in node.output if name)]
    del graph.node[:]
    graph.node.extend(kept)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in values.items())


def small_constants(graph: onnx.GraphProto) -> Known:
    """Return the arrays of a graph's small initializers and Constant nodes, by value name."""
    overridable = {value.name for value in graph.input}
    known = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if prod(tensor.dims) <= SMALL and tensor.name not in overridable
    }
    for node in graph.node:
        if node.op_type == "Constant" and node.domain in _STANDARD:
            array = _constant(node)
            if array is not None and array.size <= SMALL:
                known[node.output[0]] = array
    return known


def _constant(node: onnx.NodeProto) -> NDArray[np.generic] | None:
    attribute = node.attribute[0]
    if attribute.name == "value":
        return numpy_helper.to_array(attribute.t)
    if attribute.name in ("value_int", "value_ints"):
        return np.asarray(onnx.helper.get_attribute_value(attribute), dtype=np.int64)
    if attribute.name in ("value_float", "value_floats"):
        return np.asarray(onnx.helper.get_attribute_value(attribute), dtype=np.float32)
    return None


def _evaluate(
    node: onnx.NodeProto,
    known: Known,
    shapes: dict[str, tuple[int, ...]],
    opsets: Sequence[onnx.OperatorSetIdProto],
) -> Known | None:
    """Return the node's outputs if they are small and follow from what is known."""
    if node.domain not in _STANDARD or node.op_type in _NEVER or node.op_type in _NEVER_EITHER:
        return None
    if node.op_type in ("Shape", "Size"):
        shape = shapes.get(node.input[0])
        return None if shape is None else {node.output[0]: _shape_value(node, shape)}
    if any(name and name not in known for name in node.input):
        return None
    sizes = [shapes.get(name) for name in node.output if name]
    if any(prod(shape) > SMALL for shape in sizes if shape is not None):
        return None
    if None in sizes and node.op_type in _MAY_GROW:
        # The next round of inference tells how large the result is.
        return None
    return _run(node, known, opsets)


def _shape_value(node: onnx.NodeProto, shape: tuple[int, ...]) -> NDArray[np.generic]:
    if node.op_type == "Size":
        return np.asarray(prod(shape), dtype=np.int64)
    bounds = {attribute.name: attribute.i for attribute in node.attribute}
    return np.asarray(shape[slice(bounds.get("start", 0), bounds.get("end"))], dtype=np.int64)


def _run(node: onnx.NodeProto, known: Known, opsets: Sequence[onnx.OperatorSetIdProto]) -> Known | None:
    from onnx.reference import ReferenceEvaluator

    names = dict.fromkeys(name for name in node.input if name)
    inputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names]
    outputs = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in node.output if name]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "node", inputs, outputs), opset_imports=opsets)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, {name: known[name] for name in names})
    except _CANNOT_EVALUATE:
        return None
    named = zip((name for name in node.output if name), results, strict=True)
    arrays = {name: np.asarray(result) for name, result in named}
    return arrays if all(array.size <= SMALL and array.dtype.kind in "biuf" for array in arrays.values()) else None

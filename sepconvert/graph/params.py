"""Count a model's parameters without reading them."""

from collections.abc import Iterator
from math import prod

import onnx_ir as ir

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import FLOAT_TYPES
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.weights import Origin, origin_of
from sepconvert.number_types import FLOATS

_QUANTIZED_WEIGHTS = frozenset(
    {("ConvInteger", 1), ("QLinearConv", 3), ("MatMulInteger", 1), ("QLinearMatMul", 3), ("DequantizeLinear", 0)}
)
"""(operator, position): integer tensors that stand for real-valued weights."""


def count_params(model: LoadedModel, shapes: Shapes) -> int:
    """Count the stored parameters that the model uses.

    A parameter is one element of: a floating-point initializer or ``Constant`` (constants of activations and
    normalisation included), the floating-point result of a ``ConstantOfShape`` whose shape is fixed, or the integer
    weight of a quantized operator. Each tensor counts once, however often it is used, and not at all where nothing
    uses it; subgraphs count, function bodies count once per definition.
    """
    graphs = [model.ir.graph, *(function.graph for function in model.ir.functions.values())]
    return sum(_elements(value, shapes) for graph in graphs for value in _stored(graph, model.ir.ir_version))


def _stored(graph: ir.Graph, ir_version: int) -> Iterator[ir.Value]:
    for part in (graph, *graph.subgraphs()):
        makers = (node for node in part if node.op_type == "Constant" or _is_fixed_fill(node, ir_version))
        for value in (*part.initializers.values(), *(value for node in makers for value in node.outputs)):
            if value.uses() or value.is_graph_output():
                yield value


def _is_fixed_fill(node: ir.Node, ir_version: int) -> bool:
    return node.op_type == "ConstantOfShape" and origin_of(node.outputs[0], ir_version) is Origin.CONSTANT


def _elements(value: ir.Value, shapes: Shapes) -> int:
    tensor = ir.convenience.get_const_tensor(value)
    if tensor is not None:
        return tensor.size if tensor.dtype in FLOAT_TYPES or _is_quantized_weight(value) else 0
    shape = shapes.shapes.get(str(value.name))
    is_float = shapes.dtypes.get(str(value.name)) in FLOATS
    return prod(dim or 0 for dim in shape) if shape is not None and is_float else 0


def _is_quantized_weight(value: ir.Value) -> bool:
    return any((node.op_type, position) in _QUANTIZED_WEIGHTS for node, position in value.uses())

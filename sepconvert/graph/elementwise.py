"""Operations of everything that is not a contraction: activations, additions, pooling, normalisation.

The unit is one operation per output element, a rough but stated measure (an ``Exp`` counts as much as an ``Add``):

* element-wise operators: one per output element; variadic ones (``Sum``, ``Max`` …) one per element and operand but
  one; activations one whatever their formula;
* pooling: the window's size per output element, global pooling and reductions one per input element;
* Softmax and LogSoftmax 5 per element (maximum, subtract, exponential, sum, divide);
* BatchNormalization 2 (its statistics are fixed); Instance-, Layer-, GroupNormalization and
  MeanVarianceNormalization 7 (mean, subtract, square, mean, divide, scale, shift); RMSNormalization 4,
  LpNormalization 3; LRN its window + 3;
* Quantize- and DequantizeLinear 2 (scale, shift); Resize 2 (linear) or 4 (cubic) to the power of the resized axes;
* data movement (``MOVEMENT``) nothing, by definition: no arithmetic is done.
"""

from collections.abc import Callable, Mapping
from math import prod

import onnx

from sepconvert.graph.notation import Call, Shape, attribute, operator_name

Formula = Callable[[Call, Shape], int | None]

_MOVEMENT = """
    Cast CastLike CenterCropPad ChannelShuffle Compress Concat ConcatFromSequence Constant ConstantOfShape DepthToSpace
    Dropout Expand EyeLike Flatten Gather GatherElements GatherND Identity OneHot Optional OptionalGetElement
    OptionalHasElement Pad Reshape ReverseSequence Scatter ScatterElements ScatterND SequenceAt SequenceConstruct
    SequenceEmpty SequenceErase SequenceInsert SequenceLength Shape Size Slice SpaceToDepth Split SplitToSequence
    Squeeze Tile Transpose Trilu Unsqueeze
    """
MOVEMENT = frozenset(_MOVEMENT.split())
"""Operators that only copy, rearrange or convert values (Dropout is one at inference)."""

_PER_OUTPUT = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Celu Clip Cos
    Cosh Div Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish Hardmax IsInf IsNaN LeakyRelu
    Less LessOrEqual Log Mish Mod Mul Neg Not Or PRelu Pow Range Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin
    Sinh Softplus Softsign Sqrt Sub Swish Tan Tanh ThresholdedRelu Where Xor Affine ImageScaler ParametricSoftplus
    """

_PER_INPUT = """
    ArgMax ArgMin CumSum CumProd GlobalAveragePool GlobalLpPool GlobalMaxPool ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare
    """

_MULTIPLES = {
    "Softmax": 5,
    "LogSoftmax": 5,
    "BatchNormalization": 2,
    "InstanceNormalization": 7,
    "LayerNormalization": 7,
    "GroupNormalization": 7,
    "MeanVarianceNormalization": 7,
    "RMSNormalization": 4,
    "LpNormalization": 3,
    "QuantizeLinear": 2,
    "DequantizeLinear": 2,
}


def element_operations(node: onnx.NodeProto, shapes: Mapping[str, Shape]) -> int | None:
    """Return the element operations of a node for which ``is_elementwise`` holds, None where a shape is unknown."""
    call = Call.of(node, shapes)
    return None if call.output is None else _FORMULAS[operator_name(node)](call, call.output)


def is_elementwise(node: onnx.NodeProto) -> bool:
    """Tell whether the node's cost is counted in element operations."""
    name = operator_name(node)
    if name == "Einsum":
        return len(node.input) == 1
    return name in _FORMULAS


def _per_output(factor: int) -> Formula:
    return lambda _, out: factor * prod(out)


def _per_input(call: Call, _: Shape) -> int | None:
    return None if call.inputs[0] is None else prod(call.inputs[0])


def _variadic(call: Call, out: Shape) -> int | None:
    return (len(call.inputs) - 1) * prod(out)


def _pooling(call: Call, out: Shape) -> int | None:
    return prod(attribute(call.node, "kernel_shape", [1])) * prod(out)


def _local_response(call: Call, out: Shape) -> int | None:
    return (attribute(call.node, "size", 1) + 3) * prod(out)


def _resize(call: Call, out: Shape) -> int | None:
    mode = attribute(call.node, "mode", "nearest")
    if mode == "nearest":
        return 0
    image = call.inputs[0]
    if image is None or len(image) != len(out):
        return None
    axes = sum(before != after for before, after in zip(image, out, strict=True))
    taps: int = (4 if mode == "cubic" else 2) ** axes
    return taps * prod(out)


_FORMULAS: dict[str, Formula] = {
    **dict.fromkeys(_PER_OUTPUT.split(), _per_output(1)),
    **dict.fromkeys(_PER_INPUT.split(), _per_input),
    **dict.fromkeys(("Sum", "Mean", "Max", "Min"), _variadic),
    **{name: _per_output(factor) for name, factor in _MULTIPLES.items()},
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pooling),
    **dict.fromkeys(("Resize", "Upsample"), _resize),
    "Einsum": _per_input,
    "LRN": _local_response,
}

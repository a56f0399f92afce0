"""Linear layers as convolutions of one tap: Gemms, and MatMuls by a constant matrix.

A Gemm of a matrix (N, C), or a MatMul of (N, …, C) by (C, M), is described as a pointwise convolution over the axes
between. An Add of one constant per output behind a MatMul is its bias.
"""

from collections.abc import Sequence

import onnx_ir as ir

from sepconvert.errors import ModelError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import is_full
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import LINEAR, ConvSite, Notation
from sepconvert.graph.uses import Summand, node_name, summand
from sepconvert.graph.weights import Origin, origin_of
from sepconvert.number_types import FLOATS
from sepconvert.record import Skip
from sepconvert.separable.geometry import ConvGeometry

LINEAR_OPERATORS = frozenset({"Gemm", "MatMul"})
MOST_DIMENSIONS = 5


def linear_layer(node: ir.Node, model: LoadedModel, shapes: Shapes) -> ConvSite | Skip | None:
    """Describe a Gemm or MatMul, or say why it cannot be rewritten; None where it has no weights at all.

    Raises:
        ModelError: its matrix has no row or no column.
    """
    source, weight = node.inputs[0], node.inputs[1]
    if source is None or weight is None:
        return None
    origin = origin_of(weight, model.ir.ir_version)
    if origin is Origin.DYNAMIC:
        return None if origin_of(source, model.ir.ir_version) is Origin.DYNAMIC else _skip(node, *_LEFT)
    reason = _unfit(node, weight, origin, shapes)
    if reason is not None:
        return _skip(node, *reason)
    sides, given = shapes.shapes[str(weight.name)], shapes.shapes[str(source.name)]
    assert is_full(sides)
    assert given is not None
    matrix = tuple(sides)
    if 0 in matrix:
        what = f"{node.op_type} '{node_name(node)}'"
        raise ModelError(f"{what} has a weight of shape {list(matrix)}; export the model again.")
    flipped = node.op_type == "Gemm" and node.attributes.get_int("transB", 0) == 0
    channels, outputs = matrix if flipped or node.op_type == "MatMul" else matrix[::-1]
    adding = _adding(node, outputs, model, shapes)
    bias = adding.value if adding is not None else (*node.inputs[2:], None)[0]
    last = node if adding is None else adding.node
    axes = (0, len(given) - 1, *range(1, len(given) - 1))
    return ConvSite(
        output=str(last.outputs[0].name),
        name=node_name(node),
        input=str(source.name),
        weight=str(weight.name),
        bias=None if bias is None else str(bias.name),
        dtype=shapes.dtypes[str(weight.name)],
        geometry=_geometry(channels, outputs, given, shapes.batch),
        bias_is_fixed=bias is None or origin_of(bias, model.ir.ir_version) in (Origin.CONSTANT, Origin.QUANTIZED),
        layer=LINEAR,
        notation=Notation(node.op_type, axes, axes, transposed_weight=flipped),
        product=str(node.outputs[0].name),
    )


_LEFT = ("left-matrix", "Its constant matrix is on the left, so that rows are mixed and not channels.")


def _unfit(node: ir.Node, weight: ir.Value, origin: Origin, shapes: Shapes) -> tuple[str, str] | None:
    sides, given = shapes.shapes.get(str(weight.name)), shapes.shapes.get(str(node.inputs[0].name))  # type: ignore[union-attr]
    if origin is Origin.OVERRIDABLE:
        return "overridable-weight", "Its weight is also a graph input, which a caller may replace."
    if origin is Origin.QUANTIZED:
        return "quantized", "Its weight is stored quantized; rewrite the floating-point model, then quantize."
    if not is_full(sides) or given is None:
        return "unknown-shape", "The shape of its weight or input is unknown."
    if len(sides) != 2 or not 2 <= len(given) <= MOST_DIMENSIONS:
        return "many-dimensional", f"It multiplies {len(given)} by {len(sides)} dimensions; one matrix is factorised."
    if node.op_type == "Gemm" and not _is_plain(node, tuple(sides), shapes):
        return "scaled", "It scales or transposes what it multiplies, or adds a whole matrix."
    dtype = shapes.dtypes.get(str(weight.name), "unknown")
    if dtype not in FLOATS:
        return "unknown-type", f"Its weight has type {dtype}, which is not floating-point."
    return None


def _is_plain(node: ir.Node, matrix: tuple[int, ...], shapes: Shapes) -> bool:
    """Whether a Gemm computes ``x W + b`` or ``x Wᵀ + b``, its bias one number per output."""
    ints, floats = node.attributes.get_int, node.attributes.get_float
    if floats("alpha", 1.0) != 1 or floats("beta", 1.0) != 1 or ints("transA", 0) != 0:
        return False
    outputs = matrix[0] if ints("transB", 0) else matrix[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return bias is None or shapes.shapes.get(str(bias.name)) == (outputs,)


def _adding(node: ir.Node, outputs: int, model: LoadedModel, shapes: Shapes) -> Summand | None:
    """The Add behind a MatMul that adds its bias, if there is one."""
    added = summand(node) if node.op_type == "MatMul" else None
    if added is None or shapes.shapes.get(str(added.value.name)) != (outputs,):
        return None
    return added if origin_of(added.value, model.ir.ir_version) is Origin.CONSTANT else None


def _geometry(channels: int, outputs: int, given: Sequence[int | None], batch: int) -> ConvGeometry:
    sides = tuple(given[1:-1]) or (1,)
    spatial = tuple(sides) if given[0] is not None and is_full(sides) else None
    ones = (1,) * len(sides)
    return ConvGeometry(
        channels,
        outputs,
        kernel=ones,
        stride=ones,
        dilation=ones,
        pads=(0,) * (2 * len(sides)),
        in_spatial=spatial,
        out_spatial=spatial,
        images=max(1, (given[0] or 1) // batch),
    )


def _skip(node: ir.Node, kind: str, reason: str) -> Skip:
    return Skip(name=node_name(node), op=node.op_type, kind=kind, reason=reason, output=str(node.outputs[0].name))

"""Sums that fold into pointwise convolutions: ``P z + z`` is ``(P + I) z``, where ``P`` has as many outputs as inputs.

In a separable block with such a connection, ``PW(DW(x)) + DW(x)``, the addition costs a pass over the values and is
gone after the fold. What a block adds of its own *input*, ``PW(DW(x)) + x``, stays: the depthwise layer has moved the
values by then, so that no pointwise weights stand for it.

Rules: the sum alone reads the convolution's output; the weight is a fixed one of a floating-point type that nothing
else uses; one group, stride 1, no pads. The fold changes the weight alone, rounded to its own type. The bias stays.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.discard import discard_unused
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.lower import constant_value, fresh_names, names_in, store_constants
from sepconvert.graph.rewrite import take_over
from sepconvert.graph.separated import SeparableBlock
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import POINTWISE, ConvSite
from sepconvert.graph.summary import conv_layer
from sepconvert.graph.uses import computed_nodes, node_name, only_reader
from sepconvert.graph.weights import Origin, is_shared, origin_of, read_constant
from sepconvert.number_types import FLOATS, rounded
from sepconvert.separable.geometry import ConvGeometry

FOLDABLE, KEPT = "foldable", "kept"
ADDS_INPUT = (
    "It adds the block's input as it was before the depthwise layer; pointwise weights behind that layer cannot stand "
    "for it."
)


@dataclass(frozen=True, slots=True)
class Residual:
    """A sum that adds to a pointwise convolution what the convolution reads.

    ``site`` describes both together: its input is z, its output the sum. ``reason`` says why it is kept, else None.
    """

    site: ConvSite
    product: str
    reason: str | None


def find_residuals(model: LoadedModel, shapes: Shapes) -> list[Residual]:
    """Return every ``P z + z`` of the main graph, in its order."""
    found = []
    for node in computed_nodes(model.ir.graph):
        geometry = conv_layer(node, model, shapes) if node.op_type == "Conv" else None
        if geometry is None or geometry.taps > 1 or geometry.in_channels != geometry.out_channels:
            continue
        for use in node.outputs[0].uses():
            if _adds(use.node, node.outputs[0], node.inputs[0]):
                found.append(_residual(node, use.node, geometry, model, shapes))
    return found


def _adds(total: ir.Node, value: ir.Value, other: ir.Value | None) -> bool:
    if total.op_type != "Add" or total.domain not in ("", "ai.onnx"):
        return False
    return other is not None and other is not value and set(total.inputs) == {value, other}


def _residual(node: ir.Node, total: ir.Node, geometry: ConvGeometry, model: LoadedModel, shapes: Shapes) -> Residual:
    weight, source = node.inputs[1], node.inputs[0]
    assert weight is not None
    assert source is not None
    bias = (*node.inputs[2:], None)[0]
    site = ConvSite(
        output=str(total.outputs[0].name),
        name=node_name(node),
        input=str(source.name),
        weight=str(weight.name),
        bias=None if bias is None else str(bias.name),
        dtype=shapes.dtypes.get(str(weight.name), "unknown"),
        geometry=geometry,
        layer=POINTWISE,
        product=str(node.outputs[0].name),
    )
    return Residual(site, site.product, _refusal(node, geometry, site.dtype, model))


def _refusal(node: ir.Node, geometry: ConvGeometry, dtype: str, model: LoadedModel) -> str | None:
    weight = node.inputs[1]
    assert weight is not None
    if geometry.groups > 1:
        return "Its channels are in groups."
    if any(geometry.pads) or set(geometry.stride) != {1}:
        return "It pads or strides, so that input and output are not at the same places."
    if only_reader(node.outputs[0]) is None:
        return "Something else reads the convolution's output, too."
    if origin_of(weight, model.ir.ir_version) is not Origin.CONSTANT or dtype not in FLOATS:
        return "Its weight is not a fixed one of a floating-point type."
    return "Its weight is used elsewhere too." if is_shared(weight) else None


def added_input(pair: SeparableBlock) -> ir.Node | None:
    """The sum that adds a pair's own input to what comes of its output, if there is one."""
    first, value = pair.pieces[0].node.inputs[0], pair.pieces[-1].node.outputs[0]
    while (node := only_reader(value)) is not None:
        if node.op_type == "Add" and first in node.inputs:
            return node
        if node.op_type not in ("BatchNormalization", "Identity", "Dropout", "Mul"):
            return None
        value = node.outputs[0]
    return None


def folded_weight(model: LoadedModel, site: ConvSite) -> NDArray[np.floating]:
    """P + I in the weight's own type, (M, C, *ones).

    Raises:
        ModelError: the weight holds NaN or infinity.
    """
    weight = read_constant(model, site.weight).astype(np.float64)
    channels = np.arange(len(weight))
    weight[channels, channels] += 1
    return rounded(weight, site.dtype)


def fold_residuals(model: LoadedModel, residuals: Sequence[Residual]) -> LoadedModel:
    """Return a copy of the model in which these sums are folded into their convolutions.

    Raises:
        ModelError: a weight holds NaN or infinity.
    """
    copy = model.ir.clone()
    unique = fresh_names(names_in(copy))
    nodes = {str(value.name): node for node in copy.graph for value in node.outputs}
    for residual in residuals:
        product, total = nodes[residual.product], nodes[residual.site.output]
        old = product.inputs[1]
        assert old is not None
        weight = constant_value(unique(f"{residual.site.weight}/folded"), folded_weight(model, residual.site))
        product.replace_input_with(1, weight)
        copy.graph.insert_before(product, store_constants(copy.graph, copy.ir_version, [weight], unique))
        take_over(total.outputs[0], product.outputs[0])
        copy.graph.remove(total, safe=True)
        discard_unused(copy, old)
    return replace(model, ir=copy, sha256=None, bytes=None)


def foldable(residuals: Sequence[Residual]) -> Iterator[Residual]:
    """Yield those that nothing keeps."""
    return (residual for residual in residuals if residual.reason is None)

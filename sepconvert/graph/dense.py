"""Find the dense layers that are no sites, but whose weights can be refitted: pointwise Convs, Gemms and MatMuls.

They cost what they cost before, so refitting them to what the rewritten network feeds them is free at inference time,
and makes up for errors of the sites before them. Layers whose weight or bias is used elsewhere, or may be replaced by a
caller, are left alone. A MatMul becomes a Gemm, for the sake of its new bias; a module's could not, so that in a model
exported from one it is left alone too.
"""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import is_full
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.survey import conv_geometry
from sepconvert.graph.uses import find_value
from sepconvert.graph.weights import Origin, is_shared, origin_of, read_constant
from sepconvert.separable.geometry import ConvGeometry

_FLOATS = frozenset({"float16", "float32"})


def refittable_layers(model: LoadedModel, shapes: Shapes) -> list[ConvSite]:
    """Return the layers of the main graph whose weight (and bias) nothing else uses, in order.

    A Gemm, or a MatMul of a matrix (N, C) and a weight (C, M), is described as a pointwise convolution over a single
    position: kernel (1,), its input (N, C) being (N, C, 1).
    """
    found = []
    for node in model.ir.graph:
        if node.op_type == "MatMul" and model.is_exported:
            continue
        geometry = _geometry(node, shapes)
        if geometry is not None and _is_own(node, model, shapes):
            found.append(_layer(node, geometry, shapes))
    return found


def _geometry(node: ir.Node, shapes: Shapes) -> ConvGeometry | None:
    if node.domain not in ("", "ai.onnx") or len(node.inputs) < 2 or node.inputs[1] is None:
        return None
    sides = shapes.shapes.get(str(node.inputs[1].name))
    if not is_full(sides):
        return None
    weight = tuple(sides)
    if node.op_type == "Conv":
        plain = len(weight) in (3, 4) and set(weight[2:]) == {1} and node.attributes.get_int("group", 1) == 1
        return conv_geometry(node, weight, shapes) if plain else None
    if node.op_type == "MatMul":
        return _matmul_geometry(node, weight, shapes)
    return _gemm_geometry(node, weight, shapes) if node.op_type == "Gemm" else None


def _gemm_geometry(node: ir.Node, weight: tuple[int, ...], shapes: Shapes) -> ConvGeometry | None:
    """A Gemm that computes ``x Wᵀ + b``, its bias one number per output; None for any other."""
    ints, floats = node.attributes.get_int, node.attributes.get_float
    if floats("alpha", 1.0) != 1 or floats("beta", 1.0) != 1 or ints("transA", 0) != 0 or ints("transB", 0) != 1:
        return None
    if len(node.inputs) < 3 or node.inputs[2] is None or shapes.shapes.get(str(node.inputs[2].name)) != weight[:1]:
        return None
    outputs, channels = weight
    return _single_position(channels, outputs)


def _matmul_geometry(node: ir.Node, weight: tuple[int, ...], shapes: Shapes) -> ConvGeometry | None:
    """A MatMul that computes ``x W`` row by row; None for any other."""
    rows = shapes.shapes.get(str(node.inputs[0].name)) if node.inputs[0] is not None else None
    if rows is None or len(rows) != 2 or len(weight) != 2:
        return None
    channels, outputs = weight
    return _single_position(channels, outputs)


def _single_position(channels: int, outputs: int) -> ConvGeometry:
    return ConvGeometry(channels, outputs, (1,), (1,), (1,), (0, 0), in_spatial=(1,), out_spatial=(1,))


def read_weight(model: LoadedModel, layer: ConvSite) -> NDArray[np.generic]:
    """Return the weight of a site or dense layer in its own type, shape (M, C, *kernel).

    Raises:
        ModelError: it is not a constant of the main graph, or holds NaN or infinity.
    """
    stored = read_constant(model, layer.weight)
    value = find_value(model, layer.weight)
    multiplied = value is not None and any(use.node.op_type == "MatMul" for use in value.uses())
    return (stored.T if multiplied else stored).reshape(layer.geometry.weight_shape)


def _is_own(node: ir.Node, model: LoadedModel, shapes: Shapes) -> bool:
    """Whether nothing else uses weight or bias, both are constant, and of a type that can be fitted."""
    weight, *rest = (value for value in node.inputs[1:] if value is not None)
    if is_shared(weight) or shapes.dtypes.get(str(weight.name)) not in _FLOATS:
        return False
    return all(origin_of(value, model.ir.ir_version) is Origin.CONSTANT for value in (weight, *rest))


def _layer(node: ir.Node, geometry: ConvGeometry, shapes: Shapes) -> ConvSite:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    source, weight = node.inputs[:2]
    assert source is not None
    assert weight is not None
    return ConvSite(
        output=str(node.outputs[0].name),
        name=node.name or str(node.outputs[0].name),
        input=str(source.name),
        weight=str(weight.name),
        bias=None if bias is None else str(bias.name),
        dtype=shapes.dtypes[str(weight.name)],
        geometry=geometry,
    )

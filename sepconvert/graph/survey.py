"""Find the convolutions that can be rewritten, and say of every other one why it cannot.

A *site* is a Conv in the main graph that is 1-D or 2-D, has group 1, some kernel side above 1, and a constant
floating-point weight that nothing else uses. Questions are asked in the order below; the first "no" gives the ``Skip``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from sepconvert.errors import ModelError
from sepconvert.graph.inputs import Shape
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import CONV_LIKE, is_full
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.uses import computed_nodes, inner_graphs
from sepconvert.graph.weights import Origin, is_shared, origin_of
from sepconvert.number_types import FLOATS
from sepconvert.record import Skip
from sepconvert.separable.geometry import ConvGeometry

AUTO_PADS = ("", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
MOST_CHECKED = 1 << 27
"""Values of the patches on which a site's rewrite is checked against the original."""

_BY_OPERATOR = {
    "ConvTranspose": ("transposed", "A transposed convolution upsamples; the separable forms do not apply to it."),
    "ConvInteger": ("quantized", "It computes in integers; rewrite the floating-point model, then quantize."),
    "QLinearConv": ("quantized", "It computes in integers; rewrite the floating-point model, then quantize."),
    "DeformConv": ("deformable", "A deformable convolution samples at learned positions, which do not separate."),
}
_BY_ORIGIN = {
    Origin.DYNAMIC: ("dynamic-weight", "Its weight is computed at run time, so there is nothing fixed to factorise."),
    Origin.OVERRIDABLE: (
        "overridable-weight",
        "Its weight is also a graph input, which a caller may replace; remove it from the inputs to make it constant.",
    ),
    Origin.QUANTIZED: (
        "quantized",
        "Its weight is stored quantized; rewrite the floating-point model, then quantize the result.",
    ),
}
_UNFED = (
    "constant",
    "No input of the model reaches it: what it computes is fixed, or drawn at random, and cannot be fitted.",
)


@dataclass(frozen=True, slots=True)
class Survey:
    """Every Conv-like node of a model: a site or a skip, each in the graph's order."""

    sites: tuple[ConvSite, ...]
    skips: tuple[Skip, ...]


def survey(model: LoadedModel, shapes: Shapes) -> Survey:
    """Sort every Conv-like node, in subgraphs and functions too, into sites and skips.

    Raises:
        ModelError: a Conv contradicts itself: weight and input channels, bias, attributes, or a zero-sized weight.
    """
    sites: list[ConvSite] = []
    skips: list[Skip] = []
    computed = set(computed_nodes(model.ir.graph))
    for node in model.ir.graph:
        if is_conv_like(node, model.ir):
            found = _classify(node, model, shapes) if node in computed else _skip(node, *_UNFED)
            sites.append(found) if isinstance(found, ConvSite) else skips.append(found)
        skips += _in_subgraphs(node, model.ir)
    skips += _in_functions(model.ir)
    return Survey(tuple(sites), tuple(skips))


def is_conv_like(node: ir.Node, model: ir.Model) -> bool:
    """Tell whether the node is a convolution of any kind (a call of a model-local function is judged by its body)."""
    return bool(CONV_LIKE.search(node.op_type)) and node.op_identifier() not in model.functions


def _classify(node: ir.Node, model: LoadedModel, shapes: Shapes) -> ConvSite | Skip:
    if node.domain != "":
        return _skip(node, "unknown-domain", f"Operator {node.op_type} of domain {node.domain} is not ONNX's own Conv.")
    if node.op_type in _BY_OPERATOR:
        return _skip(node, *_BY_OPERATOR[node.op_type])
    if node.op_type != "Conv":
        return _skip(node, "unknown-operator", f"Operator {node.op_type} is not a plain Conv.")
    return _classify_conv(node, model, shapes)


def _classify_conv(node: ir.Node, model: LoadedModel, shapes: Shapes) -> ConvSite | Skip:
    weight = node.inputs[1]
    assert weight is not None
    origin = origin_of(weight, model.ir.ir_version)
    if origin is not Origin.CONSTANT:
        return _skip(node, *_BY_ORIGIN[origin])
    shape = shapes.shapes.get(str(weight.name))
    if not is_full(shape):
        return _skip(node, "dynamic-weight", "The shape of its weight is unknown, so there is nothing to factorise.")
    geometry = conv_geometry(node, tuple(shape), shapes)
    dtype = shapes.dtypes.get(str(weight.name), "unknown")
    reason = _not_standard(geometry, _group(node)) or _unwieldy(geometry, dtype)
    if reason is not None:
        return _skip(node, *reason)
    if is_shared(weight):
        return _skip(node, "shared-weight", "Its weight is used elsewhere too, and would have to change there as well.")
    if dtype not in FLOATS:
        return _skip(node, "unknown-type", f"Its weight has type {dtype}, which is not floating-point.")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return ConvSite(
        output=str(node.outputs[0].name),
        name=_name(node),
        input=str(node.inputs[0].name) if node.inputs[0] is not None else "",
        weight=str(weight.name),
        bias=None if bias is None else str(bias.name),
        dtype=dtype,
        geometry=geometry,
        keep_reason=_keep_reason(geometry),
        bias_is_fixed=bias is None or origin_of(bias, model.ir.ir_version) in (Origin.CONSTANT, Origin.QUANTIZED),
    )


def _not_standard(geometry: ConvGeometry, group: int) -> tuple[str, str] | None:
    if len(geometry.kernel) > 2:
        return "3d", "It has three spatial dimensions; only 1-D and 2-D convolutions are rewritten."
    if group > 1 and geometry.in_channels == 1:
        return "depthwise", "It is depthwise already."
    if group > 1:
        return "grouped", f"It has {group} groups; only ungrouped convolutions are rewritten."
    if geometry.taps == 1:
        return "pointwise", "It is pointwise (1×1) already."
    return None


def _unwieldy(geometry: ConvGeometry, dtype: str) -> tuple[str, str] | None:
    """Why a rewrite could not be checked: even the smallest input on which all taps meet values is too large."""
    axes = [geometry.along(axis) for axis in range(len(geometry.kernel))]
    sizes = [axis.reach + 2 * axis.stride + 4 for axis in axes]
    # onnx.reference, which checks what onnxruntime does not run, lays out the dilated kernel with its holes.
    dilated_auto_pad = geometry.auto_pad.startswith("SAME") and max(geometry.dilation) > 1
    holes = dilated_auto_pad or dtype not in ("float32", "float16")
    taps = prod(axis.reach for axis in axes) if holes else geometry.taps
    outputs = prod(axis.outputs(size) for axis, size in zip(axes, sizes, strict=True))
    values = max(geometry.in_channels * taps, geometry.out_channels) * outputs + geometry.in_channels * prod(sizes)
    if values <= (MOST_CHECKED >> 2 if holes else MOST_CHECKED):
        return None
    return "far-reaching", (
        f"Its dilation, stride or pads reach so far that checking a rewrite would take {values:,} values; it is left "
        "as it is."
    )


def _keep_reason(geometry: ConvGeometry) -> str | None:
    if geometry.in_channels == 1:
        return "one input channel: nothing to separate"
    if geometry.out_channels == 1:
        return "one output channel: nothing to separate"
    return None


def conv_geometry(node: ir.Node, weight: tuple[int, ...], shapes: Shapes) -> ConvGeometry:
    """Read a Conv's attributes; ``in_channels`` is per group."""
    _check_weight(node, weight, shapes)
    sides = len(weight) - 2
    geometry = ConvGeometry(
        in_channels=weight[1],
        out_channels=weight[0],
        kernel=weight[2:],
        stride=_ints(node, "strides", sides, 1),
        dilation=_ints(node, "dilations", sides, 1),
        pads=_ints(node, "pads", 2 * sides, 0),
        auto_pad=_auto_pad(node),
        in_spatial=_spatial(shapes, node.inputs[0]),
        out_spatial=_spatial(shapes, node.outputs[0]),
        images=_images(shapes, node.inputs[0]),
    )
    _check_steps(node, geometry)
    return geometry


def _check_steps(node: ir.Node, geometry: ConvGeometry) -> None:
    what = f"Conv '{_name(node)}' has"
    if min(*geometry.stride, *geometry.dilation) < 1 or min(geometry.pads) < 0:
        raise ModelError(
            f"{what} strides {list(geometry.stride)}, dilations {list(geometry.dilation)} and pads "
            f"{list(geometry.pads)}, of which one is too small; export the model again."
        )
    if geometry.auto_pad not in AUTO_PADS:
        raise ModelError(f"{what} auto_pad '{geometry.auto_pad}', which is none of ONNX's; export the model again.")
    if geometry.auto_pad not in ("", "NOTSET") and any(geometry.pads):
        raise ModelError(
            f"{what} auto_pad '{geometry.auto_pad}' beside pads {list(geometry.pads)}, and runtimes differ on which "
            "counts; keep one of them."
        )


def _check_weight(node: ir.Node, weight: tuple[int, ...], shapes: Shapes) -> None:
    what = f"Conv '{_name(node)}' has a weight of shape {list(weight)}"
    if len(weight) < 3 or 0 in weight:
        raise ModelError(f"{what}, which no convolution can have; export the model again.")
    group = _group(node)
    image = _shape(shapes, node.inputs[0])
    if image is not None and len(image) != len(weight):
        raise ModelError(f"{what}, but its input has {len(image)} dimensions; export the model again.")
    channels = None if image is None else image[1]
    if channels is not None and channels != weight[1] * group:
        raise ModelError(
            f"{what} for {weight[1] * group} input channels, but its input has {channels}; export the model again."
        )
    if group < 1 or weight[0] % group:
        raise ModelError(f"{what}, whose {weight[0]} output channels do not divide into {group} groups.")
    stated = node.attributes.get_ints("kernel_shape")
    if stated is not None and tuple(stated) != weight[2:]:
        raise ModelError(f"{what}, but its kernel_shape is {list(stated)}; export the model again.")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    bias_shape = _shape(shapes, bias)
    if bias_shape is not None and None not in bias_shape and bias_shape != weight[:1]:
        raise ModelError(f"{what}, but a bias of shape {list(bias_shape)}; export the model again.")


def _ints(node: ir.Node, name: str, length: int, default: int) -> tuple[int, ...]:
    stated = node.attributes.get_ints(name)
    if not stated:
        return (default,) * length
    if len(stated) != length:
        raise ModelError(f"Conv '{_name(node)}' has {len(stated)} {name} instead of {length}; export the model again.")
    return tuple(int(v) for v in stated)


def _group(node: ir.Node) -> int:
    return int(node.attributes.get_int("group", 1))


def _auto_pad(node: ir.Node) -> str:
    return str(node.attributes.get_string("auto_pad", "NOTSET"))


def _spatial(shapes: Shapes, value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the spatial size of a value where it is known (an open batch leaves the cost open too)."""
    shape = _shape(shapes, value)
    if not shape or shape[0] is None:
        return None
    sides = shape[2:]
    return tuple(sides) if is_full(sides) else None


def _images(shapes: Shapes, value: ir.Value | None) -> int:
    shape = _shape(shapes, value)
    return max(1, (shape[0] or 1) // shapes.batch) if shape else 1


def _shape(shapes: Shapes, value: ir.Value | None) -> Shape | None:
    return None if value is None else shapes.shapes.get(str(value.name))


def _in_subgraphs(node: ir.Node, model: ir.Model) -> Iterator[Skip]:
    reason = f"It is inside the body of {node.op_type} '{_name(node)}', which is left alone."
    for body in inner_graphs(node):
        for inner in ir.traversal.RecursiveGraphIterator(body):
            if is_conv_like(inner, model):
                yield _skip(inner, "subgraph", reason)


def _in_functions(model: ir.Model) -> Iterator[Skip]:
    for function in model.functions.values():
        reason = f"It is inside the model's function '{function.name}'; inline functions first (onnx.inliner)."
        for node in function.all_nodes():
            if is_conv_like(node, model):
                yield _skip(node, "function", reason, prefix=f"{function.name}/")


def _name(node: ir.Node) -> str:
    return node.name or str(node.outputs[0].name)


def _skip(node: ir.Node, kind: str, reason: str, prefix: str = "") -> Skip:
    return Skip(name=prefix + _name(node), op=node.op_type, kind=kind, reason=reason, output=str(node.outputs[0].name))

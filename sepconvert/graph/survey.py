"""Find the layers that can be rewritten, and say of every other one why it cannot.

A *site* is a Conv, ConvTranspose, Gemm or MatMul in the main graph with a constant floating-point weight that nothing
else uses, and more than one channel per group. Questions are asked in the order below; the first "no" gives the
``Skip``. Which of them are rewritten depends on the forms that may be used (``Survey.allowing``).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import onnx_ir as ir

from sepconvert.errors import ModelError
from sepconvert.graph.inputs import Shape
from sepconvert.graph.linear import LINEAR_OPERATORS, linear_layer
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import CONV_LIKE, is_full
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import CONV, GROUPED, LINEAR, POINTWISE, TRANSPOSED, ConvSite, Notation
from sepconvert.graph.uses import computed_nodes, inner_graphs
from sepconvert.graph.weights import Origin, is_shared, origin_of
from sepconvert.number_types import FLOATS
from sepconvert.record import Skip
from sepconvert.separable.forms import FORMS, applies
from sepconvert.separable.geometry import ConvGeometry

AUTO_PADS = ("", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
MOST_CHECKED = 1 << 27
"""Values of the patches on which a site's rewrite is checked against the original."""

_BY_OPERATOR = {
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


_NOT_ASKED = {
    CONV: "The forms that may be used do not apply to its kernel; --form any has others.",
    POINTWISE: "It is pointwise (1×1) already; --form any makes two smaller layers of it where that pays.",
    LINEAR: "It is a linear layer; --form any makes two smaller layers of it where that pays.",
    GROUPED: "Its channels are in groups; --form any rewrites each group.",
    TRANSPOSED: "It is a transposed convolution; --form any rewrites it.",
}


@dataclass(frozen=True, slots=True)
class Survey:
    """Every layer of a model that multiplies by weights: a site or a skip, each in the graph's order."""

    sites: tuple[ConvSite, ...]
    skips: tuple[Skip, ...]

    def allowing(self, forms: Sequence[str], layers: Collection[str]) -> "Survey":
        """The same survey where only some forms and kinds of layers may be used: other sites are skipped.

        A site that no form of these can separate into channels and taps is marked to be kept.
        """
        sites: list[ConvSite] = []
        skips: list[Skip] = []
        for site in self.sites:
            usable = [form for form in forms if applies(form, site.geometry)]
            if site.layer not in layers or not usable:
                kind = "3d" if site.layer == CONV else site.layer
                skips.append(Skip(site.name, site.notation.operator, kind, _NOT_ASKED[site.layer], site.output))
            else:
                sites.append(replace(site, keep_reason=_keep_reason(site.geometry, usable)))
        return Survey(tuple(sites), (*self.skips, *skips))


def _keep_reason(geometry: ConvGeometry, forms: Sequence[str]) -> str | None:
    if not all(FORMS[form].CHANNELWISE for form in forms):
        return None
    one = geometry.part
    if one.in_channels == 1:
        return "one input channel: nothing to separate"
    return "one output channel: nothing to separate" if one.out_channels == 1 else None


def survey(model: LoadedModel, shapes: Shapes) -> Survey:
    """Sort every layer with weights, in subgraphs and functions too, into sites and skips.

    Raises:
        ModelError: a layer contradicts itself: weight and input channels, bias, attributes, or a zero-sized weight.
    """
    sites: list[ConvSite] = []
    skips: list[Skip] = []
    computed = set(computed_nodes(model.ir.graph))
    for node in model.ir.graph:
        found: ConvSite | Skip | None = None
        if is_conv_like(node, model.ir):
            found = _classify(node, model, shapes) if node in computed else _skip(node, *_UNFED)
        elif node in computed and node.domain == "" and node.op_type in LINEAR_OPERATORS:
            found = linear_layer(node, model, shapes)
        if found is not None:
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
    if node.op_type not in ("Conv", "ConvTranspose"):
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
    if node.attributes.get_ints("output_shape"):
        return _skip(node, "fixed-output", "It states the size of its output: its padding depends on its input.")
    dtype = shapes.dtypes.get(str(weight.name), "unknown")
    reason = _not_separable(geometry) or _unwieldy(geometry, dtype)
    if reason is not None:
        return _skip(node, *reason)
    if is_shared(weight):
        return _skip(node, "shared-weight", "Its weight is used elsewhere too, and would have to change there as well.")
    if dtype not in FLOATS:
        return _skip(node, "unknown-type", f"Its weight has type {dtype}, which is not floating-point.")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    geometry, notation = _described(geometry, node.op_type)
    return ConvSite(
        output=str(node.outputs[0].name),
        name=_name(node),
        input=str(node.inputs[0].name) if node.inputs[0] is not None else "",
        weight=str(weight.name),
        bias=None if bias is None else str(bias.name),
        dtype=dtype,
        geometry=geometry,
        bias_is_fixed=bias is None or origin_of(bias, model.ir.ir_version) in (Origin.CONSTANT, Origin.QUANTIZED),
        layer=_layer_kind(geometry),
        notation=notation,
    )


def _layer_kind(geometry: ConvGeometry) -> str:
    if geometry.transposed:
        return TRANSPOSED
    if geometry.groups > 1:
        return GROUPED
    return POINTWISE if geometry.taps == 1 else CONV


def _described(geometry: ConvGeometry, operator: str) -> tuple[ConvGeometry, Notation]:
    """How a convolution is described: as it stands, or with the axis that its kernel spans as channels.

    A text's convolution, 1→M channels with a kernel k×E on a map L×E, is one along L over E channels.
    """
    if operator == "ConvTranspose" or geometry.in_channels > 1 or len(geometry.kernel) != 2:
        return geometry, Notation(operator)
    for axis in (1, 0):
        along, size = geometry.along(axis), None if geometry.in_spatial is None else geometry.in_spatial[axis]
        padded = geometry.auto_pad not in ("", "NOTSET", "VALID") or along.begin or along.end
        if size is None or size < 2 or padded or along.dilation != 1 or along.kernel != size:
            continue
        order = (0, 3, 2, 1) if axis == 1 else (0, 2, 1, 3)
        described = replace(
            geometry,
            in_channels=size,
            kernel=_with_one(geometry.kernel, axis),
            stride=_with_one(geometry.stride, axis),
            in_spatial=_with_one(geometry.in_spatial or (), axis),
        )
        return described, Notation(operator, order)
    return geometry, Notation(operator)


def _with_one(sides: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return tuple(1 if place == axis else side for place, side in enumerate(sides))


def _not_separable(geometry: ConvGeometry) -> tuple[str, str] | None:
    if geometry.groups > 1 and geometry.part.in_channels == 1:
        return "depthwise", "It is depthwise already."
    if len(geometry.kernel) > 3:
        return "many-dimensional", f"It has {len(geometry.kernel)} spatial dimensions; runtimes know up to three."
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


def conv_geometry(node: ir.Node, weight: tuple[int, ...], shapes: Shapes) -> ConvGeometry:
    """Read the attributes of a Conv or ConvTranspose."""
    transposed, groups = node.op_type == "ConvTranspose", _group(node)
    _check_weight(node, weight, shapes)
    sides = len(weight) - 2
    geometry = ConvGeometry(
        in_channels=weight[0] if transposed else weight[1] * groups,
        out_channels=weight[1] * groups if transposed else weight[0],
        kernel=weight[2:],
        stride=_ints(node, "strides", sides, 1),
        dilation=_ints(node, "dilations", sides, 1),
        pads=_ints(node, "pads", 2 * sides, 0),
        auto_pad=_auto_pad(node),
        in_spatial=_spatial(shapes, node.inputs[0]),
        out_spatial=_spatial(shapes, node.outputs[0]),
        images=_images(shapes, node.inputs[0]),
        groups=groups,
        transposed=transposed,
    )
    _check_steps(node, geometry)
    return _cropped(node, geometry) if transposed else geometry


def _cropped(node: ir.Node, geometry: ConvGeometry) -> ConvGeometry:
    """A transposed convolution with explicit pads: those that ``auto_pad`` stands for, whatever the size.

    Raises:
        ModelError: its output padding is negative, or not smaller than the stride.
    """
    sides = len(geometry.kernel)
    more = _ints(node, "output_padding", sides, 0)
    if any(not 0 <= pad < max(stride, 1) for pad, stride in zip(more, geometry.stride, strict=True)):
        raise ModelError(
            f"ConvTranspose '{_name(node)}' has output_padding {list(more)}, which must be at least 0 and smaller than "
            f"its strides {list(geometry.stride)}; export the model again."
        )
    if geometry.auto_pad not in ("SAME_UPPER", "SAME_LOWER"):
        pads = geometry.pads if geometry.auto_pad in ("", "NOTSET") else (0,) * 2 * sides
        return replace(geometry, auto_pad="NOTSET", pads=pads, output_pads=more)
    begins, ends = [], []
    for axis in range(sides):
        along = geometry.along(axis)
        total = max(0, more[axis] + along.reach - along.stride)
        small = total // 2
        begins.append(small if geometry.auto_pad == "SAME_UPPER" else total - small)
        ends.append(total - begins[-1])
    return replace(geometry, auto_pad="NOTSET", pads=(*begins, *ends), output_pads=more)


def _check_steps(node: ir.Node, geometry: ConvGeometry) -> None:
    what = f"{node.op_type} '{_name(node)}' has"
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
    what = f"{node.op_type} '{_name(node)}' has a weight of shape {list(weight)}"
    if len(weight) < 3 or 0 in weight:
        raise ModelError(f"{what}, which no convolution can have; export the model again.")
    group = _group(node)
    image = _shape(shapes, node.inputs[0])
    if image is not None and len(image) != len(weight):
        raise ModelError(f"{what}, but its input has {len(image)} dimensions; export the model again.")
    channels = None if image is None else image[1]
    transposed = node.op_type == "ConvTranspose"
    expected = weight[0] if transposed else weight[1] * group
    if channels is not None and channels != expected:
        raise ModelError(f"{what} for {expected} input channels, but its input has {channels}; export the model again.")
    if group < 1 or weight[0] % group:
        raise ModelError(f"{what}, whose {weight[0]} channels do not divide into {group} groups.")
    stated = node.attributes.get_ints("kernel_shape")
    if stated is not None and tuple(stated) != weight[2:]:
        raise ModelError(f"{what}, but its kernel_shape is {list(stated)}; export the model again.")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    bias_shape = _shape(shapes, bias)
    outputs = weight[1] * group if transposed else weight[0]
    if bias_shape is not None and None not in bias_shape and bias_shape != (outputs,):
        raise ModelError(f"{what}, but a bias of shape {list(bias_shape)}; export the model again.")


def _ints(node: ir.Node, name: str, length: int, default: int) -> tuple[int, ...]:
    stated = node.attributes.get_ints(name)
    if not stated:
        return (default,) * length
    if len(stated) != length:
        raise ModelError(
            f"{node.op_type} '{_name(node)}' has {len(stated)} {name} instead of {length}; export the model again."
        )
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

"""Find the layers that can be rewritten, and say of every other one why it cannot.

A *site* is a Conv, ConvTranspose, Gemm or MatMul in the main graph with a constant floating-point weight, used by such
layers alone and by all of them in one way (``ties.py``), and more than one channel per group. Questions are asked in
the order below; the first "no" gives the ``Skip``. Which of them are rewritten depends on the forms that may be used
(``Survey.allowing``).
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import onnx_ir as ir

from sepconvert.graph.conv_geometry import conv_geometry
from sepconvert.graph.linear import LINEAR_OPERATORS, linear_layer
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import CONV_LIKE, is_full
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import CONV, GROUPED, LINEAR, POINTWISE, SHARED, TRANSPOSED, ConvSite, Notation
from sepconvert.graph.ties import SHARED_WEIGHT, join_uses
from sepconvert.graph.uses import computed_nodes, inner_graphs, node_name
from sepconvert.graph.weights import Origin, origin_of
from sepconvert.number_types import FLOATS
from sepconvert.record import Skip
from sepconvert.separable.forms import FORMS, applies
from sepconvert.separable.geometry import ConvGeometry

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
    SHARED: "Other layers use its weight too; --form any makes one set of factors for all of them.",
}


@dataclass(frozen=True, slots=True)
class Survey:
    """Every layer of a model that multiplies by weights: a site or a skip, each in the graph's order."""

    sites: tuple[ConvSite, ...]
    skips: tuple[Skip, ...]

    @property
    def uses(self) -> list[ConvSite]:
        """The layers that the sites are, those that share a weight one by one."""
        return [use for site in self.sites for use in site.uses]

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
                skips += _skips(site, kind, _NOT_ASKED[site.layer])
            elif site.others and SHARED not in layers:
                skips += _skips(site, SHARED_WEIGHT, _NOT_ASKED[SHARED])
            else:
                sites.append(replace(site, keep_reason=_keep_reason(site.geometry, usable)))
        return Survey(tuple(sites), (*self.skips, *skips))


def _skips(site: ConvSite, kind: str, reason: str) -> list[Skip]:
    """A skip for every layer that uses the site's weight."""
    return [Skip(use.name, use.notation.operator, kind, reason, use.product) for use in site.uses]


def _keep_reason(geometry: ConvGeometry, forms: Sequence[str]) -> str | None:
    if not all(FORMS[form].CHANNELWISE for form in forms):
        return None
    one = geometry.part
    single = next((side for side, n in (("input", one.in_channels), ("output", one.out_channels)) if n == 1), None)
    if single is None:
        return None
    others = any(not form.CHANNELWISE and applies(name, geometry) for name, form in FORMS.items())
    return f"one {single} channel: nothing to separate" + " (--form any has forms for it)" * others


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
    joined, unlike = join_uses(sites, model)
    return Survey(tuple(joined), (*skips, *unlike))


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
    if dtype not in FLOATS:
        return _skip(node, "unknown-type", f"Its weight has type {dtype}, which is not floating-point.")
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    geometry, notation = _described(geometry, node.op_type)
    return ConvSite(
        output=str(node.outputs[0].name),
        name=node_name(node),
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
    patches = max(geometry.in_channels * taps, geometry.out_channels) * outputs
    # An input is drawn in float64, and its signs beside it.
    values = max(patches + geometry.in_channels * prod(sizes), 4 * geometry.in_channels * prod(sizes))
    if values <= (MOST_CHECKED >> 2 if holes else MOST_CHECKED):
        return None
    return "far-reaching", (
        f"Its dilation, stride or pads reach so far that checking a rewrite would take {values:,} values; it is left "
        "as it is."
    )


def _in_subgraphs(node: ir.Node, model: ir.Model) -> Iterator[Skip]:
    reason = f"It is inside the body of {node.op_type} '{node_name(node)}', which is left alone."
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


def _skip(node: ir.Node, kind: str, reason: str, prefix: str = "") -> Skip:
    return Skip(
        name=prefix + node_name(node), op=node.op_type, kind=kind, reason=reason, output=str(node.outputs[0].name)
    )

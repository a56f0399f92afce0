"""From factors to nodes: how each separable form is written as ONNX.

What a *lowering* emits, in order (DW: grouped Conv that holds the taps; PW: 1×1 Conv):

============  =========  ========================================================================================
form          lowering   nodes
============  =========  ========================================================================================
``dw_pw``     stacked    DW C→C·r with group C, PW C·r→M
``dw_pw``     branches   r × (DW C→C, PW C→M), summed by two-input Adds
``dw_pw``     concat     r × DW C→C, one Concat, PW C·r→M
``pw_dw``     stacked    PW C→M·r, grouped Conv M·r→M with group M (r inputs per group)
``pw_dw``     branches   r × (PW C→M, DW M→M), summed by two-input Adds
``pw_dw_pw``  stacked    PW C→R, DW R→R, PW R→M
``spatial``   stacked    one Conv per axis, C→R and R→M
============  =========  ========================================================================================

Stride, dilation, pads and auto_pad stay with the factor that holds the taps (``spatial``: each axis with its own
factor). The bias stays with the last factor, on one branch where there are several: a pointwise factor before padded
taps has none, because the padding must see zeros.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.names import Namer
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.weights import OVERRIDABLE_SINCE_IR
from sepconvert.separable import spatial
from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry

# Per form, the lowerings that differ, the default first: branches of plain depthwise convolutions run faster than one
# grouped convolution with several outputs per group in onnxruntime's CPU kernels, and are never much slower elsewhere.
_LOWERINGS = {
    "dw_pw": ("branches", "concat", "stacked"),
    "pw_dw": ("branches", "stacked"),
    "pw_dw_pw": ("stacked",),
    "spatial": ("stacked",),
}


@dataclass(frozen=True, slots=True)
class Chain:
    """Nodes that replace one site, in topological order; the last one produces the site's output.

    ``weights`` are values with constant content that no graph holds yet: whoever inserts the nodes registers them.
    """

    nodes: tuple[ir.Node, ...]
    weights: tuple[ir.Value, ...]

    @property
    def output(self) -> ir.Value:
        """The value that stands for the site's output."""
        return self.nodes[-1].outputs[0]

    @property
    def convolutions(self) -> tuple[ir.Node, ...]:
        """The Conv nodes among them."""
        return tuple(node for node in self.nodes if node.op_type == "Conv")


def lowerings_for(form: str, rank: int) -> tuple[str, ...]:
    """Lowerings that apply to a form at a rank, a sensible default first.

    Lowerings that would write the same nodes are listed once: at rank 1 only ``stacked`` is left.
    """
    return ("stacked",) if rank == 1 else _LOWERINGS[form]


def lower(
    site: ConvSite, factors: Factors, lowering: str, source: ir.Value, bias: ir.Value | None, unique: Namer
) -> Chain:
    """Write factors as nodes.

    Args:
        site: the convolution to replace; its geometry gives stride, dilation and padding.
        factors: arrays in the dtype they shall have in the graph.
        lowering: one of ``lowerings_for(factors.form, factors.rank)``.
        source: the value the convolution reads.
        bias: (M,), or None.
        unique: makes a name that nothing in the model has yet from a readable hint.

    Raises:
        ValueError: the lowering does not apply, or the factors are those of another convolution.
    """
    if lowering not in lowerings_for(factors.form, factors.rank):
        raise ValueError(f"lowering {lowering} does not apply to {factors.form} at rank {factors.rank}")
    if factors.kernel != site.geometry.kernel:
        raise ValueError(f"factors of a {factors.kernel} kernel do not fit site {site.output}")
    writer = _Writer(site, factors.form, source, bias, unique)
    _WRITERS[factors.form, lowering](writer, factors)
    return Chain(tuple(writer.nodes), tuple(writer.weights))


@dataclass(frozen=True, slots=True)
class _Taps:
    """The attributes of the factor that holds taps: all of them, or those of one axis."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str

    @staticmethod
    def of(geometry: ConvGeometry) -> "_Taps":
        return _Taps(geometry.stride, geometry.dilation, geometry.pads, geometry.auto_pad)

    @staticmethod
    def none(axes: int) -> "_Taps":
        return _Taps((1,) * axes, (1,) * axes, (0,) * (2 * axes), "NOTSET")

    def along(self, axis: int, *, keep: bool) -> "_Taps":
        """Only this axis's attributes (``keep``) or all but this axis's; the others become neutral.

        auto_pad stays: along an axis of one tap and stride 1 it never pads.
        """
        axes = len(self.stride)
        held = [(i == axis) == keep for i in range(axes)]
        if not any(held):
            return _Taps.none(axes)
        return _Taps(
            tuple(s if h else 1 for s, h in zip(self.stride, held, strict=True)),
            tuple(d if h else 1 for d, h in zip(self.dilation, held, strict=True)),
            tuple(p if h else 0 for p, h in zip(self.pads, held * 2, strict=True)),
            self.auto_pad,
        )


def constant_value(name: str, array: NDArray[np.floating]) -> ir.Value:
    """Return a value that holds an array and belongs to no graph yet."""
    tensor = ir.tensor(np.ascontiguousarray(array), name=name)
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)


def store_constants(graph: ir.Graph, ir_version: int, constants: Sequence[ir.Value], unique: Namer) -> list[ir.Node]:
    """Make constants known to a graph: as initializers, or as Constant nodes to insert before their users.

    Before IR version 4 an initializer must also be a graph input; the nodes leave a model's inputs what they are.
    """
    if ir_version >= OVERRIDABLE_SINCE_IR:
        for value in constants:
            graph.register_initializer(value)
        return []
    nodes = []
    for value in constants:
        output = ir.Value(name=value.name, shape=value.shape, type=value.type)
        name = unique(f"{value.name}/constant")
        nodes.append(ir.node("Constant", [], {"value": value.const_value}, outputs=[output], name=name))
        value.replace_all_uses_with(output)
    return nodes


class _Writer:
    """Collects the nodes and weights of one chain."""

    def __init__(self, site: ConvSite, form: str, source: ir.Value, bias: ir.Value | None, unique: Namer) -> None:
        self.source = source
        self.bias = bias
        self.taps = _Taps.of(site.geometry)
        self.plain = _Taps.none(len(site.geometry.kernel))
        self.nodes: list[ir.Node] = []
        self.weights: list[ir.Value] = []
        self._prefix = f"{site.output}/{form}"
        self._unique = unique

    def conv(
        self,
        what: str,
        source: ir.Value,
        weight: NDArray[np.floating],
        taps: _Taps,
        *,
        group: int = 1,
        bias: ir.Value | None = None,
    ) -> ir.Value:
        """Add a Conv with all its attributes spelled out."""
        name = self._unique(f"{self._prefix}/{what}")
        held = self._weight(f"{name}/weight", weight)
        attributes: dict[str, int | str | Sequence[int]] = {
            "kernel_shape": weight.shape[2:],
            "strides": taps.stride,
            "dilations": taps.dilation,
            "group": group,
        }
        # ONNX forbids explicit pads beside an auto_pad that computes them.
        attributes |= {"pads": taps.pads} if taps.auto_pad == "NOTSET" else {"auto_pad": taps.auto_pad}
        return self._add("Conv", name, [source, held] if bias is None else [source, held, bias], attributes)

    def concat(self, sources: Sequence[ir.Value]) -> ir.Value:
        """Join values along the channels."""
        return self._add("Concat", self._unique(f"{self._prefix}/concat"), sources, {"axis": 1})

    def total(self, sources: Sequence[ir.Value]) -> ir.Value:
        """Add values two by two: the only sum that runtimes fuse into a convolution."""
        result = sources[0]
        for value in sources[1:]:
            result = self._add("Add", self._unique(f"{self._prefix}/add"), [result, value], {})
        return result

    def _weight(self, name: str, array: NDArray[np.floating]) -> ir.Value:
        value = constant_value(self._unique(name), array)
        self.weights.append(value)
        return value

    def _add(
        self,
        operator: str,
        name: str,
        inputs: Sequence[ir.Value],
        attributes: dict[str, int | str | Sequence[int]],
    ) -> ir.Value:
        output = ir.Value(name=self._unique(f"{name}/output"), type=self.source.type)
        self.nodes.append(ir.node(operator, inputs, attributes, outputs=[output], name=name))
        return output


def _pointwise(matrix: NDArray[np.floating], axes: int) -> NDArray[np.floating]:
    """(outputs, inputs) as the weight of a 1×1 Conv."""
    return matrix.reshape(*matrix.shape, *(1,) * axes)


def _dw_pw_stacked(w: _Writer, factors: Factors) -> None:
    taps, mix = factors.arrays["depthwise"], factors.arrays["pointwise"]
    channels, rank, *kernel = taps.shape
    filtered = w.conv("depthwise", w.source, taps.reshape(channels * rank, 1, *kernel), w.taps, group=channels)
    joined = _pointwise(mix.reshape(len(mix), channels * rank), len(kernel))
    w.conv("pointwise", filtered, joined, w.plain, bias=w.bias)


def _dw_pw_branches(w: _Writer, factors: Factors) -> None:
    taps, mix = factors.arrays["depthwise"], factors.arrays["pointwise"]
    channels, rank, *kernel = taps.shape
    branches = []
    for j in range(rank):
        filtered = w.conv("depthwise", w.source, taps[:, j, None], w.taps, group=channels)
        bias = w.bias if j == 0 else None
        branches.append(w.conv("pointwise", filtered, _pointwise(mix[:, :, j], len(kernel)), w.plain, bias=bias))
    w.total(branches)


def _dw_pw_concat(w: _Writer, factors: Factors) -> None:
    taps, mix = factors.arrays["depthwise"], factors.arrays["pointwise"]
    channels, rank, *kernel = taps.shape
    filtered = [w.conv("depthwise", w.source, taps[:, j, None], w.taps, group=channels) for j in range(rank)]
    # The Concat holds all channels of branch 0, then all of branch 1: rank is the slower index.
    joined = _pointwise(mix.swapaxes(1, 2).reshape(len(mix), rank * channels), len(kernel))
    w.conv("pointwise", w.concat(filtered), joined, w.plain, bias=w.bias)


def _pw_dw_stacked(w: _Writer, factors: Factors) -> None:
    mix, taps = factors.arrays["pointwise"], factors.arrays["depthwise"]
    outputs, rank, channels = mix.shape
    joined = _pointwise(mix.reshape(outputs * rank, channels), taps.ndim - 2)
    mixed = w.conv("pointwise", w.source, joined, w.plain)
    w.conv("depthwise", mixed, taps, w.taps, group=outputs, bias=w.bias)


def _pw_dw_branches(w: _Writer, factors: Factors) -> None:
    mix, taps = factors.arrays["pointwise"], factors.arrays["depthwise"]
    outputs, rank, _ = mix.shape
    branches = []
    for j in range(rank):
        mixed = w.conv("pointwise", w.source, _pointwise(mix[:, j], taps.ndim - 2), w.plain)
        bias = w.bias if j == 0 else None
        branches.append(w.conv("depthwise", mixed, taps[:, j, None], w.taps, group=outputs, bias=bias))
    w.total(branches)


def _pw_dw_pw_stacked(w: _Writer, factors: Factors) -> None:
    reduce, taps, expand = (factors.arrays[name] for name in ("reduce", "depthwise", "expand"))
    axes = taps.ndim - 1
    reduced = w.conv("reduce", w.source, _pointwise(reduce, axes), w.plain)
    filtered = w.conv("depthwise", reduced, taps[:, None], w.taps, group=len(taps))
    w.conv("expand", filtered, _pointwise(expand, axes), w.plain, bias=w.bias)


def _spatial_stacked(w: _Writer, factors: Factors) -> None:
    axis = spatial.first_axis(factors)
    between = w.conv("first", w.source, factors.arrays["first"], w.taps.along(axis, keep=True))
    w.conv("second", between, factors.arrays["second"], w.taps.along(axis, keep=False), bias=w.bias)


_WRITERS: dict[tuple[str, str], Callable[[_Writer, Factors], None]] = {
    ("dw_pw", "stacked"): _dw_pw_stacked,
    ("dw_pw", "branches"): _dw_pw_branches,
    ("dw_pw", "concat"): _dw_pw_concat,
    ("pw_dw", "stacked"): _pw_dw_stacked,
    ("pw_dw", "branches"): _pw_dw_branches,
    ("pw_dw_pw", "stacked"): _pw_dw_pw_stacked,
    ("spatial", "stacked"): _spatial_stacked,
}

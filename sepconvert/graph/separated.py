"""Find what is separable already: depthwise convolutions with the pointwise layers before or after them.

A *link* leads from one layer to the next through nodes that move nothing from place to place: activations, sums,
scales, normalisations. It is *exact* where one convolution computes the same as both: what stands between is linear for
each channel, and alone reads the first layer. Before padded taps nothing may be added either, because the padding is
zeros. A link that is not exact makes a separable block, as MobileNet's are: taps and channels are apart, although an
activation keeps them from being one convolution.

A pointwise layer belongs to one pair. Exact links are taken first; of the others a depthwise layer takes the pointwise
one after it before the one in front of it. So MobileNetV1 is made of ``dw-pw``, MobileNetV2 of ``pw-dw-pw``.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import onnx_ir as ir

from sepconvert.graph.after_conv import Following, step
from sepconvert.graph.linear import linear_layer
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import Shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.summary import conv_layer
from sepconvert.graph.uses import computed_nodes, node_name, only_reader
from sepconvert.separable.geometry import ConvGeometry

_NAMES = """
    Abs Add BatchNormalization Cast Celu Clip Concat Div Dropout Elu Erf Exp Gelu HardSigmoid HardSwish Identity
    InstanceNormalization LayerNormalization LeakyRelu Log Max Min Mish Mul Neg PRelu Pow Relu Selu Sigmoid Softplus
    Softsign Sqrt Sub Sum Swish Tanh ThresholdedRelu Transpose
    """
_LOCAL = frozenset(_NAMES.split())
"""Operators that make a value of those at the same place (or, for normalisations, scale by statistics)."""

_SCALES = frozenset({"Identity", "Mul", "Div", "Cast", "Dropout"})
"""Operators that, where they are linear, add nothing."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A convolution (or linear layer) that may belong to a pair, with its node."""

    node: ir.Node
    geometry: ConvGeometry
    name: str

    @property
    def output(self) -> str:
        """The name of the value that it makes."""
        return str(self.node.outputs[0].name)

    @property
    def is_depthwise(self) -> bool:
        """Whether it moves values from place to place and hardly between channels: one input or output per group."""
        one = self.geometry
        return one.taps > 1 and one.groups > 1 and one.groups in (one.in_channels, one.out_channels)

    @property
    def is_pointwise(self) -> bool:
        """Whether it mixes all channels at one place."""
        return self.geometry.taps == 1 and self.geometry.groups == 1 and not any(self.geometry.pads)


@dataclass(frozen=True, slots=True)
class Link:
    """From one layer to the next; ``between`` are the operators on the way."""

    first: Piece
    second: Piece
    exact: bool
    between: tuple[str, ...]


@dataclass(slots=True)
class SeparableBlock:
    """One separable convolution or block: depthwise layers (several where their outputs are joined), and pointwise."""

    depthwise: list[Piece]
    before: Link | None = None
    after: Link | None = None
    joined: list[Link] = field(default_factory=list)

    @property
    def links(self) -> list[Link]:
        """The links of the pair, in the order in which its layers run."""
        return [link for link in (self.before, *self.joined, self.after) if link is not None]

    @property
    def pieces(self) -> list[Piece]:
        """Its layers in the order in which they run."""
        first = [] if self.before is None else [self.before.first]
        return [*first, *self.depthwise, *([] if self.after is None else [self.after.second])]

    @property
    def form(self) -> str:
        """The form that it has."""
        names = [name for name, found in (("pw", self.before), ("dw", True), ("pw", self.after)) if found]
        return "_".join(names)

    @property
    def rank(self) -> int:
        """R of a bottleneck (its depthwise channels), else r (filters per channel)."""
        one = self.depthwise[0].geometry
        if self.before is not None and self.after is not None:
            return sum(piece.geometry.out_channels for piece in self.depthwise)
        if self.after is not None:
            return sum(piece.geometry.out_channels for piece in self.depthwise) // one.in_channels
        return one.in_channels // one.out_channels

    @property
    def is_exact(self) -> bool:
        """Whether one convolution computes the same."""
        return all(link.exact for link in self.links)


def find_separable(model: LoadedModel, shapes: Shapes) -> list[SeparableBlock]:
    """Return the pairs of a model, in the order of their depthwise layers."""
    pieces = {piece.node: piece for piece in _pieces(model, shapes)}
    depthwise = [piece for piece in pieces.values() if piece.is_depthwise]
    if not depthwise:
        return []
    links = [link for piece in pieces.values() for link in _links_from(piece, pieces)]
    pairs = {piece.node: SeparableBlock([piece]) for piece in depthwise}
    taken: dict[ir.Node, SeparableBlock] = {}
    for exact in (True, False):
        for link in links:
            if link.exact == exact and link.first.is_depthwise:
                _take_after(link, pairs, taken)
        for link in links:
            pair = pairs.get(link.second.node)
            if link.exact == exact and pair is not None and pair.before is None and link.first.node not in taken:
                pair.before = link
                taken[link.first.node] = pair
    distinct = [pair for piece in depthwise if (pair := pairs[piece.node]).depthwise[0] is piece]
    return [pair for pair in distinct if pair.links]


def _take_after(link: Link, pairs: dict[ir.Node, SeparableBlock], taken: dict[ir.Node, SeparableBlock]) -> None:
    """Let a depthwise layer have the pointwise one after it, or join those that have it through a Concat."""
    pair, other = pairs[link.first.node], taken.get(link.second.node)
    if pair.after is not None or (pair.before is not None and pair.before.exact and not link.exact):
        return  # a whole separable convolution ends before the activation after it
    if other is None:
        pair.after = link
        taken[link.second.node] = pair
    elif _joins(other, link) and other is not pair and pair.before is None:
        other.depthwise += pair.depthwise
        other.joined.append(link)
        pairs[link.first.node] = other


def _joins(pair: SeparableBlock, link: Link) -> bool:
    """Whether a link ends in the pair's pointwise layer after a Concat with what the pair has already."""
    return "Concat" in link.between and pair.after is not None and pair.after.second is link.second


def _pieces(model: LoadedModel, shapes: Shapes) -> Iterator[Piece]:
    for node in computed_nodes(model.ir.graph):
        geometry = conv_layer(node, model, shapes)
        if geometry is None and node.domain in ("", "ai.onnx") and node.op_type in ("Gemm", "MatMul"):
            found = linear_layer(node, model, shapes)
            geometry = found.geometry if isinstance(found, ConvSite) else None
        if geometry is not None:
            yield Piece(node, geometry, node_name(node))


def _links_from(piece: Piece, pieces: Mapping[ir.Node, Piece]) -> list[Link]:
    """The links of a layer to those of the other sort that it reaches, the nearest first."""
    if not (piece.is_depthwise or piece.is_pointwise):
        return []
    found, straight = [], _straight(piece)
    for node, between in _reached(piece.node):
        other = pieces.get(node)
        if other is None or not (other.is_pointwise if piece.is_depthwise else other.is_depthwise):
            continue
        exact = node in straight and (piece.is_depthwise or _adds_nothing(piece, between, other))
        found.append(Link(piece, other, exact, between))
    return found


def _reached(start: ir.Node) -> Iterator[tuple[ir.Node, tuple[str, ...]]]:
    """Nodes that a node's output reaches through local operators, each with the operators on the shortest way."""
    ways: dict[ir.Node, tuple[str, ...]] = {}
    pending: list[tuple[ir.Value, tuple[str, ...]]] = [(start.outputs[0], ())]
    for value, way in pending:
        for use in value.uses():
            node = use.node
            is_local = node.domain in ("", "ai.onnx") and node.op_type in _LOCAL
            if node in ways or not (is_local or use.idx == 0):
                continue
            ways[node] = way
            if is_local:
                pending.append((node.outputs[0], (*way, node.op_type)))
            else:
                yield node, way


def _straight(piece: Piece) -> set[ir.Node]:
    """The nodes that a layer's output alone reaches through what is linear for each channel."""
    geometry = piece.geometry
    found, value = (
        Following(np.ones(geometry.out_channels), tuple(range(2 + len(geometry.kernel)))),
        piece.node.outputs[0],
    )
    while (node := only_reader(value)) is not None:
        following = step(node, value, found)
        if following is None:
            return {node}
        found, value = following, node.outputs[0]
    return set()


def _adds_nothing(first: Piece, between: Sequence[str], taps: Piece) -> bool:
    """Whether what a pointwise layer gives is linear in its input where that is padded with zeros behind it."""
    padded = any(taps.geometry.pads) or taps.geometry.auto_pad not in ("", "NOTSET", "VALID")
    has_bias = len(first.node.inputs) > 2 and first.node.inputs[2] is not None
    return not padded or (not has_bias and all(name in _SCALES for name in between))


def told(between: Sequence[str]) -> list[str]:
    """Operators on a way, each run of the same once."""
    return [name for name, _ in groupby(between)]

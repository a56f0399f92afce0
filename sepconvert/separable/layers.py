"""The layers that stand in the place of one convolution: the one description that everything else follows from.

Nodes, modules, costs, modelled times, bounds on rounding and drawings are all made from it. A form says which layers
(see ``forms``); what each layer holds of the convolution's kernel, stride, dilation and padding follows from the axes
whose taps it has: the convolution's own values along these, neutral ones along the others.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod

from sepconvert.separable.geometry import ConvGeometry, Cost

DEPTHWISE, GROUPED, POINTWISE, CONV = "depthwise", "grouped", "pointwise", "conv"
ADD, CONCAT = "add", "concat"


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution of the replacement.

    Attributes:
        name: of the factor whose array is its weight; also the hint for nodes and the key in a module.
        kind: ``depthwise`` or ``grouped`` (as many groups as it has inputs or outputs, whichever are fewer),
            ``pointwise`` (1×1) or ``conv``.
        inputs: channels.
        outputs: channels.
        axes: spatial axes whose taps it holds.
        sets: groups of the convolution that it stands in the place of: no layer mixes their channels.
    """

    name: str
    kind: str
    inputs: int
    outputs: int
    axes: tuple[int, ...] = ()
    sets: int = 1

    @property
    def groups(self) -> int:
        """Number of groups."""
        return min(self.inputs, self.outputs) if self.kind in (DEPTHWISE, GROUPED) else self.sets

    def kernel(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """Its kernel, from that of the whole convolution."""
        return tuple(side if axis in self.axes else 1 for axis, side in enumerate(whole))

    def weight_shape(self, whole: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of its weight: (outputs, inputs per group, *kernel)."""
        return (self.outputs, self.inputs // self.groups, *self.kernel(whole))

    def within(self, whole: ConvGeometry) -> ConvGeometry:
        """Its attributes, sizes left open.

        auto_pad stays with every layer that holds taps: along an axis of one tap and stride 1 it never pads.
        """
        held = [axis in self.axes for axis in range(len(whole.kernel))]
        return replace(
            whole,
            in_channels=self.inputs,
            out_channels=self.outputs,
            kernel=self.kernel(whole.kernel),
            stride=_where(held, whole.stride, 1),
            dilation=_where(held, whole.dilation, 1),
            pads=_where(held * 2, whole.pads, 0),
            auto_pad=whole.auto_pad if any(held) else "NOTSET",
            in_spatial=None,
            out_spatial=None,
            groups=self.groups,
            transposed=whole.transposed and any(held),
            output_pads=_where(held, whole.output_pads, 0) if whole.output_pads and any(held) else (),
        )


@dataclass(frozen=True, slots=True)
class Layers:
    """Equal branches side by side, how their results are joined, and what follows.

    The bias belongs to the last layer, on the first branch where nothing follows the sum: a layer before padded taps
    has none, because the padding must see zeros.

    Attributes:
        branch: layers one after another.
        copies: how many such branches read the convolution's input.
        join: ``add``, ``concat`` (along the channels, branch after branch), or None for a single branch.
        tail: layers after the join.
    """

    branch: tuple[Layer, ...]
    copies: int = 1
    join: str | None = None
    tail: tuple[Layer, ...] = ()

    @property
    def written(self) -> tuple[tuple[Layer, int], ...]:
        """All layers in the order in which nodes are written, each with the number of its branch (0 in the tail)."""
        branches = [(layer, copy) for copy in range(self.copies) for layer in self.branch]
        return (*branches, *((layer, 0) for layer in self.tail))

    @property
    def names(self) -> tuple[str, ...]:
        """Keys of all layers in a module, in the order of ``written``: ``depthwise.1`` is that of branch 1."""
        alone = set(self.tail) if self.copies > 1 else {*self.branch, *self.tail}
        return tuple(layer.name if layer in alone else f"{layer.name}.{copy}" for layer, copy in self.written)

    def in_groups(self, groups: int) -> "Layers":
        """The layers of a convolution of so many groups, each of which is made into these.

        Raises:
            ValueError: branches are concatenated: their channels would have to be sorted by group again.
        """
        if groups == 1:
            return self
        if self.join == CONCAT:
            raise ValueError("branches of a grouped convolution cannot be concatenated")

        def wider(layer: Layer) -> Layer:
            return replace(layer, inputs=layer.inputs * groups, outputs=layer.outputs * groups, sets=groups)

        return replace(self, branch=tuple(map(wider, self.branch)), tail=tuple(map(wider, self.tail)))

    @property
    def last(self) -> Layer:
        """The layer that has the bias."""
        return (self.tail or self.branch)[-1]

    @property
    def start_mixes(self) -> bool:
        """Whether what reads the convolution's input mixes all channels, as a pointwise layer does."""
        return self.branch[0].groups == 1

    def is_start(self, layer: Layer) -> bool:
        """Whether a layer reads the convolution's input."""
        return layer is self.branch[0]

    def passes(self, geometry: ConvGeometry) -> Iterator["Pass"]:
        """Yield the layers of one branch and the tail with the positions that they read and write."""
        size = list(geometry.in_spatial or [None] * len(geometry.kernel))
        for layer in (*self.branch, *self.tail):
            before = _positions(size, geometry.images)
            for axis in layer.axes:
                size[axis] = None if geometry.out_spatial is None else geometry.out_spatial[axis]
            copies = self.copies if layer in self.branch else 1
            weights = prod(layer.weight_shape(geometry.kernel))
            after = _positions(size, geometry.images)
            yield Pass(layer, copies, weights, before, after, scatters=geometry.transposed and bool(layer.axes))

    def cost(self, geometry: ConvGeometry) -> Cost:
        """Weights and MACs, every layer counted at its own output size; MACs are None where a size is unknown."""
        params, macs = 0, 0
        known = True
        for use in geometry.uses:
            params = 0  # of the weights there is one copy
            for step in self.passes(use):
                params += step.copies * step.weights
                known &= step.positions is not None
                macs += step.copies * step.weights * (step.positions or 0)
        return Cost(params, macs if known else None)


@dataclass(frozen=True, slots=True)
class Pass:
    """One layer at work: how many copies of it, weights of one, positions per sample before and after (or None).

    ``scatters`` tells that it is a transposed convolution.
    """

    layer: Layer
    copies: int
    weights: int
    before: int | None
    after: int | None
    scatters: bool = False

    @property
    def positions(self) -> int | None:
        """Number of positions at which every weight multiplies once; None when unknown."""
        return self.before if self.scatters else self.after


def _where(held: list[bool], values: tuple[int, ...], neutral: int) -> tuple[int, ...]:
    return tuple(value if mine else neutral for value, mine in zip(values, held, strict=True))


def _positions(size: list[int | None], images: int) -> int | None:
    known = [side for side in size if side is not None]
    return images * prod(known) if len(known) == len(size) else None

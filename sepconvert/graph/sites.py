"""What the survey of a graph finds: layers that can be rewritten, each described as a convolution.

The graph may hold such a layer in other orders of axes than a convolution (N, C, *spatial) with a kernel (M, C/g, *k):
a linear layer has its channels last, a ConvTranspose its weight the other way round, and a kernel that spans a whole
axis of a one-channel map has that axis for channels. ``ConvSite`` tells the orders, and turns arrays.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import Layer, Layers

Side = int | str | None

CONV, POINTWISE, LINEAR, GROUPED, TRANSPOSED = "conv", "pointwise", "linear", "grouped", "transposed"
SHARED = "shared"
LAYERS = (CONV, POINTWISE, LINEAR, GROUPED, TRANSPOSED, SHARED)
"""Kinds of layers that may be rewritten; several of one of the others that share a weight are ``SHARED`` too."""


@dataclass(frozen=True, slots=True)
class Notation:
    """How a graph writes a layer.

    Attributes:
        operator: ``Conv``, ``ConvTranspose``, ``Gemm`` (``x Wᵀ + b``) or ``MatMul`` (``x W``).
        seen_axes: the order of the input's axes that makes it (N, C, *spatial); () where it is that already.
        made_axes: the same for the output.
        transposed_weight: whether a Gemm's weight is stored as (C, M).
    """

    operator: str = "Conv"
    seen_axes: tuple[int, ...] = ()
    made_axes: tuple[int, ...] = ()
    transposed_weight: bool = False

    def own_geometry(self, geometry: ConvGeometry) -> ConvGeometry:
        """The geometry with which the graph's own node is written, from that of the layer's description.

        They differ where a kernel spans a whole axis, whose sides are the description's channels.
        """
        if not self.spans_axis:
            return geometry
        kernel = list(geometry.kernel)
        kernel[self.single_axis or 0] = geometry.in_channels
        return replace(geometry, in_channels=1, kernel=tuple(kernel))

    @property
    def single_axis(self) -> int | None:
        """The spatial axis of the description that always has one position, if there is one."""
        if self.operator == "Conv":
            return self.seen_axes.index(1) - 2 if self.seen_axes else None
        return 0 if len(self.seen_axes) == 2 else None

    @property
    def spans_axis(self) -> bool:
        """Whether the layer is a convolution whose kernel spans a whole axis of a map of one channel."""
        return self.operator == "Conv" and bool(self.seen_axes)

    def turns(self, layers: Layers) -> bool:
        """Whether the input's axes are turned for these layers: where what reads it works on channels one by one."""
        return self.spans_axis and not layers.start_mixes

    def spanning(self, layers: Layers, layer: Layer) -> bool:
        """Whether one of the layers spans the axis itself, and so reads the input as the graph has it."""
        return self.spans_axis and layers.start_mixes and layers.is_start(layer)

    def stored(self, kernel: NDArray[np.floating], groups: int) -> NDArray[np.floating]:
        """A kernel (M, C/g, *k) in the order of axes that the node's weight has."""
        if self.operator == "ConvTranspose":
            parts = np.split(kernel, groups)
            return np.concatenate([part.swapaxes(0, 1) for part in parts])
        if self.operator in ("Gemm", "MatMul"):
            matrix = kernel.reshape(kernel.shape[:2])
            return matrix.T if self.operator == "MatMul" or self.transposed_weight else matrix
        return kernel.transpose(np.argsort(self.seen_axes)) if self.spans_axis else kernel

    def kernel(self, stored: NDArray[np.generic], geometry: ConvGeometry) -> NDArray[np.generic]:
        """The kernel (M, C/g, *k) of a weight as the node has it."""
        if self.operator == "ConvTranspose":
            parts = np.split(stored, geometry.groups)
            return np.concatenate([part.swapaxes(0, 1) for part in parts])
        if self.operator == "MatMul" or self.transposed_weight:
            stored = stored.T
        elif self.spans_axis:
            stored = stored.transpose(self.seen_axes)
        return stored.reshape(geometry.weight_shape)


CONVOLUTION = Notation()


@dataclass(frozen=True, slots=True)
class ConvSite:
    """A layer that could be rewritten, identified by the name of its output value.

    ``name`` is the node's name, or the output's where the node has none: for people only, it may repeat. ``dtype`` is
    the numpy spelling of the weight's type (``float32``, ``float16``, ``bfloat16``, ``float64``). ``bias`` names the
    bias value or is None; ``bias_is_fixed`` tells that nothing computes it at run time, that no caller may feed it, and
    that all uses of the weight have the same, so that another one may take its place. ``keep_reason`` is a sentence
    when the site is kept by default (one input or one output channel), else None. ``layer`` is the kind of layer
    (``conv``, ``pointwise``, ``linear``, ``grouped`` or ``transposed``), ``notation`` how the graph writes it.
    ``product`` names the output of the node that multiplies: not the site's where an Add behind a MatMul adds the bias.

    A weight that several layers use is one site, of which there is one set of factors: the first of them, with
    ``others``, those behind it in the graph's order. Its ``geometry`` is then a ``TiedGeometry``.
    """

    output: str
    name: str
    input: str
    weight: str
    bias: str | None
    dtype: str
    geometry: ConvGeometry
    keep_reason: str | None = None
    bias_is_fixed: bool = True
    layer: str = CONV
    notation: Notation = CONVOLUTION
    product: str = ""
    others: "tuple[ConvSite, ...]" = ()

    def __post_init__(self) -> None:
        if not self.product:
            object.__setattr__(self, "product", self.output)

    @property
    def uses(self) -> "tuple[ConvSite, ...]":
        """Every layer that uses the weight, one by one, in the graph's order."""
        if not self.others:
            return (self,)
        return (replace(self, geometry=self.geometry.uses[0], others=()), *self.others)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs of all uses."""
        return (self.output, *(other.output for other in self.others))

    def seen(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """The site's input as (N, C, *spatial)."""
        return _ordered(values, self.notation.seen_axes)

    def made(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """The site's output as (N, M, *spatial)."""
        return _ordered(values, self.notation.made_axes)

    def stored(self, kernel: NDArray[np.floating]) -> NDArray[np.floating]:
        """A kernel (M, C/g, *k) in the order of axes that the weight has in the graph."""
        return self.notation.stored(kernel, self.geometry.groups)

    def unseen(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """Undo ``seen``."""
        axes = self.notation.seen_axes
        if len(axes) == 2:
            return values[..., 0]
        return values.transpose(np.argsort(axes)) if axes else values

    def seen_sides(self, batch: Side, spatial: Sequence[Side]) -> list[Side]:
        """Dimensions of the site's input, from those of the description's."""
        return _back([batch, self.geometry.in_channels, *spatial], self.notation.seen_axes)

    def made_sides(self, batch: Side, spatial: Sequence[Side]) -> list[Side]:
        """Dimensions of the site's output, from those of the description's."""
        return _back([batch, self.geometry.out_channels, *spatial], self.notation.made_axes)

    @property
    def dimensions(self) -> int:
        """Number of dimensions of the site's input and output."""
        return len(self.notation.seen_axes) or 2 + len(self.geometry.kernel)


def _ordered(values: NDArray[np.floating], axes: tuple[int, ...]) -> NDArray[np.floating]:
    """Axes in the order (N, C, *spatial); a matrix gets one position."""
    ordered = values.transpose(axes) if axes else values
    return ordered[..., None] if len(axes) == 2 else ordered


def _back(sides: Sequence[Side], axes: tuple[int, ...]) -> list[Side]:
    return [sides[axes.index(axis)] for axis in range(len(axes))] if axes else list(sides)

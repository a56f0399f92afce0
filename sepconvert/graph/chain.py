"""Nodes that stand in the place of one convolution, and how they are put together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from sepconvert.graph.names import Namer
from sepconvert.graph.weights import OVERRIDABLE_SINCE_IR
from sepconvert.separable.geometry import ConvGeometry


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


@dataclass(frozen=True, slots=True)
class Taps:
    """The attributes of the factor that holds taps: all of them, or those of one axis."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    pads: tuple[int, ...]
    auto_pad: str

    @staticmethod
    def of(geometry: ConvGeometry) -> "Taps":
        """All of a convolution's."""
        return Taps(geometry.stride, geometry.dilation, geometry.pads, geometry.auto_pad)

    @staticmethod
    def none(axes: int) -> "Taps":
        """Those of a pointwise convolution."""
        return Taps((1,) * axes, (1,) * axes, (0,) * (2 * axes), "NOTSET")

    def along(self, axis: int, *, keep: bool) -> "Taps":
        """Only this axis's attributes (``keep``) or all but this axis's; the others become neutral.

        auto_pad stays: along an axis of one tap and stride 1 it never pads.
        """
        axes = len(self.stride)
        held = [(i == axis) == keep for i in range(axes)]
        if not any(held):
            return Taps.none(axes)
        return Taps(
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


class ChainWriter:
    """Collects the nodes and weights of one chain."""

    def __init__(
        self, geometry: ConvGeometry, source: ir.Value, bias: ir.Value | None, prefix: str, unique: Namer
    ) -> None:
        self.source = source
        self.bias = bias
        self.taps = Taps.of(geometry)
        self.plain = Taps.none(len(geometry.kernel))
        self.nodes: list[ir.Node] = []
        self.weights: list[ir.Value] = []
        self._prefix = prefix
        self._unique = unique

    def conv(
        self,
        what: str,
        source: ir.Value,
        weight: NDArray[np.floating],
        taps: Taps,
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

    def chain(self) -> Chain:
        """What has been added so far."""
        return Chain(tuple(self.nodes), tuple(self.weights))

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

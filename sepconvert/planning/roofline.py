"""What a convolution and its separable forms would cost on a nominal core: the model for when nothing is timed.

Every node takes as long as its multiply-adds at the core's peak or its bytes at the memory's bandwidth, whichever is
longer (Williams et al., CACM 2009, "Roofline"). Fewer MACs are not proportionally faster: a depthwise factor has few
MACs per byte, and a small rank leaves the same activations to move. The figures compare candidates; they are never a
measurement and are labelled ``roofline`` wherever they are shown.
"""

from dataclasses import dataclass

from sepconvert.number_types import numpy_dtype
from sepconvert.separable.forms import layers_at
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import ADD, CONCAT, DEPTHWISE, GROUPED, Pass
from sepconvert.separable.scheme import Scheme


@dataclass(frozen=True, slots=True)
class Machine:
    """Nominal speed of one core: multiply-adds of dense and of depthwise kernels, bytes to and from memory."""

    macs_per_ms: float = 40e6
    depthwise_macs_per_ms: float = 10e6
    bytes_per_ms: float = 12e6


@dataclass(frozen=True, slots=True)
class NodeCost:
    """One node: its multiply-adds, the values it reads and writes (weights included), and whether it is depthwise."""

    macs: int
    values: int
    depthwise: bool = False


NOMINAL = Machine()


def dense_ms(geometry: ConvGeometry, dtype: str = "float32", machine: Machine = NOMINAL) -> float:
    """Roofline time of the dense convolution, ms per sample.

    Raises:
        ValueError: the spatial size is not known.
    """
    before, after = _positions(geometry)
    weights, channels, outputs = geometry.dense_cost.params, geometry.in_channels, geometry.out_channels
    return _time([NodeCost(weights * after, weights + channels * before + outputs * after)], dtype, machine)


def candidate_ms(geometry: ConvGeometry, scheme: Scheme, dtype: str = "float32", machine: Machine = NOMINAL) -> float:
    """Roofline time of a site that is made separable, ms per sample.

    Raises:
        ValueError: the spatial size is not known, or the lowering does not apply.
    """
    return _time(steps(geometry, scheme), dtype, machine)


def rest_ms(macs: int) -> float:
    """Roofline time of layers that are not looked at one by one: their multiply-adds at the core's peak."""
    return macs / NOMINAL.macs_per_ms


def steps(geometry: ConvGeometry, scheme: Scheme) -> list[NodeCost]:
    """Return the nodes that a scheme is written as; sums and joins of branches count as reading and writing values."""
    layers = layers_at(scheme, geometry)
    _positions(geometry)
    passes = list(layers.passes(geometry))
    branch, tail = passes[: len(layers.branch)], passes[len(layers.branch) :]
    end = branch[-1].layer.outputs * (branch[-1].after or 0)
    joins = {
        None: [],
        ADD: [NodeCost(0, 3 * end)] * (layers.copies - 1),
        CONCAT: [NodeCost(0, 2 * layers.copies * end)],
    }
    return [*map(_node, branch * layers.copies), *joins[layers.join], *map(_node, tail)]


def _node(step: Pass) -> NodeCost:
    layer, before, after = step.layer, step.before or 0, step.after or 0
    values = step.weights + layer.inputs * before + layer.outputs * after
    return NodeCost(step.weights * after, values, depthwise=layer.kind in (DEPTHWISE, GROUPED))


def _time(nodes: list[NodeCost], dtype: str, machine: Machine) -> float:
    width = numpy_dtype(dtype).itemsize
    total = 0.0
    for node in nodes:
        peak = machine.depthwise_macs_per_ms if node.depthwise else machine.macs_per_ms
        total += max(node.macs / peak, node.values * width / machine.bytes_per_ms)
    return total


def _positions(geometry: ConvGeometry) -> tuple[int, int]:
    before, after = geometry.in_positions, geometry.out_positions
    if before is None or after is None:
        raise ValueError("a time needs a known spatial size")
    return before, after

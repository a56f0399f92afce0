"""What a convolution and its separable forms would cost on a nominal core: the model for when nothing is timed.

Every node takes as long as its multiply-adds at the core's peak or its bytes at the memory's bandwidth, whichever is
longer (Williams et al., CACM 2009, "Roofline"). Fewer MACs are not proportionally faster: a depthwise factor has few
MACs per byte, and a small rank leaves the same activations to move. The figures compare candidates; they are never a
measurement and are labelled ``roofline`` wherever they are shown.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from sepconvert.separable import spatial
from sepconvert.separable.geometry import ConvGeometry


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
    taps = geometry.taps
    return _time([_conv(geometry.in_channels, geometry.out_channels, taps, before, after)], dtype, machine)


def candidate_ms(
    geometry: ConvGeometry, form: str, rank: int, lowering: str, dtype: str = "float32", machine: Machine = NOMINAL
) -> float:
    """Roofline time of a form at a rank, written as ``lowering`` says, ms per sample.

    Raises:
        ValueError: the spatial size is not known.
    """
    return _time(steps(geometry, form, rank, lowering), dtype, machine)


def rest_ms(macs: int, element_ops: int, machine: Machine = NOMINAL) -> float:
    """Roofline time of layers that are not looked at one by one: their multiply-adds, and 8 bytes per element op."""
    return macs / machine.macs_per_ms + 8 * element_ops / machine.bytes_per_ms


def steps(geometry: ConvGeometry, form: str, rank: int, lowering: str) -> list[NodeCost]:
    """Return the nodes that a form is written as; sums and joins of branches count as reading and writing values."""
    before, after = _positions(geometry)
    channels, outputs, taps = geometry.in_channels, geometry.out_channels, geometry.taps
    if form == "pw_dw_pw":
        return [
            _conv(channels, rank, 1, before, before),
            _depthwise(rank, rank, taps, before, after),
            _conv(rank, outputs, 1, after, after),
        ]
    if form == "spatial":
        return _spatial_steps(geometry, rank)
    return (_dw_pw_steps if form == "dw_pw" else _pw_dw_steps)(geometry, rank, lowering)


def _dw_pw_steps(geometry: ConvGeometry, rank: int, lowering: str) -> list[NodeCost]:
    before, after = _positions(geometry)
    channels, outputs, taps = geometry.in_channels, geometry.out_channels, geometry.taps
    filtered = _depthwise(channels, channels, taps, before, after)
    if lowering == "branches":
        added = NodeCost(0, 3 * outputs * after)
        return [filtered, _conv(channels, outputs, 1, after, after)] * rank + [added] * (rank - 1)
    mixed = _conv(rank * channels, outputs, 1, after, after)
    if lowering == "concat":
        return [*[filtered] * rank, NodeCost(0, 2 * rank * channels * after), mixed]
    return [_depthwise(channels, rank * channels, taps, before, after), mixed]


def _pw_dw_steps(geometry: ConvGeometry, rank: int, lowering: str) -> list[NodeCost]:
    before, after = _positions(geometry)
    channels, outputs, taps = geometry.in_channels, geometry.out_channels, geometry.taps
    if lowering == "branches":
        branch = [_conv(channels, outputs, 1, before, before), _depthwise(outputs, outputs, taps, before, after)]
        return branch * rank + [NodeCost(0, 3 * outputs * after)] * (rank - 1)
    mixed = _conv(channels, rank * outputs, 1, before, before)
    return [mixed, _depthwise(rank * outputs, outputs, taps, before, after)]


def _spatial_steps(geometry: ConvGeometry, rank: int) -> list[NodeCost]:
    before, after = _positions(geometry)
    axis = spatial.first_axes(geometry)[0]
    one, two = (prod(kernel) for kernel in spatial.split_kernel(geometry.kernel, axis))
    sizes = list(geometry.in_spatial or ())
    if axis < len(sizes):  # in 1-D the second order starts with a pointwise factor, which changes no size
        sizes[axis] = (geometry.out_spatial or ())[axis]
    between = prod(sizes)
    return [
        _conv(geometry.in_channels, rank, one, before, between),
        _conv(rank, geometry.out_channels, two, between, after),
    ]


def _conv(channels: int, outputs: int, taps: int, before: int, after: int) -> NodeCost:
    weights = channels * outputs * taps
    return NodeCost(weights * after, weights + channels * before + outputs * after)


def _depthwise(channels: int, outputs: int, taps: int, before: int, after: int) -> NodeCost:
    weights = max(channels, outputs) * taps
    return NodeCost(weights * after, weights + channels * before + outputs * after, depthwise=True)


def _time(nodes: list[NodeCost], dtype: str, machine: Machine) -> float:
    width = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
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

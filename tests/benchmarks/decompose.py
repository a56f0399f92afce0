"""Data-free decompositions of a convolution, as their papers publish them: the peers of this project.

=====================  ===============================================================================================
``nd_dw_pw``           Network Decoupling, depthwise first: truncated SVD of every input channel's slice (Guo et al.,
                       BMVC 2018, theorem 1); a sum of r blocks
``nd_pw_dw``           the same over output channels, pointwise first
``gdws``               generalised depthwise separable: the largest σ² of all slices of the layer, so that the depth
                       multiplier differs between input channels (Dbouk & Shanbhag, NeurIPS 2021, theorem 1)
``spatial_svd``        one SVD, then a kh×1 and a 1×kw convolution (Jaderberg et al., BMVC 2014; Tai et al., ICLR 2016)
``tucker2``            1×1, k×k and 1×1 convolution (Kim et al., ICLR 2016), by TensorLy's ``partial_tucker``
=====================  ===============================================================================================

Written apart from the package on purpose. Each function takes the weight ``W (M, C, kh, kw)``, the geometry and the
MACs that may be used, and returns the convolutions that replace it, at the largest rank within those MACs but at least
rank 1, or None where that costs as much as the convolution itself. Every step's MACs are counted at its own output
size, so a pointwise step before the taps runs at the input's resolution. 2-D only, explicit pads only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.geometry import ConvGeometry

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Step:
    """One convolution: weight (outputs, inputs/groups, kh, kw).

    ``gather`` picks input channels first; ``scatter`` says of every channel afterwards which of the outputs it is, or
    (the number of outputs) that it is zero.
    """

    weight: Array
    groups: int = 1
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    gather: NDArray[np.int64] | None = None
    scatter: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Replacement:
    """Chains of convolutions whose sum replaces one, and the dense ``kernel`` they amount to."""

    chains: tuple[tuple[Step, ...], ...]
    kernel: Array
    rank: str
    macs: int


def network_decoupling_dw_pw(weight: Array, geometry: ConvGeometry, budget: float) -> Replacement | None:
    """Per input channel, ``W[:, c, :] ≈ Σ_{j<r} P[:, c, j] D[c, j, :]``: r·C·(K + M) MACs per output position."""
    outputs, channels, taps = _sizes(weight)
    per_rank = channels * (taps + outputs) * positions(geometry.out_spatial)
    rank = max(1, min(int(budget // per_rank), taps, outputs))
    if rank * per_rank >= _dense(geometry):
        return None
    left, right = _truncated(weight.reshape(outputs, channels, taps).swapaxes(0, 1), rank)  # (C, M, r), (C, r, K)
    chains = []
    for j in range(rank):
        depthwise = right[:, j].reshape(channels, 1, *geometry.kernel)
        chains.append((taps_step(depthwise, geometry, channels), Step(left[:, :, j].T[:, :, None, None])))
    kernel = (left @ right).swapaxes(0, 1).reshape(weight.shape)
    return Replacement(tuple(chains), kernel, f"r={rank}", rank * per_rank)


def network_decoupling_pw_dw(weight: Array, geometry: ConvGeometry, budget: float) -> Replacement | None:
    """Per output channel, ``W[m, :, :] ≈ Σ_{j<r} P[m, j, :] D[m, j, :]``."""
    outputs, channels, taps = _sizes(weight)
    before, after = positions(geometry.in_spatial), positions(geometry.out_spatial)
    per_rank = outputs * (channels * before + taps * after)
    rank = max(1, min(int(budget // per_rank), taps, channels))
    if rank * per_rank >= _dense(geometry):
        return None
    left, right = _truncated(weight.reshape(outputs, channels, taps), rank)  # (M, C, r), (M, r, K)
    chains = []
    for j in range(rank):
        depthwise = right[:, j].reshape(outputs, 1, *geometry.kernel)
        chains.append((Step(left[:, :, j][:, :, None, None]), taps_step(depthwise, geometry, outputs)))
    return Replacement(tuple(chains), (left @ right).reshape(weight.shape), f"r={rank}", rank * per_rank)


def gdws(weight: Array, geometry: ConvGeometry, budget: float) -> Replacement | None:
    """Keep the largest singular values of all input channels' slices: g of them cost g·(K + M) per output position."""
    outputs, channels, taps = _sizes(weight)
    per_component = (taps + outputs) * positions(geometry.out_spatial)
    count = max(1, min(int(budget // per_component), channels * min(taps, outputs)))
    if count * per_component >= _dense(geometry):
        return None
    left, values, right = np.linalg.svd(weight.reshape(outputs, channels, taps).swapaxes(0, 1), full_matrices=False)
    chosen = np.sort(np.argsort(-(values**2), axis=None, kind="stable")[:count])  # by channel, then by size
    channel, place = np.unravel_index(chosen, values.shape)
    pointwise = left[channel, :, place] * values[channel, place][:, None]  # (g, M)
    depthwise = right[channel, place]  # (g, K)
    kernel = np.zeros((channels, outputs, taps))
    np.add.at(kernel, channel, pointwise[:, :, None] * depthwise[:, None, :])
    filtering = taps_step(
        depthwise.reshape(count, 1, *geometry.kernel), geometry, count, gather=channel.astype(np.int64)
    )
    multipliers = np.bincount(channel, minlength=channels)
    return Replacement(
        ((filtering, Step(pointwise.T[:, :, None, None])),),
        kernel.swapaxes(0, 1).reshape(weight.shape),
        f"g={count} ({multipliers.min()} to {multipliers.max()} per channel)",
        count * per_component,
    )


def spatial_svd(weight: Array, geometry: ConvGeometry, budget: float) -> Replacement | None:
    """``W[m, c, i, j] ≈ Σ_q U[q, c, i] V[m, q, j]``: kh×1 first, at (output height × input width)."""
    outputs, channels, height, width = weight.shape
    (_, in_width), (out_height, out_width) = _known(geometry.in_spatial), _known(geometry.out_spatial)
    per_rank = channels * height * out_height * in_width + outputs * width * out_height * out_width
    rank = max(1, min(int(budget // per_rank), channels * height, outputs * width))
    if rank * per_rank >= _dense(geometry):
        return None
    matrix = weight.transpose(1, 2, 0, 3).reshape(channels * height, outputs * width)
    left, right = _truncated(matrix, rank)
    top, start, bottom, end = geometry.pads
    (down, across), (apart, aside) = geometry.stride, geometry.dilation
    first = Step(left.T.reshape(rank, channels, height, 1), 1, (down, 1), (apart, 1), (top, 0, bottom, 0))
    second = Step(right.reshape(rank, outputs, 1, width).swapaxes(0, 1), 1, (1, across), (1, aside), (0, start, 0, end))
    kernel = (left @ right).reshape(channels, height, outputs, width).transpose(2, 0, 1, 3)
    return Replacement(((first, second),), kernel, f"R={rank}", rank * per_rank)


def tucker2(weight: Array, geometry: ConvGeometry, budget: float) -> Replacement | None:
    """``W ≈ core ×_M A ×_C B`` by TensorLy, both channel ranks the same share of their sizes."""
    outputs, channels, taps = _sizes(weight)
    before, after = positions(geometry.in_spatial), positions(geometry.out_spatial)

    def cost(ranks: tuple[int, int]) -> int:
        last, first = ranks
        return channels * first * before + (first * last * taps + last * outputs) * after

    steps = 4 * max(outputs, channels)
    shares = (i / steps for i in range(steps, 0, -1))
    pairs = ((max(1, int(share * outputs)), max(1, int(share * channels))) for share in shares)
    ranks = next((pair for pair in pairs if cost(pair) <= budget), (1, 1))
    if cost(ranks) >= _dense(geometry):
        return None
    from tensorly.decomposition import partial_tucker

    (core, (expand, reduce)), _ = partial_tucker(weight, rank=list(ranks), modes=[0, 1], init="svd", random_state=0)
    kernel = np.einsum("abij,ma,cb->mcij", core, expand, reduce, optimize=True)
    middle = Step(core, 1, *_pairs(geometry))
    chain = (Step(reduce.T[:, :, None, None]), middle, Step(expand[:, :, None, None]))
    return Replacement((chain,), kernel, f"{ranks[1]}→{ranks[0]}", cost(ranks))


PEERS: dict[str, Callable[[Array, ConvGeometry, float], Replacement | None]] = {
    "nd_dw_pw": network_decoupling_dw_pw,
    "nd_pw_dw": network_decoupling_pw_dw,
    "gdws": gdws,
    "spatial_svd": spatial_svd,
    "tucker2": tucker2,
}


def _truncated(matrices: Array, rank: int) -> tuple[Array, Array]:
    """Halves (…, a, r) and (…, r, b) of the best approximation of rank r, σ shared evenly."""
    left, values, right = np.linalg.svd(matrices, full_matrices=False)
    root = np.sqrt(values[..., :rank])
    return left[..., :rank] * root[..., None, :], root[..., :, None] * right[..., :rank, :]


def _sizes(weight: Array) -> tuple[int, int, int]:
    outputs, channels, height, width = weight.shape
    return outputs, channels, height * width


def _dense(geometry: ConvGeometry) -> int:
    return prod(geometry.weight_shape) * positions(geometry.out_spatial)


def _known(spatial: tuple[int, ...] | None) -> tuple[int, ...]:
    if spatial is None:
        raise ValueError("the spatial size of this convolution is unknown; fix the model's input size first")
    return spatial


def positions(spatial: tuple[int, ...] | None) -> int:
    height, width = _known(spatial)
    return height * width


def _pairs(geometry: ConvGeometry) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int, int, int]]:
    (down, across), (apart, aside), (top, start, bottom, end) = geometry.stride, geometry.dilation, geometry.pads
    return (down, across), (apart, aside), (top, start, bottom, end)


def taps_step(weight: Array, geometry: ConvGeometry, groups: int, gather: NDArray[np.int64] | None = None) -> Step:
    return Step(weight, groups, *_pairs(geometry), gather)

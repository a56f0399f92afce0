"""Pointwise, then depthwise: ``Ŵ[m,c,k] = Σ_j P[m,j,c] D[m,j,k]``, j < r.

r·M·(K + C) weights; the pointwise factor runs at the *input's* resolution and carries no bias, because the padding of
the taps that follow must see zeros. Without data every output channel's slice ``W[m,:,:]`` (C×K) is independent, so the
truncated SVD of each is the global optimum (Guo et al., "Network Decoupling", BMVC 2018). Exact at r = min(K, C).
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry, Cost
from sepconvert.separable.truncated import checked_rank, dropped_share, squared_singular_values, truncate

NAME = "pw_dw"


def full_rank(geometry: ConvGeometry) -> int:
    """Return min(K, C)."""
    return min(geometry.taps, geometry.in_channels)


def cost(geometry: ConvGeometry, rank: int) -> Cost:
    """r·M·C weights at every input position and r·M·K at every output position."""
    mixing = rank * geometry.out_channels * geometry.in_channels
    filtering = rank * geometry.out_channels * geometry.taps
    before, after = geometry.in_positions, geometry.out_positions
    macs = None if before is None or after is None else mixing * before + filtering * after
    return Cost(mixing + filtering, macs)


def factorise(
    weight: NDArray[np.floating],
    rank: int,
    geometry: ConvGeometry,
    rng: np.random.Generator,  # noqa: ARG001 - the optimum is unique, nothing is drawn
) -> Factors:
    """Truncated SVD of every output channel's slice; the squared error is the sum of the dropped σ²."""
    checked_rank(rank, full_rank(geometry))
    halves = truncate(slices(weight), rank)
    return assemble(halves.left.swapaxes(1, 2), halves.right, geometry.kernel)


def assemble(pointwise: NDArray[np.floating], depthwise: NDArray[np.floating], kernel: tuple[int, ...]) -> Factors:
    """Factors from mixing weights (M, r, C) and taps (M, r, K)."""
    outputs, rank, _ = depthwise.shape
    arrays = {"pointwise": np.ascontiguousarray(pointwise), "depthwise": depthwise.reshape(outputs, rank, *kernel)}
    return Factors(NAME, rank, kernel, arrays)


def slices(weight: NDArray[np.floating]) -> NDArray[np.floating]:
    """The matrices of rank at most r: one (C, K) slice per output channel, shape (M, C, K)."""
    return weight.reshape(*weight.shape[:2], -1)


def error_by_rank(weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
    """Relative squared weight error of the optimum at ranks 1, 2, … full rank."""
    return dropped_share(squared_singular_values(slices(weight)))[: full_rank(geometry)]


def draw(geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
    """Random factors: unit gain through the pointwise factor, ``gain`` (2: He et al., 2015) through the taps."""
    channels, outputs, kernel = geometry.in_channels, geometry.out_channels, geometry.kernel
    pointwise = rng.standard_normal((outputs, rank, channels)) / np.sqrt(channels)
    depthwise = rng.standard_normal((outputs, rank, *kernel)) * np.sqrt(gain / (rank * prod(kernel)))
    return Factors(NAME, rank, kernel, {"pointwise": pointwise, "depthwise": depthwise})


def reconstruct(factors: Factors) -> NDArray[np.float64]:
    """Return the equivalent dense kernel (M, C, *k), accumulated in float64."""
    pointwise = factors.arrays["pointwise"].astype(np.float64)
    depthwise = factors.arrays["depthwise"].astype(np.float64)
    outputs, rank, channels = pointwise.shape
    mixed = pointwise.swapaxes(1, 2) @ depthwise.reshape(outputs, rank, -1)
    return mixed.reshape(outputs, channels, *factors.kernel)

"""Depthwise, then pointwise: ``Ŵ[m,c,k] = Σ_j P[m,c,j] D[c,j,k]``, j < r (the *depth multiplier* of Keras).

r·C·(K + M) weights, all at the output's resolution. Without data every input channel's slice ``W[:,c,:]`` (M×K) is
independent, so the truncated SVD of each is the global optimum (Guo et al., "Network Decoupling", BMVC 2018). Exact at
r = min(K, M).
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry, Cost
from sepconvert.separable.truncated import checked_rank, dropped_share, squared_singular_values, truncate

NAME = "dw_pw"


def full_rank(geometry: ConvGeometry) -> int:
    """Return min(K, M)."""
    return min(geometry.taps, geometry.out_channels)


def cost(geometry: ConvGeometry, rank: int) -> Cost:
    """r·C·(K + M) weights, each used once per output position."""
    weights = rank * geometry.in_channels * (geometry.taps + geometry.out_channels)
    return Cost(weights, None if geometry.out_positions is None else weights * geometry.out_positions)


def factorise(
    weight: NDArray[np.floating],
    rank: int,
    geometry: ConvGeometry,
    rng: np.random.Generator,  # noqa: ARG001 - the optimum is unique, nothing is drawn
) -> Factors:
    """Truncated SVD of every input channel's slice; the squared error is the sum of the dropped σ²."""
    checked_rank(rank, full_rank(geometry))
    halves = truncate(slices(weight), rank)
    return assemble(halves.right, halves.left.swapaxes(0, 1), geometry.kernel)


def assemble(depthwise: NDArray[np.floating], pointwise: NDArray[np.floating], kernel: tuple[int, ...]) -> Factors:
    """Factors from taps (C, r, K) and mixing weights (M, C, r)."""
    channels, rank, _ = depthwise.shape
    arrays = {"depthwise": depthwise.reshape(channels, rank, *kernel), "pointwise": np.ascontiguousarray(pointwise)}
    return Factors(NAME, rank, kernel, arrays)


def slices(weight: NDArray[np.floating]) -> NDArray[np.floating]:
    """The matrices of rank at most r: one (M, K) slice per input channel, shape (C, M, K)."""
    return weight.reshape(*weight.shape[:2], -1).swapaxes(0, 1)


def error_by_rank(weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
    """Relative squared weight error of the optimum at ranks 1, 2, … full rank."""
    return dropped_share(squared_singular_values(slices(weight)))[: full_rank(geometry)]


def draw(geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
    """Random factors: unit gain through the taps, ``gain`` (2: He et al., 2015) through the pointwise factor."""
    channels, outputs, kernel = geometry.in_channels, geometry.out_channels, geometry.kernel
    depthwise = rng.standard_normal((channels, rank, *kernel)) / np.sqrt(prod(kernel))
    pointwise = rng.standard_normal((outputs, channels, rank)) * np.sqrt(gain / (rank * channels))
    return Factors(NAME, rank, kernel, {"depthwise": depthwise, "pointwise": pointwise})


def reconstruct(factors: Factors) -> NDArray[np.float64]:
    """Return the equivalent dense kernel (M, C, *k), accumulated in float64."""
    pointwise = factors.arrays["pointwise"].astype(np.float64)
    depthwise = factors.arrays["depthwise"].astype(np.float64)
    channels, rank = depthwise.shape[:2]
    mixed = pointwise.swapaxes(0, 1) @ depthwise.reshape(channels, rank, -1)
    return np.ascontiguousarray(mixed.swapaxes(0, 1)).reshape(len(pointwise), channels, *factors.kernel)

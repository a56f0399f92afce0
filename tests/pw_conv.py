"""A form that the package does not know: a pointwise convolution to R channels, then one with all taps.

``Ŵ[m,c,k] = Σ_q A[m,q,k] B[q,c]``, the kernel as a matrix (C, M·K) of rank R. All there is to a form stands in this one
file, but for a fit.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import CONV, POINTWISE, Layer, Layers
from sepconvert.separable.problem import Problem
from sepconvert.separable.search import Search
from sepconvert.separable.truncated import dropped_share, squared_singular_values, truncate

NAME = "pw_conv"
WORDS = "pointwise, then convolution; rank R: channels between them"
LOWERINGS = ("stacked",)
AUTO, CHANNELS, QUICK, BOUNDED = False, True, True, False
LAST = "expand"
COMPONENT_AXES = {"reduce": 0, "expand": 1}
ELIMINATED = False
LEAST_TAPS = 1
MOST_AXES, IN_GROUPS, CHANNELWISE = 3, True, False


def layers(geometry: ConvGeometry, rank: int, lowering: str, first_kernel: tuple[int, ...] | None = None) -> Layers:
    reduce = Layer("reduce", POINTWISE, geometry.in_channels, rank)
    return Layers((reduce, Layer("expand", CONV, rank, geometry.out_channels, tuple(range(len(geometry.kernel))))))


def first_kernel(factors: Factors) -> None:
    return None


def full_rank(geometry: ConvGeometry) -> int:
    return min(geometry.in_channels, geometry.out_channels * geometry.taps)


def factorise(weight: NDArray[np.floating], rank: int, geometry: ConvGeometry, rng: np.random.Generator) -> Factors:
    halves = truncate(_unfolded(weight), rank)
    expand = halves.right[0].reshape(rank, geometry.out_channels, *geometry.kernel).swapaxes(0, 1)
    return Factors(NAME, rank, geometry.kernel, {"reduce": halves.left[0].T, "expand": expand})


def error_by_rank(weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
    return dropped_share(squared_singular_values(_unfolded(weight)))


def draw(geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
    reduce = rng.standard_normal((rank, geometry.in_channels)) / np.sqrt(geometry.in_channels)
    expand = rng.standard_normal((geometry.out_channels, rank, *geometry.kernel))
    gained = expand * np.sqrt(gain / (rank * prod(geometry.kernel)))
    return Factors(NAME, rank, geometry.kernel, {"reduce": reduce, "expand": gained})


def reconstruct(factors: Factors) -> NDArray[np.float64]:
    expand, reduce = (factors.arrays[name].astype(np.float64) for name in ("expand", "reduce"))
    return np.einsum("mq...,qc->mc...", expand, reduce)


def optimum(problem: Problem, rank: int) -> None:
    return None


def search(problem: Problem, rank: int) -> list[Search]:
    """None: the data-free factors are all there is."""
    return []


def _unfolded(weight: NDArray[np.floating]) -> NDArray[np.floating]:
    return weight.swapaxes(0, 1).reshape(1, weight.shape[1], -1)

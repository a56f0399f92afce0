"""A form that the package does not know: Tucker-2, ``Ŵ[m,c,k] = Σ_q Σ_p A[m,q] G[q,p,k] B[p,c]``.

Pointwise C→p, a convolution p→q that keeps the taps, pointwise q→M, with p = min(rank, C) and q = min(rank, M)
(Kim et al., "Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications", ICLR 2016).
All there is to a form stands in this one file.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import CONV, POINTWISE, Layer, Layers
from sepconvert.separable.problem import Problem
from sepconvert.separable.search import Search

NAME = "pw_conv_pw"
WORDS = "pointwise, convolution, pointwise; rank R: channels of the convolution"
LOWERINGS = ("stacked",)
AUTO, CHANNELS, QUICK, BOUNDED = False, True, True, True
LAST = "expand"
COMPONENT_AXES = {"reduce": 0, "core": 0, "expand": 1}
ELIMINATED = False


def layers(geometry: ConvGeometry, rank: int, lowering: str, first_kernel: tuple[int, ...] | None = None) -> Layers:
    inputs, outputs = min(rank, geometry.in_channels), min(rank, geometry.out_channels)
    reduce = Layer("reduce", POINTWISE, geometry.in_channels, inputs)
    core = Layer("core", CONV, inputs, outputs, tuple(range(len(geometry.kernel))))
    return Layers((reduce, core, Layer("expand", POINTWISE, outputs, geometry.out_channels)))


def first_kernel(factors: Factors) -> None:
    return None


def full_rank(geometry: ConvGeometry) -> int:
    return max(geometry.in_channels, geometry.out_channels)


def factorise(weight: NDArray[np.floating], rank: int, geometry: ConvGeometry, rng: np.random.Generator) -> Factors:
    """Project on the leading singular vectors of both unfoldings (higher-order SVD)."""
    expand, reduce = (vectors[:, :rank] for vectors in _vectors(weight))
    core = np.einsum("mq,mc...,cp->qp...", expand, weight, reduce)
    return Factors(NAME, rank, geometry.kernel, {"reduce": reduce.T, "core": core, "expand": expand})


def error_by_rank(weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
    """The sum of what both projections drop."""
    energy, full = float(np.vdot(weight, weight)) or 1.0, full_rank(geometry)
    dropped = np.zeros(full)
    for matrix in _unfolded(weight):
        kept = np.cumsum(np.linalg.svd(matrix, compute_uv=False) ** 2)
        tail = np.maximum(energy - kept, 0) / energy
        tail[-1] = 0
        dropped[: len(tail)] += tail
    return np.minimum(dropped, 1)


def draw(geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
    inputs, outputs = min(rank, geometry.in_channels), min(rank, geometry.out_channels)
    shapes = {
        "reduce": (inputs, geometry.in_channels),
        "core": (outputs, inputs, *geometry.kernel),
        "expand": (geometry.out_channels, outputs),
    }
    gains = {"reduce": 1, "core": 1, "expand": gain}
    return Factors(
        NAME,
        rank,
        geometry.kernel,
        {name: rng.standard_normal(s) * np.sqrt(gains[name] / prod(s[1:])) for name, s in shapes.items()},
    )


def reconstruct(factors: Factors) -> NDArray[np.float64]:
    expand, core, reduce = (factors.arrays[name].astype(np.float64) for name in ("expand", "core", "reduce"))
    return np.einsum("mq,qp...,pc->mc...", expand, core, reduce)


def search(problem: Problem, rank: int) -> list[Search]:
    """None: the data-free factors are all there is."""
    return []


def _unfolded(weight: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    wide = weight.astype(np.float64)
    return wide.reshape(len(wide), -1), wide.swapaxes(0, 1).reshape(wide.shape[1], -1)


def _vectors(weight: NDArray[np.floating]) -> list[NDArray[np.float64]]:
    return [np.linalg.svd(matrix, full_matrices=False)[0] for matrix in _unfolded(weight)]

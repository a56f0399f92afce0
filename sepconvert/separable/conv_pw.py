"""A convolution to R channels, then a pointwise one: ``Ŵ[m,c,k] = Σ_q A[m,q] B[q,c,k]``, q < R.

The kernel as a matrix (M, C·K) of rank R; R·(C·K + M) weights, all at the output's resolution. Of a 1×1 convolution it
makes two pointwise ones. Without data the truncated SVD is the optimum. With data the optimum is closed, too: the
outputs' leading directions, found by one eigendecomposition for all ranks (``reduced_rank``; Zhang et al.,
"Accelerating Very Deep Convolutional Networks", TPAMI 2015). Exact at R = min(M, C·K).
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import CONV, POINTWISE, Layer, Layers
from sepconvert.separable.problem import Problem
from sepconvert.separable.reduced_rank import regressions
from sepconvert.separable.search import Search
from sepconvert.separable.truncated import Halves, checked_rank, dropped_share, squared_singular_values, truncate

NAME = "conv_pw"
WORDS = "convolution, then pointwise (of a 1×1 layer: two pointwise ones); rank R: channels between them"
LOWERINGS = ("stacked",)
AUTO, CHANNELS, QUICK, BOUNDED = False, True, False, False
LAST = "expand"
COMPONENT_AXES = {"reduce": 0, "expand": 1}
ELIMINATED = False
LEAST_TAPS = 1
MOST_AXES, IN_GROUPS, CHANNELWISE = 3, True, False


def full_rank(geometry: ConvGeometry) -> int:
    """Return min(M, C·K)."""
    return min(geometry.out_channels, geometry.in_channels * geometry.taps)


def layers(
    geometry: ConvGeometry,
    rank: int,
    lowering: str,  # noqa: ARG001 - there is one
    first_kernel: tuple[int, ...] | None = None,  # noqa: ARG001 - the order is the form's
) -> Layers:
    """C→R with all taps, R→M."""
    kind = CONV if geometry.taps > 1 else POINTWISE
    reduce = Layer("reduce", kind, geometry.in_channels, rank, tuple(range(len(geometry.kernel))))
    return Layers((reduce, Layer("expand", POINTWISE, rank, geometry.out_channels)))


def first_kernel(factors: Factors) -> tuple[int, ...] | None:  # noqa: ARG001 - the order is the form's
    """None: the order of the layers is fixed."""
    return None


def factorise(
    weight: NDArray[np.floating],
    rank: int,
    geometry: ConvGeometry,
    rng: np.random.Generator,  # noqa: ARG001 - the optimum is unique, nothing is drawn
) -> Factors:
    """Truncated SVD of the (M, C·K) matrix; the squared error is the sum of the dropped σ²."""
    checked_rank(rank, full_rank(geometry))
    return assemble(truncate(weight.reshape(1, len(weight), -1), rank), geometry)


def assemble(halves: Halves, geometry: ConvGeometry) -> Factors:
    """Factors from ``left`` (1, M, R) and ``right`` (1, R, C·K)."""
    rank = halves.right.shape[1]
    reduce = np.ascontiguousarray(halves.right[0]).reshape(rank, geometry.in_channels, *geometry.kernel)
    arrays = {"reduce": reduce, "expand": np.ascontiguousarray(halves.left[0])}
    return Factors(NAME, rank, geometry.kernel, arrays)


def error_by_rank(weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:  # noqa: ARG001
    """Relative squared weight error of the optimum at ranks 1, 2, … full rank."""
    return dropped_share(squared_singular_values(weight.reshape(1, len(weight), -1)))


def draw(geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
    """Random factors: unit gain through the first, ``gain`` (2: He et al., 2015) through the second."""
    channels, outputs, kernel = geometry.in_channels, geometry.out_channels, geometry.kernel
    reduce = rng.standard_normal((rank, channels, *kernel)) / np.sqrt(channels * prod(kernel))
    expand = rng.standard_normal((outputs, rank)) * np.sqrt(gain / rank)
    return Factors(NAME, rank, kernel, {"reduce": reduce, "expand": expand})


def reconstruct(factors: Factors) -> NDArray[np.float64]:
    """Return the equivalent dense kernel (M, C, *k), accumulated in float64."""
    reduce = factors.arrays["reduce"].astype(np.float64)
    product = factors.arrays["expand"].astype(np.float64) @ reduce.reshape(len(reduce), -1)
    return product.reshape(-1, *reduce.shape[1:])


def optimum(problem: Problem, rank: int) -> Factors:
    """The leading components of the reduced-rank regression."""

    def regressed() -> Halves:
        outputs = len(problem.original)
        weight, target = problem.weight.reshape(outputs, -1), problem.target.reshape(outputs, -1)
        return regressions(weight, target, None if problem.per_channel or problem.by_lags else problem.written_gram)

    every = problem.prepared((NAME, "components"), regressed)
    return assemble(Halves(every.left[:, :, :rank], every.right[:, :rank]), problem.geometry)


def work_by_lags(geometry: ConvGeometry, rank: int) -> float:  # noqa: ARG001 - a protocol's arguments
    """Return 0: where moments are by lags, a fit takes as long at every rank."""
    return 0.0


def search(problem: Problem, rank: int) -> list[Search]:  # noqa: ARG001 - there is nothing to search for
    """None: the optimum is closed."""
    return []

"""Pointwise, then depthwise: ``Ŵ[m,c,k] = Σ_j P[m,j,c] D[m,j,k]``, j < r.

r·M·(K + C) weights; the pointwise factor runs at the *input's* resolution and carries no bias, because the padding of
the taps that follow must see zeros. Without data every output channel's slice ``W[m,:,:]`` (C×K) is independent, so the
truncated SVD of each is the global optimum (Guo et al., "Network Decoupling", BMVC 2018). Exact at r = min(K, C).
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.descent import Value
from sepconvert.separable.factors import Factors, joined
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import ADD, DEPTHWISE, GROUPED, POINTWISE, Layer, Layers
from sepconvert.separable.problem import Problem, inner
from sepconvert.separable.truncated import (
    Halves,
    balanced,
    checked_rank,
    dropped_share,
    squared_singular_values,
    truncate,
)

NAME = "pw_dw"
WORDS = "pointwise, then depthwise; rank r: filters per output channel"
# As for ``dw_pw``, branches suit onnxruntime's CPU kernels.
LOWERINGS = ("branches", "stacked")
AUTO, CHANNELS, QUICK, BOUNDED = True, False, True, False
LAST = "depthwise"
COMPONENT_AXES = {"pointwise": 1, "depthwise": 1}
ELIMINATED = False
LEAST_TAPS = 2
MOST_AXES, IN_GROUPS, CHANNELWISE = 3, True, True


def full_rank(geometry: ConvGeometry) -> int:
    """Return min(K, C)."""
    return min(geometry.taps, geometry.in_channels)


def layers(
    geometry: ConvGeometry,
    rank: int,
    lowering: str,
    first_kernel: tuple[int, ...] | None = None,  # noqa: ARG001 - the order is the form's
) -> Layers:
    """C→M·r and M·r→M with r inputs per group; or r times C→M and M→M by channel, summed."""
    channels, outputs, axes = geometry.in_channels, geometry.out_channels, tuple(range(len(geometry.kernel)))
    if lowering == "branches":
        mixed = Layer("pointwise", POINTWISE, channels, outputs)
        return Layers((mixed, Layer("depthwise", DEPTHWISE, outputs, outputs, axes)), rank, ADD)
    wide = outputs * rank
    mixed = Layer("pointwise", POINTWISE, channels, wide)
    return Layers((mixed, Layer("depthwise", GROUPED, wide, outputs, axes)))


def first_kernel(factors: Factors) -> tuple[int, ...] | None:  # noqa: ARG001 - the order is the form's
    """None: the order of the layers is fixed."""
    return None


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


class PwDwSearch:
    """Fit both factors at once.

    The output channels are independent, but they share S: one product of the whole residual with S gives the gradients
    of all, whatever the rank, where eliminating a factor would take a linear system per output channel. Points are in
    coordinates whitened by the Kronecker approximation of S: 10 steps get where 40 plain ones do (three layers of a
    ResNet-50).
    """

    def __init__(self, problem: Problem, rank: int) -> None:
        """Prepare the search for factors of one rank."""
        self._problem = problem
        self._rank = rank
        self._whitening = problem.whitening
        self._mix_back = self._whitening.channels_inverse.astype(problem.dtype)
        self._taps_back = self._whitening.taps_inverse.astype(problem.dtype)

    @property
    def work(self) -> float:
        """Multiply-adds per evaluation."""
        return len(self._problem.original) * self._problem.row_work

    def starts(self) -> list[Factors]:
        """The SVD of every slice, whitened by the Kronecker approximation of the moments."""
        every = self._problem.prepared((NAME, "whitened"), self._whitened)
        pointwise = every.left[:, :, : self._rank].swapaxes(1, 2) @ self._whitening.channels_inverse
        depthwise = every.right[:, : self._rank] @ self._whitening.taps_inverse
        return [assemble(pointwise, depthwise, self._problem.geometry.kernel)]

    def _whitened(self) -> Halves:
        """All components of the whitened slices, strongest first."""
        return truncate(self._problem.whitened_outset, full_rank(self._problem.geometry))

    def extended(self, factors: Factors) -> Factors:
        """Add the largest terms of what is left over."""
        if factors.rank == self._rank:
            return factors
        rest = self._problem.weight - reconstruct(factors).reshape(self._problem.original.shape)
        halves = truncate(rest, self._rank - factors.rank)
        added = assemble(halves.left.swapaxes(1, 2), halves.right, factors.kernel)
        return joined(factors, added, COMPONENT_AXES)

    def point(self, factors: Factors) -> NDArray[np.floating]:
        """Both factors, whitened, the norm of each component shared evenly."""
        pointwise = factors.arrays["pointwise"].astype(np.float64)
        depthwise = factors.arrays["depthwise"].astype(np.float64).reshape(*pointwise.shape[:2], -1)
        pointwise, depthwise = pointwise @ self._whitening.channels, depthwise @ self._whitening.taps
        halves = balanced(pointwise.swapaxes(1, 2), depthwise)
        flat = np.concatenate([halves.left.swapaxes(1, 2).ravel(), halves.right.ravel()])
        return flat.astype(self._problem.dtype)

    def evaluate(self, point: NDArray[np.floating]) -> Value:
        """Relative objective and its gradient."""
        pointwise, depthwise = self._split(point)
        value, product = self._problem.objective(pointwise.swapaxes(1, 2) @ depthwise)
        down, across = depthwise @ product.swapaxes(1, 2), pointwise @ product
        if self._problem.rounding:
            # Of what the pointwise layer gives, each value is rounded, and comes out of the taps times their squares.
            seen = pointwise @ self._problem.by_channel
            variance = self._problem.rounding * np.einsum("mrc,mrc->mr", pointwise, seen)[:, :, None]
            squares = self._problem.rounding * np.einsum("mrk,mrk->mr", depthwise, depthwise)[:, :, None]
            value += inner(squares, variance) / self._problem.rounding
            down, across = down + squares * seen, across + variance * depthwise
        value /= self._problem.energy
        down, across = down @ self._mix_back.T, across @ self._taps_back.T
        gradient = np.concatenate([down.ravel(), across.ravel()]) * (2 / self._problem.energy)
        return Value(value, gradient.astype(point.dtype))

    def factors(self, point: NDArray[np.floating]) -> Factors:
        """The factors of a point."""
        pointwise, depthwise = (part.astype(np.float64) for part in self._split(point))
        halves = balanced(pointwise.swapaxes(1, 2), depthwise)
        return assemble(halves.left.swapaxes(1, 2), halves.right, self._problem.geometry.kernel)

    def _split(self, point: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Both factors of a point, not whitened any more: (M, r, C) and (M, r, K)."""
        outputs, channels, taps = self._problem.original.shape
        border = outputs * self._rank * channels
        pointwise = point[:border].reshape(-1, channels) @ self._mix_back
        depthwise = point[border:].reshape(-1, taps) @ self._taps_back
        return pointwise.reshape(outputs, self._rank, channels), depthwise.reshape(outputs, self._rank, taps)


def optimum(problem: Problem, rank: int) -> Factors | None:  # noqa: ARG001 - the form has none in closed form
    """None: the factors have to be searched for."""
    return None


def work_by_lags(geometry: ConvGeometry, rank: int) -> float:  # noqa: ARG001 - a protocol's arguments
    """Return 0: where moments are by lags, a fit takes as long at every rank."""
    return 0.0


def search(problem: Problem, rank: int) -> list[PwDwSearch]:
    """The ways to search for factors of this rank."""
    return [PwDwSearch(problem, rank)]

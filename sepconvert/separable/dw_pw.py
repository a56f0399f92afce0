"""Depthwise, then pointwise: ``Ŵ[m,c,k] = Σ_j P[m,c,j] D[c,j,k]``, j < r (the *depth multiplier* of Keras).

r·C·(K + M) weights, all at the output's resolution. Without data every input channel's slice ``W[:,c,:]`` (M×K) is
independent, so the truncated SVD of each is the global optimum (Guo et al., "Network Decoupling", BMVC 2018). Exact at
r = min(K, M).
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.definite import cholesky, inverse_of_lower
from sepconvert.separable.factors import Factors, joined
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import ADD, CONCAT, DEPTHWISE, POINTWISE, Layer, Layers
from sepconvert.separable.own_channel import OwnChannel, work_of
from sepconvert.separable.problem import Problem
from sepconvert.separable.search import Eliminated, EliminatedSearch, eliminate, penalised, strengths
from sepconvert.separable.stationary import Stationary
from sepconvert.separable.truncated import (
    Halves,
    balanced,
    checked_rank,
    dropped_share,
    squared_singular_values,
    truncate,
)

NAME = "dw_pw"
WORDS = "depthwise, then pointwise; rank r: filters per input channel"
# onnxruntime's blocked CPU layout takes a depthwise convolution only with one output per group, so that branches beat
# the one grouped convolution there. Other devices differ.
LOWERINGS = ("branches", "concat", "stacked")
AUTO, CHANNELS, QUICK, BOUNDED = True, False, True, False
LAST = "pointwise"
COMPONENT_AXES = {"depthwise": 1, "pointwise": 2}
ELIMINATED = True
LEAST_TAPS = 2
MOST_AXES, IN_GROUPS, CHANNELWISE = 3, True, True


def full_rank(geometry: ConvGeometry) -> int:
    """Return min(K, M)."""
    return min(geometry.taps, geometry.out_channels)


def layers(
    geometry: ConvGeometry,
    rank: int,
    lowering: str,
    first_kernel: tuple[int, ...] | None = None,  # noqa: ARG001 - the order is the form's
) -> Layers:
    """C→C·r by channel and C·r→M; or r times C→C and C→M, summed; or r times C→C, concatenated, and r·C→M."""
    channels, outputs, axes = geometry.in_channels, geometry.out_channels, tuple(range(len(geometry.kernel)))
    wide = channels * rank
    one, mixed = Layer("depthwise", DEPTHWISE, channels, channels, axes), Layer("pointwise", POINTWISE, wide, outputs)
    if lowering == "branches":
        return Layers((one, Layer("pointwise", POINTWISE, channels, outputs)), rank, ADD)
    if lowering == "concat":
        return Layers((one,), rank, CONCAT, (mixed,))
    return Layers((Layer("depthwise", DEPTHWISE, channels, wide, axes), mixed))


def first_kernel(factors: Factors) -> tuple[int, ...] | None:  # noqa: ARG001 - the order is the form's
    """None: the order of the layers is fixed."""
    return None


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


class DwPwSearch(EliminatedSearch):
    """Fit the taps, the pointwise factor eliminated."""

    def __init__(self, problem: Problem, rank: int) -> None:
        """Prepare the search for factors of one rank."""
        super().__init__(problem, rank)
        _, channels, taps = problem.original.shape
        self._shape = (channels, rank, taps)
        self._target = np.ascontiguousarray(problem.target.swapaxes(0, 1))

    @property
    def work(self) -> float:
        """Multiply-adds per evaluation."""
        channels, rank, taps = self._shape
        size, outputs = channels * rank, len(self._problem.original)
        return float(size * (channels * taps**2 + (2 * taps + outputs + size / 3) * size + (2 * taps + size) * outputs))

    def starts(self) -> list[Factors]:
        """Whitened channel by channel."""
        return [_whitened(self._problem, self._rank)]

    def extended(self, factors: Factors) -> Factors:
        """Add the largest terms of what is left over."""
        if factors.rank == self._rank:
            return factors
        rest = self._problem.weight - reconstruct(factors).reshape(self._problem.original.shape)
        halves = truncate(slices(rest), self._rank - factors.rank)
        added = assemble(halves.right, halves.left.swapaxes(0, 1), factors.kernel)
        return joined(factors, added, COMPONENT_AXES)

    def point(self, factors: Factors) -> NDArray[np.floating]:
        """The taps, each filter as long as its component is strong."""
        taps = factors.arrays["depthwise"].reshape(self._shape).astype(self._problem.dtype)
        _, features = self._features(taps)
        strength = strengths(self._solve(taps, features).last)
        taps = taps * strength.reshape(*self._shape[:2], 1)
        point: NDArray[np.floating] = taps.ravel()
        self._remember(point, taps, self._scaled(features, strength))
        return point

    def _scaled(self, features: NDArray[np.floating], strength: NDArray[np.floating]) -> NDArray[np.floating]:
        """What ``_features`` gives beside the taps where filters are ``strength`` (C·r) times as long."""
        return features * strength[:, None]

    def _gradient(self, point: NDArray[np.floating], features: NDArray[np.floating], solution: Eliminated) -> Any:  # noqa: ARG002
        channels, rank, _ = self._shape
        mix = penalised(solution.mix, self._problem.rounding).reshape(channels, rank, -1)
        return (2 * (mix @ features - self._wanted(solution)) / self._problem.energy).ravel()

    def factors(self, point: NDArray[np.floating]) -> Factors:
        """Taps and the pointwise factor that is best for them."""
        taps = point.reshape(self._shape)
        mixing = self._at(point)[1].last.reshape(-1, *self._shape[:2]).swapaxes(0, 1)
        halves = balanced(mixing.astype(np.float64), taps.astype(np.float64))
        return assemble(halves.right, halves.left.swapaxes(0, 1), self._problem.geometry.kernel)

    def _features(self, point: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The taps, and Φ S by channel of S's columns: (C, C·r, K)."""
        channels, rank, width = self._shape
        taps = point.reshape(self._shape)
        product = taps @ self._problem.written_gram.reshape(channels, width, -1)
        return taps, np.ascontiguousarray(product.reshape(channels * rank, channels, width).swapaxes(0, 1))

    def _solve(self, taps: NDArray[np.floating], features: NDArray[np.floating]) -> Eliminated:
        across = taps.swapaxes(1, 2)
        size = self._shape[0] * self._rank
        gram = np.ascontiguousarray((features @ across).swapaxes(0, 1)).reshape(size, size)
        return eliminate((gram + gram.T) / 2, self._cross(taps), rounding=self._problem.rounding)

    def _cross(self, taps: NDArray[np.floating]) -> NDArray[np.floating]:
        """(W*S) Φᵀ, (M, C·r)."""
        cross = (self._target @ taps.swapaxes(1, 2)).swapaxes(0, 1)
        return np.ascontiguousarray(cross).reshape(len(cross), -1)

    def _wanted(self, solution: Eliminated) -> NDArray[np.floating]:
        """Aᵀ W*S, by channel of its columns (C, r, K)."""
        last = solution.last.reshape(-1, *self._shape[:2]).transpose(1, 2, 0)
        wanted: NDArray[np.floating] = last @ self._target
        return wanted


class DwPwByLags(DwPwSearch):
    """The same where moments are by lags: Φ S is not written out.

    What is remembered of a point are the taps and ``Φ S Φᵀ``.
    """

    @property
    def work(self) -> float:
        """Multiply-adds per evaluation."""
        return work_by_lags(self._problem.geometry, self._rank)

    def _features(self, point: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The taps and Φ S Φᵀ."""
        taps = point.reshape(self._shape)
        return taps, self._kernels(taps).gram()

    def _scaled(self, features: NDArray[np.floating], strength: NDArray[np.floating]) -> NDArray[np.floating]:
        return features * np.outer(strength, strength)

    def _solve(self, taps: NDArray[np.floating], features: NDArray[np.floating]) -> Eliminated:
        return eliminate(features.copy(), self._cross(taps), rounding=self._problem.rounding)

    def _gradient(self, point: NDArray[np.floating], features: NDArray[np.floating], solution: Eliminated) -> Any:  # noqa: ARG002
        mixed = self._kernels(point.reshape(self._shape)).mixed(penalised(solution.mix, self._problem.rounding))
        return (2 * (mixed - self._wanted(solution)) / self._problem.energy).ravel()

    def _kernels(self, taps: NDArray[np.floating]) -> OwnChannel:
        assert isinstance(self._problem.gram, Stationary)
        return OwnChannel(self._problem.gram, taps.astype(np.float32, copy=False))


def optimum(problem: Problem, rank: int) -> Factors | None:
    """Without correlations between channels the whitened SVD of every slice is the optimum."""
    return _whitened(problem, rank) if problem.per_channel else None


def work_by_lags(geometry: ConvGeometry, rank: int) -> float:
    """Multiply-adds per evaluation of a search where moments are by lags."""
    channels, taps, outputs = geometry.in_channels, geometry.taps, geometry.out_channels
    size = channels * rank
    return work_of(channels, taps, rank) + size * (outputs * (taps + 2 * size) + size**2 / 3)


def search(problem: Problem, rank: int) -> list[DwPwSearch]:
    """The ways to search for factors of this rank, where correlations between channels are known."""
    if problem.per_channel:
        return []
    return [DwPwByLags(problem, rank) if problem.by_lags else DwPwSearch(problem, rank)]


def _whitened(problem: Problem, rank: int) -> Factors:
    """Per channel: the SVD of the slice whitened by its own block of the moments."""

    def components() -> Halves:
        factors = [cholesky(block) for block in problem.channel_blocks().astype(np.float64)]
        halves = truncate(slices(problem.outset) @ np.array(factors), full_rank(problem.geometry))
        return Halves(halves.left, halves.right @ np.array([inverse_of_lower(factor) for factor in factors]))

    every = problem.prepared((NAME, "whitened"), components)
    pointwise = every.left[:, :, :rank].swapaxes(0, 1)
    return assemble(every.right[:, :rank], pointwise, problem.geometry.kernel)

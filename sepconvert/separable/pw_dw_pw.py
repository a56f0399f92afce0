"""Pointwise, depthwise, pointwise: ``Ŵ[m,c,k] = Σ_q A[m,q] D[q,k] B[q,c]``, q < R.

A bottleneck like MobileNetV2's (Sandler et al., CVPR 2018) without the activations between; mathematically a canonical
polyadic decomposition with the taps of all axes as one mode (Lebedev et al., ICLR 2015). R·(C + K + M) weights;
``reduce`` (B) runs at the *input's* resolution and carries no bias, because the padding of the taps that follow must
see zeros.
"""

from collections.abc import Iterator
from math import prod
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.cp import Refined, Triplets, by_input, by_output, exact, khatri_rao, refine
from sepconvert.separable.factors import Factors, joined
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import DEPTHWISE, POINTWISE, Layer, Layers
from sepconvert.separable.problem import Problem
from sepconvert.separable.rank_one import RankOne, work_of
from sepconvert.separable.search import (
    PENALTY,
    Eliminated,
    EliminatedSearch,
    eliminate,
    penalised,
    strengths,
)
from sepconvert.separable.stationary import Stationary
from sepconvert.separable.threads import product, symmetric_product
from sepconvert.separable.truncated import checked_rank, squared_singular_values

NAME = "pw_dw_pw"
WORDS = "pointwise, depthwise, pointwise: a bottleneck; rank R: its channels"
LOWERINGS = ("stacked",)
# The data-free curve is that of the start: alternating least squares leaves 6 to 90 % of it.
AUTO, CHANNELS, QUICK, BOUNDED = True, True, False, True
LAST = "expand"
COMPONENT_AXES = {"reduce": 0, "depthwise": 0, "expand": 1}
ELIMINATED = True
LEAST_TAPS = 2
MOST_AXES, IN_GROUPS, CHANNELWISE = 3, True, True

# Rounds of the alternation for each of the two starts, then for the better one.
FIRST_ROUNDS = 3
MORE_ROUNDS = 12
START_ROUNDS = 6
FLOAT32_ABOVE = 10_000_000
# Components whose kernels are written out at a time where moments are by lags.
STRIP = 256


def full_rank(geometry: ConvGeometry) -> int:
    """Return min(C·K, M·K, M·C): the sizes of the three constructions with two one-hot factors."""
    taps, channels, outputs = geometry.taps, geometry.in_channels, geometry.out_channels
    return min(channels * taps, outputs * taps, outputs * channels)


def layers(
    geometry: ConvGeometry,
    rank: int,
    lowering: str,  # noqa: ARG001 - there is one
    first_kernel: tuple[int, ...] | None = None,  # noqa: ARG001 - the order is the form's
) -> Layers:
    """C→R, R→R by channel, R→M."""
    reduce = Layer("reduce", POINTWISE, geometry.in_channels, rank)
    taps = Layer("depthwise", DEPTHWISE, rank, rank, tuple(range(len(geometry.kernel))))
    return Layers((reduce, taps, Layer("expand", POINTWISE, rank, geometry.out_channels)))


def first_kernel(factors: Factors) -> tuple[int, ...] | None:  # noqa: ARG001 - the order is the form's
    """None: the order of the layers is fixed."""
    return None


def factorise(
    weight: NDArray[np.floating],
    rank: int,
    geometry: ConvGeometry,
    rng: np.random.Generator,  # noqa: ARG001 - both starts are fixed by the weight
) -> Factors:
    """Alternating least squares from the largest triplets of all slices' SVDs, by input and by output channel."""
    checked_rank(rank, full_rank(geometry))
    tensor = np.asarray(weight, dtype=np.float64).reshape(*geometry.weight_shape[:2], -1)
    if rank == full_rank(geometry):
        return assemble(exact(tensor), geometry.kernel)
    starts = [
        Refined(start, _start_error(tensor, start)) for start in (by_input(tensor, rank), by_output(tensor, rank))
    ]
    work = _work(tensor, rank)
    first = [refine(work, start.triplets, FIRST_ROUNDS) for start in starts]
    better = refine(work, min(first, key=attrgetter("error")).triplets, MORE_ROUNDS)
    # The penalty that bounds the norms can cost more than the rounds gain where a start is all but exact.
    best = min((better, *first, *starts), key=attrgetter("error"))
    return assemble(best.triplets, geometry.kernel)


def assemble(triplets: Triplets, kernel: tuple[int, ...]) -> Factors:
    """Factors from components."""
    rank = len(triplets.depthwise)
    arrays = {
        "reduce": np.ascontiguousarray(triplets.reduce),
        "depthwise": triplets.depthwise.reshape(rank, *kernel),
        "expand": np.ascontiguousarray(triplets.expand),
    }
    return Factors(NAME, rank, kernel, arrays)


def error_by_rank(weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
    """Upper bound of the relative squared weight error at ranks 1, 2, … full rank: that of the better start."""
    tensor = np.asarray(weight, dtype=np.float64).reshape(*geometry.weight_shape[:2], -1)
    full = full_rank(geometry)
    energy = float(np.vdot(tensor, tensor))
    if energy == 0:
        return np.zeros(full)
    curves = []
    for matrices in (tensor.swapaxes(0, 1), tensor):
        values = np.sort(squared_singular_values(matrices), axis=None)
        tails = np.append(np.cumsum(values)[::-1][1:], 0.0) / energy
        curves.append(np.append(tails, np.zeros(max(0, full - tails.size)))[:full])
    curve: NDArray[np.float64] = np.minimum(curves[0], curves[1])
    curve[-1] = 0.0
    return curve


def draw(geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
    """Random factors: unit gain through the first two, ``gain`` (2: He et al., 2015) through the last."""
    channels, outputs, kernel = geometry.in_channels, geometry.out_channels, geometry.kernel
    arrays = {
        "reduce": rng.standard_normal((rank, channels)) / np.sqrt(channels),
        "depthwise": rng.standard_normal((rank, *kernel)) / np.sqrt(prod(kernel)),
        "expand": rng.standard_normal((outputs, rank)) * np.sqrt(gain / rank),
    }
    return Factors(NAME, rank, kernel, arrays)


def reconstruct(factors: Factors) -> NDArray[np.float64]:
    """Return the equivalent dense kernel (M, C, *k), accumulated in float64."""
    arrays = factors.arrays
    triplets = Triplets(arrays["expand"], arrays["depthwise"].reshape(factors.rank, -1), arrays["reduce"])
    dense = triplets.dense()
    return dense.reshape(*dense.shape[:2], *factors.kernel)


def _start_error(tensor: NDArray[np.float64], start: Triplets) -> float:
    """Relative squared error of components that are orthogonal to each other, as those of the slices' SVDs are."""
    energy = float(np.vdot(tensor, tensor))
    norms = (
        np.linalg.norm(start.expand, axis=0)
        * np.linalg.norm(start.depthwise, axis=1)
        * np.linalg.norm(start.reduce, axis=1)
    )
    return max(0.0, 1 - float(np.vdot(norms, norms)) / energy) if energy else 0.0


class PwDwPwSearch(EliminatedSearch):
    """Fit ``reduce`` and the taps, ``expand`` eliminated."""

    def __init__(self, problem: Problem, rank: int) -> None:
        """Prepare the search for factors of one rank."""
        super().__init__(problem, rank)
        self._target = problem.target.reshape(len(problem.target), -1)

    @property
    def work(self) -> float:
        """Multiply-adds per evaluation."""
        outputs, width = self._target.shape
        return float(
            self._rank
            * (self._problem.row_work + 2 * (self._rank + outputs) * width + self._rank * (self._rank / 3 + outputs))
        )

    def starts(self) -> list[Factors]:
        """Largest triplets of the whitened slices by output channel, refined on the whitened weight."""
        whitening, tensor = self._problem.whitening, self._problem.whitened_outset
        triplets = refine(_work(tensor, self._rank), by_output(tensor, self._rank), START_ROUNDS).triplets
        reduce = triplets.reduce @ whitening.channels_inverse
        kernel = self._problem.geometry.kernel
        return [assemble(Triplets(triplets.expand, triplets.depthwise @ whitening.taps_inverse, reduce), kernel)]

    def extended(self, factors: Factors) -> Factors:
        """Add the largest terms of what is left over."""
        if factors.rank == self._rank:
            return factors
        rest = self._problem.weight - reconstruct(factors).reshape(self._problem.original.shape)
        added = assemble(by_output(rest.astype(np.float64), self._rank - factors.rank), factors.kernel)
        return joined(factors, added, COMPONENT_AXES)

    def point(self, factors: Factors) -> NDArray[np.floating]:
        """``reduce`` and the taps, both as long as their component is strong."""
        dtype = self._problem.dtype
        reduce = _unit(factors.arrays["reduce"].astype(dtype))
        taps = _unit(factors.arrays["depthwise"].reshape(self._rank, -1).astype(dtype))
        columns, features = self._features(np.concatenate([reduce.ravel(), taps.ravel()]))
        strength = strengths(self._solve(columns, features).last)[:, None]
        point = np.concatenate([(reduce * strength).ravel(), (taps * strength).ravel()])
        self._remember(point, *self._scaled(point, columns, features, strength))
        return point

    def _scaled(
        self,
        point: NDArray[np.floating],  # noqa: ARG002 - what is known of it is all that it takes
        columns: NDArray[np.floating],
        features: NDArray[np.floating],
        strength: NDArray[np.floating],
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """What ``_features`` gives for a point whose components are each ``strength**2`` (R, 1) as long."""
        return columns * strength**2, features * strength**2

    def _gradient(self, point: NDArray[np.floating], features: NDArray[np.floating], solution: Eliminated) -> Any:
        reduce, taps = self._split(point)
        slope = solution.slope(features, self._target, self._problem.rounding)
        if self._problem.rounding:
            columns = khatri_rao(reduce, taps)
            strength = self._problem.rounding * (1 + PENALTY + self._problem.rounding) * solution.energies[:, None]
            slope += strength * self._reduced(columns)
        slope = slope.reshape(self._rank, *self._problem.original.shape[1:])
        down = slope @ taps[:, :, None]
        across = reduce[:, None, :] @ slope
        return np.concatenate([down.ravel(), across.ravel()]) * (2 / self._problem.energy)

    def factors(self, point: NDArray[np.floating]) -> Factors:
        """``reduce``, the taps and the ``expand`` that is best for them."""
        reduce, taps = self._split(point)
        last = self._at(point)[1].last
        wide = Triplets(last.astype(np.float64), taps.astype(np.float64), reduce.astype(np.float64))
        return assemble(wide.evened(), self._problem.geometry.kernel)

    def _split(self, point: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        border = self._rank * self._problem.original.shape[1]
        return point[:border].reshape(self._rank, -1), point[border:].reshape(self._rank, -1)

    def _features(self, point: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Φ and Φ S, both (R, CK)."""
        columns = khatri_rao(*self._split(point))
        shaped = columns.reshape(self._rank, *self._problem.original.shape[1:])
        return columns, self._problem.times_gram(shaped).reshape(self._rank, -1)

    def _solve(self, columns: NDArray[np.floating], features: NDArray[np.floating]) -> Eliminated:
        gram = symmetric_product(features, columns)
        rounding = self._problem.rounding
        if rounding:
            noise = np.einsum("qi,qi->q", columns, self._reduced(columns))
            np.einsum("ii->i", gram)[...] += rounding * noise
        return eliminate(gram, product(self._target, columns.T), rounding=rounding)

    def _reduced(self, columns: NDArray[np.floating]) -> NDArray[np.floating]:
        """Φ times what makes ``Φ N Φᵀ`` the variances of what ``reduce`` gives, through the squares of the taps.

        White noise of that size, which rounding adds there, comes out of the taps as large.
        """
        shaped = columns.reshape(self._rank, *self._problem.original.shape[1:])
        return (self._problem.by_channel @ shaped).reshape(self._rank, -1)


class PwDwPwByLags(PwDwPwSearch):
    """The same where moments are by lags: no component is written out for all of a long kernel's taps.

    What is remembered of a point is the point and ``Φ S Φᵀ``.
    """

    @property
    def work(self) -> float:
        """Multiply-adds per evaluation."""
        return work_by_lags(self._problem.geometry, self._rank)

    def _features(self, point: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The point itself and Φ S Φᵀ (R, R)."""
        return point, self._kernels(point).gram()

    def _scaled(
        self,
        point: NDArray[np.floating],
        columns: NDArray[np.floating],  # noqa: ARG002 - the point before
        features: NDArray[np.floating],
        strength: NDArray[np.floating],
    ) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        return point, features * np.outer(strength**2, strength**2)

    def _solve(self, columns: NDArray[np.floating], features: NDArray[np.floating]) -> Eliminated:
        reduce, taps = self._split(columns)
        rounding, gram = self._problem.rounding, features.copy()
        cross = np.concatenate([self._target @ khatri_rao(*some).T for _, *some in self._strips(reduce, taps)], axis=1)
        if rounding:
            seen = np.einsum("qc,qc->q", reduce, reduce @ self._problem.by_channel)
            np.einsum("ii->i", gram)[...] += rounding * seen * np.einsum("qk,qk->q", taps, taps)
        return eliminate(gram, cross, rounding=rounding)

    def _gradient(self, point: NDArray[np.floating], features: NDArray[np.floating], solution: Eliminated) -> Any:  # noqa: ARG002
        reduce, taps = self._split(point)
        rounding = self._problem.rounding
        down, across = self._kernels(point).slopes(penalised(solution.mix, rounding))
        for where, some_reduce, some_taps in self._strips(reduce, taps):
            wanted = (solution.last[:, where].T @ self._target).reshape(-1, *self._problem.original.shape[1:])
            down[where] -= (wanted @ some_taps[:, :, None])[:, :, 0]
            across[where] -= (some_reduce[:, None, :] @ wanted)[:, 0]
        if rounding:
            strength = rounding * (1 + PENALTY + rounding) * solution.energies[:, None]
            seen = reduce @ self._problem.by_channel
            down += strength * seen * np.einsum("qk,qk->q", taps, taps)[:, None]
            across += strength * taps * np.einsum("qc,qc->q", reduce, seen)[:, None]
        return np.concatenate([down.ravel(), across.ravel()]) * (2 / self._problem.energy)

    def _kernels(self, point: NDArray[np.floating]) -> RankOne:
        assert isinstance(self._problem.gram, Stationary)
        reduce, taps = (part.astype(np.float32, copy=False) for part in self._split(point))
        return RankOne(self._problem.gram, reduce, taps)

    def _strips(
        self, reduce: NDArray[np.floating], taps: NDArray[np.floating]
    ) -> Iterator[tuple[slice, NDArray[np.floating], NDArray[np.floating]]]:
        for first in range(0, self._rank, STRIP):
            where = slice(first, first + STRIP)
            yield where, reduce[where], taps[where]


def optimum(problem: Problem, rank: int) -> Factors | None:  # noqa: ARG001 - the form has none in closed form
    """None: the factors have to be searched for."""
    return None


def work_by_lags(geometry: ConvGeometry, rank: int) -> float:
    """Multiply-adds per evaluation of a search where moments are by lags."""
    channels, taps, outputs = geometry.in_channels, geometry.taps, geometry.out_channels
    solving = rank * (2 * outputs * channels * taps + rank * (rank / 3 + 2 * outputs))
    return work_of(channels, taps, rank) + solving


def search(problem: Problem, rank: int) -> list[PwDwPwSearch]:
    """The ways to search for factors of this rank."""
    return [PwDwPwByLags(problem, rank) if problem.by_lags else PwDwPwSearch(problem, rank)]


def _unit(rows: NDArray[np.floating]) -> NDArray[np.floating]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.floating] = rows / np.where(lengths > 0, lengths, 1)
    return unit


def _work(tensor: NDArray[np.float64], rank: int) -> NDArray[np.floating]:
    """The tensor in float32 if large: the same errors to four digits in half the time (layers of a ResNet-50)."""
    return tensor.astype(np.float32) if tensor.size * rank > FLOAT32_ABOVE else tensor

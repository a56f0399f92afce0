"""Spatially separable: one convolution per axis, ``Ŵ[m,c,i,j] = Σ_q U[q,c,i] V[m,q,j]``, q < R.

R·(C·kh + M·kw) weights with the kh×1 factor first, R·(C·kw + M·kh) with the 1×kw factor first. The first factor runs at
the output's size along its own axis and the input's along the other; it carries no bias, because the padding of the
second must see zeros. The cheaper order is taken; where both cost the same, the one with the smaller error. A 1-D
kernel counts as k×1: its two orders are taps then pointwise, and pointwise then taps. Without data one truncated SVD is
the optimum (Jaderberg et al., BMVC 2014; Tai et al., ICLR 2016).
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors, joined
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import CONV, Layer, Layers
from sepconvert.separable.problem import Problem
from sepconvert.separable.reduced_rank import leading, regressions
from sepconvert.separable.search import Eliminated, EliminatedSearch, eliminate, penalised, strengths
from sepconvert.separable.threads import product
from sepconvert.separable.truncated import (
    Halves,
    balanced,
    checked_rank,
    dropped_share,
    squared_singular_values,
    truncate,
)
from sepconvert.separable.whiten import Whitening, kronecker

NAME = "spatial"
WORDS = "one convolution per axis; rank R: channels between them"
LOWERINGS = ("stacked",)
AUTO, CHANNELS, QUICK, BOUNDED = False, True, False, False
LAST = "second"
COMPONENT_AXES = {"first": 0, "second": 1}
ELIMINATED = True
LEAST_TAPS = 2
# The cheaper order of the two layers is found for one convolution, and groups might not agree.
MOST_AXES, IN_GROUPS, CHANNELWISE = 2, False, False


def full_rank(geometry: ConvGeometry) -> int:
    """Smallest side of the matrix that is factorised, over the orders that ``factorise`` may take."""
    return min(_order_rank(geometry, axis) for axis in first_axes(geometry))


def layers(
    geometry: ConvGeometry,
    rank: int,
    lowering: str,  # noqa: ARG001 - there is one
    first_kernel: tuple[int, ...] | None = None,
) -> Layers:
    """C→R with the taps of one axis, R→M with those of the other; the cheaper order unless ``first_kernel`` says."""
    axis = first_axes(geometry)[0] if first_kernel is None else _axis_of(first_kernel, geometry.kernel)
    return _ordered(geometry, rank, axis)


def first_kernel(factors: Factors) -> tuple[int, ...]:
    """The kernel of the first factor."""
    return factors.arrays["first"].shape[2:]


def first_axes(geometry: ConvGeometry) -> list[int]:
    """Axes (0: kh, 1: kw) whose factor may run first: the cheaper order, or both where they cost the same.

    Compared by MACs, or by weights where the spatial size is unknown.
    """
    costs = [_ordered(geometry, 1, axis).cost(geometry) for axis in (0, 1)]
    sizes = [c.params if c.macs is None else c.macs for c in costs]
    return [axis for axis in (0, 1) if sizes[axis] == min(sizes)]


def factorise(
    weight: NDArray[np.floating],
    rank: int,
    geometry: ConvGeometry,
    rng: np.random.Generator,  # noqa: ARG001 - the optimum is unique, nothing is drawn
) -> Factors:
    """Truncated SVD of the (C·k1)×(M·k2) matrix; the squared error is the sum of the dropped σ²."""
    checked_rank(rank, full_rank(geometry))
    options = {axis: truncate(unfold(weight, axis)[None], rank) for axis in first_axes(geometry)}
    axis = max(options, key=lambda option: options[option].energy)
    return assemble(options[axis].left[0].T, options[axis].right[0], axis, geometry)


def assemble(first: NDArray[np.floating], second: NDArray[np.floating], axis: int, geometry: ConvGeometry) -> Factors:
    """Factors from the rows ``first`` (R, C·k1) and ``second`` (R, M·k2) of the order that starts with ``axis``."""
    rank = len(first)
    one, two = split_kernel(geometry.kernel, axis)
    outputs, channels = geometry.out_channels, geometry.in_channels
    arrays = {
        "first": np.ascontiguousarray(first).reshape(rank, channels, *one),
        "second": np.ascontiguousarray(second.reshape(rank, outputs, -1).swapaxes(0, 1)).reshape(outputs, rank, *two),
    }
    return Factors(NAME, rank, geometry.kernel, arrays)


def split_kernel(kernel: tuple[int, ...], axis: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernels of the first and the second factor when ``axis`` runs first."""
    if len(kernel) == 1:
        return (kernel, (1,)) if axis == 0 else ((1,), kernel)
    rows, columns = (kernel[0], 1), (1, kernel[1])
    return (rows, columns) if axis == 0 else (columns, rows)


def first_axis(factors: Factors) -> int:
    """Which axis the first factor of these factors covers."""
    return _axis_of(first_kernel(factors), factors.kernel)


def unfold(weight: NDArray[np.floating], axis: int) -> NDArray[np.floating]:
    """The matrix of rank at most R, (C·k1, M·k2), k1 the kernel's side along ``axis``."""
    outputs, channels, rows, *columns = weight.shape
    grid = weight.reshape(outputs, channels, rows, *(columns or [1]))
    ordered = grid.transpose(1, 2, 0, 3) if axis == 0 else grid.transpose(1, 3, 0, 2)
    return ordered.reshape(ordered.shape[0] * ordered.shape[1], -1)


def fold(matrix: NDArray[np.float64], axis: int, geometry: ConvGeometry) -> NDArray[np.float64]:
    """Undo ``unfold``: (C·k1, M·k2) to (M, C, *k)."""
    rows, columns = _sides(geometry.kernel)
    channels, outputs = geometry.in_channels, geometry.out_channels
    if axis == 0:
        grid = matrix.reshape(channels, rows, outputs, columns).transpose(2, 0, 1, 3)
    else:
        grid = matrix.reshape(channels, columns, outputs, rows).transpose(2, 0, 3, 1)
    return np.ascontiguousarray(grid).reshape(geometry.weight_shape)


def error_by_rank(weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
    """Relative squared weight error of the optimum at ranks 1, 2, … full rank."""
    full = full_rank(geometry)
    curves = [
        dropped_share(squared_singular_values(unfold(weight, axis)[None]))[:full] for axis in first_axes(geometry)
    ]
    return np.min(curves, axis=0) if len(curves) > 1 else curves[0]


def draw(geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
    """Random factors: unit gain through the first, ``gain`` (2: He et al., 2015) through the second."""
    one, two = split_kernel(geometry.kernel, first_axes(geometry)[0])
    channels, outputs = geometry.in_channels, geometry.out_channels
    first = rng.standard_normal((rank, channels, *one)) / np.sqrt(channels * prod(one))
    second = rng.standard_normal((outputs, rank, *two)) * np.sqrt(gain / (rank * prod(two)))
    return Factors(NAME, rank, geometry.kernel, {"first": first, "second": second})


def reconstruct(factors: Factors) -> NDArray[np.float64]:
    """Return the equivalent dense kernel (M, C, *k), accumulated in float64."""
    first = factors.arrays["first"].astype(np.float64)
    second = factors.arrays["second"].astype(np.float64)
    rank, channels = first.shape[:2]
    outputs = len(second)
    # One of the two spatial axes has length 1 in each factor, so the product broadcasts to the kernel.
    rows = second.swapaxes(0, 1).reshape(rank, -1)
    matrix = first.reshape(rank, -1).T @ rows
    ones = tuple(1 for _ in factors.kernel)
    shape = ConvGeometry(channels, outputs, factors.kernel, ones, ones, tuple(0 for _ in ones * 2))
    return fold(matrix, first_axis(factors), shape)


def _sides(kernel: tuple[int, ...]) -> tuple[int, int]:
    return (kernel[0], kernel[1]) if len(kernel) == 2 else (kernel[0], 1)


def _order_rank(geometry: ConvGeometry, axis: int) -> int:
    sides = _sides(geometry.kernel)
    return min(geometry.in_channels * sides[axis], geometry.out_channels * sides[1 - axis])


def _ordered(geometry: ConvGeometry, rank: int, axis: int) -> Layers:
    """The two layers when ``axis`` runs first; in 1-D, axis 1 has no taps."""
    axes = range(len(geometry.kernel))
    first = Layer("first", CONV, geometry.in_channels, rank, tuple(a for a in axes if a == axis))
    second = Layer("second", CONV, rank, geometry.out_channels, tuple(a for a in axes if a != axis))
    return Layers((first, second))


def _axis_of(first: tuple[int, ...], kernel: tuple[int, ...]) -> int:
    return 0 if first == split_kernel(kernel, 0)[0] else 1


class SpatialSearch(EliminatedSearch):
    """Fit the first factor, the second eliminated, for one order of the two.

    Taps are reordered so that a patch is (C·k1) × k2, k1 the kernel's side along the axis that runs first.
    """

    def __init__(self, problem: Problem, rank: int, axis: int) -> None:
        """Prepare the search for factors of one rank that start with ``axis``."""
        super().__init__(problem, rank)
        self._axis = axis
        sides = _sides(problem.geometry.kernel)
        outputs, channels, taps = problem.original.shape
        self._tall, self._wide = channels * sides[axis], sides[1 - axis]
        order = np.arange(taps).reshape(sides)
        self._order = (order if axis == 0 else order.T).ravel()
        self._rows = problem.prepared((NAME, "rows", axis), self._ordered_rows)
        target = problem.target[:, :, self._order].reshape(outputs, self._tall, self._wide)
        self._target = np.ascontiguousarray(target.transpose(2, 0, 1))

    @property
    def work(self) -> float:
        """Multiply-adds per evaluation."""
        size, outputs = self._wide * self._rank, len(self._problem.original)
        product = self._rank * self._rows.size
        return float(product + 2 * size * (size + outputs) * self._tall + size * size * (size / 3 + 2 * outputs))

    def starts(self) -> list[Factors]:
        """The SVD of the matrix whitened by the Kronecker approximation of the moments, rows against columns."""
        if self._problem.per_channel:
            return []
        whitening, halves = self._problem.prepared((NAME, "whitened", self._axis), self._whitened)
        second = halves.right[0, : self._rank].reshape(self._rank, -1, self._wide) @ whitening.taps_inverse
        first = halves.left[0, :, : self._rank].T @ whitening.channels_inverse
        return [assemble(first, second.reshape(self._rank, -1), self._axis, self._problem.geometry)]

    def _ordered_rows(self) -> NDArray[np.floating]:
        """Rows of S by column j of the patch, its columns in the new order too: (k2, C·k1, CK), or by channel."""
        gram, order = self._problem.written_gram, self._order
        _, channels, taps = self._problem.original.shape
        if self._problem.per_channel:
            blocks = gram[:, order][:, :, order].reshape(channels, -1, self._wide, taps)
            return np.ascontiguousarray(blocks.transpose(2, 0, 1, 3))
        sides = _sides(self._problem.geometry.kernel)
        square = gram.reshape(channels, *sides, channels, *sides)
        # One copy of a view: picking rows and columns by index copies twice, element by element.
        moved = square.transpose((2, 0, 1, 3, 4, 5) if self._axis == 0 else (1, 0, 2, 3, 5, 4))
        return np.ascontiguousarray(moved).reshape(self._wide, self._tall, -1)

    def _whitened(self) -> tuple[Whitening, Halves]:
        """The whitening and all components of the whitened matrix, strongest first."""
        gram = self._rows.swapaxes(0, 1).reshape(self._tall * self._wide, -1)
        whitening = kronecker(gram, self._tall, self._wide)
        weight = self._problem.weight[:, :, self._order].reshape(-1, self._tall, self._wide)
        matrix = whitening.whiten(weight).swapaxes(0, 1).reshape(self._tall, -1)
        return whitening, truncate(matrix[None], min(matrix.shape))

    def extended(self, factors: Factors) -> Factors | None:
        """Add the largest terms of what is left over; None if the factors run in the other order."""
        if first_axis(factors) != self._axis:
            return None
        if factors.rank == self._rank:
            return factors
        rest = self._problem.weight.reshape(self._problem.geometry.weight_shape) - reconstruct(factors)
        halves = truncate(unfold(rest, self._axis)[None], self._rank - factors.rank)
        added = assemble(halves.left[0].T, halves.right[0], self._axis, self._problem.geometry)
        return joined(factors, added, COMPONENT_AXES)

    def point(self, factors: Factors) -> NDArray[np.floating]:
        """The first factor, each filter as long as its component is strong."""
        first = factors.arrays["first"].reshape(self._rank, -1).astype(self._problem.dtype)
        _, features = self._features(first)
        strength = strengths(self._solve(first, features).last.reshape(-1, self._rank))[:, None]
        first = first * strength
        features = features * strength[:, :, None]
        point: NDArray[np.floating] = first.ravel()
        self._remember(point, first, features)
        return point

    def _gradient(self, point: NDArray[np.floating], features: NDArray[np.floating], solution: Eliminated) -> Any:
        mix = penalised(solution.mix, self._problem.rounding).reshape(self._wide, self._rank, -1)
        last = solution.last.reshape(-1, self._wide, self._rank)
        slope = np.zeros((self._rank, self._tall), dtype=point.dtype)
        for column in range(self._wide):
            here = np.ascontiguousarray(features[:, :, :, column]).reshape(-1, self._tall)
            slope += mix[column] @ here - last[:, column].T @ self._target[column]
        return slope.ravel() * (2 / self._problem.energy)

    def factors(self, point: NDArray[np.floating]) -> Factors:
        """The first factor and the second that is best for it."""
        first = point.reshape(self._rank, self._tall)
        last = self._at(point)[1].last
        second = last.reshape(-1, self._wide, self._rank).transpose(2, 0, 1).reshape(self._rank, -1)
        halves = balanced(first.T[None].astype(np.float64), second[None].astype(np.float64))
        return assemble(halves.left[0].T, halves.right[0], self._axis, self._problem.geometry)

    def _features(self, point: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The first factor, and Φ S for the features (j, q): (k2, R, C·k1, k2)."""
        first = point.reshape(self._rank, self._tall)
        if not self._problem.per_channel:
            features = np.stack([product(first, rows) for rows in self._rows])
            return first, features.reshape(self._wide, self._rank, self._tall, self._wide)
        channels = self._rows.shape[1]
        by_channel: NDArray[np.floating] = first.reshape(self._rank, channels, -1).swapaxes(0, 1) @ self._rows
        return first, by_channel.swapaxes(1, 2).reshape(self._wide, self._rank, self._tall, self._wide)

    def _solve(self, first: NDArray[np.floating], features: NDArray[np.floating]) -> Eliminated:
        """Second factor (M, k2·R)."""
        size = self._wide * self._rank
        gram = (first @ features).swapaxes(2, 3).reshape(size, size)
        cross = (self._target @ first.T).swapaxes(0, 1).reshape(-1, size)
        return eliminate((gram + gram.T) / 2, np.ascontiguousarray(cross), rounding=self._problem.rounding)


def optimum(problem: Problem, rank: int) -> Factors | None:
    """Where moments are by lags, one of the two layers has all taps and the other has one.

    If the taps come first, that is the reduced-rank regression. If they come last, it is what is best behind the
    leading input directions of the whitened kernel.
    """
    if not problem.by_lags:
        return None
    geometry = problem.geometry
    axis = first_axes(geometry)[0]
    if split_kernel(geometry.kernel, axis)[0] == geometry.kernel:
        outputs = len(problem.original)
        halves = regressions(problem.weight.reshape(outputs, -1), problem.target.reshape(outputs, -1), None)
        return assemble(halves.right[0, :rank], np.ascontiguousarray(halves.left[0, :, :rank].T), axis, geometry)
    rows = problem.whitened.swapaxes(0, 1).reshape(geometry.in_channels, -1)
    directions = leading(rows @ rows.T, rank).T @ problem.whitening.channels_inverse
    basis = np.linalg.qr(directions.T)[0].T
    second = problem.weight_behind(basis).swapaxes(0, 1).reshape(rank, -1)
    return assemble(basis, second, axis, geometry)


def work_by_lags(geometry: ConvGeometry, rank: int) -> float:  # noqa: ARG001 - a protocol's arguments
    """Return 0: where moments are by lags, a fit takes as long at every rank."""
    return 0.0


def search(problem: Problem, rank: int) -> list[SpatialSearch]:
    """The ways to search for factors of this rank: one for each order that costs least."""
    return [] if problem.by_lags else [SpatialSearch(problem, rank, axis) for axis in first_axes(problem.geometry)]

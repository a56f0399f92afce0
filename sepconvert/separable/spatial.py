"""Spatially separable: one convolution per axis, ``Ŵ[m,c,i,j] = Σ_q U[q,c,i] V[m,q,j]``, q < R.

R·(C·kh + M·kw) weights with the kh×1 factor first, R·(C·kw + M·kh) with the 1×kw factor first. The first factor runs at
the output's size along its own axis and the input's along the other; it carries no bias, because the padding of the
second must see zeros. The cheaper order is taken; where both cost the same, the one with the smaller error. A 1-D
kernel counts as k×1: its two orders are taps then pointwise, and pointwise then taps. Without data one truncated SVD is
the optimum (Jaderberg et al., BMVC 2014; Tai et al., ICLR 2016).
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry, Cost
from sepconvert.separable.truncated import checked_rank, dropped_share, squared_singular_values, truncate

NAME = "spatial"


def full_rank(geometry: ConvGeometry) -> int:
    """Smallest side of the matrix that is factorised, over the orders that ``factorise`` may take."""
    return min(_order_rank(geometry, axis) for axis in first_axes(geometry))


def cost(geometry: ConvGeometry, rank: int) -> Cost:
    """Weights and MACs of the cheaper order, the first factor counted at its own output size."""
    return _order_cost(geometry, rank, first_axes(geometry)[0])


def first_axes(geometry: ConvGeometry) -> list[int]:
    """Axes (0: kh, 1: kw) whose factor may run first: the cheaper order, or both where they cost the same.

    Compared by MACs, or by weights where the spatial size is unknown.
    """
    costs = [_order_cost(geometry, 1, axis) for axis in (0, 1)]
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
    one = factors.arrays["first"].shape[2:]
    return 0 if one == split_kernel(factors.kernel, 0)[0] else 1


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


def _order_cost(geometry: ConvGeometry, rank: int, axis: int) -> Cost:
    sides = _sides(geometry.kernel)
    first = rank * geometry.in_channels * sides[axis]
    second = rank * geometry.out_channels * sides[1 - axis]
    if geometry.in_spatial is None or geometry.out_spatial is None:
        return Cost(first + second, None)
    before, after = _sides(geometry.in_spatial), _sides(geometry.out_spatial)
    between = after[axis] * before[1 - axis]
    return Cost(first + second, geometry.images * (first * between + second * prod(after)))

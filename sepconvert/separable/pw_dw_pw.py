"""Pointwise, depthwise, pointwise: ``Ŵ[m,c,k] = Σ_q A[m,q] D[q,k] B[q,c]``, q < R.

A bottleneck like MobileNetV2's (Sandler et al., CVPR 2018) without the activations between; mathematically a canonical
polyadic decomposition with the taps of all axes as one mode (Lebedev et al., ICLR 2015). R·(C + K + M) weights;
``reduce`` (B) runs at the *input's* resolution and carries no bias, because the padding of the taps that follow must
see zeros.
"""

from math import prod

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.cp import Refined, Triplets, refine
from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry, Cost
from sepconvert.separable.truncated import checked_rank, squared_singular_values

NAME = "pw_dw_pw"

# Rounds of the alternation for each of the two starts, then for the better one.
FIRST_ROUNDS = 3
MORE_ROUNDS = 12
FLOAT32_ABOVE = 10_000_000


def full_rank(geometry: ConvGeometry) -> int:
    """Return min(C·K, M·K, M·C): the sizes of the three constructions with two one-hot factors."""
    taps, channels, outputs = geometry.taps, geometry.in_channels, geometry.out_channels
    return min(channels * taps, outputs * taps, outputs * channels)


def cost(geometry: ConvGeometry, rank: int) -> Cost:
    """R·C weights at every input position and R·(K + M) at every output position."""
    first = rank * geometry.in_channels
    rest = rank * (geometry.taps + geometry.out_channels)
    before, after = geometry.in_positions, geometry.out_positions
    return Cost(first + rest, None if before is None or after is None else first * before + rest * after)


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
    # Large problems in float32: the same errors to four digits in half the time, on every layer of a ResNet-50.
    work = tensor.astype(np.float32) if tensor.size * rank > FLOAT32_ABOVE else tensor
    first = [refine(work, start.triplets, FIRST_ROUNDS) for start in starts]
    better = refine(work, min(first, key=_error).triplets, MORE_ROUNDS)
    # The penalty that bounds the norms can cost more than the rounds gain where a start is all but exact.
    best = min((better, *first, *starts), key=_error)
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


def exact(tensor: NDArray[np.float64]) -> Triplets:
    """The full-rank components of (M, C, K): two of the three factors are one-hot, nothing is computed."""
    outputs, channels, taps = tensor.shape
    smallest = min(channels * taps, outputs * taps, outputs * channels)
    if smallest == channels * taps:
        depthwise = np.tile(np.eye(taps), (channels, 1))
        reduce = np.repeat(np.eye(channels), taps, axis=0)
        return Triplets(tensor.reshape(outputs, -1), depthwise, reduce)
    if smallest == outputs * taps:
        expand = np.repeat(np.eye(outputs), taps, axis=1)
        return Triplets(expand, np.tile(np.eye(taps), (outputs, 1)), tensor.swapaxes(1, 2).reshape(-1, channels))
    expand = np.repeat(np.eye(outputs), channels, axis=1)
    return Triplets(expand, tensor.reshape(-1, taps), np.tile(np.eye(channels), (outputs, 1)))


def by_input(tensor: NDArray[np.float64], rank: int) -> Triplets:
    """The ``rank`` largest triplets of the SVDs of all W[:,c,:]: ``reduce`` is one-hot."""
    channel, left, right = _largest(tensor.swapaxes(0, 1), rank)
    return Triplets(left.T, right, np.eye(tensor.shape[1])[channel])


def by_output(tensor: NDArray[np.float64], rank: int) -> Triplets:
    """The ``rank`` largest triplets of the SVDs of all W[m,:,:]: ``expand`` is one-hot."""
    channel, left, right = _largest(tensor, rank)
    return Triplets(np.eye(len(tensor))[:, channel], right, left)


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


def _largest(
    matrices: NDArray[np.float64], rank: int
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Index of the matrix, left (R, a) and right (R, b) vectors of the ``rank`` largest triplets of (n, a, b)."""
    _, rows, columns = matrices.shape
    transposed = matrices.swapaxes(1, 2)
    values, basis = np.linalg.eigh(matrices @ transposed if rows <= columns else transposed @ matrices)
    order = np.argsort(-values, axis=None, kind="stable")[:rank]
    index, place = np.unravel_index(order, values.shape)
    vectors = basis[index, :, place]
    if rows <= columns:
        return index, vectors, np.einsum("qa,qab->qb", vectors, matrices[index])
    return index, np.einsum("qab,qb->qa", matrices[index], vectors), vectors


def _error(refined: Refined) -> float:
    return refined.error


def _start_error(tensor: NDArray[np.float64], start: Triplets) -> float:
    """Relative squared error of components that are orthogonal to each other, as those of the slices' SVDs are."""
    energy = float(np.vdot(tensor, tensor))
    norms = (
        np.linalg.norm(start.expand, axis=0)
        * np.linalg.norm(start.depthwise, axis=1)
        * np.linalg.norm(start.reduce, axis=1)
    )
    return max(0.0, 1 - float(np.vdot(norms, norms)) / energy) if energy else 0.0

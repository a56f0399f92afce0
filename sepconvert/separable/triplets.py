"""Sums of rank-one terms of a (M, C, K) tensor, and the ways to build them from singular value decompositions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Triplets:
    """``expand`` (M, R), ``depthwise`` (R, K), ``reduce`` (R, C): R components of a (M, C, K) tensor."""

    expand: NDArray[np.floating]
    depthwise: NDArray[np.floating]
    reduce: NDArray[np.floating]

    def dense(self) -> NDArray[np.float64]:
        """The sum of the components, (M, C, K)."""
        columns = khatri_rao(self.reduce, self.depthwise)
        product = self.expand.astype(np.float64) @ columns.astype(np.float64)
        return product.reshape(len(self.expand), self.reduce.shape[1], self.depthwise.shape[1])

    def evened(self) -> "Triplets":
        """The same components, each with its norm shared evenly between its three vectors."""
        norms = [
            np.linalg.norm(self.expand, axis=0),
            np.linalg.norm(self.depthwise, axis=1),
            np.linalg.norm(self.reduce, axis=1),
        ]
        product = norms[0] * norms[1] * norms[2]
        third = np.cbrt(product)
        scales = [np.where(product > 0, third / np.where(n > 0, n, 1), 1) for n in norms]
        return Triplets(self.expand * scales[0], self.depthwise * scales[1][:, None], self.reduce * scales[2][:, None])


def khatri_rao(reduce: NDArray[np.floating], depthwise: NDArray[np.floating]) -> NDArray[np.floating]:
    """Products of every component's channel and tap vectors: (R, C) and (R, K) to (R, C·K)."""
    return (reduce[:, :, None] * depthwise[:, None, :]).reshape(len(reduce), -1)


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

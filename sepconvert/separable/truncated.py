"""Truncated singular value decompositions of many small matrices at once.

By Eckart and Young (1936) the truncated SVD is the best approximation of its rank in the Frobenius norm, and its
squared error is the sum of the dropped squared singular values. The decompositions go through the Gram matrix of the
shorter side: the approximation is the projection of the matrix onto leading eigenvectors, which keeps its accuracy
although the small eigenvalues of a Gram matrix do not, and full rank loses nothing but rounding.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Halves:
    """``left @ right`` approximates the matrices: (n, a, r) and (n, r, b), component norms balanced between the two."""

    left: NDArray[np.float64]
    right: NDArray[np.float64]

    @property
    def energy(self) -> float:
        """Squared Frobenius norm of all products, for components that are orthogonal on one side."""
        norms = np.linalg.norm(self.left, axis=1) * np.linalg.norm(self.right, axis=2)
        return float(np.vdot(norms, norms))


def checked_rank(rank: int, full: int) -> int:
    """Return ``rank``.

    Raises:
        ValueError: the rank is not between 1 and ``full``.
    """
    if not 1 <= rank <= full:
        raise ValueError(f"rank {rank} is outside 1..{full}, the ranks that this convolution has")
    return rank


def squared_singular_values(matrices: NDArray[np.floating]) -> NDArray[np.float64]:
    """Squared singular values of (n, a, b) matrices, largest first: (n, min(a, b)).

    Computed in the matrices' own precision, at least float32: good to about 1e-6 of the largest then.
    """
    matrices = matrices.astype(np.result_type(matrices.dtype, np.float32), copy=False)
    # Squares of large values do not fit their type. A power of two changes no digit.
    power = int(np.frexp(np.abs(matrices).max(initial=0))[1])
    values = np.linalg.eigvalsh(_gram(np.ldexp(matrices, -power))).astype(np.float64)[:, ::-1]
    squared: NDArray[np.float64] = np.ldexp(np.maximum(values, 0.0), 2 * power)
    return squared


def truncate(matrices: NDArray[np.floating], rank: int) -> Halves:
    """Best rank-``rank`` approximations of (n, a, b) matrices."""
    matrices = np.asarray(matrices, dtype=np.float64)
    checked_rank(rank, min(matrices.shape[1:]))
    basis = np.linalg.eigh(_gram(matrices))[1][:, :, ::-1][:, :, :rank]
    if matrices.shape[1] <= matrices.shape[2]:
        return balanced(basis, basis.swapaxes(1, 2) @ matrices)
    return balanced(matrices @ basis, np.ascontiguousarray(basis.swapaxes(1, 2)))


def balanced(left: NDArray[np.float64], right: NDArray[np.float64]) -> Halves:
    """Share each component's norm evenly between its two halves, so that neither is hard to store in few bits."""
    left_norms = np.linalg.norm(left, axis=1)
    right_norms = np.linalg.norm(right, axis=2)
    usable = (left_norms > 0) & (right_norms > 0)
    ratio = np.sqrt(np.where(usable, right_norms, 1.0) / np.where(usable, left_norms, 1.0))
    return Halves(left * ratio[:, None, :], right / ratio[:, :, None])


def dropped_share(squared: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative squared error by rank: entry r−1 is what dropping all but the r first values of each row loses.

    ``squared`` is (n, s), largest first. A zero matrix loses nothing.
    """
    by_rank = squared.sum(axis=0)
    total = by_rank.sum()
    if total == 0:
        return np.zeros(by_rank.size)
    tails = np.cumsum(by_rank[::-1])[::-1]
    shares: NDArray[np.float64] = np.append(tails[1:], 0.0) / total
    return shares


def _gram(matrices: NDArray[np.floating]) -> NDArray[np.floating]:
    transposed = matrices.swapaxes(1, 2)
    return matrices @ transposed if matrices.shape[1] <= matrices.shape[2] else transposed @ matrices

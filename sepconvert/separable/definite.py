"""Solving with positive definite matrices that may be ill-conditioned."""

import numpy as np
from numpy.typing import NDArray


def solve_left(matrix: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.floating]:
    """Solve ``matrix @ x = right`` for a symmetric positive (semi)definite matrix (n, n) and (n, m).

    By Cholesky; where rounding leaves the matrix indefinite, by the pseudo-inverse of its eigenvalues.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh

    try:
        factor = cho_factor(matrix, lower=True, check_finite=False)
    except LinAlgError:
        values, vectors = eigh(matrix, check_finite=False)
        cutoff = len(values) * np.finfo(matrix.dtype).eps * float(np.abs(values).max(initial=0.0))
        usable = values > cutoff
        inverse = np.where(usable, 1 / np.where(usable, values, 1), 0).astype(matrix.dtype)
        pseudo: NDArray[np.floating] = vectors @ (inverse[:, None] * (vectors.T @ right))
        return pseudo
    solution: NDArray[np.floating] = cho_solve(factor, right, check_finite=False)
    return solution


def solve_right(left: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    """Solve ``x @ matrix = left`` for a symmetric positive (semi)definite matrix (n, n) and (m, n)."""
    return np.ascontiguousarray(solve_left(matrix, left.T).T)


def cholesky(matrix: NDArray[np.floating]) -> NDArray[np.float64]:
    """Lower factor of a positive semidefinite matrix (n, n), its diagonal raised as little as it takes."""
    matrix = matrix.astype(np.float64)
    size = float(np.trace(matrix)) / len(matrix)
    lift = 0.0
    for _ in range(16):
        lifted = matrix.copy()
        lifted[np.diag_indices_from(lifted)] += lift
        try:
            return np.linalg.cholesky(lifted)
        except np.linalg.LinAlgError:
            lift = 10 * lift if lift else len(matrix) * float(np.finfo(np.float64).eps) * (size or 1.0)
    raise ValueError("the matrix is not positive semidefinite")


def inverse_of_lower(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a lower triangular matrix."""
    from scipy.linalg import solve_triangular

    inverse: NDArray[np.float64] = solve_triangular(lower, np.eye(len(lower)), lower=True, check_finite=False)
    return inverse

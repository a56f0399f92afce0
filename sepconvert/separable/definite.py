"""Solving with positive definite matrices that may be ill-conditioned."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", bound=np.floating)


def solve_left(matrix: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.floating]:
    """Solve ``matrix @ x = right`` for a symmetric positive semidefinite matrix (n, n) and (n, m); see ``cholesky``."""
    from scipy.linalg import cho_solve

    solution: NDArray[np.floating] = cho_solve((cholesky(matrix), True), right, check_finite=False)
    return solution


def solve_right(left: NDArray[np.floating], matrix: NDArray[np.floating]) -> NDArray[np.floating]:
    """Solve ``x @ matrix = left`` for a symmetric positive (semi)definite matrix (n, n) and (m, n)."""
    return np.ascontiguousarray(solve_left(matrix, left.T).T)


def cholesky(matrix: NDArray[Number]) -> NDArray[Number]:
    """Lower factor of a positive semidefinite matrix (n, n), its diagonal raised as little as rounding makes it take.

    An eigendecomposition would do without raising, at some 50 times the work.
    """
    from scipy.linalg import LinAlgError
    from scipy.linalg import cholesky as factorise

    size = float(np.trace(matrix)) / len(matrix)
    lift = 0.0
    for _ in range(16):
        lifted = matrix.copy()
        if lift:
            np.einsum("ii->i", lifted)[...] += lift
        try:
            lower: NDArray[Number] = factorise(lifted, lower=True, overwrite_a=True, check_finite=False)
        except LinAlgError:
            lift = 10 * lift if lift else len(matrix) * float(np.finfo(matrix.dtype).eps) * (size or 1.0)
        else:
            return lower
    raise ValueError("the matrix is not positive semidefinite")


def inverse_of_lower(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of a lower triangular matrix."""
    from scipy.linalg import solve_triangular

    inverse: NDArray[np.float64] = solve_triangular(lower, np.eye(len(lower)), lower=True, check_finite=False)
    return inverse

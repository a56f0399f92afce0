"""Reduced-rank regression: the best kernel of a rank is a projection of the best kernel (Izenman, 1975).

With the least-squares matrix W* and ``T = W* S``, the error of a matrix of rank R is least for the projection of W*
onto the R leading eigenvectors V of ``T W*ᵀ``, the covariance of what W* gives: ``Ŵ = V Vᵀ W*``. What it loses is the
sum of the other eigenvalues, so one decomposition serves all ranks.
"""

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.definite import cholesky, inverse_of_lower
from sepconvert.separable.truncated import Halves, balanced


def leading(gram: NDArray[np.floating], count: int) -> NDArray[np.float64]:
    """Eigenvectors (n, count) of the largest eigenvalues of a symmetric matrix (n, n), largest first."""
    from scipy.linalg import eigh

    wide = gram.astype(np.float64)
    size = len(wide)
    # The triangle that is read decides: averaged, rounding does not depend on which one that is.
    vectors: NDArray[np.float64] = eigh(
        (wide + wide.T) / 2, subset_by_index=(size - count, size - 1), check_finite=False
    )[1]
    return np.ascontiguousarray(vectors[:, ::-1])


def regressions(
    weight: NDArray[np.floating], target: NDArray[np.floating], gram: NDArray[np.floating] | None
) -> Halves:
    """Best factors of every rank at once: those of rank R are the first R components.

    Args:
        weight: (M, n), W*.
        target: (M, n), T.
        gram: (n, n), S, if it is at hand: where n < M the smaller eigenproblem is solved.

    Returns:
        ``left`` (1, M, r) and ``right`` (1, r, n) with r = min(M, n), strongest first, norms balanced.
    """
    outputs, width = weight.shape
    if gram is not None and width < outputs:
        return _by_inputs(target.astype(np.float64), gram.astype(np.float64))
    vectors = leading(target @ weight.T, min(outputs, width))
    return balanced(vectors[None], (vectors.T @ weight)[None])


def _by_inputs(target: NDArray[np.float64], gram: NDArray[np.float64]) -> Halves:
    """The same by ``TᵀT u = λ S u``: the projection is ``T u uᵀ``, summed over the u of the largest λ."""
    back = inverse_of_lower(cholesky(gram)).T
    vectors = back @ leading(back.T @ (target.T @ target) @ back, len(gram))
    return balanced((target @ vectors)[None], vectors.T[None])

"""Canonical polyadic factors of a (M, C, K) weight by alternating least squares.

``W[m,c,k] ≈ Σ_q A[m,q] D[q,k] B[q,c]`` is what a pointwise–depthwise–pointwise bottleneck computes. Unbounded, the
best approximation may not exist: components grow and cancel each other (Phan et al., ECCV 2020). A small penalty on the
squared norms of all three factors bounds them; it is part of the objective, so every step lowers the same function.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.triplets import Triplets, khatri_rao

# Relative to the tensor's energy: what the penalty of R equal components that add up to it would be.
PENALTY = 1e-4


@dataclass(frozen=True, slots=True)
class Refined:
    """Components after the alternation and their relative squared error."""

    triplets: Triplets
    error: float


def refine(tensor: NDArray[np.floating], start: Triplets, rounds: int, tolerance: float = 1e-3) -> Refined:
    """Alternate least squares on all three factors from ``start``.

    Args:
        tensor: (M, C, K).
        start: the components to start from.
        rounds: at most this many rounds over the three factors.
        tolerance: stop when a round lowers the relative error by less than this share of it.

    Returns:
        The components with evened norms, and their relative squared error.
    """
    energy = float(np.vdot(tensor, tensor))
    if energy == 0:
        return Refined(start, 0.0)
    dtype = tensor.dtype
    start = start.evened()
    a: NDArray[np.floating] = np.ascontiguousarray(start.expand, dtype=dtype)
    d: NDArray[np.floating] = np.ascontiguousarray(start.depthwise, dtype=dtype)
    b: NDArray[np.floating] = np.ascontiguousarray(start.reduce, dtype=dtype)
    flat = tensor.reshape(len(tensor), -1)
    shape = (len(d), *tensor.shape[1:])
    rho = PENALTY * float(np.cbrt(energy**2 / len(d) ** 2)) / 3
    previous = np.inf
    error = np.inf
    for _ in range(rounds):
        a = _ridge(_gram(b, d), khatri_rao(b, d) @ flat.T, rho).T
        projected = (a.T @ flat).reshape(shape)
        b = _ridge(_gram(a.T, d), np.einsum("qck,qk->qc", projected, d), rho)
        right = np.einsum("qck,qc->qk", projected, b)
        gram = _gram(a.T, b)
        d = _ridge(gram, right, rho)
        error = (energy - 2 * float(np.vdot(d, right)) + float(np.vdot(d, gram @ d))) / energy
        if previous - error < tolerance * error:
            break
        previous = error
        evened = Triplets(a, d, b).evened()
        a, d, b = evened.expand, evened.depthwise, evened.reduce
    return Refined(Triplets(a, d, b).evened(), max(error, 0.0))


def _gram(one: NDArray[np.floating], two: NDArray[np.floating]) -> NDArray[np.floating]:
    gram: NDArray[np.floating] = (one @ one.T) * (two @ two.T)
    return gram


def _ridge(gram: NDArray[np.floating], right: NDArray[np.floating], rho: float) -> NDArray[np.floating]:
    """Solve (gram + rho) x = right; the jitter only matters where components coincide."""
    from scipy.linalg import cho_factor, cho_solve

    lifted = gram.copy()
    jitter = len(gram) * np.finfo(gram.dtype).eps * float(np.trace(gram)) / len(gram)
    lifted[np.diag_indices_from(lifted)] += rho + jitter
    solution: NDArray[np.floating] = cho_solve(cho_factor(lifted, check_finite=False), right, check_finite=False)
    return solution

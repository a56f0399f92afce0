"""Kronecker approximation of patch moments, and the change of coordinates that it gives.

``S ≈ S_C ⊗ T`` with S_C over channels and T over taps (Van Loan and Pitsianis, 1993) turns the output error into a
plain Frobenius norm: with ``S_C = L_C L_Cᵀ`` and ``T = L_T L_Tᵀ`` it is ``‖L_Cᵀ-whitened (W−Ŵ) L_T‖``, so truncated SVDs
of the whitened kernel start a fit close to where it ends, and gradients in these coordinates are well scaled.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.definite import cholesky

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Whitening:
    """Lower Cholesky factors of the channel part (C, C) and the tap part (K, K) of a gram matrix, and inverses."""

    channels: NDArray[np.float64]
    taps: NDArray[np.float64]
    channels_inverse: NDArray[np.float64]
    taps_inverse: NDArray[np.float64]

    def whiten(self, kernel: NDArray[np.floating]) -> NDArray[np.float64]:
        """Kernels (n, C, K) in coordinates where the approximate error is the Frobenius norm."""
        return self.channels.T @ (kernel.astype(np.float64) @ self.taps)


def kronecker(gram: NDArray[np.floating], channels: int, taps: int) -> Whitening:
    """Nearest Kronecker product of a gram matrix (CK, CK) or of its blocks (C, K, K), factorised."""
    blocks = gram if gram.ndim == 3 else gram.reshape(channels, taps, channels, taps)
    tap_part = np.eye(taps)
    channel_part = np.eye(channels)
    for _ in range(ROUNDS):
        channel_part = _channel_part(blocks, tap_part)
        tap_part = _tap_part(blocks, channel_part)
    channel_factor, tap_factor = cholesky(channel_part), cholesky(tap_part)
    return Whitening(channel_factor, tap_factor, _inverse(channel_factor), _inverse(tap_factor))


def _channel_part(blocks: NDArray[np.floating], tap_part: NDArray[np.float64]) -> NDArray[np.float64]:
    if blocks.ndim == 3:
        weights = np.einsum("ckl,kl->c", blocks, tap_part)
        return np.diag(weights / np.vdot(tap_part, tap_part))
    part: NDArray[np.float64] = np.einsum("ckdl,kl->cd", blocks, tap_part, optimize=True).astype(np.float64)
    return (part + part.T) / (2 * np.vdot(tap_part, tap_part))


def _tap_part(blocks: NDArray[np.floating], channel_part: NDArray[np.float64]) -> NDArray[np.float64]:
    if blocks.ndim == 3:
        diagonal = np.diagonal(channel_part)
        return np.einsum("ckl,c->kl", blocks, diagonal).astype(np.float64) / np.vdot(diagonal, diagonal)
    part: NDArray[np.float64] = np.einsum("ckdl,cd->kl", blocks, channel_part, optimize=True).astype(np.float64)
    return (part + part.T) / (2 * np.vdot(channel_part, channel_part))


def _inverse(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.linalg import solve_triangular

    inverse: NDArray[np.float64] = solve_triangular(lower, np.eye(len(lower)), lower=True, check_finite=False)
    return inverse

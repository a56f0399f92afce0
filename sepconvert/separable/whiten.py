"""Kronecker approximation of patch moments, and the coordinates in which the output error is a plain norm.

``S ≈ S_C ⊗ T`` with S_C over one group of a patch's terms and T over the other (Van Loan and Pitsianis, 1993) turns the
output error into a plain Frobenius norm: with ``S_C = L_C L_Cᵀ`` and ``T = L_T L_Tᵀ`` it is that of
``L_Cᵀ (W−Ŵ) L_T``, output by output, so the truncated SVDs of a whitened kernel start a fit close to where it ends.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.definite import cholesky, inverse_of_lower
from sepconvert.separable.stationary import Stationary

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
        count, channels, taps = kernel.shape
        # One large product over channels: thousands of thin ones take ten times as long.
        columns = (kernel.astype(np.float64) @ self.taps).swapaxes(0, 1).reshape(channels, -1)
        whitened: NDArray[np.float64] = self.channels.T @ columns
        return whitened.reshape(channels, count, taps).swapaxes(0, 1)


def kronecker(gram: NDArray[np.floating] | Stationary, channels: int, taps: int) -> Whitening:
    """Nearest Kronecker product of a gram matrix (CK, CK), of one by lags or of its blocks (C, K, K), factorised."""
    blocks = gram
    if not isinstance(gram, Stationary) and gram.ndim == 2:
        blocks = gram.reshape(channels, taps, channels, taps)
    tap_part = np.eye(taps)
    channel_part = np.eye(channels)
    for _ in range(ROUNDS):
        channel_part = _channel_part(blocks, tap_part)
        tap_part = _tap_part(blocks, channel_part)
    channel_factor, tap_factor = cholesky(channel_part), cholesky(tap_part)
    return Whitening(channel_factor, tap_factor, inverse_of_lower(channel_factor), inverse_of_lower(tap_factor))


def _channel_part(blocks: NDArray[np.floating] | Stationary, tap_part: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(blocks, Stationary):
        summed = blocks.channel_part(tap_part)
        return (summed + summed.T) / (2 * np.vdot(tap_part, tap_part))
    if blocks.ndim == 3:
        weights = np.einsum("ckl,kl->c", blocks, tap_part)
        return np.diag(weights / np.vdot(tap_part, tap_part))
    part: NDArray[np.float64] = np.einsum("ckdl,kl->cd", blocks, tap_part.astype(blocks.dtype)).astype(np.float64)
    return (part + part.T) / (2 * np.vdot(tap_part, tap_part))


def _tap_part(blocks: NDArray[np.floating] | Stationary, channel_part: NDArray[np.float64]) -> NDArray[np.float64]:
    if isinstance(blocks, Stationary):
        summed = blocks.tap_part(channel_part)
        return (summed + summed.T) / (2 * np.vdot(channel_part, channel_part))
    if blocks.ndim == 3:
        diagonal = np.diagonal(channel_part)
        blend: NDArray[np.float64] = np.einsum("ckl,c->kl", blocks, diagonal).astype(np.float64)
        return blend / np.vdot(diagonal, diagonal)
    part: NDArray[np.float64] = np.einsum("ckdl,cd->kl", blocks, channel_part.astype(blocks.dtype)).astype(np.float64)
    return (part + part.T) / (2 * np.vdot(channel_part, channel_part))

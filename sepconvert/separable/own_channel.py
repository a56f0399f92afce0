"""Kernels that know one channel alone against a covariance by lags, none of their products with it written out.

A row of ``dw_pw``'s features is ``Φ[(c,j)] = e_c ⊗ D[c,j]``. ``Φ S`` has C·r·C·K values: 800 million for 12 filters on
each of 1,024 channels of 64 taps. All that a fit needs of it comes channel by channel from the taps' spectra.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.stationary import TYPICAL_WINDOWS, Stationary


@dataclass(frozen=True)
class OwnChannel:
    """C·r kernels, ``taps`` (C, r, K) on a channel each, under a covariance."""

    covariance: Stationary
    taps: NDArray[np.float32]

    def gram(self) -> NDArray[np.float32]:
        """``Φ S Φᵀ`` (C·r, C·r)."""
        channels, rank, taps = self.taps.shape
        total = np.zeros((channels, rank, channels, rank), np.float32)
        for waves in self._waves:
            others = _pairs(waves).swapaxes(1, 2)
            for channel, spectrum in self._spectra():
                there = (waves[channel] * self._shares)[None] * spectrum[channel:, None]
                total[channel, :, channel:] += (_pairs(there) @ others[channel:]).swapaxes(0, 1)
        for one, two in self.covariance.added:
            spread, flat = self.taps @ two, self.taps.reshape(-1, taps)
            for channel in range(channels):
                alike = (spread[channel] @ flat.T).reshape(rank, channels, rank)
                total[channel, :, channel:] += (alike * one[channel, None, :, None])[:, channel:]
        for channel, own in enumerate(self.taps):
            total[channel, :, channel] += np.float32(self.covariance.lift) * (own @ own.T)
        square = total.reshape(channels * rank, channels * rank)
        for first in range(0, len(square), rank):
            square[first + rank :, first : first + rank] = square[first : first + rank, first + rank :].T
        return square

    def mixed(self, mix: NDArray[np.floating]) -> NDArray[np.float32]:
        """The columns of a channel of ``mix Φ S``, in the rows of that channel: (C, r, K).

        Args:
            mix: (C·r, C·r).
        """
        from scipy.fft import irfft

        channels, rank, taps = self.taps.shape
        rows = mix.astype(np.float32, copy=False).reshape(channels, rank, channels, rank)
        product = np.zeros_like(self.taps)
        for window, waves in zip(self.covariance.windows, self._waves, strict=True):
            found, pairs = np.empty_like(waves), _pairs(waves)
            for channel, spectrum in self._spectra():
                there = (rows[channel].swapaxes(0, 1) @ pairs).view(np.complex64)
                found[channel] = np.einsum("cjf,cf->jf", there, spectrum.conj())
            product += window * irfft(found, self.covariance.size)[..., :taps]
        for one, two in self.covariance.added:
            spread = (self.taps @ two).reshape(-1, taps)
            for channel in range(channels):
                product[channel] += (rows[channel] * one[:, channel, None]).reshape(rank, -1) @ spread
        for channel, own in enumerate(self.taps):
            product[channel] += np.float32(self.covariance.lift) * (rows[channel, :, channel] @ own)
        return product

    @cached_property
    def _waves(self) -> NDArray[np.complex64]:
        """(I, C, r, F), the spectra of the taps in each window."""
        from scipy.fft import rfft

        waves: NDArray[np.complex64] = rfft(self.covariance.windows[:, None, None] * self.taps, self.covariance.size)
        return waves

    @property
    def _shares(self) -> NDArray[np.float32]:
        """Every frequency's share in a sum of products, (F,)."""
        size = self.covariance.size
        shares = np.full(size // 2 + 1, 2 / size, np.float32)
        shares[0] = 1 / size
        if size % 2 == 0:
            shares[-1] = 1 / size
        return shares

    def _spectra(self) -> Iterator[tuple[int, NDArray[np.complex64]]]:
        """Yield every channel with its row (C, F) of the lags' spectrum, whose matrices are Hermitian."""
        for channel in range(len(self.taps)):
            yield channel, np.ascontiguousarray(self.covariance.spectrum[:, channel].T)


def work_of(channels: int, taps: int, rank: int) -> float:
    """Multiply-adds of ``gram`` and ``mixed`` of so many kernels per channel, about."""
    return 6.0 * TYPICAL_WINDOWS * (taps + 1) * (channels * rank) ** 2


def _pairs(values: NDArray[np.complex64]) -> NDArray[np.float32]:
    """Real and imaginary parts next to each other: (…, 2F)."""
    pairs: NDArray[np.float32] = np.ascontiguousarray(values).view(np.float32)
    return pairs

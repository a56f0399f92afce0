"""Kernels of rank one against a covariance by lags, none of them written out.

A component of ``pw_dw_pw`` is the product of a vector over channels and one over taps, ``Φ[q] = b_q ⊗ d_q``. By lags a
covariance is a sum of such products too, one per frequency, so that everything a fit needs of ``Φ S`` comes from (R, C)
and (R, R) matrices: R·C² + R²·C multiply-adds per frequency, where ``Φ S`` itself takes transforms of R·C rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.stationary import Stationary


@dataclass(frozen=True)
class RankOne:
    """R kernels ``reduce`` (R, C) times ``taps`` (R, K) under a covariance."""

    covariance: Stationary
    reduce: NDArray[np.float32]
    taps: NDArray[np.float32]

    def gram(self) -> NDArray[np.float32]:
        """``Φ S Φᵀ`` (R, R)."""
        count = len(self.reduce)
        total = np.zeros((count, count), np.float32)
        for share, waves, (real, imaginary) in self._frequencies():
            alike = waves.T @ waves.conj()
            total += share * (alike.real * (real @ self.reduce.T) - alike.imag * (imaginary @ self.reduce.T))
        for one, two in self._products:
            total += (self.reduce @ one @ self.reduce.T) * (self.taps @ two @ self.taps.T)
        total += total.T.copy()
        return total * np.float32(0.5)

    def slopes(self, mix: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Sum ``mix Φ S`` (R, C, K) over the taps, times ``taps``: (R, C); and over channels, times ``reduce``: (R, K).

        Args:
            mix: (R, R).
        """
        from scipy.fft import irfft

        mix = mix.astype(np.float32, copy=False)
        down, across = np.zeros_like(self.reduce), np.zeros_like(self.taps)
        mixed = np.empty_like(self._waves)
        for index, (share, waves, (real, imaginary)) in enumerate(self._frequencies()):
            weighed = mix * (waves.conj().T @ waves)
            down += share * (weighed.real @ real - weighed.imag @ imaginary)
            among = (real @ self.reduce.T + 1j * (imaginary @ self.reduce.T)).astype(np.complex64)
            mixed[:, :, index] = waves @ (mix.T * among)
        for window, wave in zip(self.covariance.windows, mixed, strict=True):
            across += window * irfft(wave, self.covariance.size)[:, : self.taps.shape[1]]
        for one, two in self._products:
            seen, spread = self.reduce @ one, self.taps @ two
            down += (mix * (spread @ self.taps.T).T) @ seen
            across += (mix * (seen @ self.reduce.T).T) @ spread
        return down, across

    @cached_property
    def _waves(self) -> NDArray[np.complex64]:
        """(I, R, F), the spectra of the taps in each window."""
        from scipy.fft import rfft

        waves: NDArray[np.complex64] = rfft(self.covariance.windows[:, None] * self.taps, self.covariance.size)
        return waves

    @property
    def _products(self) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """What the covariance adds to its lags, as (C, C) and (K, K) matrices."""
        channels, taps = self.covariance.shape
        lift = np.float32(self.covariance.lift) * np.eye(channels, dtype=np.float32)
        return [*self.covariance.added, (lift, np.eye(taps, dtype=np.float32))]

    def _frequencies(
        self,
    ) -> Iterator[tuple[np.float32, NDArray[np.complex64], tuple[NDArray[np.float32], NDArray[np.float32]]]]:
        """Yield every frequency's share in a sum, the taps' spectra (I, R), and ``reduce`` times the lags' (R, C)."""
        size = self.covariance.size
        for index, spectrum in enumerate(self.covariance.spectrum):
            alone = index == 0 or 2 * index == size
            real = self.reduce @ np.ascontiguousarray(spectrum.real)
            imaginary = self.reduce @ np.ascontiguousarray(spectrum.imag)
            waves = np.ascontiguousarray(self._waves[:, :, index])
            yield np.float32((1 if alone else 2) / size), waves, (real, imaginary)


def work_of(channels: int, taps: int, count: int) -> float:
    """Multiply-adds of ``gram`` and ``slopes`` of so many kernels together, about."""
    return 2.0 * (taps + 1) * count * channels * (2 * channels + 3 * count)

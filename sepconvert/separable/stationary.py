"""The covariance of a long kernel's patches, for signals that are alike all along an axis.

Between two taps of two channels such a covariance depends on how far apart the taps are, and on how often both lie
inside the input: with ``N[k,k']`` the share of output positions at which both do, and Γ the covariances by lag,
``S[(c,k),(c',k')] = N[k,k'] Γ[c,c',k'−k]``, and what padding adds, which reads zero and not the mean:
``μ μᵀ ⊗ (N − n nᵀ)``. A kernel of 87 taps on 96 channels has 8,352 terms: 70 million covariances, of which 0.8 million
differ. They are never written out. A product with S is one product of (C, C) matrices per frequency (a Toeplitz matrix
is part of a circulant one), for each of the few vectors that N is made of. Systems are solved by conjugate gradients,
preconditioned by the nearest circulant matrix (T. Chan, "An Optimal Circulant Preconditioner for Toeplitz Systems",
SIAM J. Sci. Stat. Comput. 9, 1988).
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Conjugate gradients stop at this share of what was to be solved, or after so many steps: what is solved for is a
# correction of a kernel, and it is estimated anyhow.
TOLERANCE = 1e-3
STEPS = 60
# Sums of products in float32 are off by up to about this share: inputs that nothing has changed call for no correction.
ROUNDING = 1e-5
# Transforms and products of many small complex matrices take about this many times as long as one large product.
SLOWNESS = 4.0
# Vectors of N that are kept: those whose eigenvalue is at least this share of the largest, at most so many.
SMALLEST_WINDOW = 1e-2
MOST_WINDOWS = 12
# As many as padding at both ends makes, about.
TYPICAL_WINDOWS = 2


@dataclass(frozen=True)
class Stationary:
    """A covariance (CK, CK) of patches, by lags; rows and columns are channel-major as in ``PatchMoments``.

    Attributes:
        lags: (K, C, C) float32, the covariance of channel c at a position and of c' so many taps later.
        windows: (I, K): Σ a aᵀ is what lags are multiplied by at a pair of taps.
        added: pairs of (C, C) and (K, K) matrices whose Kronecker products are added.
        lift: added to the diagonal.
    """

    lags: NDArray[np.float32]
    windows: NDArray[np.float32]
    added: tuple[tuple[NDArray[np.float32], NDArray[np.float32]], ...]
    lift: float = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        """(C, K)."""
        return self.lags.shape[1], len(self.lags)

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """The working precision."""
        return np.dtype(np.float32)

    @property
    def row_work(self) -> float:
        """Multiply-adds that would take as long as a row times the matrix."""
        return SLOWNESS * 2.0 * len(self.windows) * self.size * self.shape[0] ** 2

    @cached_property
    def mean_diagonal(self) -> float:
        """Mean variance of a term, the lift left out."""
        channels, taps = self.shape
        spread = float(np.trace(self.lags[0]) * np.sum(self.windows**2))
        spread += sum(float(np.trace(one) * np.trace(two)) for one, two in self.added)
        return spread / (channels * taps)

    def lifted(self, more: float) -> "Stationary":
        """The same with ``more`` added to the diagonal."""
        other = replace(self, lift=self.lift + more)
        other.__dict__.update({name: self.__dict__[name] for name in _SHARED if name in self.__dict__})
        return other

    def mixed(self, reduce: NDArray[np.floating]) -> "Stationary":
        """The covariance of patches of mixed channels; ``reduce`` (n, C) has orthonormal rows."""
        narrow = reduce.astype(np.float32)
        added = tuple((_narrow(narrow @ one @ narrow.T), two) for one, two in self.added)
        return Stationary(_narrow(narrow @ self.lags @ narrow.T), self.windows, added, self.lift)

    def times(self, rows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Multiply kernels (n, C, K) from the right: (n, C, K)."""
        rows = rows.astype(np.float32, copy=False)
        product = np.float32(self.lift) * rows
        for window in self.windows:
            product += window * self._by_lag(window * rows)
        for one, two in self.added:
            product += one.T @ (rows @ two)
        return product

    def solve(self, right: NDArray[np.floating], among: NDArray[np.floating]) -> NDArray[np.float32]:
        """Solve ``x S = right`` for kernels (n, C, K), a difference of values as large as ``among`` (n, C, K).

        What is no more than the rounding of that difference is not solved for.
        """
        left = _narrow(right)
        solution = np.zeros_like(left)
        allowed = np.maximum(TOLERANCE**2 * _squares(left), ROUNDING**2 * _squares(_narrow(among)))
        there = self._approximately_solved(left)
        direction, slope = there, _products(there, left)
        for _ in range(STEPS):
            if (_squares(left) <= allowed).all():
                break
            image = self.times(direction)
            bend = _products(direction, image)
            step = _ratio(slope, bend)
            solution += step * direction
            left -= step * image
            there = self._approximately_solved(left)
            before, slope = slope, _products(there, left)
            direction = there + _ratio(slope, before) * direction
        return solution

    def blocks(self) -> NDArray[np.floating]:
        """The blocks within a channel, (C, K, K)."""
        _, taps = self.shape
        apart = np.abs(np.subtract.outer(np.arange(taps), np.arange(taps)))
        own = np.diagonal(self.lags, axis1=1, axis2=2).T
        blocks: NDArray[np.floating] = own[:, apart] * (self.windows.T @ self.windows)
        for one, two in self.added:
            blocks = blocks + np.diagonal(one)[:, None, None] * two
        return blocks + np.float32(self.lift) * np.eye(taps, dtype=np.float32)

    def channel_part(self, tap_part: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Σ S[(c,k),(c',k')] T[k,k'] over the taps, (C, C)."""
        channels, taps = self.shape
        weighed = tap_part * (self.windows.T @ self.windows)
        part = np.zeros((channels, channels))
        for lag in range(taps):
            share = float(np.trace(weighed, lag))
            part += share * self.lags[lag] + (float(np.trace(weighed, -lag)) * self.lags[lag].T if lag else 0)
        for one, two in self.added:
            part += float(np.vdot(two, tap_part)) * one
        return part + self.lift * float(np.trace(tap_part)) * np.eye(channels)

    def tap_part(self, channel_part: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return Σ S[(c,k),(c',k')] P[c,c'] over the channels, (K, K)."""
        from scipy.linalg import toeplitz

        _, taps = self.shape
        narrow = channel_part.astype(np.float32)
        later = np.array([float(np.vdot(lag, narrow)) for lag in self.lags])
        earlier = np.array([float(np.vdot(lag, narrow.T)) for lag in self.lags])
        part: NDArray[np.float64] = toeplitz(earlier, later) * (self.windows.T @ self.windows)
        for one, two in self.added:
            part = part + float(np.vdot(one, narrow)) * two
        return part + self.lift * float(np.trace(channel_part)) * np.eye(taps)

    @property
    def size(self) -> int:
        """Length of the circulant matrix that holds the Toeplitz matrix."""
        from scipy.fft import next_fast_len

        return int(next_fast_len(2 * len(self.lags) - 1, real=True))

    @cached_property
    def spectrum(self) -> NDArray[np.complex64]:
        """(F, C, C)."""
        from scipy.fft import rfft

        around = np.zeros((self.size, *self.lags.shape[1:]), np.float32)
        around[: len(self.lags)] = self.lags
        around[-1 : -len(self.lags) : -1] = self.lags[1:].swapaxes(1, 2)
        spectrum: NDArray[np.complex64] = rfft(around, axis=0)
        return spectrum

    @cached_property
    def _circulant(self) -> NDArray[np.complex64]:
        """(F, C, C), the spectrum of the circulant matrix of K taps that is closest to the lags' matrix."""
        from scipy.fft import rfft

        taps = len(self.lags)
        share = (np.arange(taps, dtype=np.float32) / np.float32(taps))[:, None, None]
        around = (1 - share) * self.lags
        around[1:] += share[1:] * self.lags[:0:-1].swapaxes(1, 2)
        waves: NDArray[np.complex64] = rfft(around, axis=0) * np.float32(np.mean(np.sum(self.windows**2, axis=0)))
        return waves

    @cached_property
    def _preconditioner(self) -> NDArray[np.complex64]:
        waves = self._circulant
        channels = waves.shape[1]
        lift = self.lift + 1e-6 * self.mean_diagonal
        return np.linalg.inv(waves + np.float32(lift) * np.eye(channels, dtype=np.float32))

    def _approximately_solved(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return _multiplied(rows, self._preconditioner, len(self.lags))

    def _by_lag(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return _multiplied(rows, self.spectrum, self.size)


_SHARED = ("spectrum", "_circulant", "mean_diagonal")


def windows_of(shares: NDArray[np.float64]) -> NDArray[np.float32]:
    """Few vectors (I, K) whose outer products add up to about a symmetric matrix (K, K), what is negative left out."""
    values, vectors = np.linalg.eigh(shares)
    values, vectors = values[::-1][:MOST_WINDOWS], vectors[:, ::-1][:, :MOST_WINDOWS]
    kept = values > SMALLEST_WINDOW * max(float(values[0]), 0.0)
    return np.ascontiguousarray((vectors[:, kept] * np.sqrt(values[kept])).T, dtype=np.float32)


def _multiplied(rows: NDArray[np.float32], spectrum: NDArray[np.complex64], size: int) -> NDArray[np.float32]:
    """Rows (n, C, K) times a block-circulant matrix of that many taps, given by its spectrum (F, C, C)."""
    from scipy.fft import irfft, rfft

    waves = np.ascontiguousarray(rfft(rows, size).transpose(2, 0, 1))
    product: NDArray[np.float32] = irfft((waves @ spectrum).transpose(1, 2, 0), size)
    return np.ascontiguousarray(product[:, :, : rows.shape[2]])


def _narrow(values: NDArray[np.floating]) -> NDArray[np.float32]:
    """A copy in the working precision."""
    return values.astype(np.float32)


def _products(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float32]:
    products: NDArray[np.float32] = np.einsum("nck,nck->n", one, two)
    return products


def _ratio(one: NDArray[np.float32], two: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quotients (n, 1, 1), zero where nothing is divided by."""
    return np.divide(one, two, out=np.zeros_like(one), where=two > 0)[:, None, None]


def _squares(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return _products(rows, rows)

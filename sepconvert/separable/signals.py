"""Moments of a long kernel's patches from whole signals instead of patches, for ``stationary``.

All that is needed are sums of products of two signals at K lags: of the inputs with themselves, of what the original
kernel leaves over with the inputs, and of ones with the inputs (the means). Signals are cut into segments as long as
the kernel, and the sums made by Fourier transforms, at about 4·C² multiply-adds per position instead of C²·K². A
dilated kernel sees each of its phases as a signal of its own. What a stride leaves out counts for Γ all the same.

The original kernel's own outputs come from the covariance, so that they agree with it: with ``y = W x̂ + e``, the cross
moment is ``W S + cov(e, x̂)``. Estimated by itself it would differ from W S by more than most errors are.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.geometry import ConvGeometry, resolved_pads
from sepconvert.separable.moments import PatchMoments
from sepconvert.separable.stationary import SLOWNESS, Stationary, windows_of

# A kernel is long from so many taps on, where a patch has so many terms. Below, full moments take seconds at most.
LONG_TAPS = 16
LONG_TERMS = 2048
# Bytes of a block of segments' transforms.
BLOCK_BYTES = 32 * 1024**2


def is_long(geometry: ConvGeometry) -> bool:
    """Whether a convolution is along one axis, and its kernel so long that lags tell more than patches.

    Layers of one weight may have strides and dilations of their own: of them there are patches.
    """
    if geometry.groups > 1 or geometry.transposed or geometry.taps != max(geometry.kernel) or len(geometry.uses) > 1:
        return False
    return geometry.taps >= LONG_TAPS and geometry.in_channels * geometry.taps >= LONG_TERMS


def product_work(geometry: ConvGeometry) -> float:
    """Multiply-adds of a row of C·K terms times its moments, about, and where these are by lags of what else it takes.

    A step of a fit also multiplies rows by each other and by the outputs, next to which C²·K² is much and lags are not.
    """
    terms = geometry.in_channels * geometry.taps
    if not is_long(geometry):
        return float(terms**2)
    return float(4 * terms * (SLOWNESS * geometry.in_channels + geometry.out_channels))


class SignalMoments:
    """Adds up the moments of a long kernel's patches, batch by batch."""

    def __init__(self, geometry: ConvGeometry, weight: NDArray[np.floating] | None, coherent: float = 0.0) -> None:
        """Start empty.

        Args:
            geometry: ``is_long``.
            weight: (M, C, *k) the original kernel; None where no cross moment is needed.
            coherent: how many times the covariance of the inputs' means counts on top.
        """
        channels, taps, outputs = geometry.in_channels, geometry.taps, geometry.out_channels
        self._geometry = geometry
        self._axis = geometry.kernel.index(taps)
        kernel = np.zeros((0, channels, taps)) if weight is None else weight.reshape(outputs, channels, taps)
        self._kernel = kernel.astype(np.float64)
        self._coherent = coherent
        self._shift: NDArray[np.float64] | None = None
        width = channels + len(kernel) + 1
        # By lag: inputs, what is left over and ones, against inputs and whether they are inside.
        self._sums = np.zeros((taps, width, channels + 1))
        self._drift = np.zeros(channels)
        self._together = np.zeros((taps, taps))
        self._pairs = np.zeros(taps)
        self._inside = 0
        self._positions = 0
        self._target_sum = np.zeros(outputs)
        self._target_squares = np.zeros(outputs)
        self._left_sum, self._left_squares = np.zeros(len(kernel)), np.zeros(len(kernel))
        self._input_means: list[NDArray[np.float64]] = []
        self._left_means: list[NDArray[np.float64]] = []

    def add(self, activations: NDArray[np.floating], outputs: NDArray[np.floating]) -> None:
        """Add inputs (N, C, *in_spatial) and what the layer should put out, (N, M, *out_spatial)."""
        whole, made = self._along(activations, strided=True), self._along(outputs, strided=False)
        begin = resolved_pads(self._geometry, activations.shape[2:])[self._axis]
        # What is zero at an end of all signals was put there by a Pad before the layer.
        first, last = _ends(whole)
        signals, begin = whole[:, :, first:last], begin + first
        if self._shift is None:
            self._shift = signals.mean(axis=(0, 2), dtype=np.float64)
            # Of the outputs too: variances are about the mean.
            self._target_shift = made.mean(axis=(0, 2), dtype=np.float64)
        self._drift += (signals - self._shift[:, None]).sum(axis=(0, 2))
        places = made.shape[2]
        self._count(len(signals), signals.shape[2], begin, places)
        raised, ones, wanted, used = self._padded(signals, made, begin, places)
        left = np.zeros((len(signals), len(self._kernel)))
        step = max(1, BLOCK_BYTES // (16 * raised.shape[1] * raised.shape[2]))
        for first in range(0, len(raised), step):
            part = slice(first, first + step)
            left[part] = self._add_block(raised[part], ones, wanted[part], used)
        centred = made - self._target_shift[:, None]
        self._target_sum += centred.sum(axis=(0, 2))
        self._target_squares += np.square(centred).sum(axis=(0, 2))
        if self._coherent:
            per = len(signals) // len(activations)
            means = signals.mean(axis=2, dtype=np.float64).reshape(len(activations), per, -1).mean(axis=1)
            self._input_means.append(means)
            self._left_means.append(left.reshape(len(activations), per, -1).sum(axis=1) / (per * places))

    def moments(self) -> PatchMoments:
        """The moments of everything added so far.

        Raises:
            ValueError: nothing was added.
        """
        if self._shift is None:
            raise ValueError("no signal was added, so there are no moments")
        channels, count = len(self._shift), self._positions
        lags = (self._sums[:, :channels, :channels] / self._inside).astype(np.float32)
        near = self._sums[:, -1] / count  # means by tap of the shifted channels, and the shares of taps that are inside
        share = near[:, -1]
        drift = self._drift / self._inside
        mean = near[:, :channels].T + self._shift[:, None] * share
        level = self._shift + drift
        together = self._together / count
        apart = np.abs(np.subtract.outer(np.arange(len(lags)), np.arange(len(lags))))
        longer = self._inside / np.maximum(self._pairs, 1.0)
        added = [
            _pair(np.outer(level, level), together - np.outer(share, share)),
            _pair(-np.outer(drift, drift), together),
        ]
        left = self._sums[:, channels:-1, :channels] + self._sums[:, channels:-1, -1:] * self._shift
        cross = left.transpose(1, 2, 0) / count
        cross -= (self._left_sum / count)[:, None, None] * mean
        varied = self._left_squares / count - np.square(self._left_sum / count)
        if self._coherent and len(self._input_means):
            inputs, rest = _about_mean(self._input_means), _about_mean(self._left_means)
            times = self._coherent / len(inputs)
            added.append(_pair(times * inputs.T @ inputs, np.outer(share, share)))
            cross += times * (rest.T @ inputs)[:, :, None] * share
            varied += times * np.square(rest).sum(axis=0)
        covariance = Stationary(lags, windows_of(together * longer[apart]), tuple(added))
        return self._finished(covariance, mean, cross, varied)

    def _finished(
        self,
        covariance: Stationary,
        mean: NDArray[np.float64],
        cross: NDArray[np.float64],
        varied: NDArray[np.float64],
    ) -> PatchMoments:
        count = self._positions
        target_mean = self._target_sum / count
        variance = np.maximum(self._target_squares / count - target_mean**2, 0.0)
        whole = None
        if len(self._kernel):
            own = covariance.times(self._kernel).astype(np.float64)
            # Of W x̂ + e, so that errors and what they are relative to are of one and the same covariance.
            variance = np.einsum("mck,mck->m", own + 2 * cross, self._kernel) + varied
            whole = (own + cross).reshape(len(own), -1)
        return PatchMoments(
            count, mean.ravel(), covariance, target_mean + self._target_shift, whole, np.maximum(variance, 0.0)
        )

    def _along(self, values: NDArray[np.floating], *, strided: bool) -> NDArray[np.floating]:
        """(N, C, *spatial) as (N·others, C, T), other axes with their strides taken."""
        sides = len(self._geometry.kernel)
        steps = tuple(
            slice(None, None, 1 if axis == self._axis or not strided else self._geometry.stride[axis])
            for axis in range(sides)
        )
        moved = np.moveaxis(values[(slice(None), slice(None), *steps)], 2 + self._axis, -1)
        others = tuple(range(2, 1 + sides))
        signals = moved.transpose(0, *others, 1, sides + 1)
        return signals.reshape(-1, values.shape[1], moved.shape[-1]).astype(np.float32, copy=False)

    def _count(self, signals: int, size: int, begin: int, places: int) -> None:
        """Count positions, and pairs of taps that are inside."""
        along = self._geometry.along(self._axis)
        taps = np.arange(places)[:, None] * along.stride - begin + np.arange(along.kernel) * along.dilation
        inside = ((taps >= 0) & (taps < size)).astype(np.float64)
        self._together += signals * (inside.T @ inside)
        self._pairs += signals * np.maximum(size - np.arange(along.kernel) * along.dilation, 0)
        self._inside += signals * size
        self._positions += signals * places

    def _padded(
        self, signals: NDArray[np.floating], made: NDArray[np.floating], begin: int, places: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Shifted inputs and whether they are inside, outputs and whether there is one, at padded input positions."""
        along = self._geometry.along(self._axis)
        assert self._shift is not None
        size = signals.shape[2]
        length = max(begin + size, (places - 1) * along.stride + along.reach)
        low, first = max(begin, 0), max(-begin, 0)
        raised = np.zeros((len(signals), signals.shape[1], length), np.float32)
        ones = np.zeros(length, np.float32)
        raised[:, :, low : low + size - first] = signals[:, :, first:] - self._shift[:, None].astype(np.float32)
        ones[low : low + size - first] = 1
        wanted = np.zeros((len(made), made.shape[1] if len(self._kernel) else 0, length), np.float32)
        used = np.zeros(length, np.float32)
        at = slice(0, (places - 1) * along.stride + 1, along.stride)
        if len(self._kernel):
            wanted[:, :, at] = made - self._target_shift[:, None].astype(np.float32)
        used[at] = 1
        return raised, ones, wanted, used

    def _add_block(
        self,
        raised: NDArray[np.float32],
        ones: NDArray[np.float32],
        wanted: NDArray[np.float32],
        used: NDArray[np.float32],
    ) -> NDArray[np.float64]:
        """Add some signals; return the sums (N, M) of what the original kernel leaves over."""
        from scipy.fft import irfft, next_fast_len, rfft

        assert self._shift is not None
        outputs, channels, taps = self._kernel.shape
        dilation = self._geometry.dilation[self._axis]
        seen = np.concatenate([raised, np.broadcast_to(ones, (len(raised), 1, len(ones)))], axis=1)
        rest = np.concatenate([wanted, np.broadcast_to(used, (len(raised), 1, len(used)))], axis=1)
        long = int(next_fast_len(2 * taps - 1, real=True))
        kernel = np.concatenate([self._kernel, np.einsum("c,mck->mk", self._shift, self._kernel)[:, None]], axis=1)
        kernel_waves = rfft(kernel.astype(np.float32), long).transpose(2, 1, 0).conj() if outputs else None
        spectrum = np.zeros((long // 2 + 1, channels + rest.shape[1], channels + 1), np.complex64)
        sums = np.zeros((len(raised), outputs))
        for far, wish in _segments(seen, rest, taps, dilation):
            waves = np.ascontiguousarray(rfft(far, long).transpose(2, 0, 1))
            if kernel_waves is not None:
                made = irfft((waves @ kernel_waves).transpose(1, 2, 0), long)[:, :, :taps]
                wish = np.concatenate([wish[:, :-1] - made * wish[:, -1:], wish[:, -1:]], axis=1)
            both = rfft(np.concatenate([far[:, :channels, :taps], wish], axis=1), long)
            spectrum += np.ascontiguousarray(both.transpose(2, 1, 0)).conj() @ waves
            sums += wish[:, :-1].sum(axis=2).reshape(len(raised), dilation, outputs).sum(axis=1)
            self._left_squares += np.square(wish[:, :-1], dtype=np.float64).sum(axis=(0, 2))
        self._sums += irfft(spectrum, long, axis=0)[:taps]
        self._left_sum += sums.sum(axis=0)
        return sums


def _segments(
    seen: NDArray[np.float32], rest: NDArray[np.float32], taps: int, dilation: int
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Yield ``seen`` (n, C, 2·taps − 1) and ``rest`` (n, A, taps) from places ``taps`` apart, every phase a signal."""
    length = -(-seen.shape[2] // dilation)
    whole = -(-length // taps)

    def phases(values: NDArray[np.float32], segments: int) -> NDArray[np.float32]:
        wide = np.zeros((*values.shape[:2], segments * taps * dilation), np.float32)
        wide[:, :, : values.shape[2]] = values
        split = wide.reshape(*values.shape[:2], -1, dilation)
        return split.transpose(0, 3, 1, 2).reshape(-1, values.shape[1], segments * taps)

    ahead, here = phases(seen, whole + 1), phases(rest, whole)
    for first in range(0, whole * taps, taps):
        yield ahead[:, :, first : first + 2 * taps - 1], here[:, :, first : first + taps]


def _ends(signals: NDArray[np.floating]) -> tuple[int, int]:
    """First and last position (exclusive) at which any signal is not zero; all of them where every signal is silent."""
    used = np.flatnonzero(np.any(signals != 0, axis=(0, 1)))
    return (int(used[0]), int(used[-1]) + 1) if len(used) else (0, signals.shape[2])


def _pair(channels: NDArray[np.float64], taps: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return channels.astype(np.float32), taps.astype(np.float32)


def _about_mean(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    values = np.concatenate(parts)
    centred: NDArray[np.float64] = values - values.mean(axis=0)
    return centred

"""Means, covariances and cross moments of the patches a convolution sees.

The output error of any kernel is a quadratic form of these moments (Zhang et al., "Accelerating Very Deep Convolutional
Networks", TPAMI 2015), so a fit needs them and no data. They are accumulated in blocks of sampled patches; all patches
are never held at once. The cross moment pairs the *original* output with the patches of the stream that the rewritten
convolution will see, as (M, CK): what an asymmetric fit needs, without the cross covariance of two patch streams.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.patches import gather_outputs, gather_patches
from sepconvert.separable.stationary import Stationary
from sepconvert.separable.threads import product, symmetric_product

DEFAULT_BUDGET = 2 * 1024**3
# Below this many terms per patch float64 products cost next to nothing; above, blocks are multiplied in float32, nearly
# three times as fast, and added up in float64: covariances of a ResNet-50's layers came out the same to 1e-6, far below
# what sampling changes them by.
FLOAT32_FROM = 512
BLOCK_BYTES = 64 * 1024**2


@dataclass(frozen=True, slots=True)
class PatchMoments:
    """Moments of patches x̂ (C·K, channel-major) and of the original outputs y (M) at the same positions.

    Attributes:
        count: number of patches.
        mean: (CK,) E[x̂].
        covariance: (CK, CK), or (C, K, K) where only the blocks within a channel were kept, or by lags.
        target_mean: (M,) E[y], the original bias included.
        cross: (M, CK) E[(y−E[y])(x̂−E[x̂])ᵀ], or None where only blocks were kept: they cannot tell which of two
            correlated channels an output follows.
        target_variance: (M,) variances of y.
        note: a sentence where the moments are an approximation, else None.
    """

    count: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64] | Stationary
    target_mean: NDArray[np.float64]
    cross: NDArray[np.float64] | None
    target_variance: NDArray[np.float64]
    note: str | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "target_mean", "cross", "target_variance"):
            object.__setattr__(self, name, read_only(getattr(self, name)))
        if not isinstance(self.covariance, Stationary):
            object.__setattr__(self, "covariance", read_only(self.covariance))

    @property
    def per_channel(self) -> bool:
        """Whether only the blocks within a channel are known."""
        return not isinstance(self.covariance, Stationary) and self.covariance.ndim == 3

    @property
    def is_finite(self) -> bool:
        """Whether no input or output was infinite, or not a number."""
        known = self.covariance.lags if isinstance(self.covariance, Stationary) else self.covariance
        return bool(np.isfinite(known).all() and np.isfinite(self.target_mean).all())

    def times(self, kernel: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the rows of a kernel (M, CK) times the covariance, (M, CK)."""
        if isinstance(self.covariance, Stationary):
            return self.covariance.times(kernel.reshape(len(kernel), *self.covariance.shape)).reshape(kernel.shape)
        return product(kernel, self.covariance)


class MomentAccumulator:
    """Adds up moments block by block.

    Sums are taken about the mean of the first block, so that inputs far from zero lose no digits.
    """

    def __init__(self, geometry: ConvGeometry, memory_budget: int = DEFAULT_BUDGET) -> None:
        """Start empty. ``memory_budget`` (bytes) decides whether the full covariance is kept."""
        self._geometry = geometry
        self._full = fits_budget(geometry, memory_budget)
        self._budget = memory_budget
        channels, taps, outputs = geometry.in_channels, geometry.taps, geometry.out_channels
        width = channels * taps
        self._count = 0
        self._shift = np.zeros(width)
        self._target_shift = np.zeros(outputs)
        self._sum = np.zeros(width)
        self._products = np.zeros((width, width) if self._full else (channels, taps, taps))
        self._target_sum = np.zeros(outputs)
        self._target_squares = np.zeros(outputs)
        self._cross = np.zeros((outputs, width)) if self._full else None
        # One large product takes two thirds of the time of many small ones.
        self._waiting: list[tuple[NDArray[np.floating], NDArray[np.floating]]] = []
        self._block = max(1, BLOCK_BYTES // (4 * width))

    def add(
        self, activations: NDArray[np.floating], outputs: NDArray[np.floating], positions: NDArray[np.intp]
    ) -> None:
        """Add sampled positions of some inputs.

        Args:
            activations: (N, C, *in_spatial) of the stream the rewritten convolution will see.
            outputs: (N, M, *out_spatial), the original convolution's outputs for the same inputs.
            positions: (N, P) flat output positions.
        """
        width = len(self._sum)
        step = max(1, BLOCK_BYTES // (4 * width * max(1, positions.shape[1])))
        for first in range(0, len(activations), step):
            part = slice(first, first + step)
            patches = gather_patches(activations[part], self._geometry, positions[part])
            self.add_patches(patches, gather_outputs(outputs[part], positions[part]))

    def add_patches(self, patches: NDArray[np.floating], outputs: NDArray[np.floating]) -> None:
        """Add patches (n, C, K) and the original outputs (n, M) at their positions."""
        rows = patches.reshape(len(patches), -1)
        for first in range(0, len(rows), self._block):
            part = slice(first, first + self._block)
            self._waiting.append((rows[part], outputs[part]))
            if sum(len(some) for some, _ in self._waiting) >= self._block:
                self._add_waiting()

    def moments(self) -> PatchMoments:
        """The moments of everything added so far.

        Raises:
            ValueError: nothing was added.
        """
        self._add_waiting()
        if self._count == 0:
            raise ValueError("no patch was added, so there are no moments")
        mean, target_mean = self._sum / self._count, self._target_sum / self._count
        covariance = self._products / self._count
        _subtract_outer(covariance, mean)
        cross = None if self._cross is None else self._cross / self._count - np.outer(target_mean, mean)
        variance = np.maximum(self._target_squares / self._count - target_mean**2, 0.0)
        return PatchMoments(
            self._count,
            mean + self._shift,
            covariance,
            target_mean + self._target_shift,
            cross,
            variance,
            None if self._full else self._approximation(),
        )

    def _add_waiting(self) -> None:
        if not self._waiting:
            return
        rows = np.concatenate([rows for rows, _ in self._waiting])
        outputs = np.concatenate([outputs for _, outputs in self._waiting])
        self._waiting.clear()
        with np.errstate(over="ignore", invalid="ignore"):  # infinities are for whoever fits to find, in the moments
            self._add_block(rows, outputs)

    def _add_block(self, rows: NDArray[np.floating], outputs: NDArray[np.floating]) -> None:
        dtype: np.dtype[np.floating] = np.dtype(np.float64 if len(self._sum) < FLOAT32_FROM else np.float32)
        if self._count == 0:
            # Whatever is subtracted is added again, so it may be rounded to what is subtracted from.
            self._shift = rows.mean(axis=0, dtype=np.float64).astype(dtype).astype(np.float64)
            self._target_shift = outputs.mean(axis=0, dtype=np.float64).astype(dtype).astype(np.float64)
        centred = _less(rows, self._shift, dtype)
        target = _less(outputs, self._target_shift, dtype)
        self._count += len(rows)
        self._sum += centred.sum(axis=0, dtype=np.float64)
        self._target_sum += target.sum(axis=0, dtype=np.float64)
        self._target_squares += np.square(target, dtype=np.float64).sum(axis=0)
        if self._cross is None:
            by_channel = centred.reshape(len(rows), *self._products.shape[:2]).transpose(1, 0, 2)
            self._products += by_channel.swapaxes(1, 2) @ by_channel
            return
        self._products += symmetric_product(centred.T, centred.T)
        self._cross += product(target.T, centred)

    def _approximation(self) -> str:
        need = full_bytes(self._geometry) / 1024**2
        return (
            f"a full covariance of {len(self._sum)} terms per patch needs {need:.0f} MiB, more than the budget of "
            f"{self._budget / 1024**2:.0f} MiB: correlations between input channels were left out"
        )


def _less(
    values: NDArray[np.floating], shift: NDArray[np.float64], dtype: np.dtype[np.floating]
) -> NDArray[np.floating]:
    """``values - shift`` in ``dtype``; subtracted in the wider of theirs, and not in float64 if both are narrower."""
    wider = np.promote_types(values.dtype, dtype)
    less: NDArray[np.floating] = np.subtract(values, shift, dtype=wider, casting="same_kind").astype(dtype, copy=False)
    return less


def read_only(array: NDArray[np.generic] | None) -> NDArray[np.generic] | None:
    """A view that cannot be written to."""
    if array is None:
        return None
    view = array.view()
    view.flags.writeable = False
    return view


def full_bytes(geometry: ConvGeometry) -> int:
    """Memory that fitting with full moments takes: sums and covariance in float64, two working copies in float32."""
    width = geometry.in_channels * geometry.taps
    return width * width * (2 * 8 + 2 * 4)


def fits_budget(geometry: ConvGeometry, memory_budget: int) -> bool:
    """Whether full moments fit into this many bytes."""
    return full_bytes(geometry) <= memory_budget


def fitted_bias(moments: PatchMoments, kernel: NDArray[np.floating]) -> NDArray[np.float64]:
    """Bias (M,) with which a dense kernel (M, C, *k) has the original's mean output: E[y] − Ŵ E[x̂].

    The same as W E[x] + b − Ŵ E[x̂], because E[y] = W E[x] + b.
    """
    bias: NDArray[np.float64] = moments.target_mean - kernel.reshape(len(kernel), -1).astype(np.float64) @ moments.mean
    return bias


def _subtract_outer(matrix: NDArray[np.float64], vector: NDArray[np.float64]) -> None:
    """Subtract the outer product of a vector with itself in place, without holding all of it."""
    if matrix.ndim == 3:
        blocks = vector.reshape(matrix.shape[:2])
        matrix -= blocks[:, :, None] * blocks[:, None, :]
        return
    for first in range(0, len(matrix), 256):
        matrix[first : first + 256] -= np.outer(vector[first : first + 256], vector)

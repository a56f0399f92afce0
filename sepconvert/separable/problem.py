"""The quadratic problem that every fit solves.

The output error of a kernel Ŵ whose bias makes the means agree is, per patch,
``E‖y − Ŵx̂ − b̂‖² = floor + tr((W*−Ŵ) S (W*−Ŵ)ᵀ)`` with ``S = cov(x̂)`` and ``W* = cov(y, x̂) S⁻¹``, the least-squares
kernel for the inputs the rewritten network really has (Zhang et al., TPAMI 2015). Moments are estimates, so a ridge is
part of the objective: ``+ λ·mean diag(S)·‖W−Ŵ‖²``, W the original kernel. Then S is ``S + λ·mean diag(S)·I`` and W* is
drawn towards W. Errors are relative to the variance of y.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.definite import solve_right
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.moments import FLOAT32_FROM, PatchMoments, read_only
from sepconvert.separable.stationary import Stationary
from sepconvert.separable.threads import product
from sepconvert.separable.whiten import Whitening, kronecker

# Rows whose weight is below this share of the largest are raised to it: dividing their scale back out must stay tame.
SMALLEST_ROW_SCALE = 1e-3

Prepared = TypeVar("Prepared")


@dataclass(frozen=True)
class Problem:
    """Minimise ``(floor + tr((weight−Ŵ) gram (weight−Ŵ)ᵀ)) / energy`` over the kernels of a form.

    Rows of ``original``, ``weight`` and ``target`` are multiplied by ``row_scale``; the factors of a fit are not.

    Attributes:
        geometry: the convolution.
        original: (M, C, K), the kernel of the model.
        cross: (M, C, K), covariance of outputs and inputs, with the ridge's pull towards ``original``; None to fit
            ``original`` itself.
        gram: (CK, CK), or (C, K, K) where only the blocks within a channel are known, or by lags; ridge included.
        lift: what the ridge added to the diagonal of ``gram``.
        variance: of all outputs together.
        row_scale: (M,) positive.
        rounding: variance of the noise that rounding adds to each value between two factors, as a share of that value's
            own variance; 0 for a network that computes in floating point.
    """

    geometry: ConvGeometry
    original: NDArray[np.floating]
    cross: NDArray[np.floating] | None
    gram: NDArray[np.floating] | Stationary
    lift: float
    variance: float
    row_scale: NDArray[np.float64]
    rounding: float = 0.0

    def __post_init__(self) -> None:
        for name in ("original", "cross", "row_scale"):
            object.__setattr__(self, name, read_only(getattr(self, name)))
        if not isinstance(self.gram, Stationary):
            object.__setattr__(self, "gram", read_only(self.gram))

    @cached_property
    def weight(self) -> NDArray[np.floating]:
        """(M, C, K), the dense kernel W* with the least objective."""
        if self.cross is None:
            return self.original
        if isinstance(self.gram, Stationary):
            return self.original + self.gram.solve(self.cross - self.gram.times(self.original), self.cross)
        best = solve_right(self.cross.reshape(len(self.cross), -1), self.gram)
        return best.reshape(self.original.shape)

    @property
    def outset(self) -> NDArray[np.floating]:
        """(M, C, K), the kernel that starts are made from: ``weight``; by lags, where that takes long, ``original``."""
        return self.original if self.by_lags else self.weight

    @cached_property
    def target(self) -> NDArray[np.floating]:
        """(M, C, K), ``weight`` times ``gram``."""
        return self.times_gram(self.original.astype(self.dtype)) if self.cross is None else self.cross

    @cached_property
    def zero_objective(self) -> float:
        """The objective of a kernel of zeros, not divided by ``energy``."""
        if self.cross is None:
            return inner(self.target, self.original)
        return self.variance + self.lift * inner(self.original, self.original)

    @cached_property
    def floor(self) -> float:
        """The objective of ``weight``."""
        return 0.0 if self.cross is None else max(0.0, self.zero_objective - inner(self.weight, self.target))

    @cached_property
    def whitening(self) -> Whitening:
        """Of the Kronecker approximation of ``gram``, channels against taps."""
        return kronecker(self.gram, *self.original.shape[1:])

    @cached_property
    def whitened(self) -> NDArray[np.float64]:
        """(M, C, K), ``weight`` in coordinates in which the objective is about a plain norm."""
        return self.whitening.whiten(self.weight)

    @cached_property
    def whitened_outset(self) -> NDArray[np.float64]:
        """(M, C, K), ``outset`` in those coordinates."""
        return self.whitening.whiten(self.original) if self.by_lags else self.whitened

    @cached_property
    def by_channel(self) -> NDArray[np.floating]:
        """(C, C), covariance of the input channels at one position, the mean of all taps' ones."""
        channels, taps = self.original.shape[1:]
        if isinstance(self.gram, Stationary):
            mean: NDArray[np.floating] = self.gram.channel_part(np.eye(taps)) / taps
        elif self.per_channel:
            mean = np.diag(np.einsum("ckk->c", self.gram) / taps)
        else:
            mean = np.einsum("ckdk->cd", self.gram.reshape(channels, taps, channels, taps)) / taps
        made: NDArray[np.floating] = mean.astype(self.dtype)
        return made

    @property
    def energy(self) -> float:
        """What errors are relative to."""
        if self.cross is None:
            return self.zero_objective or self.variance or 1.0
        return self.variance or self.zero_objective or 1.0

    @property
    def per_channel(self) -> bool:
        """Whether correlations between input channels are unknown and taken as zero."""
        return not self.by_lags and self.written_gram.ndim == 3

    @property
    def by_lags(self) -> bool:
        """Whether the moments are by lags, and so never written out."""
        return isinstance(self.gram, Stationary)

    @property
    def written_gram(self) -> NDArray[np.floating]:
        """``gram`` where it is written out: (CK, CK) or (C, K, K)."""
        assert not isinstance(self.gram, Stationary)
        return self.gram

    @property
    def row_work(self) -> float:
        """Multiply-adds of a row (C, K) times ``gram``."""
        if isinstance(self.gram, Stationary):
            return self.gram.row_work
        return float(self.gram.size)

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """The working precision: float32 for large problems, float64 for small ones."""
        return self.gram.dtype

    def weight_behind(self, reduce: NDArray[np.floating]) -> NDArray[np.floating]:
        """The best kernel (M, n, K) for channels mixed by orthonormal rows (n, C), where moments are by lags."""
        assert isinstance(self.gram, Stationary)
        mixed = reduce.astype(self.dtype) @ self.target
        return self.gram.mixed(reduce).solve(mixed, mixed)

    def prepared(self, key: Hashable, make: Callable[[], Prepared]) -> Prepared:
        """What ``make`` returns, made once for all ranks that are fitted to this problem."""
        if key not in self._prepared:
            self._prepared[key] = make()
        found: Prepared = self._prepared[key]
        return found

    @cached_property
    def _prepared(self) -> dict[Hashable, Any]:
        return {}

    def at_ridge(self, share: float) -> "Problem":
        """The same problem at ``share`` times the ridge."""
        more = (share - 1) * self.lift
        gram: NDArray[np.floating] | Stationary
        if isinstance(self.gram, Stationary):
            gram = self.gram.lifted(more)
        else:
            gram = self.gram.copy()
            np.einsum("...ii->...i", gram)[...] += more
        cross = None if self.cross is None else (self.cross + more * self.original).astype(self.dtype)
        return replace(self, gram=gram, cross=cross, lift=self.lift + more)

    def with_rounding(self, noise: float) -> "Problem":
        """The same problem with ``rounding``; what is known of it already does not depend on that."""
        made = replace(self, rounding=noise)
        vars(made).update({name: known for name, known in vars(self).items() if name not in vars(made)})
        return made

    def times_gram(self, rows: NDArray[np.floating]) -> NDArray[np.floating]:
        """Multiply kernels (n, C, K) by the gram matrix from the right: (n, C, K)."""
        if isinstance(self.gram, Stationary):
            return self.gram.times(rows)
        if self.per_channel:
            return (rows.swapaxes(0, 1) @ self.gram).swapaxes(0, 1)
        return product(rows.reshape(len(rows), -1), self.gram).reshape(rows.shape)

    def channel_blocks(self) -> NDArray[np.floating]:
        """The blocks of the gram matrix within a channel, (C, K, K)."""
        if isinstance(self.gram, Stationary):
            return self.gram.blocks()
        if self.per_channel:
            return self.gram
        channels, taps = self.original.shape[1:]
        rows = self.gram.reshape(channels, taps, channels, taps)
        return np.ascontiguousarray(np.diagonal(rows, axis1=0, axis2=2).transpose(2, 0, 1))

    def error(self, kernel: NDArray[np.floating]) -> float:
        """Relative objective of a kernel (M, C, *k) in the model's own scale."""
        flat = kernel.reshape(self.original.shape) * self.row_scale[:, None, None]
        return self.scaled_error(flat)

    def scaled_error(self, kernel: NDArray[np.floating]) -> float:
        """Relative objective of a kernel (M, C, K) whose rows are already multiplied by ``row_scale``."""
        return self.objective(kernel)[0] / self.energy

    def objective(self, kernel: NDArray[np.floating]) -> tuple[float, NDArray[np.floating]]:
        """The objective of a kernel (M, C, K) of scaled rows, not divided by ``energy``, and half of its slope."""
        if self.by_lags:
            # W* by lags takes dozens of products to solve for; without it digits cancel, as many as lags are off by.
            rows = kernel.astype(self.dtype, copy=False)
            slope = self.times_gram(rows) - self.target
            return max(0.0, self.zero_objective + inner(slope - self.target, rows)), slope
        # The difference is formed before rounding to the working precision: no digits cancel.
        difference = (kernel - self.weight).astype(self.dtype, copy=False)
        slope = self.times_gram(difference)
        return self.floor + inner(slope, difference), slope


def make_problem(
    moments: PatchMoments,
    weight: NDArray[np.floating],
    geometry: ConvGeometry,
    ridge: float,
    row_scale: NDArray[np.floating] | None = None,
    asymmetric: bool = True,
    rounding: float = 0.0,
) -> Problem:
    """Set up the problem of one convolution.

    Args:
        moments: of the inputs the rewritten convolution will see.
        weight: (M, C, *k), the original kernel.
        geometry: the convolution.
        ridge: λ, relative to the mean variance of the patches' terms.
        row_scale: (M,) importance of each output's error, such as |γ|/√(v+ε) of a BatchNorm behind; default all one.
        asymmetric: fit the original outputs; if False, or where only per-channel moments are known, fit the original
            kernel on these inputs.
        rounding: noise of each value between factors, as a share of its variance.
    """
    outputs, channels, taps = geometry.out_channels, geometry.in_channels, geometry.taps
    scale = _row_scale(row_scale, outputs)
    original = weight.astype(np.float64).reshape(outputs, channels, taps) * scale[:, None, None]
    dtype: np.dtype[np.floating] = np.dtype(np.float64) if channels * taps < FLOAT32_FROM else np.dtype(np.float32)
    gram: NDArray[np.floating] | Stationary
    if isinstance(moments.covariance, Stationary):
        dtype = moments.covariance.dtype
        lift = _lift(moments.covariance.mean_diagonal, ridge, dtype)
        gram = moments.covariance.lifted(lift)
    else:
        gram, lift = _regularised(moments.covariance, ridge, dtype)
    variance = float(np.sum(moments.target_variance * scale**2))
    cross = None
    if moments.cross is not None and asymmetric:
        pulled = moments.cross * scale[:, None] + lift * original.reshape(outputs, -1)
        cross = pulled.astype(dtype).reshape(original.shape)
    return Problem(geometry, original, cross, gram, lift, variance, scale, rounding)


def inner(one: NDArray[np.floating], two: NDArray[np.floating]) -> float:
    """Sum of products, accumulated in float64."""
    return float(np.einsum("i,i->", one.ravel(), two.ravel(), dtype=np.float64, casting="same_kind"))


def _row_scale(scale: NDArray[np.floating] | None, outputs: int) -> NDArray[np.float64]:
    if scale is None:
        return np.ones(outputs)
    size = np.abs(scale.astype(np.float64))
    largest = float(size.max())
    return np.maximum(size, SMALLEST_ROW_SCALE * largest) if largest > 0 else np.ones(outputs)


def _regularised(
    covariance: NDArray[np.float64], ridge: float, dtype: np.dtype[np.floating]
) -> tuple[NDArray[np.floating], float]:
    """Covariance plus ridge in the working precision, and what was added to the diagonal."""
    diagonal = np.diagonal(covariance, axis1=-2, axis2=-1)
    lift = _lift(float(diagonal.mean()), ridge, dtype)
    gram = covariance.astype(dtype)
    np.einsum("...ii->...i", gram)[...] += lift
    return gram, lift


def _lift(mean: float, ridge: float, dtype: np.dtype[np.floating]) -> float:
    """What to add to a diagonal of this mean; of no variance at all the plain Frobenius norm takes over."""
    return max(ridge, 4 * float(np.finfo(dtype).eps)) * mean if mean > 0 else 1.0

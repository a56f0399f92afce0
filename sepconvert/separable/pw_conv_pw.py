"""Pointwise, convolution, pointwise: ``Ŵ[m,c,k] = Σ_s Σ_t A[m,s] G[s,t,k] B[t,c]``, a Tucker-2 decomposition.

A small dense convolution between two pointwise ones (Kim et al., "Compression of Deep Convolutional Neural Networks for
Fast and Low Power Mobile Applications", ICLR 2016): the bottleneck of a ResNet without the activations. The rank R is
the number of its outputs; it has half as many inputs R1 for each as the whole convolution has, ``R1 = R·C/2M``
(``widths``): inputs are correlated more than outputs. On seven layers of two trained nets that left 0.3 to 1.2 times
the error of R1 = R·C/M at the same multiply-adds. R1·C + R1·R·K + R·M weights; ``reduce`` (B) runs at the *input's*
resolution and carries no bias, because the padding of the taps that follow must see zeros. Exact at R = M.

With B fixed the best A and G have a closed form: the reduced-rank regression (``reduced_rank``) on the R1·K inputs that
B leaves. So a fit searches for B alone.
"""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.factors import Factors
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.layers import CONV, POINTWISE, Layer, Layers
from sepconvert.separable.problem import Problem
from sepconvert.separable.reduced_rank import leading
from sepconvert.separable.search import Eliminated, EliminatedSearch, eliminate, penalised, strengths
from sepconvert.separable.truncated import checked_rank, dropped_share, squared_singular_values

NAME = "pw_conv_pw"
WORDS = "pointwise, convolution, pointwise (Tucker-2); rank R: outputs of the convolution"
LOWERINGS = ("stacked",)
# The data-free curve adds what each of two projections drops.
AUTO, CHANNELS, QUICK, BOUNDED = False, True, False, True
LAST = "expand"
COMPONENT_AXES = {"reduce": 0, "core": 0, "expand": 1}
ELIMINATED = True
LEAST_TAPS = 2
MOST_AXES, IN_GROUPS, CHANNELWISE = 3, True, False

# Rounds of alternating projections.
ROUNDS = 3
# Vector units want whole blocks of channels; fewer than the least are not rounded.
BLOCK, LEAST_ROUNDED = 4, 8


def widths(geometry: ConvGeometry, rank: int) -> tuple[int, int]:
    """Inputs R1 and outputs R of the convolution in the middle: all inputs at full rank, below in blocks of 4."""
    if rank >= full_rank(geometry):
        return geometry.in_channels, rank
    inputs = max(1, round(rank * geometry.in_channels / (2 * geometry.out_channels)))
    return inputs - (inputs % BLOCK if inputs >= LEAST_ROUNDED else 0), rank


def full_rank(geometry: ConvGeometry) -> int:
    """Return M."""
    return geometry.out_channels


def layers(
    geometry: ConvGeometry,
    rank: int,
    lowering: str,  # noqa: ARG001 - there is one
    first_kernel: tuple[int, ...] | None = None,  # noqa: ARG001 - the order is the form's
) -> Layers:
    """C→R1, R1→R with all taps, R→M."""
    inputs, outputs = widths(geometry, rank)
    reduce = Layer("reduce", POINTWISE, geometry.in_channels, inputs)
    core = Layer("core", CONV, inputs, outputs, tuple(range(len(geometry.kernel))))
    return Layers((reduce, core, Layer("expand", POINTWISE, outputs, geometry.out_channels)))


def first_kernel(factors: Factors) -> tuple[int, ...] | None:  # noqa: ARG001 - the order is the form's
    """None: the order of the layers is fixed."""
    return None


def factorise(
    weight: NDArray[np.floating],
    rank: int,
    geometry: ConvGeometry,
    rng: np.random.Generator,  # noqa: ARG001 - the start is fixed by the weight
) -> Factors:
    """Alternate projections on the leading directions of inputs and outputs, from the higher-order SVD.

    (De Lathauwer et al., "On the Best Rank-1 and Rank-(R1, …, RN) Approximation of Higher-Order Tensors", SIAM J.
    Matrix Anal. Appl. 21, 2000.)
    """
    checked_rank(rank, full_rank(geometry))
    inputs, outputs = widths(geometry, rank)
    tensor = np.asarray(weight, dtype=np.float64).reshape(*geometry.weight_shape[:2], -1)
    reduce = input_directions(tensor, inputs).T
    expand = _outputs(tensor, reduce, outputs)
    for _ in range(ROUNDS if rank < full_rank(geometry) else 0):
        reduce = input_directions(np.tensordot(expand.T, tensor, 1), inputs).T
        expand = _outputs(tensor, reduce, outputs)
    return assemble(reduce, _projected(tensor, reduce), expand, geometry.kernel)


def assemble(
    reduce: NDArray[np.floating], wide: NDArray[np.floating], expand: NDArray[np.float64], kernel: tuple[int, ...]
) -> Factors:
    """Factors from B (R1, C), the kernel behind it (M, R1, K) and the directions A (M, R), orthonormal, of that."""
    # Orthonormal rows of B take what they lose in length to the core.
    basis, triangle = np.linalg.qr(reduce.T.astype(np.float64))
    core = triangle @ np.tensordot(expand.T, wide.astype(np.float64), 1)
    arrays = {
        "reduce": np.ascontiguousarray(basis.T),
        "core": core.reshape(expand.shape[1], len(reduce), *kernel),
        "expand": expand,
    }
    return Factors(NAME, expand.shape[1], kernel, arrays)


def input_directions(tensor: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Leading directions (C, count) of a kernel's (n, C, K) input channels."""
    rows = tensor.swapaxes(0, 1).reshape(tensor.shape[1], -1)
    return leading(rows @ rows.T, count)


def _outputs(tensor: NDArray[np.float64], reduce: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Leading directions (M, count) of the outputs of a kernel (M, C, K) behind orthonormal rows (R1, C)."""
    rows = _projected(tensor, reduce).reshape(len(tensor), -1)
    return leading(rows @ rows.T, count)


def _projected(tensor: NDArray[np.float64], reduce: NDArray[np.float64]) -> NDArray[np.float64]:
    """The kernel (M, R1, K) behind orthonormal rows (R1, C) that is closest to (M, C, K)."""
    projected: NDArray[np.float64] = reduce @ tensor
    return projected


def error_by_rank(weight: NDArray[np.floating], geometry: ConvGeometry) -> NDArray[np.float64]:
    """Upper bound of the relative squared weight error at ranks 1, 2, … full rank: what both projections drop."""
    tensor = weight.reshape(*geometry.weight_shape[:2], -1)
    by_input = _tails(tensor.swapaxes(0, 1))
    by_output = _tails(tensor)
    inputs = [widths(geometry, rank)[0] for rank in range(1, full_rank(geometry) + 1)]
    curve: NDArray[np.float64] = np.minimum(by_output + by_input[np.array(inputs) - 1], 1)
    return curve


def _tails(tensor: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of the energy behind the 1, 2, … n largest directions of the first axis of (n, …)."""
    shares = dropped_share(squared_singular_values(tensor.reshape(1, len(tensor), -1)))
    return np.append(shares, np.zeros(len(tensor) - len(shares)))


def draw(geometry: ConvGeometry, rank: int, rng: np.random.Generator, gain: float = 2.0) -> Factors:
    """Random factors: unit gain through the first two, ``gain`` (2: He et al., 2015) through the last."""
    inputs, outputs = widths(geometry, rank)
    channels, kernel = geometry.in_channels, geometry.kernel
    arrays = {
        "reduce": rng.standard_normal((inputs, channels)) / np.sqrt(channels),
        "core": rng.standard_normal((outputs, inputs, *kernel)) / np.sqrt(inputs * prod(kernel)),
        "expand": rng.standard_normal((geometry.out_channels, outputs)) * np.sqrt(gain / outputs),
    }
    return Factors(NAME, rank, kernel, arrays)


def reconstruct(factors: Factors) -> NDArray[np.float64]:
    """Return the equivalent dense kernel (M, C, *k), accumulated in float64."""
    reduce, core, expand = (factors.arrays[name].astype(np.float64) for name in ("reduce", "core", "expand"))
    wide = expand @ core.reshape(len(core), -1)
    behind = wide.reshape(len(expand), len(reduce), -1)
    dense = np.ascontiguousarray(reduce.T) @ behind
    return dense.reshape(*dense.shape[:2], *factors.kernel)


class PwConvPwSearch(EliminatedSearch):
    """Fit ``reduce``, the core and ``expand`` eliminated together.

    Features are ordered tap by tap: (k, t).
    """

    def __init__(self, problem: Problem, rank: int) -> None:
        """Prepare the search for factors of one rank."""
        super().__init__(problem, rank)
        self._inputs = widths(problem.geometry, rank)[0]
        self._rows = problem.prepared((NAME, "rows"), self._rows_by_tap)
        self._target = np.ascontiguousarray(problem.target.transpose(2, 0, 1))

    @property
    def work(self) -> float:
        """Multiply-adds per evaluation."""
        taps, outputs, channels = self._target.shape
        size = self._inputs * taps
        return float(
            self._inputs * self._rows.size
            + size * (size + 2 * outputs) * channels
            + size * size * (size / 3 + 3 * outputs)
            + outputs**2 * (size + 4 * outputs)
        )

    def starts(self) -> list[Factors]:
        """The leading input directions of the whitened kernel."""
        return [self._behind(_directions(self._problem, self._inputs).astype(self._problem.dtype))]

    def _rows_by_tap(self) -> NDArray[np.floating]:
        """Rows of S by tap: (K, C, CK), or by channel (K, C, K)."""
        _, channels, taps = self._problem.original.shape
        gram = self._problem.written_gram
        return np.ascontiguousarray(gram.reshape(channels, taps, -1).swapaxes(0, 1))

    def extended(self, factors: Factors) -> Factors | None:
        """The factors themselves."""
        return factors if factors.rank == self._rank else None

    def point(self, factors: Factors) -> NDArray[np.floating]:
        """``reduce``, each row as long as what comes of it is strong."""
        reduce = factors.arrays["reduce"].astype(self._problem.dtype)
        _, features = self._features(reduce)
        last = self._solve(reduce, features).last
        strength = strengths(last.reshape(-1, self._inputs))[:, None]
        reduce, features = reduce * strength, features * strength[:, :, None]
        point: NDArray[np.floating] = reduce.ravel()
        self._remember(point, reduce, features)
        return point

    def factors(self, point: NDArray[np.floating]) -> Factors:
        """``reduce``, and the core and ``expand`` that are best for it."""
        return self._behind(point)

    def _behind(self, point: NDArray[np.floating]) -> Factors:
        last = self._at(point)[1].last
        wide = last.reshape(len(last), -1, self._inputs).swapaxes(1, 2)
        expand = leading(last @ last.T, self._rank)
        return assemble(point.reshape(self._inputs, -1), wide, expand, self._problem.geometry.kernel)

    def _gradient(self, point: NDArray[np.floating], features: NDArray[np.floating], solution: Eliminated) -> Any:
        taps, _, channels = self._target.shape
        mix = penalised(solution.mix, self._problem.rounding).reshape(taps, self._inputs, -1)
        last = solution.last.reshape(-1, taps, self._inputs)
        slope = np.zeros((self._inputs, channels), dtype=point.dtype)
        for tap in range(taps):
            here = np.ascontiguousarray(features[:, :, :, tap]).reshape(-1, channels)
            slope += mix[tap] @ here - last[:, tap].T @ self._target[tap]
        return slope.ravel() * (2 / self._problem.energy)

    def _features(self, point: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """``reduce``, and Φ S: (K, R1, C, K)."""
        taps, _, channels = self._target.shape
        reduce = point.reshape(self._inputs, channels)
        if self._problem.per_channel:
            return reduce, reduce[:, :, None] * self._rows[:, None]
        return reduce, (reduce @ self._rows).reshape(taps, self._inputs, channels, taps)

    def _solve(self, reduce: NDArray[np.floating], features: NDArray[np.floating]) -> Eliminated:
        """Core and ``expand`` as one kernel (M, K·R1) of rank R."""
        size = len(self._target) * self._inputs
        gram = (reduce @ features).swapaxes(2, 3).reshape(size, size)
        cross = (self._target @ reduce.T).swapaxes(0, 1).reshape(-1, size)
        return eliminate((gram + gram.T) / 2, np.ascontiguousarray(cross), self._rank, self._problem.rounding)


def optimum(problem: Problem, rank: int) -> Factors | None:
    """Where moments are by lags, what is best behind the leading input directions; else the factors are searched for.

    Searching takes a matrix of all taps of all mixed channels, which lags are there to do without.
    """
    if not problem.by_lags:
        return None
    inputs, outputs = widths(problem.geometry, rank)
    basis = np.linalg.qr(_directions(problem, inputs).T)[0].T
    wide = problem.weight_behind(basis)
    target = basis @ problem.target
    expand = leading(wide.reshape(len(wide), -1) @ target.reshape(len(wide), -1).T, outputs)
    return assemble(basis, wide, expand, problem.geometry.kernel)


def work_by_lags(geometry: ConvGeometry, rank: int) -> float:  # noqa: ARG001 - a protocol's arguments
    """Return 0: where moments are by lags, a fit takes as long at every rank."""
    return 0.0


def search(problem: Problem, rank: int) -> list[PwConvPwSearch]:
    """The ways to search for factors of this rank."""
    return [] if problem.by_lags else [PwConvPwSearch(problem, rank)]


def _directions(problem: Problem, count: int) -> NDArray[np.float64]:
    """Leading input directions (count, C) of the kernel whitened by the Kronecker approximation of the moments."""

    def every() -> NDArray[np.float64]:
        return input_directions(problem.whitened, problem.geometry.in_channels)

    directions = problem.prepared((NAME, "directions"), every)
    return directions[:, :count].T @ problem.whitening.channels_inverse

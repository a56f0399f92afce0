"""Patches and outputs of one site, at random positions of every input: moments to fit to, samples to judge by.

In a network that ends in one answer per input, what a site gets wrong at single positions mostly averages out behind
it, but what it gets wrong on average over an input's positions does not. So there an input's mean counts ``COHERENT``
times on top of the positions: in moments, by adding as much of the covariance of the inputs' means, and in what fits
are judged by.
"""

from dataclasses import dataclass, field, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.groups import GroupAccumulators, Moments
from sepconvert.separable.moments import PatchMoments
from sepconvert.separable.patches import gather_outputs, gather_patches, sample_positions
from sepconvert.separable.signals import SignalMoments, is_long
from sepconvert.separable.threads import product

# A small ResNet at 1/4 of its sites' MACs: 0, 10, 30 and 100 gave errors of the logits of 0.0152, 0.0137, 0.0138 and
# 0.0152 on images that are neither calibration nor test data.
COHERENT = 10.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many positions to look at: to fit to, so many for each of the C·K terms of a patch, but at least so many.

    An error is judged as well on ``heldout`` positions whatever the number of terms; of very wide patches there are as
    many as ``heldout_bytes`` hold.
    """

    per_term: float = 6.0
    least: int = 20_000
    heldout: int = 5_000
    heldout_bytes: int = 256 << 20

    def wanted(self, geometry: ConvGeometry, *, heldout: bool) -> float:
        """Positions over all inputs that are fitted to (or held out)."""
        if heldout:
            return min(self.heldout, self.heldout_bytes / (4 * geometry.in_channels * geometry.taps))
        return max(self.per_term * geometry.part.in_channels * geometry.taps, self.least)


@dataclass(frozen=True, slots=True)
class Seen:
    """What one layer sees of a batch: ``activations`` (N, C, *in_spatial), and how it looks at them."""

    activations: NDArray[np.floating]
    geometry: ConvGeometry


@dataclass(frozen=True, slots=True)
class Judge:
    """Held-out patches and what the site should compute there.

    Attributes:
        patches: (n, C, K), those of one input after the other's.
        outputs: (n, M).
        row_scale: (M,), each output's importance.
        counts: how many rows belong to each input.
        coherent: how many times the mean of an input's rows counts on top.
    """

    patches: NDArray[np.floating]
    outputs: NDArray[np.floating]
    row_scale: NDArray[np.float64]
    counts: NDArray[np.intp]
    coherent: float

    def error(self, kernel: NDArray[np.floating], bias: NDArray[np.floating]) -> float | None:
        """Weighted error of a dense kernel (M, C/g, *k) and bias (M,): Σ(y−ŷ)² / Σ(y−ȳ)²; None where y is constant."""
        shares = self.errors(kernel, bias)
        return None if shares is None else float(shares.sum())

    def errors(self, kernel: NDArray[np.floating], bias: NDArray[np.floating]) -> NDArray[np.float64] | None:
        """What each held-out input contributes to ``error``, (inputs,); None where y is constant."""
        return self.errors_of(self._predicted(kernel.astype(self.patches.dtype)) + bias)

    def errors_of(self, predicted: NDArray[np.floating]) -> NDArray[np.float64] | None:
        """As ``errors``, of outputs (n, M) that were computed elsewhere."""
        spread = self._squares((self.outputs - self.outputs.mean(axis=0, dtype=np.float64)) * self.row_scale).sum()
        if spread <= 0:
            return None
        shares: NDArray[np.float64] = self._squares((self.outputs - predicted) * self.row_scale) / spread
        return shares

    def _predicted(self, kernel: NDArray[np.floating]) -> NDArray[np.floating]:
        """Outputs (n, M) of a kernel without bias."""
        groups = self.patches.shape[1] // kernel.shape[1]
        pairs = zip(np.split(self.patches, groups, axis=1), np.split(kernel, groups), strict=True)
        parts = [product(seen.reshape(len(seen), -1), part.reshape(len(part), -1).T) for seen, part in pairs]
        return parts[0] if groups == 1 else np.concatenate(parts, axis=1)

    def _squares(self, difference: NDArray[np.floating]) -> NDArray[np.float64]:
        """Sum of squares of each input's rows, and of their mean so many times as it counts."""
        starts = np.cumsum(self.counts) - self.counts
        totals = np.add.reduceat(np.einsum("nm,nm->n", difference, difference), starts)
        if self.coherent:
            sums = np.add.reduceat(difference, starts, axis=0)
            totals = totals + self.coherent * np.sum(np.square(sums) / self.counts[:, None], axis=1)
        return totals.astype(np.float64)


@dataclass(slots=True)
class _Means:
    """Means over the sampled positions of each input: of the patches (C·K) and of the outputs (M)."""

    patches: list[NDArray[np.floating]] = field(default_factory=list)
    outputs: list[NDArray[np.floating]] = field(default_factory=list)

    def add(self, patches: NDArray[np.floating], outputs: NDArray[np.floating], inputs: int) -> None:
        """Add a batch: as many rows of each of its inputs."""
        self.patches.append(patches.reshape(inputs, -1, patches[0].size).mean(axis=1, dtype=np.float64))
        self.outputs.append(outputs.reshape(inputs, -1, outputs.shape[1]).mean(axis=1, dtype=np.float64))

    def stress(self, moments: Moments, times: float) -> Moments:
        """Add ``times`` the moments of the means; where correlations between channels are unknown nothing is added."""
        if moments[0].cross is None or not times or not self.patches:
            return moments
        patches, outputs = np.concatenate(self.patches), np.concatenate(self.outputs)
        patches, outputs = patches - patches.mean(axis=0), outputs - outputs.mean(axis=0)
        parts = np.split(patches, len(moments), axis=1), np.split(outputs, len(moments), axis=1)
        return tuple(
            self._stressed(known, seen, made, times / len(patches))
            for known, seen, made in zip(moments, *parts, strict=True)
        )

    @staticmethod
    def _stressed(
        moments: PatchMoments, patches: NDArray[np.floating], outputs: NDArray[np.floating], share: float
    ) -> PatchMoments:
        assert moments.cross is not None
        assert isinstance(moments.covariance, np.ndarray)
        return replace(
            moments,
            covariance=moments.covariance + share * (patches.T @ patches),
            cross=moments.cross + share * (outputs.T @ patches),
            target_variance=moments.target_variance + share * np.square(outputs).sum(axis=0),
        )


class SiteSample:
    """Collects one site's patches, batch by batch."""

    def __init__(
        self,
        geometry: ConvGeometry,
        memory_budget: int,
        coherent: float = 0.0,
        weight: NDArray[np.floating] | None = None,
    ) -> None:
        """Start empty.

        Args:
            geometry: the site's.
            memory_budget: bytes above which correlations between input channels are left out.
            coherent: how many times an input's mean counts on top of its positions.
            weight: the original kernel (M, C/g, *k); without it a long kernel's moments tell what its inputs are
                like, not what its outputs should be.
        """
        self._geometry = geometry
        self._coherent = coherent
        self._signals = SignalMoments(geometry, weight, coherent) if is_long(geometry) else None
        self._moments = GroupAccumulators(geometry, 0 if self._signals else memory_budget)
        self._means = _Means()
        self._patches: list[NDArray[np.floating]] = []
        self._outputs: list[NDArray[np.floating]] = []
        self._counts: list[int] = []

    def add(
        self,
        seen: Seen,
        outputs: NDArray[np.floating],
        positions: float,
        rng: np.random.Generator,
        *,
        heldout: bool,
    ) -> None:
        """Take random positions of one batch.

        Args:
            seen: the rewritten stream's activations at the site, or at another layer that has its weight.
            outputs: (N, M, *out_spatial), what that layer should compute.
            positions: how many of the batch, spread evenly over its N rows (all, if there are fewer).
            rng: chooses them.
            heldout: keep them to judge by, instead of fitting to them.
        """
        inputs = len(outputs)
        if self._signals and not heldout:
            with np.errstate(over="ignore", invalid="ignore"):  # as in the moments
                self._signals.add(seen.activations, outputs)
            return
        places = sample_positions(inputs, outputs.shape[2:], ceil(positions / inputs), rng)
        with np.errstate(over="ignore", invalid="ignore"):  # as in the moments
            patches = gather_patches(seen.activations, seen.geometry, places)
            targets = gather_outputs(outputs, places)
            if heldout:
                self._patches.append(patches)
                self._outputs.append(targets)
                self._counts.append(inputs)
            else:
                self._fit_to(patches, targets, inputs)

    def moments(self) -> Moments:
        """Moments of what is fitted to, by group."""
        if self._signals:
            return (self._signals.moments(),)
        return self._means.stress(self._moments.moments(), self._coherent)

    def judge(self, row_scale: NDArray[np.float64]) -> Judge:
        """What the fits are judged by."""
        counts = [[len(rows) // inputs] * inputs for rows, inputs in zip(self._patches, self._counts, strict=True)]
        return Judge(
            np.concatenate(self._patches),
            np.concatenate(self._outputs),
            row_scale,
            np.concatenate(counts).astype(np.intp),
            self._coherent,
        )

    def all_moments(self) -> Moments:
        """Moments of everything: what was fitted to, and from now on what was held out too.

        Of a long kernel only patches were held out, which its moments take no notice of.
        """
        if self._signals:
            return self.moments()
        for patches, outputs, inputs in zip(self._patches, self._outputs, self._counts, strict=True):
            self._fit_to(patches, outputs, inputs)
        self._patches, self._outputs, self._counts = [], [], []
        return self.moments()

    def _fit_to(self, patches: NDArray[np.floating], outputs: NDArray[np.floating], inputs: int) -> None:
        self._moments.add_patches(patches, outputs)
        if self._coherent and len(patches) > inputs:  # of a single position the mean is no news
            self._means.add(patches, outputs, inputs)

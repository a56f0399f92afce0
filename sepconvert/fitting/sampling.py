"""Patches and outputs of one site, at random positions of every input: moments to fit to, samples to judge by."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from sepconvert.separable.geometry import ConvGeometry
from sepconvert.separable.moments import MomentAccumulator, PatchMoments
from sepconvert.separable.patches import gather_outputs, gather_patches, sample_positions


@dataclass(frozen=True, slots=True)
class Sampling:
    """How many positions to look at: to fit to, so many for each of the C·K terms of a patch, but at least so many.

    An error is judged as well on ``heldout`` positions whatever the number of terms.
    """

    per_term: float = 8.0
    least: int = 20_000
    heldout: int = 5_000

    def wanted(self, geometry: ConvGeometry, *, heldout: bool) -> float:
        """Positions over all inputs that are fitted to (or held out)."""
        if heldout:
            return self.heldout
        return max(self.per_term * geometry.in_channels * geometry.taps, self.least)


@dataclass(frozen=True, slots=True)
class Judge:
    """Held-out patches (n, C, K), what the site should compute there (n, M), and each output's importance (M,)."""

    patches: NDArray[np.floating]
    outputs: NDArray[np.floating]
    row_scale: NDArray[np.float64]

    def error(self, kernel: NDArray[np.floating], bias: NDArray[np.floating]) -> float | None:
        """Weighted error of a dense kernel (M, C, *k) and bias (M,): Σ(y−ŷ)² / Σ(y−ȳ)²; None where y is constant."""
        deviation = (self.outputs - self.outputs.mean(axis=0, dtype=np.float64)) * self.row_scale
        spread = float(np.vdot(deviation, deviation))
        if spread <= 0:
            return None
        rows = self.patches.reshape(len(self.patches), -1)
        predicted = rows @ kernel.reshape(len(kernel), -1).T.astype(rows.dtype)
        difference = (self.outputs - predicted - bias) * self.row_scale
        return float(np.vdot(difference, difference)) / spread


class SiteSample:
    """Collects one site's patches, batch by batch."""

    def __init__(self, geometry: ConvGeometry, memory_budget: int) -> None:
        """Start empty; above ``memory_budget`` bytes correlations between input channels are left out."""
        self._geometry = geometry
        self._moments = MomentAccumulator(geometry, memory_budget)
        self._patches: list[NDArray[np.floating]] = []
        self._outputs: list[NDArray[np.floating]] = []

    def add(
        self,
        activations: NDArray[np.floating],
        outputs: NDArray[np.floating],
        positions: float,
        rng: np.random.Generator,
        *,
        heldout: bool,
    ) -> None:
        """Take random positions of one batch.

        Args:
            activations: (N, C, *in_spatial), the rewritten stream's; (N, C) for a Gemm.
            outputs: (N, M, *out_spatial) or (N, M), what the site should compute.
            positions: how many of the batch, spread evenly over its N rows (all, if there are fewer).
            rng: chooses them.
            heldout: keep them to judge by, instead of fitting to them.
        """
        if activations.ndim == 2:
            activations, outputs = activations[..., None], outputs[..., None]
        places = sample_positions(len(outputs), outputs.shape[2:], ceil(positions / len(outputs)), rng)
        with np.errstate(over="ignore", invalid="ignore"):  # infinities are for whoever fits to find, in the moments
            patches = gather_patches(activations, self._geometry, places)
            targets = gather_outputs(outputs, places)
            if heldout:
                self._patches.append(patches)
                self._outputs.append(targets)
            else:
                self._moments.add_patches(patches, targets)

    def moments(self) -> PatchMoments:
        """Moments of what is fitted to."""
        return self._moments.moments()

    def judge(self, row_scale: NDArray[np.float64]) -> Judge:
        """What the fits are judged by."""
        return Judge(np.concatenate(self._patches), np.concatenate(self._outputs), row_scale)

    def all_moments(self) -> PatchMoments:
        """Moments of everything: what was fitted to, and from now on what was held out too."""
        for patches, outputs in zip(self._patches, self._outputs, strict=True):
            self._moments.add_patches(patches, outputs)
        self._patches, self._outputs = [], []
        return self._moments.moments()

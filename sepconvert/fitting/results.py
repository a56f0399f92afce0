"""What a refit is asked, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.graph.sites import ConvSite
from sepconvert.separable.factors import Factors


@dataclass(frozen=True, slots=True)
class SiteChoice:
    """A site and its candidate (form, rank) pairs; without candidates it stays dense.

    ``drawn`` are random factors of the only candidate, to be trained on from where they are. Dense layers that are no
    sites are described as sites without candidates (see ``graph.dense``).
    """

    site: ConvSite
    candidates: tuple[tuple[str, int], ...]
    drawn: Factors | None = None


@dataclass(frozen=True, slots=True)
class CandidateError:
    """Held-out error of one candidate at the regularisation that suits it best (``ridge`` None: data-free factors)."""

    form: str
    rank: int
    error: float | None
    ridge: float | None


@dataclass(frozen=True, slots=True)
class FittedSite:
    """What became of one site.

    Errors are relative to the variance of what the site should compute, weighted by the scale per channel that follows
    it in the graph; in networks that give one answer per input, the mean over an input's positions counts on top (see
    ``fitting.sampling``). ``error_heldout`` is measured on inputs that the fit has not seen.

    Attributes:
        output: name of the site's output value.
        factors: in the site's own dtype, or None where it stays dense.
        kernel: a refitted dense kernel (M, C, *k) where the site stays dense and that helps, else None.
        bias: (M,) for the factors or the kernel, None where the site is left as it is.
        ridge: the regularisation λ that was chosen; None for data-free factors, and where nothing was fitted.
        error_calibration: on the inputs fitted to.
        error_heldout: on the held-out inputs.
        error_weights: ‖W−Ŵ‖² / ‖W‖².
        candidates: every candidate's error, best first.
        reason: a sentence where the site stays dense, or where the fit fell back to something safer.
    """

    output: str
    factors: Factors | None
    kernel: NDArray[np.floating] | None
    bias: NDArray[np.floating] | None
    ridge: float | None = None
    error_calibration: float | None = None
    error_heldout: float | None = None
    error_weights: float | None = None
    candidates: tuple[CandidateError, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class RefitResult:
    """All sites and the dense layers between them, by output name in the graph's order.

    ``warnings`` are sentences for the record, ``seconds`` are by stage.
    """

    sites: Mapping[str, FittedSite]
    warnings: tuple[str, ...]
    seconds: Mapping[str, float]
    peak_carried_bytes: int
    spilled_bytes: int

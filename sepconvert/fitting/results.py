"""What a fit is asked, and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepconvert.graph.parts import NewKernel
from sepconvert.graph.rewrite import Replacement
from sepconvert.graph.sites import ConvSite
from sepconvert.separable.factors import Factors
from sepconvert.separable.scheme import Scheme


@dataclass(frozen=True, slots=True)
class SitePlan:
    """A site and the schemes to choose from; without any it stays dense, and ``reason`` is the sentence that says why.

    ``start`` are random factors of the only scheme, to be trained on from where they are. Dense layers that are no
    sites are described as sites without schemes (see ``fitting.layers``).
    """

    site: ConvSite
    schemes: tuple[Scheme, ...]
    reason: str | None = None
    start: Factors | None = None


@dataclass(frozen=True, slots=True)
class SiteFit:
    """What became of one site.

    Errors are relative to the variance of what the site should compute, weighted by the scale per channel that follows
    it in the graph; in networks that give one answer per input, the mean over an input's positions counts on top (see
    ``fitting.sampling``). ``error_heldout`` is measured on inputs that the fit has not seen.

    Attributes:
        site: the site, or another dense layer described as one.
        scheme: what it is rewritten as, or None where it stays dense.
        factors: of the scheme.
        kernel: a refitted dense kernel (M, C, *k) where the site stays dense and that helps, else None.
        bias: (M,) for the factors or the kernel, None where the site's own stays.
        ridge: the regularisation λ that was chosen; None for data-free factors, and where nothing was fitted.
        error_calibration: on the inputs fitted to.
        error_heldout: on the held-out inputs.
        error_weights: ‖W−Ŵ‖² / ‖W‖².
        reason: a sentence where the site stays dense, or where the fit fell back to something safer.
    """

    site: ConvSite
    scheme: Scheme | None = None
    factors: Factors | None = None
    kernel: NDArray[np.floating] | None = None
    bias: NDArray[np.floating] | None = None
    ridge: float | None = None
    error_calibration: float | None = None
    error_heldout: float | None = None
    error_weights: float | None = None
    reason: str | None = None

    @property
    def replacement(self) -> Replacement | None:
        """What to write in the site's place; None where it stays dense."""
        if self.scheme is None or self.factors is None:
            return None
        return Replacement(self.site, self.factors, self.scheme.lowering, self.bias)


@dataclass(frozen=True, slots=True)
class NetworkFit:
    """All sites and the dense layers between them, by output name in the graph's order.

    ``warnings`` are sentences for the record, ``seconds`` are by stage.
    """

    sites: Mapping[str, SiteFit]
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_carried_bytes: int = 0
    spilled_bytes: int = 0

    @property
    def rewritten(self) -> Mapping[str, SiteFit]:
        """The sites that are rewritten."""
        return {output: found for output, found in self.sites.items() if found.scheme is not None}

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """What to write in the place of the rewritten sites."""
        return tuple(found.replacement for found in self.sites.values() if found.replacement is not None)

    @property
    def kept(self) -> Mapping[str, str]:
        """Why sites stay dense that were to be rewritten."""
        return {o: found.reason for o, found in self.sites.items() if found.scheme is None and found.reason is not None}

    @property
    def dense(self) -> Mapping[str, NewKernel]:
        """New kernel and bias of layers that stay dense."""
        return {
            output: NewKernel(found.site, found.kernel, found.bias)
            for output, found in self.sites.items()
            if found.kernel is not None
        }

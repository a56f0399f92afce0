"""What planning is asked and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Any

from sepconvert.fitting.results import SitePlan
from sepconvert.graph.sites import ConvSite
from sepconvert.separable.scheme import Scheme

_LEAST_WIDTH = 1e-4  # of an interval, in logarithms: none is exact


@dataclass(frozen=True, slots=True)
class SiteOption:
    """One way to treat a site: a scheme, or (None) the dense convolution.

    Attributes:
        scheme: form, rank and lowering.
        error: predicted relative error of the site's output.
        damages: shares in the sum of damages to each part of the network's outputs, to plan by; none are 0.
        ms: time of the site in this form; None where nothing was timed.
        dense_ms: time of its dense convolution.
        source: where the time is from: measured, cache, table or roofline.
        alone: the damages where no layer behind is fitted, to predict by; the same where nothing is known of it.
    """

    scheme: Scheme | None = None
    error: float = 0.0
    damages: tuple[float, ...] = ()
    ms: float | None = None
    dense_ms: float | None = None
    source: str | None = None
    alone: tuple[float, ...] = ()

    @property
    def damage(self) -> float:
        """The largest of the damages."""
        return max(self.damages, default=0.0)

    @property
    def saved_ms(self) -> float:
        """What the option is predicted to save; 0 for the dense convolution and where nothing was timed."""
        return 0.0 if self.ms is None or self.dense_ms is None else self.dense_ms - self.ms


@dataclass(frozen=True, slots=True)
class PlannedSite:
    """A site, what was chosen for it, and (where it stays dense) the sentence that says why."""

    site: ConvSite
    option: SiteOption
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Timed:
    """A measured comparison of the original with a candidate network, in ms."""

    before_ms: float
    after_ms: float
    speedup: float
    low: float
    high: float

    def pooled(self, other: "Timed") -> "Timed":
        """Two measurements of the same pair as one: means of logarithms, weighted by what their intervals say.

        The new interval is not narrower than what the two differ by.
        """
        pair = (self, other)
        widths = [max(log(timed.high / timed.low) / 2, _LEAST_WIDTH) for timed in pair]
        weights = [width**-2 for width in widths]
        total = sum(weights)
        before = exp(sum(w * log(timed.before_ms) for w, timed in zip(weights, pair, strict=True)) / total)
        speedup = exp(sum(w * log(timed.speedup) for w, timed in zip(weights, pair, strict=True)) / total)
        factor = exp(max(total**-0.5, abs(log(self.speedup / other.speedup)) / 2))
        return Timed(before, before / speedup, speedup, speedup / factor, speedup * factor)

    def against(self, factor: float) -> "Timed":
        """The same candidate against a model that takes ``factor`` times as long as that which it was timed with."""
        return Timed(
            self.before_ms * factor, self.after_ms, self.speedup * factor, self.low * factor, self.high * factor
        )


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What to do with every site, with what it should give.

    ``predicted`` holds figures computed from single sites (never a measurement); ``timed`` is the measurement of the
    same architecture with random weights, None where nothing was timed; ``attempts`` counts such measurements.
    """

    budget: Mapping[str, Any]
    sites: tuple[PlannedSite, ...]
    predicted: Mapping[str, Any]
    timed: Timed | None = None
    attempts: int = 0

    @property
    def chosen(self) -> tuple[PlannedSite, ...]:
        """The sites that are rewritten."""
        return tuple(planned for planned in self.sites if planned.option.scheme is not None)

    @property
    def site_plans(self) -> list[SitePlan]:
        """The plan as what a fit takes: one scheme for every site that is rewritten."""
        schemes = [() if planned.option.scheme is None else (planned.option.scheme,) for planned in self.sites]
        return [
            SitePlan(planned.site, chosen, planned.reason) for planned, chosen in zip(self.sites, schemes, strict=True)
        ]

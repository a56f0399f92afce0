"""What became of a budget: a rewritten model and how it came about."""

from collections.abc import Sequence
from dataclasses import dataclass

from sepconvert.fitting.results import NetworkFit, SitePlan
from sepconvert.planning.plans import PlannedSite
from sepconvert.record import Latency, Plan
from sepconvert.workflows.fit import Applied


@dataclass(frozen=True, slots=True)
class Settled:
    """A rewritten model and how it came about; ``latency`` is empty where nothing was measured yet.

    ``sites`` are the planned sites with their times, empty for uniform plans.
    """

    plans: Sequence[SitePlan]
    fit: NetworkFit
    applied: Applied
    plan: Plan
    sites: tuple[PlannedSite, ...] = ()
    latency: tuple[Latency, ...] = ()

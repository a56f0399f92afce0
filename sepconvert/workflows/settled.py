"""What became of a budget: a rewritten model and how it came about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sepconvert.fitting.results import NetworkFit, SitePlan
from sepconvert.planning.plans import PlannedSite
from sepconvert.record import Latency, Plan
from sepconvert.workflows.fit import Applied
from sepconvert.workflows.opened import OpenedModel
from sepconvert.workflows.quantisable import QuantisedModel


@dataclass(frozen=True, slots=True)
class Settled:
    """A rewritten model and how it came about.

    ``sites`` are the planned sites with their times, empty for uniform plans; ``latency`` is empty where nothing was
    measured yet. ``int8`` is the model in INT8, where that is planned for or settled for; ``kept`` says by output why a
    site is not rewritten where no plan does.
    """

    plans: Sequence[SitePlan]
    fit: NetworkFit
    applied: Applied
    plan: Plan
    sites: tuple[PlannedSite, ...] = ()
    latency: tuple[Latency, ...] = ()
    int8: QuantisedModel | None = None
    warnings: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)

    @property
    def judged(self) -> OpenedModel:
        """The model that has to keep the budget."""
        return self.applied.opened if self.int8 is None else self.int8.opened

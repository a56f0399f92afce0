"""The curve that planning must beat: one form, the same share of every site's multiply-adds.

Speed falls as the share grows, so a few shares are timed with random weights and the share for a speed-up is read off
between them (linear in the logarithms); the finished model is measured like any other.
"""

from dataclasses import replace

import numpy as np

from sepconvert.fitting.results import SitePlan
from sepconvert.planning.plans import PlannedSite, SiteOption
from sepconvert.planning.uniform import plan_rank
from sepconvert.separable.forms import cli_name
from sepconvert.workflows.planner import Planner

SHARES = (0.06, 0.12, 0.25, 0.45, 0.7)


class UniformCurve:
    """Speed of one form at uniform shares, as measured on the planner's machine."""

    def __init__(self, planner: Planner, form: str) -> None:
        """Time ``SHARES``, the cheapest first; ``form`` is a key of ``FORMS``."""
        self._planner = planner
        self._form = form
        self._speedups = []
        for index, share in enumerate(SHARES):
            planner.case.request.progress(f"Time uniform {cli_name(form)}", index, len(SHARES))
            self._speedups.append(planner.time_architecture(self._planned(share)).speedup)
        planner.case.request.progress(f"Time uniform {cli_name(form)}", len(SHARES), len(SHARES))

    def plans(self, speedup: float) -> tuple[float, list[SitePlan]] | None:
        """The share that is predicted to give a speed-up, and its plan; None where the form cannot give it."""
        logs = np.log(np.maximum.accumulate(self._speedups[::-1])[::-1])
        wanted = float(np.log(self._planner.beyond_int8(speedup)))
        if wanted > logs[0] or wanted < logs[-1]:
            return None
        share = float(np.exp(np.interp(-wanted, -logs, np.log(SHARES))))
        return share, self._uniform(share)

    def _planned(self, share: float) -> list[PlannedSite]:
        planned = []
        for plan in self._uniform(share):
            scheme = plan.schemes[0] if plan.schemes else None
            planned.append(PlannedSite(plan.site, SiteOption(scheme), plan.reason))
        return planned

    def _uniform(self, share: float) -> list[SitePlan]:
        plans = [plan_rank(site, (self._form,), share) for site in self._planner.case.sites]
        return [
            replace(plan, schemes=tuple(self._planner.fastest(plan.site, scheme) for scheme in plan.schemes))
            for plan in plans
        ]


def share_label(form: str, share: float) -> str:
    """Name a uniform model for tables and charts."""
    return f"uniform {cli_name(form)}, {f'{share:.0%}' if share >= 0.01 else f'{100 * share:.2g}%'} of each site"

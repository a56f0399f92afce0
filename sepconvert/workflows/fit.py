"""From plans to factors: fitted to calibration inputs where there are some, else from the weights alone, or random."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from sepconvert.data import Dataset
from sepconvert.fitting.random_start import with_random_start
from sepconvert.fitting.refit import refit
from sepconvert.fitting.results import NetworkFit, SiteFit, SitePlan
from sepconvert.fitting.site import without_data
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.weights import read_constant
from sepconvert.workflows.opened import Case

WITHOUT_DATA = (
    "The factors approximate the weights without seeing data, which usually costs accuracy; pass --data with a few "
    "hundred unlabelled inputs to fit them to what the network sees."
)
EXACT = 1e-9  # share of the squared weights below which nothing is lost but rounding
SHOWN = 5  # layers named in a warning
RANDOM = "The rewritten layers hold random weights: this model must be trained before use."


def fit_plans(case: Case, plans: Sequence[SitePlan]) -> NetworkFit:
    """Make the factors of every planned site.

    Args:
        case: the original, inputs to fit to if there are some, and what was asked. Random factors of a model that will
            be trained are prepared for it, layer by layer.
        plans: in the graph's order; those without schemes stay dense, and with data are refitted where that makes up
            for the errors of sites before them.
    """
    planned = [plan for plan in plans if plan.schemes]
    if not planned:
        return NetworkFit({})
    request = case.request
    if request.planning.init == "random":
        started = [with_random_start(p, _generator(request.seed, p.site)) if p.schemes else p for p in plans]
        if request.fine_tune is not None and case.calibration is not None:
            return _from_data(case, started, case.calibration)
        drawn = {p.site.output: SiteFit(p.site, p.schemes[0], p.start) for p in started if p.schemes}
        return NetworkFit(drawn, () if request.fine_tune is not None else (RANDOM,))
    if case.calibration is None:
        return _from_weights(case, planned)
    return _from_data(case, plans, case.calibration)


def _generator(seed: int, site: ConvSite) -> np.random.Generator:
    """One generator per site, so that a site's result does not depend on which others are rewritten."""
    return np.random.default_rng([seed, *site.output.encode()])


def _from_weights(case: Case, plans: Sequence[SitePlan]) -> NetworkFit:
    request, found = case.request, {}
    for index, plan in enumerate(plans):
        request.progress(f"Fit: {plan.site.name}", index, len(plans))
        weight = read_constant(case.opened.model, plan.site.weight).astype(np.float64)
        found[plan.site.output] = without_data(plan, weight, _generator(request.seed, plan.site))
    request.progress("Fit", len(plans), len(plans))
    errors = [fit.error_weights for fit in found.values()]
    exact = all(error is not None and error < EXACT for error in errors)
    return NetworkFit(found, () if exact else (WITHOUT_DATA,))


def _from_data(case: Case, plans: Sequence[SitePlan], calibration: Dataset) -> NetworkFit:
    request, rng = case.request, np.random.default_rng(case.request.seed)
    found = refit(case.opened.model, plans, calibration, rng=rng, progress=request.progress)
    others = [output for output in found.dense if output not in {plan.site.output for plan in plans}]
    return replace(found, warnings=(*found.warnings, *_told(others)))


def _told(refitted: Sequence[str]) -> Iterator[str]:
    """Say which layers got new weights though they are no sites."""
    if refitted:
        names = ", ".join(refitted[:SHOWN]) + (f" and {len(refitted) - SHOWN} more" if len(refitted) > SHOWN else "")
        yield (
            "Layers that are no sites kept their shape but got new weights and biases, to make up for errors of the "
            f"sites before them ({len(refitted)} in all): {names}."
        )

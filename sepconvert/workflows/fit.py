"""From plans to factors: fitted to calibration inputs where there are some, else from the weights alone, or random."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.fitting.refit import refit
from sepconvert.fitting.results import FittedSite, SiteChoice
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.weights import read_constant
from sepconvert.planning.choose import choose_by_weights, choose_random, generator
from sepconvert.planning.uniform import SitePlan
from sepconvert.separable.factors import Factors
from sepconvert.workflows.case import Case
from sepconvert.workflows.options import Planning

WITHOUT_DATA = (
    "The factors approximate the weights without seeing data, which usually costs accuracy; pass --data with a few "
    "hundred unlabelled inputs to fit them to what the network sees."
)
EXACT = 1e-9  # share of the squared weights below which nothing is lost but rounding
SHOWN = 5  # layers named in a warning
RANDOM = "The rewritten layers hold random weights: this model must be trained before use."


@dataclass(frozen=True, slots=True)
class Fitted:
    """Factors, their lowering and bias (None: the site keeps its own) for a site, and how far they are from it.

    ``errors`` maps the record's error fields to figures.
    """

    site: ConvSite
    factors: Factors
    lowering: str
    bias: NDArray[np.floating] | None = None
    errors: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fits:
    """All results: rewritten sites, sites that stay dense and why, dense layers with a new kernel and bias.

    Dense layers may be no sites (pointwise Convs, Gemms, MatMuls). ``seconds`` is the time by stage, if data was seen.
    """

    rewritten: tuple[Fitted, ...]
    kept: Mapping[str, str] = field(default_factory=dict)
    dense: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating] | None]] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def fit_plans(case: Case, plans: Sequence[SitePlan]) -> Fits:
    """Make the factors of every planned site.

    Args:
        case: the original, inputs to fit to if there are some, and what was asked. Random factors of a model that will
            be trained are prepared for it, layer by layer.
        plans: in the graph's order; those without candidates stay dense, and with data are refitted where that makes
            up for the errors of sites before them.
    """
    planned = [plan for plan in plans if plan.candidates]
    if not planned:
        return Fits(())
    request = case.request
    if request.planning.init == "random":
        drawn = {plan.site.output: choose_random(plan, generator(request.seed, plan.site)).factors for plan in planned}
        if request.fine_tune is not None and case.calibration is not None:
            return _from_data(case, plans, case.calibration, drawn)
        fitted = [_fitted(request.planning, plan, drawn[plan.site.output]) for plan in planned]
        return Fits(tuple(fitted), warnings=() if request.fine_tune is not None else (RANDOM,))
    if case.calibration is None:
        return _from_weights(case, planned)
    return _from_data(case, plans, case.calibration)


def _fitted(
    planning: Planning,
    plan: SitePlan,
    factors: Factors,
    bias: NDArray[np.floating] | None = None,
    errors: Mapping[str, float | None] | None = None,
) -> Fitted:
    lowering = plan.lowering or planning.lowering_of(factors.form, factors.rank)
    return Fitted(plan.site, factors, lowering, bias, errors or {})


def _from_weights(case: Case, plans: Sequence[SitePlan]) -> Fits:
    request, found = case.request, []
    for index, plan in enumerate(plans):
        request.progress(f"Fit: {plan.site.name}", index, len(plans))
        weight = read_constant(case.opened.model, plan.site.weight)
        choice = choose_by_weights(plan, weight, generator(request.seed, plan.site))
        found.append(_fitted(request.planning, plan, choice.factors, errors={"error_weights": choice.error}))
    request.progress("Fit", len(plans), len(plans))
    exact = all(fit.errors["error_weights"] is not None and fit.errors["error_weights"] < EXACT for fit in found)
    return Fits(tuple(found), warnings=() if exact else (WITHOUT_DATA,))


def _from_data(
    case: Case,
    plans: Sequence[SitePlan],
    calibration: Dataset,
    drawn: Mapping[str, Factors] = MappingProxyType({}),
) -> Fits:
    choices = [
        SiteChoice(plan.site, tuple((c.form, c.rank) for c in plan.candidates), drawn.get(plan.site.output))
        for plan in plans
    ]
    request, rng = case.request, np.random.default_rng(case.request.seed)
    result = refit(case.opened.model, choices, calibration, rng=rng, progress=request.progress)
    rewritten, kept = [], {}
    for plan in plans:
        site = result.sites[plan.site.output]
        if site.factors is not None:
            rewritten.append(_fitted(request.planning, plan, site.factors, site.bias, _errors(site)))
            continue
        if plan.candidates:
            kept[plan.site.output] = site.reason or "no fit came close enough on held-out inputs"
    dense = {output: (s.kernel, s.bias) for output, s in result.sites.items() if s.kernel is not None}
    others = [output for output in dense if output not in {plan.site.output for plan in plans}]
    return Fits(tuple(rewritten), kept, dense, (*result.warnings, *_told(others)), result.seconds)


def _told(refitted: Sequence[str]) -> Iterator[str]:
    """Say which layers got new weights though they are no sites."""
    if refitted:
        names = ", ".join(refitted[:SHOWN]) + (f" and {len(refitted) - SHOWN} more" if len(refitted) > SHOWN else "")
        yield (
            "Layers that are no sites kept their shape but got new weights and biases, to make up for errors of the "
            f"sites before them ({len(refitted)} in all): {names}."
        )


def _errors(site: FittedSite) -> dict[str, Any]:
    names = ("error_weights", "error_calibration", "error_heldout")
    return {name: getattr(site, name) for name in names}

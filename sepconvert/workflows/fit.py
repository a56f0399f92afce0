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
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.weights import read_constant
from sepconvert.planning.choose import choose_by_weights, choose_random, generator
from sepconvert.planning.uniform import SitePlan
from sepconvert.progress import Progress
from sepconvert.separable.factors import Factors
from sepconvert.workflows.options import Target

WITHOUT_DATA = (
    "The factors approximate the weights without seeing data, which usually costs accuracy; pass --data with a few "
    "hundred unlabelled inputs to fit them to what the network sees."
)
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


def fit_plans(
    model: LoadedModel,
    plans: Sequence[SitePlan],
    calibration: Dataset | None,
    target: Target,
    *,
    seed: int,
    progress: Progress,
    trained: bool = False,
) -> Fits:
    """Make the factors of every planned site.

    Args:
        model: the original.
        plans: in the graph's order; those without candidates stay dense, and with data are refitted where that makes
            up for the errors of sites before them.
        calibration: inputs to fit to, or None.
        target: how factors are made (``init``) and written (``lowering``).
        seed: of everything random.
        progress: told of every site.
        trained: the model will be trained: random factors are prepared for it, layer by layer.
    """
    planned = [plan for plan in plans if plan.candidates]
    if not planned:
        return Fits(())
    if target.init == "random":
        drawn = {plan.site.output: choose_random(plan, generator(seed, plan.site)).factors for plan in planned}
        if trained and calibration is not None:
            return _from_data(model, plans, calibration, target, seed, progress, drawn)
        fitted = [_fitted(plan, drawn[plan.site.output], target) for plan in planned]
        return Fits(tuple(fitted), warnings=() if trained else (RANDOM,))
    if calibration is None:
        return _from_weights(model, planned, target, seed, progress)
    return _from_data(model, plans, calibration, target, seed, progress)


def _fitted(
    plan: SitePlan,
    factors: Factors,
    target: Target,
    bias: NDArray[np.floating] | None = None,
    errors: Mapping[str, float | None] | None = None,
) -> Fitted:
    lowering = plan.lowering or target.lowering_of(factors.form, factors.rank)
    return Fitted(plan.site, factors, lowering, bias, errors or {})


def _from_weights(model: LoadedModel, plans: Sequence[SitePlan], target: Target, seed: int, progress: Progress) -> Fits:
    found = []
    for index, plan in enumerate(plans):
        progress(f"Fit: {plan.site.name}", index, len(plans))
        choice = choose_by_weights(plan, read_constant(model, plan.site.weight), generator(seed, plan.site))
        found.append(_fitted(plan, choice.factors, target, errors={"error_weights": choice.error}))
    progress("Fit", len(plans), len(plans))
    return Fits(tuple(found), warnings=(WITHOUT_DATA,))


def _from_data(
    model: LoadedModel,
    plans: Sequence[SitePlan],
    calibration: Dataset,
    target: Target,
    seed: int,
    progress: Progress,
    drawn: Mapping[str, Factors] = MappingProxyType({}),
) -> Fits:
    choices = [
        SiteChoice(plan.site, tuple((c.form, c.rank) for c in plan.candidates), drawn.get(plan.site.output))
        for plan in plans
    ]
    result = refit(model, choices, calibration, rng=np.random.default_rng(seed), progress=progress)
    rewritten, kept = [], {}
    for plan in plans:
        site = result.sites[plan.site.output]
        if site.factors is not None:
            rewritten.append(_fitted(plan, site.factors, target, site.bias, _errors(site)))
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

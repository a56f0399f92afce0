"""From plans to factors, and from factors to a model.

Factors are fitted to calibration inputs where there are some, else made from the weights alone, or random. They are put
into a copy of the graph, every site is checked with the exact oracle, and the result is counted again.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepconvert.data import Dataset
from sepconvert.errors import VerificationError
from sepconvert.fitting.random_start import with_random_start
from sepconvert.fitting.refit import refit
from sepconvert.fitting.results import NetworkFit, SiteFit, SitePlan
from sepconvert.fitting.site import without_data
from sepconvert.graph.count import count_totals, macs_by_output, sum_known
from sepconvert.graph.layer_weights import read_kernel
from sepconvert.graph.notation import is_full
from sepconvert.graph.parts import with_kernels
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.survey import Survey
from sepconvert.record import Note, SelfCheck, SiteRecord, Skip
from sepconvert.separable.forms import cli_name, cost_of, first_kernel
from sepconvert.verify.oracle import check_rewrite
from sepconvert.workflows.describe import describe_layers, describe_site
from sepconvert.workflows.effort import refit_settings
from sepconvert.workflows.opened import Case, OpenedModel

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
        weight = read_kernel(case.opened.model, plan.site).astype(np.float64)
        found[plan.site.output] = without_data(plan, weight, _generator(request.seed, plan.site))
    request.progress("Fit", len(plans), len(plans))
    errors = [fit.error_weights for fit in found.values()]
    exact = all(error is not None and error < EXACT for error in errors)
    return NetworkFit(found, () if exact else (WITHOUT_DATA,))


def _from_data(case: Case, plans: Sequence[SitePlan], calibration: Dataset) -> NetworkFit:
    request, rng = case.request, np.random.default_rng(case.request.seed)
    found = refit(
        case.opened.model, plans, calibration, rng=rng, settings=refit_settings(request), progress=request.progress
    )
    planned = {plan.site.output for plan in plans}
    others = [dense.site.name or output for output, dense in found.dense.items() if output not in planned]
    return replace(found, warnings=(*found.warnings, *_told(others)))


def _told(refitted: Sequence[str]) -> Iterator[str]:
    """Say which layers got new weights though they are no sites."""
    if refitted:
        names = ", ".join(refitted[:SHOWN]) + (f" and {len(refitted) - SHOWN} more" if len(refitted) > SHOWN else "")
        yield Note(
            "Layers that are no sites kept their shape but got new weights and biases, to make up for errors of the "
            f"sites before them ({len(refitted)} in all): {names}."
        )


@dataclass(frozen=True, slots=True)
class Applied:
    """The rewritten model, what stands in each site's place, its MACs counted from there, and the oracle's verdict.

    ``emitted`` are, for each layer that is gone, the outputs of the Convs in its place. ``folded`` are the outputs of
    pointwise layers into which a sum was folded.
    """

    opened: OpenedModel
    fitted: Mapping[str, SiteFit]
    macs: Mapping[str, int | None]
    self_check: SelfCheck
    emitted: Mapping[str, tuple[str, ...]]
    folded: tuple[str, ...] = ()


def apply_fits(opened: OpenedModel, fit: NetworkFit, seed: int) -> Applied:
    """Rewrite the model.

    Raises:
        VerificationError: a site does not compute what its factors say, or costs other than planned: a bug.
    """
    replacements = fit.replacements
    rewritten = rewrite_model(opened.model, replacements)
    check = check_rewrite(opened.model, rewritten, replacements, np.random.default_rng(seed))
    model = with_kernels(rewritten.model, [*fit.dense.values()]) if fit.dense else rewritten.model
    sizes = {info.name: info.used_shape for info in opened.shapes.inputs if is_full(info.used_shape)}
    shapes = infer_shapes(model, sizes)
    kept = [use.product for use in opened.found.uses if use.output not in rewritten.emitted]
    emitted = [name for names in rewritten.emitted.values() for name in names]
    totals = count_totals(model, shapes, [*kept, *emitted])
    counted = macs_by_output(model, shapes)
    macs = {}
    for replacement in replacements:
        site = replacement.site
        written = [name for output in site.outputs for name in rewritten.emitted[output]]
        macs[site.output] = sum_known([counted.get(name) for name in written])
        _check_cost(replacement, macs[site.output])
    after = OpenedModel(model, shapes, Survey((), ()), totals)
    return Applied(after, fit.rewritten, macs, check, rewritten.emitted)


def _check_cost(replacement: Replacement, found: int | None) -> None:
    site, factors = replacement.site, replacement.factors
    planned = cost_of(factors.form, site.geometry, factors.rank).macs
    if planned is not None and planned != found:
        raise VerificationError(
            f"Site {site.name} was written with {found} MACs instead of the planned {planned}: "
            "this is a bug of sepconvert, please report it."
        )


def describe_result(
    opened: OpenedModel, site: ConvSite, applied: Applied, reason: str | None, forms: Sequence[str]
) -> SiteRecord:
    """The record of a site after the rewrite, with the error curves of ``forms``; ``reason`` says why it is kept."""
    fit = applied.fitted.get(site.output)
    replacement = None if fit is None else fit.replacement
    if fit is None or replacement is None:
        kept = describe_site(opened.model, site, status="kept", reason=reason, forms=forms)
        return replace(kept, params_after=kept.params, macs_after=kept.macs)
    factors = replacement.factors
    first = first_kernel(factors)
    return replace(
        describe_site(opened.model, site, status="rewritten", reason=None, forms=forms, taken=factors.form),
        form=cli_name(factors.form),
        rank=factors.rank,
        lowering=replacement.lowering,
        first_kernel=None if first is None else list(first),
        layers=describe_layers(replacement.layers, site.geometry.kernel),
        params_after=factors.params,
        macs_after=applied.macs[site.output],
        error_weights=fit.error_weights,
        error_calibration=fit.error_calibration,
        error_heldout=fit.error_heldout,
    )


def with_refit(skip: Skip, refitted: Container[str]) -> Skip:
    """Add to a skipped layer's reason that its weights were refitted, if they were."""
    if skip.output not in refitted:
        return skip
    return replace(skip, reason=f"{skip.reason} Its weight and bias were refitted to what the sites before it give.")

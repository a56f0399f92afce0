"""Put fitted factors into a copy of the graph, check every site with the exact oracle, and count again."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepconvert.errors import VerificationError
from sepconvert.fitting.results import NetworkFit, SiteFit
from sepconvert.graph.count import count_totals, macs_by_output, sum_known
from sepconvert.graph.notation import is_full
from sepconvert.graph.parts import with_kernels
from sepconvert.graph.rewrite import Replacement, rewrite_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.survey import Survey
from sepconvert.record import SelfCheck, SiteRecord, Skip
from sepconvert.separable.forms import FORMS, cli_name, cost_of
from sepconvert.verify.oracle import check_rewrite
from sepconvert.workflows.describe import describe_layers, describe_site
from sepconvert.workflows.opened import OpenedModel


@dataclass(frozen=True, slots=True)
class Applied:
    """The rewritten model, what stands in each site's place, its MACs counted from there, and the oracle's verdict.

    ``emitted`` are, for each rewritten site, the outputs of the Convs in its place.
    """

    opened: OpenedModel
    fitted: Mapping[str, SiteFit]
    macs: Mapping[str, int | None]
    self_check: SelfCheck
    emitted: Mapping[str, tuple[str, ...]]


def apply_fits(opened: OpenedModel, fit: NetworkFit, seed: int) -> Applied:
    """Rewrite the model.

    Raises:
        VerificationError: a site does not compute what its factors say, or costs other than planned: a bug.
    """
    replacements = fit.replacements
    rewritten = rewrite_model(opened.model, replacements)
    check = check_rewrite(opened.model, rewritten, replacements, np.random.default_rng(seed))
    model = with_kernels(rewritten.model, fit.dense) if fit.dense else rewritten.model
    sizes = {info.name: info.used_shape for info in opened.shapes.inputs if is_full(info.used_shape)}
    shapes = infer_shapes(model, sizes)
    kept = [site.output for site in opened.found.sites if site.output not in rewritten.emitted]
    emitted = [name for names in rewritten.emitted.values() for name in names]
    totals = count_totals(model, shapes, [*kept, *emitted])
    counted = macs_by_output(model, shapes)
    macs = {output: sum_known([counted.get(name) for name in names]) for output, names in rewritten.emitted.items()}
    for replacement in replacements:
        _check_cost(replacement, macs[replacement.site.output])
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
    first = FORMS[factors.form].first_kernel(factors)
    return replace(
        describe_site(opened.model, site, status="rewritten", reason=None, forms=forms),
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

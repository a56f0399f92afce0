"""All layers of a model as the record tells them: what each costs, and what it could become."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from sepconvert.graph.layer_weights import read_kernel
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.summary import summarise
from sepconvert.record import SEPARABLE, ModelLayer, Saving, SeparablePair, SiteRecord
from sepconvert.separable.exact_rank import exact_scheme
from sepconvert.separable.forms import FORMS, cli_name, cost_of, error_by_rank, max_useful_rank, rank_for_share
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.workflows.describe import LARGEST_CURVE
from sepconvert.workflows.opened import OpenedModel

HALF = 0.5  # share of its MACs at which a layer is looked at whose rank counts channels


def with_savings(opened: OpenedModel, sites: Sequence[SiteRecord], forms: Sequence[str]) -> list[SiteRecord]:
    """Add to eligible sites what they could become, from their weights alone.

    Raises:
        ModelError: a weight holds NaN or infinity.
    """
    found = {site.output: site for site in opened.found.sites}
    return [
        replace(site, saving=_saving(opened, found[site.output], forms)) if site.status == "eligible" else site
        for site in sites
    ]


def _saving(opened: OpenedModel, site: ConvSite, forms: Sequence[str]) -> Saving | None:
    """The rank that the layer has, or the first form that is cheaper: at r = 1, or at half of the MACs."""
    geometry = site.geometry
    usable = [form for form in forms if max_useful_rank(form, geometry) > 0]
    if not usable:
        return None
    weight = read_kernel(opened.model, site) if geometry.dense_cost.params <= LARGEST_CURVE else None
    scheme = None if weight is None else exact_scheme(usable, weight, geometry, site.dtype)
    if scheme is not None:
        return Saving(cli_name(scheme.form), scheme.rank, _factor(scheme.form, geometry, scheme.rank), 0.0, exact=True)
    form = usable[0]
    rank = rank_for_share(form, geometry, HALF) if FORMS[form].CHANNELS else 1
    dropped = None
    if weight is not None and not FORMS[form].BOUNDED:
        dropped = float(error_by_rank(form, weight.astype(np.float32), geometry)[rank - 1])
    return Saving(cli_name(form), rank, _factor(form, geometry, rank), dropped)


def _factor(form: str, geometry: ConvGeometry, rank: int) -> float:
    dense, cost = geometry.dense_cost, cost_of(form, geometry, rank)
    if dense.macs and cost.macs:
        return dense.macs / cost.macs
    return dense.params / cost.params


def model_layers(opened: OpenedModel, sites: Sequence[SiteRecord], pairs: Sequence[SeparablePair]) -> list[ModelLayer]:
    """All layers in the model's order, with what became of those that have weights."""
    totals = opened.totals
    records = {site.output: site for site in sites}
    known = {use.product: records[site.output] for site in opened.found.sites for use in site.uses}
    skipped = {skip.output: skip.reason for skip in opened.found.skips}
    member = {output: index for index, pair in enumerate(pairs) for output in pair.layers}
    return [
        _told(row, known.get(row.output), skipped, member.get(row.output))
        for row in summarise(opened.model, opened.shapes, totals.params, totals.macs)
    ]


def _told(row: ModelLayer, site: SiteRecord | None, skipped: Mapping[str, str], pair: int | None) -> ModelLayer:
    if site is not None:
        return replace(row, status=site.status, reason=site.reason, saving=site.saving, pair=pair, name=site.name)
    if pair is not None:
        return replace(row, status=SEPARABLE, reason=skipped.get(row.output), pair=pair)
    if row.output in skipped:
        return replace(row, status="skipped", reason=skipped[row.output])
    return row

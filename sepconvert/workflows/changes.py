"""What a comparison tells of layers and nodes: each layer before and after, and which nodes differ."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sepconvert.graph.count import count_totals, sum_known
from sepconvert.graph.differences import CHANGED, REPLACED, SAME, WEIGHTS, Differences, Place
from sepconvert.graph.sites import CONV, SHARED
from sepconvert.graph.summary import summarise
from sepconvert.record import LayerChange, ModelChanges, ModelLayer, Note, Record, SiteRecord
from sepconvert.separable.forms import FORMS
from sepconvert.workflows.opened import OpenedModel

OTHER_NAMES = Note(
    "The two models give their values other names, so that layers and nodes could not be set against each other."
)
SAME_LAYER = "the same in both models"
_REASONS = {SAME: SAME_LAYER, WEIGHTS: "the same layer with other weights"}


def with_kinds_replaced(opened: OpenedModel, found: Differences) -> OpenedModel:
    """The same model, of whose layers only convolutions and the kinds that the other model has replaced are sites."""
    replaced = {output for output, place in found.places.items() if place.kind == REPLACED}
    changed = [site for site in opened.found.sites if any(use.output in replaced for use in site.uses)]
    kinds = {CONV, *(site.layer for site in changed), *(SHARED for site in changed if site.others)}
    sites = opened.found.allowing(list(FORMS), kinds)
    totals = count_totals(opened.model, opened.shapes, [use.product for use in sites.uses])
    return replace(opened, found=sites, totals=totals)


def with_changes(record: Record, before: OpenedModel, after: OpenedModel, found: Differences) -> Record:
    """Add to a comparison what became of sites and other layers; a note where that cannot be told."""
    if before.found.sites and not any(site.output in found.places for site in before.found.sites):
        return record.telling([OTHER_NAMES])
    rows = [{row.output: row for row in _rows(opened)} for opened in (before, after)]
    sites = [_changed(site, found, *rows) for site in record.sites]
    layers = [
        LayerChange(row, _replacing(found.places[output], rows[1]), found.places[output].kind)
        for output, row in rows[0].items()
        if output in found.places and found.places[output].kind != SAME and row.params
    ]
    kinds = [place.kind for place in found.places.values()]
    changes = ModelChanges(
        layers=layers,
        added=list(found.added),
        removed=list(found.removed),
        changed=sum(kind in (CHANGED, REPLACED) for kind in kinds),
        other_weights=kinds.count(WEIGHTS),
        same=kinds.count(SAME),
    )
    return replace(record, sites=sites, changes=changes)


def _rows(opened: OpenedModel) -> Sequence[ModelLayer]:
    return summarise(opened.model, opened.shapes, opened.totals.params, opened.totals.macs)


def _replacing(place: Place, rows: Mapping[str, ModelLayer]) -> list[ModelLayer]:
    """The layers with weights in a place."""
    return [rows[output] for output in place.outputs if output in rows and rows[output].params]


def _changed(
    site: SiteRecord, found: Differences, old: Mapping[str, ModelLayer], new: Mapping[str, ModelLayer]
) -> SiteRecord:
    """A site as the other model has it; where layers share its weight, it is told of all of them."""
    places = [found.places[output] for output in (site.output, *site.others) if output in found.places]
    if not places:
        return replace(site, status="kept", reason="not in the other model, or under another name")
    if places[0].kind in _REASONS:
        return replace(
            site,
            status="kept",
            reason=_REASONS[places[0].kind],
            params_after=site.params,
            macs_after=site.macs,
        )
    layers = [row for place in places for row in _replacing(place, new)]
    facts = places[0].facts
    # A row counts the bias, a site does not.
    bias = old[site.output].params - site.params if site.output in old else 0
    return replace(
        site,
        status="rewritten",
        reason=None,
        form=facts.get("form"),
        rank=int(facts["rank"]) if facts.get("rank", "").isdecimal() else None,
        lowering=facts.get("lowering"),
        params_after=sum(row.params for row in layers) - bias,
        macs_after=sum_known([row.macs for row in layers]),
    )

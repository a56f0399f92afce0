"""Times of single sites in the record: those a plan was made with; for ``analyze``, also a candidate to look at."""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from sepconvert.data import Dataset
from sepconvert.planning.plans import PlannedSite, SiteOption
from sepconvert.record import SiteRecord
from sepconvert.separable.forms import cli_name, cost_of
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.request import Request

WORTH_A_LOOK = 2.0  # times as fast as the dense convolution


def time_sites(
    request: Request, opened: OpenedModel, records: Sequence[SiteRecord], dataset: Dataset | None
) -> tuple[list[SiteRecord], list[str]]:
    """Time eligible sites and their candidates (weights alone decide which survive pruning).

    Returns:
        The records with ``latency_ms``, ``latency_share`` and ``best_candidate`` (the one that loses least of those at
        least twice as fast as the dense convolution, else the fastest), or the reason why none is faster; and warnings.
    """
    eligible = {record.output for record in records if record.status == "eligible"}
    sites = [site for site in opened.found.sites if site.geometry.is_sized and site.output in eligible]
    if not sites:
        return list(records), []
    planner = Planner(Case(request, opened, sites, None, dataset))
    choices = planner.choices_by_latency
    found = {site.output: options for site, options in zip(choices.sites, choices.options, strict=True)}
    geometries = {site.output: site.geometry for site in opened.found.sites}
    timed = [
        _timed(record, geometries[record.output], found.get(record.output, ()), choices.reasons) for record in records
    ]
    return [_with_share(record, planner.original_ms) for record in timed], planner.warnings


def with_times(records: Sequence[SiteRecord], planned: Sequence[PlannedSite]) -> list[SiteRecord]:
    """Add the times of single sites that a plan was made with."""
    options = {site.site.output: site.option for site in planned}
    return [
        replace(record, latency_ms=options[record.output].dense_ms, latency_ms_after=options[record.output].ms)
        if record.output in options
        else record
        for record in records
    ]


def _timed(record: SiteRecord, geometry: ConvGeometry, options: Sequence[SiteOption], reasons: Any) -> SiteRecord:
    if not options or options[0].ms is None:
        return record
    dense, candidates = options[0].ms, options[1:]
    if not candidates:
        return replace(record, latency_ms=dense, reason=reasons.get(record.output, record.reason))
    fast = [option for option in candidates if (option.ms or 0.0) * WORTH_A_LOOK <= dense]
    best = min(fast, key=attrgetter("error")) if fast else min(candidates, key=lambda option: option.ms or 0.0)
    scheme = best.scheme
    assert scheme is not None
    macs = cost_of(scheme.form, geometry, scheme.rank).macs
    described = {
        "form": cli_name(scheme.form),
        "rank": scheme.rank,
        "lowering": scheme.lowering,
        "macs_ratio": macs / record.macs if macs is not None and record.macs else None,
        "error": best.error,
        "latency_ms": best.ms,
    }
    return replace(record, latency_ms=dense, best_candidate=described)


def _with_share(record: SiteRecord, whole_ms: float) -> SiteRecord:
    return record if record.latency_ms is None else replace(record, latency_share=record.latency_ms / whole_ms)

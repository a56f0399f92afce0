"""Times of single sites in the record: those a plan was made with; for ``analyze``, also a candidate to look at."""

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

from sepconvert.planning.plans import PlannedSite, SiteOption
from sepconvert.record import SiteRecord
from sepconvert.separable.forms import cli_name, cost_of
from sepconvert.separable.geometry import ConvGeometry
from sepconvert.workflows.opened import Case
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.quantiser import Int8

WORTH_A_LOOK = 2.0  # times as fast as the dense convolution


def time_sites(
    case: Case, records: Sequence[SiteRecord], int8: Int8 | None = None
) -> tuple[list[SiteRecord], list[str]]:
    """Time eligible sites and their candidates (weights alone decide which survive pruning).

    Where the model is faster in INT8, all are timed so, and the records say it.

    Returns:
        The records with ``latency_ms``, ``latency_share`` and ``best_candidate`` (the one that loses least of those at
        least twice as fast as the dense convolution, else the fastest), or the reason why none is faster; and warnings.
    """
    opened = case.opened
    eligible = {record.output for record in records if record.status == "eligible"}
    sites = [site for site in opened.found.sites if site.geometry.is_sized and site.output in eligible]
    if not sites:
        return list(records), []
    in_int8 = int8 is not None and int8.planned
    planner = Planner(replace(case, sites=sites, calibration=None), int8 if in_int8 else None)
    planner.warnings += () if int8 is None else int8.warnings
    choices = planner.choices_by_latency
    found = {site.output: options for site, options in zip(choices.sites, choices.options, strict=True)}
    geometries = {site.output: site.geometry for site in opened.found.sites}
    timed = [
        _timed(record, geometries[record.output], found.get(record.output, ()), choices.reasons) for record in records
    ]
    if in_int8:
        timed = [record if record.latency_ms is None else replace(record, precision="int8") for record in timed]
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

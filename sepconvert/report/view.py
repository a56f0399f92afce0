"""The page as plain data: everything the templates show, already in words, and nothing else."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath

from sepconvert.record import SEPARABLE, Record
from sepconvert.report import figures, layers, origin, sections, summary, sweeps, trials
from sepconvert.report.alternatives import AlternativesView, alternatives_view
from sepconvert.report.changes import ChangesView, changes_view
from sepconvert.report.glossary import glossary
from sepconvert.report.layers import LayerTable, Pairs
from sepconvert.report.skips import SkipGroup, group_skips, others
from sepconvert.report.summary import Summary
from sepconvert.report.verdict import Verdict, judge


@dataclass(frozen=True, slots=True)
class PageView:
    """One page. Empty tuples and None mean that the section is left out."""

    title: str
    command: str
    source: str
    output: str | None
    made: str
    verdict: Verdict
    figures: tuple[sections.Figure, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    sweep: sweeps.SweepTable | None
    layers: LayerTable
    forms: Pairs
    has_network: bool
    network_key: Pairs
    summary: Summary | None
    findings: tuple[str, ...]
    advice: tuple[str, ...]
    glossary: Pairs
    changes: ChangesView | None
    skips: tuple[SkipGroup, ...]
    skipped: int
    totals: tuple[sections.TotalRow, ...]
    has_after: bool
    uncounted: tuple[str, ...]
    fidelity: sections.FidelityView | None
    samples: tuple[trials.SampleView, ...]
    samples_title: str
    samples_are_pictures: bool
    samples_left_out: int
    alternatives: AlternativesView | None
    devices: tuple[sections.DeviceRow, ...]
    fine_tune: Pairs
    plan: tuple[trials.PlanRow, ...]
    stages: Pairs
    self_checks: tuple[str, ...]
    environment: Pairs
    files: Pairs
    inputs: Pairs
    reproduce: str | None
    charts: tuple[str, ...]


_TITLES = {"analyze": "What can be made separable", "rewrite": "Rewritten", "compare": "Compared", "sweep": "Sweep"}


def view(record: Record, table: LayerTable, charts: tuple[str, ...]) -> PageView:
    """Turn a record into what its page shows, around the table of its layers and the charts there are."""
    after = record.totals.after
    source = file_name(record.source.path)
    samples = trials.sample_views(record)
    return PageView(
        title=f"{source}: {_TITLES.get(record.command, record.command)}",
        command=record.command,
        source=source,
        output=file_name(record.output.path) if record.output else None,
        made=record.environment.time,
        verdict=judge(record),
        figures=sections.headline_figures(record),
        warnings=tuple(record.warnings),
        notes=tuple(record.notes),
        sweep=sweeps.tabulate(record),
        layers=table,
        forms=_forms(record),
        has_network=record.graph is not None and bool(record.graph.nodes),
        network_key=_network_key(record),
        summary=summary.summarise(record, every=True) if record.layers else None,
        findings=tuple(summary.findings(record)),
        advice=tuple(record.advice),
        glossary=glossary(record),
        changes=changes_view(record),
        skips=group_skips(record),
        skipped=len(others(record)),
        totals=sections.total_rows(record),
        has_after=after is not None,
        uncounted=sections.uncounted(record.totals),
        fidelity=sections.fidelity_view(record),
        samples=samples,
        samples_title="Samples that changed most" if record.fidelity and record.fidelity.most_changed else "Samples",
        samples_are_pictures=any(sample.shows_outputs for sample in samples),
        samples_left_out=len(record.samples) - len(samples),
        alternatives=alternatives_view(record),
        devices=sections.device_rows(record),
        fine_tune=trials.fine_tune_pairs(record),
        plan=trials.plan_rows(record),
        stages=trials.stage_pairs(record),
        self_checks=tuple(_self_checks(record)),
        environment=origin.environment_pairs(record),
        files=origin.file_pairs(record),
        inputs=origin.input_pairs(record),
        reproduce=origin.reproduce(record),
        charts=charts,
    )


def file_name(path: str) -> str:
    """Return the last part of a path of either system, or the path where there is none."""
    return PureWindowsPath(path).name or PurePosixPath(path).name or path


def _forms(record: Record) -> Pairs:
    """The separable forms that the page names, with the words on what they are."""
    named = {site.form for site in record.sites}
    named |= {point.form for site in record.sites for point in site.error_by_rank or []}
    named |= {site.best_candidate.get("form") for site in record.sites if site.best_candidate}
    if record.sweep is not None:
        named |= {point.form for point in (*record.sweep.points, *record.sweep.baselines)}
    return tuple((form.name, form.words) for form in record.forms if form.name in named)


def _network_key(record: Record) -> Pairs:
    found = {site.output: site.status for site in record.sites}
    present = {found.get(node.output, node.status) for node in record.graph.nodes} if record.graph else set()
    words = {**layers.STATUS_WORDS, SEPARABLE: "separable already", "skipped": "no candidate"}
    return tuple((status, text) for status, text in words.items() if status in present)


def _self_checks(record: Record) -> Iterator[str]:
    check = record.self_check
    if check is not None:
        passed = check.max_relative <= check.tolerance
        yield (
            f"{'Passed' if passed else 'FAILED'} at {figures.plural(check.sites, 'layer')}: each written replacement "
            f"was run against the layer it stands for; the largest deviation is {figures.error(check.max_relative)}, "
            f"rounding alone allows {figures.error(check.tolerance)}."
        )
    if record.integer_check is not None:
        yield (
            f"Passed at {figures.plural(record.integer_check.sites, 'layer')} in INT8: weights and biases are within "
            "half a step of the floating-point ones, outputs within half a step of what those weights and biases give."
        )

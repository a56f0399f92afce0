"""What planning found out, in the terminal: times of sites; what was asked, predicted, measured; a sweep's models."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from sepconvert.record import NONE, Record, SiteRecord, SweepPoint
from sepconvert.report import figures
from sepconvert.report.alternatives import AlternativesView, alternatives_view, chosen_claim
from sepconvert.report.sweeps import has_top1, metric_of
from sepconvert.report.trials import PlanRow, plan_rows
from sepconvert.terminal.names import numbers, plain


def render_times(record: Record) -> Iterator[RenderableType]:
    """Yield what there is of site times, plan and sweep."""
    if record.command == "analyze" and any(site.latency_ms is not None for site in record.sites):
        how = " in INT8" if any(site.precision == "int8" for site in record.sites) else ""
        timed = f"Each site alone{how}, and its closest candidate that is twice as fast (or the fastest)"
        note = "share: of the whole model's time; dropped: of the squared weights, before any fit to data"
        yield Group(Text(timed, style="bold"), _site_times(record.sites), Text(note))
    table, chosen = alternatives_view(record), chosen_claim(record)
    if table is not None:
        yield _alternatives(table, "" if chosen is None else chosen.sentence)
    if record.plan is not None and record.plan.predicted is not None:
        yield _plan(plan_rows(record))
    if record.sweep is not None:
        title = Text("Models of this sweep (*: no other is both faster and closer), then simpler methods", style="bold")
        yield Group(title, _sweep(record))


def _site_times(sites: Sequence[SiteRecord]) -> Table:
    site_column = Column("Site", overflow="ellipsis", no_wrap=True, max_width=24)
    timed, found = numbers("ms", "share", "GFLOP/s"), numbers("ms", "dropped")
    table = Table(site_column, *timed, "Candidate", *found, box=None, pad_edge=False)
    for site in sites:
        if site.latency_ms is None:
            continue
        best = site.best_candidate or {}
        table.add_row(
            site.name,
            figures.significant(site.latency_ms),
            plain(figures.percent(site.latency_share, "")),
            "" if site.macs is None or not site.latency_ms else figures.significant(2e-6 * site.macs / site.latency_ms),
            f"{best['form']} {best['rank']}" if best else (site.reason or ""),
            figures.significant(best["latency_ms"]) if "latency_ms" in best else "",
            plain(figures.percent(best["error"], decimals=0)) if "error" in best else "",
        )
    return table


def _alternatives(found: AlternativesView, sentence: str) -> RenderableType:
    table = Table("", *numbers(*found.titles, no_wrap=False), box=None, pad_edge=False)
    for label, texts in found.rows:
        table.add_row(label, *(plain(text) for text in texts))
    text = plain(sentence[:1].upper() + sentence[1:])
    return Group(Text("INT8, the rewrite, or both, timed in turns", style="bold"), table, Text(text))


def _plan(rows: Sequence[PlanRow]) -> Table:
    table = Table("Plan", *numbers("asked", "predicted", "measured", no_wrap=False), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(plain(text) for text in (row.label, row.asked, row.predicted, row.measured)))
    return table


def _sweep(record: Record) -> Table:
    sweep, macs = record.sweep, record.totals.before.macs
    assert sweep is not None
    metric, labelled = metric_of(sweep), has_top1(sweep)
    found = [*(["top-1"] if labelled else []), *([] if metric is None else [metric.name])]
    columns = numbers("speed-up", "error", *found, "MACs", "sites")
    table = Table(Column("Model", overflow="fold"), *columns, box=None, pad_edge=False, padding=(0, 1, 0, 0))

    def add(label: str, speedup: str, error: str, top1: float | None, value: float | None, *rest: str) -> None:
        judged = [plain(figures.percent(top1, "", decimals=2))] if labelled else []
        judged += [] if metric is None else ["" if value is None else f"{value:.4g}"]
        table.add_row(label, speedup, error, *judged, *rest)

    before = None if metric is None else metric.before
    add("  the original", "1", "0", sweep.top1_before, before, plain(figures.count(macs, "")), "0")
    for point in (*sweep.points, *sweep.baselines):
        add(
            f"{'* ' if point.on_front else '  '}{point.label}{' (beyond use)' if point.ruined else ''}",
            _speedup(point),
            figures.error(point.error, ""),
            point.top1,
            None if point.metric is None else point.metric.after,
            plain(figures.count(point.macs, "")),
            "" if point.sites_rewritten is None else str(point.sites_rewritten),
        )
    return table


def _speedup(point: SweepPoint) -> str:
    if point.speedup is None:
        return ""
    number = figures.ratio(point.speedup).removesuffix("×")
    return "no diff." if point.difference == NONE else f"about {number}" if point.stable is False else number

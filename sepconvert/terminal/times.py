"""What planning found out, in the terminal: times of sites; what was asked, predicted, measured; a sweep's models."""

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sepconvert.record import NONE, Record, SiteRecord, SweepPoint
from sepconvert.report import figures
from sepconvert.report.trials import PlanRow, plan_rows


def render_times(record: Record) -> Iterator[RenderableType]:
    """Yield what there is of site times, plan and sweep."""
    if record.command == "analyze" and any(site.latency_ms is not None for site in record.sites):
        title = Text(
            "Each site alone (share: of the whole model's time, taken in turns with it), and its closest candidate "
            "that is twice as fast (or the fastest); dropped: of the squared weights, before any fit to data",
            style="bold",
        )
        yield Group(title, _site_times(record.sites))
    if record.plan is not None and record.plan.predicted is not None:
        yield _plan(plan_rows(record))
    if record.sweep is not None:
        title = Text("Models of this sweep (*: no other is both faster and closer), then simpler methods", style="bold")
        yield Group(title, _sweep(record.sweep.points, record.sweep.baselines))


def _site_times(sites: Sequence[SiteRecord]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Site", overflow="ellipsis", no_wrap=True, max_width=24)
    for heading in ("ms", "share", "GFLOP/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("Candidate")
    table.add_column("ms", justify="right", no_wrap=True)
    table.add_column("dropped", justify="right", no_wrap=True)
    for site in sites:
        if site.latency_ms is None:
            continue
        best = site.best_candidate or {}
        table.add_row(
            site.name,
            figures.significant(site.latency_ms),
            "" if site.latency_share is None else _plain(figures.percent(site.latency_share)),
            "" if site.macs is None or not site.latency_ms else figures.significant(2e-6 * site.macs / site.latency_ms),
            f"{best['form']} {best['rank']}" if best else (site.reason or ""),
            figures.significant(best["latency_ms"]) if "latency_ms" in best else "",
            _plain(figures.percent(best["error"], decimals=0)) if "error" in best else "",
        )
    return table


def _plan(rows: Sequence[PlanRow]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Plan")
    for heading in ("asked", "predicted", "measured"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(*(_plain(text) for text in (row.label, row.asked, row.predicted, row.measured)))
    return table


def _sweep(points: Sequence[SweepPoint], baselines: Sequence[SweepPoint]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("Model", overflow="ellipsis", no_wrap=True, max_width=38)
    for heading in ("speed-up", "error", "top-1", "MACs", "sites"):
        table.add_column(heading, justify="right", no_wrap=True)
    for point in (*points, *baselines):
        table.add_row(
            f"{'* ' if point.on_front else '  '}{point.label}",
            _speedup(point),
            "" if point.error is None else figures.error(point.error),
            "" if point.top1 is None else _plain(figures.percent(point.top1, decimals=2)),
            "" if point.macs is None else _plain(figures.count(point.macs)),
            "" if point.sites_rewritten is None else str(point.sites_rewritten),
        )
    return table


def _speedup(point: SweepPoint) -> str:
    if point.speedup is None:
        return ""
    number = figures.ratio(point.speedup).removesuffix("×")
    return "no diff." if point.difference == NONE else f"about {number}" if point.stable is False else number


def _plain(text: str) -> str:
    return text.replace(figures.SPACE, " ")

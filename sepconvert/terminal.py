"""A record in the terminal: Rich tables on stderr that fit 80 columns and say in words what colour only underlines."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from sepconvert.progress import Progress
from sepconvert.record import Latency, Record, SiteRecord, Totals
from sepconvert.terminal_times import render_times
from sepconvert.workflows.diagnosis import Finding

_UNKNOWN = "unknown"
_BETWEEN_DRAWINGS = 0.1  # seconds
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def print_record(record: Record, page: Path | None, console: Console | None = None) -> None:
    """Print what a person wants to know first; with ``page``, its path is the last line."""
    console = console or Console(stderr=True, highlight=False)
    console.print(render(record))
    if page is not None:
        console.print(f"Report: {page}", soft_wrap=True)


def render(record: Record) -> RenderableType:
    """Return the record as something Rich can print."""
    parts: list[RenderableType] = [_title(record), _totals(record)]
    if record.command != "compare":
        parts += [_sites(record.sites), _skips(record)] if record.sites else [_skips(record)]
    parts += [
        *_tuning(record),
        *_fidelity(record),
        *[_latency(timing) for timing in record.latency],
        *render_times(record),
    ]
    parts += [Text(f"Warning: {warning}", style="yellow") for warning in record.warnings]
    if record.seconds:
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in record.seconds.items())
        parts.append(Text(f"{sum(record.seconds.values()):.1f} s in stages: {stages}"))
    if record.output is not None and record.self_check is not None:
        parts.append(
            Text(f"Wrote {record.output.path} ({_number(record.output.bytes)}B), every rewritten site verified.")
        )
    return Group(*parts)


def _title(record: Record) -> Text:
    names = [Path(record.source.path).name]
    if record.output is not None:
        names.append(Path(record.output.path).name)
    return Text(" -> ".join(names), style="bold")


def _totals(record: Record) -> RenderableType:
    before, after = record.totals.before, record.totals.after
    table = Table(box=None, pad_edge=False, show_header=after is not None)
    table.add_column("")
    table.add_column("before", justify="right")
    if after is not None:
        table.add_column("after", justify="right")
        table.add_column("ratio", justify="right")
    rows: list[tuple[str, Callable[[Totals], int | None]]] = [
        ("Parameters", lambda t: t.params),
        ("MACs per sample", lambda t: t.macs),
        ("FLOPs (2·MACs)", lambda t: t.flops),
        ("  in convolutions, MACs", lambda t: t.conv_macs),
        ("  in sites, MACs", lambda t: t.site_macs),
        ("Model file, bytes", lambda t: t.file_bytes),
    ]
    for label, figure in rows:
        if after is not None and figure(after) is None and figure(before) is not None and record.command == "compare":
            continue  # which of the other model's layers stand for a site is not known
        cells = [label, _number(figure(before))]
        if after is not None:
            cells += [_number(figure(after)), _ratio(figure(before), figure(after))]
        table.add_row(*cells)
    uncounted = after.uncounted if after is not None else before.uncounted
    if not uncounted:
        return table
    names = ", ".join(f"{item.op} x{item.count}" for item in uncounted)
    return Group(table, Text(f"Not counted (no rule, or shape unknown): {names}", style="yellow"))


def _sites(sites: Sequence[SiteRecord]) -> RenderableType:
    rewritten = any(site.status == "rewritten" for site in sites)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Site", overflow="ellipsis", no_wrap=True, max_width=30)
    table.add_column("Channels", justify="right", no_wrap=True)
    table.add_column("Kernel", justify="right", no_wrap=True)
    table.add_column("MACs", justify="right", no_wrap=True)
    if rewritten:
        table.add_column("after", justify="right", no_wrap=True)
    table.add_column("Becomes" if rewritten else "Status")
    if rewritten:
        table.add_column("Error", justify="right", no_wrap=True)
    for site in sites:
        cells = [
            site.name,
            f"{site.in_channels}>{site.out_channels}",
            "x".join(map(str, site.kernel)),
            _number(site.macs),
        ]
        if rewritten:
            cells += [_number(site.macs_after), _becomes(site), _error(site)]
        else:
            cells.append(site.status)
        table.add_row(*cells)
    return Group(Text(_site_title(sites), style="bold"), table, *_kept(sites))


def _kept(sites: Sequence[SiteRecord]) -> list[Text]:
    """One line per reason, with the sites it holds for."""
    names: dict[str, list[str]] = {}
    for site in sites:
        if site.status == "kept":
            names.setdefault(site.reason or "no reason recorded", []).append(site.name)
    return [Text(f"Kept {_listed(found)}: {reason}.") for reason, found in names.items()]


def _listed(names: Sequence[str], most: int = 3) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _site_title(sites: Sequence[SiteRecord]) -> str:
    counts = Counter(site.status for site in sites)
    return f"{len(sites)} sites: " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))


def _becomes(site: SiteRecord) -> str:
    if site.status != "rewritten":
        return site.status
    letter = "r" if site.form in ("dw-pw", "pw-dw") else "R"
    way = "" if site.lowering == "stacked" else f" {site.lowering}"
    return f"{site.form} {letter}={site.rank}{way}"


def _error(site: SiteRecord) -> str:
    for error in (site.error_heldout, site.error_calibration, site.error_weights):
        if error is not None:
            return f"{error:.2g}"
    return ""


def _skips(record: Record) -> Text:
    if not record.skipped:
        return Text("Skipped: nothing")
    counts = Counter(skip.kind for skip in record.skipped)
    return Text("Skipped: " + ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))


def _tuning(record: Record) -> list[Text]:
    found = record.fine_tune
    if not found or not found.get("steps"):
        return []
    figures = [f"{found[name]:.3g}" for name in ("divergence_before", "divergence_after") if found[name] is not None]
    return [
        Text(
            f"Fine-tuned {found['steps']} steps on {found['inputs']} inputs{' and labels' * found['labels']}: held-out "
            f"divergence {' -> '.join(figures)}, best at step {found['best_step']} ({found['seconds']:.0f} s)"
        )
    ]


def _fidelity(record: Record) -> list[RenderableType]:
    found = record.fidelity
    if found is None:
        return []
    table = Table(box=None, pad_edge=False)
    table.add_column("Output", overflow="ellipsis", no_wrap=True, max_width=24)
    for heading in ("relative error", "before activation", "largest |diff|"):
        table.add_column(heading, justify="right")
    for output in found.outputs:
        figures = (output.relative_error, output.pre_activation_relative_error, output.max_abs)
        table.add_row(output.name, *("-" if figure is None else f"{figure:.3g}" for figure in figures))
    parts: list[RenderableType] = [Text(f"Fidelity on {found.samples} samples: {found.data}", style="bold"), table]
    if found.top1_before is not None and found.top1_after is not None:
        parts.append(
            Text(
                f"Top-1: {found.top1_before:.2%} -> {found.top1_after:.2%} "
                f"({100 * (found.top1_after - found.top1_before):+.2f} points)"
            )
        )
    if found.top1_agreement is not None:
        parts.append(Text(f"Same top-1 as the original: {found.top1_agreement:.2%}"))
    return parts


def _latency(timing: Latency) -> Text:
    where = f"Latency on {timing.device} ({timing.provider}, {timing.threads} thread{'s' * (timing.threads > 1)})"
    if timing.after is None or timing.speedup is None:
        return Text(f"{where}: {timing.before.median_ms:.3g} ms{_unsteady(timing)}")
    times = f"{timing.before.median_ms:.3g} -> {timing.after.median_ms:.3g} ms"
    if not timing.stable:
        return Text(f"{where}: {times}, too unsteady to give a ratio{_unsteady(timing)}", style="yellow")
    text = f"{where}: {times}, {timing.speedup:.2f}x"
    if timing.speedup_ci95 is not None:
        text += f" (95 % interval {timing.speedup_ci95[0]:.2f}-{timing.speedup_ci95[1]:.2f})"
    return Text(f"{text}; SLOWER than the original" if timing.speedup < 1 else text)


def _unsteady(timing: Latency) -> str:
    return "" if timing.stable else f". {' '.join(timing.warnings)}"


def _number(value: int | None) -> str:
    if value is None:
        return _UNKNOWN
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.3g} {prefix}"
    return str(value) + " "


def _ratio(before: int | None, after: int | None) -> str:
    return _UNKNOWN if not before or after is None else f"{after / before:.3f}"


def print_doctor(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print the findings about this machine, one a line, with the remedy under what is missing."""
    console = console or Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("")
    table.add_column("", overflow="fold")
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("look", style="yellow")
        text = finding.text if finding.remedy is None else f"{finding.text} -> {finding.remedy}"
        table.add_row(mark, finding.name, text)
    console.print(table)


def version_line(version: str) -> str:
    """The version of this tool and of the runtimes it uses."""
    from sepconvert.workflows.diagnosis import runtime_versions

    return f"sepconvert {version} ({runtime_versions()})"


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Draw one progress bar on stderr – what is done, how far, time left – and take it away at the end.

    It is drawn only when it is told something, never from a thread of its own: that would disturb what is timed.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", table_column=Column(width=36, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, auto_refresh=False, speed_estimate_period=600) as bar:
        task, stage, drawn = bar.add_task("", visible=False), "", 0.0

        def tell(what: str, done: int, total: int) -> None:
            nonlocal stage, drawn
            if what.partition(":")[0] != stage:
                stage = what.partition(":")[0]
                bar.reset(task, description=what, completed=done, total=total, visible=True)
            bar.update(task, description=what, completed=done)
            if done == 0 or done == total or monotonic() - drawn > _BETWEEN_DRAWINGS:
                bar.refresh()
                drawn = monotonic()

        yield tell

"""A record in the terminal: Rich tables on stderr that fit 80 columns and say in words what colour only underlines.

Words and numbers are those of the report; a wider terminal gets more columns.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from sepconvert.record import Fidelity, Latency, Record, SiteRecord
from sepconvert.record.summary import DRIFTED
from sepconvert.report import accuracy, claims, figures, metrics, precision, tuning
from sepconvert.report.changes import changes_view
from sepconvert.report.layers import telling_error
from sepconvert.report.summary import fold_sentences, listed
from sepconvert.report.trials import stage_pairs, whole_time
from sepconvert.report.verdict import judge
from sepconvert.terminal.names import Visible, numbers, plain, plain_console
from sepconvert.terminal.summary import render_summary
from sepconvert.terminal.times import render_times

_NARROW = 80
_WIDE = 110  # columns of a terminal that has room for the parameters too
_COLOURS = {claims.GOOD: "green", claims.MIXED: "yellow", claims.BAD: "red"}


def print_record(record: Record, page: Path | None, console: Console | None = None, *, every: bool = False) -> None:
    """Print what a person wants to know first; with ``page``, its path is the last line.

    ``every`` shows each layer of a summary in a row of its own.
    """
    console = console or plain_console(stderr=True)
    console.print(Visible(render(record, console.width, every=every)))
    if page is not None:
        console.print(f"Report: {page}", soft_wrap=True)


def render(record: Record, width: int = _NARROW, *, every: bool = False) -> RenderableType:
    """Return the record as something Rich can print on ``width`` columns."""
    sections: list[Sequence[RenderableType]] = [
        [_title(record), _verdict(record)],
        [_totals(record)],
        *_layers(record, width, every=every),
        _tuning(record),
        _fidelity(record),
        [_latency(timing) for timing in record.latency],
        *([part] for part in render_times(record)),
        [Text(f"Warning: {warning}", style="yellow") for warning in record.warnings],
        [Text(f"Note: {note}", style="dim") for note in record.notes],
        _ending(record),
        _advice(record),
    ]
    parts: list[RenderableType] = []
    for section in sections:
        if section and parts:
            parts.append(Text(""))
        parts += section
    return Group(*parts)


def _advice(record: Record) -> list[RenderableType]:
    if not record.advice:
        return []
    return [Text("What to do next", style="bold"), *(Text(plain(sentence)) for sentence in record.advice)]


def _title(record: Record) -> Text:
    files = [record.source] if record.output is None else [record.source, record.output]
    return Text(" -> ".join(Path(file.path).name for file in files), style="bold")


def _verdict(record: Record) -> Text:
    verdict = judge(record)
    return Text(plain(verdict.headline), style=_COLOURS.get(verdict.tone, ""))


def _totals(record: Record) -> RenderableType:
    before, after = record.totals.before, record.totals.after
    headings = ["before"] if after is None else ["before", "after", "after/before"]
    columns = numbers(*headings, no_wrap=False)
    table = Table("", *columns, box=None, pad_edge=False, show_header=after is not None)
    rows: list[tuple[str, str, Callable[[int | None], str]]] = [
        ("Parameters", "params", figures.count),
        ("MACs per sample", "macs", figures.count),
        ("FLOPs (2·MACs)", "flops", figures.count),
        ("  MACs in convolutions", "conv_macs", figures.count),
        ("  MACs in sites", "site_macs", figures.count),
        ("Model file", "file_bytes", figures.size),
    ]
    for label, field, show in rows:
        old, new = getattr(before, field), getattr(after, field, None)
        if after is not None and new is None and old is not None and record.command == "compare":
            continue  # which of the other model's layers stand for a site is not known
        table.add_row(label, plain(show(old)), *(() if after is None else (plain(show(new)), _ratio(old, new))))
    uncounted = after.uncounted if after is not None else before.uncounted
    if not uncounted:
        return table
    names = ", ".join(f"{item.op} x{item.count}" for item in uncounted)
    return Group(table, Text(f"Not counted (no rule, or shape unknown): {names}", style="yellow"))


def _layers(record: Record, width: int, *, every: bool) -> Iterator[Sequence[RenderableType]]:
    """All layers of a survey; of other commands the sites and what was skipped; of a comparison first what differs."""
    changes = changes_view(record)
    if record.command == "compare" and changes is None:
        return
    if changes is not None:
        yield [Text(plain(changes.summary))]
    if not record.layers:
        yield [*_sites(record, width), _skips(record)]
        yield [Text(plain(sentence)) for sentence in fold_sentences(record)]
        return
    table, told, skipped = render_summary(record, width, every=every)
    yield table
    yield [*told, *_kept(record.sites)]
    yield skipped


def _sites(record: Record, width: int) -> list[RenderableType]:
    """A line per site; its figures after the rewrite, if any was rewritten, and its parameters, if there is room."""
    sites = record.sites
    if not sites:
        return []
    rewritten = any(site.status == "rewritten" for site in sites)
    known = rewritten and any(telling_error(site) is not None for site in sites)
    shown = {"MACs": "macs", "Parameters": "params"} if width >= _WIDE else {"MACs": "macs"}
    headings = [part for name in shown for part in ((name, "after") if rewritten else (name,))]
    fields = [part for name in shown.values() for part in ((name, f"{name}_after") if rewritten else (name,))]
    room = max(30, width - 50 - 26 * (len(shown) - 1))
    table = Table(
        Column("Site", overflow="ellipsis", no_wrap=True, max_width=room),
        *numbers("Channels", "Kernel", *headings),
        *(["Becomes"] if rewritten else ["Status"]),
        *(numbers("Error") if known else []),
        box=None,
        pad_edge=False,
        padding=(0, 2 if width >= _WIDE else 1, 0, 0),
        header_style="bold",
    )
    letters = {form.name: form.letter for form in record.forms}
    for site in sites:
        cells = [site.name, f"{site.in_channels}>{site.out_channels}", figures.kernel(site, "x")]
        cells += [plain(figures.count(getattr(site, field))) for field in fields]
        computes_in = f", {precision.words(site)}" if precision.told(record) and precision.words(site) else ""
        became = (_becomes(site, letters) if rewritten else site.status) + computes_in
        cells += [became, *([figures.error(telling_error(site), "")] if known else [])]
        table.add_row(*cells)
    return [Text(_site_title(sites), style="bold"), table, *_kept(sites)]


def _kept(sites: Sequence[SiteRecord]) -> list[Text]:
    """One line per reason, with the sites it holds for."""
    names: dict[str, list[str]] = {}
    for site in sites:
        if site.status == "kept":
            names.setdefault(site.reason or "no reason recorded", []).append(site.name)
    return [Text(f"Kept {listed(found)}: {reason}.") for reason, found in names.items()]


def _site_title(sites: Sequence[SiteRecord]) -> str:
    counts = Counter(site.status for site in sites)
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    return f"{figures.plural(len(sites), 'site')}: {statuses}"


def _becomes(site: SiteRecord, letters: Mapping[str, str]) -> str:
    if site.status != "rewritten" or site.form is None:
        return site.status
    way = "" if site.lowering in ("stacked", None) else f" {site.lowering}"
    return f"{site.form}{'' if site.rank is None else f' {letters[site.form]}={site.rank}'}{way}"


def _skips(record: Record) -> Text:
    if not record.skipped:
        return Text("Skipped: nothing")
    counts = Counter(skip.kind for skip in record.skipped)
    return Text("Skipped: " + ", ".join(f"{count} {kind}" for kind, count in counts.most_common()))


def _tuning(record: Record) -> list[RenderableType]:
    found, claim = record.fine_tune, tuning.tuning(record)
    if not found or not found.get("steps") or claim is None:
        return []
    text = claim.sentence
    known = [found[name] for name in ("divergence_before", "divergence_after")]
    if claim.tone != claims.MIXED or None in known:
        values = " -> ".join(figures.error(value) for value in known if value is not None)
        inputs = f"{figures.plural(found['inputs'], 'input')}{' and labels' * found['labels']}"
        told = ", ".join([f"divergence {values}", *tuning.shares(found)])
        steps, seconds = figures.plural(found["steps"], "step"), figures.seconds(found["seconds"])
        text = f"Fine-tuned {steps} on {inputs}, best at step {found['best_step']} ({seconds}); held out: {told}"
    trained = tuning.int8_tuning(record)
    return [Text(plain(line), overflow="fold") for line in (text, *([trained.sentence] if trained else []))]


def _fidelity(record: Record) -> list[RenderableType]:
    found = record.fidelity
    if found is None:
        return []
    columns = numbers("relative error", "before activation", "largest |diff|", no_wrap=False)
    output_column = Column("Output", overflow="ellipsis", no_wrap=True, max_width=24)
    table = Table(output_column, *columns, box=None, pad_edge=False)
    for output in found.outputs:
        values = (output.relative_error, output.pre_activation_relative_error, output.max_abs)
        table.add_row(output.name, *(figures.error(value, "-") for value in values))
        for part in output.parts:
            table.add_row(f"  {part.name}", figures.error(part.relative_error, "-"), "", "")
    parts: list[RenderableType] = [Text(f"Fidelity on {plain(accuracy.inputs(found))}", style="bold"), table]
    parts += [Text(plain(accuracy.values(values)), overflow="fold") for values in record.input_values]
    claim = accuracy.quality(record)
    if claim.tone == claims.BAD:
        return [*parts, Text(plain(claim.sentence), style=_COLOURS[claims.BAD], overflow="fold")]
    return [*parts, *(Text(plain(answer), overflow="fold") for answer in _answers(found))]


def _answers(found: Fidelity) -> Iterator[str]:
    """What became of the answers: against labels, by the metric that was asked for, and against the original."""
    if found.top1_before is not None and found.top1_after is not None:
        before, after = (figures.percent(share, decimals=2) for share in (found.top1_before, found.top1_after))
        change = figures.points(found.top1_after - found.top1_before)
        yield f"Top-1: {before} -> {after} ({change})"
    metric = metrics.told(found.metric, found.top1_before, found.top1_after)
    if metric is not None:
        yield f"Metric {metric.name}: {metrics.words(metric)}"
    if found.top1_agreement is not None:
        yield f"Same top-1 as the original: {figures.percent(found.top1_agreement, decimals=2)}"
    for choice in found.choices:
        yield f"Same choice as the original in {choice.name}: {accuracy.choice(choice)}"


def _latency(timing: Latency) -> Text:
    where = f"Latency on {timing.device} ({timing.provider}, {claims.threads(timing.threads)})"
    before = plain(figures.milliseconds(timing.before.median_ms))
    if timing.after is None or timing.speedup is None:
        return Text(f"{where}: {before}{_remarks(timing)}")
    times = f"{before} -> {plain(figures.milliseconds(timing.after.median_ms))}"
    text = f"{where}: {times}, {claims.factor(timing)}"
    if timing.speedup_ci95 is not None:
        text += f" ({plain(claims.interval(timing))})"
    if timing.drifted:
        text += f"; {DRIFTED}"
    return Text(f"{text}{_remarks(timing)}", style="" if timing.stable else "yellow")


def _remarks(timing: Latency) -> str:
    return f". {' '.join(timing.warnings)}" if timing.warnings else ""


def _ending(record: Record) -> list[RenderableType]:
    parts: list[RenderableType] = []
    stages = stage_pairs(record)
    if stages:
        told = ", ".join(f"{stage[:1].lower()}{stage[1:]} {seconds}" for stage, seconds in stages)
        whole = whole_time(record)
        text = told if whole is None else whole if len(stages) == 1 else f"{whole}, of which {told}"
        parts.append(Text(plain(f"Time: {text}.")))
    if record.output is not None and record.command == "rewrite":
        size = plain(figures.size(record.output.bytes))
        checks = {"rewritten site": record.self_check, "quantised layer": record.integer_check}
        named = [f"every {what}" for what, check in checks.items() if check is not None]
        verified = f", {' and '.join(named)} verified" if named else ""
        parts.append(Text(f"Wrote {record.output.path} ({size}){verified}."))
    return parts


def _ratio(before: int | None, after: int | None) -> str:
    if before is None or after is None or (after and not before):
        return figures.UNKNOWN
    ratio = after / before if before else 1.0
    return f"{ratio:.3f}" if ratio >= 0.1 else figures.significant(ratio)

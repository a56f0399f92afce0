"""A record in short: lines of text, and for notebooks an HTML fragment with every value escaped."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from pathlib import PurePath

from sepconvert.record.difference import FASTER, SLOWER
from sepconvert.record.fidelity import Fidelity, OutputFidelity
from sepconvert.record.measured import Latency
from sepconvert.record.network import ModelFile, SiteRecord, Skip, TotalsPair

UNKNOWN = "unknown"
DRIFTED = "the ratio is of pairs measured side by side, not of these medians"


def summary_html(
    files: Sequence[ModelFile],
    sites: str,
    rows: Sequence[Sequence[str]],
    warnings: Sequence[str],
    notes: Sequence[str],
) -> str:
    """Return a heading, a table of figures, warnings and notes.

    Args:
        files: the model before, and after if there is one.
        sites: what became of its sites.
        rows: label, before, after, ratio.
        warnings: the record's.
        notes: the record's.
    """
    title = escape(" → ".join(PurePath(file.path).name for file in files))
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(label)}</th>"
        + "".join(f"<td style='text-align:right'>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for label, *cells in rows
    )
    said = "".join(
        f"<p>{title}:</p><ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
        for title, texts in (("Warnings", warnings), ("Notes", notes))
        if texts
    )
    return (
        f"<p><strong>{title}</strong>: {escape(sites)}</p>"
        f"<table><thead><tr><th></th><th>before</th><th>after</th><th>ratio</th></tr></thead><tbody>{body}</tbody></table>"
        + said
    )


def summary_text(
    files: Sequence[ModelFile],
    sites: str,
    rows: Sequence[Sequence[str]],
    warnings: Sequence[str],
    notes: Sequence[str],
) -> str:
    """Return the same as lines of text, figures in columns."""
    table = [("", "before", "after", "ratio"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    lines = [" → ".join(PurePath(file.path).name for file in files) + f": {sites}"]
    for label, *cells in table:
        shown = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        lines.append("  ".join((label.ljust(widths[0]), *shown)).rstrip())
    return "\n".join([*lines, *(f"Warning: {text}" for text in warnings), *(f"Note: {text}" for text in notes)])


def site_line(sites: Sequence[SiteRecord], skipped: Sequence[Skip]) -> str:
    """Count the sites by what became of them."""
    counts = Counter(site.status for site in sites)
    states = ", ".join(f"{count} {status}" for status, count in counts.items()) or "none"
    return f"sites: {states}; {len(skipped)} other layers skipped"


def cost_rows(totals: TotalsPair) -> list[list[str]]:
    """Rows of the table: parameters, MACs and FLOPs before and after."""
    before, after = totals.before, totals.after
    rows = []
    for label, name in (("parameters", "params"), ("MACs per sample", "macs"), ("FLOPs (2·MACs)", "flops")):
        old = getattr(before, name)
        new = None if after is None else getattr(after, name)
        ratio = _figure(new / old) if old and new is not None else ""
        rows.append([label, _integer(old), "" if after is None else _integer(new), ratio])
    return rows


def fidelity_rows(found: Fidelity | None) -> list[list[str]]:
    """Rows of the table: each output's decisive error, top-1 where there are labels, and the metric."""
    if found is None:
        return []
    rows = [[f"relative error of {_judged(o)}", "", _figure(o.decisive_error), ""] for o in found.outputs]
    if found.top1_before is not None and found.top1_after is not None:
        points = f"{100 * (found.top1_after - found.top1_before):+.2f} points"
        change = "less than 0.01 points" if points[1:].startswith("0.00") else points
        rows.append(["top-1", f"{found.top1_before:.2%}", f"{found.top1_after:.2%}", change])
    metric = found.metric
    if metric is not None:
        rows.append([metric.name, _figure(metric.before), _figure(metric.after), f"{-metric.drop:+.3g}"])
    rows += [
        [f"same choice in {choice.name}, of {choice.positions:,} positions", "", _share(choice.agreement), ""]
        for choice in found.choices
    ]
    return rows


def _judged(output: OutputFidelity) -> str:
    """Name what decides: the output, or the worst of its parts."""
    if output.worst_part is not None:
        return f"{output.name}, worst part {output.worst_part.name}"
    return f"{output.name} before the activation" if output.before_activation else output.name


def latency_row(timing: Latency) -> list[str]:
    """Row of the table: one device's medians."""
    label = f"ms on {timing.device}, {timing.threads} thread" + ("s" if timing.threads > 1 else "")
    before = _figure(timing.before.median_ms)
    if timing.after is None or timing.speedup is None:
        return [label, before, "", ""]
    told = _told(timing.speedup, timing.difference, timing.stable)
    if timing.speedup_ci95 is not None:
        low, high = timing.speedup_ci95
        told += f" (95 % interval of before/after {_factor(low)} to {_factor(high)})"
    return [label, before, _figure(timing.after.median_ms), told]


def timing_remarks(timing: Latency) -> list[str]:
    """What a reader of the times must know: that they were unstable, or agree with the ratio in turns only."""
    drifted = [f"Times on {timing.device} drifted: {DRIFTED}."] if timing.drifted else []
    return [*timing.warnings, *drifted]


def _told(speedup: float, difference: str | None, stable: bool) -> str:
    if difference not in (FASTER, SLOWER):
        return "no measurable difference"
    factor = speedup if difference == FASTER else 1 / speedup
    return f"{'' if stable else 'about '}{_factor(factor)}× {difference}"


def _factor(value: float) -> str:
    return f"{value:.2f}" if 0.1 <= value < 100 else _figure(value)


def _share(value: float) -> str:
    """A share of choices; nearly all is not all."""
    text = f"{value:.2%}"
    return "more than 99.99%" if text == "100.00%" and value < 1 else text


def _integer(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _figure(value: float | None) -> str:
    if value is None:
        return UNKNOWN
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}·10^{int(exponent)}" if exponent else mantissa

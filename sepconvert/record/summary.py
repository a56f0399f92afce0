"""A record as a short HTML fragment, for notebooks: the figures first, every value escaped."""

from html import escape
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sepconvert.record.document import Record
    from sepconvert.record.measured import Fidelity, Latency

UNKNOWN = "unknown"


def summary_html(record: "Record") -> str:
    """Return a heading, a table of figures before and after, and the warnings of ``record``."""
    names = [record.source.path] + ([] if record.output is None else [record.output.path])
    title = escape(" → ".join(PurePath(name).name for name in names))
    rows = [*_totals(record), *_fidelity(record.fidelity), *(_latency(timing) for timing in record.latency)]
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(label)}</th>"
        + "".join(f"<td style='text-align:right'>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for label, *cells in rows
    )
    warnings = "".join(f"<li>{escape(warning)}</li>" for warning in record.warnings)
    return (
        f"<p><strong>{title}</strong>: {escape(_sites(record))}</p>"
        f"<table><thead><tr><th></th><th>before</th><th>after</th><th>ratio</th></tr></thead><tbody>{body}</tbody></table>"
        + (f"<p>Warnings:</p><ul>{warnings}</ul>" if warnings else "")
    )


def _sites(record: "Record") -> str:
    counts: dict[str, int] = {}
    for site in record.sites:
        counts[site.status] = counts.get(site.status, 0) + 1
    states = ", ".join(f"{count} {status}" for status, count in counts.items()) or "none"
    return f"sites: {states}; {len(record.skipped)} other convolutions skipped"


def _totals(record: "Record") -> list[list[str]]:
    before, after = record.totals.before, record.totals.after
    rows = []
    for label, name in (("parameters", "params"), ("MACs per sample", "macs"), ("FLOPs (2·MACs)", "flops")):
        old = getattr(before, name)
        new = None if after is None else getattr(after, name)
        ratio = f"{new / old:.3f}" if old and new is not None else ""
        rows.append([label, _integer(old), "" if after is None else _integer(new), ratio])
    return rows


def _fidelity(found: "Fidelity | None") -> list[list[str]]:
    if found is None:
        return []
    rows = [["relative error of " + o.name, "", _figure(o.decisive_error), ""] for o in found.outputs]
    if found.top1_before is not None and found.top1_after is not None:
        change = f"{100 * (found.top1_after - found.top1_before):+.2f} points"
        rows.append(["top-1", f"{found.top1_before:.2%}", f"{found.top1_after:.2%}", change])
    return rows


def _latency(timing: "Latency") -> list[str]:
    label = f"ms on {timing.device}, {timing.threads} thread" + ("s" if timing.threads > 1 else "")
    if timing.after is None or timing.speedup is None:
        return [label, f"{timing.before.median_ms:.3g}", "", ""]
    ratio = f"{1 / timing.speedup:.3f}"
    faster = f"{timing.speedup:.2f}× faster" if timing.speedup >= 1 else f"{1 / timing.speedup:.2f}× slower"
    return [
        label,
        f"{timing.before.median_ms:.3g}",
        f"{timing.after.median_ms:.3g}",
        f"{ratio} ({faster})" if timing.stable else "too noisy to compare",
    ]


def _integer(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _figure(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3g}"

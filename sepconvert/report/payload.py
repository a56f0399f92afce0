"""The data the page's script draws from: compact, of plain JSON types, thinned where a picture cannot show more."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sepconvert.record import Record, SiteRecord, SweepPoint
from sepconvert.report import figures
from sepconvert.report.layers import LayerRow, LayerTable, words
from sepconvert.report.network import lay_out

_CURVE_POINTS = 16
_SPECTRUM_POINTS = 48
_TIMING_SAMPLES = 150

_SKIP_LABELS = {"pointwise": "1×1", "transposed": "transp.", "quantized": "int8", "grouped": "grouped"}


def collect(record: Record, table: LayerTable) -> dict[str, Any]:
    """Return everything the script needs, by the names the charts and the network use."""
    collected = {
        "layers": [_layer(site, row) for site, row in zip(record.sites, table.rows, strict=True)],
        "curves": [_curve(site) for site in record.sites],
        "spectra": [_spectrum(site) for site in record.sites],
        "samples": _samples(record),
        "points": _points(record),
        "training": _training(record),
        "network": _network(record, table),
    }
    return {name: _finite(value) for name, value in collected.items()}


def _finite(value: Any) -> Any:
    """Replace numbers that JSON has no word for by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _layer(site: SiteRecord, row: LayerRow) -> dict[str, Any]:
    rewritten = site.status == "rewritten"

    def pair(before: str, after: str) -> str:
        return f"{before} → {after}" if rewritten else before

    return {
        "n": row.number,
        "name": row.name,
        "code": site.status,
        "status": row.status_words if row.became == "–" else f"{row.status_words}: {row.became}",
        "macs": site.macs,
        "macs_after": site.macs_after if rewritten else None,
        "macs_text": pair(row.macs.text, row.macs_after.text),
        "params": site.params,
        "params_after": site.params_after if rewritten else None,
        "params_text": pair(row.params.text, row.params_after.text),
        "latency": site.latency_ms,
        "latency_after": site.latency_ms_after if rewritten else None,
        "latency_text": pair(row.latency.text, row.latency_after.text),
    }


def _curve(site: SiteRecord) -> list[list[Any]]:
    """Rows [form, rank, error, text, mark]; an error of 0 (exact) has no place on a logarithmic axis: left out.

    The mark is empty, ``taken``, or ``fitted``: the error of the layer's outputs after the fit to data.
    """
    forms: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for point in site.error_by_rank or []:
        if math.isfinite(point.error) and point.error > 0:
            forms[point.form].append((point.rank, point.error))
    rows: list[list[Any]] = []
    for form, points in forms.items():
        points.sort()
        taken = site.rank if site.status == "rewritten" and form == site.form else None
        kept = {points[i] for i in _thin(len(points), _CURVE_POINTS)} | {p for p in points if p[0] == taken}
        rows += [[form, r, _round(e), figures.error(e), "taken" if r == taken else ""] for r, e in sorted(kept)]
    if site.status != "rewritten" or site.rank is None:
        return rows
    if not any(mark for *_, mark in rows):
        rows += _mark(site, site.error_weights, "taken")
    return rows + _mark(
        site, site.error_heldout if site.error_heldout is not None else site.error_calibration, "fitted"
    )


def _mark(site: SiteRecord, error: float | None, mark: str) -> list[list[Any]]:
    if error is None or not error > 0 or not math.isfinite(error):
        return []
    return [[site.form, site.rank, _round(error), figures.error(error), mark]]


def _spectrum(site: SiteRecord) -> list[list[float]]:
    """Rows [rank, share], thinned evenly."""
    values = [v for v in site.spectrum or [] if math.isfinite(v)]
    return [[i + 1, _round(values[i])] for i in _thin(len(values), _SPECTRUM_POINTS)]


def _samples(record: Record) -> list[dict[str, Any]]:
    rows = []
    for timed in record.latency:
        for when, timing in (("before", timed.before), ("after", timed.after)):
            if timing is None:
                continue
            series = f"{timed.device}, {when}" if timed.after is not None else timed.device
            values = timing.samples_ms
            rows += [
                {"series": series, "when": when, "ms": _round(values[i], 5)}
                for i in _thin(len(values), _TIMING_SAMPLES)
                if math.isfinite(values[i])
            ]
    return rows


def _points(record: Record) -> list[dict[str, Any]]:
    if record.sweep is None:
        return []
    rows = []
    for point in record.sweep.points:
        rows.append(_point(point, "this sweep, best" if point.on_front else "this sweep, beaten"))
    rows += [_point(point, "other methods") for point in record.sweep.baselines]
    return [row for row in rows if row["error"] and row["x"]]


def _point(point: SweepPoint, group: str) -> dict[str, Any]:
    low, high = point.speedup_ci95 or (point.speedup, point.speedup)
    return {
        "label": point.label,
        "group": group,
        "x": point.speedup,
        "low": low,
        "high": high,
        "x_text": figures.ratio(point.speedup),
        "error": point.error,
        "error_text": figures.error(point.error),
        "top1_text": figures.percent(point.top1, figures.NOT_MEASURED),
    }


def _training(record: Record) -> list[dict[str, Any]]:
    """One row per step and named value; a logarithmic axis has no place for 0 or less."""
    curve = (record.fine_tune or {}).get("curve")
    points = [point for point in curve if isinstance(point, dict)] if isinstance(curve, list) else []
    points = [points[i] for i in _thin(len(points), _TIMING_SAMPLES)]
    return [
        {"step": point.get("step", i), "value": _round(value), "series": words(name)}
        for i, point in enumerate(points)
        for name, value in point.items()
        if name != "step" and isinstance(value, int | float) and value > 0
    ]


def _network(record: Record, table: LayerTable) -> dict[str, Any] | None:
    if record.graph is None or not record.graph.nodes:
        return None
    sites = {site.output: row for site, row in zip(record.sites, table.rows, strict=True)}
    skips = {skip.output: skip for skip in record.skipped if skip.output}
    strip = lay_out(record.graph)
    nodes = []
    for node, place in zip(record.graph.nodes, strip.places, strict=True):
        row, skip = sites.get(node.output), skips.get(node.output)
        described: dict[str, Any] = {
            "op": node.op,
            "status": node.status,
            "name": node.output,
            "place": [place.column, place.lane],
        }
        if row is not None:
            described |= {"status": row.status, "name": row.name, "n": row.number}
            described |= {"kernel": row.kernel, "label": row.label, "reason": row.reason or ""}
        elif skip is not None:
            described |= {"label": _SKIP_LABELS.get(skip.kind, skip.kind), "reason": skip.reason}
            described |= {"name": skip.name or node.output}
        nodes.append(described)
    return {
        "nodes": nodes,
        "direct": [list(edge) for edge in strip.direct],
        "buses": [[bus.source, bus.track, list(bus.targets)] for bus in strip.buses],
    }


def _thin(length: int, wanted: int) -> Sequence[int]:
    """Return at most ``wanted`` indices of a sequence, evenly spaced, with the first and the last."""
    if length <= wanted:
        return range(length)
    return [round(i * (length - 1) / (wanted - 1)) for i in range(wanted)]


def _round(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}")

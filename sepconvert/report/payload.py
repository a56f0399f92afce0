"""The data the page's script draws from: compact, of plain JSON types, thinned where a picture cannot show more."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sepconvert.record import Record, SiteRecord, SweepPoint
from sepconvert.report import figures, metrics
from sepconvert.report.layers import LayerRow, LayerTable
from sepconvert.report.network import lay_out
from sepconvert.report.recommended import recommend
from sepconvert.report.sweeps import method
from sepconvert.report.trials import TUNING_SERIES

_CURVE_POINTS = 16
_SPECTRUM_POINTS = 64
_TIMING_SAMPLES = 150

_SKIP_LABELS = {"pointwise": "1×1", "transposed": "transp.", "quantized": "int8", "grouped": "grouped"}


def collect(record: Record, table: LayerTable) -> dict[str, Any]:
    """Return everything the script needs, by the names the charts and the network use."""
    collected = {
        "layers": [_layer(site, row) for site, row in zip(record.sites, table.rows, strict=True)],
        "curves": [_curve(site) for site in record.sites],
        "spectra": [_spectrum(site) for site in record.sites],
        "spectrum_forms": [
            site.spectrum_form or (record.forms[0].name if record.forms else "") for site in record.sites
        ],
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
        "status": _status(row),
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


def _status(row: LayerRow) -> str:
    if row.became == "–":
        return row.status_words
    return f"{row.status_words} as {row.became.removeprefix('as ')}"


def _curve(site: SiteRecord) -> dict[str, Any]:
    """Lines by form, [rank, error] each, and marks [form, rank, error, word].

    The word is ``taken``, or ``fitted`` for the error of the layer's outputs after the fit to data. An error of 0
    (exact) has no place on a logarithmic axis and is left out.
    """
    forms: dict[str, dict[int, float]] = defaultdict(dict)
    for point in site.error_by_rank or []:
        if _positive(point.error):
            forms[point.form][point.rank] = point.error
    lines = {}
    for form, errors in forms.items():
        ranks = sorted(errors)
        lines[form] = [[ranks[i], _round(errors[ranks[i]])] for i in _thin(len(ranks), _CURVE_POINTS)]
    marks = []
    if site.status == "rewritten" and site.rank is not None:
        taken = forms.get(site.form or "", {}).get(site.rank, site.error_weights)
        fitted = site.error_calibration if site.error_heldout is None else site.error_heldout
        for word, error in (("taken", taken), ("fitted", fitted)):
            if error is not None and _positive(error):
                marks.append([site.form, site.rank, _round(error), word])
    return {"lines": lines, "marks": marks}


def _positive(error: float) -> bool:
    return math.isfinite(error) and error > 0


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
    found = recommend(record)
    knee = None if found is None else found.point
    rows = [_point(point, "this sweep") | {"recommended": point is knee} for point in record.sweep.points]
    rows += [_point(point, method(point)) | {"recommended": False} for point in record.sweep.baselines]
    return [row for row in rows if row["error"] and row["x"]]


def _point(point: SweepPoint, series: str) -> dict[str, Any]:
    low, high = point.speedup_ci95 or (point.speedup, point.speedup)
    return {
        "label": point.label,
        "method": series,
        "front": point.on_front,
        "x": point.speedup,
        "low": low,
        "high": high,
        "x_text": figures.ratio(point.speedup),
        "error": point.error,
        "error_text": figures.error(point.error),
        "top1_text": figures.percent(point.top1, figures.NOT_MEASURED),
        "metric_text": "" if point.metric is None else metrics.values(point.metric)[1],
    }


def _training(record: Record) -> list[dict[str, Any]]:
    """One row per step and named value; a logarithmic axis has no place for 0 or less."""
    curve = (record.fine_tune or {}).get("curve")
    points = [point for point in curve if isinstance(point, dict)] if isinstance(curve, list) else []
    points = [points[i] for i in _thin(len(points), _TIMING_SAMPLES)]
    best = (record.fine_tune or {}).get("best_step")
    return [
        {"step": point.get("step", i), "value": _round(value), "series": series}
        | ({"kept": True} if name == "divergence" and point.get("step") == best else {})
        for i, point in enumerate(points)
        for name, series in TUNING_SERIES.items()
        if isinstance(value := point.get(name), int | float) and value > 0
    ]


def _network(record: Record, table: LayerTable) -> dict[str, Any] | None:
    if record.graph is None or not record.graph.nodes:
        return None
    pairs = zip(record.sites, table.rows, strict=True)
    sites = {output: row for site, row in pairs for output in (site.output, *site.others)}
    skips = {skip.output: skip for skip in record.skipped if skip.output}
    strip = lay_out(record.graph)
    nodes = []
    for node, place in zip(record.graph.nodes, strip.places, strict=True):
        # The network's output may have the name of the layer that makes it.
        layer = None if node.status == "output" else node.output
        row, skip = sites.get(layer or ""), skips.get(layer or "")
        described: dict[str, Any] = {"op": node.op, "status": node.status, "name": node.output, "place": list(place)}
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

"""The page's charts, written in Altair.

A chart names its data (``layers``, ``curve``, …); the page's script fills it in and moves the parameter ``layer``, the
number of the chosen layer, in all charts at once. Colours are CSS variables of the page: one drawing serves the light
theme, the dark one and print.
"""

import base64
import gzip
from functools import cache
from typing import Any

from sepconvert.record import Record
from sepconvert.report import layer_charts, model_charts
from sepconvert.report.layers import telling_error
from sepconvert.report.sweeps import has_top1, method, metric_of


def draw(record: Record) -> dict[str, dict[str, Any]]:
    """Return the Vega-Lite specifications a record has data for, by the id of their place on the page."""
    charts = {}
    if record.sites:
        layers = list(range(1, len(record.sites) + 1))
        timed = any(site.latency_ms is not None for site in record.sites)
        height = layer_charts.BAR_HEIGHTS[3 if timed else 2]
        charts["bars-macs"] = layer_charts.bars("macs", "MACs", layers, height)
        charts["bars-params"] = layer_charts.bars("params", "parameters", layers, height)
        if timed:
            charts["bars-latency"] = layer_charts.bars("latency", "ms alone", layers, height, unit_prefix=False)
    forms = {point.form for site in record.sites for point in site.error_by_rank or []}
    if forms:
        forms |= {site.form for site in record.sites if site.form is not None and telling_error(site) is not None}
        known = [form.name for form in record.forms]
        charts["curve"] = layer_charts.error_curve([*known, *sorted(forms.difference(known))], forms)
    if any(site.spectrum for site in record.sites):
        charts["spectrum"] = layer_charts.spectrum()
    if record.latency:
        charts["samples"] = model_charts.timing_samples(len(record.latency) * (2 if record.totals.after else 1))
    if record.sweep is not None and record.sweep.points:
        methods = list(dict.fromkeys(method(point) for point in record.sweep.baselines))
        metric = metric_of(record.sweep)
        charts["pareto"] = model_charts.pareto(
            methods, top1=has_top1(record.sweep), metric=None if metric is None else metric.name
        )
    if record.fine_tune is not None and record.fine_tune.get("curve"):
        charts["training"] = model_charts.training()
    return {name: chart.to_dict() for name, chart in charts.items()}


@cache
def runtime() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, gzipped and in base64: 0.9 MB of text in 0.4 MB of page.

    It comes out of vl-convert, so nothing is fetched; the page's script unpacks it with the browser's own means.
    """
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()

"""The page's charts, written in Altair.

A chart names its data (``layers``, ``curve``, …); the page's script fills it in and moves the parameter ``layer``, the
number of the chosen layer, in all charts at once. Colours are CSS variables of the page: one drawing serves the light
theme, the dark one and print.
"""

import base64
import gzip
from functools import cache
from typing import TYPE_CHECKING, Any

from sepconvert.record import Record

if TYPE_CHECKING:
    import altair as alt

BEFORE, AFTER, KEPT, ELIGIBLE = "var(--old)", "var(--rewritten)", "var(--kept)", "var(--eligible)"
FORM_COLOURS = {
    "dw-pw": "var(--series-1)",
    "pw-dw": "var(--series-2)",
    "pw-dw-pw": "var(--series-3)",
    "spatial": "var(--series-4)",
}
FORM_SHAPES = {"dw-pw": "circle", "pw-dw": "square", "pw-dw-pw": "triangle-up", "spatial": "diamond"}
# All vertical axes take the same room, so that charts below each other line up.
_AXIS_ROOM = 52


def draw(record: Record) -> dict[str, dict[str, Any]]:
    """Return the Vega-Lite specifications a record has data for, by the id of their place on the page."""
    charts = {}
    if record.sites:
        charts["bars-macs"] = _bars("macs", "MACs")
        charts["bars-params"] = _bars("params", "parameters")
    if any(site.latency_ms is not None for site in record.sites):
        charts["bars-latency"] = _bars("latency", "ms alone", unit_prefix=False)
    if any(site.error_by_rank for site in record.sites):
        charts["curve"] = _error_curve()
    if any(site.spectrum for site in record.sites):
        charts["spectrum"] = _spectrum()
    if record.latency:
        charts["samples"] = _timing_samples(len(record.latency) * (2 if record.totals.after else 1))
    if record.sweep is not None and record.sweep.points:
        charts["pareto"] = _pareto()
    if record.fine_tune is not None and record.fine_tune.get("curve"):
        charts["training"] = _training()
    return {name: chart.to_dict() for name, chart in charts.items()}


@cache
def runtime() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, gzipped and in base64: 0.9 MB of text in 0.4 MB of page.

    It comes out of vl-convert, so nothing is fetched; the page's script unpacks it with the browser's own means.
    """
    import vl_convert

    script = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()


def _finish(chart: Any, height: int, description: str) -> "alt.TopLevelMixin":
    """Give a chart its size, its text for screen readers and the page's look."""
    axis = {
        "aria": False,
        "domainColor": "var(--skipped)",
        "tickColor": "var(--skipped)",
        "gridColor": "var(--line)",
        "labelColor": "var(--soft)",
        "titleColor": "var(--soft)",
        "titleFontWeight": "normal",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "labelOverlap": True,
    }
    config = {
        "background": "transparent",
        "font": "system-ui, sans-serif",
        "view": {"stroke": None},
        "mark": {"aria": False},
        "axis": axis,
        "axisY": {"minExtent": _AXIS_ROOM, "maxExtent": _AXIS_ROOM, "tickCount": 4, "domain": False, "ticks": False},
        "legend": {
            "aria": False,
            "labelColor": "var(--ink)",
            "titleColor": "var(--soft)",
            "labelFontSize": 11,
            "orient": "top",
            "title": None,
        },
        "text": {"color": "var(--ink)", "fontSize": 11},
    }
    return chart.properties(width="container", height=height, description=description, padding=2).configure(**config)  # type: ignore[no-any-return]


def _layer_parameter() -> "alt.Parameter":
    import altair as alt

    return alt.param(name="layer", value=0)


def _decades() -> "alt.Axis":
    """An axis of a logarithmic scale whose lines stand at powers of ten only."""
    import altair as alt

    at_power = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"
    return alt.Axis(format="~g", gridOpacity=alt.condition(at_power, alt.value(1), alt.value(0)))


def _bars(field: str, title: str, unit_prefix: bool = True) -> "alt.TopLevelMixin":
    """One bar per layer: what it cost, and over it, narrower, what stands in its place."""
    import altair as alt

    layer = _layer_parameter()
    capital = title[0].upper() + title[1:]
    base = alt.Chart(alt.NamedData("layers")).encode(
        x=alt.X("n:O", title=None, axis=alt.Axis(labelAngle=0, domain=False, ticks=False, grid=False)),
        tooltip=[
            alt.Tooltip("name:N", title="Layer"),
            alt.Tooltip("status:N", title="Status"),
            alt.Tooltip(f"{field}_text:N", title=capital),
        ],
    )
    band = (
        base.mark_bar(color="var(--chosen)", stroke="var(--link)")
        .encode(y=alt.value(0), y2=alt.value("height"))
        .transform_filter(layer == alt.datum.n)
    )
    axis = alt.Axis(labelExpr=f"datum.value ? format(datum.value, '{'~s' if unit_prefix else '~r'}') : '0'")
    colours = {"rewritten": BEFORE, "kept": KEPT, "eligible": ELIGIBLE}
    before = base.mark_bar().encode(
        y=alt.Y(f"{field}:Q", title=title, axis=axis),
        color=alt.Color("code:N", legend=None, scale=alt.Scale(domain=list(colours), range=list(colours.values()))),
    )
    after = base.mark_bar(color=AFTER, width={"band": 0.5}).encode(y=alt.Y(f"{field}_after:Q", title=title))
    chart = alt.layer(band, before, after).add_params(layer)
    return _finish(chart, 104, f"Bars: {title} of every layer before and after; the table below has the figures.")


def _error_curve() -> "alt.TopLevelMixin":
    """Error against rank of the chosen layer, one line per form, the taken point ringed."""
    import altair as alt

    names = list(FORM_COLOURS)
    colour = alt.Color("form:N", scale=alt.Scale(domain=names, range=list(FORM_COLOURS.values())))
    shape = alt.Shape("form:N", scale=alt.Scale(domain=names, range=[FORM_SHAPES[name] for name in names]))
    base = alt.Chart(alt.NamedData("curve")).encode(
        x=alt.X("rank:Q", title="rank", scale=alt.Scale(type="log", base=2, nice=False), axis=alt.Axis(format="d")),
        y=alt.Y("error:Q", title="relative error", scale=alt.Scale(type="log"), axis=_decades()),
        tooltip=[
            alt.Tooltip("form:N", title="Form"),
            alt.Tooltip("rank:Q", title="Rank"),
            alt.Tooltip("error:Q", title="Relative error", format=".2~g"),
        ],
    )
    curve = base.transform_filter("datum.mark != 'fitted'")
    line = curve.mark_line(strokeWidth=1.5).encode(color=colour, detail="form:N")
    point = curve.mark_point(filled=True, size=36, opacity=1).encode(color=colour, shape=shape)
    marked = base.transform_filter("datum.mark != ''")
    ring = marked.mark_point(size=200, strokeWidth=2, stroke="var(--ink)", shape="circle")
    taken = base.transform_filter("datum.mark == 'taken'").mark_text(text="taken", dy=-16, fontWeight="bold")
    fitted = base.transform_filter("datum.mark == 'fitted'").mark_text(text="fitted", dy=18, fontWeight="bold")
    chart = alt.layer(line, point, ring, taken, fitted)
    return _finish(chart, 190, "Lines: relative error of the chosen layer against the rank, one line per form.")


def _spectrum() -> "alt.TopLevelMixin":
    """What each further rank adds to the chosen layer."""
    import altair as alt

    base = alt.Chart(alt.NamedData("spectrum")).encode(
        x=alt.X("rank:Q", title="rank", axis=alt.Axis(format="d", tickMinStep=1, tickCount=6)),
        y=alt.Y("share:Q", title="share", axis=alt.Axis(format="~g")),
        tooltip=[alt.Tooltip("rank:Q", title="Rank"), alt.Tooltip("share:Q", title="Share", format=".2~g")],
    )
    stem = base.mark_bar(color="var(--series-1)", width=2)
    head = base.mark_point(filled=True, color="var(--series-1)", size=30, opacity=1)
    return _finish(
        alt.layer(stem, head), 110, "Stems: share of the layer's squared weights that each further rank keeps."
    )


def _timing_samples(rows: int) -> "alt.TopLevelMixin":
    """Every timed run as a tick, the median as a bar."""
    import altair as alt

    base = alt.Chart(alt.NamedData("samples")).encode(
        y=alt.Y("series:N", title=None, sort=None, axis=alt.Axis(minExtent=0, maxExtent=320, labelLimit=220)),
        color=alt.Color(
            "when:N", legend=None, scale=alt.Scale(domain=["before", "after"], range=["var(--soft)", AFTER])
        ),
    )
    ticks = base.mark_tick(thickness=1, bandSize=14, opacity=0.5).encode(
        x=alt.X("ms:Q", title="ms per run", scale=alt.Scale(zero=False))
    )
    medians = base.mark_tick(thickness=3, bandSize=24).encode(
        x=alt.X("median(ms):Q"), tooltip=[alt.Tooltip("median(ms):Q", title="Median, ms", format=".4~g")]
    )
    return _finish(alt.layer(ticks, medians), 40 * rows, "Ticks: all timed runs before and after, with their medians.")


def _pareto() -> "alt.TopLevelMixin":
    """Speed against error of all models of a sweep, with the front and other methods."""
    import altair as alt

    groups = ["this sweep, best", "this sweep, beaten", "other methods"]
    base = alt.Chart(alt.NamedData("points")).encode(
        x=alt.X("x:Q", title="speed-up", scale=alt.Scale(zero=False, padding=24), axis=alt.Axis(tickCount=8)),
        y=alt.Y("error:Q", title="relative error", scale=alt.Scale(type="log"), axis=_decades()),
        tooltip=[
            alt.Tooltip("label:N", title="Model"),
            alt.Tooltip("x_text:N", title="Cost"),
            alt.Tooltip("error_text:N", title="Relative error"),
            alt.Tooltip("top1_text:N", title="Top-1"),
        ],
    )
    front = base.transform_filter(f"datum.group == '{groups[0]}'").mark_line(color=AFTER, strokeWidth=1.5, tooltip=None)
    interval = base.mark_rule(color="var(--soft)", tooltip=None).encode(x=alt.X("low:Q", title="speed-up"), x2="high:Q")
    points = base.mark_point(filled=True, size=90, opacity=1).encode(
        color=alt.Color("group:N", scale=alt.Scale(domain=groups, range=[AFTER, "var(--soft)", KEPT])),
        shape=alt.Shape("group:N", scale=alt.Scale(domain=groups, range=["circle", "circle", "diamond"])),
    )
    labels = base.mark_text(dy=-11, align="center").encode(text="label:N")
    chart = alt.layer(front, interval, points, labels)
    return _finish(chart, 320, "Points: speed-up and relative error of each model; down and right is better.")


def _training() -> "alt.TopLevelMixin":
    """What the fine-tuning brought, step by step."""
    import altair as alt

    chart = (
        alt.Chart(alt.NamedData("training"))
        .mark_line(strokeWidth=1.5)
        .encode(
            x=alt.X("step:Q", title="step", axis=alt.Axis(format="d", tickCount=8)),
            y=alt.Y("value:Q", title="value", scale=alt.Scale(type="log"), axis=_decades()),
            color=alt.Color("series:N", scale=alt.Scale(range=list(FORM_COLOURS.values()))),
        )
    )
    return _finish(chart, 180, "Lines: the values recorded while fine-tuning, by step.")

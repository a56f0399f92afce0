"""Charts of the layers: bars of all of them, and the curves of the chosen one."""

from itertools import cycle
from typing import TYPE_CHECKING

from sepconvert.report.chart_style import AFTER, BEFORE, COLOURS, ELIGIBLE, KEPT, MARKS, decades, finish, halo_labels

if TYPE_CHECKING:
    import altair as alt

# Of the bars above each other: two or three charts take the same room. The page's style has it too.
BAR_HEIGHTS = {2: 224, 3: 136}

PLACES = 8
"""Bars of fewer layers leave room beside them: one layer alone would be a wall."""


def bars(field: str, title: str, layers: list[int], height: int, unit_prefix: bool = True) -> "alt.TopLevelMixin":
    """One bar per layer: what it cost, and over it, narrower, what stands in its place."""
    import altair as alt

    layer = alt.param(name="layer", value=0)
    capital = title[0].upper() + title[1:]
    base = alt.Chart(alt.NamedData("layers")).encode(
        x=alt.X(
            "n:O",
            title=None,
            # All layers, also those without a figure: bars of one layer stand below each other.
            scale=alt.Scale(domain=[*layers, *range(len(layers) + 1, PLACES + 1)]),
            axis=alt.Axis(labelAngle=0, domain=False, ticks=False, grid=False, values=layers),
        ),
        tooltip=[
            alt.Tooltip("name:N", title="Layer"),
            alt.Tooltip("status:N", title="Status"),
            alt.Tooltip(f"{field}_text:N", title=capital),
        ],
    )
    band = (
        base.mark_bar(color="var(--chosen)")
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
    return finish(chart, height, f"Bars: {title} of every layer before and after; the table below has the figures.")


def error_curve(names: list[str], shown: set[str]) -> "alt.TopLevelMixin":
    """Error against rank of the chosen layer, one line per form, the taken point ringed.

    ``names`` are all forms in their order, which gives each its colour and mark on every page; ``shown`` are drawn.
    """
    import altair as alt

    looks = dict(zip(names, zip(cycle(COLOURS), cycle(MARKS), strict=False), strict=False))
    domain = [name for name in names if name in shown]
    # Three names fit a row on a phone.
    legend = alt.Legend(columns=3)
    colour = alt.Color(
        "form:N", legend=legend, scale=alt.Scale(domain=domain, range=[looks[name][0] for name in domain])
    )
    shape = alt.Shape("form:N", scale=alt.Scale(domain=domain, range=[looks[name][1] for name in domain]))
    base = alt.Chart(alt.NamedData("curve")).encode(
        x=alt.X("rank:Q", title="rank", scale=alt.Scale(type="log", base=2, nice=False), axis=alt.Axis(format="d")),
        y=alt.Y("error:Q", title="relative error", scale=alt.Scale(type="log", nice=False, padding=24), axis=decades()),
        tooltip=[
            alt.Tooltip("form:N", title="Form"),
            alt.Tooltip("rank:Q", title="Rank"),
            alt.Tooltip("error:Q", title="Relative error", format=".2~g"),
        ],
    )
    curve = base.transform_filter("datum.mark == ''")
    line = curve.mark_line(strokeWidth=1.5).encode(color=colour, detail="form:N")
    point = curve.mark_point(filled=True, size=36, opacity=1).encode(color=colour, shape=shape)
    marked = base.transform_filter("datum.mark != ''")
    ring = marked.mark_point(size=200, strokeWidth=2, stroke="var(--ink)", shape="circle")
    dot = marked.mark_point(filled=True, size=36, opacity=1).encode(color=colour, shape=shape)
    taken = base.transform_filter("datum.mark == 'taken'")
    fitted = base.transform_filter("datum.mark == 'fitted'")
    names_of_marks = [*halo_labels(taken, "taken", -17), *halo_labels(fitted, "fitted", 19)]
    chart = alt.layer(line, point, ring, dot, *names_of_marks)
    return finish(chart, 190, "Lines: relative error of the chosen layer against the rank, one line per form.")


def spectrum() -> "alt.TopLevelMixin":
    """What each further rank adds to the chosen layer."""
    import altair as alt

    base = alt.Chart(alt.NamedData("spectrum")).encode(
        x=alt.X(
            "rank:Q",
            title="rank",
            scale=alt.Scale(domainMin=0),
            axis=alt.Axis(format="d", tickMinStep=1, tickCount=6),
        ),
        y=alt.Y("share:Q", title="share", axis=alt.Axis(format="~g")),
        tooltip=[alt.Tooltip("rank:Q", title="Rank"), alt.Tooltip("share:Q", title="Share", format=".2~g")],
    )
    stem = base.mark_bar(color="var(--series-1)", width=2)
    head = base.mark_point(filled=True, color="var(--series-1)", size=30, opacity=1)
    return finish(
        alt.layer(stem, head), 110, "Stems: share of the layer's squared weights that each further rank keeps."
    )

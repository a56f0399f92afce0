"""The look that all charts share: colours as CSS variables of the page, sizes, axes."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import altair as alt

BEFORE, AFTER, KEPT, ELIGIBLE = "var(--old)", "var(--rewritten)", "var(--kept)", "var(--eligible)"
# Of series, in their order: with one mark for each, more series can be told apart than there are colours.
COLOURS = ("var(--series-1)", "var(--series-2)", "var(--series-3)", "var(--series-4)")
MARKS = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
# All vertical axes take the same room, so that charts below each other line up.
_AXIS_ROOM = 52
_ONE_POWER = 10  # ends of an axis that are less far apart may have no power of ten between them


def finish(chart: Any, height: int, description: str) -> "alt.TopLevelMixin":
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
        "labelSeparation": 4,
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


def decades() -> "alt.Axis":
    """A vertical axis of a logarithmic scale: lines at powers of ten only, and numbers, unless these are too few."""
    import altair as alt

    at_power = "abs(log(datum.value) / LN10 - round(log(datum.value) / LN10)) < 1e-6"
    number = "format(datum.value, datum.value < 1e-3 ? '.0e' : '~g')"
    label = f"{at_power} || domain('y')[1] < {_ONE_POWER} * domain('y')[0] ? {number} : ''"
    return alt.Axis(labelExpr=label, gridOpacity=alt.condition(at_power, alt.value(1), alt.value(0)))


def halo_labels(points: Any, text: str, dy: int) -> list[Any]:
    """A word beside points, on a halo that keeps it readable over lines."""
    halo = points.mark_text(text=text, dy=dy, fontWeight="bold", stroke="var(--paper)", strokeWidth=4)
    return [halo, points.mark_text(text=text, dy=dy, fontWeight="bold")]

"""Charts of whole models: their timing, a sweep's speed against error, and how training went."""

from typing import TYPE_CHECKING

from sepconvert.report.chart_style import AFTER, COLOURS, decades, finish, halo_labels

if TYPE_CHECKING:
    import altair as alt

_SPEEDUP = "speed-up (times as fast as the original)"
_METHOD_COLOURS = [f"var(--{name})" for name in ("soft", "series-2", "series-3", "series-4", "link", "mixed")]
_TWO_ON_A_PHONE = 20  # letters of a name, of which two stand side by side on a phone
_METHOD_SHAPES = ["circle", "cross", "square", "triangle-up", "diamond", "triangle-down", "triangle-right"]


def timing_samples(rows: int) -> "alt.TopLevelMixin":
    """Every timed run as a tick, the median as a bar."""
    import altair as alt

    base = alt.Chart(alt.NamedData("samples")).encode(
        y=alt.Y("series:N", title=None, sort=None, axis=alt.Axis(minExtent=0, maxExtent=320, labelLimit=220)),
        color=alt.Color(
            "when:N", legend=None, scale=alt.Scale(domain=["before", "after"], range=["var(--soft)", AFTER])
        ),
    )
    ticks = base.mark_tick(thickness=1, bandSize=14, opacity=0.5).encode(
        x=alt.X("ms:Q", title="ms per run", scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=8))
    )
    medians = base.mark_tick(thickness=3, bandSize=24).encode(
        x=alt.X("median(ms):Q"), tooltip=[alt.Tooltip("median(ms):Q", title="Median, ms", format=".4~g")]
    )
    return finish(alt.layer(ticks, medians), 40 * rows, "Ticks: all timed runs before and after, with their medians.")


def pareto(methods: list[str], *, top1: bool, metric: str | None) -> "alt.TopLevelMixin":
    """Speed against error of all models of a sweep: one line per method, the sweep's own with its front.

    ``top1`` and ``metric``, by its name, are told of a point where there are such figures.
    """
    import altair as alt

    series = {"this sweep": AFTER, **dict(zip(methods, _METHOD_COLOURS * len(methods), strict=False))}
    shapes = dict(zip(series, _METHOD_SHAPES * len(series), strict=False))
    base = alt.Chart(alt.NamedData("points")).encode(
        x=alt.X(
            "x:Q",
            title=_SPEEDUP,
            scale=alt.Scale(zero=False, padding=24),
            axis=alt.Axis(tickCount=8),
        ),
        y=alt.Y(
            "error:Q",
            title="relative error, worst output",
            scale=alt.Scale(type="log", nice=False, padding=28),
            axis=decades(),
        ),
        tooltip=[
            alt.Tooltip("label:N", title="Model"),
            alt.Tooltip("x_text:N", title="Speed-up"),
            alt.Tooltip("error_text:N", title="Relative error"),
            *([alt.Tooltip("top1_text:N", title="Top-1")] if top1 else []),
            *([alt.Tooltip("metric_text:N", title=metric)] if metric else []),
        ],
    )
    colour = alt.Color(
        "method:N",
        legend=alt.Legend(columns=2 if max(map(len, series)) <= _TWO_ON_A_PHONE else 1, labelLimit=300),
        scale=alt.Scale(domain=list(series), range=list(series.values())),
    )
    shape = alt.Shape("method:N", scale=alt.Scale(domain=list(series), range=[shapes[name] for name in series]))
    others = base.transform_filter("datum.method != 'this sweep'")
    dashed = others.mark_line(strokeWidth=1, strokeDash=[4, 3], tooltip=None).encode(color=colour)
    front = base.transform_filter("datum.front").mark_line(color=AFTER, strokeWidth=2, tooltip=None)
    interval = base.mark_rule(color="var(--soft)", tooltip=None).encode(x=alt.X("low:Q", title=_SPEEDUP), x2="high:Q")
    points = base.mark_point(filled=True, opacity=1).encode(
        color=colour, shape=shape, size=alt.condition("datum.method == 'this sweep'", alt.value(110), alt.value(55))
    )
    own = base.transform_filter("datum.method == 'this sweep'")
    labels = own.mark_text(dy=17, fontWeight="bold").encode(text="label:N")
    knee = base.transform_filter("datum.recommended")
    ring = knee.mark_point(size=420, strokeWidth=2, stroke="var(--ink)", shape="circle", tooltip=None)
    chart = alt.layer(dashed, front, interval, points, ring, labels, *halo_labels(knee, "take this", -18))
    return finish(chart, 320, "Points: speed-up and relative error of each model; down and right is better.")


def training() -> "alt.TopLevelMixin":
    """What the fine-tuning brought, step by step; the step whose weights were kept is ringed."""
    import altair as alt

    base = alt.Chart(alt.NamedData("training")).encode(
        x=alt.X("step:Q", title="step", scale=alt.Scale(nice=False), axis=alt.Axis(format="d", tickCount=8)),
        y=alt.Y(
            "value:Q",
            title="divergence",
            scale=alt.Scale(type="log", nice=False, padding=12),
            axis=alt.Axis(format="~g"),
        ),
        tooltip=[
            alt.Tooltip("step:Q", title="Step"),
            alt.Tooltip("series:N", title="On"),
            alt.Tooltip("value:Q", title="Divergence", format=".2~g"),
        ],
    )
    lines = base.mark_line(strokeWidth=1.5).encode(
        color=alt.Color("series:N", sort=None, scale=alt.Scale(range=list(COLOURS)))
    )
    kept = base.transform_filter("datum.kept")
    ring = kept.mark_point(size=160, strokeWidth=2, stroke="var(--ink)")
    chart = alt.layer(lines, ring, *halo_labels(kept, "kept", -16))
    return finish(chart, 320, "Lines: divergence from the original while fine-tuning, by step.")

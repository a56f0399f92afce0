"""The table of sites: one row per layer, each with the figures to sort by and the details it opens into."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from sepconvert.record import Record, SiteRecord
from sepconvert.report import figures, precision
from sepconvert.report.drawing import Drawing, draw_after, draw_before

# More drawings than this would take the page above 1.5 MB.
MOST_DRAWN = 200

Pairs = tuple[tuple[str, str], ...]

STATUS_WORDS = {"rewritten": "rewritten", "kept": "kept as it is", "eligible": "can be rewritten"}


@dataclass(frozen=True, slots=True)
class Cell:
    """What a table cell shows and what it sorts by (``key`` is None where the figure is unknown: sorts last)."""

    text: str
    key: float | None


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One site. ``became`` is a text such as ``dw-pw, rank 2``, ``label`` a word or two; pairs are name and value.

    ``before`` and ``after`` are the small drawings of a rewritten site, else None. ``is_open``: its details are
    shown at first, because this layer gained most.
    """

    number: int
    name: str
    output: str
    status: str
    status_words: str
    became: str
    label: str
    kernel: str
    shape: str
    shape_key: int
    macs: Cell
    macs_after: Cell
    params: Cell
    params_after: Cell
    error: Cell
    latency: Cell
    latency_after: Cell
    reason: str | None
    geometry: Pairs
    errors: Pairs
    costs: Pairs
    candidate: Pairs
    before: Drawing | None
    after: Drawing | None
    is_open: bool = False


@dataclass(frozen=True, slots=True)
class LayerTable:
    """All rows, and which columns have anything to show."""

    rows: tuple[LayerRow, ...]
    counts: Pairs
    has_after: bool
    error_heading: str
    has_latency: bool
    drawn: bool


def tabulate(record: Record) -> LayerTable:
    """Return the sites of a record as table rows, in the model's order."""
    repeated = {name for name, n in Counter(site.name for site in record.sites).items() if n > 1}
    several = {form.name for form in record.forms if len(form.lowerings) > 1}
    typed = precision.told(record)
    rows = tuple(_row(i, site, repeated, several, typed) for i, site in enumerate(record.sites, start=1))
    gains = [_gain(site) for site in record.sites]
    most = max(gains, default=0.0)
    rows = tuple(replace(row, is_open=i == gains.index(most)) for i, row in enumerate(rows)) if most > 0 else rows
    drawn = len(rows) <= MOST_DRAWN
    if not drawn:
        rows = tuple(replace(row, before=None, after=None) for row in rows)
    statuses = Counter(row.status for row in rows)
    return LayerTable(
        rows=rows,
        counts=tuple((status, f"{STATUS_WORDS.get(status, status)} ({n})") for status, n in statuses.items()),
        has_after=any(site.status == "rewritten" for site in record.sites),
        error_heading=_error_heading(record.sites),
        has_latency=any(row.latency.key is not None or row.latency_after.key is not None for row in rows),
        drawn=drawn,
    )


def _gain(site: SiteRecord) -> float:
    """What a rewrite saved at a layer: multiply-adds, or parameters where these are unknown."""
    if site.status != "rewritten":
        return 0.0
    if site.macs is not None and site.macs_after is not None:
        return float(site.macs - site.macs_after)
    return float(site.params - (site.params_after or site.params))


def _error_heading(sites: list[SiteRecord]) -> str:
    """Say what the errors in the table are errors of; empty where there are none."""
    kinds = set()
    for site in sites:
        if site.error_heldout is not None:
            kinds.add("Held-out error")
        elif site.error_calibration is not None:
            kinds.add("Calibration error")
        elif site.error_weights is not None:
            kinds.add("Weight error")
    return kinds.pop() if len(kinds) == 1 else "Error" if kinds else ""


def telling_error(site: SiteRecord) -> float | None:
    """Return the error that says most about new inputs."""
    return next((e for e in (site.error_heldout, site.error_calibration, site.error_weights) if e is not None), None)


def display_name(site: SiteRecord, repeated: set[str]) -> str:
    """Return the node's name, or its output's where the name is empty or not the only one."""
    return site.output if not site.name or site.name in repeated else site.name


def _row(number: int, site: SiteRecord, repeated: set[str], several: set[str], typed: bool) -> LayerRow:
    rewritten = site.status == "rewritten"
    error = telling_error(site)
    kernel = figures.kernel(site)
    none = Cell("–", None)
    return LayerRow(
        number=number,
        name=display_name(site, repeated),
        output=site.output,
        status=site.status,
        status_words=STATUS_WORDS.get(site.status, site.status),
        became=_became(site, several, precision.words(site) if typed else ""),
        label=_label(site),
        kernel=kernel,
        shape=f"{kernel}, {site.in_channels} → {site.out_channels}",
        shape_key=site.params,
        macs=Cell(figures.count(site.macs), site.macs),
        macs_after=Cell(figures.count(site.macs_after), site.macs_after) if rewritten else none,
        params=Cell(figures.count(site.params), site.params),
        params_after=Cell(figures.count(site.params_after), site.params_after) if rewritten else none,
        error=Cell(figures.error(error), error) if rewritten or error is not None else none,
        latency=Cell(figures.milliseconds(site.latency_ms), site.latency_ms),
        latency_after=Cell(figures.milliseconds(site.latency_ms_after), site.latency_ms_after) if rewritten else none,
        reason=site.reason and site.reason[:1].upper() + site.reason[1:],
        geometry=_geometry(site),
        errors=_errors(site),
        costs=_costs(site, rewritten),
        candidate=_candidate(site.best_candidate),
        before=draw_before(site) if rewritten else None,
        after=draw_after(site),
    )


def _became(site: SiteRecord, several: set[str], computes_in: str) -> str:
    """Say what a site became; how its factors are written only where the form leaves a choice (``several``)."""
    if site.status == "rewritten":
        lowering = site.lowering if site.form in several and (site.rank or 0) > 1 else None
        parts = [site.form or "separable", f"rank {site.rank}" if site.rank is not None else "", lowering, computes_in]
        return ", ".join(part for part in parts if part)
    if computes_in and site.status == "kept":
        return computes_in
    if site.best_candidate and site.best_candidate.get("form"):
        rank = site.best_candidate.get("rank")
        return f"as {site.best_candidate['form']}" + ("" if rank is None else f", rank {rank}")
    return "–"


def _label(site: SiteRecord) -> str:
    if site.status == "rewritten":
        return f"{site.form or 'separable'} {'' if site.rank is None else site.rank}".strip()
    return "kept" if site.status == "kept" else "possible"


def _number_type(site: SiteRecord) -> str:
    if site.precision in (None, site.dtype):
        return site.dtype
    return f"{site.dtype}, {'in part in INT8' if site.precision == 'mixed' else 'in INT8'}"


def _geometry(site: SiteRecord) -> Pairs:
    pads = site.auto_pad if site.auto_pad != "NOTSET" else _pads(site.pads)
    spatial = f"{figures.dimensions(site.in_spatial)} → {figures.dimensions(site.out_spatial)}"
    return (
        ("Output value", site.output),
        ("Kernel", figures.kernel(site)),
        ("Channels", f"{site.in_channels} → {site.out_channels}"),
        ("Positions", spatial if site.in_spatial or site.out_spatial else figures.UNKNOWN),
        ("Stride", figures.dimensions(site.stride)),
        ("Dilation", figures.dimensions(site.dilation)),
        ("Padding", pads),
        ("Number type", _number_type(site)),
        *((("Weight used too by", ", ".join(site.others)),) if site.others else ()),
    )


def _pads(pads: list[int]) -> str:
    if not any(pads):
        return "none"
    half = len(pads) // 2
    if len(set(pads)) == 1:
        return f"{pads[0]} on every side"
    return f"{figures.dimensions(pads[:half])} before, {figures.dimensions(pads[half:])} after"


def _errors(site: SiteRecord) -> Pairs:
    named = (
        ("Held-out inputs", site.error_heldout),
        ("Calibration inputs", site.error_calibration),
        ("Weights alone", site.error_weights),
    )
    return tuple((label, figures.error(value)) for label, value in named if value is not None)


def _costs(site: SiteRecord, rewritten: bool) -> Pairs:
    named = (
        ("Multiply-adds", figures.count(site.macs), figures.count(site.macs_after)),
        ("Parameters", figures.count(site.params), figures.count(site.params_after)),
        ("Latency alone", figures.milliseconds(site.latency_ms), figures.milliseconds(site.latency_ms_after)),
    )
    return tuple((label, f"{old} → {new}" if rewritten and old != new else old) for label, old, new in named)


def _candidate(candidate: dict[str, Any] | None) -> Pairs:
    if not candidate:
        return ()
    # A survey's candidates are found without data: their error is that of the weights.
    named = {"error": "Share of the squared weights dropped"}
    return tuple((named.get(label, words(label)), plain_value(label, value)) for label, value in candidate.items())


def words(label: str) -> str:
    """Return a field's name as words: ``macs_ratio`` → ``MACs ratio``."""
    text = label.removesuffix("_ms").replace("_", " ")
    return "MACs" + text[4:] if text.startswith("macs") else text[:1].upper() + text[1:]


def plain_value(label: str, value: Any) -> str:
    """Show a value of an open dictionary by what its name says it is."""
    if value is None:
        return figures.UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if "error" in label or "damage" in label:
        return figures.error(value)
    if label.endswith("_ms"):
        return figures.milliseconds(value)
    if isinstance(value, float):
        return figures.significant(value) if not value.is_integer() or abs(value) >= 1e5 else f"{value:.0f}"
    return figures.count(value) if label in ("macs", "params") or abs(value) >= 1e5 else str(value)

"""What differs between the graphs of two models, as plain data for the page and the terminal."""

from dataclasses import dataclass

from sepconvert.record import LayerChange, ModelChanges, ModelLayer, Record
from sepconvert.report import figures

_KINDS = {"weights": "other weights", "changed": "another node", "replaced": "other nodes"}
_SHOWN = 200  # nodes that are named


@dataclass(frozen=True, slots=True)
class ChangedLayer:
    """A layer before, and what stands in its place; costs are before and, where they differ, after."""

    name: str
    before: str
    after: tuple[str, ...]
    kind: str
    params: tuple[str, str]
    macs: tuple[str, str]


@dataclass(frozen=True, slots=True)
class ChangesView:
    """``summary`` counts the nodes; ``lists`` are headings with the nodes that only one model has."""

    summary: str
    layers: tuple[ChangedLayer, ...]
    lists: tuple[tuple[str, tuple[str, ...]], ...]


def changes_view(record: Record) -> ChangesView | None:
    """Return the differences of a comparison; None where there are none to tell."""
    found = record.changes
    if found is None:
        return None
    named = ((f"{figures.plural(len(nodes), 'node')} {how}", nodes) for how, nodes in _named(record))
    return ChangesView(
        summary=_summary(found),
        layers=tuple(map(_layer, found.layers)),
        lists=tuple((title, _cut(nodes)) for title, nodes in named if nodes),
    )


def _summary(found: ModelChanges) -> str:
    counted = (
        (found.same, "is the same", "are the same"),
        (found.other_weights, "has other weights", "have other weights"),
        (found.changed, "became other nodes", "became other nodes"),
        (len(found.removed), "is removed", "are removed"),
    )
    parts = [f"{figures.exact(number)} {one if number == 1 else many}" for number, one, many in counted if number]
    new = f" {figures.plural(len(found.added), 'node')} {'is' if len(found.added) == 1 else 'are'} new."
    return f"Of the original’s nodes {', '.join(parts)}.{new if found.added else ''}"


def _named(record: Record) -> tuple[tuple[str, list[str]], ...]:
    assert record.changes is not None
    return (("added", record.changes.added), ("removed", record.changes.removed))


def _cut(nodes: list[str]) -> tuple[str, ...]:
    rest = len(nodes) - _SHOWN
    return (*nodes[:_SHOWN], *([f"and {rest} more"] if rest > 0 else []))


def _layer(change: LayerChange) -> ChangedLayer:
    rows = (change.before, *change.after)
    macs = [row.macs for row in change.after]
    known = None if None in macs else sum(count or 0 for count in macs)
    return ChangedLayer(
        name=change.before.name,
        before=_words(change.before),
        after=tuple(_words(row) for row in rows[1:]),
        kind=_KINDS[change.kind],
        params=_pair(change.before.params, sum(row.params for row in change.after)),
        macs=_pair(change.before.macs, known),
    )


def _pair(before: int | None, after: int | None) -> tuple[str, str]:
    return figures.count(before), "" if before == after else figures.count(after)


def _words(row: ModelLayer) -> str:
    kernel = f" {figures.dimensions(row.kernel)}" if row.kernel else ""
    channels = f", {row.in_channels} → {row.out_channels}" if row.in_channels else ""
    return f"{row.kind}{kernel}{channels}"

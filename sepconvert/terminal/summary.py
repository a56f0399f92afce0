"""The summary of a model in the terminal: all layers, what they could become, what is separable already."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Column, Table
from rich.text import Text

from sepconvert.record import Record
from sepconvert.report import figures, summary
from sepconvert.report.summary import Summary, SummaryRow
from sepconvert.terminal.names import numbers, plain

WIDE = 110  # columns of a terminal that has room for channels and what a candidate drops
_DIM = {"": "dim", "skipped": "dim", "more": "italic"}


def render_summary(record: Record, width: int, *, every: bool) -> Iterator[Sequence[RenderableType]]:
    """Yield the sections: the table with its note, what is separable already, what is skipped and why."""
    found = summary.summarise(record, every=every)
    title = Text(figures.plural(found.layers, "layer"), style="bold")
    note = [Text(plain(found.note))] if found.note else []
    yield [title, *note, _table(found, width)]
    yield [Text(plain(sentence)) for sentence in summary.findings(record, dropped=width >= WIDE)]
    skipped = summary.skip_sentences(record)
    yield [Text("Skipped", style="bold"), *(Text(plain(sentence)) for sentence in skipped)] if skipped else []


def _table(found: Summary, width: int) -> Table:
    wide = width >= WIDE
    room = max(20, width - (90 if wide else 60))
    table = Table(
        Column("Layer", no_wrap=True, max_width=room),
        Column("Kind", no_wrap=True),
        *([Column("Channels", no_wrap=True)] if wide else []),
        Column("Output", no_wrap=True),
        *numbers("Params", "MACs"),
        Column("Could save", no_wrap=True),
        *(numbers("drops") if wide else []),
        box=None,
        pad_edge=False,
        padding=(0, 2 if wide else 1, 0, 0),
        header_style="bold",
    )
    for row in found.rows:
        table.add_row(*_cells(row, room, wide=wide), style=_DIM.get(row.status, ""))
    empty = [""] * (3 if wide else 2)
    table.add_row("Total", *empty, plain(found.params), plain(found.macs), style="bold")
    return table


def _cells(row: SummaryRow, room: int, *, wide: bool) -> list[str]:
    name = row.name if len(row.name) <= room else row.short
    name = name if len(name) <= room else f"…{name[1 - room :]}"
    cells = [name, row.kind, *([row.channels] if wide else []), row.output, row.params, row.macs, row.saving]
    return [plain(cell) for cell in (*cells, *([row.dropped] if wide else []))]

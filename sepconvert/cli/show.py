"""What every command shows: its record at the end, progress meanwhile."""

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sepconvert.progress import Progress, silent

if TYPE_CHECKING:
    from sepconvert.record import Record


def show_record(record: "Record", json: str | None, html: Path | None, quiet: bool) -> None:
    """Print the record as JSON on stdout where ``--json -`` asks for it, and for people on stderr unless ``quiet``."""
    if json == "-":
        typer.echo(record.to_json(), nl=False)
    if not quiet:
        from sepconvert.terminal.record import print_record

        print_record(record, html)


@contextmanager
def telling_interruptions() -> Iterator[None]:
    """Where Ctrl-C left something to go on from, say so before the command ends with 130."""
    try:
        yield
    except KeyboardInterrupt as interruption:
        if interruption.args:
            typer.echo(f"sepconvert: {interruption}", err=True)
        raise


def show_progress(quiet: bool) -> AbstractContextManager[Progress]:
    """A progress bar where somebody watches, else nothing."""
    if quiet or not sys.stderr.isatty():
        return nullcontext(silent)
    from sepconvert.terminal.progress import progress_bar

    return progress_bar()

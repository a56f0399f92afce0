"""What every command shows: its record at the end, progress meanwhile."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sepconvert.record import Record


def show_record(record: "Record", json: str | None, html: Path | None, quiet: bool, *, every: bool = False) -> None:
    """Print the record as JSON on stdout where ``--json -`` asks for it, and for people on stderr unless ``quiet``.

    ``every`` gives each layer of a summary a row of its own.
    """
    if json == "-":
        # Bytes: JSON is UTF-8 whatever the terminal's encoding, and names of files may be no text.
        rest = record.to_json().encode("utf-8", "backslashreplace")
        while rest:  # an unbuffered stdout (PYTHONUNBUFFERED) may take a part and not complain
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.flush()
    if not quiet:
        from sepconvert.terminal.record import print_record

        print_record(record, html, every=every)


@contextmanager
def stdout_for(json: str | None) -> Iterator[None]:
    """With ``--json -`` stdout is the record's alone: what user code, a library or a process prints goes to stderr."""
    if json != "-":
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextmanager
def telling_interruptions() -> Iterator[None]:
    """Where Ctrl-C or SIGTERM left something to go on from, say so before the command ends with 130 or 143."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        for note in getattr(end, "__notes__", ()):
            typer.echo(f"sepconvert: {note}", err=True)
        raise

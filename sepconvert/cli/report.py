"""``sepconvert report``."""

from pathlib import Path
from typing import Annotated

import typer

from sepconvert.cli.options import Force


def report(
    record: Annotated[Path, typer.Argument(help="A record written by --json.", metavar="RECORD", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The page to write.", metavar="FILE", show_default=False)
    ],
    force: Force = False,
) -> None:
    """Render a record as one self-contained HTML page.

    Example: sepconvert report record.json -o page.html
    """
    from sepconvert import workflows

    workflows.render(record, output, force=force)
    typer.echo(str(output), err=True)

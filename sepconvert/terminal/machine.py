"""This machine and these versions, in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from sepconvert.terminal.names import plain_console
from sepconvert.workflows.diagnosis import Finding


def print_doctor(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print the findings about this machine, one a line, with the remedy under what is missing."""
    console = console or plain_console(stderr=False)
    table = Table("", "", Column(overflow="fold"), box=None, pad_edge=False, show_header=False)
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("look", style="yellow")
        text = finding.text if finding.remedy is None else f"{finding.text} -> {finding.remedy}"
        table.add_row(mark, finding.name, text)
    console.print(table)

"""This machine and these versions, in the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sepconvert.terminal.names import plain_console
from sepconvert.workflows.diagnosis import Finding


def print_doctor(findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print the findings about this machine, one a line, with the remedy under what is missing."""
    console = console or plain_console(stderr=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column("")
    table.add_column("")
    table.add_column("", overflow="fold")
    for finding in findings:
        mark = Text("ok", style="green") if finding.ok else Text("look", style="yellow")
        text = finding.text if finding.remedy is None else f"{finding.text} -> {finding.remedy}"
        table.add_row(mark, finding.name, text)
    console.print(table)


def version_line(version: str) -> str:
    """The version of this tool and of the runtimes it uses."""
    from sepconvert.workflows.diagnosis import runtime_versions

    return f"sepconvert {version} ({runtime_versions()})"

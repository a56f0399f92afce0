"""Names from models in the terminal: shown as they are, whatever they hold."""

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Column

from sepconvert.errors import visible
from sepconvert.report import figures


def plain_console(*, stderr: bool) -> Console:
    """A console to which ``[x]`` and ``:x:`` in a name are no markup."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)


def plain(text: str) -> str:
    """Put ordinary spaces and arrows for those of the page: not every terminal has them."""
    return text.replace(figures.SPACE, " ").replace("→", "->")


def numbers(*headings: str, no_wrap: bool = True) -> list[Column]:
    """Columns of numbers."""
    return [Column(heading, justify="right", no_wrap=no_wrap) for heading in headings]


@dataclass(frozen=True, slots=True)
class Visible:
    """Shows what it holds with control characters spelled out: they could order the terminal about."""

    shown: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the segments that Rich makes, cleaned."""
        for segment in console.render(self.shown, options):
            text = "\n".join(map(visible, segment.text.split("\n")))
            yield segment if segment.control else Segment(text, segment.style)

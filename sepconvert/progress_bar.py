"""The progress bar."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from sepconvert.progress import Progress

_BETWEEN_DRAWINGS = 0.1  # seconds


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Draw one progress bar on stderr – what is done, how far, time left – and take it away at the end.

    It is drawn only when it is told something, never from a thread of its own: that would disturb what is timed.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    stage_column = Column(width=36, no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("{task.description}", markup=False, table_column=stage_column),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Bar(*columns, console=console, transient=True, auto_refresh=False, speed_estimate_period=600) as bar:
        task, stage, drawn = bar.add_task("", visible=False), "", 0.0

        def tell(what: str, done: int, total: int) -> None:
            nonlocal stage, drawn
            if what.partition(":")[0] != stage:
                stage = what.partition(":")[0]
                bar.reset(task, description=what, completed=done, total=total, visible=True)
            bar.update(task, description=what, completed=done)
            if done == 0 or done == total or monotonic() - drawn > _BETWEEN_DRAWINGS:
                bar.refresh()
                drawn = monotonic()

        yield tell

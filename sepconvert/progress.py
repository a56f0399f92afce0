"""How work that takes a while tells how far it is."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from time import monotonic

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` before each step, and at the end with ``done == total``.

``what`` is the stage and, after a colon, the part of the model: ``Fit: layer1/conv2``. ``done`` never falls within a
stage.
"""

_BETWEEN_DRAWINGS = 0.1  # seconds
_FIRST, _WORTH_SAYING = 6.0, 30.0  # seconds: after which it is known how long a stage takes, and from which it matters
_QUICKER = " --quick gives a first answer in about a tenth of that."
PROFILE, FIT = "Profile", "Fit"
"""The stages that take longest and whose steps are layers."""
FIT_SHARE = 1.0
"""A fit's time by a profile's: 0.6 to 2.1 in the records of four networks (``reports/README.md``)."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def watched(progress: Progress | bool, *, quick: bool = False) -> Iterator[Progress]:
    """Whom to tell: what was given, or for True a bar where somebody watches: in a terminal or a notebook.

    Elsewhere a line on stderr says how long it will take, where that is long. ``quick``: ``--quick`` was asked for.
    """
    if callable(progress):
        yield progress
    elif progress and (sys.stderr.isatty() or _in_notebook()):
        with _progress_bar(quick=quick) as tell:
            yield tell
    elif progress:
        yield forecasting(silent, lambda text: print(text, file=sys.stderr, flush=True), quick=quick)
    else:
        yield silent


def forecasting(
    tell: Progress, say: Callable[[str], None], clock: Callable[[], float] = monotonic, *, quick: bool = False
) -> Progress:
    """Return whom to tell instead: after the first seconds it also says, once, about how long all will take.

    Args:
        tell: is told everything.
        say: gets the sentence, where it is worth one.
        clock: seconds.
        quick: nothing needs to be said of ``--quick``.
    """
    stage, start, first, said = "", 0.0, 0, False

    def told(what: str, done: int, total: int) -> None:
        nonlocal stage, start, first, said
        name = what.partition(":")[0]
        if name != stage:
            stage, start, first = name, clock(), done
        elif not said and name in (PROFILE, FIT) and done > first and clock() - start >= _FIRST:
            whole = (clock() - start) * total / (done - first)
            said = True
            if whole >= _WORTH_SAYING:
                say(_forecast(name, whole) + ("" if quick else _QUICKER))
        tell(what, done, total)

    return told


def _forecast(stage: str, seconds: float) -> str:
    if stage == FIT:
        return f"About {_spelled(seconds)} for a fit."
    fit = FIT_SHARE * seconds
    return (
        f"About {_spelled(seconds + fit)}: {_spelled(seconds)} to look at every layer and about as much for each fit; "
        "timing comes on top."
    )


def _spelled(seconds: float) -> str:
    if seconds < 90:
        return f"{10 * max(round(seconds / 10), 1)} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 90 else f"{seconds / 3600:.1f} hours"


def _in_notebook() -> bool:
    """Whether output goes to a notebook that can draw a bar: Rich needs ``ipywidgets`` for it."""
    return "ipykernel" in sys.modules and find_spec("ipywidgets") is not None


@contextmanager
def _progress_bar(*, quick: bool) -> Iterator[Progress]:
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

        yield forecasting(tell, console.print, quick=quick)

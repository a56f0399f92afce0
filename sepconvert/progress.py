"""How work that takes a while tells how far it is."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import accumulate
from time import monotonic

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` before each step, and at the end with ``done == total``.

``what`` is the stage (with what it is for, after a comma) and, after a colon, the part of the model:
``Fit: layer1/conv2``. ``done`` never falls within a stage; it counts steps, or thousandths where steps take very
different times.
"""

_BETWEEN_DRAWINGS = 0.1  # seconds
_SHORTEST = 1.0  # seconds: what ends before needs no lines
_BETWEEN_LINES = 5.0  # seconds, before a stage that was told is told again: some alternate quickly
_FIRST, _WORTH_SAYING = 6.0, 30.0  # seconds: after which it is known how long a stage takes, and from which it matters
_QUICKER = " --quick gives a first answer in a third to half of that."
PROFILE, FIT, TUNE = "Profile", "Fit", "Fine-tune"
"""The stages that take longest."""
FIT_SHARE = 1.0
"""A fit's time by a profile's: 0.6 to 2.1 in the records of four networks (``reports/README.md``)."""
INT8_SHARE = 1.5
"""Time of fitting again in INT8 by a fit's: 1.1 to 2.0 on three (``python -m tests.benchmarks.int8_error``)."""
_ALIKE = 0.1
"""Share of a profile's or a fit's time that is taken to be the same at every layer."""
_LEAST_DONE = 0.08  # of a stage whose steps take very different times, before it tells how long it takes


@dataclass(frozen=True, slots=True)
class Asked:
    """What a forecast has to know: whether ``--quick`` was given, what comes after the fits, and how many these are."""

    quick: bool = False
    fine_tune: bool = False
    int8: bool = False
    most_fits: int = 1


def milestones(works: Sequence[float]) -> list[int]:
    """How much is done before each step and after the last, in thousandths; ``works`` are the steps' multiply-adds."""
    every, whole = len(works), sum(works) or 1.0
    alike = _ALIKE if sum(works) > 0 else 1.0
    shares = (alike / every + (1 - alike) * work / whole for work in works)
    return [round(1000 * done) for done in accumulate(shares, initial=0.0)]


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


class Subject:
    """Tells on what it is told, and what it is about where that is set: ``Fit, 1.8× (2 of 3): layer1/conv2``."""

    def __init__(self, tell: Progress) -> None:
        """About nothing yet."""
        self._tell = tell
        self.name = ""

    def __call__(self, what: str, done: int, total: int) -> None:
        """Tell it."""
        stage, colon, part = what.partition(":")
        self._tell(f"{stage}{f', {self.name}' if self.name else ''}{colon}{part}", done, total)


@contextmanager
def watched(progress: Progress | bool, asked: Asked = Asked()) -> Iterator[Progress]:
    """Whom to tell: what was given, or for True a bar where somebody watches: in a terminal or a notebook.

    Elsewhere every stage is a line on stderr as it begins.
    """
    if callable(progress):
        yield progress
    elif progress and (sys.stderr.isatty() or _in_notebook()):
        with _progress_bar(asked) as tell:
            yield tell
    elif progress:
        yield forecasting(by_line(_say), _say, asked=asked)
    else:
        yield silent


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def by_line(say: Callable[[str], None], clock: Callable[[], float] = monotonic) -> Progress:
    """Return whom to tell where nobody watches a bar: ``say`` gets a line for each stage, with the seconds until it."""
    start, stage, said, known = clock(), "", 0.0, set[str]()

    def told(what: str, *_: int) -> None:
        nonlocal stage, said
        name, now = stage_of(what), clock() - start
        if (name not in known and now >= _SHORTEST) or (name != stage and now - said >= _BETWEEN_LINES):
            known.add(name)
            said = now
            say(f"{now:5.0f} s  {name}")
        stage = name

    return told


def stage_of(what: str) -> str:
    """The stage that a step belongs to."""
    return what.partition(":")[0]


def forecasting(
    tell: Progress, say: Callable[[str], None], clock: Callable[[], float] = monotonic, *, asked: Asked = Asked()
) -> Progress:
    """Return whom to tell instead: after the first seconds it also says, once, about how long all will take.

    Args:
        tell: is told everything.
        say: gets the sentence, where it is worth one; a training, whose time is its own, gets another.
        clock: seconds.
        asked: what comes after the fits, and whether ``--quick`` need not be named.
    """
    stage, start, first, open_, begin = "", 0.0, 0, {PROFILE, FIT, TUNE}, clock()

    def told(what: str, done: int, total: int) -> None:
        nonlocal stage, start, first
        name = stage_of(what)
        kind = name.partition(",")[0]
        if name != stage:
            stage, start, first = name, clock(), done
        elif kind in open_ and done - first > _least(kind) * (total - first) and clock() - start >= _FIRST:
            open_.difference_update({TUNE} if kind == TUNE else {PROFILE, FIT})
            whole = (clock() - start) * (total - first) / (done - first)
            if whole >= _WORTH_SAYING:
                say(_forecast(kind, whole, start - begin, asked))
        tell(what, done, total)

    return told


def _least(kind: str) -> float:
    return 0.0 if kind == TUNE else _LEAST_DONE


def _forecast(stage: str, seconds: float, before: float, asked: Asked) -> str:
    """A sentence for a stage that takes so many seconds, with so many before it.

    In INT8 those before went into choosing what of the original computes so, which is done for the rewritten model too.
    """
    if stage == TUNE:
        return f"About {_spelled(seconds)} to fine-tune{', and as long again in INT8' if asked.int8 else ''}."
    profile = seconds if stage == PROFILE else 0.0
    fit = FIT_SHARE * profile if profile else seconds
    integers = before + INT8_SHARE * fit if asked.int8 else 0.0
    parts = [f"{_spelled(profile)} to look at every layer"] if profile else []
    parts += ["about as much for each fit" if profile else f"{_spelled(fit)} for each fit"]
    parts += [f"{_spelled(integers)} for INT8"] if integers else []
    more = ["timing", *["fine-tuning"] * asked.fine_tune]
    on_top = f"{_listed(more)} come{'' if more[1:] else 's'} on top."
    several = "" if asked.most_fits == 1 else f" It may take up to {asked.most_fits} fits to keep the limit."
    quicker = "" if asked.quick else _QUICKER
    whole = f"{_spelled(profile + fit + integers)}: {_listed(parts)}" if parts[1:] else f"{_spelled(fit)} for a fit"
    return f"About {whole}; {on_top}{several}{quicker}"


def _listed(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _spelled(seconds: float) -> str:
    if seconds < 90:
        return f"{10 * max(round(seconds / 10), 1)} seconds"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 90 else f"{seconds / 3600:.1f} hours"


def _in_notebook() -> bool:
    """Whether output goes to a notebook that can draw a bar: Rich needs ``ipywidgets`` for it."""
    return "ipykernel" in sys.modules and find_spec("ipywidgets") is not None


@contextmanager
def _progress_bar(asked: Asked) -> Iterator[Progress]:
    """Draw one progress bar on stderr – what is done, how far, time left – and take it away at the end.

    It is drawn only when it is told something, never from a thread of its own: that would disturb what is timed.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar
    from rich.table import Column

    stage_column = Column(width=36, no_wrap=True, overflow="ellipsis")
    columns = (
        TextColumn("{task.description}", markup=False, table_column=stage_column),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Bar(*columns, console=console, transient=True, auto_refresh=False, speed_estimate_period=600) as bar:
        task, stage, drawn = bar.add_task("", visible=False), "", 0.0

        def tell(what: str, done: int, total: int) -> None:
            nonlocal stage, drawn
            if stage_of(what) != stage:
                stage = stage_of(what)
                bar.reset(task, description=what, completed=done, total=total, visible=True)
            bar.update(task, description=what, completed=done)
            if done == 0 or done == total or monotonic() - drawn > _BETWEEN_DRAWINGS:
                bar.refresh()
                drawn = monotonic()

        yield forecasting(tell, console.print, asked=asked)

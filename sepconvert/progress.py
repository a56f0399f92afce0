"""How work that takes a while tells how far it is."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` before each step, and at the end with ``done == total``.

``what`` is the stage and, after a colon, the part of the model: ``Fit: layer1/conv2``. ``done`` never falls within a
stage.
"""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def watched(progress: Progress | bool) -> Iterator[Progress]:
    """Whom to tell: what was given, or for True a bar where somebody watches: in a terminal or a notebook."""
    if callable(progress):
        yield progress
    elif progress and (sys.stderr.isatty() or _in_notebook()):
        from sepconvert.progress_bar import progress_bar

        with progress_bar() as tell:
            yield tell
    else:
        yield silent


def _in_notebook() -> bool:
    """Whether output goes to a notebook that can draw a bar: Rich needs ``ipywidgets`` for it."""
    return "ipykernel" in sys.modules and find_spec("ipywidgets") is not None

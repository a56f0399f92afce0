"""How work that takes a while tells how far it is."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)`` before each step, and at the end with ``done == total``.

``what`` is the stage and, after a colon, the part of the model: ``Fit: layer1/conv2``. ``done`` never falls within a
stage.
"""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""

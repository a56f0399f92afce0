"""Errors that a user can cause and can mend.

Every message is one sentence (or two short ones) that names the input, says what is wrong with it, and what to do. The
command line prints the message on stderr without a traceback and ends with ``exit_code``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


def visible(text: str) -> str:
    """Spell control characters out: names in a model may hold newlines, or orders to the terminal."""
    return text.translate(_CONTROLS)


class SepconvertError(Exception):
    """Base of all errors that are the input's, not the program's."""

    exit_code = 1

    def __str__(self) -> str:
        """The message, in one line."""
        return visible(super().__str__())


class UsageError(SepconvertError):
    """Options that contradict each other or lack a companion (exit code 2)."""

    exit_code = 2


class ModelError(SepconvertError):
    """The model cannot be read, is invalid, or holds values that make a rewrite meaningless."""


class DataError(SepconvertError):
    """Calibration or test inputs that do not fit the model or cannot be read."""


class OutputError(SepconvertError):
    """The result cannot be written where it was asked for."""


class MissingExtraError(SepconvertError):
    """An optional dependency that this needs is not installed."""


class NothingToDoError(SepconvertError):
    """No site can be rewritten, or the budget is out of reach; nothing is written."""


class RuinedError(SepconvertError):
    """What was asked for would leave a network beyond use; nothing is written."""


class DeviceError(SepconvertError):
    """The asked execution provider is missing or did not run the model."""


class ClusterError(SepconvertError):
    """The machines that work was to be spread over are not there, or gave up."""


class VerificationError(SepconvertError):
    """The self-check of a rewrite failed: a bug of this tool, never to be written to disk."""


class GateError(SepconvertError):
    """A ``--fail-above`` limit was exceeded (exit code 3)."""

    exit_code = 3


def file_reason(error: Exception) -> str:
    """Return why a file could not be read, without the system's number and the path that the sentence names anyway."""
    return (getattr(error, "strerror", None) or one_line(error)).rstrip(".")


@contextmanager
def interruption_says(left: Callable[[], str | None]) -> Iterator[None]:
    """Add a note to Ctrl-C or an order to end: what ``left`` says is there to go on from, if anything."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as end:
        found = left()
        if found is not None:
            end.add_note(visible(found))
        raise


def one_line(error: BaseException | str, limit: int = 200) -> str:
    """Return what the first cause of an error says, to be quoted in a sentence: one line of at most ``limit``."""
    while isinstance(error, BaseException) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()).rstrip(" .:") or type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"

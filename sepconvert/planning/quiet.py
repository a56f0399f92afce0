"""Keep what a C library prints off stdout.

HiGHS (as in scipy 1.17) prints a line there whenever a solution it has found breaks a constraint by rounding, whatever
``disp`` says; in the middle of ``--json -`` that would be no JSON any more.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

STDOUT = 1


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Send what is written to the process's standard output, below Python, to nowhere."""
    try:
        kept = os.dup(STDOUT)
    except OSError:  # closed
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nowhere:
            _flush()
            os.dup2(nowhere.fileno(), STDOUT)
            try:
                yield
            finally:
                _flush()
                os.dup2(kept, STDOUT)
    finally:
        os.close(kept)


def _flush() -> None:
    """Write what the C library has buffered; where it cannot be found, it is written whenever it likes."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).fflush(None)

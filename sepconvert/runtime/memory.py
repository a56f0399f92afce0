"""Give memory back that the C library holds on to."""

import ctypes
from functools import cache
from typing import Any


def give_back_memory() -> None:
    """Return the free pages of the heap to the system.

    glibc keeps what lies below an array that is still alive: activations of many inputs, freed in another order than
    they were made, left a process of 2 GB of live values at 5 GB and more. Does nothing with other C libraries.
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return None

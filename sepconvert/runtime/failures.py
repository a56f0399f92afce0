"""Turn onnxruntime's exceptions into one sentence."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from sepconvert.errors import ModelError, one_line

_LONGEST = 400  # characters of onnxruntime's own text that are passed on


@contextmanager
def model_errors(what: str) -> Iterator[None]:
    """Raise ``ModelError("onnxruntime could not <what>: …")`` for whatever onnxruntime raises inside the block."""
    kinds: tuple[type[Exception], ...] = (RuntimeError, ValueError, TypeError, *_own_exceptions())
    try:
        yield
    except kinds as error:
        raise ModelError(f"onnxruntime could not {what}: {one_line(_without_code(error), _LONGEST)}.") from error


@cache
def _own_exceptions() -> tuple[type[Exception], ...]:
    """Return onnxruntime's exception classes: they share no base class but ``Exception``."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return tuple(kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))


def _without_code(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text.split(" : ", 3)[-1] if text.startswith("[ONNXRuntimeError]") else text

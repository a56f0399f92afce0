"""``pkg.module:callable``: the user's own code, imported and called."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from sepconvert.errors import DataError, SepconvertError

_LONGEST = 200  # characters of a user's own error that are passed on


def import_callable(spec: str, option: str) -> Callable[[], Any]:
    """Import ``pkg.module:name``, looking in the current folder too.

    Raises:
        DataError: the module or the name does not exist or is not callable, or the module fails when it is imported.
    """
    module_name, _, name = spec.partition(":")
    if not all(part.isidentifier() for part in (*module_name.split("."), *name.split("."))):
        raise DataError(f"{option} {spec} is neither a file, a folder, nor of the form pkg.module:callable.")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except ImportError as error:
        raise DataError(
            f"{option} {spec} cannot be imported ({error}); check the name and where you run from."
        ) from error
    except AttributeError:
        raise DataError(f"{option} {spec}: module {module_name} has no '{name}'; check the name.") from None
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise user_error(f"{option} {spec} cannot be imported", error) from error
    finally:
        sys.path.remove(here)
    # A network is callable too, but not without inputs.
    if not callable(found) or (hasattr(found, "state_dict") and not isinstance(found, type)):
        raise DataError(
            f"{option} {spec} is {_article(type(found).__name__)}, not a function; name a function or class that "
            "makes it."
        )
    result: Callable[[], Any] = found
    return result


def call_user(function: Callable[[], Any], spec: str) -> Any:
    """Call what the user named.

    Raises:
        DataError: it needs arguments, or fails.
    """
    with suppress(ValueError):  # builtins may not say what they take
        signature = inspect.signature(function)
        try:
            signature.bind()
        except TypeError as error:
            raise DataError(f"{spec} cannot be called ({error}); name a function without needed arguments.") from None
    try:
        return function()
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise user_error(f"{spec} failed", error) from error


def guarded(produced: Iterable[Any], spec: str) -> Iterator[Any]:
    """Yield what the user's own code yields.

    Raises:
        DataError: it fails on the way.
    """
    try:
        yield from produced
    except SepconvertError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's own code raises
        raise user_error(f"{spec} failed", error) from error


def user_error(what: str, error: BaseException, remedy: str = "call it from Python to see all") -> DataError:
    """Say what the user's own code raised and where, and what helps."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:_LONGEST]
    return DataError(
        f"{what}: {type(error).__name__}{f' ({text})' if text else ''} at {frame.filename}:{frame.lineno}; {remedy}."
    )


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"

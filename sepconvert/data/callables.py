"""``pkg.module:callable``: the user's own code yields dicts of arrays."""

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data.arrays import LABELS, MOST_BYTES, check_labels
from sepconvert.data.dataset import Dataset, Feeds, make_dataset
from sepconvert.data.matching import (
    check_dtype,
    check_finite,
    check_shape,
    convert,
    find_constant,
    match_names,
    static_batch,
)
from sepconvert.data.preprocess import Preprocess
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

_LONGEST = 200  # characters of a user's own error that are passed on


@dataclass(frozen=True, slots=True)
class YieldedSource:
    """Feeds as they were yielded, each with its own shapes. ``places[i]`` is (feed, row) of sample i."""

    feeds: tuple[Feeds, ...]
    places: tuple[tuple[int, int], ...]
    keys: tuple[bytes, ...]
    constant: frozenset[str]

    def read(self, indices: NDArray[np.int64]) -> Feeds:
        """Stack the samples at ``indices``."""
        places = [self.places[i] for i in indices]
        first = self.feeds[places[0][0]]
        return {
            name: first[name]
            if name in self.constant
            else np.stack([self.feeds[feed][name][row] for feed, row in places])
            for name in first
        }

    def group(self, index: int) -> bytes:
        """Samples of one key have equal shapes and equal constant inputs."""
        return self.keys[self.places[index][0]]


def load_yielded(spec: str, inputs: Sequence[InputInfo], preprocess: Preprocess) -> Dataset:
    """Call ``pkg.module:callable`` without arguments and keep what it yields.

    Each yielded dict holds a batch: an array (N, …) for each input (``x`` for a single one), and optionally labels
    ``y`` (N,). Arrays of one dimension less are one sample. Shapes may differ from dict to dict.

    Raises:
        DataError: it cannot be imported or called, yields something else, too much, or nothing.
    """
    produced = call_user(import_callable(spec, "--data"), spec)
    if isinstance(produced, Mapping) or not isinstance(produced, Iterable):
        raise DataError(f"{spec} returned {type(produced).__name__}; it must yield dicts of arrays.")
    return _collect(produced, inputs, preprocess, spec)


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
        raise _user_error(f"{option} {spec} cannot be imported", error) from error
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
        raise _user_error(f"{spec} failed", error) from error


def _user_error(what: str, error: BaseException) -> DataError:
    """Say what the user's own code raised and where."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())[:_LONGEST]
    return DataError(
        f"{what}: {type(error).__name__}{f' ({text})' if text else ''} at {frame.filename}:{frame.lineno}; "
        "call it from Python to see all."
    )


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def _collect(produced: Iterable[Any], inputs: Sequence[InputInfo], preprocess: Preprocess, origin: str) -> Dataset:
    feeds: list[Feeds] = []
    labels: list[NDArray[np.int64]] = []
    places: list[tuple[int, int]] = []
    constant: frozenset[str] = frozenset()
    total = 0
    for position, item in enumerate(produced):
        where = f"{origin}, dict {position}"
        feed, own_labels = _read(item, inputs, preprocess, where)
        total += sum(array.nbytes for array in feed.values())
        if total > MOST_BYTES:
            raise DataError(f"{origin} yields more than {MOST_BYTES >> 30} GB; make it end sooner.")
        constant = find_constant(feed, inputs)
        rows = _rows(feed, constant, own_labels, where)
        places += [(position, row) for row in range(rows)]
        feeds.append(feed)
        labels += [] if own_labels is None else [own_labels]
    if labels and len(labels) != len(feeds):
        raise DataError(f"{origin} gives labels '{LABELS}' in some dicts only; give them in all or in none.")
    source = YieldedSource(tuple(feeds), tuple(places), tuple(_key(feed, constant) for feed in feeds), constant)
    return make_dataset(
        source,
        len(places),
        origin,
        batch=static_batch(inputs, constant, origin),
        labels=np.concatenate(labels) if labels else None,
    )


def _read(
    item: Any, inputs: Sequence[InputInfo], preprocess: Preprocess, origin: str
) -> tuple[Feeds, NDArray[np.int64] | None]:
    """Check and convert one yielded dict."""
    if not isinstance(item, Mapping) or not all(isinstance(name, str) for name in item):
        raise DataError(f"{origin}: {type(item).__name__} was yielded; yield dicts of arrays named after the inputs.")
    given = {name: np.asarray(value) for name, value in item.items()}
    has_labels = LABELS in given and LABELS not in {info.name for info in inputs}
    raw_labels = given.pop(LABELS) if has_labels else None
    found = match_names(given, inputs, origin)
    ranked = [info for info in inputs if info.declared_shape]
    if ranked and all(found[info.name].ndim == len(info.declared_shape) - 1 for info in ranked):
        found = {info.name: found[info.name][np.newaxis] if info in ranked else found[info.name] for info in inputs}
        raw_labels = None if raw_labels is None else raw_labels.reshape(-1)
    feed = {}
    for info in inputs:
        check_shape(found[info.name].shape, info, origin)
        check_dtype(found[info.name], info, preprocess, origin)
        feed[info.name] = convert(found[info.name], info, preprocess)
        check_finite(found[info.name], feed[info.name], info, origin)
    return feed, None if raw_labels is None else check_labels(raw_labels, origin)


def _rows(feed: Feeds, constant: frozenset[str], labels: NDArray[np.int64] | None, origin: str) -> int:
    counts = {len(array) for name, array in feed.items() if name not in constant and array.ndim}
    if labels is not None:
        counts.add(len(labels))
    if len(counts) != 1:
        raise DataError(
            f"{origin}: the arrays have different numbers of samples ({sorted(counts)}); give all the same."
        )
    return counts.pop()


def _key(feed: Feeds, constant: frozenset[str]) -> bytes:
    parts = [
        name.encode() + (array.tobytes() if name in constant else repr(array.shape[1:]).encode())
        for name, array in sorted(feed.items())
    ]
    return b"\0".join(parts)

"""The first of the inputs, seen before there is a model: a PyTorch module is exported at their sizes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sepconvert.data.arrays import as_array, open_npy, read_npz
from sepconvert.data.callables import guarded
from sepconvert.data.dataset import Feeds
from sepconvert.data.given import items_of
from sepconvert.data.load import Data, Produced, produced

_IMAGES = 4  # an array of so many dimensions is a batch, of fewer it may be a single sample


@dataclass(frozen=True, slots=True)
class Peeked:
    """What to load now in place of the data, of which the first has been taken, and that: a batch of arrays by name."""

    data: Data | Produced
    first: Feeds


def peek(spec: Data, needed: Sequence[str], known: Sequence[str]) -> Peeked:
    """Look at the first inputs; nothing is called, or gone through, a second time.

    Args:
        spec: as ``load_data`` takes it.
        needed: names of the inputs that a tuple begins with, in order.
        known: names of all inputs there may be.

    Returns:
        Arrays (N, …) by input name; none where names, places or batches are not told beyond doubt, nor of images.

    Raises:
        DataError: the data cannot be read.
    """
    found = produced(spec)
    if found is None:
        path = Path(str(spec))
        if path.suffix.lower() == ".npz" and path.is_file():
            found = Produced(read_npz(path), str(path))
        elif path.suffix.lower() == ".npy" and path.is_file():
            return Peeked(spec, _named((open_npy(path),), needed, known))
        else:
            return Peeked(spec, {})
    given = found.given
    if isinstance(given, Mapping) or hasattr(given, "__array__"):
        return Peeked(found, _named(given, needed, known))
    items = items_of(given)
    if items is None:
        return Peeked(found, {})
    left = iter(guarded(items, found.origin))
    taken = list(islice(left, 1))
    arrays = _named(taken[0], needed, known) if taken else {}
    return Peeked(Produced(chain(taken, left), found.origin), _batch(given, arrays))


def _named(item: Any, needed: Sequence[str], known: Sequence[str]) -> Feeds:
    if isinstance(item, Mapping):
        given = dict(item)
        if len(needed) == 1 and needed[0] not in given and "x" in given:
            given[needed[0]] = given["x"]
        return {name: as_array(given[name]) for name in dict.fromkeys((*needed, *known)) if name in given}
    parts = item if isinstance(item, tuple | list) else (item,)
    if isinstance(item, str | bytes) or len(parts) < len(needed):
        return {}
    return {name: as_array(part) for name, part in zip(needed, parts, strict=False)}


def _batch(given: Any, arrays: Feeds) -> Feeds:
    """An item's arrays with samples first; none where they may be either a batch or one sample."""
    if not isinstance(given, Iterable):  # a dataset of PyTorch, which gives samples
        return {name: array[None] for name, array in arrays.items()}
    if getattr(given, "batch_size", None) is not None or any(array.ndim >= _IMAGES for array in arrays.values()):
        return arrays
    return {}

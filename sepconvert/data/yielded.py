"""Inputs batch by batch, as a ``DataLoader``, a generator or a list gives them: read once, kept in memory."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data.arrays import MOST_BYTES, as_array, label_array, named_arrays, sort_labels
from sepconvert.data.dataset import Dataset, Feeds, make_dataset
from sepconvert.data.matching import (
    LABELS,
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

UNUSED = "{}: what comes with the inputs is no array, or dict of them, with a row for each sample, so it was not used."


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


def collect(produced: Iterable[Any], inputs: Sequence[InputInfo], preprocess: Preprocess, origin: str) -> Dataset:
    """Keep all that is produced.

    Each item holds a batch: a dict of arrays (N, …) named after the inputs (``x`` for a single one) and optionally
    labels ``y``; or the array of a single input; or a tuple of arrays in the inputs' order, as a ``DataLoader`` gives
    it, with or without labels behind them. Labels are class numbers (N,), or what else a metric takes: an array (N, …)
    or a dict of them. Arrays of one dimension less are one sample. Shapes may differ from item to item. What stands
    behind the inputs of a tuple and has no row for each sample is left out, with a warning.

    Args:
        produced: the items.
        inputs: the model's inputs.
        preprocess: how raw values become the model's.
        origin: where the items are from, in words.

    Raises:
        DataError: items of another kind, too much, nothing, or what does not fit the inputs.
    """
    feeds: list[Feeds] = []
    labels: list[NDArray[np.int64]] = []
    targets: list[NDArray[Any]] = []
    places: list[tuple[int, int]] = []
    constant: frozenset[str] = frozenset()
    total, unused = 0, False
    for position, item in enumerate(produced):
        where = f"{origin}, item {position}"
        given, ignored = _named(item, inputs, where)
        unused |= ignored
        feed, own_labels, own_targets = _read(given, inputs, preprocess, where)
        total += sum(array.nbytes for array in feed.values())
        if total > MOST_BYTES:
            raise DataError(f"{origin} yields more than {MOST_BYTES >> 30} GB; make it end sooner.")
        constant = find_constant(feed, inputs)
        rows = _rows(feed, constant, own_labels if own_targets is None else own_targets, where)
        places += [(position, row) for row in range(rows)]
        feeds.append(feed)
        labels += [] if own_labels is None else [own_labels]
        targets += [] if own_targets is None else [own_targets]
    if any(known and len(known) != len(feeds) for known in (labels, targets)):
        raise DataError(f"{origin} gives labels in some items only; give them in all or in none.")
    if len({(part.shape[1:], part.dtype if part.dtype.names else None) for part in targets}) > 1:
        targets, unused = [], True
    source = YieldedSource(tuple(feeds), tuple(places), tuple(_key(feed, constant) for feed in feeds), constant)
    dataset = make_dataset(
        source,
        len(places),
        origin,
        batch=static_batch(inputs, constant, origin),
        labels=np.concatenate(labels) if labels else None,
        targets=np.concatenate(targets) if targets else None,
    )
    return replace(dataset, warnings=(*dataset.warnings, UNUSED.format(origin))) if unused else dataset


def _named(item: Any, inputs: Sequence[InputInfo], origin: str) -> tuple[dict[str, NDArray[Any]], bool]:
    """An item as arrays by name, and whether something in it was left out."""
    if isinstance(item, Mapping):
        return named_arrays(item, inputs, origin), False
    parts = item if isinstance(item, tuple | list) else (item,)
    if isinstance(item, str | bytes) or len(parts) not in (len(inputs), len(inputs) + 1):
        wanted = "an array" if len(inputs) == 1 else f"a tuple of {len(inputs)} arrays"
        what = f"{len(parts)} things" if parts is item else type(item).__name__
        raise DataError(
            f"{origin}: {what} where {wanted} (and labels, if you like) or a dict of arrays is wanted; labels are an "
            "array with a row for each sample, which --metric gets, or a dict of such arrays."
        )
    given = {info.name: as_array(part) for info, part in zip(inputs, parts, strict=False)}
    if len(parts) == len(inputs):
        return given, False
    labels = _labels_behind(parts[-1], given[inputs[0].name], len(inputs[0].declared_shape))
    return (given, True) if labels is None else (given | {LABELS: labels}, False)


def _labels_behind(behind: Any, first: NDArray[Any], rank: int) -> NDArray[Any] | None:
    """What stands behind the inputs as labels: of a batch (N, …), or of one sample; None where it is none.

    Args:
        behind: an array, or a dict of them.
        first: the first input.
        rank: of that input, with the samples.
    """
    single = first.ndim == rank - 1
    if single and isinstance(behind, Mapping):
        behind = {name: as_array(value)[np.newaxis] for name, value in behind.items()}
    found = label_array(behind)
    if found is None or found.dtype.kind not in "iufbUV":
        return None
    if single or (found.dtype.kind in "iu" and found.ndim <= 1):
        return found
    return found if first.ndim == rank and found.ndim > 0 and len(found) == len(first) else None


def _read(
    arrays: Mapping[str, NDArray[Any]], inputs: Sequence[InputInfo], preprocess: Preprocess, origin: str
) -> tuple[Feeds, NDArray[np.int64] | None, NDArray[Any] | None]:
    """Check and convert the arrays of one item."""
    given = dict(arrays)
    has_labels = LABELS in given and LABELS not in {info.name for info in inputs}
    raw_labels = given.pop(LABELS) if has_labels else None
    found = match_names(given, inputs, origin)
    ranked = [info for info in inputs if info.declared_shape]
    if ranked and all(found[info.name].ndim == len(info.declared_shape) - 1 for info in ranked):
        found = {info.name: found[info.name][np.newaxis] if info in ranked else found[info.name] for info in inputs}
        if raw_labels is not None:
            raw_labels = raw_labels.reshape(-1) if raw_labels.size == 1 else raw_labels[np.newaxis]
    feed = {}
    for info in inputs:
        check_shape(found[info.name].shape, info, origin)
        check_dtype(found[info.name], info, preprocess, origin)
        feed[info.name] = convert(found[info.name], info, preprocess)
        check_finite(found[info.name], feed[info.name], info, origin)
    return feed, *sort_labels(raw_labels, origin)


def _rows(feed: Feeds, constant: frozenset[str], labels: NDArray[Any] | None, origin: str) -> int:
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

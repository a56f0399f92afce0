"""One type for all inputs: samples that can be sampled, split, hashed and fed batch by batch."""

import hashlib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import DataError
from sepconvert.record import Note

Feeds = dict[str, NDArray[Any]]
ONLY_METRIC = "{}: what comes with the inputs is not one class number for each sample, so only --metric uses it."


class SampleSource(Protocol):
    """Where samples come from. ``read`` gives arrays that are ready for the model, with a leading batch axis.

    ``constant`` names the inputs that are fed whole to every batch.
    """

    @property
    def constant(self) -> frozenset[str]:
        """Inputs without a sample axis."""
        ...

    def read(self, indices: NDArray[np.int64]) -> Feeds:
        """Return the samples at ``indices``, which all have the same ``group``."""
        ...

    def group(self, index: int) -> Hashable:
        """Return a key that samples of equal shapes share: only those can be in one batch."""
        ...


@dataclass(frozen=True, slots=True)
class Dataset:
    """Samples for a model's inputs, in a fixed order.

    ``batch`` is the model's static batch size, or None where it is dynamic; with a static batch, ``count`` is always a
    multiple of it. ``labels`` (count,) are class numbers or None; ``targets`` (count, …) is what else a metric compares
    outputs with, such as a class number per pixel; ``label_fault`` says why they are no labels, where somebody called
    them so. ``origin`` says in words where the samples come from.
    ``warnings`` are sentences for the record, for instance about samples left out.
    """

    source: SampleSource
    indices: NDArray[np.int64]
    origin: str
    batch: int | None = None
    labels: NDArray[np.int64] | None = None
    warnings: tuple[str, ...] = ()
    synthetic: bool = field(default=False, kw_only=True)
    targets: NDArray[Any] | None = field(default=None, kw_only=True)
    label_fault: str = field(default="", kw_only=True)

    def __post_init__(self) -> None:
        self.indices.flags.writeable = False

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.indices)

    @property
    def truth(self) -> NDArray[Any] | None:
        """What a metric compares outputs with: the targets, else the labels."""
        return self.labels if self.targets is None else self.targets

    def batches(self, size: int = 32) -> Iterator[Feeds]:
        """Yield feeds of ``size`` samples in order (a static batch overrides ``size``; the last may be smaller).

        Samples of different shapes never share a batch, so batches can be smaller where the shape changes.
        """
        limit = self.batch or size
        start = 0
        while start < self.count:
            stop = self._end_of_group(start, min(start + limit, self.count))
            if self.batch is not None and stop - start < self.batch:
                raise DataError(
                    f"{self.origin}: the model takes {self.batch} samples of equal shape at a time, but sample {stop} "
                    "differs in shape from the one before; give it batches of one shape."
                )
            yield self.source.read(self.indices[start:stop])
            start = stop

    def _end_of_group(self, start: int, stop: int) -> int:
        key = self.source.group(int(self.indices[start]))
        for position in range(start + 1, stop):
            if self.source.group(int(self.indices[position])) != key:
                return position
        return stop

    def first(self, count: int) -> "Dataset":
        """Return the first ``count`` samples (rounded up to a whole static batch; all if there are fewer)."""
        return self._take(np.arange(min(self._whole(count), self.count)))

    def sample(self, count: int, rng: np.random.Generator) -> "Dataset":
        """Return ``count`` samples drawn without replacement, in their original order (see ``first`` for rounding)."""
        wanted = min(self._whole(count), self.count)
        return self._take(np.sort(rng.choice(self.count, wanted, replace=False)))

    def at(self, place: int) -> "Dataset":
        """Return the sample at a place or, with a static batch, the batch that it is in."""
        unit = self.batch or 1
        start = place // unit * unit
        return self._take(np.arange(start, start + unit))

    def split(self, share: float, rng: np.random.Generator) -> tuple["Dataset", "Dataset"]:
        """Split the samples at random into two sets without a common sample.

        Args:
            share: part of the samples that the second set gets, in (0, 1); each set gets at least one static batch.
            rng: decides which.

        Raises:
            DataError: there are not two batches to split.
        """
        unit = self.batch or 1
        groups = self.count // unit
        if groups < 2:
            raise DataError(
                f"{self.origin} holds {self.count} sample(s), too few to hold some out; give at least {2 * unit}."
            )
        second = min(max(round(groups * share), 1), groups - 1) * unit
        order = rng.permutation(self.count)
        return self._take(np.sort(order[second:])), self._take(np.sort(order[:second]))

    def cut(self, size: int, rng: np.random.Generator) -> list["Dataset"]:
        """Cut the samples, in random order, into batches that can be fed in any order.

        Args:
            size: samples per batch (a static batch overrides it); the last of each shape may be smaller.
            rng: decides the order.

        Raises:
            DataError: with a static batch, samples of a shape do not fill whole batches.
        """
        groups: dict[Hashable, list[int]] = {}
        for position in rng.permutation(self.count):
            groups.setdefault(self.source.group(int(self.indices[position])), []).append(int(position))
        limit = self.batch or size
        cuts = [
            positions[start : start + limit]
            for positions in groups.values()
            for start in range(0, len(positions), limit)
        ]
        if self.batch is not None and any(len(cut) < self.batch for cut in cuts):
            raise DataError(
                f"{self.origin}: the model takes {self.batch} samples of equal shape at a time; give as many of each "
                "shape as fill whole batches."
            )
        return [self._take(np.array(cut, np.int64)) for cut in cuts]

    def feed(self) -> Feeds:
        """Read all samples as one feed; they must be of one shape."""
        return self.source.read(self.indices)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of one feed: the static batch, or a batch of one."""
        return {name: array.shape for name, array in next(self.first(1).batches(1)).items()}

    @property
    def varies(self) -> bool:
        """Whether not all samples are the same; of a single one nothing can be said.

        Samples are read until two differ.
        """
        first: Feeds | None = None
        for feeds in self.batches():
            varying = {name: array for name, array in feeds.items() if name not in self.source.constant}
            first = first or {name: array[:1] for name, array in varying.items()}
            if not all(_repeats(array, first[name]) for name, array in varying.items()):
                return True
        return self.count < 2

    def sample_hashes(self) -> list[str]:
        """Return a hash of every sample, equal for equal samples.

        Floats are hashed as float16, so that a file stored in half precision is recognised as the same images.
        """
        hashes = []
        for feeds in self.batches(64):
            varying = {name: array for name, array in feeds.items() if name not in self.source.constant}
            hashes += [
                _hash({n: a[row] for n, a in varying.items()}) for row in range(len(next(iter(varying.values()))))
            ]
        return hashes

    def _whole(self, count: int) -> int:
        unit = self.batch or 1
        return -(-max(count, 1) // unit) * unit

    def _take(self, positions: NDArray[np.int64]) -> "Dataset":
        labels = None if self.labels is None else self.labels[positions]
        targets = None if self.targets is None else self.targets[positions]
        return replace(self, indices=self.indices[positions], labels=labels, targets=targets)


def make_dataset(
    source: SampleSource,
    count: int,
    origin: str,
    *,
    batch: int | None = None,
    labels: NDArray[np.int64] | None = None,
    targets: NDArray[Any] | None = None,
    synthetic: bool = False,
) -> Dataset:
    """Make a dataset of all ``count`` samples of a source; a rest that fills no static batch is left out, and said.

    Raises:
        DataError: no samples, fewer than one static batch, or a number of labels other than ``count``.
    """
    if count == 0:
        raise DataError(f"{origin} holds no samples; give at least one.")
    for given in (labels, targets):
        if given is not None and len(given) != count:
            raise DataError(f"{origin} has {len(given)} labels for {count} samples; give one label for each sample.")
    rest = count % (batch or 1)
    if rest == count:
        raise DataError(
            f"{origin} holds {count} sample(s) but the model takes {batch} at a time; give at least that many."
        )
    warnings: tuple[str, ...] = () if targets is None else (Note(ONLY_METRIC.format(origin)),)
    if rest:
        left_out = f"{origin}: the last {rest} of {count} samples were left out: the model takes {batch} at a time."
        warnings += (Note(left_out),)
    used = np.arange(count - rest)
    kept, others = (None if given is None else given[: len(used)] for given in (labels, targets))
    return Dataset(source, used, origin, batch, kept, warnings, synthetic=synthetic, targets=others)


def count_overlap(first: Dataset, second: Dataset) -> int:
    """Return how many samples of ``second`` are in ``first`` too: test data must share none with calibration data."""
    known = set(first.sample_hashes())
    return sum(value in known for value in second.sample_hashes())


def _repeats(array: NDArray[Any], sample: NDArray[Any]) -> bool:
    """Whether an array (n, …) is one sample (1, …) n times."""
    return array.shape[1:] == sample.shape[1:] and bool(np.all(array == sample))


def _hash(sample: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(sample):
        array = _coarse(sample[name])
        digest.update(f"{name}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _coarse(array: NDArray[Any]) -> NDArray[Any]:
    if array.dtype.kind not in "fV":  # V: bfloat16
        return array
    values = array.astype(np.float32)
    largest = np.abs(values).max(initial=0)
    # Outside float16's normal range rounding would make different samples equal; nobody stores those in half.
    if largest > np.finfo(np.float16).max or largest < np.finfo(np.float16).tiny:
        return values
    return values.astype(np.float16)

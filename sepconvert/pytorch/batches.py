"""What is taught: batches of inputs with the values that the original computes for them.

The original runs in onnxruntime: once, where inputs stay as they are, and then its values wait in memory up to a budget
and in a temporary folder above it; at every step, where inputs are varied. Inputs are read again whenever they are
needed, so data on disk stays there. Which samples share a batch is drawn once, in which order the batches come anew for
each epoch.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.data.vary import Variation
from sepconvert.errors import DataError
from sepconvert.fitting.spool import Spool, Ticket
from sepconvert.progress import Progress
from sepconvert.runtime.sessions import Arrays, Session
from sepconvert.verify.deviation import Deviation


@dataclass(frozen=True, slots=True)
class Lesson:
    """One batch: its inputs and labels, and tickets of the original's values by name."""

    inputs: Dataset
    values: Mapping[str, Ticket]


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs and the original's values by name, class numbers or None, and how many samples these are."""

    inputs: Arrays
    wanted: Arrays
    labels: NDArray[np.int64] | None
    count: int


class Lessons(Protocol):
    """Batches to train on, by number; ``step`` of the training decides what is random in them."""

    def __len__(self) -> int:
        """Return how many batches there are."""
        ...

    def batch(self, index: int, step: int) -> Batch:
        """Return one batch."""
        ...


@dataclass(frozen=True, slots=True)
class Recorded:
    """Lessons that are the same every time."""

    lessons: Sequence[Lesson]
    spool: Spool

    def __len__(self) -> int:
        """Return how many batches there are."""
        return len(self.lessons)

    def batch(self, index: int, step: int) -> Batch:  # noqa: ARG002  # nothing is random here
        """Return one batch."""
        lesson = self.lessons[index]
        wanted = {name: self.spool.load(ticket) for name, ticket in lesson.values.items()}
        return Batch(lesson.inputs.feed(), wanted, lesson.inputs.labels, lesson.inputs.count)


@dataclass(frozen=True, slots=True)
class Varied:
    """Lessons whose inputs are varied anew at every step; the original says what the variants are.

    ``seed`` holds numbers that tell this randomness apart from any other.
    """

    batches: Sequence[Dataset]
    teacher: Session
    values: Sequence[str]
    variation: Variation
    seed: tuple[int, ...]

    def __len__(self) -> int:
        """Return how many batches there are."""
        return len(self.batches)

    def batch(self, index: int, step: int) -> Batch:
        """Return variants of one batch."""
        given = self.batches[index]
        inputs = self.variation.vary(given.feed(), np.random.default_rng([*self.seed, step]))
        return Batch(inputs, self.teacher.run(inputs, self.values), given.labels, given.count)


def prepare(
    teacher: Session, batches: Sequence[Dataset], values: Sequence[str], spool: Spool, progress: Progress
) -> list[Lesson]:
    """Run the original on every batch and keep the ``values``.

    Raises:
        DataError: they fit neither in memory nor on the disk.
    """
    lessons: list[Lesson] = []
    for index, batch in enumerate(batches):
        progress("Run the original", index, len(batches))
        found = teacher.run(batch.feed(), values)
        if not lessons:
            _check_room(found, len(batches), spool)
        lessons.append(Lesson(batch, {name: spool.keep(array) for name, array in found.items()}))
    progress("Run the original", len(batches), len(batches))
    return lessons


def _check_room(first: Arrays, count: int, spool: Spool) -> None:
    wanted = count * sum(array.nbytes for array in first.values()) - spool.room
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if wanted > free:
        raise DataError(
            f"The original's outputs for the training inputs take {wanted / 1e9:.1f} GB, but {tempfile.gettempdir()} "
            f"has {free / 1e9:.1f} GB free; give fewer inputs, or a larger temporary folder (TMPDIR)."
        )


def variances(lessons: Sequence[Lesson], spool: Spool) -> dict[str, float]:
    """Mean over a value's entries of their variance over the samples; 0 where it is constant or not finite."""
    found = {}
    for name in lessons[0].values:
        deviation, entries = Deviation(), 0
        for lesson in lessons:
            array = as_batch(spool.load(lesson.values[name]), lesson.inputs.count)
            deviation.add(array, array)
            entries += array.size
        finite = deviation.figures().max_abs is not None
        found[name] = deviation.spread / max(entries, 1) if finite else 0.0
    return found


def as_batch(array: NDArray[Any], rows: int) -> NDArray[Any]:
    """A value whose first axis is not the batch is one observation."""
    return array if array.ndim and len(array) == rows else array[np.newaxis]

"""What is taught: batches of inputs with the values that the original computes for them.

The original runs once, in onnxruntime. Its values wait in memory up to a budget and in a temporary folder above it;
inputs are read again whenever they are needed, so data on disk stays there. Which samples share a batch is drawn once,
in which order the batches come anew for each epoch.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
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

"""One process's part in a training, from bytes to the best weights: it can be sent to another process as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite

import torch

from sepconvert.data import Dataset
from sepconvert.data.vary import Variation
from sepconvert.errors import ModelError
from sepconvert.fitting.spool import Spool
from sepconvert.graph.integers import UNROUNDED, Rounding
from sepconvert.graph.load import LoadedModel, load_bytes
from sepconvert.progress import Progress, silent
from sepconvert.pytorch.batches import Lesson, Lessons, Recorded, Varied, prepare, variances
from sepconvert.pytorch.distil import Course, Keeping, Learned, Settings, distil, to_device
from sepconvert.pytorch.memory_layout import weights_channels_last
from sepconvert.pytorch.objective import Goal
from sepconvert.pytorch.parity import check_parity
from sepconvert.pytorch.processes import Crew
from sepconvert.pytorch.trainable import TrainableGraph
from sepconvert.runtime.sessions import open_session

COMPARED = 4  # samples
_VARY = 17  # tells the random variants of inputs from other uses of one seed
MEMORY = 1 << 30
"""Bytes of the original's values that each process keeps in memory."""


@dataclass(frozen=True, slots=True)
class Job:
    """What to train, on what, and how.

    Attributes:
        original: the model to learn from, with ``values`` among its outputs.
        rewritten: the model to train.
        trainable: names of its constants that are trained.
        values: names, in both, of the values to reproduce.
        batches: of inputs to train on; each process takes its share.
        heldout: batches to judge by.
        runtime_device: where onnxruntime runs the original.
        settings: see ``Settings``.
        keeping: checkpoints, or None.
        variation: how inputs to train on are varied, or None.
        rounding: what is rounded as in integers while it is trained.
    """

    original: bytes
    rewritten: bytes
    trainable: tuple[str, ...]
    values: tuple[str, ...]
    batches: tuple[Dataset, ...]
    heldout: tuple[Dataset, ...]
    runtime_device: str
    settings: Settings
    keeping: Keeping | None = None
    variation: Variation | None = None
    rounding: Rounding = UNROUNDED


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training came to, the values it was about, whether labels were mixed in, and sentences for the record."""

    learned: Learned
    goals: tuple[str, ...]
    labelled: bool
    warnings: tuple[str, ...]


def train(job: Job, crew: Crew, progress: Progress) -> Trained:
    """Prepare this process's lessons and train.

    Raises:
        ModelError: a model cannot run, or no value to reproduce depends on what is trained.
        VerificationError: the trainable graph computes something else than onnxruntime.
    """
    student = load_bytes(job.rewritten)
    graph = TrainableGraph.from_model(student, job.trainable, wide=True, rounding=job.rounding)
    compare(student, job.heldout)
    graph.to(crew.device)
    weights_channels_last(graph)
    # Every process takes as many batches, so that all of them make the same steps.
    share = len(job.batches) // crew.size
    mine = job.batches[crew.rank :: crew.size][:share]
    teacher = open_session(job.original, device=job.runtime_device, threads=torch.get_num_threads())
    with Spool(MEMORY) as spool:
        exam = prepare(teacher, job.heldout, job.values, spool, silent)
        goals, warnings = _goals(graph, exam, spool, crew.device)
        labelled, more = _labels(goals, exam[0], [*job.heldout, *mine])
        if labelled is None:
            exam = [replace(lesson, inputs=_without_labels(lesson.inputs)) for lesson in exam]
            mine = tuple(map(_without_labels, mine))
        lessons: Lessons
        if job.variation is None:
            lessons = Recorded(prepare(teacher, mine, [goal.name for goal in goals], spool, progress), spool)
        else:
            seed = (job.settings.seed, _VARY, crew.rank)
            lessons = Varied(mine, teacher, [goal.name for goal in goals], job.variation, seed)
        course = Course(lessons, Recorded(exam, spool), labelled or goals)
        learned = distil(graph, course, job.settings, crew, job.keeping, progress)
    return Trained(learned, tuple(goal.name for goal in goals), labelled is not None, (*warnings, *more))


def compare(model: LoadedModel, batches: Sequence[Dataset]) -> None:
    """Make sure that a few samples give the same in PyTorch, in the model's own precision, and in onnxruntime.

    Raises:
        VerificationError: they do not; the message names the first node that differs.
    """
    check_parity(model, TrainableGraph.from_model(model, ()), batches[0].first(COMPARED).feed())


def _goals(
    graph: TrainableGraph, exam: Sequence[Lesson], spool: Spool, device: torch.device
) -> tuple[tuple[Goal, ...], tuple[str, ...]]:
    """The values worth reproducing: they vary, and they depend smoothly on what is trained."""
    lesson = exam[0]
    inputs = {name: to_device(array, device) for name, array in lesson.inputs.feed().items()}
    found = graph(inputs, list(lesson.values))
    spread = variances(exam, spool)
    goals, warnings = [], []
    for name, ticket in lesson.values.items():
        if not found[name].requires_grad:
            warnings.append(f"'{name}' was not distilled: no gradient leads from it to what is trained.")
        elif tuple(found[name].shape) != ticket.shape:
            warnings.append(f"'{name}' was not distilled: its shape depends on the values.")
        elif not (isfinite(spread[name]) and spread[name] > 0):
            warnings.append(f"'{name}' was not distilled: it is constant, infinite or no number on held-out inputs.")
        else:
            goals.append(Goal(name, spread[name]))
    if not goals:
        raise ModelError(f"nothing can be distilled ({' '.join(warnings)})")
    return tuple(goals), tuple(warnings)


def _labels(
    goals: Sequence[Goal], lesson: Lesson, batches: Sequence[Dataset]
) -> tuple[tuple[Goal, ...] | None, tuple[str, ...]]:
    """The goals with the one marked that labels belong to; None where there are no labels or no such value."""
    labels = [batch.labels for batch in batches]
    known = [part for part in labels if part is not None]
    if len(known) < len(labels):
        return None, ()
    largest = max(int(part.max()) for part in known)
    for position, goal in enumerate(goals):
        shape = lesson.values[goal.name].shape
        classes = shape[1] if len(shape) >= 2 else 0
        if shape[0] == lesson.inputs.count and max(1, largest) < classes and all(side == 1 for side in shape[2:]):
            marked = list(goals)
            marked[position] = replace(goal, classes=True)
            return tuple(marked), ()
    return None, (f"The labels go up to {largest}, but no output has that many classes: they were not used.",)


def _without_labels(batch: Dataset) -> Dataset:
    return replace(batch, labels=None)

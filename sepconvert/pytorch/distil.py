"""End-to-end distillation: the rewritten network learns to say what the original says (Hinton et al., 2015).

1. SOAP on the trainable constants, warm-up and cosine decay, gradients clipped to a norm.
2. Dropout is off and BatchNormalization keeps its statistics: the fit has made the new layers' outputs agree with those
   the statistics are of, and a normalisation by constants is the same in training and in use.
3. At even distances the held-out inputs are examined; the best weights so far are kept, the start counts as the first.
   Nothing ends a training before its rate has come down: only then do weights settle.
4. A rate that is too high for a good start shows at once: where the exam is failed by far, training goes back to the
   best weights and on from there at half the rate.
5. The state is written at the same moments, so that nothing but the steps since is lost to a crash or Ctrl-C.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sepconvert.graph.integers import Rounding
from sepconvert.progress import Progress
from sepconvert.pytorch.batches import Batch, Lessons
from sepconvert.pytorch.checkpoint import Checkpoint, Progressed, write_checkpoint
from sepconvert.pytorch.exam import Marks, point
from sepconvert.pytorch.objective import Distance, Goal, objective
from sepconvert.pytorch.pace import Pace
from sepconvert.pytorch.processes import Crew
from sepconvert.pytorch.soap import Soap
from sepconvert.pytorch.trainable import TrainableGraph

EVALUATIONS = 25
LARGEST_NORM = 1.0
_ORDER = 7  # tells the random order of batches from other uses of one seed


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train: optimiser steps, peak learning rate (None for what the start bears), seed."""

    steps: int
    rate: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Course:
    """What to train on: lessons, held-out lessons for the exam, and the goals of both."""

    lessons: Lessons
    exam: Lessons
    goals: Sequence[Goal]


@dataclass(frozen=True, slots=True)
class Learned:
    """The best weights by name, how the exams went, the peak rate, and why training ended before its last step."""

    best: Mapping[str, Tensor]
    best_step: int
    steps: int
    curve: list[dict[str, Any]]
    rate: float
    ended: str | None = None


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where to write checkpoints, what they belong to and began with, and the one to go on from."""

    path: Path
    subject: str
    plan: Mapping[str, Any]
    start: Mapping[str, Tensor]
    resumed: Checkpoint | None = None


def distil(
    graph: TrainableGraph, course: Course, settings: Settings, crew: Crew, keeping: Keeping | None, progress: Progress
) -> Learned:
    """Train a graph in place and return its best weights.

    Args:
        graph: the rewritten network, on the crew's device.
        course: this process's share of the lessons, and the whole exam.
        settings: the same in all processes.
        crew: the processes that train together.
        keeping: checkpoints, or None.
        progress: told of every step.
    """
    return _Training(graph, course, settings, crew, keeping).run(progress)


class _Training:
    """The state of one training."""

    def __init__(
        self, graph: TrainableGraph, course: Course, settings: Settings, crew: Crew, keeping: Keeping | None
    ) -> None:
        self._graph, self._course, self._settings, self._crew, self._keeping = graph, course, settings, crew, keeping
        self._weights = graph.parameters_by_name()
        self._optimiser = Soap(self._weights)
        self._step = self._best_step = 0
        self._curve: list[dict[str, Any]] = []
        self._pace = Pace(self._curve, settings.steps, settings.rate)
        self._losses: list[Tensor] = []
        self._best = _copies(self._weights)
        if keeping is not None and keeping.resumed is not None:
            self._restore(keeping.resumed)

    def run(self, progress: Progress) -> Learned:
        ended = None
        if not self._curve:
            self._evaluate()
        distance = max(1, self._settings.steps // EVALUATIONS)
        for batch in self._upcoming():
            progress(f"Fine-tune: divergence {self._told}", self._step, self._settings.steps)
            self._learn(batch)
            if self._step % distance and self._step != self._settings.steps:
                continue
            self._evaluate()
            ended = self._pace.exhausted
            if ended is not None:
                break
        progress("Fine-tune", self._settings.steps, self._settings.steps)
        return Learned(self._best, self._best_step, self._step, self._curve, self._pace.peak, ended)

    @property
    def _told(self) -> str:
        divergence = self._curve[-1]["divergence"]
        return "unknown" if divergence is None else f"{divergence:.3g}"

    def _upcoming(self) -> Iterator[Batch]:
        lessons = self._course.lessons
        while self._step < self._settings.steps:
            epoch, position = divmod(self._step, len(lessons))
            order = np.random.default_rng([self._settings.seed, _ORDER, epoch]).permutation(len(lessons))
            yield lessons.batch(int(order[position]), self._step)

    def _learn(self, batch: Batch) -> None:
        self._optimiser.zero_grad()
        _, _, distance = self._answer(batch)
        distance.total(self._pace.label_weight).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self._share_gradients()
        nn.utils.clip_grad_norm_(self._weights.values(), LARGEST_NORM)
        self._optimiser.step(self._pace.rate(self._step))
        self._step += 1
        self._losses.append(distance.divergence.detach())

    def _share_gradients(self) -> None:
        """Average the gradients of all processes, as one message."""
        if self._crew.size == 1:
            return
        held = [weight for weight in self._weights.values() if weight.grad is not None]
        together = self._crew.mean(nn.utils.parameters_to_vector([w.grad for w in held if w.grad is not None]))
        start = 0
        for weight in held:
            weight.grad = together[start : start + weight.numel()].view_as(weight).clone()
            start += weight.numel()

    def _answer(self, batch: Batch) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor], Distance]:
        """What the network says, what it should, and how far that is apart."""
        device, goals = self._crew.device, self._course.goals
        inputs = {name: to_device(array, device) for name, array in batch.inputs.items()}
        wanted = {goal.name: to_device(batch.wanted[goal.name], device) for goal in goals}
        given = None if batch.labels is None else torch.from_numpy(batch.labels).to(device)
        with _mixed_precision(device, self._graph.rounding):
            found = self._graph(inputs, [goal.name for goal in goals])
        return found, wanted, objective(goals, found, wanted, given)

    @torch.no_grad()
    def _evaluate(self) -> None:
        """Examine, keep what is best, go back to it where the exam was failed, write the state."""
        exam, marks = self._course.exam, Marks()
        for index in range(len(exam)):
            batch = exam.batch(index, self._step)
            found, wanted, distance = self._answer(batch)
            labels = None if batch.labels is None else torch.from_numpy(batch.labels).to(self._crew.device)
            marks.add(self._course.goals, found, wanted, labels, distance, batch.count)
        means = marks.means()
        if self._losses:
            means["training"] = float(torch.stack(self._losses).mean())
        self._losses.clear()
        # All processes examine the same inputs, but have to come to the same decisions to the last digit.
        agreed = self._crew.mean(torch.tensor(list(means.values()), device=self._crew.device, dtype=torch.float64))
        self._curve.append(point(self._step, dict(zip(means, agreed.tolist(), strict=True))))
        self._judge()
        if self._keeping is not None and self._crew.rank == 0:
            write_checkpoint(self._keeping.path, self._state(self._keeping))

    def _judge(self) -> None:
        """Keep the weights where they are the best; go back to the best where they are much worse."""
        *before, last = self._pace.losses()
        best = min(before, default=inf)
        if last < best or not before:
            self._best, self._best_step = _copies(self._weights), self._step
        elif self._pace.too_fast(last, best) and self._step < self._settings.steps:
            self._curve[-1]["slower"] = True
            self._return()

    def _return(self) -> None:
        """Go back to the best weights; the optimiser learns its directions anew there."""
        for name, weight in self._weights.items():
            weight.data.copy_(self._best[name])
        self._optimiser = Soap(self._weights)

    def _state(self, keeping: Keeping) -> Checkpoint:
        return Checkpoint(
            Progressed(keeping.subject, self._step, self._best_step, self._curve, dict(keeping.plan)),
            dict(self._weights),
            self._best,
            self._optimiser.state(),
            keeping.start,
        )

    def _restore(self, state: Checkpoint) -> None:
        self._step, self._best_step = state.progressed.step, state.progressed.best_step
        self._curve.extend(state.progressed.curve)
        self._best = {name: state.best[name] for name in self._weights}
        for name, weight in self._weights.items():
            weight.data.copy_(state.current[name])
        self._optimiser.restore(self._step - self._pace.returned, state.optimiser)


def to_device(array: Any, device: torch.device) -> Tensor:
    """An array as a tensor on the device; half-precision floats as float32."""
    if array.dtype.name in ("float16", "bfloat16"):
        array = array.astype(np.float32)
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _mixed_precision(device: torch.device, rounding: Rounding) -> AbstractContextManager[Any]:
    """On a GPU that has bfloat16: matrix products in it, everything that is summed up in float32.

    Not where values are rounded to 256 steps: bfloat16 tells no more apart.
    """
    if rounding.values:
        return nullcontext()
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def _copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().cpu().clone() for name, weight in weights.items()}

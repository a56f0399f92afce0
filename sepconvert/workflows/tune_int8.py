"""Quantisation-aware training as a step between a model in INT8 and the choice among the alternatives.

The model is trained as it will compute: weights, biases and values in between are rounded to the steps that its ranges
allow. It learns from the original in floating point, as before, and keeps its ranges and its layers in INT8.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from sepconvert.data import Dataset
from sepconvert.data.vary import Variation
from sepconvert.errors import NothingToDoError
from sepconvert.graph.integers import rounding_of
from sepconvert.graph.load import LoadedModel, load_bytes
from sepconvert.graph.save import runnable
from sepconvert.progress import Subject
from sepconvert.separable.threads import cores, one_blas_thread
from sepconvert.workflows.fine_tune import TunedResult, tuning_of
from sepconvert.workflows.int8 import choose, planned_in_floats, quantise_both, serves_better
from sepconvert.workflows.opened import Case
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.quantisable import QuantisedModel
from sepconvert.workflows.quantiser import Int8, Quantiser, or_infinite
from sepconvert.workflows.settled import Settled


@dataclass(frozen=True, slots=True)
class TrainingInputs:
    """Inputs to train on, and how they are varied."""

    inputs: Dataset
    varied: Variation | None


@dataclass(frozen=True, slots=True)
class TunedInt8:
    """A model in INT8 with trained weights, or as it was, what the record tells about it, and sentences for it."""

    model: QuantisedModel
    figures: Mapping[str, Any]
    warnings: tuple[str, ...]


def settle_int8(
    int8: Int8,
    case: Case,
    settled: Settled,
    tuned: TunedResult | None,
    lessons: TrainingInputs | None,
    judged: Dataset | None,
    planner: Planner,
) -> tuple[Settled, TunedResult | None]:
    """Make the rewritten model in INT8, train it on where it was trained in floating point, and settle for the best.

    Args:
        int8: what INT8 gives by itself.
        case: the original.
        settled: the rewritten model; ``tuned`` is what the record tells of its training, if it was trained.
        tuned: see ``settled``.
        lessons: what it was trained on.
        judged: as for ``choose``.
        planner: makes another plan, where one for INT8 is best without it and nothing was trained.

    Raises:
        SepconvertError: as ``choose`` and ``tune``.
    """
    with one_blas_thread(cores()):
        both = quantise_both(int8, case, settled)
    if both is not None and tuned is not None and lessons is not None and tuned.figures["steps"]:
        trained = tune_in_int8(case, int8.quantiser, both, lessons)
        both = trained.model
        figures = {**tuned.figures, "int8": dict(trained.figures)}
        tuned = replace(tuned, figures=figures, warnings=(*tuned.warnings, *trained.warnings))
    with one_blas_thread(cores()):
        chosen = choose(int8, case, settled, both, judged)
        if tuned is None and chosen.int8 is None and chosen.fit.rewritten:
            plain = planned_in_floats(case, planner, settled)
            if plain is not None:
                chosen = _better(case, chosen, partial(choose, int8, case, settled, both, judged, plain))
        return chosen, tuned


def _better(case: Case, known: Settled, choose_again: Callable[[], Settled]) -> Settled:
    """What is chosen with another rewrite, if it is that and serves the budget better."""
    try:
        found = choose_again()
    except NothingToDoError:
        return known
    return found if serves_better(case.request.budget, found, known) else known


def tune_in_int8(case: Case, quantiser: Quantiser, start: QuantisedModel, lessons: TrainingInputs) -> TunedInt8:
    """Train a model in INT8 on; the start is kept where that does not lower its error on held-out inputs.

    Args:
        case: the original.
        quantiser: judges models.
        start: the model to train.
        lessons: inputs to train on, of which a part is held out.

    Raises:
        SepconvertError: as ``sepconvert.pytorch.tuning.tune``.
    """
    from sepconvert.pytorch.tuning import NotTunableError, split, tune

    model, request = load_bytes(bytes(start.source.plain)), case.request
    rounding = rounding_of(model, start.opened.model)
    tuning = replace(tuning_of(request, lessons.varied), all_weights=True, rounding=rounding)
    progress = Subject(request.progress)
    progress.name = "INT8"
    try:
        tuned = tune(case.opened.model, model, (), lessons.inputs, tuning, progress)
    except NotTunableError as error:
        reason = f"Training with the rounding of INT8 was left out: {error}"
        return TunedInt8(start, {"steps": 0}, (reason,))
    made = _with_weights(start, tuned.model)
    heldout = split(lessons.inputs, request.seed)[1]
    before, after = (quantiser.error(one.opened, heldout) for one in (start, made))
    better = or_infinite(after) < or_infinite(before)
    figures = {**tuned.figures, "error_before": before, "error_after": after, "kept": "trained" if better else "start"}
    if not better:
        return TunedInt8(start, figures, tuned.warnings)
    return TunedInt8(replace(made, error=quantiser.error(made.opened, quantiser.checked)), figures, tuned.warnings)


def _with_weights(made: QuantisedModel, trained: LoadedModel) -> QuantisedModel:
    """The same layers in INT8 with the same ranges, and other weights."""
    source = replace(made.source, plain=runnable(trained))
    names = [node.name for node in source.nodes if made.left_outputs.isdisjoint(node.outputs)]
    return replace(made, source=source, opened=source.quantised(made.ranges, names), refitted=False)

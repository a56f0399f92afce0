"""Fold sums into pointwise layers, after whatever else a rewrite does."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sepconvert.errors import NothingToDoError, UsageError
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.count import count_totals
from sepconvert.graph.notation import is_full
from sepconvert.graph.residuals import Residual, find_residuals, fold_residuals, foldable
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.survey import Survey
from sepconvert.record import Fold, Note, Plan, SelfCheck
from sepconvert.verify.folds import check_folds
from sepconvert.workflows.fit import Applied
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.request import Request
from sepconvert.workflows.settled import Settled
from sepconvert.workflows.sources import ModelSource

REWRITTEN = "Its convolution was rewritten and has no weights of its own any more."
NO_FOLD = Note("--fold found no sum that folds into a pointwise convolution, so nothing was folded.")


def check_fold(request: Request, source: ModelSource) -> None:
    """Refuse a fold in a model whose additions are in a module's code.

    Raises:
        UsageError: the model is PyTorch's.
    """
    if request.planning.fold and source.torch is not None:
        raise UsageError(
            "--fold takes an addition out of the graph, but that of a PyTorch model is in its code; export it to ONNX "
            "(torch.onnx.export) and pass the file."
        )


def folds_of(opened: OpenedModel) -> list[Residual]:
    """The sums of a model that can be folded."""
    return list(foldable(find_residuals(opened.model, opened.shapes)))


def fold_alone(case: Case, nothing: NothingToDoError) -> Settled:
    """The original with its sums folded, where nothing else is to do and nobody asked for a budget.

    Raises:
        NothingToDoError: it is not wanted, or there is none either.
    """
    request, opened = case.request, case.opened
    wanted = request.planning.fold and (not case.sites or request.budget.by_default)
    if not wanted or not folds_of(opened):
        raise nothing
    unchanged = Applied(replace(opened, found=Survey((), ())), {}, {}, SelfCheck(0.0, 1.0, 0), {})
    return fold_settled(case, Settled((), NetworkFit({}), unchanged, Plan({})))


def fold_settled(case: Case, settled: Settled) -> Settled:
    """Fold what the rewrite has left, where asked; check it and count again. What was timed before says nothing then.

    Raises:
        VerificationError: a fold does not compute what it should: a bug.
    """
    if not case.request.planning.fold or settled.applied.folded:
        return settled
    before = settled.applied.opened
    sizes = {info.name: info.used_shape for info in case.opened.shapes.inputs if is_full(info.used_shape)}
    residuals = list(foldable(find_residuals(before.model, infer_shapes(before.model, sizes))))
    if not residuals:
        return replace(settled, fit=replace(settled.fit, warnings=(*settled.fit.warnings, NO_FOLD)))
    folded = fold_residuals(before.model, residuals)
    check = check_folds(before.model, folded, residuals, np.random.default_rng(case.request.seed))
    shapes = infer_shapes(folded, sizes)
    kept = {residual.product: residual.site.output for residual in residuals}
    own = [use.product for use in case.opened.found.uses if use.output not in settled.applied.emitted]
    emitted = [name for names in settled.applied.emitted.values() for name in names]
    totals = count_totals(folded, shapes, [kept.get(name, name) for name in (*own, *emitted)])
    opened = OpenedModel(folded, shapes, Survey((), ()), totals)
    applied = replace(
        settled.applied,
        opened=opened,
        self_check=_worse(settled.applied.self_check, check),
        folded=tuple(residual.product for residual in residuals),
    )
    return replace(settled, applied=applied, latency=(), int8=None)


def _worse(one: SelfCheck, other: SelfCheck) -> SelfCheck:
    worst = max(one, other, key=lambda check: check.max_relative / check.tolerance)
    return replace(worst, sites=one.sites + other.sites)


def with_folded(request: Request, folds: Sequence[Fold], folded: Sequence[str]) -> list[Fold]:
    """The folds of a record with what became of them."""
    if not request.planning.fold:
        return list(folds)
    done = [replace(fold, status="folded") if fold.output in folded else fold for fold in folds]
    return [replace(f, status="kept", reason=REWRITTEN) if f.status == "foldable" else f for f in done]

"""The main job: plan, fit, rewrite, verify, measure, save, record."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from sepconvert.data import Data, Dataset, input_values
from sepconvert.errors import interruption_says
from sepconvert.files import staged
from sepconvert.fitting.input_counts import inputs_needed
from sepconvert.progress import Asked, Progress, watched
from sepconvert.record import Record, TotalsPair
from sepconvert.report.advice import advise
from sepconvert.separable.threads import cores, one_blas_thread
from sepconvert.workflows.cluster import check_cluster
from sepconvert.workflows.describe import begin_record, with_measured, worst_error
from sepconvert.workflows.effort import first_answer, looked_at
from sepconvert.workflows.fine_tune import (
    CALIBRATION,
    check_tuning,
    forget,
    how_to_resume,
    resumable_from,
    training_variants,
    tune_settled,
)
from sepconvert.workflows.fit import describe_result, with_refit
from sepconvert.workflows.folding import check_fold, fold_settled, with_folded
from sepconvert.workflows.input_warnings import data_warnings, judged_by_fitted, range_warnings
from sepconvert.workflows.int8 import precision_of, prepare_int8, settle_with, with_precision
from sepconvert.workflows.keras_side import KerasSide
from sepconvert.workflows.keywords import check_keywords
from sepconvert.workflows.measure import check_metric, measure_fidelity, time_change
from sepconvert.workflows.meet_budget import MOST_FITS
from sepconvert.workflows.metrics import find_metric, refuse_fall, with_bound
from sepconvert.workflows.modules import module_side, sidecars, stage_with_modules, why_no_modules
from sepconvert.workflows.opened import Case, check_runs, naming, open_with_data, select_sites
from sepconvert.workflows.options import Budget, BudgetWords, FineTune, Measure, Planning, Reading
from sepconvert.workflows.outputs import Outputs, check_model_name
from sepconvert.workflows.overlay import latency_overlay
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.provenance import stamped
from sepconvert.workflows.request import Request
from sepconvert.workflows.result import RewriteResult
from sepconvert.workflows.ruin import refuse_ruin
from sepconvert.workflows.samples import picture_samples
from sepconvert.workflows.settled import Settled
from sepconvert.workflows.site_times import with_times
from sepconvert.workflows.sources import find_source
from sepconvert.workflows.time_by_stage import time_by_stage
from sepconvert.workflows.tune_int8 import TrainingInputs, settle_int8

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import Module


def rewrite(
    model: "Path | str | Module",
    output: Path | str | None = None,
    *,
    data: Data | None = None,
    test_data: Data | None = None,
    example_inputs: Any = None,
    form: str = "auto",
    fine_tune: FineTune | bool = False,
    reading: Reading = Reading(),
    planning: Planning = Planning(),
    measure: Measure = Measure(),
    outputs: Outputs = Outputs(),
    seed: int = 0,
    progress: Progress | bool = True,
    **budget: Unpack[BudgetWords],
) -> RewriteResult:
    """Rewrite the standard convolutions of a model as separable ones and record what was gained and lost.

    Args:
        model: path of an ONNX, ``.pt2`` or TorchScript file, ``pkg.module:factory``, or a live ``nn.Module``; it is
            never changed.
        output: where to write the result; None keeps it in memory (``RewriteResult.save`` writes it later).
        data: calibration inputs: an ``.npz``, an ``.npy``, a folder of images, ``pkg.module:callable``, or the inputs
            themselves: an array or tensor (N, …), a dict of them by input name, a ``DataLoader``, a dataset, a list or
            a generator of batches. What follows the inputs in a tuple, or is called ``y`` in a dict, are labels: class
            numbers (N,), or an array (N, …) or a dict of them, which the metric gets.
        test_data: inputs that fidelity is measured on, given likewise; default ``data``, else seeded random inputs.
        example_inputs: for a live module: a tensor, or tensors in the order of ``forward``'s arguments or by name.
        form: ``dw-pw``, ``pw-dw``, ``pw-dw-pw``, ``spatial``, ``conv-pw``, ``pw-conv-pw``, ``auto``
            (the depthwise forms) or ``any``.
        fine_tune: distil from the original after the rewrite, without labels if need be; True takes the defaults. The
            rewritten model in INT8 is then trained on with its rounding.
        reading: sizes of dynamic inputs, weights for a factory, and how integer arrays and images become inputs.
        planning: which sites, how their factors are made and written, where times come from.
        measure: latency, devices, threads.
        outputs: record and page to write beside the model.
        seed: seed of everything random.
        progress: True for a bar where somebody watches (a terminal, a notebook) and lines elsewhere, False for none, or
            what is called with the stage, steps done, and steps in all.
        budget: one of

            * ``macs``: MACs of the whole model, new/old; 0.5 if no budget is given, and no ``data`` or no times.
            * ``params``: parameters of the whole model, new/old.
            * ``speedup``: latency of the whole model, old/new, on the first device.
            * ``max_error``: largest relative error of the worst output on held-out inputs of ``data``, and as fast as
              that allows; 0.01 if no budget is given, but ``data``, and times are known.
            * ``rank``: a whole number (r or R), or a share in (0, 1) of each site's own MACs.

    Raises:
        UsageError: options that contradict each other.
        TypeError: a keyword that there is not; the message says which option object has it.
        NothingToDoError: no site can be rewritten below break-even, or the budget is out of reach.
        RuinedError: the result would be beyond use; ``Planning(allow_loss=True)`` returns it all the same.
        SepconvertError: the model, the data or the output is not usable; the message says what to do.

    Example:
        >>> import sepconvert
        >>> quick = sepconvert.Measure(latency=False)
        >>> result = sepconvert.rewrite("sample_models/fashion_resnet.onnx", macs=0.4, measure=quick)
        >>> totals = result.record.totals
        >>> totals.after.macs / totals.before.macs <= 0.4
        True
        >>> result.save("small.onnx").bytes < totals.before.file_bytes
        True
    """
    check_keywords(budget)
    tuning = FineTune() if fine_tune is True else fine_tune or None
    judged = data is not None and planning.init != "random"
    wanted = Budget.of(budget, judged=judged, max_drop=planning.max_drop)
    knows_times = measure.latency or planning.latency_table is not None
    fits = MOST_FITS.get(wanted.name, 1) if knows_times or not wanted.by_default else 1
    asked = Asked(planning.quick, tuning is not None, planning.int8, fits)
    with watched(progress, asked) as tell:
        request = Request(
            model=model,
            output=None if output is None else Path(output),
            data=data,
            test_data=test_data,
            example_inputs=example_inputs,
            form=form,
            budget=wanted,
            fine_tune=tuning,
            reading=reading,
            planning=planning,
            measure=measure,
            outputs=outputs,
            seed=seed,
            progress=tell,
        )
        with interruption_says(partial(how_to_resume, request)):
            return _run(request)


def _run(request: Request) -> RewriteResult:
    start = perf_counter()
    reading, planning, outputs, destination = request.reading, request.planning, request.outputs, request.output
    source = find_source(
        request.model, weights=reading.weights, weights_key=reading.weights_key, example_inputs=request.example_inputs
    )
    if destination is not None:
        check_model_name(destination)
    written = [] if destination is None else [destination, *sidecars(source, destination)]
    outputs.check(*source.files, also=written)
    request.measure.check()
    check_cluster(request.planning.cluster)
    check_tuning(request)
    check_fold(request, source)
    named = [request.data, request.training_data, request.test_data]
    opened, (calibration, training, test) = open_with_data(source, request, named, [*written, *outputs.paths()])
    check_runs(opened)
    varied = None
    if training is not None:
        varied = training_variants(request, training, opened)
        calibration = calibration or training.sample(CALIBRATION, np.random.default_rng(request.seed))
    given, sample = calibration, calibration or test
    calibration, test = looked_at(request, given, test, opened.totals.macs)
    judging = [test or calibration, *([calibration] if request.budget.name == "max_drop" else [])]
    with naming(source.name):
        check_metric(opened, request, [dataset for dataset in judging if dataset is not None])
    chosen, kept = select_sites(opened.found.sites, planning.include, planning.exclude)
    case = Case(request, opened, chosen, calibration, sample)
    with naming(source.name), one_blas_thread(cores()):
        int8 = prepare_int8(case) if planning.int8 else None
        planner = Planner(case, int8 if int8 is not None and int8.planned else None)
        planner.add_seconds({} if int8 is None else {"int8": int8.seconds})
        settled = settle_with(int8, case, planner)
    with naming(source.name):
        tuned = None
        if training is not None:
            tuned = tune_settled(case, settled, training, varied, test or calibration)
            settled = tuned.settled
        settled = fold_settled(case, settled)
        if int8 is not None:
            lessons = None if training is None else TrainingInputs(training, varied)
            with planner.timed("int8"):
                settled, tuned = settle_int8(int8, case, settled, tuned, lessons, test or calibration, planner)
        record = _record(case, settled, kept, test)
    if calibration is not None and (planning.init != "random" or tuned is not None):
        record = record if test is not None else judged_by_fitted(record, calibration.count)
        assert record.fidelity is not None
        resumable = tuned is not None and resumable_from(destination)
        refuse_ruin(planner, worst_error(record.fidelity), record.fidelity.data, resumable)
    refuse_fall(record.fidelity, allowed=planning.allow_loss)
    record = replace(
        record,
        seconds=time_by_stage(planner.seconds, start, None if tuned is None else tuned.figures),
        fine_tune=None if tuned is None else dict(tuned.figures),
        inputs_given=None if given is None else given.count,
    )
    learned = () if tuned is None else tuned.warnings
    quick = (first_answer(request, calibration, test),) if planning.quick else ()
    record = record.telling([*quick, *planner.warnings, *learned, *data_warnings(calibration, test, training)])
    steps = 0 if tuned is None else tuned.figures["steps"]
    result = stamped(settled.judged.model, request, record.source, record.fidelity, record.sites, steps)
    modules = None if settled.int8 is not None else module_side(source, opened, settled.applied)
    with staged() as stage:
        if destination is not None:
            file = stage_with_modules(stage, result, modules, destination, force=outputs.force)
            after = replace(settled.judged.totals, file_bytes=file.bytes)
            record = replace(record, output=file, totals=TotalsPair(opened.totals, after))
        record = replace(record, overlay=latency_overlay(record.sites, opened.model, result))
        record = replace(record, advice=advise(record))
        outputs.stage(stage, record)
    forget(destination)
    in_int8 = settled.int8 is not None
    keras = None if in_int8 else KerasSide(opened.model, settled.applied, settled.fit.dense)
    return RewriteResult(record, result, destination, modules, why_no_modules(source, int8=in_int8), keras)


def _record(case: Case, settled: Settled, unchosen: Mapping[str, str], test: Dataset | None) -> Record:
    """Measure the result and tell all about it but where it was written.

    Args:
        case: the original, and how it was to be rewritten.
        settled: the result.
        unchosen: sites that nobody wanted rewritten, and why, by output.
        test: inputs to judge on; None for the calibration inputs, or random ones where there are none.
    """
    request, opened, result = case.request, case.opened, settled.judged
    quick = request.planning.quick
    judged = test or case.calibration
    kept = {**unchosen, **settled.kept, **settled.fit.kept}
    kept |= {plan.site.output: plan.reason for plan in settled.plans if plan.reason is not None}
    metric = find_metric(request.measure.metric)
    fidelity, warnings = measure_fidelity(opened, result, judged, request.seed, request.progress, metric)
    fidelity = with_bound(fidelity, request.planning.max_drop)
    values = input_values(judged)
    latency = list(settled.latency)
    if request.measure.latency and not latency:
        latency = time_change(case, result)
    described = [
        replace(
            describe_result(opened, site, settled.applied, kept.get(site.output), request.forms),
            precision=precision_of(site, settled),
        )
        for site in opened.found.sites
    ]
    rewritten = [site for site in opened.found.sites if site.output in settled.applied.fitted]
    record = begin_record("rewrite", request, opened, with_times(described, settled.sites))
    refitted = {new.site.product for new in settled.fit.dense.values()}
    return replace(
        record,
        skipped=[with_precision(with_refit(skip, refitted), settled) for skip in opened.found.skips],
        totals=TotalsPair(opened.totals, result.totals),
        fidelity=fidelity,
        latency=latency,
        plan=with_measured(settled.plan, latency, fidelity),
        self_check=settled.applied.self_check if settled.applied.self_check.sites else None,
        integer_check=None if settled.int8 is None else settled.int8.check,
        folds=with_folded(request, record.folds, settled.applied.folded),
        samples=picture_samples(opened, result, judged, fidelity, request.reading),
        # A first answer looks at few inputs, however many there are.
        inputs_needed=max(map(inputs_needed, rewritten), default=None) if case.calibration and not quick else None,
        input_values=values,
    ).telling([*settled.fit.warnings, *settled.warnings, *warnings, *range_warnings(opened, judged, values)])

"""The Pareto front of measured speed-up against fidelity: many budgets, one profile, one table of times."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from sepconvert.data import Data, input_values
from sepconvert.errors import NothingToDoError, UsageError, interruption_says
from sepconvert.files import folder_made, staged
from sepconvert.planning.latency_table import table_to_json
from sepconvert.progress import Asked, Progress, Subject, watched
from sepconvert.record import Record, Sweep, SweepPoint
from sepconvert.report.advice import advise
from sepconvert.separable.threads import cores, one_blas_thread
from sepconvert.workflows.cluster import check_cluster
from sepconvert.workflows.describe import begin_record, describe_sites
from sepconvert.workflows.effort import first_answer, looked_at
from sepconvert.workflows.input_warnings import data_warnings, judged_by_fitted, range_warnings
from sepconvert.workflows.int8 import prepare_int8
from sepconvert.workflows.measure import check_metric
from sepconvert.workflows.opened import Case, check_runs, naming, open_with_data, select_sites
from sepconvert.workflows.options import Budget, Measure, Planning, Reading
from sepconvert.workflows.outputs import Outputs
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.request import Request
from sepconvert.workflows.site_times import with_times
from sepconvert.workflows.sources import find_source
from sepconvert.workflows.sweeper import Shelf, Sweeper
from sepconvert.workflows.time_by_stage import time_by_stage

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import Module

BUDGETS = (1.5, 2.0, 3.0)


def sweep(
    model: "Path | str | Module",
    *,
    data: Data,
    test_data: Data | None = None,
    example_inputs: Any = None,
    form: str = "auto",
    budgets: Sequence[float] = BUDGETS,
    output: Path | str | None = None,
    export_table: Path | str | None = None,
    reading: Reading = Reading(),
    planning: Planning = Planning(),
    measure: Measure = Measure(),
    outputs: Outputs = Outputs(),
    seed: int = 0,
    progress: Progress | bool = True,
) -> Record:
    """Rewrite a model under several speed-ups and measure what each costs and loses, beside simpler methods.

    The simpler methods are the same plan made and filled without data, and every form at one share of each site's
    multiply-adds, fitted to the data and chosen to be as fast.

    Args:
        model: path of an ONNX, ``.pt2`` or TorchScript file, ``pkg.module:factory``, or a live ``nn.Module``.
        data: calibration inputs, as for ``rewrite``.
        test_data: inputs that fidelity is measured on; default ``data``.
        example_inputs: for a live module: a tensor, or tensors in the order of ``forward``'s arguments or by name.
        form: ``dw-pw``, ``pw-dw``, ``pw-dw-pw``, ``spatial``, ``conv-pw``, ``pw-conv-pw``, ``auto`` or ``any``.
        budgets: speed-ups of the whole model (latency, old/new), each above 1.
        output: a folder for the models, one for each budget (``<stem>.2x.sep.onnx``), made if it is not there; each is
            written when it is ready. Without it none is.
        export_table: where to write the times of sites, for use on a machine that cannot measure them.
        reading: sizes of dynamic inputs, weights for a factory, and how integer arrays and images become inputs.
        planning: which sites, how they are written, a latency table from elsewhere, the cache, parallel jobs.
        measure: devices and threads; the first device is measured. Latency is what a sweep is about: without it the
            speed-ups are unknown.
        outputs: record and page to write.
        seed: seed of everything random.
        progress: True for a bar where somebody watches (a terminal, a notebook) and lines elsewhere, False for none, or
            what is called with the stage, steps done, and steps in all.

    Returns:
        A record whose ``sweep`` holds a point per budget and the simpler methods' points: relative error, latency in
        ms, MACs, and the command that makes the model.

    Raises:
        UsageError: no budget, or one that is no speed-up.
        NothingToDoError: no site, or none of the budgets can be reached.
        SepconvertError: model, data or outputs are not usable; the message says what to do.

    Example:
        >>> import sepconvert
        >>> record = sepconvert.sweep(
        ...     "sample_models/fashion_vgg.onnx",
        ...     data="sample_models/fashion_test.npz",
        ...     form="spatial",
        ...     budgets=[1.5],
        ...     planning=sepconvert.Planning(cache=False),
        ...     measure=sepconvert.Measure(latency=False),  # quick, but no speed-up is measured
        ... )
        >>> [point.label for point in record.sweep.points]
        ['1.5×']
    """
    if not budgets:
        raise UsageError("--budgets is empty; give speed-ups above 1, for example 1.5,2,3.")
    asked = [Budget("speedup", budget) for budget in budgets]
    with watched(progress, Asked(planning.quick, int8=planning.int8)) as tell:
        subject = Subject(tell)
        request = Request(
            model=model,
            output=None if output is None else Path(output),
            data=data,
            test_data=test_data,
            example_inputs=example_inputs,
            form=form,
            budget=asked[0],
            reading=reading,
            planning=planning,
            measure=measure,
            outputs=outputs,
            seed=seed,
            progress=subject,
        )
        with folder_made(request.output):
            return _run(request, subject, budgets, None if export_table is None else Path(export_table))


def _run(request: Request, subject: Subject, budgets: Sequence[float], table: Path | None) -> Record:
    start = perf_counter()
    reading, planning, measure, outputs = request.reading, request.planning, request.measure, request.outputs
    source = find_source(
        request.model, weights=reading.weights, weights_key=reading.weights_key, example_inputs=request.example_inputs
    )
    if table is not None and planning.quick:
        raise UsageError(
            "--export-table and --quick contradict: times of a first answer are taken for a moment, not to be kept; "
            "leave one of them away."
        )
    tables = [] if table is None else [table]
    shelf = Shelf(source, request.output)
    written = [*tables, *shelf.files(budgets)]
    outputs.check(*source.files, also=written)
    measure.check()
    check_cluster(planning.cluster)
    opened, (calibration, test) = open_with_data(
        source, request, [request.data, request.test_data], [*written, *outputs.paths()]
    )
    check_runs(opened)
    assert calibration is not None
    sample = calibration
    calibration, test = looked_at(request, calibration, test, opened.totals.macs)
    assert calibration is not None
    with naming(source.name):
        check_metric(opened, request, [test or calibration])
    chosen, kept = select_sites(opened.found.sites, planning.include, planning.exclude)
    if not chosen:
        raise NothingToDoError(f"{source.name} has no site that may be rewritten; there is nothing to sweep.")
    case = Case(request, opened, chosen, calibration, sample)
    judged = test or calibration
    with naming(source.name), one_blas_thread(cores()):
        hardest = replace(case, request=replace(request, budget=Budget("speedup", max(budgets))))
        int8 = prepare_int8(hardest) if planning.int8 else None
        planner = Planner(case, int8 if int8 is not None and int8.planned else None)
        planner.add_seconds({} if int8 is None else {"int8": int8.seconds})
        _ = planner.choices_by_latency  # which all budgets share
        sweeper = Sweeper(planner, judged, shelf, subject)
        with interruption_says(lambda: _so_far(request, sweeper.written, len(budgets))):
            points, refused = sweeper.budgets(budgets)
            if not points:
                raise NothingToDoError(refused[-1])
            baselines = [] if int8 is None else [sweeper.alone(int8)]
            baselines += [*sweeper.without_data(budgets), *sweeper.uniform(budgets)] if measure.latency else []
    subject.name = ""
    values = input_values(judged)
    record = replace(
        begin_record("sweep", request, opened, with_times(describe_sites(opened, kept), sweeper.best_sites)),
        sweep=Sweep(mark_front(points), baselines, measure.devices[0], sweeper.top1_before),
        seconds=time_by_stage(planner.seconds, start),
        input_values=values,
    ).telling(
        [
            *((first_answer(request, calibration, test),) if planning.quick else ()),
            *planner.warnings,
            *(() if int8 is None else int8.warnings),
            *refused,
            *data_warnings(calibration, test),
            *sweeper.warnings,
            *range_warnings(opened, judged, values),
        ]
    )
    record = record if test is not None else judged_by_fitted(record, calibration.count)
    record = replace(record, advice=advise(record))
    with staged() as stage:
        if table is not None:
            stage.write(table, table_to_json(planner.table()))
        outputs.stage(stage, record)
    return record


def _so_far(request: Request, written: int, budgets: int) -> str | None:
    """Say what an interrupted sweep has written; None where that is nothing."""
    if not written:
        return None
    done = f"Interrupted; {written} of {budgets} budgets done and written to {request.output}"
    again = ": the same command with --force takes profile and times from the cache" if request.planning.cache else ""
    return f"{done}{again}."


def mark_front(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Mark the points that no other one beats; a point without speed-up or error is never marked."""
    return [
        replace(
            point,
            on_front=None not in (point.speedup, point.error) and not any(other.beats(point) for other in points),
        )
        for point in points
    ]

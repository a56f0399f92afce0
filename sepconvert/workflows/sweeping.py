"""The Pareto front of measured speed-up against fidelity: many budgets, one profile, one table of times."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepconvert.data import Data, Dataset, input_values
from sepconvert.errors import NothingToDoError, UsageError
from sepconvert.files import staged
from sepconvert.fitting.results import SitePlan
from sepconvert.graph.save import file_size
from sepconvert.planning.latency_table import table_to_json
from sepconvert.planning.plans import NetworkPlan, PlannedSite
from sepconvert.progress import Progress, watched
from sepconvert.record import Record, Sweep, SweepPoint
from sepconvert.record.ruin import ruins
from sepconvert.separable.forms import cli_name
from sepconvert.separable.threads import one_blas_thread
from sepconvert.workflows.cluster import check_cluster
from sepconvert.workflows.commands import rewrite_command
from sepconvert.workflows.describe import begin_record, describe_sites, worst_error
from sepconvert.workflows.fit import apply_fits, fit_plans
from sepconvert.workflows.input_warnings import data_warnings, range_warnings
from sepconvert.workflows.int8 import prepare_int8
from sepconvert.workflows.measure import measure_fidelity, measure_latency
from sepconvert.workflows.metrics import find_metric
from sepconvert.workflows.opened import Case, OpenedModel, check_runs, naming, open_with_data, select_sites
from sepconvert.workflows.options import Budget, Measure, Planning, Reading
from sepconvert.workflows.outputs import Outputs
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.quantiser import Int8
from sepconvert.workflows.request import Request
from sepconvert.workflows.site_times import with_times
from sepconvert.workflows.sources import find_source
from sepconvert.workflows.uniform_curve import UniformCurve, share_label

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
    multiply-adds, fitted to the data and chosen to be as fast. Nothing but the record (and the table) is written.

    Args:
        model: path of an ONNX, ``.pt2`` or TorchScript file, ``pkg.module:factory``, or a live ``nn.Module``.
        data: calibration inputs, as for ``rewrite``.
        test_data: inputs that fidelity is measured on; default ``data``.
        example_inputs: for a live module: a tensor, or tensors in the order of ``forward``'s arguments or by name.
        form: ``dw-pw``, ``pw-dw``, ``pw-dw-pw``, ``spatial``, ``conv-pw``, ``pw-conv-pw``, ``auto`` or ``any``.
        budgets: speed-ups of the whole model (latency, old/new), each above 1.
        export_table: where to write the times of sites, for use on a machine that cannot measure them.
        reading: sizes of dynamic inputs, weights for a factory, and how integer arrays and images become inputs.
        planning: which sites, how they are written, a latency table from elsewhere, the cache, parallel jobs.
        measure: devices and threads; the first device is measured. Latency is what a sweep is about: without it the
            speed-ups are unknown.
        outputs: record and page to write.
        seed: seed of everything random.
        progress: True for a bar where somebody watches (a terminal, a notebook), False for none, or what is called
            with the stage, steps done, and steps in all.

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
    with watched(progress) as tell:
        request = Request(
            model=model,
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
            progress=tell,
        )
        return _run(request, budgets, None if export_table is None else Path(export_table))


def _run(request: Request, budgets: Sequence[float], table: Path | None) -> Record:
    reading, planning, measure, outputs = request.reading, request.planning, request.measure, request.outputs
    source = find_source(
        request.model, weights=reading.weights, weights_key=reading.weights_key, example_inputs=request.example_inputs
    )
    tables = [] if table is None else [table]
    outputs.check(*source.files, also=tables)
    measure.check()
    check_cluster(planning.cluster)
    opened, (calibration, test) = open_with_data(
        source, request, [request.data, request.test_data], [*tables, *outputs.paths()]
    )
    check_runs(opened)
    assert calibration is not None
    chosen, kept = select_sites(opened.found.sites, planning.include, planning.exclude)
    if not chosen:
        raise NothingToDoError(f"{source.name} has no site that may be rewritten; there is nothing to sweep.")
    case = Case(request, opened, chosen, calibration, calibration)
    with naming(source.name), one_blas_thread():
        hardest = replace(case, request=replace(request, budget=Budget("speedup", max(budgets))))
        int8 = prepare_int8(hardest) if planning.int8 else None
        planner = Planner(case, int8 if int8 is not None and int8.planned else None)
        trial = _Trial(planner, test or calibration)
        points, refused = trial.budgets(budgets)
        if not points:
            raise NothingToDoError(refused[-1])
        baselines = [] if int8 is None else [trial.alone(int8)]
        baselines += [*trial.without_data(budgets), *trial.uniform(budgets)] if measure.latency else []
        times = table_to_json(planner.table()) if table is not None else ""
        sites = with_times(describe_sites(opened, kept), trial.best_sites)
    values = input_values(test or calibration)
    record = begin_record("sweep", request, opened, sites)
    record = replace(
        record,
        sweep=Sweep(mark_front(points), baselines, measure.devices[0], trial.top1_before),
        seconds=dict(planner.seconds),
        input_values=values,
    ).telling(
        [
            *planner.warnings,
            *(() if int8 is None else int8.warnings),
            *refused,
            *data_warnings(calibration, test),
            *trial.warnings,
            *range_warnings(opened, test or calibration, values),
        ]
    )
    with staged() as stage:
        if table is not None:
            stage.write(table, times)
        outputs.stage(stage, record)
    return record


def mark_front(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Mark the points that no other one beats; a point without speed-up or error is never marked."""
    return [
        replace(
            point,
            on_front=None not in (point.speedup, point.error) and not any(other.beats(point) for other in points),
        )
        for point in points
    ]


def _with_predictions(point: SweepPoint, network: NetworkPlan) -> SweepPoint:
    """Add what the plan expected of the whole model."""
    predicted = network.predicted
    return replace(point, predicted_speedup=predicted["speedup"], predicted_error=predicted["damage"])


class _Trial:
    """Makes and measures the models of a sweep, one at a time."""

    def __init__(self, planner: Planner, test: Dataset) -> None:
        self._planner = planner
        self._request = planner.case.request
        self._test = test
        self.best_sites: tuple[PlannedSite, ...] = ()
        self.top1_before: float | None = None
        self.warnings: list[str] = []

    def budgets(self, budgets: Sequence[float]) -> tuple[list[SweepPoint], list[str]]:
        """One planned model per budget; sentences for the budgets that are out of reach."""
        points, refused = [], []
        for budget in budgets:
            try:
                network = self._planner.by_speedup(budget)
            except NothingToDoError as error:
                refused.append(str(error))
                continue
            self.best_sites = self.best_sites or network.sites
            command = rewrite_command(replace(self._request, budget=Budget("speedup", budget)))
            point = self._point(self._planner, network.site_plans, f"{budget:g}×", self._request.form, command)
            if point is not None:
                points.append(_with_predictions(point, network))
        return points, refused

    def without_data(self, budgets: Sequence[float]) -> list[SweepPoint]:
        """The same budgets, planned and filled by the weights alone."""
        blind = self._planner.without_data()
        points = []
        for budget in budgets:
            try:
                plans = blind.by_speedup(budget).site_plans
            except NothingToDoError:
                continue
            points.append(self._point(blind, plans, f"without data, {budget:g}×", self._request.form, None))
        return [point for point in points if point is not None]

    def uniform(self, budgets: Sequence[float]) -> list[SweepPoint]:
        """Every form at one share of each site's multiply-adds, as fast as the budgets case."""
        points = []
        for form in self._planner.case.request.forms:
            curve = UniformCurve(self._planner, form)
            for budget in budgets:
                found = curve.plans(budget)
                if found is None:
                    continue
                share, plans = found
                name, rank = cli_name(form), Budget("rank", float(f"{share:.3g}"))
                command = rewrite_command(replace(self._request, form=name, budget=rank))
                points.append(self._point(self._planner, plans, share_label(form, share), name, command))
        return [point for point in points if point is not None]

    def _point(
        self, planner: Planner, plans: Sequence[SitePlan], label: str, form: str, command: str | None
    ) -> SweepPoint | None:
        """Fit, apply and measure; None where no site was rewritten."""
        case, request = planner.case, self._request
        fit = fit_plans(case, plans)
        if not fit.rewritten:
            return None
        applied = apply_fits(case.opened, fit, request.seed)
        quantised = planner.in_int8(fit, applied)
        self._planner.add_seconds(fit.seconds)
        known = SweepPoint(label, None, None, None, None, None, None, sites_rewritten=len(fit.rewritten), form=form)
        return self._measured(
            applied.opened if quantised is None else quantised.opened, replace(known, command=command)
        )

    def alone(self, int8: Int8) -> SweepPoint:
        """The original in INT8."""
        return self._measured(
            int8.alone.opened, SweepPoint("INT8 alone", None, None, None, None, None, None, sites_rewritten=0)
        )

    def _measured(self, after: OpenedModel, point: SweepPoint) -> SweepPoint:
        """Measure a model, and add what it gives to what is known of it."""
        case, request = self._planner.case, self._request
        metric = find_metric(request.measure.metric)
        fidelity, self.warnings = measure_fidelity(
            case.opened, after, self._test, request.seed, request.progress, metric
        )
        self.top1_before = fidelity.top1_before if fidelity is not None else None
        timed = None
        if request.measure.latency:
            first = replace(request.measure, devices=request.measure.devices[:1])
            (timed,) = measure_latency(case.opened, after, case.sample, first, request.seed, request.progress)
        error, command = worst_error(fidelity), point.command
        if command is not None and ruins(error):
            command += " --allow-loss"
        return replace(
            point,
            macs=after.totals.macs,
            params=after.totals.params,
            latency_ms=timed.after.median_ms if timed is not None and timed.after is not None else None,
            speedup=timed.speedup if timed is not None else None,
            speedup_ci95=timed.speedup_ci95 if timed is not None else None,
            error=error,
            top1=fidelity.top1_after if fidelity is not None else None,
            metric=fidelity.metric if fidelity is not None else None,
            stable=timed.stable if timed is not None else None,
            scatter=timed.scatter if timed is not None else None,
            file_bytes=file_size(after.model),
            command=command,
        )

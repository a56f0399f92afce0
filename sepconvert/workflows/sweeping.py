"""The Pareto front of measured speed-up against fidelity: many budgets, one profile, one table of times."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepconvert.data import Dataset, Preprocess
from sepconvert.errors import NothingToDoError, UsageError
from sepconvert.graph.save import model_bytes
from sepconvert.planning.latency_table import table_to_json
from sepconvert.planning.plans import NetworkPlan, PlannedSite
from sepconvert.planning.uniform import SitePlan
from sepconvert.progress import Progress, silent
from sepconvert.record import Record, Sweep, SweepPoint, TotalsPair
from sepconvert.runtime.environment import describe_environment
from sepconvert.separable.forms import cli_name
from sepconvert.separable.threads import one_blas_thread
from sepconvert.workflows.case import Case
from sepconvert.workflows.commands import Given
from sepconvert.workflows.describe import describe_forms, describe_network, describe_site, tool
from sepconvert.workflows.fit import fit_plans
from sepconvert.workflows.measure import measure_fidelity, measure_latency
from sepconvert.workflows.model_and_data import data_warnings, open_with_data
from sepconvert.workflows.opened import naming, select_sites
from sepconvert.workflows.options import Measure, Planning, Target
from sepconvert.workflows.outputs import Outputs, check_target, write_text
from sepconvert.workflows.plan_record import worst_error
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.site_times import with_times
from sepconvert.workflows.sources import find_source
from sepconvert.workflows.uniform_curve import UniformCurve, share_label
from sepconvert.workflows.write_factors import apply_fits

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import Module

BUDGETS = (1.5, 2.0, 3.0)


def sweep(
    model: "Path | str | Module",
    *,
    data: str,
    test_data: str | None = None,
    form: str = "auto",
    budgets: Sequence[float] = BUDGETS,
    export_table: Path | None = None,
    preprocess: Preprocess = Preprocess(),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    weights: Path | str | None = None,
    example_inputs: Any = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    measure: Measure = Measure(),
    planning: Planning = Planning(),
    outputs: Outputs = Outputs(),
    seed: int = 0,
    progress: Progress = silent,
) -> Record:
    """Rewrite a model under several speed-ups and measure what each costs and loses, beside simpler methods.

    The simpler methods are the same plan made and filled without data, and every form at one share of each site's
    multiply-adds, fitted to the data and chosen to be as fast. Nothing but the record (and the table) is written.

    Args:
        model: path of an ONNX, ``.pt2`` or TorchScript file, ``pkg.module:factory``, or a live ``nn.Module``.
        data: calibration inputs.
        test_data: inputs that fidelity is measured on; default ``data``.
        form: ``dw-pw``, ``pw-dw``, ``pw-dw-pw``, ``spatial``, ``auto`` or ``any``.
        budgets: speed-ups of the whole model, each above 1.
        export_table: where to write the times of sites, for use on a machine that cannot measure them.
        preprocess: how integer arrays and images become inputs.
        input_shapes: sizes of dynamic inputs, by input name.
        weights: a state_dict (``.pt`` or ``.safetensors``) for the module of ``pkg.module:factory``.
        example_inputs: for a live module: a tensor, or tensors in the order of ``forward``'s arguments or by name.
        include: globs; sites that match none of them are kept.
        exclude: globs; sites that match are kept.
        measure: devices and threads; the first device is measured. Latency is what a sweep is about: without it the
            speed-ups are unknown.
        planning: a latency table from elsewhere, the cache of latencies, parallel jobs.
        outputs: record and page to write.
        seed: seed of everything random.
        progress: told of every step that takes a while.

    Raises:
        UsageError: no budget, or one that is no speed-up.
        NothingToDoError: no site, or none of the budgets can be reached.
        SepconvertError: model, data or outputs are not usable; the message says what to do.
    """
    if not budgets:
        raise UsageError("--budgets is empty; give speed-ups above 1, for example 1.5,2,3.")
    targets = [Target(form=form, speedup=budget) for budget in budgets]
    source = find_source(model, weights=weights, example_inputs=example_inputs)
    outputs.check(*source.files, *([] if export_table is None else [export_table]))
    measure.check()
    if export_table is not None:
        check_target(export_table, force=outputs.force)
    opened, (calibration, test) = open_with_data(source, input_shapes, [data, test_data], preprocess)
    assert calibration is not None
    chosen, kept = select_sites(opened.found.sites, include, exclude)
    if not chosen:
        raise NothingToDoError(f"{source.name} has no site that may be rewritten; there is nothing to sweep.")
    planner = Planner(Case(opened, chosen, targets[0], calibration, calibration, measure, planning, seed, progress))
    given = Given(model, data, test_data, preprocess, input_shapes, weights, include, exclude, measure, seed)
    trial = _Trial(planner, test or calibration, given)
    with naming(source.name), one_blas_thread():
        points, refused = trial.budgets(budgets)
        if not points:
            raise NothingToDoError(refused[-1])
        baselines = [*trial.without_data(budgets), *trial.uniform(budgets)] if measure.latency else []
        table = table_to_json(planner.table()) if export_table is not None else ""
        described = [
            describe_site(opened.model, s, status="kept" if s.output in kept else "eligible", reason=kept.get(s.output))
            for s in opened.found.sites
        ]
    sites = with_times(described, trial.best_sites)
    record = Record(
        command="sweep",
        arguments=list(outputs.arguments),
        environment=describe_environment(measure.threads, measure.devices),
        source=opened.file,
        inputs=list(opened.shapes.inputs),
        sites=sites,
        skipped=list(opened.found.skips),
        totals=TotalsPair(opened.totals),
        tool=tool(),
        forms=describe_forms(),
        sweep=Sweep(mark_front(points), baselines, measure.devices[0], trial.top1_before),
        graph=describe_network(opened, sites),
        seconds=dict(planner.seconds),
        warnings=[*opened.shapes.warnings, *planner.warnings, *refused, *data_warnings(calibration, test)],
    )
    if export_table is not None:
        write_text(export_table, table)
    outputs.write(record)
    return record


def mark_front(points: Sequence[SweepPoint]) -> list[SweepPoint]:
    """Mark the points that no other one beats in both speed-up and error; a point without either is never marked."""
    return [replace(point, on_front=_on_front(point, points)) for point in points]


def _on_front(point: SweepPoint, points: Sequence[SweepPoint]) -> bool:
    if point.speedup is None or point.error is None:
        return False
    for other in points:
        if other.speedup is None or other.error is None:
            continue
        no_worse = other.speedup >= point.speedup and other.error <= point.error
        if no_worse and (other.speedup > point.speedup or other.error < point.error):
            return False
    return True


def _with_predictions(point: SweepPoint, network: NetworkPlan) -> SweepPoint:
    """Add what the plan expected of the whole model."""
    predicted = network.predicted
    return replace(point, predicted_speedup=predicted["speedup"], predicted_error=predicted["damage"])


class _Trial:
    """Makes and measures the models of a sweep, one at a time."""

    def __init__(self, planner: Planner, test: Dataset, given: Given) -> None:
        self._planner = planner
        self._test = test
        self._given = given
        self.best_sites: tuple[PlannedSite, ...] = ()
        self.top1_before: float | None = None

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
            form = self._planner.case.target.form
            command = self._given.rewrite(form, "speedup", f"{budget:g}")
            point = self._point(self._planner, network.site_plans, f"{budget:g}×", form, command)
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
            points.append(self._point(blind, plans, f"without data, {budget:g}×", blind.case.target.form, None))
        return [point for point in points if point is not None]

    def uniform(self, budgets: Sequence[float]) -> list[SweepPoint]:
        """Every form at one share of each site's multiply-adds, as fast as the budgets case."""
        points = []
        for form in self._planner.case.target.forms:
            curve = UniformCurve(self._planner, form)
            for budget in budgets:
                found = curve.plans(budget)
                if found is None:
                    continue
                share, plans = found
                command = self._given.rewrite(cli_name(form), "rank", f"{share:.3g}")
                points.append(self._point(self._planner, plans, share_label(form, share), cli_name(form), command))
        return [point for point in points if point is not None]

    def _point(
        self, planner: Planner, plans: Sequence[SitePlan], label: str, form: str, command: Sequence[str] | None
    ) -> SweepPoint | None:
        """Fit, apply and measure; None where no site was rewritten."""
        case = planner.case
        fits = fit_plans(
            case.opened.model, plans, case.calibration, case.target, seed=case.seed, progress=case.progress
        )
        if not fits.rewritten:
            return None
        after = apply_fits(case.opened, fits, case.seed).opened
        fidelity, _ = measure_fidelity(case.opened, after, self._test, case.seed, case.progress)
        self.top1_before = fidelity.top1_before if fidelity is not None else None
        first = replace(case.measure, devices=case.measure.devices[:1])
        latency = (
            measure_latency(case.opened, after, case.sample, first, case.seed, case.progress)
            if case.measure.latency
            else []
        )
        timed = latency[0] if latency else None
        self._planner.add_seconds(fits.seconds)
        return SweepPoint(
            label=label,
            macs=after.totals.macs,
            params=after.totals.params,
            latency_ms=timed.after.median_ms if timed is not None and timed.after is not None else None,
            speedup=timed.speedup if timed is not None else None,
            speedup_ci95=timed.speedup_ci95 if timed is not None else None,
            error=worst_error(fidelity),
            top1=fidelity.top1_after if fidelity is not None else None,
            stable=timed.stable if timed is not None else None,
            sites_rewritten=len(fits.rewritten),
            file_bytes=len(model_bytes(after.model)),
            form=form,
            command=None if command is None else shlex.join(command),
        )

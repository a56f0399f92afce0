"""Makes and measures the models of a sweep, one at a time."""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sepconvert.data import Dataset
from sepconvert.errors import NothingToDoError
from sepconvert.files import staged
from sepconvert.fitting.results import SitePlan
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import file_size
from sepconvert.planning.plans import NetworkPlan, PlannedSite
from sepconvert.progress import Subject
from sepconvert.record import Fidelity, SweepPoint
from sepconvert.record.ruin import ruins
from sepconvert.separable.forms import cli_name
from sepconvert.workflows.commands import rewrite_command
from sepconvert.workflows.describe import worst_error
from sepconvert.workflows.fit import Applied, apply_fits, fit_plans
from sepconvert.workflows.measure import Evaluator, time_change
from sepconvert.workflows.metrics import find_metric
from sepconvert.workflows.modules import module_side, sidecars, stage_with_modules
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.options import Budget
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.provenance import stamped
from sepconvert.workflows.quantiser import Int8
from sepconvert.workflows.sources import ModelSource
from sepconvert.workflows.uniform_curve import UniformCurve, share_label


@dataclass(frozen=True, slots=True)
class Made:
    """A rewritten model, and what of it is measured: in INT8, where that is planned for."""

    applied: Applied
    opened: OpenedModel


class Shelf:
    """Where the planned models of a sweep go, one file for each budget: ``<stem>.2x.sep.onnx``."""

    def __init__(self, source: ModelSource, folder: Path | None) -> None:
        """Name files after the source."""
        self._source = source
        self._folder = folder

    def name(self, budget: float) -> Path:
        """The model of a speed-up, in the folder or, where there is none, wherever the command is typed."""
        return (self._folder or Path()) / f"{Path(self._source.name).stem or 'model'}.{budget:g}x.sep.onnx"

    def files(self, budgets: Sequence[float]) -> list[Path]:
        """Everything that will be written."""
        if self._folder is None:
            return []
        models = [self.name(budget) for budget in budgets]
        return [file for model in models for file in (model, *sidecars(self._source, model))]

    def put(self, case: Case, budget: float, made: Made, model: LoadedModel) -> str | None:
        """Write a model, whole or not at all, and return where it is; None where there is no folder."""
        if self._folder is None:
            return None
        path = self.name(budget)
        is_plain = made.opened is made.applied.opened
        modules = module_side(self._source, case.opened, made.applied) if is_plain else None
        with staged() as stage:
            stage_with_modules(stage, model, modules, path, force=case.request.outputs.force)
        return str(path)


def _with_output(command: str | None, output: Path) -> str | None:
    return None if command is None else f"{command} -o {shlex.quote(str(output))}"


def _with_predictions(point: SweepPoint, network: NetworkPlan) -> SweepPoint:
    """Add what the plan expected of the whole model."""
    predicted = network.predicted
    return replace(point, predicted_speedup=predicted["speedup"], predicted_error=predicted["damage"])


class Sweeper:
    """Makes and measures the models of a sweep, one at a time."""

    def __init__(self, planner: Planner, test: Dataset, shelf: Shelf, subject: Subject) -> None:
        """Measure on test inputs; models of budgets go onto a shelf; ``subject`` is told which model is being made."""
        self._planner = planner
        self._shelf = shelf
        self._subject = subject
        self._request = planner.case.request
        self._evaluator = Evaluator(planner.case.opened, test, self._request.seed)
        self.best_sites: tuple[PlannedSite, ...] = ()
        self.top1_before: float | None = None
        self.warnings: list[str] = []
        self.written = 0
        self._taken: Counter[str] = Counter()

    def budgets(self, budgets: Sequence[float]) -> tuple[list[SweepPoint], list[str]]:
        """One planned model per budget; sentences for the budgets that are out of reach."""
        points, refused = [], []
        for place, budget in enumerate(budgets, 1):
            self._subject.name = f"{budget:g}× ({place} of {len(budgets)})"
            try:
                network = self._planner.by_speedup(budget)
            except NothingToDoError as error:
                refused.append(str(error))
                continue
            self.best_sites = self.best_sites or network.sites
            self._taken.update(scheme.form for plan in network.site_plans for scheme in plan.schemes)
            request = replace(self._request, budget=Budget("speedup", budget))
            command = _with_output(rewrite_command(request), self._shelf.name(budget))
            found = self._fitted(self._planner, network.site_plans, f"{budget:g}×", self._request.form)
            if found is None:
                continue
            made, point = found
            point, fidelity = self._measured(made.opened, replace(point, command=command))
            model = stamped(made.opened.model, request, self._planner.case.opened.file, fidelity)
            file = self._shelf.put(self._planner.case, budget, made, model)
            self.written += file is not None
            points.append(_with_predictions(replace(point, file=file), network))
        return points, refused

    def without_data(self, budgets: Sequence[float]) -> list[SweepPoint]:
        """The same budgets, planned and filled by the weights alone."""
        blind = self._planner.without_data()
        points = []
        for budget in budgets:
            self._subject.name = f"without data, {budget:g}×"
            try:
                plans = blind.by_speedup(budget).site_plans
            except NothingToDoError:
                continue
            points.append(self._point(blind, plans, f"without data, {budget:g}×", self._request.form, None))
        return [point for point in points if point is not None]

    def uniform(self, budgets: Sequence[float]) -> list[SweepPoint]:
        """The form that plans take most, at one share of each site's multiply-adds, as fast as the budgets case."""
        points = []
        form = max(self._taken, key=self._taken.__getitem__)
        self._subject.name = ""
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
        self._subject.name = label
        found = self._fitted(planner, plans, label, form)
        return None if found is None else self._measured(found[0].opened, replace(found[1], command=command))[0]

    def _fitted(
        self, planner: Planner, plans: Sequence[SitePlan], label: str, form: str
    ) -> tuple[Made, SweepPoint] | None:
        """Fit and apply a plan; None where no site was rewritten."""
        case = planner.case
        fit = fit_plans(case, plans)
        if not fit.rewritten:
            return None
        applied = apply_fits(case.opened, fit, self._request.seed)
        quantised = planner.in_int8(fit, applied)
        self._planner.add_seconds(fit.seconds)
        known = SweepPoint(label, None, None, None, None, None, None, sites_rewritten=len(fit.rewritten), form=form)
        return Made(applied, applied.opened if quantised is None else quantised.opened), known

    def alone(self, int8: Int8) -> SweepPoint:
        """The original in INT8."""
        self._subject.name = "INT8 alone"
        point = SweepPoint("INT8 alone", None, None, None, None, None, None, sites_rewritten=0)
        return self._measured(int8.alone.opened, point)[0]

    def _measured(self, after: OpenedModel, point: SweepPoint) -> tuple[SweepPoint, Fidelity | None]:
        """Measure a model, and add what it gives to what is known of it."""
        case, request = self._planner.case, self._request
        metric = find_metric(request.measure.metric)
        fidelity, self.warnings = self._evaluator(after, request.progress, metric)
        self.top1_before = fidelity.top1_before if fidelity is not None else None
        timed = None
        if request.measure.latency:
            (timed,) = time_change(case, after, first_device=True)
        error, command = worst_error(fidelity), point.command
        if command is not None and ruins(error):
            command += " --allow-loss"
        known = replace(
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
        return known, fidelity

"""Plans under a budget: what the planner needs to know of model, data and machine, found out once and on demand."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from sepconvert.errors import ModelError
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.activations import activation_behind
from sepconvert.graph.inputs import suggested_size
from sepconvert.graph.layer_weights import read_kernel
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.notation import is_full
from sepconvert.graph.save import runnable
from sepconvert.graph.site_models import Surroundings
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.damage import SiteProfile, sensitive_parts
from sepconvert.planning.disk_cache import default_folder
from sepconvert.planning.latencies import Latencies, TimeSources, setting_of
from sepconvert.planning.latency_table import Table, WholeModel, Workload
from sepconvert.planning.options import options_by_cost, options_by_latency
from sepconvert.planning.plans import NetworkPlan, PlannedSite, Timed
from sepconvert.planning.roofline import dense_ms, rest_ms
from sepconvert.planning.site_timing import WholeModelTiming
from sepconvert.planning.speedup import SpeedupOutOfReachError, plan_speedup
from sepconvert.planning.within_budget import Choices
from sepconvert.record import InputInfo
from sepconvert.runtime.engines import Engine
from sepconvert.separable.forms import kernel_gain, lowerings, scheme_for
from sepconvert.separable.scheme import Scheme
from sepconvert.workflows.effort import architecture_effort, site_effort, surplus_allowed, timing_length
from sepconvert.workflows.engines import find_engine
from sepconvert.workflows.fit import Applied
from sepconvert.workflows.measure import feeds_to_time
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.profiles import find_profiles

if TYPE_CHECKING:
    from sepconvert.planning.architecture import ArchitectureTimer
    from sepconvert.workflows.quantisable import QuantisedModel
    from sepconvert.workflows.quantiser import Int8

LEAST_SPEEDUP = 1.01
"""The least that is asked of a rewrite where INT8 alone gives all or nearly all of a speed-up."""


class Planner:
    """Plans of one model on one machine; profiles, times and measurements serve all of them."""

    def __init__(self, case: Case, int8: "Int8 | None" = None) -> None:
        """Find out nothing yet; with ``int8``, everything is planned as it is in INT8."""
        self.case, self.request, self._int8 = case, case.request, int8
        self.warnings: list[str] = []
        self.seconds: dict[str, float] = {}

    def total(self, unit: str) -> int:
        """The whole model's MACs or parameters.

        Raises:
            ModelError: they are unknown.
        """
        opened = self.case.opened
        total = opened.totals.params if unit == "params" else opened.totals.macs
        if total is None:
            raise ModelError(_unknown_total(opened, "parameters" if unit == "params" else "MACs"))
        return total

    @property
    def knows_times(self) -> bool:
        """Whether times of sites are measured, or given by a table."""
        return self.request.measure.latency or self.request.planning.latency_table is not None

    @property
    def knows_sizes(self) -> bool:
        """Whether every site can be timed."""
        return all(site.geometry.is_sized for site in self.case.sites)

    @property
    def predicts_errors(self) -> bool:
        """Whether a damage is an error of the output: there are inputs, and the network's answer to errors is known."""
        known = [bool(profile.sensitivities) for profile in self.profiles.values() if profile.curves]
        return self.case.calibration is not None and bool(known) and all(known)

    def by_speedup(self, speedup: float, without: frozenset[str] = frozenset()) -> NetworkPlan:
        """Plan for ``--speedup``; the sites ``without`` (by output) stay dense.

        Raises:
            NothingToDoError: the speed-up is out of reach.
            ModelError: a size is unknown, so nothing can be timed.
        """
        choices, before = self.choices_by_latency.without(without), self.original_ms
        timer, allowed = self._timer if self.request.measure.latency else None, surplus_allowed(self.request)
        with self.timed("architectures"):
            if self._int8 is None:
                return plan_speedup(choices, speedup, before, timer, self.request.progress, allowed)
            try:
                found = plan_speedup(choices, self.beyond_int8(speedup), before, timer, self.request.progress, allowed)
            except SpeedupOutOfReachError as error:
                raise self._out_of_reach(speedup, error) from None
        by_itself = self._int8.speedup
        timed = None if found.timed is None else found.timed.against(by_itself)
        predicted = {**found.predicted, "speedup": found.predicted["speedup"] * by_itself}
        return replace(found, predicted=predicted, timed=timed)

    def beyond_int8(self, speedup: float) -> float:
        """What is left to ask of a rewrite: in plans for INT8 both sides are timed so, and what that gives is known."""
        return speedup if self._int8 is None else max(speedup / self._int8.speedup, LEAST_SPEEDUP)

    def _out_of_reach(self, speedup: float, error: SpeedupOutOfReachError) -> SpeedupOutOfReachError:
        """Say of a plan for INT8 how much faster than the original in floating point it is."""
        assert self._int8 is not None
        reachable = (error.reachable or 1.0) * self._int8.speedup * 100 // 1 / 100
        text = (
            f"--speedup {speedup:g} is out of reach: in INT8, with the fastest candidate at every site, the model is "
            f"about {reachable:g} times as fast; ask for less."
        )
        return SpeedupOutOfReachError(text, reachable, error.damage)

    @cached_property
    def profiles(self) -> Mapping[str, SiteProfile]:
        """Errors of all sites and how sensitive the network is to them: from data, else from the weights."""
        if self._int8 is None:
            return self._profiles
        integer = {site.output for site in self.case.sites if site.product not in self._int8.floating}
        return {name: profile.in_integers if name in integer else profile for name, profile in self._profiles.items()}

    @cached_property
    def _profiles(self) -> Mapping[str, SiteProfile]:
        with self.timed("profile"):
            return find_profiles(self.case, self.warnings.append, int8=self._int8 is not None)

    @cached_property
    def choices_by_cost(self) -> Choices:
        """All options with their MACs and parameters."""
        options = options_by_cost(self.case.sites, self.request.forms, self.profiles, self.request.planning.lowering)
        return Choices(tuple(self.case.sites), tuple(map(tuple, options)), {}, sensitive_parts(self.profiles.values()))

    @cached_property
    def choices_by_latency(self) -> Choices:
        """All options with their times."""
        sites, request, profiles, workloads = self.case.sites, self.request, self.profiles, self.workloads
        with self.timed("latencies"):
            options, reasons = options_by_latency(
                sites, workloads, request.forms, profiles, self.latencies, request.planning.lowering, request.progress
            )
        return Choices(tuple(sites), tuple(map(tuple, options)), reasons, sensitive_parts(profiles.values()))

    @cached_property
    def workloads(self) -> Mapping[str, Sequence[Workload]]:
        """What to time for each site, by its output: as many layers as use its weight."""
        for site in self.case.sites:
            if not site.geometry.is_sized:
                loose = _unsized_input(self.case.opened)
                remedy = "give --rank instead" if loose is None else f"pass {suggested_size(loose)}, or --data"
                raise ModelError(f"Site {site.name} has no known size, so it cannot be timed; {remedy}.")
        model, batch = self.case.opened.model, self.case.opened.shapes.batch

        def as_int8(use: ConvSite) -> bool:
            return self._int8 is not None and use.product not in self._int8.floating

        return {
            site.output: [
                Workload(use.geometry, use.dtype, batch, activation_behind(model, use), use.notation, as_int8(use))
                for use in site.uses
            ]
            for site in self.case.sites
        }

    @cached_property
    def latencies(self) -> Latencies:
        """Where times come from."""
        from sepconvert.planning.latency_cache import LatencyCache
        from sepconvert.planning.latency_table import read_table

        model, measure, planning = self.case.opened.model.ir, self.request.measure, self.request.planning
        setting = setting_of(self._engine)
        table = None if planning.latency_table is None else read_table(Path(planning.latency_table))
        folder, warn = default_folder() / "latency", self.warnings.append
        cache = LatencyCache(setting, folder, warn) if planning.cache else None
        written = Surroundings.of(model)
        whole = self._whole if measure.latency else None
        sources = TimeSources(
            setting, self._engine, table, cache, measure.latency, written, whole, site_effort(self.request)
        )
        return Latencies(sources, self.request.seed, warn)

    @cached_property
    def original_ms(self) -> float:
        """Latency of the original: measured, or from the table, or by the roofline."""
        if self.request.measure.latency:
            return self._whole.ms
        table = None if self.request.planning.latency_table is None else self.latencies.given
        known = None if table is None else table.model_ms(self.case.opened.model.sha256)
        return known if known is not None else self._modelled_ms()

    def table(self) -> Table:
        """All times that are known now, for ``--export-table``."""
        sha256 = self.case.opened.model.sha256
        measured = [WholeModel(sha256, self.original_ms)] if sha256 is not None and self.request.measure.latency else []
        return self.latencies.table(measured)

    def fastest(self, site: ConvSite, scheme: Scheme) -> Scheme:
        """Write a site in the lowering that is asked for or, where there is a choice, fastest."""
        form, rank, asked = scheme.form, scheme.rank, self.request.planning.lowering
        groups = site.geometry.groups
        choices = lowerings(form, rank, groups)
        if len(choices) == 1 or asked in choices:
            return scheme_for(form, rank, asked, groups)
        schemes = [Scheme(form, rank, lowering) for lowering in choices]
        with self.timed("latencies"):
            times = [self.latencies.times(workload, schemes) for workload in self.workloads[site.output]]
        return min(schemes, key=lambda scheme: sum(known.ms(scheme) for known in times))

    def time_architecture(self, planned: Sequence[PlannedSite]) -> Timed:
        """Measure a whole network with random weights against the original."""
        with self.timed("architectures"):
            return self._timer(planned)

    def add_seconds(self, stages: Mapping[str, float]) -> None:
        """Add to the time by stage: a budget may take several plans, each with its own fits."""
        for stage, seconds in stages.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    @property
    def error_by_int8(self) -> float:
        """What INT8 by itself errs by on held-out inputs; 0 where plans are made for floating point."""
        return 0.0 if self._int8 is None else self._int8.start.error

    def in_int8(self, fit: NetworkFit, applied: Applied) -> "QuantisedModel | None":
        """A rewritten model in INT8, if that is what is planned for."""
        if self._int8 is None:
            return None
        with self.timed("int8"):
            return self._int8.quantiser.quantise_fitted(fit, applied, self._int8.floating)

    def in_floats(self) -> "Planner":
        """A planner of the same case that leaves INT8 away; what does not depend on it is shared."""
        plain = Planner(self.case)
        plain.warnings, plain.seconds = self.warnings, self.seconds
        plain.__dict__ |= {"_profiles": self._profiles}
        return plain

    def without_data(self) -> "Planner":
        """A planner that sees the weights alone; what was timed and measured is shared."""
        blind = Planner(replace(self.case, calibration=None), self._int8)
        blind.warnings, blind.seconds = self.warnings, self.seconds
        blind.__dict__ |= {"latencies": self.latencies, "original_ms": self.original_ms}
        if self.request.measure.latency:
            blind.__dict__ |= {"_timer": self._timer}
        return blind

    @cached_property
    def _timer(self) -> "ArchitectureTimer":
        from sepconvert.planning.architecture import ArchitectureTimer

        model = self.case.opened.model
        gains = {site.output: kernel_gain(read_kernel(model, site).astype(np.float64)) for site in self.case.sites}
        feeds = feeds_to_time(self.case.opened, self.case.sample, np.random.default_rng(self.request.seed))
        make = runnable if self._int8 is None else partial(as_timed_in_int8, floating=self._int8.floating)
        effort, seconds = architecture_effort(self.request), timing_length(self.request).seconds
        return ArchitectureTimer(model, gains, feeds, self._engine, self.request.seed, effort, seconds, make)

    @property
    def _engine(self) -> Engine:
        measure = self.request.measure
        return find_engine(measure.devices[0], measure.threads)

    @cached_property
    def _whole(self) -> WholeModelTiming:
        with self.timed("architectures"):
            return self._timer.original()

    def _modelled_ms(self) -> float:
        """Roofline time of the whole original; where the sites' own times are known from a table, scaled to them."""
        workloads = [workload for several in self.workloads.values() for workload in several]
        modelled = sum(dense_ms(w.geometry, w.dtype) * w.batch for w in workloads)
        known = sum(options[0].dense_ms or 0.0 for options in self.choices_by_latency.options)
        totals = self.case.opened.totals
        rest = rest_ms((totals.macs or 0) - (totals.site_macs or 0))
        return known + rest * (known / modelled if modelled else 1.0)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add what is done inside the block to the time of a stage."""
        start = perf_counter()
        yield
        self.add_seconds({stage: perf_counter() - start})


def as_timed_in_int8(model: LoadedModel, floating: Collection[str]) -> bytes:
    """A model as it is timed where everything is planned as it is in INT8, but for the nodes of some outputs."""
    from sepconvert.runtime.quantise import quantised_to_time

    return quantised_to_time(runnable(model), floating)


def _unsized_input(opened: OpenedModel) -> InputInfo | None:
    return next((info for info in opened.shapes.inputs if not is_full(info.used_shape)), None)


def _unknown_total(opened: OpenedModel, what: str) -> str:
    """Say why a total is unknown, and what helps: sizes of inputs where those are missing, else another budget."""
    loose = _unsized_input(opened)
    if loose is not None:
        why, remedy = f"input '{loose.name}' has no fixed size", f"pass {suggested_size(loose)}, or --data"
    else:
        names = ", ".join(f"{entry.op} ({entry.count})" for entry in opened.totals.uncounted)
        why = f"these operators cannot be counted: {names}" if names else "a layer has no fixed size"
        remedy = "give --rank, --max-error or --speedup instead"
    return f"The {what} of {opened.model.label} are unknown because {why}; {remedy}."

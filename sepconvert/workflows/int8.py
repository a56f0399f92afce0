"""INT8 beside the rewrite: the original in INT8, the rewritten model, and both together, measured and chosen from.

Where INT8 alone makes the original faster on the first device, plans are made with times and errors as they are in
INT8, else as without it. In the end all are timed in turns in one measurement; of those that keep the budget, the one
that serves it best is written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepconvert.data import Dataset
from sepconvert.errors import ModelError, NothingToDoError
from sepconvert.fitting.ranges import find_ranges
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.count import count_totals
from sepconvert.graph.load import load_bytes
from sepconvert.graph.notation import is_full
from sepconvert.graph.save import file_size, runnable
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.survey import Survey
from sepconvert.record import FASTER, Alternative, Latency, Plan, SelfCheck
from sepconvert.runtime.environment import cpu_name
from sepconvert.workflows.describe import worst_error
from sepconvert.workflows.fit import Applied
from sepconvert.workflows.measure import measure_fidelity, time_all
from sepconvert.workflows.meet_budget import settle
from sepconvert.workflows.meet_error import CHECKED
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.settled import Settled

ORIGINAL, ALONE, REWRITTEN, BOTH = "original", "int8", "rewritten", "rewritten-int8"
SEEN = 256  # inputs that ranges are found on
AS_FAST = 1.02  # models whose speed-ups differ by less count as equally fast
NEVER_SLOWER = 0.99
KEPT = "kept as it is: the original in INT8 serves the budget best"


@dataclass(frozen=True, slots=True)
class QuantisedModel:
    """A model in INT8, and the names of its nodes that compute so."""

    opened: OpenedModel
    nodes: frozenset[str]


class Quantiser:
    """Turns versions of a model into INT8, with ranges from the same inputs."""

    def __init__(self, case: Case) -> None:
        """Take some of the inputs that are fitted to."""
        assert case.calibration is not None
        self._seen = _fitted(case).sample(SEEN, np.random.default_rng(case.request.seed))
        self._progress = case.request.progress

    def quantise(self, opened: OpenedModel) -> QuantisedModel:
        """Return a model in INT8, wherever it can compute so.

        Raises:
            ModelError: nothing of it can, or onnxruntime's quantiser gives up.
        """
        from sepconvert.runtime.quantise import quantisable_nodes, quantised, simplified, types_here

        plain = simplified(runnable(opened.model))
        nodes = quantisable_nodes(plain)
        if not nodes:
            raise ModelError(f"{opened.model.label} has no layer that can compute in INT8; leave --int8 away.")
        values = list(dict.fromkeys(value for node in nodes for value in node.values))
        ranges = find_ranges(plain, values, self._seen, progress=self._progress)
        names = frozenset(node.name for node in nodes)
        return QuantisedModel(_opened(quantised(plain, ranges, names, types_here()), opened), names)


@dataclass(frozen=True, slots=True)
class Int8:
    """What INT8 gives by itself, and how to make it.

    ``speedup`` is of the original in INT8 against the original, on the first device; 1 where nothing is measured.
    ``planned`` says whether plans are made as things are in INT8.
    """

    quantiser: Quantiser
    alone: OpenedModel
    speedup: float
    planned: bool
    warnings: tuple[str, ...]


def prepare_int8(case: Case) -> Int8:
    """Make the original in INT8 and time it.

    Raises:
        ModelError: it computes in another type than float32, or cannot be quantised.
    """
    other = next((site.dtype for site in case.opened.found.sites if site.dtype != "float32"), None)
    if other is not None:
        raise ModelError(f"{case.opened.model.label} computes in {other}, and --int8 takes float32 models; convert it.")
    quantiser = Quantiser(case)
    alone = quantiser.quantise(case.opened).opened
    if not case.request.measure.latency:
        return Int8(quantiser, alone, 1.0, True, ())
    timed = time_all(case, [case.opened, alone])[0]
    speedup = timed.speedup or 1.0
    if timed.difference != FASTER:
        return Int8(quantiser, alone, speedup, False, (_not_faster(timed),))
    enough = case.request.budget.name == "speedup" and speedup >= case.request.budget.value
    return Int8(quantiser, alone, speedup, not enough, ())


def _not_faster(timed: Latency) -> str:
    return (
        f"INT8 by itself is not faster than float32 here: {timed.speedup:.2f} times as fast on {timed.device} "
        f"({cpu_name()}). So the rewrite is planned for float32."
    )


def settle_with(int8: Int8 | None, case: Case, planner: Planner) -> Settled:
    """Rewrite under the budget; where no rewrite keeps it, what INT8 alone gives may.

    Raises:
        NothingToDoError: neither keeps it.
    """
    try:
        return settle(case, planner)
    except NothingToDoError as error:
        if int8 is None or case.request.budget.name not in ("speedup", "max_error"):
            raise
        plan = Plan({case.request.budget.name: case.request.budget.value})
        found = Settled([], NetworkFit({}), _nothing_applied(case.opened), plan)
        reason = f"No rewrite was found: {error}"
        return replace(found, warnings=(reason,))


def choose(int8: Int8, case: Case, settled: Settled, judged: Dataset | None) -> Settled:
    """Measure the alternatives and settle for the one that serves the budget best.

    Args:
        int8: what INT8 gives by itself.
        case: the original.
        settled: the rewritten model; one without a rewritten site stands for none.
        judged: inputs that the alternatives' errors are told on. What decides are errors on held-out calibration inputs.

    Raises:
        NothingToDoError: none keeps the budget, and there is no rewritten model.
    """
    models = {ORIGINAL: case.opened, ALONE: int8.alone}
    if settled.applied.fitted:
        models |= {REWRITTEN: settled.applied.opened}
        models |= {BOTH: int8.quantiser.quantise(settled.applied.opened).opened}
    timed: Sequence[Latency] = time_all(case, [*models.values()]) if case.request.measure.latency else ()
    checked = _checked(case)
    decisive = {name: _error(case, model, checked) for name, model in models.items() if name != ORIGINAL}
    found = _alternatives(case, models, timed, {name: _error(case, models[name], judged) for name in decisive})
    name = _best(case, found, decisive)
    if name is None:
        raise NothingToDoError(_nothing(settled, decisive))
    place = [*models].index(name) - 1
    plan = replace(settled.plan, alternatives=[replace(one, chosen=one.name == name) for one in found])
    # What was measured for another version of the model is none of this one's.
    plan = replace(plan, measured={k: v for k, v in (plan.measured or {}).items() if k != "max_error"} or None)
    warnings = (*settled.warnings, *int8.warnings)
    chosen = replace(settled, plan=plan, warnings=warnings, int8=None if name == REWRITTEN else models[name])
    chosen = replace(chosen, latency=(timed[place],) if timed and len(case.request.measure.devices) == 1 else ())
    if name != ALONE or not settled.applied.fitted:
        return chosen
    kept = {site.output: KEPT for site in case.sites}
    fit = NetworkFit({}, tuple(settled.fit.warnings))
    dropped = replace(chosen, fit=fit, applied=_nothing_applied(case.opened), plans=(), sites=())
    return replace(dropped, kept=kept)


def precision_of(site: ConvSite, settled: Settled) -> str:
    """What a site, or what stands in its place, computes in."""
    if settled.int8 is None:
        return site.dtype
    outputs = settled.applied.emitted.get(site.output, (site.product,))
    nodes = {str(value.name): node for node in settled.applied.opened.model.ir.graph for value in node.outputs}
    names = {nodes[output].name for output in outputs if output in nodes}
    in_int8 = [
        node.inputs[1] is not None
        and (maker := node.inputs[1].producer()) is not None
        and maker.op_type == "DequantizeLinear"
        for node in settled.int8.model.ir.graph
        if node.name in names and len(node.inputs) > 1
    ]
    return "int8" if all(in_int8) else site.dtype if not any(in_int8) else "mixed"


def _best(case: Case, found: Sequence[Alternative], decisive: dict[str, float | None]) -> str | None:
    """The name of what serves the budget best; None where nothing keeps it."""
    budget = case.request.budget
    known = [one for one in found if one.name != ORIGINAL]
    if budget.name == "max_error":
        errors = {name: error for name, error in decisive.items() if error is not None}
        known = [one for one in known if errors.get(one.name, np.inf) <= budget.value]
        # The original itself keeps every limit, so what is slower than that is no gain.
        known = [one for one in known if one.speedup is None or one.speedup >= NEVER_SLOWER]
    elif budget.name == "speedup":
        fast = [one for one in known if one.speedup_ci95 is None or one.speedup_ci95[1] >= budget.value]
        if fast:
            return min(fast, key=lambda one: _or_infinite(decisive[one.name])).name
    else:
        known = [one for one in known if one.name in (REWRITTEN, BOTH)]
    if not known:
        return None
    if any(one.speedup is None for one in known):
        return min(known, key=lambda one: one.bytes or np.inf).name
    fastest = max(one.speedup or 0.0 for one in known)
    near = [one for one in known if (one.speedup or 0.0) * AS_FAST >= fastest]
    return min(near, key=lambda one: _or_infinite(decisive[one.name])).name


def _or_infinite(error: float | None) -> float:
    return np.inf if error is None else error


def _alternatives(
    case: Case, models: dict[str, OpenedModel], timed: Sequence[Latency], errors: dict[str, float | None]
) -> list[Alternative]:
    before = timed[0].before.median_ms if timed else None
    sizes = {
        name: case.opened.totals.file_bytes if name == ORIGINAL else file_size(m.model) for name, m in models.items()
    }
    found = [Alternative(ORIGINAL, sizes[ORIGINAL], 0.0, before)]
    for place, (name, error) in enumerate(errors.items()):
        one = Alternative(name, sizes[name], error, None)
        if timed and timed[place].after is not None:
            latency = timed[place]
            assert latency.after is not None
            one = replace(
                one,
                latency_ms=latency.after.median_ms,
                speedup=latency.speedup,
                speedup_ci95=latency.speedup_ci95,
                scatter=latency.scatter,
            )
        found.append(one)
    return found


def _nothing(settled: Settled, decisive: dict[str, float | None]) -> str:
    error = decisive[ALONE]
    what = "" if error is None else f" INT8 alone errs by {error:.2g}."
    told = (
        settled.warnings[0].removeprefix("No rewrite was found: ") if settled.warnings else "Nothing keeps the budget."
    )
    return f"{told}{what} Nothing was written."


def _error(case: Case, model: OpenedModel, dataset: Dataset | None) -> float | None:
    fidelity, _ = measure_fidelity(case.opened, model, dataset, case.request.seed, case.request.progress)
    return worst_error(fidelity)


def _fitted(case: Case) -> Dataset:
    """The part of the calibration inputs that nothing is judged by."""
    assert case.calibration is not None
    if case.calibration.count < 2 * (case.calibration.batch or 1):
        return case.calibration
    return case.calibration.split(CHECKED, np.random.default_rng(case.request.seed))[0]


def _checked(case: Case) -> Dataset:
    assert case.calibration is not None
    if case.calibration.count < 2 * (case.calibration.batch or 1):
        return case.calibration
    return case.calibration.split(CHECKED, np.random.default_rng(case.request.seed))[1]


def _nothing_applied(opened: OpenedModel) -> Applied:
    return Applied(opened, {}, {}, SelfCheck(0.0, 0.0, 0), {})


def _opened(model: bytes, source: OpenedModel) -> OpenedModel:
    """Survey a model in INT8 as far as figures are made of it."""
    loaded = load_bytes(model)
    sizes = {info.name: info.used_shape for info in source.shapes.inputs if is_full(info.used_shape)}
    shapes = infer_shapes(loaded, sizes)
    totals = replace(count_totals(loaded, shapes, ()), site_macs=source.totals.site_macs)
    loaded = replace(loaded, name=source.model.name, path=source.model.path, data_files=source.model.data_files)
    return OpenedModel(loaded, shapes, Survey((), ()), totals)

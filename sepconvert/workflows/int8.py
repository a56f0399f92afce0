"""INT8 beside the rewrite: the original in INT8, the rewritten model, and both together, measured and chosen from.

Where INT8 alone makes the original faster on the first device, plans are made with times and errors as they are in
INT8, else as without it. In the end all are timed in turns in one measurement; of those that keep the budget, the one
that serves it best is written.
"""

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

from sepconvert.data import Dataset
from sepconvert.errors import ModelError, NothingToDoError, RuinedError
from sepconvert.fitting.results import NetworkFit
from sepconvert.graph.sites import ConvSite
from sepconvert.record import (
    ALONE,
    BOTH,
    FASTER,
    ORIGINAL,
    REWRITTEN,
    Latency,
    Note,
    Plan,
    SelfCheck,
    Skip,
)
from sepconvert.runtime.environment import cpu_name
from sepconvert.workflows.alternatives import NO_REWRITE, alternatives, best_alternative, nothing_keeps, with_precisions
from sepconvert.workflows.fine_tune import settled_before
from sepconvert.workflows.fit import Applied
from sepconvert.workflows.folding import fold_alone
from sepconvert.workflows.measure import ask_metric, time_all
from sepconvert.workflows.meet_budget import settle
from sepconvert.workflows.opened import Case, OpenedModel
from sepconvert.workflows.options import Budget
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.quantisable import QuantisedModel
from sepconvert.workflows.quantiser import Int8, Quantiser
from sepconvert.workflows.settled import Settled

KEPT = "the original in INT8 serves the budget best, so no layer was rewritten"
REFITTED = Note(
    "For INT8 the weights and biases of all layers were fitted again, to what the network in INT8 feeds each of them."
)
_QUANTISED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger")


def prepare_int8(case: Case) -> Int8:
    """Make the original in INT8 and time it.

    Raises:
        ModelError: it is quantised already, computes in another type than float32, or cannot be quantised.
    """
    name, begun = case.opened.model.label, perf_counter()
    if any(node.op_type.startswith("QLinear") or node.op_type in _QUANTISED for node in case.opened.model.ir.graph):
        raise ModelError(
            f"{name} is quantised already; pass the floating-point model that it was made from: --int8 rewrites first "
            "and quantises after."
        )
    other = next((site.dtype for site in case.opened.found.sites if site.dtype != "float32"), None)
    if other is not None:
        raise ModelError(f"{name} computes in {other}, and --int8 takes float32 models; convert it.")
    quantiser = Quantiser(case)
    budget, mixing = case.request.budget, quantiser.mixing(quantiser.quantise(case.opened))
    alone, start = mixing.best(budget), mixing.start(halved(budget))
    if not case.request.measure.latency:
        return Int8(quantiser, alone, start, 1.0, planned=True, seconds=perf_counter() - begun)
    timed = time_all(case, [case.opened, alone.opened])[0]
    speedup, seconds = timed.speedup or 1.0, perf_counter() - begun
    if timed.difference != FASTER:
        return Int8(quantiser, alone, start, speedup, False, seconds, (_not_faster(timed),), timed)
    enough = budget.name == "speedup" and speedup >= budget.value
    return Int8(quantiser, alone, start, speedup, not enough, seconds, timed=timed)


def halved(budget: Budget) -> Budget:
    """Half of a limit on the error: what INT8 may take of it where layers are rewritten too."""
    return replace(budget, value=budget.value / 2) if budget.name == "max_error" else budget


def _not_faster(timed: Latency) -> str:
    return Note(
        f"INT8 by itself is not measurably faster than float32 on {timed.device} ({cpu_name()}; "
        f"{timed.speedup:.2f} times as fast, give or take the noise), so the rewrite was planned for float32."
    )


def settle_with(int8: Int8 | None, case: Case, planner: Planner) -> Settled:
    """Rewrite under the budget, or go on from an earlier training; fold sums alone where there is nothing to rewrite.

    Where no rewrite keeps the budget in INT8, one in floating point or INT8 alone may.

    Raises:
        NothingToDoError: nothing is to do, and the budget is not one that INT8 alone could keep.
    """
    earlier = settled_before(case)
    if earlier is not None:
        return earlier
    try:
        return _settled(int8, case, planner)
    except NothingToDoError as error:
        try:
            return fold_alone(case, error)
        except NothingToDoError:
            budget = case.request.budget
            if int8 is None or not (budget.by_default or budget.name in ("speedup", "max_error", "max_drop")):
                raise
        plan = Plan({case.request.budget.name: case.request.budget.value})
        nothing = Applied(case.opened, {}, {}, SelfCheck(0.0, 1.0, 0), {})
        return Settled((), NetworkFit({}), nothing, plan, warnings=(f"{NO_REWRITE}{error}",))


def _settled(int8: Int8 | None, case: Case, planner: Planner) -> Settled:
    try:
        return settle(case, planner)
    except NothingToDoError as error:
        if int8 is None or not int8.planned:
            raise
        try:
            return settle(case, planner.in_floats())
        except NothingToDoError:
            raise error from None


def quantise_both(int8: Int8, case: Case, settled: Settled) -> QuantisedModel | None:
    """Return the rewritten model in INT8, some layers left in floating point; None where nothing was rewritten."""
    if settled.applied.opened.model is case.opened.model:
        return None
    both = settled.int8 or int8.quantiser.quantise_fitted(settled.fit, settled.applied, int8.floating)
    return int8.quantiser.mixing(both, int8.floating).best(case.request.budget, int8.floating)


def planned_in_floats(case: Case, planner: Planner, settled: Settled) -> Settled | None:
    """Rewrite again, planned for floating point: a plan for INT8 turned out to serve the budget best without it.

    Where separable layers gain little in INT8, such a plan rewrites more than floating point needs: a VGG that was to
    be 3 times as fast was 5 times as fast so, at ten times the error. None where the plan was not made for INT8 (or
    sums were folded into what it gave), where its budget has nothing to do with time or error, or where no plan keeps
    that. All that this takes counts as INT8's time.
    """
    budget, before = case.request.budget, sum(planner.seconds.values())
    if settled.int8 is None or budget.name not in ("speedup", "max_error", "max_drop"):
        return None
    try:
        found = settle(case, planner.in_floats())
    except (NothingToDoError, RuinedError):
        return None
    finally:
        planner.add_seconds({"int8": before - sum(planner.seconds.values())})
    return found if budget.name in found.plan.budget else None


def serves_better(budget: Budget, found: Settled, than: Settled) -> bool:
    """Whether a choice is the rewritten model, and a better one than another choice of it: closer, or faster."""
    new, old = (next(one for one in settled.plan.alternatives if one.name == REWRITTEN) for settled in (found, than))
    if not new.chosen or new.error is None or old.error is None:
        return False
    if budget.name == "speedup":
        return new.error < old.error
    if new.speedup is None or old.speedup is None:
        return (new.bytes or 0) < (old.bytes or 0)
    return new.speedup > old.speedup


def choose(
    int8: Int8,
    case: Case,
    settled: Settled,
    both: QuantisedModel | None,
    judged: Dataset | None,
    plain: Settled | None = None,
) -> Settled:
    """Measure the alternatives and settle for the one that serves the budget best.

    Args:
        int8: what INT8 gives by itself.
        case: the original.
        settled: the rewritten model; one in which nothing was changed stands for none.
        both: the rewritten model in INT8, if there is a rewritten model.
        judged: inputs that the alternatives' errors are told on. Errors on held-out calibration inputs decide.
        plain: what to take for the rewritten model without INT8, if it is another one.

    Raises:
        NothingToDoError: nothing keeps the budget, and there is no rewritten model.
        VerificationError: a layer in INT8 is off by more than rounding allows: a bug.
    """
    models = {ORIGINAL: case.opened, ALONE: int8.alone.opened}
    if both is not None:
        models |= {REWRITTEN: (plain or settled).applied.opened, BOTH: both.opened}
    timed: Sequence[Latency] = time_all(case, [*models.values()]) if case.request.measure.latency else ()
    changed = {name: model for name, model in models.items() if name != ORIGINAL}
    decisive = {name: _decisive(int8, case, model) for name, model in changed.items()}
    told = {name: int8.quantiser.error(model, judged) for name, model in changed.items()}
    found = alternatives(case, models, timed, told)
    found = [with_precisions(one, {ALONE: int8.alone, BOTH: both}.get(one.name)) for one in found]
    name = best_alternative(case.request.budget, found, decisive)
    if name is None:
        raise NothingToDoError(nothing_keeps(case.request.budget, settled, found, decisive))
    if name == REWRITTEN and plain is not None:
        settled = plain
    # What was measured for another version of the model is none of this one's.
    measured = {k: v for k, v in (settled.plan.measured or {}).items() if k not in ("max_error", "max_drop")}
    plan = replace(settled.plan, measured=measured or None)
    warnings = (*settled.warnings, *int8.warnings, *dict.fromkeys(int8.quantiser.warnings))
    plan = replace(plan, alternatives=[replace(one, chosen=one.name == name) for one in found])
    place = [*changed].index(name)
    written = {ALONE: int8.alone, REWRITTEN: None, BOTH: both}[name]
    chosen = replace(
        settled,
        plan=plan,
        warnings=(*warnings, REFITTED) if name == BOTH and both is not None and both.refitted else warnings,
        latency=(timed[place],) if timed and len(case.request.measure.devices) == 1 else (),
        int8=None if written is None else int8.quantiser.checked_layers(written),
    )
    return _as_it_was(case, chosen) if name == ALONE and both is not None else chosen


def _decisive(int8: Int8, case: Case, model: OpenedModel) -> float | None:
    """What the budget is on, on held-out inputs: how far the metric falls, else the error."""
    if case.request.budget.name != "max_drop":
        return int8.quantiser.error(model, int8.quantiser.checked)
    metric = ask_metric(case, model, int8.quantiser.checked)
    return None if metric is None else metric.drop


def alone_beside(case: Case, int8: Int8) -> Plan:
    """The original and INT8 alone as the alternatives of a plan that asks for nothing."""
    models = {ORIGINAL: case.opened, ALONE: int8.alone.opened}
    errors = {ALONE: int8.quantiser.error(int8.alone.opened, case.calibration)}
    found = alternatives(case, models, [] if int8.timed is None else [int8.timed], errors)
    return Plan({}, alternatives=[found[0], with_precisions(found[1], int8.alone)])


def _as_it_was(case: Case, settled: Settled) -> Settled:
    """Drop a rewrite: INT8 alone is better."""
    nothing = Applied(case.opened, {}, {}, SelfCheck(0.0, 1.0, 0), {})
    kept = {site.output: KEPT for site in case.sites}
    plan = replace(settled.plan, predicted=None, measured=None)
    return replace(settled, fit=NetworkFit({}), applied=nothing, plans=(), sites=(), kept=kept, plan=plan)


def with_precision(skip: Skip, settled: Settled) -> Skip:
    """Say of a layer that is no site what it computes in, where a model in INT8 was written."""
    if settled.int8 is None:
        return skip
    precision = _precision({skip.output}, settled.int8, "float32")
    told = {"int8": " It computes in INT8.", "float32": " It computes in float32."}.get(precision or "", "")
    return replace(skip, precision=precision, reason=f"{skip.reason}{told}")


def precision_of(site: ConvSite, settled: Settled) -> str | None:
    """What a site, or what stands in its place, computes in; None where that is not known."""
    if settled.int8 is None:
        return site.dtype
    return _precision(set(settled.applied.emitted.get(site.output, (site.product,))), settled.int8, site.dtype)


def _precision(outputs: set[str], made: QuantisedModel, dtype: str) -> str | None:
    if outputs <= made.integer:
        return "int8"
    if outputs <= made.floating:
        return dtype
    return "mixed" if outputs <= made.integer | made.floating else None

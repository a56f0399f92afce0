"""The main job: plan, fit, rewrite, verify, measure, save, record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sepconvert.data import Preprocess
from sepconvert.errors import ModelError, NothingToDoError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import check_output, save_model
from sepconvert.graph.sites import ConvSite
from sepconvert.planning.uniform import SitePlan, plan_rank, plan_share
from sepconvert.record import ModelFile, Plan, Record, TotalsPair
from sepconvert.runtime.environment import describe_environment
from sepconvert.workflows.apply import apply_fits, describe_result
from sepconvert.workflows.describe import describe_network, tool
from sepconvert.workflows.fit import Fits, Progress, fit_plans
from sepconvert.workflows.inputs import data_warnings, read_data, shapes_for
from sepconvert.workflows.measure import measure_fidelity, measure_latency, picture_samples
from sepconvert.workflows.opened import OpenedModel, naming, open_model, select_sites
from sepconvert.workflows.options import Measure, Target
from sepconvert.workflows.outputs import Outputs


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What ``rewrite`` returns: the record, the rewritten model in memory, and where it was written (or None)."""

    record: Record
    model: LoadedModel
    path: Path | None

    def _repr_html_(self) -> str:
        """What a notebook shows: the record's figures."""
        return self.record._repr_html_()

    def save(self, path: Path | str, *, force: bool = False) -> ModelFile:
        """Write the model, inline or (above 1.5 GB) with external data, atomically.

        Raises:
            OutputError: it cannot be written there, or the file exists and ``force`` is not set.
        """
        return save_model(self.model, Path(path), force=force)


def rewrite(
    model: Path | str,
    output: Path | str | None = None,
    *,
    form: str = "auto",
    rank: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    lowering: str = "auto",
    init: str = "low-rank",
    allow_growth: bool = False,
    data: str | None = None,
    test_data: str | None = None,
    preprocess: Preprocess = Preprocess(),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    measure: Measure = Measure(),
    outputs: Outputs = Outputs(),
    seed: int = 0,
    progress: Progress | None = None,
) -> RewriteResult:
    """Rewrite the standard convolutions of a model as separable ones and record what was gained and lost.

    Args:
        model: path of an ONNX model; it is never changed.
        output: where to write the result; None keeps it in memory (``RewriteResult.save`` writes it later).
        form: ``dw-pw``, ``pw-dw``, ``pw-dw-pw``, ``spatial``, ``auto`` or ``any``.
        rank: a whole number (r or R) or a share in (0, 1) of each site's own MACs.
        macs: MACs of the whole model, new/old; 0.5 if no budget is given.
        params: parameters of the whole model, new/old.
        lowering: ``auto``, ``stacked``, ``branches`` or ``concat``.
        init: ``low-rank`` approximates the weights; ``random`` reinitialises them for training.
        allow_growth: admit ranks at or above break-even (to check that full rank is exact).
        data: calibration inputs: a path or ``pkg.module:callable`` as on the command line.
        test_data: inputs that fidelity is measured on; default ``data``, else seeded random inputs.
        preprocess: how integer arrays and images become inputs.
        input_shapes: sizes of dynamic inputs, by input name.
        include: globs; sites that match none of them are kept.
        exclude: globs; sites that match are kept.
        measure: latency, devices, threads.
        outputs: record and page to write beside the model.
        seed: seed of everything random.
        progress: called as ``progress(what, done, total)``.

    Raises:
        UsageError: options that contradict each other.
        NothingToDoError: no site can be rewritten below break-even, or the budget is out of reach.
        SepconvertError: the model, the data or the output is not usable; the message says what to do.
    """
    target = Target(form, rank, macs, params, lowering, init, allow_growth)
    source, destination = Path(model), None if output is None else Path(output)
    if destination is not None:
        check_output(destination, source, force=outputs.force)
    outputs.check(source, *([] if destination is None else [destination]))
    opened = open_model(source, input_shapes or {})
    calibration, test = (read_data(spec, opened, preprocess) for spec in (data, test_data))
    sample = calibration or test
    if sample is not None:
        opened = open_model(source, shapes_for(input_shapes or {}, sample))
    chosen, kept = select_sites(opened.found.sites, include, exclude)
    plans = _plan(opened, chosen, target)
    with naming(source):
        fits = fit_plans(opened.model, plans, calibration, target, seed=seed, progress=progress)
    kept |= {plan.site.output: plan.reason for plan in plans if plan.reason is not None} | dict(fits.kept)
    if not fits.rewritten:
        raise NothingToDoError(_nothing_to_do(opened, plans, fits))
    result = apply_fits(opened, fits, seed)
    warnings = [*opened.shapes.warnings, *fits.warnings, *data_warnings(calibration, test)]
    fidelity, more = measure_fidelity(opened, result.opened, test or calibration, seed)
    sites = [describe_result(opened, site, result, kept.get(site.output), target.forms) for site in opened.found.sites]
    record = Record(
        command="rewrite",
        arguments=list(outputs.arguments),
        environment=describe_environment(measure.threads, measure.devices),
        source=opened.file,
        inputs=list(opened.shapes.inputs),
        sites=sites,
        skipped=list(opened.found.skips),
        totals=TotalsPair(opened.totals, result.opened.totals),
        tool=tool(),
        fidelity=fidelity,
        latency=measure_latency(opened, result.opened, sample, measure, seed) if measure.latency else [],
        plan=Plan(budget=target.budget | {"share": "uniform"}),
        self_check=result.self_check,
        graph=describe_network(opened, sites),
        samples=picture_samples(opened, result.opened, test or calibration),
        seconds=dict(fits.seconds),
        warnings=[*warnings, *more],
    )
    written = None if destination is None else save_model(result.opened.model, destination, force=outputs.force)
    if written is not None:
        after = replace(result.opened.totals, file_bytes=written.bytes)
        record = replace(record, output=written, totals=TotalsPair(opened.totals, after))
    outputs.write(record)
    return RewriteResult(record, result.opened.model, destination)


def _plan(opened: OpenedModel, sites: Sequence[ConvSite], target: Target) -> list[SitePlan]:
    """Candidates of every site under the one budget in force."""
    if target.rank is not None:
        return [plan_rank(site, target.forms, target.rank, allow_growth=target.allow_growth) for site in sites]
    ((unit, ratio),) = target.budget.items()
    total = opened.totals.params if unit == "params" else opened.totals.macs
    if total is None:
        raise ModelError(
            f"The {unit} of {opened.model.path} are unknown because an input or layer has no fixed size; "
            "pass --input NAME:1x3x224x224, or --data."
        )
    return plan_share(sites, target.forms, total, ratio, unit) if sites else []


def _nothing_to_do(opened: OpenedModel, plans: Sequence[SitePlan], fits: Fits) -> str:
    name = opened.model.path
    if not opened.found.sites:
        kinds = sorted({skip.kind for skip in opened.found.skips})
        rest = f"its convolutions are {', '.join(kinds)}" if kinds else "it has no convolution"
        return f"{name} has no convolution that can be rewritten ({rest}); nothing was written."
    if not plans:
        count = len(opened.found.sites)
        return f"All {count} sites of {name} are kept by --include, --exclude or default; nothing was written."
    for output, reason in fits.kept.items():
        return f"No site of {name} was rewritten ({output}: {reason}); nothing was written; ask for less."
    return (
        f"No site of {name} can be rewritten below break-even ({plans[0].site.name}: {plans[0].reason}); "
        "nothing was written; ask for a smaller rank or another form."
    )

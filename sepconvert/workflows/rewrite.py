"""The main job: plan, factorise, rewrite, verify, measure, save, record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sepconvert.data import Preprocess
from sepconvert.errors import ModelError, NothingToDoError, VerificationError
from sepconvert.graph.count import count_totals, macs_by_output
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.rewrite import Replacement, Rewritten, rewrite_model
from sepconvert.graph.save import check_output, save_model
from sepconvert.graph.shapes import infer_shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.survey import Survey
from sepconvert.graph.weights import read_constant
from sepconvert.planning.choose import Choice, choose_by_weights, choose_random, generator
from sepconvert.planning.uniform import SitePlan, plan_rank, plan_share
from sepconvert.record import ModelFile, Plan, Record, SelfCheck, SiteRecord, TotalsPair
from sepconvert.runtime.environment import describe_environment
from sepconvert.separable.forms import cli_name
from sepconvert.verify.oracle import check_rewrite
from sepconvert.workflows.describe import describe_network, describe_site, tool
from sepconvert.workflows.inputs import data_warnings, read_data, shapes_for
from sepconvert.workflows.measure import measure_fidelity, measure_latency
from sepconvert.workflows.opened import OpenedModel, naming, open_model, select_sites
from sepconvert.workflows.options import Measure, Target
from sepconvert.workflows.outputs import Outputs

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What ``rewrite`` returns: the record, the rewritten model in memory, and where it was written (or None)."""

    record: Record
    model: LoadedModel
    path: Path | None

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
    kept |= {plan.site.output: plan.reason for plan in plans if plan.reason is not None}
    with naming(source):
        choices = _factorise(opened.model, [plan for plan in plans if plan.candidates], target, seed, progress)
    if not choices:
        raise NothingToDoError(_nothing_to_do(opened, plans))
    result = _apply(opened, choices, target, seed)
    warnings = [*opened.shapes.warnings, *_plain_words(target), *data_warnings(calibration, test)]
    fidelity, more = measure_fidelity(opened, result.opened, test or calibration, seed)
    sites = [_describe(opened.model, site, result, kept.get(site.output)) for site in opened.found.sites]
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
        warnings=[*warnings, *more],
    )
    written = None if destination is None else save_model(result.opened.model, destination, force=outputs.force)
    if written is not None:
        after = replace(result.opened.totals, file_bytes=written.bytes)
        record = replace(record, output=written, totals=TotalsPair(opened.totals, after))
    outputs.write(record)
    return RewriteResult(record, result.opened.model, destination)


@dataclass(frozen=True, slots=True)
class _Applied:
    """The rewritten model, what was emitted where, and the verdict of the oracle."""

    opened: OpenedModel
    choices: Mapping[str, Choice]
    replacements: Mapping[str, Replacement]
    macs: Mapping[str, int | None]
    self_check: SelfCheck


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


def _factorise(
    model: LoadedModel, plans: Sequence[SitePlan], target: Target, seed: int, progress: Progress | None
) -> list[Choice]:
    choices = []
    for index, plan in enumerate(plans):
        if progress is not None:
            progress(plan.site.name, index, len(plans))
        rng = generator(seed, plan.site)
        if target.init == "random":
            choices.append(choose_random(plan, rng))
        else:
            choices.append(choose_by_weights(plan, read_constant(model, plan.site.weight), rng))
    return choices


def _apply(opened: OpenedModel, choices: Sequence[Choice], target: Target, seed: int) -> _Applied:
    """Write the factors into a copy of the graph, check every site with the exact oracle, and count again."""
    replacements = {}
    for choice in choices:
        site, factors = choice.plan.site, choice.factors
        replacements[site.output] = Replacement(site, factors, target.lowering_of(factors.form, factors.rank))
    rewritten = rewrite_model(opened.model, list(replacements.values()))
    shapes = infer_shapes(rewritten.model, _used_shapes(opened))
    kept = [site.output for site in opened.found.sites if site.output not in rewritten.emitted]
    emitted = [name for names in rewritten.emitted.values() for name in names]
    totals = count_totals(rewritten.model, shapes, [*kept, *emitted])
    macs = _site_macs(rewritten, macs_by_output(rewritten.model, shapes))
    for choice in choices:
        planned = next(c.cost.macs for c in choice.plan.candidates if c.form == choice.factors.form)
        if planned != macs[choice.plan.site.output]:
            raise VerificationError(
                f"Site {choice.plan.site.name} was written with {macs[choice.plan.site.output]} MACs instead of the "
                f"planned {planned}: this is a bug of sepconvert, please report it."
            )
    check = check_rewrite(opened.model, rewritten, list(replacements.values()), np.random.default_rng(seed))
    after = OpenedModel(rewritten.model, shapes, Survey((), ()), totals)
    return _Applied(after, {c.plan.site.output: c for c in choices}, replacements, macs, check)


def _site_macs(rewritten: Rewritten, macs: Mapping[str, int | None]) -> dict[str, int | None]:
    """MACs of the nodes that stand in each site's place, counted from the written graph."""
    counted: dict[str, int | None] = {}
    for output, names in rewritten.emitted.items():
        parts = [macs.get(name) for name in names]
        known = [part for part in parts if part is not None]
        counted[output] = sum(known) if len(known) == len(parts) else None
    return counted


def _used_shapes(opened: OpenedModel) -> dict[str, list[int]]:
    """Input shapes the original was counted with, where they are fully known."""
    shapes = {}
    for info in opened.shapes.inputs:
        sizes = [size for size in info.used_shape or () if size is not None]
        if info.used_shape is not None and len(sizes) == len(info.used_shape):
            shapes[info.name] = sizes
    return shapes


def _describe(model: LoadedModel, site: ConvSite, result: _Applied, reason: str | None) -> SiteRecord:
    choice = result.choices.get(site.output)
    if choice is None:
        kept = describe_site(model, site, status="kept", reason=reason)
        return replace(kept, params_after=kept.params, macs_after=kept.macs)
    described = describe_site(model, site, status="rewritten", reason=None)
    return replace(
        described,
        form=cli_name(choice.factors.form),
        rank=choice.factors.rank,
        lowering=result.replacements[site.output].lowering,
        error_weights=choice.error,
        params_after=choice.factors.params,
        macs_after=result.macs[site.output],
    )


def _nothing_to_do(opened: OpenedModel, plans: Sequence[SitePlan]) -> str:
    name = opened.model.path
    if not opened.found.sites:
        kinds = sorted({skip.kind for skip in opened.found.skips})
        rest = f"its convolutions are {', '.join(kinds)}" if kinds else "it has no convolution"
        return f"{name} has no convolution that can be rewritten ({rest}); nothing was written."
    if not plans:
        count = len(opened.found.sites)
        return f"All {count} sites of {name} are kept by --include, --exclude or default; nothing was written."
    return (
        f"No site of {name} can be rewritten below break-even ({plans[0].site.name}: {plans[0].reason}); "
        "nothing was written; ask for a smaller rank or another form."
    )


def _plain_words(target: Target) -> list[str]:
    if target.init == "random":
        return ["The rewritten layers hold random weights: this model must be trained before use."]
    return [
        "The factors approximate the weights without seeing data, which usually costs accuracy; pass --data with a few "
        "hundred unlabelled inputs to fit them to what the network sees."
    ]

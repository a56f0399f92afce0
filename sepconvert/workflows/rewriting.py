"""The main job: plan, fit, rewrite, verify, measure, save, record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sepconvert.data import Dataset, Preprocess
from sepconvert.errors import ModelError, UsageError
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.save import check_output
from sepconvert.progress import Progress, silent
from sepconvert.record import ModelFile, Record, TotalsPair
from sepconvert.runtime.environment import describe_environment
from sepconvert.separable.threads import one_blas_thread
from sepconvert.workflows.case import Case
from sepconvert.workflows.describe import describe_forms, describe_network, tool
from sepconvert.workflows.fine_tune import (
    CALIBRATION,
    check_tuning,
    forget,
    settled_before,
    training_variants,
    tune_settled,
)
from sepconvert.workflows.measure import measure_fidelity, measure_latency, picture_samples
from sepconvert.workflows.meet_budget import Settled, settle
from sepconvert.workflows.model_and_data import data_warnings, open_with_data
from sepconvert.workflows.modules import ModuleSide, module_side, save_with_modules, sidecars, why_no_modules
from sepconvert.workflows.opened import naming, select_sites
from sepconvert.workflows.options import FineTune, Measure, Planning, Target
from sepconvert.workflows.outputs import Outputs
from sepconvert.workflows.plan_record import with_measured
from sepconvert.workflows.planner import Planner
from sepconvert.workflows.site_times import with_times
from sepconvert.workflows.sources import find_source
from sepconvert.workflows.write_factors import describe_result, with_refit

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import Module


@dataclass(frozen=True, slots=True)
class RewriteResult:
    """What ``rewrite`` returns: the record, the rewritten model in memory, and where it was written (or None)."""

    record: Record
    model: LoadedModel
    path: Path | None
    _modules: "ModuleSide | None" = None
    _no_modules: str = ""

    @property
    def module(self) -> "Module":
        """A rewritten copy of the PyTorch module that was given, on its device and in its mode (train or eval).

        Its new layers are ``nn.Conv1d`` and ``nn.Conv2d``: train it, export it, compile it as any other module.

        Raises:
            ModelError: the model was no module with layers of its own: ONNX, TorchScript or an exported program.
        """
        if self._modules is None:
            raise ModelError(self._no_modules)
        return self._modules.module()

    def _repr_html_(self) -> str:
        """What a notebook shows: the record's figures."""
        return self.record._repr_html_()

    def save(self, path: Path | str, *, force: bool = False) -> ModelFile:
        """Write the model, inline or (above 1.5 GB) with external data, atomically.

        Beside a model that came from PyTorch go its state_dict (``<stem>.safetensors``) and its plan
        (``<stem>.plan.json``), from which ``sepconvert.rebuild`` makes the module.

        Raises:
            OutputError: it cannot be written there, or a file exists and ``force`` is not set.
        """
        return save_with_modules(self.model, self._modules, Path(path), force=force)


def rewrite(
    model: "Path | str | Module",
    output: Path | str | None = None,
    *,
    form: str = "auto",
    rank: float | None = None,
    macs: float | None = None,
    params: float | None = None,
    speedup: float | None = None,
    max_error: float | None = None,
    lowering: str = "auto",
    init: str = "low-rank",
    allow_growth: bool = False,
    data: str | None = None,
    test_data: str | None = None,
    fine_tune: FineTune | None = None,
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
) -> RewriteResult:
    """Rewrite the standard convolutions of a model as separable ones and record what was gained and lost.

    Args:
        model: path of an ONNX, ``.pt2`` or TorchScript file, ``pkg.module:factory``, or a live ``nn.Module``; it is
            never changed.
        output: where to write the result; None keeps it in memory (``RewriteResult.save`` writes it later).
        form: ``dw-pw``, ``pw-dw``, ``pw-dw-pw``, ``spatial``, ``auto`` or ``any``.
        rank: a whole number (r or R) or a share in (0, 1) of each site's own MACs.
        macs: MACs of the whole model, new/old; 0.5 if no budget is given.
        params: parameters of the whole model, new/old.
        speedup: latency of the whole model, old/new, on the first device.
        max_error: largest relative error of the worst output on held-out inputs of ``data``.
        lowering: ``auto``, ``stacked``, ``branches`` or ``concat``.
        init: ``low-rank`` approximates the weights; ``random`` reinitialises them for training.
        allow_growth: admit ranks at or above break-even (to check that full rank is exact).
        data: calibration inputs: a path or ``pkg.module:callable`` as on the command line.
        test_data: inputs that fidelity is measured on; default ``data``, else seeded random inputs.
        fine_tune: distil from the original after the rewrite, without labels if need be; None does not.
        preprocess: how integer arrays and images become inputs.
        input_shapes: sizes of dynamic inputs, by input name.
        weights: a state_dict (``.pt`` or ``.safetensors``) for the module of ``pkg.module:factory``.
        example_inputs: for a live module: a tensor, or tensors in the order of ``forward``'s arguments or by name.
        include: globs; sites that match none of them are kept.
        exclude: globs; sites that match are kept.
        measure: latency, devices, threads.
        planning: a latency table from elsewhere, the cache of latencies, parallel jobs.
        outputs: record and page to write beside the model.
        seed: seed of everything random.
        progress: told of every step that takes a while.

    Raises:
        UsageError: options that contradict each other.
        NothingToDoError: no site can be rewritten below break-even, or the budget is out of reach.
        SepconvertError: the model, the data or the output is not usable; the message says what to do.
    """
    target = Target(form, rank, macs, params, lowering, init, allow_growth, speedup, max_error)
    if max_error is not None and (data is None or init == "random"):
        raise UsageError("--max-error is measured on held-out inputs of --data; give them, and no --init random.")
    source = find_source(model, weights=weights, example_inputs=example_inputs)
    destination = None if output is None else Path(output)
    written = [] if destination is None else [destination, *sidecars(source, destination)]
    for path in written:
        check_output(path, next(iter(source.files), None), force=outputs.force)
    outputs.check(*source.files, *written)
    measure.check()
    if fine_tune is not None:
        check_tuning(fine_tune, data, destination, force=outputs.force)
    trained_on = None if fine_tune is None else fine_tune.train_data or data
    named = [data, trained_on, test_data]
    opened, (calibration, training, test) = open_with_data(source, input_shapes, named, preprocess)
    varied = None
    if fine_tune is not None and training is not None:
        varied = training_variants(fine_tune, training, opened, preprocess)
        calibration = calibration or training.sample(CALIBRATION, np.random.default_rng(seed))
    chosen, kept = select_sites(opened.found.sites, include, exclude)
    case = Case(opened, chosen, target, calibration, calibration or test, measure, planning, seed, progress, fine_tune)
    planner = Planner(case)
    with naming(source.name), one_blas_thread():
        settled = settled_before(case, destination) or settle(case, planner)
    tuned = None
    if training is not None:
        tuned = tune_settled(case, settled, training, varied, destination)
        settled = tuned.settled
    record = _record(case, settled, kept, test, outputs.arguments)
    record = replace(
        record,
        seconds=dict(planner.seconds),
        fine_tune=None if tuned is None else dict(tuned.figures),
        warnings=[
            *record.warnings,
            *planner.warnings,
            *(() if tuned is None else tuned.warnings),
            *data_warnings(calibration, test, training),
        ],
    )
    result, modules = settled.applied.opened, module_side(source, opened, settled.applied)
    if destination is not None:
        file = save_with_modules(result.model, modules, destination, force=outputs.force)
        after = replace(result.totals, file_bytes=file.bytes)
        record = replace(record, output=file, totals=TotalsPair(opened.totals, after))
    outputs.write(record)
    forget(destination)
    return RewriteResult(record, result.model, destination, modules, why_no_modules(source))


def _record(
    case: Case, settled: Settled, unchosen: Mapping[str, str], test: Dataset | None, arguments: Sequence[str]
) -> Record:
    """Measure the result and tell all about it but where it was written.

    Args:
        case: the original, and how it was to be rewritten.
        settled: the result.
        unchosen: sites that nobody wanted rewritten, and why, by output.
        test: inputs to judge on; None for the calibration inputs, or random ones where there are none.
        arguments: what was typed.
    """
    opened, result, judged = case.opened, settled.applied.opened, test or case.calibration
    kept = {**unchosen, **settled.fits.kept}
    kept |= {plan.site.output: plan.reason for plan in settled.plans if plan.reason is not None}
    fidelity, warnings = measure_fidelity(opened, result, judged, case.seed, case.progress)
    latency = list(settled.latency)
    if case.measure.latency and not latency:
        latency = measure_latency(opened, result, case.sample, case.measure, case.seed, case.progress)
    described = [
        describe_result(opened, site, settled.applied, kept.get(site.output), case.target.forms)
        for site in opened.found.sites
    ]
    sites = with_times(described, settled.sites)
    return Record(
        command="rewrite",
        arguments=list(arguments),
        environment=describe_environment(case.measure.threads, case.measure.devices),
        source=opened.file,
        inputs=list(opened.shapes.inputs),
        sites=sites,
        skipped=[with_refit(skip, settled.fits.dense) for skip in opened.found.skips],
        totals=TotalsPair(opened.totals, result.totals),
        tool=tool(),
        forms=describe_forms(),
        fidelity=fidelity,
        latency=latency,
        plan=with_measured(settled.plan, latency, fidelity),
        self_check=settled.applied.self_check,
        graph=describe_network(opened, sites),
        samples=picture_samples(opened, result, judged),
        warnings=[*opened.shapes.warnings, *settled.fits.warnings, *warnings],
    )

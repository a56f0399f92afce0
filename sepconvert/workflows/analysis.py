"""The survey of a model as a record."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepconvert.errors import UsageError
from sepconvert.progress import Progress, watched
from sepconvert.record import Latency, Record
from sepconvert.report.advice import advise
from sepconvert.workflows.describe import begin_record, describe_sites
from sepconvert.workflows.input_warnings import data_warnings
from sepconvert.workflows.opened import Case, naming, open_with_data, select_sites
from sepconvert.workflows.options import Measure, Planning, Reading
from sepconvert.workflows.outputs import Outputs
from sepconvert.workflows.overlay import latency_overlay
from sepconvert.workflows.request import Request
from sepconvert.workflows.sources import find_source
from sepconvert.workflows.summary import model_layers, with_savings

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import Module


def analyze(
    model: "Path | str | Module",
    *,
    data: Path | str | None = None,
    example_inputs: Any = None,
    form: str = "auto",
    reading: Reading = Reading(),
    planning: Planning = Planning(),
    measure: Measure = Measure(latency=False),
    outputs: Outputs = Outputs(),
    seed: int = 0,
    progress: Progress | bool = True,
) -> Record:
    """List the layers of a model with what they cost, what could be rewritten, and what cannot and why.

    Args:
        model: path of an ONNX, ``.pt2`` or TorchScript file, ``pkg.module:factory``, or a live ``nn.Module``.
            Nothing is loaded that is not needed, also from external data.
        data: inputs, as for ``rewrite``; only their shape matters here, and the values when latency is measured.
        example_inputs: for a live module: a tensor, or tensors in the order of ``forward``'s arguments or by name.
        form: as for ``rewrite``: ``any`` lists pointwise, linear, grouped and transposed layers as sites, too.
        reading: sizes of dynamic inputs, weights for a factory, and how integer arrays and images become inputs.
        planning: which sites are marked kept; whether times of sites are cached; whether the model is timed in INT8,
            too, and with it the sites where that is faster.
        measure: whether and how to time the whole model, each site alone, and its candidates.
        outputs: files to write beside returning the record.
        seed: seed of the random inputs that stand in for missing data.
        progress: True for a bar where somebody watches (a terminal, a notebook) and lines elsewhere, False for none, or
            what is called with the stage, steps done, and steps in all.

    Returns:
        A record whose ``sites`` are ``eligible`` or ``kept``; costs are MACs per sample, parameters and bytes, times
        are milliseconds.

    Raises:
        SepconvertError: the model, data or outputs are not usable; the message says what to do.

    Example:
        >>> import sepconvert
        >>> record = sepconvert.analyze("sample_models/fashion_resnet.onnx")
        >>> record.totals.before.macs, [site.name for site in record.sites][:2]
        (9403904, ['/stem/Conv', '/block1/conv1/Conv'])
    """
    with watched(progress) as tell:
        request = Request(
            model=model,
            data=data,
            example_inputs=example_inputs,
            form=form,
            reading=reading,
            planning=planning,
            measure=measure,
            outputs=outputs,
            seed=seed,
            progress=tell,
        )
        return _run(request)


def _run(request: Request) -> Record:
    reading, planning, measure = request.reading, request.planning, request.measure
    if planning.int8 and not measure.latency:
        raise UsageError("--int8 tells how fast the model is in INT8, which takes --latency, too.")
    source = find_source(
        request.model, weights=reading.weights, weights_key=reading.weights_key, example_inputs=request.example_inputs
    )
    request.outputs.check(*source.files)
    measure.check()
    opened, (dataset,) = open_with_data(source, request, [request.data], request.outputs.paths())
    _, kept = select_sites(opened.found.sites, planning.include, planning.exclude)
    warnings: list[str] = []
    plan, latency = None, list[Latency]()
    with naming(source.name):
        sites = with_savings(opened, describe_sites(opened, kept), request.forms)
        if measure.latency:  # a survey alone imports nothing that times or fits
            from sepconvert.workflows.int8 import alone_beside, prepare_int8
            from sepconvert.workflows.measure import measure_latency
            from sepconvert.workflows.site_times import time_sites

            case = Case(request, opened, (), dataset, dataset)
            int8 = prepare_int8(case) if planning.int8 else None
            sites, warnings = time_sites(case, sites, int8)
            plan = None if int8 is None else alone_beside(case, int8)
            latency = measure_latency(opened, None, dataset, measure, request.seed, request.progress)
    record = begin_record("analyze", request, opened, sites)
    record = replace(
        record,
        layers=model_layers(opened, sites, record.separable),
        plan=plan,
        overlay=latency_overlay(sites, opened.model),
        latency=latency,
    ).telling([*warnings, *data_warnings(dataset, None)])
    record = replace(record, advice=advise(record))
    request.outputs.write(record)
    return record

"""The survey of a model as a record."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepconvert.data import Preprocess
from sepconvert.progress import Progress, silent
from sepconvert.record import Record, TotalsPair
from sepconvert.runtime.environment import describe_environment
from sepconvert.workflows.describe import describe_forms, describe_network, describe_site, tool
from sepconvert.workflows.measure import measure_latency
from sepconvert.workflows.model_and_data import data_warnings, open_with_data
from sepconvert.workflows.opened import naming, select_sites
from sepconvert.workflows.options import Measure, Planning
from sepconvert.workflows.outputs import Outputs
from sepconvert.workflows.sources import find_source

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import Module


def analyze(
    model: "Path | str | Module",
    *,
    data: str | None = None,
    preprocess: Preprocess = Preprocess(),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    weights: Path | str | None = None,
    example_inputs: Any = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    measure: Measure = Measure(latency=False),
    planning: Planning = Planning(),
    outputs: Outputs = Outputs(),
    seed: int = 0,
    progress: Progress = silent,
) -> Record:
    """List the convolutions of a model with their geometry and cost, and what cannot be rewritten and why.

    Args:
        model: path of an ONNX, ``.pt2`` or TorchScript file, ``pkg.module:factory``, or a live ``nn.Module``.
            Nothing is loaded that is not needed, also from external data.
        data: inputs as on the command line; only their shape matters here, and the values when ``latency`` is set.
        preprocess: how integer arrays and images become inputs.
        input_shapes: sizes of dynamic inputs, by input name; a dynamic first dimension otherwise counts as 1.
        weights: a state_dict (``.pt`` or ``.safetensors``) for the module of ``pkg.module:factory``.
        example_inputs: for a live module: a tensor, or tensors in the order of ``forward``'s arguments or by name.
        include: globs; sites that match none of them are marked kept.
        exclude: globs; sites that match are marked kept.
        measure: whether and how to time the whole model, each site alone, and its candidates.
        planning: whether times of sites are cached.
        outputs: files to write beside returning the record.
        seed: seed of the random inputs that stand in for missing data.
        progress: told of every step that takes a while.

    Returns:
        A record whose ``sites`` are ``eligible`` or ``kept``.

    Raises:
        SepconvertError: the model, data or outputs are not usable; the message says what to do.
    """
    source = find_source(model, weights=weights, example_inputs=example_inputs)
    outputs.check(*source.files)
    measure.check()
    opened, (dataset,) = open_with_data(source, input_shapes, [data], preprocess)
    more: list[str] = []
    _, kept = select_sites(opened.found.sites, include, exclude)
    with naming(source.name):
        sites = [
            describe_site(
                opened.model, site, status="kept" if site.output in kept else "eligible", reason=kept.get(site.output)
            )
            for site in opened.found.sites
        ]
        if measure.latency:
            from sepconvert.workflows.site_times import time_sites

            sites, more = time_sites(opened, sites, dataset, measure, planning, seed, progress)
    record = Record(
        command="analyze",
        arguments=list(outputs.arguments),
        environment=describe_environment(measure.threads, measure.devices),
        source=opened.file,
        inputs=list(opened.shapes.inputs),
        sites=sites,
        skipped=list(opened.found.skips),
        totals=TotalsPair(opened.totals),
        tool=tool(),
        forms=describe_forms(),
        latency=measure_latency(opened, None, dataset, measure, seed, progress) if measure.latency else [],
        graph=describe_network(opened, sites),
        warnings=[*opened.shapes.warnings, *more, *data_warnings(dataset, None)],
    )
    outputs.write(record)
    return record

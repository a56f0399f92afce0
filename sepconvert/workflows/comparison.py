"""Two models on the same inputs."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sepconvert.data import Dataset, input_values
from sepconvert.errors import ModelError
from sepconvert.graph.differences import find_differences
from sepconvert.graph.inputs import input_info
from sepconvert.number_types import FLOATS
from sepconvert.progress import Progress, watched
from sepconvert.record import Record, TotalsPair
from sepconvert.report.advice import advise
from sepconvert.workflows.changes import with_changes, with_kinds_replaced
from sepconvert.workflows.describe import begin_record, describe_sites
from sepconvert.workflows.input_warnings import data_warnings, range_warnings
from sepconvert.workflows.measure import check_metric, measure_fidelity, measure_latency
from sepconvert.workflows.metrics import find_metric
from sepconvert.workflows.opened import OpenedModel, check_inputs, naming, open_with_data, shapes_for, survey_model
from sepconvert.workflows.options import Measure, Reading
from sepconvert.workflows.outputs import Outputs
from sepconvert.workflows.request import Request
from sepconvert.workflows.samples import picture_samples
from sepconvert.workflows.sources import ModelSource, find_source, is_factory

if TYPE_CHECKING:
    from sepconvert.pytorch.sources import Module


def compare(
    before: "Path | str | Module",
    after: "Path | str | Module",
    *,
    data: Path | str | None = None,
    example_inputs: Any = None,
    reading: Reading = Reading(),
    measure: Measure = Measure(),
    outputs: Outputs = Outputs(),
    seed: int = 0,
    progress: Progress | bool = True,
) -> Record:
    """Run two models on the same inputs: fidelity per output, top-1 where there are labels, interleaved latency.

    Args:
        before: the original model: a path, ``pkg.module:factory``, or a live ``nn.Module``.
        after: the model to judge, likewise; it must have the same inputs and outputs.
        data: inputs, as for ``rewrite``; without them, seeded random ones, and the record says so.
        example_inputs: for live modules: a tensor, or tensors in the order of ``forward``'s arguments or by name.
        reading: sizes of dynamic inputs, how integer arrays and images become inputs, and weights: for ``before`` where
            it is ``pkg.module:factory``, else for ``after``.
        measure: whether and how to time both models.
        outputs: files to write beside returning the record.
        seed: seed of random inputs and of the bootstrap.
        progress: True for a bar where somebody watches (a terminal, a notebook) and lines elsewhere, False for none, or
            what is called with the stage, steps done, and steps in all.

    Returns:
        A record with ``fidelity`` (relative errors per output, shares of right answers) and ``latency`` (ms).

    Raises:
        SepconvertError: a model, the data or the outputs are not usable; the message says what to do.

    Example:
        >>> import sepconvert
        >>> model = "sample_models/fashion_resnet.onnx"
        >>> record = sepconvert.compare(model, model, measure=sepconvert.Measure(latency=False))
        >>> record.fidelity.outputs[0].relative_error
        0.0
    """
    with watched(progress) as tell:
        request = Request(
            model=before,
            form="any",
            data=data,
            example_inputs=example_inputs,
            reading=reading,
            measure=measure,
            outputs=outputs,
            seed=seed,
            progress=tell,
        )
        return _run(request, after)


def _run(request: Request, after: "Path | str | Module") -> Record:
    measure, outputs = request.measure, request.outputs
    old, new = _find_sources(request.model, after, request.reading, request.example_inputs)
    outputs.check(*old.files, *new.files)
    measure.check()
    first, (dataset,) = open_with_data(old, request, [request.data], outputs.paths())
    check_inputs(first)
    if not first.shapes.inputs:
        raise ModelError(f"{old.name} takes no inputs, so that there is nothing to compare it on.")
    second = _open_second(new, first, request, dataset)
    outputs.check(*second.model.data_files)
    metric = find_metric(measure.metric)
    values = input_values(dataset)
    found = find_differences(first.model, second.model)
    first = with_kinds_replaced(first, found)
    with naming(old.name):
        check_metric(first, request, [] if dataset is None else [dataset])
        fidelity, warnings = measure_fidelity(first, second, dataset, request.seed, request.progress, metric)
        record = begin_record("compare", request, first, describe_sites(first, {}))
    record = replace(
        record,
        output=second.file,
        totals=TotalsPair(first.totals, replace(second.totals, site_macs=None)),
        fidelity=fidelity,
        latency=measure_latency(first, second, dataset, measure, request.seed, request.progress)
        if measure.latency
        else [],
        samples=picture_samples(first, second, dataset, fidelity, request.reading),
        input_values=values,
    ).telling([*data_warnings(dataset, None), *warnings, *range_warnings(first, dataset, values)])
    record = with_changes(record, first, second, found)
    record = replace(record, advice=advise(record))
    outputs.write(record)
    return record


def _find_sources(before: Any, after: Any, reading: Reading, example_inputs: Any) -> tuple[ModelSource, ModelSource]:
    """Weights go to the factory of the two, the first if both are; examples to live modules."""
    weighted = 0 if is_factory(before) or not is_factory(after) else 1
    first, second = (
        find_source(
            model,
            weights=reading.weights if place == weighted else None,
            weights_key=reading.weights_key if place == weighted else None,
            example_inputs=None if isinstance(model, str | Path) else example_inputs,
        )
        for place, model in enumerate((before, after))
    )
    return first, second


def _open_second(source: ModelSource, first: OpenedModel, request: Request, dataset: Dataset | None) -> OpenedModel:
    """Open the other version; its inputs may have other names (in the same order) and other float types.

    Raises:
        ModelError: it cannot be read, or its inputs do not correspond to the first one's.
    """
    sizes = shapes_for(request.reading.input_shapes, dataset)
    with naming(source.name):
        model = source.load(sizes, request.reading.input_types)
    ours = {info.name: info.dtype for info in first.shapes.inputs}
    fed = [input_info(value, None) for value in model.ir.graph.inputs if not value.is_initializer()]
    theirs = {info.name: info.dtype for info in fed}
    names = dict(zip(ours, ours if ours.keys() == theirs.keys() else theirs, strict=False))
    alike = len(ours) == len(theirs) and all(
        dtype == theirs[names[name]] or {dtype, theirs[names[name]]} <= FLOATS for name, dtype in ours.items()
    )
    if not alike:
        raise ModelError(
            f"{first.model.label} and {source.name} cannot be compared: their inputs are {_spell(ours)} and "
            f"{_spell(theirs)}; pass two versions of one model."
        )
    return survey_model(source, request, model, {names.get(name, name): size for name, size in sizes.items()})


def _spell(inputs: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({dtype})" for name, dtype in inputs.items())

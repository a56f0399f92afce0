"""A model with its shapes, its sites, its totals and the inputs given for it: what every workflow starts from."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType

from sepconvert.data import Data, Dataset, data_files, load_data
from sepconvert.data.class_names import read_class_names
from sepconvert.errors import DataError, ModelError, NothingToDoError, UsageError
from sepconvert.files import check_outputs
from sepconvert.graph.count import count_totals
from sepconvert.graph.inputs import check_fed
from sepconvert.graph.load import LoadedModel
from sepconvert.graph.shapes import Shapes, infer_shapes
from sepconvert.graph.sites import ConvSite
from sepconvert.graph.survey import Survey, survey
from sepconvert.graph.uses import free_inputs
from sepconvert.record import ModelFile, Totals
from sepconvert.workflows.request import Request
from sepconvert.workflows.sizes import find_sizes
from sepconvert.workflows.sources import ModelSource

CHECKED = 0.2
"""Share of the calibration inputs that errors are checked on: nothing is fitted to these."""
_NOT_RUN = ("float64", "bfloat16")


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A loaded model and all that its structure tells."""

    model: LoadedModel
    shapes: Shapes
    found: Survey
    totals: Totals

    @property
    def file(self) -> ModelFile:
        """The model file as the record names it."""
        return ModelFile(self.model.label, self.model.sha256, self.model.bytes)


@dataclass(frozen=True, slots=True)
class Case:
    """What was asked, the model opened, the sites that may be rewritten, and inputs.

    ``calibration`` are inputs to fit to, ``sample`` those to time with; either may be None.
    """

    request: Request
    opened: OpenedModel
    sites: Sequence[ConvSite]
    calibration: Dataset | None
    sample: Dataset | None


def open_model(
    source: ModelSource,
    request: Request,
    input_shapes: Mapping[str, Sequence[int]],
    input_types: Mapping[str, str] = MappingProxyType({}),
) -> OpenedModel:
    """Load a model, infer its shapes, survey its convolutions and count its totals.

    Raises:
        ModelError: it cannot be read or exported, or is invalid.
        UsageError: an input is of another type than was said.
    """
    with naming(source.name):
        model = source.load(input_shapes, input_types)
    opened = survey_model(source, request, model, input_shapes)
    types = {info.name: info.dtype for info in opened.shapes.inputs}
    for name, dtype in input_types.items():
        if types.get(name) != dtype:
            raise UsageError(f"--input says that '{name}' is {dtype}, but the model takes {types.get(name)}.")
    return opened


def survey_model(
    source: ModelSource, request: Request, model: LoadedModel, input_shapes: Mapping[str, Sequence[int]]
) -> OpenedModel:
    """Infer the shapes of a loaded model, survey its convolutions and count its totals.

    Raises:
        ModelError: it is invalid, or the shapes do not fit.
    """
    with naming(source.name):
        shapes = infer_shapes(model, input_shapes)
        shapes = replace(shapes, warnings=(*model.notes, *shapes.warnings))
        found = source.confine(survey(model, shapes).allowing(request.forms, request.layers), model)
    return OpenedModel(model, shapes, found, count_totals(model, shapes, [use.product for use in found.uses]))


def check_inputs(opened: OpenedModel) -> None:
    """Refuse, before any work is done, a model with inputs that are no arrays of numbers.

    Raises:
        ModelError: an input is text, a sequence, or may be left out.
    """
    with naming(opened.model.label):
        check_fed(free_inputs(opened.model.ir.graph))


def check_runs(opened: OpenedModel) -> None:
    """Refuse, before any work is done, a model that onnxruntime could not be fed, or has no convolutions for.

    Raises:
        ModelError: an input is no array of numbers, or a site is of a float type that is missing there.
    """
    check_inputs(opened)
    lacking = next((site.dtype for site in opened.found.sites if site.dtype in _NOT_RUN), None)
    if lacking is not None:
        raise ModelError(
            f"{opened.model.label} computes in {lacking}, for which onnxruntime has no Conv on the CPU; convert it to "
            "float32 and export it again (a PyTorch module: module.float())."
        )


def open_with_data(
    source: ModelSource, request: Request, named: Sequence[Data | None], written: Sequence[Path] = ()
) -> tuple[OpenedModel, list[Dataset | None]]:
    """Open a model and inputs for it.

    Args:
        source: where the model is from.
        request: its ``reading`` gives sizes of inputs (those that are not given come from a sample of the first data
            there is), and how integer arrays and images become inputs; its forms decide what is a site.
        named: data as ``load_data`` takes it, None where none is given.
        written: files that will be written; an input is none of them.

    Returns:
        The model, and a dataset or None for each of ``named``.

    Raises:
        ModelError: the model cannot be read or exported, or is invalid.
        DataError: data cannot be read or does not fit the model's inputs.
        OutputError: a file would be written over the model's weights, or over data.
    """
    reading = request.reading
    read_class_names(reading.labels)  # which are used at the end
    given = reading.input_shapes
    sizes = find_sizes(source, reading, named)
    opened = open_model(source, request, sizes.shapes, sizes.types)
    if request.measure.latency or any(spec is not None for spec in named):
        check_inputs(opened)
    data = [file for spec in named if spec is not None for file in data_files(spec, written)]
    check_outputs(written, force=True, inputs=[*opened.model.data_files, *data])
    # Each once: what is given for two purposes may be gone through a single time, or give something else the next.
    distinct = {id(spec): spec for spec in sizes.data if spec is not None}
    read = {key: load_data(spec, opened.shapes.inputs, reading.preprocess) for key, spec in distinct.items()}
    faults = [dataset.label_fault for dataset in read.values() if dataset.label_fault]
    if faults and request.measure.metric is None:
        raise DataError(faults[0])
    found = [read.get(id(spec)) for spec in sizes.data]
    sample = next((dataset for dataset in found if dataset is not None), None)
    if sample is not None:
        opened = survey_model(source, request, opened.model, shapes_for(given, sample))
    return opened, found


def shapes_for(given: Mapping[str, Sequence[int]], dataset: Dataset | None) -> dict[str, tuple[int, ...]]:
    """Shapes to count and time with: those given, else those of one sample of the data."""
    sampled = {} if dataset is None else dataset.shapes()
    return sampled | {name: tuple(shape) for name, shape in given.items()}


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the model's name before a complaint about a part of the model."""
    try:
        yield
    except ModelError as error:
        if name in str(error):
            raise
        raise ModelError(f"{name}: {error}") from None


def select_sites(
    sites: Sequence[ConvSite], include: Sequence[str], exclude: Sequence[str]
) -> tuple[list[ConvSite], dict[str, str]]:
    """Split sites by the globs into those to rewrite and those kept, the latter as ``{output: reason}``.

    A site that is kept by default (one input or output channel) is rewritten only if ``include`` names it exactly.

    Raises:
        NothingToDoError: a glob matches no site.
    """
    for option, patterns in (("--include", include), ("--exclude", exclude)):
        for pattern in patterns:
            if not any(_matches(site, [pattern]) for site in sites):
                raise NothingToDoError(
                    f"{option} {pattern} matches none of the {len(sites)} sites; 'sepconvert analyze' lists them."
                )
    chosen, kept = [], {}
    for site in sites:
        named = any(text in include for text in _names(site))
        if _matches(site, exclude):
            kept[site.output] = "excluded by --exclude"
        elif include and not _matches(site, include):
            kept[site.output] = "not named by --include"
        elif site.keep_reason is not None and not named:
            kept[site.output] = site.keep_reason
        else:
            chosen.append(replace(site, keep_reason=None))
    return chosen, kept


def _matches(site: ConvSite, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(text, p) or text == p for text in _names(site) for p in patterns)


def _names(site: ConvSite) -> list[str]:
    """What a site may be called: every layer of its weight has a name and an output."""
    return [text for use in site.uses for text in (use.name, use.output)]

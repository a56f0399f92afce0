"""The user's data meets the model's inputs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from sepconvert.data import Dataset, count_overlap, load_data
from sepconvert.workflows.opened import OpenedModel, open_model, survey_model
from sepconvert.workflows.options import Reading
from sepconvert.workflows.sources import ModelSource


def open_with_data(
    source: ModelSource, reading: Reading, named: Sequence[Path | str | None]
) -> tuple[OpenedModel, list[Dataset | None]]:
    """Open a model and inputs for it.

    Args:
        source: where the model is from.
        reading: sizes of dynamic inputs (those that are not given come from a sample of the first data there is), and
            how integer arrays and images become inputs.
        named: data as on the command line, None where none is given.

    Returns:
        The model, and a dataset or None for each of ``named``.

    Raises:
        ModelError: the model cannot be read or exported, or is invalid.
        DataError: data cannot be read or does not fit the model's inputs.
    """
    given = reading.input_shapes
    opened = open_model(source, given, reading.input_types)
    found = [None if spec is None else load_data(spec, opened.shapes.inputs, reading.preprocess) for spec in named]
    sample = next((dataset for dataset in found if dataset is not None), None)
    if sample is not None:
        opened = survey_model(source, opened.model, shapes_for(given, sample))
    return opened, found


def shapes_for(given: Mapping[str, Sequence[int]], dataset: Dataset | None) -> dict[str, tuple[int, ...]]:
    """Shapes to count and time with: those given, else those of one sample of the data."""
    sampled = {} if dataset is None else dataset.shapes()
    return sampled | {name: tuple(shape) for name, shape in given.items()}


def data_warnings(calibration: Dataset | None, test: Dataset | None, training: Dataset | None = None) -> list[str]:
    """What the data itself gives cause to say: samples left out, test inputs that calibration or training has seen."""
    known = [dataset for dataset in (calibration, test, training) if dataset is not None]
    warnings = list(dict.fromkeys(warning for dataset in known for warning in dataset.warnings))
    for dataset, what in ((calibration, "calibration"), (training, "training")):
        if dataset is not None and not dataset.varies:
            warnings.append(
                f"All {dataset.count} {what} inputs are the same: a model fitted to them is likely to be useless on "
                "others; check the files and how they are read."
            )
        if dataset is None or test is None:
            continue
        shared = count_overlap(dataset, test)
        if shared:
            warnings.append(
                f"{shared} of {test.count} test inputs are {what} inputs too; fidelity on those is no evidence."
            )
    return warnings

"""The user's data meets the model's inputs."""

from collections.abc import Mapping, Sequence

from sepconvert.data import Dataset, Preprocess, count_overlap, load_data
from sepconvert.workflows.opened import OpenedModel


def read_data(source: str | None, opened: OpenedModel, preprocess: Preprocess) -> Dataset | None:
    """Open calibration or test inputs for a model; None where none are named.

    Raises:
        DataError: they cannot be read or do not fit the model's inputs.
    """
    return None if source is None else load_data(source, opened.shapes.inputs, preprocess)


def shapes_for(given: Mapping[str, Sequence[int]], dataset: Dataset | None) -> dict[str, tuple[int, ...]]:
    """Shapes to count and time with: those given, else those of one sample of the data."""
    sampled = {} if dataset is None else dataset.shapes()
    return sampled | {name: tuple(shape) for name, shape in given.items()}


def data_warnings(calibration: Dataset | None, test: Dataset | None, training: Dataset | None = None) -> list[str]:
    """What the data itself gives cause to say: samples left out, test inputs that calibration or training has seen."""
    known = [dataset for dataset in (calibration, test, training) if dataset is not None]
    warnings = list(dict.fromkeys(warning for dataset in known for warning in dataset.warnings))
    for dataset, what in ((calibration, "calibration"), (training, "training")):
        if dataset is None or test is None:
            continue
        shared = count_overlap(dataset, test)
        if shared:
            warnings.append(
                f"{shared} of {test.count} test inputs are {what} inputs too; fidelity on those is no evidence."
            )
    return warnings

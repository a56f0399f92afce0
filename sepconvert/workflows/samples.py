"""A few samples as both models see them, for the page: those that changed most, in the colours they were taken in."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.data.class_names import read_class_names
from sepconvert.data.preprocess import as_pixels
from sepconvert.errors import DataError
from sepconvert.graph.save import runnable
from sepconvert.record import Fidelity, SampleImages
from sepconvert.workflows.opened import OpenedModel
from sepconvert.workflows.options import Reading

SHOWN = 4
CERTAIN = 0.3  # boxes of a lower score are not drawn

Arrays = Mapping[str, NDArray[np.generic]]


def picture_samples(
    before: OpenedModel, after: OpenedModel, dataset: Dataset | None, fidelity: Fidelity | None, reading: Reading
) -> list[SampleImages]:
    """Show what both models make of a few inputs: pictures, boxes on them, else the largest entry.

    The leading output for the first input is shown, of the samples that changed most first; random inputs show nothing
    worth seeing.

    Raises:
        DataError: the file with the names of classes cannot be read.
    """
    from sepconvert.report.pictures import Sample, sample_images
    from sepconvert.runtime.feeds import adapt_feeds, pair_inputs
    from sepconvert.runtime.sessions import open_session

    names = read_class_names(reading.labels)
    if dataset is None:
        return []
    changed = [] if fidelity is None else fidelity.most_changed
    places = [place for place in dict.fromkeys((*changed, *range(SHOWN))) if place < dataset.count][:SHOWN]
    feeds = [dataset.at(place).feed() for place in places]
    first = open_session(runnable(before.model))
    taken = first.inputs
    leading = None if fidelity is None else fidelity.leading_output
    index = next((index for index, info in enumerate(first.outputs) if info.name == leading), 0)
    old = [_output(first.run(feed), leading, index) for feed in feeds]
    del first  # of two large models only one fits into memory
    second = open_session(runnable(after.model))
    pairs = pair_inputs(taken, second.inputs)
    new = [_output(second.run(adapt_feeds(feed, pairs)), leading, index) for feed in feeds]
    found = []
    for place, feed, y, y_hat in zip(places, feeds, old, new, strict=True):
        row, given = place % (dataset.batch or 1), next(iter(feed.values()))
        if not len(given) == len(y) == len(y_hat):
            return []
        looked = _looked_at(given[row], before, reading)
        label = f"sample {place + 1}"
        if dataset.labels is not None:
            number = int(dataset.labels[place])
            label += f", labelled {names.get(number, number)}"
        boxes = _boxes(y, y_hat, row, looked)
        found.append(sample_images(Sample(label, y[row], y_hat[row], looked, boxes, names)))
    return found


def _output(values: Arrays, name: str | None, index: int) -> NDArray[np.generic]:
    """The output of a name, or at its place where the models call their outputs differently."""
    return values[name] if name is not None and name in values else list(values.values())[index]


def _looked_at(given: NDArray[np.generic], before: OpenedModel, reading: Reading) -> NDArray[np.generic]:
    """An input as pixels where it is a picture, else as it is."""
    info = before.shapes.inputs[0]
    if given.ndim != 3 or len(info.declared_shape) != 4:
        return given
    try:
        return as_pixels(given, info, reading.preprocess)
    except DataError:  # where its channels are is not known, or means are of other inputs
        return given


def _boxes(
    old: NDArray[np.generic], new: NDArray[np.generic], row: int, looked: NDArray[np.generic]
) -> tuple[NDArray[np.generic], NDArray[np.generic]] | None:
    from sepconvert.verify.boxes import find_boxes, holds_boxes

    if looked.ndim < 2 or not all(holds_boxes(values[row : row + 1]) for values in (old, new)):
        return None
    size = looked.shape[:2] if looked.ndim == 2 or looked.shape[-1] in (1, 3, 4) else looked.shape[-2:]
    before, after = (find_boxes(values[row : row + 1], CERTAIN, (size[0], size[1]))[0] for values in (old, new))
    return before, after

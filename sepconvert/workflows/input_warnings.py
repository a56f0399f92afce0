"""What the inputs give cause to say: too little variety, inputs seen before, values that the model was not trained on.

The model's first BatchNorm remembers the mean and variance of each channel from training. Inputs that were prepared as
in training give about the same ones. A wrong ``--scale``, or ``--mean`` and ``--std`` left away, gives others by far. A
model whose BatchNorms were folded into its convolutions remembers nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset, count_overlap
from sepconvert.graph.batch_axes import batch_axes
from sepconvert.graph.heads import expose
from sepconvert.graph.save import model_bytes
from sepconvert.graph.trained_range import first_trained_range
from sepconvert.record import InputValues, Note, Record
from sepconvert.workflows.opened import OpenedModel

_SAMPLES = 64
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_COMPARED = 512  # samples that are looked through for copies
# Natural inputs of one kind stay well inside these, in the median over the channels; forgetting to divide by a
# standard deviation of 0.25 changes a variance sixteenfold.
_WIDEST_RATIO = 5.0
_FARTHEST_MEAN = 3.0  # standard deviations
_LARGEST_PIXEL = 1000.0  # far above bytes, whatever was subtracted


def range_warnings(opened: OpenedModel, dataset: Dataset | None, values: Sequence[InputValues]) -> list[str]:
    """Say where inputs look prepared in another way than in training.

    Args:
        opened: the original.
        dataset: inputs; None, or random ones, are not judged.
        values: what is known of the inputs' values.
    """
    if dataset is None or dataset.synthetic:
        return []
    images = {info.name for info in opened.shapes.inputs if len(info.declared_shape) == 4 and "float" in info.dtype}
    said = [
        f"Input '{found.name}' has values from {found.lowest:.6g} to {found.highest:.6g}, which no preparation of "
        "images gives; check --scale, --mean and --std."
        for found in values
        if found.name in images and max(-found.lowest, found.highest) > _LARGEST_PIXEL
    ]
    found = (_samples_elsewhere(opened), _unlike_training(opened, dataset))
    return [*said, *(text for text in found if text is not None)]


def _samples_elsewhere(opened: OpenedModel) -> str | None:
    """Say where what is cut into samples is something else: a convolution has its samples along its first axis."""
    axes = batch_axes(opened.model, opened.shapes)
    uses = (use for site in opened.found.sites for use in site.uses if use.notation.operator in _CONVOLUTIONS)
    turned = next((use for use in uses if axes.get(use.input)), None)
    if turned is None:
        return None
    return (
        f"The first axis of the inputs is taken for their samples, but becomes axis {axes[turned.input]} of "
        f"'{turned.input}', which {turned.notation.operator} '{turned.name}' reads with its samples along axis 0; "
        "export the model with the samples first."
    )


def _unlike_training(opened: OpenedModel, dataset: Dataset) -> str | None:
    trained = first_trained_range(opened.model)
    seen = None if trained is None else _values_of(opened, dataset, trained.value)
    if trained is None or seen is None or seen.shape[1] != len(trained.mean):
        return None
    flat = np.moveaxis(seen, 1, 0).reshape(len(trained.mean), -1)
    spread = np.sqrt(trained.variance + 1e-12)
    ratio = float(np.median(flat.var(axis=1) / spread**2))
    away = float(np.median(np.abs(flat.mean(axis=1) - trained.mean) / spread))
    if 1 / _WIDEST_RATIO <= ratio <= _WIDEST_RATIO and away <= _FARTHEST_MEAN:
        return None
    return (
        f"The inputs seem to be prepared in another way than in training: at the model's first BatchNorm "
        f"({trained.name}) the variance is {ratio:.3g} times, and the mean {away:.3g} standard deviations away from, "
        "what it saw then; check --scale, --mean, --std and the order of the channels."
    )


def _values_of(opened: OpenedModel, dataset: Dataset, name: str) -> NDArray[np.float64] | None:
    """The values (N, C, …) that a BatchNorm gets for some inputs of one shape."""
    from sepconvert.runtime.sessions import open_session

    session = open_session(model_bytes(expose(opened.model, [name])))
    found: list[NDArray[np.float64]] = []
    for feeds in dataset.first(_SAMPLES).batches(16):
        values = session.run(feeds, [name])[name].astype(np.float64)
        if values.ndim < 2 or (found and values.shape[1:] != found[0].shape[1:]):
            break
        found.append(values)
    return np.concatenate(found) if found else None


def judged_by_fitted(record: Record, inputs: int) -> Record:
    """Say in a record that accuracy was measured on the calibration inputs, and whether all of these were fitted to.

    Args:
        record: its plan says how many were held out, if any were.
        inputs: how many calibration inputs there are.
    """
    held_out = ((record.plan and record.plan.measured) or {}).get("held_out_inputs")
    on = "the inputs that the layers were fitted to"
    if held_out:
        on = f"all {inputs} calibration inputs, {inputs - held_out} of which were fitted to"
    fidelity = None if record.fidelity is None else replace(record.fidelity, fitted=not held_out)
    said = Note(
        f"Without --test-data, error and accuracy are measured on {on}; on others they may be worse. Give --test-data, "
        "none of them in --data."
    )
    return replace(record, fidelity=fidelity).telling([said])


def _repetition(dataset: Dataset, what: str) -> list[str]:
    """Say where inputs are mostly copies of others: then those that are held out were fitted to."""
    if not dataset.varies:
        return [
            f"All {dataset.count} {what} inputs are the same: a model fitted to them is likely to be useless on "
            "others; check the files and how they are read."
        ]
    looked_at = dataset.first(_COMPARED)
    distinct = len(set(looked_at.sample_hashes()))
    if 2 * distinct > looked_at.count:
        return []
    return [
        f"Only {distinct} of {looked_at.count} {what} inputs differ from each other, so that errors on them are no "
        "evidence of accuracy on others; check the files and how they are read."
    ]


def data_warnings(calibration: Dataset | None, test: Dataset | None, training: Dataset | None = None) -> list[str]:
    """What the data itself gives cause to say: samples left out, test inputs that calibration or training has seen."""
    known = [dataset for dataset in (calibration, test, training) if dataset is not None]
    warnings = list(dict.fromkeys(warning for dataset in known for warning in dataset.warnings))
    for dataset, what in ((calibration, "calibration"), (training, "training")):
        if dataset is None:
            continue
        warnings += _repetition(dataset, what)
        if test is None:
            continue
        shared = count_overlap(dataset, test)
        if shared:
            warnings.append(
                f"{shared} of {test.count} test inputs are {what} inputs too; fidelity on those is no evidence."
            )
    return warnings

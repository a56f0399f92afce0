"""``.npz`` and ``.npy`` files, and arrays already in memory."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data.dataset import Dataset, Feeds, make_dataset
from sepconvert.data.matching import (
    ArraySource,
    check_dtype,
    check_shape,
    check_values,
    find_constant,
    match_names,
    static_batch,
)
from sepconvert.data.preprocess import Preprocess
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

LABELS = "y"


def load_npz(path: Path, inputs: Sequence[InputInfo], preprocess: Preprocess) -> Dataset:
    """Read arrays named after the inputs (``x`` for a single one), and labels ``y`` unless an input has that name.

    Raises:
        DataError: the file is damaged, holds pickled objects, or its arrays do not fit the inputs.
    """
    return from_arrays(read_npz(path), inputs, preprocess, str(path))


def load_npy(path: Path, inputs: Sequence[InputInfo], preprocess: Preprocess) -> Dataset:
    """Read one array for the model's only input; it stays on disk until it is used.

    Raises:
        DataError: the file is damaged, holds pickled objects, or the model has several inputs.
    """
    if len(inputs) != 1:
        names = ", ".join(f"'{info.name}'" for info in inputs)
        raise DataError(f"{path} holds one array but the model has the inputs {names}; give an .npz with one for each.")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise _damaged(path, error) from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is an .npz file; give it that suffix.")
    return from_arrays({inputs[0].name: array}, inputs, preprocess, str(path))


def read_npz(path: Path) -> Feeds:
    """Read all arrays of an ``.npz``; pickled objects are refused, since unpickling runs code."""
    try:
        # An open file of our own: numpy forgets to close its one where the zip is damaged.
        with path.open("rb") as stream:
            file = np.load(stream, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise DataError(f"{path} is an .npy file; give it that suffix.")
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, OSError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    if "pickle" in str(error) or "object" in str(error).lower():
        return DataError(
            f"{path} holds pickled objects or is no numpy file, and unpickling would run code; "
            "save plain arrays of numbers with numpy.savez or numpy.save."
        )
    return DataError(f"{path} is damaged or no numpy file ({error}); make it again with numpy.savez or numpy.save.")


def from_arrays(
    arrays: Mapping[str, NDArray[Any]], inputs: Sequence[InputInfo], preprocess: Preprocess, origin: str
) -> Dataset:
    """Make a dataset of arrays with a leading sample axis; see ``load_npz`` for names, labels and errors."""
    given = dict(arrays)
    takes_labels = LABELS not in {info.name for info in inputs}
    raw_labels = given.pop(LABELS, None) if takes_labels else None
    labels = None if raw_labels is None else check_labels(raw_labels, origin)
    found = match_names(given, inputs, origin)
    for info in inputs:
        check_shape(found[info.name].shape, info, origin)
        check_dtype(found[info.name], info, preprocess, origin)
    constant = find_constant(found, inputs)
    source = ArraySource(found, tuple(inputs), preprocess, constant)
    count = _count(source, origin)
    dataset = make_dataset(source, count, origin, batch=static_batch(inputs, constant, origin), labels=labels)
    check_values(source, count, origin)
    return dataset


def _count(source: ArraySource, origin: str) -> int:
    counts = {i.name: len(source.arrays[i.name]) for i in source.inputs if i.name not in source.constant}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} for '{name}'" for name, count in counts.items())
        raise DataError(f"{origin} holds different numbers of samples ({said}); give each input the same number.")
    if not counts:
        raise DataError(f"{origin}: no input of the model has a sample dimension, so there is nothing to iterate over.")
    return next(iter(counts.values()))


def check_labels(labels: NDArray[Any], origin: str) -> NDArray[np.int64]:
    """Return labels as int64 (N,).

    Raises:
        DataError: they are not integers ≥ 0, or not one per sample.
    """
    if labels.dtype.kind not in "iu":
        raise DataError(f"{origin}: the labels '{LABELS}' are {labels.dtype}; give integer class numbers.")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise DataError(f"{origin}: the labels '{LABELS}' have shape {labels.shape}; give one class number per sample.")
    if labels.size and labels.min() < 0:
        raise DataError(f"{origin}: the labels '{LABELS}' hold {labels.min()}; class numbers start at 0.")
    return labels.astype(np.int64)

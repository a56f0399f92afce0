"""``.npz`` and ``.npy`` files, and arrays already in memory."""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data.dataset import Dataset, Feeds, make_dataset
from sepconvert.data.matching import (
    LABELS,
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
from sepconvert.files import need_regular
from sepconvert.record import InputInfo

MOST_BYTES = 4 << 30  # what one source of inputs may bring into memory


def load_npy(path: Path, inputs: Sequence[InputInfo], preprocess: Preprocess) -> Dataset:
    """Read one array for the model's only input; it stays on disk until it is used.

    Raises:
        DataError: the file is damaged, holds pickled objects, or the model has several inputs.
    """
    if len(inputs) != 1:
        names = ", ".join(f"'{info.name}'" for info in inputs)
        raise DataError(f"{path} holds one array but the model has the inputs {names}; give an .npz with one for each.")
    return from_arrays({inputs[0].name: open_npy(path)}, inputs, preprocess, str(path))


def open_npy(path: Path) -> NDArray[Any]:
    """Map an array into memory.

    Raises:
        DataError: the file is damaged, or holds pickled objects.
    """
    with _reading(path):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path} is an .npz file; give it that suffix.")
    return array


def read_npz(path: Path) -> Feeds:
    """Read all arrays of an ``.npz``; pickled objects are refused, since unpickling runs code.

    Raises:
        DataError: the file is damaged, encrypted, or would unpack to more than ``MOST_BYTES``.
    """
    with _reading(path), path.open("rb") as stream:  # numpy forgets to close a file of its own where the zip is damaged
        if stream.read(6) == b"\x93NUMPY":
            raise DataError(f"{path} is an .npy file; give it that suffix.")
        stream.seek(0)
        with zipfile.ZipFile(stream) as archive:
            size = sum(_declared_bytes(archive, member) for member in archive.infolist())
        if size > MOST_BYTES:
            raise DataError(
                f"{path} would unpack to {size / 1e9:,.1f} GB, more than the {MOST_BYTES >> 30} GB that are read into "
                "memory; give fewer samples, or an .npy, which stays on disk."
            )
        stream.seek(0)
        file = np.load(stream, allow_pickle=False)
        return {name: file[name] for name in file.files}


def _declared_bytes(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """Bytes that a member's array takes, by its header alone: a few compressed bytes may declare petabytes."""
    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        held = member.file_size - stream.tell()
    declared = prod(shape) * dtype.itemsize
    if dtype.hasobject:
        raise ValueError("it holds pickled objects")
    if declared != held:
        raise ValueError(f"'{member.filename}' declares {declared} bytes, but holds {held}")
    return declared


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn whatever numpy and zipfile make of a file that is none of theirs into one sentence."""
    try:
        need_regular(path)
        yield
    except DataError:
        raise
    except Exception as error:  # among others of the tokenizer, which reads headers, and "password required"
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> DataError:
    if "pickle" in str(error) or "Python objects" in str(error):
        return DataError(
            f"{path} holds pickled objects or is no numpy file, and unpickling would run code; "
            "save plain arrays of numbers with numpy.savez or numpy.save."
        )
    reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return DataError(f"{path} is damaged or no numpy file ({reason}); make it again with numpy.savez or numpy.save.")


def from_arrays(
    arrays: Mapping[str, NDArray[Any]], inputs: Sequence[InputInfo], preprocess: Preprocess, origin: str
) -> Dataset:
    """Make a dataset of arrays with a leading sample axis.

    They are named after the inputs (``x`` for a single one); ``y`` are labels, unless an input has that name: one class
    number per sample, or whatever else a metric takes.

    Raises:
        DataError: the arrays do not fit the inputs.
    """
    given = dict(arrays)
    takes_labels = LABELS not in {info.name for info in inputs}
    raw_labels = given.pop(LABELS, None) if takes_labels else None
    labels, targets = sort_labels(raw_labels, origin)
    found = match_names(given, inputs, origin)
    for info in inputs:
        check_shape(found[info.name].shape, info, origin)
        check_dtype(found[info.name], info, preprocess, origin)
    constant = find_constant(found, inputs)
    source = ArraySource(found, tuple(inputs), preprocess, constant)
    count = _count(source, origin)
    dataset = make_dataset(
        source, count, origin, batch=static_batch(inputs, constant, origin), labels=labels, targets=targets
    )
    if targets is not None:
        dataset = replace(dataset, label_fault=_label_fault(targets, origin))
    check_values(source, count, origin)
    return dataset


def as_array(values: Any) -> NDArray[Any]:
    """Numbers as an array: a torch tensor of any device, type and history too."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":  # numpy has no such type; float32 holds all its numbers
            values = values.float()
    return np.asarray(values)


def label_array(given: Any) -> NDArray[Any] | None:
    """Labels as one array (N, …); a dict of them becomes its fields, so that ``labels["mask"]`` is one of them again.

    None where a dict holds anything else than arrays with as many rows each.
    """
    if not isinstance(given, Mapping):
        return as_array(given)
    parts = {str(name): as_array(value) for name, value in given.items()}
    rows = {len(part) if part.ndim else None for part in parts.values()}
    if len(rows) != 1 or None in rows or any(part.dtype.hasobject for part in parts.values()):
        return None
    fields: list[Any] = [(name, part.dtype, part.shape[1:]) for name, part in parts.items()]
    found = np.empty(len(next(iter(parts.values()))), fields)
    for name, part in parts.items():
        found[name] = part
    return found


def named_arrays(given: Mapping[Any, Any], inputs: Sequence[InputInfo], origin: str) -> Feeds:
    """Arrays by name, with the labels among them.

    Raises:
        DataError: the labels are a dict of something else than arrays with a row for each sample.
    """
    found = {}
    for name, value in given.items():
        is_labels = name == LABELS and LABELS not in {info.name for info in inputs}
        array = label_array(value) if is_labels else as_array(value)
        if array is None:
            raise DataError(f"{origin}: give the labels '{LABELS}' as arrays with a row for each sample.")
        found[str(name)] = array
    return found


def _count(source: ArraySource, origin: str) -> int:
    counts = {i.name: len(source.arrays[i.name]) for i in source.inputs if i.name not in source.constant}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{count} for '{name}'" for name, count in counts.items())
        raise DataError(f"{origin} holds different numbers of samples ({said}); give each input the same number.")
    if not counts:
        raise DataError(f"{origin}: no input of the model has a sample dimension, so there is nothing to iterate over.")
    return next(iter(counts.values()))


def _label_fault(targets: NDArray[Any], origin: str) -> str:
    if targets.dtype.kind not in "iu":
        return f"{origin}: the labels '{LABELS}' are {targets.dtype}; give integer class numbers, or --metric."
    return f"{origin}: the labels '{LABELS}' have shape {targets.shape}; give one class number per sample, or --metric."


def sort_labels(given: NDArray[Any] | None, origin: str) -> tuple[NDArray[np.int64] | None, NDArray[Any] | None]:
    """Return class numbers (N,) as int64, or else what only a metric can take: an array (N, …) of any kind.

    Raises:
        DataError: class numbers below 0, or one thing for all samples.
    """
    if given is None:
        return None, None
    if given.dtype.kind in "iu" and given.ndim == 2 and given.shape[1] == 1:
        given = given[:, 0]
    if given.ndim == 0:
        raise DataError(f"{origin}: the labels '{LABELS}' are a single {given.dtype}; give one for each sample.")
    if given.dtype.kind not in "iu" or given.ndim != 1:
        return None, given
    if given.size and given.min() < 0:
        raise DataError(f"{origin}: the labels '{LABELS}' hold {given.min()}; class numbers start at 0.")
    return given.astype(np.int64), None

"""What ``--data`` names, or the keyword ``data`` is, by kind."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sepconvert.data.dataset import Dataset
from sepconvert.data.matching import check_samples_first
from sepconvert.data.preprocess import Preprocess
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

Data: TypeAlias = str | Path | Iterable[Any]
"""A name on the command line, or in Python an object that holds or yields inputs (see ``load_data``)."""


def data_files(spec: Data, among: Sequence[Path]) -> list[Path]:
    """Return those of some files that ``load_data`` would read."""
    if not isinstance(spec, str | Path):
        return []
    path = Path(spec)
    if path.is_dir():
        from sepconvert.data.images import is_image

        return [file for file in among if is_image(file) and file.resolve().is_relative_to(path.resolve())]
    return [file for file in among if file.exists() and path.is_file() and file.samefile(path)]


@dataclass(frozen=True, slots=True)
class Produced:
    """An object that holds or yields inputs, and where it is from, in words."""

    given: Any
    origin: str


def produced(spec: Data) -> Produced | None:
    """The object that was given, or that ``pkg.module:callable`` returns; None for a file or a folder.

    Raises:
        DataError: the callable cannot be imported, or fails.
    """
    if not isinstance(spec, str | Path):
        return Produced(spec, "what was given as data")
    if Path(spec).exists() or ":" not in str(spec):
        return None
    from sepconvert.data.callables import call_user, import_callable

    return Produced(call_user(import_callable(str(spec), "--data"), str(spec)), str(spec))


def load_data(spec: Data | Produced, inputs: Sequence[InputInfo], preprocess: Preprocess | None = None) -> Dataset:
    """Read inputs for a model.

    Args:
        spec: an ``.npz`` (arrays named after the inputs, or ``x`` for a single one; optional integer labels ``y``), an
            ``.npy`` (a single input), a folder of images (class sub-folders give labels), or ``pkg.module:callable``
            returning what may also be given itself: an array or tensor (N, …) of the only input, a dict of them with
            labels ``y`` if you like, a ``DataLoader``, a dataset of PyTorch, a list or a generator of such batches.
        inputs: the model's inputs.
        preprocess: how raw values become the model's.

    Raises:
        DataError: missing, damaged, or not fitting the inputs; the message names the culprit and the remedy.
    """
    options = preprocess or Preprocess()
    found = spec if isinstance(spec, Produced) else produced(spec)
    check_samples_first(inputs, found.origin if found is not None else str(spec))
    if found is not None:
        from sepconvert.data.given import load_given

        return load_given(found.given, inputs, options, found.origin)
    path = Path(str(spec))
    if path.is_dir():
        from sepconvert.data.images import load_images

        return load_images(path, inputs, options)
    if path.is_file():
        from sepconvert.data.arrays import from_arrays, load_npy, read_npz

        if path.suffix.lower() == ".npz":
            return from_arrays(read_npz(path), inputs, options, str(path))
        if path.suffix.lower() == ".npy":
            return load_npy(path, inputs, options)
        raise DataError(
            f"{path} is none of the known kinds; give an .npz, an .npy, a folder of images, or pkg.module:callable."
        )
    if path.exists():
        raise DataError(f"{path} is a device, pipe or socket, not a file; save what comes out of it first.")
    raise DataError(f"{path} does not exist; give an .npz, an .npy, a folder of images, or pkg.module:callable.")

"""What ``--data`` names, by kind."""

from collections.abc import Sequence
from pathlib import Path

from sepconvert.data.dataset import Dataset
from sepconvert.data.preprocess import Preprocess
from sepconvert.errors import DataError
from sepconvert.record import InputInfo


def data_files(spec: str | Path, among: Sequence[Path]) -> list[Path]:
    """Return those of some files that ``load_data`` would read."""
    path = Path(spec)
    if path.is_dir():
        from sepconvert.data.images import is_image

        return [file for file in among if is_image(file) and file.resolve().is_relative_to(path.resolve())]
    return [file for file in among if file.exists() and path.is_file() and file.samefile(path)]


def load_data(spec: str | Path, inputs: Sequence[InputInfo], preprocess: Preprocess | None = None) -> Dataset:
    """Read inputs for a model.

    Args:
        spec: an ``.npz`` (arrays named after the inputs, or ``x`` for a single one; optional integer labels ``y``), an
            ``.npy`` (a single input), a folder of images (class sub-folders give labels), or ``pkg.module:callable``
            yielding dicts of arrays.
        inputs: the model's inputs.
        preprocess: how raw values become the model's.

    Raises:
        DataError: missing, damaged, or not fitting the inputs; the message names the culprit and the remedy.
    """
    options = preprocess or Preprocess()
    path = Path(spec)
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
    if ":" in str(spec):
        from sepconvert.data.callables import load_yielded

        return load_yielded(str(spec), inputs, options)
    raise DataError(f"{path} does not exist; give an .npz, an .npy, a folder of images, or pkg.module:callable.")

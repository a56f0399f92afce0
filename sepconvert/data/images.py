"""A folder of images; class sub-folders give labels. Images are decoded when they are needed, never all at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data.dataset import Dataset, Feeds, make_dataset
from sepconvert.data.matching import check_dtype, convert
from sepconvert.data.preprocess import Preprocess, need_channel_axis, show
from sepconvert.errors import DataError
from sepconvert.record import InputInfo

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_DEEP_MODES = ("I", "F")  # more than 8 bits per value; Pillow would clip them without a word


@dataclass(frozen=True, slots=True)
class ImageSource:
    """Image files and how to turn one into the model's input."""

    files: tuple[Path, ...]
    info: InputInfo
    preprocess: Preprocess
    size: tuple[int, int]
    mode: str
    axis: int
    constant: frozenset[str] = frozenset()

    def read(self, indices: NDArray[np.int64]) -> Feeds:
        """Decode the images at ``indices``: scaled and centre-cropped to ``size``, normalised, cast."""
        images = np.stack([read_image(self.files[i], self.size, self.mode) for i in indices])
        if self.preprocess.colours == "bgr":
            images = images[..., [2, 1, 0, *range(3, images.shape[-1])] if images.shape[-1] >= 3 else [0]]
        if self.axis == 1:
            images = images.transpose(0, 3, 1, 2)
        return {self.info.name: convert(images, self.info, self.preprocess)}

    def group(self, index: int) -> int:
        """All images have one size."""
        del index
        return 0


def load_images(folder: Path, inputs: Sequence[InputInfo], preprocess: Preprocess) -> Dataset:
    """Make a dataset of the images in a folder.

    Without sub-folders the images have no labels. With class sub-folders the labels are the positions of their sorted
    names, or the names themselves where all of them are numbers. Each image is scaled (bilinear) so that it fills the
    size, keeping its proportions, and cut around its centre.

    Raises:
        DataError: no images, images both beside and in sub-folders, or a model whose input is no image of known size.
    """
    if len(inputs) != 1 or len(inputs[0].declared_shape) != 4:
        raise DataError(
            f"{folder} is a folder of images, but the model's input is not one image batch; give an .npz with an array "
            f"for each of {', '.join(repr(info.name) for info in inputs)}."
        )
    info = inputs[0]
    files, labels = _find(folder)
    axis = need_channel_axis(info, preprocess)
    channels = _channels(info, axis, preprocess)
    check_dtype(np.zeros(0, np.uint8), info, preprocess, str(folder))
    source = ImageSource(tuple(files), info, preprocess, _size(info, axis, preprocess), _MODES[channels], axis)
    batch = info.declared_shape[0]
    dataset = make_dataset(
        source, len(files), str(folder), batch=batch if isinstance(batch, int) else None, labels=labels
    )
    dataset.shapes()  # decodes one image, so that a wrong --mean or --std shows at once
    return dataset


def _find(folder: Path) -> tuple[list[Path], NDArray[np.int64] | None]:
    """List the images, sorted by name, and the labels that their sub-folders give."""
    direct = _images(folder)
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    inside = [_images(path) for path in classes]
    if not direct and not any(inside):
        raise DataError(
            f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}); give a folder of images or of class folders."
        )
    if direct and any(inside):
        raise DataError(
            f"{folder} holds images both directly and in sub-folders; put all of them in class sub-folders."
        )
    if direct:
        return direct, None
    numbered = all(path.name.isdecimal() for path in classes)
    numbers = [int(path.name) if numbered else position for position, path in enumerate(classes)]
    labels = np.repeat(np.asarray(numbers, np.int64), [len(files) for files in inside])
    return [file for files in inside for file in files], labels


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if is_image(path))


def is_image(path: Path) -> bool:
    """Tell whether a file of a folder of images is one of them."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _channels(info: InputInfo, axis: int, preprocess: Preprocess) -> int:
    declared = info.declared_shape[axis]
    if declared is None or isinstance(declared, str):
        return preprocess.per_channel if preprocess.per_channel in _MODES else 3
    if declared not in _MODES:
        raise DataError(
            f"Input '{info.name}' takes {declared} channels {show(info.declared_shape)}, which no image has; "
            "give an .npz, or --layout if the channels are on the other axis."
        )
    return declared


def _size(info: InputInfo, axis: int, preprocess: Preprocess) -> tuple[int, int]:
    sides = info.declared_shape[2:] if axis == 1 else info.declared_shape[1:3]
    size = []
    for position, side in enumerate(sides):
        asked = None if preprocess.size is None else preprocess.size[position]
        if not isinstance(side, int):
            if asked is None:
                raise DataError(
                    f"Input '{info.name}' takes images of any size {show(info.declared_shape)}; pass --size, such as "
                    "--size 224 or --size HEIGHTxWIDTH."
                )
            size.append(asked)
            continue
        if asked is not None and asked != side:
            raise DataError(
                f"Input '{info.name}' takes images of {sides[0]}x{sides[1]} only; leave --size away or make it that."
            )
        size.append(side)
    return size[0], size[1]


def read_image(path: Path, size: tuple[int, int], mode: str) -> NDArray[Any]:
    """Decode one image to uint8 (height, width, channels), upright, filling ``size`` around its centre.

    Raises:
        DataError: the file is no image, is damaged, or has more than 8 bits per value.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            deep = image.mode.startswith(_DEEP_MODES)
            if not deep:
                upright = ImageOps.exif_transpose(image).convert(mode)
                fitted = ImageOps.fit(upright, (size[1], size[0]), Image.Resampling.BILINEAR)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = "not an image" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"Image {path} cannot be read ({reason}); replace or remove it.") from None
    if deep:
        raise DataError(f"Image {path} has more than 8 bits per value; convert it to 8 bits, or give an .npz.")
    pixels = np.asarray(fitted, dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], -1)

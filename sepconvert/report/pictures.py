"""Small pictures of a sample for the record: input, both outputs and their difference.

Both outputs are shown on one scale, the original's own range; the difference is |ŷ − y| on the same scale, amplified by
a power of two that its note names. An output that is a vector is described by its largest entry instead, and one that
holds boxes by these, drawn on the input.
"""

import base64
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepconvert.record import SampleImages
from sepconvert.report.figures import plural, significant

_SIDE, _SIDE_OF_BOXES = 96, 160
_SMALLEST_SIDE = 8
_LARGEST_GAIN = 256
_BRIGHT = 64
_COLOURS = 64  # of a picture with boxes on it: enough to see what is in it, in a third of the bytes
_BOX, _BOX_EDGE = (255, 196, 0), (0, 0, 0)

Array = NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of both models, none with its batch axis.

    Attributes:
        label: what people call it, such as a file name or ``sample 3``.
        before: one output of the original.
        after: the same output of the new model.
        given: the input as pixels (H, W) or (H, W, 3), or as it is; None where there is none to show.
        boxes: what both outputs hold as boxes in pixels of the input, (n, 6): left, top, right, bottom, score, class.
        names: names of classes by number.
    """

    label: str
    before: Array
    after: Array
    given: Array | None = None
    boxes: tuple[Array, Array] | None = None
    names: Mapping[int, str] = field(default_factory=dict)


def sample_images(sample: Sample) -> SampleImages:
    """Picture one sample."""
    seen = None if sample.given is None else _as_pixels(sample.given)
    if sample.boxes is not None and seen is not None:
        pictures = [_boxed(seen, boxes) for boxes in sample.boxes]
        notes = [_told(boxes, sample.names) for boxes in sample.boxes]
        return SampleImages(
            sample.label, before=pictures[0], after=pictures[1], note_before=notes[0], note_after=notes[1]
        )
    old, new = _as_pixels(sample.before), _as_pixels(sample.after)
    picture = None if seen is None else _encode(seen, *_raw_range(seen))
    if old is None or new is None or old.shape != new.shape:
        first, second = (_largest(values, sample.names) for values in (sample.before, sample.after))
        return SampleImages(sample.label, input=picture, note_before=first, note_after=second)
    low, high = _range(old)
    difference = np.abs(new - old)
    gain = _gain(float(np.nanmax(difference, initial=0.0)), high - low)
    return SampleImages(
        sample.label,
        input=picture,
        before=_encode(old, low, high),
        after=_encode(new, low, high),
        difference=_encode(difference * gain, 0.0, high - low),
        note_difference=f"×{gain}" if gain > 1 else None,
    )


def _as_pixels(values: Array) -> NDArray[np.float64] | None:
    """Return (H, W) or (H, W, 3) of an array that can be seen as a picture, else None."""
    pixels = np.asarray(values).astype(np.float64)
    if pixels.ndim == 3 and pixels.shape[0] in (1, 3) and min(pixels.shape[1:]) >= _SMALLEST_SIDE:
        pixels = np.moveaxis(pixels, 0, -1)
    if pixels.ndim == 3 and pixels.shape[-1] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim not in (2, 3) or min(pixels.shape[:2]) < _SMALLEST_SIDE:
        return None
    return None if pixels.ndim == 3 and pixels.shape[-1] != 3 else pixels


def _range(pixels: NDArray[np.float64]) -> tuple[float, float]:
    finite = pixels[np.isfinite(pixels)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)


def _raw_range(pixels: NDArray[np.float64]) -> tuple[float, float]:
    """The range of bytes, or of shares of one, where an input's values are such; else its own.

    Bytes are whole numbers or, where an image was resized, reach far: a spectrogram from 3 to 11 is no dark image.
    """
    low, high = _range(pixels)
    if low < -0.5 or high > 255.5:
        return low, high
    if high > _BRIGHT or (high > 2 and np.array_equal(pixels, np.round(pixels))):
        return 0.0, 255.0
    return (0.0, 1.0) if low >= 0 and 0.25 < high <= 1 else (low, high)


def _gain(largest: float, span: float) -> int:
    if not largest > 0 or not math.isfinite(largest) or not span > 0:
        return 1
    return int(min(_LARGEST_GAIN, 2 ** max(0, math.floor(math.log2(span / largest)))))


def _bytes(pixels: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    scaled = (pixels - low) / (high - low if high > low else 1.0)
    # What is not a number is shown as the brightest: it must not look like nothing.
    return np.round(255 * np.clip(np.nan_to_num(scaled, nan=1.0), 0, 1)).astype(np.uint8)


def _encode(pixels: NDArray[np.float64], low: float, high: float) -> str:
    from PIL import Image

    image = Image.fromarray(_bytes(pixels, low, high))
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return _uri(stream)


def _boxed(pixels: NDArray[np.float64], boxes: Array) -> str:
    """The picture with boxes on it."""
    from PIL import Image, ImageDraw

    image = Image.fromarray(_bytes(pixels, *_raw_range(pixels))).convert("RGB")
    image.thumbnail((_SIDE_OF_BOXES, _SIDE_OF_BOXES))
    ratio = image.width / pixels.shape[1]
    image = image.quantize(_COLOURS).convert("RGB")
    draw = ImageDraw.Draw(image)
    for box in boxes:
        corners = [float(side) * ratio for side in box[:4]]
        draw.rectangle([corners[0] - 1, corners[1] - 1, corners[2] + 1, corners[3] + 1], outline=_BOX_EDGE)
        draw.rectangle(corners, outline=_BOX)
    stream = io.BytesIO()
    image.quantize(_COLOURS).save(stream, "PNG", optimize=True)
    return _uri(stream)


def _uri(stream: io.BytesIO) -> str:
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _told(boxes: Array, names: Mapping[int, str]) -> str:
    """How many boxes there are, and of which classes where these have names."""
    counts: dict[str, int] = {}
    for box in boxes:
        name = names.get(int(box[5]), "")
        counts[name] = counts.get(name, 0) + 1
    listed = ", ".join(f"{count} {name}" for name, count in counts.items() if name)
    return listed or plural(len(boxes), "box", "boxes")


def _largest(values: Array, names: Mapping[int, str]) -> str | None:
    flat = np.asarray(values).astype(np.float64).ravel()
    if flat.size < 2 or flat.size > 100_000 or np.isnan(flat).any():
        return None
    best = int(flat.argmax())
    value = significant(float(flat[best]))
    return f"{names[best]}, {value}" if best in names else f"entry {best} is largest, {value}"

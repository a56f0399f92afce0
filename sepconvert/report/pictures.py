"""Small pictures of a sample for the record: input, both outputs and their difference.

Both outputs are shown on one scale, the original's own range; the difference is |ŷ − y| on the same scale, amplified by
a power of two that its note names. An output that is a vector is described by its largest entry instead.
"""

import base64
import io
import math

import numpy as np
from numpy.typing import NDArray

from sepconvert.record import SampleImages
from sepconvert.report.figures import significant

_SIDE = 96
_SMALLEST_SIDE = 8
_LARGEST_GAIN = 256

Array = NDArray[np.generic]


def sample_images(label: str, given: Array | None, before: Array, after: Array) -> SampleImages:
    """Picture one sample.

    Args:
        label: what people call it, such as a file name or ``sample 3``.
        given: the input without its batch dimension, or None.
        before: one output of the original, without its batch dimension.
        after: the same output of the new model.
    """
    seen = None if given is None else _as_pixels(given)
    old, new = _as_pixels(before), _as_pixels(after)
    picture = None if seen is None else _encode(seen, *_range(seen))
    if old is None or new is None or old.shape != new.shape:
        return SampleImages(label, input=picture, note_before=_largest(before), note_after=_largest(after))
    low, high = _range(old)
    difference = np.abs(new - old)
    gain = _gain(float(np.nanmax(difference, initial=0.0)), high - low)
    return SampleImages(
        label,
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


def _gain(largest: float, span: float) -> int:
    if not largest > 0 or not math.isfinite(largest) or not span > 0:
        return 1
    return int(min(_LARGEST_GAIN, 2 ** max(0, math.floor(math.log2(span / largest)))))


def _encode(pixels: NDArray[np.float64], low: float, high: float) -> str:
    from PIL import Image

    scaled = (pixels - low) / (high - low if high > low else 1.0)
    # What is not a number is shown as the brightest: it must not look like nothing.
    image = Image.fromarray(np.round(255 * np.clip(np.nan_to_num(scaled, nan=1.0), 0, 1)).astype(np.uint8))
    image.thumbnail((_SIDE, _SIDE))
    stream = io.BytesIO()
    image.save(stream, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _largest(values: Array) -> str | None:
    flat = np.asarray(values).astype(np.float64).ravel()
    if flat.size < 2 or flat.size > 100_000 or np.isnan(flat).any():
        return None
    best = int(flat.argmax())
    return f"entry {best} is largest, {significant(float(flat[best]))}"

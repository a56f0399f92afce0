"""Where the outputs of a resized axis lie, and which inputs they are made of.

Coordinates are computed in float32, as onnxruntime does: where two inputs are equally near, the last bit decides (of
7,540 tried combinations of sizes and modes, 31 chose the other one: rounding with asymmetric coordinates, flooring with
half_pixel_symmetric ones).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AxisSampling:
    """How an axis of ``length`` elements becomes one of ``outputs``; ``crop`` is the part of it that is looked at."""

    length: int
    outputs: int
    scale: float
    mode: str
    coordinates: str
    rounding: str
    cubic: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    crop: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Taps:
    """``positions`` and ``weights`` (taps, outputs); ``outside`` marks outputs that lie beyond the input."""

    positions: NDArray[np.int64]
    weights: Floats
    outside: NDArray[np.bool_]


def _coordinates(axis: AxisSampling) -> Floats:
    """Where each output lies, in units of the input's elements."""
    at, one = np.arange(axis.outputs, dtype=np.float32), np.float32(1)
    scale, half = np.float32(axis.scale), np.float32(0.5)
    match axis.coordinates:
        case "asymmetric":
            return at / scale
        case "align_corners":
            if axis.outputs == 1:
                return at
            return at * np.float32(axis.length - 1) / np.float32(axis.outputs - 1)
        case "pytorch_half_pixel" if axis.outputs <= 1:
            return at
        case "tf_half_pixel_for_nn":
            return (at + half) / scale
        case "half_pixel_symmetric":
            whole = np.float32(axis.length) * scale
            offset = np.float32(axis.length) / 2 * (one - np.float32(axis.outputs) / whole)
            return np.asarray(offset + (at + half) / scale - half, dtype=np.float32)
        case "tf_crop_and_resize":
            start, end = (np.float32(bound) for bound in axis.crop)
            last = np.float32(axis.length - 1)
            if axis.outputs == 1:
                return np.asarray(half * (start + end) * last + 0 * at, dtype=np.float32)
            return np.asarray(start * last + at * (end - start) * last / np.float32(axis.outputs - 1), dtype=np.float32)
    return (at + half) / scale - half


def _nearest(x: Floats, rounding: str) -> NDArray[np.int64]:
    match rounding:
        case "floor":
            chosen = np.floor(x)
        case "ceil":
            chosen = np.ceil(x)
        case "round_prefer_ceil":
            chosen = np.floor(x + np.float32(0.5))
        case _:
            chosen = np.ceil(x - np.float32(0.5))
    return chosen.astype(np.int64)


def _cubic(distance: Floats, a: float) -> Floats:
    """The cubic convolution kernel (Keys, 1981)."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0)).astype(np.float32)


@lru_cache(maxsize=256)
def taps_of(axis: AxisSampling) -> Taps:
    """Return which inputs make up each output of an axis."""
    x = _coordinates(axis)
    outside = np.zeros(len(x), dtype=np.bool_)
    if axis.coordinates == "tf_crop_and_resize":
        outside = (x < 0) | (x > axis.length - 1)
    if axis.mode == "nearest":
        found = np.clip(_nearest(x, axis.rounding), 0, axis.length - 1)
        return Taps(found[np.newaxis], np.ones((1, len(x)), np.float32), outside)
    squeeze = min(np.float32(axis.scale), np.float32(1)) if axis.antialias else np.float32(1)
    support = (1 if axis.mode == "linear" else 2) / float(squeeze)
    base = np.floor(x).astype(np.int64)
    reach = int(np.ceil(support))
    positions = base + np.arange(1 - reach, reach + 1)[:, np.newaxis]
    distance = ((positions - x) * squeeze).astype(np.float32)
    if axis.mode == "linear":
        weights = np.maximum(0, 1 - np.abs(distance)).astype(np.float32)
    else:
        weights = _cubic(distance, axis.cubic)
    if axis.exclude_outside or axis.antialias:
        inside = (positions >= 0) & (positions < axis.length)
        weights = weights * inside if axis.exclude_outside else weights
        weights = weights / weights.sum(axis=0)
    return Taps(np.clip(positions, 0, axis.length - 1), weights.astype(np.float32), outside)

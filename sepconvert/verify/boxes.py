"""Boxes of detectors whose output holds a row per place: the layouts of YOLOX, YOLOv5 and YOLOv8 exports.

1. (places, 5 + classes): centre, width and height, whether there is an object, and what it is. A raw YOLOX (Ge et al.,
   2021) has one place per cell of grids with strides 8, 16 and 32, and gives centres relative to them in strides, and
   logarithms of sizes; others give pixels.
2. (4 + classes, places), pixels and classes alone.

Scores are those behind a Sigmoid. Of boxes of one class that overlap, the likeliest is kept.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

STRIDES = (8, 16, 32)
OVERLAP = 0.45  # intersection over union from which two boxes are the same object
MOST = 300
_FEWEST_PLACES = 64
_MOST_CLASSES = 1000

Array = NDArray[Any]


def holds_boxes(output: Array) -> bool:
    """Whether an output (N, …) has one of the layouts."""
    return output.dtype != object and output.ndim == 3 and _rows(output[0]) is not None


def find_boxes(output: Array, least: float, size: tuple[int, int] | None = None) -> list[Array]:
    """Return the boxes of every sample.

    Args:
        output: (N, …) as ``holds_boxes`` accepts it.
        least: the lowest score of a box.
        size: (height, width) of the input in pixels; None for a square one.

    Returns:
        An array (boxes, 6) per sample, the likeliest first: left, top, right, bottom, score, class.
    """
    return [_suppress(_decoded(rows, least, size)) for rows in (_rows(sample) for sample in output) if rows is not None]


def overlaps(box: Array, boxes: Array) -> Array:
    """Intersection over union of a box (≥ 4,) with others (n, ≥ 4)."""
    sides = np.minimum(box[2:4], boxes[:, 2:4]) - np.maximum(box[:2], boxes[:, :2])
    common = sides.clip(min=0).prod(axis=1)
    areas = (boxes[:, 2:4] - boxes[:, :2]).prod(axis=1)
    return np.asarray(common / np.maximum((box[2:4] - box[:2]).prod() + areas - common, 1e-12))


def _rows(sample: Array) -> Array | None:
    """A row per place: four numbers of a box, then scores, with that of an object first; None for another layout."""
    if sample.dtype.kind != "f" or sample.ndim != 2:
        return None
    for values, first in ((sample, True), (sample.T, False)):
        places, wide = values.shape
        classes = wide - 4 - first
        if places < _FEWEST_PLACES or not 1 <= classes <= _MOST_CLASSES or places <= wide:
            continue
        scores = values[:, 4:]
        if values.min() >= 0 and values.max() <= 1:
            continue  # no box is smaller than a pixel: all are probabilities, as those of a reader of text
        if np.isfinite(values).all() and scores.min() >= 0 and scores.max() <= 1:
            return np.insert(values, 4, 1.0, axis=1) if not first else values
    return None


def _decoded(rows: Array, least: float, size: tuple[int, int] | None) -> Array:
    """Boxes above a score, in pixels, unsorted."""
    rows = rows.astype(np.float64)
    classes = rows[:, 5:].argmax(axis=1)
    scores = rows[:, 4] * rows[np.arange(len(rows)), 5 + classes]
    centres, sides = rows[:, :2], rows[:, 2:4]
    if (sides < 0).any():  # no pixels: logarithms
        cells, strides = _grid(len(rows), size)
        centres, sides = (centres + cells) * strides, np.exp(np.minimum(sides, 20.0)) * strides
    found = np.column_stack([centres - sides / 2, centres + sides / 2, scores, classes])
    return np.asarray(found[scores >= least])


def _grid(places: int, size: tuple[int, int] | None) -> tuple[Array, Array]:
    """The cell of every place, (places, 2) as x and y, and its stride (places, 1)."""
    if size is None:
        # Of a square input of side 32·n there are (16 + 4 + 1)·n² places.
        side = round((places / sum((STRIDES[-1] // s) ** 2 for s in STRIDES)) ** 0.5) * STRIDES[-1]
        size = (side, side)
    cells, strides = [], []
    for stride in STRIDES:
        high, wide = size[0] // stride, size[1] // stride
        y, x = np.mgrid[:high, :wide]
        cells.append(np.column_stack([x.ravel(), y.ravel()]))
        strides.append(np.full((high * wide, 1), stride))
    found = np.concatenate(cells)
    if len(found) != places:
        return np.zeros((places, 2)), np.ones((places, 1))
    return found, np.concatenate(strides)


def _suppress(boxes: Array) -> Array:
    """Keep the likeliest of boxes of one class that overlap."""
    left = boxes[np.argsort(-boxes[:, 4], kind="stable")]
    kept: list[Array] = []
    while len(left) and len(kept) < MOST:
        first, left = left[0], left[1:]
        kept.append(first)
        left = left[(overlaps(first, left) < OVERLAP) | (left[:, 5] != first[5])]
    return np.stack(kept) if kept else np.zeros((0, 6))

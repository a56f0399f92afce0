"""Classes: of whole samples (top-1), and of every pixel (mean intersection over union)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.number_types import is_float
from sepconvert.verify.metrics.choose import check_labels, first_output

VOID = 255
"""The label of pixels that count nowhere, as in PASCAL VOC and Cityscapes."""


def top1(original: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], labels: Any) -> float:
    """The share of samples whose most likely class is the label's, or the original's.

    Args:
        original: its first floating output (N, classes ≥ 2, 1…) counts.
        outputs: of the network that is judged.
        labels: (N,) class numbers, or None.
    """
    name = first_output(original, lambda y: _has_classes(y) and y[0].size == y.shape[1], "class scores (N, classes)")
    truth = original[name].reshape(len(original[name]), -1).argmax(axis=1)
    if labels is not None:
        check_labels(labels, truth.shape, "one class number per sample")
        truth = labels
    return float((outputs[name].reshape(len(truth), -1).argmax(axis=1) == truth).mean())


def mean_iou(original: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], labels: Any) -> float:
    """Intersection over union of the pixels of each class, in the mean over the classes (Everingham et al., 2015).

    Args:
        original: its first floating output (N, classes, H, W) counts. A single class is told from the background by
            0.5 where all values lie in [0, 1], else by 0.
        outputs: of the network that is judged.
        labels: (N, H, W) class numbers, ``VOID`` for pixels that do not count; or None.
    """
    name = first_output(
        original, lambda y: y.dtype != object and is_float(y.dtype) and y.ndim == 4, "(N, classes, H, W)"
    )
    scores = original[name]
    probable = bool(scores.shape[1] == 1 and scores.min() >= 0 and scores.max() <= 1)
    found, truth = _pixel_classes(outputs[name], probable), _pixel_classes(scores, probable)
    counted = np.ones(truth.shape, bool)
    if labels is not None:
        check_labels(labels, truth.shape, "a class number per pixel")
        truth, counted = labels.astype(np.int64), labels != VOID
    shares = []
    for label in np.union1d(truth[counted], found[counted]):
        here, there = (found == label) & counted, (truth == label) & counted
        shares.append((here & there).sum() / (here | there).sum())
    return float(np.mean(shares))


def _has_classes(y: NDArray[Any]) -> bool:
    return y.dtype != object and is_float(y.dtype) and y.ndim >= 2 and y.shape[1] >= 2


def _pixel_classes(scores: NDArray[Any], probable: bool) -> NDArray[np.int64]:
    if scores.shape[1] > 1:
        return np.asarray(scores.argmax(axis=1))
    return (scores[:, 0] > (0.5 if probable else 0.0)).astype(np.int64)

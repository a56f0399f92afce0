"""Average precision of detections: the area under precision over recall, in the mean over classes (PASCAL VOC)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import DataError
from sepconvert.verify.boxes import find_boxes, holds_boxes, overlaps
from sepconvert.verify.metrics.choose import first_output

MATCH = 0.5
"""Intersection over union from which a box is a hit."""
CERTAIN, LEAST = 0.5, 0.05  # scores from which the original's boxes are the truth, and from which boxes are looked at

Array = NDArray[Any]


def detection_ap(original: Mapping[str, Array], outputs: Mapping[str, Array], labels: Any) -> float:
    """AP at an overlap of 0.5 against labelled boxes, or those that the original is certain of.

    Args:
        original: its first output of a layout that ``sepconvert.verify.boxes`` knows counts; the input is square.
        outputs: of the network that is judged.
        labels: (N, boxes, 5), left, top, right and bottom in pixels of the input and the class, a negative class for no
            box; or None.
    """
    name = first_output(original, holds_boxes, "boxes with scores in [0, 1] (N, places, 5 + classes)")
    found = find_boxes(outputs[name], LEAST)
    if labels is None:
        truths = [boxes[boxes[:, 4] >= CERTAIN] for boxes in find_boxes(original[name], LEAST)]
    elif labels.ndim == 3 and labels.shape[2] == 5 and len(labels) == len(found):
        truths = [np.insert(boxes[boxes[:, 4] >= 0], 4, 1.0, axis=1) for boxes in labels.astype(np.float64)]
    else:
        raise DataError(f"it needs labels of boxes (N, boxes, 5), and these are {labels.shape}; leave them away")
    classes = {int(c) for boxes in truths for c in boxes[:, 5]}
    if not classes:
        raise DataError("there is no box in the truth; give inputs in which something is found")
    return float(np.mean([_of_class(truths, found, label) for label in sorted(classes)]))


def _of_class(truths: Sequence[Array], found: Sequence[Array], label: int) -> float:
    wanted = [boxes[boxes[:, 5] == label] for boxes in truths]
    scores, hits = [], []
    for truth, boxes in zip(wanted, found, strict=True):
        free = np.ones(len(truth), bool)
        for box in boxes[boxes[:, 5] == label]:
            scores.append(float(box[4]))
            shares = overlaps(box, truth) * free if len(truth) else np.zeros(1)
            hit = bool(shares.max() >= MATCH)
            hits.append(hit)
            if hit:
                free[shares.argmax()] = False
    right = np.array(hits, bool)[np.argsort(-np.array(scores), kind="stable")] if hits else np.zeros(0, bool)
    recall = right.cumsum() / sum(map(len, wanted))
    precision = right.cumsum() / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # precision may not rise again
    return float(np.sum(np.diff(recall, prepend=0.0) * best))

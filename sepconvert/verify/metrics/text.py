"""Lines of text as a network with a CTC output reads them (Graves et al., 2006): the likeliest way, greedily."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.errors import DataError
from sepconvert.number_types import is_float
from sepconvert.verify.metrics.choose import first_output

BLANK = 0
"""The class that stands for no character, as most recognisers number it."""


def ctc_text(original: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], labels: Any) -> float:
    """The share of lines that are read, character for character, as the labels or the original say.

    Args:
        original: its first floating output (N, positions, classes) counts; class ``BLANK`` is no character.
        outputs: of the network that is judged.
        labels: (N, characters) class numbers, with ``BLANK`` or negative numbers behind the end; or None.
    """
    name = first_output(
        original,
        lambda y: all(is_float(part.dtype) and part.ndim == 2 and part.shape[1] > 1 for part in y),
        "scores at every position (N, positions, classes)",
    )
    truths = [read(scores) for scores in original[name]]
    if labels is not None:
        if labels.ndim != 2 or len(labels) != len(truths) or labels.dtype.kind not in "iu":
            raise DataError(
                f"it needs labels of class numbers (N, characters), and these are {labels.dtype} {labels.shape}; leave "
                "them away"
            )
        truths = [tuple(int(c) for c in line if c > BLANK) for line in labels]
    return float(np.mean([read(scores) == truth for scores, truth in zip(outputs[name], truths, strict=True)]))


def read(scores: NDArray[Any]) -> tuple[int, ...]:
    """Return the characters of one line: the likeliest class of every position, repeats as one, without blanks.

    Args:
        scores: (positions, classes).
    """
    best = scores.argmax(axis=1)
    first = np.concatenate(([True], best[1:] != best[:-1]))
    return tuple(int(c) for c in best[first] if c != BLANK)

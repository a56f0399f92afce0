"""What values the inputs have: a wrong ``--scale`` or a forgotten ``--mean`` shows there and nowhere else."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepconvert.data.dataset import Dataset
from sepconvert.record import InputValues

_MOST = 1024  # samples that are looked at


@dataclass(slots=True)
class _Moments:
    lowest: float = np.inf
    highest: float = -np.inf
    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    rows: int = 0

    def add(self, values: NDArray[np.float64], rows: int) -> None:
        self.lowest = min(self.lowest, float(values.min()))
        self.highest = max(self.highest, float(values.max()))
        self.count += values.size
        self.total += float(values.sum())
        self.squares += float(np.square(values).sum())
        self.rows += rows


def input_values(dataset: Dataset | None) -> list[InputValues]:
    """Return range, mean and standard deviation of every input, as the model gets it, over up to 1,024 samples.

    Nothing is returned for random inputs: nobody chose their values.
    """
    if dataset is None or dataset.synthetic:
        return []
    found: dict[str, _Moments] = {}
    for feeds in dataset.first(_MOST).batches(32):
        for name, array in feeds.items():
            if array.size:
                rows = len(array) if array.ndim else 1
                found.setdefault(name, _Moments()).add(array.astype(np.float64), rows)
    return [_described(name, moments) for name, moments in found.items()]


def _described(name: str, moments: _Moments) -> InputValues:
    mean = moments.total / moments.count
    variance = max(moments.squares / moments.count - mean**2, 0.0)
    return InputValues(name, moments.rows, moments.lowest, moments.highest, mean, float(np.sqrt(variance)))

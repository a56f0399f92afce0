"""Which samples changed most: those that another class was chosen for first, then by how far their output moved."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.verify.deviation import in_float64

SHOWN = 8


@dataclass(slots=True)
class Changes:
    """Collects what became of every sample in one output."""

    _chosen: list[NDArray[np.bool_]] = field(default_factory=list)
    _moved: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, before: NDArray[Any], after: NDArray[Any]) -> None:
        """Add a batch of one output of both models, samples first."""
        if before.shape != after.shape or not before.size:
            return
        single = before.ndim >= 2 and before.shape[1] > 1 and before[0].size == before.shape[1]
        for y, y_hat in in_float64(before, after):
            old, new = (values.reshape(len(values), -1) for values in (y, y_hat))
            self._chosen.append(old.argmax(axis=1) != new.argmax(axis=1) if single else np.zeros(len(old), bool))
            with np.errstate(invalid="ignore"):  # Inf in both is told elsewhere
                moved = np.square(new - old).mean(axis=1)
            self._moved.append(np.nan_to_num(moved, nan=np.inf))

    def order(self) -> list[int]:
        """Places of the samples that changed most, in the order of the data; none where nothing changed."""
        if not self._moved:
            return []
        chosen, moved = np.concatenate(self._chosen), np.concatenate(self._moved)
        if not moved.any():
            return []
        return [int(place) for place in np.lexsort((-moved, ~chosen))[:SHOWN]]

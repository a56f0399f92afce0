"""The user's metric: both models' outputs on the same inputs as one number each, larger is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.data.callables import user_error
from sepconvert.errors import DataError, SepconvertError
from sepconvert.record import MetricFidelity
from sepconvert.verify.metrics import MetricFunction

MOST_BYTES = 4 << 30


@dataclass(frozen=True, slots=True)
class Metric:
    """A function as ``sepconvert.verify.metrics`` describes it, and what people call it."""

    name: str
    function: MetricFunction


@dataclass(slots=True)
class Answers:
    """Keeps both models' outputs, batch by batch, for a metric."""

    metric: Metric
    _before: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    _after: dict[str, list[NDArray[Any]]] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, outputs: Sequence[tuple[str, NDArray[Any], NDArray[Any]]]) -> None:
        """Add a batch: name, values before and values after of every output, samples first.

        Raises:
            DataError: there is more than memory should hold.
        """
        for name, before, after in outputs:
            for kept, values in ((self._before, before), (self._after, after)):
                plain = values.astype(np.float32) if values.dtype.name == "bfloat16" else values
                kept.setdefault(name, []).append(plain)
                self._bytes += plain.nbytes
        if self._bytes > MOST_BYTES:
            raise DataError(
                f"--metric {self.metric.name}: the outputs take more than {MOST_BYTES >> 30} GB of memory; give fewer "
                "test inputs."
            )

    def figures(self, dataset: Dataset) -> MetricFidelity:
        """Ask the metric about both models.

        Raises:
            DataError: it fails, or gives no finite number.
        """
        before, after = ({name: _joined(parts) for name, parts in kept.items()} for kept in (self._before, self._after))
        labels = dataset.truth
        numbers = [self._ask(before, outputs, labels) for outputs in (before, after)]
        return MetricFidelity(self.metric.name, numbers[0], numbers[1], labels is not None)

    def _ask(
        self, original: Mapping[str, NDArray[Any]], outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any] | None
    ) -> float:
        told = f"--metric {self.metric.name}"
        try:
            answer = self.metric.function(original, outputs, labels)
            number = float(answer)
        except SepconvertError as error:  # of a ready-made one
            raise DataError(f"{told}: {error}.") from None
        except (Exception, SystemExit) as error:  # whatever the user's own code raises
            names = ", ".join(f"'{name}'" for name in original)
            known = f"the outputs are called {names}, and {'there are no' if labels is None else 'it gets'} labels"
            raise user_error(f"{told} failed", error, known) from error
        if not isfinite(number):
            raise DataError(f"{told} gives {number}, which is no finite number; let it return one for these inputs.")
        return number


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """All samples (N, …); where they differ in shape, an object array (N,) of one array each."""
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    samples = [sample for part in parts for sample in part]
    found = np.empty(len(samples), object)
    found[:] = samples
    return found

"""Ranges of the values that become integers, found by running calibration inputs.

A range is (low, high): what lies outside is cut off, and what lies inside is rounded to one of 256 steps. The widest
range cuts nothing off; a narrower one rounds more finely. Values are looked at batch by batch and forgotten: what is
kept of each is its extremes and a histogram.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sepconvert.data import Dataset
from sepconvert.errors import DataError
from sepconvert.fitting.sizes import batch_size, value_sizes
from sepconvert.graph.load import load_bytes
from sepconvert.graph.parts import ValueType, extract
from sepconvert.graph.save import runnable
from sepconvert.graph.shapes import infer_shapes
from sepconvert.progress import Progress, silent
from sepconvert.runtime.sessions import open_session
from sepconvert.separable.threads import cores

Range = tuple[float, float]

BINS = 2048
STEPS = 255
HELD_BYTES = 256 << 20
"""Bytes of values that one run may give at a time; more are looked at in several runs."""
_LOOKED_AT, _FROM_BATCH = 1 << 20, (1 << 12, 1 << 18)  # entries of a value that a histogram takes; fewest, most of one
_CUTS = np.linspace(0.2, 1.0, 81)  # shares of the widest range that "mse" tries
_KEPT = 0.9999  # share of the values that "percentile" keeps


def find_ranges(
    model: bytes,
    values: Sequence[str],
    dataset: Dataset,
    methods: Sequence[str] | None = None,
    progress: Progress = silent,
) -> dict[str, dict[str, Range]]:
    """Return the range of each of some values over all inputs, as each of some methods finds it.

    ``min-max`` is the widest; ``percentile`` leaves out the outermost 0.01 %; ``mse`` has the least squared error of
    cutting off and rounding, ``entropy`` the least divergence of the rounded values' distribution.

    Args:
        model: a serialised model with its weights inside.
        values: names of the model's inputs or of what its nodes compute, floating-point.
        dataset: calibration inputs.
        methods: of ``METHODS``; None for all of them.
        progress: told of every run.

    Returns:
        (low, high) by method, then by the value's name.

    Raises:
        DataError: a value is infinite or no number.
    """
    capture = _Capture(model, values, dataset, progress)
    extremes: dict[str, Range] = {}
    for name, array in capture.arrays("Ranges"):
        low, high = float(array.min(initial=np.inf)), float(array.max(initial=-np.inf))
        known = extremes.get(name, (np.inf, -np.inf))
        extremes[name] = min(known[0], low), max(known[1], high)
    for name, bounds in extremes.items():
        if not np.isfinite(bounds).all():
            raise DataError(f"'{name}' is infinite or not a number on {dataset.origin}, so it cannot be quantised.")
    counts = {name: np.zeros(BINS, np.int64) for name in extremes}
    looked_at = int(np.clip(_LOOKED_AT // capture.batches, *_FROM_BATCH))
    for name, array in capture.arrays("Histograms"):
        # An even step would see the same few channels again and again.
        flat = array.ravel()[:: max(array.size // looked_at, 1) | 1]
        counts[name] += np.histogram(flat, BINS, _wide(extremes[name]))[0]
    return {
        method: {name: METHODS[method](counts[name], *_wide(bounds)) for name, bounds in extremes.items()}
        for method in methods or METHODS
    }


class _Capture:
    """Runs a model over inputs and gives its inner values, a group of them at a time."""

    def __init__(self, model: bytes, values: Sequence[str], dataset: Dataset, progress: Progress) -> None:
        self._dataset, self._progress = dataset, progress
        self._model = load_bytes(bytes(model))
        shapes = infer_shapes(self._model, dataset.shapes())
        size = value_sizes(shapes)
        self._batch = batch_size(shapes, size)
        self._inputs = {info.name for info in shapes.inputs}
        self._groups = _grouped(values, lambda name: size(name) * self._batch)

    @property
    def batches(self) -> int:
        """How many there are, at least about."""
        return -(-self._dataset.count // (self._dataset.batch or self._batch))

    def arrays(self, stage: str) -> Iterator[tuple[str, NDArray[np.floating]]]:
        """Yield (name, array) for every value and batch."""
        for done, group in enumerate(self._groups):
            self._progress(stage, done, len(self._groups))
            yield from self._run(group)
        self._progress(stage, len(self._groups), len(self._groups))

    def _run(self, group: Sequence[str]) -> Iterator[tuple[str, NDArray[np.floating]]]:
        computed = [name for name in group if name not in self._inputs]
        first = next(self._dataset.batches(self._batch))
        types = {name: ValueType(array.dtype, (None, *array.shape[1:])) for name, array in first.items()}
        part = runnable(extract(self._model, types, computed)) if computed else None
        session = None if part is None else open_session(part, threads=cores())
        for feeds in self._dataset.batches(self._batch):
            found = {name: feeds[name] for name in group if name in self._inputs}
            if session is not None:
                found |= session.run({info.name: feeds[info.name] for info in session.inputs}, computed)
            yield from found.items()


def _grouped(values: Sequence[str], size: Callable[[str], int]) -> list[list[str]]:
    groups: list[list[str]] = [[]]
    held = 0
    for name in values:
        if groups[-1] and held + size(name) > HELD_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size(name)
    return groups


def _wide(bounds: Range) -> Range:
    """A range with room for a histogram, 0 included: an integer must stand for it."""
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    return (low, high) if high > low else (low, low + 1.0)


def _percentile(counts: NDArray[np.int64], low: float, high: float) -> Range:
    """Cut off the outermost values at both ends, half of what is to go at each."""
    edges, shares = np.linspace(low, high, BINS + 1), np.cumsum(counts) / max(counts.sum(), 1)
    first = int(np.searchsorted(shares, (1 - _KEPT) / 2, side="right"))
    last = int(np.searchsorted(shares, 1 - (1 - _KEPT) / 2))
    return min(float(edges[first]), 0.0), max(float(edges[min(last + 1, BINS)]), 0.0)


def _mse(counts: NDArray[np.int64], low: float, high: float) -> Range:
    """The range with the least expected squared error, by shrinking both ends alike and then each alone."""
    middles = low + (np.arange(BINS) + 0.5) * (high - low) / BINS
    # Sums of the values' powers up to each bin: what lies beyond an end is off by Σ n·(middle − end)².
    powers = np.stack([counts, counts * middles, counts * np.square(middles)])
    below = np.concatenate([np.zeros((3, 1)), np.cumsum(powers, axis=1)], axis=1)
    ones = np.ones_like(_CUTS)
    start = low * np.concatenate([_CUTS, _CUTS, ones])
    end = high * np.concatenate([_CUTS, ones, _CUTS])
    under = below[:, np.searchsorted(middles, start)]
    over = below[:, -1:] - below[:, np.searchsorted(middles, end)]
    cut_off = sum(two - 2 * edge * one + edge**2 * none for edge, (none, one, two) in ((start, under), (end, over)))
    best = int(np.argmin(cut_off + below[0, -1] * ((end - start) / STEPS) ** 2 / 12))
    return float(start[best]), float(end[best])


def _entropy(counts: NDArray[np.int64], low: float, high: float) -> Range:
    """The range whose rounded values are distributed most like the values themselves (Kullback-Leibler)."""
    edges = np.linspace(low, high, BINS + 1)
    best, least = (low, high), np.inf
    for cut in _CUTS:
        first = int(np.searchsorted(edges, low * cut, side="right")) - 1
        last = max(int(np.searchsorted(edges, high * cut)), first + 1)
        inside = counts[first:last].astype(np.float64)
        kept = inside.copy()
        kept[0] += counts[:first].sum()
        kept[-1] += counts[last:].sum()
        groups = np.minimum(np.arange(len(inside)) * STEPS // len(inside), STEPS - 1)
        occupied = inside > 0
        totals, sizes = np.bincount(groups, inside), np.bincount(groups, occupied)
        rounded = np.where(occupied, totals[groups] / np.maximum(sizes[groups], 1), 0.0)
        both = (kept > 0) & (rounded > 0)
        if not both.any():
            continue
        p, q = kept / kept.sum(), np.maximum(rounded, 1e-9) / np.maximum(rounded, 1e-9).sum()
        divergence = float(np.sum(p[kept > 0] * np.log(p[kept > 0] / q[kept > 0])))
        if divergence < least:
            best, least = (float(edges[max(first, 0)]), float(edges[min(last, BINS)])), divergence
    return min(best[0], 0.0), max(best[1], 0.0)


def _widest(_: NDArray[np.int64], low: float, high: float) -> Range:
    return low, high


METHODS: Mapping[str, Callable[[NDArray[np.int64], float, float], Range]] = MappingProxyType(
    {"min-max": _widest, "percentile": _percentile, "mse": _mse, "entropy": _entropy}
)
"""Ways to choose a range from a histogram and its ends."""

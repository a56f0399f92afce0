"""Which layers of a network compute in INT8 and which in floating point, from what parts of it were measured to do.

A part is a stretch of neighbouring layers. Of networks in which only some parts compute in INT8, time and error are
taken to be

    time(S)  = 1 + Σ_{p in S} gain_p + c · (numbers that change their type where S begins or ends)
    error(S) = Σ_{p in S} error_p

with times as shares of that in floating point. Gains and c are the least-squares solution for the networks that were
measured, so that conversions are paid where they occur and not where they do not. The plan is a small integer program.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepconvert.planning.quiet import quiet_stdout

Layers = frozenset[int]
Part = tuple[int, int]
"""The first layer, and the one after the last."""

_GAP = 1e-4
_LIKING = 1e-6  # of the error in the objective: of equally fast plans the closest


@dataclass(frozen=True, slots=True)
class QuantisableLayer:
    """A layer with what follows it up to the next: names of nodes, the name that people know, its multiply-adds."""

    nodes: tuple[str, ...]
    name: str
    macs: int


@dataclass(frozen=True, slots=True)
class Border:
    """A value that layers pass on: who makes and who takes it (None: something in floating point), and its size."""

    maker: int | None
    takers: tuple[int | None, ...]
    size: float

    def is_crossed(self, chosen: Collection[int]) -> bool:
        """Whether it changes its type, where only ``chosen`` layers compute in INT8."""
        made = self.maker is not None and self.maker in chosen
        return any((taker is not None and taker in chosen) != made for taker in self.takers)


@dataclass(frozen=True, slots=True)
class Times:
    """What each part gains in INT8 (negative: saved), and what each number costs that changes its type."""

    gains: Mapping[Part, float]
    per_number: float


def layers_of(parts: Collection[Part]) -> Layers:
    """The layers of some parts."""
    return frozenset(layer for first, last in parts for layer in range(first, last))


def crossed(borders: Sequence[Border], chosen: Collection[int]) -> float:
    """Numbers that change their type where only ``chosen`` layers compute in INT8."""
    return float(sum(border.size for border in borders if border.is_crossed(chosen)))


def without_islands(borders: Sequence[Border], chosen: Layers) -> Layers:
    """The chosen layers, and those between them that would not stay in floating point.

    Where all that a layer takes and makes is rounded, onnxruntime rounds its weights too when it opens the model, to
    steps of its own.
    """
    rounded = [border.maker in chosen or any(taker in chosen for taker in border.takers) for border in borders]
    around: dict[int, list[bool]] = {}
    for border, is_rounded in zip(borders, rounded, strict=True):
        for layer in dict.fromkeys((border.maker, *border.takers)):
            if layer is not None:
                around.setdefault(layer, []).append(is_rounded)
    return chosen | {layer for layer, values in around.items() if len(values) > 1 and all(values)}


def halves(part: Part) -> tuple[Part, Part]:
    """A part of several layers as two."""
    first, last = part
    middle = (first + last + 1) // 2
    return (first, middle), (middle, last)


def even_parts(layers: int, most: int) -> list[Part]:
    """All layers as at most so many parts of about equal length."""
    edges = np.linspace(0, layers, min(most, layers) + 1).round().astype(int).tolist()
    return list(pairwise(edges))


def fit_times(parts: Sequence[Part], borders: Sequence[Border], measured: Mapping[Layers, float]) -> Times:
    """Fit the model of the time to measurements.

    Args:
        parts: all layers, each once.
        borders: what passes between them.
        measured: time as a share of that in floating point, by the layers that compute in INT8; of each part alone at
            least.
    """
    from scipy.optimize import lsq_linear

    rows = [[float(layers_of([part]) <= chosen) for part in parts] for chosen in measured]
    numbers = np.array([crossed(borders, chosen) for chosen in measured])
    scale = float(numbers.max(initial=0.0)) or 1.0
    matrix = np.column_stack([np.array(rows), numbers / scale])
    low = np.append(np.full(len(parts), -np.inf), 0.0)
    found = lsq_linear(matrix, np.array(list(measured.values())) - 1, (low, np.full(len(parts) + 1, np.inf)))
    gains = {part: float(gain) for part, gain in zip(parts, found.x[:-1], strict=True)}
    return Times(gains, float(found.x[-1]) / scale)


def predicted_time(times: Times, borders: Sequence[Border], chosen: Layers) -> float:
    """Time of a network in which ``chosen`` layers, of whole parts, compute in INT8; that in floating point is 1."""
    gained = sum(gain for part, gain in times.gains.items() if layers_of([part]) <= chosen)
    return 1 + gained + times.per_number * crossed(borders, chosen)


def fastest_within(times: Times, borders: Sequence[Border], errors: Mapping[Part, float], limit: float) -> Layers:
    """The layers to compute in INT8 for the least time with an error of at most ``limit``; perhaps none."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    parts = list(times.gains)
    places = {layer: place for place, part in enumerate(parts) for layer in layers_of([part])}
    known = [(border.size, pairs) for border in borders if (pairs := _pairs(border, places))]
    total = sum(errors[part] for part in parts) or 1.0
    shares = np.array([errors[part] / total for part in parts])
    # One variable for each part, and one for each border that is 1 where it is crossed.
    objective = np.append(
        np.array([*times.gains.values()]) + _LIKING * shares, [times.per_number * n for n, _ in known]
    )
    crossings = [
        _crossing(one, other, len(parts) + place, len(objective))
        for place, (_, pairs) in enumerate(known)
        for pair in pairs
        for one, other in (pair, pair[::-1])
    ]
    constraints = [LinearConstraint(np.append(shares, np.zeros(len(known))), -np.inf, limit / total)]
    if crossings:
        constraints.append(LinearConstraint(np.array(crossings), -np.inf, 0.0))
    with quiet_stdout():
        found = milp(
            objective,
            integrality=np.append(np.ones(len(parts)), np.zeros(len(known))),
            bounds=Bounds(0.0, 1.0),
            constraints=constraints,
            options={"mip_rel_gap": _GAP},
        )
    if found.x is None:
        return frozenset()
    return layers_of([part for part, taken in zip(parts, found.x, strict=False) if taken > 0.5])


def _pairs(border: Border, places: Mapping[int, int]) -> list[tuple[int | None, int | None]]:
    """The parts on both sides of a border, as often as they differ; None is what stays in floating point."""
    maker = None if border.maker is None else places[border.maker]
    takers = dict.fromkeys(None if taker is None else places[taker] for taker in border.takers)
    return [(maker, taker) for taker in takers if taker != maker]


def _crossing(one: int | None, other: int | None, border: int, width: int) -> NDArray[np.float64]:
    """A row that keeps a border's variable from being less than one part's is above another's."""
    row = np.zeros(width)
    row[border] = -1.0
    if one is not None:
        row[one] = 1.0
    if other is not None:
        row[other] = -1.0
    return row
